/* store/lsm_job.c: a merge: some runs of a tree, next to each other, become one.
 *
 * How        All tables of the runs are put in order of their first keys and cut where nothing
 *            overlaps. A table that overlaps nothing is moved: it is in the new run as it is, and
 *            was not read. Others are merged, stretch by stretch, into new tables. Small tables are
 *            merged although they could be moved, or there would be ever more of them; so are those
 *            that come to where tables are compressed.
 * Order      By then flushes may have put newer runs before those of the job, and other jobs may
 *            have replaced runs elsewhere; those of the job are still next to each other. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/lsm_state.h"

enum { SMALL_SHARE = 4, MERGE_AHEAD = 8 };

/* ---- what to do with each table ---- */

static int slice_compare(const void *a, const void *b)
{
	const struct lsm_slice *x = a, *y = b;
	return tree_key_compare(&x->table->info.first, &y->table->info.first);
}

static bool table_movable(const struct lsm *lsm, const struct lsm_job *job,
			  const struct table *table)
{
	if (job->compact)
		return false; /* whoever asked for it wants every hidden row gone */
	if (table->info.bytes < lsm_table_bytes(lsm) / SMALL_SHARE)
		return false;
	return job->level < LSM_COMPRESS_LEVEL || table->info.level >= LSM_COMPRESS_LEVEL;
}

static void spans_plan(const struct lsm *lsm, struct lsm_job *job, uint32_t tables)
{
	uint32_t from = 0;
	while (from < tables) {
		struct tree_key last = job->slices[from].table->info.last;
		uint32_t to = from + 1;
		for (; to < tables; to++) {
			const struct table_info *info = &job->slices[to].table->info;
			if (tree_key_compare(&info->first, &last) > 0)
				break;
			if (tree_key_compare(&info->last, &last) > 0)
				last = info->last;
		}
		bool move = to == from + 1 && table_movable(lsm, job, job->slices[from].table);
		struct lsm_span *before = job->span_count ? &job->spans[job->span_count - 1] : NULL;
		if (!move && before && !before->move)
			before->to = to;
		else
			job->spans[job->span_count++] =
				(struct lsm_span){ .move = move, .from = from, .to = to };
		from = to;
	}
}

static int tables_plan_new(const struct lsm *lsm, struct lsm_job *job)
{
	uint32_t tables = 0;
	for (uint32_t i = 0; i < job->run_count; i++)
		tables += job->runs[i]->count;
	HAUL_ASSERT(tables > 0);
	job->slices = calloc(tables, sizeof *job->slices);
	job->spans = calloc(tables, sizeof *job->spans);
	job->walks = calloc(job->run_count, sizeof *job->walks);
	job->sources = calloc(job->run_count, sizeof(struct source *));
	if (!job->slices || !job->spans || !job->walks || !job->sources)
		return -ENOMEM;
	uint32_t at = 0;
	for (uint32_t i = 0; i < job->run_count; i++) {
		for (uint32_t k = 0; k < job->runs[i]->count; k++)
			job->slices[at++] = (struct lsm_slice){ .table = job->runs[i]->table[k],
								.run = i,
								.index = k };
		job->bytes += job->runs[i]->bytes;
	}
	job->slice_count = tables;
	qsort(job->slices, tables, sizeof *job->slices, slice_compare);
	spans_plan(lsm, job, tables);
	return merge_new(&job->merge, job->run_count);
}

/* Takes the runs, and says of which level what they become is. */
static void runs_take(const struct lsm *lsm, struct lsm_job *job, const struct lsm_change *span)
{
	const struct lsm_runs *runs = &lsm->base->tree[span->tree];
	HAUL_ASSERT(span->count > 0 && span->first + span->count <= runs->count);
	job->bottom = span->first + span->count == runs->count;
	job->behind = span->first + span->count;
	for (uint32_t i = 0; i < span->count; i++) {
		struct run *run = runs->run[span->first + i];
		HAUL_ASSERT(!run->merging);
		run->merging = true;
		job->runs[job->run_count++] = run_hold(run);
		job->level = run->level > job->level ? run->level : job->level;
	}
	bool same = job->runs[0]->level == job->level;
	if ((same || job->level == 0) && job->level + 1 < lsm->options.levels)
		job->level++;
}

