/* What a scenario file may say, and how it is told what it may not. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/testlib.h"
#include "sim/scenario.h"
#include "sim/timeline.h"

enum { TEXT_BYTES = 4096 };

/* A file in memory. */
static int fd;
static char path[32];

static int setup(void **state)
{
	(void)state;
	fd = memfd_create("scenario", MFD_CLOEXEC);
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	return close(fd);
}

static int load(const char *text, struct scenario **ret_scenario, struct haul_err *err)
{
	ssize_t bytes = (ssize_t)strlen(text);

	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(pwrite(fd, text, (size_t)bytes, 0), bytes);
	return scenario_load(path, ret_scenario, err);
}

/* The lines that make a small valid scenario; each error case adds to it or replaces it. */
#define HEAD  "duration_s: 10\n"
#define NODES "nodes:\n- {name: r1, role: rsu}\n- {name: c1, role: obu}\n- {name: c2, role: obu}\n"
#define LINKS "links:\n- {a: r1, b: c1, loss: 0.1}\n"

/* Everything that is given arrives; everything that is not has its default. */
static void test_scenario_load__reads_all_keys(void **state)
{
	struct scenario *s = NULL;
	struct haul_err err = { 0 };
	int rc = load("seed: 7\nduration_s: 12.5\n"
		      "radio: {rate_mbit: 27, overhead_us: 40, latency_ms: 0.2, range_m: 250, "
		      "shared: false, mtu: 2000}\n"
		      "settings: {heartbeat_ms: 100, preset: throughput, sizer: model,"
		      " flows: true}\n"
		      "nodes:\n"
		      "- {name: r1, role: rsu, x_m: 1, y_m: 2}\n"
		      "- name: c1\n"
		      "  role: obu\n"
		      "  x_m: 0\n"
		      "  y_m: 0\n"
		      "  path: [{at_s: 1, x_m: 10, y_m: 0}, {at_s: 3, x_m: 10, y_m: 40}]\n"
		      "links:\n"
		      "- {a: r1, b: c1, latency_ms: 3, jitter_ms: 1, loss: 0.1, up: false}\n"
		      "events:\n"
		      "- {at_s: 4, a: c1, b: r1, up: true, loss: 0.5}\n"
		      "traffic:\n"
		      "- {kind: iperf3-udp, from: c1, to: r1, rate_mbit: 2, hops: 1}\n"
		      "- {kind: http, from: c1, to: r1, size_mib: 4, start_s: 2}\n",
		      &s, &err);

	(void)state;
	if (rc < 0)
		fail_msg("%s", err.text);
	assert_int_equal(s->seed, 7);
	assert_int_equal(s->nodes_count, 2);
	assert_int_equal(s->nodes[1].path_count, 2);
	assert_false(*s->radio.shared);
	assert_int_equal(s->radio.queue_frames, SCENARIO_QUEUE_FRAMES);
	assert_int_equal(s->backhaul.mtu, SCENARIO_MTU);
	assert_int_equal(s->settings.preset, HAUL_PRESET_THROUGHPUT);
	assert_int_equal(*s->settings.sizer, HAUL_SIZER_MODEL);
	assert_true(s->settings.flows);
	assert_int_equal(s->settings.ttl, SCENARIO_TTL);
	assert_int_equal(s->links[0].a_index, 0);
	assert_int_equal(s->links[0].b_index, 1);
	assert_int_equal(s->events[0].link_index, 0);
	assert_int_equal(s->traffic[0].from_index, 1);
	assert_int_equal(s->traffic[0].interval_ms, SCENARIO_PING_INTERVAL_MS);
	assert_string_equal(scenario_kind_name(s->traffic[1].kind), "http");
	scenario_free(s);
}

