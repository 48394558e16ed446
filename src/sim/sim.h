/* sim/sim.h — run a scenario from its file to its report.
 *
 * Model      sim_open checks the file and that the programs it needs are there, and starts nothing.
 *            sim_run brings the network up, waits until every node that can has a route, starts the
 *            clock and the traffic, and builds the report. sim_keep then leaves all as it is until
 *            a signal comes.
 * Signals    SIGINT, SIGTERM, SIGHUP, SIGPIPE and SIGCHLD are blocked from sim_open to sim_close;
 *            the first three end sim_run and sim_keep with -EINTR. A node that dies is reported,
 *            and the run goes on; before all nodes are up it ends the run.
 * Ownership  the report is the caller's (json_decref). sim_close leaves nothing behind.
 * Threads    the one that opened it, and it must stay: children die with it.
 * Errors     HAUL_ECONFIG for the file, -ENOENT for a missing program, -EPERM without root,
 *            -ETIMEDOUT when the network does not come up; text always. A flow that fails is no
 *            error but "passed": false in the report. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>

struct sim_options {
	const char *path;
	double duration_s; /* 0 = the scenario's */
	bool seed_given;
	uint64_t seed;
	const char *program; /* the haul binary */
	/* May be NULL. Called about ten times a second, with what is going on and how much of it is
	 * done, 0 … 1. */
	void (*progress)(void *arg, const char *what, double done);
	void *progress_arg;
};

struct sim;

int sim_open(const struct sim_options *options, struct sim **ret_sim, struct haul_err *err);
/* NULL is allowed. */
void sim_close(struct sim *sim);

int sim_run(struct sim *sim, json_t **ret_report, struct haul_err *err);
/* Returns -EINTR when SIGINT or SIGTERM comes. */
int sim_keep(struct sim *sim);
/* A line for each node: its name and how to enter its namespace from another shell. */
int sim_entries(const struct sim *sim, char *text, size_t text_bytes);
