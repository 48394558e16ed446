/* The media over files: who may open it, its root, its blobs and the segments of its log; what a
 * crash, a fault or damage leaves of them. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "lib/testlib.h"
#include "os/vfs_sim.h"
#include "store/media_state.h"

enum {
	BLOCK = MEDIA_ALIGN,
	DISK = 32 << 20,
	SEGMENT = 8 * BLOCK,
	DATA = 1 << 20,
	SEEDS = 6,
};

struct lab {
	struct vfs_sim *disk;
	struct vfs *vfs;
	struct media *media;
	struct haul_err err;
	uint8_t *data, *back;
};

static int lab_open(struct lab *lab, enum media_mode mode)
{
	const struct media_options options = { .mode = mode, .segment_bytes = SEGMENT };
	int rc;

	lab->vfs = vfs_sim_vfs(lab->disk);
	lab->err = (struct haul_err){ 0 };
	rc = media_file_open(&lab->media, lab->vfs, &options, &lab->err);
	if (rc < 0) {
		assert_int_equal(lab->err.code, rc);
		assert_true(strlen(lab->err.text) > 10);
		VFS_CALL(lab->vfs, close_all, lab->vfs);
		lab->vfs = NULL;
	}
	return rc;
}

static void lab_close(struct lab *lab)
{
	if (lab->media != NULL)
		lab->media->calls->close(lab->media);
	if (lab->vfs != NULL)
		VFS_CALL(lab->vfs, close_all, lab->vfs);
	lab->media = NULL;
	lab->vfs = NULL;
}

static int again(struct lab *lab, enum media_mode mode)
{
	lab_close(lab);
	return lab_open(lab, mode);
}

static int empty_setup(void **state)
{
	struct lab *lab = calloc(1, sizeof *lab);

	assert_non_null(lab);
	assert_int_equal(vfs_sim_open(&lab->disk, DISK, 1), 0);
	assert_int_equal(posix_memalign((void **)&lab->data, BLOCK, DATA), 0);
	assert_int_equal(posix_memalign((void **)&lab->back, BLOCK, DATA), 0);
	for (uint32_t i = 0; i < DATA; i++)
		lab->data[i] = (uint8_t)(i / 7 + i / BLOCK);
	*state = lab;
	return 0;
}

static int made_setup(void **state)
{
	int rc = empty_setup(state);

	return rc == 0 ? lab_open(*state, MEDIA_MAKE) : rc;
}

static int lab_teardown(void **state)
{
	struct lab *lab = *state;

	lab_close(lab);
	vfs_sim_close(lab->disk);
	free(lab->data);
	free(lab->back);
	free(lab);
	return 0;
}

static void crash(struct lab *lab, int how, uint64_t seed)
{
	struct prng prng;

	prng_init(&prng, seed);
	vfs_sim_crash(lab->disk, (enum vfs_sim_crash)how, &prng);
	lab_close(lab);
}

/* ---- opening ---- */

static int count_name(const char *name, void *arg)
{
	(void)name;
	++*(uint32_t *)arg;
	return 0;
}

/* A folder that is no store is said to be none, and nothing is put into it. */
static void test_media_open__not_a_store(void **state)
{
	struct lab *lab = *state;
	uint32_t names = 0;

	assert_int_equal(lab_open(lab, MEDIA_WRITE), -ENOENT);
	assert_non_null(strstr(lab->err.text, "not a store"));
	assert_int_equal(lab_open(lab, MEDIA_READ), -ENOENT);
	lab->vfs = vfs_sim_vfs(lab->disk);
	assert_int_equal(VFS_CALL(lab->vfs, list, lab->vfs, "", count_name, &names), 0);
	assert_int_equal(names, 0);
}

/* A store is made in a folder of its own: neither over another, nor beside what is no part of it.
 */
