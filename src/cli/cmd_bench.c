#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "cli/cli.h"
#include "cli/option.h"

enum { PAIRS_DEFAULT = 5, PAIRS_MAX = 1000, SYNC_US_MAX = 1000000 };
#define SECONDS_DEFAULT 0.5
#define SECONDS_MAX     3600.0

enum { KEY_JSON = 256, KEY_PAIRS, KEY_SECONDS, KEY_CASE, KEY_LIST, KEY_SYNC_US };

struct request {
	struct option_words words; /* NAME */
	const char *name;          /* NULL = all */
	bool list;
	struct bench_options options;
};

static double parse_seconds(const char *arg, struct argp_state *state)
{
	char *end;
	double seconds;

	errno = 0;
	seconds = strtod(arg, &end);
	if (errno || end == arg || *end || !(seconds > 0 && seconds <= SECONDS_MAX))
		argp_error(state, "--seconds '%s': wanted is a number above 0, at most %.0f", arg,
			   SECONDS_MAX);
	return seconds;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;

	switch (key) {
	case KEY_JSON:
		request->options.json = true;
		return 0;
	case KEY_LIST:
		request->list = true;
		return 0;
	case KEY_PAIRS:
		request->options.pairs = (uint32_t)option_number("pairs", arg, 1, PAIRS_MAX, state);
		return 0;
	case KEY_SECONDS:
		request->options.seconds = parse_seconds(arg, state);
		return 0;
	case KEY_SYNC_US:
		request->options.sync_add_us =
			(int64_t)option_number("sync-us", arg, 1, SYNC_US_MAX, state);
		return 0;
	case KEY_CASE:
		request->options.only_case = arg;
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

static bool has_case(const struct bench *bench, const char *name)
{
	for (uint32_t i = 0; i < bench->case_count; i++)
		if (!strcmp(bench->cases[i].name, name))
			return true;
	return false;
}

static bool wanted(const struct bench *bench, const struct request *request)
{
	if (request->name && strcmp(request->name, bench->name) != 0)
		return false;
	return !request->options.only_case || has_case(bench, request->options.only_case);
}

static void list_text(const struct request *request)
{
	for (uint32_t b = 0; bench_list[b]; b++) {
		const struct bench *bench = bench_list[b];

		if (!wanted(bench, request))
			continue;
		printf("%s  %s\n", bench->name, bench->help);
		for (uint32_t i = 0; i < bench->case_count; i++)
			printf("    %-20s %s, %s\n", bench->cases[i].name, bench->cases[i].unit,
			       bench->cases[i].arms);
	}
}

static json_t *list_cases(const struct bench *bench)
{
	json_t *cases = json_array();

	for (uint32_t i = 0; i < bench->case_count; i++) {
		const struct bench_case *c = &bench->cases[i];

		json_array_append_new(cases,
				      json_pack("{s:s, s:s, s:s, s:f}", "case", c->name, "unit",
						c->unit, "arms", c->arms, "goal", c->goal));
	}
	return cases;
}

static void list_json(const struct request *request)
{
	json_t *list = json_array();

	for (uint32_t b = 0; bench_list[b]; b++)
		if (wanted(bench_list[b], request))
			json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "bench",
							      bench_list[b]->name, "help",
							      bench_list[b]->help, "cases",
							      list_cases(bench_list[b])));
	(void)json_dumpf(list, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(list);
}

/* Without a NAME, what this machine does not allow is passed over; a NAME must run. */
static int run(const struct request *request)
{
	for (uint32_t b = 0; bench_list[b]; b++) {
		const struct bench *bench = bench_list[b];
		struct haul_err err = { 0 };
		int code;

		if (!wanted(bench, request))
			continue;
		code = bench_run(bench, &request->options, &err);
		if (code >= 0)
			continue;
		if (request->name || (code != -EPERM && code != -ENOTSUP))
			return cli_fail(bench->name, &err);
		fprintf(stderr, "haul: bench %s left out: %s\n", bench->name, err.text);
	}
	return CLI_OK;
}

static int unknown(const struct request *request)
{
	const char *separator = "";

	if (request->options.only_case)
		fprintf(stderr, "haul: no case '%s'", request->options.only_case);
	else
		fprintf(stderr, "haul: no bench");
	if (request->name)
		fprintf(stderr, " '%s'", request->name);
	fprintf(stderr, "; there are: ");
	for (uint32_t b = 0; bench_list[b]; b++) {
		fprintf(stderr, "%s%s", separator, bench_list[b]->name);
		separator = ", ";
	}
	fprintf(stderr, " ('haul bench --list' has their cases)\n");
	return CLI_USAGE;
}

int cmd_bench(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "list", KEY_LIST, NULL, 0, "Name the benches and their cases, run nothing", 0 },
		{ "case", KEY_CASE, "CASE", 0, "Only this case", 0 },
		{ "pairs", KEY_PAIRS, "N", 0, "Interleaved pairs of runs, default 5", 0 },
		{ "seconds", KEY_SECONDS, "S", 0, "Length of one run of one arm, default 0.5", 0 },
		{ "sync-us", KEY_SYNC_US, "US", 0,
		  "Added to each sync in cases that end in _slow, both arms; default 4000", 0 },
		{ "json", KEY_JSON, NULL, 0, "One JSON object a bench, see docs/BENCH.md", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[NAME]",
		.doc = "Run one bench, or all: each case one at a time and in batches, in turn, in "
		       "one run; the median ratio of all pairs is shown with its spread.\v"
		       "Examples:\n"
		       "  haul bench --list\n"
		       "  haul bench message --case flat_vs_nested\n"
		       "  sudo haul bench wire --pairs 7 --json\n",
	};
	struct request request = { .words = { .max = 1 },
				   .options = { .pairs = PAIRS_DEFAULT,
						.seconds = SECONDS_DEFAULT } };
	bool any = false;

	argp_parse(&argp, argc, argv, 0, NULL, &request);
	request.name = request.words.count > 0 ? request.words.word[0] : NULL;
	for (uint32_t b = 0; bench_list[b]; b++)
		any = any || wanted(bench_list[b], &request);
	if (!any)
		return unknown(&request);
	if (!request.list)
		return cli_end_output("bench", run(&request));
	if (request.options.json)
		list_json(&request);
	else
		list_text(&request);
	return cli_end_output("bench", CLI_OK);
}
