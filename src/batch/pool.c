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
 * A magazine is a stack whose height is in - out: get writes only out, put only in. One height that
 * both write would make each call wait for the last one's store; so they overlap. in and out double
 * as the counts of puts and gets.
 *
 * The depot of a class has room for all its buffers, so a spill cannot fail. Counters have one
 * writer, the thread; the shared block counts exchanges under the depot's lock, and gathers the
 * rest when somebody looks. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <haul/pool.h>

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h> /* does nothing unless the sanitizer is on */
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

#include "base/assert.h"
#include "base/counter.h"

enum {
	LINE_BYTES = 64,
	HUGE_BYTES = 2 << 20,
	PAGE_BYTES = 4096,
	HALF = HAUL_POOL_MAGAZINE / 2,
	BUFFER_FREE = 0x5f, /* states, unlikely to be found in memory that is no header */
	BUFFER_OUT = 0xa6
};
static_assert(HAUL_POOL_HEADROOM % LINE_BYTES == 0, "the payload starts a cache line");
static_assert(HAUL_POOL_THREADS_MAX <= UINT16_MAX, "a header names its owner in 16 bits");

enum {
#define X(bytes) CLASS_##bytes,
	HAUL_POOL_CLASS_LIST(X)
#undef X
};

static const uint32_t class_bytes[] = {
#define X(bytes) bytes,
	HAUL_POOL_CLASS_LIST(X)
#undef X
};
static_assert(sizeof class_bytes / sizeof *class_bytes == HAUL_POOL_CLASSES, "one size a class");

static const struct haul_counter counter_list[HAUL_POOL_COUNTERS] = {
	[HAUL_POOL_HIT] = { "hit", "gets served from the thread's own magazine" },
	[HAUL_POOL_MISS] = { "miss", "gets that had to fill the magazine from the depot first" },
	[HAUL_POOL_REMOTE] = { "remote", "buffers returned by another thread than took them" },
	[HAUL_POOL_EXHAUSTED] = { "exhausted", "gets refused because the class had none left" },
};

struct magazine {
	uint64_t in;  /* puts, and buffers that came from the depot less those that went there */
	uint64_t out; /* gets */
	void *slot[HAUL_POOL_MAGAZINE]; /* payload starts; the last one in is the first one out */
};

struct haul_pool_thread {
	_Alignas(LINE_BYTES) struct magazine magazine[HAUL_POOL_CLASSES];
	uint64_t counter
		[HAUL_POOL_COUNTERS]; /* but HIT, which is gets less misses; kept when closed */
	uint64_t from_depot;          /* buffers, less those given back */
	struct haul_pool *pool;
	uint32_t index;
	uint32_t mine; /* header of a buffer of class 0 that this thread took */
	bool open;     /* guarded by the pool's lock */
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

/* A header is one word, always read and written whole (parts would wait for one another in the
 * processor's store queue): state, class, and who took it. */
static uint32_t *header_of(const void *buffer)
{
	return (uint32_t *)((uintptr_t)buffer - HAUL_POOL_HEADROOM - LINE_BYTES);
}

static uint32_t header_make(uint32_t state, uint32_t pool_class, uint32_t owner)
{
	return state << 24 | pool_class << 16 | owner;
}

static uint32_t header_state(uint32_t header)
{
	return header >> 24;
}

static uint32_t header_class(uint32_t header)
{
	return header >> 16 & 0xff;
}

static uint32_t header_owner(uint32_t header)
{
	return header & 0xffff;
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
	/* One large page more than needed, and the ends cut off: it starts on a large page. */
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
			*header_of(buffer) = header_make(BUFFER_FREE, c, 0);
			buffer_hide(buffer, c);
			/* The lowest address goes out first. */
			depot->slot[depot->count_max - 1 - i] = buffer;
			at += stride_of(c);
		}
		depot->count = depot->count_max;
	}
	HAUL_ASSERT(at <= pool->arena + pool->arena_bytes);
}

static int memory_open(struct haul_pool *pool, const struct haul_pool_options *options)
{
	size_t slots = 0;
	for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++) {
		pool->depot[c].count_max = options->count_max[c];
		pool->arena_bytes += options->count_max[c] * stride_of(c);
		slots += options->count_max[c];
	}
	int rc = arena_map(pool);
	if (rc < 0)
		return rc;
	size_t thread_bytes = options->threads_max * sizeof *pool->thread;
	pool->slots = calloc(slots, sizeof *pool->slots);
	pool->thread = aligned_alloc(LINE_BYTES, thread_bytes);
	if (!pool->slots || !pool->thread)
		return -ENOMEM;
	memset(pool->thread, 0, thread_bytes);
	pool->threads_max = options->threads_max;
	for (uint32_t i = 0; i < pool->threads_max; i++) {
		pool->thread[i].pool = pool;
		pool->thread[i].index = i;
		pool->thread[i].mine = header_make(BUFFER_OUT, 0, i);
	}
	return 0;
}

