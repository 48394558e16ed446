#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"
#include "store/knn.h"

enum { ROWS = 700, DIMENSIONS = 300, QUERIES = 70, K_MAX = 64 };

struct fixture {
	struct prng prng;
	float *rows; /* ROWS * floats, aligned */
	float vectors[QUERIES * DIMENSIONS];
	uint64_t ids[ROWS];
	struct knn_norm norms[ROWS];
	struct haul_near_hit hits[QUERIES * K_MAX], alone[QUERIES * K_MAX];
	struct haul_near_hit naive[ROWS];
	uint8_t *memory;
};

static int open_all(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_non_null(f);
	test_prng(&f->prng);
	f->rows = aligned_alloc(64, ROWS * sizeof(float) * (DIMENSIONS + KNN_LANES + 4));
	f->memory = aligned_alloc(64, knn_bytes(QUERIES, DIMENSIONS));
	assert_non_null(f->rows);
	assert_non_null(f->memory);
	*state = f;
	return 0;
}

static int close_all(void **state)
{
	struct fixture *f = *state;

	free(f->rows);
	free(f->memory);
	free(f);
	return 0;
}

static float number(struct prng *prng)
{
	return (float)(prng_unit(prng) * 2 - 1);
}

static void rows_random(struct fixture *f, uint32_t dimensions, uint32_t count)
{
	const uint32_t floats = knn_floats(dimensions);

	for (uint32_t r = 0; r < count; r++) {
		float *row = f->rows + (size_t)r * floats;
		for (uint32_t d = 0; d < floats; d++)
			row[d] = d < dimensions ? number(&f->prng) : 0;
		f->norms[r] = knn_norm(row, floats);
		f->ids[r] = 1 + (uint64_t)r * 3;
	}
	for (uint32_t i = 0; i < QUERIES * dimensions; i++)
		f->vectors[i] = number(&f->prng);
}

/* ---- kernels ---- */

static double exact(const float *a, const float *b, uint32_t floats, bool squares)
{
	double sum = 0;

	for (uint32_t i = 0; i < floats; i++) {
		const double x = (double)a[i], y = (double)b[i];
		sum += squares ? (x - y) * (x - y) : x * y;
	}
	return sum;
}

/* Every kernel of this processor says what plain arithmetic says, to a few parts in a million of
 * the lengths, for all lengths and any number of rows. */
static void test_knn__kernels_agree_with_plain_arithmetic(void **state)
{
	struct fixture *f = *state;
	float sums[ROWS], products[ROWS];

	for (int level = 0; level < KNN_LEVELS; level++) {
		const struct knn_kernels *kernels = knn_kernels((enum knn_level)level);
		for (uint32_t floats = 16; kernels != NULL && floats <= DIMENSIONS; floats += 16) {
			const uint32_t count = 1 + prng_below(&f->prng, 40);
			rows_random(f, floats, count + 1);
			const float *query = f->rows + (size_t)count * floats;
			kernels->squares(query, f->rows, floats, count, sums);
			kernels->products(query, f->rows, floats, count, products);
			for (uint32_t r = 0; r < count; r++) {
				const float *row = f->rows + (size_t)r * floats;
				const double square = exact(query, row, floats, true);
				const double product = exact(query, row, floats, false);
				assert_true(fabs((double)sums[r] - square) <= 1e-5 * square);
				assert_true(fabs((double)products[r] - product) <= 1e-5 * floats);
			}
		}
	}
}

/* A level that this processor has is chosen, and it is the best. */
static void test_knn__chooses_the_best_kernels(void **state)
{
	const struct knn_kernels *best = NULL;

	(void)state;
	for (int level = 0; level < KNN_LEVELS; level++) {
		if (knn_kernels((enum knn_level)level) != NULL)
			best = knn_kernels((enum knn_level)level);
	}
	assert_non_null(knn_kernels(KNN_PLAIN));
	assert_ptr_equal(knn_kernels_best(), best);
}

