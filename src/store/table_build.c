/* Builds tables: rows in order come in, blobs go out.
 *
 * Rows are gathered as columns until a block is full; then the columns are put behind each other in
 * the blob, packed if that was asked for and is worth it, and an entry goes into the index. Hashes
 * of distinct keys are gathered, as the filter's size is known only at the end. A table ends with
 * the block that makes it long enough, but never between rows of one key: while the key stays the
 * same the table goes on, and there is VERSIONS_ROOM for that. */
#include <errno.h>
#include <lz4.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <haul/err.h>
#include "base/checksum.h"
#include "store/table_state.h"

enum {
	VERSIONS_ROOM = 4 << 20,
	ENTRY_BYTES = 512, /* of a blob: so much an entry of the index, at least */
	HASH_BYTES = 16,   /* … a hash */
	ENTRIES_ROOM = VERSIONS_ROOM / TABLE_STEP,
	BLOCK_ROWS_MAX = TABLE_BLOCK / 16,
	HASHES_ROOM = 2 * BLOCK_ROWS_MAX,
	SAVES = 8, /* packed if it saves one part of so many */
	HUGE_PAGE = 2 << 20,
	PACK_MIN = 256, /* shorter blocks are left as they are */
};

struct table_builder {
	struct table_builder_options options;
	uint64_t table_bytes_max; /* what memory was taken for */
	uint64_t table_bytes;
	uint32_t block_bytes;
	uint32_t words;
	bool hashed, prefix;

	uint8_t *blob; /* all of it, aligned */
	uint64_t blob_room, at;
	struct table_entry *entry;
	uint32_t entries, entries_room;
	uint64_t *hash;
	uint64_t hashes, hashes_room;
	struct table_info info; /* of the table being made; rows 0: there is none */
	bool full;              /* ends with this key */
	bool started;

	/* the block being gathered */
	uint32_t rows, heap_bytes;
	bool continues;
	uint64_t *key, *op;
	uint32_t *end;
	uint8_t *heap;
	uint8_t *raw;  /* put together, to be packed from */
	void *packing; /* state of the packer */
};

static bool tree_has_prefix(enum tree tree)
{
	return tree == TREE_OUT || tree == TREE_IN || tree == TREE_OF_NODE;
}

/* ---- memory ---- */

static int builder_alloc(struct table_builder *builder)
{
	uint64_t bytes = builder->table_bytes_max;
	builder->entries_room = (uint32_t)(bytes / ENTRY_BYTES) + ENTRIES_ROOM;
	builder->hashes_room = bytes / HASH_BYTES + (uint64_t)HASHES_ROOM * 2;
	builder->blob_room =
		bytes + VERSIONS_ROOM + TABLE_ROW_MAX +
		builder->entries_room * sizeof *builder->entry +
		(uint64_t)table_filter_lines(builder->hashes_room) * TABLE_FILTER_LINE +
		4 * (uint64_t)MEDIA_ALIGN;
	builder->blob_room = table_round(builder->blob_room, HUGE_PAGE);
	builder->blob = aligned_alloc(HUGE_PAGE, builder->blob_room);
	builder->entry = malloc(builder->entries_room * sizeof *builder->entry);
	builder->hash = malloc(builder->hashes_room * sizeof *builder->hash);
	builder->key = malloc((size_t)BLOCK_ROWS_MAX * TREE_WORDS_MAX * sizeof *builder->key);
	builder->op = malloc(BLOCK_ROWS_MAX * sizeof *builder->op);
	builder->end = malloc(BLOCK_ROWS_MAX * sizeof *builder->end);
	builder->heap = malloc(TREE_VALUE_MAX);
	builder->raw = malloc(TABLE_ROW_MAX);
	builder->packing = malloc((size_t)LZ4_sizeofState());
	if (!builder->blob || !builder->entry || !builder->hash || !builder->key || !builder->op ||
	    !builder->end || !builder->heap || !builder->raw || !builder->packing)
		return -ENOMEM;
	if (bytes >= HUGE_PAGE) /* a wish */
		(void)madvise(builder->blob, builder->blob_room, MADV_HUGEPAGE);
	return 0;
}

