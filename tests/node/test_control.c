#include <errno.h>
#include <string.h>

#include <haul/err.h>
#include "lib/testlib.h"
#include "node/beacon.h"
#include "node/said.h"

enum { TAKE_MAX = 256 };

/* One control, what it sent last, and its time. */
struct bench {
	struct control *control;
	struct snapshot *snapshot;
	struct control_tx tx[TAKE_MAX];
	uint32_t tx_count;
	struct haul_heartbeat sent; /* RSU: its last heartbeat */
	int64_t now_ns;
};

static void open_control(struct bench *bench, const struct control_options *options)
{
	struct haul_err err = { 0 };
	memset(bench, 0, sizeof *bench);
	bench->now_ns = 7 * NS_PER_S;
	if (control_open(options, bench->now_ns, &bench->control, &err) < 0)
		fail_msg("%s", err.text);
}

static struct bench bench_memory;

static int open_rsu(void **state)
{
	struct control_options options = said_options(NODE_RSU);
	options.backhaul_peers = 2;
	open_control(&bench_memory, &options);
	*state = &bench_memory;
	return 0;
}

static int open_obu(void **state)
{
	const struct control_options options = said_options(NODE_OBU);
	open_control(&bench_memory, &options);
	*state = &bench_memory;
	return 0;
}

static int close_control(void **state)
{
	struct bench *bench = *state;
	control_close(bench->control);
	control_close(NULL);
	snapshot_free(bench->snapshot);
	return 0;
}

static uint64_t counter(const struct bench *bench, enum control_counter index)
{
	return control_stats(bench->control)->extra[index];
}

static const struct snapshot *routes_now(struct bench *bench)
{
	struct snapshot *snapshot = NULL;
	assert_int_equal(control_snapshot(bench->control, bench->now_ns, &snapshot), 0);
	if (snapshot != NULL) {
		snapshot_free(bench->snapshot);
		bench->snapshot = snapshot;
	}
	return bench->snapshot;
}

static void take(struct bench *bench)
{
	bench->tx_count = control_take(bench->control, bench->tx, TAKE_MAX);
}

static void tell(struct bench *bench, const struct control_event *event)
{
	control_events(bench->control, event, 1);
	take(bench);
}

/* Move time on; remember the heartbeat an RSU sends meanwhile. */
static void wait_ms(struct bench *bench, int64_t ms)
{
	bench->now_ns += ms * NS_PER_MS;
	(void)control_tick(bench->control, bench->now_ns);
	take(bench);
	if (bench->tx_count > 0 && bench->tx[0].bytes[1] == HAUL_MESSAGE_HEARTBEAT)
		haul_heartbeat_get(bench->tx[0].bytes + HAUL_MESSAGE_HEADER_BYTES, &bench->sent);
}

/* A reply to the RSU's last heartbeat, a millisecond later. */
static struct control_event reply_to_rsu(struct bench *bench, uint64_t sequence)
{
	bench->now_ns += NS_PER_MS;
	return said_reply(&bench->sent, SAID_SELF, sequence, 1, bench->now_ns);
}

/* ---- open ---- */

/* Every value out of range is refused with its name, and nothing is opened. */
static void test_control_open__names_what_is_out_of_range(void **state)
{
	(void)state;
	struct case_row {
		const char *name;
		size_t offset;
		uint32_t bad;
	};
#define ROW(field, value)                                                                          \
	{                                                                                          \
#field, offsetof(struct control_options, field), value                             \
	}
	const struct case_row rows[] = {
		ROW(history, 3),       ROW(history, 33),        ROW(candidates, 0),
		ROW(candidates, 9),    ROW(missed_max, 0),      ROW(missed_max, 17),
		ROW(ttl, 0),           ROW(ttl, 256),           ROW(period_ms, 9),
		ROW(period_ms, 60001), ROW(jitter_percent, 51), ROW(backhaul_peers, 257),
	};
#undef ROW
	for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct control_options options = said_options(NODE_RSU);
		struct control *control = NULL;
		struct haul_err err = { 0 };
		memcpy((char *)&options + rows[i].offset, &rows[i].bad, sizeof rows[i].bad);
		assert_int_equal(control_open(&options, 0, &control, &err), -EINVAL);
		assert_null(control);
		assert_non_null(strstr(err.text, rows[i].name));
	}
	struct control_options options = said_options(NODE_OBU);
	struct control *control = NULL;
	struct haul_err err = { 0 };
	options.self = HAUL_NODE_BROADCAST;
	assert_int_equal(control_open(&options, 0, &control, &err), -EINVAL);
	options = said_options(NODE_OBU);
	options.client = 0;
	assert_int_equal(control_open(&options, 0, &control, &err), -EINVAL);
	assert_int_equal(control_open(&options, 0, &control, NULL), -EINVAL);
	assert_null(control);
}

