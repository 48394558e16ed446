/* rpc/store_server.h — a store, served to many clients.
 *
 * Model      Frames of changes (store/frame.h) and of queries (store_wire.h) arrive on stream
 *            sockets. Frames of many clients are put into the store one behind the other and share
 *            its syncs; each is answered when it is durable. Frames of one connection are executed
 *            in order; a query sees what was answered on its connection before. A retry of a
 *            session is applied once. What a client may have under way is bounded by credits, told
 *            in every answer; a client that does not read its answers is not read from.
 * Ownership  the store is borrowed and outlives the server.
 * Memory     at open: frames of FRAME_BYTES_MAX for what is in flight; 16 KiB a connection.
 * Threads    store_server_run in one; store_server_stop from any, and from signal handlers.
 * Errors     open: -EADDRINUSE, -EACCES, -EINVAL (an address that is not the loopback's, and no
 *            token file) with text. Of a client: an error frame, then its connection is closed.
 * Limits     connections_max.
 * Source     docs/design/0018. */
#pragma once

#include <haul/stats.h>
#include <haul/store.h>

enum { STORE_SERVER_PORT = 7340, STORE_SERVER_ADDRESSES = 8 };

struct store_server_options {
	struct haul_store *store;
	/* "unix:PATH", "HOST:PORT", "HOST"; port 0 = any that is free. */
	const char *addresses[STORE_SERVER_ADDRESSES];
	uint32_t address_count;         /* 0 = 127.0.0.1:7340 */
	const char *token_file;         /* NULL = none */
	uint32_t connections_max;       /* 0 = 1000 */
	struct haul_stats_table *stats; /* entered under "store.server" */
};

struct store_server;
int store_server_open(struct store_server **ret_server, const struct store_server_options *options,
		      struct haul_err *err);
/* Port of the first TCP address. */
uint16_t store_server_port(const struct store_server *server);
/* Until it is stopped: answers what is in flight, closes all connections. 0 or negative. */
int store_server_run(struct store_server *server);
void store_server_stop(struct store_server *server);
void store_server_close(struct store_server *server);
