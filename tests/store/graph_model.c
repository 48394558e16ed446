#include "graph_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts and properties ---- */

uint32_t model_key(uint32_t key, char text[16])
{
	return (uint32_t)snprintf(text, 16, "key-%u", key);
}

const char *model_property_name(uint32_t number)
{
	static const char *const names[MODEL_PROPERTIES] = { "age", "motto", "weight" };
	return names[number];
}

void model_bytes(const struct model_property *property, uint8_t *data)
{
	for (uint32_t i = 0; i < property->bytes; i++)
		data[i] = (uint8_t)('a' + (property->value + i * (i + 3)) % 26);
}

static uint32_t properties_put(const struct model_property *from, struct haul_property *to,
			       uint8_t (*bytes)[MODEL_BYTES_MAX])
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < MODEL_PROPERTIES; i++) {
		const struct model_property *property = &from[i];
		if (!property->given)
			continue;
		const char *name = model_property_name(i);
		to[count] = (struct haul_property){ .name = name,
						    .name_bytes = (uint32_t)strlen(name),
						    .type = property->type,
						    .integer = (int64_t)property->value,
						    .number = (double)property->value / 3,
						    .data = bytes[i],
						    .data_bytes = property->bytes };
		model_bytes(property, bytes[i]);
		count++;
	}
	return count;
}

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

/* ---- random frames ---- */

static void random_properties(struct model_property *properties, bool patch, struct prng *prng)
{
	for (uint32_t i = 0; i < MODEL_PROPERTIES; i++) {
		struct model_property *property = &properties[i];
		memset(property, 0, sizeof *property);
		property->given = prng_below(prng, 3) > 0;
		if (!property->given)
			continue;
		property->type = (enum haul_property_type)(1 + prng_below(prng, 4));
		if (patch && prng_below(prng, 4) == 0)
			property->type = HAUL_NULL;
		if (property->type == HAUL_INTEGER || property->type == HAUL_FLOAT)
			property->value = prng_next(prng) >> 12;
		if (property->type == HAUL_TEXT || property->type == HAUL_BYTES) {
			property->value = prng_below(prng, 1000);
			property->bytes = prng_below(prng, 10) == 0
						  ? prng_below(prng, MODEL_BYTES_MAX)
						  : prng_below(prng, 20);
		}
	}
}

static uint64_t version_of(const struct graph_model *model, const struct model_change *change)
{
	switch (change->change) {
	case HAUL_CREATE_NODE:
	case HAUL_UPDATE_NODE:
	case HAUL_DELETE_NODE:
		return model->node[change->id].version;
	case HAUL_CREATE_EDGE:
	case HAUL_UPDATE_EDGE:
	case HAUL_DELETE_EDGE:
		return model->edge[change->id][change->dst][change->type][change->disc].version;
	case HAUL_SET_EMBEDDING:
	case HAUL_DELETE_EMBEDDING:
	case HAUL_CHANGES:
	default:
		return 0;
	}
}

