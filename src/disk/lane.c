/* Lanes: batches being filled. A value is copied once, to where it lies in its batch, and its
 * checksum is taken right before or after, while it is in the cache of the CPU. */
#include <errno.h>
#include <string.h>

#include <haul/cache.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "disk/shard_parts.h"

static uint32_t blocks_up(uint32_t bytes)
{
	return (bytes + FORMAT_BLOCK - 1) / FORMAT_BLOCK * FORMAT_BLOCK;
}

/* ---- the shape of a batch ---- */

static uint32_t table_bytes(const struct chunk *chunk)
{
	return chunk->row_count * FORMAT_ROW + chunk->key_bytes;
}

/* Where the table goes once all values are in. */
static uint32_t table_offset(const struct chunk *chunk)
{
	if (chunk->first_block_free && FORMAT_BATCH_HEADER + table_bytes(chunk) <= FORMAT_BLOCK)
		return FORMAT_BATCH_HEADER;
	return (chunk->used + 7) / 8 * 8;
}

static uint32_t batch_bytes(const struct chunk *chunk)
{
	uint32_t end = table_offset(chunk) + table_bytes(chunk);
	return blocks_up(end > chunk->used ? end : chunk->used);
}

/* What the batch would take with one more value; no less than it will. */
static uint32_t batch_bytes_with(const struct chunk *chunk, uint32_t bytes, uint32_t key_bytes)
{
	uint32_t at = format_place(chunk->used, bytes);
	return blocks_up(at + bytes + 1 + 8 + table_bytes(chunk) + FORMAT_ROW + key_bytes);
}

static bool chunk_fits(const struct shard *shard, const struct chunk *chunk, uint32_t bytes,
		       uint32_t key_bytes)
{
	const struct lane *lane = &shard->lanes[chunk->lane];
	uint32_t rows = lane->footer_rows + chunk->row_count + 1;
	uint32_t need = batch_bytes_with(chunk, bytes, key_bytes);
	return chunk->row_count < shard->chunk_rows &&
	       chunk->key_bytes + key_bytes <= shard->chunk_key_bytes && need <= chunk->room &&
	       rows <= shard->footer_rows_max &&
	       chunk->base + need + format_footer_bytes(rows) <= shard->super->segment_bytes;
}

/* Whether an empty segment could hold it. */
static bool chunk_could(const struct shard *shard, uint32_t bytes, uint32_t key_bytes)
{
	struct chunk empty = { .used = FORMAT_BATCH_HEADER };
	uint32_t need = batch_bytes_with(&empty, bytes, key_bytes);
	return need <= shard->chunk_bytes &&
	       FORMAT_BLOCK + need + format_footer_bytes(1) <= shard->super->segment_bytes;
}

/* ---- chunks ---- */

void chunk_free(struct shard *shard, struct chunk *chunk)
{
	HAUL_ASSERT(shard->chunk_free_count < shard->chunk_count);
	chunk->next = shard->chunk_free;
	shard->chunk_free = chunk;
	shard->chunk_free_count++;
}

static void chunk_link(struct segment *segment, struct chunk *chunk)
{
	struct chunk **link = &segment->chunks;
	while (*link)
		link = &(*link)->next_segment;
	*link = chunk;
	chunk->next_segment = NULL;
}

/* Chunks that the next flush would carry, if those open now were closed. */
static uint32_t gathered_chunks(const struct shard *shard)
{
	uint32_t count = shard->gathering.chunks;
	for (uint32_t i = 0; i < LANES; i++)
		count += shard->lanes[i].chunk != NULL;
	return count;
}

static int chunk_open(struct shard *shard, enum lane_id id, bool background)
{
	struct lane *lane = &shard->lanes[id];
	struct chunk *chunk = shard->chunk_free;
	if (!chunk || gathered_chunks(shard) >= shard->flush_chunks)
		return -EAGAIN;
	if (lane->segment == SEGMENT_NONE && segment_take(shard, id, background) == SEGMENT_NONE)
		return -EAGAIN;
	struct segment *segment = &shard->segments[lane->segment];
	shard->chunk_free = chunk->next;
	shard->chunk_free_count--;
	uint8_t *data = chunk->data;
	struct format_row *rows = chunk->rows;
	struct origin *origins = chunk->origins;
	uint8_t *keys = chunk->keys;
	*chunk = (struct chunk){
		.data = data,
		.rows = rows,
		.origins = origins,
		.keys = keys,
		.segment = lane->segment,
		.base = segment->append,
		.head = segment->append == FORMAT_BLOCK ? FORMAT_BLOCK : 0,
		.used = FORMAT_BATCH_HEADER,
		.room = shard->chunk_bytes,
		.lane = id,
		.first_block_free = true,
	};
	chunk_link(segment, chunk);
	lane->chunk = chunk;
	return 0;
}

