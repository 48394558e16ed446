#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include "store/reader_lab.h"
#include "store/reader_store.h"

enum { NODES = 300, EMBEDDINGS = 60, MANY = 6000 };

struct fixture {
	struct reader_lab lab; /* first: reader_lab_teardown */
	struct reader_lab_node node[NODES + 1];
	struct haul_node got[MANY];
	int32_t statuses[MANY];
	uint64_t ids[MANY];
	struct haul_text keys[MANY];
	char text[MANY][HAUL_KEY_MAX + 1];
	struct prng prng;
};

static int open_all(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);

	assert_non_null(f);
	test_prng(&f->prng);
	const struct reader_lab_options options = { .seed = prng_next(&f->prng),
						    .vectors_bytes = 4 << 20,
						    .reader_bytes = READER_BYTES_MIN };
	reader_lab_init(&f->lab, &options);
	for (uint32_t i = 1; i <= NODES; i++)
		f->node[i].id = i;
	*state = f;
	return 0;
}

/* Nodes come, change and go; some lie in tables, some in memory. */
static void nodes_random(struct fixture *f, uint32_t changes, uint32_t bytes_max)
{
	for (uint32_t i = 0; i < changes; i++) {
		struct reader_lab_node *node = &f->node[1 + prng_below(&f->prng, NODES)];
		reader_lab_node_drop(&f->lab, node);
		if (prng_below(&f->prng, 4) == 0)
			continue;
		(void)reader_lab_frame(&f->lab);
		node->kind = prng_below(&f->prng, 4);
		/* No two have the same. */
		node->key = prng_below(&f->prng, 3) == 0 ? (uint32_t)node->id : 0;
		node->bytes = prng_below(&f->prng, 8) == 0 ? prng_below(&f->prng, bytes_max) : 20;
		reader_lab_node(&f->lab, node);
		if (prng_below(&f->prng, 16) == 0)
			(void)reader_lab_frame(&f->lab);
	}
	(void)reader_lab_frame(&f->lab);
}

/* Asks again for the rest, as a caller has to. */
static void expect_nodes(struct fixture *f, uint32_t count)
{
	for (uint32_t done = 0; done < count;) {
		const int got = haul_reader_get(f->lab.reader, f->ids + done, count - done, f->got,
						f->statuses);
		assert_true(got > 0 && (uint32_t)got <= count - done);
		for (int i = 0; i < got; i++, done++) {
			const uint64_t id = f->ids[done];
			const bool there = id >= 1 && id <= NODES && f->node[id].version != 0;
			assert_int_equal(f->statuses[i], there ? 0 : -ENOENT);
			if (there)
				reader_lab_expect_node(&f->lab, &f->node[id], &f->got[i]);
		}
	}
}

/* Each id gets its own node or -ENOENT: asked for twice, missing, deleted, 0, in any order, more
 * than are looked for at once. */
static void test_reader__gets_nodes_by_id(void **state)
{
	struct fixture *f = *state;

	for (uint32_t round = 0; round < 4; round++) {
		nodes_random(f, 200, 2000);
		for (uint32_t i = 0; i < MANY; i++)
			f->ids[i] = prng_below(&f->prng, NODES + 20);
		f->ids[7] = UINT64_MAX;
		expect_nodes(f, MANY);
		expect_nodes(f, 1);
		assert_int_equal(lsm_lab_settle(&f->lab.lsm), 0);
		expect_nodes(f, 100);
	}
}

/* Records that are as long as they may be fill the memory after few; every call has at least one,
 * and the first of a call is there even if later ones came into the memory before it. */
