#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <haul/err.h>
#include "lib/testlib.h"
#include "store/memtable.h"
#include "store/memtable_state.h"

enum { MODEL_MAX = 20000, VALUE = 64, MEMORY = 4 << 20 };

static struct memtable_sorter *sorter; /* of the table that was made last */

static int table_new(struct memtable **ret_table, uint64_t bytes)
{
	memtable_sorter_free(sorter);
	sorter = NULL;
	int error = memtable_sorter_new(&sorter, bytes);
	return error ? error : memtable_new(ret_table, bytes, sorter);
}

/* The naive twin: every row that was put and not aborted. */
struct model_row {
	enum tree tree;
	struct tree_key key;
	uint64_t op;
	uint32_t number; /* of all puts: later is newer */
	uint32_t bytes;
	uint8_t fill;
	bool deleted;
};
struct model {
	struct model_row row[MODEL_MAX];
	uint32_t count;
	uint32_t puts;
};

static struct tree_key key_make(enum tree tree, struct prng *prng, uint32_t spread)
{
	struct tree_key key = { 0 };
	for (uint32_t w = 0; w < tree_words[tree]; w++) {
		uint64_t word = prng_below(prng, w ? 4 : spread);
		/* Words that differ in high bytes, in low ones, and in both. */
		key.word[w] = prng_below(prng, 3) ? word : word << 56 | word * 7919;
	}
	return key;
}

static void put_one(struct memtable *table, struct model *model, enum tree tree, uint64_t op,
		    struct prng *prng)
{
	uint8_t value[VALUE];
	struct model_row *row = &model->row[model->count++];
	*row = (struct model_row){ .tree = tree,
				   .key = key_make(tree, prng, 200),
				   .op = op,
				   .number = model->puts++,
				   .fill = (uint8_t)prng_next(prng),
				   .deleted = prng_below(prng, 5) == 0 };
	row->bytes = row->deleted ? 0 : prng_below(prng, VALUE);
	memset(value, row->fill, sizeof value);
	uint64_t used = memtable_used(table);
	struct tree_row put = { .value = value, .bytes = row->bytes, .deleted = row->deleted };
	assert_int_equal(memtable_put(table, tree, &row->key, op, &put), 0);
	assert_int_equal(memtable_used(table) - used, memtable_cost(tree, row->bytes));
}

static void value_same(const uint8_t *value, const struct model_row *row)
{
	for (uint32_t i = 0; i < row->bytes; i++)
		assert_int_equal(value[i], row->fill);
}

static void get_same(const struct memtable *table, const struct model *model, enum tree tree,
		     const struct tree_key *key, uint64_t op_max)
{
	const struct model_row *best = NULL;
	struct tree_row row;
	for (uint32_t i = 0; i < model->count; i++) {
		const struct model_row *at = &model->row[i];
		if (at->tree == tree && at->op <= op_max && !tree_key_compare(&at->key, key))
			best = at;
	}
	memtable_get(table, tree, key, op_max, &row);
	assert_int_equal(row.op, best ? best->op : 0);
	if (!best)
		return;
	assert_int_equal(row.deleted, best->deleted);
	assert_int_equal(row.bytes, best->bytes);
	value_same(row.value, best);
}

static int model_order(const void *a, const void *b)
{
	const struct model_row *x = a, *y = b;
	int order = tree_key_compare(&x->key, &y->key);
	if (order)
		return order;
	return x->number > y->number ? -1 : 1;
}

/* What a walk has to tell: rows of a tree, in order, of one key and op the last only. */
static uint32_t model_walk(const struct model *model, enum tree tree, uint64_t op_max,
			   struct model_row *rows)
{
	uint32_t count = 0, kept = 0;
	for (uint32_t i = 0; i < model->count; i++) {
		if (model->row[i].tree == tree && model->row[i].op <= op_max)
			rows[count++] = model->row[i];
	}
	qsort(rows, count, sizeof *rows, model_order);
	for (uint32_t i = 0; i < count; i++) {
		if (kept && rows[kept - 1].op == rows[i].op &&
		    !tree_key_compare(&rows[kept - 1].key, &rows[i].key))
			continue;
		rows[kept++] = rows[i];
	}
	return kept;
}

