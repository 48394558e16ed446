#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/queue.h"
#include "lib/testlib.h"
#include "os/io_sim.h"

enum { OPS = 512, DEPTH = 8, STEPS = 256 };

/* An io whose every result is written down beforehand. Operations finish in the order submitted. */
struct fake {
	struct io io;
	struct io_op *held[OPS];
	uint32_t held_count;
	struct io_op *seen[OPS]; /* in the order submitted */
	uint32_t seen_count;
	uint32_t pushes;
	uint32_t finish;      /* how many the next reap finishes; UINT32_MAX = all */
	bool keeps;           /* background never finishes */
	int32_t steps[STEPS]; /* results, one each submission; WHOLE = all of it */
	uint32_t step;
	uint32_t most; /* in flight at a time */
	uint64_t bytes, bytes_most;
};

static const int32_t WHOLE = INT32_MAX;

static void fake_submit(struct io *io, struct io_op *op)
{
	struct fake *fake = (struct fake *)io;
	assert_true(fake->held_count < OPS && fake->seen_count < OPS);
	fake->held[fake->held_count++] = op;
	fake->seen[fake->seen_count++] = op;
	fake->bytes += op->bytes;
	io->in_flight++;
	assert_true(io->in_flight <= io->depth);
	if (io->in_flight > fake->most)
		fake->most = io->in_flight;
	if (fake->bytes > fake->bytes_most)
		fake->bytes_most = fake->bytes;
}

static void fake_push(struct io *io)
{
	((struct fake *)io)->pushes++;
}

/* Which finishes next. */
static uint32_t fake_next(const struct fake *fake)
{
	uint32_t at = 0;
	while (fake->keeps && at < fake->held_count && fake->held[at]->io_class == QUEUE_BACKGROUND)
		at++;
	return at;
}

static uint32_t fake_reap(struct io *io)
{
	struct fake *fake = (struct fake *)io;
	uint32_t most = fake->finish < fake->held_count ? fake->finish : fake->held_count;
	uint32_t count = 0;
	for (uint32_t at; count < most && (at = fake_next(fake)) < fake->held_count; count++) {
		struct io_op *op = fake->held[at];
		fake->held_count--;
		memmove(fake->held + at, fake->held + at + 1,
			(fake->held_count - at) * sizeof *fake->held);
		io->in_flight--;
		fake->bytes -= op->bytes;
		int32_t step = fake->step < STEPS ? fake->steps[fake->step++] : WHOLE;
		op->result = step == WHOLE ? (int32_t)op->bytes : step;
		op->done(op);
	}
	return count;
}

static const struct io_calls fake_calls = { .submit = fake_submit,
					    .push = fake_push,
					    .reap = fake_reap };

struct lab {
	struct fake fake;
	struct os_sim os;
	struct queue queue;
	struct io_op ops[OPS];
	uint32_t op_count;
	struct io_op *done[OPS]; /* in the order finished */
	uint32_t done_count;
	uint8_t data[1 << 16];
};

static void lab_done(struct io_op *op)
{
	struct lab *lab = op->owner;
	lab->done[lab->done_count++] = op;
}

static struct lab *lab_open(uint32_t depth, uint64_t bytes_max)
{
	struct lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	lab->fake.io = (struct io){ .calls = &fake_calls, .fd = -1, .depth = OPS };
	lab->fake.finish = UINT32_MAX;
	for (uint32_t i = 0; i < STEPS; i++)
		lab->fake.steps[i] = WHOLE;
	os_sim_init(&lab->os, 1);
	os_sim_advance(&lab->os, 1000);
	queue_init(&lab->queue, &lab->fake.io, &lab->os.os, depth, bytes_max);
	return lab;
}

static void lab_close(struct lab *lab)
{
	assert_true(queue_idle(&lab->queue));
	assert_int_equal(lab->fake.io.in_flight, 0);
	free(lab);
}

