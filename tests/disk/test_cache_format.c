/* Making a cache: what is refused and what it says, what is left when it stops half-way. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache_lab.h"

enum { MIB = 1 << 20, FILE_BYTES = 16 * MIB, PATH = 300 };

struct place {
	char folder[256];
	char path[PATH];
};

static int setup(void **state)
{
	struct place *place = test_calloc(1, sizeof *place);
	const char *parent = getenv("TMPDIR");
	snprintf(place->folder, sizeof place->folder, "%s/haul-format-XXXXXX",
		 parent != NULL ? parent : "/var/tmp");
	assert_non_null(mkdtemp(place->folder));
	snprintf(place->path, sizeof place->path, "%s/cache", place->folder);
	*state = place;
	return 0;
}

static int teardown(void **state)
{
	struct place *place = *state;
	unlink(place->path);
	assert_int_equal(rmdir(place->folder), 0);
	test_free(place);
	return 0;
}

static void put(const char *path, off_t at, const void *data, size_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, bytes, at), (ssize_t)bytes);
	assert_int_equal(close(fd), 0);
}

static bool opens(const char *path)
{
	struct haul_cache *cache = NULL;
	if (haul_cache_open(&cache, path, NULL, NULL) < 0)
		return false;
	assert_int_equal(haul_cache_close(cache), 0);
	return true;
}

static void refuse(const struct place *place, const struct haul_cache_format *format, int code,
		   const char *word)
{
	struct haul_err err = { 0 };
	assert_int_equal(haul_cache_format(place->path, format, &err), code);
	assert_int_equal(err.code, code);
	if (strstr(err.text, word) == NULL)
		fail_msg("'%s' does not say '%s'", err.text, word);
	assert_non_null(strstr(err.text, place->folder));
}

/* A new file, an empty one, and a sparse one without data are made without a question. */
static void test_format__what_is_empty(void **state)
{
	struct place *place = *state;
	const struct haul_cache_format format = { .bytes = FILE_BYTES };
	struct stat st;
	assert_int_equal(haul_cache_format(place->path, &format, NULL), 0);
	assert_int_equal(stat(place->path, &st), 0);
	assert_int_equal(st.st_size, FILE_BYTES);
	/* all of it has its place on the disk */
	assert_true(st.st_blocks * 512 >= FILE_BYTES);
	assert_true(opens(place->path));
	assert_int_equal(truncate(place->path, 0), 0);
	assert_int_equal(haul_cache_format(place->path, &format, NULL), 0);
	assert_int_equal(unlink(place->path), 0);
	put(place->path, 0, "", 0);
	assert_int_equal(truncate(place->path, FILE_BYTES), 0);
	assert_int_equal(haul_cache_format(place->path, NULL, NULL), 0); /* its size */
	assert_true(opens(place->path));
}

/* What is there is named, so that nobody destroys a file system by a slip; nothing is changed; with
 * force it goes. */
static void test_format__what_is_not_empty_is_named(void **state)
{
	struct place *place = *state;
	static const struct {
		off_t at;
		const char *magic;
		const char *word;
	} cases[] = {
		{ 0x438, "\x53\xef", "ext4" },     { 0, "XFSB", "XFS" },
		{ 0x10040, "_BHRfS_M", "btrfs" },  { 4086, "SWAPSPACE2", "swap" },
		{ 0, "LUKS\xba\xbe", "LUKS" },     { 512, "EFI PART", "GPT" },
		{ 510, "\x55\xaa", "MBR" },        { 512, "LABELONE", "LVM" },
		{ 0, "PK\x03\x04", "ZIP" },        { 257, "ustar", "tar" },
		{ 700000, "hello", "holds data" },
	};
	const struct haul_cache_format format = { .bytes = FILE_BYTES };
	const struct haul_cache_format force = { .bytes = FILE_BYTES, .force = true };
	for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		char there[16] = { 0 };
		put(place->path, cases[i].at, cases[i].magic, strlen(cases[i].magic));
		assert_int_equal(truncate(place->path, MIB), 0);
		refuse(place, &format, -EEXIST, cases[i].word);
		refuse(place, &format, -EEXIST, "--force");
		int fd = open(place->path, O_RDONLY);
		assert_int_equal(pread(fd, there, strlen(cases[i].magic), cases[i].at),
				 (ssize_t)strlen(cases[i].magic));
		close(fd);
		assert_string_equal(there, cases[i].magic);
		assert_int_equal(unlink(place->path), 0);
	}
	put(place->path, 0, "XFSB", 4);
	assert_int_equal(haul_cache_format(place->path, &force, NULL), 0);
	assert_true(opens(place->path));
	refuse(place, &format, -EEXIST, "a cache of haul (16 MiB, 1 partitions");
	assert_int_equal(haul_cache_format(place->path, &force, NULL), 0);
}

