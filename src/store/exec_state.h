/* store/exec_state.h — what the parts of the executor share.
 *
 * Model      exec.c goes through a frame; exec_look.c knows what its events will look for, asks for
 *            all of it at once and answers; exec_node.c, exec_edge.c and exec_embedding.c do one
 *            change each. A change checks everything before it writes its first row, so that one
 *            which is a group of its own never has to be undone.
 * Threads    as exec.h.
 * Errors     a change returns its status. When it could not look or write it also sets exec->error,
 *            and the whole frame ends with it. */
#pragma once

#include "base/assert.h"
#include "store/exec.h"
#include "store/vectors.h"

/* What events look for: a tree, and whether they need the value. */
enum look {
	LOOK_NODE,
	LOOK_NODE_VALUE,
	LOOK_NAME,
	LOOK_EDGE,
	LOOK_EDGE_VALUE,
	LOOK_EMBEDDING,
	LOOKS
};

enum {
	EXEC_ARENA = 4 << 20,
	EXEC_REFILL = 1 << 20,     /* arenas for what does not fit into the first, one a look */
	EXEC_REFILL_ASKS = 64,     /* asked for again at once */
	EXEC_AHEAD = 8,            /* changes whose rows are fetched ahead */
	EXEC_WRITTEN_WORDS = 4096, /* of 64 bits: 32 for each change of the largest frame */
	EXEC_WRITTEN_SHIFT = 46,   /* of a hash: which of the 2^18 bits */
};
static_assert(EXEC_WRITTEN_WORDS * 64 == 1 << (64 - EXEC_WRITTEN_SHIFT), "a hash names a bit");
static_assert(EXEC_REFILL >= TREE_VALUE_MAX * 2, "one value always fits");

struct exec_look {
	enum tree tree;
	bool values;
	struct table_ask *asks;
	uint32_t count, max;
	/* Asked for again: their answers are good until others are. */
	struct arena refill;
	uint32_t refilled[EXEC_REFILL_ASKS], refilled_count;
};

/* An embedding that this frame has changed; also what it takes to undo it. */
struct exec_staged {
	uint64_t node;
	uint64_t count; /* of the index, before */
	uint32_t dimensions;
	uint32_t index;
};

struct exec {
	struct lsm *lsm;
	struct vectors *vectors;
	struct sessions *sessions;
	uint64_t budget;

	/* The frame under way. */
	const struct frame *frame;
	uint64_t op;
	uint64_t left; /* of the budget */
	int error;
	struct exec_look look[LOOKS];
	uint32_t own[HAUL_CHANGES_OPS];   /* its own record: number of the ask, by event */
	uint32_t other[HAUL_CHANGES_OPS]; /* its name, or the node (the first of two) */
	struct arena arena;
	uint32_t written_shift; /* few bits for few changes */
	uint64_t written[EXEC_WRITTEN_WORDS];

	struct exec_index index[HAUL_EMBEDDING_INDEXES];
	struct exec_index index_before[HAUL_EMBEDDING_INDEXES]; /* of those touched */
	uint64_t index_touched[HAUL_EMBEDDING_INDEXES / 64];
	struct exec_staged *staged;
	uint32_t staged_count;

	/* One change. */
	struct tree_key *edges; /* of a node that is deleted: those out, those in */
	uint32_t edge_count;
	uint8_t record[RECORD_BYTES_MAX];
	uint8_t merged[HAUL_PROPERTIES_MAX];
};

/* ---- exec_look.c ---- */

int exec_look_alloc(struct exec *exec);
void exec_look_free(struct exec *exec);
/* Ask for everything that the frame will look for. 0 or the error of the frame. */
int exec_look_frame(struct exec *exec);
/* An answer that did not fit into memory, or could not be read. */
int exec_look_again(struct exec *exec, enum look which, uint32_t at);

/* What event `number`, of this change, is going to look for in memory and to write. */
void exec_look_ahead(struct exec *exec, enum haul_change change, const struct frame_event *event,
		     uint32_t number);

