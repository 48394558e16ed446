#include "store/vector_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum {
	HEADS_CHUNK = VECTOR_CHUNK / sizeof(uint32_t),
	BUCKETS_FIRST = 64,
	BUCKET_ROWS = 2, /* on the average, before one more is split off */
};

/* ---- the pool ---- */

int vector_pool_new(struct vector_pool *pool, uint64_t bytes)
{
	const uint64_t count = bytes / VECTOR_CHUNK;

	*pool = (struct vector_pool){ .count = 0 };
	if (count > UINT32_MAX)
		return -EINVAL;
	pool->base = count == 0 ? NULL : aligned_alloc(VECTOR_CHUNK, count * VECTOR_CHUNK);
	pool->free = calloc(count == 0 ? 1 : count, sizeof *pool->free);
	if ((count > 0 && pool->base == NULL) || pool->free == NULL) {
		vector_pool_free(pool);
		return -ENOMEM;
	}
	(void)pthread_mutex_init(&pool->lock, NULL);
	pool->count = pool->free_count = (uint32_t)count;
	/* The first is given out first: what is never used is never touched. */
	for (uint32_t i = 0; i < pool->count; i++)
		pool->free[i] = pool->count - 1 - i;
	return 0;
}

void vector_pool_free(struct vector_pool *pool)
{
	free(pool->free);
	free(pool->base);
	*pool = (struct vector_pool){ .count = 0 };
}

uint8_t *vector_pool_get(struct vector_pool *pool)
{
	uint8_t *chunk = NULL;

	(void)pthread_mutex_lock(&pool->lock);
	if (pool->free_count > 0)
		chunk = pool->base + (size_t)pool->free[--pool->free_count] * VECTOR_CHUNK;
	(void)pthread_mutex_unlock(&pool->lock);
	return chunk;
}

void vector_pool_put(struct vector_pool *pool, uint8_t *chunk)
{
	(void)pthread_mutex_lock(&pool->lock);
	HAUL_ASSERT(pool->free_count < pool->count);
	pool->free[pool->free_count++] = (uint32_t)((size_t)(chunk - pool->base) / VECTOR_CHUNK);
	(void)pthread_mutex_unlock(&pool->lock);
}

uint32_t vector_pool_left(struct vector_pool *pool)
{
	(void)pthread_mutex_lock(&pool->lock);
	const uint32_t left = pool->free_count;
	(void)pthread_mutex_unlock(&pool->lock);
	return left;
}

/* ---- a set ---- */

void vector_set_init(struct vector_set *set, struct vector_pool *pool, uint32_t dimensions)
{
	const uint32_t floats = knn_floats(dimensions);
	const size_t row = floats * sizeof(float) + sizeof(uint64_t) + sizeof(struct knn_norm) +
			   sizeof(uint32_t);

	*set = (struct vector_set){ .pool = pool,
				    .dimensions = dimensions,
				    .floats = floats,
				    .rows_chunk = (uint32_t)(VECTOR_CHUNK / row),
				    .buckets = BUCKETS_FIRST,
				    .round = BUCKETS_FIRST };
	HAUL_ASSERT(set->rows_chunk > 0);
}

static void chunks_put(struct vector_set *set, uint8_t **chunks, uint32_t count)
{
	for (uint32_t i = 0; i < count && chunks[i] != NULL; i++) {
		vector_pool_put(set->pool, chunks[i]);
		chunks[i] = NULL;
		set->taken--;
	}
}

void vector_set_unlink(struct vector_set *set)
{
	struct vector_chunks *chunks = set->chunks;

	for (uint32_t i = 0; i < VECTOR_GRAPHS && chunks != NULL; i++) {
		chunks_put(set, chunks->links[i], VECTOR_CHUNKS_LINKS);
		chunks_put(set, chunks->upper[i], VECTOR_CHUNKS_UPPER);
	}
}

void vector_set_clear(struct vector_set *set)
{
	struct vector_chunks *chunks = set->chunks;

	if (chunks == NULL)
		return;
	chunks_put(set, chunks->rows, VECTOR_CHUNKS_ROWS);
	chunks_put(set, chunks->heads, VECTOR_CHUNKS_HEADS);
	vector_set_unlink(set);
	HAUL_ASSERT(set->taken == 1);
	vector_pool_put(set->pool, (uint8_t *)chunks);
	vector_set_init(set, set->pool, set->dimensions);
}

uint64_t vector_set_wants(const struct vector_set *set, uint64_t rows)
{
	const uint64_t heads = rows / BUCKET_ROWS / HEADS_CHUNK + 1;

	return 1 + heads + rows / set->rows_chunk + (rows % set->rows_chunk != 0);
}

uint8_t *vector_set_chunk(struct vector_set *set)
{
	uint8_t *chunk = vector_pool_get(set->pool);

	if (chunk == NULL)
		return NULL;
	memset(chunk, 0, VECTOR_CHUNK);
	set->taken++;
	return chunk;
}

static bool set_begin(struct vector_set *set)
{
	if (set->chunks == NULL)
		set->chunks = (struct vector_chunks *)(void *)vector_set_chunk(set);
	if (set->chunks != NULL && set->head_chunks == 0) {
		set->chunks->heads[0] = vector_set_chunk(set);
		set->head_chunks = set->chunks->heads[0] != NULL;
	}
	return set->head_chunks > 0;
}

/* ---- where a node's row is: chains of slots + 1 ---- */