/* The first snapshot always comes, with our own TAP in it; then none until something changes. */
static void test_control_snapshot__first_always_then_on_change(void **state)
{
	struct bench *bench = *state;
	const struct snapshot *first = routes_now(bench);
	assert_non_null(first);
	assert_int_equal(first->generation, 1);
	assert_int_equal(snapshot_client(first, UINT64_C(0x0600000000ff))->owner, SAID_SELF);
	struct snapshot *none = bench->snapshot;
	assert_int_equal(control_snapshot(bench->control, bench->now_ns, &none), 0);
	assert_null(none);
	const struct control_event learn = { .kind = CONTROL_LEARN,
					     .now_ns = bench->now_ns,
					     .mac = SAID_CLIENT,
					     .owner = SAID_OBU };
	tell(bench, &learn);
	assert_int_equal(routes_now(bench)->generation, 2);
	assert_int_equal(snapshot_client(bench->snapshot, SAID_CLIENT)->owner, SAID_OBU);
}

/* ---- RSU: heartbeats ---- */

/* Heartbeats go to everybody on the radio and to each RSU of the backhaul, one a period on average, each
 * within its spread. */
static void test_control_rsu__heartbeats_keep_their_period(void **state)
{
	struct bench *bench = *state;
	const int64_t start_ns = bench->now_ns;
	int64_t now_ns = start_ns;
	for (uint32_t id = 1; id <= 200; id++) {
		const int64_t due_ns = control_tick(bench->control, now_ns);
		take(bench);
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
	assert_int_equal(counter(bench, CONTROL_HEARTBEATS_SENT), 200);
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
	wait_ms(bench, 0);
	wait_ms(bench, 100000);
	assert_int_equal(bench->tx_count, 3);
	assert_int_equal(bench->sent.id, 2);
	wait_ms(bench, 0);
	assert_int_equal(bench->tx_count, 0);
}

/* ---- RSU: replies ---- */

/* A reply gives a route with its hops and round trip, a client, and, being marked, an attachment that
 * other RSUs are told of; again only half a period later. */
static void test_control_rsu__reply_attaches_an_obu(void **state)
{
	struct bench *bench = *state;
	wait_ms(bench, 0);
	struct control_event reply = reply_to_rsu(bench, 1);
	reply.reply.hold_us = 300;
	tell(bench, &reply);
	assert_int_equal(bench->tx_count, 2);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(bench->tx[i].to.port, NODE_BACKHAUL);
		assert_int_equal(bench->tx[i].to.peer, i + 1);
		assert_int_equal(bench->tx[i].bytes[2], HAUL_MESSAGE_ATTACHED);
		assert_int_equal(bench->tx[i].bytes[3], 1); /* TTL: no further */
	}
	const struct snapshot *snapshot = routes_now(bench);
	const struct route *route = snapshot_route(snapshot, SAID_OBU);
	assert_int_equal(route->next.port, NODE_RADIO);
	assert_int_equal(route->next.peer, 7);
	assert_int_equal(route->hops, 2);
	assert_int_equal(route->rtt_ns, NS_PER_MS - 300 * NS_PER_US);
	assert_int_equal(snapshot_client(snapshot, SAID_CLIENT)->owner, SAID_OBU);
	assert_int_equal(snapshot->flood_obu_count, 1);
	reply = reply_to_rsu(bench, 2);
	tell(bench, &reply);
	assert_int_equal(bench->tx_count, 0);
	bench->now_ns += SAID_PERIOD_MS / 2 * NS_PER_MS;
	reply = reply_to_rsu(bench, 3);
	tell(bench, &reply);
	assert_int_equal(bench->tx_count, 2);
	assert_int_equal(counter(bench, CONTROL_REPLIES_PASSED_ON), 4);
}

