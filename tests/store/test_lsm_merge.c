/* What merging does with runs, and when. */
#include "store/lsm_lab.h"

/* Deletions would stay for ever, and with them the space of what they hide. */
static void test_lsm_compact__leaves_nothing_of_what_was_deleted(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	for (uint32_t tree = 0; tree < TREES; tree++)
		lsm_lab_frame_range(lab, (enum tree)tree, 0, 50, false);
	assert_int_equal(lsm_lab_flush(lab), 0);
	for (uint32_t tree = 0; tree < TREES; tree++)
		lsm_lab_frame_range(lab, (enum tree)tree, 0, 50, true);
	assert_int_equal(lsm_lab_flush(lab), 0);
	lsm_compact(lab->lsm);
	assert_int_equal(lsm_lab_settle(lab), 0);
	struct haul_store_status status = lsm_lab_status(lab);
	for (uint32_t level = 0; level < 4; level++)
		assert_int_equal(status.level[level].rows, 0);
	lsm_lab_check_executor(lab);
	lsm_lab_check_blobs(lab);
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0); /* a root without a manifest */
	assert_int_equal(lsm_checkpoint(lab->lsm).op, lab->place.op);
	lsm_lab_check_executor(lab);
	lsm_lab_free(lab);
}

/* The defect of merging that stops at a full batch and forgets the rest: all rows of all runs are
 * there after any number of merges. */
static void test_lsm_merge__drops_no_rows(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lab->options.level_factor = 2;
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0);
	for (uint32_t k = 0; k < LAB_KEYS; k++) {
		lsm_lab_frame_range(lab, TREE_NODE, k * 7 % LAB_KEYS, k * 7 % LAB_KEYS + 1, false);
		if (k % 4 == 0)
			lsm_lab_flush_only(lab);
	}
	assert_int_equal(lsm_lab_flush(lab), 0);
	struct haul_store_status status = lsm_lab_status(lab);
	uint64_t rows = 0;
	for (uint32_t level = 0; level < 4; level++)
		rows += status.level[level].rows;
	assert_int_equal(rows, LAB_KEYS);
	assert_true(status.merges > 5);
	lsm_lab_check_executor(lab);
	lsm_lab_free(lab);
}

/* Ascending keys would be written again at every level although nothing overlaps. */
static void test_lsm_merge__moves_tables_that_overlap_nothing(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	for (uint32_t k = 0; k + 16 <= LAB_KEYS; k += 16) {
		for (uint32_t i = k; i < k + 16; i++)
			lsm_lab_put(lab, TREE_NODE, i, 700, false);
		assert_int_equal(lsm_lab_frame(lab), 0);
		lsm_lab_publish(lab, lab->place.op);
		assert_true(lsm_step(lab->lsm, lab->place.op) >= 0);
	}
	assert_int_equal(lsm_lab_settle(lab), 0);
	struct haul_store_status status = lsm_lab_status(lab);
	assert_true(status.merges >= 1);
	assert_true(status.bytes_flushed > 64 * 1024);
	assert_true(status.bytes_merged < status.bytes_flushed / 4);
	lsm_lab_check_executor(lab);
	lsm_lab_check_blobs(lab);
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0); /* what was moved was not deleted */
	lsm_lab_check_blobs(lab);
	lsm_lab_replay(lab);
	lsm_lab_check_executor(lab);
	lsm_lab_free(lab);
}

/* Small tables that are moved and moved would become ever more. */
static void test_lsm_merge__joins_small_tables(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	for (uint32_t k = 0; k < 60; k++) {
		lsm_lab_frame_range(lab, TREE_NODE, k, k + 1, false);
		lsm_lab_flush_only(lab);
	}
	assert_int_equal(lsm_lab_settle(lab), 0);
	struct haul_store_status status = lsm_lab_status(lab);
	uint64_t tables = 0;
	for (uint32_t level = 0; level < 4; level++)
		tables += status.level[level].tables;
	assert_true(tables < 8);
	lsm_lab_free(lab);
}

/* A store at rest would be left with runs that every read has to ask, or would never rest. */
static void test_lsm_step__rests_with_few_runs(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lab->options.level_factor = 10;
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0);
	for (uint32_t i = 0; i < 9; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, 0, 60, false);
		lsm_lab_flush_only(lab);
	}
	assert_int_equal(lsm_lab_runs(lab, TREE_NODE), 9);
	for (uint32_t i = 0; i < 2; i++) { /* as long as something is put */
		assert_int_equal(lsm_step(lab->lsm, lab->place.op), 0);
		assert_int_equal(lsm_rest_ns(lab->lsm), LSM_REST_NS);
		assert_false(lsm_busy(lab->lsm)); /* no commit wakes the background for it */
		os_sim_advance(&lab->os, LSM_REST_NS / 2);
		lsm_lab_frame_range(lab, TREE_NODE, 0, 1, false);
		assert_int_equal(lsm_step(lab->lsm, lab->place.op), 0);
		os_sim_advance(&lab->os, LSM_REST_NS - 1);
		lsm_lab_frame_range(lab, TREE_NODE, 0, 1, false);
	}
	assert_int_equal(lsm_lab_settle(lab), 0);
	assert_int_equal(lsm_lab_runs(lab, TREE_NODE), 1);
	assert_false(lsm_busy(lab->lsm));
	assert_true(lsm_rest_ns(lab->lsm) == INT64_MAX);
	uint64_t merged = lsm_lab_status(lab).bytes_merged;
	assert_int_equal(lsm_lab_settle(lab), 0);
	assert_int_equal(lsm_lab_status(lab).bytes_merged, merged);
	lsm_lab_free(lab);
}

