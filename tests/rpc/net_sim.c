#include "net_sim.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <ucontext.h>

#include "base/hash.h"
#include "rpc/store_address.h"

enum { STACK_BYTES = 256 << 10, ROOM_MAX = 64 << 10 };

struct thread {
	ucontext_t context;
	void *stack;
	void *(*run)(void *arg);
	void *arg;
	bool used, begun, ended;
	struct pollfd *fds;
	nfds_t count;
	int64_t until_ns;
};

/* The wrapped functions have no other way to find it. */
static struct net the_net;
static struct thread threads[NET_THREADS];
static struct thread *current; /* NULL: the test's own */
static ucontext_t back;
static uint64_t wakes[NET_THREADS];
static bool wake_used[NET_THREADS];

void net_trace(struct net *net, uint64_t value)
{
	net->trace = hash_u64(net->trace ^ value) + 1;
}

static void trace_bytes(const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		the_net.trace = (the_net.trace ^ data[i]) * UINT64_C(0x100000001b3);
	net_trace(&the_net, bytes);
}

/* ---- pipes ---- */

static void pipe_open(struct net_pipe *pipe)
{
	*pipe = (struct net_pipe){ .room = 200 + prng_below(&the_net.prng, ROOM_MAX) };
}

static void pipe_close(struct net_pipe *pipe)
{
	free(pipe->data);
	memset(pipe, 0, sizeof *pipe);
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

/* ---- connections ---- */

static struct net_conn *conn_of(int fd)
{
	return fd >= NET_FD && fd < NET_FD + NET_CONNS ? &the_net.conns[fd - NET_FD] : NULL;
}

/* One that is open: nobody uses another. */
static struct net_conn *conn_open_of(int fd)
{
	assert_in_range(fd, NET_FD, NET_FD + NET_CONNS - 1);
	struct net_conn *conn = &the_net.conns[fd - NET_FD];
	assert_true(conn->client);
	return conn;
}

static void conn_free(struct net_conn *conn)
{
	if (conn->client || conn->server)
		return;
	pipe_close(&conn->up);
	pipe_close(&conn->down);
}

static int conn_new(void)
{
	for (int i = 0; i < NET_CONNS; i++) {
		struct net_conn *conn = &the_net.conns[i];
		if (conn->client || conn->server)
			continue;
		*conn = (struct net_conn){ .client = true, .server = the_net.listening };
		conn->number = ++the_net.conns_made;
		conn->reset = !the_net.listening;
		conn->connecting = true;
		pipe_open(&conn->up);
		pipe_open(&conn->down);
		return NET_FD + i;
	}
	fail_msg("too many connections");
	return -1;
}

static void conn_lag(struct net_conn *conn)
{
	if (the_net.lag_ms > 0)
		conn->lag_ns =
			the_net.os->now_ns + prng_below(&the_net.prng, the_net.lag_ms) * NS_PER_MS;
}

void net_cut(struct net *net, struct net_conn *conn, enum net_cut how)
{
	net_trace(net, conn->number * NET_CUTS + how);
	if (how == NET_LOSE_BOTH || how == NET_LOSE_DOWN)
		conn->reset = true;
	if (how != NET_LOSE_UP)
		conn->down.to = conn->down.arrived;
	if (how != NET_LOSE_DOWN) {
		conn->server = false;
		conn->up.to = conn->up.arrived;
	} else {
		conn_lag(conn);
	}
	conn_free(conn);
}

const uint8_t *net_peek(const struct net_conn *conn, uint32_t *ret_bytes)
{
	const bool lags = conn->lag_ns > the_net.os->now_ns;

	*ret_bytes = lags ? 0 : conn->up.arrived - conn->up.from;
	return conn->up.data + conn->up.from;
}

void net_take(struct net_conn *conn, uint32_t bytes)
{
	assert_true(bytes <= conn->up.arrived - conn->up.from);
	conn->up.from += bytes;
}

void net_say(struct net_conn *conn, const uint8_t *data, uint32_t bytes)
{
	trace_bytes(data, bytes);
	if (conn->client && !conn->reset)
		pipe_put(&conn->down, data, bytes);
}

void net_hang_up(struct net_conn *conn)
{
	conn->server = false;
	conn_free(conn);
}

bool net_move(struct net *net)
{
	struct net_pipe *pipes[2 * NET_CONNS];
	uint32_t count = 0;

	for (uint32_t i = 0; i < NET_CONNS; i++) {
		struct net_conn *conn = &net->conns[i];
		const bool lags = conn->lag_ns > net->os->now_ns;
		if (conn->server && !lags && conn->up.arrived < conn->up.to)
			pipes[count++] = &conn->up;
		if (conn->client && conn->down.arrived < conn->down.to)
			pipes[count++] = &conn->down;
	}
	if (count == 0)
		return false;
	struct net_pipe *pipe = pipes[prng_below(&net->prng, count)];
	const uint32_t all = pipe->to - pipe->arrived;
	const bool whole = prng_below(&net->prng, 4) > 0;
	pipe->arrived += whole ? all : 1 + prng_below(&net->prng, all);
	net_trace(net, all);
	return true;
}

/* ---- what may go on ---- */

static bool may_read(const struct net_conn *conn)
{
	return conn->reset || conn->down.from < conn->down.arrived ||
	       (!conn->server && conn->down.arrived == conn->down.to);
}

static bool may_write(const struct net_conn *conn)
{
	return conn->reset || conn->up.to - conn->up.arrived < conn->up.room;
}

static short look_one(const struct pollfd *fd)
{
	const struct net_conn *conn = conn_of(fd->fd);
	int events = 0;

	if (fd->fd >= NET_FD_WAKE)
		events = wakes[fd->fd - NET_FD_WAKE] > 0 ? POLLIN : 0;
	if (conn != NULL && may_read(conn))
		events |= POLLIN;
	if (conn != NULL && may_write(conn))
		events |= POLLOUT;
	return (short)(events & fd->events);
}

static int look(struct pollfd *fds, nfds_t count)
{
	int ready = 0;

	for (nfds_t i = 0; i < count; i++) {
		fds[i].revents = fds[i].fd >= 0 ? look_one(&fds[i]) : 0;
		ready += fds[i].revents != 0;
	}
	return ready;
}

static int wait_for(struct pollfd *fds, nfds_t count, int64_t until_ns)
{
	int ready = look(fds, count);

	if (ready > 0 || until_ns <= the_net.os->now_ns)
		return ready;
	if (current != NULL) {
		struct thread *thread = current;
		thread->fds = fds;
		thread->count = count;
		thread->until_ns = until_ns;
		assert_int_equal(swapcontext(&thread->context, &back), 0);
		return look(fds, count);
	}
	while (ready == 0 && the_net.os->now_ns < until_ns) {
		the_net.turn(the_net.arg);
		ready = look(fds, count);
	}
	return ready;
}

static int64_t until_of(const struct timespec *span)
{
	if (span == NULL)
		return INT64_MAX;
	const int64_t ns = span->tv_sec * NS_PER_S + span->tv_nsec;
	return ns < INT64_MAX / 2 ? the_net.os->now_ns + ns : INT64_MAX;
}

/* ---- threads ---- */

static void thread_main(void)
{
	struct thread *thread = current;

	(void)thread->run(thread->arg);
	thread->ended = true;
	(void)swapcontext(&thread->context, &back);
}

/* By itself: getcontext may return twice. */
static void thread_open(struct thread *thread, void *(*run)(void *), void *arg)
{
	*thread = (struct thread){ .used = true, .run = run, .arg = arg };
	thread->stack = malloc(STACK_BYTES);
	assert_non_null(thread->stack);
	assert_int_equal(getcontext(&thread->context), 0);
	thread->context.uc_stack.ss_sp = thread->stack;
	thread->context.uc_stack.ss_size = STACK_BYTES;
	thread->context.uc_link = NULL;
	makecontext(&thread->context, thread_main, 0);
}

static bool thread_ready(struct thread *thread)
{
	if (!thread->used || thread->ended)
		return false;
	return !thread->begun || thread->until_ns <= the_net.os->now_ns ||
	       look(thread->fds, thread->count) > 0;
}

bool net_run_thread(struct net *net)
{
	uint32_t ready[NET_THREADS], count = 0;

	assert_null(current);
	for (uint32_t i = 0; i < NET_THREADS; i++) {
		if (thread_ready(&threads[i]))
			ready[count++] = i;
	}
	if (count == 0)
		return false;
	const uint32_t at = ready[prng_below(&net->prng, count)];
	net_trace(net, at);
	current = &threads[at];
	current->begun = true;
	assert_int_equal(swapcontext(&back, &current->context), 0);
	current = NULL;
	return true;
}

int64_t net_wake_ns(const struct net *net)
{
	int64_t wake_ns = INT64_MAX;

	(void)net;
	for (uint32_t i = 0; i < NET_THREADS; i++) {
		const struct thread *thread = &threads[i];
		if (thread->used && !thread->ended && thread->until_ns < wake_ns)
			wake_ns = thread->until_ns;
	}
	return wake_ns;
}

/* ---- in the place of the system ---- */

/* NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming) */
int __wrap_address_connect(const struct address *address, int *ret_fd);
struct os *__wrap_os_linux(void);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *bytes);
ssize_t __wrap_send(int fd, const void *data, size_t bytes, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t bytes, int flags);
int __wrap_shutdown(int fd, int how);
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_eventfd(unsigned start, int flags);
ssize_t __real_read(int fd, void *data, size_t bytes);
ssize_t __wrap_read(int fd, void *data, size_t bytes);
ssize_t __real_write(int fd, const void *data, size_t bytes);
ssize_t __wrap_write(int fd, const void *data, size_t bytes);
int __wrap_poll(struct pollfd *fds, nfds_t count, int ms);
int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *span,
		 const sigset_t *mask);
