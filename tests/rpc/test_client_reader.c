/* A reader over the wire beside a reader of the store itself: the same calls, the same answers. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/store_wire.h"
#include "serve_lab.h"

enum { NODES = 600, KINDS = 3, TYPES = 2, DIMENSIONS = 8, PAGE = 100 };

struct pair_lab {
	struct serve_lab serve;
	struct haul_client *client;
	struct haul_reader *here, *there; /* of the store, over the wire */
	struct haul_changes *changes;
	struct prng prng;
};

static void add_node(struct pair_lab *lab, uint64_t id)
{
	uint8_t buffer[512];
	char key[32], text[200];
	const int key_bytes = snprintf(key, sizeof key, "node-%llu", (unsigned long long)id);
	struct haul_node node = { .id = id, .kind = (uint32_t)(id % KINDS) };
	memset(text, 'a' + (int)(id % 26), sizeof text);
	const struct haul_property properties[2] = {
		{ .name = "n", .name_bytes = 1, .type = HAUL_INTEGER, .integer = (int64_t)id },
		{ .name = "text",
		  .name_bytes = 4,
		  .type = HAUL_TEXT,
		  .data = text,
		  .data_bytes = (uint32_t)(id % sizeof text) },
	};

	if (id % 2 == 0) {
		node.key = key;
		node.key_bytes = (uint32_t)key_bytes;
	}
	assert_int_equal(haul_properties_encode(properties, (uint32_t)(id % 3), buffer,
						sizeof buffer, &node.properties),
			 0);
	assert_true(haul_changes_create_node(lab->changes, &node, NULL) >= 0);
}

static void add_edge(struct pair_lab *lab, uint64_t src, uint64_t dst)
{
	uint8_t buffer[64];
	const struct haul_property weight = {
		.name = "w", .name_bytes = 1, .type = HAUL_FLOAT, .number = (double)(src + dst)
	};
	struct haul_edge edge = { .id = { src, dst, (uint32_t)(src % TYPES), 0 } };

	assert_int_equal(
		haul_properties_encode(&weight, 1, buffer, sizeof buffer, &edge.properties), 0);
	assert_true(haul_changes_create_edge(lab->changes, &edge, NULL) >= 0);
}

static void commit(struct pair_lab *lab)
{
	assert_int_equal(haul_client_commit(lab->client, lab->changes, NULL, NULL), 0);
	haul_changes_clear(lab->changes);
}

static void pair_open(struct pair_lab *lab)
{
	test_prng(&lab->prng);
	serve_lab_open(&lab->serve, NULL);
	lab->client = serve_lab_client(&lab->serve, lab->serve.local, NULL);
	assert_int_equal(haul_changes_new(&lab->changes, 0, 0, 0), 0);
	for (uint64_t id = 1; id <= NODES; id++)
		add_node(lab, id);
	commit(lab);
	for (uint64_t id = 1; id <= NODES; id++) {
		add_edge(lab, id, id % NODES + 1);
		add_edge(lab, id, prng_next(&lab->prng) % NODES + 1);
	}
	commit(lab);
	for (uint64_t id = 1; id <= NODES; id++) {
		float vector[DIMENSIONS];
		for (uint32_t i = 0; i < DIMENSIONS; i++)
			vector[i] = (float)(prng_next(&lab->prng) % 1000) / 1000;
		const struct haul_embedding embedding = {
			.node = id, .index = 7, .dimensions = DIMENSIONS, .vector = vector
		};
		assert_true(haul_changes_set_embedding(lab->changes, &embedding) >= 0);
	}
	commit(lab);
	assert_int_equal(haul_store_reader(lab->serve.store, 0, &lab->here), 0);
	assert_int_equal(haul_client_reader(lab->client, 0, &lab->there), 0);
}

static void pair_close(struct pair_lab *lab)
{
	haul_reader_close(lab->here);
	haul_reader_close(lab->there);
	haul_changes_free(lab->changes);
	haul_client_close(lab->client);
	serve_lab_close(&lab->serve);
}

