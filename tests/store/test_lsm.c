#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/lsm_lab.h"

/* ---- opening ---- */

static void root_replace(struct lsm_lab *lab, const void *data, size_t bytes)
{
	uint8_t before[MEDIA_ROOT_MAX];
	size_t before_bytes = sizeof before;
	uint64_t version;
	assert_int_equal(MEDIA_CALL(lab->media, root_get, &version, before, &before_bytes), 0);
	assert_int_equal(MEDIA_CALL(lab->media, root_cas, version, data, bytes), 0);
}

/* A root that is none, of a newer version, or damaged would be believed. */
static void test_lsm_open__refuses_a_root_it_cannot_trust(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
	lsm_lab_flush_only(lab);
	uint8_t good[MEDIA_ROOT_MAX];
	size_t bytes = sizeof good;
	uint64_t version;
	assert_int_equal(MEDIA_CALL(lab->media, root_get, &version, good, &bytes), 0);
	static const struct {
		size_t at, bytes;
		int error;
		const char *text;
	} cases[] = {
		{ 16, 0, HAUL_ECORRUPT, "none of a store" },
		{ 20, 0, HAUL_EVERSION, "version" },
		{ 50, 0, HAUL_ECORRUPT, "checksum" },
		{ 0, 40, HAUL_ECORRUPT, "bytes" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint8_t bad[MEDIA_ROOT_MAX];
		memcpy(bad, good, bytes);
		bad[cases[i].at] ^= 0x40;
		root_replace(lab, bad, cases[i].bytes ? cases[i].bytes : bytes);
		lsm_lab_close(lab);
		assert_int_equal(lsm_lab_open(lab), cases[i].error);
		assert_non_null(strstr(lab->err.text, cases[i].text));
		lab->vfs = vfs_sim_vfs(lab->sim);
		const struct media_options write = { .mode = MEDIA_WRITE };
		assert_int_equal(media_file_open(&lab->media, lab->vfs, &write, &lab->err), 0);
		root_replace(lab, good, bytes);
	}
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0);
	lsm_lab_check_executor(lab);
	lsm_lab_free(lab);
}

/* A manifest or table that is damaged or missing would be opened without what was in it. */
static void test_lsm_open__refuses_damaged_blobs(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
	lsm_lab_flush_only(lab);
	uint64_t manifest = lab->lsm->root.blob;
	uint64_t blobs[] = { manifest,
			     lab->lsm->current->tree[TREE_NODE].run[0]->table[0]->info.blob };
	lsm_lab_close(lab);
	for (size_t i = 0; i < 2; i++) {
		char name[64];
		snprintf(name, sizeof name, "blob/%016llx", (unsigned long long)blobs[i]);
		uint64_t bytes;
		uint8_t *data = vfs_sim_bytes(lab->sim, name, &bytes);
		assert_non_null(data);
		uint64_t at = i == 0 ? 60 : bytes - 10; /* in a table: the footer */
		data[at] ^= 1;
		assert_int_equal(lsm_lab_open(lab), HAUL_ECORRUPT);
		assert_true(lab->err.text[0] != 0);
		data[at] ^= 1;
	}
	assert_int_equal(lsm_lab_open(lab), 0);
	assert_int_equal(MEDIA_CALL(lab->media, blob_delete, manifest), 0);
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), -ENOENT);
	assert_non_null(strstr(lab->err.text, "manifest"));
	lsm_lab_free(lab);
}

/* Whoever may only read would delete what a writer is about to name. */
static void test_lsm_open__read_only_changes_nothing(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
	lsm_lab_flush_only(lab);
	_Alignas(MEDIA_ALIGN) static const uint8_t stray[MEDIA_ALIGN];
	assert_int_equal(MEDIA_CALL(lab->media, blob_put, 1000, stray, sizeof stray), 0);
	lsm_lab_close(lab);
	lab->options.read_only = true;
	assert_int_equal(lsm_lab_open(lab), 0);
	assert_true(MEDIA_CALL(lab->media, blob_bytes, 1000) > 0);
	uint64_t op;
	struct lsm_view *view = lsm_view_take(lab->lsm, &op);
	lsm_lab_check(lab, view, op);
	lsm_view_drop(lab->lsm, view);
	lsm_lab_close(lab);
	lab->options.read_only = false;
	assert_int_equal(lsm_lab_open(lab), 0);
	lsm_lab_check_blobs(lab);
	assert_true(lab->lsm->blob_next > 1000); /* and no number is used twice */
	lsm_lab_free(lab);
}

