/* store/table_lab.h — tables built of a model's rows, on blobs in memory, for their tests.
 *
 * Model      The model is what goes into tables, and what has to come out: rows in order, in
 *            columns. All tables there are were built of it.
 * Threads    one. Errors: asserts. */
#pragma once

#include "lib/testlib.h"
#include "store/blob_lab.h"
#include "store/table_state.h"

enum { TABLE_LAB_ROWS = 6000, TABLE_LAB_HEAP = 4 << 20 };

struct table_model {
	uint32_t count, words;
	uint64_t key[TABLE_LAB_ROWS * TREE_WORDS_MAX];
	uint64_t op[TABLE_LAB_ROWS];
	uint32_t end[TABLE_LAB_ROWS];
	uint8_t heap[TABLE_LAB_HEAP];
};
void table_model_start(struct table_model *model, enum tree tree);
void table_model_add(struct table_model *model, const uint64_t *key, uint64_t op, uint32_t bytes,
		     struct prng *prng);
/* Keys that rise by small and by large steps, first words that last for a while, versions. */
void table_model_make(struct table_model *model, enum tree tree, uint32_t rows, struct prng *prng);
struct rows table_model_rows(const struct table_model *model);

struct table_lab {
	struct blob_lab lab;
	struct blob_lab_tables tables;
	struct table_cache *cache;
	struct table_builder *builder;
	struct table_model model;
	struct table *table[256];
	uint8_t arena[TABLE_LAB_HEAP];
};
/* For cmocka: *state is a lab without tables. */
int table_lab_setup(void **state);
int table_lab_teardown(void **state);
/* Build tables of the model, and open them. */
void table_lab_build(struct table_lab *f, const struct table_builder_options *options,
		     struct prng *prng);
/* One of 60 random rows in small blocks. */
void table_lab_small(struct table_lab *f, bool compress, struct prng *prng);
void table_lab_drop(struct table_lab *f);

struct tree_key table_lab_key(const struct rows *rows, uint32_t row);
/* Row `at` of rows is row `row` of the model. */
void table_lab_same_row(const struct table_model *model, uint32_t row, const struct rows *rows,
			uint32_t at);
