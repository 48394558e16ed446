#include "os/io_lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint32_t lab_engines(struct lab_engine engines[LAB_ENGINES])
{
	static const struct lab_engine all[LAB_ENGINES] = {
		{ .name = "io_uring", .engine = IO_URING },
		{ .name = "io_uring shared", .engine = IO_URING, .shared = true },
		{ .name = "threads", .engine = IO_THREADS, .threads = 4 },
		{ .name = "one thread", .engine = IO_THREADS, .shared = true, .threads = 1 },
		{ .name = "simulated", .sim = true },
	};
	struct io_options options = { .engine = IO_URING };
	uint32_t count = 0;
	struct file file;
	struct io *io = NULL;

	lab_file(&file, LAB_BLOCK);
	if (io_open(&io, &file, &options, NULL) < 0)
		printf("without io_uring: it is forbidden here\n");
	for (uint32_t i = 0; i < LAB_ENGINES; i++)
		if (io != NULL || all[i].engine != IO_URING)
			engines[count++] = all[i];
	io_close(io);
	file_close(&file);
	return count;
}

void lab_file(struct file *file, uint64_t bytes)
{
	const char *folder = getenv("TMPDIR");
	struct haul_err err = { 0 };
	char path[256];
	int fd;

	snprintf(path, sizeof path, "%s/haul-io-XXXXXX", folder != NULL ? folder : "/var/tmp");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	if (file_open(file, path, FILE_CREATE, &err) < 0 ||
	    file_allocate(file, bytes, NULL, NULL, &err) < 0) {
		unlink(path);
		fail_msg("%s", err.text);
	}
	assert_int_equal(unlink(path), 0);
}

void lab_open(struct io_lab *lab, const struct lab_engine *engine, uint64_t bytes,
	      const struct io_options *options)
{
	struct io_options own = { 0 };
	struct haul_err err = { 0 };

	memset(lab, 0, sizeof *lab);
	lab->engine = engine;
	lab->bytes = bytes;
	lab->file.fd = -1;
	assert_int_equal(posix_memalign((void **)&lab->memory, LAB_BLOCK, LAB_OPS * LAB_BLOCK), 0);
	memset(lab->memory, 0, LAB_OPS * LAB_BLOCK);
	if (engine->sim) {
		assert_int_equal(io_sim_open(&lab->sim, bytes, 1), 0);
		lab->io = io_sim_io(lab->sim);
		return;
	}
	if (options != NULL)
		own = *options;
	own.engine = engine->engine;
	own.shared = engine->shared;
	own.threads = engine->threads;
	lab_file(&lab->file, bytes);
	if (io_open(&lab->io, &lab->file, &own, &err) < 0)
		fail_msg("%s: %s", engine->name, err.text);
	assert_int_equal(lab->io->engine, engine->engine);
}

void lab_close(struct io_lab *lab)
{
	io_close(lab->io);
	io_sim_close(lab->sim);
	file_close(&lab->file);
	free(lab->memory);
	lab->io = NULL;
}

static void lab_done(struct io_op *op)
{
	struct io_lab *lab = op->owner;

	assert_true(op >= lab->ops && op < lab->ops + LAB_OPS);
	if (lab->finished < LAB_OPS)
		lab->order[lab->finished] = (uint32_t)(op - lab->ops);
	lab->finished++;
}

struct io_op *lab_op(struct io_lab *lab, uint32_t index, enum io_kind kind, uint64_t offset)
{
	struct io_op *op = &lab->ops[index];

	*op = (struct io_op){ .kind = kind,
			      .bytes = LAB_BLOCK,
			      .offset = offset,
			      .data = lab->memory + (size_t)index * LAB_BLOCK,
			      .result = INT32_MIN,
			      .done = lab_done,
			      .owner = lab };
	return op;
}

void lab_finish(struct io_lab *lab, uint32_t finished)
{
	while (lab->finished < finished) {
		int rc = io_wait(lab->io, -1);

		if (rc != 0)
			fail_msg("%s: io_wait says %d", lab->engine->name, rc);
		io_reap(lab->io);
	}
	assert_int_equal(lab->finished, finished);
}

int32_t lab_run(struct io_lab *lab, struct io_op *op)
{
	io_submit(lab->io, op);
	io_push(lab->io);
	lab_finish(lab, lab->finished + 1);
	return op->result;
}
