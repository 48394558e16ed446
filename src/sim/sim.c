/* The order of a run. Every wait is for a condition, with a deadline, and ends at once when a
 * signal comes; nothing waits for a length of time in the hope that something will have
 * happened. */
#include "sim/sim.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/os.h"
#include "sim/sim_state.h"

enum {
	PAUSE_MS = 10,        /* between two looks at what is waited for */
	STATUS_PAUSE_MS = 50, /* the same where looking means asking nodes */
	READY_S = 20,
	SERVERS_S = 15,
	ROUTE_HEARTBEATS_MAX = 60,
	ROUTE_S_MIN = 10,
	PATH_BYTES = 512
};

/* ---- waiting ---- */

static double clock_s(void)
{
	struct os *os = os_linux();

	return (double)os->now_ns(os) / (double)NS_PER_S;
}

/* Until a child ends, but at most ms; -EINTR when we are to stop. */
static int sim_pause(const struct sim *sim, int ms)
{
	struct pollfd waiting = { .fd = sim->signal_fd, .events = POLLIN };
	struct signalfd_siginfo signal;

	if (poll(&waiting, 1, ms) <= 0)
		return 0;
	while (read(sim->signal_fd, &signal, sizeof signal) == sizeof signal)
		if (signal.ssi_signo != SIGCHLD)
			return -EINTR;
	return 0;
}

static void sim_progress(const struct sim *sim, const char *what, double done)
{
	if (sim->options.progress != NULL)
		sim->options.progress(sim->options.progress_arg, what, done < 1 ? done : 1);
}

static int interrupted(struct haul_err *err)
{
	return haul_err_set(err, -EINTR, "stopped by a signal");
}

/* ---- before anything is started ---- */

static bool is_in_path(const char *program)
{
	const char *path = getenv("PATH");
	char file[PATH_BYTES];

	while (path != NULL && *path != '\0') {
		size_t len = strcspn(path, ":");

		(void)snprintf(file, sizeof file, "%.*s/%s", (int)len, path, program);
		if (access(file, X_OK) == 0)
			return true;
		path += len + (path[len] == ':');
	}
	return false;
}

static int check_programs(const struct scenario *scenario, struct haul_err *err)
{
	for (uint32_t i = 0; i < scenario->traffic_count; i++) {
		const char *const *program = flow_programs(scenario->traffic[i].kind);

		for (; *program != NULL; program++)
			if (!is_in_path(*program))
				return haul_err_set(err, -ENOENT,
						    "traffic of kind %s needs the program %s: "
						    "install it",
						    scenario_kind_name(scenario->traffic[i].kind),
						    *program);
	}
	return 0;
}

static int hold_signals(struct sim *sim, struct haul_err *err)
{
	sigset_t ours;

	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGHUP);
	sigaddset(&ours, SIGCHLD);
	sim->signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sim->signal_fd < 0)
		return haul_err_set(err, -errno, "signalfd: %s", haul_strerror(-errno));
	/* A reader of our output that goes away must not keep us from tidying up. */
	sigaddset(&ours, SIGPIPE);
	sigprocmask(SIG_BLOCK, &ours, &sim->signals_before);
	return 0;
}

static int sim_prepare(struct sim *sim, struct haul_err *err)
{
	int rc = scenario_load(sim->options.path, &sim->scenario, err);

	if (rc >= 0)
		rc = check_programs(sim->scenario, err);
	if (rc < 0)
		return rc;
	sim->seed = sim->options.seed_given ? sim->options.seed : sim->scenario->seed;
	sim->duration_s =
		sim->options.duration_s > 0 ? sim->options.duration_s : sim->scenario->duration_s;
	sim->flow_count = sim->scenario->traffic_count;
	sim->flows = calloc(sim->flow_count + 1, sizeof *sim->flows);
	if (sim->flows == NULL)
		return haul_err_set(err, -ENOMEM, "%s: out of memory", sim->options.path);
	return hold_signals(sim, err);
}

int sim_open(const struct sim_options *options, struct sim **ret_sim, struct haul_err *err)
{
	struct sim *sim = calloc(1, sizeof *sim);
	int rc;

	if (sim == NULL)
		return haul_err_set(err, -ENOMEM, "%s: out of memory", options->path);
	sim->options = *options;
	sim->signal_fd = -1;
	rc = sim_prepare(sim, err);
	if (rc < 0) {
		sim_close(sim);
		return rc;
	}
	*ret_sim = sim;
	return 0;
}

/* ---- up to the first packet ---- */

/* The first node that died, as an error. */
static int check_alive(const struct world *world, struct haul_err *err)
{
	for (uint32_t i = 0; i < world->count; i++)
		if (world->nodes[i].died)
			return haul_err_set(err, -ECHILD, "node %s: %s", world->nodes[i].spec->name,
					    world->nodes[i].why);
	return 0;
}

