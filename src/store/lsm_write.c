/* store/lsm_write.c: the executor's side: putting, freezing, and being held back. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "store/lsm_state.h"

enum {
	LOG_FACTOR = 4, /* a log that long, in memory tables, is reason enough for a checkpoint */
	DEBT_STOP = 4,  /* that many times the runs a level may have: nothing more until merged */
	THROTTLE_MAX_NS = 20000000,
};

void lsm_prefetch(struct lsm *lsm, enum tree tree, const struct tree_key *key)
{
	memtable_prefetch(lsm->active->table, tree, key);
}

int lsm_put(struct lsm *lsm, enum tree tree, const struct tree_key *key, uint64_t op,
	    const struct tree_row *row)
{
	return memtable_put(lsm->active->table, tree, key, op, row);
}

void lsm_find_memory(struct lsm *lsm, enum tree tree, const struct tree_key *key,
		     struct tree_row *ret_row)
{
	memtable_get(lsm->active->table, tree, key, LSM_OP_MAX, ret_row);
	if (ret_row->op == 0 && lsm->frozen)
		memtable_get(lsm->frozen->table, tree, key, LSM_OP_MAX, ret_row);
}

void lsm_mark(struct lsm *lsm, struct memtable_mark *ret_mark)
{
	memtable_mark(lsm->active->table, ret_mark);
}

void lsm_abort(struct lsm *lsm, const struct memtable_mark *mark)
{
	memtable_abort(lsm->active->table, mark);
}

/* ---- freezing ---- */

/* The executor's holds follow the current view; what it found so far is of no more use. */
static void executor_follow(struct lsm *lsm)
{
	if (!lsm->frozen)
		return;
	(void)pthread_mutex_lock(&lsm->lock);
	bool flushed = lsm->current->frozen != lsm->frozen;
	(void)pthread_mutex_unlock(&lsm->lock);
	if (!flushed)
		return;
	lsm_memory_drop(lsm->frozen);
	lsm->frozen = NULL;
}

struct lsm_memory *lsm_memory_next(struct lsm *lsm)
{
	struct lsm_memory *found = NULL;
	for (uint32_t i = 0; i < LSM_MEMORIES; i++) {
		struct lsm_memory *memory = &lsm->memory[i];
		if (__atomic_load_n(&memory->holds, __ATOMIC_ACQUIRE) != 0)
			continue;
		if (!found || (found->dirty && !memory->dirty))
			found = memory;
	}
	return found;
}

/* A memory table that nobody holds, held and clean; NULL if there is none. */
static struct lsm_memory *memory_take(struct lsm *lsm)
{
	(void)pthread_mutex_lock(&lsm->lock);
	struct lsm_memory *found = lsm_memory_hold(lsm_memory_next(lsm));
	(void)pthread_mutex_unlock(&lsm->lock);
	if (!found || !found->dirty)
		return found;
	memtable_clear(found->table);
	(void)pthread_mutex_lock(&lsm->lock);
	found->dirty = false;
	(void)pthread_mutex_unlock(&lsm->lock);
	return found;
}

static bool memory_empty(const struct lsm_memory *memory)
{
	for (uint32_t tree = 0; tree < TREES; tree++) {
		if (memtable_rows(memory->table, (enum tree)tree) > 0)
			return false;
	}
	return true;
}

static int freeze_new(struct lsm *lsm, const struct log_place *place)
{
	struct lsm_memory *next = memory_take(lsm);
	if (!next)
		return -EAGAIN;
	/* Or what the last flush has done would count until the next begins. */
	__atomic_store_n(&lsm->flush_done, 0, __ATOMIC_RELAXED);
	(void)pthread_mutex_lock(&lsm->lock);
	struct lsm_view *before = lsm->current;
	struct lsm_view *view = lsm_view_change_new(before, NULL, 0);
	if (view) {
		lsm->active->place = *place;
		lsm->active->dirty = true;
		view->active = lsm_memory_hold(next);
		view->frozen = lsm_memory_hold(before->active);
		lsm->current = view;
	}
	(void)pthread_mutex_unlock(&lsm->lock);
	if (!view) {
		lsm_memory_drop(next);
		return -ENOMEM;
	}
	lsm->frozen = lsm->active; /* with the hold it had */
	lsm->active = next;
	lsm_view_drop(lsm, before);
	return 0;
}

int lsm_freeze(struct lsm *lsm, const struct log_place *place)
{
	executor_follow(lsm);
	if (lsm->frozen)
		return -EAGAIN;
	if (memory_empty(lsm->active) && place->op == lsm_checkpoint(lsm).op)
		return 0;
	return freeze_new(lsm, place);
}

static bool log_long(struct lsm *lsm, const struct log_place *place)
{
	uint64_t from = lsm_checkpoint(lsm).position;
	return place->position > from &&
	       place->position - from > LOG_FACTOR * lsm->options.memtable_bytes;
}

int lsm_ready(struct lsm *lsm, const struct log_place *place)
{
	executor_follow(lsm);
	uint32_t debt = __atomic_load_n(&lsm->debt_level, __ATOMIC_RELAXED);
	if (debt >= DEBT_STOP * LSM_DEBT_ONE)
		return -EAGAIN;
	if (memtable_used(lsm->active->table) >= lsm->options.memtable_bytes)
		return lsm_freeze(lsm, place);
	if (!lsm->frozen && log_long(lsm, place)) {
		int rc = lsm_freeze(lsm, place);
		return rc == -EAGAIN ? 0 : rc;
	}
	return 0;
}

struct log_place lsm_checkpoint(struct lsm *lsm)
{
	(void)pthread_mutex_lock(&lsm->lock);
	struct log_place place = lsm->current->place;
	(void)pthread_mutex_unlock(&lsm->lock);
	return place;
}

/* ---- holding back ---- */

/* 0 … LSM_DEBT_ONE: how far flushing is behind the filling of the next memory table. */
static uint64_t flush_debt(struct lsm *lsm)
{
	if (!lsm->frozen)
		return 0;
	uint64_t used = memtable_used(lsm->active->table);
	uint64_t all = __atomic_load_n(&lsm->flush_all, __ATOMIC_RELAXED);
	uint64_t done = __atomic_load_n(&lsm->flush_done, __ATOMIC_RELAXED);
	uint64_t filled = used * LSM_DEBT_ONE / lsm->options.memtable_bytes;
	uint64_t flushed = all ? done * LSM_DEBT_ONE / all : 0;
	if (filled > LSM_DEBT_ONE)
		filled = LSM_DEBT_ONE;
	return filled > flushed ? filled - flushed : 0;
}

int64_t lsm_throttle_ns(struct lsm *lsm)
{
	uint64_t debt = flush_debt(lsm);
	uint64_t level = __atomic_load_n(&lsm->debt_level, __ATOMIC_RELAXED);
	if (level > debt)
		debt = level;
	if (debt > LSM_DEBT_ONE)
		debt = LSM_DEBT_ONE;
	if (debt <= LSM_DEBT_ONE / 2)
		return 0;
	/* Quadratic from one half on: no step anywhere, and little while there is little. */
	uint64_t over = 2 * debt - LSM_DEBT_ONE;
	return (int64_t)(over * over * THROTTLE_MAX_NS / LSM_DEBT_ONE / LSM_DEBT_ONE);
}
