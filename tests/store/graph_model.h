/* store/graph_model.h — a naive graph in memory, and random changes to it: the oracle of the store.
 *
 * Model      Few ids, keys, types, so that changes meet each other. A frame is a list of changes in
 *            groups; model_frame_random makes one, model_frame_put adds it to haul_changes,
 *            model_apply does to the model what a store has to do, and tells the statuses that it
 *            has to tell.
 * Threads    one. Errors: asserts. */
#pragma once

#include <haul/reader.h>
#include "lib/testlib.h"

enum {
	MODEL_IDS = 14, /* 1 … */
	MODEL_KINDS = 4,
	MODEL_KEYS = 10, /* 1 …; 0 = none */
	MODEL_TYPES = 3,
	MODEL_DISCS = 2,
	MODEL_INDEXES = 2,
	MODEL_PROPERTIES = 3,
	MODEL_DIMENSIONS = 4, /* at most */
	MODEL_FRAME = 48,
	MODEL_BYTES_MAX = 400, /* of a text */
};

struct model_property {
	bool given;
	enum haul_property_type type;
	uint64_t value; /* integer, bits of a float, or what bytes are made of */
	uint32_t bytes;
};

struct model_node {
	uint64_t version; /* 0 = not there */
	uint32_t kind, key;
	struct model_property properties[MODEL_PROPERTIES];
};
struct model_edge {
	uint64_t version;
	struct model_property properties[MODEL_PROPERTIES];
};
struct model_embedding {
	uint64_t version;
	uint32_t dimensions;
	float vector[MODEL_DIMENSIONS];
};

struct graph_model {
	uint64_t op;
	struct model_node node[MODEL_IDS + 2]; /* one more: an id that nobody has */
	struct model_edge edge[MODEL_IDS + 1][MODEL_IDS + 1][MODEL_TYPES][MODEL_DISCS];
	struct model_embedding embedding[MODEL_INDEXES][MODEL_IDS + 1];
};

struct model_change {
	enum haul_change change;
	uint32_t group; /* 0 = its own; changes of one group follow each other */
	uint64_t id, dst;
	uint32_t type, disc, index, kind, key;
	uint32_t flags;
	uint64_t expected;
	struct model_property properties[MODEL_PROPERTIES];
	uint32_t dimensions;
	float vector[MODEL_DIMENSIONS];
};
struct model_frame {
	uint32_t count;
	struct model_change change[MODEL_FRAME];
};

void model_frame_random(struct model_frame *frame, const struct graph_model *model,
			struct prng *prng);
void model_frame_put(const struct model_frame *frame, struct haul_changes *changes);
void model_apply(struct graph_model *model, const struct model_frame *frame, uint64_t op,
		 int32_t *statuses);
void model_expect_statuses(const struct model_frame *frame, const int32_t *wanted,
			   const int32_t *got);

/* Text of a key; bytes of a property. */
uint32_t model_key(uint32_t key, char text[16]);
void model_bytes(const struct model_property *property, uint8_t *data);
const char *model_property_name(uint32_t number);
