#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "disk/format.h"
#include "disk/format_sample.h"
#include "lib/testlib.h"

static const uint8_t uuid[16] = "0123456789abcdef";
static const uint8_t other_uuid[16] = "0123456789abcdeF";

/* ---- one of each, and how it is encoded and decoded, so that a test can take them all ---- */

enum kind { SUPER, ROOT, SEGMENT, BATCH, FOOTER, KINDS };

static const size_t kind_bytes[KINDS] = { 4096, 4096, 4096, 128, 4096 };

struct any {
	struct format_super super;
	struct format_root root;
	struct format_segment segment;
	struct format_batch batch;
	struct format_footer footer;
};

static const struct any fixed = {
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

enum { SEGMENT_BYTES = 0x400000 };

static void encode(enum kind kind, const struct any *any, uint8_t *out)
{
	switch (kind) {
	case SUPER:
		format_super_encode(&any->super, out);
		break;
	case ROOT:
		format_root_encode(&any->root, uuid, out);
		break;
	case SEGMENT:
		format_segment_encode(&any->segment, uuid, out);
		break;
	case BATCH:
		format_batch_encode(&any->batch, uuid, out);
		break;
	case FOOTER:
		format_footer_encode(&any->footer, uuid, out);
		break;
	case KINDS:
		break;
	}
}

static int decode_of(enum kind kind, const uint8_t *in, const uint8_t *of, struct any *any)
{
	switch (kind) {
	case SUPER:
		return format_super_decode(in, &any->super);
	case ROOT:
		return format_root_decode(in, of, &any->root);
	case SEGMENT:
		return format_segment_decode(in, of, &any->segment);
	case BATCH:
		return format_batch_decode(in, of, SEGMENT_BYTES, &any->batch);
	case FOOTER:
		return format_footer_decode(in, of, SEGMENT_BYTES, &any->footer);
	case KINDS:
		break;
	}
	return -EINVAL;
}

static int decode(enum kind kind, const uint8_t *in, struct any *any)
{
	return decode_of(kind, in, uuid, any);
}

/* Where head_seal puts it, written out again. */
static void seal(enum kind kind, uint8_t *at)
{
	le32_store(at + 4, crc32c_table(0, at + 8, kind_bytes[kind] - 8));
}

/* ---- golden bytes ---- */

struct field {
	uint32_t at, width;
	uint64_t value;
};

static void check_fields(const uint8_t *in, const struct field *fields, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t value = 0;
		for (uint32_t b = 0; b < fields[i].width; b++)
			value |= (uint64_t)in[fields[i].at + b] << 8 * b;
		if (value != fields[i].value)
			fail_msg("at %" PRIu32 ": %#" PRIx64 ", want %#" PRIx64, fields[i].at,
				 value, fields[i].value);
	}
}

#define CHECK_FIELDS(in, ...)                                                                      \
	check_fields(in, (const struct field[]){ __VA_ARGS__ },                                    \
		     sizeof((const struct field[]){ __VA_ARGS__ }) / sizeof(struct field))

/* All bytes from `end` on are zero, and the common head is in order. */
static void check_frame(enum kind kind, const uint8_t *in, uint32_t magic, uint32_t end)
{
	CHECK_FIELDS(in, { 0, 4, magic }, { 8, 4, 1 }, { 12, 4, 0 });
	assert_memory_equal(in + 16, uuid, 16);
	assert_int_equal(le32_load(in + 4), crc32c_table(0, in + 8, kind_bytes[kind] - 8));
	for (size_t i = end; i < kind_bytes[kind]; i++)
		assert_int_equal(in[i], 0);
}

/* Caches that exist could not be read any more. */
static void test_format_super__writes_the_documented_bytes(void **state)
{
	(void)state;
	uint8_t block[4096];

	encode(SUPER, &fixed, block);
	check_frame(SUPER, block, 0x42534348, 92);
	assert_memory_equal(block, "HCSB", 4);
	CHECK_FIELDS(block, { 32, 4, 0x41424344 }, { 36, 4, 0x51525354 }, { 40, 4, 0 },
		     { 44, 4, 0x31323334 }, { 48, 8, 0x20000000 }, { 56, 8, 0x1112131415161718 },
		     { 64, 8, 0x100000 }, { 72, 8, 0x212223 }, { 80, 4, 2 }, { 84, 4, 0x400000 },
		     { 88, 4, 60 });
	assert_int_equal(le32_load(block + 4), 0xe60e18de);
}

