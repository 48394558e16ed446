/* haul store compact, backup and restore. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/progress.h"
#include "cli/quantity.h"
#include "cli/stop.h"
#include "cli/store.h"

enum { KEY_QUIET = 256 };

struct request {
	struct option_words words;
	bool quiet;
	struct progress progress;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	(void)arg;
	switch (key) {
	case KEY_QUIET:
		request->quiet = true;
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

static const struct argp_option options[] = {
	{ "quiet", KEY_QUIET, NULL, 0, "no progress on stderr", 0 },
	{ 0 },
};

static int open_store(struct request *request, struct haul_store **ret_store)
{
	struct haul_err err = { 0 };
	const int rc = haul_store_open(ret_store, request->words.word[0], NULL, &err);
	if (rc == -EBUSY) {
		fprintf(stderr, "haul: store: %s is open in another process: end that first\n",
			request->words.word[0]);
		return CLI_FAILED;
	}
	return rc < 0 ? cli_fail("store", &err) : CLI_OK;
}

/* What is wrong with closing is that the last checkpoint could not be made; the log has it all. */
static int close_store(const struct request *request, struct haul_store *store, int code)
{
	const int rc = haul_store_close(store);
	return rc < 0 && code == CLI_OK ? cli_fail_code("store", request->words.word[0], rc) : code;
}

static uint64_t bytes_of(struct haul_store *store)
{
	struct haul_store_status status;
	uint64_t bytes = 0;
	haul_store_status(store, &status);
	for (uint32_t i = 0; i < status.level_count; i++)
		bytes += status.level[i].bytes;
	return bytes;
}

int store_cmd_compact(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FOLDER",
		.doc = "Merge all tables of a store into one run a tree, so that reads look into "
		       "one place and what was deleted takes no room.\v"
		       "Example:\n"
		       "  haul store compact graph\n",
	};
	struct request request = { .words = { .min = 1, .max = 1 } };
	struct haul_store *store = NULL;
	char bytes[QUANTITY_TEXT];
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	stop_catch();
	if (open_store(&request, &store) != CLI_OK)
		return CLI_FAILED;
	progress_begin(&request.progress, "compact", "bytes", request.quiet);
	const int rc = haul_store_compact(store, stop_progress, &request.progress);
	progress_end(&request.progress);
	quantity_memory_text(bytes_of(store), bytes);
	int code = rc < 0 ? cli_fail_code("store", request.words.word[0], rc) : CLI_OK;
	code = close_store(&request, store, code);
	if (code == CLI_OK)
		printf("%s: %s of tables, in one run a tree\n", request.words.word[0], bytes);
	return code;
}

static int say_copied(const struct request *request, int rc, const struct haul_err *err)
{
	if (rc == -ECANCELED)
		fprintf(stderr, "haul: store: stopped: %s is not complete; delete it\n",
			request->words.word[1]);
	else if (rc < 0)
		return cli_fail("store", err);
	return rc < 0 ? CLI_FAILED : CLI_OK;
}

int store_cmd_backup(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FOLDER BACKUP",
		.doc = "Copy the durable state of a store into a new folder, and verify the copy. "
		       "'haul store restore' makes a store of it again.\v"
		       "Example:\n"
		       "  haul store backup graph graph.backup\n",
	};
	struct request request = { .words = { .min = 2, .max = 2 } };
	struct haul_store *store = NULL;
	struct haul_err err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	stop_catch();
	if (open_store(&request, &store) != CLI_OK)
		return CLI_FAILED;
	progress_begin(&request.progress, "backup", "bytes", request.quiet);
	const int rc = haul_store_backup(store, request.words.word[1], stop_progress,
					 &request.progress, &err);
	progress_end(&request.progress);
	int code = close_store(&request, store, say_copied(&request, rc, &err));
	if (code == CLI_OK)
		printf("%s: a backup of %s\n", request.words.word[1], request.words.word[0]);
	return code;
}

int store_cmd_restore(int argc, char **argv)
{
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "BACKUP FOLDER",
		.doc = "Verify a backup and make a store of it in a new folder.\v"
		       "Example:\n"
		       "  haul store restore graph.backup graph\n",
	};
	struct request request = { .words = { .min = 2, .max = 2 } };
	struct haul_err err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	stop_catch();
	progress_begin(&request.progress, "restore", "bytes", request.quiet);
	const int rc = haul_store_restore(request.words.word[0], request.words.word[1],
					  stop_progress, &request.progress, &err);
	progress_end(&request.progress);
	const int code = say_copied(&request, rc, &err);
	if (code == CLI_OK)
		printf("%s: the store of %s\n", request.words.word[1], request.words.word[0]);
	return code;
}
