/* rpc/worker.h — a thread of the server: its partitions, its ring to the disk, its connections.
 *
 * Model      Shared-nothing: worker w owns the partitions p with p % workers == w, and a connection
 *            stays where it was put. A turn: take what is ready (one epoll_wait), receive, take
 *            hops, parse all complete requests of every connection, push hops, poll each shard once
 *            (so all gets of the turn are one batch), write replies, push hops, one wake-up a peer.
 *            What is asked for is under way before others are answered.
 * Memory     all at worker_open: tasks, buffers of connections (address space: pages are taken when
 *            used, and given back when idle), staged values.
 * Threads    the worker's own; rings and the atomics of struct server are what they share.
 * Errors     set-up: as shard_open and io_open. Later: counted, or answered to the client. */
#pragma once

#include <pthread.h>

#include "base/buddy.h"
#include "base/ring.h"
#include "rpc/conn.h"
#include "rpc/marks.h"
#include "rpc/server.h"
#include "rpc/task.h"

enum {
	TASKS_RESERVED = 16,    /* a connection always gets so many */
	TASKS_SLICES = 8,       /* and so many for slices of objects */
	TASKS_SHARED = 8192,    /* more are shared by those who ask */
	STAGE_BYTES = 16 << 20, /* of values that wait for those before them */
	HOPS_TAKEN = 1024       /* from one ring at a time */
};

enum hop_what {
	HOP_EXECUTE, /* to the owner */
	HOP_RELEASE, /* to the owner: the window back */
	HOP_APPLIED, /* to home */
	HOP_DONE,    /* to home */
	HOP_FREE,    /* to home: answer to HOP_RELEASE */
	HOP_CONN     /* a new connection */
};

struct hop {
	struct task *task;
	uint32_t what;
	int32_t fd;
};

/* Hops to one peer that wait for the end of the turn. */
struct outbox {
	struct hop *hops; /* at most hops_max: twice all tasks */
	uint32_t count;
};

/* X(name): counted a worker, told by stats under that name. */
#define WORKER_COUNT_LIST(X)                                                                       \
	X(cmd_get)                                                                                 \
	X(cmd_set)                                                                                 \
	X(cmd_flush)                                                                               \
	X(cmd_touch)                                                                               \
	X(cmd_meta)                                                                                \
	X(get_hits)                                                                                \
	X(get_misses)                                                                              \
	X(get_expired)                                                                             \
	X(delete_hits)                                                                             \
	X(delete_misses)                                                                           \
	X(incr_hits)                                                                               \
	X(incr_misses)                                                                             \
	X(decr_hits)                                                                               \
	X(decr_misses)                                                                             \
	X(cas_hits)                                                                                \
	X(cas_misses)                                                                              \
	X(cas_badval)                                                                              \
	X(touch_hits)                                                                              \
	X(touch_misses)                                                                            \
	X(store_too_large)                                                                         \
	X(bytes_read)                                                                              \
	X(bytes_written)                                                                           \
	X(total_connections)                                                                       \
	X(rejected_connections)                                                                    \
	X(bad_requests)                                                                            \
	X(looked_up_again)                                                                         \
	X(values_staged)                                                                           \
	X(stalled_outputs)                                                                         \
	X(broken_objects)                                                                          \
	X(hops)                                                                                    \
	X(turns)

struct worker_counts {
#define X(name) uint64_t name;
	WORKER_COUNT_LIST(X)
#undef X
};

/* What a tour collects. */
struct tour {
	bool busy;
	struct haul_cache_stat stat;
	struct worker_counts counts;
	uint32_t online_failed;
	int error;
};

struct stalled {
	struct task *first, *last, *replacing; /* which reads the head of an object */
	uint32_t idle_tries;                   /* in vain, nothing being under way */
};

struct worker {
	struct server *server;
	uint32_t id, workers;
	pthread_t thread;
	struct os *os;
	struct io *io;
	struct shard **shards;   /* of partitions id, id + workers, … */
	struct stalled *stalled; /* a shard: puts that wait, in order */
	uint32_t shard_count;
	int epoll_fd, wake_fd;
	int64_t now_ns;
	uint32_t now_s;

	struct task *pool, *task_free;
	uint32_t task_max, task_free_count;
	uint32_t reserved; /* of the free ones: kept for connections with few */

	struct conn *conns, *conn_free;
	uint32_t conn_max;
	uint32_t conn_count;                         /* open, or waiting for tasks */
	uint8_t *buffers;                            /* of all connections */
	struct conn *run_first, *run_last;           /* have something to do */
	struct conn *starved;                        /* found no task */
	struct task *finished_first, *finished_last; /* reads that a shard has answered */
	struct task *held;                           /* windows that home holds */
	struct buddy stage;
	uint8_t *scratch; /* a changed value */
	struct marks marks;
	struct tour tour;  /* of a task of this home */
	struct task purge; /* worker 0: flush_all whose delay is over; no connection's */

	struct outbox *out; /* a peer */
	struct hop *taken;  /* popped from a ring */
	uint32_t hops_max;
	int64_t swept_ns;
	bool sweep; /* some connection holds more than CONN_KEEP */
	bool asked; /* a shard, for something, since it was polled */
	bool stopping;
	bool drained;
	struct worker_counts counts;
	_Alignas(64) _Atomic bool asleep; /* wants to be woken for hops */
};

/* In the worker's own thread: opens io and shards (recovers), then memory and epoll. */
int worker_open(struct worker *worker, struct haul_err *err);
/* Until the server stops and every connection has its replies. */
void worker_run(struct worker *worker);
/* Flushes; the first error. */
int worker_close(struct worker *worker);
/* Any thread. */
void worker_wake(struct worker *worker);

/* A connection of its own from now on. */
void worker_adopt(struct worker *worker, int fd);
/* A connection that found no task is woken when there are some again. */
void worker_starve(struct worker *worker, struct conn *conn);
void worker_feed(struct worker *worker);

/* ---- between workers ---- */
/* To itself: at once. */
void worker_send(struct worker *worker, uint32_t to, enum hop_what what, struct task *task);

/* ---- tasks ---- */
/* NULL: this connection has its share; it is woken when there are more. */
struct task *task_take(struct worker *worker, struct conn *conn, bool slice);
/* The window, and staged memory; the task is the pool's afterwards, maybe via its owner. */
void task_drop(struct worker *worker, struct task *task);
/* Give back value memory only. */
void task_release(struct worker *worker, struct task *task);

/* To ask it for something: it is polled before the worker sleeps. */
static inline struct shard *worker_shard(struct worker *worker, const struct task *task)
{
	worker->asked = true;
	return worker->shards[task->partition / worker->workers];
}

/* ---- exec.c: the owner's side ---- */
void exec_task(struct worker *worker, struct task *task);
/* Reads that were answered; returns whether there were any. */
bool exec_finished(struct worker *worker);
/* Puts that found no buffer; returns whether some wait and nothing is under way. */
bool exec_stalled(struct worker *worker);
/* What tells a durable task; NULL for another. */
struct shard_wait *exec_wait(struct worker *worker, struct task *task);
/* The owner's part of a task is over. */
void exec_done(struct worker *worker, struct task *task, int result);

/* ---- change.c ---- */
enum change { CHANGE_PUT, CHANGE_OVER };
/* What a TASK_CHANGE does with what it has read: fill *put, or set task->result. */
enum change change_compute(struct worker *worker, struct task *task, struct shard_put *put);

/* ---- tour.c ---- */
void tour_step(struct worker *worker, struct task *task);
