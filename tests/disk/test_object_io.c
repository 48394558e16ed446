/* Objects of a cache: lengths around a slice, ranges, conditions, what is left behind when they are
 * replaced or deleted, and what happens when a slice is gone. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cache_lab.h"
#include "disk/cache_state.h"
#include "disk/shard_parts.h"

enum { MIB = 1 << 20, FILE_BYTES = 192 * MIB, SLICE = 65536, BIG = 64 * MIB };

static uint8_t *memory; /* BIG bytes */
static uint8_t *answer;

static int setup(void **state)
{
	struct cache_lab *lab = test_calloc(1, sizeof *lab);
	cache_lab_format(lab, FILE_BYTES, 1);
	lab->options.slice_bytes = SLICE;
	cache_lab_open(lab);
	*state = lab;
	return 0;
}

static uint64_t entries(struct cache_lab *lab)
{
	struct haul_cache_stat stat;
	haul_cache_stat(lab->cache, &stat);
	return stat.entries;
}

static uint64_t stores(struct cache_lab *lab)
{
	struct haul_cache_stat stat;
	haul_cache_stat(lab->cache, &stat);
	return stat.stores;
}

static void expect_object(struct cache_lab *lab, const char *key, uint64_t bytes, uint64_t seed)
{
	const struct haul_cache_key asked = cache_lab_key(key);
	struct haul_cache_value value = { 0 };
	assert_int_equal(haul_cache_get(lab->cache, &asked, answer, BIG, &value), 0);
	assert_int_equal(value.bytes, bytes);
	assert_int_equal(value.total, bytes);
	assert_true(cache_lab_filled(answer, bytes, seed, 0));
}

/* Values of any length around the limits come back whole, also after a restart. If it failed, the
 * last slice would be cut, or a value of exactly one slice taken for an object. */
static void test_object__of_any_length(void **state)
{
	struct cache_lab *lab = *state;
	static const uint64_t lengths[] = {
		0,         1,         4095,          4096,       4097, SLICE - 1,   SLICE,
		SLICE + 1, 2 * SLICE, 2 * SLICE + 1, 10 * SLICE, MIB,  5 * MIB + 7,
	};
	enum { LENGTHS = sizeof lengths / sizeof lengths[0] };
	char name[32];
	for (uint32_t i = 0; i < LENGTHS; i++) {
		struct haul_cache_item item = { .key = cache_lab_key_of(name, "o", i),
						.value = memory,
						.bytes = lengths[i],
						.flags = i };
		cache_lab_fill(memory, lengths[i], i);
		assert_int_equal(i % 2 == 0 ? haul_cache_store(lab->cache, &item)
					    : haul_cache_store_buffered(lab->cache, &item),
				 0);
		expect_object(lab, name, lengths[i], i);
	}
	cache_lab_reopen(lab);
	for (uint32_t i = 0; i < LENGTHS; i++) {
		const struct haul_cache_key key = cache_lab_key_of(name, "o", i);
		struct haul_cache_value value;
		expect_object(lab, name, lengths[i], i);
		assert_int_equal(haul_cache_get_range(lab->cache, &key,
						      &(struct haul_cache_range){ 0, 0 }, NULL,
						      &value),
				 0);
		assert_int_equal(value.flags, i);
	}
}

/* The largest item of the server: 64 MiB in and out. */
static void test_object__of_64_mib(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("big", memory, BIG);
	cache_lab_fill(memory, BIG, 1);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	expect_object(lab, "big", BIG, 1);
	cache_lab_reopen(lab);
	expect_object(lab, "big", BIG, 1);
}

/* A range reads only the slices that it touches: the first, the last, some in the middle, across a
 * border; and nothing behind the end. */
