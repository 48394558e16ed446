/* Opening again: what is found, what is not, and what is done about damage. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "shard_lab.h"

enum { DISK = 16 << 20, SEGMENT = 1 << 20 };

static struct shard_lab *lab_new(void)
{
	struct shard_lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	shard_lab_init(lab, DISK, SEGMENT, 1);
	assert_int_equal(shard_lab_open(lab), 0);
	return lab;
}

static void lab_free(struct shard_lab *lab)
{
	shard_lab_done(lab);
	free(lab);
}

static void crash_and_open(struct shard_lab *lab, enum io_sim_crash how)
{
	shard_lab_crash(lab, how);
	assert_int_equal(shard_lab_open(lab), 0);
}

static void expect(struct shard_lab *lab, uint64_t number, uint64_t version)
{
	uint64_t seen;
	enum haul_cache_status status = shard_lab_get(lab, number, &seen);
	assert_int_equal(status, version ? HAUL_CACHE_HIT : HAUL_CACHE_MISS);
	assert_int_equal(seen, version);
}

static void store(struct shard_lab *lab, uint64_t number, uint64_t version, uint32_t bytes)
{
	assert_int_equal(shard_lab_store(lab, number, version, bytes), 0);
}

/* Stores, nobody waiting, until the lane's segment is sealed a few times over. */
static void fill(struct shard_lab *lab, uint32_t count, uint32_t bytes)
{
	for (uint32_t i = 1; i <= count; i++) {
		struct shard_put put = { 0 };
		int rc;
		while ((rc = shard_lab_put(lab, i, i, bytes, &put)) == -EAGAIN) {
			shard_lab_settle(lab);
			os_sim_advance(&lab->os, NS_PER_MS);
		}
		assert_int_equal(rc, 0);
	}
	assert_int_equal(shard_lab_flush(lab), 0);
	shard_lab_settle(lab);
}

/* Defect 9: after a crash the original found nothing, unless its tables had been saved, and then
 * read every byte of the cache to verify it. Here keys are on the disk, and only tables are
 * read. */
static void test_recover__finds_all_without_reading_values(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	fill(lab, 400, 20000); /* 8 MB */
	for (uint64_t i = 401; i <= 403; i++)
		store(lab, i, i, 100); /* the last flushes, which are verified, are small */
	uint64_t entries = shard_lab_stat(lab).entries;
	uint64_t bytes = shard_lab_stat(lab).stored_bytes;
	assert_int_equal(entries, 400 + 3);
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	assert_int_equal(shard_lab_open(lab), 0);
	uint64_t read = 0;
	for (int i = 0; i < QUEUE_CLASSES; i++)
		read += lab->shard->queue.bytes[i];
	assert_true(read < 1 << 20);
	assert_int_equal(shard_lab_stat(lab).entries, entries);
	assert_int_equal(shard_lab_stat(lab).stored_bytes, bytes);
	for (uint64_t i = 1; i <= 403; i++)
		expect(lab, i, i);
	lab_free(lab);
}

/* A clean close leaves footers only: nothing is walked, nothing is in doubt. */
static void test_recover__after_a_clean_close(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	store(lab, 1, 1, 5000);
	store(lab, 2, 1, 5000);
	assert_int_equal(shard_lab_delete(lab, 2), 0);
	shard_lab_reopen(lab);
	assert_int_equal(lab->shard->torn, 0);
	expect(lab, 1, 1);
	expect(lab, 2, 0);
	shard_lab_reopen(lab);
	expect(lab, 1, 1);
	expect(lab, 2, 0);
	lab_free(lab);
}

/* The newest counts, wherever older ones lie; a deleted entry stays deleted through any number of
 * openings. */
static void test_recover__newest_wins_and_deleted_stays_deleted(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	for (uint32_t i = 1; i <= 5; i++) {
		store(lab, 1, i, 3000);
		store(lab, 2, i, 3000);
		crash_and_open(lab, IO_SIM_KEEP_ALL);
		expect(lab, 1, i);
		expect(lab, 2, i);
	}
	assert_int_equal(shard_lab_delete(lab, 2), 0);
	for (uint32_t i = 0; i < 4; i++) {
		crash_and_open(lab, IO_SIM_LOSE_ALL);
		expect(lab, 1, 5);
		expect(lab, 2, 0);
	}
	lab_free(lab);
}

