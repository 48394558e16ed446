/* cli/cache.h — the subcommands of `haul cache`.
 *
 * To add a subcommand: one line below, and `int cache_<name>(int argc, char **argv)` in
 * src/cli/cache_<name>.c, as cli/cli.h says of commands.
 *
 * Model      FILE|DEVICE is a cache made by format; TARGET is either that, or a running server: what
 *            has a ':' that is no file's is HOST:PORT, a socket in the file system is that.
 * Errors     enum cli_exit, with a line on stderr.
 * Threads    main thread only. */
#pragma once

#include <stdbool.h>

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

/* "haul: cache: <what>: <reason>"; returns CLI_FAILED. */
int cache_fail(const char *what, int code);
/* SIGINT and SIGTERM set a flag from here on; a second one kills. */
void cache_catch_signals(void);
bool cache_stopped(void);
