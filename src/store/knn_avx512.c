/* Kernels of knn.h for processors with AVX-512.
 *
 * The screen holds 12 rows times 32 queries, 24 sums of 16 floats, in registers: each number of a
 * row is spread over a register once and multiplied with two registers of queries, so 24
 * multiplications take 14 loads. With halves a multiplication does two dimensions. */
#include "store/knn.h"

#ifdef __x86_64__

#include <immintrin.h>
#include <string.h>

#define AVX512 __attribute__((target("avx512f")))
#define BF16   __attribute__((target("avx512f,avx512bf16")))

enum { GROUP = 12 };

AVX512 static void avx512_squares(const float *query, const float *rows, uint32_t floats,
				  uint32_t count, float *ret_sums)
{
	const uint32_t whole = floats & ~63U;

	for (uint32_t row = 0; row < count; row++, rows += floats) {
		__m512 a = _mm512_setzero_ps(), b = a, c = a, d = a;
		uint32_t i = 0;
		for (; i < whole; i += 64) {
			const float *q = query + i, *r = rows + i;
			const __m512 w = _mm512_sub_ps(_mm512_load_ps(q), _mm512_load_ps(r));
			const __m512 x =
				_mm512_sub_ps(_mm512_load_ps(q + 16), _mm512_load_ps(r + 16));
			const __m512 y =
				_mm512_sub_ps(_mm512_load_ps(q + 32), _mm512_load_ps(r + 32));
			const __m512 z =
				_mm512_sub_ps(_mm512_load_ps(q + 48), _mm512_load_ps(r + 48));
			a = _mm512_fmadd_ps(w, w, a);
			b = _mm512_fmadd_ps(x, x, b);
			c = _mm512_fmadd_ps(y, y, c);
			d = _mm512_fmadd_ps(z, z, d);
		}
		for (; i < floats; i += 16) {
			const __m512 w =
				_mm512_sub_ps(_mm512_load_ps(query + i), _mm512_load_ps(rows + i));
			a = _mm512_fmadd_ps(w, w, a);
		}
		ret_sums[row] = _mm512_reduce_add_ps(
			_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
	}
}

AVX512 static void avx512_products(const float *query, const float *rows, uint32_t floats,
				   uint32_t count, float *ret_sums)
{
	const uint32_t whole = floats & ~63U;

	for (uint32_t row = 0; row < count; row++, rows += floats) {
		__m512 a = _mm512_setzero_ps(), b = a, c = a, d = a;
		uint32_t i = 0;
		for (; i < whole; i += 64) {
			const float *q = query + i, *r = rows + i;
			a = _mm512_fmadd_ps(_mm512_load_ps(q), _mm512_load_ps(r), a);
			b = _mm512_fmadd_ps(_mm512_load_ps(q + 16), _mm512_load_ps(r + 16), b);
			c = _mm512_fmadd_ps(_mm512_load_ps(q + 32), _mm512_load_ps(r + 32), c);
			d = _mm512_fmadd_ps(_mm512_load_ps(q + 48), _mm512_load_ps(r + 48), d);
		}
		for (; i < floats; i += 16)
			a = _mm512_fmadd_ps(_mm512_load_ps(query + i), _mm512_load_ps(rows + i), a);
		ret_sums[row] = _mm512_reduce_add_ps(
			_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)));
	}
}

/* The next group; the last one overlaps if they do not come out even. */
static inline uint32_t behind(uint32_t at, uint32_t count)
{
	at += GROUP;
	return at < count && at + GROUP > count ? count - GROUP : at;
}

struct sums {
	__m512 low[GROUP], high[GROUP];
};