/* An entry whose time is over hides older ones that have none. */
static void test_recover__expired_hides_what_it_replaced(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	struct shard_put put = { .expiry = SHARD_LAB_START_S + 5 };
	store(lab, 1, 1, 3000);
	assert_int_equal(shard_lab_put(lab, 1, 2, 3000, &put), 0);
	assert_int_equal(shard_lab_flush(lab), 0);
	crash_and_open(lab, IO_SIM_LOSE_ALL);
	expect(lab, 1, 2);
	os_sim_advance(&lab->os, 6 * NS_PER_S);
	crash_and_open(lab, IO_SIM_LOSE_ALL);
	assert_int_equal(shard_lab_stat(lab).entries, 0);
	expect(lab, 1, 0);
	lab_free(lab);
}

/* After a purge nothing that was there before comes back; what came after stays. */
static void test_recover__purged_stays_purged(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	struct shard_lab_wait wait;
	store(lab, 1, 1, 3000);
	assert_int_equal(shard_purge(lab->shard, shard_lab_wait(&wait)), 0);
	shard_lab_settle(lab);
	assert_int_equal(wait.told, 1);
	assert_int_equal(wait.result, 0);
	store(lab, 2, 2, 3000);
	crash_and_open(lab, IO_SIM_KEEP_ALL);
	expect(lab, 1, 0);
	expect(lab, 2, 2);
	lab_free(lab);
}

/* The newer root rots. Purges and quarantines stand in both, so what was purged stays away, and a
 * segment that failed is not written again. If it failed, the older root would undo them. */
static void test_recover__newer_root_rots(void **state)
{
	(void)state;
	for (uint32_t copy = 0; copy < 2; copy++) {
		struct shard_lab_wait wait;
		struct shard_lab *lab = lab_new();
		store(lab, 1, 1, 3000);
		store(lab, 2, 2, 3000);
		segment_quarantine(lab->shard, 9, 0);
		assert_int_equal(shard_purge(lab->shard, shard_lab_wait(&wait)), 0);
		store(lab, 3, 3, 3000);
		assert_int_equal(wait.told, 1);
		os_sim_advance(&lab->os, 10 * NS_PER_MS);
		shard_lab_settle(lab);
		uint64_t offset = format_root_offset(lab->shard->super, 0, copy);
		shard_lab_crash(lab, IO_SIM_LOSE_ALL);
		io_sim_bytes(lab->disk)[offset + 40] ^= 1;
		assert_int_equal(shard_lab_open(lab), 0);
		expect(lab, 1, 0);
		expect(lab, 2, 0);
		expect(lab, 3, 3);
		assert_int_equal(lab->shard->segments[9].state, SEGMENT_BAD);
		lab_free(lab);
	}
}

/* A sector of a value of the last flush is missing: the flush is dropped whole, what was there
 * before it is back, and it is still dropped when later flushes seem to prove it. */
static void test_recover__torn_flush_is_dropped_for_good(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	uint64_t offset;
	store(lab, 1, 1, 9000);
	struct shard_put put = { 0 };
	assert_int_equal(shard_lab_put(lab, 1, 2, 9000, &put), 0);
	assert_int_equal(shard_lab_put(lab, 2, 2, 9000, &put), 0);
	shard_flush(lab->shard, NULL);
	shard_lab_settle(lab);
	(void)shard_lab_bytes(lab, 2, &offset);
	shard_lab_crash(lab, IO_SIM_KEEP_ALL);
	io_sim_bytes(lab->disk)[offset + 5000] ^= 1;
	assert_int_equal(shard_lab_open(lab), 0);
	assert_int_equal(lab->shard->torn, 1);
	expect(lab, 1, 1);
	expect(lab, 2, 0);
	for (uint64_t i = 10; i < 20; i++) {
		store(lab, i, i, 3000);
		if (i % 3 == 0)
			crash_and_open(lab, IO_SIM_LOSE_ALL);
		expect(lab, 1, 1);
		expect(lab, 2, 0);
	}
	lab_free(lab);
}

