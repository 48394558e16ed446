/* cli/option.h — what the parsers of the commands share: numbers, sizes, names and words.
 *
 * Model      Called from a parser of argp's. What is wrong ends the program by argp_error, with the
 *            option or word, its value and what is wanted. Words are the arguments that are no
 *            options, as args_doc names them.
 * Ownership  words are argv's.
 * Threads    main thread only. */
#pragma once

#include <argp.h>
#include <stdint.h>

/* A number from min to max, decimal or 0x…. */
uint64_t option_number(const char *option, const char *arg, uint64_t min, uint64_t max,
		       struct argp_state *state);
/* The same as people write sizes, see cli/quantity.h. */
uint64_t option_size(const char *option, const char *arg, uint64_t min, uint64_t max,
		     struct argp_state *state);
/* Index of arg in names, which end with NULL. */
uint32_t option_name(const char *option, const char *arg, const char *const *names,
		     struct argp_state *state);

struct option_words {
	uint32_t min, max;
	const char *hint; /* behind "… is missing"; may be NULL */
	char **word;
	uint32_t count;
};

/* Takes all words, and says at the end which is missing or too much; ARGP_ERR_UNKNOWN for other
 * keys. */
error_t option_words(int key, struct option_words *words, struct argp_state *state);
