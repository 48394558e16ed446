/* The whole map through the kernel engine.
 *
 * A scan copies what passes the filter into the records, from where it is visited without another
 * copy. When more passes than there is room for (the program counts on), the records first grow up
 * to their bound; beyond it the walk is repeated once for each class of keys. A class is a range of
 * a hash of the key alone, so an entry is in exactly one; a class that is still too large is split
 * in two, which are exactly its halves. Nothing is visited from a pass that did not fit. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/aggregate.h"
#include "bpf/kernel_state.h"
#include "bpf/seen.h"

enum { CLASSES_MAX = 1 << 30 };

/* ---- scan ---- */

struct passes {
	uint32_t first; /* classes of the coarsest division; 0 = all entries in one pass */
	uint32_t classes;
	uint32_t class;
};

/* A class that fitted gives way to the next, or both halves done to what follows the whole. */
static bool passes_next(struct passes *passes)
{
	passes->class ++;
	while (passes->classes > passes->first && passes->class % 2 == 0) {
		passes->classes /= 2;
		passes->class /= 2;
	}
	return passes->class < passes->classes;
}

static int passes_split(struct passes *passes)
{
	if (passes->classes > CLASSES_MAX)
		return -EOVERFLOW;
	passes->classes *= 2;
	passes->class *= 2;
	return 0;
}

