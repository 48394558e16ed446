/* One walk by several threads.
 *
 * A batch call starts at any bucket but cannot be told where to end: the last one of a range runs
 * on into the next. It asks for little more than the range should still hold, so it runs on little.
 * What it then returned from behind the range's end is found without knowing the kernel's hash: the
 * buckets from the end on are read again, up to where the call had come, and a key that is among
 * those is not of this range. An entry that is there all the time is in the second reading if, and
 * only if, its bucket is behind the end; so it is handed on exactly once, by the range it belongs
 * to. (One that is deleted between the two readings may be handed on by both ranges.) */
#include "bpf/scan_range.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/key_set.h"
#include "bpf/reader.h"
#include "bpf/scan.h"
#include "bpf/seen.h"

enum {
	RANGES_A_THREAD = 4, /* so that a thread that is held up does not hold up the others */
	SLACK = 8            /* an eighth more than a range is expected to hold still */
};

struct ranges {
	struct haul_map *map;
	const struct haul_map_scan *scan;
	uint32_t buckets;
	uint32_t count;  /* of ranges */
	uint64_t secret; /* of key sets: keys may be a stranger's */
	uint32_t next;   /* range to be taken; guarded by lock */
	int rc;          /* what ends all threads; guarded by lock */
	pthread_mutex_t lock;
};

/* A thread of the scan. What it counts is added up after it has ended. */
struct worker {
	struct ranges *ranges;
	uint32_t number;
	bool joinable;
	pthread_t thread;
	struct map_reader reader; /* of its range */
	struct map_reader behind; /* of what lies behind the end */
	struct map_seen seen;
	struct key_set foreign;
	uint64_t read, buckets_read; /* how full buckets are */
	struct haul_map_report report;
};

/* ---- what the threads share ---- */

static bool range_take(struct ranges *ranges, uint32_t *ret_range)
{
	pthread_mutex_lock(&ranges->lock);
	bool any = ranges->rc == 0 && ranges->next < ranges->count;
	*ret_range = ranges->next;
	ranges->next += any;
	pthread_mutex_unlock(&ranges->lock);
	return any;
}

static void ranges_end(struct ranges *ranges, int rc)
{
	pthread_mutex_lock(&ranges->lock);
	if (ranges->rc == 0)
		ranges->rc = rc;
	pthread_mutex_unlock(&ranges->lock);
}

/* Returns whether to go on. */
static bool ranges_count(struct ranges *ranges, const struct map_reading *reading, bool ended)
{
	pthread_mutex_lock(&ranges->lock);
	map_reader_count(ranges->map, reading, ended);
	bool go_on = ranges->rc == 0;
	pthread_mutex_unlock(&ranges->lock);
	return go_on;
}

/* ---- a range ---- */

static void spot_at(struct map_spot *spot, uint32_t bucket)
{
	*spot = (struct map_spot){ .bytes = sizeof bucket };
	memcpy(spot->key, &bucket, sizeof bucket);
}

/* The bucket a spot stands before. */
static uint32_t spot_bucket(const struct ranges *ranges, const struct map_spot *spot)
{
	uint32_t bucket;
	memcpy(&bucket, spot->key, sizeof bucket);
	return spot->ended ? ranges->buckets : bucket;
}

static int worker_read(struct worker *w, struct map_reader *reader, struct map_spot *spot,
		       uint32_t limit, struct map_reading *reading)
{
	*reading = (struct map_reading){ .limit = limit };
	int rc = map_reader_next(reader, w->ranges->map, spot, reading);
	w->report.calls += reading->calls;
	w->report.retries += reading->retries;
	return rc;
}

/* Entries to ask for when so many buckets are left: more than they should hold, so that one call
 * does it, but not so many more that much is read twice. 0 = as many as the reader likes. */
static uint32_t entries_left(const struct worker *w, uint32_t buckets)
{
	if (w->buckets_read == 0)
		return 0;
	double load = (double)w->read / (double)w->buckets_read;
	double entries = load * buckets * (SLACK + 1) / SLACK + HAUL_MAP_BATCH_MIN;
	return entries < w->reader.sizer.target ? (uint32_t)entries : 0;
}

/* Take out of batch what lies in buckets from end to reached: it is the next range's. */
static int foreign_drop(struct worker *w, uint32_t end, uint32_t reached,
			struct haul_map_batch *batch)
{
	const struct haul_map_info *info = &w->ranges->map->info;
	struct map_spot spot;
	struct map_reading reading;
	spot_at(&spot, end);
	key_set_init(&w->foreign, info->key_size, w->ranges->secret);
	int rc = 0;
	while (rc == 0 && spot_bucket(w->ranges, &spot) < reached) {
		uint32_t left = reached - spot_bucket(w->ranges, &spot);
		rc = worker_read(w, &w->behind, &spot, entries_left(w, left), &reading);
		if (rc == 0)
			rc = key_set_load(&w->foreign, w->behind.keys, reading.count);
	}
	uint32_t kept = 0;
	for (uint32_t i = 0; rc == 0 && i < batch->count; i++) {
		uint8_t *key = w->reader.keys + (size_t)i * info->key_size;
		if (key_set_has(&w->foreign, key))
			continue;
		memmove(w->reader.keys + (size_t)kept * info->key_size, key, info->key_size);
		memmove(w->reader.values + (size_t)kept * info->slot_bytes,
			w->reader.values + (size_t)i * info->slot_bytes, info->slot_bytes);
		kept++;
	}
	key_set_done(&w->foreign);
	if (rc < 0)
		return rc;
	w->report.overrun += batch->count - kept;
	batch->count = kept;
	return 0;
}

