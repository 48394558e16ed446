/* The engine on io_uring: one ring, one fixed file, the arena as fixed buffers where that is
 * allowed.
 *
 * An operation's address is its user_data, so nothing is looked up or allocated; the low bits of it
 * say what the completion means (enum tag). What the engine refuses goes through the ring as well,
 * as a no-op: so the descriptor is readable for it as for all else, and a second thread that waits
 * in the kernel sees it.
 *
 * When one thread owns the ring, completions are delivered only when it asks for them
 * (DEFER_TASKRUN): reap enters the kernel if the ring says so. The descriptor of such a ring does
 * not wake epoll (seen on 6.18: readable it becomes, awake nobody), so an eventfd that the kernel
 * signals stands for it, and reap clears it. A shared ring goes without all that: its work is done
 * by whatever thread submitted it, its own descriptor polls, and waiting is
 * io_uring_enter(GETEVENTS) and nothing else: it never touches the submission queue, so that
 * another thread may fill it meanwhile. A lone write that is its own sync does not go through such
 * a ring: whoever waits carries it out itself; if somebody reaps before anybody waits, it goes
 * through the ring after all. */
#include <errno.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/io_state.h"

enum {
	PUSH_TRIES = 1024,
	REAP_AT_ONCE = 64,
	FLUSH_TRIES = 2,
	WORKERS_BOUNDED = 4, /* of the kernel, for syncs and what cannot be done at once */
	WORKERS_UNBOUNDED = 1,
	FIXED_BYTES = 1 << 30, /* the kernel's limit for one fixed buffer */
};

enum tag {
	TAG_RESULT,      /* the completion's result is the operation's */
	TAG_FULL,        /* -EAGAIN: more than depth */
	TAG_UNSUPPORTED, /* -EOPNOTSUPP */
	TAG_LATER,       /* a sync that took longer on purpose: result is there already */
	TAG_MASK = 3,
};

enum lone_state { LONE_NONE, LONE_PENDING, LONE_RUNNING, LONE_DONE };

struct uring {
	struct io io; /* first: the engine is found by it */
	struct io_uring ring;
	int event_fd;           /* -1 = the ring's own descriptor polls */
	int file_fd;            /* or the index of the fixed file */
	int fd;                 /* the file's */
	struct io_op *lone;     /* a durable write that was put in alone */
	_Atomic int lone_state; /* enum lone_state */
	bool file_fixed;
	bool block_device;
	bool shared;
	struct __kernel_timespec sync_add;
	bool sync_later;
	const uint8_t *arena; /* NULL = not registered */
	uint64_t arena_bytes;
};

static struct uring *uring_of(struct io *io)
{
	return (struct uring *)(void *)io;
}

/* ---- putting in ---- */

/* What is in the submission queue becomes the kernel's. When the kernel has no memory for it, it
 * stays where it is, and the next push or reap tries again. */
static void uring_push(struct io *io)
{
	struct uring *uring = uring_of(io);
	int tries = PUSH_TRIES;

	while (io_uring_sq_ready(&uring->ring) > 0 && tries-- > 0) {
		io_count_syscall(io);
		if (io_uring_submit(&uring->ring) < 0)
			sched_yield();
	}
}

static struct io_uring_sqe *sqe_get(struct uring *uring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);

	while (sqe == NULL) {
		uring_push(&uring->io);
		sqe = io_uring_get_sqe(&uring->ring);
	}
	return sqe;
}

/* The fixed buffer that holds all of the operation's data, or -1. */
static int fixed_index(const struct uring *uring, const struct io_op *op)
{
	uintptr_t at = (uintptr_t)op->data - (uintptr_t)uring->arena;
	uint64_t last = at + op->bytes - 1;

	if (uring->arena == NULL || op->bytes == 0 || at >= uring->arena_bytes ||
	    last >= uring->arena_bytes || at / FIXED_BYTES != last / FIXED_BYTES)
		return -1;
	return (int)(at / FIXED_BYTES);
}

