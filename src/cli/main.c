#include <argp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const struct command command_list[] = {
#define X(name, help) { #name, help, cmd_##name },
	CLI_COMMAND_LIST(X)
#undef X
};

enum { COMMANDS = sizeof command_list / sizeof command_list[0], NAME_BYTES_MAX = 32 };

const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (!strcmp(command_list[i].name, name))
			return &command_list[i];
	return NULL;
}

int command_run(const struct command *command, int argc, char **argv)
{
	char name[sizeof "haul " + NAME_BYTES_MAX];

	snprintf(name, sizeof name, "haul %s", command->name);
	argv[0] = name; /* argp takes the name in its messages from here */
	return command->run(argc, argv);
}

/* Levenshtein distance, one row at a time; names over NAME_BYTES_MAX count as far away. */
static size_t distance(const char *a, const char *b)
{
	size_t row[NAME_BYTES_MAX + 1];
	size_t a_len = strlen(a);
	size_t b_len = strlen(b);

	if (a_len > NAME_BYTES_MAX || b_len > NAME_BYTES_MAX)
		return SIZE_MAX;
	for (size_t j = 0; j <= b_len; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_len; j++) {
			size_t change = diagonal + (a[i - 1] != b[j - 1]);
			size_t gap = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);

			diagonal = row[j];
			row[j] = change < gap ? change : gap;
		}
	}
	return row[b_len];
}

int command_unknown(const char *name)
{
	const struct command *nearest = NULL;
	size_t nearest_distance = 3; /* further off is another word, not a slip */

	for (size_t i = 0; i < COMMANDS; i++) {
		size_t d = distance(name, command_list[i].name);

		if (d < nearest_distance) {
			nearest = &command_list[i];
			nearest_distance = d;
		}
	}
	fprintf(stderr, "haul: no command '%s'", name);
	if (nearest)
		fprintf(stderr, "; did you mean 'haul %s'?\n", nearest->name);
	else
		fprintf(stderr, "; 'haul --help' lists all\n");
	return CLI_USAGE;
}

int cli_fail(const char *what, const struct haul_err *err)
{
	if (what)
		fprintf(stderr, "haul: %s: %s\n", what, err->text);
	else
		fprintf(stderr, "haul: %s\n", err->text);
	return CLI_FAILED;
}

/* argp shows the list of commands below the options; it frees what is returned. */
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
	fprintf(out, "Commands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-8s %s\n", command_list[i].name, command_list[i].help);
	fprintf(out, "\n%s", text ? text : "");
	if (fclose(out)) {
		free(list);
		return NULL;
	}
	return list;
}

/* The first word that is no option is the command; what follows is the command's own. */
static error_t parse(int key, char *arg, struct argp_state *state)
{
	int *ret_command = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_ARG:
		*ret_command = state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int cli_main(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "COMMAND [ARGUMENT...]",
		.doc = "haul moves packets in batches instead of one at a time.\v"
		       "Example: what does 'bench' do?\n"
		       "  haul help bench\n",
		.help_filter = help_filter,
	};
	char name[] = "haul";
	const struct command *command;
	int first = 0;

	argv[0] = name;
	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &first))
		return CLI_USAGE;
	command = command_find(argv[first]);
	if (!command)
		return command_unknown(argv[first]);
	return command_run(command, argc - first, argv + first);
}

int main(int argc, char **argv)
{
	argp_program_version = "haul " HAUL_VERSION;
	argp_err_exit_status = CLI_USAGE;
	if (argc < 1) /* execve with an empty argv: there is no name to replace */
		return CLI_USAGE;
	return cli_main(argc, argv);
}
