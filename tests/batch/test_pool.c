#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <haul/pool.h>
#include "base/ring.h"
#include "lib/testlib.h"

static struct haul_pool *pool_of(uint32_t count, uint32_t threads)
{
	struct haul_pool_options options = { .name = "pool", .threads_max = threads };
	for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++)
		options.count_max[c] = count;
	struct haul_pool *pool;
	assert_int_equal(haul_pool_open(&options, &pool, NULL), 0);
	return pool;
}

static struct haul_pool_thread *thread_of(struct haul_pool *pool)
{
	struct haul_pool_thread *thread;
	assert_int_equal(haul_pool_thread_open(pool, &thread), 0);
	return thread;
}

/* Each rule that options can break is named; a failed open returns nothing. */
static void test_pool_open__names_what_is_wrong(void **state)
{
	(void)state;
	const struct {
		struct haul_pool_options options;
		const char *text;
	} rows[] = {
		{ { .count_max = { 1 }, .threads_max = 1 }, "pool: a name is needed" },
		{ { .name = "p", .count_max = { 1 } },
		  "pool p: threads_max 0: allowed are 1 to 1024" },
		{ { .name = "p", .count_max = { 1 }, .threads_max = 1025 },
		  "pool p: threads_max 1025: allowed are 1 to 1024" },
		{ { .name = "p", .threads_max = 1 }, "pool p: count_max is 0 for every class" },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct haul_pool *pool = (void *)1;
		struct haul_err err = { 0 };
		assert_int_equal(haul_pool_open(&rows[i].options, &pool, &err), -EINVAL);
		assert_string_equal(err.text, rows[i].text);
		assert_ptr_equal(pool, (void *)1);
	}
	haul_pool_close(NULL);
	haul_pool_thread_close(NULL);
}

/* An arena that no machine has is an error at open, not a surprise later. */
static void test_pool_open__fails_clean_without_memory(void **state)
{
	(void)state;
	struct haul_pool_options options = { .name = "huge",
					     .threads_max = 1,
					     .count_max = { [4] = 4000000000 } };
	struct haul_pool *pool = NULL;
	struct haul_err err = { 0 };
	assert_int_equal(haul_pool_open(&options, &pool, &err), -ENOMEM);
	assert_null(pool);
	assert_int_equal(strncmp(err.text, "pool huge: ", 11), 0);
}

/* Each of the three allocations of open fails in turn: a clear error, and nothing kept. */
static void test_pool_open__survives_want_of_memory(void **state)
{
	(void)state;
	struct haul_pool_options options = { .name = "p", .threads_max = 1, .count_max = { 1 } };
	for (uint32_t successes = 0; successes < 3; successes++) {
		struct haul_pool *pool = NULL;
		struct haul_err err = { 0 };
		if (!test_malloc_fail(successes))
			skip();
		assert_int_equal(haul_pool_open(&options, &pool, &err), -ENOMEM);
		assert_null(pool);
		assert_int_equal(strncmp(err.text, "pool p: ", 8), 0);
	}
}

static void count_block(const struct haul_stats *snapshot, void *arg)
{
	assert_string_equal(snapshot->name, "buffers");
	assert_int_equal(snapshot->counter_count, HAUL_POOL_COUNTERS);
	assert_string_equal(snapshot->counters[HAUL_POOL_HIT].name, "hit");
	assert_string_equal(snapshot->counters[HAUL_POOL_EXHAUSTED].name, "exhausted");
	*(struct haul_stats *)arg = *snapshot;
}

