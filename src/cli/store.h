/* cli/store.h — the subcommands of `haul store`, and what they share.
 *
 * To add a subcommand: one line below, and `int store_cmd_<name>(int argc, char **argv)` in
 * src/cli/store_<name>.c, as cli/cli.h says of commands.
 *
 * Model      WHERE is a folder (opened here) or the address of a server (unix:PATH, HOST:PORT), as
 *            rpc/store_target.h tells them apart. A node is named by its id, or by its key where
 *            that is no number.
 * Ownership  a view owns what it opened.
 * Errors     enum cli_exit, with a line on stderr.
 * Threads    main thread only. */
#pragma once

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"
#include "cli/option.h"
#include "rpc/store_target.h"

/* X(name, one line of help), in the order `haul store --help` shows them. */
#define STORE_COMMAND_LIST(X)                                                                      \
	X(init, "make an empty store in a folder")                                                 \
	X(serve, "let many programs read and write it")                                            \
	X(load, "nodes and edges of CSV and NDJSON files")                                         \
	X(get, "nodes by id or key")                                                               \
	X(neighbours, "what is joined to a node, also over several edges")                         \
	X(near, "the nodes whose embeddings are most alike")                                       \
	X(path, "the fewest edges from one node to another")                                       \
	X(stat, "levels, debt, write amplification, sync time, why batches closed")                \
	X(check, "verify every block, the log, and both ways of every edge")                       \
	X(repair, "what it takes to open a damaged store, and what that would lose")               \
	X(compact, "merge everything and reclaim space")                                           \
	X(backup, "copy it into a new folder")                                                     \
	X(restore, "verify a backup and make a store of it")

#define X(name, help) int store_cmd_##name(int argc, char **argv);
STORE_COMMAND_LIST(X)
#undef X

/* ---- options ---- */

/* Digits only, 1 … UINT64_MAX - 1. */
bool store_cmd_is_id(const char *text, uint64_t *ret_id);
/* out, in, both. */
enum haul_direction store_cmd_direction(const char *arg, struct argp_state *state);

/* WHERE, how it is opened and the words behind it: a child of the argp of each with --token-file
 * and --memory, whose input is this. */
struct store_cmd_where {
	const char *where;
	struct option_words words; /* WHERE is the first */
	struct store_target_options options;
};
extern const struct argp_child store_cmd_where_child[];
#define STORE_CMD_WHERE "a folder, unix:PATH or HOST:PORT"

/* ---- a store that is read ---- */

struct store_cmd_view {
	struct store_target target;
	struct haul_reader *reader;
};
/* Read only; result_bytes as haul_store_reader's. A signal ends a call that is under way. Returns
 * CLI_OK, or CLI_FAILED after saying why. */
int store_cmd_view_open(struct store_cmd_view *view, const struct store_cmd_where *where,
			uint64_t result_bytes);
void store_cmd_view_close(struct store_cmd_view *view);
/* Ids of the nodes that words name, 0 where there is none of that key; keys: words are keys also
 * where they are numbers. CLI_OK, or CLI_FAILED after saying why. */
int store_cmd_view_ids(struct store_cmd_view *view, char *const *words, uint32_t count, bool keys,
		       uint64_t *ret_ids);
/* One that has to be there. */
int store_cmd_view_id(struct store_cmd_view *view, char *word, bool key, uint64_t *ret_id);
/* Nodes by id, a page a call: show is called for each, NULL where there is none. */
typedef void store_cmd_show(uint64_t id, const struct haul_node *node, void *arg);
int store_cmd_view_get(struct store_cmd_view *view, const uint64_t *ids, uint32_t count,
		       store_cmd_show *show, void *arg);
