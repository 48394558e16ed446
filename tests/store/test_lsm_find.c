#include <stdio.h>
#include <stdlib.h>

#include <haul/err.h>
#include "store/lsm_lab.h"
#include "store/table_cache.h"
#include "store/table_state.h"

/* RUNS runs of ROWS rows each, in tables of eight blocks. The k-th key of run r stands between
 * those of its neighbours, so all runs span the same range; one row in SHARED is in all of them. */
enum {
	RUNS = 6,
	ROWS = 900,
	SHARED = 30,
	STEP = 1 << 20,
	VALUE = 100,
	BLOCK = 4096,
	TABLE = 8 * BLOCK,
	ASKS = 64,
	TRIES = 50000000,
};

/* Calls of blob_get and reads in them, since the lab was opened. */
static struct {
	struct media_calls calls;
	void (*blob_get)(struct media *media, struct media_read *reads, uint32_t count);
	uint32_t gets, reads;
} counted;

static void blob_get(struct media *media, struct media_read *reads, uint32_t count)
{
	counted.gets++;
	counted.reads += count;
	counted.blob_get(media, reads, count);
}

static struct tree_key key_of(uint32_t run, uint32_t k)
{
	uint64_t place = (uint64_t)k * RUNS + (k % SHARED ? run : 0);
	return (struct tree_key){ { (place + 1) * STEP } };
}

static void run_make(struct lsm_lab *lab, uint32_t run)
{
	static const uint8_t value[VALUE];
	struct tree_row row = { .value = value, .bytes = VALUE };
	for (uint32_t k = 0; k < ROWS; k++) {
		struct tree_key key = key_of(run, k);
		assert_int_equal(lsm_put(lab->lsm, TREE_NODE, &key, lab->place.op + 1, &row), 0);
	}
	assert_int_equal(lsm_lab_frame(lab), 0);
	lsm_lab_publish(lab, lab->place.op);
	lsm_lab_flush_only(lab);
}

/* With nothing in the cache and in memory tables. */
static void lab_cold(struct lsm_lab *lab)
{
	lsm_lab_close(lab);
	assert_int_equal(lsm_lab_open(lab), 0);
	lsm_lab_publish(lab, lab->place.op);
	counted.calls = *lab->media->calls;
	counted.blob_get = counted.calls.blob_get;
	counted.calls.blob_get = blob_get;
	counted.gets = counted.reads = 0;
	lab->media->calls = &counted.calls;
}

/* Run r has op r + 1, so the first of a view has op RUNS. */
static struct lsm_lab *lab_new(void)
{
	struct lsm_lab *lab = lsm_lab_new(17);
	lab->options.memtable_bytes = 1 << 20;
	lab->options.frame_budget = 1 << 20;
	lab->options.table_bytes = TABLE;
	lab->options.block_bytes = BLOCK;
	lab->options.cache_bytes = 16 << 20; /* all blocks */
	lab->options.level_factor = RUNS + 1;
	assert_int_equal(lsm_lab_open(lab), 0);
	for (uint32_t run = 0; run < RUNS; run++)
		run_make(lab, run);
	assert_int_equal(lsm_lab_runs(lab, TREE_NODE), RUNS);
	lab_cold(lab);
	return lab;
}

/* The table of a run that has a place for the key, if its filter lets the key pass. */
static struct table *table_passed(const struct run *run, const struct tree_key *key)
{
	uint32_t at = run_find(run, 0, key);
	if (at == run->count || tree_key_compare(&run->bound[at].first, key) > 0)
		return NULL;
	return table_filter_pass(run->table[at], table_hash(key, 1)) ? run->table[at] : NULL;
}

/* How many runs let the key pass; the last one's table. */
static uint32_t passes(const struct lsm_view *view, const struct tree_key *key,
		       struct table **ret_table)
{
	const struct lsm_runs *runs = &view->tree[TREE_NODE];
	uint32_t count = 0;
	for (uint32_t r = 0; r < runs->count; r++) {
		struct table *table = table_passed(runs->run[r], key);
		if (table)
			*ret_table = table;
		count += table != NULL;
	}
	return count;
}

/* Keys that are nowhere and that one filter lets pass, each in another table. */
static uint32_t strangers(struct lsm_lab *lab, struct table_ask *asks)
{
	struct table *seen[ASKS], *table = NULL;
	struct lsm_view *view = lsm_view_current(lab->lsm);
	uint32_t tables = 0, count = 0;
	for (uint32_t r = 0; r < RUNS; r++)
		tables += view->tree[TREE_NODE].run[r]->count;
	assert_true(tables <= ASKS);
	for (uint64_t i = 1; count < tables && i < TRIES; i++) {
		struct tree_key key = { { hash_u64(i) % ((uint64_t)ROWS * RUNS * STEP) | 1 } };
		if (passes(view, &key, &table) != 1)
			continue;
		uint32_t at = 0;
		while (at < count && seen[at] != table)
			at++;
		if (at < count)
			continue;
		seen[count] = table;
		asks[count++] = (struct table_ask){ .key = key };
	}
	assert_int_equal(count, tables);
	lsm_view_drop(lab->lsm, view);
	return count;
}

