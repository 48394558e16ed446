#include "bpf/file_read.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "bpf/file_write.h"

/* ---- a file as source ---- */

static int fd_read_at(struct file_source *source, uint64_t offset, void *out, size_t bytes)
{
	const int fd = ((struct file_source_fd *)source)->fd;

	HAUL_ASSERT(offset <= source->bytes && bytes <= source->bytes - offset);
	for (size_t done = 0; done < bytes;) {
		const ssize_t got =
			pread(fd, (uint8_t *)out + done, bytes - done, (off_t)(offset + done));
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got == 0) /* it was longer when it was opened */
			return HAUL_ESHORT;
		done += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

int file_source_fd_init(struct file_source_fd *source, int fd, const char *name,
			struct haul_err *err)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return haul_err_set(err, -errno, "%s: %s", name, haul_strerror(-errno));
	if (!S_ISREG(stat.st_mode))
		return haul_err_set(err, -EINVAL, "%s: not a regular file", name);
	*source = (struct file_source_fd){
		.source = { .name = name, .bytes = (uint64_t)stat.st_size, .read_at = fd_read_at },
		.fd = fd,
	};
	return 0;
}

/* ---- header ---- */

static int read_at(struct file_reader *reader, uint64_t offset, void *out, size_t bytes,
		   struct haul_err *err)
{
	struct file_source *source = reader->source;
	const int rc = source->read_at(source, offset, out, bytes);

	if (rc < 0)
		return haul_err_set(err, rc, "%s: at offset %" PRIu64 ": %s", source->name, offset,
				    haul_strerror(rc));
	return 0;
}

static int room_alloc(struct file_reader *reader, size_t bytes, struct haul_err *err)
{
	if (bytes <= reader->room)
		return 0;
	uint8_t *buffer = realloc(reader->buffer, bytes);
	if (buffer == NULL)
		return haul_err_set(err, -ENOMEM, "%s: no memory for a block of %zu bytes",
				    reader->source->name, bytes);
	reader->buffer = buffer;
	reader->room = bytes;
	return 0;
}

/* Magic, version and length: what is the same in every version. */
static int check_head(struct file_reader *reader, const uint8_t *head, struct haul_err *err)
{
	const struct file_source *source = reader->source;
	const uint64_t there = source->bytes;
	const size_t magic = there < FILE_MAGIC_BYTES ? (size_t)there : FILE_MAGIC_BYTES;

	if (memcmp(head, FILE_MAGIC, magic) != 0)
		return haul_err_set(err, HAUL_ECORRUPT,
				    "%s: not a map file: it does not begin with the eight bytes "
				    "of one",
				    source->name);
	if (there < FILE_HEAD_BYTES)
		return haul_err_set(err, HAUL_ESHORT,
				    "%s: ends at offset %" PRIu64 ", inside the header of at least "
				    "%d bytes",
				    source->name, there, (int)FILE_HEAD_BYTES);
	const uint32_t version = le32_load(head + FILE_OFF_VERSION);
	if (version != FILE_VERSION)
		return haul_err_set(err, HAUL_EVERSION,
				    "%s: version %u of the map file format; this haul reads "
				    "version %d",
				    source->name, version, (int)FILE_VERSION);
	const uint32_t maps = le32_load(head + FILE_OFF_MAPS);
	const uint32_t bytes = le32_load(head + FILE_OFF_BYTES);
	if (maps == 0 || maps > HAUL_MAP_FILE_MAPS || bytes != file_header_bytes(maps))
		return haul_err_set(err, HAUL_ECORRUPT,
				    "%s: at offset %d: %u maps and a header of %u bytes; right are "
				    "1 to %d maps and %d bytes + %d a map",
				    source->name, (int)FILE_OFF_BYTES, maps, bytes,
				    (int)HAUL_MAP_FILE_MAPS, FILE_HEAD_BYTES + FILE_CRC_BYTES,
				    (int)FILE_MAP_BYTES);
	if (there < bytes)
		return haul_err_set(err, HAUL_ESHORT,
				    "%s: ends at offset %" PRIu64 ", inside the header of %u bytes",
				    source->name, there, bytes);
	return 0;
}

