/* The simulated disk: what a crash may leave, and what may go wrong before it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "os/io_lab.h"

enum { DISK_BYTES = 1 << 20, SECTORS_A_BLOCK = LAB_BLOCK / IO_SIM_SECTOR };

static const struct lab_engine simulated = { .name = "simulated", .sim = true };

static int sim_setup(void **state)
{
	struct io_lab *lab = calloc(1, sizeof *lab);

	assert_non_null(lab);
	lab_open(lab, &simulated, DISK_BYTES, NULL);
	*state = lab;
	return 0;
}

static int sim_teardown(void **state)
{
	lab_close(*state);
	free(*state);
	return 0;
}

/* Put in a write of one block full of `value`; it is not pushed. */
static struct io_op *put(struct io_lab *lab, uint32_t index, uint64_t offset, uint8_t value)
{
	struct io_op *op = lab_op(lab, index, IO_WRITE, offset);

	memset(op->data, value, LAB_BLOCK);
	io_submit(lab->io, op);
	return op;
}

static void write_now(struct io_lab *lab, uint64_t offset, uint8_t value)
{
	put(lab, 0, offset, value);
	io_push(lab->io);
	lab_finish(lab, lab->finished + 1);
	assert_int_equal(lab->ops[0].result, LAB_BLOCK);
}

static int32_t sync_now(struct io_lab *lab)
{
	return lab_run(lab, lab_op(lab, 1, IO_SYNC, 0));
}

static uint8_t at(struct io_lab *lab, uint64_t offset)
{
	return io_sim_bytes(lab->sim)[offset];
}

static void crash(struct io_lab *lab, enum io_sim_crash how, uint64_t seed)
{
	struct prng prng;

	prng_init(&prng, seed);
	io_sim_crash(lab->sim, how, &prng);
}

/* ---- what is durable ---- */

/* After a crash that loses all it can, exactly what a sync covered is there. */
static void test_io_sim__sync_makes_durable(void **state)
{
	struct io_lab *lab = *state;

	write_now(lab, 0, 1);
	assert_int_equal(sync_now(lab), 0);
	write_now(lab, 0, 2);
	write_now(lab, LAB_BLOCK, 3);
	assert_int_equal(at(lab, 0), 2);
	crash(lab, IO_SIM_LOSE_ALL, 1);
	assert_int_equal(at(lab, 0), 1);
	assert_int_equal(at(lab, LAB_BLOCK), 0);
	/* What was left is durable: a second crash changes nothing. */
	crash(lab, IO_SIM_KEEP_ALL, 1);
	assert_int_equal(at(lab, 0), 1);
	assert_int_equal(at(lab, LAB_BLOCK), 0);
}

/* A write that was under way when the sync was pushed is not covered by it. */
static void test_io_sim__sync_covers_only_what_had_finished(void **state)
{
	struct io_lab *lab = *state;

	for (uint64_t block = 0; block < 32; block++) {
		put(lab, 2, block * LAB_BLOCK, 9);
		io_submit(lab->io, lab_op(lab, 1, IO_SYNC, 0));
		io_push(lab->io);
		lab_finish(lab, lab->finished + 2);
	}
	crash(lab, IO_SIM_LOSE_ALL, 1);
	/* Each was covered by the sync of the next round, whatever the order within a round. */
	assert_int_equal(at(lab, 30 * LAB_BLOCK), 9);
	assert_int_equal(at(lab, 31 * LAB_BLOCK), 0);
}

/* A write that is its own sync is durable when it has finished, and covers nothing else. */
static void test_io_sim__durable_write_covers_itself(void **state)
{
	struct io_lab *lab = *state;

	write_now(lab, 0, 4);
	put(lab, 5, LAB_BLOCK, 5);
	lab->ops[5].durable = true;
	io_push(lab->io);
	lab_finish(lab, lab->finished + 1);
	assert_int_equal(io_sim_count(lab->sim, IO_SYNC), 1);
	crash(lab, IO_SIM_LOSE_ALL, 1);
	assert_int_equal(at(lab, 0), 0);
	assert_int_equal(at(lab, LAB_BLOCK), 5);
}

