#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "cli/cli.h"
#include "cli/flows.h"
#include "cli/flows_interval.h"
#include "cli/flows_query.h"
#include "cli/flows_record.h"
#include "cli/flows_tables.h"
#include "cli/option.h"
#include "cli/quantity.h"
#include "os/os.h"

enum { KEY_JSON = 256, KEY_TOP, KEY_INTERVAL, KEY_COUNT };

enum { TOP_DEFAULT = 10, COUNT_MAX = 1000000000 };

struct request {
	struct flows_names names;
	struct flows_query query;
	bool json;
	uint32_t top; /* ports shown */
	int64_t interval_ns;
	uint64_t count; /* intervals; 0 = any number */
};

/* packets = entries + overflow + late + removed, and the same of bytes. */
struct check {
	uint64_t passed;
	uint64_t entries;
	uint64_t overflow, late, removed;
	int64_t differs;
	bool moved; /* traffic went on while it was read, and explains the difference */
};

struct view {
	const struct haul_flows_info *info;
	bool filtered; /* then the sums are of a part, and nothing can be checked */
	int64_t now_ns;
	uint64_t before[HAUL_FLOW_TOTALS];
	struct check packets, bytes;
	struct haul_flows_summary summary;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &request->query;
		return 0;
	case KEY_JSON:
		request->json = true;
		return 0;
	case KEY_TOP:
		request->top =
			(uint32_t)option_number("top", arg, 1, HAUL_FLOW_SUMMARY_PORTS, state);
		return 0;
	case KEY_INTERVAL:
		request->interval_ns = flows_query_duration("interval", arg, state);
		return 0;
	case KEY_COUNT:
		request->count = option_number("count", arg, 1, COUNT_MAX, state);
		return 0;
	case ARGP_KEY_END:
		if (request->count > 0 && request->interval_ns == 0)
			argp_error(state, "--count needs --interval");
		if (request->interval_ns > 0 &&
		    (request->names.count > 1 || !flows_query_empty(&request->query)))
			argp_error(state, "--interval takes one NAME and no filter");
		return 0;
	default:
		return flows_names_parse(key, arg, &request->names, state);
	}
}

/* ---- figures ---- */

/* before and after: totals read before and after the entries. What passed between the two readings
 * may or may not be in the entries; beyond that they must agree. */
static struct check check_of(uint64_t entries, const uint64_t *before, const uint64_t *after,
			     const enum haul_flow_total index[4])
{
	struct check check = {
		.passed = after[index[0]],
		.entries = entries,
		.overflow = after[index[1]],
		.late = after[index[2]],
		.removed = after[index[3]],
	};
	uint64_t beside_before = before[index[1]] + before[index[2]] + before[index[3]];
	uint64_t beside = check.overflow + check.late + check.removed;

	check.differs = (int64_t)(check.passed - entries - beside);
	check.moved = check.differs != 0 && entries + beside >= before[index[0]] &&
		      entries + beside_before <= check.passed;
	return check;
}

static int view_read(struct view *view, struct haul_flows *flows, const struct request *request)
{
	static const enum haul_flow_total packets[] = { HAUL_FLOW_T_PACKETS, HAUL_FLOW_T_OVERFLOW,
							HAUL_FLOW_T_LATE, HAUL_FLOW_T_REMOVED };
	static const enum haul_flow_total bytes[] = { HAUL_FLOW_T_BYTES, HAUL_FLOW_T_OVERFLOW_BYTES,
						      HAUL_FLOW_T_LATE_BYTES,
						      HAUL_FLOW_T_REMOVED_BYTES };
	uint64_t after[HAUL_FLOW_TOTALS];
	struct haul_flow_query query;
	int rc;

	view->info = haul_flows_info(flows);
	view->filtered = !flows_query_empty(&request->query);
	view->now_ns = os_linux()->now_ns(os_linux());
	query = flows_query_at(&request->query, view->now_ns);
	rc = haul_flows_totals(flows, view->before);
	if (rc == 0)
		rc = haul_flows_summary(flows, &query, &view->summary);
	if (rc == 0)
		rc = haul_flows_totals(flows, after);
	if (rc != 0)
		return rc;
	view->packets = check_of(view->summary.all.packets, view->before, after, packets);
	view->bytes = check_of(view->summary.all.bytes, view->before, after, bytes);
	return 0;
}