static void test_object__range_reads_only_its_slices(void **state)
{
	struct cache_lab *lab = *state;
	enum { LENGTH = 40 * SLICE + 100 };
	static const struct {
		uint64_t offset, bytes, got;
		uint32_t slices;
	} cases[] = {
		{ 0, 1, 1, 1 },
		{ SLICE - 1, 2, 2, 2 },
		{ 5 * SLICE, SLICE, SLICE, 1 },
		{ 5 * SLICE + 1, SLICE, SLICE, 2 },
		{ 3 * SLICE + 10, 20 * SLICE, 20 * SLICE, 21 },
		{ 40 * SLICE, 1000, 100, 1 },
		{ LENGTH, 10, 0, 0 },
		{ UINT64_MAX - 5, 10, 0, 0 },
	};
	struct haul_cache_item item = cache_lab_item("o", memory, LENGTH);
	cache_lab_fill(memory, LENGTH, 3);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	cache_lab_reopen(lab);
	for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct haul_cache_stat before, after;
		struct haul_cache_value value = { 0 };
		haul_cache_stat(lab->cache, &before);
		assert_int_equal(haul_cache_get_range(lab->cache, &item.key,
						      &(struct haul_cache_range){ cases[i].offset,
										  cases[i].bytes },
						      answer, &value),
				 0);
		haul_cache_stat(lab->cache, &after);
		assert_int_equal(value.bytes, cases[i].got);
		assert_int_equal(value.total, LENGTH);
		assert_true(cache_lab_filled(answer, value.bytes, 3, cases[i].offset));
		assert_int_equal(after.lookups - before.lookups, 1 + cases[i].slices);
	}
}

/* get with too little room gives the start, and the length. */
static void test_object__get_too_little_room(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("o", memory, MIB);
	struct haul_cache_value value = { 0 };
	cache_lab_fill(memory, MIB, 4);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	assert_int_equal(haul_cache_get(lab->cache, &item.key, answer, 100000, &value), HAUL_ELONG);
	assert_int_equal(value.bytes, 100000);
	assert_int_equal(value.total, MIB);
	assert_true(cache_lab_filled(answer, 100000, 4, 0));
}

/* Deleting, and replacing by an object or by a short value, drops every slice of the old one. If it
 * failed, dead slices would fill the index until they happen to be evicted. */
static void test_object__leaves_no_slices_behind(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("o", memory, 10 * SLICE);
	struct haul_cache_item small = cache_lab_item("o", "short", 5);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	assert_int_equal(entries(lab), 11);
	item.bytes = 3 * SLICE + 1;
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	assert_int_equal(entries(lab), 5);
	assert_int_equal(haul_cache_store_buffered(lab->cache, &small), 0);
	assert_int_equal(entries(lab), 1);
	cache_lab_expect(lab, "o", "short");
	assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	assert_int_equal(entries(lab), 5);
	assert_int_equal(haul_cache_delete(lab->cache, &item.key), 0);
	assert_int_equal(entries(lab), 0);
	assert_int_equal(haul_cache_delete(lab->cache, &item.key), -ENOENT);
	cache_lab_reopen(lab);
	assert_int_equal(entries(lab), 0);
	cache_lab_expect_gone(lab, "o");
}

/* Conditions hold for the whole object, and a refused one leaves nothing behind. */
static void test_object__conditions(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("o", memory, 3 * SLICE);
	struct haul_cache_value value = { 0 };
	item.how = HAUL_CACHE_REPLACE;
	assert_int_equal(haul_cache_store(lab->cache, &item), -ENOENT);
	item.how = HAUL_CACHE_COMPARE;
	item.version = 5;
	assert_int_equal(haul_cache_store(lab->cache, &item), -ENOENT);
	assert_int_equal(entries(lab), 0);
	item.how = HAUL_CACHE_ADD;
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	const uint64_t before = stores(lab);
	assert_int_equal(haul_cache_store(lab->cache, &item), -EEXIST);
	assert_int_equal(stores(lab), before); /* not a slice was written in vain */
	assert_int_equal(entries(lab), 4);
	assert_int_equal(haul_cache_get(lab->cache, &item.key, answer, BIG, &value), 0);
	item.how = HAUL_CACHE_COMPARE;
	item.version = value.version;
	cache_lab_fill(memory, item.bytes, 9);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	assert_int_equal(haul_cache_store(lab->cache, &item), HAUL_ESTALE);
	assert_int_equal(entries(lab), 4);
	expect_object(lab, "o", item.bytes, 9);
}

struct seen {
	uint32_t count;
	uint32_t wrong;
};

