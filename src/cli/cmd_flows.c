#include <argp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/flows.h"

static const struct command flows_commands[] = {
#define X(name, help) { #name, help, flows_##name },
	FLOWS_COMMAND_LIST(X)
#undef X
};

enum { COMMANDS = sizeof flows_commands / sizeof flows_commands[0], NAME_BYTES = 32 };

/* argp frees what is returned. */
static char *help_filter(int key, const char *text, void *input)
{
	char *list = NULL;
	size_t bytes;
	FILE *out;

	(void)input;
	if (key != ARGP_KEY_HELP_POST_DOC)
		return (char *)(uintptr_t)text; /* argp compares pointers to see what is its own */
	out = open_memstream(&list, &bytes);
	if (!out)
		return NULL;
	fprintf(out, "Subcommands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-8s %s\n", flows_commands[i].name, flows_commands[i].help);
	fprintf(out, "\n%s", text ? text : "");
	if (fclose(out)) {
		free(list);
		return NULL;
	}
	return list;
}

/* The first word that is no option is the subcommand; what follows is its own. */
static error_t parse(int key, char *arg, struct argp_state *state)
{
	int *ret_first = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_ARG:
		*ret_first = state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int unknown(const char *name)
{
	fprintf(stderr, "haul flows: no subcommand '%s'; there are:", name);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(stderr, " %s", flows_commands[i].name);
	fprintf(stderr, "\n");
	return CLI_USAGE;
}

int cmd_flows(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "SUBCOMMAND [ARGUMENT...]",
		.doc = "Count every connection that passes an interface, in the kernel: packets "
		       "and bytes each way, state, handshake time. A table is named after its "
		       "interface and stays until it is detached.\v"
		       "'haul flows SUBCOMMAND --help' has the options.\n\n"
		       "Examples:\n"
		       "  sudo haul flows attach eth0\n"
		       "  sudo haul flows list eth0 --sort bytes --limit 10\n"
		       "  sudo haul flows top\n"
		       "  sudo haul flows detach eth0\n",
		.help_filter = help_filter,
	};
	char name[sizeof "haul flows " + NAME_BYTES];
	int first = 0;

	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &first))
		return CLI_USAGE;
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(flows_commands[i].name, argv[first]) != 0)
			continue;
		(void)snprintf(name, sizeof name, "haul flows %s", flows_commands[i].name);
		argv[first] = name;
		return flows_commands[i].run(argc - first, argv + first);
	}
	return unknown(argv[first]);
}