/* As above. */
static void test_format_root__writes_the_documented_bytes(void **state)
{
	(void)state;
	uint8_t block[4096];

	encode(ROOT, &fixed, block);
	check_frame(ROOT, block, 0x54524348, 112 + 16);
	assert_memory_equal(block, "HCRT", 4);
	CHECK_FIELDS(block, { 32, 8, 0x0102030405060708 }, { 40, 8, 0x1112131415161718 },
		     { 48, 8, 0x3ff0000000000000 }, { 56, 8, 0x4000000000000000 },
		     { 64, 8, 0x4008000000000000 }, { 72, 8, 0x4010000000000000 },
		     { 80, 8, 0x4014000000000000 }, { 88, 4, 9 }, { 92, 4, 2 },
		     { 96, 8, 0x2122232425262728 }, { 104, 8, 0x3132333435363738 },
		     { 112, 4, 0x21222 }, { 116, 4, 0x3000 }, { 120, 4, 0x31323 },
		     { 124, 4, 0x4000 });
}

/* As above. */
static void test_format_segment__writes_the_documented_bytes(void **state)
{
	(void)state;
	uint8_t block[4096];

	encode(SEGMENT, &fixed, block);
	check_frame(SEGMENT, block, 0x47534348, 64);
	assert_memory_equal(block, "HCSG", 4);
	CHECK_FIELDS(block, { 32, 8, 0x0102030405060708 }, { 40, 8, 0x1112131415161718 },
		     { 48, 4, 3 }, { 52, 4, 0x21222 }, { 56, 4, 3 }, { 60, 4, 0x31323334 });
}

/* As above. */
static void test_format_batch__writes_the_documented_bytes(void **state)
{
	(void)state;
	uint8_t header[128];

	encode(BATCH, &fixed, header);
	check_frame(BATCH, header, 0x54424348, 96);
	assert_memory_equal(header, "HCBT", 4);
	CHECK_FIELDS(header, { 32, 8, 0x0102030405060708 }, { 40, 8, 0x1112131415161718 },
		     { 48, 8, 0x2122232425262728 }, { 56, 8, 0x3132333435363738 }, { 64, 4, 3 },
		     { 68, 4, 0x21222 }, { 72, 4, 0x5000 }, { 76, 4, 0x7000 }, { 80, 4, 7 },
		     { 84, 4, 0x6123 }, { 88, 4, 0x234 }, { 92, 2, 0x102 }, { 94, 2, 0x304 });
}

/* As above. */
static void test_format_footer__writes_the_documented_bytes(void **state)
{
	(void)state;
	uint8_t block[4096];

	encode(FOOTER, &fixed, block);
	check_frame(FOOTER, block, 0x54464348, 88);
	assert_memory_equal(block, "HCFT", 4);
	CHECK_FIELDS(block, { 32, 8, 0x0102030405060708 }, { 40, 8, 0x1112131415161718 },
		     { 48, 8, 0x2122232425262728 }, { 56, 8, 0x4142434445464748 }, { 64, 4, 3 },
		     { 68, 4, 0x21222 }, { 72, 4, 4 }, { 76, 4, 5 }, { 80, 4, 0x6000 },
		     { 84, 4, 0x31323334 });
}

static const struct format_row fixed_row = {
	.hash = 0x0102030405060708,
	.checksum = 0x1112131415161718,
	.seq = 0x2122232425262728,
	.unit = 0x312,
	.bytes = 0x8001,
	.expiry = 0x51525354,
	.flags = ROW_SUPERSEDES | ROW_FLAGS | 2 << ROW_CODEC_SHIFT,
	.key_bytes = 0x105,
	.slice = 0x61626364,
};