static struct model_row expected[MODEL_MAX];

static void walk_same(const struct memtable *table, const struct model *model, enum tree tree,
		      uint64_t op_max, const struct tree_key *from, bool prefix)
{
	struct memtable_walk walk = { .op_max = op_max };
	struct rows rows;
	uint32_t count = model_walk(model, tree, op_max, expected), at = 0;
	int more;
	while (from && at < count && tree_key_compare(&expected[at].key, from) < 0)
		at++;
	while (prefix && count > at && expected[count - 1].key.word[0] != from->word[0])
		count--;
	assert_int_equal(memtable_walk_open(&walk, table, tree, from, prefix), 0);
	while ((more = walk.source.next(&walk.source, &rows)) == 1) {
		assert_int_equal(rows.words, tree_words[tree]);
		for (uint32_t i = 0; i < rows.count; i++, at++) {
			uint32_t start = i ? rows.end[i - 1] : 0;
			assert_true(at < count);
			assert_memory_equal(rows.key + (size_t)i * rows.words,
					    expected[at].key.word, rows.words * sizeof *rows.key);
			assert_int_equal(rows.op[i] & ~TREE_DELETED, expected[at].op);
			assert_int_equal((rows.op[i] & TREE_DELETED) != 0, expected[at].deleted);
			assert_int_equal(rows.end[i] - start, expected[at].bytes);
			value_same(rows.heap + start, &expected[at]);
		}
	}
	assert_int_equal(more, 0);
	assert_int_equal(at, count);
	memtable_walk_close(&walk);
}

static void all_same(const struct memtable *table, const struct model *model, uint64_t op,
		     struct prng *prng)
{
	for (int i = 0; i < 60; i++) {
		enum tree tree = (enum tree)prng_below(prng, TREES);
		struct tree_key key = key_make(tree, prng, 220);
		uint64_t op_max = prng_below(prng, 3) ? UINT64_MAX : prng_below(prng, (uint32_t)op);
		memtable_prefetch(table, tree, &key); /* says nothing, does nothing */
		if (tree_hashed[tree])
			get_same(table, model, tree, &key, op_max);
		if (i % 4)
			continue;
		bool prefix = tree == TREE_OUT || tree == TREE_IN || tree == TREE_OF_NODE;
		bool start = prng_below(prng, 2);
		walk_same(table, model, tree, op_max, start ? &key : NULL,
			  start && prefix && prng_below(prng, 2));
	}
}

/* Rows of random trees and keys, versions, groups that fail: a row would be lost, an aborted one
 * seen, an old version told for the new one, or a walk be out of order. */
static void test_memtable__is_what_was_put(void **state)
{
	(void)state;
	struct memtable *table;
	struct model *model = calloc(1, sizeof *model);
	struct prng prng;
	test_prng(&prng);
	assert_non_null(model);
	assert_int_equal(table_new(&table, MEMORY), 0);
	for (int life = 0; life < 3; life++) {
		model->count = 0;
		for (uint64_t op = 1; op < 120; op++) {
			uint32_t rows = prng_below(&prng, 80), before = model->count;
			struct memtable_mark mark;
			memtable_mark(table, &mark);
			for (uint32_t i = 0; i < rows; i++)
				put_one(table, model, (enum tree)prng_below(&prng, TREES), op,
					&prng);
			if (prng_below(&prng, 4) == 0) {
				all_same(table, model, op, &prng);
				memtable_abort(table, &mark);
				model->count = before;
			}
			all_same(table, model, op, &prng);
		}
		for (int tree = 0; tree < TREES; tree++)
			walk_same(table, model, (enum tree)tree, UINT64_MAX, NULL, false);
		memtable_clear(table);
		assert_int_equal(memtable_used(table), 0);
		for (int tree = 0; tree < TREES; tree++)
			assert_int_equal(memtable_rows(table, (enum tree)tree), 0);
	}
	memtable_free(table);
	free(model);
}

