#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include "lib/testlib.h"
#include "store/blob_lab.h"
#include "store/table_state.h"

enum {
	KEYS = 20000,
	VALUE = 120,
	THREADS = 4,
	ROUNDS = 150,
	ASKS = 100,
	LONG = 40000,
	WALKS = 12,
	TABLES = 2
};

static struct table_cache *cache_make(uint64_t bytes)
{
	struct table_cache *cache;
	assert_int_equal(table_cache_new(&cache, bytes), 0);
	return cache;
}

/* Claim a block and say that it was read. */
static uint32_t load(struct table_cache *cache, uint64_t blob, uint32_t number, uint32_t bytes)
{
	uint32_t frame;
	assert_int_equal(table_cache_find(cache, blob, number), TABLE_CACHE_NONE);
	assert_int_equal(table_cache_claim(cache, blob, number, bytes, &frame), TABLE_CACHE_MINE);
	memset(table_cache_data(cache, frame), (int)(blob + number), bytes);
	table_cache_loaded(cache, frame, 0);
	return frame;
}

static struct table_cache_status status_of(const struct table_cache *cache)
{
	struct table_cache_status status;
	table_cache_status(cache, &status);
	return status;
}

/* A block that is there would not be found, or another one's bytes be told for it. */
static void test_table_cache__finds_what_was_loaded(void **state)
{
	(void)state;
	struct table_cache *cache = cache_make(2 << 20);
	uint32_t frame;
	for (uint32_t i = 0; i < 20; i++)
		table_cache_unpin(cache, load(cache, i / 5, i % 5, 1000));
	for (uint32_t i = 0; i < 20; i++) {
		frame = table_cache_find(cache, i / 5, i % 5);
		assert_int_not_equal(frame, TABLE_CACHE_NONE);
		assert_int_equal(table_cache_data(cache, frame)[999], i / 5 + i % 5);
		assert_int_equal(table_cache_claim(cache, i / 5, i % 5, 1000, &frame),
				 TABLE_CACHE_HIT);
		table_cache_unpin(cache, frame);
		table_cache_unpin(cache, frame);
	}
	table_cache_prefetch(cache, 1, 1);
	assert_int_equal(table_cache_find(cache, 4, 0), TABLE_CACHE_NONE);
	assert_int_equal(status_of(cache).used, 20);
	assert_int_equal(status_of(cache).pinned, 0);
	table_cache_free(cache);
	table_cache_free(NULL);
	assert_int_equal(table_cache_new(&cache, TABLE_CACHE_BYTES_MIN - 1), HAUL_ELIMIT);
}

/* Blocks that are asked for again would go, and those that a scan touched once stay; a pinned one
 * would be overwritten. */
static void test_table_cache__keeps_what_is_used(void **state)
{
	(void)state;
	struct table_cache *cache = cache_make(4 << 20);
	uint32_t pinned = load(cache, 1, 0, TABLE_CACHE_SMALL);
	for (uint32_t i = 1; i < 20; i++)
		table_cache_unpin(cache, load(cache, 1, i, TABLE_CACHE_SMALL));
	for (uint32_t i = 0; i < 1000; i++) {
		table_cache_unpin(cache, load(cache, 2, i, TABLE_CACHE_SMALL));
		for (uint32_t k = 1; k < 20; k++) {
			uint32_t frame = table_cache_find(cache, 1, k);
			assert_int_not_equal(frame, TABLE_CACHE_NONE);
			table_cache_unpin(cache, frame);
		}
	}
	assert_int_equal(table_cache_find(cache, 1, 0), pinned);
	assert_int_equal(table_cache_data(cache, pinned)[TABLE_CACHE_SMALL - 1], 1);
	table_cache_unpin(cache, pinned);
	table_cache_unpin(cache, pinned);
	assert_true(status_of(cache).evictions > 800);
	table_cache_free(cache);
}

/* When all frames are pinned a reader would wait for ever, or take one from under another. */
static void test_table_cache__says_when_it_is_full(void **state)
{
	(void)state;
	struct table_cache *cache = cache_make(1 << 20);
	uint32_t frame[64], count = 0;
	while (table_cache_claim(cache, 1, count, 100, &frame[count]) == TABLE_CACHE_MINE)
		table_cache_loaded(cache, frame[count++], 0);
	assert_int_equal(frame[count], TABLE_CACHE_NONE);
	assert_true(count >= 8);
	/* Long blocks have frames of their own. */
	uint32_t large = load(cache, 2, 0, TABLE_CACHE_LARGE);
	table_cache_unpin(cache, frame[3]);
	assert_int_equal(table_cache_claim(cache, 1, count, 100, &frame[3]), TABLE_CACHE_MINE);
	table_cache_loaded(cache, frame[3], 0);
	assert_int_equal(table_cache_find(cache, 1, 3), TABLE_CACHE_NONE);
	for (uint32_t i = 0; i < count; i++)
		table_cache_unpin(cache, frame[i]);
	table_cache_unpin(cache, large);
	struct table_spare *spare[64];
	count = 0;
	while ((spare[count] = table_cache_spare(cache, count == 0)))
		count++;
	assert_true(count >= 2);
	while (count)
		table_cache_spare_back(cache, spare[--count]);
	table_cache_free(cache);
}

