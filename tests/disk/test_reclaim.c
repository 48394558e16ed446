#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/cache.h>
#include "disk/reclaim_state.h"
#include "lib/testlib.h"
#include "shard_lab.h"

enum {
	KIB = 1024,
	SEGMENT = 256 * KIB,
	DISK = 8 << 20,
	VALUE = 4 * KIB,
	FULL = DISK / VALUE, /* entries that would fill the disk, nothing else on it */
	RETRIES = 2000,
};

static void lab_open(struct shard_lab *lab, uint64_t bytes, uint32_t segment)
{
	struct prng prng;
	test_prng(&prng);
	lab->options.limits = haul_limits_preset(HAUL_PRESET_DISK);
	lab->options.buffer_bytes = 4 << 20;
	lab->options.read_bytes = 1 << 20;
	shard_lab_init(lab, bytes, segment, prng_next(&prng));
	assert_int_equal(shard_lab_open(lab), 0);
}

/* Buffered. A store that is told to try again finds room after a bounded number of turns. */
static int store_how(struct shard_lab *lab, uint64_t number, uint32_t bytes, struct shard_put *put)
{
	for (uint32_t i = 0; i < RETRIES; i++) {
		int rc = shard_lab_put(lab, number, 1, bytes, put);
		if (rc != -EAGAIN) {
			(void)shard_poll(lab->shard);
			return rc;
		}
		shard_lab_settle(lab);
		os_sim_advance(&lab->os, NS_PER_MS);
	}
	fail_msg("no room for key %llu: a full cache must make some", (unsigned long long)number);
	return -EAGAIN;
}

static void store(struct shard_lab *lab, uint64_t number, uint32_t bytes)
{
	struct shard_put put = { .wait = NULL };
	assert_int_equal(store_how(lab, number, bytes, &put), 0);
}

static bool is_hit(struct shard_lab *lab, uint64_t number)
{
	uint64_t version;
	enum haul_cache_status status = shard_lab_get(lab, number, &version);
	if (status == HAUL_CACHE_HIT)
		assert_int_equal(version, 1);
	else
		assert_true(status == HAUL_CACHE_MISS || status == HAUL_CACHE_EXPIRED);
	return status == HAUL_CACHE_HIT;
}

/* What the table of segments says about itself holds. */
static void check_segments(const struct shard *shard)
{
	uint64_t live = 0, bytes = 0;
	uint32_t free_count = 0;
	for (uint32_t s = 0; s < shard->super->segments; s++) {
		const struct segment *segment = &shard->segments[s];
		live += segment->live_entries;
		bytes += segment->live_bytes;
		free_count += segment->state == SEGMENT_FREE;
	}
	assert_int_equal(live, shard->index.count);
	assert_int_equal(bytes, shard->index.bytes);
	assert_int_equal(free_count, shard->free_count);
}

/* Filled five times over, a cache would stop taking stores, lose what is read all the time, or
 * write far more than it was given. */
static void test_reclaim__keeps_what_is_read_while_the_disk_turns_over(void **state)
{
	(void)state;
	enum { HOT = 80, TURNS = 5 };
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab, DISK, SEGMENT);
	uint32_t hits = 0, asked = 0;
	for (uint32_t i = 0; i < HOT; i++)
		store(&lab, i, VALUE);
	for (uint32_t i = 0; i < TURNS * FULL; i++) {
		store(&lab, 1000 + i, VALUE);
		if (i % 4 != 0)
			continue;
		asked++;
		if (is_hit(&lab, i / 4 % HOT))
			hits++;
		else
			store(&lab, i / 4 % HOT, VALUE);
	}
	assert_true(hits >= asked - asked / 20);
	struct haul_cache_stat stat = shard_lab_stat(&lab);
	assert_true(stat.reclaimed_segments > 3 * DISK / SEGMENT);
	assert_true(stat.reinserted > 0);
	assert_true(stat.evicted > 3 * FULL);
	/* batches of 32 values, rows, footers, erased headers, copies */
	assert_true(stat.device_bytes < stat.flush_bytes * 14 / 10);
	for (uint32_t i = 0; i < FULL / 4; i++)
		assert_true(is_hit(&lab, 1000 + TURNS * FULL - 1 - i));
	assert_false(is_hit(&lab, 1000));
	check_segments(lab.shard);
	shard_lab_reopen(&lab);
	for (uint32_t i = 0; i < FULL / 4; i++)
		assert_true(is_hit(&lab, 1000 + TURNS * FULL - 1 - i));
	shard_lab_done(&lab);
}

/* When every entry is read, copies could take as much as is freed, and no room be made. */
static void test_reclaim__goes_on_when_everything_is_hot(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab, DISK, SEGMENT);
	for (uint32_t i = 0; i < 3 * FULL; i++) {
		store(&lab, i, VALUE);
		(void)is_hit(&lab, i);
		(void)is_hit(&lab, i);
		(void)is_hit(&lab, i);
	}
	struct haul_cache_stat stat = shard_lab_stat(&lab);
	assert_true(stat.evicted > FULL);
	assert_true(stat.device_bytes < stat.flush_bytes * 16 / 10);
	shard_lab_done(&lab);
}

