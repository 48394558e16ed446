#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"
#include "write_lab.h"

enum { MIB = 1 << 20, DISK = 48 * MIB, SEGMENT = 4 * MIB, KIB64 = 65536 };

static struct write_lab *lab_new(void)
{
	struct write_lab *lab = calloc(1, sizeof *lab);
	assert_non_null(lab);
	lab->options.fixed = true;
	lab->options.buffer_bytes = 16 * MIB;
	return lab;
}

static struct write_lab *lab_open(void)
{
	struct write_lab *lab = lab_new();
	write_lab_open(lab, DISK, SEGMENT);
	return lab;
}

static void lab_free(struct write_lab *lab)
{
	assert_int_equal(write_lab_close(lab), 0);
	free(lab);
}

static void expect(struct write_lab *lab, uint32_t number, enum haul_cache_status status)
{
	bool good;
	assert_int_equal(write_lab_get(lab, number, &good), status);
	assert_int_equal(good, status == HAUL_CACHE_HIT);
}

static struct haul_cache_stat stat_of(struct write_lab *lab)
{
	struct haul_cache_stat stat = { 0 };
	shard_stat(lab->shard, &stat);
	return stat;
}

static void put(struct write_lab *lab, uint32_t number, uint32_t bytes, bool durable)
{
	assert_int_equal(write_lab_put(lab, number, bytes, durable), 0);
}

static void expect_told(const struct write_lab *lab, uint32_t wait, int result)
{
	assert_int_equal(lab->waits[wait].told, 1);
	assert_int_equal(lab->waits[wait].result, result);
	assert_int_equal(lab->waits[wait].order, wait + 1);
}

/* A buffered store is seen at once, though nothing goes to the disk before the flush: the original
 * looked on the disk for what was still in its buffer (defect 5). */
static void test_flush__buffered_store_is_seen_before_the_flush(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	put(lab, 1, 4096, false);
	write_lab_settle(lab);
	expect(lab, 1, HAUL_CACHE_HIT);
	assert_int_equal(write_lab_writes(lab), 0);
	assert_int_equal(stat_of(lab).pending_writes, 1);
	assert_int_equal(stat_of(lab).buffered_bytes, 4096);

	shard_flush(lab->shard, write_lab_wait(lab));
	write_lab_settle(lab);
	expect_told(lab, 0, 0);
	assert_int_equal(write_lab_syncs(lab), 1);
	expect(lab, 1, HAUL_CACHE_HIT);
	assert_int_equal(stat_of(lab).pending_writes, 0);
	assert_int_equal(stat_of(lab).closed[HAUL_CLOSE_MANUAL], 1);
	lab_free(lab);
}

/* The 32nd operation closes a batch; the one before does not. */
static void test_flush__closes_by_operations(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	for (uint32_t i = 0; i < 31; i++)
		put(lab, i, 4096, false);
	write_lab_settle(lab);
	assert_int_equal(write_lab_syncs(lab), 0);
	put(lab, 31, 4096, false);
	write_lab_settle(lab);
	assert_int_equal(write_lab_syncs(lab), 1);
	struct haul_cache_stat stat = stat_of(lab);
	assert_int_equal(stat.closed[HAUL_CLOSE_OPS], 1);
	assert_int_equal(stat.flush_ops, 32);
	assert_int_equal(stat.flush_bytes, 32 * 4096);
	lab_free(lab);
}

/* A caller that never turns the shard gets batches of exactly 32 all the same, two on their way and
 * then -EAGAIN: it is told to wait, nothing is dropped. */
static void test_flush__a_full_batch_goes_before_the_next_operation(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	for (uint32_t i = 0; i < 96; i++)
		put(lab, i, 4096, false);
	assert_int_equal(write_lab_put(lab, 96, 4096, false), -EAGAIN);
	assert_false(shard_room(lab->shard));
	write_lab_settle(lab);
	assert_true(shard_room(lab->shard));
	put(lab, 96, 4096, false);
	assert_int_equal(stat_of(lab).flushes, 3);
	assert_int_equal(stat_of(lab).flush_ops, 96);
	assert_int_equal(stat_of(lab).closed[HAUL_CLOSE_OPS], 3);
	for (uint32_t i = 0; i <= 96; i++)
		expect(lab, i, HAUL_CACHE_HIT);
	lab_free(lab);
}

