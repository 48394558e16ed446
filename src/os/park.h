/* os/park.h — a thread sleeps on a word until another says that it has changed.
 *
 * Model      Who waits reads the word, finds that there is nothing to do, and parks on the value it
 *            read: if the word has another by then it does not sleep. Who changes the word wakes
 *            afterwards. A thread may wake without a reason: it looks again.
 *            park_wake does not read the word, only its address matters: the sleeper may be gone.
 * Units      nanoseconds, INT64_MAX = without end.
 * Threads    any.
 * Blocking   park_wait.
 * Source     futex(2). */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

void park_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns);
void park_wake(_Atomic uint32_t *word, uint32_t count); /* UINT32_MAX: all */
