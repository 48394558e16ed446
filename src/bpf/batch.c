/* The batch engine: BPF_MAP_*_BATCH.
 *
 * Writing calls go through the rows in order and stop at the first one that fails; the count then
 * says how many went before it. That count is believed only when it is less than what was asked
 * for: a call that is refused as a whole (EINVAL, EPERM, ENOMEM, 524) does not write it.
 *   update  refuses every mode but ANY (EINVAL), and cannot tell an insert from an update
 *   delete  takes a missing key for a failure (ENOENT): counted, and on with the row behind it
 * There is no call that looks keys up, so get and compare-delete are left to other engines; a call
 * of its own for each key also keeps the time between compare and delete short. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/aggregate.h"
#include "bpf/map_state.h"
#include "bpf/reader.h"
#include "bpf/rows.h"
#include "bpf/scan.h"

enum { RETRIES_MAX = 1000 /* in a row */ };

static bool batch_can(const struct haul_map *map, enum haul_map_op op, const char **ret_why)
{
	const struct map_type *type = map_type_of(map->info.type);
	bool bucket = type->cursor == MAP_CURSOR_BUCKET;
	static const char *const no_call = "the type has no such batch call";
	*ret_why = no_call;
	switch (op) {
	case HAUL_MAP_OP_GET:
	case HAUL_MAP_OP_COMPARE_DELETE:
		*ret_why = "no batch call takes keys to look up";
		return false;
	case HAUL_MAP_OP_UPSERT:
		*ret_why = "a batch update cannot tell new entries from old ones";
		return false;
	case HAUL_MAP_OP_UPDATE:
		return type->batch_update;
	case HAUL_MAP_OP_DELETE:
		return type->batch_delete;
	case HAUL_MAP_OP_TAKE:
		return type->batch_take;
	case HAUL_MAP_OP_DELETE_IF:
		/* Where the cursor is a key, deleting it would send the walk back to the start. */
		*ret_why = bucket ? no_call : "its cursor is a key, which may be deleted";
		return type->batch_lookup && bucket;
	case HAUL_MAP_OP_SCAN:
	case HAUL_MAP_OP_AGGREGATE:
	case HAUL_MAP_OP_COUNT:
	case HAUL_MAP_OPS:
		break;
	}
	return type->batch_lookup;
}

/* Carry up to *count rows from row i; *count becomes how many were done. */
static int write_call(const struct haul_map *map, int cmd, const struct haul_map_rows *rows,
		      uint32_t i, uint32_t *count)
{
	union bpf_attr attr = { 0 };
	attr.batch.keys = (uint64_t)(uintptr_t)rows_key(map, rows, i);
	if (cmd == BPF_MAP_UPDATE_BATCH)
		attr.batch.values = (uint64_t)(uintptr_t)rows_value(map, rows, i);
	attr.batch.count = *count;
	attr.batch.map_fd = (uint32_t)map->fd;
	int rc = map->sys->call(map->sys, cmd, &attr);
	if (rc >= 0)
		return 0;
	*count = attr.batch.count < *count ? attr.batch.count : 0;
	return rc;
}

static int write_rows(struct haul_map *map, int cmd, const struct haul_map_rows *rows,
		      struct haul_map_result *result)
{
	uint32_t chunk = map->options.batch ? map->options.batch : HAUL_MAP_BATCH_MAX;
	uint32_t in_a_row = 0;
	uint32_t i = 0;
	while (i < rows->count) {
		uint32_t count = rows->count - i < chunk ? rows->count - i : chunk;
		int rc = write_call(map, cmd, rows, i, &count);
		result->calls++;
		result->done += count;
		rows_status(rows, i, count, 0);
		i += count;
		in_a_row = count > 0 ? 0 : in_a_row;
		if (rc == 0)
			continue;
		HAUL_ASSERT(i < rows->count);
		if (rc == -ENOENT && cmd == BPF_MAP_DELETE_BATCH) {
			result->missing++;
			rows_status(rows, i++, 1, -ENOENT);
		} else if (rows_busy(rc) && in_a_row++ < RETRIES_MAX) {
			result->retries++;
		} else {
			return rows_failed(rows, i, rc, result);
		}
	}
	return 0;
}

static int batch_update(struct haul_map *map, const struct haul_map_rows *rows,
			enum haul_map_mode mode, struct haul_map_result *result)
{
	if (mode != HAUL_MAP_ANY)
		return -EOPNOTSUPP;
	result->inserted = result->updated = HAUL_MAP_UNKNOWN;
	return write_rows(map, BPF_MAP_UPDATE_BATCH, rows, result);
}

static int batch_delete(struct haul_map *map, const struct haul_map_rows *rows,
			struct haul_map_result *result)
{
	return write_rows(map, BPF_MAP_DELETE_BATCH, rows, result);
}

static int batch_scan(struct haul_map *map, const struct haul_map_scan *scan,
		      struct haul_map_report *report)
{
	return map_scan_walk(map, &map_engine_batch, scan, report);
}

static int batch_delete_if(struct haul_map *map, const struct haul_map_filter *filter,
			   struct haul_map_result *result)
{
	return map_delete_if_walk(map, &map_engine_batch, filter, result);
}

static int batch_count(struct haul_map *map, uint64_t *count, struct haul_map_result *result)
{
	return map_count_walk(map, &map_engine_batch, count, result);
}

const struct map_engine map_engine_batch = {
	.id = HAUL_MAP_BATCH,
	.can = batch_can,
	.update = batch_update,
	.delete = batch_delete,
	.read = map_batch_read,
	.scan = batch_scan,
	.delete_if = batch_delete_if,
	.aggregate = map_aggregate_walk,
	.count = batch_count,
};
