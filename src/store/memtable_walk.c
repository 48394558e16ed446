/* Walks over a memory table in order.
 *
 * The order of a tree is kept as runs: each covers the rows of a range of row numbers, sorted, and
 * together they cover the first rows of the tree. A walk that may see rows behind the last run
 * makes a new one of them; first it takes back the runs at the end that are shorter than twice
 * what comes after them, so that each run is at least twice as long as the next and a row is
 * sorted again only as often as its run doubles. A walk holds the runs that were there when it was
 * opened and merges them. Rows of ops above op_max are in runs, too, and left out when met. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/memtable_state.h"

enum {
	PIECE_ROWS = 256,
	PIECE_HEAP = 64 << 10,
	CHAIN_MAX = 4096, /* longer ones are walked in the order of the whole tree */
	AHEAD = 16,       /* rows */
	AHEAD_VALUE = 8,  /* … whose values are fetched ahead */
	LINE = 64,
};
_Static_assert((int)PIECE_HEAP >= (int)TREE_VALUE_MAX, "any value fits into a piece");

/* Where a walk is in a run. */
struct cursor {
	const uint32_t *at, *end;
	const struct memtable_row *row; /* that `at` names */
};

struct memtable_walk_state {
	const struct memtable *table;
	const struct memtable_tree *of;
	uint32_t runs;
	bool prefix;
	uint64_t word;
	struct memtable_run *run[MEMTABLE_RUNS_MAX];
	struct cursor cursor[MEMTABLE_RUNS_MAX]; /* those with rows left, older rows first */
	uint32_t cursors;
	const struct memtable_row *last; /* visible row met last */
	uint64_t last_op;
	uint32_t *chain; /* own order of a prefix */
	/* the piece */
	uint32_t rows_max, heap_max;
	uint64_t *key; /* what is behind it lies in the same memory */
	uint64_t *op;
	uint32_t *end;
	uint8_t *heap;
};

/* ---- orders ---- */

static void run_let_go(struct memtable_run *run)
{
	HAUL_ASSERT(run->holds > 0);
	if (--run->holds == 0)
		free(run);
}

void memtable_runs_drop(struct memtable *table)
{
	for (int i = 0; i < TREES; i++) {
		struct memtable_tree *of = &table->tree[i];
		for (uint32_t r = 0; r < of->runs; r++)
			run_let_go(of->run[r]);
		of->runs = 0;
	}
}

static int run_new(struct memtable_run **ret_run, const struct memtable *table,
		   const struct memtable_tree *of, uint32_t from, uint32_t to)
{
	struct memtable_run *run = malloc(sizeof *run + (size_t)(to - from) * sizeof run->ref[0]);
	if (!run)
		return -ENOMEM;
	*run = (struct memtable_run){ .holds = 1, .from = from, .to = to };
	for (uint32_t number = to; number > from; number--)
		run->ref[to - number] = memtable_ref_of(table, of, number - 1);
	int error = memtable_sort_alloc(table, of->words, run->ref, to - from);
	if (error) {
		free(run);
		return error;
	}
	*ret_run = run;
	return 0;
}

/* Runs for all rows there are now, if one behind the runs may be seen. Under the lock. */
static int runs_extend(const struct memtable *table, struct memtable_tree *of, uint64_t op_max)
{
	uint32_t rows = __atomic_load_n(&of->rows, __ATOMIC_ACQUIRE);
	uint32_t from = of->runs ? of->run[of->runs - 1]->to : 0;
	if (from == rows)
		return 0;
	/* Ops rise from row to row; a dead one says nothing. */
	const struct memtable_row *row = memtable_at(table, memtable_ref_of(table, of, from));
	uint64_t op = memtable_op(row) & ~TREE_DELETED;
	if (op > op_max && op != MEMTABLE_DEAD)
		return 0;
	uint32_t keep = of->runs;
	while (keep > 0 && of->run[keep - 1]->to - of->run[keep - 1]->from < 2 * (rows - from))
		from = of->run[--keep]->from;
	struct memtable_run *run;
	int error = run_new(&run, table, of, from, rows);
	if (error)
		return error;
	while (of->runs > keep)
		run_let_go(of->run[--of->runs]);
	HAUL_ASSERT(of->runs < MEMTABLE_RUNS_MAX);
	of->run[of->runs++] = run;
	return 0;
}

static int runs_take(struct memtable_walk_state *state, uint64_t op_max)
{
	/* What is locked and added to is a cache: the rows stay as they are. */
	struct memtable_tree *of = (struct memtable_tree *)(uintptr_t)state->of;
	pthread_mutex_lock(&of->lock);
	int error = runs_extend(state->table, of, op_max);
	if (!error) {
		state->runs = of->runs;
		for (uint32_t r = 0; r < of->runs; r++) {
			state->run[r] = of->run[r];
			of->run[r]->holds++;
		}
	}
	pthread_mutex_unlock(&of->lock);
	return error;
}

