#include <errno.h>
#include <string.h>

#include <haul/graph.h>
#include "base/assert.h"
#include "base/bytes.h"
#include "store/record.h"

const char *haul_property_type_name(enum haul_property_type type)
{
	static const char *const names[HAUL_PROPERTY_TYPES] = {
#define X(id, name) [id] = name,
		HAUL_PROPERTY_LIST(X)
#undef X
	};
	return (unsigned)type < HAUL_PROPERTY_TYPES ? names[type] : "unknown";
}

/* Order of names: bytes as numbers, a shorter one first. */
static int name_compare(const char *a, uint32_t a_bytes, const char *b, uint32_t b_bytes)
{
	const int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);
	return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare(const struct haul_property *a, const struct haul_property *b)
{
	return name_compare(a->name, a->name_bytes, b->name, b->name_bytes);
}

static bool has_data(const struct haul_property *property)
{
	return property->type == HAUL_TEXT || property->type == HAUL_BYTES;
}

static uint32_t data_bytes(const struct haul_property *property)
{
	if (has_data(property))
		return property->data_bytes;
	return property->type == HAUL_NULL ? 0 : 8;
}

static int check_one(const struct haul_property *property)
{
	if ((unsigned)property->type >= HAUL_PROPERTY_TYPES || property->name == NULL ||
	    property->name_bytes == 0)
		return -EINVAL;
	if (has_data(property) && property->data == NULL && property->data_bytes != 0)
		return -EINVAL;
	if (property->name_bytes > HAUL_PROPERTY_NAME_MAX ||
	    (has_data(property) && property->data_bytes > HAUL_PROPERTIES_MAX))
		return HAUL_ELIMIT;
	return 0;
}

/* Shell's sort of the numbers of properties by name (gaps: Ciura, 2001): no memory, and few
 * properties are the rule. */
static void sort(const struct haul_property *properties, uint32_t count, uint16_t *order)
{
	static const uint16_t gaps[] = { 701, 301, 132, 57, 23, 10, 4, 1 };

	for (uint32_t i = 0; i < count; i++)
		order[i] = (uint16_t)i;
	for (uint32_t g = 0; g < sizeof gaps / sizeof *gaps; g++) {
		const uint32_t gap = gaps[g];
		for (uint32_t i = gap; i < count; i++) {
			const uint16_t held = order[i];
			uint32_t at = i;
			for (; at >= gap &&
			       compare(&properties[order[at - gap]], &properties[held]) > 0;
			     at -= gap)
				order[at] = order[at - gap];
			order[at] = held;
		}
	}
}

static uint32_t put_one(uint8_t *out, const struct haul_property *property)
{
	const uint32_t bytes = data_bytes(property);
	uint8_t *data = out + RECORD_PROPERTY_HEAD + property->name_bytes;

	out[0] = (uint8_t)property->type;
	out[1] = (uint8_t)property->name_bytes;
	le16_store(out + 2, 0);
	le32_store(out + 4, bytes);
	memcpy(out + RECORD_PROPERTY_HEAD, property->name, property->name_bytes);
	if (property->type == HAUL_INTEGER)
		memcpy(data, &property->integer, 8);
	else if (property->type == HAUL_FLOAT)
		memcpy(data, &property->number, 8);
	else if (bytes != 0)
		memcpy(data, property->data, bytes);
	return RECORD_PROPERTY_HEAD + property->name_bytes + bytes;
}

int haul_properties_encode(const struct haul_property *properties, uint32_t count, uint8_t *buffer,
			   uint32_t bytes, struct haul_properties *ret_properties)
{
	uint16_t order[HAUL_PROPERTY_COUNT_MAX];
	uint64_t need = 0;
	uint32_t used = 0;

	if (count > HAUL_PROPERTY_COUNT_MAX)
		return HAUL_ELIMIT;
	for (uint32_t i = 0; i < count; i++) {
		const int error = check_one(&properties[i]);
		if (error != 0)
			return error;
		need += RECORD_PROPERTY_HEAD + properties[i].name_bytes +
			data_bytes(&properties[i]);
	}
	if (need > HAUL_PROPERTIES_MAX)
		return HAUL_ELIMIT;
	sort(properties, count, order);
	for (uint32_t i = 1; i < count; i++) {
		if (compare(&properties[order[i - 1]], &properties[order[i]]) == 0)
			return -EINVAL;
	}
	if (need > bytes)
		return HAUL_EFULL;
	for (uint32_t i = 0; i < count; i++)
		used += put_one(buffer + used, &properties[order[i]]);
	HAUL_ASSERT(used == need);
	*ret_properties = (struct haul_properties){ buffer, used, count };
	return 0;
}

