/* What is put into tables comes out, by walking and by looking; limits of who builds them. */
#include <errno.h>
#include <stdlib.h>

#include <haul/err.h>
#include "store/table_lab.h"

static void no_finding(uint64_t offset, const char *what, void *arg)
{
	(void)arg;
	print_message("at %llu: %s\n", (unsigned long long)offset, what);
	fail();
}

/* Walk tables from `first` on: row after row of the model from `row` on. */
static void walk_same(struct table_lab *f, const struct tree_key *from, uint32_t row,
		      uint32_t ahead, bool bypass)
{
	for (uint32_t t = 0; t < f->tables.count; t++) {
		if (from && tree_key_compare(&f->tables.info[t].last, from) < 0)
			continue;
		struct table_walk walk;
		struct rows rows;
		int more;
		assert_int_equal(table_walk_open(&walk, f->table[t], from, ahead, bypass), 0);
		while ((more = walk.source.next(&walk.source, &rows)) == 1) {
			for (uint32_t i = 0; i < rows.count; i++)
				table_lab_same_row(&f->model, row++, &rows, i);
		}
		assert_int_equal(more, 0);
		table_walk_close(&walk);
	}
	assert_int_equal(row, f->model.count);
}

static void walks_same(struct table_lab *f, struct prng *prng)
{
	struct rows rows = table_model_rows(&f->model);
	walk_same(f, NULL, 0, 1, false);
	walk_same(f, NULL, 0, 7, true);
	for (int i = 0; i < 40; i++) {
		uint32_t row = prng_below(prng, rows.count);
		struct tree_key key = table_lab_key(&rows, row);
		if (prng_below(prng, 2))
			key.word[rows.words - 1] += prng_below(prng, 3);
		row = 0;
		struct tree_key at = table_lab_key(&rows, row);
		while (row < rows.count && tree_key_compare(&at, &key) < 0) {
			row++;
			if (row < rows.count)
				at = table_lab_key(&rows, row);
		}
		walk_same(f, &key, row, 1 + prng_below(prng, 20), prng_below(prng, 2));
	}
}