static void test_reader__gives_what_fits_and_at_least_one(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 1; i <= 40; i++) {
		f->node[i].bytes = HAUL_PROPERTIES_MAX - RECORD_PROPERTY_HEAD - 1;
		reader_lab_node(&f->lab, &f->node[i]);
		(void)reader_lab_frame(&f->lab);
		/* Some in tables, some in memory: in an order that is not that of the ids. */
		if (i % 7 == 0)
			assert_int_equal(lsm_lab_flush(&f->lab.lsm), 0);
	}
	for (uint32_t i = 0; i < 200; i++)
		f->ids[i] = 1 + prng_below(&f->prng, 40);
	const int got = haul_reader_get(f->lab.reader, f->ids, 200, f->got, f->statuses);
	assert_in_range(got, 1, READER_BYTES_MIN / HAUL_PROPERTIES_MAX);
	expect_nodes(f, 200);
}

/* What a call returned stays as it is while others write, flush and use the memory again that it
 * was found in. */
static void test_reader__keeps_what_it_told_until_the_next_call(void **state)
{
	struct fixture *f = *state;
	static struct reader_lab_node before[NODES + 1];

	for (uint32_t i = 1; i <= 20; i++) {
		f->node[i].bytes = 100;
		f->node[i].key = i;
		reader_lab_node(&f->lab, &f->node[i]);
		f->ids[i - 1] = i;
	}
	(void)reader_lab_frame(&f->lab);
	memcpy(before, f->node, sizeof before);
	assert_int_equal(haul_reader_get(f->lab.reader, f->ids, 20, f->got, f->statuses), 20);
	for (uint32_t round = 0; round < 8; round++) {
		nodes_random(f, 100, 500);
		assert_int_equal(lsm_lab_flush(&f->lab.lsm), 0);
	}
	for (uint32_t i = 0; i < 20; i++)
		reader_lab_expect_node(&f->lab, &before[i + 1], &f->got[i]);
}

/* A text key leads to its node; one that is not there, was taken away, is empty or too long to be
 * one does not. */
static void test_reader__gets_nodes_by_key(void **state)
{
	struct fixture *f = *state;
	static const char zeros[HAUL_KEY_MAX + 9];

	nodes_random(f, 600, 3000);
	for (uint32_t i = 0; i < MANY; i++) {
		const uint32_t key = prng_below(&f->prng, NODES + 10);
		f->ids[i] = key;
		f->keys[i].bytes = key == 0 ? 0 : reader_lab_key(key, f->text[i]);
		f->keys[i].data = f->text[i];
	}
	f->ids[3] = f->ids[4] = 0;
	f->keys[3] = (struct haul_text){ .data = zeros, .bytes = sizeof zeros };
	f->keys[4] = (struct haul_text){ .data = NULL };
	for (uint32_t done = 0; done < MANY;) {
		const int got = haul_reader_get_by_key(f->lab.reader, f->keys + done, MANY - done,
						       f->got, f->statuses);
		assert_true(got > 0);
		for (int i = 0; i < got; i++, done++) {
			const uint64_t id = f->ids[done];
			const bool there = id >= 1 && id <= NODES && f->node[id].version != 0 &&
					   f->node[id].key == id;
			assert_int_equal(f->statuses[i], there ? 0 : -ENOENT);
			if (there)
				reader_lab_expect_node(&f->lab, &f->node[id], &f->got[i]);
		}
	}
}

/* Two texts of one hash: the one that the node does not have is not found. A key that leads to no
 * node is damage, and said to be. */
static void test_reader__compares_the_text_behind_a_hash(void **state)
{
	struct fixture *f = *state;
	const struct haul_text alike = { .data = "alike", .bytes = 5 };
	struct reader_lab_node *node = &f->node[9];
	uint8_t id[8] = { 9 };
	const struct tree_row row = { .value = id, .bytes = sizeof id };

	node->key = 5;
	reader_lab_node(&f->lab, node);
	reader_lab_row(&f->lab, TREE_NAME, record_name("alike", 5), &row);
	(void)reader_lab_frame(&f->lab);
	assert_int_equal(haul_reader_get_by_key(f->lab.reader, &alike, 1, f->got, f->statuses), 1);
	assert_int_equal(f->statuses[0], -ENOENT);
	id[0] = 10;
	reader_lab_row(&f->lab, TREE_NAME, record_name("alike", 5), &row);
	(void)reader_lab_frame(&f->lab);
	assert_int_equal(haul_reader_get_by_key(f->lab.reader, &alike, 1, f->got, f->statuses), 1);
	assert_int_equal(f->statuses[0], HAUL_ECORRUPT);
}

