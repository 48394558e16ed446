#include "store/frame_sample.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"

static uint64_t random_id(struct prng *prng, uint32_t nodes)
{
	return 1 + prng_below(prng, nodes);
}

static struct haul_properties random_properties(struct prng *prng, uint8_t *buffer, uint32_t bytes,
						bool patch)
{
	struct haul_property list[4];
	struct haul_properties properties;
	static const char names[] = "abcd";
	uint32_t count = 0;

	for (uint32_t i = 0; i < 4; i++) {
		if (prng_below(prng, 2) == 0)
			continue;
		list[count++] = (struct haul_property){
			.name = names + i,
			.name_bytes = 1,
			.type = (enum haul_property_type)(
				prng_below(prng, HAUL_PROPERTY_TYPES - !patch) + !patch),
			.integer = (int64_t)prng_below(prng, 1000),
			.number = prng_unit(prng),
			.data = "some words of a text",
			.data_bytes = prng_below(prng, 20),
		};
	}
	const int error = haul_properties_encode(list, count, buffer, bytes, &properties);
	HAUL_ASSERT(error == 0);
	return properties;
}

static int node_change(struct prng *prng, struct haul_changes *changes, uint32_t nodes, bool create)
{
	const uint32_t key = prng_below(prng, 3 * nodes);
	struct haul_change_options options = {
		.flags = prng_below(prng, 3) != 0 ? 0
			 : create                 ? HAUL_UPSERT
						  : HAUL_PATCH,
	};
	uint8_t buffer[256];
	char text[16];
	struct haul_node node = {
		.id = random_id(prng, nodes),
		.kind = prng_below(prng, 3),
		.properties =
			random_properties(prng, buffer, sizeof buffer, options.flags == HAUL_PATCH),
	};

	if (key < nodes) {
		node.key = text;
		node.key_bytes = (uint32_t)snprintf(text, sizeof text, "key%u", key);
	}
	if (!create)
		return haul_changes_update_node(changes, &node, &options);
	return haul_changes_create_node(changes, &node, &options);
}

static int edge_change(struct prng *prng, struct haul_changes *changes, uint32_t nodes,
		       enum haul_change change)
{
	struct haul_change_options options = { 0 };
	uint8_t buffer[256];

	if (change == HAUL_CREATE_EDGE)
		options.flags = (prng_below(prng, 3) == 0 ? HAUL_UPSERT : 0) |
				(prng_below(prng, 3) == 0 ? HAUL_LOOSE : 0);
	if (change == HAUL_UPDATE_EDGE && prng_below(prng, 2) == 0)
		options.flags = HAUL_PATCH;
	const struct haul_edge edge = {
		.id = { .src = random_id(prng, nodes),
			.dst = random_id(prng, nodes),
			.type = prng_below(prng, 2),
			.disc = prng_below(prng, 2) },
		.properties = random_properties(prng, buffer, sizeof buffer,
						(options.flags & HAUL_PATCH) != 0),
	};
	if (change == HAUL_CREATE_EDGE)
		return haul_changes_create_edge(changes, &edge, &options);
	if (change == HAUL_UPDATE_EDGE)
		return haul_changes_update_edge(changes, &edge, &options);
	return haul_changes_delete_edge(changes, &edge.id, &options);
}

static int embedding_change(struct prng *prng, struct haul_changes *changes, uint32_t nodes,
			    bool set)
{
	const float vector[3] = { 1, 2, (float)prng_below(prng, 9) };
	const struct haul_embedding embedding = {
		.node = random_id(prng, nodes),
		.index = prng_below(prng, 2) * (HAUL_EMBEDDING_INDEXES - 1),
		.dimensions = 3 - (prng_below(prng, 8) == 0),
		.vector = vector,
	};

	if (set)
		return haul_changes_set_embedding(changes, &embedding);
	return haul_changes_delete_embedding(changes, embedding.node, embedding.index);
}

