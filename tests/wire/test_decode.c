#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <haul/err.h>
#include <haul/frames.h>
#include <haul/message.h>
#include "lib/testlib.h"
#include "wire/sample.h"

enum { BATCH = 5, LAST = BATCH - 1 };

/* A batch of good messages that a test spoils one of. */
struct batch {
	struct haul_frames frames;
	struct haul_messages messages;
	uint8_t bytes[BATCH][SAMPLE_BYTES_MAX + 16];
	uint32_t len[BATCH];
};

static void batch_open(struct batch *batch)
{
	struct prng prng;
	prng_init(&prng, 7);
	memset(batch, 0, sizeof *batch);
	assert_int_equal(haul_frames_init(&batch->frames, BATCH), 0);
	assert_int_equal(haul_messages_init(&batch->messages, BATCH), 0);
	for (uint32_t i = 0; i < BATCH; i++)
		batch->len[i] = sample_make(i % SAMPLES, &prng, batch->bytes[i]);
}

static void batch_close(struct batch *batch)
{
	haul_frames_done(&batch->frames);
	haul_messages_done(&batch->messages);
}

static int batch_decode(struct batch *batch)
{
	haul_frames_clear(&batch->frames);
	for (uint32_t i = 0; i < BATCH; i++) {
		struct haul_frame row = { .data = batch->bytes[i], .len = batch->len[i] };
		assert_int_equal(haul_frames_push(&batch->frames, &row), 0);
	}
	return haul_messages_decode(&batch->frames, &batch->messages);
}

/* A rejected row tells its status, and nothing else. */
static void check_row_is_zero(const struct haul_messages *m, uint32_t i)
{
	assert_int_equal(m->type[i], 0);
	assert_int_equal(m->flags[i], 0);
	assert_int_equal(m->ttl[i], 0);
	assert_int_equal(m->csum_start[i], 0);
	assert_int_equal(m->csum_offset[i], 0);
	assert_int_equal(m->sequence[i], 0);
	assert_int_equal(m->origin[i], 0);
	assert_int_equal(m->destination[i], 0);
	assert_null(m->body[i]);
	assert_int_equal(m->body_len[i], 0);
}

struct rejection {
	const char *name;
	enum sample base;
	int grow;        /* bytes more (or less) than the good message has */
	bool relength;   /* make the length field agree with that */
	uint32_t offset; /* where value is written, times times; after the length */
	uint32_t times;
	uint8_t value;
	int32_t status;
};

#define POKE(at, v)    .offset = (at), .times = 1, .value = (v)
#define FILL(at, n, v) .offset = (at), .times = (n), .value = (v)
#define ENTRY_2_LENGTH (SAMPLE_ENTRY_2 + 1) /* low byte */

