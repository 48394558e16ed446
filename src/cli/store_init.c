/* haul store init. */
#include <argp.h>
#include <stdio.h>

#include "cli/store.h"

struct request {
	const char *path;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	switch (key) {
	case ARGP_KEY_ARG:
		if (state->arg_num > 0)
			argp_error(state, "one FOLDER at a time, '%s' is a second", arg);
		request->path = arg;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "FOLDER is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
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
	struct request request = { 0 };
	struct haul_err err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	if (haul_store_init(request.path, &err) < 0)
		return cli_fail("store", &err);
	printf("%s: an empty store\n", request.path);
	return store_cmd_end_output(CLI_OK);
}