/* ---- in order ---- */

static void expect_scan(struct fixture *f, struct haul_scan scan, uint32_t page)
{
	const uint64_t last = scan.last_id == 0 || scan.last_id > NODES ? NODES : scan.last_id;
	uint64_t next = scan.first_id == 0 ? 1 : scan.first_id;
	int got;

	while ((got = haul_reader_scan(f->lab.reader, &scan, f->got, page)) > 0) {
		assert_true((uint32_t)got <= page);
		for (int i = 0; i < got; i++, next++) {
			while (next <= last &&
			       (f->node[next].version == 0 ||
				(scan.kind != HAUL_ANY && f->node[next].kind != scan.kind)))
				next++;
			assert_true(next <= last);
			reader_lab_expect_node(&f->lab, &f->node[next], &f->got[i]);
		}
	}
	assert_int_equal(got, 0);
	for (; next <= last; next++)
		assert_true(f->node[next].version == 0 ||
			    (scan.kind != HAUL_ANY && f->node[next].kind != scan.kind));
	assert_int_equal(haul_reader_scan(f->lab.reader, &scan, f->got, page), 0);
}

/* A scan meets each node of the kind and range once, in order, whatever the size of the pages and
 * of the records. */
static void test_reader__scans_nodes_in_pages(void **state)
{
	struct fixture *f = *state;
	static const uint32_t pages[] = { 1, 2, 7, 64, MANY };

	for (uint32_t round = 0; round < 3; round++) {
		nodes_random(f, 300, 12000);
		for (uint32_t i = 0; i < 5; i++) {
			for (uint32_t kind = 0; kind < 5; kind++) {
				const uint64_t first = prng_below(&f->prng, NODES);
				const uint64_t wide = prng_below(&f->prng, NODES);
				expect_scan(f, (struct haul_scan){ .kind = kind }, pages[i]);
				expect_scan(f,
					    (struct haul_scan){ .kind = kind,
								.first_id = first,
								.last_id = first + wide },
					    pages[i]);
			}
		}
		assert_int_equal(lsm_lab_settle(&f->lab.lsm), 0);
	}
}

/* What is written behind the cursor between two pages is seen, what is written before it is not,
 * and nothing is told twice. */
static void test_reader__goes_on_behind_what_was_told(void **state)
{
	struct fixture *f = *state;
	struct haul_scan scan = { .kind = HAUL_ANY };

	for (uint32_t i = 10; i <= 100; i += 10)
		reader_lab_node(&f->lab, &f->node[i]);
	(void)reader_lab_frame(&f->lab);
	assert_int_equal(haul_reader_scan(f->lab.reader, &scan, f->got, 3), 3);
	assert_int_equal(f->got[2].id, 30);
	reader_lab_node_drop(&f->lab, &f->node[30]);
	reader_lab_node_drop(&f->lab, &f->node[40]);
	reader_lab_node(&f->lab, &f->node[29]);
	reader_lab_node(&f->lab, &f->node[31]);
	(void)reader_lab_frame(&f->lab);
	assert_int_equal(haul_reader_scan(f->lab.reader, &scan, f->got, 2), 2);
	assert_int_equal(f->got[0].id, 31);
	assert_int_equal(f->got[1].id, 50);
}

/* The highest id there can be ends a scan, and does not begin it again. */
static void test_reader__ends_at_the_last_id(void **state)
{
	struct fixture *f = *state;
	struct reader_lab_node node = { .id = UINT64_MAX - 1, .kind = 2 };
	struct haul_scan scan = { .kind = HAUL_ANY }, kind = { .kind = 2 };

	reader_lab_node(&f->lab, &node);
	(void)reader_lab_frame(&f->lab);
	assert_int_equal(haul_reader_scan(f->lab.reader, &scan, f->got, 1), 1);
	reader_lab_expect_node(&f->lab, &node, &f->got[0]);
	assert_int_equal(haul_reader_scan(f->lab.reader, &scan, f->got, 1), 0);
	assert_int_equal(haul_reader_scan(f->lab.reader, &kind, f->got, 1), 1);
	assert_int_equal(haul_reader_scan(f->lab.reader, &kind, f->got, 1), 0);
}

