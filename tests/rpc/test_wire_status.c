/* The figures of a server on the wire: both ways, of earlier and later versions, and every rule
 * broken once. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"
#include "rpc/wire_status.h"

enum { ROOM = 64 << 10 };

static const struct haul_counter two[] = { { "flushes", "" }, { "level0_bytes", "" } };

static void hist_random(struct prng *prng, struct haul_hist *hist)
{
	const uint32_t samples = prng_below(prng, 200);

	for (uint32_t i = 0; i < samples; i++)
		haul_hist_add(hist, prng_next(prng) >> prng_below(prng, 64), 1);
}

static void stats_random(struct prng *prng, struct haul_stats *stats)
{
	haul_stats_init(stats, "store.commit", two, 2);
	stats->ops = prng_next(prng);
	stats->batches = prng_next(prng);
	stats->bytes = prng_next(prng);
	stats->syscalls = prng_next(prng);
	for (uint32_t i = 0; i < HAUL_CLOSE_REASONS; i++)
		stats->closed[i] = prng_next(prng);
	stats->extra[0] = prng_next(prng);
	stats->extra[1] = prng_next(prng);
	hist_random(prng, &stats->fill);
	hist_random(prng, &stats->wait_ns);
	hist_random(prng, &stats->service_ns);
}

static void assert_same(const struct haul_stats *seen, const struct haul_stats *stats)
{
	enum { FIGURES = offsetof(struct haul_stats, ops) };

	assert_string_equal(seen->name, stats->name);
	assert_int_equal(seen->counter_count, stats->counter_count);
	for (uint32_t i = 0; i < stats->counter_count; i++) {
		assert_string_equal(seen->counters[i].name, stats->counters[i].name);
		assert_string_equal(seen->counters[i].help, "");
	}
	assert_null(seen->refresh);
	assert_memory_equal((const char *)seen + FIGURES, (const char *)stats + FIGURES,
			    sizeof *stats - FIGURES);
}

static struct haul_store_status sample_status(void)
{
	struct haul_store_status status = {
		.uuid = "0123456789abcde",
		.level_count = 2,
		.sync_ns = INT64_MAX,
		.arrivals_per_s = 1234.5,
	};
	uint64_t value = 100;

#define X(name) status.name = value++;
	WIRE_STATUS_LIST(X)
#undef X
	for (uint32_t i = 0; i < 2; i++) {
		status.level[i].runs = 1 + i;
		status.level[i].tables = 10 + i;
		status.level[i].rows = UINT64_MAX - i;
		status.level[i].bytes = 1000 + i;
	}
	return status;
}

/* ---- as it is ---- */

/* All figures come back as they were, blocks one behind the other. */
static void test_wire_status__carries_all_figures(void **state)
{
	static _Alignas(8) uint8_t data[4 * ROOM];
	static struct wire_status_block block;
	static struct haul_stats stats[4];
	const struct haul_store_status status = sample_status();
	struct haul_store_status seen;
	struct prng prng;

	(void)state;
	test_prng(&prng);
	for (uint32_t round = 0; round < 50; round++) {
		struct wire_page page = { data, 0, sizeof data };
		wire_status_put(&page, &status);
		for (uint32_t i = 0; i < 4; i++) {
			stats_random(&prng, &stats[i]);
			wire_status_put_block(&page, &stats[i]);
			assert_int_equal(page.at % 8, 0);
		}
		struct wire_reading reading = { data, 0, page.at };
		assert_int_equal(wire_status_get(&reading, &seen), 0);
		assert_memory_equal(&seen, &status, sizeof seen);
		for (uint32_t i = 0; i < 4; i++) {
			assert_int_equal(wire_status_get_block(&reading, &block), 0);
			assert_same(&block.stats, &stats[i]);
		}
		assert_int_equal(reading.at, page.at);
		assert_int_equal(wire_status_get_block(&reading, &block), HAUL_ECORRUPT);
	}
}

