/* rpc/client_state.h — what the parts of a client share.
 *
 * Model      Changes are gathered in a batch; closed, it is in flight until its answer has come,
 *            then it is told. Batches go around: free, gathering, in flight (or held back, to be
 *            sent in another session), told, free. Two roles, each of at most one thread at a time:
 *            who sends carries all that is in flight and unsent to the socket, so a caller whose
 *            change closes a frame sends it himself; who receives reads answers: the client's own
 *            thread, or a lone caller that waits for the only frame in flight, which so never
 *            switches threads. The own thread also tells, keeps time and makes the connection
 *            again. Numbers of frames on the wire belong to a session; what callers see (seq)
 *            goes on over sessions.
 * Files      client.c (open, close, flush, outcome), client_put.c (submit, commit, futures),
 *            client_send.c (gate, send), client_answer.c (receive, tell), client_thread.c (the own
 *            thread), client_link.c, client_pace.c, client_reader.c, client_stats.c.
 * Threads    under the lock, but where it says otherwise. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "rpc/client_link.h"
#include "rpc/client_pace.h"
#include "store/changes_state.h"

enum {
	CLIENT_WINDOW = 2,
	CLIENT_WINDOW_MAX = 8,
	CLIENT_BATCHES = CLIENT_WINDOW_MAX + 2,
	CLIENT_OUTCOMES = 4096, /* remembered */
	CLIENT_RENEWALS = 3,    /* of one frame */
	CLIENT_INPUT = 192 << 10,
};
static_assert(CLIENT_INPUT > 2 * (int)WIRE_ANSWER_MAX, "an answer fits behind a half one");
#define CLIENT_DEADLINE_NS (10 * NS_PER_S)
#define CLIENT_RETRY_NS    (5 * NS_PER_MS) /* doubles */
#define CLIENT_RETRY_MAX   (500 * NS_PER_MS)

struct client_submit {
	haul_client_done *done;
	void *arg;
	uint32_t first, count;
	int64_t until_ns;
};

struct client_batch {
	struct client_batch *next; /* free, held or told */
	struct haul_changes *changes;
	struct client_submit *submits; /* HAUL_CHANGES_OPS */
	uint8_t *wire;                 /* FRAME_BYTES_MAX */
	int32_t *statuses;
	uint32_t wire_bytes; /* 0 = to be sealed */
	uint32_t submit_count;
	uint32_t told; /* the first so many have their result */
	uint32_t ops;
	uint32_t sends, renewals;
	uint64_t seq;    /* as callers see it */
	uint64_t number; /* of the session */
	int64_t first_ns, closed_ns;
	enum haul_close reason;
	bool barrier, manual;
	bool fence;    /* its number is taken, nothing else */
	bool lone;     /* its caller receives */
	bool answered; /* for the lone caller */
	struct wire_answer answer;
};
struct batch_list {
	struct client_batch *head, *tail;
};

/* Who waits for a result: on the stack of its thread, or a future's. */
enum { WAITER_WAITS, WAITER_SLEEPS, WAITER_TOLD, WAITER_LEFT };
struct client_waiter {
	_Atomic uint32_t word;
	int32_t *statuses; /* may be NULL */
	struct haul_client_result result;
};

/* X(id, name, help) */
#define CLIENT_COUNTER_LIST(X)                                                                     \
	X(C_QUEUED, "operations_queued", "changes taken from callers")                             \
	X(C_FLUSHED, "operations_flushed", "changes in frames that were answered")                 \
	X(C_FLUSHES, "flushes_performed", "frames answered")                                       \
	X(C_FLUSH_TIME, "total_flush_time", "nanoseconds from closed to answered, summed")         \
	X(C_ADJUSTMENTS, "batch_size_adjustments", "times the threshold changed")                  \
	X(C_AVERAGE, "average_batch_size", "changes a frame")                                      \
	X(C_AVERAGE_TIME, "average_flush_time", "nanoseconds from closed to answered")             \
	X(C_UTILISATION, "queue_utilisation_percent", "of what can be gathered and in flight")     \
	X(C_THRESHOLD, "threshold", "changes at which a frame closes now")                         \
	X(C_ARRIVALS, "arrivals_per_s", "changes, a moving average")                               \
	X(C_WAIT, "chosen_wait_ns", "a frame waits for so long at most now")                       \
	X(C_IN_FLIGHT, "in_flight", "frames sent and not answered now")                            \
	X(C_FAILED, "operations_failed", "changes whose status is not 0")                          \
	X(C_FULL, "queue_full", "submits that found no room")                                      \
	X(C_BUSY, "busy_told", "of them refused")                                                  \
	X(C_TIMEOUTS, "timeouts", "submits whose deadline passed")                                 \
	X(C_RESENDS, "retries", "frames sent again")                                               \
	X(C_RECONNECTS, "reconnects", "connections made again")                                    \
	X(C_SESSIONS, "sessions", "begun")                                                         \
	X(C_STALE, "sessions_expired", "frames told that their session is gone")

