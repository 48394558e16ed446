#include "disk/cache_probe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "disk/format.h"

enum { MAGIC_BYTES_MAX = 16, PROBE_ALIGN = 4096 };

struct magic {
	uint32_t offset;
	uint32_t bytes;
	const char *magic;
	const char *text;
};

/* The first that fits is told, so what is more exact stands first. */
static const struct magic magics[] = {
	{ 0x438, 2, "\x53\xef", "an ext2, ext3 or ext4 file system" },
	{ 0, 4, "XFSB", "an XFS file system" },
	{ 0x10040, 8, "_BHRfS_M", "a btrfs file system" },
	{ 1024, 4, "\x10\x20\xf5\xf2", "an F2FS file system" },
	{ 0, 4, "hsqs", "a squashfs file system" },
	{ 32769, 5, "CD001", "an ISO 9660 file system" },
	{ 3, 8, "NTFS    ", "an NTFS file system" },
	{ 3, 8, "EXFAT   ", "an exFAT file system" },
	{ 54, 3, "FAT", "a FAT file system" },
	{ 82, 5, "FAT32", "a FAT file system" },
	{ 4086, 10, "SWAPSPACE2", "swap space" },
	{ 4086, 10, "SWAP-SPACE", "swap space" },
	{ 0, 6, "LUKS\xba\xbe", "a LUKS volume (encrypted)" },
	{ 512, 8, "LABELONE", "an LVM physical volume" },
	{ 4096, 4, "\xfc\x4e\x2b\xa9", "a member of a RAID (md)" },
	{ 0, 4, "\xfc\x4e\x2b\xa9", "a member of a RAID (md)" },
	{ 512, 8, "EFI PART", "a GPT partition table" },
	{ 4096, 8, "EFI PART", "a GPT partition table" },
	{ 510, 2, "\x55\xaa", "an MBR partition table or boot sector" },
	{ 0, 16, "SQLite format 3", "an SQLite database" },
	{ 0, 4, "QFI\xfb", "a qcow2 disk image" },
	{ 0, 4,
	  "\x7f"
	  "ELF",
	  "a program (ELF)" },
	{ 0, 4, "PK\x03\x04", "a ZIP archive" },
	{ 0, 3, "\x1f\x8b\x08", "a gzip file" },
	{ 0, 4, "\x28\xb5\x2f\xfd", "a zstd file" },
	{ 0, 6, "7z\xbc\xaf\x27\x1c", "a 7z archive" },
	{ 257, 5, "ustar", "a tar archive" },
	{ 0, 5, "%PDF-", "a PDF document" },
};

/* Up to bytes; what lies behind the end counts as zeros. */
static int probe_read(const struct file *file, uint64_t offset, uint8_t *data, uint32_t bytes)
{
	uint32_t done = 0;
	memset(data, 0, bytes);
	while (done < bytes) {
		ssize_t n = pread(file->fd, data + done, bytes - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (uint32_t)n;
		if (n == 0 || done % PROBE_ALIGN != 0)
			break; /* the end: what follows would not be aligned */
	}
	return 0;
}

static bool probe_zeros(const uint8_t *data, size_t bytes)
{
	return data[0] == 0 && !memcmp(data, data + 1, bytes - 1);
}

static bool probe_cache(const uint8_t *block, char text[PROBE_TEXT])
{
	struct format_super super;
	int rc = format_super_decode(block, &super);
	if (rc == 0)
		(void)snprintf(text, PROBE_TEXT,
			       "a cache of haul (%" PRIu64 " MiB, %u partitions of %u segments)",
			       super.bytes >> 20, super.partitions, super.segments);
	else if (rc == HAUL_EVERSION)
		(void)snprintf(text, PROBE_TEXT, "a cache of a newer haul");
	return rc == 0 || rc == HAUL_EVERSION;
}

static const char *probe_magic(const uint8_t *data)
{
	for (uint32_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
		const struct magic *magic = &magics[i];
		HAUL_ASSERT(magic->offset + magic->bytes <= PROBE_BYTES);
		if (!memcmp(data + magic->offset, magic->magic, magic->bytes))
			return magic->text;
	}
	return NULL;
}

/* Whether a file has a block anywhere. */
static bool probe_has_data(const struct file *file)
{
	return lseek(file->fd, 0, SEEK_DATA) >= 0 || errno != ENXIO;
}

static int probe_ends(const struct file *file, uint8_t *first, uint8_t *last, char text[PROBE_TEXT])
{
	const uint64_t tail = file->bytes > PROBE_BYTES ? file->bytes - PROBE_BYTES : 0;
	/* direct reads begin at a block */
	const uint64_t tail_at = (tail + PROBE_ALIGN - 1) / PROBE_ALIGN * PROBE_ALIGN;
	const uint64_t super_at = file->bytes / FORMAT_BLOCK * FORMAT_BLOCK;
	int rc = probe_read(file, 0, first, PROBE_BYTES);
	if (rc == 0)
		rc = probe_read(file, tail_at, last, PROBE_BYTES);
	if (rc < 0)
		return rc;
	if (probe_cache(first, text) ||
	    (super_at >= tail_at + FORMAT_BLOCK &&
	     probe_cache(last + (super_at - FORMAT_BLOCK - tail_at), text)))
		return 1;
	const char *known = probe_magic(first);
	if (known != NULL)
		(void)snprintf(text, PROBE_TEXT, "%s", known);
	else if (!file->block_device || !probe_zeros(first, PROBE_BYTES) ||
		 !probe_zeros(last, PROBE_BYTES))
		(void)snprintf(text, PROBE_TEXT, "data");
	else
		return 0;
	return 1;
}

static uint8_t *memory_new(void)
{
	void *memory = NULL;
	return posix_memalign(&memory, PROBE_ALIGN, 2 * (size_t)PROBE_BYTES) == 0 ? memory : NULL;
}

int probe_file(const struct file *file, char ret_text[PROBE_TEXT])
{
	if (file->bytes == 0 || (!file->block_device && !probe_has_data(file)))
		return 0;
	uint8_t *memory = memory_new();
	if (memory == NULL)
		return -ENOMEM;
	int rc = probe_ends(file, memory, memory + PROBE_BYTES, ret_text);
	free(memory);
	return rc;
}
