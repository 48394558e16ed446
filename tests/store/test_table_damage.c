/* Tables that are not what was written: nothing wrong is told as a row, and check finds it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <haul/err.h>
#include "store/table_lab.h"

/* What is read of a table that is not what was written: nothing wrong may be told as a row. */
static bool reads_right(struct table_lab *f, const struct table_info *info)
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
			table_lab_same_row(&f->model, row++, &rows, i);
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

/* A byte that the disk changed, anywhere in a table, would go unnoticed by check, or be told as a
 * row. */
static void test_table__every_changed_byte_is_found(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	test_prng(&prng);
	for (int compress = 0; compress < 2; compress++) {
		table_lab_small(f, compress, &prng);
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
		table_lab_drop(f);
	}
}

/* A read that the disk carried out elsewhere would be taken for the block that was asked for. */
static void test_table__misdirected_reads_are_found(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	struct table_builder_options options;
	test_prng(&prng);
	blob_lab_options(&f->tables, TREE_NODE, &options);
	options.table_bytes = 1 << 20;
	options.block_bytes = 4096;
	table_model_start(&f->model, TREE_NODE);
	for (uint64_t key = 0; key < 2000; key++)
		table_model_add(&f->model, &key, 1, 100, &prng);
	table_lab_build(f, &options, &prng);
	struct table_ask ask = { .key = { { 1500, 0, 0 } }, .op_max = UINT64_MAX }, *asks = &ask;
	f->lab.astray_after = 1;
	table_get(&f->table[0], &asks, 1, NULL);
	assert_int_equal(ask.status, HAUL_ECORRUPT);
	assert_int_equal(ask.row.op, 0);
	ask.status = 0;
	table_get(&f->table[0], &asks, 1, NULL);
	assert_int_equal(ask.status, 0);
	assert_int_equal(ask.row.op, 1);
	table_lab_drop(f);
}

/* A disk error would be told as "there is none", or stay in the cache. */
static void test_table__read_errors_are_told(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	struct table_walk walk;
	struct rows rows;
	test_prng(&prng);
	table_lab_small(f, false, &prng);
	struct rows all = table_model_rows(&f->model);
	struct table_ask ask = { .key = table_lab_key(&all, 30), .op_max = UINT64_MAX },
			 *asks = &ask;
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
	table_lab_drop(f);
}

/* A blob of another table, or an earlier use of the number, would be taken for the one named. */
static void test_table__takes_only_the_table_that_is_named(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	struct haul_err err;
	struct table *table;
	test_prng(&prng);
	table_lab_small(f, false, &prng);
	struct table_info first = f->tables.info[0];
	uint8_t *before = f->lab.blob[first.blob].data;
	f->lab.blob[first.blob].data = NULL;
	table_lab_drop(f);
	f->tables.next = first.blob; /* as after a crash before the manifest was written */
	table_lab_small(f, false, &prng);
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
	table_lab_drop(f);
}

/* A table of a newer program would be called broken. */
static void test_table__newer_version_is_told(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	struct haul_err err;
	struct table *table;
	test_prng(&prng);
	table_lab_small(f, false, &prng);
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
	table_lab_drop(f);
}

/* ---- tables that verify and are wrong all the same ---- */

struct forged {
	struct blob_lab_blob *blob;
	struct table_footer *footer;
	struct table_entry *entry;
	struct table_info info;
};

static struct forged forge(struct table_lab *f)
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
static struct forged forge_gap(struct table_lab *f, uint32_t block, uint64_t gap)
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

static void found(struct table_lab *f, struct forged *forged, const char *expected)
{
	const char *text = "nothing";
	reseal(forged);
	assert_true(table_check(&f->lab.media, &forged->info, keep_text, &text) > 0);
	assert_string_equal(text, expected);
	table_lab_drop(f);
}

static struct forged forge_new(struct table_lab *f, struct prng *prng)
{
	struct table_builder_options options;
	blob_lab_options(&f->tables, TREE_OUT, &options);
	options.table_bytes = 1 << 20;
	options.block_bytes = 1024;
	table_model_start(&f->model, TREE_OUT);
	for (uint64_t i = 0; i < 60; i++)
		table_model_add(&f->model, (uint64_t[]){ 1, i / 10, i }, 7 + i % 3, 30, prng);
	table_lab_build(f, &options, prng);
	return forge(f);
}

/* Rows out of order, a filter that denies them, a footer that lies: a bug, or a forger, made a
 * table that verifies. */
static void test_table__check_finds_what_checksums_do_not(void **state)
{
	struct table_lab *f = *state;
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
	table_lab_drop(f);
}

/* A packed block that does not unpack, but verifies: unpacking would leave its memory, or what was
 * there before be told. */
static void test_table__forged_packing_is_found(void **state)
{
	struct table_lab *f = *state;
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
	table_model_start(&f->model, TREE_KIND);
	for (uint64_t i = 0; i < 300; i++)
		table_model_add(&f->model, (uint64_t[]){ 1, i }, 1, 0, &prng);
	table_lab_build(f, &options, &prng);
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
	table_lab_drop(f);
}

/* A blob that became shorter while its table was open: what was in memory before would be told. */
static void test_table__short_blob_is_found(void **state)
{
	struct table_lab *f = *state;
	struct prng prng;
	struct table_walk walk;
	struct rows rows;
	test_prng(&prng);
	table_lab_small(f, false, &prng);
	f->lab.blob[f->tables.info[0].blob].bytes = 512;
	for (int bypass = 0; bypass < 2; bypass++) {
		assert_int_equal(table_walk_open(&walk, f->table[0], NULL, 2, bypass), 0);
		assert_int_equal(walk.source.next(&walk.source, &rows), HAUL_ECORRUPT);
		table_walk_close(&walk);
	}
	table_lab_drop(f);
	table_builder_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_table__every_changed_byte_is_found,
						table_lab_setup, table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__misdirected_reads_are_found,
						table_lab_setup, table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__read_errors_are_told, table_lab_setup,
						table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__takes_only_the_table_that_is_named,
						table_lab_setup, table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__newer_version_is_told, table_lab_setup,
						table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__check_finds_what_checksums_do_not,
						table_lab_setup, table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__forged_packing_is_found,
						table_lab_setup, table_lab_teardown),
		cmocka_unit_test_setup_teardown(test_table__short_blob_is_found, table_lab_setup,
						table_lab_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
