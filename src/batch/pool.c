/* Buffers by size class: a magazine a thread and class, one depot a class.
 *
 * In the arena each buffer is a cache line with its header, the headroom, and the payload:
 *
 *     | header 64 | headroom 128 | payload, rounded up to 64 |
 *
 * The header says which class the buffer is of, who took it, and whether it is out; put needs
 * nothing else to find its way, and refuses a buffer that is not out. get and put touch the
 * thread's own magazine only. An empty magazine takes half of one from the depot, a full one hands
 * over its colder half, so a thread that goes up and down around either end meets the depot's lock
 * at most once in 16 operations. A buffer returned by another thread simply stays with that thread:
 * it goes home through the depot, 16 at a time, and needs no queue of its own.
 *
 * The depot of a class has room for all its buffers, so a spill cannot fail. Counters have one
 * writer, the thread; the shared block of figures is written under the depot's lock only. */
#include <haul/pool.h>

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h> /* does nothing unless the sanitizer is on */
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

#include "base/assert.h"
#include "base/counter.h"


enum {
	LINE_BYTES = 64,
	HUGE_BYTES = 2 << 20,
	PAGE_BYTES = 4096,
	HALF = HAUL_POOL_MAGAZINE / 2,
	PUBLISH_MASK = 1023, /* gets between two updates of the shared figures */
	BUFFER_FREE = 0x5f,
	BUFFER_OUT = 0xa6
};
static_assert(HAUL_POOL_HEADROOM % LINE_BYTES == 0, "the payload starts a cache line");
static_assert(HAUL_POOL_THREADS_MAX <= UINT16_MAX, "a header names its owner in 16 bits");

struct buffer_header {
	uint16_t owner; /* thread that took it */
	uint8_t pool_class;
	uint8_t state;  /* BUFFER_FREE or BUFFER_OUT */
};

static const uint32_t class_bytes[] = {
#define X(bytes) bytes,
	HAUL_POOL_CLASS_LIST(X)
#undef X
};
static_assert(sizeof class_bytes / sizeof *class_bytes == HAUL_POOL_CLASSES, "one size a class");

static const struct haul_counter counter_list[HAUL_POOL_COUNTERS] = {
	[HAUL_POOL_HIT] = {"hit", "gets served from the thread's own magazine"},
	[HAUL_POOL_MISS] = {"miss", "gets that had to fill the magazine from the depot first"},
	[HAUL_POOL_REMOTE] = {"remote", "buffers returned by another thread than took them"},
	[HAUL_POOL_EXHAUSTED] = {"exhausted", "gets refused because the class had none left"},
};

struct magazine {
	uint32_t count;
	void *slot[HAUL_POOL_MAGAZINE]; /* payload starts; the last one in is the first one out */
};

struct haul_pool_thread {
	_Alignas(LINE_BYTES) struct magazine magazine[HAUL_POOL_CLASSES];
	uint64_t counter[HAUL_POOL_COUNTERS]; /* written by this thread; kept when it closes */
	uint64_t puts;
	uint64_t published[HAUL_POOL_COUNTERS]; /* part of counter[] already in the shared block */
	struct haul_pool *pool;
	uint16_t index;
	bool open; /* guarded by the pool's lock */
};

struct depot {
	void **slot;
	uint32_t count;
	uint32_t count_max;
};

struct haul_pool {
	pthread_mutex_t lock; /* depots, stats, open flags */
	struct depot depot[HAUL_POOL_CLASSES];
	struct haul_stats stats;
	struct haul_stats_table *table; /* may be NULL */
	struct haul_pool_thread *thread;
	uint32_t threads_max;
	uint8_t *arena;
	size_t arena_bytes;
	void **slots; /* of all depots */
};

static struct buffer_header *header_of(const void *buffer)
{
	return (void *)((uintptr_t)buffer - HAUL_POOL_HEADROOM - LINE_BYTES);
}

size_t haul_pool_class_bytes(uint32_t pool_class)
{
	HAUL_ASSERT(pool_class < HAUL_POOL_CLASSES);
	return class_bytes[pool_class];
}

