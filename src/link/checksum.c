/* link/checksum.c — see checksum.h.
 *
 * 32-bit words are added into 64-bit lanes: no carry can be lost below 16 GiB, so the loop has no
 * dependence on a carry flag, and the compiler is free to use vector registers. */
#include "link/checksum.h"

#include "base/assert.h"

enum { BLOCK_BYTES = 32, WORD_BYTES = 4 };

static uint32_t load_u32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

static uint64_t load_u64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return v;
}

uint64_t checksum_add(const uint8_t *p, size_t bytes, uint64_t sum)
{
	uint64_t low = 0, high = 0;
	for (; bytes >= BLOCK_BYTES; bytes -= BLOCK_BYTES, p += BLOCK_BYTES) {
		uint64_t a = load_u64(p), b = load_u64(p + 8);
		uint64_t c = load_u64(p + 16), d = load_u64(p + 24);
		low += (a & UINT32_MAX) + (b & UINT32_MAX) + (c & UINT32_MAX) + (d & UINT32_MAX);
		high += (a >> 32) + (b >> 32) + (c >> 32) + (d >> 32);
	}
	for (; bytes >= WORD_BYTES; bytes -= WORD_BYTES, p += WORD_BYTES)
		low += load_u32(p);
	if (bytes > 0) {
		uint8_t rest[WORD_BYTES] = { 0 };
		memcpy(rest, p, bytes);
		low += load_u32(rest);
	}
	return sum + checksum_fold(low) + checksum_fold(high);
}

uint64_t checksum_add_odd(const uint8_t *p, size_t bytes, uint64_t sum)
{
	/* Shifting all bytes by one place swaps the halves of the folded sum. */
	return sum + __builtin_bswap16(checksum_fold(checksum_add(p, bytes, 0)));
}
