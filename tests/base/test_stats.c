#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include <haul/stats.h>
#include "lib/testlib.h"

/* A block is 12 KiB: too much for a test's stack, and each test starts with a fresh one anyway. */
static struct haul_stats block, seen;

/* No samples: quantile, mean and maximum are 0, also after adding none. */
static void test_hist__is_empty_at_first(void **state)
{
	(void)state;
	static struct haul_hist hist;
	assert_int_equal(haul_hist_quantile(&hist, 0.5), 0);
	assert_true(!(haul_hist_mean(&hist) > 0.0));
	haul_hist_add(&hist, 77, 0);
	assert_int_equal(haul_hist_quantile(&hist, 1.0), 0);
	assert_int_equal(hist.max, 0);
}

/* One sample of any size: every quantile is that sample, exactly (it is the maximum). */
static void test_hist__tells_a_lone_value_exactly(void **state)
{
	(void)state;
	for (int shift = 0; shift < 64; shift++) {
		for (int step = -1; step <= 1; step++) {
			struct haul_hist hist = { 0 };
			uint64_t value = (UINT64_C(1) << shift) + (uint64_t)(int64_t)step;
			haul_hist_add(&hist, value, 1);
			assert_true(haul_hist_quantile(&hist, 0.0) == value);
			assert_true(haul_hist_quantile(&hist, 0.5) == value);
			assert_true(haul_hist_quantile(&hist, 1.0) == value);
		}
	}
	struct haul_hist hist = { 0 };
	haul_hist_add(&hist, UINT64_MAX, 1);
	assert_true(haul_hist_quantile(&hist, 0.5) == UINT64_MAX);
}

/* Up to 15 every value has a bucket of its own. */
static void test_hist__is_exact_for_small_values(void **state)
{
	(void)state;
	struct haul_hist hist = { 0 };
	for (uint64_t value = 0; value < 16; value++)
		haul_hist_add(&hist, value, 1);
	for (unsigned k = 1; k <= 16; k++)
		assert_int_equal(haul_hist_quantile(&hist, k / 16.0), k - 1);
	assert_true(haul_hist_mean(&hist) > 7.49 && haul_hist_mean(&hist) < 7.51);
}

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* Against a sorted list: never below the true quantile, at most 12.5 % above. */
static void test_hist_quantile__is_within_an_eighth(void **state)
{
	(void)state;
	enum { COUNT = 1000 };
	struct prng prng;
	test_prng(&prng);
	for (int round = 0; round < 50; round++) {
		uint64_t values[COUNT];
		struct haul_hist hist = { 0 };
		uint32_t bits = 1 + prng_below(&prng, 50);
		for (int i = 0; i < COUNT; i++) {
			values[i] = prng_next(&prng) >> (63 - prng_below(&prng, bits));
			haul_hist_add(&hist, values[i], 1);
		}
		qsort(values, COUNT, sizeof *values, compare_u64);
		for (int k = 0; k <= COUNT; k++) {
			uint64_t exact = values[k == 0 ? 0 : k - 1];
			uint64_t told = haul_hist_quantile(&hist, (double)k / COUNT);
			assert_true(told >= exact);
			assert_true(told - exact <= exact / 8);
		}
		assert_true(hist.max == values[COUNT - 1]);
	}
}

static const struct haul_counter counters[] = {
	{ "drop_no_route", "frames with no route" },
	{ "drop_ttl", "frames whose time to live was used up" },
};

