#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include <haul/batch.h>
#include "lib/testlib.h"

enum { OPS_MAX = 10, BYTES_MAX = 1000, WAIT_MAX_NS = 500, FIRST_NS = 7000 };

static const struct haul_limits limits = {
	.ops_max = OPS_MAX, .bytes_max = BYTES_MAX, .wait_max_ns = WAIT_MAX_NS, .ops_start = OPS_MAX
};

/* Which reasons hold, and the one that must be told: every combination, written out. */
struct truth {
	bool ops, bytes, manual, barrier, deadline, idle;
	enum haul_close told;
};

#define O HAUL_CLOSE_OPS
#define B HAUL_CLOSE_BYTES
#define M HAUL_CLOSE_MANUAL
#define R HAUL_CLOSE_BARRIER
#define D HAUL_CLOSE_DEADLINE
#define I HAUL_CLOSE_IDLE
#define N HAUL_CLOSE_NONE
static const struct truth truths[] = {
	/* ops bytes manual barrier deadline idle -> told */
	{ 0, 0, 0, 0, 0, 0, N }, { 0, 0, 0, 0, 0, 1, I }, { 0, 0, 0, 0, 1, 0, D },
	{ 0, 0, 0, 0, 1, 1, I }, { 0, 0, 0, 1, 0, 0, R }, { 0, 0, 0, 1, 0, 1, R },
	{ 0, 0, 0, 1, 1, 0, R }, { 0, 0, 0, 1, 1, 1, R }, { 0, 0, 1, 0, 0, 0, M },
	{ 0, 0, 1, 0, 0, 1, M }, { 0, 0, 1, 0, 1, 0, M }, { 0, 0, 1, 0, 1, 1, M },
	{ 0, 0, 1, 1, 0, 0, M }, { 0, 0, 1, 1, 0, 1, M }, { 0, 0, 1, 1, 1, 0, M },
	{ 0, 0, 1, 1, 1, 1, M }, { 0, 1, 0, 0, 0, 0, B }, { 0, 1, 0, 0, 0, 1, B },
	{ 0, 1, 0, 0, 1, 0, B }, { 0, 1, 0, 0, 1, 1, B }, { 0, 1, 0, 1, 0, 0, B },
	{ 0, 1, 0, 1, 0, 1, B }, { 0, 1, 0, 1, 1, 0, B }, { 0, 1, 0, 1, 1, 1, B },
	{ 0, 1, 1, 0, 0, 0, B }, { 0, 1, 1, 0, 0, 1, B }, { 0, 1, 1, 0, 1, 0, B },
	{ 0, 1, 1, 0, 1, 1, B }, { 0, 1, 1, 1, 0, 0, B }, { 0, 1, 1, 1, 0, 1, B },
	{ 0, 1, 1, 1, 1, 0, B }, { 0, 1, 1, 1, 1, 1, B }, { 1, 0, 0, 0, 0, 0, O },
	{ 1, 0, 0, 0, 0, 1, O }, { 1, 0, 0, 0, 1, 0, O }, { 1, 0, 0, 0, 1, 1, O },
	{ 1, 0, 0, 1, 0, 0, O }, { 1, 0, 0, 1, 0, 1, O }, { 1, 0, 0, 1, 1, 0, O },
	{ 1, 0, 0, 1, 1, 1, O }, { 1, 0, 1, 0, 0, 0, O }, { 1, 0, 1, 0, 0, 1, O },
	{ 1, 0, 1, 0, 1, 0, O }, { 1, 0, 1, 0, 1, 1, O }, { 1, 0, 1, 1, 0, 0, O },
	{ 1, 0, 1, 1, 0, 1, O }, { 1, 0, 1, 1, 1, 0, O }, { 1, 0, 1, 1, 1, 1, O },
	{ 1, 1, 0, 0, 0, 0, O }, { 1, 1, 0, 0, 0, 1, O }, { 1, 1, 0, 0, 1, 0, O },
	{ 1, 1, 0, 0, 1, 1, O }, { 1, 1, 0, 1, 0, 0, O }, { 1, 1, 0, 1, 0, 1, O },
	{ 1, 1, 0, 1, 1, 0, O }, { 1, 1, 0, 1, 1, 1, O }, { 1, 1, 1, 0, 0, 0, O },
	{ 1, 1, 1, 0, 0, 1, O }, { 1, 1, 1, 0, 1, 0, O }, { 1, 1, 1, 0, 1, 1, O },
	{ 1, 1, 1, 1, 0, 0, O }, { 1, 1, 1, 1, 0, 1, O }, { 1, 1, 1, 1, 1, 0, O },
	{ 1, 1, 1, 1, 1, 1, O },
};

