/* store/table_state.h — the bytes of a table, and what its parts share.
 *
 * Model      A blob is blocks, then a tail: filter, index, footer. A block starts at a multiple of
 *            MEDIA_ALIGN where that costs at most an eighth of the block before it, else at one of
 *            TABLE_STEP; the filter starts at a multiple of MEDIA_ALIGN; the footer ends with the
 *            blob, whose length is one. What is between is zeros.
 *            A block is a head and, as it is or as LZ4 packs it, columns: keys, ops, ends of
 *            values, values. Its checksum covers the head, too, and so the address; the index holds
 *            it again, so a block of an earlier use of the blob's number is not taken for it. The
 *            checksum of the footer covers the whole tail.
 * Threads    what is in memory of an open table is not changed.
 * Units      bytes; little-endian, as all hosts are that this is built for.
 * Source     docs/design/0020; filter: blocked Bloom filter, 8 bits in 32 bytes (Putze, Sanders,
 *            Singler, 2007). */
#pragma once

#include <assert.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "store/table.h"
#include "store/table_cache.h"

enum {
	TABLE_VERSION = 1,
	TABLE_STEP = 64,
	TABLE_HEAD = 64,
	TABLE_FILTER_LINE = 32,
	TABLE_BLOCK_MIN = 256, /* block_bytes at least */
	TABLE_AHEAD_MAX = 64,
};
#define TABLE_MAGIC UINT64_C(0x656c6261746c7568) /* "hultable" */

/* A block is longer than block_bytes only when it holds a single row. */
enum { TABLE_ROW_MAX = TABLE_HEAD + TREE_WORDS_MAX * 8 + 8 + 4 + TREE_VALUE_MAX };
static_assert((int)TABLE_ROW_MAX <= (int)TABLE_CACHE_LARGE, "the longest block has a frame");

enum table_packing { TABLE_RAW, TABLE_LZ4 };
struct table_block {
	uint64_t check; /* XXH3 of what follows it, up to `bytes` */
	uint64_t blob;
	uint32_t number;
	uint16_t tree;
	uint8_t words;
	uint8_t packing;
	uint32_t bytes; /* in the blob, head included */
	uint32_t raw;   /* unpacked, head included */
	uint32_t rows;
	uint32_t heap; /* bytes of values */
	uint64_t reserved[3];
};
static_assert(sizeof(struct table_block) == TABLE_HEAD, "the head has no holes");

enum { TABLE_CONTINUES = 1 };
struct table_entry { /* of the index: a block */
	struct tree_key first;
	uint64_t offset;
	uint64_t check;
	uint32_t bytes, raw, rows;
	uint32_t flags; /* TABLE_CONTINUES: its first key is the last of the block before, too */
};
static_assert(sizeof(struct table_entry) == 56, "an entry has no holes");

struct table_footer {
	uint64_t magic;
	uint32_t version;
	uint32_t tree;
	uint32_t level;
	uint32_t blocks;
	uint64_t blob;
	uint64_t bytes;
	uint64_t rows;
	uint64_t op_max;
	uint64_t tail;  /* where the filter starts */
	uint64_t index; /* where the index starts */
	uint32_t lines; /* of the filter; 0: there is none */
	uint32_t reserved;
	struct tree_key first, last;
	uint64_t check; /* XXH3 of the tail up to here */
};
static_assert(sizeof(struct table_footer) == 136, "a footer has no holes");

/* A table as it is opened: the public part first. */
struct table_whole {
	struct table table;
	uint32_t words;
	uint32_t blocks;
	const struct table_entry *entry;
	const uint32_t *filter; /* lines of 8 words; NULL: not in memory, or there is none */
	uint32_t lines;
	const uint64_t *word; /* first word of each block's first key */
	struct table *heir;   /* held: the same table, open once more (table_reopen) */
	uint64_t *counter;    /* table_count; NULL: nobody counts */
	uint64_t memory;      /* taken */
};
static inline const struct table_whole *table_whole(const struct table *table)
{
	return (const struct table_whole *)(const void *)table;
}

static inline uint64_t table_round(uint64_t bytes, uint64_t step)
{
	return (bytes + step - 1) / step * step;
}

/* ---- blocks (table_block.c) ---- */

/* Bytes of the columns of a block with so many rows and bytes of values, head included. */
static inline uint64_t table_raw_bytes(uint32_t words, uint64_t rows, uint64_t heap)
{
	return TABLE_HEAD + rows * (words * 8U + 8 + 4) + heap;
}

static inline struct rows table_rows(const struct table_block *block)
{
	const uint8_t *data = (const uint8_t *)block + TABLE_HEAD;
	struct rows rows = { .count = block->rows, .words = block->words };
	rows.key = (const uint64_t *)(const void *)data;
	rows.op = rows.key + (size_t)block->rows * block->words;
	rows.end = (const uint32_t *)(const void *)(rows.op + block->rows);
	rows.heap = (const uint8_t *)(rows.end + block->rows);
	return rows;
}

/* What a block must be: from the index. */
struct table_block_at {
	uint64_t blob;
	uint32_t number;
	uint32_t tree, words;
	const struct table_entry *entry;
};
uint64_t table_block_check(const struct table_block *block);
/* `stored` has entry->bytes. It is verified and unpacked into raw, which has entry->raw; raw may be
 * stored itself if the block is not packed. HAUL_ECORRUPT. */
int table_block_open(const struct table_block_at *at, const uint8_t *stored, uint8_t *raw);

/* ---- filter (table_filter.c) ---- */

uint32_t table_filter_lines(uint64_t keys);
void table_filter_build(uint32_t *filter, uint32_t lines, const uint64_t *hashes, uint64_t count);

/* ---- tail (table_open.c) ---- */

/* Read the tail of a blob and prove it to be that of info. tail is from malloc. */
struct table_tail {
	uint8_t *data;
	uint64_t bytes;
	const struct table_footer *footer;
	const struct table_entry *entry;
	const uint32_t *filter;
};
int table_tail_load(struct table_tail *ret_tail, struct media *media, const struct table_info *info,
		    struct haul_err *err);

/* ---- blocks in memory (table_read.c) ---- */

/* A block that is wanted: in a frame of the cache, or in the spare memory of its reader. */
enum table_how { TABLE_HAVE, TABLE_READS, TABLE_WAITS };
struct table_want {
	const struct table *table; /* these two are the caller's to say */
	uint32_t number;
	uint32_t frame; /* TABLE_CACHE_NONE: it has none */
	enum table_how how;
	int32_t status;
	struct table_spare *spare; /* where it is read to, NULL: straight into its frame */
	const struct table_block *block;
};
/* Of any tables of one media and cache. Begin with as many as there is memory for, at least one;
 * returns how many. Then read those that nobody else reads, and only after that wait for those that
 * others read. */
uint32_t table_want_begin(struct table_want *wants, uint32_t count);
void table_want_read(struct table_want *wants, uint32_t count);
void table_want_wait(struct table_want *wants, uint32_t count);
void table_want_end(const struct table_want *wants, uint32_t count);

/* The block in which rows from `key` on start. */
uint32_t table_block_of(const struct table_whole *whole, const struct tree_key *key);
/* Where in its block a key may stand, going by the index; a guess. */
uint32_t table_guess(const struct table_whole *whole, uint32_t block, const struct tree_key *key);
/* First row that is not before key; quick when the guess is near. */
uint32_t table_seek(const struct rows *rows, const struct tree_key *key, uint32_t guess);
