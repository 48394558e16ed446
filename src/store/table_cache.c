/* Frames for blocks, found without a lock.
 *
 * A frame's pins and a bit EVICTED are one word. Who evicts changes it from 0 to EVICTED, which
 * fails while anybody has a pin; who finds adds a pin and, if EVICTED was set, takes it away again
 * and has found nothing. Only between those two do key and state of a frame change, so they are
 * steady under a pin. Additions of those who come in vain are kept: the bit is taken away by
 * subtraction, not by a store.
 *
 * Chains of frames are changed under the lock and followed without. A frame may move to another
 * chain under the feet of who follows it: then a block that is there is not found (the keys of
 * frames tell them apart), and table_cache_claim, which has the lock, finds it. Steps are bounded,
 * as such a way could go round.
 *
 * The lock is one for all: it is taken for a block that must come from the disk, which costs a
 * hundred times as much. */
#include "store/table_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <haul/err.h>
#include "base/assert.h"
#include "base/hash.h"

enum {
	LARGE_SHARE = 16, /* one part of so many is for large frames */
	SPARE_SHARE = 16,
	SPARES_MIN = 2,
	SPARES_MAX = 32,
	LARGE_MIN = 2,
	SPARE_BYTES = TABLE_CACHE_READ + TABLE_CACHE_LARGE,
	STEPS_MAX = 64,
	HUGE_PAGE = 2 << 20,
};
#define EVICTED (UINT32_C(1) << 31)

enum frame_state { FRAME_EMPTY, FRAME_LOADING, FRAME_READY, FRAME_FAILED };

struct frame { /* all atomic */
	uint64_t blob;
	uint32_t number;
	uint32_t next; /* of its chain */
	uint32_t pins;
	int32_t error;
	uint8_t state;
	uint8_t referenced;
	uint8_t unused[6];
};
_Static_assert(sizeof(struct frame) == 32, "two frames a cache line");

struct frames { /* of one size */
	uint32_t from, to;
	uint32_t fresh; /* never used from here */
	uint32_t hand;
};

struct table_cache {
	uint8_t *memory;
	struct frame *frame;
	uint32_t *head; /* atomic */
	uint64_t mask;
	uint32_t count;
	struct frames small, large;
	pthread_mutex_t lock;
	pthread_cond_t loaded; /* any block */
	pthread_cond_t spared;
	struct table_spare *spares; /* free ones */
	struct table_spare spare[SPARES_MAX];
	uint64_t hits, misses, evictions; /* atomic */
};

/* ---- memory ---- */

static uint64_t data_bytes(const struct table_cache *cache)
{
	return (uint64_t)cache->small.to * TABLE_CACHE_SMALL +
	       (uint64_t)(cache->large.to - cache->large.from) * TABLE_CACHE_LARGE;
}

static int cache_alloc(struct table_cache *cache, uint32_t spares)
{
	uint64_t data = data_bytes(cache);
	uint64_t bytes = data + (uint64_t)spares * SPARE_BYTES;
	uint64_t align = bytes < HUGE_PAGE ? 4096 : HUGE_PAGE;
	cache->memory = aligned_alloc(align, (bytes + align - 1) / align * align);
	cache->frame = calloc(cache->count, sizeof *cache->frame);
	cache->head = calloc(cache->mask + 1, sizeof *cache->head);
	if (!cache->memory || !cache->frame || !cache->head)
		return -ENOMEM;
	if (align == HUGE_PAGE) /* a wish */
		(void)madvise(cache->memory, bytes, MADV_HUGEPAGE);
	for (uint64_t i = 0; i <= cache->mask; i++)
		cache->head[i] = TABLE_CACHE_NONE;
	for (uint32_t i = 0; i < spares; i++) {
		struct table_spare *spare = &cache->spare[i];
		spare->read = cache->memory + data + (uint64_t)i * SPARE_BYTES;
		spare->raw = spare->read + TABLE_CACHE_READ;
		table_cache_spare_back(cache, spare);
	}
	return 0;
}

