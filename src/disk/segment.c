/* The segments of a partition: who is in which state, and their footers. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "disk/shard_parts.h"

enum { GENERATIONS_LEFT = 1 << 15 }; /* when so few may be used, the root is written */

static void footer_done(struct io_op *op);

int segments_open(struct shard *shard)
{
	uint32_t count = shard->super->segments;
	HAUL_ASSERT(count >= FORMAT_SEGMENTS_MIN);
	shard->segments = calloc(count, sizeof *shard->segments);
	if (!shard->segments)
		return -ENOMEM;
	for (uint32_t s = 0; s < count; s++)
		shard->segments[s].next = SEGMENT_NONE;

	shard->footer_rows_max = shard->super->segment_bytes / CHUNK_ROW_SHARE;
	uint32_t bytes = format_footer_bytes(shard->footer_rows_max);
	for (uint32_t i = 0; i < FOOTERS; i++) {
		struct footer *footer = &shard->footers[i];
		footer->shard = shard;
		footer->data = aligned_alloc(FORMAT_BLOCK, bytes);
		if (!footer->data)
			return -ENOMEM; /* segments_close frees what there is */
		footer->op.done = footer_done;
		footer->op.owner = footer;
	}
	for (uint32_t i = 0; i < LANES; i++) {
		struct lane *lane = &shard->lanes[i];
		lane->segment = lane->first = lane->last = SEGMENT_NONE;
		lane->footer = malloc((size_t)shard->footer_rows_max * sizeof *lane->footer);
		if (!lane->footer)
			return -ENOMEM;
	}
	shard->erase_block = aligned_alloc(FORMAT_BLOCK, FORMAT_BLOCK);
	if (!shard->erase_block)
		return -ENOMEM;
	memset(shard->erase_block, 0, FORMAT_BLOCK);
	return 0;
}

void segments_close(struct shard *shard)
{
	for (uint32_t i = 0; i < FOOTERS; i++)
		free(shard->footers[i].data);
	for (uint32_t i = 0; i < LANES; i++)
		free(shard->lanes[i].footer);
	free(shard->erase_block);
	free(shard->segments);
}

/* ---- taking ---- */

static uint32_t segment_find_free(const struct shard *shard)
{
	uint32_t count = shard->super->segments;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t s = (shard->free_hint + i) % count;
		if (shard->segments[s].state == SEGMENT_FREE)
			return s;
	}
	return SEGMENT_NONE;
}

uint32_t segment_take_apart(struct shard *shard, enum lane_id lane, bool background)
{
	uint64_t bound = shard->root.generation_bound;
	if (shard->next_generation + GENERATIONS_LEFT >= bound)
		shard->root_dirty = true; /* the next one raises it */
	if (shard->free_count <= (background ? 0 : FREE_MIN) || shard->next_generation >= bound)
		return SEGMENT_NONE;
	uint32_t s = segment_find_free(shard);
	HAUL_ASSERT(s != SEGMENT_NONE);
	shard->free_hint = s + 1;
	shard->free_count--;
	shard->segments[s] = (struct segment){
		.generation = shard->next_generation++,
		.born_seq = shard->next_seq,
		.append = FORMAT_BLOCK,
		.durable = FORMAT_BLOCK,
		.next = SEGMENT_NONE,
		.state = SEGMENT_OPEN,
		.lane = (uint8_t)lane,
	};
	shard->lanes[lane].count++;
	return s;
}

uint32_t segment_take(struct shard *shard, enum lane_id lane, bool background)
{
	HAUL_ASSERT(lane < LANES && shard->lanes[lane].segment == SEGMENT_NONE);
	uint32_t s = segment_take_apart(shard, lane, background);
	if (s != SEGMENT_NONE) {
		shard->lanes[lane].segment = s;
		shard->lanes[lane].footer_rows = 0;
	}
	return s;
}

static void segment_free(struct shard *shard, uint32_t segment)
{
	shard->segments[segment] = (struct segment){ .next = SEGMENT_NONE };
	shard->free_count++;
}

/* ---- footers ---- */

