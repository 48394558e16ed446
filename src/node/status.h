/* node/status.h — a node's status socket: connect, read one JSON document, end of file.
 *
 * Model      The document is made when somebody connects and written as fast as they read. Served
 *            by the control thread between its other work: nothing here waits, and who does not
 *            read within STATUS_PATIENCE_NS is cut off.
 *            {"node", "role", "id", "uptime_ns", "tap_mtu", "upstream": {…} or null,
 *             "candidates": […], "routes": [{"node", "role", "hops", "rtt_ns", "port", "peer",
 *             "next": address of that peer or null}], "clients": n,
 *             "flows": of connections.h, or null,
 *             "stats": [{"name", "ops", "batches", "bytes", "syscalls", "closed": {reason: n},
 *                        "counters": {name: n}, "fill": {"mean", "p50", "p99"}, "wait_ns": {…},
 *                        "service_ns": {…}}]}
 * Units      as the names say; node ids and MACs are text.
 * Ownership  status_open makes the socket file, status_close removes it.
 * Memory     a document a client, while it reads.
 * Threads    one.
 * Errors     open: -errno with text. A client's failure ends that client only.
 * Limits     STATUS_CLIENTS at a time; others wait in the listen queue. */
#pragma once

#include <poll.h>
#include <stdint.h>

#include <haul/err.h>
#include <haul/link.h>
#include <haul/stats.h>
#include "node/connections.h"
#include "node/control.h"

enum { STATUS_CLIENTS = 8, STATUS_FDS = STATUS_CLIENTS + 1 };

#define STATUS_PATIENCE_NS INT64_C(2000000000)

struct status_source {
	const char *name;
	enum node_role role;
	uint64_t id;
	uint32_t tap_mtu;
	int64_t start_ns;
	const struct control *control;
	struct haul_stats_table *stats;
	struct haul_link *const *link;   /* NODE_PORTS of them, absent ones NULL */
	struct connections *connections; /* NULL = not counted */
};

struct status;

int status_open(const char *path, const struct status_source *source, struct status **ret_status,
		struct haul_err *err);
/* NULL is allowed. */
void status_close(struct status *status);

/* What to wait for; returns how many of fds are set. */
uint32_t status_poll(const struct status *status, struct pollfd fds[STATUS_FDS]);
/* When the first client's patience ends, INT64_MAX without any. */
int64_t status_deadline(const struct status *status);
/* Serve whoever is ready. clients: how many client MACs are known. */
void status_serve(struct status *status, uint32_t clients, int64_t now_ns);
