/* store/commit.h — the way of a frame: executed, logged, made durable, told; many callers share it.
 *
 * Model      A caller's frame is an item. It waits in a queue, is executed and put into the log
 *            (then it is staged), and is told once the log is durable behind it. There are two
 *            roles, each taken by at most one thread at a time: who executes takes all that waits,
 *            one behind the other; who writes carries all that is staged to the disk in one write.
 *            A caller takes whichever role is free and has work, and sleeps only when others do
 *            both; so a lone caller does all by itself and never switches threads, and frames are
 *            executed while the ones before are written. Who lets go of a role wakes one who can
 *            take it. What was submitted is written and told by the store's log thread; without
 *            threads by commit_pump.
 *            The gate of haul/batch.h decides when a turn of executing ends and when what is staged
 *            is written: at once when no write is under way.
 * Units      changes, bytes, _ns nanoseconds.
 * Memory     at commit_open.
 * Threads    any; commit_open and commit_close: one.
 * Errors     an error of the log is final: it is told to all that wait and to all who come.
 * Limits     HAUL_STORE_IN_FLIGHT submitted items. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <haul/batch.h>
#include "store/store_state.h"

enum commit_stage { COMMIT_WAITS, COMMIT_STAGED, COMMIT_TOLD };
enum { COMMIT_STAGE_MASK = 3, COMMIT_LOOK = 4 }; /* of waiter.word */

/* Who waits for an item: on the stack of its thread. */
struct commit_waiter {
	_Atomic uint32_t
		word; /* the stage it got to, and COMMIT_LOOK at every call to look again */
	bool asleep;
};

/* A frame on its way: on the stack of who commits, or in a slot. */
struct commit_item {
	struct commit_item *next;
	struct commit_waiter *waiter;       /* of a slot: until it is staged */
	bool submitted;                     /* in a slot */
	bool met_keeper;                    /* keeper_steps is set */
	const struct haul_changes *changes; /* one of the two, until it is staged */
	const struct frame *frame;
	uint32_t count; /* changes */
	uint32_t bytes; /* of the frame */
	int error;
	uint64_t op;           /* told when the log is durable up to here */
	uint64_t keeper_steps; /* when the keeper was first waited for */
	int64_t queued_ns;
	int32_t *statuses;
	struct exec_result result;
	/* of a slot */
	haul_store_done *done;
	store_answered *answered;
	void *arg;
};

struct commit_list {
	struct commit_item *head, *tail;
};

struct commit_stats {
	uint64_t queued, flushed, failed, repeated; /* changes; those not done; frames told again */
	uint64_t stalls, throttle_ns, throttle_max_ns;
};

struct commit {
	pthread_mutex_t lock; /* all below but where it says otherwise */
	struct haul_store *store;
	struct lsm *lsm;
	struct log *log;
	struct exec *exec;
	struct os *os;
	int broken;     /* the final error, 0 */
	bool executing; /* the two roles are taken */
	bool writing;
	bool full;      /* the log's buffers: wait for a write */
	bool stalled;   /* the memory tables: wait for the keeper */
	bool rested;    /* … who had nothing to do and has slept for a while */
	uint32_t holds; /* who wants the executor for itself */
	struct commit_list waiting, staged, told;
	uint64_t op;         /* executed */
	uint64_t durable;    /* told up to here */
	uint32_t staged_ops; /* changes since the last write began */
	uint64_t staged_bytes;
	int64_t staged_ns;       /* when the first of them was queued */
	int64_t stalled_ns;      /* since when */
	_Atomic int64_t pace_ns; /* nobody begins before it; 0 = any time */
	uint64_t keeper_steps;   /* so far */
	int keeper_rc;           /* what its last step said */

	/* submits */
	struct commit_item *slots, *slots_free;
	int32_t *slot_statuses;
	uint32_t in_flight;        /* slots in use */
	uint64_t submits, tells;   /* so far */
	_Atomic uint32_t progress; /* changes when a slot is free, something is told, a hold may
				    * begin, the keeper has done a step */
	uint32_t progress_waits;
	pthread_t teller; /* who is in done() */
	bool telling;

	/* the log thread */
	pthread_t thread;
	bool threads, thread_runs, thread_asleep, thread_stop;
	_Atomic uint32_t thread_word;

	/* who executes */
	uint8_t *frame;
	int32_t *spare_statuses;
	/* who writes */
	struct haul_limits limits;
	struct haul_sizer sizer;
	double write_ns; /* moving average */
	struct haul_stats stats_commit, stats_log;
	struct commit_stats stats;
};

/* op: of the last frame in the log. */
int commit_open(struct haul_store *store, uint64_t op);
/* Threads: tells what is under way, ends the log thread. */
void commit_stop(struct commit *commit);
void commit_close(struct commit *commit);

/* Wait for what lets merges keep up, without a lock. */
void commit_pace(struct commit *commit);
/* Until it is told. */
void commit_run(struct commit *commit, struct commit_item *item);
/* A slot for a frame; waits for one, but in done(): -EBUSY. */
int commit_slot(struct commit *commit, struct commit_item **ret_item);
/* Until it is staged; the rest comes by itself. */
void commit_submit(struct commit *commit, struct commit_item *item);
/* Without threads: write and tell. */
void commit_pump(struct commit *commit);
/* Until all submitted so far is told. */
int commit_flush(struct commit *commit);
/* Have the executor for oneself: nothing is executed until released. */
void commit_hold(struct commit *commit);
void commit_release(struct commit *commit);
/* Until the log is durable up to op. */
int commit_durable(struct commit *commit, uint64_t op);
/* Until the keeper has done a step since *steps (0 at first), called on if it sleeps. What it said:
 * 1 there may be more to do, 0, negative. */
int commit_keeper(struct commit *commit, uint64_t *steps);
/* The keeper has done a step: what it said. Whether somebody waits for it. */
bool commit_kept(struct commit *commit, int rc);
/* Mark the log (log_mark) if nobody is about to write; whether it was. */
bool commit_mark(struct commit *commit);
int commit_error(struct commit *commit);
