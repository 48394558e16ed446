/* All engines do the same. Every test runs over each of them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "os/io_lab.h"

enum { DISK_BYTES = 2 << 20, BLOCKS = DISK_BYTES / LAB_BLOCK };

typedef void lab_body(struct io_lab *lab);

static void each_engine_with(lab_body *body, const struct io_options *options)
{
	struct lab_engine engines[LAB_ENGINES];
	uint32_t count = lab_engines(engines);
	static struct io_lab lab;

	for (uint32_t i = 0; i < count; i++) {
		printf("engine %s\n", engines[i].name);
		lab_open(&lab, &engines[i], DISK_BYTES, options);
		body(&lab);
		if (lab.io != NULL)
			assert_int_equal(lab.io->in_flight, 0);
		lab_close(&lab);
	}
}

static void each_engine(lab_body *body)
{
	each_engine_with(body, NULL);
}

static bool readable(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, 0) == 1;
}

static void fill(uint8_t *block, uint64_t what)
{
	for (uint32_t at = 0; at < LAB_BLOCK; at += sizeof what)
		memcpy(block + at, &what, sizeof what);
}

/* ---- one at a time ---- */

static void body_round_trip(struct io_lab *lab)
{
	struct io_op *write = lab_op(lab, 0, IO_WRITE, 5 * LAB_BLOCK);
	struct io_op *sync = lab_op(lab, 1, IO_SYNC, 0);
	struct io_op *read = lab_op(lab, 2, IO_READ, 5 * LAB_BLOCK);

	fill(write->data, 77);
	assert_int_equal(lab_run(lab, write), LAB_BLOCK);
	assert_int_equal(lab_run(lab, sync), 0);
	assert_int_equal(lab_run(lab, read), LAB_BLOCK);
	assert_memory_equal(read->data, write->data, LAB_BLOCK);
	/* Block 4 was never written but when the file was made. */
	read = lab_op(lab, 2, IO_READ, 4 * LAB_BLOCK);
	assert_int_equal(lab_run(lab, read), LAB_BLOCK);
	assert_true(read->data[0] == 0 && read->data[LAB_BLOCK - 1] == 0);
}

/* What was written is read back, from where it was written. */
static void test_io__reads_what_was_written(void **state)
{
	(void)state;
	each_engine(body_round_trip);
}

static void body_ends(struct io_lab *lab)
{
	struct io_op *read = lab_op(lab, 0, IO_READ, DISK_BYTES - LAB_BLOCK);

	read->bytes = 2 * LAB_BLOCK;
	assert_int_equal(lab_run(lab, read), LAB_BLOCK);
	read = lab_op(lab, 0, IO_READ, DISK_BYTES);
	assert_int_equal(lab_run(lab, read), 0);
}

/* A read over the end is short, behind it nothing: the engines report that and try nothing. */
static void test_io__short_at_the_end(void **state)
{
	(void)state;
	each_engine(body_ends);
}

static void body_misaligned(struct io_lab *lab)
{
	struct io_op *op = lab_op(lab, 0, IO_READ, 0);

	if (lab->sim == NULL && !lab->file.direct)
		return;
	op->data += 8;
	assert_int_equal(lab_run(lab, op), -EINVAL);
	op = lab_op(lab, 0, IO_WRITE, 256);
	assert_int_equal(lab_run(lab, op), -EINVAL);
	op = lab_op(lab, 0, IO_READ, 0);
	op->bytes = 1000;
	assert_int_equal(lab_run(lab, op), -EINVAL);
}

/* What direct I/O cannot do is an error of that operation, not of the engine. */
static void test_io__misaligned_is_einval(void **state)
{
	(void)state;
	each_engine(body_misaligned);
}

