#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include "store/exec.h"
#include "store/reader_lab.h"
#include "store/vectors_state.h"

enum { NODES = 400, FLOATS = 64, QUERIES = 40, K = 12, FEW = 3 << 20 };

/* An index as it should be. */
struct model {
	uint32_t dimensions;
	bool there[NODES + 1];
	float vector[NODES + 1][FLOATS];
};

struct fixture {
	struct reader_lab lab;
	struct prng prng;
	struct model model[2], before[2];
	float *rows;
	uint64_t ids[NODES];
	struct knn_norm norms[NODES];
	float queries[QUERIES * FLOATS];
	struct haul_near_hit got[QUERIES * K], wanted[QUERIES * K];
	void *memory;
};

static int open_with(void **state, uint64_t vectors_bytes)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_non_null(f);
	test_prng(&f->prng);
	const struct reader_lab_options options = { .seed = prng_next(&f->prng),
						    .vectors_bytes = vectors_bytes };
	reader_lab_init(&f->lab, &options);
	f->rows = aligned_alloc(64, sizeof(float) * NODES * FLOATS);
	f->memory = aligned_alloc(64, knn_bytes(QUERIES, FLOATS));
	assert_non_null(f->rows);
	assert_non_null(f->memory);
	f->model[0].dimensions = 17;
	f->model[1].dimensions = FLOATS;
	*state = f;
	return 0;
}

static int open_all(void **state)
{
	return open_with(state, 8 << 20);
}

static int open_without(void **state)
{
	return open_with(state, 0);
}

static int open_tight(void **state)
{
	return open_with(state, 3 * VECTOR_CHUNK);
}

static int close_all(void **state)
{
	struct fixture *f = *state;

	reader_lab_done(&f->lab);
	free(f->rows);
	free(f->memory);
	free(f);
	return 0;
}

static void set_random(struct fixture *f, uint32_t index, uint64_t node)
{
	struct model *model = &f->model[index];

	for (uint32_t i = 0; i < model->dimensions; i++)
		model->vector[node][i] = (float)(prng_unit(&f->prng) * 2 - 1);
	model->there[node] = true;
	reader_lab_embedding(&f->lab, &(struct haul_embedding){ .node = node,
								.index = index,
								.dimensions = model->dimensions,
								.vector = model->vector[node] });
}

static void drop(struct fixture *f, uint32_t index, uint64_t node)
{
	f->model[index].there[node] = false;
	reader_lab_embedding_drop(&f->lab, index, node);
}

static void changes_random(struct fixture *f, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t index = prng_below(&f->prng, 2);
		const uint64_t node = 1 + prng_below(&f->prng, NODES);
		if (prng_below(&f->prng, 3) == 0)
			drop(f, index, node);
		else
			set_random(f, index, node);
	}
	(void)reader_lab_frame(&f->lab);
}

/* The answer, from all rows of the model. */
static void model_near(struct fixture *f, const struct haul_near *near)
{
	const struct model *model = &f->model[near->index];
	const uint32_t floats = knn_floats(model->dimensions);
	const struct knn_part part = { .near = near, .count = near->count };
	struct knn_rows rows = { .data = f->rows, .ids = f->ids, .norms = f->norms };
	struct knn knn;

	for (uint32_t node = 1; node <= NODES; node++) {
		float *row = f->rows + (size_t)rows.count * floats;
		if (!model->there[node])
			continue;
		memset(row, 0, floats * sizeof *row);
		memcpy(row, model->vector[node], model->dimensions * sizeof *row);
		f->norms[rows.count] = knn_norm(row, floats);
		f->ids[rows.count++] = node;
	}
	knn_init(&knn, knn_kernels_best(), &part, f->memory, f->wanted);
	knn_compare(&knn, &rows);
	knn_finish(&knn);
}

static void expect_near(struct fixture *f, struct haul_reader *reader, uint32_t index)
{
	const struct haul_near near = {
		.index = index,
		.dimensions = f->model[index].dimensions,
		.metric = prng_below(&f->prng, 2) == 0 ? HAUL_EUCLIDEAN : HAUL_COSINE,
		.exact = prng_below(&f->prng, 2) == 0,
		.k = 1 + prng_below(&f->prng, K),
		.count = 1 + prng_below(&f->prng, QUERIES),
		.vectors = f->queries,
	};

	for (uint32_t i = 0; i < QUERIES * FLOATS; i++)
		f->queries[i] = (float)(prng_unit(&f->prng) * 2 - 1);
	model_near(f, &near);
	assert_int_equal(haul_reader_near(reader, &near, f->got), near.count);
	for (uint32_t i = 0; i < near.count * near.k; i++) {
		assert_int_equal(f->got[i].node, f->wanted[i].node);
		assert_true(f->got[i].node == 0 || f->got[i].distance == f->wanted[i].distance);
	}
}

