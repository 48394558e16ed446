/* haul store near: the nodes whose embeddings are most like a vector, or that of a node. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/option.h"
#include "cli/store_show.h"
#include "sql/json.h"

enum {
	KEY_VECTOR = 256,
	KEY_NODE,
	KEY_INDEX,
	KEY_METRIC,
	KEY_EXACT,
	KEY_JSON,
	K_MAX = 1023, /* and the node itself */
	K_USUAL = 10,
	READER_BYTES = 32 << 20,
};

struct request {
	struct store_cmd_where where;
	char *node;
	float *vector; /* owned */
	struct haul_near near;
	bool json;
	/* while it runs */
	struct haul_near_hit hits[K_MAX + 1];
	uint64_t ids[K_MAX + 1];
	uint64_t shown;
};

static void take_vector(struct request *request, const char *arg, struct argp_state *state)
{
	struct haul_err err = { 0 };
	free(request->vector);
	request->vector = NULL;
	if (json_to_vector(arg, &request->vector, &request->near.dimensions, &err) < 0)
		argp_error(state, "--vector '%.40s': %s", arg, err.text);
}

static enum haul_metric metric_of(const char *arg, struct argp_state *state)
{
	static const char *const names[] = {
		[HAUL_EUCLIDEAN] = "euclidean", [HAUL_COSINE] = "cosine", NULL
	};
	return (enum haul_metric)option_name("metric", arg, names, state);
}

/* What only all of them together can tell. */
static void check(const struct request *request, struct argp_state *state)
{
	if ((request->vector == NULL) == (request->node == NULL))
		argp_error(state, "wanted is one of --vector '[0.1, 0.2]' and --node ID");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	switch (key) {
	case KEY_VECTOR:
		take_vector(request, arg, state);
		return 0;
	case KEY_NODE:
		request->node = arg;
		return 0;
	case 'k':
		request->near.k = (uint32_t)option_number("k", arg, 1, K_MAX, state);
		return 0;
	case KEY_INDEX:
		request->near.index =
			(uint32_t)option_number("index", arg, 0, HAUL_EMBEDDING_INDEXES - 1, state);
		return 0;
	case KEY_METRIC:
		request->near.metric = metric_of(arg, state);
		return 0;
	case KEY_EXACT:
		request->near.exact = true;
		return 0;
	case KEY_JSON:
		request->json = true;
		return 0;
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &request->where;
		return 0;
	case ARGP_KEY_END: /* behind that of WHERE */
		check(request, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* The vector of a node becomes the one that is asked for. */
static int vector_of_node(struct request *request, struct store_cmd_view *view, uint64_t node)
{
	struct haul_embedding embedding;
	int32_t status = 0;
	const struct haul_embedding_names names = { &node, 1, request->near.index };
	int rc = haul_reader_get_embeddings(view->reader, &names, &embedding, &status);
	if (rc >= 0 && status == -ENOENT) {
		fprintf(stderr,
			"haul: store: node %" PRIu64 " has no embedding of index %" PRIu32 "\n",
			node, request->near.index);
		return CLI_FAILED;
	}
	if (rc < 0 || status < 0)
		return cli_fail_code("store", "near", rc < 0 ? rc : status);
	request->vector = calloc(embedding.dimensions, sizeof *request->vector);
	if (request->vector == NULL)
		return cli_fail_code("store", "near", -ENOMEM);
	memcpy(request->vector, embedding.vector, embedding.dimensions * sizeof(float));
	request->near.dimensions = embedding.dimensions;
	return CLI_OK;
}

static void show(uint64_t id, const struct haul_node *node, void *arg)
{
	struct request *request = arg;
	const double distance = (double)request->hits[request->shown].distance;
	store_show_next(request->shown++, request->json);
	if (!request->json) {
		printf("%-12.6g %" PRIu64 "  ", distance, id);
		store_show_brief(node);
		putchar('\n');
		return;
	}
	printf("{\"node\":%" PRIu64 ",\"distance\":%.9g,\"key\":", id, distance);
	if (node != NULL && node->key_bytes > 0)
		store_show_text(node->key, node->key_bytes, true);
	else
		fputs("null", stdout);
	putchar('}');
}

static int fail_near(const struct request *request, int rc)
{
	if (rc != -EINVAL)
		return cli_fail_code("store", "near", rc);
	fprintf(stderr,
		"haul: store: the vector has %" PRIu32 " dimensions, and those of index %" PRIu32
		" have others\n",
		request->near.dimensions, request->near.index);
	return CLI_FAILED;
}

static int near(struct request *request, struct store_cmd_view *view, uint64_t self)
{
	struct haul_near_hit *hits = request->hits;
	struct haul_near query = request->near;
	uint32_t found = 0;
	query.count = 1;
	query.vectors = request->vector;
	query.k += self != 0;
	int rc = haul_reader_near(view->reader, &query, hits);
	if (rc < 0)
		return fail_near(request, rc);
	for (uint32_t i = 0; i < query.k && hits[i].node != 0 && found < request->near.k; i++) {
		if (hits[i].node == self)
			continue;
		request->ids[found] = hits[i].node;
		hits[found++] = hits[i];
	}
	int code = store_cmd_view_get(view, request->ids, found, show, request);
	if (code == CLI_OK)
		store_show_end(request->shown, request->json);
	return code;
}

int store_cmd_near(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "vector", KEY_VECTOR, "JSON", 0, "near this array of numbers", 0 },
		{ "node", KEY_NODE, "ID|KEY", 0, "near the embedding of a node, itself left out",
		  0 },
		{ NULL, 'k', "N", 0, "how many (10)", 0 },
		{ "index", KEY_INDEX, "N", 0, "number of the embeddings (0)", 0 },
		{ "metric", KEY_METRIC, "NAME", 0, "euclidean (squared) or cosine (euclidean)", 0 },
		{ "exact", KEY_EXACT, NULL, 0, "compare with all, without an approximate index",
		  0 },
		{ "json", KEY_JSON, NULL, 0, "an array of objects, one a line", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "WHERE",
		.doc = "The nodes whose embeddings are nearest to a vector, nearest first, with "
		       "distances.\v"
		       "Examples:\n"
		       "  haul store near graph --vector '[0.1, 0.7, 0.2]' -k 5\n"
		       "  haul store near 127.0.0.1:7340 --node alice --metric cosine --json\n",
		.children = store_cmd_where_child,
	};
	static struct request request = { .where.words = { .min = 1, .max = 1, STORE_CMD_WHERE },
					  .near.k = K_USUAL };
	struct store_cmd_view view;
	uint64_t node = 0;
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	int code = store_cmd_view_open(&view, &request.where, READER_BYTES);
	if (code == CLI_OK) {
		if (request.node != NULL)
			code = store_cmd_view_id(&view, request.node, false, &node);
		if (code == CLI_OK && request.node != NULL)
			code = vector_of_node(&request, &view, node);
		if (code == CLI_OK)
			code = near(&request, &view, node);
		store_cmd_view_close(&view);
	}
	free(request.vector);
	return code;
}
