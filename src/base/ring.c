/* head and tail only ever grow (and wrap at 2^32, a multiple of the slot count), so head - tail is
 * the fill whatever the wrap. Each side writes one of them and keeps a copy of the other, which it
 * refreshes only when the copy says there is too little: in the steady state a batch costs one
 * acquire and one release. The release of head makes the items visible before the index, the
 * release of tail makes the consumer's reads end before the producer may overwrite. */
#include "base/ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { RING_COUNT_MAX = 1 << 24 };

int ring_init(struct ring *ring, uint32_t item_bytes, uint32_t count_max)
{
	if (item_bytes == 0 || count_max == 0 || count_max > RING_COUNT_MAX)
		return -EINVAL;
	uint32_t slots = 1;
	while (slots < count_max)
		slots *= 2;
	uint8_t *items = calloc(slots, item_bytes);
	if (!items)
		return -ENOMEM;

	ring->items = items;
	ring->item_bytes = item_bytes;
	ring->mask = slots - 1;
	atomic_init(&ring->head, 0);
	atomic_init(&ring->tail, 0);
	ring->tail_seen = 0;
	ring->head_seen = 0;
	return 0;
}

void ring_done(struct ring *ring)
{
	if (!ring)
		return;
	free(ring->items);
	ring->items = NULL;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

uint32_t ring_push(struct ring *ring, const void *items, uint32_t count)
{
	uint32_t slots = ring->mask + 1;
	uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
	if (slots - (head - ring->tail_seen) < count)
		ring->tail_seen = atomic_load_explicit(&ring->tail, memory_order_acquire);
	HAUL_ASSERT(head - ring->tail_seen <= slots);
	count = min_u32(count, slots - (head - ring->tail_seen));
	if (count == 0)
		return 0;

	size_t bytes = ring->item_bytes;
	uint32_t at = head & ring->mask;
	uint32_t first = min_u32(count, slots - at);
	memcpy(ring->items + at * bytes, items, first * bytes);
	memcpy(ring->items, (const uint8_t *)items + first * bytes, (count - first) * bytes);
	atomic_store_explicit(&ring->head, head + count, memory_order_release);
	return count;
}

uint32_t ring_pop(struct ring *ring, void *items, uint32_t count)
{
	uint32_t slots = ring->mask + 1;
	uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
	if (ring->head_seen - tail < count)
		ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
	HAUL_ASSERT(ring->head_seen - tail <= slots);
	count = min_u32(count, ring->head_seen - tail);
	if (count == 0)
		return 0;

	size_t bytes = ring->item_bytes;
	uint32_t at = tail & ring->mask;
	uint32_t first = min_u32(count, slots - at);
	memcpy(items, ring->items + at * bytes, first * bytes);
	memcpy((uint8_t *)items + first * bytes, ring->items, (count - first) * bytes);
	atomic_store_explicit(&ring->tail, tail + count, memory_order_release);
	return count;
}
