#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/group.h"
#include "cli/quantity.h"
#include "cli/stop.h"
#include "cli/store.h"

enum { KEY_TOKEN = 512, KEY_MEMORY, KEYS_ROUND = 128 };

static const uint64_t memory_min = UINT64_C(128) << 20;

/* ---- options ---- */

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
		[HAUL_OUT] = "out", [HAUL_IN] = "in", [HAUL_BOTH] = "both", NULL
	};
	return (enum haul_direction)option_name("direction", arg, names, state);
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
	case ARGP_KEY_END:
		(void)option_words(key, &where->words, state);
		where->where = where->words.word[0];
		return 0;
	default:
		return option_words(key, &where->words, state);
	}
}

static const struct argp_option where_options[] = {
	{ "token-file", KEY_TOKEN, "FILE", 0, "token for a server that wants one", 5 },
	{ "memory", KEY_MEMORY, "SIZE", 0, "of a folder: memory to take (768Mi)", 5 },
	{ 0 },
};

static const struct argp where_argp = { .options = where_options, .parser = parse_where };

const struct argp_child store_cmd_where_child[] = { { &where_argp, 0, NULL, 0 }, { 0 } };

/* ---- reading ---- */

static void interrupt(void *reader)
{
	haul_reader_interrupt(reader);
}

int store_cmd_view_open(struct store_cmd_view *view, const struct store_cmd_where *where,
			uint64_t result_bytes)
{
	struct store_target_options options = where->options;
	struct store_cmd_view opened = { 0 };
	struct haul_err err = { 0 };
	options.read_only = true;
	stop_catch();
	int rc = store_target_open(&opened.target, where->where, &options, &err);
	if (rc < 0)
		return cli_fail("store", &err);
	rc = store_target_reader(&opened.target, result_bytes, &opened.reader);
	if (rc < 0) {
		store_target_close(&opened.target);
		return cli_fail_code("store", where->where, rc);
	}
	stop_also(interrupt, opened.reader);
	*view = opened;
	return CLI_OK;
}

void store_cmd_view_close(struct store_cmd_view *view)
{
	stop_also(NULL, NULL);
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
			return cli_fail_code("store", "looking up keys", rc < 0 ? rc : HAUL_ELIMIT);
		HAUL_ASSERT((uint32_t)rc <= round);
		for (uint32_t i = 0; i < (uint32_t)rc; i++) {
			if (statuses[i] < 0 && statuses[i] != -ENOENT)
				return cli_fail_code("store", keys[i].data, statuses[i]);
			ret_ids[which[done + i]] = statuses[i] == 0 ? nodes[i].id : 0;
		}
	}
	return CLI_OK;
}

int store_cmd_view_ids(struct store_cmd_view *view, char *const *words, uint32_t count, bool keys,
		       uint64_t *ret_ids)
{
	uint32_t *which = calloc(count + 1, sizeof *which), key_count = 0;
	int code = CLI_OK;
	if (which == NULL)
		return cli_fail_code("store", "get", -ENOMEM);
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
			return cli_fail_code("store", "reading nodes", rc < 0 ? rc : HAUL_ELIMIT);
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

	return cli_end_output("store", group_run(&group, argc, argv));
}
