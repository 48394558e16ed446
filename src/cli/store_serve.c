/* haul store serve. */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/option.h"
#include "cli/stop.h"
#include "cli/store.h"
#include "cli/store_status.h"
#include "rpc/store_server.h"

enum { KEY_CONNECTIONS = 256, CONNECTIONS_MAX = 100000 };

struct request {
	struct store_cmd_where where; /* WHERE is a folder */
	struct store_server_options server;
};

static void stop(void *server)
{
	store_server_stop(server);
}

static void add_address(struct store_server_options *server, const char *arg,
			struct argp_state *state)
{
	if (server->address_count == STORE_SERVER_ADDRESSES)
		argp_error(state, "at most %d times --listen", STORE_SERVER_ADDRESSES);
	server->addresses[server->address_count++] = arg;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	switch (key) {
	case 'l':
		add_address(&request->server, arg, state);
		return 0;
	case 'c':
		request->server.connections_max =
			(uint32_t)option_number("connections", arg, 1, CONNECTIONS_MAX, state);
		return 0;
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &request->where;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* With the port that was found where it was left open; of the first TCP address only, which is
 * what the server tells. */
static void say_addresses(const struct request *request, const struct store_server *server)
{
	const uint16_t port = store_server_port(server);
	bool first = true;
	if (request->server.address_count == 0)
		printf("haul: store: %s on 127.0.0.1:%u\n", request->where.where, port);
	for (uint32_t i = 0; i < request->server.address_count; i++) {
		const char *address = request->server.addresses[i];
		const char *colon = strrchr(address, ':');
		const bool tcp = strncmp(address, "unix:", 5) != 0;
		if (tcp && first && colon != NULL && strcmp(colon, ":0") == 0)
			printf("haul: store: %s on %.*s:%u\n", request->where.where,
			       (int)(colon - address), address, port);
		else
			printf("haul: store: %s on %s\n", request->where.where, address);
		first = first && !tcp;
	}
	(void)fflush(stdout);
}

/* Until a signal comes. SIGINT and SIGTERM are blocked before, so that none is missed. */
static int serve(const struct request *request, const sigset_t *signals, struct haul_err *err)
{
	struct store_server *server = NULL;
	int rc = store_server_open(&server, &request->server, err);
	if (rc < 0)
		return rc;
	stop_also(stop, server);
	stop_catch();
	say_addresses(request, server);
	(void)pthread_sigmask(SIG_UNBLOCK, signals, NULL);
	rc = store_server_run(server);
	stop_also(NULL, NULL);
	store_server_close(server);
	return rc < 0 ? haul_err_set(err, rc, "%s: %s", request->where.where, haul_strerror(rc))
		      : 0;
}

static int serve_store(struct request *request, struct haul_stats_table *stats,
		       struct haul_err *err)
{
	const struct haul_store_options options = { .memory = request->where.options.memory,
						    .stats = stats };
	struct haul_err socket_err = { 0 };
	struct store_status *status = NULL;
	struct haul_store *store = NULL;
	sigset_t signals;
	stop_block(&signals);
	int rc = haul_store_open(&store, request->where.where, &options, err);
	if (rc < 0)
		return rc;
	request->server.store = store;
	request->server.stats = stats;
	request->server.token_file = request->where.options.token_file;
	const struct store_status_source source = { request->where.where, store, stats, true };
	if (store_status_open(&status, &source, &socket_err) < 0)
		fprintf(stderr, "haul: store: 'haul store stat' will not work: %s\n",
			socket_err.text);
	rc = serve(request, &signals, err);
	store_status_close(status);
	const int closed = haul_store_close(store);
	if (rc == 0 && closed < 0)
		rc = haul_err_set(err, closed, "%s: %s", request->where.where,
				  haul_strerror(closed));
	return rc;
}

int store_cmd_serve(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "listen", 'l', "ADDRESS", 0,
		  "HOST:PORT or unix:PATH; may be given several times (127.0.0.1:7340; port 0: "
		  "any, "
		  "and told)",
		  0 },
		{ "connections", 'c', "N", 0, "at a time (1000)", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FOLDER",
		.doc = "Let many programs read and write a store. Their changes share writes and "
		       "syncs; each is answered when it is durable. Other machines are let in with "
		       "a token only: --token-file names a file whose first line clients have to "
		       "know.\v"
		       "SIGINT or SIGTERM: answers what is under way, makes a checkpoint, and "
		       "ends.\n\n"
		       "Examples:\n"
		       "  haul store serve graph\n"
		       "  haul store serve graph --listen unix:/run/graph.sock --listen "
		       "0.0.0.0:7340 "
		       "--token-file token\n",
		.children = store_cmd_where_child,
	};
	struct request request = { .where.words = { .min = 1, .max = 1 } };
	struct haul_stats_table *stats = NULL;
	struct haul_err err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	int rc = haul_stats_table_open(&stats);
	if (rc < 0)
		return cli_fail_code("store", "serve", rc);
	rc = serve_store(&request, stats, &err);
	haul_stats_table_close(stats);
	return rc < 0 ? cli_fail("store", &err) : CLI_OK;
}
