/* The media over files: who may open it, and its root; what a crash, a fault or damage leaves of
 * them. */
#include <errno.h>
#include <string.h>
#include <xxhash.h>

#include "media_lab.h"

enum {
	BLOCK = MEDIA_LAB_BLOCK,
	DISK = MEDIA_LAB_DISK,
	SEGMENT = MEDIA_LAB_SEGMENT,
	DATA = MEDIA_LAB_DATA,
	SEEDS = 6,
};

/* ---- opening ---- */

/* A folder that is no store is said to be none, and nothing is put into it. */
static void test_media_open__not_a_store(void **state)
{
	struct media_lab *lab = *state;
	uint32_t names = 0;

	assert_int_equal(media_lab_open(lab, MEDIA_WRITE), -ENOENT);
	assert_non_null(strstr(lab->err.text, "not a store"));
	assert_int_equal(media_lab_open(lab, MEDIA_READ), -ENOENT);
	lab->vfs = vfs_sim_vfs(lab->disk);
	assert_int_equal(VFS_CALL(lab->vfs, list, lab->vfs, "", media_lab_count_name, &names), 0);
	assert_int_equal(names, 0);
}

/* A store is made in a folder of its own: neither over another, nor beside what is no part of it.
 */
static void test_media_make__wants_an_empty_folder(void **state)
{
	struct media_lab *lab = *state;
	struct vfs_file *file = NULL;
	struct vfs *vfs = vfs_sim_vfs(lab->disk);

	assert_int_equal(VFS_CALL(vfs, open, vfs, "letters.txt", VFS_CREATE, false, &file), 0);
	VFS_CALL(vfs, close, file);
	assert_int_equal(media_lab_open(lab, MEDIA_MAKE), -EEXIST);
	assert_non_null(strstr(lab->err.text, "letters.txt"));
	assert_int_equal(VFS_CALL(vfs, unlink, vfs, "letters.txt"), 0);
	VFS_CALL(vfs, close_all, vfs);
	assert_int_equal(media_lab_open(lab, MEDIA_MAKE), 0);
	media_lab_close(lab);
	assert_int_equal(media_lab_open(lab, MEDIA_MAKE), -EEXIST);
	assert_non_null(strstr(lab->err.text, "already"));
	assert_int_equal(media_lab_open(lab, MEDIA_WRITE), 0);
}

/* Cut off at any step, making can be done again, or was done. */
static void test_media_make__every_crash_point(void **state)
{
	struct media_lab *lab = *state;
	bool stopped = true;

	for (uint64_t point = 0; stopped; point++) {
		for (uint64_t i = 0; i < VFS_SIM_CRASHES * (uint64_t)SEEDS; i++) {
			int rc;

			vfs_sim_close(lab->disk);
			assert_int_equal(vfs_sim_open(&lab->disk, DISK, i), 0);
			vfs_sim_stop_after(lab->disk, point);
			rc = media_lab_open(lab, MEDIA_MAKE);
			stopped = vfs_sim_stopped(lab->disk);
			assert_int_equal(rc, stopped ? -EIO : 0);
			media_lab_crash(lab, (int)(i % VFS_SIM_CRASHES), i);
			rc = media_lab_open(lab, MEDIA_WRITE);
			assert_true(rc == 0 || rc == -ENOENT);
			if (rc < 0)
				assert_int_equal(media_lab_open(lab, MEDIA_MAKE), 0);
			assert_int_equal(MEDIA_CALL(lab->media, root_cas, 0, "root", 4), 0);
			assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, BLOCK),
					 0);
			media_lab_close(lab);
		}
		assert_true(point < 100);
	}
}

/* One writer, or many readers; who comes second is told what to do. */
static void test_media_open__one_writer_or_many_readers(void **state)
{
	struct media_lab *lab = *state;
	struct media_lab other = { .disk = lab->disk };

	assert_int_equal(media_lab_open(&other, MEDIA_WRITE), -EBUSY);
	assert_non_null(strstr(other.err.text, "open in another program"));
	assert_int_equal(media_lab_open(&other, MEDIA_READ), -EBUSY);
	assert_int_equal(media_lab_again(lab, MEDIA_READ), 0);
	assert_int_equal(media_lab_open(&other, MEDIA_READ), 0);
	media_lab_close(&other);
	assert_int_equal(media_lab_open(&other, MEDIA_WRITE), -EBUSY);
	media_lab_close(lab);
	assert_int_equal(media_lab_open(&other, MEDIA_WRITE), 0);
	media_lab_close(&other);
}

