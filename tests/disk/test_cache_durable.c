/* What is durable when a call of haul/cache.h returns: the file is copied at that moment, and the
 * copy is opened. What a device itself may forget, syncs are counted for. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache_lab.h"

enum { MIB = 1 << 20, FILE_BYTES = 32 * MIB, ITEMS = 20 };

static int setup(void **state)
{
	struct cache_lab *lab = test_calloc(1, sizeof *lab);
	cache_lab_format(lab, FILE_BYTES, 2);
	/* Nothing is flushed but by whom waits for it. */
	lab->options.fixed = true;
	lab->options.limits = haul_limits_preset(HAUL_PRESET_DISK);
	lab->options.limits.ops_max = HAUL_BATCH_OPS_MAX;
	lab->options.limits.wait_max_ns = INT64_C(3600) * 1000000000;
	cache_lab_open(lab);
	*state = lab;
	return 0;
}

static void copy_file(const char *from, const char *to)
{
	const int in = open(from, O_RDONLY | O_CLOEXEC);
	const int out = open(to, O_WRONLY | O_CLOEXEC);
	uint8_t *block = test_malloc(MIB);
	ssize_t bytes;
	assert_true(in >= 0 && out >= 0);
	while ((bytes = read(in, block, MIB)) > 0)
		assert_int_equal(write(out, block, (size_t)bytes), bytes);
	assert_int_equal(bytes, 0);
	test_free(block);
	close(in);
	close(out);
}

/* The cache as it would be found now. */
static void copy_open(const struct cache_lab *lab, struct cache_lab *copy)
{
	*copy = (struct cache_lab){ .path = "/var/tmp/haul-cache-XXXXXX" };
	const int fd = mkstemp(copy->path);
	assert_true(fd >= 0);
	close(fd);
	copy_file(lab->path, copy->path);
	cache_lab_open(copy);
}

static void expect_after(const struct cache_lab *lab, const char *key, const char *value)
{
	struct cache_lab copy;
	copy_open(lab, &copy);
	if (value != NULL)
		cache_lab_expect(&copy, key, value);
	else
		cache_lab_expect_gone(&copy, key);
	cache_lab_close(&copy);
}

static uint64_t syncs_of(const struct cache_lab *lab)
{
	struct haul_cache_stat stat;
	haul_cache_stat(lab->cache, &stat);
	return stat.syncs;
}

/* A store is durable when it returns; a buffered one is not, and is after a flush. */
static void test_durable__store_and_flush(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("a", "1", 1);
	const uint64_t before = syncs_of(lab);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	assert_int_equal(syncs_of(lab), before + 1);
	expect_after(lab, "a", "1");
	item = cache_lab_item("b", "2", 1);
	assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	expect_after(lab, "b", NULL);
	assert_int_equal(syncs_of(lab), before + 1);
	assert_int_equal(haul_cache_flush(lab->cache), 0);
	assert_int_equal(syncs_of(lab), before + 2);
	expect_after(lab, "b", "2");
}

/* A delete is durable when it returns: a deleted entry never comes back. */
static void test_durable__delete(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("a", "1", 1);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	const uint64_t before = syncs_of(lab);
	assert_int_equal(haul_cache_delete(lab->cache, &item.key), 0);
	assert_int_equal(syncs_of(lab), before + 1);
	expect_after(lab, "a", NULL);
}

/* A purge is durable when it returns, in every partition. */
static void test_durable__purge(void **state)
{
	struct cache_lab *lab = *state;
	char name[32];
	struct cache_lab copy;
	for (uint32_t i = 0; i < ITEMS; i++) {
		struct haul_cache_item item = cache_lab_item("", "1", 1);
		item.key = cache_lab_key_of(name, "key", i);
		assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	}
	assert_int_equal(haul_cache_purge(lab->cache), 0);
	copy_open(lab, &copy);
	for (uint32_t i = 0; i < ITEMS; i++) {
		(void)cache_lab_key_of(name, "key", i);
		cache_lab_expect_gone(&copy, name);
	}
	cache_lab_close(&copy);
}

/* All items of a batch are durable when it returns, for one sync a partition. */
static void test_durable__store_batch(void **state)
{
	struct cache_lab *lab = *state;
	static char names[ITEMS][32];
	struct haul_cache_item items[ITEMS];
	int status[ITEMS];
	struct cache_lab copy;
	for (uint32_t i = 0; i < ITEMS; i++) {
		items[i] = cache_lab_item("", "1", 1);
		items[i].key = cache_lab_key_of(names[i], "key", i);
	}
	const uint64_t before = syncs_of(lab);
	assert_int_equal(haul_cache_store_batch(lab->cache, items, ITEMS, status), ITEMS);
	assert_int_equal(syncs_of(lab), before + 2);
	copy_open(lab, &copy);
	for (uint32_t i = 0; i < ITEMS; i++) {
		assert_int_equal(status[i], 0);
		cache_lab_expect(&copy, names[i], "1");
	}
	cache_lab_close(&copy);
}

/* An object is durable with all its slices when the store of it returns; until its head is durable
 * nothing of it is found. */
static void test_durable__object(void **state)
{
	struct cache_lab *lab = *state;
	enum { BYTES = 5 * MIB + 17 };
	uint8_t *value = test_malloc(BYTES);
	struct haul_cache_item item = cache_lab_item("o", value, BYTES);
	struct haul_cache_value got = { 0 };
	struct cache_lab copy;
	cache_lab_fill(value, BYTES, 1);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	copy_open(lab, &copy);
	memset(value, 0, BYTES);
	assert_int_equal(haul_cache_get(copy.cache, &item.key, value, BYTES, &got), 0);
	assert_int_equal(got.total, BYTES);
	assert_true(cache_lab_filled(value, BYTES, 1, 0));
	cache_lab_close(&copy);
	assert_int_equal(haul_cache_delete(lab->cache, &item.key), 0);
	expect_after(lab, "o", NULL);
	test_free(value);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, cache_lab_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_durable__store_and_flush), TEST(test_durable__delete),
		TEST(test_durable__purge),           TEST(test_durable__store_batch),
		TEST(test_durable__object),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
