/* link/test_checksum.c — the fast sum against the obvious one. */
#include <string.h>

#include "lib/testlib.h"
#include "link/checksum.h"

enum { ROUNDS = 20000, BYTES_MAX = 3000 };

/* Byte by byte, in network order. */
static uint16_t naive(const uint8_t *p, uint32_t bytes)
{
	uint32_t sum = 0;
	for (uint32_t i = 0; i < bytes; i++) {
		sum += i % 2 == 0 ? (uint32_t)p[i] << 8 : p[i];
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return (uint16_t)sum;
}

/* Any length, alignment and split into two pieces; never a byte beyond the end. */
static void test_checksum__equals_the_naive_sum(void **state)
{
	struct prng prng;
	struct test_guard guard;
	(void)state;
	test_prng(&prng);
	test_guard_open(&guard, BYTES_MAX);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t bytes = prng_below(&prng, prng_below(&prng, 2) == 0 ? 80 : BYTES_MAX);
		uint32_t cut = prng_below(&prng, bytes + 1);
		uint8_t *p = guard.data + BYTES_MAX - bytes;
		uint8_t fill = (uint8_t)(prng_below(&prng, 3) == 0 ? 0xff : 0);
		for (uint32_t i = 0; i < bytes; i++)
			p[i] = fill | (uint8_t)prng_next(&prng);
		uint64_t sum = checksum_add(p, cut, 0);
		if (cut % 2 == 0)
			sum = checksum_add(p + cut, bytes - cut, sum);
		else
			sum = checksum_add_odd(p + cut, bytes - cut, sum);
		uint16_t want = checksum_word(naive(p, bytes));
		assert_true(checksum_equal(checksum_fold(sum), want));
	}
	test_guard_close(&guard);
}

/* A value that changes is followed by adding the new and the complement of the old. */
static void test_checksum__follows_a_change(void **state)
{
	struct prng prng;
	(void)state;
	test_prng(&prng);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint8_t header[20];
		for (uint32_t i = 0; i < sizeof header; i++)
			header[i] = (uint8_t)prng_next(&prng);
		uint16_t before = checksum_fold(checksum_add(header, sizeof header, 0));
		uint16_t old = checksum_load(header + 4), new = (uint16_t)prng_next(&prng);
		checksum_store(header + 4, new);
		uint16_t after = checksum_fold(checksum_add(header, sizeof header, 0));
		assert_true(checksum_equal(checksum_fold((uint64_t)before + (uint16_t)~old + new),
					   after));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checksum__equals_the_naive_sum),
		cmocka_unit_test(test_checksum__follows_a_change),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
