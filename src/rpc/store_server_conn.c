/* Bytes in and out of connections.
 *
 * What comes goes to the connection's own small buffer; a frame that does not lie in it whole goes
 * straight to its buffer of the arena. A connection is read only while it has credits: what it
 * holds of the arena is at most SERVER_TASKS_EACH frames. Nobody waits for one that does not go on
 * (struct server_patience): a frame that has begun has to come to its end, an answer has to move,
 * and when memory is short who holds some and has not moved for a moment is closed. A client that
 * was slow for an honest reason comes again, and its frames are executed once. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/assert.h"
#include "rpc/store_server_state.h"

enum {
	TURN_BYTES = 2 << 20, /* of one connection, before others have their turn */
	PARTS = 8,
	SHRINK_FROM = 64 << 10,
	SHRINK_TO = 16 << 10,
};

/* ---- tasks ---- */

struct server_task *server_task_take(struct store_server *server, struct server_conn *conn,
				     uint32_t bytes)
{
	struct server_task *task = server->tasks_free;

	HAUL_ASSERT(task != NULL); /* there are as many as credits */
	uint8_t *block = buddy_get(&server->arena, bytes);
	if (block == NULL)
		return NULL;
	server->tasks_free = task->next;
	server->tasks_used++;
	conn->task_count++;
	*task = (struct server_task){
		.conn = conn, .server = server, .block = block, .bytes = bytes
	};
	return task;
}

/* Closed, and nobody has it in hand any more. */
static void conn_free(struct store_server *server, struct server_conn *conn)
{
	uint8_t *in = conn->in;

	if (conn->fd >= 0 || conn->task_count > 0 || conn->held > 0 || conn->ready || !conn->used)
		return;
	HAUL_ASSERT(conn->pin == NULL && conn->out.head == NULL);
	*conn = (struct server_conn){ .fd = -1, .in = in, .next = server->conns_free };
	server->conns_free = conn;
	server->conns_used--;
}

void server_conn_let_go(struct store_server *server, struct server_conn *conn)
{
	HAUL_ASSERT(conn->held > 0);
	conn->held--;
	conn_free(server, conn);
}

void server_task_give(struct store_server *server, struct server_task *task)
{
	struct server_conn *conn = task->conn;

	HAUL_ASSERT(conn->task_count > 0);
	if (task->worker != NULL)
		server_query_taken(server, task->worker);
	buddy_put(&server->arena, task->block);
	task->next = server->tasks_free;
	server->tasks_free = task;
	server->tasks_used--;
	if (conn->task_count-- == SERVER_TASKS_EACH)
		server_conn_ready(server, conn);
	conn_free(server, conn);
	if (server->starved == 0)
		return;
	for (uint32_t i = 0; i < server->options.connections_max; i++) {
		if (server->conns[i].starved)
			server_conn_ready(server, &server->conns[i]);
	}
}

static void give_all(struct store_server *server, struct task_list *list)
{
	for (struct server_task *task; (task = task_pop(list)) != NULL;)
		server_task_give(server, task);
}

/* ---- the life of a connection ---- */

static void set_starved(struct store_server *server, struct server_conn *conn, bool starved)
{
	if (starved == conn->starved)
		return;
	conn->starved = starved;
	server->starved += starved ? 1 : UINT32_MAX;
	server_count(server, S_STARVED, starved);
}

void server_conn_close(struct store_server *server, struct server_conn *conn)
{
	if (conn->fd < 0)
		return;
	(void)close(conn->fd);
	conn->fd = -1;
	server_count(server, S_CONNECTIONS, UINT64_MAX);
	set_starved(server, conn, false);
	server_query_cancel(server, conn);
	if (!conn->asking) /* else a worker uses it: server_done */
		server_unpin(server, conn);
	conn->held++;
	if (conn->filling != NULL)
		server_task_give(server, conn->filling);
	conn->filling = NULL;
	give_all(server, &conn->queries);
	give_all(server, &conn->out);
	server_conn_let_go(server, conn);
}