int table_cache_new(struct table_cache **ret_cache, uint64_t bytes)
{
	if (bytes < TABLE_CACHE_BYTES_MIN)
		return HAUL_ELIMIT;
	struct table_cache *cache = calloc(1, sizeof *cache);
	if (!cache)
		return -ENOMEM;
	uint64_t spares = bytes / SPARE_SHARE / SPARE_BYTES;
	spares = spares < SPARES_MIN ? SPARES_MIN : spares > SPARES_MAX ? SPARES_MAX : spares;
	uint64_t large = bytes / LARGE_SHARE / TABLE_CACHE_LARGE;
	large = large < LARGE_MIN ? LARGE_MIN : large;
	uint64_t left = bytes - spares * SPARE_BYTES - large * TABLE_CACHE_LARGE;
	/* A frame has its entry, and its share of the chains. */
	uint64_t small = left / (TABLE_CACHE_SMALL + sizeof(struct frame) + 2 * sizeof(uint32_t));
	HAUL_ASSERT(small > 0 && small + large < TABLE_CACHE_NONE);
	cache->small = (struct frames){ .to = (uint32_t)small };
	cache->large = (struct frames){ .from = (uint32_t)small,
					.to = (uint32_t)(small + large),
					.fresh = (uint32_t)small,
					.hand = (uint32_t)small };
	cache->count = (uint32_t)(small + large);
	cache->mask = 1;
	while (cache->mask < cache->count)
		cache->mask *= 2;
	cache->mask--;
	pthread_mutex_init(&cache->lock, NULL);
	pthread_cond_init(&cache->loaded, NULL);
	pthread_cond_init(&cache->spared, NULL);
	int error = cache_alloc(cache, (uint32_t)spares);
	if (error) {
		table_cache_free(cache);
		return error;
	}
	*ret_cache = cache;
	return 0;
}

void table_cache_free(struct table_cache *cache)
{
	if (!cache)
		return;
	for (uint32_t i = 0; cache->frame && i < cache->count; i++)
		HAUL_ASSERT((cache->frame[i].pins & ~EVICTED) == 0);
	pthread_cond_destroy(&cache->spared);
	pthread_cond_destroy(&cache->loaded);
	pthread_mutex_destroy(&cache->lock);
	free(cache->head);
	free(cache->frame);
	free(cache->memory);
	free(cache);
}

uint8_t *table_cache_data(const struct table_cache *cache, uint32_t frame)
{
	if (frame < cache->large.from)
		return cache->memory + (uint64_t)frame * TABLE_CACHE_SMALL;
	return cache->memory + (uint64_t)cache->large.from * TABLE_CACHE_SMALL +
	       (uint64_t)(frame - cache->large.from) * TABLE_CACHE_LARGE;
}

/* ---- hits ---- */

static uint64_t chain_of(const struct table_cache *cache, uint64_t blob, uint32_t number)
{
	return hash_u64(blob << 20 ^ number) & cache->mask;
}

static bool frame_is(const struct frame *frame, uint64_t blob, uint32_t number)
{
	return __atomic_load_n(&frame->blob, __ATOMIC_RELAXED) == blob &&
	       __atomic_load_n(&frame->number, __ATOMIC_RELAXED) == number;
}

void table_cache_prefetch(const struct table_cache *cache, uint64_t blob, uint32_t number)
{
	__builtin_prefetch(&cache->head[chain_of(cache, blob, number)]);
}

static bool pin_ready(struct frame *frame, uint64_t blob, uint32_t number)
{
	uint32_t before = __atomic_fetch_add(&frame->pins, 1, __ATOMIC_ACQUIRE);
	if (!(before & EVICTED) && frame_is(frame, blob, number) &&
	    __atomic_load_n(&frame->state, __ATOMIC_ACQUIRE) == FRAME_READY) {
		if (!__atomic_load_n(&frame->referenced, __ATOMIC_RELAXED))
			__atomic_store_n(&frame->referenced, 1, __ATOMIC_RELAXED);
		return true;
	}
	__atomic_fetch_sub(&frame->pins, 1, __ATOMIC_RELEASE);
	return false;
}

