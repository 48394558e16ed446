/* store/keeper.h — the work nobody waits for: flushing, merging, and room ahead in the log.
 *
 * Model      A thread that does lsm_step while there is something to do, prepares segments of the
 *            log ahead of their use and gives back those before the checkpoint; it sleeps on a word
 *            otherwise. Without threads keeper_step does one piece.
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
	uint64_t start;    /* where the log went on at open */
	uint64_t reserved; /* the log, up to this position */
	uint64_t trimmed;
};

int keeper_open(struct haul_store *store);
void keeper_stop(struct haul_store *store); /* ends the thread; steps may still be taken */
void keeper_close(struct haul_store *store);
void keeper_call(struct keeper *keeper);
void keeper_pause(struct keeper *keeper);
void keeper_resume(struct keeper *keeper);
/* One piece of work, by who runs or has paused the keeper: 1: there may be more; 0; negative. */
int keeper_step(struct haul_store *store);
