#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"
#include "shard_lab.h"
#include "write_lab.h"

enum { MIB = 1 << 20, DISK = 24 * MIB, SEGMENT = MIB, KEYS = 60, WRITES_MAX = 60 };

static struct write_lab *lab_open(uint32_t segment_bytes)
{
	struct write_lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	lab->options.fixed = true;
	lab->options.limits = haul_limits_preset(HAUL_PRESET_DISK);
	lab->options.limits.ops_max = 8;
	lab->options.buffer_bytes = 8 * MIB;
	write_lab_open(lab, DISK, segment_bytes);
	return lab;
}

static void lab_free(struct write_lab *lab)
{
	(void)write_lab_close(lab);
	free(lab);
}

static enum haul_cache_status status_of(struct write_lab *lab, uint32_t number)
{
	bool good;
	enum haul_cache_status status = write_lab_get(lab, number, &good);
	assert_int_equal(good, status == HAUL_CACHE_HIT);
	return status;
}

/* Store until it is taken; a shard that is offline takes nothing. */
static bool put_how(struct write_lab *lab, uint32_t number, uint32_t bytes, uint32_t how)
{
	for (uint32_t tries = 0; tries < 100; tries++) {
		struct shard_put item = { .how = how, .wait = write_lab_wait(lab) };
		int rc = write_lab_put_how(lab, &item, number, bytes);
		lab->wait_count -= rc != 0;
		if (rc == 0 || rc == -ENODEV)
			return rc == 0;
		assert_int_equal(rc, -EAGAIN);
		(void)shard_poll(lab->shard);
	}
	fail_msg("no room for key %u", number);
	return false;
}

static bool put(struct write_lab *lab, uint32_t number, uint32_t bytes)
{
	return put_how(lab, number, bytes, 0);
}

/* Key i has waiter i. Two flushes are under way most of the time. One in `pinned` goes to a lane of
 * its own, so that a flush is more than one write. */
static void run(struct write_lab *lab, uint32_t pinned)
{
	for (uint32_t i = 0; i < KEYS; i++) {
		if (!put_how(lab, i, 1000 + i * 200, i % pinned == 0 ? HAUL_CACHE_PINNED : 0))
			return;
		if (i % 16 == 15)
			write_lab_settle(lab);
	}
	write_lab_settle(lab);
}

/* Each waiter was told once, in order; who was told 0 finds its entry, who was not does not. */
static uint32_t check(struct write_lab *lab)
{
	struct haul_err err;
	uint32_t failed = 0;
	bool offline = shard_offline(lab->shard);
	if (offline) {
		/* Roots failed as well, so that an open may find what was never promised. */
		io_sim_fail(lab->disk, IO_WRITE, 0, 0, -EIO);
		assert_int_equal(shard_online(lab->shard, &err), 0);
	}
	for (uint32_t i = 0; i < lab->wait_count; i++) {
		const struct write_lab_wait *wait = &lab->waits[i];
		assert_int_equal(wait->told, 1);
		assert_int_equal(wait->order, i + 1);
		if (wait->result == 0 || !offline)
			assert_int_equal(status_of(lab, i),
					 wait->result == 0 ? HAUL_CACHE_HIT : HAUL_CACHE_MISS);
		failed += wait->result != 0;
	}
	return failed;
}

/* After closing and opening again what was promised is still there. */
static void check_again(struct write_lab *lab)
{
	io_sim_fail(lab->disk, IO_WRITE, 0, 0, -EIO);
	io_sim_fail(lab->disk, IO_SYNC, 0, 0, -EIO);
	(void)shard_close(lab->shard);
	write_lab_shard(lab);
	for (uint32_t i = 0; i < lab->wait_count; i++) {
		if (lab->waits[i].result == 0)
			assert_int_equal(status_of(lab, i), HAUL_CACHE_HIT);
	}
}

/* One write that fails costs nobody anything: the batch moves to a fresh segment, and the root says
 * which one is not to be trusted. Whichever write it is. */