/* A cache whose first superblock is damaged is a cache all the same. */
static void test_format__knows_a_cache_by_its_second_superblock(void **state)
{
	struct place *place = *state;
	const struct haul_cache_format format = { .bytes = FILE_BYTES };
	static const uint8_t zeros[4096];
	assert_int_equal(haul_cache_format(place->path, &format, NULL), 0);
	put(place->path, 0, zeros, sizeof zeros);
	refuse(place, &format, -EEXIST, "a cache of haul");
}

/* Sizes that cannot be are refused before anything is written, and no file is left. */
static void test_format__refuses_sizes(void **state)
{
	struct place *place = *state;
	static const struct {
		struct haul_cache_format format;
		int code;
		const char *word;
	} cases[] = {
		{ { 0 }, -EINVAL, "how large" },
		{ { .bytes = 4096 }, -ENOSPC, "too few" },
		{ { .bytes = FILE_BYTES, .segment_bytes = 100000 }, -EINVAL, "100000" },
		{ { .bytes = FILE_BYTES, .segment_bytes = 1 << 27 }, -EINVAL, "power of two" },
		{ { .bytes = FILE_BYTES, .partitions = 65 }, -EINVAL, "65" },
		{ { .bytes = UINT64_C(1) << 50 }, -ENOSPC, "free" },
	};
	for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		if (i ==
		    5) { /* a file cannot be that large, or the disk has no room: both name it */
			struct haul_err err = { 0 };
			assert_true(haul_cache_format(place->path, &cases[i].format, &err) < 0);
			assert_non_null(strstr(err.text, "1073741824 MiB"));
		} else {
			refuse(place, &cases[i].format, cases[i].code, cases[i].word);
		}
		assert_int_equal(access(place->path, F_OK), -1);
	}
}

/* A file that another process has is left alone. */
static void test_format__of_a_cache_in_use(void **state)
{
	struct place *place = *state;
	const struct haul_cache_format force = { .bytes = FILE_BYTES, .force = true };
	struct haul_cache_item item = cache_lab_item("a", "1", 1);
	struct haul_cache *cache = NULL;
	assert_int_equal(haul_cache_format(place->path, &force, NULL), 0);
	assert_int_equal(haul_cache_open(&cache, place->path, NULL, NULL), 0);
	refuse(place, &force, -EBUSY, "in use");
	assert_int_equal(haul_cache_store(cache, &item), 0);
	assert_int_equal(haul_cache_close(cache), 0);
	assert_true(opens(place->path));
}

