/* Calls that take long while others write: what they tell is of one state, and writers find memory
 * tables free. The writer works between two pieces of a walk, in the same thread: calls of lsm_walk
 * come through here (--wrap). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/reader_lab.h"
#include "store/reader_store.h"
#include "store/vectors_state.h"

enum {
	NODES = 7000,
	FLOATS = 64,
	QUERIES = 9,
	K = 10,
	RING = 500, /* nodes with edges; those of type 1 are a ring and stay */
	/* A snapshot looks for a newer view at least once in so much work. */
	WORK_LOOKED = 300 << 10,
	WORK_OPEN = 16 << 10,
	WORK_ROW = 64,
};

struct fixture {
	struct reader_lab lab;
	struct prng prng;
	struct vectors *none; /* no memory: the tree is compared */
	struct haul_reader *plain;
	struct reader_lab_edge edge[RING][4];
	float vector[FLOATS];
	float queries[QUERIES * FLOATS];
	struct haul_near_hit wanted[QUERIES * K], got[QUERIES * K];
	struct haul_visit visits_wanted[RING], visits[RING];
	uint64_t path[RING];
};

/* The writer: NULL while he rests. */
static struct fixture *beside;
static uint64_t work, fills;

static void embedding_random(struct fixture *f, uint64_t node)
{
	for (uint32_t i = 0; i < FLOATS; i++)
		f->vector[i] = (float)(prng_unit(&f->prng) * 2 - 1);
	reader_lab_embedding(&f->lab, &(struct haul_embedding){ .node = node,
								.dimensions = FLOATS,
								.vector = f->vector });
}

static void edge_random(struct fixture *f)
{
	struct reader_lab_edge *edge =
		&f->edge[prng_below(&f->prng, RING)][1 + prng_below(&f->prng, 3)];

	(void)reader_lab_frame(&f->lab);
	if (edge->version != 0)
		reader_lab_edge_drop(&f->lab, edge);
	else
		reader_lab_edge(&f->lab, edge);
}

/* Until a memory table is full and frozen. */
static void fill(struct fixture *f)
{
	const struct lsm_memory *before = f->lab.lsm.lsm->active;

	while (f->lab.lsm.lsm->active == before) {
		for (uint32_t i = 0; i < 8; i++) {
			const uint64_t node = 1 + prng_below(&f->prng, NODES);
			if (i % 2 == 0)
				embedding_random(f, node);
			else
				reader_lab_embedding_drop(&f->lab, 0, node);
			edge_random(f);
		}
		(void)reader_lab_frame(&f->lab);
	}
}

static uint32_t tables_free(const struct fixture *f)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < LSM_MEMORIES; i++)
		count += f->lab.lsm.lsm->memory[i].holds == 0;
	return count;
}

/* A reader that still held what it began with would hold both other tables. */
static void write_beside(void)
{
	struct fixture *f = beside;

	if (f == NULL || work < WORK_LOOKED)
		return;
	beside = NULL;
	work = 0;
	if (fills++ > 0)
		assert_true(tables_free(f) > 0);
	else
		assert_int_equal(tables_free(f), 1);
	assert_int_equal(lsm_lab_settle(&f->lab.lsm), 0);
	fill(f);
	assert_int_equal(lsm_lab_settle(&f->lab.lsm), 0);
	if (fills % 3 == 0) {
		lsm_compact(f->lab.lsm.lsm);
		assert_int_equal(lsm_lab_settle(&f->lab.lsm), 0);
	}
	beside = f;
}

int __real_lsm_walk_open(struct lsm_walk **ret_walk, struct lsm_view *view,
			 const struct lsm_walk_options *options);
int __wrap_lsm_walk_open(struct lsm_walk **ret_walk, struct lsm_view *view,
			 const struct lsm_walk_options *options);
int __wrap_lsm_walk_open(struct lsm_walk **ret_walk, struct lsm_view *view,
			 const struct lsm_walk_options *options)
{
	work += WORK_OPEN;
	return __real_lsm_walk_open(ret_walk, view, options);
}

