/* wire/decode.c — a burst of frames becomes columns.
 *
 * Promise: every frame gets a status; no byte past a frame is read, whatever it says; a row without
 * a status holds nothing that a later stage must check again.
 * How: most bursts are good data, so each frame is loaded as four words and judged by one sum of
 * differences against the row of its type, without a branch between the checks. Only a frame that
 * fails is looked at a second time, slowly, to name the reason. Heartbeats, replies and aggregates
 * have something to check in their bodies and take one branch more.
 * Why it holds: bytes are read only below a length that was compared with the frame's own. The fast
 * judgement and the slow naming state the same rules; a frame that the first refuses and the second
 * finds nothing wrong with is a bug, and asserted. */
#include <haul/message.h>

#include <haul/err.h>

#include "wire/header.h"

enum { TYPES = HAUL_MESSAGE_AGGREGATE + 1 };

/* Version, type and forbidden flags are compared at once: word 0 under mask equals expect. */
struct type_row {
	uint64_t mask;
	uint64_t expect;
	uint32_t body_min;
	uint32_t body_span; /* largest body less smallest */
	uint32_t csum_room; /* all ones where the body is a frame a checksum field may lie in */
	bool body_checked;  /* the body has rules of its own: body_status */
};

#define ROW(id, flags_allowed, min, max, csum, checked)                                            \
	[id] = { .mask = WIRE_PLACE(0xff, WIRE_OFF_VERSION, 1) |                                   \
			 WIRE_PLACE(0xff, WIRE_OFF_TYPE, 1) |                                      \
			 WIRE_PLACE(0xff & ~(flags_allowed), WIRE_OFF_FLAGS, 1),                   \
		 .expect = WIRE_PLACE(WIRE_VERSION, WIRE_OFF_VERSION, 1) |                         \
			   WIRE_PLACE(id, WIRE_OFF_TYPE, 1),                                       \
		 .body_min = (min),                                                                \
		 .body_span = (max) - (min),                                                       \
		 .csum_room = (csum),                                                              \
		 .body_checked = (checked) }

enum {
	BODY_MAX = HAUL_MESSAGE_BYTES_MAX - WIRE_HEADER_BYTES,
	ENTRY_BYTES_MIN = WIRE_ENTRY_BYTES + WIRE_FRAME_BYTES_MIN
};

/* Row 0 stands for every unknown type: nothing equals 1 under mask 0. */
static const struct type_row type_table[TYPES] = {
	[0] = { .mask = 0, .expect = 1 },
	ROW(HAUL_MESSAGE_HEARTBEAT, 0, WIRE_HEARTBEAT_BYTES, WIRE_HEARTBEAT_BYTES, 0, true),
	ROW(HAUL_MESSAGE_REPLY, 0, WIRE_REPLY_BYTES, WIRE_REPLY_BYTES, 0, true),
	ROW(HAUL_MESSAGE_DATA_UP, 0, WIRE_FRAME_BYTES_MIN, BODY_MAX, UINT32_MAX, false),
	ROW(HAUL_MESSAGE_DATA_DOWN, 0, WIRE_FRAME_BYTES_MIN, BODY_MAX, UINT32_MAX, false),
	ROW(HAUL_MESSAGE_AGGREGATE, HAUL_MESSAGE_DOWN, ENTRY_BYTES_MIN, BODY_MAX, 0, true),
};

static const struct type_row *row_of(uint64_t head)
{
	const uint32_t type = (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_TYPE, 1));

	return &type_table[type < TYPES ? type : 0];
}

static inline uint32_t csum_start_of(uint64_t head)
{
	return (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_CSUM_START, 1));
}

static inline uint32_t csum_offset_of(uint64_t head)
{
	return (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_CSUM_OFFSET, 1));
}

static inline uint32_t ttl_of(uint64_t head)
{
	return (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_TTL, 1));
}

static inline uint32_t length_of(uint64_t head)
{
	return (uint16_t)(head >> WIRE_SHIFT(WIRE_OFF_LENGTH, 2));
}

static inline uint64_t origin_of(const struct wire_header *header)
{
	return header->word[2] >> 16;
}

static inline uint64_t destination_of(const struct wire_header *header)
{
	return (header->word[2] << 32 & HAUL_NODE_BROADCAST) | header->word[3] >> 32;
}

static inline bool contradicts_itself(const struct wire_header *header, const struct type_row *row,
				      uint32_t len)
{
	const uint64_t head = header->word[0];
	const uint32_t body_len = len - WIRE_HEADER_BYTES;
	const bool body_size = body_len - row->body_min > row->body_span;
	const bool csum = wire_csum_is_bad(csum_start_of(head), csum_offset_of(head),
					   body_len & row->csum_room);
	const bool key = (uint32_t)header->word[3] != 0;
	const bool origin = origin_of(header) == HAUL_NODE_BROADCAST;

	return body_size | csum | key | origin;
}

static inline bool header_is_bad(const struct wire_header *header, const struct type_row *row,
				 uint32_t len)
{
	const uint64_t head = header->word[0];
	const bool kind = (head & row->mask) != row->expect;
	const bool length = length_of(head) != len;
	const bool ttl = ttl_of(head) == 0;

	return kind | length | ttl | contradicts_itself(header, row, len);
}

