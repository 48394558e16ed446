/* Blocks of tables brought into memory, and places in them found.
 *
 * Who wants blocks goes three steps: begin (look into the cache, claim what is not there), read
 * (all that was claimed, with one call of the media), wait (for what others had claimed before).
 * Nobody waits between his claims and the end of his reads, so every wait ends. Spare memory is
 * waited for only by who has claimed nothing and holds no spare memory; who holds some gives it
 * back without waiting for more. */
#include <errno.h>

#include <haul/err.h>
#include "store/table_state.h"

static struct table_block_at block_at(const struct table *table, uint32_t number)
{
	const struct table_whole *whole = table_whole(table);
	return (struct table_block_at){ .blob = table->info.blob,
					.number = number,
					.tree = table->info.tree,
					.words = whole->words,
					.entry = &whole->entry[number] };
}

static const struct table_block *frame_block(const struct table *table, uint32_t frame)
{
	return (const struct table_block *)(const void *)table_cache_data(table->cache, frame);
}

/* ---- wants ---- */

/* Whether a block can be read straight into its frame. */
static bool lies_straight(const struct table_entry *entry)
{
	return entry->bytes == entry->raw && entry->offset % MEDIA_ALIGN == 0;
}

/* false: there is no memory for it just now, and nothing was done. */
static bool want_begin(struct table_want *want, bool wait)
{
	const struct table *table = want->table;
	const struct table_entry *entry = &table_whole(table)->entry[want->number];
	struct table_cache *cache = table->cache;
	want->status = 0;
	want->spare = NULL;
	want->how = TABLE_HAVE;
	want->frame = table_cache_find(cache, table->info.blob, want->number);
	if (want->frame != TABLE_CACHE_NONE) {
		want->block = frame_block(table, want->frame);
		return true;
	}
	want->block = NULL;
	if (!lies_straight(entry)) {
		want->spare = table_cache_spare(cache, wait);
		if (!want->spare)
			return false;
	}
	enum table_cache_claim claim =
		table_cache_claim(cache, table->info.blob, want->number, entry->raw, &want->frame);
	if (claim == TABLE_CACHE_FULL && !want->spare) {
		want->spare = table_cache_spare(cache, wait);
		if (!want->spare)
			return false;
	}
	want->how = TABLE_READS;
	if (claim == TABLE_CACHE_MINE || claim == TABLE_CACHE_FULL)
		return true;
	if (want->spare)
		table_cache_spare_back(cache, want->spare);
	want->spare = NULL;
	want->how = claim == TABLE_CACHE_BUSY ? TABLE_WAITS : TABLE_HAVE;
	if (claim == TABLE_CACHE_HIT)
		want->block = frame_block(table, want->frame);
	return true;
}

uint32_t table_want_begin(struct table_want *wants, uint32_t count)
{
	uint32_t begun = 0, missed = 0;
	while (begun < count && want_begin(&wants[begun], begun == 0)) {
		missed += wants[begun].how != TABLE_HAVE;
		begun++;
	}
	HAUL_ASSERT(begun > 0);
	table_cache_count(wants[0].table->cache, begun - missed, missed);
	return begun;
}

static struct media_read want_reads(const struct table_want *want)
{
	const struct table *table = want->table;
	const struct table_entry *entry = &table_whole(table)->entry[want->number];
	uint64_t from = entry->offset / MEDIA_ALIGN * MEDIA_ALIGN;
	uint64_t to = table_round(entry->offset + entry->bytes, MEDIA_ALIGN);
	return (struct media_read){ .blob = table->info.blob,
				    .offset = from,
				    .data = want->spare
						    ? want->spare->read
						    : table_cache_data(table->cache, want->frame),
				    .bytes = (uint32_t)(to - from) };
}

static int want_open(struct table_want *want, const struct media_read *read)
{
	const struct table *table = want->table;
	const struct table_entry *entry = &table_whole(table)->entry[want->number];
	uint64_t skip = entry->offset - read->offset;
	if (read->result < 0)
		return read->result;
	if ((uint64_t)read->result < skip + entry->bytes)
		return HAUL_ECORRUPT;
	const uint8_t *stored = read->data + skip;
	uint8_t *raw = read->data + skip;
	if (want->spare && want->frame != TABLE_CACHE_NONE)
		raw = table_cache_data(table->cache, want->frame);
	else if (entry->bytes != entry->raw)
		raw = want->spare->raw;
	struct table_block_at at = block_at(table, want->number);
	want->block = (const struct table_block *)(const void *)raw;
	return table_block_open(&at, stored, raw);
}

