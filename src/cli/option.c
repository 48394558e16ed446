#include "cli/option.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/quantity.h"

enum { LIST_BYTES = 128 };

uint64_t option_number(const char *option, const char *arg, uint64_t min, uint64_t max,
		       struct argp_state *state)
{
	char *end = NULL;
	errno = 0;
	unsigned long long number = strtoull(arg, &end, strncmp(arg, "0x", 2) == 0 ? 16 : 10);
	if (errno != 0 || *arg < '0' || *arg > '9' || *end != '\0' || number < min || number > max)
		argp_error(state, "--%s '%s': wanted is a number from %" PRIu64 " to %" PRIu64,
			   option, arg, min, max);
	return number;
}

uint64_t option_size(const char *option, const char *arg, uint64_t min, uint64_t max,
		     struct argp_state *state)
{
	uint64_t size = 0;
	if (quantity_size(arg, &size) < 0)
		argp_error(state, "--%s '%s': wanted is %s", option, arg, QUANTITY_SIZE);
	if (size < min || size > max)
		argp_error(state, "--%s '%s': %" PRIu64 " to %" PRIu64 " are possible", option, arg,
			   min, max);
	return size;
}

uint32_t option_name(const char *option, const char *arg, const char *const *names,
		     struct argp_state *state)
{
	char list[LIST_BYTES] = "";
	for (uint32_t i = 0; names[i] != NULL; i++) {
		const size_t used = strlen(list);
		if (strcmp(arg, names[i]) == 0)
			return i;
		(void)snprintf(list + used, sizeof list - used, "%s%s",
			       i == 0                 ? ""
			       : names[i + 1] == NULL ? " or "
						      : ", ",
			       names[i]);
	}
	argp_error(state, "--%s '%s': wanted is %s", option, arg, list);
	return 0;
}

/* argp wraps what it was given into a parser of its own, which has --help. */
static const char *args_doc(const struct argp_state *state)
{
	const struct argp *argp = state->root_argp;
	while (argp->args_doc == NULL && argp->children != NULL && argp->children->argp != NULL)
		argp = argp->children->argp;
	return argp->args_doc != NULL ? argp->args_doc : "";
}

/* The word of args_doc that has this number among those that are wanted, not in brackets. */
static const char *word_of(const char *doc, uint32_t number, int *ret_bytes)
{
	for (uint32_t i = 0; *doc != '\0'; doc += strspn(doc, " ")) {
		*ret_bytes = (int)strcspn(doc, " ");
		if (*doc != '[' && i++ == number)
			break;
		doc += *ret_bytes;
	}
	return doc;
}

static void check(const struct option_words *words, struct argp_state *state)
{
	const char *wanted = args_doc(state);
	int bytes = 0;
	if (words->count > words->max)
		argp_error(state, "'%s' is too much: wanted is %s", words->word[words->max],
			   words->max == 0 ? "nothing" : wanted);
	if (words->count >= words->min)
		return;
	const char *word = word_of(wanted, words->count, &bytes);
	if (words->hint != NULL && words->count == 0)
		argp_error(state, "%.*s is missing: %s", bytes, word, words->hint);
	else if (words->min > 1)
		argp_error(state, "%.*s is missing: wanted is %s", bytes, word, wanted);
	else
		argp_error(state, "%.*s is missing", bytes, word);
}

error_t option_words(int key, struct option_words *words, struct argp_state *state)
{
	switch (key) {
	case ARGP_KEY_ARGS:
		words->word = state->argv + state->next;
		words->count = (uint32_t)(state->argc - state->next);
		state->next = state->argc;
		return 0;
	case ARGP_KEY_END:
		check(words, state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}