static void body_discard(struct io_lab *lab)
{
	struct io_op *write = lab_op(lab, 0, IO_WRITE, 0);
	struct io_op *discard = lab_op(lab, 1, IO_DISCARD, 0);
	struct io_op *read = lab_op(lab, 2, IO_READ, 0);

	if (lab->sim != NULL)
		return;
	fill(write->data, 5);
	assert_int_equal(lab_run(lab, write), LAB_BLOCK);
	assert_int_equal(lab_run(lab, discard), -EOPNOTSUPP);
	assert_int_equal(lab_run(lab, read), LAB_BLOCK);
	assert_memory_equal(read->data, write->data, LAB_BLOCK);
}

/* A file gets no holes: its blocks were written once so that no later write has to allocate. */
static void test_io__discard_leaves_a_file_whole(void **state)
{
	(void)state;
	each_engine(body_discard);
}

/* ---- many at a time ---- */

static void body_too_many(struct io_lab *lab)
{
	uint32_t refused = 0;

	assert_true(lab->io->depth < LAB_OPS);
	for (uint32_t i = 0; i < LAB_OPS; i++)
		io_submit(lab->io, lab_op(lab, i, IO_READ, i % BLOCKS * LAB_BLOCK));
	io_push(lab->io);
	lab_finish(lab, LAB_OPS);
	for (uint32_t i = 0; i < LAB_OPS; i++) {
		refused += lab->ops[i].result == -EAGAIN;
		assert_int_equal(lab->ops[i].result, i < lab->io->depth ? LAB_BLOCK : -EAGAIN);
	}
	assert_int_equal(refused, LAB_OPS - lab->io->depth);
	/* And it goes on as if nothing had been. */
	assert_int_equal(lab_run(lab, lab_op(lab, 0, IO_READ, 0)), LAB_BLOCK);
}

/* More than depth: the first so many are done, all others say EAGAIN; none is lost. */
static void test_io__more_than_depth_is_eagain(void **state)
{
	(void)state;
	each_engine(body_too_many);
}

static void chain_done(struct io_op *op)
{
	struct io_lab *lab = op->owner;

	lab->finished++;
	assert_int_equal(op->result, LAB_BLOCK);
	if (lab->finished + lab->io->in_flight < 100)
		io_submit(lab->io, op);
}

static void body_chain(struct io_lab *lab)
{
	for (uint32_t i = 0; i < 4; i++) {
		struct io_op *op = lab_op(lab, i, IO_READ, i * LAB_BLOCK);

		op->done = chain_done;
		io_submit(lab->io, op);
	}
	while (lab->io->in_flight > 0) {
		io_push(lab->io);
		assert_int_equal(io_wait(lab->io, -1), 0);
		io_reap(lab->io);
	}
	assert_int_equal(lab->finished, 100);
}

/* done() may put in the next operation, even the same one. */
static void test_io__done_may_submit(void **state)
{
	(void)state;
	each_engine(body_chain);
}

static void body_close(struct io_lab *lab)
{
	uint32_t count = lab->io->depth < 64 ? lab->io->depth : 64;

	for (uint32_t i = 0; i < count; i++)
		io_submit(lab->io, lab_op(lab, i, i % 8 == 7 ? IO_SYNC : IO_WRITE, i * LAB_BLOCK));
	if (lab->engine->shared)
		io_push(lab->io);
	io_close(lab->io);
	lab->io = NULL;
	assert_int_equal(lab->finished, count);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(lab->ops[i].result, i % 8 == 7 ? 0 : LAB_BLOCK);
}

/* Closing waits for all that is under way, pushed or not: nothing writes into memory that its
 * owner has freed (the defect of two caches on io_uring). */
static void test_io__close_waits_for_what_is_in_flight(void **state)
{
	(void)state;
	each_engine(body_close);
}

/* ---- waiting ---- */

