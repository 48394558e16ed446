#include "store/reader_lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

enum { FRAME_BYTES = 48 << 10 };

void reader_lab_init(struct reader_lab *lab, const struct reader_lab_options *options)
{
	memset(lab, 0, sizeof *lab);
	lsm_lab_init(&lab->lsm, options->seed);
	if (options->memtable_bytes != 0) {
		lab->lsm.options.memtable_bytes = options->memtable_bytes;
		lab->lsm.options.table_bytes = 256 << 10;
		lab->lsm.options.block_bytes = 16 << 10;
	}
	assert_int_equal(lsm_lab_open(&lab->lsm), 0);
	assert_int_equal(vectors_new(&lab->vectors, options->vectors_bytes), 0);
	assert_int_equal(
		reader_store_new(&lab->reader, lab->lsm.lsm, lab->vectors, options->reader_bytes),
		0);
}

void reader_lab_done(struct reader_lab *lab)
{
	haul_reader_close(lab->reader);
	vectors_free(lab->vectors);
	lsm_lab_done(&lab->lsm);
}

int reader_lab_teardown(void **state)
{
	reader_lab_done(*state);
	free(*state);
	return 0;
}

uint64_t reader_lab_op(const struct reader_lab *lab)
{
	return lab->lsm.place.op + 1;
}

uint64_t reader_lab_frame(struct reader_lab *lab)
{
	if (lab->put > 0)
		assert_int_equal(lsm_lab_frame(&lab->lsm), 0);
	lab->put = 0;
	lsm_lab_publish(&lab->lsm, lab->lsm.place.op);
	return lab->lsm.place.op;
}

void reader_lab_row(struct reader_lab *lab, enum tree tree, struct tree_key key,
		    const struct tree_row *row)
{
	assert_int_equal(lsm_put(lab->lsm.lsm, tree, &key, reader_lab_op(lab), row), 0);
	lab->put += 64 + row->bytes;
}

static void row_put(struct reader_lab *lab, enum tree tree, struct tree_key key, uint32_t bytes)
{
	const struct tree_row row = { .value = lab->value, .bytes = bytes };

	reader_lab_row(lab, tree, key, &row);
}

static void row_drop(struct reader_lab *lab, enum tree tree, struct tree_key key)
{
	const struct tree_row row = { .deleted = true };

	reader_lab_row(lab, tree, key, &row);
}

/* Before a record that has to be of one frame. */
static void frame_room(struct reader_lab *lab)
{
	if (lab->put > FRAME_BYTES)
		(void)reader_lab_frame(lab);
}

/* ---- what stands in records ---- */

uint32_t reader_lab_key(uint32_t key, char text[HAUL_KEY_MAX + 1])
{
	return (uint32_t)snprintf(text, HAUL_KEY_MAX + 1, "key %u%s", key,
				  key % 3 == 0 ? ", and a good deal longer than the others" : "");
}

static struct haul_properties properties_make(uint8_t *buffer, uint64_t a, uint64_t b,
					      uint32_t bytes)
{
	static uint8_t data[HAUL_PROPERTIES_MAX];
	struct haul_properties properties = { .data = NULL };

	for (uint32_t i = 0; i < bytes; i++)
		data[i] = (uint8_t)hash_u64(a * 77 + b * 8191 + i / 8);
	const struct haul_property property = {
		.name = "p", .name_bytes = 1, .type = HAUL_BYTES, .data = data, .data_bytes = bytes
	};
	if (bytes > 0)
		assert_int_equal(haul_properties_encode(&property, 1, buffer, HAUL_PROPERTIES_MAX,
							&properties),
				 0);
	return properties;
}

static uint32_t node_make(uint8_t *value, const struct reader_lab_node *node)
{
	char key[HAUL_KEY_MAX + 1];
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	struct haul_node put = { .id = node->id, .kind = node->kind };

	if (node->key != 0)
		put.key_bytes = reader_lab_key(node->key, key);
	put.key = key;
	put.properties = properties_make(buffer, node->id, node->version, node->bytes);
	return record_put_node(value, &put);
}

void reader_lab_expect_node(struct reader_lab *lab, const struct reader_lab_node *wanted,
			    const struct haul_node *got)
{
	struct haul_node node;

	assert_true(wanted->version > 0);
	record_get_node(lab->wanted, node_make(lab->wanted, wanted), &node);
	assert_int_equal(got->id, wanted->id);
	assert_int_equal(got->version, wanted->version);
	assert_int_equal(got->kind, wanted->kind);
	assert_int_equal(got->key_bytes, node.key_bytes);
	if (node.key_bytes > 0)
		assert_memory_equal(got->key, node.key, node.key_bytes);
	assert_int_equal(got->properties.count, node.properties.count);
	assert_int_equal(got->properties.bytes, node.properties.bytes);
	if (node.properties.bytes > 0)
		assert_memory_equal(got->properties.data, node.properties.data,
				    node.properties.bytes);
}