static void prep_transfer(const struct uring *uring, struct io_uring_sqe *sqe,
			  const struct io_op *op)
{
	int buffer = fixed_index(uring, op);

	if (op->kind == IO_READ && buffer >= 0)
		io_uring_prep_read_fixed(sqe, uring->file_fd, op->data, op->bytes, op->offset,
					 buffer);
	else if (op->kind == IO_READ)
		io_uring_prep_read(sqe, uring->file_fd, op->data, op->bytes, op->offset);
	else if (buffer >= 0)
		io_uring_prep_write_fixed(sqe, uring->file_fd, op->data, op->bytes, op->offset,
					  buffer);
	else
		io_uring_prep_write(sqe, uring->file_fd, op->data, op->bytes, op->offset);
	if (op->kind == IO_WRITE && op->durable)
		sqe->rw_flags = RWF_DSYNC;
}

/* Returns what its completion will mean. */
static enum tag prep(const struct uring *uring, struct io_uring_sqe *sqe, const struct io_op *op)
{
	if (op->kind == IO_SYNC) {
		io_uring_prep_fsync(sqe, uring->file_fd, IORING_FSYNC_DATASYNC);
	} else if (op->kind != IO_DISCARD) {
		prep_transfer(uring, sqe, op);
	} else if (uring->block_device) {
		io_uring_prep_fallocate(sqe, uring->file_fd,
					FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					(off_t)op->offset, (off_t)op->bytes);
	} else {
		/* A file keeps its blocks: they were written once so that they stay. */
		io_uring_prep_nop(sqe);
		return TAG_UNSUPPORTED;
	}
	if (uring->file_fixed)
		sqe->flags |= IOSQE_FIXED_FILE;
	return TAG_RESULT;
}

static void ring_submit(struct uring *uring, struct io_op *op)
{
	struct io *io = &uring->io;
	struct io_uring_sqe *sqe = sqe_get(uring);
	enum tag tag = TAG_FULL;

	HAUL_ASSERT(((uintptr_t)op & TAG_MASK) == 0);
	if (io->in_flight++ < io->depth)
		tag = prep(uring, sqe, op);
	else
		io_uring_prep_nop(sqe);
	io_uring_sqe_set_data64(sqe, (uintptr_t)op | tag);
}

static void uring_submit(struct io *io, struct io_op *op)
{
	struct uring *uring = uring_of(io);

	if (!uring->shared || !op->durable || io->in_flight > 0 || uring->sync_later) {
		ring_submit(uring, op);
		return;
	}
	HAUL_ASSERT(op->kind == IO_WRITE && atomic_load(&uring->lone_state) == LONE_NONE);
	io->in_flight++;
	uring->lone = op;
	atomic_store(&uring->lone_state, LONE_PENDING);
}

/* By whoever waits. Returns whether there was one. */
static bool lone_run(struct uring *uring)
{
	int pending = LONE_PENDING;

	if (!atomic_compare_exchange_strong(&uring->lone_state, &pending, LONE_RUNNING))
		return pending == LONE_DONE;
	struct io_op *op = uring->lone;
	const struct iovec data = { .iov_base = op->data, .iov_len = op->bytes };
	io_count_syscall(&uring->io);
	ssize_t done = pwritev2(uring->fd, &data, 1, (off_t)op->offset, RWF_DSYNC);
	op->result = done < 0 ? -errno : (int32_t)done;
	atomic_store(&uring->lone_state, LONE_DONE);
	return true;
}

static uint32_t lone_reap(struct uring *uring)
{
	int pending = LONE_PENDING;
	struct io_op *op = uring->lone;

	if (atomic_load(&uring->lone_state) == LONE_DONE) {
		atomic_store(&uring->lone_state, LONE_NONE);
		HAUL_ASSERT(uring->io.in_flight > 0);
		uring->io.in_flight--;
		op->done(op);
		return 1;
	}
	if (atomic_compare_exchange_strong(&uring->lone_state, &pending, LONE_NONE)) {
		uring->io.in_flight--; /* counted anew */
		ring_submit(uring, op);
		uring_push(&uring->io);
	}
	return 0;
}

/* ---- taking out ---- */

/* A sync that is done, but has to seem to take longer: a timer of the kernel's delays its end and
 * nothing else. */
static void sync_delay(struct uring *uring, struct io_op *op)
{
	struct io_uring_sqe *sqe = sqe_get(uring);

	io_uring_prep_timeout(sqe, &uring->sync_add, 0, 0);
	io_uring_sqe_set_data64(sqe, (uintptr_t)op | TAG_LATER);
}

