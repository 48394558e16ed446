/* link/test_udp.c — the UDP link over loopback: what goes in comes out, whatever the kernel
 * does. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <haul/link.h>
#include "lib/testlib.h"
#include "link/link.h"

enum { FRAMES_MAX = 2048, BYTES_MAX = 8 * 1024 * 1024, ROUNDS = 300 };

/* A sender and a receiver, a batch of each, and the bytes sent. */
struct bed {
	struct prng prng;
	struct haul_link *tx;
	struct haul_link *rx;
	struct haul_send_batch batch;
	struct haul_frames frames;
	uint32_t received; /* frames checked since the last clear */
	uint8_t bytes[BYTES_MAX];
	uint32_t bytes_used;
	uint8_t copy[HAUL_FRAME_BYTES_MAX];
};

static struct haul_link_options loopback(const char *name, const char *address)
{
	struct haul_link_options options;
	haul_link_options_init(&options, HAUL_LINK_UDP);
	(void)strncpy(options.name, name, sizeof options.name - 1);
	assert_int_equal(haul_addr_parse(address, &options.local, NULL), 0);
	return options;
}

static void open_pair(struct bed *bed, const struct haul_link_options *tx,
		      const struct haul_link_options *rx)
{
	struct haul_err err = { 0 };
	assert_int_equal(haul_link_open(tx, &bed->tx, &err), 0);
	assert_int_equal(haul_link_open(rx, &bed->rx, &err), 0);
	struct haul_addr to = haul_link_local(bed->rx);
	assert_int_equal(haul_link_peer_add(bed->tx, &to), 1);
}

static void open_default(struct bed *bed)
{
	struct haul_link_options tx = loopback("t", "127.0.0.1:0");
	struct haul_link_options rx = loopback("r", "127.0.0.1:0");
	open_pair(bed, &tx, &rx);
}

static int bed_open(void **state)
{
	static struct bed bed;
	test_prng(&bed.prng);
	*state = &bed;
	assert_int_equal(haul_frames_init(&bed.frames, FRAMES_MAX), 0);
	return haul_send_batch_init(&bed.batch, FRAMES_MAX);
}

static int bed_close(void **state)
{
	struct bed *bed = *state;
	haul_frames_done(&bed->frames);
	haul_send_batch_done(&bed->batch);
	return 0;
}

static int close_links(void **state)
{
	struct bed *bed = *state;
	haul_link_close(bed->tx);
	haul_link_close(bed->rx);
	bed->tx = bed->rx = NULL;
	return 0;
}

static void clear(struct bed *bed)
{
	haul_send_batch_clear(&bed->batch);
	bed->bytes_used = 0;
	bed->received = 0;
}

/* Add a frame of bytes for peer, cut into data and tail after `head` bytes. */
static void add(struct bed *bed, uint32_t peer, uint32_t bytes, uint32_t head)
{
	uint8_t *data = bed->bytes + bed->bytes_used;
	assert_true(bed->bytes_used + bytes <= BYTES_MAX && head >= 1 && head <= bytes);
	for (uint32_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)prng_next(&bed->prng);
	struct haul_frame row = {
		.data = data,
		.len = head,
		.tail = data + head,
		.tail_len = bytes - head,
		.peer = peer,
	};
	assert_int_equal(haul_send_batch_push(&bed->batch, &row), 0);
	/* half of the frames do not touch the next one in memory */
	bed->bytes_used += bytes + prng_below(&bed->prng, 2);
}

static void add_many(struct bed *bed, uint32_t count, uint32_t bytes)
{
	for (uint32_t i = 0; i < count; i++)
		add(bed, 1, bytes, 1 + prng_below(&bed->prng, bytes));
}

