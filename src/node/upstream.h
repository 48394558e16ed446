/* node/upstream.h — an OBU's way to each RSU it hears of, and which RSU it has chosen.
 *
 * Model      One source an RSU, with the best few neighbours that hand on its heartbeats: the
 *            candidates. Of these one is selected: what is for that RSU goes to it. Of the RSUs one
 *            is chosen: what our TAP sends goes to it. A heartbeat is passed on only when it came
 *            from the selected neighbour, so what we tell others is the way we really use;
 *            upstream.c says why no two nodes can ever point at each other.
 *            Calls take in what was heard and leave behind what is to be sent (take_*).
 * Units      times in ns of one monotonic clock; hops in radio hops to the RSU.
 * Memory     none but the struct.
 * Threads    one.
 * Errors     upstream_heard: -EALREADY (a repeat), HAUL_ESTALE, HAUL_ECORRUPT, HAUL_EFULL.
 * Limits     UPSTREAM_SOURCES_MAX RSUs, CONTROL_CANDIDATES_MAX candidates each. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/control.h"

enum {
	UPSTREAM_SOURCES_MAX = 64,
	UPSTREAM_PERIOD_MS_MIN = 10,
	UPSTREAM_PERIOD_MS_MAX = 60000,
	UPSTREAM_HISTORY_MAX = 32,
	UPSTREAM_NONE = -1
};

struct candidate {
	struct hop next;
	struct haul_heartbeat heartbeat; /* the newest through it, as it sent it */
	uint64_t sequence;               /* of that heartbeat's message */
	uint32_t ttl;                    /* of that message */
	uint32_t heard;                  /* bit k: heartbeat newest - k came through it */
	uint32_t expected;               /* bits of heard that count, 1 … UPSTREAM_HISTORY_MAX */
	int64_t heard_ns;                /* when the newest came */
	bool failed;                     /* we could not send to it since */
};

/* Who has been better than what is in use, and for how many heartbeats on end. */
struct rival {
	uint64_t who;
	uint32_t id; /* heartbeat that last confirmed it */
	uint32_t streak;
};

struct source {
	uint64_t node;                /* the RSU, 0 = free */
	uint32_t epoch;               /* high half of its sequence: when it booted */
	struct haul_heartbeat newest; /* hops as first heard */
	int64_t newest_ns;            /* when it was first heard */
	bool told; /* we have passed on told_id, told_hops: our promise to others */
	uint32_t told_id;
	uint32_t told_hops;
	int32_t selected; /* candidate, or UPSTREAM_NONE */
	uint32_t count;
	struct candidate candidate[CONTROL_CANDIDATES_MAX];
	struct rival rival;
	struct route shown; /* as last counted in version: node 0 = no way */
	bool reply_due;
};

struct upstream {
	uint32_t history;
	uint32_t candidates;
	uint32_t missed_max;
	struct haul_stats *stats;
	int32_t chosen; /* source, or UPSTREAM_NONE */
	struct rival rival;
	uint64_t version;   /* rises whenever a way to an RSU or the chosen RSU changes */
	uint64_t last_node; /* chosen last, also after it was lost */
	struct hop last_next;
	struct source source[UPSTREAM_SOURCES_MAX];
};

void upstream_init(struct upstream *upstream, const struct control_options *options,
		   struct haul_stats *stats);

/* Take in a heartbeat. */
int upstream_heard(struct upstream *upstream, const struct control_event *event);
/* Nothing can be sent to this neighbour: leave it until it is heard again. */
void upstream_failed(struct upstream *upstream, struct hop next, int64_t now_ns);
/* Leave what has been silent for too long. Returns when it is due again. */
int64_t upstream_age(struct upstream *upstream, int64_t now_ns);

/* The heartbeat of this source to pass on, once each. */
bool upstream_take_heartbeat(struct source *source, struct haul_message_header *ret_header,
			     struct haul_heartbeat *ret_heartbeat);
/* The reply that is due to this source, if there is a way to send it. */
bool upstream_take_reply(struct source *source, int64_t now_ns,
			 struct haul_heartbeat_reply *ret_reply);

/* NULL when not known. */
struct source *upstream_find(struct upstream *upstream, uint64_t rsu);
/* The way to an RSU as it is to be published; false when there is none at present. */
bool upstream_route(const struct source *source, struct route *ret_route);
/* How long a neighbour may be silent. */
int64_t upstream_patience_ns(uint32_t missed_max, uint32_t period_ms);
/* Candidates in order of preference, the chosen RSU's first; returns how many. */
uint32_t upstream_list(const struct upstream *upstream, struct control_candidate *out,
		       uint32_t max);
