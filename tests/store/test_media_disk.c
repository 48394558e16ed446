/* The media and the log on real file systems, with direct I/O and without. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/vfs_lab.h"
#include "store/log.h"

enum { BLOCK = MEDIA_ALIGN, SEGMENT = 1 << 20, BUFFER = 1 << 20 };

static const uint8_t uuid[16] = { 1, 2, 3 };

struct disk {
	struct vfs_lab lab;
	struct media *media;
	struct log *log;
};

static void disk_open(struct disk *disk, const struct vfs_lab_kind *kind)
{
	const struct media_options options = { .mode = MEDIA_MAKE, .segment_bytes = SEGMENT };
	const struct log_place place = { 0 };

	vfs_lab_open(&disk->lab, kind);
	assert_int_equal(media_file_open(&disk->media, disk->lab.vfs, &options, NULL), 0);
	assert_int_equal(log_open(&disk->log, disk->media, uuid, &place, BUFFER), 0);
}

static void disk_close(struct disk *disk)
{
	log_close(disk->log);
	disk->media->calls->close(disk->media);
	vfs_lab_close(&disk->lab);
}

static void append(struct disk *disk, uint64_t op, uint32_t bytes)
{
	const struct log_part part = { .data = disk->lab.data, .bytes = bytes };
	uint64_t durable = 0;

	assert_int_equal(log_room(disk->log, bytes), 0);
	assert_int_equal(log_put(disk->log, op, &part, 1), 0);
	assert_int_equal(log_write(disk->log, &durable), 0);
	assert_int_equal(durable, op);
}

static int told(const struct log_place *behind, const uint8_t *frame, uint32_t bytes, void *arg)
{
	uint64_t *ops = arg;

	(void)bytes;
	assert_int_equal(behind->op, *ops + 1);
	assert_int_equal(frame[0], 0);
	*ops = behind->op;
	return 0;
}

static void over_real(void (*body)(struct disk *disk))
{
	struct vfs_lab_kind kinds[VFS_LAB_KINDS];
	uint32_t count = vfs_lab_kinds(kinds);

	for (uint32_t i = 0; i < count; i++) {
		struct disk disk = { .media = NULL };

		if (kinds[i].sim)
			continue;
		disk_open(&disk, &kinds[i]);
		body(&disk);
		disk_close(&disk);
	}
}

static void lone(struct disk *disk)
{
	uint64_t before;

	append(disk, 1, 100);
	assert_int_equal(log_reserve_ahead(disk->log), 1);
	for (uint64_t op = 2; op < 40; op++) {
		before = disk->lab.vfs->syscalls;
		append(disk, op, 100 * (uint32_t)op);
		assert_int_equal(disk->lab.vfs->syscalls, before + 1);
	}
}

/* A lone commit of a small record is one system call. */
static void test_log_disk__a_lone_append_is_one_call(void **state)
{
	(void)state;
	over_real(lone);
}

static uint64_t blocks_of(const char *folder, const char *name)
{
	struct stat st = { .st_size = 0 };
	char path[256];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks;
}

static void whole(struct disk *disk)
{
	const struct log_from from = { .uuid = uuid };
	struct log_report report;
	uint64_t ops = 0, blocks;

	assert_int_equal(log_reserve_ahead(disk->log), 1);
	blocks = blocks_of(disk->lab.folder, "log/0000000000000000");
	assert_true(blocks * 512 >= SEGMENT);
	for (uint64_t op = 1; op <= 60; op++)
		append(disk, op, 1 + (uint32_t)op * 1500);
	assert_int_equal(blocks_of(disk->lab.folder, "log/0000000000000000"), blocks);
	assert_int_equal(log_mark(disk->log), 0);
	assert_int_equal(log_replay(disk->media, &from, told, &ops, &report), 0);
	assert_int_equal(ops, 60);
	assert_int_equal(report.verdict, LOG_END);
}

/* Segments have all their blocks before the first append, and what was appended over the ends of
 * some is replayed. */
static void test_log_disk__comes_back(void **state)
{
	(void)state;
	over_real(whole);
}

