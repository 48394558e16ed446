/* Needs root: what a raw link says when queues are full, interfaces vanish or it must not open. */
#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/testlib.h"
#include "link/link.h"
#include "link/veth_lab.h"
#include "os/netns.h"

enum { ROWS = 256, BYTES = 100, MTU = 1500, ETHERNET = 14 };

struct lab {
	struct veth_lab veth;
	struct haul_send_batch out;
	struct haul_frames in;
	uint8_t bytes[4096];
	uint32_t next; /* number in the next frame sent */
};

static struct lab lab;

static int open_lab(void **state)
{
	(void)state;
	memset(&lab, 0, sizeof lab);
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

/* Options of a raw link on ifname. */
static struct haul_link_options on(const char *ifname)
{
	struct haul_link_options options;
	haul_link_options_init(&options, HAUL_LINK_RAW);
	(void)snprintf(options.name, sizeof options.name, "radio");
	(void)snprintf(options.ifname, sizeof options.ifname, "%s", ifname);
	return options;
}

/* Send count frames that carry their number; returns how many were sent. */
static int send_numbered(struct haul_link *link, uint32_t count, uint32_t peer)
{
	static uint8_t frames[ROWS][BYTES];
	haul_send_batch_clear(&lab.out);
	for (uint32_t i = 0; i < count; i++) {
		struct haul_frame row = { .data = frames[i], .len = BYTES, .peer = peer };
		be32_store(frames[i], lab.next + i);
		assert_int_equal(haul_send_batch_push(&lab.out, &row), 0);
	}
	lab.next += count;
	return haul_link_tx(link, &lab.out);
}

static void expect_status(int32_t status, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(lab.out.frames.status[i], status);
}

/* A TAP whose reader sleeps takes what its queue holds; the rest is told frame by frame, and what
 * was told as sent is there to be read: nothing is dropped in silence (defect 6). */
static void test_raw_tx__reports_a_full_queue(void **state)
{
	enum { ROUNDS = 20 };
	struct haul_link_options options = on("tap0");
	struct haul_link *link;
	uint8_t frame[2048];
	uint32_t sent = 0, refused = 0, expected = 0;
	static uint32_t told[ROUNDS * ROWS];
	int tap = veth_lab_tap(&lab.veth, 0, "tap0");
	(void)state;
	assert_int_equal(veth_lab_link(&lab.veth, 0, &options, &link, NULL), 0);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t first = lab.next;
		(void)send_numbered(link, ROWS, 0);
		for (uint32_t i = 0; i < ROWS; i++) {
			int32_t status = lab.out.frames.status[i];
			assert_true(status == 0 || status == -ENOBUFS || status == -EAGAIN);
			assert_false(refused > 0 && status == 0);
			refused += status != 0;
			if (status == 0)
				told[sent++] = first + i;
		}
	}
	assert_true(sent > 0);
	assert_true(refused > 0);
	assert_int_equal(haul_link_tx_stats(link)->ops, sent);
	assert_int_equal(haul_link_tx_stats(link)->extra[LINK_TX_EAGAIN], refused);
	for (ssize_t n; (n = read(tap, frame, sizeof frame)) > 0;) {
		if (be16_load(frame + 12) != VETH_LAB_ETHERTYPE)
			continue; /* the kernel's own, as router solicitations */
		assert_int_equal(n, ETHERNET + BYTES);
		assert_int_equal(be32_load(frame + ETHERNET), told[expected]);
		expected++;
	}
	assert_int_equal(expected, sent);
	haul_link_close(link);
	close(tap);
}

/* What the kernel drops because we do not read fast enough is counted: received and dropped add up
 * to what was sent. */
