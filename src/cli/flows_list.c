#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/cli.h"
#include "cli/flows.h"
#include "cli/flows_best.h"
#include "cli/flows_query.h"
#include "cli/flows_tables.h"
#include "cli/flows_text.h"
#include "cli/option.h"
#include "os/os.h"

enum { KEY_SORT = 256, KEY_REVERSE, KEY_LIMIT, KEY_JSON, KEY_CSV, KEY_NDJSON, KEY_NUMERIC };

enum { ENOUGH = 1, LIMIT_MAX = 1000000000 };

enum format { FORMAT_TEXT, FORMAT_JSON, FORMAT_CSV, FORMAT_NDJSON };

struct request {
	struct flows_names names;
	struct flows_query query;
	enum flows_sort sort;
	bool reverse;
	uint64_t limit; /* 0 = all */
	enum format format;
	bool numeric;
};

/* What the rows go through. */
struct lister {
	const struct request *request;
	struct flows_tables tables;
	uint32_t table; /* being read */
	int64_t now_ns;
	struct flows_best best;
	struct flows_text text;
	uint64_t written;
};

static error_t set_format(struct request *request, enum format format, struct argp_state *state)
{
	if (request->format != FORMAT_TEXT && request->format != format)
		argp_error(state, "one of --json, --ndjson and --csv at a time");
	request->format = format;
	return 0;
}

static error_t set_sort(struct request *request, const char *arg, struct argp_state *state)
{
	request->sort = flows_sort_by_name(arg);
	if (request->sort == FLOWS_SORT_NONE || request->sort >= FLOWS_SORT_RATE)
		argp_error(state, "--sort '%s': wanted is bytes, packets, age, idle or rtt", arg);
	return 0;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &request->query;
		return 0;
	case KEY_SORT:
		return set_sort(request, arg, state);
	case KEY_REVERSE:
		request->reverse = true;
		return 0;
	case KEY_LIMIT:
		request->limit = option_number("limit", arg, 1, LIMIT_MAX, state);
		return 0;
	case KEY_JSON:
		return set_format(request, FORMAT_JSON, state);
	case KEY_CSV:
		return set_format(request, FORMAT_CSV, state);
	case KEY_NDJSON:
		return set_format(request, FORMAT_NDJSON, state);
	case KEY_NUMERIC:
		request->numeric = true;
		return 0;
	case ARGP_KEY_END:
		if (request->reverse && request->sort == FLOWS_SORT_NONE)
			argp_error(state, "--reverse needs --sort");
		return 0;
	default:
		return flows_names_parse(key, arg, &request->names, state);
	}
}

/* ---- rows ---- */

static void put_json(struct lister *lister, const struct flows_record *record)
{
	if (lister->request->format == FORMAT_JSON)
		(void)fputs(lister->written > 0 ? ",\n " : "[\n ", stdout);
	(void)putchar('{');
	flows_record_json(stdout, record);
	(void)fputs(lister->request->format == FORMAT_JSON ? "}" : "}\n", stdout);
}

static int put(struct lister *lister, uint32_t table, const struct haul_flow_key *key,
	       const struct haul_flow_value *value)
{
	const struct flows_record record = {
		.table = haul_flows_info(lister->tables.flows[table])->name,
		.key = key,
		.value = value,
		.now_ns = lister->now_ns,
	};

	switch (lister->request->format) {
	case FORMAT_TEXT:
		flows_text_add(&lister->text, &record);
		if (grid_full(&lister->text.grid))
			grid_print(&lister->text.grid, stdout);
		break;
	case FORMAT_CSV:
		flows_record_csv(stdout, &record);
		break;
	case FORMAT_JSON:
	case FORMAT_NDJSON:
		put_json(lister, &record);
		break;
	}
	lister->written++;
	return ferror(stdout) ? -EIO : 0;
}

static void begin(const struct lister *lister)
{
	if (lister->request->format == FORMAT_CSV)
		flows_record_csv_names(stdout);
}

static void finish(struct lister *lister)
{
	if (lister->request->format == FORMAT_TEXT)
		grid_print(&lister->text.grid, stdout);
	else if (lister->request->format == FORMAT_JSON)
		(void)fputs(lister->written > 0 ? "\n]\n" : "[]\n", stdout);
}

static int take(struct lister *lister, const struct haul_flow_key *key,
		const struct haul_flow_value *value)
{
	struct flows_item item = { .table = lister->table, .key = *key, .value = *value };
	int rc;

	if (lister->request->sort != FLOWS_SORT_NONE)
		return flows_best_add(&lister->best, &item);
	rc = put(lister, lister->table, key, value);
	if (rc == 0 && lister->written == lister->request->limit)
		rc = ENOUGH;
	return rc;
}