void server_conn_fail(struct store_server *server, struct server_conn *conn, int code,
		      const char *text)
{
	if (conn->fd < 0 || conn->failed)
		return;
	if (conn->last_sent < conn->last_bytes) { /* it did not even take the welcome */
		server_conn_close(server, conn);
		return;
	}
	HAUL_ASSERT(((uintptr_t)conn->last & 7) == 0);
	conn->failed = true;
	conn->ended = true;
	conn->half_ns = 0;
	conn->moved_ns = server->now_ns;
	conn->last_sent = 0;
	conn->last_bytes = wire_put_error(conn->last, code, text);
	set_starved(server, conn, false);
	if (conn->filling != NULL)
		server_task_give(server, conn->filling);
	conn->filling = NULL;
	server_conn_ready(server, conn);
}

static void fail_input(struct store_server *server, struct server_conn *conn, int rc)
{
	const char *text = "this is a server of stores: what came is not a frame of its protocol";

	if (rc == HAUL_EVERSION)
		text = "this server speaks version 1 of the protocol only";
	else if (rc == HAUL_ELIMIT)
		text = "a frame is over a limit";
	else if (rc == -EACCES)
		text = "the token is missing or wrong: give the file the server was started with";
	if (rc != -EACCES)
		server_count(server, S_GARBAGE, 1);
	server_conn_fail(server, conn, rc, text);
}

/* ---- in ---- */

static void frame_complete(struct store_server *server, struct server_task *task)
{
	struct server_conn *conn = task->conn;
	const int rc = server_frame(server, task);

	if (rc < 0) {
		fail_input(server, conn, rc);
		server_task_give(server, task);
	}
}

/* One frame of what lies in `in`: whether there may be another. */
static bool take_frame(struct store_server *server, struct server_conn *conn)
{
	const uint8_t *data = conn->in + conn->in_from;
	const uint32_t bytes = conn->in_to - conn->in_from;
	struct frame_head head;

	if (bytes < FRAME_HEAD || conn->task_count >= SERVER_TASKS_EACH || conn->ended)
		return false;
	int rc = frame_check_head(data, &head);
	if (rc == 0)
		rc = server_head(server, conn, &head);
	if (rc < 0) {
		fail_input(server, conn, rc);
		return false;
	}
	if (!conn->greeted) {
		if (bytes < head.bytes)
			return false;
		conn->in_from += head.bytes;
		conn->half_ns = 0;
		rc = server_hello(server, conn, data, head.bytes);
		if (rc < 0)
			fail_input(server, conn, rc);
		return rc == 0;
	}
	struct server_task *task = server_task_take(server, conn, head.bytes);
	set_starved(server, conn, task == NULL);
	if (task == NULL)
		return false;
	conn->filled = bytes < head.bytes ? bytes : head.bytes;
	memcpy(task->block, data, conn->filled);
	conn->in_from += conn->filled;
	if (conn->filled == head.bytes) {
		frame_complete(server, task);
		return true;
	}
	conn->filling = task;
	conn->moved_ns = server->now_ns;
	conn->half_ns = server->now_ns + server->patience.half_ns + head.bytes * SERVER_BYTE_NS;
	return false;
}

static void take_frames(struct store_server *server, struct server_conn *conn)
{
	while (conn->filling == NULL && take_frame(server, conn))
		;
	if (conn->fd < 0 || conn->filling != NULL || !conn->greeted)
		return;
	/* half a head */
	const bool half = conn->in_to > conn->in_from && conn->in_to - conn->in_from < FRAME_HEAD;
	if (!half)
		conn->half_ns = 0;
	else if (conn->half_ns == 0)
		conn->half_ns = server->now_ns + server->patience.half_ns;
}

/* Where the next bytes go; none: they have to wait. */
static uint8_t *in_room(struct server_conn *conn, uint32_t *ret_bytes)
{
	if (conn->filling != NULL) {
		*ret_bytes = conn->filling->bytes - conn->filled;
		return conn->filling->block + conn->filled;
	}
	if (conn->in_from == conn->in_to)
		conn->in_from = conn->in_to = 0;
	if (conn->in_from > 0 && SERVER_IN - conn->in_to < FRAME_HEAD) {
		memmove(conn->in, conn->in + conn->in_from, conn->in_to - conn->in_from);
		conn->in_to -= conn->in_from;
		conn->in_from = 0;
	}
	const bool credit = conn->task_count < SERVER_TASKS_EACH && !conn->starved;
	*ret_bytes = credit ? SERVER_IN - conn->in_to : 0;
	return conn->in + conn->in_to;
}