static void test_write_errors__one_failed_write_moves_the_batch(void **state)
{
	(void)state;
	uint32_t moved = 0;
	for (uint32_t at = 0; at < WRITES_MAX; at++) {
		struct write_lab *lab = lab_open(SEGMENT);
		io_sim_fail(lab->disk, IO_WRITE, at, 1, -EIO);
		run(lab, KEYS);
		assert_int_equal(lab->wait_count, KEYS);
		uint32_t failed = check(lab);
		/* A root that fails is a flush that fails. */
		assert_true(failed == 0 || lab->shard->flush_stats.extra[FLUSH_FAILED] == 1);
		moved += lab->shard->flush_stats.extra[FLUSH_MOVED] > 0;
		check_again(lab);
		lab_free(lab);
	}
	assert_true(moved > 5);
}

/* What a failed write left in the old segment is no part of the flush any more: after a power cut
 * the flush is whole without it. If it failed, what was told durable would be dropped as torn. */
static void test_write_errors__moved_batch_is_whole_after_a_power_cut(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct shard_lab *lab = calloc(1, sizeof *lab);
		assert_non_null(lab);
		uint64_t version;
		shard_lab_init(lab, DISK, SEGMENT, seed);
		assert_int_equal(shard_lab_open(lab), 0);
		assert_int_equal(shard_lab_store(lab, 1, 1, 5000), 0);
		io_sim_fail(lab->disk, IO_WRITE, 0, 1, -EIO);
		assert_int_equal(shard_lab_store(lab, 2, 2, 60000), 0);
		assert_int_equal(shard_lab_stat(lab).segments_bad, 1);
		shard_lab_crash(lab, seed % 2 ? IO_SIM_LOSE_ALL : IO_SIM_KEEP_ALL);
		assert_int_equal(shard_lab_open(lab), 0);
		for (uint64_t key = 1; key <= 2; key++) {
			assert_int_equal(shard_lab_get(lab, key, &version), HAUL_CACHE_HIT);
			assert_int_equal(version, key);
		}
		shard_lab_done(lab);
		free(lab);
	}
}

/* When the write fails where it moved as well its flush fails, and only that: who waited is told,
 * its rows are not found, all others are (defect 6: the original lost them, and kept the keys). */
static void test_write_errors__second_failure_fails_the_flush_alone(void **state)
{
	(void)state;
	uint32_t failed = 0;
	for (uint32_t at = 0; at < WRITES_MAX; at++) {
		for (uint32_t count = 2; count <= 4; count++) {
			struct write_lab *lab = lab_open(SEGMENT);
			io_sim_fail(lab->disk, IO_WRITE, at, count, -EIO);
			run(lab, 4);
			uint32_t lost = check(lab);
			assert_true(lost <= 16); /* two flushes under way at most */
			failed += lost > 0;
			check_again(lab);
			lab_free(lab);
		}
	}
	assert_true(failed > 10);
}

/* A sync that fails fails every flush under way, is not tried again on trust, and what was told
 * durable before stays. Whichever sync it is. */
static void test_write_errors__failed_sync_fails_what_is_under_way(void **state)
{
	(void)state;
	uint32_t failed = 0;
	for (uint32_t at = 0; at < 10; at++) {
		struct write_lab *lab = lab_open(SEGMENT);
		io_sim_fail(lab->disk, IO_SYNC, at, 1, -EIO);
		run(lab, 4);
		assert_int_equal(lab->wait_count, KEYS);
		uint32_t lost = check(lab);
		assert_true(lost <= 16);
		failed += lost > 0;
		check_again(lab);
		lab_free(lab);
	}
	assert_true(failed >= 5);
}

/* A lone write is its own sync. When that fails it moves like any write, unless another flush has
 * written meanwhile: then both fail. */