/* The block is in the table while the pool is open; a second pool of the name is refused. */
static void test_pool_open__enters_its_figures(void **state)
{
	(void)state;
	struct haul_stats_table *table;
	assert_int_equal(haul_stats_table_open(&table), 0);
	struct haul_pool_options options = {
		.name = "buffers", .count_max = { 64 }, .threads_max = 1, .stats = table
	};
	struct haul_pool *pool, *second = NULL;
	assert_int_equal(haul_pool_open(&options, &pool, NULL), 0);
	struct haul_err err = { 0 };
	assert_int_equal(haul_pool_open(&options, &second, &err), -EEXIST);
	assert_string_equal(err.text, "pool buffers: statistics: File exists");
	assert_null(second);

	/* The figures are those of the moment, also of a thread that never met the depot again. */
	struct haul_pool_thread *thread = thread_of(pool);
	static struct haul_stats seen;
	for (int i = 0; i < 5000; i++)
		haul_pool_put(thread, haul_pool_get(thread, 1));
	assert_int_equal(haul_stats_visit(table, count_block, &seen), 1);
	assert_int_equal(seen.extra[HAUL_POOL_HIT], 4999);
	assert_int_equal(seen.extra[HAUL_POOL_MISS], 1);
	haul_pool_thread_close(thread);
	assert_int_equal(haul_stats_visit(table, count_block, &seen), 1);
	assert_int_equal(seen.extra[HAUL_POOL_HIT], 4999);
	assert_int_equal(seen.batches, 2); /* one half magazine out, and back */
	assert_int_equal(seen.ops, 32);
	haul_pool_close(pool);
	assert_int_equal(haul_stats_visit(table, count_block, &seen), 0);
	haul_stats_table_close(table);
}

/* The smallest class that holds it, to the byte; nothing above the largest. */
static void test_pool_get__picks_the_smallest_class(void **state)
{
	(void)state;
	const size_t sizes[HAUL_POOL_CLASSES] = { 256, 512, 1500, 9216, 65536 };
	struct haul_pool *pool = pool_of(4, 1);
	struct haul_pool_thread *thread = thread_of(pool);
	for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++) {
		assert_int_equal(haul_pool_class_bytes(c), sizes[c]);
		const size_t asked[] = { c ? sizes[c - 1] + 1 : 0, sizes[c] };
		for (int i = 0; i < 2; i++) {
			void *buffer = haul_pool_get(thread, asked[i]);
			assert_non_null(buffer);
			assert_int_equal(haul_pool_bytes(buffer), sizes[c]);
			haul_pool_put(thread, buffer);
		}
	}
	assert_null(haul_pool_get(thread, 65537));
	assert_null(haul_pool_get(thread, SIZE_MAX));
	haul_pool_put(thread, NULL);
	assert_int_equal(haul_pool_in_use(pool), 0);
	haul_pool_thread_close(thread);
	haul_pool_close(pool);
}

/* All buffers of all classes out at once: headroom and payload of each may be written in full, none
 * meets another, all lie in the arena, payloads start a cache line. */
static void test_pool__buffers_and_headrooms_are_apart(void **state)
{
	(void)state;
	enum { COUNT = 40 };
	struct haul_pool *pool = pool_of(COUNT, 1);
	struct haul_pool_thread *thread = thread_of(pool);
	uint8_t *out[HAUL_POOL_CLASSES][COUNT];
	size_t arena_bytes;
	uint8_t *arena = haul_pool_arena(pool, &arena_bytes);
	for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++) {
		for (uint32_t i = 0; i < COUNT; i++) {
			size_t bytes = haul_pool_class_bytes(c);
			uint8_t *buffer = out[c][i] = haul_pool_get(thread, bytes);
			assert_non_null(buffer);
			assert_int_equal((uintptr_t)buffer % 64, 0);
			assert_true(buffer - HAUL_POOL_HEADROOM >= arena);
			assert_true(buffer + bytes <= arena + arena_bytes);
			memset(buffer - HAUL_POOL_HEADROOM, (int)(c * COUNT + i),
			       HAUL_POOL_HEADROOM + bytes);
		}
	}
	for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++) {
		for (uint32_t i = 0; i < COUNT; i++) {
			const uint8_t *at = out[c][i] - HAUL_POOL_HEADROOM;
			size_t bytes = HAUL_POOL_HEADROOM + haul_pool_class_bytes(c);
			assert_int_equal(at[0], (uint8_t)(c * COUNT + i));
			assert_memory_equal(at, at + 1, bytes - 1);
			haul_pool_put(thread, out[c][i]);
		}
	}
	haul_pool_thread_close(thread);
	haul_pool_close(pool);
}

