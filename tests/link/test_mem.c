#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

#include <haul/link.h>
#include "lib/testlib.h"
#include "link/link.h"

enum { QUEUE = 8, ROWS = 64, FRAME_BYTES = 64 };

/* Two ends, a batch each way, and bytes to send from. */
struct pair {
	struct haul_link *a, *b;
	struct haul_send_batch tx;
	struct haul_frames rx;
	uint8_t bytes[ROWS][FRAME_BYTES];
};

static int open_pair(void **state)
{
	static struct pair pair;
	memset(&pair, 0, sizeof pair);
	assert_int_equal(haul_link_mem_pair("mem", QUEUE, &pair.a, &pair.b), 0);
	assert_int_equal(haul_send_batch_init(&pair.tx, ROWS), 0);
	assert_int_equal(haul_frames_init(&pair.rx, ROWS), 0);
	for (uint32_t i = 0; i < ROWS; i++)
		memset(pair.bytes[i], (int)i + 1, FRAME_BYTES);
	*state = &pair;
	return 0;
}

static int close_pair(void **state)
{
	struct pair *pair = *state;
	haul_link_close(pair->a);
	haul_link_close(pair->b);
	haul_send_batch_done(&pair->tx);
	haul_frames_done(&pair->rx);
	return 0;
}

/* Frames first … first+count-1, one byte value each, all of one size. */
static void push(struct pair *pair, uint32_t first, uint32_t count, uint32_t peer)
{
	haul_send_batch_clear(&pair->tx);
	for (uint32_t i = first; i < first + count; i++) {
		struct haul_frame row = { .data = pair->bytes[i],
					  .len = FRAME_BYTES,
					  .peer = peer };
		assert_int_equal(haul_send_batch_push(&pair->tx, &row), 0);
	}
}

static int32_t status(const struct pair *pair, uint32_t i)
{
	return pair->tx.frames.status[i];
}

static void expect_rx(struct pair *pair, uint32_t first, uint32_t count)
{
	assert_int_equal(haul_link_rx(pair->b, &pair->rx), (int)count);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(pair->rx.len[i], FRAME_BYTES);
		assert_int_equal(pair->rx.tail_len[i], 0);
		assert_memory_equal(pair->rx.data[i], pair->bytes[first + i], FRAME_BYTES);
	}
}

static bool readable(const struct haul_link *link)
{
	struct pollfd fd = { .fd = haul_link_fd(link), .events = POLLIN };
	return poll(&fd, 1, 0) == 1;
}

/* What goes in at one end comes out of the other: bytes, sender, flags. */
static void test_mem__carries_frames_both_ways(void **state)
{
	struct pair *pair = *state;
	struct haul_addr a = haul_link_local(pair->a), b = haul_link_local(pair->b);
	push(pair, 0, 5, 1);
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), 5);
	expect_rx(pair, 0, 5);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(status(pair, i), 0);
		assert_int_equal(pair->rx.peer[i], 1);
		assert_memory_equal(&pair->rx.addr[pair->rx.from[i]], &a, sizeof a);
		assert_int_equal(pair->rx.flags[i], HAUL_FRAME_HEADROOM);
		memset(pair->rx.data[i] - HAUL_FRAME_HEADROOM_BYTES, 0xee,
		       HAUL_FRAME_HEADROOM_BYTES);
	}
	assert_memory_equal(pair->rx.data[4], pair->bytes[4], FRAME_BYTES);

	push(pair, 9, 1, 0);
	assert_int_equal(haul_link_tx(pair->b, &pair->tx), 1);
	assert_int_equal(haul_link_rx(pair->a, &pair->rx), 1);
	assert_int_equal(pair->rx.flags[0], HAUL_FRAME_HEADROOM | HAUL_FRAME_BROADCAST);
	assert_memory_equal(&pair->rx.addr[pair->rx.from[0]], &b, sizeof b);
	assert_int_equal(haul_link_rx_stats(pair->a)->ops, 1);
	assert_int_equal(haul_link_tx_stats(pair->b)->bytes, FRAME_BYTES);
}

