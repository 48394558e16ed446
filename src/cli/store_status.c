#include "cli/store_status.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/unixsock.h"

enum { PATH_BYTES = 4096, PATIENCE_S = 2 };

struct store_status {
	struct store_status_source source;
	char path[PATH_BYTES];
	int listen_fd, stop_fd;
	pthread_t thread;
};

/* ---- the document ---- */

static json_t *number(uint64_t value)
{
	return json_integer((json_int_t)value);
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
				    number(stats->closed[i]));
	return closed;
}

static void add_block(const struct haul_stats *stats, void *arg)
{
	json_t *counters = json_object();
	for (uint32_t i = 0; i < stats->counter_count; i++)
		json_object_set_new(counters, stats->counters[i].name, number(stats->extra[i]));
	json_array_append_new(arg, json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
					     "name", stats->name, "ops", number(stats->ops),
					     "batches", number(stats->batches), "bytes",
					     number(stats->bytes), "syscalls",
					     number(stats->syscalls), "closed", closed_json(stats),
					     "counters", counters, "fill", hist_json(&stats->fill),
					     "wait_ns", hist_json(&stats->wait_ns), "service_ns",
					     hist_json(&stats->service_ns)));
}

static json_t *uuid_json(const uint8_t uuid[16])
{
	char text[33];
	for (uint32_t i = 0; i < 16; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", uuid[i]);
	return json_string(text);
}

static json_t *levels_json(const struct haul_store_status *status)
{
	json_t *levels = json_array();
	for (uint32_t i = 0; i < status->level_count; i++)
		json_array_append_new(levels, json_pack("{s:o, s:o, s:o, s:o}", "runs",
							number(status->level[i].runs), "tables",
							number(status->level[i].tables), "rows",
							number(status->level[i].rows), "bytes",
							number(status->level[i].bytes)));
	return levels;
}

static json_t *amplification_json(const struct haul_store_status *status)
{
	const uint64_t written =
		status->bytes_logged + status->bytes_flushed + status->bytes_merged;
	return status->bytes_logged > 0 ? json_real((double)written / (double)status->bytes_logged)
					: json_null();
}

static void add_figures(json_t *root, const struct haul_store_status *status)
{
	const struct {
		const char *name;
		size_t offset;
	} numbers[] = {
#define X(name) { #name, offsetof(struct haul_store_status, name) }
		X(op_last),           X(op_checkpoint), X(log_bytes),       X(memtable_bytes),
		X(memory_bytes),      X(debt_bytes),    X(bytes_logged),    X(bytes_flushed),
		X(bytes_merged),      X(flushes),       X(merges),          X(checkpoints),
		X(sync_ns),           X(throttle_ns),   X(throttle_max_ns), X(filter_bytes),
		X(tables_unfiltered),
#undef X
	};
	for (uint32_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		uint64_t value;
		memcpy(&value, (const char *)status + numbers[i].offset, sizeof value);
		json_object_set_new(root, numbers[i].name, number(value));
	}
}

/* stats goes into it. */
static json_t *document(const char *where, bool served, const struct haul_store_status *status,
			json_t *stats)
{
	json_t *root = json_object();
	json_object_set_new(root, "where", json_string(where));
	json_object_set_new(root, "uuid", uuid_json(status->uuid));
	json_object_set_new(root, "served", json_boolean(served));
	add_figures(root, status);
	json_object_set_new(root, "arrivals_per_s", json_real(status->arrivals_per_s));
	json_object_set_new(root, "write_amplification", amplification_json(status));
	json_object_set_new(root, "levels", levels_json(status));
	json_object_set_new(root, "stats", stats);
	return root;
}

struct json_t *store_status_json(const struct store_status_source *source)
{
	struct haul_store_status status;
	json_t *stats = json_array();
	haul_store_status(source->store, &status);
	haul_stats_visit(source->stats, add_block, stats);
	return document(source->folder, source->served, &status, stats);
}

struct json_t *store_status_of_server(struct haul_client *client, const char *address,
				      struct haul_err *err)
{
	struct haul_store_status status;
	json_t *stats = json_array();
	const int rc = haul_client_status(client, &status, add_block, stats);
	if (rc == 0)
		return document(address, true, &status, stats);
	json_decref(stats);
	(void)haul_err_set(err, rc, "%s: %s", address,
			   rc == HAUL_ETYPE ? "the server is of an earlier version: it tells this "
					      "to who asks by its folder only"
					    : haul_strerror(rc));
	return NULL;
}

/* ---- the socket ---- */

static void answer(const struct store_status *status, int fd)
{
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	json_t *root = store_status_json(&status->source);
	char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
	size_t bytes = text != NULL ? strlen(text) : 0, sent = 0;
	ssize_t n = 1;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
	while (sent < bytes && n > 0) {
		n = send(fd, text + sent, bytes - sent, MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
	}
	free(text);
	json_decref(root);
}

static void *status_run(void *arg)
{
	const struct store_status *status = arg;
	struct pollfd fds[2] = { { .fd = status->listen_fd, .events = POLLIN },
				 { .fd = status->stop_fd, .events = POLLIN } };
	while (fds[1].revents == 0) {
		if (poll(fds, 2, -1) < 0)
			fds[0].revents = fds[1].revents = 0;
		if ((fds[0].revents & POLLIN) == 0)
			continue;
		const int fd = accept4(status->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		answer(status, fd);
		(void)close(fd);
	}
	return NULL;
}

static int path_of(char path[PATH_BYTES], const char *folder, struct haul_err *err)
{
	const int bytes = snprintf(path, PATH_BYTES, "%s/" STORE_STATUS_SOCKET, folder);
	return bytes > 0 && bytes < PATH_BYTES
		       ? 0
		       : haul_err_set(err, -ENAMETOOLONG, "%.80s…: the path is too long", folder);
}

int store_status_open(struct store_status **ret_status, const struct store_status_source *source,
		      struct haul_err *err)
{
	struct store_status *status = calloc(1, sizeof *status);
	if (status == NULL)
		return haul_err_set(err, -ENOMEM, "no memory for a socket");
	status->source = *source;
	int rc = path_of(status->path, source->folder, err);
	if (rc < 0)
		goto no_listen;
	rc = status->listen_fd = unixsock_listen(status->path, err);
	if (rc < 0)
		goto no_listen;
	rc = status->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (rc < 0) {
		rc = haul_err_set(err, -errno, "eventfd: %s", haul_strerror(-errno));
		goto no_event;
	}
	rc = -pthread_create(&status->thread, NULL, status_run, status);
	if (rc < 0) {
		haul_err_set(err, rc, "a thread: %s", haul_strerror(rc));
		goto no_thread;
	}
	*ret_status = status;
	return 0;
no_thread:
	(void)close(status->stop_fd);
no_event:
	(void)close(status->listen_fd);
	(void)unlink(status->path);
no_listen:
	free(status);
	return rc;
}

void store_status_close(struct store_status *status)
{
	if (status == NULL)
		return;
	(void)eventfd_write(status->stop_fd, 1);
	(void)pthread_join(status->thread, NULL);
	(void)close(status->stop_fd);
	(void)close(status->listen_fd);
	(void)unlink(status->path);
	free(status);
}

struct json_t *store_status_ask(const char *folder, struct haul_err *err)
{
	char path[PATH_BYTES];
	json_error_t where;
	if (path_of(path, folder, err) < 0)
		return NULL;
	const int fd = unixsock_connect(path, err);
	if (fd < 0)
		return NULL;
	const struct timeval patience = { .tv_sec = PATIENCE_S };
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	json_t *root = json_loadfd(fd, 0, &where);
	(void)close(fd);
	if (root == NULL)
		(void)haul_err_set(err, HAUL_ECORRUPT, "%s: no status came: %s", path, where.text);
	return root;
}
