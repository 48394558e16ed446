/* What a kernel really says when a device has no room, cannot be read, or may not be written. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "os/io_lab.h"
#include "os/loop_lab.h"

enum { MIB = 1 << 20, BLOCK = LAB_BLOCK };

/* One engine on one open file. */
struct bench {
	struct io *io;
	struct io_op op;
	uint8_t *data;
	bool finished;
};

static void bench_done(struct io_op *op)
{
	struct bench *bench = op->owner;

	bench->finished = true;
}

static void bench_open(struct bench *bench, const struct file *file,
		       const struct lab_engine *engine)
{
	const struct io_options options = { .engine = engine->engine,
					    .shared = engine->shared,
					    .threads = engine->threads };

	assert_int_equal(posix_memalign((void **)&bench->data, BLOCK, BLOCK), 0);
	memset(bench->data, 'x', BLOCK);
	assert_int_equal(io_open(&bench->io, file, &options, NULL), 0);
}

static void bench_close(struct bench *bench)
{
	io_close(bench->io);
	free(bench->data);
}

static int32_t run(struct bench *bench, enum io_kind kind, uint64_t offset)
{
	bench->op = (struct io_op){ .kind = kind,
				    .bytes = BLOCK,
				    .offset = offset,
				    .data = bench->data,
				    .done = bench_done,
				    .owner = bench };
	bench->finished = false;
	io_submit(bench->io, &bench->op);
	io_push(bench->io);
	while (!bench->finished) {
		assert_int_equal(io_wait(bench->io, -1), 0);
		io_reap(bench->io);
	}
	return bench->op.result;
}

typedef void file_body(struct bench *bench, const struct file *file, struct loop_lab *lab);

static void each_engine(const struct file *file, struct loop_lab *lab, file_body *body)
{
	struct lab_engine engines[LAB_ENGINES];
	uint32_t count = lab_engines(engines);
	struct bench bench;

	for (uint32_t i = 0; i < count; i++) {
		if (engines[i].sim)
			continue;
		printf("engine %s\n", engines[i].name);
		bench_open(&bench, file, &engines[i]);
		body(&bench, file, lab);
		bench_close(&bench);
	}
}

/* ---- devices ---- */

/* A device has its size, is claimed, and is refused while a file system on it is mounted. */
static void test_file__block_device_is_claimed(void **state)
{
	struct haul_err err = { 0 };
	struct file file, second;
	struct loop_lab lab;

	(void)state;
	loop_lab_open(&lab, 16 * MIB, 4 * MIB, 0);
	assert_int_equal(file_open(&file, lab.device, FILE_CREATE, &err), 0);
	assert_true(file.block_device && file.direct);
	assert_int_equal(file.bytes, 4 * MIB);
	assert_true(file.align_offset >= 512 && file.align_offset <= 4096);
	assert_int_equal(file_open(&second, lab.device, FILE_WRITE, &err), -EBUSY);
	assert_non_null(strstr(err.text, lab.device));
	assert_int_equal(file_allocate(&file, 4 * MIB, NULL, NULL, &err), 0);
	assert_int_equal(file_allocate(&file, 8 * MIB, NULL, NULL, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "on the device"));
	file_close(&file);
	assert_int_equal(file_open(&file, lab.host, FILE_WRITE, &err), -EBUSY);
	assert_non_null(strstr(err.text, "mounted"));
	loop_lab_close(&lab);
}

/* A device that may only be read is refused for writing, and opens for reading. */
static void test_file__read_only_device(void **state)
{
	struct haul_err err = { 0 };
	struct loop_lab lab;
	struct bench bench;
	struct file file;
	struct lab_engine engines[LAB_ENGINES];

	(void)state;
	lab_engines(engines);
	loop_lab_open(&lab, 16 * MIB, 4 * MIB, LOOP_READ_ONLY);
	assert_int_equal(file_open(&file, lab.device, FILE_WRITE, &err), -EROFS);
	assert_non_null(strstr(err.text, "only be read"));
	assert_int_equal(file_open(&file, lab.device, FILE_READ, &err), 0);
	bench_open(&bench, &file, &engines[0]);
	assert_int_equal(run(&bench, IO_READ, 0), BLOCK);
	assert_int_equal(run(&bench, IO_WRITE, 0), -EBADF);
	bench_close(&bench);
	file_close(&file);
	loop_lab_close(&lab);
}

/* A file on a file system that may only be read is refused with EROFS. */
static void test_file__read_only_file_system(void **state)
{
	struct haul_err err = { 0 };
	struct loop_lab lab;
	struct file file;

	(void)state;
	loop_lab_open(&lab, 16 * MIB, 4 * MIB, LOOP_READ_ONLY);
	assert_int_equal(mount(NULL, lab.folder, NULL, MS_REMOUNT | MS_RDONLY | MS_BIND, NULL), 0);
	assert_int_equal(file_open(&file, lab.backing, FILE_WRITE, &err), -EROFS);
	assert_non_null(strstr(err.text, "only be read"));
	loop_lab_close(&lab);
}

