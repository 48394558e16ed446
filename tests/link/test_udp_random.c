/* Random datagrams from a socket that is not ours: everything received is a frame or a count. */
#include <arpa/inet.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/testlib.h"
#include "link/link.h"

enum { DATAGRAMS = 20000, MTU = 1472, ROWS = 100, BYTES_MAX = 4000, PENDING_MAX = 40 };

struct expected {
	uint64_t frames, bytes, empty, truncated;
};

/* Send one datagram, or several in one go; the kernel tells how much it took. */
static void send_random(int fd, struct prng *prng, uint32_t longest, struct expected *expected)
{
	static uint8_t bytes[BYTES_MAX];
	uint32_t len = prng_below(prng, 10) == 0 ? 0 : prng_below(prng, BYTES_MAX);
	int segment = prng_below(prng, 3) > 0 ? 0 : 1 + (int)prng_below(prng, MTU);
	for (uint32_t i = 0; i < len; i += 64)
		bytes[i] = (uint8_t)prng_next(prng);
	assert_int_equal(setsockopt(fd, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment), 0);
	if (send(fd, bytes, len, 0) != (ssize_t)len)
		return; /* more segments than the kernel cuts */
	expected->empty += len == 0;
	uint32_t stride = segment > 0 ? (uint32_t)segment : len;
	for (uint32_t at = 0; at < len; at += stride) {
		uint32_t part = len - at < stride ? len - at : stride;
		expected->frames += part <= longest;
		expected->bytes += part <= longest ? part : 0;
		expected->truncated += part > longest;
	}
}

/* Take what has come so far, in batches of random size. */
static void receive(struct haul_link *link, struct prng *prng, uint64_t *ret_frames)
{
	struct haul_frames in;
	int count;
	assert_int_equal(haul_frames_init(&in, 1 + prng_below(prng, ROWS)), 0);
	do {
		count = haul_link_rx(link, &in);
		assert_true(count >= 0);
		*ret_frames += (uint64_t)count;
	} while (count > 0);
	haul_frames_done(&in);
}

static void adds_up(uint32_t burst_max, uint32_t offloads)
{
	struct haul_link_options options;
	struct haul_link *link;
	struct expected expected = { 0 };
	struct sockaddr_in to = { .sin_family = AF_INET };
	uint64_t frames = 0, settled = 0;
	struct prng prng;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	test_prng(&prng);
	haul_link_options_init(&options, HAUL_LINK_UDP);
	(void)snprintf(options.name, sizeof options.name, "udp");
	assert_int_equal(haul_addr_parse("127.0.0.1:0", &options.local, NULL), 0);
	options.burst_max = burst_max;
	options.offloads = offloads;
	assert_int_equal(haul_link_open(&options, &link, NULL), 0);
	struct haul_addr local = haul_link_local(link);
	to.sin_port = htons(local.port);
	memcpy(&to.sin_addr, local.bytes, sizeof to.sin_addr);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);

	/* With GRO a slot holds any datagram; without, what the link is to carry. */
	uint32_t longest = (haul_link_offloads(link) & HAUL_OFFLOAD_GRO) != 0 ? BYTES_MAX : MTU;
	const struct haul_stats *stats = haul_link_rx_stats(link);
	for (uint32_t i = 0; i < DATAGRAMS; i++) {
		send_random(fd, &prng, longest, &expected);
		if (prng_below(&prng, PENDING_MAX) == 0 || i == DATAGRAMS - 1)
			receive(link, &prng, &frames);
	}
	for (uint32_t turn = 0; turn < 1000; turn++) {
		receive(link, &prng, &frames);
		settled =
			frames + stats->extra[LINK_RX_MALFORMED] + stats->extra[LINK_RX_TRUNCATED];
		if (settled >= expected.frames + expected.empty + expected.truncated)
			break;
		struct pollfd ready = { .fd = haul_link_fd(link), .events = POLLIN };
		assert_int_equal(poll(&ready, 1, 10000), 1);
	}
	assert_true(expected.frames > DATAGRAMS / 2);
	assert_int_equal(frames, expected.frames);
	assert_int_equal(stats->ops, expected.frames);
	assert_int_equal(stats->bytes, expected.bytes);
	assert_int_equal(stats->extra[LINK_RX_MALFORMED], expected.empty);
	assert_int_equal(stats->extra[LINK_RX_TRUNCATED], expected.truncated);
	haul_link_close(link);
	close(fd);
}

/* With UDP_GRO, whatever mixture of sizes the kernel glues together. */
static void test_udp_rx__random_datagrams_add_up(void **state)
{
	(void)state;
	adds_up(0, HAUL_OFFLOAD_ALL);
}

/* Without: what is longer than the MTU is counted as cut short. */
static void test_udp_rx__random_datagrams_add_up_without_gro(void **state)
{
	(void)state;
	adds_up(0, 0);
}

/* The same with one call a frame. */
static void test_udp_rx__random_datagrams_add_up_one_by_one(void **state)
{
	(void)state;
	adds_up(1, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_udp_rx__random_datagrams_add_up),
		cmocka_unit_test(test_udp_rx__random_datagrams_add_up_without_gro),
		cmocka_unit_test(test_udp_rx__random_datagrams_add_up_one_by_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
