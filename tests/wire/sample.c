#include "wire/sample.h"

#include <stdbool.h>
#include <string.h>

#include <haul/err.h>

static void put_be(uint8_t *p, uint32_t bytes, uint64_t value)
{
	for (uint32_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static uint64_t get_be(const uint8_t *p, uint32_t bytes)
{
	uint64_t value = 0;
	for (uint32_t i = 0; i < bytes; i++)
		value = value << 8 | p[i];
	return value;
}

static void fill(struct prng *prng, uint8_t *out, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		out[i] = (uint8_t)prng_next(prng);
}

static void put_header(struct prng *prng, uint8_t *out, uint8_t type, uint32_t length)
{
	fill(prng, out, 32);
	out[0] = 1;
	out[1] = type;
	out[2] = 0;
	out[3] = (uint8_t)(1 + prng_below(prng, 255));
	put_be(out + 4, 2, length);
	out[6] = 0;
	out[7] = 0;
	out[16] &= 0xfe; /* an origin is one node */
	put_be(out + 28, 4, 0);
}

static uint32_t put_entry(struct prng *prng, uint8_t *out, uint32_t frame_len)
{
	put_be(out, 2, frame_len);
	out[2] = 0;
	out[3] = 0;
	fill(prng, out + 4, frame_len);
	return 4 + frame_len;
}

static uint32_t make_heartbeat(struct prng *prng, uint8_t *out)
{
	put_header(prng, out, HAUL_MESSAGE_HEARTBEAT, 48);
	fill(prng, out + 32, 16);
	out[32 + 5] = 0;
	return 48;
}

static uint32_t make_reply(struct prng *prng, uint8_t *out)
{
	put_header(prng, out, HAUL_MESSAGE_REPLY, 60);
	out[2] = prng_below(prng, 2) ? HAUL_MESSAGE_ATTACHED : 0;
	fill(prng, out + 32, 28);
	out[32 + 5] = 0;
	put_be(out + 32 + 26, 2, 0);
	return 60;
}

static uint32_t make_data(struct prng *prng, uint8_t *out, uint8_t type)
{
	put_header(prng, out, type, 32 + SAMPLE_DATA_BYTES);
	fill(prng, out + 32, SAMPLE_DATA_BYTES);
	return 32 + SAMPLE_DATA_BYTES;
}

static uint32_t make_aggregate(struct prng *prng, uint8_t *out)
{
	uint32_t at = SAMPLE_ENTRY_0;
	put_header(prng, out, HAUL_MESSAGE_AGGREGATE, SAMPLE_AGGREGATE_BYTES);
	out[2] = prng_below(prng, 2) ? HAUL_MESSAGE_DOWN : 0;
	at += put_entry(prng, out + at, 60);
	at += put_entry(prng, out + at, 14);
	at += put_entry(prng, out + at, 100);
	out[SAMPLE_ENTRY_2 + 2] = SAMPLE_CSUM_START;
	out[SAMPLE_ENTRY_2 + 3] = SAMPLE_CSUM_OFFSET;
	return at;
}

uint32_t sample_make(enum sample which, struct prng *prng, uint8_t *out)
{
	switch (which) {
	case SAMPLE_HEARTBEAT:
		return make_heartbeat(prng, out);
	case SAMPLE_REPLY:
		return make_reply(prng, out);
	case SAMPLE_DATA_UP:
		return make_data(prng, out, HAUL_MESSAGE_DATA_UP);
	case SAMPLE_DATA_DOWN:
		return make_data(prng, out, HAUL_MESSAGE_DATA_DOWN);
	case SAMPLE_PARTIAL:
		make_data(prng, out, HAUL_MESSAGE_DATA_UP);
		out[6] = SAMPLE_CSUM_START;
		out[7] = SAMPLE_CSUM_OFFSET;
		return 32 + SAMPLE_DATA_BYTES;
	case SAMPLE_AGGREGATE:
	case SAMPLES:
		break;
	}
	return make_aggregate(prng, out);
}

static bool csum_fits(const uint8_t *start_and_offset, uint32_t frame_len)
{
	uint32_t start = start_and_offset[0];
	uint32_t offset = start_and_offset[1];
	if (offset == 0)
		return start == 0;
	return start + offset + 2 <= frame_len;
}

static bool entries_fit(const uint8_t *body, uint32_t body_len)
{
	if (body_len == 0)
		return false;
	while (body_len > 0) {
		if (body_len < 4)
			return false;
		uint32_t frame_len = (uint32_t)get_be(body, 2);
		if (frame_len < 14 || frame_len > body_len - 4 || !csum_fits(body + 2, frame_len))
			return false;
		body += 4 + frame_len;
		body_len -= 4 + frame_len;
	}
	return true;
}

static bool body_fits(const uint8_t *message, uint32_t len)
{
	const uint8_t *body = message + 32;
	uint32_t body_len = len - 32;
	bool no_csum = message[6] == 0 && message[7] == 0;
	switch (message[1]) {
	case HAUL_MESSAGE_HEARTBEAT:
		return no_csum && body_len == 16 && body[5] == 0;
	case HAUL_MESSAGE_REPLY:
		return no_csum && body_len == 28 && body[5] == 0 && get_be(body + 26, 2) == 0;
	case HAUL_MESSAGE_AGGREGATE:
		return no_csum && entries_fit(body, body_len);
	default:
		return body_len >= 14 && csum_fits(message + 6, body_len);
	}
}

static uint8_t flags_of_type(uint8_t type)
{
	if (type == HAUL_MESSAGE_AGGREGATE)
		return HAUL_MESSAGE_DOWN;
	return type == HAUL_MESSAGE_REPLY ? HAUL_MESSAGE_ATTACHED : 0;
}

int32_t sample_status(const uint8_t *message, uint32_t len)
{
	if (len < 32)
		return HAUL_ESHORT;
	if (message[0] != 1)
		return HAUL_EVERSION;
	if (message[1] < HAUL_MESSAGE_HEARTBEAT || message[1] > HAUL_MESSAGE_AGGREGATE)
		return HAUL_ETYPE;
	if ((message[2] & ~flags_of_type(message[1])) != 0)
		return HAUL_ETYPE;
	if (len < get_be(message + 4, 2))
		return HAUL_ESHORT;
	if (len > get_be(message + 4, 2))
		return HAUL_ELONG;
	if (message[3] == 0)
		return HAUL_ETTL;
	if (get_be(message + 28, 4) != 0 || get_be(message + 16, 6) == HAUL_NODE_BROADCAST)
		return HAUL_ECORRUPT;
	return body_fits(message, len) ? 0 : HAUL_ECORRUPT;
}
