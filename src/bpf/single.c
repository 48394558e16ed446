/* The single engine: a system call an entry. Every type that can be read at all has it.
 *
 * A walk goes from key to key. Its cursor is the next key to be read, so that an entry may be
 * deleted once it was read (take, delete_if) without the walk losing its place. When somebody else
 * deletes the very key the cursor names, the kernel starts again from the first one: entries are
 * then seen again, and under churn a walk may take several times its entries. That, and entries
 * missed when the kernel reuses memory, is why the batch engine is preferred. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/aggregate.h"
#include "bpf/map_state.h"
#include "bpf/one.h"
#include "bpf/reader.h"
#include "bpf/rows.h"
#include "bpf/scan.h"

enum {
	RETRIES_MAX = 1000,  /* in a row, of one call */
	UPSERT_TURNS = 1000, /* inserted and deleted by others between our two calls, so often */
	CURSOR_TAG = 1       /* behind the key of a cursor: it is not one of the batch engine */
};

/* ---- one entry ---- */

static int one_call(const struct haul_map *map, int cmd, union bpf_attr *attr,
		    struct haul_map_result *result)
{
	union bpf_attr asked = *attr;
	int rc;
	for (uint32_t turn = 0;; turn++) {
		*attr = asked;
		attr->map_fd = (uint32_t)map->fd;
		rc = map->sys->call(map->sys, cmd, attr);
		result->calls++;
		if (!rows_busy(rc) || turn == RETRIES_MAX)
			return rc < 0 ? rc : 0;
		result->retries++;
	}
}

int map_one_get(const struct haul_map *map, const void *key, void *value,
		struct haul_map_result *result)
{
	union bpf_attr attr = { 0 };
	attr.key = (uint64_t)(uintptr_t)key;
	attr.value = (uint64_t)(uintptr_t)value;
	return one_call(map, BPF_MAP_LOOKUP_ELEM, &attr, result);
}

int map_one_put(const struct haul_map *map, const void *key, const void *value, uint64_t flags,
		struct haul_map_result *result)
{
	union bpf_attr attr = { 0 };
	attr.key = (uint64_t)(uintptr_t)key;
	attr.value = (uint64_t)(uintptr_t)value;
	attr.flags = flags;
	return one_call(map, BPF_MAP_UPDATE_ELEM, &attr, result);
}

int map_one_delete(const struct haul_map *map, const void *key, struct haul_map_result *result)
{
	union bpf_attr attr = { 0 };
	attr.key = (uint64_t)(uintptr_t)key;
	return one_call(map, BPF_MAP_DELETE_ELEM, &attr, result);
}

int map_one_take(const struct haul_map *map, const void *key, void *value,
		 struct haul_map_result *result)
{
	union bpf_attr attr = { 0 };
	attr.key = (uint64_t)(uintptr_t)key;
	attr.value = (uint64_t)(uintptr_t)value;
	int rc = one_call(map, BPF_MAP_LOOKUP_AND_DELETE_ELEM, &attr, result);
	if (rc != -EOPNOTSUPP)
		return rc;
	/* Not this type: in two steps, and what is written between them is lost. */
	rc = map_one_get(map, key, value, result);
	return rc == 0 ? map_one_delete(map, key, result) : rc;
}

int map_one_next(const struct haul_map *map, const void *key, void *next,
		 struct haul_map_result *result)
{
	union bpf_attr attr = { 0 };
	attr.key = (uint64_t)(uintptr_t)key;
	attr.next_key = (uint64_t)(uintptr_t)next;
	return one_call(map, BPF_MAP_GET_NEXT_KEY, &attr, result);
}

/* ---- rows ---- */

static int single_get(struct haul_map *map, const struct haul_map_rows *rows,
		      struct haul_map_result *result)
{
	for (uint32_t i = 0; i < rows->count; i++) {
		int rc = map_one_get(map, rows_key(map, rows, i), rows_value(map, rows, i), result);
		if (rc < 0 && rc != -ENOENT)
			return rows_failed(rows, i, rc, result);
		result->done += rc == 0;
		result->missing += rc != 0;
		rows_status(rows, i, 1, rc);
	}
	return 0;
}

static int single_update(struct haul_map *map, const struct haul_map_rows *rows,
			 enum haul_map_mode mode, struct haul_map_result *result)
{
	static const uint64_t flags[] = {
		[HAUL_MAP_ANY] = BPF_ANY,
		[HAUL_MAP_ONLY_NEW] = BPF_NOEXIST,
		[HAUL_MAP_ONLY_EXISTING] = BPF_EXIST,
	};
	HAUL_ASSERT((unsigned)mode <= HAUL_MAP_ONLY_EXISTING);
	uint64_t *done = mode == HAUL_MAP_ONLY_NEW ? &result->inserted : &result->updated;
	if (mode == HAUL_MAP_ANY)
		result->inserted = result->updated = HAUL_MAP_UNKNOWN;
	for (uint32_t i = 0; i < rows->count; i++) {
		int rc = map_one_put(map, rows_key(map, rows, i), rows_value(map, rows, i),
				     flags[mode], result);
		bool kept = rc == -EEXIST && mode == HAUL_MAP_ONLY_NEW;
		bool missing = rc == -ENOENT && mode == HAUL_MAP_ONLY_EXISTING;
		if (rc < 0 && !kept && !missing)
			return rows_failed(rows, i, rc, result);
		result->done += rc == 0;
		*done += rc == 0 && mode != HAUL_MAP_ANY;
		result->kept += kept;
		result->missing += missing;
		rows_status(rows, i, 1, rc);
	}
	return 0;
}

