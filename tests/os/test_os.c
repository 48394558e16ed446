#include <string.h>

#include "lib/testlib.h"
#include "os/os.h"

/* The machine's clock never goes back; its random numbers differ and fill all that was asked. */
static void test_os_linux__has_a_clock_and_randomness(void **state)
{
	(void)state;
	struct os *os = os_linux();
	int64_t before_ns = os->now_ns(os);
	assert_true(before_ns > 0);
	assert_true(os->now_ns(os) >= before_ns);
	assert_true(os->real_time_s(os) > 1700000000); /* 2023 */

	uint8_t a[1000] = { 0 }, b[1000] = { 0 }, zero[100] = { 0 };
	os->random(os, a, sizeof a);
	os->random(os, b, sizeof b);
	assert_memory_not_equal(a, b, sizeof a);
	for (size_t at = 0; at < sizeof a; at += sizeof zero)
		assert_memory_not_equal(a + at, zero, sizeof zero);
	os->random(os, a, 0);
}

/* The twin's time moves only when told to. */
static void test_os_sim__time_stands_still_until_told(void **state)
{
	(void)state;
	struct os_sim sim;
	os_sim_init(&sim, 1);
	assert_int_equal(sim.os.now_ns(&sim.os), 0);
	assert_int_equal(sim.os.now_ns(&sim.os), 0);
	os_sim_advance(&sim, 2 * NS_PER_S + 7);
	assert_int_equal(sim.os.now_ns(&sim.os), 2 * NS_PER_S + 7);
	assert_int_equal(sim.os.real_time_s(&sim.os), 2);
	os_sim_advance(&sim, 0);
	assert_int_equal(sim.os.now_ns(&sim.os), 2 * NS_PER_S + 7);
}

/* Same seed, same bytes, however they are asked for; another seed, other bytes. */
static void test_os_sim__randomness_comes_from_the_seed(void **state)
{
	(void)state;
	struct os_sim a, b, c;
	uint8_t whole[64], parts[64], other[64];
	os_sim_init(&a, 42);
	os_sim_init(&b, 42);
	os_sim_init(&c, 43);
	a.os.random(&a.os, whole, sizeof whole);
	for (size_t at = 0; at < sizeof parts; at += 16)
		b.os.random(&b.os, parts + at, 16);
	c.os.random(&c.os, other, sizeof other);
	assert_memory_equal(whole, parts, sizeof whole);
	assert_memory_not_equal(whole, other, sizeof whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_os_linux__has_a_clock_and_randomness),
		cmocka_unit_test(test_os_sim__time_stands_still_until_told),
		cmocka_unit_test(test_os_sim__randomness_comes_from_the_seed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
