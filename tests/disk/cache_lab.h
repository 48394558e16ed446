/* disk/cache_lab.h — a cache on a small file, for tests of what the library offers.
 *
 * Ownership  cache_lab_open makes file and cache, cache_lab_close removes both.
 * Errors     fail the test. */
#pragma once

#include <haul/cache.h>
#include "lib/testlib.h"

enum { LAB_PATH = 64 };

struct cache_lab {
	char path[LAB_PATH];
	struct haul_cache *cache;
	struct haul_cache_options options;
};

/* Formatted with so many bytes and partitions, not opened yet. */
void cache_lab_format(struct cache_lab *lab, uint64_t bytes, uint32_t partitions);
void cache_lab_open(struct cache_lab *lab);
/* Close and open again, as after a restart. */
void cache_lab_reopen(struct cache_lab *lab);
void cache_lab_close(struct cache_lab *lab);
/* Of a lab that a test's setup took by test_calloc. */
int cache_lab_teardown(void **state);

struct haul_cache_key cache_lab_key(const char *text);
/* "prefix" and a number; text holds it. */
struct haul_cache_key cache_lab_key_of(char text[32], const char *prefix, uint32_t number);
struct haul_cache_item cache_lab_item(const char *key, const void *value, uint64_t bytes);
/* Bytes that depend on seed and place. */
void cache_lab_fill(uint8_t *data, uint64_t bytes, uint64_t seed);
bool cache_lab_filled(const uint8_t *data, uint64_t bytes, uint64_t seed, uint64_t from);
/* The value is there and is the text. */
void cache_lab_expect(struct cache_lab *lab, const char *key, const char *value);
void cache_lab_expect_gone(struct cache_lab *lab, const char *key);