/* Two batches, one without wait and one without service time taken. */
static void test_stats_batch__counts_everything_once(void **state)
{
	(void)state;
	haul_stats_init(&block, "tap.rx", counters, 2);
	struct haul_stats_batch batch = { .ops = 5,
					  .syscalls = 1,
					  .bytes = 700,
					  .reason = HAUL_CLOSE_BYTES,
					  .wait_ns = -1,
					  .service_ns = 3000 };
	haul_stats_batch(&block, &batch);
	batch = (struct haul_stats_batch){ .ops = 3,
					   .syscalls = 2,
					   .bytes = 60,
					   .reason = HAUL_CLOSE_IDLE,
					   .wait_ns = 0,
					   .service_ns = -1 };
	haul_stats_batch(&block, &batch);
	haul_stats_count(&block, 1, 4);
	haul_stats_count(&block, 1, 1);
	assert_string_equal(block.name, "tap.rx");
	assert_int_equal(block.ops, 8);
	assert_int_equal(block.batches, 2);
	assert_int_equal(block.bytes, 760);
	assert_int_equal(block.syscalls, 3);
	assert_int_equal(block.closed[HAUL_CLOSE_BYTES], 1);
	assert_int_equal(block.closed[HAUL_CLOSE_IDLE], 1);
	assert_int_equal(block.closed[HAUL_CLOSE_OPS], 0);
	assert_int_equal(block.extra[0], 0);
	assert_int_equal(block.extra[1], 5);
	assert_int_equal(block.fill.count, 2);
	assert_int_equal(block.fill.sum, 8);
	assert_int_equal(block.wait_ns.count, 1);
	assert_int_equal(block.service_ns.count, 1);
	assert_int_equal(block.service_ns.max, 3000);
}

/* Every reason has the name that reports and /metrics show. */
static void test_close_name__has_one_for_each(void **state)
{
	(void)state;
	const char *const names[] = { "none", "ops",     "bytes", "deadline",
				      "idle", "barrier", "manual" };
	for (unsigned i = 0; i < HAUL_CLOSE_REASONS; i++)
		assert_string_equal(haul_close_name((enum haul_close)i), names[i]);
}

static void note_name(const struct haul_stats *snapshot, void *arg)
{
	char *names = arg;
	names[strlen(names)] = snapshot->name[0];
}

/* Blocks are visited in the order entered, names are single, and a removed block is gone. */
static void test_stats_table__keeps_the_order_entered(void **state)
{
	(void)state;
	static struct haul_stats a, b, c, again;
	struct haul_stats_table *table;
	haul_stats_init(&a, "a", NULL, 0);
	haul_stats_init(&b, "b", NULL, 0);
	haul_stats_init(&c, "c", NULL, 0);
	haul_stats_init(&again, "b", NULL, 0);
	assert_int_equal(haul_stats_table_open(&table), 0);
	assert_int_equal(haul_stats_enter(table, &c), 0);
	assert_int_equal(haul_stats_enter(table, &b), 0);
	assert_int_equal(haul_stats_enter(table, &a), 0);
	assert_int_equal(haul_stats_enter(table, &again), -EEXIST);
	char names[8] = "";
	assert_int_equal(haul_stats_visit(table, note_name, names), 3);
	assert_string_equal(names, "cba");
	haul_stats_remove(table, &b);
	haul_stats_remove(table, &b); /* not there: nothing happens */
	assert_int_equal(haul_stats_enter(table, &again), 0);
	memset(names, 0, sizeof names);
	assert_int_equal(haul_stats_visit(table, note_name, names), 3);
	assert_string_equal(names, "cab");
	haul_stats_table_close(table);
	haul_stats_table_close(NULL);
}

/* The one allocation fails: an error, and no table. */
static void test_stats_table_open__survives_want_of_memory(void **state)
{
	(void)state;
	struct haul_stats_table *table = NULL;
	if (!test_malloc_fail(0))
		skip();
	assert_int_equal(haul_stats_table_open(&table), -ENOMEM);
	assert_null(table);
}

/* The first block over the limit is refused. */
static void test_stats_table__is_bounded(void **state)
{
	(void)state;
	static struct haul_stats many[HAUL_STATS_BLOCKS + 1];
	static char names[HAUL_STATS_BLOCKS + 1][8];
	struct haul_stats_table *table;
	assert_int_equal(haul_stats_table_open(&table), 0);
	for (int i = 0; i <= HAUL_STATS_BLOCKS; i++) {
		snprintf(names[i], sizeof names[i], "n%d", i);
		haul_stats_init(&many[i], names[i], NULL, 0);
		assert_int_equal(haul_stats_enter(table, &many[i]),
				 i < HAUL_STATS_BLOCKS ? 0 : HAUL_EFULL);
	}
	haul_stats_table_close(table);
}

