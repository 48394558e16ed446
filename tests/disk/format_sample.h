/* disk/format_sample.h — structures of the disk's format, and a whole segment, for tests and fuzz
 * targets. Chance comes from the caller's prng. */
#pragma once

#include "base/prng.h"
#include "disk/walk.h"

enum { SAMPLE_SEGMENT = FORMAT_SEGMENT_MIN, SAMPLE_ROWS_MAX = 512, SAMPLE_BATCHES_MAX = 15 };

/* A small cache: `partitions` of FORMAT_SEGMENTS_MIN segments of SAMPLE_SEGMENT bytes. */
void sample_super(struct prng *prng, uint32_t partitions, struct format_super *ret_super);
void sample_root(struct prng *prng, const struct format_super *super, struct format_root *ret_root);

/* What one segment is to hold, and after sample_segment what it holds. */
struct sample {
	const struct format_super *super;
	struct format_segment header;
	uint32_t batches;  /* wanted; result: how many went in */
	uint32_t rows_max; /* a batch; at least 1 */
	uint32_t value_max;
	bool footer;
	/* results */
	struct format_batch batch[SAMPLE_BATCHES_MAX];
	uint32_t row_count;
	struct format_row row[SAMPLE_ROWS_MAX];
	uint32_t row_batch[SAMPLE_ROWS_MAX];
};
/* image: super->segment_bytes. Batches have flush numbers 1, 2, …; rows rising seqs. */
void sample_segment(struct sample *sample, struct prng *prng, uint8_t *image);

/* Put every checksum right that stands where one should, so that a mutated structure is believed:
 * superblock, root, segment header, batch header or footer, whichever its magic says; false if
 * none. */
bool sample_repair_block(uint8_t *block, size_t bytes);
/* All of a segment: blocks, tables, and values as far as the rows can be read. */
void sample_repair_segment(uint8_t *image, uint32_t segment_bytes, uint64_t secret);
