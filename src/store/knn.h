/* store/knn.h — the k nearest of many vectors to each of many queries, compared exactly.
 *
 * Model      Rows (vectors, padded with zeros to KNN_LANES floats) are given block by block; each
 *            query keeps its k best in a heap, which is the caller's column of hits. The distance
 *            of a row is always computed by the same kernel, whatever the batch: so a query gets
 *            the same bits alone and among others. From KNN_TILE_MIN queries on, rows are screened
 *            first: a tile of queries, transposed, against a group of rows, by scalar products in
 *            registers, of halves of floats (bfloat16) where the processor has them; only rows that
 *            may be among the k best, by a bound of the error, are computed.
 * Units      floats; distances as haul/reader.h.
 * Memory     the caller's: knn_bytes.
 * Threads    one a search; kernels are pure.
 * Source     error of scalar products: Higham, Accuracy and Stability, 3.1. */
#pragma once

#include <haul/reader.h>

enum {
	KNN_LANES = 16,   /* floats that rows are padded to; rows are aligned to as much */
	KNN_TILE = 32,    /* queries that are screened at once */
	KNN_TILE_MIN = 8, /* fewer are faster row by row */
	KNN_BLOCK = 240,  /* rows at once at most: a multiple of every kernel's group */
};

/* X(id, name), from slow to fast */
#define KNN_LEVEL_LIST(X)                                                                          \
	X(KNN_PLAIN, "plain")                                                                      \
	X(KNN_AVX2, "avx2")                                                                        \
	X(KNN_AVX512, "avx512")                                                                    \
	X(KNN_BF16, "avx512_bf16")

enum knn_level {
#define X(id, name) id,
	KNN_LEVEL_LIST(X)
#undef X
		KNN_LEVELS
};

/* A tile of queries against rows: which of them may be near enough. */
struct knn_screen {
	const float *tile; /* floats * KNN_TILE: of each dimension all queries */
	const float *rows; /* count * floats */
	uint32_t floats;
	uint32_t count;
	const float *bias, *scale; /* a row: bias + scale * product … */
	const float *limit;        /* … is not over its limit: KNN_TILE of them */
	/* For screen_halves: the same numbers as bfloat16. */
	const uint16_t *tile_halves; /* of each two dimensions all queries */
	const uint16_t *row_halves;
};

struct knn_kernels {
	/* Of each row, to the query: sum of squared differences, or of products. */
	void (*squares)(const float *query, const float *rows, uint32_t floats, uint32_t count,
			float *ret_sums);
	void (*products)(const float *query, const float *rows, uint32_t floats, uint32_t count,
			 float *ret_sums);
	/* Of each row a bit for each query of the tile. */
	void (*screen)(const struct knn_screen *screen, uint32_t *ret_masks);
	/* NULL: there is none. */
	void (*screen_halves)(const struct knn_screen *screen, uint32_t *ret_masks);
	void (*halve)(const float *floats, uint64_t count, uint16_t *ret_halves);
};
/* NULL if this processor cannot. */
const struct knn_kernels *knn_kernels(enum knn_level level);
const struct knn_kernels *knn_kernels_best(void);
extern const struct knn_kernels knn_kernels_avx2, knn_kernels_avx512, knn_kernels_bf16;

static inline uint32_t knn_floats(uint32_t dimensions)
{
	return (dimensions + KNN_LANES - 1) / KNN_LANES * KNN_LANES;
}

/* What is kept of a vector beside it. */
struct knn_norm {
	float square;  /* of its length */
	float inverse; /* 1 / length, 0 of none */
};
struct knn_norm knn_norm(const float *row, uint32_t floats);
/* 1 - cosine, 0 … 2; 1 where a length is 0. */
static inline float knn_cosine(float product, const struct knn_norm *a, const struct knn_norm *b)
{
	const float cosine = product * a->inverse * b->inverse;

	if (cosine >= 1)
		return 0;
	if (cosine <= -1)
		return 2;
	return cosine == cosine ? 1 - cosine : 1;
}

struct knn_rows {
	const float *data;   /* count * floats */
	const uint64_t *ids; /* 0: none, to be passed over */
	const struct knn_norm *norms;
	uint32_t count;
};

struct knn {
	const struct knn_kernels *kernels;
	enum haul_metric metric;
	uint32_t floats, k, count;
	float *queries; /* rows */
	float *tiles;   /* the same transposed; NULL: too few */
	struct knn_norm *norms;
	float *limits;
	uint32_t *held; /* hits so far of each query */
	struct haul_near_hit *hits;
	/* Bounds of the error of a screen, as share of the squares of both lengths. */
	float share, share_halves;
	/* Halves of the tiles and of the rows under way; NULL: no use of them. */
	uint16_t *tile_halves, *row_halves;
	float *limits_halves;
	uint32_t rest; /* blocks that halves are not tried for */
};

/* Memory for so many queries of so many dimensions. */
uint64_t knn_bytes(uint32_t count, uint32_t dimensions);
/* Queries [first, first + count) of `near`; hits: count * k. memory is aligned to 64. */
struct knn_part {
	const struct haul_near *near;
	uint32_t first, count;
};
void knn_init(struct knn *knn, const struct knn_kernels *kernels, const struct knn_part *part,
	      void *memory, struct haul_near_hit *hits);
void knn_compare(struct knn *knn, const struct knn_rows *rows);
/* One row that was compared elsewhere. */
void knn_offer(struct knn *knn, uint32_t query, uint64_t id, float distance);
/* Distances of rows to one query, as knn_compare computes them. */
void knn_distances(const struct knn *knn, uint32_t query, const struct knn_rows *rows,
		   float *ret_distances);
/* Nearest first, zeros behind the last. */
void knn_finish(struct knn *knn);