static void same_properties(const struct haul_properties *a, const struct haul_properties *b)
{
	assert_int_equal(a->count, b->count);
	assert_int_equal(a->bytes, b->bytes);
	if (a->bytes > 0)
		assert_memory_equal(a->data, b->data, a->bytes);
}

static void same_node(const struct haul_node *a, const struct haul_node *b)
{
	assert_int_equal(a->id, b->id);
	assert_int_equal(a->version, b->version);
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->key_bytes, b->key_bytes);
	if (a->key_bytes > 0)
		assert_memory_equal(a->key, b->key, a->key_bytes);
	same_properties(&a->properties, &b->properties);
}

static void same_edge(const struct haul_edge *a, const struct haul_edge *b)
{
	assert_memory_equal(&a->id, &b->id, sizeof a->id);
	assert_int_equal(a->version, b->version);
	same_properties(&a->properties, &b->properties);
}

static void same_embedding(const struct haul_embedding *a, const struct haul_embedding *b)
{
	assert_int_equal(a->node, b->node);
	assert_int_equal(a->version, b->version);
	assert_int_equal(a->index, b->index);
	assert_int_equal(a->dimensions, b->dimensions);
	assert_memory_equal(a->vector, b->vector, a->dimensions * sizeof(float));
}

/* ---- by name ---- */

/* Nodes, edges and embeddings by name, those that are not there among them. */
static void test_reader__gets_the_same_by_name(void **state)
{
	static struct haul_node nodes[2][NODES + 50];
	static struct haul_edge edges[2][NODES];
	static struct haul_embedding embeddings[2][NODES + 50];
	static int32_t statuses[2][NODES + 50];
	static uint64_t ids[NODES + 50];
	static struct haul_edge_id names[NODES];
	struct pair_lab lab;

	(void)state;
	pair_open(&lab);
	for (uint32_t i = 0; i < NODES + 50; i++)
		ids[i] = i + 1;
	for (uint32_t i = 0; i < NODES; i++)
		names[i] =
			(struct haul_edge_id){ i + 1, i % 3 == 0 ? 1 : i + 2, (i + 1) % TYPES, 0 };
	const int count = NODES + 50;
	assert_int_equal(haul_reader_get(lab.here, ids, count, nodes[0], statuses[0]), count);
	assert_int_equal(haul_reader_get(lab.there, ids, count, nodes[1], statuses[1]), count);
	for (int i = 0; i < count; i++) {
		assert_int_equal(statuses[0][i], statuses[1][i]);
		assert_int_equal(statuses[1][i], i < NODES ? 0 : -ENOENT);
		if (statuses[0][i] == 0)
			same_node(&nodes[0][i], &nodes[1][i]);
	}
	assert_int_equal(haul_reader_get_edges(lab.here, names, NODES, edges[0], statuses[0]),
			 NODES);
	assert_int_equal(haul_reader_get_edges(lab.there, names, NODES, edges[1], statuses[1]),
			 NODES);
	for (int i = 0; i < NODES; i++) {
		assert_int_equal(statuses[0][i], statuses[1][i]);
		if (statuses[0][i] == 0)
			same_edge(&edges[0][i], &edges[1][i]);
	}
	const struct haul_embedding_names all = { .nodes = ids, .count = NODES + 50, .index = 7 };
	assert_int_equal(haul_reader_get_embeddings(lab.here, &all, embeddings[0], statuses[0]),
			 count);
	assert_int_equal(haul_reader_get_embeddings(lab.there, &all, embeddings[1], statuses[1]),
			 count);
	for (int i = 0; i < count; i++) {
		assert_int_equal(statuses[0][i], statuses[1][i]);
		if (statuses[0][i] == 0)
			same_embedding(&embeddings[0][i], &embeddings[1][i]);
	}
	pair_close(&lab);
}