/* An open chunk that holds nothing is given back. */
static void chunk_drop(struct shard *shard, struct lane *lane)
{
	struct chunk *chunk = lane->chunk;
	struct chunk **link = &shard->segments[chunk->segment].chunks;
	HAUL_ASSERT(chunk->row_count == 0);
	while (*link != chunk)
		link = &(*link)->next_segment;
	*link = NULL; /* it is the last */
	lane->chunk = NULL;
	chunk_free(shard, chunk);
}

void lane_close_chunk(struct shard *shard, enum lane_id id)
{
	struct lane *lane = &shard->lanes[id];
	struct gathering *gathering = &shard->gathering;
	struct chunk *chunk = lane->chunk;
	if (!chunk)
		return;
	if (chunk->row_count == 0) {
		chunk_drop(shard, lane);
		return;
	}
	struct segment *segment = &shard->segments[chunk->segment];
	HAUL_ASSERT(chunk->segment == lane->segment && segment->append == chunk->base);
	HAUL_ASSERT(lane->footer_rows + chunk->row_count <= shard->footer_rows_max);
	chunk->bytes = batch_bytes(chunk);
	segment->append += chunk->bytes;
	segment->rows += chunk->row_count;
	memcpy(lane->footer + lane->footer_rows, chunk->rows,
	       chunk->row_count * sizeof *chunk->rows);
	lane->footer_rows += chunk->row_count;
	lane->chunk = NULL;

	chunk->next = NULL;
	if (gathering->full)
		gathering->full_last->next = chunk;
	else
		gathering->full = chunk;
	gathering->full_last = chunk;
	gathering->chunks++;
}

void chunk_encode(struct shard *shard, struct chunk *chunk)
{
	const struct segment *segment = &shard->segments[chunk->segment];
	uint32_t at = table_offset(chunk);
	uint32_t bytes = table_bytes(chunk);
	uint8_t *table = chunk->data + at;
	HAUL_ASSERT(chunk->bytes == batch_bytes(chunk) && chunk->part < chunk->parts);
	for (uint32_t i = 0; i < chunk->row_count; i++)
		format_row_encode(&chunk->rows[i], table + (size_t)i * FORMAT_ROW);
	memcpy(table + (size_t)chunk->row_count * FORMAT_ROW, chunk->keys, chunk->key_bytes);
	/* What no row and no value covers holds what an earlier batch left. */
	/* A table of deletes alone begins there too, and may be longer. */
	if (at == FORMAT_BATCH_HEADER && at + bytes <= FORMAT_BLOCK) {
		memset(table + bytes, 0, FORMAT_BLOCK - at - bytes);
		/* With tombstones only, no value lies behind the first block. */
		uint32_t end = chunk->used > FORMAT_BLOCK ? chunk->used : FORMAT_BLOCK;
		memset(chunk->data + end, 0, chunk->bytes - end);
	} else {
		memset(chunk->data + chunk->used, 0, at - chunk->used);
		memset(table + bytes, 0, chunk->bytes - at - bytes);
		if (chunk->first_block_free)
			memset(chunk->data + FORMAT_BATCH_HEADER, 0,
			       at < FORMAT_BLOCK ? at - FORMAT_BATCH_HEADER
						 : FORMAT_BLOCK - FORMAT_BATCH_HEADER);
	}
	struct format_batch batch = {
		.generation = segment->generation,
		.flush = chunk->flush,
		.first_seq = chunk->first_seq,
		.partition = shard->options.partition,
		.segment = chunk->segment,
		.offset = chunk->base,
		.bytes = chunk->bytes,
		.rows = chunk->row_count,
		.table = at,
		.table_bytes = bytes,
		.part = (uint16_t)chunk->part,
		.parts = (uint16_t)chunk->parts,
		.table_checksum = format_checksum(table, bytes),
	};
	format_batch_encode(&batch, shard->super->uuid, chunk->data);
	if (chunk->head == 0)
		return;
	struct format_segment head = {
		.generation = segment->generation,
		.born_seq = segment->born_seq,
		.partition = shard->options.partition,
		.segment = chunk->segment,
		.lane = chunk->lane,
		.created = shard_now_s(shard),
	};
	format_segment_encode(&head, shard->super->uuid, chunk->data - FORMAT_BLOCK);
}