static void body_descriptor(struct io_lab *lab)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct epoll_event got;
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (lab->io->fd < 0) {
		assert_non_null(lab->sim);
		close(epoll);
		return;
	}
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, lab->io->fd, &event), 0);
	assert_int_equal(epoll_wait(epoll, &got, 1, 0), 0);
	for (uint32_t round = 0; round < 50; round++) {
		lab->finished = 0;
		io_submit(lab->io, lab_op(lab, 0, round % 2 == 0 ? IO_READ : IO_SYNC, 0));
		io_push(lab->io);
		/* Asleep in epoll and nowhere else: only the descriptor can wake it. */
		while (lab->finished == 0) {
			int ready = epoll_wait(epoll, &got, 1, 10000);

			/* A kernel may interrupt the sleep to have its own work done. */
			assert_true(ready == 1 || (ready < 0 && errno == EINTR));
			io_reap(lab->io);
		}
		/* Nothing left: it must not be readable, or an idle server would spin. */
		assert_false(readable(lab->io->fd));
		assert_int_equal(io_reap(lab->io), 0);
	}
	close(epoll);
}

/* The descriptor is readable in epoll as soon as something can be reaped, and no longer than that
 * (also when completions are deferred to the ring's owner). */
static void test_io__descriptor_wakes_epoll_and_parks(void **state)
{
	(void)state;
	each_engine(body_descriptor);
}

static void body_refused_wakes(struct io_lab *lab)
{
	if (lab->io->fd < 0)
		return;
	for (uint32_t i = 0; i <= lab->io->depth; i++)
		io_submit(lab->io, lab_op(lab, i, IO_READ, 0));
	io_push(lab->io);
	while (lab->finished <= lab->io->depth) {
		assert_int_equal(io_wait(lab->io, 10 * NS_PER_S), 0);
		io_reap(lab->io);
	}
	assert_int_equal(lab->ops[lab->io->depth].result, -EAGAIN);
	assert_false(readable(lab->io->fd));
}

/* A refused operation wakes its waiter as a finished one does. */
static void test_io__refused_wakes_the_waiter(void **state)
{
	(void)state;
	const struct io_options options = { .depth = 3 };

	each_engine_with(body_refused_wakes, &options);
}

static void body_timeout(struct io_lab *lab)
{
	struct os *os = os_linux();
	int64_t start_ns = os->now_ns(os);

	assert_int_equal(io_wait(lab->io, 0), -ETIME);
	assert_int_equal(io_wait(lab->io, 2 * NS_PER_MS), -ETIME);
	if (lab->sim == NULL)
		assert_true(os->now_ns(os) - start_ns >= 2 * NS_PER_MS);
}

/* Waiting for nothing ends with its timeout, not before. */
static void test_io__wait_times_out(void **state)
{
	(void)state;
	each_engine(body_timeout);
}

static void body_push_once(struct io_lab *lab)
{
	uint64_t before;

	for (uint32_t i = 0; i < 32; i++)
		io_submit(lab->io, lab_op(lab, i, IO_READ, i * LAB_BLOCK));
	before = lab->io->syscalls;
	io_push(lab->io);
	assert_int_equal(lab->io->syscalls - before, 1);
	io_push(lab->io);
	assert_int_equal(lab->io->syscalls - before, 1);
	lab_finish(lab, 32);
}

/* One system call starts a whole batch, and an empty push makes none. */
static void test_io__push_is_one_syscall(void **state)
{
	(void)state;
	each_engine(body_push_once);
}

static void body_sync_add(struct io_lab *lab)
{
	struct os *os = os_linux();
	int64_t start_ns = os->now_ns(os);

	if (lab->sim != NULL)
		return;
	io_submit(lab->io, lab_op(lab, 0, IO_SYNC, 0));
	io_submit(lab->io, lab_op(lab, 1, IO_SYNC, 0));
	io_push(lab->io);
	for (uint32_t i = 2; i < 34; i++)
		io_submit(lab->io, lab_op(lab, i, IO_READ, i * LAB_BLOCK));
	io_push(lab->io);
	lab_finish(lab, 34);
	assert_true(os->now_ns(os) - start_ns >= 400 * NS_PER_MS);
	/* The reads came later and were first: nobody waited for the delay but the syncs. */
	assert_true(lab->order[32] < 2 && lab->order[33] < 2);
	assert_int_equal(lab->ops[0].result, 0);
	assert_int_equal(lab->ops[1].result, 0);
}