int __real_lsm_walk_next(struct lsm_walk *walk, struct rows *ret_rows);
int __wrap_lsm_walk_next(struct lsm_walk *walk, struct rows *ret_rows);
int __wrap_lsm_walk_next(struct lsm_walk *walk, struct rows *ret_rows)
{
	write_beside();
	const int more = __real_lsm_walk_next(walk, ret_rows);
	if (more > 0)
		work += ret_rows->count * WORK_ROW + ret_rows->end[ret_rows->count - 1];
	return more;
}

/* What stands now is a memory table that is not flushed, and one that is written. */
static void writer_begin(struct fixture *f)
{
	fill(f);
	assert_int_equal(lsm_lab_settle(&f->lab.lsm), 0);
	fill(f);
	embedding_random(f, 1);
	(void)reader_lab_frame(&f->lab);
	assert_non_null(f->lab.lsm.lsm->frozen);
	work = fills = 0;
}

static void writer_end(uint64_t fills_min)
{
	beside = NULL;
	assert_true(fills >= fills_min);
}

static int open_all(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_non_null(f);
	test_prng(&f->prng);
	const struct reader_lab_options options = { .seed = prng_next(&f->prng),
						    .vectors_bytes = 8 << 20,
						    .memtable_bytes = 64 << 10 };
	reader_lab_init(&f->lab, &options);
	assert_int_equal(vectors_new(&f->none, 0), 0);
	assert_int_equal(reader_store_new(&f->plain, f->lab.lsm.lsm, f->none, 0), 0);
	for (uint64_t node = 1; node <= NODES; node++)
		embedding_random(f, node);
	for (uint32_t i = 0; i < RING * 4; i++) {
		struct reader_lab_edge *edge = &f->edge[i / 4][i % 4];
		const uint64_t to = i % 4 == 0 ? i / 4 + 1 : prng_below(&f->prng, RING);
		edge->id = (struct haul_edge_id){ .src = 1 + i / 4,
						  .dst = 1 + to % RING,
						  .type = 1 + i % 4 };
		edge->bytes = 20;
		if (i % 4 == 0 || i % 8 < 4)
			reader_lab_edge(&f->lab, edge);
	}
	(void)reader_lab_frame(&f->lab);
	for (uint32_t i = 0; i < QUERIES * FLOATS; i++)
		f->queries[i] = (float)(prng_unit(&f->prng) * 2 - 1);
	*state = f;
	return 0;
}

static int close_all(void **state)
{
	struct fixture *f = *state;

	beside = NULL;
	haul_reader_close(f->plain);
	vectors_free(f->none);
	reader_lab_done(&f->lab);
	free(f);
	return 0;
}

static void near(struct fixture *f, struct haul_reader *reader, struct haul_near_hit *hits)
{
	const struct haul_near query = {
		.dimensions = FLOATS, .k = K, .count = QUERIES, .vectors = f->queries
	};

	assert_int_equal(haul_reader_near(reader, &query, hits), QUERIES);
}

/* The embeddings are compared where they lie, or a set of them is filled, while memory tables are
 * filled, flushed and merged: the nearest are those of the state at the beginning, and the writer
 * always has a table to go on in. */
static void test_snapshot__finds_what_is_nearest_beside_a_writer(void **state)
{
	struct fixture *f = *state;
	struct haul_reader *readers[] = { f->plain, f->lab.reader };

	for (uint32_t i = 0; i < 2; i++) {
		writer_begin(f);
		near(f, f->plain, f->wanted);
		work = 0;
		beside = f;
		near(f, readers[i], f->got);
		writer_end(3);
		assert_memory_equal(f->got, f->wanted, sizeof f->got);
		near(f, f->plain, f->wanted);
		near(f, readers[i], f->got);
		assert_memory_equal(f->got, f->wanted, sizeof f->got);
	}
	assert_true(f->lab.vectors->index[0].filled);
}

