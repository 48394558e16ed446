#include <stdio.h>
#include <string.h>

#include <haul/err.h>
#include <haul/frames.h>
#include <haul/message.h>
#include "lib/testlib.h"
#include "wire/sample.h"

enum { BATCH = 64, ROW_BYTES = 64, ROUNDS = 200 };

#define SELF  UINT64_C(0x020000000001)
#define OTHER UINT64_C(0x0a0b0c0d0e0f)

static const struct haul_message_header plain = {
	.type = HAUL_MESSAGE_DATA_UP,
	.ttl = 9,
	.sequence = UINT64_C(0x6543210000000007),
	.origin = SELF,
	.destination = OTHER,
};

static int decode_all(uint8_t *bytes, uint32_t len, uint32_t stride, struct haul_messages *messages)
{
	struct haul_frames frames;
	assert_int_equal(haul_frames_init(&frames, messages->capacity), 0);
	for (uint32_t i = 0; i < messages->capacity; i++) {
		struct haul_frame row = { .data = bytes + i * stride, .len = len };
		assert_int_equal(haul_frames_push(&frames, &row), 0);
	}
	int good = haul_messages_decode(&frames, messages);
	haul_frames_done(&frames);
	return good;
}

static struct haul_heartbeat random_heartbeat(struct prng *prng)
{
	return (struct haul_heartbeat){
		.id = (uint32_t)prng_next(prng),
		.hops = (uint8_t)prng_next(prng),
		.period_ms = (uint16_t)prng_next(prng),
		.time_ns = prng_next(prng),
	};
}

static struct haul_message_header random_header(struct prng *prng, uint8_t type)
{
	return (struct haul_message_header){
		.type = type,
		.ttl = (uint8_t)(1 + prng_below(prng, 255)),
		.sequence = prng_next(prng),
		.origin = prng_next(prng) % HAUL_NODE_BROADCAST,
		.destination = prng_next(prng) & HAUL_NODE_BROADCAST,
	};
}

static void check_heartbeat(const struct haul_heartbeat *got, const struct haul_heartbeat *put)
{
	assert_int_equal(got->id, put->id);
	assert_int_equal(got->hops, put->hops);
	assert_int_equal(got->period_ms, put->period_ms);
	assert_true(got->time_ns == put->time_ns);
}

static void check_header(const struct haul_messages *m, uint32_t i,
			 const struct haul_message_header *put)
{
	assert_int_equal(m->status[i], 0);
	assert_int_equal(m->type[i], put->type);
	assert_int_equal(m->flags[i], put->flags);
	assert_int_equal(m->ttl[i], put->ttl);
	assert_true(m->sequence[i] == put->sequence + i);
	assert_true(m->origin[i] == put->origin);
	assert_true(m->destination[i] == put->destination);
}

/* The bytes of a heartbeat, written out by hand from wire/format.h. */
static void test_heartbeats_encode__writes_the_normative_bytes(void **state)
{
	(void)state;
	static const uint8_t expected[48] = {
		1,    1,    0,    9,    0,    48,   0,    0,    /* version … csum_offset */
		0x65, 0x43, 0x21, 0,    0,    0,    0,    7,    /* sequence */
		0x02, 0,    0,    0,    0,    0x01,             /* origin */
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff,             /* destination */
		0,    0,    0,    0,                            /* key_id */
		0xde, 0xad, 0xbe, 0xef, 3,    0,    0x03, 0xe8, /* id hops reserved period_ms */
		0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, /* time_ns */
	};
	struct haul_message_header header = plain;
	header.type = HAUL_MESSAGE_HEARTBEAT;
	header.destination = HAUL_NODE_BROADCAST;
	const struct haul_heartbeat heartbeat = { 0xdeadbeef, 3, 1000,
						  UINT64_C(0x0123456789abcdef) };
	uint8_t out[ROW_BYTES];
	assert_int_equal(haul_heartbeats_encode(&header, &heartbeat, 1, out, sizeof out), 48);
	assert_memory_equal(out, expected, sizeof expected);
}

