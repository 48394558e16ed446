/* Many threads at one cache: nothing is lost, nothing is mixed up, flushes are shared. What runs at
 * the same time is up to the machine; what must hold, holds in any order. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache_lab.h"

enum {
	MIB = 1 << 20,
	FILE_BYTES = 64 * MIB,
	THREADS = 8,
	ROUNDS = 150,
	VALUE = 3000,
	OBJECT = 700000
};

struct crew {
	struct cache_lab lab;
	pthread_barrier_t start;
};

struct worker {
	pthread_t thread;
	struct crew *crew;
	uint32_t number;
	uint32_t failed; /* what went wrong: cmocka's asserts are for the main thread */
	uint8_t value[OBJECT];
};

static struct worker workers[THREADS];

static int setup_with(void **state, uint32_t partitions)
{
	struct crew *crew = test_calloc(1, sizeof *crew);
	cache_lab_format(&crew->lab, FILE_BYTES, partitions);
	crew->lab.options.slice_bytes = 65536;
	cache_lab_open(&crew->lab);
	assert_int_equal(pthread_barrier_init(&crew->start, NULL, THREADS), 0);
	*state = crew;
	return 0;
}

static int setup_one(void **state)
{
	return setup_with(state, 1);
}

static int setup_three(void **state)
{
	return setup_with(state, 3);
}

static int teardown(void **state)
{
	struct crew *crew = *state;
	cache_lab_close(&crew->lab);
	pthread_barrier_destroy(&crew->start);
	test_free(crew);
	return 0;
}

static void run(struct crew *crew, void *(*work)(void *worker))
{
	for (uint32_t i = 0; i < THREADS; i++) {
		workers[i].crew = crew;
		workers[i].number = i;
		workers[i].failed = 0;
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(workers[i].failed, 0);
}

static uint64_t seed_of(uint32_t worker, uint32_t round)
{
	return worker * UINT64_C(1000003) + round;
}

static struct haul_cache_key key_of(char text[32], uint32_t worker, uint32_t round)
{
	snprintf(text, 32, "w%u_r%u", worker, round);
	return cache_lab_key(text);
}

static bool is_there(struct worker *worker, uint32_t owner, uint32_t round)
{
	static _Thread_local uint8_t data[VALUE];
	struct haul_cache_value value;
	char text[32];
	const struct haul_cache_key key = key_of(text, owner, round);
	return haul_cache_get(worker->crew->lab.cache, &key, data, sizeof data, &value) == 0 &&
	       value.bytes == VALUE && cache_lab_filled(data, VALUE, seed_of(owner, round), 0);
}

/* ---- durable stores ---- */

static void *store_durable(void *arg)
{
	struct worker *worker = arg;
	char text[32];
	pthread_barrier_wait(&worker->crew->start);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		cache_lab_fill(worker->value, VALUE, seed_of(worker->number, round));
		const struct haul_cache_item item = { .key = key_of(text, worker->number, round),
						      .value = worker->value,
						      .bytes = VALUE };
		worker->failed += haul_cache_store(worker->crew->lab.cache, &item) != 0;
		worker->failed += !is_there(worker, worker->number, round);
	}
	return NULL;
}

static void expect_all(struct crew *crew)
{
	workers[0].crew = crew;
	for (uint32_t i = 0; i < THREADS; i++)
		for (uint32_t round = 0; round < ROUNDS; round++)
			assert_true(is_there(&workers[0], i, round));
}

/* Durable stores of many threads: all are there after a restart, and there were fewer flushes than
 * stores. If it failed, each would pay for a sync of its own, or be lost between drivers. */
static void test_threads__durable_stores_share_flushes(void **state)
{
	struct crew *crew = *state;
	struct haul_cache_stat stat;
	run(crew, store_durable);
	haul_cache_stat(crew->lab.cache, &stat);
	assert_int_equal(stat.flush_ops, THREADS * ROUNDS);
	assert_true(stat.flushes < THREADS * ROUNDS);
	print_message("%llu stores in %llu flushes\n", (unsigned long long)stat.flush_ops,
		      (unsigned long long)stat.flushes);
	cache_lab_reopen(&crew->lab);
	expect_all(crew);
}

/* ---- buffered and durable mixed, deletes between ---- */

static void *store_mixed(void *arg)
{
	struct worker *worker = arg;
	struct haul_cache *cache = worker->crew->lab.cache;
	char text[32], other[32];
	pthread_barrier_wait(&worker->crew->start);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		cache_lab_fill(worker->value, VALUE, seed_of(worker->number, round));
		struct haul_cache_item item = { .key = key_of(text, worker->number, round),
						.value = worker->value,
						.bytes = VALUE };
		worker->failed += (round % 8 == 0 ? haul_cache_store(cache, &item)
						  : haul_cache_store_buffered(cache, &item)) != 0;
		worker->failed += !is_there(worker, worker->number, round / 2);
		snprintf(other, sizeof other, "gone%u_%u", worker->number, round);
		item.key = cache_lab_key(other);
		worker->failed += haul_cache_store_buffered(cache, &item) != 0;
		if (round % 16 == 3)
			worker->failed += haul_cache_delete(cache, &item.key) != 0;
		if (round % 50 == 49)
			worker->failed += haul_cache_flush(cache) != 0;
	}
	return NULL;
}

/* Buffered and durable stores, lookups, deletes and flushes of many threads at once. */
static void test_threads__mixed(void **state)
{
	struct crew *crew = *state;
	run(crew, store_mixed);
	cache_lab_reopen(&crew->lab);
	expect_all(crew);
	cache_lab_expect_gone(&crew->lab, "gone0_3");
}

/* ---- lookups of many keys ---- */

