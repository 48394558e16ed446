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