/* As above. */
static void test_format_row__writes_the_documented_bytes(void **state)
{
	(void)state;
	uint8_t out[48];

	memset(out, 0xff, sizeof out);
	format_row_encode(&fixed_row, out);
	CHECK_FIELDS(out, { 0, 8, 0x0102030405060708 }, { 8, 8, 0x1112131415161718 },
		     { 16, 8, 0x2122232425262728 }, { 24, 4, 0x312 }, { 28, 4, 0x8001 },
		     { 32, 4, 0x51525354 }, { 36, 4, 0x61626364 }, { 40, 2, 0x105 },
		     { 42, 1, 2 | 4 | 64 }, { 43, 1, 0 }, { 44, 4, 0 });
}

/* ---- there and back ---- */

static void random_any(struct prng *prng, struct any *any)
{
	memset(any, 0, sizeof *any);
	sample_super(prng, 1 + prng_below(prng, 4), &any->super);
	memcpy(any->super.uuid, uuid, sizeof uuid);
	any->super.compat = (uint32_t)prng_next(prng);
	any->super.ro_compat = (uint32_t)prng_next(prng);
	sample_root(prng, &any->super, &any->root);
	any->segment = (struct format_segment){
		.generation = prng_next(prng),
		.born_seq = prng_next(prng),
		.partition = prng_below(prng, FORMAT_PARTITIONS_MAX),
		.segment = prng_below(prng, FORMAT_SEGMENTS_MAX),
		.lane = prng_below(prng, LANES),
		.created = (uint32_t)prng_next(prng),
	};
	const uint32_t blocks = 1 + prng_below(prng, 50);
	const uint32_t rows = prng_below(prng, 80);
	any->batch = (struct format_batch){
		.generation = prng_next(prng),
		.flush = prng_next(prng),
		.first_seq = prng_next(prng),
		.partition = prng_below(prng, FORMAT_PARTITIONS_MAX),
		.segment = prng_below(prng, FORMAT_SEGMENTS_MAX),
		.offset = FORMAT_BLOCK * (1 + prng_below(prng, 900)),
		.bytes = FORMAT_BLOCK * blocks,
		.rows = rows,
		.table = FORMAT_BATCH_HEADER,
		.table_bytes = rows * FORMAT_ROW,
		.part = 3,
		.parts = (uint16_t)(4 + prng_below(prng, 60000)),
		.table_checksum = prng_next(prng),
	};
	if (any->batch.table + any->batch.table_bytes > any->batch.bytes)
		any->batch.rows = any->batch.table_bytes = 0;
	any->footer = (struct format_footer){
		.generation = prng_next(prng),
		.born_seq = prng_next(prng),
		.last_flush = prng_next(prng),
		.partition = prng_below(prng, FORMAT_PARTITIONS_MAX),
		.segment = prng_below(prng, FORMAT_SEGMENTS_MAX),
		.lane = prng_below(prng, LANES),
		.rows = rows,
		.table = FORMAT_BLOCK * (1 + prng_below(prng, 1000)),
		.expiry_max = (uint32_t)prng_next(prng),
		.table_checksum = prng_next(prng),
	};
}

/* What is read back is not what was written. */
static void test_format__random_structures_survive(void **state)
{
	(void)state;
	uint8_t block[4096];
	struct prng prng;
	struct any any, back;

	test_prng(&prng);
	for (int round = 0; round < 500; round++) {
		random_any(&prng, &any);
		memset(&back, 0, sizeof back);
		for (enum kind kind = 0; kind < KINDS; kind++) {
			encode(kind, &any, block);
			assert_int_equal(decode(kind, block, &back), 0);
		}
		assert_memory_equal(&back, &any, sizeof any);
	}
}

/* A row that is read back is not the one written. */
static void test_format_row__survives(void **state)
{
	(void)state;
	uint8_t out[48];
	struct format_row back;

	memset(&back, 0, sizeof back);
	format_row_encode(&fixed_row, out);
	assert_int_equal(format_row_decode(out, SEGMENT_BYTES, &back), 0);
	assert_int_equal(back.hash, fixed_row.hash);
	assert_int_equal(back.checksum, fixed_row.checksum);
	assert_int_equal(back.seq, fixed_row.seq);
	assert_int_equal(back.unit, fixed_row.unit);
	assert_int_equal(back.bytes, fixed_row.bytes);
	assert_int_equal(back.expiry, fixed_row.expiry);
	assert_int_equal(back.flags, fixed_row.flags);
	assert_int_equal(back.key_bytes, fixed_row.key_bytes);
	assert_int_equal(back.slice, fixed_row.slice);
}

