#include "node/status.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <haul/link.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "os/unixsock.h"

struct reader {
	int fd; /* -1 = free */
	char *text;
	size_t bytes;
	size_t sent;
	int64_t until_ns;
};

struct status {
	struct status_source source;
	char path[108];
	int fd;
	struct reader reader[STATUS_CLIENTS];
	struct route routes[NODE_ROUTES_MAX]; /* work space: too large for a stack */
	struct control_candidate candidates[NODE_ROUTES_MAX];
};

/* ---- the document ---- */

static json_t *mac_text(uint64_t mac)
{
	struct haul_addr addr = { .kind = HAUL_ADDR_MAC };
	char text[HAUL_ADDR_TEXT];
	mac_store(addr.bytes, mac);
	return json_string(haul_addr_format(&addr, text));
}

static const char *role_text(uint32_t role)
{
	return role == NODE_OBU ? "obu" : "rsu";
}

static const char *port_text(uint32_t port)
{
	static const char *const names[NODE_PORTS] = { "tap", "radio", "backhaul" };
	HAUL_ASSERT(port < NODE_PORTS);
	return names[port];
}

/* Only the datapath changes peers; one that it replaces this very moment may come out mixed, which
 * is of no consequence here. */
static json_t *next_text(const struct status_source *source, const struct hop *next)
{
	char text[HAUL_ADDR_TEXT];
	struct haul_addr addr;
	HAUL_ASSERT(next->port < NODE_PORTS);
	if (source->link[next->port] == NULL ||
	    haul_link_peer_addr(source->link[next->port], next->peer, &addr) < 0)
		return json_null();
	return json_string(haul_addr_format(&addr, text));
}

static json_t *hist_json(const struct haul_hist *hist)
{
	return json_pack("{s:f, s:I, s:I, s:I}", "mean", haul_hist_mean(hist), "p50",
			 (json_int_t)haul_hist_quantile(hist, 0.5), "p99",
			 (json_int_t)haul_hist_quantile(hist, 0.99), "max", (json_int_t)hist->max);
}

static json_t *closed_json(const struct haul_stats *stats)
{
	json_t *closed = json_object();
	for (uint32_t i = HAUL_CLOSE_NONE + 1; i < HAUL_CLOSE_REASONS; i++)
		json_object_set_new(closed, haul_close_name((enum haul_close)i),
				    json_integer((json_int_t)stats->closed[i]));
	return closed;
}

static json_t *counters_json(const struct haul_stats *stats)
{
	json_t *counters = json_object();
	for (uint32_t i = 0; i < stats->counter_count; i++)
		json_object_set_new(counters, stats->counters[i].name,
				    json_integer((json_int_t)stats->extra[i]));
	return counters;
}

static void add_block(const struct haul_stats *stats, void *arg)
{
	json_array_append_new(
		arg,
		json_pack("{s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "name", stats->name,
			  "ops", (json_int_t)stats->ops, "batches", (json_int_t)stats->batches,
			  "bytes", (json_int_t)stats->bytes, "syscalls",
			  (json_int_t)stats->syscalls, "closed", closed_json(stats), "counters",
			  counters_json(stats), "fill", hist_json(&stats->fill), "wait_ns",
			  hist_json(&stats->wait_ns), "service_ns", hist_json(&stats->service_ns)));
}

static json_t *candidate_json(const struct status_source *source,
			      const struct control_candidate *candidate, int64_t now_ns)
{
	return json_pack("{s:o, s:o, s:I, s:f, s:I, s:s, s:I, s:o, s:b}", "rsu",
			 mac_text(candidate->rsu), "next_node", mac_text(candidate->next_node),
			 "hops", (json_int_t)candidate->hops, "reception", candidate->reception,
			 "heard_ago_ns", (json_int_t)(now_ns - candidate->heard_ns), "port",
			 port_text(candidate->next.port), "peer", (json_int_t)candidate->next.peer,
			 "next", next_text(source, &candidate->next), "chosen", candidate->chosen);
}

/* Fills both lists; returns the chosen candidate, or null. */
static json_t *candidates_json(struct status *status, int64_t now_ns, json_t *list)
{
	json_t *upstream = NULL;
	uint32_t count =
		control_candidates(status->source.control, status->candidates, NODE_ROUTES_MAX);
	for (uint32_t i = 0; i < count; i++) {
		json_array_append_new(
			list, candidate_json(&status->source, &status->candidates[i], now_ns));
		if (status->candidates[i].chosen && upstream == NULL)
			upstream = candidate_json(&status->source, &status->candidates[i], now_ns);
	}
	return upstream != NULL ? upstream : json_null();
}

static json_t *routes_json(struct status *status)
{
	json_t *list = json_array();
	uint32_t count = control_routes(status->source.control, status->routes, NODE_ROUTES_MAX);
	for (uint32_t i = 0; i < count; i++) {
		const struct route *route = &status->routes[i];
		json_array_append_new(list, json_pack("{s:o, s:s, s:I, s:I, s:s, s:I, s:o}", "node",
						      mac_text(route->node), "role",
						      role_text(route->role), "hops",
						      (json_int_t)route->hops, "rtt_ns",
						      (json_int_t)route->rtt_ns, "port",
						      port_text(route->next.port), "peer",
						      (json_int_t)route->next.peer, "next",
						      next_text(&status->source, &route->next)));
	}
	return list;
}

