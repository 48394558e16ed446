/* Each connection is announced once, as present or opened, and ends once, as closed. Three things
 * tell about it: the first scan, the ring of events, and later scans (which see a new connection
 * before its event is read, or when the ring had no room for it). Whoever is first announces it and
 * enters it in the past; the others find it there. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/cli.h"
#include "cli/flows.h"
#include "cli/flows_loop.h"
#include "cli/flows_past.h"
#include "cli/flows_query.h"
#include "cli/flows_record.h"
#include "cli/flows_tables.h"
#include "cli/option.h"
#include "os/os.h"

enum { KEY_INTERVAL = 256, KEY_COUNT, KEY_FOR };

/* SLICE_MS: a signal is noticed after so long at the latest. */
enum { SLICE_MS = 100, COUNT_MAX = 1000000000, LIFE_MASK = 0xff };

struct request {
	struct option_words words; /* NAME */
	struct flows_query query;
	int64_t interval_ns;
	int64_t for_ns; /* 0 = for ever */
	uint64_t count; /* lines; 0 = any number */
};

struct watcher {
	const struct request *request;
	struct haul_flows *flows;
	struct flows_past past;
	int stop_fd;
	int64_t began_ns;
	int64_t now_ns;
	uint64_t lines;
	bool first; /* scan */
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &request->query;
		return 0;
	case KEY_INTERVAL:
		request->interval_ns = flows_query_duration("interval", arg, state);
		return 0;
	case KEY_COUNT:
		request->count = option_number("count", arg, 1, COUNT_MAX, state);
		return 0;
	case KEY_FOR:
		request->for_ns = flows_query_duration("for", arg, state);
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

static bool enough(const struct watcher *watcher)
{
	const struct request *request = watcher->request;

	return (request->count > 0 && watcher->lines >= request->count) || ferror(stdout);
}

/* ---- lines ---- */

static void put_delta(const char *what, const uint64_t delta[2], int tx)
{
	printf(",\"delta_%s_tx\":%" PRIu64 ",\"delta_%s_rx\":%" PRIu64, what, delta[tx], what,
	       delta[!tx]);
}

/* delta: NULL = none is told. */
static void put(struct watcher *watcher, const char *event, const struct haul_flow_key *key,
		const struct haul_flow_value *value, const struct flows_delta *delta)
{
	const struct flows_record record = {
		.table = haul_flows_info(watcher->flows)->name,
		.key = key,
		.value = value,
		.now_ns = watcher->now_ns,
	};
	int tx = value->initiator == HAUL_FLOW_INITIATOR_HI;

	if (enough(watcher) || !flows_query_match(&watcher->request->query, key, value))
		return;
	printf("{\"event\":\"%s\",\"time_ns\":%" PRId64 ",", event, watcher->now_ns);
	flows_record_json(stdout, &record);
	if (delta != NULL) {
		put_delta("packets", delta->packets, tx);
		put_delta("bytes", delta->bytes, tx);
		put_delta("payload", delta->payload, tx);
	}
	(void)fputs("}\n", stdout);
	watcher->lines++;
}

static void take_event(struct watcher *watcher, const struct haul_flow_event *event)
{
	const struct haul_flow_key *key = &event->key;
	const struct haul_flow_value *value = &event->value;
	bool closed = event->kind == HAUL_FLOW_EVENT_CLOSED;
	struct flows_delta delta;
	enum flows_past_found found =
		closed ? flows_past_end(&watcher->past, 0, key, value, &delta)
		       : flows_past_note(&watcher->past, 0, key, value, &delta);

	if (found == FLOWS_PAST_ENDED)
		return;
	if (found == FLOWS_PAST_NEW || (found == FLOWS_PAST_FULL && !closed)) {
		put(watcher, "opened", key, value, &delta);
		delta = (struct flows_delta){ 0 };
	}
	if (closed)
		put(watcher, "closed", key, value, &delta);
}

static void visit_events(const struct haul_flow_event *events, uint32_t count, void *arg)
{
	struct watcher *watcher = arg;

	watcher->now_ns = os_linux()->now_ns(os_linux());
	for (uint32_t i = 0; i < count; i++)
		if (flows_query_match_ends(&watcher->request->query, &events[i].key))
			take_event(watcher, &events[i]);
}

static bool changed(const struct flows_delta *delta)
{
	return delta->packets[0] != 0 || delta->packets[1] != 0;
}

static void take_entry(struct watcher *watcher, const struct haul_flow_key *key,
		       const struct haul_flow_value *value)
{
	bool before = value->first_ns < (uint64_t)watcher->began_ns;
	struct flows_delta delta;

	/* Its event has been sent, and may have been read. */
	if ((value->life & LIFE_MASK) == HAUL_FLOW_DEAD)
		return;
	switch (flows_past_note(&watcher->past, 0, key, value, &delta)) {
	case FLOWS_PAST_NEW:
		put(watcher, before ? "present" : "opened", key, value, before ? NULL : &delta);
		return;
	case FLOWS_PAST_KNOWN:
	case FLOWS_PAST_AGAIN:
		if (changed(&delta))
			put(watcher, "changed", key, value, &delta);
		return;
	case FLOWS_PAST_FULL:
		if (watcher->first)
			put(watcher, "present", key, value, NULL);
		return;
	case FLOWS_PAST_ENDED:
		return;
	}
}

static int visit_entries(const struct haul_map_batch *batch, void *arg)
{
	struct watcher *watcher = arg;

	for (uint32_t i = 0; i < batch->count; i++)
		take_entry(watcher, haul_map_key(batch, i), haul_map_value(batch, i));
	return enough(watcher);
}

/* ---- the loop ---- */

/* Only what cannot change is tested by the scan: what has no line now may have one later. */
static int scan(struct watcher *watcher, struct haul_err *err)
{
	struct haul_flow_query query = watcher->request->query.fixed;
	struct haul_map_report report;
	int rc;

	query.states = 0;
	query.bytes_min = 0;
	watcher->now_ns = os_linux()->now_ns(os_linux());
	flows_past_turn(&watcher->past);
	rc = haul_flows_scan(watcher->flows, &query, visit_entries, watcher, &report);
	watcher->first = false;
	if (rc < 0)
		return haul_err_set(err, rc, "%s: reading the table: %s",
				    haul_flows_info(watcher->flows)->name, haul_strerror(rc));
	return flows_loop_flush(err);
}

static int poll_events(struct watcher *watcher, int timeout_ms, struct haul_err *err)
{
	int rc = haul_flows_poll(watcher->flows, timeout_ms, visit_events, watcher);

	if (rc < 0 && rc != -EINTR)
		return haul_err_set(err, rc, "%s: reading events: %s",
				    haul_flows_info(watcher->flows)->name, haul_strerror(rc));
	return flows_loop_flush(err);
}

static int until_next(int64_t next_ns)
{
	int64_t left_ms = (next_ns - os_linux()->now_ns(os_linux())) / NS_PER_MS;

	if (left_ms < 0)
		return 0;
	return left_ms < SLICE_MS ? (int)left_ms + 1 : SLICE_MS;
}

static int watch(struct watcher *watcher, struct haul_err *err)
{
	const struct request *request = watcher->request;
	int64_t end_ns = request->for_ns > 0 ? watcher->began_ns + request->for_ns : INT64_MAX;
	int64_t next_ns = watcher->began_ns;
	int rc = 0;

	HAUL_ASSERT(request->interval_ns > 0);
	while (rc == 0 && !enough(watcher)) {
		int64_t now_ns = os_linux()->now_ns(os_linux());

		if (now_ns >= end_ns || flows_loop_wait(watcher->stop_fd, -1, 0) == FLOWS_LOOP_STOP)
			break;
		if (now_ns >= next_ns) {
			rc = scan(watcher, err);
			next_ns = now_ns + request->interval_ns;
		}
		if (rc == 0)
			rc = poll_events(watcher, until_next(next_ns < end_ns ? next_ns : end_ns),
					 err);
	}
	if (rc == 0)
		rc = poll_events(watcher, 0, err);
	return rc == -EPIPE ? 0 : rc;
}

static int run(const struct request *request, struct haul_err *err)
{
	const char *name = request->words.count > 0 ? request->words.word[0] : NULL;
	struct watcher watcher = { .request = request, .first = true };
	int rc = flows_tables_open_one(&watcher.flows, name, err);

	if (rc < 0)
		return rc;
	watcher.stop_fd = flows_loop_open(err);
	rc = watcher.stop_fd;
	if (rc < 0)
		goto close_flows;
	rc = flows_past_init(&watcher.past);
	if (rc < 0) {
		(void)haul_err_set(err, rc, "%s", haul_strerror(rc));
		goto close_stop;
	}
	watcher.began_ns = os_linux()->now_ns(os_linux());
	rc = haul_flows_listen(watcher.flows, err);
	if (rc == 0) {
		rc = watch(&watcher, err);
		haul_flows_unlisten(watcher.flows);
	}
	if (watcher.past.refused > 0)
		fprintf(stderr,
			"haul: %s: more connections than can be remembered: of some no "
			"changes were told\n",
			haul_flows_info(watcher.flows)->name);
	flows_past_done(&watcher.past);
close_stop:
	(void)close(watcher.stop_fd);
close_flows:
	haul_flows_close(watcher.flows);
	return rc;
}

static const struct argp_option options[] = {
	{ "interval", KEY_INTERVAL, "TIME", 0, "look for changes so often (1s)", 0 },
	{ "count", KEY_COUNT, "N", 0, "end after N lines", 0 },
	{ "for", KEY_FOR, "TIME", 0, "end after so long", 0 },
	{ 0 }
};

int flows_watch(int argc, char **argv)
{
	static const struct argp_child children[] = { { &flows_query_argp_events, 0, NULL, 0 },
						      { 0 } };
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[NAME]",
		.doc = "Print a line of JSON for each connection that is there at the start "
		       "(\"present\"), begins (\"opened\"), carried packets since the last look "
		       "(\"changed\") and was removed (\"closed\"), until Ctrl-C.\v"
		       "Opened and closed come from the kernel, once each, however short the "
		       "connection was. The delta_ fields say what passed since the connection "
		       "was last looked at. One watch a table at a time.\n\n"
		       "Examples:\n"
		       "  sudo haul flows watch eth0 --proto tcp --port 443\n"
		       "  sudo haul flows watch eth0 --for 10s | jq 'select(.event == "
		       "\"closed\")'\n",
		.children = children,
	};
	struct request request = { .words = { .max = 1 }, .interval_ns = NS_PER_S };
	struct haul_err err = { 0 };

	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	return run(&request, &err) < 0 ? cli_fail("flows watch", &err) : CLI_OK;
}
