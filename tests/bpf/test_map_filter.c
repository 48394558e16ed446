/* bpf/test_map_filter.c — conditions on fields: what they mean, what is refused, and that the form
 * which runs in the kernel says the same. */
#include <errno.h>
#include <string.h>

#include "bpf/kernel_state.h"
#include "lib/testlib.h"

enum { CASES = 300000, SIDE_MAX = 40 };

static struct haul_map_info info_of(uint32_t key_size, uint32_t value_size)
{
	return (struct haul_map_info){ .type = BPF_MAP_TYPE_HASH,
				       .key_size = key_size,
				       .value_size = value_size,
				       .cpus = 1,
				       .slot_bytes = value_size };
}

/* Numbers near the edges of every width, as often as any others. */
static uint64_t edgy(struct prng *prng)
{
	static const uint64_t edges[] = { 0,
					  0x7f,
					  0x80,
					  0xff,
					  0x7fff,
					  0x8000,
					  0xffff,
					  0x7fffffff,
					  0x80000000,
					  0xffffffff,
					  INT64_MAX,
					  (uint64_t)INT64_MIN,
					  UINT64_MAX,
					  UINT64_MAX - 127,
					  UINT64_MAX - 32767 };
	if (prng_below(prng, 3) == 0)
		return prng_next(prng);
	uint64_t edge = edges[prng_below(prng, sizeof edges / sizeof *edges)];
	return edge + prng_below(prng, 3) - 1;
}

static struct haul_map_condition random_condition(const struct haul_map_info *info,
						  struct prng *prng)
{
	struct haul_map_condition condition = {
		.field = { .in_key = prng_below(prng, 2),
			   .big_endian = prng_below(prng, 2),
			   .is_signed = prng_below(prng, 2) },
		.test = (enum haul_map_test)prng_below(prng, HAUL_MAP_TESTS),
		.operand = edgy(prng),
	};
	uint32_t size = condition.field.in_key ? info->key_size : info->value_size;
	do
		condition.field.width = 1U << prng_below(prng, 4);
	while (condition.field.width > size);
	condition.field.offset = prng_below(prng, size - condition.field.width + 1);
	return condition;
}

static void random_bytes(uint8_t *bytes, uint32_t count, struct prng *prng)
{
	uint32_t kind = prng_below(prng, 4);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t some = (uint8_t)prng_next(prng);
		bytes[i] = kind == 0 ? 0 : kind == 1 ? 0xff : kind == 2 ? some : some & 0x81;
	}
}

/* Byte by byte, as a person would. */
static uint64_t naive_number(const struct haul_map_field *field, const uint8_t *data)
{
	uint64_t number = 0;
	for (uint32_t i = 0; i < field->width; i++) {
		uint32_t at = field->big_endian ? i : field->width - 1 - i;
		number = number << 8 | data[field->offset + at];
	}
	if (field->is_signed && field->width < 8 && number >> (8 * field->width - 1))
		number |= UINT64_MAX << (8 * field->width);
	return number;
}

static bool naive_holds(const struct haul_map_condition *condition, const uint8_t *key,
			const uint8_t *value)
{
	uint64_t number = naive_number(&condition->field, condition->field.in_key ? key : value);
	uint64_t operand = condition->operand;
	bool less =
		condition->field.is_signed ? (int64_t)number < (int64_t)operand : number < operand;
	bool same = number == operand;
	bool answers[HAUL_MAP_TESTS] = {
		[HAUL_MAP_EQ] = same,
		[HAUL_MAP_NE] = !same,
		[HAUL_MAP_LT] = less,
		[HAUL_MAP_LE] = less || same,
		[HAUL_MAP_GT] = !less && !same,
		[HAUL_MAP_GE] = !less,
		[HAUL_MAP_ALL] = (number & operand) == operand,
		[HAUL_MAP_ANYBIT] = (number & operand) != 0,
	};
	return answers[condition->test];
}

/* The answer of user space, of the kernel's form and of a naive reading are the same, for every
 * width, byte order, sign, operator and position. */
static void test_map_filter__one_condition_three_readings(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	uint32_t held = 0;
	for (int i = 0; i < CASES; i++) {
		uint8_t key[SIDE_MAX], value[SIDE_MAX];
		struct haul_map_info info =
			info_of(1 + prng_below(&prng, SIDE_MAX), 1 + prng_below(&prng, SIDE_MAX));
		random_bytes(key, info.key_size, &prng);
		random_bytes(value, info.value_size, &prng);
		struct haul_map_filter filter = { .count = 1 };
		struct haul_map_condition *condition = filter.conditions;
		*condition = random_condition(&info, &prng);
		const uint8_t *side = condition->field.in_key ? key : value;
		if (prng_below(&prng, 3) == 0)
			condition->operand = naive_number(&condition->field, side);
		bool naive = naive_holds(condition, key, value);
		assert_int_equal(haul_map_filter_match(&info, &filter, key, value), naive);
		struct map_test test;
		kernel_test_init(&test, &info, condition);
		uint32_t size = condition->field.in_key ? info.key_size : info.value_size;
		assert_int_equal(map_test_holds(&test, kernel_word(&test.pick, side, size)), naive);
		held += naive;
	}
	/* Neither answer is rare. */
	assert_in_range(held, CASES / 5, CASES * 4 / 5);
}

