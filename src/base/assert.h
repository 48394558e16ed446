/* base/assert.h — checks that stay on in release. They catch bugs, never operating errors. */
#pragma once

/* Print the condition and where it stands to stderr, and abort. */
_Noreturn void assert_failed(const char *condition, const char *file, int line);

#define HAUL_ASSERT(condition)                                                                     \
	do {                                                                                       \
		if (__builtin_expect(!(condition), 0))                                             \
			assert_failed(#condition, __FILE__, __LINE__);                             \
	} while (0)

/* For checks that cost O(n): only in builds with -DHAUL_SLOW_ASSERTS (tests, sanitizers). */
#ifdef HAUL_SLOW_ASSERTS
#define HAUL_ASSERT_SLOW(condition) HAUL_ASSERT(condition)
#else
#define HAUL_ASSERT_SLOW(condition)                                                                \
	do {                                                                                       \
		(void)sizeof(condition);                                                           \
	} while (0)
#endif