static uint32_t model_find(const struct table_model *model, const struct tree_key *key,
			   uint64_t op_max)
{
	struct rows rows = table_model_rows(model);
	uint32_t low = 0, high = rows.count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct tree_key at = table_lab_key(&rows, middle);
		if (tree_key_compare(&at, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < rows.count; low++) {
		struct tree_key at = table_lab_key(&rows, low);
		if (tree_key_compare(&at, key) != 0)
			return UINT32_MAX;
		if ((rows.op[low] & ~TREE_DELETED) <= op_max)
			return low;
	}
	return UINT32_MAX;
}

static int ask_order(const void *a, const void *b)
{
	const struct table_ask *x = a, *y = b;
	return tree_key_compare(&x->key, &y->key);
}

static void ask_same(const struct table_model *model, const struct table_ask *ask, bool values)
{
	uint32_t row = model_find(model, &ask->key, ask->op_max);
	assert_int_equal(ask->status, 0);
	if (row == UINT32_MAX) {
		assert_int_equal(ask->row.op, 0);
		return;
	}
	uint32_t from = row ? model->end[row - 1] : 0;
	assert_int_equal(ask->row.op, model->op[row] & ~TREE_DELETED);
	assert_int_equal(ask->row.deleted, (model->op[row] & TREE_DELETED) != 0);
	assert_int_equal(ask->row.bytes, model->end[row] - from);
	if (values)
		assert_memory_equal(ask->row.value, model->heap + from, ask->row.bytes);
}

enum { ASKS = 500 };

static void gets_same(struct table_lab *f, struct prng *prng, bool values)
{
	static struct table_ask asks[ASKS];
	struct table_ask *those[ASKS];
	struct table *tables[ASKS];
	uint32_t count = 0;
	struct rows rows = table_model_rows(&f->model);
	for (uint32_t i = 0; i < ASKS; i++) {
		uint32_t row = prng_below(prng, rows.count);
		asks[i] = (struct table_ask){ .key = table_lab_key(&rows, row),
					      .op_max = UINT64_MAX };
		if (prng_below(prng, 3) == 0)
			asks[i].op_max = rows.op[row] & ~TREE_DELETED;
		if (prng_below(prng, 4) == 0)
			asks[i].key.word[rows.words - 1] += prng_below(prng, 3);
	}
	qsort(asks, ASKS, sizeof *asks, ask_order);
	struct arena arena = { .data = f->arena, .bytes = sizeof f->arena };
	for (uint32_t i = 0, t = 0; i < ASKS; i++) {
		while (t < f->tables.count &&
		       tree_key_compare(&asks[i].key, &f->tables.info[t].last) > 0)
			t++;
		if (t == f->tables.count ||
		    tree_key_compare(&asks[i].key, &f->tables.info[t].first) < 0)
			continue;
		tables[count] = f->table[t];
		those[count++] = &asks[i];
	}
	table_get(tables, those, count, values ? &arena : NULL);
	for (uint32_t i = 0; i < ASKS; i++)
		ask_same(&f->model, &asks[i], values);
}

static void filters_pass(const struct table_lab *f)
{
	struct rows rows = table_model_rows(&f->model);
	uint32_t table = 0;
	for (uint32_t i = 0; i < rows.count; i++) {
		struct tree_key key = table_lab_key(&rows, i);
		while (tree_key_compare(&key, &f->tables.info[table].last) > 0)
			table++;
		table_filter_prefetch(f->table[table], table_hash(&key, rows.words));
		assert_true(table_filter_pass(f->table[table], table_hash(&key, rows.words)));
		if (f->tables.info[table].tree == TREE_OUT)
			assert_true(table_filter_pass(f->table[table], table_hash(&key, 1)));
	}
}

/* A row that was put would not be found, or another; a walk would leave one out, or tell it twice,
 * whatever the tree, the size of blocks and tables, packed or not. */
static void test_table__gives_what_was_put(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	test_prng(&prng);
	for (int round = 0; round < 24; round++) {
		enum tree tree = (enum tree)(round % TREES);
		struct table_builder_options options;
		blob_lab_options(&f->tables, tree, &options);
		options.compress = prng_below(&prng, 2);
		options.block_bytes = prng_below(&prng, 2) ? 0 : 256 + prng_below(&prng, 8000);
		options.table_bytes = prng_below(&prng, 2) ? 0 : 30000 + prng_below(&prng, 200000);
		options.table_bytes = options.table_bytes ? options.table_bytes : 1 << 20;
		options.level = (uint32_t)round;
		table_model_make(&f->model, tree,
				 1 + prng_below(&prng, round % 3 ? TABLE_LAB_ROWS - 1 : 300),
				 &prng);
		table_lab_build(f, &options, &prng);
		uint64_t rows = 0;
		for (uint32_t t = 0; t < f->tables.count; t++) {
			const struct table_info *info = &f->tables.info[t];
			rows += info->rows;
			assert_int_equal(info->level, round);
			assert_int_equal(table_check(&f->lab.media, info, no_finding, NULL), 0);
			if (t)
				assert_true(tree_key_compare(&info[-1].last, &info->first) < 0);
		}
		assert_int_equal(rows, f->model.count);
		walks_same(f, &prng);
		gets_same(f, &prng, true);
		gets_same(f, &prng, false);
		filters_pass(f);
		table_lab_drop(f);
	}
	struct table_cache_status status;
	table_cache_status(f->cache, &status);
	assert_int_equal(status.pinned, 0);
}

/* One key, many versions: they would be torn into two tables, or found only in their first block.
 */
static void test_table__versions_of_a_key_stay_together(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	struct table_builder_options options;
	test_prng(&prng);
	blob_lab_options(&f->tables, TREE_NODE, &options);
	options.table_bytes = 65536;
	options.block_bytes = 4096;
	table_model_start(&f->model, TREE_NODE);
	for (uint64_t key = 0; key < 6; key++) {
		for (uint64_t op = key % 2 ? 900 : 3; op > 0; op--)
			table_model_add(&f->model, &key, op, 400, &prng);
	}
	table_lab_build(f, &options, &prng);
	assert_true(f->tables.count > 1);
	for (uint32_t t = 1; t < f->tables.count; t++)
		assert_true(f->tables.info[t - 1].last.word[0] < f->tables.info[t].first.word[0]);
	for (int i = 0; i < 10; i++)
		gets_same(f, &prng, true);
	walks_same(f, &prng);
	table_lab_drop(f);
}

/* A filter that passes nearly everything would cost a read for each key that is not there. */
static void test_table__filter_keeps_most_strangers_out(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	struct table_builder_options options;
	test_prng(&prng);
	blob_lab_options(&f->tables, TREE_NODE, &options);
	options.table_bytes = 1 << 20;
	table_model_start(&f->model, TREE_NODE);
	for (uint64_t key = 0; key < TABLE_LAB_ROWS; key++)
		table_model_add(&f->model, &key, 1, 8, &prng);
	table_lab_build(f, &options, &prng);
	uint32_t passed = 0;
	for (uint64_t i = 0; i < 100000; i++) {
		struct tree_key key = { { TABLE_LAB_ROWS + i, 0, 0 } };
		passed += table_filter_pass(f->table[0], table_hash(&key, 1));
	}
	assert_true(passed < 400); /* 0.1 % is usual */
	table_lab_drop(f);
}

/* A table would be deleted under the feet of who reads it, or never. */
static void test_table__doomed_goes_with_its_last_holder(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	test_prng(&prng);
	table_lab_small(f, true, &prng);
	struct table *table = table_hold(f->table[0]);
	assert_true(table_memory(table) > sizeof(struct table));
	table->doomed = true;
	table_drop(f->table[0]);
	f->table[0] = table;
	walk_same(f, NULL, 0, 1, false);
	assert_int_equal(f->lab.deleted, 0);
	table_lab_drop(f);
	assert_int_equal(f->lab.deleted, 1);
	table_drop(NULL);
}

/* What the builder cannot do would be told as done. */
static void test_table__builder_tells_its_limits(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	struct table_builder_options options;
	test_prng(&prng);
	blob_lab_options(&f->tables, TREE_NODE, &options);
	options.table_bytes = 2 << 20;
	assert_int_equal(table_builder_start(f->builder, &options), -EINVAL);
	options.table_bytes = 1 << 20;
	options.block_bytes = TABLE_BLOCK + 1;
	assert_int_equal(table_builder_start(f->builder, &options), -EINVAL);
	options.block_bytes = 100;
	assert_int_equal(table_builder_start(f->builder, &options), -EINVAL);
	options.block_bytes = 0;
	assert_int_equal(table_builder_start(f->builder, &options), 0);
	assert_int_equal(table_builder_finish(f->builder), 0);
	assert_int_equal(f->tables.count, 0);

	/* More versions than a table can have. */
	table_model_start(&f->model, TREE_NODE);
	for (uint64_t op = 60, key = 1; op > 0; op--)
		table_model_add(&f->model, &key, op, TREE_VALUE_MAX, &prng);
	assert_int_equal(table_builder_start(f->builder, &options), 0);
	struct rows rows = table_model_rows(&f->model);
	int error = 0;
	for (uint64_t above = 1000000; !error; above -= 1000) {
		for (uint32_t i = 0; i < rows.count; i++)
			f->model.op[i] = above - i;
		error = table_builder_add(f->builder, &rows, 0, rows.count);
	}
	assert_int_equal(error, HAUL_ELIMIT);

	assert_int_equal(table_builder_start(f->builder, &options), 0);
	assert_int_equal(table_builder_add(f->builder, &rows, 0, 2), 0);
	f->lab.put_fail_after = 1;
	assert_int_equal(table_builder_finish(f->builder), -ENOSPC);
	assert_int_equal(f->tables.count, 0);
}

/* Values would be written behind the arena, or the answer would point outside of it. */
static void test_table__full_arena_is_told(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	struct table_builder_options options;
	struct table_ask ask[5], *asks[5];
	struct table *tables[5];
	test_prng(&prng);
	blob_lab_options(&f->tables, TREE_NODE, &options);
	options.table_bytes = 1 << 20;
	table_model_start(&f->model, TREE_NODE);
	for (uint64_t key = 0; key < 5; key++)
		table_model_add(&f->model, &key, 1, 100, &prng);
	table_lab_build(f, &options, &prng);
	for (uint64_t i = 0; i < 5; i++) {
		ask[i] = (struct table_ask){ .key = { { i, 0, 0 } }, .op_max = 9 };
		asks[i] = &ask[i];
		tables[i] = f->table[0];
	}
	struct test_guard guard;
	test_guard_open(&guard, 308);
	struct arena arena = { .data = guard.data, .bytes = 308 };
	table_get(tables, asks, 5, &arena);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(ask[i].status, i < 3 ? 0 : HAUL_EFULL);
		assert_int_equal(ask[i].row.op, i < 3);
	}
	test_guard_close(&guard);
	table_lab_drop(f);
}