/* The most a table of statistics can hold fits into one result; names that are too long are cut. */
static void test_wire_status__a_full_table_fits(void **state)
{
	static struct haul_counter counters[HAUL_STATS_COUNTERS];
	static struct wire_status_block block;
	static struct haul_stats stats;
	static char name[200];
	struct haul_store_status status = sample_status(), seen;
	uint8_t *data = aligned_alloc(64, WIRE_RESULT_MAX);

	(void)state;
	assert_non_null(data);
	memset(name, 'n', sizeof name - 1);
	for (uint32_t i = 0; i < HAUL_STATS_COUNTERS; i++)
		counters[i] = (struct haul_counter){ name, "help" };
	haul_stats_init(&stats, name, counters, HAUL_STATS_COUNTERS);
	for (uint32_t i = 0; i < HAUL_HIST_BUCKETS; i++)
		stats.fill.bucket[i] = stats.wait_ns.bucket[i] = stats.service_ns.bucket[i] = i + 1;
	status.level_count = 8;
	struct wire_page page = { data, WIRE_RESULT_HEAD, WIRE_RESULT_MAX };
	wire_status_put(&page, &status);
	const uint32_t head = page.at;
	for (uint32_t i = 0; i < HAUL_STATS_BLOCKS; i++)
		wire_status_put_block(&page, &stats);
	assert_int_equal(page.at - head, HAUL_STATS_BLOCKS * WIRE_BLOCK_MAX);
	struct wire_reading reading = { data, WIRE_RESULT_HEAD, page.at };
	assert_int_equal(wire_status_get(&reading, &seen), 0);
	assert_int_equal(seen.level_count, 8);
	for (uint32_t i = 0; i < HAUL_STATS_BLOCKS; i++) {
		assert_int_equal(wire_status_get_block(&reading, &block), 0);
		assert_int_equal(strlen(block.stats.name), WIRE_NAME_MAX);
		assert_int_equal(block.stats.service_ns.bucket[HAUL_HIST_BUCKETS - 1],
				 HAUL_HIST_BUCKETS);
	}
	free(data);
}

/* ---- of other versions ---- */

/* Opens a gap of zeros or ones at `at`, or takes bytes away (less than 0). */
static void move(struct wire_page *page, uint32_t at, int32_t bytes)
{
	const uint32_t from = bytes < 0 ? at + (uint32_t)-bytes : at;

	memmove(page->data + at + (bytes > 0 ? bytes : 0), page->data + from, page->at - from);
	if (bytes > 0)
		memset(page->data + at, 0xff, (size_t)bytes);
	page->at += (uint32_t)bytes;
}

static void put_sample(struct wire_page *page, struct haul_stats *stats)
{
	const struct haul_store_status status = sample_status();

	wire_status_put(page, &status);
	haul_stats_init(stats, "store.log", two, 2);
	stats->ops = 5;
	stats->closed[HAUL_CLOSE_MANUAL] = 6;
	stats->extra[1] = 7;
	haul_hist_add(&stats->fill, 3, 2);
	wire_status_put_block(page, stats);
}

/* A later version has more fields behind the head, a level and a block, more reasons and more
 * counters: what is known is taken from the right places. */
static void test_wire_status__passes_over_what_is_new(void **state)
{
	enum { HEAD = sizeof(struct wire_status), MORE_COUNTERS = HAUL_STATS_COUNTERS + 3 };
	_Alignas(8) uint8_t data[4096];
	static struct wire_status_block block;
	static struct haul_stats stats;
	static struct haul_counter counters[HAUL_STATS_COUNTERS];
	const struct haul_store_status status = sample_status();
	struct wire_page page = { data, 0, sizeof data };
	struct haul_store_status seen;
	struct wire_status head;
	struct wire_block block_head;

	(void)state;
	put_sample(&page, &stats);
	memcpy(&head, data, sizeof head);
	head.bytes += 24;
	head.level_bytes += 8;
	memcpy(data, &head, sizeof head);
	move(&page, HEAD + 64, 8);
	move(&page, HEAD + 32, 8);
	move(&page, HEAD, 24);
	const uint32_t at = HEAD + 24 + 2 * 40;
	memcpy(&block_head, data + at, sizeof block_head);
	move(&page, page.at, 16); /* behind the names */
	move(&page, at + sizeof block_head + HAUL_CLOSE_REASONS * 8, 16);
	block_head.closed += 2;
	block_head.bytes += 32;
	memcpy(data + at, &block_head, sizeof block_head);
	struct wire_reading reading = { data, 0, page.at };
	assert_int_equal(wire_status_get(&reading, &seen), 0);
	assert_memory_equal(&seen, &status, sizeof seen);
	assert_int_equal(reading.at, at);
	assert_int_equal(wire_status_get_block(&reading, &block), 0);
	assert_same(&block.stats, &stats);
	assert_int_equal(reading.at, page.at);
	/* more counters than a block of this version has: as if names followed */
	page.at = 0;
	for (uint32_t i = 0; i < HAUL_STATS_COUNTERS; i++)
		counters[i] = (struct haul_counter){ "counter", "" };
	haul_stats_init(&stats, "many", counters, HAUL_STATS_COUNTERS);
	stats.extra[HAUL_STATS_COUNTERS - 1] = 9;
	wire_status_put_block(&page, &stats);
	memcpy(&block_head, data, sizeof block_head);
	move(&page, sizeof block_head + (HAUL_CLOSE_REASONS + HAUL_STATS_COUNTERS) * 8, 24);
	block_head.counters = MORE_COUNTERS;
	block_head.bytes += 24;
	memcpy(data, &block_head, sizeof block_head);
	reading = (struct wire_reading){ data, 0, page.at };
	assert_int_equal(wire_status_get_block(&reading, &block), 0);
	assert_same(&block.stats, &stats);
}

