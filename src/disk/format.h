/* disk/format.h — what is on the disk (docs/design/0012 has every byte).
 *
 * Model      Little-endian, fixed widths. First block: superblock, then a root for each partition,
 *            then equal segments, those of a partition side by side (segment s of partition p is at
 *            segments_offset + (p * segments + s) * segment_bytes), then the second root of each
 *            partition; last block: the superblock again. Partitions share nothing but the
 *            superblock.
 *            Segment: one block of header, batches one behind the other, and, once sealed, a footer
 *            that ends with the segment's last block: all its table rows, then the footer block.
 *            Batch: header at its start (block-aligned), values behind it, table rows and keys in
 *            the first block if no value lies there and they fit, else behind the values; padded
 *            with zeros to whole blocks.
 *            A value starts at a 64-byte boundary; see format_place.
 * Threads    pure.
 * Errors     decode returns HAUL_ECORRUPT, HAUL_EVERSION, or HAUL_ESTALE (a good block of another
 *            cache); never reads outside of what it was given, whatever that holds. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <haul/disk.h>
#include "disk/key.h"

enum {
	FORMAT_BLOCK = 4096,
	FORMAT_UNIT = 64,           /* offsets of values are counted in these */
	FORMAT_BATCH_HEADER = 128,  /* bytes, at the batch's start */
	FORMAT_ROW = 48,            /* bytes of a table row */
	FORMAT_VALUE_MAX = 1049600, /* stored bytes of one entry: 1 MiB, and room for codecs */
	FORMAT_KEY_MAX = CACHE_KEY_STORED_MAX,
	FORMAT_PARTITIONS_MAX = 64,
	FORMAT_SEGMENT_MIN = 65536,
	FORMAT_SEGMENT_MAX = 1 << 26,  /* 2^20 units */
	FORMAT_SEGMENTS_MAX = 1 << 18, /* a partition */
	FORMAT_SEGMENTS_MIN = 8,       /* a partition */
	FORMAT_BAD_MAX = 128           /* quarantined segments that a superblock lists */
};

/* Lanes: streams of segments. X(id, name) */
#define LANE_LIST(X)                                                                               \
	X(LANE_NEW, "new")       /* first writes: S3-FIFO's small queue */                         \
	X(LANE_MAIN, "main")     /* read again, or wanted again: the main queue */                 \
	X(LANE_SHORT, "short")   /* expire soon: whole segments die together */                    \
	X(LANE_BULK, "bulk")     /* slices of objects, kept together */                            \
	X(LANE_PINNED, "pinned") /* never evicted */

enum lane_id {
#define X(id, name) id,
	LANE_LIST(X)
#undef X
		LANES
};

/* Flags of a row. Codec 0 raw, 1 lz4, 2 zstd. */
enum {
	ROW_TOMBSTONE = 1,  /* the key is deleted as of seq; no value */
	ROW_SUPERSEDES = 2, /* an older copy of the key may be on the disk */
	ROW_FLAGS = 4,      /* the stored value ends with 4 bytes of client flags */
	ROW_HEAD = 8,       /* the value is an object's head (disk/object.h) */
	ROW_PINNED = 16,
	ROW_CODEC_SHIFT = 5, /* two bits */
	ROW_KNOWN = 0x7f
};

/* One entry, as batches and footers list it. */
struct format_row {
	uint64_t hash;
	uint64_t checksum; /* cache_key_checksum of the stored value; 0 with a tombstone */
	uint64_t seq;      /* of the store; copies made by reclaim keep it */
	uint32_t unit;     /* value's offset in its segment, in FORMAT_UNIT */
	uint32_t bytes;    /* stored; 0 … FORMAT_VALUE_MAX */
	uint32_t expiry;   /* seconds since 1970, 0 = never */
	uint8_t flags;
	uint16_t key_bytes; /* as stored: cache_key_store */
	uint32_t slice;
};

/* What never changes after format. */
struct format_super {
	uint8_t uuid[16]; /* chosen at format, in every header */
	uint64_t bytes;   /* of the file or device that is used */
	uint64_t secret;  /* seeds key hashes */
	uint32_t partitions;
	uint32_t segment_bytes;
	uint32_t segments; /* a partition */
	uint64_t segments_offset;
	uint64_t entries_max; /* a partition */
	uint32_t created;     /* seconds since 1970 */
	/* Bits of what later versions add. One that we do not know may be ignored (compat), forbids
	 * to write (ro_compat), or makes the whole unreadable (incompat: HAUL_EVERSION). */
	uint32_t compat, ro_compat, incompat;
};

