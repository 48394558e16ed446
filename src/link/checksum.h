/* link/checksum.h — the Internet checksum (RFC 1071), in the byte order it was loaded in.
 *
 * Model      A sum is 64 bits wide and folded once at the end, so partial sums add up in any order.
 *            Sums are of 16-bit words as they lie in memory: the folded result is stored back as it
 *            is, on any machine. A header value goes in through checksum_word.
 * Threads    pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Add bytes at p; an odd last byte counts as if a zero followed. */
uint64_t checksum_add(const uint8_t *p, size_t bytes, uint64_t sum);

/* The sum of bytes at p, given that an odd number of bytes came before them. */
uint64_t checksum_add_odd(const uint8_t *p, size_t bytes, uint64_t sum);

/* A number as it would be summed had it lain in a header. */
static inline uint16_t checksum_word(uint32_t value)
{
	return __builtin_bswap16((uint16_t)value);
}

/* 16 bits, not complemented: what a partial checksum field holds. */
static inline uint16_t checksum_fold(uint64_t sum)
{
	sum = (sum & UINT32_MAX) + (sum >> 32);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	sum = (sum & UINT16_MAX) + (sum >> 16);
	return (uint16_t)sum;
}

static inline uint16_t checksum_load(const uint8_t *p)
{
	uint16_t word;
	memcpy(&word, p, sizeof word);
	return word;
}

static inline void checksum_store(uint8_t *p, uint16_t word)
{
	memcpy(p, &word, sizeof word);
}

/* Whether two folded sums are the same number: 0 and 0xffff both mean zero. */
static inline int checksum_equal(uint16_t a, uint16_t b)
{
	return a == b || (a % UINT16_MAX == 0 && b % UINT16_MAX == 0);
}
