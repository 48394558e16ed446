/* sim/route.h — by which nodes traffic goes, from what the nodes say.
 *
 * Model      A node's traffic climbs from next hop to next hop to the RSU that each chose, crosses
 *            the backhaul if the destination hangs below another RSU, and goes down the chain by
 *            which the destination climbs. So a route is the chain of the one and the reversed
 *            chain of the other, without what they share.
 * Errors     -ENOENT when a node on the way has no upstream or does not answer; -ELOOP when the
 *            chains do not end. */
#pragma once

#include <stdint.h>

#include "sim/world.h"

enum { ROUTE_NODES_MAX = 32, ROUTE_TEXT_BYTES = 256 };

struct route_trace {
	uint32_t node[ROUTE_NODES_MAX];
	uint32_t count;
	uint32_t hops; /* over the radio */
	bool backhaul; /* crosses it */
};

int route_trace(const struct world *world, uint32_t from, uint32_t to,
		struct route_trace *ret_trace);
/* "car4 > car3 > rsu2 = rsu1 > car1": ">" is the radio and "=" the backhaul. */
void route_text(const struct world *world, const struct route_trace *trace,
		char text[ROUTE_TEXT_BYTES]);
