/* store/memtable.h — rows in memory, not yet in a table.
 *
 * Model      Rows of all trees are appended and never changed; a hash table a hashed tree finds the
 *            newest row of a key, a chain its older versions; TREE_OUT, TREE_IN and TREE_OF_NODE
 *            also chain the rows with the same first word. A group that fails is aborted: its rows
 *            stay where they are, and nobody sees them. Sorted order is made when it is asked for
 *            (radix sort), for all rows there were at that moment.
 * Memory     at memtable_new: `bytes` of rows and values, the hash tables for them, and an eighth
 *            for their order. What they are sorted in is one memory for all tables of a store.
 * Threads    one writer; any number of readers at the same time, who see rows up to the op they
 *            give (which must have been published to them with release order after it was put).
 * Errors     memtable_put: HAUL_EFULL.
 * Limits     MEMTABLE_BYTES_MIN … MEMTABLE_BYTES_MAX.
 * Source     docs/design/0020. */
#pragma once

#include <stddef.h>

#include "store/lend.h"
#include "store/tree.h"

enum { MEMTABLE_BYTES_MIN = 64 << 10 };
#define MEMTABLE_BYTES_MAX (UINT64_C(4) << 30)

struct memtable;
/* For tables of at most `bytes`; outlives them. -ENOMEM. */
struct memtable_sorter;
int memtable_sorter_new(struct memtable_sorter **ret_sorter, uint64_t bytes);
void memtable_sorter_free(struct memtable_sorter *sorter);
uint64_t memtable_sorter_memory(uint64_t bytes);

/* -ENOMEM; HAUL_ELIMIT. */
int memtable_new(struct memtable **ret_table, uint64_t bytes, struct memtable_sorter *sorter);
void memtable_free(struct memtable *table);
/* Forget all rows; nobody reads. */
void memtable_clear(struct memtable *table);

/* Take from the machine what puts will come to soon, if it was not: first what finds rows, then
 * `ahead` bytes beyond what was put; one large page a call. false: there is none left. The writer
 * may be putting meanwhile; only one thread at a time does this. */
bool memtable_ahead(struct memtable *table, uint64_t ahead);

/* Address space of a table with `bytes` of rows: what memtable_new takes. */
uint64_t memtable_memory(uint64_t bytes);

/* What a row takes of `bytes`, exactly: the executor's budget counts in it. */
uint32_t memtable_cost(enum tree tree, uint32_t value_bytes);
uint64_t memtable_used(const struct memtable *table);
uint64_t memtable_rows(const struct memtable *table, enum tree tree);

int memtable_put(struct memtable *table, enum tree tree, const struct tree_key *key, uint64_t op,
		 const struct tree_row *value); /* of it: value, bytes, deleted; copied */
void memtable_prefetch(const struct memtable *table, enum tree tree, const struct tree_key *key);
/* Newest row with op <= op_max; row.op = 0 if there is none. */
void memtable_get(const struct memtable *table, enum tree tree, const struct tree_key *key,
		  uint64_t op_max, struct tree_row *ret_row);

/* Whether there is a row with this first word at all, seen or not (TREE_OUT, TREE_IN,
 * TREE_OF_NODE). */
bool memtable_prefix(const struct memtable *table, enum tree tree, uint64_t word);

/* Rows put since the mark are never seen by anyone (abort of a group). */
struct memtable_mark {
	uint64_t used;
	uint32_t rows[TREES];
};
void memtable_mark(const struct memtable *table, struct memtable_mark *ret_mark);
void memtable_abort(struct memtable *table, const struct memtable_mark *mark);

/* Rows of a tree in order, at most op_max, from key `from` (NULL: the first) on, all versions, of
 * one op the last. Set op_max and lend before memtable_walk_open. The order of a tree is kept by
 * the table and added to, so that walk after walk does not sort anew. */
struct memtable_walk {
	struct source source;
	uint64_t op_max;
	struct lend *lend;                 /* whose memory it takes; NULL: from malloc */
	struct memtable_walk_state *state; /* private */
};
/* Sorts if need be. With prefix set (TREE_OUT, TREE_IN, TREE_OF_NODE) only rows with the first
 * word of `from`, found by their chain. -ENOMEM. */
int memtable_walk_open(struct memtable_walk *walk, const struct memtable *table, enum tree tree,
		       const struct tree_key *from, bool prefix);
void memtable_walk_close(struct memtable_walk *walk);
