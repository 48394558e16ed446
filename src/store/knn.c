/* Exact comparison of queries with rows, and its kernels in plain C.
 *
 * Why screening loses nothing. With u = 2^-24, a sum of n products computed in any order is off by
 * at most n * u * |q| * |v| (and a little), and n * u * 2 * |q| * |v| <= n * u * (q^2 + v^2). So
 * when the distance that the row kernel computes is at most d, then v^2 - 2 q.v, as the screen
 * computes it, is at most d - q^2 + share * (q^2 + v^2), where share covers the errors of both. The
 * part with v^2 is taken off the bias of the row, the rest makes the limit of the query. Halves
 * have 8 bits: each product is off by at most 2^-7 more. Lengths whose squares might not fit, or
 * vanish, are never screened out. */
#include "store/knn.h"

#include <math.h>
#include <string.h>

#include "base/assert.h"

static const float SQUARE_MIN = 1e-30F, SQUARE_MAX = 1e36F;

/* Halves that let more than a sixteenth pass are a detour; they are tried again later. */
enum { PASS_SHARE = 16, REST_BLOCKS = 64 };

/* ---- plain C ---- */

static void plain_squares(const float *query, const float *rows, uint32_t floats, uint32_t count,
			  float *ret_sums)
{
	for (uint32_t row = 0; row < count; row++, rows += floats) {
		float sum[KNN_LANES] = { 0 };
		for (uint32_t i = 0; i < floats; i += KNN_LANES) {
			for (uint32_t lane = 0; lane < KNN_LANES; lane++) {
				const float d = query[i + lane] - rows[i + lane];
				sum[lane] += d * d;
			}
		}
		for (uint32_t half = KNN_LANES / 2; half > 0; half /= 2) {
			for (uint32_t lane = 0; lane < half; lane++)
				sum[lane] += sum[lane + half];
		}
		ret_sums[row] = sum[0];
	}
}

static void plain_products(const float *query, const float *rows, uint32_t floats, uint32_t count,
			   float *ret_sums)
{
	for (uint32_t row = 0; row < count; row++, rows += floats) {
		float sum[KNN_LANES] = { 0 };
		for (uint32_t i = 0; i < floats; i += KNN_LANES) {
			for (uint32_t lane = 0; lane < KNN_LANES; lane++)
				sum[lane] += query[i + lane] * rows[i + lane];
		}
		for (uint32_t half = KNN_LANES / 2; half > 0; half /= 2) {
			for (uint32_t lane = 0; lane < half; lane++)
				sum[lane] += sum[lane + half];
		}
		ret_sums[row] = sum[0];
	}
}

static void plain_screen(const struct knn_screen *screen, uint32_t *ret_masks)
{
	const float *row = screen->rows;

	for (uint32_t i = 0; i < screen->count; i++, row += screen->floats) {
		float sum[KNN_TILE] = { 0 };
		const float *tile = screen->tile;
		for (uint32_t d = 0; d < screen->floats; d++, tile += KNN_TILE) {
			for (uint32_t q = 0; q < KNN_TILE; q++)
				sum[q] += row[d] * tile[q];
		}
		uint32_t mask = 0;
		for (uint32_t q = 0; q < KNN_TILE; q++) {
			const float value = screen->bias[i] + screen->scale[i] * sum[q];
			mask |= (uint32_t) !(value > screen->limit[q]) << q;
		}
		ret_masks[i] = mask;
	}
}

static const struct knn_kernels kernels_plain = {
	.squares = plain_squares,
	.products = plain_products,
	.screen = plain_screen,
};

const struct knn_kernels *knn_kernels(enum knn_level level)
{
#ifdef __x86_64__
	__builtin_cpu_init();
	if (level == KNN_BF16)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bf16")
			       ? &knn_kernels_bf16
			       : NULL;
	if (level == KNN_AVX512)
		return __builtin_cpu_supports("avx512f") ? &knn_kernels_avx512 : NULL;
	if (level == KNN_AVX2)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
			       ? &knn_kernels_avx2
			       : NULL;
#endif
	return level == KNN_PLAIN ? &kernels_plain : NULL;
}

const struct knn_kernels *knn_kernels_best(void)
{
	for (int level = KNN_LEVELS - 1; level > KNN_PLAIN; level--) {
		const struct knn_kernels *kernels = knn_kernels((enum knn_level)level);
		if (kernels != NULL)
			return kernels;
	}
	return &kernels_plain;
}

/* ---- a search ---- */

struct knn_norm knn_norm(const float *row, uint32_t floats)
{
	double sum[8] = { 0 }, square = 0;

