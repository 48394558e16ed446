#include "node/control.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include "base/assert.h"
#include "node/control_state.h"
#include "os/os.h"

enum {
	AGE_MS_MAX = 250,    /* what has grown old is noticed within this */
	MISSED_MAX_MAX = 16, /* so that a history of heartbeats always covers it */
	REPLY_BYTES = HAUL_MESSAGE_HEADER_BYTES + 28,
	OBU_DESTINATIONS = NODE_ROUTES_MAX - UPSTREAM_SOURCES_MAX
};

static_assert(REPLY_BYTES <= (int)CONTROL_MESSAGE_BYTES, "the longest message fits");
static_assert((int)CONTROL_COUNTERS <= (int)HAUL_STATS_COUNTERS, "the counters fit their block");

static const struct haul_counter counters[] = {
#define X(id, name, help) { name, help },
	CONTROL_COUNTER_LIST(X)
#undef X
};

/* ---- open ---- */

struct range {
	const char *name;
	uint64_t value;
	uint64_t min;
	uint64_t max;
};

static int check_ranges(const struct range *range, uint32_t count, struct haul_err *err)
{
	for (uint32_t i = 0; i < count; i++)
		if (range[i].value < range[i].min || range[i].value > range[i].max)
			return haul_err_set(err, -EINVAL, "%s: %llu is not in %llu ... %llu",
					    range[i].name, (unsigned long long)range[i].value,
					    (unsigned long long)range[i].min,
					    (unsigned long long)range[i].max);
	return 0;
}

static int check_options(const struct control_options *options, struct haul_err *err)
{
	const struct range common[] = {
		{ "history", options->history, 4, UPSTREAM_HISTORY_MAX },
		{ "candidates", options->candidates, 1, CONTROL_CANDIDATES_MAX },
		{ "missed_max", options->missed_max, 1, MISSED_MAX_MAX },
		{ "ttl", options->ttl, 1, UINT8_MAX },
	};
	const struct range rsu[] = {
		{ "period_ms", options->period_ms, UPSTREAM_PERIOD_MS_MIN, UPSTREAM_PERIOD_MS_MAX },
		{ "jitter_percent", options->jitter_percent, 0, 50 },
		{ "backhaul_peers", options->backhaul_peers, 0, CONTROL_TX_MAX / 4 },
	};

	if (!clients_is_station(options->self))
		return haul_err_set(err, -EINVAL, "node id: not the address of one station");
	if (!clients_is_station(options->client))
		return haul_err_set(err, -EINVAL, "client: not the address of one station");
	int rc = check_ranges(common, sizeof common / sizeof *common, err);
	if (rc == 0 && options->role == NODE_RSU)
		rc = check_ranges(rsu, sizeof rsu / sizeof *rsu, err);
	return rc;
}

static int open_tables(struct control *control)
{
	const struct control_options *options = &control->options;
	const uint32_t capacity = options->role == NODE_RSU ? NODE_ROUTES_MAX : OBU_DESTINATIONS;
	int rc = routes_init(&control->routes, capacity, options->self, options->seed);

	if (rc == 0)
		rc = clients_init(&control->clients, options->self, options->seed);
	return rc;
}

int control_open(const struct control_options *options, int64_t now_ns,
		 struct control **ret_control, struct haul_err *err)
{
	int rc = check_options(options, err);
	if (rc < 0)
		return rc;
	struct control *control = calloc(1, sizeof *control);
	if (control == NULL)
		return haul_err_set(err, -ENOMEM, "control: no memory");
	control->options = *options;
	control->sequence = options->sequence;
	control->now_ns = now_ns;
	control->age_due_ns = now_ns;
	control->clients_due_ns = now_ns + CLIENTS_SCAN_NS;
	haul_stats_init(&control->stats, "control", counters, CONTROL_COUNTERS);
	rc = open_tables(control);
	if (rc < 0) {
		control_close(control);
		return haul_err_set(err, rc, "control: %s", haul_strerror(rc));
	}
	upstream_init(&control->upstream, options, &control->stats);
	if (options->role == NODE_RSU) {
		const struct beacon_options beacon = {
			.period_ms = options->period_ms,
			.jitter_percent = options->jitter_percent,
			.seed = options->seed,
		};
		beacon_init(&control->beacon, &beacon, now_ns);
	}
	const struct client_news own = {
		.mac = options->client, .owner = options->self, .declared = true, .now_ns = now_ns
	};
	rc = clients_learn(&control->clients, &own);
	HAUL_ASSERT(rc == 1);
	*ret_control = control;
	return 0;
}

void control_close(struct control *control)
{
	if (control == NULL)
		return;
	routes_done(&control->routes);
	clients_done(&control->clients);
	free(control);
}

/* ---- messages out ---- */

static struct control_tx *tx_reserve(struct control *control, struct hop to)
{
	if (control->tx_count == CONTROL_TX_MAX) {
		control_count(control, CONTROL_DROP_FULL);
		return NULL;
	}
	const uint32_t at = (control->tx_first + control->tx_count) % CONTROL_TX_MAX;
	control->tx_count++;
	control->tx[at].to = to;
	return &control->tx[at];
}

