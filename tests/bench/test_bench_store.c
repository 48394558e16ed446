/* The store bench with little in it. How fast anything is, is not tested: that every case runs, and
 * that its checks can fail, is. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench_lab.h"
#include "lib/testlib.h"
#include "store_work.h"

extern const struct bench bench_store;

static const struct store_sizes small = {
	.space_bytes = UINT64_C(1) << 30,
	.get_nodes = 20000,
	.knn_vectors = 500,
	.knn_dimensions = 16,
	.sustain = 2,
	.server_memory = UINT64_C(160) << 20,
	.server_memtable = 1 << 20,
};

static struct store_bench *bench_open(void)
{
	struct haul_err err = { 0 };
	void *ctx;
	if (store_bench_open(&ctx, &small, &err) == -ENOSPC)
		test_skip(err.text);
	assert_non_null(ctx);
	return ctx;
}

/* Both arms of every case run and give a figure; what this program was built without is said; and
 * nothing is left in the folder. */
static void test_bench_store__arms_do_what_they_say(void **state)
{
	(void)state;
	struct store_bench *bench = bench_open();
	char folder[STORE_PATH];
	memcpy(folder, bench->folder, sizeof folder);
	bench->slow_ns = 100 * NS_PER_US;
	const uint32_t ran = bench_lab_run(&bench_store, bench, 0.02);
	assert_int_equal(access(folder, F_OK), 0);
	store_bench_close(bench);
	assert_int_equal(access(folder, F_OK), -1);
	assert_in_range(ran, 2 * 10, 2 * bench_store.case_count);
}

/* The goals, as they are stated. */
static void test_bench_store__has_the_stated_goals(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		double goal;
	} goals[] = {
		{ "manual_slow", 50 },   { "client_slow", 75 }, { "server_slow", 100 },
		{ "client", 20 },        { "server", 20 },      { "extreme_ascending", 1 },
		{ "extreme_random", 1 }, { "extreme_p99", 1 },  { "extreme_gap", 1 },
		{ "vs_best_1", 1 },      { "vs_best_100", 3 },  { "vs_best_1000", 3 },
		{ "vs_best_8190", 3 },   { "get_vs_lmdb", 1 },  { "knn", 8 },
	};
	static const struct {
		const char *name;
		double limit;
	} limits[] = {
		{ "extreme_ascending", 800000 },
		{ "extreme_random", 500000 },
		{ "extreme_p99", 100 },
		{ "extreme_gap", 200 },
	};
	for (uint32_t i = 0; i < sizeof goals / sizeof *goals; i++)
		assert_true(bench_lab_case(&bench_store, goals[i].name)->goal == goals[i].goal);
	for (uint32_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct bench_sample sample = { 0 };
		const struct bench_case *of = bench_lab_case(&bench_store, limits[i].name);
		assert_int_equal(of->run(NULL, of, BENCH_INDIVIDUAL, 1, &sample, NULL), 0);
		assert_true(sample.value == limits[i].limit);
	}
}

/* The four load levels are told with the latency of each operation. */
static void test_bench_store__tells_of_four_load_levels(void **state)
{
	(void)state;
	struct store_bench *bench = bench_open();
	struct haul_err err = { 0 };
	json_t *tables = json_array();
	int rc = store_serve_tables(bench, tables, &err);
	if (rc < 0)
		fail_msg("%s", err.text);
	const json_t *rows = json_object_get(json_array_get(tables, 0), "rows");
	assert_int_equal(json_array_size(rows), 4);
	for (size_t i = 0; i < 4; i++)
		for (size_t column = 3; column < 7; column++)
			assert_true(json_real_value(
					    json_array_get(json_array_get(rows, i), column)) > 0);
	json_decref(tables);
	store_bench_close(bench);
}

/* Too little room is said before anything is written. */
static void test_bench_store__says_when_there_is_too_little_room(void **state)
{
	(void)state;
	struct store_sizes large = small;
	struct haul_err err = { 0 };
	void *ctx = NULL;
	large.space_bytes = UINT64_C(1) << 60;
	assert_int_equal(store_bench_open(&ctx, &large, &err), -ENOSPC);
	assert_null(ctx);
	assert_non_null(strstr(err.text, "TMPDIR"));
}

/* The same bytes are given to all engines: what the others store is haul's record. */
static void test_bench_store__records_are_the_same_for_all(void **state)
{
	(void)state;
	uint8_t value[STORE_VALUE];
	struct haul_changes *changes;
	struct haul_property property;
	uint32_t offset = 0;
	store_value(77, value);
	const struct haul_properties properties = { .data = value + 8,
						    .bytes = STORE_VALUE - 8,
						    .count = 1 };
	assert_int_equal(haul_property_next(&properties, &offset, &property), 1);
	assert_int_equal(property.data_bytes, STORE_PAYLOAD);
	assert_int_equal(haul_property_next(&properties, &offset, &property), 0);
	assert_int_equal(haul_changes_new(&changes, 0, 0, 0), 0);
	assert_int_equal(store_node_add(changes, 77), 0);
	haul_changes_free(changes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bench_store__arms_do_what_they_say),
		cmocka_unit_test(test_bench_store__has_the_stated_goals),
		cmocka_unit_test(test_bench_store__tells_of_four_load_levels),
		cmocka_unit_test(test_bench_store__says_when_there_is_too_little_room),
		cmocka_unit_test(test_bench_store__records_are_the_same_for_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
