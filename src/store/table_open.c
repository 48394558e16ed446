/* Opening a table: its tail is read and proven; what is needed of it stays in memory. */
#include <errno.h>
#include <stdlib.h>

#include <haul/err.h>
#include "base/checksum.h"
#include "store/table_state.h"

/* What keeps the offsets of a footer within its blob. */
static bool footer_fits(const struct table_footer *footer, const struct table_info *info)
{
	uint64_t end = info->bytes - sizeof *footer;
	uint64_t filter = (uint64_t)footer->lines * TABLE_FILTER_LINE;
	uint64_t index = (uint64_t)footer->blocks * sizeof(struct table_entry);
	return footer->blocks > 0 && footer->tail % MEDIA_ALIGN == 0 && footer->tail <= end &&
	       filter <= end - footer->tail && footer->index == footer->tail + filter &&
	       index <= end - footer->index;
}

static bool footer_is(const struct table_footer *footer, const struct table_info *info)
{
	return footer->check == info->checksum && footer->blob == info->blob &&
	       footer->bytes == info->bytes && footer->tree == info->tree &&
	       footer->level == info->level && footer->rows == info->rows &&
	       footer->op_max == info->op_max &&
	       tree_key_compare(&footer->first, &info->first) == 0 &&
	       tree_key_compare(&footer->last, &info->last) == 0;
}

/* Entries lie in the blob one behind the other, and say what a block can be. */
static bool entries_fit(const struct table_tail *tail, const struct table_footer *footer)
{
	uint64_t at = 0, rows = 0;
	uint32_t words = tree_words[footer->tree];
	for (uint32_t i = 0; i < footer->blocks; i++) {
		const struct table_entry *entry = &tail->entry[i];
		uint64_t least = table_raw_bytes(words, entry->rows, 0);
		if (entry->offset < at || entry->offset % TABLE_STEP ||
		    entry->bytes <= TABLE_HEAD || entry->bytes > entry->raw ||
		    entry->raw > TABLE_ROW_MAX || entry->rows == 0 || least > entry->raw ||
		    entry->offset > footer->tail || entry->bytes > footer->tail - entry->offset)
			return false;
		at = entry->offset + entry->bytes;
		rows += entry->rows;
	}
	return rows == footer->rows;
}

static int blob_read(struct media *media, struct media_read read)
{
	uint32_t bytes = read.bytes;
	MEDIA_CALL(media, blob_get, &read, 1);
	if (read.result < 0)
		return read.result;
	return (uint32_t)read.result == bytes ? 0 : HAUL_ECORRUPT;
}

static int fail(struct haul_err *err, int error, uint64_t blob, const char *what)
{
	(void)haul_err_set(err, error, "table %llu: %s: %s; haul store check finds all there is",
			   (unsigned long long)blob, what, haul_strerror(error));
	return error;
}

/* Where the tail starts and how long it is, from the last block of the blob. */
static int tail_place_load(struct media *media, const struct table_info *info, uint64_t *ret_from)
{
	struct table_footer footer;
	uint8_t *page = aligned_alloc(MEDIA_ALIGN, MEDIA_ALIGN);
	if (!page)
		return -ENOMEM;
	int error = blob_read(media, (struct media_read){ .blob = info->blob,
							  .offset = info->bytes - MEDIA_ALIGN,
							  .data = page,
							  .bytes = MEDIA_ALIGN });
	memcpy(&footer, page + MEDIA_ALIGN - sizeof footer, sizeof footer);
	free(page);
	if (error)
		return error;
	if (footer.magic != TABLE_MAGIC)
		return HAUL_ECORRUPT;
	if (!footer_fits(&footer, info))
		return HAUL_ECORRUPT;
	*ret_from = footer.tail;
	return 0;
}

static int tail_prove(struct table_tail *tail, const struct table_info *info)
{
	uint64_t checked = tail->bytes - sizeof(uint64_t);
	const uint8_t *end = tail->data + tail->bytes;
	const struct table_footer *footer =
		(const struct table_footer *)(const void *)(end - sizeof *footer);
	if (XXH3_64bits(tail->data, checked) != footer->check || !footer_is(footer, info) ||
	    !footer_fits(footer, info))
		return HAUL_ECORRUPT;
	if (footer->version != TABLE_VERSION)
		return HAUL_EVERSION;
	tail->footer = footer;
	tail->filter = footer->lines ? (const uint32_t *)(const void *)tail->data : NULL;
	tail->entry = (const struct table_entry *)(const void *)(tail->data + footer->index -
								 footer->tail);
	return entries_fit(tail, footer) ? 0 : HAUL_ECORRUPT;
}

int table_tail_load(struct table_tail *ret_tail, struct media *media, const struct table_info *info,
		    struct haul_err *err)
{
	struct table_tail tail = { 0 };
	uint64_t from = 0;
	if (info->tree >= TREES || info->bytes < MEDIA_ALIGN || info->bytes % MEDIA_ALIGN ||
	    info->bytes > INT32_MAX)
		return fail(err, HAUL_ECORRUPT, info->blob, "what the manifest says of it");
	int error = tail_place_load(media, info, &from);
	if (error)
		return fail(err, error, info->blob, "its footer");
	tail.bytes = info->bytes - from;
	tail.data = aligned_alloc(MEDIA_ALIGN, tail.bytes);
	if (!tail.data)
		return fail(err, -ENOMEM, info->blob, "its index and filter");
	error = blob_read(media, (struct media_read){ .blob = info->blob,
						      .offset = from,
						      .data = tail.data,
						      .bytes = (uint32_t)tail.bytes });
	error = error ? error : tail_prove(&tail, info);
	if (error) {
		free(tail.data);
		return fail(err, error, info->blob, "its index and filter");
	}
	*ret_tail = tail;
	return 0;
}