bool control_send_heartbeat(struct control *control, struct hop to,
			    const struct haul_message_header *header,
			    const struct haul_heartbeat *heartbeat)
{
	struct control_tx *tx = tx_reserve(control, to);

	if (tx == NULL)
		return false;
	tx->len = haul_heartbeats_encode(header, heartbeat, 1, tx->bytes, sizeof tx->bytes);
	HAUL_ASSERT(tx->len <= sizeof tx->bytes);
	return true;
}

bool control_send_reply(struct control *control, struct hop to,
			const struct haul_message_header *header,
			const struct haul_heartbeat_reply *reply)
{
	struct control_tx *tx = tx_reserve(control, to);

	if (tx == NULL)
		return false;
	tx->len = haul_replies_encode(header, reply, 1, tx->bytes, sizeof tx->bytes);
	HAUL_ASSERT(tx->len <= sizeof tx->bytes);
	return true;
}

struct haul_message_header control_reply_header(const struct haul_message_header *header,
						uint8_t ttl)
{
	HAUL_ASSERT(ttl >= 1);
	return (struct haul_message_header){
		.type = HAUL_MESSAGE_REPLY,
		.flags = header->flags & HAUL_MESSAGE_ATTACHED,
		.ttl = ttl,
		.sequence = header->sequence,
		.origin = header->origin,
		.destination = header->destination,
	};
}

uint32_t control_take(struct control *control, struct control_tx *out, uint32_t max)
{
	const uint32_t count = control->tx_count < max ? control->tx_count : max;

	for (uint32_t i = 0; i < count; i++)
		out[i] = control->tx[(control->tx_first + i) % CONTROL_TX_MAX];
	control->tx_first = (control->tx_first + count) % CONTROL_TX_MAX;
	control->tx_count -= count;
	HAUL_ASSERT(control->tx_count < CONTROL_TX_MAX || count == 0);
	return count;
}

/* ---- events in ---- */

void control_refuse(struct control *control, int code)
{
	HAUL_ASSERT(code < 0);
	switch (code) {
	case -EALREADY:
		control_count(control, CONTROL_DROP_DUPLICATE);
		return;
	case -ELOOP:
		control_count(control, CONTROL_DROP_LOOP);
		return;
	case HAUL_ESTALE:
		control_count(control, CONTROL_DROP_STALE);
		return;
	case HAUL_ETTL:
		control_count(control, CONTROL_DROP_TTL);
		return;
	case HAUL_ENOROUTE:
		control_count(control, CONTROL_DROP_NO_ROUTE);
		return;
	case HAUL_EFULL:
		control_count(control, CONTROL_DROP_FULL);
		return;
	default:
		control_count(control, CONTROL_DROP_INVALID);
		return;
	}
}

static bool is_neighbour(struct hop hop)
{
	return (hop.port == NODE_RADIO || hop.port == NODE_BACKHAUL) && hop.peer != 0 &&
	       hop.peer != HAUL_PEER_NONE;
}

/* What every heartbeat and reply must be, or no honest node has sent it to us. */
static int check_message(const struct control *control, const struct control_event *event)
{
	const struct haul_message_header *header = &event->header;

	if (header->origin == control->options.self)
		return -ELOOP;
	if (!is_neighbour(event->from) || !clients_is_station(header->origin) || header->ttl == 0)
		return HAUL_ECORRUPT;
	if (event->kind == CONTROL_HEARTBEAT)
		return header->destination == HAUL_NODE_BROADCAST ? 0 : HAUL_ECORRUPT;
	/* A reply is for one neighbour; broadcast, all who hear it would pass it on. */
	if (event->broadcast || !clients_is_station(header->destination) ||
	    !clients_is_station(event->reply.client) ||
	    event->reply.heartbeat.hops + header->ttl > UINT8_MAX)
		return HAUL_ECORRUPT;
	return 0;
}

static void take_message(struct control *control, const struct control_event *event)
{
	const bool is_rsu = control->options.role == NODE_RSU;
	const int rc = check_message(control, event);

	if (event->kind == CONTROL_HEARTBEAT)
		control_count(control, CONTROL_HEARTBEATS_HEARD);
	if (rc < 0)
		control_refuse(control, rc);
	else if (event->kind == CONTROL_HEARTBEAT && is_rsu)
		rsu_heartbeat(control, event);
	else if (event->kind == CONTROL_HEARTBEAT)
		obu_heartbeat(control, event);
	else if (is_rsu)
		rsu_reply(control, event);
	else
		obu_reply(control, event);
}

static void take_learn(struct control *control, const struct control_event *event)
{
	const struct client_news news = { .mac = event->mac,
					  .owner = event->owner,
					  .now_ns = event->now_ns };
	const int rc = clients_learn(&control->clients, &news);

	if (rc < 0)
		control_refuse(control, rc);
}