/* Merely heard: a route, but no attachment; and an attached OBU that says so no longer is. */
static void test_control_rsu__unmarked_reply_detaches(void **state)
{
	struct bench *bench = *state;
	wait_ms(bench, 0);
	struct control_event reply = reply_to_rsu(bench, 1);
	reply.header.flags = 0;
	tell(bench, &reply);
	assert_int_equal(bench->tx_count, 0);
	assert_non_null(snapshot_route(routes_now(bench), SAID_OBU));
	assert_int_equal(bench->snapshot->flood_obu_count, 0);
	reply = reply_to_rsu(bench, 2);
	tell(bench, &reply);
	assert_int_equal(routes_now(bench)->flood_obu_count, 1);
	reply = reply_to_rsu(bench, 3);
	reply.header.flags = 0;
	tell(bench, &reply);
	assert_int_equal(routes_now(bench)->flood_obu_count, 0);
	assert_non_null(snapshot_route(bench->snapshot, SAID_OBU));
}

/* A reply passed on by another RSU moves the OBU behind that RSU with one message; an older statement
 * that comes late moves nothing. */
static void test_control_rsu__backhaul_reply_moves_an_obu(void **state)
{
	struct bench *bench = *state;
	wait_ms(bench, 0);
	struct control_event reply = reply_to_rsu(bench, 5);
	tell(bench, &reply);
	struct control_event claim = reply;
	claim.header.destination = SAID_RSU;
	claim.header.sequence = SAID_EPOCH | 6;
	claim.from = said_backhaul(2);
	claim.header.ttl = 1;
	tell(bench, &claim);
	const struct route *route = snapshot_route(routes_now(bench), SAID_OBU);
	assert_int_equal(route->next.port, NODE_BACKHAUL);
	assert_int_equal(route->next.peer, 2);
	assert_int_equal(bench->snapshot->flood_obu_count, 0);
	tell(bench, &claim);
	assert_int_equal(counter(bench, CONTROL_DROP_STALE), 1);
	claim.header.sequence = SAID_EPOCH | 4;
	claim.from = said_backhaul(1);
	tell(bench, &claim);
	assert_int_equal(counter(bench, CONTROL_DROP_STALE), 2);
	assert_int_equal(snapshot_route(routes_now(bench), SAID_OBU)->next.peer, 2);
	/* It comes back. */
	reply = reply_to_rsu(bench, 7);
	tell(bench, &reply);
	assert_int_equal(bench->tx_count, 2);
	assert_int_equal(snapshot_route(routes_now(bench), SAID_OBU)->next.port, NODE_RADIO);
	assert_int_equal(bench->snapshot->flood_obu_count, 1);
}

/* An OBU known only through another RSU, and RSUs known through their heartbeats, both end with
 * silence. */
static void test_control_rsu__backhaul_routes_expire(void **state)
{
	struct bench *bench = *state;
	wait_ms(bench, 0);
	struct control_event claim = reply_to_rsu(bench, 1);
	claim.header.destination = SAID_RSU;
	claim.from = said_backhaul(1);
	tell(bench, &claim);
	struct control_event heartbeat = said_heartbeat(1, 1, 0, bench->now_ns);
	heartbeat.from = said_backhaul(1);
	tell(bench, &heartbeat);
	const struct snapshot *snapshot = routes_now(bench);
	assert_int_equal(snapshot_route(snapshot, SAID_RSU)->role, NODE_RSU);
	assert_int_equal(snapshot_route(snapshot, SAID_OBU)->role, NODE_OBU);
	assert_int_equal(snapshot->flood_obu_count, 0);
	assert_int_equal(snapshot->flood_count, 1);
	wait_ms(bench, 300);
	assert_non_null(snapshot_route(routes_now(bench), SAID_OBU));
	wait_ms(bench, 400);
	assert_null(snapshot_route(routes_now(bench), SAID_OBU));
	assert_null(snapshot_route(bench->snapshot, SAID_RSU));
}

/* What comes over the backhaul is believed only if it makes sense there. */
static void test_control_rsu__refuses_nonsense_from_the_backhaul(void **state)
{
	struct bench *bench = *state;
	wait_ms(bench, 0);
	struct control_event good = reply_to_rsu(bench, 1);
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
	assert_int_equal(counter(bench, CONTROL_DROP_INVALID), 8);
	assert_null(snapshot_route(routes_now(bench), SAID_OBU));
	/* An RSU does not reply, by either way. */
	struct control_event heartbeat = said_heartbeat(1, 1, 0, bench->now_ns);
	heartbeat.from = said_backhaul(1);
	tell(bench, &heartbeat);
	tell(bench, &heartbeat);
	assert_int_equal(counter(bench, CONTROL_DROP_DUPLICATE), 1);
	good.header.origin = SAID_RSU;
	good.header.destination = SAID_RSU + 1;
	tell(bench, &good);
	struct control_event radio = reply_to_rsu(bench, 9);
	radio.header.origin = SAID_RSU;
	tell(bench, &radio);
	assert_int_equal(counter(bench, CONTROL_DROP_INVALID), 10);
}

