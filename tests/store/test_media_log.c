/* The segments of the log of a media over files. */
#include <errno.h>
#include <string.h>

#include "media_lab.h"

enum { BLOCK = MEDIA_LAB_BLOCK, DISK = MEDIA_LAB_DISK, SEGMENT = MEDIA_LAB_SEGMENT };

static void log_is(struct media_lab *lab, uint64_t position, const uint8_t *data, size_t bytes)
{
	assert_int_equal(MEDIA_CALL(lab->media, log_read, position, lab->back, bytes), bytes);
	assert_memory_equal(lab->back, data, bytes);
}

/* Appends go over the ends of segments, and reads too; behind what is reserved there is nothing. */
static void test_media_log__over_segments(void **state)
{
	struct media_lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, log_read, 0, lab->back, BLOCK), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, 5 * BLOCK, lab->data, 20 * BLOCK), 0);
	log_is(lab, 5 * BLOCK, lab->data, 20 * BLOCK);
	assert_int_equal(media_lab_again(lab, MEDIA_WRITE), 0);
	log_is(lab, 5 * BLOCK, lab->data, 20 * BLOCK);
	log_is(lab, 7 * BLOCK, lab->data + (size_t)2 * BLOCK, 3 * BLOCK);
	assert_int_equal(MEDIA_CALL(lab->media, log_read, 30 * BLOCK, lab->back, 20 * BLOCK),
			 2 * BLOCK);
	assert_int_equal(MEDIA_CALL(lab->media, log_read, 32 * BLOCK, lab->back, BLOCK), 0);
}

/* What is reserved is zeros, and is there after a crash. */
static void test_media_log__reserved_is_zeros(void **state)
{
	struct media_lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, 3 * SEGMENT - 1), 0);
	memset(lab->data, 0, 3 * SEGMENT);
	media_lab_crash(lab, VFS_SIM_LOSE_ALL, 1);
	assert_int_equal(media_lab_open(lab, MEDIA_WRITE), 0);
	log_is(lab, 0, lab->data, 3 * SEGMENT);
	assert_int_equal(MEDIA_CALL(lab->media, log_read, 3 * SEGMENT, lab->back, BLOCK), 0);
}

/* What is durable stays, in all crashes, at every step of reserving, appending and trimming. */
static void test_media_log__every_crash_point(void **state)
{
	struct media_lab *lab = *state;

	for (uint64_t point = 0; point < 40; point++) {
		for (int how = 0; how < VFS_SIM_CRASHES; how++) {
			uint64_t done = 0;
			int rc = 0;

			vfs_sim_close(lab->disk);
			assert_int_equal(vfs_sim_open(&lab->disk, DISK, point), 0);
			assert_int_equal(media_lab_open(lab, MEDIA_MAKE), 0);
			vfs_sim_stop_after(lab->disk, point);
			for (uint64_t i = 0; rc == 0 && i < 12; i++) {
				rc = MEDIA_CALL(lab->media, log_append, i * 5 * BLOCK,
						lab->data + i * 5 * BLOCK, 5 * BLOCK);
				done = rc == 0 ? (i + 1) * 5 * BLOCK : done;
				if (rc == 0 && i % 3 == 2)
					rc = MEDIA_CALL(lab->media, log_reserve,
							done + 2 * SEGMENT);
				if (rc == 0 && i == 9)
					rc = MEDIA_CALL(lab->media, log_trim, done - SEGMENT);
			}
			media_lab_crash(lab, how, point);
			assert_int_equal(media_lab_open(lab, MEDIA_WRITE), 0);
			uint64_t from = done > 2 * SEGMENT ? (done - SEGMENT) / BLOCK * BLOCK : 0;
			if (done > from)
				log_is(lab, from, lab->data + from, done - from);
			media_lab_close(lab);
		}
	}
}

/* Segments before the trimmed position are renamed to be the next ones; they keep what they held,
 * and no room is taken. */
static void test_media_log__segments_are_used_again(void **state)
{
	struct media_lab *lab = *state;
	uint64_t before = 0, after = 0, bytes = 0;

	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, 3 * SEGMENT), 0);
	assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &before), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_trim, 2 * SEGMENT + BLOCK), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, 5 * SEGMENT), 0);
	assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &after), 0);
	assert_int_equal(after, before);
	assert_null(vfs_sim_bytes(lab->disk, "log/0000000000000000", &bytes));
	log_is(lab, 3 * SEGMENT, lab->data, SEGMENT);
	log_is(lab, 4 * SEGMENT, lab->data + SEGMENT, SEGMENT);
	/* One that is not whole is not used. */
	assert_int_equal(MEDIA_CALL(lab->media, log_trim, 4 * SEGMENT), 0);
	media_lab_close(lab);
	lab->vfs = vfs_sim_vfs(lab->disk);
	struct vfs_file *file = NULL;
	assert_int_equal(
		VFS_CALL(lab->vfs, open, lab->vfs, "log/0000000000000002", VFS_WRITE, false, &file),
		0);
	assert_int_equal(VFS_CALL(lab->vfs, resize, file, BLOCK), 0);
	VFS_CALL(lab->vfs, close, file);
	assert_int_equal(media_lab_again(lab, MEDIA_WRITE), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_trim, 4 * SEGMENT), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, 6 * SEGMENT), 0);
	memset(lab->data, 0, SEGMENT);
	log_is(lab, 5 * SEGMENT, lab->data, SEGMENT);
}

