/* The client's own thread: tells, keeps time, receives, and makes the connection again.
 *
 * It sleeps until the earliest of: the gate's deadline, the deadline of the oldest submit, the next
 * step of a connection. While anything is in flight it also wakes after the longest wait that the
 * gate can ask for, so a caller whose change is the first of a frame need not wake it: its deadline
 * cannot be earlier. With nothing in flight it does not look at the socket: a lone caller does.
 *
 * Deadlines of submits are the same length, so the oldest is always the first that was not told. A
 * frame that all have given up is not sent again after a lost connection: its number is taken by a
 * fence, whose answer says what became of it. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "rpc/client_state.h"

enum { TELL_AT_ONCE = 64 };

/* ---- deadlines ---- */

/* The oldest submit that has no result yet, if its batch is not told by somebody else. */
static struct client_batch *oldest(struct haul_client *client)
{
	for (uint32_t i = 0; i < client->flight_count; i++) {
		struct client_batch *batch = client->flight[i];
		if (!batch->lone && batch->told < batch->submit_count)
			return batch;
	}
	for (struct client_batch *batch = client->held.head; batch != NULL; batch = batch->next) {
		if (!batch->lone && batch->told < batch->submit_count)
			return batch;
	}
	struct client_batch *gather = client->gather;
	return gather != NULL && gather->told < gather->submit_count ? gather : NULL;
}

static int64_t oldest_until(struct haul_client *client)
{
	const struct client_batch *batch = oldest(client);
	return batch != NULL ? batch->submits[batch->told].until_ns : INT64_MAX;
}

/* All who put something into it have given up, and it was never sent: it never will be. */
static void forget_gather(struct haul_client *client)
{
	struct client_batch *batch = client->gather;

	client_set_outcome(client, batch->seq, HAUL_OUTCOME_NEVER);
	client->gather = NULL;
	client_batch_free(client, batch);
}

/* Some whose deadline has passed are told so. Unlocks. false: there was none. */
static bool expire(struct haul_client *client, int64_t now_ns)
{
	struct client_submit late[TELL_AT_ONCE];
	struct client_batch *batch = oldest(client);
	uint32_t count = 0;

	while (batch != NULL && batch->told < batch->submit_count && count < TELL_AT_ONCE &&
	       batch->submits[batch->told].until_ns <= now_ns)
		late[count++] = batch->submits[batch->told++];
	if (count == 0)
		return false;
	const struct haul_client_result result = { .error = -ETIMEDOUT, .seq = batch->seq };
	if (batch == client->gather && batch->told == batch->submit_count)
		forget_gather(client);
	client_count(client, C_TIMEOUTS, count);
	(void)pthread_mutex_unlock(&client->lock);
	for (uint32_t i = 0; i < count; i++)
		late[i].done(late[i].arg, &result);
	(void)pthread_mutex_lock(&client->lock);
	client->tells += count;
	client_changed(client);
	return true;
}

/* ---- telling ---- */

/* Unlocks. false: there is nothing to tell. */
static bool tell_next(struct haul_client *client)
{
	struct client_batch *batch = batch_pop(&client->told);

	if (batch == NULL)
		return false;
	client->telling = true;
	(void)pthread_mutex_unlock(&client->lock);
	client_tell(client, batch);
	(void)pthread_mutex_lock(&client->lock);
	client->telling = false;
	client_told(client, batch);
	if (client->told.head == NULL)
		client_pump(client, client_now(client));
	return true;
}

/* ---- the connection ---- */

/* What was sent is sent again, in order, in the same session. */
static void resend(struct haul_client *client)
{
	client->send_at = 0;
	client->send_from = 0;
	client->blocked = false;
	client->input_from = client->input_to = 0;
	for (uint32_t i = 0; i < client->flight_count; i++) {
		struct client_batch *batch = client->flight[i];
		if (batch->told < batch->submit_count || batch->fence)
			continue;
		batch->fence = true;
		batch->wire_bytes = 0;
	}
}

static void link_is_up(struct haul_client *client)
{
	const uint8_t *uuid = client->link.welcome.uuid;

	if (client->known && memcmp(uuid, client->uuid, sizeof client->uuid) != 0) {
		/* Not the store that the frames were meant for. */
		link_close(&client->link);
		client_break(client, HAUL_ESTALE);
		return;
	}
	client_count(client, C_RECONNECTS, 1);
	client->retry_ns = CLIENT_RETRY_NS;
	client->lost = false;
	resend(client);
	client_welcome(client);
}