/* Routes to OBUs end when their replies stop. */
static void test_control_rsu__routes_expire_with_replies(void **state)
{
	struct bench *bench = *state;
	wait_ms(bench, 0);
	const struct control_event reply = reply_to_rsu(bench, 1);
	tell(bench, &reply);
	wait_ms(bench, 300);
	assert_non_null(snapshot_route(routes_now(bench), SAID_OBU));
	wait_ms(bench, 400);
	assert_null(snapshot_route(routes_now(bench), SAID_OBU));
	assert_int_equal(bench->snapshot->flood_count, 0);
}

/* Defect 12: a round trip computed from the sender's own words killed an RSU with one frame. Here a reply
 * must repeat a heartbeat that we sent, to the nanosecond; all else is counted and changes nothing. */
static void test_control_rsu__defect_12_hostile_replies_are_refused(void **state)
{
	struct bench *bench = *state;
	wait_ms(bench, 0);
	wait_ms(bench, SAID_PERIOD_MS + 10);
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
		tell(bench, &event);
	}
	for (uint32_t i = 0; i < sizeof holds / sizeof *holds; i++, refused++) {
		struct control_event event =
			said_reply(&bench->sent, SAID_SELF, ++sequence, 1, bench->now_ns);
		event.reply.hold_us = holds[i];
		tell(bench, &event);
	}
	for (uint32_t i = 0; i < sizeof ids / sizeof *ids; i++, refused++) {
		struct control_event event =
			said_reply(&bench->sent, SAID_SELF, ++sequence, 1, bench->now_ns);
		event.reply.heartbeat.id = ids[i];
		tell(bench, &event);
	}
	assert_int_equal(counter(bench, CONTROL_DROP_INVALID) + counter(bench, CONTROL_DROP_STALE),
			 refused);
	assert_int_equal(counter(bench, CONTROL_REPLIES_HEARD), 0);
	assert_null(snapshot_route(routes_now(bench), SAID_OBU));
	const struct control_event good = said_reply(&bench->sent, SAID_SELF, 1, 1, bench->now_ns);
	tell(bench, &good);
	assert_int_equal(counter(bench, CONTROL_REPLIES_HEARD), 1);
}

/* An answer to one of the last heartbeats counts, one to an older heartbeat does not. */
static void test_control_rsu__old_answers_are_stale(void **state)
{
	struct bench *bench = *state;
	wait_ms(bench, 0);
	const struct haul_heartbeat first = bench->sent;
	for (uint32_t i = 1; i < BEACON_REMEMBERED; i++)
		wait_ms(bench, SAID_PERIOD_MS + 10);
	struct control_event event = said_reply(&first, SAID_SELF, 1, 1, bench->now_ns);
	tell(bench, &event);
	assert_int_equal(counter(bench, CONTROL_REPLIES_HEARD), 1);
	wait_ms(bench, SAID_PERIOD_MS + 10);
	event = said_reply(&first, SAID_SELF, 2, 1, bench->now_ns);
	tell(bench, &event);
	assert_int_equal(counter(bench, CONTROL_DROP_STALE), 1);
}

/* Our own heartbeat, passed on by those who heard it, and a reply for another RSU end here. */
static void test_control_rsu__own_heartbeat_and_strange_reply_end_here(void **state)
{
	struct bench *bench = *state;
	wait_ms(bench, 0);
	struct control_event event = said_heartbeat(1, 4, 1, bench->now_ns);
	event.header.origin = SAID_SELF;
	tell(bench, &event);
	assert_int_equal(counter(bench, CONTROL_DROP_LOOP), 1);
	event = reply_to_rsu(bench, 1);
	event.header.destination = SAID_RSU;
	tell(bench, &event);
	assert_int_equal(counter(bench, CONTROL_DROP_NO_ROUTE), 1);
	event = said_heartbeat(1, 4, 1, bench->now_ns); /* another RSU's, by radio */
	tell(bench, &event);
	assert_int_equal(bench->tx_count, 0);
	assert_null(snapshot_route(routes_now(bench), SAID_RSU));
	/* A reply repeated, and one whose client is no station. */
	event = reply_to_rsu(bench, 2);
	tell(bench, &event);
	tell(bench, &event);
	assert_int_equal(counter(bench, CONTROL_DROP_DUPLICATE), 1);
	event = reply_to_rsu(bench, 3);
	event.reply.client = HAUL_NODE_BROADCAST;
	tell(bench, &event);
	assert_int_equal(counter(bench, CONTROL_DROP_INVALID), 1);
}