static void memory_close(struct haul_pool *pool)
{
	if (pool->arena) {
		ASAN_UNPOISON_MEMORY_REGION(pool->arena, pool->arena_bytes);
		munmap(pool->arena, pool->arena_bytes);
	}
	free(pool->thread);
	free(pool->slots);
	free(pool);
}

static uint64_t thread_gets(const struct haul_pool_thread *thread)
{
	uint64_t gets = 0;
	for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++)
		gets += counter_get(&thread->magazine[c].out);
	return gets;
}

static uint64_t thread_count(const struct haul_pool_thread *thread, enum haul_pool_counter counter)
{
	uint64_t count = counter_get(&thread->counter[counter]);
	if (counter != HAUL_POOL_HIT)
		return count;
	/* From another thread, a miss may be seen before its get. */
	uint64_t misses = counter_get(&thread->counter[HAUL_POOL_MISS]);
	uint64_t gets = thread_gets(thread);
	return gets > misses ? gets - misses : 0;
}

uint64_t haul_pool_count(const struct haul_pool *pool, enum haul_pool_counter counter)
{
	HAUL_ASSERT((unsigned)counter < HAUL_POOL_COUNTERS);
	uint64_t sum = 0;
	for (uint32_t i = 0; i < pool->threads_max; i++)
		sum += thread_count(&pool->thread[i], counter);
	return sum;
}

static void figures_refresh(struct haul_stats *stats)
{
	struct haul_pool *pool = (void *)((uint8_t *)stats - offsetof(struct haul_pool, stats));
	for (uint32_t i = 0; i < HAUL_POOL_COUNTERS; i++)
		counter_set(&stats->extra[i], haul_pool_count(pool, (enum haul_pool_counter)i));
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
	rc = memory_open(pool, options);
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
	pool->stats.refresh = figures_refresh;
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
	memory_close(pool);
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
	memory_close(pool);
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
}

/* Hand the colder of the magazine's buffers to the depot. */
static __attribute__((noinline)) void magazine_spill(struct haul_pool_thread *thread,
						     uint32_t pool_class, uint32_t count)
{
	struct magazine *magazine = &thread->magazine[pool_class];
	struct depot *depot = &thread->pool->depot[pool_class];
	uint64_t height = magazine->in - magazine->out;
	HAUL_ASSERT(count <= height);
	pthread_mutex_lock(&thread->pool->lock);
	HAUL_ASSERT(depot->count + count <= depot->count_max);
	memcpy(depot->slot + depot->count, magazine->slot, count * sizeof *magazine->slot);
	depot->count += count;
	exchange_count(thread, count, pool_class);
	pthread_mutex_unlock(&thread->pool->lock);
	counter_set(&magazine->in, magazine->in - count);
	counter_set(&thread->from_depot, thread->from_depot - count);
	memmove(magazine->slot, magazine->slot + count, (height - count) * sizeof *magazine->slot);
}

/* Up to half a magazine from the depot; returns whether there was any. */
static __attribute__((noinline)) bool magazine_fill(struct haul_pool_thread *thread,
						    uint32_t pool_class)
{
	struct magazine *magazine = &thread->magazine[pool_class];
	struct depot *depot = &thread->pool->depot[pool_class];
	HAUL_ASSERT(magazine->in == magazine->out);
	pthread_mutex_lock(&thread->pool->lock);
	uint32_t count = depot->count < HALF ? depot->count : HALF;
	depot->count -= count;
	memcpy(magazine->slot, depot->slot + depot->count, count * sizeof *magazine->slot);
	if (count > 0)
		exchange_count(thread, count, pool_class);
	pthread_mutex_unlock(&thread->pool->lock);
	counter_add(&magazine->in, count);
	counter_add(&thread->from_depot, count);
	counter_add(&thread->counter[count > 0 ? HAUL_POOL_MISS : HAUL_POOL_EXHAUSTED], 1);
	return count > 0;
}

void haul_pool_thread_close(struct haul_pool_thread *thread)
{
	if (!thread)
		return;
	HAUL_ASSERT(thread->open);
	for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++) {
		const struct magazine *magazine = &thread->magazine[c];
		if (magazine->in != magazine->out)
			magazine_spill(thread, c, (uint32_t)(magazine->in - magazine->out));
	}
	pthread_mutex_lock(&thread->pool->lock);
	thread->open = false;
	pthread_mutex_unlock(&thread->pool->lock);
}

