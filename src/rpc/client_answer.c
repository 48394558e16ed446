/* Answers: received, matched with what is in flight, told.
 *
 * Answers come in the order of the frames. An error means that the number of the frame was not
 * used, so those behind it will be refused: when nothing is in flight any more a new session
 * begins. HAUL_ESTALE for a frame that was sent once means that nothing of it was done: it is sent
 * again in the new session, in its place. If it was sent before, an earlier copy may have been
 * executed, and the server cannot tell any more: its callers are told HAUL_ESTALE. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"
#include "rpc/client_state.h"

/* ---- sessions ---- */

static void session_begin(struct haul_client *client)
{
	client->os->random(client->os, &client->session[0], sizeof client->session[0]);
	client->session[0] |= 1; /* not 0 */
	client->session[1] = client->op_seen;
	client->number_next = 1;
	client_count(client, C_SESSIONS, 1);
}

/* Nothing of the old session is in flight: what was held back goes first. */
static void session_renew(struct haul_client *client)
{
	struct client_batch *batch;

	HAUL_ASSERT(client->flight_count == 0);
	client->renewing = false;
	session_begin(client);
	while ((batch = batch_pop(&client->held)) != NULL) {
		HAUL_ASSERT(client->flight_count < CLIENT_WINDOW_MAX);
		batch->number = client->number_next++;
		batch->wire_bytes = 0;
		batch->sends = 0;
		batch->renewals++;
		client->flight[client->flight_count++] = batch;
	}
	client->send_at = 0;
	client->send_from = 0;
}

void client_welcome(struct haul_client *client)
{
	if (client->link.welcome.op > client->op_seen)
		client->op_seen = client->link.welcome.op;
	client->credits = client->link.welcome.credits;
	if ((client->session[0] | client->session[1]) == 0)
		session_begin(client);
}

/* ---- one answer ---- */

static enum haul_outcome outcome_of(const struct client_batch *batch)
{
	const struct wire_answer *answer = &batch->answer;

	if (batch->fence && answer->error == 0)
		return !answer->repeated || answer->fenced ? HAUL_OUTCOME_NEVER
							   : HAUL_OUTCOME_COMMITTED;
	if (answer->error == 0)
		return HAUL_OUTCOME_COMMITTED;
	return answer->error == HAUL_ESTALE || answer->error == -EIO ? HAUL_OUTCOME_UNKNOWN
								     : HAUL_OUTCOME_NEVER;
}

static void count_answer(struct haul_client *client, const struct client_batch *batch,
			 int64_t now_ns)
{
	const int64_t service_ns = now_ns > batch->closed_ns ? now_ns - batch->closed_ns : 0;
	const struct haul_stats_batch told = {
		.ops = batch->ops > 0 ? batch->ops : 1,
		.syscalls = 2,
		.bytes = batch->wire_bytes,
		.reason = batch->reason,
		.wait_ns = batch->closed_ns - batch->first_ns,
		.service_ns = service_ns,
	};

	pace_told(&client->pace, batch->ops, service_ns, now_ns);
	haul_stats_batch(&client->stats, &told);
	client_count(client, C_FLUSHED, batch->ops);
	client_count(client, C_FLUSHES, 1);
	client_count(client, C_FLUSH_TIME, (uint64_t)service_ns);
	client_count(client, C_FAILED, batch->answer.failed);
}

/* The first in flight has its answer: held back, or told. */
static void settle(struct haul_client *client, struct client_batch *batch, int64_t now_ns)
{
	const struct wire_answer *answer = &batch->answer;

	if (answer->op > client->op_seen)
		client->op_seen = answer->op;
	if (answer->error < 0)
		client->renewing = true;
	/* Refused, and a copy on a connection that was lost may be taken yet. */
	if (answer->error < 0 && answer->error != -EIO && batch->sends > 1)
		batch->answer.error = HAUL_ESTALE;
	if (answer->error == HAUL_ESTALE && batch->sends == 1 && !batch->fence &&
	    batch->renewals < CLIENT_RENEWALS) {
		batch_push(&client->held, batch);
	} else {
		client_count(client, C_STALE, answer->error == HAUL_ESTALE);
		client_set_outcome(client, batch->seq, outcome_of(batch));
		count_answer(client, batch, now_ns);
		if (batch->lone)
			batch->answered = true;
		else
			batch_push(&client->told, batch);
	}
	if (client->renewing && client->flight_count == 0)
		session_renew(client);
}