/* The sort goes other ways for many rows, and for keys that are alike in many bytes: it would leave
 * them out of order. */
static void test_memtable__sorts_any_keys(void **state)
{
	(void)state;
	struct memtable *table;
	struct model *model = calloc(1, sizeof *model);
	struct prng prng;
	test_prng(&prng);
	assert_non_null(model);
	assert_int_equal(table_new(&table, 8 << 20), 0);
	for (int kind = 0; kind < 8; kind++) {
		enum tree tree = kind < 4 ? TREE_NODE : TREE_OUT;
		memtable_clear(table);
		model->count = 0;
		for (uint32_t i = 0; i < MODEL_MAX; i++) {
			struct model_row *row = &model->row[model->count++];
			*row = (struct model_row){ .tree = tree, .op = 1 + i / 100, .number = i };
			uint64_t *word = row->key.word;
			word[0] = kind % 4 == 0          ? i
				  : kind % 4 == 1        ? prng_next(&prng)
				  : kind % 4 == 2        ? prng_below(&prng, 3) << 9
				  : prng_below(&prng, 2) ? UINT64_MAX - prng_below(&prng, 9000)
							 : prng_below(&prng, 9000);
			for (int w = 1; w < tree_words[tree]; w++)
				word[w] = prng_below(&prng, 2) ? prng_next(&prng) >> 40
							       : (uint64_t)w << 60;
			struct tree_row put = { 0 };
			assert_int_equal(memtable_put(table, tree, &row->key, row->op, &put), 0);
		}
		walk_same(table, model, tree, UINT64_MAX, NULL, false);
		struct tree_key from = model->row[77].key;
		walk_same(table, model, tree, 100, &from, tree == TREE_OUT);
	}
	memtable_free(table);
	free(model);
}

/* Walk after walk while rows come in: each would sort all rows again, or miss those that came. */
static void test_memtable__orders_grow_with_the_rows(void **state)
{
	(void)state;
	struct memtable *table;
	struct model *model = calloc(1, sizeof *model);
	struct prng prng;
	test_prng(&prng);
	assert_non_null(model);
	assert_int_equal(table_new(&table, MEMORY), 0);
	for (uint64_t op = 1; op < 300; op++) {
		for (uint32_t i = prng_below(&prng, 30); i > 0; i--)
			put_one(table, model, TREE_KIND, op, &prng);
		walk_same(table, model, TREE_KIND, op - prng_below(&prng, 2), NULL, false);
		assert_true(table->tree[TREE_KIND].runs <= 14);
	}
	/* Nothing that an older op may see came since: its order is not touched. */
	walk_same(table, model, TREE_KIND, 299, NULL, false);
	struct memtable_run run = table->tree[TREE_KIND].run[0];
	uint32_t version = table->tree[TREE_KIND].version;
	uint32_t runs = table->tree[TREE_KIND].runs;
	put_one(table, model, TREE_KIND, 300, &prng);
	walk_same(table, model, TREE_KIND, 299, NULL, false);
	assert_int_equal(table->tree[TREE_KIND].runs, runs);
	assert_int_equal(table->tree[TREE_KIND].version, version);
	assert_memory_equal(&table->tree[TREE_KIND].run[0], &run, sizeof run);
	memtable_free(table);
	free(model);
}

