#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include "store/reader_lab.h"
#include "store/reader_store.h"

enum { IDS = 24, TYPES = 3, DISCS = 2, EDGES = IDS * IDS * TYPES * DISCS, ALL = 2 * EDGES };

struct fixture {
	struct reader_lab lab; /* first: reader_lab_teardown */
	struct prng prng;
	/* by src, type, disc, dst */
	struct reader_lab_edge edge[IDS + 1][TYPES][DISCS][IDS + 1];
	struct reader_lab_edge *wanted[ALL];
	struct haul_edge got[ALL];
	struct haul_visit visits[ALL];
	struct haul_edge_id ids[ALL];
	int32_t statuses[ALL];
};

static int open_all(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_non_null(f);
	test_prng(&f->prng);
	const struct reader_lab_options options = { .seed = prng_next(&f->prng),
						    .reader_bytes = READER_BYTES_MIN };
	reader_lab_init(&f->lab, &options);
	for (uint32_t src = 1; src <= IDS; src++) {
		for (uint32_t i = 0; i < TYPES * DISCS * (IDS + 1); i++) {
			const uint32_t dst = i % (IDS + 1), disc = i / (IDS + 1) % DISCS;
			const uint32_t type = i / (IDS + 1) / DISCS;
			f->edge[src][type][disc][dst].id = (struct haul_edge_id){
				.src = src, .dst = dst, .type = type, .disc = disc
			};
		}
	}
	*state = f;
	return 0;
}

static void edges_random(struct fixture *f, uint32_t changes, uint32_t bytes_max)
{
	for (uint32_t i = 0; i < changes; i++) {
		struct reader_lab_edge *edge =
			&f->edge[1 + prng_below(&f->prng, IDS)][prng_below(&f->prng, TYPES)]
				[prng_below(&f->prng, DISCS)][1 + prng_below(&f->prng, IDS)];
		(void)reader_lab_frame(&f->lab);
		if (prng_below(&f->prng, 3) == 0) {
			reader_lab_edge_drop(&f->lab, edge);
			continue;
		}
		edge->bytes = prng_below(&f->prng, 8) == 0 ? prng_below(&f->prng, bytes_max) : 5;
		reader_lab_edge(&f->lab, edge);
	}
	(void)reader_lab_frame(&f->lab);
}

/* ---- edges ---- */

/* Each name gets its own edge or -ENOENT; the two ends are not mixed up. */
static void test_reader_graph__gets_edges_by_name(void **state)
{
	struct fixture *f = *state;
	const uint32_t count = 3000;

	edges_random(f, 600, 9000);
	for (uint32_t i = 0; i < count; i++)
		f->ids[i] = (struct haul_edge_id){ .src = 1 + prng_below(&f->prng, IDS),
						   .dst = 1 + prng_below(&f->prng, IDS),
						   .type = prng_below(&f->prng, TYPES),
						   .disc = prng_below(&f->prng, DISCS) };
	for (uint32_t done = 0; done < count;) {
		const int got = haul_reader_get_edges(f->lab.reader, f->ids + done, count - done,
						      f->got, f->statuses);
		assert_true(got > 0);
		for (int i = 0; i < got; i++, done++) {
			const struct haul_edge_id *id = &f->ids[done];
			const struct reader_lab_edge *wanted =
				&f->edge[id->src][id->type][id->disc][id->dst];
			assert_int_equal(f->statuses[i], wanted->version != 0 ? 0 : -ENOENT);
			if (wanted->version != 0)
				reader_lab_expect_edge(&f->lab, wanted, &f->got[i], false);
		}
	}
}

