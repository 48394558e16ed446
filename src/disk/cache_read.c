/* Lookups of one key: plain values and ranges of objects. */
#include <errno.h>
#include <string.h>

#include "disk/cache_state.h"

enum { READ_TRIES = 8 }; /* of an object that is replaced while it is read */

static void reading_window(struct shard_get *get)
{
	struct reading *reading = get->owner;
	part_done(reading->part, &reading->waiter);
}

void reading_begin(struct reading *reading)
{
	struct part *part = reading->part;
	HAUL_ASSERT(reading->get.count > 0);
	reading->get.done = reading_window;
	reading->get.owner = reading;
	reading->waiter = (struct waiter){ .pending = 1 };
	shard_get(part->shard, &reading->get);
	part_poll(part);
}

void reading_finish(struct reading *reading)
{
	struct part *part = reading->part;
	struct shard_get *get = &reading->get;
	bool last = false;
	while (!last) {
		part_wait(part, &reading->waiter, 0);
		const uint32_t end = get->first + get->ready;
		last = end == get->count;
		part_unlock(part);
		for (uint32_t i = get->first; i < end; i++)
			reading->take(i, &get->values[i], reading->arg);
		part_lock(part);
		reading->waiter.pending = last ? 0 : 1;
		shard_get_next(part->shard, get);
		part_poll(part); /* others may have waited for the buffers */
	}
}

/* ---- one key ---- */

struct single {
	struct wanted *wanted;
	struct object_head head;
	bool is_head;
};

static void take_single(uint32_t index, const struct shard_value *value, void *arg)
{
	struct single *single = arg;
	struct wanted *wanted = single->wanted;
	(void)index;
	wanted->value = (struct haul_cache_value){
		.status = value->status,
		.flags = value->flags,
		.expiry = value->expiry,
		.version = value->version,
	};
	single->is_head = false;
	if (value->status != HAUL_CACHE_HIT)
		return;
	wanted->value.total = value->bytes;
	if (value->head) {
		single->is_head = true;
		if (object_head_decode(value->data, value->bytes, &single->head) < 0)
			wanted->value.status = HAUL_CACHE_CORRUPT;
		wanted->value.total = single->head.bytes;
		return;
	}
	const uint64_t left = wanted->offset < value->bytes ? value->bytes - wanted->offset : 0;
	wanted->value.bytes = left < wanted->max ? left : wanted->max;
	if (wanted->value.bytes > 0)
		memcpy(wanted->data, value->data + wanted->offset, wanted->value.bytes);
}

/* The object behind a head that was just read. */
static void wanted_object(struct part *part, const struct cache_key *key, struct wanted *wanted,
			  const struct object_head *head)
{
	const uint64_t left = wanted->offset < head->bytes ? head->bytes - wanted->offset : 0;
	struct wanted range = *wanted;
	range.max = left < wanted->max ? left : wanted->max;
	if (range.max == 0)
		range.offset = 0;
	wanted->value.status = object_read(part, key, head, &range);
	wanted->value.bytes = wanted->value.status == HAUL_CACHE_HIT ? range.max : 0;
}

void wanted_read(struct part *part, const struct cache_key *key, struct wanted *wanted)
{
	struct haul_cache *cache = part->cache;
	struct single single = { .wanted = wanted };
	struct shard_value value;
	part_lock(part);
	for (uint32_t try = 1; try <= READ_TRIES; try++) {
		struct reading reading = {
			.part = part,
			.get = { .keys = key, .values = &value, .count = 1 },
			.take = take_single,
			.arg = &single,
		};
		reading_begin(&reading);
		reading_finish(&reading);
		if (wanted->value.status != HAUL_CACHE_HIT || !single.is_head)
			break;
		wanted_object(part, key, wanted, &single.head);
		if (wanted->value.status == HAUL_CACHE_HIT)
			break;
		if (shard_version(part->shard, key) == wanted->value.version) {
			/* not replaced meanwhile: it has a hole, and is good for nothing */
			(void)atomic_fetch_add(&cache->incomplete, 1);
			if (!cache->read_only)
				(void)object_delete(part, key, NULL);
			break;
		}
	}
	part_unlock(part);
	wanted->value.data = wanted->data;
	if (wanted->value.status != HAUL_CACHE_HIT)
		wanted->value.data = NULL;
	if (wanted->value.status == HAUL_CACHE_EXPIRED && single.is_head)
		wanted->value.status = HAUL_CACHE_MISS;
}

static int read_key(struct haul_cache *cache, const struct haul_cache_key *key,
		    struct wanted *wanted)
{
	struct cache_key found;
	struct part *part = NULL;
	int rc = cache_key_find(cache, key, &found, &part);
	if (rc < 0)
		return rc;
	wanted_read(part, &found, wanted);
	switch (wanted->value.status) {
	case HAUL_CACHE_HIT:
		return 0;
	case HAUL_CACHE_CORRUPT:
		return HAUL_ECORRUPT;
	case HAUL_CACHE_FAILED:
		return -EIO;
	case HAUL_CACHE_MISS:
	case HAUL_CACHE_EXPIRED:
	case HAUL_CACHE_STATUSES:
	default:
		return -ENOENT;
	}
}

int haul_cache_get_range(struct haul_cache *cache, const struct haul_cache_key *key,
			 const struct haul_cache_range *range, void *data,
			 struct haul_cache_value *ret_value)
{
	struct wanted wanted = { .offset = range->offset, .data = data, .max = range->bytes };
	int rc = read_key(cache, key, &wanted);
	if (ret_value != NULL && (rc == 0 || wanted.value.status != HAUL_CACHE_HIT))
		*ret_value = wanted.value;
	return rc;
}

int haul_cache_get(struct haul_cache *cache, const struct haul_cache_key *key, void *data,
		   uint64_t max, struct haul_cache_value *ret_value)
{
	struct wanted wanted = { .data = data, .max = max };
	int rc = read_key(cache, key, &wanted);
	if (ret_value != NULL && (rc == 0 || wanted.value.status != HAUL_CACHE_HIT))
		*ret_value = wanted.value;
	return rc == 0 && wanted.value.total > max ? HAUL_ELONG : rc;
}
