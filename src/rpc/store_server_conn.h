/* rpc/store_server_conn.h — connections of a store's server, what they ask for, who answers it.
 *
 * Model      A frame that has come whole is a task. It holds its buffer of the arena and a credit
 *            of its connection until its answer has been sent.
 * Memory     taken by store_server_open: SERVER_IN bytes of input a connection, SERVER_TASKS_EACH
 *            tasks; buffers out of one arena of SERVER_ARENA bytes.
 * Units      _ns nanoseconds, _MS milliseconds.
 * Threads    of the server's thread, but where it says otherwise. */
#pragma once

#include <pthread.h>

#include "os/os.h"
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
	bool ended;     /* nothing more is read */
	bool failed;    /* … and `last` goes behind what goes out */
	bool leaving;   /* all is sent; what still comes is thrown away */
	bool starved;   /* waits for memory */
	bool unwatched; /* epoll has nothing new to say of it */
	bool ready;     /* on the list of those to be run */
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