static void test_media_make__wants_an_empty_folder(void **state)
{
	struct lab *lab = *state;
	struct vfs_file *file = NULL;
	struct vfs *vfs = vfs_sim_vfs(lab->disk);

	assert_int_equal(VFS_CALL(vfs, open, vfs, "letters.txt", VFS_CREATE, false, &file), 0);
	VFS_CALL(vfs, close, file);
	assert_int_equal(lab_open(lab, MEDIA_MAKE), -EEXIST);
	assert_non_null(strstr(lab->err.text, "letters.txt"));
	assert_int_equal(VFS_CALL(vfs, unlink, vfs, "letters.txt"), 0);
	VFS_CALL(vfs, close_all, vfs);
	assert_int_equal(lab_open(lab, MEDIA_MAKE), 0);
	lab_close(lab);
	assert_int_equal(lab_open(lab, MEDIA_MAKE), -EEXIST);
	assert_non_null(strstr(lab->err.text, "already"));
	assert_int_equal(lab_open(lab, MEDIA_WRITE), 0);
}

/* Cut off at any step, making can be done again, or was done. */
static void test_media_make__every_crash_point(void **state)
{
	struct lab *lab = *state;
	bool stopped = true;

	for (uint64_t point = 0; stopped; point++) {
		for (uint64_t i = 0; i < VFS_SIM_CRASHES * (uint64_t)SEEDS; i++) {
			int rc;

			vfs_sim_close(lab->disk);
			assert_int_equal(vfs_sim_open(&lab->disk, DISK, i), 0);
			vfs_sim_stop_after(lab->disk, point);
			rc = lab_open(lab, MEDIA_MAKE);
			stopped = vfs_sim_stopped(lab->disk);
			assert_int_equal(rc, stopped ? -EIO : 0);
			crash(lab, (int)(i % VFS_SIM_CRASHES), i);
			rc = lab_open(lab, MEDIA_WRITE);
			assert_true(rc == 0 || rc == -ENOENT);
			if (rc < 0)
				assert_int_equal(lab_open(lab, MEDIA_MAKE), 0);
			assert_int_equal(MEDIA_CALL(lab->media, root_cas, 0, "root", 4), 0);
			assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, BLOCK),
					 0);
			lab_close(lab);
		}
		assert_true(point < 100);
	}
}

/* One writer, or many readers; who comes second is told what to do. */
static void test_media_open__one_writer_or_many_readers(void **state)
{
	struct lab *lab = *state;
	struct lab other = { .disk = lab->disk };

	assert_int_equal(lab_open(&other, MEDIA_WRITE), -EBUSY);
	assert_non_null(strstr(other.err.text, "open in another program"));
	assert_int_equal(lab_open(&other, MEDIA_READ), -EBUSY);
	assert_int_equal(again(lab, MEDIA_READ), 0);
	assert_int_equal(lab_open(&other, MEDIA_READ), 0);
	lab_close(&other);
	assert_int_equal(lab_open(&other, MEDIA_WRITE), -EBUSY);
	lab_close(lab);
	assert_int_equal(lab_open(&other, MEDIA_WRITE), 0);
	lab_close(&other);
}

/* Whoever opened for reading cannot write, and nothing is changed by opening and reading. */
static void test_media_open__read_only(void **state)
{
	struct lab *lab = *state;
	struct media *media;
	uint64_t steps, version;
	size_t bytes = DATA;

	assert_int_equal(MEDIA_CALL(lab->media, root_cas, 0, "first", 5), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, BLOCK), 0);
	assert_int_equal(MEDIA_CALL(lab->media, blob_put, 7, lab->data, BLOCK), 0);
	steps = vfs_sim_steps(lab->disk);
	assert_int_equal(again(lab, MEDIA_READ), 0);
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
	struct lab *lab = *state;
	struct media_options options = { .mode = MEDIA_MAKE, .segment_bytes = 1000 };
	struct media *media = NULL;

	lab->vfs = vfs_sim_vfs(lab->disk);
	assert_int_equal(media_file_open(&media, lab->vfs, &options, &lab->err), -EINVAL);
	options.segment_bytes = UINT64_C(1) << 40;
	assert_int_equal(media_file_open(&media, lab->vfs, &options, &lab->err), -EINVAL);
	assert_null(media);
	lab_close(lab);
	assert_int_equal(lab_open(lab, MEDIA_MAKE), 0);
	lab_close(lab);
	lab->vfs = vfs_sim_vfs(lab->disk);
	options = (struct media_options){ .mode = MEDIA_WRITE };
	assert_int_equal(media_file_open(&lab->media, lab->vfs, &options, &lab->err), 0);
	assert_int_equal(lab->media->segment_bytes, SEGMENT);
}

