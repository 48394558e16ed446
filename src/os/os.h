/* os/os.h — the door to the outside: clock and randomness, with a simulated twin for tests.
 * Logic takes a struct os * (or a plain now_ns) and never reads a clock itself. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define NS_PER_US INT64_C(1000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S  INT64_C(1000000000)

struct os {
	int64_t (*now_ns)(struct os *os);      /* monotonic */
	int64_t (*real_time_s)(struct os *os); /* seconds since 1970 */
	void (*random)(struct os *os, void *out, size_t bytes);
};

/* The machine's own. Threads: any. */
struct os *os_linux(void);

/* The twin: time stands still until told to move; randomness comes from the seed. */
struct os_sim {
	struct os os;
	int64_t now_ns;
	uint64_t seed_state;
};
void os_sim_init(struct os_sim *sim, uint64_t seed);
void os_sim_advance(struct os_sim *sim, int64_t by_ns);