static uint32_t *head_of(const struct vector_set *set, uint32_t bucket)
{
	uint32_t *heads = (uint32_t *)(void *)set->chunks->heads[bucket / HEADS_CHUNK];

	return &heads[bucket % HEADS_CHUNK];
}

static uint32_t *next_of(const struct vector_set *set, uint32_t slot)
{
	uint32_t at;
	uint8_t *block = vector_set_block(set, slot, &at);

	return (uint32_t *)(void *)(vector_set_norms(set, block) + set->rows_chunk) + at;
}

static uint32_t bucket_of(const struct vector_set *set, uint64_t id)
{
	const uint64_t hash = hash_u64(id);
	const uint32_t wide = (uint32_t)(hash & (set->round * UINT64_C(2) - 1));

	return wide < set->buckets ? wide : (uint32_t)(hash & (set->round - 1));
}

static void chain_add(struct vector_set *set, uint32_t slot)
{
	uint32_t *head = head_of(set, bucket_of(set, vector_set_id(set, slot)));

	*next_of(set, slot) = *head;
	*head = slot + 1;
}

/* Where the chain names the slot of a node; 0 stands there if it has none. */
static uint32_t *chain_find(const struct vector_set *set, uint64_t id)
{
	uint32_t *link = head_of(set, bucket_of(set, id));

	while (*link != 0 && vector_set_id(set, *link - 1) != id)
		link = next_of(set, *link - 1);
	return link;
}

/* One bucket more, with those of the rows of another that belong there. false: no chunk for it. */
static bool bucket_split(struct vector_set *set)
{
	const uint32_t chunk = set->buckets / HEADS_CHUNK;

	if (chunk >= VECTOR_CHUNKS_HEADS)
		return true; /* chains get longer */
	if (chunk == set->head_chunks) {
		set->chunks->heads[chunk] = vector_set_chunk(set);
		if (set->chunks->heads[chunk] == NULL)
			return false;
		set->head_chunks++;
	}
	uint32_t *head = head_of(set, set->buckets - set->round);
	uint32_t slot = *head;
	*head = 0;
	set->buckets++;
	while (slot != 0) {
		const uint32_t next = *next_of(set, slot - 1);
		chain_add(set, slot - 1);
		slot = next;
	}
	if (set->buckets == set->round * 2)
		set->round *= 2;
	return true;
}

/* ---- rows ---- */

static bool rows_room(struct vector_set *set)
{
	if (set->slots < (uint64_t)set->row_chunks * set->rows_chunk)
		return true;
	if (set->row_chunks == VECTOR_CHUNKS_ROWS)
		return false;
	uint8_t *chunk = vector_set_chunk(set);
	set->chunks->rows[set->row_chunks] = chunk;
	set->row_chunks += chunk != NULL;
	return chunk != NULL;
}

int vector_set_put(struct vector_set *set, uint64_t id, const uint8_t *vector)
{
	HAUL_ASSERT(id != 0);
	if (!set_begin(set))
		return HAUL_EFULL;
	vector_set_drop(set, id);
	if (set->live >= (uint64_t)set->buckets * BUCKET_ROWS && !bucket_split(set))
		return HAUL_EFULL;
	if (!rows_room(set))
		return HAUL_EFULL;
	const uint32_t slot = set->slots++;
	uint32_t at;
	uint8_t *block = vector_set_block(set, slot, &at);
	float *row = vector_set_row(set, slot);
	memcpy(row, vector, set->dimensions * sizeof *row);
	memset(row + set->dimensions, 0, (set->floats - set->dimensions) * sizeof *row);
	vector_set_ids(set, block)[at] = id;
	vector_set_norms(set, block)[at] = knn_norm(row, set->floats);
	chain_add(set, slot);
	set->live++;
	return 0;
}

/* Into a slot whose row is gone; the row that was there leaves none behind. */
static void row_move(struct vector_set *set, uint32_t from, uint32_t to)
{
	uint32_t from_at, to_at;
	uint8_t *from_block = vector_set_block(set, from, &from_at);
	uint8_t *to_block = vector_set_block(set, to, &to_at);
	uint32_t *link = chain_find(set, vector_set_ids(set, from_block)[from_at]);

	HAUL_ASSERT(*link == from + 1);
	*link = to + 1;
	*next_of(set, to) = *next_of(set, from);
	memcpy(vector_set_row(set, to), vector_set_row(set, from), set->floats * sizeof(float));
	vector_set_ids(set, to_block)[to_at] = vector_set_ids(set, from_block)[from_at];
	vector_set_norms(set, to_block)[to_at] = vector_set_norms(set, from_block)[from_at];
	vector_set_ids(set, from_block)[from_at] = 0;
}

void vector_set_drop(struct vector_set *set, uint64_t id)
{
	if (set->live == 0)
		return;
	uint32_t *link = chain_find(set, id);
	if (*link == 0)
		return;
	const uint32_t slot = *link - 1, last = set->slots - 1;
	uint32_t at;
	uint8_t *block = vector_set_block(set, slot, &at);
	*link = *next_of(set, slot);
	vector_set_ids(set, block)[at] = 0;
	set->live--;
	if (slot < set->named)
		return;
	if (slot != last)
		row_move(set, last, slot);
	set->slots--;
}

void vector_set_pack(struct vector_set *set)
{
	uint32_t low = 0;

	HAUL_ASSERT(set->named == 0);
	while (set->slots > set->live) {
		const uint32_t last = set->slots - 1;
		while (low < last && vector_set_id(set, low) != 0)
			low++;
		if (vector_set_id(set, last) != 0)
			row_move(set, last, low);
		set->slots--;
	}
}