/* A merge that waited for writers to rest, while newer runs went on to deeper levels, would leave
 * younger rows below older ones by level; and it must not be lost or begun anew. */
static void test_lsm_step__goes_on_with_what_was_overtaken(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lab->options.level_factor = 4;
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0);
	for (uint32_t i = 0; i < 3; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, 0, 80, i == 1);
		lsm_lab_flush_only(lab);
	}
	assert_int_equal(lsm_step(lab->lsm, lab->place.op), 0);
	os_sim_advance(&lab->os, LSM_REST_NS);
	assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
	struct lsm_job *job = &lab->lsm->jobs[LSM_JOB_EXTRA];
	assert_true(job->active);
	for (uint32_t i = 0; i < 16; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, i, 80, i % 3 == 1);
		lsm_lab_flush_only(lab);
		while (lsm_busy(lab->lsm))
			assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
		assert_true(job->active && job->run_count == 3);
		lsm_lab_check_executor(lab);
	}
	assert_int_equal(lsm_lab_status(lab).level[2].runs, 1);
	assert_int_equal(lsm_step(lab->lsm, lab->place.op), 0);
	os_sim_advance(&lab->os, LSM_REST_NS);
	while (job->active)
		assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
	assert_int_equal(lsm_lab_status(lab).level[2].runs, 2);
	lsm_lab_check_executor(lab);
	assert_int_equal(lsm_lab_settle(lab), 0);
	assert_int_equal(lsm_lab_runs(lab, TREE_NODE), 1);
	lsm_lab_check_executor(lab);
	lsm_lab_check_blobs(lab);
	lsm_lab_free(lab);
}

/* A merge that begins while a flush waits for the log would keep two memory tables of three from
 * writers until it has ended. */
static void test_lsm_merge__keeps_no_memory_table(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	const struct lsm_job *job = &lab->lsm->jobs[0];
	for (uint32_t i = 0; i < 3; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, 0, 80, false);
		lsm_lab_flush_only(lab);
	}
	lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
	assert_int_equal(lsm_freeze(lab->lsm, &lab->place), 0);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
	while (!job->active)
		assert_int_equal(lsm_step(lab->lsm, lab->place.op - 2), 1);
	for (uint32_t i = 0; i < 4; i++) {
		while (lab->lsm->frozen && lsm_checkpoint(lab->lsm).op < lab->lsm->frozen->place.op)
			assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
		assert_int_equal(lsm_freeze(lab->lsm, &lab->place), 0);
		lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
		assert_true(job->active);
	}
	assert_int_equal(lsm_lab_settle(lab), 0);
	lsm_lab_check_executor(lab);
	lsm_lab_check_blobs(lab);
	lsm_lab_free(lab);
}

/* A merge that was overtaken and then stopped by a crash would leave runs in the way of all newer
 * ones: nothing more would be merged, and in the end nothing more be put. */
static void test_lsm_merge__goes_on_behind_what_a_crash_left(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	for (uint32_t i = 0; i < 2; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, 0, 80, false);
		lsm_lab_flush_only(lab);
	}
	assert_int_equal(lsm_step(lab->lsm, lab->place.op), 0);
	os_sim_advance(&lab->os, LSM_REST_NS);
	assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
	assert_true(lab->lsm->jobs[LSM_JOB_EXTRA].active);
	for (uint32_t i = 0; i < 3; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
		lsm_lab_flush_only(lab);
		while (lsm_busy(lab->lsm))
			assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
	}
	assert_int_equal(lsm_lab_status(lab).level[1].runs, 1);
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0);
	assert_int_equal(lsm_lab_status(lab).level[0].runs, 2); /* the oldest */
	for (uint32_t i = 0; i < 20; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
		lsm_lab_flush_only(lab);
		while (lsm_busy(lab->lsm))
			assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
		assert_true(lsm_lab_status(lab).level[0].runs <= 4);
	}
	assert_int_equal(lsm_lab_status(lab).level[0].runs, 2);
	lsm_lab_check_executor(lab);
	lsm_lab_free(lab);
}

/* The last level would grow by a run with every merge, and overwritten rows with it. */
static void test_lsm_merge__last_level_stays_small(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lab->options.levels = 2;
	lab->options.level_factor = 8;
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0);
	uint64_t most = 0;
	for (uint32_t i = 0; i < 100; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, 0, 60, false);
		lsm_lab_flush_only(lab);
		while (lsm_busy(lab->lsm))
			assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
		struct haul_store_status status = lsm_lab_status(lab);
		assert_true(status.level[0].runs < 8);
		most = status.level[1].runs > most ? status.level[1].runs : most;
	}
	assert_int_equal(most, 3); /* of the same size, the newer ones twice the oldest */
	lsm_lab_check_executor(lab);
	lsm_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lsm_compact__leaves_nothing_of_what_was_deleted),
		cmocka_unit_test(test_lsm_merge__drops_no_rows),
		cmocka_unit_test(test_lsm_merge__moves_tables_that_overlap_nothing),
		cmocka_unit_test(test_lsm_merge__joins_small_tables),
		cmocka_unit_test(test_lsm_step__rests_with_few_runs),
		cmocka_unit_test(test_lsm_step__goes_on_with_what_was_overtaken),
		cmocka_unit_test(test_lsm_merge__keeps_no_memory_table),
		cmocka_unit_test(test_lsm_merge__goes_on_behind_what_a_crash_left),
		cmocka_unit_test(test_lsm_merge__last_level_stays_small),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
