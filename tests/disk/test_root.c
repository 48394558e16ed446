#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/write_lab.h"
#include "lib/testlib.h"

enum { SEGMENT = 65536 };

static const uint64_t DISK_BYTES = SEGMENT * UINT64_C(41) + 8 * 4096;

static struct write_lab *lab_open(void)
{
	struct write_lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	write_lab_open(lab, DISK_BYTES, SEGMENT);
	return lab;
}

static void lab_close(struct write_lab *lab)
{
	assert_int_equal(write_lab_close(lab), 0);
	free(lab);
}

static uint8_t *root_at(struct write_lab *lab, uint32_t copy)
{
	return io_sim_bytes(lab->disk) + format_root_offset(&lab->volume.super, 0, copy);
}

/* A root with that generation; purged_seq says which it is. */
static void put_root(struct write_lab *lab, uint32_t copy, uint64_t generation)
{
	struct format_root root = { .generation = generation, .purged_seq = 100 + generation };
	root.model.sync_ns = (double)generation;
	format_root_encode(&root, lab->volume.super.uuid, root_at(lab, copy));
}

/* The older of two roots counts: a purge or a quarantine is forgotten. */
static void test_root_load__takes_the_newer(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();

	for (uint32_t newer = 0; newer < 2; newer++) {
		put_root(lab, newer, 9);
		put_root(lab, 1 - newer, 8);
		assert_int_equal(root_load(lab->shard), 0);
		assert_int_equal(lab->shard->root.generation, 9);
		assert_int_equal(lab->shard->root.purged_seq, 109);
		assert_true(lab->shard->model.sync_ns == 9);
	}
	lab_close(lab);
}

/* A root that a crash cut in two, another cache's, or another partition's, is taken. */
static void test_root_load__takes_the_good_one(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	static const uint8_t other[16] = "another cache's";
	struct format_root root = { .generation = 99, .purged_seq = 1 };

	for (uint32_t copy = 0; copy < 2; copy++) {
		for (int how = 0; how < 4; how++) {
			put_root(lab, 1 - copy, 5);
			put_root(lab, copy, 6);
			if (how == 0)
				root_at(lab, copy)[600] ^= 1;
			else if (how == 1)
				memset(root_at(lab, copy), 0, 4096);
			else
				root.partition = how == 3;
			if (how >= 2)
				format_root_encode(&root, how == 2 ? other : lab->volume.super.uuid,
						   root_at(lab, copy));
			assert_int_equal(root_load(lab->shard), 0);
			assert_int_equal(lab->shard->root.generation, 5);
		}
	}
	lab_close(lab);
}

/* A cache without a readable root cannot be opened. */
static void test_root_load__none_is_a_fresh_one(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();

	put_root(lab, 0, 5);
	put_root(lab, 1, 6);
	root_at(lab, 0)[40] ^= 1;
	root_at(lab, 1)[40] ^= 1;
	assert_int_equal(root_load(lab->shard), 0);
	assert_int_equal(lab->shard->root.generation, 0);
	assert_int_equal(lab->shard->root.purged_seq, 0);
	assert_int_equal(lab->shard->root.partition, 0);
	/* Generations that may have been used are not used again. */
	assert_true(lab->shard->root.generation_bound >= UINT64_C(1) << 40);
	/* One that gives an error is as if it were not there. */
	put_root(lab, 0, 7);
	io_sim_bad(lab->disk, format_root_offset(&lab->volume.super, 0, 0), 512);
	assert_int_equal(root_load(lab->shard), 0);
	assert_int_equal(lab->shard->root.generation, 0);
	io_sim_bad(lab->disk, 0, 0);
	assert_int_equal(root_load(lab->shard), 0);
	assert_int_equal(lab->shard->root.generation, 7);
	lab_close(lab);
}

/* A device that is gone looks like a cache that is empty. */
static void test_root_load__dead_device_is_an_error(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();

	io_sim_dead(lab->disk, true);
	assert_int_equal(root_load(lab->shard), -ENODEV);
	io_sim_dead(lab->disk, false);
	lab_close(lab);
}

/* Quarantined segments that cannot be lead outside of the segments' table; one that is there
 * twice is counted twice. */
static void test_root_load__leaves_out_what_cannot_be(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	const uint32_t segments = lab->volume.super.segments;
	struct format_root root = {
		.generation = 9,
		.bad_count = 5,
		.bad = { { segments, 4096 },
			 { segments - 1, SEGMENT + 4096 },
			 { 3, 4097 },
			 { FORMAT_SEGMENTS_MAX - 1, 0 },
			 { 3, 0 } },
	};

	format_root_encode(&root, lab->volume.super.uuid, root_at(lab, 1));
	assert_int_equal(root_load(lab->shard), 0);
	assert_int_equal(lab->shard->root.bad_count, 2);
	assert_int_equal(lab->shard->root.bad[0].segment, segments - 1);
	assert_int_equal(lab->shard->root.bad[0].good_bytes, SEGMENT);
	assert_int_equal(lab->shard->root.bad[1].segment, 3);
	assert_int_equal(lab->shard->root.bad[1].good_bytes, 4096);
	/* And all of an open lives with it. */
	write_lab_reopen(lab);
	assert_int_equal(lab->shard->bad_count, 2);
	lab_close(lab);
}

/* A root is written over the one that counts: a crash then leaves none. */
static void test_root_encode__never_over_the_last(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	uint64_t last = UINT64_MAX;

	for (int i = 0; i < 10; i++) {
		const uint64_t generation = lab->shard->root.generation;
		struct format_root root;
		const uint64_t offset = root_encode(lab->shard);
		assert_true(offset == format_root_offset(&lab->volume.super, 0, 0) ||
			    offset == format_root_offset(&lab->volume.super, 0, 1));
		assert_true(offset != last);
		last = offset;
		assert_int_equal(
			format_root_decode(lab->shard->root_block, lab->volume.super.uuid, &root),
			0);
		assert_int_equal(root.generation, generation + 1);
		assert_true(root.generation_bound > lab->shard->next_generation);
		/* It goes on where an open would find it. */
		memcpy(io_sim_bytes(lab->disk) + offset, lab->shard->root_block, 4096);
		if (i % 3 == 2)
			assert_int_equal(root_load(lab->shard), 0);
		assert_int_equal(lab->shard->root.generation, generation + 1);
	}
	lab_close(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root_load__takes_the_newer),
		cmocka_unit_test(test_root_load__takes_the_good_one),
		cmocka_unit_test(test_root_load__none_is_a_fresh_one),
		cmocka_unit_test(test_root_load__dead_device_is_an_error),
		cmocka_unit_test(test_root_load__leaves_out_what_cannot_be),
		cmocka_unit_test(test_root_encode__never_over_the_last),
	};

	return cmocka_run_group_tests_name("root", tests, NULL, NULL);
}