/* Write what is left of it, piece by piece. */
static void footer_write(struct footer *footer)
{
	struct shard *shard = footer->shard;
	uint32_t left = footer->bytes - footer->written;
	footer->op.kind = IO_WRITE;
	footer->op.bytes = left < HAUL_DISK_SPLIT ? left : HAUL_DISK_SPLIT;
	footer->op.data = footer->data + footer->written;
	footer->op.offset = segment_offset(shard, footer->segment) + shard->super->segment_bytes -
			    footer->bytes + footer->written;
	queue_put(&shard->queue, &footer->op, QUEUE_BACKGROUND);
}

static void footer_end(struct footer *footer)
{
	struct segment *segment = &footer->shard->segments[footer->segment];
	HAUL_ASSERT(segment->readers > 0);
	segment->readers--;
	footer->busy = false;
	footer->started = false;
}

static void footer_done(struct io_op *op)
{
	struct footer *footer = op->owner;
	struct shard *shard = footer->shard;
	if (op->result < 0) {
		/* Without one the segment is walked by its batches. */
		shard->segments[footer->segment].sealed_footer = false;
		haul_stats_count(&shard->flush_stats, FLUSH_FOOTERS_LOST, 1);
		footer_end(footer);
		return;
	}
	footer->written += op->bytes;
	shard->stat.device_bytes += op->bytes;
	haul_stats_count(&shard->flush_stats, FLUSH_DEVICE_BYTES, op->bytes);
	if (footer->written < footer->bytes) {
		footer_write(footer);
	} else {
		haul_stats_count(&shard->flush_stats, FLUSH_FOOTERS, 1);
		footer_end(footer);
	}
}

/* All before it is durable now. */
static void footer_start(struct footer *footer)
{
	struct shard *shard = footer->shard;
	struct segment *segment = &shard->segments[footer->segment];
	struct format_footer head = {
		.generation = segment->generation,
		.born_seq = segment->born_seq,
		.last_flush = shard->durable_flush,
		.partition = shard->options.partition,
		.segment = footer->segment,
		.lane = segment->lane,
		.rows = footer->rows,
		.table = shard->super->segment_bytes - footer->bytes,
		.expiry_max = segment->expiry_max,
		.table_checksum = format_checksum(footer->data, (size_t)footer->rows * FORMAT_ROW),
	};
	format_footer_encode(&head, shard->super->uuid,
			     footer->data + footer->bytes - FORMAT_BLOCK);
	footer->started = true;
	footer->written = 0;
	segment->readers++; /* nobody may take the segment while a write to it is under way */
	footer_write(footer);
}

void segment_footers(struct shard *shard)
{
	for (uint32_t i = 0; i < FOOTERS; i++) {
		struct footer *footer = &shard->footers[i];
		if (!footer->busy || footer->started)
			continue;
		struct segment *segment = &shard->segments[footer->segment];
		if (segment->state != SEGMENT_SEALED || !segment->sealed_footer)
			footer->busy = false; /* it was lost, or is being emptied already */
		else if (!segment->chunks)
			footer_start(footer);
	}
}

bool segment_footers_idle(const struct shard *shard)
{
	for (uint32_t i = 0; i < FOOTERS; i++) {
		if (shard->footers[i].busy)
			return false;
	}
	return true;
}

struct footer *segment_footer_spare(struct shard *shard)
{
	for (uint32_t i = 0; i < FOOTERS; i++) {
		if (!shard->footers[i].busy)
			return &shard->footers[i];
	}
	return NULL;
}

void segment_footer_fill(struct footer *footer, uint32_t segment, const struct format_row *rows,
			 uint32_t row_count)
{
	HAUL_ASSERT(!footer->started && row_count <= footer->shard->footer_rows_max);
	footer->busy = true;
	footer->segment = segment;
	footer->rows = row_count;
	footer->bytes = format_footer_bytes(row_count);
	for (uint32_t i = 0; i < row_count; i++)
		format_row_encode(&rows[i], footer->data + (size_t)i * FORMAT_ROW);
	size_t used = (size_t)row_count * FORMAT_ROW;
	memset(footer->data + used, 0, footer->bytes - used);
}

