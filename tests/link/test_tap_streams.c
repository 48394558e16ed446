/* link/test_tap_streams.c — real sockets of two namespaces, TAP to TAP: TCP and segmented UDP
 * arrive byte for byte, whatever offloads either side has. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <haul/link.h>
#include "lib/testlib.h"
#include "link/link.h"
#include "link/tap_lab.h"
#include "os/os.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum {
	CAPACITY = 512,
	STREAM_BYTES = 4 << 20,
	CHUNK_BYTES = 256 * 1024,
	DATAGRAMS = 40,
	PORT = 4789,
	POLL_MS = 20
};
/* A stream that takes so long is stuck: bounds the test, decides nothing else. */
#define STUCK_NS (20 * NS_PER_S)

struct bed {
	struct tap_lab lab;
	struct haul_frames frames;
	struct haul_send_batch batch;
	uint8_t stream[STREAM_BYTES];
	uint8_t got[CHUNK_BYTES];
};

static int bed_open(void **state)
{
	static struct bed bed;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t i = 0; i < STREAM_BYTES; i++)
		bed.stream[i] = (uint8_t)prng_next(&prng);
	*state = &bed;
	assert_int_equal(haul_frames_init(&bed.frames, CAPACITY), 0);
	return haul_send_batch_init(&bed.batch, CAPACITY);
}

static int bed_close(void **state)
{
	struct bed *bed = *state;
	bed->frames.capacity = CAPACITY;
	haul_frames_done(&bed->frames);
	haul_send_batch_done(&bed->batch);
	return 0;
}

static int close_lab(void **state)
{
	struct bed *bed = *state;
	tap_lab_close(&bed->lab);
	return 0;
}

/* One burst from a side to the other; returns the frames. */
static int carry(struct bed *bed, int from)
{
	int got = haul_link_rx(bed->lab.link[from], &bed->frames);
	assert_true(got >= 0);
	haul_send_batch_clear(&bed->batch);
	for (uint32_t i = 0; i < bed->frames.count; i++) {
		struct haul_frame row = {
			.data = bed->frames.data[i],
			.tail = bed->frames.tail[i],
			.len = bed->frames.len[i],
			.tail_len = bed->frames.tail_len[i],
			.flags = bed->frames.flags[i],
			.csum_start = bed->frames.csum_start[i],
			.csum_offset = bed->frames.csum_offset[i],
		};
		assert_true(haul_frame_bytes(&bed->frames, i) <=
			    haul_link_mtu(bed->lab.link[from]) + 4);
		assert_int_equal(haul_send_batch_push(&bed->batch, &row), 0);
	}
	assert_int_equal(haul_link_tx(bed->lab.link[1 - from], &bed->batch), got);
	return got;
}

/* Carry until nothing is queued on either side. */
static void carry_all(struct bed *bed)
{
	while (carry(bed, 0) + carry(bed, 1) > 0)
		;
}

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static union address side_address(int side, int family)
{
	union address address = { 0 };
	if (family == AF_INET6) {
		address.v6.sin6_family = AF_INET6;
		address.v6.sin6_port = htons(PORT);
		assert_int_equal(inet_pton(AF_INET6, side == 0 ? "fd70::1" : "fd70::2",
					   &address.v6.sin6_addr),
				 1);
	} else {
		address.v4.sin_family = AF_INET;
		address.v4.sin_port = htons(PORT);
		assert_int_equal(inet_pton(AF_INET, side == 0 ? "10.70.0.1" : "10.70.0.2",
					   &address.v4.sin_addr),
				 1);
	}
	return address;
}

static int bound_socket(struct bed *bed, int side, int family, int type)
{
	union address address = side_address(side, family);
	int fd = tap_lab_socket(&bed->lab, side, family, type);
	assert_int_equal(bind(fd, &address.any, sizeof address), 0);
	return fd;
}

