#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/option.h"
#include "os/unixsock.h"

enum { KEY_JSON = 256, KEY_WATCH, WATCH_MS = 1000, CONNECTIONS_MAX = 10 };

struct request {
	struct option_words words; /* SOCKET */
	bool json;
	bool watch;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	(void)arg;
	switch (key) {
	case KEY_JSON:
		request->json = true;
		return 0;
	case KEY_WATCH:
		request->watch = true;
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

/* The document that the daemon at path sends. */
static json_t *fetch(const char *path, struct haul_err *err)
{
	json_error_t where;
	int fd = unixsock_connect(path, err);
	if (fd < 0)
		return NULL;
	json_t *root = json_loadfd(fd, 0, &where);
	(void)close(fd);
	if (root == NULL)
		(void)haul_err_set(err, HAUL_ECORRUPT, "%s: no status came: %s", path, where.text);
	return root;
}

/* ---- as text ---- */

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text != NULL ? text : "-";
}

static double number_of(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static double per_op(const json_t *block)
{
	double ops = number_of(block, "ops");
	return ops > 0 ? number_of(block, "syscalls") / ops : 0;
}

static void print_closed(const json_t *block)
{
	const char *reason;
	json_t *count, *closed = json_object_get(block, "closed");
	json_object_foreach(closed, reason, count) if (json_integer_value(count) > 0)
		printf(" %s %" JSON_INTEGER_FORMAT, reason, json_integer_value(count));
	printf("\n");
}

static void print_block(const json_t *block)
{
	const json_t *fill = json_object_get(block, "fill");
	const char *name;
	json_t *count;
	printf("%-14s %12.0f %10.0f %14.0f %7.3f %6.1f %5.0f %5.0f  ", text_of(block, "name"),
	       number_of(block, "ops"), number_of(block, "batches"), number_of(block, "bytes"),
	       per_op(block), number_of(fill, "mean"), number_of(fill, "p50"),
	       number_of(fill, "p99"));
	print_closed(block);
	json_object_foreach(json_object_get(block, "counters"), name,
			    count) if (json_integer_value(count) > 0)
		printf("    %-24s %12" JSON_INTEGER_FORMAT "\n", name, json_integer_value(count));
}

static void print_routes(const json_t *root)
{
	json_t *route;
	size_t i;
	printf("\n%-20s %-5s %5s %10s  %s\n", "ROUTE TO", "ROLE", "HOPS", "RTT ms", "BY");
	json_array_foreach(json_object_get(root, "routes"), i, route) printf(
		"%-20s %-5s %5.0f %10.3f  %s peer %.0f\n", text_of(route, "node"),
		text_of(route, "role"), number_of(route, "hops"), number_of(route, "rtt_ns") / 1e6,
		text_of(route, "port"), number_of(route, "peer"));
}

static void print_candidates(const json_t *root)
{
	json_t *candidate;
	size_t i;
	if (json_array_size(json_object_get(root, "candidates")) == 0)
		return;
	printf("\n  %-20s %-20s %5s %10s\n", "RSU", "NEXT HOP", "HOPS", "RECEPTION");
	json_array_foreach(json_object_get(root, "candidates"), i, candidate)
		printf("%c %-20s %-20s %5.0f %9.0f%%\n",
		       json_is_true(json_object_get(candidate, "chosen")) ? '*' : ' ',
		       text_of(candidate, "rsu"), text_of(candidate, "next_node"),
		       number_of(candidate, "hops"), 100 * number_of(candidate, "reception"));
}

/* Those with the most bytes; all of them are in --json. */
static void print_connections(const json_t *flows)
{
	const json_t *list = json_object_get(flows, "connections");
	const json_t *totals = json_object_get(flows, "totals");
	if (!json_is_object(flows))
		return;
	printf("\n%s: %.0f connections, %.0f packets, %.0f of them without an entry (table full)\n",
	       text_of(flows, "interface"), number_of(flows, "count"), number_of(totals, "packets"),
	       number_of(totals, "overflow_packets"));
	printf("%-5s %-15s %5s %-15s %5s %-12s %12s %12s\n", "PROTO", "INITIATOR", "PORT",
	       "RESPONDER", "PORT", "STATE", "BYTE-TX", "BYTE-RX");
	for (size_t i = 0; i < json_array_size(list) && i < CONNECTIONS_MAX; i++) {
		const json_t *one = json_array_get(list, i);
		printf("%-5s %-15s %5.0f %-15s %5.0f %-12s %12.0f %12.0f\n", text_of(one, "proto"),
		       text_of(one, "initiator"), number_of(one, "initiator_port"),
		       text_of(one, "responder"), number_of(one, "responder_port"),
		       text_of(one, "state"), number_of(one, "bytes_tx"),
		       number_of(one, "bytes_rx"));
	}
}

static void print_text(const json_t *root)
{
	json_t *block;
	size_t i;
	printf("%s: %s %s, up %.0f s, TAP MTU %.0f, %.0f clients\n", text_of(root, "node"),
	       text_of(root, "role"), text_of(root, "id"), number_of(root, "uptime_ns") / 1e9,
	       number_of(root, "tap_mtu"), number_of(root, "clients"));
	print_candidates(root);
	print_routes(root);
	print_connections(json_object_get(root, "flows"));
	printf("\n%-14s %12s %10s %14s %7s %6s %5s %5s  %s\n", "BATCHES OF", "OPS", "BATCHES",
	       "BYTES", "SYS/OP", "FILL", "P50", "P99", "CLOSED BY");
	json_array_foreach(json_object_get(root, "stats"), i, block) print_block(block);
}

static int show(const struct request *request)
{
	struct haul_err err = { 0 };
	json_t *root = fetch(request->words.word[0], &err);
	if (root == NULL)
		return cli_fail("stats", &err);
	if (request->json) {
		(void)json_dumpf(root, stdout, JSON_INDENT(2));
		printf("\n");
	} else {
		print_text(root);
	}
	json_decref(root);
	return CLI_OK;
}

int cmd_stats(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", KEY_JSON, NULL, 0, "the document as it is", 0 },
		{ "watch", KEY_WATCH, NULL, 0, "again every second, until Ctrl-C", 0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "SOCKET",
		.doc = "Show the routes and the batch statistics of a running daemon.\v"
		       "Examples:\n"
		       "  haul stats /run/haul/car1.sock\n"
		       "  haul stats /run/haul/car1.sock --watch\n",
	};
	struct request request = {
		.words = { .min = 1, .max = 1, "what the configuration calls 'control'" }
	};
	bool terminal = isatty(STDOUT_FILENO);
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	do {
		if (request.watch && terminal && !request.json)
			printf("\033[H\033[J");
		rc = show(&request);
	} while (rc == CLI_OK && request.watch && cli_flush() == 0 && poll(NULL, 0, WATCH_MS) == 0);
	return cli_end_output("stats", rc);
}
