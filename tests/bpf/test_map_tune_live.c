/* The tuner on maps of the kernel. Times are not looked at. */
#include <errno.h>
#include <linux/bpf.h>

#include "bpf/map_file_lab.h"
#include "lib/testlib.h"

static struct map_file_lab lab; /* only for its check of privilege */

static int open_lab(void **state)
{
	(void)state;
	map_file_lab_open(&lab, "1m");
	return 0;
}

static int close_lab(void **state)
{
	(void)state;
	map_file_lab_close(&lab);
	return 0;
}

/* Types of every kind of cursor give a whole curve, and are not changed by it. */
static void test_map_tune__reads_every_type(void **state)
{
	(void)state;
	static const uint32_t types[] = { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_ARRAY,
					  BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_PERCPU_HASH };
	struct prng prng;
	test_prng(&prng);
	for (uint32_t i = 0; i < sizeof types / sizeof *types; i++) {
		const bool array = types[i] == BPF_MAP_TYPE_ARRAY;
		struct haul_map *map = map_file_lab_map(types[i], array ? 4 : 8, 8, 3000);
		struct map_file_contents contents;
		struct haul_map_tune tune;
		map_file_lab_fill(map, 3000, &prng);
		map_file_contents_load(&contents, map);
		assert_int_equal(haul_map_tune(map, 2, &tune, NULL, NULL), 0);
		assert_int_equal(tune.count, HAUL_MAP_TUNE_POINTS);
		for (uint32_t k = 0; k < tune.count; k++)
			assert_true(tune.points[k].ns_per_entry > 0 &&
				    tune.points[k].call_ns_max > 0);
		assert_in_range(tune.preferred, HAUL_MAP_BATCH_MIN, HAUL_MAP_BATCH_MAX);
		assert_in_range(tune.throughput, HAUL_MAP_BATCH_MIN, HAUL_MAP_BATCH_MAX);
		assert_in_range(tune.latency, HAUL_MAP_BATCH_MIN, HAUL_MAP_BATCH_MAX);
		assert_map_holds(map, &contents);
		map_file_contents_free(&contents);
		haul_map_close(map);
	}
}

/* A bucket of 100 entries: the sizes it does not fit into are found, and the floor is above. */
static void test_map_tune__learns_the_floor_from_a_full_bucket(void **state)
{
	(void)state;
	struct haul_map *map = map_file_lab_lopsided(100);
	struct haul_map_tune tune;
	assert_int_equal(haul_map_tune(map, 1, &tune, NULL, NULL), 0);
	for (uint32_t i = 0; i < tune.count; i++)
		assert_int_equal(tune.points[i].too_small, tune.points[i].batch < 100);
	assert_int_equal(tune.floor, 128);
	assert_in_range(tune.preferred, 128, HAUL_MAP_BATCH_MAX);
	haul_map_close(map);
}

/* An empty map and a type without batches are told apart. */
static void test_map_tune__of_nothing(void **state)
{
	(void)state;
	struct haul_map *empty = map_file_lab_map(BPF_MAP_TYPE_HASH, 8, 8, 100);
	struct haul_map *queue = map_file_lab_map(BPF_MAP_TYPE_QUEUE, 0, 8, 100);
	struct haul_map_tune tune;
	assert_int_equal(haul_map_tune(empty, 1, &tune, NULL, NULL), 0);
	assert_int_equal(tune.preferred, 0);
	assert_int_equal(haul_map_tune(queue, 1, &tune, NULL, NULL), -ENOTSUP);
	haul_map_close(empty);
	haul_map_close(queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_tune__reads_every_type),
		cmocka_unit_test(test_map_tune__learns_the_floor_from_a_full_bucket),
		cmocka_unit_test(test_map_tune__of_nothing),
	};
	return cmocka_run_group_tests(tests, open_lab, close_lab);
}
