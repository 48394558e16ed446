#include <errno.h>
#include <string.h>

#include <haul/err.h>
#include "lib/testlib.h"
#include "node/said.h"
#include "node/upstream.h"

enum { PERIOD_MS = SAID_PERIOD_MS };

struct bench {
	struct upstream upstream;
	struct haul_stats stats;
	struct control_options options;
	int64_t now_ns;
};

static int open_bench(void **state)
{
	static const struct haul_counter counters[CONTROL_COUNTERS];
	static struct bench bench;
	memset(&bench, 0, sizeof bench);
	bench.options = said_options(NODE_OBU);
	haul_stats_init(&bench.stats, "control", counters, CONTROL_COUNTERS);
	upstream_init(&bench.upstream, &bench.options, &bench.stats);
	bench.now_ns = 5 * NS_PER_S;
	*state = &bench;
	return 0;
}

static int hear(struct bench *bench, uint32_t id, uint32_t peer, uint8_t hops)
{
	const struct control_event event = said_heartbeat(id, peer, hops, bench->now_ns);
	return upstream_heard(&bench->upstream, &event);
}

static void wait_ms(struct bench *bench, int64_t ms)
{
	bench->now_ns += ms * NS_PER_MS;
	(void)upstream_age(&bench->upstream, bench->now_ns);
}

/* Everything that is due is sent, so that the promise to others is as in a running node. */
static void send_due(struct bench *bench)
{
	for (uint32_t i = 0; i < UPSTREAM_SOURCES_MAX; i++) {
		struct haul_message_header header;
		struct haul_heartbeat heartbeat;
		struct haul_heartbeat_reply reply;
		(void)upstream_take_heartbeat(&bench->upstream.source[i], &header, &heartbeat);
		(void)upstream_take_reply(&bench->upstream.source[i], bench->now_ns, &reply);
	}
}

/* The neighbour used towards SAID_RSU, 0 = none. */
static uint32_t selected(struct bench *bench)
{
	const struct source *source = upstream_find(&bench->upstream, SAID_RSU);
	struct route route;
	return source != NULL && upstream_route(source, &route) ? route.next.peer : 0;
}

static double reception(struct bench *bench, uint32_t peer)
{
	struct control_candidate list[64];
	const uint32_t count = upstream_list(&bench->upstream, list, 64);
	for (uint32_t i = 0; i < count; i++)
		if (list[i].next.peer == peer)
			return list[i].reception;
	return -1;
}

/* One heartbeat through each neighbour whose bit is set (bit k: peer k + 1, k + 1 hops from the
 * RSU). */
static void beat(struct bench *bench, uint32_t id, uint32_t neighbours)
{
	wait_ms(bench, PERIOD_MS);
	for (uint32_t k = 0; k < 8; k++)
		if ((neighbours >> k & 1) != 0)
			(void)hear(bench, id, k + 1, (uint8_t)(k + 1));
	send_due(bench);
}

/* The first that is heard is used at once. */
static void test_upstream__takes_the_first_at_once(void **state)
{
	struct bench *bench = *state;
	assert_int_equal(selected(bench), 0);
	assert_int_equal(hear(bench, 1, 4, 2), 0);
	assert_int_equal(selected(bench), 4);
	assert_int_equal(bench->upstream.source[bench->upstream.chosen].node, SAID_RSU);
	assert_int_equal(bench->stats.extra[CONTROL_UPSTREAM_CHANGES], 1);
}

/* Defect 8: the original's history froze at its first entries, and its quality rose above 1. Here
 * the newest heartbeats always count, the oldest fall out, and repeats change nothing. */
