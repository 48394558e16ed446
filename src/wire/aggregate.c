/* wire/aggregate.c — many small frames in one message, each with its length.
 *
 * Promise: what was put in comes out as the same frames in the same order, without a copy.
 * Why it holds: split and count read only bodies that decode has walked; the asserts say again what
 * decode has found true, so a body from elsewhere stops the program instead of being believed. */
#include <haul/err.h>
#include <haul/message.h>
#include "wire/header.h"

uint32_t haul_aggregate_put(uint8_t *out, const struct haul_frames *frames, uint32_t i)
{
	HAUL_ASSERT(i < frames->count);
	const uint32_t bytes = haul_frame_bytes(frames, i);
	const bool partial = (frames->flags[i] & HAUL_FRAME_CSUM_PARTIAL) != 0;
	const uint32_t start = partial ? frames->csum_start[i] : 0;
	const uint32_t offset = partial ? frames->csum_offset[i] : 0;

	HAUL_ASSERT(bytes >= WIRE_FRAME_BYTES_MIN && bytes <= UINT16_MAX);
	HAUL_ASSERT(start <= WIRE_CSUM_MAX);
	HAUL_ASSERT(offset <= WIRE_CSUM_MAX);
	be16_store(out + WIRE_ENTRY_OFF_LENGTH, (uint16_t)bytes);
	out[WIRE_ENTRY_OFF_CSUM_START] = (uint8_t)start;
	out[WIRE_ENTRY_OFF_CSUM_OFFSET] = (uint8_t)offset;
	return WIRE_ENTRY_BYTES + haul_frame_copy(frames, i, out + WIRE_ENTRY_BYTES);
}

/* Bytes of the frame whose entry stands at this place of the body. */
static inline uint32_t entry_frame_len(const uint8_t *entry, uint32_t left)
{
	HAUL_ASSERT(left >= WIRE_ENTRY_BYTES + WIRE_FRAME_BYTES_MIN);
	const uint32_t frame_len = be16_load(entry + WIRE_ENTRY_OFF_LENGTH);
	HAUL_ASSERT(frame_len <= left - WIRE_ENTRY_BYTES);
	return frame_len;
}

int haul_aggregate_split(uint8_t *body, uint32_t body_len, uint32_t peer, struct haul_frames *out)
{
	uint32_t row = out->count;
	uint32_t frame_len;

	HAUL_ASSERT(body != NULL);
	for (uint32_t at = 0; at < body_len; at += WIRE_ENTRY_BYTES + frame_len) {
		uint8_t *entry = body + at;
		const uint8_t offset = entry[WIRE_ENTRY_OFF_CSUM_OFFSET];
		frame_len = entry_frame_len(entry, body_len - at);
		if (row == out->capacity)
			return HAUL_EFULL;
		out->data[row] = entry + WIRE_ENTRY_BYTES;
		out->tail[row] = NULL;
		out->len[row] = frame_len;
		out->tail_len[row] = 0;
		out->peer[row] = peer;
		out->from[row] = 0;
		out->flags[row] = offset != 0 ? HAUL_FRAME_CSUM_PARTIAL : 0;
		out->csum_start[row] = entry[WIRE_ENTRY_OFF_CSUM_START];
		out->csum_offset[row] = offset;
		out->status[row] = 0;
		row++;
	}
	const uint32_t appended = row - out->count;
	out->count = row;
	return (int)appended;
}

uint32_t haul_aggregate_count(const uint8_t *body, uint32_t body_len)
{
	uint32_t count = 0;

	HAUL_ASSERT(body != NULL);
	for (uint32_t at = 0; at < body_len; count++)
		at += WIRE_ENTRY_BYTES + entry_frame_len(body + at, body_len - at);
	return count;
}
