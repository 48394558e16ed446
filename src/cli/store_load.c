/* haul store load: nodes and edges of CSV and NDJSON files. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "cli/option.h"
#include "cli/progress.h"
#include "cli/quantity.h"
#include "cli/stop.h"
#include "cli/store.h"
#include "cli/store_loader.h"
#include "os/os.h"

enum {
	KEY_NODES = 256,
	KEY_EDGES,
	KEY_FORMAT,
	KEY_ON_ERROR,
	KEY_BATCH,
	KEY_UPSERT,
	KEY_LOOSE,
	KEY_DRY_RUN,
	KEY_JSON,
	KEY_QUIET,
	FILES_MAX = 256,
	SHOW_EVERY = 1024, /* rows between two looks at the clock */
	SHOWN_STOPPED = 10,
};

struct file {
	const char *path;
	bool edges;
};

struct counts {
	uint64_t loaded, bad;
};

struct load {
	struct store_cmd_where where;
	struct file files[FILES_MAX];
	uint32_t file_count;
	enum store_format format;
	uint32_t batch;
	bool skip, upsert, loose, dry_run, json, quiet;
	/* while it runs */
	struct store_target target;
	struct store_loader *loader; /* NULL: a dry run */
	struct progress progress;
	struct counts nodes, edges;
	struct counts *counts; /* of the file */
	const char *path;
	uint64_t rows, line;
	bool stop;
};

/* ---- options ---- */

static void add_file(struct load *load, const char *path, bool edges, struct argp_state *state)
{
	if (load->file_count == FILES_MAX)
		argp_error(state, "more than %d files: load some, then the others", FILES_MAX);
	for (uint32_t i = 0; i < load->file_count; i++)
		if (strcmp(path, "-") == 0 && strcmp(load->files[i].path, "-") == 0)
			argp_error(state, "'-': standard input can be read once");
	load->files[load->file_count++] = (struct file){ path, edges };
}

static enum store_format format_of(const char *arg, struct argp_state *state)
{
	static const char *const names[] = {
		[STORE_AUTO] = "auto", [STORE_CSV] = "csv", [STORE_NDJSON] = "ndjson", NULL
	};
	return (enum store_format)option_name("format", arg, names, state);
}

static bool skip_of(const char *arg, struct argp_state *state)
{
	static const char *const names[] = { "stop", "skip", NULL };
	return option_name("on-error", arg, names, state) == 1;
}

