/* Comparing embeddings where they are durable: in the tree, block by block. */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "store/record.h"
#include "store/vectors_state.h"

enum { AHEAD = 16, BLOCK_BYTES = 256 << 10 };

int vectors_row(const uint8_t *value, uint32_t bytes, struct vectors_row *ret_row)
{
	if (bytes < RECORD_EMBEDDING_HEAD)
		return HAUL_ECORRUPT;
	const uint32_t dimensions = le32_load(value);
	if (dimensions < 1 || dimensions > HAUL_DIMENSIONS_MAX ||
	    bytes != RECORD_EMBEDDING_HEAD + dimensions * sizeof(float))
		return HAUL_ECORRUPT;
	*ret_row = (struct vectors_row){ .dimensions = dimensions,
					 .vector = value + RECORD_EMBEDDING_HEAD };
	return 0;
}

/* Rows on their way from the tree to knn. */
struct block {
	float *data;
	uint64_t *ids;
	struct knn_norm *norms;
	uint32_t floats, count, max;
};

static uint32_t block_rows(uint32_t floats)
{
	const uint32_t rows = BLOCK_BYTES / (floats * (uint32_t)sizeof(float));

	return rows < KNN_BLOCK ? rows : KNN_BLOCK;
}

uint64_t vectors_tree_bytes(uint32_t dimensions)
{
	const uint64_t floats = knn_floats(dimensions);
	const uint64_t row = floats * sizeof(float) + sizeof(uint64_t) + sizeof(struct knn_norm);

	return (block_rows((uint32_t)floats) * row + 63) & ~UINT64_C(63);
}

static struct block block_of(struct arena *work, uint32_t dimensions)
{
	struct block block = { .floats = knn_floats(dimensions) };

	HAUL_ASSERT(work->bytes - work->used >= vectors_tree_bytes(dimensions));
	block.max = block_rows(block.floats);
	block.data = (float *)(void *)(work->data + work->used);
	block.ids = (uint64_t *)(void *)(block.data + (size_t)block.max * block.floats);
	block.norms = (struct knn_norm *)(void *)(block.ids + block.max);
	return block;
}

static void block_compare(struct block *block, struct knn *knn)
{
	const struct knn_rows rows = {
		.data = block->data, .ids = block->ids, .norms = block->norms, .count = block->count
	};

	if (block->count > 0)
		knn_compare(knn, &rows);
	block->count = 0;
}

static int block_add(struct block *block, const struct haul_near *query, struct knn *knn,
		     const struct rows *rows, uint32_t at)
{
	const uint32_t start = at == 0 ? 0 : rows->end[at - 1];
	float *data = block->data + (size_t)block->count * block->floats;
	struct vectors_row row;

	if (vectors_row(rows->heap + start, rows->end[at] - start, &row) < 0)
		return HAUL_ECORRUPT;
	if (row.dimensions != query->dimensions)
		return -EINVAL;
	memcpy(data, row.vector, row.dimensions * sizeof *data);
	memset(data + row.dimensions, 0, (block->floats - row.dimensions) * sizeof *data);
	block->norms[block->count] = knn_norm(data, block->floats);
	block->ids[block->count] = rows->key[(size_t)at * rows->words + 1];
	if (++block->count == block->max)
		block_compare(block, knn);
	return 0;
}

int vectors_compare_tree(const struct vectors_sight *sight, const struct haul_near *query,
			 struct knn *knn, struct arena *work)
{
	const struct lsm_walk_options options = {
		.tree = TREE_EMBEDDING,
		.from = { { query->index, 0, 0 } },
		.to = { { query->index, UINT64_MAX, 0 } },
		.prefix = true,
		.ahead = AHEAD,
	};
	struct block block = block_of(work, query->dimensions);
	struct snapshot_walk walk;
	struct rows rows;
	int result = snapshot_walk_open(&walk, sight->seen, &options);

	while (result == 0) {
		const int more = snapshot_walk_next(&walk, &rows);
		result = more < 0 ? more : (vectors_stopped(sight) ? -ECANCELED : 0);
		if (more <= 0)
			break;
		for (uint32_t i = 0; i < rows.count && result == 0; i++)
			result = block_add(&block, query, knn, &rows, i);
	}
	snapshot_walk_close(&walk);
	if (result == 0)
		block_compare(&block, knn);
	return result;
}
