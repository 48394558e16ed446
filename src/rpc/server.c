/* rpc/server.c — starting and stopping the workers.
 *
 * Each worker opens its partitions in its own thread (the ring belongs to that thread) while all
 * others do the same. Only when all have succeeded do they run. */
#include "rpc/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/os.h"
#include "rpc/worker.h"

enum {
	SLICE_BYTES = 256 << 10,
	BUFFER_BYTES = 24 << 20, /* defaults, a partition */
	READ_BYTES = 16 << 20,
	PINNED_PERCENT = 25,
	HOP_RING = 16384
};

static void report(struct server *server, int rc, const struct haul_err *err)
{
	(void)pthread_mutex_lock(&server->lock);
	if (rc < 0 && server->result == 0) {
		server->result = rc;
		server->err = *err;
	}
	server->opened++;
	(void)pthread_cond_broadcast(&server->ready);
	while (!server->go)
		(void)pthread_cond_wait(&server->ready, &server->lock);
	(void)pthread_mutex_unlock(&server->lock);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct server *server = worker->server;
	struct haul_err err = { 0 };
	report(server, worker_open(worker, &err), &err);
	if (server->result == 0)
		worker_run(worker);
	int rc = worker_close(worker);
	(void)pthread_mutex_lock(&server->lock);
	if (server->result == 0)
		server->result = rc;
	(void)pthread_mutex_unlock(&server->lock);
	return NULL;
}

static uint32_t threads_of(const struct server *server)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint32_t threads = server->options.threads;
	if (threads == 0)
		threads = cpus > 0 ? (uint32_t)cpus : 1;
	if (threads > server->volume.super.partitions)
		threads = server->volume.super.partitions;
	return threads < SERVER_WORKERS_MAX ? threads : SERVER_WORKERS_MAX;
}

static int set_options(struct server *server, const struct server_options *options,
		       struct haul_err *err)
{
	server->options = *options;
	if (server->options.connections == 0)
		server->options.connections = SERVER_CONNECTIONS;
	if (server->options.item_bytes == 0)
		server->options.item_bytes = SERVER_ITEM_BYTES;
	if (server->options.version == NULL)
		server->options.version = "haul";
	if (server->options.item_bytes > HAUL_CACHE_OBJECT_MAX)
		return haul_err_set(
			err, HAUL_ELIMIT, "items of %llu bytes: at most %d are possible",
			(unsigned long long)server->options.item_bytes, HAUL_CACHE_OBJECT_MAX);
	(void)snprintf(server->version_line, sizeof server->version_line, "VERSION %s\r\n",
		       server->options.version);
	return 0;
}

/* What 0 stands for, as when a program opens the cache. */
static int set_cache_options(struct server *server, struct haul_err *err)
{
	struct haul_cache_options *cache = &server->options.cache;
	uint64_t partitions = server->volume.super.partitions;
	const struct haul_limits *limits = &cache->limits;
	if (limits->ops_max == 0 && limits->bytes_max == 0 && limits->wait_max_ns == 0 &&
	    limits->ops_start == 0)
		cache->limits = haul_limits_preset(HAUL_PRESET_DISK);
	if (cache->buffer_bytes == 0)
		cache->buffer_bytes = partitions * BUFFER_BYTES;
	if (cache->read_bytes == 0)
		cache->read_bytes = partitions * READ_BYTES;
	if (cache->pinned_percent == 0)
		cache->pinned_percent = PINNED_PERCENT;
	return haul_limits_check(&cache->limits, err);
}

/* A slice lies in one segment, beside header and table. */
static uint32_t slice_of(const struct server *server)
{
	uint32_t max = server->volume.super.segment_bytes / 2 - 2 * FORMAT_BLOCK;
	uint32_t bytes = server->options.cache.slice_bytes;
	if (bytes == 0 || bytes > SLICE_BYTES)
		bytes = SLICE_BYTES;
	return bytes < max ? bytes : max;
}

