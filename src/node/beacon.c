#include "node/beacon.h"

#include <haul/err.h>
#include "base/assert.h"
#include "os/os.h"

static void plan_next(struct beacon *beacon)
{
	const double part = prng_unit(&beacon->prng);

	beacon->due_ns = beacon->slot_ns + (int64_t)(part * (double)beacon->spread_ns);
	HAUL_ASSERT(beacon->due_ns >= beacon->slot_ns);
	HAUL_ASSERT(beacon->due_ns - beacon->slot_ns < beacon->period_ns);
}

void beacon_init(struct beacon *beacon, const struct beacon_options *options, int64_t now_ns)
{
	HAUL_ASSERT(options->period_ms >= 1 && options->period_ms <= UINT16_MAX);
	HAUL_ASSERT(options->jitter_percent < 100);
	*beacon = (struct beacon){
		.period_ns = options->period_ms * NS_PER_MS,
		.period_ms = (uint16_t)options->period_ms,
		.slot_ns = now_ns,
		.due_ns = now_ns, /* the first at once: a network comes up faster */
	};
	beacon->spread_ns = beacon->period_ns / 100 * options->jitter_percent;
	prng_init(&beacon->prng, options->seed);
}

bool beacon_take(struct beacon *beacon, int64_t now_ns, struct haul_heartbeat *ret_heartbeat)
{
	if (now_ns < beacon->due_ns)
		return false;
	beacon->id++;
	beacon->sent_ns[beacon->id % BEACON_REMEMBERED] = now_ns;
	beacon->slot_ns += beacon->period_ns;
	if (beacon->slot_ns <= now_ns)
		beacon->slot_ns +=
			(now_ns - beacon->slot_ns) / beacon->period_ns * beacon->period_ns;
	if (beacon->slot_ns <= now_ns)
		beacon->slot_ns += beacon->period_ns;
	plan_next(beacon);
	HAUL_ASSERT(beacon->due_ns > now_ns);
	*ret_heartbeat = (struct haul_heartbeat){
		.id = beacon->id,
		.period_ms = beacon->period_ms,
		.time_ns = (uint64_t)now_ns,
	};
	return true;
}

int beacon_rtt(const struct beacon *beacon, const struct haul_heartbeat_reply *reply,
	       int64_t now_ns, int64_t *ret_rtt_ns)
{
	const struct haul_heartbeat *echo = &reply->heartbeat;
	const uint32_t behind = beacon->id - echo->id;

	if (behind >= BEACON_REMEMBERED || behind >= beacon->id)
		return behind < UINT32_MAX / 2 ? HAUL_ESTALE : HAUL_ECORRUPT;
	const int64_t sent_ns = beacon->sent_ns[echo->id % BEACON_REMEMBERED];
	if (echo->time_ns != (uint64_t)sent_ns || echo->period_ms != beacon->period_ms)
		return HAUL_ECORRUPT;
	const int64_t rtt_ns = now_ns - sent_ns - reply->hold_us * NS_PER_US;
	if (rtt_ns < 0)
		return HAUL_ECORRUPT;
	*ret_rtt_ns = rtt_ns;
	return 0;
}
