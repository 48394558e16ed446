/* The cache as a user of the library meets it: what the seed's examples and tests promise, on a
 * real file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cache_lab.h"

enum { MIB = 1 << 20, FILE_BYTES = 64 * MIB, SEED_VALUE = 4096, SEED_KEYS = 50 };

static int setup(void **state)
{
	struct cache_lab *lab = test_calloc(1, sizeof *lab);
	cache_lab_format(lab, FILE_BYTES, 2);
	cache_lab_open(lab);
	*state = lab;
	return 0;
}

/* Each answer that a lookup gave, in the order in which it came. */
struct answers {
	uint32_t count;
	uint32_t stop_after; /* 0 = never */
	enum haul_cache_status status[4096];
	uint64_t bytes[4096];
	uint8_t first[4096];
};

static int note(uint32_t index, const struct haul_cache_value *value, void *arg)
{
	struct answers *answers = arg;
	assert_int_equal(index, answers->count);
	answers->status[index] = value->status;
	answers->bytes[index] = value->bytes;
	answers->first[index] = value->bytes > 0 ? *(const uint8_t *)value->data : 0;
	answers->count++;
	return answers->stop_after != 0 && answers->count == answers->stop_after ? 7 : 0;
}

static void store_seed(struct cache_lab *lab, uint32_t count)
{
	static uint8_t value[SEED_VALUE];
	char name[32];
	for (uint32_t i = 0; i < count; i++) {
		memset(value, (int)i, sizeof value);
		struct haul_cache_item item = { .key = cache_lab_key_of(name, "key_", i),
						.value = value,
						.bytes = sizeof value };
		assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	}
}

/* test_buffered_write: what is stored buffered is found before and after the flush, and after a
 * restart. If it failed, reads would not see what was just stored, or a flush would lose it. */
static void test_cache__buffered_write(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("key1", "data1", 5);
	assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	cache_lab_expect(lab, "key1", "data1");
	assert_int_equal(haul_cache_flush(lab->cache), 0);
	cache_lab_expect(lab, "key1", "data1");
	cache_lab_reopen(lab);
	cache_lab_expect(lab, "key1", "data1");
}

/* test_batch_read: 50 of 100 keys in one call are answered in the order asked. If it failed, values
 * would stand under other keys. */
static void test_cache__batch_read(void **state)
{
	struct cache_lab *lab = *state;
	static char names[SEED_KEYS][32];
	struct haul_cache_key keys[SEED_KEYS];
	static struct answers answers;
	store_seed(lab, 100);
	assert_int_equal(haul_cache_flush(lab->cache), 0);
	for (uint32_t i = 0; i < SEED_KEYS; i++)
		keys[i] = cache_lab_key_of(names[i], "key_", i);
	answers = (struct answers){ 0 };
	assert_int_equal(haul_cache_lookup_batch(lab->cache, keys, SEED_KEYS, note, &answers),
			 SEED_KEYS);
	for (uint32_t i = 0; i < SEED_KEYS; i++) {
		assert_int_equal(answers.bytes[i], SEED_VALUE);
		assert_int_equal(answers.first[i], i);
	}
}

/* The original answered in the order of offsets: with the keys turned around every value was
 * someone else's. */
static void test_cache__batch_read_in_another_order_than_stored(void **state)
{
	struct cache_lab *lab = *state;
	static char names[SEED_KEYS][32];
	struct haul_cache_key keys[SEED_KEYS];
	static struct answers answers;
	store_seed(lab, SEED_KEYS);
	cache_lab_reopen(lab); /* from the disk, not from buffers */
	for (uint32_t i = 0; i < SEED_KEYS; i++)
		keys[i] = cache_lab_key_of(names[i], "key_", SEED_KEYS - 1 - i);
	answers = (struct answers){ 0 };
	assert_int_equal(haul_cache_lookup_batch(lab->cache, keys, SEED_KEYS, note, &answers),
			 SEED_KEYS);
	for (uint32_t i = 0; i < SEED_KEYS; i++)
		assert_int_equal(answers.first[i], SEED_KEYS - 1 - i);
}