/* A full queue refuses what is more, and counts it; what was queued comes out in order. */
static void test_control_take__full_queue_counts_what_it_loses(void **state)
{
	struct bench *bench = *state;
	for (uint32_t i = 0; i < CONTROL_TX_MAX / 3 + 10; i++) {
		bench->now_ns += SAID_PERIOD_MS * 2 * NS_PER_MS;
		(void)control_tick(bench->control, bench->now_ns);
	}
	assert_int_equal(counter(bench, CONTROL_DROP_FULL),
			 (CONTROL_TX_MAX / 3 + 10) * 3 - CONTROL_TX_MAX);
	uint32_t taken = 0;
	uint32_t last_id = 0;
	for (take(bench); bench->tx_count > 0; take(bench)) {
		for (uint32_t i = 0; i < bench->tx_count; i++) {
			haul_heartbeat_get(bench->tx[i].bytes + HAUL_MESSAGE_HEADER_BYTES,
					   &bench->sent);
			assert_in_range(bench->sent.id, last_id, last_id + 1);
			last_id = bench->sent.id;
		}
		taken += bench->tx_count;
	}
	assert_int_equal(taken, CONTROL_TX_MAX);
}

/* ---- OBU ---- */

/* A heartbeat is passed on to everybody and answered, once, to the neighbour it came from, marked since
 * its RSU is the chosen one. */
static void test_control_obu__passes_on_and_answers_once(void **state)
{
	struct bench *bench = *state;
	struct control_event event = said_heartbeat(1, 4, 2, bench->now_ns);
	tell(bench, &event);
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
	tell(bench, &event);
	assert_int_equal(bench->tx_count, 0);
	assert_int_equal(counter(bench, CONTROL_DROP_DUPLICATE), 1);
	assert_int_equal(routes_now(bench)->upstream.node, SAID_RSU);
	/* Another RSU is answered too, but not marked. */
	event.header.origin = SAID_RSU + 5;
	event.from.peer = 6;
	tell(bench, &event);
	assert_int_equal(bench->tx_count, 2);
	assert_int_equal(bench->tx[1].bytes[2], 0);
	assert_non_null(snapshot_route(routes_now(bench), SAID_RSU + 5));
}

/* Defect 13: nothing travels for ever. A heartbeat whose TTL is used up is answered but not passed on;
 * a reply whose TTL is used up, a repeat, and one handed back to where it would go are not passed on. */
static void test_control_obu__defect_13_ttl_and_repeats_end_everything(void **state)
{
	struct bench *bench = *state;
	struct control_event event = said_heartbeat(1, 4, 7, bench->now_ns);
	assert_int_equal(event.header.ttl, 1);
	tell(bench, &event);
	assert_int_equal(bench->tx_count, 1);
	assert_int_equal(bench->tx[0].bytes[1], HAUL_MESSAGE_REPLY);
	assert_int_equal(counter(bench, CONTROL_DROP_TTL), 1);
	const struct haul_heartbeat answered = event.reply.heartbeat;
	event = said_reply(&answered, SAID_RSU, 1, 1, bench->now_ns);
	event.header.ttl = 1;
	tell(bench, &event);
	assert_int_equal(counter(bench, CONTROL_DROP_TTL), 2);
	event = said_reply(&answered, SAID_RSU, 2, 1, bench->now_ns);
	tell(bench, &event);
	assert_int_equal(bench->tx_count, 1);
	assert_int_equal(bench->tx[0].to.peer, 4);
	assert_int_equal(bench->tx[0].bytes[3], event.header.ttl - 1);
	assert_int_equal(bench->tx[0].bytes[HAUL_MESSAGE_HEADER_BYTES + 4], 2);
	tell(bench, &event);
	assert_int_equal(counter(bench, CONTROL_DROP_DUPLICATE), 1);
	event = said_reply(&answered, SAID_RSU, 3, 1, bench->now_ns);
	event.from = said_radio(4);
	tell(bench, &event);
	assert_int_equal(counter(bench, CONTROL_DROP_LOOP), 1);
	event = said_reply(&answered, SAID_RSU, 4, 1, bench->now_ns);
	event.header.origin = SAID_SELF;
	tell(bench, &event);
	assert_int_equal(counter(bench, CONTROL_DROP_LOOP), 2);
	event = said_reply(&answered, SAID_RSU + 9, 5, 1, bench->now_ns);
	tell(bench, &event);
	assert_int_equal(counter(bench, CONTROL_DROP_NO_ROUTE), 1);
	assert_int_equal(bench->tx_count, 0);
	assert_int_equal(counter(bench, CONTROL_REPLIES_PASSED_ON), 1);
}

