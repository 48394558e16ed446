#include <errno.h>
#include <stdio.h>

#include "store/lsm_lab.h"

enum { FRAMES = 40, SKIPS = 60, RETRIES = 8 };

static struct lsm_lab *lab_new(uint64_t seed)
{
	struct lsm_lab *lab = lsm_lab_new(seed);
	lab->options.level_factor = 2;
	assert_int_equal(lsm_lab_open(lab), 0);
	return lab;
}

/* Frames with steps between them, as long as steps succeed; the error of the one that did not. */
static int play(struct lsm_lab *lab)
{
	for (uint32_t i = 0; i < FRAMES; i++) {
		int rc = lsm_lab_frame_random(lab);
		lsm_lab_publish(lab, lab->place.op);
		if (rc == 0)
			rc = lsm_step(lab->lsm, lab->published);
		if (rc < 0)
			return rc;
	}
	return lsm_lab_flush(lab);
}

/* A full disk or a disk that could not read or write once would cost rows, or stop the background
 * for ever: after the error everything is still found, and the next try does what was to be
 * done. */
static void fault_passes(enum vfs_sim_call call, int error, uint64_t skip)
{
	struct lsm_lab *lab = lab_new(skip);
	vfs_sim_fail(lab->sim, call, skip, 1, error);
	int rc = play(lab);
	if (rc < 0) {
		assert_true(rc == error || rc == HAUL_ECORRUPT);
		lsm_lab_check_executor(lab);
	}
	vfs_sim_fail(lab->sim, call, 0, 0, -EIO);
	rc = lsm_lab_flush(lab);
	if (rc < 0)
		assert_int_equal(rc, error); /* broken for good: the media says so */
	lsm_lab_check_executor(lab);
	bool broken = rc < 0;
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0);
	if (!broken)
		assert_int_equal(lsm_checkpoint(lab->lsm).op, lab->place.op);
	lsm_lab_check_blobs(lab);
	lsm_lab_replay(lab);
	lsm_lab_check_executor(lab);
	lsm_lab_free(lab);
}

/* See fault_passes. */
static void test_lsm_faults__a_full_disk_loses_nothing(void **state)
{
	(void)state;
	for (uint64_t skip = 0; skip < SKIPS; skip++) {
		fault_passes(VFS_SIM_WRITE, -ENOSPC, skip);
		fault_passes(VFS_SIM_RESIZE, -ENOSPC, skip);
		fault_passes(VFS_SIM_NAME, -ENOSPC, skip);
	}
}

/* See fault_passes. */
static void test_lsm_faults__a_bad_read_or_write_loses_nothing(void **state)
{
	(void)state;
	for (uint64_t skip = 0; skip < SKIPS; skip++) {
		fault_passes(VFS_SIM_READ, -EIO, skip);
		fault_passes(VFS_SIM_WRITE, -EIO, skip);
		fault_passes(VFS_SIM_NAME, -EIO, skip);
		fault_passes(VFS_SIM_SYNC, -EIO, skip);
	}
}

/* While the disk stays full the store would run out of memory, spin, or take more than it can
 * keep: writers are told to wait, readers go on, and when there is room again so does all else. */
static void test_lsm_faults__a_disk_that_stays_full_holds_writers(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_new(7);
	vfs_sim_fail(lab->sim, VFS_SIM_WRITE, 0, UINT32_MAX, -ENOSPC);
	vfs_sim_fail(lab->sim, VFS_SIM_RESIZE, 0, UINT32_MAX, -ENOSPC);
	int rc = 0;
	for (uint32_t i = 0; i < 200 && rc == 0; i++)
		rc = lsm_lab_frame_random(lab);
	assert_int_equal(rc, -ENOSPC);
	for (uint32_t i = 0; i < RETRIES; i++) {
		assert_int_equal(lsm_ready(lab->lsm, &lab->place), -EAGAIN);
		assert_int_equal(lsm_step(lab->lsm, lab->place.op), -ENOSPC);
		assert_true(lsm_busy(lab->lsm));
	}
	assert_int_equal(lsm_checkpoint(lab->lsm).op, 0);
	lsm_lab_check_executor(lab);
	vfs_sim_fail(lab->sim, VFS_SIM_WRITE, 0, 0, -EIO);
	vfs_sim_fail(lab->sim, VFS_SIM_RESIZE, 0, 0, -EIO);
	assert_int_equal(lsm_lab_flush(lab), 0);
	assert_int_equal(lsm_checkpoint(lab->lsm).op, lab->place.op);
	lsm_lab_check_executor(lab);
	lsm_lab_check_blobs(lab);
	lsm_lab_free(lab);
}

struct some_table {
	uint64_t blob;
	uint32_t tree;
};

static int told_table(const struct table_info *info, void *arg)
{
	struct some_table *some = arg;
	some->blob = info->blob;
	return info->tree == some->tree;
}

