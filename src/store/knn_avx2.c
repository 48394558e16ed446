/* Kernels of knn.h for processors with AVX2 and FMA: as those for AVX-512, with 6 rows times 16
 * queries in registers. */
#include "store/knn.h"

#ifdef __x86_64__

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,fma")))

enum { GROUP = 6, LANES = 8 };

AVX2 static inline float sum_of(__m256 a, __m256 b)
{
	const __m256 both = _mm256_add_ps(a, b);
	__m128 sum = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));

	sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
	return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
}

AVX2 static void avx2_squares(const float *query, const float *rows, uint32_t floats,
			      uint32_t count, float *ret_sums)
{
	for (uint32_t row = 0; row < count; row++, rows += floats) {
		__m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
		uint32_t i = 0;
		for (; i + 32 <= floats; i += 32) {
			const float *q = query + i, *r = rows + i;
			const __m256 w = _mm256_sub_ps(_mm256_load_ps(q), _mm256_load_ps(r));
			const __m256 x =
				_mm256_sub_ps(_mm256_load_ps(q + 8), _mm256_load_ps(r + 8));
			const __m256 y =
				_mm256_sub_ps(_mm256_load_ps(q + 16), _mm256_load_ps(r + 16));
			const __m256 z =
				_mm256_sub_ps(_mm256_load_ps(q + 24), _mm256_load_ps(r + 24));
			a = _mm256_fmadd_ps(w, w, a);
			b = _mm256_fmadd_ps(x, x, b);
			c = _mm256_fmadd_ps(y, y, c);
			d = _mm256_fmadd_ps(z, z, d);
		}
		for (; i < floats; i += LANES) {
			const __m256 w =
				_mm256_sub_ps(_mm256_load_ps(query + i), _mm256_load_ps(rows + i));
			a = _mm256_fmadd_ps(w, w, a);
		}
		ret_sums[row] = sum_of(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
	}
}

AVX2 static void avx2_products(const float *query, const float *rows, uint32_t floats,
			       uint32_t count, float *ret_sums)
{
	for (uint32_t row = 0; row < count; row++, rows += floats) {
		__m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
		uint32_t i = 0;
		for (; i + 32 <= floats; i += 32) {
			const float *q = query + i, *r = rows + i;
			a = _mm256_fmadd_ps(_mm256_load_ps(q), _mm256_load_ps(r), a);
			b = _mm256_fmadd_ps(_mm256_load_ps(q + 8), _mm256_load_ps(r + 8), b);
			c = _mm256_fmadd_ps(_mm256_load_ps(q + 16), _mm256_load_ps(r + 16), c);
			d = _mm256_fmadd_ps(_mm256_load_ps(q + 24), _mm256_load_ps(r + 24), d);
		}
		for (; i < floats; i += LANES)
			a = _mm256_fmadd_ps(_mm256_load_ps(query + i), _mm256_load_ps(rows + i), a);
		ret_sums[row] = sum_of(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
	}
}

struct sums {
	__m256 low[GROUP], high[GROUP];
};

/* Products of `count` rows, GROUP or 1, with 16 queries of a tile; the GROUP rows behind them are
 * asked for from memory. */
AVX2 static inline __attribute__((always_inline)) struct sums
products(const float *tile, const float *rows, uint32_t floats, int count)
{
	const float *a = rows, *b = rows + (count == 1 ? 0 : (size_t)floats * 3);
	const char *ahead = (const char *)(rows + (size_t)floats * GROUP);
	struct sums sums;

#pragma GCC unroll 6
	for (int r = 0; r < count; r++)
		sums.low[r] = sums.high[r] = _mm256_setzero_ps();
	for (uint32_t i = 0; i < floats; i++, tile += KNN_TILE) {
		const __m256 low = _mm256_load_ps(tile), high = _mm256_load_ps(tile + LANES);
		if (count == GROUP)
			_mm_prefetch(ahead + (size_t)i * GROUP * sizeof *rows, _MM_HINT_T1);
#pragma GCC unroll 6
		for (int r = 0; r < count; r++) {
			const float *row = r < 3 ? a : b;
			const __m256 x = _mm256_set1_ps(row[i + (size_t)(r % 3) * floats]);
			sums.low[r] = _mm256_fmadd_ps(x, low, sums.low[r]);
			sums.high[r] = _mm256_fmadd_ps(x, high, sums.high[r]);
		}
	}
	return sums;
}

AVX2 static inline uint32_t passed(const struct knn_screen *screen, uint32_t row, __m256 sum,
				   uint32_t first)
{
	const __m256 bias = _mm256_set1_ps(screen->bias[row]);
	const __m256 scale = _mm256_set1_ps(screen->scale[row]);
	const __m256 value = _mm256_fmadd_ps(scale, sum, bias);
	const __m256 limit = _mm256_loadu_ps(screen->limit + first);

	return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(value, limit, _CMP_NGT_UQ)) << first;
}

AVX2 static void avx2_screen(const struct knn_screen *screen, uint32_t *ret_masks)
{
	const uint32_t floats = screen->floats;
	uint32_t at = 0;

	for (; at + GROUP <= screen->count; at += GROUP) {
		const float *rows = screen->rows + (size_t)at * floats;
		const struct sums a = products(screen->tile, rows, floats, GROUP);
		for (uint32_t r = 0; r < GROUP; r++)
			ret_masks[at + r] = passed(screen, at + r, a.low[r], 0) |
					    passed(screen, at + r, a.high[r], 8);
		const struct sums b = products(screen->tile + 16, rows, floats, GROUP);
		for (uint32_t r = 0; r < GROUP; r++)
			ret_masks[at + r] |= passed(screen, at + r, b.low[r], 16) |
					     passed(screen, at + r, b.high[r], 24);
	}
	for (; at < screen->count; at++) {
		const float *row = screen->rows + (size_t)at * floats;
		const struct sums a = products(screen->tile, row, floats, 1);
		const struct sums b = products(screen->tile + 16, row, floats, 1);
		ret_masks[at] = passed(screen, at, a.low[0], 0) | passed(screen, at, a.high[0], 8) |
				passed(screen, at, b.low[0], 16) |
				passed(screen, at, b.high[0], 24);
	}
}

const struct knn_kernels knn_kernels_avx2 = {
	.squares = avx2_squares,
	.products = avx2_products,
	.screen = avx2_screen,
};

#endif