/* What was received are the next frames of the batch that were sent, whole and in order. */
static void check_received(struct bed *bed)
{
	struct haul_frames *sent = &bed->batch.frames;
	for (uint32_t i = 0; i < bed->frames.count; i++) {
		while (bed->received < sent->count && sent->status[bed->received] != 0)
			bed->received++;
		assert_true(bed->received < sent->count);
		uint32_t row = bed->received++;
		uint32_t bytes = haul_frame_copy(&bed->frames, i, bed->copy);
		assert_int_equal(bytes, haul_frame_bytes(sent, row));
		assert_memory_equal(bed->copy, sent->data[row], bytes); /* data and tail adjoin */
		assert_int_equal(bed->frames.status[i], 0);
		assert_true(bed->frames.from[i] < bed->frames.addr_count);
		if ((bed->frames.flags[i] & HAUL_FRAME_HEADROOM) != 0)
			memset(bed->frames.data[i] - HAUL_FRAME_HEADROOM_BYTES, 0xee,
			       HAUL_FRAME_HEADROOM_BYTES);
	}
}

/* Receive until the queue is empty; every frame that was sent must have come. */
static void drain(struct bed *bed)
{
	while (haul_link_rx(bed->rx, &bed->frames) > 0)
		check_received(bed);
	while (bed->received < bed->batch.frames.count &&
	       bed->batch.frames.status[bed->received] != 0)
		bed->received++;
	assert_int_equal(bed->received, bed->batch.frames.count);
}

static uint64_t tx_count(const struct bed *bed, enum link_tx_counter counter)
{
	return haul_link_tx_stats(bed->tx)->extra[counter];
}

static uint64_t rx_count(const struct bed *bed, enum link_rx_counter counter)
{
	return haul_link_rx_stats(bed->rx)->extra[counter];
}

static void send_and_drain(struct bed *bed)
{
	uint32_t count = bed->batch.frames.count;
	assert_int_equal(haul_link_tx(bed->tx, &bed->batch), count);
	drain(bed);
}

/* Random sizes, runs of equal ones among them, receive batches of any capacity. */
static void random_bursts(struct bed *bed)
{
	for (uint32_t round = 0; round < ROUNDS; round++) {
		clear(bed);
		for (uint32_t runs = 1 + prng_below(&bed->prng, 8); runs > 0; runs--)
			add_many(bed, 1 + prng_below(&bed->prng, 100),
				 1 + prng_below(&bed->prng, 1472));
		bed->frames.capacity = 1 + prng_below(&bed->prng, FRAMES_MAX);
		send_and_drain(bed);
	}
	bed->frames.capacity = FRAMES_MAX;
}

/* Order and contents survive segmentation offload, with and without each of its halves. */
static void test_udp__carries_random_bursts(void **state)
{
	static const uint32_t sets[] = { HAUL_OFFLOAD_ALL, HAUL_OFFLOAD_GSO, HAUL_OFFLOAD_GRO, 0 };
	struct bed *bed = *state;
	for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
		struct haul_link_options tx = loopback("t", "127.0.0.1:0");
		struct haul_link_options rx = loopback("r", "127.0.0.1:0");
		tx.offloads = rx.offloads = sets[i];
		open_pair(bed, &tx, &rx);
		random_bursts(bed);
		assert_int_equal(tx_count(bed, LINK_TX_GSO_RUNS) > 0,
				 (sets[i] & HAUL_OFFLOAD_GSO) != 0);
		assert_int_equal(rx_count(bed, LINK_RX_GRO_SLOTS) > 0,
				 (sets[i] & HAUL_OFFLOAD_GSO) != 0 &&
					 (sets[i] & HAUL_OFFLOAD_GRO) != 0);
		(void)close_links(state);
	}
}

/* The same over IPv6. */
static void test_udp__carries_random_bursts_over_ipv6(void **state)
{
	struct bed *bed = *state;
	struct haul_link_options tx = loopback("t", "[::1]:0");
	struct haul_link_options rx = loopback("r", "[::1]:0");
	open_pair(bed, &tx, &rx);
	random_bursts(bed);
	assert_true(tx_count(bed, LINK_TX_GSO_RUNS) > 0);
}