struct waiter {
	struct table_cache *cache;
	pthread_barrier_t claimed;
	int error;
};

static void *wait_for_block(void *arg)
{
	struct waiter *waiter = arg;
	uint32_t frame;
	HAUL_ASSERT(table_cache_claim(waiter->cache, 7, 7, 100, &frame) == TABLE_CACHE_BUSY);
	HAUL_ASSERT(table_cache_find(waiter->cache, 7, 7) == TABLE_CACHE_NONE);
	pthread_barrier_wait(&waiter->claimed);
	waiter->error = table_cache_wait(waiter->cache, frame);
	HAUL_ASSERT(waiter->error || table_cache_data(waiter->cache, frame)[99] == 5);
	table_cache_unpin(waiter->cache, frame);
	return NULL;
}

/* Two who want one block would read it twice, or the second get it before it is there; one that
 * could not be read would be found later. */
static void test_table_cache__second_waits_for_the_first(void **state)
{
	(void)state;
	int errors[] = { 0, -EIO };
	for (int i = 0; i < 2; i++) {
		struct waiter waiter = { .cache = cache_make(1 << 20) };
		pthread_t thread;
		uint32_t frame, again;
		pthread_barrier_init(&waiter.claimed, NULL, 2);
		assert_int_equal(table_cache_claim(waiter.cache, 7, 7, 100, &frame),
				 TABLE_CACHE_MINE);
		assert_int_equal(pthread_create(&thread, NULL, wait_for_block, &waiter), 0);
		pthread_barrier_wait(&waiter.claimed);
		memset(table_cache_data(waiter.cache, frame), 5, 100);
		table_cache_loaded(waiter.cache, frame, errors[i]);
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(waiter.error, errors[i]);
		table_cache_unpin(waiter.cache, frame);
		again = table_cache_find(waiter.cache, 7, 7);
		if (errors[i]) {
			assert_int_equal(again, TABLE_CACHE_NONE);
			again = load(waiter.cache, 7, 7, 100);
		}
		table_cache_unpin(waiter.cache, again);
		pthread_barrier_destroy(&waiter.claimed);
		table_cache_free(waiter.cache);
	}
}

/* ---- readers of tables ---- */

struct readers {
	struct blob_lab lab;
	struct blob_lab_tables tables;
	struct table_cache *cache;
	struct table *table[TABLES]; /* of the same rows */
	bool failing;
	bool short_only;      /* no row is long */
	uint64_t got, failed; /* atomic */
};

static uint64_t value_of(uint64_t key)
{
	return hash_u64(key + 77);
}

static uint32_t bytes_of(const struct readers *readers, uint64_t key)
{
	return key % 500 == 499 && !readers->short_only ? LONG : VALUE;
}

/* A table of even keys, every 500th row long. */
static void table_make(struct readers *readers, struct table_builder *builder,
		       const struct table_builder_options *options)
{
	static uint8_t value[LONG];
	assert_int_equal(table_builder_start(builder, options), 0);
	for (uint64_t i = 0; i < KEYS; i++) {
		uint64_t key = i * 2, op = 1, filling = value_of(i);
		uint32_t end = bytes_of(readers, i);
		struct rows rows = { 1, 1, &key, &op, &end, value };
		for (uint32_t b = 0; b < end; b += 8)
			memcpy(value + b, &filling, 8);
		assert_int_equal(table_builder_add(builder, &rows, 0, 1), 0);
	}
	assert_int_equal(table_builder_finish(builder), 0);
}

static void readers_open(struct readers *readers, uint64_t cache_bytes, bool compress)
{
	struct table_builder *builder;
	struct table_builder_options options;
	struct haul_err err;
	blob_lab_open(&readers->lab);
	readers->tables = (struct blob_lab_tables){ .lab = &readers->lab, .next = 1 };
	readers->cache = cache_make(cache_bytes);
	blob_lab_options(&readers->tables, TREE_NODE, &options);
	options.compress = compress;
	assert_int_equal(table_builder_new(&builder, 0), 0);
	for (uint32_t t = 0; t < TABLES; t++) {
		table_make(readers, builder, &options);
		assert_int_equal(readers->tables.count, t + 1);
		assert_int_equal(table_open(&readers->table[t], &readers->lab.media, readers->cache,
					    &readers->tables.info[t], &err),
				 0);
	}
	table_builder_free(builder);
}

