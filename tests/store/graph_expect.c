#include "graph_expect.h"

#include <errno.h>
#include <string.h>

/* ---- by name and in order ---- */

static void properties_expect(const struct model_property *wanted,
			      const struct haul_properties *got)
{
	struct haul_property property;
	uint8_t bytes[MODEL_BYTES_MAX];
	uint32_t offset = 0;

	for (uint32_t i = 0; i < MODEL_PROPERTIES; i++) {
		if (!wanted[i].given)
			continue;
		assert_int_equal(haul_property_next(got, &offset, &property), 1);
		const char *name = model_property_name(i);
		assert_int_equal(property.name_bytes, strlen(name));
		assert_memory_equal(property.name, name, strlen(name));
		assert_int_equal(property.type, wanted[i].type);
		if (property.type == HAUL_INTEGER)
			assert_int_equal((uint64_t)property.integer, wanted[i].value);
		else if (property.type == HAUL_FLOAT)
			assert_true(property.number == (double)wanted[i].value / 3);
		else {
			assert_int_equal(property.data_bytes, wanted[i].bytes);
			model_bytes(&wanted[i], bytes);
			assert_memory_equal(property.data, bytes, wanted[i].bytes);
		}
	}
	assert_int_equal(haul_property_next(got, &offset, &property), 0);
}

static void node_expect(const struct graph_model *model, const struct haul_node *got)
{
	char key[16];

	assert_in_range(got->id, 1, MODEL_IDS);
	const struct model_node *wanted = &model->node[got->id];
	assert_int_equal(got->version, wanted->version);
	assert_int_equal(got->kind, wanted->kind);
	assert_int_equal(got->key_bytes, wanted->key > 0 ? model_key(wanted->key, key) : 0);
	if (got->key_bytes > 0)
		assert_memory_equal(got->key, key, got->key_bytes);
	properties_expect(wanted->properties, &got->properties);
}

static void edge_expect(const struct graph_model *model, const struct haul_edge *got, bool bare)
{
	const struct haul_edge_id *id = &got->id;

	assert_in_range(id->src, 1, MODEL_IDS);
	assert_in_range(id->dst, 1, MODEL_IDS);
	assert_in_range(id->type, 0, MODEL_TYPES - 1);
	assert_in_range(id->disc, 0, MODEL_DISCS - 1);
	const struct model_edge *wanted = &model->edge[id->src][id->dst][id->type][id->disc];
	assert_true(wanted->version != 0);
	if (bare)
		return;
	assert_int_equal(got->version, wanted->version);
	properties_expect(wanted->properties, &got->properties);
}

static void embedding_expect(const struct graph_model *model, const struct haul_embedding *got)
{
	assert_in_range(got->node, 1, MODEL_IDS);
	assert_in_range(got->index, 0, MODEL_INDEXES - 1);
	const struct model_embedding *wanted = &model->embedding[got->index][got->node];
	assert_int_equal(got->version, wanted->version);
	assert_int_equal(got->dimensions, wanted->dimensions);
	assert_memory_equal(got->vector, wanted->vector, wanted->dimensions * sizeof(float));
}