/* Without its footer a segment is walked; without header and first batch it, and only it, is
 * lost. */
static void test_recover__damaged_footers_and_headers(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	fill(lab, 200, 20000);
	shard_lab_reopen(lab);
	uint64_t offset = segment_offset(lab->shard, 0);
	assert_int_equal(shard_lab_close(lab), 0);
	io_sim_bytes(lab->disk)[offset + SEGMENT - FORMAT_BLOCK + 40] ^= 1;
	assert_int_equal(shard_lab_open(lab), 0);
	for (uint64_t i = 1; i <= 200; i++)
		expect(lab, i, i);
	assert_int_equal(shard_lab_close(lab), 0);
	io_sim_bytes(lab->disk)[offset + SEGMENT - 2 * FORMAT_BLOCK + 40] ^= 1; /* its table */
	assert_int_equal(shard_lab_open(lab), 0);
	assert_int_equal(shard_lab_stat(lab).entries, 200);
	assert_int_equal(shard_lab_close(lab), 0);
	io_sim_bytes(lab->disk)[offset + 40] ^= 1; /* what it said is told by the first batch */
	assert_int_equal(shard_lab_open(lab), 0);
	for (uint64_t i = 1; i <= 200; i++)
		expect(lab, i, i);
	assert_int_equal(shard_lab_close(lab), 0);
	io_sim_bytes(lab->disk)[offset + FORMAT_BLOCK + 40] ^= 1;
	assert_int_equal(shard_lab_open(lab), 0);
	uint64_t entries = shard_lab_stat(lab).entries;
	assert_true(entries < 200 && entries >= 140);
	expect(lab, 200, 200);
	store(lab, 1, 7, 100);
	lab_free(lab);
}

/* The header of a segment that was open rots, and what is pinned in it is evicted like anything
 * else: only the header says which lane it was, and no footer. */
static void test_recover__what_is_pinned_stays_pinned_when_the_header_rots(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	struct shard_put pinned = { .how = HAUL_CACHE_PINNED };
	assert_int_equal(shard_lab_put(lab, 1, 1, 5000, &pinned), 0);
	assert_int_equal(shard_lab_flush(lab), 0);
	uint64_t offset = segment_offset(lab->shard, lab->shard->lanes[LANE_PINNED].segment);
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	io_sim_bytes(lab->disk)[offset + 40] ^= 1;
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(shard_lab_open(lab), 0);
		expect(lab, 1, 1);
		assert_int_equal(lab->shard->lanes[LANE_PINNED].count, 1);
		assert_int_equal(lab->shard->lanes[LANE_NEW].count, 0);
		shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	}
	lab_free(lab);
}

/* A flush that was dropped comes back, because a bit of the header rots that was emptied then. */
static void test_recover__rotten_zeros_bring_nothing_back(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	store(lab, 1, 1, 5000);
	segment_seal(lab->shard, LANE_NEW);
	struct shard_put put = { 0 };
	assert_int_equal(shard_lab_put(lab, 1, 2, 5000, &put), 0);
	uint32_t segment = lab->shard->lanes[LANE_NEW].segment;
	uint64_t offset = segment_offset(lab->shard, segment);
	assert_int_equal(shard_lab_flush(lab), 0);
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	uint8_t *torn = io_sim_bytes(lab->disk) + offset + FORMAT_BLOCK + FORMAT_BLOCK;
	torn[0] ^= 1;
	assert_int_equal(shard_lab_open(lab), 0);
	expect(lab, 1, 1);
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	torn[0] ^= 1;
	assert_int_equal(io_sim_bytes(lab->disk)[offset + 20], 0);
	io_sim_bytes(lab->disk)[offset + 20] ^= 1;
	assert_int_equal(shard_lab_open(lab), 0);
	expect(lab, 1, 1);
	lab_free(lab);
}

