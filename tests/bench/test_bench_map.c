/* Needs root: the map bench on its small maps. How fast anything is, is not tested: that what the
 * arms do is right is, by the checks each of them has, and that these can fail. */
#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "lib/testlib.h"
#include "map_bare.h"
#include "map_table.h"
#include "map_work.h"

extern const struct bench bench_map;

enum { ENTRIES = 1000 };

static void *open_bench(void)
{
	struct haul_err err = { 0 };
	void *ctx;
	int rc = bench_map.open(&ctx, &err);
	if (rc == -EPERM || rc == -ENOTSUP)
		test_skip(err.text);
	if (rc < 0)
		fail_msg("%s", err.text);
	return ctx;
}

static struct map_table open_table(void)
{
	struct map_table table;
	struct haul_err err = { 0 };
	int rc = map_table_init(&table, ENTRIES, &err);
	if (rc == -EPERM || rc == -ENOTSUP)
		test_skip(err.text);
	if (rc < 0)
		fail_msg("%s", err.text);
	return table;
}

/* Both arms of every case for the small map do what they say, and give a figure. (What two programs
 * print is left out: the second would be this test.) */
static void test_bench_map__arms_do_what_they_say(void **state)
{
	(void)state;
	void *ctx = open_bench();
	uint32_t ran = 0;
	for (uint32_t i = 0; i < bench_map.case_count; i++) {
		const struct bench_case *of = &bench_map.cases[i];
		bool small = strstr(of->name, "_10k") && !strstr(of->name, "bpftool");
		for (enum bench_arm arm = 0; arm <= BENCH_BATCHED && small; arm++) {
			struct bench_sample sample = { 0 };
			struct haul_err err = { 0 };
			int rc = of->run(ctx, of, arm, 0.0001, &sample, &err);
			if (rc < 0)
				fail_msg("%s, arm %d: %s", of->name, arm, err.text);
			assert_true(sample.value > 0);
			ran++;
		}
	}
	assert_int_equal(ran, 20);
	bench_map.close(ctx);
}

/* The goals, as they are stated. */
static void test_bench_map__has_the_stated_goals(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		double goal;
	} goals[] = {
		{ "dump", 10 },         { "aggregate", 18 },
		{ "filter", 15 },       { "multiget", 6 },
		{ "upsert", 4 },        { "update", 2 },
		{ "age", 8 },           { "parallel", 1.7 },
		{ "dump_batch", 4 },    { "delete_batch", 1.6 },
		{ "bpftool_dump", 40 },
	};
	for (size_t i = 0; i < sizeof goals / sizeof *goals; i++) {
		bool found = false;
		for (uint32_t k = 0; k < bench_map.case_count; k++) {
			const struct bench_case *of = &bench_map.cases[k];
			found = found || (strcmp(of->name, goals[i].name) == 0 &&
					  of->goal >= goals[i].goal && of->lower_is_better);
		}
		if (!found)
			fail_msg("%s has another goal, or is not there", goals[i].name);
	}
}

/* An arm that read one entry twice instead of another, or that read a value which is not the key's,
 * is found out. */
static void test_map_work__checks_find_wrong_answers(void **state)
{
	(void)state;
	struct map_table table = open_table();
	struct map_run right = { .table = &table, .walk_max = UINT32_MAX };
	struct haul_err err;
	assert_int_equal(map_work_dump.arm[BENCH_BATCHED](&right, &err), 0);
	assert_int_equal(map_work_check_all(&right, &err), 0);
	struct map_run wrong = right;
	wrong.sum[0].count--;
	assert_int_equal(map_work_check_all(&wrong, &err), -EIO);
	wrong = right;
	wrong.sum[0].indexes++;
	assert_int_equal(map_work_check_all(&wrong, &err), -EIO);
	wrong = right;
	wrong.sum[0].bytes--;
	assert_int_equal(map_work_check_all(&wrong, &err), -EIO);
	map_table_done(&table);
}

/* Clean-up that leaves an old entry, or takes a young one, is found out even if the count is
 * right. */
static void test_map_work__age_check_reads_what_is_left(void **state)
{
	(void)state;
	struct map_table table = open_table();
	struct map_run run = { .table = &table, .walk_max = UINT32_MAX };
	struct haul_err err;
	assert_int_equal(map_work_age.arm[BENCH_BATCHED](&run, &err), 0);
	assert_int_equal(run.done, ENTRIES / 2);
	assert_int_equal(map_work_age.check(&run, &err), 0);
	assert_int_equal(map_table_put(&table, 0, 1), 0);
	assert_int_equal(map_table_remove(&table, ENTRIES - 1, 1), 0);
	assert_int_equal(map_work_age.check(&run, &err), -EIO);
	map_table_done(&table);
}

/* One by one means: a walk has each entry once, and an entry may go when the walk is past it. */
static void test_map_bare__walks_while_entries_go(void **state)
{
	(void)state;
	struct map_table table = open_table();
	struct map_run run = { .table = &table, .walk_max = UINT32_MAX };
	struct haul_err err;
	assert_int_equal(map_work_dump.arm[BENCH_INDIVIDUAL](&run, &err), 0);
	assert_int_equal(map_work_check_all(&run, &err), 0);
	assert_int_equal(run.calls, 2 * ENTRIES + 1);
	run = (struct map_run){ .table = &table, .walk_max = UINT32_MAX };
	assert_int_equal(map_work_age.arm[BENCH_INDIVIDUAL](&run, &err), 0);
	assert_int_equal(run.ops, ENTRIES);
	assert_int_equal(run.done, ENTRIES / 2);
	assert_int_equal(map_work_age.check(&run, &err), 0);
	map_table_done(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bench_map__arms_do_what_they_say),
		cmocka_unit_test(test_bench_map__has_the_stated_goals),
		cmocka_unit_test(test_map_work__checks_find_wrong_answers),
		cmocka_unit_test(test_map_work__age_check_reads_what_is_left),
		cmocka_unit_test(test_map_bare__walks_while_entries_go),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
