#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/group.h"
#include "cli/quantity.h"
#include "cli/store.h"

enum { KEY_TOKEN = 512, KEY_MEMORY, KEYS_ROUND = 128 };

static const uint64_t memory_min = UINT64_C(128) << 20;

/* What a signal ends. */
static volatile sig_atomic_t stop_asked;
static struct haul_reader *volatile reading;

static void on_signal(int number)
{
	(void)number;
	stop_asked = 1;
	if (reading != NULL)
		haul_reader_interrupt(reading);
}

void store_cmd_catch_signals(void)
{
	/* no SA_RESTART: a read from a terminal ends, too; a second signal kills */
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
	(void)sigemptyset(&action.sa_mask);
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
}

bool store_cmd_stopped(void)
{
	return stop_asked != 0;
}

int store_cmd_fail(const char *what, int code)
{
	fprintf(stderr, "haul: store: %s: %s\n", what,
		code == -ECANCELED && store_cmd_stopped() ? "stopped" : haul_strerror(code));
	return CLI_FAILED;
}

int store_cmd_end_output(int code)
{
	if (fflush(stdout) != 0 && errno != EPIPE)
		return store_cmd_fail("standard output", -errno);
	return code;
}

/* ---- options ---- */

uint64_t store_cmd_number(const char *option, const char *arg, uint64_t min, uint64_t max,
			  struct argp_state *state)
{
	char *end = NULL;
	errno = 0;
	unsigned long long number = strtoull(arg, &end, 10);
	if (errno != 0 || end == arg || *end != '\0' || strchr(arg, '-') != NULL || number < min ||
	    number > max)
		argp_error(state, "--%s '%s': wanted is a number from %llu to %llu", option, arg,
			   (unsigned long long)min, (unsigned long long)max);
	return number;
}

bool store_cmd_is_id(const char *text, uint64_t *ret_id)
{
	uint64_t id = 0;
	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9' || __builtin_mul_overflow(id, 10, &id) ||
		    __builtin_add_overflow(id, (uint64_t)(*text - '0'), &id))
			return false;
	}
	if (id < HAUL_NODE_ID_MIN || id == UINT64_MAX)
		return false;
	*ret_id = id;
	return true;
}

enum haul_direction store_cmd_direction(const char *arg, struct argp_state *state)
{
	static const char *const names[] = {
		[HAUL_OUT] = "out", [HAUL_IN] = "in", [HAUL_BOTH] = "both"
	};
	for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(arg, names[i]) == 0)
			return (enum haul_direction)i;
	argp_error(state, "--direction '%s': wanted is out, in or both", arg);
	return HAUL_OUT;
}

