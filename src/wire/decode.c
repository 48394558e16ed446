/* wire/decode.c — a burst of frames becomes columns.
 *
 * Promise: every frame gets a status; no byte past a frame is read, whatever it says; a row without
 * a status holds nothing that a later stage must check again.
 * How: a header is four word loads; version, type and flags are one comparison against the row of
 * the type. The rules are a chain of branches that good messages never take, in the order that
 * wire/format.h states, so the code that judges also names the reason. Measured against or-ing all
 * rules without a branch the chain is a third faster: a branch never taken costs less than the
 * arithmetic that avoids it.
 * Why it holds: the header is loaded only from frames that have one, bodies are read only below a
 * length that was found equal to the frame's own. */
#include <stdbool.h>
#include <string.h>

#include <haul/err.h>
#include <haul/message.h>
#include "wire/header.h"

enum {
	TYPES = HAUL_MESSAGE_AGGREGATE + 1,
	ENTRY_BYTES_MIN = WIRE_ENTRY_BYTES + WIRE_FRAME_BYTES_MIN
};

#define UNLIKELY(condition) __builtin_expect((condition), 0)

/* Version, type and flags are right when word 0 under mask equals expect. */
struct type_row {
	uint64_t mask;
	uint64_t expect;
	uint32_t body_min;
	bool has_frame; /* the body is one frame, and the header tells all there is to know of it */
};

#define ROW(type, flags, min, frame)                                                               \
	[type] = {                                                                                 \
		.mask = WIRE_PLACE(0xff, WIRE_OFF_VERSION, 1) |                                    \
			WIRE_PLACE(0xff, WIRE_OFF_TYPE, 1) |                                       \
			WIRE_PLACE(0xff & ~(flags), WIRE_OFF_FLAGS, 1),                            \
		.expect = WIRE_PLACE(WIRE_VERSION, WIRE_OFF_VERSION, 1) |                          \
			  WIRE_PLACE(type, WIRE_OFF_TYPE, 1),                                      \
		.body_min = (min),                                                                 \
		.has_frame = (frame),                                                              \
	}

/* Row 0 stands for every unknown type: nothing under mask 0 equals 1. */
static const struct type_row type_table[TYPES] = {
	[0] = { .mask = 0, .expect = 1 },
	ROW(HAUL_MESSAGE_HEARTBEAT, 0, WIRE_HEARTBEAT_BYTES, false),
	ROW(HAUL_MESSAGE_REPLY, HAUL_MESSAGE_ATTACHED, WIRE_REPLY_BYTES, false),
	ROW(HAUL_MESSAGE_DATA_UP, 0, WIRE_FRAME_BYTES_MIN, true),
	ROW(HAUL_MESSAGE_DATA_DOWN, 0, WIRE_FRAME_BYTES_MIN, true),
	ROW(HAUL_MESSAGE_AGGREGATE, HAUL_MESSAGE_DOWN, ENTRY_BYTES_MIN, false),
};

static inline uint8_t version_of(uint64_t head)
{
	return (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_VERSION, 1));
}

static inline uint8_t type_of(uint64_t head)
{
	return (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_TYPE, 1));
}

static inline uint8_t flags_of(uint64_t head)
{
	return (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_FLAGS, 1));
}

static inline uint8_t ttl_of(uint64_t head)
{
	return (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_TTL, 1));
}

static inline uint16_t length_of(uint64_t head)
{
	return (uint16_t)(head >> WIRE_SHIFT(WIRE_OFF_LENGTH, 2));
}

static inline uint8_t csum_start_of(uint64_t head)
{
	return (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_CSUM_START, 1));
}

static inline uint8_t csum_offset_of(uint64_t head)
{
	return (uint8_t)(head >> WIRE_SHIFT(WIRE_OFF_CSUM_OFFSET, 1));
}

static inline uint64_t origin_of(const struct wire_header *header)
{
	return header->word[2] >> 16;
}

static inline uint64_t destination_of(const struct wire_header *header)
{
	return (header->word[2] << 32 | header->word[3] >> 32) & HAUL_NODE_BROADCAST;
}

static inline uint32_t key_id_of(const struct wire_header *header)
{
	return (uint32_t)header->word[3];
}

/* A checksum field lies in its frame; a frame without one says zero and zero. */
static inline int32_t csum_status(uint32_t start, uint32_t offset, uint32_t frame_len)
{
	if ((start | offset) == 0)
		return 0;
	if (offset == 0 || start + offset + WIRE_CSUM_FIELD_BYTES > frame_len)
		return HAUL_ECORRUPT;
	return 0;
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
		const int32_t status = csum_status(entry[WIRE_ENTRY_OFF_CSUM_START],
						   entry[WIRE_ENTRY_OFF_CSUM_OFFSET], frame_len);
		if (status != 0)
			return status;
		at += WIRE_ENTRY_BYTES + frame_len;
	}
	HAUL_ASSERT(at == body_len);
	return 0;
}