/* Individual mode gives what batched mode gives, one frame a call and a system call. */
static void test_udp__one_at_a_time_gives_the_same(void **state)
{
	struct bed *bed = *state;
	struct haul_link_options tx = loopback("t", "127.0.0.1:0");
	struct haul_link_options rx = loopback("r", "127.0.0.1:0");
	tx.burst_max = rx.burst_max = 1;
	open_pair(bed, &tx, &rx);
	random_bursts(bed);
	const struct haul_stats *sent = haul_link_tx_stats(bed->tx);
	const struct haul_stats *received = haul_link_rx_stats(bed->rx);
	assert_int_equal(sent->syscalls, sent->ops);
	assert_int_equal(received->batches, received->ops);
	assert_int_equal(haul_link_offloads(bed->tx), 0);
}

/* The kernel's limits: 65,507 bytes in all, the last segment alone may be shorter. */
static void test_udp__runs_end_where_the_kernel_wants(void **state)
{
	static const struct {
		uint32_t count, bytes, then_count, then_bytes;
		uint64_t runs, frames;
	} rows[] = {
		{ 44, 1472, 0, 0, 1, 44 }, /* 64,768 bytes */
		{ 45, 1472, 0, 0, 1, 44 }, /* one more goes alone */
		{ 64, 1024, 0, 0, 1, 63 }, /* 65,536 would be too many bytes */
		{ 128, 64, 0, 0, 1, 128 }, /* as many segments as a send may have */
		{ 129, 64, 0, 0, 1, 128 },  { 256, 64, 0, 0, 2, 256 },
		{ 5, 1000, 1, 300, 1, 6 },  /* a shorter one ends the run */
		{ 5, 300, 5, 1000, 2, 10 }, /* a longer one begins the next */
		{ 1, 700, 1, 800, 0, 0 },   /* alone: no control message */
	};
	struct bed *bed = *state;
	open_default(bed);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint64_t runs = tx_count(bed, LINK_TX_GSO_RUNS);
		uint64_t frames = tx_count(bed, LINK_TX_GSO_FRAMES);
		uint64_t calls = haul_link_tx_stats(bed->tx)->syscalls;
		clear(bed);
		add_many(bed, rows[i].count, rows[i].bytes);
		if (rows[i].then_count > 0)
			add_many(bed, rows[i].then_count, rows[i].then_bytes);
		send_and_drain(bed);
		assert_int_equal(tx_count(bed, LINK_TX_GSO_RUNS) - runs, rows[i].runs);
		assert_int_equal(tx_count(bed, LINK_TX_GSO_FRAMES) - frames, rows[i].frames);
		assert_int_equal(haul_link_tx_stats(bed->tx)->syscalls - calls, 1);
	}
	assert_int_equal(tx_count(bed, LINK_TX_GSO_REFUSED), 0);
}

/* A receive batch much smaller than what one kernel packet holds loses and reorders nothing. */
static void test_udp__small_receive_batches_lose_nothing(void **state)
{
	struct bed *bed = *state;
	open_default(bed);
	for (uint32_t capacity = 1; capacity < 70; capacity += 3) {
		clear(bed);
		add_many(bed, 500, 1 + prng_below(&bed->prng, 100));
		bed->frames.capacity = capacity;
		send_and_drain(bed);
	}
	bed->frames.capacity = FRAMES_MAX;
}

/* The kernel refuses UDP_SEGMENT at run time (here: a socket that sends no checksums): the same run
 * leaves at once packet by packet, nothing is lost or doubled, and it is not tried again. */
static void test_udp__gso_refused_is_resent_and_remembered(void **state)
{
	struct bed *bed = *state;
	int one = 1;
	open_default(bed);
	assert_int_equal(
		setsockopt(haul_link_fd(bed->tx), SOL_SOCKET, SO_NO_CHECK, &one, sizeof one), 0);
	for (uint32_t round = 0; round < 3; round++) {
		clear(bed);
		add_many(bed, 1, 1000);
		add_many(bed, 40, 900); /* refused in the middle of a burst */
		add_many(bed, 200, 500);
		send_and_drain(bed);
		assert_int_equal(tx_count(bed, LINK_TX_GSO_REFUSED), 1);
	}
	assert_int_equal(tx_count(bed, LINK_TX_GSO_RUNS), 0);
	assert_int_equal(tx_count(bed, LINK_TX_FAILED), 0);
}

/* More than 64 segments are refused by older kernels: the limit is lowered, segmentation stays on.
 * This kernel takes them, so the refusal is provoked and then taken back. */