uint32_t segment_footer_move(struct footer *footer, uint32_t to)
{
	struct shard *shard = footer->shard;
	const struct segment *segment = &shard->segments[to];
	uint32_t rows = 0;
	HAUL_ASSERT(!footer->started);
	for (const struct chunk *chunk = segment->chunks; chunk; chunk = chunk->next_segment) {
		HAUL_ASSERT(rows + chunk->row_count <= shard->footer_rows_max);
		uint8_t *out = footer->data + (size_t)rows * FORMAT_ROW;
		for (uint32_t i = 0; i < chunk->row_count; i++)
			format_row_encode(&chunk->rows[i], out + (size_t)i * FORMAT_ROW);
		rows += chunk->row_count;
	}
	footer->segment = to;
	footer->rows = rows;
	footer->bytes = format_footer_bytes(rows);
	size_t used = (size_t)rows * FORMAT_ROW;
	memset(footer->data + used, 0, footer->bytes - used);
	return rows;
}

/* ---- sealing ---- */

void segment_link(struct shard *shard, uint32_t segment)
{
	struct lane *lane = &shard->lanes[shard->segments[segment].lane];
	shard->segments[segment].next = SEGMENT_NONE;
	if (lane->last == SEGMENT_NONE)
		lane->first = segment;
	else
		shard->segments[lane->last].next = segment;
	lane->last = segment;
}

void segment_seal(struct shard *shard, enum lane_id id)
{
	struct lane *lane = &shard->lanes[id];
	if (lane->chunk)
		lane_close_chunk(shard, id);
	uint32_t s = lane->segment;
	if (s == SEGMENT_NONE)
		return;
	struct segment *segment = &shard->segments[s];
	HAUL_ASSERT(segment->state == SEGMENT_OPEN && segment->rows == lane->footer_rows);
	lane->segment = SEGMENT_NONE;
	if (segment->rows == 0) {
		HAUL_ASSERT(!segment->chunks);
		lane->count--;
		segment_free(shard, s); /* nothing was written to it */
		return;
	}
	segment->state = SEGMENT_SEALED;
	segment_link(shard, s);
	struct footer *footer = segment_footer_spare(shard);
	if (footer) {
		segment->sealed_footer = true;
		segment_footer_fill(footer, s, lane->footer, lane->footer_rows);
		segment_footers(shard);
	}
	lane->footer_rows = 0;
}

void segment_unlink(struct shard *shard, uint32_t segment)
{
	struct lane *lane = &shard->lanes[shard->segments[segment].lane];
	uint32_t *link = &lane->first;
	uint32_t before = SEGMENT_NONE;
	while (*link != SEGMENT_NONE && *link != segment) {
		before = *link;
		link = &shard->segments[*link].next;
	}
	HAUL_ASSERT(*link == segment && lane->count > 0);
	*link = shard->segments[segment].next;
	if (lane->last == segment)
		lane->last = before;
	shard->segments[segment].next = SEGMENT_NONE;
	lane->count--;
}

/* ---- losing and emptying ---- */

void segment_retire(struct shard *shard, uint32_t segment, uint32_t good_bytes)
{
	struct segment *seg = &shard->segments[segment];
	if (seg->state == SEGMENT_SEALED) {
		segment_unlink(shard, segment);
	} else if (seg->state == SEGMENT_OPEN) {
		struct lane *lane = &shard->lanes[seg->lane];
		if (lane->segment == segment)
			lane->segment = SEGMENT_NONE;
		lane->count--;
	} else if (seg->state == SEGMENT_ERASE) {
		shard->erase_count--;
	} else if (seg->state == SEGMENT_FREE) {
		shard->free_count--;
	}
	if (seg->state != SEGMENT_BAD) {
		shard->bad_count++;
		haul_stats_count(&shard->flush_stats, FLUSH_QUARANTINED, 1);
	}
	seg->state = SEGMENT_BAD;
	seg->sealed_footer = false;
	if (good_bytes <= FORMAT_BLOCK)
		seg->born_seq = UINT64_MAX; /* nothing older can be found there */
	shard->hides = true;
	if (!root_set_bad(shard, segment, good_bytes))
		shard->offline = true; /* no more can be remembered: the device is worn out */
}