/* By text key: an odd number of them, an empty one and one that is too long among them. */
static void test_reader__gets_the_same_by_key(void **state)
{
	enum { KEYS = 41 };
	struct haul_text keys[KEYS];
	struct haul_node nodes[2][KEYS];
	int32_t statuses[2][KEYS];
	static char text[KEYS][400];
	struct pair_lab lab;

	(void)state;
	pair_open(&lab);
	for (uint32_t i = 0; i < KEYS; i++) {
		const int bytes = snprintf(text[i], sizeof text[i], "node-%u", i);
		keys[i] = (struct haul_text){ text[i], (uint32_t)bytes };
	}
	keys[3].bytes = 0;
	memset(text[5], 'k', sizeof text[5]);
	keys[5].bytes = sizeof text[5];
	assert_int_equal(haul_reader_get_by_key(lab.here, keys, KEYS, nodes[0], statuses[0]), KEYS);
	assert_int_equal(haul_reader_get_by_key(lab.there, keys, KEYS, nodes[1], statuses[1]),
			 KEYS);
	for (uint32_t i = 0; i < KEYS; i++) {
		assert_int_equal(statuses[0][i], statuses[1][i]);
		assert_int_equal(statuses[1][i], i > 0 && i % 2 == 0 ? 0 : -ENOENT);
		if (statuses[1][i] == 0)
			same_node(&nodes[0][i], &nodes[1][i]);
	}
	pair_close(&lab);
}

/* The same long record, asked for so often that the answers are longer than a result may be: fewer
 * are answered, and the rest when asked again. */
static void test_reader__bounds_an_answer(void **state)
{
	enum { TIMES = 2000 };
	static uint8_t data[HAUL_PROPERTIES_MAX], encoded[HAUL_PROPERTIES_MAX];
	static struct haul_node nodes[TIMES];
	static int32_t statuses[TIMES];
	static uint64_t ids[TIMES];
	struct haul_node node = { .id = NODES + 1 };
	const struct haul_property property = { .name = "b",
						.name_bytes = 1,
						.type = HAUL_BYTES,
						.data = data,
						.data_bytes = sizeof data - 100 };
	struct pair_lab lab;

	(void)state;
	pair_open(&lab);
	assert_int_equal(
		haul_properties_encode(&property, 1, encoded, sizeof encoded, &node.properties), 0);
	assert_int_equal(haul_changes_create_node(lab.changes, &node, NULL), 0);
	commit(&lab);
	for (uint32_t i = 0; i < TIMES; i++)
		ids[i] = NODES + 1;
	uint32_t done = 0, calls = 0;
	while (done < TIMES) {
		const int count = haul_reader_get(lab.there, ids, TIMES - done, nodes, statuses);
		assert_true(count > 0);
		for (int i = 0; i < count; i++) {
			assert_int_equal(statuses[i], 0);
			assert_int_equal(nodes[i].properties.bytes, node.properties.bytes);
		}
		done += (uint32_t)count;
		calls++;
	}
	assert_true(calls > 3);
	pair_close(&lab);
}

/* ---- in order ---- */

