#include "format_any.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/crc32c.h"

const uint8_t any_uuid[16] = "0123456789abcdef";

const size_t any_bytes[KINDS] = { 4096, 4096, 4096, 128, 4096 };

const struct any any_fixed = {
	.super = { .uuid = "0123456789abcdef",
		   .bytes = 0x20000000,
		   .secret = 0x1112131415161718,
		   .partitions = 2,
		   .segment_bytes = 0x400000,
		   .segments = 60,
		   .segments_offset = 0x100000,
		   .entries_max = 0x212223,
		   .created = 0x31323334,
		   .compat = 0x41424344,
		   .ro_compat = 0x51525354 },
	.root = { .generation = 0x0102030405060708,
		  .partition = 9,
		  .purged_seq = 0x1112131415161718,
		  .generation_bound = 0x2122232425262728,
		  .flush_proven = 0x3132333435363738,
		  .model = { 1, 2, 3, 4, 5 },
		  .bad_count = 2,
		  .bad = { { 0x21222, 0x3000 }, { 0x31323, 0x4000 } } },
	.segment = { .generation = 0x0102030405060708,
		     .born_seq = 0x1112131415161718,
		     .partition = 3,
		     .segment = 0x21222,
		     .lane = LANE_BULK,
		     .created = 0x31323334 },
	.batch = { .generation = 0x0102030405060708,
		   .flush = 0x1112131415161718,
		   .first_seq = 0x2122232425262728,
		   .partition = 3,
		   .segment = 0x21222,
		   .offset = 0x5000,
		   .bytes = 0x7000,
		   .rows = 7,
		   .table = 0x6123,
		   .table_bytes = 0x234,
		   .part = 0x102,
		   .parts = 0x304,
		   .table_checksum = 0x3132333435363738 },
	.footer = { .generation = 0x0102030405060708,
		    .born_seq = 0x1112131415161718,
		    .last_flush = 0x2122232425262728,
		    .partition = 3,
		    .segment = 0x21222,
		    .lane = LANE_PINNED,
		    .rows = 5,
		    .table = 0x6000,
		    .expiry_max = 0x31323334,
		    .table_checksum = 0x4142434445464748 },
};

void any_encode(enum any_kind kind, const struct any *any, uint8_t *out)
{
	switch (kind) {
	case SUPER:
		format_super_encode(&any->super, out);
		break;
	case ROOT:
		format_root_encode(&any->root, any_uuid, out);
		break;
	case SEGMENT:
		format_segment_encode(&any->segment, any_uuid, out);
		break;
	case BATCH:
		format_batch_encode(&any->batch, any_uuid, out);
		break;
	case FOOTER:
		format_footer_encode(&any->footer, any_uuid, out);
		break;
	case KINDS:
		break;
	}
}

int any_decode_of(enum any_kind kind, const uint8_t *in, const uint8_t *of, struct any *any)
{
	switch (kind) {
	case SUPER:
		return format_super_decode(in, &any->super);
	case ROOT:
		return format_root_decode(in, of, &any->root);
	case SEGMENT:
		return format_segment_decode(in, of, &any->segment);
	case BATCH:
		return format_batch_decode(in, of, ANY_SEGMENT, &any->batch);
	case FOOTER:
		return format_footer_decode(in, of, ANY_SEGMENT, &any->footer);
	case KINDS:
		break;
	}
	return -EINVAL;
}

int any_decode(enum any_kind kind, const uint8_t *in, struct any *any)
{
	return any_decode_of(kind, in, any_uuid, any);
}

void any_seal(enum any_kind kind, uint8_t *at)
{
	le32_store(at + 4, crc32c_table(0, at + 8, any_bytes[kind] - 8));
}

void any_put(uint8_t *at, uint32_t width, uint64_t value)
{
	for (uint32_t b = 0; b < width; b++)
		at[b] = (uint8_t)(value >> 8 * b);
}
