#include <argp.h>
#include <stddef.h>

#include "cli/cli.h"
#include "cli/option.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	return option_words(key, state->input, state);
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
	struct option_words words = { .max = 1 };
	char *arguments[] = { NULL, option, NULL };

	argp_parse(&argp, argc, argv, 0, NULL, &words);
	if (words.count == 0)
		return cli_main(2, arguments);
	command = command_find(words.word[0]);
	if (!command)
		return command_unknown(words.word[0]);
	return command_run(command, 2, arguments);
}
