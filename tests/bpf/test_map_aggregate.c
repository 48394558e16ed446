/* bpf/test_map_aggregate.c — sums, extremes, histogram and the largest entries: the arithmetic by
 * itself, and all engines on real maps against a naive model. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/aggregate.h"
#include "bpf/kernel_lab.h"

enum { ENTRIES = 600 };

/* ---- the arithmetic ---- */

/* A sum beyond 64 bits carries; negative numbers count down in both halves. */
static void test_map_aggregate__sum_has_128_bits(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (int is_signed = 0; is_signed <= 1; is_signed++) {
		struct map_figures figures;
		map_figures_init(&figures, is_signed);
		__extension__ __int128 sum = 0;
		for (int i = 0; i < 100000; i++) {
			uint64_t number = prng_next(&prng) >> prng_below(&prng, 64);
			if (prng_below(&prng, 2))
				number = ~number;
			map_figures_add(&figures, number);
			if (is_signed)
				sum += (int64_t)number;
			else
				sum += number;
		}
		assert_true(figures.sum == (uint64_t)sum);
		assert_true(figures.sum_high == (uint64_t)(sum >> 64));
	}
}

/* Bucket i of the histogram is 2^(i-1) … 2^i - 1; zero, and below, in the first. */
static void test_map_aggregate__histogram_edges(void **state)
{
	(void)state;
	struct map_figures figures;
	map_figures_init(&figures, 0);
	map_figures_add(&figures, 0);
	assert_int_equal(figures.hist[0], 1);
	for (uint32_t bit = 0; bit < 64; bit++) {
		map_figures_init(&figures, 0);
		map_figures_add(&figures, UINT64_C(1) << bit);
		map_figures_add(&figures, (UINT64_C(1) << bit) - 1 + (UINT64_C(1) << bit));
		assert_int_equal(figures.hist[bit + 1], 2);
	}
	map_figures_init(&figures, 1);
	map_figures_add(&figures, UINT64_MAX);
	map_figures_add(&figures, (uint64_t)INT64_MIN);
	assert_int_equal(figures.hist[0], 2);
	map_figures_add(&figures, INT64_MAX);
	assert_int_equal(figures.hist[63], 1);
}

static int compare_down(const void *a, const void *b)
{
	uint64_t x, y;
	memcpy(&x, a, sizeof x);
	memcpy(&y, b, sizeof y);
	return x < y ? 1 : x > y ? -1 : 0;
}

/* The N largest of random numbers with many ties, each at a place of its own. */
static void test_map_aggregate__ranks_keep_the_largest(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (int round = 0; round < 2000; round++) {
		static struct map_ranks ranks;
		ranks.count = 0;
		ranks.limit = prng_below(&prng, MAP_RANKS + 1);
		uint64_t numbers[700], kept[MAP_RANKS] = { 0 };
		uint32_t count = prng_below(&prng, 700);
		uint32_t spread = 1 + prng_below(&prng, 1000);
		for (uint32_t i = 0; i < count; i++) {
			numbers[i] = prng_below(&prng, spread);
			int64_t place = map_ranks_add(&ranks, numbers[i]);
			if (place >= 0) {
				assert_true(place < ranks.limit);
				kept[place] = numbers[i];
			}
		}
		uint32_t expected = count < ranks.limit ? count : ranks.limit;
		assert_int_equal(ranks.count, expected);
		qsort(numbers, count, sizeof *numbers, compare_down);
		map_ranks_sort(&ranks);
		for (uint32_t i = 0; i < expected; i++) {
			assert_int_equal(ranks.number[i], numbers[i]);
			assert_int_equal(kept[ranks.place[i]], numbers[i]);
		}
	}
}

/* ---- on real maps ---- */

struct model {
	struct haul_map_aggregate out;
	__extension__ __int128 sum;
	uint64_t numbers[ENTRIES]; /* turned into unsigned order, largest first */
};