static int rings_open(struct server *server)
{
	uint32_t count = server->worker_count * server->worker_count;
	server->rings = aligned_alloc(64, count * sizeof *server->rings);
	if (!server->rings)
		return -ENOMEM;
	memset(server->rings, 0, count * sizeof *server->rings);
	for (uint32_t i = 0; i < count; i++) {
		int rc = ring_init(&server->rings[i], sizeof(struct hop), HOP_RING);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int workers_open(struct server *server)
{
	server->worker_count = threads_of(server);
	uint64_t bytes = server->worker_count * sizeof *server->workers;
	server->workers = aligned_alloc(64, bytes);
	if (!server->workers)
		return -ENOMEM;
	memset(server->workers, 0, bytes);
	for (uint32_t i = 0; i < server->worker_count; i++) {
		struct worker *worker = &server->workers[i];
		worker->server = server;
		worker->id = i;
		worker->workers = server->worker_count;
		worker->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (worker->wake_fd < 0)
			return -errno;
	}
	return rings_open(server);
}

static void free_workers(struct server *server)
{
	for (uint32_t i = 0; server->workers && i < server->worker_count; i++)
		if (server->workers[i].wake_fd > 0)
			(void)close(server->workers[i].wake_fd);
	for (uint32_t i = 0; server->rings && i < server->worker_count * server->worker_count; i++)
		ring_done(&server->rings[i]);
	free(server->rings);
	free(server->workers);
}

/* Threads that were started; the others count as opened. */
static uint32_t start_threads(struct server *server, struct haul_err *err)
{
	uint32_t started = 0;
	while (started < server->worker_count) {
		struct worker *worker = &server->workers[started];
		int rc = pthread_create(&worker->thread, NULL, worker_main, worker);
		if (rc != 0) {
			server->result = haul_err_set(err, -rc, "cannot start thread %u: %s",
						      started, haul_strerror(-rc));
			break;
		}
		started++;
	}
	return started;
}

static void join_threads(struct server *server, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		(void)pthread_join(server->workers[i].thread, NULL);
}

static int start(struct server *server, struct haul_err *err)
{
	uint32_t started = start_threads(server, err);
	(void)pthread_mutex_lock(&server->lock);
	while (server->opened < started)
		(void)pthread_cond_wait(&server->ready, &server->lock);
	int rc = server->result;
	server->go = true;
	(void)pthread_cond_broadcast(&server->ready);
	(void)pthread_mutex_unlock(&server->lock);
	if (rc == 0)
		return 0;
	join_threads(server, started);
	if (started == server->worker_count && err)
		*err = server->err;
	return rc;
}

int server_open(struct server **ret_server, const struct server_options *options,
		struct haul_err *err)
{
	HAUL_ASSERT(options->listen_count <= SERVER_LISTEN_MAX);
	struct server *server = aligned_alloc(64, (sizeof *server + 63) / 64 * 64);
	if (!server)
		return haul_err_set(err, -ENOMEM, "no memory for the server");
	memset(server, 0, sizeof *server);
	server->os = os_linux();
	server->started_s = server->os->real_time_s(server->os);
	(void)pthread_mutex_init(&server->lock, NULL);
	(void)pthread_cond_init(&server->ready, NULL);
	int rc = set_options(server, options, err);
	if (rc < 0)
		goto free_server;
	rc = volume_open(&server->volume, options->path, options->cache.read_only, server->os, err);
	if (rc < 0)
		goto free_server;
	server->slice_bytes = slice_of(server);
	rc = set_cache_options(server, err);
	if (rc == 0)
		rc = server_listen(server, err);
	if (rc < 0)
		goto close_volume;
	rc = workers_open(server);
	if (rc < 0) {
		haul_err_set(err, rc, "the threads of the server: %s", haul_strerror(rc));
		goto free_all;
	}
	rc = start(server, err);
	if (rc < 0)
		goto free_all;
	*ret_server = server;
	return 0;

free_all:
	free_workers(server);
	server_unlisten(server, -1);
close_volume:
	volume_close(&server->volume);
free_server:
	(void)pthread_cond_destroy(&server->ready);
	(void)pthread_mutex_destroy(&server->lock);
	free(server);
	return rc;
}

const char *server_address(const struct server *server, uint32_t index)
{
	return index < server->listener_count ? server->addresses[index] : NULL;
}

void server_stop(struct server *server)
{
	atomic_store(&server->stop, true);
	for (uint32_t i = 0; i < server->worker_count; i++)
		worker_wake(&server->workers[i]);
}

int server_close(struct server *server)
{
	if (!server)
		return 0;
	server_stop(server);
	join_threads(server, server->worker_count);
	int result = server->result;
	free_workers(server);
	server_unlisten(server, -1);
	volume_close(&server->volume);
	(void)pthread_cond_destroy(&server->ready);
	(void)pthread_mutex_destroy(&server->lock);
	free(server);
	return result;
}
