/* haul store path: the fewest edges from one node to another. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cli/option.h"
#include "cli/store_show.h"

enum {
	KEY_DIRECTION = 256,
	KEY_TYPE,
	KEY_DEPTH,
	KEY_JSON,
	DEPTH_MAX = 64,
	DEPTH_USUAL = 16,
	READER_BYTES = 64 << 20,
};

struct request {
	struct store_cmd_where where;
	struct haul_path path;
	bool json;
	uint64_t shown;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	switch (key) {
	case KEY_DIRECTION:
		request->path.direction = store_cmd_direction(arg, state);
		return 0;
	case KEY_TYPE:
		request->path.type = (uint32_t)option_number("type", arg, 1, UINT32_MAX, state);
		return 0;
	case KEY_DEPTH:
		request->path.depth_max =
			(uint32_t)option_number("depth", arg, 1, DEPTH_MAX, state);
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

static void show(uint64_t id, const struct haul_node *node, void *arg)
{
	struct request *request = arg;
	if (request->json) {
		printf("%s%" PRIu64, request->shown++ > 0 ? "," : "", id);
		return;
	}
	printf("%-3" PRIu64 " %" PRIu64 "  ", request->shown++, id);
	store_show_brief(node);
	putchar('\n');
}

static int find(struct request *request, struct store_cmd_view *view)
{
	uint64_t nodes[DEPTH_MAX + 1];
	int rc = haul_reader_path(view->reader, &request->path, nodes, DEPTH_MAX + 1);
	if (rc == HAUL_ELIMIT) {
		fprintf(stderr,
			"haul: store: path: more nodes than fit into memory are on the way: a "
			"smaller --depth, or one --type\n");
		return CLI_FAILED;
	}
	if (rc < 0)
		return cli_fail_code("store", "path", rc);
	if (request->json)
		printf("{\"found\":%s,\"edges\":%d,\"nodes\":[", rc > 0 ? "true" : "false",
		       rc > 0 ? rc - 1 : 0);
	int code = rc > 0 ? store_cmd_view_get(view, nodes, (uint32_t)rc, show, request) : CLI_OK;
	if (request->json)
		puts("]}");
	if (rc > 0)
		return code;
	fprintf(stderr,
		"haul: store: there is no path from %s to %s of at most %" PRIu32 " edges\n",
		request->where.words.word[1], request->where.words.word[2],
		request->path.depth_max);
	return CLI_FAILED;
}

int store_cmd_path(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "direction", KEY_DIRECTION, "HOW", 0, "follow edges out, in or both ways (out)",
		  0 },
		{ "type", KEY_TYPE, "N", 0, "edges of this type only", 0 },
		{ "depth", KEY_DEPTH, "N", 0, "at most N edges, up to 64 (16)", 0 },
		{ "json", KEY_JSON, NULL, 0, "one object", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "WHERE FROM TO",
		.doc = "A path of the fewest edges from one node to another; each is an id or a "
		       "key. The exit status is 1 if there is none.\v"
		       "Examples:\n"
		       "  haul store path graph alice bob --direction both\n"
		       "  haul store path 127.0.0.1:7340 1 42 --depth 4 --json\n",
		.children = store_cmd_where_child,
	};
	struct request request = { .where.words = { .min = 3, .max = 3, STORE_CMD_WHERE },
				   .path.depth_max = DEPTH_USUAL };
	struct store_cmd_view view;
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	if (store_cmd_view_open(&view, &request.where, READER_BYTES) != CLI_OK)
		return CLI_FAILED;
	int code = store_cmd_view_id(&view, request.where.words.word[1], false, &request.path.src);
	if (code == CLI_OK)
		code = store_cmd_view_id(&view, request.where.words.word[2], false,
					 &request.path.dst);
	if (code == CLI_OK)
		code = find(&request, &view);
	store_cmd_view_close(&view);
	return code;
}
