/* Damage to the structures of a cache, from superblocks to batches: found, and put right. */
#include <string.h>

#include "base/bytes.h"
#include "disk/check_lab.h"

/* Damage to a superblock goes unseen until the other one is damaged too. */
static void test_check__superblocks_are_put_right(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	struct check_seen seen;

	for (uint32_t copy = 0; copy < 2; copy++) {
		uint8_t *block =
			io_sim_bytes(lab->disk) + format_super_offset(&lab->volume.super, copy);
		uint8_t before[4096];
		memcpy(before, block, sizeof before);
		block[100] ^= 1;
		struct haul_cache_checked checked = check_lab_look(lab, &seen);
		assert_int_equal(checked.structures, 1);
		assert_int_equal(checked.damaged, 0);
		assert_non_null(strstr(checked.first, copy == 0 ? "superblock 1" : "superblock 2"));
		checked = check_lab_repair(lab, &seen);
		assert_int_equal(checked.repaired, 1);
		assert_memory_equal(block, before, sizeof before);
		check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
	}
	check_lab_close(lab);
}

/* Damage to a root goes unseen; or one that a crash cut in two is called damaged. */
static void test_check__roots_are_put_right(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	struct format_root root[2];
	struct check_seen seen;
	uint8_t *bytes = io_sim_bytes(lab->disk);
	uint8_t *block[2];

	for (uint32_t copy = 0; copy < 2; copy++) {
		block[copy] = bytes + format_root_offset(&lab->volume.super, 0, copy);
		assert_int_equal(
			format_root_decode(block[copy], lab->volume.super.uuid, &root[copy]), 0);
	}
	const uint32_t older = root[0].generation < root[1].generation ? 0 : 1;
	block[older][200] ^= 1;
	struct haul_cache_checked checked = check_lab_look(lab, &seen);
	assert_int_equal(checked.structures, 1);
	assert_non_null(strstr(checked.first, older == 0 ? "root 1" : "root 2"));
	checked = check_lab_repair(lab, &seen);
	assert_int_equal(checked.repaired, 1);
	check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED);

	/* The next one, half written. */
	struct format_root next = root[1 - older];
	next.generation += 10;
	format_root_encode(&next, lab->volume.super.uuid, block[older]);
	next.generation++;
	format_root_encode(&next, lab->volume.super.uuid, block[1 - older]);
	block[1 - older][300] ^= 1;
	checked = check_lab_look(lab, &seen);
	assert_int_equal(checked.structures, 0);
	assert_int_equal(checked.torn, 1);
	check_lab_close(lab);
}