static const struct rejection rejections[] = {
	{ "heartbeat one byte short", SAMPLE_HEARTBEAT, .grow = -1, .status = HAUL_ESHORT },
	{ "reply one byte short", SAMPLE_REPLY, .grow = -1, .status = HAUL_ESHORT },
	{ "data one byte short", SAMPLE_DATA_UP, .grow = -1, .status = HAUL_ESHORT },
	{ "aggregate one byte short", SAMPLE_AGGREGATE, .grow = -1, .status = HAUL_ESHORT },
	{ "header one byte short", SAMPLE_HEARTBEAT, .grow = -17, .status = HAUL_ESHORT },
	{ "one byte", SAMPLE_HEARTBEAT, .grow = -47, .status = HAUL_ESHORT },
	{ "length 65535", SAMPLE_DATA_UP, FILL(4, 2, 0xff), .status = HAUL_ESHORT },
	{ "heartbeat one byte long", SAMPLE_HEARTBEAT, .grow = 1, .status = HAUL_ELONG },
	{ "reply one byte long", SAMPLE_REPLY, .grow = 1, .status = HAUL_ELONG },
	{ "data one byte long", SAMPLE_DATA_DOWN, .grow = 1, .status = HAUL_ELONG },
	{ "aggregate one byte long", SAMPLE_AGGREGATE, .grow = 1, .status = HAUL_ELONG },
	{ "length 0", SAMPLE_DATA_UP, FILL(4, 2, 0), .status = HAUL_ELONG },
	{ "length 31", SAMPLE_DATA_UP, POKE(5, 31), .status = HAUL_ELONG },
	{ "version 0", SAMPLE_DATA_UP, POKE(0, 0), .status = HAUL_EVERSION },
	{ "version 2", SAMPLE_HEARTBEAT, POKE(0, 2), .status = HAUL_EVERSION },
	{ "version 255", SAMPLE_AGGREGATE, POKE(0, 255), .status = HAUL_EVERSION },
	{ "version and type", SAMPLE_DATA_UP, FILL(0, 2, 9), .status = HAUL_EVERSION },
	{ "type 0", SAMPLE_DATA_UP, POKE(1, 0), .status = HAUL_ETYPE },
	{ "type 6", SAMPLE_DATA_UP, POKE(1, 6), .status = HAUL_ETYPE },
	{ "type 255", SAMPLE_DATA_UP, POKE(1, 255), .status = HAUL_ETYPE },
	{ "sealed heartbeat", SAMPLE_HEARTBEAT, POKE(2, 1), .status = HAUL_ETYPE },
	{ "sealed data", SAMPLE_DATA_UP, POKE(2, 1), .status = HAUL_ETYPE },
	{ "sealed aggregate", SAMPLE_AGGREGATE, POKE(2, 1 | 2), .status = HAUL_ETYPE },
	{ "heartbeat going down", SAMPLE_HEARTBEAT, POKE(2, 2), .status = HAUL_ETYPE },
	{ "data with the aggregate's flag", SAMPLE_DATA_DOWN, POKE(2, 2), .status = HAUL_ETYPE },
	{ "attached heartbeat", SAMPLE_HEARTBEAT, POKE(2, 4), .status = HAUL_ETYPE },
	{ "attached data", SAMPLE_DATA_UP, POKE(2, 4), .status = HAUL_ETYPE },
	{ "reply going down", SAMPLE_REPLY, POKE(2, 2), .status = HAUL_ETYPE },
	{ "flag 4", SAMPLE_AGGREGATE, POKE(2, 4), .status = HAUL_ETYPE },
	{ "flag 128", SAMPLE_REPLY, POKE(2, 128), .status = HAUL_ETYPE },
	{ "ttl 0 heartbeat", SAMPLE_HEARTBEAT, POKE(3, 0), .status = HAUL_ETTL },
	{ "ttl 0 reply", SAMPLE_REPLY, POKE(3, 0), .status = HAUL_ETTL },
	{ "ttl 0 data", SAMPLE_DATA_UP, POKE(3, 0), .status = HAUL_ETTL },
	{ "ttl 0 aggregate", SAMPLE_AGGREGATE, POKE(3, 0), .status = HAUL_ETTL },
	{ "heartbeat body 15", SAMPLE_HEARTBEAT, -1, true, .status = HAUL_ECORRUPT },
	{ "heartbeat body 17", SAMPLE_HEARTBEAT, 1, true, .status = HAUL_ECORRUPT },
	{ "heartbeat body 0", SAMPLE_HEARTBEAT, -16, true, .status = HAUL_ECORRUPT },
	{ "reply body 27", SAMPLE_REPLY, -1, true, .status = HAUL_ECORRUPT },
	{ "reply body 29", SAMPLE_REPLY, 1, true, .status = HAUL_ECORRUPT },
	{ "reply body of a heartbeat", SAMPLE_REPLY, -12, true, .status = HAUL_ECORRUPT },
	{ "data body 13", SAMPLE_DATA_UP, 13 - SAMPLE_DATA_BYTES, true, .status = HAUL_ECORRUPT },
	{ "data body 0", SAMPLE_DATA_DOWN, -SAMPLE_DATA_BYTES, true, .status = HAUL_ECORRUPT },
	{ "heartbeat reserved", SAMPLE_HEARTBEAT, POKE(37, 1), .status = HAUL_ECORRUPT },
	{ "reply reserved 5", SAMPLE_REPLY, POKE(37, 0x80), .status = HAUL_ECORRUPT },
	{ "reply reserved 26", SAMPLE_REPLY, POKE(58, 1), .status = HAUL_ECORRUPT },
	{ "reply reserved 27", SAMPLE_REPLY, POKE(59, 1), .status = HAUL_ECORRUPT },
	{ "heartbeat csum_start", SAMPLE_HEARTBEAT, POKE(6, 1), .status = HAUL_ECORRUPT },
	{ "heartbeat csum_offset", SAMPLE_HEARTBEAT, POKE(7, 1), .status = HAUL_ECORRUPT },
	{ "reply csum", SAMPLE_REPLY, FILL(6, 2, 1), .status = HAUL_ECORRUPT },
	{ "aggregate csum", SAMPLE_AGGREGATE, FILL(6, 2, 1), .status = HAUL_ECORRUPT },
	{ "start without offset", SAMPLE_PARTIAL, POKE(7, 0), .status = HAUL_ECORRUPT },
	{ "field one byte outside", SAMPLE_PARTIAL, POKE(7, 25), .status = HAUL_ECORRUPT },
	{ "field far outside", SAMPLE_DATA_DOWN, FILL(6, 2, 255), .status = HAUL_ECORRUPT },
	{ "key id, first byte", SAMPLE_DATA_UP, POKE(28, 1), .status = HAUL_ECORRUPT },
	{ "key id, last byte", SAMPLE_DATA_UP, POKE(31, 1), .status = HAUL_ECORRUPT },
	{ "key id of a heartbeat", SAMPLE_HEARTBEAT, POKE(30, 1), .status = HAUL_ECORRUPT },
	{ "broadcast origin", SAMPLE_DATA_UP, FILL(16, 6, 0xff), .status = HAUL_ECORRUPT },
	{ "broadcast heartbeat", SAMPLE_HEARTBEAT, FILL(16, 6, 0xff), .status = HAUL_ECORRUPT },
	{ "no entry", SAMPLE_AGGREGATE, 32 - SAMPLE_AGGREGATE_BYTES, true,
	  .status = HAUL_ECORRUPT },
	{ "half an entry", SAMPLE_AGGREGATE, 34 - SAMPLE_AGGREGATE_BYTES, true,
	  .status = HAUL_ECORRUPT },
	{ "entry cut by one", SAMPLE_AGGREGATE, -1, true, .status = HAUL_ECORRUPT },
	{ "one byte behind the entries", SAMPLE_AGGREGATE, 1, true, .status = HAUL_ECORRUPT },
	{ "an empty entry behind", SAMPLE_AGGREGATE, 4, true, FILL(SAMPLE_AGGREGATE_BYTES, 4, 0),
	  .status = HAUL_ECORRUPT },
	{ "first entry empty", SAMPLE_AGGREGATE, FILL(SAMPLE_ENTRY_0, 4, 0),
	  .status = HAUL_ECORRUPT },
	{ "entry of 13", SAMPLE_AGGREGATE, POKE(SAMPLE_ENTRY_1 + 1, 13), .status = HAUL_ECORRUPT },
	{ "entry one too long", SAMPLE_AGGREGATE, POKE(ENTRY_2_LENGTH, 101),
	  .status = HAUL_ECORRUPT },
	{ "entry one too short", SAMPLE_AGGREGATE, POKE(ENTRY_2_LENGTH, 99),
	  .status = HAUL_ECORRUPT },
	{ "entry of 65535", SAMPLE_AGGREGATE, FILL(SAMPLE_ENTRY_0, 2, 0xff),
	  .status = HAUL_ECORRUPT },
	{ "entry start without offset", SAMPLE_AGGREGATE, POKE(SAMPLE_ENTRY_2 + 3, 0),
	  .status = HAUL_ECORRUPT },
	{ "entry field outside", SAMPLE_AGGREGATE, POKE(SAMPLE_ENTRY_2 + 3, 65),
	  .status = HAUL_ECORRUPT },
	{ "entry field in no room", SAMPLE_AGGREGATE, POKE(SAMPLE_ENTRY_1 + 3, 13),
	  .status = HAUL_ECORRUPT },
};

