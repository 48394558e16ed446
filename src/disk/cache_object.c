/* Objects: values longer than a slice, as disk/object.h lays them out, and what happens to their
 * slices when the key is stored anew or deleted.
 *
 * What a key held before is known when the new head (or value, or tombstone) goes in, as both
 *      happen
 * under one hold of the lock: so of each object that is replaced somebody drops all the slices. It
 * drops them by number, 1 … slices, so also across those that have left already. That is only to
 * give room back: nothing finds a slice but through its head, whose version is random. */
#include <errno.h>
#include <string.h>

#include "disk/cache_state.h"

static uint64_t object_secret(const struct part *part)
{
	return part->cache->volume.super.secret;
}

/* ---- what is there ---- */

struct head_read {
	struct object_head head;
	bool good;
};

static void take_head(uint32_t index, const struct shard_value *value, void *arg)
{
	struct head_read *read = arg;
	(void)index;
	read->good = value->status == HAUL_CACHE_HIT && value->head &&
		     object_head_decode(value->data, value->bytes, &read->head) == 0;
}

static bool object_head(struct part *part, const struct cache_key *key,
			struct object_head *ret_head)
{
	struct head_read read = { .good = false };
	struct shard_value value;
	struct reading reading = {
		.part = part,
		.get = { .keys = key, .values = &value, .count = 1, .peek = true },
		.take = take_head,
		.arg = &read,
	};
	reading_begin(&reading);
	reading_finish(&reading);
	if (read.good)
		*ret_head = read.head;
	return read.good;
}

/* Slices 1 … count; those that are not there are none to drop. */
static void object_drop(struct part *part, const struct cache_key *key,
			const struct object_head *head, uint32_t count)
{
	for (uint32_t n = 1; n <= count; n++) {
		struct cache_key slice;
		object_slice_key(key, head, n, object_secret(part), &slice);
		int rc = shard_delete(part->shard, &slice, NULL);
		while (rc == -EAGAIN && part_turn(part))
			rc = shard_delete(part->shard, &slice, NULL);
	}
}

/* Put, or with put NULL delete, when it is known what the key holds now. */
static int object_change(struct part *part, const struct cache_key *key,
			 const struct shard_put *put, struct shard_wait *wait)
{
	struct object_head old;
	uint64_t version = 0;
	bool had = false;
	int rc = -EAGAIN;
	while (rc == -EAGAIN) {
		const bool head = shard_is_head(part->shard, key);
		if (head && shard_version(part->shard, key) != version) {
			version = shard_version(part->shard, key);
			had = object_head(part, key, &old);
			continue; /* it may have changed while that was read */
		}
		rc = put != NULL ? shard_put(part->shard, put)
				 : shard_delete(part->shard, key, wait);
		if (rc == 0 && head && had)
			object_drop(part, key, &old, old.slices);
		if (rc == -EAGAIN && !part_turn(part))
			rc = HAUL_EFULL;
	}
	return rc;
}

int object_put(struct part *part, const struct shard_put *put)
{
	return object_change(part, &put->key, put, NULL);
}

int object_delete(struct part *part, const struct cache_key *key, struct shard_wait *wait)
{
	return object_change(part, key, NULL, wait);
}

/* ---- store ---- */

/* An object that is being stored: slices go in one after the other, OBJECT_GROUP of them under way
 * when somebody wants to know what becomes of them. */
struct storing {
	struct part *part;
	const struct haul_cache_item *item;
	const struct cache_key *key;
	struct object_head head;
	uint32_t put; /* slices */
	bool durable;
	int result; /* the first error */
	struct waiter waiter;
	struct told told[OBJECT_GROUP + 1]; /* the last is the head's */
};

static void storing_await(struct storing *storing, const struct told *told)
{
	while (!told->done)
		part_wait(storing->part, &storing->waiter, storing->waiter.pending - 1);
	if (storing->result == 0)
		storing->result = told->result;
}

static void storing_slice(struct storing *storing)
{
	const struct haul_cache_item *item = storing->item;
	struct told *told = &storing->told[storing->put % OBJECT_GROUP];
	const uint64_t at = (uint64_t)storing->put * storing->head.slice_bytes;
	const uint64_t left = item->bytes - at;
	struct shard_put put = {
		.value = (const uint8_t *)item->value + at,
		.bytes = left < storing->head.slice_bytes ? (uint32_t)left
							  : storing->head.slice_bytes,
		.expiry = item->expiry,
		.how = item->how & HAUL_CACHE_PINNED,
	};
	object_slice_key(storing->key, &storing->head, storing->put + 1,
			 object_secret(storing->part), &put.key);
	if (storing->durable) {
		if (storing->put >= OBJECT_GROUP)
			storing_await(storing, told);
		put.wait = told_begin(told, storing->part, &storing->waiter);
	}
	int rc = storing->result < 0 ? storing->result : object_put(storing->part, &put);
	if (rc < 0 && storing->durable)
		told_cancel(told);
	if (rc < 0)
		storing->result = rc;
	else
		storing->put++;
	part_poll(storing->part);
}

