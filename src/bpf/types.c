/* What each type of map has, as the kernel's tables of operations say (6.18), and its name as
 * bpftool writes it. A type without a walk (MAP_CURSOR_NONE) cannot be read from user space at all,
 * or has no keys. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/map_state.h"

/* Newer than the headers we build with. */
enum { TYPE_CGRP_STORAGE = 32, TYPE_ARENA = 33 };

#define HASH_LIKE                                                                                  \
	.cursor = MAP_CURSOR_BUCKET, .batch_lookup = true, .batch_take = true,                     \
	.batch_update = true, .batch_delete = true, .can_delete = true, .counted = true
#define ARRAY_LIKE  .cursor = MAP_CURSOR_KEY, .batch_lookup = true, .batch_update = true
#define SINGLE_ONLY .cursor = MAP_CURSOR_KEY, .can_delete = true

static const struct map_type types[] = {
	{ BPF_MAP_TYPE_HASH, "hash", HASH_LIKE, .for_each = true },
	{ BPF_MAP_TYPE_ARRAY, "array", ARRAY_LIKE, .for_each = true },
	{ BPF_MAP_TYPE_PROG_ARRAY, "prog_array", SINGLE_ONLY },
	{ BPF_MAP_TYPE_PERF_EVENT_ARRAY, "perf_event_array", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_PERCPU_HASH, "percpu_hash", HASH_LIKE, .for_each = true, .per_cpu = true },
	{ BPF_MAP_TYPE_PERCPU_ARRAY, "percpu_array", ARRAY_LIKE, .for_each = true,
	  .per_cpu = true },
	{ BPF_MAP_TYPE_STACK_TRACE, "stack_trace", SINGLE_ONLY },
	{ BPF_MAP_TYPE_CGROUP_ARRAY, "cgroup_array", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_LRU_HASH, "lru_hash", HASH_LIKE, .for_each = true },
	{ BPF_MAP_TYPE_LRU_PERCPU_HASH, "lru_percpu_hash", HASH_LIKE, .for_each = true,
	  .per_cpu = true },
	{ BPF_MAP_TYPE_LPM_TRIE, "lpm_trie", .cursor = MAP_CURSOR_KEY, .batch_lookup = true,
	  .batch_update = true, .batch_delete = true, .can_delete = true },
	{ BPF_MAP_TYPE_ARRAY_OF_MAPS, "array_of_maps", ARRAY_LIKE, .can_delete = true,
	  .of_maps = true },
	{ BPF_MAP_TYPE_HASH_OF_MAPS, "hash_of_maps", HASH_LIKE, .of_maps = true },
	{ BPF_MAP_TYPE_DEVMAP, "devmap", SINGLE_ONLY },
	{ BPF_MAP_TYPE_SOCKMAP, "sockmap", SINGLE_ONLY },
	{ BPF_MAP_TYPE_CPUMAP, "cpumap", SINGLE_ONLY },
	{ BPF_MAP_TYPE_XSKMAP, "xskmap", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_SOCKHASH, "sockhash", SINGLE_ONLY },
	{ BPF_MAP_TYPE_CGROUP_STORAGE, "cgroup_storage", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_REUSEPORT_SOCKARRAY, "reuseport_sockarray", SINGLE_ONLY },
	{ BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE, "percpu_cgroup_storage", .cursor = MAP_CURSOR_NONE,
	  .per_cpu = true },
	{ BPF_MAP_TYPE_QUEUE, "queue", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_STACK, "stack", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_SK_STORAGE, "sk_storage", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_DEVMAP_HASH, "devmap_hash", SINGLE_ONLY },
	{ BPF_MAP_TYPE_STRUCT_OPS, "struct_ops", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_RINGBUF, "ringbuf", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_INODE_STORAGE, "inode_storage", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_TASK_STORAGE, "task_storage", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_BLOOM_FILTER, "bloom_filter", .cursor = MAP_CURSOR_NONE },
	{ BPF_MAP_TYPE_USER_RINGBUF, "user_ringbuf", .cursor = MAP_CURSOR_NONE },
	{ TYPE_CGRP_STORAGE, "cgrp_storage", .cursor = MAP_CURSOR_NONE },
	{ TYPE_ARENA, "arena", .cursor = MAP_CURSOR_NONE },
};
static const struct map_type unknown_type = { .name = "unknown", .cursor = MAP_CURSOR_NONE };

enum { TYPE_COUNT = sizeof types / sizeof *types };

const struct map_type *map_type_of(uint32_t type)
{
	for (unsigned i = 0; i < TYPE_COUNT; i++) {
		if (types[i].type == type)
			return &types[i];
	}
	return &unknown_type;
}

const char *haul_map_type_name(uint32_t type)
{
	const char *name = map_type_of(type)->name;
	HAUL_ASSERT(name != NULL);
	return name;
}

int haul_map_type_by_name(const char *name, uint32_t *ret_type)
{
	HAUL_ASSERT(name != NULL && ret_type != NULL);
	for (unsigned i = 0; i < TYPE_COUNT; i++) {
		if (strcmp(types[i].name, name) == 0) {
			*ret_type = types[i].type;
			return 0;
		}
	}
	return -EINVAL;
}