/* The smallest cache there is would stop for ever: lanes and reserves hold all of its segments. */
static void test_reclaim__works_with_eight_segments(void **state)
{
	(void)state;
	const uint32_t sizes[] = { 24, 500, 4096, 20000 };
	for (uint32_t i = 0; i < 4; i++) {
		struct shard_lab lab = { .shard = NULL };
		lab_open(&lab, 8 * 65536 + (1 << 18), 65536);
		for (uint32_t key = 0; key < 6 * 8 * 65536 / (sizes[i] + 200); key++) {
			struct shard_put put = { .how = key % 97 == 5 ? HAUL_CACHE_PINNED : 0 };
			int rc = store_how(&lab, key, sizes[i], &put);
			assert_true(rc == 0 || (put.how && rc == HAUL_EFULL));
			if (key % 3 == 0)
				(void)is_hit(&lab, key / 2);
		}
		check_segments(lab.shard);
		assert_true(shard_lab_stat(&lab).reclaimed_segments > 8);
		shard_lab_done(&lab);
	}
}

/* A full index would refuse stores for ever, although the disk has room. */
static void test_reclaim__makes_room_in_the_index(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab.options.limits = haul_limits_preset(HAUL_PRESET_DISK);
	shard_lab_init(&lab, DISK, SEGMENT, 5);
	lab.volume.super.entries_max = 2000;
	assert_int_equal(shard_lab_open(&lab), 0);
	for (uint32_t i = 0; i < 30000; i++)
		store(&lab, i, 100);
	assert_true(is_hit(&lab, 29999));
	assert_true(lab.shard->index.count <= 2000);
	check_segments(lab.shard);
	shard_lab_done(&lab);
}

/* What has expired would hold its segments until the disk is full. */
static void test_reclaim__frees_what_expired_without_shortage(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab, DISK, SEGMENT);
	uint32_t segments = lab.shard->super->segments;
	struct shard_put put = { .expiry = SHARD_LAB_START_S + 100 };
	for (uint32_t i = 0; i < FULL / 2; i++)
		assert_int_equal(store_how(&lab, i, VALUE, &put), 0);
	store(&lab, 5000, VALUE);
	assert_int_equal(shard_lab_flush(&lab), 0);
	assert_true(lab.shard->lanes[LANE_SHORT].count > segments / 3);
	assert_true(lab.shard->free_count < segments * 2 / 3);
	os_sim_advance(&lab.os, 101 * NS_PER_S);
	for (uint32_t i = 0; i < segments; i++) {
		shard_lab_settle(&lab);
		os_sim_advance(&lab.os, NS_PER_MS);
	}
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(shard_lab_store(&lab, 6000 + i, 1, VALUE), 0);
	assert_true(lab.shard->free_count >= segments - 3); /* two are open */
	assert_true(lab.shard->index.count <= 5 + SEGMENT / VALUE);
	assert_int_equal(shard_lab_stat(&lab).evicted, 0);
	assert_true(is_hit(&lab, 5000));
	check_segments(lab.shard);
	shard_lab_done(&lab);
}

/* What is pinned would leave, or take more than its quota, or its quota never come back. */
static void test_reclaim__leaves_the_pinned_alone(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab, DISK, SEGMENT);
	uint32_t segments = lab.shard->super->segments;
	struct shard_put put = { .how = HAUL_CACHE_PINNED };
	uint32_t pinned = 0;
	int rc;
	while ((rc = store_how(&lab, pinned, VALUE, &put)) == 0)
		pinned++;
	assert_int_equal(rc, HAUL_EFULL);
	assert_true(lab.shard->lanes[LANE_PINNED].count <= segments / 4);
	assert_true(pinned >= segments / 4 * (SEGMENT / VALUE) * 8 / 10);
	for (uint32_t i = 0; i < 3 * FULL; i++)
		store(&lab, 100000 + i, VALUE);
	for (uint32_t i = 0; i < pinned; i++)
		assert_true(is_hit(&lab, i));

	/* three quarters are deleted: the rest moves together, and the quota has room again */
	for (uint32_t i = 0; i < pinned; i++) {
		if (i % 4 != 0)
			assert_int_equal(shard_lab_delete(&lab, i), 0);
	}
	for (uint32_t i = 0; i < FULL; i++)
		store(&lab, 200000 + i, VALUE);
	for (uint32_t i = 0; i < pinned / 2; i++)
		assert_int_equal(store_how(&lab, 300000 + i, VALUE, &put), 0);
	assert_true(lab.shard->lanes[LANE_PINNED].count <= segments / 4 + 1);
	shard_lab_reopen(&lab);
	for (uint32_t i = 0; i < pinned; i++)
		assert_int_equal(is_hit(&lab, i), i % 4 == 0);
	for (uint32_t i = 0; i < pinned / 2; i++)
		assert_true(is_hit(&lab, 300000 + i));
	check_segments(lab.shard);
	shard_lab_done(&lab);
}

