/* Submits: copied into what is gathered; waited for, or not. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "os/park.h"
#include "rpc/client_state.h"

/* ---- waiters ---- */

void client_waiter_done(void *arg, const struct haul_client_result *result)
{
	struct client_waiter *waiter = arg;

	if (result->error == 0 && waiter->statuses != NULL && result->count > 0)
		memcpy(waiter->statuses, result->statuses, result->count * sizeof(int32_t));
	waiter->result = *result;
	waiter->result.statuses = waiter->statuses;
	/* The last touch, but if nobody will come for it: then it is a future's. */
	const uint32_t word =
		atomic_exchange_explicit(&waiter->word, WAITER_TOLD, memory_order_acq_rel);
	if (word == WAITER_SLEEPS)
		park_wake(&waiter->word, 1);
	else if (word == WAITER_LEFT)
		free(waiter);
}

int client_waiter_wait(struct haul_client *client, struct client_waiter *waiter, int64_t until_ns)
{
	for (;;) {
		uint32_t word = atomic_load_explicit(&waiter->word, memory_order_acquire);
		if (word == WAITER_TOLD)
			return 0;
		if (word == WAITER_WAITS &&
		    !atomic_compare_exchange_strong(&waiter->word, &word, WAITER_SLEEPS))
			continue;
		int64_t left_ns = INT64_MAX;
		if (until_ns != INT64_MAX)
			left_ns = until_ns - client_now(client);
		if (left_ns <= 0)
			return -ETIMEDOUT;
		park_wait(&waiter->word, WAITER_SLEEPS, left_ns);
	}
}

/* ---- putting ---- */

/* HAUL_EFULL: it does not fit behind what is gathered. */
static int append(struct haul_client *client, const struct haul_changes *changes,
		  struct client_submit *submit, int64_t now_ns)
{
	struct client_batch *batch = client->gather;
	const struct haul_limits *limits = &client->pace.limits;

	if (batch == NULL)
		return HAUL_EFULL;
	const uint32_t ops = haul_changes_count(batch->changes);
	if (batch->submit_count == HAUL_CHANGES_OPS ||
	    (batch->submit_count > 0 &&
	     !haul_limits_fit(limits, ops > 0 ? ops : 1, haul_changes_bytes(batch->changes),
			      haul_changes_bytes(changes))))
		return HAUL_EFULL;
	const int rc = changes_append(batch->changes, changes, &submit->first);
	if (rc < 0)
		return rc;
	if (batch->submit_count == 0)
		batch->first_ns = now_ns;
	submit->until_ns = INT64_MAX;
	if (client->deadline_ns >= 0)
		submit->until_ns = now_ns + client->deadline_ns;
	batch->submits[batch->submit_count++] = *submit;
	return 0;
}

/* Which limit stands in the way. */
static enum haul_close full_reason(const struct haul_client *client)
{
	const struct client_batch *batch = client->gather;
	const struct haul_limits *limits = &client->pace.limits;

	return haul_changes_count(batch->changes) >= limits->ops_max ||
			       batch->submit_count == HAUL_CHANGES_OPS
		       ? HAUL_CLOSE_OPS
		       : HAUL_CLOSE_BYTES;
}

/* There is no room: make some, or wait for some. */
static int make_room(struct haul_client *client, int64_t from_ns, bool *first)
{
	const int64_t now_ns = client_now(client);
	int64_t until_ns = INT64_MAX;

	if (client->gather != NULL && client_close_gather(client, full_reason(client), now_ns)) {
		client_pump(client, now_ns);
		return 0;
	}
	client_count(client, C_FULL, *first);
	*first = false;
	if (client->options.full == HAUL_CLIENT_BUSY || client_is_own_thread(client)) {
		client_count(client, C_BUSY, 1);
		return -EBUSY;
	}
	if (client->deadline_ns >= 0)
		until_ns = from_ns + client->deadline_ns;
	return client_wait(client, until_ns) ? 0 : -EBUSY;
}

/* With the lock. */
static int put(struct haul_client *client, const struct haul_changes *changes,
	       struct client_submit *submit, int64_t *ret_now_ns)
{
	int64_t now_ns = client_now(client);
	const int64_t from_ns = now_ns;
	bool first = true;

	if (changes_open(changes))
		return -EINVAL;
	submit->count = haul_changes_count(changes);
	for (;;) {
		if (client->broken != 0 || client->closing)
			return client->closing ? -ESHUTDOWN : client->broken;
		int rc = append(client, changes, submit, now_ns);
		if (rc == HAUL_EFULL && client->gather != NULL && client->gather->submit_count == 0)
			return HAUL_ELIMIT;
		if (rc == HAUL_EFULL)
			rc = make_room(client, from_ns, &first);
		else if (rc == 0)
			break;
		if (rc < 0)
			return rc;
		now_ns = client_now(client);
	}
	client->submits++;
	client_count(client, C_QUEUED, submit->count);
	*ret_now_ns = now_ns;
	return 0;
}

