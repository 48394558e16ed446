#include "table_lab.h"

#include <stdlib.h>
#include <string.h>

#include <haul/err.h>

enum { PIECE = 200 };

int table_lab_setup(void **state)
{
	struct table_lab *f = calloc(1, sizeof *f);
	assert_non_null(f);
	blob_lab_open(&f->lab);
	f->tables.lab = &f->lab;
	f->tables.next = 1;
	assert_int_equal(table_cache_new(&f->cache, 4 << 20), 0);
	assert_int_equal(table_builder_new(&f->builder, 1 << 20), 0);
	*state = f;
	return 0;
}

void table_lab_drop(struct table_lab *f)
{
	for (uint32_t i = 0; i < f->tables.count; i++) {
		table_drop(f->table[i]);
		f->table[i] = NULL;
	}
	f->tables.count = 0;
}

int table_lab_teardown(void **state)
{
	struct table_lab *f = *state;
	table_lab_drop(f);
	table_cache_free(f->cache);
	table_builder_free(f->builder);
	blob_lab_close(&f->lab);
	free(f);
	return 0;
}

static const uint64_t *model_key(const struct table_model *model, uint32_t row)
{
	return model->key + (size_t)row * model->words;
}

struct tree_key table_lab_key(const struct rows *rows, uint32_t row)
{
	struct tree_key key = { 0 };
	memcpy(key.word, rows->key + (size_t)row * rows->words, rows->words * sizeof *rows->key);
	return key;
}

struct rows table_model_rows(const struct table_model *model)
{
	return (struct rows){ .count = model->count,
			      .words = model->words,
			      .key = model->key,
			      .op = model->op,
			      .end = model->end,
			      .heap = model->heap };
}

void table_model_start(struct table_model *model, enum tree tree)
{
	model->count = 0;
	model->words = tree_words[tree];
}

void table_model_add(struct table_model *model, const uint64_t *key, uint64_t op, uint32_t bytes,
		     struct prng *prng)
{
	uint32_t from = model->count ? model->end[model->count - 1] : 0;
	assert_true(model->count < TABLE_LAB_ROWS && from + bytes <= TABLE_LAB_HEAP);
	memcpy(model->key + (size_t)model->count * model->words, key, model->words * sizeof *key);
	model->op[model->count] = op;
	model->end[model->count++] = from + bytes;
	uint8_t noise = (uint8_t)prng_below(prng, 4);
	for (uint32_t i = 0; i < bytes; i++)
		model->heap[from + i] = (uint8_t)(noise ? i * noise : prng_next(prng));
}

void table_model_make(struct table_model *model, enum tree tree, uint32_t rows, struct prng *prng)
{
	uint64_t key[TREE_WORDS_MAX] = { prng_below(prng, 1000), 0, 0 };
	table_model_start(model, tree);
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
			table_model_add(model, key, op | deleted, deleted ? 0 : bytes, prng);
		}
		uint32_t word = prng_below(prng, 20) == 0 ? 0 : model->words - 1;
		key[word] +=
			1 + (prng_below(prng, 30) ? prng_below(prng, 3) : prng_next(prng) >> 12);
		for (uint32_t w = word + 1; w < model->words; w++)
			key[w] = prng_below(prng, 3);
	}
}

void table_lab_build(struct table_lab *f, const struct table_builder_options *options,
		     struct prng *prng)
{
	struct rows rows = table_model_rows(&f->model);
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

void table_lab_same_row(const struct table_model *model, uint32_t row, const struct rows *rows,
			uint32_t at)
{
	uint32_t from = row ? model->end[row - 1] : 0, bytes = model->end[row] - from;
	uint32_t start = at ? rows->end[at - 1] : 0;
	assert_memory_equal(model_key(model, row), rows->key + (size_t)at * rows->words,
			    model->words * sizeof(uint64_t));
	assert_int_equal(model->op[row], rows->op[at]);
	assert_int_equal(rows->end[at] - start, bytes);
	assert_memory_equal(model->heap + from, rows->heap + start, bytes);
}

void table_lab_small(struct table_lab *f, bool compress, struct prng *prng)
{
	struct table_builder_options options;
	blob_lab_options(&f->tables, TREE_OUT, &options);
	options.table_bytes = 1 << 20;
	options.block_bytes = 1024;
	options.compress = compress;
	table_model_make(&f->model, TREE_OUT, 60, prng);
	table_lab_build(f, &options, prng);
	assert_int_equal(f->tables.count, 1);
}