/* The lock is held while somebody sorts: a walk by chain, which the writer takes, stays clear of
 * it. */
static void runs_let_go(struct memtable_walk_state *state)
{
	struct memtable_tree *of = (struct memtable_tree *)(uintptr_t)state->of;
	pthread_mutex_lock(&of->lock);
	for (uint32_t r = 0; r < state->runs; r++)
		run_let_go(state->run[r]);
	pthread_mutex_unlock(&of->lock);
}

/* ---- opening ---- */

static int key_compare(const uint64_t *a, const uint64_t *b, uint32_t words)
{
	for (uint32_t i = 0; i < words; i++) {
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	}
	return 0;
}

/* First ref whose key is not before `from`. */
static const uint32_t *seek(const struct memtable_walk_state *state, const uint32_t *refs,
			    uint32_t count, const struct tree_key *from)
{
	uint32_t low = 0, high = from ? count : 0;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct memtable_row *row = memtable_at(state->table, refs[middle]);
		if (key_compare(row->key, from->word, state->of->words) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return refs + low;
}

static void cursor_add(struct memtable_walk_state *state, const uint32_t *refs, uint32_t count,
		       const struct tree_key *from)
{
	const uint32_t *at = seek(state, refs, count, from);
	if (at == refs + count)
		return;
	state->cursor[state->cursors++] = (struct cursor){ .at = at,
							   .end = refs + count,
							   .row = memtable_at(state->table, *at) };
}

/* Refs of the rows with one first word, last first; more than `max` are not all put. */
static uint32_t chain_put(const struct memtable *table, enum tree tree, uint64_t word,
			  uint32_t *refs, uint32_t max)
{
	uint32_t count = 0;
	uint32_t ref = memtable_first(table, tree, word);
	while (ref && count <= max) {
		if (count < max)
			refs[count] = ref;
		count++;
		ref = memtable_links(memtable_at(table, ref), tree_words[tree])->same;
	}
	return count;
}

/* Memory for pieces of at most so many rows and bytes of values. */
static int piece_alloc(struct memtable_walk_state *state, uint64_t rows, uint64_t heap)
{
	rows = rows < PIECE_ROWS ? rows : PIECE_ROWS;
	heap = heap < PIECE_HEAP ? heap : PIECE_HEAP;
	uint64_t row =
		state->of->words * sizeof *state->key + sizeof *state->op + sizeof *state->end;
	state->key = malloc(rows * row + heap + 1);
	if (!state->key)
		return -ENOMEM;
	state->rows_max = (uint32_t)rows;
	state->heap_max = (uint32_t)heap;
	state->op = state->key + rows * state->of->words;
	state->end = (uint32_t *)(void *)(state->op + rows);
	state->heap = (uint8_t *)(state->end + rows);
	return 0;
}

static uint64_t values_bytes(const struct memtable *table, const uint32_t *refs, uint32_t count)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < count; i++)
		bytes += memtable_bytes(memtable_at(table, refs[i]));
	return bytes;
}

/* 1: the walk is by chain; 0: the chain is too long. */
static int chain_open(struct memtable_walk_state *state, enum tree tree,
		      const struct tree_key *from)
{
	uint32_t few[64];
	uint32_t count = chain_put(state->table, tree, from->word[0], few, 64);
	if (count == 0)
		return 1;
	uint32_t room = count <= 64 ? count : CHAIN_MAX;
	state->chain = malloc(room * sizeof *state->chain);
	if (!state->chain)
		return -ENOMEM;
	if (count <= 64)
		memcpy(state->chain, few, count * sizeof *few);
	else
		count = chain_put(state->table, tree, from->word[0], state->chain, CHAIN_MAX);
	if (count > CHAIN_MAX)
		return 0;
	int error = memtable_sort_alloc(state->table, state->of->words, state->chain, count);
	if (!error)
		error = piece_alloc(state, count, values_bytes(state->table, state->chain, count));
	if (error)
		return error;
	cursor_add(state, state->chain, count, from);
	return 1;
}

/* The walk is by the order of the tree. */
static int runs_open(struct memtable_walk_state *state, const struct tree_key *from,
		     uint64_t op_max)
{
	int error = runs_take(state, op_max);
	if (error)
		return error;
	for (uint32_t r = 0; r < state->runs; r++)
		cursor_add(state, state->run[r]->ref, state->run[r]->to - state->run[r]->from,
			   from);
	return state->cursors ? piece_alloc(state, PIECE_ROWS, PIECE_HEAP) : 0;
}

static int walk_next(struct source *source, struct rows *ret_rows);