uint32_t table_cache_find(struct table_cache *cache, uint64_t blob, uint32_t number)
{
	uint64_t chain = chain_of(cache, blob, number);
	uint32_t at = __atomic_load_n(&cache->head[chain], __ATOMIC_ACQUIRE);
	for (int steps = 0; at != TABLE_CACHE_NONE && steps < STEPS_MAX; steps++) {
		struct frame *frame = &cache->frame[at];
		if (frame_is(frame, blob, number))
			return pin_ready(frame, blob, number) ? at : TABLE_CACHE_NONE;
		at = __atomic_load_n(&frame->next, __ATOMIC_ACQUIRE);
	}
	return TABLE_CACHE_NONE;
}

void table_cache_unpin(struct table_cache *cache, uint32_t frame)
{
	uint32_t before = __atomic_fetch_sub(&cache->frame[frame].pins, 1, __ATOMIC_RELEASE);
	HAUL_ASSERT((before & ~EVICTED) > 0);
}

void table_cache_count(struct table_cache *cache, uint32_t hits, uint32_t misses)
{
	if (hits)
		__atomic_fetch_add(&cache->hits, hits, __ATOMIC_RELAXED);
	if (misses)
		__atomic_fetch_add(&cache->misses, misses, __ATOMIC_RELAXED);
}

/* ---- misses ---- */

static uint32_t chain_find(const struct table_cache *cache, uint64_t blob, uint32_t number)
{
	uint32_t at = cache->head[chain_of(cache, blob, number)];
	while (at != TABLE_CACHE_NONE && !frame_is(&cache->frame[at], blob, number))
		at = cache->frame[at].next;
	return at;
}

static void chain_leave(struct table_cache *cache, uint32_t leaves)
{
	struct frame *frame = &cache->frame[leaves];
	uint32_t *link = &cache->head[chain_of(cache, frame->blob, frame->number)];
	while (*link != leaves) {
		HAUL_ASSERT(*link != TABLE_CACHE_NONE);
		link = &cache->frame[*link].next;
	}
	__atomic_store_n(link, frame->next, __ATOMIC_RELEASE);
}

