/* node/control_obu.c — an OBU answers heartbeats and passes on heartbeats and replies.
 *
 * Which neighbour and which RSU: upstream.c. What this file adds is the way of replies: towards the
 * RSU by the neighbour selected for it, leaving a path back at every node they cross. */
#include <errno.h>

#include <haul/err.h>
#include "base/assert.h"
#include "node/control_state.h"

static void send_reply_to(struct control *control, struct source *source)
{
	struct haul_message_header header = {
		.type = HAUL_MESSAGE_REPLY,
		.ttl = (uint8_t)control->options.ttl,
		.origin = control->options.self,
		.destination = source->node,
	};
	const int32_t chosen = control->upstream.chosen;
	struct haul_heartbeat_reply reply;
	struct route route;

	if (!upstream_take_reply(source, control->now_ns, &reply))
		return;
	if (chosen != UPSTREAM_NONE && source == &control->upstream.source[chosen])
		header.flags = HAUL_MESSAGE_ATTACHED;
	const bool known = upstream_route(source, &route);
	HAUL_ASSERT(known);
	header.sequence = control->sequence++;
	reply.client = control->options.client;
	if (control_send_reply(control, route.next, &header, &reply))
		control_count(control, CONTROL_REPLIES_SENT);
}

static void pass_heartbeat_on(struct control *control, struct source *source)
{
	const struct hop everybody = { .port = NODE_RADIO };
	struct haul_message_header header;
	struct haul_heartbeat heartbeat;

	if (!upstream_take_heartbeat(source, &header, &heartbeat))
		return;
	if (header.ttl == 0)
		control_count(control, CONTROL_DROP_TTL);
	else if (control_send_heartbeat(control, everybody, &header, &heartbeat))
		control_count(control, CONTROL_HEARTBEATS_PASSED_ON);
}

void obu_send(struct control *control)
{
	for (uint32_t i = 0; i < UPSTREAM_SOURCES_MAX; i++) {
		struct source *source = &control->upstream.source[i];
		if (source->node == 0)
			continue;
		pass_heartbeat_on(control, source);
		send_reply_to(control, source);
	}
}

void obu_heartbeat(struct control *control, const struct control_event *event)
{
	const uint64_t rsu = event->header.origin;

	if (event->from.port != NODE_RADIO) {
		control_count(control, CONTROL_DROP_INVALID);
		return;
	}
	const int rc = upstream_heard(&control->upstream, event);
	if (rc < 0)
		control_refuse(control, rc);
	const struct source *source = upstream_find(&control->upstream, rsu);
	if (source == NULL)
		return;
	/* A node is an RSU or an OBU, never both. */
	routes_forget(&control->routes, rsu);
	const int64_t silent_ns =
		event->now_ns + 1 +
		upstream_patience_ns(control->options.missed_max, source->newest.period_ms);
	if (silent_ns < control->age_due_ns)
		control->age_due_ns = silent_ns;
	obu_send(control);
}

/* Does an honest node answer this, and may it be passed on? 0, or why not. */
static int check_reply(struct control *control, const struct control_event *event,
		       struct source *rsu)
{
	const struct haul_message_header *header = &event->header;
	const struct haul_heartbeat *echo = &event->reply.heartbeat;
	struct route route;

	if (event->from.port != NODE_RADIO ||
	    upstream_find(&control->upstream, header->origin) != NULL)
		return HAUL_ECORRUPT;
	if (rsu == NULL || !upstream_route(rsu, &route))
		return HAUL_ENOROUTE;
	if (rsu->newest.id - echo->id >= UPSTREAM_HISTORY_MAX ||
	    rsu->newest.period_ms != echo->period_ms)
		return HAUL_ESTALE;
	if (route.next.peer == event->from.peer)
		return -ELOOP;
	return header->ttl > 1 ? 0 : HAUL_ETTL;
}

void obu_reply(struct control *control, const struct control_event *event)
{
	const struct haul_message_header *header = &event->header;
	struct haul_heartbeat_reply reply = event->reply;
	struct source *rsu = upstream_find(&control->upstream, header->destination);
	struct destination *d;
	struct route route;

	int rc = check_reply(control, event, rsu);
	if (rc == 0)
		rc = routes_admit(&control->routes, header->origin, header->sequence, &d);
	if (rc < 0) {
		control_refuse(control, rc);
		return;
	}
	const struct path back = {
		.next = event->from,
		.hops = reply.heartbeat.hops + 1U,
		.id = reply.heartbeat.id,
		.until_ns = control->now_ns + upstream_patience_ns(control->options.missed_max,
								   reply.heartbeat.period_ms),
	};
	routes_set_path(&control->routes, d, header->sequence, &back);
	const bool known = upstream_route(rsu, &route);
	HAUL_ASSERT(known);
	const struct haul_message_header onward =
		control_reply_header(header, (uint8_t)(header->ttl - 1));
	reply.heartbeat.hops++;
	if (control_send_reply(control, route.next, &onward, &reply))
		control_count(control, CONTROL_REPLIES_PASSED_ON);
}