static void test_udp__long_run_refused_lowers_the_limit(void **state)
{
	struct bed *bed = *state;
	int on = 1, off = 0;
	open_default(bed);
	(void)setsockopt(haul_link_fd(bed->tx), SOL_SOCKET, SO_NO_CHECK, &on, sizeof on);
	clear(bed);
	add_many(bed, 65, 64);
	send_and_drain(bed);
	(void)setsockopt(haul_link_fd(bed->tx), SOL_SOCKET, SO_NO_CHECK, &off, sizeof off);
	clear(bed);
	add_many(bed, 128, 64);
	send_and_drain(bed);
	assert_int_equal(tx_count(bed, LINK_TX_GSO_REFUSED), 1);
	assert_int_equal(tx_count(bed, LINK_TX_GSO_RUNS), 2);
	assert_int_equal(tx_count(bed, LINK_TX_GSO_FRAMES), 128);
}

/* A datagram larger than its slot is counted and dropped, never delivered short. */
static void test_udp__truncated_datagrams_are_dropped(void **state)
{
	for (uint32_t burst = 1; burst <= 64; burst += 63) {
		struct bed *bed = *state;
		struct haul_link_options tx = loopback("t", "127.0.0.1:0");
		struct haul_link_options rx = loopback("r", "127.0.0.1:0");
		rx.offloads = 0;
		rx.mtu_bytes = 500;
		rx.burst_max = burst;
		open_pair(bed, &tx, &rx);
		clear(bed);
		add_many(bed, 3, 501);
		add_many(bed, 1, 500);
		assert_int_equal(haul_link_tx(bed->tx, &bed->batch), 4);
		bed->received = 3;
		drain(bed);
		assert_int_equal(rx_count(bed, LINK_RX_TRUNCATED), 3);
		(void)close_links(state);
	}
}

/* Without room for the size that UDP_GRO tells, many datagrams would look like one: dropped. */
static void test_udp__lost_control_message_is_truncation(void **state)
{
	struct bed *bed = *state;
	int on = 1, off = 0;
	open_default(bed);
	int fd = haul_link_fd(bed->rx);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on), 0);
	clear(bed);
	add_many(bed, 4, 100);
	assert_int_equal(haul_link_tx(bed->tx, &bed->batch), 4);
	assert_int_equal(haul_link_rx(bed->rx, &bed->frames), 0);
	assert_int_equal(rx_count(bed, LINK_RX_TRUNCATED), 1);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMP, &off, sizeof off), 0);
	clear(bed);
	add_many(bed, 4, 100);
	send_and_drain(bed);
}

/* An empty datagram is no frame. */
static void test_udp__empty_datagrams_are_counted(void **state)
{
	for (uint32_t burst = 1; burst <= 64; burst += 63) {
		struct bed *bed = *state;
		struct haul_link_options tx = loopback("t", "127.0.0.1:0");
		struct haul_link_options rx = loopback("r", "127.0.0.1:0");
		rx.burst_max = burst;
		open_pair(bed, &tx, &rx);
		struct haul_addr to = haul_link_local(bed->rx);
		struct sockaddr_in name = { .sin_family = AF_INET, .sin_port = htons(to.port) };
		memcpy(&name.sin_addr, to.bytes, 4);
		assert_int_equal(sendto(haul_link_fd(bed->tx), "", 0, 0, (struct sockaddr *)&name,
					sizeof name),
				 0);
		clear(bed);
		add_many(bed, 2, 10);
		send_and_drain(bed);
		assert_int_equal(rx_count(bed, LINK_RX_MALFORMED), 1);
		(void)close_links(state);
	}
}

