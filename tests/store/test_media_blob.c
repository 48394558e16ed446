/* The blobs of a media over files. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "media_lab.h"

enum { BLOCK = MEDIA_LAB_BLOCK, DATA = MEDIA_LAB_DATA };

static int32_t get(struct media_lab *lab, uint64_t blob, uint64_t offset, uint32_t bytes)
{
	struct media_read read = {
		.blob = blob, .offset = offset, .data = lab->back, .bytes = bytes, .result = 77
	};

	MEDIA_CALL(lab->media, blob_get, &read, 1);
	return read.result;
}

/* Blobs of all sizes, whole blocks or not, come back byte by byte, and end where they end. */
static void test_media_blob__sizes(void **state)
{
	static const uint32_t sizes[] = {
		1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7, DATA
	};
	struct media_lab *lab = *state;

	for (uint64_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		assert_int_equal(MEDIA_CALL(lab->media, blob_put, i, lab->data, sizes[i]), 0);
		assert_int_equal(MEDIA_CALL(lab->media, blob_bytes, i), sizes[i]);
		assert_int_equal(get(lab, i, 0, DATA), sizes[i]);
		assert_memory_equal(lab->back, lab->data, sizes[i]);
		assert_int_equal(get(lab, i, DATA, BLOCK), 0);
	}
	assert_int_equal(get(lab, 5, 5 * BLOCK, BLOCK), 7);
	assert_memory_equal(lab->back, lab->data + (size_t)5 * BLOCK, 7);
}

static int blob_sum(uint64_t blob, void *arg)
{
	*(uint64_t *)arg += blob;
	return 0;
}

/* What is put is listed until it is deleted, and then it is not there. */
static void test_media_blob__list_and_delete(void **state)
{
	struct media_lab *lab = *state;
	uint64_t sum = 0;

	for (uint64_t blob = 1; blob < 1000; blob *= 10)
		assert_int_equal(MEDIA_CALL(lab->media, blob_put, blob, lab->data, BLOCK), 0);
	assert_int_equal(get(lab, 10, 0, BLOCK), BLOCK);
	assert_int_equal(MEDIA_CALL(lab->media, blob_delete, 10), 0);
	assert_int_equal(MEDIA_CALL(lab->media, blob_delete, 10), -ENOENT);
	assert_int_equal(get(lab, 10, 0, BLOCK), -ENOENT);
	assert_int_equal(MEDIA_CALL(lab->media, blob_bytes, 10), -ENOENT);
	assert_int_equal(MEDIA_CALL(lab->media, blob_list, blob_sum, &sum), 0);
	assert_int_equal(sum, 101);
}

/* A number that is put again is what was put last, also for who has read it before. */
static void test_media_blob__again(void **state)
{
	struct media_lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, blob_put, 3, lab->data, 2 * BLOCK), 0);
	assert_int_equal(get(lab, 3, 0, BLOCK), BLOCK);
	assert_int_equal(MEDIA_CALL(lab->media, blob_put, 3, lab->data + BLOCK, BLOCK), 0);
	assert_int_equal(get(lab, 3, 0, 2 * BLOCK), BLOCK);
	assert_memory_equal(lab->back, lab->data + BLOCK, BLOCK);
}

/* More blobs than are kept open, in reads that take many at once, some of which are not there. */
static void test_media_blob__many(void **state)
{
	enum { BLOBS = 1100, READS = 200 };
	struct media_lab *lab = *state;
	struct media_read reads[READS];
	struct prng prng;

	test_prng(&prng);
	for (uint64_t blob = 0; blob < BLOBS; blob++) {
		memcpy(lab->data, &blob, sizeof blob);
		assert_int_equal(MEDIA_CALL(lab->media, blob_put, blob, lab->data, BLOCK), 0);
	}
	for (uint32_t round = 0; round < 50; round++) {
		for (uint32_t i = 0; i < READS; i++)
			reads[i] = (struct media_read){ .blob = prng_below(&prng, BLOBS + 50),
							.data = lab->back + (size_t)i * BLOCK,
							.bytes = BLOCK };
		MEDIA_CALL(lab->media, blob_get, reads, READS);
		for (uint32_t i = 0; i < READS; i++) {
			assert_int_equal(reads[i].result, reads[i].blob < BLOBS ? BLOCK : -ENOENT);
			if (reads[i].blob < BLOBS)
				assert_memory_equal(reads[i].data, &reads[i].blob, 8);
		}
	}
}

