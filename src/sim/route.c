#include "sim/route.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <haul/link.h>
#include "base/assert.h"
#include "base/bytes.h"

/* The node's next hop towards its RSU, by the address it sends to; -ENOENT if it has none. */
static int next_up(const struct world *world, uint32_t node)
{
	json_t *status = world_status(world, node, NULL);
	const json_t *upstream = json_object_get(status, "upstream");
	const char *next = json_string_value(json_object_get(upstream, "next"));
	struct haul_addr addr;
	int rc = -ENOENT;

	if (next != NULL && haul_addr_parse(next, &addr, NULL) >= 0)
		rc = hub_node_of(world->hub, WORLD_RADIO, mac_load(addr.bytes));
	json_decref(status);
	return rc;
}

/* The node, its next hop and so on up to an RSU. */
static int climb(const struct world *world, uint32_t node, struct route_trace *ret_chain)
{
	struct route_trace chain = { .count = 0 };

	for (;;) {
		int next;

		if (chain.count == ROUTE_NODES_MAX / 2)
			return -ELOOP;
		chain.node[chain.count++] = node;
		if (world->nodes[node].spec->role == SCENARIO_RSU)
			break;
		next = next_up(world, node);
		if (next < 0)
			return next;
		node = (uint32_t)next;
	}
	*ret_chain = chain;
	return 0;
}

int route_trace(const struct world *world, uint32_t from, uint32_t to,
		struct route_trace *ret_trace)
{
	struct route_trace up = { 0 };
	struct route_trace down = { 0 };
	int rc = climb(world, from, &up);

	HAUL_ASSERT(from != to);
	if (rc == 0)
		rc = climb(world, to, &down);
	if (rc < 0)
		return rc;
	up.backhaul = up.node[up.count - 1] != down.node[down.count - 1];
	up.hops = up.count - 1 + down.count - 1;
	if (!up.backhaul)
		down.count--; /* the RSU stands in both */
	while (down.count > 0)
		up.node[up.count++] = down.node[--down.count];
	*ret_trace = up;
	return 0;
}

void route_text(const struct world *world, const struct route_trace *trace,
		char text[ROUTE_TEXT_BYTES])
{
	size_t used = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < trace->count && used < ROUTE_TEXT_BYTES; i++) {
		const struct scenario_node *node = world->nodes[trace->node[i]].spec;
		const char *sign = " > ";

		if (i > 0 && node->role == SCENARIO_RSU &&
		    world->nodes[trace->node[i - 1]].spec->role == SCENARIO_RSU)
			sign = " = ";
		used += (size_t)snprintf(text + used, ROUTE_TEXT_BYTES - used, "%s%s",
					 i == 0 ? "" : sign, node->name);
	}
}
