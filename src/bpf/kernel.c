/* What the kernel engine can do on which map, and why not. */
#include "bpf/kernel.h"

#include <errno.h>

#include "base/assert.h"
#include "bpf/kernel_state.h"

static const enum kernel_part_id op_parts[HAUL_MAP_OPS] = {
	[HAUL_MAP_OP_GET] = KERNEL_READ,
	[HAUL_MAP_OP_UPDATE] = KERNEL_WRITE,
	[HAUL_MAP_OP_UPSERT] = KERNEL_WRITE,
	[HAUL_MAP_OP_DELETE] = KERNEL_REMOVE,
	[HAUL_MAP_OP_COMPARE_DELETE] = KERNEL_COMPARE,
	[HAUL_MAP_OP_SCAN] = KERNEL_SCAN,
	[HAUL_MAP_OP_TAKE] = KERNEL_PARTS,
	[HAUL_MAP_OP_DELETE_IF] = KERNEL_CLEAN,
	[HAUL_MAP_OP_AGGREGATE] = KERNEL_SUM,
	[HAUL_MAP_OP_COUNT] = KERNEL_PARTS,
};

static bool op_writes(enum haul_map_op op)
{
	return op == HAUL_MAP_OP_UPDATE || op == HAUL_MAP_OP_UPSERT || op == HAUL_MAP_OP_DELETE ||
	       op == HAUL_MAP_OP_COMPARE_DELETE || op == HAUL_MAP_OP_DELETE_IF;
}

static bool op_deletes(enum haul_map_op op)
{
	return op == HAUL_MAP_OP_DELETE || op == HAUL_MAP_OP_COMPARE_DELETE ||
	       op == HAUL_MAP_OP_DELETE_IF;
}

/* NULL, or why the type itself stands in the way. */
static const char *type_refuses(const struct haul_map_info *info, enum haul_map_op op)
{
	switch (info->type) {
	case BPF_MAP_TYPE_HASH:
		return NULL;
	case BPF_MAP_TYPE_LRU_HASH:
		if (op == HAUL_MAP_OP_GET || op == HAUL_MAP_OP_COMPARE_DELETE)
			return "a program's lookup counts as use, and would change what an LRU map "
			       "evicts";
		return NULL;
	case BPF_MAP_TYPE_ARRAY:
		return op_deletes(op) ? "entries of an array cannot be deleted" : NULL;
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return "a program sees only its own CPU's value";
	case BPF_MAP_TYPE_HASH_OF_MAPS:
	case BPF_MAP_TYPE_ARRAY_OF_MAPS:
		return "a program sees the inner maps, not their ids";
	case BPF_MAP_TYPE_LPM_TRIE:
		return "programs that may sleep cannot use an LPM trie";
	default:
		return "no program walks this type";
	}
}

static const char *flags_refuse(const struct haul_map_info *info, enum haul_map_op op)
{
	if (op_writes(op) && info->frozen)
		return "the map is frozen: only programs of its owner may write to it";
	if (op_writes(op) && (info->flags & BPF_F_RDONLY_PROG))
		return "the map is read-only to programs";
	if (info->flags & BPF_F_WRONLY_PROG)
		return "the map is write-only to programs";
	if (info->value_size > KERNEL_VALUE_MAX)
		return "values are over 65536 bytes";
	if (op == HAUL_MAP_OP_COMPARE_DELETE && info->value_size > 8 * MAP_VALUE_WORDS)
		return "values are over 1024 bytes";
	return NULL;
}

static const char *count_refuses(const struct haul_map *map)
{
	switch (map->info.type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		break;
	case BPF_MAP_TYPE_ARRAY:
	case BPF_MAP_TYPE_PERCPU_ARRAY:
		return NULL;
	default:
		return "the kernel does not count the entries of this type";
	}
	if (map->kernel && map->kernel->count_error != 0)
		return "this kernel has no function that counts a map's entries (6.6), or does not "
		       "let us call it";
	return NULL;
}

static bool kernel_can(const struct haul_map *map, enum haul_map_op op, const char **ret_why)
{
	HAUL_ASSERT((uint32_t)op < HAUL_MAP_OPS);
	const char *why;
	if (op == HAUL_MAP_OP_COUNT)
		why = count_refuses(map);
	else if (op == HAUL_MAP_OP_TAKE)
		why = "the walk of a program cannot be resumed";
	else
		why = type_refuses(&map->info, op);
	if (!why && op != HAUL_MAP_OP_COUNT)
		why = flags_refuse(&map->info, op);
	if (!why && map->kernel_error != 0)
		why = map->kernel_why;
	enum kernel_part_id part = op_parts[op];
	if (!why && part < KERNEL_PARTS && map->kernel && map->kernel->parts[part].error != 0)
		why = map->kernel->parts[part].why;
	if (why && ret_why)
		*ret_why = why;
	return !why;
}

bool map_kernel_ready(const struct haul_map *map, enum haul_map_op op)
{
	HAUL_ASSERT((uint32_t)op < HAUL_MAP_OPS);
	if (!map->kernel)
		return false;
	if (op == HAUL_MAP_OP_COUNT)
		return map->kernel->count_fd > 0;
	enum kernel_part_id part = op_parts[op];
	const struct kernel_part *parts = map->kernel->parts;
	if (part < KERNEL_PARTS && parts[part].object)
		return true;
	return (op == HAUL_MAP_OP_GET && parts[KERNEL_HASH_READ].object) ||
	       (op == HAUL_MAP_OP_SCAN && parts[KERNEL_HASH_SCAN].object) ||
	       (op == HAUL_MAP_OP_AGGREGATE && parts[KERNEL_HASH_SUM].object);
}

const struct map_engine map_engine_kernel = {
	.id = HAUL_MAP_KERNEL,
	.can = kernel_can,
	.get = kernel_get,
	.update = kernel_update,
	.upsert = kernel_upsert,
	.delete = kernel_delete,
	.compare_delete = kernel_compare_delete,
	.scan = kernel_scan,
	.delete_if = kernel_delete_if,
	.aggregate = kernel_aggregate,
	.count = kernel_count,
};
