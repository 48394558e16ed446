#include <errno.h>
#include <string.h>

#include "disk/format.h"
#include "lib/testlib.h"

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

static struct format_super layout(uint64_t bytes, uint32_t partitions, uint32_t segment_bytes)
{
	struct format_super super = { 0 };

	assert_int_equal(format_layout(&super, bytes, partitions, segment_bytes, NULL), 0);
	return super;
}

/* Segments are of another size than documented. */
static void test_layout__segment_size_follows_the_file(void **state)
{
	(void)state;
	assert_int_equal(layout(GIB(8), 1, 0).segment_bytes, MIB(16));
	assert_int_equal(layout(GIB(100), 16, 0).segment_bytes, MIB(16));
	assert_int_equal(layout(GIB(8) - 1, 1, 0).segment_bytes, MIB(4));
	assert_int_equal(layout(GIB(1), 4, 0).segment_bytes, MIB(4));
	/* few segments are coarse: smaller ones, as long as the largest value fits */
	assert_int_equal(layout(MIB(512), 4, 0).segment_bytes, MIB(2));
	assert_int_equal(layout(MIB(80), 4, 0).segment_bytes, MIB(2));
	/* below that, only so that there are enough */
	assert_int_equal(layout(MIB(16), 4, 0).segment_bytes, KIB(256));
	assert_int_equal(layout(MIB(1), 1, 0).segment_bytes, KIB(64));
	/* more than FORMAT_SEGMENTS_MAX of 16 MiB */
	assert_int_equal(layout(GIB(16) << 10, 2, 0).segment_bytes, MIB(32));
	assert_int_equal(layout(GIB(1) << 20, 1, 0).segment_bytes, MIB(64));
	assert_int_equal(layout(GIB(1) << 20, 1, 0).segments, FORMAT_SEGMENTS_MAX);
	assert_int_equal(layout(GIB(1), 1, KIB(64)).segment_bytes, KIB(64));
}

struct span {
	uint64_t offset, bytes;
};

static void check_span(struct span *last, uint64_t offset, uint64_t bytes)
{
	assert_true(offset >= last->offset + last->bytes);
	assert_true(offset % FORMAT_BLOCK == 0);
	*last = (struct span){ offset, bytes };
}

/* Two structures lie on each other, or something lies behind the end. */
static void test_layout__nothing_overlaps(void **state)
{
	(void)state;
	struct prng prng;

	test_prng(&prng);
	for (int i = 0; i < 300; i++) {
		const uint32_t partitions = 1 + prng_below(&prng, FORMAT_PARTITIONS_MAX);
		const uint64_t bytes = MIB(40) + prng_next(&prng) % GIB(3);
		const struct format_super super = layout(bytes, partitions, 0);
		struct span last = { 0, 0 };
		check_span(&last, format_super_offset(&super, 0), FORMAT_BLOCK);
		for (uint32_t p = 0; p < partitions; p++)
			check_span(&last, format_root_offset(&super, p, 0), FORMAT_BLOCK);
		for (uint32_t p = 0; p < partitions; p++) {
			check_span(&last, format_segment_offset(&super, p, 0), super.segment_bytes);
			check_span(&last, format_segment_offset(&super, p, super.segments - 1),
				   super.segment_bytes);
		}
		for (uint32_t p = 0; p < partitions; p++)
			check_span(&last, format_root_offset(&super, p, 1), FORMAT_BLOCK);
		check_span(&last, format_super_offset(&super, 1), FORMAT_BLOCK);
		assert_true(last.offset + last.bytes == super.bytes && super.bytes <= bytes);
		assert_true(bytes - super.bytes < FORMAT_BLOCK);
		assert_true(super.segments >= FORMAT_SEGMENTS_MIN);
	}
}

/* What layout gives, a decoder refuses. */
static void test_layout__is_accepted_by_the_decoder(void **state)
{
	(void)state;
	static const uint64_t sizes[] = { MIB(1), MIB(2) + 77, GIB(1), GIB(4096), GIB(1) << 20 };
	uint8_t block[FORMAT_BLOCK];
	struct format_super back;

	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct format_super super = layout(sizes[i], 1, 0);
		format_super_encode(&super, block);
		assert_int_equal(format_super_decode(block, &back), 0);
		assert_memory_equal(&back, &super, sizeof super);
	}
}

/* A file that is too small becomes a cache that cannot work, or nobody is told what would do. */
static void test_layout__too_small_is_told_with_figures(void **state)
{
	(void)state;
	/* block 0, 1 root; segments from 64 KiB on; 1 root, superblock */
	const uint64_t least = KIB(64) + 8 * KIB(64) + 2 * FORMAT_BLOCK;
	struct format_super super = { .entries_max = 5 };
	struct haul_err err = { 0 };

	assert_int_equal(format_layout(&super, least, 1, 0, &err), 0);
	assert_int_equal(super.segments, 8);
	super.segments = 99;
	assert_int_equal(format_layout(&super, least - 1, 1, 0, &err), -ENOSPC);
	assert_int_equal(super.segments, 99);
	assert_non_null(strstr(err.text, "598015 bytes are too few"));
	assert_non_null(strstr(err.text, "at least 598016 are needed"));
	assert_int_equal(format_layout(&super, MIB(64), 1, MIB(16), &err), -ENOSPC);
	assert_int_equal(format_layout(&super, 0, 1, 0, &err), -ENOSPC);
	assert_int_equal(format_layout(&super, least, 2, 0, &err), -ENOSPC);
}

/* Sizes and counts that cannot be are taken. */
static void test_layout__impossible_wishes_are_refused(void **state)
{
	(void)state;
	struct format_super super = { 0 };
	struct haul_err err = { 0 };

	assert_int_equal(format_layout(&super, GIB(1), 0, 0, &err), -EINVAL);
	assert_int_equal(format_layout(&super, GIB(1), 65, 0, &err), -EINVAL);
	assert_non_null(strstr(err.text, "65 partitions"));
	assert_int_equal(format_layout(&super, GIB(1), 1, KIB(32), &err), -EINVAL);
	assert_int_equal(format_layout(&super, GIB(1), 1, MIB(128), &err), -EINVAL);
	assert_int_equal(format_layout(&super, GIB(1), 1, MIB(1) + 4096, &err), -EINVAL);
	assert_int_equal(format_layout(&super, UINT64_MAX, 1, 0, &err), -EINVAL);
}

/* The index is sized for more entries than can be, or for none. */
static void test_layout__entries_follow_the_size(void **state)
{
	(void)state;
	struct format_super super = { 0 };

	assert_int_equal(format_layout(&super, GIB(1), 2, 0, NULL), 0);
	assert_int_equal(super.entries_max, (uint64_t)super.segments * super.segment_bytes / 4096);
	super.entries_max = 1000;
	assert_int_equal(format_layout(&super, GIB(1), 2, 0, NULL), 0);
	assert_int_equal(super.entries_max, 1000);
	super.entries_max = UINT64_MAX;
	assert_int_equal(format_layout(&super, GIB(1), 2, 0, NULL), 0);
	assert_int_equal(super.entries_max, (uint64_t)super.segments * super.segment_bytes / 48);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout__segment_size_follows_the_file),
		cmocka_unit_test(test_layout__nothing_overlaps),
		cmocka_unit_test(test_layout__is_accepted_by_the_decoder),
		cmocka_unit_test(test_layout__too_small_is_told_with_figures),
		cmocka_unit_test(test_layout__impossible_wishes_are_refused),
		cmocka_unit_test(test_layout__entries_follow_the_size),
	};

	return cmocka_run_group_tests_name("layout", tests, NULL, NULL);
}