/* The two pieces of a frame arrive as one, and the note on its checksum with it. */
static void test_mem__joins_data_and_tail(void **state)
{
	struct pair *pair = *state;
	struct haul_frame row = { .data = pair->bytes[0],
				  .len = 10,
				  .tail = pair->bytes[1],
				  .tail_len = 7,
				  .peer = 1,
				  .flags = HAUL_FRAME_CSUM_PARTIAL,
				  .csum_start = 2,
				  .csum_offset = 6 };
	assert_int_equal(haul_send_batch_push(&pair->tx, &row), 0);
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), 1);
	assert_int_equal(haul_link_rx(pair->b, &pair->rx), 1);
	assert_int_equal(pair->rx.len[0], 17);
	assert_memory_equal(pair->rx.data[0], pair->bytes[0], 10);
	assert_memory_equal(pair->rx.data[0] + 10, pair->bytes[1], 7);
	assert_int_equal(pair->rx.flags[0], HAUL_FRAME_HEADROOM | HAUL_FRAME_CSUM_PARTIAL);
	assert_int_equal(pair->rx.csum_start[0], 2);
	assert_int_equal(pair->rx.csum_offset[0], 6);
}

/* The smallest and the largest frame there is. */
static void test_mem__carries_any_size(void **state)
{
	static uint8_t big[HAUL_FRAME_BYTES_MAX];
	struct pair *pair = *state;
	struct haul_frame row = { .data = big, .len = sizeof big, .peer = 1 };
	for (uint32_t i = 0; i < sizeof big; i++)
		big[i] = (uint8_t)(i * 7);
	assert_int_equal(haul_link_mtu(pair->a), HAUL_FRAME_BYTES_MAX);
	assert_int_equal(haul_send_batch_push(&pair->tx, &row), 0);
	row.len = 1;
	assert_int_equal(haul_send_batch_push(&pair->tx, &row), 0);
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), 2);
	assert_int_equal(haul_link_rx(pair->b, &pair->rx), 2);
	assert_int_equal(pair->rx.len[0], sizeof big);
	assert_memory_equal(pair->rx.data[0], big, sizeof big);
	assert_int_equal(pair->rx.len[1], 1);
}

/* A full queue is told, frame by frame; nothing is dropped in silence (defect 6). */
static void test_mem__reports_a_full_queue(void **state)
{
	struct pair *pair = *state;
	push(pair, 0, QUEUE + 3, 1);
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), QUEUE);
	for (uint32_t i = 0; i < QUEUE + 3; i++)
		assert_int_equal(status(pair, i), i < QUEUE ? 0 : -EAGAIN);
	assert_int_equal(haul_link_tx_stats(pair->a)->extra[LINK_TX_EAGAIN], 3);
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), 0);
	expect_rx(pair, 0, QUEUE);
	assert_false(readable(pair->b));
	push(pair, QUEUE, 3, 1);
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), 3);
	expect_rx(pair, QUEUE, 3);
}

/* Received bytes stay as they are until the next rx, however much is sent meanwhile. */
static void test_mem__keeps_received_bytes_until_the_next_rx(void **state)
{
	struct pair *pair = *state;
	struct haul_frames *held = &pair->rx;
	for (uint32_t round = 0; round < 50; round++) {
		push(pair, round % 5, QUEUE, 1);
		assert_int_equal(haul_link_tx(pair->a, &pair->tx), QUEUE);
		expect_rx(pair, round % 5, QUEUE);
		push(pair, 20, QUEUE, 1);
		assert_int_equal(haul_link_tx(pair->a, &pair->tx), QUEUE);
		for (uint32_t i = 0; i < QUEUE; i++)
			assert_memory_equal(held->data[i], pair->bytes[round % 5 + i], FRAME_BYTES);
		expect_rx(pair, 20, QUEUE);
	}
}

/* The fd is readable exactly while rx would return frames. */
static void test_mem_fd__tells_readiness(void **state)
{
	struct pair *pair = *state;
	struct haul_frames two;
	assert_int_equal(haul_frames_init(&two, 2), 0);
	assert_false(readable(pair->b));
	assert_int_equal(haul_link_rx(pair->b, &two), 0);
	push(pair, 0, 5, 1);
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), 5);
	for (int left = 5; left > 0; left -= 2) {
		assert_true(readable(pair->b));
		assert_int_equal(haul_link_rx(pair->b, &two), left < 2 ? left : 2);
	}
	assert_false(readable(pair->b));
	assert_false(readable(pair->a));
	assert_int_equal(haul_link_rx_stats(pair->b)->closed[HAUL_CLOSE_OPS], 2);
	assert_int_equal(haul_link_rx_stats(pair->b)->closed[HAUL_CLOSE_IDLE], 1);
	haul_frames_done(&two);
}