static struct io_op *lab_put(struct lab *lab, enum queue_class class, enum io_kind kind,
			     uint32_t bytes)
{
	assert_true(lab->op_count < OPS);
	struct io_op *op = &lab->ops[lab->op_count++];
	*op = (struct io_op){
		.kind = kind,
		.bytes = bytes,
		.offset = 4096 * (uint64_t)lab->op_count,
		.data = lab->data,
		.done = lab_done,
		.owner = lab,
	};
	queue_put(&lab->queue, op, class);
	return op;
}

static void lab_run(struct lab *lab)
{
	queue_pump(&lab->queue);
	for (uint32_t turns = 0; !queue_idle(&lab->queue); turns++) {
		assert_true(turns < 10000);
		queue_reap(&lab->queue);
	}
}

/* Reads that somebody waits for go before flushes, those before background, each class in the order
 * put; one push for all that were handed over. */
static void test_queue__serves_the_higher_class_first(void **state)
{
	(void)state;
	struct lab *lab = lab_open(DEPTH, 0);
	struct io_op *background = lab_put(lab, QUEUE_BACKGROUND, IO_WRITE, 512);
	struct io_op *flush = lab_put(lab, QUEUE_FLUSH, IO_WRITE, 512);
	struct io_op *read = lab_put(lab, QUEUE_READ, IO_READ, 512);
	struct io_op *read2 = lab_put(lab, QUEUE_READ, IO_READ, 512);
	assert_false(queue_idle(&lab->queue));
	assert_int_equal(lab->fake.seen_count, 0);
	queue_pump(&lab->queue);
	assert_int_equal(lab->fake.pushes, 1);
	assert_ptr_equal(lab->fake.seen[0], read);
	assert_ptr_equal(lab->fake.seen[1], read2);
	assert_ptr_equal(lab->fake.seen[2], flush);
	assert_ptr_equal(lab->fake.seen[3], background);
	assert_int_equal(lab->queue.in_class[QUEUE_READ], 2);
	assert_int_equal(queue_reap(&lab->queue), 4);
	assert_int_equal(lab->done_count, 4);
	assert_int_equal(lab->queue.ops[QUEUE_READ], 2);
	assert_int_equal(lab->queue.bytes[QUEUE_BACKGROUND], 512);
	assert_int_equal(lab->fake.pushes, 1); /* nothing waited: no second push */
	lab_close(lab);
}

/* However many reads come, a flush and background work get a turn in QUEUE_STARVE each. */
static void test_queue__starves_no_class(void **state)
{
	(void)state;
	struct lab *lab = lab_open(1, 0);
	struct io_op *late[2][4];
	for (uint32_t i = 0; i < 4; i++) {
		late[0][i] = lab_put(lab, QUEUE_FLUSH, IO_WRITE, 512);
		late[1][i] = lab_put(lab, QUEUE_BACKGROUND, IO_WRITE, 512);
	}
	for (uint32_t i = 0; i < 200; i++)
		lab_put(lab, QUEUE_READ, IO_READ, 512);
	lab_run(lab);
	uint32_t last[2] = { 0, 0 }, next[2] = { 0, 0 };
	for (uint32_t i = 0; i < lab->done_count; i++) {
		for (uint32_t class = 0; class < 2; class ++) {
			if (next[class] == 4 || lab->done[i] != late[class][next[class]])
				continue;
			assert_true(i + 1 - last[class] <= QUEUE_STARVE);
			assert_true(i + 1 - last[class] > QUEUE_STARVE / 2); /* nor too often */
			last[class] = i + 1;
			next[class]++;
		}
	}
	assert_int_equal(next[0] + next[1], 8);
	lab_close(lab);
}

/* Background has a quarter of the depth while others wait, however slow it is, and all of it when
 * none do. */
