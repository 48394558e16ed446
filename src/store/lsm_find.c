/* store/lsm_find.c: many keys looked for at once.
 *
 * How        The memory tables first, fetched ahead. What is still open is put in order once; then
 *            each run, from new to old, takes a stretch of it: keys before its first and behind its
 *            last are not even hashed for, so that ids that only ascend meet no filter. A key's
 *            table is found by going along, its filter is fetched some keys ahead. A key that
 *            passes is a hit, and no older run is asked for it just now. When all runs were gone
 *            through, the hits are read, blocks of all their tables with one call of the media. A
 *            hit that was none (the filter let it pass by chance, or the rows are too new) is open
 *            again, and goes on behind its run in the next round.
 * Why        A key is looked for in one table at a time, from new to old. So the newest answer or
 *            error wins, and a key found in a new run costs no reads in older ones. Filters are
 *            hardly ever wrong twice about a key, so two rounds are the rule: a disk that is busy
 *            with merges keeps a frame waiting twice, not once for each filter that was wrong. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/lsm_state.h"

enum {
	AHEAD_MEMORY = 12,
	AHEAD_FILTER = 16, /* a power of two */
	SORT_SMALL = 24,   /* up to here by insertion */
	DIGIT = 256,
	DIGITS = 8,
};
#define NO_TABLE UINT32_MAX

struct pair {
	uint64_t word;
	struct table_ask *ask;
};

struct lsm_scratch {
	uint32_t asks;
	struct arena *arena;
	struct pair *pairs, *spare;
	struct table_ask **open; /* not found yet, ascending */
	struct table_ask **hits; /* those that a filter let pass, … */
	struct table **tables;   /* … and of which table */
	uint32_t hit_count;
};

int lsm_scratch_new(struct lsm_scratch **ret_scratch, uint32_t asks)
{
	HAUL_ASSERT(asks > 0);
	struct lsm_scratch *scratch = calloc(1, sizeof *scratch);
	if (!scratch)
		return -ENOMEM;
	scratch->asks = asks;
	scratch->pairs = malloc(asks * sizeof *scratch->pairs);
	scratch->spare = malloc(asks * sizeof *scratch->spare);
	scratch->open = calloc(asks, sizeof(struct table_ask *));
	scratch->hits = calloc(asks, sizeof(struct table_ask *));
	scratch->tables = calloc(asks, sizeof(struct table *));
	if (!scratch->pairs || !scratch->spare || !scratch->open || !scratch->hits ||
	    !scratch->tables) {
		lsm_scratch_free(scratch);
		return -ENOMEM;
	}
	*ret_scratch = scratch;
	return 0;
}

void lsm_scratch_free(struct lsm_scratch *scratch)
{
	if (!scratch)
		return;
	free(scratch->tables);
	free(scratch->hits);
	free(scratch->open);
	free(scratch->spare);
	free(scratch->pairs);
	free(scratch);
}

/* ---- order ---- */

static bool asks_ascend(struct table_ask *const *asks, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++) {
		if (tree_key_compare(&asks[i - 1]->key, &asks[i]->key) > 0)
			return false;
	}
	return true;
}

static void asks_sort_small(struct table_ask **asks, uint32_t count)
{
	for (uint32_t i = 1; i < count; i++) {
		struct table_ask *ask = asks[i];
		uint32_t at = i;
		for (; at > 0 && tree_key_compare(&asks[at - 1]->key, &ask->key) > 0; at--)
			asks[at] = asks[at - 1];
		asks[at] = ask;
	}
}

/* One digit, stable; pairs and spare change places unless all have the same digit. */
static void pairs_sort_digit(struct lsm_scratch *scratch, const uint32_t *counts, uint32_t count,
			     uint32_t shift)
{
	if (counts[scratch->pairs[0].word >> shift & (DIGIT - 1)] == count)
		return;
	uint32_t place[DIGIT];
	uint32_t sum = 0;
	for (uint32_t i = 0; i < DIGIT; i++) {
		place[i] = sum;
		sum += counts[i];
	}
	const struct pair *from = scratch->pairs;
	struct pair *to = scratch->spare;
	for (uint32_t i = 0; i < count; i++)
		to[place[from[i].word >> shift & (DIGIT - 1)]++] = from[i];
	scratch->spare = scratch->pairs;
	scratch->pairs = to;
}

