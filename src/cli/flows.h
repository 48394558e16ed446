/* cli/flows.h — what the subcommands of `haul flows` share.
 *
 * To add a subcommand: `int flows_<name>(int argc, char **argv)`, where argv[0] is "haul flows
 * <name>", and one line below. Options, output and exit status follow the rules of cli/cli.h. */
#pragma once

/* X(name, one line of help), in the order `haul flows --help` shows them. */
#define FLOWS_COMMAND_LIST(X)                                                                      \
	X(attach, "count the connections of an interface from now on")                             \
	X(list, "the connections, filtered and sorted")                                            \
	X(top, "the busiest connections, live in the terminal")                                    \
	X(stats, "sums and averages, by protocol, state and port")                                 \
	X(watch, "a stream of connections opened, changed and closed")                             \
	X(clean, "remove connections that have been silent")                                       \
	X(export, "write a table to a file")                                                       \
	X(import, "read it back")                                                                  \
	X(detach, "stop counting and leave nothing behind")

#define X(name, help) int flows_##name(int argc, char **argv);
FLOWS_COMMAND_LIST(X)
#undef X
