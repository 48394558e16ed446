/* haul/frames.h — batches of frames: the receive batch and the send batch.
 *
 * Model      A batch is a count and parallel columns. A frame is one or two pieces of memory: data
 *            (all headers, contiguous) and tail (the rest of the payload, often empty); on the wire
 *            it is data followed by tail. Nothing is copied in or out: columns point to
 *            memory that somebody else owns. One frame in is one frame out: no call ever joins
 *            frames or cuts one.
 *            A receive batch is filled by haul_link_rx. A send batch is filled by push and told
 *            apart into groups by peer, in order within each, when it is sent.
 * Units      lengths in bytes.
 * Ownership  the columns belong to the batch; the bytes to whoever received or built them. Bytes
 *            that a link received stay valid until the next haul_link_rx on that link.
 * Memory     one block at init, sized by capacity; nothing after.
 * Threads    one at a time a batch.
 * Errors     push returns HAUL_EFULL when full: nothing is dropped in silence. init: -EINVAL,
 *            -ENOMEM.
 * Limits     capacity 1 … HAUL_FRAMES_MAX; a frame is 1 … HAUL_FRAME_BYTES_MAX bytes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/api.h>

enum {
	HAUL_FRAMES_MAX = 4096,
	HAUL_FRAME_BYTES_MAX = 65535,
	HAUL_FRAME_HEADROOM_BYTES = 64 /* writable before data[i] when HAUL_FRAME_HEADROOM is set */
};

#define HAUL_PEER_NONE UINT32_MAX /* source is not in the link's peer table */

/* Bits of flags[]. */
enum {
	/* The L4 checksum field holds only the pseudo-header's sum: bytes from csum_start on must
	 * be summed into csum_start + csum_offset before the frame meets anyone who checks. */
	HAUL_FRAME_CSUM_PARTIAL = 1,
	HAUL_FRAME_HEADROOM = 2, /* HAUL_FRAME_HEADROOM_BYTES before data[i] may be written */
	HAUL_FRAME_BROADCAST = 4 /* received by link-level broadcast or multicast */
};

/* A link-level address: an IPv4 or IPv6 address with port for UDP links, a MAC for raw links. */
enum haul_addr_kind { HAUL_ADDR_NONE, HAUL_ADDR_IPV4, HAUL_ADDR_IPV6, HAUL_ADDR_MAC };
struct haul_addr {
	uint8_t kind;      /* enum haul_addr_kind */
	uint8_t pad;       /* zero */
	uint16_t port;     /* host order, 0 for MAC */
	uint8_t bytes[16]; /* network order, unused bytes zero */
};

struct haul_frames {
	uint32_t count;         /* frames in use */
	uint32_t capacity;      /* frames there is room for */
	uint32_t addr_count;    /* entries of addr[] in use */
	uint8_t **data;         /* first piece: all headers, contiguous */
	uint8_t **tail;         /* second piece; meaningless while tail_len is 0 */
	uint32_t *len;          /* bytes of data, >= 1 */
	uint32_t *tail_len;     /* bytes of tail, usually 0 */
	uint32_t *peer;         /* rx: who sent it, or HAUL_PEER_NONE; tx: who is to get it */
	uint32_t *from;         /* rx: index into addr[] (sender's address) */
	uint16_t *flags;        /* HAUL_FRAME_* */
	uint16_t *csum_start;   /* with CSUM_PARTIAL: offset in the frame */
	uint16_t *csum_offset;  /* with CSUM_PARTIAL: offset of the field from csum_start */
	int32_t *status;        /* tx: 0 sent, negative code otherwise; rx: always 0 */
	struct haul_addr *addr; /* capacity entries; several frames may share one */
};

struct haul_frame { /* one row, for push and for tests */
	uint8_t *data;
	uint8_t *tail;
	uint32_t len;
	uint32_t tail_len;
	uint32_t peer;
	uint16_t flags;
	uint16_t csum_start;
	uint16_t csum_offset;
};

HAUL_API int haul_frames_init(struct haul_frames *frames, uint32_t capacity);
HAUL_API void haul_frames_done(struct haul_frames *frames);

static inline void haul_frames_clear(struct haul_frames *frames)
{
	frames->count = 0;
	frames->addr_count = 0;
}

static inline uint32_t haul_frames_room(const struct haul_frames *frames)
{
	return frames->capacity - frames->count;
}

/* Append one row (status 0, from 0). HAUL_EFULL when full, and then nothing has changed. */
HAUL_API int haul_frames_push(struct haul_frames *frames, const struct haul_frame *row);

/* Bytes of frame i on the wire. */
static inline uint32_t haul_frame_bytes(const struct haul_frames *frames, uint32_t i)
{
	return frames->len[i] + frames->tail_len[i];
}

/* Copy frame i to out (room for haul_frame_bytes); returns its bytes. For tests and slow paths. */
HAUL_API uint32_t haul_frame_copy(const struct haul_frames *frames, uint32_t i, uint8_t *out);

/* A run of frames for one peer: order[first] … order[first + count - 1] index the columns. */
struct haul_group {
	uint32_t peer;
	uint32_t first;
	uint32_t count;
};

struct haul_send_batch {
	struct haul_frames frames;
	uint32_t *order; /* permutation of 0 … count-1, valid after haul_send_batch_group */
	struct haul_group *group; /* in order of each peer's first frame */
	uint32_t group_count;
	uint32_t grouped;   /* frames.count at the last grouping, to do it once */
	uint32_t *group_of; /* work space of the grouping: group of each frame */
	uint32_t *cursor;   /* and the next free place in order[] of each group */
	uint32_t *slot;     /* open-addressed: peer -> group index + 1 */
};

HAUL_API int haul_send_batch_init(struct haul_send_batch *batch, uint32_t capacity);
HAUL_API void haul_send_batch_done(struct haul_send_batch *batch);

static inline void haul_send_batch_clear(struct haul_send_batch *batch)
{
	haul_frames_clear(&batch->frames);
	batch->group_count = 0;
	batch->grouped = 0;
}

static inline int haul_send_batch_push(struct haul_send_batch *batch, const struct haul_frame *row)
{
	return haul_frames_push(&batch->frames, row);
}

/* Stable grouping by peer: frames of one peer keep their order. Idempotent until the next push;
 * whoever changes peer[] by hand, or empties frames alone, calls haul_send_batch_clear first. */
HAUL_API void haul_send_batch_group(struct haul_send_batch *batch);
