/* node/hop.h — where a frame goes next: one of the node's links and a peer of it. */
#pragma once

#include <stdint.h>

enum node_port { NODE_TAP, NODE_RADIO, NODE_BACKHAUL, NODE_PORTS };

enum node_role { NODE_OBU, NODE_RSU };

struct hop {
	uint32_t port; /* enum node_port */
	uint32_t peer; /* of that link */
};