int table_builder_new(struct table_builder **ret_builder, uint64_t table_bytes)
{
	struct table_builder *builder = calloc(1, sizeof *builder);
	if (!builder)
		return -ENOMEM;
	builder->table_bytes_max = table_bytes ? table_bytes : (uint64_t)TABLE_BYTES;
	int error = builder_alloc(builder);
	if (error) {
		table_builder_free(builder);
		return error;
	}
	*ret_builder = builder;
	return 0;
}

void table_builder_free(struct table_builder *builder)
{
	if (!builder)
		return;
	free(builder->packing);
	free(builder->raw);
	free(builder->heap);
	free(builder->end);
	free(builder->op);
	free(builder->key);
	free(builder->hash);
	free(builder->entry);
	free(builder->blob);
	free(builder);
}

int table_builder_start(struct table_builder *builder, const struct table_builder_options *options)
{
	uint64_t table_bytes = options->table_bytes ? options->table_bytes : (uint64_t)TABLE_BYTES;
	uint32_t block_bytes = options->block_bytes ? options->block_bytes : (uint32_t)TABLE_BLOCK;
	if (table_bytes > builder->table_bytes_max || block_bytes > TABLE_BLOCK ||
	    block_bytes < TABLE_BLOCK_MIN)
		return -EINVAL;
	HAUL_ASSERT((unsigned)options->tree < TREES && options->media);
	builder->options = *options;
	builder->table_bytes = table_bytes;
	builder->block_bytes = block_bytes;
	builder->words = tree_words[options->tree];
	builder->hashed = tree_hashed[options->tree];
	builder->prefix = tree_has_prefix(options->tree);
	builder->info = (struct table_info){ 0 };
	builder->at = builder->hashes = 0;
	builder->rows = builder->heap_bytes = builder->entries = 0;
	builder->full = builder->continues = false;
	builder->started = true;
	return 0;
}

/* ---- blocks ---- */

/* Put the columns behind each other, head first. */
static void columns_put(const struct table_builder *builder, uint8_t *data)
{
	uint64_t keys = (uint64_t)builder->rows * builder->words * sizeof(uint64_t);
	uint64_t ops = builder->rows * sizeof(uint64_t);
	uint64_t ends = builder->rows * sizeof(uint32_t);
	data += TABLE_HEAD;
	memcpy(data, builder->key, keys);
	memcpy(data + keys, builder->op, ops);
	memcpy(data + keys + ops, builder->end, ends);
	memcpy(data + keys + ops + ends, builder->heap, builder->heap_bytes);
}

/* Bytes of the packed block at `data`, head included; 0: it is not worth it. */
static uint32_t columns_pack(const struct table_builder *builder, uint8_t *data, uint32_t raw)
{
	if (!builder->options.compress || raw < PACK_MIN)
		return 0;
	columns_put(builder, builder->raw);
	int bytes = LZ4_compress_fast_extState(
		builder->packing, (const char *)builder->raw + TABLE_HEAD,
		(char *)data + TABLE_HEAD, (int)(raw - TABLE_HEAD), (int)(raw - raw / SAVES), 1);
	if (bytes <= 0 || TABLE_HEAD + (uint32_t)bytes > raw - raw / SAVES)
		return 0;
	return TABLE_HEAD + (uint32_t)bytes;
}

/* Zeros up to where the next block, or the tail, starts. */
static void pad_to(struct table_builder *builder, uint64_t at)
{
	HAUL_ASSERT(at >= builder->at && at <= builder->blob_room);
	memset(builder->blob + builder->at, 0, at - builder->at);
	builder->at = at;
}

static void block_align(struct table_builder *builder)
{
	if (builder->entries == 0)
		return;
	uint64_t whole = table_round(builder->at, MEDIA_ALIGN);
	if ((whole - builder->at) * SAVES <= builder->entry[builder->entries - 1].bytes)
		pad_to(builder, whole);
	else
		pad_to(builder, table_round(builder->at, TABLE_STEP));
}

static void key_take(const struct table_builder *builder, uint32_t row, struct tree_key *ret_key)
{
	*ret_key = (struct tree_key){ 0 };
	for (uint32_t w = 0; w < builder->words; w++)
		ret_key->word[w] = builder->key[row * builder->words + w];
}

