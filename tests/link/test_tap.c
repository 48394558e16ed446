/* link/test_tap.c — single frames through a TAP link, in both directions, and what can go wrong.
 * Frames go kernel -> TAP 0 -> rows -> TAP 1 -> kernel, and the two kernels are asked what they
 * sent and got. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <haul/link.h>
#include "base/bytes.h"
#include "lib/testlib.h"
#include "link/link.h"
#include "link/segment.h"
#include "link/superframe.h"
#include "link/tap_lab.h"
#include "os/netns.h"

enum { FRAMES = 300, FRAME_ROOM = 70000, SMALL_DATAGRAMS = FRAMES };

struct bed {
	struct prng prng;
	struct tap_lab lab;
	int packet[TAP_LAB_SIDES];
	struct haul_send_batch batch;
	struct haul_frames frames;
	struct superframe sf;
	uint8_t whole[FRAME_ROOM];
	uint8_t got[FRAME_ROOM];
	uint8_t sent[FRAMES][2048];
	uint8_t arena[2 * FRAME_ROOM];
};

/* The C library's writev, but that superframes are refused as long as `refusing` is set: this
 * kernel takes them all. Frames that are none pass. */
static bool refusing;

ssize_t writev(int fd, const struct iovec *iov, int iov_count)
{
	if (refusing && iov[0].iov_len == VNET_BYTES) {
		struct virtio_net_hdr vnet;
		memcpy(&vnet, iov[0].iov_base, sizeof vnet);
		if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
			errno = EINVAL;
			return -1;
		}
	}
	return syscall(SYS_writev, fd, iov, iov_count);
}

static int bed_open(void **state)
{
	static struct bed bed;
	test_prng(&bed.prng);
	*state = &bed;
	assert_int_equal(haul_frames_init(&bed.frames, FRAMES), 0);
	return haul_send_batch_init(&bed.batch, FRAMES);
}

static int bed_close(void **state)
{
	struct bed *bed = *state;
	haul_frames_done(&bed->frames);
	haul_send_batch_done(&bed->batch);
	return 0;
}

/* Two TAPs that carry nothing but what the test sends: the kernel's own IPv6 chatter is off. */
static void open_lab(struct bed *bed, uint32_t offloads, uint32_t burst_max)
{
	struct haul_link_options options[TAP_LAB_SIDES];
	for (int side = 0; side < TAP_LAB_SIDES; side++) {
		options[side] = tap_lab_options();
		options[side].mtu_bytes = TAP_LAB_MTU_BYTES;
		options[side].offloads = offloads;
		options[side].burst_max = burst_max;
	}
	tap_lab_open(&bed->lab, options);
	for (int side = 0; side < TAP_LAB_SIDES; side++) {
		assert_int_equal(netns_sysctl(bed->lab.netns_fd[side],
					      "ipv6/conf/tap0/disable_ipv6", "1", NULL),
				 0);
		while (haul_link_rx(bed->lab.link[side], &bed->frames) > 0)
			;
		bed->packet[side] = tap_lab_packet_socket(&bed->lab, side);
	}
	haul_send_batch_clear(&bed->batch);
}

static int close_lab(void **state)
{
	struct bed *bed = *state;
	refusing = false;
	for (int side = 0; side < TAP_LAB_SIDES; side++) {
		if (bed->packet[side] > 0)
			(void)close(bed->packet[side]);
		bed->packet[side] = 0;
	}
	tap_lab_close(&bed->lab);
	return 0;
}

static uint64_t tx_count(const struct bed *bed, int side, enum link_tx_counter counter)
{
	return haul_link_tx_stats(bed->lab.link[side])->extra[counter];
}

static uint64_t rx_count(const struct bed *bed, int side, enum link_rx_counter counter)
{
	return haul_link_rx_stats(bed->lab.link[side])->extra[counter];
}