static void test_upstream__defect_8_history_keeps_the_newest(void **state)
{
	struct bench *bench = *state;
	for (uint32_t id = 0; id < 40; id++) {
		beat(bench, id, 1);
		assert_int_equal(hear(bench, id, 1, 1), -EALREADY);
		assert_int_equal(hear(bench, id, 1, 1), -EALREADY);
		assert_true(reception(bench, 1) >= 0.99 && reception(bench, 1) <= 1);
	}
	/* Of the ten that count now, the five last were missed by neighbour 1. */
	for (uint32_t id = 40; id < 50; id++)
		beat(bench, id, id % 2 == 0 ? 3 : 2);
	assert_true(reception(bench, 1) > 0.49 && reception(bench, 1) < 0.51);
	const struct source *source = upstream_find(&bench->upstream, SAID_RSU);
	for (uint32_t i = 0; i < source->count; i++)
		if (source->candidate[i].next.peer == 1)
			assert_int_equal(source->candidate[i].heard & 0x3ff, 0x2aa);
	/* One that comes late fills its own place. */
	assert_int_equal(hear(bench, 49, 1, 1), 0);
	assert_true(reception(bench, 1) > 0.59 && reception(bench, 1) < 0.61);
}

/* Defect 9: one rule, stated once. A rival with fewer hops takes over after two heartbeats, not
 * after one; with more hops it never does while the one in use is good. */
static void test_upstream__defect_9_fewer_hops_take_over_after_two_heartbeats(void **state)
{
	struct bench *bench = *state;
	for (uint32_t id = 1; id <= 10; id++)
		beat(bench, id, 2);
	assert_int_equal(selected(bench), 2);
	beat(bench, 11, 3);
	assert_int_equal(selected(bench), 2);
	beat(bench, 12, 2); /* not on end: counted anew */
	beat(bench, 13, 3);
	assert_int_equal(selected(bench), 2);
	beat(bench, 14, 3);
	assert_int_equal(selected(bench), 1);
	for (uint32_t id = 15; id <= 30; id++) {
		beat(bench, id, 3);
		assert_int_equal(selected(bench), 1);
	}
}

/* A way over half good is kept against a better one that is longer; below, it loses to one that is
 * better by three tenths. */
static void test_upstream__bad_reception_gives_way_to_a_longer_way(void **state)
{
	struct bench *bench = *state;
	for (uint32_t id = 1; id <= 20; id++)
		beat(bench, id, 3);
	assert_int_equal(selected(bench), 1);
	for (uint32_t id = 21; id <= 40; id++) { /* 6 of 10 */
		beat(bench, id, id % 5 == 0 || id % 5 == 2 ? 2 : 3);
		assert_int_equal(selected(bench), 1);
	}
	uint32_t id = 41;
	while (selected(bench) == 1 && id < 60) { /* 4 of 10, never three missed on end */
		beat(bench, id, id % 5 == 0 || id % 5 == 2 ? 3 : 2);
		id++;
	}
	assert_int_equal(selected(bench), 2);
	assert_int_equal(bench->stats.extra[CONTROL_UPSTREAM_LOST], 0);
}

/* Of two rivals in turn, neither is better twice on end: nothing changes. */
static void test_upstream__different_rivals_do_not_add_up(void **state)
{
	struct bench *bench = *state;
	for (uint32_t id = 1; id <= 10; id++)
		beat(bench, id, 4);
	for (uint32_t id = 11; id <= 20; id++) {
		beat(bench, id, 4 | (id % 2 == 0 ? 1 : 2));
		assert_int_equal(selected(bench), 3);
	}
}

/* Two RSUs next to us, as good as each other, each best while the other's heartbeat is late: they
 * take turns as the rival, and one of them is chosen all the same. */
static void test_upstream__rivals_that_take_turns_do_take_over(void **state)
{
	struct bench *bench = *state;
	for (uint32_t id = 1; id <= 12; id++) {
		wait_ms(bench, PERIOD_MS);
		(void)hear(bench, id, 9, 1); /* two hops, and always there first */
		for (uint64_t rsu = 1; rsu <= 2 && id > 5; rsu++) {
			struct control_event far_away = said_heartbeat(id, 9, 2, bench->now_ns);
			struct control_event direct = said_heartbeat(id, 1, 0, bench->now_ns);
			far_away.header.origin = SAID_RSU + rsu;
			direct.header.origin = SAID_RSU + rsu;
			direct.from.peer = (uint32_t)rsu;
			(void)upstream_heard(&bench->upstream, &far_away);
			(void)upstream_heard(&bench->upstream, &direct);
		}
		send_due(bench);
	}
	assert_int_not_equal(bench->upstream.source[bench->upstream.chosen].node, SAID_RSU);
	assert_int_equal(bench->stats.extra[CONTROL_UPSTREAM_CHANGES], 2);
}

