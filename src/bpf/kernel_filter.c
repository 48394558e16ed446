/* Fields and conditions of haul/map.h into the form that the programs evaluate. Each operator is
 * one range of unsigned numbers, or all outside of it; signed numbers are turned into the order of
 * unsigned ones by their top bit. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/kernel_state.h"

static const bool big_endian_host = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

void kernel_pick_init(struct map_pick *pick, const struct haul_map_info *info,
		      const struct haul_map_field *field)
{
	uint32_t size = field->in_key ? info->key_size : info->value_size;
	uint32_t bits = 8 * field->width;
	HAUL_ASSERT(field->width >= 1 && field->width <= 8 && field->offset <= size);
	HAUL_ASSERT(field->width <= size - field->offset);
	uint32_t last = size < 8 ? 0 : size - 8;
	uint32_t at = field->offset < last ? field->offset : last;
	uint32_t shift = 8 * (field->offset - at);
	*pick = (struct map_pick){
		.mask = field->width == 8 ? UINT64_MAX : (UINT64_C(1) << bits) - 1,
		.sign = field->is_signed ? UINT64_C(1) << (bits - 1) : 0,
		.at = at,
		.shift = big_endian_host ? 64 - bits - shift : shift,
		.swap = field->big_endian != big_endian_host && field->width > 1,
		.swap_shift = 64 - bits,
	};
}

static void range_init(struct map_test *test, uint64_t last, bool up_to)
{
	/* Numbers 0 … last when up_to, else those above. */
	test->from = 0;
	test->span = last;
	test->invert = !up_to;
}

void kernel_test_init(struct map_test *test, const struct haul_map_info *info,
		      const struct haul_map_condition *condition)
{
	memset(test, 0, sizeof *test);
	kernel_pick_init(&test->pick, info, &condition->field);
	uint64_t turn = condition->field.is_signed ? UINT64_C(1) << 63 : 0;
	uint64_t operand = condition->operand ^ turn;
	test->bits = UINT64_MAX;
	test->turn = turn;
	test->from = operand;
	switch (condition->test) {
	case HAUL_MAP_NE:
		test->invert = 1;
		break;
	case HAUL_MAP_LE:
	case HAUL_MAP_GT:
		range_init(test, operand, condition->test == HAUL_MAP_LE);
		break;
	case HAUL_MAP_LT:
	case HAUL_MAP_GE:
		/* Below the smallest there is none: "not up to the largest" is nothing. */
		if (operand == 0)
			range_init(test, UINT64_MAX, condition->test == HAUL_MAP_GE);
		else
			range_init(test, operand - 1, condition->test == HAUL_MAP_LT);
		break;
	case HAUL_MAP_ALL:
		test->turn = 0;
		test->bits = test->from = condition->operand;
		break;
	case HAUL_MAP_ANYBIT:
		test->turn = 0;
		test->bits = condition->operand;
		test->from = 0;
		test->invert = 1;
		break;
	case HAUL_MAP_EQ:
	case HAUL_MAP_TESTS:
	default:
		break;
	}
}

int kernel_filter_set(struct map_work *work, const struct haul_map_info *info,
		      const struct haul_map_filter *filter)
{
	_Static_assert((int)MAP_TESTS == (int)HAUL_MAP_CONDITIONS, "room for every condition");
	work->value_tests = work->all_tests = 0;
	if (!filter)
		return 0;
	int rc = haul_map_filter_check(info, filter, NULL);
	if (rc < 0)
		return rc;
	/* Those on the value first: the program has one loop for each. */
	for (int in_key = 0; in_key <= 1; in_key++) {
		for (uint32_t i = 0; i < filter->count; i++) {
			if (filter->conditions[i].field.in_key == (bool)in_key)
				kernel_test_init(&work->tests[work->all_tests++], info,
						 &filter->conditions[i]);
		}
		if (!in_key)
			work->value_tests = work->all_tests;
	}
	HAUL_ASSERT(work->all_tests == filter->count);
	return 0;
}

uint64_t kernel_word(const struct map_pick *pick, const void *data, uint32_t size)
{
	uint64_t word = 0;
	HAUL_ASSERT(size < 8 || pick->at <= size - 8);
	memcpy(&word, (const uint8_t *)data + pick->at, size < 8 ? size : 8);
	return word;
}