static int see(uint32_t index, const struct haul_cache_value *value, void *arg)
{
	struct seen *seen = arg;
	const uint64_t bytes = index % 3 == 0 ? 5 * SLICE + index : 100 + index;
	seen->count++;
	if (index % 7 == 6)
		seen->wrong += value->status != HAUL_CACHE_MISS;
	else
		seen->wrong += value->status != HAUL_CACHE_HIT || value->bytes != bytes ||
			       value->total != bytes ||
			       !cache_lab_filled(value->data, bytes, index, 0);
	return 0;
}

/* One lookup of objects, short values and misses: all in the order asked, objects whole. */
static void test_object__in_a_lookup_of_many(void **state)
{
	struct cache_lab *lab = *state;
	enum { KEYS = 60 };
	static char names[KEYS][32];
	struct haul_cache_key keys[KEYS];
	struct seen seen = { 0 };
	int hits = 0;
	for (uint32_t i = 0; i < KEYS; i++) {
		keys[i] = cache_lab_key_of(names[i], "k", i);
		struct haul_cache_item item = { .key = keys[i],
						.value = memory,
						.bytes = i % 3 == 0 ? 5 * SLICE + i : 100 + i };
		cache_lab_fill(memory, item.bytes, i);
		hits += i % 7 != 6;
		if (i % 7 != 6)
			assert_int_equal(haul_cache_store_buffered(lab->cache, &item), 0);
	}
	cache_lab_reopen(lab);
	assert_int_equal(haul_cache_lookup_batch(lab->cache, keys, KEYS, see, &seen), hits);
	assert_int_equal(seen.count, KEYS);
	assert_int_equal(seen.wrong, 0);
}

static int see_huge(uint32_t index, const struct haul_cache_value *value, void *arg)
{
	uint64_t *total = arg;
	(void)index;
	assert_int_equal(value->status, HAUL_CACHE_HIT);
	assert_int_equal(value->bytes, 0);
	*total = value->total;
	return 0;
}

/* An object over 64 MiB is told by its length only: memory stays bounded; ranges give the rest. */
static void test_object__too_large_for_a_lookup(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("huge", memory, BIG);
	uint8_t *more = calloc(1, (size_t)BIG + 1);
	uint64_t total = 0;
	assert_non_null(more);
	more[BIG] = 42;
	item.value = more;
	item.bytes = (uint64_t)BIG + 1;
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	free(more);
	assert_int_equal(haul_cache_lookup_batch(lab->cache, &item.key, 1, see_huge, &total), 1);
	assert_int_equal(total, (uint64_t)BIG + 1);
	assert_int_equal(haul_cache_get_range(lab->cache, &item.key,
					      &(struct haul_cache_range){ BIG, 10 }, answer, NULL),
			 0);
	assert_int_equal(answer[0], 42);
}

/* Flip a byte of the file wherever `needle` stands. */
static uint32_t damage(const char *path, const uint8_t *needle, size_t bytes)
{
	uint32_t found = 0;
	uint8_t *all = malloc(FILE_BYTES);
	int fd = open(path, O_RDWR);
	assert_non_null(all);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, all, FILE_BYTES, 0), FILE_BYTES);
	for (uint8_t *at = all; found < 4; at++) {
		at = memmem(at, (size_t)(all + FILE_BYTES - at), needle, bytes);
		if (at == NULL)
			break;
		uint8_t changed = (uint8_t)(*at ^ 1);
		assert_int_equal(pwrite(fd, &changed, 1, at - all), 1);
		found++;
	}
	assert_int_equal(close(fd), 0);
	free(all);
	return found;
}

/* A slice that does not verify makes the object a loss as a whole, which is counted, and nothing of
 * it is given out; a range that needs other slices only would have been good until then. */
