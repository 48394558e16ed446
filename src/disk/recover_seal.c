/* After recovery nothing is in doubt any more. Segments that were open are closed with a footer of
 * what counts in them, and headers of batches that do not count are erased; or the segment's header
 * is, when nothing does. When that is durable, the root says that all flushes until now are proven
 * (not before: what was dropped would be taken for good), and bounds the generations of the
 * segments that are opened from now on. Only then is anything new written. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "disk/recover_state.h"

/* Numbers of flushes that are left out: an open that power was cut in may have hidden the last
 * ones under a footer, where they are not seen as long as that is good. */
enum { FLUSHES_LEFT_OUT = 1 << 16 };

/* ---- footers ---- */

/* Rows of the segment that count, one behind the other. */
static uint32_t footer_rows(const struct recovery *recovery, uint32_t segment, uint8_t *out)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < recovery->walked_count; i++) {
		const struct walked *walked = &recovery->walked[i];
		if (walked->batch.segment != segment || walked->dropped || !walked->good)
			continue;
		for (uint32_t j = 0; j < walked->row_count; j++) {
			const struct format_row *row = &recovery->rows[walked->first_row + j];
			format_row_encode(row, out + (size_t)count * FORMAT_ROW);
			count++;
		}
	}
	return count;
}

/* Batches that were dropped, up to where the footer will be: when it rots, the segment is walked,
 * and nothing else would say that they do not count. */
static int dropped_erase(struct recovery *recovery, uint32_t segment, uint32_t end)
{
	struct shard *shard = recovery->shard;
	int rc = 0;
	for (uint32_t i = 0; i < recovery->walked_count && rc == 0; i++) {
		const struct walked *walked = &recovery->walked[i];
		uint32_t offset = walked->batch.offset;
		if (walked->batch.segment != segment || !walked->dropped || offset >= end)
			continue;
		rc = recover_write_one(recovery, segment_offset(shard, segment) + offset,
				       shard->erase_block, FORMAT_BLOCK);
	}
	return rc;
}

static int footer_write(struct recovery *recovery, uint32_t segment)
{
	const struct shard *shard = recovery->shard;
	struct found *found = &recovery->found[segment];
	struct reading *buffer = &recovery->window;
	uint32_t bytes = format_footer_bytes(found->rows);
	int rc = reading_alloc(buffer, bytes);
	if (rc < 0)
		return rc;
	buffer->recovery = NULL; /* it is no window now */
	uint32_t table = shard->super->segment_bytes - bytes;
	if (table < found->append)
		return HAUL_ECORRUPT;
	rc = dropped_erase(recovery, segment, table);
	if (rc < 0)
		return rc;
	memset(buffer->data, 0, bytes);
	struct format_footer footer = {
		.generation = found->header.generation,
		.born_seq = found->header.born_seq,
		.last_flush = found->last_flush,
		.partition = shard->options.partition,
		.segment = segment,
		.lane = found->header.lane,
		.rows = footer_rows(recovery, segment, buffer->data),
		.table = table,
		.expiry_max = found->expiry_max,
	};
	HAUL_ASSERT(footer.rows == found->rows);
	footer.table_checksum = format_checksum(buffer->data, (size_t)footer.rows * FORMAT_ROW);
	format_footer_encode(&footer, shard->super->uuid, buffer->data + bytes - FORMAT_BLOCK);
	uint64_t offset = segment_offset(shard, segment) + table;
	return recover_write_one(recovery, offset, buffer->data, bytes);
}

static int segment_close(struct recovery *recovery, uint32_t segment)
{
	struct shard *shard = recovery->shard;
	struct found *found = &recovery->found[segment];
	if (found->rows > 0)
		return footer_write(recovery, segment);
	return recover_write_one(recovery, segment_offset(shard, segment), shard->erase_block,
				 FORMAT_BLOCK);
}

static bool is_bad(const struct recovery *recovery, uint32_t segment)
{
	return recovery->found[segment].end < recovery->shard->super->segment_bytes;
}

/* ---- the root ---- */

static int root_write(struct recovery *recovery)
{
	struct shard *shard = recovery->shard;
	shard->root.flush_proven = shard->next_flush - 1;
	uint64_t offset = root_encode(shard);
	int rc = recover_write_one(recovery, offset, shard->root_block, FORMAT_BLOCK);
	if (rc == 0)
		rc = recover_sync(recovery);
	shard->root_dirty = rc < 0;
	if (rc == 0)
		root_written(shard);
	return rc;
}

/* Close what was open: segments in which a part of flush `twice` was dropped, or all that are
 * left. Returns how many were written to, or recovery->rc. */
