/* Needs root: raw links over a veth pair, watched by packet sockets that are not ours. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <haul/link.h>
#include "base/bytes.h"
#include "lib/testlib.h"
#include "link/link.h"
#include "link/veth_lab.h"

enum { ROWS = 300, MTU = 9000, ETHERNET = 14, FRAME_MIN = 46 };

/* Side 0 sends, side 1 receives. */
struct lab {
	struct veth_lab veth;
	struct haul_link *tx, *rx;
	struct haul_send_batch out;
	struct haul_frames in;
	uint8_t bytes[ROWS + MTU];
};

static struct lab lab;

static void open_links(uint32_t burst_max)
{
	lab.tx = veth_lab_raw(&lab.veth, 0, burst_max);
	lab.rx = veth_lab_raw(&lab.veth, 1, burst_max);
	for (uint32_t i = 0; i < sizeof lab.bytes; i++)
		lab.bytes[i] = (uint8_t)(i * 31 + (i >> 8));
	haul_send_batch_clear(&lab.out);
}

static void close_links(void)
{
	haul_link_close(lab.tx);
	haul_link_close(lab.rx);
}

static int open_lab(void **state)
{
	(void)state;
	veth_lab_open(&lab.veth, MTU);
	assert_int_equal(haul_send_batch_init(&lab.out, ROWS), 0);
	assert_int_equal(haul_frames_init(&lab.in, ROWS), 0);
	return 0;
}

static int close_lab(void **state)
{
	(void)state;
	haul_send_batch_done(&lab.out);
	haul_frames_done(&lab.in);
	veth_lab_close(&lab.veth);
	return 0;
}

static int open_batched(void **state)
{
	(void)state;
	open_links(0);
	return 0;
}

static int close_both(void **state)
{
	(void)state;
	close_links();
	return 0;
}

/* Frame i starts at byte i of the pattern, so that every frame is another one. */
static void push(uint32_t i, uint32_t bytes, uint32_t peer)
{
	struct haul_frame row = { .data = lab.bytes + i, .len = bytes, .peer = peer };
	if (i % 3 == 1) {
		row.len = 20;
		row.tail = row.data + 20;
		row.tail_len = bytes - 20;
	}
	assert_int_equal(haul_send_batch_push(&lab.out, &row), 0);
}

static uint32_t size_of(uint32_t i)
{
	return FRAME_MIN + i * 37 % 1400;
}

static void expect_row(uint32_t row, uint32_t i, uint32_t bytes)
{
	assert_int_equal(lab.in.len[row], bytes);
	assert_int_equal(lab.in.tail_len[row], 0);
	assert_memory_equal(lab.in.data[row], lab.bytes + i, bytes);
}

static void header_write(uint8_t *frame, const struct haul_addr *to, uint16_t ethertype)
{
	struct haul_addr from = haul_link_local(lab.tx);
	memcpy(frame, to->bytes, 6);
	memcpy(frame + 6, from.bytes, 6);
	be16_store(frame + 12, ethertype);
}

/* N frames in are N frames on the wire, each with its header, however they were batched: a burst
 * handed over by one writev would arrive as one long frame (defect 1). */
static void one_frame_is_one_frame(uint32_t burst_max)
{
	uint8_t frame[ETHERNET + MTU + 1], header[ETHERNET];
	open_links(burst_max);
	struct haul_addr to = haul_link_local(lab.rx);
	int reader = veth_lab_socket(&lab.veth, 1, VETH_LAB_ETHERTYPE);
	for (uint32_t i = 0; i < ROWS; i++)
		push(i, size_of(i), 1);
	assert_int_equal(haul_link_tx(lab.tx, &lab.out), ROWS);
	header_write(header, &to, VETH_LAB_ETHERTYPE);
	for (uint32_t i = 0; i < ROWS; i++) {
		assert_int_equal(recv(reader, frame, sizeof frame, 0), ETHERNET + size_of(i));
		assert_memory_equal(frame, header, ETHERNET);
		assert_memory_equal(frame + ETHERNET, lab.bytes + i, size_of(i));
		assert_int_equal(lab.out.frames.status[i], 0);
	}
	assert_int_equal(recv(reader, frame, sizeof frame, 0), -1);
	const struct haul_stats *stats = haul_link_tx_stats(lab.tx);
	assert_int_equal(stats->ops, ROWS);
	assert_int_equal(stats->syscalls, burst_max == 1 ? ROWS : (ROWS + 63) / 64);
	close(reader);
	close_links();
}

