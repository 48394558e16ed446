#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <haul/client.h>
#include "base/assert.h"
#include "rpc/client_state.h"

enum { SUBMIT_BYTES = sizeof(struct client_submit) };
#define CLOSE_NS (10 * NS_PER_S) /* for what has no deadline */

/* ---- opening ---- */

static int read_options(struct haul_client *client, const struct haul_client_options *options,
			struct haul_err *err)
{
	struct haul_limits limits = options->limits;

	client->options = *options;
	if (limits.ops_max == 0 && limits.bytes_max == 0 && limits.wait_max_ns == 0 &&
	    limits.ops_start == 0)
		limits = haul_limits_preset(HAUL_PRESET_STORE);
	if (limits.ops_max > HAUL_CHANGES_OPS)
		return haul_err_set(err, HAUL_ELIMIT, "ops_max %u: a frame has at most %d changes",
				    limits.ops_max, HAUL_CHANGES_OPS);
	if (limits.bytes_max > HAUL_CHANGES_BYTES)
		return haul_err_set(err, HAUL_ELIMIT, "bytes_max %u: a frame has at most %d bytes",
				    limits.bytes_max, HAUL_CHANGES_BYTES);
	client->window = options->window > 0 ? options->window : CLIENT_WINDOW;
	if (client->window > CLIENT_WINDOW_MAX)
		return haul_err_set(err, -EINVAL, "window %u: allowed are 1 to %d", client->window,
				    CLIENT_WINDOW_MAX);
	if (options->full != HAUL_CLIENT_BLOCK && options->full != HAUL_CLIENT_BUSY)
		return haul_err_set(err, -EINVAL, "full %d: unknown", (int)options->full);
	client->deadline_ns = options->deadline_ns;
	if (client->deadline_ns == 0)
		client->deadline_ns = CLIENT_DEADLINE_NS;
	return pace_init(&client->pace, options->policy, &limits, err);
}

static int batch_alloc(struct client_batch *batch, uint32_t flags)
{
	batch->submits = malloc((size_t)HAUL_CHANGES_OPS * SUBMIT_BYTES);
	batch->wire = aligned_alloc(64, (FRAME_BYTES_MAX + 63) & ~63);
	batch->statuses = malloc(HAUL_CHANGES_OPS * sizeof *batch->statuses);
	if (batch->submits == NULL || batch->wire == NULL || batch->statuses == NULL)
		return -ENOMEM;
	return haul_changes_new(&batch->changes, 0, 0, flags);
}

static int memory_alloc(struct haul_client *client)
{
	const uint32_t flags = client->options.unordered ? HAUL_CHANGES_UNORDERED : 0;
	int rc = 0;

	client->batch_count = client->window + 2;
	client->input = malloc(CLIENT_INPUT);
	if (client->input == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < client->batch_count; i++) {
		struct client_batch *batch = &client->batches[i];
		rc = batch_alloc(batch, flags);
		batch->next = client->free;
		client->free = batch;
	}
	if (rc == 0)
		client_gather_next(client);
	return rc;
}

static int thread_open(struct haul_client *client)
{
	sigset_t all, before;

	client->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (client->wake_fd < 0)
		return -errno;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	(void)pthread_mutex_lock(&client->lock); /* it finds itself in client->thread */
	const int rc = pthread_create(&client->thread, NULL, client_thread, client);
	client->thread_runs = rc == 0;
	(void)pthread_mutex_unlock(&client->lock);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -rc;
}

static int parts_open(struct haul_client *client, struct haul_err *err)
{
	int rc = memory_alloc(client);

	if (rc == 0)
		rc = client_stats_enter(client);
	if (rc == 0)
		rc = thread_open(client);
	if (rc < 0)
		return haul_err_set(err, rc, "a client of a store: %s", haul_strerror(rc));
	return 0;
}

static void client_free(struct haul_client *client)
{
	client_stats_remove(client);
	link_close(&client->link);
	if (client->wake_fd >= 0)
		(void)close(client->wake_fd);
	for (uint32_t i = 0; i < CLIENT_BATCHES; i++) {
		haul_changes_free(client->batches[i].changes);
		free(client->batches[i].submits);
		free(client->batches[i].wire);
		free(client->batches[i].statuses);
	}
	free(client->input);
	(void)pthread_mutex_destroy(&client->lock);
	(void)pthread_cond_destroy(&client->changed);
	free(client);
}