/* Calls that look at the lock of the blobs; `open` can delete the blob that it has opened. */
static struct {
	struct vfs_calls calls;
	const struct vfs_calls *real;
	struct media *media;
	uint32_t opened, closed;
	bool deletes;
} watch;

static void watch_free(void)
{
	struct media_blobs *blobs = &media_file_of(watch.media)->blobs;

	assert_int_equal(pthread_mutex_trylock(&blobs->lock), 0);
	pthread_mutex_unlock(&blobs->lock);
}

static int watch_open(struct vfs *vfs, const char *name, enum vfs_mode mode, bool direct,
		      struct vfs_file **ret_file)
{
	int rc = watch.real->open(vfs, name, mode, direct, ret_file);

	watch_free();
	watch.opened++;
	if (watch.deletes && mode == VFS_READ) {
		watch.deletes = false;
		assert_int_equal(MEDIA_CALL(watch.media, blob_delete, 1), 0);
	}
	return rc;
}

static void watch_close(struct vfs_file *file)
{
	watch_free();
	watch.closed++;
	watch.real->close(file);
}

static int watch_unlink(struct vfs *vfs, const char *name)
{
	watch_free();
	return watch.real->unlink(vfs, name);
}

static void watch_begin(struct media_lab *lab)
{
	watch.real = lab->vfs->calls;
	watch.calls = *watch.real;
	watch.media = lab->media;
	watch.opened = watch.closed = 0;
	watch.deletes = false;
	watch.calls.open = watch_open;
	watch.calls.close = watch_close;
	watch.calls.unlink = watch_unlink;
	lab->vfs->calls = &watch.calls;
}

/* Reads of some blobs do not wait for the opening, closing or deleting of others: closing a file
 * that was deleted takes as long as the disk takes to get its blocks back. */
static void test_media_blob__no_lock_over_the_disk(void **state)
{
	enum { BLOBS = MEDIA_BLOBS_OPEN + 9 };
	struct media_lab *lab = *state;

	watch_begin(lab);
	for (uint64_t blob = 0; blob < BLOBS; blob++) {
		assert_int_equal(MEDIA_CALL(lab->media, blob_put, blob, lab->data, BLOCK), 0);
		assert_int_equal(get(lab, blob, 0, BLOCK), BLOCK);
	}
	assert_int_equal(watch.opened, 2 * BLOBS);
	assert_int_equal(watch.closed, BLOBS + 9);
	for (uint64_t blob = 0; blob < BLOBS; blob++)
		assert_int_equal(MEDIA_CALL(lab->media, blob_delete, blob), 0);
	assert_int_equal(watch.closed, watch.opened);
	lab->vfs->calls = watch.real;
}

/* A blob that is deleted while somebody opens it is not kept open: it is not there. */
static void test_media_blob__deleted_while_opened(void **state)
{
	struct media_lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, blob_put, 1, lab->data, BLOCK), 0);
	watch_begin(lab);
	watch.deletes = true;
	assert_int_equal(get(lab, 1, 0, BLOCK), -ENOENT);
	assert_int_equal(watch.opened, 2); /* the second one found nothing */
	assert_int_equal(watch.closed, 1);
	lab->vfs->calls = watch.real;
}

