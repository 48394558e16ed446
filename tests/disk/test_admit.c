#include "disk/admit.h"
#include "lib/testlib.h"
#include "os/os.h"

enum { ASKS = 2000, RATE = 10 << 20, BURST = 8 << 20 };

struct ask {
	int64_t ns;
	uint64_t bytes; /* 0 = refused */
};

/* Over some stretch of time more would be written than was allowed: every window of every length is
 * added up. */
static void test_admit__keeps_the_budget_over_any_window(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct admit admit;
	admit_init(&admit, RATE, BURST, 1000);
	static struct ask ask[ASKS];
	int64_t now_ns = 1000;
	uint64_t total = 0;
	for (uint32_t i = 0; i < ASKS; i++) {
		uint64_t step = UINT64_C(1) << prng_below(&prng, 29);
		now_ns += (int64_t)prng_below(&prng, (uint32_t)step);
		uint64_t bytes = 1 + prng_below(&prng, 1 << 20);
		bool taken = admit_ask(&admit, bytes, prng_below(&prng, 2), now_ns);
		ask[i] = (struct ask){ .ns = now_ns, .bytes = taken ? bytes : 0 };
		total += ask[i].bytes;
	}
	for (uint32_t from = 0; from < ASKS; from++) {
		uint64_t sum = 0;
		for (uint32_t to = from; to < ASKS; to++) {
			sum += ask[to].bytes;
			double allowed =
				BURST + (double)(ask[to].ns - ask[from].ns) * 1e-9 * RATE + 1;
			assert_true((double)sum <= allowed);
		}
	}
	assert_int_equal(admit.admitted, total);
	assert_true(admit.refused > 0);
	/* and the budget is used, not only kept */
	assert_true((double)total > (double)(now_ns - 1000) * 1e-9 * RATE * 0.8);
}

/* Newcomers would use up what those seen before need. */
static void test_admit__keeps_half_for_who_was_seen_before(void **state)
{
	(void)state;
	struct admit admit;
	admit_init(&admit, 1, BURST, 0);
	uint64_t unseen = 0, seen = 0;
	while (admit_ask(&admit, 1 << 16, false, 0))
		unseen += 1 << 16;
	while (admit_ask(&admit, 1 << 16, true, 0))
		seen += 1 << 16;
	assert_int_equal(unseen, BURST / 2);
	assert_int_equal(seen, BURST / 2);
}

/* Without a budget something would be refused; or the clock's step back would mint tokens; or a
 * largest value could never be admitted. */
static void test_admit__holds_at_its_limits(void **state)
{
	(void)state;
	struct admit admit;
	admit_init(&admit, 0, 0, 0);
	for (uint32_t i = 0; i < 100; i++)
		assert_true(admit_ask(&admit, UINT64_C(1) << 40, false, 0));
	admit_init(&admit, 100, 1, 5 * NS_PER_S);
	assert_int_equal(admit.burst_bytes, ADMIT_BURST_MIN);
	assert_true(admit_ask(&admit, ADMIT_BURST_MIN, false, 5 * NS_PER_S));
	assert_false(admit_ask(&admit, 1, true, 0));
	assert_false(admit_ask(&admit, 1, true, 5 * NS_PER_S));
	assert_true(admit_ask(&admit, 100, true, 6 * NS_PER_S));
	assert_false(admit_ask(&admit, 1, true, 6 * NS_PER_S));
}

/* What had to be written would not count: the debt is paid before anything is admitted. */
static void test_admit__pays_debts_first(void **state)
{
	(void)state;
	struct admit admit;
	admit_init(&admit, 1000, 0, 0);
	admit_charge(&admit, ADMIT_BURST_MIN + 5000, 0);
	assert_false(admit_ask(&admit, 1, true, 5 * NS_PER_S));
	assert_true(admit_ask(&admit, 1000, true, 6 * NS_PER_S));
	assert_int_equal(admit.admitted, ADMIT_BURST_MIN + 6000);
	admit_init(&admit, 0, 0, 0);
	admit_charge(&admit, UINT64_C(1) << 40, 0);
	assert_true(admit_ask(&admit, 1, false, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_admit__keeps_the_budget_over_any_window),
		cmocka_unit_test(test_admit__keeps_half_for_who_was_seen_before),
		cmocka_unit_test(test_admit__holds_at_its_limits),
		cmocka_unit_test(test_admit__pays_debts_first),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
