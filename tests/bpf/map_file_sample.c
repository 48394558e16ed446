#include "bpf/map_file_sample.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "bpf/file_write.h"

enum { ENTRIES_MAX = 40 };

static int memory_read_at(struct file_source *source, uint64_t offset, void *out, size_t bytes)
{
	struct map_file_memory *memory = (struct map_file_memory *)source;

	HAUL_ASSERT(offset <= source->bytes && bytes <= source->bytes - offset);
	if (memory->reads_until_failure > 0 && --memory->reads_until_failure == 0)
		return -EIO;
	if (bytes > 0)
		memcpy(out, memory->data + offset, bytes);
	return 0;
}

void map_file_memory_init(struct map_file_memory *memory, const uint8_t *data, size_t bytes)
{
	*memory = (struct map_file_memory){
		.source = { .name = "memory", .bytes = bytes, .read_at = memory_read_at },
		.data = data,
	};
}

static void add_piece(struct map_file_sample *sample, const struct file_writer *writer)
{
	HAUL_ASSERT(sample->pieces < MAP_FILE_SAMPLE_PIECES_MAX);
	HAUL_ASSERT(sample->bytes + writer->bytes <= MAP_FILE_SAMPLE_BYTES_MAX);
	memcpy(sample->data + sample->bytes, writer->buffer, writer->bytes);
	sample->starts[sample->pieces++] = sample->bytes;
	sample->bytes += (uint32_t)writer->bytes;
	sample->starts[sample->pieces] = sample->bytes;
}

static void fill(uint8_t *bytes, size_t count, struct prng *prng)
{
	for (size_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)prng_below(prng, 256);
}

static void add_block(struct map_file_sample *sample, struct file_writer *writer,
		      struct file_block *block, struct prng *prng)
{
	uint8_t keys[ENTRIES_MAX * 8], values[ENTRIES_MAX * 24];
	const struct haul_map_batch batch = {
		.count = block->count,
		.keys = keys,
		.values = values,
		.key_stride = writer->header.key_size,
		.value_stride = writer->header.slot_bytes,
	};

	fill(keys, sizeof keys, prng);
	fill(values, sizeof values, prng);
	fill(block->cursor, sizeof block->cursor, prng);
	block->cursor_bytes = block->last ? 0 : 4;
	const int rc = file_writer_block_build(writer, block, &batch);
	HAUL_ASSERT(rc == 0);
	add_piece(sample, writer);
	sample->entries += block->count;
}

void map_file_sample_make(struct map_file_sample *sample, uint32_t maps, struct prng *prng)
{
	struct file_map map[MAP_FILE_SAMPLE_MAPS] = {
		{ .id = 7, .max_entries = 64, .buckets = 64, .name = "first" },
		{ .id = 8, .max_entries = 64, .buckets = 64, .name = "second" },
		{ .id = 9, .max_entries = 64, .buckets = 64, .name = "third_of_fiftee" }
	};
	const struct file_header header = {
		.map_type = 1,
		.key_size = 1 + prng_below(prng, 8),
		.value_size = 5,
		.slot_bytes = 16,
		.cpus = 2,
		.block_entries = 16,
		.map_count = maps,
		.maps = map,
	};
	struct file_writer writer;

	HAUL_ASSERT(maps >= 1 && maps <= MAP_FILE_SAMPLE_MAPS);
	sample->bytes = sample->pieces = 0;
	sample->entries = 0;
	int rc = file_writer_init(&writer, &header);
	HAUL_ASSERT(rc == 0);
	add_piece(sample, &writer);
	for (uint32_t i = 0; i < maps; i++) {
		const uint32_t blocks = prng_below(prng, 4);
		for (uint32_t k = 0; k <= blocks; k++) {
			struct file_block block = {
				.map_index = i,
				.last = k == blocks,
				.count = prng_below(prng, ENTRIES_MAX) + (k < blocks),
			};
			add_block(sample, &writer, &block, prng);
		}
	}
	rc = file_writer_end_build(&writer);
	HAUL_ASSERT(rc == 0);
	add_piece(sample, &writer);
	file_writer_done(&writer);
}

/* One piece that begins at offset; returns where the next one begins, or 0. */
static size_t repair_piece(uint8_t *data, size_t bytes, size_t at, struct file_totals *totals)
{
	const uint32_t head_bytes = le32_load(data + FILE_OFF_BYTES);
	const uint32_t crc = le32_load(data + head_bytes - FILE_CRC_BYTES);
	const uint64_t entry = (uint64_t)le32_load(data + FILE_OFF_KEY_SIZE) +
			       le32_load(data + FILE_OFF_SLOT_BYTES);
	uint8_t *piece = data + at;

	if (bytes - at >= FILE_END_BYTES && le32_load(piece) == FILE_END_MAGIC) {
		le64_store(piece + FILE_END_OFF_BLOCKS, totals->blocks);
		le64_store(piece + FILE_END_OFF_ENTRIES, totals->entries);
		le64_store(piece + FILE_END_OFF_FILE_BYTES, at + FILE_END_BYTES);
		le32_store(piece + FILE_END_OFF_DIGEST, totals->digest);
		le32_store(piece + FILE_END_OFF_CRC, crc32c(crc, piece, FILE_END_OFF_CRC));
		return 0;
	}
	if (bytes - at < FILE_BLOCK_BYTES || le32_load(piece) != FILE_BLOCK_MAGIC)
		return 0;
	le32_store(piece + FILE_BLOCK_OFF_CRC, crc32c(crc, piece, FILE_BLOCK_OFF_CRC));
	const uint64_t length = FILE_BLOCK_BYTES +
				(uint64_t)le32_load(piece + FILE_BLOCK_OFF_CURSOR_BYTES) +
				le32_load(piece + FILE_BLOCK_OFF_COUNT) * entry + FILE_CRC_BYTES;
	if (length > bytes - at)
		return 0;
	uint8_t *end = piece + length - FILE_CRC_BYTES;
	le32_store(end, crc32c(crc, piece, (size_t)length - FILE_CRC_BYTES));
	totals->blocks++;
	totals->entries += le32_load(piece + FILE_BLOCK_OFF_COUNT);
	totals->digest = crc32c(totals->digest, end, FILE_CRC_BYTES);
	return at + (size_t)length;
}

void map_file_repair(uint8_t *data, size_t bytes)
{
	struct file_totals totals = { 0 };

	if (bytes < FILE_HEAD_BYTES)
		return;
	const uint32_t head_bytes = le32_load(data + FILE_OFF_BYTES);
	if (head_bytes < FILE_HEAD_BYTES + FILE_CRC_BYTES || head_bytes > bytes)
		return;
	const uint32_t crc_at = head_bytes - FILE_CRC_BYTES;
	le32_store(data + crc_at, crc32c(0, data, crc_at));
	for (size_t at = head_bytes; at != 0 && at < bytes;)
		at = repair_piece(data, bytes, at, &totals);
}
