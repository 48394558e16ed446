/* rpc/conn.c — connections: sockets, buffers, lists. */
#include "rpc/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "rpc/worker.h"

enum { RECV_MIN = 4096 };

/* ---- lists ---- */

void conn_wake(struct conn *conn)
{
	struct worker *worker = conn->worker;
	if (conn->running || !conn->open)
		return;
	conn->running = true;
	conn->next = NULL;
	if (worker->run_last)
		worker->run_last->next = conn;
	else
		worker->run_first = conn;
	worker->run_last = conn;
}

/* Before all others: it has received something. */
static void wake_fresh(struct conn *conn)
{
	struct worker *worker = conn->worker;
	if (conn->running || !conn->open)
		return;
	conn->running = conn->fresh = true;
	conn->next = worker->run_first;
	worker->run_first = conn;
	if (!worker->run_last)
		worker->run_last = conn;
}

void conn_append(struct conn *conn, struct task *task)
{
	HAUL_ASSERT(!task->in_list);
	task->next = NULL;
	task->in_list = true;
	if (conn->last)
		conn->last->next = task;
	else
		conn->first = task;
	conn->last = task;
}

void conn_send_task(struct conn *conn, struct task *task)
{
	task->state = TASK_SENT;
	worker_send(conn->worker, task->owner, HOP_EXECUTE, task);
}

/* ---- opening and closing ---- */

int conn_open(struct worker *worker, int fd)
{
	struct conn *conn = worker->conn_free;
	if (!conn)
		return HAUL_EFULL;
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = conn };
	int one = 1;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	worker->conn_free = conn->next;
	worker->conn_count++;
	worker->counts.total_connections++;
	*conn = (struct conn){
		.worker = worker,
		.fd = fd,
		.open = true,
		.events = EPOLLIN,
		.in = conn->in,
		.out = conn->out,
	};
	return 0;
}

static void give_pages_back(struct conn *conn)
{
	if (conn->high <= CONN_KEEP)
		return;
	(void)madvise(conn->in, CONN_IN, MADV_DONTNEED);
	(void)madvise(conn->out, CONN_OUT, MADV_DONTNEED);
	conn->high = 0;
}

bool conn_sweep(struct conn *conn)
{
	bool idle = !conn->used && conn->task_count == 0 && conn->in_start == conn->in_end &&
		    conn->out_start == conn->out_end;
	conn->used = false;
	if (idle)
		give_pages_back(conn);
	return conn->high > CONN_KEEP;
}

void conn_recycle(struct conn *conn)
{
	struct worker *worker = conn->worker;
	if (conn->open || conn->task_count > 0 || conn->slice_count > 0)
		return;
	if (conn->running || conn->starved) /* whose list it is in comes here again */
		return;
	give_pages_back(conn);
	conn->next = worker->conn_free;
	worker->conn_free = conn;
	HAUL_ASSERT(worker->conn_count > 0);
	worker->conn_count--;
	atomic_fetch_sub_explicit(&worker->server->connections, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&worker->server->worker_connections[worker->id], 1,
				  memory_order_relaxed);
}

void conn_freed(struct conn *conn, bool slice)
{
	uint32_t *count = slice ? &conn->slice_count : &conn->task_count;
	HAUL_ASSERT(*count > 0);
	(*count)--;
	bool last = conn->eof || conn->close_after || conn->worker->stopping;
	if (!conn->open)
		conn_recycle(conn);
	else if (slice || conn->starved || (last && conn->task_count == 0))
		conn_wake(conn);
}

void conn_close(struct conn *conn)
{
	if (!conn->open)
		return;
	struct task *task = conn->first;
	struct task *unsent = conn->receive.active ? conn->receive.task : NULL;
	conn->open = false;
	(void)close(conn->fd);
	conn->fd = -1;
	conn->first = conn->last = NULL;
	conn->receive.active = false;
	stream_end(conn);
	/* So that the place is not free before the end of this. */
	bool running = conn->running;
	conn->running = true;
	while (task) {
		struct task *next = task->next;
		task->in_list = false;
		/* Those that an owner has are dropped when they come back. */
		if (task->state != TASK_SENT || task == unsent)
			task_drop(conn->worker, task);
		task = next;
	}
	conn->running = running;
	conn_recycle(conn);
}

