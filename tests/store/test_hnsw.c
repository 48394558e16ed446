#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include "store/reader_lab.h"
#include "store/vectors_state.h"

enum {
	NODES = 13000,
	ALL = 30000,
	DIMENSIONS = 24,
	CLUSTERS = 60,
	QUERIES = 100,
	K = 10,
	BATCH = 20
};

struct fixture {
	struct reader_lab lab;
	struct prng prng;
	float centre[CLUSTERS][DIMENSIONS];
	float *vector; /* ALL + 1 */
	bool there[ALL + 1];
	float queries[QUERIES * DIMENSIONS];
	struct haul_near_hit got[QUERIES * K], exact[QUERIES * K];
};

static int open_with(void **state, uint64_t bytes)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_non_null(f);
	test_prng(&f->prng);
	const struct reader_lab_options options = { .seed = prng_next(&f->prng),
						    .vectors_bytes = bytes,
						    .memtable_bytes = 4 << 20 };
	reader_lab_init(&f->lab, &options);
	f->vector = calloc((size_t)(ALL + 1) * DIMENSIONS, sizeof *f->vector);
	assert_non_null(f->vector);
	for (uint32_t i = 0; i < CLUSTERS * DIMENSIONS; i++)
		f->centre[i / DIMENSIONS][i % DIMENSIONS] = (float)(prng_unit(&f->prng) * 20 - 10);
	*state = f;
	return 0;
}

static int open_all(void **state)
{
	return open_with(state, 16 << 20);
}

/* Enough for the rows, not for the graph. */
static int open_tight(void **state)
{
	return open_with(state, 10 * VECTOR_CHUNK);
}

/* Enough for both, until there are more rows. */
static int open_close(void **state)
{
	return open_with(state, (18 + VECTOR_RESERVE) * VECTOR_CHUNK);
}

static int close_all(void **state)
{
	struct fixture *f = *state;

	reader_lab_done(&f->lab);
	free(f->vector);
	free(f);
	return 0;
}

/* Close to a centre, as embeddings are. */
static void vector_random(struct fixture *f, float *vector)
{
	const float *centre = f->centre[prng_below(&f->prng, CLUSTERS)];

	for (uint32_t i = 0; i < DIMENSIONS; i++)
		vector[i] = centre[i] + (float)(prng_unit(&f->prng) + prng_unit(&f->prng) - 1);
}

static void set_random(struct fixture *f, uint32_t node)
{
	float *vector = f->vector + (size_t)node * DIMENSIONS;

	vector_random(f, vector);
	f->there[node] = true;
	reader_lab_embedding(&f->lab, &(struct haul_embedding){ .node = node,
								.dimensions = DIMENSIONS,
								.vector = vector });
}

static struct haul_near query_random(struct fixture *f, enum haul_metric metric)
{
	for (uint32_t q = 0; q < QUERIES; q++)
		vector_random(f, f->queries + (size_t)q * DIMENSIONS);
	return (struct haul_near){ .dimensions = DIMENSIONS,
				   .metric = metric,
				   .k = K,
				   .count = QUERIES,
				   .vectors = f->queries };
}

/* So few at once that the graph is used. */
static void near_all(struct fixture *f, struct haul_near near, struct haul_near_hit *hits)
{
	near.count = BATCH;
	for (uint32_t q = 0; q < QUERIES; q += BATCH) {
		near.vectors = f->queries + (size_t)q * DIMENSIONS;
		assert_int_equal(haul_reader_near(f->lab.reader, &near, hits + (size_t)q * K),
				 BATCH);
	}
}

/* Share of the exact hits that were found. What was found is there, is in order, once. */
static double recall(struct fixture *f, enum haul_metric metric)
{
	struct haul_near near = query_random(f, metric);
	uint32_t found = 0;

	near_all(f, near, f->got);
	near.exact = true;
	near_all(f, near, f->exact);
	for (uint32_t i = 0; i < QUERIES * K; i++) {
		const struct haul_near_hit *hit = &f->got[i];
		assert_in_range(hit->node, 1, ALL);
		assert_true(f->there[hit->node]);
		if (i % K > 0)
			assert_true(
				hit[-1].distance < hit->distance ||
				(hit[-1].distance == hit->distance && hit[-1].node < hit->node));
		for (uint32_t e = i / K * K; e < i / K * K + K; e++)
			found += f->exact[e].node == hit->node;
	}
	return (double)found / (QUERIES * K);
}

static const struct hnsw *graph_of(const struct fixture *f, enum haul_metric metric)
{
	return &f->lab.vectors->index[0].graph[metric];
}

