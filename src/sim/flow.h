/* sim/flow.h — one stream of traffic, made by real programs, from its server to its verdict.
 *
 * Model      flow_prepare starts the server, if its kind has one; once flow_is_ready, flow_begin
 *            starts the client; flow_poll follows it until the state is final:
 *              WAITS -> RUNS -> (CHECKS ->) PASSED or FAILED; SKIPPED from WAITS
 *            http: `from` downloads a file of random bytes that `to` serves, and the SHA-256 sums
 *            of both copies are compared. TCP congestion control is cubic for all.
 * Units      seconds of the scenario.
 * Ownership  files are in the folder given, which belongs to the caller; children are the flow's.
 * Threads    one.
 * Errors     flow_prepare and flow_begin: -errno with text. What goes wrong later is a verdict. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>
#include "sim/child.h"
#include "sim/measure.h"
#include "sim/scenario.h"

enum { FLOW_WHY_BYTES = 200, FLOW_ADDRESS_BYTES = 16 };

enum flow_state { FLOW_WAITS, FLOW_RUNS, FLOW_CHECKS, FLOW_PASSED, FLOW_FAILED, FLOW_SKIPPED };

struct flow_end {
	int netns_fd;
	char address[FLOW_ADDRESS_BYTES];
};

struct flow {
	const struct scenario_flow *spec;
	struct flow_end from;
	struct flow_end to;
	uint32_t index;
	uint16_t port;
	double seconds; /* that it may take */
	double begun_s;
	enum flow_state state;
	char why[FLOW_WHY_BYTES]; /* it failed or was skipped */
	struct measure measure;
	uint32_t hops; /* radio hops of its route when it began, 0 = not known; set by the caller */
	bool sum_matches; /* http */
	char dir[CHILD_PATH_BYTES];
	struct child server;
	struct child client;
	struct child checker;
};

/* duration_s: of the run. A flow that would start after its end is skipped. */
void flow_init(struct flow *flow, const struct scenario_flow *spec, uint32_t index,
	       double duration_s);
int flow_prepare(struct flow *flow, const char *dir, uint64_t seed, struct haul_err *err);
/* The server listens. False for good if it has ended: then flow_poll fails it. */
bool flow_is_ready(struct flow *flow);
int flow_begin(struct flow *flow, double now_s, struct haul_err *err);
void flow_poll(struct flow *flow, double now_s);
/* Final: nothing of it runs any more but perhaps the server. */
bool flow_is_over(const struct flow *flow);
void flow_fail(struct flow *flow, const char *format, ...) __attribute__((format(printf, 2, 3)));
void flow_close(struct flow *flow);
const char *flow_state_name(enum flow_state state);
/* The client's end of its connection: a port, or the identifier of a ping. -1 = not known. */
int32_t flow_port(const struct flow *flow);
/* Programs that this kind needs, ended by NULL. */
const char *const *flow_programs(enum scenario_kind kind);
