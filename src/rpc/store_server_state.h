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
 *            store_server_frame.c (what a frame asks for), store_server_feed.c (changes),
 *            store_server_query.c (workers), store_server_answer.c (a query's call),
 *            store_server_stats.c.
 * Threads    as each field says. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/buddy.h"
#include "os/os.h"
#include "rpc/store_address.h"
#include "rpc/store_server.h"
#include "rpc/store_wire.h"
#include "store/store_state.h"

enum {
	SERVER_IN = 16 << 10, /* input of a connection; longer frames go straight to their buffer */
	SERVER_TASKS_EACH = WIRE_CREDITS,
	SERVER_ARENA = 128 << 20,
	SERVER_READERS = 4, /* workers */
	SERVER_SLOW = 3,    /* of them may be at something long */
	SERVER_PINS = 16,
	SERVER_READER_BYTES = WIRE_VALUES_MAX,
	SERVER_SWEEP_MS = 100,
};
#define SERVER_BYTE_NS (4 * NS_PER_US) /* more for each byte of a frame that has begun */

/* How long the server waits for whom. Tests set less before it runs. */
struct server_patience {
	int64_t hello_ns; /* to say who one is */
	int64_t half_ns;  /* for a frame that has begun */
	int64_t out_ns;   /* to take at least something of an answer */
	int64_t stall_ns; /* holding memory that others wait for */
	int64_t pin_ns;   /* a pin that is not used */
	int64_t leave_ns; /* to read why it is closed */
	int64_t last_ns;  /* to take what is left when the server stops */
};

struct server_task {
	struct server_task *next;
	struct server_conn *conn;
	uint8_t *block; /* of the arena: the frame, then the answer */
	uint32_t bytes; /* of the frame */
	uint32_t reply_bytes;
	const uint8_t *reply; /* block, or the memory of a worker */
	struct server_worker *worker;
	struct wire_from from;
	struct frame frame;
	struct store_server *server;
	uint32_t events;
	int64_t began_ns;
	bool query, slow;
};
struct task_list {
	struct server_task *head, *tail;
};
static inline void task_push(struct task_list *list, struct server_task *task)
{
	task->next = NULL;
	if (list->head == NULL)
		list->head = task;
	else
		list->tail->next = task;
	list->tail = task;
}
static inline struct server_task *task_pop(struct task_list *list)
{
	struct server_task *task = list->head;
	if (task != NULL)
		list->head = task->next;
	return task;
}

/* Of the server's thread. */
struct server_conn {
	struct server_conn *next; /* free */
	int fd;                   /* -1: closed; free once no task is left */
	uint32_t events;          /* asked of epoll */
	bool used, greeted;
	bool ended;   /* nothing more is read */
	bool failed;  /* … and `last` goes behind what goes out */
	bool leaving; /* all is sent; what still comes is thrown away */
	bool starved; /* waits for memory */
	bool ready;   /* on the list of those to be run */
	struct server_conn *ready_next;
	uint8_t *in;
	uint32_t in_from, in_to;
	struct server_task *filling; /* a frame that has begun and does not lie in `in` */
	uint32_t filled;
	int64_t half_ns;  /* until when it has to be complete; 0 = no frame has begun */
	int64_t moved_ns; /* last byte in or out that was waited for */
	uint32_t task_count;
	uint32_t held;            /* it stays while somebody looks at it */
	uint32_t changes;         /* tasks that are not durable yet */
	bool asking;              /* a query is with a worker */
	struct task_list queries; /* that wait for the two above */
	struct task_list out;
	uint32_t out_sent;                              /* bytes of the first */
	_Alignas(8) uint8_t last[WIRE_ERROR_BYTES + 8]; /* the welcome; why it is closed */
	uint32_t last_bytes, last_sent;
	struct server_pin *pin;
};

struct server_pin {
	struct haul_reader *reader;
	struct server_conn *conn; /* NULL: free */
	int64_t used_ns;
};

struct server_worker {
	struct store_server *server;
	pthread_t thread;
	bool runs;
	struct haul_reader *reader;
	uint8_t *page; /* WIRE_RESULT_MAX */
	struct haul_text *keys;
	void *records; /* of any kind, WIRE_ITEMS_MAX */
	int32_t *statuses;
	/* under server->ask_lock */
	struct server_task *task;
	struct haul_reader *at; /* the reader it uses now */
	bool taken;             /* its page may be used again */
};

/* X(id, name, help) */
#define SERVER_COUNTER_LIST(X)                                                                     \
	X(S_BATCHES, "batches_processed", "frames of changes answered")                            \
	X(S_OPERATIONS, "operations_processed", "changes in them")                                 \
	X(S_PROCESSING, "total_processing_time", "nanoseconds from complete to answered, summed")  \
	X(S_FAILED, "operations_failed", "changes whose status is not 0")                          \
	X(S_REPEATED, "retries_deduplicated", "frames answered again instead of executed")         \
	X(S_FENCES, "fences", "outcomes settled")                                                  \
	X(S_ERRORS, "frames_refused", "frames answered with an error")                             \
	X(S_QUERIES, "queries", "calls of readers")                                                \
	X(S_QUERY_TIME, "total_query_time", "nanoseconds from complete to answered, summed")       \
	X(S_CONNECTIONS, "connections", "open now")                                                \
	X(S_ACCEPTED, "connections_accepted", "since open")                                        \
	X(S_FULL, "connections_refused", "too many")                                               \
	X(S_TOKEN, "token_failures", "closed: no token, or another")                               \
	X(S_GARBAGE, "protocol_errors", "closed: what came was no frame")                          \
	X(S_LATE, "closed_slow", "closed: half a frame, or answers not taken, for too long")       \
	X(S_EVICTED, "closed_for_memory", "closed: held memory that others waited for")            \
	X(S_STARVED, "credits_denied", "times a connection was not read for want of memory")       \
	X(S_BYTES_IN, "bytes_in", "received")                                                      \
	X(S_BYTES_OUT, "bytes_out", "sent")                                                        \
	X(S_PINS, "pins", "states kept for readers now")

enum server_counter {
#define X(id, name, help) id,
	SERVER_COUNTER_LIST(X)
#undef X
		SERVER_COUNTERS
};

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
/* What epoll says, or what was done, may let it go on. */
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