/* ---- searches ---- */

static int hit_compare(const void *a, const void *b)
{
	const struct haul_near_hit *x = a, *y = b;

	if (x->distance != y->distance)
		return x->distance < y->distance ? -1 : 1;
	return x->node < y->node ? -1 : x->node > y->node;
}

static void search(struct fixture *f, const struct knn_kernels *kernels,
		   const struct knn_part *part, uint32_t rows, struct haul_near_hit *hits)
{
	const uint32_t floats = knn_floats(part->near->dimensions);
	struct knn knn;

	knn_init(&knn, kernels, part, f->memory, hits);
	/* In pieces, as they come from a tree. */
	for (uint32_t at = 0; at < rows;) {
		const uint32_t left = rows - at;
		uint32_t some = 1 + prng_below(&f->prng, rows);
		some = some < left ? some : left;
		const struct knn_rows piece = { .data = f->rows + (size_t)at * floats,
						.ids = f->ids + at,
						.norms = f->norms + at,
						.count = some };
		knn_compare(&knn, &piece);
		at += some;
	}
	knn_finish(&knn);
}

/* What sorting all distances gives. The distances are those of the kernel, so there is no doubt
 * about the order. */
static uint32_t naive_search(struct fixture *f, const struct knn_kernels *kernels,
			     const struct knn_part *part, uint32_t rows)
{
	const uint32_t floats = knn_floats(part->near->dimensions);
	struct haul_near_hit one;
	struct knn knn;
	uint32_t count = 0;

	knn_init(&knn, kernels, part, f->memory, &one);
	for (uint32_t r = 0; r < rows; r++) {
		const struct knn_rows row = { .data = f->rows + (size_t)r * floats,
					      .ids = f->ids + r,
					      .norms = f->norms + r,
					      .count = 1 };
		float distance;
		knn_distances(&knn, 0, &row, &distance);
		if (f->ids[r] != 0)
			f->naive[count++] =
				(struct haul_near_hit){ .node = f->ids[r], .distance = distance };
	}
	qsort(f->naive, count, sizeof f->naive[0], hit_compare);
	return count;
}

static void expect_search(struct fixture *f, const struct knn_kernels *kernels,
			  const struct haul_near *near, uint32_t rows)
{
	const struct knn_part all = { .near = near, .count = near->count };

	search(f, kernels, &all, rows, f->hits);
	for (uint32_t q = 0; q < near->count; q++) {
		const struct knn_part alone = { .near = near, .first = q, .count = 1 };
		const struct haul_near_hit *hits = f->hits + (size_t)q * near->k;
		search(f, kernels, &alone, rows, f->alone);
		for (uint32_t i = 0; i < near->k; i++) {
			assert_int_equal(hits[i].node, f->alone[i].node);
			assert_memory_equal(&hits[i].distance, &f->alone[i].distance,
					    sizeof hits[i].distance);
		}
		const uint32_t count = naive_search(f, kernels, &alone, rows);
		for (uint32_t i = 0; i < near->k; i++) {
			assert_int_equal(hits[i].node, i < count ? f->naive[i].node : 0);
			if (i < count)
				assert_true(hits[i].distance == f->naive[i].distance);
		}
	}
}

/* A batch gives each query what it gets alone, bit by bit, and what sorting gives: for any number
 * of queries, hits, rows, dimensions, with gaps, in any pieces, by every kernel. */
