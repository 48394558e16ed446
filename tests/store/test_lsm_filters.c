/* The share of memory that filters and indexes of tables have, and what is left out of it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/lsm_lab.h"
#include "store/table_state.h"

enum {
	FRAMES = 600,
	BLOCK = 4 << 10,
	TABLE = 16 << 10,
	MEMTABLE = 32 << 10,
	SHARE = 7 << 10, /* all indexes of the tests, and some of the filters */
};

static struct lsm_lab *lab_new(uint64_t seed, uint64_t share)
{
	struct lsm_lab *lab = lsm_lab_new(seed);
	lab->options.table_bytes = TABLE;
	lab->options.block_bytes = BLOCK;
	lab->options.memtable_bytes = MEMTABLE;
	lab->options.filter_bytes = share;
	assert_int_equal(lsm_lab_open(lab), 0);
	return lab;
}

/* What there is in truth, of the tables of the current view. */
struct truth {
	uint64_t memory, filters; /* filters: those in memory */
	uint32_t tables, without;
	uint32_t deepest_with, highest_without; /* levels */
};

static struct truth truth_of(const struct lsm_lab *lab)
{
	struct truth truth = { .highest_without = LSM_LEVELS_MAX };
	const struct lsm_view *view = lab->lsm->current;
	for (uint32_t tree = 0; tree < TREES; tree++) {
		for (uint32_t i = 0; i < view->tree[tree].count; i++) {
			const struct run *run = view->tree[tree].run[i];
			for (uint32_t k = 0; k < run->count; k++) {
				const struct table_whole *whole = table_whole(run->table[k]);
				truth.memory += table_memory(run->table[k]);
				truth.tables++;
				if (whole->lines == 0)
					continue;
				truth.without += !whole->filter;
				if (whole->filter && run->level > truth.deepest_with)
					truth.deepest_with = run->level;
				if (whole->filter)
					truth.filters += table_filter_bytes(run->table[k]);
				else if (run->level < truth.highest_without)
					truth.highest_without = run->level;
			}
		}
	}
	return truth;
}

/* Figures and tables say the same, when nobody holds what was before. */
static struct truth check_counts(struct lsm_lab *lab)
{
	struct haul_store_status status = lsm_lab_status(lab);
	struct truth truth = truth_of(lab);
	assert_int_equal(status.filter_bytes, truth.memory);
	assert_int_equal(status.tables_unfiltered, truth.without);
	return truth;
}

/* Many short rows, so that filters are about as long as indexes. */
static int frame_random(struct lsm_lab *lab)
{
	for (uint32_t i = 0; i < LAB_FRAME_ROWS; i++)
		lsm_lab_put(lab, prng_below(&lab->prng, 2) ? TREE_NODE : TREE_OUT,
			    prng_below(&lab->prng, LAB_KEYS), prng_below(&lab->prng, 9),
			    prng_below(&lab->prng, 8) == 0);
	return lsm_lab_frame(lab);
}

static void frames_random(struct lsm_lab *lab, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(frame_random(lab), 0);
		lsm_lab_publish(lab, lab->place.op);
		assert_true(lsm_step(lab->lsm, lab->place.op) >= 0);
		if (lab->options.filter_bytes == SHARE)
			assert_true(lsm_lab_status(lab).filter_bytes <= SHARE);
	}
}

/* Filters grow with what is stored until memory is full; or a key is not found for want of one. */
static void test_lsm_filters__keep_to_their_share(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct lsm_lab *lab = lab_new(prng_next(&prng), SHARE);
	bool some = false, none = false;
	for (uint32_t round = 0; round < 12; round++) {
		frames_random(lab, FRAMES / 12);
		struct truth truth = truth_of(lab);
		some = some || truth.filters > 0;
		none = none || truth.without > 0;
		uint64_t op;
		struct lsm_view *view = lsm_view_take(lab->lsm, &op);
		lsm_lab_check(lab, view, op);
		lsm_view_drop(lab->lsm, view);
		lsm_lab_check_executor(lab);
	}
	assert_true(some);
	assert_true(none);
	assert_int_equal(lsm_lab_flush(lab), 0);
	check_counts(lab);
	lsm_lab_check_blobs(lab);
	lsm_lab_free(lab);
}

/* A store with more tables than memory has room for could not be opened; or the filters that are
 * worth most for their bytes would be left out. */
