#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <haul/disk.h>
#include "disk/disk_state.h"
#include "lib/testlib.h"
#include "os/io_sim.h"

enum { SPACE = 1 << 20, REQUESTS = 200 };

static const char *const engines[] = { "auto", "io_uring", "threads" };

/* A folder for one file, on a file system with direct I/O (TMPDIR or /var/tmp), or not. */
struct lab {
	char folder[256];
	char path[300];
	struct haul_disk *disk;
};

static void lab_open(struct lab *lab, const char *parent)
{
	*lab = (struct lab){ 0 };
	snprintf(lab->folder, sizeof lab->folder, "%s/haul-disk-XXXXXX", parent);
	assert_non_null(mkdtemp(lab->folder));
	snprintf(lab->path, sizeof lab->path, "%s/file", lab->folder);
}

static const char *parent_of_files(void)
{
	const char *parent = getenv("TMPDIR");
	return parent != NULL ? parent : "/var/tmp";
}

static void lab_close(struct lab *lab)
{
	haul_disk_close(lab->disk);
	unlink(lab->path);
	assert_int_equal(rmdir(lab->folder), 0);
}

/* The text says why not, when an engine is not to be had. */
static bool lab_disk(struct lab *lab, const struct haul_disk_options *options)
{
	struct haul_err err = { 0 };
	int error = haul_disk_open(&lab->disk, lab->path, options, &err);
	if (error == -EPERM || error == -ENOSYS) {
		assert_non_null(strstr(err.text, "io_uring"));
		return false;
	}
	assert_int_equal(error, 0);
	return true;
}

/* One batch on a file, and what it must become. */
struct batch {
	struct haul_disk_request requests[REQUESTS];
	uint8_t *data[REQUESTS];
	uint32_t count;
};

static void batch_random(struct batch *batch, struct prng *prng, uint64_t space)
{
	batch->count = 1 + prng_below(prng, REQUESTS);
	bool aligned = prng_below(prng, 3) == 0;
	for (uint32_t i = 0; i < batch->count; i++) {
		uint32_t bytes = prng_below(prng, prng_below(prng, 8) ? 6000 : 60000);
		uint64_t offset = prng_below(prng, (uint32_t)space - bytes);
		if (aligned) {
			bytes &= ~4095U;
			offset &= ~UINT64_C(4095);
		}
		/* Memory aligned as direct I/O wants it, and not. */
		uint32_t shift = prng_below(prng, 2) ? 0 : prng_below(prng, 512);
		batch->data[i] = aligned_alloc(4096, (bytes + shift + 4096) & ~UINT32_C(4095));
		assert_non_null(batch->data[i]);
		batch->requests[i] = (struct haul_disk_request){
			.offset = offset,
			.bytes = bytes,
			.data = batch->data[i] + shift,
			.status = 77,
		};
		for (uint32_t at = 0; at < bytes; at++)
			((uint8_t *)batch->requests[i].data)[at] = (uint8_t)prng_next(prng);
	}
}

static void batch_free(struct batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++)
		free(batch->data[i]);
}

static void expect_file(const char *path, const uint8_t *model, uint64_t bytes)
{
	uint8_t *found = malloc(bytes + 1);
	assert_non_null(found);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, found, bytes, 0), bytes);
	close(fd);
	assert_memory_equal(found, model, bytes);
	free(found);
}

