#include "node/connections.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct entry {
	uint64_t bytes; /* both ways: what the largest are chosen by */
	struct haul_flow_key key;
	struct haul_flow_value value;
};

struct connections {
	struct haul_flows *flows;
	uint32_t count;    /* of largest */
	uint32_t smallest; /* its index, once largest is full */
	uint64_t seen;
	struct entry largest[CONNECTIONS_SHOWN];
};

int connections_open(const char *ifname, struct connections **ret_connections, struct haul_err *err)
{
	struct haul_flows_options options = { .ifname = ifname };
	struct connections *connections = calloc(1, sizeof *connections);
	if (connections == NULL)
		return haul_err_set(err, -ENOMEM, "flows: no memory");
	int rc = haul_flows_create(&connections->flows, &options, err);
	if (rc < 0) {
		free(connections);
		return haul_err_wrap(err, rc, "flows");
	}
	*ret_connections = connections;
	return 0;
}

void connections_close(struct connections *connections)
{
	if (connections == NULL)
		return;
	haul_flows_close(connections->flows);
	free(connections);
}

struct haul_stats *connections_stats(struct connections *connections)
{
	return haul_flows_stats(connections->flows);
}

/* ---- the largest ---- */

static void find_smallest(struct connections *connections)
{
	connections->smallest = 0;
	for (uint32_t i = 1; i < connections->count; i++)
		if (connections->largest[i].bytes <
		    connections->largest[connections->smallest].bytes)
			connections->smallest = i;
}

static void keep(struct connections *connections, const struct entry *entry)
{
	if (connections->count < CONNECTIONS_SHOWN) {
		connections->largest[connections->count++] = *entry;
	} else if (entry->bytes > connections->largest[connections->smallest].bytes) {
		connections->largest[connections->smallest] = *entry;
	} else {
		return;
	}
	if (connections->count == CONNECTIONS_SHOWN)
		find_smallest(connections);
}

static int visit(const struct haul_map_batch *batch, void *arg)
{
	struct connections *connections = arg;
	for (uint32_t i = 0; i < batch->count; i++) {
		struct entry entry;
		memcpy(&entry.key, haul_map_key(batch, i), sizeof entry.key);
		memcpy(&entry.value, haul_map_value(batch, i), sizeof entry.value);
		entry.bytes = entry.value.bytes[0] + entry.value.bytes[1];
		keep(connections, &entry);
	}
	connections->seen += batch->count;
	return 0;
}

/* Most bytes first. */
static int compare_entries(const void *a, const void *b)
{
	uint64_t x = ((const struct entry *)a)->bytes;
	uint64_t y = ((const struct entry *)b)->bytes;
	return (x < y) - (x > y);
}

/* ---- the document ---- */

static json_t *entry_json(const struct entry *entry)
{
	const struct haul_flow_key *key = &entry->key;
	const struct haul_flow_value *value = &entry->value;
	char proto[8], initiator[HAUL_FLOW_TEXT], responder[HAUL_FLOW_TEXT];
	int tx = value->initiator == HAUL_FLOW_INITIATOR_HI, rx = !tx;
	const uint16_t port[2] = { key->port_lo, key->port_hi };
	haul_flow_end_text(key, tx, false, initiator);
	haul_flow_end_text(key, rx, false, responder);
	return json_pack("{s:s, s:s, s:i, s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
			 "s:I, s:I}",
			 "proto", haul_flow_proto_name((uint8_t)key->proto, proto), "initiator",
			 initiator, "initiator_port", port[tx], "responder", responder,
			 "responder_port", port[rx], "state", haul_flow_state_name(value->state),
			 "packets_tx", (json_int_t)value->packets[tx], "packets_rx",
			 (json_int_t)value->packets[rx], "bytes_tx", (json_int_t)value->bytes[tx],
			 "bytes_rx", (json_int_t)value->bytes[rx], "payload_tx",
			 (json_int_t)value->payload[tx], "payload_rx",
			 (json_int_t)value->payload[rx], "first_ns", (json_int_t)value->first_ns,
			 "last_ns", (json_int_t)value->last_ns, "rtt_us", (json_int_t)value->rtt_us,
			 "retransmits", (json_int_t)value->retransmits);
}

static json_t *totals_json(struct haul_flows *flows)
{
	static const char *const names[] = {
#define X(id, name, help) name,
		HAUL_FLOW_TOTAL_LIST(X)
#undef X
	};
	uint64_t totals[HAUL_FLOW_TOTALS];
	if (haul_flows_totals(flows, totals) < 0)
		return json_null();
	json_t *object = json_object();
	for (uint32_t i = 0; i < HAUL_FLOW_TOTALS; i++)
		json_object_set_new(object, names[i], json_integer((json_int_t)totals[i]));
	return object;
}

json_t *connections_json(struct connections *connections)
{
	const struct haul_flows_info *info = haul_flows_info(connections->flows);
	struct haul_map_report report;
	connections->count = 0;
	connections->seen = 0;
	int rc = haul_flows_scan(connections->flows, NULL, visit, connections, &report);
	if (rc < 0)
		return json_pack("{s:s}", "error", haul_strerror(rc));
	HAUL_ASSERT(connections->count <= CONNECTIONS_SHOWN);
	qsort(connections->largest, connections->count, sizeof connections->largest[0],
	      compare_entries);
	json_t *list = json_array();
	for (uint32_t i = 0; i < connections->count; i++)
		json_array_append_new(list, entry_json(&connections->largest[i]));
	return json_pack("{s:s, s:s, s:I, s:o, s:o}", "interface", info->ifname, "hook", info->hook,
			 "count", (json_int_t)connections->seen, "totals",
			 totals_json(connections->flows), "connections", list);
}