static void vector_make(float *vector, uint64_t node, uint64_t version, uint32_t dimensions)
{
	for (uint32_t i = 0; i < dimensions; i++)
		vector[i] = (float)(int8_t)hash_u64(node * 31 + version * 7 + i);
}

struct embeddings {
	uint64_t version[2][EMBEDDINGS + 1]; /* 0 = not there */
	uint32_t dimensions[2];
	struct haul_embedding got[EMBEDDINGS];
	float vector[HAUL_DIMENSIONS_MAX];
};

static void embeddings_random(struct fixture *f, struct embeddings *model)
{
	for (uint32_t i = 0; i < 300; i++) {
		const uint32_t index = prng_below(&f->prng, 2);
		const uint64_t node = 1 + prng_below(&f->prng, EMBEDDINGS);
		(void)reader_lab_frame(&f->lab);
		if (prng_below(&f->prng, 4) == 0) {
			reader_lab_embedding_drop(&f->lab, index, node);
			model->version[index][node] = 0;
			continue;
		}
		model->version[index][node] = reader_lab_op(&f->lab);
		vector_make(model->vector, node, model->version[index][node],
			    model->dimensions[index]);
		reader_lab_embedding(
			&f->lab, &(struct haul_embedding){ .node = node,
							   .index = index,
							   .dimensions = model->dimensions[index],
							   .vector = model->vector });
	}
	(void)reader_lab_frame(&f->lab);
}

static void expect_embedding(struct embeddings *model, uint32_t index, uint64_t node,
			     const struct haul_embedding *got)
{
	const uint32_t dimensions = model->dimensions[index];

	vector_make(model->vector, node, model->version[index][node], dimensions);
	assert_int_equal(got->node, node);
	assert_int_equal(got->index, index);
	assert_int_equal(got->version, model->version[index][node]);
	assert_int_equal(got->dimensions, dimensions);
	assert_int_equal((uintptr_t)got->vector % sizeof(float), 0);
	assert_memory_equal(got->vector, model->vector, dimensions * sizeof(float));
}

/* Embeddings by name: what was set last, aligned, with all that belongs to them. */
static void test_reader__gets_embeddings_by_name(void **state)
{
	struct fixture *f = *state;
	static struct embeddings model;

	model = (struct embeddings){ .dimensions = { 3, HAUL_DIMENSIONS_MAX } };
	embeddings_random(f, &model);
	for (uint32_t i = 0; i < EMBEDDINGS; i++)
		f->ids[i] = i + 1;
	for (uint32_t done = 0; done < 2 * EMBEDDINGS;) {
		const uint32_t index = done / EMBEDDINGS, at = done % EMBEDDINGS;
		const struct haul_embedding_names names = { .nodes = f->ids + at,
							    .count = EMBEDDINGS - at,
							    .index = index };
		const int count =
			haul_reader_get_embeddings(f->lab.reader, &names, model.got, f->statuses);
		assert_true(count > 0);
		for (int i = 0; i < count; i++, done++) {
			const uint64_t node = done % EMBEDDINGS + 1;
			const bool there = model.version[index][node] != 0;
			assert_int_equal(f->statuses[i], there ? 0 : -ENOENT);
			if (there)
				expect_embedding(&model, index, node, &model.got[i]);
		}
	}
}

