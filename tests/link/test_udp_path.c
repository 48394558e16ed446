/* link/test_udp_path.c — the UDP link over a wire with an MTU. */
#include <poll.h>
#include <string.h>

#include <haul/link.h>
#include "lib/testlib.h"
#include "link/link.h"
#include "link/veth_lab.h"
#include "os/netns.h"

enum { FRAMES = 50, WAIT_MS = 10000, LONG_BYTES = 2000, SHORT_BYTES = 1400 };

struct bed {
	struct veth_lab lab;
	struct haul_link *link[VETH_LAB_SIDES];
	struct haul_send_batch batch;
	struct haul_frames frames;
	uint8_t bytes[FRAMES][LONG_BYTES];
};

static int bed_open(void **state)
{
	static const char *const cidr[] = { "10.71.0.1/24", "10.71.0.2/24" };
	static const char *const local[] = { "10.71.0.1:0", "10.71.0.2:0" };
	static struct bed bed;
	struct haul_err err = { 0 };
	veth_lab_open(&bed.lab, 1500);
	for (int side = 0; side < VETH_LAB_SIDES; side++) {
		struct haul_link_options options;
		haul_link_options_init(&options, HAUL_LINK_UDP);
		options.name[0] = 'u';
		memcpy(options.ifname, "radio0", 7);
		assert_int_equal(netns_address(bed.lab.netns_fd[side], "radio0", cidr[side], &err),
				 0);
		assert_int_equal(haul_addr_parse(local[side], &options.local, &err), 0);
		if (veth_lab_link(&bed.lab, side, &options, &bed.link[side], &err) < 0)
			fail_msg("%s", err.text);
	}
	struct haul_addr to = haul_link_local(bed.link[1]);
	assert_int_equal(haul_link_peer_add(bed.link[0], &to), 1);
	assert_int_equal(haul_frames_init(&bed.frames, FRAMES), 0);
	*state = &bed;
	return haul_send_batch_init(&bed.batch, FRAMES);
}

static int bed_close(void **state)
{
	struct bed *bed = *state;
	for (int side = 0; side < VETH_LAB_SIDES; side++)
		haul_link_close(bed->link[side]);
	haul_frames_done(&bed->frames);
	haul_send_batch_done(&bed->batch);
	veth_lab_close(&bed->lab);
	return 0;
}

static void send_and_expect(struct bed *bed, uint32_t bytes)
{
	uint32_t received = 0;
	haul_send_batch_clear(&bed->batch);
	for (uint32_t i = 0; i < FRAMES; i++) {
		memset(bed->bytes[i], (int)i, bytes);
		struct haul_frame row = { .data = bed->bytes[i], .len = bytes, .peer = 1 };
		assert_int_equal(haul_send_batch_push(&bed->batch, &row), 0);
	}
	assert_int_equal(haul_link_tx(bed->link[0], &bed->batch), FRAMES);
	/* They may still be on their way: the kernel delivers when it gets to it. */
	while (received < FRAMES) {
		struct pollfd fd = { .fd = haul_link_fd(bed->link[1]), .events = POLLIN };
		assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
		assert_true(haul_link_rx(bed->link[1], &bed->frames) >= 0);
		for (uint32_t i = 0; i < bed->frames.count; i++) {
			assert_int_equal(haul_frame_bytes(&bed->frames, i), bytes);
			assert_memory_equal(bed->frames.data[i], bed->bytes[received++], bytes);
		}
	}
}

static uint64_t tx_count(const struct bed *bed, enum link_tx_counter counter)
{
	return haul_link_tx_stats(bed->link[0])->extra[counter];
}

/* Segments above the path MTU are refused (they cannot be IP fragments): they leave as datagrams at
 * once, and shorter frames to the same peer are still segmented. */
static void test_udp__segments_above_the_path_mtu(void **state)
{
	struct bed *bed = *state;
	send_and_expect(bed, SHORT_BYTES);
	uint64_t runs = tx_count(bed, LINK_TX_GSO_RUNS);
	assert_true(runs > 0);
	for (uint32_t round = 0; round < 3; round++) {
		send_and_expect(bed, LONG_BYTES);
		assert_int_equal(tx_count(bed, LINK_TX_GSO_REFUSED), 1);
		assert_int_equal(tx_count(bed, LINK_TX_GSO_RUNS), runs);
	}
	send_and_expect(bed, SHORT_BYTES);
	assert_int_equal(tx_count(bed, LINK_TX_GSO_RUNS), 2 * runs);
	assert_int_equal(tx_count(bed, LINK_TX_GSO_REFUSED), 1);
	assert_int_equal(tx_count(bed, LINK_TX_FAILED), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_udp__segments_above_the_path_mtu),
	};
	return cmocka_run_group_tests(tests, bed_open, bed_close);
}
