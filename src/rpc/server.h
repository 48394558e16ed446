/* rpc/server.h — memcached's protocols over TCP and Unix sockets, in front of a cache.
 *
 * Model      server_open opens the cache's file, starts the workers (each recovers its partitions),
 *            and listens. What was answered STORED is durable, unless ack_buffered; noreply is
 *            buffered (docs/design/0014).
 * Ownership  options are copied as far as they are needed later.
 * Threads    server_open and server_close by one thread; server_stop by any, also from a signal
 *            handler.
 * Errors     with text: what is wrong with the file, an address in use. server_close: the first
 *            error of the last flushes.
 * Limits     SERVER_LISTEN_MAX addresses, SERVER_WORKERS_MAX threads. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include <haul/cache.h>
#include "base/ring.h"
#include "disk/shard.h"

enum {
	SERVER_LISTEN_MAX = 8,
	SERVER_WORKERS_MAX = 32,
	SERVER_ADDRESS = 128,
	SERVER_CONNECTIONS = 1024,
	SERVER_ITEM_BYTES = 64 << 20
};

struct server_options {
	const char *path;
	const char *listen[SERVER_LISTEN_MAX]; /* "127.0.0.1:11211", "[::1]:0" */
	uint32_t listen_count;
	const char *unix_path; /* NULL = none */
	uint32_t threads;      /* 0 = CPUs; at most partitions */
	uint32_t connections;  /* 0 = SERVER_CONNECTIONS */
	uint64_t item_bytes;   /* 0 = SERVER_ITEM_BYTES; at most HAUL_CACHE_OBJECT_MAX */
	bool ack_buffered;
	const char *version;             /* what `version` answers */
	struct haul_cache_options cache; /* sizes are of the whole cache */
};

struct worker;

struct server {
	struct server_options options;
	struct volume volume;
	struct os *os;
	struct worker *workers;
	uint32_t worker_count;
	uint32_t slice_bytes;
	char version_line[80]; /* "VERSION …" */
	struct ring *rings;    /* from * worker_count + to */
	int listeners[SERVER_LISTEN_MAX + 1];
	uint32_t listener_count;
	char addresses[SERVER_LISTEN_MAX + 1][SERVER_ADDRESS];
	int64_t started_s;
	_Atomic bool stop;
	_Atomic uint32_t drained; /* workers without connections */
	_Atomic int64_t purge_s;  /* flush_all with a delay: when; 0 = not */
	_Atomic uint32_t streams; /* objects that are being sent: their slices stay */
	_Atomic uint32_t connections;
	_Atomic uint32_t worker_connections[SERVER_WORKERS_MAX];
	/* start-up */
	pthread_mutex_t lock;
	pthread_cond_t ready;
	uint32_t opened;
	bool go;
	struct haul_err err;
	int result;
};

int server_open(struct server **ret_server, const struct server_options *options,
		struct haul_err *err);
/* Where it listens: "127.0.0.1:11211", "unix:/run/haul.sock"; NULL = no more. */
const char *server_address(const struct server *server, uint32_t index);
/* Stop accepting; finish what has been asked. */
void server_stop(struct server *server);
/* Stop, wait for the workers, flush. NULL is allowed. */
int server_close(struct server *server);

/* ---- server_listen.c ---- */
int server_listen(struct server *server, struct haul_err *err);
/* Out of worker 0's epoll, and closed. */
void server_unlisten(struct server *server, int epoll_fd);
