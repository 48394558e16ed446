/* The tuner without a kernel: made-up curves, and a map whose calls cost what the test says. */
#include <errno.h>
#include <string.h>

#include "bpf/map_state.h"
#include "bpf/tune.h"
#include "lib/testlib.h"

enum { BUDGET_NS = 1000000 };

/* One point a size from 16 up: ns an entry; the longest call is that times the size. */
static struct haul_map_tune curve(const double *ns_per_entry, uint32_t count)
{
	struct haul_map_tune tune = { .count = count };
	for (uint32_t i = 0; i < count; i++) {
		struct haul_map_tune_point *point = &tune.points[i];
		point->batch = 16u << i;
		point->runs = 3;
		point->ns_per_entry = ns_per_entry[i];
		point->call_ns_max = ns_per_entry[i] * point->batch;
	}
	return tune;
}

/* The middle one of an odd count, the mean of the two middle ones of an even count. */
static void test_tune_median__is_the_middle(void **state)
{
	(void)state;
	double odd[] = { 9, 1, 5 }, even[] = { 4, 100, 1, 2 }, one[] = { 7 };
	assert_true(map_tune_median(odd, 3) == 5);
	assert_true(map_tune_median(even, 4) == 3);
	assert_true(map_tune_median(one, 1) == 7);
}

/* One walk that was interrupted moves neither figure; a walk that found nothing does not count. */
static void test_tune_point__does_not_mind_a_bad_run(void **state)
{
	(void)state;
	const struct map_tune_sample samples[] = {
		{ .entries = 100, .ns = 1000, .call_max_ns = 50 },
		{ .entries = 100, .ns = 900000, .call_max_ns = 800000 },
		{ .entries = 100, .ns = 1200, .call_max_ns = 70 },
		{ .entries = 0, .ns = 10, .call_max_ns = 10 },
	};
	struct haul_map_tune_point point = map_tune_point(64, samples, 4);
	assert_int_equal(point.batch, 64);
	assert_int_equal(point.runs, 4);
	assert_true(point.ns_per_entry == 12 && point.call_ns_max == 70);
	assert_false(point.too_small);
	point = map_tune_point(64, samples + 3, 1);
	assert_true(point.ns_per_entry == 0 && point.call_ns_max == 0);
}

/* The larger the faster: throughput is the largest, preferred the largest in the budget or a
 * smaller one at most 3 % slower, latency the smallest at most twice as slow. */
static void test_tune_decide__on_a_falling_curve(void **state)
{
	(void)state;
	const double ns[] = { 900, 600, 450, 350, 300, 270, 255, 252, 251, 250, 249, 248, 247 };
	struct haul_map_tune tune = curve(ns, 13);
	map_tune_decide(&tune, BUDGET_NS);
	assert_int_equal(tune.throughput, 65536);
	/* 2048 × 252 ns is in the budget, 4096 × 251 ns is not; 1024 costs 1.2 % more */
	assert_int_equal(tune.preferred, 1024);
	assert_int_equal(tune.latency, 64);
	assert_int_equal(tune.floor, 0);
	map_tune_decide(&tune, 300000); /* 1024 × 255 ns fits, and nothing smaller is near */
	assert_int_equal(tune.preferred, 1024);
	map_tune_decide(&tune, 200000);
	assert_int_equal(tune.preferred, 512);
}

/* The one fast point of a noisy curve is taken, wherever it is. */
static void test_tune_decide__on_a_noisy_curve(void **state)
{
	(void)state;
	const double ns[] = { 300, 280, 310, 190, 300, 295, 240 };
	struct haul_map_tune tune = curve(ns, 7);
	map_tune_decide(&tune, BUDGET_NS);
	assert_int_equal(tune.throughput, 128);
	assert_int_equal(tune.preferred, 128);
	assert_int_equal(tune.latency, 16);
}

/* When no call is short enough, the shortest there is. */
static void test_tune_decide__all_over_budget(void **state)
{
	(void)state;
	const double ns[] = { 4000, 3000, 2500 };
	struct haul_map_tune tune = curve(ns, 3);
	map_tune_decide(&tune, 1000);
	assert_int_equal(tune.preferred, 16);
	assert_int_equal(tune.throughput, 64);
	assert_int_equal(tune.latency, 16);
}

/* Sizes that a bucket did not fit into are no choice, and say where the floor is. */
static void test_tune_decide__sizes_that_are_too_small(void **state)
{
	(void)state;
	const double ns[] = { 100, 110, 300, 290, 280 };
	struct haul_map_tune tune = curve(ns, 5);
	tune.points[0].too_small = tune.points[1].too_small = true;
	map_tune_decide(&tune, BUDGET_NS);
	assert_int_equal(tune.floor, 64);
	assert_int_equal(tune.throughput, 256);
	assert_int_equal(tune.preferred, 256);
	assert_int_equal(tune.latency, 64);
	for (uint32_t i = 0; i < tune.count; i++)
		tune.points[i].too_small = true;
	map_tune_decide(&tune, BUDGET_NS);
	assert_int_equal(tune.floor, 512);
	assert_int_equal(tune.preferred, 0);
}