static void random_batches(struct lab *lab, struct prng *prng, uint32_t rounds)
{
	uint8_t *model = calloc(1, SPACE);
	struct batch *batch = calloc(1, sizeof *batch);
	assert_true(model && batch);
	for (uint32_t n = 0; n < rounds; n++) {
		batch_random(batch, prng, SPACE);
		int good =
			haul_disk_write_batch(lab->disk, batch->requests, batch->count, n % 4 == 0);
		assert_int_equal(good, batch->count);
		for (uint32_t i = 0; i < batch->count; i++) {
			const struct haul_disk_request *request = &batch->requests[i];
			assert_int_equal(request->status, 0);
			memcpy(model + request->offset, request->data, request->bytes);
		}
		batch_free(batch);
		batch_random(batch, prng, SPACE);
		good = haul_disk_read_batch(lab->disk, batch->requests, batch->count);
		assert_int_equal(good, batch->count);
		for (uint32_t i = 0; i < batch->count; i++) {
			const struct haul_disk_request *request = &batch->requests[i];
			assert_int_equal(request->status, 0);
			assert_memory_equal(request->data, model + request->offset, request->bytes);
		}
		batch_free(batch);
	}
	assert_int_equal(haul_disk_bytes(lab->disk), SPACE);
	expect_file(lab->path, model, SPACE);
	free(batch);
	free(model);
}

static void space_make(const char *path, uint64_t bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	close(fd);
}

/* Batches of any offsets, lengths, overlaps and memory, on every engine: what is read, and what is
 * in the file, is what was written last. Unaligned writes keep the rest of their blocks. */
static void test_disk__agrees_with_memory_on_every_engine(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t i = 0; i < 3; i++) {
		struct lab lab;
		lab_open(&lab, parent_of_files());
		space_make(lab.path, SPACE);
		const struct haul_disk_options options = {
			.engine = engines[i],
			.write = true,
			.depth = 1 + prng_below(&prng, 40),
			.split = i == 0 ? 0 : 4096 * (1 + prng_below(&prng, 32)),
			.gap_max = i == 0 ? 0 : 1 + prng_below(&prng, 20000),
		};
		if (lab_disk(&lab, &options))
			random_batches(&lab, &prng, 12);
		lab_close(&lab);
	}
}

/* The same where there is no direct I/O. */
static void test_disk__agrees_with_memory_without_direct_io(void **state)
{
	(void)state;
	if (access("/dev/shm", W_OK) != 0)
		return;
	struct prng prng;
	test_prng(&prng);
	struct lab lab;
	lab_open(&lab, "/dev/shm");
	space_make(lab.path, SPACE);
	assert_true(lab_disk(&lab, &(struct haul_disk_options){ .write = true }));
	assert_false(lab.disk->file.direct);
	random_batches(&lab, &prng, 4);
	lab_close(&lab);
}

/* A batch over the size of a round, with keys in no order: every request has its own bytes. The
 * original handed results out in sorted order. */
static void test_disk_read_batch__answers_each_request_with_its_own(void **state)
{
	(void)state;
	enum { MANY = ROUND * 2 + 17 };
	struct lab lab;
	lab_open(&lab, parent_of_files());
	space_make(lab.path, 4 * MANY);
	assert_true(lab_disk(&lab, &(struct haul_disk_options){ .write = true }));
	uint32_t *values = calloc(MANY, sizeof *values);
	struct haul_disk_request *requests = calloc(MANY, sizeof *requests);
	assert_true(values && requests);
	for (uint32_t i = 0; i < MANY; i++) {
		values[i] = i;
		requests[i] = (struct haul_disk_request){ .offset = 4 * (uint64_t)i,
							  .data = &values[i],
							  .bytes = 4 };
	}
	assert_int_equal(haul_disk_write_batch(lab.disk, requests, MANY, true), MANY);
	memset(values, 0, MANY * sizeof *values);
	for (uint32_t i = 0; i < MANY; i++)
		requests[i].offset = 4 * (uint64_t)((i * 7919 + 5) % MANY);
	assert_int_equal(haul_disk_read_batch(lab.disk, requests, MANY), MANY);
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(values[i], (i * 7919 + 5) % MANY);
	free(requests);
	free(values);
	lab_close(&lab);
}

/* A file grows by whole blocks; behind its end there is nothing to read, and an end within a block
 * is read and written like the rest. */