static uint64_t walk_ordered(const struct memtable *table, enum tree tree, uint64_t op_max)
{
	struct memtable_walk walk = { .op_max = op_max };
	struct rows rows;
	uint64_t count = 0, before[2] = { 0, 0 };
	assert_int_equal(memtable_walk_open(&walk, table, tree, NULL, false), 0);
	while (walk.source.next(&walk.source, &rows) == 1) {
		for (uint32_t i = 0; i < rows.count; i++, count++) {
			const uint64_t *key = rows.key + (size_t)i * 2;
			assert_true(key[0] > before[0] ||
				    (key[0] == before[0] && key[1] > before[1]) || count == 0);
			memcpy(before, key, sizeof before);
			assert_true(rows.op[i] <= op_max);
		}
	}
	memtable_walk_close(&walk);
	return count;
}

/* More rows than there is memory to sort at once: some would be lost, or out of order. */
static void test_memtable__sorts_in_bounded_memory(void **state)
{
	(void)state;
	struct memtable *table;
	struct prng prng;
	struct tree_row put = { 0 };
	test_prng(&prng);
	uint64_t sizes[] = { MEMTABLE_BYTES_MIN, 1 << 20 };
	for (uint32_t s = 0; s < 2; s++) {
		assert_int_equal(table_new(&table, sizes[s]), 0);
		assert_true(memtable_sorter_memory(sizes[s]) <= sizes[s] / 4 + 1024);
		uint64_t count = 0, mallocs = 0;
		for (bool full = false; !full;) {
			for (uint32_t i = prng_below(&prng, 900); i > 0 && !full; i--) {
				struct tree_key key = { { prng_below(&prng, 5), count * 7919, 0 } };
				full = memtable_put(table, TREE_KIND, &key, count + 1, &put) != 0;
				count += !full;
			}
			mallocs = test_mallocs();
			assert_int_equal(walk_ordered(table, TREE_KIND, count), count);
			assert_true(test_mallocs() - mallocs <= 2); /* a walk, and its piece */
			assert_true(table->tree[TREE_KIND].runs <= MEMTABLE_RUNS_MAX);
		}
		assert_true(count > sorter->rows_max);
		memtable_clear(table);
		assert_int_equal(walk_ordered(table, TREE_KIND, 1), 0);
		memtable_free(table);
	}
}

/* A walk that was opened would see rows put later, or lose those it had. */
static void test_memtable__a_walk_keeps_its_rows(void **state)
{
	(void)state;
	struct memtable *table;
	struct memtable_walk walk = { .op_max = 1 };
	struct rows rows;
	struct tree_row put = { 0 };
	assert_int_equal(table_new(&table, MEMORY), 0);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(memtable_put(table, TREE_NODE,
					      &(struct tree_key){ { i * 2, 0, 0 } }, 1, &put),
				 0);
	assert_int_equal(memtable_walk_open(&walk, table, TREE_NODE, NULL, false), 0);
	assert_int_equal(walk.source.next(&walk.source, &rows), 1);
	uint32_t seen = rows.count;
	for (uint64_t i = 0; i < 3000; i++)
		assert_int_equal(
			memtable_put(table, TREE_NODE, &(struct tree_key){ { i, 0, 0 } }, 2, &put),
			0);
	struct memtable_walk other = { .op_max = 2 };
	assert_int_equal(memtable_walk_open(&other, table, TREE_NODE, NULL, false), 0);
	while (walk.source.next(&walk.source, &rows) == 1) {
		assert_int_equal(rows.key[0], seen * 2);
		seen += rows.count;
	}
	assert_int_equal(seen, 1000);
	memtable_walk_close(&walk);
	memtable_walk_close(&other);
	memtable_walk_close(&other);
	memtable_free(table);
}

