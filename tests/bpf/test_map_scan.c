/* Whole walks: by several threads, with a filter, checked, ended early, and while the map changes
 * at full speed. */
#include <bpf/bpf.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/map_lab.h"
#include "bpf/map_state.h"
#include "bpf/reader.h"
#include "bpf/seen.h"
#include "lib/testlib.h"

enum { KEYS_MAX = 60000, THREADS_MAX = 5 };

/* How often each key was seen, by threads at once. */
struct seen_keys {
	const struct lab_map *lab;
	uint32_t room;
	_Atomic uint8_t *times;
	_Atomic uint64_t entries;
	_Atomic uint32_t threads; /* bits of those that visited */
	uint64_t stop_after;      /* 0 = never */
};

static void seen_open(struct seen_keys *seen, const struct lab_map *lab, uint32_t room)
{
	memset(seen, 0, sizeof *seen);
	seen->lab = lab;
	seen->room = room;
	seen->times = calloc(room, sizeof *seen->times);
	assert_non_null(seen->times);
}

static int seen_visit(const struct haul_map_batch *batch, void *arg)
{
	struct seen_keys *seen = arg;
	atomic_fetch_or(&seen->threads, 1U << batch->thread);
	for (uint32_t i = 0; i < batch->count; i++) {
		uint32_t key = map_lab_key_number(seen->lab, haul_map_key(batch, i));
		if (key < seen->room)
			atomic_fetch_add(&seen->times[key], 1);
	}
	uint64_t entries = atomic_fetch_add(&seen->entries, batch->count) + batch->count;
	return seen->stop_after && entries >= seen->stop_after ? 77 : 0;
}

/* Of the keys below count: not seen, and seen more than once. */
static void seen_count(const struct seen_keys *seen, uint32_t count, uint32_t *missed,
		       uint32_t *twice)
{
	*missed = *twice = 0;
	for (uint32_t i = 0; i < count; i++) {
		*missed += seen->times[i] == 0;
		*twice += seen->times[i] > 1;
	}
}

static void fill_fast(const struct lab_map *lab, uint32_t count)
{
	struct lab_rows rows;
	struct haul_map_result result;
	const struct haul_map_options options = { .engine = HAUL_MAP_BATCH };
	struct haul_map *map = map_lab_again(lab, &options, NULL);
	lab_rows_open(&rows, lab, count);
	for (uint32_t i = 0; i < count; i++)
		lab_rows_set(&rows, lab, i, i, i % MAP_LAB_INNERS);
	assert_int_equal(haul_map_update(map, &rows.rows, HAUL_MAP_ANY, &result), 0);
	lab_rows_close(&rows);
	haul_map_close(map);
}

struct shape {
	uint32_t max_entries, entries, batch;
};

/* However many threads, however full the map and however small the batch: each entry is handed on
 * once, though calls run on beyond the ends of ranges. */
static void test_scan__threads_share_the_buckets_exactly(void **state)
{
	(void)state;
	static const struct shape shapes[] = {
		{ 1, 1, 0 },          { 2, 2, 1 },        { 7, 7, 2 },          { 64, 64, 1 },
		{ 1000, 1000, 16 },   { 65536, 100, 16 }, { 65536, 3000, 256 }, { 60000, 60000, 0 },
		{ 40000, 30000, 64 }, { 65536, 0, 0 },
	};
	uint64_t overrun = 0;
	for (uint32_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
		struct lab_map lab;
		map_lab_open(&lab,
			     (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH,
						     .max_entries = shapes[s].max_entries },
			     NULL);
		if (shapes[s].entries > 0)
			fill_fast(&lab, shapes[s].entries);
		const struct haul_map_options options = { .batch = shapes[s].batch };
		struct haul_map *map = map_lab_again(&lab, &options, NULL);
		for (uint32_t threads = 2; threads <= THREADS_MAX; threads++) {
			struct seen_keys seen;
			struct haul_map_report report;
			uint32_t missed, twice;
			seen_open(&seen, &lab, KEYS_MAX);
			struct haul_map_scan scan = { .threads = threads,
						      .check = threads % 2 == 0,
						      .visit = seen_visit,
						      .arg = &seen };
			assert_int_equal(haul_map_scan(map, &scan, &report), 0);
			seen_count(&seen, shapes[s].entries, &missed, &twice);
			assert_int_equal(missed, 0);
			assert_int_equal(twice, 0);
			assert_int_equal(report.read, shapes[s].entries);
			assert_int_equal(report.matched, shapes[s].entries);
			assert_int_equal(report.engine, HAUL_MAP_BATCH);
			assert_true(seen.threads < 1U << threads);
			if (scan.check)
				assert_int_equal(report.duplicates, 0);
			else
				assert_true(report.duplicates == HAUL_MAP_UNKNOWN);
			overrun += report.overrun;
			free(seen.times);
		}
		haul_map_close(map);
		map_lab_close(&lab);
	}
	assert_true(overrun > 0); /* or nothing of the above was tried */
}