/* The cap is hard: the next get is refused and counted, and what comes back can be had again. */
static void test_pool_get__stops_at_the_cap(void **state)
{
	(void)state;
	const uint32_t counts[] = { 1, 15, 16, 17, 32, 33, 100 };
	for (unsigned n = 0; n < sizeof counts / sizeof *counts; n++) {
		void *out[100];
		struct haul_pool *pool = pool_of(counts[n], 1);
		struct haul_pool_thread *thread = thread_of(pool);
		for (uint32_t i = 0; i < counts[n]; i++)
			assert_non_null(out[i] = haul_pool_get(thread, 1500));
		assert_int_equal(haul_pool_in_use(pool), counts[n]);
		assert_null(haul_pool_get(thread, 1500));
		assert_null(haul_pool_get(thread, 1500));
		assert_int_equal(haul_pool_count(pool, HAUL_POOL_EXHAUSTED), 2);
		assert_int_equal(haul_pool_in_use(pool), counts[n]);
		haul_pool_put(thread, out[0]);
		assert_ptr_equal(haul_pool_get(thread, 1500), out[0]);
		for (uint32_t i = 0; i < counts[n]; i++)
			haul_pool_put(thread, out[i]);
		assert_int_equal(haul_pool_in_use(pool), 0);
		haul_pool_thread_close(thread);
		haul_pool_close(pool);
	}
}

/* The depot is met once in 16 gets, and what was last put is first got. */
static void test_pool_get__meets_the_depot_once_in_half_a_magazine(void **state)
{
	(void)state;
	enum { COUNT = 320 };
	void *out[COUNT];
	struct haul_pool *pool = pool_of(COUNT, 1);
	struct haul_pool_thread *thread = thread_of(pool);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_non_null(out[i] = haul_pool_get(thread, 256));
	assert_int_equal(haul_pool_count(pool, HAUL_POOL_MISS), COUNT / 16);
	assert_int_equal(haul_pool_count(pool, HAUL_POOL_HIT), COUNT - COUNT / 16);
	for (uint32_t i = 0; i < COUNT; i++)
		haul_pool_put(thread, out[i]);
	assert_ptr_equal(haul_pool_get(thread, 256), out[COUNT - 1]);
	haul_pool_put(thread, out[COUNT - 1]);

	/* Up and down around a full magazine: no more than one exchange, never one a call. */
	uint64_t misses = haul_pool_count(pool, HAUL_POOL_MISS);
	for (int i = 0; i < 1000; i++)
		haul_pool_put(thread, haul_pool_get(thread, 256));
	assert_int_equal(haul_pool_count(pool, HAUL_POOL_MISS), misses);
	haul_pool_thread_close(thread);
	haul_pool_close(pool);
}

/* A class with no buffers refuses, and does not borrow from the next. */
static void test_pool_get__knows_absent_classes(void **state)
{
	(void)state;
	struct haul_pool_options options = { .name = "p",
					     .threads_max = 1,
					     .count_max = { 0, 0, 8, 0, 0 } };
	struct haul_pool *pool;
	assert_int_equal(haul_pool_open(&options, &pool, NULL), 0);
	struct haul_pool_thread *thread = thread_of(pool);
	assert_null(haul_pool_get(thread, 256));
	assert_null(haul_pool_get(thread, 9000));
	void *buffer = haul_pool_get(thread, 513);
	assert_non_null(buffer);
	haul_pool_put(thread, buffer);
	haul_pool_thread_close(thread);
	haul_pool_close(pool);
}

