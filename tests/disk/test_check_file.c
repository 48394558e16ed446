/* The public check, over files that the public cache has written. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <haul/cache.h>
#include "disk/format.h"
#include "lib/testlib.h"

enum { ENTRIES = 300, OBJECT_BYTES = 700000, SLICE_BYTES = 65536, SLICES = 11, PARTITIONS = 4 };

static const uint64_t FILE_BYTES = UINT64_C(32) << 20;

struct lab {
	char path[256];
	uint8_t *object;
	uint32_t seen[ENTRIES];           /* listed by check */
	uint32_t slices, heads;           /* of the object, listed */
	uint32_t partitions;              /* a bit each */
	struct haul_cache_listed damaged; /* the last; its key is gone */
	uint32_t damaged_count;
};

static struct haul_cache *cache_open(struct lab *lab)
{
	const struct haul_cache_options options = { .slice_bytes = SLICE_BYTES, .codec = "lz4" };
	struct haul_cache *cache;
	struct haul_err err = { 0 };
	if (haul_cache_open(&cache, lab->path, &options, &err) != 0)
		fail_msg("%s", err.text);
	return cache;
}

static void store(struct haul_cache *cache, const char *name, const void *value, uint64_t bytes,
		  uint32_t flags)
{
	const struct haul_cache_item item = {
		.key = { .data = name, .bytes = (uint32_t)strlen(name) },
		.value = value,
		.bytes = bytes,
		.flags = flags,
		.how = flags == 3 ? HAUL_CACHE_PINNED : 0,
	};
	assert_int_equal(haul_cache_store_buffered(cache, &item), 0);
}

static struct lab *lab_open(void)
{
	const char *folder = getenv("TMPDIR");
	const struct haul_cache_format format = { .bytes = FILE_BYTES, .partitions = PARTITIONS };
	struct lab *lab = calloc(1, sizeof *lab);
	struct haul_err err = { 0 };
	struct prng prng;

	assert_non_null(lab);
	(void)snprintf(lab->path, sizeof lab->path, "%s/haul-check-XXXXXX",
		       folder != NULL ? folder : "/var/tmp");
	const int fd = mkstemp(lab->path);
	assert_true(fd >= 0);
	close(fd);
	if (haul_cache_format(lab->path, &format, &err) != 0)
		fail_msg("%s", err.text);
	lab->object = malloc(OBJECT_BYTES);
	assert_non_null(lab->object);
	prng_init(&prng, 3);
	for (uint32_t i = 0; i < OBJECT_BYTES; i++)
		lab->object[i] = (uint8_t)prng_next(&prng);
	struct haul_cache *cache = cache_open(lab);
	for (uint32_t i = 0; i < ENTRIES; i++) {
		char name[32];
		/* Some can be squeezed, some are empty, some have flags, some are pinned. */
		static const char text[9000] = "again and again";
		(void)snprintf(name, sizeof name, "entry %" PRIu32, i);
		store(cache, name, i % 3 == 0 ? (const uint8_t *)text : lab->object, i * 29, i % 5);
	}
	store(cache, "object", lab->object, OBJECT_BYTES, 0);
	assert_int_equal(haul_cache_close(cache), 0);
	return lab;
}

static void lab_close(struct lab *lab)
{
	unlink(lab->path);
	free(lab->object);
	free(lab);
}

static int listed(const struct haul_cache_listed *entry, void *arg)
{
	struct lab *lab = arg;
	char name[32];
	uint32_t number;

	assert_true(entry->key_bytes < sizeof name);
	memcpy(name, entry->key, entry->key_bytes);
	name[entry->key_bytes] = 0;
	lab->partitions |= 1U << entry->partition;
	if (strcmp(name, "object") == 0) {
		lab->heads += entry->slice == 0;
		lab->slices |= entry->slice > 0 ? 1U << (entry->slice - 1) : 0;
	} else {
		assert_int_equal(sscanf(name, "entry %" SCNu32, &number), 1);
		lab->seen[number]++;
		assert_int_equal(entry->slice, 0);
	}
	if (entry->status != HAUL_CACHE_HIT) {
		lab->damaged = *entry;
		lab->damaged_count++;
	}
	return 0;
}

