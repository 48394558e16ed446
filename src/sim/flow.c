#include "sim/flow.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/prng.h"

enum {
	PORT_FIRST = 5201, /* namespaces are ours alone: ports cannot be taken */
	ARG_BYTES = 48,
	CHUNK_BYTES = 8192,
	MIB_BYTES = 1024 * 1024,
	PROC_LINE_BYTES = 256,
	TCP_LISTEN = 10, /* st of a listening socket in /proc/net/tcp */
	GRACE_S = 3      /* for what is still under way when the time of a flow is over */
};

static const char *const state_names[] = {
	"waits", "runs", "checks", "passed", "failed", "skipped"
};

/* Python's own file server, with the congestion control pinned: the default of a namespace can only
 * be one that the host allows to everybody. */
static const char http_server[] =
	"import functools, http.server, socket, sys\n"
	"address, port, directory = sys.argv[1:]\n"
	"handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=directory)\n"
	"server = http.server.ThreadingHTTPServer((address, int(port)), handler)\n"
	"server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b'cubic')\n"
	"server.serve_forever()\n";

const char *flow_state_name(enum flow_state state)
{
	HAUL_ASSERT((size_t)state < sizeof state_names / sizeof state_names[0]);
	return state_names[state];
}

const char *const *flow_programs(enum scenario_kind kind)
{
	static const char *const ping[] = { "ping", NULL };
	static const char *const iperf3[] = { "iperf3", NULL };
	static const char *const http[] = { "curl", "python3", "sha256sum", NULL };

	if (kind == SCENARIO_HTTP)
		return http;
	return kind == SCENARIO_PING ? ping : iperf3;
}

void flow_init(struct flow *flow, const struct scenario_flow *spec, uint32_t index,
	       double duration_s)
{
	double room_s = duration_s - 1 - spec->start_s;

	memset(flow, 0, sizeof *flow);
	measure_init(&flow->measure);
	flow->spec = spec;
	flow->index = index;
	flow->port = (uint16_t)(PORT_FIRST + index);
	flow->seconds = spec->seconds > 0 && spec->seconds < room_s ? spec->seconds : room_s;
	if (flow->seconds < 1) {
		flow->state = FLOW_SKIPPED;
		(void)snprintf(flow->why, sizeof flow->why, "the run is too short for it");
	}
}

void flow_fail(struct flow *flow, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(flow->why, sizeof flow->why, format, args);
	va_end(args);
	flow->state = FLOW_FAILED;
	child_end(&flow->client);
	child_end(&flow->checker);
}

bool flow_is_over(const struct flow *flow)
{
	return flow->state == FLOW_PASSED || flow->state == FLOW_FAILED ||
	       flow->state == FLOW_SKIPPED;
}

void flow_close(struct flow *flow)
{
	child_end(&flow->client);
	child_end(&flow->checker);
	child_end(&flow->server);
}

/* ---- server ---- */

static void path_in(const struct flow *flow, const char *name, char path[CHILD_PATH_BYTES])
{
	int bytes = snprintf(path, CHILD_PATH_BYTES, "%s/%s", flow->dir, name);

	HAUL_ASSERT(bytes > 0 && bytes < CHILD_PATH_BYTES);
}

/* Random bytes: nothing on the way can make them smaller, and any mix-up shows. */
static int write_payload(const struct flow *flow, uint64_t seed, struct haul_err *err)
{
	uint64_t chunk[CHUNK_BYTES / sizeof(uint64_t)];
	char path[CHILD_PATH_BYTES];
	struct prng prng;
	FILE *file;
	int rc = 0;

	path_in(flow, "payload", path);
	file = fopen(path, "we");
	if (file == NULL)
		return haul_err_set(err, -errno, "%s: %s", path, haul_strerror(-errno));
	prng_init(&prng, seed + flow->index);
	for (uint32_t i = 0; rc == 0 && i < flow->spec->size_mib * (MIB_BYTES / CHUNK_BYTES); i++) {
		for (size_t k = 0; k < sizeof chunk / sizeof chunk[0]; k++)
			chunk[k] = prng_next(&prng);
		if (fwrite(chunk, sizeof chunk, 1, file) != 1)
			rc = -EIO;
	}
	if (fclose(file) != 0 && rc == 0)
		rc = -errno;
	return rc < 0 ? haul_err_set(err, rc, "%s: %s", path, haul_strerror(rc)) : 0;
}

static int start_server(struct flow *flow, const char *const argv[], struct haul_err *err)
{
	char path[CHILD_PATH_BYTES];

	path_in(flow, "server.log", path);
	return child_start(&flow->server, flow->to.netns_fd, argv, path, err);
}

