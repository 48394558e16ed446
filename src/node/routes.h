/* node/routes.h — the ways to other nodes that their replies have shown.
 *
 * Model      One destination a node. A reply that is passed on leaves, at every node, a path back:
 *            the neighbour that handed it over. At an OBU the newest reply wins, always: along the
 *            paths of one node sequence numbers never fall, which is why they cannot form a circle
 *            (the replies themselves follow upstream.h's ways, which do not either). An RSU is
 *            where replies end, so it may choose: of the paths that answered one of the last two
 *            heartbeats the one with the fewest hops, then the lowest smoothed round trip; except
 *            that a node that answers a heartbeat once more by another way has changed its mind.
 *            A claim says which RSU a node has chosen. It is known from the node's own reply to us
 *            or because that RSU passed such a reply on; the newest sequence wins.
 * Units      ns of one monotonic clock; hops in radio hops.
 * Memory     all in routes_init.
 * Threads    one.
 * Errors     routes_admit: -EALREADY, HAUL_ESTALE, HAUL_EFULL. routes_init: -ENOMEM.
 * Limits     NODE_ROUTES_MAX destinations, ROUTES_PATHS_MAX paths each. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/row_index.h"
#include "node/snapshot.h"

enum { ROUTES_PATHS_MAX = 4 };

struct path {
	struct hop next;
	uint32_t hops;
	uint32_t id;      /* of the newest heartbeat answered through it */
	int64_t rtt_ns;   /* smoothed, 0 = not measured */
	int64_t until_ns; /* dead when nothing has come by then */
};

struct claim {
	uint64_t rsu;      /* that the node has chosen; 0 = none that we know */
	uint64_t sequence; /* of the reply that says so */
	struct hop next;   /* towards that RSU; not used when it is ourselves */
	uint32_t hops;
	int64_t until_ns;
	bool told; /* ours: other RSUs have been told, last at told_ns */
	int64_t told_ns;
};

struct destination {
	uint64_t node;
	uint32_t role;   /* enum node_role */
	uint64_t newest; /* sequence */
	uint64_t seen;   /* bit k: newest - k was here */
	uint32_t count;
	uint32_t best; /* path in use while count > 0 */
	struct path path[ROUTES_PATHS_MAX];
	struct claim claim;
	struct route shown; /* as last counted in version: node 0 = no way */
	bool shown_attached;
};

struct routes {
	struct row_index index;  /* node -> row */
	struct destination *row; /* dense: 0 … count-1 */
	uint32_t count;
	uint32_t capacity;
	uint64_t self;
	uint64_t version; /* rises whenever what is to be published changes */
};

int routes_init(struct routes *routes, uint32_t capacity, uint64_t self, uint64_t secret);
void routes_done(struct routes *routes);

/* The destination of a message not seen before. One that is new has no path yet: add one. */
int routes_admit(struct routes *routes, uint64_t node, uint64_t sequence,
		 struct destination **ret_destination);
/* OBU: this path alone, if its reply is the newest. */
void routes_set_path(struct routes *routes, struct destination *destination, uint64_t sequence,
		     const struct path *path);
/* RSU: one more path, or news about one; path.rtt_ns is one sample. */
void routes_add_path(struct routes *routes, struct destination *destination, uint64_t sequence,
		     const struct path *path);
/* RSU: takes the claim if its sequence is newer than what is known; false if not. */
bool routes_claim(struct routes *routes, struct destination *destination,
		  const struct claim *claim);

/* NULL when not known. */
struct destination *routes_find(struct routes *routes, uint64_t node);
void routes_forget(struct routes *routes, uint64_t node);
/* Nothing can be sent to this neighbour. */
void routes_failed(struct routes *routes, struct hop next);
void routes_expire(struct routes *routes, int64_t now_ns);

/* What is to be published; returns how many. */
uint32_t routes_collect(const struct routes *routes, struct route *out, uint32_t max);
/* Nodes that have chosen us; returns how many. */
uint32_t routes_attached(const struct routes *routes, uint64_t *out, uint32_t max);