static void pairs_sort(struct lsm_scratch *scratch, uint32_t count)
{
	uint32_t counts[DIGITS][DIGIT] = { { 0 } };
	for (uint32_t i = 0; i < count; i++) {
		uint64_t word = scratch->pairs[i].word;
		for (uint32_t digit = 0; digit < DIGITS; digit++)
			counts[digit][word >> 8 * digit & (DIGIT - 1)]++;
	}
	for (uint32_t digit = 0; digit < DIGITS; digit++)
		pairs_sort_digit(scratch, counts[digit], count, 8 * digit);
}

/* By radix, from the last word to the first. */
static void asks_sort(struct lsm_scratch *scratch, uint32_t words, uint32_t count)
{
	if (asks_ascend(scratch->open, count))
		return;
	if (count <= SORT_SMALL) {
		asks_sort_small(scratch->open, count);
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		scratch->pairs[i].ask = scratch->open[i];
	for (uint32_t word = words; word-- > 0;) {
		for (uint32_t i = 0; i < count; i++)
			scratch->pairs[i].word = scratch->pairs[i].ask->key.word[word];
		pairs_sort(scratch, count);
	}
	for (uint32_t i = 0; i < count; i++)
		scratch->open[i] = scratch->pairs[i].ask;
}

/* ---- memory tables ---- */

/* Leaves in scratch->open what was not found. */
static uint32_t memory_find(const struct memtable *table, enum tree tree,
			    struct lsm_scratch *scratch, uint32_t count)
{
	uint32_t left = 0;
	struct table_ask **open = scratch->open;
	for (uint32_t i = 0; i < count && i < AHEAD_MEMORY; i++)
		memtable_prefetch(table, tree, &open[i]->key);
	for (uint32_t i = 0; i < count; i++) {
		if (i + AHEAD_MEMORY < count)
			memtable_prefetch(table, tree, &open[i + AHEAD_MEMORY]->key);
		struct table_ask *ask = open[i];
		memtable_get(table, tree, &ask->key, ask->op_max, &ask->row);
		if (ask->row.op == 0)
			open[left++] = ask;
	}
	return left;
}

/* ---- runs ---- */

/* First of the open keys that is not before `key` (or, with `behind`, that is behind it). */
static uint32_t open_until(const struct lsm_scratch *scratch, uint32_t count,
			   const struct tree_key *key, bool behind)
{
	uint32_t low = 0, high = count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = tree_key_compare(&scratch->open[middle]->key, key);
		if (order < 0 || (behind && order == 0))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The table that may have the key, or NO_TABLE; *at goes along. */
static inline uint32_t table_of(const struct run *run, const struct tree_key *key, uint32_t *at)
{
	/* Most often it is that of the key before. */
	if (*at == run->count || key->word[0] >= run->bound[*at].last.word[0])
		*at = run_find(run, *at, key);
	if (*at == run->count || tree_key_compare(&run->bound[*at].first, key) > 0)
		return NO_TABLE;
	return *at;
}

static inline bool hit_take(struct lsm_scratch *scratch, const struct run *run, uint32_t table,
			    struct table_ask *ask)
{
	if (table == NO_TABLE || !table_filter_pass(run->table[table], ask->hash))
		return false;
	scratch->tables[scratch->hit_count] = run->table[table];
	scratch->hits[scratch->hit_count++] = ask;
	return true;
}

/* Open keys [from, to) in run `number`: what passes becomes a hit. Returns up to where the others
 * stay open. */
static uint32_t run_gather(const struct run *run, uint32_t number, struct lsm_scratch *scratch,
			   uint32_t from, uint32_t to)
{
	uint32_t tables[AHEAD_FILTER];
	uint32_t at = 0, left = from;
	for (uint32_t i = from; i < to + AHEAD_FILTER; i++) {
		if (i >= from + AHEAD_FILTER) {
			struct table_ask *ask = scratch->open[i - AHEAD_FILTER];
			if (hit_take(scratch, run, tables[i % AHEAD_FILTER], ask))
				ask->runs = number + 1;
			else
				scratch->open[left++] = ask;
		}
		if (i >= to)
			continue;
		struct table_ask *ask = scratch->open[i];
		uint32_t table = ask->runs <= number ? table_of(run, &ask->key, &at) : NO_TABLE;
		tables[i % AHEAD_FILTER] = table;
		if (table != NO_TABLE)
			table_filter_prefetch(run->table[table], ask->hash);
	}
	return left;
}

/* One round over all runs: what is left open afterwards is in none. */
static void runs_gather(const struct lsm_runs *runs, struct lsm_scratch *scratch, uint32_t count)
{
	for (uint32_t i = 0; i < runs->count && count > 0; i++) {
		const struct run *run = runs->run[i];
		uint32_t from = open_until(scratch, count, &run->bound[0].first, false);
		uint32_t to = open_until(scratch, count, &run->bound[run->count - 1].last, true);
		if (from >= to)
			continue;
		uint32_t left = run_gather(run, i, scratch, from, to);
		if (left < to)
			memmove(scratch->open + left, scratch->open + to,
				(count - to) * sizeof(struct table_ask *));
		count -= to - left;
	}
}

/* Hits that were none are open again; in no order. */
static uint32_t hits_reopen(struct lsm_scratch *scratch)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < scratch->hit_count; i++) {
		struct table_ask *ask = scratch->hits[i];
		if (ask->row.op == 0 && ask->status == 0)
			scratch->open[count++] = ask;
	}
	scratch->hit_count = 0;
	return count;
}