/* Hand everything that link 0 received to link 1; returns the frames. */
static uint32_t carry_over(struct bed *bed)
{
	uint32_t frames = 0;
	while (haul_link_rx(bed->lab.link[0], &bed->frames) > 0) {
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
			assert_int_equal(haul_send_batch_push(&bed->batch, &row), 0);
		}
		assert_int_equal(haul_link_tx(bed->lab.link[1], &bed->batch), bed->frames.count);
		frames += bed->frames.count;
	}
	return frames;
}

/* A frame with the given type field (or fields) behind two addresses that are nobody's. */
static void make_frame(struct bed *bed, uint8_t *out, const char *types, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		out[i] = (uint8_t)prng_next(&bed->prng);
	out[0] = 0x02;
	out[6] = 0x02;
	for (uint32_t at = 12; *types != '\0'; types += 2, at++)
		out[at] = (uint8_t)((types[0] - (types[0] > '9' ? 'a' - 10 : '0')) << 4 |
				    (types[1] - (types[1] > '9' ? 'a' - 10 : '0')));
}

/* VLAN tags, jumbo size, fragments, IPv6, broadcast, multicast, runts, unknown types: unchanged,
 * with offloads, without, and one a call. */
static void test_tap__carries_every_kind_of_frame_unchanged(void **state)
{
	static const struct {
		const char *types; /* bytes from offset 12 on, in hexadecimal */
		uint32_t bytes;
		uint8_t first; /* of the destination */
	} kinds[] = {
		{ "8100012a0800450005aa", 1460, 0x02 },   /* VLAN-tagged */
		{ "88a80064810000c80800", 1400, 0x02 },   /* QinQ */
		{ "0800450023280001", 9014, 0x02 },       /* jumbo */
		{ "8100000086dd", 9018, 0x02 },           /* jumbo and tagged */
		{ "08004500003c000120004011", 74, 0x02 }, /* first fragment */
		{ "08004500003c000100b94006", 74, 0x02 }, /* later fragment */
		{ "86dd6000000000143aff", 74, 0x02 },     /* IPv6 */
		{ "0806000108000604", 42, 0xff },         /* broadcast */
		{ "86dd6000000000143a01", 90, 0x33 },     /* multicast */
		{ "0800", 14, 0x02 },                     /* no payload at all */
		{ "88b5", 15, 0x02 },                     /* runt */
		{ "88cc", 59, 0x01 }, /* one byte below the smallest on a cable */
		{ "002e", 60, 0x02 }, /* 802.3 length */
	};
	static const struct {
		uint32_t offloads, burst_max;
	} modes[] = { { HAUL_OFFLOAD_ALL, 0 }, { 0, 0 }, { HAUL_OFFLOAD_ALL, 1 } };
	struct bed *bed = *state;
	for (size_t m = 0; m < sizeof modes / sizeof modes[0]; m++) {
		open_lab(bed, modes[m].offloads, modes[m].burst_max);
		for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
			uint32_t bytes = kinds[k].bytes;
			make_frame(bed, bed->whole, kinds[k].types, bytes);
			bed->whole[0] = kinds[k].first;
			assert_int_equal(write(bed->packet[0], bed->whole, bytes), bytes);
			assert_int_equal(carry_over(bed), 1);
			assert_int_equal(tap_lab_read(bed->packet[1], bed->got, FRAME_ROOM), bytes);
			assert_memory_equal(bed->got, bed->whole, bytes);
			assert_int_equal((bed->frames.flags[0] & HAUL_FRAME_BROADCAST) != 0,
					 bed->whole[0] & 1);
		}
		assert_int_equal(tap_lab_read(bed->packet[1], bed->got, FRAME_ROOM), -EAGAIN);
		(void)close_lab(state);
	}
}

static void push(struct bed *bed, uint8_t *data, uint32_t len)
{
	struct haul_frame row = { .data = data, .len = len };
	assert_int_equal(haul_send_batch_push(&bed->batch, &row), 0);
}