static void test_write_errors__lone_write_is_its_own_sync(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	io_sim_fail(lab->disk, IO_SYNC, 0, 1, -EIO);
	assert_true(put(lab, 0, 5000));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[0].result, 0);
	assert_true(lab->shard->flush_stats.extra[FLUSH_MOVED] == 1);

	io_sim_fail(lab->disk, IO_SYNC, 0, 1, -EIO);
	for (uint32_t i = 1; i < 18; i++)
		assert_true(put(lab, i, 5000)); /* the second batch is begun by the 17th */
	write_lab_settle(lab);
	assert_int_equal(check(lab), 16);
	check_again(lab);
	lab_free(lab);
}

/* A transfer cut short goes on behind what was done. */
static void test_write_errors__short_writes_go_on(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	io_sim_fail(lab->disk, IO_WRITE, 1, 30, 0);
	run(lab, KEYS);
	assert_int_equal(check(lab), 0);
	check_again(lab);
	lab_free(lab);
}

/* A full file system below a sparse file: -ENOSPC is an error like another. */
static void test_write_errors__no_space_is_told(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	io_sim_fail(lab->disk, IO_WRITE, 0, 2, -ENOSPC);
	assert_true(put(lab, 0, 5000));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[0].result, -ENOSPC);
	assert_int_equal(status_of(lab, 0), HAUL_CACHE_MISS);
	assert_true(put(lab, 1, 5000));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[1].result, 0);
	lab_free(lab);
}

/* A buffered store that fails is not silent: the next flush says so, once. */
static void test_write_errors__buffered_failure_is_told_by_the_next_flush(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	io_sim_fail(lab->disk, IO_SYNC, 0, 2, -EIO);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(write_lab_put(lab, i, 1000, false), 0);
	write_lab_settle(lab);
	assert_int_equal(status_of(lab, 3), HAUL_CACHE_MISS);
	shard_flush(lab->shard, write_lab_wait(lab));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[0].result, -EIO);
	shard_flush(lab->shard, write_lab_wait(lab));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[1].result, 0);
	lab_free(lab);
}

/* A flush that itself succeeds still says that a buffered store before it had failed; a durable
 * store that shares it hears only of itself. */
static void test_write_errors__flush_hears_of_what_failed_before(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	struct shard_put pinned = { .how = HAUL_CACHE_PINNED };
	io_sim_fail(lab->disk, IO_SYNC, 0, 1, -EIO);
	assert_int_equal(write_lab_put_how(lab, &pinned, 0, 1000), 0);
	for (uint32_t i = 1; i < 8; i++)
		assert_int_equal(write_lab_put(lab, i, 1000, false), 0);
	write_lab_settle(lab);
	assert_true(put(lab, 8, 1000));
	shard_flush(lab->shard, write_lab_wait(lab));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[0].result, 0);
	assert_int_equal(lab->waits[1].told, 1);
	assert_int_equal(lab->waits[1].result, -EIO);
	assert_int_equal(status_of(lab, 0), HAUL_CACHE_MISS);
	assert_int_equal(status_of(lab, 8), HAUL_CACHE_HIT);
	lab_free(lab);
}

/* Close says what the last flush said. */
static void test_write_errors__close_says_what_failed(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	assert_int_equal(write_lab_put(lab, 1, 1000, false), 0);
	io_sim_fail(lab->disk, IO_SYNC, 0, 2, -EIO);
	assert_int_equal(write_lab_close(lab), -EIO);
	free(lab);
}

/* A failed overwrite or delete leaves neither the new nor the old behind; a later store of the key
 * wins over both, also after an open. */
static void test_write_errors__what_failed_does_not_come_back(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	assert_true(put(lab, 1, 1000));
	write_lab_settle(lab);
	io_sim_fail(lab->disk, IO_SYNC, 0, 2, -EIO);
	assert_true(put(lab, 1, 2000));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[1].result, -EIO);
	assert_int_equal(status_of(lab, 1), HAUL_CACHE_MISS);
	assert_int_equal(write_lab_delete(lab, 1, false), -ENOENT);
	shard_flush(lab->shard, write_lab_wait(lab));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[2].result, 0);
	write_lab_reopen(lab);
	assert_int_equal(status_of(lab, 1), HAUL_CACHE_MISS);
	lab_free(lab);
}