static void test_queue__bounds_background_while_others_wait(void **state)
{
	(void)state;
	struct lab *lab = lab_open(DEPTH, 0);
	for (uint32_t i = 0; i < 100; i++) {
		lab_put(lab, QUEUE_BACKGROUND, IO_READ, 512);
		lab_put(lab, QUEUE_READ, IO_READ, 512);
	}
	lab->fake.finish = 1;
	lab->fake.keeps = true;
	queue_pump(&lab->queue);
	uint32_t most = 0;
	for (uint32_t turns = 0; lab->queue.waiting[QUEUE_READ].count > 0; turns++) {
		assert_true(turns < 1000);
		queue_reap(&lab->queue);
		if (lab->queue.waiting[QUEUE_READ].count > 0 &&
		    lab->queue.in_class[QUEUE_BACKGROUND] > most)
			most = lab->queue.in_class[QUEUE_BACKGROUND];
	}
	assert_int_equal(most, DEPTH / 4);
	for (uint32_t i = 0; i < DEPTH; i++)
		queue_reap(&lab->queue);
	assert_int_equal(lab->queue.in_class[QUEUE_BACKGROUND], DEPTH);
	lab->fake.keeps = false;
	lab->fake.finish = UINT32_MAX;
	lab_run(lab);
	lab_close(lab);
}

/* A depth of 1 has no quarter, and background goes all the same. */
static void test_queue__background_goes_at_depth_1(void **state)
{
	(void)state;
	struct lab *lab = lab_open(1, 0);
	lab_put(lab, QUEUE_BACKGROUND, IO_READ, 512);
	lab_run(lab);
	assert_int_equal(lab->done_count, 1);
	lab_close(lab);
}

/* No more than depth operations and bytes_max bytes are under way; one over that goes alone. */
static void test_queue__keeps_depth_and_bytes(void **state)
{
	(void)state;
	struct lab *lab = lab_open(DEPTH, 16384);
	for (uint32_t i = 0; i < 40; i++)
		lab_put(lab, QUEUE_READ, IO_READ, i % 2 ? 512 : 4096);
	lab->fake.finish = 1;
	lab_run(lab);
	assert_in_range(lab->fake.most, 4, DEPTH);
	assert_true(lab->fake.bytes_most <= 16384);
	lab->fake.most = 0;
	for (uint32_t i = 0; i < 3; i++)
		lab_put(lab, QUEUE_READ, IO_READ, 65536);
	lab_run(lab);
	assert_int_equal(lab->fake.most, 1);
	for (uint32_t i = 0; i < 40; i++)
		lab_put(lab, QUEUE_READ, IO_READ, 512);
	lab_run(lab);
	assert_int_equal(lab->fake.most, DEPTH);
	lab_close(lab);
}

/* The depth of an io that carries other work is not exceeded: what does not fit waits here. */
static void test_queue__takes_what_an_io_has_left(void **state)
{
	(void)state;
	struct lab *lab = lab_open(DEPTH, 0);
	lab->fake.io.in_flight = OPS - 2; /* another queue's */
	for (uint32_t i = 0; i < 4; i++)
		lab_put(lab, QUEUE_READ, IO_READ, 512);
	queue_pump(&lab->queue);
	assert_int_equal(lab->queue.in_flight, 2);
	lab->fake.io.in_flight -= OPS - 2;
	lab_run(lab);
	assert_int_equal(lab->done_count, 4);
	lab_close(lab);
}

/* A transfer that was cut short goes on behind what was done, in whole sectors, and the caller sees
 * one whole transfer, and his operation as he put it in. */
