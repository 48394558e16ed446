/* store/reader_store.h — what the parts of a store's reader share.
 *
 * Model      A call begins by taking a snapshot and ends by dropping it: what it returns was
 *            copied into the arena, so that an idle reader holds nothing. Records by name are one
 *            batch of asks; records in order are pieces of a walk.
 * Memory     at reader_store_new: arena (results), work (visits, twice as much), asks.
 * Threads    one. */
#pragma once

#include <errno.h>

#include "store/lsm.h"
#include "store/reader_state.h"
#include "store/record.h"
#include "store/snapshot.h"
#include "store/vectors.h"

enum {
	READER_BYTES = 4 << 20,      /* of results, unless told otherwise */
	READER_BYTES_MIN = 64 << 10, /* more than the longest value */
	READER_ASKS = 4096,          /* keys that are looked for at once */
	READER_AHEAD = 8,            /* blocks that a scan reads at once */
};

struct reader_store {
	struct haul_reader reader; /* first */
	struct vectors *vectors;
	struct lsm_scratch *scratch;
	struct table_ask *asks; /* READER_ASKS */
	struct arena arena;
	uint8_t *work;
	uint64_t work_bytes;
	struct snapshot seen; /* taken in a call; fixed: pinned */
};

static inline struct reader_store *reader_store_of(struct haul_reader *reader)
{
	return (struct reader_store *)(void *)reader;
}

/* 0 or -ECANCELED; then nothing is to be ended. The second is for calls that may take long. */
int reader_begin(struct reader_store *store);
int reader_begin_long(struct reader_store *store);
/* Returns result, so that "return reader_end(store, count)" reads well. */
int reader_end(struct reader_store *store, int result);

/* Look for asks[0 … count): keys have been filled in, values go behind what is in `arena`. How many
 * from the first on were answered before the arena was full; the others were not. */
uint32_t reader_ask(struct reader_store *store, enum tree tree, uint32_t count,
		    struct arena *arena);
/* What an ask that was answered comes to: 0, -ENOENT, -EIO, HAUL_ECORRUPT. */
static inline int reader_status(const struct table_ask *ask)
{
	if (ask->status != 0)
		return ask->status;
	return ask->row.op == 0 || ask->row.deleted ? -ENOENT : 0;
}
/* Nodes of the ids that stand in asks; the first error (none may be missing). */
int reader_nodes(struct reader_store *store, uint32_t count, struct haul_node *nodes);
/* Edges of the keys that stand in asks, from TREE_OUT; as reader_nodes. */
int reader_edges(struct reader_store *store, uint32_t count, struct haul_edge *edges);
void reader_edge_put(const struct tree_key *out, const struct table_ask *ask,
		     struct haul_edge *edge);

/* ---- walks ---- */

struct reader_walk {
	struct snapshot_walk walk; /* zeros: nothing to walk */
	struct rows rows;
	uint32_t at;
	bool ended; /* no row was left */
};
struct reader_range {
	enum tree tree;
	struct tree_key from, to;
	bool prefix;
	uint32_t ahead;
};
int reader_walk_open(struct reader_store *store, struct reader_walk *walk,
		     const struct reader_range *range);
void reader_walk_close(struct reader_walk *walk);
/* Sees to it that rows.at is a row: 1, 0 at the end, negative; -ECANCELED too. */
int reader_walk_more(struct reader_store *store, struct reader_walk *walk);

static inline struct tree_key reader_walk_key(const struct reader_walk *walk)
{
	struct tree_key key = { { 0 } };

	for (uint32_t i = 0; i < walk->rows.words; i++)
		key.word[i] = walk->rows.key[(size_t)walk->at * walk->rows.words + i];
	return key;
}

/* The value of the row, copied behind what is in the arena. NULL: it does not fit. */
const uint8_t *reader_walk_value(struct reader_store *store, const struct reader_walk *walk,
				 uint32_t *ret_bytes);

/* Rows of one node's edges: from its first word on, of one type or of all. */
struct reader_range reader_range_edges(enum tree tree, uint64_t node, uint32_t type);

/* ---- the calls ---- */

int reader_scan(struct haul_reader *reader, struct haul_scan *scan, struct haul_node *nodes,
		uint32_t max);
int reader_scan_edges(struct haul_reader *reader, struct haul_cursor *cursor,
		      struct haul_edge *edges, uint32_t max);
int reader_scan_embeddings(struct haul_reader *reader, struct haul_cursor *cursor,
			   struct haul_embedding *embeddings, uint32_t max);
int reader_neighbours(struct haul_reader *reader, struct haul_neighbours *query,
		      struct haul_edge *edges, uint32_t max);
int reader_traverse(struct haul_reader *reader, const struct haul_traverse *query,
		    struct haul_visit *visits, uint32_t max, bool *ret_complete);
int reader_path(struct haul_reader *reader, const struct haul_path *query, uint64_t *nodes,
		uint32_t max);
