#include "disk/walk.h"

#include "base/assert.h"
#include "disk/format_head.h"

int walk_header(const struct format_super *super, uint32_t partition, uint32_t segment,
		const uint8_t *block, struct format_segment *ret_segment)
{
	struct format_segment found;
	const int rc = format_segment_decode(block, super->uuid, &found);

	HAUL_ASSERT(partition < super->partitions && segment < super->segments);
	if (rc == HAUL_ESTALE)
		return 0;
	if (rc < 0)
		return le32_load(block + HEAD_OFF_MAGIC) == HEAD_MAGIC_SEGMENT ? rc : 0;
	if (found.partition != partition || found.segment != segment)
		return HAUL_ECORRUPT;
	*ret_segment = found;
	return 1;
}

/* Of the bytes that all structures begin with, a header has about 25 that are not zero. */
enum { ROTTEN_MIN = 8 };

bool walk_header_rotten(const struct format_super *super, const uint8_t *block)
{
	struct format_segment header;
	const int rc = format_segment_decode(block, super->uuid, &header);

	if (rc == 0 || rc == HAUL_ESTALE)
		return false;
	uint32_t left = 0;
	for (uint32_t i = 0; i < HEAD_BYTES; i++)
		left += block[i] != 0;
	return left >= ROTTEN_MIN;
}

int walk_header_restore(const struct format_segment *place, const struct format_super *super,
			const uint8_t *first, const uint8_t *footer,
			struct format_segment *ret_segment)
{
	struct format_batch batch;
	struct format_footer end;

	if (format_batch_decode(first, super->uuid, super->segment_bytes, &batch) < 0 ||
	    batch.partition != place->partition || batch.segment != place->segment ||
	    batch.offset != FORMAT_BLOCK)
		return 0;
	*ret_segment = (struct format_segment){
		.generation = batch.generation,
		.partition = place->partition,
		.segment = place->segment,
		.lane = LANE_NEW,
	};
	/* A footer that an earlier use left says nothing of this one. */
	if (format_footer_decode(footer, super->uuid, super->segment_bytes, &end) < 0 ||
	    end.generation != batch.generation || end.partition != place->partition ||
	    end.segment != place->segment)
		return 1;
	ret_segment->born_seq = end.born_seq;
	ret_segment->lane = end.lane;
	return 1;
}

void walk_start(struct walk *walk, const struct format_super *super,
		const struct format_segment *segment, uint32_t end)
{
	HAUL_ASSERT(end <= super->segment_bytes);
	*walk = (struct walk){
		.super = super,
		.segment = *segment,
		.at = FORMAT_BLOCK,
		.end = end - end % FORMAT_BLOCK,
	};
}

/* A good header, but is it of here and now? 1, 0, HAUL_ECORRUPT. */
static int batch_fits(const struct walk *walk, const struct format_batch *batch)
{
	if (batch->generation != walk->segment.generation)
		return 0; /* an earlier use of the segment */
	if (batch->partition != walk->segment.partition ||
	    batch->segment != walk->segment.segment || batch->offset != walk->at)
		return HAUL_ECORRUPT;
	return batch->flush < walk->flush ? HAUL_ECORRUPT : 1;
}

int walk_batch(struct walk *walk, const uint8_t *header, struct format_batch *ret_batch)
{
	struct format_batch batch;

	if (walk->at >= walk->end)
		return 0;
	int rc = format_batch_decode(header, walk->super->uuid, walk->super->segment_bytes, &batch);
	if (rc == HAUL_ESTALE)
		return 0;
	if (rc < 0)
		return le32_load(header + HEAD_OFF_MAGIC) == HEAD_MAGIC_BATCH ? rc : 0;
	rc = batch_fits(walk, &batch);
	if (rc == 1 && walk->end - walk->at < batch.bytes)
		rc = 0;
	if (rc != 1)
		return rc;
	walk->at += batch.bytes;
	walk->flush = batch.flush;
	*ret_batch = batch;
	return 1;
}

bool walk_skip(struct walk *walk)
{
	if (walk->at >= walk->end)
		return false;
	walk->at += FORMAT_BLOCK;
	return walk->at < walk->end;
}