/* What was only gathered when a flush failed is not lost: it moves behind it to a fresh segment. */
static void test_write_errors__what_was_gathered_stays(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	io_sim_fail(lab->disk, IO_SYNC, 0, 1, -EIO);
	struct shard_put pinned = { .how = HAUL_CACHE_PINNED, .wait = write_lab_wait(lab) };
	assert_int_equal(write_lab_put_how(lab, &pinned, 0, 1000), 0); /* a lane of its own */
	for (uint32_t i = 1; i < 12; i++)
		assert_int_equal(write_lab_put(lab, i, 1000, true), 0);
	write_lab_settle(lab);
	for (uint32_t i = 0; i < 12; i++) {
		assert_int_equal(lab->waits[i].told, 1);
		assert_int_equal(lab->waits[i].result, i < 8 ? -EIO : 0);
	}
	(void)check(lab);
	check_again(lab);
	lab_free(lab);
}

/* With no segment left to go on in, what is stored next would be written behind the batch that was
 * lost, and prove it. */
static void test_write_errors__nothing_comes_behind_what_was_lost(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(write_lab_put(lab, i, 1000, true), 0);
	assert_int_equal(write_lab_put(lab, 8, 1000, false), 0); /* gathered behind them */
	struct shard *shard = lab->shard;
	uint32_t segment = shard->lanes[LANE_NEW].segment;
	assert_non_null(shard->segments[segment].chunks->next_segment);
	while (segment_take_apart(shard, LANE_NEW, true) != SEGMENT_NONE)
		continue;
	io_sim_fail(lab->disk, IO_SYNC, 0, 1, -EIO);
	write_lab_settle(lab);
	assert_int_equal(shard->segments[segment].state, SEGMENT_BAD);
	assert_int_equal(check(lab), 8);
	assert_int_equal(write_lab_put(lab, 10, 1000, false), -EAGAIN);
	for (uint32_t i = 8; i < 10; i++) { /* of the ninth the next flush hears, once */
		shard_flush(shard, write_lab_wait(lab));
		write_lab_settle(lab);
		assert_int_equal(lab->waits[i].result, i == 8 ? -EIO : 0);
	}
	write_lab_reopen(lab);
	for (uint32_t i = 0; i < 9; i++)
		assert_int_equal(status_of(lab, i), HAUL_CACHE_MISS);
	lab_free(lab);
}

/* Buffered stores that a dead device lost, taken into use again before anybody asked: the first
 * flush says so, the next has nothing to say. If it failed, they would be lost silently. */
static void test_write_errors__lost_before_online_is_told(void **state)
{
	(void)state;
	struct haul_err err;
	struct write_lab *lab = lab_open(SEGMENT);
	for (uint32_t i = 0; i < 12; i++)
		assert_int_equal(write_lab_put(lab, i, 1000, false), 0);
	io_sim_dead(lab->disk, true);
	write_lab_settle(lab);
	assert_true(shard_offline(lab->shard));
	io_sim_dead(lab->disk, false);
	assert_int_equal(shard_online(lab->shard, &err), 0);
	assert_int_equal(status_of(lab, 3), HAUL_CACHE_MISS);
	shard_flush(lab->shard, write_lab_wait(lab));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[0].result, -ENODEV);
	shard_flush(lab->shard, write_lab_wait(lab));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[1].result, 0);
	lab_free(lab);
}

/* Three failed flushes in a row: offline. Stores are refused, lookups are misses; once the device
 * is back the shard recovers what was durable. */
