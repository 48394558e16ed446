#include <errno.h>
#include <string.h>

#include <haul/err.h>
#include "lib/testlib.h"
#include "node/clients.h"
#include "node/routes.h"
#include "node/said.h"

enum { CAPACITY = 4 };

static int open_routes(void **state)
{
	static struct routes routes;
	assert_int_equal(routes_init(&routes, CAPACITY, SAID_SELF, 1), 0);
	*state = &routes;
	return 0;
}

static int close_routes(void **state)
{
	routes_done(*state);
	return 0;
}

static struct destination *admit(struct routes *routes, uint64_t node, uint64_t sequence)
{
	struct destination *d = NULL;
	assert_int_equal(routes_admit(routes, node, sequence, &d), 0);
	return d;
}

static void answer(struct routes *routes, uint64_t sequence, const struct path *path)
{
	routes_add_path(routes, admit(routes, SAID_OBU, sequence), sequence, path);
}

static struct route published(const struct routes *routes)
{
	struct route route = { 0 };
	assert_in_range(routes_collect(routes, &route, 1), 0, 1);
	return route;
}

static struct path a_path(uint32_t peer, uint32_t hops, uint32_t id, int64_t rtt_ns)
{
	return (struct path){
		.next = said_radio(peer), .hops = hops, .id = id, .rtt_ns = rtt_ns, .until_ns = 1000
	};
}

/* Each message counts once; what is far behind is stale; a full table refuses newcomers only. */
static void test_routes_admit__once_and_bounded(void **state)
{
	struct routes *routes = *state;
	struct destination *d = admit(routes, 1, 100);
	assert_int_equal(routes_admit(routes, 1, 100, &d), -EALREADY);
	(void)admit(routes, 1, 99);
	assert_int_equal(routes_admit(routes, 1, 99, &d), -EALREADY);
	(void)admit(routes, 1, 163);
	assert_int_equal(routes_admit(routes, 1, 99, &d), HAUL_ESTALE);
	assert_int_equal(routes_admit(routes, 1, 100, &d), -EALREADY);
	(void)admit(routes, 1, 500);
	assert_int_equal(routes_admit(routes, 1, 163, &d), HAUL_ESTALE);
	for (uint64_t node = 2; node <= CAPACITY; node++)
		(void)admit(routes, node, 1);
	assert_int_equal(routes_admit(routes, CAPACITY + 1, 1, &d), HAUL_EFULL);
	(void)admit(routes, 2, 2);
	/* Without a path a row is nothing to publish, and goes with the next look. */
	assert_int_equal(published(routes).node, 0);
	routes_expire(routes, 1);
	assert_int_equal(routes->count, 0);
}

/* OBU: the newest reply decides the way back, whatever its hops; an older one that comes late does
 * not. */
static void test_routes_set_path__newest_wins(void **state)
{
	struct routes *routes = *state;
	struct path path = a_path(1, 2, 1, 0);
	struct destination *d = admit(routes, SAID_OBU, 10);
	routes_set_path(routes, d, 10, &path);
	path = a_path(2, 5, 1, 0);
	(void)admit(routes, SAID_OBU, 12);
	routes_set_path(routes, d, 12, &path);
	assert_int_equal(published(routes).next.peer, 2);
	path = a_path(1, 2, 1, 0);
	(void)admit(routes, SAID_OBU, 11);
	routes_set_path(routes, d, 11, &path);
	assert_int_equal(published(routes).next.peer, 2);
	assert_int_equal(published(routes).hops, 5);
}

/* RSU: fewest hops, then the lowest smoothed round trip, if it is lower by a fifth. */
static void test_routes_add_path__fewest_hops_then_lowest_rtt(void **state)
{
	struct routes *routes = *state;
	uint64_t sequence = 0;
	uint32_t id = 0;
	/* Two ways in turn: one heartbeat by each, so both are current. */
	for (uint32_t i = 0; i < 20; i++) {
		const struct path slow = a_path(1, 2, ++id, 1000);
		const struct path fast = a_path(2, 2, ++id, 900);
		answer(routes, ++sequence, &slow);
		answer(routes, ++sequence, &fast);
		assert_int_equal(published(routes).next.peer, 1);
	}
	for (uint32_t i = 0; i < 20; i++) {
		const struct path slow = a_path(1, 2, ++id, 1000);
		const struct path fast = a_path(2, 2, ++id, 500);
		answer(routes, ++sequence, &slow);
		answer(routes, ++sequence, &fast);
	}
	assert_int_equal(published(routes).next.peer, 2);
	/* One sample moves it by an eighth only. */
	const struct path outlier = a_path(2, 2, ++id, 100000);
	const int64_t before_ns = published(routes).rtt_ns;
	answer(routes, ++sequence, &outlier);
	assert_int_equal(published(routes).rtt_ns, before_ns + (100000 - before_ns) / 8);
	const struct path shorter = a_path(3, 1, ++id, 900000);
	answer(routes, ++sequence, &shorter);
	assert_int_equal(published(routes).next.peer, 3);
}

