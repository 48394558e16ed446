/* rpc/worker_open.c — what a worker holds, taken and given back. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"
#include "rpc/worker.h"

/* Hops that a task can have in one outbox: its own, and two of a peer's. */
enum { HOPS_EACH = 3 };

static enum io_engine engine_of(const char *name)
{
	if (name && !strcmp(name, "io_uring"))
		return IO_URING;
	return name && !strcmp(name, "threads") ? IO_THREADS : IO_AUTO;
}

static enum index_codec codec_of(const char *name)
{
	if (name && !strcmp(name, "lz4"))
		return INDEX_LZ4;
	return name && !strcmp(name, "zstd") ? INDEX_ZSTD : INDEX_RAW;
}

static int open_shard(struct worker *worker, uint32_t partition, struct haul_err *err)
{
	const struct haul_cache_options *cache = &worker->server->options.cache;
	uint32_t partitions = worker->server->volume.super.partitions;
	char name[32];
	(void)snprintf(name, sizeof name, "cache%u", partition);
	const struct shard_options options = {
		.volume = &worker->server->volume,
		.partition = partition,
		.io = worker->io,
		.limits = cache->limits,
		.fixed = cache->fixed,
		.buffer_bytes = cache->buffer_bytes / partitions,
		.read_bytes = cache->read_bytes / partitions,
		.ram_bytes = cache->ram_bytes / partitions,
		.policy = cache->policy,
		.write_budget = cache->write_budget / partitions,
		.pinned_percent = cache->pinned_percent,
		.codec = codec_of(cache->codec),
		.read_only = cache->read_only,
		.name = name,
		.stats = cache->stats,
	};
	int rc = shard_open(&worker->shards[worker->shard_count], &options, err);
	worker->shard_count += rc == 0;
	return rc;
}

static int open_shards(struct worker *worker, struct haul_err *err)
{
	const struct server *server = worker->server;
	uint32_t partitions = server->volume.super.partitions;
	const struct io_options io = {
		.engine = engine_of(server->options.cache.engine),
		.sync_add_ns = server->options.cache.sync_add_ns,
	};
	worker->shards = calloc(partitions, sizeof(struct shard *));
	worker->stalled = calloc(partitions, sizeof *worker->stalled);
	if (!worker->shards || !worker->stalled)
		return haul_err_set(err, -ENOMEM, "no memory for the partitions");
	int rc = io_open(&worker->io, &server->volume.file, &io, err);
	for (uint32_t p = worker->id; rc == 0 && p < partitions; p += worker->workers)
		rc = open_shard(worker, p, err);
	return rc;
}

static int open_conns(struct worker *worker)
{
	const uint64_t each = (uint64_t)CONN_IN + CONN_OUT;
	worker->conns = calloc(worker->conn_max, sizeof *worker->conns);
	worker->buffers = mmap(NULL, each * worker->conn_max, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (worker->buffers == MAP_FAILED)
		worker->buffers = NULL;
	if (!worker->conns || !worker->buffers)
		return -ENOMEM;
	for (uint32_t i = worker->conn_max; i-- > 0;) {
		struct conn *conn = &worker->conns[i];
		*conn = (struct conn){
			.worker = worker,
			.next = worker->conn_free,
			.fd = -1,
			.in = worker->buffers + each * i,
			.out = worker->buffers + each * i + CONN_IN,
		};
		worker->conn_free = conn;
	}
	return 0;
}

static int open_tasks(struct worker *worker)
{
	worker->reserved = worker->conn_max * (TASKS_RESERVED + TASKS_SLICES);
	worker->task_max = worker->reserved + TASKS_SHARED;
	worker->pool = calloc(worker->task_max, sizeof *worker->pool);
	worker->scratch = malloc(HAUL_CACHE_SLICE_MAX);
	if (!worker->pool || !worker->scratch)
		return -ENOMEM;
	for (uint32_t i = worker->task_max; i-- > 0;) {
		worker->pool[i].next = worker->task_free;
		worker->task_free = &worker->pool[i];
	}
	worker->task_free_count = worker->task_max;
	return buddy_init(&worker->stage, STAGE_BYTES);
}

static int open_hops(struct worker *worker)
{
	worker->hops_max = worker->task_max * HOPS_EACH + worker->conn_max;
	worker->out = calloc(worker->workers, sizeof *worker->out);
	worker->taken = calloc(HOPS_TAKEN, sizeof *worker->taken);
	if (!worker->out || !worker->taken)
		return -ENOMEM;
	for (uint32_t i = 0; i < worker->workers; i++) {
		worker->out[i].hops = calloc(worker->hops_max, sizeof(struct hop));
		if (!worker->out[i].hops)
			return -ENOMEM;
	}
	return 0;
}

static int watch(struct worker *worker, int fd, void *what)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = what };
	return fd >= 0 && epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_epoll(struct worker *worker)
{
	worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (worker->epoll_fd < 0)
		return -errno;
	int rc = watch(worker, worker->wake_fd, worker);
	if (rc == 0)
		rc = watch(worker, worker->io->fd, worker->io);
	for (uint32_t i = 0; rc == 0 && worker->id == 0 && i < worker->server->listener_count; i++)
		rc = watch(worker, worker->server->listeners[i], &worker->server->listeners[i]);
	return rc;
}

int worker_open(struct worker *worker, struct haul_err *err)
{
	worker->os = worker->server->os;
	worker->now_ns = worker->os->now_ns(worker->os);
	worker->now_s = (uint32_t)worker->os->real_time_s(worker->os);
	worker->epoll_fd = -1;
	worker->conn_max =
		(worker->server->options.connections + worker->workers - 1) / worker->workers;
	int rc = open_shards(worker, err);
	if (rc < 0)
		return rc;
	rc = open_conns(worker);
	if (rc == 0)
		rc = open_tasks(worker);
	if (rc == 0)
		rc = open_hops(worker);
	if (rc == 0)
		rc = open_epoll(worker);
	if (rc < 0)
		haul_err_set(err, rc, "thread %u of the server: %s; fewer --connections need less",
			     worker->id, haul_strerror(rc));
	return rc;
}

int worker_close(struct worker *worker)
{
	int result = 0;
	for (uint32_t i = 0; i < worker->shard_count; i++) {
		int rc = shard_close(worker->shards[i]);
		if (result == 0)
			result = rc;
	}
	io_close(worker->io);
	if (worker->epoll_fd >= 0)
		(void)close(worker->epoll_fd);
	for (uint32_t i = 0; worker->out && i < worker->workers; i++)
		free(worker->out[i].hops);
	if (worker->buffers)
		(void)munmap(worker->buffers, ((uint64_t)CONN_IN + CONN_OUT) * worker->conn_max);
	if (worker->stage.arena)
		buddy_done(&worker->stage);
	free(worker->out);
	free(worker->taken);
	free(worker->pool);
	free(worker->scratch);
	free(worker->conns);
	free(worker->shards);
	free(worker->stalled);
	return result;
}