/* Runs of levels that there are no more would never be merged again, or be forgotten. */
static void test_lsm_open__with_fewer_levels(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	for (uint32_t i = 0; i < 30; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, i, i + 60, i % 4 == 3);
		lsm_lab_flush_only(lab);
		while (lsm_busy(lab->lsm))
			assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
	}
	assert_true(lsm_lab_status(lab).level[3].runs > 0);
	lsm_lab_close(lab);
	lab->options.levels = 2;
	assert_int_equal(lsm_lab_open(lab), 0);
	assert_int_equal(lsm_lab_status(lab).level[3].runs, 0);
	assert_true(lsm_lab_status(lab).level[1].runs > 0);
	lsm_lab_replay(lab);
	lsm_lab_check_executor(lab);
	for (uint32_t i = 0; i < 12; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, 0, 90, false);
		lsm_lab_flush_only(lab);
	}
	assert_int_equal(lsm_lab_settle(lab), 0);
	assert_int_equal(lsm_lab_runs(lab, TREE_NODE), 1);
	lsm_lab_check_executor(lab);
	lsm_lab_check_blobs(lab);
	lsm_lab_free(lab);
}

/* ---- freezing and flushing ---- */

/* A writer would be told to go on although there is nowhere to put rows, or to wait for nothing. */
static void test_lsm_ready__says_when_to_wait(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	assert_int_equal(lsm_freeze(lab->lsm, &lab->place), 0);
	assert_null(lab->lsm->frozen); /* nothing was there */
	lsm_lab_frame_range(lab, TREE_NODE, 0, 5, false);
	assert_null(lab->lsm->frozen);
	assert_int_equal(lsm_freeze(lab->lsm, &lab->place), 0);
	assert_non_null(lab->lsm->frozen);
	lsm_lab_frame_range(lab, TREE_NODE, 5, 9, false);
	assert_int_equal(lsm_freeze(lab->lsm, &lab->place), -EAGAIN);
	assert_int_equal(lsm_ready(lab->lsm, &lab->place), 0); /* there is room all the same */
	while (memtable_used(lab->lsm->active->table) < LAB_MEMTABLE)
		lsm_lab_put(lab, TREE_NODE, 9, 500, false);
	lab->place.op++;
	lab->place.position += 4096;
	assert_int_equal(lsm_ready(lab->lsm, &lab->place), -EAGAIN);
	assert_true(lsm_busy(lab->lsm));
	while (lsm_ready(lab->lsm, &lab->place) == -EAGAIN)
		assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
	lsm_lab_check_executor(lab);
	lsm_lab_free(lab);
}

/* Frames that wrote no rows would keep the log for ever. */
static void test_lsm_ready__a_long_log_is_reason_enough(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	for (uint32_t i = 0; i < 100; i++) {
		assert_int_equal(lsm_lab_frame(lab), 0);
		assert_int_equal(lsm_lab_settle(lab), 0);
	}
	uint64_t behind = lab->place.position - lsm_checkpoint(lab->lsm).position;
	assert_true(behind < 64 * 1024);
	assert_int_equal(lsm_lab_status(lab).level[0].runs, 0);
	lsm_lab_free(lab);
}

/* A root would name rows of frames that a crash takes back. */
static void test_lsm_step__a_flush_waits_for_the_log(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
	assert_int_equal(lsm_freeze(lab->lsm, &lab->place), 0);
	for (uint32_t i = 0; i < 50; i++)
		assert_true(lsm_step(lab->lsm, lab->place.op - 1) >= 0);
	assert_int_equal(lsm_step(lab->lsm, lab->place.op - 1), 0);
	assert_int_equal(lsm_checkpoint(lab->lsm).op, 0);
	assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
	assert_int_equal(lsm_checkpoint(lab->lsm).op, lab->place.op);
	assert_int_equal(lsm_checkpoint(lab->lsm).chain, lab->place.chain);
	lsm_lab_free(lab);
}

/* A reader that is slower than a flush would stop writers, or lose its rows under its hands. */
static void test_lsm_view__keeps_its_memory_table(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	uint64_t op[3];
	struct lsm_view *view[3];
	lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
	view[0] = lsm_view_take(lab->lsm, &op[0]);
	lsm_lab_flush_only(lab);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 20, true);
	lsm_lab_flush_only(lab); /* the third is in use */
	lsm_lab_frame_range(lab, TREE_NODE, 10, 30, false);
	lsm_lab_check(lab, view[0], op[0]);
	view[1] = lsm_view_take(lab->lsm, &op[1]);
	lsm_lab_flush_only(lab);
	lsm_lab_frame_range(lab, TREE_NODE, 5, 15, false);
	view[2] = lsm_view_take(lab->lsm, &op[2]);
	assert_int_equal(lsm_freeze(lab->lsm, &lab->place), -EAGAIN); /* all three are held */
	for (uint32_t i = 0; i < 3; i++)
		lsm_lab_check(lab, view[i], op[i]);
	lsm_view_drop(lab->lsm, view[0]);
	lsm_lab_flush_only(lab);
	lsm_lab_check(lab, view[1], op[1]);
	lsm_lab_check(lab, view[2], op[2]);
	lsm_view_drop(lab->lsm, view[1]);
	lsm_view_drop(lab->lsm, view[2]);
	assert_int_equal(lsm_lab_settle(lab), 0);
	lsm_lab_check_blobs(lab); /* what views kept is gone */
	lsm_lab_free(lab);
}

