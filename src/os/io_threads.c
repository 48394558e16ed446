/* The engine where io_uring is forbidden: threads that call pread, pwrite and fdatasync.
 *
 * submit puts an operation on a list of the submitter's own; push hands the whole list over and
 * wakes once. A worker takes one operation at a time and puts it, when done, onto the list of what
 * is done. The eventfd counts 1 from the moment that list gets its first entry until reap takes all
 * of it; both happen under the lock, so the descriptor never lies. A sync that is to take longer
 * waits, after it was done, on a list sorted by time (all wait equally long): whichever worker is
 * idle moves it on, and no worker sleeps for it while there is work. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/io_state.h"

enum { STACK_BYTES = 64 * 1024 };

struct threads {
	struct io io; /* first: the engine is found by it */
	int file_fd;
	bool block_device;
	struct os *os;
	int64_t sync_add_ns;
	struct io_list staged; /* submitted, not pushed: the submitter's alone */
	pthread_mutex_t lock;  /* for all that follows */
	pthread_cond_t wake;
	struct io_list queue;
	struct io_list delayed; /* until due_ns */
	struct io_list done;
	bool stop;
	uint32_t thread_count;
	pthread_t threads[];
};

static struct threads *threads_of(struct io *io)
{
	return (struct threads *)(void *)io;
}

/* ---- the work ---- */

static ssize_t write_at(int fd, const struct io_op *op)
{
	struct iovec data = { op->data, op->bytes };

	if (!op->durable)
		return pwrite(fd, op->data, op->bytes, (off_t)op->offset);
	return pwritev2(fd, &data, 1, (off_t)op->offset, RWF_DSYNC);
}

static int32_t transfer(const struct threads *threads, const struct io_op *op)
{
	ssize_t got = 0;

	if (op->kind == IO_READ)
		got = pread(threads->file_fd, op->data, op->bytes, (off_t)op->offset);
	else if (op->kind == IO_WRITE)
		got = write_at(threads->file_fd, op);
	else if (op->kind == IO_SYNC)
		got = fdatasync(threads->file_fd);
	else if (!threads->block_device)
		return -EOPNOTSUPP; /* a file keeps its blocks */
	else
		got = fallocate(threads->file_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)op->offset, (off_t)op->bytes);
	return got < 0 ? -errno : (int32_t)got;
}

/* Under the lock. */
static void finish(struct threads *threads, struct io_op *op)
{
	bool was_empty = threads->done.first == NULL;

	io_list_put(&threads->done, op);
	if (was_empty)
		HAUL_ASSERT(eventfd_write(threads->io.fd, 1) == 0);
}

/* Under the lock: move on what has waited long enough, then wait for something to do. */
static void idle(struct threads *threads)
{
	struct io_op *next = threads->delayed.first;
	struct timespec until;

	if (next == NULL) {
		pthread_cond_wait(&threads->wake, &threads->lock);
		return;
	}
	until.tv_sec = next->due_ns / NS_PER_S;
	until.tv_nsec = next->due_ns % NS_PER_S;
	if (threads->os->now_ns(threads->os) >= next->due_ns)
		finish(threads, io_list_take(&threads->delayed));
	else
		pthread_cond_timedwait(&threads->wake, &threads->lock, &until);
}

static void *worker(void *arg)
{
	struct threads *threads = arg;
	struct io_op *op;

	pthread_mutex_lock(&threads->lock);
	for (;;) {
		op = io_list_take(&threads->queue);
		if (op == NULL && threads->stop)
			break;
		if (op == NULL) {
			idle(threads);
			continue;
		}
		pthread_mutex_unlock(&threads->lock);
		op->result = transfer(threads, op);
		pthread_mutex_lock(&threads->lock);
		if ((op->kind == IO_SYNC || op->durable) && threads->sync_add_ns > 0) {
			op->due_ns = threads->os->now_ns(threads->os) + threads->sync_add_ns;
			io_list_put(&threads->delayed, op);
			/* Somebody idle has to watch the clock while this one works. */
			pthread_cond_signal(&threads->wake);
		} else {
			finish(threads, op);
		}
	}
	pthread_mutex_unlock(&threads->lock);
	return NULL;
}

/* ---- the calls ---- */

