/* haul/graph.h — nodes, edges, embeddings, and a list of changes to them.
 *
 * Model      A property graph. A node has an id, a kind, an optional text key (unique in its store)
 *            and typed properties. An edge goes from src to dst with a type; disc tells parallel
 *            edges of one type apart. An embedding is a vector of floats of a node, under an
 *            index number (one index a model that made the vectors).
 *            Changes are collected in a struct haul_changes, in groups: a group is applied whole or
 *            not at all; what another group does to it is nothing. A change outside of
 *            haul_changes_begin … haul_changes_end is a group of its own. Inside, changes of one
 *            kind that follow each other form a section, so they are executed in a tight loop and
 *            still in the order written. With HAUL_CHANGES_UNORDERED there is one section a kind,
 *            in the order of the kinds (delete edge, delete node, create node, … ): for bulk loads
 *            in which no change depends on the order.
 * Units      ids 1 … UINT64_MAX - 1, given by the caller; lengths in bytes; version is the number
 *            of the operation that wrote the record last.
 * Ownership  changes copy what they are given. Texts and properties inside of a struct haul_node or
 *            haul_edge that was read belong to who was asked, until its next call.
 * Memory     a struct haul_changes takes all its memory when it is made.
 * Threads    one at a time.
 * Errors     HAUL_EFULL: the change does not fit any more (commit, clear, and add it again; the
 *            open group is left as it was before the call); -EINVAL, HAUL_ELIMIT: it is not valid.
 * Limits     HAUL_CHANGES_OPS operations, HAUL_CHANGES_BYTES bytes; see the enum.
 * Source     docs/design/0015. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <haul/api.h>
#include <haul/err.h>

enum {
	HAUL_KEY_MAX = 255,          /* bytes of a text key */
	HAUL_PROPERTY_NAME_MAX = 63, /* bytes */
	HAUL_PROPERTIES_MAX = 16384, /* bytes of all properties of one record, encoded */
	HAUL_PROPERTY_COUNT_MAX = 1024,
	HAUL_DIMENSIONS_MAX = 4096,   /* floats of an embedding */
	HAUL_EMBEDDING_INDEXES = 256, /* index numbers 0 … 255 */
	HAUL_CHANGES_OPS = 8192,
	HAUL_CHANGES_BYTES = 4 << 20, /* of one frame, all in all */
	HAUL_NODE_ID_MIN = 1,
};

/* ---- properties ---- */

/* X(id, name) */
#define HAUL_PROPERTY_LIST(X)                                                                      \
	X(HAUL_NULL, "null") /* only in a patch: takes the property away */                        \
	X(HAUL_INTEGER, "integer")                                                                 \
	X(HAUL_FLOAT, "float")                                                                     \
	X(HAUL_TEXT, "text") /* UTF-8 is not checked */                                            \
	X(HAUL_BYTES, "bytes")

enum haul_property_type {
#define X(id, name) id,
	HAUL_PROPERTY_LIST(X)
#undef X
		HAUL_PROPERTY_TYPES
};
HAUL_API const char *haul_property_type_name(enum haul_property_type type);

struct haul_property {
	const char *name; /* not terminated */
	uint32_t name_bytes;
	enum haul_property_type type;
	int64_t integer;  /* HAUL_INTEGER */
	double number;    /* HAUL_FLOAT */
	const void *data; /* HAUL_TEXT, HAUL_BYTES; not terminated */
	uint32_t data_bytes;
};

/* Properties as they are stored and sent, in the order of their names. Zero is "none". */
struct haul_properties {
	const uint8_t *data;
	uint32_t bytes;
	uint32_t count;
};
/* Encode into buffer; given in any order, names have to differ. HAUL_EFULL if bytes are too few,
 * -EINVAL, HAUL_ELIMIT. */
HAUL_API int haul_properties_encode(const struct haul_property *properties, uint32_t count,
				    uint8_t *buffer, uint32_t bytes,
				    struct haul_properties *ret_properties);
/* Walk: *offset is 0 at first. 1 and the next property, 0 at the end, HAUL_ECORRUPT. */
HAUL_API int haul_property_next(const struct haul_properties *properties, uint32_t *offset,
				struct haul_property *ret_property);
/* -ENOENT if there is none of that name. */
HAUL_API int haul_property_find(const struct haul_properties *properties, const char *name,
				struct haul_property *ret_property);

/* ---- records ---- */

struct haul_node {
	uint64_t id;
	uint64_t version;   /* of what was read; ignored by changes */
	uint32_t kind;      /* 0 = none: is not found by a scan of a kind */
	uint32_t key_bytes; /* 0 = no key */
	const char *key;    /* not terminated */
	struct haul_properties properties;
};

struct haul_edge_id {
	uint64_t src;
	uint64_t dst;
	uint32_t type;
	uint32_t disc; /* tells parallel edges of one type apart */
};

