/* store/vectors_state.h — what the parts of vectors.h share.
 *
 * Model      What the executor stages stands in a ring, newest over oldest. A set knows the op it
 *            is up to date with and where in the ring it went on from; what it finds changed there
 *            it looks up in the tree, as of the op it is brought to. A set whose place in the ring
 *            was written over is filled anew.
 * Threads    a set's lock is held to read it or, alone, to change it. */
#pragma once

#include "store/hnsw.h"
#include "store/vectors.h"

enum {
	VECTORS_STAGED_MAX = 32768,
	VECTORS_ADD = 32,       /* rows that one search takes into the graph */
	VECTORS_STEP = 8,       /* … and one step, while searches wait */
	VECTORS_DEAD_SHARE = 4, /* a graph is made anew when every so many rows are dropped */
	VECTORS_RETRY = 64,     /* searches until a set that did not fit is tried again */
	VECTORS_ASKS = 512,     /* changed rows that are looked up at once */
	/* A tile of queries is compared with so many rows while a graph is searched for one a
	 * width. */
	VECTORS_TILE_ROWS = 384,
	VECTORS_EXACT_K = 256, /* more hits are compared exactly */
	VECTOR_ROW_MAX = (4 + HAUL_DIMENSIONS_MAX * 4 + 63) & ~63, /* as it lies in an arena */
};

struct vectors_index {
	pthread_rwlock_t lock;
	struct vector_set set;
	struct hnsw graph[VECTOR_GRAPHS];
	bool wanted[VECTOR_GRAPHS]; /* atomic: asked for since the set was filled */
	bool filled;
	bool filling;     /* atomic: others compare the tree meanwhile */
	uint64_t op;      /* up to date with */
	uint64_t place;   /* in the ring: all before has been seen to */
	uint64_t used;    /* atomic: when it was searched last, in searches */
	uint32_t refused; /* chunks it had when there were no more; 0: it fits */
	uint32_t refused_calls;
	uint64_t staged_op; /* atomic: of the last change */
};

struct staged {
	uint64_t op;
	uint64_t node;
	uint32_t index;
};

struct vectors {
	const struct knn_kernels *kernels;
	struct vector_pool pool;
	struct vectors_index index[HAUL_EMBEDDING_INDEXES];
	uint64_t searches; /* atomic */
	pthread_mutex_t ring_lock;
	struct staged *ring; /* VECTORS_STAGED_MAX */
	uint64_t ring_end;   /* places are counted on and on */
	pthread_mutex_t step_lock;
	uint8_t *step_scratch;
};

/* A row of TREE_EMBEDDING as it stands there. */
struct vectors_row {
	uint32_t dimensions;
	const uint8_t *vector; /* unaligned floats */
};
int vectors_row(const uint8_t *value, uint32_t bytes, struct vectors_row *ret_row);

static inline bool vectors_stopped(const struct vectors_sight *sight)
{
	return sight->stop != NULL && __atomic_load_n(sight->stop, __ATOMIC_RELAXED);
}

/* Bring a set to the state of sight, its lock held alone. 1; 0: it does not fit, and nothing of it
 * is kept; negative. vectors_set.c has both. */
int vectors_fill(struct vectors *vectors, uint32_t index, const struct vectors_sight *sight);
int vectors_apply(struct vectors *vectors, uint32_t index, const struct vectors_sight *sight);
void vectors_let_go(struct vectors_index *of);
/* Take up to `count` more rows into a graph. 1: there are more; 0. */
int vectors_grow(struct vectors_index *of, uint32_t graph, uint32_t count, uint8_t *scratch,
		 const bool *stop);

/* Compare knn's queries with all rows of the tree. vectors_tree.c. */
int vectors_compare_tree(const struct vectors_sight *sight, const struct haul_near *query,
			 struct knn *knn, struct arena *work);
uint64_t vectors_tree_bytes(uint32_t dimensions); /* of work */
