#include "sim_threads.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "base/hash.h"

enum { STACK_BYTES = 1 << 20, OWN = 0 };

struct thread {
	ucontext_t context;
	void *stack;
	void *(*run)(void *arg);
	void *arg;
	bool used, begun, ended;
	sim_ready *ready; /* what it waits for */
	void *what;
	int64_t until_ns;
	const void *place; /* a condition or a word that it sleeps on */
	bool woken;
};

/* The wrapped functions have no other way to find it. */
static struct sim_threads the_threads;
static struct thread threads[SIM_THREADS]; /* [OWN]: the test's */
static uint32_t current;
static bool turning;
static ucontext_t back;

void sim_trace(struct sim_threads *sim, uint64_t value)
{
	sim->trace = hash_u64(sim->trace ^ value) + 1;
}

void sim_trace_bytes(struct sim_threads *sim, const uint8_t *data, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		sim->trace = (sim->trace ^ data[i]) * UINT64_C(0x100000001b3);
	sim_trace(sim, bytes);
}

/* ---- turns ---- */

static bool thread_ready(struct thread *thread)
{
	if (!thread->used || thread->ended)
		return false;
	return !thread->begun || thread->until_ns <= the_threads.os->now_ns ||
	       thread->ready(thread->what);
}

bool sim_threads_run(struct sim_threads *sim)
{
	uint32_t ready[SIM_THREADS], count = 0;

	assert_int_equal(current, OWN);
	for (uint32_t i = OWN + 1; i < SIM_THREADS; i++) {
		if (thread_ready(&threads[i]))
			ready[count++] = i;
	}
	if (count == 0)
		return false;
	current = ready[prng_below(&sim->prng, count)];
	sim_trace(sim, current);
	threads[current].begun = true;
	assert_int_equal(swapcontext(&back, &threads[current].context), 0);
	current = OWN;
	return true;
}

int64_t sim_threads_wake_ns(const struct sim_threads *sim)
{
	int64_t wake_ns = INT64_MAX;

	(void)sim;
	for (uint32_t i = OWN + 1; i < SIM_THREADS; i++) {
		const struct thread *thread = &threads[i];
		if (thread->used && !thread->ended && thread->until_ns < wake_ns)
			wake_ns = thread->until_ns;
	}
	return wake_ns;
}

void sim_wait(sim_ready *ready, void *what, int64_t until_ns)
{
	struct thread *thread = &threads[current];

	if (current != OWN) {
		thread->ready = ready;
		thread->what = what;
		thread->until_ns = until_ns;
		assert_int_equal(swapcontext(&thread->context, &back), 0);
		return;
	}
	assert_false(turning);
	turning = true;
	do
		the_threads.turn(the_threads.arg);
	while (!ready(what) && the_threads.os->now_ns < until_ns);
	turning = false;
}

static bool always(void *what)
{
	(void)what;
	return true;
}

/* Now and then another comes between. */
static void come_between(void)
{
	if (the_threads.one_switch > 0 && !turning &&
	    prng_below(&the_threads.prng, the_threads.one_switch) == 0)
		sim_wait(always, NULL, INT64_MAX);
}

static bool is_woken(void *what)
{
	return ((struct thread *)what)->woken;
}

static bool is_ended(void *what)
{
	return ((struct thread *)what)->ended;
}

static void sleep_at(const void *place)
{
	threads[current].place = place;
	threads[current].woken = false;
}

/* Whether somebody woke it. */
static bool sleep_until(int64_t until_ns)
{
	struct thread *thread = &threads[current];

	if (!thread->woken)
		sim_wait(is_woken, thread, until_ns);
	thread->place = NULL;
	return thread->woken;
}

static void wake(const void *place, uint32_t most)
{
	while (most > 0) {
		uint32_t sleeps[SIM_THREADS], count = 0;
		for (uint32_t i = 0; i < SIM_THREADS; i++) {
			if (threads[i].place == place && !threads[i].woken)
				sleeps[count++] = i;
		}
		if (count == 0)
			return;
		threads[sleeps[prng_below(&the_threads.prng, count)]].woken = true;
		most--;
	}
}

static void thread_main(void)
{
	struct thread *thread = &threads[current];

	(void)thread->run(thread->arg);
	thread->ended = true;
	(void)swapcontext(&thread->context, &back);
}

/* By itself: getcontext may return twice. */
static void thread_open(struct thread *thread, void *(*run)(void *), void *arg)
{
	*thread = (struct thread){ .used = true, .run = run, .arg = arg };
	thread->stack = malloc(STACK_BYTES);
	assert_non_null(thread->stack);
	assert_int_equal(getcontext(&thread->context), 0);
	thread->context.uc_stack.ss_sp = thread->stack;
	thread->context.uc_stack.ss_size = STACK_BYTES;
	thread->context.uc_link = NULL;
	makecontext(&thread->context, thread_main, 0);
}

/* ---- in the place of the system ---- */

