/* cli/stop.h — SIGINT and SIGTERM, for commands that end in good order.
 *
 * Model      From stop_catch on the first signal sets a flag, interrupts what the program waits in,
 *            and calls what stop_also named; a second one kills.
 * Threads    main thread only; what stop_also names runs inside the signal handler. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

void stop_catch(void);
bool stop_asked(void);
/* call(arg) from the handler, too, until stop_also(NULL, NULL). */
void stop_also(void (*call)(void *arg), void *arg);
/* Keep the signals waiting, in all threads made from now on, too. */
void stop_block(sigset_t *ret_signals);

/* For calls that tell how far they are, and end when that is not 0; arg is a struct progress. */
int stop_progress(uint64_t done, uint64_t total, void *arg);
