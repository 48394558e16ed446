#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/cli.h"
#include "cli/flows.h"
#include "cli/flows_best.h"
#include "cli/flows_loop.h"
#include "cli/flows_past.h"
#include "cli/flows_query.h"
#include "cli/flows_screen.h"
#include "cli/flows_tables.h"
#include "cli/flows_text.h"
#include "cli/option.h"
#include "cli/quantity.h"
#include "os/os.h"

enum { KEY_INTERVAL = 256, KEY_COUNT, KEY_LIMIT, KEY_SORT, KEY_REVERSE, KEY_NUMERIC };

/* HEAD_LINES stand above the rows, names of columns included. */
enum { COUNT_MAX = 1000000000, LIMIT_DEFAULT = 20, HEAD_LINES = 5, FILTER_BYTES = 48 };

struct request {
	struct flows_names names;
	struct flows_query query;
	int64_t interval_ns;
	uint64_t count; /* frames; 0 = any number */
	uint32_t limit; /* rows; 0 = as many as the screen has, else LIMIT_DEFAULT */
	enum flows_sort sort;
	bool reverse;
	bool numeric;
};

struct top {
	const struct request *request;
	struct flows_tables tables;
	struct flows_past past;
	struct flows_best best;
	struct flows_text text;
	struct flows_screen *screen; /* NULL = plain frames */
	int stop_fd;
	uint32_t table;          /* being read */
	int64_t now_ns, last_ns; /* this look, and the one before; 0 = none yet */
	uint64_t shown;          /* connections that passed the filters */
	uint64_t totals[HAUL_FLOW_TOTALS], before[HAUL_FLOW_TOTALS]; /* of all tables */
	uint64_t entries, entries_max;
	uint64_t frames;
	bool paused, quit, editing;
	char filter[FILTER_BYTES]; /* text that a row must contain */
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &request->query;
		return 0;
	case KEY_INTERVAL:
		request->interval_ns = flows_query_duration("interval", arg, state);
		return 0;
	case KEY_COUNT:
		request->count = option_number("count", arg, 1, COUNT_MAX, state);
		return 0;
	case KEY_LIMIT:
		request->limit = (uint32_t)option_number("limit", arg, 1, GRID_ROWS, state);
		return 0;
	case KEY_SORT:
		request->sort = flows_sort_by_name(arg);
		if (request->sort == FLOWS_SORT_NONE || request->sort == FLOWS_SORTS)
			argp_error(state,
				   "--sort '%s': wanted is rate, prate (packets), bytes, packets, "
				   "age, idle or rtt",
				   arg);
		return 0;
	case KEY_REVERSE:
		request->reverse = true;
		return 0;
	case KEY_NUMERIC:
		request->numeric = true;
		return 0;
	default:
		return flows_names_parse(key, arg, &request->names, state);
	}
}

/* ---- a look at the tables ---- */

static struct flows_record record_of(const struct top *top, const struct flows_item *item)
{
	return (struct flows_record){
		.table = haul_flows_info(top->tables.flows[item->table])->name,
		.key = &item->key,
		.value = &item->value,
		.now_ns = top->now_ns,
	};
}

static bool passes(const struct top *top, const struct flows_item *item)
{
	const struct flows_record record = record_of(top, item);
	char text[3 * HAUL_FLOW_TEXT], end[2][HAUL_FLOW_TEXT], proto[8];

	if (top->filter[0] == '\0')
		return true;
	flows_text_end(&top->text, &record, 0, end[0]);
	flows_text_end(&top->text, &record, 1, end[1]);
	(void)snprintf(text, sizeof text, "%s %s %s %s %s", record.table,
		       haul_flow_proto_name((uint8_t)item->key.proto, proto), end[0], end[1],
		       haul_flow_state_name(item->value.state));
	return strstr(text, top->filter) != NULL;
}