/* A sync that is to take longer does so and keeps nothing else, even with one worker thread. */
static void test_io__sync_add_delays_syncs_only(void **state)
{
	(void)state;
	const struct io_options options = { .sync_add_ns = 400 * NS_PER_MS };

	each_engine_with(body_sync_add, &options);
}

/* ---- from several threads ---- */

struct waiter {
	struct io_lab *lab;
	int result;
};

static void *wait_once(void *arg)
{
	struct waiter *waiter = arg;

	waiter->result = io_wait(waiter->lab->io, -1);
	return NULL;
}

static void body_second_waits(struct io_lab *lab)
{
	struct waiter waiter = { .lab = lab, .result = 1 };
	pthread_t thread;

	if (!lab->engine->shared)
		return;
	for (uint32_t round = 0; round < 50; round++) {
		lab->finished = 0;
		assert_int_equal(pthread_create(&thread, NULL, wait_once, &waiter), 0);
		for (uint32_t i = 0; i < 8; i++)
			io_submit(lab->io,
				  lab_op(lab, i, i == 3 ? IO_SYNC : IO_WRITE, i * LAB_BLOCK));
		io_push(lab->io);
		/* Not reaped until the other has woken: it must see that something is there. */
		assert_int_equal(pthread_join(thread, NULL), 0);
		assert_int_equal(waiter.result, 0);
		lab_finish(lab, 8);
	}
}

/* One thread waits in the kernel while another submits: it wakes when something has finished. */
static void test_io__a_second_thread_may_wait(void **state)
{
	(void)state;
	each_engine(body_second_waits);
}

static void *submit_and_end(void *arg)
{
	struct io_lab *lab = arg;

	for (uint32_t i = 0; i < 16; i++)
		io_submit(lab->io, lab_op(lab, i, i % 2 == 0 ? IO_SYNC : IO_WRITE, i * LAB_BLOCK));
	io_push(lab->io);
	return NULL;
}