/* Values of which only a few fit into a piece: some would be cut, or left out. */
static void test_memtable__long_values_are_walked(void **state)
{
	(void)state;
	struct memtable *table;
	struct memtable_walk walk = { .op_max = 9 };
	struct rows rows;
	static uint8_t value[TREE_VALUE_MAX];
	assert_int_equal(table_new(&table, 8 << 20), 0);
	for (uint64_t i = 0; i < 100; i++) {
		struct tree_key key = { { 99 - i, 0, 0 } };
		struct tree_row put = { .value = value,
					.bytes = TREE_VALUE_MAX - 500 * (uint32_t)i };
		memset(value, (int)i, sizeof value);
		assert_int_equal(memtable_put(table, TREE_NODE, &key, 1, &put), 0);
	}
	assert_int_equal(memtable_walk_open(&walk, table, TREE_NODE, NULL, false), 0);
	uint32_t count = 0;
	while (walk.source.next(&walk.source, &rows) == 1) {
		for (uint32_t i = 0; i < rows.count; i++, count++) {
			uint32_t start = i ? rows.end[i - 1] : 0, put = 99 - count;
			assert_int_equal(rows.key[i], count);
			assert_int_equal(rows.end[i] - start, TREE_VALUE_MAX - 500 * put);
			assert_int_equal(rows.heap[start], put);
			assert_int_equal(rows.heap[rows.end[i] - 1], put);
		}
	}
	assert_int_equal(count, 100);
	memtable_walk_close(&walk);
	memtable_free(table);
}

/* A node with more edges than are followed one by one: its walk would be cut short. */
static void test_memtable__long_prefixes_are_whole(void **state)
{
	(void)state;
	struct memtable *table;
	struct rows rows;
	struct tree_row put = { 0 };
	assert_int_equal(table_new(&table, MEMORY), 0);
	for (uint64_t i = 0; i < 20000; i++) {
		struct tree_key key = { { i % 2 ? 7 : 8 + i % 5, i * 7919 % 20011, 0 } };
		assert_int_equal(memtable_put(table, TREE_OUT, &key, 1 + i, &put), 0);
	}
	struct memtable_walk walk = { .op_max = 19000 };
	struct tree_key from = { { 7, 0, 0 } };
	assert_int_equal(memtable_walk_open(&walk, table, TREE_OUT, &from, true), 0);
	uint64_t last = 0, count = 0;
	while (walk.source.next(&walk.source, &rows) == 1) {
		for (uint32_t i = 0; i < rows.count; i++, count++) {
			assert_int_equal(rows.key[i * 3], 7);
			assert_true(rows.key[i * 3 + 1] > last);
			last = rows.key[i * 3 + 1];
		}
	}
	assert_int_equal(count, 9500);
	memtable_walk_close(&walk);
	walk.op_max = UINT64_MAX;
	from.word[0] = 6; /* nobody's */
	assert_int_equal(memtable_walk_open(&walk, table, TREE_OUT, &from, true), 0);
	assert_int_equal(walk.source.next(&walk.source, &rows), 0);
	memtable_walk_close(&walk);
	memtable_free(table);
}

/* The executor counts in memtable_cost: a row that was counted would find no room. */
static void test_memtable__takes_all_that_was_counted(void **state)
{
	(void)state;
	struct memtable *table;
	struct prng prng;
	static uint8_t value[TREE_VALUE_MAX];
	test_prng(&prng);
	assert_int_equal(table_new(&table, MEMTABLE_BYTES_MIN - 1), HAUL_ELIMIT);
	assert_int_equal(table_new(&table, MEMTABLE_BYTES_MAX + 1), HAUL_ELIMIT);
	uint32_t sizes[] = { MEMTABLE_BYTES_MIN, 100001, 1 << 20, 9 << 20 };
	for (uint32_t s = 0; s < 4; s++) {
		assert_int_equal(table_new(&table, sizes[s]), 0);
		assert_true(memtable_memory(sizes[s]) > sizes[s]);
		/* One tree, all trees, long values; until it is full to the byte. */
		for (int kind = 0; kind < TREES + 2; kind++) {
			uint64_t used = 0, number = 0;
			memtable_clear(table);
			for (;;) {
				enum tree tree =
					(enum tree)(kind < TREES ? (uint64_t)kind : number % TREES);
				uint32_t bytes = kind == TREES + 1
							 ? prng_below(&prng, TREE_VALUE_MAX + 1)
							 : prng_below(&prng, 9);
				struct tree_key key = { { number, 0, number } };
				struct tree_row put = { .value = value, .bytes = bytes };
				for (uint32_t w = tree_words[tree]; w < TREE_WORDS_MAX; w++)
					key.word[w] = 0;
				number++;
				int error = memtable_put(table, tree, &key, number, &put);
				if (used + memtable_cost(tree, bytes) > sizes[s]) {
					assert_int_equal(error, HAUL_EFULL);
					break;
				}
				assert_int_equal(error, 0);
				used += memtable_cost(tree, bytes);
			}
			assert_int_equal(memtable_used(table), used);
		}
		memtable_free(table);
	}
}

