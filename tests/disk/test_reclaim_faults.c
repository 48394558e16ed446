#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/cache.h>
#include "disk/reclaim_state.h"
#include "lib/testlib.h"
#include "shard_lab.h"

enum {
	SEGMENT = 128 << 10,
	DISK = 6 << 20,
	VALUE = 2048,
	FULL = DISK / VALUE,
	RETRIES = 2000,
	SETUP_ALLOCATIONS = 40, /* at least so many before the disk is read */
};

static void lab_open(struct shard_lab *lab)
{
	struct prng prng;
	test_prng(&prng);
	lab->options.limits = haul_limits_preset(HAUL_PRESET_DISK);
	lab->options.buffer_bytes = 4 << 20;
	lab->options.read_bytes = 1 << 20;
	shard_lab_init(lab, DISK, SEGMENT, prng_next(&prng));
	assert_int_equal(shard_lab_open(lab), 0);
}

static int store(struct shard_lab *lab, uint64_t number)
{
	struct shard_put put = { .wait = NULL };
	for (uint32_t i = 0; i < RETRIES; i++) {
		int rc = shard_lab_put(lab, number, 1, VALUE, &put);
		if (rc != -EAGAIN) {
			(void)shard_poll(lab->shard);
			return rc;
		}
		shard_lab_settle(lab);
		os_sim_advance(&lab->os, NS_PER_MS);
	}
	fail_msg("no room for key %llu", (unsigned long long)number);
	return -EAGAIN;
}

/* Right, or not there; never wrong. */
static bool is_hit(struct shard_lab *lab, uint64_t number)
{
	uint64_t version;
	enum haul_cache_status status = shard_lab_get(lab, number, &version);
	if (status == HAUL_CACHE_HIT)
		assert_int_equal(version, 1);
	return status == HAUL_CACHE_HIT;
}

/* Stores, and reads of a few, so that there is something to copy. */
static void turn_over(struct shard_lab *lab, uint64_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(store(lab, first + i), 0);
		if (i % 3 == 0)
			(void)is_hit(lab, first + i - i % 40);
	}
}

static void settled(const struct shard *shard)
{
	uint64_t live = 0;
	for (uint32_t s = 0; s < shard->super->segments; s++)
		live += shard->segments[s].live_entries;
	assert_int_equal(live, shard->index.count);
	assert_int_equal(shard->index.bytes > 0, shard->index.count > 0);
}

/* Footers that are damaged would end reclaim, or lose what is hot: the batches say the same. */
static void test_reclaim_faults__footers_are_damaged(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab);
	turn_over(&lab, 0, FULL / 2);
	shard_lab_settle(&lab);
	uint32_t damaged = 0;
	for (uint32_t s = 0; s < lab.shard->super->segments; s++) {
		if (lab.shard->segments[s].state != SEGMENT_SEALED)
			continue;
		uint64_t end = segment_offset(lab.shard, s) + SEGMENT;
		io_sim_bytes(lab.disk)[end - FORMAT_BLOCK + 40] ^= 0x55;
		damaged++;
	}
	assert_true(damaged > 5);
	turn_over(&lab, 100000, 2 * FULL);
	struct haul_cache_stat stat = shard_lab_stat(&lab);
	assert_true(stat.reinserted > 0);
	assert_int_equal(stat.corrupt, 0);
	settled(lab.shard);
	shard_lab_done(&lab);
}

/* What is damaged, header, table or value, would be copied as good, or hold its segment for
 * ever. */
static void test_reclaim_faults__segments_are_damaged(void **state)
{
	(void)state;
	for (uint32_t round = 0; round < 8; round++) {
		struct shard_lab lab = { .shard = NULL };
		lab_open(&lab);
		turn_over(&lab, 0, FULL / 2);
		shard_lab_settle(&lab);
		uint32_t first = 0;
		uint8_t *disk = io_sim_bytes(lab.disk);
		for (uint32_t s = 0; s < lab.shard->super->segments; s++) {
			if (lab.shard->segments[s].state != SEGMENT_SEALED)
				continue;
			first = s;
			for (uint32_t i = 0; i < 20; i++)
				disk[segment_offset(lab.shard, s) +
				     prng_below(&lab.prng, SEGMENT)] ^= 1;
		}
		assert_true(first > 0);
		turn_over(&lab, 100000, 2 * FULL);
		for (uint32_t i = 0; i < FULL / 2; i += 7)
			(void)is_hit(&lab, i);
		settled(lab.shard);
		shard_lab_done(&lab);
	}
}

/* The rows and keys of every batch of a segment rot; its header and its footer do not. */
static uint32_t rot_tables(struct shard_lab *lab, uint32_t s)
{
	const struct segment *segment = &lab->shard->segments[s];
	uint8_t *bytes = io_sim_bytes(lab->disk) + segment_offset(lab->shard, s);
	const struct format_segment header = {
		.generation = segment->generation,
		.born_seq = segment->born_seq,
		.segment = s,
		.lane = segment->lane,
	};
	struct walk walk;
	struct format_batch batch;
	uint32_t count = 0;
	walk_start(&walk, lab->shard->super, &header, SEGMENT);
	while (walk_batch(&walk, bytes + walk.at, &batch) == 1) {
		bytes[batch.offset + batch.table] ^= 0x55;
		count++;
	}
	return count;
}

/* Deletes whose rows reclaim cannot read would be forgotten, and what was deleted come back: the
 * footer says which they were. */