/* A batch that was dropped counts again when the footer rots that leaves it out. */
static void test_recover__dropped_batches_are_gone_without_the_footer(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	struct shard_put pinned = { .how = HAUL_CACHE_PINNED }, put = { 0 };
	store(lab, 1, 1, 5000);
	uint64_t offset = segment_offset(lab->shard, lab->shard->lanes[LANE_NEW].segment);
	assert_int_equal(shard_lab_put(lab, 1, 2, 5000, &put), 0);
	assert_int_equal(shard_lab_put(lab, 2, 2, 5000, &pinned), 0);
	uint64_t torn = segment_offset(lab->shard, lab->shard->lanes[LANE_PINNED].segment);
	assert_int_equal(shard_lab_flush(lab), 0);
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	io_sim_bytes(lab->disk)[torn + FORMAT_BLOCK + 1000] ^= 1;
	assert_int_equal(shard_lab_open(lab), 0);
	expect(lab, 1, 1);
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	io_sim_bytes(lab->disk)[offset + SEGMENT - FORMAT_BLOCK + 40] ^= 1;
	assert_int_equal(shard_lab_open(lab), 0);
	expect(lab, 1, 1);
	lab_free(lab);
}

/* Going online again trusts what a failed sync left: it can be read, but is not on the disk. The
 * root that would say so could not be written any more. */
static void test_recover__online_does_not_trust_a_failed_sync(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	struct haul_err err;
	struct shard_put put = { 0 };
	store(lab, 1, 1, 5000);
	assert_int_equal(shard_lab_put(lab, 1, 2, 5000, &put), 0);
	uint32_t copy = (uint32_t)(lab->shard->root.generation + 1) % 2;
	io_sim_fail(lab->disk, IO_SYNC, 0, 1, -EIO);
	io_sim_worn(lab->disk, format_root_offset(&lab->volume.super, 0, copy), FORMAT_BLOCK);
	for (uint32_t i = 0; i < FAILURES_MAX && !lab->shard->offline; i++)
		(void)shard_lab_flush(lab);
	assert_true(lab->shard->offline);
	io_sim_worn(lab->disk, 0, 0);
	assert_int_equal(shard_online(lab->shard, &err), 0);
	expect(lab, 1, 1);
	crash_and_open(lab, IO_SIM_LOSE_ALL);
	expect(lab, 1, 1);
	lab_free(lab);
}

/* The sync of a recovery fails, and going online trusts the footers that it wrote: with the next
 * power cut they are gone, and what they left out counts. */
static void test_recover__online_does_not_trust_a_failed_recovery(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	struct shard_put pinned = { .how = HAUL_CACHE_PINNED }, put = { 0 };
	struct haul_err err;
	store(lab, 1, 1, 5000);
	assert_int_equal(shard_lab_put(lab, 1, 2, 5000, &put), 0);
	assert_int_equal(shard_lab_put(lab, 2, 2, 5000, &pinned), 0);
	uint64_t torn = segment_offset(lab->shard, lab->shard->lanes[LANE_PINNED].segment);
	assert_int_equal(shard_lab_flush(lab), 0);
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	io_sim_bytes(lab->disk)[torn + FORMAT_BLOCK + 1000] ^= 1;
	io_sim_fail(lab->disk, IO_SYNC, 0, 1, -EIO);
	assert_int_equal(shard_lab_open(lab), 0);
	assert_true(lab->shard->offline);
	assert_int_equal(shard_online(lab->shard, &err), 0);
	expect(lab, 1, 1);
	for (uint32_t s = 0; s < 2; s++)
		assert_int_equal(lab->shard->segments[s].state, SEGMENT_BAD);
	crash_and_open(lab, IO_SIM_LOSE_ALL);
	expect(lab, 1, 1);
	lab_free(lab);
}

/* One try to go online before the device is back, and it never comes back: the next one says that
 * there is nothing to be done. */