const uint8_t *chunk_value(const struct shard *shard, uint32_t segment, uint32_t unit)
{
	uint32_t offset = unit * FORMAT_UNIT;
	for (const struct chunk *chunk = shard->segments[segment].chunks; chunk;
	     chunk = chunk->next_segment) {
		if (offset >= chunk->base && offset < chunk->base + chunk->used)
			return chunk->data + (offset - chunk->base);
	}
	return NULL;
}

/* ---- appending ---- */

int lane_ready(struct shard *shard, enum lane_id id, uint32_t bytes, uint32_t key_bytes,
	       bool background)
{
	struct lane *lane = &shard->lanes[id];
	if (shard->flushing_stopped)
		return -ENODEV;
	if (lane->chunk && chunk_fits(shard, lane->chunk, bytes, key_bytes))
		return 0;
	if (bytes > FORMAT_VALUE_MAX || !chunk_could(shard, bytes, key_bytes))
		return HAUL_ELIMIT;
	/* At most: close the chunk; open one; there it does not fit, so seal; open one. */
	for (uint32_t tries = 0; tries < 4; tries++) {
		int error = lane->chunk ? 0 : chunk_open(shard, id, background);
		if (error) {
			shard->gathering.pressed = true;
			return error;
		}
		if (chunk_fits(shard, lane->chunk, bytes, key_bytes))
			return 0;
		if (lane->chunk->row_count > 0) {
			lane_close_chunk(shard, id);
			continue;
		}
		if (!segment_footer_spare(shard)) {
			shard->gathering.pressed = true;
			return -EAGAIN;
		}
		segment_seal(shard, id);
	}
	HAUL_ASSERT(false);
	return -EAGAIN;
}

static void expiry_raise(struct segment *segment, uint32_t expiry)
{
	uint32_t until = expiry == 0 ? UINT32_MAX : expiry;
	if (until > segment->expiry_max)
		segment->expiry_max = until;
}

/* Copy the value in; returns its unit. */
static uint32_t chunk_copy(struct chunk *chunk, const struct append *append)
{
	uint32_t at = format_place(chunk->used, append->row.bytes);
	uint8_t *to = chunk->data + at;
	uint32_t bytes = append->row.bytes;
	if (at >= FORMAT_BLOCK && chunk->used == FORMAT_BATCH_HEADER)
		chunk->used = FORMAT_BLOCK; /* the block before stays free for the table */
	else if (at < FORMAT_BLOCK)
		chunk->first_block_free = false;
	memset(chunk->data + chunk->used, 0, at - chunk->used);
	if (append->row.flags & ROW_FLAGS) {
		bytes -= 4;
		le32_store(to + bytes, append->client_flags);
	}
	if (bytes > 0)
		memcpy(to, append->stored, bytes);
	/* Every value takes a place of its own, an empty one too: place tells versions apart. */
	chunk->used = at + (append->row.bytes > 0 ? append->row.bytes : 1);
	if (append->row.bytes == 0)
		*to = 0;
	return (chunk->base + at) / FORMAT_UNIT;
}

int lane_append(struct shard *shard, enum lane_id id, struct append *append, uint32_t *ret_segment)
{
	uint32_t key_bytes = cache_key_stored_bytes(append->key);
	int error = lane_ready(shard, id, append->row.bytes, key_bytes, append->background);
	if (error)
		return error;
	struct chunk *chunk = shard->lanes[id].chunk;
	struct segment *segment = &shard->segments[chunk->segment];
	struct format_row *row = &append->row;
	row->key_bytes = (uint16_t)key_bytes;
	if (row->seq == 0)
		row->seq = shard->next_seq++;
	if (row->flags & ROW_TOMBSTONE) {
		HAUL_ASSERT(row->bytes == 0);
		row->unit = chunk->base / FORMAT_UNIT;
		row->checksum = 0;
	} else {
		row->unit = chunk_copy(chunk, append);
		const uint8_t *value =
			chunk->data + ((uint64_t)row->unit * FORMAT_UNIT - chunk->base);
		if (!append->background && !append->checked)
			row->checksum = cache_key_checksum(append->key, value, row->bytes);
		expiry_raise(segment, row->expiry);
	}
	cache_key_store(append->key, chunk->keys + chunk->key_bytes);
	chunk->key_bytes += key_bytes;
	chunk->origins[chunk->row_count] = append->from;
	chunk->rows[chunk->row_count++] = *row;
	if (append->background)
		shard->gathering.background++;
	else
		chunk->users++;
	if (!shard->gathering.timed) {
		shard->gathering.first_ns = shard->os->now_ns(shard->os);
		shard->gathering.timed = true;
	}
	*ret_segment = chunk->segment;
	return 0;
}
