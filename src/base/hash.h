/* base/hash.h — a 64-bit finalizer for integer keys (splitmix64's; not for hostile input unless
 * the caller mixes in a secret). */
#pragma once

#include <stdint.h>

static inline uint64_t hash_u64(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}
