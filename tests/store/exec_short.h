/* store/exec_short.h — changes in short, and what is there after them, for tests of the executor.
 *
 * Model      On the one lab of exec_group.h: changes are gathered in its list, last() executes
 *            them. Edges are of one type and disc. */
#pragma once

#include <string.h>

#include "base/bytes.h"
#include "store/exec_group.h"

struct node_of {
	uint32_t kind;
	const char *key;
	const char *text; /* of property "p" */
	uint32_t flags;
	uint64_t version;
};

static inline int node(bool create, uint64_t id, struct node_of of)
{
	const struct haul_change_options options = { of.flags, of.version };
	const struct haul_property property = {
		.name = "p",
		.name_bytes = 1,
		.type = HAUL_TEXT,
		.data = of.text,
		.data_bytes = of.text == NULL ? 0 : (uint32_t)strlen(of.text),
	};
	uint8_t buffer[256];
	struct haul_node of_it = {
		.id = id,
		.kind = of.kind,
		.key = of.key,
		.key_bytes = of.key == NULL ? 0 : (uint32_t)strlen(of.key),
	};

	assert_int_equal(haul_properties_encode(&property, of.text != NULL, buffer, sizeof buffer,
						&of_it.properties),
			 0);
	const int rc = create ? haul_changes_create_node(lab->changes, &of_it, &options)
			      : haul_changes_update_node(lab->changes, &of_it, &options);
	assert_true(rc >= 0);
	return rc;
}
#define CREATE(id, ...) node(true, id, (struct node_of){ __VA_ARGS__ })
#define UPDATE(id, ...) node(false, id, (struct node_of){ __VA_ARGS__ })

static inline int create(uint64_t id)
{
	return CREATE(id, .kind = 0);
}

static inline int update(uint64_t id)
{
	return UPDATE(id, .kind = 0);
}

static inline int delete_node(uint64_t id, uint32_t flags, uint64_t version)
{
	const struct haul_change_options options = { flags, version };

	return haul_changes_delete_node(lab->changes, id, &options);
}

enum edge_verb { EDGE_CREATE, EDGE_UPDATE, EDGE_DELETE };
static inline int edge(enum edge_verb verb, uint64_t src, uint64_t dst,
		       struct haul_change_options options)
{
	const struct haul_edge of = { .id = { .src = src, .dst = dst, .type = 5, .disc = 6 } };

	if (verb == EDGE_CREATE)
		return haul_changes_create_edge(lab->changes, &of, &options);
	if (verb == EDGE_UPDATE)
		return haul_changes_update_edge(lab->changes, &of, &options);
	return haul_changes_delete_edge(lab->changes, &of.id, &options);
}
#define OPTIONS(...) ((struct haul_change_options){ __VA_ARGS__ })

static inline int embed(uint64_t id, uint32_t index, uint32_t dimensions)
{
	static const float vector[8] = { 1, 2, 3 };
	const struct haul_embedding embedding = {
		.node = id, .index = index, .dimensions = dimensions, .vector = vector
	};

	return haul_changes_set_embedding(lab->changes, &embedding);
}

/* Execute what was gathered; the status of the last change. */
static inline int last(void)
{
	const uint32_t count = haul_changes_count(lab->changes);

	assert_true(count > 0);
	assert_int_equal(lab_run(lab), 0);
	assert_int_equal(lab->result.count, count);
	return lab->statuses[count - 1];
}

static inline bool has(enum tree tree, uint64_t a, uint64_t b, uint64_t c)
{
	return lab_find(lab, tree, (struct tree_key){ { a, b, c } }) != NULL;
}

static inline bool has_edge(uint64_t src, uint64_t dst)
{
	const uint64_t middle = UINT64_C(5) << 32 | 6;
	const bool out = has(TREE_OUT, src, middle, dst), in = has(TREE_IN, dst, middle, src);

	assert_int_equal(out, in);
	return out;
}

/* The node that a key leads to, 0 if none. */
static inline uint64_t by_key(const char *key)
{
	const struct lab_row *row =
		lab_find(lab, TREE_NAME, record_name(key, (uint32_t)strlen(key)));

	return row == NULL ? 0 : le64_load(row->value);
}

static inline const char *text_of(uint64_t id)
{
	static char text[64];
	const struct lab_row *row = lab_find(lab, TREE_NODE, (struct tree_key){ { id } });
	struct haul_property property = { 0 };
	struct haul_node of;

	assert_non_null(row);
	record_get_node(row->value, row->bytes, &of);
	if (haul_property_find(&of.properties, "p", &property) != 0)
		return "";
	memcpy(text, property.data, property.data_bytes);
	text[property.data_bytes] = 0;
	return text;
}

/* One property of so many bytes. */
static inline void fill(struct haul_properties *properties, const char *name, uint32_t data_bytes,
			uint8_t *buffer)
{
	static char data[HAUL_PROPERTIES_MAX];
	const struct haul_property property = { .name = name,
						.name_bytes = 1,
						.type = HAUL_BYTES,
						.data = data,
						.data_bytes = data_bytes };

	assert_int_equal(
		haul_properties_encode(&property, 1, buffer, HAUL_PROPERTIES_MAX, properties), 0);
}

static inline struct exec_index index_of(uint32_t index)
{
	const struct lab_row *row = lab_find(lab, TREE_OF_NODE, (struct tree_key){ { 0, index } });
	struct exec_index of = { 0 };

	if (row != NULL) {
		assert_int_equal(row->bytes, sizeof of);
		memcpy(&of, row->value, sizeof of);
	}
	return of;
}