static void test_queue__goes_on_after_a_short_transfer(void **state)
{
	(void)state;
	struct lab *lab = lab_open(DEPTH, 0);
	const int32_t steps[] = { 1024, 700, 0, 100, WHOLE };
	memcpy(lab->fake.steps, steps, sizeof steps);
	struct io_op *op = lab_put(lab, QUEUE_FLUSH, IO_WRITE, 4096);
	const uint64_t offset = op->offset;
	const struct {
		uint32_t at, left;
	} rows[] = { { 0, 4096 }, { 1024, 3072 }, { 1536, 2560 }, { 1536, 2560 }, { 1536, 2560 } };
	queue_pump(&lab->queue);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(lab->done_count, 0);
		assert_int_equal(op->offset, offset + rows[i].at);
		assert_ptr_equal(op->data, lab->data + rows[i].at);
		assert_int_equal(op->bytes, rows[i].left);
		queue_reap(&lab->queue);
	}
	assert_int_equal(lab->done_count, 1);
	assert_int_equal(op->result, 4096);
	assert_int_equal(op->bytes, 4096);
	assert_int_equal(op->offset, offset);
	assert_ptr_equal(op->data, lab->data);
	assert_true(op->done == lab_done);
	assert_int_equal(lab->queue.shorts, 4);
	assert_int_equal(lab->queue.bytes[QUEUE_FLUSH], 4096);
	lab_close(lab);
}

/* A read at the end of the file is an error, not an endless loop; so is a write that never gets
 * on. */
static void test_queue__ends_what_never_gets_on(void **state)
{
	(void)state;
	struct lab *lab = lab_open(DEPTH, 0);
	lab->fake.steps[0] = 512;
	lab->fake.steps[1] = 0;
	struct io_op *op = lab_put(lab, QUEUE_READ, IO_READ, 4096);
	lab_run(lab);
	assert_int_equal(op->result, -EIO);
	assert_int_equal(op->bytes, 4096);
	for (uint32_t i = 0; i < STEPS; i++)
		lab->fake.steps[i] = i % 2 ? 0 : 511;
	op = lab_put(lab, QUEUE_FLUSH, IO_WRITE, 4096);
	lab_run(lab);
	assert_int_equal(op->result, -EIO);
	assert_int_equal(lab->fake.seen_count, 2 + 1 + QUEUE_TRIES);
	lab_close(lab);
}

/* EAGAIN and EINTR are tried again, before what waits behind, and not for ever. */
static void test_queue__tries_again_a_bounded_number_of_times(void **state)
{
	(void)state;
	struct lab *lab = lab_open(1, 0);
	lab->fake.steps[0] = -EAGAIN;
	lab->fake.steps[1] = -EINTR;
	struct io_op *op = lab_put(lab, QUEUE_READ, IO_READ, 4096);
	struct io_op *behind = lab_put(lab, QUEUE_READ, IO_READ, 4096);
	lab_run(lab);
	assert_ptr_equal(lab->done[0], op);
	assert_ptr_equal(lab->done[1], behind);
	assert_int_equal(op->result, 4096);
	assert_int_equal(lab->queue.retries, 2);
	for (uint32_t i = 0; i < STEPS; i++)
		lab->fake.steps[i] = -EAGAIN;
	uint32_t seen = lab->fake.seen_count;
	lab_put(lab, QUEUE_FLUSH, IO_SYNC, 0);
	lab_run(lab);
	assert_int_equal(lab->done[2]->result, -EAGAIN);
	assert_int_equal(lab->fake.seen_count, seen + 1 + QUEUE_TRIES);
	lab_close(lab);
}

/* Other errors reach the caller at once and as they are; a sync's failure above all is never tried
 * again. */
static void test_queue__passes_errors_on(void **state)
{
	(void)state;
	struct lab *lab = lab_open(DEPTH, 0);
	const int32_t steps[] = { -EIO, -ENOSPC, -EIO, -EOPNOTSUPP, 0, 0 };
	memcpy(lab->fake.steps, steps, sizeof steps);
	struct io_op *read = lab_put(lab, QUEUE_READ, IO_READ, 4096);
	struct io_op *write = lab_put(lab, QUEUE_FLUSH, IO_WRITE, 4096);
	struct io_op *sync = lab_put(lab, QUEUE_FLUSH, IO_SYNC, 0);
	struct io_op *discard = lab_put(lab, QUEUE_BACKGROUND, IO_DISCARD, 4096);
	lab_run(lab);
	assert_int_equal(read->result, -EIO);
	assert_int_equal(write->result, -ENOSPC);
	assert_int_equal(sync->result, -EIO);
	assert_int_equal(discard->result, -EOPNOTSUPP);
	assert_int_equal(lab->fake.seen_count, 4);
	assert_int_equal(lab->queue.ops[QUEUE_FLUSH], 0);
	sync = lab_put(lab, QUEUE_FLUSH, IO_SYNC, 4096);
	discard = lab_put(lab, QUEUE_BACKGROUND, IO_DISCARD, 4096);
	lab_run(lab);
	assert_int_equal(sync->result, 0);
	assert_int_equal(discard->result, 0);
	lab_close(lab);
}