static void test_lsm_filters__of_upper_levels_come_first(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_new(3, 0);
	lab->options.level_factor = 10;
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0);
	frames_random(lab, FRAMES);
	lsm_compact(lab->lsm);
	assert_int_equal(lsm_lab_flush(lab), 0);
	frames_random(lab, FRAMES / 4);
	while (lsm_freeze(lab->lsm, &lab->place) == -EAGAIN)
		assert_true(lsm_step(lab->lsm, lab->place.op) >= 0);
	while (lsm_checkpoint(lab->lsm).op < lab->place.op)
		assert_true(lsm_step(lab->lsm, lab->place.op) >= 0);
	struct truth all = truth_of(lab);
	assert_int_equal(all.without, 0);
	assert_true(all.deepest_with > 0);
	uint64_t shares[] = { 1, all.memory - all.filters / 8, 2 * all.memory };
	for (size_t i = 0; i < 3; i++) {
		lsm_lab_close(lab);
		lab->options.filter_bytes = shares[i];
		assert_int_equal(lsm_lab_open(lab), 0);
		struct truth truth = check_counts(lab);
		assert_int_equal(truth.tables, all.tables);
		if (i == 0)
			assert_int_equal(truth.filters, 0);
		if (i == 1) {
			assert_true(truth.filters > 0 && truth.without > 0);
			assert_true(truth.memory <= shares[i]);
			assert_true(truth.highest_without > 0);
			assert_true(truth.highest_without >= truth.deepest_with);
		}
		if (i == 2)
			assert_int_equal(truth.without, 0);
		lsm_lab_replay(lab);
		lsm_lab_check_executor(lab);
		lsm_lab_check_blobs(lab);
	}
	lsm_lab_free(lab);
}

/* Makes the share so small, or so large, that the next steps have something to do. */
static void share_change(struct lsm_lab *lab, uint64_t share)
{
	lab->options.filter_bytes = lab->lsm->options.filter_bytes = share;
	lab->lsm->filters_seen = 0;
}

/* Runs of a level below the first, all filters in memory. */
static struct lsm_lab *lab_deep_new(void)
{
	struct lsm_lab *lab = lab_new(5, UINT64_C(1) << 30);
	frames_random(lab, FRAMES / 2);
	lsm_compact(lab->lsm);
	assert_int_equal(lsm_lab_flush(lab), 0);
	assert_int_equal(check_counts(lab).without, 0);
	assert_true(check_counts(lab).deepest_with > 0);
	return lab;
}

/* A filter would be taken away from under a reader, or the blob of a table that is there twice be
 * deleted with one of the two. */
static void test_lsm_filters__are_dropped_beside_readers(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_deep_new();
	struct truth before = truth_of(lab);
	uint64_t op;
	struct lsm_view *view = lsm_view_take(lab->lsm, &op);
	share_change(lab, 1);
	assert_int_equal(lsm_lab_settle(lab), 0);
	assert_int_equal(truth_of(lab).filters, 0);
	/* What the reader holds is in memory still, and counts. */
	assert_true(lsm_lab_status(lab).filter_bytes > before.memory);
	lsm_lab_check(lab, view, op);
	lsm_lab_check_executor(lab);
	/* The tables that are there twice are merged away. */
	frames_random(lab, FRAMES / 20);
	lsm_compact(lab->lsm);
	assert_int_equal(lsm_lab_flush(lab), 0);
	lsm_lab_check(lab, view, op);
	lsm_view_drop(lab->lsm, view);
	assert_int_equal(lsm_lab_settle(lab), 0);
	check_counts(lab);
	lsm_lab_check_blobs(lab);
	lsm_lab_check_executor(lab);
	lsm_lab_free(lab);
}

/* Filters that were left out once would be missing for ever. */
static void test_lsm_filters__come_back(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_deep_new();
	for (uint32_t i = 0; i < 3; i++) {
		share_change(lab, 1);
		assert_int_equal(lsm_lab_settle(lab), 0);
		struct truth truth = check_counts(lab);
		assert_true(truth.filters == 0 && truth.without > 0);
		share_change(lab, UINT64_C(1) << 30);
		assert_int_equal(lsm_lab_settle(lab), 0);
		assert_int_equal(check_counts(lab).without, 0);
		lsm_lab_check_executor(lab);
		lsm_lab_check_blobs(lab);
	}
	lsm_lab_free(lab);
}

/* A filter that cannot be read would stop flushing and merging, which do not need it. */
static void test_lsm_filters__that_cannot_be_read_stop_nothing(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_deep_new();
	share_change(lab, 1);
	assert_int_equal(lsm_lab_settle(lab), 0);
	const struct lsm_runs *runs = &lab->lsm->current->tree[TREE_NODE];
	char name[64];
	snprintf(name, sizeof name, "blob/%016llx",
		 (unsigned long long)runs->run[0]->table[0]->info.blob);
	uint64_t bytes;
	uint8_t *data = vfs_sim_bytes(lab->sim, name, &bytes);
	assert_non_null(data);
	data[bytes - 10] ^= 1;
	share_change(lab, UINT64_C(1) << 30);
	assert_int_equal(lsm_lab_settle(lab), 0);
	assert_true(check_counts(lab).without > 0);
	data[bytes - 10] ^= 1;
	share_change(lab, UINT64_C(1) << 30);
	assert_int_equal(lsm_lab_settle(lab), 0);
	assert_int_equal(check_counts(lab).without, 0);
	lsm_lab_free(lab);
}

