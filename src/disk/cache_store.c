/* Stores, deletes and flushes: put in under the partition's lock, then waited for, or not. */
#include <errno.h>
#include <string.h>

#include "disk/cache_state.h"

int cache_key_find(struct haul_cache *cache, const struct haul_cache_key *key,
		   struct cache_key *ret_key, struct part **ret_part)
{
	if (key->bytes < 1)
		return -EINVAL;
	if (key->bytes > HAUL_CACHE_KEY_MAX)
		return HAUL_ELIMIT;
	*ret_key = (struct cache_key){ .data = key->data, .bytes = key->bytes };
	cache_key_hash(ret_key, cache->volume.super.secret);
	*ret_part = &cache->parts[cache_key_partition(ret_key->hash, cache->part_count)];
	return 0;
}

static struct shard_put put_of(const struct haul_cache_item *item, const struct cache_key *key)
{
	return (struct shard_put){
		.key = *key,
		.value = item->value,
		.bytes = (uint32_t)item->bytes,
		.expiry = item->expiry,
		.flags = item->flags,
		.how = item->how,
		.version = item->version,
	};
}

/* Put in a value that is one entry. Under the lock. */
static int store_put(struct part *part, const struct haul_cache_item *item,
		     const struct cache_key *key, struct shard_wait *wait)
{
	struct shard_put put = put_of(item, key);
	put.wait = wait;
	return object_put(part, &put);
}

static int store(struct haul_cache *cache, const struct haul_cache_item *item, bool durable)
{
	struct cache_key key;
	struct part *part = NULL;
	struct told told;
	struct waiter waiter = { 0 };
	int rc = cache_key_find(cache, &item->key, &key, &part);
	if (rc == 0 && item->bytes > HAUL_CACHE_OBJECT_MAX)
		rc = HAUL_ELIMIT;
	if (rc < 0)
		return rc;
	part_lock(part);
	if (item->bytes > cache->slice_bytes) {
		rc = object_store(part, item, &key, durable);
	} else if (!durable) {
		rc = store_put(part, item, &key, NULL);
		part_poll(part);
	} else {
		rc = store_put(part, item, &key, told_begin(&told, part, &waiter));
		if (rc < 0)
			told_cancel(&told);
		part_poll(part);
		part_wait(part, &waiter, 0);
		rc = rc < 0 ? rc : told.result;
	}
	part_unlock(part);
	return rc;
}

int haul_cache_store(struct haul_cache *cache, const struct haul_cache_item *item)
{
	return store(cache, item, true);
}

int haul_cache_store_buffered(struct haul_cache *cache, const struct haul_cache_item *item)
{
	return store(cache, item, false);
}

/* ---- many at a time ---- */

/* Up to STORE_GROUP items that are one entry each, and where each stands. */
struct group {
	struct haul_cache *cache;
	const struct haul_cache_item *items;
	uint32_t count;
	int *status;
	struct part *parts[STORE_GROUP]; /* NULL: refused */
	struct cache_key keys[STORE_GROUP];
	struct told told[STORE_GROUP];
};

/* All items of one partition are put in before the gate is asked, so they share a flush. */
static void group_put(struct group *group, struct part *part, struct waiter *waiter)
{
	part_lock(part);
	for (uint32_t i = 0; i < group->count; i++) {
		if (group->parts[i] != part)
			continue;
		struct shard_wait *wait = told_begin(&group->told[i], part, waiter);
		group->status[i] = store_put(part, &group->items[i], &group->keys[i], wait);
		if (group->status[i] < 0)
			told_cancel(&group->told[i]);
	}
	part_poll(part);
	part_unlock(part);
}

static void group_wait(struct group *group, struct part *part, struct waiter *waiter)
{
	part_lock(part);
	part_wait(part, waiter, 0);
	part_unlock(part);
	for (uint32_t i = 0; i < group->count; i++)
		if (group->parts[i] == part && group->status[i] == 0)
			group->status[i] = group->told[i].result;
}

static void group_store(struct group *group)
{
	struct waiter waiters[FORMAT_PARTITIONS_MAX] = { 0 };
	struct haul_cache *cache = group->cache;
	bool used[FORMAT_PARTITIONS_MAX] = { 0 };
	for (uint32_t i = 0; i < group->count; i++) {
		group->parts[i] = NULL;
		group->status[i] = cache_key_find(cache, &group->items[i].key, &group->keys[i],
						  &group->parts[i]);
		if (group->parts[i] != NULL)
			used[group->parts[i] - cache->parts] = true;
	}
	for (uint32_t p = 0; p < cache->part_count; p++)
		if (used[p])
			group_put(group, &cache->parts[p], &waiters[p]);
	for (uint32_t p = 0; p < cache->part_count; p++)
		if (used[p])
			group_wait(group, &cache->parts[p], &waiters[p]);
}

int haul_cache_store_batch(struct haul_cache *cache, const struct haul_cache_item *items,
			   uint32_t count, int *ret_status)
{
	struct group group = { .cache = cache };
	int stored = 0;
	for (uint32_t i = 0; i < count; i += group.count) {
		group.items = items + i;
		group.status = ret_status + i;
		group.count = 0;
		while (i + group.count < count && group.count < STORE_GROUP &&
		       items[i + group.count].bytes <= cache->slice_bytes)
			group.count++;
		if (group.count > 0) {
			group_store(&group);
		} else { /* an object, which has batches of its own */
			group.count = 1;
			group.status[0] = haul_cache_store(cache, group.items);
		}
		for (uint32_t k = 0; k < group.count; k++)
			stored += group.status[k] == 0;
	}
	return stored;
}

/* ---- the rest ---- */

int haul_cache_delete(struct haul_cache *cache, const struct haul_cache_key *key)
{
	struct cache_key found;
	struct part *part = NULL;
	struct told told;
	struct waiter waiter = { 0 };
	int rc = cache_key_find(cache, key, &found, &part);
	if (rc < 0)
		return rc;
	part_lock(part);
	rc = object_delete(part, &found, told_begin(&told, part, &waiter));
	if (rc < 0)
		told_cancel(&told);
	part_poll(part);
	part_wait(part, &waiter, 0);
	part_unlock(part);
	return rc < 0 ? rc : told.result;
}

/* Begin the same on every partition, then wait for all; the first error counts. */
static int on_all(struct haul_cache *cache,
		  int (*begin)(struct shard *shard, struct shard_wait *wait))
{
	struct waiter waiters[FORMAT_PARTITIONS_MAX] = { 0 };
	struct told told[FORMAT_PARTITIONS_MAX];
	int result = 0;
	for (uint32_t p = 0; p < cache->part_count; p++) {
		struct part *part = &cache->parts[p];
		part_lock(part);
		int rc = begin(part->shard, told_begin(&told[p], part, &waiters[p]));
		if (rc < 0)
			told_cancel(&told[p]);
		result = result < 0 ? result : rc;
		part_poll(part);
		part_unlock(part);
	}
	for (uint32_t p = 0; p < cache->part_count; p++) {
		struct part *part = &cache->parts[p];
		part_lock(part);
		part_wait(part, &waiters[p], 0);
		part_unlock(part);
		result = result < 0 ? result : told[p].result;
	}
	return result;
}

static int begin_flush(struct shard *shard, struct shard_wait *wait)
{
	shard_flush(shard, wait);
	return 0;
}

int haul_cache_flush(struct haul_cache *cache)
{
	return on_all(cache, begin_flush);
}

int haul_cache_purge(struct haul_cache *cache)
{
	return on_all(cache, shard_purge);
}
