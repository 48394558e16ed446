/* link/segment.h — cut a superframe into frames without copying its payload.
 *
 * Model      The kernel hands over one TCP or UDP frame of up to 64 KiB and the size of a segment.
 *            segment_open checks it; segment_fill appends one row a segment to a batch: data is a
 *            fresh, corrected copy of all headers in an arena, with headroom before it; tail points
 *            into the superframe. A batch or an arena may be too small for all of them: call
 *            segment_fill again with the next ones until segment_done.
 * Ownership  rows point into the frame and the arena: both outlive the batch.
 * Memory     none but the arena's.
 * Threads    one at a time a struct segment.
 * Errors     segment_open: HAUL_ECORRUPT; then nothing of the superframe may be used. */
#pragma once

#include <haul/frames.h>
#include "link/headers.h"
#include "link/vnet.h"

/* Memory for headers, handed out from the front, taken back all at once. */
struct segment_arena {
	uint8_t *base;
	uint32_t bytes;
	uint32_t used;
};

struct segment {
	uint8_t *frame; /* the superframe */
	uint32_t len;   /* its bytes */
	uint32_t at;    /* offset of the payload not yet cut; len = done */
	uint32_t index; /* of the next segment */
	struct headers headers;
	uint16_t payload_bytes; /* of every segment but the last */
	uint16_t l4_sum;        /* pseudo-header sum with a length of zero */
	uint16_t ip_sum;        /* IPv4: header sum with length, id and checksum of zero */
	uint16_t row_flags;
};

/* vnet is not trusted: its offsets and kind must agree with what the frame says. */
int segment_open(struct segment *segment, uint8_t *frame, uint32_t len,
		 const struct virtio_net_hdr *vnet);

static inline bool segment_done(const struct segment *segment)
{
	return segment->at == segment->len;
}

/* Append rows until all are cut, the batch is full or the arena is used up. Returns the bytes of
 * the frames appended. */
uint32_t segment_fill(struct segment *segment, struct segment_arena *arena,
		      struct haul_frames *frames);
