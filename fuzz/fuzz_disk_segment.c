/* fuzz/fuzz_disk_segment.c — any bytes as a whole segment, walked as recovery and check do.
 *
 * Promise: the walk ends; batches come in order, none reaches into the next or behind the end; a
 * batch that verifies has only rows whose values verify; whatever is found lies in the segment.
 * The first byte is not of the segment. Bit 0: checksums are put right first. Bit 1: the last two
 * blocks of the input are the segment's last; what is between is zero. Bit 2: quarantined in the
 * middle. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "disk/format_sample.h"

enum { REPAIR = 1, TAIL = 2, HALF = 4, TAIL_BYTES = 2 * FORMAT_BLOCK };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_batch(const struct walk *walk, const struct format_batch *batch,
			const uint8_t *image)
{
	const uint8_t *bytes = image + batch->offset;
	const bool whole = walk_verify(walk, batch, bytes) == 0;
	struct walk_rows rows;
	struct format_row row;
	const uint8_t *key = NULL;

	if (walk_table(walk, batch, bytes + batch->table, &rows) < 0) {
		HAUL_ASSERT(!whole);
		return;
	}
	while (walk_row(&rows, &row, &key) == 1) {
		const uint64_t at = (uint64_t)row.unit * FORMAT_UNIT;
		HAUL_ASSERT(at < SAMPLE_SEGMENT && at + row.bytes <= SAMPLE_SEGMENT);
		HAUL_ASSERT(!whole || walk_value_good(walk->super, &row, key, image + at));
	}
	HAUL_ASSERT(!whole || rows.left == 0);
}

static void check_footer(struct walk *walk, const uint8_t *image)
{
	struct format_footer footer;
	struct walk_rows rows;
	struct format_row row;

	if (walk_footer(walk, image + SAMPLE_SEGMENT - FORMAT_BLOCK, &footer) != 1)
		return;
	HAUL_ASSERT(walk->end == SAMPLE_SEGMENT);
	if (walk_footer_table(walk, &footer, image + footer.table, &rows) < 0)
		return;
	while (walk_row(&rows, &row, NULL) == 1)
		HAUL_ASSERT((row.flags & ROW_TOMBSTONE) != 0 ||
			    row.unit * FORMAT_UNIT + row.bytes <= footer.table);
	walk->end = footer.table;
}

/* As a header that rotted is: from the first batch and the footer. */
static bool restore_header(const struct format_super *super, const uint8_t *image,
			   struct format_segment *ret_header)
{
	const struct format_segment place = { .partition = 0, .segment = 3 };

	if (!walk_header_rotten(super, image) ||
	    walk_header_restore(&place, super, image + FORMAT_BLOCK,
				image + SAMPLE_SEGMENT - FORMAT_BLOCK, ret_header) != 1)
		return false;
	HAUL_ASSERT(ret_header->partition == 0 && ret_header->segment == 3);
	HAUL_ASSERT(ret_header->generation == le64_load(image + FORMAT_BLOCK + 32));
	HAUL_ASSERT(ret_header->lane < LANES);
	return true;
}

static void check_segment(const struct format_super *super, const uint8_t *image, uint32_t end)
{
	struct format_segment header;
	struct format_batch batch;
	struct walk walk;
	uint32_t steps = 0;
	uint64_t flush = 0;

	if (walk_header(super, 0, 3, image, &header) != 1 && !restore_header(super, image, &header))
		return;
	walk_start(&walk, super, &header, end);
	check_footer(&walk, image);
	while (walk.at < walk.end) {
		const uint32_t at = walk.at;
		if (walk_batch(&walk, image + at, &batch) != 1) {
			HAUL_ASSERT(walk.at == at);
			(void)walk_skip(&walk);
		} else {
			HAUL_ASSERT(batch.offset == at && batch.flush >= flush);
			HAUL_ASSERT(walk.at <= walk.end);
			flush = batch.flush;
			check_batch(&walk, &batch, image);
		}
		HAUL_ASSERT(walk.at > at && ++steps <= SAMPLE_SEGMENT / FORMAT_BLOCK);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct format_super super;
	struct prng prng;

	if (size < 1 || size > 1 + SAMPLE_SEGMENT)
		return 0;
	prng_init(&prng, 1);
	sample_super(&prng, 1, &super);
	uint8_t *image = calloc(1, SAMPLE_SEGMENT);
	HAUL_ASSERT(image != NULL);
	size_t tail = (data[0] & TAIL) && size > TAIL_BYTES ? TAIL_BYTES : 0;
	memcpy(image, data + 1, size - 1 - tail);
	memcpy(image + SAMPLE_SEGMENT - tail, data + size - tail, tail);
	if (data[0] & REPAIR)
		sample_repair_segment(image, SAMPLE_SEGMENT, super.secret);
	check_segment(&super, image, data[0] & HALF ? SAMPLE_SEGMENT / 2 : SAMPLE_SEGMENT);
	free(image);
	return 0;
}
