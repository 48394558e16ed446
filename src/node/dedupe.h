/* node/dedupe.h — has this message been here before?
 *
 * Model      One sliding window of DEDUPE_WINDOW sequence numbers an origin. A message is fresh
 *            once: when it is newer than all of its origin, or inside the window and not marked. A
 *            restarted node has a higher boot time in the high half of its sequence, which is
 *            simply newer. One below the window is refused, unless nothing fresh has come from its
 *            origin for DEDUPE_SILENCE_NS: then its clock went back, and the window starts again
 *            there. So a forged high sequence mutes its victim for that long, not for ever.
 *            One origin more than there is room for takes the place of the longest silent one.
 * Units      ns of one monotonic clock.
 * Memory     all in dedupe_open: 168 bytes an origin and its index.
 * Threads    one.
 * Errors     dedupe_open: -ENOMEM.
 * Limits     DEDUPE_ORIGINS_MAX. Origin 0 is no node's: never fresh. */
#pragma once

#include <stdint.h>

enum { DEDUPE_ORIGINS_MAX = 65536, DEDUPE_WINDOW = 1024 };

/* Longer than any frame stays on its way (TTL, queues), shorter than a reboot. */
#define DEDUPE_SILENCE_NS INT64_C(3000000000)

struct dedupe;

int dedupe_open(uint32_t origins, struct dedupe **ret_dedupe);
/* NULL is allowed. */
void dedupe_close(struct dedupe *dedupe);

struct dedupe_batch { /* columns of a burst, count rows each */
	const uint64_t *origin;
	const uint64_t *sequence;
	uint32_t count;
};

/* ret_fresh[i] = 1 for messages not seen before (they are now), 0 for all others. Twice the same in
 * one batch counts as twice. Returns how many are fresh. */
uint32_t dedupe_check(struct dedupe *dedupe, const struct dedupe_batch *batch, int64_t now_ns,
		      uint8_t *ret_fresh);
