#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "lib/testlib.h"

extern const struct bench bench_sizer;

/* A bench whose arms give stated figures, and which notes the order they were asked in. */
struct fake {
	char order[64];
	uint32_t asked[2];
	int fail;     /* what run returns from its third call on */
	bool nothing; /* the batched arm measures 0 */
};

static struct fake fake;

static int fake_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		    struct bench_sample *ret_sample, struct haul_err *err)
{
	(void)seconds;
	(void)self;
	assert_ptr_equal(ctx, &fake);
	/* Pairs' ratios are 4, 2, 8, 5, 3: the median is 4. */
	static const double individual[] = { 10, 10, 10, 10, 10 };
	static const double batched[] = { 40, 20, 80, 50, 30 };
	fake.order[strlen(fake.order)] = arm == BENCH_BATCHED ? 'B' : 'A';
	if (fake.fail && strlen(fake.order) >= 3)
		return haul_err_set(err, fake.fail, "no such thing here");
	uint32_t i = fake.asked[arm]++ % 5;
	ret_sample->value = arm == BENCH_BATCHED ? batched[i] : individual[i];
	if (arm == BENCH_BATCHED && fake.nothing)
		ret_sample->value = 0;
	ret_sample->syscalls_per_op = arm == BENCH_BATCHED ? 0.25 : 1;
	snprintf(ret_sample->note, sizeof ret_sample->note, "run %u", i);
	return 0;
}

static int fake_open(void **ret_ctx, struct haul_err *err)
{
	(void)err;
	*ret_ctx = &fake;
	return 0;
}

static const struct bench_case fake_cases[] = {
	{ .name = "one", .unit = "kpps", .goal = 3, .arms = "a | b", .run = fake_run },
	{ .name = "two",
	  .unit = "ns/op",
	  .lower_is_better = true,
	  .arms = "a | b",
	  .run = fake_run },
};

static const struct bench fake_bench = {
	.name = "fake", .help = "None", .cases = fake_cases, .case_count = 2, .open = fake_open
};

static int fake_tables(void *ctx, struct json_t *tables, struct haul_err *err)
{
	assert_ptr_equal(ctx, &fake);
	if (fake.fail)
		return haul_err_set(err, fake.fail, "no table");
	json_t *table = json_pack("{s:s, s:s, s:[s, s], s:[[s, i], [s, f], [s, n]]}", "table",
				  "own", "what", "three lines", "columns", "what", "how many",
				  "rows", "whole", 7, "part", 2.5, "unknown");
	return json_array_append_new(tables, table);
}

static const struct bench fake_tables_bench = { .name = "fake",
						.help = "None",
						.cases = fake_cases,
						.case_count = 1,
						.open = fake_open,
						.tables = fake_tables };

/* Run with standard output in a file; returns what was printed, to be freed. */
static char *run(const struct bench *bench, const struct bench_options *options, int want)
{
	struct haul_err err = { 0 };
	FILE *file = tmpfile();
	assert_non_null(file);
	fflush(stdout);
	int saved = dup(STDOUT_FILENO);
	assert_true(dup2(fileno(file), STDOUT_FILENO) >= 0);
	int rc = bench_run(bench, options, &err);
	fflush(stdout);
	assert_true(dup2(saved, STDOUT_FILENO) >= 0);
	close(saved);
	assert_int_equal(rc, want);
	assert_int_equal(err.code, want);
	long bytes = ftell(file);
	assert_true(bytes >= 0);
	char *text = calloc(1, (size_t)bytes + 1);
	assert_non_null(text);
	rewind(file);
	assert_int_equal(fread(text, 1, (size_t)bytes, file), bytes);
	fclose(file);
	return text;
}

static json_t *run_json(const struct bench *bench, const char *only_case)
{
	const struct bench_options options = {
		.pairs = 5, .seconds = 0.001, .only_case = only_case, .json = true
	};
	char *text = run(bench, &options, 0);
	json_t *object = json_loads(text, 0, NULL);
	assert_non_null(object);
	free(text);
	return object;
}

static double real(const json_t *row, const char *key)
{
	assert_true(json_is_number(json_object_get(row, key)));
	return json_number_value(json_object_get(row, key));
}

static void assert_close(double value, double wanted)
{
	if (value < wanted - 1e-5 || value > wanted + 1e-5)
		fail_msg("%g, wanted %g", value, wanted);
}

/* Arms alternate, and so does which goes first; the median pair is told, with the extremes. */
static void test_bench_run__tells_the_median_of_interleaved_pairs(void **state)
{
	(void)state;
	fake = (struct fake){ 0 };
	json_t *object = run_json(&fake_bench, "one");
	assert_string_equal(fake.order, "ABBAABBAAB");
	assert_string_equal(json_string_value(json_object_get(object, "bench")), "fake");
	assert_non_null(json_string_value(json_object_get(object, "machine")));
	assert_int_equal(json_array_size(json_object_get(object, "rows")), 1);
	const json_t *row = json_array_get(json_object_get(object, "rows"), 0);
	assert_string_equal(json_string_value(json_object_get(row, "case")), "one");
	assert_string_equal(json_string_value(json_object_get(row, "unit")), "kpps");
	assert_close(real(row, "individual"), 10);
	assert_close(real(row, "batched"), 40);
	assert_close(real(row, "ratio"), 4);
	assert_close(real(row, "ratio_min"), 2);
	assert_close(real(row, "ratio_max"), 8);
	assert_close(real(row, "syscalls_per_op"), 0.25);
	assert_true(json_is_null(json_object_get(row, "fill_mean")));
	assert_close(real(row, "goal"), 3);
	assert_string_equal(json_string_value(json_object_get(row, "batched_note")), "run 0");
	json_decref(object);
}

