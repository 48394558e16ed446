/* What a real file system says when it is full, may only be read, or dies: the media says it in
 * words, loses nothing, and goes on when it can. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "os/loop_lab.h"
#include "os/vfs.h"
#include "store/log.h"

enum { MIB = 1 << 20, BLOCK = MEDIA_ALIGN, SEGMENT = 1 << 20, BUFFER = 1 << 20 };

static const uint8_t uuid[16] = { 7 };

struct bench {
	struct loop_lab lab;
	struct vfs *vfs;
	struct media *media;
	struct log *log;
	struct log_report report;
	struct haul_err err;
	uint8_t *data;
};

static int bench_media(struct bench *bench, enum media_mode mode)
{
	const struct media_options options = { .mode = mode, .segment_bytes = SEGMENT };
	char path[160];
	int rc;

	snprintf(path, sizeof path, "%s/store", bench->lab.folder);
	assert_int_equal(vfs_linux_open(&bench->vfs, path), 0);
	rc = media_file_open(&bench->media, bench->vfs, &options, &bench->err);
	if (rc < 0) {
		VFS_CALL(bench->vfs, close_all, bench->vfs);
		bench->vfs = NULL;
	}
	return rc;
}

static void bench_open(struct bench *bench)
{
	const struct log_place place = { 0 };
	struct vfs *vfs = NULL;

	memset(bench, 0, sizeof *bench);
	loop_lab_open(&bench->lab, 24 * MIB, MIB, 0);
	assert_int_equal(posix_memalign((void **)&bench->data, BLOCK, MIB), 0);
	memset(bench->data, 3, MIB);
	assert_int_equal(vfs_linux_open(&vfs, bench->lab.folder), 0);
	assert_int_equal(VFS_CALL(vfs, make_folder, vfs, "store"), 0);
	VFS_CALL(vfs, close_all, vfs);
	assert_int_equal(bench_media(bench, MEDIA_MAKE), 0);
	assert_int_equal(log_open(&bench->log, bench->media, uuid, &place, BUFFER), 0);
}

static void bench_shut(struct bench *bench)
{
	log_close(bench->log);
	bench->log = NULL;
	if (bench->vfs == NULL)
		return;
	bench->media->calls->close(bench->media);
	VFS_CALL(bench->vfs, close_all, bench->vfs);
	bench->vfs = NULL;
}

static void bench_close(struct bench *bench)
{
	bench_shut(bench);
	free(bench->data);
	loop_lab_close(&bench->lab);
}

static int append(struct bench *bench, uint64_t op)
{
	const struct log_part part = { .data = bench->data, .bytes = 50000 };
	uint64_t durable;
	int rc = log_room(bench->log, part.bytes);

	if (rc == 0)
		rc = log_put(bench->log, op, &part, 1);
	return rc < 0 ? rc : log_write(bench->log, &durable);
}

static int count_op(const struct log_place *behind, const uint8_t *frame, uint32_t bytes, void *arg)
{
	(void)frame;
	(void)bytes;
	*(uint64_t *)arg = behind->op;
	return 0;
}

static uint64_t replayed(struct bench *bench)
{
	const struct log_from from = { .uuid = uuid };
	uint64_t op = 0;

	assert_int_equal(log_replay(bench->media, &from, count_op, &op, &bench->report), 0);
	return op;
}

/* A full disk: what is reserved can be written; then it is told before anything happened; tables
 * are not made by half; and all goes on when there is room. */
static void test_media_loop__full_disk(void **state)
{
	static struct bench bench;
	uint64_t op = 0, blob = 1;
	int rc;

	(void)state;
	bench_open(&bench);
	assert_int_equal(append(&bench, ++op), 0);
	loop_lab_fill(&bench.lab, true);
	while ((rc = append(&bench, op + 1)) == 0)
		op++;
	assert_int_equal(rc, -ENOSPC);
	assert_true(op > 5);
	assert_int_equal(log_reserve_ahead(bench.log), -ENOSPC);
	assert_int_equal(MEDIA_CALL(bench.media, blob_put, blob, bench.data, MIB), -ENOSPC);
	assert_int_equal(MEDIA_CALL(bench.media, blob_bytes, blob), -ENOENT);
	assert_int_equal(MEDIA_CALL(bench.media, root_cas, 0, "root", 4), 0);
	loop_lab_fill(&bench.lab, false);
	assert_int_equal(append(&bench, ++op), 0);
	assert_int_equal(MEDIA_CALL(bench.media, blob_put, blob, bench.data, MIB), 0);
	bench_shut(&bench);
	assert_int_equal(bench_media(&bench, MEDIA_WRITE), 0);
	assert_int_equal(replayed(&bench), op);
	bench_close(&bench);
}

