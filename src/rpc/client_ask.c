#include "rpc/client_ask.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/assert.h"

#define LOOK_NS  (20 * NS_PER_MS) /* whether haul_reader_interrupt was called */
#define AGAIN_NS (20 * NS_PER_MS)

/* ---- the connection ---- */

void ask_hang_up(struct client_reader *reader)
{
	link_close(&reader->link);
	reader->pin_lost |= reader->pinned;
}

/* Until the socket is ready: 0, -ECANCELED, -ETIMEDOUT. */
static int wait_ready(struct client_reader *reader, short events, int64_t until_ns)
{
	struct os *os = reader->client->os;

	for (;;) {
		struct pollfd poll_fd = { .fd = reader->link.fd, .events = events };
		const int64_t left_ns = until_ns - os->now_ns(os);
		const int64_t span_ns = left_ns < LOOK_NS ? left_ns : LOOK_NS;
		const struct timespec span = { 0, span_ns > 0 ? span_ns : 0 };
		if (reader_stopped(&reader->reader))
			return -ECANCELED;
		if (left_ns <= 0)
			return -ETIMEDOUT;
		if (ppoll(&poll_fd, 1, &span, NULL) > 0)
			return 0;
	}
}

static int send_query(struct client_reader *reader, int64_t until_ns)
{
	uint32_t from = 0;

	while (from < reader->out_bytes) {
		const ssize_t put = send(reader->link.fd, reader->out + from,
					 reader->out_bytes - from, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (put >= 0) {
			from += (uint32_t)put;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return -ECONNRESET;
		const int rc = wait_ready(reader, POLLOUT, until_ns);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* So many bytes of the input are there. */
static int receive_to(struct client_reader *reader, uint32_t *at, uint32_t bytes, int64_t until_ns)
{
	while (*at < bytes) {
		const ssize_t got =
			recv(reader->link.fd, reader->in + *at, bytes - *at, MSG_DONTWAIT);
		if (got > 0) {
			*at += (uint32_t)got;
			continue;
		}
		if (got == 0 || (errno != EAGAIN && errno != EINTR))
			return -ECONNRESET;
		const int rc = wait_ready(reader, POLLIN, until_ns);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int receive_frame(struct client_reader *reader, struct frame_head *head, int64_t until_ns)
{
	uint32_t at = 0;

	int rc = receive_to(reader, &at, FRAME_HEAD, until_ns);
	if (rc == 0)
		rc = frame_check_head(reader->in, head);
	if (rc == 0 && head->bytes > WIRE_RESULT_MAX)
		rc = HAUL_ELIMIT;
	if (rc == 0)
		rc = receive_to(reader, &at, head->bytes, until_ns);
	return rc < 0 ? rc : wire_check(reader->in, at, head);
}

static int receive_result(struct client_reader *reader, int64_t until_ns)
{
	struct haul_err told = { 0 };
	struct frame_head head;

	for (;;) {
		int rc = receive_frame(reader, &head, until_ns);
		if (rc < 0)
			return rc;
		if (head.kind == WIRE_ERROR) {
			rc = wire_get_error(reader->in, &told);
			return rc < 0 ? rc : told.code;
		}
		if (head.kind != WIRE_RESULT || head.seq > reader->seq)
			return -EPROTO;
		if (head.seq == reader->seq)
			return wire_get_result(reader->in, &reader->result);
		/* of a call that was interrupted */
	}
}

/* One try. */
static int ask_once(struct client_reader *reader, int64_t until_ns)
{
	if (reader->link.state != LINK_UP) {
		link_begin(&reader->link, &reader->client->target, reader->client->os);
		const int rc = link_dial(&reader->link, LINK_PATIENCE_NS, NULL);
		if (rc < 0)
			return rc;
	}
	int rc = send_query(reader, until_ns);
	if (rc == -ECANCELED || rc == -ETIMEDOUT) {
		ask_hang_up(reader); /* half a query is there */
		return rc;
	}
	if (rc == 0)
		rc = receive_result(reader, until_ns);
	/* The server need not go on with it. */
	if (rc == -ECANCELED && reader->pinned)
		return rc;
	if (rc < 0)
		ask_hang_up(reader);
	return rc;
}

static bool worth_again(int rc)
{
	return rc == -ECONNRESET || rc == -ECONNREFUSED || rc == -EBUSY || rc == -EPIPE;
}

static int64_t until_of(const struct client_reader *reader)
{
	const int64_t deadline_ns = reader->client->deadline_ns;
	const int64_t now_ns = client_now(reader->client);

	return deadline_ns >= 0 ? now_ns + deadline_ns : INT64_MAX;
}

/* What was submitted before is to be seen. */
static int see_writes(struct haul_client *client, int64_t until_ns)
{
	int rc = 0;

	if (client_is_own_thread(client))
		return 0;
	(void)pthread_mutex_lock(&client->lock);
	if (client->tells < client->submits)
		rc = client_settle(client, HAUL_CLOSE_BARRIER, until_ns);
	(void)pthread_mutex_unlock(&client->lock);
	return rc;
}

static int ask_until(struct client_reader *reader, int64_t until_ns)
{
	struct os *os = reader->client->os;
	int rc;

	const struct wire_from from = { .seq = ++reader->seq };
	wire_seal(reader->out, WIRE_QUERY, reader->out_bytes, &from);
	for (;;) {
		if (reader_stopped(&reader->reader))
			return -ECANCELED;
		if (reader->pin_lost)
			return HAUL_ESTALE;
		rc = ask_once(reader, until_ns);
		if (!worth_again(rc))
			break;
		if (os->now_ns(os) + AGAIN_NS >= until_ns)
			return -ENOTCONN;
		(void)poll(NULL, 0, (int)(AGAIN_NS / NS_PER_MS));
	}
	return rc < 0 ? rc : reader->result->result;
}

int ask_call(struct client_reader *reader)
{
	const int64_t until_ns = until_of(reader);
	const int rc = see_writes(reader->client, until_ns);

	return rc < 0 ? rc : ask_until(reader, until_ns);
}

int ask_at_once(struct client_reader *reader)
{
	return ask_until(reader, until_of(reader));
}

/* ---- queries ---- */

/* The start of a query; what is behind it follows by query_add. */
void ask_begin(struct client_reader *reader, const struct wire_query *query)
{
	struct wire_query own = *query;

	own.flags |= reader->pinned ? WIRE_PINNED : 0;
	memcpy(reader->out + FRAME_HEAD, &own, sizeof own);
	reader->out_bytes = WIRE_QUERY_HEAD;
}

void ask_add(struct client_reader *reader, const void *data, uint64_t bytes)
{
	HAUL_ASSERT(bytes <= WIRE_QUERY_MAX - reader->out_bytes);
	memcpy(reader->out + reader->out_bytes, data, bytes);
	reader->out_bytes += (uint32_t)bytes;
}

struct wire_reading ask_result(const struct client_reader *reader)
{
	struct frame_head head;

	memcpy(&head, reader->in, sizeof head);
	return (struct wire_reading){ reader->in, WIRE_RESULT_HEAD, head.bytes };
}

/* What the server says about a page that is not as it should be. */
int ask_broken(struct client_reader *reader, int rc)
{
	ask_hang_up(reader);
	return rc;
}

/* Asks, and sees to it that no more comes than was asked for. */
int ask_for(struct client_reader *reader, uint32_t most)
{
	const int rc = ask_call(reader);

	return rc > 0 && (uint32_t)rc > most ? ask_broken(reader, HAUL_ECORRUPT) : rc;
}
