#include <haul/err.h>
#include <haul/frames.h>
#include <haul/message.h>
#include "lib/testlib.h"

enum { BATCH = 64, ROW_BYTES = 128, FRAME_BYTES = 60 };

static uint8_t slab[BATCH * ROW_BYTES];
static uint8_t body[BATCH * ROW_BYTES];

static void frames_fill(struct haul_frames *frames, uint32_t len)
{
	haul_frames_clear(frames);
	for (uint32_t i = 0; i < BATCH; i++) {
		struct haul_frame row = {
			.data = slab + i * ROW_BYTES + HAUL_FRAME_HEADROOM_BYTES,
			.len = len,
			.flags = HAUL_FRAME_HEADROOM,
		};
		assert_int_equal(haul_frames_push(frames, &row), 0);
	}
}

/* All of a message's life, a batch at a time: encode, relay, prepend, decode, reject, bundle and
 * split. After init nothing is allocated. */
static void test_message__allocates_nothing_after_init(void **state)
{
	(void)state;
	struct haul_frames frames;
	struct haul_frames split;
	struct haul_messages messages;
	const struct haul_heartbeat heartbeats[BATCH] = { { .id = 1 } };
	struct haul_message_header header = { .ttl = 2, .origin = 1, .destination = 2 };
	assert_int_equal(haul_frames_init(&frames, BATCH), 0);
	assert_int_equal(haul_frames_init(&split, BATCH), 0);
	assert_int_equal(haul_messages_init(&messages, BATCH), 0);

	const uint64_t before = test_mallocs();
	for (uint32_t round = 0; round < 100; round++) {
		header.type = HAUL_MESSAGE_HEARTBEAT;
		haul_heartbeats_encode(&header, heartbeats, BATCH, slab + HAUL_FRAME_HEADROOM_BYTES,
				       ROW_BYTES);
		frames_fill(&frames, 48);
		frames.len[3] = 47;
		assert_int_equal(haul_messages_decode(&frames, &messages), BATCH - 1);
		haul_message_relay(frames.data[0]);

		header.type = HAUL_MESSAGE_DATA_UP;
		frames_fill(&frames, FRAME_BYTES);
		haul_messages_prepend(&frames, 0, BATCH, &header);
		assert_int_equal(haul_messages_decode(&frames, &messages), BATCH);

		uint32_t at = 0;
		for (uint32_t i = 0; i < BATCH / 2; i++)
			at += haul_aggregate_put(body + at, &frames, i);
		haul_frames_clear(&split);
		assert_int_equal(haul_aggregate_split(body, at, 0, &split), BATCH / 2);
	}
	assert_int_equal(test_mallocs() - before, 0);
	haul_messages_done(&messages);
	haul_frames_done(&split);
	haul_frames_done(&frames);
}

/* The counter counts: init is one allocation. */
static void test_messages_init__allocates_once(void **state)
{
	(void)state;
	struct haul_messages messages;
	const uint64_t before = test_mallocs();
	assert_int_equal(haul_messages_init(&messages, BATCH), 0);
	assert_int_equal(test_mallocs() - before, 1);
	haul_messages_done(&messages);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_message__allocates_nothing_after_init),
		cmocka_unit_test(test_messages_init__allocates_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