static void random_change(struct model_change *change, const struct graph_model *model,
			  struct prng *prng)
{
	static const enum haul_change often[] = {
		HAUL_CREATE_NODE, HAUL_CREATE_NODE,   HAUL_CREATE_NODE,   HAUL_UPDATE_NODE,
		HAUL_UPDATE_NODE, HAUL_DELETE_NODE,   HAUL_CREATE_EDGE,   HAUL_CREATE_EDGE,
		HAUL_CREATE_EDGE, HAUL_CREATE_EDGE,   HAUL_UPDATE_EDGE,   HAUL_DELETE_EDGE,
		HAUL_DELETE_EDGE, HAUL_SET_EMBEDDING, HAUL_SET_EMBEDDING, HAUL_DELETE_EMBEDDING,
	};
	memset(change, 0, sizeof *change);
	change->change = often[prng_below(prng, sizeof often / sizeof often[0])];
	change->id = 1 + prng_below(prng, MODEL_IDS);
	change->dst = 1 + prng_below(prng, MODEL_IDS);
	change->type = prng_below(prng, MODEL_TYPES);
	change->disc = prng_below(prng, MODEL_DISCS);
	change->index = prng_below(prng, MODEL_INDEXES);
	change->kind = prng_below(prng, MODEL_KINDS);
	change->key = prng_below(prng, 3) == 0 ? 1 + prng_below(prng, MODEL_KEYS) : 0;
	switch (change->change) {
	case HAUL_CREATE_NODE:
		change->flags = prng_below(prng, 3) == 0 ? HAUL_UPSERT : 0;
		break;
	case HAUL_CREATE_EDGE:
		change->flags = prng_below(prng, 3) == 0 ? HAUL_UPSERT : 0;
		change->flags |= prng_below(prng, 3) == 0 ? HAUL_LOOSE : 0;
		break;
	case HAUL_UPDATE_NODE:
	case HAUL_UPDATE_EDGE:
		change->flags = prng_below(prng, 2) == 0 ? HAUL_PATCH : 0;
		break;
	case HAUL_DELETE_NODE:
		change->flags = prng_below(prng, 2) == 0 ? HAUL_DETACH : 0;
		break;
	case HAUL_DELETE_EDGE:
	case HAUL_SET_EMBEDDING:
	case HAUL_DELETE_EMBEDDING:
	case HAUL_CHANGES:
	default:
		break;
	}
	random_properties(change->properties, (change->flags & HAUL_PATCH) != 0, prng);
	if (prng_below(prng, 5) == 0)
		change->expected = prng_below(prng, 3) > 0 ? version_of(model, change)
							   : 1 + prng_below(prng, 100);
	if (change->change == HAUL_CREATE_NODE || change->change == HAUL_CREATE_EDGE)
		change->expected = (change->flags & HAUL_UPSERT) != 0 ? change->expected : 0;
	if (change->change == HAUL_SET_EMBEDDING || change->change == HAUL_DELETE_EMBEDDING)
		change->expected = 0;
	change->dimensions = prng_below(prng, 12) == 0 ? 3 : MODEL_DIMENSIONS;
	for (uint32_t i = 0; i < MODEL_DIMENSIONS; i++)
		change->vector[i] = (float)prng_below(prng, 9) - 4;
}

void model_frame_random(struct model_frame *frame, const struct graph_model *model,
			struct prng *prng)
{
	uint32_t group = 0, left = 0;

	frame->count = 1 + prng_below(prng, prng_below(prng, 4) == 0 ? MODEL_FRAME : 6);
	for (uint32_t i = 0; i < frame->count; i++) {
		struct model_change *change = &frame->change[i];
		if (left == 0 && prng_below(prng, 4) == 0) {
			left = 1 + prng_below(prng, 6);
			group++;
		}
		random_change(change, model, prng);
		change->group = left > 0 ? group : 0;
		left -= left > 0;
	}
}

static int change_put(const struct model_change *change, struct haul_changes *changes)
{
	const struct haul_change_options options = { change->flags, change->expected };
	struct haul_property properties[MODEL_PROPERTIES];
	uint8_t bytes[MODEL_PROPERTIES][MODEL_BYTES_MAX], buffer[4 * MODEL_BYTES_MAX];
	struct haul_properties encoded = { 0 };
	char key[16];

	const uint32_t count = properties_put(change->properties, properties, bytes);
	assert_int_equal(haul_properties_encode(properties, count, buffer, sizeof buffer, &encoded),
			 0);
	const struct haul_node node = { .id = change->id,
					.kind = change->kind,
					.key_bytes =
						change->key > 0 ? model_key(change->key, key) : 0,
					.key = key,
					.properties = encoded };
	const struct haul_edge edge = {
		.id = { change->id, change->dst, change->type, change->disc }, .properties = encoded
	};
	const struct haul_embedding embedding = { .node = change->id,
						  .index = change->index,
						  .dimensions = change->dimensions,
						  .vector = change->vector };
	switch (change->change) {
	case HAUL_CREATE_NODE:
		return haul_changes_create_node(changes, &node, &options);
	case HAUL_UPDATE_NODE:
		return haul_changes_update_node(changes, &node, &options);
	case HAUL_DELETE_NODE:
		return haul_changes_delete_node(changes, change->id, &options);
	case HAUL_CREATE_EDGE:
		return haul_changes_create_edge(changes, &edge, &options);
	case HAUL_UPDATE_EDGE:
		return haul_changes_update_edge(changes, &edge, &options);
	case HAUL_DELETE_EDGE:
		return haul_changes_delete_edge(changes, &edge.id, &options);
	case HAUL_SET_EMBEDDING:
		return haul_changes_set_embedding(changes, &embedding);
	case HAUL_DELETE_EMBEDDING:
		return haul_changes_delete_embedding(changes, change->id, change->index);
	case HAUL_CHANGES:
	default:
		return -EINVAL;
	}
}

