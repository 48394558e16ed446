/* store/vector_set.h — the vectors of one index in memory: rows, and where each node's is.
 *
 * Model      Memory is chunks of one size out of one pool, shared by all sets. A row has a slot; a
 *            node is found by linear hashing, whose buckets are split one at a time, so no call
 *            takes long. Rows are dense as long as no graph (hnsw.h) names them; a row that a graph
 *            names stays when it is dropped, with id 0, until vector_set_pack.
 * Memory     at vector_pool_new.
 * Threads    the pool: any. A set: one that changes it, or any number that read.
 * Errors     HAUL_EFULL: the pool is empty.
 * Limits     rows of VECTOR_CHUNKS_ROWS chunks.
 * Source     linear hashing: Litwin, 1980. */
#pragma once

#include <assert.h>
#include <pthread.h>
#include <stddef.h>

#include "base/assert.h"
#include "store/knn.h"

enum {
	VECTOR_CHUNK = 256 << 10,
	VECTOR_CHUNKS_ROWS = 20000,
	VECTOR_CHUNKS_HEADS = 2000,
	VECTOR_CHUNKS_LINKS = 4000,
	VECTOR_CHUNKS_UPPER = 1000,
	VECTOR_GRAPHS = 2,  /* one a metric */
	VECTOR_RESERVE = 8, /* chunks that are left to rows by graphs */
};

struct vector_pool {
	pthread_mutex_t lock;
	uint8_t *base;
	uint32_t *free; /* numbers of chunks */
	uint32_t free_count;
	uint32_t count;
};
int vector_pool_new(struct vector_pool *pool, uint64_t bytes);
void vector_pool_free(struct vector_pool *pool);
uint8_t *vector_pool_get(struct vector_pool *pool); /* NULL: empty */
void vector_pool_put(struct vector_pool *pool, uint8_t *chunk);
uint32_t vector_pool_left(struct vector_pool *pool);

/* Where chunks are; itself one. */
struct vector_chunks {
	uint8_t *rows[VECTOR_CHUNKS_ROWS];
	uint8_t *heads[VECTOR_CHUNKS_HEADS];
	uint8_t *links[VECTOR_GRAPHS][VECTOR_CHUNKS_LINKS];
	uint8_t *upper[VECTOR_GRAPHS][VECTOR_CHUNKS_UPPER];
};
static_assert(sizeof(struct vector_chunks) <= VECTOR_CHUNK, "fits into a chunk");

struct vector_set {
	struct vector_pool *pool;
	struct vector_chunks *chunks; /* NULL: empty, nothing taken */
	uint32_t taken;               /* chunks, graphs included */
	uint32_t dimensions, floats;
	uint32_t rows_chunk; /* rows in a chunk */
	uint32_t slots;      /* used, with dropped ones */
	uint32_t live;
	uint32_t named; /* slots below are named by a graph */
	uint32_t row_chunks, head_chunks;
	uint32_t buckets, round; /* linear hashing: round is a power of two <= buckets */
};

/* Nothing is taken until the first put. */
void vector_set_init(struct vector_set *set, struct vector_pool *pool, uint32_t dimensions);
void vector_set_clear(struct vector_set *set);
/* Chunks that so many rows take. */
uint64_t vector_set_wants(const struct vector_set *set, uint64_t rows);
/* A chunk more; NULL: none. Zeroed. */
uint8_t *vector_set_chunk(struct vector_set *set);
/* vector: unaligned floats. Replaces what the node had. */
int vector_set_put(struct vector_set *set, uint64_t id, const uint8_t *vector);
void vector_set_drop(struct vector_set *set, uint64_t id);
/* No graph names any row any more: close the gaps. */
void vector_set_pack(struct vector_set *set);
/* Chunks of graphs go back to the pool. */
void vector_set_unlink(struct vector_set *set);

/* ---- rows ---- */

static inline uint8_t *vector_set_block(const struct vector_set *set, uint32_t slot,
					uint32_t *ret_at)
{
	HAUL_ASSERT_SLOW(slot < set->slots);
	*ret_at = slot % set->rows_chunk;
	return set->chunks->rows[slot / set->rows_chunk];
}

static inline float *vector_set_row(const struct vector_set *set, uint32_t slot)
{
	uint32_t at;
	uint8_t *block = vector_set_block(set, slot, &at);

	return (float *)(void *)block + (size_t)at * set->floats;
}

static inline uint64_t *vector_set_ids(const struct vector_set *set, uint8_t *block)
{
	const size_t offset = (size_t)set->rows_chunk * set->floats * sizeof(float);

	return (uint64_t *)(void *)(block + offset);
}

static inline struct knn_norm *vector_set_norms(const struct vector_set *set, uint8_t *block)
{
	return (struct knn_norm *)(void *)(vector_set_ids(set, block) + set->rows_chunk);
}

static inline uint64_t vector_set_id(const struct vector_set *set, uint32_t slot)
{
	uint32_t at;
	uint8_t *block = vector_set_block(set, slot, &at);

	return vector_set_ids(set, block)[at];
}

/* One row, as knn takes it. */
static inline struct knn_rows vector_set_rows(const struct vector_set *set, uint32_t slot)
{
	uint32_t at;
	uint8_t *block = vector_set_block(set, slot, &at);

	return (struct knn_rows){ .data = (float *)(void *)block + (size_t)at * set->floats,
				  .ids = vector_set_ids(set, block) + at,
				  .norms = vector_set_norms(set, block) + at,
				  .count = 1 };
}

/* As many rows as stand together from a slot on, for knn. */
static inline struct knn_rows vector_set_rows_from(const struct vector_set *set, uint32_t slot)
{
	struct knn_rows rows = vector_set_rows(set, slot);
	const uint32_t together = set->rows_chunk - slot % set->rows_chunk;
	const uint32_t left = set->slots - slot;

	rows.count = together < left ? together : left;
	return rows;
}