/* Header, headroom and payload of one buffer. */
static size_t stride_of(uint32_t pool_class)
{
	size_t payload = (class_bytes[pool_class] + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
	return LINE_BYTES + HAUL_POOL_HEADROOM + payload;
}

static void buffer_hide(void *buffer, uint32_t pool_class)
{
	ASAN_POISON_MEMORY_REGION((uint8_t *)buffer - HAUL_POOL_HEADROOM,
				  HAUL_POOL_HEADROOM + class_bytes[pool_class]);
	(void)buffer, (void)pool_class;
}

static void buffer_show(void *buffer, uint32_t pool_class)
{
	ASAN_UNPOISON_MEMORY_REGION((uint8_t *)buffer - HAUL_POOL_HEADROOM,
				    HAUL_POOL_HEADROOM + class_bytes[pool_class]);
	(void)buffer, (void)pool_class;
}

static int options_check(const struct haul_pool_options *o, struct haul_err *err)
{
	if (!o->name)
		return haul_err_set(err, -EINVAL, "pool: a name is needed");
	if (o->threads_max < 1 || o->threads_max > HAUL_POOL_THREADS_MAX)
		return haul_err_set(err, -EINVAL, "pool %s: threads_max %u: allowed are 1 to %d",
				    o->name, o->threads_max, HAUL_POOL_THREADS_MAX);
	for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++)
		if (o->count_max[c] > 0)
			return 0;
	return haul_err_set(err, -EINVAL, "pool %s: count_max is 0 for every class", o->name);
}

/* Large pages if the machine has some set aside, else small ones that the kernel may join; touched
 * now, so that no first use pays for a page fault. */
static int arena_map(struct haul_pool *pool)
{
	enum { PROT = PROT_READ | PROT_WRITE, FLAGS = MAP_PRIVATE | MAP_ANONYMOUS };
	size_t bytes = (pool->arena_bytes + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES;
	void *map = mmap(NULL, bytes, PROT, FLAGS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	if (map != MAP_FAILED) {
		pool->arena = map;
		pool->arena_bytes = bytes;
		return 0;
	}
	/* One large page more than needed, and the ends cut off, puts it on a large page's start. */
	uint8_t *wide = mmap(NULL, bytes + HUGE_BYTES, PROT, FLAGS, -1, 0);
	if (wide == MAP_FAILED)
		return -errno;
	size_t before = (HUGE_BYTES - (uintptr_t)wide % HUGE_BYTES) % HUGE_BYTES;
	if (before > 0)
		munmap(wide, before);
	munmap(wide + before + bytes, HUGE_BYTES - before);
	pool->arena = wide + before;
	pool->arena_bytes = bytes;
	(void)madvise(pool->arena, bytes, MADV_HUGEPAGE); /* a wish; small pages do too */
	for (size_t at = 0; at < bytes; at += PAGE_BYTES)
		*(volatile uint8_t *)(pool->arena + at) = 0;
	return 0;
}

/* Cut the arena into buffers and put all of them into the depots. */
static void arena_cut(struct haul_pool *pool)
{
	uint8_t *at = pool->arena;
	void **slot = pool->slots;
	for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++) {
		struct depot *depot = &pool->depot[c];
		depot->slot = slot;
		slot += depot->count_max;
		for (uint32_t i = 0; i < depot->count_max; i++) {
			void *buffer = at + LINE_BYTES + HAUL_POOL_HEADROOM;
			*header_of(buffer) = (struct buffer_header){
				.pool_class = (uint8_t)c, .state = BUFFER_FREE};
			buffer_hide(buffer, c);
			/* The lowest address goes out first. */
			depot->slot[depot->count_max - 1 - i] = buffer;
			at += stride_of(c);
		}
		depot->count = depot->count_max;
	}
	HAUL_ASSERT(at <= pool->arena + pool->arena_bytes);
}

static int memory_take(struct haul_pool *pool, const struct haul_pool_options *options)
{
	size_t slots = 0;
	for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++) {
		pool->depot[c].count_max = options->count_max[c];
		pool->arena_bytes += options->count_max[c] * stride_of(c);
		slots += options->count_max[c];
	}
	size_t thread_bytes = options->threads_max * sizeof *pool->thread;
	pool->slots = calloc(slots, sizeof *pool->slots);
	pool->thread = aligned_alloc(LINE_BYTES, thread_bytes);
	if (!pool->slots || !pool->thread)
		return -ENOMEM;
	memset(pool->thread, 0, thread_bytes);
	pool->threads_max = options->threads_max;
	for (uint32_t i = 0; i < pool->threads_max; i++) {
		pool->thread[i].pool = pool;
		pool->thread[i].index = (uint16_t)i;
	}
	return arena_map(pool);
}

static void memory_drop(struct haul_pool *pool)
{
	if (pool->arena) {
		ASAN_UNPOISON_MEMORY_REGION(pool->arena, pool->arena_bytes);
		munmap(pool->arena, pool->arena_bytes);
	}
	free(pool->thread);
	free(pool->slots);
	free(pool);
}