static int take(struct top *top, const struct haul_flow_key *key,
		const struct haul_flow_value *value)
{
	struct flows_item item = { .table = top->table, .key = *key, .value = *value };
	enum flows_past_found found =
		flows_past_note(&top->past, top->table, key, value, &item.delta);

	if (found == FLOWS_PAST_AGAIN)
		return 0; /* a walk beside changes may repeat an entry */
	/* Not new, only not known: what it did since the last look cannot be told. */
	if (found == FLOWS_PAST_NEW &&
	    (top->last_ns == 0 || value->first_ns < (uint64_t)top->last_ns))
		item.delta = (struct flows_delta){ 0 };
	if (!passes(top, &item))
		return 0;
	top->shown++;
	return flows_best_add(&top->best, &item);
}

static int visit(const struct haul_map_batch *batch, void *arg)
{
	int rc = 0;

	for (uint32_t i = 0; i < batch->count && rc == 0; i++)
		rc = take(arg, haul_map_key(batch, i), haul_map_value(batch, i));
	return rc;
}

static uint32_t rows_that_fit(const struct top *top)
{
	uint32_t rows = LIMIT_DEFAULT;

	if (top->screen != NULL) {
		int lines = flows_screen_lines(top->screen) - HEAD_LINES;

		rows = lines < 1 ? 1 : (uint32_t)lines;
	}
	if (top->request->limit > 0 && (top->screen == NULL || top->request->limit < rows))
		rows = top->request->limit;
	return rows < GRID_ROWS ? rows : GRID_ROWS;
}

static int look_at(struct top *top, uint32_t index, const struct haul_flow_query *query)
{
	struct haul_flows *flows = top->tables.flows[index];
	uint64_t totals[HAUL_FLOW_TOTALS], entries;
	struct haul_map_report report;
	int rc;

	top->table = index;
	rc = haul_flows_scan(flows, query, visit, top, &report);
	if (rc == 0)
		rc = haul_flows_totals(flows, totals);
	if (rc == 0)
		rc = haul_flows_count(flows, &entries);
	if (rc != 0)
		return rc;
	for (int i = 0; i < HAUL_FLOW_TOTALS; i++)
		top->totals[i] += totals[i];
	top->entries += entries;
	top->entries_max += haul_flows_info(flows)->entries_max;
	return 0;
}

static int look(struct top *top, struct haul_err *err)
{
	struct haul_flow_query query;
	int rc = 0;

	top->last_ns = top->now_ns;
	top->now_ns = os_linux()->now_ns(os_linux());
	query = flows_query_at(&top->request->query, top->now_ns);
	memcpy(top->before, top->totals, sizeof top->before);
	memset(top->totals, 0, sizeof top->totals);
	top->entries = top->entries_max = top->shown = 0;
	flows_best_clear(&top->best);
	top->best.limit = rows_that_fit(top);
	flows_past_turn(&top->past);
	for (uint32_t i = 0; i < top->tables.count && rc == 0; i++) {
		rc = look_at(top, i, &query);
		if (rc < 0)
			(void)haul_err_set(err, rc, "%s: reading the table: %s",
					   haul_flows_info(top->tables.flows[i])->name,
					   haul_strerror(rc));
	}
	flows_best_order(&top->best);
	return rc;
}

/* ---- a frame ---- */

static double passed(const struct top *top, enum haul_flow_total total)
{
	uint64_t before = top->last_ns == 0 ? top->totals[total] : top->before[total];

	return top->totals[total] > before ? (double)(top->totals[total] - before) : 0;
}

static double seconds_of(const struct top *top)
{
	int64_t ns = top->last_ns == 0 ? 0 : top->now_ns - top->last_ns;

	return ns > 0 ? (double)ns / 1e9 : 1;
}