/* All conditions must hold, and none means every entry. */
static void test_map_filter__all_must_hold(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (int i = 0; i < 20000; i++) {
		uint8_t key[8], value[16];
		struct haul_map_info info = info_of(sizeof key, sizeof value);
		random_bytes(key, sizeof key, &prng);
		random_bytes(value, sizeof value, &prng);
		struct haul_map_filter filter = { .count = prng_below(&prng,
								      HAUL_MAP_CONDITIONS + 1) };
		bool naive = true;
		for (uint32_t c = 0; c < filter.count; c++) {
			filter.conditions[c] = random_condition(&info, &prng);
			naive = naive && naive_holds(&filter.conditions[c], key, value);
		}
		assert_int_equal(haul_map_filter_match(&info, &filter, key, value), naive);
	}
}

/* In a per-CPU map a condition is on the sum over the CPUs; one on the key is not added up. */
static void test_map_filter__per_cpu_values_are_summed(void **state)
{
	(void)state;
	struct haul_map_info info = { .type = BPF_MAP_TYPE_PERCPU_HASH,
				      .key_size = 4,
				      .value_size = 5,
				      .cpus = 3,
				      .slot_bytes = 24 };
	uint8_t values[24] = { 0 };
	values[4] = 100;
	values[8 + 4] = 200;
	values[16 + 4] = 0xff; /* 255, or -1 */
	uint32_t key = 7;
	struct haul_map_field field = { .offset = 4, .width = 1 };
	assert_int_equal(map_field_get(&info, &field, &key, values), 555);
	field.is_signed = true;
	assert_int_equal((int64_t)map_field_get(&info, &field, &key, values), 100 - 56 - 1);
	struct haul_map_field in_key = { .in_key = true, .width = 4 };
	assert_int_equal(map_field_get(&info, &in_key, &key, values), 7);
}

/* What cannot be evaluated is refused, and the text says where and what would be right. */
static void test_map_filter__check_refuses_with_text(void **state)
{
	(void)state;
	struct haul_map_info info = info_of(8, 12);
	struct haul_map_filter filter = { .count = 1 };
	struct haul_map_condition *condition = filter.conditions;
	struct haul_err err = { 0 };
	*condition = (struct haul_map_condition){ .field = { .offset = 8, .width = 4 } };
	assert_int_equal(haul_map_filter_check(&info, &filter, &err), 0);
	condition->field.in_key = true;
	assert_int_equal(haul_map_filter_check(&info, &filter, &err), -EINVAL);
	assert_non_null(strstr(err.text, "bytes 8 to 11 of the key, which has 8"));
	condition->field = (struct haul_map_field){ .offset = UINT32_MAX, .width = 2 };
	assert_int_equal(haul_map_filter_check(&info, &filter, &err), -EINVAL);
	condition->field = (struct haul_map_field){ .width = 3 };
	assert_int_equal(haul_map_filter_check(&info, &filter, &err), -EINVAL);
	assert_non_null(strstr(err.text, "only 1, 2, 4 or 8"));
	condition->field.width = 0;
	assert_int_equal(haul_map_filter_check(&info, &filter, &err), -EINVAL);
	condition->field.width = 4;
	condition->test = HAUL_MAP_TESTS;
	assert_int_equal(haul_map_filter_check(&info, &filter, &err), -EINVAL);
	assert_non_null(strstr(err.text, "unknown test"));
	filter.count = HAUL_MAP_CONDITIONS + 1;
	assert_int_equal(haul_map_filter_check(&info, &filter, &err), -EINVAL);
	assert_non_null(strstr(err.text, "at most 8"));
	assert_int_equal(haul_map_filter_check(&info, &filter, NULL), -EINVAL);
}

/* Conditions on the value come before those on the key, whatever order they were given in. */
static void test_map_filter__kernel_form_sorts_by_side(void **state)
{
	(void)state;
	struct haul_map_info info = info_of(8, 8);
	struct haul_map_filter filter = { .count = 3 };
	for (uint32_t i = 0; i < 3; i++)
		filter.conditions[i] =
			(struct haul_map_condition){ .field = { .in_key = i != 1, .width = 1 },
						     .operand = i };
	static struct map_work work;
	assert_int_equal(kernel_filter_set(&work, &info, &filter), 0);
	assert_int_equal(work.value_tests, 1);
	assert_int_equal(work.all_tests, 3);
	assert_int_equal(work.tests[0].from, 1);
	assert_int_equal(work.tests[1].from, 0);
	assert_int_equal(work.tests[2].from, 2);
	assert_int_equal(kernel_filter_set(&work, &info, NULL), 0);
	assert_int_equal(work.all_tests, 0);
	filter.conditions[2].field.width = 5;
	assert_int_equal(kernel_filter_set(&work, &info, &filter), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_filter__one_condition_three_readings),
		cmocka_unit_test(test_map_filter__all_must_hold),
		cmocka_unit_test(test_map_filter__per_cpu_values_are_summed),
		cmocka_unit_test(test_map_filter__check_refuses_with_text),
		cmocka_unit_test(test_map_filter__kernel_form_sorts_by_side),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
