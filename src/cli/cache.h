/* cli/cache.h — the subcommands of `haul cache`.
 *
 * To add a subcommand: one line below, and `int cache_<name>(int argc, char **argv)` in
 * src/cli/cache_<name>.c, as cli/cli.h says of commands.
 *
 * Model      FILE|DEVICE is a cache made by format; TARGET is either that, or a running server:
 *            what has a ':' that is no file's is HOST:PORT, a socket in the file system is that.
 * Errors     enum cli_exit, with a line on stderr.
 * Threads    main thread only. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include <haul/cache.h>
#include "cli/cli.h"

/* X(name, one line of help), in the order `haul cache --help` shows them. */
#define CACHE_COMMAND_LIST(X)                                                                      \
	X(format, "make a cache on a file or block device")                                        \
	X(serve, "let memcached clients use it")                                                   \
	X(get, "write the values of some keys to stdout")                                          \
	X(set, "store one value, durable")                                                         \
	X(del, "delete some keys, durable")                                                        \
	X(stat, "entries, batches, flush reasons, hit ratios, write amplification")                \
	X(check, "verify every entry, and drop what is broken")                                    \
	X(online, "take a device that went offline into use again")

#define X(name, help) int cache_##name(int argc, char **argv);
CACHE_COMMAND_LIST(X)
#undef X

/* Whether TARGET is a running server. */
bool cache_is_server(const char *target);
/* Open a cache. CLI_OK, or CLI_FAILED after saying why. */
int cache_open_file(struct haul_cache **ret_cache, const char *path, bool read_only);
/* TARGET KEY...: what is wrong with a key ends the program with a message (argp's). */
struct argp_state;
void cache_check_key(const char *key, struct argp_state *state);

struct cache_json_name {
	const char *text, *hex;
};

/* Text as text, other bytes as digits: adds one of both names to the object. */
void cache_json_set(json_t *object, struct cache_json_name name, const void *data, size_t bytes);