/* A path that has not answered one of the last two heartbeats is out, however short. */
static void test_routes_add_path__leaves_what_no_longer_answers(void **state)
{
	struct routes *routes = *state;
	const struct path near = a_path(1, 1, 10, 5);
	const struct path far_one = a_path(2, 4, 11, 5);
	const struct path far_two = a_path(2, 4, 12, 5);
	answer(routes, 1, &near);
	answer(routes, 2, &far_one);
	assert_int_equal(published(routes).next.peer, 1);
	answer(routes, 3, &far_two);
	assert_int_equal(published(routes).next.peer, 2);
	/* Late news about the past changes nothing. */
	const struct path late = a_path(2, 1, 11, 5);
	answer(routes, 4, &late);
	assert_int_equal(published(routes).hops, 4);
}

/* An answer to the same heartbeat by another way is a change of mind: it counts at once. If the two
 * overtake each other, the later one still wins. */
static void test_routes_add_path__second_answer_is_a_change_of_mind(void **state)
{
	struct routes *routes = *state;
	const struct path old = a_path(1, 1, 10, 5);
	const struct path changed = a_path(2, 3, 10, 5);
	answer(routes, 1, &old);
	answer(routes, 2, &changed);
	assert_int_equal(published(routes).next.peer, 2);
	const struct path next = a_path(2, 3, 11, 5);
	const struct path overtaken = a_path(1, 1, 11, 5);
	answer(routes, 9, &next);
	answer(routes, 8, &overtaken);
	assert_int_equal(published(routes).next.peer, 2);
}

/* No more than ROUTES_PATHS_MAX paths are kept: the longest silent makes room. */
static void test_routes_add_path__paths_are_bounded(void **state)
{
	struct routes *routes = *state;
	for (uint32_t i = 1; i <= ROUTES_PATHS_MAX + 2; i++) {
		struct path path = a_path(i, 2, i, 5);
		path.until_ns = 1000 + i;
		answer(routes, i, &path);
	}
	assert_int_equal(routes->row[0].count, ROUTES_PATHS_MAX);
	routes_expire(routes, 1000 + 5);
	assert_int_equal(routes->row[0].count, 2);
	routes_failed(routes, said_radio(6));
	assert_int_equal(published(routes).next.peer, 5);
	routes_failed(routes, said_radio(5));
	assert_int_equal(published(routes).node, 0);
}

/* The newest claim says where an OBU is; an older one that comes late does not; when the claim
 * ends, our own path is used again. */
static void test_routes_claim__newest_wins(void **state)
{
	struct routes *routes = *state;
	const struct path path = a_path(1, 1, 1, 5);
	struct claim claim = { .rsu = 9, .sequence = 20, .next = said_backhaul(3), .hops = 2 };
	uint64_t attached[2];
	claim.until_ns = 500;
	answer(routes, 1, &path);
	struct destination *d = routes_find(routes, SAID_OBU);
	assert_true(routes_claim(routes, d, &claim));
	assert_int_equal(published(routes).next.port, NODE_BACKHAUL);
	assert_int_equal(published(routes).hops, 2);
	claim = (struct claim){ .rsu = SAID_SELF, .sequence = 19, .until_ns = 500 };
	assert_false(routes_claim(routes, d, &claim));
	assert_int_equal(routes_attached(routes, attached, 2), 0);
	claim.sequence = 21;
	assert_true(routes_claim(routes, d, &claim));
	assert_int_equal(routes_attached(routes, attached, 2), 1);
	assert_int_equal(published(routes).next.port, NODE_RADIO);
	claim = (struct claim){ .rsu = 9, .sequence = 22, .next = said_backhaul(3) };
	claim.until_ns = 500;
	assert_true(routes_claim(routes, d, &claim));
	routes_failed(routes, said_backhaul(3));
	assert_int_equal(published(routes).next.port, NODE_RADIO);
	claim.sequence = 23;
	assert_true(routes_claim(routes, d, &claim));
	routes_expire(routes, 501);
	assert_int_equal(published(routes).next.port, NODE_RADIO);
	routes_expire(routes, 1001);
	assert_int_equal(routes->count, 0);
}