/* An empty map teaches nothing, and nothing is made up. */
static void test_tune_decide__nothing_was_read(void **state)
{
	(void)state;
	const double ns[] = { 0, 0, 0 };
	struct haul_map_tune tune = curve(ns, 3);
	map_tune_decide(&tune, BUDGET_NS);
	assert_int_equal(tune.floor, 0);
	assert_int_equal(tune.preferred, 0);
	assert_int_equal(tune.throughput, 0);
	assert_int_equal(tune.latency, 0);
}

/* ---- a map that is made up ---- */

struct twin {
	struct bpf_sys sys;
	struct os_sim os;
	struct haul_map map;
	uint32_t entries, bucket; /* a bucket holds so many */
	uint32_t busy;            /* so many of the next calls find a bucket locked */
	uint32_t slow_every;      /* one in so many calls takes a second; 0 = none */
	int rc;                   /* when < 0: what every call returns */
	uint32_t calls;
};

/* A call costs 1000 ns and 10 an entry. The cursor is the entries before it. */
static int twin_call(struct bpf_sys *sys, int cmd, union bpf_attr *attr)
{
	struct twin *twin = (struct twin *)sys;
	uint32_t at = 0, count = attr->batch.count;
	twin->calls++;
	assert_int_equal(cmd, BPF_MAP_LOOKUP_BATCH);
	if (attr->batch.in_batch != 0)
		memcpy(&at, (const void *)(uintptr_t)attr->batch.in_batch, sizeof at);
	os_sim_advance(&twin->os, 1000);
	if (twin->rc < 0)
		return twin->rc;
	if (twin->busy > 0) {
		twin->busy--;
		attr->batch.count = 0;
		return -EBUSY;
	}
	count -= count % twin->bucket;
	if (count == 0 && at < twin->entries) {
		attr->batch.count = 0;
		return -ENOSPC;
	}
	if (count > twin->entries - at)
		count = twin->entries - at;
	os_sim_advance(&twin->os, 10 * (int64_t)count);
	if (twin->slow_every > 0 && twin->calls % twin->slow_every == 0)
		os_sim_advance(&twin->os, NS_PER_S);
	memset((void *)(uintptr_t)attr->batch.keys, 1, (size_t)count * twin->map.info.key_size);
	memset((void *)(uintptr_t)attr->batch.values, 1, (size_t)count * twin->map.info.slot_bytes);
	at += count;
	memcpy((void *)(uintptr_t)attr->batch.out_batch, &at, sizeof at);
	attr->batch.count = count;
	return at == twin->entries ? -ENOENT : 0;
}

static void twin_init(struct twin *twin, uint32_t entries, uint32_t bucket)
{
	*twin = (struct twin){ .sys = { .call = twin_call }, .entries = entries, .bucket = bucket };
	os_sim_init(&twin->os, 1);
	twin->map.sys = &twin->sys;
	twin->map.os = &twin->os.os;
	twin->map.info = (struct haul_map_info){
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .slot_bytes = 8, .max_entries = 100000
	};
}

struct progress {
	uint64_t calls, done, total;
};

static void note_progress(uint64_t done, uint64_t total, void *arg)
{
	struct progress *progress = arg;
	assert_int_equal(done, ++progress->calls);
	progress->done = done;
	progress->total = total;
}

/* The curve is the cost that the calls had: 10 ns an entry and 1000 ns shared by a batch. */
static void test_map_tune__measures_what_calls_cost(void **state)
{
	(void)state;
	struct twin twin;
	struct haul_map_tune tune;
	struct progress progress = { 0 };
	twin_init(&twin, 65536, 1);
	twin.busy = 3;
	assert_int_equal(haul_map_tune(&twin.map, 4, &tune, note_progress, &progress), 0);
	assert_int_equal(tune.count, HAUL_MAP_TUNE_POINTS);
	for (uint32_t i = 0; i < tune.count; i++) {
		const struct haul_map_tune_point *point = &tune.points[i];
		assert_int_equal(point->batch, 16u << i);
		assert_int_equal(point->runs, 4);
		assert_true(point->ns_per_entry == 10 + 1000.0 / point->batch);
		assert_true(point->call_ns_max == 1000 + 10.0 * point->batch);
		assert_false(point->too_small);
	}
	assert_int_equal(tune.throughput, 65536);
	assert_int_equal(tune.latency, 128);
	assert_int_equal(tune.preferred, 4096);
	assert_int_equal(progress.total, 4 * HAUL_MAP_TUNE_POINTS);
	assert_int_equal(progress.done, progress.total);
	/* the map's own budget, when it has one */
	twin.map.options.call_max_ns = 4000;
	assert_int_equal(haul_map_tune(&twin.map, 1, &tune, NULL, NULL), 0);
	assert_int_equal(tune.preferred, 256);
}

