#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include <haul/stats.h>
#include "base/assert.h"
#include "base/counter.h"

struct haul_stats_table {
	pthread_mutex_t lock;
	uint32_t count;
	struct haul_stats *block[HAUL_STATS_BLOCKS]; /* in the order entered */
	struct haul_stats snapshot;                  /* too large for a stack; guarded by lock */
};

const char *haul_close_name(enum haul_close reason)
{
	static const char *const names[] = {
#define X(name, text) text,
		HAUL_CLOSE_LIST(X)
#undef X
	};
	HAUL_ASSERT((unsigned)reason < HAUL_CLOSE_REASONS);
	return names[reason];
}

void haul_stats_init(struct haul_stats *stats, const char *name,
		     const struct haul_counter *counters, uint32_t counter_count)
{
	HAUL_ASSERT(name != NULL);
	HAUL_ASSERT(counter_count <= HAUL_STATS_COUNTERS);
	HAUL_ASSERT(counters != NULL || counter_count == 0);
	memset(stats, 0, sizeof *stats);
	stats->name = name;
	stats->counters = counters;
	stats->counter_count = counter_count;
}

void haul_stats_batch(struct haul_stats *stats, const struct haul_stats_batch *batch)
{
	HAUL_ASSERT((unsigned)batch->reason < HAUL_CLOSE_REASONS);
	counter_add(&stats->ops, batch->ops);
	counter_add(&stats->batches, 1);
	counter_add(&stats->bytes, batch->bytes);
	counter_add(&stats->syscalls, batch->syscalls);
	counter_add(&stats->closed[batch->reason], 1);
	haul_hist_add(&stats->fill, batch->ops, 1);
	if (batch->wait_ns >= 0)
		haul_hist_add(&stats->wait_ns, (uint64_t)batch->wait_ns, 1);
	if (batch->service_ns >= 0)
		haul_hist_add(&stats->service_ns, (uint64_t)batch->service_ns, 1);
}

void haul_stats_count(struct haul_stats *stats, uint32_t index, uint64_t n)
{
	HAUL_ASSERT(index < stats->counter_count);
	counter_add(&stats->extra[index], n);
}

int haul_stats_table_open(struct haul_stats_table **ret_table)
{
	struct haul_stats_table *table = calloc(1, sizeof *table);
	if (!table)
		return -ENOMEM;
	int rc = pthread_mutex_init(&table->lock, NULL);
	if (rc != 0) {
		free(table);
		return -rc;
	}
	*ret_table = table;
	return 0;
}

void haul_stats_table_close(struct haul_stats_table *table)
{
	if (!table)
		return;
	pthread_mutex_destroy(&table->lock);
	free(table);
}

int haul_stats_enter(struct haul_stats_table *table, struct haul_stats *stats)
{
	HAUL_ASSERT(stats->name != NULL);
	int rc = 0;
	pthread_mutex_lock(&table->lock);
	for (uint32_t i = 0; i < table->count; i++)
		if (strcmp(table->block[i]->name, stats->name) == 0)
			rc = -EEXIST;
	if (rc == 0 && table->count == HAUL_STATS_BLOCKS)
		rc = HAUL_EFULL;
	if (rc == 0)
		table->block[table->count++] = stats;
	pthread_mutex_unlock(&table->lock);
	return rc;
}

void haul_stats_remove(struct haul_stats_table *table, struct haul_stats *stats)
{
	pthread_mutex_lock(&table->lock);
	HAUL_ASSERT(table->count <= HAUL_STATS_BLOCKS);
	uint32_t kept = 0;
	for (uint32_t i = 0; i < table->count; i++)
		if (table->block[i] != stats)
			table->block[kept++] = table->block[i];
	table->count = kept;
	pthread_mutex_unlock(&table->lock);
}

/* The figures, word by word: a plain copy could tear them under a writer. */
static void snapshot_take(struct haul_stats *snapshot, const struct haul_stats *live)
{
	enum { FIGURES_AT = offsetof(struct haul_stats, ops) };
	static_assert(FIGURES_AT % sizeof(uint64_t) == 0, "figures are whole words");
	static_assert((sizeof *live - FIGURES_AT) % sizeof(uint64_t) == 0, "and nothing else");

	snapshot->name = live->name;
	snapshot->counters = live->counters;
	snapshot->counter_count = live->counter_count;
	snapshot->refresh = NULL;
	const uint64_t *from = (const void *)((const char *)live + FIGURES_AT);
	uint64_t *to = (void *)((char *)snapshot + FIGURES_AT);
	for (size_t i = 0; i < (sizeof *live - FIGURES_AT) / sizeof *to; i++)
		to[i] = counter_get(&from[i]);
}

int haul_stats_visit(struct haul_stats_table *table,
		     void (*visit)(const struct haul_stats *snapshot, void *arg), void *arg)
{
	HAUL_ASSERT(visit != NULL);
	pthread_mutex_lock(&table->lock);
	uint32_t count = table->count;
	for (uint32_t i = 0; i < count; i++) {
		if (table->block[i]->refresh)
			table->block[i]->refresh(table->block[i]);
		snapshot_take(&table->snapshot, table->block[i]);
		visit(&table->snapshot, arg);
	}
	pthread_mutex_unlock(&table->lock);
	return (int)count;
}
