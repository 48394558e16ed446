/* A cache on a file: buffered stores that share a flush, a durable one, and fifty keys in one call.
 * On a machine of its own the file would be a block device, as in /dev/nvme0n1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <haul/cache.h>

enum { STORED = 100, ASKED = 50, VALUE_BYTES = 4096, MIB = 1 << 20 };

static struct haul_cache_key key_of(char name[16], int number)
{
	int bytes = snprintf(name, 16, "key_%d", number);
	return (struct haul_cache_key){ name, (uint32_t)bytes };
}

static int store_many(struct haul_cache *cache)
{
	char name[16], value[VALUE_BYTES];
	for (int i = 0; i < STORED; i++) {
		memset(value, i, sizeof value);
		struct haul_cache_item item = {
			.key = key_of(name, i),
			.value = value,
			.bytes = sizeof value,
		};
		int rc = haul_cache_store_buffered(cache, &item); /* copied: no wait for the disk */
		if (rc < 0)
			return rc;
	}
	return haul_cache_flush(cache); /* now all of them are durable */
}

static int show(uint32_t index, const struct haul_cache_value *value, void *arg)
{
	int *good = arg;
	const unsigned char *data = value->data;
	if (value->status == HAUL_CACHE_HIT)
		*good += value->bytes == VALUE_BYTES && data[0] == index;
	else
		printf("key_%u: %s\n", index, haul_cache_status_name(value->status));
	return 0;
}

static int look_up(struct haul_cache *cache)
{
	static char names[ASKED][16];
	struct haul_cache_key keys[ASKED];
	int good = 0;
	for (int i = 0; i < ASKED; i++)
		keys[i] = key_of(names[i], i);
	int hits = haul_cache_lookup_batch(cache, keys, ASKED, show, &good); /* sorted, merged */
	printf("%d of %d keys found, %d with the right value\n", hits, ASKED, good);
	return hits == ASKED && good == ASKED ? 0 : -1;
}

static int use(struct haul_cache *cache)
{
	struct haul_cache_stat stat;
	struct haul_cache_item item = { { "key2", 4 }, "data2", 5, 0, 0, 0, 0 };
	if (store_many(cache) < 0 || look_up(cache) < 0)
		return -1;
	if (haul_cache_store(cache, &item) < 0) /* durable when it returns */
		return -1;
	haul_cache_stat(cache, &stat);
	printf("%llu operations in %llu flushes, %llu syncs; pending writes: %llu\n",
	       (unsigned long long)stat.flush_ops, (unsigned long long)stat.flushes,
	       (unsigned long long)stat.syncs, (unsigned long long)stat.pending_writes);
	return 0;
}

int main(void)
{
	char path[] = "/var/tmp/haul-example-XXXXXX";
	struct haul_cache_format format = { .bytes = 64 * MIB, .force = true };
	struct haul_cache *cache = NULL;
	struct haul_err err = { 0 };
	int fd = mkstemp(path);
	int rc = fd < 0 ? -1 : haul_cache_format(path, &format, &err);
	if (rc == 0)
		rc = haul_cache_open(&cache, path, NULL, &err);
	if (rc == 0)
		rc = use(cache);
	else
		fprintf(stderr, "%s\n", err.text);
	if (haul_cache_close(cache) < 0)
		rc = -1;
	if (fd >= 0)
		close(fd);
	unlink(path);
	return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