static void lab_put_more(struct io_op *op)
{
	struct lab *lab = op->owner;
	lab_done(op);
	if (lab->op_count < 20) {
		struct io_op *more = lab_put(lab, QUEUE_READ, IO_READ, 512);
		more->finished = lab_put_more;
		queue_pump(&lab->queue);
	}
}

/* done() may put in more, pump, and put the same operation in again. */
static void test_queue__may_be_fed_from_done(void **state)
{
	(void)state;
	struct lab *lab = lab_open(2, 0);
	struct io_op *op = lab_put(lab, QUEUE_READ, IO_READ, 512);
	op->finished = lab_put_more;
	lab_run(lab);
	assert_int_equal(lab->done_count, 20);
	queue_put(&lab->queue, op, QUEUE_BACKGROUND);
	lab_run(lab);
	assert_int_equal(lab->done_count, 21);
	lab_close(lab);
}

/* The model learns from each sync, also one beside writes, or else batches would not grow under
 * load; from times with nothing but large writes, or reads at depth; and nothing of bandwidths from
 * mixtures, nothing from single reads and failures. */
static void test_queue__teaches_the_model(void **state)
{
	(void)state;
	struct lab *lab = lab_open(64, 0);
	struct haul_disk_model model = { .sync_ns = 1e6,
					 .write_bandwidth = 1e9,
					 .read_bandwidth = 1e9,
					 .read_iops = 1e5,
					 .read_ns = 1e5 };
	const struct haul_disk_model before = model;
	struct haul_hist *hists = calloc(QUEUE_CLASSES, sizeof *hists);
	lab->queue.model = &model;
	lab->queue.service_ns = hists;
	/* Told nothing: a read alone, a small write, a write beside a read, a failed sync. */
	lab_put(lab, QUEUE_READ, IO_READ, 4096);
	queue_pump(&lab->queue);
	os_sim_advance(&lab->os, 500);
	lab_run(lab);
	lab_put(lab, QUEUE_FLUSH, IO_WRITE, 4096);
	queue_pump(&lab->queue);
	os_sim_advance(&lab->os, 500);
	lab_run(lab);
	lab_put(lab, QUEUE_FLUSH, IO_WRITE, 1 << 20);
	lab_put(lab, QUEUE_READ, IO_READ, 4096);
	queue_pump(&lab->queue);
	os_sim_advance(&lab->os, 500);
	lab_run(lab);
	lab->fake.steps[lab->fake.step] = -EIO;
	lab_put(lab, QUEUE_FLUSH, IO_SYNC, 0);
	queue_pump(&lab->queue);
	os_sim_advance(&lab->os, 500);
	lab_run(lab);
	assert_memory_equal(&model, &before, sizeof model);
	assert_int_equal(hists[QUEUE_FLUSH].count, 3);
	assert_int_equal(hists[QUEUE_READ].max, 500);

	lab_put(lab, QUEUE_FLUSH, IO_WRITE, 1 << 20);
	lab_put(lab, QUEUE_FLUSH, IO_SYNC, 0);
	queue_pump(&lab->queue);
	os_sim_advance(&lab->os, 2000000);
	lab_run(lab);
	assert_true(model.write_bandwidth == before.write_bandwidth);
	assert_true(model.sync_ns > 1.05e6 && model.sync_ns < 2e6);
	for (uint32_t i = 0; i < 8; i++)
		lab_put(lab, QUEUE_FLUSH, IO_WRITE, 65536);
	queue_pump(&lab->queue);
	os_sim_advance(&lab->os, 8 * 65536 * 2); /* 500 MB/s */
	lab_run(lab);
	assert_true(model.write_bandwidth < 0.98e9 && model.write_bandwidth > 0.5e9);
	for (uint32_t i = 0; i < 64; i++)
		lab_put(lab, QUEUE_READ, IO_READ, 4096);
	queue_pump(&lab->queue);
	os_sim_advance(&lab->os, 64 * 20000); /* 50 k/s */
	lab_run(lab);
	assert_true(model.read_iops < 0.98e5 && model.read_iops > 0.5e5);
	free(hists);
	lab_close(lab);
}

