/* link/test_udp_calls.c — what the UDP link asks of the kernel. The calls of the C library are
 * replaced by ones that look at their arguments and pass them on; what they look for are the ways
 * in which other programs have lost, glued or delayed datagrams. */
#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <haul/link.h>
#include "lib/testlib.h"
#include "link/link.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef SO_ZEROCOPY
#define SO_ZEROCOPY 60
#endif
#ifndef MSG_ZEROCOPY
#define MSG_ZEROCOPY 0x4000000
#endif

enum {
	FRAMES_MAX = 1024,
	FRAME_BYTES_MAX = 1472,
	ROUNDS = 300,
	BUFFER_BYTES_MIN = 4 << 20,
	TRAIN_BYTES_MAX = 65507
};

struct calls {
	uint32_t receives;
	uint32_t runs;  /* messages with a segment size */
	uint32_t alone; /* messages without */
	int rcvbuf, sndbuf, rcvbuf_force, sndbuf_force;
	bool refuse_force;
};
static struct calls calls;

int recvmmsg(int fd, struct mmsghdr *msg, unsigned int count, int flags, struct timespec *timeout)
{
	calls.receives++;
	/* the kernel looks at the time only after each datagram: a timeout can wait for ever */
	assert_null(timeout);
	assert_int_equal(flags & MSG_DONTWAIT, MSG_DONTWAIT);
	for (unsigned int i = 0; i < count; i++) {
		/* shortened by the kernel at each call; too short loses the size of the segments */
		assert_true(msg[i].msg_hdr.msg_controllen >= CMSG_SPACE(sizeof(int)));
		assert_int_equal(msg[i].msg_hdr.msg_iovlen, 1);
		assert_true(msg[i].msg_hdr.msg_iov[0].iov_len >= TRAIN_BYTES_MAX);
	}
	return (int)syscall(SYS_recvmmsg, fd, msg, count, flags, timeout);
}

static void look_at_sent(const struct msghdr *msg, int flags)
{
	size_t bytes = 0;
	uint16_t segment;
	assert_int_equal(flags & MSG_ZEROCOPY, 0);
	if (msg->msg_controllen == 0) {
		calls.alone++;
		return;
	}
	const struct cmsghdr *control = msg->msg_control;
	assert_int_equal(control->cmsg_level, SOL_UDP);
	assert_int_equal(control->cmsg_type, UDP_SEGMENT);
	assert_int_equal(control->cmsg_len, CMSG_LEN(sizeof segment));
	memcpy(&segment, CMSG_DATA(control), sizeof segment);
	for (size_t i = 0; i < msg->msg_iovlen; i++)
		bytes += msg->msg_iov[i].iov_len;
	/* some kernels refuse a segment size for one segment, or one over the payload */
	assert_true(segment > 0 && bytes > segment);
	assert_true(bytes <= TRAIN_BYTES_MAX && bytes <= (size_t)segment * 128);
	calls.runs++;
}

