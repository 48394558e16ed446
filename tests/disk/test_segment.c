#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"
#include "write_lab.h"

enum { MIB = 1 << 20, SEGMENT = 262144, DISK = 24 * SEGMENT };

static struct write_lab *lab_open(void)
{
	struct write_lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	lab->options.fixed = true;
	lab->options.buffer_bytes = 4 * MIB;
	write_lab_open(lab, DISK, SEGMENT);
	return lab;
}

static void lab_free(struct write_lab *lab)
{
	assert_int_equal(write_lab_close(lab), 0);
	free(lab);
}

/* Store durably; turns until there is room. */
static void put(struct write_lab *lab, uint32_t number, uint32_t bytes)
{
	int rc;
	for (uint32_t tries = 0; tries < 1000; tries++) {
		rc = write_lab_put(lab, number, bytes, false);
		if (rc != -EAGAIN)
			break;
		os_sim_advance(&lab->os, NS_PER_MS);
		write_lab_settle(lab);
	}
	assert_int_equal(rc, 0);
}

static void flush(struct write_lab *lab)
{
	shard_flush(lab->shard, NULL);
	write_lab_settle(lab);
}

static bool is_hit(struct write_lab *lab, uint32_t number)
{
	bool good;
	enum haul_cache_status status = write_lab_get(lab, number, &good);
	assert_int_equal(good, status == HAUL_CACHE_HIT);
	assert_true(good || status == HAUL_CACHE_MISS);
	return good;
}

static uint32_t segment_of(const struct write_lab *lab, uint32_t number)
{
	char text[32];
	struct cache_key key = write_lab_key(lab, number, text);
	struct index_entry entry;
	const struct index_slot *slot = index_find(&lab->shard->index, key.hash);
	assert_non_null(slot);
	index_unpack(slot, &entry);
	return entry.segment;
}

static int footer_of(const struct write_lab *lab, uint32_t segment, struct format_footer *footer)
{
	const uint8_t *block = io_sim_bytes(lab->disk) + segment_offset(lab->shard, segment) +
			       SEGMENT - FORMAT_BLOCK;
	return format_footer_decode(block, lab->volume.super.uuid, SEGMENT, footer);
}

/* Segments are taken in turn, each use with a generation of its own; the last FREE_MIN are for what
 * makes room. */
static void test_segment__keeps_some_for_reclaim(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct shard *shard = lab->shard;
	uint32_t free_count = shard->free_count;
	uint64_t before = 0;
	for (uint32_t i = 0; i < free_count; i++) {
		bool last = i >= free_count - FREE_MIN;
		if (last)
			assert_int_equal(segment_take(shard, LANE_MAIN, false), SEGMENT_NONE);
		uint32_t s = segment_take(shard, LANE_MAIN, last);
		assert_true(s < lab->volume.super.segments);
		assert_true(shard->segments[s].generation > before);
		before = shard->segments[s].generation;
		segment_seal(shard, LANE_MAIN); /* nothing is in it: it is free again */
		assert_int_equal(shard->free_count, free_count - i);
		shard->free_count--; /* as if it were taken */
		shard->segments[s].state = SEGMENT_RECLAIM;
	}
	assert_int_equal(segment_take(shard, LANE_MAIN, true), SEGMENT_NONE);
	for (uint32_t s = 0; s < lab->volume.super.segments; s++)
		shard->segments[s].state = SEGMENT_FREE;
	shard->free_count = free_count;
	assert_int_equal(shard->lanes[LANE_MAIN].count, 0);
	lab_free(lab);
}

/* A footer lists the rows of its whole segment, and is written only when all of it is durable. */
static void test_segment__footer_follows_what_it_lists(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	struct format_footer footer;
	put(lab, 1, 20000);
	uint32_t first = segment_of(lab, 1);
	uint32_t number = 2;
	while (lab->shard->segments[first].state == SEGMENT_OPEN)
		put(lab, number++, 20000);
	assert_int_equal(lab->shard->segments[first].state, SEGMENT_SEALED);
	assert_true(footer_of(lab, first, &footer) < 0);
	flush(lab);
	assert_int_equal(footer_of(lab, first, &footer), 0);
	assert_int_equal(footer.segment, first);
	assert_int_equal(footer.rows, lab->shard->segments[first].rows);
	assert_int_equal(footer.generation, lab->shard->segments[first].generation);
	assert_int_equal(footer.expiry_max, UINT32_MAX);
	assert_true(footer.last_flush >= lab->shard->segments[first].last_flush);
	const uint8_t *table =
		io_sim_bytes(lab->disk) + segment_offset(lab->shard, first) + footer.table;
	assert_int_equal(footer.table_checksum,
			 format_checksum(table, (size_t)footer.rows * FORMAT_ROW));
	for (uint32_t i = 1; i < number; i++)
		assert_true(is_hit(lab, i));
	lab_free(lab);
}

