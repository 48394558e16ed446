/* sim/scenario.h — what a scenario file says: nodes, who hears whom and when, and the traffic.
 *
 * Model      A file is read, checked whole and resolved (names to indices) before anything is done.
 *            docs/SCENARIO.md describes the keys; the schema is in scenario.c.
 *            Who hears whom: `links` name pairs; pairs that they do not name, but whose nodes both
 *            have a position, follow from the distance (see timeline.h) if radio.range_m is set.
 *            `events` change links at a time; `path` moves a node.
 * Units      as the key says: _ms, _us, _s, _m, _mbit (10^6 bit/s), _mib (2^20 bytes).
 * Ownership  scenario_load gives one object, scenario_free takes it back; strings are within.
 * Threads    read-only after load.
 * Errors     HAUL_ECONFIG with file, line, place, value and what is right.
 * Limits     SCENARIO_* */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/batch.h>
#include <haul/err.h>

enum {
	SCENARIO_NODES_MAX = 512,
	SCENARIO_LINKS_MAX = 4096,
	SCENARIO_EVENTS_MAX = 4096,
	SCENARIO_POINTS_MAX = 64,
	SCENARIO_FLOWS_MAX = 64,
	SCENARIO_NAME_BYTES = 24,
	/* defaults */
	SCENARIO_QUEUE_FRAMES = 100,
	SCENARIO_BACKHAUL_QUEUE_FRAMES = 1000,
	SCENARIO_MTU = 1600,
	SCENARIO_HEARTBEAT_MS = 200,
	SCENARIO_TTL = 8,
	SCENARIO_PING_INTERVAL_MS = 20
};

enum scenario_role { SCENARIO_OBU, SCENARIO_RSU };

enum scenario_kind { SCENARIO_PING, SCENARIO_IPERF3_TCP, SCENARIO_IPERF3_UDP, SCENARIO_HTTP };

struct scenario_point {
	double at_s;
	double x_m;
	double y_m;
};

struct scenario_node {
	char *name;
	enum scenario_role role;
	double *x_m; /* both or neither: NULL = no position */
	double *y_m;
	struct scenario_point *path; /* moves straight from point to point; starts at x_m, y_m */
	uint32_t path_count;
};

struct scenario_link { /* both directions */
	char *a;
	char *b;
	double latency_ms;
	double jitter_ms;
	double loss;
	double burst_enter;
	double burst_leave;
	double burst_loss;
	double bandwidth_mbit; /* 0 = the radio's */
	bool *up;              /* NULL = up */
	bool is_down;          /* at present */
	uint32_t a_index;
	uint32_t b_index;
};

struct scenario_event { /* NULL = as it was */
	double at_s;
	char *a;
	char *b;
	bool *up;
	double *latency_ms;
	double *jitter_ms;
	double *loss;
	uint32_t link_index; /* of the link between a and b */
};

struct scenario_flow {
	enum scenario_kind kind;
	char *from; /* who starts ping or the client; http: who downloads */
	char *to;
	double start_s;
	double seconds;       /* 0 = to the end of the run, less a second; http: at most */
	double rate_mbit;     /* iperf3-udp; iperf3-tcp: 0 = as fast as it goes */
	uint32_t size_mib;    /* http */
	uint32_t interval_ms; /* ping, default 20 */
	/* What the run must show, or it has failed. */
	uint32_t hops;       /* radio hops of the route at its start, 0 = any */
	double *loss_max;    /* ping, iperf3-udp: largest share that may be lost, NULL = 0.5 */
	uint32_t gap_max_ms; /* ping: longest silence, 0 = any */
	uint32_t from_index;
	uint32_t to_index;
};

struct scenario_medium {
	double rate_mbit;   /* 0 = without limit */
	double overhead_us; /* of airtime, each frame */
	double latency_ms;  /* of links that follow from distance */
	double jitter_ms;
	uint32_t retries;      /* of a lost frame to one node */
	double range_m;        /* 0 = links do not follow from distance */
	bool *shared;          /* one node at a time within earshot; NULL = true */
	uint32_t queue_frames; /* of each sender; default SCENARIO_QUEUE_FRAMES */
	uint32_t mtu;          /* default SCENARIO_MTU */
};

struct scenario_settings {             /* of every node; as in its own configuration */
	uint32_t heartbeat_ms;         /* default SCENARIO_HEARTBEAT_MS */
	uint32_t ttl;                  /* default SCENARIO_TTL */
	enum haul_preset preset;       /* default low-latency */
	enum haul_sizer_policy *sizer; /* NULL = fill */
	bool individual;               /* one frame a call: what batching is measured against */
	bool flows;                    /* count connections, and compare them with the programs */
};

struct scenario {
	uint64_t seed;
	double duration_s;
	struct scenario_medium radio;
	struct scenario_medium backhaul; /* between all RSUs; shared and range_m are not used */
	struct scenario_settings settings;
	struct scenario_node *nodes;
	uint32_t nodes_count;
	struct scenario_link *links;
	uint32_t links_count;
	struct scenario_event *events; /* in order of time */
	uint32_t events_count;
	struct scenario_flow *traffic;
	uint32_t traffic_count;
};

int scenario_load(const char *path, struct scenario **ret_scenario, struct haul_err *err);
/* NULL is allowed. */
void scenario_free(struct scenario *scenario);

const char *scenario_kind_name(enum scenario_kind kind);
/* The node of that name; -ENOENT. */
int scenario_node_find(const struct scenario *scenario, const char *name);