struct expected {
	uint32_t next;
	uint32_t wrong;
	const uint32_t *order;
};

static int check_value(uint32_t index, const struct haul_cache_value *value, void *arg)
{
	struct expected *expected = arg;
	const uint32_t which = expected->order[index];
	expected->wrong += index != expected->next++;
	expected->wrong +=
		value->status != HAUL_CACHE_HIT || value->bytes != VALUE ||
		!cache_lab_filled(value->data, VALUE, seed_of(which % THREADS, which / THREADS), 0);
	return 0;
}

static void *look_up(void *arg)
{
	enum { KEYS = 300 };
	struct worker *worker = arg;
	static _Thread_local char names[KEYS][32];
	static _Thread_local struct haul_cache_key keys[KEYS];
	static _Thread_local uint32_t order[KEYS];
	struct prng prng;
	prng_init(&prng, worker->number + 1);
	pthread_barrier_wait(&worker->crew->start);
	for (uint32_t round = 0; round < 10; round++) {
		struct expected expected = { .order = order };
		for (uint32_t i = 0; i < KEYS; i++) {
			order[i] = (uint32_t)(prng_next(&prng) % (THREADS * ROUNDS));
			keys[i] = key_of(names[i], order[i] % THREADS, order[i] / THREADS);
		}
		worker->failed += haul_cache_lookup_batch(worker->crew->lab.cache, keys, KEYS,
							  check_value, &expected) != KEYS;
		worker->failed += expected.wrong;
	}
	return NULL;
}

/* More threads than there are waves look up hundreds of keys each, over several partitions. If it
 * failed, one would get another's values, or two would wait for each other's buffers for good. */
static void test_threads__lookups_of_many_keys(void **state)
{
	struct crew *crew = *state;
	crew->lab.options.read_bytes = 8 * MIB; /* few buffers: some have to wait for them */
	cache_lab_reopen(&crew->lab);
	run(crew, store_durable);
	cache_lab_reopen(&crew->lab);
	run(crew, look_up);
}

/* ---- one object, replaced all the time ---- */

static void *replace_object(void *arg)
{
	struct worker *worker = arg;
	struct haul_cache *cache = worker->crew->lab.cache;
	struct haul_cache_item item = cache_lab_item("object", worker->value, OBJECT);
	struct haul_cache_value value;
	pthread_barrier_wait(&worker->crew->start);
	for (uint32_t round = 0; round < 12; round++) {
		if (worker->number % 2 == 0) {
			cache_lab_fill(worker->value, OBJECT, seed_of(worker->number, round));
			memcpy(worker->value, &(uint64_t){ seed_of(worker->number, round) }, 8);
			int rc = round % 3 == 0 ? haul_cache_store(cache, &item)
						: haul_cache_store_buffered(cache, &item);
			worker->failed += rc != 0;
			continue;
		}
		int rc = haul_cache_get(cache, &item.key, worker->value, OBJECT, &value);
		uint64_t seed = 0;
		memcpy(&seed, worker->value, 8);
		if (rc == 0)
			worker->failed += value.bytes != OBJECT ||
					  !cache_lab_filled(worker->value + 8, OBJECT - 8, seed, 8);
		else
			worker->failed += rc != -ENOENT;
	}
	return NULL;
}

/* A reader sees one version of an object or another, never slices of two. */
static void test_threads__an_object_is_never_mixed(void **state)
{
	struct crew *crew = *state;
	struct haul_cache_stat stat;
	run(crew, replace_object);
	cache_lab_reopen(&crew->lab);
	haul_cache_stat(crew->lab.cache, &stat);
	/* old slices were dropped: what is there is one object, a head and its slices */
	assert_int_equal(stat.entries, 1 + (OBJECT + 65535) / 65536);
}

/* ---- a thread that ends ---- */

static void *store_and_end(void *arg)
{
	struct worker *worker = arg;
	char text[32];
	cache_lab_fill(worker->value, VALUE, seed_of(worker->number, 0));
	for (uint32_t i = 0; i < 40; i++) {
		const struct haul_cache_item item = { .key = key_of(text, worker->number, i),
						      .value = worker->value,
						      .bytes = VALUE };
		worker->failed += haul_cache_store_buffered(worker->crew->lab.cache, &item) != 0;
	}
	return NULL;
}

/* Transfers that a thread started and did not wait for are finished for it: the kernel cancels what
 * it had not begun when the thread ends. */
static void test_threads__a_thread_may_end_at_once(void **state)
{
	struct crew *crew = *state;
	struct haul_cache_stat stat;
	for (uint32_t i = 0; i < 100; i++) {
		struct worker *worker = &workers[0];
		worker->crew = crew;
		worker->number = i;
		worker->failed = 0;
		assert_int_equal(pthread_create(&worker->thread, NULL, store_and_end, worker), 0);
		assert_int_equal(pthread_join(worker->thread, NULL), 0);
		assert_int_equal(worker->failed, 0);
	}
	assert_int_equal(haul_cache_flush(crew->lab.cache), 0);
	haul_cache_stat(crew->lab.cache, &stat);
	assert_int_equal(stat.failed, 0);
	assert_int_equal(stat.entries, 4000);
}

int main(void)
{
#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_threads__durable_stores_share_flushes, setup_one),
		TEST(test_threads__durable_stores_share_flushes, setup_three),
		TEST(test_threads__mixed, setup_one),
		TEST(test_threads__mixed, setup_three),
		TEST(test_threads__lookups_of_many_keys, setup_one),
		TEST(test_threads__lookups_of_many_keys, setup_three),
		TEST(test_threads__an_object_is_never_mixed, setup_three),
		TEST(test_threads__a_thread_may_end_at_once, setup_three),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