static int segments_finish(struct recovery *recovery, uint64_t twice)
{
	int closed = 0;
	for (uint32_t s = 0; s < recovery->shard->super->segments; s++) {
		struct found *found = &recovery->found[s];
		if (!found->there || found->has_footer || is_bad(recovery, s))
			continue;
		if (twice != 0 && found->twice != twice)
			continue;
		int rc = found->unreadable ? -EIO : segment_close(recovery, s);
		if (rc == -ENOMEM || recovery->rc < 0)
			return rc;
		closed++;
		found->closed = true;
		if (rc < 0) {
			/* What counts in it still counts; nothing is written to it any more. */
			found->unreadable = true;
			found->end = found->append;
			continue;
		}
		found->has_footer = found->rows > 0;
		found->there = found->rows > 0;
	}
	return closed;
}

/* What was written can be read, perhaps, and is not on the disk: what counts in those segments
 * still counts, and nothing that is behind it. */
static void segments_doubt(struct recovery *recovery)
{
	for (uint32_t s = 0; s < recovery->shard->super->segments; s++) {
		struct found *found = &recovery->found[s];
		if (!found->closed)
			continue;
		found->unreadable = true;
		found->has_footer = false;
		found->end = found->append;
	}
}

/* A footer proves all flushes up to its last one. So the torn copy of a part that is whole
 * elsewhere has to be gone, durably, before a footer of its flush is there; the older flush
 * first. */
static int segments_close_all(struct recovery *recovery)
{
	int rc = 0;
	for (uint64_t flush = recovery->proven_flush + 1; flush <= recovery->last_flush; flush++) {
		int closed = segments_finish(recovery, flush);
		if (closed < 0)
			return closed;
		if (closed > 0 && rc == 0)
			rc = recover_sync(recovery);
	}
	int closed = rc == 0 ? segments_finish(recovery, 0) : 0;
	if (closed < 0)
		return closed;
	if (closed > 0)
		rc = recover_sync(recovery);
	recovery->unsafe = rc < 0;
	if (recovery->unsafe)
		segments_doubt(recovery);
	return recovery->rc;
}

int recover_seal(struct recovery *recovery)
{
	struct shard *shard = recovery->shard;
	if (shard->options.read_only)
		return 0;
	int rc = segments_close_all(recovery);
	if (rc < 0)
		return rc;
	for (uint32_t s = 0; s < shard->super->segments; s++) {
		if (recovery->found[s].unreadable)
			segment_retire(shard, s, recovery->found[s].end);
	}
	shard->next_flush += FLUSHES_LEFT_OUT;
	shard->durable_flush = shard->next_flush - 1;
	if (!recovery->unsafe)
		recovery->unsafe = root_write(recovery) < 0;
	if (recovery->rc < 0)
		return recovery->rc;
	if (recovery->unsafe) {
		/* Nothing may be written on top of what is in doubt. */
		shard->offline = true;
		shard->flushing_stopped = true;
	}
	return 0;
}

/* ---- the shard's tables ---- */

static void segment_fill(struct recovery *recovery, uint32_t s)
{
	struct shard *shard = recovery->shard;
	const struct found *found = &recovery->found[s];
	struct segment *segment = &shard->segments[s];
	uint8_t state = segment->state;
	if (!found->there)
		return;
	*segment = (struct segment){
		.generation = found->header.generation,
		.born_seq = found->header.born_seq,
		.append = found->append,
		.durable = found->append,
		.rows = found->rows,
		.expiry_max = found->expiry_max,
		.next = SEGMENT_NONE,
		.state = state,
		.lane = (uint8_t)found->header.lane,
		.sealed_footer = found->has_footer,
	};
	if (state == SEGMENT_BAD)
		return;
	segment->state = SEGMENT_SEALED;
	shard->free_count--;
}

struct by_generation {
	uint64_t generation;
	uint32_t segment;
};

static int compare_generations(const void *a, const void *b)
{
	const struct by_generation *left = a, *right = b;
	return (left->generation > right->generation) - (left->generation < right->generation);
}

static void lanes_link(struct shard *shard, const struct by_generation *order, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t s = order[i].segment;
		struct lane *lane = &shard->lanes[shard->segments[s].lane];
		if (lane->last == SEGMENT_NONE)
			lane->first = s;
		else
			shard->segments[lane->last].next = s;
		lane->last = s;
		lane->count++;
	}
}

int recover_segments_alloc(struct recovery *recovery)
{
	struct shard *shard = recovery->shard;
	uint32_t count = shard->super->segments, sealed = 0;
	struct by_generation *order = malloc((size_t)count * sizeof *order);
	if (order == NULL)
		return -ENOMEM;
	for (uint32_t s = 0; s < count; s++) {
		segment_fill(recovery, s);
		if (shard->segments[s].state != SEGMENT_SEALED)
			continue;
		order[sealed].generation = shard->segments[s].generation;
		order[sealed++].segment = s;
	}
	qsort(order, sealed, sizeof *order, compare_generations);
	lanes_link(shard, order, sealed);
	free(order);
	return 0;
}
