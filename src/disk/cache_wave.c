/* Lookups of many keys: in waves of up to WAVE_KEYS.
 *
 * A wave sorts its keys by partition, queues one get on each, and copies every value out as its
 * window comes, so that no window (and with it no read buffer) is held while others are waited for
 * or while a visitor runs. Then the visitor is called, in the order asked. A value that found no
 * room in the wave's memory ends it: the next wave begins with its key, and is smaller. A wave of
 * one key always has room, so every wave gets on.
 *
 * Windows of several partitions are waited for by one wave at a time (`spread`): two that each held
 * what the other waits for would wait for good. A wave that needs one partition holds nothing while
 * it waits, and does without. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/cache_state.h"

enum { WAVE_ALIGN = 64, WAVE_KEYS_MIN = 8 };

struct wave_result {
	struct haul_cache_value value;
	bool head;
	bool again; /* there was no room for it */
};

/* The keys of a wave that one partition has. */
struct lot {
	struct wave *wave;
	uint32_t first; /* position */
	struct reading reading;
};

/* Positions are in the order of the partitions, indices in the order asked. */
struct wave {
	struct wave *next;
	struct haul_cache *cache;
	struct cache_key keys[WAVE_KEYS];     /* by position */
	struct shard_value values[WAVE_KEYS]; /* by position */
	uint16_t index_of[WAVE_KEYS];         /* by position */
	struct cache_key asked[WAVE_KEYS];    /* by index */
	uint8_t part_of[WAVE_KEYS];           /* by index; WAVE_NOWHERE: no key that can be there */
	struct wave_result results[WAVE_KEYS];
	uint32_t first[FORMAT_PARTITIONS_MAX + 1]; /* position where a partition's keys begin */
	struct lot lots[FORMAT_PARTITIONS_MAX];
	uint32_t count;
	uint64_t used; /* of memory */
	uint8_t *memory;
};

enum { WAVE_NOWHERE = 255 };

/* One object's bytes, as long as a call lasts. */
struct object_memory {
	uint8_t *data;
	uint64_t bytes;
};

/* ---- filling ---- */

static void wave_find(struct wave *wave, const struct haul_cache_key *keys)
{
	struct haul_cache *cache = wave->cache;
	uint32_t counts[FORMAT_PARTITIONS_MAX] = { 0 };
	for (uint32_t i = 0; i < wave->count; i++) {
		struct part *part = NULL;
		wave->part_of[i] = WAVE_NOWHERE;
		wave->results[i] = (struct wave_result){ .value.status = HAUL_CACHE_MISS };
		if (cache_key_find(cache, &keys[i], &wave->asked[i], &part) < 0)
			continue;
		wave->part_of[i] = (uint8_t)(part - cache->parts);
		counts[wave->part_of[i]]++;
	}
	wave->first[0] = 0;
	for (uint32_t p = 0; p < cache->part_count; p++) {
		wave->first[p + 1] = wave->first[p] + counts[p];
		counts[p] = wave->first[p];
	}
	for (uint32_t i = 0; i < wave->count; i++) {
		if (wave->part_of[i] == WAVE_NOWHERE)
			continue;
		const uint32_t position = counts[wave->part_of[i]]++;
		wave->keys[position] = wave->asked[i];
		wave->index_of[position] = (uint16_t)i;
	}
}

/* ---- reading ---- */

static void wave_take(struct wave *wave, uint32_t position, const struct shard_value *value)
{
	struct wave_result *result = &wave->results[wave->index_of[position]];
	result->head = value->head;
	result->value = (struct haul_cache_value){
		.status = value->status,
		.flags = value->flags,
		.expiry = value->expiry,
		.version = value->version,
	};
	if (value->status != HAUL_CACHE_HIT)
		return;
	if (wave->used + value->bytes > WAVE_BYTES) {
		result->again = true;
		return;
	}
	uint8_t *to = wave->memory + wave->used;
	if (value->bytes > 0)
		memcpy(to, value->data, value->bytes);
	wave->used += (value->bytes + WAVE_ALIGN - 1) / WAVE_ALIGN * WAVE_ALIGN;
	result->value.data = to;
	result->value.bytes = value->bytes;
	result->value.total = value->bytes;
}

