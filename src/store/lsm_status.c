/* store/lsm_status.c: figures, and the tables there are. */
#include "base/assert.h"
#include "store/lsm_state.h"

static uint64_t load(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static uint32_t unfiltered(const struct run *run)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < run->count; i++)
		count += !table_filtered(run->table[i]);
	return count;
}

static void levels_fill(const struct lsm *lsm, const struct lsm_view *view,
			struct haul_store_status *status)
{
	status->level_count = lsm->options.levels;
	status->debt_bytes = status->tables_unfiltered = 0;
	for (uint32_t level = 0; level < LSM_LEVELS_MAX; level++) {
		status->level[level].runs = status->level[level].tables = 0;
		status->level[level].rows = status->level[level].bytes = 0;
	}
	for (uint32_t tree = 0; tree < TREES; tree++) {
		uint32_t runs[LSM_LEVELS_MAX] = { 0 };
		uint64_t bytes[LSM_LEVELS_MAX] = { 0 };
		for (uint32_t i = 0; i < view->tree[tree].count; i++) {
			const struct run *run = view->tree[tree].run[i];
			uint32_t level =
				run->level < LSM_LEVELS_MAX ? run->level : LSM_LEVELS_MAX - 1;
			status->level[level].runs++;
			status->level[level].tables += run->count;
			status->level[level].rows += run->rows;
			status->level[level].bytes += run->bytes;
			status->tables_unfiltered += unfiltered(run);
			runs[level]++;
			bytes[level] += run->bytes;
		}
		for (uint32_t level = 0; level < LSM_LEVELS_MAX; level++) {
			if (runs[level] >= lsm->options.level_factor)
				status->debt_bytes += bytes[level];
		}
	}
}

void lsm_status(struct lsm *lsm, struct haul_store_status *ret_status)
{
	uint64_t op;
	struct lsm_view *view = lsm_view_take(lsm, &op);
	levels_fill(lsm, view, ret_status);
	ret_status->op_checkpoint = view->place.op;
	ret_status->memtable_bytes = memtable_used(view->active->table);
	if (view->frozen) {
		ret_status->memtable_bytes += memtable_used(view->frozen->table);
		ret_status->debt_bytes += memtable_used(view->frozen->table);
	}
	lsm_view_drop(lsm, view);
	ret_status->bytes_flushed = load(&lsm->bytes_flushed);
	ret_status->bytes_merged = load(&lsm->bytes_merged);
	ret_status->flushes = load(&lsm->flushes);
	ret_status->merges = load(&lsm->merges);
	ret_status->checkpoints = load(&lsm->checkpoints);
	ret_status->filter_bytes = load(&lsm->table_memory);
	uint64_t budget = lsm->options.frame_budget ? lsm->options.frame_budget : LSM_FRAME_BUDGET;
	ret_status->memory_bytes =
		LSM_MEMORIES * memtable_memory(lsm->options.memtable_bytes + budget) +
		memtable_sorter_memory(lsm->options.memtable_bytes + budget) +
		lsm->options.cache_bytes + ret_status->filter_bytes;
}

int lsm_tables(struct lsm *lsm, int (*told)(const struct table_info *info, void *arg), void *arg)
{
	struct lsm_view *view = lsm_view_current(lsm);
	int rc = 0;
	for (uint32_t tree = 0; tree < TREES && rc == 0; tree++) {
		const struct lsm_runs *runs = &view->tree[tree];
		for (uint32_t i = 0; i < runs->count && rc == 0; i++) {
			for (uint32_t k = 0; k < runs->run[i]->count && rc == 0; k++)
				rc = told(&runs->run[i]->table[k]->info, arg);
		}
	}
	lsm_view_drop(lsm, view);
	return rc;
}