/* Another process is told that the store is open, and can have it when this one is gone. */
static void test_media_disk__second_process(void **state)
{
	static const struct vfs_lab_kind kind = { .name = "disk" };
	const struct media_options options = { .mode = MEDIA_WRITE };
	struct disk disk;
	int status = 0;

	(void)state;
	disk_open(&disk, &kind);
	for (int round = 0; round < 2; round++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			struct haul_err err = { 0 };
			struct media *media = NULL;
			struct vfs *vfs = NULL;
			int rc = vfs_linux_open(&vfs, disk.lab.folder);

			if (rc == 0)
				rc = media_file_open(&media, vfs, &options, &err);
			_exit(rc == 0 ? 0 : rc == -EBUSY && err.text[0] != '\0' ? 1 : 2);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(WEXITSTATUS(status), round == 0);
		if (round == 0) {
			log_close(disk.log);
			disk.media->calls->close(disk.media);
			VFS_CALL(disk.lab.vfs, close_all, disk.lab.vfs);
		}
	}
	disk.lab.vfs = vfs_lab_another(&disk.lab);
	vfs_lab_close(&disk.lab);
}

static int ignore(const struct log_place *behind, const uint8_t *frame, uint32_t bytes, void *arg)
{
	(void)behind;
	(void)frame;
	(void)bytes;
	(void)arg;
	return 0;
}

/* Without memory, whichever allocation it is, opening and replaying say so and leave all as it was:
 * the next attempt succeeds. */
static void test_media_disk__without_memory(void **state)
{
	static const struct vfs_lab_kind kind = { .name = "disk" };
	const struct media_options options = { .mode = MEDIA_WRITE };
	const struct log_from from = { .uuid = uuid };
	struct log_report report = { .records = 77 };
	struct disk disk;
	int rc = -ENOMEM;

	(void)state;
	disk_open(&disk, &kind);
	append(&disk, 1, 100);
	append(&disk, 2, 2 << 18);
	for (uint32_t step = 0; step < 2; step++)
		for (uint32_t successes = 0; successes < 4 && test_malloc_fail(successes);
		     successes++) {
			struct log *log = NULL;

			rc = step == 0 ? log_replay(disk.media, &from, ignore, NULL, &report)
				       : log_open(&log, disk.media, uuid, &from.place, BUFFER);
			assert_true(rc == 0 || rc == -ENOMEM);
			assert_true(rc == 0 || report.records == 77 || step == 1);
			log_close(log);
		}
	log_close(disk.log);
	disk.media->calls->close(disk.media);
	/* The lock is the vfs's. */
	VFS_CALL(disk.lab.vfs, close_all, disk.lab.vfs);
	disk.lab.vfs = vfs_lab_another(&disk.lab);
	rc = -ENOMEM;
	for (uint32_t successes = 0; rc == -ENOMEM && test_malloc_fail(successes); successes++) {
		struct haul_err err = { 0 };

		assert_true(successes < 20);
		rc = media_file_open(&disk.media, disk.lab.vfs, &options, &err);
		if (rc == -ENOMEM) {
			assert_int_equal(err.code, -ENOMEM);
			VFS_CALL(disk.lab.vfs, close_all, disk.lab.vfs);
			disk.lab.vfs = vfs_lab_another(&disk.lab);
		}
	}
	(void)test_malloc_fail(UINT32_MAX); /* what is left of the last is for nobody else */
	if (rc == -ENOMEM)                  /* allocations cannot be made to fail here */
		rc = media_file_open(&disk.media, disk.lab.vfs, &options, NULL);
	assert_int_equal(rc, 0);
	disk.log = NULL;
	disk_close(&disk);
}

enum { READERS = 4, BLOBS = 150, BATCH = 16 };

struct reader {
	struct media *media;
	uint64_t seed;
	_Atomic uint64_t *made; /* blobs before it are there, or deleted */
	_Atomic bool *stop;
	uint32_t wrong, found;
};