/* test_auto_flush_on_buffer_full: without a call to flush, a full buffer goes to the disk by
 * itself. If it failed, buffered stores would pile up until somebody flushes. */
static void test_cache__auto_flush_on_buffer_full(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_stat stat;
	lab->options.fixed = true; /* else batches grow beyond 32 where a sync is dear */
	cache_lab_reopen(lab);
	store_seed(lab, 100);
	assert_int_equal(haul_cache_flush(lab->cache), 0);
	haul_cache_stat(lab->cache, &stat);
	assert_true(stat.closed[HAUL_CLOSE_OPS] > 0);
	assert_int_equal(stat.flush_ops, 100);
	assert_true(stat.flushes < 20);
}

/* test_mixed_buffered_and_direct_writes: stores of both kinds are all there after a flush. */
static void test_cache__mixed_buffered_and_direct_writes(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("key1", "data1", 5);
	assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	item = cache_lab_item("key2", "data2", 5);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	item = cache_lab_item("key3", "data3", 5);
	assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	assert_int_equal(haul_cache_flush(lab->cache), 0);
	cache_lab_reopen(lab);
	cache_lab_expect(lab, "key1", "data1");
	cache_lab_expect(lab, "key2", "data2");
	cache_lab_expect(lab, "key3", "data3");
}

/* test_buffer_stats: what waits in the buffer is counted, and no more once it was flushed. */
static void test_cache__buffer_stats(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("key1", "data1", 5);
	struct haul_cache_stat before, stat;
	haul_cache_stat(lab->cache, &before);
	assert_int_equal(before.pending_writes, 0);
	assert_int_equal(before.buffered_bytes, 0);
	assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	assert_int_equal(haul_cache_flush(lab->cache), 0);
	haul_cache_stat(lab->cache, &stat);
	assert_int_equal(stat.pending_writes, 0);
	assert_int_equal(stat.buffered_bytes, 0);
	assert_int_equal(stat.stores, 1);
	assert_int_equal(stat.flush_ops, 1);
	assert_int_equal(stat.flushes - before.flushes, 1);
	assert_int_equal(stat.syncs - before.syncs, 1); /* one, not one a write */
	assert_int_equal(stat.entries, 1);
	assert_int_equal(stat.partitions, 2);
	assert_int_equal(stat.offline, 0);
	assert_non_null(stat.engine);
}

/* Nobody calls flush, or anything else: the deadline does. If it failed, a buffered store of a
 * program that then rests would never be durable. */
static void test_cache__deadline_without_a_caller(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("key1", "data1", 5);
	struct haul_cache_stat stat = { 0 };
	assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	/* to ask for figures drives nothing; how long it takes is not looked at */
	for (uint32_t i = 0; i < 100000000 && stat.flush_ops == 0; i++)
		haul_cache_stat(lab->cache, &stat);
	assert_int_equal(stat.flush_ops, 1);
	assert_int_equal(stat.closed[HAUL_CLOSE_DEADLINE], 1);
}

/* Keys that are asked twice, are not there, are empty or too long: each has its own answer, and the
 * call goes on. */
static void test_lookup__duplicates_misses_and_impossible_keys(void **state)
{
	struct cache_lab *lab = *state;
	static char longest[HAUL_CACHE_KEY_MAX + 1];
	static struct answers answers;
	struct haul_cache_item item = cache_lab_item("a", "1", 1);
	memset(longest, 'x', sizeof longest);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	const struct haul_cache_key keys[] = {
		cache_lab_key("a"), cache_lab_key("b"),          cache_lab_key("a"),
		{ "", 0 },          { longest, sizeof longest }, cache_lab_key("a"),
	};
	answers = (struct answers){ 0 };
	assert_int_equal(haul_cache_lookup_batch(lab->cache, keys, 6, note, &answers), 3);
	const enum haul_cache_status wanted[] = {
		HAUL_CACHE_HIT,  HAUL_CACHE_MISS, HAUL_CACHE_HIT,
		HAUL_CACHE_MISS, HAUL_CACHE_MISS, HAUL_CACHE_HIT
	};
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(answers.status[i], wanted[i]);
	assert_int_equal(haul_cache_lookup_batch(lab->cache, keys, 0, note, &answers), 0);
	assert_int_equal(answers.count, 6);
}

