/* Gets. All that were queued since the last turn are one batch: slots of the index are prefetched
 * together, what lies in RAM is answered at once, and what is left is planned and read together.
 *
 * A get is answered window by window. A window ends where buffers end, so that a get of any number
 * of keys is served with bounded memory. A window that found no room at all waits until others
 * have given theirs back; so does one that could not be unpacked for want of room, and it goes on
 * with one key at a time, while nothing else is being read: then there is room (BUFFER_BYTES_MIN).
 *
 * A value is kept in the RAM tier when it is read from the disk for the second time since it was
 * stored: what is read once only (a scan) displaces nothing. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "disk/lookup_state.h"

enum { ROUNDS = 4, PREFETCH_KEYS = 16, PREFETCH_GETS = 256, KEY_ANSWERED = 0, KEY_WAITS = 1 };

static const struct haul_counter counters[] = {
#define X(id, name, help) [id] = { name, help },
	LOOKUP_COUNTER_LIST(X)
#undef X
};

/* ---- the queue ---- */

static void queue_last(struct lookups *lookups, struct shard_get *get)
{
	get->next = NULL;
	if (lookups->last != NULL)
		lookups->last->next = get;
	else
		lookups->first = get;
	lookups->last = get;
}

void shard_get(struct shard *shard, struct shard_get *get)
{
	HAUL_ASSERT(get->count >= 1 && get->done != NULL);
	get->first = get->ready = get->pending = 0;
	get->window = 0;
	get->narrow = false;
	queue_last(shard->lookups, get);
}

static void values_release(struct lookups *lookups, struct shard_get *get, uint32_t from,
			   uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		if (get->values[i].buffer != NULL)
			buffer_release(lookups, get->values[i].buffer);
		get->values[i].buffer = NULL;
	}
}

void shard_get_next(struct shard *shard, struct shard_get *get)
{
	HAUL_ASSERT(get->pending == 0 && get->ready > 0);
	values_release(shard->lookups, get, get->first, get->first + get->ready);
	get->first += get->ready;
	get->ready = get->window = 0;
	if (get->first < get->count)
		queue_last(shard->lookups, get);
}

/* ---- handing out ---- */

static void window_count(struct shard *shard, const struct shard_get *get)
{
	uint32_t by_status[HAUL_CACHE_STATUSES] = { 0 };
	for (uint32_t i = get->first; i < get->first + get->ready; i++)
		by_status[get->values[i].status]++;
	shard->stat.lookups += get->ready;
	shard->stat.hits += by_status[HAUL_CACHE_HIT];
	shard->stat.misses += by_status[HAUL_CACHE_MISS];
	shard->stat.expired += by_status[HAUL_CACHE_EXPIRED];
	shard->stat.corrupt += by_status[HAUL_CACHE_CORRUPT];
	shard->stat.unreadable += by_status[HAUL_CACHE_FAILED];
	lookup_count(shard->lookups, LOOKUP_KEYS, get->ready);
	lookup_count(shard->lookups, LOOKUP_MISSES, by_status[HAUL_CACHE_MISS]);
	lookup_count(shard->lookups, LOOKUP_EXPIRED, by_status[HAUL_CACHE_EXPIRED]);
	lookup_count(shard->lookups, LOOKUP_CORRUPT, by_status[HAUL_CACHE_CORRUPT]);
	lookup_count(shard->lookups, LOOKUP_FAILED, by_status[HAUL_CACHE_FAILED]);
}

/* Nothing of the window waits for the disk any more. */
static void window_done(struct lookups *lookups, struct shard_get *get)
{
	HAUL_ASSERT(get->pending == 0 && get->ready <= get->window);
	values_release(lookups, get, get->first + get->ready, get->first + get->window);
	if (get->ready < get->window)
		lookup_count(lookups, LOOKUP_SHORT, 1);
	get->window = get->ready;
	if (get->ready == 0) {
		get->narrow = true;
		queue_last(lookups, get);
		return;
	}
	get->narrow = false;
	window_count(lookups->shard, get);
	get->done(get);
}

void lookup_key_done(struct lookups *lookups, struct shard_get *get)
{
	HAUL_ASSERT(get->pending > 0);
	if (--get->pending == 0)
		window_done(lookups, get);
}

void lookup_cut(struct shard_get *get, uint32_t key)
{
	HAUL_ASSERT(key >= get->first);
	if (key - get->first < get->ready)
		get->ready = key - get->first;
}

/* ---- one key ---- */

static int key_from_disk(struct lookups *lookups, struct shard_get *get, uint32_t key,
			 const struct index_entry *entry)
{
	uint64_t cost = read_cost(entry);
	struct lookup_item *item = lookups->item_free;
	if (cost > lookups->budget || item == NULL)
		return -EAGAIN;
	lookups->budget -= cost;
	lookups->item_free = item->next;
	*item = (struct lookup_item){ .get = get, .key = key, .entry = *entry };
	lookups->batch[lookups->batch_count++] = item;
	return KEY_WAITS;
}