enum { REJECTIONS = sizeof rejections / sizeof rejections[0] };

static void spoil(const struct rejection *r, uint8_t *message, uint32_t *len)
{
	struct prng prng;
	prng_init(&prng, 11);
	memset(message, 0, SAMPLE_BYTES_MAX);
	*len = (uint32_t)((int)sample_make(r->base, &prng, message) + r->grow);
	if (r->relength) {
		message[4] = (uint8_t)(*len >> 8);
		message[5] = (uint8_t)*len;
	}
	memset(message + r->offset, r->value, r->times);
}

static const enum haul_reject reject_by_status[] = {
	[HAUL_EBASE - HAUL_ESHORT] = HAUL_REJECT_SHORT,
	[HAUL_EBASE - HAUL_ELONG] = HAUL_REJECT_LONG,
	[HAUL_EBASE - HAUL_EVERSION] = HAUL_REJECT_VERSION,
	[HAUL_EBASE - HAUL_ETYPE] = HAUL_REJECT_TYPE,
	[HAUL_EBASE - HAUL_ETTL] = HAUL_REJECT_TTL,
	[HAUL_EBASE - HAUL_ECORRUPT] = HAUL_REJECT_CORRUPT,
};

static void check_counters(const struct haul_messages *messages, int32_t status)
{
	enum { FIRST = 3 };
	struct haul_counter counters[FIRST + HAUL_REJECTS] = { 0 };
	struct haul_stats stats;
	haul_stats_init(&stats, "test", counters, FIRST + HAUL_REJECTS);
	assert_int_equal(haul_messages_count_rejects(messages, &stats, FIRST), 1);
	for (uint32_t c = 0; c < FIRST + HAUL_REJECTS; c++) {
		uint32_t expected = FIRST + (uint32_t)reject_by_status[HAUL_EBASE - status];
		assert_int_equal(stats.extra[c], c == expected);
	}
}