/* The original's worst defect: many frames handed over at once became one. */
static void test_tap__burst_of_frames_is_that_many_frames(void **state)
{
	struct bed *bed = *state;
	open_lab(bed, HAUL_OFFLOAD_ALL, 0);
	for (uint32_t i = 0; i < FRAMES; i++) {
		make_frame(bed, bed->sent[i], "88b5", 60 + i);
		push(bed, bed->sent[i], 60 + i);
	}
	assert_int_equal(haul_link_tx(bed->lab.link[1], &bed->batch), FRAMES);
	for (uint32_t i = 0; i < FRAMES; i++) {
		assert_int_equal(tap_lab_read(bed->packet[1], bed->got, FRAME_ROOM), 60 + i);
		assert_memory_equal(bed->got, bed->sent[i], 60 + i);
	}
	assert_int_equal(tap_lab_read(bed->packet[1], bed->got, FRAME_ROOM), -EAGAIN);

	for (uint32_t i = 0; i < FRAMES; i++)
		assert_int_equal(write(bed->packet[0], bed->sent[i], 60 + i), 60 + i);
	for (uint32_t i = 0; i < FRAMES; i += bed->frames.count) {
		assert_true(haul_link_rx(bed->lab.link[0], &bed->frames) > 0);
		for (uint32_t k = 0; k < bed->frames.count; k++) {
			assert_int_equal(bed->frames.len[k], 60 + i + k);
			assert_memory_equal(bed->frames.data[k], bed->sent[i + k], 60 + i + k);
			memset(bed->frames.data[k] - HAUL_FRAME_HEADROOM_BYTES, 0xee,
			       HAUL_FRAME_HEADROOM_BYTES);
		}
	}
}

/* Frames that come one at a time are handed on without looking for a next one first, as the calls
 * made show; a burst is then drained as ever, in order. */
static void test_tap__hands_on_a_lone_frame_at_once(void **state)
{
	struct bed *bed = *state;
	open_lab(bed, HAUL_OFFLOAD_ALL, 0);
	uint64_t calls = haul_link_rx_stats(bed->lab.link[0])->syscalls;
	for (uint32_t i = 0; i < 90; i++) {
		make_frame(bed, bed->sent[0], "88b5", 60);
		assert_int_equal(write(bed->packet[0], bed->sent[0], 60), 60);
		assert_int_equal(haul_link_rx(bed->lab.link[0], &bed->frames), 1);
		assert_memory_equal(bed->frames.data[0], bed->sent[0], 60);
	}
	calls = haul_link_rx_stats(bed->lab.link[0])->syscalls - calls;
	assert_in_range(calls, 90, 90 + 90 / 9 + 1);
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(write(bed->packet[0], bed->sent[0], 60 + i), 60 + i);
	uint32_t bursts = 0;
	for (uint32_t i = 0; i < 40; i += bed->frames.count, bursts++) {
		assert_true(haul_link_rx(bed->lab.link[0], &bed->frames) > 0);
		for (uint32_t k = 0; k < bed->frames.count; k++)
			assert_int_equal(bed->frames.len[k], 60 + i + k);
	}
	assert_in_range(bursts, 1, 9);
}

/* What the kernel cannot take fails alone, wherever it stands. */
static void test_tap__bad_frames_fail_alone(void **state)
{
	struct bed *bed = *state;
	for (uint32_t offloads = 0; offloads <= HAUL_OFFLOAD_ALL; offloads += HAUL_OFFLOAD_ALL) {
		open_lab(bed, offloads, 0);
		for (uint32_t at = 0; at < 3; at++) {
			haul_send_batch_clear(&bed->batch);
			for (uint32_t i = 0; i < 3; i++) {
				make_frame(bed, bed->sent[i], "88b5", 100);
				push(bed, bed->sent[i], 100);
			}
			bed->batch.frames.len[at] = 13; /* shorter than its header */
			assert_int_equal(haul_link_tx(bed->lab.link[1], &bed->batch), 2);
			assert_int_equal(bed->batch.frames.status[at], -EINVAL);
			bed->batch.frames.len[at] = 100;
			bed->batch.frames.flags[at] = HAUL_FRAME_CSUM_PARTIAL;
			bed->batch.frames.csum_start[at] = 99; /* field beyond the end */
			assert_int_equal(haul_link_tx(bed->lab.link[1], &bed->batch), 2);
			assert_int_equal(bed->batch.frames.status[at], -EINVAL);
		}
		assert_int_equal(tx_count(bed, 1, LINK_TX_FAILED), 6);
		(void)close_lab(state);
	}
}