int haul_client_submit(struct haul_client *client, const struct haul_changes *changes,
		       haul_client_done *done, void *arg)
{
	struct client_submit submit = { .done = done, .arg = arg };
	int64_t now_ns;

	HAUL_ASSERT(client != NULL && changes != NULL && done != NULL);
	(void)pthread_mutex_lock(&client->lock);
	const int rc = put(client, changes, &submit, &now_ns);
	if (rc == 0)
		client_pump(client, now_ns);
	(void)pthread_mutex_unlock(&client->lock);
	return rc;
}

/* ---- waiting ---- */

/* Its batch is the only one in flight and nobody else receives: wait at the socket oneself. false:
 * the own thread has to go on. With the lock; unlocks. */
static bool receive_lone(struct haul_client *client, struct client_batch *batch)
{
	const int64_t until_ns = batch->submits[0].until_ns;
	const int fd = client->link.fd;
	int rc = 0;

	(void)pthread_mutex_unlock(&client->lock);
	while (rc == 0) {
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
		struct timespec left = { 0 };
		int64_t left_ns = INT64_MAX;
		if (until_ns != INT64_MAX)
			left_ns = until_ns - client_now(client);
		if (left_ns <= 0)
			break;
		left.tv_sec = left_ns / NS_PER_S;
		left.tv_nsec = left_ns % NS_PER_S;
		(void)ppoll(&poll_fd, 1, until_ns != INT64_MAX ? &left : NULL, NULL);
		rc = client_receive(client);
	}
	(void)pthread_mutex_lock(&client->lock);
	client->receiving = false;
	client->lost |= rc < 0;
	const bool answered = batch->answered;
	batch->lone = false;
	if (answered)
		return true;
	client_changed(client);
	client_pump(client, client_now(client));
	return false;
}

int haul_client_commit(struct haul_client *client, const struct haul_changes *changes,
		       int32_t *statuses, struct haul_client_result *ret_result)
{
	struct client_waiter waiter = { .statuses = statuses };
	struct client_submit submit = { .done = client_waiter_done, .arg = &waiter };
	int64_t now_ns;

	HAUL_ASSERT(client != NULL && changes != NULL);
	if (client_is_own_thread(client))
		return -EDEADLK;
	(void)pthread_mutex_lock(&client->lock);
	const int rc = put(client, changes, &submit, &now_ns);
	if (rc < 0) {
		(void)pthread_mutex_unlock(&client->lock);
		return rc;
	}
	struct client_batch *batch = client->gather;
	if (client_pump_lone(client, batch, now_ns) && receive_lone(client, batch)) {
		client_tell(client, batch);
		client_told(client, batch);
		client_pump(client, client_now(client));
	}
	(void)pthread_mutex_unlock(&client->lock);
	(void)client_waiter_wait(client, &waiter, INT64_MAX);
	if (ret_result != NULL)
		*ret_result = waiter.result;
	return waiter.result.error;
}

/* ---- futures ---- */

struct haul_future {
	struct client_waiter waiter; /* first: a future that nobody waits for is freed by it */
	struct haul_client *client;
	int32_t statuses[];
};

static struct haul_future *future_new(struct haul_client *client, uint32_t count)
{
	struct haul_future *future =
		malloc(sizeof *future + (count > 0 ? count : 1) * sizeof(int32_t));

	if (future == NULL)
		return NULL;
	future->client = client;
	future->waiter = (struct client_waiter){ .statuses = future->statuses };
	return future;
}

int haul_client_future(struct haul_client *client, const struct haul_changes *changes,
		       struct haul_future **ret_future)
{
	HAUL_ASSERT(client != NULL && changes != NULL && ret_future != NULL);
	struct haul_future *future = future_new(client, haul_changes_count(changes));
	if (future == NULL)
		return -ENOMEM;
	const int rc = haul_client_submit(client, changes, client_waiter_done, &future->waiter);
	if (rc < 0)
		free(future);
	else
		*ret_future = future;
	return rc;
}

int haul_future_wait(struct haul_future *future, int64_t timeout_ns, int32_t *statuses,
		     struct haul_client_result *ret_result)
{
	struct haul_client *client = future->client;
	struct client_waiter *waiter = &future->waiter;
	int64_t until_ns = INT64_MAX;

	if (client_is_own_thread(client) && atomic_load(&waiter->word) != WAITER_TOLD)
		return -EDEADLK;
	if (timeout_ns >= 0 && timeout_ns < INT64_MAX / 2)
		until_ns = client_now(client) + timeout_ns;
	if (client_waiter_wait(client, waiter, until_ns) < 0) {
		const uint32_t word =
			atomic_exchange_explicit(&waiter->word, WAITER_LEFT, memory_order_acq_rel);
		if (word != WAITER_TOLD)
			return -ETIMEDOUT;
	}
	const struct haul_client_result result = waiter->result;
	if (statuses != NULL && result.error == 0 && result.count > 0)
		memcpy(statuses, future->statuses, result.count * sizeof *statuses);
	if (ret_result != NULL) {
		*ret_result = result;
		ret_result->statuses = statuses;
	}
	free(future);
	return result.error;
}
