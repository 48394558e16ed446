/* Rows of many keys out of many tables.
 *
 * Keys of one table stand together and rise, so those of one block do, too. They are gone through
 * in waves of at most WAVE_BLOCKS blocks of whatever tables: all blocks of a wave are in memory at
 * the same time, and those that were not come with one call of the media. What a lookup touches
 * (place of the block in the cache, its keys, its values) is asked for all keys of a wave in one
 * pass and used in the next, so that the waits for memory overlap. */
#include <haul/err.h>
#include "store/table_state.h"

enum {
	WAVE_BLOCKS = TABLE_AHEAD_MAX,
	WAVE_ASKS = 256,
	VALUE_ALIGN = 8,
	LINE = 64,
};

struct wave {
	struct table_want want[WAVE_BLOCKS];
	uint32_t blocks;
	struct table_ask *const *ask;
	uint8_t block_of[WAVE_ASKS]; /* place in want */
	uint16_t at[WAVE_ASKS];      /* guessed row, then the row */
	uint32_t asks;
};
_Static_assert((int)TABLE_ROW_MAX < 65536, "rows of a block are counted in 16 bits");

/* The place of a block in the wave; WAVE_BLOCKS: it has no more room. */
static inline uint32_t wave_block(struct wave *wave, const struct table *table, uint32_t number)
{
	struct table_want *want = &wave->want[wave->blocks];
	if (wave->blocks > 0 && want[-1].number == number && want[-1].table == table)
		return wave->blocks - 1;
	if (wave->blocks == WAVE_BLOCKS)
		return WAVE_BLOCKS;
	want->table = table;
	want->number = number;
	table_cache_prefetch(table->cache, table->info.blob, number);
	return wave->blocks++;
}

/* Take as many of the asks into the wave as it bears. */
static void wave_gather(struct wave *wave, struct table *const *tables,
			struct table_ask *const *asks, uint32_t count)
{
	wave->ask = asks;
	wave->asks = wave->blocks = 0;
	for (uint32_t i = 0; i < count && i < WAVE_ASKS; i++) {
		const struct table_whole *whole = table_whole(tables[i]);
		const struct tree_key *key = &asks[i]->key;
		HAUL_ASSERT(asks[i]->row.op == 0 && asks[i]->status == 0);
		uint32_t number = table_block_of(whole, key);
		uint32_t block = wave_block(wave, tables[i], number);
		if (block == WAVE_BLOCKS)
			break;
		wave->block_of[i] = (uint8_t)block;
		wave->at[i] = (uint16_t)table_guess(whole, number, key);
		wave->asks++;
	}
}

/* Ask for the keys at the guesses. gcc leaves out calls of what only fetches ahead, as it changes
 * nothing; not what it has inlined before it comes to that. */
static inline __attribute__((always_inline)) void wave_prefetch(const struct wave *wave)
{
	for (uint32_t i = 0; i < wave->asks; i++) {
		const struct table_want *want = &wave->want[wave->block_of[i]];
		if (want->status || !want->block)
			continue;
		uint32_t words = table_whole(want->table)->words;
		const uint8_t *key = (const uint8_t *)want->block + TABLE_HEAD +
				     (size_t)wave->at[i] * words * sizeof(uint64_t);
		__builtin_prefetch(want->block);
		__builtin_prefetch(key);
	}
}

/* Find the rows, and ask for what is needed of them. */
static void wave_seek(struct wave *wave)
{
	for (uint32_t i = 0; i < wave->asks; i++) {
		const struct table_want *want = &wave->want[wave->block_of[i]];
		if (want->status)
			continue;
		/* The number of a blob is used once as long as the cache lives. */
		HAUL_ASSERT(want->block->check ==
			    table_whole(want->table)->entry[want->number].check);
		struct rows rows = table_rows(want->block);
		uint32_t at = table_seek(&rows, &wave->ask[i]->key, wave->at[i]);
		wave->at[i] = (uint16_t)at;
		if (at == rows.count)
			continue;
		/* Values are about of one length, as long as nobody has seen their ends. */
		uint32_t heap = (uint32_t)((uint64_t)want->block->heap * at / rows.count);
		__builtin_prefetch(&rows.op[at]);
		__builtin_prefetch(&rows.end[at]);
		__builtin_prefetch(rows.heap + heap);
		__builtin_prefetch(rows.heap + heap + LINE);
	}
}