/* Cut bed->sf into the rows of the send batch; returns how many. */
static uint32_t push_rows(struct bed *bed)
{
	struct segment_arena arena = { .base = bed->arena, .bytes = sizeof bed->arena };
	struct segment segment;
	uint32_t whole = superframe_whole(&bed->sf, bed->whole);
	struct virtio_net_hdr vnet = superframe_vnet(&bed->sf);
	assert_int_equal(segment_open(&segment, bed->whole, whole, &vnet), 0);
	haul_frames_clear(&bed->frames);
	haul_send_batch_clear(&bed->batch);
	(void)segment_fill(&segment, &arena, &bed->frames);
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
		assert_int_equal(haul_send_batch_push(&bed->batch, &row), 0);
	}
	return bed->frames.count;
}

/* Push the rows of a random superframe that the kernel of side 1 could receive; returns
 * segments. */
static uint32_t push_superframe(struct bed *bed)
{
	do
		superframe_random(&bed->sf, &bed->prng);
	while (bed->sf.segment_bytes > 1400 || superframe_segments(&bed->sf) < 3 ||
	       superframe_segments(&bed->sf) > 100);
	bed->sf.mac[0] = 0x02;
	return push_rows(bed);
}

/* The rows of a long train of small datagrams. */
static void push_small_datagrams(struct bed *bed)
{
	do
		superframe_random(&bed->sf, &bed->prng);
	while (bed->sf.tcp);
	bed->sf.mac[0] = 0x02;
	bed->sf.segment_bytes = 64;
	bed->sf.payload_bytes = 64 * SMALL_DATAGRAMS;
	push_rows(bed);
}

/* Datagrams of 64 bytes that the kernel of side 1 got, alone or in superframes. */
static uint32_t read_datagrams(struct bed *bed)
{
	uint32_t header = superframe_header_bytes(&bed->sf), datagrams = 0;
	for (;;) {
		int got = tap_lab_read(bed->packet[1], bed->got, FRAME_ROOM);
		if (got < 0)
			return datagrams;
		datagrams += ((uint32_t)got - header) / 64;
	}
}

/* The kernel of side 1 got the segments of the superframe, one by one and complete. */
static void expect_segments(struct bed *bed, uint32_t segments, bool complete)
{
	uint32_t l4 = superframe_l4(&bed->sf), field = l4 + (bed->sf.tcp ? 16 : 6);
	for (uint32_t i = 0; i < segments; i++) {
		uint32_t bytes = superframe_segment(&bed->sf, i, bed->sent[0]);
		assert_int_equal(tap_lab_read(bed->packet[1], bed->got, FRAME_ROOM), bytes);
		if (!complete)
			memcpy(bed->got + field, bed->sent[0] + field, 2);
		assert_memory_equal(bed->got, bed->sent[0], bytes);
	}
	assert_int_equal(tap_lab_read(bed->packet[1], bed->got, FRAME_ROOM), -EAGAIN);
}

/* Consecutive segments of a flow reach the kernel as one superframe. */
static void test_tap__merges_segments_of_a_flow(void **state)
{
	struct bed *bed = *state;
	open_lab(bed, HAUL_OFFLOAD_ALL, 0);
	for (uint32_t round = 0; round < 200; round++) {
		uint32_t segments = push_superframe(bed);
		assert_int_equal(haul_link_tx(bed->lab.link[1], &bed->batch), segments);
		assert_int_equal(tx_count(bed, 1, LINK_TX_GSO_RUNS), round + 1);
		int got = tap_lab_read(bed->packet[1], bed->got, FRAME_ROOM);
		assert_int_equal(got, superframe_whole(&bed->sf, bed->whole));
		assert_memory_equal(bed->got, bed->whole, (size_t)got);
	}
}