static void fill(struct fixture *f)
{
	for (uint32_t node = 1; node <= NODES; node++)
		set_random(f, node);
	(void)reader_lab_frame(&f->lab);
}

/* Answers are right from the first search on, while the graph grows a little with each, and good
 * when it is whole: for both distances. */
static void test_hnsw__finds_nearly_all_that_is_nearest(void **state)
{
	struct fixture *f = *state;

	fill(f);
	for (int metric = HAUL_EUCLIDEAN; metric <= HAUL_COSINE; metric++) {
		const struct hnsw *graph = graph_of(f, (enum haul_metric)metric);
		assert_int_equal(graph->taken, 0);
		assert_true(recall(f, (enum haul_metric)metric) == 1.0);
		assert_int_equal(graph->taken, QUERIES / BATCH * VECTORS_STEP);
		uint32_t steps = 0;
		while (vectors_step(f->lab.vectors) > 0) {
			if (++steps % 100 == 0)
				assert_true(recall(f, (enum haul_metric)metric) >= 0.95);
		}
		assert_int_equal(graph->taken, NODES);
		assert_true(recall(f, (enum haul_metric)metric) >= 0.95);
	}
	assert_int_equal(vectors_step(f->lab.vectors), 0);
}

/* What is deleted is never found, what is replaced is found where it is now; when much was dropped
 * the graph is made anew, without gaps. */
static void test_hnsw__never_finds_what_was_deleted(void **state)
{
	struct fixture *f = *state;
	const struct hnsw *graph = graph_of(f, HAUL_EUCLIDEAN);
	const struct vector_set *set = &f->lab.vectors->index[0].set;
	bool anew = false;

	fill(f);
	(void)recall(f, HAUL_EUCLIDEAN);
	while (vectors_step(f->lab.vectors) > 0)
		continue;
	for (uint32_t round = 0; round < 12; round++) {
		for (uint32_t i = 0; i < NODES / 25; i++) {
			const uint32_t node = 1 + prng_below(&f->prng, NODES);
			if (i % 2 == 0) {
				set_random(f, node);
				continue;
			}
			f->there[node] = false;
			reader_lab_embedding_drop(&f->lab, 0, node);
		}
		(void)reader_lab_frame(&f->lab);
		const uint32_t before = graph->taken;
		assert_true(recall(f, HAUL_EUCLIDEAN) >= 0.93);
		anew = anew || graph->taken < before;
		assert_true(set->slots - set->live <= set->slots / VECTORS_DEAD_SHARE);
		if (round % 2 == 0) {
			while (vectors_step(f->lab.vectors) > 0)
				continue;
		}
	}
	assert_true(anew);
}

/* All rows of a cluster were deleted: what is left is found all the same. */
static void test_hnsw__finds_what_is_left_of_a_cluster(void **state)
{
	struct fixture *f = *state;

	fill(f);
	(void)recall(f, HAUL_EUCLIDEAN);
	while (vectors_step(f->lab.vectors) > 0)
		continue;
	/* Fewer than make the graph anew. */
	for (uint32_t node = 1; node <= NODES; node++) {
		const float *vector = f->vector + (size_t)node * DIMENSIONS;
		bool near = true;
		for (uint32_t i = 0; i < DIMENSIONS && near; i++)
			near = vector[i] - f->centre[0][i] < 1.1F &&
			       f->centre[0][i] - vector[i] < 1.1F;
		if (!near)
			continue;
		f->there[node] = false;
		reader_lab_embedding_drop(&f->lab, 0, node);
	}
	(void)reader_lab_frame(&f->lab);
	struct haul_near near = {
		.dimensions = DIMENSIONS, .k = K, .count = 1, .vectors = f->centre[0]
	};
	assert_int_equal(haul_reader_near(f->lab.reader, &near, f->got), 1);
	near.exact = true;
	assert_int_equal(haul_reader_near(f->lab.reader, &near, f->exact), 1);
	assert_true(f->got[K - 1].node != 0);
	for (uint32_t i = 0; i < K; i++)
		assert_true(f->there[f->got[i].node]);
	assert_true(f->got[0].distance <= f->exact[0].distance * 1.5F);
}

/* Vectors that are all alike, many more than a row has links: still as many as asked for. */
static void test_hnsw__stands_rows_that_are_all_alike(void **state)
{
	struct fixture *f = *state;
	struct haul_near near = query_random(f, HAUL_EUCLIDEAN);

	for (uint32_t node = 1; node <= NODES; node++) {
		f->there[node] = true;
		reader_lab_embedding(&f->lab, &(struct haul_embedding){ .node = node,
									.dimensions = DIMENSIONS,
									.vector = f->centre[0] });
	}
	(void)reader_lab_frame(&f->lab);
	near_all(f, near, f->got);
	while (vectors_step(f->lab.vectors) > 0)
		continue;
	assert_int_equal(graph_of(f, HAUL_EUCLIDEAN)->taken, NODES);
	near_all(f, near, f->got);
	for (uint32_t i = 0; i < QUERIES * K; i++)
		assert_in_range(f->got[i].node, 1, NODES);
}

