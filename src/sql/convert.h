/* sql/convert.h — values of SQLite from and to those of a graph.
 *
 * Model      convert_result_*: a column's value. convert_take_*: an argument of INSERT or UPDATE;
 *            what is not right is told through sql_fail.
 * Threads    as SQLite's. Errors: negative. */
#pragma once

#include <haul/graph.h>
#include "sql/table.h"

/* NULL if bytes is 0. */
void convert_result_text(sqlite3_context *context, const char *text, uint32_t bytes);
/* A JSON object. */
int convert_result_properties(sqlite3_context *context, const struct haul_properties *properties);
int convert_result_property(sqlite3_context *context, const struct haul_property *property);

/* A JSON object, or NULL: none. buffer: HAUL_PROPERTIES_MAX bytes. */
int convert_take_properties(struct sql_vtab *vtab, sqlite3_value *value, uint8_t *buffer,
			    struct haul_properties *ret_properties);
/* NULL is 0. */
int convert_take_number(struct sql_vtab *vtab, sqlite3_value *value, const char *name,
			uint32_t *ret_number);
int convert_take_id(struct sql_vtab *vtab, sqlite3_value *value, const char *name,
		    uint64_t *ret_id);
/* A blob of floats, or a JSON array; *ret_vector is the caller's to free. */
int convert_take_vector(struct sql_vtab *vtab, sqlite3_value *value, float **ret_vector,
			uint32_t *ret_dimensions);
