/* sim/sim_state.h — a run, as sim.c drives it and report.c tells it. */
#pragma once

#include <signal.h>

#include "sim/flow.h"
#include "sim/route.h"
#include "sim/sim.h"
#include "sim/tally.h"
#include "sim/world.h"

struct sim_flow {
	struct flow flow;
	char route[ROUTE_TEXT_BYTES];     /* when it began, "" = not known */
	char route_end[ROUTE_TEXT_BYTES]; /* when it ended */
	bool ended;
	json_t *tally; /* its connection as its node's table has it; NULL = not looked at */
};

struct sim {
	struct sim_options options;
	struct scenario *scenario;
	struct world *world;
	struct sim_flow *flows;
	uint32_t flow_count;
	uint64_t seed;
	double duration_s;
	sigset_t signals_before;
	int signal_fd;
	double start_s;     /* nodes started -> all ready */
	double converged_s; /* all ready -> all routed */
	double ran_s;
	bool all_routed;
};

/* NULL without memory. */
json_t *report_build(const struct sim *sim);