/* A pair has one peer and the broadcast; no third address, and nothing goes to a peer removed. */
static void test_mem_peers__are_two(void **state)
{
	struct pair *pair = *state;
	struct haul_addr b = haul_link_local(pair->b), addr;
	assert_int_equal(haul_link_peer_find(pair->a, &b), 1);
	assert_int_equal(haul_link_peer_add(pair->a, &b), 1);
	assert_int_equal(haul_addr_parse("02:00:00:00:00:77", &addr, NULL), 0);
	assert_int_equal(haul_link_peer_add(pair->a, &addr), HAUL_EFULL);
	assert_int_equal(haul_link_peer_find(pair->a, &addr), -ENOENT);
	assert_int_equal(haul_link_peer_addr(pair->a, 0, &addr), 0);
	assert_int_equal(addr.bytes[5], 0xff);

	assert_int_equal(haul_link_peer_remove(pair->a, 1), 0);
	push(pair, 0, 3, 1);
	pair->tx.frames.peer[1] = 0;
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), 1);
	assert_int_equal(status(pair, 0), -EDESTADDRREQ);
	assert_int_equal(status(pair, 1), 0);
	assert_int_equal(status(pair, 2), -EDESTADDRREQ);
	push(pair, 0, 1, 1);
	assert_int_equal(haul_link_tx(pair->b, &pair->tx), 1);
	assert_int_equal(haul_link_rx(pair->a, &pair->rx), 1);
	assert_int_equal(pair->rx.peer[0], HAUL_PEER_NONE);
	assert_int_equal(haul_link_peer_add(pair->a, &b), 1);
}

/* EAGAIN stops the burst: the frame at hand and all behind it have the code, none overtakes. */
static void test_mem_faults__eagain_stops_the_burst(void **state)
{
	struct pair *pair = *state;
	struct haul_mem_faults faults = { .eagain_in = 2, .partial_in = 1, .partial_frames = 2 };
	haul_link_mem_faults(pair->a, &faults);
	push(pair, 0, 6, 1);
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), 2);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(status(pair, i), i < 2 ? 0 : -EAGAIN);
	assert_int_equal(haul_link_tx_stats(pair->a)->syscalls, 2);
	expect_rx(pair, 0, 2);
}

/* EIO concerns the frame at hand only: the others go out, in order. */
static void test_mem_faults__eio_costs_one_frame(void **state)
{
	struct pair *pair = *state;
	struct haul_mem_faults faults = { .eio_in = 2, .partial_in = 1, .partial_frames = 3 };
	haul_link_mem_faults(pair->a, &faults);
	push(pair, 0, 6, 1);
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), 5);
	assert_int_equal(status(pair, 3), -EIO);
	assert_int_equal(haul_link_rx(pair->b, &pair->rx), 5);
	assert_int_equal(pair->rx.data[2][0], pair->bytes[2][0]);
	assert_int_equal(pair->rx.data[3][0], pair->bytes[4][0]);
}

/* One ENOBUFS is tried again at once and costs nothing; without end it is told. */
static void test_mem_faults__enobufs_is_tried_again(void **state)
{
	struct pair *pair = *state;
	struct haul_mem_faults faults = { .enobufs_in = 1 };
	haul_link_mem_faults(pair->a, &faults);
	push(pair, 0, 4, 1);
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), 4);
	assert_int_equal(haul_link_tx_stats(pair->a)->syscalls, 2);
	expect_rx(pair, 0, 4);

	faults = (struct haul_mem_faults){ .seed = 1, .percent = 100 };
	uint32_t told = 0;
	for (uint32_t round = 0; round < 2000 && told == 0; round++) {
		haul_link_mem_faults(pair->a, &faults);
		faults.seed++;
		push(pair, 0, 2, 1);
		(void)haul_link_tx(pair->a, &pair->tx);
		told += status(pair, 0) == -ENOBUFS;
		if (told > 0)
			assert_int_equal(status(pair, 1), -ENOBUFS);
		(void)haul_link_rx(pair->b, &pair->rx);
	}
	assert_int_equal(told, 1);
}

/* A call that carries a part is followed by one for the rest; none is lost or sent twice. */
static void test_mem_faults__partial_sends_go_on(void **state)
{
	struct pair *pair = *state;
	for (uint32_t part = 0; part < 8; part++) {
		struct haul_mem_faults faults = { .partial_in = 1, .partial_frames = part };
		haul_link_mem_faults(pair->a, &faults);
		push(pair, 0, 7, 1);
		assert_int_equal(haul_link_tx(pair->a, &pair->tx), 7);
		expect_rx(pair, 0, 7);
	}
}

