/* bpf/file_format.h — the bytes of a map file. Normative: code follows this file.
 *
 * All integers are little-endian. Keys and values are the map's own bytes, in the order of the host
 * that the header tells. A file is a header, blocks, an end mark; nothing is padded, nothing is
 * optional, and nothing in it depends on when it was written: an unchanged map gives the same file.
 *
 *   header, 64 + 32 × maps + 4 bytes        block, 28 + cursor + count × (key + slot) + 4 bytes
 *    0  u8[8] magic                          0  u32 magic "BLCK"
 *    8  u32 version = 1                      4  u32 map: its index
 *   12  u32 header bytes                     8  u32 count of entries
 *   16  u32 flags: 1 big-endian host        12  u32 cursor bytes
 *   20  u32 map type (enum bpf_map_type)    16  u32 flags: 1 last block of this map
 *   24  u32 key size                        20  u32 sequence: blocks before it, of all maps
 *   28  u32 value size                      24  u32 crc of 0 … 23
 *   32  u32 slot bytes                      28      cursor behind this block (none in the last)
 *   36  u32 values an entry (CPUs, or 1)            keys, back to back
 *   40  u32 entries a block                         values, back to back
 *   44  u32 maps                                    u32 crc of 0 … here
 *   48  u8[16] boot id
 *   64      maps, 32 bytes each             end mark, 40 bytes
 *           u32 crc of 0 … here              0  u32 magic "DONE"
 *                                            4  u32 reserved, zero
 *   map, 32 bytes                            8  u64 blocks
 *    0  u32 id                              16  u64 entries
 *    4  u32 max_entries                     24  u64 bytes of the whole file
 *    8  u32 flags (BPF_F_…)                 32  u32 crc of the crcs of all blocks, in order
 *   12  u32 buckets; 0 = walked by key      36  u32 crc of 0 … 35
 *   16  u8[16] name, ends with zero
 *
 * Every crc is CRC-32C; those of blocks and end begin with the header's instead of zero, so that a
 * block of another file is not taken for one of this. Each map has at least one block; exactly its
 * last has the flag. Only a last block may be empty. A block has more entries than the header says
 * when one bucket alone holds more.
 *
 * Reading: HAUL_ESHORT when the file ends before what it announces (also: no end mark, which is
 * an export that was stopped), HAUL_EVERSION, HAUL_ELONG with bytes behind the end mark, else
 * HAUL_ECORRUPT. */
#pragma once

#include <assert.h>
#include <stdint.h>

#include <haul/map_file.h>

enum {
	FILE_VERSION = 1,

	FILE_OFF_MAGIC = 0,
	FILE_OFF_VERSION = 8,
	FILE_OFF_BYTES = 12,
	FILE_OFF_FLAGS = 16,
	FILE_OFF_TYPE = 20,
	FILE_OFF_KEY_SIZE = 24,
	FILE_OFF_VALUE_SIZE = 28,
	FILE_OFF_SLOT_BYTES = 32,
	FILE_OFF_CPUS = 36,
	FILE_OFF_BLOCK_ENTRIES = 40,
	FILE_OFF_MAPS = 44,
	FILE_OFF_BOOT_ID = 48,
	FILE_HEAD_BYTES = 64,

	FILE_MAP_OFF_ID = 0,
	FILE_MAP_OFF_MAX_ENTRIES = 4,
	FILE_MAP_OFF_FLAGS = 8,
	FILE_MAP_OFF_BUCKETS = 12,
	FILE_MAP_OFF_NAME = 16,
	FILE_MAP_BYTES = 32,

	FILE_BLOCK_OFF_MAGIC = 0,
	FILE_BLOCK_OFF_MAP = 4,
	FILE_BLOCK_OFF_COUNT = 8,
	FILE_BLOCK_OFF_CURSOR_BYTES = 12,
	FILE_BLOCK_OFF_FLAGS = 16,
	FILE_BLOCK_OFF_SEQUENCE = 20,
	FILE_BLOCK_OFF_CRC = 24,
	FILE_BLOCK_BYTES = 28, /* then cursor, keys, values, crc */

