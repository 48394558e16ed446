/* cli/flows_query.h — which connections: the options that filter.
 *
 * Model      flows_query_argp is a child of a subcommand's parser, with its struct flows_query as
 *            input; it checks every value. Times are asked relative to now and become absolute
 *            before each scan.
 * Units      _ns nanoseconds.
 * Threads    main thread only. */
#pragma once

#include <argp.h>
#include <stdbool.h>

#include <haul/flow.h>

struct flows_query {
	struct haul_flow_query fixed; /* without the times */
	int64_t idle_ns;              /* silent for at least so long; 0 = any */
	int64_t since_ns;             /* seen within the last so many; 0 = any */
};

extern const struct argp flows_query_argp;
/* Without the times, which make no sense for events. */
extern const struct argp flows_query_argp_events;

bool flows_query_empty(const struct flows_query *query);
struct haul_flow_query flows_query_at(const struct flows_query *query, int64_t now_ns);
/* Only what never changes: protocol, ports, addresses. */
bool flows_query_match_ends(const struct flows_query *query, const struct haul_flow_key *key);
/* But for the times. */
bool flows_query_match(const struct flows_query *query, const struct haul_flow_key *key,
		       const struct haul_flow_value *value);

/* argp_error "--option 'arg': wanted is …" on a bad value. */
int64_t flows_query_duration(const char *option, const char *arg, struct argp_state *state);
