/* disk/ram.h — values kept in memory, in a bounded ring.
 *
 * Model      A circular log of values and a table of hashes over it. When the log is full its
 *            oldest value leaves; if it was read since it came, it is written again at the head
 *            instead (once, then its mark is gone): CLOCK. All memory, tables included, is within
 *            bytes_max.
 * Ownership  ram_find's pointer is good until the next ram_put.
 * Memory     all at ram_init; 0 bytes = off: find never finds, put does nothing.
 * Threads    one. Errors: ram_init -ENOMEM.
 * Limits     bytes_max below 64 KiB is as 0. A value over an eighth of the ring is not taken (an
 *            older one of its hash leaves all the same). A put moves at most 16 values. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct ram_value {
	const uint8_t *data; /* after decompression, client flags not in it */
	uint32_t bytes;
	uint32_t flags;
	uint32_t expiry;
	bool head; /* an object's head */
};

struct ram {
	uint8_t *ring;
	uint64_t ring_bytes, head, tail; /* head and tail only rise; in units of 32 bytes */
	uint64_t *table;                 /* fingerprint 32 | place + 1 32, 0 = empty */
	uint64_t mask;
	uint64_t count, bytes_max;
	uint64_t hits, misses, inserted, evicted;
};

int ram_init(struct ram *ram, uint64_t bytes_max);
void ram_done(struct ram *ram);
void ram_clear(struct ram *ram);
bool ram_find(struct ram *ram, uint64_t hash, struct ram_value *ret_value);
void ram_put(struct ram *ram, uint64_t hash, const struct ram_value *value);
void ram_delete(struct ram *ram, uint64_t hash);