void conn_finish(struct conn *conn)
{
	conn->close_after = true;
	conn->swallow = 0;
	conn->in_start = conn->in_end;
}

/* ---- what the owner says ---- */

void conn_applied(struct task *task)
{
	struct conn *conn = task->conn;
	if (task->applied || !conn)
		return;
	task->applied = true;
	if (task->borrows) {
		task->borrows = false;
		HAUL_ASSERT(conn->in_borrowed > 0);
		conn->in_borrowed--;
	}
	HAUL_ASSERT(conn->phase_pending > 0);
	conn->phase_pending--;
	conn_wake(conn);
}

void conn_done(struct worker *worker, struct task *task)
{
	struct conn *conn = task->conn;
	HAUL_ASSERT(task->state == TASK_SENT);
	task->state = TASK_DONE;
	if (!conn) {
		HAUL_ASSERT(task == &worker->purge);
		task->tour->busy = false;
		task->tour = NULL;
		worker_feed(worker);
		return;
	}
	if (task->holds) {
		task->held_prev = NULL;
		task->held_next = worker->held;
		if (worker->held)
			worker->held->held_prev = task;
		worker->held = task;
	}
	if (!conn_reads(task))
		conn_applied(task);
	if (task->put_slice)
		receive_stored(conn, task);
	if (!conn->open || !task->in_list) {
		task_drop(worker, task);
		return;
	}
	conn_wake(conn);
}

/* ---- input and output ---- */

/* Where more can be received. */
static uint32_t make_room(struct conn *conn)
{
	uint32_t bytes = conn->in_end - conn->in_start;
	if (conn->in_borrowed == 0 && bytes == 0) {
		conn->in_start = conn->in_end = 0;
	} else if (conn->in_borrowed == 0 && CONN_IN - conn->in_end < CONN_IN / 2) {
		memmove(conn->in, conn->in + conn->in_start, bytes);
		conn->in_start = 0;
		conn->in_end = bytes;
	}
	return CONN_IN - conn->in_end;
}

void conn_readable(struct conn *conn)
{
	uint32_t room = make_room(conn);
	if (!conn->open || conn->close_after || conn->eof || room == 0)
		return;
	ssize_t got = recv(conn->fd, conn->in + conn->in_end, room, MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got < 0) {
		conn_close(conn);
		return;
	}
	conn->eof = got == 0;
	conn->in_end += (uint32_t)got;
	if (conn->in_end > conn->high)
		conn->high = conn->in_end;
	conn->used = true;
	conn->worker->sweep = conn->worker->sweep || conn->high > CONN_KEEP;
	conn->worker->counts.bytes_read += (uint64_t)got;
	wake_fresh(conn);
}

/* What epoll is to tell: no input while there is no room for it, or the client does not read. */
static void ask_events(struct conn *conn)
{
	bool input = !conn->eof && !conn->close_after && !conn->full && !conn->worker->stopping &&
		     make_room(conn) > 0;
	uint32_t events = (input ? (uint32_t)EPOLLIN : 0) |
			  (conn->out_start < conn->out_end ? (uint32_t)EPOLLOUT : 0);
	if (events == conn->events)
		return;
	struct epoll_event event = { .events = events, .data.ptr = conn };
	if (epoll_ctl(conn->worker->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) < 0)
		conn_close(conn);
	else
		conn->events = events;
}

/* Nothing will come of it any more. */
static bool is_over(const struct conn *conn)
{
	bool last = conn->eof || conn->close_after || conn->worker->stopping;
	if (!last || conn->out_start < conn->out_end)
		return false;
	/* Half a value and no more to come. */
	if (conn->receive.active && conn->receive.pending == 0 && !conn->starved)
		return conn->first == conn->receive.task;
	return conn->task_count == 0 && !conn->starved;
}

void conn_run(struct conn *conn)
{
	if (!conn->open) {
		conn_recycle(conn);
		return;
	}
	(void)conn_emit(conn);
	conn_parse(conn);
	(void)conn_emit(conn);
	if (!conn->open)
		return;
	if (conn_send(conn) < 0) {
		conn_close(conn);
		return;
	}
	/* The client reads again. */
	if (conn->full && conn->out_end - conn->out_start < CONN_OUT / 4) {
		conn->full = false;
		conn_wake(conn);
	}
	if (is_over(conn))
		conn_close(conn);
	else
		ask_events(conn);
}