/* ---- root ---- */

static void root_set(struct lab *lab, uint64_t version)
{
	assert_int_equal(MEDIA_CALL(lab->media, root_cas, version - 1, &version, sizeof version),
			 0);
}

static uint64_t root_version(struct lab *lab)
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

static uint8_t *root_copy(struct lab *lab, uint32_t copy)
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
	struct lab *lab = *state;
	uint64_t version = 0;
	size_t bytes = DATA;

	assert_int_equal(root_version(lab), 0);
	assert_int_equal(MEDIA_CALL(lab->media, root_cas, 1, "x", 1), HAUL_ESTALE);
	for (uint64_t i = 1; i < 10; i++) {
		root_set(lab, i);
		assert_int_equal(MEDIA_CALL(lab->media, root_cas, i - 1, "x", 1), HAUL_ESTALE);
		assert_int_equal(root_version(lab), i);
		assert_int_equal(again(lab, i % 2 == 0 ? MEDIA_WRITE : MEDIA_READ), 0);
		assert_int_equal(root_version(lab), i);
		assert_int_equal(again(lab, MEDIA_WRITE), 0);
	}
	assert_int_equal(MEDIA_CALL(lab->media, root_cas, 9, lab->data, MEDIA_ROOT_MAX), 0);
	assert_int_equal(again(lab, MEDIA_WRITE), 0);
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
	struct lab *lab = *state;

	for (uint64_t point = 0; point < 9; point++) {
		for (uint64_t i = 0; i < VFS_SIM_CRASHES * (uint64_t)SEEDS; i++) {
			uint64_t last = root_version(lab), next = last + 1, seen;
			int rc;

			vfs_sim_stop_after(lab->disk, point);
			rc = MEDIA_CALL(lab->media, root_cas, last, &next, sizeof next);
			crash(lab, (int)(i % VFS_SIM_CRASHES), i);
			for (uint64_t step = 0; step < 8; step += 1 + i % 3) {
				vfs_sim_stop_after(lab->disk, step);
				if (lab_open(lab, MEDIA_WRITE) == 0)
					break;
				crash(lab, (int)(step % VFS_SIM_CRASHES), i);
			}
			lab_close(lab);
			vfs_sim_stop_after(lab->disk, UINT64_MAX);
			assert_int_equal(lab_open(lab, MEDIA_WRITE), 0);
			seen = root_version(lab);
			assert_true(seen == next || (rc < 0 && seen == last));
		}
	}
}

/* One copy may rot, whichever it is: it is put right, and then another may. */
static void test_media_root__one_copy_may_rot(void **state)
{
	struct lab *lab = *state;

	for (uint64_t version = 1; version < 12; version++) {
		root_set(lab, version);
		for (uint32_t copy = 0; copy < 4; copy++) {
			root_copy(lab, copy)[version * 300] ^= 0x10;
			assert_int_equal(again(lab, MEDIA_READ), 0);
			assert_int_equal(root_version(lab), version);
			assert_int_equal(again(lab, MEDIA_WRITE), 0);
			assert_int_equal(root_version(lab), version);
		}
	}
}

/* Two damaged copies may have been the newest root: it is not guessed. A crash leaves one. */
static void test_media_root__two_rotten_copies_are_refused(void **state)
{
	struct lab *lab = *state;

	for (uint32_t one = 0; one < 4; one++) {
		for (uint32_t two = one + 1; two < 4; two++) {
			root_set(lab, root_version(lab) + 1);
			root_copy(lab, one)[70] ^= 1;
			root_copy(lab, two)[70] ^= 1;
			lab_close(lab);
			assert_int_equal(lab_open(lab, MEDIA_WRITE), HAUL_ECORRUPT);
			assert_non_null(strstr(lab->err.text, "2 of 4"));
			assert_int_equal(lab_open(lab, MEDIA_READ), HAUL_ECORRUPT);
			root_copy(lab, one)[70] ^= 1;
			root_copy(lab, two)[70] ^= 1;
			assert_int_equal(lab_open(lab, MEDIA_WRITE), 0);
		}
	}
}