/* A filter passes the same entries whoever walks. */
static void test_scan__filter(void **state)
{
	(void)state;
	const struct haul_map_filter filter = {
		.count = 1,
		.conditions = { { .field = { .width = 4 }, .test = HAUL_MAP_EQ, .operand = 5 } },
	};
	struct lab_map lab;
	map_lab_open(&lab, (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH, .max_entries = 4096 },
		     NULL);
	fill_fast(&lab, 4000);
	for (int engine = HAUL_MAP_AUTO; engine < HAUL_MAP_ENGINES; engine++) {
		for (uint32_t threads = 1; threads <= 3; threads += 2) {
			const struct haul_map_options options = {
				.engine = (enum haul_map_engine)engine
			};
			struct haul_map *map = map_lab_again(&lab, &options, NULL);
			struct seen_keys seen;
			struct haul_map_report report;
			seen_open(&seen, &lab, 4000);
			struct haul_map_scan scan = { .filter = &filter,
						      .threads = threads,
						      .visit = seen_visit,
						      .arg = &seen };
			assert_int_equal(haul_map_scan(map, &scan, &report), 0);
			assert_int_equal(report.read, 4000);
			assert_int_equal(report.matched, 500);
			for (uint32_t i = 0; i < 4000; i++)
				assert_int_equal(seen.times[i], i % MAP_LAB_INNERS == 5);
			free(seen.times);
			haul_map_close(map);
		}
	}
	map_lab_close(&lab);
}

/* What visit returns ends the walk, in all threads, and is the scan's answer. */
static void test_scan__visit_ends_it(void **state)
{
	(void)state;
	struct lab_map lab;
	map_lab_open(&lab,
		     (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH, .max_entries = 40000 },
		     NULL);
	fill_fast(&lab, 40000);
	for (uint32_t threads = 1; threads <= 4; threads++) {
		const struct haul_map_options options = { .engine = HAUL_MAP_BATCH, .batch = 64 };
		struct haul_map *map = map_lab_again(&lab, &options, NULL);
		struct seen_keys seen;
		struct haul_map_report report;
		seen_open(&seen, &lab, 40000);
		seen.stop_after = 500;
		struct haul_map_scan scan = { .threads = threads,
					      .visit = seen_visit,
					      .arg = &seen };
		assert_int_equal(haul_map_scan(map, &scan, &report), 77);
		assert_true(report.matched >= 500);
		/* Each of the others ends with the batch that it is at. */
		assert_true(report.matched <= 500 + 2 * 64 * (uint64_t)threads);
		free(seen.times);
		haul_map_close(map);
	}
	map_lab_close(&lab);
}

/* An error of one thread ends the scan with it. */
static void test_scan__error_in_a_thread(void **state)
{
	(void)state;
	struct lab_map lab;
	struct lab_sys twin;
	struct seen_keys seen;
	struct haul_map_report report;
	map_lab_open(&lab, (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH, .max_entries = 4096 },
		     NULL);
	fill_fast(&lab, 4000);
	for (uint32_t threads = 1; threads <= 2; threads++) {
		lab_sys_init(&twin);
		lab_sys_fault(&twin, BPF_MAP_LOOKUP_BATCH, 0, UINT32_MAX, -EFAULT);
		const struct haul_map_options options = { .engine = HAUL_MAP_BATCH, .batch = 64 };
		struct haul_map *map = map_lab_again(&lab, &options, &twin);
		seen_open(&seen, &lab, 4000);
		struct haul_map_scan scan = { .threads = threads,
					      .visit = seen_visit,
					      .arg = &seen };
		assert_int_equal(haul_map_scan(map, &scan, &report), -EFAULT);
		assert_int_equal(report.matched, 0);
		free(seen.times);
		haul_map_close(map);
	}
	map_lab_close(&lab);
}