/* A scan meets all embeddings once, by index and node. */
static void test_reader__scans_embeddings_in_pages(void **state)
{
	struct fixture *f = *state;
	static struct embeddings model;
	struct haul_cursor cursor = { { 0 } };
	uint32_t at = 0;
	int count;

	model = (struct embeddings){ .dimensions = { 3, HAUL_DIMENSIONS_MAX } };
	embeddings_random(f, &model);
	while ((count = haul_reader_scan_embeddings(f->lab.reader, &cursor, model.got, 7)) > 0) {
		for (int i = 0; i < count; i++, at++) {
			while (at < 2 * EMBEDDINGS &&
			       model.version[at / EMBEDDINGS][at % EMBEDDINGS + 1] == 0)
				at++;
			assert_true(at < 2 * EMBEDDINGS);
			expect_embedding(&model, at / EMBEDDINGS, at % EMBEDDINGS + 1,
					 &model.got[i]);
		}
	}
	assert_int_equal(count, 0);
	for (; at < 2 * EMBEDDINGS; at++)
		assert_int_equal(model.version[at / EMBEDDINGS][at % EMBEDDINGS + 1], 0);
}

/* ---- states, ends, faults ---- */

/* A pinned reader sees what was there, whatever is written, flushed and merged; unpinned it sees
 * the newest again. */
static void test_reader__sees_one_state_while_pinned(void **state)
{
	struct fixture *f = *state;
	static struct reader_lab_node before[NODES + 1], after[NODES + 1];

	nodes_random(f, 300, 500);
	assert_int_equal(haul_reader_pin(f->lab.reader), 0);
	assert_int_equal(haul_reader_pin(f->lab.reader), -EINVAL);
	memcpy(before, f->node, sizeof before);
	for (uint32_t i = 0; i < NODES; i++)
		f->ids[i] = i + 1;
	for (uint32_t round = 0; round < 4; round++) {
		nodes_random(f, 300, 500);
		assert_int_equal(lsm_lab_flush(&f->lab.lsm), 0);
		memcpy(after, f->node, sizeof after);
		memcpy(f->node, before, sizeof before);
		expect_nodes(f, NODES);
		expect_scan(f, (struct haul_scan){ .kind = 1 }, 5);
		memcpy(f->node, after, sizeof after);
	}
	haul_reader_unpin(f->lab.reader);
	expect_nodes(f, NODES);
	haul_reader_unpin(f->lab.reader);
}

/* As many readers may be pinned as it says; one more is told so, and can go on unpinned. */
static void test_reader__says_when_too_many_are_pinned(void **state)
{
	struct fixture *f = *state;
	struct haul_reader *readers[LSM_PINS];

	for (uint32_t i = 0; i < LSM_PINS; i++) {
		assert_int_equal(reader_store_new(&readers[i], f->lab.lsm.lsm, f->lab.vectors, 1),
				 0);
		assert_int_equal(haul_reader_pin(readers[i]), 0);
	}
	assert_int_equal(haul_reader_pin(f->lab.reader), -EBUSY);
	nodes_random(f, 10, 100);
	f->ids[0] = 1;
	expect_nodes(f, 1);
	haul_reader_close(readers[3]);
	assert_int_equal(haul_reader_pin(f->lab.reader), 0);
	for (uint32_t i = 0; i < LSM_PINS; i++) {
		if (i != 3)
			haul_reader_close(readers[i]);
	}
}

