#include "disk/format_sample.h"

#include <stdlib.h>

#include "base/assert.h"
#include "disk/format_head.h"

void sample_super(struct prng *prng, uint32_t partitions, struct format_super *ret_super)
{
	const uint64_t around = SAMPLE_SEGMENT + (uint64_t)(1 + partitions) * FORMAT_BLOCK;
	const uint64_t bytes = around + FORMAT_BLOCK * UINT64_C(64) +
			       (uint64_t)partitions * FORMAT_SEGMENTS_MIN * SAMPLE_SEGMENT;
	struct format_super super = { .secret = prng_next(prng), .created = 1700000000 };

	const int rc = format_layout(&super, bytes, partitions, SAMPLE_SEGMENT, NULL);
	HAUL_ASSERT(rc == 0);
	for (uint32_t i = 0; i < sizeof super.uuid; i++)
		super.uuid[i] = (uint8_t)prng_next(prng);
	*ret_super = super;
}

void sample_root(struct prng *prng, const struct format_super *super, struct format_root *ret_root)
{
	*ret_root = (struct format_root){
		.generation = prng_next(prng),
		.partition = prng_below(prng, super->partitions),
		.purged_seq = prng_next(prng),
		.generation_bound = prng_next(prng),
		.flush_proven = prng_next(prng),
		.model = {
			.sync_ns = prng_unit(prng) * 1e7,
			.write_bandwidth = prng_unit(prng) * 1e10,
			.read_bandwidth = prng_unit(prng) * 1e10,
			.read_iops = prng_unit(prng) * 1e6,
			.read_ns = prng_unit(prng) * 1e6,
		},
		.bad_count = prng_below(prng, FORMAT_BAD_MAX + 1),
	};
	for (uint32_t i = 0; i < ret_root->bad_count; i++) {
		ret_root->bad[i].segment = prng_below(prng, super->segments);
		ret_root->bad[i].good_bytes =
			prng_below(prng, super->segment_bytes / FORMAT_BLOCK) * FORMAT_BLOCK;
	}
}

static void fill(struct prng *prng, uint8_t *out, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		out[i] = (uint8_t)prng_next(prng);
}

/* A batch on its way into the image. */
struct building {
	uint8_t *at; /* its first byte */
	uint32_t used, room;
	uint8_t keys[SAMPLE_SEGMENT];
	uint32_t key_bytes;
	uint32_t first; /* its rows in the sample */
};

/* false: no room. */
static bool add_row(struct sample *sample, struct building *building, struct prng *prng,
		    uint32_t offset)
{
	const bool tombstone = prng_below(prng, 8) == 0;
	const uint32_t bytes = tombstone ? 0 : prng_below(prng, sample->value_max + 1);
	uint8_t data[40];
	struct cache_key key = { .data = data, .bytes = 1 + prng_below(prng, sizeof data) };
	const uint32_t place = format_place(building->used, bytes);

	fill(prng, data, key.bytes);
	if (!tombstone && prng_below(prng, 4) == 0) {
		key.slice = 1 + prng_below(prng, 100);
		key.version = prng_next(prng);
	}
	cache_key_hash(&key, sample->super->secret);
	const uint32_t stored_key = cache_key_stored_bytes(&key);
	const uint32_t rows = sample->row_count - building->first + 1;
	const uint32_t table = rows * FORMAT_ROW + building->key_bytes + stored_key;
	if (sample->row_count == SAMPLE_ROWS_MAX || place + bytes + table + 64 > building->room)
		return false;
	fill(prng, building->at + place, bytes);
	cache_key_store(&key, building->keys + building->key_bytes);
	building->key_bytes += stored_key;
	building->used = tombstone ? building->used : place + bytes;
	sample->row[sample->row_count++] = (struct format_row){
		.hash = key.hash,
		.checksum = tombstone ? 0 : cache_key_checksum(&key, building->at + place, bytes),
		.seq = sample->header.born_seq + sample->row_count,
		.unit = tombstone ? 0 : (offset + place) / FORMAT_UNIT,
		.bytes = bytes,
		.expiry = prng_below(prng, 2) == 0 ? 0 : 1800000000 + prng_below(prng, 1000),
		.flags = tombstone                  ? ROW_TOMBSTONE
			 : prng_below(prng, 2) == 0 ? ROW_SUPERSEDES
						    : 0,
		.key_bytes = (uint16_t)stored_key,
		.slice = key.slice,
	};
	return true;
}

