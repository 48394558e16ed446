#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "disk/check.h"
#include "disk/format_sample.h"
#include "lib/testlib.h"
#include "os/os.h"

/* ---- a file that has superblocks, and nothing else ---- */

struct lab {
	char path[256];
	int fd;
	struct format_super super;
};

static void put(const struct lab *lab, uint64_t offset, const void *data, size_t bytes)
{
	assert_int_equal(pwrite(lab->fd, data, bytes, (off_t)offset), (ssize_t)bytes);
}

static void put_super(const struct lab *lab, uint32_t copy)
{
	uint8_t block[FORMAT_BLOCK];
	format_super_encode(&lab->super, block);
	put(lab, format_super_offset(&lab->super, copy), block, sizeof block);
}

static struct lab lab_open(void)
{
	const char *folder = getenv("TMPDIR");
	struct lab lab;
	struct prng prng;

	(void)snprintf(lab.path, sizeof lab.path, "%s/haul-volume-XXXXXX",
		       folder != NULL ? folder : "/var/tmp");
	lab.fd = mkstemp(lab.path);
	assert_true(lab.fd >= 0);
	prng_init(&prng, 5);
	sample_super(&prng, 2, &lab.super);
	assert_int_equal(ftruncate(lab.fd, (off_t)lab.super.bytes), 0);
	put_super(&lab, 0);
	put_super(&lab, 1);
	return lab;
}

static void lab_close(struct lab *lab)
{
	close(lab->fd);
	unlink(lab->path);
}

static void break_super(const struct lab *lab, uint32_t copy)
{
	put(lab, format_super_offset(&lab->super, copy) + 70, "\xff\xfe", 2);
}

/* Opens; closes again if that went well. */
static int open_how(const struct lab *lab, bool read_only, struct haul_err *err)
{
	struct volume volume, untouched;
	memset(&volume, 0x5a, sizeof volume);
	untouched = volume;
	memset(err, 0, sizeof *err);
	const int rc = volume_open(&volume, lab->path, read_only, os_linux(), err);
	if (rc < 0) {
		assert_memory_equal(&volume, &untouched, sizeof volume);
		assert_true(err->code == rc && strstr(err->text, lab->path) != NULL);
		return rc;
	}
	assert_memory_equal(&volume.super, &lab->super, sizeof volume.super);
	assert_true(volume.os == os_linux() && volume.file.read_only == read_only);
	volume_close(&volume);
	return 0;
}

/* A cache cannot be opened, or one damaged superblock is its end. */
static void test_volume_open__either_superblock_will_do(void **state)
{
	(void)state;
	struct lab lab = lab_open();
	struct haul_err err;

	assert_int_equal(open_how(&lab, false, &err), 0);
	assert_int_equal(open_how(&lab, true, &err), 0);
	break_super(&lab, 0);
	assert_int_equal(open_how(&lab, false, &err), 0);
	put_super(&lab, 0);
	break_super(&lab, 1);
	assert_int_equal(open_how(&lab, false, &err), 0);
	/* A device that has grown hides the second one; the first says where it is. */
	assert_int_equal(ftruncate(lab.fd, (off_t)lab.super.bytes + 12345), 0);
	assert_int_equal(open_how(&lab, false, &err), 0);
	lab_close(&lab);
}

/* All that is wrong is told in the same words: nobody knows whether to look for a path, for an
 * update or for a backup. */
static void test_volume_open__says_what_is_wrong(void **state)
{
	(void)state;
	struct lab lab = lab_open();
	struct haul_err err;
	uint8_t block[FORMAT_BLOCK];

	break_super(&lab, 0);
	break_super(&lab, 1);
	assert_int_equal(open_how(&lab, false, &err), HAUL_ECORRUPT);
	assert_non_null(strstr(err.text, "both superblocks are damaged"));

	format_super_encode(&lab.super, block);
	le32_store(block + 8, 2);
	le32_store(block + 4, crc32c(0, block + 8, sizeof block - 8));
	put(&lab, 0, block, sizeof block);
	assert_int_equal(open_how(&lab, false, &err), HAUL_EVERSION);
	assert_non_null(strstr(err.text, "newer version"));

	memset(block, 0, sizeof block);
	put(&lab, 0, block, sizeof block);
	put(&lab, format_super_offset(&lab.super, 1), block, sizeof block);
	assert_int_equal(open_how(&lab, false, &err), HAUL_ECORRUPT);
	assert_non_null(strstr(err.text, "is not a cache"));

	put_super(&lab, 0);
	assert_int_equal(ftruncate(lab.fd, (off_t)lab.super.bytes - 4096), 0);
	assert_int_equal(open_how(&lab, false, &err), HAUL_ESHORT);
	assert_non_null(strstr(err.text, "cut short"));

	assert_int_equal(ftruncate(lab.fd, 1000), 0);
	assert_int_equal(open_how(&lab, false, &err), HAUL_ECORRUPT);
	assert_non_null(strstr(err.text, "too short"));
	assert_int_equal(ftruncate(lab.fd, 0), 0);
	assert_int_equal(open_how(&lab, false, &err), HAUL_ECORRUPT);
	lab_close(&lab);
	assert_int_equal(open_how(&lab, false, &err), -ENOENT);
}