/* A kernel takes no more than 128 datagrams (64 before Linux 6.9) in one superframe: longer runs
 * are cut to that, and merging goes on. */
static void test_tap__cuts_long_runs_to_what_the_kernel_takes(void **state)
{
	struct bed *bed = *state;
	open_lab(bed, HAUL_OFFLOAD_ALL, 0);
	for (uint32_t round = 0; round < 10; round++) {
		push_small_datagrams(bed);
		assert_int_equal(haul_link_tx(bed->lab.link[1], &bed->batch), SMALL_DATAGRAMS);
		assert_int_equal(read_datagrams(bed), SMALL_DATAGRAMS);
	}
	assert_true(tx_count(bed, 1, LINK_TX_GSO_REFUSED) <= 1);
	assert_true(haul_link_offloads(bed->lab.link[1]) & HAUL_OFFLOAD_USO);
	assert_true(tx_count(bed, 1, LINK_TX_GSO_RUNS) >= 9 * SMALL_DATAGRAMS / 128);
}

/* A superframe refused at run time leaves at once frame by frame; that kind is not merged again. */
static void test_tap__refused_superframe_is_resent_and_remembered(void **state)
{
	struct bed *bed = *state;
	open_lab(bed, HAUL_OFFLOAD_ALL, 0);
	refusing = true;
	for (uint32_t round = 0; round < 50; round++) {
		uint32_t segments = push_superframe(bed);
		assert_int_equal(haul_link_tx(bed->lab.link[1], &bed->batch), segments);
		expect_segments(bed, segments, false);
	}
	/* one TCP, one UDP, and one more UDP where the first was long */
	assert_in_range(tx_count(bed, 1, LINK_TX_GSO_REFUSED), 2, 3);
	assert_int_equal(tx_count(bed, 1, LINK_TX_GSO_RUNS), 0);
	assert_int_equal(haul_link_offloads(bed->lab.link[1]), HAUL_OFFLOAD_CSUM);
}

/* Without checksum offload nothing is merged and every frame leaves complete; what the caller
 * handed over is not written to, so that it may be sent once more elsewhere. */
static void test_tap__completes_checksums_without_offload(void **state)
{
	struct bed *bed = *state;
	for (uint32_t burst_max = 0; burst_max < 2; burst_max++) {
		open_lab(bed, burst_max == 1 ? HAUL_OFFLOAD_ALL : 0, burst_max);
		for (uint32_t round = 0; round < 50; round++) {
			uint32_t segments = push_superframe(bed);
			assert_int_equal(haul_link_tx(bed->lab.link[1], &bed->batch), segments);
			expect_segments(bed, segments, true);
			assert_int_equal(haul_link_tx(bed->lab.link[1], &bed->batch), segments);
			expect_segments(bed, segments, true);
		}
		assert_true(tx_count(bed, 1, LINK_TX_CSUM_COMPLETED) > 0);
		(void)close_lab(state);
	}
}