/* What is set, replaced and deleted is known to the next search: from memory, from the tree, or
 * from either because memory is too small for both indexes. */
static void test_vectors__finds_what_is_nearest_now(void **state)
{
	struct fixture *f = *state;

	expect_near(f, f->lab.reader, 0);
	for (uint32_t round = 0; round < 40; round++) {
		changes_random(f, prng_below(&f->prng, round % 4 == 0 ? 600 : 30));
		if (round % 5 == 0)
			assert_int_equal(lsm_lab_settle(&f->lab.lsm), 0);
		expect_near(f, f->lab.reader, 0);
		expect_near(f, f->lab.reader, 1);
		expect_near(f, f->lab.reader, round % 2);
	}
	for (uint32_t node = 1; node <= NODES; node++)
		drop(f, 0, node);
	(void)reader_lab_frame(&f->lab);
	expect_near(f, f->lab.reader, 0);
}

/* A set that was filled stays filled: its rows are not read again. */
static void test_vectors__keeps_a_set_in_memory(void **state)
{
	struct fixture *f = *state;
	const struct vectors_index *of = &f->lab.vectors->index[1];

	changes_random(f, 300);
	assert_false(of->filled);
	expect_near(f, f->lab.reader, 1);
	assert_true(of->filled);
	assert_int_equal(lsm_lab_flush(&f->lab.lsm), 0);
	vfs_sim_fail(f->lab.lsm.sim, VFS_SIM_READ, 0, 1000000, -EIO);
	expect_near(f, f->lab.reader, 1);
	set_random(f, 1, 7);
	(void)reader_lab_frame(&f->lab);
	expect_near(f, f->lab.reader, 1);
	vfs_sim_fail(f->lab.lsm.sim, VFS_SIM_READ, 0, 0, -EIO);
}

/* Changes that are executed and not yet durable are not seen, by a set that is brought up to date
 * meanwhile either; once they are durable, they are seen. */
static void test_vectors__sees_only_what_is_durable(void **state)
{
	struct fixture *f = *state;
	static struct model after[2];

	changes_random(f, 200);
	expect_near(f, f->lab.reader, 0);
	for (uint32_t round = 0; round < 5; round++) {
		set_random(f, 0, 100 + round);
		const uint64_t durable = reader_lab_frame(&f->lab);
		memcpy(f->before, f->model, sizeof f->model);
		for (uint64_t node = 1; node < 40; node++) {
			if (prng_below(&f->prng, 2) == 0)
				drop(f, 0, node);
			else
				set_random(f, 0, node);
		}
		assert_int_equal(lsm_lab_frame(&f->lab.lsm), 0);
		f->lab.put = 0;
		assert_true(f->lab.lsm.place.op > durable);
		memcpy(after, f->model, sizeof after);
		memcpy(f->model, f->before, sizeof after);
		expect_near(f, f->lab.reader, 0);
		memcpy(f->model, after, sizeof after);
		(void)reader_lab_frame(&f->lab);
		expect_near(f, f->lab.reader, 0);
	}
}

/* A pinned reader finds what was there then, beside one that finds what is there now. */
static void test_vectors__answers_of_one_state_while_pinned(void **state)
{
	struct fixture *f = *state;
	struct haul_reader *pinned;
	static struct model now[2];

	assert_int_equal(reader_store_new(&pinned, f->lab.lsm.lsm, f->lab.vectors, 0), 0);
	changes_random(f, 500);
	expect_near(f, f->lab.reader, 0);
	assert_int_equal(haul_reader_pin(pinned), 0);
	memcpy(f->before, f->model, sizeof f->model);
	for (uint32_t round = 0; round < 5; round++) {
		changes_random(f, 200);
		assert_int_equal(lsm_lab_flush(&f->lab.lsm), 0);
		expect_near(f, f->lab.reader, 0);
		memcpy(now, f->model, sizeof now);
		memcpy(f->model, f->before, sizeof now);
		expect_near(f, pinned, 0);
		expect_near(f, pinned, 1);
		memcpy(f->model, now, sizeof now);
	}
	haul_reader_unpin(pinned);
	expect_near(f, pinned, 0);
	haul_reader_close(pinned);
}

/* More changes between two searches than are kept: the set is filled anew instead of missing some.
 */