/* Memory that runs out half-way would leave a run of half its tables, or one that nobody frees. */
static void test_lsm_filters__no_memory_changes_nothing(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_deep_new();
	bool filtered = true;
	for (uint32_t turn = 0; turn < 2; turn++, filtered = !filtered) {
		share_change(lab, filtered ? 1 : UINT64_C(1) << 30);
		lsm_view_follow(lab->lsm);
		uint32_t successes = 0;
		int rc = 0;
		while (rc == 0 && successes < 100) {
			if (!test_malloc_fail(successes++))
				break;
			lab->lsm->filters_seen = 0;
			rc = lsm_filters_step(lab->lsm);
			(void)test_malloc_fail(UINT32_MAX);
			lsm_view_reap(lab->lsm);
			struct truth truth = truth_of(lab);
			assert_true(rc > 0 || truth.tables > 0);
			lsm_lab_check_executor(lab);
		}
		assert_true(rc > 0 || successes <= 1);
		assert_int_equal(lsm_lab_settle(lab), 0);
		check_counts(lab);
		lsm_lab_check_blobs(lab);
	}
	lsm_lab_free(lab);
}

/* ---- memory that is not taken ---- */

static int told_count(const struct tree_key *key, const struct tree_row *row, void *arg)
{
	uint32_t *count = arg;
	(void)key;
	assert_true(row->op > 0);
	(*count)++;
	return 0;
}

/* Deleting nodes, a frame of them takes thousands of walks, would take memory for each. */
static void test_lsm_prefix__takes_no_memory(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_new(9, 0);
	for (uint32_t round = 0; round < 4; round++) {
		for (uint32_t k = 0; k < 64; k++)
			lsm_lab_put(lab, TREE_OUT, k, 8, k % 4 == round);
		assert_int_equal(lsm_lab_frame(lab), 0);
		lsm_lab_publish(lab, lab->place.op);
		if (round == 3)
			break;
		while (lsm_freeze(lab->lsm, &lab->place) == -EAGAIN)
			assert_true(lsm_step(lab->lsm, lab->place.op) >= 0);
	}
	assert_non_null(lab->lsm->current->frozen);
	assert_int_equal(lsm_lab_runs(lab, TREE_OUT), 2);
	uint64_t mallocs = test_mallocs();
	for (uint32_t node = 0; node < 6; node++) {
		struct tree_key key = lab_key(TREE_OUT, node * 16);
		uint32_t count = 0;
		assert_int_equal(lsm_prefix(lab->lsm, TREE_OUT, key.word[0], told_count, &count),
				 0);
		assert_int_equal(count, node < 4 ? 12 : 0);
	}
	assert_int_equal(test_mallocs(), mallocs);
	lsm_lab_free(lab);
}

/* What a flush takes of memory would grow with its rows. */
static void test_lsm_flush__takes_the_same_whatever_the_rows(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_new(9, 0);
	uint64_t took[2];
	for (uint32_t round = 0; round < 2; round++) {
		for (uint32_t k = 0; k < (round ? LAB_KEYS : 20); k++)
			lsm_lab_put(lab, TREE_NODE, (k * 7) % LAB_KEYS, 8, false);
		assert_int_equal(lsm_lab_frame(lab), 0);
		lsm_lab_publish(lab, lab->place.op);
		assert_int_equal(lsm_freeze(lab->lsm, &lab->place), 0);
		uint64_t mallocs = test_mallocs();
		while (lsm_checkpoint(lab->lsm).op < lab->place.op)
			assert_true(lsm_step(lab->lsm, lab->place.op) >= 0);
		took[round] = test_mallocs() - mallocs;
	}
	assert_int_equal(lab->lsm->current->tree[TREE_NODE].run[0]->count, 1);
	assert_in_range(took[1], 0, took[0] + 2);
	lsm_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lsm_filters__keep_to_their_share),
		cmocka_unit_test(test_lsm_filters__of_upper_levels_come_first),
		cmocka_unit_test(test_lsm_filters__are_dropped_beside_readers),
		cmocka_unit_test(test_lsm_filters__come_back),
		cmocka_unit_test(test_lsm_filters__that_cannot_be_read_stop_nothing),
		cmocka_unit_test(test_lsm_filters__no_memory_changes_nothing),
		cmocka_unit_test(test_lsm_prefix__takes_no_memory),
		cmocka_unit_test(test_lsm_flush__takes_the_same_whatever_the_rows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
