/* haul store neighbours: the edges of a node, or what is reached over several. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/option.h"
#include "cli/store_show.h"

enum {
	KEY_DIRECTION = 256,
	KEY_TYPE,
	KEY_LIMIT,
	KEY_DEPTH,
	KEY_KEY,
	KEY_JSON,
	PAGE = 1024,
	READER_BYTES = 16 << 20,
	VISITS_USUAL = 100000,
	VISITS_MAX = 100000000,
	DEPTH_MAX = 64,
};

struct request {
	struct store_cmd_where where;
	enum haul_direction direction;
	uint32_t type, depth;
	uint64_t limit; /* 0 = none */
	bool key, json;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	switch (key) {
	case KEY_DIRECTION:
		request->direction = store_cmd_direction(arg, state);
		return 0;
	case KEY_TYPE:
		request->type = (uint32_t)option_number("type", arg, 1, UINT32_MAX, state);
		return 0;
	case KEY_LIMIT:
		request->limit = option_number("limit", arg, 1, VISITS_MAX, state);
		return 0;
	case KEY_DEPTH:
		request->depth = (uint32_t)option_number("depth", arg, 1, DEPTH_MAX, state);
		return 0;
	case KEY_KEY:
		request->key = true;
		return 0;
	case KEY_JSON:
		request->json = true;
		return 0;
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &request->where;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- the edges of one node ---- */

static void show_edge(const struct request *request, uint64_t node, const struct haul_edge *edge)
{
	const struct haul_edge_id *id = &edge->id;
	const bool out = id->src == node;
	if (request->json) {
		printf("{\"node\":%" PRIu64 ",\"direction\":\"%s\",\"src\":%" PRIu64
		       ",\"dst\":%" PRIu64 ",\"type\":%" PRIu32 ",\"disc\":%" PRIu32
		       ",\"version\":%" PRIu64 ",\"properties\":",
		       out ? id->dst : id->src, out ? "out" : "in", id->src, id->dst, id->type,
		       id->disc, edge->version);
		store_show_properties(&edge->properties);
		putchar('}');
		return;
	}
	printf("%-3s %" PRIu64 "  type %" PRIu32, out ? "->" : "<-", out ? id->dst : id->src,
	       id->type);
	if (id->disc != 0)
		printf(", disc %" PRIu32, id->disc);
	if (edge->properties.count > 0) {
		fputs("  ", stdout);
		store_show_properties(&edge->properties);
	}
	putchar('\n');
}

static int show_edges(const struct request *request, struct store_cmd_view *view, uint64_t node)
{
	struct haul_neighbours query = { .node = node,
					 .direction = request->direction,
					 .type = request->type };
	const uint64_t limit = request->limit > 0 ? request->limit : UINT64_MAX;
	struct haul_edge *edges = calloc(PAGE, sizeof *edges);
	uint64_t shown = 0;
	int rc = edges != NULL ? 1 : -ENOMEM;
	while (rc > 0 && shown < limit) {
		const uint64_t left = limit - shown;
		rc = haul_reader_neighbours(view->reader, &query, edges,
					    left < PAGE ? (uint32_t)left : PAGE);
		for (int i = 0; i < rc; i++) {
			store_show_next(shown++, request->json);
			show_edge(request, node, &edges[i]);
		}
	}
	free(edges);
	if (rc < 0)
		return cli_fail_code("store", "neighbours", rc);
	store_show_end(shown, request->json);
	return CLI_OK;
}

/* ---- several edges deep ---- */

static void show_visit(const struct request *request, const struct haul_visit *visit)
{
	if (request->json)
		printf("{\"node\":%" PRIu64 ",\"depth\":%" PRIu32 ",\"from\":%" PRIu64
		       ",\"type\":%" PRIu32 "}",
		       visit->node, visit->depth, visit->from, visit->type);
	else
		printf("%" PRIu32 "  %" PRIu64 "  from %" PRIu64 " by type %" PRIu32 "\n",
		       visit->depth, visit->node, visit->from, visit->type);
}

static int fail_traverse(const struct request *request, int rc)
{
	if (rc != HAUL_ELIMIT)
		return cli_fail_code("store", "neighbours", rc);
	fprintf(stderr,
		"haul: store: more nodes than fit into memory are within %" PRIu32
		" edges: a smaller --depth, or one --type\n",
		request->depth);
	return CLI_FAILED;
}

/* The start is not among them. */
static int show_visits(const struct request *request, struct store_cmd_view *view, uint64_t node)
{
	const struct haul_traverse query = { .start = node,
					     .direction = request->direction,
					     .type = request->type,
					     .depth_max = request->depth };
	const uint32_t max = request->limit > 0 ? (uint32_t)request->limit + 1 : VISITS_USUAL + 1;
	struct haul_visit *visits = calloc(max, sizeof *visits);
	bool complete = false;
	uint64_t shown = 0;
	int rc = visits != NULL ? haul_reader_traverse(view->reader, &query, visits, max, &complete)
				: -ENOMEM;
	for (int i = 0; i < rc; i++) {
		if (visits[i].depth == 0)
			continue;
		store_show_next(shown++, request->json);
		show_visit(request, &visits[i]);
	}
	free(visits);
	if (rc < 0)
		return fail_traverse(request, rc);
	store_show_end(shown, request->json);
	if (!complete)
		fprintf(stderr,
			"haul: store: these are the first %" PRIu64 ": there are more (--limit)\n",
			shown);
	return CLI_OK;
}

int store_cmd_neighbours(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "direction", KEY_DIRECTION, "HOW", 0, "edges out, in or both (out)", 0 },
		{ "type", KEY_TYPE, "N", 0, "edges of this type only", 0 },
		{ "limit", KEY_LIMIT, "N", 0, "the first N (all; with --depth 100000)", 0 },
		{ "depth", KEY_DEPTH, "N", 0,
		  "what is reached over up to N edges, each node once, nearest first", 0 },
		{ "key", KEY_KEY, NULL, 0, "the node is named by its key, also a number", 0 },
		{ "json", KEY_JSON, NULL, 0, "an array of objects, one a line", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "WHERE ID|KEY",
		.doc = "The edges of a node and what is at their other ends; with --depth also "
		       "what is joined to those.\v"
		       "Examples:\n"
		       "  haul store neighbours graph alice --direction both\n"
		       "  haul store neighbours 127.0.0.1:7340 42 --type 2 --depth 3 --json\n",
		.children = store_cmd_where_child,
	};
	struct request request = { .where.words = { .min = 2, .max = 2, STORE_CMD_WHERE },
				   .direction = HAUL_OUT };
	struct store_cmd_view view;
	uint64_t node = 0;
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	if (store_cmd_view_open(&view, &request.where, READER_BYTES) != CLI_OK)
		return CLI_FAILED;
	int code = store_cmd_view_id(&view, request.where.words.word[1], request.key, &node);
	if (code == CLI_OK)
		code = request.depth > 0 ? show_visits(&request, &view, node)
					 : show_edges(&request, &view, node);
	store_cmd_view_close(&view);
	return code;
}
