/* store/run.h — a run: sorted tables of one tree that do not overlap, as one.
 *
 * Model      Never changed. Keys ascend over its tables and no key is in two of them. Bounds stand
 *            in one array, so that the table of a key is found without touching tables.
 * Ownership  counted; holds its tables.
 * Threads    any, but for `merging`, which belongs to the background thread. */
#pragma once

#include "store/table.h"

struct run_bound {
	struct tree_key first, last;
};

struct run {
	uint32_t holds; /* atomic */
	enum tree tree;
	uint32_t level;
	uint32_t count;
	uint64_t rows, bytes;
	bool merging; /* a merge under way reads it */
	const struct run_bound *bound;
	struct table *table[];
};

/* Takes over one hold of each table. NULL: no memory, and the holds stay the caller's. */
struct run *run_new(enum tree tree, uint32_t level, struct table *const *tables, uint32_t count);
struct run *run_hold(struct run *run);
void run_drop(struct run *run);
/* First table from `from` on that does not end before key; run->count if there is none. */
uint32_t run_find(const struct run *run, uint32_t from, const struct tree_key *key);

/* Rows of its tables [table, end), from a key on; tables that begin after `to` are left out. */
struct run_walk {
	struct source source;
	struct run *run; /* borrowed */
	uint32_t table, end, words;
	uint32_t ahead;
	bool bypass, open;
	bool filter; /* leave tables out whose filter knows no row with the hash `prefix` */
	uint64_t prefix;
	struct tree_key from, to;
	struct lend *lend; /* whose memory it takes; NULL: from malloc */
	struct table_walk walk;
};
void run_walk_init(struct run_walk *walk, struct run *run);
void run_walk_done(struct run_walk *walk);
