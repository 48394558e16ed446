#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/quantity.h"
#include "cli/sql.h"
#include "rpc/store_target.h"

enum { KEY_JSON = 256, KEY_CSV, KEY_BOX, KEY_CACHE, KEY_MEMORY, KEY_TOKEN, KEY_READ_ONLY };
enum { SCRIPTS_MAX = 64, SCRIPT_STEP = 64 << 10, READER_BYTES = 1 << 20 };

struct request {
	const char *store, *cache;
	struct store_target_options options;
	bool mode_given;
	enum sql_mode mode;
	const char *scripts[SCRIPTS_MAX];
	uint32_t script_count;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	switch (key) {
	case KEY_JSON:
	case KEY_CSV:
	case KEY_BOX:
		request->mode = key == KEY_JSON ? SQL_JSON : key == KEY_CSV ? SQL_CSV : SQL_BOX;
		request->mode_given = true;
		return 0;
	case KEY_CACHE:
		request->cache = arg;
		return 0;
	case KEY_MEMORY:
		if (quantity_size(arg, &request->options.memory) < 0)
			argp_error(state, "--memory '%s': wanted is %s", arg, QUANTITY_SIZE);
		return 0;
	case KEY_TOKEN:
		request->options.token_file = arg;
		return 0;
	case KEY_READ_ONLY:
		request->options.read_only = true;
		return 0;
	case 's':
		request->store = arg;
		return 0;
	case ARGP_KEY_ARG:
		if (request->script_count == SCRIPTS_MAX)
			argp_error(state, "more than %d statements: give them on standard input",
				   SCRIPTS_MAX);
		request->scripts[request->script_count++] = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option options[] = {
	{ "store", 's', "WHERE", 0,
	  "Folder of a store, or address of its server (unix:PATH, HOST:PORT); default: "
	  "$HAUL_STORE. Without one only the tables of the host have rows",
	  0 },
	{ "cache", KEY_CACHE, "FILE", 0, "Cache that cache_entries lists; nobody else has it open",
	  0 },
	{ "json", KEY_JSON, NULL, 0, "Rows as an array of objects", 1 },
	{ "csv", KEY_CSV, NULL, 0, "Rows as CSV (default when output is no terminal)", 1 },
	{ "box", KEY_BOX, NULL, 0, "Rows in a box (default on a terminal)", 1 },
	{ "memory", KEY_MEMORY, "SIZE", 0, "Memory of a store that is opened here", 2 },
	{ "token-file", KEY_TOKEN, "FILE", 0, "Token for a server that wants one", 2 },
	{ "read-only", KEY_READ_ONLY, NULL, 0, "Change nothing", 2 },
	{ 0 },
};

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "[SQL]...",
	.doc = "SQL over a graph store, over live connections, cache entries and batch "
	       "statistics.\n"
	       "Tables: nodes, edges, properties, embeddings, neighbours(id, direction, type), "
	       "near(vector, k, idx, metric, exact), path(a, b, direction, type, depth), "
	       "connections, cache_entries, batch_stats. INSERT, UPDATE and DELETE on nodes and "
	       "edges; a transaction is one atomic group. Without SQL: an interactive shell, or "
	       "statements from standard input.\v"
	       "Examples:\n"
	       "  haul sql --store /var/lib/haul/store 'SELECT kind, count(*) FROM nodes GROUP BY "
	       "kind'\n"
	       "  haul sql -s 127.0.0.1:7340 --json 'SELECT node FROM neighbours(42)'\n"
	       "  haul sql 'SELECT src, dst, tx_bytes FROM connections ORDER BY tx_bytes DESC "
	       "LIMIT "
	       "10'\n",
};

struct session {
	struct request request;
	struct store_target target;
	struct haul_stats_table *stats;
	bool open;
};

static int session_reader(void *arg, struct haul_reader **ret_reader)
{
	const struct session *session = arg;
	if (!session->open)
		return -ENOTCONN;
	return store_target_reader(&session->target, READER_BYTES, ret_reader);
}

static int session_commit(void *arg, const struct haul_changes *changes, int32_t *statuses)
{
	const struct session *session = arg;
	return session->open ? store_target_commit(&session->target, changes, statuses) : -ENOTCONN;
}

/* Of this process, then of the server. */
static int session_stats(void *arg, void (*visit)(const struct haul_stats *block, void *visit_arg),
			 void *visit_arg)
{
	const struct session *session = arg;
	struct haul_store_status status;
	(void)haul_stats_visit(session->stats, visit, visit_arg);
	if (session->target.client == NULL)
		return 0;
	return haul_client_status(session->target.client, &status, visit, visit_arg);
}

/* All of standard input. */
static int run_input(struct sql_run *run)
{
	size_t used = 0, room = 0;
	char *text = NULL;
	for (size_t got = 1; got > 0; used += got) {
		if (room - used < 2) {
			char *larger = realloc(text, room + SCRIPT_STEP);
			if (larger == NULL) {
				free(text);
				fprintf(stderr, "haul: sql: no memory\n");
				return CLI_FAILED;
			}
			text = larger;
			room += SCRIPT_STEP;
		}
		got = fread(text + used, 1, room - used - 1, stdin);
	}
	text[used] = '\0';
	int code = sql_run_script(run, text);
	free(text);
	return code;
}

static int run_request(struct session *session, struct sql_run *run)
{
	const struct request *request = &session->request;
	int code = CLI_OK;
	sql_run_catch(run);
	for (uint32_t i = 0; i < request->script_count && code == CLI_OK; i++)
		code = sql_run_script(run, request->scripts[i]);
	if (request->script_count > 0)
		return code;
	return isatty(STDIN_FILENO) ? sql_shell(run) : run_input(run);
}

static int session_run(struct session *session, struct haul_err *err)
{
	const struct request *request = &session->request;
	const struct sql_source source = {
		.reader = session_reader,
		.commit = request->options.read_only ? NULL : session_commit,
		.stats = session_stats,
		.arg = session,
		.cache = request->cache,
	};
	struct sql_run run = { .output.mode = request->mode };
	if (!request->mode_given)
		run.output.mode = isatty(STDOUT_FILENO) ? SQL_BOX : SQL_CSV;
	if (sqlite3_open(":memory:", &run.db) != SQLITE_OK)
		return haul_err_set(err, -ENOMEM, "sqlite: %s", sqlite3_errmsg(run.db));
	int code = sql_attach(run.db, &source, &run.connection, err);
	if (code == 0)
		code = run_request(session, &run);
	sqlite3_close(run.db);
	return code;
}

int cmd_sql(int argc, char **argv)
{
	struct session session = { .request.store = getenv("HAUL_STORE") };
	struct haul_err err = { 0 };
	argp_parse(&argp, argc, argv, 0, NULL, &session.request);
	int code = haul_stats_table_open(&session.stats);
	session.request.options.stats = session.stats;
	if (code == 0 && session.request.store != NULL) {
		code = store_target_open(&session.target, session.request.store,
					 &session.request.options, &err);
		session.open = code == 0;
	}
	if (code == 0)
		code = session_run(&session, &err);
	if (session.open)
		store_target_close(&session.target);
	haul_stats_table_close(session.stats);
	return code < 0 ? cli_fail("sql", &err) : code;
}