static void test_recover__online_can_be_tried_again(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	struct haul_err err;
	store(lab, 1, 1, 5000);
	io_sim_dead(lab->disk, true);
	assert_true(shard_lab_store(lab, 2, 2, 5000) < 0);
	assert_true(lab->shard->offline);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(shard_online(lab->shard, &err), -ENODEV);
		assert_true(shard_offline(lab->shard));
		expect(lab, 1, 0);
	}
	io_sim_dead(lab->disk, false);
	assert_int_equal(shard_online(lab->shard, &err), 0);
	expect(lab, 1, 1);
	store(lab, 2, 3, 5000);
	crash_and_open(lab, IO_SIM_LOSE_ALL);
	expect(lab, 1, 1);
	expect(lab, 2, 3);
	lab_free(lab);
}

/* The number of a flush that was dropped is given out again after an open that power was cut in: a
 * footer hides what it left, until that cannot be read; then the flush that has its number now is
 * not whole. */
static void test_recover__numbers_of_flushes_are_never_used_twice(void **state)
{
	(void)state;
	for (uint64_t cut = 1; cut <= 8; cut++) {
		struct shard_lab *lab = lab_new();
		struct shard_put pinned = { .how = HAUL_CACHE_PINNED }, put = { 0 };
		assert_int_equal(shard_lab_put(lab, 1, 1, 5000, &pinned), 0);
		assert_int_equal(shard_lab_flush(lab), 0);
		uint64_t offset =
			segment_offset(lab->shard, lab->shard->lanes[LANE_PINNED].segment);
		assert_int_equal(shard_lab_put(lab, 2, 2, 5000, &pinned), 0);
		assert_int_equal(shard_lab_put(lab, 3, 3, 5000, &put), 0);
		uint64_t torn = segment_offset(lab->shard, lab->shard->lanes[LANE_NEW].segment);
		assert_int_equal(shard_lab_flush(lab), 0);
		shard_lab_crash(lab, IO_SIM_LOSE_ALL);
		io_sim_bytes(lab->disk)[torn + FORMAT_BLOCK + 1000] ^= 1;
		io_sim_stop_after(lab->disk, cut);
		(void)shard_lab_open(lab);
		shard_lab_crash(lab, IO_SIM_LOSE_ALL);
		assert_int_equal(shard_lab_open(lab), 0);
		expect(lab, 1, 1);
		expect(lab, 2, 0);
		store(lab, 4, 4, 5000);
		shard_lab_crash(lab, IO_SIM_LOSE_ALL);
		io_sim_bytes(lab->disk)[offset + SEGMENT - FORMAT_BLOCK + 40] ^= 1;
		assert_int_equal(shard_lab_open(lab), 0);
		expect(lab, 1, 1);
		expect(lab, 4, 4);
		lab_free(lab);
	}
}

/* A damaged batch header in a segment without a footer costs its batch, not what is behind it. */
static void test_recover__damaged_batch_is_passed_over(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	for (uint64_t i = 1; i <= 8; i++)
		store(lab, i, i, 5000);
	uint32_t segment = lab->shard->lanes[LANE_NEW].segment;
	uint64_t offset = segment_offset(lab->shard, segment) + FORMAT_BLOCK;
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	io_sim_bytes(lab->disk)[offset + 50] ^= 1;
	assert_int_equal(shard_lab_open(lab), 0);
	expect(lab, 1, 0);
	for (uint64_t i = 2; i <= 8; i++)
		expect(lab, i, i);
	lab_free(lab);
}

/* A segment that cannot be read is quarantined, counted and remembered; the rest is there. */
static void test_recover__unreadable_segment_is_quarantined(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	fill(lab, 200, 20000);
	uint64_t offset = segment_offset(lab->shard, 0);
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	io_sim_bad(lab->disk, offset, 512);
	assert_int_equal(shard_lab_open(lab), 0);
	assert_int_equal(shard_lab_stat(lab).segments_bad, 1);
	expect(lab, 200, 200);
	io_sim_bad(lab->disk, 0, 0);
	crash_and_open(lab, IO_SIM_LOSE_ALL);
	assert_int_equal(shard_lab_stat(lab).segments_bad, 1);
	assert_int_equal(lab->shard->segments[0].state, SEGMENT_BAD);
	expect(lab, 200, 200);
	lab_free(lab);
}

