#include "net_poll.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

static struct net *net;
static uint64_t wakes[NET_WAKES];
static bool wake_used[NET_WAKES];
static bool epoll_used;

static bool is_wake(int fd)
{
	return fd >= NET_FD_WAKE && fd < NET_FD_WAKE + NET_WAKES;
}

/* ---- poll ---- */

struct look {
	struct pollfd *fds;
	nfds_t count;
};

static short look_one(const struct pollfd *fd)
{
	const struct net_socket at = net_socket_of(fd->fd);
	int events = 0;

	if (is_wake(fd->fd)) {
		events = wakes[fd->fd - NET_FD_WAKE] > 0 ? POLLIN : 0;
	} else if (at.conn != NULL) {
		events |= net_may_read(at.conn, at.side) ? POLLIN : 0;
		events |= net_may_write(at.conn, at.side) ? POLLOUT : 0;
	}
	return (short)(events & fd->events);
}

static int look(const struct look *at)
{
	int ready = 0;

	for (nfds_t i = 0; i < at->count; i++) {
		at->fds[i].revents = at->fds[i].fd >= 0 ? look_one(&at->fds[i]) : 0;
		ready += at->fds[i].revents != 0;
	}
	return ready;
}

static bool look_ready(void *what)
{
	return look(what) > 0;
}

static int64_t until_of(int64_t ns)
{
	const int64_t now_ns = sim_now_ns(net->threads);
	return ns < INT64_MAX - now_ns ? now_ns + ns : INT64_MAX;
}

static int wait_for(struct look *at, int64_t until_ns)
{
	if (look(at) == 0 && until_ns > sim_now_ns(net->threads))
		sim_wait(look_ready, at, until_ns);
	return look(at);
}

/* ---- epoll ---- */

static uint32_t end_events(const struct net_conn *conn, enum net_side side)
{
	const struct net_end *end = &conn->ends[side];
	const bool over = conn->ends[1 - side].out.ended && net_may_read(conn, side);
	/* a Unix socket says so as soon as the other end is closed, the others when both are */
	const bool gone =
		over && !conn->ends[1 - side].open && (conn->number % 2 == 0 || end->out.ended);
	uint32_t events = 0;

	events |= net_may_read(conn, side) ? (uint32_t)EPOLLIN : 0;
	events |= net_may_write(conn, side) ? (uint32_t)EPOLLOUT : 0;
	events &= end->events;
	events |= end->reset ? (uint32_t)EPOLLERR | EPOLLHUP : 0;
	return events | (gone ? (uint32_t)EPOLLHUP : 0);
}

/* All that epoll would say. */
static int events_look(struct epoll_event *events)
{
	int count = 0;

	for (uint32_t i = 0; i < NET_CONNS; i++) {
		const struct net_end *end = &net->conns[i].ends[NET_SERVER];
		if (!end->watched)
			continue;
		const uint32_t what = end_events(&net->conns[i], NET_SERVER);
		if (what != 0)
			events[count++] =
				(struct epoll_event){ .events = what, .data.ptr = end->data };
	}
	if (net->listens_asked && net_has_caller(net))
		events[count++] =
			(struct epoll_event){ .events = EPOLLIN, .data.ptr = net->listener };
	if (net->polls_wake && wakes[net->server_wake] > 0)
		events[count++] = (struct epoll_event){ .events = EPOLLIN };
	return count;
}

static bool events_ready(void *what)
{
	struct epoll_event events[NET_CONNS + 2];

	(void)what;
	return events_look(events) > 0;
}

/* ---- in the place of the system ---- */

/* NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming) */
int __wrap_eventfd(unsigned start, int flags);
ssize_t __real_read(int fd, void *data, size_t bytes);
ssize_t __wrap_read(int fd, void *data, size_t bytes);
ssize_t __real_write(int fd, const void *data, size_t bytes);
ssize_t __wrap_write(int fd, const void *data, size_t bytes);
int __wrap_poll(struct pollfd *fds, nfds_t count, int ms);
int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *span,
		 const sigset_t *mask);
