/* sql/json.h — properties as JSON, vectors as JSON.
 *
 * Model      An object: integers, reals and texts as they are; bytes as {"$hex": "00ff"}; true and
 *            false become 1 and 0. A vector is an array of numbers.
 * Ownership  texts returned are the caller's to free.
 * Threads    any. Errors: -EINVAL with text, -ENOMEM, HAUL_ELIMIT. */
#pragma once

#include <haul/graph.h>

int json_of_properties(const struct haul_properties *properties, char **ret_text);
/* buffer: HAUL_PROPERTIES_MAX bytes. */
int json_to_properties(const char *text, uint8_t *buffer, struct haul_properties *ret_properties,
		       struct haul_err *err);
/* The same of what was parsed (jansson's); it stays the caller's. */
struct json_t;
int json_take_properties(struct json_t *object, uint8_t *buffer,
			 struct haul_properties *ret_properties, struct haul_err *err);
int json_of_vector(const float *vector, uint32_t dimensions, char **ret_text);
/* *ret_vector is the caller's to free. */
int json_to_vector(const char *text, float **ret_vector, uint32_t *ret_dimensions,
		   struct haul_err *err);