/* Returns whether the operation has ended. */
static bool complete(struct uring *uring, uint64_t user_data, int32_t result)
{
	enum tag tag = user_data & TAG_MASK;
	struct io_op *op = (struct io_op *)(uintptr_t)(user_data & ~(uint64_t)TAG_MASK);

	if (tag == TAG_FULL)
		op->result = -EAGAIN;
	else if (tag == TAG_UNSUPPORTED)
		op->result = -EOPNOTSUPP;
	else if (tag == TAG_RESULT)
		/* Nobody cancels here; the kernel does when the thread that submitted has ended. */
		op->result = result == -ECANCELED ? -EAGAIN : result;
	if (tag == TAG_RESULT && (op->kind == IO_SYNC || op->durable) && uring->sync_later) {
		sync_delay(uring, op);
		return false;
	}
	HAUL_ASSERT(uring->io.in_flight > 0);
	uring->io.in_flight--;
	op->done(op);
	return true;
}

/* Completions that are there but not in the queue yet: deferred work, or more than it held. */
static bool uring_enter(struct uring *uring)
{
	unsigned int flags = __atomic_load_n(uring->ring.sq.kflags, __ATOMIC_RELAXED);

	if ((flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) == 0)
		return false;
	io_count_syscall(&uring->io);
	io_uring_get_events(&uring->ring);
	return true;
}

/* The eventfd is set by what is entered as well, so it is cleared behind that; what came between is
 * seen in the ring's flags, which the kernel sets before it signals. It may set them late, when the
 * work was already taken, and then they stay though entering finds nothing (seen on 6.18): so they
 * are not asked for ever. The last step enters and clears nothing, so no signal is lost. */
static void uring_flush(struct uring *uring)
{
	eventfd_t ignored;

	uring_enter(uring);
	for (int tries = 0; uring->event_fd >= 0 && tries < FLUSH_TRIES; tries++) {
		io_count_syscall(&uring->io);
		eventfd_read(uring->event_fd, &ignored);
		if (!uring_enter(uring))
			break;
	}
}

static uint32_t uring_reap(struct io *io)
{
	struct uring *uring = uring_of(io);
	struct io_uring_cqe *cqes[REAP_AT_ONCE];
	uint64_t user_data[REAP_AT_ONCE];
	int32_t results[REAP_AT_ONCE];
	uint32_t seen = 0;
	uint32_t finished = uring->shared ? lone_reap(uring) : 0;
	uint32_t count;

	uring_flush(uring);
	do {
		count = io_uring_peek_batch_cqe(&uring->ring, cqes, REAP_AT_ONCE);
		for (uint32_t i = 0; i < count; i++) {
			user_data[i] = io_uring_cqe_get_data64(cqes[i]);
			results[i] = cqes[i]->res;
		}
		io_uring_cq_advance(&uring->ring, count);
		for (uint32_t i = 0; i < count; i++)
			finished += complete(uring, user_data[i], results[i]);
		seen += count;
	} while (count == REAP_AT_ONCE && seen < 2 * io->depth);
	if (uring->sync_later && seen > 0)
		uring_push(io);
	/* Somebody who finishes at once could go on for ever: the rest is for the next turn. */
	if (uring->event_fd >= 0 && io_uring_cq_ready(&uring->ring) > 0)
		eventfd_write(uring->event_fd, 1);
	return finished;
}

static int uring_wait(struct io *io, int64_t timeout_ns)
{
	struct uring *uring = uring_of(io);
	struct __kernel_timespec timeout = { .tv_sec = timeout_ns / NS_PER_S,
					     .tv_nsec = timeout_ns % NS_PER_S };
	struct io_uring_getevents_arg arg = { 0 };
	unsigned int flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
	int rc;

	if (io_uring_cq_ready(&uring->ring) > 0 || (uring->shared && lone_run(uring)))
		return 0;
	if (timeout_ns >= 0)
		arg.ts = (uintptr_t)&timeout;
	if (uring->ring.enter_ring_fd != uring->ring.ring_fd)
		flags |= IORING_ENTER_REGISTERED_RING;
	io_count_syscall(io);
	rc = io_uring_enter2((unsigned int)uring->ring.enter_ring_fd, 0, 1, flags, (sigset_t *)&arg,
			     sizeof arg);
	return rc < 0 ? rc : 0;
}

/* ---- opening and closing ---- */

static void uring_free(struct uring *uring)
{
	io_uring_queue_exit(&uring->ring);
	if (uring->event_fd >= 0)
		close(uring->event_fd);
	free(uring);
}