/* Every rule of wire/format.h, broken by the first, a middle and the last message of a batch: that
 * one is rejected for that reason and counted, and its neighbours are decoded all the same. */
static void test_decode__rejects_what_breaks_a_rule(void **state)
{
	(void)state;
	static const uint32_t places[] = { 0, BATCH / 2, LAST };
	for (uint32_t r = 0; r < REJECTIONS; r++) {
		for (uint32_t p = 0; p < sizeof places / sizeof places[0]; p++) {
			struct batch batch;
			batch_open(&batch);
			uint32_t at = places[p];
			spoil(&rejections[r], batch.bytes[at], &batch.len[at]);
			int good = batch_decode(&batch);
			if (good != BATCH - 1 || batch.messages.status[at] != rejections[r].status)
				fail_msg("\"%s\" at %u: %d good, status %d (%s)",
					 rejections[r].name, at, good, batch.messages.status[at],
					 haul_strerror(batch.messages.status[at]));
			for (uint32_t i = 0; i < BATCH; i++)
				assert_int_equal(batch.messages.status[i] == 0, i != at);
			check_row_is_zero(&batch.messages, at);
			check_counters(&batch.messages, rejections[r].status);
			batch_close(&batch);
		}
	}
}

/* The second opinion that the random tests trust agrees with the table. */
static void test_sample_status__agrees_with_the_table(void **state)
{
	(void)state;
	for (uint32_t r = 0; r < REJECTIONS; r++) {
		uint8_t message[SAMPLE_BYTES_MAX];
		uint32_t len;
		spoil(&rejections[r], message, &len);
		if (sample_status(message, len) != rejections[r].status)
			fail_msg("\"%s\": status %d", rejections[r].name,
				 sample_status(message, len));
	}
}

/* Columns hold the header's fields, and bodies lie in the frames. */
static void test_decode__fills_columns(void **state)
{
	(void)state;
	struct batch batch;
	batch_open(&batch);
	static const uint8_t header[32] = {
		1,    5,    2,    77,   0,    50,   0,    0,    0x11, 0x12, 0x13,
		0x14, 0x15, 0x16, 0x17, 0x18, 0x02, 0x22, 0x23, 0x24, 0x25, 0x26,
		0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0,    0,    0,    0,
	};
	memset(batch.bytes[2], 0, sizeof batch.bytes[2]);
	memcpy(batch.bytes[2], header, sizeof header);
	batch.bytes[2][33] = 14;
	batch.len[2] = 50;
	assert_int_equal(batch_decode(&batch), BATCH);
	const struct haul_messages *m = &batch.messages;
	assert_int_equal(m->count, BATCH);
	assert_int_equal(m->status[2], 0);
	assert_int_equal(m->type[2], HAUL_MESSAGE_AGGREGATE);
	assert_int_equal(m->flags[2], HAUL_MESSAGE_DOWN);
	assert_int_equal(m->ttl[2], 77);
	assert_true(m->sequence[2] == UINT64_C(0x1112131415161718));
	assert_true(m->origin[2] == UINT64_C(0x022223242526));
	assert_true(m->destination[2] == UINT64_C(0x313233343536));
	for (uint32_t i = 0; i < BATCH; i++) {
		assert_ptr_equal(m->body[i], batch.bytes[i] + 32);
		assert_int_equal(m->body_len[i], batch.len[i] - 32);
	}
	batch_close(&batch);
}