static void close_batch(struct sample *sample, struct building *building, uint32_t offset,
			uint32_t index)
{
	const uint32_t rows = sample->row_count - building->first;
	const uint32_t table_bytes = rows * FORMAT_ROW + building->key_bytes;
	const uint32_t table = (building->used + 7) / 8 * 8;
	struct format_batch batch = {
		.generation = sample->header.generation,
		.flush = 1 + index,
		.first_seq = sample->header.born_seq,
		.partition = sample->header.partition,
		.segment = sample->header.segment,
		.offset = offset,
		.bytes = (table + table_bytes + FORMAT_BLOCK - 1) / FORMAT_BLOCK * FORMAT_BLOCK,
		.rows = rows,
		.table = table,
		.table_bytes = table_bytes,
		.parts = 1,
	};

	for (uint32_t i = 0; i < rows; i++) {
		format_row_encode(&sample->row[building->first + i],
				  building->at + table + i * FORMAT_ROW);
		sample->row_batch[building->first + i] = index;
	}
	memcpy(building->at + table + rows * FORMAT_ROW, building->keys, building->key_bytes);
	batch.table_checksum = format_checksum(building->at + table, table_bytes);
	format_batch_encode(&batch, sample->super->uuid, building->at);
	sample->batch[index] = batch;
}

static void put_footer(const struct sample *sample, uint8_t *image)
{
	const uint32_t segment_bytes = sample->super->segment_bytes;
	struct format_footer footer = {
		.generation = sample->header.generation,
		.born_seq = sample->header.born_seq,
		.last_flush = sample->batches,
		.partition = sample->header.partition,
		.segment = sample->header.segment,
		.lane = sample->header.lane,
		.rows = sample->row_count,
		.table = segment_bytes - format_footer_bytes(sample->row_count),
		.expiry_max = UINT32_MAX,
	};

	for (uint32_t i = 0; i < footer.rows; i++)
		format_row_encode(&sample->row[i], image + footer.table + i * FORMAT_ROW);
	footer.table_checksum =
		format_checksum(image + footer.table, (size_t)footer.rows * FORMAT_ROW);
	format_footer_encode(&footer, sample->super->uuid, image + segment_bytes - FORMAT_BLOCK);
}

void sample_segment(struct sample *sample, struct prng *prng, uint8_t *image)
{
	const uint32_t segment_bytes = sample->super->segment_bytes;
	const uint32_t wanted = sample->batches;
	const uint32_t end = segment_bytes - format_footer_bytes(SAMPLE_ROWS_MAX);
	uint32_t at = FORMAT_BLOCK;
	struct building *building = malloc(sizeof *building);

	HAUL_ASSERT(building != NULL && sample->rows_max >= 1);
	memset(image, 0, segment_bytes);
	format_segment_encode(&sample->header, sample->super->uuid, image);
	sample->batches = 0;
	sample->row_count = 0;
	while (sample->batches < wanted && sample->batches < SAMPLE_BATCHES_MAX &&
	       at + 2 * FORMAT_BLOCK <= end) {
		building->at = image + at;
		building->used = FORMAT_BATCH_HEADER;
		building->room = end - at;
		building->key_bytes = 0;
		building->first = sample->row_count;
		const uint32_t rows = 1 + prng_below(prng, sample->rows_max);
		for (uint32_t i = 0; i < rows; i++)
			if (!add_row(sample, building, prng, at))
				break;
		close_batch(sample, building, at, sample->batches);
		at += sample->batch[sample->batches++].bytes;
	}
	if (sample->footer)
		put_footer(sample, image);
	free(building);
}

