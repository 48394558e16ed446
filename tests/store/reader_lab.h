/* store/reader_lab.h — a merge tree on a simulated disk, filled row by row, and its reader.
 *
 * Model      The rows are those that the executor would write; what stands in them is made of id
 *            and version, so that it can be checked without being kept. A frame begins by itself
 *            and ends with reader_lab_frame, or when it is long. What the tests have put they keep
 *            in models of their own.
 * Threads    one. Errors: asserts. */
#pragma once

#include <haul/reader.h>
#include "store/lsm_lab.h"
#include "store/reader_state.h"
#include "store/record.h"
#include "store/vectors.h"

enum { READER_LAB_VALUE = RECORD_NODE_HEAD + HAUL_KEY_MAX + HAUL_PROPERTIES_MAX };

struct reader_lab {
	struct lsm_lab lsm;
	struct vectors *vectors;
	struct haul_reader *reader;
	uint64_t put; /* bytes in the frame under way */
	uint8_t value[READER_LAB_VALUE];
	uint8_t wanted[READER_LAB_VALUE];
};
struct reader_lab_options {
	uint64_t seed;
	uint64_t vectors_bytes;
	uint64_t reader_bytes;
	uint64_t memtable_bytes; /* 0 = as small as lsm_lab's */
};
void reader_lab_init(struct reader_lab *lab, const struct reader_lab_options *options);
void reader_lab_done(struct reader_lab *lab);
/* For cmocka: *state was allocated, and begins with a lab. */
int reader_lab_teardown(void **state);
/* Everything put so far is durable: readers see it. The op. */
uint64_t reader_lab_frame(struct reader_lab *lab);
/* The op of the frame under way: versions of what is put now, until it is long. */
uint64_t reader_lab_op(const struct reader_lab *lab);

/* What is wanted of a record: the versions are what reader_lab_op said. */
struct reader_lab_node {
	uint64_t id;
	uint64_t version; /* 0: is not there */
	uint32_t kind;
	uint32_t key;   /* number of a text, 0 = none */
	uint32_t bytes; /* of its one property, 0 = none */
};
struct reader_lab_edge {
	struct haul_edge_id id;
	uint64_t version;
	uint32_t bytes;
};
/* Put; sets version. A version that is there already is taken away first. */
void reader_lab_node(struct reader_lab *lab, struct reader_lab_node *node);
void reader_lab_node_drop(struct reader_lab *lab, struct reader_lab_node *node);
void reader_lab_edge(struct reader_lab *lab, struct reader_lab_edge *edge);
void reader_lab_edge_drop(struct reader_lab *lab, struct reader_lab_edge *edge);
void reader_lab_embedding(struct reader_lab *lab, const struct haul_embedding *embedding);
void reader_lab_embedding_drop(struct reader_lab *lab, uint32_t index, uint64_t node);
/* A row as it is. */
void reader_lab_row(struct reader_lab *lab, enum tree tree, struct tree_key key,
		    const struct tree_row *row);

/* Text of a key; its bytes. */
uint32_t reader_lab_key(uint32_t key, char text[HAUL_KEY_MAX + 1]);
void reader_lab_expect_node(struct reader_lab *lab, const struct reader_lab_node *wanted,
			    const struct haul_node *got);
void reader_lab_expect_edge(struct reader_lab *lab, const struct reader_lab_edge *wanted,
			    const struct haul_edge *got, bool bare);
