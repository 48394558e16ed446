/* store/vectors.h — embeddings in memory, for comparing many queries with all of them at once.
 *
 * Model      A set an index of embeddings: vectors in aligned rows, filled from TREE_EMBEDDING when
 *            it is first searched and kept up to date from what the executor stages. Exact search
 *            goes over blocks of vectors once for a batch of queries, with the widest SIMD there is
 *            (knn.h). Above VECTORS_INDEX_MIN vectors a graph (hnsw.h) is built in steps, beside
 *            searches, and used once it knows half of them, unless exact is asked for or comparing
 *            is faster; what it does not know yet is compared, so answers are right at any moment.
 * Memory     `bytes`, at vectors_new, shared by all sets; one that does not fit is compared from
 *            the tree, block by block.
 * Threads    executor: vectors_stage, before the op is published. Any: vectors_near, vectors_step.
 * Errors     -EINVAL: other dimensions; -ECANCELED; those of the tree.
 * Source     docs/design/0021; Malkov and Yashunin, 2018. */
#pragma once

#include <haul/reader.h>
#include "store/snapshot.h"

enum {
	VECTORS_INDEX_MIN = 10000,
	/* Memory that a search needs of its caller: a tile of queries, a block of vectors. */
	VECTORS_WORK_MIN = 2 << 20,
};

struct vectors;
int vectors_new(struct vectors **ret_vectors, uint64_t bytes);
void vectors_free(struct vectors *vectors);
/* A frame changed the embedding of a node. */
void vectors_stage(struct vectors *vectors, uint64_t op, uint32_t index, uint64_t node);
/* Nearest in the newest state, or in the one that the snapshot is fixed to: then the tree is
 * compared, not the set. */
struct vectors_sight {
	struct snapshot *seen; /* not taken; it is not when the call returns either */
	const bool *stop;      /* atomic: -ECANCELED once set */
	struct lsm_scratch *scratch;
	struct arena work; /* the caller's, aligned to 64; more of it means fewer walks */
};
int vectors_near(struct vectors *vectors, const struct vectors_sight *sight,
		 const struct haul_near *query, struct haul_near_hit *hits);
/* Index some of the vectors that are not yet and were searched for: work of a millisecond or two.
 * 1: there is more. */
int vectors_step(struct vectors *vectors);
/* call(arg) is how a search asks for steps; any thread. Until it is set searches take a step each,
 * when they have their answer. */
void vectors_on_work(struct vectors *vectors, void (*call)(void *arg), void *arg);
uint64_t vectors_memory(const struct vectors *vectors);