	for (uint32_t i = 0; i < floats; i += 8) {
		for (uint32_t lane = 0; lane < 8; lane++)
			sum[lane] += (double)row[i + lane] * (double)row[i + lane];
	}
	for (uint32_t lane = 0; lane < 8; lane++)
		square += sum[lane];
	return (struct knn_norm){
		.square = (float)square,
		.inverse = square > 0 ? (float)(1 / sqrt(square)) : 0.0F,
	};
}

static uint64_t lines(uint64_t bytes)
{
	return (bytes + 63) & ~UINT64_C(63);
}

static uint32_t tiles_of(uint32_t count)
{
	return count < KNN_TILE_MIN ? 0 : (count + KNN_TILE - 1) / KNN_TILE;
}

/* Rows that are compared at once: they stay in the cache while one tile follows the other. */
static uint32_t block_of(uint32_t floats)
{
	const uint32_t most = KNN_BLOCK * 256 / floats;

	return most > KNN_BLOCK ? KNN_BLOCK : (most < 24 ? 24 : most);
}

uint64_t knn_bytes(uint32_t count, uint32_t dimensions)
{
	const uint64_t floats = knn_floats(dimensions);
	const uint64_t row = floats * sizeof(float);
	const uint64_t tiled = (uint64_t)tiles_of(count) * KNN_TILE;
	const uint64_t limits = tiled > count ? tiled : count;

	return row * count + row * tiled + row / 2 * tiled +
	       lines(block_of((uint32_t)floats) * row / 2) + 2 * lines(limits * sizeof(float)) +
	       lines(count * sizeof(struct knn_norm)) + lines(count * sizeof(uint32_t));
}

static void *take(uint8_t **cursor, uint64_t bytes)
{
	void *place = *cursor;

	*cursor += lines(bytes);
	return place;
}

static void queries_copy(struct knn *knn, const struct knn_part *part)
{
	const uint32_t dimensions = part->near->dimensions;
	const float *from = part->near->vectors + (size_t)part->first * dimensions;

	for (uint32_t q = 0; q < knn->count; q++) {
		float *row = knn->queries + (size_t)q * knn->floats;
		memcpy(row, from + (size_t)q * dimensions, dimensions * sizeof *row);
		memset(row + dimensions, 0, (knn->floats - dimensions) * sizeof *row);
		knn->norms[q] = knn_norm(row, knn->floats);
	}
}

