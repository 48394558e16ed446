/* haul store stat: the state of a store at rest, or of one that is served, also from elsewhere. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/quantity.h"
#include "cli/stop.h"
#include "cli/store.h"
#include "cli/store_status.h"
#include "cli/watch.h"

enum { KEY_JSON = 256, KEY_WATCH };

struct request {
	struct store_cmd_where where;
	struct store_target target; /* its client, when WHERE is an address */
	struct watch watch;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	(void)arg;
	switch (key) {
	case KEY_JSON:
		request->watch.json = true;
		return 0;
	case KEY_WATCH:
		request->watch.again = true;
		return 0;
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &request->where;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* ---- where it comes from ---- */

static json_t *of_rest(const struct store_cmd_where *where, int *ret_code, struct haul_err *err)
{
	struct haul_stats_table *stats = NULL;
	struct haul_store *store = NULL;
	json_t *root = NULL;
	*ret_code = haul_stats_table_open(&stats);
	const struct haul_store_options options = { .memory = where->options.memory,
						    .read_only = true,
						    .stats = stats };
	if (*ret_code == 0)
		*ret_code = haul_store_open(&store, where->where, &options, err);
	if (*ret_code == 0) {
		const struct store_status_source source = { where->where, store, stats, false };
		root = store_status_json(&source);
		(void)haul_store_close(store);
	}
	haul_stats_table_close(stats);
	return root;
}

/* Of the server that has it, else of the store at rest. */
static json_t *of_folder(const struct request *request, struct haul_err *err)
{
	const char *where = request->where.where;
	struct haul_err none = { 0 };
	int code = 0;
	json_t *root = store_status_ask(where, &none);
	if (root == NULL && !request->watch.again)
		root = of_rest(&request->where, &code, err);
	else if (root == NULL)
		(void)haul_err_set(err, -ENOTCONN,
				   "--watch: nobody serves %s: what nobody writes does not change",
				   where);
	if (code == -EBUSY)
		(void)haul_err_set(err, code, "%s is open in another process, which is no server",
				   where);
	return root;
}

static json_t *document(const struct request *request, struct haul_err *err)
{
	struct haul_client *client = request->target.client;
	return client != NULL ? store_status_of_server(client, request->where.where, err)
			      : of_folder(request, err);
}

/* ---- shown ---- */

static double number(const json_t *from, const char *name)
{
	return json_number_value(json_object_get(from, name));
}

static const char *memory(const json_t *from, const char *name, char text[QUANTITY_TEXT])
{
	return quantity_memory_text((uint64_t)number(from, name), text);
}

static const char *duration(double ns, char text[QUANTITY_TEXT])
{
	return quantity_duration_text((int64_t)ns, text);
}

static void show_contents(const json_t *root)
{
	char a[QUANTITY_TEXT], b[QUANTITY_TEXT];
	printf("%-22s %s%s\n", "store", json_string_value(json_object_get(root, "where")),
	       json_is_true(json_object_get(root, "served")) ? ", served" : "");
	printf("%-22s %s\n", "uuid", json_string_value(json_object_get(root, "uuid")));
	printf("%-22s %.0f, %.0f of them in the checkpoint\n", "frames", number(root, "op_last"),
	       number(root, "op_checkpoint"));
	printf("%-22s %s since the checkpoint\n", "log", memory(root, "log_bytes", a));
	printf("%-22s %s, %s of it in the memory table\n", "memory",
	       memory(root, "memory_bytes", a), memory(root, "memtable_bytes", b));
}

static void show_levels(const json_t *root)
{
	const json_t *level = NULL;
	char bytes[QUANTITY_TEXT];
	size_t i;
	printf("\n%-6s %6s %8s %14s %12s\n", "LEVEL", "RUNS", "TABLES", "ROWS", "BYTES");
	json_array_foreach(json_object_get(root, "levels"), i, level) printf(
		"%-6zu %6.0f %8.0f %14.0f %12s\n", i, number(level, "runs"),
		number(level, "tables"), number(level, "rows"), memory(level, "bytes", bytes));
	printf("\n");
}

static void show_writes(const json_t *root)
{
	char a[QUANTITY_TEXT], b[QUANTITY_TEXT], c[QUANTITY_TEXT];
	printf("%-22s %s\n", "debt", memory(root, "debt_bytes", a));
	if (!json_is_true(json_object_get(root, "served")))
		return;
	printf("%-22s %s logged, %s flushed, %s merged\n", "written",
	       memory(root, "bytes_logged", a), memory(root, "bytes_flushed", b),
	       memory(root, "bytes_merged", c));
	if (json_is_number(json_object_get(root, "write_amplification")))
		printf("%-22s %.2f\n", "write amplification", number(root, "write_amplification"));
	printf("%-22s %.0f flushes, %.0f merges, %.0f checkpoints\n", "work",
	       number(root, "flushes"), number(root, "merges"), number(root, "checkpoints"));
	printf("%-22s %s\n", "a sync takes", duration(number(root, "sync_ns"), a));
	printf("%-22s %.0f changes a second\n", "arrivals", number(root, "arrivals_per_s"));
	printf("%-22s %s in all, %s at most\n", "held back",
	       duration(number(root, "throttle_ns"), a),
	       duration(number(root, "throttle_max_ns"), b));
}

static void show_closed(const json_t *block)
{
	const char *reason = NULL;
	const json_t *count = NULL;
	json_object_foreach(json_object_get(block, "closed"), reason, count)
	{
		if (json_integer_value(count) > 0)
			printf(" %s %" JSON_INTEGER_FORMAT, reason, json_integer_value(count));
	}
	printf("\n");
}

static void show_batches(const json_t *root)
{
	const json_t *block = NULL;
	size_t i;
	if (!json_is_true(json_object_get(root, "served")))
		return;
	printf("\n%-16s %12s %10s %8s %8s %8s  %s\n", "BATCHES OF", "OPS", "BATCHES", "FILL",
	       "WAIT", "SERVICE", "CLOSED BY");
	json_array_foreach(json_object_get(root, "stats"), i, block)
	{
		char wait[QUANTITY_TEXT], service[QUANTITY_TEXT];
		if (number(block, "batches") == 0)
			continue;
		printf("%-16s %12.0f %10.0f %8.1f %8s %8s ",
		       json_string_value(json_object_get(block, "name")), number(block, "ops"),
		       number(block, "batches"), number(json_object_get(block, "fill"), "mean"),
		       duration(number(json_object_get(block, "wait_ns"), "mean"), wait),
		       duration(number(json_object_get(block, "service_ns"), "mean"), service));
		show_closed(block);
	}
}

/* Counters of the blocks that the lines above do not have. */
static void show_counters(const json_t *root)
{
	const json_t *block = NULL, *count = NULL;
	const char *name = NULL;
	size_t i;
	json_array_foreach(json_object_get(root, "stats"), i, block)
	{
		const char *of = json_string_value(json_object_get(block, "name"));
		if (strcmp(of, "store.lsm") == 0 || strcmp(of, "store.log") == 0)
			continue;
		json_object_foreach(json_object_get(block, "counters"), name, count)
		{
			if (json_integer_value(count) > 0)
				printf("  %-16s %-24s %12" JSON_INTEGER_FORMAT "\n", of, name,
				       json_integer_value(count));
		}
	}
}

static int show(const void *arg)
{
	const struct request *request = arg;
	struct haul_err err = { 0 };
	json_t *root = document(request, &err);
	if (root == NULL)
		return cli_fail("store", &err);
	if (request->watch.json) {
		watch_put(&request->watch, root);
	} else {
		show_contents(root);
		show_levels(root);
		show_writes(root);
		show_batches(root);
		show_counters(root);
	}
	json_decref(root);
	return CLI_OK;
}

int store_cmd_stat(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", KEY_JSON, NULL, 0, "one object; with --watch one a line", 0 },
		{ "watch", KEY_WATCH, NULL, 0, "of a store that is served: again every second", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "WHERE",
		.doc = "What a store has on its levels and what is still to be merged; while a "
		       "server has it also how large its batches are, why they closed, how long a "
		       "sync takes, and write amplification, which is what is written for each "
		       "byte that is logged. A server is asked by its address, or on its own "
		       "machine by the folder, which needs no token.\v"
		       "Examples:\n"
		       "  haul store stat graph\n"
		       "  haul store stat 10.0.0.5:7340 --token-file token --watch\n",
		.children = store_cmd_where_child,
	};
	struct request request = { .where.words = { .min = 1, .max = 1 } };
	struct haul_err err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	stop_catch();
	const struct store_cmd_where *where = &request.where;
	int rc = 0;
	if (store_target_is_address(where->where))
		rc = store_target_open(&request.target, where->where, &where->options, &err);
	if (rc < 0)
		return cli_fail("store", &err);
	const int code = watch_show(&request.watch, show, &request);
	store_target_close(&request.target);
	return code;
}
