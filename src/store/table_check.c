/* Proves all of a table, and says what is wrong with it.
 *
 * Block after block is read, with what lies between it and the next: that has to be zeros. A block
 * that does not verify is told, and the next is looked at. Rows have to rise over all blocks, lie
 * between the keys that the footer names, and pass the filter. */
#include <errno.h>
#include <stdlib.h>

#include <haul/err.h>
#include "store/table_state.h"

struct check {
	struct media *media;
	const struct table_info *info;
	struct table_tail tail;
	struct table_whole whole; /* for the filter */
	void (*told)(uint64_t offset, const char *what, void *arg);
	void *arg;
	int findings;
	uint8_t *stored, *raw;
	uint64_t room; /* of stored */
	bool any;
	struct tree_key last;
	uint64_t last_op;
	uint64_t op_max;
};

static void tell(struct check *check, uint64_t offset, const char *what)
{
	check->findings++;
	check->told(offset, what, check->arg);
}

static bool zeros(const uint8_t *data, uint64_t bytes)
{
	uint8_t any = 0;
	for (uint64_t i = 0; i < bytes; i++)
		any |= data[i];
	return any == 0;
}

/* What is wrong with a row, or NULL. */
static const char *row_wrong(struct check *check, const struct tree_key *key, uint64_t op)
{
	int order = check->any ? tree_key_compare(&check->last, key) : -1;
	uint64_t hash = table_hash(key, check->whole.words);
	if (order > 0 || (order == 0 && op >= check->last_op))
		return "a row is not behind the one before it";
	if (tree_key_compare(key, &check->info->first) < 0 ||
	    tree_key_compare(key, &check->info->last) > 0)
		return "a row is outside of the keys that the footer names";
	if (op == 0 || op > check->info->op_max)
		return "a row is newer than the footer says";
	if (!table_filter_pass(&check->whole.table, hash))
		return "the filter denies a row that is there";
	return NULL;
}

static void check_rows(struct check *check, uint64_t offset, const struct rows *rows)
{
	const char *wrong = NULL;
	for (uint32_t i = 0; i < rows->count && !wrong; i++) {
		struct tree_key key = { 0 };
		memcpy(key.word, rows->key + (size_t)i * rows->words,
		       rows->words * sizeof *rows->key);
		uint64_t op = rows->op[i] & ~TREE_DELETED;
		wrong = row_wrong(check, &key, op);
		check->last = key;
		check->last_op = op;
		check->any = true;
		check->op_max = op > check->op_max ? op : check->op_max;
	}
	if (wrong)
		tell(check, offset, wrong);
}

/* Where the next block starts, or the tail. */
static uint64_t behind(const struct check *check, uint32_t number)
{
	return number + 1 < check->whole.blocks ? check->tail.entry[number + 1].offset
						: check->tail.footer->tail;
}

static void check_block(struct check *check, uint32_t number)
{
	const struct table_entry *entry = &check->tail.entry[number];
	uint64_t from = entry->offset / MEDIA_ALIGN * MEDIA_ALIGN;
	uint64_t to = table_round(behind(check, number), MEDIA_ALIGN);
	struct table_block_at at = { .blob = check->info->blob,
				     .number = number,
				     .tree = check->info->tree,
				     .words = check->whole.words,
				     .entry = entry };
	if (to - from > check->room) {
		tell(check, entry->offset, "blocks are too far apart");
		return;
	}
	struct media_read read = { .blob = check->info->blob,
				   .offset = from,
				   .data = check->stored,
				   .bytes = (uint32_t)(to - from) };
	MEDIA_CALL(check->media, blob_get, &read, 1);
	if (read.result < 0 || (uint32_t)read.result != read.bytes) {
		tell(check, entry->offset, "a block cannot be read");
		return;
	}
	const uint8_t *stored = check->stored + (entry->offset - from);
	uint64_t gap = behind(check, number) - entry->offset - entry->bytes;
	if (!zeros(stored + entry->bytes, gap))
		tell(check, entry->offset + entry->bytes, "there are no zeros behind a block");
	if (table_block_open(&at, stored, check->raw)) {
		tell(check, entry->offset, "a block does not verify");
		return;
	}
	struct rows rows = table_rows((const struct table_block *)(void *)check->raw);
	struct tree_key first = { 0 };
	memcpy(first.word, rows.key, rows.words * sizeof *rows.key);
	bool continues = check->any && tree_key_compare(&first, &check->last) == 0;
	if (tree_key_compare(&first, &entry->first) != 0 ||
	    continues != ((entry->flags & TABLE_CONTINUES) != 0))
		tell(check, entry->offset, "the index says another first key");
	check_rows(check, entry->offset, &rows);
}

static void check_whole(struct check *check)
{
	const struct table_footer *footer = check->tail.footer;
	check->whole = (struct table_whole){ .words = tree_words[check->info->tree],
					     .blocks = footer->blocks,
					     .entry = check->tail.entry,
					     .filter = check->tail.filter,
					     .lines = footer->lines };
	if (check->tail.entry[0].offset != 0)
		tell(check, 0, "the first block is not at the start");
	for (uint32_t i = 0; i < footer->blocks; i++)
		check_block(check, i);
	if (check->findings == 0 &&
	    (check->op_max != footer->op_max || tree_key_compare(&check->last, &footer->last) != 0))
		tell(check, footer->tail, "the footer says another last key or op");
	int64_t bytes = MEDIA_CALL(check->media, blob_bytes, check->info->blob);
	if (bytes != (int64_t)check->info->bytes)
		tell(check, check->info->bytes, "the blob is longer or shorter than its table");
}

static int check_alloc(struct check *check)
{
	check->room = TABLE_ROW_MAX + 3 * (uint64_t)MEDIA_ALIGN;
	check->room = table_round(check->room, MEDIA_ALIGN);
	check->stored = aligned_alloc(MEDIA_ALIGN, check->room);
	check->raw = aligned_alloc(TABLE_STEP, TABLE_CACHE_LARGE);
	return check->stored && check->raw ? 0 : -ENOMEM;
}

int table_check(struct media *media, const struct table_info *info,
		void (*told)(uint64_t offset, const char *what, void *arg), void *arg)
{
	struct haul_err err = { 0 };
	struct check check = { .media = media, .info = info, .told = told, .arg = arg };
	int error = table_tail_load(&check.tail, media, info, &err);
	if (error == -ENOMEM)
		return error;
	if (error) {
		tell(&check, info->bytes, err.text);
		return check.findings;
	}
	error = check_alloc(&check);
	if (!error)
		check_whole(&check);
	free(check.stored);
	free(check.raw);
	free(check.tail.data);
	return error ? error : check.findings;
}
