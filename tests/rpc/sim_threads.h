/* rpc/sim_threads.h — threads that take turns as a seed says, in the place of the system's.
 *
 * Model      The linker (--wrap) takes pthread_create, mutexes, conditions, read-write locks, park
 *            and the clock of the program over. A thread is a coroutine that runs until it has to
 *            wait, or now and then at a lock, where another may come between; everything happens
 *            in one thread of the machine, and the prng decides who is next. Nobody is woken
 *            without a reason: who is forgotten sleeps for good, and is found.
 *            The test's own thread waits by calling turn until it may go on; turn itself waits
 *            for nothing.
 * Ownership  one at a time: sim_threads_open to sim_threads_close.
 * Threads    one. Errors: asserts. */
#pragma once

#include "lib/testlib.h"
#include "os/os.h"

enum { SIM_THREADS = 32 };

struct sim_threads {
	struct prng prng;
	struct os_sim *os;
	uint32_t one_switch; /* locks at which another comes between; 0 = none */
	void (*turn)(void *arg);
	void *arg;
	uint64_t trace; /* a hash of all that happened */
};

struct sim_threads *sim_threads_open(struct os_sim *os, uint64_t seed);
void sim_threads_close(void);
static inline int64_t sim_now_ns(const struct sim_threads *threads)
{
	return threads->os->now_ns;
}
void sim_trace(struct sim_threads *threads, uint64_t value);
void sim_trace_bytes(struct sim_threads *threads, const uint8_t *data, size_t bytes);

/* One thread that may run does; false: none may. */
bool sim_threads_run(struct sim_threads *threads);
/* When the next thread wakes by itself. */
int64_t sim_threads_wake_ns(const struct sim_threads *threads);
/* Until it is ready, or until_ns has passed. */
typedef bool sim_ready(void *what);
void sim_wait(sim_ready *ready, void *what, int64_t until_ns);
