/* Walks over the blocks of a table.
 *
 * Two ways. With bypass, for merges: the next `ahead` blocks are read with one request into the
 * walk's own memory, and unpacked one at a time; the cache is left to readers. Else blocks come
 * through the cache, up to `ahead` of them (CACHED_AHEAD at most) wanted at once and pinned until
 * the walk is behind them. A block that found no frame is copied into the walk's own memory, so
 * that a walk at rest holds no spare memory; that memory is taken when it first happens, which is
 * seldom. */
#include <errno.h>
#include <stdlib.h>

#include <haul/err.h>
#include "store/table_state.h"

enum {
	CACHED_AHEAD = 16,
	ROWS_MAX = TABLE_ROW_MAX / (8 + 8 + 4), /* of a block */
};

struct walk_state {
	const struct table_whole *whole;
	struct lend *lend;
	bool seeks; /* the first row was not found yet */
	/* cached */
	struct table_want want[CACHED_AHEAD];
	uint32_t wants, told; /* begun; told of those */
	/* bypassed */
	uint8_t *buffer; /* blocks [from, to) of the table, from offset `offset` */
	uint64_t buffer_bytes, offset;
	uint32_t from, to;
	/* both */
	uint8_t *own;           /* a block of its own: TABLE_CACHE_LARGE */
	uint32_t end[ROWS_MAX]; /* ends of the first block, counted from the first row */
};

static int next_cached(struct source *source, struct rows *ret_rows);
static int next_bypass(struct source *source, struct rows *ret_rows);

/* Bytes that hold any `ahead` neighbouring blocks, or as many as there are. */
static uint64_t ahead_bytes(const struct table_whole *whole, uint32_t ahead)
{
	uint64_t most = 0;
	for (uint32_t i = 0; i < whole->blocks; i++) {
		uint32_t last = i + ahead < whole->blocks ? i + ahead - 1 : whole->blocks - 1;
		uint64_t end = whole->entry[last].offset + whole->entry[last].bytes;
		uint64_t from = whole->entry[i].offset / MEDIA_ALIGN * MEDIA_ALIGN;
		uint64_t bytes = table_round(end, MEDIA_ALIGN) - from;
		most = bytes > most ? bytes : most;
	}
	return most;
}

static int own_alloc(struct walk_state *state)
{
	if (!state->own)
		state->own = aligned_alloc(TABLE_STEP, TABLE_CACHE_LARGE);
	return state->own ? 0 : -ENOMEM;
}

static int bypass_alloc(struct walk_state *state, uint32_t ahead)
{
	state->buffer_bytes = ahead_bytes(state->whole, ahead);
	state->buffer = aligned_alloc(MEDIA_ALIGN, state->buffer_bytes);
	return state->buffer ? own_alloc(state) : -ENOMEM;
}

static void state_free(struct walk_state *state)
{
	free(state->own);
	free(state->buffer);
	lend_free(state->lend, state);
}

static void walk_set(struct table_walk *walk, struct walk_state *state, const struct tree_key *from)
{
	walk->state = state;
	walk->source.next = walk->bypass ? next_bypass : next_cached;
	if (from) {
		walk->from = *from;
		walk->block = table_block_of(state->whole, from);
		state->seeks = true;
	}
	state->from = state->to = walk->block;
}

static struct walk_state *state_new(const struct table *table, struct lend *lend)
{
	struct walk_state *state = lend_alloc(lend, sizeof *state);
	if (!state)
		return NULL;
	memset(state, 0, offsetof(struct walk_state, end));
	state->whole = table_whole(table);
	state->lend = lend;
	return state;
}

int table_walk_open_lent(struct table_walk *walk, struct table *table, const struct tree_key *from,
			 uint32_t ahead, struct lend *lend)
{
	struct walk_state *state = state_new(table, lend);
	if (!state)
		return -ENOMEM;
	ahead = ahead < 1 ? 1 : ahead > CACHED_AHEAD ? CACHED_AHEAD : ahead;
	*walk = (struct table_walk){ .table = table, .ahead = ahead };
	walk_set(walk, state, from);
	return 0;
}

int table_walk_open(struct table_walk *walk, struct table *table, const struct tree_key *from,
		    uint32_t ahead, bool bypass)
{
	if (!bypass)
		return table_walk_open_lent(walk, table, from, ahead, NULL);
	struct walk_state *state = state_new(table, NULL);
	if (!state)
		return -ENOMEM;
	ahead = ahead < 1 ? 1 : ahead > TABLE_AHEAD_MAX ? TABLE_AHEAD_MAX : ahead;
	int error = bypass_alloc(state, ahead);
	if (error) {
		state_free(state);
		return error;
	}
	*walk = (struct table_walk){ .table = table, .ahead = ahead, .bypass = true };
	walk_set(walk, state, from);
	return 0;
}

void table_walk_close(struct table_walk *walk)
{
	struct walk_state *state = walk->state;
	if (!state)
		return;
	table_want_end(state->want, state->wants);
	state_free(state);
	walk->state = NULL;
}

/* The rows of a block from the walk's first key on, up to its end; then it is behind the last
 * block. false: there are none. */
