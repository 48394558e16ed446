/* Sorts rows by key, later rows first where keys are equal.
 *
 * A key of up to 24 bytes would take as many passes of a radix sort. But bytes that are the same in
 * all rows need none, and after the first four others hardly two rows are still equal: those four
 * are drawn together into a digest, (digest, ref) pairs of 8 bytes are sorted by it in at most four
 * stable passes, and only runs of pairs with equal digests are looked at further. A short run is
 * sorted by insertion, a longer one by the same way with the next four bytes that differ in it.
 * That goes at most LEVELS deep, as each level uses up four bytes of the key or, when fewer differ,
 * all; so the whole is linear, whatever the keys. Every pass is stable and the input has later rows
 * first, so equal keys come out so. Rows that are in order already (ascending ids) are only
 * read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "store/memtable_state.h"

enum {
	DIGEST_BYTES = 4,
	LEVELS = TREE_WORDS_MAX * 8 / DIGEST_BYTES + 1,
	RUN_SHORT = 24,
	RUN_SHARE =
		128, /* bytes of a memory table for a row of a run: four runs at most are full */
	RUN_MIN = 1024,
	AHEAD = 16,
};

struct sorter {
	const struct memtable *table;
	uint32_t words;
	struct memtable_pair *pairs, *other;
};

/* Bytes of the key that a digest is made of, most significant first. */
struct window {
	uint32_t count;
	uint8_t word[DIGEST_BYTES], shift[DIGEST_BYTES];
};

static const uint64_t *key_of(const struct sorter *sorter, uint32_t ref)
{
	return memtable_at(sorter->table, ref)->key;
}

static int key_compare(const uint64_t *a, const uint64_t *b, uint32_t words)
{
	for (uint32_t i = 0; i < words; i++) {
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	}
	return 0;
}

/* Which bits differ among the rows of some pairs; whether they are in order backwards, so that the
 * refs only have to be turned round. */
static bool differing(const struct sorter *sorter, uint32_t from, uint32_t to,
		      uint64_t ret_bits[TREE_WORDS_MAX])
{
	const struct memtable_pair *pairs = sorter->pairs;
	const uint64_t *first = key_of(sorter, pairs[from].ref), *before = first;
	uint64_t bits[TREE_WORDS_MAX] = { 0 };
	bool falling = true;
	for (uint32_t i = from + 1; i < to; i++) {
		if (i + AHEAD < to)
			__builtin_prefetch(key_of(sorter, pairs[i + AHEAD].ref));
		const uint64_t *key = key_of(sorter, pairs[i].ref);
		for (uint32_t w = 0; w < sorter->words; w++)
			bits[w] |= key[w] ^ first[w];
		falling = falling && key_compare(key, before, sorter->words) < 0;
		before = key;
	}
	memcpy(ret_bits, bits, sizeof bits);
	return falling;
}

static struct window window_of(const uint64_t bits[TREE_WORDS_MAX], uint32_t words)
{
	struct window window = { 0 };
	for (uint32_t w = 0; w < words; w++) {
		for (int shift = 56; shift >= 0; shift -= 8) {
			if (window.count == DIGEST_BYTES || !(bits[w] >> shift & 0xff))
				continue;
			window.word[window.count] = (uint8_t)w;
			window.shift[window.count++] = (uint8_t)shift;
		}
	}
	return window;
}

static void digest(struct sorter *sorter, uint32_t from, uint32_t to, const struct window *window)
{
	struct memtable_pair *pairs = sorter->pairs;
	for (uint32_t i = from; i < to; i++) {
		if (i + AHEAD < to)
			__builtin_prefetch(key_of(sorter, pairs[i + AHEAD].ref));
		const uint64_t *key = key_of(sorter, pairs[i].ref);
		uint32_t made = 0;
		for (uint32_t b = 0; b < window->count; b++)
			made = made << 8 | (key[window->word[b]] >> window->shift[b] & 0xff);
		pairs[i].digest = made;
	}
}

/* Stable, by the lowest `bytes` bytes of the digest. */
static void radix(struct sorter *sorter, uint32_t from, uint32_t to, uint32_t bytes)
{
	uint32_t counts[DIGEST_BYTES][256] = { 0 };
	for (uint32_t i = from; i < to; i++) {
		uint32_t made = sorter->pairs[i].digest;
		for (uint32_t b = 0; b < bytes; b++)
			counts[b][made >> 8 * b & 0xff]++;
	}
	struct memtable_pair *in = sorter->pairs, *out = sorter->other;
	for (uint32_t b = 0; b < bytes; b++) {
		uint32_t at = from;
		for (int digit = 0; digit < 256; digit++) {
			uint32_t count = counts[b][digit];
			counts[b][digit] = at;
			at += count;
		}
		for (uint32_t i = from; i < to; i++)
			out[counts[b][in[i].digest >> 8 * b & 0xff]++] = in[i];
		struct memtable_pair *turn = in;
		in = out;
		out = turn;
	}
	if (in != sorter->pairs)
		memcpy(sorter->pairs + from, in + from, (to - from) * sizeof *in);
}

