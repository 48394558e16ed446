/* Batches, their rows, and footers. Offsets and limits as in format.c. */
#include <assert.h>

#include "base/assert.h"
#include "base/checksum.h"
#include "disk/format.h"
#include "disk/format_head.h"

enum {
	BATCH_OFF_GENERATION = 32,
	BATCH_OFF_FLUSH = 40,
	BATCH_OFF_FIRST_SEQ = 48,
	BATCH_OFF_TABLE_CHECKSUM = 56,
	BATCH_OFF_PARTITION = 64,
	BATCH_OFF_SEGMENT = 68,
	BATCH_OFF_OFFSET = 72,
	BATCH_OFF_BYTES = 76,
	BATCH_OFF_ROWS = 80,
	BATCH_OFF_TABLE = 84,
	BATCH_OFF_TABLE_BYTES = 88,
	BATCH_OFF_PART = 92,
	BATCH_OFF_PARTS = 94,
	BATCH_END = 96,

	FOOTER_OFF_GENERATION = 32,
	FOOTER_OFF_BORN_SEQ = 40,
	FOOTER_OFF_LAST_FLUSH = 48,
	FOOTER_OFF_TABLE_CHECKSUM = 56,
	FOOTER_OFF_PARTITION = 64,
	FOOTER_OFF_SEGMENT = 68,
	FOOTER_OFF_LANE = 72,
	FOOTER_OFF_ROWS = 76,
	FOOTER_OFF_TABLE = 80,
	FOOTER_OFF_EXPIRY_MAX = 84,

	ROW_OFF_HASH = 0,
	ROW_OFF_CHECKSUM = 8,
	ROW_OFF_SEQ = 16,
	ROW_OFF_UNIT = 24,
	ROW_OFF_BYTES = 28,
	ROW_OFF_EXPIRY = 32,
	ROW_OFF_SLICE = 36,
	ROW_OFF_KEY_BYTES = 40,
	ROW_OFF_FLAGS = 42,
	ROW_OFF_RESERVED = 43
};

static_assert((int)BATCH_END <= (int)FORMAT_BATCH_HEADER, "");
static_assert(ROW_OFF_RESERVED + 5 == FORMAT_ROW, "");
static_assert(FORMAT_SEGMENT_MAX / FORMAT_UNIT <= 1 << 20, "the index has 20 bits for a unit");
static_assert(FORMAT_VALUE_MAX < 1 << 21, "the index has 21 bits for bytes");

static uint32_t blocks_up(uint32_t bytes)
{
	return (bytes + FORMAT_BLOCK - 1) / FORMAT_BLOCK * FORMAT_BLOCK;
}

uint64_t format_checksum(const void *data, size_t bytes)
{
	return XXH3_64bits(data, bytes);
}

void format_batch_encode(const struct format_batch *batch, const uint8_t uuid[16], uint8_t *header)
{
	HAUL_ASSERT(batch->bytes % FORMAT_BLOCK == 0 && batch->offset % FORMAT_BLOCK == 0);
	HAUL_ASSERT((uint64_t)batch->table + batch->table_bytes <= batch->bytes);
	head_start(header, FORMAT_BATCH_HEADER, HEAD_MAGIC_BATCH, uuid);
	le64_store(header + BATCH_OFF_GENERATION, batch->generation);
	le64_store(header + BATCH_OFF_FLUSH, batch->flush);
	le64_store(header + BATCH_OFF_FIRST_SEQ, batch->first_seq);
	le64_store(header + BATCH_OFF_TABLE_CHECKSUM, batch->table_checksum);
	le32_store(header + BATCH_OFF_PARTITION, batch->partition);
	le32_store(header + BATCH_OFF_SEGMENT, batch->segment);
	le32_store(header + BATCH_OFF_OFFSET, batch->offset);
	le32_store(header + BATCH_OFF_BYTES, batch->bytes);
	le32_store(header + BATCH_OFF_ROWS, batch->rows);
	le32_store(header + BATCH_OFF_TABLE, batch->table);
	le32_store(header + BATCH_OFF_TABLE_BYTES, batch->table_bytes);
	le16_store(header + BATCH_OFF_PART, batch->part);
	le16_store(header + BATCH_OFF_PARTS, batch->parts);
	head_seal(header, FORMAT_BATCH_HEADER);
}