int haul_property_next(const struct haul_properties *properties, uint32_t *offset,
		       struct haul_property *ret_property)
{
	const uint32_t at = *offset;

	if (at >= properties->bytes)
		return at == properties->bytes ? 0 : HAUL_ECORRUPT;
	const uint8_t *data = properties->data + at;
	const uint32_t left = properties->bytes - at;
	if (left < RECORD_PROPERTY_HEAD)
		return HAUL_ECORRUPT;
	const uint32_t type = data[0], name = data[1], bytes = le32_load(data + 4);
	if (type >= HAUL_PROPERTY_TYPES || name == 0 || name > HAUL_PROPERTY_NAME_MAX ||
	    le16_load(data + 2) != 0 || bytes > HAUL_PROPERTIES_MAX ||
	    RECORD_PROPERTY_HEAD + name + bytes > left)
		return HAUL_ECORRUPT;
	struct haul_property property = {
		.name = (const char *)data + RECORD_PROPERTY_HEAD,
		.name_bytes = name,
		.type = (enum haul_property_type)type,
	};
	const uint8_t *value = data + RECORD_PROPERTY_HEAD + name;
	if (!has_data(&property)) {
		if (bytes != data_bytes(&property))
			return HAUL_ECORRUPT;
	} else {
		property.data = value;
		property.data_bytes = bytes;
	}
	if (property.type == HAUL_INTEGER)
		memcpy(&property.integer, value, 8);
	if (property.type == HAUL_FLOAT)
		memcpy(&property.number, value, 8);
	*ret_property = property;
	*offset = at + RECORD_PROPERTY_HEAD + name + bytes;
	return 1;
}

int haul_property_find(const struct haul_properties *properties, const char *name,
		       struct haul_property *ret_property)
{
	const size_t name_bytes = strlen(name);
	struct haul_property property;
	uint32_t offset = 0;
	int more;

	if (name_bytes > HAUL_PROPERTY_NAME_MAX)
		return -ENOENT;
	while ((more = haul_property_next(properties, &offset, &property)) == 1) {
		const int order = name_compare(property.name, property.name_bytes, name,
					       (uint32_t)name_bytes);
		if (order == 0) {
			*ret_property = property;
			return 0;
		}
		if (order > 0)
			break;
	}
	return more < 0 ? more : -ENOENT;
}

int record_check_properties(const struct haul_properties *properties, bool patch)
{
	struct haul_property before = { 0 }, property;
	uint32_t offset = 0, count = 0;
	int more;

	if (properties->bytes > HAUL_PROPERTIES_MAX || properties->count > HAUL_PROPERTY_COUNT_MAX)
		return HAUL_ELIMIT;
	while ((more = haul_property_next(properties, &offset, &property)) == 1) {
		if (property.type == HAUL_NULL && !patch)
			return HAUL_ECORRUPT;
		if (count != 0 && compare(&before, &property) >= 0)
			return HAUL_ECORRUPT;
		before = property;
		count++;
	}
	if (more < 0)
		return more;
	return count == properties->count ? 0 : HAUL_ECORRUPT;
}

int record_merge(const struct haul_properties *old, const struct haul_properties *patch,
		 uint8_t *buffer, struct haul_properties *ret_properties)
{
	struct haul_property a, b;
	uint32_t a_at = 0, b_at = 0, used = 0, count = 0;
	int more_a = haul_property_next(old, &a_at, &a);
	int more_b = haul_property_next(patch, &b_at, &b);

	while (more_a == 1 || more_b == 1) {
		const int order = more_a != 1 ? 1 : more_b != 1 ? -1 : compare(&a, &b);
		const struct haul_property *take = order < 0 ? &a : &b;
		if (take->type != HAUL_NULL) {
			const uint32_t bytes =
				RECORD_PROPERTY_HEAD + take->name_bytes + data_bytes(take);
			if (used + bytes > HAUL_PROPERTIES_MAX || count == HAUL_PROPERTY_COUNT_MAX)
				return HAUL_ELIMIT;
			used += put_one(buffer + used, take);
			count++;
		}
		if (order <= 0)
			more_a = haul_property_next(old, &a_at, &a);
		if (order >= 0)
			more_b = haul_property_next(patch, &b_at, &b);
	}
	HAUL_ASSERT(more_a == 0 && more_b == 0);
	*ret_properties = (struct haul_properties){ buffer, used, count };
	return 0;
}
