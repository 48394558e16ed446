/* base/bytes.h — big- and little-endian loads and stores at any alignment, and MAC addresses as
 * integers. */
#pragma once

#include <stdint.h>
#include <string.h>

static inline uint16_t be16_load(const uint8_t *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof v);
	return __builtin_bswap16(v);
}

static inline uint32_t be32_load(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return __builtin_bswap32(v);
}

static inline uint64_t be64_load(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return __builtin_bswap64(v);
}

static inline void be16_store(uint8_t *p, uint16_t v)
{
	v = __builtin_bswap16(v);
	memcpy(p, &v, sizeof v);
}

static inline void be32_store(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, sizeof v);
}

static inline void be64_store(uint8_t *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, sizeof v);
}

/* A MAC address in the low 48 bits, first byte most significant. Reads exactly 6 bytes. */
static inline uint64_t mac_load(const uint8_t *p)
{
	return (uint64_t)be16_load(p) << 32 | be32_load(p + 2);
}

static inline void mac_store(uint8_t *p, uint64_t mac)
{
	be16_store(p, (uint16_t)(mac >> 32));
	be32_store(p + 2, (uint32_t)mac);
}

/* Group bit of the first byte: broadcast or multicast. */
static inline int mac_is_group(uint64_t mac)
{
	return (int)(mac >> 40 & 1);
}

/* Little-endian ones, for files. */
static inline uint16_t le16_load(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline void le16_store(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

static inline uint32_t le32_load(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t le64_load(const uint8_t *p)
{
	return (uint64_t)le32_load(p + 4) << 32 | le32_load(p);
}

static inline void le32_store(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static inline void le64_store(uint8_t *p, uint64_t v)
{
	le32_store(p, (uint32_t)v);
	le32_store(p + 4, (uint32_t)(v >> 32));
}