/* Defect 1, as the link is meant to be used: 64 frames a call. */
static void test_raw__one_frame_is_one_frame_in_a_batch(void **state)
{
	(void)state;
	one_frame_is_one_frame(0);
}

/* Defect 1, with one call a frame. */
static void test_raw__one_frame_is_one_frame_one_by_one(void **state)
{
	(void)state;
	one_frame_is_one_frame(1);
}

/* A burst arrives in order, with its sender, and with room in front of each frame. */
static void receives_all(uint32_t burst_max)
{
	open_links(burst_max);
	struct haul_addr from = haul_link_local(lab.tx);
	uint32_t next = 0;
	for (uint32_t i = 0; i < ROWS; i++)
		push(i, size_of(i), 1);
	assert_int_equal(haul_link_tx(lab.tx, &lab.out), ROWS);
	while (next < ROWS) {
		int count = haul_link_rx(lab.rx, &lab.in);
		assert_true(count > 0);
		assert_int_equal(lab.in.addr_count, 1);
		assert_memory_equal(&lab.in.addr[0], &from, sizeof from);
		for (uint32_t row = 0; row < (uint32_t)count; row++, next++) {
			expect_row(row, next, size_of(next));
			assert_int_equal(lab.in.peer[row], 1);
			assert_int_equal(lab.in.from[row], 0);
			assert_int_equal(lab.in.flags[row], HAUL_FRAME_HEADROOM);
		}
		for (uint32_t row = 0; row < (uint32_t)count; row++)
			memset(lab.in.data[row] - HAUL_FRAME_HEADROOM_BYTES, 0xee,
			       HAUL_FRAME_HEADROOM_BYTES);
		for (uint32_t row = 0; row < (uint32_t)count; row++)
			expect_row(row, next - (uint32_t)count + row, lab.in.len[row]);
	}
	assert_int_equal(haul_link_rx(lab.rx, &lab.in), 0);
	assert_int_equal(haul_link_rx_stats(lab.rx)->ops, ROWS);
	close_links();
}

/* Bytes, order and sender with 64 frames a call. */
static void test_raw_rx__receives_a_batch(void **state)
{
	(void)state;
	receives_all(0);
}

/* The same with one call a frame. */
static void test_raw_rx__receives_one_by_one(void **state)
{
	(void)state;
	receives_all(1);
}

/* Peer 0 is everybody; the receiver is told that it was not addressed alone. */
static void test_raw__broadcast_is_marked(void **state)
{
	struct haul_addr addr;
	(void)state;
	assert_int_equal(haul_link_peer_addr(lab.tx, 0, &addr), 0);
	push(0, 100, 0);
	push(1, 100, 1);
	assert_int_equal(haul_link_tx(lab.tx, &lab.out), 2);
	assert_int_equal(haul_link_rx(lab.rx, &lab.in), 2);
	assert_int_equal(lab.in.flags[0], HAUL_FRAME_HEADROOM | HAUL_FRAME_BROADCAST);
	assert_int_equal(lab.in.flags[1], HAUL_FRAME_HEADROOM);
	expect_row(0, 0, 100);
	assert_int_equal(haul_link_rx(lab.tx, &lab.in), 0); /* nor does it hear itself */
}

/* Frames for another station, of another EtherType or of a VLAN are not ours, also when the
 * interface is promiscuous and shows them (defect 3). */