/* A scan meets all edges once, by src, type, disc, dst. */
static void test_reader_graph__scans_edges_in_pages(void **state)
{
	struct fixture *f = *state;
	static const uint32_t pages[] = { 1, 3, 100, ALL };

	edges_random(f, 500, 9000);
	for (uint32_t p = 0; p < 4; p++) {
		struct haul_cursor cursor = { { 0 } };
		struct reader_lab_edge *wanted = &f->edge[0][0][0][0];
		struct reader_lab_edge *end = wanted + sizeof f->edge / sizeof *wanted;
		int got;
		while ((got = haul_reader_scan_edges(f->lab.reader, &cursor, f->got, pages[p])) >
		       0) {
			for (int i = 0; i < got; i++, wanted++) {
				while (wanted < end && wanted->version == 0)
					wanted++;
				assert_true(wanted < end);
				reader_lab_expect_edge(&f->lab, wanted, &f->got[i], false);
			}
		}
		assert_int_equal(got, 0);
		for (; wanted < end; wanted++)
			assert_int_equal(wanted->version, 0);
	}
}

/* ---- neighbours ---- */

/* Edges of a node as a reader has to tell them; returns how many. */
static uint32_t model_neighbours(struct fixture *f, const struct haul_neighbours *query)
{
	uint32_t count = 0;

	for (uint32_t pass = 0; pass < 2; pass++) {
		const bool in = pass == 1;
		if (query->direction == (in ? HAUL_OUT : HAUL_IN))
			continue;
		for (uint32_t i = 0; i < TYPES * DISCS * (IDS + 1); i++) {
			const uint32_t end = i % (IDS + 1), disc = i / (IDS + 1) % DISCS;
			const uint32_t type = i / (IDS + 1) / DISCS;
			if (query->type != HAUL_ANY && query->type != type)
				continue;
			/* An edge to itself is told once. */
			if (in && query->direction == HAUL_BOTH && end == query->node)
				continue;
			struct reader_lab_edge *edge = in ? &f->edge[end][type][disc][query->node]
							  : &f->edge[query->node][type][disc][end];
			if (edge->version != 0)
				f->wanted[count++] = edge;
		}
	}
	return count;
}

static void expect_neighbours(struct fixture *f, struct haul_neighbours query, uint32_t page)
{
	const uint32_t count = model_neighbours(f, &query);
	uint32_t at = 0;
	int got;

	while ((got = haul_reader_neighbours(f->lab.reader, &query, f->got, page)) > 0) {
		assert_true((uint32_t)got <= page);
		for (int i = 0; i < got; i++, at++) {
			assert_true(at < count);
			reader_lab_expect_edge(&f->lab, f->wanted[at], &f->got[i], query.bare);
		}
	}
	assert_int_equal(got, 0);
	assert_int_equal(at, count);
	assert_int_equal(haul_reader_neighbours(f->lab.reader, &query, f->got, page), 0);
}

/* Every direction, type and size of page tells the same edges in the same order, with the
 * properties that stand in the row of the other direction, or bare. */
static void test_reader_graph__tells_neighbours_both_ways(void **state)
{
	struct fixture *f = *state;
	static const uint32_t pages[] = { 1, 2, 5, 64, ALL };

	for (uint32_t round = 0; round < 3; round++) {
		edges_random(f, 400, 12000);
		if (round == 1)
			assert_int_equal(lsm_lab_flush(&f->lab.lsm), 0);
		for (uint32_t i = 0; i < 3 * 3 * 2 * 5; i++) {
			const struct haul_neighbours query = {
				.node = 1 + prng_below(&f->prng, IDS),
				.direction = (enum haul_direction)(i % 3),
				.type = i / 3 % 3,
				.bare = i / 9 % 2 == 0,
			};
			expect_neighbours(f, query, pages[i / 18]);
		}
	}
	expect_neighbours(f, (struct haul_neighbours){ .node = IDS, .direction = HAUL_BOTH }, ALL);
	const struct haul_neighbours nobody = { .node = 12345, .direction = HAUL_BOTH };
	struct haul_neighbours query = nobody;
	assert_int_equal(haul_reader_neighbours(f->lab.reader, &query, f->got, 9), 0);
}

