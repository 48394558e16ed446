#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/flows.h"
#include "cli/flows_loop.h"
#include "cli/flows_tables.h"
#include "cli/option.h"
#include "cli/progress.h"
#include "cli/quantity.h"
#include "os/os.h"

enum { KEY_RESUME = 256, KEY_OVERWRITE, KEY_MERGE, KEY_REPLACE, KEY_ONLY_NEW, KEY_DRY_RUN };

enum { STOPPED = 1 };

struct request {
	struct option_words words; /* [NAME] FILE */
	bool resume, overwrite;
	bool mode_given;
	enum haul_map_import_mode mode;
	bool dry_run;
};

/* Progress is drawn, and a signal stops the work between two blocks. */
struct work {
	struct progress progress;
	int stop_fd;
	bool stopped;
};

static const char *name_of(const struct request *request)
{
	return request->words.count > 1 ? request->words.word[0] : NULL;
}

static const char *file_of(const struct request *request)
{
	return request->words.word[request->words.count - 1];
}

static int on_progress(uint64_t done, uint64_t expected, void *arg)
{
	struct work *work = arg;

	progress_show(&work->progress, done, expected == HAUL_MAP_UNKNOWN ? 0 : expected);
	work->stopped = flows_loop_wait(work->stop_fd, -1, 0) == FLOWS_LOOP_STOP;
	return work->stopped ? STOPPED : 0;
}

typedef int transfer(const struct request *request, struct haul_flows *flows, struct work *work,
		     struct haul_err *err);

static int run(const struct request *request, const char *what, transfer *move,
	       struct haul_err *err)
{
	struct haul_flows *flows;
	struct work work = { 0 };
	int rc = flows_tables_open_one(&flows, name_of(request), err);

	if (rc < 0)
		return rc;
	work.stop_fd = flows_loop_open(err);
	rc = work.stop_fd;
	if (rc >= 0) {
		progress_begin(&work.progress, what, "connections", false);
		rc = move(request, flows, &work, err);
		(void)close(work.stop_fd);
	}
	haul_flows_close(flows);
	return rc;
}

/* ---- export ---- */

static error_t parse_export(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;

	(void)arg;
	switch (key) {
	case KEY_RESUME:
		request->resume = true;
		break;
	case KEY_OVERWRITE:
		request->overwrite = true;
		break;
	default:
		return option_words(key, &request->words, state);
	}
	if (request->resume && request->overwrite)
		argp_error(state, "one of --resume and --overwrite at a time");
	return 0;
}

static int export_table(const struct request *request, struct haul_flows *flows, struct work *work,
			struct haul_err *err)
{
	const struct haul_map_export options = { .resume = request->resume,
						 .overwrite = request->overwrite,
						 .progress = on_progress,
						 .arg = work };
	const char *name = haul_flows_info(flows)->name;
	struct haul_map_file_report report = { 0 };
	char size[QUANTITY_TEXT];
	int rc = haul_flows_export(flows, file_of(request), &options, &report, err);

	progress_end(&work->progress);
	if (work->stopped)
		return haul_err_set(err, -EINTR,
				    "%s: stopped after %" PRIu64
				    " connections; 'haul flows export %s %s --resume' goes on",
				    file_of(request), report.entries, name, file_of(request));
	if (rc < 0)
		return rc;
	printf("haul flows: %s: %" PRIu64 " connections written to %s", name, report.entries,
	       file_of(request));
	if (request->resume && report.resumed_entries > 0)
		printf(", %" PRIu64 " of them were there", report.resumed_entries);
	printf(": %s in %" PRIu64 " blocks\n", quantity_memory_text(report.bytes, size),
	       report.blocks);
	return 0;
}

int flows_export(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "resume", KEY_RESUME, NULL, 0, "go on with an export that was cut short", 0 },
		{ "overwrite", KEY_OVERWRITE, NULL, 0, "replace FILE if it is there", 0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse_export,
		.args_doc = "[NAME] FILE",
		.doc = "Write the connections of a table to FILE, block by block, each with its "
		       "checksum and synced.\v"
		       "Examples:\n"
		       "  sudo haul flows export eth0 eth0.flows\n"
		       "  sudo haul flows export eth0 eth0.flows --resume\n",
	};
	struct request request = { .words = { .min = 1, .max = 2 } };
	struct haul_err err = { 0 };

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	return run(&request, "export", export_table, &err) < 0 ? cli_fail("flows export", &err)
							       : CLI_OK;
}

/* ---- import ---- */

static error_t set_mode(struct request *request, enum haul_map_import_mode mode,
			struct argp_state *state)
{
	if (request->mode_given && request->mode != mode)
		argp_error(state, "one of --merge, --replace and --only-new at a time");
	request->mode_given = true;
	request->mode = mode;
	return 0;
}

static error_t parse_import(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;

	(void)arg;
	switch (key) {
	case KEY_MERGE:
		return set_mode(request, HAUL_MAP_IMPORT_MERGE, state);
	case KEY_REPLACE:
		return set_mode(request, HAUL_MAP_IMPORT_REPLACE, state);
	case KEY_ONLY_NEW:
		return set_mode(request, HAUL_MAP_IMPORT_ONLY_NEW, state);
	case KEY_DRY_RUN:
		request->dry_run = true;
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

static int import_table(const struct request *request, struct haul_flows *flows, struct work *work,
			struct haul_err *err)
{
	const struct haul_map_import options = { .mode = request->mode,
						 .dry_run = request->dry_run,
						 .progress = on_progress,
						 .arg = work };
	const char *name = haul_flows_info(flows)->name;
	struct haul_map_file_report report = { 0 };
	int rc = haul_flows_import(flows, file_of(request), &options, &report, err);

	progress_end(&work->progress);
	if (work->stopped)
		return haul_err_set(err, -EINTR, "%s: stopped after %" PRIu64 " connections",
				    file_of(request), report.entries);
	if (rc < 0)
		return rc;
	if (request->dry_run)
		printf("haul flows: %s: %s is good: %" PRIu64 " connections in %" PRIu64
		       " blocks; nothing was changed\n",
		       name, file_of(request), report.entries, report.blocks);
	else
		printf("haul flows: %s: %" PRIu64 " connections read from %s: %" PRIu64
		       " new, %" PRIu64 " replaced, %" PRIu64 " kept as they were, %" PRIu64
		       " removed\n",
		       name, report.entries, file_of(request), report.inserted, report.updated,
		       report.unchanged, report.deleted);
	return 0;
}

int flows_import(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "merge", KEY_MERGE, NULL, 0,
		  "put what is in FILE, leave the other connections (this is the default)", 0 },
		{ "replace", KEY_REPLACE, NULL, 0, "afterwards only those of FILE are there", 0 },
		{ "only-new", KEY_ONLY_NEW, NULL, 0, "leave connections that are there as they are",
		  0 },
		{ "dry-run", KEY_DRY_RUN, NULL, 0, "verify FILE, change nothing", 0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse_import,
		.args_doc = "[NAME] FILE",
		.doc = "Read connections from a FILE that 'haul flows export' wrote. All of it is "
		       "verified before the first connection is put.\v"
		       "Examples:\n"
		       "  sudo haul flows import eth0 eth0.flows --dry-run\n"
		       "  sudo haul flows import eth0 eth0.flows --only-new\n",
	};
	struct request request = { .words = { .min = 1, .max = 2 }, .mode = HAUL_MAP_IMPORT_MERGE };
	struct haul_err err = { 0 };

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	return run(&request, "import", import_table, &err) < 0 ? cli_fail("flows import", &err)
							       : CLI_OK;
}