static void test_knn__a_batch_is_what_each_query_gets_alone(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < 120; i++) {
		const struct knn_kernels *kernels = knn_kernels((enum knn_level)(i % KNN_LEVELS));
		const uint32_t rows = prng_below(&f->prng, i % 7 == 0 ? 30 : ROWS + 1);
		const struct haul_near near = {
			.dimensions = 1 + prng_below(&f->prng, DIMENSIONS),
			.metric = i / KNN_LEVELS % 2 == 0 ? HAUL_EUCLIDEAN : HAUL_COSINE,
			.k = 1 + prng_below(&f->prng, i % 5 == 0 ? K_MAX : 8),
			.count = 1 + prng_below(&f->prng, QUERIES),
			.vectors = f->vectors,
		};
		if (kernels == NULL)
			continue;
		rows_random(f, near.dimensions, rows);
		for (uint32_t r = 0; r < rows; r += 1 + prng_below(&f->prng, 20))
			f->ids[r] = 0;
		expect_search(f, kernels, &near, rows);
	}
}

/* Rows that are alike: screening must not lose one of equal distance, and ties go by id. */
static void test_knn__keeps_ties_in_order_of_their_ids(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < 40; i++) {
		const struct knn_kernels *kernels = knn_kernels((enum knn_level)(i % KNN_LEVELS));
		const struct haul_near near = {
			.dimensions = 1 + prng_below(&f->prng, 70),
			.metric = i / KNN_LEVELS % 2 == 0 ? HAUL_EUCLIDEAN : HAUL_COSINE,
			.k = 10,
			.count = KNN_TILE + 3,
			.vectors = f->vectors,
		};
		const uint32_t floats = knn_floats(near.dimensions);
		if (kernels == NULL)
			continue;
		rows_random(f, near.dimensions, ROWS);
		for (uint32_t r = 0; r < ROWS; r++) {
			memcpy(f->rows + (size_t)r * floats,
			       f->rows + (size_t)prng_below(&f->prng, 5) * floats,
			       floats * sizeof(float));
			f->norms[r] = knn_norm(f->rows + (size_t)r * floats, floats);
			f->ids[r] = ROWS - r;
		}
		/* Some queries are such a row. */
		for (uint32_t q = 0; q < near.count; q += 2)
			memcpy(f->vectors + (size_t)q * near.dimensions,
			       f->rows + (size_t)prng_below(&f->prng, 5) * floats,
			       near.dimensions * sizeof(float));
		expect_search(f, kernels, &near, ROWS);
	}
}

/* Lengths of 1e-25 and of 1e+25, and none at all, among each other: what the screen cannot judge it
 * lets pass. */
static void test_knn__judges_the_shortest_and_the_longest(void **state)
{
	struct fixture *f = *state;
	static const float scales[] = { 0, 1e-30F, 1e-25F, 1e-12F, 1, 1e12F, 1e17F, 1e25F };

	for (uint32_t i = 0; i < 60; i++) {
		const struct knn_kernels *kernels = knn_kernels((enum knn_level)(i % KNN_LEVELS));
		const struct haul_near near = {
			.dimensions = 1 + prng_below(&f->prng, 40),
			.metric = i / KNN_LEVELS % 2 == 0 ? HAUL_EUCLIDEAN : HAUL_COSINE,
			.k = 1 + prng_below(&f->prng, 20),
			.count = KNN_TILE,
			.vectors = f->vectors,
		};
		const uint32_t floats = knn_floats(near.dimensions);
		if (kernels == NULL)
			continue;
		rows_random(f, near.dimensions, ROWS);
		for (uint32_t r = 0; r < ROWS; r++) {
			const float scale = scales[prng_below(&f->prng, 8)];
			for (uint32_t d = 0; d < floats; d++)
				f->rows[(size_t)r * floats + d] *= scale;
			f->norms[r] = knn_norm(f->rows + (size_t)r * floats, floats);
		}
		for (uint32_t q = 0; q < near.count; q++) {
			const float scale = scales[prng_below(&f->prng, 8)];
			for (uint32_t d = 0; d < near.dimensions; d++)
				f->vectors[(size_t)q * near.dimensions + d] *= scale;
		}
		expect_search(f, kernels, &near, ROWS);
	}
}

/* Rows so close together that halves cannot tell them apart: the screen lets too many pass, rests,
 * and the answer is the same. */