/* A crash that keeps all keeps also what was still under way; the owner is never told. */
static void test_io_sim__crash_may_keep_what_is_in_flight(void **state)
{
	struct io_lab *lab = *state;

	write_now(lab, 0, 1);
	put(lab, 2, LAB_BLOCK, 2);
	io_push(lab->io);
	put(lab, 3, 2 * LAB_BLOCK, 3);
	crash(lab, IO_SIM_KEEP_ALL, 1);
	assert_int_equal(at(lab, 0), 1);
	assert_int_equal(at(lab, LAB_BLOCK), 2);
	assert_int_equal(at(lab, 2 * LAB_BLOCK), 0); /* never pushed */
	assert_int_equal(lab->finished, 1);
	/* The old io is dead, a new one works. */
	assert_int_equal(io_reap(lab->io), 0);
	assert_int_equal(io_wait(lab->io, -1), -ETIME);
	io_close(lab->io);
	lab->io = io_sim_io(lab->sim);
	write_now(lab, 0, 7);
	assert_int_equal(at(lab, 0), 7);
}

/* A prefix: what was written later is there only if all of what came before is. */
static void test_io_sim__crash_prefix_keeps_the_order(void **state)
{
	struct io_lab *lab = *state;
	bool seen[4 * SECTORS_A_BLOCK + 1] = { false };
	uint32_t different = 0;

	for (uint64_t seed = 0; seed < 400; seed++) {
		uint32_t kept = 0;

		for (uint64_t block = 0; block < 4; block++)
			write_now(lab, block * LAB_BLOCK, 1);
		crash(lab, IO_SIM_PREFIX, seed);
		while (kept < 4 * SECTORS_A_BLOCK && at(lab, kept * IO_SIM_SECTOR) == 1)
			kept++;
		for (uint32_t i = kept; i < 4 * SECTORS_A_BLOCK; i++)
			assert_int_equal(at(lab, i * IO_SIM_SECTOR), 0);
		seen[kept] = true;
		memset(io_sim_bytes(lab->sim), 0, 4 * LAB_BLOCK);
		/* What tests change is durable when nothing was pending on it. */
		for (uint64_t block = 0; block < 4; block++) {
			io_close(lab->io);
			lab->io = io_sim_io(lab->sim);
			write_now(lab, block * LAB_BLOCK, 0);
		}
		assert_int_equal(sync_now(lab), 0);
	}
	for (uint32_t i = 0; i <= 4 * SECTORS_A_BLOCK; i++)
		different += seen[i];
	assert_true(different > 4 * SECTORS_A_BLOCK / 2);
}

static void renew(struct io_lab *lab, uint8_t value)
{
	io_close(lab->io);
	lab->io = io_sim_io(lab->sim);
	write_now(lab, 0, value);
	assert_int_equal(sync_now(lab), 0);
}

/* Reordered: any sector is of any write to it or as it was, and all three occur. */
static void test_io_sim__crash_reorder_mixes_versions(void **state)
{
	struct io_lab *lab = *state;
	uint32_t seen[3] = { 0 };

	for (uint64_t seed = 0; seed < 50; seed++) {
		renew(lab, 0);
		write_now(lab, 0, 1);
		write_now(lab, 0, 2);
		crash(lab, IO_SIM_REORDER, seed);
		for (uint32_t i = 0; i < SECTORS_A_BLOCK; i++) {
			assert_true(at(lab, i * IO_SIM_SECTOR) <= 2);
			assert_int_equal(at(lab, i * IO_SIM_SECTOR + 511), at(lab, i * 512));
			seen[at(lab, i * IO_SIM_SECTOR)]++;
		}
	}
	assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
}

/* Torn: one write leaves a beginning or an end of itself. */
static void test_io_sim__crash_torn_leaves_one_edge(void **state)
{
	struct io_lab *lab = *state;
	uint32_t fronts = 0;
	uint32_t backs = 0;

	for (uint64_t seed = 0; seed < 100; seed++) {
		uint32_t changes = 0;

		renew(lab, 0);
		write_now(lab, 0, 1);
		crash(lab, IO_SIM_TORN, seed);
		for (uint32_t i = 1; i < SECTORS_A_BLOCK; i++)
			changes += at(lab, i * 512) != at(lab, (i - 1) * 512);
		assert_true(changes <= 1);
		fronts += changes == 1 && at(lab, 0) == 1;
		backs += changes == 1 && at(lab, 0) == 0;
	}
	assert_true(fronts > 10 && backs > 10);
}