struct lost {
	struct shard *shard;
	uint32_t segment;
	uint32_t good_bytes;
};

static bool segment_lost(const struct index_slot *slot, void *arg)
{
	struct lost *lost = arg;
	struct index_entry entry;
	index_unpack(slot, &entry);
	if (entry.segment != lost->segment || (uint64_t)entry.unit * FORMAT_UNIT < lost->good_bytes)
		return false;
	shard_let_go(lost->shard, slot);
	return true;
}

void segment_quarantine(struct shard *shard, uint32_t segment, uint32_t good_bytes)
{
	struct lost lost = { shard, segment, good_bytes };
	HAUL_ASSERT(segment < shard->super->segments);
	HAUL_ASSERT(!shard->segments[segment].chunks);
	segment_retire(shard, segment, good_bytes);
	if (shard->segments[segment].live_entries > 0)
		index_delete_if(&shard->index, segment_lost, &lost);
}

static void erase_push(struct shard *shard, uint32_t segment)
{
	shard->segments[segment].erasing = false;
	shard->segments[segment].next = shard->erase_first;
	shard->erase_first = segment;
}

void segment_erase(struct shard *shard, uint32_t segment)
{
	struct segment *seg = &shard->segments[segment];
	HAUL_ASSERT(seg->state == SEGMENT_RECLAIM && !seg->chunks);
	seg->state = SEGMENT_ERASE;
	shard->erase_count++;
	erase_push(shard, segment);
}

uint32_t segment_erase_next(struct shard *shard)
{
	uint32_t *link = &shard->erase_first;
	/* An open may doubt a flush that the root does not say is proven, and then must not miss a
	 * part of it. */
	while (*link != SEGMENT_NONE && shard->segments[*link].last_flush > shard->root_proven) {
		shard->root_dirty = true;
		link = &shard->segments[*link].next;
	}
	uint32_t segment = *link;
	if (segment == SEGMENT_NONE)
		return segment;
	HAUL_ASSERT(shard->segments[segment].state == SEGMENT_ERASE);
	*link = shard->segments[segment].next;
	shard->segments[segment].next = SEGMENT_NONE;
	shard->segments[segment].erasing = true;
	return segment;
}

void segment_erase_again(struct shard *shard, uint32_t segment)
{
	HAUL_ASSERT(shard->segments[segment].erasing);
	erase_push(shard, segment);
}

void segment_erased(struct shard *shard, uint32_t segment)
{
	HAUL_ASSERT(shard->segments[segment].state == SEGMENT_ERASE && shard->erase_count > 0);
	shard->erase_count--;
	shard->segments[segment].erasing = false;
	shard->segments[segment].state = SEGMENT_RECLAIM;
	if (!reclaim_erased(shard, segment))
		segment_emptied(shard, segment);
}

void segment_emptied(struct shard *shard, uint32_t segment)
{
	const struct segment *seg = &shard->segments[segment];
	HAUL_ASSERT(seg->state == SEGMENT_RECLAIM && seg->live_entries == 0);
	HAUL_ASSERT(seg->readers == 0 && !seg->chunks);
	segment_free(shard, segment);
}

void segments_recovered(struct shard *shard)
{
	shard->erase_first = SEGMENT_NONE;
	for (uint32_t s = 0; s < shard->super->segments; s++) {
		if (shard->segments[s].state == SEGMENT_ERASE)
			erase_push(shard, s);
	}
}

void segment_live(struct shard *shard, uint32_t segment, int32_t entries, int64_t bytes)
{
	struct segment *seg = &shard->segments[segment];
	HAUL_ASSERT(entries >= 0 || seg->live_entries >= (uint32_t)-entries);
	HAUL_ASSERT(bytes >= 0 || seg->live_bytes >= (uint64_t)-bytes);
	seg->live_entries += (uint32_t)entries;
	seg->live_bytes += (uint64_t)bytes;
}
