/* store/memtable_state.h — what the parts of a memory table share.
 *
 * Model      One arena. Values are put behind each other from below; chunks of rows, each of one
 *            tree, are taken from above. A row is op, place of its value, its key and, in hashed
 *            trees, two links. Rows are named by ref: their offset in the arena in units of 8; 0 is
 *            none.
 *            One hash table of 32-bit slots serves all trees: a ref and, in the bits above it, a
 *            tag from the hash, so that hardly a row is visited in vain. Two kinds of slot: of a
 *            whole key (its newest row; links.older leads on) and of a first word (its newest row;
 *            links.same leads on).
 * Threads    as memtable.h. Slots, counts and ops are atomic; all else of a row is written before a
 *            slot or a count names it. */
#pragma once

#include <pthread.h>

#include "base/assert.h"
#include "store/memtable.h"

enum {
	MEMTABLE_UNIT = 8,
	MEMTABLE_ROW_MIN = 32,   /* bytes */
	MEMTABLE_RUNS_MAX = 32,  /* of an order: memtable_walk.c */
	MEMTABLE_INFO_TREE = 24, /* memtable_row.info: bytes, and from this bit on the tree */
};
#define MEMTABLE_DEAD (TREE_DELETED - 1) /* op of a row that was aborted */

struct memtable_row {
	uint64_t op;    /* atomic; TREE_DELETED in its top bit */
	uint32_t value; /* in units, from the arena's start */
	uint32_t info;
	uint64_t key[]; /* words, then struct memtable_links if the tree is hashed */
};
struct memtable_links {
	uint32_t older; /* same key */
	uint32_t same;  /* same first word */
};

/* Rows [from, to) of a tree in order: their refs are in places [from, to) of the tree's order. */
struct memtable_run {
	uint32_t from, to;
};

/* Memory to sort in, of all memory tables of a store: one sorts at a time. */
struct memtable_pair {
	uint32_t ref;
	uint32_t digest;
};
struct memtable_sorter {
	pthread_mutex_t lock;
	uint32_t rows_max;           /* of a run */
	struct memtable_pair *pairs; /* 2 * rows_max */
};

struct memtable_tree {
	uint32_t rows; /* atomic */
	uint32_t row_bytes;
	uint32_t words;
	bool hashed, prefix;
	uint32_t left; /* rows that still fit into the last chunk */
	uint8_t *next; /* where the next row goes */
	uint32_t chunks;
	uint32_t *chunk;       /* ref of each one's first row */
	pthread_rwlock_t lock; /* of the order; what is below */
	uint32_t version;      /* another one when runs were taken back */
	uint32_t runs;
	struct memtable_run run[MEMTABLE_RUNS_MAX];
};

struct memtable {
	uint8_t *arena;
	uint64_t arena_bytes;
	uint64_t bytes;       /* of rows and values, counted exactly */
	uint64_t used;        /* atomic */
	uint64_t heap;        /* atomic: end of values */
	uint64_t top;         /* atomic: start of chunks */
	uint32_t chunk_shift; /* log2 of the rows of a chunk */
	uint32_t ref_bits;
	uint32_t *slots;     /* atomic */
	uint64_t slot_count; /* < 2^32 */
	uint32_t *order;     /* refs; a piece for each chunk of rows */
	struct memtable_sorter *sorter;
	uint64_t secret;
	/* of memtable_ahead: slots, arena up to, arena from */
	uint64_t touched_slots, touched_heap, touched_top;
	struct memtable_tree tree[TREES];
};

static inline struct memtable_row *memtable_at(const struct memtable *table, uint32_t ref)
{
	return (struct memtable_row *)(void *)(table->arena + (uint64_t)ref * MEMTABLE_UNIT);
}

static inline uint32_t memtable_ref(const struct memtable *table, const void *place)
{
	return (uint32_t)((uint64_t)((const uint8_t *)place - table->arena) / MEMTABLE_UNIT);
}

static inline struct memtable_links *memtable_links(struct memtable_row *row, uint32_t words)
{
	return (struct memtable_links *)(void *)(row->key + words);
}

static inline uint64_t memtable_op(const struct memtable_row *row)
{
	return __atomic_load_n(&row->op, __ATOMIC_RELAXED);
}

static inline bool memtable_sees(uint64_t op, uint64_t op_max)
{
	op &= ~TREE_DELETED;
	return op <= op_max && op != MEMTABLE_DEAD;
}

static inline uint32_t memtable_bytes(const struct memtable_row *row)
{
	return row->info & ((UINT32_C(1) << MEMTABLE_INFO_TREE) - 1);
}

static inline const uint8_t *memtable_value(const struct memtable *table,
					    const struct memtable_row *row)
{
	return table->arena + (uint64_t)row->value * MEMTABLE_UNIT;
}

static inline uint32_t memtable_ref_of(const struct memtable *table, const struct memtable_tree *of,
				       uint32_t number)
{
	uint32_t in_chunk = number & ((UINT32_C(1) << table->chunk_shift) - 1);
	return of->chunk[number >> table->chunk_shift] + in_chunk * (of->row_bytes / MEMTABLE_UNIT);
}

/* Where the order of a tree has the ref of its row in this place. There is a piece of `order` for
 * each chunk of rows: that of its distance from the end of the arena, in chunks of the shortest
 * rows, so no two have the same. */
static inline uint32_t *memtable_order(const struct memtable *table, const struct memtable_tree *of,
				       uint32_t place)
{
	uint64_t chunk = (uint64_t)of->chunk[place >> table->chunk_shift] * MEMTABLE_UNIT;
	uint64_t piece = (table->arena_bytes - chunk) / MEMTABLE_ROW_MIN >> table->chunk_shift;
	uint32_t in_piece = place & ((UINT32_C(1) << table->chunk_shift) - 1);
	return table->order + ((piece - 1) << table->chunk_shift) + in_piece;
}

/* Newest row with this first word; 0 = none. */
uint32_t memtable_first(const struct memtable *table, enum tree tree, uint64_t word);

/* memtable_sort.c: pairs in the order of their rows' keys; of equal keys the later row first. They
 * come in the order in which the rows were put, last first; there is room for as many behind
 * them. */
void memtable_sort(const struct memtable *table, uint32_t words, struct memtable_pair *pairs,
		   uint32_t count);