void table_want_read(struct table_want *wants, uint32_t count)
{
	struct media_read reads[TABLE_AHEAD_MAX];
	uint32_t asked = 0, got = 0;
	struct media *media = wants[0].table->media;
	struct table_cache *cache = wants[0].table->cache;
	HAUL_ASSERT(count <= TABLE_AHEAD_MAX);
	for (uint32_t i = 0; i < count; i++) {
		HAUL_ASSERT(wants[i].table->media == media && wants[i].table->cache == cache);
		if (wants[i].how == TABLE_READS)
			reads[asked++] = want_reads(&wants[i]);
	}
	if (asked == 0)
		return;
	MEDIA_CALL(media, blob_get, reads, asked);
	for (uint32_t i = 0; i < count; i++) {
		struct table_want *want = &wants[i];
		if (want->how != TABLE_READS)
			continue;
		want->status = want_open(want, &reads[got++]);
		if (want->frame == TABLE_CACHE_NONE)
			continue;
		table_cache_loaded(cache, want->frame, want->status);
		if (want->spare)
			table_cache_spare_back(cache, want->spare);
		want->spare = NULL;
	}
	HAUL_ASSERT(got == asked);
}

void table_want_wait(struct table_want *wants, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (wants[i].how != TABLE_WAITS)
			continue;
		wants[i].status = table_cache_wait(wants[i].table->cache, wants[i].frame);
		wants[i].block = frame_block(wants[i].table, wants[i].frame);
	}
}

void table_want_end(const struct table_want *wants, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct table_cache *cache = wants[i].table->cache;
		if (wants[i].frame != TABLE_CACHE_NONE)
			table_cache_unpin(cache, wants[i].frame);
		if (wants[i].spare)
			table_cache_spare_back(cache, wants[i].spare);
	}
}

/* ---- places ---- */

/* The last block whose first key is not behind key, among those with its first word. */
static uint32_t block_among(const struct table_whole *whole, uint32_t last,
			    const struct tree_key *key)
{
	uint32_t base = 0, left = last + 1;
	while (left > 1) {
		uint32_t half = left / 2;
		if (tree_key_compare(&whole->entry[base + half].first, key) <= 0)
			base += half;
		left -= half;
	}
	return base;
}

uint32_t table_block_of(const struct table_whole *whole, const struct tree_key *key)
{
	const uint64_t *word = whole->word;
	uint32_t base = 0, left = whole->blocks;
	while (left > 1) {
		uint32_t half = left / 2;
		base = word[base + half] <= key->word[0] ? base + half : base;
		left -= half;
	}
	if (whole->words > 1 && word[base] == key->word[0])
		base = block_among(whole, base, key);
	while (base > 0 && whole->entry[base].flags & TABLE_CONTINUES &&
	       tree_key_compare(&whole->entry[base].first, key) == 0)
		base--;
	return base;
}

uint32_t table_guess(const struct table_whole *whole, uint32_t block, const struct tree_key *key)
{
	const struct table_entry *entry = &whole->entry[block];
	const struct tree_key *end = block + 1 < whole->blocks ? &whole->entry[block + 1].first
							       : &whole->table.info.last;
	for (uint32_t w = 0; w < whole->words; w++) {
		uint64_t from = entry->first.word[w], to = end->word[w];
		if (from == to)
			continue;
		if (key->word[w] <= from || to < from)
			return 0;
		double share = (double)(key->word[w] - from) / (double)(to - from);
		return share < 1 ? (uint32_t)(share * entry->rows) : entry->rows - 1;
	}
	return 0;
}

static bool row_before(const struct rows *rows, uint32_t row, const struct tree_key *key)
{
	const uint64_t *word = rows->key + (size_t)row * rows->words;
	for (uint32_t w = 0; w < rows->words; w++) {
		if (word[w] != key->word[w])
			return word[w] < key->word[w];
	}
	return false;
}

uint32_t table_seek(const struct rows *rows, const struct tree_key *key, uint32_t guess)
{
	/* low: all rows before it are before key; high: no row from it on is. */
	uint32_t low = 0, high = rows->count, step = 1;
	if (guess >= high)
		guess = high - 1;
	if (row_before(rows, guess, key)) {
		low = guess + 1;
		while (low + step < high && row_before(rows, low + step - 1, key)) {
			low += step;
			step *= 2;
		}
		high = low + step < high ? low + step : high;
	} else {
		high = guess;
		while (step <= high && !row_before(rows, high - step, key)) {
			high -= step;
			step *= 2;
		}
		low = step <= high ? high - step + 1 : 0;
	}
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (row_before(rows, middle, key))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}