static int key_from_ram(struct lookups *lookups, const struct ram_value *ram,
			struct shard_value *value)
{
	struct index_entry entry = { .bytes = ram->bytes, .codec = INDEX_RAW };
	int rc = buffer_value(lookups, &entry, ram->data, NULL, value);
	if (rc < 0)
		return rc;
	value->flags = ram->flags;
	value->status = HAUL_CACHE_HIT;
	lookups->shard->stat.ram_hits++;
	lookup_count(lookups, LOOKUP_HITS_RAM, 1);
	return KEY_ANSWERED;
}

static int key_from_chunk(struct lookups *lookups, const struct index_entry *entry,
			  const uint8_t *stored, struct shard_value *value)
{
	int rc = buffer_value(lookups, entry, stored, NULL, value);
	if (rc == -EAGAIN)
		return rc;
	value->status = rc == 0 ? HAUL_CACHE_HIT : HAUL_CACHE_CORRUPT;
	lookup_count(lookups, LOOKUP_HITS_CHUNK, rc == 0);
	return KEY_ANSWERED;
}

static int key_find(struct lookups *lookups, struct shard_get *get, uint32_t key,
		    const struct index_entry *entry)
{
	struct shard *shard = lookups->shard;
	struct shard_value *value = &get->values[key];
	struct ram_value ram;
	if (ram_find(&shard->ram, entry->hash, &ram))
		return key_from_ram(lookups, &ram, value);
	const uint8_t *stored = chunk_value(shard, entry->segment, entry->unit);
	if (stored != NULL)
		return key_from_chunk(lookups, entry, stored, value);
	if (entry->bytes == 0) {
		value->status = HAUL_CACHE_HIT;
		return KEY_ANSWERED;
	}
	if (shard->offline)
		return KEY_ANSWERED; /* a miss, until the device is back */
	return key_from_disk(lookups, get, key, entry);
}

/* KEY_ANSWERED, KEY_WAITS, or -EAGAIN: no room for it now. */
static int key_start(struct lookups *lookups, struct shard_get *get, uint32_t key)
{
	struct shard *shard = lookups->shard;
	struct shard_value *value = &get->values[key];
	*value = (struct shard_value){ .status = HAUL_CACHE_MISS };
	struct index_slot *slot = index_find(&shard->index, get->keys[key].hash);
	if (slot == NULL)
		return KEY_ANSWERED;
	struct index_entry entry;
	index_unpack(slot, &entry);
	if (entry.expiry != 0 && entry.expiry <= lookups->now_s) {
		value->status = HAUL_CACHE_EXPIRED;
		shard_forget(shard, slot);
		return KEY_ANSWERED;
	}
	value->head = entry.codec == INDEX_HEAD;
	value->expiry = entry.expiry;
	value->version = shard_version_at(shard, entry.segment, entry.unit);
	int rc = key_find(lookups, get, key, &entry);
	if (rc >= 0 && !get->peek) {
		index_touch(slot);
		reclaim_used(shard, slot);
	}
	return rc;
}

/* ---- windows ---- */

static bool window_full(const struct lookups *lookups, const struct shard_get *get,
			uint64_t budget_before)
{
	if (get->ready == 0)
		return false;
	uint64_t most = lookups->shard->buffers.bytes / WINDOW_SHARE;
	return get->narrow || budget_before - lookups->budget > most;
}

/* Start as many keys as there is room for. */
static void window_open(struct lookups *lookups, struct shard_get *get)
{
	const struct index *index = &lookups->shard->index;
	uint64_t budget = lookups->budget;
	get->ready = get->pending = 0;
	for (uint32_t i = get->first; i < get->count; i++) {
		if (window_full(lookups, get, budget))
			break;
		if (i + PREFETCH_KEYS < get->count)
			index_prefetch(index, get->keys[i + PREFETCH_KEYS].hash);
		int rc = key_start(lookups, get, i);
		if (rc < 0)
			break;
		get->pending += (uint32_t)rc;
		get->ready++;
		if (rc == KEY_ANSWERED && get->values[i].bytes <= lookups->budget)
			lookups->budget -= get->values[i].bytes;
	}
	get->window = get->ready;
}

static void prefetch(const struct lookups *lookups)
{
	uint32_t left = PREFETCH_GETS;
	for (const struct shard_get *get = lookups->first; get && left > 0; get = get->next) {
		uint32_t end = get->first + PREFETCH_KEYS;
		for (uint32_t i = get->first; i < end && i < get->count; i++)
			index_prefetch(&lookups->shard->index, get->keys[i].hash);
		left--;
	}
}