static int block_close(struct table_builder *builder)
{
	if (builder->rows == 0)
		return 0;
	uint64_t raw = table_raw_bytes(builder->words, builder->rows, builder->heap_bytes);
	block_align(builder);
	if (builder->entries == builder->entries_room ||
	    builder->at + raw > builder->table_bytes_max + VERSIONS_ROOM)
		return HAUL_ELIMIT; /* more versions of one key than a table holds */
	if (builder->entries == 0)
		builder->info.blob = builder->options.blob_next(builder->options.arg);
	uint8_t *data = builder->blob + builder->at;
	uint32_t packed = columns_pack(builder, data, (uint32_t)raw);
	if (!packed)
		columns_put(builder, data);
	struct table_block *head = (struct table_block *)(void *)data;
	*head = (struct table_block){ .blob = builder->info.blob,
				      .number = builder->entries,
				      .tree = (uint16_t)builder->options.tree,
				      .words = (uint8_t)builder->words,
				      .packing = packed ? TABLE_LZ4 : TABLE_RAW,
				      .bytes = packed ? packed : (uint32_t)raw,
				      .raw = (uint32_t)raw,
				      .rows = builder->rows,
				      .heap = builder->heap_bytes };
	head->check = table_block_check(head);
	struct table_entry *entry = &builder->entry[builder->entries++];
	*entry = (struct table_entry){ .offset = builder->at,
				       .check = head->check,
				       .bytes = head->bytes,
				       .raw = head->raw,
				       .rows = head->rows,
				       .flags = builder->continues ? TABLE_CONTINUES : 0 };
	key_take(builder, 0, &entry->first);
	builder->at += head->bytes;
	builder->rows = builder->heap_bytes = 0;
	if (builder->at >= builder->table_bytes ||
	    builder->entries + ENTRIES_ROOM >= builder->entries_room ||
	    builder->hashes + HASHES_ROOM >= builder->hashes_room)
		builder->full = true;
	return 0;
}

/* ---- tables ---- */

static void tail_put(struct table_builder *builder)
{
	struct table_info *info = &builder->info;
	pad_to(builder, table_round(builder->at, MEDIA_ALIGN));
	struct table_footer footer = { .magic = TABLE_MAGIC,
				       .version = TABLE_VERSION,
				       .tree = (uint32_t)builder->options.tree,
				       .level = builder->options.level,
				       .blocks = builder->entries,
				       .blob = info->blob,
				       .rows = info->rows,
				       .op_max = info->op_max,
				       .tail = builder->at,
				       .lines = table_filter_lines(builder->hashes),
				       .first = info->first,
				       .last = info->last };
	uint64_t filter = (uint64_t)footer.lines * TABLE_FILTER_LINE;
	uint64_t index = builder->entries * sizeof *builder->entry;
	table_filter_build((uint32_t *)(void *)(builder->blob + builder->at), footer.lines,
			   builder->hash, builder->hashes);
	builder->at += filter;
	footer.index = builder->at;
	memcpy(builder->blob + builder->at, builder->entry, index);
	builder->at += index;
	footer.bytes = table_round(builder->at + sizeof footer, MEDIA_ALIGN);
	pad_to(builder, footer.bytes - sizeof footer);
	uint8_t *place = builder->blob + builder->at;
	memcpy(place, &footer, sizeof footer);
	footer.check = XXH3_64bits(builder->blob + footer.tail,
				   footer.bytes - footer.tail - sizeof footer.check);
	memcpy(place, &footer, sizeof footer);
	info->bytes = footer.bytes;
	info->checksum = footer.check;
	info->tree = footer.tree;
	info->level = footer.level;
}

static int table_close(struct table_builder *builder)
{
	int error = block_close(builder);
	if (error || builder->entries == 0)
		return error;
	struct media *media = builder->options.media;
	tail_put(builder);
	struct table_info info = builder->info;
	error = MEDIA_CALL(media, blob_put, info.blob, builder->blob, info.bytes);
	if (error)
		return error;
	builder->info = (struct table_info){ 0 };
	builder->at = builder->hashes = 0;
	builder->entries = 0;
	builder->full = builder->continues = false;
	return builder->options.made(&info, builder->options.arg);
}

/* ---- rows ---- */

static bool same_key(const uint64_t *a, const uint64_t *b, uint32_t words)
{
	uint64_t differ = 0;
	for (uint32_t w = 0; w < words; w++)
		differ |= a[w] ^ b[w];
	return differ == 0;
}

