/* What a program says against what a connection table counted. */
#include <errno.h>
#include <string.h>

#include "lib/testlib.h"
#include "sim/tally.h"

#define CONNECTION(proto, from, from_port, to_port, tx, rx)                                        \
	"{\"proto\": \"" proto "\", \"initiator\": \"" from "\", \"initiator_port\": " from_port   \
	", \"responder\": \"10.1.0.1\", \"responder_port\": " to_port ", \"packets_tx\": " tx      \
	", \"packets_rx\": " rx ", \"payload_tx\": " tx ", \"payload_rx\": " rx "}"
/* One that is always there, and the one that a test is about. */
#define STATUS(proto, from, from_port, to_port, tx, rx)                                            \
	"{\"flows\": {\"connections\": [" CONNECTION("tcp", "10.1.0.9", "1", "5203", "1",          \
						     "1") "," CONNECTION(proto, from, from_port,   \
									 to_port, tx, rx) "]}}"

static char car1[] = "car1", rsu1[] = "rsu1";
static struct scenario_flow http = { .kind = SCENARIO_HTTP, .from = car1, .to = rsu1 };
static struct scenario_flow ping = { .kind = SCENARIO_PING, .from = car1, .to = rsu1 };
static struct scenario_flow udp = { .kind = SCENARIO_IPERF3_UDP, .from = car1, .to = rsu1 };

/* A flow that is over, from 10.1.0.2 to 10.1.0.1, the third of its scenario (port 5203). */
static struct flow flow_of(const struct scenario_flow *spec)
{
	struct flow flow = { .spec = spec,
			     .port = 5203,
			     .state = FLOW_PASSED,
			     .from.address = "10.1.0.2",
			     .to.address = "10.1.0.1" };

	measure_init(&flow.measure);
	flow.measure.said.port = 40000;
	return flow;
}

static int tally(const char *status, const struct flow *flow, json_t **ret_tally,
		 struct haul_err *err)
{
	json_t *root = json_loads(status, 0, NULL);

	assert_non_null(root);
	int rc = tally_flow(root, flow, ret_tally, err);
	json_decref(root);
	return rc;
}

/* The connection is found by its exact ends, whatever else the table has. */
static void test_tally__finds_and_agrees(void **state)
{
	struct flow flow = flow_of(&http);
	json_t *got = NULL;

	(void)state;
	flow.measure.said.payload_received = (struct measure_range){ 1000, 1000 };
	flow.measure.said.payload_sent = (struct measure_range){ 90, 95 };
	assert_int_equal(
		tally(STATUS("tcp", "10.1.0.2", "40000", "5203", "92", "1000"), &flow, &got, NULL),
		0);
	assert_true(json_is_true(json_object_get(got, "agrees")));
	assert_int_equal(json_object_size(json_object_get(got, "said")), 2);
	json_decref(got);
}

/* A ping has no ports: both ends carry the identifier it was given. */
static void test_tally__ping_by_identifier(void **state)
{
	struct flow flow = flow_of(&ping);
	json_t *got = NULL;

	(void)state;
	flow.measure.said.packets_sent = (struct measure_range){ 10, 10 };
	flow.measure.said.packets_received = (struct measure_range){ 8, 10 };
	assert_int_equal(
		tally(STATUS("icmp", "10.1.0.2", "5203", "5203", "10", "9"), &flow, &got, NULL), 0);
	json_decref(got);
}

/* One packet or byte too many or too few is told, with both figures; the tally is there to show. */
static void test_tally__tells_a_difference(void **state)
{
	static const char *const counted[] = { "9", "12" };
	struct flow flow = flow_of(&udp);

	(void)state;
	flow.measure.said.packets_sent = (struct measure_range){ 10, 11 };
	for (size_t i = 0; i < 2; i++) {
		struct haul_err err = { 0 };
		json_t *got = NULL;
		char status[1024];

		(void)snprintf(status, sizeof status,
			       STATUS("udp", "10.1.0.2", "40000", "5203", "%s", "0"), counted[i],
			       counted[i]);
		assert_int_equal(tally(status, &flow, &got, &err), -ERANGE);
		assert_non_null(strstr(err.text, i == 0 ? "packets_tx 9" : "packets_tx 12"));
		assert_non_null(strstr(err.text, "10 to 11"));
		assert_true(json_is_false(json_object_get(got, "agrees")));
		json_decref(got);
	}
}

/* Other ports, other protocols, no table at all: there is nothing to compare with. */
static void test_tally__says_what_is_missing(void **state)
{
	static const char *const statuses[] = {
		STATUS("tcp", "10.1.0.2", "40001", "5203", "92", "1000"),
		STATUS("tcp", "10.1.0.2", "40000", "5204", "92", "1000"),
		STATUS("udp", "10.1.0.2", "40000", "5203", "92", "1000"),
		"{\"flows\": null}",
		"{\"flows\": {\"error\": \"no memory\"}}",
	};
	struct flow flow = flow_of(&http);

	(void)state;
	for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
		struct haul_err err = { 0 };
		json_t *got = NULL;

		assert_int_equal(tally(statuses[i], &flow, &got, &err), -ENOENT);
		assert_null(got);
		assert_non_null(strstr(err.text, "car1: no tcp connection from 10.1.0.2:40000"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tally__finds_and_agrees),
		cmocka_unit_test(test_tally__ping_by_identifier),
		cmocka_unit_test(test_tally__tells_a_difference),
		cmocka_unit_test(test_tally__says_what_is_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
