/* A control among hostile neighbours: a million random events, most of them nearly right. */
#include <stdio.h>
#include <string.h>

#include "lib/testlib.h"
#include "node/control_state.h"
#include "node/said.h"

enum { EVENTS = 1000000, BURST = 64 };

/* Small sets of values, so that events meet each other; now and then anything at all. */
static uint64_t some_node(struct prng *prng)
{
	const uint32_t kind = prng_below(prng, 100);
	if (kind < 40)
		return SAID_RSU + prng_below(prng, 4);
	if (kind < 80)
		return SAID_OBU + prng_below(prng, 8);
	if (kind < 85)
		return SAID_SELF;
	if (kind < 88)
		return HAUL_NODE_BROADCAST;
	if (kind < 98)
		return SAID_RSU + prng_below(prng, 5000);
	return prng_next(prng);
}

static uint64_t some_sequence(struct prng *prng, uint32_t round)
{
	const uint32_t kind = prng_below(prng, 100);
	if (kind < 80)
		return SAID_EPOCH + round + prng_below(prng, 100);
	if (kind < 95)
		return SAID_EPOCH + ((uint64_t)prng_below(prng, 5) << 32) + prng_below(prng, 1000);
	return prng_next(prng);
}

static struct haul_heartbeat some_heartbeat(struct prng *prng, const struct control *control,
					    uint32_t round)
{
	const uint32_t kind = prng_below(prng, 100);
	struct haul_heartbeat heartbeat = {
		.id = round / 100 + prng_below(prng, 20),
		.hops = (uint8_t)prng_below(prng, 5),
		.period_ms = SAID_PERIOD_MS,
		.time_ns = prng_next(prng),
	};
	if (kind < 50 && control->options.role == NODE_RSU) { /* a true echo */
		heartbeat.id = control->beacon.id - prng_below(prng, 3);
		heartbeat.time_ns =
			(uint64_t)control->beacon.sent_ns[heartbeat.id % BEACON_REMEMBERED];
	} else if (kind > 95) {
		heartbeat.id = (uint32_t)prng_next(prng);
		heartbeat.hops = (uint8_t)prng_next(prng);
		heartbeat.period_ms = (uint16_t)prng_next(prng);
	}
	return heartbeat;
}

static struct hop some_hop(struct prng *prng)
{
	const uint32_t kind = prng_below(prng, 100);
	if (kind < 80)
		return said_radio(prng_below(prng, 12));
	if (kind < 97)
		return said_backhaul(prng_below(prng, 4));
	return (struct hop){ .port = (uint32_t)prng_next(prng), .peer = (uint32_t)prng_next(prng) };
}

static struct control_event some_event(struct prng *prng, const struct control *control,
				       uint32_t round, int64_t now_ns)
{
	const uint32_t kind = prng_below(prng, 1000);
	struct control_event event = {
		.kind = kind < 450   ? CONTROL_HEARTBEAT
			: kind < 900 ? CONTROL_REPLY
			: kind < 990 ? CONTROL_LEARN
				     : CONTROL_SEND_FAILED,
		.from = some_hop(prng),
		.now_ns = now_ns - (int64_t)prng_below(prng, 1000000),
		.broadcast = prng_below(prng, 50) == 0,
		.header = { .flags = (uint8_t)(prng_below(prng, 2) * HAUL_MESSAGE_ATTACHED),
			    .ttl = (uint8_t)prng_below(prng, 10),
			    .sequence = some_sequence(prng, round),
			    .origin = some_node(prng),
			    .destination = some_node(prng) },
		.mac = prng_below(prng, 4) == 0 ? prng_next(prng)
						: SAID_CLIENT + prng_below(prng, 20000),
		.owner = some_node(prng),
	};
	if (event.kind == CONTROL_HEARTBEAT && prng_below(prng, 20) != 0)
		event.header.destination = HAUL_NODE_BROADCAST;
	if (event.kind == CONTROL_REPLY && prng_below(prng, 2) == 0)
		event.header.destination = control->options.self;
	event.reply.heartbeat = some_heartbeat(prng, control, round);
	event.reply.hold_us = prng_below(prng, 10) == 0 ? (uint32_t)prng_next(prng) : 0;
	event.reply.client = prng_below(prng, 10) == 0 ? prng_next(prng) : SAID_CLIENT;
	return event;
}

