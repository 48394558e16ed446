/* node/connections.h — the connections on a node's TAP, for its status document.
 *
 * Model      With `flows: true` a node counts every packet of its TAP in a connection table of its
 *            own (haul/flow.h), which vanishes with the process.
 * Ownership  connections_open makes table and work space, connections_close ends them.
 * Memory     CONNECTIONS_SHOWN entries beside the table.
 * Threads    the control thread.
 * Errors     open: as haul_flows_create, with text.
 * Blocking   connections_json reads the whole table: about a millisecond for some thousand entries.
 * Limits     the document has the CONNECTIONS_SHOWN connections with the most bytes. */
#pragma once

#include <jansson.h>

#include <haul/flow.h>

enum { CONNECTIONS_SHOWN = 256 };

struct connections;

/* In the calling thread's namespace. */
int connections_open(const char *ifname, struct connections **ret_connections,
		     struct haul_err *err);
/* NULL is allowed. */
void connections_close(struct connections *connections);
struct haul_stats *connections_stats(struct connections *connections);

/* {"interface", "hook", "count", "totals": {name: n}, "connections": [{"proto", "initiator",
 *  "initiator_port", "responder", "responder_port", "state", "packets_tx", "packets_rx",
 *  "bytes_tx", "bytes_rx", "payload_tx", "payload_rx", "first_ns", "last_ns", "rtt_us",
 *  "retransmits"}]}: the names of `haul flows list --json`. {"error": text} when the table cannot
 * be read. */
json_t *connections_json(struct connections *connections);
