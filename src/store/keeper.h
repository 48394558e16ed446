/* store/keeper.h — the work nobody waits for: flushing, merging, indexing, room ahead in the log.
 *
 * Model      A thread that does lsm_step and vectors_step while there is something to do, prepares
 *            room in the log ahead of its use, gives back what lies before the checkpoint, and
 *            marks the log when it rests; it sleeps on a word otherwise. Without threads
 *            keeper_step does one piece.
 * Threads    keeper_call: any. keeper_pause … keeper_resume keep it from starting a step; who
 *            paused may step himself.
 * Errors     of a step: kept in the commit's keeper_error, told to who has to wait for the keeper;
 *            tried again when somebody calls. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct haul_store;

struct keeper {
	pthread_mutex_t step; /* held in a step */
	pthread_t thread;
	bool running;
	_Atomic bool stop;
	_Atomic uint32_t calls;
	_Atomic uint32_t asleep;
	_Atomic uint32_t rests; /* asleep, and the log is marked */
	uint64_t trimmed;       /* the log, up to this position */
	bool waited_for;        /* a commit is stalled; of who steps */
	uint64_t seen, marked;  /* ops durable: at the last sleep, when it was marked */
};

int keeper_open(struct haul_store *store);
void keeper_stop(struct haul_store *store); /* ends the thread; steps may still be taken */
void keeper_close(struct haul_store *store);
void keeper_call(struct keeper *keeper);
void keeper_written(struct keeper *keeper); /* after a write of the log */
void keeper_pause(struct keeper *keeper);
void keeper_resume(struct keeper *keeper);
/* One piece of work, by who runs or has paused the keeper: 1: there may be more; 0; negative. */
int keeper_step(struct haul_store *store);