/* The bytes of a reply, written out by hand from wire/format.h. */
static void test_replies_encode__writes_the_normative_bytes(void **state)
{
	(void)state;
	static const uint8_t expected[60] = {
		1,    2,    4,    9,    0,    60,   0,    0,    /* version … csum_offset */
		0x65, 0x43, 0x21, 0,    0,    0,    0,    7,    /* sequence */
		0x02, 0,    0,    0,    0,    0x01,             /* origin */
		0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f,             /* destination */
		0,    0,    0,    0,                            /* key_id */
		0,    0,    0,    2,    1,    0,    0xff, 0xff, /* id hops reserved period_ms */
		0,    0,    0,    0,    0,    0,    0,    5,    /* time_ns */
		0x10, 0x20, 0x30, 0x40,                         /* hold_us */
		0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0,    0,    /* client reserved */
	};
	struct haul_message_header header = plain;
	header.type = HAUL_MESSAGE_REPLY;
	header.flags = HAUL_MESSAGE_ATTACHED;
	const struct haul_heartbeat_reply reply = {
		.heartbeat = { 2, 1, 65535, 5 },
		.hold_us = 0x10203040,
		.client = UINT64_C(0x060504030201),
	};
	uint8_t out[ROW_BYTES];
	assert_int_equal(haul_replies_encode(&header, &reply, 1, out, sizeof out), 60);
	assert_memory_equal(out, expected, sizeof expected);
}

/* Any heartbeats survive the way through bytes, whatever their values; hops is what was put in (the
 * system before haul added one while it wrote), and nothing is written between the rows. */
static void test_heartbeats__come_back_as_they_went(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_messages messages;
	assert_int_equal(haul_messages_init(&messages, BATCH), 0);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct haul_heartbeat put[BATCH];
		uint8_t out[BATCH * ROW_BYTES];
		memset(out, 0xa5, sizeof out);
		for (uint32_t i = 0; i < BATCH; i++)
			put[i] = random_heartbeat(&prng);
		struct haul_message_header header = random_header(&prng, HAUL_MESSAGE_HEARTBEAT);
		uint32_t len = haul_heartbeats_encode(&header, put, BATCH, out, ROW_BYTES);
		assert_int_equal(len, 48);
		assert_int_equal(decode_all(out, len, ROW_BYTES, &messages), BATCH);
		for (uint32_t i = 0; i < BATCH; i++) {
			struct haul_heartbeat got;
			haul_heartbeat_get(messages.body[i], &got);
			check_heartbeat(&got, &put[i]);
			check_header(&messages, i, &header);
			for (uint32_t b = len; b < ROW_BYTES; b++)
				assert_int_equal(out[i * ROW_BYTES + b], 0xa5);
		}
	}
	haul_messages_done(&messages);
}

/* The same for replies. */
static void test_replies__come_back_as_they_went(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_messages messages;
	assert_int_equal(haul_messages_init(&messages, BATCH), 0);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct haul_heartbeat_reply put[BATCH];
		uint8_t out[BATCH * ROW_BYTES];
		for (uint32_t i = 0; i < BATCH; i++)
			put[i] = (struct haul_heartbeat_reply){
				.heartbeat = random_heartbeat(&prng),
				.hold_us = (uint32_t)prng_next(&prng),
				.client = prng_next(&prng) & HAUL_NODE_BROADCAST,
			};
		struct haul_message_header header = random_header(&prng, HAUL_MESSAGE_REPLY);
		uint32_t len = haul_replies_encode(&header, put, BATCH, out, ROW_BYTES);
		assert_int_equal(len, 60);
		assert_int_equal(decode_all(out, len, ROW_BYTES, &messages), BATCH);
		for (uint32_t i = 0; i < BATCH; i++) {
			struct haul_heartbeat_reply got;
			haul_reply_get(messages.body[i], &got);
			check_heartbeat(&got.heartbeat, &put[i].heartbeat);
			check_header(&messages, i, &header);
			assert_int_equal(got.hold_us, put[i].hold_us);
			assert_true(got.client == put[i].client);
		}
	}
	haul_messages_done(&messages);
}