/* A visitor that says stop is not called again, and what it said is returned. */
static void test_lookup__visitor_stops(void **state)
{
	struct cache_lab *lab = *state;
	static char names[10][32];
	struct haul_cache_key keys[10];
	static struct answers answers;
	for (uint32_t i = 0; i < 10; i++)
		keys[i] = cache_lab_key_of(names[i], "k", i);
	answers = (struct answers){ .stop_after = 3 };
	assert_int_equal(haul_cache_lookup_batch(lab->cache, keys, 10, note, &answers), 7);
	assert_int_equal(answers.count, 3);
}

/* More keys and bytes than any buffer holds come in windows, still in order and each once. */
static void test_lookup__more_than_fits_at_once(void **state)
{
	struct cache_lab *lab = *state;
	enum { KEYS = 3000, STORED = 60, VALUE = 200000 };
	static char names[KEYS][32];
	static struct haul_cache_key keys[KEYS];
	static struct answers answers;
	static uint8_t value[VALUE];
	for (uint32_t i = 0; i < STORED; i++) {
		memset(value, (int)i, sizeof value);
		struct haul_cache_item item = { .key = cache_lab_key_of(names[0], "key_", i),
						.value = value,
						.bytes = sizeof value };
		assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	}
	cache_lab_reopen(lab);
	for (uint32_t i = 0; i < KEYS; i++)
		keys[i] = cache_lab_key_of(names[i], "key_", i % (STORED * 2));
	answers = (struct answers){ 0 };
	assert_int_equal(haul_cache_lookup_batch(lab->cache, keys, KEYS, note, &answers), KEYS / 2);
	assert_int_equal(answers.count, KEYS);
	for (uint32_t i = 0; i < KEYS; i++) {
		const uint32_t number = i % (STORED * 2);
		assert_int_equal(answers.status[i],
				 number < STORED ? HAUL_CACHE_HIT : HAUL_CACHE_MISS);
		assert_int_equal(answers.bytes[i], number < STORED ? VALUE : 0);
		assert_int_equal(answers.first[i], number < STORED ? number : 0);
	}
}

static int store_more(uint32_t index, const struct haul_cache_value *value, void *arg)
{
	struct cache_lab *lab = arg;
	char name[32];
	struct haul_cache_item item = { .key = cache_lab_key_of(name, "new", index),
					.value = "x",
					.bytes = 1 };
	(void)value;
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	cache_lab_expect(lab, name, "x");
	assert_int_equal(haul_cache_delete(lab->cache, &item.key), 0);
	return 0;
}

/* A visitor may store, delete and get: no lock of the cache's is held while it runs. */
static void test_lookup__visitor_may_use_the_cache(void **state)
{
	struct cache_lab *lab = *state;
	static char names[10][32];
	struct haul_cache_key keys[10];
	store_seed(lab, 10);
	for (uint32_t i = 0; i < 10; i++)
		keys[i] = cache_lab_key_of(names[i], "key_", i);
	assert_int_equal(haul_cache_lookup_batch(lab->cache, keys, 10, store_more, lab), 10);
}

/* get says how long a value is when there is too little room, and gives what fits. */
static void test_get__too_little_room(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("a", "0123456789", 10);
	struct haul_cache_value value = { 0 };
	char data[4];
	item.flags = 77;
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	assert_int_equal(haul_cache_get(lab->cache, &item.key, data, 4, &value), HAUL_ELONG);
	assert_int_equal(value.total, 10);
	assert_int_equal(value.bytes, 4);
	assert_int_equal(value.flags, 77);
	assert_memory_equal(data, "0123", 4);
	assert_int_equal(haul_cache_get(lab->cache, &item.key, data, 4, NULL), HAUL_ELONG);
}