static void test_disk__knows_where_the_file_ends(void **state)
{
	(void)state;
	for (uint32_t i = 1; i < 3; i++) {
		struct lab lab;
		uint8_t data[2000];
		lab_open(&lab, parent_of_files());
		const struct haul_disk_options options = { .engine = engines[i],
							   .write = true,
							   .create = true };
		int fd = open(lab.path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		memset(data, 'a', sizeof data);
		assert_int_equal(write(fd, data, 1700), 1700);
		close(fd);
		if (!lab_disk(&lab, &options)) {
			lab_close(&lab);
			continue;
		}
		assert_int_equal(haul_disk_bytes(lab.disk), 1700);
		struct haul_disk_request reads[] = {
			{ .offset = 1600, .data = data, .bytes = 100, .status = 77 },
			{ .offset = 1601, .data = data + 1000, .bytes = 100, .status = 77 },
			{ .offset = 5000, .data = data + 1000, .bytes = 1, .status = 77 },
			{ .offset = 9000, .data = NULL, .bytes = 0, .status = 77 },
		};
		memset(data, 0, sizeof data);
		assert_int_equal(haul_disk_read_batch(lab.disk, reads, 4), 2);
		assert_int_equal(reads[0].status, 0);
		assert_int_equal(reads[1].status, HAUL_ESHORT);
		assert_int_equal(reads[2].status, HAUL_ESHORT);
		assert_int_equal(reads[3].status, 0);
		assert_true(data[0] == 'a' && data[99] == 'a' && data[1000] == 0);
		/* Over the end: what was there stays, what is new and not written is zero. */
		struct haul_disk_request writes[] = {
			{ .offset = 1690, .data = data, .bytes = 20 },
			{ .offset = 6000, .data = data, .bytes = 10 },
		};
		memset(data, 'b', 20);
		assert_int_equal(haul_disk_write_batch(lab.disk, writes, 2, true), 2);
		uint64_t bytes = haul_disk_bytes(lab.disk);
		assert_true(bytes >= 6010 && bytes % 512 == 0 && bytes < 6010 + 4096);
		uint8_t *model = calloc(1, bytes);
		assert_non_null(model);
		memset(model, 'a', 1700);
		memset(model + 1690, 'b', 20);
		memset(model + 6000, 'b', 10);
		expect_file(lab.path, model, bytes);
		free(model);
		lab_close(&lab);
	}
}

/* What is wrong with a request stands in its status, and the others are carried out; a disk opened
 * to read is not written. */
static void test_disk__tells_each_request_what_is_wrong(void **state)
{
	(void)state;
	struct lab lab;
	uint8_t data[1024] = { 1, 2, 3 };
	lab_open(&lab, parent_of_files());
	space_make(lab.path, 8192);
	assert_true(lab_disk(&lab, &(struct haul_disk_options){ .write = true }));
	struct haul_disk_request requests[] = {
		{ .offset = UINT64_MAX, .data = data, .bytes = 10 },
		{ .offset = 100, .data = data, .bytes = 3 },
		{ .offset = (UINT64_C(1) << 63) - 5, .data = data, .bytes = 10 },
	};
	assert_int_equal(haul_disk_write_batch(lab.disk, requests, 3, false), 1);
	assert_int_equal(requests[0].status, -EINVAL);
	assert_int_equal(requests[1].status, 0);
	assert_int_equal(requests[2].status, -EINVAL);
	assert_int_equal(haul_disk_write_batch(lab.disk, NULL, 0, true), 0);
	assert_int_equal(haul_disk_read_batch(lab.disk, NULL, 0), 0);
	haul_disk_close(lab.disk);
	lab.disk = NULL;
	assert_true(lab_disk(&lab, &(struct haul_disk_options){ .write = false }));
	assert_int_equal(haul_disk_read_batch(lab.disk, requests, 3), 1);
	assert_int_equal(haul_disk_write_batch(lab.disk, requests, 3, true), 0);
	assert_int_equal(requests[1].status, -EROFS);
	lab_close(&lab);
}

/* Options and files that cannot be are refused in words, and nothing is left open. */
static void test_disk_open__says_what_is_wrong(void **state)
{
	(void)state;
	struct lab lab;
	lab_open(&lab, parent_of_files());
	struct haul_err err = { 0 };
	const struct haul_disk_options engine = { .engine = "aio" };
	assert_int_equal(haul_disk_open(&lab.disk, lab.path, &engine, &err), -EINVAL);
	assert_string_equal(err.text, "engine aio: there are auto, io_uring and threads");
	const struct haul_disk_options plain = { .write = true };
	assert_int_equal(haul_disk_open(&lab.disk, lab.path, &plain, &err), -ENOENT);
	assert_non_null(strstr(err.text, lab.path));
	space_make(lab.path, 8192);
	const struct haul_disk_options split = { .split = 100 };
	assert_int_equal(haul_disk_open(&lab.disk, lab.path, &split, &err), -EINVAL);
	assert_non_null(strstr(err.text, "split at 100 bytes"));
	const struct haul_disk_options deep = { .depth = IO_DEPTH_MAX + 1 };
	assert_int_equal(haul_disk_open(&lab.disk, lab.path, &deep, &err), -EINVAL);
	assert_null(lab.disk);
	for (uint32_t i = 0; test_malloc_fail(i) && lab.disk == NULL; i++) {
		int error = haul_disk_open(&lab.disk, lab.path, &plain, &err);
		assert_true(error == 0 || error == -ENOMEM);
		assert_true(i < 100);
	}
	(void)test_malloc_fail(UINT32_MAX);
	lab_close(&lab);
}

/* Two disks cannot enter one table under the same names; the first stays as it is. */
static void test_disk_open__enters_its_stats(void **state)
{
	(void)state;
	struct lab lab;
	struct haul_stats_table *table;
	uint8_t data[8192];
	lab_open(&lab, parent_of_files());
	space_make(lab.path, 1 << 20);
	assert_int_equal(haul_stats_table_open(&table), 0);
	const struct haul_disk_options options = { .stats = table };
	assert_true(lab_disk(&lab, &options));
	struct haul_disk *other = NULL;
	assert_int_equal(haul_disk_open(&other, lab.path, &options, NULL), -EEXIST);
	struct haul_disk_request requests[] = { { .offset = 0, .data = data, .bytes = 100 },
						{ .offset = 8192, .data = data, .bytes = 100 } };
	assert_int_equal(haul_disk_read_batch(lab.disk, requests, 2), 2);
	const struct haul_stats *stats = &lab.disk->reads;
	assert_int_equal(stats->ops, 2);
	assert_int_equal(stats->batches, 1);
	assert_int_equal(stats->bytes, 200);
	assert_int_equal(stats->extra[DISK_TRANSFERS], 1);
	assert_int_equal(stats->extra[DISK_BOUNCED], 1);
	assert_int_equal(stats->extra[DISK_GAP_BYTES], 8192 - lab.disk->block);
	lab_close(&lab);
	haul_stats_table_close(table);
}

/* Calibrating gives figures that a device can have, and says what it cannot do. */
static void test_disk_calibrate__measures(void **state)
{
	(void)state;
	struct lab lab;
	struct haul_err err = { 0 };
	struct haul_disk_model model = { .sync_ns = 5 };
	lab_open(&lab, parent_of_files());
	space_make(lab.path, 33 << 20);
	assert_true(lab_disk(&lab, &(struct haul_disk_options){ .write = false }));
	assert_int_equal(haul_disk_calibrate(lab.disk, 0, 32 << 20, &model, &err), -EROFS);
	haul_disk_close(lab.disk);
	lab.disk = NULL;
	assert_true(lab_disk(&lab, &(struct haul_disk_options){ .write = true }));
	assert_int_equal(haul_disk_calibrate(lab.disk, 0, 1 << 20, &model, &err), -EINVAL);
	assert_non_null(strstr(err.text, "at least 33554432 are needed"));
	assert_int_equal(haul_disk_calibrate(lab.disk, 2 << 20, 32 << 20, &model, &err), -EINVAL);
	assert_true(model.sync_ns == 5.0);
	assert_int_equal(haul_disk_calibrate(lab.disk, 5000, 32 << 20, &model, &err), 0);
	assert_true(model.sync_ns >= 1 && model.write_bandwidth > 0 && model.read_bandwidth > 0);
	assert_true(model.read_iops > 0 && model.read_ns > 0);
	assert_true(haul_disk_model_gap(&model) <= HAUL_DISK_GAP_MAX);
	/* What lies before and behind the range is untouched. */
	uint8_t data[4096];
	int fd = open(lab.path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, data, 4096, 0), 4096);
	for (uint32_t i = 0; i < 4096; i++)
		assert_int_equal(data[i], 0);
	assert_int_equal(pread(fd, data, 4096, (33 << 20) - 4096), 4096);
	for (uint32_t i = 0; i < 4096; i++)
		assert_int_equal(data[i], 0);
	close(fd);
	lab_close(&lab);
}

