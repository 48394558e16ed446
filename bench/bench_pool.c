/* bench/bench_pool.c — the buffer pool against malloc. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <haul/pool.h>
#include "base/assert.h"
#include "base/ring.h"
#include "bench.h"
#include "os/os.h"

enum {
	BYTES = 1500,
	HELD = 64,          /* buffers out at a time in get_put_64 */
	CLOCK_EVERY = 1024, /* rounds between two looks at the clock */
	HANDOVER = 32,      /* buffers a push in cross_thread */
	RING_COUNT = 1024,
	POOL_COUNT = 4096
};

struct pool_bench {
	struct haul_pool *pool;
	struct haul_pool_thread *thread;
};

static void pool_close(void *ctx)
{
	struct pool_bench *bench = ctx;
	if (!bench)
		return;
	haul_pool_thread_close(bench->thread);
	haul_pool_close(bench->pool);
	free(bench);
}

static int pool_open(void **ret_ctx, struct haul_err *err)
{
	struct pool_bench *bench = calloc(1, sizeof *bench);
	if (!bench)
		return haul_err_set(err, -ENOMEM, "no memory");
	struct haul_pool_options options = { .name = "bench.pool",
					     .count_max = { [2] = POOL_COUNT },
					     .threads_max = 2 };
	int rc = haul_pool_open(&options, &bench->pool, err);
	if (rc >= 0)
		rc = haul_pool_thread_open(bench->pool, &bench->thread);
	if (rc < 0) {
		pool_close(bench);
		return rc;
	}
	*ret_ctx = bench;
	return 0;
}

/* One byte is written, and the compiler must believe that somebody looks: it may leave out a malloc
 * whose result nobody uses. */
static void touch(void *buffer)
{
	*(volatile char *)buffer = 1;
	__asm__ volatile("" : : "r"(buffer) : "memory");
}

static void malloc_round(void **held, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		held[i] = malloc(BYTES);
		HAUL_ASSERT(held[i] != NULL);
		touch(held[i]);
	}
	for (uint32_t i = 0; i < count; i++)
		free(held[i]);
}

static void pool_round(struct haul_pool_thread *thread, void **held, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		held[i] = haul_pool_get(thread, BYTES);
		HAUL_ASSERT(held[i] != NULL);
		touch(held[i]);
	}
	for (uint32_t i = 0; i < count; i++)
		haul_pool_put(thread, held[i]);
}

static int local_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		     struct bench_sample *ret_sample, struct haul_err *err)
{
	(void)err;
	struct pool_bench *bench = ctx;
	struct os *os = os_linux();
	uint32_t count = (uint32_t)self->parameter;
	void *held[HELD];
	HAUL_ASSERT(count <= HELD);

	uint64_t ops = 0;
	int64_t start_ns = os->now_ns(os), now_ns = start_ns;
	int64_t end_ns = start_ns + (int64_t)(seconds * (double)NS_PER_S);
	while (now_ns < end_ns) {
		for (uint32_t i = 0; i < CLOCK_EVERY; i++) {
			if (arm == BENCH_BATCHED)
				pool_round(bench->thread, held, count);
			else
				malloc_round(held, count);
		}
		ops += (uint64_t)count * CLOCK_EVERY;
		now_ns = os->now_ns(os);
	}
	ret_sample->value = (double)(now_ns - start_ns) / (double)ops;
	return 0;
}

/* One thread takes and hands over, the other returns. */
struct cross {
	struct pool_bench *bench;
	enum bench_arm arm;
	struct ring ring;
	_Atomic bool taken_all;
};

static void *cross_return(void *arg)
{
	struct cross *cross = arg;
	struct haul_pool_thread *thread;
	int rc = haul_pool_thread_open(cross->bench->pool, &thread);
	HAUL_ASSERT(rc == 0); /* threads_max leaves room for two */
	bool last = false;
	while (!last) {
		void *got[HANDOVER];
		last = atomic_load_explicit(&cross->taken_all, memory_order_acquire);
		uint32_t count = ring_pop(&cross->ring, got, HANDOVER);
		if (count == 0 && !last)
			sched_yield();
		for (uint32_t i = 0; i < count && cross->arm == BENCH_BATCHED; i++)
			haul_pool_put(thread, got[i]);
		for (uint32_t i = 0; i < count && cross->arm == BENCH_INDIVIDUAL; i++)
			free(got[i]);
		last = last && count == 0;
	}
	haul_pool_thread_close(thread);
	return NULL;
}

static uint32_t cross_take(const struct cross *cross, void **batch)
{
	uint32_t count = 0;
	for (; count < HANDOVER; count++) {
		void *buffer = cross->arm == BENCH_BATCHED
				       ? haul_pool_get(cross->bench->thread, BYTES)
				       : malloc(BYTES);
		if (!buffer)
			break; /* the pool's cap: all are on their way */
		touch(buffer);
		batch[count] = buffer;
	}
	return count;
}

static void cross_hand_over(struct cross *cross, void **batch, uint32_t count)
{
	while (count > 0) {
		uint32_t done = ring_push(&cross->ring, batch, count);
		batch += done;
		count -= done;
		if (done == 0)
			sched_yield();
	}
}

static int cross_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		     struct bench_sample *ret_sample, struct haul_err *err)
{
	(void)self;
	struct os *os = os_linux();
	struct cross cross = { .bench = ctx, .arm = arm };
	int rc = ring_init(&cross.ring, sizeof(void *), RING_COUNT);
	if (rc < 0)
		return haul_err_set(err, rc, "ring: %s", haul_strerror(rc));
	pthread_t returner;
	rc = -pthread_create(&returner, NULL, cross_return, &cross);
	if (rc < 0) {
		ring_done(&cross.ring);
		return haul_err_set(err, rc, "thread: %s", haul_strerror(rc));
	}

	uint64_t ops = 0;
	int64_t start_ns = os->now_ns(os), end_ns = start_ns + (int64_t)(seconds * 1e9);
	while (os->now_ns(os) < end_ns) {
		void *batch[HANDOVER];
		uint32_t count = cross_take(&cross, batch);
		cross_hand_over(&cross, batch, count);
		ops += count;
	}
	atomic_store_explicit(&cross.taken_all, true, memory_order_release);
	pthread_join(returner, NULL);
	ret_sample->value = (double)(os->now_ns(os) - start_ns) / (double)ops;
	ring_done(&cross.ring);
	return 0;
}

static const struct bench_case pool_cases[] = {
	{ .name = "get_put",
	  .unit = "ns/op",
	  .lower_is_better = true,
	  .arms = "malloc + free of 1500 B | get + put (goal: at most 5 ns)",
	  .run = local_run,
	  .parameter = 1 },
	{ .name = "get_put_64",
	  .unit = "ns/op",
	  .lower_is_better = true,
	  .arms = "64 mallocs of 1500 B, then 64 frees | 64 gets, then 64 puts",
	  .run = local_run,
	  .parameter = HELD },
	{ .name = "cross_thread",
	  .unit = "ns/op",
	  .lower_is_better = true,
	  .arms = "malloc here, free on another thread | get here, put there",
	  .run = cross_run },
};

const struct bench bench_pool = {
	.name = "pool",
	.help = "Buffers from the pool against malloc",
	.cases = pool_cases,
	.case_count = sizeof pool_cases / sizeof *pool_cases,
	.open = pool_open,
	.close = pool_close,
};
