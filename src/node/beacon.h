/* node/beacon.h — when an RSU sends its heartbeats, and what an answer to one says.
 *
 * Model      Heartbeat k is due at start + k periods + a random part of the spread, so gaps vary
 *            but the mean does not drift. The times of the last BEACON_REMEMBERED are kept: an
 *            answer is believed only if it repeats one of them to the nanosecond, so a round trip
 *            time is never computed from what somebody else claims.
 * Units      ns of one monotonic clock.
 * Memory     none but the struct.
 * Threads    one.
 * Errors     beacon_rtt: HAUL_ESTALE, HAUL_ECORRUPT.
 * Limits     BEACON_REMEMBERED heartbeats. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/message.h>
#include "base/prng.h"

enum { BEACON_REMEMBERED = 32 };

struct beacon {
	struct prng prng;
	int64_t period_ns;
	int64_t spread_ns; /* how far apart the earliest and latest moment for one heartbeat are */
	int64_t slot_ns;   /* where the period of the next heartbeat begins */
	int64_t due_ns;    /* when the next heartbeat is due */
	uint32_t id;       /* of the last heartbeat, 0 before the first */
	uint16_t period_ms;
	int64_t sent_ns[BEACON_REMEMBERED]; /* by id modulo */
};

struct beacon_options {
	uint32_t period_ms;
	uint32_t jitter_percent; /* spread, of the period */
	uint64_t seed;
};

void beacon_init(struct beacon *beacon, const struct beacon_options *options, int64_t now_ns);
/* The heartbeat to send now; false while none is due. After a long pause one, not all that were
 * missed. */
bool beacon_take(struct beacon *beacon, int64_t now_ns, struct haul_heartbeat *ret_heartbeat);
/* Round trip behind a reply: ESTALE when it answers none that is remembered, ECORRUPT when it
 * repeats a heartbeat that was never sent or says it held it for longer than it took to come
 * back. */
int beacon_rtt(const struct beacon *beacon, const struct haul_heartbeat_reply *reply,
	       int64_t now_ns, int64_t *ret_rtt_ns);