/* Deletes of what is long gone would stay on the disk for ever, and fill it. */
static void test_reclaim__lets_go_of_tombstones(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab, DISK, SEGMENT);
	struct shard_put put = { .how = HAUL_CACHE_PINNED };
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(store_how(&lab, i, VALUE, &put), 0);
	assert_int_equal(shard_lab_delete(&lab, 7), 0); /* an old dead row that stays for long */
	for (uint32_t i = 0; i < 40000; i++) {
		store(&lab, 1000 + i, 200);
		if (i >= 3) {
			char text[32];
			struct cache_key key = shard_lab_key(&lab, 1000 + i - 3, text);
			int rc;
			while ((rc = shard_delete(lab.shard, &key, NULL)) == -EAGAIN) {
				shard_lab_settle(&lab);
				os_sim_advance(&lab.os, NS_PER_MS);
			}
			assert_true(rc == 0 || rc == -ENOENT);
		}
	}
	/* 40000 deletes are more rows than all segments take */
	for (uint32_t i = 0; i < 3 * FULL; i++)
		store(&lab, 900000 + i, VALUE);
	uint64_t rows = 0;
	for (uint32_t s = 0; s < lab.shard->super->segments; s++)
		rows += lab.shard->segments[s].rows;
	assert_true(rows < 2 * FULL);
	for (uint32_t i = 0; i < 40; i++)
		assert_int_equal(is_hit(&lab, i), i != 7);
	check_segments(lab.shard);
	shard_lab_done(&lab);
}

/* Over the write budget everything would be written all the same, or nothing ever admitted. */
static void test_reclaim__admits_within_the_budget(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab.options.write_budget = 100 * KIB;
	lab_open(&lab, DISK, SEGMENT);
	admit_init(&lab.shard->admit, 100 * KIB, 0, lab.os.now_ns);
	struct shard_put put = { .wait = NULL };
	uint32_t taken = 0, refused = 0;
	for (uint32_t i = 0; i < 2000; i++) {
		int rc = store_how(&lab, i, VALUE, &put);
		assert_true(rc == 0 || rc == HAUL_EADMIT);
		taken += rc == 0;
		refused += rc != 0;
	}
	assert_true(taken >= ADMIT_BURST_MIN / 2 / VALUE);
	assert_true(taken <= ADMIT_BURST_MIN / 2 / VALUE + 10); /* the clock moves a little */
	assert_true(refused > 0);
	/* the second time it was seen before, and half of the budget is kept for it */
	assert_int_equal(store_how(&lab, 1999, VALUE, &put), 0);
	assert_true(is_hit(&lab, 1999));
	assert_false(is_hit(&lab, 1998));
	shard_lab_done(&lab);
}

/* What was evicted and comes again would be treated as new; slices of objects, pinned entries and
 * what lives shortly would lie among the rest. */
static void test_reclaim__chooses_lanes(void **state)
{
	(void)state;
	struct shard_lab lab = { .shard = NULL };
	lab_open(&lab, DISK, SEGMENT);
	struct shard *shard = lab.shard;
	char text[32];
	struct shard_put put = { .key = shard_lab_key(&lab, 1, text), .bytes = 100 };
	assert_int_equal(reclaim_lane(shard, &put), LANE_NEW);
	ghost_add(&shard->ghost, put.key.hash);
	assert_int_equal(reclaim_lane(shard, &put), LANE_MAIN);
	put.how = HAUL_CACHE_PINNED;
	assert_int_equal(reclaim_lane(shard, &put), LANE_PINNED);
	put.how = 0;
	put.expiry = SHARD_LAB_START_S + 60;
	assert_int_equal(reclaim_lane(shard, &put), LANE_SHORT);
	put.expiry = SHARD_LAB_START_S + 7200;
	assert_int_equal(reclaim_lane(shard, &put), LANE_MAIN);
	put.key.slice = 3;
	assert_int_equal(reclaim_lane(shard, &put), LANE_BULK);
	store(&lab, 2, VALUE);
	put = (struct shard_put){ .key = shard_lab_key(&lab, 2, text), .bytes = 100 };
	assert_int_equal(reclaim_lane(shard, &put), LANE_NEW);
	assert_true(is_hit(&lab, 2));
	assert_int_equal(reclaim_lane(shard, &put), LANE_MAIN);
	shard_lab_done(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reclaim__keeps_what_is_read_while_the_disk_turns_over),
		cmocka_unit_test(test_reclaim__goes_on_when_everything_is_hot),
		cmocka_unit_test(test_reclaim__works_with_eight_segments),
		cmocka_unit_test(test_reclaim__makes_room_in_the_index),
		cmocka_unit_test(test_reclaim__frees_what_expired_without_shortage),
		cmocka_unit_test(test_reclaim__leaves_the_pinned_alone),
		cmocka_unit_test(test_reclaim__lets_go_of_tombstones),
		cmocka_unit_test(test_reclaim__admits_within_the_budget),
		cmocka_unit_test(test_reclaim__chooses_lanes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