static bool may_read(struct server_conn *conn)
{
	uint32_t bytes;

	if (conn->leaving)
		return true;
	(void)in_room(conn, &bytes);
	return !conn->ended && bytes > 0;
}

static void read_rest(struct store_server *server, struct server_conn *conn)
{
	uint8_t away[4096];
	const ssize_t got = recv(conn->fd, away, sizeof away, MSG_DONTWAIT);

	if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
		server_conn_close(server, conn);
}

static void read_more(struct store_server *server, struct server_conn *conn)
{
	uint32_t turn = 0;

	while (conn->fd >= 0 && !conn->ended && turn < TURN_BYTES) {
		uint32_t bytes;
		uint8_t *room = in_room(conn, &bytes);
		if (bytes == 0)
			return;
		const ssize_t got = recv(conn->fd, room, bytes, MSG_DONTWAIT);
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got < 0) {
			server_conn_close(server, conn);
			return;
		}
		if (got == 0) {
			conn->ended = true;
			return;
		}
		turn += (uint32_t)got;
		conn->moved_ns = server->now_ns;
		server_count(server, S_BYTES_IN, (uint64_t)got);
		if (conn->filling == NULL) {
			conn->in_to += (uint32_t)got;
		} else {
			conn->filled += (uint32_t)got;
			struct server_task *task = conn->filling;
			if (conn->filled < task->bytes)
				continue;
			conn->filling = NULL;
			conn->half_ns = 0;
			frame_complete(server, task);
		}
		take_frames(server, conn);
		if ((uint32_t)got < bytes)
			return; /* there is no more now */
	}
}

/* ---- out ---- */

/* What `last` holds goes before all answers when it is the welcome, behind them when it is an
 * error. */
static uint32_t out_parts(struct server_conn *conn, struct iovec parts[PARTS + 1])
{
	const struct iovec last = { conn->last + conn->last_sent,
				    conn->last_bytes - conn->last_sent };
	uint32_t count = 0, skip = conn->out_sent;

	if (!conn->failed && last.iov_len > 0)
		parts[count++] = last;
	for (struct server_task *task = conn->out.head; task != NULL && count < PARTS;
	     task = task->next) {
		parts[count++] = (struct iovec){ (void *)(uintptr_t)(task->reply + skip),
						 task->reply_bytes - skip };
		skip = 0;
	}
	if (conn->failed && last.iov_len > 0 && count < PARTS)
		parts[count++] = last;
	return count;
}

static void out_moved(struct store_server *server, struct server_conn *conn, uint64_t bytes)
{
	conn->moved_ns = server->now_ns;
	server_count(server, S_BYTES_OUT, bytes);
	if (!conn->failed) {
		const uint64_t left = conn->last_bytes - conn->last_sent;
		const uint64_t taken = bytes < left ? bytes : left;
		conn->last_sent += (uint32_t)taken;
		bytes -= taken;
	}
	while (bytes > 0 && conn->out.head != NULL) {
		struct server_task *task = conn->out.head;
		const uint32_t left = task->reply_bytes - conn->out_sent;
		if (bytes < left) {
			conn->out_sent += (uint32_t)bytes;
			return;
		}
		bytes -= left;
		conn->out_sent = 0;
		(void)task_pop(&conn->out);
		server_task_give(server, task);
	}
	conn->last_sent += (uint32_t)bytes;
}

/* What is left of an answer into memory of its own size: the page of a worker is wanted, and so is
 * the buffer of a long frame. */
static bool out_keep(struct store_server *server, struct server_conn *conn,
		     struct server_task *task)
{
	const uint32_t skip = task == conn->out.head ? conn->out_sent : 0;
	const uint32_t left = task->reply_bytes - skip;
	const bool shrink = task->bytes > SHRINK_FROM && left <= SHRINK_TO;

	if (task->worker == NULL && !shrink)
		return true;
	uint8_t *block = buddy_get(&server->arena, left);
	if (block == NULL)
		return task->worker == NULL;
	memcpy(block, task->reply + skip, left);
	if (task->worker != NULL)
		server_query_taken(server, task->worker);
	task->worker = NULL;
	buddy_put(&server->arena, task->block);
	task->block = block;
	task->bytes = left;
	task->reply = block;
	task->reply_bytes = left;
	if (skip > 0)
		conn->out_sent = 0;
	return true;
}