/* Seals what the lane has open, and waits until that is on the disk. */
static uint32_t seal(struct shard_lab *lab)
{
	uint32_t segment = lab->shard->lanes[LANE_NEW].segment;
	segment_seal(lab->shard, LANE_NEW);
	shard_lab_settle(lab);
	return segment;
}

/* A segment whose header cannot be read may be in use: what its rows replaced or deleted does not
 * come back, in this opening or the next. If it failed, older copies would be served. */
static void test_recover__unreadable_segment_hides_what_it_replaced(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	for (uint64_t i = 1; i <= 4; i++)
		store(lab, i, i, 3000);
	(void)seal(lab);
	store(lab, 1, 11, 3000);
	assert_int_equal(shard_lab_delete(lab, 2), 0);
	uint32_t lost = seal(lab);
	store(lab, 3, 13, 3000);
	uint64_t offset = segment_offset(lab->shard, lost);
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	io_sim_bad(lab->disk, offset, 512);
	assert_int_equal(shard_lab_open(lab), 0);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(shard_lab_stat(lab).segments_bad, 1);
		expect(lab, 1, 0);
		expect(lab, 2, 0);
		expect(lab, 3, 13);
		expect(lab, 4, 4);
		crash_and_open(lab, IO_SIM_LOSE_ALL);
	}
	/* It is not written again, but what can be read of it counts. */
	io_sim_bad(lab->disk, 0, 0);
	crash_and_open(lab, IO_SIM_LOSE_ALL);
	expect(lab, 1, 11);
	expect(lab, 2, 0);
	assert_int_equal(lab->shard->segments[lost].state, SEGMENT_BAD);
	lab_free(lab);
}

/* The log goes round several times with such a segment in it: reclaim carries on what its rows
 * hide, or leaves it. If it failed, what they deleted would come back when they are forgotten. */
static void test_recover__unreadable_segment_hides_while_others_leave(void **state)
{
	(void)state;
	enum { DELETED = 40 };
	struct shard_lab *lab = lab_new();
	struct shard_put pin = { .how = HAUL_CACHE_PINNED };
	for (uint64_t i = 1; i <= DELETED; i++)
		assert_int_equal(shard_lab_put(lab, i, i, 300, &pin), 0);
	assert_int_equal(shard_lab_flush(lab), 0);
	for (uint64_t i = 1; i < DELETED; i++)
		assert_int_equal(shard_lab_delete(lab, i), 0);
	uint64_t offset = segment_offset(lab->shard, seal(lab));
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	io_sim_bad(lab->disk, offset, 512);
	assert_int_equal(shard_lab_open(lab), 0);
	for (uint64_t round = 0; round < 6; round++) {
		for (uint64_t i = 0; i < 600; i++)
			store(lab, 1000 + 600 * round + i, 1, 9000);
		for (uint64_t i = 1; i < DELETED; i++)
			expect(lab, i, 0);
		expect(lab, DELETED, DELETED);
		crash_and_open(lab, IO_SIM_LOSE_ALL);
	}
	for (uint64_t i = 1; i < DELETED; i++)
		expect(lab, i, 0);
	assert_true(shard_lab_stat(lab).entries > 100);
	lab_free(lab);
}

/* Roots that are gone, blocks of noise all over: it opens, and works. */
static void test_recover__opens_whatever_is_there(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t i = 0; i < 12; i++) {
		struct shard_lab *lab = lab_new();
		fill(lab, 100, 9000);
		shard_lab_crash(lab, IO_SIM_KEEP_ALL);
		uint8_t *bytes = io_sim_bytes(lab->disk);
		uint64_t blocks = io_sim_size(lab->disk) / FORMAT_BLOCK;
		for (uint64_t block = 0; block < blocks; block++) {
			if (prng_below(&prng, 12) > i)
				continue;
			for (uint32_t at = 0; at < FORMAT_BLOCK; at += 64)
				bytes[block * FORMAT_BLOCK + at] ^= (uint8_t)prng_next(&prng);
		}
		assert_int_equal(shard_lab_open(lab), 0);
		for (uint64_t key = 1; key <= 100; key++) {
			uint64_t version;
			if (shard_lab_get(lab, key, &version) == HAUL_CACHE_HIT)
				assert_int_equal(version, key);
		}
		store(lab, 1, 99, 5000);
		expect(lab, 1, 99);
		shard_lab_reopen(lab);
		expect(lab, 1, 99);
		lab_free(lab);
	}
}