/* A copy in another's place, as a disk that writes to the wrong place leaves it, is a bad one. */
static void test_media_root__misplaced_copies(void **state)
{
	struct lab *lab = *state;

	root_set(lab, 1);
	root_set(lab, 2);
	memcpy(root_copy(lab, 3), root_copy(lab, 0), BLOCK);
	assert_int_equal(again(lab, MEDIA_WRITE), 0);
	assert_int_equal(root_version(lab), 2);
	vfs_sim_misdirect(lab->disk, 0, 2 * BLOCK);
	root_set(lab, 3);
	assert_int_equal(again(lab, MEDIA_WRITE), 0);
	assert_int_equal(root_version(lab), 3);
}

/* A newer version is said to be one, and nothing is put right. A flipped bit is none. */
static void test_media_root__newer_version(void **state)
{
	struct lab *lab = *state;
	uint8_t *copy;
	uint64_t check;

	root_set(lab, 1);
	copy = root_copy(lab, 2);
	copy[12]++;
	assert_int_equal(again(lab, MEDIA_READ), 0);
	check = XXH3_64bits(copy + sizeof check, BLOCK - sizeof check);
	memcpy(copy, &check, sizeof check);
	lab_close(lab);
	assert_int_equal(lab_open(lab, MEDIA_WRITE), HAUL_EVERSION);
	assert_non_null(strstr(lab->err.text, "newer"));
	assert_int_equal(lab_open(lab, MEDIA_READ), HAUL_EVERSION);
}

/* Copies that cannot be read may be read later: nothing is put right. */
static void test_media_root__unreadable(void **state)
{
	struct lab *lab = *state;

	root_set(lab, 1);
	lab_close(lab);
	vfs_sim_fail(lab->disk, VFS_SIM_READ, 1, 2, -EIO);
	assert_int_equal(lab_open(lab, MEDIA_WRITE), -EIO);
	assert_int_equal(lab_open(lab, MEDIA_WRITE), 0);
	assert_int_equal(root_version(lab), 1);
}

/* A root write that failed leaves a media that writes nothing any more. */
static void test_media_root__errors_are_final(void **state)
{
	struct lab *lab = *state;

	root_set(lab, 1);
	vfs_sim_fail(lab->disk, VFS_SIM_SYNC, 1, 1, -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, root_cas, 1, "x", 1), -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, root_cas, 1, "x", 1), -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, BLOCK), -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, blob_put, 1, lab->data, BLOCK), -EIO);
}

/* ---- blobs ---- */

static int32_t get(struct lab *lab, uint64_t blob, uint64_t offset, uint32_t bytes)
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
	struct lab *lab = *state;

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
	struct lab *lab = *state;
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
	struct lab *lab = *state;

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
	struct lab *lab = *state;
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

static void watch_begin(struct lab *lab)
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
	struct lab *lab = *state;

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
	struct lab *lab = *state;

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
	struct lab *lab = *state;

	for (uint64_t point = 0; point < 8; point++) {
		for (int how = 0; how < VFS_SIM_CRASHES; how++) {
			uint64_t blob = point * 10 + (uint64_t)how;
			int rc;

			vfs_sim_stop_after(lab->disk, point);
			rc = MEDIA_CALL(lab->media, blob_put, blob, lab->data, 3 * BLOCK + 5);
			crash(lab, how, point);
			assert_int_equal(lab_open(lab, MEDIA_WRITE), 0);
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
	struct lab *lab = *state;
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
	struct lab *lab = *state;

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
		assert_int_equal(again(lab, MEDIA_WRITE), 0);
	}
}

/* ---- log ---- */

static void log_is(struct lab *lab, uint64_t position, const uint8_t *data, size_t bytes)
{
	assert_int_equal(MEDIA_CALL(lab->media, log_read, position, lab->back, bytes), bytes);
	assert_memory_equal(lab->back, data, bytes);
}

