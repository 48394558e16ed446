/* Structures of the disk that are damaged, of another cache, of another version, or that lie. */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "disk/format_any.h"
#include "lib/testlib.h"

static const uint8_t other_uuid[16] = "0123456789abcdeF";

/* ---- damage ---- */

/* A flipped bit is taken for contents (the original's superblock had no checksum at all). */
static void test_format__every_flipped_bit_is_an_error(void **state)
{
	(void)state;
	uint8_t block[4096];

	for (enum any_kind kind = 0; kind < KINDS; kind++) {
		struct any back, untouched;
		memset(&back, 0x5a, sizeof back);
		untouched = back;
		any_encode(kind, &any_fixed, block);
		for (size_t bit = 0; bit < any_bytes[kind] * 8; bit++) {
			block[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(any_decode(kind, block, &back), HAUL_ECORRUPT);
			block[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		assert_memory_equal(&back, &untouched, sizeof back);
		assert_int_equal(any_decode(kind, block, &back), 0);
	}
}

/* Half a block, the rest zeros, or of what was there before, is taken for a whole one. */
static void test_format__every_truncation_is_an_error(void **state)
{
	(void)state;
	uint8_t whole[4096], cut[4096];
	struct any back;

	for (enum any_kind kind = 0; kind < KINDS; kind++) {
		size_t filled = any_bytes[kind];
		any_encode(kind, &any_fixed, whole);
		while (whole[filled - 1] == 0)
			filled--;
		for (size_t at = 0; at < filled; at++) {
			memset(cut, 0, sizeof cut);
			memcpy(cut, whole, at);
			assert_int_equal(any_decode(kind, cut, &back), HAUL_ECORRUPT);
			memset(cut + at, 0xa5, any_bytes[kind] - at);
			assert_int_equal(any_decode(kind, cut, &back), HAUL_ECORRUPT);
		}
	}
}

/* A decoder reads outside of the block it was given. */
static void test_format__reads_only_its_block(void **state)
{
	(void)state;
	struct any back;

	for (enum any_kind kind = 0; kind < KINDS; kind++) {
		struct test_guard guard;
		test_guard_open(&guard, any_bytes[kind]);
		any_encode(kind, &any_fixed, guard.data);
		assert_int_equal(any_decode(kind, guard.data, &back), 0);
		test_guard_close(&guard);
	}
}

/* A block that another cache left on the device is taken for ours. */
static void test_format__other_caches_blocks_are_stale(void **state)
{
	(void)state;
	uint8_t block[4096];
	struct any back;

	for (enum any_kind kind = ROOT; kind < KINDS; kind++) {
		any_encode(kind, &any_fixed, block);
		assert_int_equal(any_decode_of(kind, block, other_uuid, &back), HAUL_ESTALE);
	}
}

/* A newer format is read as if it were this one, or a flipped bit sends people to look for an
 * update. */
static void test_format__newer_versions_are_told(void **state)
{
	(void)state;
	uint8_t block[4096];
	struct any back;

	for (enum any_kind kind = 0; kind < KINDS; kind++) {
		any_encode(kind, &any_fixed, block);
		le32_store(block + 8, 2);
		assert_int_equal(any_decode(kind, block, &back), HAUL_ECORRUPT);
		any_seal(kind, block);
		assert_int_equal(any_decode(kind, block, &back), HAUL_EVERSION);
	}
}

/* A structure of one kind is taken for another's. */
static void test_format__kinds_are_told_apart(void **state)
{
	(void)state;
	uint8_t block[4096];
	struct any back;

	for (enum any_kind kind = 0; kind < KINDS; kind++) {
		memset(block, 0, sizeof block);
		any_encode(kind, &any_fixed, block);
		for (enum any_kind other = 0; other < KINDS; other++)
			assert_int_equal(any_decode(other, block, &back),
					 other == kind ? 0 : HAUL_ECORRUPT);
	}
}

/* Features of later versions: one that may be ignored must not lock people out, one that may not
 * must. */
static void test_format_super__feature_bits(void **state)
{
	(void)state;
	struct format_super super = any_fixed.super, back;
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
	enum any_kind kind;
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
	{ BATCH, 72, 4, 0 },                    /* where the segment's header is */
	{ BATCH, 72, 4, 0x5001 },               /* off the blocks */
	{ BATCH, 72, 4, ANY_SEGMENT - 0x6000 }, /* ends behind the segment */
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
	{ FOOTER, 76, 4, (ANY_SEGMENT - 0x7000) / 48 + 1 }, /* rows run into the footer */
	{ FOOTER, 76, 4, UINT32_MAX },
	{ FOOTER, 80, 4, 0 },
	{ FOOTER, 80, 4, 0x6001 },
	{ FOOTER, 80, 4, ANY_SEGMENT - 0x1000 },
	{ FOOTER, 80, 4, 0xfffff000 },
};

/* A number out of range, with a right checksum, is handed on to code that relies on it. */
static void test_format__numbers_out_of_range_are_corrupt(void **state)
{
	(void)state;
	uint8_t block[4096];
	struct any back;

	for (size_t i = 0; i < sizeof astray / sizeof astray[0]; i++) {
		const struct astray *a = &astray[i];
		any_encode(a->kind, &any_fixed, block);
		any_put(block + a->at, a->width, a->value);
		any_seal(a->kind, block);
		if (any_decode(a->kind, block, &back) != HAUL_ECORRUPT)
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
		{ BATCH, 72, 4, ANY_SEGMENT - 0x7000 },
		{ BATCH, 80, 4, 11 },
		{ BATCH, 84, 4, 128 },
		{ BATCH, 84, 4, 0x7000 - 0x234 },
		{ FOOTER, 76, 4, (ANY_SEGMENT - 0x7000) / 48 },
	};
	uint8_t block[4096];
	struct any back;

	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		any_encode(good[i].kind, &any_fixed, block);
		any_put(block + good[i].at, good[i].width, good[i].value);
		any_seal(good[i].kind, block);
		assert_int_equal(any_decode(good[i].kind, block, &back), 0);
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
		any_encode(ROOT, &any_fixed, block);
		le64_store(block + 56, none[i]);
		any_seal(ROOT, block);
		assert_int_equal(format_root_decode(block, any_uuid, &back), 0);
		assert_true(back.model.write_bandwidth == 0);
		assert_true(back.model.sync_ns == 1);
	}
	struct format_root root = any_fixed.root;
	root.model.read_iops = -1;
	format_root_encode(&root, any_uuid, block);
	assert_int_equal(le64_load(block + 72), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests_name("format", tests, NULL, NULL);
}
