/* os/memory.h — pages of large blocks of memory: of what size, and when they are taken.
 *
 * Model      A page is taken from the machine, and cleared, when it is first touched: at 0.3 to
 *            10 GB/s, as the host has it. memory_touch takes pages before somebody in a hurry gets
 *            there. What is in them stays as it is, so others may use the memory meanwhile.
 * Errors     none: both are wishes, and what does not come true is done by the first touch.
 * Source     madvise(2): MADV_HUGEPAGE, MADV_POPULATE_WRITE (Linux 5.14). */
#pragma once

#include <stdint.h>

enum { MEMORY_LARGE = 2 << 20 };

/* Large pages for the whole ones among [memory, memory + bytes). */
void memory_large(void *memory, uint64_t bytes);
/* Take the pages of [memory, memory + bytes). */
void memory_touch(void *memory, uint64_t bytes);