/* As new or as existing, until one of them holds; the guess is what held for the row before. */
static int upsert_one(struct haul_map *map, const struct haul_map_rows *rows, uint32_t i,
		      bool *is_new, struct haul_map_result *result)
{
	int rc = 0;
	for (uint32_t turn = 0; turn < UPSERT_TURNS; turn++) {
		rc = map_one_put(map, rows_key(map, rows, i), rows_value(map, rows, i),
				 *is_new ? BPF_NOEXIST : BPF_EXIST, result);
		if (rc != (*is_new ? -EEXIST : -ENOENT))
			return rc;
		*is_new = !*is_new;
	}
	return rc;
}

static int single_upsert(struct haul_map *map, const struct haul_map_rows *rows,
			 struct haul_map_result *result)
{
	bool is_new = false;
	for (uint32_t i = 0; i < rows->count; i++) {
		int rc = upsert_one(map, rows, i, &is_new, result);
		if (rc < 0)
			return rows_failed(rows, i, rc, result);
		result->done++;
		result->inserted += is_new;
		result->updated += !is_new;
		rows_status(rows, i, 1, 0);
	}
	return 0;
}

static int single_delete(struct haul_map *map, const struct haul_map_rows *rows,
			 struct haul_map_result *result)
{
	for (uint32_t i = 0; i < rows->count; i++) {
		int rc = map_one_delete(map, rows_key(map, rows, i), result);
		if (rc < 0 && rc != -ENOENT)
			return rows_failed(rows, i, rc, result);
		result->done += rc == 0;
		result->missing += rc != 0;
		rows_status(rows, i, 1, rc);
	}
	return 0;
}

/* Per-CPU values are compared CPU by CPU: the bytes that round them up mean nothing. */
static bool same_value(const struct haul_map *map, const struct haul_map_field *field,
		       const uint8_t *a, const uint8_t *b)
{
	uint32_t at = field ? field->offset : 0;
	uint32_t bytes = field ? field->width : map->info.value_size;
	size_t slot = map->info.slot_bytes / map->info.cpus;
	HAUL_ASSERT(at + bytes <= map->info.value_size);
	for (uint32_t cpu = 0; cpu < map->info.cpus; cpu++) {
		if (memcmp(a + cpu * slot + at, b + cpu * slot + at, bytes) != 0)
			return false;
	}
	return true;
}

static int single_compare_delete(struct haul_map *map, const struct haul_map_rows *rows,
				 const struct haul_map_field *field, struct haul_map_result *result)
{
	int rc = map_reader_alloc(&map->reader, map, 1);
	if (rc < 0)
		return rc;
	uint8_t *now = map->reader.values;
	for (uint32_t i = 0; i < rows->count; i++) {
		const uint8_t *key = rows_key(map, rows, i);
		rc = map_one_get(map, key, now, result);
		if (rc == 0 && !same_value(map, field, now, rows_value(map, rows, i)))
			rc = -EEXIST;
		else if (rc == 0)
			rc = map_one_delete(map, key, result);
		if (rc < 0 && rc != -ENOENT && rc != -EEXIST)
			return rows_failed(rows, i, rc, result);
		result->done += rc == 0;
		result->missing += rc == -ENOENT;
		result->kept += rc == -EEXIST;
		rows_status(rows, i, 1, rc);
	}
	return 0;
}

/* ---- walk ---- */

/* A walk's place: the next key to be read, or the start. */
struct place {
	bool at_start;
	bool ended;
	uint8_t key[HAUL_MAP_KEY_MAX];
};

/* With a byte behind the key, if there is room: a batch cursor is never so long. */
static uint32_t cursor_bytes(const struct haul_map *map)
{
	return map->info.key_size < HAUL_MAP_KEY_MAX ? map->info.key_size + 1 : HAUL_MAP_KEY_MAX;
}

static int place_of(const struct haul_map *map, const struct haul_map_cursor *cursor,
		    struct place *ret_place)
{
	uint32_t key_size = map->info.key_size;
	if (cursor->bytes != 0 && cursor->bytes != cursor_bytes(map))
		return -EINVAL;
	if (cursor->bytes > key_size && cursor->data[key_size] != CURSOR_TAG)
		return -EINVAL;
	*ret_place = (struct place){ .at_start = cursor->bytes == 0, .ended = cursor->ended != 0 };
	memcpy(ret_place->key, cursor->data, key_size);
	return 0;
}

