/* haul/pool.h — buffers by size class, without malloc after start.
 *
 * Model      Five classes; a buffer of class c holds haul_pool_class_bytes(c) bytes of payload and
 *            HAUL_POOL_HEADROOM writable bytes before them. A thread takes from and returns to a
 *            magazine of its own (HAUL_POOL_MAGAZINE buffers a class, last in first out); magazines
 *            are filled from and spilled to the shared depot half a magazine at a time, so threads
 *            meet once in 16 operations. All buffers lie in one arena per pool, which can be
 *            registered with io_uring or AF_XDP.
 * Units      bytes.
 * Ownership  a buffer is the caller's from get to put; any thread may put it.
 * Memory     the arena is mapped and touched at open (2 MiB pages where the kernel gives them);
 *            nothing after, for every thread that has called haul_pool_thread_open.
 * Threads    a haul_pool_thread belongs to one thread at a time; the pool may be shared.
 * Errors     get returns NULL when the hard cap is reached (counted as exhausted): never grows.
 *            open: -EINVAL, -ENOMEM, -EEXIST (name); thread_open: HAUL_EFULL.
 * Limits     HAUL_POOL_CLASSES classes; count_max[] buffers each, of which every other thread's
 *            magazine may keep up to HAUL_POOL_MAGAZINE free ones to itself: add that to what is
 *            wanted at one time. HAUL_POOL_THREADS_MAX threads.
 * Source     magazines: Bonwick & Adams, "Magazines and Vmem", USENIX 2001. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <haul/api.h>
#include <haul/err.h>
#include <haul/stats.h>

enum {
	HAUL_POOL_CLASSES = 5,
	HAUL_POOL_HEADROOM = 128,
	HAUL_POOL_MAGAZINE = 32,
	HAUL_POOL_THREADS_MAX = 1024
};

#define HAUL_POOL_CLASS_LIST(X) X(256) X(512) X(1500) X(9216) X(65536)

/* Indices of the counters in the pool's stats block, whose batches are the exchanges between
 * magazines and depot. */
enum haul_pool_counter {
	HAUL_POOL_HIT,       /* served from the thread's own magazine */
	HAUL_POOL_MISS,      /* magazine was empty: half a magazine came from the depot */
	HAUL_POOL_REMOTE,    /* returned by another thread than the one that took it */
	HAUL_POOL_EXHAUSTED, /* hard cap reached: get returned NULL */
	HAUL_POOL_COUNTERS
};

struct haul_pool;
struct haul_pool_thread;

/* Payload bytes of class 0 … HAUL_POOL_CLASSES - 1. */
HAUL_API size_t haul_pool_class_bytes(uint32_t pool_class);

struct haul_pool_options {
	const char *name;                      /* of the stats block */
	uint32_t count_max[HAUL_POOL_CLASSES]; /* hard cap a class; 0 = none of that class */
	uint32_t threads_max;                  /* >= 1 */
	struct haul_stats_table *stats;        /* may be NULL */
};

HAUL_API int haul_pool_open(const struct haul_pool_options *options, struct haul_pool **ret_pool,
			    struct haul_err *err);
/* Asserts that every thread has closed. NULL is allowed. */
HAUL_API void haul_pool_close(struct haul_pool *pool);

HAUL_API int haul_pool_thread_open(struct haul_pool *pool, struct haul_pool_thread **ret_thread);
/* Returns the magazines to the depot. NULL is allowed. */
HAUL_API void haul_pool_thread_close(struct haul_pool_thread *thread);

/* The payload start of a free buffer of the smallest class that holds bytes, on a cache line's
 * start; NULL when that class is exhausted or bytes is over the largest class. Contents are
 * undefined. */
HAUL_API void *haul_pool_get(struct haul_pool_thread *thread, size_t bytes);
/* buffer came from haul_pool_get of the same pool, on any thread. NULL is allowed; a buffer that is
 * not out is a bug that asserts. */
HAUL_API void haul_pool_put(struct haul_pool_thread *thread, void *buffer);
/* Payload bytes that buffer holds. */
HAUL_API size_t haul_pool_bytes(const void *buffer);
/* Sum of all threads' counters; one of enum haul_pool_counter. */
HAUL_API uint64_t haul_pool_count(const struct haul_pool *pool, enum haul_pool_counter counter);
/* Buffers out with callers at this moment (exact when no thread is inside a call). */
HAUL_API uint64_t haul_pool_in_use(const struct haul_pool *pool);
/* The arena, for registration with io_uring or AF_XDP. */
HAUL_API void *haul_pool_arena(const struct haul_pool *pool, size_t *ret_bytes);