static void test_vectors__survives_more_changes_than_are_kept(void **state)
{
	struct fixture *f = *state;

	changes_random(f, 300);
	expect_near(f, f->lab.reader, 0);
	for (uint64_t node = 1; node <= NODES / 2; node++)
		drop(f, 0, node);
	for (uint64_t node = NODES / 2 + 1; node <= NODES; node++)
		set_random(f, 0, node);
	for (uint32_t i = 0; i < VECTORS_STAGED_MAX; i++)
		vectors_stage(f->lab.vectors, reader_lab_op(&f->lab), 1, 1 + i % NODES);
	(void)reader_lab_frame(&f->lab);
	expect_near(f, f->lab.reader, 0);
	expect_near(f, f->lab.reader, 1);
}

/* Queries of another length than the index has are refused; an index that became empty may get
 * another. */
static void test_vectors__knows_the_dimensions_of_an_index(void **state)
{
	struct fixture *f = *state;
	struct haul_near near = { .dimensions = 18, .k = 1, .count = 1, .vectors = f->queries };

	set_random(f, 0, 3);
	set_random(f, 0, 4);
	(void)reader_lab_frame(&f->lab);
	assert_int_equal(haul_reader_near(f->lab.reader, &near, f->got), -EINVAL);
	near.dimensions = 17;
	assert_int_equal(haul_reader_near(f->lab.reader, &near, f->got), 1);
	drop(f, 0, 3);
	drop(f, 0, 4);
	(void)reader_lab_frame(&f->lab);
	f->model[0].dimensions = 33;
	for (uint64_t node = 1; node < 30; node++)
		set_random(f, 0, node);
	(void)reader_lab_frame(&f->lab);
	assert_int_equal(haul_reader_near(f->lab.reader, &near, f->got), -EINVAL);
	expect_near(f, f->lab.reader, 0);
	/* The only one is replaced by one of other dimensions: as it is allowed to be. */
	for (uint64_t node = 2; node < 30; node++)
		drop(f, 0, node);
	(void)reader_lab_frame(&f->lab);
	expect_near(f, f->lab.reader, 0);
	f->model[0].dimensions = 5;
	set_random(f, 0, 1);
	(void)reader_lab_frame(&f->lab);
	expect_near(f, f->lab.reader, 0);
}

/* Damage and errors of the tree are told; nothing of a set that could not be filled is used. */
static void test_vectors__tells_what_cannot_be_read(void **state)
{
	struct fixture *f = *state;
	const struct haul_near near = {
		.dimensions = 17, .k = 1, .count = 1, .vectors = f->queries
	};
	const uint8_t wrong[7] = { 17 };
	const struct tree_row row = { .value = wrong, .bytes = sizeof wrong };

	changes_random(f, 600);
	assert_int_equal(lsm_lab_flush(&f->lab.lsm), 0);
	haul_reader_close(f->lab.reader);
	lsm_lab_close(&f->lab.lsm);
	assert_int_equal(lsm_lab_open(&f->lab.lsm), 0);
	lsm_lab_publish(&f->lab.lsm, f->lab.lsm.place.op);
	assert_int_equal(reader_store_new(&f->lab.reader, f->lab.lsm.lsm, f->lab.vectors, 0), 0);
	vfs_sim_fail(f->lab.lsm.sim, VFS_SIM_READ, 0, 1000000, -EIO);
	assert_int_equal(haul_reader_near(f->lab.reader, &near, f->got), -EIO);
	vfs_sim_fail(f->lab.lsm.sim, VFS_SIM_READ, 0, 0, -EIO);
	expect_near(f, f->lab.reader, 0);
	reader_lab_row(&f->lab, TREE_EMBEDDING, (struct tree_key){ { 0, NODES, 0 } }, &row);
	vectors_stage(f->lab.vectors, reader_lab_op(&f->lab), 0, NODES);
	(void)reader_lab_frame(&f->lab);
	assert_int_equal(haul_reader_near(f->lab.reader, &near, f->got), HAUL_ECORRUPT);
	assert_int_equal(haul_reader_near(f->lab.reader, &near, f->got), HAUL_ECORRUPT);
}

