/* disk/key.h — what identifies an entry: 128 bits of hash.
 *
 * Model      XXH3-128 of the key's bytes, seeded by the cache's secret, then mixed with version and
 *            slice for the parts of an object. `hash` finds the entry; `check` seeds the checksum
 *            of its value, so that a value read for another key does not verify. Two keys with
 *            equal 128 bits would be one key: with 10^9 entries, a chance of 10^-21.
 * Threads    pure.
 * Errors     cache_key_load: HAUL_ECORRUPT. */
#pragma once

#include <stdint.h>

enum { CACHE_KEY_STORED_MAX = 512 + 8 };

struct cache_key {
	const uint8_t *data; /* the key as given; borrowed */
	uint32_t bytes;      /* 1 … HAUL_CACHE_KEY_MAX */
	uint32_t slice;      /* 0 = an entry of its own, or the head of an object */
	uint64_t version;    /* of the object a slice belongs to; 0 with slice 0 */
	uint64_t hash;
	uint64_t check;
};

/* Fill hash (never 0) and check from the rest. */
void cache_key_hash(struct cache_key *key, uint64_t secret);
/* Checksum of a value as stored (after compression). */
uint64_t cache_key_checksum(const struct cache_key *key, const void *stored, uint32_t bytes);

/* Which partition a key is in: by the top bits of the hash, the index takes the low ones. The
 * slices of an object are where its head is, whatever their own hash. */
static inline uint32_t cache_key_partition(uint64_t hash, uint32_t partitions)
{
	return (uint32_t)(((hash >> 32) * partitions) >> 32);
}

/* The key as it lies on the disk behind the rows: its bytes, and before them, of a slice, the
 * version (8 bytes, little-endian), so that all of a cache_key can be told from the disk. */
static inline uint32_t cache_key_stored_bytes(const struct cache_key *key)
{
	return key->bytes + (key->slice != 0 ? 8 : 0);
}
void cache_key_store(const struct cache_key *key, uint8_t *out);
/* The way back; data is borrowed from stored. HAUL_ECORRUPT when bytes can be no key's. */
int cache_key_load(const uint8_t *stored, uint32_t bytes, uint32_t slice, uint64_t secret,
		   struct cache_key *ret_key);