/* The magazine is not empty. */
static inline void *magazine_pop(struct haul_pool_thread *thread, uint32_t pool_class)
{
	struct magazine *magazine = &thread->magazine[pool_class];
	uint64_t out = magazine->out;
	void *buffer = magazine->slot[magazine->in - out - 1];
	counter_set(&magazine->out, out + 1);
	uint32_t *header = header_of(buffer);
	HAUL_ASSERT(*header == header_make(BUFFER_FREE, pool_class, 0));
	*header = thread->mine | header_make(0, pool_class, 0);
	buffer_show(buffer, pool_class);
	return buffer;
}

/* The magazine is not full. */
static inline void magazine_push(struct haul_pool_thread *thread, uint32_t pool_class, void *buffer)
{
	struct magazine *magazine = &thread->magazine[pool_class];
	uint64_t in = magazine->in;
	*header_of(buffer) = header_make(BUFFER_FREE, pool_class, 0);
	buffer_hide(buffer, pool_class);
	magazine->slot[in - magazine->out] = buffer;
	counter_set(&magazine->in, in + 1);
}

/* The rare ways through get and put are functions of their own, called last, so that the usual way
 * needs no stack frame. */
static __attribute__((noinline)) void *get_rare(struct haul_pool_thread *thread,
						uint32_t pool_class)
{
	return magazine_fill(thread, pool_class) ? magazine_pop(thread, pool_class) : NULL;
}

static __attribute__((noinline)) void put_rare(struct haul_pool_thread *thread, void *buffer)
{
	uint32_t header = *header_of(buffer);
	HAUL_ASSERT(header_state(header) == BUFFER_OUT);
	uint32_t c = header_class(header);
	HAUL_ASSERT(c < HAUL_POOL_CLASSES);
	if (header_owner(header) != thread->index)
		counter_add(&thread->counter[HAUL_POOL_REMOTE], 1);
	if (thread->magazine[c].in - thread->magazine[c].out == HAUL_POOL_MAGAZINE)
		magazine_spill(thread, c, HALF);
	magazine_push(thread, c, buffer);
}

static inline void *get_class(struct haul_pool_thread *thread, uint32_t pool_class)
{
	const struct magazine *magazine = &thread->magazine[pool_class];
	if (__builtin_expect(magazine->in == magazine->out, 0))
		return get_rare(thread, pool_class);
	return magazine_pop(thread, pool_class);
}

static inline void put_class(struct haul_pool_thread *thread, uint32_t pool_class, void *buffer)
{
	const struct magazine *magazine = &thread->magazine[pool_class];
	if (__builtin_expect(magazine->in - magazine->out == HAUL_POOL_MAGAZINE, 0))
		put_rare(thread, buffer);
	else
		magazine_push(thread, pool_class, buffer);
}

/* In both the class is found by a chain of branches on purpose: the processor guesses them and goes
 * on, where a class that is computed, or read from the header, would hold up all that follows. */
void *haul_pool_get(struct haul_pool_thread *thread, size_t bytes)
{
#define X(size)                                                                                    \
	if (bytes <= (size))                                                                       \
		return get_class(thread, CLASS_##size);
	HAUL_POOL_CLASS_LIST(X)
#undef X
	return NULL;
}

void haul_pool_put(struct haul_pool_thread *thread, void *buffer)
{
	if (!buffer)
		return;
	HAUL_ASSERT_SLOW((uintptr_t)buffer - (uintptr_t)thread->pool->arena <
			 thread->pool->arena_bytes);
	/* What differs from a buffer of class 0 of ours: the class alone, or it is a rare case. */
	uint32_t differing = *header_of(buffer) ^ thread->mine;
#define X(size)                                                                                    \
	if (differing == header_make(0, CLASS_##size, 0)) {                                        \
		put_class(thread, CLASS_##size, buffer);                                           \
		return;                                                                            \
	}
	HAUL_POOL_CLASS_LIST(X)
#undef X
	put_rare(thread, buffer);
}

size_t haul_pool_bytes(const void *buffer)
{
	uint32_t header = *header_of(buffer);
	HAUL_ASSERT(header_state(header) == BUFFER_OUT);
	return class_bytes[header_class(header)];
}

uint64_t haul_pool_in_use(const struct haul_pool *pool)
{
	uint64_t in_use = 0;
	for (uint32_t i = 0; i < pool->threads_max; i++) {
		const struct haul_pool_thread *thread = &pool->thread[i];
		in_use += thread_gets(thread) + counter_get(&thread->from_depot);
		for (uint32_t c = 0; c < HAUL_POOL_CLASSES; c++)
			in_use -= counter_get(&thread->magazine[c].in);
	}
	return in_use;
}

void *haul_pool_arena(const struct haul_pool *pool, size_t *ret_bytes)
{
	HAUL_ASSERT(pool->arena != NULL);
	*ret_bytes = pool->arena_bytes;
	return pool->arena;
}