/* NOLINTBEGIN(bugprone-reserved-identifier,readability-identifier-naming) */
struct os *__wrap_os_linux(void);
int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
			  void *(*run)(void *), void *arg);
int __wrap_pthread_join(pthread_t name, void **ret_value);
pthread_t __wrap_pthread_self(void);
int __wrap_pthread_setname_np(pthread_t name, const char *text);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *lock);
int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock);
int __wrap_pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *lock, clockid_t clock,
				  const struct timespec *until);
int __wrap_pthread_cond_signal(pthread_cond_t *cond);
int __wrap_pthread_cond_broadcast(pthread_cond_t *cond);
void __wrap_park_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns);
void __wrap_park_wake(_Atomic uint32_t *word, uint32_t count);

struct os *__wrap_os_linux(void)
{
	return &the_threads.os->os;
}

int __wrap_pthread_create(pthread_t *ret_thread, const pthread_attr_t *attributes,
			  void *(*run)(void *), void *arg)
{
	uint32_t at = OWN + 1;

	(void)attributes;
	while (at < SIM_THREADS && threads[at].used)
		at++;
	assert_in_range(at, OWN + 1, SIM_THREADS - 1);
	thread_open(&threads[at], run, arg);
	*ret_thread = (pthread_t)at + 1;
	return 0;
}

int __wrap_pthread_join(pthread_t name, void **ret_value)
{
	struct thread *thread = &threads[name - 1];

	(void)ret_value;
	assert_true(thread->used);
	if (!thread->ended)
		sim_wait(is_ended, thread, INT64_MAX);
	free(thread->stack);
	memset(thread, 0, sizeof *thread);
	return 0;
}

pthread_t __wrap_pthread_self(void)
{
	return (pthread_t)current + 1;
}

int __wrap_pthread_setname_np(pthread_t name, const char *text)
{
	(void)name;
	(void)text;
	return 0;
}

static bool mutex_is_free(void *lock)
{
	if (pthread_mutex_trylock(lock) != 0)
		return false;
	(void)pthread_mutex_unlock(lock);
	return true;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	come_between();
	while (pthread_mutex_trylock(lock) != 0)
		sim_wait(mutex_is_free, lock, INT64_MAX);
	return 0;
}

static bool rwlock_is_readable(void *lock)
{
	if (pthread_rwlock_tryrdlock(lock) != 0)
		return false;
	(void)pthread_rwlock_unlock(lock);
	return true;
}

static bool rwlock_is_free(void *lock)
{
	if (pthread_rwlock_trywrlock(lock) != 0)
		return false;
	(void)pthread_rwlock_unlock(lock);
	return true;
}

int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *lock)
{
	come_between();
	while (pthread_rwlock_tryrdlock(lock) != 0)
		sim_wait(rwlock_is_readable, lock, INT64_MAX);
	return 0;
}

int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *lock)
{
	come_between();
	while (pthread_rwlock_trywrlock(lock) != 0)
		sim_wait(rwlock_is_free, lock, INT64_MAX);
	return 0;
}

static bool cond_sleep(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t until_ns)
{
	sleep_at(cond);
	(void)pthread_mutex_unlock(lock);
	const bool woken = sleep_until(until_ns);
	(void)pthread_mutex_lock(lock);
	return woken;
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock)
{
	(void)cond_sleep(cond, lock, INT64_MAX);
	return 0;
}

int __wrap_pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *lock, clockid_t clock,
				  const struct timespec *until)
{
	(void)clock;
	const int64_t until_ns = until->tv_sec * NS_PER_S + until->tv_nsec;
	return cond_sleep(cond, lock, until_ns) ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_signal(pthread_cond_t *cond)
{
	wake(cond, 1);
	return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *cond)
{
	wake(cond, SIM_THREADS);
	return 0;
}

void __wrap_park_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns)
{
	const int64_t now_ns = the_threads.os->now_ns;

	come_between();
	if (atomic_load(word) != seen)
		return;
	sleep_at(word);
	(void)sleep_until(timeout_ns < INT64_MAX - now_ns ? now_ns + timeout_ns : INT64_MAX);
}

void __wrap_park_wake(_Atomic uint32_t *word, uint32_t count)
{
	come_between();
	wake(word, count);
}
/* NOLINTEND(bugprone-reserved-identifier,readability-identifier-naming) */

/* ---- open and close ---- */

struct sim_threads *sim_threads_open(struct os_sim *os, uint64_t seed)
{
	memset(&the_threads, 0, sizeof the_threads);
	memset(threads, 0, sizeof threads);
	current = OWN;
	turning = false;
	threads[OWN].used = true;
	the_threads.os = os;
	the_threads.trace = seed;
	prng_init(&the_threads.prng, ~seed);
	return &the_threads;
}

void sim_threads_close(void)
{
	for (uint32_t i = OWN + 1; i < SIM_THREADS; i++)
		assert_false(threads[i].used);
}