int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
			  void *(*run)(void *), void *arg);
int __wrap_pthread_join(pthread_t name, void **ret_value);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock);
int __wrap_pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *lock, clockid_t clock,
				  const struct timespec *until);
void __wrap_park_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns);

struct os *__wrap_os_linux(void)
{
	return &the_net.os->os;
}

int __wrap_address_connect(const struct address *address, int *ret_fd)
{
	(void)address;
	if (!the_net.listening && prng_below(&the_net.prng, 2) == 0)
		return -ECONNREFUSED;
	*ret_fd = conn_new();
	return prng_below(&the_net.prng, 2) == 0 ? -EINPROGRESS : 0;
}

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *bytes)
{
	const int error = conn_open_of(fd)->reset ? ECONNREFUSED : 0;

	(void)level;
	assert_int_equal(name, SO_ERROR);
	assert_int_equal(*bytes, sizeof error);
	memcpy(value, &error, sizeof error);
	return 0;
}

ssize_t __wrap_send(int fd, const void *data, size_t bytes, int flags)
{
	struct net_conn *conn = conn_open_of(fd);

	(void)flags;
	the_net.sent(the_net.arg, fd, data, bytes);
	if (conn->reset) {
		errno = EPIPE;
		return -1;
	}
	const uint32_t used = conn->up.to - conn->up.arrived;
	if (used >= conn->up.room && !conn->connecting) {
		errno = EAGAIN;
		return -1;
	}
	uint32_t most = conn->connecting ? UINT32_MAX : conn->up.room - used;
	most = bytes < most ? (uint32_t)bytes : most;
	if (!conn->connecting && prng_below(&the_net.prng, 8) == 0)
		most = 1 + prng_below(&the_net.prng, most);
	conn->connecting = false;
	trace_bytes(data, most);
	if (conn->server)
		pipe_put(&conn->up, data, most);
	return most;
}

