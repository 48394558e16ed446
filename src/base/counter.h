/* base/counter.h — a figure that one thread writes and any thread reads, without a locked
 * instruction: a plain add for the writer, never a torn value for the reader. */
#pragma once

#include <stdint.h>

static inline uint64_t counter_get(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* The one writer only. */
static inline void counter_set(uint64_t *counter, uint64_t value)
{
	__atomic_store_n(counter, value, __ATOMIC_RELAXED);
}

/* The one writer only. */
static inline void counter_add(uint64_t *counter, uint64_t n)
{
	counter_set(counter, counter_get(counter) + n);
}
