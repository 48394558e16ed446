/* fuzz/fuzz_disk_batch.c — any bytes as a batch: header, values, rows, keys.
 *
 * Promise: a batch that is taken lies within its segment, each of its rows within it, and each key
 * within the table; walk_verify says yes only when a plain reading finds every value's checksum
 * right. The batch lies in memory of exactly its size.
 * The first byte is not of the batch: when odd, checksums are put right first. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "disk/format_sample.h"

enum { REPAIR = 1, AT = FORMAT_BLOCK };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* How many rows are good, one by one; *ret_all: all of them, values too. */
static uint32_t plain_rows(const struct walk *walk, const struct format_batch *batch,
			   const uint8_t *bytes, bool *ret_all)
{
	const uint8_t *table = bytes + batch->table;
	uint64_t key_at = (uint64_t)batch->rows * FORMAT_ROW;
	uint32_t good = 0;

	*ret_all = format_checksum(table, batch->table_bytes) == batch->table_checksum;
	for (uint32_t i = 0; i < batch->rows && *ret_all; i++) {
		struct format_row row;
		*ret_all = format_row_decode(table + (size_t)i * FORMAT_ROW,
					     walk->super->segment_bytes, &row) == 0 &&
			   key_at + row.key_bytes <= batch->table_bytes;
		if (*ret_all && (row.flags & ROW_TOMBSTONE) == 0) {
			const uint64_t from = (uint64_t)row.unit * FORMAT_UNIT;
			*ret_all = from >= AT + FORMAT_BATCH_HEADER && from < AT + batch->bytes &&
				   from + row.bytes <= AT + batch->bytes &&
				   walk_value_good(walk->super, &row, table + key_at,
						   bytes + (from - AT));
		}
		if (*ret_all) {
			key_at += row.key_bytes;
			good++;
		}
	}
	return good;
}

static void check_batch(struct walk *walk, const uint8_t *bytes)
{
	struct format_batch batch;
	struct walk_rows rows;
	struct format_row row;
	const uint8_t *key = NULL;
	uint32_t count = 0;
	bool all;

	if (walk_batch(walk, bytes, &batch) != 1)
		return;
	HAUL_ASSERT(batch.offset == AT && walk->at == AT + batch.bytes);
	HAUL_ASSERT(walk->at <= walk->end);
	(void)plain_rows(walk, &batch, bytes, &all);
	HAUL_ASSERT((walk_verify(walk, &batch, bytes) == 0) == all);
	if (walk_table(walk, &batch, bytes + batch.table, &rows) < 0)
		return;
	while (walk_row(&rows, &row, &key) == 1) {
		const uint8_t *table = bytes + batch.table;
		HAUL_ASSERT(key >= table && key + row.key_bytes <= table + batch.table_bytes);
		HAUL_ASSERT(row.key_bytes >= 1 && row.key_bytes <= FORMAT_KEY_MAX);
		count++;
	}
	HAUL_ASSERT(count <= batch.rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct format_super super;
	struct walk walk;
	struct prng prng;

	if (size < 1 + FORMAT_BATCH_HEADER || size > 1 + SAMPLE_SEGMENT - 2 * FORMAT_BLOCK)
		return 0;
	prng_init(&prng, 1);
	sample_super(&prng, 1, &super);
	/* As long as it says, but no longer than a segment lets it be. */
	const uint32_t says = le32_load(data + 1 + 76);
	const uint32_t end = SAMPLE_SEGMENT - AT;
	const uint32_t room = says < size - 1 ? (uint32_t)size - 1 : says < end ? says : end;
	uint8_t *image = calloc(1, AT + (size_t)room);
	HAUL_ASSERT(image != NULL);
	memcpy(image + AT, data + 1, size - 1);
	if (data[0] & REPAIR)
		sample_repair_segment(image, AT + room, super.secret);
	const struct format_segment header = { .generation = le64_load(image + AT + 32),
					       .segment = le32_load(image + AT + 68) };
	walk_start(&walk, &super, &header, SAMPLE_SEGMENT);
	memcpy(super.uuid, image + AT + 16, sizeof super.uuid);
	uint8_t *bytes = malloc(room);
	HAUL_ASSERT(bytes != NULL);
	memcpy(bytes, image + AT, room);
	check_batch(&walk, bytes);
	free(bytes);
	free(image);
	return 0;
}
