/* Batched output equals one-at-a-time output, over UDP on loopback: GSO and GRO together, each by
 * itself, and neither, against sendto and recvfrom; three receivers, order kept for each. */
#include <stdio.h>
#include <string.h>

#include "lib/testlib.h"
#include "link/link.h"
#include "link/prop.h"

enum { CASES = 150, RECEIVERS = 3 };

static struct haul_link *open_link(uint32_t burst_max, uint32_t offloads, uint32_t mtu_bytes)
{
	struct haul_link_options options;
	struct haul_link *link = NULL;
	struct haul_err err = { 0 };
	haul_link_options_init(&options, HAUL_LINK_UDP);
	(void)snprintf(options.name, sizeof options.name, "udp");
	assert_int_equal(haul_addr_parse("127.0.0.1:0", &options.local, NULL), 0);
	options.burst_max = burst_max;
	options.offloads = offloads;
	options.mtu_bytes = mtu_bytes;
	if (haul_link_open(&options, &link, &err) < 0)
		fail_msg("%s", err.text);
	return link;
}

static void path_open(struct prop_path *path, uint32_t burst_max, uint32_t offloads,
		      uint32_t mtu_bytes)
{
	*path = (struct prop_path){ .to_count = RECEIVERS,
				    .lanes = RECEIVERS,
				    .burst_max = burst_max };
	path->from = open_link(burst_max, offloads, mtu_bytes);
	for (uint32_t i = 0; i < RECEIVERS; i++) {
		path->to[i] = open_link(burst_max, offloads, mtu_bytes);
		struct haul_addr addr = haul_link_local(path->to[i]);
		int peer = haul_link_peer_add(path->from, &addr);
		assert_true(peer > 0);
		path->peer[i] = (uint32_t)peer;
	}
}

static void path_close(struct prop_path *path)
{
	haul_link_close(path->from);
	for (uint32_t i = 0; i < path->to_count; i++)
		haul_link_close(path->to[i]);
}

/* Nothing is refused here, and nothing may be missing. Returns frames that left in superframes. */
static uint64_t bursts_equal_singles(uint32_t offloads, uint32_t mtu_bytes)
{
	struct prop_path bursts, singles;
	struct prop_case prop = {
		.bursts = &bursts, .singles = &singles, .bytes_min = 1, .bytes_max = mtu_bytes
	};
	struct prop_totals totals;
	path_open(&bursts, 64, offloads, mtu_bytes);
	path_open(&singles, 1, offloads, mtu_bytes);
	prop_run(&prop, CASES, &totals);
	assert_int_equal(totals.refused, 0);
	uint64_t gso = haul_link_tx_stats(bursts.from)->extra[LINK_TX_GSO_FRAMES];
	assert_int_equal(haul_link_tx_stats(singles.from)->extra[LINK_TX_GSO_FRAMES], 0);
	path_close(&bursts);
	path_close(&singles);
	return gso;
}

/* As it is used: UDP_SEGMENT out, UDP_GRO in. */
static void test_udp__bursts_equal_single_frames(void **state)
{
	(void)state;
	assert_true(bursts_equal_singles(HAUL_OFFLOAD_GSO | HAUL_OFFLOAD_GRO, 1472) > CASES);
}

/* Superframes that the receiver takes apart in the kernel. */
static void test_udp__bursts_with_gso_only(void **state)
{
	(void)state;
	assert_true(bursts_equal_singles(HAUL_OFFLOAD_GSO, 9000) > CASES);
}

/* A receiver that would take superframes, but single ones come. */
static void test_udp__bursts_with_gro_only(void **state)
{
	(void)state;
	assert_int_equal(bursts_equal_singles(HAUL_OFFLOAD_GRO, 1472), 0);
}

/* sendmmsg and recvmmsg alone. */
static void test_udp__bursts_without_offloads(void **state)
{
	(void)state;
	assert_int_equal(bursts_equal_singles(0, 1472), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_udp__bursts_equal_single_frames),
		cmocka_unit_test(test_udp__bursts_with_gso_only),
		cmocka_unit_test(test_udp__bursts_with_gro_only),
		cmocka_unit_test(test_udp__bursts_without_offloads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