/* Appends go over the ends of segments, and reads too; behind what is reserved there is nothing. */
static void test_media_log__over_segments(void **state)
{
	struct lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, log_read, 0, lab->back, BLOCK), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, 5 * BLOCK, lab->data, 20 * BLOCK), 0);
	log_is(lab, 5 * BLOCK, lab->data, 20 * BLOCK);
	assert_int_equal(again(lab, MEDIA_WRITE), 0);
	log_is(lab, 5 * BLOCK, lab->data, 20 * BLOCK);
	log_is(lab, 7 * BLOCK, lab->data + (size_t)2 * BLOCK, 3 * BLOCK);
	assert_int_equal(MEDIA_CALL(lab->media, log_read, 30 * BLOCK, lab->back, 20 * BLOCK),
			 2 * BLOCK);
	assert_int_equal(MEDIA_CALL(lab->media, log_read, 32 * BLOCK, lab->back, BLOCK), 0);
}

/* What is reserved is zeros, and is there after a crash. */
static void test_media_log__reserved_is_zeros(void **state)
{
	struct lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, 3 * SEGMENT - 1), 0);
	memset(lab->data, 0, 3 * SEGMENT);
	crash(lab, VFS_SIM_LOSE_ALL, 1);
	assert_int_equal(lab_open(lab, MEDIA_WRITE), 0);
	log_is(lab, 0, lab->data, 3 * SEGMENT);
	assert_int_equal(MEDIA_CALL(lab->media, log_read, 3 * SEGMENT, lab->back, BLOCK), 0);
}

/* What is durable stays, in all crashes, at every step of reserving, appending and trimming. */
static void test_media_log__every_crash_point(void **state)
{
	struct lab *lab = *state;

	for (uint64_t point = 0; point < 40; point++) {
		for (int how = 0; how < VFS_SIM_CRASHES; how++) {
			uint64_t done = 0;
			int rc = 0;

			vfs_sim_close(lab->disk);
			assert_int_equal(vfs_sim_open(&lab->disk, DISK, point), 0);
			assert_int_equal(lab_open(lab, MEDIA_MAKE), 0);
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
			crash(lab, how, point);
			assert_int_equal(lab_open(lab, MEDIA_WRITE), 0);
			uint64_t from = done > 2 * SEGMENT ? (done - SEGMENT) / BLOCK * BLOCK : 0;
			if (done > from)
				log_is(lab, from, lab->data + from, done - from);
			lab_close(lab);
		}
	}
}

/* Segments before the trimmed position are renamed to be the next ones; they keep what they held,
 * and no room is taken. */
static void test_media_log__segments_are_used_again(void **state)
{
	struct lab *lab = *state;
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
	lab_close(lab);
	lab->vfs = vfs_sim_vfs(lab->disk);
	struct vfs_file *file = NULL;
	assert_int_equal(
		VFS_CALL(lab->vfs, open, lab->vfs, "log/0000000000000002", VFS_WRITE, false, &file),
		0);
	assert_int_equal(VFS_CALL(lab->vfs, resize, file, BLOCK), 0);
	VFS_CALL(lab->vfs, close, file);
	assert_int_equal(again(lab, MEDIA_WRITE), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_trim, 4 * SEGMENT), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, 6 * SEGMENT), 0);
	memset(lab->data, 0, SEGMENT);
	log_is(lab, 5 * SEGMENT, lab->data, SEGMENT);
}

/* However much was trimmed, few segments are kept for the next use. */
static void test_media_log__few_are_kept(void **state)
{
	struct lab *lab = *state;
	uint32_t names = 0;

	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, 30 * SEGMENT), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_trim, 29 * SEGMENT), 0);
	assert_int_equal(VFS_CALL(lab->vfs, list, lab->vfs, "log", count_name, &names), 0);
	assert_int_equal(names, 5);
	log_is(lab, 29 * SEGMENT, lab->data + (size_t)29 * SEGMENT, SEGMENT);
}

/* After a cut there are zeros from there on, and what is before stays. */
static void test_media_log__cut(void **state)
{
	struct lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, 4 * SEGMENT), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_cut, SEGMENT + 3 * BLOCK), 0);
	crash(lab, VFS_SIM_LOSE_ALL, 1);
	assert_int_equal(lab_open(lab, MEDIA_WRITE), 0);
	memset(lab->data + SEGMENT + 3 * BLOCK, 0, 3 * SEGMENT - 3 * BLOCK);
	log_is(lab, 0, lab->data, 4 * SEGMENT);
	assert_int_equal(MEDIA_CALL(lab->media, log_cut, 40 * (uint64_t)SEGMENT), 0);
}

