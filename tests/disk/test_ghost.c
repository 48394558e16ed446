#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/ghost.h"
#include "lib/testlib.h"

enum { MAX = 64, KEYS = 200, ROUNDS = 40000 };

/* The naive twin: a list, oldest first. */
struct model {
	uint32_t key[MAX];
	uint32_t places; /* ring places used, taken ones included */
};

static uint64_t hash_of(uint32_t key)
{
	return hash_u64(key + UINT64_C(0x9e3779b97f4a7c15));
}

static uint32_t model_find(const struct model *model, uint32_t key)
{
	for (uint32_t i = 0; i < model->places; i++) {
		if (model->key[i] == key)
			return i;
	}
	return UINT32_MAX;
}

/* A taken one leaves its place empty until the ring passes it. */
static bool model_take(struct model *model, uint32_t key)
{
	uint32_t at = model_find(model, key);
	if (at == UINT32_MAX)
		return false;
	model->key[at] = UINT32_MAX;
	return true;
}

static void model_add(struct model *model, uint32_t key)
{
	(void)model_take(model, key);
	if (model->places == MAX) {
		memmove(model->key, model->key + 1, (MAX - 1) * sizeof model->key[0]);
		model->places--;
	}
	model->key[model->places++] = key;
}

/* Who was evicted lately would not be known, or stay known for ever. */
static void test_ghost__remembers_the_last_ones(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct model model = { .places = 0 };
	struct ghost ghost;
	assert_int_equal(ghost_init(&ghost, MAX), 0);
	uint64_t before = test_mallocs();
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t key = prng_below(&prng, KEYS);
		switch (prng_below(&prng, 4)) {
		case 0:
			assert_int_equal(ghost_take(&ghost, hash_of(key)), model_take(&model, key));
			break;
		case 1:
			assert_int_equal(ghost_has(&ghost, hash_of(key)),
					 model_find(&model, key) != UINT32_MAX);
			break;
		default:
			ghost_add(&ghost, hash_of(key));
			model_add(&model, key);
		}
		uint32_t live = 0;
		for (uint32_t i = 0; i < model.places; i++)
			live += model.key[i] != UINT32_MAX;
		assert_int_equal(ghost.count, live);
	}
	assert_int_equal(test_mallocs(), before);
	ghost_done(&ghost);
}

/* Newcomers would be taken for evicted ones: 10^6 strangers against 65536 known ones are expected
 * to hit 15 times (65536 / 2^32 each); 60 would be six times the deviation too many. */
static void test_ghost__rarely_knows_strangers(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct ghost ghost;
	assert_int_equal(ghost_init(&ghost, 65536), 0);
	for (uint32_t i = 0; i < 200000; i++)
		ghost_add(&ghost, prng_next(&prng));
	assert_int_equal(ghost.count > 65000, true);
	uint32_t known = 0;
	for (uint32_t i = 0; i < 1000000; i++)
		known += ghost_has(&ghost, prng_next(&prng));
	assert_true(known < 60);
	ghost_done(&ghost);
}

/* Set-up would leak or divide by nothing; one entry is the smallest ring. */
static void test_ghost__says_what_it_cannot_hold(void **state)
{
	(void)state;
	struct ghost ghost = { .count = 7 };
	assert_int_equal(ghost_init(&ghost, 0), -EINVAL);
	assert_int_equal(ghost_init(&ghost, UINT32_MAX), -EINVAL);
	for (uint32_t i = 0; i < 2 && test_malloc_fail(i); i++)
		assert_int_equal(ghost_init(&ghost, 100), -ENOMEM);
	assert_int_equal(ghost.count, 7);
	assert_int_equal(ghost_init(&ghost, 1), 0);
	ghost_add(&ghost, 5);
	ghost_add(&ghost, 0);
	assert_false(ghost_has(&ghost, 5));
	assert_true(ghost_take(&ghost, 0));
	assert_false(ghost_take(&ghost, 0));
	ghost_done(&ghost);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ghost__remembers_the_last_ones),
		cmocka_unit_test(test_ghost__rarely_knows_strangers),
		cmocka_unit_test(test_ghost__says_what_it_cannot_hold),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