/* A checksum field may end where its frame ends. */
static void test_decode__takes_a_checksum_field_at_the_very_end(void **state)
{
	(void)state;
	struct batch batch;
	batch_open(&batch);
	for (uint32_t i = 0; i < BATCH; i++) {
		struct prng prng;
		prng_init(&prng, i);
		batch.len[i] = sample_make(SAMPLE_PARTIAL, &prng, batch.bytes[i]);
		batch.bytes[i][6] = (uint8_t)(SAMPLE_DATA_BYTES - 2 - i - 1);
		batch.bytes[i][7] = (uint8_t)(i + 1);
	}
	assert_int_equal(batch_decode(&batch), BATCH);
	assert_int_equal(batch.messages.csum_start[1], SAMPLE_DATA_BYTES - 4);
	assert_int_equal(batch.messages.csum_offset[1], 2);
	batch_close(&batch);
}

/* No link receives a message in two pieces: it would be judged by its first piece alone. */
static void test_decode__rejects_two_pieces(void **state)
{
	(void)state;
	struct batch batch;
	uint8_t tail[4] = { 0 };
	batch_open(&batch);
	batch_decode(&batch);
	batch.frames.tail[1] = tail;
	batch.frames.tail_len[1] = sizeof tail;
	batch.frames.tail[3] = tail;
	batch.frames.tail_len[3] = sizeof tail;
	batch.frames.len[3] = 20;
	assert_int_equal(haul_messages_decode(&batch.frames, &batch.messages), BATCH - 2);
	assert_int_equal(batch.messages.status[1], HAUL_ECORRUPT);
	assert_int_equal(batch.messages.status[3], HAUL_ECORRUPT);
	check_row_is_zero(&batch.messages, 1);
	check_row_is_zero(&batch.messages, 3);
	batch_close(&batch);
}

/* Defect 2: a frame with two messages back to back is rejected whole, it is never taken for one
 * data message whose payload swallows the other. */
static void test_decode__defect_2_rejects_concatenated_messages(void **state)
{
	(void)state;
	struct batch batch;
	uint8_t joined[2 * SAMPLE_BYTES_MAX];
	batch_open(&batch);
	batch_decode(&batch);
	for (uint32_t a = 0; a < BATCH; a++) {
		for (uint32_t b = 0; b < BATCH; b++) {
			memcpy(joined, batch.bytes[a], batch.len[a]);
			memcpy(joined + batch.len[a], batch.bytes[b], batch.len[b]);
			batch.frames.data[1] = joined;
			batch.frames.len[1] = batch.len[a] + batch.len[b];
			assert_int_equal(haul_messages_decode(&batch.frames, &batch.messages),
					 BATCH - 1);
			assert_int_equal(batch.messages.status[1], HAUL_ELONG);
		}
	}
	batch_close(&batch);
}

static int32_t decode_alone(uint8_t *message, uint32_t len)
{
	struct haul_frames frames;
	struct haul_messages messages;
	assert_int_equal(haul_frames_init(&frames, 1), 0);
	assert_int_equal(haul_messages_init(&messages, 1), 0);
	struct haul_frame row = { .data = message, .len = len };
	assert_int_equal(haul_frames_push(&frames, &row), 0);
	int good = haul_messages_decode(&frames, &messages);
	int32_t status = messages.status[0];
	assert_int_equal(good, status == 0);
	haul_frames_done(&frames);
	haul_messages_done(&messages);
	return status;
}

/* Two entries that fill the body exactly, the first or the last too small to be a frame, or just
 * not. */