/* A cursor that came from elsewhere leads to no other node and no other type. */
static void test_reader_graph__bounds_a_strange_cursor(void **state)
{
	struct fixture *f = *state;

	edges_random(f, 800, 10);
	for (uint32_t i = 0; i < 500; i++) {
		struct haul_neighbours query = { .node = 1 + prng_below(&f->prng, IDS),
						 .direction = (enum haul_direction)(i % 3),
						 .type = i / 3 % 3 };
		query.cursor = (struct haul_cursor){
			{ prng_below(&f->prng, 6), prng_below(&f->prng, IDS + 2),
			  (uint64_t)prng_below(&f->prng, 4) << 32, prng_below(&f->prng, IDS + 2) }
		};
		const int got = haul_reader_neighbours(f->lab.reader, &query, f->got, ALL);
		assert_true(got >= 0);
		for (int e = 0; e < got; e++) {
			assert_true(f->got[e].id.src == query.node ||
				    f->got[e].id.dst == query.node);
			assert_true(query.type == HAUL_ANY || f->got[e].id.type == query.type);
		}
	}
}

/* A row of the other direction that is missing is damage, and said to be. */
static void test_reader_graph__tells_an_edge_of_one_direction(void **state)
{
	struct fixture *f = *state;
	struct haul_neighbours query = { .node = 2, .direction = HAUL_IN };
	const struct tree_row row = { .bytes = 0 };

	reader_lab_row(&f->lab, TREE_IN, (struct tree_key){ { 2, 0, 1 } }, &row);
	(void)reader_lab_frame(&f->lab);
	assert_int_equal(haul_reader_neighbours(f->lab.reader, &query, f->got, 9), HAUL_ECORRUPT);
	query.bare = true;
	assert_int_equal(haul_reader_neighbours(f->lab.reader, &query, f->got, 9), 1);
}

/* ---- along edges ---- */

/* Breadth first, the plain way. Returns how many were visited, all of them. */
static uint32_t model_traverse(struct fixture *f, const struct haul_traverse *query,
			       struct haul_visit *visits)
{
	uint32_t count = 0;
	bool seen[IDS + 1] = { false };

	visits[count++] = (struct haul_visit){ .node = query->start };
	seen[query->start] = true;
	for (uint32_t at = 0; at < count && visits[at].depth < query->depth_max; at++) {
		const struct haul_neighbours from = { .node = visits[at].node,
						      .direction = query->direction,
						      .type = query->type };
		const uint32_t edges = model_neighbours(f, &from);
		for (uint32_t e = 0; e < edges; e++) {
			const struct haul_edge_id *id = &f->wanted[e]->id;
			const uint64_t to = id->src == from.node ? id->dst : id->src;
			if (seen[to])
				continue;
			seen[to] = true;
			visits[count++] = (struct haul_visit){ .node = to,
							       .from = from.node,
							       .depth = visits[at].depth + 1,
							       .type = id->type };
		}
	}
	return count;
}

/* All that is within reach, in the order found, with how it was reached; fewer columns get the
 * first of them and are told so. */
static void test_reader_graph__traverses_breadth_first(void **state)
{
	struct fixture *f = *state;
	struct haul_visit wanted[IDS + 1];

	for (uint32_t i = 0; i < 400; i++) {
		if (i % 20 == 0)
			edges_random(f, 30, 100);
		const struct haul_traverse query = { .start = 1 + prng_below(&f->prng, IDS),
						     .direction = (enum haul_direction)(i % 3),
						     .type = i / 3 % 3,
						     .depth_max = 1 + prng_below(&f->prng, 6) };
		const uint32_t count = model_traverse(f, &query, wanted);
		const uint32_t max = 1 + prng_below(&f->prng, IDS + 4);
		bool complete = false;
		const int got =
			haul_reader_traverse(f->lab.reader, &query, f->visits, max, &complete);
		assert_int_equal(got, count < max ? count : max);
		assert_int_equal(complete, count <= max);
		for (int v = 0; v < got; v++) {
			assert_int_equal(f->visits[v].node, wanted[v].node);
			assert_int_equal(f->visits[v].from, wanted[v].from);
			assert_int_equal(f->visits[v].depth, wanted[v].depth);
			assert_int_equal(f->visits[v].type, wanted[v].type);
		}
	}
}