/* As many threads as stated; a closed thread's buffers and place can be had again. */
static void test_pool_thread_open__is_bounded(void **state)
{
	(void)state;
	struct haul_pool *pool = pool_of(40, 2);
	struct haul_pool_thread *a = thread_of(pool), *b = thread_of(pool), *c = NULL;
	assert_int_equal(haul_pool_thread_open(pool, &c), HAUL_EFULL);
	assert_null(c);
	void *out[40];
	for (int i = 0; i < 40; i++)
		assert_non_null(out[i] = haul_pool_get(a, 1));
	for (int i = 0; i < 40; i++)
		haul_pool_put(a, out[i]);
	haul_pool_thread_close(a);
	c = thread_of(pool);
	for (int i = 0; i < 40; i++)
		assert_non_null(out[i] = haul_pool_get(c, 1));
	for (int i = 0; i < 40; i++)
		haul_pool_put(c, out[i]);
	assert_int_equal(haul_pool_count(pool, HAUL_POOL_REMOTE), 0);
	haul_pool_thread_close(b);
	haul_pool_thread_close(c);
	haul_pool_close(pool);
}

/* What one thread takes and another returns is counted, and goes round: the taker never runs dry
 * although all ever returned went to the other. */
static void test_pool_put__takes_buffers_of_other_threads(void **state)
{
	(void)state;
	struct haul_pool *pool = pool_of(80, 2);
	struct haul_pool_thread *taker = thread_of(pool), *returner = thread_of(pool);
	for (int i = 0; i < 10000; i++) {
		void *buffer = haul_pool_get(taker, 1500);
		assert_non_null(buffer);
		haul_pool_put(returner, buffer);
	}
	assert_int_equal(haul_pool_count(pool, HAUL_POOL_REMOTE), 10000);
	assert_int_equal(haul_pool_count(pool, HAUL_POOL_MISS), 10000 / 16);
	assert_int_equal(haul_pool_in_use(pool), 0);
	haul_pool_thread_close(taker);
	haul_pool_thread_close(returner);
	haul_pool_close(pool);
}

enum { CROSS_COUNT = 200000, CROSS_BATCH = 16 };

struct cross {
	struct haul_pool *pool;
	struct ring ring;
	uint64_t bad;
	_Atomic bool taker_done;
};

static void *cross_return(void *arg)
{
	struct cross *cross = arg;
	struct haul_pool_thread *thread;
	if (haul_pool_thread_open(cross->pool, &thread) < 0)
		return arg;
	for (uint64_t seen = 0; seen < CROSS_COUNT;) {
		uint64_t *got[CROSS_BATCH];
		uint32_t count = ring_pop(&cross->ring, got, CROSS_BATCH);
		for (uint32_t i = 0; i < count; i++) {
			cross->bad += got[i][0] != seen || got[i][31] != ~seen;
			haul_pool_put(thread, got[i]);
			seen++;
		}
	}
	haul_pool_thread_close(thread);
	return NULL;
}

/* Two threads: one takes and stamps, the other checks the stamp and returns. */
static void test_pool__hands_buffers_across_threads_intact(void **state)
{
	(void)state;
	struct cross cross = { .pool = pool_of(256, 2) };
	assert_int_equal(ring_init(&cross.ring, sizeof(uint64_t *), 64), 0);
	struct haul_pool_thread *thread = thread_of(cross.pool);
	pthread_t other;
	assert_int_equal(pthread_create(&other, NULL, cross_return, &cross), 0);
	uint64_t mallocs = 0;
	for (uint64_t sent = 0; sent < CROSS_COUNT;) {
		uint64_t *buffer = haul_pool_get(thread, 256);
		if (!buffer)
			continue; /* all are on their way: the cap holds */
		buffer[0] = sent;
		buffer[31] = ~sent;
		while (ring_push(&cross.ring, &buffer, 1) == 0)
			;
		if (++sent == 1000)
			mallocs = test_mallocs(); /* the other thread has started by now */
	}
	void *failed = NULL;
	assert_int_equal(pthread_join(other, &failed), 0);
	assert_int_equal(test_mallocs(), mallocs);
	assert_null(failed);
	assert_int_equal(cross.bad, 0);
	assert_int_equal(haul_pool_in_use(cross.pool), 0);
	assert_int_equal(haul_pool_count(cross.pool, HAUL_POOL_REMOTE), CROSS_COUNT);
	ring_done(&cross.ring);
	haul_pool_thread_close(thread);
	haul_pool_close(cross.pool);
}