/* Memory that there is not would be used, or what was taken before would be lost. */
static void test_table__no_memory_is_told(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	struct haul_err err;
	struct table *table;
	struct table_builder *builder;
	struct table_walk walk;
	int error = -ENOMEM;
	test_prng(&prng);
	table_lab_small(f, true, &prng);
	for (uint32_t after = 0; error && test_malloc_fail(after); after++) {
		assert_int_equal(error, -ENOMEM);
		error = table_open(&table, &f->lab.media, f->cache, &f->tables.info[0], &err);
		if (!error)
			table_drop(table);
	}
	error = -ENOMEM;
	for (uint32_t after = 0; error && test_malloc_fail(after); after++) {
		assert_int_equal(error, -ENOMEM);
		error = table_builder_new(&builder, 65536);
		if (!error)
			table_builder_free(builder);
	}
	error = -ENOMEM;
	for (uint32_t after = 0; error && test_malloc_fail(after); after++) {
		assert_int_equal(error, -ENOMEM);
		error = table_walk_open(&walk, f->table[0], NULL, 4, true);
		if (!error)
			table_walk_close(&walk);
	}
	error = -ENOMEM;
	for (uint32_t after = 0; error && test_malloc_fail(after); after++) {
		assert_int_equal(error, -ENOMEM);
		error = table_check(&f->lab.media, &f->tables.info[0], no_finding, NULL);
	}
	test_malloc_fail(UINT32_MAX);
	table_lab_drop(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_table__gives_what_was_put, table_lab_setup,
						table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__versions_of_a_key_stay_together,
						table_lab_setup, table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__filter_keeps_most_strangers_out,
						table_lab_setup, table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__doomed_goes_with_its_last_holder,
						table_lab_setup, table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__builder_tells_its_limits,
						table_lab_setup, table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__full_arena_is_told, table_lab_setup,
						table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__no_memory_is_told, table_lab_setup,
						table_lab_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