/* The nearer of the two halves around it. */
static uint16_t half_of(float number)
{
	uint32_t bits;

	memcpy(&bits, &number, sizeof bits);
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void tiles_halve(struct knn *knn)
{
	for (uint32_t tile = 0; tile < tiles_of(knn->count); tile++) {
		const float *from = knn->tiles + (size_t)tile * knn->floats * KNN_TILE;
		uint16_t *to = knn->tile_halves + (size_t)tile * knn->floats * KNN_TILE;
		for (uint32_t i = 0; i < knn->floats * KNN_TILE; i++) {
			const uint32_t d = i / KNN_TILE, q = i % KNN_TILE;
			to[d / 2 * 2 * KNN_TILE + q * 2 + d % 2] = half_of(from[i]);
		}
	}
}

static void tiles_fill(struct knn *knn)
{
	for (uint32_t q = 0; q < tiles_of(knn->count) * KNN_TILE; q++) {
		const float *row = knn->queries + (size_t)q * knn->floats;
		float *column =
			knn->tiles + (size_t)(q / KNN_TILE) * knn->floats * KNN_TILE + q % KNN_TILE;
		for (uint32_t d = 0; d < knn->floats; d++)
			column[(size_t)d * KNN_TILE] = q < knn->count ? row[d] : 0.0F;
	}
}

/* What a screen may let pass for a query whose k-th best is at `distance`. */
static float limit_of(const struct knn *knn, uint32_t query, float distance, float share)
{
	const float square = knn->norms[query].square;

	if (!(square > SQUARE_MIN && square < SQUARE_MAX && distance < SQUARE_MAX))
		return INFINITY;
	if (knn->metric == HAUL_EUCLIDEAN)
		return distance - square * (1 - share);
	return (distance - 1 + share) * sqrtf(square);
}

void knn_init(struct knn *knn, const struct knn_kernels *kernels, const struct knn_part *part,
	      void *memory, struct haul_near_hit *hits)
{
	const uint32_t floats = knn_floats(part->near->dimensions);
	const uint64_t row = (uint64_t)floats * sizeof(float);
	const uint64_t tiled = (uint64_t)tiles_of(part->count) * KNN_TILE;
	const uint64_t limits = tiled > part->count ? tiled : part->count;
	uint8_t *cursor = memory;

	HAUL_ASSERT(part->count > 0 && part->first + part->count <= part->near->count);
	*knn = (struct knn){ .kernels = kernels,
			     .metric = part->near->metric,
			     .floats = floats,
			     .k = part->near->k,
			     .count = part->count,
			     .hits = hits };
	knn->share = (1.25F * (float)floats + 64) * 0x1p-24F;
	knn->share_halves = 0x1.04p-7F + knn->share;
	knn->queries = take(&cursor, row * part->count);
	knn->tiles = take(&cursor, row * tiled);
	knn->tile_halves = take(&cursor, row / 2 * tiled);
	knn->row_halves = take(&cursor, block_of(floats) * row / 2);
	knn->limits = take(&cursor, limits * sizeof(float));
	knn->limits_halves = take(&cursor, limits * sizeof(float));
	knn->norms = take(&cursor, part->count * sizeof(struct knn_norm));
	knn->held = take(&cursor, part->count * sizeof(uint32_t));
	HAUL_ASSERT(cursor == (uint8_t *)memory + knn_bytes(part->count, part->near->dimensions));
	memset(knn->held, 0, part->count * sizeof *knn->held);
	queries_copy(knn, part);
	tiles_fill(knn);
	if (kernels->screen_halves != NULL)
		tiles_halve(knn);
	/* Nothing is held yet; what fills up the last tile lets nothing pass. */
	for (uint32_t q = 0; q < limits; q++)
		knn->limits[q] = knn->limits_halves[q] = q < part->count ? INFINITY : -INFINITY;
}

/* ---- the k best: a heap, the worst on top ---- */

static inline bool worse(const struct haul_near_hit *a, const struct haul_near_hit *b)
{
	return a->distance > b->distance || (a->distance == b->distance && a->node > b->node);
}

static void heap_sink(struct haul_near_hit *heap, uint32_t count, struct haul_near_hit hit)
{
	uint32_t at = 0;

	for (uint32_t child; (child = at * 2 + 1) < count; at = child) {
		if (child + 1 < count && worse(&heap[child + 1], &heap[child]))
			child++;
		if (!worse(&heap[child], &hit))
			break;
		heap[at] = heap[child];
	}
	heap[at] = hit;
}

static void heap_rise(struct haul_near_hit *heap, uint32_t at, struct haul_near_hit hit)
{
	for (; at > 0 && worse(&hit, &heap[(at - 1) / 2]); at = (at - 1) / 2)
		heap[at] = heap[(at - 1) / 2];
	heap[at] = hit;
}

void knn_offer(struct knn *knn, uint32_t query, uint64_t id, float distance)
{
	struct haul_near_hit *heap = knn->hits + (size_t)query * knn->k;
	const struct haul_near_hit hit = { .node = id, .distance = distance };
	uint32_t *held = &knn->held[query];

	HAUL_ASSERT(query < knn->count);
	if (*held < knn->k)
		heap_rise(heap, (*held)++, hit);
	else if (worse(&heap[0], &hit))
		heap_sink(heap, knn->k, hit);
	else
		return;
	if (*held < knn->k)
		return;
	knn->limits[query] = limit_of(knn, query, heap[0].distance, knn->share);
	knn->limits_halves[query] = limit_of(knn, query, heap[0].distance, knn->share_halves);
}

void knn_finish(struct knn *knn)
{
	for (uint32_t q = 0; q < knn->count; q++) {
		struct haul_near_hit *heap = knn->hits + (size_t)q * knn->k;
		const uint32_t held = knn->held[q];
		for (uint32_t left = held; left > 1; left--) {
			const struct haul_near_hit last = heap[left - 1];
			heap[left - 1] = heap[0];
			heap_sink(heap, left - 1, last);
		}
		for (uint32_t i = held; i < knn->k; i++)
			heap[i] = (struct haul_near_hit){ .node = 0 };
	}
}

/* ---- comparing ---- */

void knn_distances(const struct knn *knn, uint32_t query, const struct knn_rows *rows,
		   float *ret_distances)
{
	const float *row = knn->queries + (size_t)query * knn->floats;

	if (knn->metric == HAUL_EUCLIDEAN) {
		knn->kernels->squares(row, rows->data, knn->floats, rows->count, ret_distances);
		return;
	}
	knn->kernels->products(row, rows->data, knn->floats, rows->count, ret_distances);
	for (uint32_t i = 0; i < rows->count; i++) {
		const float cosine =
			ret_distances[i] * knn->norms[query].inverse * rows->norms[i].inverse;
		ret_distances[i] = isnan(cosine) ? 1.0F : 1 - cosine;
	}
}

/* Few queries: each over the block while it is in the cache. */
static void compare_rows(struct knn *knn, const struct knn_rows *rows)
{
	float distances[KNN_BLOCK];

	for (uint32_t q = 0; q < knn->count; q++) {
		knn_distances(knn, q, rows, distances);
		const struct haul_near_hit *worst = knn->hits + (size_t)q * knn->k;
		for (uint32_t i = 0; i < rows->count; i++) {
			const bool full = knn->held[q] == knn->k;
			if (rows->ids[i] != 0 && !(full && distances[i] > worst->distance))
				knn_offer(knn, q, rows->ids[i], distances[i]);
		}
	}
}

/* A row that the screen let pass for the queries of a mask. */
static void compare_passed(struct knn *knn, const struct knn_rows *row, uint32_t first,
			   uint32_t mask)
{
	for (; mask != 0; mask &= mask - 1) {
		const uint32_t q = first + (uint32_t)__builtin_ctz(mask);
		float distance = 0;
		knn_distances(knn, q, row, &distance);
		knn_offer(knn, q, row->ids[0], distance);
	}
}

/* Tells of each row what it adds to a product; rows that cannot be judged get to the limit. */
static void screen_rows(const struct knn *knn, const struct knn_rows *rows, float share,
			float *ret_bias, float *ret_scale)
{
	const bool euclidean = knn->metric == HAUL_EUCLIDEAN;

	for (uint32_t i = 0; i < rows->count; i++) {
		const struct knn_norm *norm = &rows->norms[i];
		ret_bias[i] = euclidean ? norm->square * (1 - share) : 0.0F;
		ret_scale[i] = euclidean ? -2.0F : -norm->inverse;
		/* A short row next to a long query is only a matter of angles. */
		if (!(norm->square < SQUARE_MAX && (euclidean || norm->square > SQUARE_MIN)))
			ret_bias[i] = -INFINITY;
	}
}

/* One tile; returns how many pairs were let pass. */
static uint32_t compare_tile(struct knn *knn, const struct knn_rows *rows, uint32_t first,
			     const struct knn_screen *screen, bool halves)
{
	uint32_t masks[KNN_BLOCK], passed = 0;

	if (halves)
		knn->kernels->screen_halves(screen, masks);
	else
		knn->kernels->screen(screen, masks);
	for (uint32_t i = 0; i < rows->count; i++) {
		if (masks[i] == 0 || rows->ids[i] == 0)
			continue;
		const struct knn_rows row = { .data = rows->data + (size_t)i * knn->floats,
					      .ids = &rows->ids[i],
					      .norms = &rows->norms[i],
					      .count = 1 };
		passed += (uint32_t)__builtin_popcount(masks[i]);
		compare_passed(knn, &row, first, masks[i]);
	}
	return passed;
}

static void compare_tiles(struct knn *knn, const struct knn_rows *rows)
{
	float bias[KNN_BLOCK], scale[KNN_BLOCK];
	const bool halves = knn->kernels->screen_halves != NULL && knn->rest == 0;
	const uint64_t pairs = (uint64_t)rows->count * knn->count;
	uint64_t passed = 0;

	knn->rest -= knn->rest > 0;
	screen_rows(knn, rows, halves ? knn->share_halves : knn->share, bias, scale);
	if (halves)
		knn->kernels->halve(rows->data, (uint64_t)rows->count * knn->floats,
				    knn->row_halves);
	for (uint32_t first = 0; first < knn->count; first += KNN_TILE) {
		const struct knn_screen screen = {
			.tile = knn->tiles + (size_t)first * knn->floats,
			.rows = rows->data,
			.floats = knn->floats,
			.count = rows->count,
			.bias = bias,
			.scale = scale,
			.limit = (halves ? knn->limits_halves : knn->limits) + first,
			.tile_halves = knn->tile_halves + (size_t)first * knn->floats,
			.row_halves = knn->row_halves,
		};
		passed += compare_tile(knn, rows, first, &screen, halves);
	}
	if (halves && passed * PASS_SHARE > pairs)
		knn->rest = REST_BLOCKS;
}

static bool all_full(const struct knn *knn)
{
	for (uint32_t q = 0; q < knn->count; q++) {
		if (knn->held[q] < knn->k)
			return false;
	}
	return true;
}

void knn_compare(struct knn *knn, const struct knn_rows *rows)
{
	const uint32_t most = block_of(knn->floats);
	const uint32_t blocks = (rows->count + most - 1) / most;
	const uint32_t step = blocks == 0 ? 1 : (rows->count + blocks - 1) / blocks;

	for (uint32_t at = 0; at < rows->count; at += step) {
		const uint32_t left = rows->count - at;
		const struct knn_rows some = { .data = rows->data + (size_t)at * knn->floats,
					       .ids = rows->ids + at,
					       .norms = rows->norms + at,
					       .count = left < step ? left : step };
		if (tiles_of(knn->count) == 0 || !all_full(knn))
			compare_rows(knn, &some);
		else
			compare_tiles(knn, &some);
	}
}
