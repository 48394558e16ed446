#include <string.h>

#include <haul/message.h>
#include "lib/testlib.h"
#include "node/bundle.h"

enum {
	MTU = 1472,
	BACKHAUL_MTU = 700,
	OUT_ROWS = 128,
	ROWS = 256,
	FRAME_ROOM = 2048,
	NODES = 80,
	FIFO = 4096
};

#define SELF UINT64_C(0x020000000001)

/* Frames pushed, and the messages that came out, unpacked again. */
struct rig {
	struct bundle *bundle;
	struct haul_send_batch out[NODE_PORTS];
	struct haul_frames in;
	uint8_t memory[ROWS][HAUL_FRAME_HEADROOM_BYTES + FRAME_ROOM];
	uint8_t tail[ROWS][FRAME_ROOM];
	struct haul_frames whole; /* messages in one piece */
	uint8_t message[OUT_ROWS][65536];
	struct haul_messages decoded;
	struct haul_frames inner;
	uint64_t sequence; /* of the last message collected */
	uint32_t messages;
	uint32_t frames;
	uint32_t message_frames_max; /* most frames in one message */
};

static struct rig rig;

static struct route to_node(uint64_t node, uint32_t port)
{
	return (struct route){
		.node = node,
		.next = { .port = port, .peer = (uint32_t)(node % 7) + 1 },
		.role = port == NODE_RADIO ? NODE_OBU : NODE_RSU,
	};
}

static struct bundle_options options(enum haul_preset preset)
{
	return (struct bundle_options){
		.self = SELF,
		.sequence = 100,
		.ttl = 8,
		.limits = haul_limits_preset(preset),
		.mtu_bytes = { [NODE_RADIO] = MTU, [NODE_BACKHAUL] = BACKHAUL_MTU },
		.out = rig.out,
	};
}

static void open_rig(const struct bundle_options *bundle)
{
	memset(&rig, 0, sizeof rig);
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		assert_int_equal(haul_send_batch_init(&rig.out[port], OUT_ROWS), 0);
	assert_int_equal(haul_frames_init(&rig.in, ROWS), 0);
	assert_int_equal(haul_frames_init(&rig.whole, OUT_ROWS), 0);
	assert_int_equal(haul_frames_init(&rig.inner, HAUL_FRAMES_MAX), 0);
	assert_int_equal(haul_messages_init(&rig.decoded, OUT_ROWS), 0);
	assert_int_equal(bundle_open(bundle, &rig.bundle), 0);
	rig.sequence = bundle->sequence - 1;
}

static void close_rig(void)
{
	bundle_close(rig.bundle);
	for (uint32_t port = 0; port < NODE_PORTS; port++)
		haul_send_batch_done(&rig.out[port]);
	haul_frames_done(&rig.in);
	haul_frames_done(&rig.whole);
	haul_frames_done(&rig.inner);
	haul_messages_done(&rig.decoded);
}

static void clear_in(void)
{
	haul_frames_clear(&rig.in);
}

/* Append a frame: len bytes of which tail_len in a second piece, filled from value on. */
static void add_pieces(uint32_t len, uint32_t tail_len, uint8_t value)
{
	uint32_t i = rig.in.count;
	uint8_t *data = rig.memory[i] + HAUL_FRAME_HEADROOM_BYTES;
	for (uint32_t n = 0; n < len; n++)
		data[n] = (uint8_t)(value + n);
	for (uint32_t n = 0; n < tail_len; n++)
		rig.tail[i][n] = (uint8_t)(value + len + n);
	struct haul_frame row = { .data = data,
				  .len = len,
				  .tail = rig.tail[i],
				  .tail_len = tail_len,
				  .flags = HAUL_FRAME_HEADROOM };
	assert_int_equal(haul_frames_push(&rig.in, &row), 0);
}

static void add(uint32_t len, uint8_t value)
{
	add_pieces(len, 0, value);
}

