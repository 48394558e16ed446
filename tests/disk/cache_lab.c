#include "cache_lab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cache_lab_format(struct cache_lab *lab, uint64_t bytes, uint32_t partitions)
{
	const struct haul_cache_format format = { .bytes = bytes, .partitions = partitions };
	struct haul_err err = { 0 };
	*lab = (struct cache_lab){ .path = "/var/tmp/haul-cache-XXXXXX" };
	int fd = mkstemp(lab->path);
	assert_true(fd >= 0);
	close(fd);
	if (haul_cache_format(lab->path, &format, &err) < 0)
		fail_msg("%s", err.text);
}

void cache_lab_open(struct cache_lab *lab)
{
	struct haul_err err = { 0 };
	if (haul_cache_open(&lab->cache, lab->path, &lab->options, &err) < 0)
		fail_msg("%s", err.text);
}

void cache_lab_reopen(struct cache_lab *lab)
{
	assert_int_equal(haul_cache_close(lab->cache), 0);
	lab->cache = NULL;
	cache_lab_open(lab);
}

void cache_lab_close(struct cache_lab *lab)
{
	assert_int_equal(haul_cache_close(lab->cache), 0);
	unlink(lab->path);
}

int cache_lab_teardown(void **state)
{
	struct cache_lab *lab = *state;
	cache_lab_close(lab);
	test_free(lab);
	return 0;
}

struct haul_cache_key cache_lab_key(const char *text)
{
	return (struct haul_cache_key){ text, (uint32_t)strlen(text) };
}

struct haul_cache_key cache_lab_key_of(char text[32], const char *prefix, uint32_t number)
{
	snprintf(text, 32, "%s%u", prefix, number);
	return cache_lab_key(text);
}

struct haul_cache_item cache_lab_item(const char *key, const void *value, uint64_t bytes)
{
	return (struct haul_cache_item){ .key = cache_lab_key(key),
					 .value = value,
					 .bytes = bytes };
}

static uint8_t cache_lab_byte(uint64_t seed, uint64_t at)
{
	uint64_t x = (at / 8 + seed) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint8_t)(x >> (8 * (at % 8)));
}

void cache_lab_fill(uint8_t *data, uint64_t bytes, uint64_t seed)
{
	for (uint64_t i = 0; i < bytes; i++)
		data[i] = cache_lab_byte(seed, i);
}

bool cache_lab_filled(const uint8_t *data, uint64_t bytes, uint64_t seed, uint64_t from)
{
	for (uint64_t i = 0; i < bytes; i++)
		if (data[i] != cache_lab_byte(seed, from + i))
			return false;
	return true;
}

void cache_lab_expect(struct cache_lab *lab, const char *key, const char *value)
{
	const struct haul_cache_key asked = cache_lab_key(key);
	struct haul_cache_value got = { .status = HAUL_CACHE_STATUSES };
	char data[256];
	assert_int_equal(haul_cache_get(lab->cache, &asked, data, sizeof data, &got), 0);
	assert_int_equal(got.status, HAUL_CACHE_HIT);
	assert_int_equal(got.bytes, strlen(value));
	assert_memory_equal(data, value, got.bytes);
}

void cache_lab_expect_gone(struct cache_lab *lab, const char *key)
{
	const struct haul_cache_key asked = cache_lab_key(key);
	char data[16];
	assert_int_equal(haul_cache_get(lab->cache, &asked, data, sizeof data, NULL), -ENOENT);
}
