/* What a field of an entry says, and whether an entry passes a filter. The plain reading of
 * haul/map.h; progs/map_test.h holds the form that runs in the kernel, and the tests compare
 * them. */
#include <errno.h>
#include <string.h>

#include <haul/map.h>
#include "base/assert.h"
#include "bpf/map_state.h"

static const char *const test_texts[HAUL_MAP_TESTS] = {
#define X(id, text) [id] = (text),
	HAUL_MAP_TEST_LIST(X)
#undef X
};

static uint64_t extend(uint64_t number, uint32_t width, bool is_signed)
{
	if (!is_signed || width == 8)
		return number;
	uint64_t sign = UINT64_C(1) << (8 * width - 1);
	return (number ^ sign) - sign;
}

static uint64_t field_read(const struct haul_map_field *field, const uint8_t *data)
{
	const uint8_t *at = data + field->offset;
	uint64_t number;
	uint16_t u16;
	uint32_t u32;
	switch (field->width) {
	case 1:
		number = *at;
		break;
	case 2:
		memcpy(&u16, at, sizeof u16);
		number = field->big_endian ? __builtin_bswap16(u16) : u16;
		break;
	case 4:
		memcpy(&u32, at, sizeof u32);
		number = field->big_endian ? __builtin_bswap32(u32) : u32;
		break;
	default:
		HAUL_ASSERT(field->width == 8);
		memcpy(&number, at, sizeof number);
		number = field->big_endian ? __builtin_bswap64(number) : number;
		break;
	}
	return extend(number, field->width, field->is_signed);
}

uint64_t map_field_get(const struct haul_map_info *info, const struct haul_map_field *field,
		       const void *key, const void *value)
{
	HAUL_ASSERT(field->width >= 1 && field->width <= 8);
	if (field->in_key)
		return field_read(field, key);
	HAUL_ASSERT(info->cpus >= 1);
	size_t slot = info->slot_bytes / info->cpus;
	uint64_t sum = 0;
	for (uint32_t cpu = 0; cpu < info->cpus; cpu++)
		sum += field_read(field, (const uint8_t *)value + cpu * slot);
	return sum;
}

static int condition_check(const struct haul_map_info *info,
			   const struct haul_map_condition *condition, struct haul_err *err)
{
	const struct haul_map_field *field = &condition->field;
	uint32_t bytes = field->in_key ? info->key_size : info->value_size;
	const char *where = field->in_key ? "key" : "value";
	if (field->width != 1 && field->width != 2 && field->width != 4 && field->width != 8)
		return haul_err_set(err, -EINVAL,
				    "a condition on %u bytes of the %s: only 1, 2, 4 or 8 can be "
				    "compared",
				    field->width, where);
	if (field->offset > bytes || field->width > bytes - field->offset)
		return haul_err_set(
			err, -EINVAL, "a condition on bytes %u to %llu of the %s, which has %u",
			field->offset, (unsigned long long)field->offset + field->width - 1, where,
			bytes);
	if ((uint32_t)condition->test >= HAUL_MAP_TESTS)
		return haul_err_set(err, -EINVAL, "unknown test %d: %s to %s are known",
				    (int)condition->test, test_texts[0],
				    test_texts[HAUL_MAP_TESTS - 1]);
	return 0;
}

int haul_map_filter_check(const struct haul_map_info *info, const struct haul_map_filter *filter,
			  struct haul_err *err)
{
	HAUL_ASSERT(info && filter);
	if (filter->count > HAUL_MAP_CONDITIONS)
		return haul_err_set(err, -EINVAL, "a filter of %u conditions: at most %d",
				    filter->count, HAUL_MAP_CONDITIONS);
	for (uint32_t i = 0; i < filter->count; i++) {
		int rc = condition_check(info, &filter->conditions[i], err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Order of signed numbers is that of unsigned ones whose top bit is turned. */
static bool condition_holds(const struct haul_map_condition *condition, uint64_t number)
{
	uint64_t turn = condition->field.is_signed ? UINT64_C(1) << 63 : 0;
	uint64_t left = number ^ turn;
	uint64_t right = condition->operand ^ turn;
	switch (condition->test) {
	case HAUL_MAP_EQ:
		return left == right;
	case HAUL_MAP_NE:
		return left != right;
	case HAUL_MAP_LT:
		return left < right;
	case HAUL_MAP_LE:
		return left <= right;
	case HAUL_MAP_GT:
		return left > right;
	case HAUL_MAP_GE:
		return left >= right;
	case HAUL_MAP_ALL:
		return (number & condition->operand) == condition->operand;
	case HAUL_MAP_ANYBIT:
		return (number & condition->operand) != 0;
	case HAUL_MAP_TESTS:
	default:
		return false;
	}
}

bool haul_map_filter_match(const struct haul_map_info *info, const struct haul_map_filter *filter,
			   const void *key, const void *value)
{
	HAUL_ASSERT(filter->count <= HAUL_MAP_CONDITIONS);
	for (uint32_t i = 0; i < filter->count; i++) {
		const struct haul_map_condition *condition = &filter->conditions[i];
		uint64_t number = map_field_get(info, &condition->field, key, value);
		if (!condition_holds(condition, number))
			return false;
	}
	return true;
}