/* All of it on the simulated disk: random operations of all classes, shorts and EAGAIN on the way;
 * each is whole in the end, and the disk holds what was written. */
static void test_queue__carries_random_work_on_a_simulated_disk(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct lab *lab = lab_open(4, 0);
	struct io_sim *sim;
	assert_int_equal(io_sim_open(&sim, OPS * 4096, prng_next(&prng)), 0);
	queue_init(&lab->queue, io_sim_io(sim), &lab->os.os, 16, 1 << 20);
	uint8_t *data = aligned_alloc(4096, (OPS + 1) * 4096);
	assert_non_null(data);
	for (uint32_t i = 0; i < OPS * 4096; i++)
		data[i] = (uint8_t)prng_next(&prng);
	io_sim_fail(sim, IO_WRITE, 3, 5, 0);
	io_sim_fail(sim, IO_READ, 2, 2, -EAGAIN);
	for (uint32_t i = 0; i < OPS - 1; i++) {
		bool read = prng_below(&prng, 4) == 0;
		struct io_op *op = &lab->ops[i];
		*op = (struct io_op){
			.kind = read ? IO_READ : IO_WRITE,
			.bytes = 4096,
			.offset = i * 4096,
			.data = data + (read ? OPS : i) * 4096,
			.done = lab_done,
			.owner = lab,
		};
		queue_put(&lab->queue, op, prng_below(&prng, QUEUE_CLASSES));
		if (prng_below(&prng, 8) == 0)
			queue_pump(&lab->queue);
		if (prng_below(&prng, 16) == 0)
			queue_reap(&lab->queue);
	}
	lab_run(lab);
	assert_int_equal(lab->done_count, OPS - 1);
	for (uint32_t i = 0; i < OPS - 1; i++) {
		assert_int_equal(lab->ops[i].result, 4096);
		if (lab->ops[i].kind == IO_WRITE)
			assert_memory_equal(io_sim_bytes(sim) + i * 4096, data + i * 4096, 4096);
	}
	assert_true(lab->queue.shorts >= 5 && lab->queue.retries >= 2);
	free(data);
	io_sim_close(sim);
	lab_close(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_queue__serves_the_higher_class_first),
		cmocka_unit_test(test_queue__starves_no_class),
		cmocka_unit_test(test_queue__bounds_background_while_others_wait),
		cmocka_unit_test(test_queue__background_goes_at_depth_1),
		cmocka_unit_test(test_queue__keeps_depth_and_bytes),
		cmocka_unit_test(test_queue__takes_what_an_io_has_left),
		cmocka_unit_test(test_queue__goes_on_after_a_short_transfer),
		cmocka_unit_test(test_queue__ends_what_never_gets_on),
		cmocka_unit_test(test_queue__tries_again_a_bounded_number_of_times),
		cmocka_unit_test(test_queue__passes_errors_on),
		cmocka_unit_test(test_queue__may_be_fed_from_done),
		cmocka_unit_test(test_queue__teaches_the_model),
		cmocka_unit_test(test_queue__carries_random_work_on_a_simulated_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