/* ---- damage ---- */

/* A flipped bit is taken for contents (the original's superblock had no checksum at all). */
static void test_format__every_flipped_bit_is_an_error(void **state)
{
	(void)state;
	uint8_t block[4096];

	for (enum kind kind = 0; kind < KINDS; kind++) {
		struct any back, untouched;
		memset(&back, 0x5a, sizeof back);
		untouched = back;
		encode(kind, &fixed, block);
		for (size_t bit = 0; bit < kind_bytes[kind] * 8; bit++) {
			block[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(decode(kind, block, &back), HAUL_ECORRUPT);
			block[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		assert_memory_equal(&back, &untouched, sizeof back);
		assert_int_equal(decode(kind, block, &back), 0);
	}
}

/* Half a block, the rest zeros, or of what was there before, is taken for a whole one. */
static void test_format__every_truncation_is_an_error(void **state)
{
	(void)state;
	uint8_t whole[4096], cut[4096];
	struct any back;

	for (enum kind kind = 0; kind < KINDS; kind++) {
		size_t filled = kind_bytes[kind];
		encode(kind, &fixed, whole);
		while (whole[filled - 1] == 0)
			filled--;
		for (size_t at = 0; at < filled; at++) {
			memset(cut, 0, sizeof cut);
			memcpy(cut, whole, at);
			assert_int_equal(decode(kind, cut, &back), HAUL_ECORRUPT);
			memset(cut + at, 0xa5, kind_bytes[kind] - at);
			assert_int_equal(decode(kind, cut, &back), HAUL_ECORRUPT);
		}
	}
}

/* A decoder reads outside of the block it was given. */
static void test_format__reads_only_its_block(void **state)
{
	(void)state;
	struct any back;

	for (enum kind kind = 0; kind < KINDS; kind++) {
		struct test_guard guard;
		test_guard_open(&guard, kind_bytes[kind]);
		encode(kind, &fixed, guard.data);
		assert_int_equal(decode(kind, guard.data, &back), 0);
		test_guard_close(&guard);
	}
}

/* A block that another cache left on the device is taken for ours. */
static void test_format__other_caches_blocks_are_stale(void **state)
{
	(void)state;
	uint8_t block[4096];
	struct any back;

	for (enum kind kind = ROOT; kind < KINDS; kind++) {
		encode(kind, &fixed, block);
		assert_int_equal(decode_of(kind, block, other_uuid, &back), HAUL_ESTALE);
	}
}

/* A newer format is read as if it were this one, or a flipped bit sends people to look for an
 * update. */
static void test_format__newer_versions_are_told(void **state)
{
	(void)state;
	uint8_t block[4096];
	struct any back;

	for (enum kind kind = 0; kind < KINDS; kind++) {
		encode(kind, &fixed, block);
		le32_store(block + 8, 2);
		assert_int_equal(decode(kind, block, &back), HAUL_ECORRUPT);
		seal(kind, block);
		assert_int_equal(decode(kind, block, &back), HAUL_EVERSION);
	}
}

/* A structure of one kind is taken for another's. */
static void test_format__kinds_are_told_apart(void **state)
{
	(void)state;
	uint8_t block[4096];
	struct any back;

	for (enum kind kind = 0; kind < KINDS; kind++) {
		memset(block, 0, sizeof block);
		encode(kind, &fixed, block);
		for (enum kind other = 0; other < KINDS; other++)
			assert_int_equal(decode(other, block, &back),
					 other == kind ? 0 : HAUL_ECORRUPT);
	}
}

/* Features of later versions: one that may be ignored must not lock people out, one that may not
 * must. */
static void test_format_super__feature_bits(void **state)
{
	(void)state;
	struct format_super super = fixed.super, back;
	uint8_t block[4096];

	super.compat = 1U << 31;
	super.ro_compat = 4;
	format_super_encode(&super, block);
	assert_int_equal(format_super_decode(block, &back), 0);
	assert_int_equal(back.compat, 1U << 31);
	assert_int_equal(back.ro_compat, 4);
	super.incompat = 1;
	format_super_encode(&super, block);
	assert_int_equal(format_super_decode(block, &back), HAUL_EVERSION);
}

/* ---- numbers that lead astray, behind a right checksum ---- */

struct astray {
	enum kind kind;
	uint32_t at, width;
	uint64_t value;
};

static const struct astray astray[] = {
	{ SUPER, 48, 8, 0x20000001 },                   /* size: no whole blocks */
	{ SUPER, 48, 8, 0x1e100000 + 0x3000 - 0x1000 }, /* size: the segments do not fit */
	{ SUPER, 48, 8, UINT64_MAX - 4095 },            /* size: no file offset */
	{ SUPER, 64, 8, 0x2000 },                       /* segments in the roots */
	{ SUPER, 64, 8, 0x100200 },                     /* segments off the blocks */
	{ SUPER, 64, 8, UINT64_MAX - 4095 },            /* segments far behind the end */
	{ SUPER, 72, 8, 0 },                            /* no entries */
	{ SUPER, 72, 8, UINT64_C(1) << 60 },            /* more entries than rows fit */
	{ SUPER, 80, 4, 0 },                            /* partitions */
	{ SUPER, 80, 4, 65 },
	{ SUPER, 84, 4, 0 }, /* segment size */
	{ SUPER, 84, 4, 32768 },
	{ SUPER, 84, 4, 1 << 27 },
	{ SUPER, 84, 4, 0x400001 },
	{ SUPER, 88, 4, 0 }, /* segments */
	{ SUPER, 88, 4, (1 << 18) + 1 },
	{ ROOT, 88, 4, 64 },  /* partition */
	{ ROOT, 92, 4, 129 }, /* more bad segments than fit */
	{ ROOT, 92, 4, UINT32_MAX },
	{ ROOT, 112, 4, 1 << 18 },       /* a bad segment that cannot be */
	{ ROOT, 116, 4, (1 << 26) + 1 }, /* more good bytes than a segment has */
	{ SEGMENT, 48, 4, 64 },          /* partition */
	{ SEGMENT, 52, 4, 1 << 18 },     /* segment */
	{ SEGMENT, 56, 4, LANES },       /* lane */
	{ BATCH, 64, 4, 64 },
	{ BATCH, 68, 4, 1 << 18 },
	{ BATCH, 72, 4, 0 },                      /* where the segment's header is */
	{ BATCH, 72, 4, 0x5001 },                 /* off the blocks */
	{ BATCH, 72, 4, SEGMENT_BYTES - 0x6000 }, /* ends behind the segment */
	{ BATCH, 72, 4, 0xfffff000 },
	{ BATCH, 76, 4, 0 },
	{ BATCH, 76, 4, 0x7001 },
	{ BATCH, 76, 4, 0xfffff000 },
	{ BATCH, 80, 4, 12 }, /* rows behind the table */
	{ BATCH, 80, 4, UINT32_MAX },
	{ BATCH, 84, 4, 127 }, /* table in the header */
	{ BATCH, 84, 4, 0x7000 - 0x233 },
	{ BATCH, 84, 4, UINT32_MAX },
	{ BATCH, 88, 4, 0xfff },
	{ BATCH, 88, 4, UINT32_MAX },
	{ BATCH, 92, 2, 0x304 }, /* part of parts */
	{ BATCH, 94, 2, 0 },
	{ FOOTER, 64, 4, 64 },
	{ FOOTER, 68, 4, 1 << 18 },
	{ FOOTER, 72, 4, LANES },
	{ FOOTER, 76, 4, (SEGMENT_BYTES - 0x7000) / 48 + 1 }, /* rows run into the footer */
	{ FOOTER, 76, 4, UINT32_MAX },
	{ FOOTER, 80, 4, 0 },
	{ FOOTER, 80, 4, 0x6001 },
	{ FOOTER, 80, 4, SEGMENT_BYTES - 0x1000 },
	{ FOOTER, 80, 4, 0xfffff000 },
};

static void put_field(uint8_t *at, uint32_t width, uint64_t value)
{
	for (uint32_t b = 0; b < width; b++)
		at[b] = (uint8_t)(value >> 8 * b);
}

/* A number out of range, with a right checksum, is handed on to code that relies on it. */
static void test_format__numbers_out_of_range_are_corrupt(void **state)
{
	(void)state;
	uint8_t block[4096];
	struct any back;

	for (size_t i = 0; i < sizeof astray / sizeof astray[0]; i++) {
		const struct astray *a = &astray[i];
		encode(a->kind, &fixed, block);
		put_field(block + a->at, a->width, a->value);
		seal(a->kind, block);
		if (decode(a->kind, block, &back) != HAUL_ECORRUPT)
			fail_msg("kind %d, at %" PRIu32 ", %#" PRIx64 " was taken", (int)a->kind,
				 a->at, a->value);
	}
}

/* Limits refuse what is still possible. */
static void test_format__numbers_at_their_limits_are_good(void **state)
{
	(void)state;
	static const struct astray good[] = {
		{ SUPER, 48, 8, 0x1e100000 + 0x3000 },
		{ SUPER, 64, 8, 0x3000 },
		{ SUPER, 72, 8, 60 * UINT64_C(0x400000) / 48 },
		{ ROOT, 92, 4, 128 },
		{ BATCH, 72, 4, SEGMENT_BYTES - 0x7000 },
		{ BATCH, 80, 4, 11 },
		{ BATCH, 84, 4, 128 },
		{ BATCH, 84, 4, 0x7000 - 0x234 },
		{ FOOTER, 76, 4, (SEGMENT_BYTES - 0x7000) / 48 },
	};
	uint8_t block[4096];
	struct any back;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		encode(good[i].kind, &fixed, block);
		put_field(block + good[i].at, good[i].width, good[i].value);
		seal(good[i].kind, block);
		assert_int_equal(decode(good[i].kind, block, &back), 0);
	}
}

/* Nonsense figures of the disk's model reach those who divide by them, or cost the whole root. */
static void test_format_root__figures_that_are_none_are_unknown(void **state)
{
	(void)state;
	static const uint64_t none[] = { 0x7ff0000000000000, 0x7ff8000000000001, 0xbff0000000000000,
					 0xfff0000000000000 };
	uint8_t block[4096];
	struct format_root back;

	for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
		encode(ROOT, &fixed, block);
		le64_store(block + 56, none[i]);
		seal(ROOT, block);
		assert_int_equal(format_root_decode(block, uuid, &back), 0);
		assert_true(back.model.write_bandwidth == 0);
		assert_true(back.model.sync_ns == 1);
	}
	struct format_root root = fixed.root;
	root.model.read_iops = -1;
	format_root_encode(&root, uuid, block);
	assert_int_equal(le64_load(block + 72), 0);
}

/* ---- rows ---- */

/* A row leads a read outside of its segment, or to a codec that does not exist. */
static void test_format_row__out_of_range_is_corrupt(void **state)
{
	(void)state;
	static const struct field wrong[] = {
		{ 0, 8, 0 },                                  /* no hash */
		{ 24, 4, (SEGMENT_BYTES - 0x8001) / 64 + 1 }, /* ends behind the segment */
		{ 24, 4, UINT32_MAX },
		{ 28, 4, 1049601 }, /* longer than a value may be */
		{ 28, 4, UINT32_MAX },
		{ 28, 4, 3 }, /* client flags that are not there */
		{ 40, 2, 0 }, /* keys */
		{ 40, 2, 521 },
		{ 42, 1, 0x80 },          /* flag */
		{ 42, 1, 3 << 5 },        /* codec */
		{ 42, 1, ROW_TOMBSTONE }, /* with a value */
	};
	uint8_t out[48];
	struct format_row back;

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		format_row_encode(&fixed_row, out);
		put_field(out + wrong[i].at, wrong[i].width, wrong[i].value);
		if (format_row_decode(out, SEGMENT_BYTES, &back) != HAUL_ECORRUPT)
			fail_msg("at %" PRIu32 ", %#" PRIx64 " was taken", wrong[i].at,
				 wrong[i].value);
	}
}