static const char *verdict(const struct check *check)
{
	if (check->differs == 0)
		return "holds";
	return check->moved ? "holds but for what passed while it was read" : "BROKEN";
}

/* ---- text ---- */

static void print_group(const char *name, const struct haul_flow_group *group)
{
	if (group->connections > 0)
		printf("  %-16s %12" PRIu64 " %14" PRIu64 " %18" PRIu64 "\n", name,
		       group->connections, group->packets, group->bytes);
}

static void print_head(const char *what)
{
	printf("\n  %-16s %12s %14s %18s\n", what, "CONNECTIONS", "PACKETS", "BYTES");
}

static void print_groups(const struct view *view, uint32_t top)
{
	const struct haul_flows_summary *summary = &view->summary;
	struct haul_flow_group others = summary->other_ports;
	char name[QUANTITY_TEXT], proto[8];

	print_head("PROTOCOL");
	for (unsigned i = 0; i < 256; i++)
		print_group(haul_flow_proto_name((uint8_t)i, proto), &summary->by_proto[i]);
	print_head("STATE");
	for (unsigned i = 0; i < HAUL_FLOW_STATES; i++)
		print_group(haul_flow_state_name((uint8_t)i), &summary->by_state[i]);
	print_head("PORT");
	for (uint32_t i = 0; i < summary->port_count; i++) {
		const struct haul_flow_group *group = &summary->by_port[i].group;

		if (i >= top) {
			others.connections += group->connections;
			others.packets += group->packets;
			others.bytes += group->bytes;
			continue;
		}
		(void)snprintf(name, sizeof name, "%s/%u",
			       haul_flow_proto_name(summary->by_port[i].proto, proto),
			       summary->by_port[i].port);
		print_group(name, group);
	}
	print_group("others", &others);
}

static void print_check(const char *what, const struct check *check)
{
	printf("  %-7s %" PRIu64 " = %" PRIu64 " in the table + %" PRIu64 " overflow + %" PRIu64
	       " late + %" PRIu64 " removed: %s",
	       what, check->passed, check->entries, check->overflow, check->late, check->removed,
	       verdict(check));
	if (check->differs != 0)
		printf(" (%" PRId64 ")", check->differs);
	printf("\n");
}

static void print_totals(const struct view *view)
{
	printf("\n  TOTAL\n");
#define X(id, name, help)                                                                          \
	printf("  %-18s %18" PRIu64 "  %s\n", name, view->summary.totals[id], help);
	HAUL_FLOW_TOTAL_LIST(X)
#undef X
	if (view->filtered)
		return;
	printf("\n  EVERY PACKET IS SOMEWHERE\n");
	print_check("packets", &view->packets);
	print_check("bytes", &view->bytes);
}

static void print_text(const struct view *view, uint32_t top)
{
	const struct haul_flows_info *info = view->info;
	const struct haul_flows_summary *summary = &view->summary;
	char age[QUANTITY_TEXT], memory[QUANTITY_TEXT], size[QUANTITY_TEXT];
	int64_t age_ns = flows_record_since(view->now_ns, (uint64_t)info->attached_ns);

	printf("%s: on %s by %s for %s: room for %" PRIu32 " connections (%.1f %% used) in %" PRIu32
	       " shards, %s\n\n",
	       info->name, info->ifname, info->hook, quantity_duration_text(age_ns, age),
	       info->entries_max,
	       info->entries_max > 0 ? 100.0 * (double)summary->all.connections / info->entries_max
				     : 0.0,
	       info->shards, quantity_memory_text(info->memory_bytes, memory));
	printf("  connections %18" PRIu64 "%s\n", summary->all.connections,
	       view->filtered ? "  (those asked for)" : "");
	printf("  packets     %18" PRIu64 "  %.1f a connection\n", summary->all.packets,
	       summary->packets_mean);
	printf("  bytes       %18" PRIu64 "  %s a connection\n", summary->all.bytes,
	       quantity_size_text(summary->bytes_mean, size));
	print_groups(view, top);
	print_totals(view);
}

