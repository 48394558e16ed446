/* node/conf.h — read a YAML file by a schema, and say where in it something is wrong.
 *
 * Model      libcyaml fills a struct from the file. Whatever is wrong is told in one line as
 *            "FILE:LINE: PLACE: VALUE: what is right", PLACE as in "links[2].loss". Checks that a
 *            schema cannot express (ranges, names that must exist) are the caller's, who reports
 *            them in the same form with conf_fail.
 * Ownership  data from conf_load is the caller's until conf_free with the same schema.
 * Threads    any.
 * Errors     HAUL_ECONFIG for what the file says, -errno for what kept us from reading it. */
#pragma once

#include <cyaml/cyaml.h>

#include <haul/err.h>

/* schema is a mapping with CYAML_FLAG_POINTER. Unknown and missing keys, values of a wrong kind and
 * numbers with anything behind them are errors. */
int conf_load(const char *path, const cyaml_schema_value_t *schema, void **ret_data,
	      struct haul_err *err);
/* data may be NULL. */
void conf_free(const cyaml_schema_value_t *schema, void *data);

/* Set err to "FILE:LINE: PLACE: VALUE: <text>" and return HAUL_ECONFIG. The file is read again to
 * find line and value; a place that is not in it is reported with the line of what surrounds it. */
int conf_fail(const char *path, const char *place, struct haul_err *err, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