/* ---- on a simulated disk that fails ---- */

struct sim_lab {
	struct io_sim *sim;
	struct haul_disk *disk;
	struct haul_disk_request requests[8];
	uint8_t (*data)[4096];
};

static void sim_open(struct sim_lab *lab)
{
	*lab = (struct sim_lab){ 0 };
	lab->data = aligned_alloc(4096, sizeof *lab->data * 8);
	assert_non_null(lab->data);
	memset(lab->data, 0xee, sizeof *lab->data * 8);
	assert_int_equal(io_sim_open(&lab->sim, SPACE, 1), 0);
	const struct file file = {
		.fd = -1, .direct = true, .align_memory = 512, .align_offset = 512, .bytes = SPACE
	};
	const struct haul_disk_options options = { .write = true };
	assert_int_equal(disk_open_over(&lab->disk, &file, io_sim_io(lab->sim), &options, NULL), 0);
	for (uint32_t i = 0; i < SPACE; i++)
		io_sim_bytes(lab->sim)[i] = (uint8_t)(i / 512);
	for (uint32_t i = 0; i < 8; i++)
		lab->requests[i] = (struct haul_disk_request){ .offset = 4096 * (uint64_t)i,
							       .data = lab->data[i],
							       .bytes = 4096 };
}

static void sim_close(struct sim_lab *lab)
{
	haul_disk_close(lab->disk);
	io_sim_close(lab->sim);
	free(lab->data);
}