int flow_prepare(struct flow *flow, const char *dir, uint64_t seed, struct haul_err *err)
{
	char port[ARG_BYTES];
	int bytes = snprintf(flow->dir, sizeof flow->dir, "%s/flow%u", dir, flow->index);
	int rc = 0;

	HAUL_ASSERT(bytes > 0 && bytes < CHILD_PATH_BYTES);
	(void)snprintf(port, sizeof port, "%u", flow->port);
	if (mkdir(flow->dir, 0700) < 0)
		return haul_err_set(err, -errno, "%s: %s", flow->dir, haul_strerror(-errno));
	if (flow->state == FLOW_SKIPPED || flow->spec->kind == SCENARIO_PING)
		return 0;
	if (flow->spec->kind == SCENARIO_HTTP) {
		const char *const argv[] = { "python3", "-c",      http_server, flow->to.address,
					     port,      flow->dir, NULL };

		rc = write_payload(flow, seed, err);
		return rc < 0 ? rc : start_server(flow, argv, err);
	}
	const char *const argv[] = { "iperf3", "-s", "-p", port, NULL };
	return start_server(flow, argv, err);
}

/* A line of /proc/PID/net/tcp: "0: 0100007F:1F90 00000000:0000 0A …", numbers in hexadecimal. */
static bool line_listens(const char *line, uint16_t port)
{
	const char *at = strchr(line, ':');
	char *end;
	unsigned long local_port;

	at = at == NULL ? NULL : strchr(at + 1, ':');
	if (at == NULL)
		return false;
	local_port = strtoul(at + 1, &end, 16);
	at = strchr(end, ':');
	if (local_port != port || at == NULL)
		return false;
	(void)strtoul(at + 1, &end, 16);
	return strtoul(end, NULL, 16) == TCP_LISTEN;
}

/* The file shows the namespace of that process. */
static bool process_listens(int pid, const char *table, uint16_t port)
{
	char line[PROC_LINE_BYTES];
	FILE *file;
	bool found = false;

	(void)snprintf(line, sizeof line, "/proc/%d/net/%s", pid, table);
	file = fopen(line, "re");
	if (file == NULL)
		return false;
	while (!found && fgets(line, sizeof line, file) != NULL)
		found = line_listens(line, port);
	(void)fclose(file);
	return found;
}

bool flow_is_ready(struct flow *flow)
{
	if (!flow->server.started || flow_is_over(flow))
		return true;
	if (!child_runs(&flow->server))
		return false;
	return process_listens(flow->server.pid, "tcp", flow->port) ||
	       process_listens(flow->server.pid, "tcp6", flow->port);
}

/* ---- client ---- */

static int start_client(struct flow *flow, const char *const argv[], struct haul_err *err)
{
	char path[CHILD_PATH_BYTES];

	path_in(flow, "client.log", path);
	return child_start(&flow->client, flow->from.netns_fd, argv, path, err);
}

static int begin_ping(struct flow *flow, struct haul_err *err)
{
	char interval[ARG_BYTES];
	char seconds[ARG_BYTES];
	char identifier[ARG_BYTES];
	const char *const argv[] = { "ping",  "-D", "-i",       interval,         "-w",
				     seconds, "-e", identifier, flow->to.address, NULL };

	(void)snprintf(identifier, sizeof identifier, "%u", flow->port);
	(void)snprintf(interval, sizeof interval, "%.3f", flow->spec->interval_ms / 1000.0);
	(void)snprintf(seconds, sizeof seconds, "%.0f", ceil(flow->seconds));
	return start_client(flow, argv, err);
}

static int begin_iperf3(struct flow *flow, struct haul_err *err)
{
	bool udp = flow->spec->kind == SCENARIO_IPERF3_UDP;
	char port[ARG_BYTES];
	char seconds[ARG_BYTES];
	char rate[ARG_BYTES];
	const char *const argv[] = { "iperf3",
				     "-J",
				     "-c",
				     flow->to.address,
				     "-p",
				     port,
				     "-t",
				     seconds,
				     "--connect-timeout",
				     "5000",
				     "-b",
				     rate,
				     udp ? "-u" : "-C",
				     udp ? "-l" : "cubic",
				     udp ? "1200" : NULL,
				     NULL };

	(void)snprintf(port, sizeof port, "%u", flow->port);
	(void)snprintf(seconds, sizeof seconds, "%.0f", floor(flow->seconds));
	(void)snprintf(rate, sizeof rate, "%.0fK", flow->spec->rate_mbit * 1000);
	return start_client(flow, argv, err);
}

static int begin_http(struct flow *flow, struct haul_err *err)
{
	char path[CHILD_PATH_BYTES];
	char url[CHILD_PATH_BYTES];
	char seconds[ARG_BYTES];
	const char *const argv[] = { "curl",       "-sS",   "--fail", "--noproxy",         "*",
				     "--max-time", seconds, "-w",     MEASURE_CURL_FORMAT, "-o",
				     path,         url,     NULL };

	path_in(flow, "copy", path);
	(void)snprintf(url, sizeof url, "http://%s:%u/payload", flow->to.address, flow->port);
	(void)snprintf(seconds, sizeof seconds, "%.1f", flow->seconds);
	return start_client(flow, argv, err);
}