static void keep(const struct haul_stats *snapshot, void *arg)
{
	memcpy(arg, snapshot, sizeof *snapshot);
}

/* What is visited is a copy with every figure of the block in it. */
static void test_stats_visit__passes_a_full_snapshot(void **state)
{
	(void)state;
	struct haul_stats_table *table;
	haul_stats_init(&block, "x", counters, 2);
	uint64_t *word = &block.ops;
	size_t words = (sizeof block - offsetof(struct haul_stats, ops)) / sizeof *word;
	for (size_t i = 0; i < words; i++)
		memcpy((char *)&block + offsetof(struct haul_stats, ops) + i * sizeof i, &i,
		       sizeof i);
	assert_int_equal(haul_stats_table_open(&table), 0);
	assert_int_equal(haul_stats_enter(table, &block), 0);
	uint64_t before = test_mallocs();
	assert_int_equal(haul_stats_visit(table, keep, &seen), 1);
	assert_int_equal(test_mallocs(), before);
	assert_ptr_equal(seen.name, block.name);
	assert_ptr_equal(seen.counters, counters);
	assert_int_equal(seen.counter_count, 2);
	assert_memory_equal(&seen.ops, &block.ops, words * sizeof *word);
	haul_stats_table_close(table);
}

struct watch {
	uint64_t ops, bytes;
	uint32_t bad;
};

static void watch_grow(const struct haul_stats *snapshot, void *arg)
{
	struct watch *watch = arg;
	watch->bad += snapshot->ops < watch->ops || snapshot->bytes < watch->bytes;
	watch->bad += snapshot->bytes % (UINT64_C(1) << 33) != 0;
	watch->ops = snapshot->ops;
	watch->bytes = snapshot->bytes;
}

static _Atomic int stop_writing;

static void *write_figures(void *arg)
{
	struct haul_stats_batch batch = {
		.ops = 7, .bytes = UINT64_C(1) << 33, .reason = HAUL_CLOSE_OPS, .wait_ns = 5
	};
	while (!atomic_load(&stop_writing))
		haul_stats_batch(arg, &batch);
	return NULL;
}

/* A writer at full speed and a reader: no figure ever goes back or is torn. */
static void test_stats_visit__reads_beside_a_writer(void **state)
{
	(void)state;
	struct haul_stats_table *table;
	struct watch watch = { 0 };
	pthread_t writer;
	haul_stats_init(&block, "x", NULL, 0);
	assert_int_equal(haul_stats_table_open(&table), 0);
	assert_int_equal(haul_stats_enter(table, &block), 0);
	assert_int_equal(pthread_create(&writer, NULL, write_figures, &block), 0);
	for (int i = 0; i < 2000 || watch.ops == 0; i++)
		haul_stats_visit(table, watch_grow, &watch);
	atomic_store(&stop_writing, 1);
	assert_int_equal(pthread_join(writer, NULL), 0);
	assert_int_equal(watch.bad, 0);
	assert_true(block.ops == 7 * block.batches);
	haul_stats_table_close(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hist__is_empty_at_first),
		cmocka_unit_test(test_hist__tells_a_lone_value_exactly),
		cmocka_unit_test(test_hist__is_exact_for_small_values),
		cmocka_unit_test(test_hist_quantile__is_within_an_eighth),
		cmocka_unit_test(test_stats_batch__counts_everything_once),
		cmocka_unit_test(test_close_name__has_one_for_each),
		cmocka_unit_test(test_stats_table__keeps_the_order_entered),
		cmocka_unit_test(test_stats_table_open__survives_want_of_memory),
		cmocka_unit_test(test_stats_table__is_bounded),
		cmocka_unit_test(test_stats_visit__passes_a_full_snapshot),
		cmocka_unit_test(test_stats_visit__reads_beside_a_writer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
