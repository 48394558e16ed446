#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/ring.h"
#include "lib/testlib.h"

/* A ring that cannot be is refused, and done may be called on nothing. */
static void test_ring_init__refuses_what_is_out_of_bounds(void **state)
{
	(void)state;
	struct ring ring = { 0 };
	assert_int_equal(ring_init(&ring, 0, 8), -EINVAL);
	assert_int_equal(ring_init(&ring, 8, 0), -EINVAL);
	assert_int_equal(ring_init(&ring, 8, (1 << 24) + 1), -EINVAL);
	assert_null(ring.items);
	ring_done(&ring);
	ring_done(NULL);
}

/* The one allocation fails: nothing is left behind. */
static void test_ring_init__survives_want_of_memory(void **state)
{
	(void)state;
	struct ring ring = { 0 };
	if (!test_malloc_fail(0))
		skip();
	assert_int_equal(ring_init(&ring, 8, 8), -ENOMEM);
	assert_null(ring.items);
	ring_done(&ring);
}

/* What does not fit is told, and what is not there is not made up. */
static void test_ring__is_bounded(void **state)
{
	(void)state;
	struct ring ring;
	const uint16_t in[7] = { 1, 2, 3, 4, 5, 6, 7 };
	uint16_t out[7] = { 0 };
	assert_int_equal(ring_init(&ring, sizeof *in, 3), 0); /* rounded up to 4 */
	assert_int_equal(ring_pop(&ring, out, 7), 0);
	assert_int_equal(ring_push(&ring, in, 7), 4);
	assert_int_equal(ring_push(&ring, in, 1), 0);
	assert_int_equal(ring_pop(&ring, out, 3), 3);
	assert_memory_equal(out, in, 3 * sizeof *in);
	assert_int_equal(ring_push(&ring, in + 4, 3), 3);
	assert_int_equal(ring_pop(&ring, out, 7), 4);
	assert_memory_equal(out, in + 3, 4 * sizeof *in);
	ring_done(&ring);
}

/* Random batches in and out against two counters, also where the 32-bit indices wrap. */
static void test_ring__keeps_order_over_the_wrap(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct ring ring;
	uint64_t pushed = 0, popped = 0, items[100];
	assert_int_equal(ring_init(&ring, sizeof *items, 64), 0);
	atomic_store(&ring.head, UINT32_MAX - 1000);
	atomic_store(&ring.tail, UINT32_MAX - 1000);
	ring.tail_seen = ring.head_seen = UINT32_MAX - 1000;
	for (int i = 0; i < 10000; i++) {
		uint32_t count = prng_below(&prng, 100);
		for (uint32_t k = 0; k < count; k++)
			items[k] = pushed + k;
		uint32_t room = 64 - (uint32_t)(pushed - popped);
		uint32_t in = ring_push(&ring, items, count);
		assert_int_equal(in, count < room ? count : room);
		pushed += in;
		count = prng_below(&prng, 100);
		uint32_t out = ring_pop(&ring, items, count);
		assert_int_equal(out, count < pushed - popped ? count : pushed - popped);
		for (uint32_t k = 0; k < out; k++)
			assert_true(items[k] == popped + k);
		popped += out;
	}
	ring_done(&ring);
}

enum { ITEMS = 1000000, BATCH = 48 };

struct item {
	uint32_t number;
	uint32_t check[3];
};

static void *produce(void *arg)
{
	struct ring *ring = arg;
	struct item items[BATCH];
	for (uint32_t next = 0; next < ITEMS;) {
		uint32_t count = ITEMS - next < 1 + next % BATCH ? ITEMS - next : 1 + next % BATCH;
		for (uint32_t i = 0; i < count; i++)
			items[i] =
				(struct item){ next + i, { ~(next + i), next + i, ~(next + i) } };
		next += ring_push(ring, items, count);
	}
	return NULL;
}

/* Items of an odd size, batches of any: each arrives once, in order and whole. */
static void test_ring__carries_between_two_threads(void **state)
{
	(void)state;
	struct ring ring;
	struct item items[BATCH];
	pthread_t producer;
	assert_int_equal(ring_init(&ring, sizeof *items, 100), 0);
	assert_int_equal(pthread_create(&producer, NULL, produce, &ring), 0);
	uint32_t bad = 0;
	for (uint32_t next = 0; next < ITEMS;) {
		uint32_t count = ring_pop(&ring, items, 1 + next % BATCH);
		for (uint32_t i = 0; i < count; i++, next++)
			bad += items[i].number != next || items[i].check[0] != ~next ||
			       items[i].check[1] != next || items[i].check[2] != ~next;
	}
	assert_int_equal(pthread_join(producer, NULL), 0);
	assert_int_equal(bad, 0);
	assert_int_equal(ring_pop(&ring, items, BATCH), 0);
	ring_done(&ring);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ring_init__refuses_what_is_out_of_bounds),
		cmocka_unit_test(test_ring_init__survives_want_of_memory),
		cmocka_unit_test(test_ring__is_bounded),
		cmocka_unit_test(test_ring__keeps_order_over_the_wrap),
		cmocka_unit_test(test_ring__carries_between_two_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
