/* Needs root. Batched output equals one-at-a-time output, over Ethernet: raw to raw over veth, and
 * between a TAP and a raw link on its interface in both directions. Unicast and broadcast are the
 * two lanes. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "lib/testlib.h"
#include "link/prop.h"
#include "link/veth_lab.h"

enum { CASES = 300, ETHERNET_PAYLOAD_MIN = 46, MTU = 9000, TAP_MTU = 1500 };

static struct veth_lab lab;

static int open_lab(void **state)
{
	(void)state;
	veth_lab_open(&lab, MTU);
	return 0;
}

static int close_lab(void **state)
{
	(void)state;
	veth_lab_close(&lab);
	return 0;
}

static struct haul_link *open_on(int side, struct haul_link_options *options, const char *ifname)
{
	struct haul_link *link = NULL;
	struct haul_err err = { 0 };
	(void)snprintf(options->name, sizeof options->name, "%s", ifname);
	(void)snprintf(options->ifname, sizeof options->ifname, "%s", ifname);
	if (veth_lab_link(&lab, side, options, &link, &err) < 0)
		fail_msg("%s", err.text);
	return link;
}

static struct haul_link *open_raw(int side, const char *ifname, uint32_t burst_max,
				  uint16_t ethertype)
{
	struct haul_link_options options;
	haul_link_options_init(&options, HAUL_LINK_RAW);
	options.burst_max = burst_max;
	options.ethertype = ethertype;
	return open_on(side, &options, ifname);
}

static struct haul_link *open_tap(const char *ifname, uint32_t burst_max)
{
	struct haul_link_options options;
	haul_link_options_init(&options, HAUL_LINK_TAP);
	options.burst_max = burst_max;
	return open_on(0, &options, ifname);
}

/* The two lanes of one receiver: 0 to all, 1 to it alone. */
static void lanes_set(struct prop_path *path, struct haul_link *from, struct haul_link *to)
{
	static const struct haul_addr station = { .kind = HAUL_ADDR_MAC,
						  .bytes = { 2, 0, 0, 0, 9 } };
	struct haul_addr addr = haul_link_local(to);
	path->from = from;
	path->to[0] = to;
	path->to_count = 1;
	path->lanes = 2;
	path->peer[0] = 0;
	path->peer[1] = 1;
	memset(path->header[0], 0xff, 6);
	memcpy(path->header[1], addr.bytes, 6);
	for (uint32_t lane = 0; lane < 2; lane++) {
		memcpy(path->header[lane] + 6, station.bytes, 6);
		be16_store(path->header[lane] + 12, VETH_LAB_ETHERTYPE);
	}
}

static void run(struct prop_path *bursts, struct prop_path *singles, uint32_t bytes_max)
{
	struct prop_case prop = { .bursts = bursts,
				  .singles = singles,
				  .bytes_min = ETHERNET_PAYLOAD_MIN,
				  .bytes_max = bytes_max };
	struct prop_totals totals;
	prop_run(&prop, CASES, &totals);
	assert_int_equal(totals.refused, 0);
	haul_link_close(bursts->from);
	haul_link_close(bursts->to[0]);
	haul_link_close(singles->from);
	haul_link_close(singles->to[0]);
}

/* Sixty-four frames a call against one; two EtherTypes keep the two paths apart. */
static void raw_path(struct prop_path *path, uint32_t burst_max, uint16_t ethertype)
{
	struct haul_link *from = open_raw(0, "radio0", burst_max, ethertype);
	struct haul_link *to = open_raw(1, "radio0", burst_max, ethertype);
	struct haul_addr addr = haul_link_local(to);
	*path = (struct prop_path){ .burst_max = burst_max };
	lanes_set(path, from, to);
	assert_int_equal(haul_link_peer_add(from, &addr), 1);
}

/* Raw to raw over veth. */
static void test_raw__bursts_equal_single_frames(void **state)
{
	struct prop_path bursts, singles;
	(void)state;
	raw_path(&bursts, 64, VETH_LAB_ETHERTYPE);
	raw_path(&singles, 1, VETH_LAB_ETHERTYPE + 1);
	run(&bursts, &singles, MTU);
}

static void tap_path(struct prop_path *path, const char *ifname, uint32_t burst_max, bool to_tap)
{
	static const struct haul_addr station = { .kind = HAUL_ADDR_MAC,
						  .bytes = { 2, 0, 0, 0, 9 } };
	struct haul_link *tap = open_tap(ifname, burst_max);
	struct haul_link *raw = open_raw(0, ifname, burst_max, VETH_LAB_ETHERTYPE);
	*path = (struct prop_path){ .burst_max = burst_max,
				    .tx_header = !to_tap,
				    .rx_header = to_tap };
	lanes_set(path, to_tap ? raw : tap, to_tap ? tap : raw);
	assert_int_equal(haul_link_peer_add(raw, &station), 1);
}

/* What a TAP link writes, its interface receives. */
static void test_tap_tx__bursts_equal_single_frames(void **state)
{
	struct prop_path bursts, singles;
	(void)state;
	tap_path(&bursts, "tap0", 64, false);
	tap_path(&singles, "tap1", 1, false);
	run(&bursts, &singles, TAP_MTU);
}

/* What leaves through the interface, the TAP link reads; a full queue is told and tried again. */
static void test_tap_rx__bursts_equal_single_frames(void **state)
{
	struct prop_path bursts, singles;
	(void)state;
	tap_path(&bursts, "tap0", 64, true);
	tap_path(&singles, "tap1", 1, true);
	run(&bursts, &singles, TAP_MTU);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw__bursts_equal_single_frames),
		cmocka_unit_test(test_tap_tx__bursts_equal_single_frames),
		cmocka_unit_test(test_tap_rx__bursts_equal_single_frames),
	};
	return cmocka_run_group_tests(tests, open_lab, close_lab);
}