/* Products of GROUP rows with a tile; the GROUP rows behind them are asked for from memory. */
AVX512 static inline struct sums products(const float *tile, const float *rows, uint32_t floats)
{
	const float *a = rows, *b = rows + (size_t)floats * 3;
	const float *c = rows + (size_t)floats * 6, *d = rows + (size_t)floats * 9;
	const char *ahead = (const char *)(rows + (size_t)floats * GROUP);
	struct sums sums;

#pragma GCC unroll 12
	for (int r = 0; r < GROUP; r++)
		sums.low[r] = sums.high[r] = _mm512_setzero_ps();
	for (uint32_t i = 0; i < floats; i++, tile += KNN_TILE) {
		const __m512 low = _mm512_load_ps(tile), high = _mm512_load_ps(tile + 16);
		_mm_prefetch(ahead + (size_t)i * GROUP * sizeof *rows, _MM_HINT_T1);
#pragma GCC unroll 12
		for (int r = 0; r < GROUP; r++) {
			const float *row = r < 3 ? a : (r < 6 ? b : (r < 9 ? c : d));
			const __m512 x = _mm512_set1_ps(row[i + (size_t)(r % 3) * floats]);
			sums.low[r] = _mm512_fmadd_ps(x, low, sums.low[r]);
			sums.high[r] = _mm512_fmadd_ps(x, high, sums.high[r]);
		}
	}
	return sums;
}

AVX512 static void avx512_screen(const struct knn_screen *screen, uint32_t *ret_masks)
{
	const __m512 limit_low = _mm512_loadu_ps(screen->limit);
	const __m512 limit_high = _mm512_loadu_ps(screen->limit + 16);
	const uint32_t floats = screen->floats;
	uint32_t at = 0;

	for (; at + GROUP <= screen->count; at = behind(at, screen->count)) {
		const float *rows = screen->rows + (size_t)at * floats;
		const struct sums sums = products(screen->tile, rows, floats);
#pragma GCC unroll 12
		for (int r = 0; r < GROUP; r++) {
			const __m512 bias = _mm512_set1_ps(screen->bias[at + (uint32_t)r]);
			const __m512 scale = _mm512_set1_ps(screen->scale[at + (uint32_t)r]);
			const __m512 low = _mm512_fmadd_ps(scale, sums.low[r], bias);
			const __m512 high = _mm512_fmadd_ps(scale, sums.high[r], bias);
			ret_masks[at + (uint32_t)r] =
				_mm512_cmp_ps_mask(low, limit_low, _CMP_NGT_UQ) |
				(uint32_t)_mm512_cmp_ps_mask(high, limit_high, _CMP_NGT_UQ) << 16;
		}
	}
	for (; at < screen->count; at++) {
		const float *tile = screen->tile, *row = screen->rows + (size_t)at * floats;
		__m512 low = _mm512_setzero_ps(), high = low;
		for (uint32_t i = 0; i < floats; i++, tile += KNN_TILE) {
			const __m512 x = _mm512_set1_ps(row[i]);
			low = _mm512_fmadd_ps(x, _mm512_load_ps(tile), low);
			high = _mm512_fmadd_ps(x, _mm512_load_ps(tile + 16), high);
		}
		const __m512 bias = _mm512_set1_ps(screen->bias[at]);
		const __m512 scale = _mm512_set1_ps(screen->scale[at]);
		low = _mm512_fmadd_ps(scale, low, bias);
		high = _mm512_fmadd_ps(scale, high, bias);
		ret_masks[at] = _mm512_cmp_ps_mask(low, limit_low, _CMP_NGT_UQ) |
				(uint32_t)_mm512_cmp_ps_mask(high, limit_high, _CMP_NGT_UQ) << 16;
	}
}

/* ---- halves ---- */

BF16 static void bf16_halve(const float *floats, uint64_t count, uint16_t *ret_halves)
{
	for (uint64_t i = 0; i < count; i += KNN_LANES) {
		_mm_prefetch((const char *)(floats + i + count), _MM_HINT_T1);
		const __m256bh halves = _mm512_cvtneps_pbh(_mm512_load_ps(floats + i));
		_mm256_store_si256((__m256i *)(void *)(ret_halves + i), (__m256i)halves);
	}
}

