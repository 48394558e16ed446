/* store/lsm_view.c: what a reader sees.
 *
 * Why a view and an op taken together miss nothing. Rows of op n are put into the memory table that
 * is active then, and n is published after. A memory table is replaced under the lock. So whoever
 * holds the lock and reads n finds in `current` a table as new as the one that took n's rows: had
 * it been replaced in between, that would have needed the lock.
 *
 * Who lets a view go last puts it on the list of the dead; the background frees it, so that tables
 * are closed and blobs deleted by one thread. Memory tables are let go at once: writers wait for
 * them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/lsm_state.h"

struct lsm_memory *lsm_memory_hold(struct lsm_memory *memory)
{
	if (memory)
		(void)__atomic_add_fetch(&memory->holds, 1, __ATOMIC_RELAXED);
	return memory;
}

void lsm_memory_drop(struct lsm_memory *memory)
{
	if (!memory)
		return;
	uint32_t before = __atomic_fetch_sub(&memory->holds, 1, __ATOMIC_RELEASE);
	HAUL_ASSERT(before > 0);
}

struct lsm_view *lsm_view_new(uint32_t runs)
{
	struct lsm_view *view = calloc(1, sizeof *view + runs * sizeof(struct run *));
	if (view)
		view->holds = 1;
	return view;
}

struct lsm_view *lsm_view_hold(struct lsm_view *view)
{
	HAUL_ASSERT(__atomic_add_fetch(&view->holds, 1, __ATOMIC_RELAXED) > 1);
	return view;
}

struct lsm_view *lsm_view_current(struct lsm *lsm)
{
	(void)pthread_mutex_lock(&lsm->lock);
	struct lsm_view *view = lsm_view_hold(lsm->current);
	(void)pthread_mutex_unlock(&lsm->lock);
	return view;
}

struct lsm_view *lsm_view_take(struct lsm *lsm, uint64_t *ret_op)
{
	(void)pthread_mutex_lock(&lsm->lock);
	struct lsm_view *view = lsm_view_hold(lsm->current);
	*ret_op = __atomic_load_n(&lsm->published, __ATOMIC_ACQUIRE);
	(void)pthread_mutex_unlock(&lsm->lock);
	return view;
}

void lsm_view_drop(struct lsm *lsm, struct lsm_view *view)
{
	if (!view)
		return;
	uint32_t before = __atomic_fetch_sub(&view->holds, 1, __ATOMIC_ACQ_REL);
	HAUL_ASSERT(before > 0);
	if (before > 1)
		return;
	lsm_memory_drop(view->active);
	lsm_memory_drop(view->frozen);
	(void)pthread_mutex_lock(&lsm->lock);
	view->dead = lsm->dead;
	lsm->dead = view;
	(void)pthread_mutex_unlock(&lsm->lock);
}

static void view_free(struct lsm_view *view)
{
	for (uint32_t tree = 0; tree < TREES; tree++) {
		for (uint32_t i = 0; i < view->tree[tree].count; i++)
			run_drop(view->tree[tree].run[i]);
	}
	free(view);
}

/* ---- changes ---- */

static const struct lsm_change *change_of(const struct lsm_change *changes, uint32_t count,
					  uint32_t tree)
{
	for (uint32_t i = 0; i < count; i++) {
		if ((uint32_t)changes[i].tree == tree)
			return &changes[i];
	}
	return NULL;
}

static uint32_t runs_copy(struct run **to, const struct lsm_runs *from,
			  const struct lsm_change *change)
{
	static const struct lsm_change none = { .first = UINT32_MAX };
	if (!change)
		change = &none;
	uint32_t count = 0;
	for (uint32_t i = 0; i <= from->count; i++) {
		if (i == change->first && change->run)
			to[count++] = run_hold(change->run);
		bool taken = i >= change->first && i - change->first < change->count;
		if (i < from->count && !taken)
			to[count++] = run_hold(from->run[i]);
	}
	return count;
}

struct lsm_view *lsm_view_change_new(const struct lsm_view *base, const struct lsm_change *changes,
				     uint32_t count)
{
	static const struct lsm_view nothing = { .holds = 1 };
	if (!base)
		base = &nothing;
	uint32_t runs = count;
	for (uint32_t tree = 0; tree < TREES; tree++)
		runs += base->tree[tree].count;
	struct lsm_view *view = lsm_view_new(runs);
	if (!view)
		return NULL;
	view->place = base->place;
	struct run **next = view->run;
	for (uint32_t tree = 0; tree < TREES; tree++) {
		const struct lsm_runs *from = &base->tree[tree];
		view->tree[tree].run = next;
		view->tree[tree].count = runs_copy(next, from, change_of(changes, count, tree));
		next += view->tree[tree].count;
	}
	return view;
}

