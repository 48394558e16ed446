#include "net_sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "net_poll.h"
#include "rpc/store_address.h"

enum { ROOM_MAX = 64 << 10 };

/* The wrapped functions have no other way to find it. */
static struct net the_net;

/* ---- pipes ---- */

static void pipe_open(struct net_pipe *pipe)
{
	*pipe = (struct net_pipe){ .room = 200 + prng_below(&the_net.prng, ROOM_MAX) };
}

static void pipe_put(struct net_pipe *pipe, const uint8_t *data, uint32_t bytes)
{
	if (pipe->from > 0) {
		memmove(pipe->data, pipe->data + pipe->from, pipe->to - pipe->from);
		pipe->arrived -= pipe->from;
		pipe->to -= pipe->from;
		pipe->from = 0;
	}
	if (pipe->to + bytes > pipe->bytes) {
		pipe->bytes = 2 * (pipe->to + bytes);
		pipe->data = realloc(pipe->data, pipe->bytes);
		assert_non_null(pipe->data);
	}
	memcpy(pipe->data + pipe->to, data, bytes);
	pipe->to += bytes;
}

static void pipe_lag(struct net_pipe *pipe)
{
	if (the_net.lag_ms > 0)
		pipe->lag_ns = sim_now_ns(the_net.threads) +
			       prng_below(&the_net.prng, the_net.lag_ms) * NS_PER_MS;
}

static bool pipe_lags(const struct net_pipe *pipe)
{
	return pipe->lag_ns > sim_now_ns(the_net.threads);
}

/* Bytes that may be read. */
static uint32_t pipe_holds(const struct net_pipe *pipe)
{
	return pipe_lags(pipe) ? 0 : pipe->arrived - pipe->from;
}

/* All was read, and nothing more comes. */
static bool pipe_is_over(const struct net_pipe *pipe)
{
	return pipe->ended && !pipe_lags(pipe) && pipe->from == pipe->to;
}

static void pipe_forget(struct net_pipe *pipe)
{
	pipe->to = pipe->arrived;
}

/* ---- connections ---- */

static bool conn_used(const struct net_conn *conn)
{
	return conn->ends[NET_CLIENT].open || conn->ends[NET_SERVER].open;
}

struct net_socket net_socket_of(int fd)
{
	struct net_socket at = { .conn = NULL };

	if (fd < NET_FD || fd >= NET_FD + NET_SIDES * NET_CONNS)
		return at;
	at.conn = &the_net.conns[(fd - NET_FD) / NET_SIDES];
	at.side = (enum net_side)((fd - NET_FD) % NET_SIDES);
	assert_true(at.conn->ends[at.side].open); /* nobody uses another */
	return at;
}

struct net_conn *net_conn_of(int fd)
{
	return net_socket_of(fd).conn;
}

static struct net_conn *conn_new(void)
{
	for (int i = 0; i < NET_CONNS; i++) {
		struct net_conn *conn = &the_net.conns[i];
		if (conn_used(conn))
			continue;
		*conn = (struct net_conn){ .number = ++the_net.conns_made, .connecting = true };
		conn->ends[NET_CLIENT].open = true;
		conn->ends[NET_CLIENT].reset = !the_net.listening;
		conn->ends[NET_SERVER].open = the_net.listening;
		pipe_open(&conn->ends[NET_CLIENT].out);
		pipe_open(&conn->ends[NET_SERVER].out);
		return conn;
	}
	fail_msg("too many connections");
	return NULL;
}

static void end_close(struct net_conn *conn, enum net_side side)
{
	struct net_end *end = &conn->ends[side];
	struct net_end *other = &conn->ends[side == NET_CLIENT ? NET_SERVER : NET_CLIENT];
	const bool unread = other->out.from < other->out.to;

	end->open = end->watched = false;
	end->out.ended = true;
	/* what was not read resets the connection, so what was said last may be lost */
	if (unread && prng_below(&the_net.prng, 2) == 0)
		other->reset = true;
	if (prng_below(&the_net.prng, 2) == 0 && side == NET_CLIENT)
		pipe_forget(&end->out);
	else
		pipe_lag(&end->out);
	if (conn_used(conn))
		return;
	for (int i = 0; i < NET_SIDES; i++) {
		free(conn->ends[i].out.data);
		memset(&conn->ends[i].out, 0, sizeof conn->ends[i].out);
	}
}

void net_cut(struct net *net, struct net_conn *conn, enum net_cut how)
{
	struct net_end *client = &conn->ends[NET_CLIENT], *server = &conn->ends[NET_SERVER];

	sim_trace(net->threads, conn->number * NET_CUTS + how);
	client->reset |= how == NET_LOSE_BOTH || how == NET_LOSE_DOWN;
	server->reset |= how != NET_LOSE_DOWN;
	client->out.ended |= client->reset;
	server->out.ended |= server->reset;
	if (how != NET_LOSE_UP)
		pipe_forget(&server->out);
	if (how != NET_LOSE_DOWN)
		pipe_forget(&client->out);
	else
		pipe_lag(&client->out);
}