static void test_write_errors__offline_and_online(void **state)
{
	(void)state;
	struct haul_err err;
	struct write_lab *lab = lab_open(SEGMENT);
	assert_true(put(lab, 0, 5000));
	write_lab_settle(lab);
	io_sim_fail(lab->disk, IO_SYNC, 0, UINT64_MAX, -EIO);
	for (uint32_t i = 1; i < 10 && !shard_offline(lab->shard); i++) {
		if (put(lab, i, 5000))
			write_lab_settle(lab);
	}
	assert_true(shard_offline(lab->shard));
	assert_int_equal(write_lab_put(lab, 20, 100, true), -ENODEV);
	assert_int_equal(write_lab_delete(lab, 0, false), -ENODEV);
	assert_int_equal(shard_purge(lab->shard, NULL), -ENODEV);
	shard_flush(lab->shard, write_lab_wait(lab));
	write_lab_settle(lab);
	for (uint32_t i = 1; i < lab->wait_count; i++) {
		assert_int_equal(lab->waits[i].told, 1);
		assert_true(lab->waits[i].result < 0);
	}
	struct haul_cache_stat stat = { 0 };
	shard_stat(lab->shard, &stat);
	assert_int_equal(stat.offline, 1);

	io_sim_fail(lab->disk, IO_SYNC, 0, 0, -EIO);
	assert_int_equal(shard_online(lab->shard, &err), 0);
	assert_false(shard_offline(lab->shard));
	assert_int_equal(status_of(lab, 0), HAUL_CACHE_HIT);
	uint32_t wait = lab->wait_count;
	assert_true(put(lab, 30, 5000));
	write_lab_settle(lab);
	assert_int_equal(lab->waits[wait].result, 0);
	assert_int_equal(status_of(lab, 30), HAUL_CACHE_HIT);
	lab_free(lab);
}

/* Three failed flushes in a row take the device for dead; as many with good ones between do not. If
 * it failed, a disk that errs now and then would be gone in a day. */
static void test_write_errors__good_flushes_are_trusted_again(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(SEGMENT);
	for (uint32_t i = 0; i < 12; i++) {
		io_sim_fail(lab->disk, IO_SYNC, 0, i % 2, -EIO);
		/* Two lanes, so that the sync is not a write's own. */
		assert_true(put(lab, 2 * i, 5000));
		assert_true(put_how(lab, 2 * i + 1, 5000, HAUL_CACHE_PINNED));
		write_lab_settle(lab);
		assert_int_equal(lab->waits[2 * i].result, i % 2 ? -EIO : 0);
		assert_false(shard_offline(lab->shard));
		io_sim_fail(lab->disk, IO_SYNC, 0, 0, 0);
		write_lab_settle(lab);
	}
	lab_free(lab);
}

/* When the table of quarantined segments is full, what fails takes the device offline: no segment
 * may be left that is bad and not known to be. */
static void test_write_errors__more_bad_segments_than_are_listed(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open(65536);
	assert_true(lab->volume.super.segments > FORMAT_BAD_MAX + 20);
	for (uint32_t i = 0; i < 2 * FORMAT_BAD_MAX && !shard_offline(lab->shard); i++) {
		lab->wait_count = 0;
		io_sim_fail(lab->disk, IO_SYNC, 0, 1, -EIO);
		assert_true(put(lab, 2 * i, 500));
		assert_true(put_how(lab, 2 * i + 1, 500, HAUL_CACHE_PINNED));
		write_lab_settle(lab);
		lab->shard->failures = 0; /* not in a row */
		assert_true(lab->shard->root.bad_count <= FORMAT_BAD_MAX);
	}
	assert_true(shard_offline(lab->shard));
	assert_int_equal(lab->shard->root.bad_count, FORMAT_BAD_MAX);
	lab_free(lab);
}

static uint32_t root_copy_of(const struct write_lab *lab, uint64_t offset)
{
	for (uint32_t copy = 0; copy < 2; copy++)
		if (offset == format_root_offset(&lab->volume.super, 0, copy))
			return copy;
	return 2;
}

/* The sync behind a root fails: whether that copy is good is not known, so the next root goes over
 * it, and not over the other. If it failed, a power cut would leave none. */