static void place_put(const struct haul_map *map, const struct place *place,
		      struct haul_map_cursor *cursor)
{
	uint32_t key_size = map->info.key_size;
	cursor->ended = place->ended;
	cursor->bytes = cursor_bytes(map);
	memcpy(cursor->data, place->key, key_size);
	if (cursor->bytes > key_size)
		cursor->data[key_size] = CURSOR_TAG;
}

/* From the key of place to the next one. */
static int place_next(const struct haul_map *map, struct place *place,
		      struct haul_map_result *result)
{
	uint8_t next[HAUL_MAP_KEY_MAX];
	int rc = map_one_next(map, place->at_start ? NULL : place->key, next, result);
	if (rc == -ENOENT)
		place->ended = true;
	if (rc < 0)
		return rc == -ENOENT ? 0 : rc;
	memcpy(place->key, next, map->info.key_size);
	place->at_start = false;
	return 0;
}

/* The entry at place into slot at, and place moves on. Returns 1, or 0 when it is no longer there,
 * or has nothing to show (an empty slot of an array of maps). */
static int place_read(struct haul_map *map, struct place *place, bool take, uint32_t at,
		      struct haul_map_result *result)
{
	uint8_t *key = map->reader.keys + (size_t)at * map->info.key_size;
	uint8_t *value = map->reader.values + (size_t)at * map->info.slot_bytes;
	memcpy(key, place->key, map->info.key_size);
	int rc = place_next(map, place, result);
	if (rc < 0)
		return rc;
	rc = take ? map_one_take(map, key, value, result) : map_one_get(map, key, value, result);
	if (rc == -ENOENT)
		return 0;
	if (rc == 0)
		return 1;
	memcpy(place->key, key, map->info.key_size); /* it was not read: here the walk goes on */
	place->ended = false;
	return rc;
}

static int single_read(struct haul_map *map, struct haul_map_cursor *cursor, bool take,
		       struct haul_map_batch *batch, struct haul_map_result *result)
{
	struct place place;
	uint32_t wanted = 0, count = 0;
	uint64_t calls = result->calls;
	int rc = place_of(map, cursor, &place);
	if (rc == 0)
		rc = map_reader_size(&map->reader, map, &wanted);
	int64_t begin_ns = map->os->now_ns(map->os);
	if (rc == 0 && place.at_start && !place.ended)
		rc = place_next(map, &place, result);
	while (rc >= 0 && count < wanted && !place.ended) {
		rc = place_read(map, &place, take, count, result);
		count += rc > 0;
	}
	/* What was taken is gone from the map, so it is handed on before the failure is. */
	if (rc < 0 && count == 0)
		return rc;
	place_put(map, &place, cursor);
	struct map_reading reading = {
		.count = count,
		.calls = result->calls - calls,
		.service_ns = map->os->now_ns(map->os) - begin_ns,
	};
	map_reader_count(map, &reading, place.ended);
	*batch = (struct haul_map_batch){
		.count = count,
		.keys = map->reader.keys,
		.values = map->reader.values,
		.key_stride = map->info.key_size,
		.value_stride = map->info.slot_bytes,
	};
	return (int)count;
}

static int single_scan(struct haul_map *map, const struct haul_map_scan *scan,
		       struct haul_map_report *report)
{
	return map_scan_walk(map, &map_engine_single, scan, report);
}

static int single_delete_if(struct haul_map *map, const struct haul_map_filter *filter,
			    struct haul_map_result *result)
{
	return map_delete_if_walk(map, &map_engine_single, filter, result);
}

static int single_count(struct haul_map *map, uint64_t *count, struct haul_map_result *result)
{
	return map_count_walk(map, &map_engine_single, count, result);
}

static bool single_can(const struct haul_map *map, enum haul_map_op op, const char **ret_why)
{
	const struct map_type *type = map_type_of(map->info.type);
	if (type->cursor == MAP_CURSOR_NONE) {
		*ret_why = "entries of this type cannot be reached by key";
		return false;
	}
	if (op == HAUL_MAP_OP_UPSERT && type->type == BPF_MAP_TYPE_ARRAY_OF_MAPS) {
		*ret_why = "it takes no modes, so new cannot be told from old";
		return false;
	}
	bool deletes = op == HAUL_MAP_OP_DELETE || op == HAUL_MAP_OP_COMPARE_DELETE ||
		       op == HAUL_MAP_OP_TAKE || op == HAUL_MAP_OP_DELETE_IF;
	*ret_why = "entries of this type cannot be deleted";
	return !deletes || type->can_delete;
}

const struct map_engine map_engine_single = {
	.id = HAUL_MAP_SINGLE,
	.can = single_can,
	.get = single_get,
	.update = single_update,
	.upsert = single_upsert,
	.delete = single_delete,
	.compare_delete = single_compare_delete,
	.read = single_read,
	.scan = single_scan,
	.delete_if = single_delete_if,
	.aggregate = map_aggregate_walk,
	.count = single_count,
};