static uint8_t *blob_bytes(struct lsm_lab *lab, uint64_t blob, uint64_t *ret_bytes)
{
	char name[64];
	snprintf(name, sizeof name, "blob/%016llx", (unsigned long long)blob);
	uint8_t *data = vfs_sim_bytes(lab->sim, name, ret_bytes);
	assert_non_null(data);
	return data;
}

/* A block that rotted would be merged into good tables, or replaced and so lost: the merge stops,
 * and what it would have replaced stays. */
static void test_lsm_faults__a_rotten_table_is_not_merged_away(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_new(3);
	for (uint32_t run = 0; run < 2; run++) {
		for (uint32_t k = 0; k < 20; k++)
			lsm_lab_put(lab, TREE_NODE, k, 30, false);
		assert_int_equal(lsm_lab_frame(lab), 0);
		lsm_lab_publish(lab, lab->place.op);
		assert_int_equal(lsm_freeze(lab->lsm, &lab->place), 0);
		while (lsm_checkpoint(lab->lsm).op < lab->place.op)
			assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
		if (run > 0)
			continue;
		struct some_table some = { .tree = TREE_NODE };
		(void)lsm_tables(lab->lsm, told_table, &some);
		uint64_t bytes;
		blob_bytes(lab, some.blob, &bytes)[100] ^= 1;
	}
	assert_int_equal(lsm_lab_runs(lab, TREE_NODE), 2);
	assert_int_equal(lsm_lab_settle(lab), HAUL_ECORRUPT);
	assert_int_equal(lsm_lab_settle(lab), HAUL_ECORRUPT);
	assert_int_equal(lsm_lab_runs(lab, TREE_NODE), 2);
	lsm_lab_check_blobs(lab);
	lsm_lab_free(lab);
}

static void check_newest_or_error(const struct table_ask *asks, uint64_t op)
{
	assert_int_equal(asks[0].status, HAUL_ECORRUPT); /* in the block that rotted */
	for (uint32_t k = 0; k < 20; k++)
		assert_int_equal(asks[k].row.op, asks[k].status ? 0 : op);
}

/* An older table would answer when the newer one cannot be read. */
static void test_lsm_faults__an_old_version_is_no_answer(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_new(5);
	for (uint32_t run = 0; run < 2; run++) {
		for (uint32_t k = 0; k < 20; k++)
			lsm_lab_put(lab, TREE_NODE, k, 30, false);
		assert_int_equal(lsm_lab_frame(lab), 0);
		lsm_lab_publish(lab, lab->place.op);
		assert_int_equal(lsm_freeze(lab->lsm, &lab->place), 0);
		while (lsm_checkpoint(lab->lsm).op < lab->place.op)
			assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
		assert_int_equal(lsm_ready(lab->lsm, &lab->place), 0);
	}
	struct some_table some = { .tree = TREE_NODE }; /* the newest is told first */
	(void)lsm_tables(lab->lsm, told_table, &some);
	uint64_t bytes, op;
	blob_bytes(lab, some.blob, &bytes)[100] ^= 1;
	struct table_ask asks[20];
	for (uint32_t k = 0; k < 20; k++)
		asks[k] = (struct table_ask){ .key = lab_key(TREE_NODE, k), .op_max = 99 };
	assert_int_equal(lsm_find(lab->lsm, TREE_NODE, asks, 20, &lab->arena), HAUL_ECORRUPT);
	struct lsm_view *view = lsm_view_take(lab->lsm, &op);
	check_newest_or_error(asks, op);
	for (uint32_t k = 0; k < 20; k++)
		asks[k].op_max = op;
	lsm_get(view, TREE_NODE, asks, 20, lsm_into(lab->scratch, &lab->arena));
	check_newest_or_error(asks, op);
	struct lsm_walk_options options = { .tree = TREE_NODE, .op_max = op };
	options.to.word[0] = UINT64_MAX;
	struct lsm_walk *walk = NULL;
	struct rows rows;
	int rc = lsm_walk_open(&walk, view, &options);
	while (rc == 0 && (rc = lsm_walk_next(walk, &rows)) == 1)
		rc = 0;
	assert_int_equal(rc, HAUL_ECORRUPT);
	lsm_walk_close(walk);
	lsm_view_drop(lab->lsm, view);
	lsm_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lsm_faults__a_full_disk_loses_nothing),
		cmocka_unit_test(test_lsm_faults__a_bad_read_or_write_loses_nothing),
		cmocka_unit_test(test_lsm_faults__a_disk_that_stays_full_holds_writers),
		cmocka_unit_test(test_lsm_faults__a_rotten_table_is_not_merged_away),
		cmocka_unit_test(test_lsm_faults__an_old_version_is_no_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