static void test_raw_rx__counts_what_the_kernel_dropped(void **state)
{
	enum { FLOOD = 20 };
	struct haul_link *tx = veth_lab_raw(&lab.veth, 0, 0), *rx;
	struct haul_link_options options = on("radio0");
	uint64_t got = 0, dropped = 0;
	uint32_t last = 0;
	(void)state;
	options.sockbuf_bytes = 64 << 10;
	assert_int_equal(veth_lab_link(&lab.veth, 1, &options, &rx, NULL), 0);
	lab.next = 1;
	for (uint32_t round = 0; round < 2 * FLOOD; round++) {
		/* First a flood, then no more than fits, until the drops have been looked up. */
		assert_int_equal(send_numbered(tx, round < FLOOD ? ROWS : 16, 1),
				 round < FLOOD ? ROWS : 16);
		for (int n = round < FLOOD ? 0 : 1; n > 0; got += (uint64_t)n) {
			n = haul_link_rx(rx, &lab.in);
			assert_true(n >= 0);
			for (int i = 0; i < n; i++) {
				assert_true(be32_load(lab.in.data[i]) > last);
				last = be32_load(lab.in.data[i]);
			}
		}
	}
	dropped = haul_link_rx_stats(rx)->extra[LINK_RX_QUEUE_DROPS];
	assert_true(dropped > 0);
	assert_int_equal(got + dropped, lab.next - 1);
	assert_int_equal(got, haul_link_rx_stats(rx)->ops);
	haul_link_close(rx);
	haul_link_close(tx);
}

/* An MTU raised behind our back: what no longer fits a slot is dropped with a count, never
 * delivered short; the rest goes on. */
static void test_raw_rx__drops_what_was_cut_short(void **state)
{
	const char *const argv[] = { "ip", "link", "set", "radio0", "mtu", "4000", NULL };
	struct haul_link *rx = veth_lab_raw(&lab.veth, 1, 0), *tx;
	struct haul_frame row = { .data = lab.bytes, .peer = 0 };
	static const uint32_t sizes[] = { 100, MTU + 1, MTU, 3000, 4000, 64 };
	(void)state;
	veth_lab_ip(&lab.veth, 0, argv);
	veth_lab_ip(&lab.veth, 1, argv);
	tx = veth_lab_raw(&lab.veth, 0, 0);
	assert_int_equal(haul_link_mtu(rx), MTU);
	assert_int_equal(haul_link_mtu(tx), 4000);
	for (uint32_t i = 0; i < 6; i++) {
		row.len = sizes[i];
		assert_int_equal(haul_send_batch_push(&lab.out, &row), 0);
	}
	assert_int_equal(haul_link_tx(tx, &lab.out), 6);
	assert_int_equal(haul_link_rx(rx, &lab.in), 3);
	assert_int_equal(lab.in.len[0], 100);
	assert_int_equal(lab.in.len[1], MTU);
	assert_int_equal(lab.in.len[2], 64);
	assert_int_equal(haul_link_rx_stats(rx)->extra[LINK_RX_TRUNCATED], 3);
	haul_link_close(rx);
	haul_link_close(tx);
}

/* An interface that goes down is told once by rx and by every frame's status; when it is up again
 * both go on without a new link. */
static void test_raw__survives_a_link_that_is_down(void **state)
{
	const char *const down[] = { "ip", "link", "set", "radio0", "down", NULL };
	const char *const up[] = { "ip", "link", "set", "radio0", "up", NULL };
	struct haul_link *tx = veth_lab_raw(&lab.veth, 0, 0);
	struct haul_link *rx = veth_lab_raw(&lab.veth, 1, 0);
	(void)state;
	for (uint32_t round = 0; round < 3; round++) {
		veth_lab_ip(&lab.veth, 1, down);
		assert_int_equal(haul_link_rx(rx, &lab.in), -ENETDOWN);
		assert_int_equal(haul_link_rx(rx, &lab.in), 0);
		assert_int_equal(send_numbered(rx, 3, 1), 0);
		expect_status(-ENETDOWN, 3);
		veth_lab_ip(&lab.veth, 1, up);
		assert_int_equal(send_numbered(tx, 5, 1), 5);
		assert_int_equal(haul_link_rx(rx, &lab.in), 5);
		assert_int_equal(send_numbered(rx, 5, 1), 5);
	}
	haul_link_close(rx);
	haul_link_close(tx);
}