/* Groups that fail over and over with the same keys: each would make the next slower, and at last
 * the table of slots full. */
static void test_memtable__aborts_leave_no_trace(void **state)
{
	(void)state;
	struct memtable *table;
	struct memtable_mark mark;
	struct tree_row put = { 0 }, row;
	struct tree_key key = { { 1, 2, 3 } };
	assert_int_equal(table_new(&table, MEMTABLE_BYTES_MIN), 0);
	assert_int_equal(memtable_put(table, TREE_OUT, &key, 1, &put), 0);
	for (uint64_t round = 0; round < 1300; round++) {
		struct tree_key other = { { round, round, round } };
		memtable_mark(table, &mark);
		int error = memtable_put(table, TREE_OUT, round % 2 ? &key : &other, 2, &put);
		if (error == HAUL_EFULL)
			break;
		assert_int_equal(error, 0);
		memtable_abort(table, &mark);
		memtable_get(table, TREE_OUT, &key, UINT64_MAX, &row);
		assert_int_equal(row.op, 1);
	}
	uint64_t used = 0;
	for (uint64_t i = 0; i < table->slot_count; i++)
		used += (table->slots[i] & ((UINT32_C(1) << table->ref_bits) - 1)) > 1;
	assert_int_equal(used, 2); /* of the key, of its first word */
	memtable_free(table);
}

/* A frame is undone in which a group had failed: rows that are dead would be looked for. */
static void test_memtable__aborts_in_what_is_aborted(void **state)
{
	(void)state;
	struct memtable *table;
	struct memtable_mark frame, group;
	struct tree_row put = { 0 }, row;
	struct tree_key key = { { 1, 2, 3 } };
	assert_int_equal(table_new(&table, MEMTABLE_BYTES_MIN), 0);
	assert_int_equal(memtable_put(table, TREE_OUT, &key, 1, &put), 0);
	memtable_mark(table, &frame);
	assert_int_equal(memtable_put(table, TREE_OUT, &key, 2, &put), 0);
	memtable_mark(table, &group);
	assert_int_equal(memtable_put(table, TREE_OUT, &key, 2, &put), 0);
	memtable_abort(table, &group);
	assert_int_equal(memtable_put(table, TREE_OUT, &key, 2, &put), 0);
	memtable_abort(table, &frame);
	memtable_get(table, TREE_OUT, &key, UINT64_MAX, &row);
	assert_int_equal(row.op, 1);
	memtable_free(table);
}

/* Memory that there is not would be used. */
static void test_memtable__no_memory_is_told(void **state)
{
	(void)state;
	struct memtable *table;
	struct tree_row put = { 0 };
	int error = -ENOMEM;
	for (uint32_t after = 0; error && test_malloc_fail(after); after++) {
		assert_int_equal(error, -ENOMEM);
		error = table_new(&table, MEMTABLE_BYTES_MIN);
		if (!error)
			memtable_free(table);
	}
	test_malloc_fail(UINT32_MAX);
	assert_int_equal(table_new(&table, 1 << 20), 0);
	for (uint64_t i = 0; i < 200; i++) {
		struct tree_key key = { { 5, i * 7 % 200, 0 } };
		assert_int_equal(memtable_put(table, TREE_OUT, &key, 1, &put), 0);
	}
	for (int prefix = 0; prefix < 2; prefix++) {
		struct memtable_walk walk = { .op_max = 1 };
		struct tree_key from = { { 5, 0, 0 } };
		error = -ENOMEM;
		for (uint32_t after = 0; error && test_malloc_fail(after); after++) {
			assert_int_equal(error, -ENOMEM);
			error = memtable_walk_open(&walk, table, TREE_OUT, &from, prefix);
			if (!error)
				memtable_walk_close(&walk);
		}
	}
	test_malloc_fail(UINT32_MAX);
	memtable_free(table);
	memtable_free(NULL);
}