static bool rows_from(struct table_walk *walk, const struct table_block *block,
		      struct rows *ret_rows)
{
	struct walk_state *state = walk->state;
	struct rows rows = table_rows(block);
	uint32_t skip = 0;
	bool first = state->seeks;
	if (state->seeks) {
		uint32_t guess = table_guess(state->whole, block->number, &walk->from);
		skip = table_seek(&rows, &walk->from, guess);
		if (skip == rows.count)
			return false; /* the key is behind; all of the next block may be */
		state->seeks = false;
	}
	if (walk->bounded) {
		uint32_t end = table_seek(&rows, &walk->behind, first ? skip : rows.count - 1);
		if (end < rows.count)
			walk->block = state->whole->blocks;
		if (end == skip)
			return false;
		rows.count = end;
	}
	if (skip > 0) {
		uint32_t base = rows.end[skip - 1];
		for (uint32_t i = skip; i < rows.count; i++)
			state->end[i - skip] = rows.end[i] - base;
		rows.count -= skip;
		rows.key += (size_t)skip * rows.words;
		rows.op += skip;
		rows.end = state->end;
		rows.heap += base;
	}
	*ret_rows = rows;
	return true;
}

/* ---- through the cache ---- */

static void own_copy(struct walk_state *state, struct table_want *want)
{
	want->status = own_alloc(state);
	if (want->status)
		return;
	memcpy(state->own, want->block, want->block->raw);
	want->block = (const struct table_block *)(void *)state->own;
}

/* Want the next blocks. Those without a frame end the wants, and are copied. */
static void wants_next(struct table_walk *walk)
{
	struct walk_state *state = walk->state;
	uint32_t left = state->whole->blocks - walk->block;
	uint32_t count = left < walk->ahead ? left : walk->ahead;
	table_want_end(state->want, state->wants);
	state->wants = state->told = 0;
	for (uint32_t i = 0; i < count; i++) {
		state->want[i].table = walk->table;
		state->want[i].number = walk->block + i;
	}
	count = table_want_begin(state->want, count);
	table_want_read(state->want, count);
	table_want_wait(state->want, count);
	uint32_t keep = 0;
	while (keep < count && state->want[keep].frame != TABLE_CACHE_NONE)
		keep++;
	if (keep == 0 && state->want[0].status == 0)
		own_copy(state, &state->want[0]);
	table_want_end(state->want + keep, count - keep);
	if (keep == 0) {
		state->want[0].frame = TABLE_CACHE_NONE;
		state->want[0].spare = NULL;
		keep = 1;
	}
	state->wants = keep;
}

static int next_cached(struct source *source, struct rows *ret_rows)
{
	struct table_walk *walk = (struct table_walk *)(void *)source;
	struct walk_state *state = walk->state;
	while (walk->block < state->whole->blocks) {
		if (state->told == state->wants)
			wants_next(walk);
		const struct table_want *want = &state->want[state->told];
		if (want->status)
			return want->status;
		state->told++;
		walk->block++;
		if (rows_from(walk, want->block, ret_rows))
			return 1;
	}
	return 0;
}

/* ---- past the cache ---- */

static int buffer_fill(struct table_walk *walk)
{
	struct walk_state *state = walk->state;
	const struct table_whole *whole = state->whole;
	uint32_t left = whole->blocks - walk->block;
	uint32_t count = left < walk->ahead ? left : walk->ahead;
	const struct table_entry *first = &whole->entry[walk->block];
	const struct table_entry *last = &whole->entry[walk->block + count - 1];
	uint64_t from = first->offset / MEDIA_ALIGN * MEDIA_ALIGN;
	uint64_t to = table_round(last->offset + last->bytes, MEDIA_ALIGN);
	HAUL_ASSERT(to - from <= state->buffer_bytes);
	struct media_read read = { .blob = walk->table->info.blob,
				   .offset = from,
				   .data = state->buffer,
				   .bytes = (uint32_t)(to - from) };
	MEDIA_CALL(walk->table->media, blob_get, &read, 1);
	if (read.result < 0)
		return read.result;
	if ((uint64_t)read.result < last->offset + last->bytes - from)
		return HAUL_ECORRUPT;
	state->offset = from;
	state->from = walk->block;
	state->to = walk->block + count;
	return 0;
}

static int next_bypass(struct source *source, struct rows *ret_rows)
{
	struct table_walk *walk = (struct table_walk *)(void *)source;
	struct walk_state *state = walk->state;
	while (walk->block < state->whole->blocks) {
		int error = walk->block == state->to ? buffer_fill(walk) : 0;
		if (error)
			return error;
		const struct table_entry *entry = &state->whole->entry[walk->block];
		const struct table_block_at at = { .blob = walk->table->info.blob,
						   .number = walk->block,
						   .tree = walk->table->info.tree,
						   .words = state->whole->words,
						   .entry = entry };
		uint8_t *stored = state->buffer + (entry->offset - state->offset);
		uint8_t *raw = entry->bytes == entry->raw ? stored : state->own;
		error = table_block_open(&at, stored, raw);
		if (error)
			return error;
		walk->block++;
		if (rows_from(walk, (const struct table_block *)(void *)raw, ret_rows))
			return 1;
	}
	return 0;
}