/* A backup that takes its time would stop writers, or its tables would be deleted under its
 * hands. */
static void test_lsm_view_tables__keeps_no_memory_table(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
	lsm_lab_flush_only(lab);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
	struct lsm_view *view = lsm_view_tables_new(lab->lsm);
	assert_non_null(view);
	uint64_t blob = view->tree[TREE_NODE].run[0]->table[0]->info.blob;
	for (uint32_t i = 0; i < 6; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
		lsm_lab_flush_only(lab);
	}
	assert_int_equal(lsm_lab_settle(lab), 0);
	assert_int_equal(lsm_lab_runs(lab, TREE_NODE), 1);
	assert_true(MEDIA_CALL(lab->media, blob_bytes, blob) > 0);
	lsm_view_drop(lab->lsm, view);
	assert_true(lsm_busy(lab->lsm));
	assert_int_equal(lsm_lab_settle(lab), 0);
	lsm_lab_check_blobs(lab);
	lsm_lab_free(lab);
}

/* Rows that were put and not published would be seen. */
static void test_lsm_view__sees_what_is_published(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 20, false);
	lsm_lab_put(lab, TREE_NODE, 3, 10, true);
	lsm_lab_put(lab, TREE_NODE, 30, 10, false);
	assert_int_equal(lsm_lab_frame(lab), 0);
	uint64_t op;
	struct lsm_view *view = lsm_view_take(lab->lsm, &op);
	assert_int_equal(op, lab->place.op - 1);
	lsm_lab_check(lab, view, op);
	lsm_lab_flush_only(lab);
	lsm_view_drop(lab->lsm, view);
	view = lsm_view_take(lab->lsm, &op);
	assert_int_equal(op, lab->place.op - 1);
	lsm_lab_check(lab, view, op); /* the flush kept what is still seen */
	lsm_view_drop(lab->lsm, view);
	lsm_lab_free(lab);
}

/* ---- pins ---- */

/* Merging would take versions away from a snapshot, or keep them when nobody looks any more. */
static void test_lsm_pin__keeps_versions_until_unpinned(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	uint64_t pins[LSM_PINS], none;
	for (uint32_t i = 0; i < LSM_PINS; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, 0, 3, i % 4 == 3);
		assert_int_equal(lsm_pin(lab->lsm, &pins[i]), 0);
	}
	assert_int_equal(lsm_pin(lab->lsm, &none), -EBUSY);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 3, false);
	assert_int_equal(lsm_lab_flush(lab), 0);
	lsm_compact(lab->lsm);
	assert_int_equal(lsm_lab_settle(lab), 0);
	uint64_t op;
	struct lsm_view *view = lsm_view_take(lab->lsm, &op);
	for (uint32_t i = 0; i < LSM_PINS; i++)
		lsm_lab_check(lab, view, pins[i]);
	lsm_view_drop(lab->lsm, view);
	struct haul_store_status status = lsm_lab_status(lab);
	uint64_t rows = 0;
	for (uint32_t level = 0; level < 4; level++)
		rows += status.level[level].rows;
	assert_int_equal(rows, 3 * (LSM_PINS + 1));
	for (uint32_t i = 0; i < LSM_PINS; i++)
		lsm_unpin(lab->lsm, pins[i]);
	lsm_lab_frame_range(lab, TREE_NODE, 3, 4, false);
	lsm_lab_flush_only(lab);
	lsm_compact(lab->lsm);
	assert_int_equal(lsm_lab_settle(lab), 0);
	status = lsm_lab_status(lab);
	rows = 0;
	for (uint32_t level = 0; level < 4; level++)
		rows += status.level[level].rows;
	assert_int_equal(rows, 4);
	lsm_lab_free(lab);
}

/* ---- holding back ---- */

/* Commits would stop at a cliff: none is held back while there is little debt, none for more than
 * 20 ms, and what is asked never jumps. */
