/* Needs root: namespaces joined by the hub, with ping as the traffic. Seeds are fixed, so that the
 * hub loses the same frames in every run. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/testlib.h"
#include "os/netns.h"
#include "os/os.h"
#include "sim/hub.h"

enum { NODES = 3, MTU = 1500, OUTPUT_BYTES = 65536 };

struct bench {
	int netns[NODES];
	struct hub *hub;
};

static void bench_open(struct bench *bench, struct channel_link link, hub_schedule *schedule)
{
	struct channel_options options = { .node_count = NODES,
					   .links_max = NODES * NODES,
					   .frames_max = 2048,
					   .frame_bytes_max = MTU + HUB_ETHER_BYTES,
					   .deliveries_max = 4096,
					   .queue_frames = 256,
					   .shared = true,
					   .seed = 11 };
	struct haul_err err = { 0 };

	assert_int_equal(hub_open(&options, 1, &bench->hub, &err), 0);
	for (uint32_t i = 0; i < NODES; i++) {
		struct hub_attach attach = { .node = i, .ifname = "radio0", .mtu_bytes = MTU };
		char cidr[32];

		bench->netns[i] = netns_open(&err);
		assert_true(bench->netns[i] >= 0);
		assert_int_equal(
			netns_sysctl(bench->netns[i], "ipv6/conf/default/disable_ipv6", "1", &err),
			0);
		attach.netns_fd = bench->netns[i];
		if (hub_attach(bench->hub, &attach, &err) < 0)
			fail_msg("%s", err.text);
		snprintf(cidr, sizeof cidr, "10.5.0.%u/24", i + 1);
		assert_int_equal(netns_address(bench->netns[i], "radio0", cidr, &err), 0);
	}
	link.up = true;
	assert_int_equal(channel_link_set(hub_channel(bench->hub, 0), 0, 1, &link), 0);
	assert_int_equal(channel_link_set(hub_channel(bench->hub, 0), 1, 0, &link), 0);
	assert_int_equal(hub_start(bench->hub, schedule, bench, &err), 0);
}

static void bench_close(struct bench *bench)
{
	hub_close(bench->hub);
	for (uint32_t i = 0; i < NODES; i++)
		close(bench->netns[i]);
}

/* Exit status of a program started in namespace 0, and what it printed. */
static int run(const struct bench *bench, const char *const argv[], char *output)
{
	size_t len = 0;
	int out[2];
	int status = 0;
	ssize_t got;
	int pid;

	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = netns_spawn(bench->netns[0], argv, out[1], NULL);
	assert_true(pid > 0);
	close(out[1]);
	while ((got = read(out[0], output + len, OUTPUT_BYTES - 1 - len)) > 0)
		len += (size_t)got;
	output[len] = '\0';
	close(out[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* ARP by broadcast and ping by unicast cross, once each way, with the delay of the channel. */
static void test_hub__ping_takes_the_latency_of_the_channel(void **state)
{
	const char *const argv[] = { "ping", "-q", "-c10", "-i0.01", "-W2", "10.5.0.2", NULL };
	const struct channel_link_stats *stats;
	static char output[OUTPUT_BYTES];
	struct bench bench;

	(void)state;
	bench_open(&bench, (struct channel_link){ .latency_ns = 3 * NS_PER_MS }, NULL);
	assert_int_equal(run(&bench, argv, output), 0);
	assert_non_null(strstr(output, "10 received"));
	hub_stop(bench.hub);
	stats = channel_link_stats(hub_channel(bench.hub, 0), 0, 1);
	assert_in_range(stats->delivered, 11, 13); /* ARP may ask again */
	assert_true(haul_hist_quantile(&stats->delay_ns, 0.0) >= 3 * NS_PER_MS * 7 / 8);
	assert_int_equal(hub_late_ns(bench.hub)->count > 0, 1);
	bench_close(&bench);
}

/* Frames lost are as many as configured, within four standard deviations, and ping agrees. */
static void test_hub__measured_loss_is_the_configured_loss(void **state)
{
	const char *const argv[] = { "ping",    "-q",  "-f",       "-c2000",
				     "-i0.001", "-W1", "10.5.0.2", NULL };
	const struct channel_link_stats *stats;
	static char output[OUTPUT_BYTES];
	struct bench bench;
	double sent;
	double lost;

	(void)state;
	bench_open(&bench, (struct channel_link){ .loss = 0.1 }, NULL);
	assert_int_equal(run(&bench, argv, output), 0);
	hub_stop(bench.hub);
	for (uint32_t from = 0; from < 2; from++) {
		stats = channel_link_stats(hub_channel(bench.hub, 0), from, 1 - from);
		sent = (double)stats->sent;
		lost = (double)stats->lost;
		assert_true(sent >= 1700);
		assert_int_equal(stats->sent, stats->lost + stats->delivered);
		assert_true(fabs(lost - 0.1 * sent) <= 4 * sqrt(sent * 0.1 * 0.9));
	}
	assert_int_equal(hub_port(bench.hub, 0, 0)->no_frame, 0);
	bench_close(&bench);
}

/* A node without a link hears nothing and reaches nobody. */
static void test_hub__out_of_range_is_silence(void **state)
{
	const char *const argv[] = { "ping", "-q", "-c1", "-W1", "10.5.0.3", NULL };
	static char output[OUTPUT_BYTES];
	struct bench bench;

	(void)state;
	bench_open(&bench, (struct channel_link){ 0 }, NULL);
	assert_int_equal(run(&bench, argv, output), 1);
	hub_stop(bench.hub);
	assert_null(channel_link_stats(hub_channel(bench.hub, 0), 0, 2));
	assert_int_equal(channel_node_stats(hub_channel(bench.hub, 0), 2)->sent, 0);
	bench_close(&bench);
}

static int64_t take_down(void *arg, struct hub *hub, int64_t now_ns)
{
	struct channel_link down = { 0 };

	(void)arg;
	assert_true(now_ns > 0);
	assert_int_equal(channel_link_set(hub_channel(hub, 0), 0, 1, &down), 0);
	return INT64_MAX;
}

/* What the schedule takes down is down: a ping gets no answer, and the frame is told as out of
 * range. */
/* The schedule runs on the hub's thread at its times: here it takes the link down at once. */
static void test_hub__schedule_changes_links(void **state)
{
	const char *const argv[] = { "ping", "-q", "-c1", "-W1", "10.5.0.2", NULL };
	static char output[OUTPUT_BYTES];
	struct bench bench;

	(void)state;
	bench_open(&bench, (struct channel_link){ 0 }, take_down);
	assert_int_equal(run(&bench, argv, output), 1);
	hub_stop(bench.hub);
	assert_true(channel_node_stats(hub_channel(bench.hub, 0), 0)->out_of_range > 0);
	bench_close(&bench);
}

/* An interface that is deleted under the hub is left out; the others go on. */
static void test_hub__broken_interface_is_left_out(void **state)
{
	const char *const del[] = { "ip", "link", "del", "radio0", NULL };
	static char output[OUTPUT_BYTES];
	struct bench bench;
	int failed = 0;

	(void)state;
	bench_open(&bench, (struct channel_link){ 0 }, NULL);
	assert_int_equal(run(&bench, del, output), 0);
	while (failed == 0) { /* ends with the test's time limit if it never comes */
		hub_lock(bench.hub);
		failed = hub_port(bench.hub, 0, 0)->failed;
		hub_unlock(bench.hub);
	}
	assert_true(failed < 0);
	hub_lock(bench.hub);
	assert_int_equal(hub_port(bench.hub, 0, 1)->failed, 0);
	hub_unlock(bench.hub);
	bench_close(&bench);
}

/* Addresses lead to nodes; attaching twice under one name is an error that names it. */
static void test_hub_attach__knows_addresses_and_refuses_a_taken_name(void **state)
{
	struct hub_attach again = { .node = 2, .ifname = "lo", .mtu_bytes = MTU };
	struct channel_options options = { .node_count = NODES,
					   .links_max = 1,
					   .frames_max = 1,
					   .frame_bytes_max = MTU + HUB_ETHER_BYTES,
					   .deliveries_max = 1,
					   .queue_frames = 1 };
	struct haul_err err = { 0 };
	struct hub *other = NULL;
	struct bench bench;

	(void)state;
	bench_open(&bench, (struct channel_link){ 0 }, NULL);
	for (uint32_t i = 0; i < NODES; i++)
		assert_int_equal(hub_node_of(bench.hub, 0, hub_port(bench.hub, 0, i)->mac), i);
	assert_int_equal(hub_node_of(bench.hub, 0, 1), -ENOENT);
	assert_int_equal(hub_open(&options, 1, &other, &err), 0);
	again.netns_fd = bench.netns[0];
	assert_true(hub_attach(other, &again, &err) < 0);
	assert_non_null(strstr(err.text, "lo"));
	hub_close(other);
	hub_close(NULL);
	bench_close(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hub__ping_takes_the_latency_of_the_channel),
		cmocka_unit_test(test_hub__measured_loss_is_the_configured_loss),
		cmocka_unit_test(test_hub__out_of_range_is_silence),
		cmocka_unit_test(test_hub__schedule_changes_links),
		cmocka_unit_test(test_hub__broken_interface_is_left_out),
		cmocka_unit_test(test_hub_attach__knows_addresses_and_refuses_a_taken_name),
	};
	struct haul_err err = { 0 };
	int fd = netns_open(&err);

	if (fd < 0)
		test_skip(err.text);
	close(fd);
	if (access("/dev/net/tun", R_OK | W_OK) < 0)
		test_skip("/dev/net/tun cannot be opened");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
