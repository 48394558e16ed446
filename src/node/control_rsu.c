/* node/control_rsu.c — where replies end, and what RSUs tell one another.
 *
 * An OBU answers every RSU it hears, and marks the one it has chosen (ATTACHED). That RSU passes
 * the marked reply on to the others, once a period and at once when it is news: one message moves
 * an OBU, and who missed it learns a period later. Sequence numbers of the OBU order all these
 * statements. */
#include <haul/err.h>
#include "base/assert.h"
#include "node/control_state.h"

static bool is_backhaul_peer(const struct control *control, struct hop from)
{
	return from.port == NODE_BACKHAUL && from.peer >= 1 &&
	       from.peer <= control->options.backhaul_peers;
}

static void learn_client(struct control *control, const struct control_event *event)
{
	const struct client_news news = {
		.mac = event->reply.client,
		.owner = event->header.origin,
		.declared = true,
		.now_ns = control->now_ns,
	};
	const int rc = clients_learn(&control->clients, &news);

	if (rc < 0)
		control_refuse(control, rc);
}

/* ---- other RSUs ---- */

/* Another RSU, or what its OBUs pass on: only the backhaul makes RSUs know each other. */
void rsu_heartbeat(struct control *control, const struct control_event *event)
{
	const struct haul_message_header *header = &event->header;
	const uint32_t period_ms = event->reply.heartbeat.period_ms;
	struct destination *d = routes_find(&control->routes, header->origin);

	if (event->from.port == NODE_RADIO)
		return;
	if (!is_backhaul_peer(control, event->from) || period_ms < UPSTREAM_PERIOD_MS_MIN ||
	    period_ms > UPSTREAM_PERIOD_MS_MAX) {
		control_count(control, CONTROL_DROP_INVALID);
		return;
	}
	if (d != NULL && d->role != NODE_RSU)
		routes_forget(&control->routes, header->origin);
	const int rc = routes_admit(&control->routes, header->origin, header->sequence, &d);
	if (rc < 0) {
		control_refuse(control, rc);
		return;
	}
	d->role = NODE_RSU;
	const struct path path = {
		.next = event->from,
		.until_ns = control->now_ns +
			    upstream_patience_ns(control->options.missed_max, period_ms),
	};
	routes_set_path(&control->routes, d, header->sequence, &path);
}

static void pass_on(struct control *control, const struct control_event *event)
{
	/* No further than to its peer. */
	const struct haul_message_header header = control_reply_header(&event->header, 1);
	struct haul_heartbeat_reply reply = event->reply;

	reply.heartbeat.hops++;
	for (uint32_t peer = 1; peer <= control->options.backhaul_peers; peer++) {
		const struct hop to = { .port = NODE_BACKHAUL, .peer = peer };
		if (control_send_reply(control, to, &header, &reply))
			control_count(control, CONTROL_REPLIES_PASSED_ON);
	}
}

/* Another RSU says that this OBU has chosen it. */
static void hear_claim(struct control *control, const struct control_event *event)
{
	const struct haul_message_header *header = &event->header;
	const struct haul_heartbeat *echo = &event->reply.heartbeat;
	struct destination *d = routes_find(&control->routes, header->origin);
	int rc = 0;

	if (!is_backhaul_peer(control, event->from) ||
	    header->destination == control->options.self ||
	    !clients_is_station(header->destination) ||
	    (header->flags & HAUL_MESSAGE_ATTACHED) == 0 ||
	    echo->period_ms < UPSTREAM_PERIOD_MS_MIN || echo->period_ms > UPSTREAM_PERIOD_MS_MAX ||
	    (d != NULL && d->role != NODE_OBU))
		rc = HAUL_ECORRUPT;
	else if (d == NULL)
		rc = routes_admit(&control->routes, header->origin, header->sequence, &d);
	if (rc < 0) {
		control_refuse(control, rc);
		return;
	}
	const struct claim claim = {
		.rsu = header->destination,
		.sequence = header->sequence,
		.next = event->from,
		.hops = echo->hops,
		.until_ns = control->now_ns +
			    upstream_patience_ns(control->options.missed_max, echo->period_ms),
	};
	if (!routes_claim(&control->routes, d, &claim)) {
		control_refuse(control, HAUL_ESTALE);
		return;
	}
	control_count(control, CONTROL_REPLIES_HEARD);
	learn_client(control, event);
}