static void wait_any(struct bed *bed, const int fds[2])
{
	struct pollfd poll_fds[4];
	for (int i = 0; i < 2; i++) {
		poll_fds[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
		poll_fds[2 + i] =
			(struct pollfd){ .fd = haul_link_fd(bed->lab.link[i]), .events = POLLIN };
	}
	(void)poll(poll_fds, 4, POLL_MS);
}

/* Connect from side 0 to side 1 through the links; fds are the two ends. */
static void connect_streams(struct bed *bed, int family, int fds[2])
{
	union address address = side_address(1, family);
	int listener = bound_socket(bed, 1, family, SOCK_STREAM);
	int64_t end_ns = os_linux()->now_ns(os_linux()) + STUCK_NS;
	assert_int_equal(listen(listener, 1), 0);
	fds[0] = tap_lab_socket(&bed->lab, 0, family, SOCK_STREAM);
	fds[1] = -1;
	if (connect(fds[0], &address.any, sizeof address) < 0)
		assert_int_equal(errno, EINPROGRESS);
	while (fds[1] < 0) {
		const int idle[2] = { listener, listener };
		carry_all(bed);
		fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		assert_true(os_linux()->now_ns(os_linux()) < end_ns);
		if (fds[1] < 0)
			wait_any(bed, idle);
	}
	(void)close(listener);
}

/* Send the stream from side 0 to side 1 and compare every byte. */
static void transfer(struct bed *bed, int family, uint32_t bytes)
{
	int fds[2];
	uint32_t sent = 0, received = 0;
	int64_t end_ns = os_linux()->now_ns(os_linux()) + STUCK_NS;
	connect_streams(bed, family, fds);
	while (received < bytes) {
		uint32_t chunk = bytes - sent < CHUNK_BYTES ? bytes - sent : CHUNK_BYTES;
		ssize_t put = send(fds[0], bed->stream + sent, chunk, MSG_NOSIGNAL);
		sent += put > 0 ? (uint32_t)put : 0;
		carry_all(bed);
		ssize_t got = recv(fds[1], bed->got, CHUNK_BYTES, 0);
		if (got > 0) {
			assert_memory_equal(bed->got, bed->stream + received, (size_t)got);
			received += (uint32_t)got;
			continue;
		}
		assert_true(got < 0 && errno == EAGAIN);
		assert_true(os_linux()->now_ns(os_linux()) < end_ns);
		wait_any(bed, fds);
	}
	(void)close(fds[0]);
	(void)close(fds[1]);
}

struct side {
	uint32_t offloads, burst_max;
};

static void open_sides(struct bed *bed, const struct side sides[TAP_LAB_SIDES], uint32_t mtu_bytes)
{
	struct haul_link_options options[TAP_LAB_SIDES];
	for (int i = 0; i < TAP_LAB_SIDES; i++) {
		options[i] = tap_lab_options();
		options[i].offloads = sides[i].offloads;
		options[i].burst_max = sides[i].burst_max;
		options[i].mtu_bytes = mtu_bytes;
	}
	tap_lab_open(&bed->lab, options);
}

static uint64_t superframes_received(const struct bed *bed, int side)
{
	return haul_link_rx_stats(bed->lab.link[side])->extra[LINK_RX_GRO_SLOTS];
}

static uint64_t superframes_sent(const struct bed *bed, int side)
{
	return haul_link_tx_stats(bed->lab.link[side])->extra[LINK_TX_GSO_RUNS];
}

/* TCP with offloads on and off, each side by itself, one frame a call: identical bytes. */
static void test_tap__tcp_arrives_with_any_offloads(void **state)
{
	static const struct side modes[][TAP_LAB_SIDES] = {
		{ { HAUL_OFFLOAD_ALL, 0 }, { HAUL_OFFLOAD_ALL, 0 } },
		{ { HAUL_OFFLOAD_ALL, 0 }, { 0, 0 } },
		{ { 0, 0 }, { HAUL_OFFLOAD_ALL, 0 } },
		{ { HAUL_OFFLOAD_CSUM, 0 }, { HAUL_OFFLOAD_CSUM | HAUL_OFFLOAD_TSO, 0 } },
		{ { HAUL_OFFLOAD_ALL, 0 }, { 0, 1 } },
		{ { 0, 1 }, { 0, 1 } },
	};
	struct bed *bed = *state;
	for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
		open_sides(bed, modes[i], 0);
		transfer(bed, AF_INET, STREAM_BYTES);
		transfer(bed, AF_INET6, STREAM_BYTES);
		bool cuts = (modes[i][0].offloads & HAUL_OFFLOAD_TSO) != 0;
		bool trusts = (modes[i][0].offloads & HAUL_OFFLOAD_CSUM) != 0;
		bool merges = trusts && (modes[i][1].offloads & HAUL_OFFLOAD_TSO) != 0;
		assert_int_equal(superframes_received(bed, 0) > 0, cuts);
		assert_int_equal(superframes_sent(bed, 1) > 0, merges);
		(void)close_lab(state);
	}
}

/* Batches too small for a superframe: the rest of it waits, nothing is lost or overtaken. */
static void test_tap__small_batches_lose_nothing(void **state)
{
	static const struct side sides[TAP_LAB_SIDES] = { { HAUL_OFFLOAD_ALL, 0 },
							  { HAUL_OFFLOAD_ALL, 0 } };
	struct bed *bed = *state;
	for (uint32_t capacity = 1; capacity < 100; capacity = capacity * 3 + 1) {
		open_sides(bed, sides, 0);
		bed->frames.capacity = capacity;
		transfer(bed, AF_INET, STREAM_BYTES / 4);
		bed->frames.capacity = CAPACITY;
		(void)close_lab(state);
	}
}