bool net_move(struct net *net)
{
	struct net_pipe *pipes[NET_SIDES * NET_CONNS];
	uint32_t count = 0;

	for (uint32_t i = 0; i < NET_CONNS; i++) {
		struct net_conn *conn = &net->conns[i];
		for (int side = 0; side < NET_SIDES; side++) {
			struct net_pipe *pipe = &conn->ends[side].out;
			if (conn->ends[1 - side].open && !pipe_lags(pipe) &&
			    pipe->arrived < pipe->to)
				pipes[count++] = pipe;
		}
	}
	if (count == 0)
		return false;
	struct net_pipe *pipe = pipes[prng_below(&net->prng, count)];
	const uint32_t all = pipe->to - pipe->arrived;
	const bool whole = prng_below(&net->prng, 4) > 0;
	pipe->arrived += whole ? all : 1 + prng_below(&net->prng, all);
	sim_trace(net->threads, all);
	return true;
}

bool net_may_read(const struct net_conn *conn, enum net_side side)
{
	const struct net_pipe *in = &conn->ends[1 - side].out;

	return conn->ends[side].reset || pipe_holds(in) > 0 || pipe_is_over(in);
}

bool net_may_write(const struct net_conn *conn, enum net_side side)
{
	const struct net_pipe *out = &conn->ends[side].out;

	return conn->ends[side].reset || !conn->ends[1 - side].open || conn->ends[1 - side].reset ||
	       out->to - out->from < out->room;
}

bool net_has_caller(const struct net *net)
{
	for (uint32_t i = 0; i < NET_CONNS; i++) {
		if (net->conns[i].ends[NET_SERVER].open && !net->conns[i].accepted)
			return true;
	}
	return false;
}

bool net_server_has_work(const struct net *net)
{
	for (uint32_t i = 0; i < NET_CONNS; i++) {
		const struct net_conn *conn = &net->conns[i];
		if (conn->ends[NET_SERVER].open && net_may_read(conn, NET_SERVER))
			return true;
	}
	return false;
}

/* ---- bytes ---- */

static ssize_t fail_with(int error)
{
	errno = error;
	return -1;
}

static ssize_t end_send(struct net_conn *conn, enum net_side side, const uint8_t *data,
			size_t bytes)
{
	struct net_end *end = &conn->ends[side], *other = &conn->ends[1 - side];
	struct net_pipe *out = &end->out;
	const bool gone = !other->open || other->reset; /* it takes all, and nobody reads it */
	const bool first = gone || (conn->connecting && side == NET_CLIENT);

	if (end->reset || out->ended)
		return fail_with(EPIPE);
	const uint32_t used = out->to - out->from;
	if (used >= out->room && !first)
		return fail_with(EAGAIN);
	uint32_t most = first ? UINT32_MAX : out->room - used;
	most = bytes < most ? (uint32_t)bytes : most;
	if (!first && prng_below(&the_net.prng, 8) == 0)
		most = 1 + prng_below(&the_net.prng, most);
	if (side == NET_CLIENT)
		conn->connecting = false;
	sim_trace_bytes(the_net.threads, data, most);
	if (!gone)
		pipe_put(out, data, most);
	else
		end->reset |= prng_below(&the_net.prng, 2) == 0; /* it learns for the next time */
	return most;
}

static ssize_t end_receive(struct net_conn *conn, enum net_side side, uint8_t *data, size_t bytes)
{
	struct net_pipe *in = &conn->ends[1 - side].out;
	uint32_t most = pipe_holds(in);

	if (conn->ends[side].reset)
		return fail_with(ECONNRESET);
	if (most == 0 && pipe_is_over(in))
		return 0;
	if (most == 0)
		return fail_with(EAGAIN);
	most = bytes < most ? (uint32_t)bytes : most;
	if (prng_below(&the_net.prng, 8) == 0)
		most = 1 + prng_below(&the_net.prng, most);
	memcpy(data, in->data + in->from, most);
	in->from += most;
	return most;
}

/* ---- peers ---- */

struct net_conn *net_dial(struct net *net)
{
	if (!net->listening)
		return NULL;
	struct net_conn *conn = conn_new();
	conn->peer = true;
	return conn;
}

uint32_t net_send(struct net_conn *conn, const uint8_t *data, uint32_t bytes)
{
	const ssize_t put = end_send(conn, NET_CLIENT, data, bytes);
	return put > 0 ? (uint32_t)put : 0;
}

int net_receive(struct net_conn *conn, uint8_t *data, uint32_t bytes)
{
	const ssize_t got = end_receive(conn, NET_CLIENT, data, bytes);

	if (got > 0)
		return (int)got;
	return got < 0 && errno == EAGAIN ? 0 : -ECONNRESET;
}

void net_hang_up(struct net_conn *conn)
{
	end_close(conn, NET_CLIENT);
}

/* ---- in the place of the system ---- */

/* NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming) */
int __wrap_address_listen(struct address *address, struct haul_err *err);
void __wrap_address_unlisten(const struct address *address, int fd);
int __wrap_address_connect(const struct address *address, int *ret_fd);
int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *bytes, int flags);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *bytes);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t bytes);
ssize_t __wrap_send(int fd, const void *data, size_t bytes, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t bytes, int flags);
int __wrap_shutdown(int fd, int how);
int __real_close(int fd);
int __wrap_close(int fd);

