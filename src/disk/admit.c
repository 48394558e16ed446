/* A token bucket in bytes. What is admitted in any window of t seconds is at most burst_bytes +
 * t * bytes_per_s, because tokens are never negative by admit_ask and never above the burst. */
#include "disk/admit.h"

#include "base/assert.h"

void admit_init(struct admit *admit, uint64_t bytes_per_s, uint64_t burst_bytes, int64_t now_ns)
{
	if (burst_bytes < ADMIT_BURST_MIN)
		burst_bytes = ADMIT_BURST_MIN;
	*admit = (struct admit){
		.bytes_per_s = bytes_per_s,
		.burst_bytes = burst_bytes,
		.tokens = (double)burst_bytes,
		.last_ns = now_ns,
	};
}

static void refill(struct admit *admit, int64_t now_ns)
{
	if (now_ns <= admit->last_ns)
		return;
	double add = (double)(now_ns - admit->last_ns) * 1e-9 * (double)admit->bytes_per_s;
	admit->tokens += add;
	if (admit->tokens > (double)admit->burst_bytes)
		admit->tokens = (double)admit->burst_bytes;
	admit->last_ns = now_ns;
}

bool admit_ask(struct admit *admit, uint64_t bytes, bool seen_before, int64_t now_ns)
{
	HAUL_ASSERT(admit->burst_bytes >= ADMIT_BURST_MIN);
	if (admit->bytes_per_s > 0) {
		refill(admit, now_ns);
		double left = admit->tokens - (double)bytes;
		bool half = admit->tokens > (double)admit->burst_bytes / 2;
		if (left < 0.0 || (!seen_before && !half)) {
			admit->refused += bytes;
			return false;
		}
		admit->tokens = left;
	}
	admit->admitted += bytes;
	return true;
}

void admit_charge(struct admit *admit, uint64_t bytes, int64_t now_ns)
{
	HAUL_ASSERT(admit->burst_bytes >= ADMIT_BURST_MIN);
	admit->admitted += bytes;
	if (admit->bytes_per_s == 0)
		return;
	refill(admit, now_ns);
	admit->tokens -= (double)bytes;
}
