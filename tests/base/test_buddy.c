#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buddy.h"
#include "lib/testlib.h"

enum { ARENA = 1 << 20, BLOCKS = ARENA / BUDDY_MIN, HELD = 96, ROUNDS = 20000 };

struct held {
	uint8_t *data;
	uint64_t bytes; /* rounded up */
	uint8_t fill;
};

static uint64_t round_up(uint64_t bytes)
{
	uint64_t rounded = BUDDY_MIN;
	while (rounded < bytes)
		rounded *= 2;
	return rounded;
}

static void check_fill(const struct held *held)
{
	for (uint64_t i = 0; i < held->bytes; i += 509)
		assert_int_equal(held->data[i], held->fill);
	assert_int_equal(held->data[held->bytes - 1], held->fill);
}

/* Whether the naive map of blocks has an aligned run that is free. */
static bool has_run(const uint8_t *map, uint64_t bytes)
{
	uint64_t run = bytes / BUDDY_MIN;
	for (uint64_t at = 0; at + run <= BLOCKS; at += run) {
		uint64_t used = 0;
		for (uint64_t i = 0; i < run; i++)
			used += map[at + i];
		if (used == 0)
			return true;
	}
	return false;
}

static void model_get(struct buddy *buddy, struct held *held, uint8_t *map, struct prng *prng)
{
	uint64_t asked = (uint64_t)1 << prng_below(prng, 19);
	asked += prng_below(prng, 3) * asked / 4;
	uint64_t bytes = round_up(asked);
	held->data = buddy_get(buddy, asked);
	assert_int_equal(held->data != NULL, has_run(map, bytes));
	if (!held->data)
		return;
	uint64_t at = (uint64_t)(held->data - buddy->arena) / BUDDY_MIN;
	assert_int_equal(at * BUDDY_MIN % bytes, 0);
	for (uint64_t i = 0; i < bytes / BUDDY_MIN; i++) {
		assert_int_equal(map[at + i], 0);
		map[at + i] = 1;
	}
	held->bytes = bytes;
	held->fill = (uint8_t)prng_next(prng);
	memset(held->data, held->fill, bytes);
}

static void model_put(struct buddy *buddy, struct held *held, uint8_t *map)
{
	check_fill(held);
	uint64_t at = (uint64_t)(held->data - buddy->arena) / BUDDY_MIN;
	memset(map + at, 0, held->bytes / BUDDY_MIN);
	buddy_put(buddy, held->data);
	held->data = NULL;
}

/* A buffer would overlap another, be misaligned, or be refused while there is room for it (freed
 * neighbours not joined): compared with a naive map of blocks. */
static void test_buddy__gives_what_a_naive_map_says_is_free(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct buddy buddy;
	assert_int_equal(buddy_init(&buddy, ARENA - 5), 0);
	assert_int_equal(buddy.bytes, ARENA);
	assert_int_equal((uintptr_t)buddy.arena % ARENA, 0);
	static struct held held[HELD];
	static uint8_t map[BLOCKS];
	memset(held, 0, sizeof held);
	memset(map, 0, sizeof map);
	uint64_t used = 0;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct held *one = &held[prng_below(&prng, HELD)];
		if (one->data) {
			used -= one->bytes;
			model_put(&buddy, one, map);
		} else {
			model_get(&buddy, one, map, &prng);
			used += one->data ? one->bytes : 0;
		}
		assert_int_equal(buddy.used, used);
	}
	for (uint32_t i = 0; i < HELD; i++) {
		if (held[i].data)
			model_put(&buddy, &held[i], map);
	}
	/* all joined again */
	uint8_t *whole = buddy_get(&buddy, ARENA);
	assert_ptr_equal(whole, buddy.arena);
	assert_null(buddy_get(&buddy, 1));
	buddy_put(&buddy, whole);
	assert_int_equal(buddy.used, 0);
	buddy_done(&buddy);
}

/* Over the arena's size, a buffer would reach behind it. */
static void test_buddy__never_grows(void **state)
{
	(void)state;
	struct buddy buddy;
	assert_int_equal(buddy_init(&buddy, 1), 0);
	assert_int_equal(buddy.bytes, BUDDY_MIN);
	assert_null(buddy_get(&buddy, BUDDY_MIN + 1));
	assert_null(buddy_get(&buddy, UINT64_MAX));
	uint8_t *one = buddy_get(&buddy, 0);
	assert_non_null(one);
	assert_null(buddy_get(&buddy, 1));
	buddy_put(&buddy, one);
	buddy_put(&buddy, NULL);
	assert_non_null(buddy_get(&buddy, BUDDY_MIN));
	buddy_done(&buddy);
}

/* Set-up would leak, or go on without its memory. */
static void test_buddy__says_when_memory_is_short(void **state)
{
	(void)state;
	struct buddy buddy = { .used = 77 };
	assert_int_equal(buddy_init(&buddy, UINT64_MAX), -ENOMEM);
	for (uint32_t i = 0; test_malloc_fail(i) && i < 2; i++) {
		assert_int_equal(buddy_init(&buddy, ARENA), -ENOMEM);
		assert_int_equal(buddy.used, 77);
	}
	buddy = (struct buddy){ 0 };
	buddy_done(&buddy);
}

/* The arena must come on a large page's boundary when it is at least as long. */
static void test_buddy__aligns_to_large_pages(void **state)
{
	(void)state;
	struct buddy buddy;
	assert_int_equal(buddy_init(&buddy, 4 << 20), 0);
	assert_int_equal((uintptr_t)buddy.arena % (2 << 20), 0);
	uint8_t *one = buddy_get(&buddy, 2 << 20);
	uint8_t *two = buddy_get(&buddy, 2 << 20);
	assert_int_equal((uintptr_t)one % (2 << 20), 0);
	assert_int_equal((uintptr_t)two % (2 << 20), 0);
	uint64_t before = test_mallocs();
	buddy_put(&buddy, one);
	one = buddy_get(&buddy, 5000);
	buddy_put(&buddy, one);
	assert_int_equal(test_mallocs(), before);
	buddy_done(&buddy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buddy__gives_what_a_naive_map_says_is_free),
		cmocka_unit_test(test_buddy__never_grows),
		cmocka_unit_test(test_buddy__says_when_memory_is_short),
		cmocka_unit_test(test_buddy__aligns_to_large_pages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