/* What an earlier use of a segment left behind is never taken for a later one's, even when nothing
 * but that tells of the earlier use: generations are bounded by the root. */
static void test_recover__generations_are_never_used_twice(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	uint64_t highest = 0;
	for (uint32_t i = 0; i < 5; i++) {
		struct shard_put put = { 0 };
		assert_int_equal(shard_lab_put(lab, 1, 1, 3000, &put), 0);
		uint32_t segment = lab->shard->lanes[LANE_NEW].segment;
		assert_true(lab->shard->segments[segment].generation > highest);
		highest = lab->shard->segments[segment].generation;
		crash_and_open(lab, IO_SIM_LOSE_ALL); /* the flush never was */
		assert_int_equal(shard_lab_stat(lab).entries, 0);
	}
	lab_free(lab);
}

/* A part of a flush that an open could doubt is not erased before the root says that the flush is
 * proven: without that part the others would be dropped. */
static void test_recover__what_may_be_doubted_is_not_erased(void **state)
{
	(void)state;
	char text[32];
	struct shard_lab *lab = lab_new();
	store(lab, 1, 1, 3000);
	uint32_t segment = lab->shard->lanes[LANE_NEW].segment;
	segment_seal(lab->shard, LANE_NEW);
	shard_lab_settle(lab);
	struct cache_key key = shard_lab_key(lab, 1, text);
	shard_forget(lab->shard, index_find(&lab->shard->index, key.hash));
	segment_unlink(lab->shard, segment);
	lab->shard->segments[segment].state = SEGMENT_RECLAIM;
	segment_erase(lab->shard, segment);
	lab->shard->root_dirty = false;
	assert_int_equal(segment_erase_next(lab->shard), SEGMENT_NONE);
	assert_true(lab->shard->root_dirty);
	store(lab, 2, 2, 3000); /* the root goes with it */
	assert_int_equal(segment_erase_next(lab->shard), segment);
	segment_erase_again(lab->shard, segment);
	assert_int_equal(shard_lab_flush(lab), 0);
	expect(lab, 2, 2);
	lab_free(lab);
}

/* read_only finds the same and writes nothing. */
static void test_recover__read_only_changes_nothing(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	store(lab, 1, 1, 3000);
	shard_lab_crash(lab, IO_SIM_KEEP_ALL);
	lab->options.read_only = true;
	uint64_t writes = io_sim_count(lab->disk, IO_WRITE);
	assert_int_equal(shard_lab_open(lab), 0);
	expect(lab, 1, 1);
	assert_int_equal(shard_lab_store(lab, 2, 2, 100), -EROFS);
	assert_int_equal(shard_lab_close(lab), 0);
	assert_int_equal(io_sim_count(lab->disk, IO_WRITE), writes);
	lab->options.read_only = false;
	assert_int_equal(shard_lab_open(lab), 0);
	expect(lab, 1, 1);
	lab_free(lab);
}

/* The disk does not take what opening has to write: what is there is served, nothing is stored. */
static void test_recover__does_not_write_on_what_is_in_doubt(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	store(lab, 1, 1, 3000);
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	io_sim_fail(lab->disk, IO_SYNC, 0, 1, -EIO);
	assert_int_equal(shard_lab_open(lab), 0);
	assert_true(shard_offline(lab->shard));
	assert_int_equal(shard_lab_store(lab, 2, 2, 100), -ENODEV);
	struct haul_err err = { 0 };
	assert_int_equal(shard_online(lab->shard, &err), 0);
	assert_false(shard_offline(lab->shard));
	expect(lab, 1, 1);
	store(lab, 2, 2, 100);
	lab_free(lab);
}