/* A frame of new keys would wait for the disk once for each filter that was wrong, each time behind
 * what merges write. */
static void test_lsm_find__reads_what_passes_wrongly_at_once(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_new();
	struct table_ask asks[ASKS];
	uint32_t count = strangers(lab, asks);
	assert_true(count >= 3 * RUNS); /* many tables a run */
	counted.gets = counted.reads = 0;
	assert_int_equal(lsm_find(lab->lsm, TREE_NODE, asks, count, NULL), 0);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(asks[i].row.op, 0);
	assert_int_equal(counted.gets, 1);
	assert_int_equal(counted.reads, count);
	lsm_lab_free(lab);
}

static uint32_t shared_asks(struct table_ask *asks, uint64_t op_max)
{
	for (uint32_t i = 0; i < ROWS / SHARED; i++)
		asks[i] = (struct table_ask){ .key = key_of(0, i * SHARED), .op_max = op_max };
	return ROWS / SHARED;
}

/* A key that a new run has would be read in all older ones, too. */
static void test_lsm_find__reads_no_older_run_when_a_newer_has_it(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_new();
	struct table_ask asks[ASKS];
	uint32_t count = shared_asks(asks, 0);
	assert_int_equal(lsm_find(lab->lsm, TREE_NODE, asks, count, NULL), 0);
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(asks[i].row.op, RUNS);
	assert_int_equal(counted.gets, 1);
	assert_true(counted.reads <= count);
	lsm_lab_free(lab);
}

/* Keys of all runs at the same time would be read run after run; one would be told as another's. */
static void test_lsm_find__reads_keys_of_all_runs_at_once(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_new();
	struct table_ask asks[ASKS];
	struct lsm_view *view = lsm_view_current(lab->lsm);
	struct table *table;
	uint32_t count = 0;
	for (uint32_t k = 1; count < 8 * RUNS; k += 17) {
		struct tree_key key = key_of(count % RUNS, k);
		/* none that a newer run's filter lets pass wrongly */
		if (k % SHARED != 0 && passes(view, &key, &table) == 1)
			asks[count++] = (struct table_ask){ .key = key };
	}
	lsm_view_drop(lab->lsm, view);
	lab->arena.used = 0;
	assert_int_equal(lsm_find(lab->lsm, TREE_NODE, asks, count, &lab->arena), 0);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(asks[i].row.op, i % RUNS + 1);
		assert_int_equal(asks[i].row.bytes, VALUE);
	}
	assert_int_equal(counted.gets, 1);
	lsm_lab_free(lab);
}

/* Rows that are too new for a snapshot would be told, or end the search; each older run costs a
 * round, however many keys there are. */
static void test_lsm_find__goes_on_behind_rows_that_are_too_new(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_new();
	struct lsm_view *view = lsm_view_current(lab->lsm);
	struct table_ask asks[ASKS];
	for (uint64_t op = RUNS; op > 0; op--) {
		uint32_t count = shared_asks(asks, op);
		uint32_t gets = counted.gets;
		lab->arena.used = 0;
		lsm_get(view, TREE_NODE, asks, count, lsm_into(lab->scratch, &lab->arena));
		for (uint32_t i = 0; i < count; i++) {
			assert_int_equal(asks[i].status, 0);
			assert_int_equal(asks[i].row.op, op);
		}
		assert_int_equal(counted.gets - gets, 1); /* those of newer runs are cached */
	}
	uint32_t count = shared_asks(asks, 0);
	lsm_get(view, TREE_NODE, asks, count, lsm_into(lab->scratch, &lab->arena));
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(asks[i].row.op, 0);
	lsm_view_drop(lab->lsm, view);
	lab_cold(lab);
	view = lsm_view_current(lab->lsm);
	count = shared_asks(asks, 1);
	lsm_get(view, TREE_NODE, asks, count, lsm_into(lab->scratch, NULL));
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(asks[i].row.op, 1);
	assert_int_equal(counted.gets, RUNS);
	lsm_view_drop(lab->lsm, view);
	lsm_lab_free(lab);
}

/* One bit of a block of the table's blob. */
static void block_spoil(struct lsm_lab *lab, const struct table *table, uint32_t block)
{
	char name[64];
	uint64_t bytes;
	snprintf(name, sizeof name, "blob/%016llx", (unsigned long long)table->info.blob);
	uint8_t *data = vfs_sim_bytes(lab->sim, name, &bytes);
	assert_non_null(data);
	data[table_whole(table)->entry[block].offset + 100] ^= 1;
}

/* A block that cannot be read would hide behind an older run's row, or spoil the answers of others
 * that are read by the same call. */