/* At every step, in all ways: a blob that was told is there, whole. */
static void test_media_blob__every_crash_point(void **state)
{
	struct media_lab *lab = *state;

	for (uint64_t point = 0; point < 8; point++) {
		for (int how = 0; how < VFS_SIM_CRASHES; how++) {
			uint64_t blob = point * 10 + (uint64_t)how;
			int rc;

			vfs_sim_stop_after(lab->disk, point);
			rc = MEDIA_CALL(lab->media, blob_put, blob, lab->data, 3 * BLOCK + 5);
			media_lab_crash(lab, how, point);
			assert_int_equal(media_lab_open(lab, MEDIA_WRITE), 0);
			if (rc < 0)
				continue;
			assert_int_equal(get(lab, blob, 0, DATA), 3 * BLOCK + 5);
			assert_memory_equal(lab->back, lab->data, 3 * BLOCK + 5);
		}
	}
}

/* Without room a blob is not made, leaves nothing behind, and can be made when there is room. */
static void test_media_blob__no_room(void **state)
{
	struct media_lab *lab = *state;
	uint64_t blob = 0, before = 0, after = 0;
	int rc;

	do {
		assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &before), 0);
		rc = MEDIA_CALL(lab->media, blob_put, ++blob, lab->data, DATA);
	} while (rc == 0);
	assert_int_equal(rc, -ENOSPC);
	assert_int_equal(get(lab, blob, 0, BLOCK), -ENOENT);
	assert_int_equal(MEDIA_CALL(lab->media, blob_delete, 1), 0);
	assert_int_equal(MEDIA_CALL(lab->media, blob_put, 500, lab->data, BLOCK), 0);
	assert_int_equal(VFS_CALL(lab->vfs, space, lab->vfs, &after), 0);
	assert_true(after >= before + DATA - BLOCK);
	assert_int_equal(MEDIA_CALL(lab->media, blob_put, blob, lab->data, DATA), 0);
}

/* A write that failed may be tried again; a sync that failed is the end. */
static void test_media_blob__faults(void **state)
{
	static const enum vfs_sim_call calls[] = { VFS_SIM_WRITE, VFS_SIM_RESIZE, VFS_SIM_NAME };
	struct media_lab *lab = *state;

	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
		vfs_sim_fail(lab->disk, calls[i], 0, 1, -EIO);
		assert_int_equal(MEDIA_CALL(lab->media, blob_put, i, lab->data, BLOCK), -EIO);
		assert_int_equal(get(lab, i, 0, BLOCK), -ENOENT);
		assert_int_equal(MEDIA_CALL(lab->media, blob_put, i, lab->data, BLOCK), 0);
	}
	vfs_sim_fail(lab->disk, VFS_SIM_NAME, 0, 1, -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, blob_put, 1, lab->data, BLOCK), -EIO);
	assert_int_equal(get(lab, 1, 0, BLOCK), BLOCK);
	vfs_sim_fail(lab->disk, VFS_SIM_READ, 0, 1, -EIO);
	assert_int_equal(get(lab, 0, 0, BLOCK), -EIO);
	assert_int_equal(get(lab, 0, 0, BLOCK), BLOCK);
	for (uint64_t skip = 0; skip < 2; skip++) {
		vfs_sim_fail(lab->disk, VFS_SIM_SYNC, skip, 1, -EIO);
		assert_int_equal(MEDIA_CALL(lab->media, blob_put, 50, lab->data, BLOCK), -EIO);
		assert_int_equal(MEDIA_CALL(lab->media, blob_put, 51, lab->data, BLOCK), -EIO);
		assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, BLOCK), -EIO);
		assert_int_equal(get(lab, 0, 0, BLOCK), BLOCK);
		assert_int_equal(media_lab_again(lab, MEDIA_WRITE), 0);
	}
}

#define MADE_TEST(name) cmocka_unit_test_setup_teardown(name, media_lab_made, media_lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MADE_TEST(test_media_blob__sizes),
		MADE_TEST(test_media_blob__list_and_delete),
		MADE_TEST(test_media_blob__again),
		MADE_TEST(test_media_blob__many),
		MADE_TEST(test_media_blob__no_lock_over_the_disk),
		MADE_TEST(test_media_blob__deleted_while_opened),
		MADE_TEST(test_media_blob__every_crash_point),
		MADE_TEST(test_media_blob__no_room),
		MADE_TEST(test_media_blob__faults),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
