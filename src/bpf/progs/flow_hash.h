/* bpf/progs/flow_hash.h — which shard a connection lives in; what program and library share.
 *
 * Each 8 bytes of the key are two 32-bit halves, each with a part of the salt added, multiplied to
 * 64 bits; the products are summed and mixed (the NH family). Who does not know the salt cannot
 * choose addresses and ports that meet in one shard. Inside a shard the kernel's hash has a seed
 * of its own. */
#pragma once

#include "bpf/progs/flow_prog.h"

typedef uint64_t flow_word __attribute__((may_alias));

enum { FLOW_KEY_WORDS = sizeof(struct haul_flow_key) / sizeof(uint64_t) };

static inline __attribute__((always_inline)) uint64_t flow_hash_word(uint64_t word, uint64_t salt,
								     uint32_t turn)
{
	uint64_t part = (salt << turn | salt >> (64 - turn)) ^ UINT64_C(0x9e3779b97f4a7c15) * turn;
	uint64_t low = (uint32_t)((uint32_t)word + (uint32_t)part);
	uint64_t high = (uint32_t)((uint32_t)(word >> 32) + (uint32_t)(part >> 32));
	return low * high;
}

/* key must lie at a multiple of 8. mask: shards - 1. */
static inline __attribute__((always_inline)) uint32_t flow_shard(const struct haul_flow_key *key,
								 uint64_t salt, uint32_t mask)
{
	const flow_word *words = (const void *)key;
	uint64_t hash = flow_hash_word(words[0], salt, 7) + flow_hash_word(words[1], salt, 17) +
			flow_hash_word(words[2], salt, 29) + flow_hash_word(words[3], salt, 41) +
			flow_hash_word(words[4], salt, 53);
	_Static_assert(FLOW_KEY_WORDS == 5, "all words are hashed");
	hash ^= hash >> 32;
	hash *= UINT64_C(0xbf58476d1ce4e5b9);
	return (uint32_t)(hash >> 32) & mask;
}