/* ---- threads ---- */

enum { THREADS = 3, OPS = 400, OP_ROWS = 20, HOT = 50 };

struct race {
	struct memtable *table;
	uint64_t published; /* atomic */
	bool stop;          /* atomic */
};

/* Everything put in op n has value n; every op puts the hot keys of its residue. */
static void *race_reader(void *arg)
{
	struct race *race = arg;
	struct prng prng;
	prng_init(&prng, (uint64_t)(uintptr_t)&prng);
	while (!__atomic_load_n(&race->stop, __ATOMIC_ACQUIRE)) {
		uint64_t op = __atomic_load_n(&race->published, __ATOMIC_ACQUIRE), value;
		uint64_t hot = prng_below(&prng, HOT);
		struct tree_key key = { { hot % 5, hot, 0 } };
		struct tree_row row;
		memtable_get(race->table, TREE_OUT, &key, op, &row);
		/* The newest op <= op that put this key. */
		uint64_t newest = op >= hot ? op - (op - hot) % HOT : 0;
		HAUL_ASSERT(row.op == newest);
		if (row.op) {
			memcpy(&value, row.value, sizeof value);
			HAUL_ASSERT(value == row.op);
		}
		struct memtable_walk walk = { .op_max = op };
		struct rows rows;
		bool prefix = prng_below(&prng, 2);
		HAUL_ASSERT(!memtable_walk_open(&walk, race->table, TREE_OUT, &key, prefix));
		while (walk.source.next(&walk.source, &rows) == 1) {
			for (uint32_t i = 0; i < rows.count; i++) {
				uint32_t start = i ? rows.end[i - 1] : 0;
				memcpy(&value, rows.heap + start, sizeof value);
				HAUL_ASSERT(rows.op[i] <= op && value == rows.op[i]);
			}
		}
		memtable_walk_close(&walk);
	}
	return NULL;
}

static void race_put(struct race *race, uint64_t first, uint64_t second, uint64_t op,
		     uint64_t value)
{
	struct tree_key key = { { first, second, 0 } };
	struct tree_row row = { .value = (const uint8_t *)&value, .bytes = sizeof value };
	assert_int_equal(memtable_put(race->table, TREE_OUT, &key, op, &row), 0);
}

/* Readers beside the writer, who also aborts: they would see half a row, a row not published, or
 * one aborted; the thread sanitizer would see a race. */
