/* disk/format_head.h — the 32 bytes that every structure on the disk starts with.
 *
 * Model      0 u32 magic, 4 u32 crc (CRC-32C of byte 8 to the structure's end), 8 u32 version,
 *            12 u32 reserved (zero), 16 u8[16] uuid of the cache. These stay where they are in all
 *            versions. A version we do not know is only told when the crc is right: a flipped bit
 *            is damage, not news.
 * Threads    pure.
 * Errors     head_check: HAUL_ECORRUPT, HAUL_EVERSION, HAUL_ESTALE (another cache's). */
#pragma once

#include <string.h>

#include <haul/err.h>
#include "base/bytes.h"
#include "base/crc32c.h"

enum {
	HEAD_OFF_MAGIC = 0,
	HEAD_OFF_CRC = 4,
	HEAD_OFF_VERSION = 8,
	HEAD_OFF_RESERVED = 12,
	HEAD_OFF_UUID = 16,
	HEAD_BYTES = 32,

	HEAD_VERSION = 1,
	HEAD_UUID_BYTES = 16,

	HEAD_MAGIC_SUPER = 0x42534348,   /* "HCSB" */
	HEAD_MAGIC_ROOT = 0x54524348,    /* "HCRT" */
	HEAD_MAGIC_SEGMENT = 0x47534348, /* "HCSG" */
	HEAD_MAGIC_BATCH = 0x54424348,   /* "HCBT" */
	HEAD_MAGIC_FOOTER = 0x54464348   /* "HCFT" */
};

/* All zero, but for magic, version and uuid; fill the rest in and seal. */
static inline void head_start(uint8_t *at, size_t bytes, uint32_t magic, const uint8_t *uuid)
{
	memset(at, 0, bytes);
	le32_store(at + HEAD_OFF_MAGIC, magic);
	le32_store(at + HEAD_OFF_VERSION, HEAD_VERSION);
	memcpy(at + HEAD_OFF_UUID, uuid, HEAD_UUID_BYTES);
}

static inline void head_seal(uint8_t *at, size_t bytes)
{
	le32_store(at + HEAD_OFF_CRC, crc32c(0, at + HEAD_OFF_VERSION, bytes - HEAD_OFF_VERSION));
}

/* uuid NULL = any cache's. */
static inline int head_check(const uint8_t *at, size_t bytes, uint32_t magic, const uint8_t *uuid)
{
	if (le32_load(at + HEAD_OFF_MAGIC) != magic)
		return HAUL_ECORRUPT;
	if (le32_load(at + HEAD_OFF_CRC) !=
	    crc32c(0, at + HEAD_OFF_VERSION, bytes - HEAD_OFF_VERSION))
		return HAUL_ECORRUPT;
	if (le32_load(at + HEAD_OFF_VERSION) != HEAD_VERSION)
		return HAUL_EVERSION;
	if (uuid != NULL && memcmp(at + HEAD_OFF_UUID, uuid, HEAD_UUID_BYTES) != 0)
		return HAUL_ESTALE;
	return 0;
}