static int visit(const struct haul_map_batch *batch, void *arg)
{
	int rc = 0;

	for (uint32_t i = 0; i < batch->count && rc == 0; i++)
		rc = take(arg, haul_map_key(batch, i), haul_map_value(batch, i));
	return rc;
}

static int read_tables(struct lister *lister, struct haul_err *err)
{
	struct haul_flow_query query = flows_query_at(&lister->request->query, lister->now_ns);

	for (uint32_t i = 0; i < lister->tables.count; i++) {
		struct haul_flows *flows = lister->tables.flows[i];
		struct haul_map_report report;
		int rc;

		lister->table = i;
		rc = haul_flows_scan(flows, &query, visit, lister, &report);
		if (rc == ENOUGH)
			return 0;
		if (rc < 0)
			return haul_err_set(err, rc, "%s: reading the table: %s",
					    haul_flows_info(flows)->name, haul_strerror(rc));
	}
	return 0;
}

static int put_best(struct lister *lister)
{
	int rc = 0;

	flows_best_order(&lister->best);
	for (size_t i = 0; i < lister->best.count && rc == 0; i++) {
		const struct flows_item *item = &lister->best.items[i];

		rc = put(lister, item->table, &item->key, &item->value);
	}
	return rc;
}

static void warn(const struct lister *lister)
{
	uint64_t totals[HAUL_FLOW_TOTALS];

	for (uint32_t i = 0; i < lister->tables.count; i++)
		if (haul_flows_totals(lister->tables.flows[i], totals) == 0)
			flows_tables_warn(lister->tables.flows[i], totals);
}

static int list(struct lister *lister, struct haul_err *err)
{
	int rc;

	begin(lister);
	rc = read_tables(lister, err);
	if (rc == 0)
		rc = put_best(lister);
	if (rc == 0)
		finish(lister);
	if (fflush(stdout) != 0 || rc == -EIO)
		rc = haul_err_set(err, -EIO, "standard output cannot be written");
	return rc;
}

static int run(const struct request *request, struct haul_err *err)
{
	struct lister lister = { .request = request };
	int rc = flows_tables_open(&lister.tables, &request->names, err);

	if (rc < 0)
		return rc;
	lister.now_ns = os_linux()->now_ns(os_linux());
	lister.best = (struct flows_best){ .sort = request->sort,
					   .reverse = request->reverse,
					   .limit = request->limit };
	rc = flows_text_init(&lister.text, request->names.count != 1, false, request->numeric);
	if (rc < 0)
		(void)haul_err_set(err, rc, "%s", haul_strerror(rc));
	else
		rc = list(&lister, err);
	if (rc == 0)
		warn(&lister);
	flows_text_done(&lister.text);
	flows_best_done(&lister.best);
	flows_tables_close(&lister.tables);
	return rc;
}

static const struct argp_option options[] = {
	{ "sort", KEY_SORT, "BY", 0, "bytes, packets, age, idle or rtt; largest first", 0 },
	{ "reverse", KEY_REVERSE, NULL, 0, "smallest first", 0 },
	{ "limit", KEY_LIMIT, "N", 0, "at most N connections", 0 },
	{ "json", KEY_JSON, NULL, 0, "an array of objects, figures not rounded", 0 },
	{ "ndjson", KEY_NDJSON, NULL, 0, "an object a line", 0 },
	{ "csv", KEY_CSV, NULL, 0, "a line each, names in the first", 0 },
	{ "numeric", KEY_NUMERIC, NULL, 0, "ports as numbers, not as names of services", 0 },
	{ 0 }
};

int flows_list(int argc, char **argv)
{
	static const struct argp_child children[] = { { &flows_query_argp, 0, NULL, 0 }, { 0 } };
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[NAME...]",
		.doc = "List the connections of attached tables, or of all of them. TX is what "
		       "the initiator sent, DATA without headers (TCP: each byte once).\v"
		       "Without --sort, and with --limit, memory does not grow with the table.\n\n"
		       "Examples:\n"
		       "  sudo haul flows list --sort bytes --limit 10\n"
		       "  sudo haul flows list eth0 --proto tcp --port 443 --state established\n"
		       "  sudo haul flows list eth0 --addr 10.0.0.0/8 --since 10s --json\n",
		.children = children,
	};
	struct request request = { 0 };
	struct haul_err err = { 0 };

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	return run(&request, &err) < 0 ? cli_fail("flows list", &err) : CLI_OK;
}