/* A device that is not there is said so. */
static void test_recover__dead_device_is_an_error(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	struct haul_err err = { 0 };
	struct shard *shard = NULL;
	assert_int_equal(shard_lab_close(lab), 0);
	io_sim_dead(lab->disk, true);
	assert_int_equal(shard_open(&shard, &lab->options, &err), -ENODEV);
	assert_null(shard);
	io_sim_dead(lab->disk, false);
	io_sim_fail(lab->disk, IO_READ, 2, UINT64_MAX, -EIO); /* all but the root */
	assert_int_equal(shard_open(&shard, &lab->options, &err), -ENODEV);
	assert_true(strstr(err.text, "partition 0") != NULL);
	io_sim_fail(lab->disk, IO_READ, 0, 0, 0);
	assert_int_equal(shard_lab_open(lab), 0);
	lab_free(lab);
}

/* Want of memory at any point is an error, and leaves nothing behind. */
static void test_recover__survives_want_of_memory(void **state)
{
	(void)state;
	struct shard_lab *lab = lab_new();
	fill(lab, 50, 20000);
	shard_lab_crash(lab, IO_SIM_LOSE_ALL);
	lab->options.read_only = true; /* the simulated disk takes memory to write */
	int rc = -ENOMEM;
	for (uint32_t i = 0; rc != 0 && i < 1000; i++) {
		struct haul_err err = { 0 };
		io_close(lab->io);
		lab->io = io_sim_io(lab->disk);
		lab->options.io = lab->io;
		lab->crashed = false;
		if (!test_malloc_fail(i)) {
			shard_lab_done(lab);
			free(lab);
			skip();
			return;
		}
		rc = shard_open(&lab->shard, &lab->options, &err);
		(void)test_malloc_fail(UINT32_MAX);
		if (rc == 0)
			break;
		assert_int_equal(rc, -ENOMEM);
		assert_true(err.text[0] != '\0');
		lab->shard = NULL;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(shard_lab_stat(lab).entries, 50);
	lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_recover__finds_all_without_reading_values),
		cmocka_unit_test(test_recover__after_a_clean_close),
		cmocka_unit_test(test_recover__newest_wins_and_deleted_stays_deleted),
		cmocka_unit_test(test_recover__expired_hides_what_it_replaced),
		cmocka_unit_test(test_recover__purged_stays_purged),
		cmocka_unit_test(test_recover__newer_root_rots),
		cmocka_unit_test(test_recover__torn_flush_is_dropped_for_good),
		cmocka_unit_test(test_recover__damaged_footers_and_headers),
		cmocka_unit_test(test_recover__what_is_pinned_stays_pinned_when_the_header_rots),
		cmocka_unit_test(test_recover__rotten_zeros_bring_nothing_back),
		cmocka_unit_test(test_recover__dropped_batches_are_gone_without_the_footer),
		cmocka_unit_test(test_recover__online_does_not_trust_a_failed_sync),
		cmocka_unit_test(test_recover__online_does_not_trust_a_failed_recovery),
		cmocka_unit_test(test_recover__online_can_be_tried_again),
		cmocka_unit_test(test_recover__numbers_of_flushes_are_never_used_twice),
		cmocka_unit_test(test_recover__damaged_batch_is_passed_over),
		cmocka_unit_test(test_recover__unreadable_segment_is_quarantined),
		cmocka_unit_test(test_recover__unreadable_segment_hides_what_it_replaced),
		cmocka_unit_test(test_recover__unreadable_segment_hides_while_others_leave),
		cmocka_unit_test(test_recover__opens_whatever_is_there),
		cmocka_unit_test(test_recover__generations_are_never_used_twice),
		cmocka_unit_test(test_recover__what_may_be_doubted_is_not_erased),
		cmocka_unit_test(test_recover__read_only_changes_nothing),
		cmocka_unit_test(test_recover__does_not_write_on_what_is_in_doubt),
		cmocka_unit_test(test_recover__dead_device_is_an_error),
		cmocka_unit_test(test_recover__survives_want_of_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
