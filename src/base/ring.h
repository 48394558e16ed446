/* base/ring.h — a bounded queue of fixed-size items between one producer and one consumer thread.
 * Model: power-of-two slots, cached opposite index, one acquire and one release a batch.
 * Threads: push by one, pop by one, at the same time; init and done by whoever is alone with it.
 * Memory: all at init. Errors: push returns how many fitted; the caller counts the rest. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

struct ring {
	uint8_t *items;
	uint32_t item_bytes;
	uint32_t mask;
	_Alignas(64) _Atomic uint32_t head; /* next to write */
	uint32_t tail_seen;                 /* producer's copy of tail */
	_Alignas(64) _Atomic uint32_t tail; /* next to read */
	uint32_t head_seen;                 /* consumer's copy of head */
};

/* count_max is rounded up to a power of two. -EINVAL, -ENOMEM. */
int ring_init(struct ring *ring, uint32_t item_bytes, uint32_t count_max);
void ring_done(struct ring *ring);
/* Producer: copy up to count items in; returns how many. */
uint32_t ring_push(struct ring *ring, const void *items, uint32_t count);
/* Consumer: copy up to count items out; returns how many. */
uint32_t ring_pop(struct ring *ring, void *items, uint32_t count);