/* The same seeds leave the same disk, to the byte. */
static void test_io_sim__is_repeatable(void **state)
{
	struct io_lab *lab = *state;
	struct io_lab *twin = calloc(1, sizeof *twin);
	struct io_lab *both[2] = { lab, twin };
	struct prng prng;
	uint64_t seed;

	assert_non_null(twin);
	lab_open(twin, &simulated, DISK_BYTES, NULL);
	test_prng(&prng);
	seed = prng_next(&prng);
	for (uint32_t which = 0; which < 2; which++) {
		struct io_lab *one = both[which];

		prng_init(&prng, seed);
		for (uint32_t i = 0; i < 200; i++) {
			put(one, i, prng_below(&prng, 64) * LAB_BLOCK, (uint8_t)i);
			io_push(one->io);
			if (i % 5 == 0)
				io_reap(one->io);
		}
		crash(one, IO_SIM_REORDER, seed);
	}
	assert_int_equal(lab->finished, twin->finished);
	assert_memory_equal(lab->order, twin->order, lab->finished * sizeof lab->order[0]);
	assert_memory_equal(io_sim_bytes(lab->sim), io_sim_bytes(twin->sim), DISK_BYTES);
	lab_close(twin);
	free(twin);
}

/* Operations finish in another order than they came, sooner or later. */
static void test_io_sim__finishes_out_of_order(void **state)
{
	struct io_lab *lab = *state;
	uint32_t turned = 0;

	for (uint32_t i = 0; i < 64; i++)
		put(lab, i, i * LAB_BLOCK, 1);
	io_push(lab->io);
	lab_finish(lab, 64);
	for (uint32_t i = 1; i < 64; i++)
		turned += lab->order[i] < lab->order[i - 1];
	assert_true(turned > 8);
}

/* ---- stopping ---- */

/* After so many operations nothing finishes any more; reads do not count. */
static void test_io_sim__stops_after_so_many(void **state)
{
	struct io_lab *lab = *state;

	io_sim_stop_after(lab->sim, 2);
	write_now(lab, 0, 1);
	assert_int_equal(lab_run(lab, lab_op(lab, 3, IO_READ, 0)), LAB_BLOCK);
	assert_false(io_sim_stopped(lab->sim));
	assert_int_equal(sync_now(lab), 0);
	assert_true(io_sim_stopped(lab->sim));
	put(lab, 4, 0, 2);
	io_submit(lab->io, lab_op(lab, 5, IO_READ, 0));
	io_push(lab->io);
	assert_int_equal(io_wait(lab->io, -1), -ETIME);
	assert_int_equal(io_reap(lab->io), 0);
	assert_int_equal(lab->finished, 3);
	assert_int_equal(io_sim_count(lab->sim, IO_WRITE), 1);
	assert_int_equal(io_sim_count(lab->sim, IO_READ), 1);
	assert_int_equal(io_sim_count(lab->sim, IO_SYNC), 1);
	crash(lab, IO_SIM_LOSE_ALL, 1);
	assert_false(io_sim_stopped(lab->sim));
	assert_int_equal(at(lab, 0), 1);
}

/* ---- faults ---- */

/* The n-th operation of a kind fails, those before and behind it do not. */
static void test_io_sim__fails_the_nth_of_a_kind(void **state)
{
	struct io_lab *lab = *state;

	write_now(lab, 0, 1);
	io_sim_fail(lab->sim, IO_WRITE, 1, 2, -EIO);
	write_now(lab, 0, 2);
	for (uint32_t i = 0; i < 2; i++) {
		struct io_op *op = lab_op(lab, 2, IO_WRITE, LAB_BLOCK);

		assert_int_equal(lab_run(lab, op), -EIO);
		assert_int_equal(lab_run(lab, lab_op(lab, 3, IO_READ, 0)), LAB_BLOCK);
	}
	write_now(lab, 0, 3);
	assert_int_equal(at(lab, 0), 3);
}

