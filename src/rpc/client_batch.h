/* rpc/client_batch.h — frames of a client: gathered, in flight, told; and what is counted of them.
 *
 * Model      A batch is a list of changes of many callers, one struct client_submit each, and the
 *            frame that was made of it. It has what it needs from the start and goes around.
 * Memory     at haul_client_open.
 * Threads    under the client's lock, but for struct client_waiter. */
#pragma once

#include <stdatomic.h>

#include "os/os.h"
#include "rpc/client_pace.h"
#include "rpc/store_wire.h"

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