/* 1: the lone batch has been answered. */
static int take_answer(struct haul_client *client, const uint8_t *data,
		       const struct frame_head *head)
{
	/* An answer may be here before the thread that sent the frame has the lock again. */
	while (client->sending && client->send_at == 0)
		(void)client_wait(client, INT64_MAX);
	struct client_batch *batch = client->flight_count > 0 ? client->flight[0] : NULL;

	if (batch == NULL || client->send_at == 0 || head->seq != batch->number ||
	    head->session[0] != client->session[0] || head->session[1] != client->session[1])
		return -EPROTO;
	const uint32_t max = batch->fence ? 0 : batch->ops;
	const int rc = wire_get_answer(data, &batch->answer, batch->statuses, max);
	if (rc < 0)
		return rc;
	if (batch->answer.error == 0 && !batch->fence && batch->answer.count != batch->ops)
		return -EPROTO;
	client->credits = batch->answer.credits > 0 ? batch->answer.credits : 1;
	client->flight_count--;
	client->send_at--;
	memmove(client->flight, client->flight + 1,
		client->flight_count * sizeof(struct client_batch *));
	const int64_t now_ns = client_now(client);
	settle(client, batch, now_ns);
	const bool answered = batch->lone && batch->answered;
	client_pump(client, now_ns);
	return answered;
}

static int take_frame(struct haul_client *client, const uint8_t *data, uint32_t bytes)
{
	struct frame_head head;
	struct haul_err told = { 0 };

	int rc = wire_check(data, bytes, &head);
	if (rc < 0)
		return rc;
	if (head.kind == WIRE_ERROR) {
		rc = wire_get_error(data, &told);
		return rc < 0 ? rc : -ECONNRESET; /* it hangs up; say it all again */
	}
	if (head.kind != WIRE_ANSWER)
		return -EPROTO;
	(void)pthread_mutex_lock(&client->lock);
	rc = take_answer(client, data, &head);
	(void)pthread_mutex_unlock(&client->lock);
	return rc;
}

/* All whole frames of the input. */
static int take_frames(struct haul_client *client)
{
	int answered = 0;

	while (client->input_to - client->input_from >= FRAME_HEAD) {
		const uint8_t *data = client->input + client->input_from;
		struct frame_head head;
		int rc = frame_check_head(data, &head);
		if (rc < 0)
			return rc;
		if (head.bytes > WIRE_ANSWER_MAX)
			return HAUL_ELIMIT;
		if (client->input_to - client->input_from < head.bytes)
			break;
		client->input_from += head.bytes;
		rc = take_frame(client, data, head.bytes);
		if (rc < 0)
			return rc;
		answered |= rc;
	}
	return answered;
}

int client_receive(struct haul_client *client)
{
	int answered = 0;

	for (;;) {
		if (client->input_from == client->input_to)
			client->input_from = client->input_to = 0;
		if (client->input_from > 0 && CLIENT_INPUT - client->input_to < WIRE_ANSWER_MAX) {
			memmove(client->input, client->input + client->input_from,
				client->input_to - client->input_from);
			client->input_to -= client->input_from;
			client->input_from = 0;
		}
		const uint32_t room = CLIENT_INPUT - client->input_to;
		const ssize_t got =
			recv(client->link.fd, client->input + client->input_to, room, MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return answered;
		if (got <= 0)
			return got < 0 ? -errno : -ECONNRESET;
		client->input_to += (uint32_t)got;
		const int rc = take_frames(client);
		if (rc < 0)
			return rc;
		answered |= rc;
		if ((uint32_t)got < room)
			return answered;
	}
}

/* ---- telling ---- */

void client_tell(struct haul_client *client, struct client_batch *batch)
{
	const struct wire_answer *answer = &batch->answer;
	struct haul_client_result result = {
		.error = batch->fence && answer->error == 0 ? -ETIMEDOUT : answer->error,
		.seq = batch->seq,
		.op = answer->op,
	};

	(void)client;
	for (uint32_t i = batch->told; i < batch->submit_count; i++) {
		const struct client_submit *submit = &batch->submits[i];
		if (result.error == 0) {
			result.count = submit->count;
			result.statuses = batch->statuses + submit->first;
		}
		submit->done(submit->arg, &result);
	}
}

void client_told(struct haul_client *client, struct client_batch *batch)
{
	client->tells += batch->submit_count - batch->told;
	batch->told = batch->submit_count;
	client_batch_free(client, batch);
}

void client_break(struct haul_client *client, int error)
{
	struct client_batch *gather = client->gather;

	client->broken = error;
	for (uint32_t i = 0; i < client->flight_count; i++)
		batch_push(&client->told, client->flight[i]);
	client->flight_count = 0;
	client->send_at = 0;
	client->send_from = 0;
	for (struct client_batch *batch; (batch = batch_pop(&client->held)) != NULL;)
		batch_push(&client->told, batch);
	client->gather = NULL;
	if (gather != NULL)
		batch_push(&client->told, gather);
	for (struct client_batch *batch = client->told.head; batch != NULL; batch = batch->next) {
		const bool settled = client->outcomes[batch->seq % CLIENT_OUTCOMES] != 0;
		if (settled)
			continue;
		batch->answer = (struct wire_answer){ .error = error };
		client_set_outcome(client, batch->seq,
				   batch->sends == 0 ? HAUL_OUTCOME_NEVER : HAUL_OUTCOME_UNKNOWN);
	}
	client_changed(client);
}
