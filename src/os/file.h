/* os/file.h — a file or block device that is read and written past the page cache.
 *
 * Model      file_open takes the path for this process alone (flock; O_EXCL for a block device, so
 *            that a mounted one is refused), asks statx for the alignment direct I/O needs, and
 *            opens with O_DIRECT. Where direct I/O does not exist (tmpfs), it falls back to the
 *            page cache and says so in `direct`.
 * Units      bytes. align_memory and align_offset are at least 512 and powers of two.
 * Ownership  the caller's struct; file_close closes what file_open opened.
 * Blocking   file_open waits half a second for who has the path now: a process that was killed
 *            keeps it until the kernel has ended its operations.
 * Threads    one at a time; the descriptor may be used by many.
 * Errors     with text that names the path, what is wrong and what to do: -EBUSY (another process
 *            has it, or it is mounted), -ENOENT, -EACCES, -EINVAL (neither file nor block device),
 *            -EROFS, -ENOSPC (file_allocate: says how much is there and how much is wanted). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>

struct file {
	int fd;
	bool direct;
	bool block_device;
	bool read_only;
	uint32_t align_memory;
	uint32_t align_offset;
	uint64_t bytes; /* size now */
};

enum file_mode { FILE_READ, FILE_WRITE, FILE_CREATE };

/* FILE_CREATE makes the file if it is not there, and never truncates one that is. */
int file_open(struct file *file, const char *path, enum file_mode mode, struct haul_err *err);
void file_close(struct file *file);

/* Make a file exactly `bytes` long, with its blocks allocated and written once with zeros, so that
 * no later write changes extents, size or journal. What was there is lost. progress may be NULL;
 * non-zero stops with that value. A block device only has its size checked. */
typedef int file_progress(uint64_t bytes_done, uint64_t bytes_total, void *arg);
int file_allocate(struct file *file, uint64_t bytes, file_progress *progress, void *arg,
		  struct haul_err *err);
/* Free space of the file system that holds path (or its folder), in bytes. */
int file_space(const char *path, uint64_t *ret_bytes, struct haul_err *err);