/* Which bit stands for a key: set when this frame has written a row of it. */
static inline uint64_t exec_bit(const struct exec *exec, enum tree tree, const struct tree_key *key)
{
	uint64_t hash = (key->word[0] + (uint64_t)tree) * UINT64_C(0x9e3779b97f4a7c15);

	hash = (hash ^ key->word[1]) * UINT64_C(0xbf58476d1ce4e5b9);
	hash = (hash ^ key->word[2]) * UINT64_C(0x94d049bb133111eb);
	return hash >> exec->written_shift;
}

static inline bool exec_wrote(const struct exec *exec, enum tree tree, const struct tree_key *key)
{
	const uint64_t bit = exec_bit(exec, tree, key);

	return (exec->written[bit / 64] >> bit % 64 & 1) != 0;
}

/* 1: there is such a row, in *ret_row; 0: there is none; negative: exec->error is set. */
static inline int exec_find(struct exec *exec, enum look look, uint32_t at,
			    struct tree_row *ret_row)
{
	const struct exec_look *of = &exec->look[look];
	const struct table_ask *ask = &of->asks[at];

	HAUL_ASSERT(at < of->count);
	if (exec_wrote(exec, of->tree, &ask->key)) {
		lsm_find_memory(exec->lsm, of->tree, &ask->key, ret_row);
		if (ret_row->op != 0)
			return !ret_row->deleted;
	}
	if (ask->status != 0) {
		const int error = exec_look_again(exec, look, at);
		HAUL_ASSERT(error <= 0);
		if (error != 0)
			return error;
	}
	*ret_row = ask->row;
	return ask->row.op != 0 && !ask->row.deleted;
}

/* ---- exec.c ---- */

/* Set so much of the budget aside: HAUL_ELIMIT. Before the first row of a change. */
static inline int exec_take(struct exec *exec, uint64_t cost)
{
	if (cost > exec->left)
		return HAUL_ELIMIT;
	exec->left -= cost;
	return 0;
}
/* Rows whose cost has been taken. Errors only in exec->error. */
void exec_put(struct exec *exec, enum tree tree, const struct tree_key *key, const uint8_t *value,
	      uint32_t bytes);
void exec_drop(struct exec *exec, enum tree tree, const struct tree_key *key);

/* ---- one change each; number is that of the event in its frame ---- */

int exec_create_node(struct exec *exec, const struct frame_event *event, uint32_t number);
int exec_update_node(struct exec *exec, const struct frame_event *event, uint32_t number);
int exec_delete_node(struct exec *exec, const struct frame_event *event, uint32_t number);
int exec_create_edge(struct exec *exec, const struct frame_event *event, uint32_t number);
int exec_update_edge(struct exec *exec, const struct frame_event *event, uint32_t number);
int exec_delete_edge(struct exec *exec, const struct frame_event *event, uint32_t number);
int exec_set_embedding(struct exec *exec, const struct frame_event *event, uint32_t number);
int exec_delete_embedding(struct exec *exec, const struct frame_event *event, uint32_t number);

static inline struct tree_key exec_edge_key(uint64_t from, uint32_t type, uint32_t disc,
					    uint64_t to)
{
	return (struct tree_key){ { from, (uint64_t)type << 32 | disc, to } };
}

/* Note a change of an embedding, before the index is changed. room: whether so many can be noted.
 * */
bool exec_stage_room(const struct exec *exec, uint32_t count);
void exec_stage(struct exec *exec, uint32_t index, uint64_t node);
/* … and one less is in the index. */
void exec_stage_drop(struct exec *exec, uint32_t index, uint64_t node);
/* Undo all that was noted behind the first `count`. */
void exec_unstage(struct exec *exec, uint32_t count);
int exec_index_load(struct exec *exec);
/* At the end of a frame: rows of the indexes it changed. */
void exec_index_put(struct exec *exec);