/* A star of so many rays. */
static void star_make(struct fixture *f, uint32_t rays)
{
	const struct tree_row row = { .bytes = 0 };

	for (uint32_t i = 0; i < rays; i++) {
		reader_lab_row(&f->lab, TREE_OUT, (struct tree_key){ { 1, 0, 1000 + i } }, &row);
		reader_lab_row(&f->lab, TREE_IN, (struct tree_key){ { 1000 + i, 0, 1 } }, &row);
		if (i % 256 == 255)
			(void)reader_lab_frame(&f->lab);
	}
	(void)reader_lab_frame(&f->lab);
}

/* Over the limit of visits, its own or that of the memory, it is an error and not a part that looks
 * like all; columns that end before are none. */
static void test_reader_graph__says_when_visits_are_too_many(void **state)
{
	struct fixture *f = *state;
	struct reader_store *store = reader_store_of(f->lab.reader);
	struct haul_traverse query = { .start = 1, .depth_max = 2, .visits_max = 100 };
	bool complete = true;

	star_make(f, 3000);
	assert_int_equal(haul_reader_traverse(f->lab.reader, &query, f->visits, ALL, &complete),
			 HAUL_ELIMIT);
	assert_true(complete);
	assert_int_equal(haul_reader_traverse(f->lab.reader, &query, f->visits, 100, &complete),
			 100);
	assert_false(complete);
	query.visits_max = 3001;
	assert_int_equal(haul_reader_traverse(f->lab.reader, &query, f->visits, ALL, &complete),
			 3001);
	assert_true(complete);
	query.visits_max = 0;
	assert_int_equal(haul_reader_traverse(f->lab.reader, &query, f->visits, ALL, &complete),
			 3001);
	const uint64_t bytes = store->work_bytes;
	store->work_bytes = 4096 * sizeof(uint32_t);
	assert_int_equal(haul_reader_traverse(f->lab.reader, &query, f->visits, ALL, &complete),
			 HAUL_ELIMIT);
	const struct haul_path path = {
		.src = 1, .dst = 999, .direction = HAUL_BOTH, .depth_max = 3
	};
	const struct haul_path loose = { .src = 1, .dst = 1005, .depth_max = 3 };
	uint64_t nodes[8];
	assert_int_equal(haul_reader_path(f->lab.reader, &loose, nodes, 8), 2);
	/* 999 is a leaf of nothing: from there no step leads on. */
	assert_int_equal(haul_reader_path(f->lab.reader, &path, nodes, 8), HAUL_ELIMIT);
	store->work_bytes = bytes;
	assert_int_equal(haul_reader_path(f->lab.reader, &path, nodes, 8), 0);
}

/* ---- paths ---- */

static int model_depth(struct fixture *f, const struct haul_path *query, struct haul_visit *visits)
{
	const struct haul_traverse all = { .start = query->src,
					   .direction = query->direction,
					   .type = query->type,
					   .depth_max = 64 };
	const uint32_t count = model_traverse(f, &all, visits);

	for (uint32_t i = 0; i < count; i++) {
		if (visits[i].node == query->dst)
			return (int)visits[i].depth;
	}
	return -1;
}

static bool model_linked(struct fixture *f, const struct haul_path *query, uint64_t a, uint64_t b)
{
	const struct haul_neighbours from = { .node = a,
					      .direction = query->direction,
					      .type = query->type };
	const uint32_t edges = model_neighbours(f, &from);

	for (uint32_t e = 0; e < edges; e++) {
		const struct haul_edge_id *id = &f->wanted[e]->id;
		if ((id->src == a ? id->dst : id->src) == b)
			return true;
	}
	return false;
}

/* A path is as short as any, leads along edges of the direction and type asked for, and is not
 * found if it is longer than allowed. */