static void test_raw_rx__ignores_what_is_not_addressed_to_it(void **state)
{
	uint8_t frame[ETHERNET + 100] = { 0 };
	struct haul_addr ours = haul_link_local(lab.rx), other = ours, group = ours;
	int promiscuous = veth_lab_socket(&lab.veth, 1, VETH_LAB_ETHERTYPE);
	int out = veth_lab_socket(&lab.veth, 0, VETH_LAB_ETHERTYPE);
	(void)state;
	for (uint32_t byte = 0; byte < 6; byte++) {
		other = ours;
		other.bytes[byte] ^= 0x10;
		header_write(frame, &other, VETH_LAB_ETHERTYPE);
		assert_int_equal(send(out, frame, sizeof frame, 0), sizeof frame);
		assert_int_equal(recv(promiscuous, frame, sizeof frame, 0), sizeof frame);
	}
	header_write(frame, &ours, VETH_LAB_ETHERTYPE + 1);
	assert_int_equal(send(out, frame, sizeof frame, 0), sizeof frame);
	header_write(frame, &ours, 0x8100);
	be16_store(frame + 14, 7);
	be16_store(frame + 16, VETH_LAB_ETHERTYPE);
	assert_int_equal(send(out, frame, sizeof frame, 0), sizeof frame);
	assert_int_equal(haul_link_rx(lab.rx, &lab.in), 0);

	group.bytes[0] |= 1;
	header_write(frame, &group, VETH_LAB_ETHERTYPE);
	assert_int_equal(send(out, frame, sizeof frame, 0), sizeof frame);
	header_write(frame, &ours, VETH_LAB_ETHERTYPE);
	assert_int_equal(send(out, frame, sizeof frame, 0), sizeof frame);
	assert_int_equal(haul_link_rx(lab.rx, &lab.in), 2);
	assert_int_equal(lab.in.flags[0], HAUL_FRAME_HEADROOM | HAUL_FRAME_BROADCAST);
	assert_int_equal(lab.in.flags[1], HAUL_FRAME_HEADROOM);
	close(promiscuous);
	close(out);
}

/* A sender that is no peer is named by address; several senders in one burst are told apart. */
static void test_raw_rx__tells_senders_apart(void **state)
{
	uint8_t frame[ETHERNET + 60] = { 0 };
	struct haul_addr ours = haul_link_local(lab.rx), known = haul_link_local(lab.tx), stranger;
	int out = veth_lab_socket(&lab.veth, 0, VETH_LAB_ETHERTYPE);
	(void)state;
	assert_int_equal(haul_addr_parse("02:00:00:00:00:77", &stranger, NULL), 0);
	for (uint32_t i = 0; i < 6; i++) {
		header_write(frame, &ours, VETH_LAB_ETHERTYPE);
		if (i == 2 || i == 3)
			memcpy(frame + 6, stranger.bytes, 6);
		assert_int_equal(send(out, frame, sizeof frame, 0), sizeof frame);
	}
	assert_int_equal(haul_link_rx(lab.rx, &lab.in), 6);
	for (uint32_t i = 0; i < 6; i++) {
		bool strange = i == 2 || i == 3;
		assert_int_equal(lab.in.peer[i], strange ? HAUL_PEER_NONE : 1);
		assert_memory_equal(&lab.in.addr[lab.in.from[i]], strange ? &stranger : &known,
				    sizeof known);
	}
	close(out);
}

/* Jumbo frames cross whole; nothing is cut at 1500 (defect 6). */
static void test_raw__carries_jumbo_frames(void **state)
{
	static const uint32_t sizes[] = { FRAME_MIN, 1500, 1501, 1514, 4096, 8999, MTU };
	enum { COUNT = sizeof sizes / sizeof sizes[0] };
	(void)state;
	assert_int_equal(haul_link_mtu(lab.tx), MTU);
	for (uint32_t i = 0; i < COUNT; i++)
		push(i, sizes[i], 1);
	assert_int_equal(haul_link_tx(lab.tx, &lab.out), COUNT);
	assert_int_equal(haul_link_rx(lab.rx, &lab.in), COUNT);
	for (uint32_t i = 0; i < COUNT; i++)
		expect_row(i, i, sizes[i]);
	assert_int_equal(haul_link_rx_stats(lab.rx)->extra[LINK_RX_TRUNCATED], 0);
}

/* What Ethernet would pad, what exceeds the MTU and what goes to nobody is refused by itself. */
static void test_raw_tx__refuses_single_frames(void **state)
{
	static const struct {
		uint32_t bytes, peer;
		int32_t status;
	} rows[] = {
		{ FRAME_MIN - 1, 1, -EMSGSIZE },
		{ 100, 1, 0 },
		{ MTU + 1, 1, -EMSGSIZE },
		{ FRAME_MIN, 1, 0 },
		{ 100, 2, -EDESTADDRREQ },
		{ MTU, 1, 0 },
		{ 100, HAUL_PEER_NONE, -EDESTADDRREQ },
		{ 100, 0, 0 },
	};
	enum { COUNT = sizeof rows / sizeof rows[0] };
	(void)state;
	for (uint32_t i = 0; i < COUNT; i++)
		push(i, rows[i].bytes, rows[i].peer);
	assert_int_equal(haul_link_tx(lab.tx, &lab.out), 4);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_int_equal(lab.out.frames.status[i], rows[i].status);
	assert_int_equal(haul_link_tx_stats(lab.tx)->extra[LINK_TX_FAILED], 4);
	assert_int_equal(haul_link_rx(lab.rx, &lab.in), 4);
	expect_row(0, 1, 100);
	expect_row(1, 3, FRAME_MIN);
	expect_row(2, 5, MTU);
	expect_row(3, 7, 100);
}

