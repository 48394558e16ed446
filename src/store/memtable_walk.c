/* Walks over a memory table in order.
 *
 * The order of a tree is kept as runs: each covers the rows of a range of row numbers, sorted, and
 * together they cover the first rows of the tree. A walk that may see rows behind the last run
 * makes new ones of them; first it takes back the runs at the end that are shorter than twice what
 * comes after them, so that each run is at least twice as long as the next and a row is sorted
 * again only as often as its run doubles. Runs as long as there is memory to sort in are full, and
 * stay. Rows of ops above op_max are in runs, too, and left out when met.
 *
 * The order has a place for every row, once. So a walk holds the order only within a piece: when
 * runs were taken back since the piece before, it looks for its places again, from the row on that
 * comes next; what it has told of that row's key is told apart by op. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/memtable_state.h"

enum {
	PIECE_ROWS = 256,
	PIECE_HEAP = 64 << 10,
	FEW = 64,
	CHAIN_MAX = 4096, /* longer ones are walked in the order of the whole tree */
	AHEAD = 16,       /* rows */
	AHEAD_VALUE = 8,  /* … whose values are fetched ahead */
	LINE = 64,
};
_Static_assert((int)PIECE_HEAP >= (int)TREE_VALUE_MAX, "any value fits into a piece");

/* Where a walk is in a run: places of the order, or of the chain. */
struct cursor {
	uint32_t at, end;
	const struct memtable_row *row; /* of `at` */
};

struct memtable_walk_state {
	const struct memtable *table;
	const struct memtable_tree *of;
	struct lend *lend;
	bool prefix;
	uint64_t word;
	uint32_t version;                        /* of the order that the cursors are of */
	struct cursor cursor[MEMTABLE_RUNS_MAX]; /* those with rows left, older rows first */
	uint32_t cursors;
	const struct memtable_row *last; /* visible row met last */
	uint64_t last_op;
	struct memtable_pair *chain; /* own order of a prefix; NULL: by the order of the tree */
	/* the piece */
	uint32_t rows_max, heap_max;
	uint64_t *key; /* what is behind it lies in the same memory */
	uint64_t *op;
	uint32_t *end;
	uint8_t *heap;
};

/* ---- orders ---- */

/* Under the lock of the tree. */
static void run_make(const struct memtable *table, struct memtable_tree *of, uint32_t from,
		     uint32_t to)
{
	struct memtable_sorter *sorter = table->sorter;
	HAUL_ASSERT(to - from <= sorter->rows_max && of->runs < MEMTABLE_RUNS_MAX);
	(void)pthread_mutex_lock(&sorter->lock);
	for (uint32_t number = from; number < to; number++)
		sorter->pairs[to - 1 - number].ref = memtable_ref_of(table, of, number);
	memtable_sort(table, of->words, sorter->pairs, to - from);
	for (uint32_t place = from; place < to; place++)
		*memtable_order(table, of, place) = sorter->pairs[place - from].ref;
	(void)pthread_mutex_unlock(&sorter->lock);
	of->run[of->runs++] = (struct memtable_run){ .from = from, .to = to };
}

/* Whether a row behind the runs may be seen. */
static bool runs_short(const struct memtable *table, const struct memtable_tree *of,
		       uint64_t op_max)
{
	uint32_t rows = __atomic_load_n(&of->rows, __ATOMIC_ACQUIRE);
	uint32_t from = of->runs ? of->run[of->runs - 1].to : 0;
	if (from == rows)
		return false;
	/* Ops rise from row to row; a dead one says nothing. */
	const struct memtable_row *row = memtable_at(table, memtable_ref_of(table, of, from));
	uint64_t op = memtable_op(row) & ~TREE_DELETED;
	return op <= op_max || op == MEMTABLE_DEAD;
}