/* A superframe read from a TAP fits one UDP_SEGMENT send, its overlay headers included. */
static void test_tap__superframes_fit_a_datagram_train(void **state)
{
	static const struct side sides[TAP_LAB_SIDES] = { { HAUL_OFFLOAD_ALL, 0 },
							  { HAUL_OFFLOAD_ALL, 0 } };
	static const uint32_t mtus[] = { 1400, 1514, 9014 };
	struct bed *bed = *state;
	for (size_t i = 0; i < sizeof mtus / sizeof mtus[0]; i++) {
		open_sides(bed, sides, mtus[i]);
		transfer(bed, AF_INET, STREAM_BYTES);
		uint64_t frames = haul_link_rx_stats(bed->lab.link[0])->extra[LINK_RX_GRO_FRAMES];
		uint64_t most = 65507 / (mtus[i] + LINK_WIRE_BYTES);
		assert_true(frames <= superframes_received(bed, 0) * most);
		assert_true(frames > superframes_received(bed, 0) * most / 2);
		(void)close_lab(state);
	}
}

static void send_train(int fd, const union address *to, const uint8_t *bytes, uint32_t count,
		       uint32_t payload)
{
	int segment = (int)payload;
	assert_int_equal(setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment), 0);
	assert_int_equal(sendto(fd, bytes, (size_t)count * payload, 0, &to->any, sizeof *to),
			 count * payload);
}

/* Carry until a datagram is there: the first ones wait until the address is resolved. */
static ssize_t receive_one(struct bed *bed, int fd)
{
	const int fds[2] = { fd, fd };
	int64_t end_ns = os_linux()->now_ns(os_linux()) + STUCK_NS;
	for (;;) {
		carry_all(bed);
		ssize_t got = recv(fd, bed->got, CHUNK_BYTES, 0);
		if (got >= 0)
			return got;
		assert_int_equal(errno, EAGAIN);
		assert_true(os_linux()->now_ns(os_linux()) < end_ns);
		wait_any(bed, fds);
	}
}

/* Senders that use UDP_SEGMENT: with USO the train is read and written as one packet, without it as
 * datagrams; the receiver cannot tell. */
static void test_tap__segmented_udp_arrives_with_any_offloads(void **state)
{
	static const struct side modes[][TAP_LAB_SIDES] = {
		{ { HAUL_OFFLOAD_ALL, 0 }, { HAUL_OFFLOAD_ALL, 0 } },
		{ { HAUL_OFFLOAD_ALL, 0 }, { 0, 0 } },
		{ { HAUL_OFFLOAD_CSUM | HAUL_OFFLOAD_TSO, 0 }, { HAUL_OFFLOAD_ALL, 0 } },
		{ { 0, 1 }, { 0, 1 } },
	};
	static const int families[] = { AF_INET, AF_INET6 };
	struct bed *bed = *state;
	for (size_t mode = 0; mode < sizeof modes / sizeof modes[0] * 2; mode++) {
		const struct side *sides = modes[mode / 2];
		int family = families[mode % 2];
		union address to = side_address(1, family);
		open_sides(bed, sides, 0);
		int tx = bound_socket(bed, 0, family, SOCK_DGRAM);
		int rx = bound_socket(bed, 1, family, SOCK_DGRAM);
		for (uint32_t payload = 1399; payload > 20; payload = payload * 2 / 3) {
			send_train(tx, &to, bed->stream, DATAGRAMS, payload);
			for (uint32_t i = 0; i < DATAGRAMS; i++) {
				assert_int_equal(receive_one(bed, rx), payload);
				assert_memory_equal(bed->got, bed->stream + i * payload, payload);
			}
			assert_int_equal(recv(rx, bed->got, CHUNK_BYTES, 0), -1);
		}
		bool cuts = (haul_link_offloads(bed->lab.link[0]) & HAUL_OFFLOAD_USO) != 0;
		assert_int_equal(superframes_received(bed, 0) > 0, cuts);
		(void)close(tx);
		(void)close(rx);
		(void)close_lab(state);
	}
}

#define TEST(function) cmocka_unit_test_teardown(function, close_lab)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_tap__tcp_arrives_with_any_offloads),
		TEST(test_tap__small_batches_lose_nothing),
		TEST(test_tap__superframes_fit_a_datagram_train),
		TEST(test_tap__segmented_udp_arrives_with_any_offloads),
	};
	return cmocka_run_group_tests(tests, bed_open, bed_close);
}
