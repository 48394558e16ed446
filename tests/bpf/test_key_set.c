#include <errno.h>
#include <string.h>

#include "bpf/key_set.h"
#include "lib/testlib.h"

enum { KEYS = 5000, KEY_BYTES = 13 };

static void make_key(uint8_t key[KEY_BYTES], uint32_t number)
{
	memset(key, 0x5a, KEY_BYTES);
	memcpy(key + KEY_BYTES - sizeof number, &number, sizeof number);
}

/* Every key that was taken is found and no other, over all the times the table grows; a key taken
 * twice counts once. */
static void test_key_set__has_what_was_taken_and_nothing_else(void **state)
{
	(void)state;
	struct key_set set;
	struct prng prng;
	uint8_t keys[7 * KEY_BYTES], key[KEY_BYTES];
	test_prng(&prng);
	key_set_init(&set, KEY_BYTES, prng_next(&prng));
	make_key(key, 0);
	assert_false(key_set_has(&set, key));
	for (uint32_t i = 0; i < KEYS;) {
		uint32_t count = 0;
		for (; count < 7 && i < KEYS; i++)
			make_key(keys + KEY_BYTES * count++, 2 * i);
		assert_int_equal(key_set_load(&set, keys, count), 0);
		assert_int_equal(key_set_load(&set, keys, count), 0);
		assert_int_equal(set.count, i);
	}
	for (uint32_t i = 0; i < 2 * KEYS; i++) {
		make_key(key, i);
		assert_int_equal(key_set_has(&set, key), i % 2 == 0);
	}
	key_set_done(&set);
	key_set_done(&set);
}

/* Without memory for a larger table the set stays as it was. */
static void test_key_set__survives_want_of_memory(void **state)
{
	(void)state;
	struct key_set set;
	uint8_t key[KEY_BYTES];
	key_set_init(&set, KEY_BYTES, 1);
	make_key(key, 1);
	for (uint32_t i = 0; i < 2; i++) {
		if (!test_malloc_fail(i))
			skip();
		assert_int_equal(key_set_load(&set, key, 1), -ENOMEM);
		assert_false(key_set_has(&set, key));
	}
	assert_int_equal(key_set_load(&set, key, 1), 0);
	assert_true(key_set_has(&set, key));
	key_set_done(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key_set__has_what_was_taken_and_nothing_else),
		cmocka_unit_test(test_key_set__survives_want_of_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
