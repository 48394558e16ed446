/* The format of the disk: the documented bytes, and back again. */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "disk/format_any.h"
#include "disk/format_sample.h"
#include "lib/testlib.h"

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
static void check_frame(enum any_kind kind, const uint8_t *in, uint32_t magic, uint32_t end)
{
	CHECK_FIELDS(in, { 0, 4, magic }, { 8, 4, 1 }, { 12, 4, 0 });
	assert_memory_equal(in + 16, any_uuid, 16);
	assert_int_equal(le32_load(in + 4), crc32c_table(0, in + 8, any_bytes[kind] - 8));
	for (size_t i = end; i < any_bytes[kind]; i++)
		assert_int_equal(in[i], 0);
}

/* Caches that exist could not be read any more. */
static void test_format_super__writes_the_documented_bytes(void **state)
{
	(void)state;
	uint8_t block[4096];

	any_encode(SUPER, &any_fixed, block);
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

	any_encode(ROOT, &any_fixed, block);
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

	any_encode(SEGMENT, &any_fixed, block);
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

	any_encode(BATCH, &any_fixed, header);
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

	any_encode(FOOTER, &any_fixed, block);
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
	memcpy(any->super.uuid, any_uuid, sizeof any_uuid);
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
		for (enum any_kind kind = 0; kind < KINDS; kind++) {
			any_encode(kind, &any, block);
			assert_int_equal(any_decode(kind, block, &back), 0);
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
	assert_int_equal(format_row_decode(out, ANY_SEGMENT, &back), 0);
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

/* ---- rows ---- */

/* A row leads a read outside of its segment, or to a codec that does not exist. */
static void test_format_row__out_of_range_is_corrupt(void **state)
{
	(void)state;
	static const struct field wrong[] = {
		{ 0, 8, 0 },                                /* no hash */
		{ 24, 4, (ANY_SEGMENT - 0x8001) / 64 + 1 }, /* ends behind the segment */
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
		any_put(out + wrong[i].at, wrong[i].width, wrong[i].value);
		if (format_row_decode(out, ANY_SEGMENT, &back) != HAUL_ECORRUPT)
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
		cmocka_unit_test(test_format_row__out_of_range_is_corrupt),
		cmocka_unit_test(test_format_place__saves_a_block_for_at_most_a_quarter),
		cmocka_unit_test(test_format_place__keeps_the_rule_everywhere),
		cmocka_unit_test(test_format_footer_bytes__holds_its_rows),
	};

	return cmocka_run_group_tests_name("format", tests, NULL, NULL);
}