static struct haul_cache_checked check(struct lab *lab, bool repair)
{
	const struct haul_cache_check options = {
		.repair = repair, .all = true, .entry = listed, .arg = lab
	};
	struct haul_cache_checked checked = { 0 };
	struct haul_err err = { 0 };

	memset(lab->seen, 0, sizeof lab->seen);
	lab->slices = lab->heads = lab->partitions = lab->damaged_count = 0;
	if (haul_cache_check(lab->path, &options, &checked, &err) != 0)
		fail_msg("%s", err.text);
	return checked;
}

/* Change the byte in the middle of the object's slice that holds object[at]; where it is in the
 * file is found by its bytes. */
static void damage_object(struct lab *lab, uint32_t at)
{
	uint8_t *file = malloc(FILE_BYTES);
	const int fd = open(lab->path, O_RDWR | O_CLOEXEC);
	assert_true(file != NULL && fd >= 0);
	assert_int_equal(pread(fd, file, FILE_BYTES, 0), (ssize_t)FILE_BYTES);
	const uint8_t *found = memmem(file, FILE_BYTES, lab->object + at, 64);
	assert_non_null(found);
	const uint8_t wrong = *found ^ 0x20;
	assert_int_equal(pwrite(fd, &wrong, 1, found - file), 1);
	close(fd);
	free(file);
}

/* Entries of some partition, of a codec, with flags, pinned, empty, or slices, do not verify: then
 * what check says is right by luck only. */
static void test_check_file__every_kind_of_entry_verifies(void **state)
{
	(void)state;
	struct lab *lab = lab_open();

	const struct haul_cache_checked checked = check(lab, false);
	assert_string_equal(checked.first, "");
	assert_int_equal(checked.entries, ENTRIES + 1 + SLICES);
	for (uint32_t i = 0; i < ENTRIES; i++)
		assert_int_equal(lab->seen[i], 1);
	assert_int_equal(lab->heads, 1);
	assert_int_equal(lab->slices, (1U << SLICES) - 1);
	assert_int_equal(lab->partitions, (1U << PARTITIONS) - 1);
	lab_close(lab);
}

/* A damaged slice is told without its object's name, or cannot be deleted since its key has a
 * version in it. */
static void test_check_file__damaged_slice(void **state)
{
	(void)state;
	struct lab *lab = lab_open();

	damage_object(lab, 5 * SLICE_BYTES + 30000);
	struct haul_cache_checked checked = check(lab, false);
	assert_int_equal(checked.damaged, 1);
	assert_int_equal(lab->damaged_count, 1);
	assert_int_equal(lab->damaged.slice, 6);
	assert_int_equal(lab->damaged.key_bytes, strlen("object"));
	assert_int_equal(lab->damaged.status, HAUL_CACHE_CORRUPT);
	checked = check(lab, true);
	assert_int_equal(checked.repaired, 1);
	checked = check(lab, false);
	assert_int_equal(checked.damaged, 0);
	assert_int_equal(checked.entries, ENTRIES + SLICES);

	struct haul_cache *cache = cache_open(lab);
	const struct haul_cache_key key = { "object", strlen("object") };
	struct haul_cache_value value = { 0 };
	uint8_t *bytes = malloc(OBJECT_BYTES);
	assert_non_null(bytes);
	/* The whole is not there any more. */
	assert_true(haul_cache_get(cache, &key, bytes, OBJECT_BYTES, &value) < 0);
	free(bytes);
	assert_int_equal(haul_cache_close(cache), 0);
	lab_close(lab);
}

/* Check runs beside the cache, and sees half of what it writes. */
static void test_check_file__not_while_it_is_open(void **state)
{
	(void)state;
	struct lab *lab = lab_open();
	struct haul_cache *cache = cache_open(lab);
	struct haul_cache_checked checked;
	struct haul_err err = { 0 };

	assert_int_equal(haul_cache_check(lab->path, NULL, &checked, &err), -EBUSY);
	assert_non_null(strstr(err.text, "in use"));
	assert_int_equal(haul_cache_close(cache), 0);
	assert_int_equal(haul_cache_check(lab->path, NULL, &checked, &err), 0);
	lab_close(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check_file__every_kind_of_entry_verifies),
		cmocka_unit_test(test_check_file__damaged_slice),
		cmocka_unit_test(test_check_file__not_while_it_is_open),
	};

	return cmocka_run_group_tests_name("check_file", tests, NULL, NULL);
}