struct haul_edge {
	struct haul_edge_id id;
	uint64_t version;
	struct haul_properties properties;
};

struct haul_embedding {
	uint64_t node;
	uint64_t version;
	uint32_t index;
	uint32_t dimensions;
	const float *vector; /* finite numbers */
};

/* ---- changes ---- */

/* X(id, name): operations of a frame, in the order of HAUL_CHANGES_UNORDERED */
#define HAUL_CHANGE_LIST(X)                                                                        \
	X(HAUL_DELETE_EMBEDDING, "delete_embedding")                                               \
	X(HAUL_DELETE_EDGE, "delete_edge")                                                         \
	X(HAUL_DELETE_NODE, "delete_node")                                                         \
	X(HAUL_CREATE_NODE, "create_node")                                                         \
	X(HAUL_UPDATE_NODE, "update_node")                                                         \
	X(HAUL_CREATE_EDGE, "create_edge")                                                         \
	X(HAUL_UPDATE_EDGE, "update_edge")                                                         \
	X(HAUL_SET_EMBEDDING, "set_embedding")

enum haul_change {
#define X(id, name) id,
	HAUL_CHANGE_LIST(X)
#undef X
		HAUL_CHANGES
};
HAUL_API const char *haul_change_name(enum haul_change change);

/* Flags of one change. */
enum haul_change_flags {
	HAUL_UPSERT = 1, /* create: replaces what is there instead of failing */
	HAUL_PATCH = 2,  /* update: sets the properties given and leaves the others; kind 0 and no
			  * key mean "as it is" */
	HAUL_DETACH = 4, /* delete node: with its edges, both ways, and its embeddings */
	HAUL_LOOSE = 8,  /* create edge: its ends need not exist */
};

struct haul_change_options {
	uint32_t flags;            /* of enum haul_change_flags */
	uint64_t expected_version; /* 0 = any; otherwise HAUL_ESTALE if the record has another.
				    * Of a create only with HAUL_UPSERT, and it has to be there */
};

/* What became of one change, a column entry:
 * 0; -EEXIST (create: is there; or another node has the key); -ENOENT (no such record; an end of
 * the edge); HAUL_ESTALE (expected_version); -ENOTEMPTY (node has edges or embeddings and no
 * DETACH); HAUL_ELIMIT (a node with more than 65536 edges cannot be detached at once; merged
 * properties too long; the frame would write more than a frame may, 24 MiB: commit fewer changes at
 * once); -EINVAL (dimensions differ from those of the index's other embeddings); -ECANCELED (it
 * would have been done, but another of its group failed). */

enum haul_changes_flags { HAUL_CHANGES_UNORDERED = 1 };

struct haul_changes; /* opaque */
/* ops and bytes 0 = the limits. */
HAUL_API int haul_changes_new(struct haul_changes **ret_changes, uint32_t ops, uint32_t bytes,
			      uint32_t flags);
HAUL_API void haul_changes_free(struct haul_changes *changes);
HAUL_API void haul_changes_clear(struct haul_changes *changes);
HAUL_API uint32_t haul_changes_count(const struct haul_changes *changes);
HAUL_API uint64_t haul_changes_bytes(const struct haul_changes *changes);

/* A group: all of it or nothing. Groups do not nest: -EINVAL. With HAUL_CHANGES_UNORDERED the
 * second change of a group is -EINVAL: several have an order. */
HAUL_API int haul_changes_begin(struct haul_changes *changes);
HAUL_API int haul_changes_end(struct haul_changes *changes);
/* Forget the changes of the group that is open. */
HAUL_API void haul_changes_cancel(struct haul_changes *changes);

/* options may be NULL. All return the number of the change in this list, >= 0: the place of its
 * status in the result. */
HAUL_API int haul_changes_create_node(struct haul_changes *changes, const struct haul_node *node,
				      const struct haul_change_options *options);
HAUL_API int haul_changes_update_node(struct haul_changes *changes, const struct haul_node *node,
				      const struct haul_change_options *options);
HAUL_API int haul_changes_delete_node(struct haul_changes *changes, uint64_t id,
				      const struct haul_change_options *options);
HAUL_API int haul_changes_create_edge(struct haul_changes *changes, const struct haul_edge *edge,
				      const struct haul_change_options *options);
HAUL_API int haul_changes_update_edge(struct haul_changes *changes, const struct haul_edge *edge,
				      const struct haul_change_options *options);
HAUL_API int haul_changes_delete_edge(struct haul_changes *changes, const struct haul_edge_id *id,
				      const struct haul_change_options *options);
HAUL_API int haul_changes_set_embedding(struct haul_changes *changes,
					const struct haul_embedding *embedding);
HAUL_API int haul_changes_delete_embedding(struct haul_changes *changes, uint64_t node,
					   uint32_t index);
