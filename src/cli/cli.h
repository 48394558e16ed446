/* cli/cli.h — the commands of the program haul.
 *
 * To add a command:
 *   1. write src/cli/cmd_<name>.c with `int cmd_<name>(int argc, char **argv)`;
 *   2. add one line to CLI_COMMAND_LIST below and the file to src/cli/meson.build.
 * `haul`, `haul help`, the suggestion for a misspelt name and tests/cli find it by themselves.
 * Options and words are read with cli/option.h, signals are caught with cli/stop.h.
 *
 * Model      argv[0] is "haul <name>", the rest is as typed. Options are parsed with glibc's argp;
 *            its doc string ends with "\vExample:" (or "\vExamples:") and at least one line,
 *            indented by two, that can be pasted into a shell; tests/cli insists on it.
 * Output     what was asked for goes to stdout, everything else to stderr. --json wherever
 *            something is listed. Errors name the file, the value and the fix.
 * Errors     a command returns one of enum cli_exit. argp itself exits CLI_USAGE on bad options
 *            (main sets argp_err_exit_status). Nothing is started before all input is checked.
 * Threads    main thread only. */
#pragma once

#include <haul/err.h>

/* X(name, one line of help), in the order `haul --help` shows them. */
#define CLI_COMMAND_LIST(X)                                                                        \
	X(bench, "measure: batched against one at a time, on this machine")                        \
	X(sim, "a network of OBUs and RSUs on this machine, with real traffic")                    \
	X(node, "run one OBU or RSU")                                                              \
	X(stats, "routes and batch statistics of a running daemon")                                \
	X(flows, "the connections of any interface: attach, list, top, stats, watch")              \
	X(map, "any BPF map: list, dump, get, set, load, clean, export, tune …")                   \
	X(cache, "a cache on a raw disk: format, serve, get, set, del, stat, check")               \
	X(store, "a durable graph, written in batches: init, serve, load, get, near")              \
	X(sql, "SQL over a graph, live connections, cache entries and statistics")                 \
	X(help, "what a command does, with an example")

enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct command {
	const char *name;
	const char *help;
	int (*run)(int argc, char **argv);
};

#define X(name, help) int cmd_##name(int argc, char **argv);
CLI_COMMAND_LIST(X)
#undef X

/* The whole program but for its start-up. */
int cli_main(int argc, char **argv);
/* NULL if there is none of that name. */
const struct command *command_find(const char *name);
/* Run it with argv[0] replaced by "haul <name>". */
int command_run(const struct command *command, int argc, char **argv);
/* Say that there is no such command, and which one may have been meant. Returns CLI_USAGE. */
int command_unknown(const char *name);

/* Print "haul: <what>: <text>" to stderr; what may be NULL. Returns CLI_FAILED. */
int cli_fail(const char *what, const struct haul_err *err);
/* Print "haul: <what>: <which>: <reason>" to stderr. Returns CLI_FAILED. */
int cli_fail_code(const char *what, const char *which, int code);
/* Hand what was printed to who reads it. -EPIPE: nobody does any more, which is no failure; other
 * errors lost some of it. */
int cli_flush(void);
/* What a write to stdout failed with: else cli_flush knows only that one did. */
void cli_lost(int rc);
/* The same at the end of a command. CLI_FAILED, said on stderr, if something was lost; else
 * code. */
int cli_end_output(const char *what, int code);
