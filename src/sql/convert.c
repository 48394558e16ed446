#include "sql/convert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sql/json.h"

void convert_result_text(sqlite3_context *context, const char *text, uint32_t bytes)
{
	if (bytes > 0)
		sqlite3_result_text(context, text, (int)bytes, SQLITE_TRANSIENT);
	else
		sqlite3_result_null(context);
}

int convert_result_properties(sqlite3_context *context, const struct haul_properties *properties)
{
	char *text;
	int error = json_of_properties(properties, &text);
	if (error < 0)
		return error;
	sqlite3_result_text(context, text, -1, free);
	return 0;
}

int convert_result_property(sqlite3_context *context, const struct haul_property *property)
{
	switch (property->type) {
	case HAUL_INTEGER:
		sqlite3_result_int64(context, property->integer);
		return 0;
	case HAUL_FLOAT:
		sqlite3_result_double(context, property->number);
		return 0;
	case HAUL_TEXT:
		sqlite3_result_text(context, property->data, (int)property->data_bytes,
				    SQLITE_TRANSIENT);
		return 0;
	case HAUL_BYTES:
		sqlite3_result_blob(context, property->data, (int)property->data_bytes,
				    SQLITE_TRANSIENT);
		return 0;
	case HAUL_NULL:
	case HAUL_PROPERTY_TYPES:
		break;
	}
	sqlite3_result_null(context);
	return 0;
}

/* Properties as an argument of INSERT or UPDATE: a JSON object, or nothing. */
int convert_take_properties(struct sql_vtab *vtab, sqlite3_value *value, uint8_t *buffer,
			    struct haul_properties *ret_properties)
{
	struct haul_err err = { 0 };
	*ret_properties = (struct haul_properties){ 0 };
	if (sqlite3_value_type(value) == SQLITE_NULL)
		return 0;
	const char *text = (const char *)sqlite3_value_text(value);
	int error = text != NULL ? json_to_properties(text, buffer, ret_properties, &err) : -ENOMEM;
	if (error < 0)
		(void)sql_fail(vtab, error, "%s", err.text);
	return error;
}

int convert_take_number(struct sql_vtab *vtab, sqlite3_value *value, const char *name,
			uint32_t *ret_number)
{
	*ret_number = 0;
	if (sqlite3_value_type(value) == SQLITE_NULL)
		return 0;
	sqlite3_int64 number = sqlite3_value_int64(value);
	if (sqlite3_value_numeric_type(value) != SQLITE_INTEGER || number < 0 ||
	    number > UINT32_MAX) {
		(void)sql_fail(vtab, -EINVAL, "%s '%s': wanted is a number from 0 to %u", name,
			       sqlite3_value_text(value), UINT32_MAX);
		return -EINVAL;
	}
	*ret_number = (uint32_t)number;
	return 0;
}

int convert_take_id(struct sql_vtab *vtab, sqlite3_value *value, const char *name, uint64_t *ret_id)
{
	uint64_t id = (uint64_t)sqlite3_value_int64(value);
	if (sqlite3_value_numeric_type(value) != SQLITE_INTEGER || id == 0 || id == UINT64_MAX) {
		(void)sql_fail(vtab, -EINVAL, "%s: wanted is a number other than 0 and -1", name);
		return -EINVAL;
	}
	*ret_id = id;
	return 0;
}

int convert_take_vector(struct sql_vtab *vtab, sqlite3_value *value, float **ret_vector,
			uint32_t *ret_dimensions)
{
	struct haul_err err = { 0 };
	if (sqlite3_value_type(value) == SQLITE_BLOB) {
		size_t bytes = (size_t)sqlite3_value_bytes(value);
		if (bytes == 0 || bytes % sizeof(float) != 0 ||
		    bytes / sizeof(float) > HAUL_DIMENSIONS_MAX) {
			(void)sql_fail(vtab, -EINVAL,
				       "a vector of %zu bytes: wanted are 1 to %d "
				       "floats of 4 bytes",
				       bytes, HAUL_DIMENSIONS_MAX);
			return -EINVAL;
		}
		*ret_vector = malloc(bytes);
		if (*ret_vector == NULL)
			return -ENOMEM;
		memcpy(*ret_vector, sqlite3_value_blob(value), bytes);
		*ret_dimensions = (uint32_t)(bytes / sizeof(float));
		return 0;
	}
	const char *text = (const char *)sqlite3_value_text(value);
	int error = json_to_vector(text != NULL ? text : "", ret_vector, ret_dimensions, &err);
	if (error < 0)
		(void)sql_fail(vtab, error, "%s", err.text);
	return error;
}