static uint32_t push(uint32_t first, uint32_t count, const struct route *to)
{
	struct bundle_run run = { .frames = &rig.in, .first = first, .count = count };
	return bundle_push(rig.bundle, &run, to);
}

static void unpack(uint32_t i)
{
	const struct haul_messages *m = &rig.decoded;
	uint32_t before = rig.inner.count;
	if (m->type[i] == HAUL_MESSAGE_AGGREGATE) {
		assert_true(haul_aggregate_split(m->body[i], m->body_len[i], 0, &rig.inner) >= 2);
	} else {
		struct haul_frame row = { .data = m->body[i],
					  .len = m->body_len[i],
					  .csum_start = m->csum_start[i],
					  .csum_offset = m->csum_offset[i] };
		assert_int_equal(haul_frames_push(&rig.inner, &row), 0);
	}
	uint32_t count = rig.inner.count - before;
	rig.messages++;
	rig.frames += count;
	if (count > rig.message_frames_max)
		rig.message_frames_max = count;
}

/* Take a port's messages, unpacked to inner; the batch is then empty. */
static void collect(uint32_t port)
{
	struct haul_send_batch *out = &rig.out[port];
	uint32_t mtu = port == NODE_RADIO ? MTU : BACKHAUL_MTU;
	haul_frames_clear(&rig.whole);
	haul_frames_clear(&rig.inner);
	for (uint32_t i = 0; i < out->frames.count; i++) {
		assert_true(haul_frame_bytes(&out->frames, i) <= mtu - HAUL_MESSAGE_TAG_BYTES);
		struct haul_frame row = { .data = rig.message[i], .peer = out->frames.peer[i] };
		row.len = haul_frame_copy(&out->frames, i, row.data);
		assert_int_equal(haul_frames_push(&rig.whole, &row), 0);
	}
	assert_int_equal(haul_messages_decode(&rig.whole, &rig.decoded), rig.whole.count);
	for (uint32_t i = 0; i < rig.decoded.count; i++) {
		assert_int_equal(rig.decoded.origin[i], SELF);
		assert_int_equal(rig.decoded.ttl[i], 8);
		unpack(i);
	}
	haul_send_batch_clear(out);
}

/* Small frames for one node, as many as fit, share a message; each comes out as it went in. */
static void test_bundle__packs_small_frames(void **state)
{
	struct route to = to_node(2, NODE_RADIO);
	struct bundle_options o = options(HAUL_PRESET_THROUGHPUT);
	(void)state;
	open_rig(&o);
	for (uint8_t i = 0; i < 20; i++)
		add(100, i);
	assert_int_equal(push(0, 20, &to), 20);
	assert_int_equal(bundle_waiting(rig.bundle), 20 - 13);
	assert_int_equal(bundle_close_due(rig.bundle), INT64_MAX);
	collect(NODE_RADIO);
	assert_int_equal(rig.messages, 2);
	assert_int_equal(rig.decoded.type[0], HAUL_MESSAGE_AGGREGATE);
	assert_int_equal(rig.decoded.flags[0], HAUL_MESSAGE_DOWN);
	assert_int_equal(rig.decoded.sequence[0], 100);
	assert_int_equal(rig.decoded.sequence[1], 101);
	assert_int_equal(rig.inner.count, 20);
	for (uint32_t i = 0; i < 20; i++) {
		assert_int_equal(rig.inner.len[i], 100);
		assert_memory_equal(rig.inner.data[i], rig.in.data[i], 100);
	}
	const struct haul_stats *stats = bundle_stats(rig.bundle);
	assert_int_equal(stats->closed[HAUL_CLOSE_BYTES], 1);
	assert_int_equal(stats->closed[HAUL_CLOSE_IDLE], 1);
	assert_int_equal(stats->extra[BUNDLE_AGGREGATED], 20);
	close_rig();
}