static void get_header(struct file_header *header, const uint8_t *at)
{
	header->bytes = le32_load(at + FILE_OFF_BYTES);
	header->flags = le32_load(at + FILE_OFF_FLAGS);
	header->map_type = le32_load(at + FILE_OFF_TYPE);
	header->key_size = le32_load(at + FILE_OFF_KEY_SIZE);
	header->value_size = le32_load(at + FILE_OFF_VALUE_SIZE);
	header->slot_bytes = le32_load(at + FILE_OFF_SLOT_BYTES);
	header->cpus = le32_load(at + FILE_OFF_CPUS);
	header->block_entries = le32_load(at + FILE_OFF_BLOCK_ENTRIES);
	header->map_count = le32_load(at + FILE_OFF_MAPS);
	memcpy(header->boot_id, at + FILE_OFF_BOOT_ID, FILE_BOOT_ID_BYTES);
}

static void get_map(struct file_map *map, const uint8_t *at)
{
	map->id = le32_load(at + FILE_MAP_OFF_ID);
	map->max_entries = le32_load(at + FILE_MAP_OFF_MAX_ENTRIES);
	map->flags = le32_load(at + FILE_MAP_OFF_FLAGS);
	map->buckets = le32_load(at + FILE_MAP_OFF_BUCKETS);
	memcpy(map->name, at + FILE_MAP_OFF_NAME, HAUL_MAP_NAME);
}

/* What a right checksum leaves open: a header put together by something else than haul. */
static const char *header_flaw(const struct file_header *header)
{
	const uint64_t per_cpu =
		(uint64_t)header->cpus * ((header->value_size + UINT64_C(7)) & ~UINT64_C(7));

	if ((header->flags & ~(uint32_t)FILE_BIG_ENDIAN) != 0)
		return "flags that are not known";
	if (header->key_size == 0 || header->key_size > HAUL_MAP_KEY_MAX)
		return "a key size that no map has";
	if (header->value_size == 0 || header->cpus == 0 ||
	    (header->slot_bytes != per_cpu &&
	     (header->cpus != 1 || header->slot_bytes != header->value_size)))
		return "value size, CPUs and slot size that do not agree";
	if (header->block_entries < FILE_BLOCK_ENTRIES_MIN ||
	    header->block_entries > HAUL_MAP_FILE_BLOCK_MAX)
		return "a number of entries a block outside 16 to 65536";
	for (uint32_t i = 0; i < header->map_count; i++)
		if (memchr(header->maps[i].name, 0, HAUL_MAP_NAME) == NULL)
			return "a map's name without an end";
	return NULL;
}

static int header_load(struct file_reader *reader, struct haul_err *err)
{
	struct file_header *header = &reader->header;
	const char *name = reader->source->name;
	const uint32_t bytes = header->bytes, maps = header->map_count;
	const uint32_t crc_at = bytes - FILE_CRC_BYTES;
	int rc = room_alloc(reader, bytes, err);

	if (rc == 0)
		rc = read_at(reader, 0, reader->buffer, bytes, err);
	if (rc < 0)
		return rc;
	get_header(header, reader->buffer);
	if (header->bytes != bytes || header->map_count != maps)
		return haul_err_set(err, HAUL_ECORRUPT, "%s: changes while it is read", name);
	header->crc = crc32c(0, reader->buffer, crc_at);
	if (header->crc != le32_load(reader->buffer + crc_at))
		return haul_err_set(err, HAUL_ECORRUPT,
				    "%s: at offset %u: the header's checksum is %08x, its bytes "
				    "give %08x",
				    name, crc_at, le32_load(reader->buffer + crc_at), header->crc);
	header->maps = calloc(header->map_count, sizeof *header->maps);
	if (header->maps == NULL)
		return haul_err_set(err, -ENOMEM, "%s: no memory for %u maps", name,
				    header->map_count);
	for (uint32_t i = 0; i < header->map_count; i++)
		get_map(&header->maps[i], reader->buffer + FILE_HEAD_BYTES + i * FILE_MAP_BYTES);
	const char *flaw = header_flaw(header);
	if (flaw != NULL)
		return haul_err_set(err, HAUL_ECORRUPT, "%s: the header has %s", name, flaw);
	return 0;
}

