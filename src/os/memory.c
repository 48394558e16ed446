#include "os/memory.h"

#include <stddef.h>
#include <sys/mman.h>

#include "base/assert.h"

/* Not in the headers of all systems this is built on. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { PAGE = 4096 };

void memory_large(void *memory, uint64_t bytes)
{
	const uint64_t at = (uint64_t)(uintptr_t)memory;
	const uint64_t from = (at + MEMORY_LARGE - 1) / MEMORY_LARGE * MEMORY_LARGE;
	const uint64_t to = (at + bytes) / MEMORY_LARGE * MEMORY_LARGE;

	if (from < to)
		(void)madvise((uint8_t *)memory + (from - at), to - from, MADV_HUGEPAGE);
}

void memory_touch(void *memory, uint64_t bytes)
{
	const uint64_t before = (uint64_t)(uintptr_t)memory % PAGE;

	HAUL_ASSERT(memory != NULL);
	if (bytes > 0)
		(void)madvise((uint8_t *)memory - before, bytes + before, MADV_POPULATE_WRITE);
}
