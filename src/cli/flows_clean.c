#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/assert.h"
#include "cli/cli.h"
#include "cli/flows.h"
#include "cli/flows_query.h"
#include "cli/flows_record.h"
#include "cli/flows_tables.h"
#include "os/os.h"

enum { KEY_OLDER_THAN = 256, KEY_DRY_RUN };

/* Who watches gets two seconds to make room in the ring. */
enum { WAIT_MS = 20, TRIES = 100 };

struct request {
	struct flows_names names;
	int64_t older_ns; /* 0 = only what its timeout says */
	bool dry_run;
};

/* A dry run counts what a real one would remove. */
struct counter {
	const struct haul_flows_info *info;
	int64_t older_ns;
	int64_t now_ns;
	uint64_t expired;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;

	switch (key) {
	case KEY_OLDER_THAN:
		request->older_ns = flows_query_duration("older-than", arg, state);
		return 0;
	case KEY_DRY_RUN:
		request->dry_run = true;
		return 0;
	default:
		return flows_names_parse(key, arg, &request->names, state);
	}
}

static bool expired(const struct counter *counter, const struct haul_flow_value *value)
{
	int64_t idle_ns = flows_record_since(counter->now_ns, value->last_ns);
	uint8_t state = value->state < HAUL_FLOW_STATES ? value->state : HAUL_FLOW_NEW;

	if (counter->older_ns > 0 && idle_ns > counter->older_ns)
		return true;
	return idle_ns > counter->info->timeout_s[state] * NS_PER_S;
}

static int visit(const struct haul_map_batch *batch, void *arg)
{
	struct counter *counter = arg;

	for (uint32_t i = 0; i < batch->count; i++)
		counter->expired += expired(counter, haul_map_value(batch, i));
	return 0;
}

static int count_expired(struct haul_flows *flows, struct counter *counter)
{
	const struct haul_flow_query query = { 0 };
	struct haul_map_report report;

	return haul_flows_scan(flows, &query, visit, counter, &report);
}

/* A connection stays as long as the ring has no room to report it: again, while that helps. */
static int remove_expired(struct haul_flows *flows, uint64_t cutoff_ns, uint64_t *removed,
			  uint64_t *held)
{
	struct haul_map_result result;
	int rc, in_vain = 0;

	*removed = 0;
	do {
		if (in_vain > 0)
			(void)poll(NULL, 0, WAIT_MS);
		rc = haul_flows_clean(flows, cutoff_ns, &result);
		*removed += result.done;
		*held = result.kept;
		in_vain = result.done > 0 ? 0 : in_vain + 1;
	} while (rc == 0 && result.kept > 0 && in_vain < TRIES);
	return rc;
}

static int clean(const struct request *request, struct haul_flows *flows, struct haul_err *err)
{
	struct counter counter = {
		.info = haul_flows_info(flows),
		.older_ns = request->older_ns,
		.now_ns = os_linux()->now_ns(os_linux()),
	};
	const char *name = counter.info->name;
	uint64_t removed = 0, held = 0, cutoff_ns = 0;
	int rc;

	if (request->older_ns > 0)
		cutoff_ns = counter.now_ns > request->older_ns
				    ? (uint64_t)(counter.now_ns - request->older_ns)
				    : 1;
	if (request->dry_run)
		rc = count_expired(flows, &counter);
	else
		rc = remove_expired(flows, cutoff_ns, &removed, &held);
	if (rc == -EBUSY)
		return haul_err_set(err, rc, "%s: another process cleans it or takes its intervals",
				    name);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s", name, haul_strerror(rc));
	if (request->dry_run)
		printf("haul flows: %s: %" PRIu64 " connections would be removed\n", name,
		       counter.expired);
	else
		printf("haul flows: %s: %" PRIu64 " connections removed\n", name, removed);
	if (held > 0)
		fprintf(stderr,
			"haul: %s: %" PRIu64 " more stay until who watches has read what was "
			"closed before\n",
			name, held);
	return 0;
}

int flows_clean(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "older-than", KEY_OLDER_THAN, "TIME", 0,
		  "no packet for so long: 60s, 5m; without it only the timeouts count", 0 },
		{ "dry-run", KEY_DRY_RUN, NULL, 0, "count them, remove nothing", 0 },
		{ 0 }
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[NAME...]",
		.doc = "Remove the connections of a table (or of all) that have been silent, and "
		       "those whose timeout has passed. It is done in the kernel and loses no "
		       "packet: one that arrives meanwhile keeps its connection.\v"
		       "Examples:\n"
		       "  sudo haul flows clean eth0 --older-than 60s --dry-run\n"
		       "  sudo haul flows clean eth0 --older-than 60s\n",
	};
	struct request request = { 0 };
	struct flows_tables tables = { 0 };
	struct haul_err err = { 0 };
	int rc;

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	rc = flows_tables_open(&tables, &request.names, &err);
	for (uint32_t i = 0; rc >= 0 && i < tables.count; i++)
		rc = clean(&request, tables.flows[i], &err);
	flows_tables_close(&tables);
	return rc < 0 ? cli_fail("flows clean", &err) : CLI_OK;
}