/* Only what is published counts as a change: round trips alone do not. */
static void test_routes_version__rises_with_what_is_published(void **state)
{
	struct routes *routes = *state;
	const struct path one = a_path(1, 1, 1, 5);
	const struct path two = a_path(1, 1, 2, 500);
	answer(routes, 1, &one);
	const uint64_t version = routes->version;
	answer(routes, 2, &two);
	assert_int_equal(routes->version, version);
	routes_forget(routes, SAID_OBU);
	assert_int_equal(routes->version, version + 1);
	routes_forget(routes, SAID_OBU);
	assert_int_equal(routes->version, version + 1);
}

/* ---- clients ---- */

static int learn(struct clients *clients, uint64_t mac, uint64_t owner, int64_t now_ns)
{
	const struct client_news news = { .mac = mac, .owner = owner, .now_ns = now_ns };
	return clients_learn(clients, &news);
}

/* Addresses are learnt, move with the newest news, and are forgotten when nobody uses them. */
static void test_clients__learn_move_and_age(void **state)
{
	(void)state;
	struct clients clients;
	assert_int_equal(clients_init(&clients, SAID_SELF, 1), 0);
	assert_int_equal(learn(&clients, 2, SAID_OBU, 0), 1);
	assert_int_equal(learn(&clients, 2, SAID_OBU, 1), 0);
	assert_int_equal(learn(&clients, 4, SAID_OBU, 1), 1);
	assert_int_equal(learn(&clients, 2, SAID_SELF, 2), 1);
	clients_used(&clients, 4, 100);
	clients_used(&clients, 6, 100); /* not known: nothing to do */
	assert_int_equal(clients_expire(&clients, CLIENTS_AGE_NS + 2), 1);
	assert_int_equal(clients.count, 1);
	assert_int_equal(clients.row[0].mac, 4);
	assert_int_equal(learn(&clients, 2, SAID_OBU, 0), 1);
	clients_done(&clients);
}

/* Groups, zero and more than 48 bits are no stations, and nobody takes our own TAP's address. */
static void test_clients__refuse_impossible_news(void **state)
{
	(void)state;
	struct clients clients;
	const struct client_news own = { .mac = SAID_CLIENT, .owner = SAID_SELF, .declared = true };
	const uint64_t no_station[] = { 0, UINT64_C(0x010000000000), HAUL_NODE_BROADCAST,
					UINT64_C(1) << 48, UINT64_MAX };
	assert_int_equal(clients_init(&clients, SAID_SELF, 1), 0);
	assert_int_equal(clients_learn(&clients, &own), 1);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(learn(&clients, no_station[i], SAID_OBU, 0), -EINVAL);
		assert_int_equal(learn(&clients, 2, no_station[i], 0), -EINVAL);
	}
	assert_int_equal(learn(&clients, SAID_CLIENT, SAID_OBU, 0), -EINVAL);
	assert_int_equal(learn(&clients, SAID_CLIENT, SAID_SELF, 0), 0);
	assert_int_equal(clients_expire(&clients, INT64_MAX), 0);
	assert_int_equal(clients.count, 1);
	clients_done(&clients);
}

/* A flood of made-up sources leaves room for what nodes declare. */
static void test_clients__flood_leaves_room_for_declared(void **state)
{
	(void)state;
	struct clients clients;
	assert_int_equal(clients_init(&clients, SAID_SELF, 1), 0);
	uint32_t learnt = 0;
	for (uint64_t mac = 2; learn(&clients, mac, SAID_OBU, 0) == 1; mac++)
		learnt++;
	assert_int_equal(learnt, NODE_CLIENTS_MAX - NODE_ROUTES_MAX);
	for (uint64_t i = 0; i < NODE_ROUTES_MAX; i++) {
		const struct client_news news = { .mac = SAID_CLIENT + i,
						  .owner = SAID_OBU,
						  .declared = true };
		assert_int_equal(clients_learn(&clients, &news), 1);
	}
	const struct client_news more = { .mac = 1, .owner = SAID_OBU, .declared = true };
	assert_int_equal(clients_learn(&clients, &more), HAUL_EFULL);
	assert_int_equal(clients.count, NODE_CLIENTS_MAX);
	assert_int_equal(clients_expire(&clients, CLIENTS_AGE_NS), NODE_CLIENTS_MAX);
	clients_done(&clients);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(test_routes_##name, open_routes, close_routes)
		TEST(admit__once_and_bounded),
		TEST(set_path__newest_wins),
		TEST(add_path__fewest_hops_then_lowest_rtt),
		TEST(add_path__leaves_what_no_longer_answers),
		TEST(add_path__second_answer_is_a_change_of_mind),
		TEST(add_path__paths_are_bounded),
		TEST(claim__newest_wins),
		TEST(version__rises_with_what_is_published),
#undef TEST
		cmocka_unit_test(test_clients__learn_move_and_age),
		cmocka_unit_test(test_clients__refuse_impossible_news),
		cmocka_unit_test(test_clients__flood_leaves_room_for_declared),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