/* After one end has closed the other drains what is queued, then learns that the link is broken. */
static void test_mem_close__is_told_to_the_other_end(void **state)
{
	struct pair *pair = *state;
	push(pair, 0, 3, 1);
	assert_int_equal(haul_link_tx(pair->a, &pair->tx), 3);
	haul_link_close(pair->a);
	pair->a = NULL;
	assert_true(readable(pair->b));
	expect_rx(pair, 0, 3);
	assert_true(readable(pair->b));
	assert_int_equal(haul_link_rx(pair->b, &pair->rx), -ENETDOWN);
	push(pair, 0, 2, 1);
	assert_int_equal(haul_link_tx(pair->b, &pair->tx), 0);
	assert_int_equal(status(pair, 0), -ENETDOWN);
	assert_int_equal(status(pair, 1), -ENETDOWN);
	assert_int_equal(haul_link_tx_stats(pair->b)->extra[LINK_TX_FAILED], 2);
}

/* Bad arguments give a code and open nothing. */
static void test_mem_pair__refuses_bad_arguments(void **state)
{
	struct haul_link *a = NULL, *b = NULL;
	(void)state;
	assert_int_equal(haul_link_mem_pair("mem", 0, &a, &b), -EINVAL);
	assert_int_equal(haul_link_mem_pair("mem", HAUL_FRAMES_MAX + 1, &a, &b), -EINVAL);
	assert_int_equal(haul_link_mem_pair("a name of more than 31 characters", 8, &a, &b),
			 -EINVAL);
	assert_null(a);
	assert_null(b);
	haul_link_close(NULL);
}

enum { STREAM = 20000 };

static void *send_stream(void *arg)
{
	struct pair *pair = arg;
	uint32_t words[ROWS], next = 0;
	while (next < STREAM) {
		haul_send_batch_clear(&pair->tx);
		for (uint32_t i = 0; i < ROWS / 4 && next + i < STREAM; i++) {
			words[i] = next + i;
			struct haul_frame row = { .data = (uint8_t *)&words[i],
						  .len = sizeof words[i],
						  .peer = 1 };
			(void)haul_send_batch_push(&pair->tx, &row);
		}
		next += (uint32_t)haul_link_tx(pair->a, &pair->tx);
	}
	return NULL;
}

/* A sending and a receiving thread: every frame arrives once, in order, and no wake-up is lost. */
static void test_mem__two_threads_meet(void **state)
{
	struct pair *pair = *state;
	pthread_t thread;
	uint32_t next = 0;
	assert_int_equal(pthread_create(&thread, NULL, send_stream, pair), 0);
	while (next < STREAM) {
		struct pollfd fd = { .fd = haul_link_fd(pair->b), .events = POLLIN };
		assert_int_equal(poll(&fd, 1, 10000), 1);
		int count = haul_link_rx(pair->b, &pair->rx);
		for (int i = 0; i < count; i++, next++)
			assert_memory_equal(pair->rx.data[i], &next, sizeof next);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(haul_link_rx(pair->b, &pair->rx), 0);
}

/* Nothing is allocated once the pair is open. */
static void test_mem__allocates_only_at_open(void **state)
{
	struct pair *pair = *state;
	uint64_t before = test_mallocs();
	for (uint32_t round = 0; round < 100; round++) {
		push(pair, round % 8, QUEUE, 1);
		assert_int_equal(haul_link_tx(pair->a, &pair->tx), QUEUE);
		expect_rx(pair, round % 8, QUEUE);
	}
	assert_int_equal(test_mallocs(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_pair, close_pair)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mem__carries_frames_both_ways),
		TEST(test_mem__joins_data_and_tail),
		TEST(test_mem__carries_any_size),
		TEST(test_mem__reports_a_full_queue),
		TEST(test_mem__keeps_received_bytes_until_the_next_rx),
		TEST(test_mem_fd__tells_readiness),
		TEST(test_mem_peers__are_two),
		TEST(test_mem_faults__eagain_stops_the_burst),
		TEST(test_mem_faults__eio_costs_one_frame),
		TEST(test_mem_faults__enobufs_is_tried_again),
		TEST(test_mem_faults__partial_sends_go_on),
		TEST(test_mem_close__is_told_to_the_other_end),
		cmocka_unit_test(test_mem_pair__refuses_bad_arguments),
		TEST(test_mem__two_threads_meet),
		TEST(test_mem__allocates_only_at_open),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