static void put_head(const struct top *top, FILE *out)
{
	double seconds = seconds_of(top);
	char bits[QUANTITY_TEXT], packets[QUANTITY_TEXT], used[QUANTITY_TEXT], max[QUANTITY_TEXT];
	const char *name =
		top->tables.count == 1 ? haul_flows_info(top->tables.flows[0])->name : "all tables";

	fprintf(out, "haul flows top: %s: %s of %s connections", name,
		quantity_size_text((double)top->entries, used),
		quantity_size_text((double)top->entries_max, max));
	fprintf(out, ", %sbit/s, %s packets/s, %.0f opened, %.0f closed in %.1f s%s\n",
		quantity_size_text(passed(top, HAUL_FLOW_T_BYTES) * 8 / seconds, bits),
		quantity_size_text(passed(top, HAUL_FLOW_T_PACKETS) / seconds, packets),
		passed(top, HAUL_FLOW_T_OPENED), passed(top, HAUL_FLOW_T_CLOSED), seconds,
		top->paused ? "  PAUSED" : "");
	fprintf(out, "since attached: %" PRIu64 " packets, overflow %" PRIu64 ", late %" PRIu64,
		top->totals[HAUL_FLOW_T_PACKETS], top->totals[HAUL_FLOW_T_OVERFLOW],
		top->totals[HAUL_FLOW_T_LATE]);
	if (top->totals[HAUL_FLOW_T_OVERFLOW] > 0)
		fprintf(out, "; A TABLE WAS FULL: attach it again with more --entries");
	if (top->past.refused > 0)
		fprintf(out, "; too many connections to remember, some rates are missing");
	fprintf(out, "\nshown: %zu of %" PRIu64 ", by %s%s", top->best.count, top->shown,
		flows_sort_name(top->best.sort), top->best.reverse ? ", reversed" : "");
	if (top->editing || top->filter[0] != '\0')
		fprintf(out, ", with '%s%s'", top->filter, top->editing ? "_" : "");
	if (top->screen != NULL)
		fprintf(out, "  [q quit, s sort, r reverse, p pause, / filter]");
	fprintf(out, "\n\n");
}

static void put_rows(struct top *top, FILE *out)
{
	char line[GRID_LINE];

	grid_clear(&top->text.grid);
	for (size_t i = 0; i < top->best.count && !grid_full(&top->text.grid); i++) {
		const struct flows_record record = record_of(top, &top->best.items[i]);

		flows_text_add_rates(&top->text, &record, &top->best.items[i].delta,
				     seconds_of(top));
	}
	grid_fit(&top->text.grid);
	grid_line(&top->text.grid, GRID_ROWS, line);
	fprintf(out, "%s\n", line);
	for (uint32_t row = 0; row < grid_rows(&top->text.grid); row++) {
		grid_line(&top->text.grid, row, line);
		fprintf(out, "%s\n", line);
	}
}

static int show(struct top *top, struct haul_err *err)
{
	char *frame = NULL;
	size_t bytes;
	FILE *out = open_memstream(&frame, &bytes);

	if (out == NULL)
		return haul_err_set(err, -ENOMEM, "%s", haul_strerror(-ENOMEM));
	put_head(top, out);
	put_rows(top, out);
	if (fclose(out) != 0) {
		free(frame);
		return haul_err_set(err, -ENOMEM, "%s", haul_strerror(-ENOMEM));
	}
	if (top->screen != NULL) {
		flows_screen_draw(top->screen, frame, HEAD_LINES - 1);
	} else {
		printf("%s%s", top->frames > 1 ? "\n" : "", frame);
	}
	free(frame);
	return top->screen != NULL ? 0 : flows_loop_flush(err);
}

/* ---- keys ---- */

static void edit(struct top *top, int key)
{
	size_t bytes = strlen(top->filter);

	if (key == FLOWS_KEY_ENTER) {
		top->editing = false;
	} else if (key == FLOWS_KEY_ESCAPE) {
		top->editing = false;
		top->filter[0] = '\0';
	} else if (key == FLOWS_KEY_BACKSPACE && bytes > 0) {
		top->filter[bytes - 1] = '\0';
	} else if (key >= ' ' && key <= '~' && bytes + 1 < FILTER_BYTES) {
		top->filter[bytes] = (char)key;
		top->filter[bytes + 1] = '\0';
	}
}

static void next_sort(struct top *top)
{
	unsigned sort = (unsigned)top->best.sort + 1;

	top->best.sort = sort == FLOWS_SORTS ? FLOWS_SORT_BYTES : (enum flows_sort)sort;
}

static void on_key(struct top *top, int key)
{
	if (top->editing) {
		edit(top, key);
		return;
	}
	switch (key) {
	case 'q':
		top->quit = true;
		break;
	case 's':
		next_sort(top);
		break;
	case 'r':
		top->best.reverse = !top->best.reverse;
		break;
	case 'p':
	case ' ':
		top->paused = !top->paused;
		break;
	case '/':
		top->editing = true;
		top->filter[0] = '\0';
		break;
	default:
		break;
	}
	flows_best_order(&top->best);
}