/* All that the header cannot tell of a body that is not a frame. */
static inline int32_t body_status(uint64_t head, const uint8_t *body, uint32_t body_len)
{
	const uint32_t type = type_of(head);
	if ((csum_start_of(head) | csum_offset_of(head)) != 0)
		return HAUL_ECORRUPT;
	if (type == HAUL_MESSAGE_AGGREGATE)
		return aggregate_status(body, body_len);

	uint32_t bytes = WIRE_HEARTBEAT_BYTES;
	uint32_t reserved = body[WIRE_HEARTBEAT_OFF_RESERVED];
	if (type == HAUL_MESSAGE_REPLY) {
		bytes = WIRE_REPLY_BYTES;
		reserved |= be16_load(body + WIRE_REPLY_OFF_RESERVED);
	}
	return reserved == 0 && body_len == bytes ? 0 : HAUL_ECORRUPT;
}

/* What is wrong with a message of at least a header; 0 when nothing is. */
static inline int32_t message_status(const struct wire_header *header, const uint8_t *data,
				     uint32_t len)
{
	const uint64_t head = header->word[0];
	const uint32_t body_len = len - WIRE_HEADER_BYTES;
	const uint32_t type = type_of(head);
	const struct type_row *row = &type_table[type < TYPES ? type : 0];

	if (UNLIKELY((head & row->mask) != row->expect))
		return version_of(head) != WIRE_VERSION ? HAUL_EVERSION : HAUL_ETYPE;
	if (UNLIKELY(len != length_of(head)))
		return len < length_of(head) ? HAUL_ESHORT : HAUL_ELONG;
	if (UNLIKELY(ttl_of(head) == 0))
		return HAUL_ETTL;
	if (UNLIKELY(body_len < row->body_min))
		return HAUL_ECORRUPT;
	if (UNLIKELY(key_id_of(header) != 0))
		return HAUL_ECORRUPT;
	if (UNLIKELY(origin_of(header) == HAUL_NODE_BROADCAST))
		return HAUL_ECORRUPT;
	if (row->has_frame)
		return csum_status(csum_start_of(head), csum_offset_of(head), body_len);
	return body_status(head, data + WIRE_HEADER_BYTES, body_len);
}

static void row_reject(const struct haul_messages *m, uint32_t i, int32_t status)
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

/* The status column holds zero already. */
static inline void row_store(const struct haul_messages *m, uint32_t i,
			     const struct wire_header *header, uint8_t *data, uint32_t len)
{
	const uint64_t head = header->word[0];
	m->type[i] = type_of(head);
	m->flags[i] = flags_of(head);
	m->ttl[i] = ttl_of(head);
	m->csum_start[i] = csum_start_of(head);
	m->csum_offset[i] = csum_offset_of(head);
	m->sequence[i] = header->word[1];
	m->origin[i] = origin_of(header);
	m->destination[i] = destination_of(header);
	m->body[i] = data + WIRE_HEADER_BYTES;
	m->body_len[i] = len - WIRE_HEADER_BYTES;
}

/* A frame that has not even a header of its own, or is not in one piece. */
static int32_t piece_status(uint32_t len, uint32_t tail_len)
{
	HAUL_ASSERT(len < WIRE_HEADER_BYTES || tail_len != 0);
	return tail_len != 0 ? HAUL_ECORRUPT : HAUL_ESHORT;
}

int haul_messages_decode(const struct haul_frames *frames, struct haul_messages *messages)
{
	/* Copies without an address: a store to a column of bytes might alias anything else, and
	 * every pointer would be loaded anew after it. */
	const struct haul_messages columns = *messages;
	uint8_t *const *data = frames->data;
	const uint32_t *len = frames->len;
	const uint32_t *tail_len = frames->tail_len;
	const uint32_t count = frames->count;
	uint32_t rejected = 0;

	HAUL_ASSERT(count <= messages->capacity);
	HAUL_ASSERT(count <= frames->capacity);
	memset(columns.status, 0, count * sizeof *columns.status);
	for (uint32_t i = 0; i < count; i++) {
		if (UNLIKELY(len[i] < WIRE_HEADER_BYTES || tail_len[i] != 0)) {
			row_reject(&columns, i, piece_status(len[i], tail_len[i]));
			rejected++;
			continue;
		}
		const struct wire_header header = wire_header_load(data[i]);
		const int32_t status = message_status(&header, data[i], len[i]);
		if (UNLIKELY(status != 0)) {
			row_reject(&columns, i, status);
			rejected++;
			continue;
		}
		row_store(&columns, i, &header, data[i], len[i]);
	}
	messages->count = count;
	return (int)(count - rejected);
}
