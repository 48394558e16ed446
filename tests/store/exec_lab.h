/* store/exec_lab.h — the executor on a tree that is a plain list of rows.
 *
 * Model      The lab is the struct lsm: rows are appended, found by a chain a key. Those before
 *            `flushed` are "in tables": lsm_find_memory does not see them, and what lsm_find gives
 *            of them is copied into the arena. Faults are set by hand. vectors_stage is the lab's,
 *            too: it notes what it is told.
 *            A frame goes the way of a store: admit, execute.
 * Threads    one. */
#pragma once

#include "store/changes_state.h"
#include "store/exec.h"

struct lab_row {
	struct tree_key key;
	uint64_t op;
	uint8_t *value;
	uint32_t bytes;
	uint32_t before; /* row + 1 of its chain */
	uint8_t tree;
	bool deleted, aborted;
};

struct lsm {
	struct lab_row *rows;
	uint32_t count, room;
	uint32_t *buckets;
	uint32_t flushed;
	/* faults */
	uint32_t fail_find; /* the so many-th key looked for is not readable; 0 = none */
	uint32_t fail_put;
	uint32_t fail_prefix;
	uint64_t arena_max; /* say full earlier; 0 = not */
	/* counts */
	uint32_t finds, keys, memory_finds, prefixes, marks, aborts;
	uint64_t used; /* memtable_cost of all that was put */
};

struct lab_stage {
	uint64_t op, node;
	uint32_t index;
};

struct lab {
	struct lsm lsm;
	struct exec *exec;
	struct haul_changes *changes; /* for who wants it */
	struct exec_result result;
	uint64_t op;
	uint64_t budget;
	uint8_t *frame;
	int32_t statuses[HAUL_CHANGES_OPS];
	struct lab_stage staged[64]; /* of the last frame, the first of them */
	uint32_t staged_count;
};

void lab_open(struct lab *lab);
void lab_close(struct lab *lab);
/* Let go of the executor and make another on the same rows. */
void lab_reopen(struct lab *lab);
/* All rows so far are in tables. */
void lab_flush(struct lab *lab);
/* As a frame, checked and executed. 0 or the error; statuses and result are the lab's. */
int lab_send(struct lab *lab, const struct haul_changes *changes,
	     const struct changes_sender *sender);
/* … of no session; and clears the list. */
int lab_run(struct lab *lab);
/* It is this lab that is told of embeddings: for who executes by itself. */
void lab_told(struct lab *lab);
/* Newest row, NULL if there is none. */
const struct lab_row *lab_find(const struct lab *lab, enum tree tree, struct tree_key key);
/* Newest rows that are not deleted, of all trees but TREE_SESSION if not wanted: sorted, hashed. */
uint64_t lab_hash(const struct lab *lab, bool sessions);
uint32_t lab_rows(const struct lab *lab, enum tree tree);