static void uring_close(struct io *io)
{
	struct uring *uring = uring_of(io);

	/* What is under way writes into memory that is about to be freed: all of it ends first. */
	uring_push(io);
	while (io->in_flight > 0) {
		uring_wait(io, -1);
		uring_reap(io);
		uring_push(io);
	}
	uring_free(uring);
}

static const struct io_calls uring_calls = {
	.submit = uring_submit,
	.push = uring_push,
	.reap = uring_reap,
	.wait = uring_wait,
	.close = uring_close,
};

/* Of the kernel's features the newest first, then what older kernels know. */
static int ring_setup(struct uring *uring)
{
	static const unsigned int owned[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL |
			IORING_SETUP_CLAMP,
		IORING_SETUP_CLAMP,
	};
	static const unsigned int shared[] = { IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP,
					       IORING_SETUP_CLAMP, IORING_SETUP_CLAMP };
	struct io_uring_params params;
	int rc = -EINVAL;

	for (size_t i = 0; rc == -EINVAL && i < sizeof owned / sizeof owned[0]; i++) {
		memset(&params, 0, sizeof params);
		params.flags = uring->shared ? shared[i] : owned[i];
		rc = io_uring_queue_init_params(uring->io.depth, &uring->ring, &params);
	}
	if (rc == 0 && (params.features & IORING_FEAT_EXT_ARG) == 0) {
		io_uring_queue_exit(&uring->ring);
		return -ENOSYS;
	}
	return rc;
}

static int event_open(struct uring *uring)
{
	int rc;

	uring->io.fd = uring->ring.ring_fd;
	if (uring->shared)
		return 0;
	uring->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (uring->event_fd < 0)
		return -errno;
	rc = io_uring_register_eventfd(&uring->ring, uring->event_fd);
	if (rc == 0)
		uring->io.fd = uring->event_fd;
	return rc;
}

/* All of these only save time: without them everything works as well. */
static void ring_register(struct uring *uring, const struct io_options *options)
{
	enum { BUFFERS_MAX = 64 };
	unsigned int workers[2] = { WORKERS_BOUNDED, WORKERS_UNBOUNDED };
	struct iovec buffers[BUFFERS_MAX];
	uint32_t count = 0;

	io_uring_register_iowq_max_workers(&uring->ring, workers);
	/* The index of a registered ring is good in one thread only. */
	if (!uring->shared)
		io_uring_register_ring_fd(&uring->ring);
	if (io_uring_register_files(&uring->ring, &uring->file_fd, 1) == 0) {
		uring->file_fixed = true;
		uring->file_fd = 0;
	}
	if (options->arena == NULL || options->arena_bytes > BUFFERS_MAX * (uint64_t)FIXED_BYTES)
		return;
	for (uint64_t at = 0; at < options->arena_bytes; at += FIXED_BYTES) {
		uint64_t left = options->arena_bytes - at;

		buffers[count].iov_base = options->arena + at;
		buffers[count++].iov_len = left < FIXED_BYTES ? left : FIXED_BYTES;
	}
	if (count == 0 || io_uring_register_buffers(&uring->ring, buffers, count) != 0)
		return;
	uring->arena = options->arena;
	uring->arena_bytes = options->arena_bytes;
}

int io_open_uring(struct io **ret_io, const struct file *file, const struct io_options *options)
{
	struct uring *uring = calloc(1, sizeof *uring);
	int rc;

	if (uring == NULL)
		return -ENOMEM;
	uring->io =
		(struct io){ .calls = &uring_calls, .engine = IO_URING, .depth = options->depth };
	uring->event_fd = -1;
	uring->file_fd = file->fd;
	uring->fd = file->fd;
	uring->block_device = file->block_device;
	uring->shared = options->shared;
	uring->sync_later = options->sync_add_ns > 0;
	uring->sync_add.tv_sec = options->sync_add_ns / NS_PER_S;
	uring->sync_add.tv_nsec = options->sync_add_ns % NS_PER_S;
	rc = ring_setup(uring);
	if (rc < 0) {
		free(uring);
		return rc;
	}
	rc = event_open(uring);
	if (rc < 0) {
		uring_free(uring);
		return rc;
	}
	ring_register(uring, options);
	*ret_io = &uring->io;
	return 0;
}