/* Four MiB close a batch, however few operations they are. */
static void test_flush__closes_by_bytes(void **state)
{
	(void)state;
	struct write_lab *lab = lab_new();
	lab->options.limits = haul_limits_preset(HAUL_PRESET_DISK);
	lab->options.limits.ops_max = 1000;
	write_lab_open(lab, DISK, SEGMENT);
	for (uint32_t i = 0; i < 63; i++)
		put(lab, i, KIB64, false);
	write_lab_settle(lab);
	assert_int_equal(write_lab_syncs(lab), 0);
	put(lab, 63, KIB64, false);
	write_lab_settle(lab);
	assert_int_equal(write_lab_syncs(lab), 1);
	assert_int_equal(stat_of(lab).closed[HAUL_CLOSE_BYTES], 1);
	assert_int_equal(stat_of(lab).flush_bytes, 4 * MIB);
	lab_free(lab);
}

/* What nobody waits for is written when the first of it is a millisecond old. */
static void test_flush__closes_by_deadline(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	int64_t start_ns = lab->os.now_ns;
	put(lab, 1, 100, false);
	os_sim_advance(&lab->os, NS_PER_MS / 2);
	put(lab, 2, 100, false);
	assert_int_equal(shard_poll(lab->shard), start_ns + NS_PER_MS);
	os_sim_advance(&lab->os, NS_PER_MS / 2 - 1);
	assert_int_equal(shard_poll(lab->shard), start_ns + NS_PER_MS);
	assert_int_equal(write_lab_writes(lab), 0);
	os_sim_advance(&lab->os, 1);
	write_lab_settle(lab);
	assert_int_equal(write_lab_syncs(lab), 1);
	assert_int_equal(stat_of(lab).closed[HAUL_CLOSE_DEADLINE], 1);
	lab_free(lab);
}

/* A stream of buffered stores reads the clock once in 16; who polls without having stored hears of
 * a deadline that is over, and so does a stream that goes on. If it failed, what nobody waits for
 * would stay in memory. */
static void test_flush__a_stream_is_told_the_time(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	int64_t start_ns = lab->os.now_ns;
	put(lab, 1, 100, false);
	assert_int_equal(shard_poll(lab->shard), start_ns + NS_PER_MS);
	os_sim_advance(&lab->os, 2 * NS_PER_MS);
	put(lab, 2, 100, false);
	assert_int_equal(shard_poll(lab->shard), start_ns + NS_PER_MS); /* over: poll again */
	assert_int_equal(write_lab_writes(lab), 0);
	write_lab_settle(lab);
	assert_int_equal(stat_of(lab).closed[HAUL_CLOSE_DEADLINE], 1);

	for (uint32_t i = 0; i < 17; i++) {
		put(lab, 10 + i, 100, false);
		(void)shard_poll(lab->shard);
		os_sim_advance(&lab->os, i == 0 ? 2 * NS_PER_MS : 0);
	}
	assert_int_equal(stat_of(lab).pending_writes, 0); /* on its way */
	write_lab_settle(lab);
	assert_int_equal(stat_of(lab).closed[HAUL_CLOSE_DEADLINE], 2);
	lab_free(lab);
}

/* A lone durable store goes at once: one write, one sync, no deadline. */
static void test_flush__lone_durable_store_does_not_wait(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	put(lab, 1, 4096, true);
	assert_int_equal(lab->waits[0].told, 0); /* never from inside the call */
	write_lab_settle(lab);
	expect_told(lab, 0, 0);
	assert_int_equal(write_lab_writes(lab), 1);
	assert_int_equal(write_lab_syncs(lab), 1);
	assert_int_equal(stat_of(lab).closed[HAUL_CLOSE_IDLE], 1);
	lab_free(lab);
}

