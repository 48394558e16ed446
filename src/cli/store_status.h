/* cli/store_status.h — the state of a store as one JSON document, and the socket of a server that
 * gives it away.
 *
 * Model      {"where": a folder or an address, "uuid", "op_last", "op_checkpoint", "log_bytes",
 *            "memtable_bytes", "memory_bytes", "filter_bytes", "tables_unfiltered", "levels":
 *            [{"runs", "tables", "rows", "bytes"}], "debt_bytes", "bytes_logged",
 *            "bytes_flushed", "bytes_merged", "write_amplification" (or null), "flushes",
 *            "merges", "checkpoints", "sync_ns", "arrivals_per_s", "throttle_ns",
 *            "throttle_max_ns", "served", "stats": as in node/status.h}
 *            A server has a socket STORE_STATUS_SOCKET in its folder, for its user only: who
 *            connects is sent the document, then the end of the file.
 *            Over the wire a server sends the same figures (haul_client_status); the document
 *            is made of them where it is shown.
 * Units      as the names say.
 * Ownership  store and table are borrowed until store_status_close.
 * Memory     a document for each who asks, one at a time.
 * Threads    one of its own for the socket.
 * Errors     with text. Who does not read within two seconds is cut off. */
#pragma once

#include <haul/client.h>

#define STORE_STATUS_SOCKET "status.sock"

struct json_t;

struct store_status_source {
	const char *folder;
	struct haul_store *store;
	struct haul_stats_table *stats;
	bool served;
};
/* NULL: no memory. */
struct json_t *store_status_json(const struct store_status_source *source);
/* The same of the server of a client. NULL with text. */
struct json_t *store_status_of_server(struct haul_client *client, const char *address,
				      struct haul_err *err);

struct store_status; /* opaque */
int store_status_open(struct store_status **ret_status, const struct store_status_source *source,
		      struct haul_err *err);
/* NULL is allowed. */
void store_status_close(struct store_status *status);
/* The document of the server that has the folder open. NULL with text when none has. */
struct json_t *store_status_ask(const char *folder, struct haul_err *err);