/* Whoever opened for reading cannot write, and nothing is changed by opening and reading. */
static void test_media_open__read_only(void **state)
{
	struct media_lab *lab = *state;
	struct media *media;
	uint64_t steps, version;
	size_t bytes = DATA;

	assert_int_equal(MEDIA_CALL(lab->media, root_cas, 0, "first", 5), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, BLOCK), 0);
	assert_int_equal(MEDIA_CALL(lab->media, blob_put, 7, lab->data, BLOCK), 0);
	steps = vfs_sim_steps(lab->disk);
	assert_int_equal(media_lab_again(lab, MEDIA_READ), 0);
	media = lab->media;
	assert_true(media->read_only);
	assert_int_equal(MEDIA_CALL(media, root_cas, 1, "x", 1), -EROFS);
	assert_int_equal(MEDIA_CALL(media, log_append, BLOCK, lab->data, BLOCK), -EROFS);
	assert_int_equal(MEDIA_CALL(media, log_reserve, 9 * SEGMENT), -EROFS);
	assert_int_equal(MEDIA_CALL(media, log_trim, SEGMENT), -EROFS);
	assert_int_equal(MEDIA_CALL(media, log_cut, 0), -EROFS);
	assert_int_equal(MEDIA_CALL(media, blob_put, 8, lab->data, BLOCK), -EROFS);
	assert_int_equal(MEDIA_CALL(media, blob_delete, 7), -EROFS);
	assert_int_equal(MEDIA_CALL(media, root_get, &version, lab->back, &bytes), 0);
	assert_int_equal(version, 1);
	assert_int_equal(MEDIA_CALL(media, log_read, 0, lab->back, BLOCK), BLOCK);
	assert_memory_equal(lab->back, lab->data, BLOCK);
	assert_int_equal(MEDIA_CALL(media, blob_bytes, 7), BLOCK);
	assert_int_equal(vfs_sim_steps(lab->disk), steps);
}

/* Segments have a size that fits. The size is that which the store was made with. */
static void test_media_open__segment_sizes(void **state)
{
	struct media_lab *lab = *state;
	struct media_options options = { .mode = MEDIA_MAKE, .segment_bytes = 1000 };
	struct media *media = NULL;

	lab->vfs = vfs_sim_vfs(lab->disk);
	assert_int_equal(media_file_open(&media, lab->vfs, &options, &lab->err), -EINVAL);
	options.segment_bytes = UINT64_C(1) << 40;
	assert_int_equal(media_file_open(&media, lab->vfs, &options, &lab->err), -EINVAL);
	assert_null(media);
	media_lab_close(lab);
	assert_int_equal(media_lab_open(lab, MEDIA_MAKE), 0);
	media_lab_close(lab);
	lab->vfs = vfs_sim_vfs(lab->disk);
	options = (struct media_options){ .mode = MEDIA_WRITE };
	assert_int_equal(media_file_open(&lab->media, lab->vfs, &options, &lab->err), 0);
	assert_int_equal(lab->media->segment_bytes, SEGMENT);
}

/* ---- root ---- */

static void root_set(struct media_lab *lab, uint64_t version)
{
	assert_int_equal(MEDIA_CALL(lab->media, root_cas, version - 1, &version, sizeof version),
			 0);
}

static uint64_t root_version(struct media_lab *lab)
{
	uint64_t version = 0, data = 0;
	size_t bytes = sizeof data;
	int rc = MEDIA_CALL(lab->media, root_get, &version, &data, &bytes);

	if (rc == -ENOENT)
		return 0;
	assert_int_equal(rc, 0);
	assert_int_equal(bytes, sizeof data);
	assert_int_equal(data, version);
	return version;
}

static uint8_t *root_copy(struct media_lab *lab, uint32_t copy)
{
	uint64_t bytes = 0;
	uint8_t *data = vfs_sim_bytes(lab->disk, "root", &bytes);

	assert_non_null(data);
	assert_int_equal(bytes, 4 * BLOCK);
	return data + (size_t)copy * BLOCK;
}

