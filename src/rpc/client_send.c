/* Gate and socket: when what is gathered is closed, and who carries it.
 *
 * The gate is asked only while there is a place in flight: with the window full everything gathers,
 * and it is asked again when an answer comes. While results are being told the boundary counts as
 * busy: callers that submit again from their callbacks share a frame, instead of the first of them
 * sending alone. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "rpc/client_state.h"

/* ---- waking ---- */

void client_wake(struct haul_client *client)
{
	const uint64_t one = 1;

	if (!client->asleep)
		return;
	client->asleep = false;
	const ssize_t put = write(client->wake_fd, &one, sizeof one);
	(void)put; /* it is not 0 then, which is all that is wanted */
}

void client_changed(struct haul_client *client)
{
	if (client->waiters > 0)
		(void)pthread_cond_broadcast(&client->changed);
}

bool client_wait(struct haul_client *client, int64_t until_ns)
{
	int rc;

	client->waiters++;
	if (until_ns == INT64_MAX) {
		rc = pthread_cond_wait(&client->changed, &client->lock);
	} else {
		const struct timespec until = { until_ns / NS_PER_S, until_ns % NS_PER_S };
		rc = pthread_cond_clockwait(&client->changed, &client->lock, CLOCK_MONOTONIC,
					    &until);
	}
	client->waiters--;
	return rc != ETIMEDOUT;
}

/* ---- batches ---- */

void client_batch_free(struct haul_client *client, struct client_batch *batch)
{
	HAUL_ASSERT(batch != client->gather);
	batch->next = client->free;
	client->free = batch;
	if (client->gather == NULL)
		client_gather_next(client);
	client_changed(client);
}

void client_gather_next(struct haul_client *client)
{
	struct client_batch *batch = client->free;

	client->gather = batch;
	if (batch == NULL)
		return;
	client->free = batch->next;
	haul_changes_clear(batch->changes);
	*batch = (struct client_batch){
		.changes = batch->changes,
		.submits = batch->submits,
		.wire = batch->wire,
		.statuses = batch->statuses,
		.seq = client->seq_next++,
	};
	client->outcomes[batch->seq % CLIENT_OUTCOMES] = 0;
}

bool client_close_gather(struct haul_client *client, enum haul_close reason, int64_t now_ns)
{
	struct client_batch *batch = client->gather;
	const uint32_t window = client->credits < client->window ? client->credits : client->window;

	HAUL_ASSERT(reason != HAUL_CLOSE_NONE);
	if (batch == NULL || batch->submit_count == 0 || client->flight_count >= window ||
	    client->renewing)
		return false;
	batch->ops = haul_changes_count(batch->changes);
	batch->reason = reason;
	batch->closed_ns = now_ns;
	batch->number = client->number_next++;
	client->flight[client->flight_count++] = batch;
	client_gather_next(client);
	client_changed(client);
	return true;
}

void client_set_outcome(struct haul_client *client, uint64_t seq, enum haul_outcome outcome)
{
	if (seq + CLIENT_OUTCOMES >= client->seq_next)
		client->outcomes[seq % CLIENT_OUTCOMES] = (uint8_t)(outcome + 1);
	client_changed(client);
}

/* ---- the gate ---- */

static void ask_gate(struct haul_client *client, int64_t now_ns)
{
	const struct client_batch *batch = client->gather;

	client->gate_ns = INT64_MAX;
	if (batch == NULL || batch->submit_count == 0)
		return;
	const uint32_t ops = haul_changes_count(batch->changes);
	const uint32_t flight = client->flight_count;
	const struct pace_input input = {
		.ops = ops > 0 ? ops : 1,
		.bytes = haul_changes_bytes(batch->changes),
		.in_flight = flight + (client->telling ? 1 : 0),
		.flight_ops = flight > 0 ? client->flight[flight - 1]->ops : 0,
		.first_ns = batch->first_ns,
		.now_ns = now_ns,
		.barrier = batch->barrier,
		.manual = batch->manual || client->closing,
	};
	const enum haul_close reason = pace_ask(&client->pace, &input, &client->gate_ns);
	if (reason == HAUL_CLOSE_NONE)
		return;
	client->gate_ns = INT64_MAX;
	(void)client_close_gather(client, reason, now_ns); /* else when an answer comes */
}

/* ---- the socket ---- */

static void seal(struct client_batch *batch, const struct changes_sender *sender)
{
	if (batch->fence)
		haul_changes_clear(batch->changes);
	const uint32_t bytes = changes_frame_bytes(batch->changes);
	const int rc = changes_seal(batch->changes, sender, batch->wire, FRAME_BYTES_MAX);
	HAUL_ASSERT(rc == 0);
	batch->wire_bytes = bytes;
}

/* Unlocks. Bytes sent, or negative. */
static ssize_t send_some(struct haul_client *client, struct client_batch *batch)
{
	const struct changes_sender sender = {
		.session = { client->session[0], client->session[1] },
		.seq = batch->number,
		.ack_upto = client->flight[0]->number - 1,
		.kind = batch->fence ? FRAME_FENCE : FRAME_CHANGES,
	};
	const uint32_t from = client->send_from;
	const int fd = client->link.fd;

	if (from == 0) {
		client_count(client, C_RESENDS, batch->sends > 0);
		batch->sends++;
	}
	(void)pthread_mutex_unlock(&client->lock);
	if (batch->wire_bytes == 0)
		seal(batch, &sender);
	ssize_t put =
		send(fd, batch->wire + from, batch->wire_bytes - from, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (put < 0)
		put = -errno;
	(void)pthread_mutex_lock(&client->lock);
	return put;
}

static void send_all(struct haul_client *client)
{
	client->sending = true;
	while (client->link.state == LINK_UP && !client->lost && !client->blocked &&
	       client->send_at < client->flight_count) {
		struct client_batch *batch = client->flight[client->send_at];
		const ssize_t put = send_some(client, batch);
		if (put == -EAGAIN) {
			client->blocked = true;
		} else if (put < 0 && put != -EINTR) {
			client->lost = true;
		} else if (put > 0) {
			client->send_from += (uint32_t)put;
			HAUL_ASSERT(client->flight[client->send_at] == batch);
		}
		if (client->send_from == batch->wire_bytes) {
			client->send_from = 0;
			client->send_at++;
		}
	}
	client->sending = false;
	client_changed(client);
}

/* Whether the own thread has something to do that it does not know of. */
static bool thread_needed(const struct haul_client *client)
{
	if (client->lost || client->blocked || client->told.head != NULL)
		return true;
	if (client->gate_ns < client->wake_ns)
		return true;
	if (client->link.state != LINK_UP)
		return false;
	return client->flight_count > 0 && !client->receiving;
}

bool client_pump_lone(struct haul_client *client, const struct client_batch *mine, int64_t now_ns)
{
	const bool gathers = mine == client->gather;

	ask_gate(client, now_ns);
	const bool lone = gathers && client->flight_count == 1 && client->flight[0] == mine &&
			  mine->submit_count == 1 && !client->receiving && !client->telling &&
			  client->link.state == LINK_UP && !client->lost;
	if (lone) {
		client->receiving = true;
		client->flight[0]->lone = true;
	}
	client_pump(client, now_ns);
	return lone;
}

void client_pump(struct haul_client *client, int64_t now_ns)
{
	ask_gate(client, now_ns);
	if (!client->sending && client->send_at < client->flight_count)
		send_all(client);
	if (client->asleep && thread_needed(client))
		client_wake(client);
}