/* ---- places ---- */

/* A value lies so that reading it costs a block more than it must, or space is wasted for it. */
static void test_format_place__saves_a_block_for_at_most_a_quarter(void **state)
{
	(void)state;
	/* next unit is good enough */
	assert_int_equal(format_place(4096, 4096), 4096);
	assert_int_equal(format_place(200, 100), 256);
	assert_int_equal(format_place(256, 0), 256);
	/* a block is saved, and little skipped */
	assert_int_equal(format_place(4096 + 3900, 4096), 8192);
	assert_int_equal(format_place(4096 + 3072, 4096), 8192);
	/* too much would be skipped */
	assert_int_equal(format_place(4096 + 3071, 4096 - 64), 4096 + 3072);
	assert_int_equal(format_place(4096 + 100, 4096), 4096 + 128);
	/* starting at a block would save none */
	assert_int_equal(format_place(4096 + 100, 4200), 4096 + 128);
	/* the first value may leave the block to the table */
	assert_int_equal(format_place(128, 4096), 4096);
	assert_int_equal(format_place(128, 3968), 128);
	assert_int_equal(format_place(128, 3969), 4096);
	assert_int_equal(format_place(128, 4200), 128);
}

/* As above, against the rule in other words. */
static void test_format_place__keeps_the_rule_everywhere(void **state)
{
	(void)state;
	struct prng prng;

	test_prng(&prng);
	for (int i = 0; i < 100000; i++) {
		const uint32_t at = 129 + prng_below(&prng, 1 << 20);
		const uint32_t bytes = prng_below(&prng, 40000);
		const uint32_t place = format_place(at, bytes);
		const uint32_t unit = (at + 63) & ~63U;
		const uint32_t spans = (place % 4096 + bytes + 4095) / 4096;
		const uint32_t unit_spans = (unit % 4096 + bytes + 4095) / 4096;
		assert_true(place >= at && place % 64 == 0);
		assert_true(place == unit || (place % 4096 == 0 && place - unit <= bytes / 4));
		assert_true(place == unit || spans < unit_spans);
		if (unit_spans > (bytes + 4095) / 4096 && (4096 - unit % 4096) <= bytes / 4)
			assert_int_equal(place % 4096, 0);
	}
}