/* A footer that cannot be written costs nothing: its segment is walked when the cache is opened. */
static void test_segment__lives_without_a_footer(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	for (uint32_t i = 0; i < 10; i++)
		put(lab, i, 20000);
	flush(lab);
	uint32_t s = segment_of(lab, 0);
	/* Two writes: the flush at close finds nothing but the root, then come the footers. */
	segment_seal(lab->shard, LANE_NEW);
	io_sim_fail(lab->disk, IO_WRITE, 0, 1, -EIO);
	write_lab_settle(lab);
	assert_false(lab->shard->segments[s].sealed_footer);
	assert_true(lab->shard->flush_stats.extra[FLUSH_FOOTERS_LOST] == 1);
	write_lab_reopen(lab);
	for (uint32_t i = 0; i < 10; i++)
		assert_true(is_hit(lab, i));
	lab_free(lab);
}

/* What is quarantined behind its good part is forgotten, and what is before stays, also after an
 * open; nothing is written there again. */
static void test_segment__quarantine_keeps_the_good_part(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	put(lab, 1, 5000);
	flush(lab);
	uint32_t s = segment_of(lab, 1);
	uint32_t good = lab->shard->segments[s].durable;
	put(lab, 2, 5000);
	flush(lab);
	assert_int_equal(segment_of(lab, 2), s);
	segment_quarantine(lab->shard, s, good);
	assert_true(is_hit(lab, 1));
	assert_false(is_hit(lab, 2));
	put(lab, 3, 5000);
	flush(lab);
	assert_int_not_equal(segment_of(lab, 3), s);
	write_lab_reopen(lab);
	assert_true(is_hit(lab, 1));
	assert_false(is_hit(lab, 2));
	assert_true(is_hit(lab, 3));
	assert_int_equal(lab->shard->segments[s].state, SEGMENT_BAD);
	struct haul_cache_stat stat = { 0 };
	shard_stat(lab->shard, &stat);
	assert_int_equal(stat.segments_bad, 1);
	lab_free(lab);
}

/* A cache that is full makes room: every store is taken in the end, never "no space" (defect 11),
 * and what is there is right. */
static void test_segment__full_cache_takes_more(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	uint32_t count = 4 * DISK / 20000;
	for (uint32_t i = 0; i < count; i++)
		put(lab, i, 20000);
	flush(lab);
	assert_true(is_hit(lab, count - 1));
	uint32_t hits = 0;
	for (uint32_t i = 0; i < count; i++)
		hits += is_hit(lab, i);
	assert_true(hits > count / 16 && hits < count / 2);
	lab_free(lab);
}

/* A file of zeros is an empty cache, and every transfer to it is aligned in memory, offset and
 * length (defect 10; the lab's spy looks at each). */
static void test_segment__fresh_file_is_an_empty_cache(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	assert_false(is_hit(lab, 1));
	assert_int_equal(lab->shard->free_count, lab->volume.super.segments);
	put(lab, 1, 1);
	put(lab, 2, 4097);
	flush(lab);
	write_lab_reopen(lab);
	assert_true(is_hit(lab, 1));
	assert_true(is_hit(lab, 2));
	lab_free(lab);
}

/* Opening needs memory in many places; wherever it fails the error says so and nothing leaks. */
static void test_segment__open_fails_clean(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	assert_int_equal(shard_close(lab->shard), 0);
	uint32_t failed = 0;
	for (uint32_t at = 0; at < 40; at++) {
		struct haul_err err = { 0 };
		if (!test_malloc_fail(at))
			break;
		int rc = shard_open(&lab->shard, &lab->options, &err);
		(void)test_malloc_fail(UINT32_MAX);
		if (rc == 0) {
			assert_int_equal(shard_close(lab->shard), 0);
			continue;
		}
		assert_int_equal(rc, -ENOMEM);
		assert_non_null(strstr(err.text, "memory"));
		failed++;
	}
	write_lab_shard(lab);
	assert_true(failed == 0 || failed > 10);
	lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segment__keeps_some_for_reclaim),
		cmocka_unit_test(test_segment__footer_follows_what_it_lists),
		cmocka_unit_test(test_segment__lives_without_a_footer),
		cmocka_unit_test(test_segment__quarantine_keeps_the_good_part),
		cmocka_unit_test(test_segment__full_cache_takes_more),
		cmocka_unit_test(test_segment__fresh_file_is_an_empty_cache),
		cmocka_unit_test(test_segment__open_fails_clean),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
