#include <errno.h>
#include <math.h>
#include <stdio.h>

#include <haul/batch.h>
#include "lib/testlib.h"

static struct haul_sizer sizer_of(enum haul_sizer_policy policy, uint32_t min, uint32_t max,
				  uint32_t start)
{
	struct haul_sizer_options options = {
		.policy = policy, .ops_min = min, .ops_max = max, .ops_start = start
	};
	struct haul_sizer sizer;
	assert_int_equal(haul_sizer_init(&sizer, &options, NULL), 0);
	assert_int_equal(sizer.target, start);
	return sizer;
}

static uint32_t feed(struct haul_sizer *sizer, uint32_t ops, int64_t service_ns)
{
	struct haul_sizer_sample sample = { .ops = ops, .service_ns = service_ns };
	uint32_t target = haul_sizer_update(sizer, &sample);
	assert_int_equal(target, sizer->target);
	assert_true(target >= sizer->options.ops_min && target <= sizer->options.ops_max);
	return target;
}

/* Each rule that options can break is named; a failed init leaves the sizer alone. */
static void test_sizer_init__names_what_is_wrong(void **state)
{
	(void)state;
	const struct {
		struct haul_sizer_options options;
		const char *text;
	} rows[] = {
		{ { 9, 1, 1, 1, 0, 0 }, "sizer policy 9: unknown" },
		{ { 0, 0, 1, 1, 0, 0 },
		  "ops_min 0, ops_max 1: 1 <= min <= max <= 65536 is needed" },
		{ { 0, 4, 3, 4, 0, 0 },
		  "ops_min 4, ops_max 3: 1 <= min <= max <= 65536 is needed" },
		{ { 0, 1, 65537, 1, 0, 0 },
		  "ops_min 1, ops_max 65537: 1 <= min <= max <= 65536 is needed" },
		{ { 0, 2, 4, 1, 0, 0 }, "ops_start 1: allowed are 2 to 4" },
		{ { 0, 2, 4, 5, 0, 0 }, "ops_start 5: allowed are 2 to 4" },
		{ { 2, 1, 4, 1, -1, 0 }, "service target -1 ns: must not be negative" },
		{ { 3, 1, 4, 1, 0, 1.0 }, "fixed share 1: 0 <= share < 1 is needed" },
		{ { 3, 1, 4, 1, 0, -0.5 }, "fixed share -0.5: 0 <= share < 1 is needed" },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct haul_sizer sizer = { .target = 77 };
		struct haul_err err = { 0 };
		assert_int_equal(haul_sizer_init(&sizer, &rows[i].options, &err), -EINVAL);
		assert_string_equal(err.text, rows[i].text);
		assert_int_equal(sizer.target, 77);
	}
}

/* What a configuration file calls a policy. */
static void test_sizer_policy__has_names_both_ways(void **state)
{
	(void)state;
	const char *const names[] = { "fixed", "fill", "service", "model" };
	for (unsigned i = 0; i < HAUL_SIZER_POLICIES; i++) {
		enum haul_sizer_policy policy;
		assert_int_equal(haul_sizer_policy_by_name(names[i], &policy), 0);
		assert_int_equal(policy, i);
		assert_string_equal(haul_sizer_policy_name(policy), names[i]);
	}
	enum haul_sizer_policy untouched = HAUL_SIZER_MODEL;
	assert_int_equal(haul_sizer_policy_by_name("Fill", &untouched), -EINVAL);
	assert_int_equal(untouched, HAUL_SIZER_MODEL);
}

/* Whatever happens, fixed is fixed. */
static void test_sizer_fixed__stays(void **state)
{
	(void)state;
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_FIXED, 1, 64, 16);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(feed(&sizer, 1 + i % 64, 1 << i % 30), 16);
	assert_int_equal(sizer.adjustments, 0);
	assert_int_equal(haul_sizer_predict(&sizer, 1000000), 0);
}

/* Full batches double the target up to its maximum, one factor of two at a time. */
static void test_sizer_fill__doubles_when_full(void **state)
{
	(void)state;
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_FILL, 4, 48, 8);
	uint32_t before = 8;
	for (int i = 0; i < 40; i++) {
		uint32_t target = feed(&sizer, sizer.target, -1);
		assert_true(target == before || target == 2 * before || target == 48);
		before = target;
	}
	assert_int_equal(before, 48);
	assert_int_equal(sizer.adjustments, 3); /* 8 -> 16 -> 32 -> 48 */
}