/* Defect 3: nobody looked whom a frame was for, so every hearer passed a reply on, and hops never grew.
 * A reply that came by broadcast goes nowhere, and each node adds its hop. */
static void test_control_obu__defect_3_broadcast_replies_go_nowhere(void **state)
{
	struct bench *bench = *state;
	const struct control_event heartbeat = said_heartbeat(1, 4, 0, bench->now_ns);
	tell(bench, &heartbeat);
	struct control_event event =
		said_reply(&heartbeat.reply.heartbeat, SAID_RSU, 1, 2, bench->now_ns);
	event.broadcast = true;
	tell(bench, &event);
	assert_int_equal(bench->tx_count, 0);
	assert_int_equal(counter(bench, CONTROL_DROP_INVALID), 1);
	assert_null(snapshot_route(routes_now(bench), SAID_OBU));
	event.broadcast = false;
	tell(bench, &event);
	assert_int_equal(bench->tx_count, 1);
	assert_int_equal(bench->tx[0].bytes[HAUL_MESSAGE_HEADER_BYTES + 4], 3);
	assert_int_equal(snapshot_route(routes_now(bench), SAID_OBU)->hops, 3);
}

/* The way back to who replied through us ends when the replies stop, or when nothing can be sent to the
 * neighbour it leads to. */
static void test_control_obu__downstream_routes_end(void **state)
{
	struct bench *bench = *state;
	for (uint32_t round = 0; round < 2; round++) {
		const struct control_event heartbeat =
			said_heartbeat(1 + round * 7, 4, 0, bench->now_ns);
		tell(bench, &heartbeat);
		struct control_event event = said_reply(&heartbeat.reply.heartbeat, SAID_RSU,
							1 + round, 0, bench->now_ns);
		tell(bench, &event);
		assert_int_equal(snapshot_route(routes_now(bench), SAID_OBU)->next.peer, 7);
		if (round == 0) {
			event = (struct control_event){ .kind = CONTROL_SEND_FAILED,
							.from = said_radio(7),
							.now_ns = bench->now_ns };
			tell(bench, &event);
		} else {
			wait_ms(bench, 700);
		}
		assert_null(snapshot_route(routes_now(bench), SAID_OBU));
	}
}

/* A send that failed makes the next best candidate the way at once, and the RSU is told by the new
 * way. */
static void test_control_obu__failed_send_rotates_and_tells(void **state)
{
	struct bench *bench = *state;
	struct control_event event = said_heartbeat(1, 4, 1, bench->now_ns);
	tell(bench, &event);
	event.from = said_radio(5);
	tell(bench, &event);
	struct control_candidate list[CONTROL_CANDIDATES_MAX];
	assert_int_equal(control_candidates(bench->control, list, CONTROL_CANDIDATES_MAX), 2);
	assert_true(list[0].chosen && !list[1].chosen);
	assert_int_equal(list[0].next.peer, 4);
	assert_int_equal(list[0].hops, 2);
	event = (struct control_event){ .kind = CONTROL_SEND_FAILED,
					.from = said_radio(4),
					.now_ns = bench->now_ns };
	tell(bench, &event);
	assert_int_equal(bench->tx_count, 1);
	assert_int_equal(bench->tx[0].to.peer, 5);
	assert_int_equal(bench->tx[0].bytes[1], HAUL_MESSAGE_REPLY);
	assert_int_equal(routes_now(bench)->upstream.next.peer, 5);
	assert_int_equal(counter(bench, CONTROL_UPSTREAM_CHANGES), 2);
}