static void *reader_run(void *arg)
{
	struct reader *reader = arg;
	struct media_read reads[BATCH];
	uint8_t *memory = NULL;
	struct prng prng;

	prng_init(&prng, reader->seed);
	if (posix_memalign((void **)&memory, BLOCK, BATCH * BLOCK) != 0)
		return NULL;
	while (!*reader->stop) {
		for (uint32_t i = 0; i < BATCH; i++)
			reads[i] = (struct media_read){ .blob = prng_below(&prng,
									   (uint32_t)*reader->made),
							.data = memory + (size_t)i * BLOCK,
							.bytes = BLOCK };
		MEDIA_CALL(reader->media, blob_get, reads, BATCH);
		for (uint32_t i = 0; i < BATCH; i++) {
			bool there = reads[i].result == BLOCK;

			reader->found += there;
			reader->wrong += there ? memcmp(reads[i].data, &reads[i].blob, 8) != 0
					       : reads[i].result != -ENOENT;
		}
	}
	free(memory);
	return reader;
}

/* Blobs are read while others are made, and while they are deleted. */
static void test_media_disk__threads(void **state)
{
	static const struct vfs_lab_kind kind = { .name = "disk" };
	_Atomic bool stop = false;
	_Atomic uint64_t made = 1;
	struct reader readers[READERS];
	pthread_t threads[READERS];
	struct disk disk;
	struct prng prng;

	(void)state;
	test_prng(&prng);
	disk_open(&disk, &kind);
	assert_int_equal(MEDIA_CALL(disk.media, blob_put, 0, disk.lab.data, BLOCK), 0);
	for (uint32_t i = 0; i < READERS; i++) {
		readers[i] = (struct reader){
			.media = disk.media, .seed = i, .made = &made, .stop = &stop
		};
		assert_int_equal(pthread_create(&threads[i], NULL, reader_run, &readers[i]), 0);
	}
	while (made < BLOBS) {
		uint64_t blob = made;

		memcpy(disk.lab.data, &blob, sizeof blob);
		assert_int_equal(MEDIA_CALL(disk.media, blob_put, blob, disk.lab.data, BLOCK), 0);
		made = blob + 1;
		if (blob % 2 == 1)
			(void)MEDIA_CALL(disk.media, blob_delete,
					 prng_below(&prng, (uint32_t)blob));
	}
	stop = true;
	for (uint32_t i = 0; i < READERS; i++) {
		void *ended = NULL;

		assert_int_equal(pthread_join(threads[i], &ended), 0);
		assert_non_null(ended);
		assert_int_equal(readers[i].wrong, 0);
	}
	disk_close(&disk);
}

static void *ahead_run(void *arg)
{
	struct disk *disk = arg;
	int rc = 0;

	while (rc >= 0 && log_durable(disk->log) < 400)
		rc = log_reserve_ahead(disk->log);
	return rc < 0 ? NULL : disk;
}

/* One thread makes segments ahead and uses old ones again while another appends. */
static void test_log_disk__segments_are_made_meanwhile(void **state)
{
	static const struct vfs_lab_kind kind = { .name = "disk" };
	struct log_from from = { .uuid = uuid };
	struct log_report report;
	uint64_t ops = 0;
	pthread_t thread;
	void *ended = NULL;
	struct disk disk;

	(void)state;
	disk_open(&disk, &kind);
	assert_int_equal(pthread_create(&thread, NULL, ahead_run, &disk), 0);
	for (uint64_t op = 1; op <= 400; op++) {
		append(&disk, op, 40000);
		if (op % 100 != 0)
			continue;
		from.place = log_place(disk.log);
		ops = op;
		assert_int_equal(MEDIA_CALL(disk.media, log_trim, from.place.position), 0);
	}
	assert_int_equal(pthread_join(thread, &ended), 0);
	assert_non_null(ended);
	assert_int_equal(log_replay(disk.media, &from, told, &ops, &report), 0);
	assert_int_equal(ops, 400);
	disk_close(&disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_log_disk__a_lone_append_is_one_call),
		cmocka_unit_test(test_log_disk__comes_back),
		cmocka_unit_test(test_media_disk__second_process),
		cmocka_unit_test(test_media_disk__without_memory),
		cmocka_unit_test(test_media_disk__threads),
		cmocka_unit_test(test_log_disk__segments_are_made_meanwhile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
