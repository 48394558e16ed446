#include "lib/testlib.h"
#include "node/beacon.h"
#include "node/bench_control.h"

/* ---- RSU: heartbeats ---- */

/* Heartbeats go to everybody on the radio and to each RSU of the backhaul, one a period on average,
 * each within its spread. */
static void test_control_rsu__heartbeats_keep_their_period(void **state)
{
	struct bench *bench = *state;
	const int64_t start_ns = bench->now_ns;
	int64_t now_ns = start_ns;
	for (uint32_t id = 1; id <= 200; id++) {
		const int64_t due_ns = control_tick(bench->control, now_ns);
		bench_take(bench);
		if (bench->tx_count == 0) { /* it woke for something else */
			now_ns = due_ns;
			id--;
			continue;
		}
		assert_int_equal(bench->tx_count, 3);
		haul_heartbeat_get(bench->tx[0].bytes + HAUL_MESSAGE_HEADER_BYTES, &bench->sent);
		assert_int_equal(bench->sent.id, id);
		assert_int_equal(bench->sent.hops, 0);
		assert_int_equal(bench->sent.period_ms, SAID_PERIOD_MS);
		assert_int_equal(bench->tx[0].to.port, NODE_RADIO);
		assert_int_equal(bench->tx[0].to.peer, 0);
		for (uint32_t peer = 1; peer <= 2; peer++) {
			assert_int_equal(bench->tx[peer].to.port, NODE_BACKHAUL);
			assert_int_equal(bench->tx[peer].to.peer, peer);
		}
		const int64_t slot_ns = (id - 1) * SAID_PERIOD_MS * NS_PER_MS;
		assert_in_range(now_ns - start_ns - slot_ns, 0, SAID_PERIOD_MS * NS_PER_MS / 10);
		now_ns = due_ns;
	}
	assert_int_equal(bench_counter(bench, CONTROL_HEARTBEATS_SENT), 200);
}

/* Defect 12, second half: jitter was a modulo by a tenth of the period and crashed below 10 ms. No
 * period and no jitter crashes, and time always moves on. */
static void test_control_rsu__defect_12_any_period_and_jitter_work(void **state)
{
	(void)state;
	for (uint32_t period_ms = 1; period_ms <= 60000; period_ms = period_ms * 3 / 2 + 1) {
		for (uint32_t jitter = 0; jitter <= 50; jitter += 5) {
			const struct beacon_options options = { .period_ms = period_ms,
								.jitter_percent = jitter,
								.seed = period_ms };
			struct haul_heartbeat heartbeat;
			struct beacon beacon;
			int64_t now_ns = 0;
			beacon_init(&beacon, &options, now_ns);
			for (uint32_t id = 1; id <= 50; id++) {
				assert_true(beacon_take(&beacon, now_ns, &heartbeat));
				assert_int_equal(heartbeat.id, id);
				assert_false(beacon_take(&beacon, now_ns, &heartbeat));
				assert_true(beacon.due_ns > now_ns);
				now_ns = beacon.due_ns;
			}
			const int64_t mean_ns = now_ns / 50;
			assert_in_range(mean_ns, beacon.period_ns * 9 / 10,
					beacon.period_ns * 11 / 10);
		}
	}
}

/* After a pause there is one heartbeat, not one for each that was missed. */
static void test_control_rsu__pause_is_not_made_up_for(void **state)
{
	struct bench *bench = *state;
	bench_wait_ms(bench, 0);
	bench_wait_ms(bench, 100000);
	assert_int_equal(bench->tx_count, 3);
	assert_int_equal(bench->sent.id, 2);
	bench_wait_ms(bench, 0);
	assert_int_equal(bench->tx_count, 0);
}

/* ---- RSU: replies ---- */

/* A reply gives a route with its hops and round trip, a client, and, being marked, an attachment
 * that other RSUs are told of; again only half a period later. */