static bool batch_good(const struct format_batch *batch, uint32_t segment_bytes)
{
	if (batch->partition >= FORMAT_PARTITIONS_MAX || batch->segment >= FORMAT_SEGMENTS_MAX)
		return false;
	if (batch->offset % FORMAT_BLOCK != 0 || batch->bytes % FORMAT_BLOCK != 0 ||
	    batch->offset < FORMAT_BLOCK || batch->bytes < FORMAT_BLOCK ||
	    (uint64_t)batch->offset + batch->bytes > segment_bytes)
		return false;
	if (batch->table < FORMAT_BATCH_HEADER ||
	    (uint64_t)batch->table + batch->table_bytes > batch->bytes ||
	    (uint64_t)batch->rows * FORMAT_ROW > batch->table_bytes)
		return false;
	return batch->part < batch->parts;
}

int format_batch_decode(const uint8_t *header, const uint8_t uuid[16], uint32_t segment_bytes,
			struct format_batch *ret_batch)
{
	const int rc = head_check(header, FORMAT_BATCH_HEADER, HEAD_MAGIC_BATCH, uuid);

	if (rc < 0)
		return rc;
	const struct format_batch batch = {
		.generation = le64_load(header + BATCH_OFF_GENERATION),
		.flush = le64_load(header + BATCH_OFF_FLUSH),
		.first_seq = le64_load(header + BATCH_OFF_FIRST_SEQ),
		.partition = le32_load(header + BATCH_OFF_PARTITION),
		.segment = le32_load(header + BATCH_OFF_SEGMENT),
		.offset = le32_load(header + BATCH_OFF_OFFSET),
		.bytes = le32_load(header + BATCH_OFF_BYTES),
		.rows = le32_load(header + BATCH_OFF_ROWS),
		.table = le32_load(header + BATCH_OFF_TABLE),
		.table_bytes = le32_load(header + BATCH_OFF_TABLE_BYTES),
		.part = le16_load(header + BATCH_OFF_PART),
		.parts = le16_load(header + BATCH_OFF_PARTS),
		.table_checksum = le64_load(header + BATCH_OFF_TABLE_CHECKSUM),
	};
	if (!batch_good(&batch, segment_bytes))
		return HAUL_ECORRUPT;
	*ret_batch = batch;
	return 0;
}

void format_footer_encode(const struct format_footer *footer, const uint8_t uuid[16],
			  uint8_t *block)
{
	HAUL_ASSERT(footer->lane < LANES);
	HAUL_ASSERT(footer->table % FORMAT_BLOCK == 0);
	head_start(block, FORMAT_BLOCK, HEAD_MAGIC_FOOTER, uuid);
	le64_store(block + FOOTER_OFF_GENERATION, footer->generation);
	le64_store(block + FOOTER_OFF_BORN_SEQ, footer->born_seq);
	le64_store(block + FOOTER_OFF_LAST_FLUSH, footer->last_flush);
	le64_store(block + FOOTER_OFF_TABLE_CHECKSUM, footer->table_checksum);
	le32_store(block + FOOTER_OFF_PARTITION, footer->partition);
	le32_store(block + FOOTER_OFF_SEGMENT, footer->segment);
	le32_store(block + FOOTER_OFF_LANE, footer->lane);
	le32_store(block + FOOTER_OFF_ROWS, footer->rows);
	le32_store(block + FOOTER_OFF_TABLE, footer->table);
	le32_store(block + FOOTER_OFF_EXPIRY_MAX, footer->expiry_max);
	head_seal(block, FORMAT_BLOCK);
}

int format_footer_decode(const uint8_t *block, const uint8_t uuid[16], uint32_t segment_bytes,
			 struct format_footer *ret_footer)
{
	const int rc = head_check(block, FORMAT_BLOCK, HEAD_MAGIC_FOOTER, uuid);

	if (rc < 0)
		return rc;
	const struct format_footer footer = {
		.generation = le64_load(block + FOOTER_OFF_GENERATION),
		.born_seq = le64_load(block + FOOTER_OFF_BORN_SEQ),
		.last_flush = le64_load(block + FOOTER_OFF_LAST_FLUSH),
		.partition = le32_load(block + FOOTER_OFF_PARTITION),
		.segment = le32_load(block + FOOTER_OFF_SEGMENT),
		.lane = le32_load(block + FOOTER_OFF_LANE),
		.rows = le32_load(block + FOOTER_OFF_ROWS),
		.table = le32_load(block + FOOTER_OFF_TABLE),
		.expiry_max = le32_load(block + FOOTER_OFF_EXPIRY_MAX),
		.table_checksum = le64_load(block + FOOTER_OFF_TABLE_CHECKSUM),
	};
	if (footer.partition >= FORMAT_PARTITIONS_MAX || footer.segment >= FORMAT_SEGMENTS_MAX ||
	    footer.lane >= LANES)
		return HAUL_ECORRUPT;
	if (footer.table % FORMAT_BLOCK != 0 || footer.table < FORMAT_BLOCK ||
	    footer.table + (uint64_t)footer.rows * FORMAT_ROW > segment_bytes - FORMAT_BLOCK)
		return HAUL_ECORRUPT;
	*ret_footer = footer;
	return 0;
}

