#include "lib/testlib.h"
#include "node/bench_control.h"

/* A heartbeat is passed on to everybody and answered, once, to the neighbour it came from, marked
 * since its RSU is the chosen one. */
static void test_control_obu__passes_on_and_answers_once(void **state)
{
	struct bench *bench = *state;
	struct control_event event = said_heartbeat(1, 4, 2, bench->now_ns);
	bench_tell(bench, &event);
	assert_int_equal(bench->tx_count, 2);
	assert_int_equal(bench->tx[0].to.peer, 0);
	assert_int_equal(bench->tx[0].bytes[1], HAUL_MESSAGE_HEARTBEAT);
	assert_int_equal(bench->tx[0].bytes[HAUL_MESSAGE_HEADER_BYTES + 4], 3);
	assert_int_equal(bench->tx[1].to.peer, 4);
	assert_int_equal(bench->tx[1].bytes[1], HAUL_MESSAGE_REPLY);
	assert_int_equal(bench->tx[1].bytes[2], HAUL_MESSAGE_ATTACHED);
	struct haul_heartbeat_reply reply;
	haul_reply_get(bench->tx[1].bytes + HAUL_MESSAGE_HEADER_BYTES, &reply);
	assert_int_equal(reply.heartbeat.time_ns, event.reply.heartbeat.time_ns);
	assert_int_equal(reply.client, UINT64_C(0x0600000000ff));
	bench_tell(bench, &event);
	assert_int_equal(bench->tx_count, 0);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_DUPLICATE), 1);
	assert_int_equal(bench_routes(bench)->upstream.node, SAID_RSU);
	/* Another RSU is answered too, but not marked. */
	event.header.origin = SAID_RSU + 5;
	event.from.peer = 6;
	bench_tell(bench, &event);
	assert_int_equal(bench->tx_count, 2);
	assert_int_equal(bench->tx[1].bytes[2], 0);
	assert_non_null(snapshot_route(bench_routes(bench), SAID_RSU + 5));
}

/* Defect 13: nothing travels for ever. A heartbeat whose TTL is used up is answered but not passed
 * on; a reply whose TTL is used up, a repeat, and one handed back to where it would go are not
 * passed on. */
static void test_control_obu__defect_13_ttl_and_repeats_end_everything(void **state)
{
	struct bench *bench = *state;
	struct control_event event = said_heartbeat(1, 4, 7, bench->now_ns);
	assert_int_equal(event.header.ttl, 1);
	bench_tell(bench, &event);
	assert_int_equal(bench->tx_count, 1);
	assert_int_equal(bench->tx[0].bytes[1], HAUL_MESSAGE_REPLY);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_TTL), 1);
	const struct haul_heartbeat answered = event.reply.heartbeat;
	event = said_reply(&answered, SAID_RSU, 1, 1, bench->now_ns);
	event.header.ttl = 1;
	bench_tell(bench, &event);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_TTL), 2);
	event = said_reply(&answered, SAID_RSU, 2, 1, bench->now_ns);
	bench_tell(bench, &event);
	assert_int_equal(bench->tx_count, 1);
	assert_int_equal(bench->tx[0].to.peer, 4);
	assert_int_equal(bench->tx[0].bytes[3], event.header.ttl - 1);
	assert_int_equal(bench->tx[0].bytes[HAUL_MESSAGE_HEADER_BYTES + 4], 2);
	bench_tell(bench, &event);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_DUPLICATE), 1);
	event = said_reply(&answered, SAID_RSU, 3, 1, bench->now_ns);
	event.from = said_radio(4);
	bench_tell(bench, &event);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_LOOP), 1);
	event = said_reply(&answered, SAID_RSU, 4, 1, bench->now_ns);
	event.header.origin = SAID_SELF;
	bench_tell(bench, &event);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_LOOP), 2);
	event = said_reply(&answered, SAID_RSU + 9, 5, 1, bench->now_ns);
	bench_tell(bench, &event);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_NO_ROUTE), 1);
	assert_int_equal(bench->tx_count, 0);
	assert_int_equal(bench_counter(bench, CONTROL_REPLIES_PASSED_ON), 1);
}

/* Defect 3: nobody looked whom a frame was for, so every hearer passed a reply on, and hops never
 * grew. A reply that came by broadcast goes nowhere, and each node adds its hop. */