static void test_control_rsu__reply_attaches_an_obu(void **state)
{
	struct bench *bench = *state;
	bench_wait_ms(bench, 0);
	struct control_event reply = bench_reply(bench, 1);
	reply.reply.hold_us = 300;
	bench_tell(bench, &reply);
	assert_int_equal(bench->tx_count, 2);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(bench->tx[i].to.port, NODE_BACKHAUL);
		assert_int_equal(bench->tx[i].to.peer, i + 1);
		assert_int_equal(bench->tx[i].bytes[2], HAUL_MESSAGE_ATTACHED);
		assert_int_equal(bench->tx[i].bytes[3], 1); /* TTL: no further */
	}
	const struct snapshot *snapshot = bench_routes(bench);
	const struct route *route = snapshot_route(snapshot, SAID_OBU);
	assert_int_equal(route->next.port, NODE_RADIO);
	assert_int_equal(route->next.peer, 7);
	assert_int_equal(route->hops, 2);
	assert_int_equal(route->rtt_ns, NS_PER_MS - 300 * NS_PER_US);
	assert_int_equal(snapshot_client(snapshot, SAID_CLIENT)->owner, SAID_OBU);
	assert_int_equal(snapshot->flood_obu_count, 1);
	reply = bench_reply(bench, 2);
	bench_tell(bench, &reply);
	assert_int_equal(bench->tx_count, 0);
	bench->now_ns += SAID_PERIOD_MS / 2 * NS_PER_MS;
	reply = bench_reply(bench, 3);
	bench_tell(bench, &reply);
	assert_int_equal(bench->tx_count, 2);
	assert_int_equal(bench_counter(bench, CONTROL_REPLIES_PASSED_ON), 4);
}

/* Merely heard: a route, but no attachment; and an attached OBU that says so no longer is. */
static void test_control_rsu__unmarked_reply_detaches(void **state)
{
	struct bench *bench = *state;
	bench_wait_ms(bench, 0);
	struct control_event reply = bench_reply(bench, 1);
	reply.header.flags = 0;
	bench_tell(bench, &reply);
	assert_int_equal(bench->tx_count, 0);
	assert_non_null(snapshot_route(bench_routes(bench), SAID_OBU));
	assert_int_equal(bench->snapshot->flood_obu_count, 0);
	reply = bench_reply(bench, 2);
	bench_tell(bench, &reply);
	assert_int_equal(bench_routes(bench)->flood_obu_count, 1);
	reply = bench_reply(bench, 3);
	reply.header.flags = 0;
	bench_tell(bench, &reply);
	assert_int_equal(bench_routes(bench)->flood_obu_count, 0);
	assert_non_null(snapshot_route(bench->snapshot, SAID_OBU));
}

/* A reply passed on by another RSU moves the OBU behind that RSU with one message; an older
 * statement that comes late moves nothing. */
static void test_control_rsu__backhaul_reply_moves_an_obu(void **state)
{
	struct bench *bench = *state;
	bench_wait_ms(bench, 0);
	struct control_event reply = bench_reply(bench, 5);
	bench_tell(bench, &reply);
	struct control_event claim = reply;
	claim.header.destination = SAID_RSU;
	claim.header.sequence = SAID_EPOCH | 6;
	claim.from = said_backhaul(2);
	claim.header.ttl = 1;
	bench_tell(bench, &claim);
	const struct route *route = snapshot_route(bench_routes(bench), SAID_OBU);
	assert_int_equal(route->next.port, NODE_BACKHAUL);
	assert_int_equal(route->next.peer, 2);
	assert_int_equal(bench->snapshot->flood_obu_count, 0);
	bench_tell(bench, &claim);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_STALE), 1);
	claim.header.sequence = SAID_EPOCH | 4;
	claim.from = said_backhaul(1);
	bench_tell(bench, &claim);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_STALE), 2);
	assert_int_equal(snapshot_route(bench_routes(bench), SAID_OBU)->next.peer, 2);
	/* It comes back. */
	reply = bench_reply(bench, 7);
	bench_tell(bench, &reply);
	assert_int_equal(bench->tx_count, 2);
	assert_int_equal(snapshot_route(bench_routes(bench), SAID_OBU)->next.port, NODE_RADIO);
	assert_int_equal(bench->snapshot->flood_obu_count, 1);
}

/* An OBU known only through another RSU, and RSUs known through their heartbeats, both end with
 * silence. */
static void test_control_rsu__backhaul_routes_expire(void **state)
{
	struct bench *bench = *state;
	bench_wait_ms(bench, 0);
	struct control_event claim = bench_reply(bench, 1);
	claim.header.destination = SAID_RSU;
	claim.from = said_backhaul(1);
	bench_tell(bench, &claim);
	struct control_event heartbeat = said_heartbeat(1, 1, 0, bench->now_ns);
	heartbeat.from = said_backhaul(1);
	bench_tell(bench, &heartbeat);
	const struct snapshot *snapshot = bench_routes(bench);
	assert_int_equal(snapshot_route(snapshot, SAID_RSU)->role, NODE_RSU);
	assert_int_equal(snapshot_route(snapshot, SAID_OBU)->role, NODE_OBU);
	assert_int_equal(snapshot->flood_obu_count, 0);
	assert_int_equal(snapshot->flood_count, 1);
	bench_wait_ms(bench, 300);
	assert_non_null(snapshot_route(bench_routes(bench), SAID_OBU));
	bench_wait_ms(bench, 400);
	assert_null(snapshot_route(bench_routes(bench), SAID_OBU));
	assert_null(snapshot_route(bench->snapshot, SAID_RSU));
}