/* Where less is better the ratio turns over: above 1 is always better. */
static void test_bench_run__turns_the_ratio_where_less_is_better(void **state)
{
	(void)state;
	fake = (struct fake){ 0 };
	json_t *object = run_json(&fake_bench, "two");
	const json_t *row = json_array_get(json_object_get(object, "rows"), 0);
	assert_close(real(row, "ratio"), 0.25);
	assert_close(real(row, "ratio_min"), 0.125);
	assert_close(real(row, "ratio_max"), 0.5);
	assert_true(json_is_null(json_object_get(row, "goal")));
	json_decref(object);
}

/* A table has a line a case, and marks a goal that was missed. */
static void test_bench_run__prints_a_table(void **state)
{
	(void)state;
	fake = (struct fake){ 0 };
	const struct bench_options options = { .pairs = 1, .seconds = 0.001 };
	char *text = run(&fake_bench, &options, 0);
	assert_non_null(strstr(text, "\none  "));
	assert_non_null(strstr(text, "\ntwo  "));
	assert_non_null(strstr(text, "4.00 [4.00-4.00]"));
	assert_null(strchr(text, '!'));
	free(text);

	fake = (struct fake){ .asked = { 1, 1 } }; /* this pair's ratio is 2, below the goal */
	text = run(&fake_bench, &options, 0);
	assert_non_null(strstr(text, "!  3.00"));
	free(text);
}

/* A bench's own tables come behind its cases, as text and as JSON; not when one case was asked for;
 * and what goes wrong in them ends the bench. */
static void test_bench_run__shows_the_tables_of_a_bench(void **state)
{
	(void)state;
	fake = (struct fake){ 0 };
	const struct bench_options options = { .pairs = 1, .seconds = 0.001 };
	char *text = run(&fake_tables_bench, &options, 0);
	assert_non_null(strstr(text, "\nown: three lines\nwhat "));
	assert_non_null(strstr(text, "\nwhole                             7\n"));
	assert_non_null(strstr(text, "\npart                           2.50\n"));
	assert_non_null(strstr(text, "\nunknown                           -\n"));
	free(text);

	json_t *object = run_json(&fake_tables_bench, NULL);
	const json_t *table = json_array_get(json_object_get(object, "tables"), 0);
	assert_string_equal(json_string_value(json_object_get(table, "table")), "own");
	assert_int_equal(json_array_size(json_object_get(table, "rows")), 3);
	assert_true(real(object, "load") >= 0);
	json_decref(object);
	object = run_json(&fake_tables_bench, "one");
	assert_null(json_object_get(object, "tables"));
	json_decref(object);

	fake = (struct fake){ .fail = -EIO };
	free(run(&fake_tables_bench, &options, -EIO));
}

/* What the machine cannot do is a row that says so; anything else ends the bench with its text. */
static void test_bench_run__tells_unsupported_from_failed(void **state)
{
	(void)state;
	fake = (struct fake){ .fail = -ENOTSUP };
	json_t *object = run_json(&fake_bench, "one");
	const json_t *row = json_array_get(json_object_get(object, "rows"), 0);
	assert_true(json_is_null(json_object_get(row, "ratio")));
	assert_string_equal(json_string_value(json_object_get(row, "left_out")),
			    "one: no such thing here");
	json_decref(object);

	const struct bench_options options = { .pairs = 5, .seconds = 0.001 };
	fake = (struct fake){ .fail = -EIO };
	free(run(&fake_bench, &options, -EIO));
	fake = (struct fake){ .nothing = true };
	free(run(&fake_bench, &options, -ENODATA));
}

/* The simulated loads: four policies by five loads, the same figures each time, and no policy is
 * slower than one at a time under any load. */
static void test_bench_sizer__is_repeatable_and_never_slower(void **state)
{
	(void)state;
	assert_int_equal(bench_sizer.case_count, 20);
	for (uint32_t i = 0; i < bench_sizer.case_count; i++) {
		const struct bench_case *of = &bench_sizer.cases[i];
		struct bench_sample one = { 0 }, many = { 0 }, again = { 0 };
		assert_int_equal(of->run(NULL, of, BENCH_INDIVIDUAL, 1, &one, NULL), 0);
		assert_int_equal(of->run(NULL, of, BENCH_BATCHED, 1, &many, NULL), 0);
		assert_int_equal(of->run(NULL, of, BENCH_BATCHED, 1, &again, NULL), 0);
		assert_memory_equal(&many, &again, sizeof many);
		if (many.value < 0.99 * one.value)
			fail_msg("%s: %g, one at a time %g", of->name, many.value, one.value);
		if (strstr(of->name, "_high"))
			assert_true(many.value > 5 * one.value);
		/* Up to "lost": p50 and p99 are the same, nothing ever waits for company. */
		if (strstr(of->name, "_idle"))
			assert_int_equal(strncmp(many.note, one.note, strcspn(many.note, "l")), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bench_run__tells_the_median_of_interleaved_pairs),
		cmocka_unit_test(test_bench_run__turns_the_ratio_where_less_is_better),
		cmocka_unit_test(test_bench_run__prints_a_table),
		cmocka_unit_test(test_bench_run__shows_the_tables_of_a_bench),
		cmocka_unit_test(test_bench_run__tells_unsupported_from_failed),
		cmocka_unit_test(test_bench_sizer__is_repeatable_and_never_slower),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
