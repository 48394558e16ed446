/* stats — one block of numbers a batching place, one table for all of them.
 *
 *   cc stats.c $(pkg-config --cflags --libs haul) && ./a.out
 *
 * A block has one writer and needs no lock; any thread may visit the table and sees a snapshot. */
#include <inttypes.h>
#include <stdio.h>

#include <haul/haul.h>

/* A module may have counters of its own beside the fixed figures: why messages were rejected. */
static const struct haul_counter counters[HAUL_REJECTS] = {
#define X(id, name, help) [id] = { name, help },
	HAUL_REJECT_LIST(X)
#undef X
};

static void print_block(const struct haul_stats *block, void *arg)
{
	(void)arg;
	printf("%s: %" PRIu64 " operations in %" PRIu64 " batches, %.2f system calls each\n",
	       block->name, block->ops, block->batches,
	       (double)block->syscalls / (double)block->ops);
	printf("  fill p50 %" PRIu64 " p99 %" PRIu64 "\n", haul_hist_quantile(&block->fill, 0.5),
	       haul_hist_quantile(&block->fill, 0.99));
	for (uint32_t reason = 0; reason < HAUL_CLOSE_REASONS; reason++)
		if (block->closed[reason] > 0)
			printf("  closed by %s: %" PRIu64 "\n",
			       haul_close_name((enum haul_close)reason), block->closed[reason]);
	for (uint32_t i = 0; i < block->counter_count; i++)
		if (block->extra[i] > 0)
			printf("  %s: %" PRIu64 " (%s)\n", block->counters[i].name, block->extra[i],
			       block->counters[i].help);
}

int main(void)
{
	static struct haul_stats stats; /* large, because of its histograms */
	struct haul_stats_table *table = NULL;

	if (haul_stats_table_open(&table) < 0)
		return 1;
	haul_stats_init(&stats, "example.tx", counters, HAUL_REJECTS);
	int rc = haul_stats_enter(table, &stats);

	for (uint32_t i = 1; i <= 100; i++) {
		const struct haul_stats_batch batch = {
			.ops = i % 32 + 1,
			.syscalls = 1,
			.bytes = 1472,
			.reason = i % 10 == 0 ? HAUL_CLOSE_DEADLINE : HAUL_CLOSE_IDLE,
			.wait_ns = -1, /* not measured: the clock costs more than a batch */
			.service_ns = -1,
		};
		haul_stats_batch(&stats, &batch);
	}
	haul_stats_count(&stats, HAUL_REJECT_VERSION, 3);

	int blocks = haul_stats_visit(table, print_block, NULL);
	haul_stats_remove(table, &stats);
	haul_stats_table_close(table);
	return rc == 0 && blocks == 1 ? 0 : 1;
}