int file_reader_open(struct file_reader *reader, struct file_source *source, struct haul_err *err)
{
	uint8_t head[FILE_HEAD_BYTES] = { 0 };
	const size_t bytes = source->bytes < sizeof head ? (size_t)source->bytes : sizeof head;

	*reader = (struct file_reader){ .source = source };
	int rc = read_at(reader, 0, head, bytes, err);
	if (rc == 0)
		rc = check_head(reader, head, err);
	if (rc < 0)
		return rc;
	get_header(&reader->header, head);
	rc = header_load(reader, err);
	if (rc < 0) {
		file_reader_close(reader);
		return rc;
	}
	reader->totals.bytes = reader->header.bytes;
	HAUL_ASSERT(reader->totals.bytes <= source->bytes);
	return 0;
}

void file_reader_close(struct file_reader *reader)
{
	free(reader->header.maps);
	free(reader->buffer);
	reader->header.maps = NULL;
	reader->buffer = NULL;
	reader->room = 0;
}

/* ---- blocks ---- */

static int torn(const struct file_reader *reader, const char *what, struct haul_err *err)
{
	return haul_err_set(err, HAUL_ESHORT,
			    "%s: ends at offset %" PRIu64 ", inside the %s that begins at %" PRIu64
			    "; the %" PRIu64 " entries before it are good (an export that was "
			    "stopped; resume finishes it)",
			    reader->source->name, reader->source->bytes, what, reader->totals.bytes,
			    reader->totals.entries);
}

static int corrupt(const struct file_reader *reader, const char *what, struct haul_err *err)
{
	return haul_err_set(
		err, HAUL_ECORRUPT,
		"%s: at offset %" PRIu64 ": %s; the %" PRIu64 " entries before it are good",
		reader->source->name, reader->totals.bytes, what, reader->totals.entries);
}

static int check_end(struct file_reader *reader, struct haul_err *err)
{
	const struct file_totals *totals = &reader->totals;
	const uint64_t end = totals->bytes + FILE_END_BYTES;
	uint8_t at[FILE_END_BYTES];

	if (reader->source->bytes < end)
		return torn(reader, "end mark", err);
	int rc = read_at(reader, totals->bytes, at, sizeof at, err);
	if (rc < 0)
		return rc;
	if (crc32c(reader->header.crc, at, FILE_END_OFF_CRC) != le32_load(at + FILE_END_OFF_CRC))
		return corrupt(reader, "the end mark's checksum is wrong", err);
	if (reader->map_index < reader->header.map_count)
		return corrupt(reader, "an end mark before the last block of each map", err);
	if (le32_load(at + FILE_END_OFF_RESERVED) != 0 ||
	    le64_load(at + FILE_END_OFF_BLOCKS) != totals->blocks ||
	    le64_load(at + FILE_END_OFF_ENTRIES) != totals->entries ||
	    le64_load(at + FILE_END_OFF_FILE_BYTES) != end ||
	    le32_load(at + FILE_END_OFF_DIGEST) != totals->digest)
		return corrupt(reader, "the end mark's totals are not those of the blocks", err);
	if (reader->source->bytes > end)
		return haul_err_set(err, HAUL_ELONG,
				    "%s: %" PRIu64 " bytes behind the end mark; right is a file of "
				    "%" PRIu64 " bytes",
				    reader->source->name, reader->source->bytes - end, end);
	reader->complete = true;
	return 0;
}

static const char *block_flaw(const struct file_reader *reader, const struct file_block *block,
			      uint32_t flags)
{
	if (block->map_index != reader->map_index)
		return "a block of another map than the one whose turn it is";
	if (block->sequence != (uint32_t)reader->totals.blocks)
		return "a block that is not the next one";
	if ((flags & ~(uint32_t)FILE_LAST) != 0)
		return "a block with flags that are not known";
	if (block->cursor_bytes > HAUL_MAP_KEY_MAX || block->last != (block->cursor_bytes == 0))
		return "a block with an impossible cursor";
	if (block->count == 0 && !block->last)
		return "an empty block that is not the last";
	return NULL;
}

