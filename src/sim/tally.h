/* sim/tally.h — what a program says it sent, beside what the connection table of its node counted.
 *
 * Model      A pure function over a node's status document (node/connections.h) and a flow that is
 *            over: finds the flow's connection by its exact ends and compares all that the program
 *            says (measure.h) with what the kernel counted.
 * Ownership  the returned object is the caller's.
 * Threads    pure.
 * Errors     -ENOENT when the connection is not in the table, -ERANGE when a figure differs; text
 *            names the figure and both numbers. */
#pragma once

#include <jansson.h>

#include <haul/err.h>
#include "sim/flow.h"

/* *ret_tally: the connection as in the status document, and "agrees": bool, "said": {figure:
 * [least, most]}, figures by the same names ("payload_tx"); set also with -ERANGE. */
int tally_flow(const json_t *status, const struct flow *flow, json_t **ret_tally,
	       struct haul_err *err);