ssize_t __wrap_recv(int fd, void *data, size_t bytes, int flags)
{
	struct net_conn *conn = conn_open_of(fd);

	(void)flags;
	uint32_t most = conn->down.arrived - conn->down.from;
	if (conn->reset || (most == 0 && (conn->server || conn->down.to > conn->down.arrived))) {
		errno = conn->reset ? ECONNRESET : EAGAIN;
		return -1;
	}
	most = bytes < most ? (uint32_t)bytes : most;
	if (most > 0)
		memcpy(data, conn->down.data + conn->down.from, most);
	conn->down.from += most;
	return most;
}

int __wrap_shutdown(int fd, int how)
{
	struct net_conn *conn = conn_of(fd);

	(void)how;
	if (conn != NULL)
		conn->reset = true;
	return 0;
}

int __wrap_close(int fd)
{
	struct net_conn *conn = conn_of(fd);

	if (fd >= NET_FD_WAKE) {
		wake_used[fd - NET_FD_WAKE] = false;
		return 0;
	}
	if (conn == NULL)
		return __real_close(fd);
	assert_true(conn->client);
	conn->client = false;
	if (prng_below(&the_net.prng, 2) == 0) /* what is under way is thrown away */
		conn->up.to = conn->up.arrived;
	else
		conn_lag(conn);
	conn_free(conn);
	return 0;
}

