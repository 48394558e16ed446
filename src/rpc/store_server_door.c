/* Who comes in, and who has to go because time has passed. */
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/assert.h"
#include "rpc/store_server_state.h"

enum { ACCEPTS = 64 }; /* of one turn */

/* ---- coming ---- */

static void refuse(struct store_server *server, int fd)
{
	_Alignas(8) uint8_t frame[WIRE_ERROR_BYTES];
	const uint32_t bytes =
		wire_put_error(frame, -EBUSY, "too many connections are open at this server");

	(void)send(fd, frame, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)close(fd);
	server_count(server, S_FULL, 1);
}

static void set_up(int fd)
{
	const int one = 1, patience_ms = 15000;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience_ms, sizeof patience_ms);
}

void server_accept(struct store_server *server, int listener)
{
	for (uint32_t i = 0; i < ACCEPTS; i++) {
		const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0) {
			server->accept_paused =
				errno != EAGAIN && errno != ECONNABORTED && errno != EINTR;
			return;
		}
		struct server_conn *conn = server->conns_free;
		if (conn == NULL) {
			refuse(server, fd);
			continue;
		}
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = conn };
		if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
			(void)close(fd);
			continue;
		}
		set_up(fd);
		server->conns_free = conn->next;
		server->conns_used++;
		conn->used = true;
		conn->fd = fd;
		conn->events = EPOLLIN;
		conn->half_ns = server->now_ns + server->patience.hello_ns;
		server_count(server, S_ACCEPTED, 1);
		server_count(server, S_CONNECTIONS, 1);
	}
}

/* ---- time ---- */

static void sweep_one(struct store_server *server, struct server_conn *conn)
{
	const int64_t still_ns = server->now_ns - conn->moved_ns;
	const bool out = conn->out.head != NULL || conn->last_sent < conn->last_bytes;

	if (conn->leaving && server->now_ns >= conn->half_ns) {
		server_conn_close(server, conn);
	} else if (out && still_ns > server->patience.out_ns) {
		server_count(server, S_LATE, 1);
		server_conn_close(server, conn);
	} else if (!conn->leaving && conn->half_ns != 0 && server->now_ns >= conn->half_ns) {
		server_count(server, S_LATE, 1);
		server_conn_fail(server, conn, -ETIMEDOUT,
				 conn->greeted ? "the rest of a frame did not come in time"
					       : "nothing came that begins a connection");
	} else if (server->starved > 0 && (conn->filling != NULL || out) &&
		   still_ns > server->patience.stall_ns) {
		server_count(server, S_EVICTED, 1);
		server_conn_close(server, conn);
	}
}

void server_sweep(struct store_server *server)
{
	if (server->now_ns < server->sweep_ns)
		return;
	server->sweep_ns = server->now_ns + SERVER_SWEEP_MS * NS_PER_MS;
	server->accept_paused = false;
	server->timers = server->starved > 0;
	for (uint32_t i = 0; i < server->options.connections_max; i++) {
		struct server_conn *conn = &server->conns[i];
		if (conn->fd >= 0)
			sweep_one(server, conn);
		server->timers |= conn->fd >= 0 && (conn->half_ns != 0 || conn->out.head != NULL ||
						    conn->last_sent < conn->last_bytes);
	}
	for (uint32_t i = 0; i < SERVER_PINS; i++) {
		struct server_pin *pin = &server->pins[i];
		server->timers |= pin->conn != NULL;
		if (pin->conn != NULL && !pin->conn->asking &&
		    server->now_ns - pin->used_ns > server->patience.pin_ns)
			server_unpin(server, pin->conn);
	}
}