static void threads_submit(struct io *io, struct io_op *op)
{
	struct threads *threads = threads_of(io);

	if (io->in_flight++ < io->depth) {
		io_list_put(&threads->staged, op);
		return;
	}
	op->result = -EAGAIN;
	pthread_mutex_lock(&threads->lock);
	finish(threads, op);
	pthread_mutex_unlock(&threads->lock);
}

static void threads_push(struct io *io)
{
	struct threads *threads = threads_of(io);
	bool many;

	if (threads->staged.first == NULL)
		return;
	many = threads->staged.first != threads->staged.last;
	pthread_mutex_lock(&threads->lock);
	io_list_move(&threads->queue, &threads->staged);
	pthread_mutex_unlock(&threads->lock);
	io_count_syscall(io);
	if (many)
		pthread_cond_broadcast(&threads->wake);
	else
		pthread_cond_signal(&threads->wake);
}

static uint32_t threads_reap(struct io *io)
{
	struct threads *threads = threads_of(io);
	struct io_list done = { 0 };
	struct io_op *op;
	eventfd_t ignored;
	uint32_t count = 0;

	pthread_mutex_lock(&threads->lock);
	io_list_move(&done, &threads->done);
	if (done.first != NULL) {
		HAUL_ASSERT(eventfd_read(io->fd, &ignored) == 0);
		io_count_syscall(io);
	}
	pthread_mutex_unlock(&threads->lock);
	for (; (op = io_list_take(&done)) != NULL; count++) {
		HAUL_ASSERT(io->in_flight > 0);
		io->in_flight--;
		op->done(op);
	}
	return count;
}

static int threads_wait(struct io *io, int64_t timeout_ns)
{
	struct pollfd poll_fd = { .fd = io->fd, .events = POLLIN };
	struct timespec timeout = { .tv_sec = timeout_ns / NS_PER_S,
				    .tv_nsec = timeout_ns % NS_PER_S };
	int rc;

	io_count_syscall(io);
	rc = ppoll(&poll_fd, 1, timeout_ns < 0 ? NULL : &timeout, NULL);
	if (rc < 0)
		return -errno;
	return rc > 0 ? 0 : -ETIME;
}

/* ---- opening and closing ---- */

static void threads_free(struct threads *threads)
{
	pthread_mutex_lock(&threads->lock);
	threads->stop = true;
	pthread_mutex_unlock(&threads->lock);
	pthread_cond_broadcast(&threads->wake);
	for (uint32_t i = 0; i < threads->thread_count; i++)
		pthread_join(threads->threads[i], NULL);
	pthread_cond_destroy(&threads->wake);
	pthread_mutex_destroy(&threads->lock);
	close(threads->io.fd);
	free(threads);
}

static void threads_close(struct io *io)
{
	threads_push(io);
	while (io->in_flight > 0) {
		threads_wait(io, -1);
		threads_reap(io);
		threads_push(io);
	}
	threads_free(threads_of(io));
}

static const struct io_calls threads_calls = {
	.submit = threads_submit,
	.push = threads_push,
	.reap = threads_reap,
	.wait = threads_wait,
	.close = threads_close,
};

/* The program's signals are for its own threads. */
static int threads_start(struct threads *threads, uint32_t count)
{
	pthread_attr_t attr;
	sigset_t all;
	sigset_t before;
	int rc = 0;

	sigfillset(&all);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (rc == 0 && threads->thread_count < count) {
		rc = pthread_create(&threads->threads[threads->thread_count], &attr, worker,
				    threads);
		threads->thread_count += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -rc;
}

int io_open_threads(struct io **ret_io, const struct file *file, const struct io_options *options)
{
	struct threads *threads =
		calloc(1, sizeof *threads + options->threads * sizeof threads->threads[0]);
	pthread_condattr_t attr;
	int rc;

	if (threads == NULL)
		return -ENOMEM;
	threads->io = (struct io){ .calls = &threads_calls,
				   .engine = IO_THREADS,
				   .depth = options->depth };
	threads->io.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (threads->io.fd < 0) {
		rc = -errno;
		free(threads);
		return rc;
	}
	threads->file_fd = file->fd;
	threads->block_device = file->block_device;
	threads->os = os_linux();
	threads->sync_add_ns = options->sync_add_ns;
	pthread_mutex_init(&threads->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&threads->wake, &attr);
	pthread_condattr_destroy(&attr);
	rc = threads_start(threads, options->threads);
	if (rc < 0) {
		threads_free(threads);
		return rc;
	}
	*ret_io = &threads->io;
	return 0;
}