	FILE_END_OFF_MAGIC = 0,
	FILE_END_OFF_RESERVED = 4,
	FILE_END_OFF_BLOCKS = 8,
	FILE_END_OFF_ENTRIES = 16,
	FILE_END_OFF_FILE_BYTES = 24,
	FILE_END_OFF_DIGEST = 32,
	FILE_END_OFF_CRC = 36,
	FILE_END_BYTES = 40,

	FILE_CRC_BYTES = 4,
	FILE_MAGIC_BYTES = 8,
	FILE_BOOT_ID_BYTES = 16,
	FILE_BLOCK_MAGIC = 0x4b434c42, /* "BLCK" */
	FILE_END_MAGIC = 0x454e4f44,   /* "DONE" */

	FILE_BIG_ENDIAN = 1, /* header flags */
	FILE_LAST = 1,       /* block flags */

	FILE_BLOCK_ENTRIES_MIN = HAUL_MAP_BATCH_MIN,
	FILE_HEADER_BYTES_MAX =
		FILE_HEAD_BYTES + HAUL_MAP_FILE_MAPS * FILE_MAP_BYTES + FILE_CRC_BYTES
};

/* Not text, and spoilt by whatever turns line ends or cuts at a control-Z. */
#define FILE_MAGIC "\x89HMAP\r\n\x1a"

static_assert(sizeof(FILE_MAGIC) - 1 == FILE_MAGIC_BYTES, "the magic fills its field");
static_assert(FILE_OFF_VERSION == FILE_OFF_MAGIC + FILE_MAGIC_BYTES, "version behind magic");
static_assert(FILE_OFF_BYTES == FILE_OFF_VERSION + 4, "of every version");
static_assert(FILE_OFF_FLAGS == FILE_OFF_BYTES + 4, "");
static_assert(FILE_OFF_TYPE == FILE_OFF_FLAGS + 4, "");
static_assert(FILE_OFF_KEY_SIZE == FILE_OFF_TYPE + 4, "");
static_assert(FILE_OFF_VALUE_SIZE == FILE_OFF_KEY_SIZE + 4, "");
static_assert(FILE_OFF_SLOT_BYTES == FILE_OFF_VALUE_SIZE + 4, "");
static_assert(FILE_OFF_CPUS == FILE_OFF_SLOT_BYTES + 4, "");
static_assert(FILE_OFF_BLOCK_ENTRIES == FILE_OFF_CPUS + 4, "");
static_assert(FILE_OFF_MAPS == FILE_OFF_BLOCK_ENTRIES + 4, "");
static_assert(FILE_OFF_BOOT_ID == FILE_OFF_MAPS + 4, "");
static_assert(FILE_HEAD_BYTES == FILE_OFF_BOOT_ID + FILE_BOOT_ID_BYTES, "");
static_assert(FILE_MAP_BYTES == FILE_MAP_OFF_NAME + HAUL_MAP_NAME, "");
static_assert(FILE_BLOCK_BYTES == FILE_BLOCK_OFF_CRC + FILE_CRC_BYTES, "");
static_assert(FILE_END_OFF_DIGEST == FILE_END_OFF_FILE_BYTES + 8, "");
static_assert(FILE_END_BYTES == FILE_END_OFF_CRC + FILE_CRC_BYTES, "");

struct file_map {
	uint32_t id;
	uint32_t max_entries;
	uint32_t flags;
	uint32_t buckets;
	char name[HAUL_MAP_NAME];
};

struct file_header {
	uint32_t bytes; /* in the file, its crc included */
	uint32_t flags;
	uint32_t map_type;
	uint32_t key_size, value_size, slot_bytes;
	uint32_t cpus;
	uint32_t block_entries;
	uint32_t map_count;
	uint8_t boot_id[FILE_BOOT_ID_BYTES];
	struct file_map *maps; /* map_count; whose, says who fills the header in */
	uint32_t crc;
};

struct file_block {
	uint32_t map_index;
	uint32_t count;
	uint32_t sequence;
	uint32_t cursor_bytes;
	bool last;
	uint8_t cursor[HAUL_MAP_KEY_MAX];
};

/* What blocks add up to so far; the same when they are written and when they are read. */
struct file_totals {
	uint64_t blocks;
	uint64_t entries;
	uint64_t bytes;  /* of the file, up to behind the last block */
	uint32_t digest; /* of the blocks' crcs */
};