static int check_block_head(struct file_reader *reader, const uint8_t *at, struct file_block *block,
			    struct haul_err *err)
{
	const uint32_t flags = le32_load(at + FILE_BLOCK_OFF_FLAGS);

	if (crc32c(reader->header.crc, at, FILE_BLOCK_OFF_CRC) !=
	    le32_load(at + FILE_BLOCK_OFF_CRC))
		return corrupt(reader, "the checksum of the block's head is wrong", err);
	block->map_index = le32_load(at + FILE_BLOCK_OFF_MAP);
	block->count = le32_load(at + FILE_BLOCK_OFF_COUNT);
	block->cursor_bytes = le32_load(at + FILE_BLOCK_OFF_CURSOR_BYTES);
	block->last = flags & FILE_LAST;
	block->sequence = le32_load(at + FILE_BLOCK_OFF_SEQUENCE);
	const char *flaw = block_flaw(reader, block, flags);
	return flaw != NULL ? corrupt(reader, flaw, err) : 0;
}

static int block_load(struct file_reader *reader, struct haul_map_batch *ret_batch,
		      struct haul_err *err)
{
	const struct file_header *header = &reader->header;
	const uint64_t rest = reader->source->bytes - reader->totals.bytes;
	uint8_t head[FILE_BLOCK_BYTES];
	struct file_block block = { 0 };

	if (rest < FILE_BLOCK_BYTES)
		return torn(reader, "block", err);
	int rc = read_at(reader, reader->totals.bytes, head, sizeof head, err);
	if (rc == 0)
		rc = check_block_head(reader, head, &block, err);
	if (rc < 0)
		return rc;
	const uint64_t bytes = FILE_BLOCK_BYTES + block.cursor_bytes +
			       block.count * ((uint64_t)header->key_size + header->slot_bytes) +
			       FILE_CRC_BYTES;
	if (bytes > rest)
		return torn(reader, "block", err);
	rc = room_alloc(reader, (size_t)bytes, err);
	if (rc == 0)
		rc = read_at(reader, reader->totals.bytes, reader->buffer, (size_t)bytes, err);
	if (rc < 0)
		return rc;
	const uint8_t *crc = reader->buffer + bytes - FILE_CRC_BYTES;
	if (crc32c(header->crc, reader->buffer, (size_t)bytes - FILE_CRC_BYTES) != le32_load(crc))
		return corrupt(reader, "the block's checksum is wrong", err);
	memcpy(block.cursor, reader->buffer + FILE_BLOCK_BYTES, block.cursor_bytes);
	reader->block = block;
	reader->totals.blocks++;
	reader->totals.entries += block.count;
	reader->totals.bytes += bytes;
	reader->totals.digest = crc32c(reader->totals.digest, crc, FILE_CRC_BYTES);
	reader->map_index += block.last;
	const uint8_t *keys = reader->buffer + FILE_BLOCK_BYTES + block.cursor_bytes;
	*ret_batch = (struct haul_map_batch){
		.count = block.count,
		.keys = keys,
		.values = keys + (size_t)block.count * header->key_size,
		.key_stride = header->key_size,
		.value_stride = header->slot_bytes,
	};
	return 1;
}

int file_reader_load_next(struct file_reader *reader, struct haul_map_batch *ret_batch,
			  struct haul_err *err)
{
	const uint64_t at = reader->totals.bytes;
	const uint64_t rest = reader->source->bytes - at;
	uint8_t magic[4];

	HAUL_ASSERT(!reader->complete);
	HAUL_ASSERT(reader->source->bytes >= at);
	if (rest < sizeof magic)
		return torn(reader, "block or end mark", err);
	int rc = read_at(reader, at, magic, sizeof magic, err);
	if (rc < 0)
		return rc;
	if (le32_load(magic) == FILE_END_MAGIC)
		return check_end(reader, err);
	if (le32_load(magic) != FILE_BLOCK_MAGIC)
		return corrupt(reader, "neither a block nor the end mark begins here", err);
	if (reader->map_index == reader->header.map_count)
		return corrupt(reader, "a block behind the last one of the last map", err);
	return block_load(reader, ret_batch, err);
}
