/* Loading the parts of the kernel engine, and running their programs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/kernel_state.h"

/* Needs map_prog.h before it. */
#include "map.skel.h"

static const struct {
	const char *name;
	enum kernel_part_id part;
} programs[KERNEL_PROGRAMS] = {
#define X(id, name, part) [id] = { #name, part },
	KERNEL_PROGRAM_LIST(X)
#undef X
};

static uint32_t round_8(uint32_t bytes)
{
	return (bytes + 7) & ~7U;
}

/* Why a load failed, in words for whoever asked for the operation. */
static int part_failed(struct haul_map *map, struct kernel_part *part, int rc)
{
	part->error = rc == -EPERM || rc == -ENOMEM ? rc : -ENOTSUP;
	if (rc == -EPERM)
		(void)snprintf(part->why, sizeof part->why,
			       "loading a BPF program needs CAP_BPF and CAP_PERFMON, or root");
	else if (rc == -ENOMEM)
		(void)snprintf(part->why, sizeof part->why,
			       "no memory for the records of the kernel engine's program");
	else
		(void)snprintf(part->why, sizeof part->why,
			       "this kernel does not take the kernel engine's program for this "
			       "map: %s",
			       strerror(-rc));
	if (rc == -EPERM) {
		map->kernel_error = rc;
		memcpy(map->kernel_why, part->why, sizeof map->kernel_why);
	}
	return part->error;
}

static int object_set_up(struct map_bpf *object, const struct haul_map *map, enum kernel_part_id id,
			 uint32_t room)
{
	const struct haul_map_info *info = &map->info;
	for (int i = 0; i < KERNEL_PROGRAMS; i++) {
		struct bpf_program *program =
			bpf_object__find_program_by_name(object->obj, programs[i].name);
		HAUL_ASSERT(program);
		int rc = bpf_program__set_autoload(program, programs[i].part == id);
		if (rc < 0)
			return rc;
	}
	object->rodata->map_config = (struct map_config){
		.key_size = info->key_size,
		.value_size = info->value_size,
		.value_at = map->kernel->value_at,
		.look_first = info->type == BPF_MAP_TYPE_LRU_HASH,
	};
	int rc = bpf_map__reuse_fd(object->maps.map_target, map->fd);
	if (rc == 0)
		rc = bpf_map__set_value_size(object->maps.map_io, map->kernel->record_bytes);
	if (rc == 0)
		rc = bpf_map__set_max_entries(object->maps.map_io, room);
	return rc;
}

static void part_close(struct kernel_part *part)
{
	if (part->records)
		(void)munmap(part->records, part->bytes);
	if (part->object)
		map_bpf__destroy(part->object);
	part->records = NULL;
	part->object = NULL;
	part->room = 0;
}

static int part_map_load(struct kernel_part *part, uint32_t room, uint32_t record_bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t bytes = ((size_t)room * record_bytes + page - 1) / page * page;
	void *records = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			     bpf_map__fd(part->object->maps.map_io), 0);
	if (records == MAP_FAILED)
		return -errno;
	part->records = records;
	part->bytes = bytes;
	part->room = room;
	part->work = &part->object->bss->map_work;
	return 0;
}

static uint32_t room_for(const struct haul_map *map, enum kernel_part_id id, uint64_t room)
{
	bool walk = id == KERNEL_SCAN;
	size_t bytes_max = walk ? map->kernel->walk_bytes_max : (size_t)KERNEL_ROWS_BYTES_MAX;
	uint64_t most = bytes_max / map->kernel->record_bytes;
	if (room > most)
		room = most;
	if (room < (walk ? 64U : 16U))
		room = walk ? 64U : 16U;
	return (uint32_t)room;
}

int kernel_part_load(struct haul_map *map, enum kernel_part_id id, uint64_t wanted)
{
	HAUL_ASSERT(map->kernel && id < KERNEL_PARTS);
	struct kernel_part *part = &map->kernel->parts[id];
	uint32_t room = room_for(map, id, wanted);
	if (part->error != 0)
		return part->error;
	if (part->object && part->room >= room)
		return 0;
	part_close(part);
	libbpf_print_fn_t printer = bpf_quiet_begin();
	part->object = map_bpf__open();
	int rc = part->object ? object_set_up(part->object, map, id, room) : -errno;
	if (rc == 0)
		rc = map_bpf__load(part->object);
	bpf_quiet_end(printer);
	if (rc == 0)
		rc = part_map_load(part, room, map->kernel->record_bytes);
	if (rc < 0) {
		part_close(part);
		return part_failed(map, part, rc);
	}
	for (int i = 0; i < KERNEL_PROGRAMS; i++) {
		if (programs[i].part == id)
			map->kernel->program_fds[i] =
				bpf_program__fd(bpf_object__find_program_by_name(part->object->obj,
										 programs[i].name));
	}
	return 0;
}

int kernel_run(struct haul_map *map, enum kernel_program program, uint64_t *calls)
{
	HAUL_ASSERT(program < KERNEL_PROGRAMS);
	HAUL_ASSERT(map->kernel->parts[programs[program].part].object);
	union bpf_attr attr;
	memset(&attr, 0, sizeof attr);
	attr.test.prog_fd = (uint32_t)map->kernel->program_fds[program];
	(*calls)++;
	return map->sys->call(map->sys, BPF_PROG_TEST_RUN, &attr);
}

static int kernel_refuse(struct haul_map *map, const char *why)
{
	map->kernel_error = -ENOTSUP;
	(void)snprintf(map->kernel_why, sizeof map->kernel_why, "%s", why);
	return map->kernel_error;
}

int map_kernel_open(struct haul_map *map)
{
	HAUL_ASSERT(map);
	if (map->kernel || map->kernel_error != 0)
		return map->kernel_error;
	if (map->info.value_size > KERNEL_VALUE_MAX)
		return kernel_refuse(map, "values are over 65536 bytes");
	struct map_kernel *kernel = calloc(1, sizeof *kernel);
	if (!kernel)
		return -ENOMEM;
	kernel->value_at = MAP_RECORD_KEY + round_8(map->info.key_size);
	kernel->record_bytes = kernel->value_at + round_8(map->info.value_size);
	kernel->walk_bytes_max = KERNEL_WALK_BYTES_MAX;
	uint32_t fixed = map->options.batch < MAP_ROWS ? map->options.batch : MAP_ROWS;
	struct haul_sizer_options sizing = {
		.policy = fixed ? HAUL_SIZER_FIXED : HAUL_SIZER_SERVICE,
		.ops_min = fixed ? fixed : 64,
		.ops_max = fixed ? fixed : MAP_ROWS,
		.ops_start = fixed ? fixed : 1024,
		.service_target_ns = map->options.call_max_ns / 2,
	};
	int rc = haul_sizer_init(&kernel->rows, &sizing, NULL);
	if (rc < 0) {
		free(kernel);
		return rc;
	}
	map->kernel = kernel;
	return 0;
}

void map_kernel_close(struct haul_map *map)
{
	HAUL_ASSERT(map);
	if (!map->kernel)
		return;
	for (int i = 0; i < KERNEL_PARTS; i++)
		part_close(&map->kernel->parts[i]);
	kernel_count_close(map->kernel);
	free(map->kernel);
	map->kernel = NULL;
}
