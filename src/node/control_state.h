/* node/control_state.h — what the files of control share: control.c (open, dispatch, publish),
 * control_rsu.c, control_obu.c. Nobody else includes it. */
#pragma once

#include "node/beacon.h"
#include "node/clients.h"
#include "node/control.h"
#include "node/routes.h"
#include "node/upstream.h"

struct control {
	struct control_options options;
	struct haul_stats stats;
	uint64_t sequence;  /* of our next message */
	int64_t now_ns;     /* latest time heard of: never goes back */
	int64_t age_due_ns; /* when to look for what has grown old */
	int64_t clients_due_ns;

	struct beacon beacon;     /* RSU */
	struct upstream upstream; /* OBU */
	struct routes routes;
	struct clients clients;

	uint64_t generation;                 /* of the last snapshot, 0 before the first */
	uint64_t published;                  /* control_version then */
	struct route route[NODE_ROUTES_MAX]; /* work space of snapshots */
	uint64_t attached[NODE_ROUTES_MAX];

	uint32_t tx_first;
	uint32_t tx_count;
	struct control_tx tx[CONTROL_TX_MAX]; /* ring */
};

static inline void control_count(struct control *control, enum control_counter counter)
{
	haul_stats_count(&control->stats, counter, 1);
}

/* Count why a message was refused: a negative code of upstream, routes, beacon or clients. */
void control_refuse(struct control *control, int code);

/* Queue a message; the header's sequence is as given (control_next_sequence for our own). */
bool control_send_heartbeat(struct control *control, struct hop to,
			    const struct haul_message_header *header,
			    const struct haul_heartbeat *heartbeat);
bool control_send_reply(struct control *control, struct hop to,
			const struct haul_message_header *header,
			const struct haul_heartbeat_reply *reply);

/* The header under which a reply is passed on: only what a reply has, whatever came with it. */
struct haul_message_header control_reply_header(const struct haul_message_header *header,
						uint8_t ttl);

/* The events of each role: headers are plausible, kinds and ports are not yet looked at. */
void rsu_heartbeat(struct control *control, const struct control_event *event);
void rsu_reply(struct control *control, const struct control_event *event);
/* Send the heartbeat that is due; returns when the next is. */
int64_t rsu_beat(struct control *control, int64_t now_ns);

void obu_heartbeat(struct control *control, const struct control_event *event);
void obu_reply(struct control *control, const struct control_event *event);
/* Send what upstream has left to be sent. */
void obu_send(struct control *control);
