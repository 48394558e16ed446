/* cli/map.h — what the subcommands of `haul map` share.
 *
 * To add a subcommand: one line below, `int map_<name>(struct map_request *request)`, and what it
 * takes in map_usage.c.
 *
 * Model      argv is parsed and checked into a map_request before anything is opened; map_begin
 *            then opens the map, its types and the filter, map_end closes them.
 * Errors     enum cli_exit, with a line on stderr.
 * Threads    main thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/map.h>
#include <haul/map_file.h>
#include "bpf/typed.h"
#include "cli/cli.h"
#include "cli/progress.h"

/* X(name, one line of help), in the order `haul map --help` shows them. */
#define MAP_COMMAND_LIST(X)                                                                        \
	X(list, "all maps of this kernel")                                                         \
	X(dump, "the entries of a map")                                                            \
	X(get, "the values of some keys, in one call")                                             \
	X(count, "how many entries, or how many match")                                            \
	X(stat, "sum, smallest, largest, histogram and top of a field")                            \
	X(set, "put one entry")                                                                    \
	X(upsert, "put entries, and tell new ones from updated ones")                              \
	X(load, "put the entries that a dump wrote")                                               \
	X(del, "delete some keys, in one call")                                                    \
	X(clean, "delete what matches a condition")                                                \
	X(export, "write a map to a file, block by block")                                         \
	X(import, "read such a file back")                                                         \
	X(tune, "which batch size is best for a map")

enum map_format { MAP_TEXT, MAP_JSON, MAP_NDJSON, MAP_CSV };

struct map_request {
	const char *name; /* of the subcommand, for messages */
	char **args;      /* MAP and what follows it */
	uint32_t arg_count;
	struct haul_map_options open;
	enum map_format format;
	bool plain; /* --hex: as if there were no BTF */
	bool all;   /* clean: without --where; list: count, too */
	bool explain, check, quiet, keep_going, resume, overwrite, dry_run;
	const char *where[HAUL_MAP_CONDITIONS];
	uint32_t where_count;
	const char *field;
	uint64_t limit; /* 0 = none */
	uint32_t threads, top, runs, block;
	enum haul_map_mode mode;
	enum haul_map_import_mode import_mode;
	/* from map_begin to map_end */
	struct haul_map *map;
	const struct haul_map_info *info;
	struct typed typed;
	uint32_t type; /* of the map; holds after map_end, too */
	bool frozen;
	struct haul_map_filter filter;
	struct progress progress;
};

#define X(name, help) int map_##name(struct map_request *request);
MAP_COMMAND_LIST(X)
#undef X

/* Options and arguments of one subcommand; ends the program on bad ones, as argp does. */
void map_usage(struct map_request *request, const char *name, int argc, char **argv);

/* Open what args[0] names, its types, and --where. CLI_OK, or CLI_FAILED after saying why. */
int map_begin(struct map_request *request);
void map_end(struct map_request *request);
/* Print the choice of engine when --explain was asked for. */
void map_explain(struct map_request *request, enum haul_map_op op, uint64_t rows);
/* What was asked for on the map failed: says why, also after map_end. Returns CLI_FAILED. */
int map_op_fail(const struct map_request *request, int code);
/* The entries of the map, if that is known without a walk; else 0. */
uint64_t map_expected(struct map_request *request);
