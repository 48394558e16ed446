/* bpf/file_read.h — reading and verifying a map file (bpf/file_format.h).
 *
 * Model      A reader takes pieces of a source by offset: open verifies the header, each next one
 *            block, until the end mark. Nothing in the file is believed before its checksum is
 *            right, and no memory is taken for what the file does not hold.
 * Ownership  the source and its name are the caller's and outlive the reader. A batch holds until
 *            the next call.
 * Memory     the header's maps, and one block.
 * Threads    one at a time a reader.
 * Errors     as the format says, with text that names file, offset and what is right; -errno of
 *            the source; -ENOMEM. After a failure of next, totals still tell the good part. */
#pragma once

#include "bpf/file_format.h"

struct file_source {
	const char *name; /* for texts */
	uint64_t bytes;
	/* Exactly bytes from offset, which are there; 0 or -errno. */
	int (*read_at)(struct file_source *source, uint64_t offset, void *out, size_t bytes);
};

struct file_source_fd {
	struct file_source source;
	int fd; /* the caller's */
};
/* -EINVAL when it is not a regular file. */
int file_source_fd_init(struct file_source_fd *source, int fd, const char *name,
			struct haul_err *err);

struct file_reader {
	struct file_source *source;
	struct file_header header;
	struct file_totals totals;
	struct file_block block; /* the last good one */
	uint32_t map_index;      /* of the next block; map_count: only the end mark can follow */
	bool complete;           /* the end mark was there, and right */
	uint8_t *buffer;
	size_t room;
};

int file_reader_open(struct file_reader *reader, struct file_source *source, struct haul_err *err);
/* 1: a block, in *ret_batch and reader->block. 0: the end. */
int file_reader_load_next(struct file_reader *reader, struct haul_map_batch *ret_batch,
			  struct haul_err *err);
void file_reader_close(struct file_reader *reader);