/* What only all of them together can tell. */
static void check(const struct load *load, struct argp_state *state)
{
	if (load->where.words.count > 1)
		argp_error(state, "'%s' is too much: give files by --nodes and --edges",
			   load->where.words.word[1]);
	if (load->file_count == 0)
		argp_error(state, "nothing to load: --nodes FILE, --edges FILE");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct load *load = state->input;
	switch (key) {
	case KEY_NODES:
	case KEY_EDGES:
		add_file(load, arg, key == KEY_EDGES, state);
		return 0;
	case KEY_FORMAT:
		load->format = format_of(arg, state);
		return 0;
	case KEY_ON_ERROR:
		load->skip = skip_of(arg, state);
		return 0;
	case KEY_BATCH:
		load->batch = (uint32_t)option_number("batch", arg, 1, HAUL_CHANGES_OPS, state);
		return 0;
	case KEY_UPSERT:
		load->upsert = true;
		return 0;
	case KEY_LOOSE:
		load->loose = true;
		return 0;
	case KEY_DRY_RUN:
		load->dry_run = true;
		return 0;
	case KEY_JSON:
		load->json = true;
		return 0;
	case KEY_QUIET:
		load->quiet = true;
		return 0;
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &load->where;
		return 0;
	case ARGP_KEY_END: /* behind that of WHERE */
		check(load, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- rows ---- */

static void say_bad(uint64_t line, const char *text, void *arg)
{
	struct load *load = arg;
	load->counts->bad++;
	load->stop = load->stop || !load->skip;
	/* those behind the first were on their way already */
	if (!load->skip && load->counts->bad > SHOWN_STOPPED)
		return;
	progress_wipe(&load->progress);
	fprintf(stderr, "haul: store: %s:%" PRIu64 ": %s\n", load->path, line, text);
}

static void show(struct load *load, const struct store_input *input)
{
	uint64_t total = 0;
	if (++load->rows % SHOW_EVERY != 0)
		return;
	if (input->bytes_total > 0 && input->bytes_taken > 0)
		total = (uint64_t)((double)load->rows * (double)input->bytes_total /
				   (double)input->bytes_taken);
	progress_show(&load->progress, load->rows, total);
}

static int take_record(struct load *load, struct store_rows *rows, const struct store_input *input,
		       struct haul_err *err)
{
	struct haul_err why = { 0 };
	struct store_row row;
	if (store_rows_take(rows, input, &row, &why) < 0) {
		say_bad(input->line, why.text, load);
		return 0;
	}
	load->line = input->line;
	if (load->loader != NULL)
		return store_loader_add(load->loader, &row, input->line, err);
	load->counts->loaded++;
	return 0;
}

/* 1: go on; 0: the end; negative. */
static int next_record(struct load *load, struct store_rows *rows, struct store_input *input,
		       struct haul_err *err)
{
	int rc;
	const int event = store_input_next(input, err);
	switch (event) {
	case STORE_INPUT_END:
		return 0;
	case STORE_INPUT_STOPPED:
		load->stop = true;
		return 0;
	case STORE_INPUT_BAD:
		say_bad(input->line, input->bad, load);
		break;
	case STORE_INPUT_RECORD:
		rc = take_record(load, rows, input, err);
		if (rc < 0)
			return rc;
		break;
	default:
		return event;
	}
	show(load, input);
	return 1;
}

/* ---- files ---- */

/* The header is no row: what is wrong with it is wrong with the file. */
static int take_header(struct store_rows *rows, struct store_input *input, struct haul_err *err)
{
	struct haul_err why = { 0 };
	if (input->format == STORE_NDJSON)
		return 0;
	const int event = store_input_next(input, &why);
	if (event == STORE_INPUT_STOPPED)
		return haul_err_set(err, -EINTR, "stopped");
	if (event == STORE_INPUT_END)
		return haul_err_set(err, -EINVAL, "%s: is empty: wanted is a header line, %s",
				    input->path,
				    rows->edges ? "src,dst,type,disc,…" : "id,kind,key,…");
	if (event == STORE_INPUT_BAD)
		return haul_err_set(err, -EINVAL, "%s:%" PRIu64 ": %s", input->path, input->line,
				    input->bad);
	if (event < 0)
		return haul_err_set(err, event, "%s", why.text);
	if (store_rows_header(rows, &input->csv, &why) < 0)
		return haul_err_set(err, -EINVAL, "%s:%" PRIu64 ": %s", input->path, input->line,
				    why.text);
	return 0;
}

static int file_open(struct load *load, const struct file *file, struct store_input *input,
		     struct store_rows *rows, struct haul_err *err)
{
	int rc = store_rows_init(rows, file->edges);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: no memory", file->path);
	rc = store_input_open(input, file->path, load->format, err);
	if (rc < 0) {
		store_rows_done(rows);
		return rc;
	}
	rc = take_header(rows, input, err);
	if (rc < 0) {
		store_input_close(input);
		store_rows_done(rows);
	}
	return rc;
}

/* A pipe can be read once, and says nothing before. */
static bool is_pipe(const char *path)
{
	struct stat st;
	return strcmp(path, "-") == 0 ||
	       (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode));
}

/* Before anything is loaded: each file is there and begins as it should. */
static int check_files(struct load *load, struct haul_err *err)
{
	for (uint32_t i = 0; i < load->file_count; i++) {
		struct store_input input;
		struct store_rows rows;
		if (is_pipe(load->files[i].path))
			continue;
		int rc = file_open(load, &load->files[i], &input, &rows, err);
		if (rc < 0)
			return rc;
		store_input_close(&input);
		store_rows_done(&rows);
	}
	return 0;
}

static int load_rows(struct load *load, struct store_rows *rows, struct store_input *input,
		     struct haul_err *err)
{
	uint64_t before = load->loader != NULL ? store_loader_loaded(load->loader) : 0;
	struct haul_err other = { 0 };
	int rc = 1;
	load->path = input->path;
	load->rows = 0;
	if (load->loader != NULL)
		store_loader_begin(load->loader, rows->edges, say_bad, load);
	while (rc > 0 && !load->stop) {
		rc = next_record(load, rows, input, err);
		load->stop = load->stop || stop_asked();
	}
	if (load->loader == NULL)
		return rc < 0 ? rc : 0;
	const int flushed = store_loader_flush(load->loader, rc < 0 ? &other : err);
	load->counts->loaded += store_loader_loaded(load->loader) - before;
	rc = rc < 0 ? rc : flushed;
	return rc < 0 ? haul_err_wrap(err, rc, "%s", load->path) : 0;
}

static int load_file(struct load *load, const struct file *file, struct haul_err *err)
{
	struct store_input input;
	struct store_rows rows;
	char what[QUANTITY_TEXT * 4];
	load->counts = file->edges ? &load->edges : &load->nodes;
	int rc = file_open(load, file, &input, &rows, err);
	if (rc < 0)
		return rc;
	snprintf(what, sizeof what, "load %.80s", input.path);
	progress_begin(&load->progress, what, "rows", load->quiet);
	rc = load_rows(load, &rows, &input, err);
	progress_end(&load->progress);
	store_input_close(&input);
	store_rows_done(&rows);
	return rc;
}

static int load_kind(struct load *load, bool edges, struct haul_err *err)
{
	int rc = 0;
	for (uint32_t i = 0; i < load->file_count && rc == 0 && !load->stop; i++)
		if (load->files[i].edges == edges)
			rc = load_file(load, &load->files[i], err);
	return rc;
}

/* ---- all of it ---- */

static void print_text(const struct load *load, double seconds)
{
	const uint64_t all = load->nodes.loaded + load->edges.loaded;
	char rate[QUANTITY_TEXT];
	printf("%" PRIu64 " nodes and %" PRIu64 " edges %s in %.2f s (%s/s), %" PRIu64 " bad\n",
	       load->nodes.loaded, load->edges.loaded, load->dry_run ? "read" : "loaded", seconds,
	       quantity_size_text((double)all / (seconds > 0 ? seconds : 1e-9), rate),
	       load->nodes.bad + load->edges.bad);
}

static void print_json(const struct load *load, double seconds)
{
	printf("{\"nodes\": {\"loaded\": %" PRIu64 ", \"bad\": %" PRIu64
	       "}, \"edges\": {\"loaded\": %" PRIu64 ", \"bad\": %" PRIu64
	       "}, \"seconds\": %.6f}\n",
	       load->nodes.loaded, load->nodes.bad, load->edges.loaded, load->edges.bad, seconds);
}

static void say_stopped(const struct load *load)
{
	if (load->dry_run || load->path == NULL)
		return;
	if (stop_asked())
		fprintf(stderr,
			"haul: store: stopped behind %s:%" PRIu64
			"; what was counted is durable, and --upsert loads it again\n",
			load->path, load->line);
	else if (load->stop)
		fprintf(stderr,
			"haul: store: stopped; what was counted is durable; --on-error skip "
			"goes on behind bad lines\n");
}

static int run(struct load *load, struct haul_err *err)
{
	const struct store_loader_options options = {
		.target = &load->target,
		.batch = load->batch,
		.upsert = load->upsert,
		.loose = load->loose,
	};
	int rc = load->dry_run ? 0 : store_loader_new(&load->loader, &options, err);
	if (rc == 0)
		rc = load_kind(load, false, err);
	if (rc == 0 && !load->stop)
		rc = load_kind(load, true, err);
	store_loader_free(load->loader);
	return rc;
}

static int load_all(struct load *load)
{
	struct os *os = os_linux();
	struct haul_err err = { 0 };
	stop_catch();
	int rc = check_files(load, &err);
	if (rc == 0 && !load->dry_run)
		rc = store_target_open(&load->target, load->where.where, &load->where.options,
				       &err);
	if (rc < 0)
		return cli_fail("store", &err);
	const int64_t start_ns = os->now_ns(os);
	rc = run(load, &err);
	const double seconds = (double)(os->now_ns(os) - start_ns) / 1e9;
	if (!load->dry_run)
		store_target_close(&load->target);
	if (load->json)
		print_json(load, seconds);
	else
		print_text(load, seconds);
	say_stopped(load);
	if (rc < 0)
		return cli_fail("store", &err);
	const bool bad = load->nodes.bad + load->edges.bad > 0 || load->stop;
	return bad ? CLI_FAILED : CLI_OK;
}

int store_cmd_load(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "nodes", KEY_NODES, "FILE", 0, "nodes; may be given several times; - is stdin",
		  0 },
		{ "edges", KEY_EDGES, "FILE", 0, "edges, the same; they are loaded after all nodes",
		  0 },
		{ "format", KEY_FORMAT, "FORMAT", 0,
		  "csv, ndjson or auto: by name, else by the first byte (auto)", 0 },
		{ "on-error", KEY_ON_ERROR, "HOW", 0,
		  "stop at the first bad line, or skip them (stop)", 0 },
		{ "batch", KEY_BATCH, "N", 0, "rows a frame (8192)", 0 },
		{ "upsert", KEY_UPSERT, NULL, 0, "replace what is there", 0 },
		{ "loose", KEY_LOOSE, NULL, 0, "edges between nodes that are not there", 0 },
		{ "dry-run", KEY_DRY_RUN, NULL, 0, "read and check the files, load nothing", 0 },
		{ "json", KEY_JSON, NULL, 0, "the summary as JSON", 0 },
		{ "quiet", KEY_QUIET, NULL, 0, "no progress on stderr", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "WHERE",
		.doc = "Load nodes and edges from files of any size into a store. CSV has a header "
		       "line. Nodes: id, kind, key; edges: src, dst, type, disc, where src and dst "
		       "may be keys of nodes; embedding or embedding.N: a JSON array of numbers; "
		       "other columns are properties, name:int, name:float, name:text, name:bytes, "
		       "or name alone. NDJSON has one object a line, with \"properties\". A node "
		       "without an id gets one made of its key. Bad lines are told as FILE:LINE; "
		       "the exit status is 1 if there were any.\v"
		       "Examples:\n"
		       "  haul store load graph --nodes people.csv --edges knows.csv\n"
		       "  zcat edges.ndjson.gz | haul store load 127.0.0.1:7340 --edges - "
		       "--on-error skip\n",
		.children = store_cmd_where_child,
	};
	static struct load load = { .where.words = { .min = 1, .max = UINT32_MAX, STORE_CMD_WHERE },
				    .batch = HAUL_CHANGES_OPS };
	if (argp_parse(&argp, argc, argv, 0, NULL, &load))
		return CLI_USAGE;
	return load_all(&load);
}