static void body_submitter_ends(struct io_lab *lab)
{
	pthread_t thread;

	if (!lab->engine->shared)
		return;
	for (uint32_t round = 0; round < 20; round++) {
		lab->finished = 0;
		assert_int_equal(pthread_create(&thread, NULL, submit_and_end, lab), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
		lab_finish(lab, 16);
		for (uint32_t i = 0; i < 16; i++)
			if (lab->ops[i].result != -EAGAIN)
				assert_int_equal(lab->ops[i].result, i % 2 == 0 ? 0 : LAB_BLOCK);
	}
}

/* A thread that ends has its operations cancelled by the kernel where it can: they come back as
 * "try again" and not as an error of the disk. */
static void test_io__submitter_may_end_before_its_operations(void **state)
{
	(void)state;
	each_engine(body_submitter_ends);
}

/* ---- against a model ---- */

struct load {
	uint64_t model[BLOCKS]; /* what a block holds */
	bool busy[BLOCKS];
	uint32_t block[LAB_OPS];
	uint64_t value[LAB_OPS];
	bool used[LAB_OPS];
};

static void load_done(struct io_op *op)
{
	struct io_lab *lab = op->owner;
	uint32_t index = (uint32_t)(op - lab->ops);

	lab->order[0] = index; /* the last one: load_settle looks at it */
	lab->finished++;
	assert_int_equal(op->result, op->kind == IO_SYNC ? 0 : LAB_BLOCK);
	op->owner = NULL;
}

static void load_settle(struct io_lab *lab, struct load *load)
{
	for (uint32_t i = 0; i < LAB_OPS; i++) {
		struct io_op *op = &lab->ops[i];
		uint32_t block = load->block[i];
		uint64_t got;

		if (!load->used[i] || op->owner != NULL)
			continue;
		load->used[i] = false;
		if (op->kind == IO_SYNC)
			continue;
		load->busy[block] = false;
		if (op->kind == IO_WRITE)
			load->model[block] = load->value[i];
		for (uint32_t at = 0; at < LAB_BLOCK; at += sizeof got) {
			memcpy(&got, op->data + at, sizeof got);
			assert_int_equal(got, load->model[block]);
		}
	}
}

static void load_put(struct io_lab *lab, struct load *load, struct prng *prng)
{
	uint32_t index = prng_below(prng, LAB_OPS);
	uint32_t block = prng_below(prng, BLOCKS);
	uint32_t what = prng_below(prng, 20);
	enum io_kind kind = what == 0 ? IO_SYNC : what < 10 ? IO_WRITE : IO_READ;
	struct io_op *op;

	if (load->used[index] || load->busy[block] || lab->io->in_flight >= 64)
		return;
	op = lab_op(lab, index, kind, (uint64_t)block * LAB_BLOCK);
	op->done = load_done;
	load->used[index] = true;
	load->block[index] = block;
	load->value[index] = prng_next(prng);
	if (kind != IO_SYNC)
		load->busy[block] = true;
	fill(op->data, kind == IO_WRITE ? load->value[index] : 0);
	io_submit(lab->io, op);
}

static void body_load(struct io_lab *lab)
{
	struct load *load = calloc(1, sizeof *load);
	struct prng prng;

	assert_non_null(load);
	test_prng(&prng);
	for (uint32_t round = 0; round < 400; round++) {
		for (uint32_t i = prng_below(&prng, 48); i > 0; i--)
			load_put(lab, load, &prng);
		io_push(lab->io);
		if (lab->io->in_flight > 0 && prng_below(&prng, 3) > 0)
			assert_int_equal(io_wait(lab->io, -1), 0);
		io_reap(lab->io);
		load_settle(lab, load);
	}
	while (lab->io->in_flight > 0) {
		assert_int_equal(io_wait(lab->io, -1), 0);
		io_reap(lab->io);
	}
	load_settle(lab, load);
	for (uint32_t block = 0; block < BLOCKS; block++) {
		struct io_op *op = lab_op(lab, 0, IO_READ, (uint64_t)block * LAB_BLOCK);
		uint64_t got;

		assert_int_equal(lab_run(lab, op), LAB_BLOCK);
		memcpy(&got, op->data, sizeof got);
		assert_int_equal(got, load->model[block]);
	}
	free(load);
}

/* Random reads, writes and syncs at depth 64: every block holds what was written to it last. */
static void test_io__agrees_with_a_model(void **state)
{
	(void)state;
	each_engine(body_load);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_io__reads_what_was_written),
		cmocka_unit_test(test_io__short_at_the_end),
		cmocka_unit_test(test_io__misaligned_is_einval),
		cmocka_unit_test(test_io__discard_leaves_a_file_whole),
		cmocka_unit_test(test_io__more_than_depth_is_eagain),
		cmocka_unit_test(test_io__done_may_submit),
		cmocka_unit_test(test_io__close_waits_for_what_is_in_flight),
		cmocka_unit_test(test_io__descriptor_wakes_epoll_and_parks),
		cmocka_unit_test(test_io__refused_wakes_the_waiter),
		cmocka_unit_test(test_io__wait_times_out),
		cmocka_unit_test(test_io__push_is_one_syscall),
		cmocka_unit_test(test_io__sync_add_delays_syncs_only),
		cmocka_unit_test(test_io__a_second_thread_may_wait),
		cmocka_unit_test(test_io__submitter_may_end_before_its_operations),
		cmocka_unit_test(test_io__agrees_with_a_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
