/* The table in figures: one walk, sums by protocol, state and service.
 *
 * Services are counted in a table of all ports of the three protocols that have ports (5 MB while
 * it lasts, no hashing, nothing left out); the largest are listed, the rest is one sum. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/flow_state.h"

enum { PORTS = 65536, PORT_PROTOS = 3 };

static const uint8_t port_protos[PORT_PROTOS] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };

struct ports {
	struct haul_flow_group group[PORT_PROTOS][PORTS];
	uint32_t order[PORT_PROTOS * PORTS];
};

struct work {
	struct haul_flows_summary *summary;
	struct ports *ports;
};

static void group_add(struct haul_flow_group *group, const struct haul_flow_value *value)
{
	group->connections++;
	group->packets += value->packets[0] + value->packets[1];
	group->bytes += value->bytes[0] + value->bytes[1];
}

static void group_sum(struct haul_flow_group *sum, const struct haul_flow_group *group)
{
	sum->connections += group->connections;
	sum->packets += group->packets;
	sum->bytes += group->bytes;
}

static void port_add(struct ports *ports, const struct haul_flow_key *key,
		     const struct haul_flow_value *value)
{
	uint16_t port = value->initiator == HAUL_FLOW_INITIATOR_LO ? key->port_hi : key->port_lo;

	for (int i = 0; i < PORT_PROTOS; i++)
		if (key->proto == port_protos[i])
			group_add(&ports->group[i][port], value);
}

static int summary_visit(const struct haul_map_batch *batch, void *arg)
{
	const struct work *work = arg;
	struct haul_flows_summary *summary = work->summary;

	for (uint32_t i = 0; i < batch->count; i++) {
		struct haul_flow_key key;
		struct haul_flow_value value;
		memcpy(&key, haul_map_key(batch, i), sizeof key);
		memcpy(&value, haul_map_value(batch, i), sizeof value);
		group_add(&summary->all, &value);
		group_add(&summary->by_proto[key.proto], &value);
		if (value.state < HAUL_FLOW_STATES)
			group_add(&summary->by_state[value.state], &value);
		port_add(work->ports, &key, &value);
	}
	return 0;
}

/* Most bytes first; then by protocol and port, so that the order is always the same. */
static int port_compare(const void *a, const void *b, void *arg)
{
	const struct ports *ports = arg;
	const struct haul_flow_group *groups = &ports->group[0][0];
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	if (groups[left].bytes != groups[right].bytes)
		return groups[left].bytes < groups[right].bytes ? 1 : -1;
	return left < right ? -1 : left > right;
}

static void ports_list(struct ports *ports, struct haul_flows_summary *summary)
{
	const struct haul_flow_group *groups = &ports->group[0][0];
	uint32_t count = 0;

	for (uint32_t i = 0; i < PORT_PROTOS * PORTS; i++)
		if (groups[i].connections > 0)
			ports->order[count++] = i;
	qsort_r(ports->order, count, sizeof ports->order[0], port_compare, ports);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = ports->order[i];
		if (i >= HAUL_FLOW_SUMMARY_PORTS) {
			group_sum(&summary->other_ports, &groups[at]);
			continue;
		}
		summary->by_port[i].port = (uint16_t)(at % PORTS);
		summary->by_port[i].proto = port_protos[at / PORTS];
		summary->by_port[i].group = groups[at];
		summary->port_count = i + 1;
	}
}

static struct ports *ports_new(void)
{
	return calloc(1, sizeof(struct ports));
}

int haul_flows_summary(struct haul_flows *flows, const struct haul_flow_query *query,
		       struct haul_flows_summary *ret_summary)
{
	struct work work = { .summary = ret_summary, .ports = ports_new() };
	int rc;

	if (!work.ports)
		return -ENOMEM;
	memset(ret_summary, 0, sizeof *ret_summary);
	rc = haul_flows_scan(flows, query, summary_visit, &work, &ret_summary->report);
	rc = rc ? rc : haul_flows_totals(flows, ret_summary->totals);
	if (rc == 0) {
		ports_list(work.ports, ret_summary);
		if (ret_summary->all.connections > 0) {
			double count = (double)ret_summary->all.connections;
			ret_summary->packets_mean = (double)ret_summary->all.packets / count;
			ret_summary->bytes_mean = (double)ret_summary->all.bytes / count;
		}
	}
	free(work.ports);
	return rc;
}