struct lsm_view *lsm_view_tables_new(struct lsm *lsm)
{
	struct lsm_view *base = lsm_view_current(lsm);
	struct lsm_view *view = lsm_view_change_new(base, NULL, 0);
	lsm_view_drop(lsm, base);
	return view;
}

void lsm_view_install(struct lsm *lsm, struct lsm_view *view, bool flushed)
{
	(void)pthread_mutex_lock(&lsm->lock);
	struct lsm_view *before = lsm->current;
	view->active = lsm_memory_hold(before->active);
	view->frozen = flushed ? NULL : lsm_memory_hold(before->frozen);
	lsm->current = view;
	(void)pthread_mutex_unlock(&lsm->lock);
	lsm_view_drop(lsm, before);
	lsm_view_follow(lsm);
	lsm->changed = true;
}

void lsm_view_follow(struct lsm *lsm)
{
	struct lsm_view *before = lsm->base;
	lsm->base = lsm_view_current(lsm);
	lsm_view_drop(lsm, before);
}

void lsm_view_reap(struct lsm *lsm)
{
	(void)pthread_mutex_lock(&lsm->lock);
	struct lsm_view *dead = lsm->dead;
	lsm->dead = NULL;
	struct lsm_memory *dirty = NULL;
	for (uint32_t i = 0; i < LSM_MEMORIES && !dirty; i++) {
		struct lsm_memory *memory = &lsm->memory[i];
		if (__atomic_load_n(&memory->holds, __ATOMIC_ACQUIRE) == 0 && memory->dirty)
			dirty = lsm_memory_hold(memory);
	}
	(void)pthread_mutex_unlock(&lsm->lock);
	while (dead) {
		struct lsm_view *next = dead->dead;
		view_free(dead);
		dead = next;
	}
	if (!dirty)
		return;
	memtable_clear(dirty->table);
	(void)pthread_mutex_lock(&lsm->lock);
	dirty->dirty = false;
	lsm_memory_drop(dirty);
	(void)pthread_mutex_unlock(&lsm->lock);
}

/* ---- ops ---- */

void lsm_publish(struct lsm *lsm, uint64_t op)
{
	HAUL_ASSERT(op >= __atomic_load_n(&lsm->published, __ATOMIC_RELAXED));
	__atomic_store_n(&lsm->published, op, __ATOMIC_RELEASE);
}

int lsm_pin(struct lsm *lsm, uint64_t *ret_op)
{
	int rc = -EBUSY;
	(void)pthread_mutex_lock(&lsm->lock);
	for (uint32_t i = 0; i < LSM_PINS && rc < 0; i++) {
		if (lsm->pins[i] != 0)
			continue;
		uint64_t op = __atomic_load_n(&lsm->published, __ATOMIC_ACQUIRE);
		lsm->pins[i] = op + 1;
		*ret_op = op;
		rc = 0;
	}
	(void)pthread_mutex_unlock(&lsm->lock);
	return rc;
}

void lsm_unpin(struct lsm *lsm, uint64_t op)
{
	bool found = false;
	(void)pthread_mutex_lock(&lsm->lock);
	for (uint32_t i = 0; i < LSM_PINS && !found; i++) {
		found = lsm->pins[i] == op + 1;
		if (found)
			lsm->pins[i] = 0;
	}
	(void)pthread_mutex_unlock(&lsm->lock);
	HAUL_ASSERT(found);
}

uint32_t lsm_view_snapshots(struct lsm *lsm, uint64_t *snapshots, uint64_t *ret_visible)
{
	uint32_t count = 0;
	(void)pthread_mutex_lock(&lsm->lock);
	*ret_visible = __atomic_load_n(&lsm->published, __ATOMIC_ACQUIRE);
	for (uint32_t i = 0; i < LSM_PINS; i++) {
		if (lsm->pins[i] != 0)
			snapshots[count++] = lsm->pins[i] - 1;
	}
	(void)pthread_mutex_unlock(&lsm->lock);
	return count;
}