/* Room that is not there is refused at once, and what there was of it is given back. */
static void test_vfs_loop__no_room_takes_none(void **state)
{
	struct vfs_file *file = NULL;
	uint64_t before = 0, after = 0;
	struct vfs *vfs = NULL;
	struct loop_lab lab;

	(void)state;
	loop_lab_open(&lab, 24 * MIB, MIB, 0);
	assert_int_equal(vfs_linux_open(&vfs, lab.folder), 0);
	assert_int_equal(VFS_CALL(vfs, open, vfs, "file", VFS_CREATE, true, &file), 0);
	assert_int_equal(VFS_CALL(vfs, space, vfs, &before), 0);
	assert_int_equal(VFS_CALL(vfs, resize, file, before + 4 * MIB), -ENOSPC);
	assert_int_equal(VFS_CALL(vfs, size, file), 0);
	assert_int_equal(VFS_CALL(vfs, space, vfs, &after), 0);
	assert_int_equal(after, before);
	VFS_CALL(vfs, close, file);
	VFS_CALL(vfs, close_all, vfs);
	loop_lab_close(&lab);
}

/* No room for a store: what was begun can be made again. */
static void test_media_loop__no_room_for_a_store(void **state)
{
	static struct bench bench;
	struct vfs *vfs = NULL;

	(void)state;
	memset(&bench, 0, sizeof bench);
	loop_lab_open(&bench.lab, 24 * MIB, MIB, 0);
	assert_int_equal(vfs_linux_open(&vfs, bench.lab.folder), 0);
	assert_int_equal(VFS_CALL(vfs, make_folder, vfs, "store"), 0);
	VFS_CALL(vfs, close_all, vfs);
	loop_lab_fill(&bench.lab, true);
	assert_int_equal(bench_media(&bench, MEDIA_MAKE), -ENOSPC);
	assert_true(strlen(bench.err.text) > 10);
	assert_int_equal(bench_media(&bench, MEDIA_WRITE), -ENOENT);
	loop_lab_fill(&bench.lab, false);
	assert_int_equal(bench_media(&bench, MEDIA_MAKE), 0);
	bench_close(&bench);
}

/* A file system that may only be read: writing is refused in words, reading works. */
static void test_media_loop__read_only_disk(void **state)
{
	static struct bench bench;

	(void)state;
	bench_open(&bench);
	assert_int_equal(append(&bench, 1), 0);
	/* Where nobody can write, there need be no lock. */
	assert_int_equal(VFS_CALL(bench.vfs, unlink, bench.vfs, "lock"), 0);
	bench_shut(&bench);
	/* The device that the lab has on it would keep it writable. */
	close(bench.lab.device_fd);
	bench.lab.device_fd = -1;
	assert_int_equal(
		mount(NULL, bench.lab.folder, NULL, MS_REMOUNT | MS_RDONLY | MS_BIND, NULL), 0);
	assert_int_equal(bench_media(&bench, MEDIA_WRITE), -EROFS);
	assert_non_null(strstr(bench.err.text, "read-only"));
	assert_int_equal(bench_media(&bench, MEDIA_READ), 0);
	assert_int_equal(replayed(&bench), 1);
	assert_int_equal(bench.report.verdict, LOG_END);
	assert_int_equal(MEDIA_CALL(bench.media, blob_put, 1, bench.data, BLOCK), -EROFS);
	bench_close(&bench);
}

/* A file system that dies: the commit that meets it fails, and so do all after it. */
static void test_media_loop__dead_disk(void **state)
{
	static struct bench bench;

	(void)state;
	bench_open(&bench);
	assert_int_equal(append(&bench, 1), 0);
	loop_lab_kill(&bench.lab);
	assert_int_equal(append(&bench, 2), -EIO);
	assert_int_equal(append(&bench, 2), -EIO);
	assert_int_equal(log_durable(bench.log), 1);
	assert_int_equal(MEDIA_CALL(bench.media, blob_put, 1, bench.data, BLOCK), -EIO);
	bench_close(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_media_loop__full_disk),
		cmocka_unit_test(test_vfs_loop__no_room_takes_none),
		cmocka_unit_test(test_media_loop__no_room_for_a_store),
		cmocka_unit_test(test_media_loop__read_only_disk),
		cmocka_unit_test(test_media_loop__dead_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
