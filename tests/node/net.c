#include "node/net.h"

#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"

struct net_message {
	int64_t at_ns;
	uint64_t order;
	uint32_t to;
	struct hop from; /* as the receiver sees it */
	bool broadcast;
	uint32_t len;
	uint8_t bytes[CONTROL_MESSAGE_BYTES];
};

struct net *net_open(uint64_t seed)
{
	struct net *net = calloc(1, sizeof *net);
	assert_non_null(net);
	prng_init(&net->prng, seed);
	net->options = (struct control_options){
		.period_ms = NET_PERIOD_MS,
		.jitter_percent = 10,
		.history = 10,
		.candidates = 3,
		.missed_max = 3,
		.ttl = 8,
	};
	assert_int_equal(haul_messages_init(&net->messages, 1), 0);
	assert_int_equal(haul_frames_init(&net->frames, 1), 0);
	return net;
}

void net_close(struct net *net)
{
	for (uint32_t i = 0; i < net->count; i++) {
		control_close(net->node[i].control);
		snapshot_free(net->node[i].snapshot);
	}
	haul_messages_done(&net->messages);
	haul_frames_done(&net->frames);
	free(net->heap);
	free(net);
}

uint64_t net_id(uint32_t node)
{
	return UINT64_C(0x020000000000) + node + 1;
}

uint64_t net_client(uint32_t node)
{
	return UINT64_C(0x060000000000) + node + 1;
}

static bool is_rsu(const struct net *net, uint32_t node)
{
	return net->node[node].options.role == NODE_RSU;
}

/* Peer number of RSU `other` on the backhaul of RSU `node`, and back. */
static uint32_t backhaul_peer(const struct net *net, uint32_t node, uint32_t other)
{
	uint32_t peer = 0;
	for (uint32_t i = 0; i <= other; i++)
		if (is_rsu(net, i) && i != node)
			peer++;
	return peer;
}

static uint32_t backhaul_node(const struct net *net, uint32_t node, uint32_t peer)
{
	for (uint32_t i = 0; i < net->count; i++)
		if (is_rsu(net, i) && i != node && --peer == 0)
			return i;
	fail_msg("node %u has no such backhaul peer", node);
	return 0;
}

static void open_node(struct net *net, uint32_t node)
{
	struct net_node *n = &net->node[node];
	struct haul_err err = { 0 };
	uint32_t rsus = 0;
	for (uint32_t i = 0; i < net->count; i++)
		rsus += is_rsu(net, i) && i != node ? 1 : 0;
	n->options.backhaul_peers = is_rsu(net, node) ? rsus : 0;
	n->options.seed = prng_next(&net->prng);
	n->options.sequence = (uint64_t)(1000 + net->now_ns / NS_PER_S) << 32;
	if (control_open(&n->options, net->now_ns, &n->control, &err) < 0)
		fail_msg("%s", err.text);
	n->on = true;
	n->due_ns = net->now_ns;
}

uint32_t net_add(struct net *net, enum node_role role)
{
	assert_true(net->count < NET_NODES_MAX);
	const uint32_t node = net->count++;
	net->node[node].options = net->options;
	net->node[node].options.role = role;
	net->node[node].options.self = net_id(node);
	net->node[node].options.client = net_client(node);
	net->node[node].due_ns = INT64_MAX;
	return node;
}

void net_join(struct net *net, uint32_t a, uint32_t b, double loss)
{
	const int64_t latency_ns = NS_PER_MS / 2 + prng_below(&net->prng, 1000000);
	net->link[a][b] = (struct net_link){ .up = true, .loss = loss, .latency_ns = latency_ns };
	net->link[b][a] = net->link[a][b];
}

void net_part(struct net *net, uint32_t a, uint32_t b)
{
	net->link[a][b].up = false;
	net->link[b][a].up = false;
}

void net_off(struct net *net, uint32_t node)
{
	struct net_node *n = &net->node[node];
	control_close(n->control);
	snapshot_free(n->snapshot);
	n->control = NULL;
	n->snapshot = NULL;
	n->on = false;
	n->due_ns = INT64_MAX;
}