/* Whatever came, tables are within their limits and what is sent is what decode accepts. */
static void look_at(struct control *control, struct haul_frames *frames,
		    struct haul_messages *messages)
{
	static struct control_tx tx[CONTROL_TX_MAX];
	const uint32_t count = control_take(control, tx, CONTROL_TX_MAX);
	assert_true(control->routes.count <= NODE_ROUTES_MAX);
	assert_true(control->clients.count <= NODE_CLIENTS_MAX);
	haul_frames_clear(frames);
	for (uint32_t i = 0; i < count; i++) {
		const struct haul_frame row = { .data = tx[i].bytes, .len = tx[i].len };
		assert_true(tx[i].to.port == NODE_RADIO || tx[i].to.port == NODE_BACKHAUL);
		assert_int_equal(haul_frames_push(frames, &row), 0);
	}
	assert_int_equal(haul_messages_decode(frames, messages), count);
}

static void abuse(enum node_role role, uint64_t seed)
{
	struct control_options options = said_options(role);
	struct control *control = NULL;
	struct haul_frames frames;
	struct haul_messages messages;
	struct prng prng;
	int64_t now_ns = 5 * NS_PER_S;
	uint64_t snapshots = 0;
	options.backhaul_peers = 2;
	prng_init(&prng, seed);
	assert_int_equal(control_open(&options, now_ns, &control, NULL), 0);
	assert_int_equal(haul_frames_init(&frames, CONTROL_TX_MAX), 0);
	assert_int_equal(haul_messages_init(&messages, CONTROL_TX_MAX), 0);
	for (uint32_t round = 0; round < EVENTS / BURST; round++) {
		struct control_event events[BURST];
		struct snapshot *snapshot = NULL;
		for (uint32_t i = 0; i < BURST; i++)
			events[i] = some_event(&prng, control, round, now_ns);
		control_events(control, events, BURST);
		now_ns += prng_below(&prng, 1000) == 0 ? 400 * NS_PER_S
						       : (int64_t)prng_below(&prng, 2000000);
		assert_true(control_tick(control, now_ns) > now_ns);
		look_at(control, &frames, &messages);
		assert_int_equal(control_snapshot(control, now_ns, &snapshot), 0);
		if (snapshot != NULL) {
			control_seen(control, snapshot, now_ns);
			snapshots++;
		}
		snapshot_free(snapshot);
	}
	assert_true(snapshots > 0);
	printf("%s: %llu snapshots, %llu refused as invalid\n", role == NODE_RSU ? "rsu" : "obu",
	       (unsigned long long)snapshots,
	       (unsigned long long)control_stats(control)->extra[CONTROL_DROP_INVALID]);
	for (uint32_t i = 0; i < CONTROL_COUNTERS; i++)
		printf("  %s %llu\n", control_stats(control)->counters[i].name,
		       (unsigned long long)control_stats(control)->extra[i]);
	haul_messages_done(&messages);
	haul_frames_done(&frames);
	control_close(control);
}

/* A million random events to an RSU: no crash, no growth, nothing sent that is not a message. */
static void test_control_random__rsu_survives_a_million_events(void **state)
{
	struct prng prng;
	(void)state;
	test_prng(&prng);
	abuse(NODE_RSU, prng_next(&prng));
}

/* The same to an OBU. */
static void test_control_random__obu_survives_a_million_events(void **state)
{
	struct prng prng;
	(void)state;
	test_prng(&prng);
	abuse(NODE_OBU, prng_next(&prng));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control_random__rsu_survives_a_million_events),
		cmocka_unit_test(test_control_random__obu_survives_a_million_events),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