static void insertion(struct sorter *sorter, uint32_t from, uint32_t to)
{
	struct memtable_pair *pairs = sorter->pairs;
	for (uint32_t i = from + 1; i < to; i++) {
		struct memtable_pair pair = pairs[i];
		const uint64_t *key = key_of(sorter, pair.ref);
		uint32_t at = i;
		for (; at > from; at--) {
			if (key_compare(key_of(sorter, pairs[at - 1].ref), key, sorter->words) <= 0)
				break;
			pairs[at] = pairs[at - 1];
		}
		pairs[at] = pair;
	}
}

/* Sort pairs [from, to) by the first four bytes that differ. false: no further, all in order. */
static bool sort_level(struct sorter *sorter, uint32_t from, uint32_t to)
{
	uint64_t bits[TREE_WORDS_MAX];
	if (to - from <= RUN_SHORT) {
		insertion(sorter, from, to);
		return false;
	}
	(void)differing(sorter, from, to, bits);
	struct window window = window_of(bits, sorter->words);
	if (window.count == 0)
		return false;
	digest(sorter, from, to, &window);
	radix(sorter, from, to, window.count);
	return true;
}

/* End of the run of equal digests that starts at `at`. */
static uint32_t run_end(const struct memtable_pair *pairs, uint32_t at, uint32_t to)
{
	uint32_t end = at + 1;
	while (end < to && pairs[end].digest == pairs[at].digest)
		end++;
	return end;
}

static void sort_deep(struct sorter *sorter, uint32_t count)
{
	struct {
		uint32_t at, to;
	} level[LEVELS + 1];
	uint32_t deep = 0;
	level[0].at = 0;
	level[0].to = count;
	if (!sort_level(sorter, 0, count))
		return;
	for (;;) {
		if (level[deep].at == level[deep].to) {
			if (deep == 0)
				return;
			deep--;
			continue;
		}
		uint32_t at = level[deep].at;
		uint32_t end = run_end(sorter->pairs, at, level[deep].to);
		level[deep].at = end;
		if (end - at == 1 || !sort_level(sorter, at, end))
			continue;
		HAUL_ASSERT(deep < LEVELS);
		deep++;
		level[deep].at = at;
		level[deep].to = end;
	}
}

void memtable_sort(const struct memtable *table, uint32_t words, struct memtable_pair *pairs,
		   uint32_t count)
{
	struct sorter sorter = { table, words, pairs, pairs + count };
	uint64_t bits[TREE_WORDS_MAX];
	if (count == 0)
		return;
	if (!differing(&sorter, 0, count, bits)) {
		sort_deep(&sorter, count);
		return;
	}
	for (uint32_t i = 0, k = count - 1; i < k; i++, k--) {
		struct memtable_pair turn = pairs[i];
		pairs[i] = pairs[k];
		pairs[k] = turn;
	}
}

/* ---- memory to sort in ---- */

static uint32_t rows_max(uint64_t bytes)
{
	uint64_t rows = bytes / RUN_SHARE;
	return (uint32_t)(rows > RUN_MIN ? rows : RUN_MIN);
}

uint64_t memtable_sorter_memory(uint64_t bytes)
{
	return sizeof(struct memtable_sorter) +
	       2 * (uint64_t)rows_max(bytes) * sizeof(struct memtable_pair);
}

int memtable_sorter_new(struct memtable_sorter **ret_sorter, uint64_t bytes)
{
	struct memtable_sorter *sorter = malloc(sizeof *sorter);
	if (!sorter)
		return -ENOMEM;
	sorter->rows_max = rows_max(bytes);
	sorter->pairs = malloc(2 * (uint64_t)sorter->rows_max * sizeof *sorter->pairs);
	if (!sorter->pairs) {
		free(sorter);
		return -ENOMEM;
	}
	(void)pthread_mutex_init(&sorter->lock, NULL);
	*ret_sorter = sorter;
	return 0;
}

void memtable_sorter_free(struct memtable_sorter *sorter)
{
	if (!sorter)
		return;
	(void)pthread_mutex_destroy(&sorter->lock);
	free(sorter->pairs);
	free(sorter);
}