static void test_reclaim_faults__tables_of_deletes_are_damaged(void **state)
{
	enum { PINNED = 200, EVERY = 8 };
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab);
	for (uint32_t i = 0; i < PINNED; i++) {
		struct shard_put put = { .how = HAUL_CACHE_PINNED };
		assert_int_equal(shard_lab_put(&lab, i, 1, VALUE, &put), 0);
		if (i % 32 == 31)
			assert_int_equal(shard_lab_flush(&lab), 0);
	}
	for (uint32_t i = 0; i < PINNED; i += EVERY)
		assert_int_equal(shard_lab_delete(&lab, i), 0);
	turn_over(&lab, 1000, FULL / 4);
	shard_lab_settle(&lab);
	uint32_t rotten = 0;
	for (uint32_t s = 0; s < lab.shard->super->segments; s++) {
		const struct segment *segment = &lab.shard->segments[s];
		if (segment->state == SEGMENT_SEALED && segment->lane != LANE_PINNED)
			rotten += rot_tables(&lab, s);
	}
	assert_true(rotten > PINNED / EVERY);
	/* The segment of the deletes goes first; later, those that they were for. */
	for (uint32_t i = 0; shard_lab_stat(&lab).reclaimed_segments == 0; i += 10)
		turn_over(&lab, 100000 + i, 10);
	shard_lab_crash(&lab, IO_SIM_KEEP_ALL);
	assert_int_equal(shard_lab_open(&lab), 0);
	for (uint32_t i = 0; i < PINNED; i++)
		assert_int_equal(is_hit(&lab, i), i % EVERY != 0);
	shard_lab_done(&lab);
}

/* Reads that fail would end reclaim; entries that cannot be read leave and are counted. */
static void test_reclaim_faults__reads_fail(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab);
	turn_over(&lab, 0, FULL / 2);
	uint64_t base = segment_offset(lab.shard, 0);
	io_sim_bad(lab.disk, base, 7 * SEGMENT + SEGMENT / 2);
	for (uint32_t i = 0; i < 2 * FULL; i++) {
		int rc = store(&lab, 100000 + i);
		assert_int_equal(rc, 0);
		if (i % 5 == 0)
			(void)is_hit(&lab, i / 2 % FULL);
	}
	settled(lab.shard);
	io_sim_bad(lab.disk, 0, 0);
	for (uint32_t i = 0; i < 200; i++) {
		io_sim_fail(lab.disk, IO_READ, prng_below(&lab.prng, 50), 3, -EIO);
		turn_over(&lab, 200000 + i * 20, 20);
	}
	settled(lab.shard);
	shard_lab_done(&lab);
}

/* Writes that fail while segments are emptied would lose a delete, or stop the cache: segments are
 * quarantined, what lives in them moves on, and what was deleted stays so after the next open. */
static void test_reclaim_faults__writes_fail(void **state)
{
	(void)state;
	uint32_t bad = 0, evacuated = 0;
	for (uint32_t round = 0; round < 10; round++) {
		struct shard_lab lab = { .shard = NULL };
		lab_open(&lab);
		for (uint32_t i = 0; i < 100; i++)
			assert_int_equal(shard_lab_store(&lab, i, 1, VALUE), 0);
		bool deleted[100] = { false };
		for (uint32_t i = 0; i < 40 && !shard_offline(lab.shard); i++) {
			uint32_t key = prng_below(&lab.prng, 100);
			if (i % 6 == 0)
				io_sim_fail(lab.disk, IO_WRITE, prng_below(&lab.prng, 40), 1, -EIO);
			int rc = shard_lab_delete(&lab, key);
			deleted[key] = deleted[key] || rc == 0;
			for (uint32_t j = 0; j < 100; j++)
				(void)store(&lab, 1000 + i * 100 + j);
		}
		io_sim_fail(lab.disk, IO_WRITE, 0, 0, 0);
		settled(lab.shard);
		bad += lab.shard->bad_count;
		for (uint32_t i = 0; i < lab.shard->root.bad_count; i++)
			evacuated += lab.shard->root.bad[i].good_bytes == 0;
		shard_lab_crash(&lab, IO_SIM_KEEP_ALL);
		assert_int_equal(shard_lab_open(&lab), 0);
		for (uint32_t i = 0; i < 100; i++)
			assert_false(deleted[i] && is_hit(&lab, i));
		turn_over(&lab, 500000, FULL);
		settled(lab.shard);
		shard_lab_done(&lab);
	}
	assert_true(bad > 5);
	print_message("%u quarantined, %u of them empty\n", bad, evacuated);
}

/* Set-up would leak, or go on without its buffers. */
static void test_reclaim_faults__memory_is_short(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab.options.policy = HAUL_CACHE_LRU;
	lab.options.limits = haul_limits_preset(HAUL_PRESET_DISK);
	shard_lab_init(&lab, DISK, SEGMENT, 3);
	for (uint32_t i = 0; i < SETUP_ALLOCATIONS && test_malloc_fail(i); i++)
		assert_int_equal(shard_lab_open(&lab), -ENOMEM);
	(void)test_malloc_fail(UINT32_MAX);
	assert_int_equal(shard_lab_open(&lab), 0);
	shard_lab_done(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reclaim_faults__footers_are_damaged),
		cmocka_unit_test(test_reclaim_faults__segments_are_damaged),
		cmocka_unit_test(test_reclaim_faults__tables_of_deletes_are_damaged),
		cmocka_unit_test(test_reclaim_faults__reads_fail),
		cmocka_unit_test(test_reclaim_faults__writes_fail),
		cmocka_unit_test(test_reclaim_faults__memory_is_short),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
