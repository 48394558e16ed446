/* The log-linear histogram of haul/stats.h.
 *
 * Values below 8 have a bucket each. From 8 on, the bucket is the position of the highest bit (e)
 * and the three bits below it: each power of two is cut into 8 equal steps, so that a bucket is
 * never wider than 1/8 of its smallest value. e runs from 3 to 63: 8 + 61 * 8 = 496 buckets hold
 * any 64-bit value. A quantile is told as the upper end of its bucket, but never above the largest
 * sample seen; so it is never too small, and at most 12.5 % too large. */
#include <assert.h>

#include <haul/stats.h>
#include "base/assert.h"
#include "base/counter.h"

enum { STEP_BITS = 3, STEPS = 1 << STEP_BITS };
static_assert(STEPS + (64 - STEP_BITS) * STEPS == HAUL_HIST_BUCKETS, "one bucket for any value");

static uint32_t bucket_of(uint64_t value)
{
	if (value < STEPS)
		return (uint32_t)value;
	uint32_t e = 63 - (uint32_t)__builtin_clzll(value);
	return (e - STEP_BITS + 1) * STEPS + ((uint32_t)(value >> (e - STEP_BITS)) & (STEPS - 1));
}

static uint64_t bucket_last(uint32_t bucket)
{
	if (bucket < STEPS)
		return bucket;
	uint32_t shift = bucket / STEPS - 1;
	uint64_t first = (uint64_t)(STEPS + bucket % STEPS) << shift;
	return first + ((UINT64_C(1) << shift) - 1);
}

void haul_hist_add(struct haul_hist *hist, uint64_t value, uint64_t n)
{
	uint32_t bucket = bucket_of(value);
	HAUL_ASSERT(bucket < HAUL_HIST_BUCKETS);
	counter_add(&hist->bucket[bucket], n);
	counter_add(&hist->count, n);
	counter_add(&hist->sum, value * n);
	if (n > 0 && value > counter_get(&hist->max))
		counter_set(&hist->max, value);
}

uint64_t haul_hist_quantile(const struct haul_hist *hist, double quantile)
{
	HAUL_ASSERT(quantile >= 0.0 && quantile <= 1.0);
	/* The buckets are counted afresh: a writer may be between its bucket and its count. */
	uint64_t count = 0;
	for (uint32_t i = 0; i < HAUL_HIST_BUCKETS; i++)
		count += counter_get(&hist->bucket[i]);
	uint64_t max = counter_get(&hist->max);

	double wanted = quantile * (double)count;
	uint64_t rank = (uint64_t)wanted;
	rank += (double)rank < wanted || rank == 0;
	uint64_t seen = 0;
	for (uint32_t i = 0; i < HAUL_HIST_BUCKETS && count > 0; i++) {
		seen += counter_get(&hist->bucket[i]);
		if (seen >= rank)
			return bucket_last(i) < max ? bucket_last(i) : max;
	}
	return count > 0 ? max : 0;
}

double haul_hist_mean(const struct haul_hist *hist)
{
	uint64_t count = counter_get(&hist->count);
	return count > 0 ? (double)counter_get(&hist->sum) / (double)count : 0.0;
}