/* Aggregates to one node lie back to back, so that a link can send equal ones as one run. */
static void test_bundle__equal_aggregates_are_contiguous(void **state)
{
	struct route to = to_node(2, NODE_RADIO);
	struct bundle_options o = options(HAUL_PRESET_LOW_LATENCY);
	(void)state;
	open_rig(&o);
	for (uint8_t i = 0; i < 24; i++)
		add(106, i);
	assert_int_equal(push(0, 24, &to), 24);
	bundle_close_due(rig.bundle);
	const struct haul_frames *out = &rig.out[NODE_RADIO].frames;
	assert_int_equal(out->count, 3);
	assert_int_equal(out->len[0], 32 + 8 * 110);
	assert_ptr_equal(out->data[1], out->data[0] + out->len[0]);
	assert_ptr_equal(out->data[2], out->data[1] + out->len[1]);
	assert_int_equal(bundle_stats(rig.bundle)->closed[HAUL_CLOSE_OPS], 3);
	collect(NODE_RADIO);
	assert_int_equal(rig.message_frames_max, 8);
	close_rig();
}

/* One small frame is a plain data message: no entry, and its checksum note in the header. */
static void test_bundle__lone_frame_is_plain(void **state)
{
	struct route up = to_node(2, NODE_BACKHAUL);
	struct bundle_options o = options(HAUL_PRESET_LOW_LATENCY);
	(void)state;
	open_rig(&o);
	add(60, 1);
	rig.in.flags[0] |= HAUL_FRAME_CSUM_PARTIAL;
	rig.in.csum_start[0] = 34;
	rig.in.csum_offset[0] = 16;
	assert_int_equal(push(0, 1, &up), 1);
	assert_int_equal(bundle_close_due(rig.bundle), INT64_MAX);
	assert_int_equal(rig.out[NODE_BACKHAUL].frames.peer[0], up.next.peer);
	collect(NODE_BACKHAUL);
	assert_int_equal(rig.messages, 1);
	assert_int_equal(rig.decoded.type[0], HAUL_MESSAGE_DATA_UP);
	assert_int_equal(rig.decoded.destination[0], 2);
	assert_int_equal(rig.inner.len[0], 60);
	assert_memory_equal(rig.inner.data[0], rig.in.data[0], 60);
	assert_int_equal(rig.inner.csum_start[0], 34);
	assert_int_equal(rig.inner.csum_offset[0], 16);
	assert_int_equal(bundle_stats(rig.bundle)->extra[BUNDLE_LONE], 1);
	close_rig();
}

/* A large frame is sent from where it lies, both pieces of it. */
static void test_bundle__large_frame_is_not_copied(void **state)
{
	struct route to = to_node(2, NODE_RADIO);
	struct bundle_options o = options(HAUL_PRESET_LOW_LATENCY);
	(void)state;
	open_rig(&o);
	add(1000, 1);
	add_pieces(54, 1300, 2);
	uint8_t *data = rig.in.data[0], *tail = rig.in.tail[1];
	assert_int_equal(push(0, 2, &to), 2);
	const struct haul_frames *out = &rig.out[NODE_RADIO].frames;
	assert_int_equal(out->count, 2);
	assert_ptr_equal(out->data[0], data - HAUL_MESSAGE_HEADER_BYTES);
	assert_ptr_equal(out->tail[1], tail);
	assert_int_equal(bundle_stats(rig.bundle)->extra[BUNDLE_LARGE], 2);
	collect(NODE_RADIO);
	assert_int_equal(rig.inner.len[1], 1354);
	for (uint32_t i = 0; i < 1354; i++)
		assert_int_equal(rig.inner.data[1][i], (uint8_t)(2 + i));
	close_rig();
}

/* A large frame between small ones does not overtake them, nor they it. */
static void test_bundle__large_frame_closes_the_aggregate(void **state)
{
	struct route to = to_node(2, NODE_RADIO);
	struct bundle_options o = options(HAUL_PRESET_THROUGHPUT);
	static const uint32_t len[] = { 60, 70, 900, 80, 90 };
	(void)state;
	open_rig(&o);
	for (uint32_t i = 0; i < 5; i++)
		add(len[i], (uint8_t)i);
	assert_int_equal(push(0, 5, &to), 5);
	bundle_close_due(rig.bundle);
	collect(NODE_RADIO);
	assert_int_equal(rig.messages, 3);
	assert_int_equal(rig.inner.count, 5);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(rig.inner.len[i], len[i]);
	assert_int_equal(bundle_stats(rig.bundle)->closed[HAUL_CLOSE_BARRIER], 1);
	close_rig();
}