/* One bad frame at the front, in the middle or at the end concerns nobody else. */
static void test_udp__bad_frames_fail_alone(void **state)
{
	struct bed *bed = *state;
	for (uint32_t burst = 1; burst <= 64; burst += 63) {
		struct haul_link_options tx = loopback("t", "127.0.0.1:0");
		struct haul_link_options rx = loopback("r", "127.0.0.1:0");
		tx.burst_max = burst;
		open_pair(bed, &tx, &rx);
		for (uint32_t at = 0; at < 3; at++) {
			clear(bed);
			add_many(bed, at * 10, 100);
			add(bed, 7, 100, 100);     /* no such peer */
			add(bed, 1, 65508, 65508); /* larger than a datagram can be */
			add_many(bed, (2 - at) * 10, 100);
			assert_int_equal(haul_link_tx(bed->tx, &bed->batch), 20);
			assert_int_equal(bed->batch.frames.status[at * 10], -EDESTADDRREQ);
			assert_int_equal(bed->batch.frames.status[at * 10 + 1], -EMSGSIZE);
			drain(bed);
		}
		assert_int_equal(tx_count(bed, LINK_TX_FAILED), 6);
		(void)close_links(state);
	}
}

/* Frames of two peers in turn: each gets its own, in order. */
static void test_udp__keeps_order_for_each_peer(void **state)
{
	struct bed *bed = *state;
	struct haul_link *other;
	struct haul_link_options options = loopback("o", "127.0.0.1:0");
	open_default(bed);
	assert_int_equal(haul_link_open(&options, &other, NULL), 0);
	struct haul_addr addr = haul_link_local(other);
	assert_int_equal(haul_link_peer_add(bed->tx, &addr), 2);
	clear(bed);
	for (uint32_t i = 0; i < 100; i++)
		add(bed, 1 + i % 2, 200, 100);
	assert_int_equal(haul_link_tx(bed->tx, &bed->batch), 100);
	assert_int_equal(tx_count(bed, LINK_TX_GSO_RUNS), 2);
	struct haul_link *links[2] = { bed->rx, other };
	for (uint32_t side = 0; side < 2; side++) {
		assert_int_equal(haul_link_rx(links[side], &bed->frames), 50);
		for (uint32_t i = 0; i < 50; i++)
			assert_memory_equal(bed->frames.data[i],
					    bed->batch.frames.data[2 * i + side], 200);
	}
	haul_link_close(other);
}

/* The sender is told by its index when it is a peer, by its address in any case. */
static void test_udp__tells_who_sent(void **state)
{
	struct bed *bed = *state;
	open_default(bed);
	for (uint32_t round = 0; round < 2; round++) {
		clear(bed);
		add_many(bed, 3, 50);
		assert_int_equal(haul_link_tx(bed->tx, &bed->batch), 3);
		assert_int_equal(haul_link_rx(bed->rx, &bed->frames), 3);
		struct haul_addr from = haul_link_local(bed->tx);
		assert_memory_equal(&bed->frames.addr[bed->frames.from[2]], &from, sizeof from);
		assert_int_equal(bed->frames.peer[2], round == 0 ? HAUL_PEER_NONE : 1);
		assert_int_equal(haul_link_peer_add(bed->rx, &from), 1);
	}
}

/* Errors that the network reports for earlier datagrams stop neither rx nor tx. */
static void test_udp__reported_errors_break_nothing(void **state)
{
	for (uint32_t burst = 1; burst <= 64; burst += 63) {
		struct bed *bed = *state;
		int on = 1;
		struct haul_link_options tx = loopback("t", "127.0.0.1:0");
		struct haul_link_options rx = loopback("r", "127.0.0.1:0");
		tx.burst_max = burst;
		open_pair(bed, &tx, &rx);
		/* a port that nobody listens on: bound and left again */
		struct haul_link *gone;
		assert_int_equal(haul_link_open(&rx, &gone, NULL), 0);
		struct haul_addr nobody = haul_link_local(gone);
		haul_link_close(gone);
		assert_int_equal(
			setsockopt(haul_link_fd(bed->tx), IPPROTO_IP, IP_RECVERR, &on, sizeof on),
			0);
		assert_int_equal(haul_link_peer_add(bed->tx, &nobody), 2);
		clear(bed);
		add(bed, 2, 100, 100);
		assert_int_equal(haul_link_tx(bed->tx, &bed->batch), 1);
		clear(bed);
		add_many(bed, 5, 100);
		send_and_drain(bed);
		clear(bed);
		add(bed, 2, 100, 100);
		assert_int_equal(haul_link_tx(bed->tx, &bed->batch), 1);
		assert_int_equal(haul_link_rx(bed->tx, &bed->frames), 0);
		assert_int_equal(haul_link_rx_stats(bed->tx)->extra[LINK_RX_SOCKET_ERRORS], 1);
		(void)close_links(state);
	}
}

