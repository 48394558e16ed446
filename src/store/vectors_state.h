/* store/vectors_state.h — what the parts of vectors.h share.
 *
 * Model      What the executor stages stands in a ring, newest over oldest. A set knows the op it
 *            is up to date with and where in the ring it went on from; what it finds changed there
 *            it looks up in the tree, as of the op it is brought to. A set whose place in the ring
 *            was written over is filled anew.
 * Threads    a set's lock is held to read it or, alone, to change it. A graph is made larger by
 *            one thread at a time, that of step_lock, who holds the set to read it like any search;
 *            `links` is held to follow links and, alone, for each row that gets some, so that a
 *            search waits for no more than that, and who compares rows for nothing. */
#pragma once

#include "store/hnsw.h"
#include "store/vectors.h"

enum {
	VECTORS_STAGED_MAX = 32768,
	VECTORS_STEP = 4,       /* rows that a step takes into a graph: 2 ms of 256 floats */
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
	pthread_rwlock_t links;
	struct hnsw graph[VECTOR_GRAPHS];
	bool wanted[VECTOR_GRAPHS];    /* atomic: asked for, and there are rows to take in */
	uint32_t stuck[VECTOR_GRAPHS]; /* atomic: chunks left when it was refused one, + 1; 0 */
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
	void (*call)(void *arg); /* vectors_on_work */
	void *call_arg;
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
/* Take a few more rows into a graph, the set held to be read, by the thread of step_lock. 1: there
 * are more; 0: none, or there is no memory for them. */
int vectors_grow(struct vectors *vectors, struct vectors_index *of, uint32_t graph);

/* Compare knn's queries with all rows of the tree. vectors_tree.c. */
int vectors_compare_tree(const struct vectors_sight *sight, const struct haul_near *query,
			 struct knn *knn, struct arena *work);
uint64_t vectors_tree_bytes(uint32_t dimensions); /* of work */