static void test_write_errors__doubtful_root_is_written_over(void **state)
{
	(void)state;
	uint32_t roots = 0, copies[8];
	struct write_lab *lab = lab_open(SEGMENT);
	assert_true(put(lab, 0, 5000));
	write_lab_settle(lab);
	lab->spy.write_count = 0;
	io_sim_fail(lab->disk, IO_SYNC, 0, 1, -EIO);
	assert_int_equal(shard_purge(lab->shard, write_lab_wait(lab)), 0);
	write_lab_settle(lab);
	for (uint32_t i = 0; i < lab->spy.write_count && roots < 8; i++) {
		const uint32_t copy = root_copy_of(lab, lab->spy.writes[i].offset);
		if (copy < 2)
			copies[roots++] = copy;
	}
	assert_true(roots >= 2);
	assert_int_equal(copies[0], copies[1]);
	lab_free(lab);
}

/* A device that goes away in the middle: everybody is told, nothing is held for ever. */
static void test_write_errors__dead_device(void **state)
{
	(void)state;
	struct haul_err err;
	struct write_lab *lab = lab_open(SEGMENT);
	assert_true(put(lab, 0, 5000));
	write_lab_settle(lab);
	for (uint32_t i = 1; i < 20; i++)
		assert_int_equal(write_lab_put(lab, i, 1000, true), 0);
	io_sim_dead(lab->disk, true);
	write_lab_settle(lab);
	assert_true(shard_offline(lab->shard));
	for (uint32_t i = 1; i < 20; i++) {
		assert_int_equal(lab->waits[i].told, 1);
		assert_int_equal(lab->waits[i].order, i + 1);
		assert_true(lab->waits[i].result < 0);
	}
	assert_true(status_of(lab, 0) != HAUL_CACHE_HIT);
	io_sim_dead(lab->disk, false);
	assert_int_equal(shard_online(lab->shard, &err), 0);
	assert_int_equal(status_of(lab, 0), HAUL_CACHE_HIT);
	lab_free(lab);
}

/* Small segments, so that batches that fail lie in segments that were sealed behind them, and
 * footers are among the writes that fail. */
static void test_write_errors__sealed_segments_and_footers(void **state)
{
	(void)state;
	for (uint32_t at = 0; at < WRITES_MAX; at++) {
		for (uint32_t count = 1; count <= 3; count++) {
			struct write_lab *lab = lab_open(65536);
			io_sim_fail(lab->disk, IO_WRITE, at, count, -EIO);
			run(lab, KEYS);
			(void)check(lab);
			check_again(lab);
			lab_free(lab);
		}
	}
}

enum { MODEL_KEYS = 24, MODEL_OPS = 260, OPS_OF_KEY = 64 };
#define GONE UINT32_MAX

/* What was done to a key, oldest first: bytes stored (they tell values apart), or GONE. */
struct model_key {
	uint32_t bytes[OPS_OF_KEY];
	uint32_t wait[OPS_OF_KEY];
	uint32_t count;
};

static uint32_t bytes_of(struct write_lab *lab, uint32_t number)
{
	char text[32];
	struct cache_key key = write_lab_key(lab, number, text);
	struct index_entry entry;
	if (status_of(lab, number) == HAUL_CACHE_MISS)
		return GONE;
	index_unpack(index_find(&lab->shard->index, key.hash), &entry);
	return entry.bytes;
}

/* What is there is the last that was promised, or something later that failed, or, after such,
 * nothing. Before a key's first promise there may be nothing. */
static void model_check(struct write_lab *lab, const struct model_key *key, uint32_t number)
{
	uint32_t found = bytes_of(lab, number);
	bool failed = false;
	for (uint32_t i = key->count; i > 0; i--) {
		const struct write_lab_wait *wait = &lab->waits[key->wait[i - 1]];
		assert_int_equal(wait->told, 1);
		if (found == key->bytes[i - 1])
			return;
		if (wait->result == 0)
			break;
		failed = true;
	}
	assert_true(found == GONE && (failed || key->count == 0));
}

