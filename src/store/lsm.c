#include "store/lsm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/lsm_state.h"
#include "store/table_cache.h"

int lsm_make(struct media *media, const uint8_t uuid[16], struct haul_err *err)
{
	struct manifest_root root = { .blob_next = 1 };
	memcpy(root.uuid, uuid, sizeof root.uuid);
	int rc = manifest_root_put(media, 0, &root);
	if (rc < 0)
		return haul_err_set(err, rc, "the root of a new store cannot be written: %s",
				    haul_strerror(rc));
	return 0;
}

/* ---- opening ---- */

static int memory_init(struct lsm *lsm)
{
	const struct lsm_options *options = &lsm->options;
	uint64_t budget = options->frame_budget ? options->frame_budget : LSM_FRAME_BUDGET;
	int rc = memtable_sorter_new(&lsm->sorter, options->memtable_bytes + budget);
	for (uint32_t i = 0; i < LSM_MEMORIES && rc == 0; i++)
		rc = memtable_new(&lsm->memory[i].table, options->memtable_bytes + budget,
				  lsm->sorter);
	if (rc == 0)
		rc = lsm_scratch_new(&lsm->scratch, LSM_FIND);
	lsm->lend = (struct lend){ .data = aligned_alloc(LEND_ALIGN, LSM_LEND), .bytes = LSM_LEND };
	if (rc == 0 && !lsm->lend.data)
		rc = -ENOMEM;
	if (rc < 0 || options->read_only)
		return rc;
	rc = table_builder_new(&lsm->flush.builder, lsm_table_bytes(lsm));
	return rc < 0 ? rc : merge_new(&lsm->flush.merge, 1);
}

struct run_infos {
	const struct table_info *info;
	uint32_t count, level;
};

static int tables_open(struct lsm *lsm, const struct run_infos *infos, struct table **tables,
		       struct haul_err *err)
{
	for (uint32_t i = 0; i < infos->count; i++) {
		int rc = lsm_table_open(lsm, &infos->info[i], infos->level, &tables[i], err);
		if (rc < 0) {
			while (i > 0)
				table_drop(tables[--i]);
			return rc;
		}
	}
	return 0;
}

/* There may have been more levels when it was made. */
static uint32_t run_level(const struct lsm *lsm, const struct manifest_run *run)
{
	uint32_t last = lsm->options.levels - 1;
	return run->level < last ? run->level : last;
}

static int run_open(struct lsm *lsm, const struct manifest *manifest,
		    const struct manifest_run *from, struct run **ret_run, struct haul_err *err)
{
	struct table **tables = calloc(from->count, sizeof(struct table *));
	if (!tables)
		return -ENOMEM;
	const struct run_infos infos = { .info = &manifest->tables[from->first],
					 .count = from->count,
					 .level = run_level(lsm, from) };
	int rc = tables_open(lsm, &infos, tables, err);
	if (rc == 0) {
		*ret_run = run_new((enum tree)from->tree, infos.level, tables, from->count);
		for (uint32_t i = 0; !*ret_run && i < from->count; i++)
			table_drop(tables[i]);
		rc = *ret_run ? 0 : -ENOMEM;
	}
	free(tables);
	return rc;
}