static void take_position(uint32_t index, const struct shard_value *value, void *arg)
{
	struct lot *lot = arg;
	wave_take(lot->wave, lot->first + index, value);
}

static void wave_begin(struct wave *wave, uint32_t p)
{
	struct lot *lot = &wave->lots[p];
	struct reading *reading = &lot->reading;
	const uint32_t first = wave->first[p];
	lot->wave = wave;
	lot->first = first;
	*reading = (struct reading){
		.part = &wave->cache->parts[p],
		.get = { .keys = wave->keys + first,
			 .values = wave->values + first,
			 .count = wave->first[p + 1] - first },
		.take = take_position,
		.arg = lot,
	};
	part_lock(reading->part);
	reading_begin(reading);
	part_unlock(reading->part);
}

static void wave_read(struct wave *wave)
{
	struct haul_cache *cache = wave->cache;
	uint32_t parts = 0;
	wave->used = 0;
	for (uint32_t p = 0; p < cache->part_count; p++)
		parts += wave->first[p + 1] > wave->first[p];
	if (parts > 1)
		(void)pthread_mutex_lock(&cache->spread);
	for (uint32_t p = 0; p < cache->part_count; p++)
		if (wave->first[p + 1] > wave->first[p])
			wave_begin(wave, p);
	for (uint32_t p = 0; p < cache->part_count; p++) {
		if (wave->first[p + 1] == wave->first[p])
			continue;
		part_lock(&cache->parts[p]);
		reading_finish(&wave->lots[p].reading);
		part_unlock(&cache->parts[p]);
	}
	if (parts > 1)
		(void)pthread_mutex_unlock(&cache->spread);
}

/* ---- telling ---- */

static int object_memory_new(struct object_memory *memory, uint64_t bytes)
{
	if (memory->bytes >= bytes)
		return 0;
	free(memory->data);
	memory->bytes = 0;
	memory->data = malloc(bytes);
	if (memory->data == NULL)
		return -ENOMEM;
	memory->bytes = bytes;
	return 0;
}

/* The whole object, unless it is too large for that. It may have been replaced since its head was
 * read: what is there now is told, once its length fits. */
static void wave_object(struct wave *wave, uint32_t index, struct object_memory *memory)
{
	struct part *part = &wave->cache->parts[wave->part_of[index]];
	struct wave_result *result = &wave->results[index];
	struct object_head head;
	struct wanted wanted = { .max = 0 };
	if (object_head_decode(result->value.data, (uint32_t)result->value.bytes, &head) < 0) {
		result->value = (struct haul_cache_value){ .status = HAUL_CACHE_CORRUPT };
		return;
	}
	uint64_t total = head.bytes;
	do {
		/* without room it is told without its data: it can be read by ranges */
		const bool room =
			total <= OBJECT_WHOLE_MAX && object_memory_new(memory, total) == 0;
		wanted.max = room ? memory->bytes : 0;
		wanted.data = memory->data;
		wanted_read(part, &wave->asked[index], &wanted);
		total = wanted.value.total;
	} while (wanted.value.status == HAUL_CACHE_HIT && wanted.max > 0 && total > wanted.max);
	result->value = wanted.value;
	if (result->value.bytes < result->value.total)
		result->value.data = NULL;
}

/* Call the visitor for as many as have their value. Returns what it said; *ret_told counts. */
static int wave_tell(struct wave *wave, uint32_t base, haul_cache_visit *visit, void *arg,
		     uint32_t *ret_told)
{
	struct object_memory memory = { 0 };
	int rc = 0;
	uint32_t i = 0;
	for (; rc == 0 && i < wave->count && !wave->results[i].again; i++) {
		struct wave_result *result = &wave->results[i];
		if (result->head && result->value.status == HAUL_CACHE_HIT)
			wave_object(wave, i, &memory);
		rc = visit(base + i, &result->value, arg);
	}
	free(memory.data);
	*ret_told = i;
	return rc;
}