/* What comes over the backhaul is believed only if it makes sense there. */
static void test_control_rsu__refuses_nonsense_from_the_backhaul(void **state)
{
	struct bench *bench = *state;
	bench_wait_ms(bench, 0);
	struct control_event good = bench_reply(bench, 1);
	good.header.destination = SAID_RSU;
	good.from = said_backhaul(1);
	struct control_event bad[8];
	for (uint32_t i = 0; i < 8; i++)
		bad[i] = good;
	bad[0].from.peer = 3;
	bad[1].header.destination = SAID_SELF;
	bad[2].header.flags = 0;
	bad[3].reply.heartbeat.period_ms = 0;
	bad[4].header.destination = HAUL_NODE_BROADCAST;
	bad[5].broadcast = true;
	bad[6] = said_heartbeat(1, 3, 0, bench->now_ns);
	bad[6].from = said_backhaul(3);
	bad[7] = said_heartbeat(1, 1, 0, bench->now_ns);
	bad[7].from = said_backhaul(1);
	bad[7].reply.heartbeat.period_ms = 1;
	control_events(bench->control, bad, 8);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_INVALID), 8);
	assert_null(snapshot_route(bench_routes(bench), SAID_OBU));
	/* An RSU does not reply, by either way. */
	struct control_event heartbeat = said_heartbeat(1, 1, 0, bench->now_ns);
	heartbeat.from = said_backhaul(1);
	bench_tell(bench, &heartbeat);
	bench_tell(bench, &heartbeat);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_DUPLICATE), 1);
	good.header.origin = SAID_RSU;
	good.header.destination = SAID_RSU + 1;
	bench_tell(bench, &good);
	struct control_event radio = bench_reply(bench, 9);
	radio.header.origin = SAID_RSU;
	bench_tell(bench, &radio);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_INVALID), 10);
}

/* Routes to OBUs end when their replies stop. */
static void test_control_rsu__routes_expire_with_replies(void **state)
{
	struct bench *bench = *state;
	bench_wait_ms(bench, 0);
	const struct control_event reply = bench_reply(bench, 1);
	bench_tell(bench, &reply);
	bench_wait_ms(bench, 300);
	assert_non_null(snapshot_route(bench_routes(bench), SAID_OBU));
	bench_wait_ms(bench, 400);
	assert_null(snapshot_route(bench_routes(bench), SAID_OBU));
	assert_int_equal(bench->snapshot->flood_count, 0);
}

/* Defect 12: a round trip computed from the sender's own words killed an RSU with one frame. Here a
 * reply must repeat a heartbeat that we sent, to the nanosecond; all else is counted and changes
 * nothing. */
static void test_control_rsu__defect_12_hostile_replies_are_refused(void **state)
{
	struct bench *bench = *state;
	bench_wait_ms(bench, 0);
	bench_wait_ms(bench, SAID_PERIOD_MS + 10);
	const uint64_t times[] = {
		0, 1, UINT64_MAX, UINT64_MAX / 2, bench->sent.time_ns + 1, bench->sent.time_ns - 1
	};
	const uint32_t holds[] = { UINT32_MAX, UINT32_MAX / 2, 1001 };
	const uint32_t ids[] = { 0, 1, 3, 1000, UINT32_MAX, UINT32_MAX / 2 };
	uint64_t refused = 0;
	uint64_t sequence = 0;
	bench->now_ns += NS_PER_MS;
	for (uint32_t i = 0; i < sizeof times / sizeof *times; i++, refused++) {
		struct control_event event =
			said_reply(&bench->sent, SAID_SELF, ++sequence, 1, bench->now_ns);
		event.reply.heartbeat.time_ns = times[i];
		bench_tell(bench, &event);
	}
	for (uint32_t i = 0; i < sizeof holds / sizeof *holds; i++, refused++) {
		struct control_event event =
			said_reply(&bench->sent, SAID_SELF, ++sequence, 1, bench->now_ns);
		event.reply.hold_us = holds[i];
		bench_tell(bench, &event);
	}
	for (uint32_t i = 0; i < sizeof ids / sizeof *ids; i++, refused++) {
		struct control_event event =
			said_reply(&bench->sent, SAID_SELF, ++sequence, 1, bench->now_ns);
		event.reply.heartbeat.id = ids[i];
		bench_tell(bench, &event);
	}
	assert_int_equal(bench_counter(bench, CONTROL_DROP_INVALID) +
				 bench_counter(bench, CONTROL_DROP_STALE),
			 refused);
	assert_int_equal(bench_counter(bench, CONTROL_REPLIES_HEARD), 0);
	assert_null(snapshot_route(bench_routes(bench), SAID_OBU));
	const struct control_event good = said_reply(&bench->sent, SAID_SELF, 1, 1, bench->now_ns);
	bench_tell(bench, &good);
	assert_int_equal(bench_counter(bench, CONTROL_REPLIES_HEARD), 1);
}