/* When the interface goes away, rx and tx say so instead of being silent. */
static void test_tap__says_when_the_interface_is_gone(void **state)
{
	static const char *const delete[] = { "ip", "link", "delete", "tap0", NULL };
	struct bed *bed = *state;
	int status;
	open_lab(bed, HAUL_OFFLOAD_ALL, 0);
	int pid = netns_spawn(bed->lab.netns_fd[0], delete, -1, NULL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(haul_link_rx(bed->lab.link[0], &bed->frames) < 0);
	make_frame(bed, bed->sent[0], "88b5", 100);
	push(bed, bed->sent[0], 100);
	assert_int_equal(haul_link_tx(bed->lab.link[0], &bed->batch), 0);
	assert_true(bed->batch.frames.status[0] < 0);
	assert_int_equal(rx_count(bed, 0, LINK_RX_MALFORMED), 0);
}

struct tun_job {
	short flags;
	int txqueuelen;
};

static int open_tun(void *arg)
{
	const struct tun_job *job = arg;
	struct ifreq request = { .ifr_flags = job->flags };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	memcpy(request.ifr_name, "tun7", 5);
	return ioctl(fd, TUNSETIFF, &request) < 0 ? -errno : fd;
}

/* A queue that somebody else made can be taken over, as far as it is of the right kind. */
static void test_tap__takes_over_a_queue(void **state)
{
	struct bed *bed = *state;
	struct haul_err err = { 0 };
	struct haul_link *link = NULL;
	struct haul_link_options options = tap_lab_options();
	open_lab(bed, HAUL_OFFLOAD_ALL, 0);
	struct tun_job good = { .flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	options.fd = netns_call(bed->lab.netns_fd[0], open_tun, &good);
	assert_true(options.fd >= 0);
	assert_int_equal(tap_lab_link(&bed->lab, 0, &options, &link, &err), 0);
	assert_int_equal(haul_link_offloads(link) & HAUL_OFFLOAD_TSO, HAUL_OFFLOAD_TSO);
	haul_link_close(link);
	struct tun_job routed = { .flags = IFF_TUN | IFF_NO_PI };
	options.fd = netns_call(bed->lab.netns_fd[0], open_tun, &routed);
	assert_int_equal(tap_lab_link(&bed->lab, 0, &options, &link, &err), -EINVAL);
	assert_non_null(strstr(err.text, "tun7"));
	assert_int_equal(close(options.fd), 0); /* still ours */
	options.fd = haul_link_fd(bed->lab.link[0]) + 1000;
	assert_int_equal(tap_lab_link(&bed->lab, 0, &options, &link, &err), -EBADF);
}

static int read_txqueuelen(void *arg)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	memcpy(request.ifr_name, arg, 5);
	int rc = ioctl(fd, SIOCGIFTXQLEN, &request);
	(void)close(fd);
	return rc < 0 ? -errno : request.ifr_qlen;
}

/* The default queue of 500 frames drops under load; ours is longer. What cannot be opened says why.
 */
static void test_tap__open_sets_up_the_interface(void **state)
{
	struct bed *bed = *state;
	struct haul_err err = { 0 };
	struct haul_link *link = NULL;
	struct haul_link_options options = tap_lab_options();
	char name[] = "tap0";
	open_lab(bed, HAUL_OFFLOAD_ALL, 0);
	assert_int_equal(netns_call(bed->lab.netns_fd[0], read_txqueuelen, name), 1000);
	assert_int_equal(haul_link_local(bed->lab.link[0]).kind, HAUL_ADDR_MAC);
	assert_int_equal(haul_link_mtu(bed->lab.link[0]), TAP_LAB_MTU_BYTES);
	assert_int_equal(haul_link_peer_find(bed->lab.link[0], &options.local), -ENOENT);
	assert_int_equal(tap_lab_link(&bed->lab, 0, &options, &link, &err), -EBUSY);
	assert_non_null(strstr(err.text, "tap0"));
	options.ifname[3] = '1';
	options.mtu_bytes = 14;
	assert_int_equal(tap_lab_link(&bed->lab, 0, &options, &link, &err), -EINVAL);
	assert_null(link);
}

#define TEST(function) cmocka_unit_test_teardown(function, close_lab)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_tap__carries_every_kind_of_frame_unchanged),
		TEST(test_tap__burst_of_frames_is_that_many_frames),
		TEST(test_tap__hands_on_a_lone_frame_at_once),
		TEST(test_tap__bad_frames_fail_alone),
		TEST(test_tap__merges_segments_of_a_flow),
		TEST(test_tap__cuts_long_runs_to_what_the_kernel_takes),
		TEST(test_tap__refused_superframe_is_resent_and_remembered),
		TEST(test_tap__completes_checksums_without_offload),
		TEST(test_tap__says_when_the_interface_is_gone),
		TEST(test_tap__takes_over_a_queue),
		TEST(test_tap__open_sets_up_the_interface),
	};
	return cmocka_run_group_tests(tests, bed_open, bed_close);
}
