/* os/io.h — reads, writes and syncs of one file that are under way at the same time.
 *
 * Model      An operation is put in with io_submit, started with io_push (one system call for all
 *            that were put in) and finished in io_reap, which calls its done(). Operations finish
 *            in any order; a sync covers the writes that had finished before it was pushed. Three
 *            engines behind one interface: io_uring; threads with pread, pwrite and fdatasync,
 *            where io_uring is forbidden; and a simulated disk for tests (os/io_sim.h).
 * Units      bytes; offsets, lengths and memory are multiples of the file's alignment.
 * Ownership  operation and data are the caller's and stay in place until done() was called.
 * Memory     all at io_open.
 * Threads    submit, push and reap by one thread at a time (shared = false: by the thread that
 *            opened, only). io_wait may be called at the same time by one other thread when
 *            `shared` was set.
 * Errors     of an operation: result is -errno. It may be short: result < bytes. Nothing is tried
 *            again here (disk/queue.h does that). io_submit never fails: what an engine cannot take
 *            finishes with -EAGAIN.
 * Blocking   io_wait only.
 * Limits     IO_DEPTH_MAX operations in the engine at a time; more than `depth` finish -EAGAIN.
 * Source     io_uring(7). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>
#include "os/file.h"
#include "os/os.h"

enum { IO_DEPTH_MAX = 4096 };

enum io_kind {
	IO_READ,
	IO_WRITE,
	IO_SYNC,   /* fdatasync: data and bytes are ignored, result 0 */
	IO_DISCARD /* the bytes are not needed any more; -EOPNOTSUPP is no failure of the disk */
};

struct io_op {
	enum io_kind kind;
	uint32_t bytes;
	uint64_t offset;
	uint8_t *data;
	int32_t result;                 /* valid in done(): bytes, 0, or -errno */
	void (*done)(struct io_op *op); /* called from io_reap; may submit, not reap */
	void *owner;                    /* the caller's */
	bool durable;       /* IO_WRITE: finishes when its own bytes are, as behind a sync */
	struct io_op *next; /* whoever holds the operation */
	/* disk/queue.h's */
	void *queue;
	void (*finished)(struct io_op *op); /* the caller's done(), while the queue has its own */
	int64_t start_ns;
	int64_t due_ns;      /* the engine's */
	uint32_t bytes_done; /* by transfers that were cut short */
	uint16_t tries;
	uint8_t io_class;
};

/* X(id, name) */
#define IO_ENGINE_LIST(X)                                                                          \
	X(IO_AUTO, "auto") /* io_uring if it can be set up, else threads */                        \
	X(IO_URING, "io_uring")                                                                    \
	X(IO_THREADS, "threads")

enum io_engine {
#define X(id, name) id,
	IO_ENGINE_LIST(X)
#undef X
};

struct io_options {
	enum io_engine engine;
	uint32_t depth;      /* operations at a time, 1 … IO_DEPTH_MAX; 0 = 256 */
	uint32_t threads;    /* IO_THREADS: how many; 0 = 8 */
	bool shared;         /* several threads take turns: no SINGLE_ISSUER */
	int64_t sync_add_ns; /* every sync takes so much longer: benches and tests */
	uint8_t *arena;      /* registered as a fixed buffer where that is allowed; may be NULL */
	uint64_t arena_bytes;
};

struct io;

struct io_calls {
	void (*submit)(struct io *io, struct io_op *op);
	void (*push)(struct io *io);
	uint32_t (*reap)(struct io *io);
	int (*wait)(struct io *io, int64_t timeout_ns);
	void (*close)(struct io *io);
};

/* First member of every engine's own struct. */
struct io {
	const struct io_calls *calls;
	enum io_engine engine; /* which it became; the simulated disk says IO_AUTO */
	int fd; /* readable while something waits to be reaped: for epoll; -1 = none */
	uint32_t depth;
	uint32_t in_flight; /* submitted and not reaped */
	uint64_t reaped;    /* operations that have finished */
	uint64_t syscalls;  /* made by push, reap and wait */
};

/* file is borrowed and outlives io. -EPERM or -ENOSYS when IO_URING was asked for and is not
 * allowed; -ENOMEM, -EINVAL. */
int io_open(struct io **ret_io, const struct file *file, const struct io_options *options,
	    struct haul_err *err);
/* Waits for what is in flight; done() is called for all of it. NULL is allowed. */
void io_close(struct io *io);

const char *io_engine_name(enum io_engine engine);

static inline void io_submit(struct io *io, struct io_op *op)
{
	io->calls->submit(io, op);
}

static inline void io_push(struct io *io)
{
	io->calls->push(io);
}

/* Call done() of what has finished; returns how many. Never waits. */
static inline uint32_t io_reap(struct io *io)
{
	uint32_t count = io->calls->reap(io);
	io->reaped += count;
	return count;
}

/* Wait until something can be reaped; timeout_ns < 0 = as long as it takes. 0, -ETIME or -EINTR. */
static inline int io_wait(struct io *io, int64_t timeout_ns)
{
	return io->calls->wait(io, timeout_ns);
}