static int lock_init(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attr;
	int rc = pthread_mutexattr_init(&attr);
	if (rc != 0)
		return -rc;
	/* It is held for sixteen copies: spinning for a moment beats sleeping. */
	rc = pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
	if (rc == 0)
		rc = pthread_mutex_init(lock, &attr);
	pthread_mutexattr_destroy(&attr);
	return -rc;
}

int haul_pool_open(const struct haul_pool_options *options, struct haul_pool **ret_pool,
		   struct haul_err *err)
{
	int rc = options_check(options, err);
	if (rc < 0)
		return rc;
	struct haul_pool *pool = calloc(1, sizeof *pool);
	if (!pool)
		return haul_err_set(err, -ENOMEM, "pool %s: no memory", options->name);
	rc = memory_take(pool, options);
	if (rc < 0) {
		haul_err_set(err, rc, "pool %s: %zu bytes: %s", options->name, pool->arena_bytes,
			     haul_strerror(rc));
		goto drop;
	}
	rc = lock_init(&pool->lock);
	if (rc < 0) {
		haul_err_set(err, rc, "pool %s: lock: %s", options->name, haul_strerror(rc));
		goto drop;
	}
	haul_stats_init(&pool->stats, options->name, counter_list, HAUL_POOL_COUNTERS);
	if (options->stats) {
		rc = haul_stats_enter(options->stats, &pool->stats);
		if (rc < 0) {
			haul_err_set(err, rc, "pool %s: statistics: %s", options->name,
				     haul_strerror(rc));
			goto unlock;
		}
		pool->table = options->stats;
	}
	arena_cut(pool);
	*ret_pool = pool;
	return 0;
unlock:
	pthread_mutex_destroy(&pool->lock);
drop:
	memory_drop(pool);
	return rc;
}

void haul_pool_close(struct haul_pool *pool)
{
	if (!pool)
		return;
	for (uint32_t i = 0; i < pool->threads_max; i++)
		HAUL_ASSERT(!pool->thread[i].open);
	if (pool->table)
		haul_stats_remove(pool->table, &pool->stats);
	pthread_mutex_destroy(&pool->lock);
	memory_drop(pool);
}

int haul_pool_thread_open(struct haul_pool *pool, struct haul_pool_thread **ret_thread)
{
	int rc = HAUL_EFULL;
	pthread_mutex_lock(&pool->lock);
	for (uint32_t i = 0; i < pool->threads_max && rc < 0; i++) {
		if (pool->thread[i].open)
			continue;
		pool->thread[i].open = true;
		*ret_thread = &pool->thread[i];
		rc = 0;
	}
	pthread_mutex_unlock(&pool->lock);
	return rc;
}

/* Lock held. */
static void figures_publish(struct haul_pool_thread *thread)
{
	for (uint32_t i = 0; i < HAUL_POOL_COUNTERS; i++) {
		uint64_t now = thread->counter[i];
		haul_stats_count(&thread->pool->stats, i, now - thread->published[i]);
		thread->published[i] = now;
	}
}

/* Lock held. */
static void exchange_count(struct haul_pool_thread *thread, uint32_t buffers, uint32_t pool_class)
{
	struct haul_stats_batch batch = {
		.ops = buffers,
		.bytes = (uint64_t)buffers * class_bytes[pool_class],
		.reason = HAUL_CLOSE_OPS,
		.wait_ns = -1,
		.service_ns = -1,
	};
	haul_stats_batch(&thread->pool->stats, &batch);
	figures_publish(thread);
}

/* Hand the colder of the magazine's buffers to the depot. */
static __attribute__((noinline)) void magazine_spill(struct haul_pool_thread *thread,
						     uint32_t pool_class, uint32_t count)
{
	struct magazine *magazine = &thread->magazine[pool_class];
	struct depot *depot = &thread->pool->depot[pool_class];
	HAUL_ASSERT(count <= magazine->count);
	pthread_mutex_lock(&thread->pool->lock);
	HAUL_ASSERT(depot->count + count <= depot->count_max);
	memcpy(depot->slot + depot->count, magazine->slot, count * sizeof *magazine->slot);
	depot->count += count;
	exchange_count(thread, count, pool_class);
	pthread_mutex_unlock(&thread->pool->lock);
	magazine->count -= count;
	memmove(magazine->slot, magazine->slot + count, magazine->count * sizeof *magazine->slot);
}