/* Eight requests that are read as one: a bad sector fails the one that has it, and no other. */
static void test_disk_read_batch__a_bad_sector_fails_its_request_only(void **state)
{
	(void)state;
	struct sim_lab lab;
	sim_open(&lab);
	io_sim_bad(lab.sim, 3 * 4096 + 512, 512);
	assert_int_equal(haul_disk_read_batch(lab.disk, lab.requests, 8), 7);
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(lab.requests[i].status, i == 3 ? -EIO : 0);
		if (i != 3)
			assert_memory_equal(lab.data[i], io_sim_bytes(lab.sim) + 4096 * i, 4096);
	}
	assert_int_equal(io_sim_count(lab.sim, IO_READ), 1 + 8);
	assert_int_equal(lab.disk->reads.extra[DISK_ISOLATED], 1);
	assert_int_equal(lab.disk->reads.extra[DISK_FAILED], 1);
	/* Alone it is not read twice. */
	assert_int_equal(haul_disk_read_batch(lab.disk, lab.requests + 3, 1), 0);
	assert_int_equal(io_sim_count(lab.sim, IO_READ), 1 + 8 + 1);
	/* A bad sector in a gap that was bridged fails nobody. */
	io_sim_bad(lab.sim, 4096, 512);
	lab.requests[1].offset = 8192;
	assert_int_equal(haul_disk_read_batch(lab.disk, lab.requests, 2), 2);
	sim_close(&lab);
}

