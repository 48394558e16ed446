/* Walks over whole maps with the calls that read entries. */
#include "bpf/scan.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/one.h"
#include "bpf/scan_range.h"
#include "bpf/seen.h"

/* A walk from key to key starts again whenever the key it stands on is deleted. After so many times
 * the map it will not end by itself any time soon. */
enum { OVERREAD_MAX = 16, OVERREAD_START = 65536 };

void map_scan_filter(const struct haul_map *map, const struct haul_map_filter *filter,
		     struct haul_map_batch *batch)
{
	if (!filter || filter->count == 0)
		return;
	uint8_t *keys = (uint8_t *)(uintptr_t)batch->keys;
	uint8_t *values = (uint8_t *)(uintptr_t)batch->values;
	uint32_t kept = 0;
	for (uint32_t i = 0; i < batch->count; i++) {
		const void *key = haul_map_key(batch, i);
		const void *value = haul_map_value(batch, i);
		if (!haul_map_filter_match(&map->info, filter, key, value))
			continue;
		if (kept != i) {
			memcpy(keys + kept * batch->key_stride, key, map->info.key_size);
			memcpy(values + kept * batch->value_stride, value, map->info.slot_bytes);
		}
		kept++;
	}
	HAUL_ASSERT(kept <= batch->count);
	batch->count = kept;
}

static int walk_one_thread(struct haul_map *map, const struct map_engine *engine,
			   const struct haul_map_scan *scan, struct haul_map_report *report)
{
	struct map_seen seen = { 0 };
	struct haul_map_cursor cursor = { 0 };
	struct haul_map_result result = { 0 };
	uint64_t read_max = OVERREAD_START + (uint64_t)OVERREAD_MAX * map->info.max_entries;
	int rc = scan->check ? map_seen_init(&seen, map->info.key_size) : 0;
	while (rc == 0 && !cursor.ended) {
		struct haul_map_batch batch = { 0 };
		rc = engine->read(map, &cursor, false, &batch, &result);
		if (rc < 0)
			break;
		report->read += batch.count;
		rc = scan->check ? map_seen_add_alloc(&seen, &batch, &report->duplicates) : 0;
		if (rc < 0)
			break;
		map_scan_filter(map, scan->filter, &batch);
		report->matched += batch.count;
		if (batch.count > 0)
			rc = scan->visit(&batch, scan->arg);
		if (rc == 0 && report->read > read_max)
			rc = -EAGAIN;
	}
	report->calls += result.calls;
	report->retries += result.retries;
	map_seen_done(&seen);
	return rc;
}

int map_scan_walk(struct haul_map *map, const struct map_engine *engine,
		  const struct haul_map_scan *scan, struct haul_map_report *report)
{
	HAUL_ASSERT(map != NULL && scan != NULL && report != NULL && engine->read != NULL);
	if (scan->check)
		report->duplicates = 0;
	if (scan->threads <= 1)
		return walk_one_thread(map, engine, scan, report);
	bool bucket = map_type_of(map->info.type)->cursor == MAP_CURSOR_BUCKET;
	if (bucket && engine->id == HAUL_MAP_BATCH)
		return map_scan_threads(map, scan, report);
	/* No ranges to hand out: all of it here. */
	report->fallbacks++;
	return walk_one_thread(map, engine, scan, report);
}

/* ---- the check beside another engine's walk ---- */

struct checked {
	const struct haul_map_scan *scan;
	struct map_seen seen;
	uint64_t duplicates;
};

static int checked_visit(const struct haul_map_batch *batch, void *arg)
{
	struct checked *checked = arg;
	int rc = map_seen_add_alloc(&checked->seen, batch, &checked->duplicates);
	return rc < 0 ? rc : checked->scan->visit(batch, checked->scan->arg);
}

int map_scan_checked(struct haul_map *map, const struct map_engine *engine,
		     const struct haul_map_scan *scan, struct haul_map_report *report)
{
	HAUL_ASSERT(scan->check && engine->scan != NULL);
	struct checked checked = { .scan = scan };
	struct haul_map_scan inner = *scan;
	inner.visit = checked_visit;
	inner.arg = &checked;
	int rc = map_seen_init(&checked.seen, map->info.key_size);
	if (rc < 0)
		return rc;
	rc = engine->scan(map, &inner, report);
	report->duplicates = checked.duplicates;
	map_seen_done(&checked.seen);
	return rc;
}

/* ---- delete what matches ---- */

/* Between read and delete lies a whole batch, long enough for an entry to change its mind: read
 * again and asked again, only two calls lie between. */
static int delete_checked(struct haul_map *map, const struct haul_map_filter *filter,
			  const struct haul_map_batch *batch, struct haul_map_result *result)
{
	for (uint32_t i = 0; i < batch->count; i++) {
		const uint8_t *key = haul_map_key(batch, i);
		uint8_t *value = map->reader.values + (size_t)i * map->info.slot_bytes;
		int rc = map_one_get(map, key, value, result);
		if (rc == 0 && !haul_map_filter_match(&map->info, filter, key, value)) {
			result->kept++;
			continue;
		}
		if (rc == 0)
			rc = map_one_delete(map, key, result);
		if (rc < 0 && rc != -ENOENT)
			return rc;
		result->done += rc == 0;
		result->missing += rc != 0;
	}
	return 0;
}

int map_delete_if_walk(struct haul_map *map, const struct map_engine *engine,
		       const struct haul_map_filter *filter, struct haul_map_result *result)
{
	HAUL_ASSERT(map != NULL && engine->delete != NULL && result != NULL);
	bool all = !filter || filter->count == 0;
	struct haul_map_cursor cursor = { 0 };
	uint64_t read_max = OVERREAD_START + (uint64_t)OVERREAD_MAX * map->info.max_entries;
	int rc = 0;
	while (rc >= 0 && !cursor.ended) {
		struct haul_map_batch batch = { 0 };
		rc = engine->read(map, &cursor, false, &batch, result);
		if (rc < 0)
			break;
		result->visited += batch.count;
		map_scan_filter(map, filter, &batch);
		const struct haul_map_rows rows = { .count = batch.count, .keys = batch.keys };
		rc = all ? engine->delete (map, &rows, result)
			 : delete_checked(map, filter, &batch, result);
		if (rc == 0 && result->visited > read_max)
			rc = -EAGAIN;
	}
	result->failed_index = -1; /* there are no rows that it could name */
	result->reason = rc < 0 ? rc : 0;
	return rc < 0 ? rc : 0;
}

int map_count_walk(struct haul_map *map, const struct map_engine *engine, uint64_t *ret_count,
		   struct haul_map_result *result)
{
	HAUL_ASSERT(map != NULL && engine->read != NULL && ret_count != NULL);
	struct haul_map_cursor cursor = { 0 };
	uint64_t read_max = OVERREAD_START + (uint64_t)OVERREAD_MAX * map->info.max_entries;
	while (!cursor.ended) {
		struct haul_map_batch batch = { 0 };
		int rc = engine->read(map, &cursor, false, &batch, result);
		if (rc < 0)
			return rc;
		result->visited += batch.count;
		if (result->visited > read_max)
			return -EAGAIN;
	}
	*ret_count = result->visited;
	return 0;
}
