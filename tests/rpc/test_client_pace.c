/* When a frame closes, by policy, in time that the test tells. */
#include <string.h>

#include <haul/client.h>
#include "lib/testlib.h"
#include "rpc/client_pace.h"

#define MS INT64_C(1000000)

static struct pace pace_of(enum haul_client_policy policy)
{
	const struct haul_limits limits = haul_limits_preset(HAUL_PRESET_STORE);
	struct pace pace;

	assert_int_equal(pace_init(&pace, policy, &limits, NULL), 0);
	return pace;
}

static enum haul_close ask(struct pace *pace, struct pace_input input, int64_t *deadline_ns)
{
	int64_t own;
	return pace_ask(pace, &input, deadline_ns != NULL ? deadline_ns : &own);
}

/* The numbers of the interface are those of the seed: 8192 operations, 10 ms, threshold 100. */
static void test_pace__has_the_numbers_of_the_seed(void **state)
{
	const struct haul_limits limits = haul_limits_preset(HAUL_PRESET_STORE);

	(void)state;
	assert_int_equal(limits.ops_max, 8192);
	assert_int_equal(limits.wait_max_ns, 10 * MS);
	assert_int_equal(limits.ops_start, 100);
	struct pace pace = pace_of(HAUL_CLIENT_SEED);
	assert_int_equal(pace_threshold(&pace), 100);
}

/* All but fixed send a change that is alone at once. */
static void test_pace__does_not_hold_a_lone_change(void **state)
{
	const struct pace_input lone = { .ops = 1, .bytes = 64 };

	(void)state;
	for (int policy = 0; policy < HAUL_CLIENT_POLICIES; policy++) {
		struct pace pace = pace_of((enum haul_client_policy)policy);
		int64_t deadline_ns = 0;
		const enum haul_close reason = ask(&pace, lone, &deadline_ns);
		if (policy == HAUL_CLIENT_FIXED)
			assert_int_equal(reason, HAUL_CLOSE_NONE);
		else
			assert_int_equal(reason, HAUL_CLOSE_IDLE);
		assert_int_equal(deadline_ns, policy == HAUL_CLIENT_FIXED ? 10 * MS : 0);
	}
}

/* Fixed closes at the threshold and at the deadline, and at nothing else of itself. */
static void test_pace__fixed_closes_by_threshold_and_deadline(void **state)
{
	struct pace pace = pace_of(HAUL_CLIENT_FIXED);
	struct pace_input input = { .ops = 99, .first_ns = 5, .now_ns = 5 + 10 * MS - 1 };

	(void)state;
	assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_NONE);
	input.now_ns++;
	assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_DEADLINE);
	input.ops = 100;
	input.now_ns = 5;
	assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_OPS);
	for (uint32_t i = 0; i < 50; i++)
		pace_told(&pace, 100, MS / 100, (int64_t)i * MS);
	assert_int_equal(pace_threshold(&pace), 100);
}

/* Full by count, full by bytes, a barrier and a flush close under every policy. */
static void test_pace__closes_for_hard_reasons(void **state)
{
	const struct pace_input busy = {
		.ops = 2, .bytes = 64, .in_flight = 1, .flight_ops = 8192
	};

	(void)state;
	for (int policy = 0; policy < HAUL_CLIENT_POLICIES; policy++) {
		struct pace pace = pace_of((enum haul_client_policy)policy);
		struct pace_input input = busy;
		assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_NONE);
		input.ops = 8192;
		assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_OPS);
		input = busy;
		input.bytes = 1 << 20;
		assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_BYTES);
		input = busy;
		input.barrier = true;
		assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_BARRIER);
		input = busy;
		input.manual = true;
		assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_MANUAL);
		input = busy;
		input.now_ns = 10 * MS;
		assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_DEADLINE);
	}
}

/* The seed's threshold doubles up to 8192 while frames are told in no time, halves down to 10 when
 * they take long: and measures what it says, unlike the original, whose threshold only climbed. */
static void test_pace__seed_doubles_and_halves(void **state)
{
	struct pace pace = pace_of(HAUL_CLIENT_SEED);
	int64_t now_ns = 0;

	(void)state;
	for (uint32_t i = 0; i < 100; i++)
		pace_told(&pace, 100, MS / 10, now_ns += MS);
	assert_int_equal(pace_threshold(&pace), 8192);
	for (uint32_t i = 0; i < 200; i++)
		pace_told(&pace, 100, 10 * MS, now_ns += MS);
	assert_int_equal(pace_threshold(&pace), 10);
	assert_true(pace.sizer.adjustments >= 14);
	const uint64_t settled = pace.sizer.adjustments;
	for (uint32_t i = 0; i < 100; i++) /* just what is wanted: it stays */
		pace_told(&pace, 100, MS, now_ns += MS);
	assert_true(pace.sizer.adjustments <= settled + 1);
}

