#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <haul/err.h>
#include "lib/testlib.h"
#include "store/blob_lab.h"
#include "store/table_state.h"

enum { ROWS_MAX = 6000, HEAP = 4 << 20, PIECE = 200 };

/* Rows in order, in columns: what goes into tables, and what has to come out. */
struct model {
	uint32_t count, words;
	uint64_t key[ROWS_MAX * TREE_WORDS_MAX];
	uint64_t op[ROWS_MAX];
	uint32_t end[ROWS_MAX];
	uint8_t heap[HEAP];
};

struct fixture {
	struct blob_lab lab;
	struct blob_lab_tables tables;
	struct table_cache *cache;
	struct table_builder *builder;
	struct model model;
	struct table *table[256];
	uint8_t arena[HEAP];
};

static int open_all(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	assert_non_null(f);
	blob_lab_open(&f->lab);
	f->tables.lab = &f->lab;
	f->tables.next = 1;
	assert_int_equal(table_cache_new(&f->cache, 4 << 20), 0);
	assert_int_equal(table_builder_new(&f->builder, 1 << 20), 0);
	*state = f;
	return 0;
}

static void drop_tables(struct fixture *f)
{
	for (uint32_t i = 0; i < f->tables.count; i++) {
		table_drop(f->table[i]);
		f->table[i] = NULL;
	}
	f->tables.count = 0;
}

static int close_all(void **state)
{
	struct fixture *f = *state;
	drop_tables(f);
	table_cache_free(f->cache);
	table_builder_free(f->builder);
	blob_lab_close(&f->lab);
	free(f);
	return 0;
}

static const uint64_t *model_key(const struct model *model, uint32_t row)
{
	return model->key + (size_t)row * model->words;
}

static struct tree_key key_of(const struct rows *rows, uint32_t row)
{
	struct tree_key key = { 0 };
	memcpy(key.word, rows->key + (size_t)row * rows->words, rows->words * sizeof *rows->key);
	return key;
}

static struct rows model_rows(const struct model *model)
{
	return (struct rows){ .count = model->count,
			      .words = model->words,
			      .key = model->key,
			      .op = model->op,
			      .end = model->end,
			      .heap = model->heap };
}

static void model_start(struct model *model, enum tree tree)
{
	model->count = 0;
	model->words = tree_words[tree];
}

static void model_add(struct model *model, const uint64_t *key, uint64_t op, uint32_t bytes,
		      struct prng *prng)
{
	uint32_t from = model->count ? model->end[model->count - 1] : 0;
	assert_true(model->count < ROWS_MAX && from + bytes <= HEAP);
	memcpy(model->key + (size_t)model->count * model->words, key, model->words * sizeof *key);
	model->op[model->count] = op;
	model->end[model->count++] = from + bytes;
	uint8_t noise = (uint8_t)prng_below(prng, 4);
	for (uint32_t i = 0; i < bytes; i++)
		model->heap[from + i] = (uint8_t)(noise ? i * noise : prng_next(prng));
}

/* Keys that rise by small and by large steps, first words that last for a while, versions. */
static void model_make(struct model *model, enum tree tree, uint32_t rows, struct prng *prng)
{
	uint64_t key[TREE_WORDS_MAX] = { prng_below(prng, 1000), 0, 0 };
	model_start(model, tree);
	while (model->count < rows) {
		uint32_t versions = prng_below(prng, 10) ? 1 : 1 + prng_below(prng, 20);
		uint64_t op = 1000000;
		for (uint32_t v = 0; v < versions && model->count < rows; v++) {
			uint32_t kind = prng_below(prng, 200);
			uint32_t bytes = kind == 0   ? prng_below(prng, 20000)
					 : kind < 50 ? 0
						     : prng_below(prng, 200);
			uint64_t deleted = prng_below(prng, 8) == 0 ? TREE_DELETED : 0;
			op -= 1 + prng_below(prng, 1000);
			model_add(model, key, op | deleted, deleted ? 0 : bytes, prng);
		}
		uint32_t word = prng_below(prng, 20) == 0 ? 0 : model->words - 1;
		key[word] +=
			1 + (prng_below(prng, 30) ? prng_below(prng, 3) : prng_next(prng) >> 12);
		for (uint32_t w = word + 1; w < model->words; w++)
			key[w] = prng_below(prng, 3);
	}
}