/* A root follows the one it was made from, and no other; of any size there may be. */
static void test_media_root__versions(void **state)
{
	struct media_lab *lab = *state;
	uint64_t version = 0;
	size_t bytes = DATA;

	assert_int_equal(root_version(lab), 0);
	assert_int_equal(MEDIA_CALL(lab->media, root_cas, 1, "x", 1), HAUL_ESTALE);
	for (uint64_t i = 1; i < 10; i++) {
		root_set(lab, i);
		assert_int_equal(MEDIA_CALL(lab->media, root_cas, i - 1, "x", 1), HAUL_ESTALE);
		assert_int_equal(root_version(lab), i);
		assert_int_equal(media_lab_again(lab, i % 2 == 0 ? MEDIA_WRITE : MEDIA_READ), 0);
		assert_int_equal(root_version(lab), i);
		assert_int_equal(media_lab_again(lab, MEDIA_WRITE), 0);
	}
	assert_int_equal(MEDIA_CALL(lab->media, root_cas, 9, lab->data, MEDIA_ROOT_MAX), 0);
	assert_int_equal(media_lab_again(lab, MEDIA_WRITE), 0);
	assert_int_equal(MEDIA_CALL(lab->media, root_get, &version, lab->back, &bytes), 0);
	assert_int_equal(bytes, MEDIA_ROOT_MAX);
	assert_memory_equal(lab->back, lab->data, MEDIA_ROOT_MAX);
	bytes = 100;
	assert_int_equal(MEDIA_CALL(lab->media, root_get, &version, lab->back, &bytes),
			 HAUL_ELIMIT);
}

/* At every step, in all ways: the root is the old one or the new one, and the new one if it was
 * told; and so it is when the power is cut again while it is put right. */
static void test_media_root__every_crash_point(void **state)
{
	struct media_lab *lab = *state;

	for (uint64_t point = 0; point < 9; point++) {
		for (uint64_t i = 0; i < VFS_SIM_CRASHES * (uint64_t)SEEDS; i++) {
			uint64_t last = root_version(lab), next = last + 1, seen;
			int rc;

			vfs_sim_stop_after(lab->disk, point);
			rc = MEDIA_CALL(lab->media, root_cas, last, &next, sizeof next);
			media_lab_crash(lab, (int)(i % VFS_SIM_CRASHES), i);
			for (uint64_t step = 0; step < 8; step += 1 + i % 3) {
				vfs_sim_stop_after(lab->disk, step);
				if (media_lab_open(lab, MEDIA_WRITE) == 0)
					break;
				media_lab_crash(lab, (int)(step % VFS_SIM_CRASHES), i);
			}
			media_lab_close(lab);
			vfs_sim_stop_after(lab->disk, UINT64_MAX);
			assert_int_equal(media_lab_open(lab, MEDIA_WRITE), 0);
			seen = root_version(lab);
			assert_true(seen == next || (rc < 0 && seen == last));
		}
	}
}

/* One copy may rot, whichever it is: it is put right, and then another may. */
static void test_media_root__one_copy_may_rot(void **state)
{
	struct media_lab *lab = *state;

	for (uint64_t version = 1; version < 12; version++) {
		root_set(lab, version);
		for (uint32_t copy = 0; copy < 4; copy++) {
			root_copy(lab, copy)[version * 300] ^= 0x10;
			assert_int_equal(media_lab_again(lab, MEDIA_READ), 0);
			assert_int_equal(root_version(lab), version);
			assert_int_equal(media_lab_again(lab, MEDIA_WRITE), 0);
			assert_int_equal(root_version(lab), version);
		}
	}
}