static void model_run(const struct kernel_lab *lab, const struct haul_map_aggregate *in,
		      struct model *model)
{
	const struct haul_map_info *info = &lab->map.info;
	uint64_t turn = in->field.is_signed ? UINT64_C(1) << 63 : 0;
	memset(model, 0, sizeof *model);
	for (uint32_t i = 0; i < lab->count; i++) {
		const uint8_t *key = lab->keys + (size_t)i * info->key_size;
		const uint8_t *value = lab->values + (size_t)i * info->value_size;
		if (in->filter && !haul_map_filter_match(info, in->filter, key, value))
			continue;
		uint64_t number = map_field_get(info, &in->field, key, value);
		uint32_t bits = 0;
		while (bits < 64 && number >> bits)
			bits++;
		bool below = in->field.is_signed && (int64_t)number < 0;
		model->out.hist[below ? 0 : bits]++;
		if (in->field.is_signed)
			model->sum += (int64_t)number;
		else
			model->sum += number;
		model->numbers[model->out.count++] = number ^ turn;
	}
	qsort(model->numbers, model->out.count, sizeof *model->numbers, compare_down);
	if (model->out.count > 0) {
		model->out.max = model->numbers[0] ^ turn;
		model->out.min = model->numbers[model->out.count - 1] ^ turn;
	}
}

static void check_top(const struct kernel_lab *lab, const struct haul_map_aggregate *out,
		      const struct model *model)
{
	const struct haul_map_info *info = &lab->map.info;
	uint64_t turn = out->field.is_signed ? UINT64_C(1) << 63 : 0;
	uint64_t all = model->out.count;
	assert_int_equal(out->top_count, all < out->top ? all : out->top);
	for (uint32_t i = 0; i < out->top_count; i++) {
		const uint8_t *key = out->top_keys + (size_t)i * info->key_size;
		const uint8_t *value = out->top_values + (size_t)i * info->slot_bytes;
		uint64_t number = map_field_get(info, &out->field, key, value);
		assert_int_equal(number ^ turn, model->numbers[i]);
		int64_t at = kernel_lab_find(lab, key);
		assert_true(at >= 0);
		assert_memory_equal(value, lab->values + (size_t)at * info->value_size,
				    info->value_size);
		for (uint32_t j = 0; j < i; j++)
			assert_memory_not_equal(key, out->top_keys + (size_t)j * info->key_size,
						info->key_size);
	}
}

typedef int aggregate_call(struct haul_map *map, struct haul_map_aggregate *aggregate,
			   struct haul_map_result *result);

static void check_aggregate(const struct kernel_lab *lab, struct haul_map *map,
			    aggregate_call *call, struct haul_map_aggregate aggregate)
{
	static struct model model;
	static uint8_t keys[HAUL_MAP_TOP_MAX * 64], values[HAUL_MAP_TOP_MAX * 128];
	aggregate.top_keys = keys;
	aggregate.top_values = values;
	model_run(lab, &aggregate, &model);
	struct haul_map_result result = { .failed_index = -1 };
	assert_int_equal(call(map, &aggregate, &result), 0);
	assert_int_equal(result.visited, lab->count);
	assert_int_equal(aggregate.count, model.out.count);
	assert_true(aggregate.sum == (uint64_t)model.sum);
	assert_true(aggregate.sum_high == (uint64_t)(model.sum >> 64));
	assert_true(aggregate.min == model.out.min);
	assert_true(aggregate.max == model.out.max);
	assert_memory_equal(aggregate.hist, model.out.hist, sizeof aggregate.hist);
	check_top(lab, &aggregate, &model);
}

static struct haul_map_field random_field(const struct haul_map_info *info, struct prng *prng)
{
	struct haul_map_field field = { .in_key = prng_below(prng, 5) == 0,
					.big_endian = prng_below(prng, 2),
					.is_signed = prng_below(prng, 2) };
	uint32_t size = field.in_key ? info->key_size : info->value_size;
	do
		field.width = 1U << prng_below(prng, 4);
	while (field.width > size);
	field.offset = prng_below(prng, size - field.width + 1);
	return field;
}

