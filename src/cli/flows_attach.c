#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/cli.h"
#include "cli/flows.h"
#include "cli/flows_query.h"
#include "cli/flows_tables.h"
#include "cli/option.h"
#include "cli/quantity.h"
#include "os/os.h"

enum { KEY_NAME = 256, KEY_ENTRIES, KEY_XDP, KEY_TIMEOUT, KEY_NO_SWEEP, KEY_ALL };

/* ---- attach ---- */

struct attach_request {
	struct option_words words; /* IF */
	struct haul_flows_options options;
	const char *name; /* NULL = as the interface */
};

/* "syn-sent=60" */
static void parse_timeout(const char *arg, uint32_t timeout_s[HAUL_FLOW_STATES],
			  struct argp_state *state)
{
	const char *equals = strchr(arg, '=');
	int64_t ns;

	for (unsigned i = 0; equals != NULL && i < HAUL_FLOW_STATES; i++) {
		const char *name = haul_flow_state_name((uint8_t)i);

		if (strlen(name) != (size_t)(equals - arg) || strncmp(name, arg, strlen(name)) != 0)
			continue;
		if (quantity_duration(equals + 1, &ns) == 0 && ns >= NS_PER_S &&
		    ns / NS_PER_S <= UINT32_MAX) {
			timeout_s[i] = (uint32_t)(ns / NS_PER_S);
			return;
		}
		argp_error(state, "--timeout '%s': wanted are whole seconds, at least 1", arg);
	}
	argp_error(state,
		   "--timeout '%s': wanted is STATE=SECONDS, as in established=3600; states:"
#define X(id, name, timeout) " " name
		   HAUL_FLOW_STATE_LIST(X),
#undef X
		   arg);
}

static error_t parse_attach(int key, char *arg, struct argp_state *state)
{
	struct attach_request *request = state->input;

	switch (key) {
	case KEY_NAME:
		request->name = arg;
		return 0;
	case KEY_ENTRIES:
		request->options.entries_max =
			(uint32_t)option_number("entries", arg, 1, HAUL_FLOWS_ENTRIES_MAX, state);
		return 0;
	case KEY_XDP:
		request->options.hook = HAUL_FLOWS_XDP;
		return 0;
	case KEY_TIMEOUT:
		parse_timeout(arg, request->options.timeout_s, state);
		return 0;
	case KEY_NO_SWEEP:
		request->options.sweep_ms = UINT32_MAX;
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

static void say_attached(const struct haul_flows_info *info)
{
	char memory[QUANTITY_TEXT];

	printf("haul flows: %s: attached to %s by %s: %" PRIu32 " entries in %" PRIu32
	       " shards, %s\n",
	       info->name, info->ifname, info->hook, info->entries_max, info->shards,
	       quantity_memory_text(info->memory_bytes, memory));
	printf("next:\n"
	       "  sudo haul flows list %s --sort bytes --limit 10\n"
	       "  sudo haul flows top %s\n"
	       "  sudo haul flows stats %s\n"
	       "  sudo haul flows detach %s\n",
	       info->name, info->name, info->name, info->name);
}

static int attach(const struct attach_request *request, struct haul_err *err)
{
	const char *name = request->name != NULL ? request->name : request->options.ifname;
	struct haul_flows *flows;
	int rc = haul_flows_create(&flows, &request->options, err);

	if (rc < 0)
		return rc;
	rc = haul_flows_pin(flows, name, err);
	if (rc == 0)
		say_attached(haul_flows_info(flows));
	haul_flows_close(flows);
	return rc;
}

int flows_attach(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "name", KEY_NAME, "NAME", 0, "of the table, instead of the interface's", 0 },
		{ "entries", KEY_ENTRIES, "N", 0, "room for N connections (65536)", 0 },
		{ "xdp", KEY_XDP, NULL, 0, "count what comes in by XDP, before the stack", 0 },
		{ "timeout", KEY_TIMEOUT, "STATE=TIME", 0,
		  "remove a connection in STATE after so long without a packet; repeatable", 0 },
		{ "no-sweep", KEY_NO_SWEEP, NULL, 0, "remove nothing but by 'haul flows clean'",
		  0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse_attach,
		.args_doc = "IF",
		.doc = "Count the connections of interface IF, both directions, from now on and "
		       "until 'haul flows detach'. No process stays behind: the kernel counts, "
		       "and removes what is over. Other programs on the interface see every "
		       "packet as before.\v"
		       "Examples:\n"
		       "  sudo haul flows attach eth0\n"
		       "  sudo haul flows attach eth0 --name uplink --entries 1000000 --timeout "
		       "established=3600\n",
	};
	struct attach_request request = {
		.words = { .min = 1, .max = 1, "an interface, as 'ip link' shows them" }
	};
	struct haul_err err = { 0 };

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	request.options.ifname = request.words.word[0];
	return attach(&request, &err) < 0 ? cli_fail("flows attach", &err) : CLI_OK;
}

/* ---- detach ---- */

struct detach_request {
	struct flows_names names;
	bool all;
};

static error_t parse_detach(int key, char *arg, struct argp_state *state)
{
	struct detach_request *request = state->input;

	switch (key) {
	case KEY_ALL:
		request->all = true;
		return 0;
	case ARGP_KEY_END:
		if (request->all == (request->names.count > 0))
			argp_error(state, "wanted are NAMEs, or --all");
		return 0;
	default:
		return flows_names_parse(key, arg, &request->names, state);
	}
}

/* All of them are tried; the first that failed is told last. */
static int detach(const struct flows_names *names, struct haul_err *err)
{
	int first = 0;

	for (uint32_t i = 0; i < names->count; i++) {
		struct haul_err failed = { 0 };
		int rc = haul_flows_detach(names->name[i], &failed);

		if (rc == -ENOENT)
			rc = flows_tables_missing(names->name[i], &failed);
		if (rc >= 0) {
			printf("haul flows: %s: detached\n", names->name[i]);
		} else if (first == 0) {
			first = rc;
			*err = failed;
		} else {
			(void)cli_fail("flows detach", &failed);
		}
	}
	return first;
}

int flows_detach(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "all", KEY_ALL, NULL, 0, "every table that is attached", 0 }, { 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse_detach,
		.args_doc = "[NAME...]",
		.doc = "Stop counting: programs, tables and pins are gone afterwards, also those "
		       "of an attach that was cut short.\v"
		       "Examples:\n"
		       "  sudo haul flows detach eth0\n"
		       "  sudo haul flows detach --all\n",
	};
	struct detach_request request = { 0 };
	struct haul_err err = { 0 };
	int rc = 0;

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	if (request.all)
		rc = flows_names_load(&request.names, &err);
	if (rc >= 0 && request.names.count == 0)
		printf("haul flows: nothing is attached\n");
	if (rc >= 0)
		rc = detach(&request.names, &err);
	if (request.all)
		flows_names_free(&request.names);
	return rc < 0 ? cli_fail("flows detach", &err) : CLI_OK;
}