/* Random gets and puts from two handles against a plain list: never the same buffer twice, never
 * more than the cap, and no allocation from the first get to the last put. */
static void test_pool__equals_a_plain_list(void **state)
{
	(void)state;
	enum { COUNT = 100, HANDLES = 2 };
	struct prng prng;
	test_prng(&prng);
	struct haul_pool *pool = pool_of(COUNT, HANDLES);
	struct haul_pool_thread *thread[HANDLES] = { thread_of(pool), thread_of(pool) };
	uint8_t *out[HAUL_POOL_CLASSES * COUNT];
	uint32_t outs = 0, refused = 0;
	uint64_t mallocs = test_mallocs();
	for (int i = 0; i < 200000; i++) {
		struct haul_pool_thread *me = thread[prng_below(&prng, HANDLES)];
		bool growing = i / 5000 % 2 == 0;
		if (prng_below(&prng, 3) < (growing ? 2u : 1u)) {
			size_t bytes = haul_pool_class_bytes(prng_below(&prng, HAUL_POOL_CLASSES));
			uint8_t *buffer = haul_pool_get(me, bytes);
			refused += buffer == NULL;
			if (!buffer)
				continue;
			assert_int_equal(haul_pool_bytes(buffer), bytes);
			out[outs++] = buffer;
			buffer[0] = buffer[bytes - 1] = 0xab;
		} else if (outs > 0) {
			uint32_t at = prng_below(&prng, outs);
			haul_pool_put(me, out[at]);
			out[at] = out[--outs];
		}
	}
	assert_int_equal(test_mallocs(), mallocs);
	assert_int_equal(haul_pool_in_use(pool), outs);
	assert_int_equal(haul_pool_count(pool, HAUL_POOL_EXHAUSTED), refused);
	while (outs > 0)
		haul_pool_put(thread[0], out[--outs]);
	haul_pool_thread_close(thread[0]);
	haul_pool_thread_close(thread[1]);
	haul_pool_close(pool);
}

/* Returning a buffer twice is a bug that stops the program before two owners share it. */
static void test_pool_put__refuses_a_second_put(void **state)
{
	(void)state;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		close(STDERR_FILENO);
		struct haul_pool *pool = pool_of(4, 1);
		struct haul_pool_thread *thread = thread_of(pool);
		void *buffer = haul_pool_get(thread, 1);
		haul_pool_put(thread, buffer);
		haul_pool_put(thread, buffer);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_open__names_what_is_wrong),
		cmocka_unit_test(test_pool_open__fails_clean_without_memory),
		cmocka_unit_test(test_pool_open__survives_want_of_memory),
		cmocka_unit_test(test_pool_open__enters_its_figures),
		cmocka_unit_test(test_pool_get__picks_the_smallest_class),
		cmocka_unit_test(test_pool__buffers_and_headrooms_are_apart),
		cmocka_unit_test(test_pool_get__stops_at_the_cap),
		cmocka_unit_test(test_pool_get__meets_the_depot_once_in_half_a_magazine),
		cmocka_unit_test(test_pool_get__knows_absent_classes),
		cmocka_unit_test(test_pool_thread_open__is_bounded),
		cmocka_unit_test(test_pool_put__takes_buffers_of_other_threads),
		cmocka_unit_test(test_pool__hands_buffers_across_threads_intact),
		cmocka_unit_test(test_pool__equals_a_plain_list),
		cmocka_unit_test(test_pool_put__refuses_a_second_put),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
