/* Blocks of a table: their checksum, and the way from bytes of a blob to columns.
 *
 * Nothing about a block is believed before its checksum was found right and the same as in the
 * index. What is looked at afterwards (lengths, ends) keeps a table that was made by a stranger
 * from leading out of its memory; order is looked at by table_check only. */
#include <lz4.h>

#include <haul/err.h>
#include "base/checksum.h"
#include "store/table_state.h"

uint64_t table_block_check(const struct table_block *block)
{
	const uint8_t *data = (const uint8_t *)block;
	return XXH3_64bits(data + sizeof block->check, block->bytes - sizeof block->check);
}

static bool head_fits(const struct table_block_at *at, const struct table_block *head)
{
	const struct table_entry *entry = at->entry;
	return head->bytes == entry->bytes && head->raw == entry->raw &&
	       head->rows == entry->rows && head->check == entry->check && head->blob == at->blob &&
	       head->number == at->number && head->tree == at->tree && head->words == at->words &&
	       head->raw == table_raw_bytes(head->words, head->rows, head->heap) &&
	       (head->packing == TABLE_LZ4 ||
		(head->packing == TABLE_RAW && head->bytes == head->raw));
}

static bool ends_fit(const struct table_block *block)
{
	struct rows rows = table_rows(block);
	uint32_t before = 0, falls = 0;
	for (uint32_t i = 0; i < rows.count; i++) {
		falls |= rows.end[i] < before;
		before = rows.end[i];
	}
	return !falls && before == block->heap;
}

int table_block_open(const struct table_block_at *at, const uint8_t *stored, uint8_t *raw)
{
	const struct table_block *head = (const struct table_block *)(const void *)stored;
	if (!head_fits(at, head) || table_block_check(head) != head->check)
		return HAUL_ECORRUPT;
	if (head->packing == TABLE_LZ4) {
		HAUL_ASSERT(raw != stored);
		int room = (int)(head->raw - TABLE_HEAD);
		int bytes = LZ4_decompress_safe((const char *)stored + TABLE_HEAD,
						(char *)raw + TABLE_HEAD,
						(int)(head->bytes - TABLE_HEAD), room);
		if (bytes != room)
			return HAUL_ECORRUPT;
		memcpy(raw, stored, TABLE_HEAD);
	} else if (raw != stored) {
		memcpy(raw, stored, head->bytes);
	}
	return ends_fit((const struct table_block *)(const void *)raw) ? 0 : HAUL_ECORRUPT;
}