int memtable_walk_open(struct memtable_walk *walk, const struct memtable *table, enum tree tree,
		       const struct tree_key *from, bool prefix)
{
	HAUL_ASSERT((unsigned)tree < TREES);
	HAUL_ASSERT(!prefix || (from && table->tree[tree].prefix));
	struct memtable_walk_state *state = calloc(1, sizeof *state);
	if (!state)
		return -ENOMEM;
	state->table = table;
	state->of = &table->tree[tree];
	state->prefix = prefix;
	state->word = from ? from->word[0] : 0;
	walk->source.next = walk_next;
	walk->state = state;
	int error = prefix ? chain_open(state, tree, from) : 0;
	if (error == 0)
		error = runs_open(state, from, walk->op_max);
	if (error < 0) {
		memtable_walk_close(walk);
		return error;
	}
	return 0;
}

void memtable_walk_close(struct memtable_walk *walk)
{
	struct memtable_walk_state *state = walk->state;
	if (!state)
		return;
	if (state->runs > 0)
		runs_let_go(state);
	free(state->key);
	free(state->chain);
	free(state);
	walk->state = NULL;
}

/* ---- walking ---- */

/* The cursor whose row comes first; of equal keys that of the later rows, which is behind. */
static struct cursor *cursor_first(struct memtable_walk_state *state)
{
	struct cursor *first = &state->cursor[0];
	for (uint32_t i = 1; i < state->cursors; i++) {
		struct cursor *cursor = &state->cursor[i];
		if (key_compare(cursor->row->key, first->row->key, state->of->words) <= 0)
			first = cursor;
	}
	return first;
}

/* Rows in order lie anywhere: first the row is fetched, then, when it has come, its value. gcc
 * leaves out calls of what only fetches ahead, as it changes nothing; not what it has inlined. */
static inline __attribute__((always_inline)) void fetch_ahead(const struct memtable *table,
							      const struct cursor *cursor)
{
	if (cursor->at + AHEAD < cursor->end)
		__builtin_prefetch(memtable_at(table, cursor->at[AHEAD]));
	if (cursor->at + AHEAD_VALUE >= cursor->end)
		return;
	const struct memtable_row *row = memtable_at(table, cursor->at[AHEAD_VALUE]);
	const uint8_t *value = memtable_value(table, row);
	__builtin_prefetch(value);
	if (memtable_bytes(row) > LINE)
		__builtin_prefetch(value + LINE);
	if (memtable_bytes(row) > 2 * LINE)
		__builtin_prefetch(value + 2 * (size_t)LINE);
}

static void cursor_step(struct memtable_walk_state *state, struct cursor *cursor)
{
	cursor->at++;
	if (cursor->at < cursor->end) {
		cursor->row = memtable_at(state->table, *cursor->at);
		fetch_ahead(state->table, cursor);
		return;
	}
	uint32_t left = (uint32_t)(&state->cursor[state->cursors] - cursor) - 1;
	memmove(cursor, cursor + 1, left * sizeof *cursor);
	state->cursors--;
}

/* Whether a row is told: seen, and not replaced within its op. */
static bool row_told(struct memtable_walk_state *state, const struct memtable_row *row, uint64_t op,
		     uint64_t op_max)
{
	if (!memtable_sees(op, op_max))
		return false;
	const struct memtable_row *last = state->last;
	if (last && state->last_op == (op & ~TREE_DELETED) &&
	    key_compare(last->key, row->key, state->of->words) == 0)
		return false;
	state->last = row;
	state->last_op = op & ~TREE_DELETED;
	return true;
}

static int walk_next(struct source *source, struct rows *ret_rows)
{
	struct memtable_walk *walk = (struct memtable_walk *)(void *)source;
	struct memtable_walk_state *state = walk->state;
	uint32_t words = state->of->words, count = 0, heap = 0;
	while (state->cursors > 0 && count < state->rows_max) {
		struct cursor *cursor = state->cursors > 1 ? cursor_first(state) : state->cursor;
		const struct memtable_row *row = cursor->row;
		if (state->prefix && row->key[0] != state->word) {
			state->cursors = 0;
			break;
		}
		uint32_t bytes = memtable_bytes(row);
		if (heap + bytes > state->heap_max)
			break;
		uint64_t op = memtable_op(row);
		if (row_told(state, row, op, walk->op_max)) {
			for (uint32_t w = 0; w < words; w++)
				state->key[count * words + w] = row->key[w];
			memcpy(state->heap + heap, memtable_value(state->table, row), bytes);
			heap += bytes;
			state->op[count] = op;
			state->end[count++] = heap;
		}
		cursor_step(state, cursor);
	}
	if (count == 0)
		return 0;
	*ret_rows = (struct rows){ .count = count,
				   .words = words,
				   .key = state->key,
				   .op = state->op,
				   .end = state->end,
				   .heap = state->heap };
	return 1;
}
