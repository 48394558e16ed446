/* node/test_snapshot_lookup.c — the data path asks, and nothing changes by it. */
#include <string.h>

#include "lib/testlib.h"
#include "node/snapshot.h"

enum { NODES = 300, CLIENTS = 2000, LOOKUPS = 100000 };

struct bench {
	struct prng prng;
	struct route routes[NODES];
	struct client clients[CLIENTS];
	uint8_t routes_before[4 * NODES * sizeof(struct route)];
	uint8_t clients_before[4 * CLIENTS * sizeof(struct client)];
};

static uint64_t node_id(uint32_t i)
{
	return UINT64_C(0x020000000000) + i + 1;
}

static uint64_t client_mac(uint32_t i)
{
	return UINT64_C(0x060000000000) + 3 * i;
}

static void fill(struct bench *bench)
{
	test_prng(&bench->prng);
	for (uint32_t i = 0; i < NODES; i++)
		bench->routes[i] = (struct route){
			.node = node_id(i + 1),
			.next = { .port = NODE_RADIO, .peer = i + 1 },
			.role = NODE_OBU,
		};
	for (uint32_t i = 0; i < CLIENTS; i++) {
		bench->clients[i].mac = client_mac(i);
		bench->clients[i].owner = node_id(i % NODES + 1);
	}
}

/* Defect 10: asking for a route computed it anew for each frame, and asking for one that was not
 * there emptied the cache. Here no lookup, of the known or the unknown, changes a byte, so every
 * one gets the same answer. */
static void test_snapshot__lookups_change_nothing(void **state)
{
	static struct bench bench;
	struct snapshot *snapshot = NULL;
	(void)state;
	fill(&bench);
	const struct snapshot_input input = {
		.generation = 1,
		.self = node_id(0),
		.secret = prng_next(&bench.prng),
		.role = NODE_RSU,
		.routes = bench.routes,
		.route_count = NODES,
		.clients = bench.clients,
		.client_count = CLIENTS,
	};
	assert_int_equal(snapshot_build(&input, &snapshot), 0);
	size_t routes_bytes = (snapshot->route_mask + 1) * sizeof(struct route);
	size_t clients_bytes = (snapshot->client_mask + 1) * sizeof(struct client);
	const struct snapshot before = *snapshot;
	assert_true(routes_bytes <= sizeof bench.routes_before);
	assert_true(clients_bytes <= sizeof bench.clients_before);
	memcpy(bench.routes_before, snapshot->routes, routes_bytes);
	memcpy(bench.clients_before, snapshot->clients, clients_bytes);
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		uint32_t known = prng_below(&bench.prng, NODES);
		uint32_t client = prng_below(&bench.prng, CLIENTS);
		assert_int_equal(snapshot_route(snapshot, node_id(known + 1))->next.peer,
				 known + 1);
		assert_null(snapshot_route(snapshot, node_id(NODES + 1 + known)));
		assert_int_equal(snapshot_client(snapshot, client_mac(client))->owner,
				 node_id(client % NODES + 1));
		assert_null(snapshot_client(snapshot, client_mac(client) + 1));
	}
	assert_memory_equal(snapshot, &before, sizeof before);
	assert_memory_equal(snapshot->routes, bench.routes_before, routes_bytes);
	assert_memory_equal(snapshot->clients, bench.clients_before, clients_bytes);
	snapshot_free(snapshot);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_snapshot__lookups_change_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