static const struct mistake {
	const char *text;
	const char *wants[4];
} mistakes[] = {
	{ "", { "is empty" } },
	{ "nodes: [\n", { ":2:", "not YAML" } },
	{ "\tx: 1\n", { ":1:", "not YAML" } },
	{ HEAD, { ":1:", "\"nodes\" is missing" } },
	{ HEAD NODES "speed: 3\n", { ":6: speed: unknown key; known: seed, duration_s" } },
	{ HEAD "nodes:\n- {name: r1, role: rsu, rol: x}\n",
	  { ":3: nodes[0].rol: unknown key; known: name, role" } },
	{ HEAD "nodes:\n- {name: r1, role: car}\n",
	  { ":3: nodes[0].role: \"car\": want one of obu, rsu" } },
	{ HEAD "nodes:\n- {name: c1, role: obu}\n", { ":2: nodes: ", "role: rsu" } },
	{ HEAD "nodes: {a: b}\n", { ":2: nodes: want a list of 1 to 512" } },
	{ HEAD "nodes:\n- {role: rsu}\n", { ":3: nodes[0]: key \"name\" is missing" } },
	{ HEAD "nodes:\n- {name: r 1, role: rsu}\n", { ":3: nodes[0].name: \"r 1\": want" } },
	{ HEAD NODES "- {name: r1, role: rsu}\n", { ":6: nodes[3].name: \"r1\": another" } },
	{ HEAD "nodes:\n- {name: r1, role: rsu, y_m: 3}\n",
	  { ":3: nodes[0].y_m: \"3\": want both" } },
	{ HEAD "nodes:\n- {name: r1, role: rsu, path: [{at_s: 1, x_m: 1, y_m: 1}]}\n",
	  { ":3: nodes[0].path: ", "x_m and y_m" } },
	{ HEAD "nodes:\n- {name: r1, role: rsu, x_m: 1, y_m: 1, path: [{at_s: 2, x_m: 1, "
	       "y_m: 1},\n  {at_s: 1, x_m: 1, y_m: 1}]}\n",
	  { ":4: nodes[0].path[1].at_s: \"1\": want 2 to" } },
	{ "duration_s: 0\n" NODES, { ":1: duration_s: \"0\": want 1 to 86400" } },
	{ "duration_s: ten\n" NODES, { ":1: duration_s: \"ten\": want a number" } },
	{ "duration_s: 1.5x\n" NODES, { ":1: \"1.5x\": want a number" } },
	{ "duration_s: .nan\n" NODES, { ":1: ", "want a number" } },
	{ "duration_s: 3\nduration_s: 4\n" NODES, { ":2: duration_s: ", "given twice" } },
	{ HEAD "seed: -1\n" NODES, { ":2: \"-1\": want a whole number" } },
	{ HEAD "radio: {mtu: 100}\n" NODES, { ":2: radio.mtu: \"100\": want 576 to 9000" } },
	{ HEAD "radio: {shared: maybe}\n" NODES, { ":2: \"maybe\": want true or false" } },
	{ HEAD "settings: {preset: fast}\n" NODES,
	  { ":2: settings.preset: \"fast\": want one of low-latency, balanced, "
	    "throughput" } },
	{ HEAD "settings: {ttl: 256}\n" NODES, { ":2: settings.ttl: \"256\": want 1 to 64" } },
	{ HEAD NODES "links:\n- {a: r1, b: c9}\n", { ":7: links[0].b: \"c9\": no node" } },
	{ HEAD NODES "links:\n- {a: r1, b: r1}\n", { ":7: links[0].b: \"r1\": want another" } },
	{ HEAD NODES LINKS "- {a: c1, b: r1}\n", { ":8: links[1].a: ", "a link already" } },
	{ HEAD NODES "links:\n- {a: r1, b: c1, loss: 1.5}\n",
	  { ":7: links[0].loss: \"1.5\": want 0 to 1" } },
	{ HEAD NODES "links:\n- {a: r1, b: c1}\n- {a: r1, b: c2, loss: x}\n",
	  { ":8: links[1].loss: \"x\": want a number" } },
	{ HEAD NODES LINKS "events:\n- {at_s: 1, a: r1, b: c2}\n",
	  { ":9: events[0].a: ", "none" } },
	{ HEAD NODES LINKS "events:\n- {at_s: 2, a: r1, b: c1}\n- {at_s: 1, a: r1, b: c1}\n",
	  { ":10: events[1].at_s: \"1\": want 2 to" } },
	{ HEAD NODES LINKS "events:\n- {at_s: 2, a: r1, b: c1, loss: -1}\n",
	  { ":9: events[0].loss: \"-1\": want 0 to 1" } },
	{ HEAD NODES "traffic:\n- {kind: ftp, from: c1, to: r1}\n",
	  { ":7: traffic[0].kind: \"ftp\": want one of ping, iperf3-tcp, iperf3-udp, "
	    "http" } },
	{ HEAD NODES "traffic:\n- {kind: ping, from: c1, to: x}\n",
	  { ":7: traffic[0].to: \"x\"" } },
	{ HEAD NODES "traffic:\n- {kind: ping, from: c1, to: r1, start_s: 30}\n",
	  { ":7: traffic[0].start_s: \"30\": want 0 to 9" } },
	{ HEAD NODES "traffic:\n- {kind: iperf3-udp, from: c1, to: r1}\n",
	  { ":7: traffic[0].rate_mbit: want 0.01" } },
	{ HEAD NODES "traffic:\n- {kind: http, from: c1, to: r1}\n",
	  { ":7: traffic[0].size_mib: want 1 to 1024" } },
	{ HEAD NODES "traffic:\n- {kind: ping, from: c1, to: r1, loss_max: 2}\n",
	  { ":7: traffic[0].loss_max: \"2\": want 0 to 1" } },
};