static void take_failure(struct control *control, const struct control_event *event)
{
	if (!is_neighbour(event->from)) {
		control_count(control, CONTROL_DROP_INVALID);
		return;
	}
	routes_failed(&control->routes, event->from);
	if (control->options.role == NODE_RSU)
		return;
	upstream_failed(&control->upstream, event->from, event->now_ns);
	obu_send(control);
}

void control_events(struct control *control, const struct control_event *events, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct control_event event = events[i];
		if (event.now_ns > control->now_ns)
			control->now_ns = event.now_ns;
		event.now_ns = control->now_ns;
		switch (event.kind) {
		case CONTROL_HEARTBEAT:
		case CONTROL_REPLY:
			take_message(control, &event);
			break;
		case CONTROL_LEARN:
			take_learn(control, &event);
			break;
		case CONTROL_SEND_FAILED:
			take_failure(control, &event);
			break;
		default:
			control_count(control, CONTROL_DROP_INVALID);
			break;
		}
	}
}

void control_seen(struct control *control, struct snapshot *snapshot, int64_t now_ns)
{
	for (uint32_t i = 0; i <= snapshot->client_mask; i++) {
		struct client *client = &snapshot->clients[i];
		if (client->mac == 0 ||
		    atomic_load_explicit(&client->seen, memory_order_relaxed) == 0)
			continue;
		atomic_store_explicit(&client->seen, 0, memory_order_relaxed);
		clients_used(&control->clients, client->mac, now_ns);
	}
}

/* ---- time ---- */

int64_t control_tick(struct control *control, int64_t now_ns)
{
	int64_t due_ns = INT64_MAX;

	if (now_ns > control->now_ns)
		control->now_ns = now_ns;
	now_ns = control->now_ns;
	if (control->options.role == NODE_RSU)
		due_ns = rsu_beat(control, now_ns);
	if (now_ns >= control->clients_due_ns) {
		(void)clients_expire(&control->clients, now_ns);
		control->clients_due_ns = now_ns + CLIENTS_SCAN_NS;
	}
	if (now_ns >= control->age_due_ns) {
		routes_expire(&control->routes, now_ns);
		const int64_t next_ns = upstream_age(&control->upstream, now_ns);
		const int64_t latest_ns = now_ns + AGE_MS_MAX * NS_PER_MS;
		control->age_due_ns = next_ns < latest_ns ? next_ns : latest_ns;
		obu_send(control);
	}
	if (control->age_due_ns < due_ns)
		due_ns = control->age_due_ns;
	HAUL_ASSERT(due_ns > now_ns);
	return due_ns;
}

/* ---- routes out ---- */

static uint64_t version_of(const struct control *control)
{
	return control->upstream.version + control->routes.version + control->clients.version;
}

uint32_t control_routes(const struct control *control, struct route *out, uint32_t max)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < UPSTREAM_SOURCES_MAX && count < max; i++)
		if (upstream_route(&control->upstream.source[i], &out[count]))
			count++;
	return count + routes_collect(&control->routes, out + count, max - count);
}

int control_snapshot(struct control *control, int64_t now_ns, struct snapshot **ret_snapshot)
{
	const int32_t chosen = control->upstream.chosen;
	const uint64_t version = version_of(control);
	struct route upstream;

	HAUL_ASSERT(now_ns >= 0);
	if (control->generation > 0 && version == control->published) {
		*ret_snapshot = NULL;
		return 0;
	}
	struct snapshot_input input = {
		.generation = control->generation + 1,
		.self = control->options.self,
		.secret = control->options.seed,
		.role = control->options.role,
		.routes = control->route,
		.clients = control->clients.row,
		.client_count = control->clients.count,
		.attached = control->attached,
	};
	if (chosen != UPSTREAM_NONE && upstream_route(&control->upstream.source[chosen], &upstream))
		input.upstream = &upstream;
	input.route_count = control_routes(control, control->route, NODE_ROUTES_MAX);
	input.attached_count =
		routes_attached(&control->routes, control->attached, NODE_ROUTES_MAX);
	const int rc = snapshot_build(&input, ret_snapshot);
	if (rc < 0)
		return rc;
	control->generation++;
	control->published = version;
	return 0;
}

/* ---- what a person wants to see ---- */

uint32_t control_candidates(const struct control *control, struct control_candidate *out,
			    uint32_t max)
{
	const struct routes *routes = &control->routes;
	const uint32_t count = upstream_list(&control->upstream, out, max);

	/* A neighbour that replies through us has told its id. */
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t row = 0; row < routes->count && out[i].next_node == 0; row++) {
			const struct route *route = &routes->row[row].shown;
			if (route->node != 0 && route->hops == 1 &&
			    route->next.port == out[i].next.port &&
			    route->next.peer == out[i].next.peer)
				out[i].next_node = route->node;
		}
	return count;
}

struct haul_stats *control_stats(struct control *control)
{
	return &control->stats;
}
