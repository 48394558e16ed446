/* Opening a cache's file: which of the two superblocks counts, and what to say when none does. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "disk/format_head.h"
#include "disk/shard.h"

enum { VOLUME_COPIES = 2 };

static int volume_read(const struct file *file, uint64_t offset, uint8_t *block)
{
	size_t done = 0;

	while (done < FORMAT_BLOCK) {
		const ssize_t n =
			pread(file->fd, block + done, FORMAT_BLOCK - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : HAUL_ESHORT;
		done += (size_t)n;
	}
	return 0;
}

/* 0, or what is wrong with that copy. *ret_magic: it is, or was, a superblock of ours. */
static int volume_copy(const struct file *file, uint64_t offset, uint8_t *block,
		       struct format_super *ret_super, bool *ret_magic)
{
	int rc = volume_read(file, offset, block);

	*ret_magic = rc == 0 && le32_load(block + HEAD_OFF_MAGIC) == HEAD_MAGIC_SUPER;
	if (rc == 0)
		rc = format_super_decode(block, ret_super);
	return rc;
}

/* Why a file without a good superblock is refused. */
static int volume_refuse(const char *path, const int rc[VOLUME_COPIES], bool magic,
			 struct haul_err *err)
{
	if (rc[0] == HAUL_EVERSION || rc[1] == HAUL_EVERSION)
		return haul_err_set(err, HAUL_EVERSION,
				    "%s was formatted by a newer version of haul: use that, or "
				    "format it anew",
				    path);
	if (rc[0] == HAUL_ECORRUPT && !magic)
		return haul_err_set(err, HAUL_ECORRUPT,
				    "%s is not a cache: make one with 'haul cache format'", path);
	if (rc[0] == HAUL_ESHORT)
		return haul_err_set(
			err, HAUL_ECORRUPT,
			"%s is too short for a cache: make one with 'haul cache format'", path);
	if (rc[0] < 0 && rc[0] > HAUL_EBASE)
		return haul_err_set(err, rc[0], "%s: cannot read the superblock: %s", path,
				    haul_strerror(rc[0]));
	return haul_err_set(err, HAUL_ECORRUPT,
			    "%s: both superblocks are damaged: format it anew, its contents "
			    "cannot be found",
			    path);
}

static int volume_load_super(struct volume *volume, const char *path, struct haul_err *err)
{
	const uint64_t end = volume->file.bytes / FORMAT_BLOCK * FORMAT_BLOCK;
	struct format_super super[VOLUME_COPIES];
	int rc[VOLUME_COPIES] = { HAUL_ESHORT, HAUL_ESHORT };
	bool magic[VOLUME_COPIES] = { false, false };
	void *block = NULL;

	if (posix_memalign(&block, FORMAT_BLOCK, FORMAT_BLOCK) != 0)
		return haul_err_set(err, -ENOMEM, "no memory for a superblock");
	rc[0] = volume_copy(&volume->file, 0, block, &super[0], &magic[0]);
	if (rc[0] < 0 && end >= FORMAT_BLOCK)
		rc[1] = volume_copy(&volume->file, end - FORMAT_BLOCK, block, &super[1], &magic[1]);
	free(block);
	if (rc[0] < 0 && rc[1] < 0)
		return volume_refuse(path, rc, magic[0] || magic[1], err);
	volume->super = rc[0] == 0 ? super[0] : super[1];
	if (volume->super.bytes > volume->file.bytes)
		return haul_err_set(err, HAUL_ESHORT,
				    "%s has %" PRIu64 " bytes, but was formatted with %" PRIu64
				    ": it was cut short",
				    path, volume->file.bytes, volume->super.bytes);
	return 0;
}

int volume_open(struct volume *volume, const char *path, bool read_only, struct os *os,
		struct haul_err *err)
{
	struct volume opened = { .os = os };

	HAUL_ASSERT(path != NULL && os != NULL);
	int rc = file_open(&opened.file, path, read_only ? FILE_READ : FILE_WRITE, err);
	if (rc < 0)
		return rc;
	rc = volume_load_super(&opened, path, err);
	if (rc == 0 && !read_only && opened.super.ro_compat != 0)
		rc = haul_err_set(err, -EROFS,
				  "%s has features of a newer haul (0x%x) and can only be read",
				  path, opened.super.ro_compat);
	if (rc < 0) {
		file_close(&opened.file);
		return rc;
	}
	*volume = opened;
	return 0;
}

void volume_close(struct volume *volume)
{
	if (volume != NULL)
		file_close(&volume->file);
}