static void ask_answer(struct table_ask *ask, const struct rows *rows, uint32_t at,
		       struct arena *arena)
{
	uint32_t from = at ? rows->end[at - 1] : 0;
	struct tree_row row = { .op = rows->op[at] & ~TREE_DELETED,
				.deleted = (rows->op[at] & TREE_DELETED) != 0,
				.bytes = rows->end[at] - from };
	if (arena) {
		uint64_t used = table_round(arena->used, VALUE_ALIGN);
		if (used + row.bytes > arena->bytes) {
			ask->status = HAUL_EFULL;
			return;
		}
		memcpy(arena->data + used, rows->heap + from, row.bytes);
		row.value = arena->data + used;
		arena->used = used + row.bytes;
	}
	ask->row = row;
}

/* Answer from row `at` on. true: the versions of the key may go on behind this block. */
static bool ask_look(struct table_ask *ask, const struct rows *rows, uint32_t at,
		     struct arena *arena)
{
	for (; at < rows->count; at++) {
		const uint64_t *key = rows->key + (size_t)at * rows->words;
		for (uint32_t w = 0; w < rows->words; w++) {
			if (key[w] != ask->key.word[w])
				return false;
		}
		if ((rows->op[at] & ~TREE_DELETED) <= ask->op_max) {
			ask_answer(ask, rows, at, arena);
			return false;
		}
	}
	return true;
}

/* Versions that go on over blocks behind `from`: one after the other. */
static void ask_follow(const struct table_want *from, struct table_ask *ask, struct arena *arena)
{
	const struct table_whole *whole = table_whole(from->table);
	uint32_t block = from->number;
	bool on = true;
	while (on && ++block < whole->blocks && whole->entry[block].flags & TABLE_CONTINUES &&
	       tree_key_compare(&whole->entry[block].first, &ask->key) == 0) {
		struct table_want want = { .table = from->table, .number = block };
		table_want_begin(&want, 1);
		table_want_read(&want, 1);
		table_want_wait(&want, 1);
		ask->status = want.status;
		on = false;
		if (!want.status) {
			struct rows rows = table_rows(want.block);
			on = ask_look(ask, &rows, 0, arena);
		}
		table_want_end(&want, 1);
	}
}

/* Asks whose versions go on behind their block are left for ask_follow: at is 1, else 0. */
static void wave_answer(struct wave *wave, struct arena *arena)
{
	for (uint32_t i = 0; i < wave->asks; i++) {
		const struct table_want *want = &wave->want[wave->block_of[i]];
		struct table_ask *ask = wave->ask[i];
		bool on = false;
		ask->status = want->status;
		if (!want->status) {
			struct rows rows = table_rows(want->block);
			on = ask_look(ask, &rows, wave->at[i], arena);
		}
		wave->at[i] = on;
	}
}

/* Begin with the blocks of a wave. Asks whose blocks there is no memory for now are taken out of
 * it again. */
static void wave_begin(struct wave *wave)
{
	wave->blocks = table_want_begin(wave->want, wave->blocks);
	while (wave->block_of[wave->asks - 1] >= wave->blocks)
		wave->asks--;
}

void table_get(struct table *const *tables, struct table_ask *const *asks, uint32_t count,
	       struct arena *arena)
{
	struct wave wave;
	for (uint32_t at = 0; at < count; at += wave.asks) {
		wave_gather(&wave, tables + at, asks + at, count - at);
		wave_begin(&wave);
		wave_prefetch(&wave);
		table_want_read(wave.want, wave.blocks);
		table_want_wait(wave.want, wave.blocks);
		wave_seek(&wave);
		wave_answer(&wave, arena);
		table_want_end(wave.want, wave.blocks);
		for (uint32_t i = 0; i < wave.asks; i++) {
			if (wave.at[i])
				ask_follow(&wave.want[wave.block_of[i]], wave.ask[i], arena);
		}
	}
}