static void run_engines(struct kernel_lab *lab, const struct haul_map_aggregate *in)
{
	assert_int_equal(map_kernel_open(&lab->map), 0);
	struct map_kernel *kernel = lab->map.kernel;
	kernel->hash_walk_from = UINT32_MAX;
	check_aggregate(lab, &lab->map, map_engine_kernel.aggregate, *in);
	kernel->hash_walk_from = 0;
	check_aggregate(lab, &lab->map, map_engine_kernel.aggregate, *in);
	assert_int_equal(kernel->parts[KERNEL_HASH_SUM].error, 0);
	static const enum haul_map_engine engines[] = { HAUL_MAP_BATCH, HAUL_MAP_SINGLE };
	for (int i = 0; i < 2; i++) {
		struct haul_map_options options = { .engine = engines[i] };
		struct haul_map *map;
		assert_int_equal(haul_map_open_fd(&map, lab->map.fd, &options, NULL), 0);
		check_aggregate(lab, map, map_aggregate_walk, *in);
		haul_map_close(map);
	}
}

/* Kernel, batch and single give the figures of the model, for fields of any width, order, sign and
 * place, with and without a filter, top N with ties. */
static void test_map_aggregate__all_engines_equal_the_model(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	static const uint32_t sizes[][2] = {
		{ 2, 3 }, { 4, 8 }, { 8, 13 }, { 40, 96 }, { 64, 128 }
	};
	for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
		struct kernel_lab lab;
		struct haul_map_spec spec = { .type = BPF_MAP_TYPE_HASH,
					      .key_size = sizes[s][0],
					      .value_size = sizes[s][1],
					      .max_entries = 1024 };
		kernel_lab_open(&lab, &spec);
		for (uint32_t i = 0; i < ENTRIES; i++) {
			uint8_t key[64] = { 0 };
			memcpy(key, &i, spec.key_size < 4 ? spec.key_size : 4);
			for (uint32_t j = 0; j < spec.value_size; j++)
				lab.row_values[j] = (uint8_t)(prng_next(&prng) & 0x83);
			kernel_lab_put(&lab, key, lab.row_values);
		}
		for (int round = 0; round < 15; round++) {
			struct haul_map_filter filter = { .count = 1 };
			filter.conditions[0] = (struct haul_map_condition){
				.field = random_field(&lab.map.info, &prng),
				.test = (enum haul_map_test)prng_below(&prng, HAUL_MAP_TESTS),
				.operand = prng_next(&prng) & 0x83,
			};
			struct haul_map_aggregate in = {
				.filter = prng_below(&prng, 2) ? &filter : NULL,
				.field = random_field(&lab.map.info, &prng),
				.top = prng_below(&prng, HAUL_MAP_TOP_MAX + 1),
			};
			run_engines(&lab, &in);
		}
		kernel_lab_close(&lab);
	}
}

/* The figures of nothing are zero, not the starting values of a search. */
static void test_map_aggregate__empty_map_gives_zeros(void **state)
{
	(void)state;
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8, .max_entries = 8
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	struct haul_map_aggregate in = { .field = { .width = 8 }, .top = 4 };
	run_engines(&lab, &in);
	assert_int_equal(in.count, 0);
	kernel_lab_close(&lab);
}

/* More of the largest are asked for than there is memory to keep in the program: refused, so that
 * another engine does it. */
static void test_map_aggregate__top_too_large_for_the_records(void **state)
{
	(void)state;
	struct haul_map_spec spec = { .type = BPF_MAP_TYPE_HASH,
				      .key_size = 4,
				      .value_size = KERNEL_VALUE_MAX,
				      .max_entries = 2 };
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	struct haul_map_aggregate in = { .field = { .width = 8 }, .top = HAUL_MAP_TOP_MAX };
	struct haul_map_result result = { .failed_index = -1 };
	assert_int_equal(map_engine_kernel.aggregate(&lab.map, &in, &result), -ENOTSUP);
	kernel_lab_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_aggregate__sum_has_128_bits),
		cmocka_unit_test(test_map_aggregate__histogram_edges),
		cmocka_unit_test(test_map_aggregate__ranks_keep_the_largest),
		cmocka_unit_test(test_map_aggregate__all_engines_equal_the_model),
		cmocka_unit_test(test_map_aggregate__empty_map_gives_zeros),
		cmocka_unit_test(test_map_aggregate__top_too_large_for_the_records),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