uint64_t format_row_hash(const uint8_t *in)
{
	return le64_load(in + ROW_OFF_HASH);
}

void format_row_encode(const struct format_row *row, uint8_t *out)
{
	HAUL_ASSERT(row->bytes <= FORMAT_VALUE_MAX);
	HAUL_ASSERT(row->key_bytes >= 1 && row->key_bytes <= FORMAT_KEY_MAX);
	HAUL_ASSERT((row->flags & ~ROW_KNOWN) == 0);
	le64_store(out + ROW_OFF_HASH, row->hash);
	le64_store(out + ROW_OFF_CHECKSUM, row->checksum);
	le64_store(out + ROW_OFF_SEQ, row->seq);
	le32_store(out + ROW_OFF_UNIT, row->unit);
	le32_store(out + ROW_OFF_BYTES, row->bytes);
	le32_store(out + ROW_OFF_EXPIRY, row->expiry);
	le32_store(out + ROW_OFF_SLICE, row->slice);
	le16_store(out + ROW_OFF_KEY_BYTES, row->key_bytes);
	out[ROW_OFF_FLAGS] = row->flags;
	memset(out + ROW_OFF_RESERVED, 0, FORMAT_ROW - ROW_OFF_RESERVED);
}

static bool row_good(const struct format_row *row, uint32_t segment_bytes)
{
	const uint32_t codec = row->flags >> ROW_CODEC_SHIFT;

	if (row->hash == 0 || row->key_bytes < 1 || row->key_bytes > FORMAT_KEY_MAX ||
	    (row->flags & ~ROW_KNOWN) != 0 || codec > 2)
		return false;
	if ((uint64_t)row->unit * FORMAT_UNIT + row->bytes > segment_bytes ||
	    row->unit >= segment_bytes / FORMAT_UNIT)
		return false;
	if (row->flags & ROW_TOMBSTONE)
		return row->bytes == 0 && row->checksum == 0;
	return row->bytes <= FORMAT_VALUE_MAX && ((row->flags & ROW_FLAGS) == 0 || row->bytes >= 4);
}

int format_row_decode(const uint8_t *in, uint32_t segment_bytes, struct format_row *ret_row)
{
	const struct format_row row = {
		.hash = le64_load(in + ROW_OFF_HASH),
		.checksum = le64_load(in + ROW_OFF_CHECKSUM),
		.seq = le64_load(in + ROW_OFF_SEQ),
		.unit = le32_load(in + ROW_OFF_UNIT),
		.bytes = le32_load(in + ROW_OFF_BYTES),
		.expiry = le32_load(in + ROW_OFF_EXPIRY),
		.flags = in[ROW_OFF_FLAGS],
		.key_bytes = le16_load(in + ROW_OFF_KEY_BYTES),
		.slice = le32_load(in + ROW_OFF_SLICE),
	};
	if (!row_good(&row, segment_bytes))
		return HAUL_ECORRUPT;
	*ret_row = row;
	return 0;
}

uint32_t format_place(uint32_t at, uint32_t bytes)
{
	const uint32_t unit = (at + FORMAT_UNIT - 1) / FORMAT_UNIT * FORMAT_UNIT;
	const uint32_t block = blocks_up(unit);

	HAUL_ASSERT(at >= FORMAT_BATCH_HEADER && at <= FORMAT_SEGMENT_MAX);
	HAUL_ASSERT(bytes <= FORMAT_VALUE_MAX);
	if (blocks_up(unit % FORMAT_BLOCK + bytes) == blocks_up(bytes))
		return unit;
	return at == FORMAT_BATCH_HEADER || block - unit <= bytes / 4 ? block : unit;
}

uint32_t format_footer_bytes(uint32_t rows)
{
	HAUL_ASSERT(rows <= FORMAT_SEGMENT_MAX / FORMAT_ROW);
	return blocks_up(rows * FORMAT_ROW) + FORMAT_BLOCK;
}
