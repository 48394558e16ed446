/* Where things lie in a file: format.h has the picture. */
#include <errno.h>
#include <inttypes.h>

#include "base/assert.h"
#include "disk/format.h"

enum {
	LAYOUT_SEGMENT = 16 << 20,
	LAYOUT_SEGMENT_SMALL = 4 << 20,  /* of files below LAYOUT_SMALL */
	LAYOUT_SEGMENT_VALUES = 2 << 20, /* below it, values of 1 MiB do not fit */
	LAYOUT_SEGMENTS = 32, /* a partition: fewer make a smaller size be chosen, if values fit */
	LAYOUT_ALIGN = 1 << 20,   /* segments begin at a multiple of it, or of their size */
	LAYOUT_ENTRY_BYTES = 4096 /* of the disk, an entry: where entries_max is not given */
};
#define LAYOUT_SMALL (UINT64_C(8) << 30)

uint64_t format_super_offset(const struct format_super *super, uint32_t copy)
{
	HAUL_ASSERT(copy < 2);
	return copy == 0 ? 0 : super->bytes - FORMAT_BLOCK;
}

uint64_t format_root_offset(const struct format_super *super, uint32_t partition, uint32_t copy)
{
	HAUL_ASSERT(partition < super->partitions);
	HAUL_ASSERT(copy < 2);
	const uint64_t first =
		copy == 0 ? FORMAT_BLOCK
			  : super->bytes - (1 + (uint64_t)super->partitions) * FORMAT_BLOCK;

	return first + (uint64_t)partition * FORMAT_BLOCK;
}

uint64_t format_segment_offset(const struct format_super *super, uint32_t partition,
			       uint32_t segment)
{
	HAUL_ASSERT(partition < super->partitions);
	HAUL_ASSERT(segment < super->segments);
	return super->segments_offset +
	       ((uint64_t)partition * super->segments + segment) * super->segment_bytes;
}

static uint64_t layout_start(uint32_t partitions, uint32_t segment_bytes)
{
	const uint64_t align = segment_bytes < LAYOUT_ALIGN ? segment_bytes : LAYOUT_ALIGN;
	const uint64_t head = (1 + (uint64_t)partitions) * FORMAT_BLOCK;

	return (head + align - 1) / align * align;
}

/* Segments a partition, not bounded. */
static uint64_t layout_segments(uint64_t bytes, uint32_t partitions, uint32_t segment_bytes)
{
	const uint64_t around =
		layout_start(partitions, segment_bytes) + (1 + (uint64_t)partitions) * FORMAT_BLOCK;

	return bytes < around ? 0 : (bytes - around) / segment_bytes / partitions;
}

static uint32_t layout_choose(uint64_t bytes, uint32_t partitions)
{
	uint32_t size = bytes < LAYOUT_SMALL ? LAYOUT_SEGMENT_SMALL : LAYOUT_SEGMENT;

	while (size > LAYOUT_SEGMENT_VALUES &&
	       layout_segments(bytes, partitions, size) < LAYOUT_SEGMENTS)
		size /= 2;
	while (size > FORMAT_SEGMENT_MIN &&
	       layout_segments(bytes, partitions, size) < FORMAT_SEGMENTS_MIN)
		size /= 2;
	while (size < FORMAT_SEGMENT_MAX &&
	       layout_segments(bytes, partitions, size) > FORMAT_SEGMENTS_MAX)
		size *= 2;
	return size;
}

static int layout_refuse(uint64_t bytes, uint32_t partitions, uint32_t size, struct haul_err *err)
{
	const uint64_t want = layout_start(partitions, size) +
			      (1 + (uint64_t)partitions) * FORMAT_BLOCK +
			      (uint64_t)FORMAT_SEGMENTS_MIN * partitions * size;

	return haul_err_set(err, -ENOSPC,
			    "%" PRIu64 " bytes are too few for %u partitions of at least %d "
			    "segments of %u bytes: at least %" PRIu64
			    " are needed; give more, or fewer partitions or smaller segments",
			    bytes, partitions, FORMAT_SEGMENTS_MIN, size, want);
}

int format_layout(struct format_super *super, uint64_t bytes, uint32_t partitions,
		  uint32_t segment_bytes, struct haul_err *err)
{
	uint32_t size = segment_bytes;

	if (partitions < 1 || partitions > FORMAT_PARTITIONS_MAX)
		return haul_err_set(err, -EINVAL, "%u partitions: 1 … %d are possible", partitions,
				    FORMAT_PARTITIONS_MAX);
	if (size != 0 &&
	    (size < FORMAT_SEGMENT_MIN || size > FORMAT_SEGMENT_MAX || (size & (size - 1)) != 0))
		return haul_err_set(err, -EINVAL,
				    "segments of %u bytes: a power of two, %d … %d, is possible",
				    size, FORMAT_SEGMENT_MIN, FORMAT_SEGMENT_MAX);
	if (bytes > INT64_MAX)
		return haul_err_set(err, -EINVAL, "%" PRIu64 " bytes: at most 2^63 are possible",
				    bytes);
	const uint64_t whole = bytes / FORMAT_BLOCK * FORMAT_BLOCK;
	if (size == 0)
		size = layout_choose(whole, partitions);
	uint64_t segments = layout_segments(whole, partitions, size);
	if (segments < FORMAT_SEGMENTS_MIN)
		return layout_refuse(bytes, partitions, size, err);
	if (segments > FORMAT_SEGMENTS_MAX)
		segments = FORMAT_SEGMENTS_MAX;
	const uint64_t entries_fit = segments * size / FORMAT_ROW;
	super->bytes = whole;
	super->partitions = partitions;
	super->segment_bytes = size;
	super->segments = (uint32_t)segments;
	super->segments_offset = layout_start(partitions, size);
	if (super->entries_max == 0)
		super->entries_max = segments * size / LAYOUT_ENTRY_BYTES;
	if (super->entries_max > entries_fit)
		super->entries_max = entries_fit;
	return 0;
}
