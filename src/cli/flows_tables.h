/* cli/flows_tables.h — the tables a subcommand works on: those named, or all that are attached.
 *
 * Model      Names as typed are collected by the parser, checked and opened together.
 * Ownership  names are argv's; the tables are open until flows_tables_close.
 * Threads    main thread only.
 * Errors     with a text that lists what is attached. */
#pragma once

#include <argp.h>
#include <stdint.h>

#include <haul/flow.h>

enum { FLOWS_TABLES_MAX = 64 };

struct flows_names {
	uint32_t count;
	char *name[FLOWS_TABLES_MAX];
};

struct flows_tables {
	uint32_t count;
	struct haul_flows *flows[FLOWS_TABLES_MAX];
};

/* For the default of a parser: takes each name; an error of usage beyond FLOWS_TABLES_MAX. */
error_t flows_names_parse(int key, char *arg, struct flows_names *names, struct argp_state *state);
/* All that are attached; flows_names_free ends it. */
int flows_names_load(struct flows_names *names, struct haul_err *err);
void flows_names_free(struct flows_names *names);

/* Those named; no names: all, and at least one. */
int flows_tables_open(struct flows_tables *tables, const struct flows_names *names,
		      struct haul_err *err);
/* The one named; NULL: the only one attached. */
int flows_tables_open_one(struct haul_flows **ret_flows, const char *name, struct haul_err *err);
void flows_tables_close(struct flows_tables *tables);

/* The error of an operation on a table that is not there, completed by what is. */
int flows_tables_missing(const char *name, struct haul_err *err);
/* Say on stderr what has not been counted, and how to have it counted. */
void flows_tables_warn(const struct haul_flows *flows, const uint64_t totals[HAUL_FLOW_TOTALS]);