static void test_decode__rejects_an_entry_smaller_than_a_frame(void **state)
{
	(void)state;
	for (uint32_t small = 0; small <= 14; small++) {
		for (uint32_t first = 0; first < 2; first++) {
			uint8_t message[32 + 4 + 14 + 4 + 14] = { 1, 5, 0, 1 };
			const uint32_t len = 32 + 4 + 14 + 4 + small;
			const uint32_t entry_0 = first ? small : 14;
			message[5] = (uint8_t)len;
			message[32 + 1] = (uint8_t)entry_0;
			message[32 + 4 + entry_0 + 1] = (uint8_t)(14 + small - entry_0);
			assert_int_equal(decode_alone(message, len),
					 small < 14 ? HAUL_ECORRUPT : 0);
		}
	}
}

/* Each message, cut after every byte, at the end of readable memory: once as it is, once with a
 * length field that agrees with the cut, so that only its contents can tell. */
static void test_decode__never_reads_past_the_end(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct test_guard guard;
	test_guard_open(&guard, SAMPLE_BYTES_MAX);
	for (uint32_t which = 0; which < SAMPLES; which++) {
		uint8_t message[SAMPLE_BYTES_MAX];
		const uint32_t full = sample_make(which, &prng, message);
		for (uint32_t len = 1; len <= full; len++) {
			uint8_t *cut = guard.data + SAMPLE_BYTES_MAX - len;
			memcpy(cut, message, len);
			assert_int_equal(decode_alone(cut, len), len < full ? HAUL_ESHORT : 0);
			if (len < 32)
				continue;
			cut[4] = (uint8_t)(len >> 8);
			cut[5] = (uint8_t)len;
			assert_int_equal(decode_alone(cut, len), sample_status(cut, len));
		}
	}
	test_guard_close(&guard);
}

/* An empty batch is no error. */
static void test_decode__takes_an_empty_batch(void **state)
{
	(void)state;
	struct batch batch;
	batch_open(&batch);
	assert_int_equal(batch_decode(&batch), BATCH);
	haul_frames_clear(&batch.frames);
	assert_int_equal(haul_messages_decode(&batch.frames, &batch.messages), 0);
	assert_int_equal(batch.messages.count, 0);
	batch_close(&batch);
}

/* The columns of the largest batch do not touch each other. */
static void test_messages_init__makes_room_for_the_largest_batch(void **state)
{
	(void)state;
	struct haul_messages m;
	assert_int_equal(haul_messages_init(&m, 0), -EINVAL);
	assert_int_equal(haul_messages_init(&m, HAUL_FRAMES_MAX + 1), -EINVAL);
	assert_int_equal(haul_messages_init(&m, HAUL_FRAMES_MAX), 0);
	assert_int_equal(m.capacity, HAUL_FRAMES_MAX);
	const uint32_t last = HAUL_FRAMES_MAX - 1;
	m.status[last] = -1;
	m.type[last] = 1;
	m.flags[last] = 2;
	m.ttl[last] = 3;
	m.csum_start[last] = 4;
	m.csum_offset[last] = 5;
	m.sequence[last] = 6;
	m.origin[last] = 7;
	m.destination[last] = 8;
	m.body[last] = &m.type[last];
	m.body_len[last] = 9;
	assert_int_equal(m.status[0] | m.type[0] | m.flags[0] | m.ttl[0] | m.csum_start[0], 0);
	assert_int_equal(m.csum_offset[0] | m.body_len[0], 0);
	assert_true((m.sequence[0] | m.origin[0] | m.destination[0]) == 0);
	assert_null(m.body[0]);
	haul_messages_done(&m);
	haul_messages_done(&m);
	haul_messages_done(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decode__rejects_what_breaks_a_rule),
		cmocka_unit_test(test_sample_status__agrees_with_the_table),
		cmocka_unit_test(test_decode__fills_columns),
		cmocka_unit_test(test_decode__takes_a_checksum_field_at_the_very_end),
		cmocka_unit_test(test_decode__rejects_two_pieces),
		cmocka_unit_test(test_decode__defect_2_rejects_concatenated_messages),
		cmocka_unit_test(test_decode__rejects_an_entry_smaller_than_a_frame),
		cmocka_unit_test(test_decode__never_reads_past_the_end),
		cmocka_unit_test(test_decode__takes_an_empty_batch),
		cmocka_unit_test(test_messages_init__makes_room_for_the_largest_batch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