/* A range of a plain value: its middle, its end, and nothing behind it. */
static void test_get_range__of_a_plain_value(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("a", "0123456789", 10);
	struct haul_cache_value value = { 0 };
	char data[8];
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	assert_int_equal(haul_cache_get_range(lab->cache, &item.key,
					      &(struct haul_cache_range){ 3, 4 }, data, &value),
			 0);
	assert_int_equal(value.bytes, 4);
	assert_memory_equal(data, "3456", 4);
	assert_int_equal(haul_cache_get_range(lab->cache, &item.key,
					      &(struct haul_cache_range){ 8, 8 }, data, &value),
			 0);
	assert_int_equal(value.bytes, 2);
	assert_memory_equal(data, "89", 2);
	assert_int_equal(haul_cache_get_range(lab->cache, &item.key,
					      &(struct haul_cache_range){ 10, 8 }, data, &value),
			 0);
	assert_int_equal(value.bytes, 0);
	assert_int_equal(value.total, 10);
	assert_int_equal(haul_cache_get_range(lab->cache, &item.key,
					      &(struct haul_cache_range){ UINT64_MAX, 8 }, data,
					      &value),
			 0);
	assert_int_equal(value.bytes, 0);
}

/* Keys and values at their limits, and one beyond: refused by name, and nothing changes. */
static void test_store__limits(void **state)
{
	struct cache_lab *lab = *state;
	static char key[HAUL_CACHE_KEY_MAX + 1];
	struct haul_cache_item item = { .key = { key, HAUL_CACHE_KEY_MAX } };
	struct haul_cache_value value = { 0 };
	memset(key, 'k', sizeof key);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	assert_int_equal(haul_cache_get(lab->cache, &item.key, NULL, 0, &value), 0);
	assert_int_equal(value.total, 0);
	item.key.bytes++;
	assert_int_equal(haul_cache_store(lab->cache, &item), HAUL_ELIMIT);
	assert_int_equal(haul_cache_store_buffered(lab->cache, &item), HAUL_ELIMIT);
	assert_int_equal(haul_cache_delete(lab->cache, &item.key), HAUL_ELIMIT);
	value.total = 1234;
	assert_int_equal(haul_cache_get(lab->cache, &item.key, NULL, 0, &value), HAUL_ELIMIT);
	assert_int_equal(value.total, 1234); /* untouched */
	item.key.bytes = 0;
	assert_int_equal(haul_cache_store(lab->cache, &item), -EINVAL);
	assert_int_equal(haul_cache_delete(lab->cache, &item.key), -EINVAL);
	item = cache_lab_item("a", key, (uint64_t)HAUL_CACHE_OBJECT_MAX + 1);
	assert_int_equal(haul_cache_store(lab->cache, &item), HAUL_ELIMIT);
	cache_lab_expect_gone(lab, "a");
}

/* ADD, REPLACE and COMPARE do what memcached's add, replace and cas do. */
static void test_store__conditions(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("a", "1", 1);
	struct haul_cache_value value = { 0 };
	char data[8];
	item.how = HAUL_CACHE_REPLACE;
	assert_int_equal(haul_cache_store(lab->cache, &item), -ENOENT);
	item.how = HAUL_CACHE_COMPARE;
	assert_int_equal(haul_cache_store(lab->cache, &item), -ENOENT);
	item.how = HAUL_CACHE_ADD;
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	item.value = "2";
	assert_int_equal(haul_cache_store(lab->cache, &item), -EEXIST);
	cache_lab_expect(lab, "a", "1");
	item.how = HAUL_CACHE_REPLACE;
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	assert_int_equal(haul_cache_get(lab->cache, &item.key, data, sizeof data, &value), 0);
	item.how = HAUL_CACHE_COMPARE;
	item.version = value.version;
	item.value = "3";
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	item.value = "4"; /* the version is the old one now */
	assert_int_equal(haul_cache_store(lab->cache, &item), HAUL_ESTALE);
	cache_lab_expect(lab, "a", "3");
}