/* Checksum of the pattern's bytes from START on, the field's own included. */
static uint16_t checksum_of_pattern(uint32_t start, uint32_t bytes)
{
	uint32_t sum = 0;
	for (uint32_t at = start; at < bytes; at += 2)
		sum += be16_load(lab.bytes + at);
	while (sum > UINT16_MAX)
		sum = (sum & UINT16_MAX) + (sum >> 16);
	return (uint16_t)~sum;
}

/* A partial checksum is finished on the way out, over both pieces. The bytes sent from stay as they
 * were: the same frame may go to several peers, or be sent again. */
static void test_raw_tx__completes_partial_checksums(void **state)
{
	enum { START = 34, FIELD = START + 6, BYTES = 200, COPIES = 3 };
	uint8_t frame[BYTES], expected[BYTES];
	(void)state;
	memcpy(expected, lab.bytes, BYTES);
	be16_store(expected + FIELD, checksum_of_pattern(START, BYTES));
	for (uint32_t split = FIELD + 2; split <= BYTES; split += 13) {
		memcpy(frame, lab.bytes, BYTES);
		struct haul_frame row = { .data = frame,
					  .len = split,
					  .tail = frame + split,
					  .tail_len = BYTES - split,
					  .peer = 1,
					  .flags = HAUL_FRAME_CSUM_PARTIAL,
					  .csum_start = START,
					  .csum_offset = FIELD - START };
		haul_send_batch_clear(&lab.out);
		for (uint32_t i = 0; i < COPIES; i++)
			assert_int_equal(haul_send_batch_push(&lab.out, &row), 0);
		assert_int_equal(haul_link_tx(lab.tx, &lab.out), COPIES);
		assert_memory_equal(frame, lab.bytes, BYTES);
		assert_int_equal(haul_link_rx(lab.rx, &lab.in), COPIES);
		for (uint32_t i = 0; i < COPIES; i++) {
			assert_int_equal(lab.in.len[i], BYTES);
			assert_memory_equal(lab.in.data[i], expected, BYTES);
		}
	}
	assert_int_equal(haul_link_tx_stats(lab.tx)->extra[LINK_TX_CSUM_COMPLETED], 13 * COPIES);
}

/* A checksum field outside the first piece is a bad frame, not a write past its end. */
static void test_raw_tx__refuses_a_checksum_outside_the_frame(void **state)
{
	struct haul_frame row = { .data = lab.bytes,
				  .len = 60,
				  .peer = 1,
				  .flags = HAUL_FRAME_CSUM_PARTIAL,
				  .csum_start = 34,
				  .csum_offset = 25 };
	(void)state;
	assert_int_equal(haul_send_batch_push(&lab.out, &row), 0);
	assert_int_equal(haul_link_tx(lab.tx, &lab.out), 0);
	assert_int_equal(lab.out.frames.status[0], -EINVAL);
}

/* Readable while frames wait, and not after they were taken. */
static void test_raw_fd__tells_readiness(void **state)
{
	struct pollfd fd = { .fd = haul_link_fd(lab.rx), .events = POLLIN };
	(void)state;
	assert_int_equal(poll(&fd, 1, 0), 0);
	push(0, 100, 1);
	assert_int_equal(haul_link_tx(lab.tx, &lab.out), 1);
	assert_int_equal(poll(&fd, 1, 10000), 1);
	assert_int_equal(haul_link_rx(lab.rx, &lab.in), 1);
	assert_int_equal(poll(&fd, 1, 0), 0);
}

