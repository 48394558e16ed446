/* fuzz/fuzz_disk_super.c — any bytes as a superblock and as a root.
 *
 * Promise: what is taken keeps every limit that readers rely on: all places lie within the file and
 * none on another; encoded and decoded again it is the same. Nothing outside of the block is read.
 * The first byte is not of the block: when odd, the checksum is put right first. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "disk/format_sample.h"

enum { REPAIR = 1 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_places(const struct format_super *super)
{
	uint64_t end = FORMAT_BLOCK;

	HAUL_ASSERT(format_super_offset(super, 0) == 0);
	for (uint32_t p = 0; p < super->partitions; p++) {
		HAUL_ASSERT(format_root_offset(super, p, 0) == end);
		end += FORMAT_BLOCK;
	}
	for (uint32_t p = 0; p < super->partitions; p++) {
		HAUL_ASSERT(format_segment_offset(super, p, 0) >= end);
		end = format_segment_offset(super, p, super->segments - 1) + super->segment_bytes;
	}
	for (uint32_t p = 0; p < super->partitions; p++) {
		HAUL_ASSERT(format_root_offset(super, p, 1) >= end);
		end = format_root_offset(super, p, 1) + FORMAT_BLOCK;
	}
	HAUL_ASSERT(format_super_offset(super, 1) >= end);
	HAUL_ASSERT(format_super_offset(super, 1) + FORMAT_BLOCK == super->bytes);
}

static void check_super(const uint8_t *block)
{
	struct format_super super, again;
	uint8_t encoded[FORMAT_BLOCK];

	memset(&super, 0, sizeof super);
	memset(&again, 0, sizeof again);
	if (format_super_decode(block, &super) < 0)
		return;
	check_places(&super);
	HAUL_ASSERT(super.entries_max >= 1);
	format_super_encode(&super, encoded);
	const int rc = format_super_decode(encoded, &again);
	HAUL_ASSERT(rc == 0 && memcmp(&super, &again, sizeof super) == 0);
}

static void check_root(const uint8_t *block)
{
	struct format_root root, again;
	uint8_t encoded[FORMAT_BLOCK];

	memset(&root, 0, sizeof root);
	memset(&again, 0, sizeof again);
	if (format_root_decode(block, block + 16, &root) < 0)
		return;
	HAUL_ASSERT(root.bad_count <= FORMAT_BAD_MAX);
	for (uint32_t i = 0; i < root.bad_count; i++)
		HAUL_ASSERT(root.bad[i].segment < FORMAT_SEGMENTS_MAX);
	HAUL_ASSERT(root.model.sync_ns >= 0 && root.model.read_iops >= 0);
	format_root_encode(&root, block + 16, encoded);
	const int rc = format_root_decode(encoded, block + 16, &again);
	HAUL_ASSERT(rc == 0 && memcmp(&root, &again, sizeof root) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0 || size > 1 + FORMAT_BLOCK)
		return 0;
	uint8_t *block = calloc(1, FORMAT_BLOCK);
	HAUL_ASSERT(block != NULL);
	memcpy(block, data + 1, size - 1);
	if (data[0] & REPAIR)
		(void)sample_repair_block(block, FORMAT_BLOCK);
	check_super(block);
	check_root(block);
	free(block);
	return 0;
}