static int batch_hand_on(struct worker *w, struct haul_map_batch *batch)
{
	const struct haul_map_scan *scan = w->ranges->scan;
	w->report.read += batch->count;
	int rc = 0;
	if (scan->check)
		rc = map_seen_add_alloc(&w->seen, batch, &w->report.duplicates);
	if (rc < 0)
		return rc;
	map_scan_filter(w->ranges->map, scan->filter, batch);
	w->report.matched += batch->count;
	return batch->count > 0 ? scan->visit(batch, scan->arg) : 0;
}

static int range_walk(struct worker *w, uint32_t from, uint32_t end)
{
	struct ranges *ranges = w->ranges;
	const struct haul_map_info *info = &ranges->map->info;
	struct map_spot spot;
	spot_at(&spot, from);
	for (uint32_t at = from; at < end;) {
		struct map_reading reading;
		uint32_t limit = end < ranges->buckets ? entries_left(w, end - at) : 0;
		int rc = worker_read(w, &w->reader, &spot, limit, &reading);
		if (rc < 0)
			return rc;
		uint32_t reached = spot_bucket(ranges, &spot);
		if (reached <= at)
			return -EIO; /* not forward: no kernel that we know does this */
		w->read += reading.count;
		w->buckets_read += reached - at;
		struct haul_map_batch batch = {
			.count = reading.count,
			.thread = w->number,
			.keys = w->reader.keys,
			.values = w->reader.values,
			.key_stride = info->key_size,
			.value_stride = info->slot_bytes,
		};
		if (reached > end && batch.count > 0)
			rc = foreign_drop(w, end, reached, &batch);
		if (rc == 0)
			rc = batch_hand_on(w, &batch);
		if (rc != 0 || !ranges_count(ranges, &reading, reached >= end))
			return rc;
		at = reached;
	}
	return 0;
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	struct ranges *ranges = w->ranges;
	uint32_t range;
	while (range_take(ranges, &range)) {
		uint64_t buckets = ranges->buckets;
		uint32_t from = (uint32_t)(buckets * range / ranges->count);
		uint32_t end = (uint32_t)(buckets * (range + 1) / ranges->count);
		int rc = range_walk(w, from, end);
		if (rc != 0)
			ranges_end(ranges, rc);
	}
	return NULL;
}

/* ---- all of them ---- */

static struct worker *workers_new(uint32_t count)
{
	return calloc(count, sizeof(struct worker));
}

static int workers_open(struct worker *workers, uint32_t count, struct ranges *ranges)
{
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < count; i++) {
		struct worker *w = &workers[i];
		*w = (struct worker){ .ranges = ranges, .number = i };
		map_reader_init(&w->reader, ranges->map);
		map_reader_init(&w->behind, ranges->map);
		w->reader.floor = w->behind.floor = ranges->map->reader.floor;
		if (ranges->scan->check)
			rc = map_seen_init(&w->seen, ranges->map->info.key_size);
	}
	return rc;
}

static void workers_close(struct worker *workers, uint32_t count, struct haul_map_report *report)
{
	for (uint32_t i = 0; i < count; i++) {
		struct worker *w = &workers[i];
		report->read += w->report.read;
		report->matched += w->report.matched;
		if (report->duplicates != HAUL_MAP_UNKNOWN)
			report->duplicates += w->report.duplicates;
		report->overrun += w->report.overrun;
		report->retries += w->report.retries;
		report->calls += w->report.calls;
		if (w->ranges && w->reader.floor > w->ranges->map->reader.floor)
			w->ranges->map->reader.floor = w->reader.floor;
		map_reader_done(&w->reader);
		map_reader_done(&w->behind);
		map_seen_done(&w->seen);
	}
}

/* Threads that cannot be started are done without: the ranges are taken by those that are. */
static void workers_run(struct worker *workers, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++)
		workers[i].joinable =
			pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]) == 0;
	(void)worker_run(&workers[0]);
	for (uint32_t i = 1; i < count; i++) {
		if (workers[i].joinable)
			pthread_join(workers[i].thread, NULL);
	}
}

int map_scan_threads(struct haul_map *map, const struct haul_map_scan *scan,
		     struct haul_map_report *report)
{
	HAUL_ASSERT(scan->threads > 1 && scan->threads <= HAUL_MAP_THREADS_MAX);
	struct ranges ranges = { .map = map, .scan = scan, .buckets = map_buckets(&map->info) };
	uint32_t threads = scan->threads < ranges.buckets ? scan->threads : ranges.buckets;
	ranges.count = threads * RANGES_A_THREAD;
	if (ranges.count > ranges.buckets)
		ranges.count = ranges.buckets;
	int rc = -pthread_mutex_init(&ranges.lock, NULL);
	if (rc < 0)
		return rc;
	map->os->random(map->os, &ranges.secret, sizeof ranges.secret);
	struct worker *workers = workers_new(threads);
	rc = workers ? workers_open(workers, threads, &ranges) : -ENOMEM;
	if (rc == 0) {
		workers_run(workers, threads);
		rc = ranges.rc;
	}
	if (workers)
		workers_close(workers, threads, report);
	free(workers);
	pthread_mutex_destroy(&ranges.lock);
	return rc;
}
