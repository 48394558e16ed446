#include <string.h>

#include "lib/testlib.h"
#include "node/dedupe.h"
#include "node/row_index.h"

enum { BATCH = 256 };

#define EPOCH(boot_s) ((uint64_t)(boot_s) << 32)

static struct dedupe *open_table(uint32_t origins)
{
	struct dedupe *dedupe = NULL;
	assert_int_equal(dedupe_open(origins, &dedupe), 0);
	return dedupe;
}

static uint32_t check_all(struct dedupe *dedupe, const uint64_t *origin, const uint64_t *sequence,
			  uint32_t count, uint8_t *fresh)
{
	const struct dedupe_batch batch = { .origin = origin,
					    .sequence = sequence,
					    .count = count };
	return dedupe_check(dedupe, &batch, 0, fresh);
}

static bool is_fresh(struct dedupe *dedupe, uint64_t origin, uint64_t sequence, int64_t now_ns)
{
	uint8_t fresh = 2;
	const struct dedupe_batch one = { .origin = &origin, .sequence = &sequence, .count = 1 };
	const uint32_t count = dedupe_check(dedupe, &one, now_ns, &fresh);
	assert_int_equal(count, fresh);
	return fresh == 1;
}

/* Each message is fresh once, in any order within the window, and once only within one batch. */
static void test_dedupe_check__fresh_once(void **state)
{
	(void)state;
	struct dedupe *dedupe = open_table(4);
	const uint64_t origin[] = { 5, 5, 6, 5, 5, 6, 0, 0 };
	const uint64_t sequence[] = { 10, 9, 10, 10, 11, 10, 1, 2 };
	const uint8_t expected[] = { 1, 1, 1, 0, 1, 0, 0, 0 };
	uint8_t fresh[8];
	assert_int_equal(check_all(dedupe, origin, sequence, 8, fresh), 4);
	assert_memory_equal(fresh, expected, sizeof expected);
	assert_int_equal(check_all(dedupe, origin, sequence, 8, fresh), 0);
	dedupe_close(dedupe);
	dedupe_close(NULL);
}

/* The last number inside the window counts, the first below it does not, wherever the window lies.
 * */
static void test_dedupe_check__window_is_exact(void **state)
{
	(void)state;
	for (uint64_t newest = 5000; newest < 5000 + 2 * 64; newest++) {
		struct dedupe *dedupe = open_table(1);
		assert_true(is_fresh(dedupe, 1, newest - 3000, 0));
		assert_true(is_fresh(dedupe, 1, newest, 0));
		assert_false(is_fresh(dedupe, 1, newest - DEDUPE_WINDOW, 0));
		for (uint64_t behind = DEDUPE_WINDOW - 1; behind > 0; behind--)
			assert_true(is_fresh(dedupe, 1, newest - behind, 0));
		for (uint64_t behind = 0; behind < 3100; behind++)
			assert_false(is_fresh(dedupe, 1, newest - behind, 0));
		dedupe_close(dedupe);
	}
}

/* A restarted node has a later boot time: accepted at once. One whose clock went back is accepted
 * when the old numbers have been silent for long enough, and not a nanosecond before. */
static void test_dedupe_check__restart(void **state)
{
	(void)state;
	struct dedupe *dedupe = open_table(4);
	assert_true(is_fresh(dedupe, 1, EPOCH(100) + 70000, 0));
	assert_true(is_fresh(dedupe, 1, EPOCH(101), 1));
	assert_false(is_fresh(dedupe, 1, EPOCH(100) + 70001, 2));
	assert_false(is_fresh(dedupe, 1, EPOCH(3), 1 + DEDUPE_SILENCE_NS - 1));
	assert_true(is_fresh(dedupe, 1, EPOCH(3), 1 + DEDUPE_SILENCE_NS));
	assert_true(is_fresh(dedupe, 1, EPOCH(3) + 1, 1 + DEDUPE_SILENCE_NS));
	assert_false(is_fresh(dedupe, 1, EPOCH(3), 1 + DEDUPE_SILENCE_NS));
	dedupe_close(dedupe);
}

/* A forged number at the end of all numbers mutes its victim for the time of silence, not for ever;
 * the victim's own refused messages do not prolong it. */
static void test_dedupe_check__forged_number_mutes_for_a_time(void **state)
{
	(void)state;
	struct dedupe *dedupe = open_table(4);
	assert_true(is_fresh(dedupe, 1, EPOCH(100), 0));
	assert_true(is_fresh(dedupe, 1, UINT64_MAX, 1));
	for (int64_t now_ns = 2; now_ns < DEDUPE_SILENCE_NS; now_ns += 1000000)
		assert_false(is_fresh(dedupe, 1, EPOCH(100) + 1, now_ns));
	assert_true(is_fresh(dedupe, 1, EPOCH(100) + 1, 1 + DEDUPE_SILENCE_NS));
	dedupe_close(dedupe);
}

