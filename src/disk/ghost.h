/* disk/ghost.h — hashes of what was evicted lately: who comes back deserves the main queue.
 *
 * Model      A ring of the last entries_max hashes and a table over it; fingerprints of 32 bits.
 *            A hash that was never added is found with a chance of entries_max / 2^32.
 * Memory     12 … 20 bytes an entry, all at ghost_init. Threads: one.
 * Errors     ghost_init: -ENOMEM; -EINVAL for 0, or over 2^28.
 * Source     S3-FIFO, Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ghost {
	uint32_t *ring;
	uint64_t *table; /* fingerprint, and below it ring index + 1; 0 = empty */
	uint32_t count_max, mask, next, count;
};

int ghost_init(struct ghost *ghost, uint32_t entries_max);
void ghost_done(struct ghost *ghost);
/* Fetch what the calls below will touch. */
void ghost_prefetch(const struct ghost *ghost, uint64_t hash);
void ghost_add(struct ghost *ghost, uint64_t hash);
bool ghost_has(const struct ghost *ghost, uint64_t hash);
/* Whether it was there; it is taken out. */
bool ghost_take(struct ghost *ghost, uint64_t hash);
