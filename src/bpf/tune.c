#include "bpf/tune.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/map_state.h"

/* ---- arithmetic ---- */

#define TUNE_NEAR         1.03 /* so much slower is as fast, when the batch is smaller */
#define TUNE_LATENCY_COST 2.0  /* so much more may an entry cost for a shorter call */
#define TUNE_QUANTILE     0.99 /* of calls, for how long one takes */

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double map_tune_median(double *values, uint32_t count)
{
	HAUL_ASSERT(count > 0);
	qsort(values, count, sizeof *values, compare);
	return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

struct haul_map_tune_point map_tune_point(uint32_t batch, const struct map_tune_sample *samples,
					  uint32_t count)
{
	struct haul_map_tune_point point = { .batch = batch, .runs = count };
	double per_entry[MAP_TUNE_RUNS_MAX], call_max[MAP_TUNE_RUNS_MAX];
	uint32_t walks = 0;

	HAUL_ASSERT(count <= MAP_TUNE_RUNS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		point.too_small = point.too_small || samples[i].too_small;
		if (samples[i].entries == 0)
			continue;
		per_entry[walks] = (double)samples[i].ns / (double)samples[i].entries;
		call_max[walks] = (double)samples[i].call_max_ns;
		walks++;
	}
	if (walks > 0) {
		point.ns_per_entry = map_tune_median(per_entry, walks);
		point.call_ns_max = map_tune_median(call_max, walks);
	}
	return point;
}

static bool usable(const struct haul_map_tune_point *point)
{
	return !point->too_small && point->ns_per_entry > 0;
}

/* The fastest whose call is not longer than call_max; NULL when there is none. */
static const struct haul_map_tune_point *fastest(const struct haul_map_tune *tune, double call_max)
{
	const struct haul_map_tune_point *best = NULL;

	for (uint32_t i = 0; i < tune->count; i++) {
		const struct haul_map_tune_point *point = &tune->points[i];
		if (usable(point) && point->call_ns_max <= call_max &&
		    (best == NULL || point->ns_per_entry < best->ns_per_entry))
			best = point;
	}
	return best;
}

/* The shortest call of those where an entry costs at most cost. */
static const struct haul_map_tune_point *shortest(const struct haul_map_tune *tune, double cost)
{
	const struct haul_map_tune_point *best = NULL;

	for (uint32_t i = 0; i < tune->count; i++) {
		const struct haul_map_tune_point *point = &tune->points[i];
		if (usable(point) && point->ns_per_entry <= cost &&
		    (best == NULL || point->call_ns_max < best->call_ns_max))
			best = point;
	}
	return best;
}

/* Points go from small to large: the first that is nearly as fast as the fastest in the budget. */
static uint32_t preferred(const struct haul_map_tune *tune, double call_max)
{
	const struct haul_map_tune_point *best = fastest(tune, call_max);

	if (best == NULL) /* no call is short enough: the shortest there is */
		return shortest(tune, __DBL_MAX__)->batch;
	for (uint32_t i = 0; i < tune->count; i++) {
		const struct haul_map_tune_point *point = &tune->points[i];
		if (usable(point) && point->call_ns_max <= call_max &&
		    point->ns_per_entry <= TUNE_NEAR * best->ns_per_entry)
			return point->batch;
	}
	return best->batch;
}

void map_tune_decide(struct haul_map_tune *tune, int64_t call_max_ns)
{
	const struct haul_map_tune_point *best = fastest(tune, __DBL_MAX__);

	HAUL_ASSERT(tune->count <= HAUL_MAP_TUNE_POINTS);
	HAUL_ASSERT(call_max_ns > 0);
	tune->floor = tune->preferred = tune->throughput = tune->latency = 0;
	for (uint32_t i = 0; i < tune->count; i++) {
		const struct haul_map_tune_point *point = &tune->points[i];
		HAUL_ASSERT(i == 0 || point->batch > tune->points[i - 1].batch);
		if (point->too_small)
			tune->floor = 2 * point->batch;
	}
	if (best == NULL)
		return;
	tune->throughput = best->batch;
	tune->latency = shortest(tune, TUNE_LATENCY_COST * best->ns_per_entry)->batch;
	tune->preferred = preferred(tune, (double)call_max_ns);
}

/* ---- measurement ---- */

struct walk {
	struct haul_map *map;
	uint8_t *keys, *values;
	uint32_t room; /* entries: no call returns more than the map has */
	struct map_tune_sample sample;
	struct haul_hist calls_ns; /* of one walk */
};

static int walk_open(struct walk *walk, struct haul_map *map)
{
	const struct haul_map_info *info = &map->info;

	*walk = (struct walk){ .map = map };
	walk->room = info->max_entries < HAUL_MAP_BATCH_MAX ? info->max_entries
							    : (uint32_t)HAUL_MAP_BATCH_MAX;
	if (walk->room < HAUL_MAP_BATCH_MIN)
		walk->room = HAUL_MAP_BATCH_MIN;
	walk->keys = malloc((size_t)walk->room * info->key_size);
	walk->values = malloc((size_t)walk->room * info->slot_bytes);
	return walk->keys == NULL || walk->values == NULL ? -ENOMEM : 0;
}

static void walk_close(struct walk *walk)
{
	free(walk->keys);
	free(walk->values);
}

/* One timed call. Cursors are two buffers in turns: the kernel must not write the one it reads. */
static int walk_call(struct walk *walk, const uint8_t *in, uint8_t *out, uint32_t *count)
{
	struct haul_map *map = walk->map;
	union bpf_attr attr;

	HAUL_ASSERT(*count <= walk->room);
	memset(&attr, 0, sizeof attr);
	attr.batch.in_batch = (uint64_t)(uintptr_t)in;
	attr.batch.out_batch = (uint64_t)(uintptr_t)out;
	attr.batch.keys = (uint64_t)(uintptr_t)walk->keys;
	attr.batch.values = (uint64_t)(uintptr_t)walk->values;
	attr.batch.count = *count;
	attr.batch.map_fd = (uint32_t)map->fd;
	const int64_t start = map->os->now_ns(map->os);
	const int rc = map->sys->call(map->sys, BPF_MAP_LOOKUP_BATCH, &attr);
	const int64_t ns = map->os->now_ns(map->os) - start;
	*count = rc == 0 || rc == -ENOENT ? attr.batch.count : 0;
	walk->sample.ns += ns;
	walk->sample.entries += *count;
	haul_hist_add(&walk->calls_ns, ns > 0 ? (uint64_t)ns : 0, 1);
	return rc;
}

static bool is_busy(int rc)
{
	return rc == -EBUSY || rc == -EDEADLK || rc == -ETIMEDOUT;
}

/* One walk of the map at size batch. A bucket that does not fit is read at twice the size until it
 * does, so that the walk is whole; the sample says so. */
static int walk_all(struct walk *walk, uint32_t batch)
{
	uint8_t cursors[2][HAUL_MAP_KEY_MAX];
	const uint32_t size = batch < walk->room ? batch : walk->room;
	const uint8_t *in = NULL;
	uint32_t want = size, busy = 0;
	int rc = 0;

	walk->sample = (struct map_tune_sample){ 0 };
	walk->calls_ns = (struct haul_hist){ 0 };
	for (uint32_t turn = 0; rc != -ENOENT;) {
		uint32_t count = want;
		rc = walk_call(walk, in, cursors[turn], &count);
		if (rc == -ENOSPC && want < walk->room) {
			walk->sample.too_small = true;
			want = 2 * want < walk->room ? 2 * want : walk->room;
		} else if (is_busy(rc) && busy++ < 1000) {
			continue;
		} else if (rc < 0 && rc != -ENOENT) {
			return rc;
		} else {
			in = cursors[turn];
			turn = !turn;
			want = size;
		}
	}
	/* Of thousands of calls one is always interrupted: the longest would tell of that. */
	walk->sample.call_max_ns = (int64_t)haul_hist_quantile(&walk->calls_ns, TUNE_QUANTILE);
	return 0;
}

struct tune_run {
	struct walk walk;
	uint32_t runs;
	struct map_tune_sample samples[HAUL_MAP_TUNE_POINTS][MAP_TUNE_RUNS_MAX];
};

/* Sizes in turns, so that whatever else the machine does meets all of them alike. */
static int measure(struct tune_run *run, void (*progress)(uint64_t done, uint64_t total, void *arg),
		   void *arg)
{
	const uint64_t total = (uint64_t)run->runs * HAUL_MAP_TUNE_POINTS;

	for (uint32_t i = 0; i < run->runs; i++)
		for (uint32_t k = 0; k < HAUL_MAP_TUNE_POINTS; k++) {
			const uint32_t point = (i + k) % HAUL_MAP_TUNE_POINTS;
			int rc = walk_all(&run->walk, (uint32_t)HAUL_MAP_BATCH_MIN << point);
			if (rc < 0)
				return rc;
			run->samples[point][i] = run->walk.sample;
			if (progress != NULL)
				progress((uint64_t)i * HAUL_MAP_TUNE_POINTS + k + 1, total, arg);
		}
	return 0;
}

static int tune_run_open(struct tune_run **ret_run, struct haul_map *map, uint32_t runs)
{
	struct tune_run *run = calloc(1, sizeof *run);
	int rc = run == NULL ? -ENOMEM : walk_open(&run->walk, map);

	if (rc < 0) {
		if (run != NULL)
			walk_close(&run->walk);
		free(run);
		return rc;
	}
	run->runs = runs;
	*ret_run = run;
	return 0;
}

int haul_map_tune(struct haul_map *map, uint32_t runs, struct haul_map_tune *ret_tune,
		  void (*progress)(uint64_t done, uint64_t total, void *arg), void *arg)
{
	struct haul_map_tune tune = { .count = HAUL_MAP_TUNE_POINTS };
	struct tune_run *run;

	if (runs == 0 || runs > MAP_TUNE_RUNS_MAX)
		return -EINVAL;
	if (!map_type_of(map->info.type)->batch_lookup)
		return -ENOTSUP;
	int rc = tune_run_open(&run, map, runs);
	if (rc < 0)
		return rc;
	HAUL_ASSERT(HAUL_MAP_BATCH_MIN << (HAUL_MAP_TUNE_POINTS - 1) == HAUL_MAP_BATCH_MAX);
	rc = walk_all(&run->walk, HAUL_MAP_BATCH_START); /* the first walk meets cold caches */
	if (rc == 0)
		rc = measure(run, progress, arg);
	for (uint32_t i = 0; rc == 0 && i < HAUL_MAP_TUNE_POINTS; i++)
		tune.points[i] =
			map_tune_point((uint32_t)HAUL_MAP_BATCH_MIN << i, run->samples[i], runs);
	walk_close(&run->walk);
	free(run);
	if (rc < 0)
		return rc;
	const int64_t call_max_ns = map->options.call_max_ns;
	map_tune_decide(&tune, call_max_ns > 0 ? call_max_ns : HAUL_MAP_CALL_MAX_NS);
	*ret_tune = tune;
	return 0;
}
