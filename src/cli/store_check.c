/* haul store check and repair: what is wrong with a store that nobody has open. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/store.h"

enum { KEY_ACCEPT = 256, KEY_JSON, KEY_QUIET };

struct request {
	struct option_words words; /* FOLDER */
	bool repair, accept, json, quiet;
	/* while it runs */
	struct progress progress;
	json_t *findings;
	uint64_t count, losses;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	(void)arg;
	switch (key) {
	case KEY_ACCEPT:
		request->accept = true;
		return 0;
	case KEY_JSON:
		request->json = true;
		return 0;
	case KEY_QUIET:
		request->quiet = true;
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

static int show_progress(uint64_t done, uint64_t total, void *arg)
{
	struct request *request = arg;
	return stop_progress(done, total, &request->progress);
}

static void tell(const struct haul_store_finding *finding, void *arg)
{
	struct request *request = arg;
	request->count++;
	request->losses += finding->loss;
	if (request->json) {
		(void)json_array_append_new(request->findings,
					    json_pack("{s:s, s:s, s:b}", "place", finding->place,
						      "what", finding->what, "loss",
						      (int)finding->loss));
		return;
	}
	progress_wipe(&request->progress);
	printf("%s: %s%s\n", finding->place, finding->what,
	       finding->loss || request->repair ? "" : " (nothing acknowledged is affected)");
}

static void print_json(const struct request *request)
{
	json_t *root = json_pack("{s:I, s:I, s:O}", "findings", (json_int_t)request->count,
				 "losses", (json_int_t)request->losses, "found", request->findings);
	(void)json_dumpf(root, stdout, JSON_INDENT(1));
	putchar('\n');
	json_decref(root);
}

static int fail(const struct request *request, int rc, const struct haul_err *err)
{
	if (rc == -ECANCELED) {
		fprintf(stderr, "haul: store: stopped: not all of %s was looked at\n",
			request->words.word[0]);
		return CLI_FAILED;
	}
	if (rc == -EBUSY) {
		fprintf(stderr, "haul: store: %s is open in another process: end that first\n",
			request->words.word[0]);
		return CLI_FAILED;
	}
	return cli_fail("store", err);
}

/* An end that was torn by a crash is cut when the store is opened. */
static void print_found(const struct request *request)
{
	if (request->losses == 0)
		printf("%s: good: what is acknowledged is whole, and opening mends the rest\n",
		       request->words.word[0]);
	else
		printf("%s: %" PRIu64 " findings, %" PRIu64
		       " of them in what was acknowledged; 'haul store repair' says what would be "
		       "lost\n",
		       request->words.word[0], request->count, request->losses);
}

int store_cmd_check(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", KEY_JSON, NULL, 0, "one JSON document", 0 },
		{ "quiet", KEY_QUIET, NULL, 0, "no progress on stderr", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FOLDER",
		.doc = "Read all of a store and verify it: root, every block of every table and "
		       "their order, the log, both ways of every edge, keys and kinds. Nothing is "
		       "changed. The exit status is 1 when acknowledged data is "
		       "damaged.\v"
		       "Examples:\n"
		       "  haul store check graph\n"
		       "  haul store check graph --json\n",
	};
	struct request request = { .words = { .min = 1, .max = 1 } };
	struct haul_err err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	request.findings = json_array();
	stop_catch();
	progress_begin(&request.progress, "check", "bytes", request.quiet);
	const int rc = haul_store_check(request.words.word[0], tell, show_progress, &request, &err);
	progress_end(&request.progress);
	if (rc >= 0 && request.json)
		print_json(&request);
	else if (rc == 0)
		printf("%s: all good\n", request.words.word[0]);
	json_decref(request.findings);
	if (rc < 0)
		return fail(&request, rc, &err);
	if (rc > 0 && !request.json)
		print_found(&request);
	return request.losses > 0 ? CLI_FAILED : CLI_OK;
}

static void print_repaired(const struct request *request)
{
	if (request->count == 0)
		printf("%s: nothing to repair\n", request->words.word[0]);
	else if (!request->accept && request->losses == 0)
		printf("%s: nothing would be lost: opening it does the same\n",
		       request->words.word[0]);
	else if (!request->accept)
		printf("%s: nothing was changed; --accept-loss does it\n", request->words.word[0]);
	else
		printf("%s: repaired\n", request->words.word[0]);
}

int store_cmd_repair(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "accept-loss", KEY_ACCEPT, NULL, 0, "do it: what is told is lost then", 0 },
		{ "json", KEY_JSON, NULL, 0, "one JSON document", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FOLDER",
		.doc = "Say what it takes to open a damaged store again, and what that would lose. "
		       "With --accept-loss the log is cut where it is broken, and tables that "
		       "cannot be read are dropped; keep a copy of the folder before. The exit "
		       "status is 1 when there is damage that was not repaired.\v"
		       "Examples:\n"
		       "  haul store repair graph\n"
		       "  haul store repair graph --accept-loss\n",
	};
	struct request request = { .words = { .min = 1, .max = 1 }, .repair = true };
	struct haul_err err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	request.findings = json_array();
	progress_begin(&request.progress, "repair", "bytes", true);
	const int rc =
		haul_store_repair(request.words.word[0], request.accept, tell, &request, &err);
	if (rc >= 0 && request.json)
		print_json(&request);
	else if (rc >= 0)
		print_repaired(&request);
	json_decref(request.findings);
	if (rc < 0)
		return fail(&request, rc, &err);
	return request.losses > 0 && !request.accept ? CLI_FAILED : CLI_OK;
}
