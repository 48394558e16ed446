/* store/tree.h — the trees of a store, their keys, and rows in columns.
 *
 * Model      Every record is a row in one of a few trees: a key of one to three words, compared
 *            word by word as numbers, the op that wrote it, and a value of bytes or a deletion. A
 *            row of a higher op hides those of lower ones with the same key.
 *            Sorted rows travel as struct rows: columns, a block of a table or a piece of a memory
 *            table. A source gives such pieces in order.
 * Threads    plain data. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* X(id, name, words, hashed, what key and value are). hashed: single rows are looked for, so it has
 * filters and a hash table in memory; by its whole key, and for OUT and IN by the first word too.
 * */
#define TREE_LIST(X)                                                                               \
	X(TREE_NODE, "node", 1, true, "id: struct of record.h")                                    \
	X(TREE_NAME, "name", 2, true, "hash of a text key: id")                                    \
	X(TREE_KIND, "kind", 2, false, "kind, id: nothing")                                        \
	X(TREE_OUT, "out", 3, true, "src, type << 32 | disc, dst: record.h")                       \
	X(TREE_IN, "in", 3, true, "dst, type << 32 | disc, src: nothing")                          \
	X(TREE_EMBEDDING, "embedding", 2, true, "index, node: record.h")                           \
	/* node 0: of the index as a whole, struct exec_index of exec.h */                         \
	X(TREE_OF_NODE, "of_node", 2, true, "node, index: nothing (which embeddings a node has)")  \
	X(TREE_SESSION, "session", 3, true, "session (two words), slot: session.h")

enum tree {
#define X(id, name, words, hashed, what) id,
	TREE_LIST(X)
#undef X
		TREES
};

enum { TREE_WORDS_MAX = 3, TREE_VALUE_MAX = 56 << 10 };

extern const uint8_t tree_words[TREES];
extern const bool tree_hashed[TREES];
const char *tree_name(enum tree tree);

struct tree_key {
	uint64_t word[TREE_WORDS_MAX]; /* those that the tree does not use are 0 */
};

static inline int tree_key_compare(const struct tree_key *a, const struct tree_key *b)
{
	for (int i = 0; i < TREE_WORDS_MAX; i++) {
		if (a->word[i] != b->word[i])
			return a->word[i] < b->word[i] ? -1 : 1;
	}
	return 0;
}

/* The key behind, of those of the tree; false, and the key as it was: there is none. */
bool tree_key_next(enum tree tree, struct tree_key *key);

/* A row as it was found. */
struct tree_row {
	uint64_t op; /* 0 = there is none */
	const uint8_t *value;
	uint32_t bytes;
	bool deleted;
};

#define TREE_DELETED (UINT64_C(1) << 63) /* in a column of ops */

/* Rows in columns, sorted by key, and by op from high to low where keys are equal. */
struct rows {
	uint32_t count;
	uint32_t words; /* a key: key[row * words + word] */
	const uint64_t *key;
	const uint64_t *op;  /* TREE_DELETED in its top bit */
	const uint32_t *end; /* the value of row i is heap[end[i - 1] … end[i]), of row 0 from 0 */
	const uint8_t *heap;
};

/* Pieces in order. The rows are good until the next call. */
struct source {
	int (*next)(struct source *source, struct rows *ret_rows); /* 1, 0 at the end, negative */
};