/* Two damaged copies may have been the newest root: it is not guessed. A crash leaves one. */
static void test_media_root__two_rotten_copies_are_refused(void **state)
{
	struct media_lab *lab = *state;

	for (uint32_t one = 0; one < 4; one++) {
		for (uint32_t two = one + 1; two < 4; two++) {
			root_set(lab, root_version(lab) + 1);
			root_copy(lab, one)[70] ^= 1;
			root_copy(lab, two)[70] ^= 1;
			media_lab_close(lab);
			assert_int_equal(media_lab_open(lab, MEDIA_WRITE), HAUL_ECORRUPT);
			assert_non_null(strstr(lab->err.text, "2 of 4"));
			assert_int_equal(media_lab_open(lab, MEDIA_READ), HAUL_ECORRUPT);
			root_copy(lab, one)[70] ^= 1;
			root_copy(lab, two)[70] ^= 1;
			assert_int_equal(media_lab_open(lab, MEDIA_WRITE), 0);
		}
	}
}

/* A copy in another's place, as a disk that writes to the wrong place leaves it, is a bad one. */
static void test_media_root__misplaced_copies(void **state)
{
	struct media_lab *lab = *state;

	root_set(lab, 1);
	root_set(lab, 2);
	memcpy(root_copy(lab, 3), root_copy(lab, 0), BLOCK);
	assert_int_equal(media_lab_again(lab, MEDIA_WRITE), 0);
	assert_int_equal(root_version(lab), 2);
	vfs_sim_misdirect(lab->disk, 0, 2 * BLOCK);
	root_set(lab, 3);
	assert_int_equal(media_lab_again(lab, MEDIA_WRITE), 0);
	assert_int_equal(root_version(lab), 3);
}

/* A newer version is said to be one, and nothing is put right. A flipped bit is none. */
static void test_media_root__newer_version(void **state)
{
	struct media_lab *lab = *state;
	uint8_t *copy;
	uint64_t check;

	root_set(lab, 1);
	copy = root_copy(lab, 2);
	copy[12]++;
	assert_int_equal(media_lab_again(lab, MEDIA_READ), 0);
	check = XXH3_64bits(copy + sizeof check, BLOCK - sizeof check);
	memcpy(copy, &check, sizeof check);
	media_lab_close(lab);
	assert_int_equal(media_lab_open(lab, MEDIA_WRITE), HAUL_EVERSION);
	assert_non_null(strstr(lab->err.text, "newer"));
	assert_int_equal(media_lab_open(lab, MEDIA_READ), HAUL_EVERSION);
}

/* Copies that cannot be read may be read later: nothing is put right. */
static void test_media_root__unreadable(void **state)
{
	struct media_lab *lab = *state;

	root_set(lab, 1);
	media_lab_close(lab);
	vfs_sim_fail(lab->disk, VFS_SIM_READ, 1, 2, -EIO);
	assert_int_equal(media_lab_open(lab, MEDIA_WRITE), -EIO);
	assert_int_equal(media_lab_open(lab, MEDIA_WRITE), 0);
	assert_int_equal(root_version(lab), 1);
}

/* A root write that failed leaves a media that writes nothing any more. */
static void test_media_root__errors_are_final(void **state)
{
	struct media_lab *lab = *state;

	root_set(lab, 1);
	vfs_sim_fail(lab->disk, VFS_SIM_SYNC, 1, 1, -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, root_cas, 1, "x", 1), -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, root_cas, 1, "x", 1), -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, BLOCK), -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, blob_put, 1, lab->data, BLOCK), -EIO);
}

#define MADE_TEST(name)  cmocka_unit_test_setup_teardown(name, media_lab_made, media_lab_teardown)
#define EMPTY_TEST(name) cmocka_unit_test_setup_teardown(name, media_lab_empty, media_lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EMPTY_TEST(test_media_open__not_a_store),
		EMPTY_TEST(test_media_make__wants_an_empty_folder),
		EMPTY_TEST(test_media_make__every_crash_point),
		MADE_TEST(test_media_open__one_writer_or_many_readers),
		MADE_TEST(test_media_open__read_only),
		EMPTY_TEST(test_media_open__segment_sizes),
		MADE_TEST(test_media_root__versions),
		MADE_TEST(test_media_root__every_crash_point),
		MADE_TEST(test_media_root__one_copy_may_rot),
		MADE_TEST(test_media_root__two_rotten_copies_are_refused),
		MADE_TEST(test_media_root__misplaced_copies),
		MADE_TEST(test_media_root__newer_version),
		MADE_TEST(test_media_root__unreadable),
		MADE_TEST(test_media_root__errors_are_final),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
