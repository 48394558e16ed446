/* lib/testlib.h — what every test file starts with: cmocka, and the few helpers all of them need.
 *
 * In meson: `dependencies: [test_lib]`; with test_mallocs() also `test_malloc_lib`, which puts a
 * counting malloc into that one program. */
#pragma once

#include <stdbool.h>

/* cmocka.h needs the four before it. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
/* clang-format on */

#include "base/prng.h"

/* Start a random sequence from a fresh seed, or from HAUL_TEST_SEED to repeat a run. The seed is
 * printed, so that the log of a failure says how to repeat it. */
void test_prng(struct prng *prng);

/* Bytes that end where an inaccessible page begins: reading or writing one byte too many, or far
 * before the start, is a crash. */
struct test_guard {
	uint8_t *data;
	uint8_t *map;
	size_t map_bytes;
};
void test_guard_open(struct test_guard *guard, size_t bytes);
void test_guard_close(struct test_guard *guard);

/* End the program as skipped (77), and say why. */
_Noreturn void test_skip(const char *reason);

/* Let so many more allocations succeed and then one fail; all succeed again after it. false under a
 * sanitizer, where allocations cannot be made to fail: nothing is set then. */
bool test_malloc_fail(uint32_t successes);

/* Allocations (malloc, calloc, realloc, aligned) by any thread since the program began. */
uint64_t test_mallocs(void);
