/* cli/group.h — a list of commands of which the first word chooses one: haul's own, and the
 * subcommands of `haul map` and `haul flows`.
 *
 * Model      group_run parses options up to the first word, puts "<prefix> <name>" in the place of
 *            it, and runs the command with what follows; --help lists all of them.
 * Ownership  groups are constants of the command's.
 * Threads    the main thread.
 * Errors     as enum cli_exit. */
#pragma once

#include <stddef.h>

#include "cli/cli.h"

struct command_group {
	const char *prefix; /* "haul", "haul map" */
	const char *noun;   /* "command", "subcommand" */
	const struct command *commands;
	size_t count;
	const char *args_doc; /* as argp's */
	const char *doc;
};

int group_run(const struct command_group *group, int argc, char **argv);
/* NULL if there is none of that name. */
const struct command *group_find(const struct command_group *group, const char *name);
/* Run command with argv[0] replaced by "<prefix> <name>". */
int group_run_one(const struct command_group *group, const struct command *command, int argc,
		  char **argv);
/* Say that there is no such command, and which one may have been meant. Returns CLI_USAGE. */
int group_unknown(const struct command_group *group, const char *name);
