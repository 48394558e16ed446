/* fuzz/fuzz_disk_footer.c — any bytes as a segment's end: rows, then the footer block.
 *
 * Promise: a footer that is taken has all its rows in front of it, inside of the segment; each row
 * that is taken lies between header and table. The rows lie in memory of exactly their size.
 * The first byte is not of it: when odd, checksums are put right first. The rest ends with the
 * segment. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "disk/format_sample.h"

enum { REPAIR = 1 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_rows(const struct walk *walk, const struct format_footer *footer,
		       const uint8_t *image)
{
	const size_t bytes = (size_t)footer->rows * FORMAT_ROW;
	uint8_t *table = malloc(bytes > 0 ? bytes : 1);
	struct walk_rows rows;
	struct format_row row;
	uint32_t count = 0;

	HAUL_ASSERT(table != NULL);
	memcpy(table, image + footer->table, bytes);
	if (walk_footer_table(walk, footer, table, &rows) == 0) {
		while (walk_row(&rows, &row, NULL) == 1) {
			const uint64_t at = (uint64_t)row.unit * FORMAT_UNIT;
			HAUL_ASSERT(at + row.bytes <= SAMPLE_SEGMENT);
			HAUL_ASSERT((row.flags & ROW_TOMBSTONE) != 0 ||
				    (at >= FORMAT_BLOCK && at + row.bytes <= footer->table));
			count++;
		}
		HAUL_ASSERT(count <= footer->rows);
	}
	free(table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint32_t block_at = SAMPLE_SEGMENT - FORMAT_BLOCK;
	struct format_super super;
	struct format_footer footer;
	struct walk walk;
	struct prng prng;

	if (size < 1 + 128 || size > 1 + SAMPLE_SEGMENT)
		return 0;
	prng_init(&prng, 1);
	sample_super(&prng, 1, &super);
	uint8_t *image = calloc(1, SAMPLE_SEGMENT);
	HAUL_ASSERT(image != NULL);
	memcpy(image + SAMPLE_SEGMENT - (size - 1), data + 1, size - 1);
	if (data[0] & REPAIR)
		sample_repair_segment(image, SAMPLE_SEGMENT, super.secret);
	const uint8_t *block = image + block_at;
	const struct format_segment header = { .generation = le64_load(block + 32),
					       .segment = le32_load(block + 68) };
	memcpy(super.uuid, block + 16, sizeof super.uuid);
	walk_start(&walk, &super, &header, SAMPLE_SEGMENT);
	if (walk_footer(&walk, block, &footer) == 1) {
		HAUL_ASSERT(footer.table + (uint64_t)footer.rows * FORMAT_ROW <= block_at);
		check_rows(&walk, &footer, image);
	}
	free(image);
	return 0;
}