static void test_object__with_a_bad_slice_is_lost(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("o", memory, 8 * SLICE);
	struct haul_cache_value value = { 0 };
	struct haul_cache_stat stat;
	cache_lab_fill(memory, item.bytes, 5);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	/* enough behind it that its batch is not verified, and dropped, as the last */
	for (uint32_t i = 0; i < 8; i++) {
		struct haul_cache_item other = cache_lab_item("other", "x", 1);
		assert_int_equal(haul_cache_store(lab->cache, &other), 0);
	}
	assert_int_equal(haul_cache_close(lab->cache), 0);
	assert_int_equal(damage(lab->path, memory + 4 * SLICE + 8000, 64), 1);
	cache_lab_open(lab);
	assert_int_equal(haul_cache_get_range(lab->cache, &item.key,
					      &(struct haul_cache_range){ 0, SLICE }, answer,
					      &value),
			 0);
	assert_int_equal(haul_cache_get(lab->cache, &item.key, answer, BIG, &value), HAUL_ECORRUPT);
	assert_int_equal(value.status, HAUL_CACHE_CORRUPT);
	haul_cache_stat(lab->cache, &stat);
	assert_int_equal(stat.incomplete, 1);
	/* and it is gone, with the slices that were good */
	cache_lab_expect_gone(lab, "o");
	assert_int_equal(entries(lab), 1);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	expect_object(lab, "o", item.bytes, 5);
}

static bool is_first_slice(const struct index_slot *slot, void *arg)
{
	bool *found = arg;
	struct index_entry entry;
	index_unpack(slot, &entry);
	if (*found || entry.codec == INDEX_HEAD)
		return false;
	*found = true;
	return true;
}

/* A slice that has left (it was evicted) makes the object a miss, which is counted; what is left of
 * it goes too. If it failed, a hole would be given out, or told as damage. */
static void test_object__with_a_slice_gone_is_a_miss(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("o", memory, 4 * SLICE);
	struct haul_cache_value value = { 0 };
	struct haul_cache_stat stat;
	struct part *part = &lab->cache->parts[0];
	bool found = false;
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	part_lock(part);
	assert_int_equal(index_delete_if(&part->shard->index, is_first_slice, &found), 1);
	part_unlock(part);
	assert_int_equal(haul_cache_get(lab->cache, &item.key, answer, BIG, &value), -ENOENT);
	assert_int_equal(value.status, HAUL_CACHE_MISS);
	haul_cache_stat(lab->cache, &stat);
	assert_int_equal(stat.incomplete, 1);
	assert_int_equal(stat.corrupt, 0);
	assert_int_equal(stat.entries, 0);
}

static void limit_files(rlim_t bytes)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Slices and head were taken, and then their flush fails: the store says so, and nothing of the
 * object is there. If it failed, what was told durable would be gone. */
static void test_object__whose_flush_fails_is_not_there(void **state)
{
	struct cache_lab *lab = *state;
	struct haul_cache_item item = cache_lab_item("o", memory, 3 * SLICE);
	struct haul_err err = { 0 };
	void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
	limit_files(4096);
	const int rc = haul_cache_store(lab->cache, &item);
	limit_files(RLIM_INFINITY);
	(void)signal(SIGXFSZ, before);
	assert_int_equal(rc, -EFBIG);
	cache_lab_expect_gone(lab, "o");
	assert_int_equal(haul_cache_online(lab->cache, &err), 0);
	(void)haul_cache_flush(lab->cache); /* it may tell of slices that were dropped meanwhile */
	cache_lab_fill(memory, item.bytes, 3);
	assert_int_equal(haul_cache_store(lab->cache, &item), 0);
	expect_object(lab, "o", item.bytes, 3);
}

static int open_memory(void **state)
{
	(void)state;
	memory = calloc(1, BIG);
	answer = calloc(1, BIG);
	return memory == NULL || answer == NULL ? -1 : 0;
}

static int close_memory(void **state)
{
	(void)state;
	free(memory);
	free(answer);
	return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, cache_lab_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_object__of_any_length),
		TEST(test_object__of_64_mib),
		TEST(test_object__range_reads_only_its_slices),
		TEST(test_object__get_too_little_room),
		TEST(test_object__leaves_no_slices_behind),
		TEST(test_object__conditions),
		TEST(test_object__in_a_lookup_of_many),
		TEST(test_object__too_large_for_a_lookup),
		TEST(test_object__with_a_bad_slice_is_lost),
		TEST(test_object__with_a_slice_gone_is_a_miss),
		TEST(test_object__whose_flush_fails_is_not_there),
	};
	return cmocka_run_group_tests(tests, open_memory, close_memory);
}
