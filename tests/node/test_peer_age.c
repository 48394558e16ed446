/* node/test_peer_age.c — peers that nobody hears of lose their place, those in use keep it. */
#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"
#include "node/peer_age.h"

#define RSU UINT64_C(0x020000000001)

static struct control *control;
static struct peer_age *age;

static int open_age(void **state)
{
	const struct control_options options = { .role = NODE_OBU,
						 .self = 0x020000000002,
						 .client = 0x020000000002,
						 .sequence = 1,
						 .period_ms = 200,
						 .history = 10,
						 .candidates = 3,
						 .missed_max = 3,
						 .ttl = 8 };
	struct haul_err err = { 0 };
	(void)state;
	age = calloc(1, sizeof *age);
	assert_non_null(age);
	return control_open(&options, 0, &control, &err);
}

static int close_age(void **state)
{
	(void)state;
	control_close(control);
	free(age);
	return 0;
}

static struct control_event heartbeat(uint32_t port, uint32_t peer, int64_t now_ns, uint32_t id)
{
	return (struct control_event){
		.kind = CONTROL_HEARTBEAT,
		.from = { .port = port, .peer = peer },
		.now_ns = now_ns,
		.header = { .type = HAUL_MESSAGE_HEARTBEAT,
			    .ttl = 8,
			    .sequence = (UINT64_C(7) << 32) + id,
			    .origin = RSU,
			    .destination = HAUL_NODE_BROADCAST },
		.reply.heartbeat = { .id = id, .period_ms = 60000, .time_ns = 1 },
	};
}

/* A peer goes after PEER_AGE_NS of silence, once; looked at only every so often. */
static void test_peer_age__forgets_the_silent(void **state)
{
	uint32_t peers[8];
	struct control_event events[] = {
		heartbeat(NODE_RADIO, 4, 1000, 1),
		heartbeat(NODE_BACKHAUL, 5, 1000, 1),
		{ .kind = CONTROL_LEARN,
		  .from = { .port = NODE_RADIO, .peer = 6 },
		  .now_ns = 1000 },
	};
	(void)state;
	peer_age_heard(age, events, 3);
	assert_int_equal(peer_age_check(age, control, PEER_AGE_NS + 999, peers, 8), 0);
	assert_int_equal(age->due_ns, PEER_AGE_NS + 999 + PEER_AGE_CHECK_NS);
	assert_int_equal(peer_age_check(age, control, PEER_AGE_NS + 1000, peers, 8), 0);
	assert_int_equal(peer_age_check(age, control, age->due_ns, peers, 8), 1);
	assert_int_equal(peers[0], 4);
	assert_int_equal(peer_age_check(age, control, age->due_ns, peers, 8), 0);
}

/* A next hop stays, however rare its heartbeats are. */
static void test_peer_age__keeps_what_is_in_use(void **state)
{
	uint32_t peers[8];
	const int64_t late_ns = PEER_AGE_NS + PEER_AGE_CHECK_NS;
	struct control_event event = heartbeat(NODE_RADIO, 4, 1000, 1);
	(void)state;
	control_events(control, &event, 1);
	peer_age_heard(age, &event, 1);
	assert_int_equal(peer_age_check(age, control, late_ns, peers, 8), 0);
	/* Once the route is given up, so is the peer. */
	for (int64_t now_ns = late_ns; now_ns < 100 * late_ns; now_ns += PEER_AGE_CHECK_NS)
		(void)control_tick(control, now_ns);
	assert_int_equal(peer_age_check(age, control, 100 * late_ns, peers, 8), 1);
	assert_int_equal(peers[0], 4);
}

/* More than the caller has room for: the rest next time. */
static void test_peer_age__gives_no_more_than_asked_for(void **state)
{
	uint32_t peers[8];
	(void)state;
	for (uint32_t peer = 1; peer <= 12; peer++) {
		struct control_event event = heartbeat(NODE_RADIO, peer, 1000, 1);
		peer_age_heard(age, &event, 1);
	}
	assert_int_equal(peer_age_check(age, control, 2 * PEER_AGE_NS, peers, 8), 8);
	assert_int_equal(peer_age_check(age, control, age->due_ns, peers, 8), 4);
	assert_int_equal(peers[3], 12);
}

int main(void)
{
#define AGE_TEST(name) cmocka_unit_test_setup_teardown(name, open_age, close_age)
	const struct CMUnitTest tests[] = {
		AGE_TEST(test_peer_age__forgets_the_silent),
		AGE_TEST(test_peer_age__keeps_what_is_in_use),
		AGE_TEST(test_peer_age__gives_no_more_than_asked_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