/* ---- errors of operations ---- */

static void body_eio(struct bench *bench, const struct file *file, struct loop_lab *lab)
{
	(void)file;
	assert_int_equal(run(bench, IO_WRITE, 3 * MIB), BLOCK);
	assert_int_equal(run(bench, IO_SYNC, 0), 0);
	loop_lab_cut(lab, MIB);
	assert_int_equal(run(bench, IO_READ, 3 * MIB), -EIO);
	/* What is before it can still be read, and the engine goes on. */
	assert_int_equal(run(bench, IO_READ, 0), BLOCK);
	loop_lab_cut(lab, 4 * MIB);
	assert_int_equal(run(bench, IO_READ, 3 * MIB), BLOCK);
	assert_int_equal(bench->data[0], 0);
}

/* A block that cannot be read is EIO of that one read. */
static void test_io_loop__bad_block_is_eio(void **state)
{
	struct loop_lab lab;
	struct file file;

	(void)state;
	loop_lab_open(&lab, 16 * MIB, 4 * MIB, 0);
	assert_int_equal(file_open(&file, lab.device, FILE_WRITE, NULL), 0);
	each_engine(&file, &lab, body_eio);
	file_close(&file);
	loop_lab_close(&lab);
}

static void body_enospc(struct bench *bench, const struct file *file, struct loop_lab *lab)
{
	int32_t result;

	(void)lab;
	result = run(bench, IO_WRITE, file->block_device ? 20 * MIB : 0);
	assert_int_equal(result, -ENOSPC);
	assert_int_equal(run(bench, IO_READ, 0), BLOCK);
}

/* A device over a full file system says ENOSPC, and so does a sparse file on it (the original's
 * cache file was one). */
static void test_io_loop__no_room_is_enospc(void **state)
{
	struct loop_lab lab;
	struct file file;

	(void)state;
	loop_lab_open(&lab, 16 * MIB, 32 * MIB, 0);
	loop_lab_fill(&lab, true);
	assert_int_equal(file_open(&file, lab.device, FILE_WRITE, NULL), 0);
	each_engine(&file, &lab, body_enospc);
	file_close(&file);
	assert_int_equal(file_open(&file, lab.backing, FILE_WRITE, NULL), 0);
	each_engine(&file, &lab, body_enospc);
	file_close(&file);
	loop_lab_close(&lab);
}

/* Room that vanishes between the look and the writing is ENOSPC, with nothing left behind. */
static void test_file__allocate_on_a_full_file_system(void **state)
{
	struct haul_err err = { 0 };
	struct loop_lab lab;
	struct file file;
	char path[256];
	uint64_t space = 0;

	(void)state;
	loop_lab_open(&lab, 16 * MIB, MIB, 0);
	loop_lab_fill(&lab, true);
	snprintf(path, sizeof path, "%s/new", lab.folder);
	assert_int_equal(file_space(path, &space, NULL), 0);
	assert_true(space < MIB);
	assert_int_equal(file_open(&file, path, FILE_CREATE, &err), 0);
	assert_int_equal(file_allocate(&file, 2 * MIB, NULL, NULL, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "2 MiB"));
	file_close(&file);
	loop_lab_close(&lab);
}

static void body_discard(struct bench *bench, const struct file *file, struct loop_lab *lab)
{
	int32_t result;

	(void)file;
	(void)lab;
	memset(bench->data, 'x', BLOCK);
	assert_int_equal(run(bench, IO_WRITE, MIB), BLOCK);
	assert_int_equal(run(bench, IO_WRITE, MIB + BLOCK), BLOCK);
	result = run(bench, IO_DISCARD, MIB);
	assert_true(result == 0 || result == -EOPNOTSUPP);
	assert_int_equal(run(bench, IO_READ, MIB + BLOCK), BLOCK);
	assert_int_equal(bench->data[BLOCK - 1], 'x');
	assert_int_equal(run(bench, IO_READ, MIB), BLOCK);
	if (result == 0)
		assert_int_equal(bench->data[0], 0);
}

/* Blocks of a device can be given back, and only those asked for. */
static void test_io_loop__discard_gives_blocks_back(void **state)
{
	struct loop_lab lab;
	struct file file;

	(void)state;
	loop_lab_open(&lab, 16 * MIB, 4 * MIB, 0);
	assert_int_equal(file_open(&file, lab.device, FILE_WRITE, NULL), 0);
	each_engine(&file, &lab, body_discard);
	file_close(&file);
	loop_lab_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file__block_device_is_claimed),
		cmocka_unit_test(test_file__read_only_device),
		cmocka_unit_test(test_file__read_only_file_system),
		cmocka_unit_test(test_io_loop__bad_block_is_eio),
		cmocka_unit_test(test_io_loop__no_room_is_enospc),
		cmocka_unit_test(test_file__allocate_on_a_full_file_system),
		cmocka_unit_test(test_io_loop__discard_gives_blocks_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