int __wrap_epoll_create1(int flags);
int __wrap_epoll_ctl(int epoll_fd, int how, int fd, struct epoll_event *event);
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int most, int ms);

int __wrap_eventfd(unsigned start, int flags)
{
	int at = 0;

	(void)flags;
	assert_int_equal(start, 0);
	while (wake_used[at])
		at++;
	assert_in_range(at, 0, NET_WAKES - 1);
	wake_used[at] = true;
	wakes[at] = 0;
	return NET_FD_WAKE + at;
}

ssize_t __wrap_read(int fd, void *data, size_t bytes)
{
	if (!is_wake(fd))
		return __real_read(fd, data, bytes);
	assert_int_equal(bytes, sizeof wakes[0]);
	memcpy(data, &wakes[fd - NET_FD_WAKE], bytes);
	wakes[fd - NET_FD_WAKE] = 0;
	return (ssize_t)bytes;
}

ssize_t __wrap_write(int fd, const void *data, size_t bytes)
{
	if (!is_wake(fd))
		return __real_write(fd, data, bytes);
	wakes[fd - NET_FD_WAKE]++;
	return (ssize_t)bytes;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int ms)
{
	struct look at = { fds, count };

	return wait_for(&at, ms < 0 ? INT64_MAX : until_of(ms * NS_PER_MS));
}

int __wrap_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *span,
		 const sigset_t *mask)
{
	struct look at = { fds, count };

	(void)mask;
	return wait_for(&at, span == NULL ? INT64_MAX
					  : until_of(span->tv_sec * NS_PER_S + span->tv_nsec));
}

int __wrap_epoll_create1(int flags)
{
	(void)flags;
	assert_false(epoll_used);
	epoll_used = true;
	return NET_FD_EPOLL;
}

int __wrap_epoll_ctl(int epoll_fd, int how, int fd, struct epoll_event *event)
{
	assert_int_equal(epoll_fd, NET_FD_EPOLL);
	if (fd == NET_FD_LISTEN) {
		net->listens_asked = event->events != 0;
		net->listener = event->data.ptr;
		return 0;
	}
	if (is_wake(fd)) {
		assert_null(event->data.ptr);
		net->polls_wake = true;
		net->server_wake = fd - NET_FD_WAKE;
		return 0;
	}
	const struct net_socket at = net_socket_of(fd);
	struct net_end *end = &at.conn->ends[NET_SERVER];
	assert_int_equal(at.side, NET_SERVER);
	assert_int_equal(end->watched, how != EPOLL_CTL_ADD);
	end->watched = how != EPOLL_CTL_DEL;
	if (end->watched) {
		end->events = event->events;
		end->data = event->data.ptr;
	}
	return 0;
}

int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int most, int ms)
{
	struct epoll_event all[NET_CONNS + 2];
	struct prng *prng = &net->prng;

	assert_int_equal(epoll_fd, NET_FD_EPOLL);
	if (prng_below(prng, 64) == 0) {
		errno = EINTR;
		return -1;
	}
	if (ms != 0 && !events_ready(NULL))
		sim_wait(events_ready, NULL, ms < 0 ? INT64_MAX : until_of(ms * NS_PER_MS));
	int count = events_look(all);
	if (count > 0 && prng_below(prng, 2) == 0)
		most = 1 + (int)prng_below(prng, (uint32_t)count);
	most = count < most ? count : most;
	for (int i = 0; i < most; i++) {
		const uint32_t at = prng_below(prng, (uint32_t)count);
		events[i] = all[at];
		all[at] = all[--count];
	}
	return most;
}
/* NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming) */

/* ---- open and close ---- */

void poll_open(struct net *of)
{
	net = of;
	epoll_used = false;
	memset(wake_used, 0, sizeof wake_used);
}

bool poll_close(int fd)
{
	if (is_wake(fd)) {
		if (fd - NET_FD_WAKE == net->server_wake)
			net->polls_wake = false;
		wake_used[fd - NET_FD_WAKE] = false;
		return true;
	}
	if (fd != NET_FD_EPOLL)
		return false;
	epoll_used = false;
	return true;
}