/* A level of all trees: filters find room in the order in which tables are opened. */
static int level_open(struct lsm *lsm, const struct manifest *manifest, uint32_t level,
		      struct haul_err *err)
{
	uint32_t at[TREES] = { 0 };
	for (uint32_t i = 0; i < manifest->run_count; i++) {
		const struct manifest_run *from = &manifest->runs[i];
		struct run **run = &lsm->current->tree[from->tree].run[at[from->tree]++];
		int rc =
			run_level(lsm, from) == level ? run_open(lsm, manifest, from, run, err) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int view_open(struct lsm *lsm, const struct manifest *manifest, struct haul_err *err)
{
	struct lsm_view *view = lsm_view_new(manifest->run_count);
	if (!view)
		return -ENOMEM;
	view->place = lsm->root.place;
	view->active = lsm_memory_hold(&lsm->memory[0]);
	lsm->current = view;
	struct run **next = view->run;
	for (uint32_t tree = 0; tree < TREES; tree++) {
		view->tree[tree].run = next;
		for (uint32_t i = 0; i < manifest->run_count; i++)
			view->tree[tree].count += manifest->runs[i].tree == tree;
		next += view->tree[tree].count;
	}
	int rc = 0;
	for (uint32_t level = 0; level < lsm->options.levels && rc == 0; level++)
		rc = level_open(lsm, manifest, level, err);
	return rc;
}

/* ---- blobs that nobody names ---- */

struct blobs {
	uint64_t *blob;
	uint32_t count, room;
};

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static int blob_load(uint64_t blob, void *arg)
{
	struct blobs *blobs = arg;
	if (blobs->count == blobs->room) {
		uint32_t room = blobs->room ? blobs->room * 2 : 64;
		uint64_t *grown = realloc(blobs->blob, room * sizeof *grown);
		if (!grown)
			return -ENOMEM;
		blobs->blob = grown;
		blobs->room = room;
	}
	blobs->blob[blobs->count++] = blob;
	return 0;
}

/* Deletes what is listed and not named, and sees to it that no number is used twice. */
static int blobs_sort_out(struct lsm *lsm, const struct blobs *named, const struct blobs *listed)
{
	for (uint32_t i = 0; i < listed->count; i++) {
		uint64_t blob = listed->blob[i];
		if (blob >= lsm->blob_next)
			lsm->blob_next = blob + 1;
		if (lsm->options.read_only)
			continue;
		if (named->count &&
		    bsearch(&blob, named->blob, named->count, sizeof blob, compare_u64))
			continue;
		int rc = MEDIA_CALL(lsm->media, blob_delete, blob);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int blobs_open(struct lsm *lsm, const struct manifest *manifest, struct haul_err *err)
{
	struct blobs named = { .count = 0 }, listed = { .count = 0 };
	lsm->blob_next = lsm->root.blob_next ? lsm->root.blob_next : 1;
	int rc = MEDIA_CALL(lsm->media, blob_list, blob_load, &listed);
	if (rc == 0 && lsm->root.blob)
		rc = blob_load(lsm->root.blob, &named);
	for (uint32_t i = 0; rc == 0 && i < manifest->table_count; i++)
		rc = blob_load(manifest->tables[i].blob, &named);
	if (rc == 0 && named.count)
		qsort(named.blob, named.count, sizeof *named.blob, compare_u64);
	if (rc == 0)
		rc = blobs_sort_out(lsm, &named, &listed);
	free(listed.blob);
	free(named.blob);
	if (rc < 0)
		return haul_err_set(err, rc, "blobs left over cannot be cleared away: %s",
				    haul_strerror(rc));
	return 0;
}

/* ---- */

static int state_open(struct lsm *lsm, struct haul_err *err)
{
	struct manifest *manifest = NULL;
	int rc = manifest_root_get(lsm->media, &lsm->root, &lsm->root_version, err);
	if (rc == 0)
		rc = manifest_load(lsm->media, &lsm->root, &manifest, err);
	if (rc < 0)
		return rc;
	HAUL_ASSERT(manifest);
	rc = view_open(lsm, manifest, err);
	if (rc == 0)
		rc = blobs_open(lsm, manifest, err);
	manifest_free(manifest);
	return rc;
}

int lsm_open(struct lsm **ret_lsm, const struct lsm_options *options, uint8_t ret_uuid[16],
	     struct log_place *ret_place, struct haul_err *err)
{
	HAUL_ASSERT(options->levels >= 1 && options->levels <= LSM_LEVELS_MAX);
	HAUL_ASSERT(options->level_factor >= 2);
	struct lsm *lsm = calloc(1, sizeof *lsm);
	if (!lsm)
		return haul_err_set(err, -ENOMEM, "no memory for the merge tree");
	lsm->options = *options;
	lsm->media = options->media;
	lsm->piece_bytes = lsm_table_bytes(lsm);
	(void)pthread_mutex_init(&lsm->lock, NULL);
	int rc = table_cache_new(&lsm->cache, options->cache_bytes);
	if (rc == 0)
		rc = memory_init(lsm);
	if (rc < 0)
		(void)haul_err_set(err, rc, "no memory for memory tables and cache: %s",
				   haul_strerror(rc));
	if (rc == 0)
		rc = state_open(lsm, err);
	if (rc < 0) {
		lsm_close(lsm);
		return rc;
	}
	lsm->active = lsm_memory_hold(lsm->current->active);
	memcpy(lsm->uuid, lsm->root.uuid, sizeof lsm->uuid);
	lsm->published = lsm->root.place.op;
	lsm->quiet_op = UINT64_MAX;
	lsm_view_follow(lsm);
	lsm_plan_debt(lsm);
	/* Filters found room before all indexes were there. */
	while (lsm_filters_step(lsm) > 0) {
		lsm_view_reap(lsm);
		lsm_plan_debt(lsm);
	}
	memcpy(ret_uuid, lsm->uuid, sizeof lsm->uuid);
	*ret_place = lsm->root.place;
	*ret_lsm = lsm;
	return 0;
}

void lsm_close(struct lsm *lsm)
{
	if (!lsm)
		return;
	lsm_flush_stop(lsm);
	for (uint32_t i = 0; i < LSM_JOBS; i++)
		lsm_job_stop(lsm, &lsm->jobs[i]);
	lsm_memory_drop(lsm->active);
	lsm_memory_drop(lsm->frozen);
	lsm_view_drop(lsm, lsm->base);
	lsm_view_drop(lsm, lsm->current);
	lsm_view_reap(lsm);
	for (uint32_t i = 0; i < LSM_JOBS; i++)
		table_builder_free(lsm->jobs[i].builder);
	for (uint32_t i = 0; i < LSM_MEMORIES; i++) {
		HAUL_ASSERT(lsm->memory[i].holds == 0); /* a view that was not dropped */
		memtable_free(lsm->memory[i].table);
	}
	memtable_sorter_free(lsm->sorter);
	table_builder_free(lsm->flush.builder);
	merge_free(lsm->flush.merge);
	lsm_scratch_free(lsm->scratch);
	free(lsm->lend.data);
	table_cache_free(lsm->cache);
	free(lsm->doubt);
	(void)pthread_mutex_destroy(&lsm->lock);
	free(lsm);
}