/* The third missed heartbeat, heard from another, is the end of the one in use; that is counted. */
static void test_upstream__third_missed_heartbeat_is_the_last(void **state)
{
	struct bench *bench = *state;
	for (uint32_t id = 1; id <= 10; id++)
		beat(bench, id, 3);
	beat(bench, 11, 2);
	beat(bench, 12, 2);
	assert_int_equal(selected(bench), 1);
	beat(bench, 13, 2);
	assert_int_equal(selected(bench), 2);
	assert_int_equal(bench->stats.extra[CONTROL_UPSTREAM_LOST], 1);
}

/* When nobody passes anything on, time tells: three periods and a half. */
static void test_upstream__silence_is_the_end_of_all(void **state)
{
	struct bench *bench = *state;
	for (uint32_t id = 1; id <= 10; id++)
		beat(bench, id, 3);
	wait_ms(bench, 3 * PERIOD_MS + PERIOD_MS / 2);
	assert_int_equal(selected(bench), 1);
	wait_ms(bench, 1);
	assert_int_equal(selected(bench), 0);
	assert_int_equal(bench->upstream.chosen, UPSTREAM_NONE);
	wait_ms(bench, 10000);
	assert_null(upstream_find(&bench->upstream, SAID_RSU));
}

/* What we cannot send to is left at once, for the next best that is no farther than we are; without
 * one the next heartbeat brings it. */
static void test_upstream__failed_send_rotates_at_once(void **state)
{
	struct bench *bench = *state;
	for (uint32_t id = 1; id <= 10; id++) {
		wait_ms(bench, PERIOD_MS);
		for (uint32_t peer = 1; peer <= 3; peer++)
			(void)hear(bench, id, peer, 2);
		send_due(bench);
	}
	assert_int_equal(selected(bench), 1);
	upstream_failed(&bench->upstream, said_radio(1), bench->now_ns);
	const uint32_t second = selected(bench);
	assert_in_range(second, 2, 3);
	upstream_failed(&bench->upstream, said_radio(second), bench->now_ns);
	assert_int_equal(selected(bench), 5 - second);
	upstream_failed(&bench->upstream, said_radio(5 - second), bench->now_ns);
	assert_int_equal(selected(bench), 0);
	wait_ms(bench, PERIOD_MS);
	assert_int_equal(hear(bench, 11, 1, 2), 0); /* heard again: it lives */
	assert_int_equal(selected(bench), 1);
}

/* Who only repeats what we said stands behind us: it is never a candidate, not even in need. */
static void test_upstream__never_points_at_who_stands_behind(void **state)
{
	struct bench *bench = *state;
	for (uint32_t id = 1; id <= 10; id++) {
		wait_ms(bench, PERIOD_MS);
		assert_int_equal(hear(bench, id, 1, 2), 0);
		send_due(bench);
		assert_int_equal(hear(bench, id, 2, 4), -EALREADY);
		assert_int_equal(hear(bench, id, 3, 3), -EALREADY);
	}
	upstream_failed(&bench->upstream, said_radio(1), bench->now_ns);
	assert_int_equal(selected(bench), 0);
	assert_true(reception(bench, 2) < 0);
}

/* A heartbeat is passed on once, only from the one in use, one hop longer and one TTL shorter. */
static void test_upstream__passes_on_from_the_selected_once(void **state)
{
	struct bench *bench = *state;
	struct haul_message_header header;
	struct haul_heartbeat heartbeat;
	assert_int_equal(hear(bench, 1, 1, 2), 0);
	struct source *source = upstream_find(&bench->upstream, SAID_RSU);
	assert_true(upstream_take_heartbeat(source, &header, &heartbeat));
	assert_int_equal(heartbeat.hops, 3);
	assert_int_equal(header.ttl, 8 - 2 - 1);
	assert_int_equal(header.origin, SAID_RSU);
	assert_int_equal(header.sequence, SAID_EPOCH | 1);
	assert_false(upstream_take_heartbeat(source, &header, &heartbeat));
	wait_ms(bench, PERIOD_MS);
	assert_int_equal(hear(bench, 2, 5, 2), 0);
	assert_false(upstream_take_heartbeat(source, &header, &heartbeat));
	assert_int_equal(hear(bench, 2, 1, 2), 0);
	assert_true(upstream_take_heartbeat(source, &header, &heartbeat));
	assert_int_equal(heartbeat.id, 2);
}