void reader_lab_expect_edge(struct reader_lab *lab, const struct reader_lab_edge *wanted,
			    const struct haul_edge *got, bool bare)
{
	assert_int_equal(got->id.src, wanted->id.src);
	assert_int_equal(got->id.dst, wanted->id.dst);
	assert_int_equal(got->id.type, wanted->id.type);
	assert_int_equal(got->id.disc, wanted->id.disc);
	assert_int_equal(got->version, bare ? 0 : wanted->version);
	if (bare) {
		assert_int_equal(got->properties.count, 0);
		return;
	}
	const struct haul_properties properties =
		properties_make(lab->wanted, wanted->id.src, wanted->version, wanted->bytes);
	assert_int_equal(got->properties.bytes, properties.bytes);
	if (properties.bytes > 0)
		assert_memory_equal(got->properties.data, properties.data, properties.bytes);
}

/* ---- records ---- */

static struct tree_key key_row(uint32_t key)
{
	char text[HAUL_KEY_MAX + 1];
	const uint32_t bytes = reader_lab_key(key, text);

	return record_name(text, bytes);
}

void reader_lab_node_drop(struct reader_lab *lab, struct reader_lab_node *node)
{
	if (node->version == 0)
		return;
	frame_room(lab);
	row_drop(lab, TREE_NODE, (struct tree_key){ { node->id, 0, 0 } });
	if (node->key != 0)
		row_drop(lab, TREE_NAME, key_row(node->key));
	if (node->kind != 0)
		row_drop(lab, TREE_KIND, (struct tree_key){ { node->kind, node->id, 0 } });
	node->version = 0;
}

void reader_lab_node(struct reader_lab *lab, struct reader_lab_node *node)
{
	frame_room(lab);
	node->version = reader_lab_op(lab);
	row_put(lab, TREE_NODE, (struct tree_key){ { node->id, 0, 0 } },
		node_make(lab->value, node));
	le64_store(lab->value, node->id);
	if (node->key != 0)
		row_put(lab, TREE_NAME, key_row(node->key), sizeof node->id);
	if (node->kind != 0)
		row_put(lab, TREE_KIND, (struct tree_key){ { node->kind, node->id, 0 } }, 0);
}

static struct tree_key edge_row(const struct haul_edge_id *id, bool in)
{
	const uint64_t type = (uint64_t)id->type << 32 | id->disc;

	if (in)
		return (struct tree_key){ { id->dst, type, id->src } };
	return (struct tree_key){ { id->src, type, id->dst } };
}

void reader_lab_edge(struct reader_lab *lab, struct reader_lab_edge *edge)
{
	static uint8_t buffer[HAUL_PROPERTIES_MAX];
	struct haul_edge put = { .id = edge->id };

	frame_room(lab);
	/* The other row is written when the edge is made: its op is older then. */
	if (edge->version == 0)
		row_put(lab, TREE_IN, edge_row(&edge->id, true), 0);
	edge->version = reader_lab_op(lab);
	put.properties = properties_make(buffer, edge->id.src, edge->version, edge->bytes);
	row_put(lab, TREE_OUT, edge_row(&edge->id, false), record_put_edge(lab->value, &put));
}

void reader_lab_edge_drop(struct reader_lab *lab, struct reader_lab_edge *edge)
{
	if (edge->version == 0)
		return;
	frame_room(lab);
	row_drop(lab, TREE_OUT, edge_row(&edge->id, false));
	row_drop(lab, TREE_IN, edge_row(&edge->id, true));
	edge->version = 0;
}

void reader_lab_embedding(struct reader_lab *lab, const struct haul_embedding *embedding)
{
	const struct tree_key key = { { embedding->index, embedding->node, 0 } };

	frame_room(lab);
	row_put(lab, TREE_EMBEDDING, key, record_put_embedding(lab->value, embedding));
	vectors_stage(lab->vectors, reader_lab_op(lab), embedding->index, embedding->node);
}

void reader_lab_embedding_drop(struct reader_lab *lab, uint32_t index, uint64_t node)
{
	frame_room(lab);
	row_drop(lab, TREE_EMBEDDING, (struct tree_key){ { index, node, 0 } });
	vectors_stage(lab->vectors, reader_lab_op(lab), index, node);
}