/* Whether any run has keys in the range of the open ones at all. */
static bool runs_concern(const struct lsm_runs *runs, const struct lsm_scratch *scratch,
			 uint32_t count)
{
	struct tree_key low = scratch->open[0]->key, high = low;
	for (uint32_t i = 1; i < count; i++) {
		const struct tree_key *key = &scratch->open[i]->key;
		if (tree_key_compare(key, &low) < 0)
			low = *key;
		else if (tree_key_compare(key, &high) > 0)
			high = *key;
	}
	for (uint32_t i = 0; i < runs->count; i++) {
		const struct run *run = runs->run[i];
		if (tree_key_compare(&run->bound[0].first, &high) <= 0 &&
		    tree_key_compare(&run->bound[run->count - 1].last, &low) >= 0)
			return true;
	}
	return false;
}

static void runs_get(const struct lsm_runs *runs, enum tree tree, struct lsm_scratch *scratch,
		     uint32_t count, struct arena *arena)
{
	if (count == 0 || !runs_concern(runs, scratch, count))
		return;
	asks_sort(scratch, tree_words[tree], count);
	for (uint32_t i = 0; i < count; i++)
		scratch->open[i]->hash = table_hash(&scratch->open[i]->key, tree_words[tree]);
	while (count > 0) {
		runs_gather(runs, scratch, count);
		table_get(scratch->tables, scratch->hits, scratch->hit_count, arena);
		count = hits_reopen(scratch);
		asks_sort(scratch, tree_words[tree], count);
	}
}

/* ---- */

static uint32_t asks_open(struct lsm_scratch *scratch, struct table_ask *asks, uint32_t count)
{
	HAUL_ASSERT(count <= scratch->asks);
	for (uint32_t i = 0; i < count; i++) {
		asks[i].row = (struct tree_row){ .op = 0 };
		asks[i].status = 0;
		asks[i].runs = 0;
		scratch->open[i] = &asks[i];
	}
	return count;
}

int lsm_find(struct lsm *lsm, enum tree tree, struct table_ask *asks, uint32_t count,
	     struct arena *arena)
{
	HAUL_ASSERT(tree_hashed[tree]);
	struct lsm_scratch *scratch = lsm->scratch;
	struct lsm_view *view = lsm_view_current(lsm);
	int rc = 0;
	for (uint32_t done = 0; done < count; done += LSM_FIND) {
		uint32_t some = count - done < LSM_FIND ? count - done : LSM_FIND;
		for (uint32_t i = 0; i < some; i++)
			asks[done + i].op_max = LSM_OP_MAX;
		uint32_t left = asks_open(scratch, asks + done, some);
		left = memory_find(lsm->active->table, tree, scratch, left);
		if (lsm->frozen)
			left = memory_find(lsm->frozen->table, tree, scratch, left);
		runs_get(&view->tree[tree], tree, scratch, left, arena);
	}
	for (uint32_t i = 0; i < count && rc == 0; i++)
		rc = asks[i].status;
	lsm_view_drop(lsm, view);
	return rc;
}

struct lsm_scratch *lsm_into(struct lsm_scratch *scratch, struct arena *arena)
{
	scratch->arena = arena;
	return scratch;
}

void lsm_get(struct lsm_view *view, enum tree tree, struct table_ask *asks, uint32_t count,
	     struct lsm_scratch *scratch)
{
	HAUL_ASSERT(tree_hashed[tree]);
	for (uint32_t done = 0; done < count; done += scratch->asks) {
		uint32_t some = count - done < scratch->asks ? count - done : scratch->asks;
		uint32_t left = asks_open(scratch, asks + done, some);
		left = memory_find(view->active->table, tree, scratch, left);
		if (view->frozen && left)
			left = memory_find(view->frozen->table, tree, scratch, left);
		runs_get(&view->tree[tree], tree, scratch, left, scratch->arena);
	}
}
