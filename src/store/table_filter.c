/* A filter over keys: a blocked Bloom filter.
 *
 * A hash chooses a line of 32 bytes by its upper half and, by its lower half times eight odd
 * constants, one bit in each of the line's eight words. So a look costs one cache line, and with
 * 16 bits a key about one key in a thousand passes that is not there. */
#include "store/table_state.h"

enum { WORDS = TABLE_FILTER_LINE / 4, BIT_SHIFT = 27 };

static const uint32_t salts[WORDS] = { 0x36225991, 0x04f73461, 0x4079d22f, 0x5c83eea3,
				       0x1a3d1543, 0x2c11f439, 0xd3c2b733, 0x4fbde3bb };

uint64_t table_hash(const struct tree_key *key, uint32_t words)
{
	HAUL_ASSERT(words >= 1 && words <= TREE_WORDS_MAX);
	uint64_t hash = hash_u64(key->word[0] + words * UINT64_C(0x9e3779b97f4a7c15));
	for (uint32_t i = 1; i < words; i++)
		hash = hash_u64((hash ^ key->word[i]) + UINT64_C(0x9e3779b97f4a7c15));
	return hash;
}

static uint64_t line_of(uint32_t lines, uint64_t hash)
{
	return (hash >> 32) * lines >> 32;
}

uint32_t table_filter_lines(uint64_t keys)
{
	uint64_t bits = keys * TABLE_FILTER_BITS;
	uint64_t lines = (bits + TABLE_FILTER_LINE * 8 - 1) / (TABLE_FILTER_LINE * 8);
	HAUL_ASSERT(lines < UINT32_MAX);
	return (uint32_t)lines;
}

void table_filter_build(uint32_t *filter, uint32_t lines, const uint64_t *hashes, uint64_t count)
{
	enum { AHEAD = 16 };
	HAUL_ASSERT(lines > 0 || count == 0);
	memset(filter, 0, (size_t)lines * TABLE_FILTER_LINE);
	for (uint64_t i = 0; i < count; i++) {
		if (i + AHEAD < count)
			__builtin_prefetch(filter + line_of(lines, hashes[i + AHEAD]) * WORDS, 1);
		uint32_t *line = filter + line_of(lines, hashes[i]) * WORDS;
		for (uint32_t w = 0; w < WORDS; w++)
			line[w] |= UINT32_C(1) << ((uint32_t)hashes[i] * salts[w] >> BIT_SHIFT);
	}
}

void table_filter_prefetch(const struct table *table, uint64_t hash)
{
	const struct table_whole *whole = table_whole(table);
	if (whole->filter)
		__builtin_prefetch(whole->filter + line_of(whole->lines, hash) * WORDS);
}

bool table_filter_pass(const struct table *table, uint64_t hash)
{
	const struct table_whole *whole = table_whole(table);
	if (!whole->filter)
		return true;
	const uint32_t *line = whole->filter + line_of(whole->lines, hash) * WORDS;
	uint32_t missing = 0;
	for (uint32_t w = 0; w < WORDS; w++)
		missing |= ~line[w] & UINT32_C(1) << ((uint32_t)hash * salts[w] >> BIT_SHIFT);
	return missing == 0;
}