static struct haul_gate_input input_of(const struct truth *t)
{
	return (struct haul_gate_input){
		.ops_queued = t->ops ? OPS_MAX : OPS_MAX - 1,
		.bytes_queued = t->bytes ? BYTES_MAX : BYTES_MAX - 1,
		.in_flight = t->idle ? 0 : 1,
		.first_ns = FIRST_NS,
		.now_ns = t->deadline ? FIRST_NS + WAIT_MAX_NS : FIRST_NS + WAIT_MAX_NS - 1,
		.barrier = t->barrier,
		.manual = t->manual,
	};
}

/* Each threshold is met exactly or missed by one, in all 64 combinations. */
static void test_gate__follows_the_truth_table(void **state)
{
	(void)state;
	assert_int_equal(sizeof truths / sizeof *truths, 64);
	for (unsigned i = 0; i < 64; i++) {
		const struct truth *t = &truths[i];
		unsigned row = (unsigned)t->ops << 5 | (unsigned)t->bytes << 4 |
			       (unsigned)t->manual << 3 | (unsigned)t->barrier << 2 |
			       (unsigned)t->deadline << 1 | (unsigned)t->idle;
		assert_int_equal(row, i); /* no combination is missing or told twice */
		struct haul_gate_input input = input_of(t);
		int64_t deadline_ns = -1;
		enum haul_close told = haul_gate(&limits, &input, &deadline_ns);
		if (told != t->told)
			fail_msg("row %u: told %s, wanted %s", i, haul_close_name(told),
				 haul_close_name(t->told));
		assert_int_equal(deadline_ns, told == N ? FIRST_NS + WAIT_MAX_NS : -1);
	}
}

/* Nothing queued: nothing closes, whatever else is true. */
static void test_gate__keeps_an_empty_batch_open(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 64; i++) {
		struct haul_gate_input input = input_of(&truths[i]);
		input.ops_queued = 0;
		int64_t deadline_ns = -1;
		assert_int_equal(haul_gate(&limits, &input, &deadline_ns), HAUL_CLOSE_NONE);
		assert_true(deadline_ns == INT64_MAX);
	}
}

/* A sizer's target closes earlier than the limit, never later. */
static void test_gate__closes_at_the_sizers_target(void **state)
{
	(void)state;
	const struct {
		uint32_t target, queued;
		enum haul_close told;
	} rows[] = { { 4, 3, N },  { 4, 4, O },  { 1, 1, O },  { 0, 9, N },
		     { 0, 10, O }, { 99, 9, N }, { 99, 10, O } };
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct haul_gate_input input = input_of(&truths[0]);
		input.ops_target = rows[i].target;
		input.ops_queued = rows[i].queued;
		int64_t deadline_ns;
		assert_int_equal(haul_gate(&limits, &input, &deadline_ns), rows[i].told);
	}
}

/* With no waiting allowed, what is queued leaves at once even while something is in flight. */
static void test_gate__never_waits_at_zero_wait(void **state)
{
	(void)state;
	struct haul_limits eager = limits;
	eager.wait_max_ns = 0;
	struct haul_gate_input input = {
		.ops_queued = 1, .in_flight = 3, .first_ns = FIRST_NS, .now_ns = FIRST_NS
	};
	int64_t deadline_ns;
	assert_int_equal(haul_gate(&eager, &input, &deadline_ns), HAUL_CLOSE_DEADLINE);
}

/* A deadline past the end of time is the end of time. */
static void test_gate__survives_an_endless_wait(void **state)
{
	(void)state;
	struct haul_limits patient = limits;
	patient.wait_max_ns = INT64_MAX;
	struct haul_gate_input input = {
		.ops_queued = 1, .in_flight = 1, .first_ns = FIRST_NS, .now_ns = FIRST_NS + 1
	};
	int64_t deadline_ns = 0;
	assert_int_equal(haul_gate(&patient, &input, &deadline_ns), HAUL_CLOSE_NONE);
	assert_true(deadline_ns == INT64_MAX);
}