/* What changes, a partition; two blocks written in turn, the higher generation counts. */
struct format_root {
	uint64_t generation;
	uint32_t partition;
	uint64_t purged_seq; /* rows with seq <= it are dead (flush_all) */
	/* Every generation ever used is below it: what an earlier use of a segment left behind is
	 * never taken for a later one's, even when its header is gone. */
	uint64_t generation_bound;
	/* Flushes up to it need no proof: they were durable, or are dropped. */
	uint64_t flush_proven;
	struct haul_disk_model model;
	uint32_t bad_count;
	struct format_bad {
		uint32_t segment;
		uint32_t good_bytes; /* of its start that may be trusted */
	} bad[FORMAT_BAD_MAX];
};

struct format_segment {
	uint64_t generation; /* of this use of the segment; rises over the whole partition */
	uint64_t born_seq;   /* seq of the partition when it was opened */
	uint32_t partition;
	uint32_t segment;
	uint32_t lane;
	uint32_t created; /* seconds since 1970 */
};

struct format_batch {
	uint64_t generation; /* the segment's */
	uint64_t flush;      /* number of the flush it belongs to */
	uint64_t first_seq;  /* smallest seq handed out for this flush or later */
	uint32_t partition;
	uint32_t segment;
	uint32_t offset; /* of the batch in the segment */
	uint32_t bytes;  /* whole blocks */
	uint32_t rows;
	uint32_t table; /* offset of the rows from the batch's start; keys follow the rows */
	uint32_t table_bytes;
	uint16_t part; /* which of the flush's batches */
	uint16_t parts;
	uint64_t table_checksum;
};

struct format_footer {
	uint64_t generation;
	uint64_t born_seq;
	uint64_t last_flush;
	uint32_t partition;
	uint32_t segment;
	uint32_t lane;
	uint32_t rows;
	uint32_t table;      /* offset of the rows in the segment */
	uint32_t expiry_max; /* UINT32_MAX when some never expires */
	uint64_t table_checksum;
};

/* Each block is FORMAT_BLOCK bytes, but the batch header FORMAT_BATCH_HEADER. The uuid is checked
 * by the decoders: another cache's blocks are HAUL_ESTALE. */
void format_super_encode(const struct format_super *super, uint8_t *block);
int format_super_decode(const uint8_t *block, struct format_super *ret_super);
void format_root_encode(const struct format_root *root, const uint8_t uuid[16], uint8_t *block);
int format_root_decode(const uint8_t *block, const uint8_t uuid[16], struct format_root *ret_root);
void format_segment_encode(const struct format_segment *segment, const uint8_t uuid[16],
			   uint8_t *block);
int format_segment_decode(const uint8_t *block, const uint8_t uuid[16],
			  struct format_segment *ret_segment);
void format_batch_encode(const struct format_batch *batch, const uint8_t uuid[16], uint8_t *header);
/* Also checks that every length lies within segment_bytes. */
int format_batch_decode(const uint8_t *header, const uint8_t uuid[16], uint32_t segment_bytes,
			struct format_batch *ret_batch);
void format_footer_encode(const struct format_footer *footer, const uint8_t uuid[16],
			  uint8_t *block);
int format_footer_decode(const uint8_t *block, const uint8_t uuid[16], uint32_t segment_bytes,
			 struct format_footer *ret_footer);
void format_row_encode(const struct format_row *row, uint8_t *out);
/* Of an encoded row that was not decoded yet. */
uint64_t format_row_hash(const uint8_t *in);
/* Checks unit, bytes, key_bytes and flags against segment_bytes. */
int format_row_decode(const uint8_t *in, uint32_t segment_bytes, struct format_row *ret_row);
uint64_t format_checksum(const void *data, size_t bytes); /* XXH3-64 */

/* Where in a batch the next value of `bytes` goes, when `at` bytes are taken: the next unit, unless
 * starting at a block would save reading a block and skips no more than a quarter of the value.
 * The first value (at == FORMAT_BATCH_HEADER) may skip all of the first block: the table goes
 * there. */
uint32_t format_place(uint32_t at, uint32_t bytes);
/* Bytes of a footer of so many rows, whole blocks. */
uint32_t format_footer_bytes(uint32_t rows);
/* Choose segment size and count for a file of so many bytes; -ENOSPC when it is too small. 0 in
 * segment_bytes = choose. super->entries_max (a partition) is taken as a wish: 0 = by size, and
 * never more than fit. uuid, secret and created are left alone. */
int format_layout(struct format_super *super, uint64_t bytes, uint32_t partitions,
		  uint32_t segment_bytes, struct haul_err *err);
uint64_t format_super_offset(const struct format_super *super, uint32_t copy); /* 0, 1 */
uint64_t format_root_offset(const struct format_super *super, uint32_t partition, uint32_t copy);
uint64_t format_segment_offset(const struct format_super *super, uint32_t partition,
			       uint32_t segment);