static void test_control_obu__defect_3_broadcast_replies_go_nowhere(void **state)
{
	struct bench *bench = *state;
	const struct control_event heartbeat = said_heartbeat(1, 4, 0, bench->now_ns);
	bench_tell(bench, &heartbeat);
	struct control_event event =
		said_reply(&heartbeat.reply.heartbeat, SAID_RSU, 1, 2, bench->now_ns);
	event.broadcast = true;
	bench_tell(bench, &event);
	assert_int_equal(bench->tx_count, 0);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_INVALID), 1);
	assert_null(snapshot_route(bench_routes(bench), SAID_OBU));
	event.broadcast = false;
	bench_tell(bench, &event);
	assert_int_equal(bench->tx_count, 1);
	assert_int_equal(bench->tx[0].bytes[HAUL_MESSAGE_HEADER_BYTES + 4], 3);
	assert_int_equal(snapshot_route(bench_routes(bench), SAID_OBU)->hops, 3);
}

/* The way back to who replied through us ends when the replies stop, or when nothing can be sent to
 * the neighbour it leads to. */
static void test_control_obu__downstream_routes_end(void **state)
{
	struct bench *bench = *state;
	for (uint32_t round = 0; round < 2; round++) {
		const struct control_event heartbeat =
			said_heartbeat(1 + round * 7, 4, 0, bench->now_ns);
		bench_tell(bench, &heartbeat);
		struct control_event event = said_reply(&heartbeat.reply.heartbeat, SAID_RSU,
							1 + round, 0, bench->now_ns);
		bench_tell(bench, &event);
		assert_int_equal(snapshot_route(bench_routes(bench), SAID_OBU)->next.peer, 7);
		if (round == 0) {
			event = (struct control_event){ .kind = CONTROL_SEND_FAILED,
							.from = said_radio(7),
							.now_ns = bench->now_ns };
			bench_tell(bench, &event);
		} else {
			bench_wait_ms(bench, 700);
		}
		assert_null(snapshot_route(bench_routes(bench), SAID_OBU));
	}
}

/* A send that failed makes the next best candidate the way at once, and the RSU is told by the new
 * way. */
static void test_control_obu__failed_send_rotates_and_tells(void **state)
{
	struct bench *bench = *state;
	struct control_event event = said_heartbeat(1, 4, 1, bench->now_ns);
	bench_tell(bench, &event);
	event.from = said_radio(5);
	bench_tell(bench, &event);
	struct control_candidate list[CONTROL_CANDIDATES_MAX];
	assert_int_equal(control_candidates(bench->control, list, CONTROL_CANDIDATES_MAX), 2);
	assert_true(list[0].chosen && !list[1].chosen);
	assert_int_equal(list[0].next.peer, 4);
	assert_int_equal(list[0].hops, 2);
	event = (struct control_event){ .kind = CONTROL_SEND_FAILED,
					.from = said_radio(4),
					.now_ns = bench->now_ns };
	bench_tell(bench, &event);
	assert_int_equal(bench->tx_count, 1);
	assert_int_equal(bench->tx[0].to.peer, 5);
	assert_int_equal(bench->tx[0].bytes[1], HAUL_MESSAGE_REPLY);
	assert_int_equal(bench_routes(bench)->upstream.next.peer, 5);
	assert_int_equal(bench_counter(bench, CONTROL_UPSTREAM_CHANGES), 2);
}

/* When the chosen RSU falls silent the next best is told at once that it is chosen now, without
 * waiting for its next heartbeat. */
static void test_control_obu__new_choice_is_told_at_once(void **state)
{
	struct bench *bench = *state;
	struct control_event other = said_heartbeat(1, 5, 1, bench->now_ns);
	other.header.origin = SAID_RSU + 5;
	const struct control_event first = said_heartbeat(1, 4, 0, bench->now_ns);
	bench_tell(bench, &first);
	for (uint32_t id = 1; id <= 4; id++) {
		other.reply.heartbeat.id = id;
		other.now_ns = bench->now_ns;
		bench_tell(bench, &other);
		assert_int_equal(bench->tx[1].bytes[2], 0);
		bench_wait_ms(bench, id < 4 ? SAID_PERIOD_MS : SAID_PERIOD_MS / 2 + 1);
	}
	assert_int_equal(bench->tx_count, 1);
	assert_int_equal(bench->tx[0].to.peer, 5);
	assert_int_equal(bench->tx[0].bytes[1], HAUL_MESSAGE_REPLY);
	assert_int_equal(bench->tx[0].bytes[2], HAUL_MESSAGE_ATTACHED);
	assert_int_equal(bench_routes(bench)->upstream.node, SAID_RSU + 5);
}

