#include <argp.h>
#include <stddef.h>

#include "cli/cli.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
	char **ret_name = state->input;

	switch (key) {
	case ARGP_KEY_ARG:
		if (state->arg_num > 0)
			argp_error(state, "one command at a time, '%s' is a second", arg);
		*ret_name = arg;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cmd_help(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "[COMMAND]",
		.doc = "What a command does, with its options and an example.\v"
		       "Example:\n"
		       "  haul help bench\n",
	};
	const struct command *command;
	char option[] = "--help";
	char *name = NULL;
	char *arguments[] = { NULL, option, NULL };

	argp_parse(&argp, argc, argv, 0, NULL, &name);
	if (!name)
		return cli_main(2, arguments);
	command = command_find(name);
	if (!command)
		return command_unknown(name);
	return command_run(command, 2, arguments);
}
