#include "sim/tally.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"

enum { END_BYTES = 64 };

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

/* Both ends of a ping have its identifier for a port. */
static json_t *find(const json_t *status, const struct flow *flow, const char *from)
{
	const json_t *list = json_object_get(json_object_get(status, "flows"), "connections");
	uint16_t port = flow->spec->kind == SCENARIO_PING ? (uint16_t)flow_port(flow) : flow->port;
	char to[END_BYTES];
	json_t *connection;
	size_t i;

	(void)snprintf(to, sizeof to, "%s:%u", flow->to.address, port);
	json_array_foreach(list, i, connection)
	{
		if (is_text(connection, "proto", proto_of(flow)) &&
		    is_text(connection, "from", from) && is_text(connection, "to", to))
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

/* direction: 0 sent, 1 received. The first figure that differs gives the text. */
static void compare(struct comparison *comparison, const char *figure, int direction,
		    const struct measure_range *said)
{
	const json_t *pair = json_object_get(comparison->connection, figure);
	json_int_t counted = json_integer_value(json_array_get(pair, (size_t)direction));
	const char *word = direction == 0 ? "sent" : "received";
	char key[END_BYTES];

	if (said->max < 0)
		return;
	(void)snprintf(key, sizeof key, "%s_%s", figure, word);
	json_object_set_new(comparison->said, key,
			    json_pack("[I, I]", (json_int_t)said->min, (json_int_t)said->max));
	if (counted >= said->min && counted <= said->max)
		return;
	if (comparison->agrees)
		(void)haul_err_set(comparison->err, -ERANGE,
				   "its connection has %s %s %" JSON_INTEGER_FORMAT
				   ", the program says %" PRId64 " to %" PRId64,
				   figure, word, counted, said->min, said->max);
	comparison->agrees = false;
}

int tally_flow(const json_t *status, const struct flow *flow, json_t **ret_tally,
	       struct haul_err *err)
{
	const struct measure_said *said = &flow->measure.said;
	struct comparison comparison = { .agrees = true, .err = err };
	char from[END_BYTES];

	HAUL_ASSERT(flow_is_over(flow));
	(void)snprintf(from, sizeof from, "%s:%" PRId32, flow->from.address, flow_port(flow));
	comparison.connection = find(status, flow, from);
	if (comparison.connection == NULL)
		return haul_err_set(err, -ENOENT, "%s: no %s connection from %s to %s in its table",
				    flow->spec->from, proto_of(flow), from, flow->to.address);
	comparison.said = json_object();
	compare(&comparison, "packets", 0, &said->packets_sent);
	compare(&comparison, "packets", 1, &said->packets_received);
	compare(&comparison, "payload", 0, &said->payload_sent);
	compare(&comparison, "payload", 1, &said->payload_received);
	*ret_tally = json_copy(comparison.connection);
	json_object_set_new(*ret_tally, "said", comparison.said);
	json_object_set_new(*ret_tally, "agrees", json_boolean(comparison.agrees));
	return comparison.agrees ? 0 : -ERANGE;
}