/* Batches of one halve the target down to its minimum. */
static void test_sizer_fill__halves_when_empty(void **state)
{
	(void)state;
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_FILL, 3, 32, 32);
	for (int i = 0; i < 40; i++)
		feed(&sizer, 1, -1);
	assert_int_equal(sizer.target, 3); /* one of three is over 30 %, but 3 is the minimum */
	assert_int_equal(sizer.adjustments, 4); /* 32 -> 16 -> 8 -> 4 -> 3 */
}

/* The thresholds themselves: an average that settles at a fill moves the target or lets it be. */
static void test_sizer_fill__moves_at_80_and_30_percent(void **state)
{
	(void)state;
	const struct {
		uint32_t ops;
		int moves;
	} rows[] = { { 290, -1 }, { 310, 0 }, { 550, 0 }, { 790, 0 }, { 810, 1 } };
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct haul_sizer sizer = sizer_of(HAUL_SIZER_FILL, 1, 65536, 1000);
		for (int n = 0; n < 200 && sizer.adjustments == 0; n++)
			feed(&sizer, rows[i].ops, -1);
		uint32_t wanted = rows[i].moves > 0 ? 2000 : rows[i].moves < 0 ? 500 : 1000;
		assert_int_equal(sizer.target, wanted);
	}
}

/* One odd batch is not a trend. */
static void test_sizer_fill__ignores_a_single_burst(void **state)
{
	(void)state;
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_FILL, 1, 64, 16);
	for (int i = 0; i < 50; i++)
		feed(&sizer, i % 10 == 0 ? 16 : 8, -1);
	assert_int_equal(sizer.adjustments, 0);
}

/* Cost proportional to size, 100 us an operation, 1 ms wanted: the target settles within the band
 * of half to double around ten operations. */
static void test_sizer_service__settles_around_its_target(void **state)
{
	(void)state;
	const uint32_t starts[] = { 1, 10, 1024 };
	for (unsigned i = 0; i < 3; i++) {
		struct haul_sizer sizer = sizer_of(HAUL_SIZER_SERVICE, 1, 1024, starts[i]);
		for (int n = 0; n < 200; n++)
			feed(&sizer, sizer.target, (int64_t)sizer.target * 100000);
		assert_in_range(sizer.target, 5, 20);
		uint64_t adjustments = sizer.adjustments;
		for (int n = 0; n < 200; n++)
			feed(&sizer, sizer.target, (int64_t)sizer.target * 100000);
		assert_int_equal(sizer.adjustments, adjustments);
	}
}

/* The thresholds themselves, from both sides. */
static void test_sizer_service__moves_at_double_and_half(void **state)
{
	(void)state;
	const struct {
		int64_t service_ns;
		uint32_t target;
	} rows[] = { { 2100000, 50 },
		     { 1990000, 100 },
		     { 1000000, 100 },
		     { 510000, 100 },
		     { 450000, 200 } };
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct haul_sizer sizer = sizer_of(HAUL_SIZER_SERVICE, 1, 65536, 100);
		for (int n = 0; n < 200 && sizer.adjustments == 0; n++)
			feed(&sizer, 100, rows[i].service_ns);
		assert_int_equal(sizer.target, rows[i].target);
	}
}

/* A batch whose time was not taken teaches nothing. */
static void test_sizer_service__ignores_unmeasured_batches(void **state)
{
	(void)state;
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_SERVICE, 1, 64, 16);
	for (int i = 0; i < 100; i++)
		assert_int_equal(feed(&sizer, 16, -1), 16);
}

/* Any samples, any policy: the target stays within its bounds. */
static void test_sizer__respects_min_and_max(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (int round = 0; round < 400; round++) {
		uint32_t min = 1 + prng_below(&prng, 50);
		uint32_t max = min + prng_below(&prng, 500);
		uint32_t start = min + prng_below(&prng, max - min + 1);
		struct haul_sizer sizer = sizer_of(
			(enum haul_sizer_policy)(round % HAUL_SIZER_POLICIES), min, max, start);
		int64_t now_ns = 0;
		for (int i = 0; i < 300; i++) {
			now_ns += prng_below(&prng, 1000000);
			struct haul_sizer_sample sample = {
				.ops = 1 + prng_below(&prng, 600),
				.service_ns = (int64_t)prng_below(&prng, 1 << 22) - 1000,
				.now_ns = now_ns,
			};
			uint32_t target = haul_sizer_update(&sizer, &sample);
			assert_in_range(target, min, max);
			haul_sizer_predict(&sizer, prng_below(&prng, 1 << 30));
		}
	}
}

