/* Loading the parts of the kernel engine, and running their programs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "bpf/kernel_state.h"

/* For the object files in them. They need map_prog.h before them. */
#include "map.skel.h"
#include "map_hash.skel.h"

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

static bool part_is_hash(enum kernel_part_id id)
{
	return id == KERNEL_HASH_SCAN || id == KERNEL_HASH_SUM || id == KERNEL_HASH_READ ||
	       id == KERNEL_HASH_WARM;
}

/* Only keys are fetched ahead. */
static uint32_t record_bytes(const struct haul_map *map, enum kernel_part_id id)
{
	return id == KERNEL_HASH_WARM ? map->kernel->value_at : map->kernel->record_bytes;
}

static int object_open(struct haul_map *map, enum kernel_part_id id, struct bpf_object **ret_object)
{
	if (part_is_hash(id) && !kernel_layout_load(map->kernel)->walkable)
		return -EOPNOTSUPP;
	size_t bytes;
	const void *elf =
		part_is_hash(id) ? map_hash_bpf__elf_bytes(&bytes) : map_bpf__elf_bytes(&bytes);
	LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "haul_map");
	struct bpf_object *object = bpf_object__open_mem(elf, bytes, &options);
	if (!object)
		return -errno;
	*ret_object = object;
	return 0;
}

static void config_fill(struct map_config *config, const struct haul_map *map)
{
	const struct kernel_layout *layout = &map->kernel->layout;
	*config = (struct map_config){
		.key_size = map->info.key_size,
		.value_size = map->info.value_size,
		.value_at = map->kernel->value_at,
		.buckets_at = layout->buckets_at,
		.bucket_count_at = layout->bucket_count_at,
		.key_at = layout->key_at,
		.seed_at = layout->seed_at,
		.entry_bytes = layout->key_at + map->kernel->record_bytes - MAP_RECORD_KEY,
		.look_first = map->info.type == BPF_MAP_TYPE_LRU_HASH,
	};
}

static int object_set_up(struct bpf_object *object, const struct haul_map *map,
			 enum kernel_part_id id, uint32_t room)
{
	struct bpf_program *program;
	bpf_object__for_each_program(program, object)
	{
		bool wanted = false;
		for (int i = 0; i < KERNEL_PROGRAMS; i++)
			wanted = wanted ||
				 (programs[i].part == id &&
				  strcmp(programs[i].name, bpf_program__name(program)) == 0);
		int rc = bpf_program__set_autoload(program, wanted);
		if (rc < 0)
			return rc;
	}
	struct bpf_map *target = bpf_object__find_map_by_name(object, "map_target");
	struct bpf_map *io = bpf_object__find_map_by_name(object, "map_io");
	struct bpf_map *rodata = bpf_object__find_map_by_name(object, ".rodata");
	HAUL_ASSERT(target && io && rodata);
	struct map_config config;
	config_fill(&config, map);
	int rc = bpf_map__set_initial_value(rodata, &config, sizeof config);
	if (rc == 0)
		rc = bpf_map__reuse_fd(target, map->fd);
	if (rc == 0)
		rc = bpf_map__set_value_size(io, record_bytes(map, id));
	if (rc == 0)
		rc = bpf_map__set_max_entries(io, room);
	return rc;
}

static size_t page_round(size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	return (bytes + page - 1) / page * page;
}

static void part_close(struct kernel_part *part)
{
	if (part->records)
		(void)munmap(part->records, part->bytes);
	if (part->work)
		(void)munmap(part->work, page_round(sizeof *part->work));
	bpf_object__close(part->object);
	part->records = NULL;
	part->work = NULL;
	part->object = NULL;
	part->room = 0;
}

static int part_map(const struct kernel_part *part, const char *name, size_t bytes, void **ret_at)
{
	struct bpf_map *map = bpf_object__find_map_by_name(part->object, name);
	HAUL_ASSERT(map);
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
	if (at == MAP_FAILED)
		return -errno;
	*ret_at = at;
	return 0;
}

static int part_map_load(struct kernel_part *part, uint32_t room, uint32_t record_bytes)
{
	void *at = NULL;
	size_t bytes = page_round((size_t)room * record_bytes);
	int rc = part_map(part, "map_io", bytes, &at);
	if (rc < 0)
		return rc;
	part->records = at;
	part->bytes = bytes;
	part->room = room;
	rc = part_map(part, ".bss", page_round(sizeof *part->work), &at);
	if (rc == 0)
		part->work = at;
	return rc;
}

static uint32_t room_for(const struct haul_map *map, enum kernel_part_id id, uint64_t room)
{
	size_t bytes_max = KERNEL_ROWS_BYTES_MAX;
	if (id == KERNEL_SCAN)
		bytes_max = map->kernel->walk_bytes_max;
	else if (id == KERNEL_HASH_SCAN)
		bytes_max = KERNEL_WALK_BYTES_MAX;
	uint64_t most = bytes_max / map->kernel->record_bytes;
	if (room > most)
		room = most;
	if (room < KERNEL_ROOM_MIN)
		room = KERNEL_ROOM_MIN;
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
	int rc = object_open(map, id, &part->object);
	if (rc == 0)
		rc = object_set_up(part->object, map, id, room);
	if (rc == 0)
		rc = bpf_object__load(part->object);
	bpf_quiet_end(printer);
	if (rc == 0)
		rc = part_map_load(part, room, record_bytes(map, id));
	if (rc < 0) {
		part_close(part);
		return part_failed(map, part, rc);
	}
	for (int i = 0; i < KERNEL_PROGRAMS; i++) {
		if (programs[i].part == id)
			map->kernel->program_fds[i] = bpf_program__fd(
				bpf_object__find_program_by_name(part->object, programs[i].name));
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
	kernel->hash_walk_from = KERNEL_HASH_WALK_FROM;
	kernel->fetch_from = KERNEL_FETCH_FROM;
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
