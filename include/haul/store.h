/* haul/store.h — a durable graph, embedded in a program and written in batches.
 *
 * Model      A store is a folder. Changes (graph.h) are committed as one frame: it is appended to
 *            the log, executed, and its results are told when the log is on disk. Frames of many
 *            threads share a write and an fdatasync; the sync of one overlaps the execution of the
 *            next. A group fails alone and whole; the others of its frame are kept. Records live in
 *            a log-structured merge tree: memory tables, then levels of sorted immutable tables,
 *            merged in the background and paced by bytes. Opening replays the log behind the last
 *            checkpoint; a torn end is cut, damage to what was acknowledged refuses to open.
 * Units      bytes, _ns nanoseconds; op is the number of a frame in the log, from 1.
 * Ownership  changes are read by the call and stay the caller's.
 * Memory     options.memory bounds it, taken at open; but for indexes and filters of tables, which
 *            come and go and have a sixteenth of it. Filters that do not fit are left out.
 * Threads    any thread may commit, submit, flush and make readers at the same time. Two threads of
 *            the store's own: one syncs what was submitted, one merges.
 * Errors     open: -EBUSY (another process has it), HAUL_ECORRUPT (err says what and that
 *            `haul store repair` can tell more), HAUL_EVERSION, -EROFS, -ENOSPC, -ENOENT.
 *            commit: HAUL_ELIMIT, -EROFS, -ENOSPC (nothing of it is kept; it may be tried again),
 *            -EIO: an fdatasync failed; what was under way is unknown, nothing more is taken, open
 *            again.
 * Blocking   commit waits for the disk; submit only when too much is under way.
 * Limits     see graph.h. HAUL_STORE_IN_FLIGHT frames submitted and not told. Indexes of tables
 *            stay in memory, 2 MiB for 1 GiB: where they outgrow their sixteenth (24 GiB of records
 *            with the usual memory), there are no filters, and memory is over options.memory.
 * Source     docs/design/0015 (model), 0016 (log), 0017 (tables), 0022 (commits). */
#pragma once

#include <haul/graph.h>
#include <haul/reader.h>
#include <haul/stats.h>

enum { HAUL_STORE_IN_FLIGHT = 64 };

struct haul_store_options {
	uint64_t memory;         /* 0 = 768 MiB, at least 128 MiB */
	uint64_t memtable_bytes; /* 0 = by memory: level 0 takes tables of this size */
	uint32_t levels;         /* 0 = 4 */
	uint32_t level_factor;   /* 0 = 10: a level holds so many of the one above */
	int64_t sync_add_ns;     /* each sync takes so much longer: for benches */
	bool read_only; /* opens beside no writer; nothing is changed, not even a torn end */
	struct haul_stats_table *stats; /* entered under "store.commit", "store.log", "store.lsm" */
};

struct haul_store; /* opaque */

/* Make an empty store in a folder that does not exist or is empty. -EEXIST says what is there. */
HAUL_API int haul_store_init(const char *path, struct haul_err *err);
HAUL_API int haul_store_open(struct haul_store **ret_store, const char *path,
			     const struct haul_store_options *options, struct haul_err *err);
/* Tells what is under way, makes a checkpoint, lets go. Readers are closed before. */
HAUL_API int haul_store_close(struct haul_store *store);

struct haul_commit {
	uint64_t op;     /* number of the frame; versions of records it wrote */
	uint32_t failed; /* changes whose status is not 0 */
};
/* Durable when it returns 0. statuses: one a change, may be NULL. An open group is -EINVAL. */
HAUL_API int haul_store_commit(struct haul_store *store, const struct haul_changes *changes,
			       int32_t *statuses, struct haul_commit *ret_commit);
/* The same without waiting. done is called once, in any thread, in the order of submits, with
 * error 0 or as commit's; statuses (count = haul_changes_count) are good until it returns. changes
 * may be used again when submit has returned. done must not call the store, submit excepted. */
typedef void haul_store_done(void *arg, int error, const struct haul_commit *commit,
			     const int32_t *statuses, uint32_t count);
HAUL_API int haul_store_submit(struct haul_store *store, const struct haul_changes *changes,
			       haul_store_done *done, void *arg);
/* Wait until all submitted before has been told. 0, or the error of the store. */
HAUL_API int haul_store_flush(struct haul_store *store);

/* bytes: memory for one call's results, 0 = 4 MiB, outside of options.memory. */
HAUL_API int haul_store_reader(struct haul_store *store, uint64_t bytes,
			       struct haul_reader **ret_reader);

/* ---- care ---- */

struct haul_store_status {
	uint8_t uuid[16];
	uint64_t op_last;       /* last frame durable */
	uint64_t op_checkpoint; /* what is behind it is in the log only */
	uint64_t log_bytes;     /* since then */
	uint64_t memtable_bytes;
	uint64_t memory_bytes;      /* taken */
	uint64_t filter_bytes;      /* of it: filters and indexes of tables */
	uint64_t tables_unfiltered; /* looking for a key that is not there may read them */
	uint32_t level_count;
	struct {
		uint64_t runs, tables, rows, bytes;
	} level[8];
	uint64_t debt_bytes;                                /* to be merged */
	uint64_t bytes_logged, bytes_flushed, bytes_merged; /* since open: write amplification */
	uint64_t flushes, merges, checkpoints;
	int64_t sync_ns; /* average of an fdatasync */
	double arrivals_per_s;
	uint64_t throttle_ns; /* commits were held back for so long, all in all */
	uint64_t throttle_max_ns;
};
HAUL_API void haul_store_status(struct haul_store *store, struct haul_store_status *ret_status);
/* Merge everything into one run a tree and reclaim space. Non-zero from progress stops: -ECANCELED.
 * */
typedef int haul_store_progress(uint64_t done, uint64_t total, void *arg);
HAUL_API int haul_store_compact(struct haul_store *store, haul_store_progress *progress, void *arg);
/* A copy of the durable state in a new folder, while others read and write. */
HAUL_API int haul_store_backup(struct haul_store *store, const char *path,
			       haul_store_progress *progress, void *arg, struct haul_err *err);
/* Verify a backup and make a store of it: of another uuid, so that both can live. */
HAUL_API int haul_store_restore(const char *backup, const char *path, haul_store_progress *progress,
				void *arg, struct haul_err *err);

/* Verify a store that nobody has open: root, every block of every table, their order, log chain,
 * adjacency both ways, keys. Each finding is told; returns how many, or a negative code. */
struct haul_store_finding {
	const char *place; /* file, and offset where there is one */
	const char *what;
	bool loss; /* acknowledged data is affected */
};
typedef void haul_store_told(const struct haul_store_finding *finding, void *arg);
HAUL_API int haul_store_check(const char *path, haul_store_told *told,
			      haul_store_progress *progress, void *arg, struct haul_err *err);
/* What it takes to open it again. Without accept_loss says (told) what would be lost and changes
 * nothing; with it cuts the log where it is broken, drops tables that cannot be read. */
HAUL_API int haul_store_repair(const char *path, bool accept_loss, haul_store_told *told, void *arg,
			       struct haul_err *err);