static void test_knn__gives_up_halves_that_tell_nothing_apart(void **state)
{
	struct fixture *f = *state;
	const struct haul_near near = {
		.dimensions = 64, .k = 5, .count = KNN_TILE, .vectors = f->vectors
	};

	for (int level = 0; level < KNN_LEVELS; level++) {
		const struct knn_kernels *kernels = knn_kernels((enum knn_level)level);
		if (kernels == NULL)
			continue;
		rows_random(f, near.dimensions, ROWS);
		for (uint32_t r = 0; r < ROWS; r++) {
			for (uint32_t d = 0; d < 64; d++)
				f->rows[(size_t)r * 64 + d] =
					100 + 1e-4F * f->rows[(size_t)r * 64 + d];
			f->norms[r] = knn_norm(f->rows + (size_t)r * 64, 64);
		}
		expect_search(f, kernels, &near, ROWS);
	}
}

/* Rows that differ by less than halves are off: what they let pass covers how far they are off. */
static void test_knn__halves_lose_nothing_that_is_near(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < 24; i++) {
		const struct knn_kernels *kernels = knn_kernels((enum knn_level)(i % KNN_LEVELS));
		const struct haul_near near = {
			.dimensions = DIMENSIONS / 16 * 16,
			.metric = i / KNN_LEVELS % 2 == 0 ? HAUL_EUCLIDEAN : HAUL_COSINE,
			.k = 5,
			.count = KNN_TILE,
			.vectors = f->vectors,
		};
		const float spread = 1e-3F * (float)(i / 8 + 1);
		if (kernels == NULL)
			continue;
		rows_random(f, near.dimensions, ROWS);
		for (uint32_t r = 1; r < ROWS; r++) {
			float *row = f->rows + (size_t)r * near.dimensions;
			for (uint32_t d = 0; d < near.dimensions; d++)
				row[d] = f->rows[d] + spread * row[d];
			f->norms[r] = knn_norm(row, near.dimensions);
		}
		expect_search(f, kernels, &near, ROWS);
	}
}

/* Nearest by one kernel is nearest by all when the rows are apart. */
static void test_knn__kernels_agree_about_the_order(void **state)
{
	struct fixture *f = *state;
	const struct haul_near near = {
		.dimensions = 100, .k = 20, .count = QUERIES, .vectors = f->vectors
	};
	const struct knn_part part = { .near = &near, .count = QUERIES };

	rows_random(f, near.dimensions, ROWS);
	for (uint32_t r = 0; r < ROWS; r++)
		f->rows[(size_t)r * knn_floats(100) + r % 100] += (float)r;
	for (uint32_t r = 0; r < ROWS; r++)
		f->norms[r] = knn_norm(f->rows + (size_t)r * knn_floats(100), knn_floats(100));
	search(f, knn_kernels(KNN_PLAIN), &part, ROWS, f->alone);
	for (int level = KNN_PLAIN + 1; level < KNN_LEVELS; level++) {
		const struct knn_kernels *kernels = knn_kernels((enum knn_level)level);
		if (kernels == NULL)
			continue;
		search(f, kernels, &part, ROWS, f->hits);
		for (uint32_t i = 0; i < QUERIES * near.k; i++) {
			assert_int_equal(f->hits[i].node, f->alone[i].node);
			assert_true(fabsf(f->hits[i].distance - f->alone[i].distance) <=
				    1e-5F * f->alone[i].distance);
		}
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_knn__kernels_agree_with_plain_arithmetic),
		TEST(test_knn__chooses_the_best_kernels),
		TEST(test_knn__a_batch_is_what_each_query_gets_alone),
		TEST(test_knn__keeps_ties_in_order_of_their_ids),
		TEST(test_knn__judges_the_shortest_and_the_longest),
		TEST(test_knn__gives_up_halves_that_tell_nothing_apart),
		TEST(test_knn__halves_lose_nothing_that_is_near),
		TEST(test_knn__kernels_agree_about_the_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