int flow_begin(struct flow *flow, double now_s, struct haul_err *err)
{
	int rc;

	HAUL_ASSERT(flow->state == FLOW_WAITS);
	if (flow->spec->kind == SCENARIO_PING)
		rc = begin_ping(flow, err);
	else if (flow->spec->kind == SCENARIO_HTTP)
		rc = begin_http(flow, err);
	else
		rc = begin_iperf3(flow, err);
	if (rc < 0)
		return rc;
	flow->begun_s = now_s;
	flow->state = FLOW_RUNS;
	return 0;
}

int32_t flow_port(const struct flow *flow)
{
	return flow->spec->kind == SCENARIO_PING ? flow->port : flow->measure.said.port;
}

/* ---- verdict ---- */

static int measure_client(struct flow *flow, const char *output, struct haul_err *err)
{
	switch (flow->spec->kind) {
	case SCENARIO_PING:
		return measure_ping(output, flow->spec->interval_ms, &flow->measure, err);
	case SCENARIO_IPERF3_TCP:
		return measure_iperf3_tcp(output, &flow->measure, err);
	case SCENARIO_IPERF3_UDP:
		return measure_iperf3_udp(output, &flow->measure, err);
	case SCENARIO_HTTP:
		break;
	}
	return measure_curl(output, &flow->measure, err);
}

/* What the scenario demands beyond that it worked at all. */
static void judge(struct flow *flow)
{
	const struct scenario_flow *spec = flow->spec;
	const struct measure *measure = &flow->measure;
	double loss_max = spec->loss_max != NULL ? *spec->loss_max : 0.5;

	if (measure->received <= 0)
		flow_fail(flow, "nothing arrived");
	else if (spec->hops > 0 && flow->hops != spec->hops)
		flow_fail(flow, "its route had %u radio hops, want %u", flow->hops, spec->hops);
	else if (measure->loss > loss_max)
		flow_fail(flow, "lost %.1f %%, want at most %.1f %%", measure->loss * 100,
			  loss_max * 100);
	else if (spec->gap_max_ms > 0 && measure->gap_ms > spec->gap_max_ms)
		flow_fail(flow, "silent for %.0f ms, want at most %u ms", measure->gap_ms,
			  spec->gap_max_ms);
	else
		flow->state = FLOW_PASSED;
}

static void start_checker(struct flow *flow)
{
	char log[CHILD_PATH_BYTES];
	char original[CHILD_PATH_BYTES];
	char copy[CHILD_PATH_BYTES];
	const char *const argv[] = { "sha256sum", original, copy, NULL };
	struct haul_err err = { 0 };

	path_in(flow, "check.log", log);
	path_in(flow, "payload", original);
	path_in(flow, "copy", copy);
	if (child_start(&flow->checker, flow->from.netns_fd, argv, log, &err) < 0)
		flow_fail(flow, "%s", err.text);
	else
		flow->state = FLOW_CHECKS;
}

/* sha256sum says "<sum>  <file>" twice. */
static void check_sums(struct flow *flow)
{
	char *output = child_output(&flow->checker);
	const char *second = output == NULL ? NULL : strchr(output, '\n');
	size_t sum_chars = output == NULL ? 0 : strcspn(output, " ");

	flow->sum_matches = child_succeeded(&flow->checker) && second != NULL && sum_chars == 64 &&
			    strncmp(output, second + 1, sum_chars) == 0;
	free(output);
	if (flow->sum_matches)
		judge(flow);
	else
		flow_fail(flow, "the SHA-256 sums of file and copy differ");
}

static void client_ended(struct flow *flow)
{
	struct haul_err err = { 0 };
	char epitaph[FLOW_WHY_BYTES];
	char *output = child_output(&flow->client);
	int rc = output == NULL
			 ? haul_err_set(&err, -EIO, "%s: cannot be read", flow->client.log_path)
			 : measure_client(flow, output, &err);

	free(output);
	/* ping ends with status 1 when an answer is missing: its summary counts, not that */
	if (rc < 0) {
		flow_fail(flow, "%s", err.text);
	} else if (flow->spec->kind != SCENARIO_PING && !child_succeeded(&flow->client)) {
		child_epitaph(&flow->client, epitaph, sizeof epitaph);
		flow_fail(flow, "%s", epitaph);
	} else if (flow->spec->kind == SCENARIO_HTTP) {
		flow->measure.sent = (int64_t)flow->spec->size_mib * MIB_BYTES;
		start_checker(flow);
	} else {
		judge(flow);
	}
}

void flow_poll(struct flow *flow, double now_s)
{
	double late_s = now_s - flow->begun_s - flow->seconds;

	if (flow->state == FLOW_WAITS && flow->server.started && !child_runs(&flow->server)) {
		char epitaph[FLOW_WHY_BYTES];

		child_epitaph(&flow->server, epitaph, sizeof epitaph);
		flow_fail(flow, "its server ended: %.160s", epitaph);
	} else if (flow->state == FLOW_RUNS && !child_runs(&flow->client)) {
		client_ended(flow);
	} else if (flow->state == FLOW_RUNS && late_s > GRACE_S) {
		flow_fail(flow, "did not end within %.0f s", flow->seconds + GRACE_S);
	} else if (flow->state == FLOW_CHECKS && !child_runs(&flow->checker)) {
		check_sums(flow);
	}
}