/* What options leave out is as the header says: transfers of 1 MiB, gaps of 64 KiB bridged and no
 * longer ones, 32 operations at a time. */
static void test_disk_open__defaults(void **state)
{
	(void)state;
	struct sim_lab lab;
	sim_open(&lab);
	lab.requests[1].offset = 4096 + HAUL_DISK_GAP_MAX;
	assert_int_equal(haul_disk_read_batch(lab.disk, lab.requests, 2), 2);
	assert_int_equal(io_sim_count(lab.sim, IO_READ), 1);
	assert_int_equal(lab.disk->reads.extra[DISK_GAP_BYTES], HAUL_DISK_GAP_MAX);
	lab.requests[1].offset += 4096;
	assert_int_equal(haul_disk_read_batch(lab.disk, lab.requests, 2), 2);
	assert_int_equal(io_sim_count(lab.sim, IO_READ), 1 + 2);
	sim_close(&lab);

	struct lab files;
	lab_open(&files, parent_of_files());
	const struct haul_disk_options options = { .write = true, .create = true };
	assert_true(lab_disk(&files, &options));
	assert_int_equal(files.disk->io->depth, 32);
	assert_int_equal(files.disk->split, HAUL_DISK_SPLIT);
	lab_close(&files);
}

/* A batch that lies together is one write and one sync; the original synced once a write, and once
 * more. */
static void test_disk_write_batch__is_one_write_and_one_sync(void **state)
{
	(void)state;
	struct sim_lab lab;
	sim_open(&lab);
	memset(lab.data, 9, sizeof *lab.data * 8);
	assert_int_equal(haul_disk_write_batch(lab.disk, lab.requests, 8, true), 8);
	assert_int_equal(io_sim_count(lab.sim, IO_WRITE), 1);
	assert_int_equal(io_sim_count(lab.sim, IO_SYNC), 1);
	assert_int_equal(io_sim_count(lab.sim, IO_READ), 0);
	struct prng prng;
	prng_init(&prng, 1);
	io_sim_crash(lab.sim, IO_SIM_LOSE_ALL, &prng);
	assert_memory_equal(io_sim_bytes(lab.sim), lab.data, sizeof *lab.data * 8);
	sim_close(&lab);
}

/* A write that fails fails the requests in it, those that were covered by it included, and only
 * those. */
static void test_disk_write_batch__a_failed_write_fails_its_requests_only(void **state)
{
	(void)state;
	struct sim_lab lab;
	sim_open(&lab);
	for (uint32_t i = 0; i < 8; i++)
		lab.requests[i].offset = 65536 * (uint64_t)(i / 2);
	io_sim_fail(lab.sim, IO_WRITE, 0, 1, -ENOSPC);
	assert_int_equal(haul_disk_write_batch(lab.disk, lab.requests, 8, true), 6);
	for (uint32_t i = 0; i < 8; i += 2)
		assert_int_equal(lab.requests[i].status, lab.requests[i + 1].status);
	sim_close(&lab);
}

/* When the block that has to be kept cannot be read, nothing is written over it. */
static void test_disk_write_batch__keeps_a_block_that_it_cannot_read(void **state)
{
	(void)state;
	struct sim_lab lab;
	sim_open(&lab);
	io_sim_bad(lab.sim, 8192, 512);
	lab.requests[0].bytes = 100;
	lab.requests[1].offset = 8192 + 100;
	lab.requests[1].bytes = 100;
	assert_int_equal(haul_disk_write_batch(lab.disk, lab.requests, 2, true), 1);
	assert_int_equal(lab.requests[1].status, -EIO);
	assert_int_equal(lab.disk->writes.extra[DISK_MODIFIED], 2);
	assert_int_equal(io_sim_bytes(lab.sim)[8192 + 100], 8192 / 512);
	assert_int_equal(io_sim_bytes(lab.sim)[99], 0xee);
	assert_int_equal(io_sim_bytes(lab.sim)[100], 0);
	sim_close(&lab);
}

