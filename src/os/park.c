#include "os/park.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/os.h"

void park_wait(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns)
{
	struct timespec span = { 0 };
	if (timeout_ns != INT64_MAX) {
		const int64_t ns = timeout_ns > 0 ? timeout_ns : 0;
		span.tv_sec = ns / NS_PER_S;
		span.tv_nsec = ns % NS_PER_S;
	}
	/* every way to return means: look again */
	(void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen,
		      timeout_ns != INT64_MAX ? &span : NULL, NULL, 0);
}

void park_wake(_Atomic uint32_t *word, uint32_t count)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count < INT_MAX ? count : INT_MAX, NULL,
		      NULL, 0);
}