/* ---- JSON ---- */

static json_t *json_group(const struct haul_flow_group *group)
{
	return json_pack("{s:I,s:I,s:I}", "connections", (json_int_t)group->connections, "packets",
			 (json_int_t)group->packets, "bytes", (json_int_t)group->bytes);
}

static json_t *json_ports(const struct haul_flows_summary *summary, uint32_t top)
{
	json_t *ports = json_array();
	char proto[8];

	for (uint32_t i = 0; i < summary->port_count && i < top; i++) {
		json_t *port = json_group(&summary->by_port[i].group);

		(void)json_object_set_new(
			port, "proto",
			json_string(haul_flow_proto_name(summary->by_port[i].proto, proto)));
		(void)json_object_set_new(port, "port", json_integer(summary->by_port[i].port));
		(void)json_array_append_new(ports, port);
	}
	return ports;
}

static json_t *json_check(const struct check *check)
{
	return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:b}", "passed", (json_int_t)check->passed,
			 "entries", (json_int_t)check->entries, "overflow",
			 (json_int_t)check->overflow, "late", (json_int_t)check->late, "removed",
			 (json_int_t)check->removed, "differs", (json_int_t)check->differs, "holds",
			 check->differs == 0 || check->moved);
}

static json_t *json_info(const struct view *view)
{
	const struct haul_flows_info *info = view->info;
	json_t *timeouts = json_object();

	for (unsigned i = 0; i < HAUL_FLOW_STATES; i++)
		(void)json_object_set_new(timeouts, haul_flow_state_name((uint8_t)i),
					  json_integer(info->timeout_s[i]));
	return json_pack("{s:s,s:s,s:i,s:s,s:I,s:I,s:I,s:I,s:I,s:o}", "table", info->name, "ifname",
			 info->ifname, "ifindex", (int)info->ifindex, "hook", info->hook,
			 "entries_max", (json_int_t)info->entries_max, "shards",
			 (json_int_t)info->shards, "sweep_ms", (json_int_t)info->sweep_ms,
			 "memory_bytes", (json_int_t)info->memory_bytes, "attached_ns",
			 (json_int_t)info->attached_ns, "timeout_s", timeouts);
}

static json_t *json_view(const struct view *view, uint32_t top)
{
	const struct haul_flows_summary *summary = &view->summary;
	json_t *root = json_info(view);
	json_t *protos = json_object(), *states = json_object(), *totals = json_object();
	char proto[8];

	(void)json_object_set_new(root, "all", json_group(&summary->all));
	(void)json_object_set_new(root, "packets_mean", json_real(summary->packets_mean));
	(void)json_object_set_new(root, "bytes_mean", json_real(summary->bytes_mean));
	for (unsigned i = 0; i < 256; i++)
		if (summary->by_proto[i].connections > 0)
			(void)json_object_set_new(protos, haul_flow_proto_name((uint8_t)i, proto),
						  json_group(&summary->by_proto[i]));
	for (unsigned i = 0; i < HAUL_FLOW_STATES; i++)
		if (summary->by_state[i].connections > 0)
			(void)json_object_set_new(states, haul_flow_state_name((uint8_t)i),
						  json_group(&summary->by_state[i]));
#define X(id, name, help)                                                                          \
	(void)json_object_set_new(totals, name, json_integer((json_int_t)summary->totals[id]));
	HAUL_FLOW_TOTAL_LIST(X)
#undef X
	(void)json_object_set_new(root, "by_proto", protos);
	(void)json_object_set_new(root, "by_state", states);
	(void)json_object_set_new(root, "by_port", json_ports(summary, top));
	(void)json_object_set_new(root, "totals", totals);
	if (!view->filtered)
		(void)json_object_set_new(root, "invariant",
					  json_pack("{s:o,s:o}", "packets",
						    json_check(&view->packets), "bytes",
						    json_check(&view->bytes)));
	return root;
}

