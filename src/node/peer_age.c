#include "node/peer_age.h"

#include <string.h>

#include "base/assert.h"

void peer_age_heard(struct peer_age *age, const struct control_event *events, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct hop *from = &events[i].from;
		if (events[i].kind != CONTROL_HEARTBEAT && events[i].kind != CONTROL_REPLY)
			continue;
		if (from->port != NODE_RADIO)
			continue;
		HAUL_ASSERT(from->peer < HAUL_LINK_PEERS);
		age->heard_ns[from->peer] = events[i].now_ns > 0 ? events[i].now_ns : 1;
	}
}

static void mark(struct peer_age *age, const struct hop *next)
{
	if (next->port == NODE_RADIO && next->peer < HAUL_LINK_PEERS)
		age->used[next->peer] = 1;
}

static void mark_used(struct peer_age *age, const struct control *control)
{
	memset(age->used, 0, sizeof age->used);
	uint32_t count = control_routes(control, age->routes, NODE_ROUTES_MAX);
	for (uint32_t i = 0; i < count; i++)
		mark(age, &age->routes[i].next);
	count = control_candidates(control, age->candidates, NODE_ROUTES_MAX);
	for (uint32_t i = 0; i < count; i++)
		mark(age, &age->candidates[i].next);
}

uint32_t peer_age_check(struct peer_age *age, const struct control *control, int64_t now_ns,
			uint32_t *ret_peers, uint32_t max)
{
	uint32_t count = 0;
	if (now_ns < age->due_ns)
		return 0;
	age->due_ns = now_ns + PEER_AGE_CHECK_NS;
	mark_used(age, control);
	for (uint32_t peer = 1; peer < HAUL_LINK_PEERS && count < max; peer++) {
		if (age->heard_ns[peer] == 0 || age->used[peer] ||
		    now_ns - age->heard_ns[peer] < PEER_AGE_NS)
			continue;
		age->heard_ns[peer] = 0;
		ret_peers[count++] = peer;
	}
	return count;
}