/* Stores that wait and stores that do not share a batch, and one sync. */
static void test_flush__mixes_buffered_and_durable(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	put(lab, 1, 4096, false);
	put(lab, 2, 4096, true);
	put(lab, 3, 4096, false);
	put(lab, 4, 100, true);
	write_lab_settle(lab);
	expect_told(lab, 0, 0);
	expect_told(lab, 1, 0);
	assert_int_equal(write_lab_syncs(lab), 1);
	assert_int_equal(stat_of(lab).flush_ops, 4);
	write_lab_reopen(lab);
	for (uint32_t i = 1; i <= 4; i++)
		expect(lab, i, HAUL_CACHE_HIT);
	lab_free(lab);
}

/* One sync a flush, whatever it carries: several lanes, a delete, transfers over the split. The
 * original synced after each of its writes (defect 1). */
static void test_flush__one_sync_whatever_it_carries(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	put(lab, 1, 100, true);
	write_lab_settle(lab);
	write_lab_mark(lab);
	struct shard_put pinned = { .how = HAUL_CACHE_PINNED, .wait = write_lab_wait(lab) };
	struct shard_put brief = { .expiry = (uint32_t)(lab->os.now_ns / NS_PER_S) + 60 };
	assert_int_equal(write_lab_put_how(lab, &pinned, 2, 3000), 0);
	assert_int_equal(write_lab_put_how(lab, &brief, 3, 3000), 0);
	put(lab, 4, MIB, false);
	put(lab, 5, MIB, false);
	assert_int_equal(write_lab_delete(lab, 1, true), 0);
	write_lab_settle(lab);
	assert_int_equal(write_lab_syncs(lab), 1);
	assert_true(write_lab_writes(lab) >= 4);
	expect_told(lab, 1, 0);
	expect_told(lab, 2, 0);
	lab_free(lab);
}

/* Two flushes overlap: while one is synced the writes of the next are under way, and its sync waits
 * for that of the first. */
static void test_flush__two_overlap_and_finish_in_order(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	for (uint32_t i = 0; i < 65; i++)
		put(lab, i, 4096, true);
	assert_int_equal(write_lab_writes(lab), 2);
	assert_int_equal(write_lab_syncs(lab), 0);
	write_lab_settle(lab);
	for (uint32_t i = 0; i < 65; i++)
		expect_told(lab, i, 0);
	assert_int_equal(stat_of(lab).flushes, 3);
	assert_int_equal(write_lab_syncs(lab), 3);
	lab_free(lab);
}

/* No byte that was written is written again: the original filled gaps with zeros, over whoever lay
 * there (defect 2). */
static void test_flush__never_writes_over_a_neighbour(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct write_lab *lab = lab_open();
	for (uint32_t i = 0; i < 400; i++) {
		put(lab, i, 1 + prng_below(&prng, 20000), prng_below(&prng, 4) == 0);
		if (prng_below(&prng, 3) == 0)
			write_lab_settle(lab);
	}
	write_lab_settle(lab);
	assert_int_equal(write_lab_rewritten(lab), 0);
	for (uint32_t i = 0; i < 400; i++)
		expect(lab, i, HAUL_CACHE_HIT);
	lab_free(lab);
}

/* Storing a key again leaves one entry, and gives the place of the old one up: the original leaked
 * it, and listed the key twice (defect 8). */
static void test_flush__overwrite_lets_the_old_copy_go(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	for (uint32_t i = 0; i < 10; i++) {
		put(lab, 1, 5000 + i, true);
		write_lab_settle(lab);
	}
	struct haul_cache_stat stat = stat_of(lab);
	assert_int_equal(stat.entries, 1);
	assert_int_equal(stat.stored_bytes, 5009);
	expect(lab, 1, HAUL_CACHE_HIT);
	write_lab_reopen(lab);
	assert_int_equal(stat_of(lab).entries, 1);
	expect(lab, 1, HAUL_CACHE_HIT);
	lab_free(lab);
}