/* All nodes, those of a kind and those between two ids; all edges; all embeddings: page by page. */
static void test_reader__scans_the_same(void **state)
{
	static struct haul_node nodes[2][PAGE];
	static struct haul_edge edges[2][PAGE];
	static struct haul_embedding embeddings[2][PAGE];
	const struct haul_scan scans[] = { { 0 },
					   { .kind = 2 },
					   { .first_id = 50, .last_id = 333 } };
	struct pair_lab lab;

	(void)state;
	pair_open(&lab);
	for (uint32_t i = 0; i < 3; i++) {
		struct haul_scan here = scans[i], there = scans[i];
		uint32_t all = 0;
		for (int count = 1; count > 0; all += (uint32_t)count) {
			count = haul_reader_scan(lab.here, &here, nodes[0], PAGE);
			assert_int_equal(haul_reader_scan(lab.there, &there, nodes[1], PAGE),
					 count);
			for (int j = 0; j < count; j++)
				same_node(&nodes[0][j], &nodes[1][j]);
		}
		assert_int_equal(all, i == 0 ? NODES : i == 1 ? NODES / KINDS : 284);
	}
	struct haul_cursor here = { 0 }, there = { 0 };
	for (int count = 1; count > 0;) {
		count = haul_reader_scan_edges(lab.here, &here, edges[0], PAGE);
		assert_int_equal(haul_reader_scan_edges(lab.there, &there, edges[1], PAGE), count);
		for (int j = 0; j < count; j++)
			same_edge(&edges[0][j], &edges[1][j]);
	}
	memset(&here, 0, sizeof here);
	memset(&there, 0, sizeof there);
	uint32_t all = 0;
	for (int count = 1; count > 0; all += (uint32_t)count) {
		count = haul_reader_scan_embeddings(lab.here, &here, embeddings[0], PAGE);
		assert_int_equal(
			haul_reader_scan_embeddings(lab.there, &there, embeddings[1], PAGE), count);
		for (int j = 0; j < count; j++)
			same_embedding(&embeddings[0][j], &embeddings[1][j]);
	}
	assert_int_equal(all, NODES);
	pair_close(&lab);
}

/* Neighbours in every direction, by type, with and without properties, in small pages. */
static void test_reader__finds_the_same_neighbours(void **state)
{
	struct haul_edge edges[2][3];
	struct pair_lab lab;

	(void)state;
	pair_open(&lab);
	for (uint32_t i = 0; i < 60; i++) {
		const struct haul_neighbours query = {
			.node = 1 + i * 7,
			.direction = (enum haul_direction)(i % 3),
			.type = i % 4 == 0 ? 1 : HAUL_ANY,
			.bare = i % 5 == 0,
		};
		struct haul_neighbours here = query, there = query;
		for (int count = 1; count > 0;) {
			count = haul_reader_neighbours(lab.here, &here, edges[0], 3);
			assert_int_equal(haul_reader_neighbours(lab.there, &there, edges[1], 3),
					 count);
			for (int j = 0; j < count; j++) {
				assert_memory_equal(&edges[0][j].id, &edges[1][j].id,
						    sizeof edges[0][j].id);
				if (!query.bare)
					same_edge(&edges[0][j], &edges[1][j]);
			}
		}
	}
	pair_close(&lab);
}

/* ---- along edges, by likeness ---- */

/* What is reached, in which order, and the shortest ways; limits and refusals too. */
static void test_reader__walks_the_same(void **state)
{
	static struct haul_visit visits[2][NODES];
	static uint64_t ways[2][NODES];
	struct pair_lab lab;

	(void)state;
	pair_open(&lab);
	for (uint32_t i = 0; i < 20; i++) {
		const struct haul_traverse query = {
			.start = 1 + i * 13,
			.direction = (enum haul_direction)(i % 3),
			.depth_max = 1 + i % 6,
			.visits_max = i == 19 ? 2 : 0,
		};
		const struct haul_path path = { .src = 1 + i,
						.dst = NODES - i * 11,
						.direction = (enum haul_direction)(i % 3),
						.depth_max = 40 };
		const uint32_t max = i % 2 == 0 ? NODES : 5;
		bool complete[2] = { false, true };
		const int count =
			haul_reader_traverse(lab.here, &query, visits[0], max, &complete[0]);
		assert_int_equal(
			haul_reader_traverse(lab.there, &query, visits[1], max, &complete[1]),
			count);
		if (count >= 0) {
			assert_int_equal(complete[0], complete[1]);
			assert_memory_equal(visits[0], visits[1],
					    (size_t)count * sizeof visits[0][0]);
		}
		const int way = haul_reader_path(lab.here, &path, ways[0], max);
		assert_int_equal(haul_reader_path(lab.there, &path, ways[1], max), way);
		if (way > 0) /* of two that are as short either will do */
			assert_int_equal(ways[1][way - 1], path.dst);
	}
	pair_close(&lab);
}