/* Runs for all rows there are now. Under the lock. */
static void runs_extend(const struct memtable *table, struct memtable_tree *of)
{
	uint32_t rows = __atomic_load_n(&of->rows, __ATOMIC_ACQUIRE);
	uint32_t from = of->runs ? of->run[of->runs - 1].to : 0, most = table->sorter->rows_max;
	while (of->runs > 0) {
		const struct memtable_run *run = &of->run[of->runs - 1];
		uint32_t length = run->to - run->from;
		if (length == most || length >= 2 * (uint64_t)(rows - from))
			break;
		from = run->from;
		of->runs--;
		of->version++;
	}
	for (; from < rows; from = of->run[of->runs - 1].to)
		run_make(table, of, from, rows - from < most ? rows : from + most);
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

static inline const struct memtable_row *row_at(const struct memtable_walk_state *state,
						uint32_t place)
{
	uint32_t ref = state->chain ? state->chain[place].ref
				    : *memtable_order(state->table, state->of, place);
	return memtable_at(state->table, ref);
}

/* First place in [low, high) whose key is not before `from`. */
static uint32_t seek(const struct memtable_walk_state *state, uint32_t low, uint32_t high,
		     const uint64_t *from)
{
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (key_compare(row_at(state, middle)->key, from, state->of->words) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void cursor_add(struct memtable_walk_state *state, uint32_t from, uint32_t to,
		       const uint64_t *key)
{
	uint32_t at = key ? seek(state, from, to, key) : from;
	if (at == to)
		return;
	state->cursor[state->cursors++] =
		(struct cursor){ .at = at, .end = to, .row = row_at(state, at) };
}

/* Cursors on all runs, from a key on (NULL: all of them). Under the lock. */
static void cursors_set(struct memtable_walk_state *state, const uint64_t *key)
{
	const struct memtable_tree *of = state->of;
	state->cursors = 0;
	state->version = of->version;
	for (uint32_t r = 0; r < of->runs; r++)
		cursor_add(state, of->run[r].from, of->run[r].to, key);
}

/* Refs of the rows with one first word, last first; more than `max` are not all put. */
static uint32_t chain_put(const struct memtable *table, enum tree tree, uint64_t word,
			  struct memtable_pair *refs, uint32_t max)
{
	uint32_t count = 0;
	uint32_t ref = memtable_first(table, tree, word);
	while (ref && count <= max) {
		if (count < max)
			refs[count].ref = ref;
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
	state->key = lend_alloc(state->lend, rows * row + heap + 1);
	if (!state->key)
		return -ENOMEM;
	state->rows_max = (uint32_t)rows;
	state->heap_max = (uint32_t)heap;
	state->op = state->key + rows * state->of->words;
	state->end = (uint32_t *)(void *)(state->op + rows);
	state->heap = (uint8_t *)(state->end + rows);
	return 0;
}

static uint64_t values_bytes(const struct memtable *table, const struct memtable_pair *refs,
			     uint32_t count)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < count; i++)
		bytes += memtable_bytes(memtable_at(table, refs[i].ref));
	return bytes;
}

/* 1: the walk is by chain; 0: the chain is too long. */
static int chain_open(struct memtable_walk_state *state, enum tree tree,
		      const struct tree_key *from)
{
	struct memtable_pair few[FEW];
	uint32_t count = chain_put(state->table, tree, from->word[0], few, FEW);
	if (count == 0)
		return 1;
	uint32_t room = count <= FEW ? count : CHAIN_MAX;
	struct memtable_pair *chain = lend_alloc(state->lend, 2 * room * sizeof *chain);
	if (!chain)
		return -ENOMEM;
	if (count <= FEW)
		memcpy(chain, few, count * sizeof *few);
	else
		count = chain_put(state->table, tree, from->word[0], chain, CHAIN_MAX);
	if (count > CHAIN_MAX) {
		lend_free(state->lend, chain);
		return 0;
	}
	memtable_sort(state->table, state->of->words, chain, count);
	state->chain = chain;
	int error = piece_alloc(state, count, values_bytes(state->table, chain, count));
	if (error)
		return error;
	cursor_add(state, 0, count, from->word);
	return 1;
}

/* The walk is by the order of the tree. The lock is held while somebody sorts: a walk by chain,
 * which the writer takes, stays clear of it. */
static int order_open(struct memtable_walk_state *state, const struct tree_key *from,
		      uint64_t op_max)
{
	/* What is locked and added to is a cache: the rows stay as they are. */
	struct memtable_tree *of = (struct memtable_tree *)(uintptr_t)state->of;
	(void)pthread_rwlock_rdlock(&of->lock);
	bool extend = runs_short(state->table, of, op_max);
	if (extend) {
		(void)pthread_rwlock_unlock(&of->lock);
		(void)pthread_rwlock_wrlock(&of->lock);
		if (runs_short(state->table, of, op_max))
			runs_extend(state->table, of);
	}
	cursors_set(state, from ? from->word : NULL);
	(void)pthread_rwlock_unlock(&of->lock);
	return state->cursors ? piece_alloc(state, PIECE_ROWS, PIECE_HEAP) : 0;
}

static int walk_next(struct source *source, struct rows *ret_rows);

int memtable_walk_open(struct memtable_walk *walk, const struct memtable *table, enum tree tree,
		       const struct tree_key *from, bool prefix)
{
	HAUL_ASSERT((unsigned)tree < TREES);
	HAUL_ASSERT(!prefix || (from && table->tree[tree].prefix));
	struct memtable_walk_state *state = lend_alloc(walk->lend, sizeof *state);
	if (!state)
		return -ENOMEM;
	*state = (struct memtable_walk_state){ .table = table,
					       .of = &table->tree[tree],
					       .lend = walk->lend,
					       .prefix = prefix,
					       .word = from ? from->word[0] : 0 };
	walk->source.next = walk_next;
	walk->state = state;
	int error = prefix ? chain_open(state, tree, from) : 0;
	if (error == 0)
		error = order_open(state, from, walk->op_max);
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
	lend_free(walk->lend, state->key);
	lend_free(walk->lend, state->chain);
	lend_free(walk->lend, state);
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
static inline __attribute__((always_inline)) void
fetch_ahead(const struct memtable_walk_state *state, const struct cursor *cursor)
{
	if (cursor->end - cursor->at > AHEAD)
		__builtin_prefetch(row_at(state, cursor->at + AHEAD));
	if (cursor->end - cursor->at <= AHEAD_VALUE)
		return;
	const struct memtable_row *row = row_at(state, cursor->at + AHEAD_VALUE);
	const uint8_t *value = memtable_value(state->table, row);
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
		cursor->row = row_at(state, cursor->at);
		fetch_ahead(state, cursor);
		return;
	}
	uint32_t left = (uint32_t)(&state->cursor[state->cursors] - cursor) - 1;
	memmove(cursor, cursor + 1, left * sizeof *cursor);
	state->cursors--;
}

/* Whether a row is told: seen, not replaced within its op, and not told before the walk looked for
 * its places again. */
static bool row_told(struct memtable_walk_state *state, const struct memtable_row *row, uint64_t op,
		     uint64_t op_max)
{
	if (!memtable_sees(op, op_max))
		return false;
	const struct memtable_row *last = state->last;
	if (last && (op & ~TREE_DELETED) >= state->last_op &&
	    key_compare(last->key, row->key, state->of->words) == 0)
		return false;
	state->last = row;
	state->last_op = op & ~TREE_DELETED;
	return true;
}

/* Rows of the next piece. */
static uint32_t piece_fill(struct memtable_walk_state *state, uint64_t op_max)
{
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
		if (row_told(state, row, op, op_max)) {
			for (uint32_t w = 0; w < words; w++)
				state->key[count * words + w] = row->key[w];
			memcpy(state->heap + heap, memtable_value(state->table, row), bytes);
			heap += bytes;
			state->op[count] = op;
			state->end[count++] = heap;
		}
		cursor_step(state, cursor);
	}
	return count;
}

static int walk_next(struct source *source, struct rows *ret_rows)
{
	struct memtable_walk *walk = (struct memtable_walk *)(void *)source;
	struct memtable_walk_state *state = walk->state;
	struct memtable_tree *of = (struct memtable_tree *)(uintptr_t)state->of;
	uint32_t count = 0;
	if (state->cursors == 0)
		return 0;
	if (state->chain) {
		count = piece_fill(state, walk->op_max);
	} else {
		(void)pthread_rwlock_rdlock(&of->lock);
		if (state->version != of->version)
			cursors_set(state, cursor_first(state)->row->key);
		count = piece_fill(state, walk->op_max);
		(void)pthread_rwlock_unlock(&of->lock);
	}
	if (count == 0)
		return 0;
	*ret_rows = (struct rows){ .count = count,
				   .words = state->of->words,
				   .key = state->key,
				   .op = state->op,
				   .end = state->end,
				   .heap = state->heap };
	return 1;
}