static void test_lsm_throttle__grows_without_a_cliff(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	assert_int_equal(lsm_throttle_ns(lab->lsm), 0);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 5, false);
	assert_int_equal(lsm_freeze(lab->lsm, &lab->place), 0);
	int64_t before = 0;
	uint32_t free_of_it = 0;
	while (memtable_used(lab->lsm->active->table) < LAB_MEMTABLE) {
		lsm_lab_put(lab, TREE_NODE, 7, 8, false);
		int64_t ns = lsm_throttle_ns(lab->lsm);
		free_of_it += ns == 0;
		assert_true(ns >= before && ns - before < 2000000 && ns <= 20000000);
		before = ns;
	}
	assert_true(before > 15000000);
	assert_true(free_of_it > 10);
	while (lsm_step(lab->lsm, lab->place.op + 1) == 1)
		continue;
	lab->place.op++;
	lab->place.position += 4096;
	assert_int_equal(lsm_ready(lab->lsm, &lab->place), 0);
	assert_int_equal(lsm_throttle_ns(lab->lsm), 0);
	lsm_lab_free(lab);
}

/* Runs would pile up without end when merges cannot keep up. */
static void test_lsm_throttle__counts_runs_that_wait(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	int64_t before = 0;
	uint32_t runs = 0;
	while (before < 20000000) {
		lsm_lab_frame_range(lab, TREE_NODE, 0, 5, false);
		lsm_lab_flush_only(lab); /* flushes go first: no merge is done */
		runs++;
		int64_t ns = lsm_throttle_ns(lab->lsm);
		assert_true(ns >= before);
		assert_true(runs > lab->options.level_factor || ns == 0);
		before = ns;
	}
	assert_int_equal(runs, 2 * lab->options.level_factor);
	while (runs < 5 * lab->options.level_factor) {
		assert_int_equal(lsm_ready(lab->lsm, &lab->place), 0);
		lsm_lab_frame_range(lab, TREE_NODE, 0, 5, false);
		lsm_lab_flush_only(lab);
		runs++;
	}
	assert_int_equal(lsm_ready(lab->lsm, &lab->place), -EAGAIN);
	while (lsm_ready(lab->lsm, &lab->place) == -EAGAIN)
		assert_int_equal(lsm_step(lab->lsm, lab->place.op), 1);
	assert_int_equal(lsm_lab_settle(lab), 0);
	assert_int_equal(lsm_throttle_ns(lab->lsm), 0);
	lsm_lab_check_executor(lab);
	lsm_lab_free(lab);
}

/* Figures that do not add up: levels, write amplification, memory. */
static void test_lsm_status__adds_up(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 50, false);
	lsm_lab_flush_only(lab);
	lsm_lab_frame_range(lab, TREE_OUT, 0, 50, false);
	lsm_lab_flush_only(lab);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 10, false);
	struct haul_store_status status = lsm_lab_status(lab);
	assert_int_equal(status.level_count, 4);
	assert_int_equal(status.level[0].runs, 2);
	assert_int_equal(status.level[0].rows, 100);
	assert_int_equal(status.level[0].bytes, status.bytes_flushed);
	assert_int_equal(status.flushes, 2);
	assert_int_equal(status.checkpoints, 2);
	assert_int_equal(status.bytes_merged, 0);
	assert_int_equal(status.op_checkpoint, lab->place.op - 1);
	assert_int_equal(status.memtable_bytes, memtable_used(lab->lsm->active->table));
	assert_int_equal(status.debt_bytes, 0);
	assert_true(status.memory_bytes > 3 * LAB_MEMTABLE + LAB_CACHE);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 50, false);
	lsm_lab_flush_only(lab);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 50, false);
	lsm_lab_flush_only(lab);
	assert_true(lsm_lab_status(lab).debt_bytes > 0); /* three runs: to be merged */
	assert_int_equal(lsm_lab_settle(lab), 0);
	status = lsm_lab_status(lab);
	assert_true(status.bytes_merged > 0 && status.merges > 0 && status.debt_bytes == 0);
	lsm_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lsm_open__refuses_a_root_it_cannot_trust),
		cmocka_unit_test(test_lsm_open__refuses_damaged_blobs),
		cmocka_unit_test(test_lsm_open__read_only_changes_nothing),
		cmocka_unit_test(test_lsm_open__with_fewer_levels),
		cmocka_unit_test(test_lsm_ready__says_when_to_wait),
		cmocka_unit_test(test_lsm_ready__a_long_log_is_reason_enough),
		cmocka_unit_test(test_lsm_step__a_flush_waits_for_the_log),
		cmocka_unit_test(test_lsm_view__keeps_its_memory_table),
		cmocka_unit_test(test_lsm_view_tables__keeps_no_memory_table),
		cmocka_unit_test(test_lsm_view__sees_what_is_published),
		cmocka_unit_test(test_lsm_pin__keeps_versions_until_unpinned),
		cmocka_unit_test(test_lsm_throttle__grows_without_a_cliff),
		cmocka_unit_test(test_lsm_throttle__counts_runs_that_wait),
		cmocka_unit_test(test_lsm_status__adds_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
