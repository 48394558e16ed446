/* node/control.h — the control plane of an OBU or RSU as a pure state machine.
 *
 * Model      Events go in (what the datapath received or noticed), time goes in, messages and route
 *            snapshots come out. No clock, no socket, no thread in here: tests drive whole networks
 *            of controls with simulated time.
 *            RSU: sends a heartbeat each period (with jitter), learns routes to OBUs from their
 *            replies (fewest hops, then lowest smoothed RTT), keeps the client table, tells other
 *            RSUs over the backhaul which OBUs attached (it passes the reply on).
 *            OBU: passes each new heartbeat on, replies to it by the way it came, keeps the best
 *            candidates for its upstream, changes with hysteresis, leaves a dead next hop within
 *            missed_max heartbeats.
 * Units      times in ns of one monotonic clock.
 * Ownership  snapshots handed out by control_snapshot belong to the caller (snapshot_free).
 * Memory     all tables at init; snapshots and nothing else afterwards.
 * Threads    one.
 * Errors     control_init: -EINVAL, -ENOMEM. Everything received is checked; what is refused is
 *            counted (enum control_counter).
 * Limits     NODE_ROUTES_MAX, NODE_CLIENTS_MAX, CONTROL_TX_MAX messages between two takes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>
#include <haul/message.h>
#include <haul/stats.h>
#include "node/hop.h"
#include "node/snapshot.h"

enum { CONTROL_TX_MAX = 1024, CONTROL_MESSAGE_BYTES = 64, CONTROL_CANDIDATES_MAX = 8 };

struct control_options {
	enum node_role role;
	uint64_t self;           /* node id */
	uint64_t client;         /* MAC of our TAP */
	uint64_t sequence;       /* first sequence number: boot seconds << 32 */
	uint32_t period_ms;      /* RSU: between heartbeats, 10 … 60000 */
	uint32_t jitter_percent; /* RSU: spread of its heartbeats, of the period, 0 … 50 */
	uint32_t history;        /* heartbeats remembered per candidate, 4 … 32 (default 10) */
	uint32_t candidates; /* OBU: next hops remembered an RSU, 1 … CONTROL_CANDIDATES_MAX (3) */
	uint32_t missed_max;     /* heartbeats missed until a next hop is dead (default 3) */
	uint32_t ttl;            /* of what we send first, default 8 */
	uint64_t seed;           /* of the jitter */
	uint32_t backhaul_peers; /* RSU: peers 1 … n of the backhaul link are the other RSUs */
};

enum control_event_kind { CONTROL_HEARTBEAT, CONTROL_REPLY, CONTROL_LEARN, CONTROL_SEND_FAILED };

struct control_event {
	enum control_event_kind kind;
	struct hop from;                   /* who handed it to us */
	int64_t now_ns;                    /* when it was received */
	bool broadcast;                    /* HAUL_FRAME_BROADCAST: not sent to us alone */
	struct haul_message_header header; /* HEARTBEAT, REPLY */
	struct haul_heartbeat_reply reply; /* HEARTBEAT uses .heartbeat only */
	uint64_t mac;                      /* LEARN: client MAC seen as source */
	uint64_t owner;                    /* LEARN: node id it came from (self = our TAP) */
};

struct control_tx {    /* one message to send, header included */
	struct hop to; /* peer 0 = the link's broadcast */
	uint32_t len;
	uint8_t bytes[CONTROL_MESSAGE_BYTES];
};

struct control;

int control_open(const struct control_options *options, int64_t now_ns,
		 struct control **ret_control, struct haul_err *err);
void control_close(struct control *control);

/* Take in a batch of events. */
void control_events(struct control *control, const struct control_event *events, uint32_t count);
/* Read and clear the seen marks of a snapshot that the datapath uses or used, so that clients in
 * use stay known: every few seconds on the current one, and before one is freed. */
void control_seen(struct control *control, struct snapshot *snapshot, int64_t now_ns);
/* Do what is due at now_ns; returns when to call again at the latest (or after control_events). */
int64_t control_tick(struct control *control, int64_t now_ns);
/* Move up to max queued messages to out; returns how many. */
uint32_t control_take(struct control *control, struct control_tx *out, uint32_t max);
/* A new snapshot when routes or clients changed since the last call (always the first time), else
 * NULL in *ret_snapshot. */
int control_snapshot(struct control *control, int64_t now_ns, struct snapshot **ret_snapshot);

/* What a person wants to see; copies. RSU by RSU, the chosen one first, each in order of
 * preference: those that we could fail over to. */
struct control_candidate {
	uint64_t rsu;
	struct hop next;
	uint64_t next_node; /* node id of the next hop, 0 when it never said */
	uint32_t hops;
	double reception; /* heartbeats heard / expected over the history, 0 … 1 */
	int64_t heard_ns; /* when last */
	bool chosen;
};
uint32_t control_candidates(const struct control *control, struct control_candidate *out,
			    uint32_t max);
/* Every known route, as in the snapshot. */
uint32_t control_routes(const struct control *control, struct route *out, uint32_t max);

#define CONTROL_COUNTER_LIST(X)                                                                    \
	X(CONTROL_HEARTBEATS_SENT, "heartbeats_sent", "heartbeats of our own")                     \
	X(CONTROL_HEARTBEATS_HEARD, "heartbeats_heard", "heartbeats received, repeats included")   \
	X(CONTROL_HEARTBEATS_PASSED_ON, "heartbeats_passed_on", "heartbeats broadcast again")      \
	X(CONTROL_REPLIES_SENT, "replies_sent", "replies of our own")                              \
	X(CONTROL_REPLIES_HEARD, "replies_heard", "replies that ended here")                       \
	X(CONTROL_REPLIES_PASSED_ON, "replies_passed_on", "replies sent on towards their RSU")     \
	X(CONTROL_UPSTREAM_CHANGES, "upstream_changes", "times another upstream was chosen")       \
	X(CONTROL_UPSTREAM_LOST, "upstream_lost", "times a next hop was left as dead")             \
	X(CONTROL_DROP_DUPLICATE, "drop_duplicate", "control messages seen before")                \
	X(CONTROL_DROP_STALE, "drop_stale", "heartbeats or replies older than what is known")      \
	X(CONTROL_DROP_TTL, "drop_ttl", "control messages not passed on: time to live used up")    \
	X(CONTROL_DROP_LOOP, "drop_loop",                                                          \
	  "our own messages come back, or a reply towards its sender")                             \
	X(CONTROL_DROP_NO_ROUTE, "drop_no_route", "replies with no way on")                        \
	X(CONTROL_DROP_INVALID, "drop_invalid", "values no honest node sends")                     \
	X(CONTROL_DROP_FULL, "drop_full", "a table or the send queue was full")

enum control_counter {
#define X(id, name, help) id,
	CONTROL_COUNTER_LIST(X)
#undef X
		CONTROL_COUNTERS
};

/* The block that holds these counters (name "control"). */
struct haul_stats *control_stats(struct control *control);