static int wait_ready(struct sim *sim, struct haul_err *err)
{
	double until_s = clock_s() + READY_S;
	uint32_t ready;

	while ((ready = world_poll(sim->world)) < sim->world->count) {
		int rc = check_alive(sim->world, err);

		if (rc < 0)
			return rc;
		if (clock_s() > until_s)
			return haul_err_set(err, -ETIMEDOUT, "only %u of %u nodes ready after %d s",
					    ready, sim->world->count, READY_S);
		if (sim_pause(sim, PAUSE_MS) < 0)
			return interrupted(err);
		sim_progress(sim, "starting nodes", (double)ready / sim->world->count);
	}
	return 0;
}

/* Mark the OBUs that an RSU has a route to. */
static void mark_known(const struct world *world, uint32_t rsu, bool *known)
{
	json_t *status = world_status(world, rsu, NULL);
	json_t *route;
	size_t i;

	json_array_foreach(json_object_get(status, "routes"), i, route)
	{
		int node = world_node_of(world, json_string_value(json_object_get(route, "node")));

		if (node >= 0)
			known[node] = true;
	}
	json_decref(status);
}

static bool has_upstream(const struct world *world, uint32_t node)
{
	json_t *status = world_status(world, node, NULL);
	bool has = json_is_object(json_object_get(status, "upstream"));

	json_decref(status);
	return has;
}

/* How many nodes still lack what they can have: an RSU above, that knows them. */
static uint32_t count_unrouted(struct sim *sim, bool *climbs)
{
	struct world *world = sim->world;
	bool reachable[SCENARIO_NODES_MAX];
	bool known[SCENARIO_NODES_MAX] = { false };
	uint32_t count = 0;

	world_reachable(world, reachable);
	for (uint32_t i = 0; i < world->count; i++)
		if (world->nodes[i].spec->role == SCENARIO_RSU)
			mark_known(world, i, known);
	for (uint32_t i = 0; i < world->count; i++) {
		if (world->nodes[i].spec->role == SCENARIO_RSU || !reachable[i])
			continue;
		climbs[i] = climbs[i] || has_upstream(world, i);
		count += !climbs[i] || !known[i];
	}
	return count;
}

/* Not an error when it takes too long: the report says so, and traffic shows what works. */
static int wait_routes(struct sim *sim, struct haul_err *err)
{
	double heartbeats_s = ROUTE_HEARTBEATS_MAX * sim->scenario->settings.heartbeat_ms / 1000.0;
	double begin_s = clock_s();
	double until_s = begin_s + (heartbeats_s > ROUTE_S_MIN ? heartbeats_s : ROUTE_S_MIN);
	bool climbs[SCENARIO_NODES_MAX] = { false };
	uint32_t unrouted;

	while ((unrouted = count_unrouted(sim, climbs)) > 0 && clock_s() < until_s) {
		int rc;

		(void)world_poll(sim->world);
		rc = check_alive(sim->world, err);
		if (rc < 0)
			return rc;
		if (sim_pause(sim, STATUS_PAUSE_MS) < 0)
			return interrupted(err);
		sim_progress(sim, "finding routes", 1 - (double)unrouted / sim->world->count);
	}
	sim->all_routed = unrouted == 0;
	sim->converged_s = clock_s() - begin_s;
	return 0;
}

