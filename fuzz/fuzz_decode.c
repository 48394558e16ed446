/* fuzz/fuzz_decode.c — any bytes as the middle message of a batch.
 *
 * Promise: decode says of them what a plain reading of wire/format.h says; a rejected message
 * leaves nothing behind; a good one can be taken apart, put together again to the same bytes, and
 * passed on; the good messages before and behind it stay good. The input is copied to memory of
 * exactly its size, so that the address sanitizer sees every byte read past its end. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include <haul/frames.h>
#include <haul/message.h>
#include "base/assert.h"
#include "wire/sample.h"

enum {
	BATCH = 3,
	MIDDLE = 1,
	HEADER_BYTES = HAUL_MESSAGE_HEADER_BYTES,
	ENTRIES_MAX = HAUL_MESSAGE_BYTES_MAX / (HAUL_AGGREGATE_ENTRY_BYTES + 14)
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct haul_message_header header_of(const struct haul_messages *m)
{
	return (struct haul_message_header){
		.type = m->type[MIDDLE],
		.flags = m->flags[MIDDLE],
		.ttl = m->ttl[MIDDLE],
		.csum_start = m->csum_start[MIDDLE],
		.csum_offset = m->csum_offset[MIDDLE],
		.sequence = m->sequence[MIDDLE],
		.origin = m->origin[MIDDLE],
		.destination = m->destination[MIDDLE],
	};
}

/* Heartbeat and reply: fields out, fields in, the same bytes. */
static void check_fields(const struct haul_messages *m, const uint8_t *message, uint32_t len)
{
	const struct haul_message_header header = header_of(m);
	struct haul_heartbeat_reply reply;
	uint8_t again[SAMPLE_BYTES_MAX];
	uint32_t bytes;

	if (header.type == HAUL_MESSAGE_HEARTBEAT) {
		haul_heartbeat_get(m->body[MIDDLE], &reply.heartbeat);
		bytes = haul_heartbeats_encode(&header, &reply.heartbeat, 1, again, sizeof again);
	} else {
		haul_reply_get(m->body[MIDDLE], &reply);
		bytes = haul_replies_encode(&header, &reply, 1, again, sizeof again);
	}
	HAUL_ASSERT(bytes == len);
	HAUL_ASSERT(memcmp(again, message, len) == 0);
}

/* Aggregate: frames out, frames in, the same bytes; and no frame outside of the body. */
static void check_entries(const struct haul_messages *m)
{
	uint8_t *body = m->body[MIDDLE];
	const uint32_t body_len = m->body_len[MIDDLE];
	struct haul_frames out;
	int rc = haul_frames_init(&out, ENTRIES_MAX);
	uint8_t *again = malloc(body_len);
	uint32_t bytes = 0;

	HAUL_ASSERT(rc == 0 && again != NULL);
	rc = haul_aggregate_split(body, body_len, 7, &out);
	HAUL_ASSERT(rc >= 1 && (uint32_t)rc == out.count);
	HAUL_ASSERT(out.count == haul_aggregate_count(body, body_len));
	for (uint32_t i = 0; i < out.count; i++) {
		HAUL_ASSERT(out.data[i] >= body);
		HAUL_ASSERT(out.data[i] + out.len[i] <= body + body_len);
		HAUL_ASSERT(bytes + HAUL_AGGREGATE_ENTRY_BYTES + out.len[i] <= body_len);
		bytes += haul_aggregate_put(again + bytes, &out, i);
	}
	HAUL_ASSERT(bytes == body_len);
	HAUL_ASSERT(memcmp(again, body, body_len) == 0);
	free(again);
	haul_frames_done(&out);
}

static void check_good(const struct haul_messages *m, uint8_t *message, uint32_t len)
{
	const struct haul_message_header header = header_of(m);
	uint8_t again[HEADER_BYTES];

	HAUL_ASSERT(m->body[MIDDLE] == message + HEADER_BYTES);
	HAUL_ASSERT(m->body_len[MIDDLE] == len - HEADER_BYTES);
	haul_message_put(again, &header, len);
	HAUL_ASSERT(memcmp(again, message, HEADER_BYTES) == 0);
	if (header.type == HAUL_MESSAGE_AGGREGATE)
		check_entries(m);
	else if (header.type == HAUL_MESSAGE_HEARTBEAT || header.type == HAUL_MESSAGE_REPLY)
		check_fields(m, message, len);
	if (header.ttl <= 1)
		return;
	haul_message_relay(message);
	HAUL_ASSERT(message[3] == header.ttl - 1);
	HAUL_ASSERT(sample_status(message, len) == 0);
}

static void check_rejected(const struct haul_messages *m)
{
	HAUL_ASSERT(m->type[MIDDLE] == 0);
	HAUL_ASSERT(m->body[MIDDLE] == NULL);
	HAUL_ASSERT(m->body_len[MIDDLE] == 0);
}

static void check_message(uint8_t *message, uint32_t len)
{
	uint8_t around[BATCH][SAMPLE_BYTES_MAX];
	struct haul_frames frames;
	struct haul_messages messages;
	struct prng prng;
	int rc = haul_frames_init(&frames, BATCH);

	HAUL_ASSERT(rc == 0);
	rc = haul_messages_init(&messages, BATCH);
	HAUL_ASSERT(rc == 0);
	prng_init(&prng, len);
	for (uint32_t i = 0; i < BATCH; i++) {
		struct haul_frame row = { .data = i == MIDDLE ? message : around[i], .len = len };
		if (i != MIDDLE)
			row.len = sample_make(prng_below(&prng, SAMPLES), &prng, around[i]);
		rc = haul_frames_push(&frames, &row);
		HAUL_ASSERT(rc == 0);
	}
	const int good = haul_messages_decode(&frames, &messages);
	const int32_t status = messages.status[MIDDLE];
	HAUL_ASSERT(status == sample_status(message, len));
	HAUL_ASSERT(good == BATCH - (status != 0));
	HAUL_ASSERT(messages.status[MIDDLE - 1] == 0 && messages.status[MIDDLE + 1] == 0);
	if (status == 0)
		check_good(&messages, message, len);
	else
		check_rejected(&messages);
	haul_messages_done(&messages);
	haul_frames_done(&frames);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || size > HAUL_FRAME_BYTES_MAX)
		return 0;
	uint8_t *message = malloc(size);
	HAUL_ASSERT(message != NULL);
	memcpy(message, data, size);
	check_message(message, (uint32_t)size);
	free(message);
	return 0;
}
