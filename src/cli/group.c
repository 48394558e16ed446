#include "cli/group.h"

#include <argp.h>
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES_MAX = 32, PREFIX_BYTES_MAX = 16 };

const struct command *group_find(const struct command_group *group, const char *name)
{
	for (size_t i = 0; i < group->count; i++)
		if (!strcmp(group->commands[i].name, name))
			return &group->commands[i];
	return NULL;
}

int group_run_one(const struct command_group *group, const struct command *command, int argc,
		  char **argv)
{
	char name[PREFIX_BYTES_MAX + NAME_BYTES_MAX];

	(void)snprintf(name, sizeof name, "%s %s", group->prefix, command->name);
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

int group_unknown(const struct command_group *group, const char *name)
{
	const struct command *nearest = NULL;
	size_t nearest_distance = 3; /* further off is another word, not a slip */

	for (size_t i = 0; i < group->count; i++) {
		size_t d = distance(name, group->commands[i].name);

		if (*name != '\0' && strncmp(name, group->commands[i].name, strlen(name)) == 0)
			d = 0; /* the beginning of one */
		if (d < nearest_distance) {
			nearest = &group->commands[i];
			nearest_distance = d;
		}
	}
	fprintf(stderr, "%s: no %s '%s'", group->prefix, group->noun, name);
	if (nearest)
		fprintf(stderr, "; did you mean '%s %s'?\n", group->prefix, nearest->name);
	else
		fprintf(stderr, "; '%s --help' lists all\n", group->prefix);
	return CLI_USAGE;
}

struct choice {
	const struct command_group *group;
	int first; /* index of the first word */
};

/* argp shows the list of commands below the options; it frees what is returned. */
static char *help_filter(int key, const char *text, void *input)
{
	const struct choice *choice = input;
	char *list = NULL;
	size_t bytes, width = 8;
	FILE *out;

	if (key != ARGP_KEY_HELP_POST_DOC || choice == NULL)
		return (char *)(uintptr_t)text; /* argp compares pointers to see what is its own */
	out = open_memstream(&list, &bytes);
	if (!out)
		return NULL;
	fprintf(out, "%c%ss:\n", toupper((unsigned char)choice->group->noun[0]),
		choice->group->noun + 1);
	for (size_t i = 0; i < choice->group->count; i++) {
		size_t name = strlen(choice->group->commands[i].name);
		width = name > width ? name : width;
	}
	for (size_t i = 0; i < choice->group->count; i++)
		fprintf(out, "  %-*s %s\n", (int)width, choice->group->commands[i].name,
			choice->group->commands[i].help);
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
	struct choice *choice = state->input;

	(void)arg;
	switch (key) {
	case ARGP_KEY_ARG:
		choice->first = state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

int group_run(const struct command_group *group, int argc, char **argv)
{
	const struct argp argp = {
		.parser = parse,
		.args_doc = group->args_doc,
		.doc = group->doc,
		.help_filter = help_filter,
	};
	struct choice choice = { .group = group };
	const struct command *command;

	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &choice))
		return CLI_USAGE;
	command = group_find(group, argv[choice.first]);
	if (!command)
		return group_unknown(group, argv[choice.first]);
	return group_run_one(group, command, argc - choice.first, argv + choice.first);
}