static int prepare_flows(struct sim *sim, struct haul_err *err)
{
	for (uint32_t i = 0; i < sim->flow_count; i++) {
		const struct scenario_flow *spec = &sim->scenario->traffic[i];
		struct flow *flow = &sim->flows[i].flow;
		const struct world_node *from = &sim->world->nodes[spec->from_index];
		const struct world_node *to = &sim->world->nodes[spec->to_index];
		int rc;

		flow_init(flow, spec, i, sim->duration_s);
		flow->from.netns_fd = from->netns_fd;
		flow->to.netns_fd = to->netns_fd;
		memcpy(flow->from.address, from->address, sizeof flow->from.address);
		memcpy(flow->to.address, to->address, sizeof flow->to.address);
		rc = flow_prepare(flow, sim->world->dir, sim->seed, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int wait_servers(struct sim *sim, struct haul_err *err)
{
	double until_s = clock_s() + SERVERS_S;

	for (uint32_t i = 0; i < sim->flow_count; i++) {
		struct flow *flow = &sim->flows[i].flow;

		while (!flow_is_ready(flow)) {
			flow_poll(flow, 0);
			if (flow->state == FLOW_FAILED || clock_s() > until_s)
				return haul_err_set(
					err, -ETIMEDOUT, "server of %s to %s: %s",
					scenario_kind_name(flow->spec->kind), flow->spec->to,
					flow->state == FLOW_FAILED ? flow->why : "does not listen");
			if (sim_pause(sim, PAUSE_MS) < 0)
				return interrupted(err);
			sim_progress(sim, "starting servers", (double)i / sim->flow_count);
		}
	}
	return 0;
}

static int bring_up(struct sim *sim, struct haul_err *err)
{
	double begin_s = clock_s();
	int rc = world_open(sim->scenario, sim->seed, &sim->world, err);

	if (rc >= 0)
		rc = world_start(sim->world, sim->options.program, err);
	if (rc >= 0)
		rc = wait_ready(sim, err);
	sim->start_s = clock_s() - begin_s;
	if (rc >= 0)
		rc = prepare_flows(sim, err);
	if (rc >= 0)
		rc = wait_routes(sim, err);
	if (rc >= 0)
		rc = wait_servers(sim, err);
	return rc;
}

/* ---- traffic ---- */

static uint32_t trace_flow(const struct sim *sim, const struct flow *flow,
			   char text[ROUTE_TEXT_BYTES])
{
	struct route_trace trace;

	text[0] = '\0';
	if (route_trace(sim->world, flow->spec->from_index, flow->spec->to_index, &trace) < 0)
		return 0;
	route_text(sim->world, &trace, text);
	return trace.hops;
}

/* What the program says against what its node's kernel counted; a difference fails the flow. */
static void check_tally(const struct sim *sim, struct sim_flow *one)
{
	struct flow *flow = &one->flow;
	struct haul_err err = { 0 };

	if (!sim->scenario->settings.flows || flow->state != FLOW_PASSED)
		return;
	json_t *status = world_status(sim->world, flow->spec->from_index, &err);
	if (status == NULL || tally_flow(status, flow, &one->tally, &err) < 0)
		flow_fail(flow, "%s", err.text);
	json_decref(status);
}

static void step_flow(struct sim *sim, struct sim_flow *one, double now_s)
{
	struct flow *flow = &one->flow;
	struct haul_err err = { 0 };

	if (flow->state == FLOW_WAITS && now_s >= flow->spec->start_s) {
		flow->hops = trace_flow(sim, flow, one->route);
		if (flow_begin(flow, now_s, &err) < 0)
			flow_fail(flow, "%s", err.text);
	}
	flow_poll(flow, now_s);
	if (flow_is_over(flow) && !one->ended) {
		one->ended = true;
		(void)trace_flow(sim, flow, one->route_end);
		check_tally(sim, one);
	}
}

/* One look at everything; returns whether something is still to come. */
static bool step(struct sim *sim, double now_s)
{
	bool more = sim->flow_count == 0 && now_s < sim->duration_s;

	(void)world_poll(sim->world);
	for (uint32_t i = 0; i < sim->flow_count; i++) {
		step_flow(sim, &sim->flows[i], now_s);
		more = more || !flow_is_over(&sim->flows[i].flow);
	}
	return more;
}

/* Every flow has a deadline within the duration and a little more, so this ends. */
static int run_traffic(struct sim *sim, struct haul_err *err)
{
	world_begin(sim->world);
	while (step(sim, world_now_s(sim->world))) {
		double now_s = world_now_s(sim->world);

		if (sim_pause(sim, PAUSE_MS) < 0)
			return interrupted(err);
		sim_progress(sim, "traffic", now_s / sim->duration_s);
	}
	sim->ran_s = world_now_s(sim->world);
	return 0;
}

int sim_run(struct sim *sim, json_t **ret_report, struct haul_err *err)
{
	json_t *report;
	int rc;

	HAUL_ASSERT(sim->world == NULL);
	rc = bring_up(sim, err);
	if (rc >= 0)
		rc = run_traffic(sim, err);
	if (rc < 0)
		return rc;
	report = report_build(sim);
	if (report == NULL)
		return haul_err_set(err, -ENOMEM, "report: out of memory");
	*ret_report = report;
	return 0;
}

/* ---- after it ---- */

int sim_keep(struct sim *sim)
{
	while (sim_pause(sim, -1) == 0)
		(void)world_poll(sim->world);
	return -EINTR;
}

int sim_entries(const struct sim *sim, char *text, size_t text_bytes)
{
	size_t used = 0;

	HAUL_ASSERT(sim->world != NULL);
	for (uint32_t i = 0; i < sim->world->count; i++) {
		const struct world_node *node = &sim->world->nodes[i];

		used += (size_t)snprintf(text + used, text_bytes - used,
					 "%-12s %-12s nsenter --net=/proc/%d/fd/%d\n",
					 node->spec->name, node->address, getpid(), node->netns_fd);
		if (used >= text_bytes)
			return -ENOSPC;
	}
	return 0;
}

void sim_close(struct sim *sim)
{
	if (sim == NULL)
		return;
	for (uint32_t i = 0; sim->flows != NULL && i < sim->flow_count; i++) {
		flow_close(&sim->flows[i].flow);
		json_decref(sim->flows[i].tally);
	}
	world_close(sim->world);
	if (sim->signal_fd >= 0) {
		close(sim->signal_fd);
		sigprocmask(SIG_SETMASK, &sim->signals_before, NULL);
	}
	scenario_free(sim->scenario);
	free(sim->flows);
	free(sim);
}