int lsm_job_open(struct lsm *lsm, struct lsm_job *job, const struct lsm_change *span)
{
	HAUL_ASSERT(!job->active);
	*job = (struct lsm_job){ .active = true,
				 .lsm = lsm,
				 .tree = span->tree,
				 .compact = span->compact,
				 .builder = job->builder };
	/* A merge is long: memory tables that it held could not be used again. */
	job->view = lsm_view_tables_new(lsm);
	job->runs = calloc(span->count, sizeof(struct run *));
	int rc = job->view && job->runs ? 0 : -ENOMEM;
	if (rc == 0) {
		runs_take(lsm, job, span);
		rc = tables_plan_new(lsm, job);
	}
	if (rc == 0 && !job->builder)
		rc = table_builder_new(&job->builder, lsm_table_bytes(lsm));
	if (rc < 0)
		lsm_job_stop(lsm, job);
	return rc;
}

/* ---- merging ---- */

static int out_load(struct lsm_job *job, struct table *table)
{
	if (job->out_count == job->out_room) {
		uint32_t room = job->out_room ? job->out_room * 2 : 16;
		struct table **grown = realloc(job->out, room * sizeof(struct table *));
		if (!grown)
			return -ENOMEM;
		job->out = grown;
		job->out_room = room;
	}
	job->out[job->out_count++] = table;
	return 0;
}

static int job_made(const struct table_info *info, void *arg)
{
	struct lsm_job *job = arg;
	struct lsm *lsm = job->lsm;
	struct table *table;
	int rc = lsm_table_open(lsm, info, job->level, &table, NULL);
	if (rc < 0) {
		(void)MEDIA_CALL(lsm->media, blob_delete, info->blob);
		return rc;
	}
	rc = out_load(job, table);
	if (rc < 0) {
		table->doomed = true;
		table_drop(table);
		return rc;
	}
	__atomic_add_fetch(&lsm->bytes_merged, info->bytes, __ATOMIC_RELAXED);
	return 0;
}

static uint64_t job_blob_next(void *arg)
{
	struct lsm_job *job = arg;
	return lsm_blob_next(job->lsm);
}

/* Whether a run that this merge does not read may have the key, older than what is read. */
static bool job_below(const struct tree_key *key, void *arg)
{
	const struct lsm_job *job = arg;
	const struct lsm_runs *runs = &job->view->tree[job->tree];
	for (uint32_t i = job->behind; i < runs->count; i++) {
		const struct run *run = runs->run[i];
		uint32_t at = run_find(run, 0, key);
		if (at < run->count && tree_key_compare(&run->bound[at].first, key) <= 0)
			return true;
	}
	return false;
}

static int span_open(struct lsm *lsm, struct lsm_job *job)
{
	const struct lsm_span *span = &job->spans[job->span];
	const struct table_builder_options options = { .media = lsm->media,
						       .tree = job->tree,
						       .level = job->level,
						       .compress = job->level >= LSM_COMPRESS_LEVEL,
						       .table_bytes = lsm->options.table_bytes,
						       .block_bytes = lsm->options.block_bytes,
						       .blob_next = job_blob_next,
						       .made = job_made,
						       .arg = job };
	int rc = table_builder_start(job->builder, &options);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < job->run_count; i++) {
		run_walk_init(&job->walks[i], job->runs[i]);
		job->walks[i].table = job->walks[i].end = 0;
		job->walks[i].ahead = MERGE_AHEAD;
		job->walks[i].bypass = true;
	}
	for (uint32_t i = span->from; i < span->to; i++) {
		struct run_walk *walk = &job->walks[job->slices[i].run];
		uint32_t index = job->slices[i].index;
		HAUL_ASSERT(walk->end == 0 || walk->end == index);
		if (walk->end == 0)
			walk->table = index;
		walk->end = index + 1;
	}
	uint32_t count = 0;
	for (uint32_t i = 0; i < job->run_count; i++) {
		if (job->walks[i].end > 0)
			job->sources[count++] = &job->walks[i].source;
	}
	job->open = true;
	return merge_start(job->merge, job->tree, job->sources, count, true);
}

static void span_stop(struct lsm_job *job)
{
	for (uint32_t i = 0; job->open && i < job->run_count; i++)
		run_walk_done(&job->walks[i]);
	job->open = false;
}

/* 1: more of it is left; 0: the span is done. */
static int span_step(struct lsm *lsm, struct lsm_job *job)
{
	uint64_t snapshots[LSM_PINS];
	struct merge_rule rule = {
		.op_max = LSM_OP_MAX, .snapshots = snapshots, .below = job_below, .arg = job
	};
	rule.snapshot_count = lsm_view_snapshots(lsm, snapshots, &rule.keep_from);
	rule.deletions = job->bottom ? MERGE_DROP : MERGE_ASK;
	merge_rule(job->merge, &rule);
	for (uint64_t bytes = 0; bytes < lsm->piece_bytes;) {
		struct merge_piece piece;
		int rc = merge_next(job->merge, &piece);
		if (rc == 0)
			return table_builder_finish(job->builder);
		if (rc > 0)
			rc = table_builder_add(job->builder, &piece.rows, piece.from, piece.to);
		if (rc < 0)
			return rc;
		bytes += merge_piece_bytes(&piece);
	}
	return 1;
}