/* Build tables of the model, and open them. */
static void build(struct fixture *f, const struct table_builder_options *options, struct prng *prng)
{
	struct rows rows = model_rows(&f->model);
	uint32_t at = 0;
	struct haul_err err = { 0 };
	assert_int_equal(table_builder_start(f->builder, options), 0);
	while (at < rows.count) {
		uint32_t to = at + 1 + prng_below(prng, PIECE);
		to = to < rows.count ? to : rows.count;
		assert_int_equal(table_builder_add(f->builder, &rows, at, to), 0);
		at = to;
	}
	assert_int_equal(table_builder_finish(f->builder), 0);
	for (uint32_t i = 0; i < f->tables.count; i++) {
		int error =
			table_open(&f->table[i], &f->lab.media, f->cache, &f->tables.info[i], &err);
		if (error)
			print_message("%s\n", err.text);
		assert_int_equal(error, 0);
	}
}

static void no_finding(uint64_t offset, const char *what, void *arg)
{
	(void)arg;
	print_message("at %llu: %s\n", (unsigned long long)offset, what);
	fail();
}

static void same_row(const struct model *model, uint32_t row, const struct rows *rows, uint32_t at)
{
	uint32_t from = row ? model->end[row - 1] : 0, bytes = model->end[row] - from;
	uint32_t start = at ? rows->end[at - 1] : 0;
	assert_memory_equal(model_key(model, row), rows->key + (size_t)at * rows->words,
			    model->words * sizeof(uint64_t));
	assert_int_equal(model->op[row], rows->op[at]);
	assert_int_equal(rows->end[at] - start, bytes);
	assert_memory_equal(model->heap + from, rows->heap + start, bytes);
}

/* Walk tables from `first` on: row after row of the model from `row` on. */
static void walk_same(struct fixture *f, const struct tree_key *from, uint32_t row, uint32_t ahead,
		      bool bypass)
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
				same_row(&f->model, row++, &rows, i);
		}
		assert_int_equal(more, 0);
		table_walk_close(&walk);
	}
	assert_int_equal(row, f->model.count);
}

static void walks_same(struct fixture *f, struct prng *prng)
{
	struct rows rows = model_rows(&f->model);
	walk_same(f, NULL, 0, 1, false);
	walk_same(f, NULL, 0, 7, true);
	for (int i = 0; i < 40; i++) {
		uint32_t row = prng_below(prng, rows.count);
		struct tree_key key = key_of(&rows, row);
		if (prng_below(prng, 2))
			key.word[rows.words - 1] += prng_below(prng, 3);
		row = 0;
		struct tree_key at = key_of(&rows, row);
		while (row < rows.count && tree_key_compare(&at, &key) < 0) {
			row++;
			if (row < rows.count)
				at = key_of(&rows, row);
		}
		walk_same(f, &key, row, 1 + prng_below(prng, 20), prng_below(prng, 2));
	}
}

