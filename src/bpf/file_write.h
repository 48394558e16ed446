/* bpf/file_write.h — the bytes of a map file, put together in memory (bpf/file_format.h).
 *
 * Model      Each call leaves one piece, ready to be written behind the ones before it, in
 *            buffer … buffer + bytes, and counts it in totals. export.c writes them to a file.
 * Ownership  the header's maps are the caller's, and stay until done. The buffer is the writer's.
 * Memory     one block, kept from block to block.
 * Threads    one at a time a writer.
 * Errors     -ENOMEM. */
#pragma once

#include "bpf/file_format.h"

struct file_writer {
	struct file_header header;
	struct file_totals totals;
	uint8_t *buffer;
	size_t bytes; /* of the piece that is in buffer */
	size_t room;
};

uint32_t file_header_bytes(uint32_t map_count);

/* bytes and crc of the header are filled in; the piece is the header. */
int file_writer_init(struct file_writer *writer, const struct file_header *header);
void file_writer_done(struct file_writer *writer);

/* block->sequence is filled in; block->count entries come from batch. */
int file_writer_block_build(struct file_writer *writer, struct file_block *block,
			    const struct haul_map_batch *batch);
int file_writer_end_build(struct file_writer *writer);

/* Go on behind what a reader found good. */
void file_writer_resume(struct file_writer *writer, const struct file_totals *totals);