/* Take gets off the queue, in order, as far as there is room; returns them, linked. */
static struct shard_get *round_open(struct lookups *lookups)
{
	struct shard_get *taken = NULL, **end = &taken;
	while (lookups->first != NULL) {
		struct shard_get *get = lookups->first;
		if (get->narrow && (lookups->in_flight > 0 || taken != NULL))
			break;
		window_open(lookups, get);
		if (get->ready == 0)
			break;
		lookups->first = get->next;
		get->next = NULL;
		*end = get;
		end = &get->next;
		if (get->narrow)
			break;
	}
	if (lookups->first == NULL)
		lookups->last = NULL;
	return taken;
}

static bool round_run(struct lookups *lookups)
{
	struct buddy *buffers = &lookups->shard->buffers;
	lookups->now_s = shard_now_s(lookups->shard);
	lookups->batch_count = 0;
	lookups->budget = buffers->bytes - buffers->used;
	prefetch(lookups);
	struct shard_get *get = round_open(lookups);
	bool any = get != NULL;
	read_start(lookups);
	while (get != NULL) {
		struct shard_get *next = get->next;
		get->next = NULL;
		if (get->pending == 0)
			window_done(lookups, get);
		get = next;
	}
	return any;
}

bool lookups_poll(struct shard *shard)
{
	struct lookups *lookups = shard->lookups;
	uint32_t rounds = 0;
	while (lookups->first != NULL) {
		if (rounds++ == ROUNDS)
			return true;
		if (!round_run(lookups))
			return false;
	}
	return false;
}

bool lookups_idle(const struct shard *shard)
{
	return shard->lookups->first == NULL && shard->lookups->in_flight == 0;
}

/* ---- set-up ---- */

static int lookups_alloc(struct lookups *lookups)
{
	uint64_t blocks = lookups->shard->buffers.bytes / BUDDY_MIN;
	lookups->transfer_count = blocks < ITEMS_MAX ? (uint32_t)blocks : ITEMS_MAX;
	lookups->items = calloc(ITEMS_MAX, sizeof *lookups->items);
	lookups->transfers = calloc(lookups->transfer_count, sizeof *lookups->transfers);
	lookups->batch = calloc(ITEMS_MAX, sizeof(struct lookup_item *));
	lookups->extents = calloc(ITEMS_MAX, sizeof *lookups->extents);
	lookups->order = calloc(ITEMS_MAX, sizeof *lookups->order);
	lookups->runs = calloc(ITEMS_MAX, sizeof *lookups->runs);
	lookups->users = calloc(blocks, sizeof *lookups->users);
	bool all = lookups->items && lookups->transfers && lookups->batch && lookups->extents &&
		   lookups->order && lookups->runs && lookups->users;
	return all ? 0 : -ENOMEM;
}

static void lookups_link(struct lookups *lookups)
{
	for (uint32_t i = ITEMS_MAX; i-- > 0;) {
		lookups->items[i].next = lookups->item_free;
		lookups->item_free = &lookups->items[i];
	}
	for (uint32_t i = lookups->transfer_count; i-- > 0;) {
		lookups->transfers[i].lookups = lookups;
		lookups->transfers[i].next = lookups->transfer_free;
		lookups->transfer_free = &lookups->transfers[i];
	}
}

int lookups_open(struct shard *shard)
{
	HAUL_ASSERT(shard->lookups == NULL);
	struct lookups *lookups = calloc(1, sizeof *lookups);
	if (lookups == NULL)
		return -ENOMEM;
	lookups->shard = shard;
	shard->lookups = lookups;
	uint64_t bytes = shard->options.read_bytes;
	int rc = buddy_init(&shard->buffers, bytes > BUFFER_BYTES_MIN ? bytes : BUFFER_BYTES_MIN);
	if (rc == 0)
		rc = lookups_alloc(lookups);
	if (rc < 0) {
		lookups_close(shard);
		return rc;
	}
	lookups_link(lookups);
	const char *name = shard->options.name != NULL ? shard->options.name : "cache";
	(void)snprintf(lookups->name, sizeof lookups->name, "%s.read", name);
	haul_stats_init(&shard->read_stats, lookups->name, counters, LOOKUP_COUNTERS);
	if (shard->options.stats != NULL)
		(void)haul_stats_enter(shard->options.stats, &shard->read_stats);
	return 0;
}

void lookups_close(struct shard *shard)
{
	struct lookups *lookups = shard->lookups;
	if (lookups == NULL)
		return;
	HAUL_ASSERT(lookups->in_flight == 0 && lookups->first == NULL);
	if (shard->options.stats != NULL && lookups->name[0] != '\0')
		haul_stats_remove(shard->options.stats, &shard->read_stats);
	if (lookups->pack != NULL)
		buffer_release(lookups, lookups->pack);
	buddy_done(&shard->buffers);
	free(lookups->items);
	free(lookups->transfers);
	free(lookups->batch);
	free(lookups->extents);
	free(lookups->order);
	free(lookups->runs);
	free(lookups->users);
	free(lookups);
	shard->lookups = NULL;
}