/* A call in a thousand that the machine held up does not make a size look slow to answer. */
static void test_map_tune__does_not_mind_rare_slow_calls(void **state)
{
	(void)state;
	struct twin twin;
	struct haul_map_tune tune;
	twin_init(&twin, 65536, 1);
	twin.slow_every = 1000;
	assert_int_equal(haul_map_tune(&twin.map, 3, &tune, NULL, NULL), 0);
	for (uint32_t i = 0; i < 5; i++) { /* sizes with more than a hundred calls a walk */
		const double call = 1000 + 10.0 * tune.points[i].batch;
		assert_true(tune.points[i].call_ns_max >= call);
		assert_true(tune.points[i].call_ns_max <= 1.125 * call);
	}
}

/* Buckets of 50: sizes below are marked, walked all the same, and the floor is above them. */
static void test_map_tune__finds_the_floor(void **state)
{
	(void)state;
	struct twin twin;
	struct haul_map_tune tune;
	twin_init(&twin, 5000, 50);
	assert_int_equal(haul_map_tune(&twin.map, 2, &tune, NULL, NULL), 0);
	for (uint32_t i = 0; i < tune.count; i++) {
		assert_int_equal(tune.points[i].too_small, tune.points[i].batch < 50);
		assert_true(tune.points[i].ns_per_entry > 10);
	}
	assert_int_equal(tune.floor, 64);
	assert_true(tune.latency >= 64);
}

/* Nothing to read, nothing said. */
static void test_map_tune__of_an_empty_map(void **state)
{
	(void)state;
	struct twin twin;
	struct haul_map_tune tune;
	twin_init(&twin, 0, 1);
	assert_int_equal(haul_map_tune(&twin.map, 2, &tune, NULL, NULL), 0);
	assert_int_equal(tune.preferred, 0);
	assert_true(tune.points[5].ns_per_entry == 0);
}

/* A call that fails ends it with that, and nothing is put out; bad arguments and types without
 * batches make no call. */
static void test_map_tune__fails_cleanly(void **state)
{
	(void)state;
	struct twin twin;
	struct haul_map_tune tune;
	memset(&tune, 0x5a, sizeof tune);
	const struct haul_map_tune before = tune;
	twin_init(&twin, 1000, 1);
	assert_int_equal(haul_map_tune(&twin.map, 0, &tune, NULL, NULL), -EINVAL);
	assert_int_equal(haul_map_tune(&twin.map, 65, &tune, NULL, NULL), -EINVAL);
	twin.map.info.type = BPF_MAP_TYPE_QUEUE;
	assert_int_equal(haul_map_tune(&twin.map, 1, &tune, NULL, NULL), -ENOTSUP);
	twin.map.info.type = BPF_MAP_TYPE_HASH;
	assert_int_equal(twin.calls, 0);
	twin.rc = -EPERM;
	assert_int_equal(haul_map_tune(&twin.map, 1, &tune, NULL, NULL), -EPERM);
	assert_int_equal(twin.calls, 1);
	twin.rc = 0;
	twin.busy = UINT32_MAX; /* a lock that is never free */
	assert_int_equal(haul_map_tune(&twin.map, 1, &tune, NULL, NULL), -EBUSY);
	twin.busy = 0;
	for (uint32_t i = 0; i < 3 && test_malloc_fail(i); i++)
		assert_int_equal(haul_map_tune(&twin.map, 1, &tune, NULL, NULL), -ENOMEM);
	assert_memory_equal(&tune, &before, sizeof tune);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tune_median__is_the_middle),
		cmocka_unit_test(test_tune_point__does_not_mind_a_bad_run),
		cmocka_unit_test(test_tune_decide__on_a_falling_curve),
		cmocka_unit_test(test_tune_decide__on_a_noisy_curve),
		cmocka_unit_test(test_tune_decide__all_over_budget),
		cmocka_unit_test(test_tune_decide__sizes_that_are_too_small),
		cmocka_unit_test(test_tune_decide__nothing_was_read),
		cmocka_unit_test(test_map_tune__measures_what_calls_cost),
		cmocka_unit_test(test_map_tune__does_not_mind_rare_slow_calls),
		cmocka_unit_test(test_map_tune__finds_the_floor),
		cmocka_unit_test(test_map_tune__of_an_empty_map),
		cmocka_unit_test(test_map_tune__fails_cleanly),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