/* The nearest, of one query and of many at once; a wrong number of dimensions is refused there. */
static void test_reader__finds_the_same_nearest(void **state)
{
	enum { QUERIES = 40, K = 10 };
	static float vectors[QUERIES * DIMENSIONS];
	static struct haul_near_hit hits[2][QUERIES * K];
	struct pair_lab lab;

	(void)state;
	pair_open(&lab);
	for (uint32_t i = 0; i < QUERIES * DIMENSIONS; i++)
		vectors[i] = (float)(prng_next(&lab.prng) % 1000) / 1000;
	for (uint32_t i = 0; i < 4; i++) {
		struct haul_near query = {
			.index = 7,
			.dimensions = DIMENSIONS,
			.metric = i % 2 == 0 ? HAUL_EUCLIDEAN : HAUL_COSINE,
			.exact = true,
			.k = K,
			.count = i < 2 ? 1 : QUERIES,
			.vectors = vectors,
		};
		assert_int_equal(haul_reader_near(lab.here, &query, hits[0]), (int)query.count);
		assert_int_equal(haul_reader_near(lab.there, &query, hits[1]), (int)query.count);
		for (uint32_t j = 0; j < query.count * K; j++)
			assert_int_equal(hits[0][j].node, hits[1][j].node);
		query.dimensions = DIMENSIONS - 1;
		assert_int_equal(haul_reader_near(lab.there, &query, hits[1]), -EINVAL);
	}
	pair_close(&lab);
}

/* More queries of long vectors, and more hits, than go into one frame: asked for in parts. */
static void test_reader__asks_in_parts(void **state)
{
	enum { LONG = 4096, QUERIES = 300, K = 3 };
	static float vectors[QUERIES][LONG];
	static struct haul_near_hit hits[QUERIES * K];
	struct pair_lab lab;

	(void)state;
	pair_open(&lab);
	for (uint32_t i = 0; i < QUERIES; i++)
		vectors[i][i] = 1;
	for (uint32_t i = 0; i < 3; i++) {
		const struct haul_embedding embedding = {
			.node = 1 + i, .index = 9, .dimensions = LONG, .vector = vectors[i * 100]
		};
		assert_true(haul_changes_set_embedding(lab.changes, &embedding) >= 0);
	}
	commit(&lab);
	const struct haul_near query = { .index = 9,
					 .dimensions = LONG,
					 .exact = true,
					 .k = K,
					 .count = QUERIES,
					 .vectors = vectors[0] };
	assert_int_equal(haul_reader_near(lab.there, &query, hits), QUERIES);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(hits[i * 100 * K].node, 1 + i);
		assert_true(hits[i * 100 * K].distance < 0.001F);
	}
	pair_close(&lab);
}

/* ---- pins, interrupts, lost connections ---- */

/* A pinned reader sees one state until it lets go; two are independent. */
static void test_reader__keeps_what_it_pinned(void **state)
{
	const uint64_t id = NODES + 1;
	struct haul_node node;
	int32_t status;
	struct pair_lab lab;

	(void)state;
	pair_open(&lab);
	assert_int_equal(haul_reader_pin(lab.there), 0);
	assert_int_equal(haul_reader_pin(lab.there), -EINVAL);
	add_node(&lab, id);
	commit(&lab);
	assert_int_equal(haul_reader_get(lab.there, &id, 1, &node, &status), 1);
	assert_int_equal(status, -ENOENT);
	assert_int_equal(serve_lab_figure(&lab.serve, "store.server", "pins"), 1);
	haul_reader_unpin(lab.there);
	assert_int_equal(haul_reader_get(lab.there, &id, 1, &node, &status), 1);
	assert_int_equal(status, 0);
	haul_reader_unpin(lab.there);
	assert_int_equal(haul_reader_pin(lab.there), 0);
	haul_reader_close(lab.there); /* the server lets go of it with the connection */
	while (serve_lab_figure(&lab.serve, "store.server", "pins") > 0)
		(void)sched_yield();
	assert_int_equal(haul_client_reader(lab.client, 0, &lab.there), 0);
	pair_close(&lab);
}