/* ---- tables ---- */

/* One block of memory: the table, its index, the first words of that. */
static struct table_whole *whole_new(const struct table_whole *like)
{
	uint64_t index = like->blocks * sizeof *like->entry;
	uint64_t bytes = sizeof *like + index + like->blocks * sizeof *like->word;
	struct table_whole *whole = malloc(bytes);
	if (!whole)
		return NULL;
	struct table_entry *entry = (struct table_entry *)(void *)(whole + 1);
	uint64_t *word = (uint64_t *)(void *)(entry + like->blocks);
	*whole = *like;
	memcpy(entry, like->entry, index);
	for (uint32_t i = 0; i < whole->blocks; i++)
		word[i] = entry[i].first.word[0];
	whole->entry = entry;
	whole->word = word;
	whole->memory = bytes;
	whole->filter = NULL;
	whole->heir = NULL;
	whole->counter = NULL;
	whole->table.holds = 1;
	whole->table.doomed = false;
	return whole;
}

static struct table_whole *whole_of(struct table *table)
{
	return (struct table_whole *)(void *)table;
}

uint64_t table_filter_bytes(const struct table *table)
{
	return (uint64_t)table_whole(table)->lines * TABLE_FILTER_LINE;
}

bool table_filtered(const struct table *table)
{
	return table_whole(table)->filter || table_whole(table)->lines == 0;
}

static int filter_alloc(struct table_whole *whole, const uint32_t *filter)
{
	if (!filter)
		return 0;
	uint64_t bytes = table_filter_bytes(&whole->table);
	uint32_t *copy = aligned_alloc(TABLE_FILTER_LINE, bytes);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, filter, bytes);
	whole->filter = copy;
	whole->memory += bytes;
	return 0;
}

int table_open(struct table **ret_table, struct media *media, struct table_cache *cache,
	       const struct table_info *info, struct haul_err *err)
{
	struct table_tail tail;
	int error = table_tail_load(&tail, media, info, err);
	if (error)
		return error;
	const struct table_whole like = {
		.table = { .info = *info, .media = media, .cache = cache },
		.words = tree_words[info->tree],
		.blocks = tail.footer->blocks,
		.entry = tail.entry,
		.lines = tail.footer->lines
	};
	struct table_whole *whole = whole_new(&like);
	error = whole ? filter_alloc(whole, tail.filter) : -ENOMEM;
	free(tail.data);
	if (error) {
		free(whole);
		return fail(err, error, info->blob, "its index and filter");
	}
	*ret_table = &whole->table;
	return 0;
}

int table_reopen(struct table **ret_table, struct table *before, bool filtered)
{
	struct table_whole *old = whole_of(before), *whole;
	HAUL_ASSERT(!before->doomed);
	if (filtered) {
		struct table *table;
		int error = table_open(&table, before->media, before->cache, &before->info, NULL);
		if (error)
			return error;
		whole = whole_of(table);
	} else {
		whole = whole_new(old);
		if (!whole)
			return -ENOMEM;
	}
	table_drop(old->heir); /* of a time that came to nothing */
	old->heir = table_hold(&whole->table);
	*ret_table = &whole->table;
	return 0;
}

void table_filter_drop(struct table *table)
{
	struct table_whole *whole = whole_of(table);
	HAUL_ASSERT(!whole->counter);
	if (!whole->filter)
		return;
	whole->memory -= table_filter_bytes(table);
	free((void *)(uintptr_t)whole->filter);
	whole->filter = NULL;
}

void table_count(struct table *table, uint64_t *counter)
{
	struct table_whole *whole = whole_of(table);
	HAUL_ASSERT(!whole->counter);
	whole->counter = counter;
	(void)__atomic_add_fetch(counter, whole->memory, __ATOMIC_RELAXED);
}

struct table *table_hold(struct table *table)
{
	uint32_t before = __atomic_fetch_add(&table->holds, 1, __ATOMIC_RELAXED);
	HAUL_ASSERT(before > 0);
	return table;
}

void table_drop(struct table *table)
{
	while (table) {
		uint32_t before = __atomic_fetch_sub(&table->holds, 1, __ATOMIC_ACQ_REL);
		HAUL_ASSERT(before > 0);
		if (before > 1)
			return;
		struct table_whole *whole = whole_of(table);
		struct table *heir = whole->heir;
		if (table->doomed) /* what is left over is deleted at the next open */
			(void)MEDIA_CALL(table->media, blob_delete, table->info.blob);
		if (whole->counter)
			(void)__atomic_sub_fetch(whole->counter, whole->memory, __ATOMIC_RELAXED);
		free((void *)(uintptr_t)whole->filter);
		free(whole);
		table = heir;
	}
}

uint64_t table_memory(const struct table *table)
{
	return table_whole(table)->memory;
}
