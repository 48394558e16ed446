/* store/record.h — what stands in the values of rows, and in frames: the same bytes.
 *
 * Model      Little-endian, packed by hand. node: u32 kind, u16 properties, u8 key_bytes, u8 0,
 *            key, properties. edge (TREE_OUT): u16 properties, u16 0, properties. embedding: u32
 *            dimensions, floats. property: u8 type, u8 name_bytes, u16 0, u32 data_bytes, name,
 *            data (integer and float: 8 bytes); properties are in order of their names (bytes as
 *            numbers, a shorter one first), so there is one encoding for what is equal.
 *            record_check_* proves that bytes from outside are well formed; who reads checked bytes
 *            asserts. `patch`: the record of a HAUL_PATCH, in which HAUL_NULL may stand; in a
 *            stored one it may not.
 * Threads    pure.
 * Errors     HAUL_ECORRUPT, HAUL_ELIMIT. */
#pragma once

#include <xxhash.h>

#include <haul/graph.h>
#include "store/tree.h"

enum {
	RECORD_NODE_HEAD = 8,
	RECORD_EDGE_HEAD = 4,
	RECORD_EMBEDDING_HEAD = 4,
	RECORD_PROPERTY_HEAD = 8,
	RECORD_BYTES_MAX = RECORD_NODE_HEAD + HAUL_KEY_MAX + HAUL_PROPERTIES_MAX,
};

int record_check_properties(const struct haul_properties *properties, bool patch);
int record_check_node(const uint8_t *data, uint32_t bytes, bool patch);
int record_check_edge(const uint8_t *data, uint32_t bytes, bool patch);
int record_check_embedding(const uint8_t *data, uint32_t bytes); /* finite too */
/* Bytes written; the caller has seen to the room (RECORD_…_HEAD + key + properties). */
uint32_t record_put_node(uint8_t *data, const struct haul_node *node);
uint32_t record_put_edge(uint8_t *data, const struct haul_edge *edge);
uint32_t record_put_embedding(uint8_t *data, const struct haul_embedding *embedding);
/* Of checked bytes; id and version are left as they are. The vector is aligned as data + 4 is. */
void record_get_node(const uint8_t *data, uint32_t bytes, struct haul_node *node);
void record_get_edge(const uint8_t *data, uint32_t bytes, struct haul_edge *edge);
void record_get_embedding(const uint8_t *data, uint32_t bytes, struct haul_embedding *embedding);

/* Key of the row of TREE_NAME that leads from a text key to the id of its node; the value is the
 * id, 8 bytes. Two texts may share it by a chance of 2^-128, or because somebody wanted it: who
 * finds a node by it compares the text of its key. */
static inline struct tree_key record_name(const char *key, uint32_t bytes)
{
	const XXH128_hash_t hash = XXH3_128bits(key, bytes);

	return (struct tree_key){ { hash.low64, hash.high64, 0 } };
}
/* Properties of `old` changed by those of `patch` (both checked, HAUL_NULL takes away), into
 * buffer of HAUL_PROPERTIES_MAX bytes. HAUL_ELIMIT: too many or too long. */
int record_merge(const struct haul_properties *old, const struct haul_properties *patch,
		 uint8_t *buffer, struct haul_properties *ret_properties);
