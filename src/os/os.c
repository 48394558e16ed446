#include "os/os.h"

#include <sys/random.h>
#include <time.h>

#include "base/assert.h"
#include "base/prng.h"

static int64_t linux_now_ns(struct os *os)
{
	(void)os;
	struct timespec now;
	int rc = clock_gettime(CLOCK_MONOTONIC, &now);
	HAUL_ASSERT(rc == 0);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static int64_t linux_real_time_s(struct os *os)
{
	(void)os;
	struct timespec now;
	int rc = clock_gettime(CLOCK_REALTIME_COARSE, &now); /* whole seconds need no more */
	HAUL_ASSERT(rc == 0);
	return now.tv_sec;
}

static void linux_random(struct os *os, void *out, size_t bytes)
{
	(void)os;
	for (size_t done = 0; done < bytes;) {
		/* Only a signal can cut it short, and only in requests over 256 bytes. */
		ssize_t got = getrandom((uint8_t *)out + done, bytes - done, 0);
		if (got > 0)
			done += (size_t)got;
	}
}

static const struct os linux_os = {
	.now_ns = linux_now_ns,
	.real_time_s = linux_real_time_s,
	.random = linux_random,
};

struct os *os_linux(void)
{
	/* Callers hold a struct os * because the twin has state; nobody writes through it here. */
	return (struct os *)(uintptr_t)&linux_os;
}

/* os is the first member of its twin. */
static struct os_sim *sim_of(struct os *os)
{
	return (struct os_sim *)os;
}

static int64_t sim_now_ns(struct os *os)
{
	return sim_of(os)->now_ns;
}

static int64_t sim_real_time_s(struct os *os)
{
	return sim_of(os)->now_ns / NS_PER_S;
}

static void sim_random(struct os *os, void *out, size_t bytes)
{
	struct prng prng = { .state = sim_of(os)->seed_state };
	uint8_t *at = out;
	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(prng_next(&prng) >> 56);
	sim_of(os)->seed_state = prng.state;
}

void os_sim_init(struct os_sim *sim, uint64_t seed)
{
	HAUL_ASSERT(offsetof(struct os_sim, os) == 0);
	*sim = (struct os_sim){
		.os = { .now_ns = sim_now_ns,
			.real_time_s = sim_real_time_s,
			.random = sim_random },
		.seed_state = seed,
	};
}

void os_sim_advance(struct os_sim *sim, int64_t by_ns)
{
	HAUL_ASSERT(by_ns >= 0);
	HAUL_ASSERT(sim->now_ns <= INT64_MAX - by_ns);
	sim->now_ns += by_ns;
}