/* Types without buckets are walked by one thread, and that is counted. */
static void test_scan__threads_need_buckets(void **state)
{
	(void)state;
	struct lab_map lab;
	struct seen_keys seen;
	struct haul_map_report report;
	uint32_t missed, twice;
	map_lab_open(&lab,
		     (struct haul_map_spec){ .type = BPF_MAP_TYPE_ARRAY, .max_entries = 5000 },
		     NULL);
	seen_open(&seen, &lab, 5000);
	struct haul_map_scan scan = { .threads = 4, .visit = seen_visit, .arg = &seen };
	assert_int_equal(haul_map_scan(lab.map, &scan, &report), 0);
	seen_count(&seen, 5000, &missed, &twice);
	assert_int_equal(missed + twice, 0);
	assert_int_equal(report.fallbacks, 1);
	assert_int_equal(seen.threads, 1);
	free(seen.times);
	map_lab_close(&lab);
}

struct spoiler {
	struct seen_keys seen;
	bool done;
};

/* After the first batch, everything that is not in it goes: also the key the walk stands on. */
static int spoil_visit(const struct haul_map_batch *batch, void *arg)
{
	struct spoiler *spoiler = arg;
	(void)seen_visit(batch, &spoiler->seen);
	for (uint32_t i = 0; !spoiler->done && i < 100; i++) {
		if (spoiler->seen.times[i] == 0)
			assert_true(map_lab_remove(spoiler->seen.lab, i));
	}
	spoiler->done = true;
	return 0;
}

/* A walk from key to key is sent back to the start when its key is deleted, and sees entries again:
 * the check says how many. The batch engine's does not. */
static void test_scan__check_finds_what_comes_twice(void **state)
{
	(void)state;
	for (int engine = HAUL_MAP_SINGLE; engine <= HAUL_MAP_BATCH; engine++) {
		const struct haul_map_options options = { .engine = (enum haul_map_engine)engine,
							  .batch = 16 };
		struct lab_map lab;
		struct spoiler spoiler = { .done = false };
		struct haul_map_report report;
		map_lab_open(
			&lab,
			(struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH, .max_entries = 256 },
			NULL);
		map_lab_fill(&lab, 0, 100);
		struct haul_map *map = map_lab_again(&lab, &options, NULL);
		seen_open(&spoiler.seen, &lab, 256);
		struct haul_map_scan scan = { .check = true,
					      .visit = spoil_visit,
					      .arg = &spoiler };
		assert_int_equal(haul_map_scan(map, &scan, &report), 0);
		bool single = engine == HAUL_MAP_SINGLE;
		assert_int_equal(report.expected, 100);
		assert_int_equal(report.after, report.read - report.duplicates);
		assert_int_equal(report.duplicates, single ? 16 : 0);
		assert_int_equal(report.read, report.after * (single ? 2 : 1));
		free(spoiler.seen.times);
		haul_map_close(map);
		map_lab_close(&lab);
	}
}

/* The set behind the check counts each repetition, also while it grows. */
static void test_seen__counts_repetitions(void **state)
{
	(void)state;
	enum { ROUND = 500, ROUNDS = 40 };
	struct map_seen set;
	uint64_t keys[ROUND], duplicates = 0;
	assert_int_equal(map_seen_init(&set, sizeof *keys), 0);
	for (uint64_t round = 0; round < ROUNDS; round++) {
		for (uint64_t i = 0; i < ROUND; i++)
			keys[i] = (round / 2) * ROUND + i; /* each round twice */
		const struct haul_map_batch batch = { .count = ROUND,
						      .keys = (const uint8_t *)keys,
						      .key_stride = sizeof *keys };
		assert_int_equal(map_seen_add_alloc(&set, &batch, &duplicates), 0);
	}
	assert_int_equal(duplicates, ROUND * ROUNDS / 2);
	assert_int_equal(set.count, ROUND * ROUNDS / 2);
	map_seen_done(&set);
}

/* ---- under churn ---- */

/* Deletes old keys and inserts new ones, beside the stable ones, until told to stop. */
struct churn {
	struct lab_map *lab;
	uint32_t from, window;
	_Atomic bool stop;
	_Atomic uint64_t pairs;
};

static void *churn_run(void *arg)
{
	struct churn *churn = arg;
	int fd = haul_map_fd(churn->lab->map);
	uint8_t key[8], value[16];
	map_lab_value(churn->lab, 1, value);
	for (uint32_t i = 0; !atomic_load(&churn->stop); i++) {
		map_lab_key(churn->lab, churn->from + i, key);
		(void)bpf_map_update_elem(fd, key, value, BPF_ANY);
		if (i >= churn->window) {
			map_lab_key(churn->lab, churn->from + i - churn->window, key);
			(void)bpf_map_delete_elem(fd, key);
		}
		atomic_fetch_add(&churn->pairs, 1);
	}
	return NULL;
}

