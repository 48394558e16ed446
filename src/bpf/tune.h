/* bpf/tune.h — from a measured curve to batch sizes: the part of haul_map_tune that is arithmetic.
 *
 * Model      A sample is one walk of the map at one size. map_tune_point makes a point of a size's
 *            samples, map_tune_decide the recommendations of the points. Medians throughout: a walk
 *            that was interrupted says nothing about the map.
 * Units      nanoseconds, entries.
 * Threads    pure. */
#pragma once

#include <haul/map.h>

enum { MAP_TUNE_RUNS_MAX = 64 };

struct map_tune_sample {
	uint64_t entries;
	int64_t ns;          /* of all calls */
	int64_t call_max_ns; /* 99 % of the calls are not longer */
	bool too_small;      /* a bucket did not fit */
};

/* The middle one of count values, which are sorted by it; mean of the middle two. */
double map_tune_median(double *values, uint32_t count);

/* samples: count of them, at size batch. */
struct haul_map_tune_point map_tune_point(uint32_t batch, const struct map_tune_sample *samples,
					  uint32_t count);

/* Fill in floor, preferred, throughput and latency from points. All 0 when nothing was read. */
void map_tune_decide(struct haul_map_tune *tune, int64_t call_max_ns);
