/* fuzz/fuzz_map_file.c — any bytes as a map file.
 *
 * Promise: the reader says of them what a plain reading of bpf/file_format.h says, and finds as
 * many good blocks and entries; the good part, put together again by the writer, gives the same
 * bytes; nothing outside of the input is read (it lies in memory of exactly its size).
 * The first byte is not of the file: when odd, checksums are put right first, so that what lies
 * behind them is reached. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "bpf/file_write.h"
#include "bpf/map_file_sample.h"

enum { INPUT_BYTES_MAX = 1 << 20, REPAIR = 1 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the plain reading: offsets as numbers, straight from the table in the format's head ---- */

struct plain {
	int rc;
	uint64_t blocks, entries, good; /* good: bytes */
	uint64_t entry_bytes;
	uint32_t maps, map, crc, digest;
};

static uint32_t sum(uint32_t start, const uint8_t *data, size_t bytes)
{
	return crc32c_table(start, data, bytes);
}

static int plain_fields(const uint8_t *d, uint32_t maps)
{
	const uint64_t key = le32_load(d + 24), value = le32_load(d + 28);
	const uint64_t slot = le32_load(d + 32), cpus = le32_load(d + 36);
	const uint32_t block = le32_load(d + 40);

	if (le32_load(d + 16) > 1 || key < 1 || key > 512 || value < 1 || cpus < 1)
		return HAUL_ECORRUPT;
	if (slot != (value + 7) / 8 * 8 * cpus && !(cpus == 1 && slot == value))
		return HAUL_ECORRUPT;
	if (block < 16 || block > 65536)
		return HAUL_ECORRUPT;
	for (uint32_t i = 0; i < maps; i++)
		if (strnlen((const char *)d + 64 + 32 * i + 16, 16) == 16)
			return HAUL_ECORRUPT;
	return 0;
}

static int plain_header(const uint8_t *d, size_t size, struct plain *p)
{
	static const uint8_t magic[8] = { 0x89, 'H', 'M', 'A', 'P', 13, 10, 26 };

	if (memcmp(d, magic, size < 8 ? size : 8) != 0)
		return HAUL_ECORRUPT;
	if (size < 64)
		return HAUL_ESHORT;
	if (le32_load(d + 8) != 1)
		return HAUL_EVERSION;
	const uint32_t maps = le32_load(d + 44), bytes = le32_load(d + 12);
	if (maps < 1 || maps > 1024 || bytes != 64 + 32 * maps + 4)
		return HAUL_ECORRUPT;
	if (size < bytes)
		return HAUL_ESHORT;
	p->crc = sum(0, d, bytes - 4);
	if (p->crc != le32_load(d + bytes - 4))
		return HAUL_ECORRUPT;
	p->maps = maps;
	p->entry_bytes = (uint64_t)le32_load(d + 24) + le32_load(d + 32);
	p->good = bytes;
	return plain_fields(d, maps);
}

static int plain_end(const uint8_t *at, uint64_t rest, const struct plain *p)
{
	if (rest < 40)
		return HAUL_ESHORT;
	if (sum(p->crc, at, 36) != le32_load(at + 36) || p->map != p->maps ||
	    le32_load(at + 4) != 0 || le64_load(at + 8) != p->blocks ||
	    le64_load(at + 16) != p->entries || le64_load(at + 24) != p->good + 40 ||
	    le32_load(at + 32) != p->digest)
		return HAUL_ECORRUPT;
	return rest > 40 ? HAUL_ELONG : 0;
}

/* 1: a good block, counted. */
static int plain_block(const uint8_t *at, uint64_t rest, struct plain *p)
{
	if (p->map == p->maps)
		return HAUL_ECORRUPT;
	if (rest < 28)
		return HAUL_ESHORT;
	const uint32_t count = le32_load(at + 8), cursor = le32_load(at + 12);
	const uint32_t flags = le32_load(at + 16);
	if (sum(p->crc, at, 24) != le32_load(at + 24) || le32_load(at + 4) != p->map ||
	    le32_load(at + 20) != p->blocks || flags > 1 || cursor > 512)
		return HAUL_ECORRUPT;
	if (flags == 1 ? cursor != 0 : cursor == 0 || count == 0)
		return HAUL_ECORRUPT;
	const uint64_t bytes = 28 + cursor + count * p->entry_bytes + 4;
	if (bytes > rest)
		return HAUL_ESHORT;
	if (sum(p->crc, at, bytes - 4) != le32_load(at + bytes - 4))
		return HAUL_ECORRUPT;
	p->digest = sum(p->digest, at + bytes - 4, 4);
	p->blocks++;
	p->entries += count;
	p->good += bytes;
	p->map += flags;
	return 1;
}