/* Two halves of a row, in all lanes. */
BF16 static inline __m512bh pair_of(const uint16_t *halves)
{
	int32_t pair;

	memcpy(&pair, halves, sizeof pair);
	return (__m512bh)_mm512_set1_epi32(pair);
}

BF16 static inline struct sums products_halves(const uint16_t *tile, const uint16_t *rows,
					       uint32_t floats)
{
	const uint16_t *a = rows, *b = rows + (size_t)floats * 3;
	const uint16_t *c = rows + (size_t)floats * 6, *d = rows + (size_t)floats * 9;
	struct sums sums;

#pragma GCC unroll 12
	for (int r = 0; r < GROUP; r++)
		sums.low[r] = sums.high[r] = _mm512_setzero_ps();
	for (uint32_t i = 0; i < floats; i += 2, tile += (size_t)2 * KNN_TILE) {
		const __m512bh low = (__m512bh)_mm512_load_si512(tile);
		const __m512bh high = (__m512bh)_mm512_load_si512(tile + KNN_TILE);
#pragma GCC unroll 12
		for (int r = 0; r < GROUP; r++) {
			const uint16_t *row = r < 3 ? a : (r < 6 ? b : (r < 9 ? c : d));
			const __m512bh x = pair_of(row + i + (size_t)(r % 3) * floats);
			sums.low[r] = _mm512_dpbf16_ps(sums.low[r], x, low);
			sums.high[r] = _mm512_dpbf16_ps(sums.high[r], x, high);
		}
	}
	return sums;
}

BF16 static inline uint32_t passed(const struct knn_screen *screen, uint32_t row, __m512 low,
				   __m512 high)
{
	const __m512 bias = _mm512_set1_ps(screen->bias[row]);
	const __m512 scale = _mm512_set1_ps(screen->scale[row]);

	low = _mm512_fmadd_ps(scale, low, bias);
	high = _mm512_fmadd_ps(scale, high, bias);
	return _mm512_cmp_ps_mask(low, _mm512_loadu_ps(screen->limit), _CMP_NGT_UQ) |
	       (uint32_t)_mm512_cmp_ps_mask(high, _mm512_loadu_ps(screen->limit + 16), _CMP_NGT_UQ)
		       << 16;
}

BF16 static void bf16_screen(const struct knn_screen *screen, uint32_t *ret_masks)
{
	const uint32_t floats = screen->floats;
	uint32_t at = 0;

	for (; at + GROUP <= screen->count; at = behind(at, screen->count)) {
		const uint16_t *rows = screen->row_halves + (size_t)at * floats;
		const struct sums sums = products_halves(screen->tile_halves, rows, floats);
#pragma GCC unroll 12
		for (uint32_t r = 0; r < GROUP; r++)
			ret_masks[at + r] = passed(screen, at + r, sums.low[r], sums.high[r]);
	}
	for (; at < screen->count; at++) {
		const uint16_t *tile = screen->tile_halves;
		const uint16_t *row = screen->row_halves + (size_t)at * floats;
		__m512 low = _mm512_setzero_ps(), high = low;
		for (uint32_t i = 0; i < floats; i += 2, tile += (size_t)2 * KNN_TILE) {
			const __m512bh x = pair_of(row + i);
			low = _mm512_dpbf16_ps(low, x, (__m512bh)_mm512_load_si512(tile));
			high = _mm512_dpbf16_ps(high, x,
						(__m512bh)_mm512_load_si512(tile + KNN_TILE));
		}
		ret_masks[at] = passed(screen, at, low, high);
	}
}

const struct knn_kernels knn_kernels_avx512 = {
	.squares = avx512_squares,
	.products = avx512_products,
	.screen = avx512_screen,
};

const struct knn_kernels knn_kernels_bf16 = {
	.squares = avx512_squares,
	.products = avx512_products,
	.screen = avx512_screen,
	.screen_halves = bf16_screen,
	.halve = bf16_halve,
};

#endif
