/* disk/walk.h — reading a segment: its header, its batches one behind the other, their rows and
 * keys, its footer; from whatever bytes the caller has fetched.
 *
 * Model      Pure: the caller reads, asks here what the bytes say, and is told where to go on. A
 *            batch belongs to the segment only with its generation, its number and its own offset,
 *            so what an earlier use of the segment left behind is never taken for its contents.
 *            Flush numbers never fall within a segment.
 * Ownership  bytes are borrowed; keys point into them.
 * Threads    pure.
 * Errors     HAUL_ECORRUPT, HAUL_EVERSION as said at each call; outputs untouched then. */
#pragma once

#include "disk/format.h"

/* What the block at a segment's start says. 1: a header of this segment. 0: none (zeros, or
 * another cache's, or that of another place: nothing was ever here that counts). HAUL_ECORRUPT,
 * HAUL_EVERSION: there was a header. */
int walk_header(const struct format_super *super, uint32_t partition, uint32_t segment,
		const uint8_t *block, struct format_segment *ret_segment);

/* A header that was there and rotted: not good, not zeros (nor zeros of which a few rotted: the
 * segment was emptied, and nothing in it counts), not another cache's. What it said is
 * told by the first batch (FORMAT_BATCH_HEADER bytes), and by the footer block if that is of the
 * same use of the segment. 1: *ret_segment is as good as it was (without a footer: born_seq 0,
 * LANE_NEW); 0: nothing was lost. */
bool walk_header_rotten(const struct format_super *super, const uint8_t *block);
int walk_header_restore(const struct format_segment *place, const struct format_super *super,
			const uint8_t *first, const uint8_t *footer,
			struct format_segment *ret_segment);

struct walk {
	const struct format_super *super;
	struct format_segment segment;
	uint32_t at;    /* the next batch would begin here; FORMAT_BATCH_HEADER bytes are wanted */
	uint32_t end;   /* nothing counts from here on */
	uint64_t flush; /* of the last batch */
};

/* end: good_bytes of a quarantined segment, else segment_bytes. */
void walk_start(struct walk *walk, const struct format_super *super,
		const struct format_segment *segment, uint32_t end);
/* What stands at walk->at. 1: a batch, and at is behind it. 0: none of this segment, or the end.
 * HAUL_ECORRUPT: what looks like a header, but is damaged or contradicts the segment. A header
 * that is unreadable does not say where the next begins: walk_skip tries the next block. */
int walk_batch(struct walk *walk, const uint8_t *header, struct format_batch *ret_batch);
/* At the end: false. */
bool walk_skip(struct walk *walk);

/* Rows and keys of a batch (or rows of a footer), in order. */
struct walk_rows {
	const uint8_t *row, *key; /* the next; key NULL in a footer */
	uint32_t left;            /* rows */
	uint32_t key_left;        /* bytes */
	uint32_t segment_bytes;
	uint32_t first, end; /* values lie between, in the segment */
};

/* table: batch->table_bytes from batch->offset + batch->table. HAUL_ECORRUPT: the checksum. */
int walk_table(const struct walk *walk, const struct format_batch *batch, const uint8_t *table,
	       struct walk_rows *ret_rows);
/* 1, 0 behind the last; HAUL_ECORRUPT. *ret_key has row.key_bytes as cache_key_store wrote them;
 * ret_key may be NULL. */
int walk_row(struct walk_rows *rows, struct format_row *ret_row, const uint8_t **ret_key);

/* The segment's last block. 1: the footer of this use of the segment. 0: none. HAUL_ECORRUPT: there
 * was one. */
int walk_footer(const struct walk *walk, const uint8_t *block, struct format_footer *ret_footer);
/* table: footer->rows * FORMAT_ROW bytes from footer->table. */
int walk_footer_table(const struct walk *walk, const struct format_footer *footer,
		      const uint8_t *table, struct walk_rows *ret_rows);

/* Whether the stored bytes are what the row says, for the key as stored. */
bool walk_value_good(const struct format_super *super, const struct format_row *row,
		     const uint8_t *key, const uint8_t *stored);
/* All of a batch: table, rows, keys, values. bytes: batch->bytes from batch->offset. 0, or
 * HAUL_ECORRUPT. */
int walk_verify(const struct walk *walk, const struct format_batch *batch, const uint8_t *bytes);
