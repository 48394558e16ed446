/* bpf/progs/map_test.h — a field and a condition in the form in which the kernel evaluates them.
 *
 * Model      A pick reads the eight bytes around a field and cuts it out by shift and mask; a test
 *            is one unsigned range check on it, whatever the operator was. No branch depends on
 *            width or operator. kernel_filter.c makes both from what haul/map.h describes.
 * Units      at, bytes; shift and swap_shift, bits.
 * Limits     Compiled for the kernel and for user space. */
#pragma once

#include <stdint.h>

struct map_pick {
	uint64_t mask;       /* width × 8 ones */
	uint64_t sign;       /* the field's top bit when it is signed, else 0 */
	uint32_t at;         /* of the eight bytes; <= size - 8, or 0 */
	uint32_t shift;      /* of the field within them */
	uint32_t swap;       /* 1: the other byte order */
	uint32_t swap_shift; /* 64 - width × 8 */
};

struct map_test {
	struct map_pick pick;
	uint64_t bits; /* of the number that count */
	uint64_t turn; /* 2^63 for signed order, else 0 */
	uint64_t from; /* holds when from <= number <= from + span … */
	uint64_t span;
	uint64_t invert; /* … or, when 1, when not */
};

#define MAP_INLINE static inline __attribute__((always_inline))

MAP_INLINE uint64_t map_pick_get(const struct map_pick *pick, uint64_t word)
{
	uint64_t number = (word >> (pick->shift & 63)) & pick->mask;
	if (pick->swap)
		number = __builtin_bswap64(number) >> (pick->swap_shift & 63);
	return (number ^ pick->sign) - pick->sign;
}

MAP_INLINE int map_test_holds(const struct map_test *test, uint64_t word)
{
	uint64_t number = (map_pick_get(&test->pick, word) & test->bits) ^ test->turn;
	return (number - test->from <= test->span) != (test->invert != 0);
}