int __wrap_eventfd(unsigned start, int flags)
{
	int at = 0;

	(void)flags;
	assert_int_equal(start, 0);
	while (wake_used[at])
		at++;
	assert_in_range(at, 0, NET_THREADS - 1);
	wake_used[at] = true;
	wakes[at] = 0;
	return NET_FD_WAKE + at;
}

ssize_t __wrap_read(int fd, void *data, size_t bytes)
{
	if (fd < NET_FD_WAKE)
		return __real_read(fd, data, bytes);
	assert_int_equal(bytes, sizeof wakes[0]);
	memcpy(data, &wakes[fd - NET_FD_WAKE], bytes);
	wakes[fd - NET_FD_WAKE] = 0;
	return (ssize_t)bytes;
}

ssize_t __wrap_write(int fd, const void *data, size_t bytes)
{
	if (fd < NET_FD_WAKE)
		return __real_write(fd, data, bytes);
	wakes[fd - NET_FD_WAKE]++;
	return (ssize_t)bytes;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int ms)
{
	return wait_for(fds, count, ms < 0 ? INT64_MAX : the_net.os->now_ns + ms * NS_PER_MS);
}

int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *span,
		 const sigset_t *mask)
{
	(void)mask;
	return wait_for(fds, count, until_of(span));
}

int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
			  void *(*run)(void *), void *arg)
{
	uint32_t at = 0;

	(void)attributes;
	while (at < NET_THREADS && threads[at].used)
		at++;
	assert_in_range(at, 0, NET_THREADS - 1);
	thread_open(&threads[at], run, arg);
	*ret_thread = (pthread_t)at + 1;
	return 0;
}

int __wrap_pthread_join(pthread_t name, void **ret_value)
{
	struct thread *thread = &threads[name - 1];

	(void)ret_value;
	while (!thread->ended)
		the_net.turn(the_net.arg);
	free(thread->stack);
	memset(thread, 0, sizeof *thread);
	return 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
{
	(void)cond;
	assert_null(current);
	(void)pthread_mutex_unlock(lock);
	the_net.turn(the_net.arg);
	(void)pthread_mutex_lock(lock);
	return 0;
}

int __wrap_pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *lock, clockid_t clock,
				  const struct timespec *until)
{
	(void)clock;
	(void)__wrap_pthread_cond_wait(cond, lock);
	const int64_t until_ns = until->tv_sec * NS_PER_S + until->tv_nsec;
	return the_net.os->now_ns >= until_ns ? ETIMEDOUT : 0;
}

void __wrap_park_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns)
{
	(void)timeout_ns;
	assert_null(current);
	if (atomic_load(word) == seen)
		the_net.turn(the_net.arg);
}
/* NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming) */

/* ---- open and close ---- */

struct net *net_open(struct os_sim *os, uint64_t seed)
{
	memset(&the_net, 0, sizeof the_net);
	memset(threads, 0, sizeof threads);
	memset(wake_used, 0, sizeof wake_used);
	current = NULL;
	the_net.os = os;
	the_net.trace = seed;
	prng_init(&the_net.prng, seed);
	return &the_net;
}

void net_close(void)
{
	for (uint32_t i = 0; i < NET_CONNS; i++) {
		struct net_conn *conn = &the_net.conns[i];
		conn->client = conn->server = false;
		conn_free(conn);
	}
	for (uint32_t i = 0; i < NET_THREADS; i++)
		assert_false(threads[i].used);
}