/* The whole document as text for free(), or NULL without memory. */
static char *document_build(struct status *status, uint32_t clients, int64_t now_ns)
{
	const struct status_source *source = &status->source;
	json_t *candidates = json_array();
	json_t *stats = json_array();
	json_t *upstream = candidates_json(status, now_ns, candidates);
	json_t *flows =
		source->connections != NULL ? connections_json(source->connections) : json_null();
	haul_stats_visit(source->stats, add_block, stats);
	json_t *root = json_pack(
		"{s:s, s:s, s:o, s:I, s:I, s:o, s:o, s:o, s:I, s:o, s:o}", "node", source->name,
		"role", role_text(source->role), "id", mac_text(source->id), "uptime_ns",
		(json_int_t)(now_ns - source->start_ns), "tap_mtu", (json_int_t)source->tap_mtu,
		"upstream", upstream, "candidates", candidates, "routes", routes_json(status),
		"clients", (json_int_t)clients, "flows", flows, "stats", stats);
	char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	return text;
}

/* ---- readers ---- */

static void reader_end(struct reader *reader)
{
	(void)close(reader->fd);
	free(reader->text);
	*reader = (struct reader){ .fd = -1 };
}

/* As much as they take now; ends the reader when that was all, or when they are gone. */
static void reader_write(struct reader *reader)
{
	while (reader->sent < reader->bytes) {
		ssize_t n = send(reader->fd, reader->text + reader->sent,
				 reader->bytes - reader->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			break;
		reader->sent += (size_t)n;
	}
	reader_end(reader);
}

static struct reader *free_reader(struct status *status)
{
	for (uint32_t i = 0; i < STATUS_CLIENTS; i++)
		if (status->reader[i].fd < 0)
			return &status->reader[i];
	return NULL;
}

static void accept_all(struct status *status, uint32_t clients, int64_t now_ns)
{
	struct reader *reader;
	while ((reader = free_reader(status)) != NULL) {
		int fd = accept4(status->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		char *text = document_build(status, clients, now_ns);
		*reader = (struct reader){
			.fd = fd,
			.text = text,
			.bytes = text != NULL ? strlen(text) : 0,
			.until_ns = now_ns + STATUS_PATIENCE_NS,
		};
		reader_write(reader);
	}
}

void status_serve(struct status *status, uint32_t clients, int64_t now_ns)
{
	for (uint32_t i = 0; i < STATUS_CLIENTS; i++) {
		struct reader *reader = &status->reader[i];
		if (reader->fd < 0)
			continue;
		if (now_ns >= reader->until_ns)
			reader_end(reader);
		else
			reader_write(reader);
	}
	accept_all(status, clients, now_ns);
}

uint32_t status_poll(const struct status *status, struct pollfd fds[STATUS_FDS])
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < STATUS_CLIENTS; i++)
		if (status->reader[i].fd >= 0)
			fds[count++] =
				(struct pollfd){ .fd = status->reader[i].fd, .events = POLLOUT };
	if (count < STATUS_CLIENTS)
		fds[count++] = (struct pollfd){ .fd = status->fd, .events = POLLIN };
	return count;
}

int64_t status_deadline(const struct status *status)
{
	int64_t until_ns = INT64_MAX;
	for (uint32_t i = 0; i < STATUS_CLIENTS; i++)
		if (status->reader[i].fd >= 0 && status->reader[i].until_ns < until_ns)
			until_ns = status->reader[i].until_ns;
	return until_ns;
}

/* ---- open and close ---- */

int status_open(const char *path, const struct status_source *source, struct status **ret_status,
		struct haul_err *err)
{
	HAUL_ASSERT(source->control != NULL && source->stats != NULL && source->link != NULL);
	int fd = unixsock_listen(path, err);
	if (fd < 0)
		return haul_err_wrap(err, fd, "control");
	struct status *status = calloc(1, sizeof *status);
	if (status == NULL) {
		(void)close(fd);
		(void)unlink(path);
		return haul_err_set(err, -ENOMEM, "control: no memory");
	}
	HAUL_ASSERT(strlen(path) < sizeof status->path);
	memcpy(status->path, path, strlen(path) + 1);
	status->source = *source;
	status->fd = fd;
	for (uint32_t i = 0; i < STATUS_CLIENTS; i++)
		status->reader[i].fd = -1;
	*ret_status = status;
	return 0;
}

void status_close(struct status *status)
{
	if (status == NULL)
		return;
	for (uint32_t i = 0; i < STATUS_CLIENTS; i++)
		if (status->reader[i].fd >= 0)
			reader_end(&status->reader[i]);
	(void)close(status->fd);
	(void)unlink(status->path);
	free(status);
}