int sendmmsg(int fd, struct mmsghdr *msg, unsigned int count, int flags)
{
	for (unsigned int i = 0; i < count; i++)
		look_at_sent(&msg[i].msg_hdr, flags);
	return (int)syscall(SYS_sendmmsg, fd, msg, count, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	look_at_sent(msg, flags);
	return syscall(SYS_sendmsg, fd, msg, flags);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
	int number = 0;
	if (bytes == sizeof number)
		memcpy(&number, value, sizeof number);
	if (level == SOL_UDP)
		assert_int_equal(bytes, sizeof number); /* unlike the control message */
	if (level == SOL_SOCKET) {
		bool forced = name == SO_RCVBUFFORCE || name == SO_SNDBUFFORCE;
		/* one peer would be one socket; no checksum would defeat GRO on the way */
		assert_true(name != SO_REUSEPORT && name != SO_NO_CHECK && name != SO_ZEROCOPY);
		if (forced && calls.refuse_force) {
			errno = EPERM;
			return -1;
		}
		calls.rcvbuf = name == SO_RCVBUF ? number : calls.rcvbuf;
		calls.sndbuf = name == SO_SNDBUF ? number : calls.sndbuf;
		calls.rcvbuf_force = name == SO_RCVBUFFORCE ? number : calls.rcvbuf_force;
		calls.sndbuf_force = name == SO_SNDBUFFORCE ? number : calls.sndbuf_force;
	}
	return (int)syscall(SYS_setsockopt, fd, level, name, value, bytes);
}

struct bed {
	struct prng prng;
	struct haul_link *tx;
	struct haul_link *rx;
	struct haul_send_batch batch;
	struct haul_frames frames;
	uint8_t bytes[FRAMES_MAX][FRAME_BYTES_MAX];
	uint32_t len[FRAMES_MAX];
};

static struct haul_link *open_link(const char *name)
{
	struct haul_link *link = NULL;
	struct haul_link_options options;
	haul_link_options_init(&options, HAUL_LINK_UDP);
	options.name[0] = name[0];
	assert_int_equal(haul_addr_parse("127.0.0.1:0", &options.local, NULL), 0);
	assert_int_equal(haul_link_open(&options, &link, NULL), 0);
	return link;
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

static int links_open(void **state)
{
	struct bed *bed = *state;
	calls = (struct calls){ 0 };
	bed->tx = open_link("t");
	bed->rx = open_link("r");
	struct haul_addr to = haul_link_local(bed->rx);
	assert_int_equal(haul_link_peer_add(bed->tx, &to), 1);
	haul_send_batch_clear(&bed->batch);
	return 0;
}

static int links_close(void **state)
{
	struct bed *bed = *state;
	haul_link_close(bed->tx);
	haul_link_close(bed->rx);
	return 0;
}

/* A frame of its number, over and over. */
static void add(struct bed *bed, uint32_t bytes)
{
	uint32_t i = bed->batch.frames.count;
	assert_true(i < FRAMES_MAX && bytes <= FRAME_BYTES_MAX);
	memset(bed->bytes[i], (int)(i % 251), bytes);
	bed->len[i] = bytes;
	struct haul_frame row = { .data = bed->bytes[i], .len = bytes, .peer = 1 };
	assert_int_equal(haul_send_batch_push(&bed->batch, &row), 0);
}

static void send_all_of(struct bed *bed)
{
	uint32_t count = bed->batch.frames.count;
	assert_int_equal(haul_link_tx(bed->tx, &bed->batch), count);
	/* ours again: what is still on its way must not change with it */
	memset(bed->bytes, 0xfe, sizeof bed->bytes);
	haul_send_batch_clear(&bed->batch);
}

/* Frames 0 … count - 1, each whole and in order, then nothing. */
static void expect(struct bed *bed, uint32_t count)
{
	uint8_t want[FRAME_BYTES_MAX];
	uint32_t next = 0;
	while (haul_link_rx(bed->rx, &bed->frames) > 0) {
		for (uint32_t i = 0; i < bed->frames.count; i++, next++) {
			assert_true(next < count);
			assert_int_equal(bed->frames.len[i], bed->len[next]);
			memset(want, (int)(next % 251), bed->len[next]);
			assert_memory_equal(bed->frames.data[i], want, bed->len[next]);
		}
	}
	assert_int_equal(next, count);
}

/* A lone datagram is delivered by the call that finds it: nobody waits for a batch to fill, neither
 * by a timeout a datagram (defect 4) nor in the kernel. */
static void test_udp_rx__never_waits_for_more(void **state)
{
	struct bed *bed = *state;
	assert_int_equal(haul_link_rx(bed->rx, &bed->frames), 0);
	assert_int_equal(calls.receives, 1);
	add(bed, 100);
	send_all_of(bed);
	calls.receives = 0;
	assert_int_equal(haul_link_rx(bed->rx, &bed->frames), 1);
	assert_int_equal(calls.receives, 1);
}

/* Datagrams alone and trains in turn: the kernel shortens the room for the control message at the
 * former, and without that room the latter would arrive as one. */
static void test_udp_rx__keeps_room_for_the_segment_size(void **state)
{
	struct bed *bed = *state;
	for (uint32_t round = 0; round < 8; round++) {
		uint32_t count = round % 2 == 0 ? 1 : 40;
		for (uint32_t i = 0; i < count; i++)
			add(bed, 1000);
		send_all_of(bed);
		expect(bed, count);
	}
	assert_true(haul_link_rx_stats(bed->rx)->extra[LINK_RX_GRO_SLOTS] > 0);
	assert_int_equal(haul_link_rx_stats(bed->rx)->extra[LINK_RX_TRUNCATED], 0);
}

/* Sizes that change all the time: every burst leaves in the order it was handed over, as
 * consecutive runs in few calls. Neither are frames sorted to make longer runs (that broke TCP in
 * other programs), nor does one odd frame turn segmentation off for all. */
static void test_udp_tx__mixed_sizes_become_consecutive_runs(void **state)
{
	struct bed *bed = *state;
	for (uint32_t i = 0; i < 20 * 11; i++)
		add(bed, i % 11 == 10 ? 60 : 1400); /* the shorter one ends the run */
	send_all_of(bed);
	assert_int_equal(calls.runs, 20);
	assert_int_equal(calls.alone, 0);
	assert_int_equal(haul_link_tx_stats(bed->tx)->syscalls, 1);
	expect(bed, 20 * 11);
	calls.runs = 0;
	for (uint32_t i = 0; i < 100; i++)
		add(bed, i % 2 == 0 ? 60 : 1400);
	send_all_of(bed);
	assert_int_equal(calls.runs, 49); /* 1400 and 60 behind it; the first and last are alone */
	assert_int_equal(calls.alone, 2);
	assert_int_equal(haul_link_tx_stats(bed->tx)->syscalls, 2);
	expect(bed, 100);
}

/* Random bursts: a segment size is 16 bits, stands only with two segments and more, and never asks
 * for more than a kernel packet holds; bytes may be written over as soon as tx is back. */
static void test_udp_tx__asks_for_nothing_a_kernel_refuses(void **state)
{
	struct bed *bed = *state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t runs = 1 + prng_below(&bed->prng, 8);
		for (uint32_t run = 0; run < runs; run++) {
			uint32_t bytes = 1 + prng_below(&bed->prng, FRAME_BYTES_MAX);
			uint32_t most = prng_below(&bed->prng, 4) == 0 ? 128 : 4;
			for (uint32_t i = prng_below(&bed->prng, most); i < most; i++)
				add(bed, bytes);
		}
		uint32_t count = bed->batch.frames.count;
		send_all_of(bed);
		expect(bed, count);
	}
	assert_true(calls.runs > 0 && calls.alone > 0);
	assert_int_equal(haul_link_tx_stats(bed->tx)->extra[LINK_TX_GSO_REFUSED], 0);
}

/* Buffers of megabytes, past the limit of the system where we may and up to it where we may not. */
static void test_udp_open__asks_for_large_buffers(void **state)
{
	(void)state;
	assert_true(calls.rcvbuf_force >= BUFFER_BYTES_MIN);
	assert_true(calls.sndbuf_force >= BUFFER_BYTES_MIN);
	calls = (struct calls){ .refuse_force = true };
	haul_link_close(open_link("o"));
	assert_true(calls.rcvbuf >= BUFFER_BYTES_MIN);
	assert_true(calls.sndbuf >= BUFFER_BYTES_MIN);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, links_open, links_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_udp_rx__never_waits_for_more),
		TEST(test_udp_rx__keeps_room_for_the_segment_size),
		TEST(test_udp_tx__mixed_sizes_become_consecutive_runs),
		TEST(test_udp_tx__asks_for_nothing_a_kernel_refuses),
		TEST(test_udp_open__asks_for_large_buffers),
	};
	return cmocka_run_group_tests(tests, bed_open, bed_close);
}