/* Both roots lost stop check, or are not told. */
static void test_check__both_roots_lost_are_told(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	struct check_seen seen;
	uint8_t *bytes = io_sim_bytes(lab->disk);

	for (uint32_t copy = 0; copy < 2; copy++)
		memset(bytes + format_root_offset(&lab->volume.super, 0, copy), 0, 4096);
	struct haul_cache_checked checked = check_lab_look(lab, &seen);
	assert_int_equal(checked.structures, 2);
	assert_int_equal(checked.entries, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
	checked = check_lab_repair(lab, &seen);
	assert_int_equal(checked.repaired, 2);
	check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
	check_lab_served(lab, NULL, 0);
	check_lab_close(lab);
}

/* A segment whose header is lost takes its entries along, and older ones come back in their place,
 * though footer and batches tell all about it. */
static void test_check__headers_are_put_right(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	struct check_seen seen;
	const struct haul_cache_listed listed = check_lab_place(lab, CHECK_LAB_NEW_FROM + 1);
	uint8_t *segment = check_lab_segment(lab, listed.segment);

	for (int how = 0; how < 3; how++) {
		if (how == 0)
			segment[40] ^= 1;
		else
			memset(segment, 0xe5, 4096);
		if (how == 2) /* the batches alone will do */
			memset(segment + CHECK_LAB_SEGMENT - 4096, 0, 4096);
		struct haul_cache_checked checked = check_lab_look(lab, &seen);
		assert_int_equal(checked.structures, 1);
		assert_int_equal(checked.damaged, 0);
		assert_non_null(strstr(checked.first, "the header is damaged"));
		assert_int_equal(checked.entries, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
		if (how == 1) /* without repair, too */
			check_lab_served(lab, NULL, 0);
		checked = check_lab_repair(lab, &seen);
		assert_int_equal(checked.repaired, 1);
		assert_int_equal(checked.entries, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
		check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
	}
	check_lab_served(lab, NULL, 0);
	check_lab_close(lab);
}

/* Where nothing is left to restore a header from, every check finds it again. */
static void test_check__headers_that_are_lost_are_emptied(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	struct check_seen seen;
	const struct haul_cache_listed listed = check_lab_place(lab, 100);
	uint8_t *segment = check_lab_segment(lab, listed.segment);

	segment[40] ^= 1;
	segment[4096 + 40] ^= 1;
	struct haul_cache_checked checked = check_lab_repair(lab, &seen);
	assert_int_equal(checked.structures, 1);
	assert_int_equal(checked.repaired, 1);
	check_lab_clean(lab, checked.entries);
	check_lab_close(lab);
}

/* What lay on the device before it was formatted is called damage. */
static void test_check__what_was_there_before_is_no_damage(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	static const uint8_t other[16] = "another cache's";
	const struct format_segment header = { .generation = 7, .segment = 38, .partition = 0 };
	struct format_segment decoded;
	uint8_t *segment = check_lab_segment(lab, 38);

	assert_int_equal(format_segment_decode(segment, lab->volume.super.uuid, &decoded),
			 HAUL_ECORRUPT);
	memset(segment, 0xe5, CHECK_LAB_SEGMENT);
	format_segment_encode(&header, other, segment);
	memset(check_lab_segment(lab, 39), 0x17, CHECK_LAB_SEGMENT);
	check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
	check_lab_close(lab);
}

/* A damaged footer goes unseen, or costs entries that the batches tell of. */
static void test_check__footers_are_put_right(void **state)
{
	(void)state;
	struct write_lab *lab = check_lab_open();
	struct check_seen seen;
	const struct haul_cache_listed listed = check_lab_place(lab, 100);
	uint8_t *segment = check_lab_segment(lab, listed.segment);

	for (int how = 0; how < 2; how++) {
		if (how == 0) /* the block, or its rows */
			segment[CHECK_LAB_SEGMENT - 4096 + 50] ^= 1;
		else
			segment[le32_load(segment + CHECK_LAB_SEGMENT - 4096 + 80) + 3] ^= 1;
		struct haul_cache_checked checked = check_lab_look(lab, &seen);
		assert_int_equal(checked.structures, 1);
		assert_int_equal(checked.damaged, 0);
		assert_int_equal(checked.entries, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
		assert_non_null(strstr(checked.first, "the footer is damaged"));
		checked = check_lab_repair(lab, &seen);
		assert_int_equal(checked.structures, 1);
		assert_int_equal(checked.repaired, 1);
		check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
	}
	check_lab_served(lab, NULL, 0);
	check_lab_close(lab);
}

/* Entries whose batch is damaged are forgotten by check though the cache would look for them, or
 * cannot be deleted because nobody knows their keys. */
static void test_check__batches_that_lost_their_keys(void **state)
{
	(void)state;
	struct check_seen seen;

	for (int how = 0; how < 2; how++) {
		struct write_lab *lab = check_lab_open();
		const struct haul_cache_listed listed = check_lab_place(lab, 100);
		uint8_t *segment = check_lab_segment(lab, listed.segment);
		struct format_batch batch;
		uint32_t at = 4096;
		for (;;) {
			assert_int_equal(format_batch_decode(segment + at, lab->volume.super.uuid,
							     CHECK_LAB_SEGMENT, &batch),
					 0);
			if (listed.offset < at + batch.bytes)
				break;
			at += batch.bytes;
		}
		if (how == 0) /* the header, or the rows */
			segment[at + 60] ^= 1;
		else
			segment[at + batch.table + 20] ^= 1;
		struct haul_cache_checked checked = check_lab_look(lab, &seen);
		assert_int_equal(checked.structures, 1);
		assert_true(checked.damaged >= 1 && checked.damaged <= batch.rows);
		assert_int_equal(checked.entries, CHECK_LAB_KEYS - CHECK_LAB_DELETED);
		assert_int_equal(seen.unknown, checked.damaged);
		assert_int_equal(seen.entries[100], 0);
		assert_non_null(strstr(checked.first, "lost their keys"));
		const uint64_t damaged = checked.damaged;
		checked = check_lab_repair(lab, &seen);
		assert_int_equal(checked.damaged, damaged);
		assert_int_equal(checked.repaired, damaged + 1);
		check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED - damaged);
		/* And again from the disk: the tombstones that have no key count too. */
		check_lab_clean(lab, CHECK_LAB_KEYS - CHECK_LAB_DELETED - damaged);
		check_lab_close(lab);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_check__superblocks_are_put_right),
		cmocka_unit_test(test_check__roots_are_put_right),
		cmocka_unit_test(test_check__both_roots_lost_are_told),
		cmocka_unit_test(test_check__headers_are_put_right),
		cmocka_unit_test(test_check__headers_that_are_lost_are_emptied),
		cmocka_unit_test(test_check__what_was_there_before_is_no_damage),
		cmocka_unit_test(test_check__footers_are_put_right),
		cmocka_unit_test(test_check__batches_that_lost_their_keys),
	};

	return cmocka_run_group_tests_name("check", tests, NULL, NULL);
}