static uint32_t model_find(const struct model *model, const struct tree_key *key, uint64_t op_max)
{
	struct rows rows = model_rows(model);
	uint32_t low = 0, high = rows.count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		struct tree_key at = key_of(&rows, middle);
		if (tree_key_compare(&at, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < rows.count; low++) {
		struct tree_key at = key_of(&rows, low);
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

static void ask_same(const struct model *model, const struct table_ask *ask, bool values)
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

static void gets_same(struct fixture *f, struct prng *prng, bool values)
{
	static struct table_ask asks[ASKS];
	struct table_ask *those[ASKS];
	struct table *tables[ASKS];
	uint32_t count = 0;
	struct rows rows = model_rows(&f->model);
	for (uint32_t i = 0; i < ASKS; i++) {
		uint32_t row = prng_below(prng, rows.count);
		asks[i] = (struct table_ask){ .key = key_of(&rows, row), .op_max = UINT64_MAX };
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

static void filters_pass(const struct fixture *f)
{
	struct rows rows = model_rows(&f->model);
	uint32_t table = 0;
	for (uint32_t i = 0; i < rows.count; i++) {
		struct tree_key key = key_of(&rows, i);
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
	struct fixture *f = *state;
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
		model_make(&f->model, tree, 1 + prng_below(&prng, round % 3 ? ROWS_MAX - 1 : 300),
			   &prng);
		build(f, &options, &prng);
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
		drop_tables(f);
	}
	struct table_cache_status status;
	table_cache_status(f->cache, &status);
	assert_int_equal(status.pinned, 0);
}

/* One key, many versions: they would be torn into two tables, or found only in their first block.
 */
static void test_table__versions_of_a_key_stay_together(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	struct table_builder_options options;
	test_prng(&prng);
	blob_lab_options(&f->tables, TREE_NODE, &options);
	options.table_bytes = 65536;
	options.block_bytes = 4096;
	model_start(&f->model, TREE_NODE);
	for (uint64_t key = 0; key < 6; key++) {
		for (uint64_t op = key % 2 ? 900 : 3; op > 0; op--)
			model_add(&f->model, &key, op, 400, &prng);
	}
	build(f, &options, &prng);
	assert_true(f->tables.count > 1);
	for (uint32_t t = 1; t < f->tables.count; t++)
		assert_true(f->tables.info[t - 1].last.word[0] < f->tables.info[t].first.word[0]);
	for (int i = 0; i < 10; i++)
		gets_same(f, &prng, true);
	walks_same(f, &prng);
	drop_tables(f);
}

/* A filter that passes nearly everything would cost a read for each key that is not there. */
static void test_table__filter_keeps_most_strangers_out(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	struct table_builder_options options;
	test_prng(&prng);
	blob_lab_options(&f->tables, TREE_NODE, &options);
	options.table_bytes = 1 << 20;
	model_start(&f->model, TREE_NODE);
	for (uint64_t key = 0; key < ROWS_MAX; key++)
		model_add(&f->model, &key, 1, 8, &prng);
	build(f, &options, &prng);
	uint32_t passed = 0;
	for (uint64_t i = 0; i < 100000; i++) {
		struct tree_key key = { { ROWS_MAX + i, 0, 0 } };
		passed += table_filter_pass(f->table[0], table_hash(&key, 1));
	}
	assert_true(passed < 400); /* 0.1 % is usual */
	drop_tables(f);
}

/* What is read of a table that is not what was written: nothing wrong may be told as a row. */
static bool reads_right(struct fixture *f, const struct table_info *info)
{
	struct table *table;
	struct haul_err err = { 0 };
	struct table_cache *cache;
	assert_int_equal(table_cache_new(&cache, 1 << 20), 0);
	int error = table_open(&table, &f->lab.media, cache, info, &err);
	if (error) {
		assert_int_equal(error, HAUL_ECORRUPT);
		assert_true(strlen(err.text) > 0);
		table_cache_free(cache);
		return false;
	}
	struct table_walk walk;
	struct rows rows;
	int more;
	uint32_t row = 0;
	assert_int_equal(table_walk_open(&walk, table, NULL, 4, info->checksum % 2), 0);
	while ((more = walk.source.next(&walk.source, &rows)) == 1) {
		for (uint32_t i = 0; i < rows.count; i++)
			same_row(&f->model, row++, &rows, i);
	}
	table_walk_close(&walk);
	table_drop(table);
	table_cache_free(cache);
	if (more < 0)
		assert_int_equal(more, HAUL_ECORRUPT);
	else
		assert_int_equal(row, f->model.count);
	return more == 0;
}

static void count_finding(uint64_t offset, const char *what, void *arg)
{
	uint32_t *count = arg;
	assert_true(what[0] != 0);
	(void)offset;
	(*count)++;
}

static void small_table(struct fixture *f, bool compress, struct prng *prng)
{
	struct table_builder_options options;
	blob_lab_options(&f->tables, TREE_OUT, &options);
	options.table_bytes = 1 << 20;
	options.block_bytes = 1024;
	options.compress = compress;
	model_make(&f->model, TREE_OUT, 60, prng);
	build(f, &options, prng);
	assert_int_equal(f->tables.count, 1);
}

/* A byte that the disk changed, anywhere in a table, would go unnoticed by check, or be told as a
 * row. */
static void test_table__every_changed_byte_is_found(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	test_prng(&prng);
	for (int compress = 0; compress < 2; compress++) {
		small_table(f, compress, &prng);
		struct table_info info = f->tables.info[0];
		struct blob_lab_blob *blob = &f->lab.blob[info.blob];
		uint32_t noticed = 0;
		for (size_t at = 0; at < blob->bytes; at++) {
			uint32_t findings = 0;
			uint8_t flip = (uint8_t)(1U << prng_below(&prng, 8));
			blob->data[at] ^= flip;
			assert_true(table_check(&f->lab.media, &info, count_finding, &findings) >
				    0);
			assert_true(findings > 0);
			if (at % 7 == 0)
				noticed += !reads_right(f, &info);
			blob->data[at] ^= flip;
		}
		assert_true(noticed > 0);
		assert_true(reads_right(f, &info));
		drop_tables(f);
	}
}

/* A read that the disk carried out elsewhere would be taken for the block that was asked for. */
static void test_table__misdirected_reads_are_found(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	struct table_builder_options options;
	test_prng(&prng);
	blob_lab_options(&f->tables, TREE_NODE, &options);
	options.table_bytes = 1 << 20;
	options.block_bytes = 4096;
	model_start(&f->model, TREE_NODE);
	for (uint64_t key = 0; key < 2000; key++)
		model_add(&f->model, &key, 1, 100, &prng);
	build(f, &options, &prng);
	struct table_ask ask = { .key = { { 1500, 0, 0 } }, .op_max = UINT64_MAX }, *asks = &ask;
	f->lab.astray_after = 1;
	table_get(&f->table[0], &asks, 1, NULL);
	assert_int_equal(ask.status, HAUL_ECORRUPT);
	assert_int_equal(ask.row.op, 0);
	ask.status = 0;
	table_get(&f->table[0], &asks, 1, NULL);
	assert_int_equal(ask.status, 0);
	assert_int_equal(ask.row.op, 1);
	drop_tables(f);
}

/* A disk error would be told as "there is none", or stay in the cache. */
static void test_table__read_errors_are_told(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	struct table_walk walk;
	struct rows rows;
	test_prng(&prng);
	small_table(f, false, &prng);
	struct rows all = model_rows(&f->model);
	struct table_ask ask = { .key = key_of(&all, 30), .op_max = UINT64_MAX }, *asks = &ask;
	f->lab.fail_after = 1;
	table_get(&f->table[0], &asks, 1, NULL);
	assert_int_equal(ask.status, -EIO);
	ask.status = 0;
	table_get(&f->table[0], &asks, 1, NULL);
	assert_int_equal(ask.status, 0);
	assert_int_not_equal(ask.row.op, 0);
	for (int bypass = 0; bypass < 2; bypass++) {
		assert_int_equal(table_walk_open(&walk, f->table[0], NULL, 2, bypass), 0);
		f->lab.fail_after = 1;
		assert_int_equal(walk.source.next(&walk.source, &rows), bypass ? -EIO : -EIO);
		f->lab.fail_after = 0;
		table_walk_close(&walk);
	}
	struct table *table;
	struct haul_err err;
	for (uint64_t after = 1; after <= 2; after++) {
		f->lab.fail_after = after;
		assert_int_equal(
			table_open(&table, &f->lab.media, f->cache, &f->tables.info[0], &err),
			-EIO);
	}
	drop_tables(f);
}

/* A blob of another table, or an earlier use of the number, would be taken for the one named. */
static void test_table__takes_only_the_table_that_is_named(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	struct haul_err err;
	struct table *table;
	test_prng(&prng);
	small_table(f, false, &prng);
	struct table_info first = f->tables.info[0];
	uint8_t *before = f->lab.blob[first.blob].data;
	f->lab.blob[first.blob].data = NULL;
	drop_tables(f);
	f->tables.next = first.blob; /* as after a crash before the manifest was written */
	small_table(f, false, &prng);
	struct table_info second = f->tables.info[0];
	assert_int_equal(second.blob, first.blob);
	assert_int_equal(table_open(&table, &f->lab.media, f->cache, &first, &err), HAUL_ECORRUPT);
	/* Its first block as it was before: good by itself. */
	memcpy(f->lab.blob[first.blob].data, before, 1024);
	free(before);
	struct table_ask ask = { .key = second.first, .op_max = UINT64_MAX }, *asks = &ask;
	table_get(&f->table[0], &asks, 1, NULL);
	assert_int_equal(ask.status, HAUL_ECORRUPT);
	struct table_info info = second;
	info.tree = TREE_IN;
	assert_int_equal(table_open(&table, &f->lab.media, f->cache, &info, &err), HAUL_ECORRUPT);
	info = second;
	info.blob++;
	assert_int_equal(table_open(&table, &f->lab.media, f->cache, &info, &err), -ENOENT);
	info = second;
	info.bytes -= MEDIA_ALIGN;
	assert_int_equal(table_open(&table, &f->lab.media, f->cache, &info, &err), HAUL_ECORRUPT);
	info.bytes = 5;
	assert_int_equal(table_open(&table, &f->lab.media, f->cache, &info, &err), HAUL_ECORRUPT);
	drop_tables(f);
}

/* A table of a newer program would be called broken. */
static void test_table__newer_version_is_told(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	struct haul_err err;
	struct table *table;
	test_prng(&prng);
	small_table(f, false, &prng);
	struct table_info info = f->tables.info[0];
	struct blob_lab_blob *blob = &f->lab.blob[info.blob];
	struct table_footer footer;
	memcpy(&footer, blob->data + blob->bytes - sizeof footer, sizeof footer);
	footer.version++;
	memcpy(blob->data + blob->bytes - sizeof footer, &footer, sizeof footer);
	info.checksum = XXH3_64bits(blob->data + footer.tail,
				    blob->bytes - footer.tail - sizeof footer.check);
	memcpy(blob->data + blob->bytes - sizeof footer.check, &info.checksum,
	       sizeof info.checksum);
	assert_int_equal(table_open(&table, &f->lab.media, f->cache, &info, &err), HAUL_EVERSION);
	drop_tables(f);
}

/* A table would be deleted under the feet of who reads it, or never. */
static void test_table__doomed_goes_with_its_last_holder(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	test_prng(&prng);
	small_table(f, true, &prng);
	struct table *table = table_hold(f->table[0]);
	assert_true(table_memory(table) > sizeof(struct table));
	table->doomed = true;
	table_drop(f->table[0]);
	f->table[0] = table;
	walk_same(f, NULL, 0, 1, false);
	assert_int_equal(f->lab.deleted, 0);
	drop_tables(f);
	assert_int_equal(f->lab.deleted, 1);
	table_drop(NULL);
}

/* What the builder cannot do would be told as done. */
static void test_table__builder_tells_its_limits(void **state)
{
	struct fixture *f = *state;
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
	model_start(&f->model, TREE_NODE);
	for (uint64_t op = 60, key = 1; op > 0; op--)
		model_add(&f->model, &key, op, TREE_VALUE_MAX, &prng);
	assert_int_equal(table_builder_start(f->builder, &options), 0);
	struct rows rows = model_rows(&f->model);
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
	struct fixture *f = *state;
	struct prng prng;
	struct table_builder_options options;
	struct table_ask ask[5], *asks[5];
	struct table *tables[5];
	test_prng(&prng);
	blob_lab_options(&f->tables, TREE_NODE, &options);
	options.table_bytes = 1 << 20;
	model_start(&f->model, TREE_NODE);
	for (uint64_t key = 0; key < 5; key++)
		model_add(&f->model, &key, 1, 100, &prng);
	build(f, &options, &prng);
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
	drop_tables(f);
}

/* ---- tables that verify and are wrong all the same ---- */

struct forged {
	struct blob_lab_blob *blob;
	struct table_footer *footer;
	struct table_entry *entry;
	struct table_info info;
};

static struct forged forge(struct fixture *f)
{
	struct forged forged = { .info = f->tables.info[0] };
	forged.blob = &f->lab.blob[forged.info.blob];
	uint8_t *data = forged.blob->data;
	forged.footer = (struct table_footer *)(void *)(data + forged.blob->bytes -
							sizeof(struct table_footer));
	forged.entry = (struct table_entry *)(void *)(data + forged.footer->index);
	return forged;
}

static struct rows forged_rows(const struct forged *forged, uint32_t block)
{
	const uint8_t *data = forged->blob->data + forged->entry[block].offset;
	return table_rows((const struct table_block *)(const void *)data);
}

static uint64_t *forged_key(const struct rows *rows, uint32_t row)
{
	return (uint64_t *)(uintptr_t)(rows->key + (size_t)row * rows->words);
}

static uint64_t *forged_op(const struct rows *rows, uint32_t row)
{
	return (uint64_t *)(uintptr_t)(rows->op + row);
}

/* Put all checksums right. */
static void reseal(struct forged *forged)
{
	uint8_t *data = forged->blob->data;
	struct table_footer *footer = forged->footer;
	for (uint32_t i = 0; i < footer->blocks; i++) {
		struct table_block *block =
			(struct table_block *)(void *)(data + forged->entry[i].offset);
		block->check = table_block_check(block);
		forged->entry[i].check = block->check;
	}
	footer->check = XXH3_64bits(data + footer->tail,
				    footer->bytes - footer->tail - sizeof footer->check);
	forged->info.checksum = footer->check;
	forged->info.op_max = footer->op_max;
	forged->info.last = footer->last;
	forged->info.bytes = footer->bytes;
}

/* Move the blocks from `block` on, and the tail. */
static struct forged forge_gap(struct fixture *f, uint32_t block, uint64_t gap)
{
	struct forged forged = forge(f);
	uint64_t from = forged.entry[block].offset, bytes = forged.blob->bytes + gap;
	uint8_t *data = calloc(1, bytes);
	assert_non_null(data);
	memcpy(data, forged.blob->data, from);
	memcpy(data + from + gap, forged.blob->data + from, forged.blob->bytes - from);
	free(forged.blob->data);
	*forged.blob = (struct blob_lab_blob){ .data = data, .bytes = bytes };
	struct table_footer *footer =
		(struct table_footer *)(void *)(data + bytes - sizeof *footer);
	footer->tail += gap;
	footer->index += gap;
	footer->bytes += gap;
	forged = forge(f);
	for (uint32_t i = block; i < footer->blocks; i++)
		forged.entry[i].offset += gap;
	return forged;
}

static void keep_text(uint64_t offset, const char *what, void *arg)
{
	(void)offset;
	const char **text = arg;
	*text = what;
}

static void found(struct fixture *f, struct forged *forged, const char *expected)
{
	const char *text = "nothing";
	reseal(forged);
	assert_true(table_check(&f->lab.media, &forged->info, keep_text, &text) > 0);
	assert_string_equal(text, expected);
	drop_tables(f);
}

static struct forged forge_new(struct fixture *f, struct prng *prng)
{
	struct table_builder_options options;
	blob_lab_options(&f->tables, TREE_OUT, &options);
	options.table_bytes = 1 << 20;
	options.block_bytes = 1024;
	model_start(&f->model, TREE_OUT);
	for (uint64_t i = 0; i < 60; i++)
		model_add(&f->model, (uint64_t[]){ 1, i / 10, i }, 7 + i % 3, 30, prng);
	build(f, &options, prng);
	return forge(f);
}

/* Rows out of order, a filter that denies them, a footer that lies: a bug, or a forger, made a
 * table that verifies. */
static void test_table__check_finds_what_checksums_do_not(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	test_prng(&prng);
	struct forged forged = forge_new(f, &prng);
	struct rows rows = forged_rows(&forged, 1);
	memcpy(forged_key(&rows, 1), forged_key(&rows, 0), sizeof(uint64_t) * rows.words);
	memcpy(forged_op(&rows, 1), forged_op(&rows, 0), sizeof(uint64_t));
	found(f, &forged, "a row is not behind the one before it");

	forged = forge_new(f, &prng);
	rows = forged_rows(&forged, 0);
	*forged_op(&rows, 2) = 2000000;
	found(f, &forged, "a row is newer than the footer says");

	forged = forge_new(f, &prng);
	memset(f->lab.blob[forged.info.blob].data + forged.footer->tail, 0, TABLE_FILTER_LINE * 2);
	found(f, &forged, "the filter denies a row that is there");

	forged = forge_new(f, &prng);
	forged.footer->last = forged.entry[0].first;
	found(f, &forged, "a row is outside of the keys that the footer names");

	forged = forge_new(f, &prng);
	forged.footer->last.word[2]++;
	found(f, &forged, "the footer says another last key or op");

	forged = forge_new(f, &prng);
	forged.entry[1].flags ^= TABLE_CONTINUES;
	found(f, &forged, "the index says another first key");

	forge_new(f, &prng);
	forged = forge_gap(f, 0, MEDIA_ALIGN);
	found(f, &forged, "the first block is not at the start");

	forge_new(f, &prng);
	forged = forge_gap(f, 1, 32 * (uint64_t)MEDIA_ALIGN);
	found(f, &forged, "blocks are too far apart");

	forged = forge_new(f, &prng);
	forged.blob->data = realloc(forged.blob->data, forged.blob->bytes + 1);
	assert_non_null(forged.blob->data);
	forged.blob->bytes++;
	const char *text = NULL;
	assert_int_equal(table_check(&f->lab.media, &forged.info, keep_text, &text), 1);
	assert_string_equal(text, "the blob is longer or shorter than its table");
	f->lab.fail_after = 3;
	assert_int_equal(table_check(&f->lab.media, &forged.info, keep_text, &text), 2);
	drop_tables(f);
}

/* A packed block that does not unpack, but verifies: unpacking would leave its memory, or what was
 * there before be told. */
static void test_table__forged_packing_is_found(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	struct table_builder_options options;
	struct table *table;
	struct table_walk walk;
	struct rows rows;
	struct haul_err err;
	test_prng(&prng);
	blob_lab_options(&f->tables, TREE_KIND, &options);
	options.table_bytes = 1 << 20;
	options.compress = true;
	model_start(&f->model, TREE_KIND);
	for (uint64_t i = 0; i < 300; i++)
		model_add(&f->model, (uint64_t[]){ 1, i }, 1, 0, &prng);
	build(f, &options, &prng);
	struct forged forged = forge(f);
	struct table_block *block = (struct table_block *)(void *)forged.blob->data;
	assert_int_equal(block->packing, TABLE_LZ4);
	forged.blob->data[TABLE_HEAD] ^= 0xf0;
	reseal(&forged);
	assert_int_equal(table_open(&table, &f->lab.media, f->cache, &forged.info, &err), 0);
	for (int bypass = 0; bypass < 2; bypass++) {
		assert_int_equal(table_walk_open(&walk, table, NULL, 1, bypass), 0);
		assert_int_equal(walk.source.next(&walk.source, &rows), HAUL_ECORRUPT);
		table_walk_close(&walk);
	}
	table_drop(table);
	drop_tables(f);
}

/* A blob that became shorter while its table was open: what was in memory before would be told. */
static void test_table__short_blob_is_found(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	struct table_walk walk;
	struct rows rows;
	test_prng(&prng);
	small_table(f, false, &prng);
	f->lab.blob[f->tables.info[0].blob].bytes = 512;
	for (int bypass = 0; bypass < 2; bypass++) {
		assert_int_equal(table_walk_open(&walk, f->table[0], NULL, 2, bypass), 0);
		assert_int_equal(walk.source.next(&walk.source, &rows), HAUL_ECORRUPT);
		table_walk_close(&walk);
	}
	drop_tables(f);
	table_builder_free(NULL);
}

/* Memory that there is not would be used, or what was taken before would be lost. */
static void test_table__no_memory_is_told(void **state)
{
	struct fixture *f = *state;
	struct prng prng;
	struct haul_err err;
	struct table *table;
	struct table_builder *builder;
	struct table_walk walk;
	int error = -ENOMEM;
	test_prng(&prng);
	small_table(f, true, &prng);
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
	drop_tables(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_table__gives_what_was_put, open_all,
						close_all),
		cmocka_unit_test_setup_teardown(test_table__versions_of_a_key_stay_together,
						open_all, close_all),
		cmocka_unit_test_setup_teardown(test_table__filter_keeps_most_strangers_out,
						open_all, close_all),
		cmocka_unit_test_setup_teardown(test_table__every_changed_byte_is_found, open_all,
						close_all),
		cmocka_unit_test_setup_teardown(test_table__misdirected_reads_are_found, open_all,
						close_all),
		cmocka_unit_test_setup_teardown(test_table__read_errors_are_told, open_all,
						close_all),
		cmocka_unit_test_setup_teardown(test_table__takes_only_the_table_that_is_named,
						open_all, close_all),
		cmocka_unit_test_setup_teardown(test_table__newer_version_is_told, open_all,
						close_all),
		cmocka_unit_test_setup_teardown(test_table__doomed_goes_with_its_last_holder,
						open_all, close_all),
		cmocka_unit_test_setup_teardown(test_table__builder_tells_its_limits, open_all,
						close_all),
		cmocka_unit_test_setup_teardown(test_table__full_arena_is_told, open_all,
						close_all),
		cmocka_unit_test_setup_teardown(test_table__check_finds_what_checksums_do_not,
						open_all, close_all),
		cmocka_unit_test_setup_teardown(test_table__forged_packing_is_found, open_all,
						close_all),
		cmocka_unit_test_setup_teardown(test_table__short_blob_is_found, open_all,
						close_all),
		cmocka_unit_test_setup_teardown(test_table__no_memory_is_told, open_all, close_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
