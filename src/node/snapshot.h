/* node/snapshot.h — all the datapath needs to know about routes, as of one moment.
 *
 * Model      Control builds a snapshot, publishes it, and never changes it again; the datapath
 *            looks up whole bursts in it. One probe a frame: two open-addressed tables (node id ->
 *            route, client MAC -> owner) with linear probing and a load of at most one half. The
 *            only bytes the datapath writes are the clients' seen marks (atomic), so that control
 *            can age them.
 * Ownership  built and freed by control. The datapath announces at the top of each turn which
 *            generation it uses; control frees a snapshot once a later one is in use.
 * Memory     one block a snapshot, from snapshot_build.
 * Threads    read by the datapath thread, written before publication by control.
 * Limits     NODE_ROUTES_MAX routes, NODE_CLIENTS_MAX clients. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "node/hop.h"

enum { NODE_ROUTES_MAX = 1024, NODE_CLIENTS_MAX = 8192 };

struct route {
	uint64_t node;   /* destination's node id, 0 = empty slot */
	struct hop next; /* where to send what is for it */
	uint32_t role;   /* enum node_role of the destination */
	uint32_t hops;   /* radio hops to it */
	int64_t rtt_ns;  /* smoothed round trip, 0 = not known */
};

struct client {
	uint64_t mac;          /* 0 = empty slot */
	uint64_t owner;        /* node id behind which it is; our own id = our TAP */
	_Atomic uint32_t seen; /* set by the datapath when it sends */
};

struct snapshot {
	uint64_t generation;   /* rises with each publication, first is 1 */
	uint64_t self;         /* our node id */
	uint32_t role;         /* enum node_role */
	uint64_t secret;       /* mixed into the hashes: keys come from the network */
	struct route upstream; /* OBU: the chosen RSU (node 0 = none at present) */
	uint32_t route_mask;
	uint32_t client_mask;
	struct route *routes;   /* hash table of route_mask + 1 slots */
	struct client *clients; /* hash table of client_mask + 1 slots */
	/* RSU: who gets a flooded frame. OBUs attached to this RSU first, then other RSUs. */
	struct route *flood;
	uint32_t flood_obu_count;
	uint32_t flood_count;
};

/* Build from plain arrays (copied), without repeats. -ENOMEM, HAUL_ELIMIT. */
struct snapshot_input {
	uint64_t generation;
	uint64_t self;
	uint64_t secret; /* any number the network does not know; 0 in tests */
	uint32_t role;
	const struct route *upstream; /* NULL = none */
	const struct route *routes;
	uint32_t route_count;
	const struct client *clients;
	uint32_t client_count;
	const uint64_t
		*attached; /* node ids of OBUs that use us as their RSU; RSUs come from routes */
	uint32_t attached_count;
};
int snapshot_build(const struct snapshot_input *input, struct snapshot **ret_snapshot);
void snapshot_free(struct snapshot *snapshot);

/* NULL when not known. */
const struct route *snapshot_route(const struct snapshot *snapshot, uint64_t node);
struct client *snapshot_client(const struct snapshot *snapshot, uint64_t mac);
