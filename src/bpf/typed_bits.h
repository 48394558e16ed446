/* bpf/typed_bits.h — bits in bytes, where BTF says they are. */
#pragma once

#include <stdint.h>
#include <string.h>

/* Up to 64 bits that start bit_offset (0…7) bits into p; BTF counts from the least significant bit
 * on little-endian machines, from the most significant one on the others. */
static inline uint64_t typed_bits_get(const uint8_t *p, uint32_t bit_offset, uint32_t width)
{
	uint64_t bits = 0;
	for (uint32_t i = 0; i < width; i++) {
		uint32_t at = bit_offset + i;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
		bits |= (uint64_t)(p[at / 8] >> at % 8 & 1) << i;
#else
		bits = bits << 1 | (p[at / 8] >> (7 - at % 8) & 1);
#endif
	}
	return bits;
}

static inline void typed_bits_put(uint8_t *p, uint32_t bit_offset, uint32_t width, uint64_t bits)
{
	for (uint32_t i = 0; i < width; i++) {
		uint32_t at = bit_offset + i;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
		uint8_t mask = (uint8_t)(1U << at % 8);
		uint64_t bit = bits >> i & 1;
#else
		uint8_t mask = (uint8_t)(1U << (7 - at % 8));
		uint64_t bit = bits >> (width - 1 - i) & 1;
#endif
		p[at / 8] = (uint8_t)(bit ? p[at / 8] | mask : p[at / 8] & ~mask);
	}
}

/* An integer of 1…8 bytes (3, 5, 6, 7 in host order only). */
static inline uint64_t typed_uint_get(const uint8_t *p, uint32_t bytes, int big_endian)
{
	uint64_t bits = 0;
	uint8_t *to = (uint8_t *)&bits;
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
	to += sizeof bits - bytes;
	big_endian = 0;
#endif
	memcpy(to, p, bytes);
	return big_endian ? __builtin_bswap64(bits) >> (64 - 8 * bytes) : bits;
}

static inline void typed_uint_put(uint8_t *p, uint32_t bytes, int big_endian, uint64_t bits)
{
	const uint8_t *from = (const uint8_t *)&bits;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	if (big_endian)
		bits = __builtin_bswap64(bits) >> (64 - 8 * bytes);
#else
	from += sizeof bits - bytes;
	(void)big_endian;
#endif
	memcpy(p, from, bytes);
}

static inline int64_t typed_sign_extend(uint64_t bits, uint32_t width)
{
	return width >= 64 ? (int64_t)bits : (int64_t)(bits << (64 - width)) >> (64 - width);
}
