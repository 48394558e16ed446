/* rpc/store_server_state.h — what the parts of the server of a store share.
 *
 * Model      One thread (store_server_run) has all connections. A frame that is complete becomes a
 *            task. Tasks of changes go to the feeder, a thread that puts them into the store one
 *            behind the other (it is the one that executes, and that waits when the store is
 *            behind); the store's log thread tells, the answer is written over the frame's bytes.
 *            Queries go to one of a few workers, one of a connection at a time; those that may take
 *            long never have all workers. What is done comes back as a list, with one wake.
 * Memory     buffers of frames come out of one arena; a connection that holds a piece of it and
 *            does not go on is closed when somebody else needs it.
 * Files      store_server.c (open, run, stop), store_server_conn.c (bytes in and out),
 *            store_server_door.c (coming, going), store_server_frame.c (what a frame asks for),
 *            store_server_feed.c (changes), store_server_query.c (workers),
 *            store_server_answer.c (a query's call), store_server_status.c (figures for clients),
 *            store_server_stats.c.
 * Threads    as each field says. */
#pragma once

#include <stdatomic.h>

#include "base/buddy.h"
#include "rpc/store_address.h"
#include "rpc/store_server_conn.h"

struct store_server {
	struct haul_store *store;
	struct os *os;
	struct store_server_options options;
	struct server_patience patience;
	uint8_t token[ADDRESS_TOKEN_MAX];
	uint32_t token_bytes; /* 0 = none is needed */
	struct wire_welcome welcome;
	struct address addresses[STORE_SERVER_ADDRESSES];
	int listeners[STORE_SERVER_ADDRESSES];
	uint32_t listener_count;
	int epoll_fd, wake_fd;
	_Atomic bool stop;
	bool stopping;
	int64_t now_ns; /* of this turn */
	int64_t sweep_ns;
	bool timers; /* there is somebody whose time may pass */

	/* the server's thread */
	struct server_conn *conns, *conns_free, *ready;
	uint32_t starved;
	uint8_t *inputs;
	uint64_t inputs_bytes;
	struct server_task *tasks, *tasks_free;
	uint32_t conns_used, tasks_used;
	struct buddy arena;
	struct server_pin pins[SERVER_PINS];
	bool accept_paused;

	/* what is done */
	pthread_mutex_t done_lock;
	struct task_list done;
	bool awake; /* the server's thread will look without being woken */

	/* the feeder */
	pthread_mutex_t feed_lock;
	pthread_cond_t feed_cond;
	struct task_list feed;
	pthread_t feeder;
	bool feeder_runs, feed_end;

	/* the workers */
	pthread_mutex_t ask_lock;
	pthread_cond_t ask_cond;
	struct task_list asks, slow_asks;
	uint32_t slow_running;
	bool ask_end;
	struct server_worker workers[SERVER_READERS];

	struct haul_stats stats;
	bool entered;
};

/* ---- bytes in and out (store_server_conn.c) ---- */

void server_accept(struct store_server *server, int listener);
/* What epoll says. */
void server_conn_event(struct store_server *server, struct server_conn *conn, uint32_t events);
/* What was done may let it go on. */
void server_conn_run(struct store_server *server, struct server_conn *conn);
/* Say why, then close. */
void server_conn_fail(struct store_server *server, struct server_conn *conn, int code,
		      const char *text);
/* The other end of conn->held++. */
void server_conn_let_go(struct store_server *server, struct server_conn *conn);
void server_conn_close(struct store_server *server, struct server_conn *conn);
/* An answer goes out; the task is given back when it has. */
void server_conn_reply(struct store_server *server, struct server_task *task);
/* Time has passed. */
void server_sweep(struct store_server *server);
/* Run it before the next wait. */
void server_conn_ready(struct store_server *server, struct server_conn *conn);
void server_run_ready(struct store_server *server);
struct server_task *server_task_take(struct store_server *server, struct server_conn *conn,
				     uint32_t bytes);
void server_task_give(struct store_server *server, struct server_task *task);

/* ---- what a frame asks for (store_server_frame.c) ---- */

/* Whether a frame with this head may come now, before its rest is there. */
int server_head(struct store_server *server, struct server_conn *conn,
		const struct frame_head *head);
/* task->block has a whole frame. Negative: the connection has to be closed, with that. */
int server_frame(struct store_server *server, struct server_task *task);
int server_hello(struct store_server *server, struct server_conn *conn, const uint8_t *data,
		 uint32_t bytes);
/* All that was done since the last time. */
void server_done(struct store_server *server);
/* From any thread. */
void server_task_done(struct server_task *task);
void server_wake(struct store_server *server);

/* ---- changes (store_server_feed.c) ---- */

int server_feed_open(struct store_server *server);
void server_feed_close(struct store_server *server);
void server_feed_put(struct store_server *server, struct server_task *task);

/* ---- queries (store_server_query.c, store_server_answer.c) ---- */

int server_query_open(struct store_server *server);
void server_query_close(struct store_server *server);
void server_query_put(struct store_server *server, struct server_task *task);
/* Its page has been sent or copied. */
void server_query_taken(struct store_server *server, struct server_worker *worker);
/* The connection is gone: what is asked for it may end early. */
void server_query_cancel(struct store_server *server, const struct server_conn *conn);
bool server_query_slow(const struct wire_query *query);
/* Runs on a worker; its page becomes a sealed RESULT, *ret_bytes long. */
void server_query_answer(struct server_worker *worker, struct haul_reader *reader,
			 const struct server_task *task, uint32_t *ret_bytes);
/* Runs on a worker: figures into its page (store_server_status.c). Returns how many blocks. */
int server_status(struct store_server *server, struct wire_page *page);
/* On the server's thread: a pin, its end. */
int server_pin(struct store_server *server, struct server_conn *conn);
void server_unpin(struct store_server *server, struct server_conn *conn);

/* ---- statistics (store_server_stats.c) ---- */

int server_stats_enter(struct store_server *server);
void server_stats_remove(struct store_server *server);
static inline void server_count(struct store_server *server, enum server_counter counter,
				uint64_t n)
{
	haul_stats_count(&server->stats, counter, n);
}