static void model_op(struct write_lab *lab, struct model_key *key, uint32_t number,
		     struct prng *prng)
{
	uint32_t how = prng_below(prng, 5) == 0 ? HAUL_CACHE_PINNED : 0;
	uint32_t bytes = 100 + lab->wait_count * 40;
	if (key->count == OPS_OF_KEY)
		return;
	uint32_t wait = lab->wait_count;
	if (prng_below(prng, 4) > 0) {
		if (!put_how(lab, number, bytes, how))
			return;
	} else {
		int rc = write_lab_delete(lab, number, true);
		if (rc != 0) {
			lab->wait_count = wait;
			return;
		}
		bytes = GONE;
	}
	key->bytes[key->count] = bytes;
	key->wait[key->count++] = wait;
}

/* Random stores and deletes among random failures, then the same once more after an open: what was
 * promised is there, what was told to have failed is not taken for promised, no value is wrong. */
static void test_write_errors__random_failures(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	uint64_t lost = 0;
	for (uint32_t round = 0; round < 60; round++) {
		struct model_key keys[MODEL_KEYS] = { 0 };
		struct haul_err err;
		struct write_lab *lab = lab_open(round % 2 ? 262144 : 131072);
		for (uint32_t i = 0; i < MODEL_OPS; i++) {
			uint32_t number = prng_below(&prng, MODEL_KEYS);
			model_op(lab, &keys[number], number, &prng);
			if (prng_below(&prng, 6) == 0)
				(void)shard_poll(lab->shard);
			if (prng_below(&prng, 40) == 0)
				io_sim_fail(lab->disk, prng_below(&prng, 3) ? IO_WRITE : IO_SYNC,
					    prng_below(&prng, 6), 1 + prng_below(&prng, 2), -EIO);
			if (prng_below(&prng, 50) == 0)
				write_lab_settle(lab);
		}
		shard_flush(lab->shard, NULL);
		write_lab_settle(lab);
		io_sim_fail(lab->disk, IO_WRITE, 0, 0, -EIO);
		io_sim_fail(lab->disk, IO_SYNC, 0, 0, -EIO);
		if (shard_offline(lab->shard))
			assert_int_equal(shard_online(lab->shard, &err), 0);
		for (uint32_t i = 0; i < MODEL_KEYS; i++)
			model_check(lab, &keys[i], i);
		assert_int_equal(lab->shard->stat.evicted, 0); /* or it may be missed */
		lost += lab->shard->flush_stats.extra[FLUSH_FAILED];
		(void)shard_close(lab->shard);
		write_lab_shard(lab);
		for (uint32_t i = 0; i < MODEL_KEYS; i++)
			model_check(lab, &keys[i], i);
		lab_free(lab);
	}
	assert_true(lost > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_errors__one_failed_write_moves_the_batch),
		cmocka_unit_test(test_write_errors__moved_batch_is_whole_after_a_power_cut),
		cmocka_unit_test(test_write_errors__second_failure_fails_the_flush_alone),
		cmocka_unit_test(test_write_errors__failed_sync_fails_what_is_under_way),
		cmocka_unit_test(test_write_errors__lone_write_is_its_own_sync),
		cmocka_unit_test(test_write_errors__short_writes_go_on),
		cmocka_unit_test(test_write_errors__no_space_is_told),
		cmocka_unit_test(test_write_errors__buffered_failure_is_told_by_the_next_flush),
		cmocka_unit_test(test_write_errors__flush_hears_of_what_failed_before),
		cmocka_unit_test(test_write_errors__close_says_what_failed),
		cmocka_unit_test(test_write_errors__what_failed_does_not_come_back),
		cmocka_unit_test(test_write_errors__what_was_gathered_stays),
		cmocka_unit_test(test_write_errors__nothing_comes_behind_what_was_lost),
		cmocka_unit_test(test_write_errors__offline_and_online),
		cmocka_unit_test(test_write_errors__lost_before_online_is_told),
		cmocka_unit_test(test_write_errors__good_flushes_are_trusted_again),
		cmocka_unit_test(test_write_errors__more_bad_segments_than_are_listed),
		cmocka_unit_test(test_write_errors__doubtful_root_is_written_over),
		cmocka_unit_test(test_write_errors__dead_device),
		cmocka_unit_test(test_write_errors__sealed_segments_and_footers),
		cmocka_unit_test(test_write_errors__random_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
