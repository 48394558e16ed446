#include "cli/sim_table.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum {
	ROWS_MAX = 24, /* of nodes and links; of more, only the sums are shown */
	CELL_BYTES = 24,
	BLOCKS_MAX = 16,
	REASONS_MAX = 12
};

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text != NULL ? text : "-";
}

static double number_of(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

/* A figure in so many decimals, or "-" where none was measured. */
static const char *cell(const json_t *object, const char *key, int decimals, char text[CELL_BYTES])
{
	const json_t *value = json_object_get(object, key);

	if (json_is_number(value))
		(void)snprintf(text, CELL_BYTES, "%.*f", decimals, json_number_value(value));
	else
		(void)snprintf(text, CELL_BYTES, "-");
	return text;
}

static const char *loss_cell(const json_t *object, char text[CELL_BYTES])
{
	const json_t *value = json_object_get(object, "loss");

	if (json_is_number(value))
		(void)snprintf(text, CELL_BYTES, "%.2f %%", json_number_value(value) * 100);
	else
		(void)snprintf(text, CELL_BYTES, "-");
	return text;
}

/* ---- traffic ---- */

static void print_flow(const json_t *flow)
{
	char cells[6][CELL_BYTES];
	const char *route = text_of(flow, "route");
	const char *route_end = text_of(flow, "route_end");

	printf("%-11s %4s  %7s %7s  %7s  %7s  %6s  %-7s %s", text_of(flow, "kind"),
	       cell(flow, "hops", 0, cells[0]), cell(flow, "rtt_p50_ms", 2, cells[1]),
	       cell(flow, "rtt_p99_ms", 2, cells[2]), cell(flow, "mbit_per_s", 2, cells[3]),
	       loss_cell(flow, cells[4]), cell(flow, "gap_ms", 0, cells[5]), text_of(flow, "state"),
	       route);
	if (strcmp(route, route_end) != 0)
		printf(", then %s", route_end);
	printf("\n");
	if (json_is_true(json_object_get(flow, "sha256_matches")))
		printf("%12s%.1f MiB in %.1f s, SHA-256 of both copies is the same\n", "",
		       number_of(flow, "received") / (1024 * 1024), number_of(flow, "seconds"));
	if (json_is_string(json_object_get(flow, "why")))
		printf("%12s%s\n", "", text_of(flow, "why"));
}

static void print_flows(const json_t *report)
{
	const json_t *flows = json_object_get(report, "flows");
	const json_t *flow;
	size_t i;

	if (json_array_size(flows) == 0)
		return;
	printf("\n%-11s %4s  %7s %7s  %7s  %7s  %6s  %-7s %s\n", "TRAFFIC", "HOPS", "RTT p50",
	       "p99 ms", "Mbit/s", "LOSS", "GAP ms", "VERDICT", "ROUTE (> radio, = backhaul)");
	json_array_foreach(flows, i, flow) print_flow(flow);
}

/* ---- connections ---- */

/* What the program says, where it says it: "4096", or "4000-4096" for a range. */
static const char *said_cell(const json_t *range, char text[2 * CELL_BYTES])
{
	double least = json_number_value(json_array_get(range, 0));
	double most = json_number_value(json_array_get(range, 1));

	if (least < most)
		(void)snprintf(text, 2 * CELL_BYTES, "%.0f-%.0f", least, most);
	else
		(void)snprintf(text, 2 * CELL_BYTES, "%.0f", least);
	return text;
}

static void print_connection(const json_t *connection, const char *node)
{
	json_t *range, *said = json_object_get(connection, "said");
	const char *agrees =
		json_is_true(json_object_get(connection, "agrees")) ? "  agrees" : "  DIFFERS";
	char text[2 * CELL_BYTES];
	const char *figure;

	printf("%-7s %-5s %s:%.0f > %s:%.0f, %s", node, text_of(connection, "proto"),
	       text_of(connection, "initiator"), number_of(connection, "initiator_port"),
	       text_of(connection, "responder"), number_of(connection, "responder_port"),
	       text_of(connection, "state"));
	if (number_of(connection, "rtt_us") > 0)
		printf(", handshake %.1f ms", number_of(connection, "rtt_us") / 1000);
	printf("\n");
	json_object_foreach(said, figure, range)
	{
		printf("%13s %-16s %12.0f  program %23s%s\n", "", figure,
		       number_of(connection, figure), said_cell(range, text), agrees);
		agrees = "";
	}
}

/* As the kernel counted them on the TAP of the node they began at. */
static void print_connections(const json_t *report)
{
	const json_t *flow;
	bool first = true;
	size_t i;

	json_array_foreach(json_object_get(report, "flows"), i, flow)
	{
		const json_t *connection = json_object_get(flow, "connection");

		if (!json_is_object(connection))
			continue;
		if (first)
			printf("\nCONNECTIONS as counted on the node's TAP, and what the program "
			       "says\n");
		first = false;
		print_connection(connection, text_of(flow, "from"));
	}
}

/* ---- batches ---- */

static void print_closed(json_t *closed)
{
	double all = 0;
	const char *reason;
	json_t *count;

	json_object_foreach(closed, reason, count)
	{
		all += json_number_value(count);
	}
	json_object_foreach(closed, reason, count)
	{
		if (json_number_value(count) > 0)
			printf(" %s %.0f%%", reason, 100 * json_number_value(count) / all);
	}
	printf("\n");
}

static void print_block(const char *name, const json_t *block)
{
	const json_t *fill = json_object_get(block, "fill");
	double ops = number_of(block, "ops");

	if (ops == 0)
		return;
	printf("%-11s %-12s %9.0f %9.0f  %6.2f %5.0f  %8.3f ", name, text_of(block, "name"), ops,
	       number_of(block, "batches"), number_of(fill, "mean"), number_of(fill, "p99"),
	       number_of(block, "syscalls") / ops);
	print_closed(json_object_get(block, "closed"));
}

static void print_node(const json_t *node)
{
	const json_t *blocks = json_object_get(node, "stats");
	const json_t *block;
	size_t i;

	json_array_foreach(blocks, i, block)
		print_block(i == 0 ? text_of(node, "name") : "", block);
}

/* The blocks of one name, of all nodes, as if they were one. */
static void print_sum(const json_t *nodes, const char *name)
{
	double ops = 0;
	double batches = 0;
	double syscalls = 0;
	const json_t *node;
	size_t i;

	json_array_foreach(nodes, i, node)
	{
		const json_t *block;
		size_t k;

		json_array_foreach(json_object_get(node, "stats"), k, block)
		{
			if (strcmp(text_of(block, "name"), name) != 0)
				continue;
			ops += number_of(block, "ops");
			batches += number_of(block, "batches");
			syscalls += number_of(block, "syscalls");
		}
	}
	if (ops > 0)
		printf("%-11s %-12s %9.0f %9.0f  %6.2f %5s  %8.3f\n", "all", name, ops, batches,
		       batches > 0 ? ops / batches : 0, "-", syscalls / ops);
}

static void print_nodes(const json_t *report)
{
	const json_t *nodes = json_object_get(report, "nodes");
	const json_t *node;
	const json_t *block;
	size_t i;

	printf("\n%-11s %-12s %9s %9s  %6s %5s  %8s  %s\n", "NODE", "BATCHES OF", "PACKETS",
	       "BATCHES", "FILL", "p99", "SYSC/PKT", "CLOSED BY");
	if (json_array_size(nodes) <= ROWS_MAX)
		json_array_foreach(nodes, i, node) print_node(node);
	else
		json_array_foreach(json_object_get(json_array_get(nodes, 0), "stats"), i, block)
			print_sum(nodes, text_of(block, "name"));
}

/* ---- the air ---- */

static void print_links(const json_t *report)
{
	const json_t *links = json_object_get(report, "links");
	const json_t *hub = json_object_get(report, "hub");
	const json_t *link;
	char loss[CELL_BYTES];
	size_t i;

	if (json_array_size(links) <= 2 * ROWS_MAX) {
		printf("\n%-11s %-12s %9s %9s  %7s  %9s %9s\n", "LINK", "TO", "FRAMES", "LOST",
		       "LOSS", "DELAY p50", "p99 ms");
		json_array_foreach(links, i, link) printf(
			"%-11s %-12s %9.0f %9.0f  %7s  %9.2f %9.2f%s\n", text_of(link, "from"),
			text_of(link, "to"), number_of(link, "sent"), number_of(link, "lost"),
			loss_cell(link, loss), number_of(link, "delay_p50_ms"),
			number_of(link, "delay_p99_ms"),
			strcmp(text_of(link, "medium"), "backhaul") == 0 ? "  backhaul" : "");
	}
	printf("\n%zu links, as measured; the hub carried %.0f frames, late by p50 %.0f us, "
	       "p99 %.0f us\n",
	       json_array_size(links), number_of(hub, "frames"), number_of(hub, "late_p50_us"),
	       number_of(hub, "late_p99_us"));
}

static void print_dead(const json_t *report)
{
	const json_t *node;
	size_t i;

	json_array_foreach(json_object_get(report, "nodes"), i,
			   node) if (json_is_string(json_object_get(node, "died")))
		printf("node %s died: %s\n", text_of(node, "name"), text_of(node, "died"));
}

void sim_table_print(const json_t *report)
{
	bool passed = json_is_true(json_object_get(report, "passed"));

	printf("%s: %zu nodes, seed %.0f: up in %.2f s, routes after %.2f s (%.1f heartbeats)%s\n",
	       text_of(report, "scenario"), json_array_size(json_object_get(report, "nodes")),
	       number_of(report, "seed"), number_of(report, "start_s"),
	       number_of(report, "converged_s"), number_of(report, "converged_heartbeats"),
	       json_is_true(json_object_get(report, "all_routed")) ? "" : ", NOT ALL");
	print_flows(report);
	print_connections(report);
	print_nodes(report);
	print_links(report);
	print_dead(report);
	printf("%s after %.1f s\n", passed ? "passed" : "FAILED", number_of(report, "seconds"));
}