/* A traversal and a path from node to node, each of which may be far from what was read before. */
static void test_snapshot__goes_along_edges_beside_a_writer(void **state)
{
	struct fixture *f = *state;
	const struct haul_traverse query = { .start = 1, .depth_max = 64 };
	const struct haul_path path = { .src = 1, .dst = RING - 99, .type = 1, .depth_max = RING };
	bool complete = false;

	writer_begin(f);
	const int count = haul_reader_traverse(f->plain, &query, f->visits_wanted, RING, &complete);
	assert_int_equal(count, RING);
	work = 0;
	beside = f;
	assert_int_equal(haul_reader_traverse(f->plain, &query, f->visits, RING, &complete), count);
	writer_end(3);
	assert_memory_equal(f->visits, f->visits_wanted, (size_t)count * sizeof f->visits[0]);

	writer_begin(f);
	beside = f;
	assert_int_equal(haul_reader_path(f->plain, &path, f->path, RING), RING - 99);
	writer_end(3);
	for (uint32_t i = 0; i < RING - 99; i++)
		assert_int_equal(f->path[i], i + 1);
}

/* A pinned reader's long page goes over to newer views, too, and leaves nothing out. */
static void test_snapshot__scans_a_pinned_state_beside_a_writer(void **state)
{
	struct fixture *f = *state;
	static struct haul_embedding before[NODES], after[NODES];
	static float vectors[NODES][FLOATS];
	struct haul_cursor cursor = { { 0 } };

	assert_int_equal(haul_reader_pin(f->plain), 0);
	const int count = haul_reader_scan_embeddings(f->plain, &cursor, before, NODES);
	assert_true(count > NODES / 2);
	for (int i = 0; i < count; i++)
		memcpy(vectors[i], before[i].vector, sizeof vectors[i]);
	cursor = (struct haul_cursor){ { 0 } };
	writer_begin(f);
	beside = f;
	assert_int_equal(haul_reader_scan_embeddings(f->plain, &cursor, after, NODES), count);
	writer_end(3);
	for (int i = 0; i < count; i++) {
		assert_int_equal(after[i].node, before[i].node);
		assert_int_equal(after[i].version, before[i].version);
		assert_memory_equal(after[i].vector, vectors[i], sizeof vectors[i]);
	}
	assert_int_equal(haul_reader_scan_embeddings(f->plain, &cursor, after, NODES), 0);
	haul_reader_unpin(f->plain);
}

/* When all pins are taken a long call has to keep its view: it is right all the same, and the pins
 * of others stay. */
static void test_snapshot__does_without_a_pin(void **state)
{
	struct fixture *f = *state;
	uint64_t ops[LSM_PINS], none;

	near(f, f->plain, f->wanted);
	for (uint32_t i = 0; i < LSM_PINS; i++)
		assert_int_equal(lsm_pin(f->lab.lsm.lsm, &ops[i]), 0);
	near(f, f->plain, f->got);
	assert_memory_equal(f->got, f->wanted, sizeof f->got);
	assert_int_equal(lsm_pin(f->lab.lsm.lsm, &none), -EBUSY);
	lsm_unpin(f->lab.lsm.lsm, ops[0]);
	near(f, f->plain, f->got);
	assert_int_equal(lsm_pin(f->lab.lsm.lsm, &ops[0]), 0);
	for (uint32_t i = 0; i < LSM_PINS; i++)
		lsm_unpin(f->lab.lsm.lsm, ops[i]);
}

/* The next key is the next number of all words together, and there is none behind the last. */
static void test_tree__knows_the_key_behind(void **state)
{
	struct tree_key key = { { 5, UINT64_MAX, 0 } };

	(void)state;
	assert_true(tree_key_next(TREE_EMBEDDING, &key));
	assert_int_equal(key.word[0], 6);
	assert_int_equal(key.word[1], 0);
	assert_int_equal(key.word[2], 0);
	key = (struct tree_key){ { UINT64_MAX, UINT64_MAX, 0 } };
	assert_false(tree_key_next(TREE_EMBEDDING, &key));
	assert_int_equal(key.word[0], UINT64_MAX);
	assert_true(tree_key_next(TREE_OUT, &key));
	assert_int_equal(key.word[2], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_snapshot__finds_what_is_nearest_beside_a_writer, open_all, close_all),
		cmocka_unit_test_setup_teardown(test_snapshot__goes_along_edges_beside_a_writer,
						open_all, close_all),
		cmocka_unit_test_setup_teardown(test_snapshot__scans_a_pinned_state_beside_a_writer,
						open_all, close_all),
		cmocka_unit_test_setup_teardown(test_snapshot__does_without_a_pin, open_all,
						close_all),
		cmocka_unit_test(test_tree__knows_the_key_behind),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
