#include "sql/json.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char hex_digits[] = "0123456789abcdef";

/* ---- properties ---- */

static json_t *hex_of(const uint8_t *data, uint32_t bytes)
{
	char *text = malloc((size_t)bytes * 2 + 1);
	if (text == NULL)
		return NULL;
	for (uint32_t i = 0; i < bytes; i++) {
		text[2 * i] = hex_digits[data[i] >> 4];
		text[2 * i + 1] = hex_digits[data[i] & 15];
	}
	json_t *value = json_pack("{s:s%}", "$hex", text, (size_t)bytes * 2);
	free(text);
	return value;
}

static json_t *json_of_property(const struct haul_property *property)
{
	json_t *text;
	switch (property->type) {
	case HAUL_INTEGER:
		return json_integer(property->integer);
	case HAUL_FLOAT:
		return json_real(property->number); /* NULL if not finite: told as null */
	case HAUL_TEXT:
		text = json_stringn(property->data, property->data_bytes);
		return text != NULL ? text : hex_of(property->data, property->data_bytes);
	case HAUL_BYTES:
		return hex_of(property->data, property->data_bytes);
	case HAUL_NULL:
	case HAUL_PROPERTY_TYPES:
		break;
	}
	return json_null();
}

int json_of_properties(const struct haul_properties *properties, char **ret_text)
{
	struct haul_property property;
	uint32_t offset = 0;
	json_t *object = json_object();
	if (object == NULL)
		return -ENOMEM;
	for (;;) {
		int rc = haul_property_next(properties, &offset, &property);
		if (rc < 0) {
			json_decref(object);
			return rc;
		}
		if (rc == 0)
			break;
		char name[HAUL_PROPERTY_NAME_MAX + 1];
		memcpy(name, property.name, property.name_bytes);
		name[property.name_bytes] = '\0';
		json_t *value = json_of_property(&property);
		/* A name that is no UTF-8 cannot be told in JSON. */
		(void)json_object_set_new(object, name, value != NULL ? value : json_null());
	}
	*ret_text = json_dumps(object, JSON_COMPACT);
	json_decref(object);
	return *ret_text != NULL ? 0 : -ENOMEM;
}

/* What the walk over an object keeps until all is encoded. */
struct gather {
	struct haul_property *properties;
	uint32_t count;
	uint8_t **hex; /* bytes that were decoded */
	uint32_t hex_count;
};

static int hex_digit(char c)
{
	const char *at = c != '\0' ? strchr(hex_digits, c) : NULL;
	return at != NULL ? (int)(at - hex_digits) : -1;
}