/* Defect 12: the largest times and durations are values like any other. */
static void test_heartbeat__defect_12_takes_any_time(void **state)
{
	(void)state;
	struct haul_message_header header = plain;
	header.type = HAUL_MESSAGE_REPLY;
	const struct haul_heartbeat_reply put = {
		.heartbeat = { UINT32_MAX, UINT8_MAX, UINT16_MAX, UINT64_MAX },
		.hold_us = UINT32_MAX,
		.client = HAUL_NODE_BROADCAST,
	};
	uint8_t out[ROW_BYTES];
	struct haul_messages messages;
	assert_int_equal(haul_messages_init(&messages, 1), 0);
	uint32_t len = haul_replies_encode(&header, &put, 1, out, sizeof out);
	assert_int_equal(decode_all(out, len, ROW_BYTES, &messages), 1);
	struct haul_heartbeat_reply got;
	haul_reply_get(messages.body[0], &got);
	check_heartbeat(&got.heartbeat, &put.heartbeat);
	assert_int_equal(got.hold_us, UINT32_MAX);
	assert_true(got.client == HAUL_NODE_BROADCAST);
	haul_messages_done(&messages);
}

/* A message of every kind, passed on: TTL one less, hops of heartbeats and replies one more (and
 * never back to 0), every other byte the same. */
static void test_relay__changes_only_ttl_and_hops(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t round = 0; round < ROUNDS * SAMPLES; round++) {
		uint8_t message[SAMPLE_BYTES_MAX];
		uint8_t expected[SAMPLE_BYTES_MAX];
		const enum sample which = round % SAMPLES;
		const uint32_t len = sample_make(which, &prng, message);
		message[3] = (uint8_t)(2 + prng_below(&prng, 254));
		if (round % 3 == 0)
			message[36] = UINT8_MAX;
		memcpy(expected, message, len);
		expected[3]--;
		if (which == SAMPLE_HEARTBEAT || which == SAMPLE_REPLY)
			expected[36] = (uint8_t)(expected[36] + (expected[36] < UINT8_MAX));
		haul_message_relay(message);
		assert_memory_equal(message, expected, len);
	}
}

/* What put writes is what decode gives back, for every field that a header has. */
static void test_message_put__is_the_inverse_of_decode(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_messages messages;
	assert_int_equal(haul_messages_init(&messages, 1), 0);
	for (uint32_t round = 0; round < ROUNDS * SAMPLES; round++) {
		uint8_t message[SAMPLE_BYTES_MAX];
		uint8_t again[SAMPLE_BYTES_MAX];
		const uint32_t len = sample_make(round % SAMPLES, &prng, message);
		assert_int_equal(decode_all(message, len, len, &messages), 1);
		const struct haul_message_header header = {
			.type = messages.type[0],
			.flags = messages.flags[0],
			.ttl = messages.ttl[0],
			.csum_start = messages.csum_start[0],
			.csum_offset = messages.csum_offset[0],
			.sequence = messages.sequence[0],
			.origin = messages.origin[0],
			.destination = messages.destination[0],
		};
		memset(again, 0xa5, sizeof again);
		haul_message_put(again, &header, len);
		assert_memory_equal(again, message, HAUL_MESSAGE_HEADER_BYTES);
		assert_int_equal(again[HAUL_MESSAGE_HEADER_BYTES], 0xa5);
	}
	haul_messages_done(&messages);
}

struct slot { /* a frame as a link receives it: room in front */
	uint8_t headroom[HAUL_FRAME_HEADROOM_BYTES];
	uint8_t frame[ROW_BYTES];
};

static void slots_push(struct slot *slot, uint32_t count, struct haul_frames *frames)
{
	for (uint32_t i = 0; i < count; i++) {
		memset(slot[i].headroom, 0x5a, sizeof slot[i].headroom);
		memset(slot[i].frame, (int)i, sizeof slot[i].frame);
		struct haul_frame row = { .data = slot[i].frame, .len = 14 + i, .peer = 40 + i };
		row.flags = HAUL_FRAME_HEADROOM | HAUL_FRAME_BROADCAST;
		if (i % 2 == 1) {
			row.flags |= HAUL_FRAME_CSUM_PARTIAL;
			row.csum_start = (uint16_t)i;
			row.csum_offset = 6;
		}
		assert_int_equal(haul_frames_push(frames, &row), 0);
	}
}

/* A header in front of some frames of a batch, in their headroom: rising sequences, each frame's
 * own checksum, and not a byte or column touched elsewhere. */
