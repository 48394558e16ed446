/* store/lsm_flush.c: a frozen memory table becomes a run a tree.
 *
 * The tables are put piece by piece and named by nobody until all of them are there and all ops in
 * them are durable in the log; then one root names them all, with the place of the log behind them.
 * After an error the tree that was under way begins anew: nothing that was put counts before the
 * root does, and what is left over goes when the store is opened. */
#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "store/lsm_state.h"

static int flush_made_load(const struct table_info *info, void *arg)
{
	struct lsm *lsm = arg;
	struct lsm_flush *flush = &lsm->flush;
	if (flush->out_count == flush->out_room) {
		uint32_t room = flush->out_room ? flush->out_room * 2 : 16;
		struct table **grown = realloc(flush->out, room * sizeof(struct table *));
		if (!grown)
			return -ENOMEM;
		flush->out = grown;
		flush->out_room = room;
	}
	int rc = lsm_table_open(lsm, info, 0, &flush->out[flush->out_count], NULL);
	if (rc < 0) {
		(void)MEDIA_CALL(lsm->media, blob_delete, info->blob);
		return rc;
	}
	flush->out_count++;
	__atomic_add_fetch(&lsm->bytes_flushed, info->bytes, __ATOMIC_RELAXED);
	return 0;
}

static void out_drop(struct lsm_flush *flush)
{
	for (uint32_t i = 0; i < flush->out_count; i++) {
		flush->out[i]->doomed = true;
		table_drop(flush->out[i]);
	}
	flush->out_count = 0;
}

static void tree_stop(struct lsm_flush *flush)
{
	if (flush->walking)
		memtable_walk_close(&flush->walk);
	flush->walking = false;
	out_drop(flush);
}

static int tree_open(struct lsm *lsm, const struct lsm_memory *frozen)
{
	struct lsm_flush *flush = &lsm->flush;
	const struct table_builder_options options = { .media = lsm->media,
						       .tree = flush->tree,
						       .table_bytes = lsm->options.table_bytes,
						       .block_bytes = lsm->options.block_bytes,
						       .blob_next = lsm_blob_next,
						       .made = flush_made_load,
						       .arg = lsm };
	int rc = table_builder_start(flush->builder, &options);
	if (rc < 0)
		return rc;
	flush->walk = (struct memtable_walk){ .op_max = LSM_OP_MAX };
	rc = memtable_walk_open(&flush->walk, frozen->table, flush->tree, NULL, false);
	if (rc < 0)
		return rc;
	flush->walking = true;
	struct source *source = &flush->walk.source;
	return merge_start(flush->merge, flush->tree, &source, 1, true);
}

static int tree_close(struct lsm *lsm)
{
	struct lsm_flush *flush = &lsm->flush;
	int rc = table_builder_finish(flush->builder);
	if (rc < 0)
		return rc;
	memtable_walk_close(&flush->walk);
	flush->walking = false;
	if (flush->out_count) {
		struct run *run = run_new(flush->tree, 0, flush->out, flush->out_count);
		if (!run)
			return -ENOMEM;
		flush->made[flush->tree] = run;
		flush->out_count = 0;
	}
	return 0;
}

/* Whether something older of this tree may be hidden by a deletion. */
static bool tree_below(struct lsm *lsm, enum tree tree)
{
	return lsm->base->tree[tree].count > 0;
}

static int tree_step(struct lsm *lsm)
{
	struct lsm_flush *flush = &lsm->flush;
	uint64_t snapshots[LSM_PINS];
	struct merge_rule rule = { .op_max = LSM_OP_MAX, .snapshots = snapshots };
	rule.snapshot_count = lsm_view_snapshots(lsm, snapshots, &rule.keep_from);
	rule.deletions = tree_below(lsm, flush->tree) ? MERGE_KEEP : MERGE_DROP;
	merge_rule(flush->merge, &rule);
	uint32_t made = flush->out_count;
	for (uint64_t bytes = 0; bytes < lsm->piece_bytes && made == flush->out_count;) {
		struct merge_piece piece;
		int rc = merge_next(flush->merge, &piece);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return tree_close(lsm);
		rc = table_builder_add(flush->builder, &piece.rows, piece.from, piece.to);
		if (rc < 0)
			return rc;
		bytes += merge_piece_bytes(&piece);
		__atomic_add_fetch(&lsm->flush_done, piece.to - piece.from, __ATOMIC_RELAXED);
	}
	return 1;
}

static void flush_start(struct lsm *lsm, const struct lsm_memory *frozen)
{
	struct lsm_flush *flush = &lsm->flush;
	flush->active = true;
	flush->built = false;
	flush->tree = (enum tree)0;
	uint64_t rows = 0;
	for (uint32_t tree = 0; tree < TREES; tree++)
		rows += memtable_rows(frozen->table, (enum tree)tree);
	__atomic_store_n(&lsm->flush_done, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&lsm->flush_all, rows, __ATOMIC_RELAXED);
}

int lsm_flush_step(struct lsm *lsm, struct lsm_memory *frozen)
{
	struct lsm_flush *flush = &lsm->flush;
	if (!flush->active)
		flush_start(lsm, frozen);
	while (!flush->walking && (uint32_t)flush->tree < TREES &&
	       memtable_rows(frozen->table, flush->tree) == 0)
		flush->tree++;
	if ((uint32_t)flush->tree == TREES) {
		flush->built = true;
		return 0;
	}
	int rc = flush->walking ? 0 : tree_open(lsm, frozen);
	if (rc == 0)
		rc = tree_step(lsm);
	if (rc < 0)
		tree_stop(flush);
	else if (rc == 0)
		flush->tree++;
	return rc;
}

static void made_drop(struct lsm_flush *flush, bool doomed)
{
	for (uint32_t tree = 0; tree < TREES; tree++) {
		struct run *run = flush->made[tree];
		for (uint32_t i = 0; run && doomed && i < run->count; i++)
			run->table[i]->doomed = true;
		run_drop(run);
		flush->made[tree] = NULL;
	}
}

int lsm_flush_finish(struct lsm *lsm, struct lsm_memory *frozen)
{
	struct lsm_flush *flush = &lsm->flush;
	HAUL_ASSERT(flush->built);
	struct lsm_change changes[TREES];
	uint32_t count = 0;
	for (uint32_t tree = 0; tree < TREES; tree++) {
		if (flush->made[tree])
			changes[count++] = (struct lsm_change){ .tree = (enum tree)tree,
								.run = flush->made[tree] };
	}
	struct lsm_view *view = lsm_view_change_new(lsm->base, changes, count);
	if (!view)
		return -ENOMEM;
	view->place = frozen->place;
	int rc = lsm_commit(lsm, view);
	if (rc < 0) {
		lsm_view_drop(lsm, view);
		return rc;
	}
	lsm_view_install(lsm, view, true);
	made_drop(flush, false);
	flush->active = false;
	__atomic_add_fetch(&lsm->flushes, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&lsm->checkpoints, 1, __ATOMIC_RELAXED);
	return 0;
}

void lsm_flush_stop(struct lsm *lsm)
{
	struct lsm_flush *flush = &lsm->flush;
	tree_stop(flush);
	/* Their blobs stay if a root may name them. */
	made_drop(flush, lsm->doubt_count == 0);
	flush->active = false;
	free(flush->out);
	flush->out = NULL;
	flush->out_room = 0;
}