/* The presets are the numbers of the systems that haul grew from. */
static void test_preset__has_the_stated_numbers(void **state)
{
	(void)state;
	const struct {
		const char *name;
		uint32_t ops, bytes;
		int64_t wait_ns;
		uint32_t start;
	} rows[] = {
		{ "low-latency", 8, 65507, 0, 8 },         { "balanced", 16, 65507, 1000000, 16 },
		{ "throughput", 32, 65507, 5000000, 32 },  { "disk", 32, 4 << 20, 1000000, 32 },
		{ "store", 8192, 1 << 20, 10000000, 100 },
	};
	assert_int_equal(sizeof rows / sizeof *rows, HAUL_PRESETS);
	for (unsigned i = 0; i < HAUL_PRESETS; i++) {
		enum haul_preset preset;
		assert_int_equal(haul_preset_by_name(rows[i].name, &preset), 0);
		assert_int_equal(preset, i);
		assert_string_equal(haul_preset_name(preset), rows[i].name);
		struct haul_limits l = haul_limits_preset(preset);
		assert_int_equal(l.ops_max, rows[i].ops);
		assert_int_equal(l.bytes_max, rows[i].bytes);
		assert_int_equal(l.wait_max_ns, rows[i].wait_ns);
		assert_int_equal(l.ops_start, rows[i].start);
		assert_int_equal(haul_limits_check(&l, NULL), 0);
	}
	enum haul_preset untouched = HAUL_PRESET_DISK;
	assert_int_equal(haul_preset_by_name("fast", &untouched), -EINVAL);
	assert_int_equal(untouched, HAUL_PRESET_DISK);
}

/* Each rule that a configuration can break is named with the value that broke it. */
static void test_limits_check__names_what_is_wrong(void **state)
{
	(void)state;
	const struct {
		struct haul_limits limits;
		const char *text;
	} rows[] = {
		{ { 0, 1, 0, 1 }, "ops_max 0: allowed are 1 to 65536" },
		{ { 65537, 1, 0, 1 }, "ops_max 65537: allowed are 1 to 65536" },
		{ { 1, 0, 0, 1 }, "bytes_max 0: at least 1 is needed" },
		{ { 1, 1, -1, 1 }, "wait_max -1 ns: must not be negative" },
		{ { 4, 1, 0, 0 }, "ops_start 0: allowed are 1 to ops_max 4" },
		{ { 4, 1, 0, 5 }, "ops_start 5: allowed are 1 to ops_max 4" },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct haul_err err = { 0 };
		assert_int_equal(haul_limits_check(&rows[i].limits, &err), -EINVAL);
		assert_string_equal(err.text, rows[i].text);
	}
}

/* The byte limit is kept before it is broken, not after; what is too large goes alone. */
static void test_limits_fit__keeps_both_limits(void **state)
{
	(void)state;
	assert_true(haul_limits_fit(&limits, 0, 0, 5000));
	assert_true(haul_limits_fit(&limits, 1, 900, 100));
	assert_false(haul_limits_fit(&limits, 1, 900, 101));
	assert_true(haul_limits_fit(&limits, 9, 0, 1));
	assert_false(haul_limits_fit(&limits, 10, 0, 1));
}

/* A random trace in simulated time: operations arrive, batches cross for a random while, and the
 * only clock is the next arrival, completion or the deadline the gate named. */
struct trace {
	struct prng prng;
	struct haul_limits limits;
	struct haul_gate_input in;
	int64_t arrival_ns; /* of the next operation */
	int64_t done_ns[4]; /* of the batches in flight */
	int64_t deadline_ns;
	uint32_t left; /* operations still to come */
	uint32_t carried;
};

static int64_t trace_step_ns(struct trace *t)
{
	int64_t next_ns = t->left > 0 ? t->arrival_ns : INT64_MAX;
	if (t->deadline_ns < next_ns)
		next_ns = t->deadline_ns;
	for (uint32_t i = 0; i < t->in.in_flight; i++)
		if (t->done_ns[i] < next_ns)
			next_ns = t->done_ns[i];
	assert_true(next_ns != INT64_MAX);
	assert_true(next_ns >= t->in.now_ns);
	return next_ns;
}

