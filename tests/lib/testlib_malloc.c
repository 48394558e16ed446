/* A malloc that counts and hands on to the C library's. Under the address or thread
 * sanitizer, which have a malloc of their own, the sanitizer's hook counts instead. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "lib/testlib.h"

static _Atomic uint64_t mallocs;
static _Atomic uint64_t fail_at; /* this allocation, counted from 1; 0 = none */

uint64_t test_mallocs(void)
{
	return atomic_load_explicit(&mallocs, memory_order_relaxed);
}

/* Returns whether this one is to succeed. */
static bool count_one(void)
{
	uint64_t number = atomic_fetch_add_explicit(&mallocs, 1, memory_order_relaxed) + 1;
	if (number != atomic_load_explicit(&fail_at, memory_order_relaxed))
		return true;
	errno = ENOMEM; /* the C library's own callers look at it */
	return false;
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZER 1
#endif

#ifdef TEST_SANITIZER

/* Visible, or the sanitizer's library does not find them. */
__attribute__((visibility("default"))) void __sanitizer_malloc_hook(const volatile void *memory,
								    size_t bytes);
__attribute__((visibility("default"))) void __sanitizer_free_hook(const volatile void *memory);

void __sanitizer_malloc_hook(const volatile void *memory, size_t bytes)
{
	(void)memory;
	(void)bytes;
	(void)count_one();
}

void __sanitizer_free_hook(const volatile void *memory)
{
	(void)memory;
}

bool test_malloc_fail(uint32_t successes)
{
	(void)successes;
	return false;
}

#else

bool test_malloc_fail(uint32_t successes)
{
	atomic_store_explicit(&fail_at, test_mallocs() + successes + 1, memory_order_relaxed);
	return true;
}

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *memory, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

__attribute__((visibility("default"))) void *malloc(size_t bytes)
{
	return count_one() ? __libc_malloc(bytes) : NULL;
}

__attribute__((visibility("default"))) void *calloc(size_t count, size_t bytes)
{
	return count_one() ? __libc_calloc(count, bytes) : NULL;
}

__attribute__((visibility("default"))) void *realloc(void *memory, size_t bytes)
{
	return count_one() ? __libc_realloc(memory, bytes) : NULL;
}

__attribute__((visibility("default"))) void *aligned_alloc(size_t align, size_t bytes)
{
	return count_one() ? __libc_memalign(align, bytes) : NULL;
}

__attribute__((visibility("default"))) int posix_memalign(void **memory, size_t align, size_t bytes)
{
	*memory = count_one() ? __libc_memalign(align, bytes) : NULL;
	return *memory ? 0 : ENOMEM;
}

#endif