/* A shared frame keeps its bytes and its columns: every destination gets a header of its own. */
static void test_bundle__shared_rows_stay_as_they_are(void **state)
{
	struct bundle_options o = options(HAUL_PRESET_LOW_LATENCY);
	(void)state;
	open_rig(&o);
	add(60, 1);
	add(1000, 2);
	add_pieces(54, 1300, 3);
	struct bundle_run run = { .frames = &rig.in, .count = 3, .shared = true };
	uint8_t *data = rig.in.data[1];
	for (uint64_t node = 2; node < 5; node++) {
		struct route to = to_node(node, NODE_RADIO);
		assert_int_equal(bundle_push(rig.bundle, &run, &to), 3);
	}
	bundle_close_due(rig.bundle);
	assert_ptr_equal(rig.in.data[1], data);
	assert_int_equal(rig.in.len[1], 1000);
	assert_ptr_equal(rig.out[NODE_RADIO].frames.tail[1], data);
	collect(NODE_RADIO);
	assert_int_equal(rig.messages, 9);
	assert_int_equal(bundle_stats(rig.bundle)->extra[BUNDLE_COPIED], 3);
	for (uint32_t i = 0; i < 9; i++)
		assert_int_equal(rig.decoded.destination[i], 2 + i / 3);
	close_rig();
}

/* What no message can hold is dropped and counted, and the next frame goes. */
static void test_bundle__counts_what_is_too_big(void **state)
{
	struct route to = to_node(2, NODE_BACKHAUL);
	struct bundle_options o = options(HAUL_PRESET_LOW_LATENCY);
	(void)state;
	open_rig(&o);
	add(BACKHAUL_MTU - HAUL_MESSAGE_TAG_BYTES - HAUL_MESSAGE_HEADER_BYTES + 1, 1);
	add(BACKHAUL_MTU - HAUL_MESSAGE_TAG_BYTES - HAUL_MESSAGE_HEADER_BYTES, 2);
	assert_int_equal(push(0, 2, &to), 2);
	collect(NODE_BACKHAUL);
	assert_int_equal(rig.messages, 1);
	assert_int_equal(bundle_stats(rig.bundle)->extra[BUNDLE_DROP_TOO_BIG], 1);
	close_rig();
}

/* In individual mode every frame is a message, however small. */
static void test_bundle__individual_mode_packs_nothing(void **state)
{
	struct route to = to_node(2, NODE_RADIO);
	struct bundle_options o = options(HAUL_PRESET_LOW_LATENCY);
	(void)state;
	o.individual = true;
	open_rig(&o);
	for (uint8_t i = 0; i < 10; i++)
		add(60, i);
	assert_int_equal(push(0, 10, &to), 10);
	assert_int_equal(bundle_waiting(rig.bundle), 0);
	collect(NODE_RADIO);
	assert_int_equal(rig.messages, 10);
	close_rig();
}

/* With wait_max 0 nothing ever waits; with more, only what the model promises company does, and
 * then until the one deadline that its first frame set. */