static bool evict(struct table_cache *cache, uint32_t at)
{
	struct frame *frame = &cache->frame[at];
	uint32_t none = 0;
	if (__atomic_load_n(&frame->referenced, __ATOMIC_RELAXED)) {
		__atomic_store_n(&frame->referenced, 0, __ATOMIC_RELAXED);
		return false;
	}
	if (!__atomic_compare_exchange_n(&frame->pins, &none, EVICTED, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return false;
	/* Who loads has a pin, so it is not loading. One that failed has left its chain. */
	if (frame->state == FRAME_READY) {
		chain_leave(cache, at);
		__atomic_fetch_add(&cache->evictions, 1, __ATOMIC_RELAXED);
	}
	return true;
}

/* A frame of this size to put a block into, evicted; TABLE_CACHE_NONE: all are pinned. */
static uint32_t frame_take(struct table_cache *cache, struct frames *frames)
{
	if (frames->fresh < frames->to) {
		uint32_t at = frames->fresh++;
		__atomic_store_n(&cache->frame[at].pins, EVICTED, __ATOMIC_RELAXED);
		return at;
	}
	uint64_t steps = 2 * (uint64_t)(frames->to - frames->from) + 1;
	for (; steps > 0; steps--) {
		uint32_t at = frames->hand;
		frames->hand = at + 1 == frames->to ? frames->from : at + 1;
		if (evict(cache, at))
			return at;
	}
	return TABLE_CACHE_NONE;
}

static void frame_begin(struct table_cache *cache, uint32_t at, uint64_t blob, uint32_t number)
{
	struct frame *frame = &cache->frame[at];
	uint32_t *head = &cache->head[chain_of(cache, blob, number)];
	__atomic_store_n(&frame->blob, blob, __ATOMIC_RELAXED);
	__atomic_store_n(&frame->number, number, __ATOMIC_RELAXED);
	__atomic_store_n(&frame->state, FRAME_LOADING, __ATOMIC_RELAXED);
	__atomic_store_n(&frame->referenced, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&frame->next, *head, __ATOMIC_RELAXED);
	frame->error = 0;
	/* The caller's pin, and the bit away. */
	__atomic_fetch_sub(&frame->pins, EVICTED - 1, __ATOMIC_RELEASE);
	__atomic_store_n(head, at, __ATOMIC_RELEASE);
}

enum table_cache_claim table_cache_claim(struct table_cache *cache, uint64_t blob, uint32_t number,
					 uint32_t bytes, uint32_t *ret_frame)
{
	HAUL_ASSERT(bytes <= TABLE_CACHE_LARGE);
	enum table_cache_claim claim = TABLE_CACHE_HIT;
	pthread_mutex_lock(&cache->lock);
	uint32_t at = chain_find(cache, blob, number);
	if (at != TABLE_CACHE_NONE) {
		struct frame *frame = &cache->frame[at];
		__atomic_fetch_add(&frame->pins, 1, __ATOMIC_ACQUIRE);
		if (__atomic_load_n(&frame->state, __ATOMIC_ACQUIRE) != FRAME_READY)
			claim = TABLE_CACHE_BUSY;
	} else {
		at = frame_take(cache, bytes <= TABLE_CACHE_SMALL ? &cache->small : &cache->large);
		claim = at == TABLE_CACHE_NONE ? TABLE_CACHE_FULL : TABLE_CACHE_MINE;
		if (claim == TABLE_CACHE_MINE)
			frame_begin(cache, at, blob, number);
	}
	pthread_mutex_unlock(&cache->lock);
	*ret_frame = at;
	return claim;
}

void table_cache_loaded(struct table_cache *cache, uint32_t at, int error)
{
	struct frame *frame = &cache->frame[at];
	pthread_mutex_lock(&cache->lock);
	HAUL_ASSERT(frame->state == FRAME_LOADING);
	if (error)
		chain_leave(cache, at);
	frame->error = error;
	__atomic_store_n(&frame->state, error ? FRAME_FAILED : FRAME_READY, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&cache->loaded);
	pthread_mutex_unlock(&cache->lock);
}

int table_cache_wait(struct table_cache *cache, uint32_t at)
{
	struct frame *frame = &cache->frame[at];
	pthread_mutex_lock(&cache->lock);
	while (frame->state == FRAME_LOADING)
		pthread_cond_wait(&cache->loaded, &cache->lock);
	int error = frame->error;
	pthread_mutex_unlock(&cache->lock);
	return error;
}

/* ---- spare memory ---- */

struct table_spare *table_cache_spare(struct table_cache *cache, bool wait)
{
	pthread_mutex_lock(&cache->lock);
	while (wait && !cache->spares)
		pthread_cond_wait(&cache->spared, &cache->lock);
	struct table_spare *spare = cache->spares;
	if (spare)
		cache->spares = spare->next;
	pthread_mutex_unlock(&cache->lock);
	return spare;
}

void table_cache_spare_back(struct table_cache *cache, struct table_spare *spare)
{
	pthread_mutex_lock(&cache->lock);
	spare->next = cache->spares;
	cache->spares = spare;
	pthread_cond_signal(&cache->spared);
	pthread_mutex_unlock(&cache->lock);
}

/* ---- status ---- */

void table_cache_status(const struct table_cache *cache, struct table_cache_status *ret_status)
{
	*ret_status = (struct table_cache_status){ .frames = cache->count };
	for (uint32_t i = 0; i < cache->count; i++) {
		const struct frame *frame = &cache->frame[i];
		ret_status->used += __atomic_load_n(&frame->state, __ATOMIC_RELAXED) == FRAME_READY;
		uint32_t pins = __atomic_load_n(&frame->pins, __ATOMIC_RELAXED);
		ret_status->pinned += (pins & ~EVICTED) > 0;
	}
	ret_status->hits = __atomic_load_n(&cache->hits, __ATOMIC_RELAXED);
	ret_status->misses = __atomic_load_n(&cache->misses, __ATOMIC_RELAXED);
	ret_status->evictions = __atomic_load_n(&cache->evictions, __ATOMIC_RELAXED);
}