/* Up to half a magazine from the depot; returns whether there was any. */
static __attribute__((noinline)) bool magazine_fill(struct haul_pool_thread *thread,
						    uint32_t pool_class)
{
	struct magazine *magazine = &thread->magazine[pool_class];
	struct depot *depot = &thread->pool->depot[pool_class];
	HAUL_ASSERT(magazine->count == 0);
	pthread_mutex_lock(&thread->pool->lock);
	uint32_t count = depot->count < HALF ? depot->count : HALF;
	depot->count -= count;
	memcpy(magazine->slot, depot->slot + depot->count, count * sizeof *magazine->slot);
	counter_add(&thread->counter[count > 0 ? HAUL_POOL_MISS : HAUL_POOL_EXHAUSTED], 1);
	if (count > 0)
		exchange_count(thread, count, pool_class);
	else
		figures_publish(thread);
	pthread_mutex_unlock(&thread->pool->lock);
	magazine->count = count;
	return count > 0;
}

static __attribute__((noinline)) void publish(struct haul_pool_thread *thread)
{
	pthread_mutex_lock(&thread->pool->lock);
	figures_publish(thread);
	pthread_mutex_unlock(&thread->pool->lock);
}

void haul_pool_thread_close(struct haul_pool_thread *thread)
{
	if (!thread)
		return;
	HAUL_ASSERT(thread->open);
	for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++)
		if (thread->magazine[c].count > 0)
			magazine_spill(thread, c, thread->magazine[c].count);
	pthread_mutex_lock(&thread->pool->lock);
	figures_publish(thread);
	thread->open = false;
	pthread_mutex_unlock(&thread->pool->lock);
}

/* HAUL_POOL_CLASSES when no class holds so much. */
static uint32_t class_of(size_t bytes)
{
	uint32_t c = 0;
	while (c < HAUL_POOL_CLASSES && bytes > class_bytes[c])
		c++;
	return c;
}

void *haul_pool_get(struct haul_pool_thread *thread, size_t bytes)
{
	uint32_t c = class_of(bytes);
	if (__builtin_expect(c == HAUL_POOL_CLASSES, 0))
		return NULL;
	struct magazine *magazine = &thread->magazine[c];
	if (__builtin_expect(magazine->count > 0, 1)) {
		uint64_t hits = counter_get(&thread->counter[HAUL_POOL_HIT]) + 1;
		counter_set(&thread->counter[HAUL_POOL_HIT], hits);
		if (__builtin_expect((hits & PUBLISH_MASK) == 0, 0))
			publish(thread);
	} else if (!magazine_fill(thread, c)) {
		return NULL;
	}

	void *buffer = magazine->slot[--magazine->count];
	struct buffer_header *header = header_of(buffer);
	HAUL_ASSERT(header->state == BUFFER_FREE);
	header->owner = thread->index;
	header->state = BUFFER_OUT;
	buffer_show(buffer, c);
	return buffer;
}

void haul_pool_put(struct haul_pool_thread *thread, void *buffer)
{
	if (!buffer)
		return;
	struct buffer_header *header = header_of(buffer);
	HAUL_ASSERT(header->state == BUFFER_OUT);
	HAUL_ASSERT_SLOW((uintptr_t)buffer - (uintptr_t)thread->pool->arena <
			 thread->pool->arena_bytes);
	uint32_t c = header->pool_class;
	struct magazine *magazine = &thread->magazine[c];
	if (__builtin_expect(magazine->count == HAUL_POOL_MAGAZINE, 0))
		magazine_spill(thread, c, HALF);
	if (header->owner != thread->index)
		counter_add(&thread->counter[HAUL_POOL_REMOTE], 1);
	header->state = BUFFER_FREE;
	buffer_hide(buffer, c);
	magazine->slot[magazine->count++] = buffer;
	counter_add(&thread->puts, 1);
}

size_t haul_pool_bytes(const void *buffer)
{
	const struct buffer_header *header = header_of(buffer);
	HAUL_ASSERT(header->state == BUFFER_OUT);
	return class_bytes[header->pool_class];
}

uint64_t haul_pool_count(const struct haul_pool *pool, enum haul_pool_counter counter)
{
	HAUL_ASSERT((unsigned)counter < HAUL_POOL_COUNTERS);
	uint64_t sum = 0;
	for (uint32_t i = 0; i < pool->threads_max; i++)
		sum += counter_get(&pool->thread[i].counter[counter]);
	return sum;
}

uint64_t haul_pool_in_use(const struct haul_pool *pool)
{
	uint64_t puts = 0;
	for (uint32_t i = 0; i < pool->threads_max; i++)
		puts += counter_get(&pool->thread[i].puts);
	return haul_pool_count(pool, HAUL_POOL_HIT) + haul_pool_count(pool, HAUL_POOL_MISS) - puts;
}

void *haul_pool_arena(const struct haul_pool *pool, size_t *ret_bytes)
{
	HAUL_ASSERT(pool->arena != NULL);
	*ret_bytes = pool->arena_bytes;
	return pool->arena;
}