/* ---- the subcommand ---- */

static int show(const struct request *request, struct flows_tables *tables, struct haul_err *err)
{
	struct view *view = calloc(1, sizeof *view);
	json_t *list = json_array();
	int rc = view == NULL ? -ENOMEM : 0;

	for (uint32_t i = 0; i < tables->count && rc == 0; i++) {
		rc = view_read(view, tables->flows[i], request);
		if (rc < 0)
			break;
		if (request->json) {
			(void)json_array_append_new(list, json_view(view, request->top));
		} else {
			printf("%s", i > 0 ? "\n" : "");
			print_text(view, request->top);
		}
		flows_tables_warn(tables->flows[i], view->summary.totals);
	}
	if (rc == 0 && request->json) {
		(void)json_dumpf(list, stdout, JSON_INDENT(2));
		printf("\n");
	}
	if (rc < 0)
		(void)haul_err_set(err, rc, "reading the table: %s", haul_strerror(rc));
	if (fflush(stdout) != 0 && rc == 0)
		rc = haul_err_set(err, -EIO, "standard output cannot be written");
	json_decref(list);
	free(view);
	return rc;
}

static int run(const struct request *request, struct haul_err *err)
{
	struct flows_tables tables = { 0 };
	struct haul_flows *flows;
	int rc;

	if (request->interval_ns > 0) {
		rc = flows_tables_open_one(
			&flows, request->names.count > 0 ? request->names.name[0] : NULL, err);
		if (rc < 0)
			return rc;
		rc = flows_interval_run(flows, request->interval_ns, request->count, request->json,
					err);
		haul_flows_close(flows);
		return rc;
	}
	rc = flows_tables_open(&tables, &request->names, err);
	if (rc < 0)
		return rc;
	rc = show(request, &tables, err);
	flows_tables_close(&tables);
	return rc;
}

static const struct argp_option options[] = {
	{ "json", KEY_JSON, NULL, 0, "an array, one object a table; intervals: one a line", 0 },
	{ "top", KEY_TOP, "N", 0, "show the N ports with most bytes (10)", 0 },
	{ "interval", KEY_INTERVAL, "TIME", 0, "what passed in each TIME, exactly; see below", 0 },
	{ "count", KEY_COUNT, "N", 0, "end after N intervals", 0 },
	{ 0 }
};

int flows_stats(int argc, char **argv)
{
	static const struct argp_child children[] = { { &flows_query_argp, 0, NULL, 0 }, { 0 } };
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[NAME...]",
		.doc = "Sums and averages of a table, or of all: by protocol, by state, by port of "
		       "the end that answered; how full it is, and whether every packet is "
		       "accounted for.\v"
		       "With --interval the table is taken at the end of each interval and "
		       "replaced by an empty one: the lines add up exactly, nothing is lost or "
		       "counted twice. The first line has what was there before. Other readers "
		       "then see every connection begin anew with each interval.\n\n"
		       "Examples:\n"
		       "  sudo haul flows stats eth0\n"
		       "  sudo haul flows stats eth0 --proto tcp --port 443 --json\n"
		       "  sudo haul flows stats eth0 --interval 5s --count 12\n",
		.children = children,
	};
	struct request request = { .top = TOP_DEFAULT };
	struct haul_err err = { 0 };

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	return run(&request, &err) < 0 ? cli_fail("flows stats", &err) : CLI_OK;
}
