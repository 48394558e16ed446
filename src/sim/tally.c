#include "sim/tally.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/assert.h"

static const char *proto_of(const struct flow *flow)
{
	switch (flow->spec->kind) {
	case SCENARIO_PING:
		return "icmp";
	case SCENARIO_IPERF3_UDP:
		return "udp";
	case SCENARIO_IPERF3_TCP:
	case SCENARIO_HTTP:
		break;
	}
	return "tcp";
}

static bool is_text(const json_t *object, const char *key, const char *text)
{
	const char *value = json_string_value(json_object_get(object, key));

	return value != NULL && strcmp(value, text) == 0;
}

static bool is_number(const json_t *object, const char *key, int64_t number)
{
	return json_integer_value(json_object_get(object, key)) == number;
}

/* Both ends of a ping have its identifier for a port. */
static json_t *find(const json_t *status, const struct flow *flow)
{
	const json_t *list = json_object_get(json_object_get(status, "flows"), "connections");
	int64_t to_port = flow->spec->kind == SCENARIO_PING ? flow_port(flow) : flow->port;
	json_t *connection;
	size_t i;

	json_array_foreach(list, i, connection)
	{
		if (is_text(connection, "proto", proto_of(flow)) &&
		    is_text(connection, "initiator", flow->from.address) &&
		    is_number(connection, "initiator_port", flow_port(flow)) &&
		    is_text(connection, "responder", flow->to.address) &&
		    is_number(connection, "responder_port", to_port))
			return connection;
	}
	return NULL;
}

struct comparison {
	json_t *connection;
	json_t *said;
	bool agrees;
	struct haul_err *err;
};

/* The first figure that differs gives the text. */
static void compare(struct comparison *comparison, const char *figure,
		    const struct measure_range *said)
{
	json_int_t counted = json_integer_value(json_object_get(comparison->connection, figure));

	if (said->max < 0)
		return;
	json_object_set_new(comparison->said, figure,
			    json_pack("[I, I]", (json_int_t)said->min, (json_int_t)said->max));
	if (counted >= said->min && counted <= said->max)
		return;
	if (comparison->agrees)
		(void)haul_err_set(comparison->err, -ERANGE,
				   "its connection has %s %" JSON_INTEGER_FORMAT
				   ", the program says %" PRId64 " to %" PRId64,
				   figure, counted, said->min, said->max);
	comparison->agrees = false;
}

int tally_flow(const json_t *status, const struct flow *flow, json_t **ret_tally,
	       struct haul_err *err)
{
	const struct measure_said *said = &flow->measure.said;
	struct comparison comparison = { .agrees = true, .err = err };

	HAUL_ASSERT(flow_is_over(flow));
	comparison.connection = find(status, flow);
	if (comparison.connection == NULL)
		return haul_err_set(err, -ENOENT,
				    "%s: no %s connection from %s:%" PRId32 " to %s in its table",
				    flow->spec->from, proto_of(flow), flow->from.address,
				    flow_port(flow), flow->to.address);
	comparison.said = json_object();
	compare(&comparison, "packets_tx", &said->packets_sent);
	compare(&comparison, "packets_rx", &said->packets_received);
	compare(&comparison, "payload_tx", &said->payload_sent);
	compare(&comparison, "payload_rx", &said->payload_received);
	*ret_tally = json_copy(comparison.connection);
	json_object_set_new(*ret_tally, "said", comparison.said);
	json_object_set_new(*ret_tally, "agrees", json_boolean(comparison.agrees));
	return comparison.agrees ? 0 : -ERANGE;
}