/* What no honest node sends to an OBU is counted, and changes nothing. */
static void test_control_obu__refuses_nonsense(void **state)
{
	struct bench *bench = *state;
	const struct control_event heartbeat = said_heartbeat(1, 4, 0, bench->now_ns);
	bench_tell(bench, &heartbeat);
	const struct control_event reply =
		said_reply(&heartbeat.reply.heartbeat, SAID_RSU, 1, 0, bench->now_ns);
	struct control_event bad[14];
	for (uint32_t i = 0; i < 14; i++)
		bad[i] = i < 6 ? heartbeat : reply;
	bad[0].from = said_backhaul(4);
	bad[1].from.peer = 0;
	bad[2].from.peer = HAUL_PEER_NONE;
	bad[3].header.origin = 0;
	bad[4].header.origin = HAUL_NODE_BROADCAST;
	bad[5].header.destination = SAID_SELF;
	bad[6].from = said_backhaul(4);
	bad[7].reply.client = 0;
	bad[8].header.origin = SAID_RSU;
	bad[9].header.destination = HAUL_NODE_BROADCAST;
	bad[10].reply.heartbeat.hops = 255;
	bad[11].header.ttl = 0;
	bad[12].kind = (enum control_event_kind)99;
	bad[13].kind = CONTROL_SEND_FAILED;
	bad[13].from.peer = 0;
	control_events(bench->control, bad, 14);
	bench_take(bench);
	assert_int_equal(bench->tx_count, 0);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_INVALID), 14);
	struct control_event stale = reply;
	stale.reply.heartbeat.id = 2;
	bench_tell(bench, &stale);
	stale = reply;
	stale.reply.heartbeat.period_ms = 50;
	bench_tell(bench, &stale);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_STALE), 2);
	const struct control_event learn = { .kind = CONTROL_LEARN, .mac = 0, .owner = SAID_OBU };
	bench_tell(bench, &learn);
	assert_int_equal(bench_counter(bench, CONTROL_DROP_INVALID), 15);
}

/* An OBU that turns out to be an RSU has one route, not two. */
static void test_control_obu__node_is_rsu_or_obu(void **state)
{
	struct bench *bench = *state;
	struct control_event heartbeat = said_heartbeat(1, 4, 0, bench->now_ns);
	bench_tell(bench, &heartbeat);
	const struct control_event reply =
		said_reply(&heartbeat.reply.heartbeat, SAID_RSU, 1, 0, bench->now_ns);
	bench_tell(bench, &reply);
	heartbeat.header.origin = SAID_OBU;
	bench_tell(bench, &heartbeat);
	assert_int_equal(snapshot_route(bench_routes(bench), SAID_OBU)->role, NODE_RSU);
	struct route routes[8];
	assert_int_equal(control_routes(bench->control, routes, 8), 2);
	assert_int_equal(control_routes(bench->control, routes, 1), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_control_obu__passes_on_and_answers_once,
						bench_open_obu, bench_close),
		cmocka_unit_test_setup_teardown(
			test_control_obu__defect_13_ttl_and_repeats_end_everything, bench_open_obu,
			bench_close),
		cmocka_unit_test_setup_teardown(
			test_control_obu__defect_3_broadcast_replies_go_nowhere, bench_open_obu,
			bench_close),
		cmocka_unit_test_setup_teardown(test_control_obu__downstream_routes_end,
						bench_open_obu, bench_close),
		cmocka_unit_test_setup_teardown(test_control_obu__failed_send_rotates_and_tells,
						bench_open_obu, bench_close),
		cmocka_unit_test_setup_teardown(test_control_obu__new_choice_is_told_at_once,
						bench_open_obu, bench_close),
		cmocka_unit_test_setup_teardown(test_control_obu__refuses_nonsense, bench_open_obu,
						bench_close),
		cmocka_unit_test_setup_teardown(test_control_obu__node_is_rsu_or_obu,
						bench_open_obu, bench_close),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
