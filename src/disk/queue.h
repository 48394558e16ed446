/* disk/queue.h — operations wait here, not in the device: by class, with a bound on what is under
 * way, and until they are whole.
 *
 * Model      Three classes: reads that somebody waits for, durable flushes, background (reclaim,
 *            footers, scans). queue_pump gives the io as many as fit within depth operations and
 *            bytes_max bytes, the higher class first; a class that has waited gets one in every
 *            QUEUE_STARVE turns all the same. Background has at most a quarter of the depth while
 *            others wait. A short transfer goes on behind what was done; EAGAIN and EINTR are tried
 *            again up to QUEUE_TRIES times; then, or after any other error, done() is called with
 *            it. done() sees result == bytes, 0 for a sync, or -errno. Operations over split bytes
 *            are the caller's to split.
 *            Several queues may share an io: each takes what the others leave of its depth, and a
 *            reap by one finishes the operations of all; each pumps for itself.
 * Ownership  as os/io.h. While it is here the queue changes an operation's fields (a transfer cut
 *            short goes on further behind); in finished operations they are as they were put in.
 * Memory     none: operations are linked.
 * Threads    as the io's.
 * Errors     through op->result only. A short read at the end of the file is -EIO.
 * Limits     QUEUE_TRIES, QUEUE_STARVE; bytes_max 0 = no bound; an operation over it goes alone. */
#pragma once

#include <haul/disk.h>
#include "os/io.h"

enum queue_class { QUEUE_READ, QUEUE_FLUSH, QUEUE_BACKGROUND, QUEUE_CLASSES };

enum { QUEUE_STARVE = 16, QUEUE_TRIES = 64 };

struct queue_list {
	struct io_op *first, *last;
	uint32_t count;
	uint32_t passed_over; /* turns in which another class was served */
};

/* A time without a pause, in which only reads or only writes were under way: what it took tells of
 * bandwidth and IOPS. (Of syncs each tells by itself.) */
struct queue_busy {
	int64_t start_ns;   /* 0 = none */
	int64_t service_ns; /* of all operations that finished in it */
	uint32_t ops;
	uint64_t bytes;
	enum io_kind kind;
	bool mixed; /* of several kinds: tells nothing */
};

struct queue {
	struct io *io;
	struct os *os;
	uint32_t depth;
	uint64_t bytes_max;
	uint32_t in_flight;
	uint64_t in_flight_bytes;
	uint32_t in_class[QUEUE_CLASSES]; /* of in_flight */
	struct queue_list waiting[QUEUE_CLASSES];
	struct haul_disk_model *model; /* refined by what is seen; may be NULL */
	struct queue_busy busy;        /* what `model` learns from */
	uint64_t retries, shorts;
	uint64_t ops[QUEUE_CLASSES], bytes[QUEUE_CLASSES];
	struct haul_hist *service_ns; /* QUEUE_CLASSES of them, or NULL */
};

/* depth 0 = the io's. */
void queue_init(struct queue *queue, struct io *io, struct os *os, uint32_t depth,
		uint64_t bytes_max);
/* The operation's done() and owner are the caller's; the queue borrows the rest of it. It starts
 * with the next queue_pump. */
void queue_put(struct queue *queue, struct io_op *op, enum queue_class class);
/* Hand over what fits, and push. */
void queue_pump(struct queue *queue);
/* io_reap, and pump again. Returns how many finished. */
uint32_t queue_reap(struct queue *queue);
/* Neither waiting nor in flight. */
bool queue_idle(const struct queue *queue);