/* Error 0 is a transfer cut short: half of it was done. */
static void test_io_sim__cuts_short(void **state)
{
	struct io_lab *lab = *state;
	struct io_op *op = lab_op(lab, 0, IO_WRITE, 0);

	memset(op->data, 1, LAB_BLOCK);
	io_sim_fail(lab->sim, IO_WRITE, 0, 1, 0);
	assert_int_equal(lab_run(lab, op), LAB_BLOCK / 2);
	assert_int_equal(at(lab, LAB_BLOCK / 2 - 1), 1);
	assert_int_equal(at(lab, LAB_BLOCK / 2), 0);
	io_sim_fail(lab->sim, IO_READ, 0, 1, 0);
	assert_int_equal(lab_run(lab, lab_op(lab, 1, IO_READ, 0)), LAB_BLOCK / 2);
}

/* A write that fails has written some sectors from its start, none, or all. */
static void test_io_sim__failed_write_is_partial(void **state)
{
	struct io_lab *lab = *state;
	bool seen[SECTORS_A_BLOCK + 1] = { false };
	uint32_t different = 0;

	for (uint32_t round = 0; round < 200; round++) {
		struct io_op *op = lab_op(lab, 2, IO_WRITE, LAB_BLOCK);
		uint32_t kept = 0;

		write_now(lab, LAB_BLOCK, 0);
		memset(op->data, 1, LAB_BLOCK);
		io_sim_fail(lab->sim, IO_WRITE, 0, 1, -EIO);
		assert_int_equal(lab_run(lab, op), -EIO);
		while (kept < SECTORS_A_BLOCK && at(lab, LAB_BLOCK + kept * 512) == 1)
			kept++;
		for (uint32_t i = kept; i < SECTORS_A_BLOCK; i++)
			assert_int_equal(at(lab, LAB_BLOCK + i * 512), 0);
		seen[kept] = true;
	}
	for (uint32_t i = 0; i <= SECTORS_A_BLOCK; i++)
		different += seen[i];
	assert_int_equal(different, SECTORS_A_BLOCK + 1);
}

/* After a failed sync the data is lost though reads see it and the next sync says it is well: to
 * trust a second fdatasync is to lose data. */
static void test_io_sim__failed_sync_cannot_be_repeated(void **state)
{
	struct io_lab *lab = *state;
	uint32_t lost = 0;
	uint32_t kept = 0;

	for (uint64_t block = 0; block < 8; block++)
		write_now(lab, block * LAB_BLOCK, 1);
	io_sim_fail(lab->sim, IO_SYNC, 0, 1, -EIO);
	assert_int_equal(sync_now(lab), -EIO);
	assert_int_equal(sync_now(lab), 0);
	write_now(lab, 8 * LAB_BLOCK, 1);
	write_now(lab, 0, 5); /* over what is in doubt */
	assert_int_equal(sync_now(lab), 0);
	for (uint64_t block = 1; block < 9; block++)
		assert_int_equal(at(lab, block * LAB_BLOCK), 1);
	crash(lab, IO_SIM_KEEP_ALL, 1);
	for (uint64_t sector = SECTORS_A_BLOCK; sector < 8 * SECTORS_A_BLOCK; sector++) {
		lost += at(lab, sector * 512) == 0;
		kept += at(lab, sector * 512) == 1;
	}
	assert_true(lost > 8 && kept > 8);
	for (uint64_t sector = 0; sector < SECTORS_A_BLOCK; sector++) {
		assert_int_equal(at(lab, sector * 512), 5);
		assert_int_equal(at(lab, 8 * LAB_BLOCK + sector * 512), 1);
	}
}

/* Reads that touch the bad range fail; beside it they do not, and writes do not either. */
static void test_io_sim__bad_range_fails_reads(void **state)
{
	struct io_lab *lab = *state;

	io_sim_bad(lab->sim, LAB_BLOCK + 512, 512);
	assert_int_equal(lab_run(lab, lab_op(lab, 2, IO_READ, LAB_BLOCK)), -EIO);
	assert_int_equal(lab_run(lab, lab_op(lab, 2, IO_READ, 0)), LAB_BLOCK);
	assert_int_equal(lab_run(lab, lab_op(lab, 2, IO_READ, 2 * LAB_BLOCK)), LAB_BLOCK);
	write_now(lab, LAB_BLOCK, 1);
	io_sim_bad(lab->sim, 0, 0);
	assert_int_equal(lab_run(lab, lab_op(lab, 2, IO_READ, LAB_BLOCK)), LAB_BLOCK);
}

