#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include "base/hash.h"
#include "store/reader_lab.h"
#include "store/vectors_state.h"

enum { NODES = 200, READERS = 3, FRAMES = 300, DIMENSIONS = 8 };

/* Each frame gives all nodes the same kind, an edge to the next of the same type, and a vector of
 * the same numbers: so a reader sees at once whether what it was told is of one state. */
struct fixture {
	struct reader_lab lab; /* first: reader_lab_teardown */
	struct prng prng;
	struct reader_lab_node node[NODES + 1];
	struct reader_lab_edge edge[NODES + 1];
	bool ended; /* atomic */
	uint32_t rounds[READERS];
};

static int open_all(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_non_null(f);
	test_prng(&f->prng);
	const struct reader_lab_options options = { .seed = prng_next(&f->prng),
						    .vectors_bytes = 16 << 20,
						    .memtable_bytes = 64 << 10 };
	reader_lab_init(&f->lab, &options);
	*state = f;
	return 0;
}

/* One frame: all of it or nothing is seen. */
static void frame_put(struct fixture *f, uint32_t number)
{
	float vector[DIMENSIONS];

	for (uint32_t i = 0; i < DIMENSIONS; i++)
		vector[i] = (float)number;
	for (uint32_t i = 1; i <= NODES; i++) {
		f->lab.put = 0; /* it stays one frame */
		reader_lab_node_drop(&f->lab, &f->node[i]);
		f->node[i] = (struct reader_lab_node){ .id = i, .kind = number, .bytes = 8 };
		reader_lab_node(&f->lab, &f->node[i]);
		f->lab.put = 0;
		reader_lab_edge_drop(&f->lab, &f->edge[i]);
		f->edge[i] = (struct reader_lab_edge){
			.id = { .src = i, .dst = i % NODES + 1, .type = number }
		};
		reader_lab_edge(&f->lab, &f->edge[i]);
		reader_lab_embedding(&f->lab, &(struct haul_embedding){ .node = i,
									.dimensions = DIMENSIONS,
									.vector = vector });
	}
	(void)reader_lab_frame(&f->lab);
}

struct told {
	struct fixture *f;
	struct haul_reader *reader;
	uint32_t number;
	bool pins;
	const char *wrong;
};

static void check_nodes(struct told *told)
{
	uint64_t ids[NODES];
	struct haul_node nodes[NODES];
	int32_t statuses[NODES];

	for (uint32_t i = 0; i < NODES; i++)
		ids[i] = NODES - i;
	if (haul_reader_get(told->reader, ids, NODES, nodes, statuses) != NODES)
		told->wrong = "not all nodes were handled";
	for (uint32_t i = 0; i < NODES && told->wrong == NULL; i++) {
		if (statuses[i] != 0 || nodes[i].id != ids[i] || nodes[i].kind != nodes[0].kind ||
		    nodes[i].version != nodes[0].version)
			told->wrong = "nodes of two states";
	}
}

static void check_visits(struct told *told)
{
	const struct haul_traverse traverse = { .start = 1, .depth_max = 64 };
	struct haul_neighbours neighbours = { .node = 7, .direction = HAUL_BOTH };
	struct haul_visit visits[NODES];
	struct haul_edge edges[4];
	bool complete = false;

	if (haul_reader_traverse(told->reader, &traverse, visits, NODES, &complete) != 65)
		told->wrong = "a ring that is open";
	for (uint32_t i = 2; i < 65 && told->wrong == NULL; i++) {
		if (visits[i].node != i + 1 || visits[i].type != visits[1].type)
			told->wrong = "edges of two states";
	}
	if (haul_reader_neighbours(told->reader, &neighbours, edges, 4) != 2 ||
	    edges[0].id.type != edges[1].id.type || edges[0].version != edges[1].version)
		told->wrong = "neighbours of two states";
}

static void check_near(struct told *told)
{
	static const float vector[DIMENSIONS * 2];
	const struct haul_near near = {
		.dimensions = DIMENSIONS, .k = NODES, .count = 2, .vectors = vector
	};
	struct haul_near_hit hits[NODES * 2];

	if (haul_reader_near(told->reader, &near, hits) != 2)
		told->wrong = "not all queries were answered";
	for (uint32_t i = 0; i < NODES * 2 && told->wrong == NULL; i++) {
		if (hits[i].node != i % NODES + 1 || hits[i].distance != hits[0].distance)
			told->wrong = "vectors of two states";
	}
}

static void *read_on(void *arg)
{
	struct told *told = arg;

	for (uint32_t round = 0;
	     told->wrong == NULL &&
	     (round < 20 || !__atomic_load_n(&told->f->ended, __ATOMIC_ACQUIRE));
	     round++) {
		if (told->pins && haul_reader_pin(told->reader) < 0)
			told->wrong = "it cannot be pinned";
		check_nodes(told);
		check_visits(told);
		check_near(told);
		if (told->pins)
			haul_reader_unpin(told->reader);
	}
	return NULL;
}

/* Readers beside a writer who flushes and merges: each call, and each pinned row of calls, sees one
 * state. */
static void test_reader_threads__see_one_state_a_call(void **state)
{
	struct fixture *f = *state;
	struct told told[READERS];
	pthread_t threads[READERS];

	frame_put(f, 1);
	for (uint32_t i = 0; i < READERS; i++) {
		told[i] = (struct told){ .f = f, .number = i, .pins = i == 1 };
		assert_int_equal(
			reader_store_new(&told[i].reader, f->lab.lsm.lsm, f->lab.vectors, 0), 0);
		assert_int_equal(pthread_create(&threads[i], NULL, read_on, &told[i]), 0);
	}
	for (uint32_t number = 2; number < FRAMES; number++) {
		frame_put(f, number);
		assert_true(lsm_step(f->lab.lsm.lsm, f->lab.lsm.place.op) >= 0);
		(void)vectors_step(f->lab.vectors);
	}
	__atomic_store_n(&f->ended, true, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < READERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		if (told[i].wrong != NULL)
			fail_msg("%s", told[i].wrong);
		haul_reader_close(told[i].reader);
	}
}

