/* store/lsm_state.h — what the parts of the merge tree share.
 *
 * Model      lsm.c opens and closes; lsm_write.c is the executor's; lsm_view.c has views, pins and
 *            the memory tables; lsm_find.c looks for keys; lsm_walk.c goes along them; lsm_step.c
 *            chooses background work: lsm_flush.c and lsm_job.c (merges) do it, lsm_plan.c says
 *            what is to be merged, lsm_filters.c which filters stay; manifest.c keeps what lasts.
 * Threads    `lock` guards current, memories' states, pins and dead views. What is marked
 *            "background" belongs to the thread of lsm_step, "executor" to that of lsm_put. */
#pragma once

#include <pthread.h>

#include "store/lsm.h"
#include "store/manifest.h"
#include "store/merge.h"
#include "store/run.h"

enum {
	LSM_FIND = 8192,    /* keys looked for at once by the executor */
	LSM_LEND = 1 << 20, /* a walk of the executor over about 16 tables */
	LSM_JOBS = LSM_LEVELS_MAX + 1,
	LSM_JOB_EXTRA = LSM_LEVELS_MAX, /* the job for idle merging and compaction */
	LSM_COMPRESS_LEVEL = 2,         /* from there on tables are compressed */
};
/* Debt is counted in these: one is all that is allowed. */
enum { LSM_DEBT_ONE = 1024 };
#define LSM_OP_MAX (TREE_DELETED - 1)

struct lsm_memory {
	struct memtable *table;
	uint32_t holds; /* atomic: views, executor */
	bool dirty;     /* to be cleared before it is used again */
	struct log_place place;
};

struct lsm_runs {
	uint32_t count;
	struct run **run; /* newest first */
};

struct lsm_view {
	uint32_t holds; /* atomic */
	struct lsm_view *dead;
	struct lsm_memory *active, *frozen;
	struct log_place place; /* of the checkpoint that its runs are */
	struct lsm_runs tree[TREES];
	struct run *run[];
};

struct lsm_flush { /* background */
	bool active, built, walking;
	enum tree tree;
	uint64_t rows_all, rows_done;
	struct table_builder *builder;
	struct merge *merge;
	struct memtable_walk walk;
	struct run *made[TREES];
	struct table **out;
	uint32_t out_count, out_room;
};

struct lsm_span {
	bool move;
	uint32_t from, to; /* in job->slices */
};
struct lsm_slice {
	struct table *table; /* held by its run */
	uint32_t run, index;
	bool moved;
};

struct lsm_job { /* background */
	struct lsm *lsm;
	bool active, open, compact;
	enum tree tree;
	uint32_t level; /* of what it makes */
	struct run **runs;
	uint32_t run_count;
	bool bottom;           /* nothing older lies behind its runs */
	uint32_t behind;       /* first run of `view` that is older than its own */
	struct lsm_view *view; /* held */
	struct lsm_slice *slices;
	uint32_t slice_count;
	struct lsm_span *spans;
	uint32_t span, span_count;
	struct run_walk *walks;
	struct source **sources;
	struct merge *merge;
	struct table_builder *builder;
	struct table **out;
	uint32_t out_count, out_room;
	uint64_t bytes; /* of its inputs */
};

struct lsm {
	struct lsm_options options;
	struct media *media;
	struct table_cache *cache;
	uint64_t piece_bytes;
	uint8_t uuid[16];
	struct manifest_root root; /* background */
	uint64_t root_version;
	uint64_t blob_next; /* background */
	int made_error;

	pthread_mutex_t lock;
	struct lsm_view *current;
	struct lsm_view *dead;
	struct lsm_memory memory[LSM_MEMORIES];
	struct memtable_sorter *sorter;
	uint64_t pins[LSM_PINS]; /* op + 1; 0 = free */
	uint64_t published;      /* atomic */

	/* executor */
	struct lsm_memory *active, *frozen;
	struct lsm_scratch *scratch;
	struct lend lend; /* lsm_prefix's */