static uint32_t wave_hits(const struct wave *wave, uint32_t told)
{
	uint32_t hits = 0;
	for (uint32_t i = 0; i < told; i++)
		hits += wave->results[i].value.status == HAUL_CACHE_HIT;
	return hits;
}

/* How many keys the next wave should take on. */
static void wave_learn(struct haul_cache *cache, const struct wave *wave)
{
	uint32_t fit = 0;
	while (fit < wave->count && !wave->results[fit].again)
		fit++;
	if (fit < wave->count) {
		uint32_t keys = fit > WAVE_KEYS_MIN ? fit : WAVE_KEYS_MIN;
		atomic_store_explicit(&cache->wave_keys, keys, memory_order_relaxed);
	} else if (wave->used < WAVE_BYTES / 2 && wave->count < WAVE_KEYS &&
		   wave->count == atomic_load_explicit(&cache->wave_keys, memory_order_relaxed)) {
		uint32_t keys = wave->count * 2 < WAVE_KEYS ? wave->count * 2 : WAVE_KEYS;
		atomic_store_explicit(&cache->wave_keys, keys, memory_order_relaxed);
	}
}

/* ---- the call ---- */

static struct wave *wave_borrow(struct haul_cache *cache)
{
	(void)pthread_mutex_lock(&cache->wave_lock);
	while (cache->wave_free == NULL)
		(void)pthread_cond_wait(&cache->wave_wake, &cache->wave_lock);
	struct wave *wave = cache->wave_free;
	cache->wave_free = wave->next;
	(void)pthread_mutex_unlock(&cache->wave_lock);
	return wave;
}

static void wave_return(struct wave *wave)
{
	struct haul_cache *cache = wave->cache;
	(void)pthread_mutex_lock(&cache->wave_lock);
	wave->next = cache->wave_free;
	cache->wave_free = wave;
	(void)pthread_cond_signal(&cache->wave_wake);
	(void)pthread_mutex_unlock(&cache->wave_lock);
}

int haul_cache_lookup_batch(struct haul_cache *cache, const struct haul_cache_key *keys,
			    uint32_t count, haul_cache_visit *visit, void *arg)
{
	uint32_t hits = 0, told = 0;
	bool stuck = false; /* the first value found no room: it goes alone */
	int rc = 0;
	if (count == 0)
		return 0;
	struct wave *wave = wave_borrow(cache);
	for (uint32_t i = 0; i < count && rc == 0; i += told) {
		uint32_t most = atomic_load_explicit(&cache->wave_keys, memory_order_relaxed);
		most = stuck ? 1 : most;
		wave->count = count - i < most ? count - i : most;
		wave_find(wave, keys + i);
		wave_read(wave);
		wave_learn(cache, wave);
		rc = wave_tell(wave, i, visit, arg, &told);
		hits += wave_hits(wave, told);
		HAUL_ASSERT(told > 0 || wave->count > 1);
		stuck = told == 0;
	}
	wave_return(wave);
	return rc != 0 ? rc : (int)hits;
}

int waves_open(struct haul_cache *cache)
{
	(void)pthread_mutex_init(&cache->wave_lock, NULL);
	(void)pthread_mutex_init(&cache->spread, NULL);
	(void)pthread_cond_init(&cache->wave_wake, NULL);
	atomic_init(&cache->wave_keys, WAVE_KEYS);
	cache->waves = calloc(WAVES, sizeof *cache->waves);
	for (uint32_t i = 0; cache->waves != NULL && i < WAVES; i++) {
		struct wave *wave = &cache->waves[i];
		wave->cache = cache;
		wave->memory = malloc(WAVE_BYTES);
		wave->next = cache->wave_free;
		cache->wave_free = wave;
		if (wave->memory == NULL)
			return -ENOMEM;
	}
	return cache->waves == NULL ? -ENOMEM : 0;
}

void waves_close(struct haul_cache *cache)
{
	for (uint32_t i = 0; cache->waves != NULL && i < WAVES; i++)
		free(cache->waves[i].memory);
	free(cache->waves);
	(void)pthread_cond_destroy(&cache->wave_wake);
	(void)pthread_mutex_destroy(&cache->spread);
	(void)pthread_mutex_destroy(&cache->wave_lock);
}