/* A reply is due once a heartbeat, with the time it was held; a change of ways makes it due again.
 * */
static void test_upstream__replies_once_and_after_changes(void **state)
{
	struct bench *bench = *state;
	struct haul_heartbeat_reply reply;
	assert_int_equal(hear(bench, 1, 1, 2), 0);
	struct source *source = upstream_find(&bench->upstream, SAID_RSU);
	assert_true(upstream_take_reply(source, bench->now_ns + 1500, &reply));
	assert_int_equal(reply.hold_us, 1);
	assert_int_equal(reply.heartbeat.id, 1);
	assert_int_equal(reply.heartbeat.hops, 0);
	assert_false(upstream_take_reply(source, bench->now_ns, &reply));
	assert_int_equal(hear(bench, 1, 2, 2), 0);
	assert_false(upstream_take_reply(source, bench->now_ns, &reply));
	upstream_failed(&bench->upstream, said_radio(1), bench->now_ns);
	assert_true(upstream_take_reply(source, bench->now_ns, &reply));
}

/* No more candidates than configured are kept: a better one takes the place of the worst, a worse
 * one finds none, and the one in use is never put out. */
static void test_upstream__keeps_the_best_candidates(void **state)
{
	struct bench *bench = *state;
	assert_int_equal(hear(bench, 1, 5, 5), 0);
	assert_int_equal(hear(bench, 1, 4, 4), 0);
	assert_int_equal(hear(bench, 1, 3, 3), 0);
	assert_int_equal(hear(bench, 1, 6, 5), HAUL_EFULL);
	assert_int_equal(hear(bench, 1, 2, 2), 0);
	assert_int_equal(selected(bench), 5);
	assert_true(reception(bench, 4) < 0);
	assert_true(reception(bench, 3) > 0 && reception(bench, 2) > 0 && reception(bench, 5) > 0);
	bench->options.candidates = 1;
	upstream_init(&bench->upstream, &bench->options, &bench->stats);
	assert_int_equal(hear(bench, 1, 5, 5), 0);
	assert_int_equal(hear(bench, 1, 2, 2), HAUL_EFULL);
	assert_int_equal(selected(bench), 5);
}

/* Values no honest node sends: an impossible period, more hops than TTL allows, a number that time
 * does not explain. Nothing changes. */
static void test_upstream__refuses_what_no_honest_node_sends(void **state)
{
	struct bench *bench = *state;
	beat(bench, 100, 1);
	const struct control_event good = said_heartbeat(101, 1, 1, bench->now_ns);
	struct control_event bad = good;
	bad.reply.heartbeat.period_ms = 9;
	assert_int_equal(upstream_heard(&bench->upstream, &bad), HAUL_ECORRUPT);
	bad.reply.heartbeat.period_ms = 0;
	assert_int_equal(upstream_heard(&bench->upstream, &bad), HAUL_ECORRUPT);
	bad.reply.heartbeat.period_ms = 60001;
	assert_int_equal(upstream_heard(&bench->upstream, &bad), HAUL_ECORRUPT);
	bad = good;
	bad.header.ttl = 0;
	assert_int_equal(upstream_heard(&bench->upstream, &bad), HAUL_ECORRUPT);
	bad.header.ttl = 255;
	assert_int_equal(upstream_heard(&bench->upstream, &bad), HAUL_ECORRUPT);
	assert_int_equal(hear(bench, 100 + 17, 1, 1), HAUL_ECORRUPT);
	assert_int_equal(hear(bench, 0x80000063, 1, 1), HAUL_ECORRUPT);
	assert_int_equal(hear(bench, 100 - 32, 1, 1), HAUL_ESTALE);
	bad = good;
	bad.header.sequence -= UINT64_C(1) << 32;
	assert_int_equal(upstream_heard(&bench->upstream, &bad), HAUL_ESTALE);
	assert_int_equal(upstream_heard(&bench->upstream, &good), 0);
	assert_int_equal(hear(bench, 101 + 16, 1, 1), 0);
}