int walk_table(const struct walk *walk, const struct format_batch *batch, const uint8_t *table,
	       struct walk_rows *ret_rows)
{
	const uint32_t rows_bytes = batch->rows * FORMAT_ROW;

	HAUL_ASSERT(rows_bytes <= batch->table_bytes);
	if (format_checksum(table, batch->table_bytes) != batch->table_checksum)
		return HAUL_ECORRUPT;
	*ret_rows = (struct walk_rows){
		.row = table,
		.key = table + rows_bytes,
		.left = batch->rows,
		.key_left = batch->table_bytes - rows_bytes,
		.segment_bytes = walk->super->segment_bytes,
		.first = batch->offset + FORMAT_BATCH_HEADER,
		.end = batch->offset + batch->bytes,
	};
	return 0;
}

int walk_row(struct walk_rows *rows, struct format_row *ret_row, const uint8_t **ret_key)
{
	struct format_row row;

	if (rows->left == 0)
		return 0;
	if (format_row_decode(rows->row, rows->segment_bytes, &row) < 0)
		return HAUL_ECORRUPT;
	if ((row.flags & ROW_TOMBSTONE) == 0) {
		const uint64_t at = (uint64_t)row.unit * FORMAT_UNIT;
		if (at < rows->first || at >= rows->end || row.bytes > rows->end - at)
			return HAUL_ECORRUPT;
	}
	if (rows->key != NULL && row.key_bytes > rows->key_left)
		return HAUL_ECORRUPT;
	*ret_row = row;
	if (ret_key != NULL)
		*ret_key = rows->key;
	if (rows->key != NULL) {
		rows->key += row.key_bytes;
		rows->key_left -= row.key_bytes;
	}
	rows->row += FORMAT_ROW;
	rows->left--;
	return 1;
}

int walk_footer(const struct walk *walk, const uint8_t *block, struct format_footer *ret_footer)
{
	const uint32_t segment_bytes = walk->super->segment_bytes;
	struct format_footer footer;
	const int rc = format_footer_decode(block, walk->super->uuid, segment_bytes, &footer);

	if (walk->end < segment_bytes || rc == HAUL_ESTALE)
		return 0;
	if (rc < 0)
		return le32_load(block + HEAD_OFF_MAGIC) == HEAD_MAGIC_FOOTER ? rc : 0;
	if (footer.generation != walk->segment.generation)
		return 0;
	if (footer.partition != walk->segment.partition || footer.segment != walk->segment.segment)
		return HAUL_ECORRUPT;
	*ret_footer = footer;
	return 1;
}

int walk_footer_table(const struct walk *walk, const struct format_footer *footer,
		      const uint8_t *table, struct walk_rows *ret_rows)
{
	if (format_checksum(table, (size_t)footer->rows * FORMAT_ROW) != footer->table_checksum)
		return HAUL_ECORRUPT;
	*ret_rows = (struct walk_rows){
		.row = table,
		.left = footer->rows,
		.segment_bytes = walk->super->segment_bytes,
		.first = FORMAT_BLOCK,
		.end = footer->table,
	};
	return 0;
}

bool walk_value_good(const struct format_super *super, const struct format_row *row,
		     const uint8_t *key, const uint8_t *stored)
{
	struct cache_key loaded;

	if (row->flags & ROW_TOMBSTONE)
		return true; /* its hash says what is deleted, also where the key is not known */
	if (cache_key_load(key, row->key_bytes, row->slice, super->secret, &loaded) < 0 ||
	    loaded.hash != row->hash)
		return false;
	return cache_key_checksum(&loaded, stored, row->bytes) == row->checksum;
}

int walk_verify(const struct walk *walk, const struct format_batch *batch, const uint8_t *bytes)
{
	struct walk_rows rows;
	struct format_row row;
	const uint8_t *key = NULL;
	int rc = walk_table(walk, batch, bytes + batch->table, &rows);

	if (rc < 0)
		return rc;
	while ((rc = walk_row(&rows, &row, &key)) > 0) {
		const uint8_t *stored = bytes;
		if ((row.flags & ROW_TOMBSTONE) == 0)
			stored += (uint64_t)row.unit * FORMAT_UNIT - batch->offset;
		if (!walk_value_good(walk->super, &row, key, stored))
			return HAUL_ECORRUPT;
	}
	return rc;
}