/* A boundary with a known cost under a load that always fills the target. */
struct boundary {
	struct prng prng;
	double fixed_ns, per_op_ns;
	double noise; /* relative, uniform */
	int64_t now_ns;
};

static void cross(struct haul_sizer *sizer, struct boundary *b, uint32_t ops, int batches)
{
	for (int i = 0; i < batches; i++) {
		uint32_t n = ops > 0 ? ops : sizer->target;
		double t = b->fixed_ns + n * b->per_op_ns;
		t *= 1.0 + b->noise * (2.0 * prng_unit(&b->prng) - 1.0);
		b->now_ns += (int64_t)t;
		struct haul_sizer_sample sample = { .ops = n,
						    .service_ns = (int64_t)t,
						    .now_ns = b->now_ns };
		haul_sizer_update(sizer, &sample);
	}
}

static void assert_near(double value, double wanted, double relative)
{
	if (fabs(value - wanted) > relative * wanted)
		fail_msg("%g is not within %g %% of %g", value, relative * 100.0, wanted);
}

/* 2 us fixed and 100 ns an operation: 10 % of a batch is the fixed cost at 180 operations. */
static void test_sizer_model__learns_the_cost(void **state)
{
	(void)state;
	const uint32_t starts[] = { 1, 16, 4096 };
	for (unsigned i = 0; i < 3; i++) {
		struct haul_sizer sizer = sizer_of(HAUL_SIZER_MODEL, 1, 4096, starts[i]);
		struct boundary b = { .fixed_ns = 2000, .per_op_ns = 100 };
		cross(&sizer, &b, 0, 200);
		assert_near(sizer.fixed_ns, 2000, 0.05);
		assert_near(sizer.per_op_ns, 100, 0.05);
		assert_near(sizer.settled, 180, 0.15);
	}
}

/* Times that scatter by 5 %: the target is right on average. */
static void test_sizer_model__learns_through_noise(void **state)
{
	(void)state;
	struct boundary b = { .fixed_ns = 5000, .per_op_ns = 500, .noise = 0.05 };
	test_prng(&b.prng);
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_MODEL, 1, 1024, 16);
	double settled_sum = 0;
	cross(&sizer, &b, 0, 200);
	for (int i = 0; i < 400; i++) {
		cross(&sizer, &b, 0, 1);
		settled_sum += sizer.settled;
	}
	assert_near(settled_sum / 400, 90, 0.25);
}

/* The boundary changes its price, without a word: the old price fades. */
static void test_sizer_model__recovers_when_the_cost_changes(void **state)
{
	(void)state;
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_MODEL, 1, 4096, 16);
	struct boundary b = { .fixed_ns = 2000, .per_op_ns = 100 };
	cross(&sizer, &b, 0, 300);
	b.fixed_ns = 1000;
	b.per_op_ns = 1000; /* 9 operations from here on */
	cross(&sizer, &b, 0, 500);
	assert_near(sizer.fixed_ns, 1000, 0.1);
	assert_in_range(sizer.settled, 8, 10);
	b.fixed_ns = 20000;
	b.per_op_ns = 200; /* 900 */
	cross(&sizer, &b, 0, 500);
	assert_near(sizer.settled, 900, 0.15);
}

/* One batch that was held up (the machine was busy elsewhere) moves the target a little at most. */
static void test_sizer_model__forgives_an_accident(void **state)
{
	(void)state;
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_MODEL, 1, 4096, 16);
	struct boundary b = { .fixed_ns = 2000, .per_op_ns = 100 };
	cross(&sizer, &b, 0, 300);
	b.fixed_ns = 30000;
	cross(&sizer, &b, 0, 1);
	b.fixed_ns = 2000;
	cross(&sizer, &b, 0, 300);
	assert_near(sizer.settled, 180, 0.15);
}

/* No fixed cost: nothing is gained by batching, so batches stay as small as allowed. No cost per
 * operation: as large as allowed. */