void model_frame_put(const struct model_frame *frame, struct haul_changes *changes)
{
	uint32_t group = 0;

	for (uint32_t i = 0; i < frame->count; i++) {
		const struct model_change *change = &frame->change[i];
		if (group != 0 && change->group != group)
			assert_int_equal(haul_changes_end(changes), 0);
		if (change->group != 0 && change->group != group)
			assert_int_equal(haul_changes_begin(changes), 0);
		group = change->group;
		assert_int_equal(change_put(change, changes), i);
	}
	if (group != 0)
		assert_int_equal(haul_changes_end(changes), 0);
}

/* ---- what a store has to do ---- */

static bool expected_is_other(const struct model_change *change, uint64_t version)
{
	return change->expected != 0 && change->expected != version;
}

static bool key_is_taken(const struct graph_model *model, const struct model_change *change)
{
	for (uint64_t id = 1; id <= MODEL_IDS; id++) {
		if (change->key != 0 && id != change->id && model->node[id].version != 0 &&
		    model->node[id].key == change->key)
			return true;
	}
	return false;
}

static void properties_set(struct model_property *to, const struct model_change *change)
{
	const bool patch = (change->flags & HAUL_PATCH) != 0;

	for (uint32_t i = 0; i < MODEL_PROPERTIES; i++) {
		const struct model_property *from = &change->properties[i];
		if (patch && !from->given)
			continue;
		to[i] = *from;
		if (from->given && from->type == HAUL_NULL)
			memset(&to[i], 0, sizeof to[i]);
	}
}

static void node_set(struct model_node *node, const struct model_change *change, uint64_t op)
{
	const bool patch = (change->flags & HAUL_PATCH) != 0;

	node->version = op;
	if (!patch || change->kind != 0)
		node->kind = change->kind;
	if (!patch || change->key != 0)
		node->key = change->key;
	properties_set(node->properties, change);
}

static int apply_create_node(struct graph_model *model, const struct model_change *change,
			     uint64_t op)
{
	struct model_node *node = &model->node[change->id];

	if (node->version != 0 && (change->flags & HAUL_UPSERT) == 0)
		return -EEXIST;
	if (expected_is_other(change, node->version))
		return HAUL_ESTALE;
	if (key_is_taken(model, change))
		return -EEXIST;
	memset(node, 0, sizeof *node);
	node_set(node, change, op);
	return 0;
}

static int apply_update_node(struct graph_model *model, const struct model_change *change,
			     uint64_t op)
{
	struct model_node *node = &model->node[change->id];

	if (node->version == 0)
		return -ENOENT;
	if (expected_is_other(change, node->version))
		return HAUL_ESTALE;
	if (key_is_taken(model, change))
		return -EEXIST;
	node_set(node, change, op);
	return 0;
}

/* Whether anything hangs on the node; with `take` it is taken away. */
static bool hangs(struct graph_model *model, uint64_t id, bool take)
{
	bool any = false;

	for (uint64_t other = 1; other <= MODEL_IDS; other++) {
		for (uint32_t i = 0; i < MODEL_TYPES * MODEL_DISCS; i++) {
			struct model_edge *out =
				&model->edge[id][other][i / MODEL_DISCS][i % MODEL_DISCS];
			struct model_edge *in =
				&model->edge[other][id][i / MODEL_DISCS][i % MODEL_DISCS];
			any = any || out->version != 0 || in->version != 0;
			if (take)
				out->version = in->version = 0;
		}
	}
	for (uint32_t index = 0; index < MODEL_INDEXES; index++) {
		any = any || model->embedding[index][id].version != 0;
		if (take)
			model->embedding[index][id].version = 0;
	}
	return any;
}

static int apply_delete_node(struct graph_model *model, const struct model_change *change)
{
	struct model_node *node = &model->node[change->id];
	const bool detach = (change->flags & HAUL_DETACH) != 0;

	if (node->version == 0)
		return -ENOENT;
	if (expected_is_other(change, node->version))
		return HAUL_ESTALE;
	if (hangs(model, change->id, detach) && !detach)
		return -ENOTEMPTY;
	node->version = 0;
	return 0;
}

