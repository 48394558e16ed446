/* The keeper: drives what nobody waits for (cache_state.h).
 *
 * It sleeps until part_unlock calls it, that is until somebody left buffered stores or transfers
 * behind, at most once a deadline; so a stream of buffered stores wakes it about once a
 * millisecond, and durable stores and lookups never do. */
#include <signal.h>
#include <time.h>

#include "disk/cache_state.h"

static void keeper_sleep(struct keeper *keeper)
{
	const struct timespec at = { .tv_sec = keeper->at_ns / NS_PER_S,
				     .tv_nsec = keeper->at_ns % NS_PER_S };
	if (keeper->at_ns == INT64_MAX)
		(void)pthread_cond_wait(&keeper->wake, &keeper->lock);
	else
		(void)pthread_cond_timedwait(&keeper->wake, &keeper->lock, &at);
}

static void *keeper_run(void *arg)
{
	struct haul_cache *cache = arg;
	struct keeper *keeper = &cache->keeper;
	(void)pthread_mutex_lock(&keeper->lock);
	while (!keeper->stop) {
		if (keeper->at_ns == INT64_MAX || cache->os->now_ns(cache->os) < keeper->at_ns) {
			keeper_sleep(keeper);
			continue;
		}
		keeper->at_ns = INT64_MAX;
		(void)pthread_mutex_unlock(&keeper->lock);
		int64_t next = INT64_MAX;
		for (uint32_t i = 0; i < cache->part_count; i++) {
			int64_t at = part_keep(&cache->parts[i]);
			next = at < next ? at : next;
		}
		(void)pthread_mutex_lock(&keeper->lock);
		keeper->at_ns = next < keeper->at_ns ? next : keeper->at_ns;
	}
	(void)pthread_mutex_unlock(&keeper->lock);
	return NULL;
}

void cache_keeper_call(struct keeper *keeper, int64_t at_ns)
{
	(void)pthread_mutex_lock(&keeper->lock);
	if (at_ns < keeper->at_ns) {
		keeper->at_ns = at_ns;
		(void)pthread_cond_signal(&keeper->wake);
	}
	(void)pthread_mutex_unlock(&keeper->lock);
}

int cache_keeper_open(struct haul_cache *cache)
{
	struct keeper *keeper = &cache->keeper;
	pthread_condattr_t monotonic;
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_mutex_init(&keeper->lock, NULL);
	(void)pthread_cond_init(&keeper->wake, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	keeper->at_ns = INT64_MAX;
	/* the program's signals are for the program's own threads */
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&keeper->thread, NULL, keeper_run, cache);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	keeper->running = rc == 0;
	return -rc;
}

void cache_keeper_close(struct haul_cache *cache)
{
	struct keeper *keeper = &cache->keeper;
	if (keeper->running) {
		(void)pthread_mutex_lock(&keeper->lock);
		keeper->stop = true;
		(void)pthread_cond_signal(&keeper->wake);
		(void)pthread_mutex_unlock(&keeper->lock);
		(void)pthread_join(keeper->thread, NULL);
		keeper->running = false;
	}
	(void)pthread_cond_destroy(&keeper->wake);
	(void)pthread_mutex_destroy(&keeper->lock);
}