/* The promise of the batch engine: an entry that is there all the time is seen exactly once, by one
 * thread or several, while another thread turns the rest of the map over. */
static void test_scan__exact_under_churn(void **state)
{
	(void)state;
	enum { STABLE = 20000, WINDOW = 5000, WALKS = 6, PAIRS_MIN = 20000 };
	static const uint32_t flags[] = { 0, BPF_F_NO_PREALLOC };
	for (uint32_t f = 0; f < 2; f++) {
		struct lab_map lab;
		pthread_t thread;
		map_lab_open(&lab,
			     (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH,
						     .flags = flags[f],
						     .max_entries = 32768 },
			     NULL);
		fill_fast(&lab, STABLE);
		struct churn churn = { .lab = &lab, .from = STABLE, .window = WINDOW };
		assert_int_equal(pthread_create(&thread, NULL, churn_run, &churn), 0);
		const struct haul_map_options options = { .engine = HAUL_MAP_BATCH };
		struct haul_map *map = map_lab_again(&lab, &options, NULL);
		uint32_t walks = 0;
		/* Until the churner has got through a good deal, however the CPU was shared out. */
		while (walks < WALKS || atomic_load(&churn.pairs) < PAIRS_MIN) {
			struct seen_keys seen;
			struct haul_map_report report;
			uint32_t missed, twice;
			seen_open(&seen, &lab, STABLE);
			struct haul_map_scan scan = { .threads = 1 + walks % 3,
						      .visit = seen_visit,
						      .arg = &seen };
			assert_int_equal(haul_map_scan(map, &scan, &report), 0);
			seen_count(&seen, STABLE, &missed, &twice);
			assert_int_equal(missed, 0);
			assert_int_equal(twice, 0);
			free(seen.times);
			walks++;
		}
		atomic_store(&churn.stop, true);
		assert_int_equal(pthread_join(thread, NULL), 0);
		haul_map_close(map);
		map_lab_close(&lab);
	}
}

/* ---- LRU ---- */

/* Reading an LRU map is not use: of entries that were walked over as many are evicted by a fill as
 * of entries that were not. On one CPU, as each has a list of its own. */
static void test_scan__leaves_lru_order_alone(void **state)
{
	(void)state;
	enum { ROOM = 1024, OLD = 700, NEW = 800 };
	uint32_t kept[3] = { 0 };
	cpu_set_t before, one;
	assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
	CPU_ZERO(&one);
	CPU_SET((unsigned)sched_getcpu(), &one);
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
	static const enum haul_map_engine engines[] = { HAUL_MAP_AUTO, HAUL_MAP_BATCH,
							HAUL_MAP_SINGLE };
	for (uint32_t i = 0; i < 3; i++) {
		struct lab_map lab;
		struct seen_keys seen;
		struct haul_map_report report;
		const struct haul_map_options options = { .engine = engines[i] };
		map_lab_open(&lab,
			     (struct haul_map_spec){ .type = BPF_MAP_TYPE_LRU_HASH,
						     .max_entries = ROOM },
			     NULL);
		struct haul_map *map = map_lab_again(&lab, &options, NULL);
		map_lab_fill(&lab, 0, OLD);
		seen_open(&seen, &lab, ROOM);
		struct haul_map_scan scan = { .visit = seen_visit, .arg = &seen };
		if (i > 0)
			assert_int_equal(haul_map_scan(map, &scan, &report), 0);
		map_lab_fill(&lab, 10000, NEW);
		for (uint32_t k = 0; k < OLD; k++)
			kept[i] += map_lab_has(&lab, k);
		free(seen.times);
		haul_map_close(map);
		map_lab_close(&lab);
	}
	assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
	print_message("kept %u, %u, %u of %d\n", kept[0], kept[1], kept[2], OLD);
	assert_true(kept[0] > 0 && kept[0] < OLD);
	assert_int_equal(kept[1], kept[0]);
	assert_int_equal(kept[2], kept[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan__threads_share_the_buckets_exactly),
		cmocka_unit_test(test_scan__filter),
		cmocka_unit_test(test_scan__visit_ends_it),
		cmocka_unit_test(test_scan__error_in_a_thread),
		cmocka_unit_test(test_scan__threads_need_buckets),
		cmocka_unit_test(test_scan__check_finds_what_comes_twice),
		cmocka_unit_test(test_seen__counts_repetitions),
		cmocka_unit_test(test_scan__exact_under_churn),
		cmocka_unit_test(test_scan__leaves_lru_order_alone),
	};
	map_lab_need();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