/* Peer 0 is the broadcast address. */
static void test_udp__broadcasts_to_peer_0(void **state)
{
	struct bed *bed = *state;
	struct haul_link_options rx = loopback("r", "0.0.0.0:0");
	struct haul_link_options tx = loopback("t", "127.0.0.1:0");
	assert_int_equal(haul_link_open(&rx, &bed->rx, NULL), 0);
	assert_int_equal(haul_addr_parse("127.255.255.255:0", &tx.broadcast, NULL), 0);
	tx.broadcast.port = haul_link_local(bed->rx).port;
	assert_int_equal(haul_link_open(&tx, &bed->tx, NULL), 0);
	clear(bed);
	for (uint32_t i = 0; i < 5; i++)
		add(bed, 0, 100, 50);
	send_and_drain(bed);
}

/* Nothing is allocated once the link is open. */
static void test_udp__allocates_only_at_open(void **state)
{
	struct bed *bed = *state;
	open_default(bed);
	uint64_t before = test_mallocs();
	random_bursts(bed);
	assert_int_equal(test_mallocs(), before);
}

/* What cannot be opened says why, and leaves nothing behind. */
static void test_udp__open_errors_say_why(void **state)
{
	struct bed *bed = *state;
	struct haul_link *link = NULL;
	struct haul_err err = { 0 };
	open_default(bed);
	struct haul_link_options options = loopback("u", "127.0.0.1:0");
	options.local = haul_link_local(bed->rx);
	assert_int_equal(haul_link_open(&options, &link, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "127.0.0.1:"));
	assert_int_equal(haul_addr_parse("02:00:00:00:00:01", &options.local, NULL), 0);
	assert_int_equal(haul_link_open(&options, &link, &err), -EAFNOSUPPORT);
	options = loopback("u", "127.0.0.1:0");
	assert_int_equal(haul_addr_parse("[::1]:9", &options.broadcast, NULL), 0);
	assert_int_equal(haul_link_open(&options, &link, &err), -EAFNOSUPPORT);
	options = loopback("u", "127.0.0.1:0");
	(void)strncpy(options.ifname, "nosuchif", sizeof options.ifname - 1);
	assert_true(haul_link_open(&options, &link, &err) < 0);
	assert_non_null(strstr(err.text, "nosuchif"));
	options = loopback("u", "127.0.0.1:0");
	options.burst_max = LINK_BURST_MAX + 1;
	assert_int_equal(haul_link_open(&options, &link, &err), -EINVAL);
	assert_null(link);
	struct haul_addr mac = { .kind = HAUL_ADDR_MAC };
	assert_int_equal(haul_link_peer_add(bed->tx, &mac), -EAFNOSUPPORT);
}

#define TEST(function) cmocka_unit_test_teardown(function, close_links)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_udp__carries_random_bursts),
		TEST(test_udp__carries_random_bursts_over_ipv6),
		TEST(test_udp__one_at_a_time_gives_the_same),
		TEST(test_udp__runs_end_where_the_kernel_wants),
		TEST(test_udp__small_receive_batches_lose_nothing),
		TEST(test_udp__gso_refused_is_resent_and_remembered),
		TEST(test_udp__long_run_refused_lowers_the_limit),
		TEST(test_udp__truncated_datagrams_are_dropped),
		TEST(test_udp__lost_control_message_is_truncation),
		TEST(test_udp__empty_datagrams_are_counted),
		TEST(test_udp__bad_frames_fail_alone),
		TEST(test_udp__keeps_order_for_each_peer),
		TEST(test_udp__tells_who_sent),
		TEST(test_udp__reported_errors_break_nothing),
		TEST(test_udp__broadcasts_to_peer_0),
		TEST(test_udp__allocates_only_at_open),
		TEST(test_udp__open_errors_say_why),
	};
	return cmocka_run_group_tests(tests, bed_open, bed_close);
}