static int gather_hex(struct gather *gather, const json_t *value, struct haul_property *property)
{
	const char *text = json_string_value(json_object_get(value, "$hex"));
	size_t length = text != NULL ? strlen(text) : 1;
	if (length % 2 != 0 || json_object_size(value) != 1)
		return -EINVAL;
	uint8_t *bytes = malloc(length / 2 + 1);
	if (bytes == NULL)
		return -ENOMEM;
	gather->hex[gather->hex_count++] = bytes;
	for (size_t i = 0; i < length / 2; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
		if (high < 0 || low < 0)
			return -EINVAL;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	property->type = HAUL_BYTES;
	property->data = bytes;
	property->data_bytes = (uint32_t)(length / 2);
	return 0;
}

static int gather_one(struct gather *gather, const char *name, const json_t *value)
{
	struct haul_property *property = &gather->properties[gather->count++];
	*property = (struct haul_property){ .name = name, .name_bytes = (uint32_t)strlen(name) };
	if (json_is_object(value))
		return gather_hex(gather, value, property);
	if (json_is_integer(value) || json_is_boolean(value)) {
		property->type = HAUL_INTEGER;
		property->integer =
			json_is_integer(value) ? json_integer_value(value) : json_is_true(value);
	} else if (json_is_real(value)) {
		property->type = HAUL_FLOAT;
		property->number = json_real_value(value);
	} else if (json_is_string(value)) {
		property->type = HAUL_TEXT;
		property->data = json_string_value(value);
		property->data_bytes = (uint32_t)json_string_length(value);
	} else {
		return -EINVAL;
	}
	return 0;
}

static int gather_all(struct gather *gather, json_t *object, struct haul_err *err)
{
	const char *name;
	json_t *value;
	json_object_foreach(object, name, value)
	{
		int error = gather_one(gather, name, value);
		if (error < 0)
			return haul_err_set(
				err, error,
				"property '%s': wanted is a number, a text, true, false "
				"or {\"$hex\": \"…\"}",
				name);
	}
	return 0;
}

int json_take_properties(struct json_t *object, uint8_t *buffer,
			 struct haul_properties *ret_properties, struct haul_err *err)
{
	size_t count = json_object_size(object);
	int error = 0;
	if (!json_is_object(object))
		error = haul_err_set(err, -EINVAL, "properties: wanted is a JSON object");
	else if (count > HAUL_PROPERTY_COUNT_MAX)
		error = haul_err_set(err, HAUL_ELIMIT, "%zu properties, at most %d", count,
				     HAUL_PROPERTY_COUNT_MAX);
	if (error < 0)
		return error;
	struct gather gather = { .properties = calloc(count + 1, sizeof *gather.properties),
				 .hex = calloc(count + 1, sizeof(uint8_t *)) };
	if (gather.properties == NULL || gather.hex == NULL) {
		free(gather.hex);
		free(gather.properties);
		(void)haul_err_set(err, -ENOMEM, "no memory for %zu properties", count);
		return -ENOMEM;
	}
	error = gather_all(&gather, object, err);
	if (error == 0) {
		error = haul_properties_encode(gather.properties, gather.count, buffer,
					       HAUL_PROPERTIES_MAX, ret_properties);
		if (error < 0)
			haul_err_set(err, error, "properties: %s", haul_strerror(error));
	}
	for (uint32_t i = 0; i < gather.hex_count; i++)
		free(gather.hex[i]);
	free(gather.hex);
	free(gather.properties);
	return error;
}

int json_to_properties(const char *text, uint8_t *buffer, struct haul_properties *ret_properties,
		       struct haul_err *err)
{
	json_error_t at;
	json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &at);
	if (object == NULL)
		return haul_err_set(err, -EINVAL, "properties are no JSON: %s, at character %d",
				    at.text, at.position);
	int error = json_take_properties(object, buffer, ret_properties, err);
	json_decref(object);
	return error;
}

/* ---- vectors ---- */

int json_of_vector(const float *vector, uint32_t dimensions, char **ret_text)
{
	json_t *array = json_array();
	for (uint32_t i = 0; i < dimensions; i++)
		json_array_append_new(array, json_real((double)vector[i]));
	/* Nine digits tell any two floats apart. */
	*ret_text = json_dumps(array, JSON_COMPACT | JSON_REAL_PRECISION(9));
	json_decref(array);
	return *ret_text != NULL ? 0 : -ENOMEM;
}

int json_to_vector(const char *text, float **ret_vector, uint32_t *ret_dimensions,
		   struct haul_err *err)
{
	json_error_t at;
	json_t *array = json_loads(text, 0, &at);
	size_t count = json_array_size(array);
	if (array == NULL || count == 0 || count > HAUL_DIMENSIONS_MAX) {
		json_decref(array);
		return haul_err_set(err, -EINVAL,
				    "a vector: wanted is an array of 1 to %d numbers, or a blob of "
				    "floats",
				    HAUL_DIMENSIONS_MAX);
	}
	float *vector = calloc(count, sizeof *vector);
	int error = vector != NULL ? 0 : -ENOMEM;
	for (size_t i = 0; error == 0 && i < count; i++) {
		const json_t *number = json_array_get(array, i);
		if (!json_is_number(number))
			error = haul_err_set(err, -EINVAL, "a vector: entry %zu is no number",
					     i + 1);
		else
			vector[i] = (float)json_number_value(number);
	}
	json_decref(array);
	if (error < 0) {
		free(vector);
		return error;
	}
	*ret_vector = vector;
	*ret_dimensions = (uint32_t)count;
	return 0;
}