/* A segment that somebody removed reads as zeros, not as the end, and can be written. */
static void test_media_log__a_hole_is_zeros(void **state)
{
	struct lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, 3 * SEGMENT), 0);
	assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "log/0000000000000001"), 0);
	assert_int_equal(again(lab, MEDIA_WRITE), 0);
	memset(lab->data + SEGMENT, 0, SEGMENT);
	log_is(lab, 0, lab->data, 3 * SEGMENT);
	memset(lab->data + SEGMENT, 5, BLOCK);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, SEGMENT, lab->data + SEGMENT, BLOCK),
			 0);
	log_is(lab, 0, lab->data, 3 * SEGMENT);
	assert_int_equal(VFS_CALL(lab->vfs, unlink, lab->vfs, "log/0000000000000001"), 0);
	assert_int_equal(again(lab, MEDIA_WRITE), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_cut, BLOCK), 0);
	memset(lab->data + BLOCK, 0, 3 * SEGMENT);
	log_is(lab, 0, lab->data, 3 * SEGMENT);
}

/* There is an end to how many segments there may be: as if there were no room. */
static void test_media_log__so_many_and_no_more(void **state)
{
	const struct media_options options = { .mode = MEDIA_MAKE, .segment_bytes = BLOCK };
	struct lab *lab = *state;

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
	struct lab *lab = *state;
	struct vfs_file *file = NULL;
	uint32_t names = 0;

	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
		vfs_sim_fail(lab->disk, calls[i], 0, 1, -ENOSPC);
		assert_int_equal(MEDIA_CALL(lab->media, log_reserve, SEGMENT), -ENOSPC);
		assert_int_equal(VFS_CALL(lab->vfs, list, lab->vfs, "log", count_name, &names), 0);
		assert_int_equal(names, 0);
	}
	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, SEGMENT), 0);
	assert_int_equal(VFS_CALL(lab->vfs, open, lab->vfs, "log/000000000000000X", VFS_CREATE,
				  false, &file),
			 0);
	VFS_CALL(lab->vfs, close, file);
	assert_int_equal(again(lab, MEDIA_WRITE), 0);
	assert_int_equal(MEDIA_CALL(lab->media, log_reserve, UINT64_C(5000) * SEGMENT), -ENOSPC);
}

/* An append that failed is the last thing written; with no room on the disk nothing is broken. */
static void test_media_log__append_faults(void **state)
{
	struct lab *lab = *state;

	assert_int_equal(MEDIA_CALL(lab->media, log_append, 0, lab->data, BLOCK), 0);
	vfs_sim_fail(lab->disk, VFS_SIM_WRITE, 0, 1, -ENOSPC);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, BLOCK, lab->data, BLOCK), -ENOSPC);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, BLOCK, lab->data, BLOCK), 0);
	vfs_sim_fail(lab->disk, VFS_SIM_SYNC, 0, 1, -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, 2 * BLOCK, lab->data, BLOCK), -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, log_append, 2 * BLOCK, lab->data, BLOCK), -EIO);
	assert_int_equal(MEDIA_CALL(lab->media, log_trim, BLOCK), -EIO);
}

#define MADE_TEST(name)  cmocka_unit_test_setup_teardown(name, made_setup, lab_teardown)
#define EMPTY_TEST(name) cmocka_unit_test_setup_teardown(name, empty_setup, lab_teardown)

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
		MADE_TEST(test_media_blob__sizes),
		MADE_TEST(test_media_blob__list_and_delete),
		MADE_TEST(test_media_blob__again),
		MADE_TEST(test_media_blob__many),
		MADE_TEST(test_media_blob__no_lock_over_the_disk),
		MADE_TEST(test_media_blob__deleted_while_opened),
		MADE_TEST(test_media_blob__every_crash_point),
		MADE_TEST(test_media_blob__no_room),
		MADE_TEST(test_media_blob__faults),
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
