/* store/table.h — sorted rows of one tree in an immutable blob.
 *
 * Model      A table is blocks of rows in columns (struct rows), then an index of their first keys
 *            and places, a filter over keys, and a footer. A block carries its blob, number, tree
 *            and a checksum, so a block read from the wrong place does not verify. Values are
 *            compressed a block at a time where the level asks and it saves an eighth. A builder
 *            takes rows in order and puts blobs of about TABLE_BYTES. The index of an open table
 *            stays in memory, and the filter unless there is no room for it; blocks come through
 *            the cache (table_cache.h), decompressed and verified.
 * Units      bytes.
 * Ownership  a table is counted: table_hold, table_drop; the last drop frees it, and deletes its
 *            blob when it is doomed.
 * Threads    an open table is read by any number of threads; a builder belongs to one.
 * Errors     HAUL_ECORRUPT: does not verify; -EIO; HAUL_EVERSION.
 * Limits     TREE_VALUE_MAX bytes a value. Keys of one table may repeat (versions) but do not cross
 *            into the next table; versions of one key may take 4 MiB (HAUL_ELIMIT).
 * Source     docs/design/0020; blocked Bloom filter: Putze, Sanders, Singler, 2007. */
#pragma once

#include <stddef.h>

#include <haul/err.h>
#include "store/lend.h"
#include "store/media.h"
#include "store/tree.h"

enum { TABLE_BYTES = 8 << 20, TABLE_BLOCK = 32 << 10, TABLE_FILTER_BITS = 16 /* a key */ };

/* What the manifest keeps of a table. */
struct table_info {
	uint64_t blob;
	uint64_t bytes;
	uint64_t rows;
	uint64_t checksum; /* of its footer */
	uint64_t op_max;
	struct tree_key first, last;
	uint32_t tree;
	uint32_t level;
};

/* ---- building ---- */

struct table_builder;
struct table_builder_options {
	struct media *media;
	enum tree tree;
	uint32_t level;
	bool compress;
	uint64_t table_bytes; /* 0 = TABLE_BYTES */
	uint32_t block_bytes; /* 0 = TABLE_BLOCK */
	/* The number of the next blob. */
	uint64_t (*blob_next)(void *arg);
	/* A table is durable in the media. Non-zero stops with that value. */
	int (*made)(const struct table_info *info, void *arg);
	void *arg;
};
/* Takes its memory here: about two tables. Can be used for one tree after the other. */
int table_builder_new(struct table_builder **ret_builder, uint64_t table_bytes);
void table_builder_free(struct table_builder *builder);
int table_builder_start(struct table_builder *builder, const struct table_builder_options *options);
/* Rows [from, to) of `rows`; in order over all calls. */
int table_builder_add(struct table_builder *builder, const struct rows *rows, uint32_t from,
		      uint32_t to);
int table_builder_finish(struct table_builder *builder); /* puts what is left */

/* ---- reading ---- */

struct table_cache; /* table_cache.h */
struct table {
	struct table_info info;
	struct media *media;
	struct table_cache *cache;
	uint32_t holds; /* atomic */
	bool doomed;    /* delete the blob with the last hold */
			/* the rest is table_state.h's */
};
int table_open(struct table **ret_table, struct media *media, struct table_cache *cache,
	       const struct table_info *info, struct haul_err *err);
/* The same table, once more: with its filter in memory or without it. Whoever reads `before` goes
 * on with it, and the blob stays until both are dropped. */
int table_reopen(struct table **ret_table, struct table *before, bool filtered);
/* Nobody reads yet, and nobody will find a filter: every key passes. */
void table_filter_drop(struct table *table);
/* From now on *counter (atomic) has table_memory in it, until the last drop. */
void table_count(struct table *table, uint64_t *counter);
struct table *table_hold(struct table *table);
void table_drop(struct table *table);
uint64_t table_memory(const struct table *table);       /* of its index and filter */
uint64_t table_filter_bytes(const struct table *table); /* of its filter, in memory or not */
bool table_filtered(const struct table *table);         /* or there is none to be had */

/* Whether the filter lets a key pass; keys are asked for by hash (table_hash) so that one hash
 * serves all tables. words: how many words of the key were hashed (whole key, or 1: any row with
 * that first word). Prefetch some keys ahead. */
uint64_t table_hash(const struct tree_key *key, uint32_t words);
void table_filter_prefetch(const struct table *table, uint64_t hash);
bool table_filter_pass(const struct table *table, uint64_t hash);

/* Newest row with op <= op_max of each of `count` keys, key i in tables[i], within its first …
 * last. Keys of one table stand together, ascending; tables have one media and one cache. row.op
 * and status are 0 before; row.op stays so: none. A value is copied into arena (at a multiple of 8)
 * if there is one; HAUL_EFULL when that is full. Blocks that are not cached are read many at once,
 * whatever tables they are of. */
struct arena {
	uint8_t *data;
	uint64_t bytes, used;
};
struct table_ask {
	struct tree_key key;
	uint64_t hash;
	uint64_t op_max;
	struct tree_row row;
	int32_t status; /* 0, -EIO, HAUL_ECORRUPT, HAUL_EFULL; row.op = 0: not in this table */
	uint32_t runs;  /* lsm_find.c's: so many need not be asked any more */
};
void table_get(struct table *const *tables, struct table_ask *const *asks, uint32_t count,
	       struct arena *arena);

/* Blocks in order, from the first row >= from. ahead: blocks read at once (1 … 64); big merges
 * bypass the cache. */
struct table_walk {
	struct source source;
	struct table *table;
	uint32_t block, ahead;
	bool bypass;
	struct tree_key from;
	bool bounded;           /* set behind table_walk_open: … */
	struct tree_key behind; /* … the first key that is not wanted any more */
	void *state;
};
int table_walk_open(struct table_walk *walk, struct table *table, const struct tree_key *from,
		    uint32_t ahead, bool bypass);
/* Through the cache, and in memory that is lent. */
int table_walk_open_lent(struct table_walk *walk, struct table *table, const struct tree_key *from,
			 uint32_t ahead, struct lend *lend);
void table_walk_close(struct table_walk *walk);

/* Verify all of it: every block, order, filter, footer, and that the rest is zeros. told gets
 * offset and text of each finding. Returns how many; -ENOMEM. */
int table_check(struct media *media, const struct table_info *info,
		void (*told)(uint64_t offset, const char *what, void *arg), void *arg);
