#include "node/snapshot.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include <haul/err.h>
#include "base/assert.h"
#include "base/columns.h"
#include "base/hash.h"

/* Twice the count and a power of two: a probe for what is not there meets an empty slot. */
static uint32_t slots_for(uint32_t count)
{
	uint32_t slots = 2;

	while (slots < 2 * count)
		slots *= 2;
	return slots;
}

static uint32_t route_slot(const struct snapshot *snapshot, uint64_t node)
{
	uint32_t at = (uint32_t)hash_u64(node ^ snapshot->secret) & snapshot->route_mask;

	while (snapshot->routes[at].node != 0 && snapshot->routes[at].node != node)
		at = (at + 1) & snapshot->route_mask;
	return at;
}

static uint32_t client_slot(const struct snapshot *snapshot, uint64_t mac)
{
	uint32_t at = (uint32_t)hash_u64(mac ^ snapshot->secret) & snapshot->client_mask;

	while (snapshot->clients[at].mac != 0 && snapshot->clients[at].mac != mac)
		at = (at + 1) & snapshot->client_mask;
	return at;
}

static void fill_tables(struct snapshot *snapshot, const struct snapshot_input *input)
{
	for (uint32_t i = 0; i < input->route_count; i++) {
		const uint64_t node = input->routes[i].node;
		struct route *slot = &snapshot->routes[route_slot(snapshot, node)];
		HAUL_ASSERT(node != 0 && node != input->self);
		HAUL_ASSERT(slot->node == 0);
		*slot = input->routes[i];
	}
	for (uint32_t i = 0; i < input->client_count; i++) {
		const uint64_t mac = input->clients[i].mac;
		struct client *slot = &snapshot->clients[client_slot(snapshot, mac)];
		HAUL_ASSERT(mac != 0);
		HAUL_ASSERT(slot->mac == 0);
		slot->mac = mac;
		slot->owner = input->clients[i].owner;
		atomic_init(&slot->seen, 0);
	}
}

static void fill_flood(struct snapshot *snapshot, const struct snapshot_input *input)
{
	uint32_t count = 0;

	if (input->role != NODE_RSU)
		return;
	for (uint32_t i = 0; i < input->attached_count; i++) {
		const struct route *route = snapshot_route(snapshot, input->attached[i]);
		if (route != NULL)
			snapshot->flood[count++] = *route;
	}
	snapshot->flood_obu_count = count;
	for (uint32_t i = 0; i < input->route_count; i++)
		if (input->routes[i].role == NODE_RSU)
			snapshot->flood[count++] = input->routes[i];
	snapshot->flood_count = count;
}

int snapshot_build(const struct snapshot_input *input, struct snapshot **ret_snapshot)
{
	HAUL_ASSERT(input->self != 0);
	HAUL_ASSERT(input->role == NODE_OBU || input->role == NODE_RSU);
	if (input->route_count > NODE_ROUTES_MAX || input->client_count > NODE_CLIENTS_MAX ||
	    input->attached_count > input->route_count)
		return HAUL_ELIMIT;
	const uint32_t routes = slots_for(input->route_count);
	const uint32_t clients = slots_for(input->client_count);
	const uint32_t flood = input->attached_count + input->route_count;
	uint8_t *cursor = columns_alloc(columns_bytes(1, sizeof(struct snapshot)) +
					columns_bytes(routes, sizeof(struct route)) +
					columns_bytes(clients, sizeof(struct client)) +
					columns_bytes(flood, sizeof(struct route)));
	if (cursor == NULL)
		return -ENOMEM;
	struct snapshot *snapshot = columns_take(&cursor, 1, sizeof *snapshot);
	snapshot->generation = input->generation;
	snapshot->self = input->self;
	snapshot->role = input->role;
	snapshot->secret = input->secret;
	if (input->upstream != NULL)
		snapshot->upstream = *input->upstream;
	snapshot->route_mask = routes - 1;
	snapshot->client_mask = clients - 1;
	snapshot->routes = columns_take(&cursor, routes, sizeof *snapshot->routes);
	snapshot->clients = columns_take(&cursor, clients, sizeof *snapshot->clients);
	snapshot->flood = columns_take(&cursor, flood, sizeof *snapshot->flood);
	fill_tables(snapshot, input);
	fill_flood(snapshot, input);
	HAUL_ASSERT(snapshot->flood_count <= flood);
	*ret_snapshot = snapshot;
	return 0;
}

void snapshot_free(struct snapshot *snapshot)
{
	free(snapshot);
}

const struct route *snapshot_route(const struct snapshot *snapshot, uint64_t node)
{
	const struct route *slot = &snapshot->routes[route_slot(snapshot, node)];

	return slot->node != 0 ? slot : NULL;
}

struct client *snapshot_client(const struct snapshot *snapshot, uint64_t mac)
{
	struct client *slot = &snapshot->clients[client_slot(snapshot, mac)];

	return slot->mac != 0 ? slot : NULL;
}