/* An answer to one of the last heartbeats counts, one to an older heartbeat does not. */
static void test_control_rsu__old_answers_are_stale(void **state)
{
	struct bench *bench = *state;
	bench_wait_ms(bench, 0);
	const struct haul_heartbeat first = bench->sent;
	for (uint32_t i = 1; i < BEACON_REMEMBERED; i++)
		bench_wait_ms(bench, SAID_PERIOD_MS + 10);
	struct control_event event = said_reply(&first, SAID_SELF, 1, 1, bench->now_ns);
	bench_tell(bench, &event);
	assert_int_equal(bench_counter(bench, CONTROL_REPLIES_HEARD), 1);
	bench_wait_ms(bench, SAID_PERIOD_MS + 10);
	event = said_reply(&first, SAID_SELF, 2, 1, bench->now_ns);
	bench_tell(bench, &event);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_STALE), 1);
}

/* Our own heartbeat, passed on by those who heard it, and a reply for another RSU end here. */
static void test_control_rsu__own_heartbeat_and_strange_reply_end_here(void **state)
{
	struct bench *bench = *state;
	bench_wait_ms(bench, 0);
	struct control_event event = said_heartbeat(1, 4, 1, bench->now_ns);
	event.header.origin = SAID_SELF;
	bench_tell(bench, &event);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_LOOP), 1);
	event = bench_reply(bench, 1);
	event.header.destination = SAID_RSU;
	bench_tell(bench, &event);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_NO_ROUTE), 1);
	event = said_heartbeat(1, 4, 1, bench->now_ns); /* another RSU's, by radio */
	bench_tell(bench, &event);
	assert_int_equal(bench->tx_count, 0);
	assert_null(snapshot_route(bench_routes(bench), SAID_RSU));
	/* A reply repeated, and one whose client is no station. */
	event = bench_reply(bench, 2);
	bench_tell(bench, &event);
	bench_tell(bench, &event);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_DUPLICATE), 1);
	event = bench_reply(bench, 3);
	event.reply.client = HAUL_NODE_BROADCAST;
	bench_tell(bench, &event);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_INVALID), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_control_rsu__heartbeats_keep_their_period,
						bench_open_rsu, bench_close),
		cmocka_unit_test_setup_teardown(
			test_control_rsu__defect_12_any_period_and_jitter_work, bench_open_rsu,
			bench_close),
		cmocka_unit_test_setup_teardown(test_control_rsu__pause_is_not_made_up_for,
						bench_open_rsu, bench_close),
		cmocka_unit_test_setup_teardown(test_control_rsu__reply_attaches_an_obu,
						bench_open_rsu, bench_close),
		cmocka_unit_test_setup_teardown(test_control_rsu__unmarked_reply_detaches,
						bench_open_rsu, bench_close),
		cmocka_unit_test_setup_teardown(test_control_rsu__backhaul_reply_moves_an_obu,
						bench_open_rsu, bench_close),
		cmocka_unit_test_setup_teardown(test_control_rsu__backhaul_routes_expire,
						bench_open_rsu, bench_close),
		cmocka_unit_test_setup_teardown(
			test_control_rsu__refuses_nonsense_from_the_backhaul, bench_open_rsu,
			bench_close),
		cmocka_unit_test_setup_teardown(test_control_rsu__routes_expire_with_replies,
						bench_open_rsu, bench_close),
		cmocka_unit_test_setup_teardown(
			test_control_rsu__defect_12_hostile_replies_are_refused, bench_open_rsu,
			bench_close),
		cmocka_unit_test_setup_teardown(test_control_rsu__old_answers_are_stale,
						bench_open_rsu, bench_close),
		cmocka_unit_test_setup_teardown(
			test_control_rsu__own_heartbeat_and_strange_reply_end_here, bench_open_rsu,
			bench_close),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