static error_t parse_where(int key, char *arg, struct argp_state *state)
{
	struct store_cmd_where *where = state->input;
	uint64_t *memory = &where->options.memory;
	switch (key) {
	case KEY_TOKEN:
		where->options.token_file = arg;
		return 0;
	case KEY_MEMORY:
		if (quantity_size(arg, memory) < 0)
			argp_error(state, "--memory '%s': wanted is %s", arg, QUANTITY_SIZE);
		if (*memory < memory_min)
			argp_error(state, "--memory '%s': at least 128Mi", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option where_options[] = {
	{ "token-file", KEY_TOKEN, "FILE", 0, "token for a server that wants one", 5 },
	{ "memory", KEY_MEMORY, "SIZE", 0, "of a folder: memory to take (768Mi)", 5 },
	{ 0 },
};

const struct argp store_cmd_where_argp = { .options = where_options, .parser = parse_where };

/* ---- reading ---- */

int store_cmd_view_open(struct store_cmd_view *view, const struct store_cmd_where *where,
			uint64_t result_bytes)
{
	struct store_target_options options = where->options;
	struct store_cmd_view opened = { 0 };
	struct haul_err err = { 0 };
	options.read_only = true;
	store_cmd_catch_signals();
	int rc = store_target_open(&opened.target, where->where, &options, &err);
	if (rc < 0)
		return cli_fail("store", &err);
	rc = store_target_reader(&opened.target, result_bytes, &opened.reader);
	if (rc < 0) {
		store_target_close(&opened.target);
		return store_cmd_fail(where->where, rc);
	}
	reading = opened.reader;
	*view = opened;
	return CLI_OK;
}

void store_cmd_view_close(struct store_cmd_view *view)
{
	reading = NULL;
	haul_reader_close(view->reader);
	store_target_close(&view->target);
}

/* Those that are keys, in one call or few. */
static int ids_of_keys(struct store_cmd_view *view, char *const *words, const uint32_t *which,
		       uint32_t count, uint64_t *ret_ids)
{
	struct haul_text keys[KEYS_ROUND];
	struct haul_node nodes[KEYS_ROUND];
	int32_t statuses[KEYS_ROUND];
	int rc = 0;
	for (uint32_t done = 0; done < count; done += (uint32_t)rc) {
		const uint32_t round = count - done < KEYS_ROUND ? count - done : KEYS_ROUND;
		for (uint32_t i = 0; i < round; i++) {
			const char *word = words[which[done + i]];
			keys[i] = (struct haul_text){ word, (uint32_t)strlen(word) };
		}
		rc = haul_reader_get_by_key(view->reader, keys, round, nodes, statuses);
		if (rc <= 0)
			return store_cmd_fail("looking up keys", rc < 0 ? rc : HAUL_ELIMIT);
		HAUL_ASSERT((uint32_t)rc <= round);
		for (uint32_t i = 0; i < (uint32_t)rc; i++) {
			if (statuses[i] < 0 && statuses[i] != -ENOENT)
				return store_cmd_fail(keys[i].data, statuses[i]);
			ret_ids[which[done + i]] = statuses[i] == 0 ? nodes[i].id : 0;
		}
	}
	return CLI_OK;
}

int store_cmd_view_ids(struct store_cmd_view *view, char *const *words, uint32_t count, bool keys,
		       uint64_t *ret_ids)
{
	uint32_t *which = calloc(count + 1, sizeof *which), key_count = 0;
	int code = which != NULL ? CLI_OK : store_cmd_fail("get", -ENOMEM);
	for (uint32_t i = 0; i < count && code == CLI_OK; i++) {
		if (!keys && store_cmd_is_id(words[i], &ret_ids[i]))
			continue;
		ret_ids[i] = 0;
		/* no node has a longer key, or none */
		if (words[i][0] != '\0' && strlen(words[i]) <= HAUL_KEY_MAX)
			which[key_count++] = i;
	}
	if (code == CLI_OK)
		code = ids_of_keys(view, words, which, key_count, ret_ids);
	free(which);
	return code;
}

int store_cmd_view_id(struct store_cmd_view *view, char *word, bool key, uint64_t *ret_id)
{
	int code = store_cmd_view_ids(view, &word, 1, key, ret_id);
	if (code != CLI_OK || *ret_id != 0)
		return code;
	fprintf(stderr, "haul: store: '%s' is no id, and no node has it as its key\n", word);
	return CLI_FAILED;
}

int store_cmd_view_get(struct store_cmd_view *view, const uint64_t *ids, uint32_t count,
		       store_cmd_show *show, void *arg)
{
	struct haul_node nodes[KEYS_ROUND];
	int32_t statuses[KEYS_ROUND];
	int rc = 0;
	for (uint32_t done = 0; done < count; done += (uint32_t)rc) {
		const uint32_t round = count - done < KEYS_ROUND ? count - done : KEYS_ROUND;
		rc = haul_reader_get(view->reader, ids + done, round, nodes, statuses);
		if (rc <= 0)
			return store_cmd_fail("reading nodes", rc < 0 ? rc : HAUL_ELIMIT);
		HAUL_ASSERT((uint32_t)rc <= round);
		for (uint32_t i = 0; i < (uint32_t)rc; i++) {
			if (statuses[i] < 0 && statuses[i] != -ENOENT) {
				fprintf(stderr, "haul: store: node %" PRIu64 ": %s\n",
					ids[done + i], haul_strerror(statuses[i]));
				return CLI_FAILED;
			}
			show(ids[done + i], statuses[i] == 0 ? &nodes[i] : NULL, arg);
		}
	}
	return CLI_OK;
}

int cmd_store(int argc, char **argv)
{
	static const struct command subcommands[] = {
#define X(name, help) { #name, help, store_cmd_##name },
		STORE_COMMAND_LIST(X)
#undef X
	};
	static const struct command_group group = {
		.prefix = "haul store",
		.noun = "subcommand",
		.commands = subcommands,
		.count = sizeof subcommands / sizeof subcommands[0],
		.args_doc = "SUBCOMMAND [ARGUMENT...]",
		.doc = "A durable graph of nodes, edges and embeddings that is written in batches: "
		       "in a folder, or served to many programs.\v"
		       "Examples:\n"
		       "  haul store init graph\n"
		       "  haul store load graph --nodes people.csv --edges knows.csv\n"
		       "  haul store neighbours graph 42 --depth 2\n",
	};

	return group_run(&group, argc, argv);
}
