#include "disk/key.h"

#include <assert.h>
#include <string.h>

#include <haul/cache.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "base/checksum.h"

static_assert(CACHE_KEY_STORED_MAX == HAUL_CACHE_KEY_MAX + 8, "a key and a version");

void cache_key_hash(struct cache_key *key, uint64_t secret)
{
	HAUL_ASSERT(key->bytes >= 1 && key->bytes <= HAUL_CACHE_KEY_MAX);
	HAUL_ASSERT(key->slice != 0 || key->version == 0);
	XXH128_hash_t hash = XXH3_128bits_withSeed(key->data, key->bytes, secret);

	if (key->slice != 0) {
		uint8_t part[28];
		le64_store(part, hash.low64);
		le64_store(part + 8, hash.high64);
		le64_store(part + 16, key->version);
		le32_store(part + 24, key->slice);
		hash = XXH3_128bits_withSeed(part, sizeof part, secret);
	}
	key->hash = hash.low64 != 0 ? hash.low64 : 1; /* 0 is an empty slot of the index */
	key->check = hash.high64;
}

uint64_t cache_key_checksum(const struct cache_key *key, const void *stored, uint32_t bytes)
{
	HAUL_ASSERT(stored != NULL || bytes == 0);
	return XXH3_64bits_withSeed(stored, bytes, key->check);
}

void cache_key_store(const struct cache_key *key, uint8_t *out)
{
	HAUL_ASSERT(key->bytes >= 1 && key->bytes <= HAUL_CACHE_KEY_MAX);
	if (key->slice != 0) {
		le64_store(out, key->version);
		out += 8;
	}
	memcpy(out, key->data, key->bytes);
}

int cache_key_load(const uint8_t *stored, uint32_t bytes, uint32_t slice, uint64_t secret,
		   struct cache_key *ret_key)
{
	const uint32_t before = slice != 0 ? 8 : 0;

	if (bytes <= before || bytes - before > HAUL_CACHE_KEY_MAX)
		return HAUL_ECORRUPT;
	struct cache_key key = {
		.data = stored + before,
		.bytes = bytes - before,
		.slice = slice,
		.version = slice != 0 ? le64_load(stored) : 0,
	};
	cache_key_hash(&key, secret);
	*ret_key = key;
	return 0;
}
