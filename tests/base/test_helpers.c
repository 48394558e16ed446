#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/prng.h"
#include "lib/testlib.h"

/* Big-endian at every alignment, and never a byte beside: the guard page is right behind. */
static void test_bytes__round_trip_at_any_alignment(void **state)
{
	(void)state;
	struct test_guard guard;
	test_guard_open(&guard, 16);
	for (int at = 0; at <= 8; at++) {
		uint8_t *p = guard.data + at;
		memset(guard.data, 0xee, 16);
		be64_store(p, UINT64_C(0x0102030405060708));
		assert_memory_equal(p, "\1\2\3\4\5\6\7\x8", 8);
		assert_true(be64_load(p) == UINT64_C(0x0102030405060708));
		p = guard.data + 16 - 6 - (at < 6 ? at : 6);
		mac_store(p, UINT64_C(0xf1f2f3f4f5f6));
		assert_memory_equal(p, "\xf1\xf2\xf3\xf4\xf5\xf6", 6);
		assert_true(mac_load(p) == UINT64_C(0xf1f2f3f4f5f6));
	}
	be32_store(guard.data + 12, 0xa1a2a3a4);
	assert_int_equal(be32_load(guard.data + 12), 0xa1a2a3a4);
	be16_store(guard.data + 14, 0xb1b2);
	assert_int_equal(be16_load(guard.data + 14), 0xb1b2);
	assert_int_equal(be32_load(guard.data + 12), 0xa1a2b1b2);
	test_guard_close(&guard);
}

/* The lowest bit of the first byte on the wire makes an address a group. */
static void test_mac_is_group__looks_at_the_first_byte(void **state)
{
	(void)state;
	assert_int_equal(mac_is_group(UINT64_C(0xffffffffffff)), 1);
	assert_int_equal(mac_is_group(UINT64_C(0x01005e000001)), 1);
	assert_int_equal(mac_is_group(UINT64_C(0x020000000001)), 0);
}

/* The same seed gives the same numbers on every machine and in every release: a scenario that lost
 * a frame must lose it again. */
static void test_prng__repeats_its_sequence(void **state)
{
	(void)state;
	struct prng prng;
	prng_init(&prng, 1234567);
	const uint64_t known[] = { UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
				   UINT64_C(9817491932198370423), UINT64_C(4593380528125082431) };
	for (int i = 0; i < 4; i++)
		assert_true(prng_next(&prng) == known[i]);
}

/* Each number comes up about as often as the others, and none outside. */
static void test_prng_below__covers_its_range(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	uint32_t hits[10] = { 0 };
	for (int i = 0; i < 100000; i++)
		hits[prng_below(&prng, 10)]++;
	for (int i = 0; i < 10; i++)
		assert_in_range(hits[i], 9000, 11000);
	for (int i = 0; i < 1000; i++) {
		double unit = prng_unit(&prng);
		assert_true(unit >= 0.0 && unit < 1.0);
		assert_int_equal(prng_below(&prng, 1), 0);
	}
}

/* A failed assertion says where and what on stderr, and ends the process. */
static void test_assert__tells_and_aborts(void **state)
{
	(void)state;
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(ends[1], STDERR_FILENO);
		assert_failed("1 == 2", "file.c", 42);
	}
	close(ends[1]);
	char text[128] = "";
	ssize_t bytes = read(ends[0], text, sizeof text - 1);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(bytes > 0);
	assert_string_equal(text, "file.c:42: assertion failed: 1 == 2\n");
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes__round_trip_at_any_alignment),
		cmocka_unit_test(test_mac_is_group__looks_at_the_first_byte),
		cmocka_unit_test(test_prng__repeats_its_sequence),
		cmocka_unit_test(test_prng_below__covers_its_range),
		cmocka_unit_test(test_assert__tells_and_aborts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
