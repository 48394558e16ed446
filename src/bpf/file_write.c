#include "bpf/file_write.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"

uint32_t file_header_bytes(uint32_t map_count)
{
	HAUL_ASSERT(map_count >= 1 && map_count <= HAUL_MAP_FILE_MAPS);
	return FILE_HEAD_BYTES + map_count * FILE_MAP_BYTES + FILE_CRC_BYTES;
}

static int room_alloc(struct file_writer *writer, size_t bytes)
{
	if (bytes <= writer->room)
		return 0;
	uint8_t *buffer = realloc(writer->buffer, bytes);
	if (buffer == NULL)
		return -ENOMEM;
	writer->buffer = buffer;
	writer->room = bytes;
	return 0;
}

static void put_map(uint8_t *at, const struct file_map *map)
{
	le32_store(at + FILE_MAP_OFF_ID, map->id);
	le32_store(at + FILE_MAP_OFF_MAX_ENTRIES, map->max_entries);
	le32_store(at + FILE_MAP_OFF_FLAGS, map->flags);
	le32_store(at + FILE_MAP_OFF_BUCKETS, map->buckets);
	memcpy(at + FILE_MAP_OFF_NAME, map->name, HAUL_MAP_NAME);
}

static void put_header(uint8_t *at, struct file_header *header)
{
	const uint32_t crc_at = header->bytes - FILE_CRC_BYTES;

	memcpy(at + FILE_OFF_MAGIC, FILE_MAGIC, FILE_MAGIC_BYTES);
	le32_store(at + FILE_OFF_VERSION, FILE_VERSION);
	le32_store(at + FILE_OFF_BYTES, header->bytes);
	le32_store(at + FILE_OFF_FLAGS, header->flags);
	le32_store(at + FILE_OFF_TYPE, header->map_type);
	le32_store(at + FILE_OFF_KEY_SIZE, header->key_size);
	le32_store(at + FILE_OFF_VALUE_SIZE, header->value_size);
	le32_store(at + FILE_OFF_SLOT_BYTES, header->slot_bytes);
	le32_store(at + FILE_OFF_CPUS, header->cpus);
	le32_store(at + FILE_OFF_BLOCK_ENTRIES, header->block_entries);
	le32_store(at + FILE_OFF_MAPS, header->map_count);
	memcpy(at + FILE_OFF_BOOT_ID, header->boot_id, FILE_BOOT_ID_BYTES);
	for (uint32_t i = 0; i < header->map_count; i++)
		put_map(at + FILE_HEAD_BYTES + i * FILE_MAP_BYTES, &header->maps[i]);
	header->crc = crc32c(0, at, crc_at);
	le32_store(at + crc_at, header->crc);
}

int file_writer_init(struct file_writer *writer, const struct file_header *header)
{
	HAUL_ASSERT(header->key_size > 0 && header->slot_bytes > 0);
	*writer = (struct file_writer){ .header = *header };
	writer->header.bytes = file_header_bytes(header->map_count);
	int rc = room_alloc(writer, writer->header.bytes);
	if (rc < 0)
		return rc;
	put_header(writer->buffer, &writer->header);
	writer->bytes = writer->header.bytes;
	writer->totals.bytes = writer->header.bytes;
	return 0;
}

void file_writer_done(struct file_writer *writer)
{
	free(writer->buffer);
	*writer = (struct file_writer){ 0 };
}

static uint8_t *put_column(uint8_t *to, const uint8_t *from, size_t stride, size_t bytes,
			   uint32_t count)
{
	if (stride == bytes && count > 0)
		memcpy(to, from, bytes * count);
	for (uint32_t i = 0; stride != bytes && i < count; i++)
		memcpy(to + i * bytes, from + i * stride, bytes);
	return to + bytes * count;
}

int file_writer_block_build(struct file_writer *writer, struct file_block *block,
			    const struct haul_map_batch *batch)
{
	const struct file_header *header = &writer->header;
	const size_t entry_bytes = (size_t)header->key_size + header->slot_bytes;
	const size_t bytes = FILE_BLOCK_BYTES + block->cursor_bytes + block->count * entry_bytes +
			     FILE_CRC_BYTES;

	HAUL_ASSERT(block->map_index < header->map_count);
	HAUL_ASSERT(block->cursor_bytes <= sizeof block->cursor);
	HAUL_ASSERT(block->last == (block->cursor_bytes == 0));
	HAUL_ASSERT(block->last || block->count > 0);
	int rc = room_alloc(writer, bytes);
	if (rc < 0)
		return rc;
	block->sequence = (uint32_t)writer->totals.blocks;
	uint8_t *at = writer->buffer;
	le32_store(at + FILE_BLOCK_OFF_MAGIC, FILE_BLOCK_MAGIC);
	le32_store(at + FILE_BLOCK_OFF_MAP, block->map_index);
	le32_store(at + FILE_BLOCK_OFF_COUNT, block->count);
	le32_store(at + FILE_BLOCK_OFF_CURSOR_BYTES, block->cursor_bytes);
	le32_store(at + FILE_BLOCK_OFF_FLAGS, block->last ? FILE_LAST : 0);
	le32_store(at + FILE_BLOCK_OFF_SEQUENCE, block->sequence);
	le32_store(at + FILE_BLOCK_OFF_CRC, crc32c(header->crc, at, FILE_BLOCK_OFF_CRC));
	at += FILE_BLOCK_BYTES;
	memcpy(at, block->cursor, block->cursor_bytes);
	at += block->cursor_bytes;
	at = put_column(at, batch->keys, batch->key_stride, header->key_size, block->count);
	at = put_column(at, batch->values, batch->value_stride, header->slot_bytes, block->count);
	HAUL_ASSERT(at + FILE_CRC_BYTES == writer->buffer + bytes);
	le32_store(at, crc32c(header->crc, writer->buffer, bytes - FILE_CRC_BYTES));
	writer->bytes = bytes;
	writer->totals.blocks++;
	writer->totals.entries += block->count;
	writer->totals.bytes += bytes;
	writer->totals.digest = crc32c(writer->totals.digest, at, FILE_CRC_BYTES);
	return 0;
}

int file_writer_end_build(struct file_writer *writer)
{
	const struct file_totals *totals = &writer->totals;
	int rc = room_alloc(writer, FILE_END_BYTES);

	if (rc < 0)
		return rc;
	HAUL_ASSERT(totals->blocks >= writer->header.map_count);
	uint8_t *at = writer->buffer;
	le32_store(at + FILE_END_OFF_MAGIC, FILE_END_MAGIC);
	le32_store(at + FILE_END_OFF_RESERVED, 0);
	le64_store(at + FILE_END_OFF_BLOCKS, totals->blocks);
	le64_store(at + FILE_END_OFF_ENTRIES, totals->entries);
	le64_store(at + FILE_END_OFF_FILE_BYTES, totals->bytes + FILE_END_BYTES);
	le32_store(at + FILE_END_OFF_DIGEST, totals->digest);
	le32_store(at + FILE_END_OFF_CRC, crc32c(writer->header.crc, at, FILE_END_OFF_CRC));
	writer->bytes = FILE_END_BYTES;
	return 0;
}

void file_writer_resume(struct file_writer *writer, const struct file_totals *totals)
{
	HAUL_ASSERT(totals->bytes >= writer->header.bytes);
	writer->totals = *totals;
	writer->bytes = 0;
}
