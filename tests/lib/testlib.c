#include "lib/testlib.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

enum { EXIT_SKIPPED = 77 };

void test_prng(struct prng *prng)
{
	uint64_t seed = 0;
	const char *wanted = getenv("HAUL_TEST_SEED");
	if (wanted)
		seed = strtoull(wanted, NULL, 0);
	else
		assert_int_equal(getrandom(&seed, sizeof seed, 0), sizeof seed);
	printf("seed: HAUL_TEST_SEED=%" PRIu64 "\n", seed);
	fflush(stdout);
	prng_init(prng, seed);
}

void test_guard_open(struct test_guard *guard, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t usable = (bytes + page - 1) / page * page;
	size_t map_bytes = usable + 2 * page;
	uint8_t *map = mmap(NULL, map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(map != MAP_FAILED);
	if (usable > 0)
		assert_int_equal(mprotect(map + page, usable, PROT_READ | PROT_WRITE), 0);
	guard->data = map + page + usable - bytes;
	guard->map = map;
	guard->map_bytes = map_bytes;
}

void test_guard_close(struct test_guard *guard)
{
	if (guard->map)
		assert_int_equal(munmap(guard->map, guard->map_bytes), 0);
	memset(guard, 0, sizeof *guard);
}

_Noreturn void test_skip(const char *reason)
{
	printf("skipped: %s\n", reason);
	fflush(stdout);
	exit(EXIT_SKIPPED);
}