int sample_change(struct prng *prng, struct haul_changes *changes, uint32_t nodes)
{
	/* More is made than taken away. */
	static const enum haul_change kinds[] = {
		HAUL_CREATE_NODE,      HAUL_CREATE_NODE, HAUL_CREATE_NODE, HAUL_UPDATE_NODE,
		HAUL_UPDATE_NODE,      HAUL_DELETE_NODE, HAUL_CREATE_EDGE, HAUL_CREATE_EDGE,
		HAUL_CREATE_EDGE,      HAUL_UPDATE_EDGE, HAUL_DELETE_EDGE, HAUL_SET_EMBEDDING,
		HAUL_DELETE_EMBEDDING,
	};
	const enum haul_change change = kinds[prng_below(prng, sizeof kinds / sizeof *kinds)];
	const struct haul_change_options options = {
		.flags = prng_below(prng, 2) == 0 ? HAUL_DETACH : 0,
	};

	switch (change) {
	case HAUL_CREATE_NODE:
	case HAUL_UPDATE_NODE:
		return node_change(prng, changes, nodes, change == HAUL_CREATE_NODE);
	case HAUL_DELETE_NODE:
		return haul_changes_delete_node(changes, random_id(prng, nodes), &options);
	case HAUL_CREATE_EDGE:
	case HAUL_UPDATE_EDGE:
	case HAUL_DELETE_EDGE:
		return edge_change(prng, changes, nodes, change);
	case HAUL_SET_EMBEDDING:
	case HAUL_DELETE_EMBEDDING:
	case HAUL_CHANGES:
	default:
		return embedding_change(prng, changes, nodes, change == HAUL_SET_EMBEDDING);
	}
}

uint32_t sample_changes(struct prng *prng, struct haul_changes *changes, uint32_t nodes,
			uint32_t count)
{
	const uint32_t from = haul_changes_count(changes);

	while (haul_changes_count(changes) - from < count) {
		uint32_t group = prng_below(prng, 3) == 0 ? 1 + prng_below(prng, 5) : 0;
		int rc = 0;
		if (group == 0) {
			rc = sample_change(prng, changes, nodes);
		} else {
			HAUL_ASSERT(haul_changes_begin(changes) == 0);
			for (; group > 0 && rc >= 0; group--)
				rc = sample_change(prng, changes, nodes);
			if (rc < 0)
				haul_changes_cancel(changes);
			else
				HAUL_ASSERT(haul_changes_end(changes) == 0);
		}
		if (rc == HAUL_EFULL) /* an unordered list takes no group of several: -EINVAL */
			break;
	}
	return haul_changes_count(changes) - from;
}

uint32_t sample_seal(const struct haul_changes *changes, uint8_t *data, uint32_t bytes)
{
	const struct changes_sender sender = { .kind = FRAME_CHANGES };
	const int error = changes_seal(changes, &sender, data, bytes);

	HAUL_ASSERT(error == 0);
	return changes_frame_bytes(changes);
}

uint32_t sample_frame(uint8_t *data, uint32_t bytes, uint64_t id, uint32_t count,
		      uint32_t value_bytes, uint64_t seq)
{
	static const uint8_t zeros[4096];
	const struct changes_sender sender = {
		.kind = FRAME_CHANGES,
		.session = { seq != 0 ? 77 : 0, seq != 0 ? 1 : 0 },
		.seq = seq,
	};
	const struct haul_property property = {
		.name = "p",
		.name_bytes = 1,
		.type = HAUL_BYTES,
		.data = zeros,
		.data_bytes = value_bytes,
	};
	uint8_t buffer[8192];
	struct haul_changes *changes;
	struct haul_node node = { .kind = 1 };

	HAUL_ASSERT(value_bytes <= sizeof zeros && haul_changes_new(&changes, 0, 0, 0) == 0);
	HAUL_ASSERT(haul_properties_encode(&property, 1, buffer, sizeof buffer, &node.properties) ==
		    0);
	for (uint32_t i = 0; i < count; i++) {
		node.id = id + i;
		HAUL_ASSERT(haul_changes_create_node(changes, &node, NULL) == (int)i);
	}
	const int error = changes_seal(changes, &sender, data, bytes);
	HAUL_ASSERT(error == 0);
	const uint32_t used = changes_frame_bytes(changes);
	haul_changes_free(changes);
	return used;
}