static void expect_by_name(const struct graph_model *model, struct haul_reader *reader)
{
	struct haul_node nodes[MODEL_IDS + 1];
	struct haul_text keys[MODEL_KEYS + 1];
	char texts[MODEL_KEYS + 1][16];
	uint64_t ids[MODEL_IDS + 1];
	int32_t statuses[MODEL_IDS + 1];

	for (uint32_t i = 0; i <= MODEL_IDS; i++)
		ids[i] = MODEL_IDS - i + 1;
	assert_int_equal(haul_reader_get(reader, ids, MODEL_IDS, nodes, statuses), MODEL_IDS);
	for (uint32_t i = 0; i < MODEL_IDS; i++) {
		assert_int_equal(statuses[i], model->node[ids[i]].version != 0 ? 0 : -ENOENT);
		if (statuses[i] == 0)
			node_expect(model, &nodes[i]);
	}
	for (uint32_t key = 0; key < MODEL_KEYS; key++)
		keys[key] = (struct haul_text){ texts[key], model_key(key + 1, texts[key]) };
	assert_int_equal(haul_reader_get_by_key(reader, keys, MODEL_KEYS, nodes, statuses),
			 MODEL_KEYS);
	for (uint32_t key = 0; key < MODEL_KEYS; key++) {
		bool there = false;
		for (uint64_t id = 1; id <= MODEL_IDS; id++)
			there = there ||
				(model->node[id].version != 0 && model->node[id].key == key + 1);
		assert_int_equal(statuses[key], there ? 0 : -ENOENT);
		if (there) {
			node_expect(model, &nodes[key]);
			assert_int_equal(model->node[nodes[key].id].key, key + 1);
		}
	}
}

static void expect_scan(const struct graph_model *model, struct haul_reader *reader, uint32_t kind,
			uint32_t page)
{
	struct haul_scan scan = { .kind = kind };
	struct haul_node nodes[MODEL_IDS];
	uint64_t at = 1;
	int rc;

	while ((rc = haul_reader_scan(reader, &scan, nodes, page)) > 0) {
		for (int i = 0; i < rc; i++) {
			while (at <= MODEL_IDS &&
			       (model->node[at].version == 0 ||
				(kind != HAUL_ANY && model->node[at].kind != kind)))
				at++;
			assert_int_equal(nodes[i].id, at);
			node_expect(model, &nodes[i]);
			at++;
		}
	}
	assert_int_equal(rc, 0);
	for (; at <= MODEL_IDS; at++)
		assert_true(model->node[at].version == 0 ||
			    (kind != HAUL_ANY && model->node[at].kind != kind));
}

static uint32_t count_edges(const struct graph_model *model, uint64_t src, uint64_t dst,
			    uint32_t type)
{
	uint32_t count = 0;

	for (uint64_t a = 1; a <= MODEL_IDS; a++) {
		for (uint64_t b = 1; b <= MODEL_IDS; b++) {
			if ((src != 0 && a != src) || (dst != 0 && b != dst))
				continue;
			for (uint32_t i = 0; i < MODEL_TYPES * MODEL_DISCS; i++)
				count += (type == HAUL_ANY || type == i / MODEL_DISCS) &&
					 model->edge[a][b][i / MODEL_DISCS][i % MODEL_DISCS]
							 .version != 0;
		}
	}
	return count;
}

