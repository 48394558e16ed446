/* store/store_parts.h — what the files of the store share: the store itself.
 *
 * Model      media under log and lsm, exec on the lsm, commit on all of them, the keeper beside.
 * Files      store.c (open, close), store_commit.c (commit, submit, flush), store_memory.c,
 *            store_status.c, store_replay.c, store_care.c (compact, backup, restore),
 *            store_check*.c, store_repair.c, commit*.c, keeper.c.
 * Threads    as haul/store.h. */
#pragma once

#include "store/commit.h"
#include "store/keeper.h"
#include "store/vectors.h"

enum { STORE_LEVELS = 4, STORE_LEVEL_FACTOR = 10 };

/* How options.memory is shared out. */
struct store_memory {
	uint64_t total;
	uint64_t memtable; /* freeze at so many */
	uint64_t tables;   /* what the memory tables take */
	uint64_t frame;    /* budget of one */
	uint64_t cache;
	uint64_t filters; /* and indexes of tables */
	uint64_t vectors;
	uint64_t log;   /* each of two buffers */
	uint64_t fixed; /* buffers, budgets and what is of one size */
};
int store_memory_split(struct store_memory *ret_memory, const struct store_deep *deep,
		       const struct haul_store_options *options, struct haul_err *err);
/* table_bytes: what filters and indexes take, which may be less, and with indexes of very many
 * tables more. */
uint64_t store_memory_taken(const struct store_memory *memory, uint64_t table_bytes);

struct haul_store {
	struct store_deep deep;
	struct haul_store_options options;
	struct vfs *vfs_own; /* NULL: borrowed */
	struct store_memory memory;
	uint8_t uuid[16];
	struct media *media;
	struct log *log;
	struct lsm *lsm;
	struct vectors *vectors;
	struct exec *exec;
	struct commit commit;
	struct keeper keeper;
	struct haul_stats stats_lsm;
	bool commit_open, keeper_open, entered;
};

/* Executes what the log holds behind place, and decides about its end. *ret_place: where the log
 * goes on. */
int store_replay(struct haul_store *store, const struct log_place *place,
		 struct log_place *ret_place, struct haul_err *err);
/* In words: "log/… at offset …: op … is damaged: …". */
void store_verdict_text(const struct log_report *report, uint64_t segment_bytes, char *text,
			size_t bytes);
/* Make a folder, durably, or find one. */
int store_folder_make(const char *path, struct haul_err *err);
/* All of it durable in tables; the log is not needed to open again. */
int store_checkpoint(struct haul_store *store);
int store_stats_enter(struct haul_store *store);
void store_stats_remove(struct haul_store *store);