/* Queries that do not fit into the reader's memory together are answered in parts, of one state. */
static void test_vectors__answers_in_parts(void **state)
{
	struct fixture *f = *state;
	const uint32_t dimensions = HAUL_DIMENSIONS_MAX, count = 200;
	float *vectors = calloc((size_t)dimensions * count, sizeof *vectors);
	struct haul_near_hit *hits = calloc(count, sizeof *hits);
	struct haul_reader *small;

	assert_non_null(vectors);
	assert_non_null(hits);
	assert_int_equal(reader_store_new(&small, f->lab.lsm.lsm, f->lab.vectors, 1), 0);
	for (uint32_t i = 0; i < count; i++) {
		vectors[(size_t)i * dimensions + i * 7] = 1;
		reader_lab_embedding(&f->lab, &(struct haul_embedding){
						      .node = 1000 + i,
						      .index = 9,
						      .dimensions = dimensions,
						      .vector = vectors + (size_t)i * dimensions });
	}
	(void)reader_lab_frame(&f->lab);
	const struct haul_near near = { .index = 9,
					.dimensions = dimensions,
					.metric = HAUL_COSINE,
					.k = 1,
					.count = count,
					.vectors = vectors };
	for (int round = 0; round < 2; round++) {
		assert_int_equal(haul_reader_near(small, &near, hits), count);
		for (uint32_t i = 0; i < count; i++) {
			assert_int_equal(hits[i].node, 1000 + i);
			assert_true(hits[i].distance == 0);
		}
		/* … and from the tree. */
		if (round == 0)
			assert_int_equal(haul_reader_pin(small), 0);
	}
	haul_reader_close(small);
	free(vectors);
	free(hits);
}

/* A set for which there is no memory gets it when another has not been searched for longest. */
static void test_vectors__gives_memory_to_who_asks(void **state)
{
	struct fixture *f = *state;
	const struct vectors *vectors = f->lab.vectors;

	changes_random(f, 400);
	expect_near(f, f->lab.reader, 0);
	assert_true(vectors->index[0].filled);
	expect_near(f, f->lab.reader, 1);
	assert_false(vectors->index[0].filled);
	assert_true(vectors->index[1].filled);
	expect_near(f, f->lab.reader, 0);
	assert_true(vectors->index[0].filled);
	assert_false(vectors->index[1].filled);
}

/* An index that cannot fit, by what the executor noted of it, takes no memory from others: it is
 * compared in the tree, also when the note says too much. */
static void test_vectors__leave_memory_to_others_when_they_cannot_fit(void **state)
{
	struct fixture *f = *state;
	const struct vectors *vectors = f->lab.vectors;
	const struct exec_index of = { .dimensions = f->model[1].dimensions,
				       .count = UINT64_C(1) << 40 };
	const struct tree_row row = { .value = (const uint8_t *)&of, .bytes = sizeof of };

	changes_random(f, 400);
	reader_lab_row(&f->lab, TREE_OF_NODE, (struct tree_key){ { 0, 1, 0 } }, &row);
	(void)reader_lab_frame(&f->lab);
	expect_near(f, f->lab.reader, 0);
	for (uint32_t i = 0; i < 3 * VECTORS_RETRY; i++) {
		expect_near(f, f->lab.reader, 1);
		assert_true(vectors->index[0].filled);
		assert_false(vectors->index[1].filled);
	}
}

/* Without memory nothing is made, and nothing is left behind. */
static void test_vectors__are_not_made_without_memory(void **state)
{
	struct vectors *vectors = NULL;

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		if (!test_malloc_fail(i))
			return;
		assert_int_equal(vectors_new(&vectors, 1 << 20), -ENOMEM);
		assert_null(vectors);
	}
	assert_int_equal(vectors_new(&vectors, 1 << 20), 0);
	assert_true(vectors_memory(vectors) >= 1 << 20);
	vectors_free(vectors);
	vectors_free(NULL);
}

#define TEST(name, open) cmocka_unit_test_setup_teardown(name, open, close_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_vectors__finds_what_is_nearest_now, open_all),
		TEST(test_vectors__finds_what_is_nearest_now, open_without),
		TEST(test_vectors__finds_what_is_nearest_now, open_tight),
		TEST(test_vectors__keeps_a_set_in_memory, open_all),
		TEST(test_vectors__sees_only_what_is_durable, open_all),
		TEST(test_vectors__sees_only_what_is_durable, open_without),
		TEST(test_vectors__answers_of_one_state_while_pinned, open_all),
		TEST(test_vectors__survives_more_changes_than_are_kept, open_all),
		TEST(test_vectors__knows_the_dimensions_of_an_index, open_all),
		TEST(test_vectors__knows_the_dimensions_of_an_index, open_without),
		TEST(test_vectors__tells_what_cannot_be_read, open_all),
		TEST(test_vectors__tells_what_cannot_be_read, open_without),
		TEST(test_vectors__answers_in_parts, open_all),
		TEST(test_vectors__gives_memory_to_who_asks, open_tight),
		TEST(test_vectors__leave_memory_to_others_when_they_cannot_fit, open_tight),
		cmocka_unit_test(test_vectors__are_not_made_without_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