int haul_client_open(struct haul_client **ret_client, const char *address,
		     const struct haul_client_options *options, struct haul_err *err)
{
	static const struct haul_client_options usual = { .policy = HAUL_CLIENT_SELFCLOCK };
	struct haul_client *client = calloc(1, sizeof *client);

	HAUL_ASSERT(ret_client != NULL && address != NULL);
	if (client == NULL)
		return haul_err_set(err, -ENOMEM, "no memory for a client");
	options = options != NULL ? options : &usual;
	client->os = os_linux();
	client->wake_fd = -1;
	client->gate_ns = client->wake_ns = INT64_MAX;
	client->seq_next = 1;
	client->credits = WIRE_CREDITS;
	client->retry_ns = CLIENT_RETRY_NS;
	(void)pthread_mutex_init(&client->lock, NULL);
	(void)pthread_cond_init(&client->changed, NULL);
	link_begin(&client->link, &client->target, client->os);
	client_stats_init(client);
	int rc = read_options(client, options, err);
	if (rc == 0)
		rc = link_target_read(&client->target, address, options->token_file, err);
	if (rc == 0)
		rc = link_dial(&client->link, LINK_PATIENCE_NS, err);
	if (rc == 0) {
		memcpy(client->uuid, client->link.welcome.uuid, sizeof client->uuid);
		client->known = true;
		client_welcome(client);
		rc = parts_open(client, err);
	}
	if (rc < 0) {
		client_free(client);
		return rc;
	}
	*ret_client = client;
	return 0;
}

/* ---- flush, barrier, close ---- */

int client_settle(struct haul_client *client, enum haul_close reason, int64_t until_ns)
{
	const uint64_t upto = client->submits;

	while (client->tells < upto) {
		struct client_batch *gather = client->gather;
		/* What gathers now may have been closed late: the window was full. */
		if (gather != NULL && gather->submit_count > 0) {
			gather->manual |= reason == HAUL_CLOSE_MANUAL;
			gather->barrier |= reason == HAUL_CLOSE_BARRIER;
			client_pump(client, client_now(client));
		}
		if (client->tells < upto && !client_wait(client, until_ns))
			return -ETIMEDOUT;
	}
	return 0;
}

int haul_client_flush(struct haul_client *client)
{
	HAUL_ASSERT(client != NULL);
	if (client_is_own_thread(client))
		return -EDEADLK;
	(void)pthread_mutex_lock(&client->lock);
	(void)client_settle(client, HAUL_CLOSE_MANUAL, INT64_MAX);
	const int rc = client->broken;
	(void)pthread_mutex_unlock(&client->lock);
	return rc;
}

int haul_client_barrier(struct haul_client *client)
{
	HAUL_ASSERT(client != NULL);
	(void)pthread_mutex_lock(&client->lock);
	if (client->gather != NULL && client->gather->submit_count > 0) {
		client->gather->barrier = true;
		client_pump(client, client_now(client));
	}
	const int rc = client->closing ? -ESHUTDOWN : client->broken;
	(void)pthread_mutex_unlock(&client->lock);
	return rc;
}

void haul_client_close(struct haul_client *client)
{
	if (client == NULL)
		return;
	HAUL_ASSERT(!client_is_own_thread(client));
	const int64_t patience_ns = client->deadline_ns >= 0 ? client->deadline_ns : CLOSE_NS;
	(void)pthread_mutex_lock(&client->lock);
	client->closing = true;
	client_pump(client, client_now(client));
	const int64_t until_ns = client_now(client) + patience_ns;
	if (client_settle(client, HAUL_CLOSE_MANUAL, until_ns) < 0) {
		(void)shutdown(client->link.fd, SHUT_RDWR);
		client_break(client, -ESHUTDOWN);
		client->asleep = true; /* whatever it is at */
		client_wake(client);
		(void)client_settle(client, HAUL_CLOSE_MANUAL, INT64_MAX);
	}
	client->end = true;
	client->asleep = true;
	client_wake(client);
	(void)pthread_mutex_unlock(&client->lock);
	(void)pthread_join(client->thread, NULL);
	client_free(client);
}

/* ---- outcome ---- */

int haul_client_outcome(struct haul_client *client, uint64_t seq, enum haul_outcome *ret_outcome)
{
	int rc = 0;

	HAUL_ASSERT(client != NULL && ret_outcome != NULL);
	(void)pthread_mutex_lock(&client->lock);
	const int64_t patience_ns = client->deadline_ns >= 0 ? client->deadline_ns : CLOSE_NS;
	const int64_t until_ns = client_now(client) + patience_ns;
	if (seq == 0 || seq >= client->seq_next)
		rc = -EINVAL;
	while (rc == 0 && seq + CLIENT_OUTCOMES >= client->seq_next &&
	       client->outcomes[seq % CLIENT_OUTCOMES] == 0) {
		if (client_is_own_thread(client))
			rc = -EDEADLK;
		else if (!client_wait(client, until_ns))
			rc = -ETIMEDOUT;
	}
	if (rc == 0 && seq + CLIENT_OUTCOMES < client->seq_next)
		*ret_outcome = HAUL_OUTCOME_UNKNOWN;
	else if (rc == 0)
		*ret_outcome = (enum haul_outcome)(client->outcomes[seq % CLIENT_OUTCOMES] - 1);
	(void)pthread_mutex_unlock(&client->lock);
	return rc;
}