/* ---- OBUs ---- */

/* What the OBU itself says of whom it has chosen. */
static void hear_choice(struct control *control, const struct control_event *event,
			struct destination *d)
{
	const bool attached = (event->header.flags & HAUL_MESSAGE_ATTACHED) != 0;
	const uint64_t self = control->options.self;
	const struct claim claim = {
		.rsu = attached ? self : 0,
		.sequence = event->header.sequence,
		.until_ns = control->now_ns + upstream_patience_ns(control->options.missed_max,
								   control->options.period_ms),
	};

	/* That it has not chosen us says nothing of whom it has. */
	if (!attached && d->claim.rsu != self)
		return;
	if (!routes_claim(&control->routes, d, &claim) || !attached)
		return;
	const int64_t again_ns = d->claim.told_ns + control->beacon.period_ns / 2;
	if (d->claim.told && control->now_ns < again_ns)
		return;
	d->claim.told = true;
	d->claim.told_ns = control->now_ns;
	pass_on(control, event);
}

void rsu_reply(struct control *control, const struct control_event *event)
{
	const struct haul_message_header *header = &event->header;
	struct destination *d = routes_find(&control->routes, header->origin);
	int64_t rtt_ns = 0;

	if (event->from.port == NODE_BACKHAUL) {
		hear_claim(control, event);
		return;
	}
	if (header->destination != control->options.self) {
		control_count(control, CONTROL_DROP_NO_ROUTE);
		return;
	}
	int rc = beacon_rtt(&control->beacon, &event->reply, control->now_ns, &rtt_ns);
	if (rc == 0 && d != NULL && d->role != NODE_OBU)
		rc = HAUL_ECORRUPT;
	if (rc == 0)
		rc = routes_admit(&control->routes, header->origin, header->sequence, &d);
	if (rc < 0) {
		control_refuse(control, rc);
		return;
	}
	control_count(control, CONTROL_REPLIES_HEARD);
	const struct path path = {
		.next = event->from,
		.hops = event->reply.heartbeat.hops + 1U,
		.id = event->reply.heartbeat.id,
		.rtt_ns = rtt_ns,
		.until_ns = control->now_ns + upstream_patience_ns(control->options.missed_max,
								   control->options.period_ms),
	};
	routes_add_path(&control->routes, d, header->sequence, &path);
	learn_client(control, event);
	hear_choice(control, event, d);
}

/* ---- our own heartbeats ---- */

int64_t rsu_beat(struct control *control, int64_t now_ns)
{
	const uint32_t peers = control->options.backhaul_peers;
	struct haul_message_header header = {
		.type = HAUL_MESSAGE_HEARTBEAT,
		.ttl = (uint8_t)control->options.ttl,
		.origin = control->options.self,
		.destination = HAUL_NODE_BROADCAST,
	};
	struct haul_heartbeat heartbeat;

	if (beacon_take(&control->beacon, now_ns, &heartbeat)) {
		header.sequence = control->sequence++;
		const struct hop radio = { .port = NODE_RADIO };
		if (control_send_heartbeat(control, radio, &header, &heartbeat))
			control_count(control, CONTROL_HEARTBEATS_SENT);
		for (uint32_t peer = 1; peer <= peers; peer++) {
			const struct hop to = { .port = NODE_BACKHAUL, .peer = peer };
			(void)control_send_heartbeat(control, to, &header, &heartbeat);
		}
	}
	HAUL_ASSERT(control->beacon.due_ns > now_ns);
	return control->beacon.due_ns;
}