static void test_bundle__waits_only_for_company(void **state)
{
	struct route to = to_node(2, NODE_RADIO);
	struct bundle_options o = options(HAUL_PRESET_BALANCED);
	(void)state;
	open_rig(&o);
	add(60, 0);
	add(60, 1);
	add(60, 2);
	bundle_turn(rig.bundle, 5000, 1);
	push(0, 1, &to);
	assert_int_equal(bundle_close_due(rig.bundle), INT64_MAX);
	collect(NODE_RADIO);
	assert_int_equal(rig.messages, 1);
	bundle_sent(rig.bundle);

	bundle_turn(rig.bundle, 10000, 2);
	push(1, 1, &to);
	assert_int_equal(bundle_close_due(rig.bundle), 10000 + o.limits.wait_max_ns);
	bundle_sent(rig.bundle);
	bundle_turn(rig.bundle, 20000, 2);
	push(2, 1, &to);
	assert_int_equal(bundle_close_due(rig.bundle), 10000 + o.limits.wait_max_ns);
	assert_int_equal(rig.out[NODE_RADIO].frames.count, 0);
	bundle_sent(rig.bundle);
	bundle_turn(rig.bundle, 10000 + o.limits.wait_max_ns, 2);
	assert_int_equal(bundle_close_due(rig.bundle), INT64_MAX);
	collect(NODE_RADIO);
	assert_int_equal(rig.inner.count, 2);
	assert_int_equal(rig.inner.data[1][0], 2);
	assert_int_equal(bundle_stats(rig.bundle)->closed[HAUL_CLOSE_DEADLINE], 1);
	close_rig();
}

/* When the way to a node changes, what was gathered for the old way goes by it. */
static void test_bundle__change_of_way_closes(void **state)
{
	struct route to = to_node(2, NODE_RADIO), other = to_node(2, NODE_RADIO);
	struct bundle_options o = options(HAUL_PRESET_LOW_LATENCY);
	(void)state;
	open_rig(&o);
	other.next.peer = 99;
	add(60, 0);
	add(60, 1);
	push(0, 1, &to);
	push(1, 1, &other);
	bundle_close_due(rig.bundle);
	assert_int_equal(rig.out[NODE_RADIO].frames.count, 2);
	assert_int_equal(rig.out[NODE_RADIO].frames.peer[0], to.next.peer);
	assert_int_equal(rig.out[NODE_RADIO].frames.peer[1], 99);
	close_rig();
}

/* ---- property: what comes out is what went in ---- */

struct fifo { /* first bytes (a number) and length of what a destination is to get */
	uint32_t tag[FIFO];
	uint32_t len[FIFO];
	uint32_t head, tail;
};

static struct fifo fifo[NODES + 1];

static uint32_t tag_of(const uint8_t *data)
{
	uint32_t tag;
	memcpy(&tag, data, sizeof tag);
	return tag;
}

static void check_frame(struct fifo *want, uint32_t row)
{
	const uint8_t *data = rig.inner.data[row];
	assert_true(want->head != want->tail);
	uint32_t tag = want->tag[want->head % FIFO];
	assert_int_equal(tag_of(data), tag);
	assert_int_equal(rig.inner.len[row], want->len[want->head % FIFO]);
	for (uint32_t n = 4; n < rig.inner.len[row]; n++)
		if (data[n] != (uint8_t)(tag * 31 + n))
			fail_msg("byte %u of frame %u differs", n, tag);
	want->head++;
}

static uint32_t frames_in(uint32_t message)
{
	const struct haul_messages *m = &rig.decoded;
	return m->type[message] == HAUL_MESSAGE_AGGREGATE
		       ? haul_aggregate_count(m->body[message], m->body_len[message])
		       : 1;
}

static void drain(void)
{
	for (uint32_t port = NODE_RADIO; port < NODE_PORTS; port++) {
		collect(port);
		for (uint32_t i = 0, row = 0; i < rig.decoded.count; i++)
			for (uint32_t n = frames_in(i); n > 0; n--)
				check_frame(&fifo[rig.decoded.destination[i]], row++);
	}
	bundle_sent(rig.bundle);
}

