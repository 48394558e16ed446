#include <string.h>

#include "base/assert.h"
#include "store/reader_state.h"
#include "store/store_parts.h"

void haul_store_status(struct haul_store *store, struct haul_store_status *ret_status)
{
	struct commit *commit = &store->commit;
	struct haul_store_status status = { 0 };

	HAUL_ASSERT(store != NULL && ret_status != NULL);
	lsm_status(store->lsm, &status);
	memcpy(status.uuid, store->uuid, sizeof status.uuid);
	(void)pthread_mutex_lock(&commit->lock);
	status.op_last = commit->durable;
	status.sync_ns = (int64_t)commit->write_ns;
	status.arrivals_per_s = commit->sizer.ops_per_ns * 1e9;
	status.throttle_ns = commit->stats.throttle_ns;
	status.throttle_max_ns = commit->stats.throttle_max_ns;
	status.bytes_logged = log_bytes(store->log);
	status.log_bytes = log_place(store->log).position - lsm_checkpoint(store->lsm).position;
	(void)pthread_mutex_unlock(&commit->lock);
	status.op_checkpoint = lsm_checkpoint(store->lsm).op;
	status.memory_bytes = store_memory_taken(&store->memory, status.filter_bytes);
	*ret_status = status;
}

int haul_store_reader(struct haul_store *store, uint64_t bytes, struct haul_reader **ret_reader)
{
	enum { READER_BYTES = 4 << 20 };

	HAUL_ASSERT(store != NULL && ret_reader != NULL);
	return reader_store_new(ret_reader, store->lsm, store->vectors,
				bytes > 0 ? bytes : READER_BYTES);
}

/* ---- the block "store.lsm" ---- */

static const struct haul_counter lsm_counters[] = {
	{ "flushes", "memory tables written as tables" },
	{ "merges", "runs merged into one of the next level" },
	{ "compactions", "merges, under the name of the seed" },
	{ "checkpoints", "roots written" },
	{ "memtable_bytes", "in memory, not yet in a table" },
	{ "log_since_checkpoint_bytes", "to be replayed when it is opened again" },
	{ "debt_bytes", "to be merged" },
	{ "bytes_logged", "since open" },
	{ "bytes_flushed", "since open" },
	{ "bytes_merged", "since open" },
	{ "write_amplification_percent", "bytes logged, flushed and merged, for 100 logged" },
	{ "memory_bytes", "taken" },
	{ "filter_bytes", "of it: filters and indexes of tables" },
	{ "tables_unfiltered", "tables whose filter found no room in memory" },
	{ "level0_tables", "tables of level 0" },
	{ "level0_rows", "rows of level 0" },
	{ "level0_bytes", "bytes of level 0" },
	{ "level1_tables", "tables of level 1" },
	{ "level1_rows", "rows of level 1" },
	{ "level1_bytes", "bytes of level 1" },
	{ "level2_tables", "tables of level 2" },
	{ "level2_rows", "rows of level 2" },
	{ "level2_bytes", "bytes of level 2" },
	{ "level3_tables", "tables of level 3" },
	{ "level3_rows", "rows of level 3" },
	{ "level3_bytes", "bytes of level 3 and below" },
};
enum {
	AT_LEVELS = 14,
	LEVEL_FIGURES = 3,
	LEVELS_SHOWN = 4,
	LSM_COUNTERS = AT_LEVELS + LEVEL_FIGURES * LEVELS_SHOWN
};
static_assert(sizeof lsm_counters / sizeof lsm_counters[0] == LSM_COUNTERS,
	      "a place for each counter");

static void lsm_refresh(struct haul_stats *stats)
{
	struct haul_store *store =
		(struct haul_store *)((char *)stats - offsetof(struct haul_store, stats_lsm));
	struct haul_store_status status;

	haul_store_status(store, &status);
	const uint64_t written = status.bytes_logged + status.bytes_flushed + status.bytes_merged;
	const uint64_t figures[AT_LEVELS] = {
		status.flushes,
		status.merges,
		status.merges,
		status.checkpoints,
		status.memtable_bytes,
		status.log_bytes,
		status.debt_bytes,
		status.bytes_logged,
		status.bytes_flushed,
		status.bytes_merged,
		status.bytes_logged > 0 ? written * 100 / status.bytes_logged : 0,
		status.memory_bytes,
		status.filter_bytes,
		status.tables_unfiltered,
	};
	memcpy(stats->extra, figures, sizeof figures);
	uint64_t levels[LEVELS_SHOWN][LEVEL_FIGURES] = { 0 };
	for (uint32_t i = 0; i < status.level_count; i++) {
		uint64_t *level = levels[i < LEVELS_SHOWN ? i : LEVELS_SHOWN - 1];
		level[0] += status.level[i].tables;
		level[1] += status.level[i].rows;
		level[2] += status.level[i].bytes;
	}
	memcpy(&stats->extra[AT_LEVELS], levels, sizeof levels);
}

int store_stats_enter(struct haul_store *store)
{
	struct haul_stats_table *table = store->options.stats;

	haul_stats_init(&store->stats_lsm, "store.lsm", lsm_counters, LSM_COUNTERS);
	store->stats_lsm.refresh = lsm_refresh;
	if (table == NULL)
		return 0;
	int rc = haul_stats_enter(table, &store->commit.stats_commit);
	if (rc < 0)
		return rc;
	rc = haul_stats_enter(table, &store->commit.stats_log);
	if (rc < 0) {
		haul_stats_remove(table, &store->commit.stats_commit);
		return rc;
	}
	rc = haul_stats_enter(table, &store->stats_lsm);
	if (rc < 0) {
		haul_stats_remove(table, &store->commit.stats_log);
		haul_stats_remove(table, &store->commit.stats_commit);
		return rc;
	}
	store->entered = true;
	return 0;
}

void store_stats_remove(struct haul_store *store)
{
	struct haul_stats_table *table = store->options.stats;

	if (!store->entered)
		return;
	haul_stats_remove(table, &store->stats_lsm);
	haul_stats_remove(table, &store->commit.stats_log);
	haul_stats_remove(table, &store->commit.stats_commit);
	store->entered = false;
}
