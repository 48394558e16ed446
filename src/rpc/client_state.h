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
 *            thread), client_link.c, client_pace.c, client_ask.c, client_reader.c,
 *            client_stats.c, client_status.c (the server's figures).
 * Threads    under the lock, but where it says otherwise. */
#pragma once

#include <pthread.h>

#include "rpc/client_batch.h"
#include "rpc/client_link.h"
#include "store/changes_state.h"

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