/* However much was trimmed, few segments are kept for the next use. */
static void test_media_log__few_are_kept(void **state)
{
	struct media_lab *lab = *state;
	uint32_t names = 0;

	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, 30 * SEGMENT), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_trim, 29 * SEGMENT), 0);
	assert_int_equal(VFS_CALL(lab->vfs, list, lab->vfs, "log", media_lab_count_name, &names),
			 0);
	assert_int_equal(names, 5);
	log_is(lab, 29 * SEGMENT, lab->data + (size_t)29 * SEGMENT, SEGMENT);
}

/* After a cut there are zeros from there on, and what is before stays. */
static void test_media_log__cut(void **state)
{
	struct media_lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, 4 * SEGMENT), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_cut, SEGMENT + 3 * BLOCK), 0);
	media_lab_crash(lab, VFS_SIM_LOSE_ALL, 1);
	assert_int_equal(media_lab_open(lab, MEDIA_WRITE), 0);
	memset(lab->data + SEGMENT + 3 * BLOCK, 0, 3 * SEGMENT - 3 * BLOCK);
	log_is(lab, 0, lab->data, 4 * SEGMENT);
	assert_int_equal(MEDIA_CALL(lab->media, log_cut, 40 * (uint64_t)SEGMENT), 0);
}

/* A segment that somebody removed reads as zeros, not as the end, and can be written. */
static void test_media_log__a_hole_is_zeros(void **state)
{
	struct media_lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, 3 * SEGMENT), 0);
	assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "log/0000000000000001"), 0);
	assert_int_equal(media_lab_again(lab, MEDIA_WRITE), 0);
	memset(lab->data + SEGMENT, 0, SEGMENT);
	log_is(lab, 0, lab->data, 3 * SEGMENT);
	memset(lab->data + SEGMENT, 5, BLOCK);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, SEGMENT, lab->data + SEGMENT, BLOCK),
			 0);
	log_is(lab, 0, lab->data, 3 * SEGMENT);
	assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "log/0000000000000001"), 0);
	assert_int_equal(media_lab_again(lab, MEDIA_WRITE), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_cut, BLOCK), 0);
	memset(lab->data + BLOCK, 0, 3 * SEGMENT);
	log_is(lab, 0, lab->data, 3 * SEGMENT);
}

/* There is an end to how many segments there may be: as if there were no room. */
static void test_media_log__so_many_and_no_more(void **state)
{
	const struct media_options options = { .mode = MEDIA_MAKE, .segment_bytes = BLOCK };
	struct media_lab *lab = *state;

	lab->vfs = vfs_sim_vfs(lab->disk);
	assert_int_equal(media_file_open(&lab->media, lab->vfs, &options, &lab->err), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, UINT64_C(5000) * BLOCK), -ENOSPC);
	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, UINT64_C(4096) * BLOCK), 0);
	assert_int_equal(
		MEDIA_CALL(lab->media, log_append, UINT64_C(4096) * BLOCK, lab->data, BLOCK),
		-ENOSPC);
	assert_int_equal(MEDIA_CALL(lab->media, log_trim, UINT64_C(4000) * BLOCK), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, UINT64_C(5000) * BLOCK), 0);
}

/* Making a segment fails, and leaves nothing: it is tried again. What is no segment is let be. */
static void test_media_log__faults(void **state)
{
	static const enum vfs_sim_call calls[] = { VFS_SIM_RESIZE, VFS_SIM_WRITE, VFS_SIM_NAME };
	struct media_lab *lab = *state;
	struct vfs_file *file = NULL;
	uint32_t names = 0;

	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
		vfs_sim_fail(lab->disk, calls[i], 0, 1, -ENOSPC);
		assert_int_equal(MEDIA_CALL(lab->media, log_reserve, SEGMENT), -ENOSPC);
		assert_int_equal(
			VFS_CALL(lab->vfs, list, lab->vfs, "log", media_lab_count_name, &names), 0);
		assert_int_equal(names, 0);
	}
	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, SEGMENT), 0);
	assert_int_equal(VFS_CALL(lab->vfs, open, lab->vfs, "log/000000000000000X", VFS_CREATE,
				  false, &file),
			 0);
	VFS_CALL(lab->vfs, close, file);
	assert_int_equal(media_lab_again(lab, MEDIA_WRITE), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, UINT64_C(5000) * SEGMENT), -ENOSPC);
}

/* An append that failed is the last thing written; with no room on the disk nothing is broken. */
static void test_media_log__append_faults(void **state)
{
	struct media_lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, BLOCK), 0);
	vfs_sim_fail(lab->disk, VFS_SIM_WRITE, 0, 1, -ENOSPC);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, BLOCK, lab->data, BLOCK), -ENOSPC);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, BLOCK, lab->data, BLOCK), 0);
	vfs_sim_fail(lab->disk, VFS_SIM_SYNC, 0, 1, -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, 2 * BLOCK, lab->data, BLOCK), -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, 2 * BLOCK, lab->data, BLOCK), -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, log_trim, BLOCK), -EIO);
}

#define MADE_TEST(name)  cmocka_unit_test_setup_teardown(name, media_lab_made, media_lab_teardown)
#define EMPTY_TEST(name) cmocka_unit_test_setup_teardown(name, media_lab_empty, media_lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MADE_TEST(test_media_log__over_segments),
		MADE_TEST(test_media_log__reserved_is_zeros),
		EMPTY_TEST(test_media_log__every_crash_point),
		MADE_TEST(test_media_log__segments_are_used_again),
		MADE_TEST(test_media_log__few_are_kept),
		MADE_TEST(test_media_log__cut),
		MADE_TEST(test_media_log__a_hole_is_zeros),
		EMPTY_TEST(test_media_log__so_many_and_no_more),
		MADE_TEST(test_media_log__faults),
		MADE_TEST(test_media_log__append_faults),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
