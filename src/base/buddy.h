/* base/buddy.h — aligned buffers of any power of two out of one arena.
 *
 * Model      Binary buddy allocator: a buffer is a power of two between BUDDY_MIN and the arena,
 *            aligned to its size (up to 2 MiB); freed neighbours join.
 * Memory     the arena (2 MiB pages asked for) and a byte a BUDDY_MIN, at buddy_init.
 * Threads    one. Errors: buddy_get returns NULL when there is no room: never grows.
 * Source     Knuth, The Art of Computer Programming, 2.5. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { BUDDY_MIN = 4096, BUDDY_ORDERS = 24 };

struct buddy {
	uint8_t *arena;
	uint64_t bytes; /* power of two */
	uint64_t used;
	uint8_t *order; /* a block: order + 1 where a used buffer starts, free mark, or 0 */
	uint32_t free_first[BUDDY_ORDERS]; /* block numbers, UINT32_MAX = none */
	uint32_t orders;
};

/* bytes is rounded up to a power of two. -ENOMEM. */
int buddy_init(struct buddy *buddy, uint64_t bytes);
void buddy_done(struct buddy *buddy);
uint8_t *buddy_get(struct buddy *buddy, uint64_t bytes);
/* NULL is allowed. */
void buddy_put(struct buddy *buddy, uint8_t *data);