static void test_reader_graph__finds_shortest_paths(void **state)
{
	struct fixture *f = *state;
	struct haul_visit visits[IDS + 1];
	uint64_t nodes[IDS + 1];
	uint32_t found = 0, none = 0;

	for (uint32_t i = 0; i < 900; i++) {
		if (i % 30 == 0)
			edges_random(f, 12, 100);
		const struct haul_path query = { .src = 1 + prng_below(&f->prng, IDS),
						 .dst = 1 + prng_below(&f->prng, IDS),
						 .direction = (enum haul_direction)(i % 3),
						 .type = i / 3 % 3,
						 .depth_max = 1 + prng_below(&f->prng, 8) };
		const int depth = model_depth(f, &query, visits);
		const int got = haul_reader_path(f->lab.reader, &query, nodes, IDS + 1);
		if (depth < 0 || (uint32_t)depth > query.depth_max) {
			assert_int_equal(got, 0);
			none++;
			continue;
		}
		found++;
		assert_int_equal(got, depth + 1);
		assert_int_equal(nodes[0], query.src);
		assert_int_equal(nodes[depth], query.dst);
		for (int n = 0; n < depth; n++)
			assert_true(model_linked(f, &query, nodes[n], nodes[n + 1]));
		if (depth > 0)
			assert_int_equal(
				haul_reader_path(f->lab.reader, &query, nodes, (uint32_t)depth),
				HAUL_EFULL);
	}
	assert_true(found > 0 && none > 0);
}

/* What cannot be read ends a traversal: the part that was found is not given as all. */
static void test_reader_graph__tells_what_cannot_be_read(void **state)
{
	struct fixture *f = *state;
	const struct haul_traverse query = { .start = 1, .direction = HAUL_BOTH, .depth_max = 9 };
	const struct haul_path path = { .src = 1, .dst = 12345, .depth_max = 9 };
	struct haul_neighbours neighbours = { .node = 1, .direction = HAUL_BOTH };
	const struct haul_cursor start = neighbours.cursor;
	uint64_t nodes[IDS];
	bool complete = true;

	for (uint32_t dst = 1; dst <= IDS; dst++) {
		struct reader_lab_edge *edge = &f->edge[1][0][0][dst];
		edge->bytes = 2000;
		reader_lab_edge(&f->lab, edge);
	}
	(void)reader_lab_frame(&f->lab);
	assert_int_equal(lsm_lab_flush(&f->lab.lsm), 0);
	haul_reader_close(f->lab.reader);
	lsm_lab_close(&f->lab.lsm);
	assert_int_equal(lsm_lab_open(&f->lab.lsm), 0);
	lsm_lab_publish(&f->lab.lsm, f->lab.lsm.place.op);
	assert_int_equal(reader_store_new(&f->lab.reader, f->lab.lsm.lsm, f->lab.vectors, 1 << 20),
			 0);
	vfs_sim_fail(f->lab.lsm.sim, VFS_SIM_READ, 0, 1000, -EIO);
	assert_int_equal(haul_reader_traverse(f->lab.reader, &query, f->visits, ALL, &complete),
			 -EIO);
	assert_int_equal(haul_reader_path(f->lab.reader, &path, nodes, IDS), -EIO);
	assert_int_equal(haul_reader_neighbours(f->lab.reader, &neighbours, f->got, ALL), -EIO);
	assert_memory_equal(&neighbours.cursor, &start, sizeof start);
	vfs_sim_fail(f->lab.lsm.sim, VFS_SIM_READ, 0, 0, -EIO);
	assert_int_equal(haul_reader_neighbours(f->lab.reader, &neighbours, f->got, ALL), IDS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, reader_lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reader_graph__gets_edges_by_name),
		TEST(test_reader_graph__scans_edges_in_pages),
		TEST(test_reader_graph__tells_neighbours_both_ways),
		TEST(test_reader_graph__bounds_a_strange_cursor),
		TEST(test_reader_graph__tells_an_edge_of_one_direction),
		TEST(test_reader_graph__traverses_breadth_first),
		TEST(test_reader_graph__says_when_visits_are_too_many),
		TEST(test_reader_graph__finds_shortest_paths),
		TEST(test_reader_graph__tells_what_cannot_be_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