static void write_more(struct store_server *server, struct server_conn *conn)
{
	while (conn->fd >= 0 && (conn->out.head != NULL || conn->last_sent < conn->last_bytes)) {
		struct iovec parts[PARTS + 1];
		const struct msghdr message = { .msg_iov = parts,
						.msg_iovlen = out_parts(conn, parts) };
		const ssize_t put = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno != EAGAIN) {
			server_conn_close(server, conn);
			return;
		}
		if (put < 0)
			break;
		out_moved(server, conn, (uint64_t)put);
	}
	for (struct server_task *task = conn->out.head; task != NULL; task = task->next) {
		if (!out_keep(server, conn, task)) {
			server_count(server, S_EVICTED, 1);
			server_conn_close(server, conn);
			return;
		}
	}
}

void server_conn_reply(struct store_server *server, struct server_task *task)
{
	struct server_conn *conn = task->conn;

	if (conn->fd < 0 || conn->failed) {
		server_task_give(server, task);
		return;
	}
	if (conn->out.head == NULL)
		conn->moved_ns = server->now_ns;
	task_push(&conn->out, task);
	conn->held++;
	write_more(server, conn);
	server_conn_ready(server, conn);
	server_conn_let_go(server, conn);
}

/* ---- turns ---- */

void server_conn_ready(struct store_server *server, struct server_conn *conn)
{
	if (conn->ready || !conn->used)
		return;
	conn->ready = true;
	conn->ready_next = server->ready;
	server->ready = conn;
}

void server_run_ready(struct store_server *server)
{
	struct server_conn *conn = server->ready;

	server->ready = NULL;
	while (conn != NULL) {
		struct server_conn *next = conn->ready_next;
		conn->ready = false;
		server_conn_run(server, conn);
		conn_free(server, conn);
		conn = next;
	}
}

/* All has been said: an error has to be read before the connection is reset. */
static void leave(struct store_server *server, struct server_conn *conn)
{
	if (!conn->failed) {
		server_conn_close(server, conn);
		return;
	}
	conn->leaving = true;
	conn->half_ns = server->now_ns + server->patience.leave_ns;
	(void)shutdown(conn->fd, SHUT_WR);
}

static void ask_events(struct store_server *server, struct server_conn *conn)
{
	const bool out = conn->out.head != NULL || conn->last_sent < conn->last_bytes;
	const uint32_t events =
		(may_read(conn) ? (uint32_t)EPOLLIN : 0) | (out ? (uint32_t)EPOLLOUT : 0);
	struct epoll_event event = { .events = events, .data.ptr = conn };

	if (events == conn->events)
		return;
	const int how = conn->unwatched ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
	if (epoll_ctl(server->epoll_fd, how, conn->fd, &event) < 0) {
		server_conn_close(server, conn);
		return;
	}
	conn->events = events;
	conn->unwatched = false;
}

void server_conn_run(struct store_server *server, struct server_conn *conn)
{
	if (conn->fd < 0)
		return;
	conn->held++;
	write_more(server, conn);
	if (conn->fd >= 0 && conn->leaving)
		read_rest(server, conn);
	if (conn->fd >= 0 && conn->filling == NULL && !conn->ended)
		take_frames(server, conn);
	if (conn->fd >= 0 && !conn->ended)
		read_more(server, conn);
	const bool out = conn->out.head != NULL || conn->last_sent < conn->last_bytes;
	if (conn->fd >= 0 && conn->ended && !conn->leaving && !out &&
	    (conn->failed || conn->task_count == 0))
		leave(server, conn);
	if (conn->fd >= 0)
		ask_events(server, conn);
	server_conn_let_go(server, conn);
}

void server_conn_event(struct store_server *server, struct server_conn *conn, uint32_t events)
{
	/* That the client is gone is told again and again, also to who cannot go on yet: what it
	 * sent before waits for credits. */
	if (conn->fd >= 0 && conn->events == 0 && (events & (EPOLLHUP | EPOLLERR)) != 0) {
		(void)epoll_ctl(server->epoll_fd, EPOLL_CTL_DEL, conn->fd, NULL);
		conn->unwatched = true;
	}
	server_conn_run(server, conn);
}
