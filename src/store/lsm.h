/* store/lsm.h — the log-structured merge tree: memory tables, levels of runs, merging, snapshots.
 *
 * Model      Level 0 gets a run (sorted, split into tables) a tree at every flush of a memory
 *            table; when a level of a tree has level_factor runs they are merged into one run of
 *            the next level; the last level merges into itself. So every row is written once a
 *            level. A frozen memory table is flushed as a whole and made durable by one root:
 *            manifest blob, log place. What is visible to readers is (view, op): taken together, so
 *            that no row a reader may see is ever missing from its view. Pinned ops keep their
 *            versions through merges.
 * Units      bytes; ops.
 * Ownership  a view is held by its reader and dropped; it keeps its memory tables and tables alive.
 * Memory     at lsm_open: LSM_MEMORIES memory tables, of which the third stays untouched until a
 *            reader is slower than a flush; cache, builder. Filters and indexes of tables take
 *            filter_bytes: filters that do not fit are left out, of the deepest levels first.
 *            Indexes all stay, 64 bytes a block, though they alone took more.
 * Threads    executor: lsm_put, lsm_find, lsm_mark, lsm_abort, lsm_freeze. One background thread:
 *            lsm_step. Any: views, pins, lsm_publish, lsm_status, lsm_throttle.
 * Errors     -EIO, HAUL_ECORRUPT, -ENOSPC from lsm_step: nothing is lost, the old state stays.
 * Limits     LSM_PINS pinned snapshots.
 * Source     docs/design/0017; O'Neil et al., 1996; tiering: Dayan and Idreos, 2018. */
#pragma once

#include <haul/err.h>
#include <haul/store.h>
#include "os/os.h"
#include "store/log.h"
#include "store/memtable.h"
#include "store/table.h"

enum {
	LSM_REST_NS = 200000000,
	LSM_PINS = 32,
	LSM_MEMORIES = 3,
	LSM_LEVELS_MAX = 8,
	/* A frame writes at most so much into the memory table (memtable_cost): the executor
	 * counts. */
	LSM_FRAME_BUDGET = 24 << 20,
};

struct lsm_options {
	struct media *media; /* borrowed */
	struct os *os;
	uint64_t memtable_bytes; /* freeze at this many; each takes LSM_FRAME_BUDGET more */
	uint64_t cache_bytes;
	uint64_t filter_bytes; /* filters and indexes of tables; 0 = as many as there are */
	uint64_t table_bytes;  /* 0 = TABLE_BYTES; tests take less */
	uint32_t block_bytes;  /* 0 = TABLE_BLOCK */
	uint64_t frame_budget; /* 0 = LSM_FRAME_BUDGET; tests take less */
	uint32_t levels, level_factor;
	bool read_only;
};

struct lsm;
/* Reads root and manifest (root version 0: empty store of `uuid`), opens all tables, deletes blobs
 * that no manifest names. *ret_place: where the log goes on. */
int lsm_open(struct lsm **ret_lsm, const struct lsm_options *options, uint8_t ret_uuid[16],
	     struct log_place *ret_place, struct haul_err *err);
void lsm_close(struct lsm *lsm);
/* Root of a new store. */
int lsm_make(struct media *media, const uint8_t uuid[16], struct haul_err *err);

/* ---- the executor ---- */

/* Newest row of each key, executed but perhaps not durable; values point into the arena or into a
 * memory table, good until the next lsm_ready or lsm_freeze. Keys in any order, duplicates allowed.
 * Filters are asked for all keys first, then tables are read in batches. arena NULL: values are not
 * wanted. Returns the first status that is not 0. */
int lsm_find(struct lsm *lsm, enum tree tree, struct table_ask *asks, uint32_t count,
	     struct arena *arena);
/* The memory tables only, and no table: for what is known to have been looked for already. */
void lsm_find_memory(struct lsm *lsm, enum tree tree, const struct tree_key *key,
		     struct tree_row *ret_row);
/* The key will be put soon: fetch what that will touch. */
void lsm_prefetch(struct lsm *lsm, enum tree tree, const struct tree_key *key);
int lsm_put(struct lsm *lsm, enum tree tree, const struct tree_key *key, uint64_t op,
	    const struct tree_row *row);
/* All rows with the first word `word`, newest versions, not deleted ones; executor's sight. told
 * non-zero stops. */
