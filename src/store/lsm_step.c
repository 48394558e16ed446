/* store/lsm_step.c: the background: what comes first, and what is durable of it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/lsm_state.h"

uint64_t lsm_blob_next(void *arg)
{
	struct lsm *lsm = arg;
	return lsm->blob_next++;
}

/* ---- the root ---- */

static int manifest_of_view_new(const struct lsm_view *view, struct manifest **ret_manifest)
{
	uint32_t runs = 0, tables = 0;
	for (uint32_t tree = 0; tree < TREES; tree++) {
		runs += view->tree[tree].count;
		for (uint32_t i = 0; i < view->tree[tree].count; i++)
			tables += view->tree[tree].run[i]->count;
	}
	struct manifest *manifest;
	int rc = manifest_new(&manifest, runs, tables);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < runs; i++) {
		/* The view has the runs of all trees one behind the other. */
		const struct run *run = view->run[i];
		manifest->runs[manifest->run_count++] =
			(struct manifest_run){ .tree = (uint32_t)run->tree,
					       .level = run->level,
					       .count = run->count,
					       .first = manifest->table_count };
		for (uint32_t k = 0; k < run->count; k++)
			manifest->tables[manifest->table_count++] = run->table[k]->info;
	}
	*ret_manifest = manifest;
	return 0;
}

