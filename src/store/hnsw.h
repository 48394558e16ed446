/* store/hnsw.h — an approximate index over the rows of a set: a hierarchical navigable small world.
 *
 * Model      Every row has links to HNSW_LINKS near ones, up to twice as many at the bottom; every
 *            sixteenth also stands a level higher, and so on. A search goes down from the top,
 *            always to what is nearer, and gathers at the bottom. Rows are taken in in the order of
 *            their slots, one call a row; those behind `taken` are not known yet and have to be
 *            compared. Rows that were dropped still lead on, and are never found. The level of a
 *            row follows from its id: the same rows in the same order give the same graph.
 * Memory     chunks of the set; the caller's scratch, HNSW_SCRATCH bytes.
 * Threads    hnsw_add: one, alone. hnsw_search: any number, each with its own scratch. `taken` may
 *            be read atomically beside either.
 * Errors     HAUL_EFULL: no chunk (the rows taken so far stay found); the scratch is too small for
 *            how far the search had to go.
 * Source     Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using
 *            hierarchical navigable small world graphs, 2018. */
#pragma once

#include "store/vector_set.h"

enum {
	HNSW_LINKS = 16,
	HNSW_LINKS_BOTTOM = 2 * HNSW_LINKS,
	HNSW_ADD_WIDTH = 100, /* candidates kept while a row is taken in */
	HNSW_WIDTH_MIN = 128, /* … and while one is searched */
	HNSW_WIDTH_MAX = 512,
	HNSW_LEVELS = 8,
	HNSW_VISITS_MAX = 32768,
	HNSW_SCRATCH = 640 << 10,
};

struct hnsw {
	struct vector_set *set;
	const struct knn_kernels *kernels;
	enum haul_metric metric;
	uint32_t graph; /* which of the set's */
	uint32_t taken; /* slots below are in; stored atomically */
	uint32_t top, entry;
	bool any; /* entry is one */
	uint32_t link_chunks, upper_chunks, upper_used;
};

void hnsw_init(struct hnsw *hnsw, struct vector_set *set, const struct knn_kernels *kernels,
	       enum haul_metric metric);
/* Take in the row of slot `taken`. */
int hnsw_add(struct hnsw *hnsw, uint8_t *scratch);
/* Offer knn the nearest rows to one of its queries, of slots below `known`. width: HNSW_WIDTH_MIN …
 * HNSW_WIDTH_MAX. */
struct hnsw_query {
	struct knn *knn;
	uint32_t query;
	uint32_t width;
	uint32_t known;
};
int hnsw_search(const struct hnsw *hnsw, const struct hnsw_query *query, uint8_t *scratch);