/* What has expired is told as expired, is no hit, and can be added anew. */
static void test_store__expiry(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("old", "1", 1);
	static struct answers answers;
	item.expiry = 1; /* 1970 */
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	answers = (struct answers){ 0 };
	assert_int_equal(haul_cache_lookup_batch(lab->cache, &item.key, 1, note, &answers), 0);
	assert_true(answers.status[0] == HAUL_CACHE_EXPIRED ||
		    answers.status[0] == HAUL_CACHE_MISS);
	cache_lab_expect_gone(lab, "old");
	item.how = HAUL_CACHE_ADD;
	item.expiry = (uint32_t)time(NULL) + 3600;
	item.value = "2";
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	cache_lab_expect(lab, "old", "2");
	cache_lab_reopen(lab);
	cache_lab_expect(lab, "old", "2");
}

/* A deleted entry is gone at once and stays gone; deleting what is not there says so. */
static void test_delete__is_durable(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("a", "1", 1);
	assert_int_equal(haul_cache_delete(lab->cache, &item.key), -ENOENT);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	assert_int_equal(haul_cache_delete(lab->cache, &item.key), 0);
	cache_lab_expect_gone(lab, "a");
	assert_int_equal(haul_cache_delete(lab->cache, &item.key), -ENOENT);
	cache_lab_reopen(lab);
	cache_lab_expect_gone(lab, "a");
}

/* Everything stored before a purge is gone, also after a restart; what comes later stays. */
static void test_purge__is_durable(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("later", "1", 1);
	store_seed(lab, 20);
	assert_int_equal(haul_cache_purge(lab->cache), 0);
	cache_lab_expect_gone(lab, "key_7");
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	cache_lab_reopen(lab);
	cache_lab_expect_gone(lab, "key_7");
	cache_lab_expect(lab, "later", "1");
}

/* Many items, one flush a partition; each has its own status. */
static void test_store_batch__status_of_each(void **state)
{
	struct cache_lab *lab = *state;
	enum { ITEMS = 200 };
	static char names[ITEMS][32];
	static struct haul_cache_item items[ITEMS];
	static uint8_t big[600 << 10];
	static int status[ITEMS];
	struct haul_cache_stat stat;
	for (uint32_t i = 0; i < ITEMS; i++)
		items[i] = (struct haul_cache_item){ .key = cache_lab_key_of(names[i], "item", i),
						     .value = names[i],
						     .bytes = strlen(names[i]) };
	items[3].key.bytes = 0;
	items[5].how = HAUL_CACHE_REPLACE;
	items[6].value = big; /* an object among them */
	items[6].bytes = sizeof big;
	items[8].key = items[7].key; /* the same key again: the later counts */
	assert_int_equal(haul_cache_store_batch(lab->cache, items, ITEMS, status), ITEMS - 2);
	assert_int_equal(status[3], -EINVAL);
	assert_int_equal(status[5], -ENOENT);
	for (uint32_t i = 0; i < ITEMS; i++)
		if (i != 3 && i != 5)
			assert_int_equal(status[i], 0);
	haul_cache_stat(lab->cache, &stat);
	assert_true(stat.flushes < ITEMS / 4);
	cache_lab_reopen(lab);
	cache_lab_expect(lab, "item7", "item8");
	cache_lab_expect(lab, "item199", "item199");
	cache_lab_expect_gone(lab, "item5");
}

