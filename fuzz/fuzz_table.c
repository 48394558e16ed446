/* fuzz/fuzz_table.c — any bytes as the blob of a table.
 *
 * Promise: a table that opens is walked, asked and checked without leaving its memory; one in which
 * table_check finds nothing is told whole by both walks, in order, and every row of it is found.
 * The first byte is not of the blob: bit 0 puts checksums right first. Then comes the footer, then
 * the blob from its start; between that and the footer, which ends the blob, are zeros. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <haul/err.h>
#include "store/blob_lab.h"
#include "store/table_state.h"

enum { REPAIR = 1, BLOB = 1, BYTES_MAX = 256 << 10, ASKS = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair_blocks(uint8_t *blob, struct table_entry *entry, uint32_t blocks, uint64_t tail)
{
	for (uint32_t i = 0; i < blocks; i++) {
		if (entry[i].offset % TABLE_STEP || entry[i].offset > tail ||
		    entry[i].bytes > tail - entry[i].offset || entry[i].bytes < TABLE_HEAD)
			continue;
		struct table_block *block = (struct table_block *)(void *)(blob + entry[i].offset);
		block->bytes = entry[i].bytes;
		block->check = table_block_check(block);
		entry[i].check = block->check;
	}
}

static void repair(uint8_t *blob, uint64_t bytes)
{
	struct table_footer *footer =
		(struct table_footer *)(void *)(blob + bytes - sizeof(struct table_footer));
	footer->magic = TABLE_MAGIC;
	footer->bytes = bytes;
	if (footer->tail > bytes - sizeof *footer || footer->tail % MEDIA_ALIGN)
		footer->tail = bytes - MEDIA_ALIGN;
	uint64_t room = bytes - sizeof *footer - footer->tail;
	footer->lines = (uint32_t)(footer->lines % (room / TABLE_FILTER_LINE + 1));
	footer->index = footer->tail + (uint64_t)footer->lines * TABLE_FILTER_LINE;
	room = bytes - sizeof *footer - footer->index;
	footer->blocks = (uint32_t)(footer->blocks % (room / sizeof(struct table_entry) + 1));
	repair_blocks(blob, (struct table_entry *)(void *)(blob + footer->index), footer->blocks,
		      footer->tail);
	footer->check =
		XXH3_64bits(blob + footer->tail, bytes - footer->tail - sizeof footer->check);
}

/* As the manifest would name it. */
static struct table_info info_of(const uint8_t *blob, uint64_t bytes)
{
	struct table_footer footer;
	memcpy(&footer, blob + bytes - sizeof footer, sizeof footer);
	return (struct table_info){ .blob = BLOB,
				    .bytes = bytes,
				    .rows = footer.rows,
				    .checksum = footer.check,
				    .op_max = footer.op_max,
				    .first = footer.first,
				    .last = footer.last,
				    .tree = footer.tree,
				    .level = footer.level };
}

static void told(uint64_t offset, const char *what, void *arg)
{
	(void)arg;
	HAUL_ASSERT(what[0] != 0 && offset <= BYTES_MAX);
}

/* Touches all of a piece; returns the last key. */
static struct tree_key piece_read(const struct rows *rows, uint64_t *sum)
{
	struct tree_key key = { 0 };
	for (uint32_t i = 0; i < rows->count; i++) {
		uint32_t from = i ? rows->end[i - 1] : 0;
		memcpy(key.word, rows->key + (size_t)i * rows->words,
		       rows->words * sizeof *rows->key);
		*sum += XXH3_64bits(rows->heap + from, rows->end[i] - from) + rows->op[i] +
			key.word[0];
	}
	return key;
}

static int walk_all(struct table *table, bool bypass, uint64_t *ret_sum)
{
	struct table_walk walk;
	struct rows rows;
	struct tree_key last = { 0 };
	uint64_t count = 0;
	int more = table_walk_open(&walk, table, NULL, 3, bypass);
	HAUL_ASSERT(more == 0);
	*ret_sum = 0;
	while ((more = walk.source.next(&walk.source, &rows)) == 1) {
		last = piece_read(&rows, ret_sum);
		count += rows.count;
	}
	HAUL_ASSERT(more == HAUL_ECORRUPT || count == table->info.rows);
	table_walk_close(&walk);
	/* And from a key of its own, which need not be where it belongs. */
	HAUL_ASSERT(table_walk_open(&walk, table, &last, 3, bypass) == 0);
	while (walk.source.next(&walk.source, &rows) == 1)
		piece_read(&rows, &count);
	table_walk_close(&walk);
	return more;
}

static int ask_order(const void *a, const void *b)
{
	return tree_key_compare(&((const struct table_ask *)a)->key,
				&((const struct table_ask *)b)->key);
}

/* Ask for the first keys of blocks. */
static void ask_some(struct table *table, bool sound)
{
	static uint8_t memory[ASKS * (TREE_VALUE_MAX + 8)];
	const struct table_whole *whole = table_whole(table);
	struct table_ask ask[ASKS], *asks[ASKS];
	struct table *tables[ASKS];
	struct arena arena = { .data = memory, .bytes = sizeof memory };
	uint32_t count = whole->blocks < ASKS ? whole->blocks : ASKS;
	for (uint32_t i = 0; i < count; i++)
		ask[i] = (struct table_ask){ .key = whole->entry[i].first, .op_max = UINT64_MAX };
	qsort(ask, count, sizeof *ask, ask_order);
	for (uint32_t i = 0; i < count; i++) {
		asks[i] = &ask[i];
		tables[i] = table;
	}
	table_get(tables, asks, count, &arena);
	for (uint32_t i = 0; i < count; i++)
		HAUL_ASSERT(!sound || (ask[i].status == 0 && ask[i].row.op != 0));
}

static void read_table(struct media *media, const struct table_info *info)
{
	struct table_cache *cache;
	struct table *table;
	struct haul_err err = { 0 };
	int findings = table_check(media, info, told, NULL);
	HAUL_ASSERT(table_cache_new(&cache, TABLE_CACHE_BYTES_MIN) == 0);
	int error = table_open(&table, media, cache, info, &err);
	HAUL_ASSERT(error == 0 || (findings > 0 && err.text[0] != 0));
	if (error == 0) {
		uint64_t sum[2];
		int more[2] = { walk_all(table, false, &sum[0]), walk_all(table, true, &sum[1]) };
		HAUL_ASSERT(more[0] == more[1] && (more[0] != 0 || sum[0] == sum[1]));
		HAUL_ASSERT(findings > 0 || more[0] == 0);
		ask_some(table, findings == 0);
		table_drop(table);
	}
	table_cache_free(cache);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct blob_lab lab;
	enum { HEAD = 1 + sizeof(struct table_footer) };
	if (size < HEAD || size > BYTES_MAX - MEDIA_ALIGN)
		return 0;
	uint64_t bytes = table_round(size - 1, MEDIA_ALIGN);
	blob_lab_open(&lab);
	uint8_t *blob = aligned_alloc(MEDIA_ALIGN, bytes);
	HAUL_ASSERT(blob);
	memset(blob, 0, bytes);
	memcpy(blob, data + HEAD, size - HEAD);
	memcpy(blob + bytes - sizeof(struct table_footer), data + 1, sizeof(struct table_footer));
	if (data[0] & REPAIR)
		repair(blob, bytes);
	HAUL_ASSERT(lab.media.calls->blob_put(&lab.media, BLOB, blob, bytes) == 0);
	struct table_info info = info_of(blob, bytes);
	read_table(&lab.media, &info);
	free(blob);
	blob_lab_close(&lab);
	return 0;
}