static void test_memtable__readers_beside_the_writer(void **state)
{
	(void)state;
	struct race race = { 0 };
	pthread_t thread[THREADS];
	assert_int_equal(table_new(&race.table, MEMORY), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, race_reader, &race), 0);
	for (uint64_t op = 1; op <= OPS; op++) {
		struct memtable_mark mark;
		memtable_mark(race.table, &mark);
		for (uint64_t i = 0; i < OP_ROWS; i++)
			race_put(&race, i % 7, i % 2 ? op % HOT : 1000 + op + i, op, 0);
		memtable_abort(race.table, &mark);
		for (uint64_t i = 0; i < OP_ROWS; i++)
			race_put(&race, 9, i * 1000 + op, op, op);
		race_put(&race, op % HOT % 5, op % HOT, op, op);
		__atomic_store_n(&race.published, op, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	memtable_free(race.table);
}

/* Bytes of [memory, memory + bytes) that the machine has given; whole pages. */
static uint64_t resident(const void *memory, uint64_t bytes)
{
	enum { PAGE = 4096, PAGES = 4096 };
	unsigned char seen[PAGES];
	uint64_t from = ((uint64_t)(uintptr_t)memory + PAGE - 1) / PAGE * PAGE, sum = 0;
	uint64_t pages = ((uint64_t)(uintptr_t)memory + bytes - from) / PAGE;
	assert_true(pages <= PAGES);
	uint8_t *at = (uint8_t *)(uintptr_t)memory + (from - (uint64_t)(uintptr_t)memory);
	assert_int_equal(mincore(at, pages * PAGE, seen), 0);
	for (uint64_t i = 0; i < pages; i++)
		sum += (seen[i] & 1) * (uint64_t)PAGE;
	return sum;
}

/* Memory is taken before puts come to it: slots first, then both ends of the arena, and what was
 * put stays as it is. */
static void test_memtable__takes_memory_ahead(void **state)
{
	enum { AHEAD = 1 << 20, ROW = 4000, PAGE = 4096 };
	static uint8_t value[ROW];
	(void)state;
	struct memtable *table;
	assert_int_equal(table_new(&table, MEMORY), 0);
	uint64_t slots = table->slot_count * sizeof *table->slots;
	uint64_t op = 0;
	/* It may be memory of an earlier test: give that back. */
	assert_int_equal(madvise(table->arena, table->arena_bytes, MADV_DONTNEED), 0);
	assert_int_equal(resident(table->arena, table->arena_bytes), 0);
	while (memtable_ahead(table, 0))
		assert_true(++op < 1000);
	assert_true(resident(table->slots, slots) >= slots - 2 * PAGE);
	assert_true(resident(table->arena, table->arena_bytes) < table->arena_bytes);
	op = 0;
	for (int rc = 0; rc == 0; op++) {
		while (memtable_ahead(table, AHEAD))
			;
		uint64_t end = table->heap + AHEAD < table->top ? table->heap + AHEAD : table->top;
		assert_true(resident(table->arena, end) >= end - PAGE);
		end = table->top > AHEAD ? table->top - AHEAD : 0;
		assert_true(resident(table->arena + end, table->arena_bytes - end) >=
			    table->arena_bytes - end - PAGE);
		struct tree_key key = { .word = { op } };
		memset(value, (int)op, sizeof value);
		struct tree_row put = { .value = value, .bytes = sizeof value };
		rc = memtable_put(table, TREE_NODE, &key, op + 1, &put);
	}
	for (uint64_t i = 0; i + 1 < op; i++) {
		struct tree_key key = { .word = { i } };
		struct tree_row row;
		memset(value, (int)i, sizeof value);
		memtable_get(table, TREE_NODE, &key, op, &row);
		assert_int_equal(row.op, i + 1);
		assert_memory_equal(row.value, value, sizeof value);
	}
	memtable_free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_memtable__is_what_was_put),
		cmocka_unit_test(test_memtable__sorts_any_keys),
		cmocka_unit_test(test_memtable__orders_grow_with_the_rows),
		cmocka_unit_test(test_memtable__sorts_in_bounded_memory),
		cmocka_unit_test(test_memtable__a_walk_keeps_its_rows),
		cmocka_unit_test(test_memtable__long_values_are_walked),
		cmocka_unit_test(test_memtable__long_prefixes_are_whole),
		cmocka_unit_test(test_memtable__takes_all_that_was_counted),
		cmocka_unit_test(test_memtable__aborts_leave_no_trace),
		cmocka_unit_test(test_memtable__aborts_in_what_is_aborted),
		cmocka_unit_test(test_memtable__no_memory_is_told),
		cmocka_unit_test(test_memtable__takes_memory_ahead),
		cmocka_unit_test(test_memtable__readers_beside_the_writer),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	memtable_sorter_free(sorter);
	return failed;
}