static void storing_head(struct storing *storing)
{
	const struct haul_cache_item *item = storing->item;
	struct told *told = &storing->told[OBJECT_GROUP];
	uint8_t encoded[OBJECT_HEAD_BYTES];
	object_head_encode(&storing->head, encoded);
	struct shard_put put = {
		.key = *storing->key,
		.value = encoded,
		.bytes = sizeof encoded,
		.expiry = item->expiry,
		.flags = item->flags,
		.how = item->how,
		.version = item->version,
		.head = true,
	};
	if (storing->durable)
		put.wait = told_begin(told, storing->part, &storing->waiter);
	int rc = object_put(storing->part, &put);
	if (rc < 0 && storing->durable)
		told_cancel(told);
	storing->result = rc;
	part_poll(storing->part);
}

static void take_status(uint32_t index, const struct shard_value *value, void *arg)
{
	enum haul_cache_status *status = arg;
	(void)index;
	*status = value->status;
}

/* Whether its head would be refused as things are, so that no slice is written in vain. */
static int object_refuse(struct part *part, const struct haul_cache_item *item,
			 const struct cache_key *key)
{
	const uint64_t version = shard_version(part->shard, key);
	if (version == 0)
		return item->how & (HAUL_CACHE_REPLACE | HAUL_CACHE_COMPARE) ? -ENOENT : 0;
	if ((item->how & HAUL_CACHE_COMPARE) && item->version != version)
		return HAUL_ESTALE;
	if (!(item->how & HAUL_CACHE_ADD))
		return 0;
	enum haul_cache_status status = HAUL_CACHE_MISS;
	struct shard_value value;
	struct reading reading = {
		.part = part,
		.get = { .keys = key, .values = &value, .count = 1, .peek = true },
		.take = take_status,
		.arg = &status,
	};
	reading_begin(&reading);
	reading_finish(&reading);
	return status == HAUL_CACHE_HIT ? -EEXIST : 0;
}

int object_store(struct part *part, const struct haul_cache_item *item, const struct cache_key *key,
		 bool durable)
{
	struct os *os = part->cache->os;
	const uint32_t slice = part->cache->slice_bytes;
	struct storing storing = {
		.part = part,
		.item = item,
		.key = key,
		.durable = durable,
		.head = { .bytes = item->bytes,
			  .slice_bytes = slice,
			  .slices = (uint32_t)((item->bytes + slice - 1) / slice),
			  .flags = item->flags },
	};
	int rc = object_refuse(part, item, key);
	if (rc < 0)
		return rc;
	os->random(os, &storing.head.version, sizeof storing.head.version);
	while (storing.put < storing.head.slices && storing.result == 0)
		storing_slice(&storing);
	const bool all = storing.result == 0;
	if (all)
		storing_head(&storing);
	const bool head = all && storing.result == 0;
	for (uint32_t i = 0; durable && i < OBJECT_GROUP; i++)
		if (i < storing.put)
			storing_await(&storing, &storing.told[i]);
	if (head && durable)
		storing_await(&storing, &storing.told[OBJECT_GROUP]);
	if (storing.result < 0 && head)
		(void)object_delete(part, key, NULL); /* it has no slices to speak of */
	else if (storing.result < 0)
		object_drop(part, key, &storing.head, storing.put);
	part_poll(part);
	return storing.result;
}

/* ---- read ---- */

/* A run of slices of one get. */
struct run {
	const struct object_head *head;
	const struct wanted *wanted;
	uint32_t first; /* slice of index 0, from 0 */
	enum haul_cache_status status;
};

static void take_slice(uint32_t index, const struct shard_value *value, void *arg)
{
	struct run *run = arg;
	const uint64_t slice_bytes = run->head->slice_bytes;
	const uint64_t start = (run->first + index) * slice_bytes;
	const uint64_t left = run->head->bytes - start;
	if (run->status != HAUL_CACHE_HIT)
		return;
	if (value->status != HAUL_CACHE_HIT ||
	    value->bytes != (left < slice_bytes ? left : slice_bytes)) {
		run->status = value->status == HAUL_CACHE_HIT ? HAUL_CACHE_CORRUPT : value->status;
		return;
	}
	const uint64_t from = run->wanted->offset > start ? run->wanted->offset : start;
	const uint64_t wanted_end = run->wanted->offset + run->wanted->max;
	const uint64_t end = wanted_end < start + value->bytes ? wanted_end : start + value->bytes;
	memcpy(run->wanted->data + (from - run->wanted->offset), value->data + (from - start),
	       end - from);
}

enum haul_cache_status object_read(struct part *part, const struct cache_key *key,
				   const struct object_head *head, const struct wanted *wanted)
{
	struct cache_key keys[OBJECT_GROUP];
	struct shard_value values[OBJECT_GROUP];
	struct run run = { .head = head, .wanted = wanted, .status = HAUL_CACHE_HIT };
	HAUL_ASSERT(wanted->offset + wanted->max <= head->bytes);
	if (wanted->max == 0)
		return HAUL_CACHE_HIT;
	const uint32_t last = (uint32_t)((wanted->offset + wanted->max - 1) / head->slice_bytes);
	run.first = (uint32_t)(wanted->offset / head->slice_bytes);
	while (run.first <= last && run.status == HAUL_CACHE_HIT) {
		struct reading reading = {
			.part = part,
			.get = { .keys = keys, .values = values },
			.take = take_slice,
			.arg = &run,
		};
		while (reading.get.count < OBJECT_GROUP && run.first + reading.get.count <= last) {
			const uint32_t n = reading.get.count++;
			object_slice_key(key, head, run.first + n + 1, object_secret(part),
					 &keys[n]);
		}
		reading_begin(&reading);
		reading_finish(&reading);
		run.first += reading.get.count;
	}
	return run.status;
}