	/* background */
	struct lsm_view *base; /* held: the current one when the step began, or what it installed */
	struct lsm_flush flush;
	struct lsm_job jobs[LSM_JOBS];
	uint64_t *doubt; /* manifests whose root may or may not have been written */
	uint32_t doubt_count, doubt_room;
	uint64_t quiet_used, quiet_op; /* at the last step that found nothing else */
	int64_t quiet_ns;              /* since when it is so */
	bool rest_wanted;              /* something would be merged if nobody wrote */
	bool compact_now[TREES];
	/* Of table_memory: the tables of `base`; all when no filter was to go or come (0: look). */
	uint64_t table_stays, filters_seen;
	bool changed;     /* the runs, since the debt was counted */
	uint32_t compact; /* atomic: lsm_compact was called */
	uint64_t durable;

	/* atomic; for others to read */
	uint64_t flush_done, flush_all; /* rows of the frozen table */
	uint32_t debt_level;            /* of LSM_DEBT_ONE, the worst level's */
	bool work, flush_built;
	uint64_t bytes_flushed, bytes_merged, flushes, merges, checkpoints;
	uint64_t table_memory; /* indexes and filters of all tables that are open */
};

/* ---- lsm_view.c ---- */

/* With room for the runs; holds nothing yet. */
struct lsm_view *lsm_view_new(uint32_t runs);
struct lsm_view *lsm_view_hold(struct lsm_view *view);
/* The current one, held. */
struct lsm_view *lsm_view_current(struct lsm *lsm);
/* A copy of `base` with other runs in one tree: [first, first + count) replaced by `run` (NULL:
 * by nothing). base NULL: no runs at all. */
struct lsm_change {
	enum tree tree;
	uint32_t first, count;
	struct run *run;
	bool compact; /* as a span to be merged: nothing is moved, every hidden row goes */
};
struct lsm_view *lsm_view_change_new(const struct lsm_view *base, const struct lsm_change *changes,
				     uint32_t count);
/* Put it in the place of the current one, with the memory tables of that; `flushed`: without the
 * frozen one. Takes over the hold of view. */
void lsm_view_install(struct lsm *lsm, struct lsm_view *view, bool flushed);
/* base becomes the current one. Its runs are the same, for only the background changes runs. */
void lsm_view_follow(struct lsm *lsm);
/* Free views that nobody holds, clear memory tables. Background. */
void lsm_view_reap(struct lsm *lsm);
/* Ops that somebody may look from, without the visible one; returns how many. */
uint32_t lsm_view_snapshots(struct lsm *lsm, uint64_t *snapshots, uint64_t *ret_visible);
struct lsm_memory *lsm_memory_hold(struct lsm_memory *memory);
void lsm_memory_drop(struct lsm_memory *memory);
/* The one that would be written next: nobody holds it; NULL if there is none. Under the lock. */
struct lsm_memory *lsm_memory_next(struct lsm *lsm);

/* ---- lsm_filters.c, lsm_flush.c, lsm_job.c, lsm_plan.c ---- */

/* With its filter if there is room for one of that level. */
int lsm_table_open(struct lsm *lsm, const struct table_info *info, uint32_t level,
		   struct table **ret_table, struct haul_err *err);
/* Drop filters of a run, or read some that had been dropped: 1; nothing to do: 0. */
int lsm_filters_step(struct lsm *lsm);
int lsm_flush_step(struct lsm *lsm, struct lsm_memory *frozen);
int lsm_flush_finish(struct lsm *lsm, struct lsm_memory *frozen);
void lsm_flush_stop(struct lsm *lsm);
int lsm_job_open(struct lsm *lsm, struct lsm_job *job, const struct lsm_change *span);
int lsm_job_step(struct lsm *lsm, struct lsm_job *job);
void lsm_job_stop(struct lsm *lsm, struct lsm_job *job);
/* Runs of a level that have to be merged: true and where. */
bool lsm_plan_level(const struct lsm *lsm, uint32_t level, struct lsm_change *ret_span);
bool lsm_plan_idle(const struct lsm *lsm, struct lsm_change *ret_span);
bool lsm_plan_compact(const struct lsm *lsm, struct lsm_change *ret_span);
void lsm_plan_debt(struct lsm *lsm);

/* A manifest of the view and the root that names it. */
int lsm_commit(struct lsm *lsm, const struct lsm_view *view);
uint64_t lsm_blob_next(void *arg);

static inline uint64_t lsm_table_bytes(const struct lsm *lsm)
{
	return lsm->options.table_bytes ? lsm->options.table_bytes : TABLE_BYTES;
}