/* With one frame in flight selfclock sends the next when it has grown as large. */
static void test_pace__selfclock_fills_the_pipe_evenly(void **state)
{
	struct pace pace = pace_of(HAUL_CLIENT_SELFCLOCK);
	struct pace_input input = { .ops = 299, .in_flight = 1, .flight_ops = 300 };

	(void)state;
	assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_NONE);
	input.ops = 300;
	assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_OPS);
	input.in_flight = 0;
	input.flight_ops = 0;
	input.ops = 1;
	assert_int_equal(ask(&pace, input, NULL), HAUL_CLOSE_IDLE);
}

/* The model waits with nothing in flight only once it has learnt that a frame is dear and that
 * many changes come; and never longer than the limit says. */
static void test_pace__model_waits_where_it_pays(void **state)
{
	struct pace pace = pace_of(HAUL_CLIENT_MODEL);
	const struct pace_input lone = { .ops = 1 };
	int64_t now_ns = 0, deadline_ns = 0;

	(void)state;
	/* one at a time, far apart */
	for (uint32_t i = 0; i < 50; i++)
		pace_told(&pace, 1 + i % 3, MS / 10, now_ns += 100 * MS);
	assert_int_equal(ask(&pace, lone, &deadline_ns), HAUL_CLOSE_IDLE);
	/* a millisecond a frame, whatever is in it; ten changes come a millisecond */
	for (uint32_t i = 0; i < 200; i++) {
		const uint32_t ops = 5 + i % 7 * 5;
		pace_told(&pace, ops, MS + ops * 100, now_ns += MS * ops / 10);
	}
	assert_int_equal(ask(&pace, lone, &deadline_ns), HAUL_CLOSE_NONE);
	assert_true(deadline_ns > 0 && deadline_ns <= 10 * MS);
	assert_int_equal(deadline_ns, pace.wait_ns);
	/* as many as were told have come again: there is nobody to wait for */
	struct pace_input all = { .ops = pace.told_ops };
	assert_int_equal(ask(&pace, all, NULL), HAUL_CLOSE_OPS);
	/* nobody any more */
	for (uint32_t i = 0; i < 200; i++)
		pace_told(&pace, 1, MS, now_ns += 1000 * MS);
	assert_int_equal(ask(&pace, lone, NULL), HAUL_CLOSE_IDLE);
}

/* What cannot be is refused with text; names go both ways. */
static void test_pace__knows_its_policies(void **state)
{
	const struct haul_limits limits = haul_limits_preset(HAUL_PRESET_STORE);
	const struct haul_limits none = { 0 };
	enum haul_client_policy policy;
	struct haul_err err = { 0 };
	struct pace pace;

	(void)state;
	for (int i = 0; i < HAUL_CLIENT_POLICIES; i++) {
		const char *name = haul_client_policy_name((enum haul_client_policy)i);
		assert_int_equal(haul_client_policy_by_name(name, &policy), 0);
		assert_int_equal(policy, i);
	}
	assert_int_equal(haul_client_policy_by_name("best", &policy), -22);
	assert_string_equal(haul_client_policy_name(HAUL_CLIENT_POLICIES), "unknown");
	assert_int_equal(pace_init(&pace, HAUL_CLIENT_POLICIES, &limits, &err), -22);
	assert_non_null(strstr(err.text, "policy"));
	assert_int_equal(pace_init(&pace, HAUL_CLIENT_SEED, &none, &err), -22);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pace__has_the_numbers_of_the_seed),
		cmocka_unit_test(test_pace__does_not_hold_a_lone_change),
		cmocka_unit_test(test_pace__fixed_closes_by_threshold_and_deadline),
		cmocka_unit_test(test_pace__closes_for_hard_reasons),
		cmocka_unit_test(test_pace__seed_doubles_and_halves),
		cmocka_unit_test(test_pace__selfclock_fills_the_pipe_evenly),
		cmocka_unit_test(test_pace__model_waits_where_it_pays),
		cmocka_unit_test(test_pace__knows_its_policies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