static void expect_edges(const struct graph_model *model, struct haul_reader *reader, uint32_t page)
{
	struct haul_cursor cursor = { 0 };
	struct haul_edge edges[MODEL_IDS];
	uint32_t count = 0;
	int rc;

	while ((rc = haul_reader_scan_edges(reader, &cursor, edges, page)) > 0) {
		for (int i = 0; i < rc; i++)
			edge_expect(model, &edges[i], false);
		count += (uint32_t)rc;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(count, count_edges(model, 0, 0, HAUL_ANY));
}

static void expect_neighbours(const struct graph_model *model, struct haul_reader *reader,
			      struct prng *prng)
{
	struct haul_neighbours query = {
		.node = 1 + prng_below(prng, MODEL_IDS),
		.direction = (enum haul_direction)prng_below(prng, 3),
		.type = prng_below(prng, MODEL_TYPES),
		.bare = prng_below(prng, 2) == 0,
	};
	const uint32_t page = 1 + prng_below(prng, MODEL_IDS);
	struct haul_edge edges[MODEL_IDS];
	uint32_t count = 0, wanted = 0;
	int rc;

	while ((rc = haul_reader_neighbours(reader, &query, edges, page)) > 0) {
		for (int i = 0; i < rc; i++) {
			edge_expect(model, &edges[i], query.bare);
			assert_true(edges[i].id.src == query.node || edges[i].id.dst == query.node);
			assert_true(query.type == HAUL_ANY || edges[i].id.type == query.type);
		}
		count += (uint32_t)rc;
	}
	assert_int_equal(rc, 0);
	if (query.direction != HAUL_IN)
		wanted += count_edges(model, query.node, 0, query.type);
	if (query.direction != HAUL_OUT)
		wanted += count_edges(model, 0, query.node, query.type);
	if (query.direction == HAUL_BOTH) /* an edge to itself is told once */
		wanted -= count_edges(model, query.node, query.node, query.type);
	assert_int_equal(count, wanted);
}

static void expect_embeddings(const struct graph_model *model, struct haul_reader *reader,
			      uint32_t page)
{
	struct haul_cursor cursor = { 0 };
	struct haul_embedding embeddings[MODEL_IDS];
	uint32_t count = 0;
	int rc;

	while ((rc = haul_reader_scan_embeddings(reader, &cursor, embeddings, page)) > 0) {
		for (int i = 0; i < rc; i++)
			embedding_expect(model, &embeddings[i]);
		count += (uint32_t)rc;
	}
	assert_int_equal(rc, 0);
	for (uint32_t i = 0; i < MODEL_INDEXES; i++) {
		for (uint64_t id = 1; id <= MODEL_IDS; id++)
			count -= model->embedding[i][id].version != 0;
	}
	assert_int_equal(count, 0);
}

/* ---- along edges ---- */

static bool is_edge(const struct graph_model *model, uint64_t a, uint64_t b, uint32_t type)
{
	for (uint32_t i = 0; i < MODEL_TYPES * MODEL_DISCS; i++) {
		if ((type == HAUL_ANY || type == i / MODEL_DISCS) &&
		    model->edge[a][b][i / MODEL_DISCS][i % MODEL_DISCS].version != 0)
			return true;
	}
	return false;
}

static bool leads(const struct graph_model *model, const struct haul_path *query, uint64_t a,
		  uint64_t b)
{
	return (query->direction != HAUL_IN && is_edge(model, a, b, query->type)) ||
	       (query->direction != HAUL_OUT && is_edge(model, b, a, query->type));
}

/* Fewest edges from src to each node, -1: more than depth, or not at all. */
static void depths_of(const struct graph_model *model, const struct haul_path *query,
		      int depths[MODEL_IDS + 1])
{
	for (uint64_t id = 0; id <= MODEL_IDS; id++)
		depths[id] = -1;
	depths[query->src] = 0;
	for (int depth = 0; depth < (int)query->depth_max; depth++) {
		for (uint64_t a = 1; a <= MODEL_IDS; a++) {
			for (uint64_t b = 1; depths[a] == depth && b <= MODEL_IDS; b++) {
				if (depths[b] < 0 && leads(model, query, a, b))
					depths[b] = depth + 1;
			}
		}
	}
}

static void expect_traverse(const struct graph_model *model, struct haul_reader *reader,
			    const struct haul_path *query)
{
	const struct haul_traverse traverse = { .start = query->src,
						.direction = query->direction,
						.type = query->type,
						.depth_max = query->depth_max };
	struct haul_visit visits[MODEL_IDS + 1];
	int depths[MODEL_IDS + 1];
	bool complete = false;

	const int rc = haul_reader_traverse(reader, &traverse, visits, MODEL_IDS + 1, &complete);
	depths_of(model, query, depths);
	assert_true(complete);
	int wanted = 0;
	for (uint64_t id = 1; id <= MODEL_IDS; id++)
		wanted += depths[id] >= 0;
	assert_int_equal(rc, wanted);
	for (int i = 0; i < rc; i++) {
		assert_int_equal(visits[i].depth, depths[visits[i].node]);
		if (visits[i].depth > 0)
			assert_true(leads(model, query, visits[i].from, visits[i].node));
		depths[visits[i].node] = -2; /* each once */
	}
}

static void expect_path(const struct graph_model *model, struct haul_reader *reader,
			const struct haul_path *query)
{
	uint64_t nodes[MODEL_IDS + 1];
	int depths[MODEL_IDS + 1];

	const int rc = haul_reader_path(reader, query, nodes, MODEL_IDS + 1);
	depths_of(model, query, depths);
	assert_int_equal(rc, depths[query->dst] + 1);
	for (int i = 0; i < rc; i++) {
		if (i == 0)
			assert_int_equal(nodes[i], query->src);
		else
			assert_true(leads(model, query, nodes[i - 1], nodes[i]));
	}
	if (rc > 0)
		assert_int_equal(nodes[rc - 1], query->dst);
}

/* ---- by likeness ---- */

static float distance(const float *a, const float *b, uint32_t dimensions)
{
	float sum = 0;

	for (uint32_t i = 0; i < dimensions; i++)
		sum += (a[i] - b[i]) * (a[i] - b[i]);
	return sum;
}

static void expect_near(const struct graph_model *model, struct haul_reader *reader,
			struct prng *prng)
{
	enum { QUERIES = 3, K = 5 };
	const uint32_t index = prng_below(prng, MODEL_INDEXES);
	const struct model_embedding *of = model->embedding[index];
	struct haul_near_hit hits[QUERIES * K];
	float vectors[QUERIES * MODEL_DIMENSIONS];
	uint32_t dimensions = 0;

	for (uint64_t id = 1; id <= MODEL_IDS; id++)
		dimensions = of[id].version != 0 ? of[id].dimensions : dimensions;
	if (dimensions == 0)
		return;
	for (uint32_t i = 0; i < QUERIES * dimensions; i++)
		vectors[i] = (float)prng_below(prng, 9) - 4;
	const struct haul_near near = { .index = index,
					.dimensions = dimensions,
					.metric = HAUL_EUCLIDEAN,
					.exact = true,
					.k = K,
					.count = QUERIES,
					.vectors = vectors };
	assert_int_equal(haul_reader_near(reader, &near, hits), QUERIES);
	for (uint32_t q = 0; q < QUERIES; q++) {
		const float *vector = &vectors[q * dimensions];
		bool taken[MODEL_IDS + 1] = { false };
		for (uint32_t k = 0; k < K; k++) {
			uint64_t best = 0;
			for (uint64_t id = 1; id <= MODEL_IDS; id++) {
				if (of[id].version == 0 || taken[id])
					continue;
				if (best == 0 ||
				    distance(vector, of[id].vector, dimensions) <
					    distance(vector, of[best].vector, dimensions))
					best = id;
			}
			if (hits[q * K + k].node != best)
				fail_msg("query %u, hit %u: node %llu at %f, wanted %llu at %f", q,
					 k, (unsigned long long)hits[q * K + k].node,
					 (double)hits[q * K + k].distance, (unsigned long long)best,
					 (double)distance(vector, of[best].vector, dimensions));
			taken[best] = true;
		}
	}
}

void model_expect(const struct graph_model *model, struct haul_reader *reader, struct prng *prng)
{
	const struct haul_path query = {
		.src = 1 + prng_below(prng, MODEL_IDS),
		.dst = 1 + prng_below(prng, MODEL_IDS),
		.direction = (enum haul_direction)prng_below(prng, 3),
		.type = prng_below(prng, MODEL_TYPES),
		.depth_max = 1 + prng_below(prng, 6),
	};
	const uint32_t page = 1 + prng_below(prng, MODEL_IDS);

	expect_by_name(model, reader);
	for (uint32_t kind = 0; kind < MODEL_KINDS; kind++)
		expect_scan(model, reader, kind, page);
	expect_edges(model, reader, page);
	expect_embeddings(model, reader, page);
	for (uint32_t i = 0; i < 4; i++)
		expect_neighbours(model, reader, prng);
	expect_traverse(model, reader, &query);
	expect_path(model, reader, &query);
	expect_near(model, reader, prng);
}