static void readers_close(struct readers *readers)
{
	assert_int_equal(status_of(readers->cache).pinned, 0);
	for (uint32_t t = 0; t < TABLES; t++)
		table_drop(readers->table[t]);
	table_cache_free(readers->cache);
	blob_lab_close(&readers->lab);
}

static void check_ask(struct readers *readers, const struct table_ask *ask)
{
	uint64_t number = ask->key.word[0] / 2, filling = value_of(number);
	if (ask->status) {
		HAUL_ASSERT(readers->failing && ask->status == -EIO);
		__atomic_fetch_add(&readers->failed, 1, __ATOMIC_RELAXED);
		return;
	}
	HAUL_ASSERT(ask->row.op == 1 - ask->key.word[0] % 2);
	if (!ask->row.op)
		return;
	HAUL_ASSERT(ask->row.bytes == bytes_of(readers, number));
	HAUL_ASSERT(!memcmp(ask->row.value + ask->row.bytes - 8, &filling, 8));
	HAUL_ASSERT(!memcmp(ask->row.value, &filling, 8));
	__atomic_fetch_add(&readers->got, 1, __ATOMIC_RELAXED);
}

static void some_gets(struct readers *readers, struct prng *prng, struct arena *arena)
{
	struct table_ask ask[ASKS], *asks[ASKS];
	struct table *tables[ASKS];
	uint64_t key = 0;
	uint32_t first = prng_below(prng, TABLES);
	for (uint32_t i = 0; i < ASKS; i++) {
		if (i % (ASKS / TABLES) == 0)
			key = prng_below(prng, 100);
		ask[i] = (struct table_ask){ .key = { { key, 0, 0 } }, .op_max = 5 };
		asks[i] = &ask[i];
		tables[i] = readers->table[(first + i / (ASKS / TABLES)) % TABLES];
		key += prng_below(prng, TABLES * 2 * KEYS / ASKS);
	}
	arena->used = 0;
	table_get(tables, asks, ASKS, arena);
	for (int i = 0; i < ASKS; i++)
		check_ask(readers, &ask[i]);
}

static void some_walk(struct readers *readers, struct prng *prng)
{
	struct tree_key from = { { prng_below(prng, 2 * KEYS), 0, 0 } };
	uint64_t expected = (from.word[0] + 1) / 2;
	struct table_walk walk;
	struct rows rows;
	HAUL_ASSERT(!table_walk_open(&walk, readers->table[prng_below(prng, TABLES)], &from,
				     1 + prng_below(prng, 8), false));
	for (int pieces = 0; pieces < 6; pieces++) {
		int more = walk.source.next(&walk.source, &rows);
		HAUL_ASSERT(more >= 0 || (readers->failing && more == -EIO));
		for (uint32_t i = 0; more == 1 && i < rows.count; i++) {
			uint64_t filling = value_of(expected);
			HAUL_ASSERT(rows.key[i] == 2 * expected++);
			HAUL_ASSERT(!memcmp(rows.heap + rows.end[i] - 8, &filling, 8));
		}
		if (more <= 0)
			break;
	}
	table_walk_close(&walk);
}

static void *read_along(void *arg)
{
	struct readers *readers = arg;
	struct prng prng;
	struct arena arena = { .bytes = (uint64_t)ASKS * (LONG + 8) };
	prng_init(&prng, (uint64_t)(uintptr_t)&prng);
	arena.data = malloc(arena.bytes);
	HAUL_ASSERT(arena.data);
	for (int i = 0; i < ROUNDS; i++) {
		if (prng_below(&prng, 3))
			some_gets(readers, &prng, &arena);
		else
			some_walk(readers, &prng);
	}
	free(arena.data);
	return NULL;
}

/* Many threads, many more blocks than frames, of tables in any order, some that are packed, some
 * too long for the usual frame: one would get another block's bytes, or all wait for each other. */
static void test_table_cache__threads_read_through_few_frames(void **state)
{
	(void)state;
	static struct readers readers;
	for (int kind = 0; kind < 4; kind++) {
		pthread_t thread[THREADS];
		readers = (struct readers){ .failing = false };
		readers_open(&readers, kind < 2 ? 1 << 20 : 16 << 20, kind % 2);
		for (int i = 0; i < THREADS; i++)
			assert_int_equal(pthread_create(&thread[i], NULL, read_along, &readers), 0);
		for (int i = 0; i < THREADS; i++)
			assert_int_equal(pthread_join(thread[i], NULL), 0);
		assert_true(readers.got > ROUNDS * ASKS / 4);
		struct table_cache_status status = status_of(readers.cache);
		assert_true(status.misses > 0 && status.hits > 0);
		readers_close(&readers);
	}
}