static void fill_random(struct prng *prng, uint32_t count, uint32_t *tag)
{
	clear_in();
	for (uint32_t i = 0; i < count; i++) {
		uint32_t len = prng_below(prng, 4) == 0 ? 513 + prng_below(prng, 139)
							: 14 + prng_below(prng, 499);
		uint32_t tail_len = prng_below(prng, 5) == 0 ? prng_below(prng, len - 13) : 0;
		add_pieces(len - tail_len, tail_len, 0);
		uint8_t *data = rig.in.data[i];
		for (uint32_t n = 0; n < len; n++) {
			uint8_t *at = n < len - tail_len ? &data[n]
							 : &rig.in.tail[i][n - (len - tail_len)];
			*at = (uint8_t)(*tag * 31 + n);
		}
		memcpy(data, tag, sizeof *tag);
		(*tag)++;
	}
}

static void expect(uint64_t node, uint32_t first, uint32_t count)
{
	struct fifo *want = &fifo[node];
	for (uint32_t i = first; i < first + count; i++, want->tail++) {
		assert_true(want->tail - want->head < FIFO);
		want->tag[want->tail % FIFO] = tag_of(rig.in.data[i]);
		want->len[want->tail % FIFO] = haul_frame_bytes(&rig.in, i);
	}
}

static void push_random(struct prng *prng, uint32_t nodes)
{
	for (uint32_t first = 0, count; first < rig.in.count; first += count) {
		uint32_t node = 1 + prng_below(prng, nodes);
		struct route to = to_node(node, node % 3 == 0 ? NODE_BACKHAUL : NODE_RADIO);
		struct bundle_run run = { .frames = &rig.in,
					  .first = first,
					  .shared = prng_below(prng, 6) == 0 };
		count = 1 + prng_below(prng, 9);
		if (count > rig.in.count - first)
			count = rig.in.count - first;
		run.count = count;
		expect(node, first, count);
		for (uint32_t taken = 0; run.count > 0; run.count -= taken, run.first += taken) {
			taken = bundle_push(rig.bundle, &run, &to);
			if (taken < run.count)
				drain();
		}
	}
}

/* Random frames for random nodes in random runs, with every preset, with and without waiting: each
 * node gets exactly its frames, in order, in messages that fit their link. */
static void test_bundle__split_gives_back_what_was_pushed(void **state)
{
	static const enum haul_preset presets[] = { HAUL_PRESET_LOW_LATENCY, HAUL_PRESET_BALANCED,
						    HAUL_PRESET_THROUGHPUT };
	struct prng prng;
	(void)state;
	test_prng(&prng);
	for (uint32_t round = 0; round < 12; round++) {
		struct bundle_options o = options(presets[round % 3]);
		uint32_t tag = 0, nodes = round % 2 == 0 ? 3 : NODES;
		o.individual = round >= 9;
		open_rig(&o);
		memset(fifo, 0, sizeof fifo);
		for (uint32_t turn = 0; turn < 60; turn++) {
			bundle_turn(rig.bundle, (int64_t)turn * 400000, prng_below(&prng, 4));
			fill_random(&prng, 1 + prng_below(&prng, ROWS), &tag);
			push_random(&prng, nodes);
			bundle_close_due(rig.bundle);
			drain();
		}
		bundle_close_all(rig.bundle, HAUL_CLOSE_MANUAL);
		drain();
		for (uint32_t node = 1; node <= NODES; node++)
			assert_int_equal(fifo[node].head, fifo[node].tail);
		assert_int_equal(rig.frames, tag);
		close_rig();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bundle__packs_small_frames),
		cmocka_unit_test(test_bundle__equal_aggregates_are_contiguous),
		cmocka_unit_test(test_bundle__lone_frame_is_plain),
		cmocka_unit_test(test_bundle__large_frame_is_not_copied),
		cmocka_unit_test(test_bundle__large_frame_closes_the_aggregate),
		cmocka_unit_test(test_bundle__shared_rows_stay_as_they_are),
		cmocka_unit_test(test_bundle__counts_what_is_too_big),
		cmocka_unit_test(test_bundle__individual_mode_packs_nothing),
		cmocka_unit_test(test_bundle__waits_only_for_company),
		cmocka_unit_test(test_bundle__change_of_way_closes),
		cmocka_unit_test(test_bundle__split_gives_back_what_was_pushed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