/* ---- the loop ---- */

static int loop(struct top *top, struct haul_err *err)
{
	const struct request *request = top->request;
	int64_t next_ns;
	int key, rc = look(top, err);

	next_ns = top->now_ns + request->interval_ns;
	if (rc == 0 && top->screen != NULL)
		rc = show(top, err);
	while (rc == 0 && !top->quit) {
		enum flows_loop_why why =
			flows_loop_wait(top->stop_fd, top->screen != NULL ? STDIN_FILENO : -1,
					top->paused ? INT64_MAX : next_ns);

		if (why == FLOWS_LOOP_STOP)
			break;
		while (why == FLOWS_LOOP_INPUT && (key = flows_screen_key(top->screen)) != 0)
			on_key(top, key);
		if (why == FLOWS_LOOP_TIME) {
			rc = look(top, err);
			next_ns = top->now_ns + request->interval_ns;
			top->frames++;
		}
		if (rc == 0)
			rc = show(top, err);
		if (request->count > 0 && top->frames >= request->count)
			break;
	}
	return rc == -EPIPE ? 0 : rc;
}

static int start(struct top *top, struct haul_err *err)
{
	int rc = flows_past_init(&top->past);

	if (rc == 0)
		rc = flows_text_init(&top->text, top->tables.count > 1, true,
				     top->request->numeric);
	if (rc < 0)
		return haul_err_set(err, rc, "%s", haul_strerror(rc));
	top->stop_fd = flows_loop_open(err);
	if (top->stop_fd < 0)
		return top->stop_fd;
	top->screen = flows_screen_open();
	rc = loop(top, err);
	flows_screen_close(top->screen);
	(void)close(top->stop_fd);
	return rc;
}

static int run(const struct request *request, struct haul_err *err)
{
	struct top top = { .request = request,
			   .best = { .sort = request->sort, .reverse = request->reverse } };
	int rc = flows_tables_open(&top.tables, &request->names, err);

	if (rc < 0)
		return rc;
	rc = start(&top, err);
	flows_text_done(&top.text);
	flows_best_done(&top.best);
	flows_past_done(&top.past);
	flows_tables_close(&top.tables);
	return rc;
}

static const struct argp_option options[] = {
	{ "interval", KEY_INTERVAL, "TIME", 0, "from one look to the next (1s)", 0 },
	{ "count", KEY_COUNT, "N", 0, "end after N looks", 0 },
	{ "limit", KEY_LIMIT, "N", 0, "at most N connections (1 to 256)", 0 },
	{ "sort", KEY_SORT, "BY", 0,
	  "rate, prate (packets), bytes, packets, age, idle or rtt; largest first", 0 },
	{ "reverse", KEY_REVERSE, NULL, 0, "smallest first", 0 },
	{ "numeric", KEY_NUMERIC, NULL, 0, "ports as numbers, not as names of services", 0 },
	{ 0 }
};

int flows_top(int argc, char **argv)
{
	static const struct argp_child children[] = { { &flows_query_argp, 0, NULL, 0 }, { 0 } };
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[NAME...]",
		.doc = "Show the busiest connections of attached tables, or of all of them, live: "
		       "what each carried since the last look, by the second. Keys: q quit, s "
		       "next order, r reverse, p pause, / text that a row must contain.\v"
		       "Where the output is no terminal it prints plain frames. Remembers 64 "
		       "bytes of each connection, up to 1.5 million of them.\n\n"
		       "Examples:\n"
		       "  sudo haul flows top\n"
		       "  sudo haul flows top eth0 --proto udp --interval 5s\n"
		       "  sudo haul flows top eth0 --count 1 --limit 5 | cat\n",
		.children = children,
	};
	struct request request = { .interval_ns = NS_PER_S, .sort = FLOWS_SORT_RATE };
	struct haul_err err = { 0 };

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	return run(&request, &err) < 0 ? cli_fail("flows top", &err) : CLI_OK;
}
