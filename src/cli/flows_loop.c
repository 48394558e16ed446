#include "cli/flows_loop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/cli.h"
#include "os/os.h"

int flows_loop_open(struct haul_err *err)
{
	sigset_t set;
	int fd;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGQUIT);
	(void)signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return haul_err_set(err, -errno, "signals: %s", haul_strerror(-errno));
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return haul_err_set(err, -errno, "signals: %s", haul_strerror(-errno));
	return fd;
}

enum flows_loop_why flows_loop_wait(int stop_fd, int input_fd, int64_t until_ns)
{
	struct pollfd fds[] = { { .fd = stop_fd, .events = POLLIN },
				{ .fd = input_fd, .events = POLLIN } };
	int64_t left_ns = until_ns - os_linux()->now_ns(os_linux());
	struct timespec timeout = { 0 };
	int count;

	HAUL_ASSERT(stop_fd >= 0);
	if (left_ns > 0) {
		timeout.tv_sec = left_ns / NS_PER_S;
		timeout.tv_nsec = left_ns % NS_PER_S;
	}
	count = ppoll(fds, 2, &timeout, NULL);
	if (count > 0 && fds[0].revents != 0)
		return FLOWS_LOOP_STOP;
	if (count > 0 && (fds[1].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0)
		return FLOWS_LOOP_STOP; /* the terminal is gone */
	/* Another signal, a terminal that changed its size: for who reads the input. */
	if (count > 0 || (count < 0 && errno == EINTR && input_fd >= 0))
		return FLOWS_LOOP_INPUT;
	return FLOWS_LOOP_TIME;
}

int flows_loop_flush(struct haul_err *err)
{
	const int rc = cli_flush();

	if (rc == 0 || rc == -EPIPE)
		return rc;
	return haul_err_set(err, -EIO, "standard output cannot be written");
}
