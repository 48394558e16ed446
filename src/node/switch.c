/* node/switch.c — see switch.h for the rules.
 *
 * A burst goes through twice. The first pass turns each frame into one number, its owner: a node
 * id, our own id (the TAP), or one of the marks below. The second takes runs of one owner and hands
 * each over in one call. Order for a destination is kept because runs are taken from the front. */
#include "node/switch.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "node/datapath_state.h"

enum { ETH_BYTES = 14, MAC_BYTES = 6 };

/* None is a MAC address. */
#define OWNER_FLOOD (UINT64_C(1) << 48)
#define OWNER_DROP  (UINT64_C(2) << 48)
#define OWNER_NONE  (UINT64_C(3) << 48) /* no Ethernet header */

static uint64_t origin_of(const struct datapath *dp, const struct switch_input *in, uint32_t i)
{
	return in->origin != NULL ? in->origin[i] : dp->options.self;
}

/* ---- sources ---- */

/* Another RSU speaks for the OBUs behind it: a client of one of those is where it should be. */
static bool stands_for(const struct snapshot *snapshot, uint64_t origin, uint64_t owner)
{
	if (origin == owner)
		return true;
	const struct route *to_owner = snapshot_route(snapshot, owner);
	const struct route *to_origin = snapshot_route(snapshot, origin);
	return to_owner != NULL && to_origin != NULL && to_origin->role == NODE_RSU &&
	       to_owner->next.port == NODE_BACKHAUL && to_origin->next.port == NODE_BACKHAUL &&
	       to_owner->next.peer == to_origin->next.peer;
}

static void tell_source(struct datapath *dp, uint64_t mac, uint64_t owner)
{
	struct switch_learnt *learnt = &dp->learnt[hash_u64(mac) % SWITCH_LEARN_SLOTS];
	if (learnt->mac == mac && learnt->owner == owner && dp->now_ns < learnt->again_ns)
		return;
	*learnt = (struct switch_learnt){
		.mac = mac,
		.owner = owner,
		.again_ns = dp->now_ns + SWITCH_LEARN_NS,
	};
	datapath_count(dp, DATAPATH_LEARNT, 1);
	datapath_tell(dp, &(struct control_event){
				  .kind = CONTROL_LEARN,
				  .now_ns = dp->now_ns,
				  .mac = mac,
				  .owner = owner,
			  });
}

void switch_source(struct datapath *dp, uint64_t mac, uint64_t origin)
{
	if (mac_is_group(mac) || mac == 0)
		return; /* no station has such an address: nothing to learn */
	struct client *client = snapshot_client(dp->snapshot, mac);
	if (client == NULL || !stands_for(dp->snapshot, origin, client->owner)) {
		tell_source(dp, mac, origin);
		return;
	}
	/* Looked at first: a line that all nodes' frames write would travel between the cores. */
	if (atomic_load_explicit(&client->seen, memory_order_relaxed) == 0)
		atomic_store_explicit(&client->seen, 1, memory_order_relaxed);
}

/* ---- destinations ---- */

static uint64_t owner_of(const struct datapath *dp, uint64_t mac, uint64_t origin)
{
	if (mac_is_group(mac))
		return OWNER_FLOOD;
	const struct client *client = snapshot_client(dp->snapshot, mac);
	if (client == NULL)
		return OWNER_FLOOD;
	return client->owner == origin ? OWNER_DROP : client->owner;
}

static void find_owners(struct datapath *dp, const struct switch_input *in)
{
	for (uint32_t i = 0; i < in->frames->count; i++) {
		const uint8_t *frame = in->frames->data[i];
		uint64_t origin = origin_of(dp, in, i);
		if (in->frames->len[i] < ETH_BYTES) {
			dp->owner[i] = OWNER_NONE;
			continue;
		}
		switch_source(dp, mac_load(frame + MAC_BYTES), origin);
		dp->owner[i] = owner_of(dp, mac_load(frame), origin);
	}
}

static void send_run(struct datapath *dp, const struct switch_input *in, uint32_t first,
		     uint32_t count)
{
	const struct route *to = snapshot_route(dp->snapshot, dp->owner[first]);
	if (to == NULL) {
		datapath_count(dp, DATAPATH_DROP_NO_ROUTE, count);
		return;
	}
	if (to->next.port == NODE_BACKHAUL && in->port == NODE_BACKHAUL) {
		datapath_count(dp, DATAPATH_DROP_SPLIT, count);
		return;
	}
	struct bundle_run run = { .frames = in->frames, .first = first, .count = count };
	datapath_send(dp, &run, to);
}

/* One frame to many: each gets a header of its own, so the frame stays as it is. */
static void flood_one(struct datapath *dp, const struct switch_input *in, uint32_t i)
{
	const struct snapshot *snapshot = dp->snapshot;
	uint64_t origin = origin_of(dp, in, i);
	struct bundle_run run = { .frames = in->frames, .first = i, .count = 1, .shared = true };
	uint32_t count =
		in->port == NODE_BACKHAUL ? snapshot->flood_obu_count : snapshot->flood_count;
	datapath_count(dp, DATAPATH_FLOODED, 1);
	if (in->port != NODE_TAP)
		datapath_deliver(dp, in->frames, i, 1);
	for (uint32_t n = 0; n < count; n++)
		if (snapshot->flood[n].node != origin)
			datapath_send(dp, &run, &snapshot->flood[n]);
}

static void forward_run(struct datapath *dp, const struct switch_input *in, uint32_t first,
			uint32_t count)
{
	uint64_t owner = dp->owner[first];
	if (owner == OWNER_DROP)
		datapath_count(dp, DATAPATH_DROP_SPLIT, count);
	else if (owner == OWNER_NONE)
		datapath_count(dp, DATAPATH_DROP_RUNT, count);
	else if (owner == OWNER_FLOOD)
		for (uint32_t i = first; i < first + count; i++)
			flood_one(dp, in, i);
	else if (owner == dp->options.self)
		datapath_deliver(dp, in->frames, first, count);
	else
		send_run(dp, in, first, count);
}

void switch_frames(struct datapath *dp, const struct switch_input *in)
{
	HAUL_ASSERT(dp->snapshot != NULL && dp->options.role == NODE_RSU);
	HAUL_ASSERT(in->frames->count <= DATAPATH_INNER_FRAMES);
	HAUL_ASSERT(in->port == NODE_TAP || in->origin != NULL);
	uint32_t count = in->frames->count;
	find_owners(dp, in);
	for (uint32_t first = 0, end; first < count; first = end) {
		end = first + 1;
		while (end < count && dp->owner[end] == dp->owner[first])
			end++;
		forward_run(dp, in, first, end - first);
	}
}