void net_on(struct net *net, uint32_t node)
{
	assert_false(net->node[node].on);
	open_node(net, node);
}

/* ---- what is on its way ---- */

static bool sooner(const struct net_message *a, const struct net_message *b)
{
	return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void heap_push(struct net *net, const struct net_message *message)
{
	if (net->heap_count == net->heap_capacity) {
		net->heap_capacity = net->heap_capacity ? 2 * net->heap_capacity : 1024;
		net->heap = realloc(net->heap, net->heap_capacity * sizeof *net->heap);
		assert_non_null(net->heap);
	}
	uint32_t at = net->heap_count++;
	while (at > 0 && sooner(message, &net->heap[(at - 1) / 2])) {
		net->heap[at] = net->heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	net->heap[at] = *message;
}

static struct net_message heap_pop(struct net *net)
{
	const struct net_message top = net->heap[0];
	const struct net_message last = net->heap[--net->heap_count];
	uint32_t at = 0;
	for (;;) {
		uint32_t child = 2 * at + 1;
		if (child >= net->heap_count)
			break;
		if (child + 1 < net->heap_count && sooner(&net->heap[child + 1], &net->heap[child]))
			child++;
		if (!sooner(&net->heap[child], &last))
			break;
		net->heap[at] = net->heap[child];
		at = child;
	}
	if (net->heap_count > 0)
		net->heap[at] = last;
	return top;
}

static void put_on_radio(struct net *net, uint32_t from, uint32_t to, const struct control_tx *tx)
{
	const struct net_link *link = &net->link[from][to];
	if (!link->up || prng_unit(&net->prng) < link->loss)
		return;
	struct net_message message = {
		.at_ns = net->now_ns + link->latency_ns,
		.order = net->sent++,
		.to = to,
		.from = { .port = NODE_RADIO, .peer = from + 1 },
		.broadcast = tx->to.peer == 0,
		.len = tx->len,
	};
	memcpy(message.bytes, tx->bytes, tx->len);
	heap_push(net, &message);
}

static void put_on_backhaul(struct net *net, uint32_t from, const struct control_tx *tx)
{
	const uint32_t to = backhaul_node(net, from, tx->to.peer);
	struct net_message message = {
		.at_ns = net->now_ns + NS_PER_MS / 5,
		.order = net->sent++,
		.to = to,
		.from = { .port = NODE_BACKHAUL, .peer = backhaul_peer(net, to, from) },
		.len = tx->len,
	};
	memcpy(message.bytes, tx->bytes, tx->len);
	heap_push(net, &message);
}

/* ---- one step ---- */

static void send_all(struct net *net, uint32_t node)
{
	struct control_tx tx[64];
	uint32_t count;
	while ((count = control_take(net->node[node].control, tx, 64)) > 0) {
		for (uint32_t i = 0; i < count; i++) {
			if (tx[i].to.port == NODE_BACKHAUL)
				put_on_backhaul(net, node, &tx[i]);
			else if (tx[i].to.peer != 0)
				put_on_radio(net, node, tx[i].to.peer - 1, &tx[i]);
			else
				for (uint32_t to = 0; to < net->count; to++)
					put_on_radio(net, node, to, &tx[i]);
		}
	}
}

static void step_node(struct net *net, uint32_t node)
{
	struct net_node *n = &net->node[node];
	struct snapshot *snapshot = NULL;
	n->due_ns = control_tick(n->control, net->now_ns);
	assert_true(n->due_ns > net->now_ns);
	send_all(net, node);
	assert_int_equal(control_snapshot(n->control, net->now_ns, &snapshot), 0);
	if (snapshot == NULL)
		return;
	snapshot_free(n->snapshot);
	n->snapshot = snapshot;
	n->snapshots++;
	if (net->check != NULL)
		net->check(net, net->check_arg);
}

static void deliver(struct net *net, struct net_message *message)
{
	if (!net->node[message->to].on)
		return;
	struct haul_messages *m = &net->messages;
	haul_frames_clear(&net->frames);
	assert_int_equal(
		haul_frames_push(&net->frames, &(struct haul_frame){ .data = message->bytes,
								     .len = message->len }),
		0);
	assert_int_equal(haul_messages_decode(&net->frames, m), 1);
	struct control_event event = {
		.kind = m->type[0] == HAUL_MESSAGE_REPLY ? CONTROL_REPLY : CONTROL_HEARTBEAT,
		.from = message->from,
		.now_ns = net->now_ns,
		.broadcast = message->broadcast,
		.header = { .type = m->type[0],
			    .flags = m->flags[0],
			    .ttl = m->ttl[0],
			    .sequence = m->sequence[0],
			    .origin = m->origin[0],
			    .destination = m->destination[0] },
	};
	if (event.kind == CONTROL_REPLY)
		haul_reply_get(m->body[0], &event.reply);
	else
		haul_heartbeat_get(m->body[0], &event.reply.heartbeat);
	control_events(net->node[message->to].control, &event, 1);
	step_node(net, message->to);
}

static uint32_t first_due(const struct net *net)
{
	uint32_t first = 0;
	for (uint32_t i = 1; i < net->count; i++)
		if (net->node[i].due_ns < net->node[first].due_ns)
			first = i;
	return first;
}

void net_run(struct net *net, int64_t for_ns)
{
	const int64_t end_ns = net->now_ns + for_ns;
	for (uint32_t i = 0; i < net->count; i++)
		if (net->node[i].control == NULL && net->node[i].options.sequence == 0)
			open_node(net, i);
	for (;;) {
		const uint32_t node = first_due(net);
		const int64_t due_ns = net->node[node].due_ns;
		const int64_t heard_ns = net->heap_count > 0 ? net->heap[0].at_ns : INT64_MAX;
		const int64_t next_ns = heard_ns < due_ns ? heard_ns : due_ns;
		if (next_ns > end_ns)
			break;
		net->now_ns = next_ns;
		if (heard_ns <= due_ns) {
			struct net_message message = heap_pop(net);
			deliver(net, &message);
		} else {
			step_node(net, node);
		}
	}
	net->now_ns = end_ns;
}

/* ---- what a test asks ---- */

uint64_t net_counter(const struct net *net, uint32_t node, enum control_counter counter)
{
	return control_stats(net->node[node].control)->extra[counter];
}

static uint32_t node_of(const struct net *net, uint64_t id)
{
	for (uint32_t i = 0; i < net->count; i++)
		if (net_id(i) == id)
			return i;
	return UINT32_MAX;
}

uint32_t net_chosen(const struct net *net, uint32_t node)
{
	return node_of(net, net->node[node].snapshot->upstream.node);
}

struct net_walk net_walk(const struct net *net, uint32_t from, uint32_t to)
{
	struct net_walk walk = { .last = from };
	while (walk.last != to) {
		const struct net_node *n = &net->node[walk.last];
		const struct route *route = NULL;
		uint32_t next;
		if (n->on && n->snapshot != NULL)
			route = snapshot_route(n->snapshot, net_id(to));
		walk.end = NET_NO_ROUTE;
		if (route == NULL)
			return walk;
		walk.end = NET_CIRCLE;
		if (walk.steps++ > net->count)
			return walk;
		if (route->next.port == NODE_BACKHAUL) {
			next = backhaul_node(net, walk.last, route->next.peer);
		} else {
			next = route->next.peer - 1;
			walk.hops++;
			walk.end = NET_LOST;
			if (!net->link[walk.last][next].up || !net->node[next].on)
				return walk;
		}
		walk.last = next;
	}
	walk.end = NET_ARRIVES;
	return walk;
}

struct net_walk net_walk_frame(const struct net *net, uint32_t from, uint32_t to)
{
	struct net_walk up = { .last = from, .end = NET_ARRIVES };
	if (!is_rsu(net, from)) {
		const uint32_t chosen = net_chosen(net, from);
		up.end = NET_NO_ROUTE;
		if (chosen == UINT32_MAX)
			return up;
		up = net_walk(net, from, chosen);
		if (up.end != NET_ARRIVES)
			return up;
	}
	struct net_walk down = net_walk(net, up.last, to);
	down.hops += up.hops;
	down.steps += up.steps;
	return down;
}