/* An interrupt ends the call under way or the next one, of any kind, and only that. */
static void test_reader__is_interrupted_once(void **state)
{
	struct fixture *f = *state;
	struct haul_reader *reader = f->lab.reader;
	struct haul_scan scan = { .kind = HAUL_ANY };
	struct haul_cursor cursor = { { 0 } };
	struct haul_edge edge;
	struct haul_embedding embedding;
	struct haul_neighbours neighbours = { .node = 1 };
	const struct haul_traverse traverse = { .start = 1, .depth_max = 1 };
	const struct haul_path path = { .src = 1, .dst = 2, .depth_max = 1 };
	const float vector[2] = { 1, 2 };
	const struct haul_near near = { .dimensions = 2, .k = 1, .count = 1, .vectors = vector };
	struct haul_visit visit;
	struct haul_near_hit hit;
	bool complete;

	nodes_random(f, 50, 100);
	f->ids[0] = 1;
	f->keys[0] = (struct haul_text){ .data = "a", .bytes = 1 };
	const struct haul_edge_id id = { .src = 1, .dst = 2 };
	const struct haul_embedding_names names = { .nodes = f->ids, .count = 1 };
	haul_reader_interrupt(reader);
	assert_int_equal(haul_reader_get(reader, f->ids, 1, f->got, f->statuses), -ECANCELED);
	assert_int_equal(haul_reader_get(reader, f->ids, 1, f->got, f->statuses), 1);
	haul_reader_interrupt(reader);
	assert_int_equal(haul_reader_get_by_key(reader, f->keys, 1, f->got, f->statuses),
			 -ECANCELED);
	haul_reader_interrupt(reader);
	assert_int_equal(haul_reader_get_edges(reader, &id, 1, &edge, f->statuses), -ECANCELED);
	haul_reader_interrupt(reader);
	assert_int_equal(haul_reader_get_embeddings(reader, &names, &embedding, f->statuses),
			 -ECANCELED);
	haul_reader_interrupt(reader);
	assert_int_equal(haul_reader_scan(reader, &scan, f->got, 1), -ECANCELED);
	assert_int_equal(haul_reader_scan(reader, &scan, f->got, 1), 1);
	haul_reader_interrupt(reader);
	assert_int_equal(haul_reader_scan_edges(reader, &cursor, &edge, 1), -ECANCELED);
	haul_reader_interrupt(reader);
	assert_int_equal(haul_reader_scan_embeddings(reader, &cursor, &embedding, 1), -ECANCELED);
	haul_reader_interrupt(reader);
	assert_int_equal(haul_reader_neighbours(reader, &neighbours, &edge, 1), -ECANCELED);
	assert_int_equal(haul_reader_neighbours(reader, &neighbours, &edge, 1), 0);
	haul_reader_interrupt(reader);
	assert_int_equal(haul_reader_traverse(reader, &traverse, &visit, 1, &complete), -ECANCELED);
	haul_reader_interrupt(reader);
	assert_int_equal(haul_reader_path(reader, &path, f->ids, 2), -ECANCELED);
	haul_reader_interrupt(reader);
	assert_int_equal(haul_reader_near(reader, &near, &hit), -ECANCELED);
	assert_int_equal(haul_reader_near(reader, &near, &hit), 1);
	assert_int_equal(hit.node, 0);
}

/* Stand-ins that handle all they are given. */
static int most_get(struct haul_reader *reader, const uint64_t *ids, uint32_t count,
		    struct haul_node *nodes, int32_t *statuses)
{
	return reader == NULL || ids == NULL || nodes == NULL || statuses == NULL ? 0 : (int)count;
}

static int most_embeddings(struct haul_reader *reader, const struct haul_embedding_names *names,
			   struct haul_embedding *embeddings, int32_t *statuses)
{
	return reader == NULL || embeddings == NULL || statuses == NULL ? 0 : (int)names->count;
}

static int most_scan(struct haul_reader *reader, struct haul_scan *scan, struct haul_node *nodes,
		     uint32_t max)
{
	return reader == NULL || scan == NULL || nodes == NULL ? 0 : (int)max;
}

static int most_neighbours(struct haul_reader *reader, struct haul_neighbours *query,
			   struct haul_edge *edges, uint32_t max)
{
	return reader == NULL || query == NULL || edges == NULL ? 0 : (int)max;
}

/* However many records are asked for, a call handles no more than it says: it would hold what
 * writers need for as long as it takes. */