/* A graph that leads to fewer rows than there are is no excuse: all are compared. */
static void test_hnsw__compares_all_when_too_few_are_found(void **state)
{
	struct fixture *f = *state;
	struct hnsw *graph = &f->lab.vectors->index[0].graph[HAUL_EUCLIDEAN];

	fill(f);
	(void)recall(f, HAUL_EUCLIDEAN);
	while (vectors_step(f->lab.vectors) > 0)
		continue;
	graph->any = false;
	assert_true(recall(f, HAUL_EUCLIDEAN) == 1.0);
}

static void asked(void *arg)
{
	++*(uint32_t *)arg;
}

/* No memory for the graph: the rows are compared, nothing is missing, and nobody is asked for what
 * cannot be done. */
static void test_hnsw__is_left_out_without_memory(void **state)
{
	struct fixture *f = *state;
	uint32_t calls = 0;

	fill(f);
	for (uint32_t i = 0; i < 5; i++)
		assert_true(recall(f, HAUL_COSINE) == 1.0);
	assert_true(f->lab.vectors->index[0].filled);
	while (vectors_step(f->lab.vectors) > 0)
		continue;
	assert_true(graph_of(f, HAUL_COSINE)->taken < NODES);
	vectors_on_work(f->lab.vectors, asked, &calls);
	assert_true(recall(f, HAUL_COSINE) >= 0.95);
	assert_int_equal(calls, 0);
}

/* More rows than fit beside the graph take its memory; the tree is not compared instead. */
static void test_hnsw__gives_its_memory_to_rows(void **state)
{
	struct fixture *f = *state;
	const struct vectors_index *of = &f->lab.vectors->index[0];
	bool given = false;

	fill(f);
	(void)recall(f, HAUL_EUCLIDEAN);
	while (vectors_step(f->lab.vectors) > 0)
		continue;
	assert_int_equal(graph_of(f, HAUL_EUCLIDEAN)->taken, NODES);
	for (uint32_t node = NODES + 1; node <= ALL; node++) {
		set_random(f, node);
		if (node % 500 != 0)
			continue;
		const uint32_t before = graph_of(f, HAUL_EUCLIDEAN)->taken;
		/* One that was there before, so that there are gaps. */
		f->there[node / 4] = false;
		reader_lab_embedding_drop(&f->lab, 0, node / 4);
		(void)reader_lab_frame(&f->lab);
		assert_true(recall(f, HAUL_EUCLIDEAN) >= 0.95);
		assert_true(of->filled);
		given = given || graph_of(f, HAUL_EUCLIDEAN)->taken < before;
	}
	assert_true(given);
}

/* The same rows in the same order give the same graph: the same answers, bit by bit. */
static void test_hnsw__is_the_same_again(void **state)
{
	struct fixture *f = *state;

	fill(f);
	(void)recall(f, HAUL_EUCLIDEAN);
	while (vectors_step(f->lab.vectors) > 0)
		continue;
	const struct haul_near near = query_random(f, HAUL_EUCLIDEAN);
	near_all(f, near, f->got);
	vectors_let_go(&f->lab.vectors->index[0]);
	near_all(f, near, f->exact);
	while (vectors_step(f->lab.vectors) > 0)
		continue;
	assert_int_equal(graph_of(f, HAUL_EUCLIDEAN)->taken, NODES);
	near_all(f, near, f->exact);
	for (uint32_t i = 0; i < QUERIES * K; i++) {
		assert_int_equal(f->got[i].node, f->exact[i].node);
		assert_true(f->got[i].distance == f->exact[i].distance);
	}
}

#define TEST(name, open) cmocka_unit_test_setup_teardown(name, open, close_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_hnsw__finds_nearly_all_that_is_nearest, open_all),
		TEST(test_hnsw__never_finds_what_was_deleted, open_all),
		TEST(test_hnsw__finds_what_is_left_of_a_cluster, open_all),
		TEST(test_hnsw__stands_rows_that_are_all_alike, open_all),
		TEST(test_hnsw__compares_all_when_too_few_are_found, open_all),
		TEST(test_hnsw__is_left_out_without_memory, open_tight),
		TEST(test_hnsw__gives_its_memory_to_rows, open_close),
		TEST(test_hnsw__is_the_same_again, open_all),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