/* flush_writes with nothing to write is told at once, from the next turn. */
static void test_flush__nothing_to_flush_is_durable_already(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	shard_flush(lab->shard, write_lab_wait(lab));
	assert_int_equal(lab->waits[0].told, 0);
	write_lab_settle(lab);
	expect_told(lab, 0, 0);
	assert_int_equal(write_lab_syncs(lab), 0);
	lab_free(lab);
}

/* Who asks for a flush while one is under way is told behind it, not before. */
static void test_flush__waits_for_what_is_under_way(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	put(lab, 1, 4096, true);
	(void)shard_poll(lab->shard); /* the write is under way */
	shard_flush(lab->shard, write_lab_wait(lab));
	write_lab_settle(lab);
	expect_told(lab, 0, 0);
	expect_told(lab, 1, 0);
	lab_free(lab);
}

static void told_then_put(struct shard_wait *wait, int result)
{
	struct write_lab *lab = wait->owner;
	assert_int_equal(result, 0);
	if (lab->wait_count < 100)
		put(lab, lab->wait_count, 4096, true);
	wait->owner = NULL;
}

/* A waiter may store again from inside the call that tells it. */
static void test_flush__waiter_may_store_again(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	for (uint32_t round = 0; round < 40; round++) {
		struct shard_wait wait = { .done = told_then_put, .owner = lab };
		struct shard_put first = { .wait = &wait };
		assert_int_equal(write_lab_put_how(lab, &first, 200 + round, 4096), 0);
		write_lab_settle(lab);
		assert_null(wait.owner);
	}
	for (uint32_t i = 0; i < lab->wait_count; i++)
		expect_told(lab, i, 0);
	lab_free(lab);
}

static void see_block(const struct haul_stats *stats, void *arg)
{
	struct haul_stats *out = arg;
	if (strcmp(stats->name, "cache7.flush") == 0)
		*out = *stats;
}

/* Batches, reasons, fill, waiting and service are in the table of statistics. */
static void test_flush__fills_its_block_of_statistics(void **state)
{
	(void)state;
	struct write_lab *lab = lab_new();
	struct haul_stats seen = { 0 };
	assert_int_equal(haul_stats_table_open(&lab->options.stats), 0);
	struct haul_stats_table *table = lab->options.stats;
	lab->options.name = "cache7";
	write_lab_open(lab, DISK, SEGMENT);
	for (uint32_t i = 0; i < 40; i++)
		put(lab, i, 4096, i == 39);
	write_lab_settle(lab);
	haul_stats_visit(table, see_block, &seen);
	assert_int_equal(seen.batches, 2);
	assert_int_equal(seen.ops, 40);
	assert_int_equal(seen.bytes, 40 * 4096);
	assert_int_equal(seen.closed[HAUL_CLOSE_OPS], 1);
	assert_int_equal(seen.closed[HAUL_CLOSE_IDLE], 1);
	assert_int_equal(seen.fill.max, 32);
	assert_int_equal(seen.wait_ns.count, 2);
	assert_int_equal(seen.service_ns.count, 2);
	assert_int_equal(seen.extra[FLUSH_BATCHES], 2);
	assert_int_equal(seen.extra[FLUSH_SYNCS], 2);
	assert_true(seen.extra[FLUSH_DEVICE_BYTES] > 40 * 4096);
	lab_free(lab);
	haul_stats_table_close(table);
}

/* When nothing fixes it, a batch grows until its sync is a twentieth of its time, and buffers bound
 * it. */