/* An interface that is gone stays gone, also when a send came first and took the kernel's error. */
static void interface_goes(uint32_t burst_max, bool send_first)
{
	const char *const argv[] = { "ip", "link", "del", "radio0", NULL };
	struct haul_link *link = veth_lab_raw(&lab.veth, 1, burst_max);
	struct pollfd fd = { .fd = haul_link_fd(link), .events = POLLIN };
	veth_lab_ip(&lab.veth, 1, argv);
	assert_int_equal(poll(&fd, 1, 10000), 1);
	for (uint32_t round = 0; round < 3; round++) {
		if (send_first || round > 0)
			assert_int_equal(send_numbered(link, 3, 1), 0);
		assert_int_equal(haul_link_rx(link, &lab.in), -ENODEV);
	}
	expect_status(-ENODEV, 3);
	haul_link_close(link);
}

/* The next rx finds out, with many frames a call. */
static void test_raw__tells_that_the_interface_is_gone(void **state)
{
	(void)state;
	interface_goes(0, false);
}

/* The next tx finds out, and rx learns it all the same. */
static void test_raw__tells_that_it_is_gone_after_a_send(void **state)
{
	(void)state;
	interface_goes(1, true);
}

static void expect_refused(struct haul_link_options options, int code, const char *text)
{
	struct haul_link *link = NULL;
	struct haul_err err = { 0 };
	assert_int_equal(veth_lab_link(&lab.veth, 0, &options, &link, &err), code);
	assert_null(link);
	assert_int_equal(err.code, code);
	assert_non_null(strstr(err.text, text));
}

/* Each refusal names what was wanted and of which interface. */
static void test_raw_open__refuses_with_a_reason(void **state)
{
	struct haul_link_options options = on("nosuch0");
	(void)state;
	expect_refused(options, -ENODEV, "nosuch0");
	expect_refused(on(""), -ENODEV, "interface");
	expect_refused(on("lo"), HAUL_ECONFIG, "lo is no Ethernet interface");
	options = on("radio0");
	options.mtu_bytes = MTU + 1;
	expect_refused(options, HAUL_ECONFIG,
		       "mtu_bytes 1501 is over the mtu 1500 of interface radio0");
	options = on("radio0");
	options.burst_max = LINK_BURST_MAX + 1;
	expect_refused(options, -EINVAL, "burst_max 1025");
}

/* A name that the table of statistics has already is refused, and what was entered is taken out. */
static void test_raw_open__refuses_a_name_taken(void **state)
{
	struct haul_link_options options = on("radio0");
	struct haul_link *link;
	(void)state;
	assert_int_equal(haul_stats_table_open(&options.stats), 0);
	assert_int_equal(veth_lab_link(&lab.veth, 0, &options, &link, NULL), 0);
	expect_refused(options, -EEXIST, "radio.rx");
	haul_link_close(link);
	assert_int_equal(veth_lab_link(&lab.veth, 0, &options, &link, NULL), 0);
	haul_link_close(link);
	haul_stats_table_close(options.stats);
}

/* On a thread that has given up its capabilities; it ends with this call. */
static int open_without_privilege(void *arg)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };
	struct haul_link_options options = on("radio0");
	struct haul_link *link;
	assert_int_equal(syscall(SYS_capset, &header, data), 0);
	return haul_link_open(&options, &link, arg);
}

/* Without CAP_NET_RAW the reason is said. */
static void test_raw_open__needs_a_capability(void **state)
{
	struct haul_err err = { 0 };
	(void)state;
	assert_int_equal(netns_call(lab.veth.netns_fd[0], open_without_privilege, &err), -EPERM);
	assert_non_null(strstr(err.text, "CAP_NET_RAW"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_lab, close_lab)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_raw_tx__reports_a_full_queue),
		TEST(test_raw_rx__counts_what_the_kernel_dropped),
		TEST(test_raw_rx__drops_what_was_cut_short),
		TEST(test_raw__survives_a_link_that_is_down),
		TEST(test_raw__tells_that_the_interface_is_gone),
		TEST(test_raw__tells_that_it_is_gone_after_a_send),
		TEST(test_raw_open__refuses_with_a_reason),
		TEST(test_raw_open__refuses_a_name_taken),
		TEST(test_raw_open__needs_a_capability),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