/* A cache with features of a later version is written to as if they were not there. */
static void test_volume_open__later_features_may_forbid_writing(void **state)
{
	(void)state;
	struct lab lab = lab_open();
	struct haul_err err;

	lab.super.compat = 8;
	put_super(&lab, 0);
	assert_int_equal(open_how(&lab, false, &err), 0);
	lab.super.ro_compat = 2;
	put_super(&lab, 0);
	assert_int_equal(open_how(&lab, false, &err), -EROFS);
	assert_non_null(strstr(err.text, "0x2"));
	assert_int_equal(open_how(&lab, true, &err), 0);
	lab.super.incompat = 1;
	put_super(&lab, 0);
	put_super(&lab, 1);
	assert_int_equal(open_how(&lab, true, &err), HAUL_EVERSION);
	lab_close(&lab);
}

/* Two processes write to one cache. */
static void test_volume_open__keeps_others_out(void **state)
{
	(void)state;
	struct lab lab = lab_open();
	struct volume volume;
	struct haul_err err;

	assert_int_equal(volume_open(&volume, lab.path, false, os_linux(), &err), 0);
	assert_int_equal(open_how(&lab, false, &err), -EBUSY);
	assert_int_equal(open_how(&lab, true, &err), -EBUSY);
	volume_close(&volume);
	assert_int_equal(open_how(&lab, false, &err), 0);
	volume_close(NULL);
	lab_close(&lab);
}

/* Want of memory looks like a damaged cache, or leaves the file locked. */
static void test_volume_open__want_of_memory(void **state)
{
	(void)state;
	struct lab lab = lab_open();
	struct volume volume;
	struct haul_err err;

	if (test_malloc_fail(0))
		assert_int_equal(volume_open(&volume, lab.path, false, os_linux(), &err), -ENOMEM);
	assert_int_equal(open_how(&lab, false, &err), 0);
	lab_close(&lab);
}

/* The public check does not reach the file, or does not say why it cannot look. */
static void test_cache_check__of_a_file(void **state)
{
	(void)state;
	struct lab lab = lab_open();
	struct haul_cache_checked checked = { .entries = 99 };
	const struct haul_cache_check repair = { .repair = true };
	struct haul_err err = { 0 };

	/* No roots: both of both partitions are missing. */
	assert_int_equal(haul_cache_check(lab.path, NULL, &checked, &err), 0);
	assert_int_equal(checked.entries, 0);
	assert_int_equal(checked.structures, 4);
	assert_int_equal(haul_cache_check(lab.path, &repair, &checked, &err), 0);
	assert_int_equal(checked.repaired, 4);
	assert_int_equal(haul_cache_check(lab.path, NULL, &checked, &err), 0);
	assert_int_equal(checked.structures, 0);
	break_super(&lab, 0);
	break_super(&lab, 1);
	checked.entries = 99;
	assert_int_equal(haul_cache_check(lab.path, NULL, &checked, &err), HAUL_ECORRUPT);
	assert_int_equal(checked.entries, 99);
	assert_non_null(strstr(err.text, "both superblocks"));
	lab_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_volume_open__either_superblock_will_do),
		cmocka_unit_test(test_volume_open__says_what_is_wrong),
		cmocka_unit_test(test_volume_open__later_features_may_forbid_writing),
		cmocka_unit_test(test_volume_open__keeps_others_out),
		cmocka_unit_test(test_volume_open__want_of_memory),
		cmocka_unit_test(test_cache_check__of_a_file),
	};

	return cmocka_run_group_tests_name("volume", tests, NULL, NULL);
}