/* The server will not have us, however often we ask. Half a welcome is a lost connection: who
 * answered there was the server before. */
static bool is_final(int rc)
{
	return rc == -EACCES || rc == HAUL_EVERSION;
}

static void link_failed(struct haul_client *client, int rc, int64_t now_ns)
{
	if (is_final(rc)) {
		client_break(client, rc);
		return;
	}
	client->retry_at_ns = now_ns + client->retry_ns;
	client->retry_ns *= 2;
	if (client->retry_ns > CLIENT_RETRY_MAX)
		client->retry_ns = CLIENT_RETRY_MAX;
}

/* One step towards a connection. */
static void mend(struct haul_client *client, int64_t now_ns)
{
	if (client->link.state == LINK_UP && client->lost) {
		/* who sends or receives lets go soon */
		(void)shutdown(client->link.fd, SHUT_RDWR);
		if (client->sending || client->receiving)
			return;
		link_close(&client->link);
		client->lost = false;
		client->retry_at_ns = now_ns;
	}
	if (client->link.state == LINK_UP || client->broken != 0)
		return;
	int rc = 0;
	if (client->link.state == LINK_DOWN && now_ns >= client->retry_at_ns)
		rc = link_start(&client->link, LINK_PATIENCE_NS, NULL);
	if (rc == 0 && client->link.state != LINK_DOWN)
		rc = link_step(&client->link, NULL);
	if (rc < 0)
		link_failed(client, rc, now_ns);
	else if (rc > 0)
		link_is_up(client);
}

/* ---- sleeping ---- */

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t wake_at(struct haul_client *client, int64_t now_ns)
{
	int64_t at_ns = earlier(client->gate_ns, oldest_until(client));

	if (client->flight_count > 0 && client->pace.limits.wait_max_ns > 0)
		at_ns = earlier(at_ns, now_ns + client->pace.limits.wait_max_ns);
	if (client->broken != 0)
		return at_ns;
	if (client->link.state == LINK_DOWN)
		return earlier(at_ns, client->retry_at_ns);
	if (client->link.state != LINK_UP)
		return earlier(at_ns, client->link.until_ns);
	/* who has a role lets go: look again soon */
	return client->lost ? earlier(at_ns, now_ns + NS_PER_MS) : at_ns;
}

/* Until there is something to do. Unlocks. */
static void rest(struct haul_client *client, int64_t now_ns)
{
	struct pollfd fds[2] = { { .fd = client->wake_fd, .events = POLLIN },
				 { .fd = client->link.fd } };
	const bool up = client->link.state == LINK_UP && !client->lost;
	const bool receives = up && client->flight_count > 0 && !client->receiving;
	uint64_t count;
	int rc = 0;

	if (receives)
		fds[1].events |= POLLIN;
	if (up && client->blocked)
		fds[1].events |= POLLOUT;
	if (client->link.state == LINK_CONNECTING || client->link.state == LINK_GREETING)
		fds[1].events = client->link.events;
	if (fds[1].events == 0)
		fds[1].fd = -1;
	client->wake_ns = wake_at(client, now_ns);
	const int64_t left_ns = client->wake_ns > now_ns ? client->wake_ns - now_ns : 0;
	const struct timespec left = { left_ns / NS_PER_S, left_ns % NS_PER_S };
	client->receiving |= receives;
	client->asleep = true;
	(void)pthread_mutex_unlock(&client->lock);
	(void)ppoll(fds, 2, client->wake_ns < INT64_MAX ? &left : NULL, NULL);
	if (fds[0].revents != 0)
		(void)!read(client->wake_fd, &count, sizeof count);
	if (receives && (fds[1].revents & ~POLLOUT) != 0)
		rc = client_receive(client);
	(void)pthread_mutex_lock(&client->lock);
	client->asleep = false;
	if (receives)
		client->receiving = false;
	client->lost |= rc < 0;
	if (up && (fds[1].revents & POLLOUT) != 0)
		client->blocked = false;
}

void *client_thread(void *arg)
{
	struct haul_client *client = arg;

	(void)pthread_mutex_lock(&client->lock);
	for (;;) {
		const int64_t now_ns = client_now(client);
		if (tell_next(client) || expire(client, now_ns))
			continue;
		if (client->end)
			break;
		mend(client, now_ns);
		client_pump(client, now_ns);
		if (client->told.head == NULL && !client->end)
			rest(client, now_ns);
	}
	(void)pthread_mutex_unlock(&client->lock);
	return NULL;
}
