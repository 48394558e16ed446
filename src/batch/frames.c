/* Receive and send batches.
 *
 * All columns of a batch lie in one block, each on its own cache lines, the widest first.
 *
 * Grouping is a counting sort by peer: one pass numbers the peers in order of first appearance
 * (open addressing, at most half full) and counts their frames, one pass turns counts into places,
 * one pass hands out the places in frame order. The last pass walks the frames from first to last,
 * so frames of one peer keep their order; each pass is linear in the frames in use, whatever the
 * capacity. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include <haul/frames.h>
#include "base/assert.h"
#include "base/columns.h"
#include "base/hash.h"

int haul_frames_init(struct haul_frames *frames, uint32_t capacity)
{
	if (capacity < 1 || capacity > HAUL_FRAMES_MAX)
		return -EINVAL;
	uint32_t n = capacity;
	size_t bytes =
		2 * columns_bytes(n, sizeof(uint8_t *)) + 5 * columns_bytes(n, sizeof(uint32_t)) +
		3 * columns_bytes(n, sizeof(uint16_t)) + columns_bytes(n, sizeof(struct haul_addr));
	uint8_t *block = columns_alloc(bytes);
	if (!block)
		return -ENOMEM;

	uint8_t *at = block;
	*frames = (struct haul_frames){ .capacity = capacity };
	frames->data = columns_take(&at, n, sizeof *frames->data);
	frames->tail = columns_take(&at, n, sizeof *frames->tail);
	frames->len = columns_take(&at, n, sizeof *frames->len);
	frames->tail_len = columns_take(&at, n, sizeof *frames->tail_len);
	frames->peer = columns_take(&at, n, sizeof *frames->peer);
	frames->from = columns_take(&at, n, sizeof *frames->from);
	frames->status = columns_take(&at, n, sizeof *frames->status);
	frames->flags = columns_take(&at, n, sizeof *frames->flags);
	frames->csum_start = columns_take(&at, n, sizeof *frames->csum_start);
	frames->csum_offset = columns_take(&at, n, sizeof *frames->csum_offset);
	frames->addr = columns_take(&at, n, sizeof *frames->addr);
	HAUL_ASSERT(at == block + bytes);
	return 0;
}

void haul_frames_done(struct haul_frames *frames)
{
	if (!frames)
		return;
	free(frames->data); /* the first column is where the block starts */
	memset(frames, 0, sizeof *frames);
}

int haul_frames_push(struct haul_frames *frames, const struct haul_frame *row)
{
	HAUL_ASSERT(row->data != NULL && row->len >= 1);
	HAUL_ASSERT(row->tail != NULL || row->tail_len == 0);
	HAUL_ASSERT((uint64_t)row->len + row->tail_len <= HAUL_FRAME_BYTES_MAX);
	uint32_t i = frames->count;
	if (i == frames->capacity)
		return HAUL_EFULL;
	frames->data[i] = row->data;
	frames->tail[i] = row->tail;
	frames->len[i] = row->len;
	frames->tail_len[i] = row->tail_len;
	frames->peer[i] = row->peer;
	frames->from[i] = 0;
	frames->flags[i] = row->flags;
	frames->csum_start[i] = row->csum_start;
	frames->csum_offset[i] = row->csum_offset;
	frames->status[i] = 0;
	frames->count = i + 1;
	return 0;
}

uint32_t haul_frame_copy(const struct haul_frames *frames, uint32_t i, uint8_t *out)
{
	HAUL_ASSERT(i < frames->count);
	memcpy(out, frames->data[i], frames->len[i]);
	if (frames->tail_len[i] > 0)
		memcpy(out + frames->len[i], frames->tail[i], frames->tail_len[i]);
	return haul_frame_bytes(frames, i);
}

/* At least twice as many as there can be peers among count frames. */
static uint32_t slot_count(uint32_t count)
{
	uint32_t slots = 2;
	while (slots < 2 * count)
		slots *= 2;
	return slots;
}

int haul_send_batch_init(struct haul_send_batch *batch, uint32_t capacity)
{
	struct haul_send_batch b = { 0 };
	int rc = haul_frames_init(&b.frames, capacity);
	if (rc < 0)
		return rc;
	uint32_t n = capacity;
	uint8_t *at = columns_alloc(3 * columns_bytes(n, sizeof(uint32_t)) +
				    columns_bytes(n, sizeof(struct haul_group)) +
				    columns_bytes(slot_count(n), sizeof(uint32_t)));
	if (!at) {
		haul_frames_done(&b.frames);
		return -ENOMEM;
	}
	b.order = columns_take(&at, n, sizeof *b.order);
	b.group = columns_take(&at, n, sizeof *b.group);
	b.group_of = columns_take(&at, n, sizeof *b.group_of);
	b.cursor = columns_take(&at, n, sizeof *b.cursor);
	b.slot = columns_take(&at, slot_count(n), sizeof *b.slot);
	*batch = b;
	return 0;
}

void haul_send_batch_done(struct haul_send_batch *batch)
{
	if (!batch)
		return;
	haul_frames_done(&batch->frames);
	free(batch->order); /* the first column is where the block starts */
	memset(batch, 0, sizeof *batch);
}

/* Returns whether all frames go to one peer, and then the grouping is done: by far the usual case,
 * and it needs no table. */
static bool group_single(struct haul_send_batch *batch)
{
	const uint32_t *peer = batch->frames.peer;
	uint32_t count = batch->frames.count;
	uint32_t differing = 0;
	for (uint32_t i = 0; i < count; i++)
		differing |= peer[i] ^ peer[0];
	if (differing)
		return false;
	for (uint32_t i = 0; i < count; i++)
		batch->order[i] = i;
	batch->group[0] = (struct haul_group){ .peer = peer[0], .count = count };
	batch->group_count = 1;
	return true;
}

static uint32_t group_find(struct haul_send_batch *batch, uint32_t peer, uint32_t slot_mask)
{
	uint32_t at = (uint32_t)hash_u64(peer) & slot_mask;
	while (batch->slot[at] != 0) {
		uint32_t g = batch->slot[at] - 1;
		if (batch->group[g].peer == peer)
			return g;
		at = (at + 1) & slot_mask;
	}
	uint32_t g = batch->group_count++;
	HAUL_ASSERT(g < batch->frames.capacity);
	batch->group[g] = (struct haul_group){ .peer = peer };
	batch->slot[at] = g + 1;
	return g;
}

void haul_send_batch_group(struct haul_send_batch *batch)
{
	const struct haul_frames *frames = &batch->frames;
	HAUL_ASSERT(frames->count <= frames->capacity);
	if (batch->grouped == frames->count)
		return;
	batch->grouped = frames->count;
	batch->group_count = 0;
	if (frames->count == 0 || group_single(batch))
		return;

	uint32_t slots = slot_count(frames->count);
	memset(batch->slot, 0, slots * sizeof *batch->slot);
	for (uint32_t i = 0; i < frames->count; i++) {
		uint32_t g = group_find(batch, frames->peer[i], slots - 1);
		batch->group_of[i] = g;
		batch->group[g].count++;
	}
	uint32_t place = 0;
	for (uint32_t g = 0; g < batch->group_count; g++) {
		batch->group[g].first = place;
		batch->cursor[g] = place;
		place += batch->group[g].count;
	}
	HAUL_ASSERT(place == frames->count);
	for (uint32_t i = 0; i < frames->count; i++)
		batch->order[batch->cursor[batch->group_of[i]]++] = i;
}