static void test_lsm_find__an_error_is_that_of_its_keys_alone(void **state)
{
	(void)state;
	struct lsm_lab *lab = lab_new();
	struct table_ask asks[ASKS];
	struct lsm_view *view = lsm_view_current(lab->lsm);
	uint32_t count = shared_asks(asks, RUNS), bad = 0;
	const struct run *newest = view->tree[TREE_NODE].run[0];
	const struct table *table = newest->table[run_find(newest, 0, &asks[count / 2].key)];
	uint32_t block = table_block_of(table_whole(table), &asks[count / 2].key);
	block_spoil(lab, table, block);
	lsm_get(view, TREE_NODE, asks, count, lsm_into(lab->scratch, NULL));
	for (uint32_t i = 0; i < count; i++) {
		bool in = newest->table[run_find(newest, 0, &asks[i].key)] == table &&
			  table_block_of(table_whole(table), &asks[i].key) == block;
		assert_int_equal(asks[i].status, in ? HAUL_ECORRUPT : 0);
		assert_int_equal(asks[i].row.op, in ? 0 : RUNS);
		bad += in;
	}
	assert_true(bad > 0 && bad < count);
	assert_int_equal(counted.gets, 1);
	/* Where the newer rows are not wanted the block is needed all the same. */
	count = shared_asks(asks, 1);
	lsm_get(view, TREE_NODE, asks, count, lsm_into(lab->scratch, NULL));
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(asks[i].row.op, asks[i].status ? 0 : 1);
	assert_int_equal(asks[count / 2].status, HAUL_ECORRUPT);
	lsm_view_drop(lab->lsm, view);
	lsm_lab_free(lab);
}

/* New ascending ids would cost a look at filters and tables. */
static void test_lsm_find__keys_behind_all_tables_meet_none(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	for (uint32_t i = 0; i < 5; i++) {
		lsm_lab_frame_range(lab, TREE_NODE, i * 10, i * 10 + 10, false);
		lsm_lab_flush_only(lab);
	}
	struct table_cache_status before, after;
	table_cache_status(lab->lsm->cache, &before);
	struct table_ask asks[64];
	for (uint32_t i = 0; i < 64; i++)
		asks[i] = (struct table_ask){ .key = lab_key(TREE_NODE, 60 + (i * 37) % 64),
					      .hash = 77 };
	assert_int_equal(lsm_find(lab->lsm, TREE_NODE, asks, 64, NULL), 0);
	table_cache_status(lab->lsm->cache, &after);
	assert_int_equal(after.hits + after.misses, before.hits + before.misses);
	for (uint32_t i = 0; i < 64; i++) {
		assert_int_equal(asks[i].row.op, 0);
		assert_int_equal(asks[i].hash, 77); /* not even hashed */
	}
	lsm_lab_free(lab);
}

/* More keys than the executor looks for at once would be cut off, or sorted wrongly. */
static void test_lsm_find__takes_any_number_of_keys(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	for (uint32_t i = 0; i < 3; i++) {
		lsm_lab_frame_range(lab, TREE_OUT, i, LAB_KEYS - i, false);
		lsm_lab_flush_only(lab);
	}
	uint32_t count = LSM_FIND * 2 + 100;
	struct table_ask *asks = calloc(count, sizeof *asks);
	assert_non_null(asks);
	for (uint32_t i = 0; i < count; i++)
		asks[i].key = lab_key(TREE_OUT, (uint32_t)(hash_u64(i) % LAB_KEYS));
	assert_int_equal(lsm_find(lab->lsm, TREE_OUT, asks, count, NULL), 0);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t k = (uint32_t)(hash_u64(i) % LAB_KEYS);
		uint64_t run = k < 3 ? k : 2;
		if (k >= LAB_KEYS - 2)
			run = LAB_KEYS - 1 - k;
		assert_int_equal(asks[i].row.op, run + 1);
	}
	free(asks);
	lsm_lab_free(lab);
}

/* A value for which there is no room would be missing without a word. */
static void test_lsm_find__says_that_the_arena_is_full(void **state)
{
	(void)state;
	struct lsm_lab *lab = lsm_lab_new_open(11);
	lsm_lab_frame_range(lab, TREE_NODE, 0, 60, false);
	lsm_lab_flush_only(lab);
	assert_int_equal(lsm_ready(lab->lsm, &lab->place), 0); /* lets the memory table go */
	struct table_ask asks[60];
	for (uint32_t i = 0; i < 60; i++)
		asks[i] = (struct table_ask){ .key = lab_key(TREE_NODE, i) };
	struct arena arena = { .data = lab->arena.data, .bytes = 400 };
	assert_int_equal(lsm_find(lab->lsm, TREE_NODE, asks, 60, &arena), HAUL_EFULL);
	assert_int_equal(asks[0].status, 0);
	assert_int_equal(asks[59].status, HAUL_EFULL);
	lsm_lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lsm_find__reads_what_passes_wrongly_at_once),
		cmocka_unit_test(test_lsm_find__reads_no_older_run_when_a_newer_has_it),
		cmocka_unit_test(test_lsm_find__reads_keys_of_all_runs_at_once),
		cmocka_unit_test(test_lsm_find__goes_on_behind_rows_that_are_too_new),
		cmocka_unit_test(test_lsm_find__an_error_is_that_of_its_keys_alone),
		cmocka_unit_test(test_lsm_find__keys_behind_all_tables_meet_none),
		cmocka_unit_test(test_lsm_find__takes_any_number_of_keys),
		cmocka_unit_test(test_lsm_find__says_that_the_arena_is_full),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