static int apply_edge(struct graph_model *model, const struct model_change *change, uint64_t op)
{
	struct model_edge *edge = &model->edge[change->id][change->dst][change->type][change->disc];
	const bool create = change->change == HAUL_CREATE_EDGE;

	if (create && (change->flags & HAUL_LOOSE) == 0 &&
	    (model->node[change->id].version == 0 || model->node[change->dst].version == 0))
		return -ENOENT;
	if (create && edge->version != 0 && (change->flags & HAUL_UPSERT) == 0)
		return -EEXIST;
	if (!create && edge->version == 0)
		return -ENOENT;
	if (expected_is_other(change, edge->version))
		return HAUL_ESTALE;
	if (change->change == HAUL_DELETE_EDGE) {
		edge->version = 0;
		return 0;
	}
	if (create)
		memset(edge, 0, sizeof *edge);
	edge->version = op;
	properties_set(edge->properties, change);
	return 0;
}

static int apply_embedding(struct graph_model *model, const struct model_change *change,
			   uint64_t op)
{
	struct model_embedding *of = model->embedding[change->index];

	if (change->change == HAUL_DELETE_EMBEDDING) {
		if (of[change->id].version == 0)
			return -ENOENT;
		of[change->id].version = 0;
		return 0;
	}
	if (model->node[change->id].version == 0)
		return -ENOENT;
	for (uint64_t id = 1; id <= MODEL_IDS; id++) {
		if (id != change->id && of[id].version != 0 &&
		    of[id].dimensions != change->dimensions)
			return -EINVAL;
	}
	of[change->id].version = op;
	of[change->id].dimensions = change->dimensions;
	memcpy(of[change->id].vector, change->vector, sizeof change->vector);
	return 0;
}

static int apply_change(struct graph_model *model, const struct model_change *change, uint64_t op)
{
	switch (change->change) {
	case HAUL_CREATE_NODE:
		return apply_create_node(model, change, op);
	case HAUL_UPDATE_NODE:
		return apply_update_node(model, change, op);
	case HAUL_DELETE_NODE:
		return apply_delete_node(model, change);
	case HAUL_CREATE_EDGE:
	case HAUL_UPDATE_EDGE:
	case HAUL_DELETE_EDGE:
		return apply_edge(model, change, op);
	case HAUL_SET_EMBEDDING:
	case HAUL_DELETE_EMBEDDING:
		return apply_embedding(model, change, op);
	case HAUL_CHANGES:
	default:
		return -EINVAL;
	}
}

void model_apply(struct graph_model *model, const struct model_frame *frame, uint64_t op,
		 int32_t *statuses)
{
	struct graph_model *before = malloc(sizeof *before);

	assert_non_null(before);
	for (uint32_t from = 0, to; from < frame->count; from = to) {
		const uint32_t group = frame->change[from].group;
		for (to = from + 1; group != 0 && to < frame->count; to++) {
			if (frame->change[to].group != group)
				break;
		}
		if (to > from + 1) /* one change alone changes nothing when it fails */
			*before = *model;
		int failed = 0;
		for (uint32_t i = from; i < to; i++) {
			statuses[i] = failed == 0 ? apply_change(model, &frame->change[i], op)
						  : -ECANCELED;
			failed = failed == 0 ? statuses[i] : failed;
		}
		if (failed == 0)
			continue;
		if (to > from + 1)
			*model = *before;
		for (uint32_t i = from; i < to; i++)
			statuses[i] = statuses[i] == 0 ? -ECANCELED : statuses[i];
	}
	free(before);
	model->op = op;
}

void model_expect_statuses(const struct model_frame *frame, const int32_t *wanted,
			   const int32_t *got)
{
	for (uint32_t i = 0; i < frame->count; i++) {
		if (wanted[i] != got[i])
			print_message("change %u (%s, id %llu, flags %u): %d, wanted %d\n", i,
				      haul_change_name(frame->change[i].change),
				      (unsigned long long)frame->change[i].id,
				      frame->change[i].flags, got[i], wanted[i]);
		assert_int_equal(wanted[i], got[i]);
	}
}

/* ---- comparing ---- */

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

void model_depths(const struct graph_model *model, const struct haul_path *query,
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
	model_depths(model, query, depths);
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
	model_depths(model, query, depths);
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