/* When the table is full the longest silent origin makes room, and only that one. */
static void test_dedupe_check__evicts_the_longest_silent(void **state)
{
	(void)state;
	struct dedupe *dedupe = open_table(4);
	for (uint64_t origin = 1; origin <= 4; origin++)
		assert_true(is_fresh(dedupe, origin, 50, (int64_t)origin));
	assert_true(is_fresh(dedupe, 1, 51, 5));
	assert_false(is_fresh(dedupe, 2, 50, 6)); /* a repeat is no sign of life */
	assert_true(is_fresh(dedupe, 9, 50, 7));
	for (uint64_t origin = 3; origin <= 4; origin++)
		assert_false(is_fresh(dedupe, origin, 50, 8));
	assert_false(is_fresh(dedupe, 1, 51, 8));
	assert_true(is_fresh(dedupe, 2, 50, 9));
	dedupe_close(dedupe);
}

/* Against a plain list of all that was said: random bursts of a few origins, with repeats, late
 * ones and jumps. */
static void test_dedupe_check__equals_a_simple_model(void **state)
{
	(void)state;
	enum { ORIGINS = 5, NUMBERS = 1 << 16 };
	static uint8_t said[ORIGINS][NUMBERS];
	uint64_t newest[ORIGINS] = { 0 };
	struct prng prng;
	test_prng(&prng);
	struct dedupe *dedupe = open_table(ORIGINS);
	memset(said, 0, sizeof said);
	for (uint32_t round = 0; round < 2000; round++) {
		uint64_t origin[BATCH];
		uint64_t sequence[BATCH];
		uint8_t fresh[BATCH];
		uint8_t expected[BATCH];
		for (uint32_t i = 0; i < BATCH; i++) {
			const uint32_t o = prng_below(&prng, ORIGINS);
			const uint32_t jump = prng_below(&prng, 50) == 0 ? 1500 : 4;
			uint64_t number = newest[o] + prng_below(&prng, jump);
			if (prng_below(&prng, 2) == 0)
				number -= prng_below(&prng, 1100);
			if ((int64_t)number < 0 || number >= NUMBERS)
				number = newest[o];
			expected[i] = said[o][number] == 0 &&
				      (number >= newest[o] || newest[o] - number < DEDUPE_WINDOW);
			if (expected[i])
				said[o][number] = 1;
			if (number > newest[o])
				newest[o] = number;
			origin[i] = o + 1;
			sequence[i] = number + EPOCH(7);
		}
		check_all(dedupe, origin, sequence, BATCH, fresh);
		assert_memory_equal(fresh, expected, sizeof fresh);
	}
	dedupe_close(dedupe);
}

/* A flood of made-up origins stays within the table. */
static void test_dedupe_check__stays_bounded_under_made_up_origins(void **state)
{
	(void)state;
	struct prng prng;
	prng_init(&prng, 3);
	struct dedupe *dedupe = open_table(64);
	for (uint32_t i = 0; i < 100000; i++)
		(void)is_fresh(dedupe, prng_next(&prng), prng_next(&prng), i);
	dedupe_close(dedupe);
}

/* The index under random puts and removals equals an array that is searched. */
static void test_index__equals_a_simple_model(void **state)
{
	(void)state;
	enum { KEYS = 200, CAPACITY = 64 };
	uint32_t model[KEYS + 1];
	struct prng prng;
	struct row_index index;
	test_prng(&prng);
	assert_int_equal(row_index_init(&index, CAPACITY, prng_next(&prng)), 0);
	memset(model, 0xff, sizeof model);
	for (uint32_t i = 0; i < 200000; i++) {
		const uint32_t key = 1 + prng_below(&prng, KEYS);
		if (model[key] != ROW_INDEX_NONE) {
			row_index_remove(&index, key);
			model[key] = ROW_INDEX_NONE;
		} else if (index.count < CAPACITY) {
			row_index_put(&index, key, i);
			model[key] = i;
		}
		for (uint32_t probe = 0; probe < 3; probe++) {
			const uint32_t other = 1 + prng_below(&prng, KEYS);
			assert_int_equal(row_index_find(&index, other), model[other]);
		}
	}
	for (uint32_t key = 1; key <= KEYS; key++)
		assert_int_equal(row_index_find(&index, key), model[key]);
	row_index_done(&index);
	row_index_done(&index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dedupe_check__fresh_once),
		cmocka_unit_test(test_dedupe_check__window_is_exact),
		cmocka_unit_test(test_dedupe_check__restart),
		cmocka_unit_test(test_dedupe_check__forged_number_mutes_for_a_time),
		cmocka_unit_test(test_dedupe_check__evicts_the_longest_silent),
		cmocka_unit_test(test_dedupe_check__equals_a_simple_model),
		cmocka_unit_test(test_dedupe_check__stays_bounded_under_made_up_origins),
		cmocka_unit_test(test_index__equals_a_simple_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