/* A footer is given too little room. */
static void test_format_footer_bytes__holds_its_rows(void **state)
{
	(void)state;
	assert_int_equal(format_footer_bytes(0), 4096);
	assert_int_equal(format_footer_bytes(1), 8192);
	assert_int_equal(format_footer_bytes(85), 8192);
	assert_int_equal(format_footer_bytes(86), 12288);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format_super__writes_the_documented_bytes),
		cmocka_unit_test(test_format_root__writes_the_documented_bytes),
		cmocka_unit_test(test_format_segment__writes_the_documented_bytes),
		cmocka_unit_test(test_format_batch__writes_the_documented_bytes),
		cmocka_unit_test(test_format_footer__writes_the_documented_bytes),
		cmocka_unit_test(test_format_row__writes_the_documented_bytes),
		cmocka_unit_test(test_format__random_structures_survive),
		cmocka_unit_test(test_format_row__survives),
		cmocka_unit_test(test_format__every_flipped_bit_is_an_error),
		cmocka_unit_test(test_format__every_truncation_is_an_error),
		cmocka_unit_test(test_format__reads_only_its_block),
		cmocka_unit_test(test_format__other_caches_blocks_are_stale),
		cmocka_unit_test(test_format__newer_versions_are_told),
		cmocka_unit_test(test_format__kinds_are_told_apart),
		cmocka_unit_test(test_format_super__feature_bits),
		cmocka_unit_test(test_format__numbers_out_of_range_are_corrupt),
		cmocka_unit_test(test_format__numbers_at_their_limits_are_good),
		cmocka_unit_test(test_format_root__figures_that_are_none_are_unknown),
		cmocka_unit_test(test_format_row__out_of_range_is_corrupt),
		cmocka_unit_test(test_format_place__saves_a_block_for_at_most_a_quarter),
		cmocka_unit_test(test_format_place__keeps_the_rule_everywhere),
		cmocka_unit_test(test_format_footer_bytes__holds_its_rows),
	};

	return cmocka_run_group_tests_name("format", tests, NULL, NULL);
}