static void test_sizer_model__goes_to_the_ends(void **state)
{
	(void)state;
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_MODEL, 2, 256, 64);
	struct boundary b = { .fixed_ns = 0, .per_op_ns = 1000 };
	cross(&sizer, &b, 0, 300);
	assert_int_equal(sizer.settled, 2);
	b.fixed_ns = 50000;
	b.per_op_ns = 0;
	cross(&sizer, &b, 0, 500);
	assert_int_equal(sizer.settled, 256);
}

/* Trying another size is rare, and never happens twice in a row. */
static void test_sizer_model__tries_other_sizes_sparingly(void **state)
{
	(void)state;
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_MODEL, 1, 4096, 16);
	struct boundary b = { .fixed_ns = 2000, .per_op_ns = 100 };
	cross(&sizer, &b, 0, 200);
	int tried = 0;
	bool before = false;
	for (int i = 0; i < 1000; i++) {
		cross(&sizer, &b, 0, 1);
		bool trying = sizer.target != sizer.settled;
		assert_false(trying && before);
		tried += trying;
		before = trying;
	}
	assert_in_range(tried, 1, 60);
}

/* Batches of one under light load say nothing about size, and the target stays put. */
static void test_sizer_model__stays_put_when_idle(void **state)
{
	(void)state;
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_MODEL, 1, 64, 16);
	struct boundary b = { .fixed_ns = 2000, .per_op_ns = 100 };
	cross(&sizer, &b, 1, 500);
	assert_int_equal(sizer.target, 16);
	assert_int_equal(sizer.adjustments, 0);
}

/* The prediction follows the arrival rate, but only where the boundary is the bottleneck. */
static void test_sizer_predict__expects_arrivals_when_busy(void **state)
{
	(void)state;
	struct haul_sizer sizer = sizer_of(HAUL_SIZER_MODEL, 1, 64, 16);
	assert_int_equal(haul_sizer_predict(&sizer, 1000000), 0);
	struct boundary b = { .fixed_ns = 2000, .per_op_ns = 100 };
	cross(&sizer, &b, 0, 300); /* back to back: always busy */
	double rate = sizer.settled / (2000.0 + 100.0 * sizer.settled);
	assert_near(haul_sizer_predict(&sizer, 100000), rate * 100000, 0.2);
	assert_int_equal(haul_sizer_predict(&sizer, 0), 0);
	assert_int_equal(haul_sizer_predict(&sizer, INT64_MAX), HAUL_BATCH_OPS_MAX);

	for (int i = 0; i < 50; i++) { /* 1000 operations a second: 0.2 % busy */
		b.now_ns += 1000000;
		struct haul_sizer_sample sample = { 1, 2100, b.now_ns };
		haul_sizer_update(&sizer, &sample);
	}
	assert_int_equal(haul_sizer_predict(&sizer, 1000000000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizer_init__names_what_is_wrong),
		cmocka_unit_test(test_sizer_policy__has_names_both_ways),
		cmocka_unit_test(test_sizer_fixed__stays),
		cmocka_unit_test(test_sizer_fill__doubles_when_full),
		cmocka_unit_test(test_sizer_fill__halves_when_empty),
		cmocka_unit_test(test_sizer_fill__moves_at_80_and_30_percent),
		cmocka_unit_test(test_sizer_fill__ignores_a_single_burst),
		cmocka_unit_test(test_sizer_service__settles_around_its_target),
		cmocka_unit_test(test_sizer_service__moves_at_double_and_half),
		cmocka_unit_test(test_sizer_service__ignores_unmeasured_batches),
		cmocka_unit_test(test_sizer__respects_min_and_max),
		cmocka_unit_test(test_sizer_model__learns_the_cost),
		cmocka_unit_test(test_sizer_model__learns_through_noise),
		cmocka_unit_test(test_sizer_model__recovers_when_the_cost_changes),
		cmocka_unit_test(test_sizer_model__forgives_an_accident),
		cmocka_unit_test(test_sizer_model__goes_to_the_ends),
		cmocka_unit_test(test_sizer_model__tries_other_sizes_sparingly),
		cmocka_unit_test(test_sizer_model__stays_put_when_idle),
		cmocka_unit_test(test_sizer_predict__expects_arrivals_when_busy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