/* An earlier version has fewer: what it does not say is 0. */
static void test_wire_status__what_is_missing_is_zero(void **state)
{
	enum { HEAD = sizeof(struct wire_status), SHORT = offsetof(struct wire_status, sync_ns) };
	_Alignas(8) uint8_t data[4096];
	static struct wire_status_block block;
	static struct haul_stats stats;
	struct wire_page page = { data, 0, sizeof data };
	struct haul_store_status seen;
	struct wire_status head;
	struct wire_block block_head;

	(void)state;
	put_sample(&page, &stats);
	memcpy(&head, data, sizeof head);
	head.bytes = SHORT;
	head.level_bytes = 8;
	move(&page, HEAD + 40, -24);
	move(&page, HEAD + 8, -24);
	move(&page, SHORT, SHORT - HEAD);
	memcpy(data, &head, SHORT);
	const uint32_t at = SHORT + 2 * 8;
	memcpy(&block_head, data + at, sizeof block_head);
	move(&page, at + sizeof block_head + 8, 8 - HAUL_CLOSE_REASONS * 8);
	block_head.closed = 1;
	block_head.bytes -= (HAUL_CLOSE_REASONS - 1) * 8;
	memcpy(data + at, &block_head, sizeof block_head);
	struct wire_reading reading = { data, 0, page.at };
	assert_int_equal(wire_status_get(&reading, &seen), 0);
	assert_memory_equal(seen.uuid, sample_status().uuid, sizeof seen.uuid);
	assert_int_equal(seen.op_last, 0);
	assert_int_equal(seen.sync_ns, 0);
	assert_int_equal(seen.level_count, 2);
	assert_int_equal(seen.level[1].runs, 2);
	assert_int_equal(seen.level[1].tables, 0);
	assert_int_equal(seen.level[1].bytes, 0);
	assert_int_equal(wire_status_get_block(&reading, &block), 0);
	stats.closed[HAUL_CLOSE_MANUAL] = 0;
	assert_same(&block.stats, &stats);
}

/* ---- hostile ---- */

/* Cut at any byte: refused, nothing behind it is read, and no output is touched. */
static void test_wire_status__refuses_every_truncation(void **state)
{
	_Alignas(8) uint8_t data[4096];
	static struct wire_status_block block;
	static struct haul_stats stats;
	struct wire_page page = { data, 0, sizeof data };
	const struct haul_store_status status = sample_status();

	(void)state;
	put_sample(&page, &stats);
	for (uint32_t bytes = 0; bytes < page.at; bytes++) {
		struct haul_store_status seen = status;
		struct test_guard guard;
		test_guard_open(&guard, bytes);
		if (bytes > 0)
			memcpy(guard.data, data, bytes);
		struct wire_reading reading = { guard.data, 0, bytes };
		seen.op_last = 77;
		const int rc = wire_status_get(&reading, &seen);
		if (rc == 0)
			assert_int_equal(wire_status_get_block(&reading, &block), HAUL_ECORRUPT);
		else
			assert_int_equal(rc, HAUL_ECORRUPT);
		assert_int_equal(seen.op_last, rc == 0 ? status.op_last : 77);
		test_guard_close(&guard);
	}
}

/* Heads that cannot be: a number of each kind that leads outside, or that nobody can show. */
static void test_wire_status__checks_the_head(void **state)
{
	_Alignas(8) uint8_t data[4096];
	static struct haul_stats stats;
	struct haul_store_status seen;
	struct wire_status head;

	(void)state;
	for (uint32_t i = 0; i < 9; i++) {
		struct wire_page page = { data, 0, sizeof data };
		put_sample(&page, &stats);
		memcpy(&head, data, sizeof head);
		head.bytes = i == 1 ? 16 : i == 2 ? UINT32_MAX : head.bytes;
		head.level_count = i == 3 ? 9 : i == 4 ? UINT16_MAX : head.level_count;
		head.level_bytes = i == 5 ? UINT16_MAX : head.level_bytes;
		head.sync_ns = i == 6 ? -1 : head.sync_ns;
		head.arrivals_per_s = i == 7   ? (double)NAN
				      : i == 8 ? (double)INFINITY
					       : head.arrivals_per_s;
		memcpy(data, &head, sizeof head);
		struct wire_reading reading = { data, 0, page.at };
		assert_int_equal(wire_status_get(&reading, &seen), i == 0 ? 0 : HAUL_ECORRUPT);
	}
}