/* ---- repair ---- */

bool sample_repair_block(uint8_t *block, size_t bytes)
{
	size_t cover = FORMAT_BLOCK;

	if (bytes < FORMAT_BATCH_HEADER)
		return false;
	switch (le32_load(block + HEAD_OFF_MAGIC)) {
	case HEAD_MAGIC_BATCH:
		cover = FORMAT_BATCH_HEADER;
		break;
	case HEAD_MAGIC_SUPER:
	case HEAD_MAGIC_ROOT:
	case HEAD_MAGIC_SEGMENT:
	case HEAD_MAGIC_FOOTER:
		break;
	default:
		return false;
	}
	if (cover > bytes)
		return false;
	head_seal(block, cover);
	return true;
}

/* Offsets of fields that are put right, as numbers: docs/design/0012. */
enum {
	CHECKSUM_AT = 56,
	BATCH_ROWS_AT = 80,
	BATCH_TABLE_AT = 84,
	BATCH_TABLE_BYTES_AT = 88,
	FOOTER_ROWS_AT = 76,
	FOOTER_TABLE_AT = 80,
	ROW_CHECKSUM_AT = 8
};

/* Values first: their checksums are in the table. */
static void repair_values(uint8_t *image, uint32_t segment_bytes, uint64_t secret, uint8_t *table,
			  uint32_t rows, uint32_t table_bytes)
{
	uint32_t key_at = rows * FORMAT_ROW;

	for (uint32_t i = 0; i < rows; i++) {
		uint8_t *at = table + i * FORMAT_ROW;
		struct format_row row;
		struct cache_key key;
		if (format_row_decode(at, segment_bytes, &row) < 0 ||
		    row.key_bytes > table_bytes - key_at)
			return;
		if (cache_key_load(table + key_at, row.key_bytes, row.slice, secret, &key) == 0) {
			le64_store(at, key.hash);
			if ((row.flags & ROW_TOMBSTONE) == 0)
				le64_store(at + ROW_CHECKSUM_AT,
					   cache_key_checksum(&key, image + row.unit * FORMAT_UNIT,
							      row.bytes));
		}
		key_at += row.key_bytes;
	}
}

static void repair_batch(uint8_t *image, uint32_t segment_bytes, uint64_t secret, uint32_t at)
{
	const uint32_t table = le32_load(image + at + BATCH_TABLE_AT);
	const uint32_t bytes = le32_load(image + at + BATCH_TABLE_BYTES_AT);
	const uint32_t rows = le32_load(image + at + BATCH_ROWS_AT);

	if ((uint64_t)at + table + bytes > segment_bytes || (uint64_t)rows * FORMAT_ROW > bytes ||
	    table < FORMAT_BATCH_HEADER)
		return;
	repair_values(image, segment_bytes, secret, image + at + table, rows, bytes);
	le64_store(image + at + CHECKSUM_AT, format_checksum(image + at + table, bytes));
}

static void repair_footer(uint8_t *image, uint32_t at)
{
	const uint32_t table = le32_load(image + at + FOOTER_TABLE_AT);
	const uint64_t bytes = (uint64_t)le32_load(image + at + FOOTER_ROWS_AT) * FORMAT_ROW;

	if (table + bytes <= at)
		le64_store(image + at + CHECKSUM_AT, format_checksum(image + table, bytes));
}

void sample_repair_segment(uint8_t *image, uint32_t segment_bytes, uint64_t secret)
{
	for (uint32_t at = 0; at + FORMAT_BLOCK <= segment_bytes; at += FORMAT_BLOCK) {
		const uint32_t magic = le32_load(image + at + HEAD_OFF_MAGIC);
		if (magic == HEAD_MAGIC_BATCH)
			repair_batch(image, segment_bytes, secret, at);
		else if (magic == HEAD_MAGIC_FOOTER)
			repair_footer(image, at);
		(void)sample_repair_block(image + at, segment_bytes - at);
	}
}
