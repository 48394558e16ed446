#include <haul/err.h>
#include "lib/testlib.h"
#include "node/snapshot.h"

static uint64_t node_id(uint32_t i)
{
	return UINT64_C(0x020000000000) + i + 1;
}

static struct route some_route(uint32_t i, enum node_role role)
{
	return (struct route){
		.node = node_id(i),
		.next = { .port = NODE_RADIO, .peer = i + 1 },
		.role = role,
		.hops = i % 7,
	};
}

static struct snapshot *build(const struct snapshot_input *input)
{
	struct snapshot *snapshot = NULL;
	assert_int_equal(snapshot_build(input, &snapshot), 0);
	return snapshot;
}

/* A snapshot of nothing is valid, and knows nothing. */
static void test_snapshot_build__empty(void **state)
{
	(void)state;
	const struct snapshot_input input = { .generation = 1, .self = node_id(0) };
	struct snapshot *snapshot = build(&input);
	assert_null(snapshot_route(snapshot, node_id(1)));
	assert_null(snapshot_route(snapshot, 0));
	assert_null(snapshot_client(snapshot, 0));
	assert_null(snapshot_client(snapshot, node_id(1)));
	assert_int_equal(snapshot->upstream.node, 0);
	assert_int_equal(snapshot->flood_count, 0);
	snapshot_free(snapshot);
	snapshot_free(NULL);
}

/* As many routes and clients as there may be: each is found with what was put in, others are not,
 * and the tables stay half empty so that a probe always ends. */
static void test_snapshot_build__full_tables_find_all_and_nothing_else(void **state)
{
	(void)state;
	static struct route routes[NODE_ROUTES_MAX];
	static struct client clients[NODE_CLIENTS_MAX];
	for (uint32_t i = 0; i < NODE_ROUTES_MAX; i++)
		routes[i] = some_route(i + 1, NODE_OBU);
	for (uint32_t i = 0; i < NODE_CLIENTS_MAX; i++) {
		clients[i].mac = UINT64_C(0x060000000000) + i;
		clients[i].owner = node_id(i % 100);
	}
	const struct snapshot_input input = {
		.generation = 7,
		.self = node_id(0),
		.secret = 99,
		.role = NODE_RSU,
		.routes = routes,
		.route_count = NODE_ROUTES_MAX,
		.clients = clients,
		.client_count = NODE_CLIENTS_MAX,
	};
	struct snapshot *snapshot = build(&input);
	assert_true(snapshot->route_mask + 1 >= 2 * NODE_ROUTES_MAX);
	assert_true(snapshot->client_mask + 1 >= 2 * NODE_CLIENTS_MAX);
	for (uint32_t i = 0; i < NODE_ROUTES_MAX; i++) {
		const struct route *route = snapshot_route(snapshot, routes[i].node);
		assert_non_null(route);
		assert_memory_equal(route, &routes[i], sizeof *route);
	}
	for (uint32_t i = 0; i < NODE_CLIENTS_MAX; i++) {
		const struct client *client = snapshot_client(snapshot, clients[i].mac);
		assert_non_null(client);
		assert_int_equal(client->owner, clients[i].owner);
		assert_int_equal(atomic_load(&client->seen), 0);
	}
	for (uint32_t i = 0; i < 10000; i++) {
		assert_null(snapshot_route(snapshot, node_id(NODE_ROUTES_MAX + 1 + i)));
		assert_null(snapshot_client(snapshot, node_id(i)));
	}
	snapshot_free(snapshot);
}

/* A flooded frame goes to the OBUs attached here first, then to other RSUs; OBUs behind others and
 * attached ones without a route are left out. */
static void test_snapshot_build__floods_attached_obus_then_rsus(void **state)
{
	(void)state;
	struct route routes[6];
	for (uint32_t i = 0; i < 6; i++)
		routes[i] = some_route(i, i % 2 == 0 ? NODE_RSU : NODE_OBU);
	const uint64_t attached[] = { node_id(5), node_id(77), node_id(1) };
	struct snapshot_input input = {
		.generation = 1,
		.self = node_id(50),
		.role = NODE_RSU,
		.routes = routes,
		.route_count = 6,
		.attached = attached,
		.attached_count = 3,
	};
	const uint64_t expected[] = { node_id(5), node_id(1), node_id(0), node_id(2), node_id(4) };
	struct snapshot *snapshot = build(&input);
	assert_int_equal(snapshot->flood_obu_count, 2);
	assert_int_equal(snapshot->flood_count, 5);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(snapshot->flood[i].node, expected[i]);
	snapshot_free(snapshot);

	input.role = NODE_OBU;
	input.upstream = &routes[2];
	snapshot = build(&input);
	assert_int_equal(snapshot->flood_count, 0);
	assert_int_equal(snapshot->upstream.node, node_id(2));
	snapshot_free(snapshot);
}

/* One more than the limit is refused, and the output is not touched. */
static void test_snapshot_build__refuses_more_than_the_limits(void **state)
{
	(void)state;
	static const struct route routes[NODE_ROUTES_MAX + 1];
	static struct client clients[NODE_CLIENTS_MAX + 1];
	static const uint64_t attached[2];
	struct snapshot *const untouched = (struct snapshot *)&clients;
	struct snapshot *snapshot = untouched;
	struct snapshot_input input = { .generation = 1, .self = 1, .routes = routes };
	input.clients = clients;
	input.attached = attached;
	input.route_count = NODE_ROUTES_MAX + 1;
	assert_int_equal(snapshot_build(&input, &snapshot), HAUL_ELIMIT);
	input.route_count = 1;
	input.client_count = NODE_CLIENTS_MAX + 1;
	assert_int_equal(snapshot_build(&input, &snapshot), HAUL_ELIMIT);
	input.client_count = 0;
	input.attached_count = 2;
	assert_int_equal(snapshot_build(&input, &snapshot), HAUL_ELIMIT);
	assert_ptr_equal(snapshot, untouched);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_snapshot_build__empty),
		cmocka_unit_test(test_snapshot_build__full_tables_find_all_and_nothing_else),
		cmocka_unit_test(test_snapshot_build__floods_attached_obus_then_rsus),
		cmocka_unit_test(test_snapshot_build__refuses_more_than_the_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