/* Blocks that cannot be: lengths, counts, buckets. */
static void test_wire_status__checks_blocks(void **state)
{
	enum { HIST = sizeof(struct wire_block) + (HAUL_CLOSE_REASONS + 2) * 8 };
	_Alignas(8) uint8_t data[4096];
	static struct wire_status_block block;
	static struct haul_stats stats;
	struct wire_bucket bucket;
	struct wire_block head;
	struct wire_hist hist;

	(void)state;
	haul_stats_init(&stats, "store.log", two, 2);
	haul_hist_add(&stats.fill, 3, 2);
	for (uint32_t i = 0; i < 10; i++) {
		struct wire_page page = { data, 0, sizeof data };
		wire_status_put_block(&page, &stats);
		memcpy(&head, data, sizeof head);
		memcpy(&hist, data + HIST, sizeof hist);
		memcpy(&bucket, data + HIST + sizeof hist, sizeof bucket);
		head.bytes = i == 1 ? 0 : i == 2 ? head.bytes + 8 : i == 3 ? 44 : head.bytes;
		head.closed = i == 4 ? UINT16_MAX : head.closed;
		head.counters = i == 5 ? UINT16_MAX : i == 6 ? 1 : head.counters;
		hist.buckets = i == 7 ? HAUL_HIST_BUCKETS + 1 : i == 8 ? 40 : hist.buckets;
		bucket.index = i == 9 ? HAUL_HIST_BUCKETS : bucket.index;
		memcpy(data, &head, sizeof head);
		memcpy(data + HIST, &hist, sizeof hist);
		memcpy(data + HIST + sizeof hist, &bucket, sizeof bucket);
		struct wire_reading reading = { data, 0, page.at };
		assert_int_equal(wire_status_get_block(&reading, &block),
				 i == 0 ? 0 : HAUL_ECORRUPT);
		assert_int_equal(reading.at, i == 0 ? page.at : 0);
	}
}

/* Names get to a terminal: none that is empty, has no end, or has what moves a cursor. */
static void test_wire_status__checks_names(void **state)
{
	static const char *const bad[] = { "", "a b", "a\033[2J", "caf\xc3\xa9", "a\n" };
	_Alignas(8) uint8_t data[4096];
	static struct wire_status_block block;
	static struct haul_stats stats;

	(void)state;
	for (uint32_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		for (uint32_t of_block = 0; of_block < 2; of_block++) {
			const struct haul_counter counter = { of_block ? "good" : bad[i], "" };
			struct wire_page page = { data, 0, sizeof data };
			haul_stats_init(&stats, of_block ? bad[i] : "good", &counter, 1);
			wire_status_put_block(&page, &stats);
			struct wire_reading reading = { data, 0, page.at };
			assert_int_equal(wire_status_get_block(&reading, &block), HAUL_ECORRUPT);
		}
	}
	/* 64 bytes and then none */
	struct wire_page page = { data, 0, sizeof data };
	haul_stats_init(&stats, "good", NULL, 0);
	wire_status_put_block(&page, &stats);
	struct wire_block head;
	memcpy(&head, data, sizeof head);
	const uint32_t at = page.at - 8;
	memset(data + at, 'x', 128);
	head.bytes += 120;
	memcpy(data, &head, sizeof head);
	struct wire_reading reading = { data, 0, head.bytes };
	assert_int_equal(wire_status_get_block(&reading, &block), HAUL_ECORRUPT);
	data[at + WIRE_NAME_MAX] = 0;
	assert_int_equal(wire_status_get_block(&reading, &block), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wire_status__carries_all_figures),
		cmocka_unit_test(test_wire_status__a_full_table_fits),
		cmocka_unit_test(test_wire_status__passes_over_what_is_new),
		cmocka_unit_test(test_wire_status__what_is_missing_is_zero),
		cmocka_unit_test(test_wire_status__refuses_every_truncation),
		cmocka_unit_test(test_wire_status__checks_the_head),
		cmocka_unit_test(test_wire_status__checks_blocks),
		cmocka_unit_test(test_wire_status__checks_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