/* ---- a graph that grows ---- */

enum { MANY = VECTORS_INDEX_MIN + 200, SHORT = 4, STEPS = 400 };

static void vector_of(uint64_t node, uint32_t version, float vector[SHORT])
{
	for (uint32_t i = 0; i < SHORT; i++)
		vector[i] = (float)(int16_t)hash_u64(node * SHORT + i + version * 7919U);
}

static void vector_put(struct fixture *f, uint64_t node, uint32_t version)
{
	float vector[SHORT];

	vector_of(node, version, vector);
	reader_lab_embedding(
		&f->lab,
		&(struct haul_embedding){ .node = node, .dimensions = SHORT, .vector = vector });
}

/* Nodes that nobody changes are found where they are. */
static void *search_on(void *arg)
{
	struct told *told = arg;
	uint32_t found = 0, asked = 0;

	for (uint64_t node = 1 + told->number;
	     told->wrong == NULL &&
	     (asked < 50 || !__atomic_load_n(&told->f->ended, __ATOMIC_ACQUIRE));
	     node = node % (MANY / 2) + 1) {
		float vector[SHORT];
		struct haul_near_hit hits[4];
		const struct haul_near near = {
			.dimensions = SHORT, .k = 4, .count = 1, .vectors = vector
		};
		vector_of(node, 0, vector);
		if (haul_reader_near(told->reader, &near, hits) != 1)
			told->wrong = "it was not answered";
		asked++;
		found += hits[0].node == node && hits[0].distance == 0;
	}
	if (found * 100 < asked * 95)
		told->wrong = "what is there is not found";
	return NULL;
}

/* Searches beside a graph that grows, rows that come and go, and a set that is filled again. */
static void test_reader_threads__search_a_graph_that_grows(void **state)
{
	struct fixture *f = *state;
	struct told told[READERS];
	pthread_t threads[READERS];

	for (uint64_t node = 1; node <= MANY; node++)
		vector_put(f, node, 0);
	(void)reader_lab_frame(&f->lab);
	/* From here on there is a set, and a graph is asked for. */
	float vector[SHORT];
	struct haul_near_hit hit;
	const struct haul_near near = {
		.dimensions = SHORT, .k = 1, .count = 1, .vectors = vector
	};
	vector_of(1, 0, vector);
	assert_int_equal(haul_reader_near(f->lab.reader, &near, &hit), 1);
	for (uint32_t i = 0; i < READERS; i++) {
		told[i] = (struct told){ .f = f, .number = i };
		assert_int_equal(
			reader_store_new(&told[i].reader, f->lab.lsm.lsm, f->lab.vectors, 0), 0);
		assert_int_equal(pthread_create(&threads[i], NULL, search_on, &told[i]), 0);
	}
	/* Nobody changes the set yet: no step comes at a bad moment. */
	while (vectors_step(f->lab.vectors) > 0)
		continue;
	assert_int_equal(f->lab.vectors->index[0].graph[HAUL_EUCLIDEAN].taken, MANY);
	for (uint32_t step = 1; step <= STEPS; step++) {
		const uint64_t node = MANY / 2 + 1 + prng_below(&f->prng, MANY / 2);
		if (step % 2 == 0)
			vector_put(f, node, step);
		else
			reader_lab_embedding_drop(&f->lab, 0, node);
		(void)reader_lab_frame(&f->lab);
		(void)vectors_step(f->lab.vectors);
		if (step % 100 == 0)
			assert_true(lsm_step(f->lab.lsm.lsm, f->lab.lsm.place.op) >= 0);
	}
	__atomic_store_n(&f->ended, true, __ATOMIC_RELEASE);
	for (uint32_t i = 0; i < READERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		if (told[i].wrong != NULL)
			fail_msg("%s", told[i].wrong);
		haul_reader_close(told[i].reader);
	}
}

/* ---- interrupts ---- */

enum { INTERRUPTS = 30 };

/* Until so many calls were ended; each of the others is whole. */
static void *traverse_on(void *arg)
{
	struct told *told = arg;
	struct haul_visit visits[NODES];
	const struct haul_traverse query = { .start = 1, .depth_max = 64 };

	for (uint32_t ended = 0; ended < INTERRUPTS && told->wrong == NULL;) {
		bool complete = false;
		const int count =
			haul_reader_traverse(told->reader, &query, visits, NODES, &complete);
		ended += count == -ECANCELED;
		if (count != -ECANCELED && (count != 65 || !complete))
			told->wrong = "a call that was neither ended nor whole";
	}
	__atomic_store_n(&told->f->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

/* From another thread, at any moment: the call says so, or is whole. */
static void test_reader_threads__interrupts_a_call_under_way(void **state)
{
	struct fixture *f = *state;
	struct told told = { .f = f, .reader = f->lab.reader };
	pthread_t thread;

	frame_put(f, 1);
	assert_int_equal(pthread_create(&thread, NULL, traverse_on, &told), 0);
	while (!__atomic_load_n(&f->ended, __ATOMIC_ACQUIRE)) {
		haul_reader_interrupt(f->lab.reader);
		(void)sched_yield();
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	if (told.wrong != NULL)
		fail_msg("%s", told.wrong);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, reader_lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reader_threads__see_one_state_a_call),
		TEST(test_reader_threads__search_a_graph_that_grows),
		TEST(test_reader_threads__interrupts_a_call_under_way),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