/* What no honest node sends to an OBU is counted, and changes nothing. */
static void test_control_obu__refuses_nonsense(void **state)
{
	struct bench *bench = *state;
	const struct control_event heartbeat = said_heartbeat(1, 4, 0, bench->now_ns);
	tell(bench, &heartbeat);
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
	take(bench);
	assert_int_equal(bench->tx_count, 0);
	assert_int_equal(counter(bench, CONTROL_DROP_INVALID), 14);
	struct control_event stale = reply;
	stale.reply.heartbeat.id = 2;
	tell(bench, &stale);
	stale = reply;
	stale.reply.heartbeat.period_ms = 50;
	tell(bench, &stale);
	assert_int_equal(counter(bench, CONTROL_DROP_STALE), 2);
	const struct control_event learn = { .kind = CONTROL_LEARN, .mac = 0, .owner = SAID_OBU };
	tell(bench, &learn);
	assert_int_equal(counter(bench, CONTROL_DROP_INVALID), 15);
}

/* An OBU that turns out to be an RSU has one route, not two. */
static void test_control_obu__node_is_rsu_or_obu(void **state)
{
	struct bench *bench = *state;
	struct control_event heartbeat = said_heartbeat(1, 4, 0, bench->now_ns);
	tell(bench, &heartbeat);
	const struct control_event reply =
		said_reply(&heartbeat.reply.heartbeat, SAID_RSU, 1, 0, bench->now_ns);
	tell(bench, &reply);
	heartbeat.header.origin = SAID_OBU;
	tell(bench, &heartbeat);
	assert_int_equal(snapshot_route(routes_now(bench), SAID_OBU)->role, NODE_RSU);
	struct route routes[8];
	assert_int_equal(control_routes(bench->control, routes, 8), 2);
	assert_int_equal(control_routes(bench->control, routes, 1), 1);
}

/* Seen marks of a snapshot keep a client known beyond its age, and are cleared by the look. */
static void test_control_seen__keeps_clients_in_use(void **state)
{
	struct bench *bench = *state;
	struct control_event learn = { .kind = CONTROL_LEARN, .owner = SAID_OBU };
	learn.now_ns = bench->now_ns;
	for (uint64_t mac = 2; mac <= 4; mac += 2) {
		learn.mac = mac;
		tell(bench, &learn);
	}
	(void)routes_now(bench);
	bench->now_ns += 200 * NS_PER_S;
	atomic_store(&snapshot_client(bench->snapshot, 4)->seen, 1);
	control_seen(bench->control, bench->snapshot, bench->now_ns);
	assert_int_equal(atomic_load(&snapshot_client(bench->snapshot, 4)->seen), 0);
	wait_ms(bench, 101 * 1000);
	assert_null(snapshot_client(routes_now(bench), 2));
	assert_non_null(snapshot_client(bench->snapshot, 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define RSU(name) cmocka_unit_test_setup_teardown(test_control_##name, open_rsu, close_control)
#define OBU(name) cmocka_unit_test_setup_teardown(test_control_##name, open_obu, close_control)
		cmocka_unit_test(test_control_open__names_what_is_out_of_range),
		OBU(snapshot__first_always_then_on_change),
		RSU(rsu__heartbeats_keep_their_period),
		RSU(rsu__defect_12_any_period_and_jitter_work),
		RSU(rsu__pause_is_not_made_up_for),
		RSU(rsu__reply_attaches_an_obu),
		RSU(rsu__unmarked_reply_detaches),
		RSU(rsu__backhaul_reply_moves_an_obu),
		RSU(rsu__backhaul_routes_expire),
		RSU(rsu__refuses_nonsense_from_the_backhaul),
		RSU(rsu__routes_expire_with_replies),
		RSU(rsu__defect_12_hostile_replies_are_refused),
		RSU(rsu__old_answers_are_stale),
		RSU(rsu__own_heartbeat_and_strange_reply_end_here),
		RSU(take__full_queue_counts_what_it_loses),
		OBU(obu__passes_on_and_answers_once),
		OBU(obu__defect_13_ttl_and_repeats_end_everything),
		OBU(obu__defect_3_broadcast_replies_go_nowhere),
		OBU(obu__downstream_routes_end),
		OBU(obu__failed_send_rotates_and_tells),
		OBU(obu__refuses_nonsense),
		OBU(obu__node_is_rsu_or_obu),
		OBU(seen__keeps_clients_in_use),
#undef RSU
#undef OBU
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
