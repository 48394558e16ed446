/* haul store init. */
#include <argp.h>
#include <stdio.h>

#include "cli/store.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
	(void)arg;
	return option_words(key, state->input, state);
}

int store_cmd_init(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "FOLDER",
		.doc = "Make an empty store in a folder that does not exist yet, or is empty.\v"
		       "Example:\n"
		       "  haul store init graph\n",
	};
	struct option_words words = { .min = 1, .max = 1 };
	struct haul_err err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &words))
		return CLI_USAGE;
	if (haul_store_init(words.word[0], &err) < 0)
		return cli_fail("store", &err);
	printf("%s: an empty store\n", words.word[0]);
	return CLI_OK;
}
