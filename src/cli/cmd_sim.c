#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/option.h"
#include "cli/sim_table.h"
#include "sim/scenario.h"
#include "sim/sim.h"

enum { KEY_DURATION = 256, KEY_JSON, KEY_KEEP, KEY_SEED, KEY_CHECK, BAR_CELLS = 30 };

enum { ENTRIES_BYTES = SCENARIO_NODES_MAX * 80 };

struct request {
	struct option_words words; /* FILE */
	struct sim_options sim;
	bool json;
	bool keep;
	bool check;
};

static double parse_seconds(const char *arg, struct argp_state *state)
{
	char *end;
	double seconds = strtod(arg, &end);

	if (end == arg || *end != '\0' || !isfinite(seconds) || seconds < 1)
		argp_error(state, "--duration '%s': wanted are seconds, 1 or more", arg);
	return seconds;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;

	switch (key) {
	case KEY_DURATION:
		request->sim.duration_s = parse_seconds(arg, state);
		return 0;
	case KEY_SEED:
		request->sim.seed = option_number("seed", arg, 0, UINT64_MAX, state);
		request->sim.seed_given = true;
		return 0;
	case KEY_JSON:
		request->json = true;
		return 0;
	case KEY_KEEP:
		request->keep = true;
		return 0;
	case KEY_CHECK:
		request->check = true;
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

/* One line on the terminal, written over again and again. */
static void show_progress(void *arg, const char *what, double done)
{
	int cells = (int)(done * BAR_CELLS);

	(void)arg;
	fprintf(stderr, "\r%-18s [%.*s%*s] %3.0f %%", what, cells, "##############################",
		BAR_CELLS - cells, "", done * 100);
}

static void clear_progress(const struct request *request)
{
	if (request->sim.progress != NULL)
		fprintf(stderr, "\r\033[K");
}

static int check(const struct request *request)
{
	struct scenario *scenario;
	struct haul_err err = { 0 };

	if (scenario_load(request->sim.path, &scenario, &err) < 0)
		return cli_fail(NULL, &err);
	printf("haul sim: %s: good: %u nodes, %u links, %u events, %u flows, %.0f s\n",
	       request->sim.path, scenario->nodes_count, scenario->links_count,
	       scenario->events_count, scenario->traffic_count, scenario->duration_s);
	scenario_free(scenario);
	return CLI_OK;
}

static void show_report(const struct request *request, const json_t *report)
{
	if (request->json) {
		(void)json_dumpf(report, stdout, JSON_INDENT(2));
		printf("\n");
	} else {
		sim_table_print(report);
	}
	(void)fflush(stdout);
}

static int keep(struct sim *sim, struct haul_err *err)
{
	char *text = malloc(ENTRIES_BYTES);
	int rc = text == NULL ? -ENOMEM : sim_entries(sim, text, ENTRIES_BYTES);

	if (rc < 0) {
		free(text);
		return haul_err_set(err, rc, "list of nodes: %s", haul_strerror(rc));
	}
	fprintf(stderr, "\nstays up until Ctrl-C; from another shell, as root:\n%s", text);
	free(text);
	(void)sim_keep(sim);
	return 0;
}

static int run(const struct request *request, struct sim *sim, struct haul_err *err)
{
	json_t *report;
	int status;
	int rc = sim_run(sim, &report, err);

	clear_progress(request);
	if (rc < 0)
		return rc;
	show_report(request, report);
	status = json_is_true(json_object_get(report, "passed")) ? CLI_OK : CLI_FAILED;
	json_decref(report);
	if (request->keep && keep(sim, err) < 0)
		return err->code;
	return status;
}

int cmd_sim(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "duration", KEY_DURATION, "S", 0, "end after S seconds instead of the file's",
		  0 },
		{ "seed", KEY_SEED, "N", 0, "of chance, instead of the file's", 0 },
		{ "json", KEY_JSON, NULL, 0, "the report as one JSON document", 0 },
		{ "keep", KEY_KEEP, NULL, 0, "stay up after the report, until Ctrl-C", 0 },
		{ "check", KEY_CHECK, NULL, 0, "read FILE, say whether it is good, start nothing",
		  0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FILE",
		.doc = "Bring up a network of OBUs and RSUs on this machine, carry real traffic, "
		       "and "
		       "report. Needs root.\v"
		       "Exit status 0 when all traffic went through, 1 otherwise.\n\n"
		       "Examples:\n"
		       "  sudo haul sim examples/crossroads.yaml\n"
		       "  sudo haul sim examples/crossroads.yaml --duration 15 --json\n"
		       "  haul sim examples/crossroads.yaml --check\n"
	};
	struct request request = {
		.words = { .min = 1, .max = 1, "a scenario, as in examples/crossroads.yaml" },
		.sim.program = "/proc/self/exe",
	};
	struct haul_err err = { 0 };
	struct sim *sim = NULL;
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	request.sim.path = request.words.word[0];
	if (request.check)
		return cli_end_output("sim", check(&request));
	if (isatty(STDERR_FILENO))
		request.sim.progress = show_progress;
	rc = sim_open(&request.sim, &sim, &err);
	if (rc >= 0)
		rc = run(&request, sim, &err);
	sim_close(sim);
	return rc < 0 ? cli_fail("sim", &err) : cli_end_output("sim", rc);
}
