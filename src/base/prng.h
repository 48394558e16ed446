/* base/prng.h — seeded pseudo-random numbers (splitmix64): same seed, same sequence. */
#pragma once

#include <stdint.h>

#include "base/hash.h"

struct prng {
	uint64_t state;
};

static inline void prng_init(struct prng *prng, uint64_t seed)
{
	prng->state = seed;
}

static inline uint64_t prng_next(struct prng *prng)
{
	prng->state += UINT64_C(0x9e3779b97f4a7c15);
	return hash_u64(prng->state);
}

/* 0 … bound-1; bound >= 1. */
static inline uint32_t prng_below(struct prng *prng, uint32_t bound)
{
	return (uint32_t)(((prng_next(prng) >> 32) * bound) >> 32);
}

/* [0, 1) */
static inline double prng_unit(struct prng *prng)
{
	return (double)(prng_next(prng) >> 11) * 0x1.0p-53;
}