/* A cache that is only read refuses every change, and says so. */
static void test_open__read_only(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("a", "1", 1);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	lab->options.read_only = true;
	cache_lab_reopen(lab);
	cache_lab_expect(lab, "a", "1");
	assert_int_equal(haul_cache_store(lab->cache, &item), -EROFS);
	assert_int_equal(haul_cache_delete(lab->cache, &item.key), -EROFS);
	cache_lab_expect(lab, "a", "1");
}

/* Options that cannot be are refused with a text that names value and what there is; a second open
 * of the same file is, too. */
static void test_open__refuses(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache *second = NULL;
	struct haul_err err = { 0 };
	const struct {
		struct haul_cache_options options;
		int code;
		const char *word;
	} cases[] = {
		{ { .engine = "fast" }, -EINVAL, "'fast'" },
		{ { .codec = "gzip" }, -EINVAL, "zstd" },
		{ { .slice_bytes = HAUL_CACHE_SLICE_MAX + 1 }, HAUL_ELIMIT, "1048577" },
		{ { .pinned_percent = 101 }, -EINVAL, "101" },
		{ { .policy = (enum haul_cache_policy)9 }, -EINVAL, "policy 9" },
		{ { .limits = { .ops_max = 1 } }, -EINVAL, "bytes_max" },
	};
	for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		if (i == 5)
			assert_int_equal(haul_cache_close(lab->cache), 0);
		assert_int_equal(haul_cache_open(&second, lab->path, &cases[i].options, &err),
				 cases[i].code);
		assert_non_null(strstr(err.text, cases[i].word));
		assert_null(second);
	}
	lab->cache = NULL;
	cache_lab_open(lab);
	assert_int_equal(haul_cache_open(&second, lab->path, NULL, &err), -EBUSY);
	assert_non_null(strstr(err.text, lab->path));
	assert_int_equal(haul_cache_open(&second, "/nowhere/cache", NULL, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nowhere/cache"));
	assert_int_equal(haul_cache_close(NULL), 0);
}

/* Whichever allocation of an open fails: it says so, and leaves nothing open. */
static void test_open__without_memory(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache *cache = NULL;
	assert_int_equal(haul_cache_close(lab->cache), 0);
	lab->cache = NULL;
	uint32_t failed = 0;
	bool more = true;
	for (uint32_t i = 0; more && test_malloc_fail(i); i++) { /* not under a sanitizer */
		struct haul_err err = { 0 };
		const uint64_t before = test_mallocs();
		int rc = haul_cache_open(&cache, lab->path, &lab->options, &err);
		more = test_mallocs() - before > i; /* it took that many: one has failed */
		failed += rc < 0;
		if (rc == 0) {
			assert_int_equal(haul_cache_close(cache), 0);
			continue;
		}
		assert_int_equal(rc, -ENOMEM);
		assert_true(err.text[0] != '\0');
	}
	test_malloc_fail(UINT32_MAX);
	print_message("%u allocations failed\n", failed);
	cache_lab_open(lab);
}

/* Storing and looking up take no memory: the data path has all it needs since the open. */
static void test_cache__data_path_takes_no_memory(void **state)
{
	struct cache_lab *lab = *state;
	static char names[SEED_KEYS][32];
	struct haul_cache_key keys[SEED_KEYS];
	static struct answers answers;
	for (uint32_t i = 0; i < SEED_KEYS; i++)
		keys[i] = cache_lab_key_of(names[i], "key_", i);
	const uint64_t before = test_mallocs();
	store_seed(lab, SEED_KEYS);
	assert_int_equal(haul_cache_flush(lab->cache), 0);
	answers = (struct answers){ 0 };
	assert_int_equal(haul_cache_lookup_batch(lab->cache, keys, SEED_KEYS, note, &answers),
			 SEED_KEYS);
	for (uint32_t i = 0; i < SEED_KEYS; i++)
		assert_int_equal(haul_cache_delete(lab->cache, &keys[i]), 0);
	/* A sanitizer takes memory of its own for the threads of an open, whenever they start. */
	if (test_malloc_fail(UINT32_MAX))
		assert_int_equal(test_mallocs() - before, 0);
}

/* A cache that lost nothing can be told to come online, and keeps all it has. */
static void test_online__when_nothing_was_lost(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_err err = { 0 };
	struct haul_cache_item item = cache_lab_item("a", "1", 1);
	assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	assert_int_equal(haul_cache_online(lab->cache, &err), 0);
	cache_lab_expect(lab, "a", "1");
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
}

/* Key and value are the caller's own again when a store returns, buffered or not. If it failed, the
 * caller's next value would be stored under its last key. */
static void test_store__copies_key_and_value(void **state)
{
	struct cache_lab *lab = *state;
	char key[] = "key1", value[] = "data1";
	struct haul_cache_item item = cache_lab_item(key, value, 5);
	assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	memset(key, 'x', 4);
	memset(value, 'x', 5);
	cache_lab_expect(lab, "key1", "data1");
	assert_int_equal(haul_cache_flush(lab->cache), 0);
	cache_lab_expect(lab, "key1", "data1");
	cache_lab_expect_gone(lab, "xxxx");
}

/* What options leave out is as the header says: 24 and 16 MiB of buffers a partition, no RAM tier,
 * slices of 256 KiB. */
static void test_open__defaults(void **state)
{
	struct cache_lab *lab = *state;
	enum { SLICE = 256 << 10 };
	struct haul_cache_stat stat, after;
	haul_cache_stat(lab->cache, &stat);
	assert_true(stat.buffer_bytes <= UINT64_C(2) * (24 + 16) * MIB);
	assert_true(stat.buffer_bytes > UINT64_C(2) * (24 + 15) * MIB);
	assert_int_equal(stat.ram_bytes, 0);
	assert_true(stat.index_bytes <= stat.entries_max * 32);
	uint8_t *value = test_calloc(SLICE + 1, 1);
	struct haul_cache_item item = cache_lab_item("a", value, SLICE);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	haul_cache_stat(lab->cache, &stat);
	assert_int_equal(stat.entries, 1);
	item.bytes++; /* two slices and a head, in the place of the first */
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	haul_cache_stat(lab->cache, &after);
	assert_int_equal(after.entries, 3);
	test_free(value);
}

/* Pinned entries take a quarter of the segments, if nothing else was said, and what is over that is
 * refused by name; what is not pinned still goes in. */
static void test_store__pinned_quota(void **state)
{
	struct cache_lab *lab = *state;
	enum { VALUE = 200000, VALUES_MAX = FILE_BYTES / VALUE };
	uint8_t *value = test_calloc(VALUE, 1);
	struct haul_cache_item item = cache_lab_item("", value, VALUE);
	struct haul_cache_stat stat;
	char name[32];
	uint32_t stored[2] = { 0 }, refused = 0;
	for (uint32_t i = 0; i < VALUES_MAX; i++) {
		item.key = cache_lab_key_of(name, "v", i);
		item.how = HAUL_CACHE_PINNED;
		const int rc = haul_cache_store_buffered(lab->cache, &item);
		assert_true(rc == 0 || rc == HAUL_EFULL);
		stored[0] += rc == 0;
		refused += rc != 0;
		item.key = cache_lab_key_of(name, "w", i);
		item.how = 0;
		stored[1] += haul_cache_store_buffered(lab->cache, &item) == 0;
	}
	assert_int_equal(stored[1], VALUES_MAX);
	assert_true(refused > VALUES_MAX / 2 && stored[0] > VALUES_MAX / 8);
	haul_cache_stat(lab->cache, &stat);
	/* One more a partition may be there while what is thin is moved together. */
	assert_true(stat.segments_pinned > 0 && stat.segments_pinned <= stat.segments / 4 + 2);
	for (uint32_t i = 0; i < 5; i++) { /* the first are there still */
		item.key = cache_lab_key_of(name, "v", i);
		assert_int_equal(haul_cache_get(lab->cache, &item.key, value, VALUE, NULL), 0);
	}
	test_free(value);
}

/* The second engine, for where io_uring is forbidden, does the same. */
static void test_open__engine_threads(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_stat stat;
	lab->options.engine = "threads";
	cache_lab_reopen(lab);
	haul_cache_stat(lab->cache, &stat);
	assert_string_equal(stat.engine, "threads");
	test_cache__batch_read(state);
	test_cache__mixed_buffered_and_direct_writes(state);
}

/* Compression, a RAM tier and strict LRU are chosen by name and change no answer. */
static void test_open__options(void **state)
{
	struct cache_lab *lab = *state;
	static const char *const codecs[] = { "none", "lz4", "zstd" };
	for (uint32_t i = 0; i < 3; i++) {
		lab->options = (struct haul_cache_options){ .codec = codecs[i],
							    .ram_bytes = MIB,
							    .policy = i == 1 ? HAUL_CACHE_LRU
									     : HAUL_CACHE_S3FIFO,
							    .slice_bytes = 65536,
							    .fixed = true };
		cache_lab_reopen(lab);
		test_cache__batch_read(state);
		test_cache__batch_read(state);
	}
}

/* Opening and closing gives everything back at once: the file can be opened right after. */
static void test_open__again_and_again(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("a", "1", 1);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	for (uint32_t i = 0; i < 100; i++) {
		cache_lab_reopen(lab);
		cache_lab_expect(lab, "a", "1");
		assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	}
}

/* A cache that is filled several times over goes on: old entries leave, the newest are there. */
static void test_store__fills_and_goes_on(void **state)
{
	struct cache_lab *lab = *state;
	enum { VALUE = 100000, VALUES = 2000 }; /* 200 MB into 64 */
	static uint8_t value[VALUE];
	struct haul_cache_value got;
	char name[32];
	for (uint32_t i = 0; i < VALUES; i++) {
		cache_lab_fill(value, sizeof value, i);
		struct haul_cache_item item = { .key = cache_lab_key_of(name, "v", i),
						.value = value,
						.bytes = sizeof value };
		assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	}
	assert_int_equal(haul_cache_flush(lab->cache), 0);
	for (uint32_t i = VALUES - 50; i < VALUES; i++) {
		const struct haul_cache_key key = cache_lab_key_of(name, "v", i);
		assert_int_equal(haul_cache_get(lab->cache, &key, value, sizeof value, &got), 0);
		assert_true(cache_lab_filled(value, sizeof value, i, 0));
	}
	cache_lab_expect_gone(lab, "v0");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, cache_lab_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_cache__buffered_write),
		TEST(test_cache__batch_read),
		TEST(test_cache__batch_read_in_another_order_than_stored),
		TEST(test_cache__auto_flush_on_buffer_full),
		TEST(test_cache__mixed_buffered_and_direct_writes),
		TEST(test_cache__buffer_stats),
		TEST(test_cache__deadline_without_a_caller),
		TEST(test_lookup__duplicates_misses_and_impossible_keys),
		TEST(test_lookup__visitor_stops),
		TEST(test_lookup__more_than_fits_at_once),
		TEST(test_lookup__visitor_may_use_the_cache),
		TEST(test_get__too_little_room),
		TEST(test_get_range__of_a_plain_value),
		TEST(test_store__limits),
		TEST(test_store__conditions),
		TEST(test_store__expiry),
		TEST(test_delete__is_durable),
		TEST(test_purge__is_durable),
		TEST(test_store_batch__status_of_each),
		TEST(test_open__read_only),
		TEST(test_open__refuses),
		TEST(test_open__without_memory),
		TEST(test_cache__data_path_takes_no_memory),
		TEST(test_online__when_nothing_was_lost),
		TEST(test_store__copies_key_and_value),
		TEST(test_store__pinned_quota),
		TEST(test_open__defaults),
		TEST(test_open__engine_threads),
		TEST(test_open__options),
		TEST(test_open__again_and_again),
		TEST(test_store__fills_and_goes_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