static bool key_is_last(const struct table_builder *builder, const uint64_t *key)
{
	return builder->info.rows > 0 && same_key(key, builder->info.last.word, builder->words);
}

/* How many of rows [from, to) the block takes; at least one if it has none. */
static uint32_t rows_fit(const struct table_builder *builder, const struct rows *rows,
			 uint32_t from, uint32_t to)
{
	uint32_t base = from ? rows->end[from - 1] : 0;
	uint64_t row = builder->words * 8U + 8 + 4;
	uint64_t used = table_raw_bytes(builder->words, builder->rows, builder->heap_bytes);
	uint32_t count = 0;
	while (from + count < to &&
	       used + (count + 1) * row + rows->end[from + count] - base <= builder->block_bytes)
		count++;
	return count == 0 && builder->rows == 0 ? 1 : count;
}

static void hash_put(struct table_builder *builder, const uint64_t *word, uint32_t words)
{
	struct tree_key key = { 0 };
	memcpy(key.word, word, words * sizeof *word);
	HAUL_ASSERT(builder->hashes < builder->hashes_room);
	builder->hash[builder->hashes++] = table_hash(&key, words);
}

/* Hashes of the keys, and of their first words, that differ from those before. */
static void hashes_put(struct table_builder *builder, const uint64_t *key, uint32_t count)
{
	uint32_t words = builder->words;
	const uint64_t *before = builder->info.rows ? builder->info.last.word : NULL;
	for (uint32_t i = 0; i < count; i++, key += words) {
		if (!before || !same_key(key, before, words))
			hash_put(builder, key, words);
		if (builder->prefix && (!before || *key != *before))
			hash_put(builder, key, 1);
		before = key;
	}
}

static void block_take(struct table_builder *builder, const struct rows *rows, uint32_t from,
		       uint32_t count)
{
	uint32_t words = builder->words;
	const uint64_t *key = rows->key + (size_t)from * words;
	uint32_t base = from ? rows->end[from - 1] : 0;
	uint32_t bytes = rows->end[from + count - 1] - base;
	uint64_t op_max = builder->info.op_max;
	if (builder->rows == 0)
		builder->continues = builder->entries > 0 && key_is_last(builder, key);
	if (builder->hashed)
		hashes_put(builder, key, count);
	memcpy(builder->key + (size_t)builder->rows * words, key, count * words * sizeof *key);
	memcpy(builder->op + builder->rows, rows->op + from, count * sizeof *builder->op);
	memcpy(builder->heap + builder->heap_bytes, rows->heap + base, bytes);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t op = rows->op[from + i] & ~TREE_DELETED;
		op_max = op > op_max ? op : op_max;
		builder->end[builder->rows + i] = rows->end[from + i] - base + builder->heap_bytes;
	}
	builder->rows += count;
	builder->heap_bytes += bytes;
	if (builder->info.rows == 0)
		key_take(builder, 0, &builder->info.first);
	key_take(builder, builder->rows - 1, &builder->info.last);
	builder->info.rows += count;
	builder->info.op_max = op_max;
}

/* How many of the rows still belong to a table that is full: those of its last key. */
static uint32_t rows_of_last(const struct table_builder *builder, const struct rows *rows,
			     uint32_t from, uint32_t to)
{
	uint32_t at = from;
	while (at < to && key_is_last(builder, rows->key + (size_t)at * rows->words))
		at++;
	return at - from;
}

int table_builder_add(struct table_builder *builder, const struct rows *rows, uint32_t from,
		      uint32_t to)
{
	HAUL_ASSERT(builder->started && rows->words == builder->words && to <= rows->count);
	while (from < to) {
		uint32_t until = to;
		if (builder->full)
			until = from + rows_of_last(builder, rows, from, to);
		uint32_t count = until > from ? rows_fit(builder, rows, from, until) : 0;
		if (count > 0)
			block_take(builder, rows, from, count);
		from += count;
		if (from == to)
			break;
		/* The block is full, or the table. */
		int error = builder->full && from == until ? table_close(builder)
							   : block_close(builder);
		if (error)
			return error;
	}
	return 0;
}

int table_builder_finish(struct table_builder *builder)
{
	HAUL_ASSERT(builder->started);
	int error = table_close(builder);
	builder->started = error != 0;
	return error;
}