static struct plain plain_read(const uint8_t *d, size_t size)
{
	struct plain p = { 0 };

	p.rc = plain_header(d, size, &p);
	if (p.rc < 0)
		return p;
	do {
		const uint8_t *at = d + p.good;
		const uint64_t rest = size - p.good;
		if (rest < 4)
			p.rc = HAUL_ESHORT;
		else if (memcmp(at, "DONE", 4) == 0)
			p.rc = plain_end(at, rest, &p);
		else
			p.rc = memcmp(at, "BLCK", 4) == 0 ? plain_block(at, rest, &p)
							  : HAUL_ECORRUPT;
	} while (p.rc > 0);
	return p;
}

/* ---- the reader, and the writer behind it ---- */

static void check_piece(const struct file_writer *writer, const uint8_t *there)
{
	HAUL_ASSERT(memcmp(writer->buffer, there, writer->bytes) == 0);
}

static int check_blocks(struct file_reader *reader, struct file_writer *writer, const uint8_t *data)
{
	struct haul_map_batch batch;
	struct haul_err err = { 0 };
	int rc;

	for (;;) {
		const uint64_t start = reader->totals.bytes;
		rc = file_reader_load_next(reader, &batch, &err);
		if (rc <= 0)
			break;
		struct file_block block = reader->block;
		HAUL_ASSERT(batch.count == block.count);
		const int built = file_writer_block_build(writer, &block, &batch);
		HAUL_ASSERT(built == 0 && block.sequence == reader->block.sequence);
		check_piece(writer, data + start);
		HAUL_ASSERT(memcmp(&writer->totals, &reader->totals, sizeof reader->totals) == 0);
	}
	HAUL_ASSERT((rc == 0) == reader->complete);
	HAUL_ASSERT(rc == 0 || (err.code == rc && err.text[0] != 0));
	return rc;
}

static void check_file(const uint8_t *data, size_t size)
{
	const struct plain plain = plain_read(data, size);
	struct map_file_memory memory;
	struct file_reader reader;
	struct file_writer writer;
	struct haul_err err = { 0 };

	map_file_memory_init(&memory, data, size);
	int rc = file_reader_open(&reader, &memory.source, &err);
	if (rc < 0) {
		HAUL_ASSERT(rc == plain.rc && plain.blocks == 0);
		HAUL_ASSERT(err.code == rc && err.text[0] != 0);
		return;
	}
	rc = file_writer_init(&writer, &reader.header);
	HAUL_ASSERT(rc == 0);
	check_piece(&writer, data);
	rc = check_blocks(&reader, &writer, data);
	HAUL_ASSERT(rc == plain.rc);
	HAUL_ASSERT(reader.totals.blocks == plain.blocks);
	HAUL_ASSERT(reader.totals.entries == plain.entries);
	HAUL_ASSERT(reader.totals.bytes == plain.good);
	if (rc == 0) {
		rc = file_writer_end_build(&writer);
		HAUL_ASSERT(rc == 0 && plain.good + writer.bytes == size);
		check_piece(&writer, data + plain.good);
	}
	file_writer_done(&writer);
	file_reader_close(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || size > INPUT_BYTES_MAX)
		return 0;
	uint8_t *file = malloc(size > 1 ? size - 1 : 1);
	HAUL_ASSERT(file != NULL);
	memcpy(file, data + 1, size - 1);
	if (data[0] & REPAIR)
		map_file_repair(file, size - 1);
	check_file(file, size - 1);
	free(file);
	return 0;
}