typedef int lsm_told(const struct tree_key *key, const struct tree_row *row, void *arg);
int lsm_prefix(struct lsm *lsm, enum tree tree, uint64_t word, lsm_told *told, void *arg);
void lsm_mark(struct lsm *lsm, struct memtable_mark *ret_mark);
void lsm_abort(struct lsm *lsm, const struct memtable_mark *mark);
/* Between frames: whether the next may start. 0; -EAGAIN: the memory table has to be frozen and the
 * frozen one is not flushed yet (wait for lsm_step). Freezes by itself when it can; `place` is that
 * of the last frame executed. */
int lsm_ready(struct lsm *lsm, const struct log_place *place);
/* Freeze now, whatever the size (checkpoint). -EAGAIN as above; 0 also if there is nothing. */
int lsm_freeze(struct lsm *lsm, const struct log_place *place);

/* ---- readers ---- */

struct lsm_view; /* immutable */
/* ops up to this are durable: readers may see them. */
void lsm_publish(struct lsm *lsm, uint64_t op);
struct lsm_view *lsm_view_take(struct lsm *lsm, uint64_t *ret_op);
/* Only to keep the tables of the checkpoint, for as long as it takes: no memory table with it. A
 * view that is held while two memory tables fill up makes writers wait. */
struct lsm_view *lsm_view_tables_new(struct lsm *lsm); /* NULL: no memory */
void lsm_view_drop(struct lsm *lsm, struct lsm_view *view);
int lsm_pin(struct lsm *lsm, uint64_t *ret_op); /* -EBUSY */
void lsm_unpin(struct lsm *lsm, uint64_t op);

/* As lsm_find, of a view. asks[i].op_max is set by the caller. scratch of one thread. */
struct lsm_scratch; /* for up to `asks` keys a call */
int lsm_scratch_new(struct lsm_scratch **ret_scratch, uint32_t asks);
void lsm_scratch_free(struct lsm_scratch *scratch);
/* Values of the next lsm_get go into arena; NULL: they are not wanted. Returns scratch. */
struct lsm_scratch *lsm_into(struct lsm_scratch *scratch, struct arena *arena);
void lsm_get(struct lsm_view *view, enum tree tree, struct table_ask *asks, uint32_t count,
	     struct lsm_scratch *scratch);

/* Newest visible rows in order, deletions left out, from key `from` up to and with `to`; columns
 * are good until the next call. prefix: from and to have the same first word (filters can help). */
struct lsm_walk; /* a source */
struct lsm_walk_options {
	enum tree tree;
	struct tree_key from, to;
	uint64_t op_max;
	bool prefix;
	uint32_t ahead;    /* blocks to read at once; 0 = 1 */
	struct lend *lend; /* whose memory it takes; NULL: from malloc */
};
int lsm_walk_open(struct lsm_walk **ret_walk, struct lsm_view *view,
		  const struct lsm_walk_options *options);
int lsm_walk_next(struct lsm_walk *walk, struct rows *ret_rows); /* 1, 0, negative */
void lsm_walk_close(struct lsm_walk *walk);

/* ---- the background ---- */

/* One bounded piece of work: flush before merges, upper levels first. durable: the log's; a flush
 * becomes the root only when all of its ops are. 1: there may be more to do; 0: nothing; negative:
 * to be tried again. What only helps readers begins when nothing was put for LSM_REST_NS: after a
 * 0, lsm_rest_ns says when to call again although nothing happened; INT64_MAX: not at all. */
int lsm_step(struct lsm *lsm, uint64_t durable);
int64_t lsm_rest_ns(struct lsm *lsm);
/* Before the first put: take the memory that any of them needs, some 50 ms where pages are slow.
 * What comes behind it, lsm_step takes ahead of the puts. */
void lsm_ahead(struct lsm *lsm);
/* Whether lsm_step has something to do that does not wait for writers to rest. */
bool lsm_busy(struct lsm *lsm);
/* Merge all runs into one a tree; call lsm_step until it says 0. */
void lsm_compact(struct lsm *lsm);
/* How long the frame just executed shall be held back, so that merges keep up: grows smoothly with
 * the debt, at most 20 ms. */
int64_t lsm_throttle_ns(struct lsm *lsm);
/* Fills in what is its own. */
void lsm_status(struct lsm *lsm, struct haul_store_status *ret_status);
/* Place of the last checkpoint; the log before it is not needed. */
struct log_place lsm_checkpoint(struct lsm *lsm);
/* Tables of the checkpoint, for check and backup. */
int lsm_tables(struct lsm *lsm, int (*told)(const struct table_info *info, void *arg), void *arg);