static void test_flush__batch_grows_with_the_cost_of_a_sync(void **state)
{
	(void)state;
	struct write_lab *lab = lab_new();
	lab->options.fixed = false;
	write_lab_open(lab, DISK, SEGMENT);
	lab->shard->model =
		(struct haul_disk_model){ .sync_ns = 300e3 / 19 * 4, .write_bandwidth = 1e9 };
	flush_limits(lab->shard);
	assert_int_equal(stat_of(lab).batch_bytes_target, 1200000);
	for (uint32_t i = 0; i < 200; i++)
		put(lab, i, 4096, false);
	write_lab_settle(lab);
	assert_int_equal(write_lab_syncs(lab), 0);
	for (uint32_t i = 200; i < 300; i++)
		put(lab, i, 4096, false);
	write_lab_settle(lab);
	assert_int_equal(write_lab_syncs(lab), 1);

	lab->shard->model.sync_ns = 1e9;
	flush_limits(lab->shard);
	assert_true(stat_of(lab).batch_bytes_target <= lab->options.buffer_bytes / 2);
	/* A sync that costs nothing, or of which nothing is known, does not make batches tiny. */
	lab->shard->model.sync_ns = 1;
	flush_limits(lab->shard);
	assert_int_equal(stat_of(lab).batch_bytes_target, 1 << 18);
	lab->shard->model.sync_ns = 0;
	flush_limits(lab->shard);
	assert_int_equal(stat_of(lab).batch_bytes_target, CHUNK_BYTES);
	lab_free(lab);
}

/* Whatever is gathered is durable when the shard was closed, and close says so. */
static void test_flush__close_flushes(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	for (uint32_t i = 0; i < 20; i++)
		put(lab, i, 3000, false);
	write_lab_reopen(lab);
	for (uint32_t i = 0; i < 20; i++)
		expect(lab, i, HAUL_CACHE_HIT);
	lab_free(lab);
}

/* A purge is one root and one sync; all before it is gone, at once and for good; what comes after
 * stays. */
static void test_flush__purge_is_durable(void **state)
{
	(void)state;
	struct write_lab *lab = lab_open();
	for (uint32_t i = 0; i < 50; i++)
		put(lab, i, 3000, i % 2 == 0);
	write_lab_settle(lab);
	write_lab_mark(lab);
	assert_int_equal(shard_purge(lab->shard, write_lab_wait(lab)), 0);
	put(lab, 100, 3000, true);
	expect(lab, 1, HAUL_CACHE_MISS);
	write_lab_settle(lab);
	assert_int_equal(lab->waits[25].told, 1);
	assert_int_equal(lab->waits[25].result, 0);
	assert_int_equal(write_lab_syncs(lab), 1);
	write_lab_reopen(lab);
	for (uint32_t i = 0; i < 50; i++)
		expect(lab, i, HAUL_CACHE_MISS);
	expect(lab, 100, HAUL_CACHE_HIT);
	lab_free(lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flush__buffered_store_is_seen_before_the_flush),
		cmocka_unit_test(test_flush__closes_by_operations),
		cmocka_unit_test(test_flush__a_full_batch_goes_before_the_next_operation),
		cmocka_unit_test(test_flush__closes_by_bytes),
		cmocka_unit_test(test_flush__closes_by_deadline),
		cmocka_unit_test(test_flush__a_stream_is_told_the_time),
		cmocka_unit_test(test_flush__lone_durable_store_does_not_wait),
		cmocka_unit_test(test_flush__mixes_buffered_and_durable),
		cmocka_unit_test(test_flush__one_sync_whatever_it_carries),
		cmocka_unit_test(test_flush__two_overlap_and_finish_in_order),
		cmocka_unit_test(test_flush__never_writes_over_a_neighbour),
		cmocka_unit_test(test_flush__overwrite_lets_the_old_copy_go),
		cmocka_unit_test(test_flush__nothing_to_flush_is_durable_already),
		cmocka_unit_test(test_flush__waits_for_what_is_under_way),
		cmocka_unit_test(test_flush__waiter_may_store_again),
		cmocka_unit_test(test_flush__fills_its_block_of_statistics),
		cmocka_unit_test(test_flush__batch_grows_with_the_cost_of_a_sync),
		cmocka_unit_test(test_flush__close_flushes),
		cmocka_unit_test(test_flush__purge_is_durable),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