/* A folder, a file in a folder that is not there, and a device that is none. */
static void test_format__refuses_what_is_no_file(void **state)
{
	struct place *place = *state;
	const struct haul_cache_format format = { .bytes = FILE_BYTES };
	struct haul_err err = { 0 };
	assert_int_equal(haul_cache_format(place->folder, &format, &err), -EINVAL);
	assert_non_null(strstr(err.text, "directory"));
	assert_int_equal(haul_cache_format("/dev/null", &format, &err), -EINVAL);
	assert_non_null(strstr(err.text, "/dev/null"));
	assert_int_equal(haul_cache_format("/nowhere/at/all", &format, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nowhere/at/all"));
}

static int stop_half_way(uint64_t done, uint64_t total, void *arg)
{
	uint32_t *calls = arg;
	assert_int_equal(total, FILE_BYTES);
	(*calls)++;
	return done * 2 >= total ? 3 : 0;
}

/* Stopped half-way: what was said is returned, a file that was made for it is gone again, and an
 * older cache under it is no cache any more. */
static void test_format__stopped(void **state)
{
	struct place *place = *state;
	uint32_t calls = 0;
	struct haul_cache_format format = { .bytes = FILE_BYTES,
					    .progress = stop_half_way,
					    .arg = &calls };
	assert_int_equal(haul_cache_format(place->path, &format, NULL), 3);
	assert_true(calls > 0);
	assert_int_equal(access(place->path, F_OK), -1);
	format.progress = NULL;
	assert_int_equal(haul_cache_format(place->path, &format, NULL), 0);
	format.progress = stop_half_way;
	format.force = true;
	assert_int_equal(haul_cache_format(place->path, &format, NULL), 3);
	assert_int_equal(access(place->path, F_OK), 0);
	assert_false(opens(place->path));
}

/* What was asked for is what is made: partitions, segments, entries. */
static void test_format__does_as_it_is_told(void **state)
{
	struct place *place = *state;
	const struct haul_cache_format format = {
		.bytes = FILE_BYTES, .partitions = 4, .segment_bytes = 65536, .entries_max = 1000
	};
	struct haul_cache *cache = NULL;
	struct haul_cache_stat stat;
	char name[32];
	assert_int_equal(haul_cache_format(place->path, &format, NULL), 0);
	assert_int_equal(haul_cache_open(&cache, place->path, NULL, NULL), 0);
	haul_cache_stat(cache, &stat);
	assert_int_equal(stat.partitions, 4);
	assert_int_equal(stat.entries_max, 1000);
	assert_in_range(stat.segments, 200, 256);
	/* keys spread over all of them; small segments hold large values, in slices */
	for (uint32_t i = 0; i < 100; i++) {
		static uint8_t value[100000];
		struct haul_cache_item item = { .key = cache_lab_key_of(name, "k", i),
						.value = value,
						.bytes = i % 10 == 0 ? sizeof value : 10 };
		assert_int_equal(haul_cache_store_buffered(cache, &item), 0);
	}
	assert_int_equal(haul_cache_close(cache), 0);
	assert_true(opens(place->path));
}

/* A cache of 128 MiB is measured: its disk's figures are there, and are no guess. */
static void test_format__measures_the_disk(void **state)
{
	struct place *place = *state;
	const struct haul_cache_format format = { .bytes = 160 * MIB, .partitions = 1 };
	struct haul_cache *cache = NULL;
	struct haul_cache_stat stat;
	assert_int_equal(haul_cache_format(place->path, &format, NULL), 0);
	assert_int_equal(haul_cache_open(&cache, place->path,
					 &(struct haul_cache_options){ .read_only = true }, NULL),
			 0);
	haul_cache_stat(cache, &stat);
	assert_int_equal(haul_cache_close(cache), 0);
	assert_true(stat.model.sync_ns > 0 && stat.model.write_bandwidth > 0);
	assert_true(stat.model.read_bandwidth > 0 && stat.model.read_iops > 0);
	assert_false(stat.model.read_iops == 50e3 && stat.model.write_bandwidth == 500e6);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_format__what_is_empty),
		TEST(test_format__what_is_not_empty_is_named),
		TEST(test_format__knows_a_cache_by_its_second_superblock),
		TEST(test_format__refuses_sizes),
		TEST(test_format__of_a_cache_in_use),
		TEST(test_format__refuses_what_is_no_file),
		TEST(test_format__stopped),
		TEST(test_format__does_as_it_is_told),
		TEST(test_format__measures_the_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