static void test_reader__handles_so_many_records_at_most(void **state)
{
	static const struct haul_reader_calls calls = { .get = most_get,
							.get_embeddings = most_embeddings,
							.scan = most_scan,
							.neighbours = most_neighbours };
	enum { MOST = 65536, MORE = MOST + 1 };
	struct haul_reader reader = { .calls = &calls };
	const uint64_t id = 1;
	const struct haul_embedding_names names = { .nodes = &id, .count = MORE };
	struct haul_scan scan = { 0 };
	struct haul_neighbours query = { .node = id };
	struct haul_node node;
	struct haul_edge edge;
	struct haul_embedding embedding;
	int32_t status;

	(void)state;
	assert_int_equal(haul_reader_get(&reader, &id, MORE, &node, &status), MOST);
	assert_int_equal(haul_reader_get(&reader, &id, MOST - 1, &node, &status), MOST - 1);
	assert_int_equal(haul_reader_get_embeddings(&reader, &names, &embedding, &status), MOST);
	assert_int_equal(haul_reader_scan(&reader, &scan, &node, MORE), MOST);
	assert_int_equal(haul_reader_neighbours(&reader, &query, &edge, MORE), MOST);
}

/* What is not valid is refused before anything is looked for. */
static void test_reader__refuses_what_is_not_valid(void **state)
{
	struct fixture *f = *state;
	struct haul_reader *reader = f->lab.reader;
	struct haul_scan scan = { .first_id = 5, .last_id = 4 };
	struct haul_neighbours neighbours = { .node = 1, .direction = (enum haul_direction)3 };
	struct haul_traverse traverse = { .start = 1, .depth_max = 0 };
	struct haul_path path = { .src = 1, .dst = 2, .depth_max = 0 };
	float vector[2] = { 1, 2 };
	const struct haul_near good = { .dimensions = 2, .k = 1, .count = 1, .vectors = vector };
	struct haul_near near = good;
	struct haul_edge edge;
	struct haul_visit visit;
	struct haul_near_hit hit;
	bool complete;

	assert_int_equal(haul_reader_get(NULL, f->ids, 1, f->got, f->statuses), -EINVAL);
	assert_int_equal(haul_reader_get(reader, NULL, 1, f->got, f->statuses), -EINVAL);
	assert_int_equal(haul_reader_get(reader, NULL, 0, NULL, NULL), 0);
	f->keys[0] = (struct haul_text){ .data = NULL, .bytes = 1 };
	assert_int_equal(haul_reader_get_by_key(reader, f->keys, 1, f->got, f->statuses), -EINVAL);
	assert_int_equal(haul_reader_get_embeddings(reader, NULL, NULL, NULL), -EINVAL);
	const struct haul_embedding_names names = { .nodes = f->ids,
						    .count = 1,
						    .index = HAUL_EMBEDDING_INDEXES };
	struct haul_embedding embedding;
	assert_int_equal(haul_reader_get_embeddings(reader, &names, &embedding, f->statuses),
			 -EINVAL);
	assert_int_equal(haul_reader_scan(reader, &scan, f->got, 1), -EINVAL);
	assert_int_equal(haul_reader_neighbours(reader, &neighbours, &edge, 1), -EINVAL);
	neighbours.direction = HAUL_OUT;
	assert_int_equal(haul_reader_neighbours(reader, &neighbours, NULL, 0), 0);
	assert_int_equal(haul_reader_traverse(reader, &traverse, &visit, 1, &complete), -EINVAL);
	traverse.depth_max = 65;
	assert_int_equal(haul_reader_traverse(reader, &traverse, &visit, 1, &complete), -EINVAL);
	assert_int_equal(haul_reader_path(reader, &path, f->ids, 2), -EINVAL);
	near.k = 1025;
	assert_int_equal(haul_reader_near(reader, &near, &hit), -EINVAL);
	near = good;
	near.dimensions = HAUL_DIMENSIONS_MAX + 1;
	assert_int_equal(haul_reader_near(reader, &near, &hit), -EINVAL);
	near = good;
	near.metric = (enum haul_metric)2;
	assert_int_equal(haul_reader_near(reader, &near, &hit), -EINVAL);
	near = good;
	vector[1] = __builtin_nanf("");
	assert_int_equal(haul_reader_near(reader, &near, &hit), -EINVAL);
	haul_reader_close(NULL);
	haul_reader_unpin(NULL);
	haul_reader_interrupt(NULL);
	assert_int_equal(haul_reader_pin(NULL), -EINVAL);
}

