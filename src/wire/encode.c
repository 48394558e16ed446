/* wire/encode.c — headers and bodies as flat stores.
 *
 * Promise: nothing is allocated, nothing is copied but the fields themselves, and what is written
 * is what decode accepts and gives back.
 * How: a batch shares all of its header but the sequence, so three of the four words are made once
 * and a message costs as many stores as it has words. */
#include <haul/message.h>
#include "wire/header.h"

void haul_message_put(uint8_t *out, const struct haul_message_header *header, uint32_t length)
{
	struct wire_header packed = wire_header_pack(header, length);

	HAUL_ASSERT(out != NULL);
	packed.word[0] |= wire_csum_pack(header->csum_start, header->csum_offset);
	wire_header_store(out, &packed);
}

/* A row that is to carry a message: room in front, and a frame behind it that the length can tell.
 * Returns the bytes of the message. */
static inline uint32_t prepend_length(const struct haul_frames *frames, uint32_t i)
{
	const uint32_t length = haul_frame_bytes(frames, i) + WIRE_HEADER_BYTES;

	HAUL_ASSERT(frames->flags[i] & HAUL_FRAME_HEADROOM);
	HAUL_ASSERT(length <= HAUL_MESSAGE_BYTES_MAX);
	return length;
}

uint64_t haul_messages_prepend(struct haul_frames *frames, uint32_t first, uint32_t count,
			       const struct haul_message_header *header)
{
	HAUL_ASSERT(first <= frames->count);
	HAUL_ASSERT(count <= frames->count - first);
	const struct wire_header shared = wire_header_pack(header, WIRE_HEADER_BYTES);
	const uint64_t head = shared.word[0] - WIRE_PLACE(WIRE_HEADER_BYTES, WIRE_OFF_LENGTH, 2);
	for (uint32_t n = 0; n < count; n++) {
		const uint32_t i = first + n;
		const uint32_t length = prepend_length(frames, i);
		struct wire_header packed = shared;
		packed.word[0] = head | WIRE_PLACE(length, WIRE_OFF_LENGTH, 2);
		packed.word[1] += n;
		if (frames->flags[i] & HAUL_FRAME_CSUM_PARTIAL)
			packed.word[0] |=
				wire_csum_pack(frames->csum_start[i], frames->csum_offset[i]);
		frames->data[i] -= WIRE_HEADER_BYTES;
		frames->len[i] += WIRE_HEADER_BYTES;
		frames->flags[i] &= (uint16_t) ~(HAUL_FRAME_CSUM_PARTIAL | HAUL_FRAME_HEADROOM);
		wire_header_store(frames->data[i], &packed);
	}
	return header->sequence + count;
}

static inline void heartbeat_store(uint8_t *body, const struct haul_heartbeat *heartbeat)
{
	be64_store(body + WIRE_HEARTBEAT_OFF_ID,
		   WIRE_PLACE(heartbeat->id, WIRE_HEARTBEAT_OFF_ID, 4) |
			   WIRE_PLACE(heartbeat->hops, WIRE_HEARTBEAT_OFF_HOPS, 1) |
			   WIRE_PLACE(heartbeat->period_ms, WIRE_HEARTBEAT_OFF_PERIOD, 2));
	be64_store(body + WIRE_HEARTBEAT_OFF_TIME, heartbeat->time_ns);
}

/* Header of a message without a frame: it has no checksum to tell of. */
static struct wire_header bare_header(const struct haul_message_header *header, uint32_t length)
{
	HAUL_ASSERT(header->csum_start == 0 && header->csum_offset == 0);
	return wire_header_pack(header, length);
}

uint32_t haul_heartbeats_encode(const struct haul_message_header *header,
				const struct haul_heartbeat *in, uint32_t count, uint8_t *out,
				size_t stride)
{
	const uint32_t bytes = WIRE_HEADER_BYTES + WIRE_HEARTBEAT_BYTES;
	struct wire_header packed = bare_header(header, bytes);

	HAUL_ASSERT(header->type == HAUL_MESSAGE_HEARTBEAT && header->flags == 0);
	HAUL_ASSERT(stride >= bytes);
	for (uint32_t i = 0; i < count; i++) {
		wire_header_store(out, &packed);
		heartbeat_store(out + WIRE_HEADER_BYTES, &in[i]);
		packed.word[1]++;
		out += stride;
	}
	return bytes;
}

uint32_t haul_replies_encode(const struct haul_message_header *header,
			     const struct haul_heartbeat_reply *in, uint32_t count, uint8_t *out,
			     size_t stride)
{
	const uint32_t bytes = WIRE_HEADER_BYTES + WIRE_REPLY_BYTES;
	struct wire_header packed = bare_header(header, bytes);

	HAUL_ASSERT(header->type == HAUL_MESSAGE_REPLY);
	HAUL_ASSERT((header->flags & ~HAUL_MESSAGE_ATTACHED) == 0);
	HAUL_ASSERT(stride >= bytes);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *body = out + WIRE_HEADER_BYTES;
		HAUL_ASSERT(in[i].client <= HAUL_NODE_BROADCAST);
		wire_header_store(out, &packed);
		heartbeat_store(body, &in[i].heartbeat);
		be32_store(body + WIRE_REPLY_OFF_HOLD, in[i].hold_us);
		mac_store(body + WIRE_REPLY_OFF_CLIENT, in[i].client);
		be16_store(body + WIRE_REPLY_OFF_RESERVED, 0);
		packed.word[1]++;
		out += stride;
	}
	return bytes;
}

void haul_heartbeat_get(const uint8_t *body, struct haul_heartbeat *ret_heartbeat)
{
	HAUL_ASSERT(body != NULL); /* a rejected row's */
	const uint64_t word = be64_load(body);
	*ret_heartbeat = (struct haul_heartbeat){
		.id = (uint32_t)(word >> WIRE_SHIFT(WIRE_HEARTBEAT_OFF_ID, 4)),
		.hops = (uint8_t)(word >> WIRE_SHIFT(WIRE_HEARTBEAT_OFF_HOPS, 1)),
		.period_ms = (uint16_t)(word >> WIRE_SHIFT(WIRE_HEARTBEAT_OFF_PERIOD, 2)),
		.time_ns = be64_load(body + WIRE_HEARTBEAT_OFF_TIME),
	};
}

void haul_reply_get(const uint8_t *body, struct haul_heartbeat_reply *ret_reply)
{
	HAUL_ASSERT(ret_reply != NULL);
	haul_heartbeat_get(body, &ret_reply->heartbeat);
	ret_reply->hold_us = be32_load(body + WIRE_REPLY_OFF_HOLD);
	ret_reply->client = mac_load(body + WIRE_REPLY_OFF_CLIENT);
}

void haul_message_relay(uint8_t *message)
{
	const uint8_t type = message[WIRE_OFF_TYPE];
	uint8_t *hops = message + WIRE_HEADER_BYTES + WIRE_HEARTBEAT_OFF_HOPS;

	HAUL_ASSERT(message[WIRE_OFF_TTL] > 1);
	message[WIRE_OFF_TTL]--;
	if (type != HAUL_MESSAGE_HEARTBEAT && type != HAUL_MESSAGE_REPLY)
		return;
	/* A liar may send 255: it must not come out as the shortest way. */
	if (*hops < UINT8_MAX)
		(*hops)++;
}