/* A read that failed would be told as "there is none", stay in a frame, or leave one pinned. */
static void test_table_cache__failed_reads_leave_nothing(void **state)
{
	(void)state;
	static struct readers readers;
	struct prng prng;
	struct arena arena = { .bytes = (uint64_t)ASKS * (LONG + 8) };
	test_prng(&prng);
	arena.data = malloc(arena.bytes);
	assert_non_null(arena.data);
	readers = (struct readers){ .failing = true };
	readers_open(&readers, 1 << 20, true);
	for (int i = 0; i < ROUNDS; i++) {
		readers.lab.fail_after = 1 + prng_below(&prng, 60);
		some_gets(&readers, &prng, &arena);
		some_walk(&readers, &prng);
	}
	assert_true(readers.failed > 0 && readers.got > 0);
	readers.lab.fail_after = 0;
	readers.failing = false;
	for (int i = 0; i < 20; i++)
		some_gets(&readers, &prng, &arena);
	free(arena.data);
	readers_close(&readers);
}

/* All frames pinned by walks that stand still: gets and other walks would wait for ever. */
static void test_table_cache__goes_on_while_all_is_pinned(void **state)
{
	(void)state;
	static struct readers readers;
	struct table_walk walk[WALKS];
	struct rows rows;
	struct prng prng;
	struct arena arena = { .bytes = (uint64_t)ASKS * (LONG + 8) };
	test_prng(&prng);
	arena.data = malloc(arena.bytes);
	assert_non_null(arena.data);
	for (int compress = 0; compress < 2; compress++) {
		readers = (struct readers){ .short_only = true };
		readers_open(&readers, 1 << 20, compress);
		for (uint64_t i = 0; i < WALKS; i++) {
			struct tree_key from = { { i * 2 * KEYS / WALKS, 0, 0 } };
			assert_int_equal(table_walk_open(&walk[i], readers.table[i % TABLES], &from,
							 16, false),
					 0);
			assert_int_equal(walk[i].source.next(&walk[i].source, &rows), 1);
		}
		struct table_cache_status status = status_of(readers.cache);
		assert_true(status.pinned + 2 >= status.frames);
		for (int i = 0; i < 10; i++) {
			some_gets(&readers, &prng, &arena);
			some_walk(&readers, &prng);
		}
		for (uint64_t i = 0; i < WALKS; i++) {
			assert_int_equal(walk[i].source.next(&walk[i].source, &rows), 1);
			table_walk_close(&walk[i]);
			table_walk_close(&walk[i]);
		}
		readers_close(&readers);
	}
	free(arena.data);
}

/* Blocks that are not cached would be read one after the other, or table by table. */
static void test_table_cache__missing_blocks_are_read_at_once(void **state)
{
	(void)state;
	static struct readers readers;
	struct table_ask ask[40], *asks[40];
	struct table *tables[40];
	readers = (struct readers){ .failing = false };
	readers_open(&readers, 16 << 20, false);
	uint64_t gets = readers.lab.gets, reads = readers.lab.reads;
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < 40; i++) {
			uint64_t key = i % 20 * 1000;
			ask[i] = (struct table_ask){ .key = { { key, 0, 0 } }, .op_max = 5 };
			asks[i] = &ask[i];
			tables[i] = readers.table[i / 20];
		}
		table_get(tables, asks, 40, NULL);
		for (uint64_t i = 0; i < 40; i++)
			assert_int_equal(ask[i].row.op, 1);
		assert_int_equal(readers.lab.gets - gets, 1);
		assert_true(readers.lab.reads - reads >= 39);
	}
	readers_close(&readers);
}

/* Memory that there is not would be used. */
static void test_table_cache__no_memory_is_told(void **state)
{
	(void)state;
	struct table_cache *cache;
	int error = -ENOMEM;
	for (uint32_t after = 0; error && test_malloc_fail(after); after++) {
		assert_int_equal(error, -ENOMEM);
		error = table_cache_new(&cache, 1 << 20);
		if (!error)
			table_cache_free(cache);
	}
	test_malloc_fail(UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_cache__finds_what_was_loaded),
		cmocka_unit_test(test_table_cache__keeps_what_is_used),
		cmocka_unit_test(test_table_cache__says_when_it_is_full),
		cmocka_unit_test(test_table_cache__second_waits_for_the_first),
		cmocka_unit_test(test_table_cache__threads_read_through_few_frames),
		cmocka_unit_test(test_table_cache__failed_reads_leave_nothing),
		cmocka_unit_test(test_table_cache__goes_on_while_all_is_pinned),
		cmocka_unit_test(test_table_cache__missing_blocks_are_read_at_once),
		cmocka_unit_test(test_table_cache__no_memory_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