/* A block that cannot be read is the status of the nodes in it, and the end of a page: never
 * "there is none". */
static void test_reader__tells_what_cannot_be_read(void **state)
{
	struct fixture *f = *state;
	struct haul_scan scan = { .kind = HAUL_ANY }, kind = { .kind = 1 };
	uint32_t failed = 0;

	nodes_random(f, 400, 3000);
	for (uint32_t i = 1; i <= NODES; i++)
		reader_lab_node_drop(&f->lab, &f->node[i]);
	(void)reader_lab_frame(&f->lab);
	for (uint32_t i = 1; i <= NODES; i++) {
		f->node[i] = (struct reader_lab_node){ .id = i, .kind = 1, .bytes = 200 };
		reader_lab_node(&f->lab, &f->node[i]);
	}
	(void)reader_lab_frame(&f->lab);
	assert_int_equal(lsm_lab_flush(&f->lab.lsm), 0);
	/* Nothing is in the cache of a tree just opened. */
	haul_reader_close(f->lab.reader);
	lsm_lab_close(&f->lab.lsm);
	assert_int_equal(lsm_lab_open(&f->lab.lsm), 0);
	lsm_lab_publish(&f->lab.lsm, f->lab.lsm.place.op);
	assert_int_equal(reader_store_new(&f->lab.reader, f->lab.lsm.lsm, f->lab.vectors, 1 << 20),
			 0);
	for (uint32_t i = 0; i < NODES; i++)
		f->ids[i] = i + 1;
	vfs_sim_fail(f->lab.lsm.sim, VFS_SIM_READ, 0, 1000, -EIO);
	assert_int_equal(haul_reader_get(f->lab.reader, f->ids, NODES, f->got, f->statuses), NODES);
	for (uint32_t i = 0; i < NODES; i++) {
		assert_true(f->statuses[i] == 0 || f->statuses[i] == -EIO);
		failed += f->statuses[i] == -EIO;
	}
	assert_true(failed > 0);
	assert_int_equal(haul_reader_scan(f->lab.reader, &scan, f->got, MANY), -EIO);
	assert_int_equal(haul_reader_scan(f->lab.reader, &kind, f->got, MANY), -EIO);
	vfs_sim_fail(f->lab.lsm.sim, VFS_SIM_READ, 0, 0, -EIO);
	expect_nodes(f, NODES);
}

/* Without memory a reader is not made, and nothing is left behind. */
static void test_reader__is_not_made_without_memory(void **state)
{
	struct fixture *f = *state;

	for (uint32_t i = 0; i < 4; i++) {
		struct haul_reader *reader = NULL;
		if (!test_malloc_fail(i))
			return;
		assert_int_equal(reader_store_new(&reader, f->lab.lsm.lsm, f->lab.vectors, 0),
				 -ENOMEM);
		assert_null(reader);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, reader_lab_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_reader__gets_nodes_by_id),
		TEST(test_reader__gives_what_fits_and_at_least_one),
		TEST(test_reader__keeps_what_it_told_until_the_next_call),
		TEST(test_reader__gets_nodes_by_key),
		TEST(test_reader__compares_the_text_behind_a_hash),
		TEST(test_reader__scans_nodes_in_pages),
		TEST(test_reader__goes_on_behind_what_was_told),
		TEST(test_reader__ends_at_the_last_id),
		TEST(test_reader__gets_embeddings_by_name),
		TEST(test_reader__scans_embeddings_in_pages),
		TEST(test_reader__sees_one_state_while_pinned),
		TEST(test_reader__says_when_too_many_are_pinned),
		TEST(test_reader__is_interrupted_once),
		cmocka_unit_test(test_reader__handles_so_many_records_at_most),
		TEST(test_reader__refuses_what_is_not_valid),
		TEST(test_reader__tells_what_cannot_be_read),
		TEST(test_reader__is_not_made_without_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