/* Each entry lies in the body, and the last ends where the body ends. */
static int32_t aggregate_status(const uint8_t *body, uint32_t body_len)
{
	uint32_t at = 0;

	HAUL_ASSERT(body_len >= ENTRY_BYTES_MIN);
	while (at < body_len) {
		const uint8_t *entry = body + at;
		const uint32_t left = body_len - at;
		if (left < ENTRY_BYTES_MIN)
			return HAUL_ECORRUPT;
		const uint32_t frame_len = be16_load(entry + WIRE_ENTRY_OFF_LENGTH);
		if (frame_len < WIRE_FRAME_BYTES_MIN || frame_len > left - WIRE_ENTRY_BYTES)
			return HAUL_ECORRUPT;
		if (wire_csum_is_bad(entry[WIRE_ENTRY_OFF_CSUM_START],
				     entry[WIRE_ENTRY_OFF_CSUM_OFFSET], frame_len))
			return HAUL_ECORRUPT;
		at += WIRE_ENTRY_BYTES + frame_len;
	}
	HAUL_ASSERT(at == body_len);
	return 0;
}

/* What the header cannot tell. The body has a size that its type allows. */
static int32_t body_status(uint32_t type, const uint8_t *body, uint32_t body_len)
{
	if (type == HAUL_MESSAGE_AGGREGATE)
		return aggregate_status(body, body_len);
	HAUL_ASSERT(body_len >= WIRE_HEARTBEAT_BYTES);
	uint32_t reserved = body[WIRE_HEARTBEAT_OFF_RESERVED];
	if (type == HAUL_MESSAGE_REPLY) {
		HAUL_ASSERT(body_len == WIRE_REPLY_BYTES);
		reserved |= be16_load(body + WIRE_REPLY_OFF_RESERVED);
	}
	return reserved == 0 ? 0 : HAUL_ECORRUPT;
}

/* Names why a frame was refused, in the order that wire/format.h states. Rarely called: kept out of
 * the loop so that it costs good frames nothing. */
static __attribute__((noinline)) int32_t reject_status(const uint8_t *data, uint32_t len,
						       uint32_t tail_len)
{
	if (tail_len != 0)
		return HAUL_ECORRUPT;
	if (len < WIRE_HEADER_BYTES)
		return HAUL_ESHORT;
	const struct wire_header header = wire_header_load(data);
	const uint64_t head = header.word[0];
	const struct type_row *row = row_of(head);
	if ((uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_VERSION, 1)) != WIRE_VERSION)
		return HAUL_EVERSION;
	if ((head & row->mask) != row->expect)
		return HAUL_ETYPE;
	if (len < length_of(head))
		return HAUL_ESHORT;
	if (len > length_of(head))
		return HAUL_ELONG;
	if (ttl_of(head) == 0)
		return HAUL_ETTL;
	HAUL_ASSERT(contradicts_itself(&header, row, len));
	return HAUL_ECORRUPT;
}

static void reject(const struct haul_messages *m, uint32_t i, int32_t status)
{
	HAUL_ASSERT(status < 0);
	m->status[i] = status;
	m->type[i] = 0;
	m->flags[i] = 0;
	m->ttl[i] = 0;
	m->csum_start[i] = 0;
	m->csum_offset[i] = 0;
	m->sequence[i] = 0;
	m->origin[i] = 0;
	m->destination[i] = 0;
	m->body[i] = NULL;
	m->body_len[i] = 0;
}

/* One frame with at least a header; 0, or its columns are still to be rejected. */
static inline int32_t decode_one(uint8_t *data, uint32_t len, const struct haul_messages *m,
				 uint32_t i)
{
	const struct wire_header header = wire_header_load(data);
	const uint64_t head = header.word[0];
	const struct type_row *row = row_of(head);
	uint8_t *body = data + WIRE_HEADER_BYTES;
	const uint32_t body_len = len - WIRE_HEADER_BYTES;

	if (__builtin_expect(header_is_bad(&header, row, len), 0))
		return reject_status(data, len, 0);
	const uint8_t type = (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_TYPE, 1));
	if (row->body_checked) {
		const int32_t status = body_status(type, body, body_len);
		if (__builtin_expect(status != 0, 0))
			return status;
	}
	m->status[i] = 0;
	m->type[i] = type;
	m->flags[i] = (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_FLAGS, 1));
	m->ttl[i] = (uint8_t)ttl_of(head);
	m->csum_start[i] = (uint8_t)csum_start_of(head);
	m->csum_offset[i] = (uint8_t)csum_offset_of(head);
	m->sequence[i] = header.word[1];
	m->origin[i] = origin_of(&header);
	m->destination[i] = destination_of(&header);
	m->body[i] = body;
	m->body_len[i] = body_len;
	return 0;
}

int haul_messages_decode(const struct haul_frames *frames, struct haul_messages *messages)
{
	/* Copies: a store to a byte column may alias anything but what has no address. */
	const struct haul_messages columns = *messages;
	uint8_t *const *data = frames->data;
	const uint32_t *len = frames->len;
	const uint32_t *tail_len = frames->tail_len;
	const uint32_t count = frames->count;
	int good = 0;

	HAUL_ASSERT(count <= messages->capacity);
	HAUL_ASSERT(count <= frames->capacity);
	for (uint32_t i = 0; i < count; i++) {
		const bool whole = (len[i] >= WIRE_HEADER_BYTES) & (tail_len[i] == 0);
		const int32_t status = __builtin_expect(whole, 1)
					       ? decode_one(data[i], len[i], &columns, i)
					       : reject_status(data[i], len[i], tail_len[i]);
		if (__builtin_expect(status != 0, 0))
			reject(&columns, i, status);
		else
			good++;
	}
	messages->count = count;
	return good;
}
