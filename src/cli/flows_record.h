/* cli/flows_record.h — one connection in figures: JSON fields, or a line of CSV.
 *
 * Model      The same fields in the same order in both, seen from the end that began the
 *            connection: tx is what it sent. docs/man/haul-flows.1 lists them.
 * Units      bytes, packets, nanoseconds; no rounding.
 * Threads    main thread only. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include <haul/flow.h>

struct flows_record {
	const char *table;
	const struct haul_flow_key *key;
	const struct haul_flow_value *value;
	int64_t now_ns; /* ages count from here */
};

/* "table":"eth0","proto":"tcp",… without the braces around. */
void flows_record_json(FILE *out, const struct flows_record *record);
void flows_record_csv_names(FILE *out);
void flows_record_csv(FILE *out, const struct flows_record *record);

/* text as a JSON string, with its quotes. */
void flows_record_string(FILE *out, const char *text);
/* now - then, not below 0: the kernel stamps on while we read. */
int64_t flows_record_since(int64_t now_ns, uint64_t then_ns);
