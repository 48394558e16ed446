#include <stdio.h>
#include <string.h>

#include <haul/err.h>
#include <haul/frames.h>
#include <haul/message.h>
#include "lib/testlib.h"
#include "wire/sample.h"

enum { FRAMES = 24, FRAME_BYTES_MAX = 300, BODY_BYTES_MAX = FRAMES * (FRAME_BYTES_MAX + 4) };

struct source {
	struct haul_frames frames;
	uint8_t bytes[FRAMES][FRAME_BYTES_MAX];
};

/* Frames of random sizes and bytes, some in two pieces, some with a partial checksum. */
static void source_open(struct source *source, struct prng *prng)
{
	assert_int_equal(haul_frames_init(&source->frames, FRAMES), 0);
	for (uint32_t i = 0; i < FRAMES; i++) {
		const uint32_t len = 14 + prng_below(prng, FRAME_BYTES_MAX - 14);
		for (uint32_t b = 0; b < len; b++)
			source->bytes[i][b] = (uint8_t)prng_next(prng);
		struct haul_frame row = { .data = source->bytes[i], .len = len };
		if (prng_below(prng, 2)) {
			row.tail_len = prng_below(prng, len);
			row.len -= row.tail_len;
			row.tail = row.data + row.len;
		}
		if (prng_below(prng, 2)) {
			row.flags = HAUL_FRAME_CSUM_PARTIAL;
			row.csum_offset = (uint16_t)(1 + prng_below(prng, 8));
			row.csum_start = (uint16_t)prng_below(prng, len - row.csum_offset - 1);
			row.csum_start &= UINT8_MAX;
		}
		assert_int_equal(haul_frames_push(&source->frames, &row), 0);
	}
}

static uint32_t source_put(const struct source *source, uint32_t count, uint8_t *body)
{
	uint32_t at = 0;
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t bytes = haul_aggregate_put(body + at, &source->frames, i);
		assert_int_equal(bytes,
				 haul_frame_bytes(&source->frames, i) + HAUL_AGGREGATE_ENTRY_BYTES);
		at += bytes;
	}
	return at;
}

static void check_row(const struct haul_frames *got, uint32_t row, const struct source *source,
		      uint32_t i)
{
	const struct haul_frames *put = &source->frames;
	const bool partial = put->flags[i] == HAUL_FRAME_CSUM_PARTIAL;
	assert_int_equal(got->len[row], haul_frame_bytes(put, i));
	assert_memory_equal(got->data[row], source->bytes[i], got->len[row]);
	assert_int_equal(got->tail_len[row], 0);
	assert_int_equal(got->flags[row], put->flags[i]);
	assert_int_equal(got->csum_start[row], partial ? put->csum_start[i] : 0);
	assert_int_equal(got->csum_offset[row], partial ? put->csum_offset[i] : 0);
	assert_int_equal(got->from[row], 0);
	assert_int_equal(got->status[row], 0);
}

/* Any frames put in come out the same, in order, behind what the batch held, pointing into the
 * body; the body is one that decode takes. */
static void test_aggregate__gives_back_what_was_put_in(void **state)
{
	(void)state;
	enum { ROUNDS = 200, PEER = 77 };
	struct prng prng;
	test_prng(&prng);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct source source;
		struct haul_frames out;
		uint8_t message[HAUL_MESSAGE_HEADER_BYTES + BODY_BYTES_MAX];
		uint8_t *body = message + HAUL_MESSAGE_HEADER_BYTES;
		source_open(&source, &prng);
		assert_int_equal(haul_frames_init(&out, 1 + FRAMES), 0);
		const struct haul_frame before = { .data = message, .len = 1, .peer = 3 };
		assert_int_equal(haul_frames_push(&out, &before), 0);

		const uint32_t count = 1 + prng_below(&prng, FRAMES);
		const uint32_t body_len = source_put(&source, count, body);
		const struct haul_message_header header = { .type = HAUL_MESSAGE_AGGREGATE,
							    .ttl = 1 };
		haul_message_put(message, &header, HAUL_MESSAGE_HEADER_BYTES + body_len);
		assert_int_equal(sample_status(message, HAUL_MESSAGE_HEADER_BYTES + body_len), 0);
		assert_int_equal(haul_aggregate_count(body, body_len), count);
		assert_int_equal(haul_aggregate_split(body, body_len, PEER, &out), count);
		assert_int_equal(out.count, 1 + count);
		assert_int_equal(out.peer[0], 3);
		const uint8_t *at = body;
		for (uint32_t i = 0; i < count; i++) {
			check_row(&out, 1 + i, &source, i);
			assert_int_equal(out.peer[1 + i], PEER);
			assert_ptr_equal(out.data[1 + i], at + HAUL_AGGREGATE_ENTRY_BYTES);
			at += HAUL_AGGREGATE_ENTRY_BYTES + out.len[1 + i];
		}
		haul_frames_done(&out);
		haul_frames_done(&source.frames);
	}
}

/* One row too few: nothing is appended, and what the batch held is still there. */
static void test_aggregate_split__appends_all_or_nothing(void **state)
{
	(void)state;
	struct prng prng;
	prng_init(&prng, 3);
	struct source source;
	struct haul_frames out;
	uint8_t body[BODY_BYTES_MAX];
	source_open(&source, &prng);
	assert_int_equal(haul_frames_init(&out, FRAMES), 0);
	const uint32_t body_len = source_put(&source, FRAMES, body);
	const struct haul_frame before = { .data = body, .len = 1, .peer = 3 };
	assert_int_equal(haul_frames_push(&out, &before), 0);
	assert_int_equal(haul_aggregate_split(body, body_len, 9, &out), HAUL_EFULL);
	assert_int_equal(out.count, 1);
	assert_int_equal(out.peer[0], 3);
	haul_frames_clear(&out);
	assert_int_equal(haul_aggregate_split(body, body_len, 9, &out), FRAMES);
	assert_int_equal(haul_aggregate_split(body, body_len, 9, &out), HAUL_EFULL);
	assert_int_equal(out.count, FRAMES);
	haul_frames_done(&out);
	haul_frames_done(&source.frames);
}

/* The largest aggregate of the smallest frames, where the readable memory ends with it. */
static void test_aggregate__stays_inside_the_body(void **state)
{
	(void)state;
	enum { ENTRY = 4 + 14, COUNT = (HAUL_MESSAGE_BYTES_MAX - 32) / ENTRY };
	struct test_guard guard;
	uint8_t bytes[14] = { 0 };
	struct haul_frames frames;
	test_guard_open(&guard, COUNT * ENTRY);
	assert_int_equal(haul_frames_init(&frames, COUNT), 0);
	const struct haul_frame row = { .data = bytes, .len = sizeof bytes };
	assert_int_equal(haul_frames_push(&frames, &row), 0);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(haul_aggregate_put(guard.data + i * ENTRY, &frames, 0), ENTRY);
	haul_frames_clear(&frames);
	assert_int_equal(haul_aggregate_count(guard.data, COUNT * ENTRY), COUNT);
	assert_int_equal(haul_aggregate_split(guard.data, COUNT * ENTRY, 0, &frames), COUNT);
	haul_frames_done(&frames);
	test_guard_close(&guard);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_aggregate__gives_back_what_was_put_in),
		cmocka_unit_test(test_aggregate_split__appends_all_or_nothing),
		cmocka_unit_test(test_aggregate__stays_inside_the_body),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