/* After a silence an RSU may begin anew with lower numbers or an earlier boot time. */
static void test_upstream__silence_allows_a_new_beginning(void **state)
{
	struct bench *bench = *state;
	beat(bench, 1000, 1);
	assert_int_equal(hear(bench, 1, 1, 1), HAUL_ESTALE);
	wait_ms(bench, 400);
	assert_int_equal(hear(bench, 1, 1, 1), 0);
	assert_int_equal(selected(bench), 1);
	struct control_event earlier = said_heartbeat(1, 2, 1, bench->now_ns);
	earlier.header.sequence = 5;
	assert_int_equal(upstream_heard(&bench->upstream, &earlier), HAUL_ESTALE);
	wait_ms(bench, 400);
	earlier.now_ns = bench->now_ns;
	assert_int_equal(upstream_heard(&bench->upstream, &earlier), 0);
	assert_int_equal(selected(bench), 2);
}

/* Heartbeat numbers wrap from the largest to zero without a gap. */
static void test_upstream__heartbeat_numbers_wrap(void **state)
{
	struct bench *bench = *state;
	for (uint32_t id = UINT32_MAX - 10; id != 10; id++) {
		beat(bench, id, 1);
		assert_int_equal(selected(bench), 1);
		assert_true(reception(bench, 1) > 0.99);
	}
	assert_int_equal(bench->stats.extra[CONTROL_UPSTREAM_LOST], 0);
}

/* One RSU more than there is room for is refused while all others live, and takes the place of a
 * silent one later; the chosen one is never put out. */
static void test_upstream__sources_are_bounded(void **state)
{
	struct bench *bench = *state;
	assert_int_equal(hear(bench, 1, 1, 1), 0);
	struct control_event event = said_heartbeat(1, 2, 3, bench->now_ns);
	for (uint64_t i = 1; i < UPSTREAM_SOURCES_MAX; i++) {
		event.header.origin = SAID_RSU + i;
		assert_int_equal(upstream_heard(&bench->upstream, &event), 0);
	}
	event.header.origin = SAID_RSU + UPSTREAM_SOURCES_MAX;
	assert_int_equal(upstream_heard(&bench->upstream, &event), HAUL_EFULL);
	for (uint32_t id = 2; id < 7; id++)
		beat(bench, id, 1);
	event.now_ns = bench->now_ns;
	assert_int_equal(upstream_heard(&bench->upstream, &event), 0);
	assert_int_equal(selected(bench), 1);
	struct control_candidate list[2 * UPSTREAM_SOURCES_MAX];
	assert_int_equal(upstream_list(&bench->upstream, list, 1), 1);
	assert_int_equal(list[0].rsu, SAID_RSU);
	assert_true(list[0].chosen);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(test_upstream__##name, open_bench)
		TEST(takes_the_first_at_once),
		TEST(defect_8_history_keeps_the_newest),
		TEST(defect_9_fewer_hops_take_over_after_two_heartbeats),
		TEST(bad_reception_gives_way_to_a_longer_way),
		TEST(different_rivals_do_not_add_up),
		TEST(rivals_that_take_turns_do_take_over),
		TEST(third_missed_heartbeat_is_the_last),
		TEST(silence_is_the_end_of_all),
		TEST(failed_send_rotates_at_once),
		TEST(never_points_at_who_stands_behind),
		TEST(passes_on_from_the_selected_once),
		TEST(replies_once_and_after_changes),
		TEST(keeps_the_best_candidates),
		TEST(refuses_what_no_honest_node_sends),
		TEST(silence_allows_a_new_beginning),
		TEST(heartbeat_numbers_wrap),
		TEST(sources_are_bounded),
#undef TEST
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
