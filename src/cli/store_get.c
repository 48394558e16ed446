/* haul store get: nodes by id or key. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/store_show.h"

enum { KEY_KEY = 256, KEY_JSON, READER_BYTES = 8 << 20 };

struct request {
	struct store_cmd_where where;
	bool keys, json;
	/* while it runs */
	uint64_t shown, missing;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	(void)arg;
	switch (key) {
	case KEY_KEY:
		request->keys = true;
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
	if (node == NULL) {
		request->missing++;
		if (id != 0)
			fprintf(stderr, "haul: store: there is no node %" PRIu64 "\n", id);
		return;
	}
	store_show_next(request->shown, request->json);
	store_show_node(node, request->json);
	request->shown++;
}

static int get(struct request *request, struct store_cmd_view *view, uint64_t *ids)
{
	char **const words = request->where.words.word + 1;
	const uint32_t count = request->where.words.count - 1;
	uint32_t found = 0;
	int code = store_cmd_view_ids(view, words, count, request->keys, ids);
	for (uint32_t i = 0; i < count && code == CLI_OK; i++) {
		if (ids[i] != 0) {
			ids[found++] = ids[i];
			continue;
		}
		request->missing++;
		fprintf(stderr, "haul: store: no node has the key '%s'\n", words[i]);
	}
	if (code == CLI_OK)
		code = store_cmd_view_get(view, ids, found, show, request);
	if (code == CLI_OK)
		store_show_end(request->shown, request->json);
	return code == CLI_OK && request->missing > 0 ? CLI_FAILED : code;
}

int store_cmd_get(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "key", KEY_KEY, NULL, 0, "all are keys, also those that are numbers", 0 },
		{ "json", KEY_JSON, NULL, 0, "an array of objects, one a line", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "WHERE ID|KEY...",
		.doc = "Nodes with their properties, all looked up together. A number is an id, "
		       "anything else a key. The exit status is 1 if one is not there.\v"
		       "Examples:\n"
		       "  haul store get graph 42 alice\n"
		       "  haul store get 127.0.0.1:7340 --json 1 2 3\n",
		.children = store_cmd_where_child,
	};
	struct request request = { .where.words = {
					   .min = 2, .max = UINT32_MAX, STORE_CMD_WHERE } };
	struct store_cmd_view view;
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	uint64_t *ids = calloc(request.where.words.count, sizeof *ids);
	if (ids == NULL)
		return cli_fail_code("store", "get", -ENOMEM);
	int code = store_cmd_view_open(&view, &request.where, READER_BYTES);
	if (code == CLI_OK) {
		code = get(&request, &view, ids);
		store_cmd_view_close(&view);
	}
	free(ids);
	return code;
}
