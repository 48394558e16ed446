/* haul/reader.h — reading a graph, in batches: of a store in this process, or of a server.
 *
 * Model      A reader asks a store (haul_store_reader, store.h) or a server (haul_client_reader,
 *            client.h); the calls are the same. Each call sees one durable state: the newest, or,
 *            while pinned, that of haul_reader_pin. Many records are asked for at once; each has
 *            its own status. Long answers come in pages: a cursor of zeros starts, the call moves
 *            it.
 * Units      distances are squared Euclidean, or 1 - cosine; smaller is nearer.
 * Ownership  what a call returns is good until the next call of the same reader.
 * Memory     at open: options.bytes for results, twice that for what is visited on the way.
 * Threads    a reader belongs to one thread at a time; any number of readers.
 * Errors     calls return how many records they handled (fewer than asked when results fill the
 *            reader's memory or they are too many for one call: ask again for the rest), or:
 *            -EINVAL, HAUL_ELIMIT (visits went over the limit: nothing is returned as if it were
 *            all), -EIO, HAUL_ECORRUPT (a block of the store does not verify), -ENOTCONN,
 *            -ETIMEDOUT, -ECANCELED (haul_reader_interrupt).
 * Blocking   for the disk or the network; never for writers.
 * Limits     32 pinned readers a store; of a call, 65536 records and what fits into options.bytes.
 * Source     docs/design/0015; breadth-first search; HNSW: Malkov and Yashunin, 2018. */
#pragma once

#include <haul/graph.h>

struct haul_reader; /* opaque; made by haul_store_reader or haul_client_reader */
HAUL_API void haul_reader_close(struct haul_reader *reader);
/* See one state until unpinned. -EBUSY: too many are pinned. HAUL_ESTALE from any call: pinned too
 * long ago, the server has let go of it. */
HAUL_API int haul_reader_pin(struct haul_reader *reader);
HAUL_API void haul_reader_unpin(struct haul_reader *reader);
/* From any thread or signal handler: the call under way (or the next) returns -ECANCELED. */
HAUL_API void haul_reader_interrupt(struct haul_reader *reader);

/* ---- by name ---- */

/* statuses[i]: 0, -ENOENT, or -EIO/HAUL_ECORRUPT of its block. Duplicates are allowed. */
HAUL_API int haul_reader_get(struct haul_reader *reader, const uint64_t *ids, uint32_t count,
			     struct haul_node *nodes, int32_t *statuses);
struct haul_text {
	const char *data;
	uint32_t bytes;
};
HAUL_API int haul_reader_get_by_key(struct haul_reader *reader, const struct haul_text *keys,
				    uint32_t count, struct haul_node *nodes, int32_t *statuses);
HAUL_API int haul_reader_get_edges(struct haul_reader *reader, const struct haul_edge_id *ids,
				   uint32_t count, struct haul_edge *edges, int32_t *statuses);
struct haul_embedding_names {
	const uint64_t *nodes;
	uint32_t count;
	uint32_t index;
};
HAUL_API int haul_reader_get_embeddings(struct haul_reader *reader,
					const struct haul_embedding_names *names,
					struct haul_embedding *embeddings, int32_t *statuses);

/* ---- in order, page by page ---- */

struct haul_cursor {
	uint64_t word[4]; /* zeros: from the start */
};
/* All return how many of `max` records were filled in; 0: there are no more. */

enum { HAUL_ANY = 0 }; /* any kind, any type */

/* Nodes by id; of one kind when kind is not HAUL_ANY. first_id … last_id bound the ids (0, 0: all).
 * */
struct haul_scan {
	uint32_t kind;
	uint64_t first_id, last_id;
	struct haul_cursor cursor;
};
HAUL_API int haul_reader_scan(struct haul_reader *reader, struct haul_scan *scan,
			      struct haul_node *nodes, uint32_t max);
/* All edges, by src, type, disc, dst. */
HAUL_API int haul_reader_scan_edges(struct haul_reader *reader, struct haul_cursor *cursor,
				    struct haul_edge *edges, uint32_t max);
/* All embeddings, by index, node. */
HAUL_API int haul_reader_scan_embeddings(struct haul_reader *reader, struct haul_cursor *cursor,
					 struct haul_embedding *embeddings, uint32_t max);

enum haul_direction { HAUL_OUT, HAUL_IN, HAUL_BOTH };
struct haul_neighbours {
	uint64_t node;
	enum haul_direction direction;
	uint32_t type; /* HAUL_ANY: of all types (type 0 among them) */
	bool bare;     /* without version and properties: they need not be read */
	struct haul_cursor cursor;
};
/* Edges out of (by type, disc, dst), into (by type, disc, src), or both, out first; an edge from
 * the node to itself once. The neighbour is the end that is not `node`. A node that does not exist
 * has none, except for loose ones. */
HAUL_API int haul_reader_neighbours(struct haul_reader *reader, struct haul_neighbours *query,
				    struct haul_edge *edges, uint32_t max);

/* ---- along edges ---- */

struct haul_traverse {
	uint64_t start;
	enum haul_direction direction;
	uint32_t type;       /* HAUL_ANY */
	uint32_t depth_max;  /* 1 … 64 */
	uint32_t visits_max; /* 0 = what the reader's memory holds */
};
struct haul_visit {
	uint64_t node;
	uint64_t from; /* the node it was reached from first; 0 for start */
	uint32_t depth;
	uint32_t type; /* of the edge from there */
};
/* Breadth first; each node once, start included (whether it exists or not, as any end of a loose
 * edge); by depth, then in the order found. *ret_complete says whether that was all within
 * depth_max, or only the first `max`. HAUL_ELIMIT: before either, visits_max or what the reader's
 * memory holds was reached; visits are not valid then. */
HAUL_API int haul_reader_traverse(struct haul_reader *reader, const struct haul_traverse *query,
				  struct haul_visit *visits, uint32_t max, bool *ret_complete);

struct haul_path {
	uint64_t src, dst;
	enum haul_direction direction;
	uint32_t type;
	uint32_t depth_max;
};
/* Fewest edges, from both ends. Nodes of the path, src and dst included; 0: there is none within
 * depth_max. HAUL_EFULL: longer than max. */
HAUL_API int haul_reader_path(struct haul_reader *reader, const struct haul_path *query,
			      uint64_t *nodes, uint32_t max);

/* ---- by likeness ---- */

enum haul_metric { HAUL_EUCLIDEAN, HAUL_COSINE };
struct haul_near {
	uint32_t index;
	uint32_t dimensions; /* -EINVAL if the index has others */
	enum haul_metric metric;
	bool exact;     /* compare with all vectors, also where there is an approximate index */
	uint32_t k;     /* 1 … 1024 */
	uint32_t count; /* queries, 1 … 1024 */
	const float *vectors; /* count * dimensions */
};
struct haul_near_hit {
	uint64_t node; /* 0: there are no more */
	float distance;
	uint32_t reserved; /* 0 */
};
/* hits[count * k]: of each query its k nearest, nearest first, ties by id. Returns count. All
 * queries of one call share the walk over the vectors. */
HAUL_API int haul_reader_near(struct haul_reader *reader, const struct haul_near *query,
			      struct haul_near_hit *hits);
