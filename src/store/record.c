#include "store/record.h"

#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"

static struct haul_properties properties_at(const uint8_t *data, uint32_t from, uint32_t bytes,
					    uint32_t count)
{
	return (struct haul_properties){ bytes > from ? data + from : NULL, bytes - from, count };
}

int record_check_node(const uint8_t *data, uint32_t bytes, bool patch)
{
	if (bytes < RECORD_NODE_HEAD || data[7] != 0)
		return HAUL_ECORRUPT;
	const uint32_t from = RECORD_NODE_HEAD + data[6];
	if (from > bytes)
		return HAUL_ECORRUPT;
	const struct haul_properties properties =
		properties_at(data, from, bytes, le16_load(data + 4));
	return record_check_properties(&properties, patch);
}

int record_check_edge(const uint8_t *data, uint32_t bytes, bool patch)
{
	if (bytes < RECORD_EDGE_HEAD || le16_load(data + 2) != 0)
		return HAUL_ECORRUPT;
	const struct haul_properties properties =
		properties_at(data, RECORD_EDGE_HEAD, bytes, le16_load(data));
	return record_check_properties(&properties, patch);
}

static bool all_finite(const uint8_t *data, uint32_t count)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t bits;
		memcpy(&bits, data + (size_t)i * 4, 4);
		bad |= (bits & 0x7f800000) == 0x7f800000;
	}
	return bad == 0;
}

int record_check_embedding(const uint8_t *data, uint32_t bytes)
{
	if (bytes < RECORD_EMBEDDING_HEAD)
		return HAUL_ECORRUPT;
	const uint32_t dimensions = le32_load(data);
	if (dimensions > HAUL_DIMENSIONS_MAX)
		return HAUL_ELIMIT;
	if (dimensions == 0 || bytes != RECORD_EMBEDDING_HEAD + dimensions * 4)
		return HAUL_ECORRUPT;
	return all_finite(data + RECORD_EMBEDDING_HEAD, dimensions) ? 0 : HAUL_ECORRUPT;
}

static uint32_t put_properties(uint8_t *data, const struct haul_properties *properties)
{
	if (properties->bytes != 0)
		memcpy(data, properties->data, properties->bytes);
	return properties->bytes;
}

uint32_t record_put_node(uint8_t *data, const struct haul_node *node)
{
	HAUL_ASSERT(node->key_bytes <= HAUL_KEY_MAX &&
		    node->properties.count <= HAUL_PROPERTY_COUNT_MAX);
	le32_store(data, node->kind);
	le16_store(data + 4, (uint16_t)node->properties.count);
	data[6] = (uint8_t)node->key_bytes;
	data[7] = 0;
	if (node->key_bytes != 0)
		memcpy(data + RECORD_NODE_HEAD, node->key, node->key_bytes);
	const uint32_t from = RECORD_NODE_HEAD + node->key_bytes;
	return from + put_properties(data + from, &node->properties);
}

uint32_t record_put_edge(uint8_t *data, const struct haul_edge *edge)
{
	HAUL_ASSERT(edge->properties.count <= HAUL_PROPERTY_COUNT_MAX);
	le16_store(data, (uint16_t)edge->properties.count);
	le16_store(data + 2, 0);
	return RECORD_EDGE_HEAD + put_properties(data + RECORD_EDGE_HEAD, &edge->properties);
}

uint32_t record_put_embedding(uint8_t *data, const struct haul_embedding *embedding)
{
	HAUL_ASSERT(embedding->dimensions >= 1 && embedding->dimensions <= HAUL_DIMENSIONS_MAX);
	le32_store(data, embedding->dimensions);
	memcpy(data + RECORD_EMBEDDING_HEAD, embedding->vector,
	       (size_t)embedding->dimensions * sizeof(float));
	return RECORD_EMBEDDING_HEAD + embedding->dimensions * 4;
}

void record_get_node(const uint8_t *data, uint32_t bytes, struct haul_node *node)
{
	HAUL_ASSERT(bytes >= RECORD_NODE_HEAD && data[6] <= bytes - RECORD_NODE_HEAD);
	node->kind = le32_load(data);
	node->key_bytes = data[6];
	node->key = data[6] != 0 ? (const char *)data + RECORD_NODE_HEAD : NULL;
	node->properties =
		properties_at(data, RECORD_NODE_HEAD + data[6], bytes, le16_load(data + 4));
}

void record_get_edge(const uint8_t *data, uint32_t bytes, struct haul_edge *edge)
{
	HAUL_ASSERT(bytes >= RECORD_EDGE_HEAD);
	edge->properties = properties_at(data, RECORD_EDGE_HEAD, bytes, le16_load(data));
}

void record_get_embedding(const uint8_t *data, uint32_t bytes, struct haul_embedding *embedding)
{
	HAUL_ASSERT(bytes >= RECORD_EMBEDDING_HEAD);
	embedding->dimensions = le32_load(data);
	HAUL_ASSERT(bytes == RECORD_EMBEDDING_HEAD + embedding->dimensions * 4);
	embedding->vector = (const float *)(const void *)(data + RECORD_EMBEDDING_HEAD);
}
