#include <string.h>

#include "base/crc32c.h"
#include "lib/testlib.h"

enum { BUFFER_BYTES = 512 };

/* The examples of RFC 3720 B.4, and the check value of the catalogues: another polynomial, bit
 * order or start value gives other figures. */
static void test_crc32c__agrees_with_published_examples(void **state)
{
	(void)state;
	uint8_t bytes[32];
	memset(bytes, 0, sizeof bytes);
	assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x8a9136aa);
	memset(bytes, 0xff, sizeof bytes);
	assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x62a8ab43);
	for (uint8_t i = 0; i < sizeof bytes; i++)
		bytes[i] = i;
	assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x46dd794e);
	for (uint8_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(31 - i);
	assert_int_equal(crc32c(0, bytes, sizeof bytes), 0x113fdb5c);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c_table(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c(0, bytes, 0), 0);
}

/* A file written on one processor is read on another: instruction and table agree at every length
 * and alignment, and in pieces as in one go. */
static void test_crc32c__is_the_same_by_table_and_in_pieces(void **state)
{
	(void)state;
	struct prng prng;
	uint8_t bytes[BUFFER_BYTES];
	test_prng(&prng);
	for (uint32_t i = 0; i < BUFFER_BYTES; i++)
		bytes[i] = (uint8_t)prng_below(&prng, 256);
	for (uint32_t from = 0; from < 9; from++)
		for (uint32_t length = 0; length < BUFFER_BYTES - 9; length++) {
			const uint32_t cut = prng_below(&prng, length + 1);
			const uint32_t whole = crc32c(7, bytes + from, length);
			const uint32_t first = crc32c(7, bytes + from, cut);
			assert_int_equal(whole, crc32c_table(7, bytes + from, length));
			assert_int_equal(whole, crc32c(first, bytes + from + cut, length - cut));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc32c__agrees_with_published_examples),
		cmocka_unit_test(test_crc32c__is_the_same_by_table_and_in_pieces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