/* Each mistake is told with its line, its place, the value and what is allowed; nothing is
 * loaded. */
static void test_scenario_load__tells_what_is_wrong_and_where(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof mistakes / sizeof mistakes[0]; i++) {
		struct scenario *scenario = NULL;
		struct haul_err err = { 0 };
		int rc = load(mistakes[i].text, &scenario, &err);

		if (rc != HAUL_ECONFIG || err.code != HAUL_ECONFIG || scenario != NULL)
			fail_msg("case %zu: code %d, \"%s\"\n%s", i, rc, err.text,
				 mistakes[i].text);
		if (strncmp(err.text, path, strlen(path)) != 0)
			fail_msg("case %zu: no file name: %s", i, err.text);
		for (size_t k = 0; k < 4 && mistakes[i].wants[k] != NULL; k++)
			if (strstr(err.text, mistakes[i].wants[k]) == NULL)
				fail_msg("case %zu: \"%s\" lacks \"%s\"\n%s", i, err.text,
					 mistakes[i].wants[k], mistakes[i].text);
	}
}

/* A file that is not there is an error of the system, with its name. */
static void test_scenario_load__missing_file(void **state)
{
	struct scenario *scenario = NULL;
	struct haul_err err = { 0 };

	(void)state;
	assert_int_equal(scenario_load("/nonexistent/x.yaml", &scenario, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/x.yaml"));
	assert_null(scenario);
	scenario_free(NULL);
}

/* ---- timeline ---- */

static struct channel *channel_for(const struct scenario *scenario)
{
	struct channel_options options = { .node_count = scenario->nodes_count,
					   .links_max = timeline_links_max(scenario),
					   .frames_max = 1,
					   .frame_bytes_max = 64,
					   .deliveries_max = 1,
					   .queue_frames = 1 };
	struct channel *channel = NULL;

	assert_int_equal(channel_open(&options, &channel, NULL), 0);
	return channel;
}

/* Events change what they name and nothing else, at their time, both ways. */
static void test_timeline_apply__events_change_links(void **state)
{
	struct scenario *s = NULL;
	struct timeline timeline;
	struct channel *channel;

	(void)state;
	assert_int_equal(load(HEAD NODES "links:\n"
					 "- {a: r1, b: c1, latency_ms: 2, loss: 0.1}\n"
					 "- {a: r1, b: c2, up: false}\n"
					 "events:\n"
					 "- {at_s: 3, a: c1, b: r1, loss: 1}\n"
					 "- {at_s: 3, a: c2, b: r1, up: true}\n"
					 "- {at_s: 5, a: r1, b: c1, up: false}\n",
			      &s, NULL),
			 0);
	channel = channel_for(s);
	timeline_init(&timeline, s);
	assert_true(timeline_apply(&timeline, channel, 0) == 3);
	assert_true(channel_link_get(channel, 1, 0).up);
	assert_true(channel_link_get(channel, 1, 0).loss == 0.1);
	assert_false(channel_link_get(channel, 0, 2).up);
	assert_true(timeline_apply(&timeline, channel, 3) == 5);
	assert_true(channel_link_get(channel, 0, 1).loss == 1);
	assert_int_equal(channel_link_get(channel, 0, 1).latency_ns, 2000000);
	assert_true(channel_link_get(channel, 2, 0).up);
	assert_true(isinf(timeline_apply(&timeline, channel, 6)));
	assert_false(channel_link_get(channel, 1, 0).up);
	channel_close(channel);
	scenario_free(s);
}

/* A car on its path: in range, half of the frames lost at the range, gone beyond; latency is that
 * of light and of the radio, not more (defect 18). */
static void test_timeline_apply__links_follow_distance(void **state)
{
	struct scenario *s = NULL;
	struct timeline timeline;
	struct channel *channel;
	struct channel_link link;

	(void)state;
	assert_int_equal(load(HEAD "radio: {range_m: 300, latency_ms: 0.1}\nnodes:\n"
				   "- {name: r1, role: rsu, x_m: 0, y_m: 0}\n"
				   "- {name: c1, role: obu, x_m: 30, y_m: 0, "
				   "path: [{at_s: 10, x_m: 630, y_m: 0}]}\n"
				   "- {name: c2, role: obu}\n",
			      &s, NULL),
			 0);
	channel = channel_for(s);
	timeline_init(&timeline, s);
	assert_true(timeline_apply(&timeline, channel, 0) == TIMELINE_TICK_S);
	link = channel_link_get(channel, 0, 1);
	assert_true(link.up && link.loss < 0.001);
	assert_in_range(link.latency_ns, 100100, 100101); /* 30 m */
	timeline_apply(&timeline, channel, 4.5);          /* 300 m */
	link = channel_link_get(channel, 1, 0);
	assert_true(link.up && fabs(link.loss - 0.5) < 1e-9);
	assert_true(isinf(timeline_apply(&timeline, channel, 10)));
	assert_false(channel_link_get(channel, 0, 1).up);
	assert_false(channel_link_get(channel, 0, 2).up);
	channel_close(channel);
	scenario_free(s);
}

/* Loss grows with distance, from none to all. */
static void test_timeline_loss__grows_with_distance(void **state)
{
	double before = 0;

	(void)state;
	assert_true(timeline_loss(0, 100) == 0);
	for (double d = 1; d < 1000; d++) {
		double loss = timeline_loss(d, 100);

		assert_true(loss > before && loss < 1);
		before = loss;
	}
	assert_true(before > 0.9999);
}

/* Straight and even between points, still before the first moment and after the last. */
static void test_timeline_position__interpolates(void **state)
{
	struct scenario_point points[] = {
		{ 2, 0, 0 }, { 4, 10, 20 }, { 4, 50, 50 }, { 6, 50, 60 }
	};
	double start = 0;
	struct scenario_node node = {
		.x_m = &start, .y_m = &start, .path = points, .path_count = 4
	};
	double x;
	double y;

	(void)state;
	timeline_position(&node, 1, &x, &y);
	assert_true(x == 0 && y == 0);
	timeline_position(&node, 3, &x, &y);
	assert_true(x == 5 && y == 10);
	timeline_position(&node, 4, &x, &y);
	assert_true(x == 50 && y == 50);
	timeline_position(&node, 99, &x, &y);
	assert_true(x == 50 && y == 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scenario_load__reads_all_keys),
		cmocka_unit_test(test_scenario_load__tells_what_is_wrong_and_where),
		cmocka_unit_test(test_scenario_load__missing_file),
		cmocka_unit_test(test_timeline_apply__events_change_links),
		cmocka_unit_test(test_timeline_apply__links_follow_distance),
		cmocka_unit_test(test_timeline_loss__grows_with_distance),
		cmocka_unit_test(test_timeline_position__interpolates),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