/* A dead device fails everything with ENODEV, and has what it had when it comes back. */
static void test_io_sim__dead_device_comes_back(void **state)
{
	struct io_lab *lab = *state;

	write_now(lab, 0, 1);
	assert_int_equal(sync_now(lab), 0);
	io_sim_dead(lab->sim, true);
	assert_int_equal(lab_run(lab, lab_op(lab, 2, IO_READ, 0)), -ENODEV);
	assert_int_equal(lab_run(lab, lab_op(lab, 2, IO_WRITE, 0)), -ENODEV);
	assert_int_equal(lab_run(lab, lab_op(lab, 2, IO_SYNC, 0)), -ENODEV);
	assert_int_equal(lab_run(lab, lab_op(lab, 2, IO_DISCARD, 0)), -ENODEV);
	io_sim_dead(lab->sim, false);
	assert_int_equal(lab_run(lab, lab_op(lab, 2, IO_READ, 0)), LAB_BLOCK);
	assert_int_equal(lab->ops[2].data[0], 1);
}

/* Behind the end of the disk there is no room; over the end the write is short. */
static void test_io_sim__ends_where_it_ends(void **state)
{
	struct io_lab *lab = *state;
	struct io_op *op = lab_op(lab, 0, IO_WRITE, DISK_BYTES);

	assert_int_equal(lab_run(lab, op), -ENOSPC);
	op = lab_op(lab, 0, IO_WRITE, DISK_BYTES - 512);
	assert_int_equal(lab_run(lab, op), 512);
}

/* A discarded block reads as it was or as zeros, sector by sector, and nothing else is touched. */
static void test_io_sim__discard_leaves_old_or_zeros(void **state)
{
	struct io_lab *lab = *state;
	uint32_t zeros = 0;

	for (uint64_t block = 0; block < 4; block++)
		write_now(lab, block * LAB_BLOCK, 1);
	for (uint64_t block = 1; block < 3; block++)
		assert_int_equal(lab_run(lab, lab_op(lab, 2, IO_DISCARD, block * LAB_BLOCK)), 0);
	for (uint64_t sector = 0; sector < 4 * SECTORS_A_BLOCK; sector++) {
		bool outside = sector < SECTORS_A_BLOCK || sector >= 3 * SECTORS_A_BLOCK;

		assert_true(at(lab, sector * 512) == 1 || !outside);
		zeros += at(lab, sector * 512) == 0;
	}
	assert_true(zeros > 0 && zeros < 2 * SECTORS_A_BLOCK);
}

/* No memory for the disk is said, and nothing is left behind. */
static void test_io_sim__open_without_memory(void **state)
{
	struct io_sim *sim = NULL;

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		if (!test_malloc_fail(i))
			return;
		assert_int_equal(io_sim_open(&sim, DISK_BYTES, 1), -ENOMEM);
		assert_null(sim);
	}
}

#define SIM_TEST(name) cmocka_unit_test_setup_teardown(name, sim_setup, sim_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SIM_TEST(test_io_sim__sync_makes_durable),
		SIM_TEST(test_io_sim__sync_covers_only_what_had_finished),
		SIM_TEST(test_io_sim__durable_write_covers_itself),
		SIM_TEST(test_io_sim__crash_may_keep_what_is_in_flight),
		SIM_TEST(test_io_sim__crash_prefix_keeps_the_order),
		SIM_TEST(test_io_sim__crash_reorder_mixes_versions),
		SIM_TEST(test_io_sim__crash_torn_leaves_one_edge),
		SIM_TEST(test_io_sim__is_repeatable),
		SIM_TEST(test_io_sim__finishes_out_of_order),
		SIM_TEST(test_io_sim__stops_after_so_many),
		SIM_TEST(test_io_sim__fails_the_nth_of_a_kind),
		SIM_TEST(test_io_sim__cuts_short),
		SIM_TEST(test_io_sim__failed_write_is_partial),
		SIM_TEST(test_io_sim__failed_sync_cannot_be_repeated),
		SIM_TEST(test_io_sim__bad_range_fails_reads),
		SIM_TEST(test_io_sim__dead_device_comes_back),
		SIM_TEST(test_io_sim__ends_where_it_ends),
		SIM_TEST(test_io_sim__discard_leaves_old_or_zeros),
		cmocka_unit_test(test_io_sim__open_without_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