static void test_prepend__puts_headers_in_place(void **state)
{
	(void)state;
	enum { COUNT = 8, FIRST = 2, PREPENDED = 5 };
	struct slot slot[COUNT];
	struct haul_frames frames;
	assert_int_equal(haul_frames_init(&frames, COUNT), 0);
	slots_push(slot, COUNT, &frames);
	assert_true(haul_messages_prepend(&frames, FIRST, PREPENDED, &plain) ==
		    plain.sequence + PREPENDED);
	for (uint32_t i = 0; i < COUNT; i++) {
		const bool done = i >= FIRST && i < FIRST + PREPENDED;
		const uint32_t header_bytes = done ? HAUL_MESSAGE_HEADER_BYTES : 0;
		const uint8_t *start = (uint8_t *)&slot[i] + HAUL_FRAME_HEADROOM_BYTES;
		assert_ptr_equal(frames.data[i], start - header_bytes);
		assert_int_equal(frames.len[i], 14 + i + header_bytes);
		assert_int_equal(frames.peer[i], 40 + i);
		assert_int_equal(frames.flags[i] & HAUL_FRAME_BROADCAST, HAUL_FRAME_BROADCAST);
		assert_int_equal((frames.flags[i] & HAUL_FRAME_HEADROOM) == 0, done);
		assert_int_equal((frames.flags[i] & HAUL_FRAME_CSUM_PARTIAL) != 0,
				 !done && i % 2 == 1);
		for (uint32_t b = 0; b < HAUL_FRAME_HEADROOM_BYTES - header_bytes; b++)
			assert_int_equal(slot[i].headroom[b], 0x5a);
		for (uint32_t b = 0; b < ROW_BYTES; b++)
			assert_int_equal(slot[i].frame[b], i);
	}
	haul_frames_done(&frames);
}

/* What was prepended decodes to the same frames, and partial checksums travel in the header. */
static void test_prepend__decodes_to_the_same_frames(void **state)
{
	(void)state;
	enum { COUNT = 8 };
	struct slot slot[COUNT];
	struct haul_frames frames;
	struct haul_messages messages;
	assert_int_equal(haul_frames_init(&frames, COUNT), 0);
	assert_int_equal(haul_messages_init(&messages, COUNT), 0);
	slots_push(slot, COUNT, &frames);
	haul_messages_prepend(&frames, 0, COUNT, &plain);
	assert_int_equal(haul_messages_decode(&frames, &messages), COUNT);
	for (uint32_t i = 0; i < COUNT; i++) {
		check_header(&messages, i, &plain);
		assert_ptr_equal(messages.body[i], slot[i].frame);
		assert_int_equal(messages.body_len[i], 14 + i);
		assert_int_equal(messages.csum_start[i], i % 2 == 1 ? i : 0);
		assert_int_equal(messages.csum_offset[i], i % 2 == 1 ? 6 : 0);
	}
	haul_messages_done(&messages);
	haul_frames_done(&frames);
}

/* The length of a frame in two pieces counts both: the link joins them as it sends. */
static void test_prepend__counts_both_pieces(void **state)
{
	(void)state;
	struct slot slot;
	uint8_t tail[1000] = { 0 };
	struct haul_frames frames;
	assert_int_equal(haul_frames_init(&frames, 1), 0);
	slots_push(&slot, 1, &frames);
	frames.tail[0] = tail;
	frames.tail_len[0] = sizeof tail;
	haul_messages_prepend(&frames, 0, 1, &plain);
	uint8_t joined[sizeof tail + ROW_BYTES + HAUL_MESSAGE_HEADER_BYTES];
	const uint32_t len = haul_frame_copy(&frames, 0, joined);
	assert_int_equal(len, 32 + 14 + 1000);
	assert_int_equal(sample_status(joined, len), 0);
	haul_frames_done(&frames);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_heartbeats_encode__writes_the_normative_bytes),
		cmocka_unit_test(test_replies_encode__writes_the_normative_bytes),
		cmocka_unit_test(test_heartbeats__come_back_as_they_went),
		cmocka_unit_test(test_replies__come_back_as_they_went),
		cmocka_unit_test(test_heartbeat__defect_12_takes_any_time),
		cmocka_unit_test(test_relay__changes_only_ttl_and_hops),
		cmocka_unit_test(test_message_put__is_the_inverse_of_decode),
		cmocka_unit_test(test_prepend__puts_headers_in_place),
		cmocka_unit_test(test_prepend__decodes_to_the_same_frames),
		cmocka_unit_test(test_prepend__counts_both_pieces),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