enum client_counter {
#define X(id, name, help) id,
	CLIENT_COUNTER_LIST(X)
#undef X
		CLIENT_COUNTERS
};

struct haul_client {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a batch is free, something is told, a role is free */
	uint32_t waiters;
	struct os *os;
	struct haul_client_options options;
	struct link_target target;
	struct pace pace;
	uint32_t window, credits;
	int64_t deadline_ns; /* of a submit */

	struct client_batch batches[CLIENT_BATCHES];
	uint32_t batch_count;
	struct client_batch *free, *gather;
	struct client_batch *flight[CLIENT_WINDOW_MAX];
	uint32_t flight_count;
	uint32_t send_at;   /* the first that is not sent whole */
	uint32_t send_from; /* bytes of it that are */
	struct batch_list held;
	struct batch_list told;

	uint64_t session[2]; /* 0, 0: none yet */
	uint64_t number_next;
	uint64_t seq_next;
	uint64_t op_seen;
	uint8_t uuid[16];
	bool known;    /* uuid is set */
	bool renewing; /* a new session begins when nothing is in flight */
	uint64_t submits, tells;
	uint8_t outcomes[CLIENT_OUTCOMES]; /* enum haul_outcome + 1, by seq; 0: none yet */

	bool sending, receiving; /* the roles */
	bool telling;
	bool blocked; /* the socket takes no more */
	bool lost;    /* the connection */
	bool closing; /* no more submits; what is there is sent */
	bool end;     /* the own thread leaves */
	int broken;   /* final */
	struct link link;
	int64_t retry_ns, retry_at_ns;

	/* the own thread */
	pthread_t thread;
	bool thread_runs, asleep;
	int64_t wake_ns; /* it wakes by itself then */
	int64_t gate_ns; /* when the gate has to be asked again */
	int wake_fd;

	/* who receives */
	uint8_t *input;
	uint32_t input_from, input_to;

	struct haul_stats stats;
	bool entered;
};

static inline int64_t client_now(const struct haul_client *client)
{
	return client->os->now_ns(client->os);
}
static inline void batch_push(struct batch_list *list, struct client_batch *batch)
{
	batch->next = NULL;
	if (list->head == NULL)
		list->head = batch;
	else
		list->tail->next = batch;
	list->tail = batch;
}
static inline struct client_batch *batch_pop(struct batch_list *list)
{
	struct client_batch *batch = list->head;
	if (batch != NULL)
		list->head = batch->next;
	return batch;
}
static inline bool client_is_own_thread(const struct haul_client *client)
{
	return client->thread_runs && pthread_equal(client->thread, pthread_self());
}

/* All with the lock. */

/* Ask the gate, close, send (unlocks while it sends), and see that somebody receives. */
void client_pump(struct haul_client *client, int64_t now_ns);
/* The same by who waits for the batch that is gathered. true: it is alone in flight, and he has the
 * role of who receives (until client_lone_end). */
bool client_pump_lone(struct haul_client *client, const struct client_batch *mine, int64_t now_ns);
/* Close what is gathered for this reason, if there is a place in flight: whether it is closed. */
bool client_close_gather(struct haul_client *client, enum haul_close reason, int64_t now_ns);
/* Take a free batch to gather in. */
void client_gather_next(struct haul_client *client);
void client_batch_free(struct haul_client *client, struct client_batch *batch);
/* The own thread looks again. */
void client_wake(struct haul_client *client);
/* Who waits for `changed` looks again. */
void client_changed(struct haul_client *client);
/* false: until_ns has passed. */
bool client_wait(struct haul_client *client, int64_t until_ns);
void client_set_outcome(struct haul_client *client, uint64_t seq, enum haul_outcome outcome);
/* Nothing more comes of it: all that is gathered, in flight or held is told this. */
void client_break(struct haul_client *client, int error);

/* Without the lock; the role of who receives is the caller's. Reads what is there. 0; 1: the lone
 * batch was answered; negative: the connection is lost. */
int client_receive(struct haul_client *client);
/* Without the lock. Results to their callers. */
void client_tell(struct haul_client *client, struct client_batch *batch);
/* With the lock: what was told is counted, its batch is free. */
void client_told(struct haul_client *client, struct client_batch *batch);

void client_waiter_done(void *arg, const struct haul_client_result *result);
/* Until it is told: 0; -ETIMEDOUT: it is still under way. */
int client_waiter_wait(struct haul_client *client, struct client_waiter *waiter, int64_t until_ns);

/* The link is up: credits, and the first session. */
void client_welcome(struct haul_client *client);
void *client_thread(void *arg);
/* All submitted before has been told, or until_ns has passed: -ETIMEDOUT. */
int client_settle(struct haul_client *client, enum haul_close reason, int64_t until_ns);

void client_stats_init(struct haul_client *client);
int client_stats_enter(struct haul_client *client);
void client_stats_remove(struct haul_client *client);
static inline void client_count(struct haul_client *client, enum client_counter counter, uint64_t n)
{
	haul_stats_count(&client->stats, counter, n);
}