int __wrap_address_listen(struct address *address, struct haul_err *err)
{
	(void)address;
	(void)err;
	assert_false(the_net.listening);
	the_net.listening = true;
	return NET_FD_LISTEN;
}

/* Who was not accepted yet is sent away. */
void __wrap_address_unlisten(const struct address *address, int fd)
{
	(void)address;
	assert_int_equal(fd, NET_FD_LISTEN);
	the_net.listening = the_net.listens_asked = false;
	for (uint32_t i = 0; i < NET_CONNS; i++) {
		struct net_conn *conn = &the_net.conns[i];
		if (!conn->ends[NET_SERVER].open || conn->accepted)
			continue;
		conn->ends[NET_CLIENT].reset = true;
		end_close(conn, NET_SERVER);
	}
}

int __wrap_address_connect(const struct address *address, int *ret_fd)
{
	(void)address;
	if (!the_net.listening && prng_below(&the_net.prng, 2) == 0)
		return -ECONNREFUSED;
	*ret_fd = NET_FD + NET_SIDES * (int)(conn_new() - the_net.conns) + NET_CLIENT;
	return prng_below(&the_net.prng, 2) == 0 ? -EINPROGRESS : 0;
}

int __wrap_accept4(int fd, struct sockaddr *from, socklen_t *bytes, int flags)
{
	const uint32_t at = prng_below(&the_net.prng, NET_CONNS);

	(void)from;
	(void)bytes;
	(void)flags;
	assert_int_equal(fd, NET_FD_LISTEN);
	if (the_net.one_refuse > 0 && prng_below(&the_net.prng, the_net.one_refuse) == 0)
		return (int)fail_with(prng_below(&the_net.prng, 2) == 0 ? EMFILE : ECONNABORTED);
	for (uint32_t i = 0; i < NET_CONNS; i++) {
		struct net_conn *conn = &the_net.conns[(at + i) % NET_CONNS];
		if (!conn->ends[NET_SERVER].open || conn->accepted)
			continue;
		conn->accepted = true;
		sim_trace(the_net.threads, conn->number);
		return NET_FD + NET_SIDES * (int)(conn - the_net.conns) + NET_SERVER;
	}
	return (int)fail_with(EAGAIN);
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *bytes)
{
	assert_in_range(fd, NET_FD, NET_FD + NET_SIDES * NET_CONNS - 1);
	const struct net_conn *conn = &the_net.conns[(fd - NET_FD) / NET_SIDES];
	const int error = conn->ends[NET_CLIENT].reset ? ECONNREFUSED : 0;

	(void)level;
	assert_int_equal(name, SO_ERROR);
	assert_int_equal(*bytes, sizeof error);
	memcpy(value, &error, sizeof error);
	return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t bytes)
{
	(void)level;
	(void)name;
	(void)value;
	(void)bytes;
	assert_non_null(net_conn_of(fd));
	return 0;
}

ssize_t __wrap_send(int fd, const void *data, size_t bytes, int flags)
{
	const struct net_socket at = net_socket_of(fd);

	(void)flags;
	if (at.side == NET_CLIENT)
		the_net.sent(the_net.arg, data, bytes);
	return end_send(at.conn, at.side, data, bytes);
}

/* As much as the first parts have: each may be cut. */
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	ssize_t all = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++) {
		const struct iovec *part = &message->msg_iov[i];
		const ssize_t put = __wrap_send(fd, part->iov_base, part->iov_len, flags);
		if (put < 0)
			return all > 0 ? all : put;
		all += put;
		if ((size_t)put < part->iov_len)
			break;
	}
	return all;
}

ssize_t __wrap_recv(int fd, void *data, size_t bytes, int flags)
{
	const struct net_socket at = net_socket_of(fd);

	(void)flags;
	return end_receive(at.conn, at.side, data, bytes);
}

int __wrap_shutdown(int fd, int how)
{
	const struct net_socket at = net_socket_of(fd);

	if (at.conn != NULL && how == SHUT_WR)
		at.conn->ends[at.side].out.ended = true;
	else if (at.conn != NULL)
		at.conn->ends[at.side].reset = true;
	return 0;
}

int __wrap_close(int fd)
{
	if (poll_close(fd))
		return 0;
	const struct net_socket at = net_socket_of(fd);
	if (at.conn == NULL)
		return __real_close(fd);
	end_close(at.conn, at.side);
	return 0;
}
/* NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming) */

/* ---- open and close ---- */

struct net *net_open(struct sim_threads *threads, uint64_t seed)
{
	memset(&the_net, 0, sizeof the_net);
	the_net.threads = threads;
	prng_init(&the_net.prng, seed);
	poll_open(&the_net);
	return &the_net;
}

void net_close(void)
{
	for (uint32_t i = 0; i < NET_CONNS; i++) {
		struct net_conn *conn = &the_net.conns[i];
		if (conn->ends[NET_CLIENT].open)
			end_close(conn, NET_CLIENT);
		assert_false(conn->ends[NET_SERVER].open);
	}
}