static void trace_close(struct trace *t, enum haul_close reason)
{
	int64_t waited_ns = t->in.now_ns - t->in.first_ns;
	assert_true(t->in.ops_queued >= 1 && t->in.ops_queued <= t->limits.ops_max);
	assert_true(t->in.bytes_queued <= t->limits.bytes_max || t->in.ops_queued == 1);
	assert_true(waited_ns <= t->limits.wait_max_ns);
	if (reason == HAUL_CLOSE_IDLE)
		assert_int_equal(t->in.in_flight, 0);
	t->carried += t->in.ops_queued;
	t->in.ops_queued = 0;
	t->in.bytes_queued = 0;
	t->in.manual = t->in.barrier = false;
	if (t->in.in_flight < 4)
		t->done_ns[t->in.in_flight++] = t->in.now_ns + 1 + prng_below(&t->prng, 3000);
}

static void trace_ask(struct trace *t)
{
	bool lone = t->in.ops_queued > 0 && t->in.in_flight == 0;
	int64_t deadline_ns;
	enum haul_close reason = haul_gate(&t->limits, &t->in, &deadline_ns);
	if (reason != HAUL_CLOSE_NONE) {
		trace_close(t, reason);
		t->deadline_ns = INT64_MAX;
		return;
	}
	assert_false(lone); /* nothing in flight: nothing may be held */
	if (t->in.ops_queued > 0) {
		/* One deadline a batch: later operations do not move it. */
		assert_true(deadline_ns == t->in.first_ns + t->limits.wait_max_ns);
		assert_true(deadline_ns > t->in.now_ns);
	}
	t->deadline_ns = deadline_ns;
}

static void trace_arrive(struct trace *t)
{
	uint64_t bytes = 1 + prng_below(&t->prng, 400);
	if (!haul_limits_fit(&t->limits, t->in.ops_queued, t->in.bytes_queued, bytes))
		trace_close(t, HAUL_CLOSE_BYTES);
	if (t->in.ops_queued == 0)
		t->in.first_ns = t->in.now_ns;
	t->in.ops_queued++;
	t->in.bytes_queued += bytes;
	t->in.manual = prng_below(&t->prng, 40) == 0;
	t->in.barrier = prng_below(&t->prng, 40) == 0;
	t->left--;
	t->arrival_ns = t->in.now_ns + prng_below(&t->prng, 200);
}

/* A lone operation never waits, nothing waits too long, limits hold. */
static void test_gate__keeps_its_promises_on_random_traces(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (int round = 0; round < 300; round++) {
		struct trace t = { .prng.state = prng_next(&prng), .deadline_ns = INT64_MAX };
		t.limits.ops_max = 1 + prng_below(&prng, 20);
		t.limits.bytes_max = 1 + prng_below(&prng, 2000);
		t.limits.wait_max_ns = prng_below(&prng, 1000);
		t.in.ops_target = prng_below(&prng, 25);
		t.left = 500;
		while (t.left > 0 || t.in.ops_queued > 0) {
			t.in.now_ns = trace_step_ns(&t);
			for (uint32_t i = t.in.in_flight; i-- > 0;)
				if (t.done_ns[i] <= t.in.now_ns)
					t.done_ns[i] = t.done_ns[--t.in.in_flight];
			if (t.left > 0 && t.arrival_ns <= t.in.now_ns)
				trace_arrive(&t);
			trace_ask(&t);
		}
		assert_int_equal(t.carried, 500);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gate__follows_the_truth_table),
		cmocka_unit_test(test_gate__keeps_an_empty_batch_open),
		cmocka_unit_test(test_gate__closes_at_the_sizers_target),
		cmocka_unit_test(test_gate__never_waits_at_zero_wait),
		cmocka_unit_test(test_gate__survives_an_endless_wait),
		cmocka_unit_test(test_preset__has_the_stated_numbers),
		cmocka_unit_test(test_limits_check__names_what_is_wrong),
		cmocka_unit_test(test_limits_fit__keeps_both_limits),
		cmocka_unit_test(test_gate__keeps_its_promises_on_random_traces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