static int visit_records(struct haul_map *map, enum kernel_part_id id,
			 const struct haul_map_scan *scan, struct haul_map_report *report)
{
	const struct kernel_part *part = &map->kernel->parts[id];
	uint64_t count = part->work->matched;
	HAUL_ASSERT(count <= part->room);
	for (uint64_t first = 0; first < count; first += HAUL_MAP_BATCH_MAX) {
		uint64_t left = count - first;
		const uint8_t *record = kernel_record(map, part, (uint32_t)first);
		struct haul_map_batch batch = {
			.count = (uint32_t)(left < HAUL_MAP_BATCH_MAX ? left : HAUL_MAP_BATCH_MAX),
			.keys = record + MAP_RECORD_KEY,
			.values = record + map->kernel->value_at,
			.key_stride = map->kernel->record_bytes,
			.value_stride = map->kernel->record_bytes,
		};
		report->matched += batch.count;
		int rc = scan->visit(&batch, scan->arg);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int scan_pass(struct haul_map *map, const struct haul_map_scan *scan,
		     const struct passes *passes, struct haul_map_report *report)
{
	struct map_work *work = map->kernel->parts[KERNEL_SCAN].work;
	int rc = kernel_filter_set(work, &map->info, scan->filter);
	if (rc < 0)
		return rc;
	work->classes = passes->classes;
	work->class = passes->class;
	work->matched = work->visited = 0;
	rc = kernel_run(map, KERNEL_P_SCAN, &report->calls);
	if (rc < 0)
		return rc;
	if (report->read < work->visited)
		report->read = work->visited;
	return 0;
}

/* In classes, as there is no room for all. */
static int scan_classes(struct haul_map *map, const struct haul_map_scan *scan, uint64_t matched,
			struct haul_map_report *report)
{
	const struct kernel_part *part = &map->kernel->parts[KERNEL_SCAN];
	uint64_t classes = 1 + (matched + matched / 8) / part->room;
	HAUL_ASSERT(classes <= CLASSES_MAX);
	struct passes passes = { (uint32_t)classes, (uint32_t)classes, 0 };
	bool more = true;
	while (more) {
		int rc = scan_pass(map, scan, &passes, report);
		if (rc == 0 && part->work->matched > part->room) {
			rc = passes_split(&passes);
			if (rc < 0)
				return rc;
			continue;
		}
		if (rc == 0)
			rc = visit_records(map, KERNEL_SCAN, scan, report);
		if (rc != 0)
			return rc;
		more = passes_next(&passes);
	}
	return 0;
}

static int scan_all(struct haul_map *map, const struct haul_map_scan *scan, uint64_t expected,
		    struct haul_map_report *report)
{
	const struct kernel_part *part = &map->kernel->parts[KERNEL_SCAN];
	static const struct passes one = { 0, 0, 0 };
	/* A little more than counted: entries may come while we walk. */
	uint64_t wanted = expected + expected / 64 + 64;
	if (scan->filter && scan->filter->count > 0 && wanted > KERNEL_FILTERED_START)
		wanted = KERNEL_FILTERED_START;
	for (;;) {
		int rc = kernel_part_load(map, KERNEL_SCAN, wanted);
		if (rc == 0)
			rc = scan_pass(map, scan, &one, report);
		if (rc < 0)
			return rc;
		uint64_t matched = part->work->matched;
		if (matched <= part->room)
			return visit_records(map, KERNEL_SCAN, scan, report);
		wanted = matched + matched / 64 + 64;
		if (part->room >= map->kernel->walk_bytes_max / map->kernel->record_bytes)
			return scan_classes(map, scan, matched, report);
	}
}

/* ---- scan by buckets ---- */

/* Loading the program costs some 25 ms. A scan has them back at once, as it needs no records for
 * the whole map; a sum only by being faster. */
static bool by_buckets(struct haul_map *map, enum kernel_part_id id, uint64_t room)
{
	uint64_t from = map->kernel->hash_walk_from;
	if (id == KERNEL_HASH_SUM)
		from *= KERNEL_SUM_PAYS_LATER;
	bool hash = map->info.type == BPF_MAP_TYPE_HASH || map->info.type == BPF_MAP_TYPE_LRU_HASH;
	if (!hash || map->info.max_entries < from || map->info.max_entries < MAP_GROUP)
		return false;
	return kernel_part_load(map, id, room) == 0;
}

/* Few enough to stay in the cache until they are visited. */
static uint64_t hash_room(const struct haul_map *map)
{
	size_t bytes = map->kernel->walk_bytes_max;
	uint64_t room = (bytes < KERNEL_ROWS_BYTES_MAX ? bytes : KERNEL_ROWS_BYTES_MAX) /
			map->kernel->record_bytes;
	return room < KERNEL_HASH_RECORDS ? room : KERNEL_HASH_RECORDS;
}

static int scan_buckets(struct haul_map *map, const struct haul_map_scan *scan,
			struct haul_map_report *report)
{
	struct kernel_part *part = &map->kernel->parts[KERNEL_HASH_SCAN];
	uint64_t bucket = 0, hops = 0;
	do {
		struct map_work *work = part->work;
		int rc = kernel_filter_set(work, &map->info, scan->filter);
		if (rc < 0)
			return rc;
		work->bucket = bucket;
		work->hops = 0;
		work->matched = work->visited = work->full = 0;
		rc = kernel_run(map, KERNEL_P_HASH_SCAN, &report->calls);
		if (rc < 0)
			return rc;
		report->read += work->visited;
		hops += work->hops;
		bucket = work->bucket;
		uint64_t bucket_count = work->bucket_count;
		if (work->full && work->matched == 0) {
			/* One group is more than there is room for. */
			uint32_t room = part->room;
			rc = kernel_part_load(map, KERNEL_HASH_SCAN, 4 * (uint64_t)room);
			if (rc == 0 && part->room <= room)
				rc = -ENOSPC;
			if (rc < 0)
				return rc;
			continue;
		}
		rc = visit_records(map, KERNEL_HASH_SCAN, scan, report);
		if (rc != 0)
			return rc;
		if (bucket >= bucket_count)
			break;
	} while (true);
	report->retries += hops;
	return 0;
}

/* ---- keys that come twice ---- */

struct checked {
	const struct haul_map_scan *scan;
	struct haul_map_report *report;
	struct map_seen seen;
};

static int checked_visit(const struct haul_map_batch *batch, void *arg)
{
	struct checked *checked = arg;
	int rc = map_seen_add_alloc(&checked->seen, batch, &checked->report->duplicates);
	return rc < 0 ? rc : checked->scan->visit(batch, checked->scan->arg);
}

static int scan_run(struct haul_map *map, const struct haul_map_scan *scan,
		    struct haul_map_report *report)
{
	struct haul_map_result counted = { 0 };
	uint64_t expected;
	bool known = kernel_count(map, &expected, &counted) == 0;
	report->expected = known ? expected : HAUL_MAP_UNKNOWN;
	report->calls += counted.calls;
	if (by_buckets(map, KERNEL_HASH_SCAN, hash_room(map)))
		return scan_buckets(map, scan, report);
	return scan_all(map, scan, known ? expected : map->info.max_entries, report);
}

int kernel_scan(struct haul_map *map, const struct haul_map_scan *scan,
		struct haul_map_report *report)
{
	HAUL_ASSERT(scan->visit);
	int rc = map_kernel_open(map);
	if (rc < 0)
		return rc;
	report->engine = HAUL_MAP_KERNEL;
	report->fallbacks += scan->threads > 1; /* one program walks the whole map */
	if (!scan->check)
		return scan_run(map, scan, report);
	struct checked checked = { .scan = scan, .report = report };
	struct haul_map_scan all = { .filter = scan->filter,
				     .visit = checked_visit,
				     .arg = &checked };
	report->duplicates = 0;
	rc = map_seen_init(&checked.seen, map->info.key_size);
	if (rc == 0)
		rc = scan_run(map, &all, report);
	map_seen_done(&checked.seen);
	return rc;
}

/* ---- delete_if ---- */

int kernel_delete_if(struct haul_map *map, const struct haul_map_filter *filter,
		     struct haul_map_result *result)
{
	int rc = map_kernel_open(map);
	if (rc == 0)
		rc = kernel_part_load(map, KERNEL_CLEAN, 0);
	if (rc < 0)
		return rc;
	struct map_work *work = map->kernel->parts[KERNEL_CLEAN].work;
	rc = kernel_filter_set(work, &map->info, filter);
	if (rc < 0)
		return rc;
	result->engine = HAUL_MAP_KERNEL;
	work->done = work->missing = 0;
	/* An entry whose bucket was locked all the time is left, and taken by another walk. */
	for (int try = 0; try < KERNEL_BUSY_TRIES; try++) {
		work->visited = work->kept = 0;
		work->failed = 0;
		rc = kernel_run(map, KERNEL_P_CLEAN, &result->calls);
		if (rc < 0 || work->kept == 0)
			break;
		result->retries++;
		rc = work->failed;
	}
	result->done += work->done;
	result->missing += work->missing;
	result->visited += work->visited;
	result->reason = rc;
	return rc;
}

/* ---- aggregate ---- */

static void top_out(struct haul_map *map, const struct kernel_part *part,
		    struct haul_map_aggregate *aggregate)
{
	const struct map_ranks *ranks = &part->work->ranks;
	size_t key_size = map->info.key_size;
	size_t value_size = map->info.value_size;
	for (uint32_t i = 0; i < ranks->count; i++) {
		const uint8_t *record = kernel_record(map, part, ranks->place[i]);
		memcpy(aggregate->top_keys + i * key_size, record + MAP_RECORD_KEY, key_size);
		memcpy(aggregate->top_values + i * value_size, record + map->kernel->value_at,
		       value_size);
	}
}

/* The whole map: in one call, or by buckets in several. */
static int sum_run(struct haul_map *map, enum kernel_part_id id, struct haul_map_result *result)
{
	struct map_work *work = map->kernel->parts[id].work;
	if (id == KERNEL_SUM)
		return kernel_run(map, KERNEL_P_SUM, &result->calls);
	work->bucket = 0;
	do {
		int rc = kernel_run(map, KERNEL_P_HASH_SUM, &result->calls);
		if (rc < 0)
			return rc;
	} while (work->bucket < work->bucket_count);
	return 0;
}

int kernel_aggregate(struct haul_map *map, struct haul_map_aggregate *aggregate,
		     struct haul_map_result *result)
{
	HAUL_ASSERT(aggregate->top <= HAUL_MAP_TOP_MAX);
	int rc = map_kernel_open(map);
	if (rc < 0)
		return rc;
	enum kernel_part_id id = KERNEL_HASH_SUM;
	if (!by_buckets(map, id, aggregate->top)) {
		id = KERNEL_SUM;
		rc = kernel_part_load(map, id, aggregate->top);
	}
	if (rc < 0)
		return rc;
	struct kernel_part *part = &map->kernel->parts[id];
	if (part->room < aggregate->top)
		return -ENOTSUP;
	struct map_work *work = part->work;
	rc = kernel_filter_set(work, &map->info, aggregate->filter);
	if (rc < 0)
		return rc;
	kernel_pick_init(&work->pick, &map->info, &aggregate->field);
	work->in_key = aggregate->field.in_key;
	work->visited = 0;
	map_figures_init(&work->figures, aggregate->field.is_signed);
	work->ranks.limit = aggregate->top;
	work->ranks.count = 0;
	result->engine = HAUL_MAP_KERNEL;
	rc = sum_run(map, id, result);
	if (rc < 0)
		return rc;
	HAUL_ASSERT(work->ranks.count <= aggregate->top);
	map_ranks_sort(&work->ranks);
	top_out(map, part, aggregate);
	map_aggregate_figures(aggregate, &work->figures, &work->ranks);
	result->visited = work->visited;
	result->done = work->figures.count;
	return 0;
}