static int span_move(struct lsm_job *job)
{
	struct lsm_slice *slice = &job->slices[job->spans[job->span].from];
	int rc = out_load(job, slice->table);
	if (rc < 0)
		return rc;
	(void)table_hold(slice->table);
	slice->moved = true;
	return 0;
}

/* ---- the end ---- */

static uint32_t runs_at(const struct lsm_runs *runs, const struct run *run)
{
	uint32_t at = 0;
	while (at < runs->count && runs->run[at] != run)
		at++;
	HAUL_ASSERT(at < runs->count);
	return at;
}

/* Levels do not fall from new to old, whatever came before the job's runs meanwhile. */
static uint32_t level_now(const struct lsm_job *job, const struct lsm_runs *runs, uint32_t first)
{
	uint32_t level = job->level;
	for (uint32_t i = 0; i < first; i++)
		level = runs->run[i]->level > level ? runs->run[i]->level : level;
	return level;
}

static int job_finish(struct lsm *lsm, struct lsm_job *job)
{
	const struct lsm_runs *runs = &lsm->base->tree[job->tree];
	struct lsm_change change = { .tree = job->tree, .count = job->run_count };
	change.first = runs_at(runs, job->runs[0]);
	uint32_t level = level_now(job, runs, change.first);
	if (job->out_count) {
		change.run = run_new(job->tree, level, job->out, job->out_count);
		if (!change.run)
			return -ENOMEM;
		for (uint32_t i = 0; i < job->out_count; i++)
			(void)table_hold(job->out[i]); /* job->out has its own until it is done */
	}
	struct lsm_view *view = lsm_view_change_new(lsm->base, &change, 1);
	int rc = view ? lsm_commit(lsm, view) : -ENOMEM;
	if (rc < 0)
		lsm_view_drop(lsm, view);
	else
		lsm_view_install(lsm, view, false);
	run_drop(change.run);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < job->slice_count; i++)
		job->slices[i].table->doomed = !job->slices[i].moved;
	for (uint32_t i = 0; i < job->out_count; i++)
		table_drop(job->out[i]);
	job->out_count = 0;
	__atomic_add_fetch(&lsm->merges, 1, __ATOMIC_RELAXED);
	lsm_job_stop(lsm, job);
	return 0;
}

static void out_drop(struct lsm *lsm, struct lsm_job *job)
{
	/* Their blobs stay if a root may name them. */
	for (uint32_t i = 0; i < job->out_count; i++)
		job->out[i]->doomed = lsm->doubt_count == 0;
	for (uint32_t i = 0; i < job->slice_count; i++) {
		if (job->slices[i].moved)
			job->slices[i].table->doomed = false;
	}
	for (uint32_t i = 0; i < job->out_count; i++)
		table_drop(job->out[i]);
	job->out_count = 0;
}

void lsm_job_stop(struct lsm *lsm, struct lsm_job *job)
{
	if (!job->active)
		return;
	span_stop(job);
	out_drop(lsm, job);
	for (uint32_t i = 0; i < job->run_count; i++) {
		job->runs[i]->merging = false;
		run_drop(job->runs[i]);
	}
	lsm_view_drop(lsm, job->view);
	merge_free(job->merge);
	free(job->sources);
	free(job->walks);
	free(job->spans);
	free(job->slices);
	free(job->runs);
	free(job->out);
	*job = (struct lsm_job){ .builder = job->builder };
}

int lsm_job_step(struct lsm *lsm, struct lsm_job *job)
{
	HAUL_ASSERT(job->active);
	int rc = 0;
	if (job->span < job->span_count) {
		if (job->spans[job->span].move)
			rc = span_move(job);
		else if (!job->open)
			rc = span_open(lsm, job);
		if (rc == 0 && job->open)
			rc = span_step(lsm, job);
		if (rc == 0) {
			span_stop(job);
			job->span++;
		}
	} else {
		rc = job_finish(lsm, job);
		if (rc == -ENOMEM || rc == -ENOSPC)
			return rc; /* only the root is missing: it is tried again */
	}
	if (rc < 0)
		lsm_job_stop(lsm, job);
	return rc < 0 ? rc : 1;
}