/* A sync that fails fails all of the batch, and is not tried again. */
static void test_disk_write_batch__a_failed_sync_fails_all(void **state)
{
	(void)state;
	struct sim_lab lab;
	sim_open(&lab);
	io_sim_fail(lab.sim, IO_SYNC, 0, 1, -EIO);
	assert_int_equal(haul_disk_write_batch(lab.disk, lab.requests, 8, true), 0);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(lab.requests[i].status, -EIO);
	assert_int_equal(io_sim_count(lab.sim, IO_SYNC), 1);
	io_sim_fail(lab.sim, IO_SYNC, 0, 1, -EIO);
	assert_int_equal(haul_disk_write_batch(lab.disk, NULL, 0, true), -EIO);
	sim_close(&lab);
}

/* A dead device fails every request, and calibrating it says so; shorts and EAGAIN are not seen. */
static void test_disk__a_dead_device_fails_every_request(void **state)
{
	(void)state;
	struct sim_lab lab;
	struct haul_err err = { 0 };
	struct haul_disk_model model;
	sim_open(&lab);
	io_sim_fail(lab.sim, IO_READ, 0, 3, -EAGAIN);
	assert_int_equal(haul_disk_read_batch(lab.disk, lab.requests, 8), 8);
	io_sim_fail(lab.sim, IO_READ, 0, 1, 0);
	assert_int_equal(haul_disk_read_batch(lab.disk, lab.requests, 8), 8);
	io_sim_dead(lab.sim, true);
	assert_int_equal(haul_disk_read_batch(lab.disk, lab.requests, 8), 0);
	assert_int_equal(lab.requests[7].status, -ENODEV);
	assert_int_equal(haul_disk_write_batch(lab.disk, lab.requests, 8, true), 0);
	assert_int_equal(lab.requests[0].status, -ENODEV);
	lab.requests[0].offset = SPACE;
	assert_int_equal(haul_disk_write_batch(lab.disk, lab.requests, 1, false), 0);
	assert_int_equal(lab.requests[0].status, -ENOSPC);
	lab.disk->file.bytes = 64 << 20;
	assert_int_equal(haul_disk_calibrate(lab.disk, 0, 32 << 20, &model, &err), -ENODEV);
	assert_non_null(strstr(err.text, "measure the disk"));
	sim_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disk__agrees_with_memory_on_every_engine),
		cmocka_unit_test(test_disk__agrees_with_memory_without_direct_io),
		cmocka_unit_test(test_disk_read_batch__answers_each_request_with_its_own),
		cmocka_unit_test(test_disk__knows_where_the_file_ends),
		cmocka_unit_test(test_disk__tells_each_request_what_is_wrong),
		cmocka_unit_test(test_disk_open__says_what_is_wrong),
		cmocka_unit_test(test_disk_open__enters_its_stats),
		cmocka_unit_test(test_disk_calibrate__measures),
		cmocka_unit_test(test_disk_read_batch__a_bad_sector_fails_its_request_only),
		cmocka_unit_test(test_disk_open__defaults),
		cmocka_unit_test(test_disk_write_batch__is_one_write_and_one_sync),
		cmocka_unit_test(test_disk_write_batch__a_failed_write_fails_its_requests_only),
		cmocka_unit_test(test_disk_write_batch__keeps_a_block_that_it_cannot_read),
		cmocka_unit_test(test_disk_write_batch__a_failed_sync_fails_all),
		cmocka_unit_test(test_disk__a_dead_device_fails_every_request),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