/* Only MACs are peers here. */
static void test_raw_peer__is_a_mac(void **state)
{
	struct haul_addr addr;
	(void)state;
	assert_int_equal(haul_addr_parse("192.0.2.1:4789", &addr, NULL), 0);
	assert_int_equal(haul_link_peer_add(lab.tx, &addr), -EINVAL);
	assert_int_equal(haul_addr_parse("ff:ff:ff:ff:ff:ff", &addr, NULL), 0);
	assert_int_equal(haul_link_peer_add(lab.tx, &addr), 0);
}

/* Random frames of all kinds: what the rule of the filter lets pass arrives, nothing else does, and
 * the counters say the same. */
static void test_raw_rx__random_frames_add_up(void **state)
{
	enum { FRAMES = 20000, BURST = 50 };
	static const uint16_t types[] = { VETH_LAB_ETHERTYPE, VETH_LAB_ETHERTYPE, 0x8100, 0x0800 };
	uint8_t frame[ETHERNET + 400];
	struct haul_addr ours = haul_link_local(lab.rx);
	int out = veth_lab_socket(&lab.veth, 0, VETH_LAB_ETHERTYPE);
	uint32_t expected = 0, got = 0, empty = 0;
	struct prng prng;
	(void)state;
	test_prng(&prng);
	for (uint32_t i = 0; i < FRAMES; i++) {
		uint32_t bytes = ETHERNET + prng_below(&prng, 400);
		for (uint32_t at = 0; at < bytes; at++)
			frame[at] = (uint8_t)prng_next(&prng);
		if (prng_below(&prng, 2) == 0)
			memcpy(frame, ours.bytes, 6);
		if (prng_below(&prng, 2) == 0)
			be16_store(frame + 12, types[prng_below(&prng, 4)]);
		if (send(out, frame, bytes, 0) != (ssize_t)bytes)
			continue;
		bool mine = (frame[0] & 1) != 0 || memcmp(frame, ours.bytes, 6) == 0;
		if (mine && be16_load(frame + 12) == VETH_LAB_ETHERTYPE) {
			expected += bytes > ETHERNET;
			empty += bytes == ETHERNET;
		}
		for (int n = 1; i % BURST == BURST - 1 && n > 0; got += (uint32_t)n) {
			n = haul_link_rx(lab.rx, &lab.in);
			assert_true(n >= 0);
		}
	}
	const struct haul_stats *stats = haul_link_rx_stats(lab.rx);
	assert_true(expected > FRAMES / 10);
	assert_int_equal(got, expected);
	assert_int_equal(stats->ops, expected);
	assert_int_equal(stats->extra[LINK_RX_MALFORMED], empty);
	assert_int_equal(stats->extra[LINK_RX_TRUNCATED], 0);
	assert_int_equal(stats->extra[LINK_RX_QUEUE_DROPS], 0);
	close(out);
}

/* Nothing is allocated once the link is open. */
static void test_raw__allocates_only_at_open(void **state)
{
	uint64_t before = test_mallocs();
	(void)state;
	for (uint32_t round = 0; round < 50; round++) {
		haul_send_batch_clear(&lab.out);
		for (uint32_t i = 0; i < 100; i++)
			push(i, size_of(i), i % 2);
		assert_int_equal(haul_link_tx(lab.tx, &lab.out), 100);
		assert_int_equal(haul_link_rx(lab.rx, &lab.in), 100);
	}
	assert_int_equal(test_mallocs(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_batched, close_both)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw__one_frame_is_one_frame_in_a_batch),
		cmocka_unit_test(test_raw__one_frame_is_one_frame_one_by_one),
		cmocka_unit_test(test_raw_rx__receives_a_batch),
		cmocka_unit_test(test_raw_rx__receives_one_by_one),
		TEST(test_raw__broadcast_is_marked),
		TEST(test_raw_rx__ignores_what_is_not_addressed_to_it),
		TEST(test_raw_rx__tells_senders_apart),
		TEST(test_raw__carries_jumbo_frames),
		TEST(test_raw_tx__refuses_single_frames),
		TEST(test_raw_tx__completes_partial_checksums),
		TEST(test_raw_tx__refuses_a_checksum_outside_the_frame),
		TEST(test_raw_fd__tells_readiness),
		TEST(test_raw_peer__is_a_mac),
		TEST(test_raw_rx__random_frames_add_up),
		TEST(test_raw__allocates_only_at_open),
	};
	return cmocka_run_group_tests(tests, open_lab, close_lab);
}