/* What was pinned is gone with the server that kept it: said so until it is let go of. */
static void test_reader__says_that_a_pin_is_gone(void **state)
{
	const uint64_t id = 1;
	struct haul_node node;
	int32_t status = 9;
	struct pair_lab lab;

	(void)state;
	pair_open(&lab);
	assert_int_equal(haul_reader_pin(lab.there), 0);
	serve_lab_stop(&lab.serve);
	serve_lab_start(&lab.serve, NULL);
	assert_int_equal(haul_reader_get(lab.there, &id, 1, &node, &status), HAUL_ESTALE);
	assert_int_equal(haul_reader_get(lab.there, &id, 1, &node, &status), HAUL_ESTALE);
	haul_reader_unpin(lab.there);
	assert_int_equal(haul_reader_get(lab.there, &id, 1, &node, &status), 1);
	assert_int_equal(status, 0);
	pair_close(&lab);
}

/* An interrupt ends the call under way or the next, and only that; also of one that has pinned. */
static void test_reader__can_be_interrupted(void **state)
{
	const uint64_t id = 1;
	struct haul_node node;
	int32_t status = 9;
	struct pair_lab lab;

	(void)state;
	pair_open(&lab);
	haul_reader_interrupt(lab.there);
	assert_int_equal(haul_reader_get(lab.there, &id, 1, &node, &status), -ECANCELED);
	assert_int_equal(haul_reader_get(lab.there, &id, 1, &node, &status), 1);
	assert_int_equal(haul_reader_pin(lab.there), 0);
	haul_reader_interrupt(lab.there);
	assert_int_equal(haul_reader_get(lab.there, &id, 1, &node, &status), -ECANCELED);
	assert_int_equal(haul_reader_get(lab.there, &id, 1, &node, &status), 1);
	assert_int_equal(status, 0);
	pair_close(&lab);
}

/* With nobody there a call says so at its deadline; and is answered once somebody is. */
static void test_reader__waits_for_a_server(void **state)
{
	const struct haul_client_options options = { .policy = HAUL_CLIENT_SELFCLOCK,
						     .deadline_ns = 60000000 };
	const uint64_t id = 1;
	struct haul_reader *reader;
	struct haul_node node;
	int32_t status = 9;
	struct serve_lab lab;

	(void)state;
	serve_lab_open(&lab, NULL);
	struct haul_client *client = serve_lab_client(&lab, lab.local, &options);
	assert_int_equal(haul_client_reader(client, 0, &reader), 0);
	serve_lab_stop(&lab);
	assert_int_equal(haul_reader_get(reader, &id, 1, &node, &status), -ENOTCONN);
	serve_lab_start(&lab, NULL);
	int rc; /* not in time, when the machine is busy */
	while ((rc = haul_reader_get(reader, &id, 1, &node, &status)) == -ETIMEDOUT)
		;
	assert_int_equal(rc, 1);
	assert_int_equal(status, -ENOENT);
	haul_reader_close(reader);
	haul_client_close(client);
	serve_lab_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reader__gets_the_same_by_name),
		cmocka_unit_test(test_reader__gets_the_same_by_key),
		cmocka_unit_test(test_reader__bounds_an_answer),
		cmocka_unit_test(test_reader__scans_the_same),
		cmocka_unit_test(test_reader__finds_the_same_neighbours),
		cmocka_unit_test(test_reader__walks_the_same),
		cmocka_unit_test(test_reader__finds_the_same_nearest),
		cmocka_unit_test(test_reader__asks_in_parts),
		cmocka_unit_test(test_reader__keeps_what_it_pinned),
		cmocka_unit_test(test_reader__says_that_a_pin_is_gone),
		cmocka_unit_test(test_reader__can_be_interrupted),
		cmocka_unit_test(test_reader__waits_for_a_server),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