/* A manifest that the root may or may not name: kept until a root is sure to have been written. */
static int doubt_load(struct lsm *lsm, uint64_t blob)
{
	if (lsm->doubt_count == lsm->doubt_room) {
		uint32_t room = lsm->doubt_room ? lsm->doubt_room * 2 : 8;
		uint64_t *grown = realloc(lsm->doubt, room * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		lsm->doubt = grown;
		lsm->doubt_room = room;
	}
	lsm->doubt[lsm->doubt_count++] = blob;
	return 0;
}

static void manifests_delete(struct lsm *lsm, uint64_t before)
{
	if (before)
		(void)MEDIA_CALL(lsm->media, blob_delete, before);
	for (uint32_t i = 0; i < lsm->doubt_count; i++)
		(void)MEDIA_CALL(lsm->media, blob_delete, lsm->doubt[i]);
	lsm->doubt_count = 0;
}

int lsm_commit(struct lsm *lsm, const struct lsm_view *view)
{
	struct manifest *manifest;
	int rc = manifest_of_view_new(view, &manifest);
	if (rc < 0)
		return rc;
	struct manifest_root root = { .place = view->place, .blob = lsm_blob_next(lsm) };
	memcpy(root.uuid, lsm->uuid, sizeof root.uuid);
	root.blob_next = lsm->blob_next;
	uint64_t blob = root.blob;
	rc = manifest_save_build(lsm->media, manifest, &root);
	manifest_free(manifest);
	if (rc < 0) {
		(void)MEDIA_CALL(lsm->media, blob_delete, blob);
		return rc;
	}
	rc = doubt_load(lsm, blob);
	if (rc < 0)
		return rc;
	rc = manifest_root_put(lsm->media, lsm->root_version, &root);
	if (rc < 0)
		return rc;
	lsm->doubt_count--;
	manifests_delete(lsm, lsm->root.blob);
	lsm->root_version++;
	lsm->root = root;
	return 0;
}

/* ---- memory ---- */

enum {
	AHEAD = 8 << 20,
	AHEAD_PIECES = 4, /* large pages, some 7 ms each on a slow host */
	AHEAD_SHARE = 2,  /* of a memory table: so full, the next one is looked at */
};

/* What the executor would touch first takes it tens of milliseconds: a row goes anywhere into a
 * memory table's slots. */
static bool memory_touch_piece(struct lsm *lsm)
{
	struct memtable *active = lsm->base->active->table;
	if (memtable_ahead(active, AHEAD))
		return true;
	if (memtable_used(active) < lsm->options.memtable_bytes / AHEAD_SHARE)
		return false;
	(void)pthread_mutex_lock(&lsm->lock);
	/* Whoever takes it meanwhile may: what is in it stays as it is. */
	struct lsm_memory *next = lsm_memory_next(lsm);
	(void)pthread_mutex_unlock(&lsm->lock);
	return next && memtable_ahead(next->table, AHEAD);
}

static bool memory_some(struct lsm *lsm)
{
	bool some = false, more = true;
	for (int i = 0; i < AHEAD_PIECES && more; i++) {
		more = memory_touch_piece(lsm);
		some = some || more;
	}
	return some;
}

void lsm_ahead(struct lsm *lsm)
{
	while (memtable_ahead(lsm->active->table, 0))
		;
}

/* ---- one piece ---- */

/* 1: done something; 0: there was nothing to do, or it has to wait for the log. */
static int flush_some(struct lsm *lsm)
{
	struct lsm_memory *frozen = lsm->base->frozen;
	if (!frozen)
		return 0;
	struct lsm_flush *flush = &lsm->flush;
	if (!flush->active || !flush->built) {
		int rc = lsm_flush_step(lsm, frozen);
		return rc < 0 ? rc : 1;
	}
	if (lsm->durable < frozen->place.op)
		return 0;
	int rc = lsm_flush_finish(lsm, frozen);
	return rc < 0 ? rc : 1;
}

static int job_some(struct lsm *lsm, struct lsm_job *job, const struct lsm_change *span)
{
	if (span) {
		int rc = lsm_job_open(lsm, job, span);
		if (rc < 0)
			return rc;
	}
	return lsm_job_step(lsm, job);
}

static int merge_some(struct lsm *lsm)
{
	for (uint32_t level = 0; level < lsm->options.levels; level++) {
		struct lsm_change span;
		struct lsm_job *job = &lsm->jobs[level];
		if (job->active)
			return job_some(lsm, job, NULL);
		if (lsm_plan_level(lsm, level, &span))
			return job_some(lsm, job, &span);
	}
	return 0;
}

static void compact_take(struct lsm *lsm)
{
	if (!__atomic_exchange_n(&lsm->compact, 0, __ATOMIC_ACQ_REL))
		return;
	for (uint32_t tree = 0; tree < TREES; tree++)
		lsm->compact_now[tree] = true;
}

/* Trees of which it was asked and that it concerns. */
static bool compact_waits(struct lsm *lsm)
{
	bool waits = false;
	compact_take(lsm);
	for (uint32_t tree = 0; tree < TREES; tree++) {
		if (lsm->base->tree[tree].count < 2)
			lsm->compact_now[tree] = false;
		waits = waits || lsm->compact_now[tree];
	}
	return waits;
}

/* Comes after what is merged already. What fails begins anew. */
static int compact_some(struct lsm *lsm)
{
	struct lsm_job *job = &lsm->jobs[LSM_JOB_EXTRA];
	struct lsm_change span = { .tree = job->tree };
	bool waits = compact_waits(lsm);
	bool compacts = job->active && job->compact;
	int rc = 0;
	if (job->active && (waits || compacts)) {
		rc = job_some(lsm, job, NULL);
	} else if (!job->active && waits && lsm_plan_compact(lsm, &span)) {
		compacts = true;
		lsm->compact_now[span.tree] = false;
		rc = job_some(lsm, job, &span);
	}
	if (rc < 0 && compacts)
		lsm->compact_now[span.tree] = true;
	return rc;
}

/* Whether nothing was put for a while. */
static bool quiet(struct lsm *lsm)
{
	int64_t now_ns = lsm->options.os->now_ns(lsm->options.os);
	uint64_t used = memtable_used(lsm->base->active->table);
	uint64_t op = lsm->base->place.op;
	if (used != lsm->quiet_used || op != lsm->quiet_op) {
		lsm->quiet_used = used;
		lsm->quiet_op = op;
		lsm->quiet_ns = now_ns;
	}
	return now_ns - lsm->quiet_ns >= LSM_REST_NS;
}

static int idle_some(struct lsm *lsm)
{
	struct lsm_job *job = &lsm->jobs[LSM_JOB_EXTRA];
	struct lsm_change span;
	lsm->rest_wanted = job->active || lsm_plan_idle(lsm, &span);
	if (!quiet(lsm) || !lsm->rest_wanted)
		return 0;
	return job_some(lsm, job, job->active ? NULL : &span);
}

int64_t lsm_rest_ns(struct lsm *lsm)
{
	if (!lsm->rest_wanted)
		return INT64_MAX;
	int64_t left = lsm->quiet_ns + LSM_REST_NS - lsm->options.os->now_ns(lsm->options.os);
	return left > 0 ? left : 0;
}

/* What others may look at; merging that waits until nobody writes is no work. */
static void work_note(struct lsm *lsm)
{
	struct lsm_change span;
	bool work = false;
	for (uint32_t level = 0; level < lsm->options.levels && !work; level++)
		work = lsm->jobs[level].active || lsm_plan_level(lsm, level, &span);
	work = work || compact_waits(lsm) || lsm->jobs[LSM_JOB_EXTRA].compact;
	__atomic_store_n(&lsm->work, work, __ATOMIC_RELAXED);
	__atomic_store_n(&lsm->flush_built, lsm->flush.active && lsm->flush.built,
			 __ATOMIC_RELAXED);
	if (lsm->changed)
		lsm_plan_debt(lsm);
	lsm->changed = false;
}

int lsm_step(struct lsm *lsm, uint64_t durable)
{
	HAUL_ASSERT(!lsm->options.read_only);
	lsm->durable = durable;
	lsm_view_follow(lsm);
	lsm_view_reap(lsm);
	bool touched = memory_some(lsm);
	int rc = flush_some(lsm);
	if (rc == 0)
		rc = lsm_filters_step(lsm);
	if (rc == 0)
		rc = merge_some(lsm);
	if (rc == 0)
		rc = compact_some(lsm);
	if (rc == 0)
		rc = idle_some(lsm);
	work_note(lsm);
	lsm_view_reap(lsm);
	return rc == 0 && touched ? 1 : rc;
}

bool lsm_busy(struct lsm *lsm)
{
	if (__atomic_load_n(&lsm->work, __ATOMIC_RELAXED) ||
	    __atomic_load_n(&lsm->compact, __ATOMIC_RELAXED))
		return true;
	(void)pthread_mutex_lock(&lsm->lock);
	const struct lsm_memory *frozen = lsm->current->frozen;
	bool busy = frozen != NULL;
	if (busy && __atomic_load_n(&lsm->flush_built, __ATOMIC_RELAXED))
		busy = __atomic_load_n(&lsm->published, __ATOMIC_RELAXED) >= frozen->place.op;
	busy = busy || lsm->dead;
	(void)pthread_mutex_unlock(&lsm->lock);
	return busy;
}

void lsm_compact(struct lsm *lsm)
{
	__atomic_store_n(&lsm->compact, 1, __ATOMIC_RELEASE);
}
