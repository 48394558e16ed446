/* libcyaml says what is wrong in a log of several lines, and has no ranges. So the file is also
 * read as a plain document with libyaml: that gives syntax errors their line, and every place, as
 * in "links[2].loss", its line and its value. From libcyaml's log only the kind of error, the key
 * and the path of fields and entries are taken. */
#include "node/conf.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#include "base/assert.h"

enum { PLACE_BYTES = 160, KEY_BYTES = 64, DEPTH_MAX = 12, WANT_BYTES = 200, VALUE_BYTES = 64 };

/* ---- text that is put together piece by piece, and cut where there is no more room ---- */

static void text_add(char *text, size_t bytes, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void text_add(char *text, size_t bytes, const char *format, ...)
{
	size_t used = strlen(text);
	va_list args;

	HAUL_ASSERT(used < bytes);
	va_start(args, format);
	(void)vsnprintf(text + used, bytes - used, format, args);
	va_end(args);
}

/* ---- the document ---- */

static int document_load(const char *path, yaml_document_t *document, struct haul_err *err)
{
	FILE *file = fopen(path, "re");
	yaml_parser_t parser;
	struct stat at;
	int rc = 0;

	if (file == NULL)
		return haul_err_set(err, -errno, "%s: %s", path, haul_strerror(-errno));
	if (fstat(fileno(file), &at) == 0 && S_ISDIR(at.st_mode)) {
		(void)fclose(file);
		return haul_err_set(err, -EISDIR, "%s: %s", path, haul_strerror(-EISDIR));
	}
	if (yaml_parser_initialize(&parser) == 0) {
		(void)fclose(file);
		return haul_err_set(err, -ENOMEM, "%s: out of memory", path);
	}
	yaml_parser_set_input_file(&parser, file);
	if (yaml_parser_load(&parser, document) == 0) {
		rc = haul_err_set(err, HAUL_ECONFIG, "%s:%zu: not YAML: %s", path,
				  parser.problem_mark.line + 1,
				  parser.problem != NULL ? parser.problem : "cannot be read");
	} else if (yaml_document_get_root_node(document) == NULL) {
		yaml_document_delete(document);
		rc = haul_err_set(err, HAUL_ECONFIG, "%s: is empty", path);
	}
	yaml_parser_delete(&parser);
	(void)fclose(file);
	return rc;
}

/* The next step of a place, "name" or "[3]", after dots; returns what follows it. */
static const char *place_step(const char *place, char key[KEY_BYTES], long *ret_index)
{
	size_t len;

	*ret_index = -1;
	key[0] = '\0';
	if (*place == '.')
		place++;
	if (*place == '[') {
		char *end;

		*ret_index = strtol(place + 1, &end, 10);
		return *end == ']' ? end + 1 : end;
	}
	len = strcspn(place, ".[");
	text_add(key, KEY_BYTES, "%.*s", (int)len, place);
	return place + len;
}

/* The value under key, the last one where a key is there twice; *ret_key is the key itself, the
 * better line for what is a block below it. */
static yaml_node_t *mapping_find(yaml_document_t *document, const yaml_node_t *mapping,
				 const char *key, yaml_node_t **ret_key)
{
	const yaml_node_pair_t *pair;
	yaml_node_t *value = NULL;

	if (mapping->type != YAML_MAPPING_NODE)
		return NULL;
	for (pair = mapping->data.mapping.pairs.start; pair < mapping->data.mapping.pairs.top;
	     pair++) {
		yaml_node_t *name = yaml_document_get_node(document, pair->key);

		if (name->type == YAML_SCALAR_NODE &&
		    strcmp((const char *)name->data.scalar.value, key) == 0) {
			*ret_key = name;
			value = yaml_document_get_node(document, pair->value);
		}
	}
	return value;
}

static yaml_node_t *sequence_find(yaml_document_t *document, const yaml_node_t *sequence,
				  long index)
{
	if (sequence->type != YAML_SEQUENCE_NODE || index < 0 ||
	    index >= sequence->data.sequence.items.top - sequence->data.sequence.items.start)
		return NULL;
	return yaml_document_get_node(document, sequence->data.sequence.items.start[index]);
}

struct found {
	size_t line;
	char value[VALUE_BYTES]; /* "" where it is no scalar */
};

/* As far down as the place leads. */
static struct found document_find(yaml_document_t *document, const char *place)
{
	yaml_node_t *node = yaml_document_get_root_node(document);
	struct found found = { .line = node->start_mark.line + 1 };
	char key[KEY_BYTES];
	long index;

	while (node != NULL && *place != '\0') {
		yaml_node_t *name = NULL;

		place = place_step(place, key, &index);
		node = index >= 0 ? sequence_find(document, node, index)
				  : mapping_find(document, node, key, &name);
		if (node != NULL)
			found.line = (name != NULL ? name : node)->start_mark.line + 1;
	}
	if (node != NULL && node->type == YAML_SCALAR_NODE)
		text_add(found.value, sizeof found.value, "%s",
			 (const char *)node->data.scalar.value);
	return found;
}

static int fail_at(const char *path, const char *place, const struct found *found, const char *want,
		   struct haul_err *err)
{
	return haul_err_set(err, HAUL_ECONFIG, "%s:%zu: %s%s%s%s%s%s", path, found->line, place,
			    *place != '\0' ? ": " : "", *found->value != '\0' ? "\"" : "",
			    found->value, *found->value != '\0' ? "\": " : "", want);
}

int conf_fail(const char *path, const char *place, struct haul_err *err, const char *format, ...)
{
	char want[WANT_BYTES];
	yaml_document_t document;
	struct found found;
	va_list args;
	int rc;

	va_start(args, format);
	(void)vsnprintf(want, sizeof want, format, args);
	va_end(args);
	rc = document_load(path, &document, err);
	if (rc < 0)
		return rc;
	found = document_find(&document, place);
	yaml_document_delete(&document);
	return fail_at(path, place, &found, want, err);
}

/* ---- what a schema allows ---- */

static void want_keys(const cyaml_schema_value_t *schema, char want[WANT_BYTES])
{
	const cyaml_schema_field_t *field = schema->mapping.fields;

	for (; field->key != NULL; field++)
		text_add(want, WANT_BYTES, "%s%s", field == schema->mapping.fields ? "" : ", ",
			 field->key);
}

static void want_value(const cyaml_schema_value_t *schema, char want[WANT_BYTES])
{
	switch ((int)schema->type) {
	case CYAML_UINT:
		text_add(want, WANT_BYTES, "want a whole number, 0 or more");
		break;
	case CYAML_INT:
		text_add(want, WANT_BYTES, "want a whole number");
		break;
	case CYAML_FLOAT:
		text_add(want, WANT_BYTES, "want a number");
		break;
	case CYAML_BOOL:
		text_add(want, WANT_BYTES, "want true or false");
		break;
	case CYAML_STRING:
		text_add(want, WANT_BYTES, "want text of %u to %u characters", schema->string.min,
			 schema->string.max);
		break;
	case CYAML_ENUM:
		text_add(want, WANT_BYTES, "want one of");
		for (uint32_t i = 0; i < schema->enumeration.count; i++)
			text_add(want, WANT_BYTES, "%s %s", i == 0 ? "" : ",",
				 schema->enumeration.strings[i].str);
		break;
	case CYAML_FLAGS:
		text_add(want, WANT_BYTES, "want a list, each one of");
		for (uint32_t i = 0; i < schema->enumeration.count; i++)
			text_add(want, WANT_BYTES, "%s %s", i == 0 ? "" : ",",
				 schema->enumeration.strings[i].str);
		break;
	case CYAML_SEQUENCE:
		text_add(want, WANT_BYTES, "want a list of %u to %u entries", schema->sequence.min,
			 schema->sequence.max);
		break;
	case CYAML_MAPPING:
		text_add(want, WANT_BYTES, "want keys with values; keys: ");
		want_keys(schema, want);
		break;
	default:
		text_add(want, WANT_BYTES, "is not valid");
		break;
	}
}

static const cyaml_schema_value_t *schema_key(const cyaml_schema_value_t *schema, const char *key)
{
	if (schema->type != CYAML_MAPPING)
		return NULL;
	for (const cyaml_schema_field_t *field = schema->mapping.fields; field->key != NULL;
	     field++)
		if (strcmp(field->key, key) == 0)
			return &field->value;
	return NULL;
}

static const cyaml_schema_value_t *schema_find(const cyaml_schema_value_t *schema,
					       const char *place)
{
	char key[KEY_BYTES];
	long index;

	while (schema != NULL && *place != '\0') {
		place = place_step(place, key, &index);
		if (index < 0)
			schema = schema_key(schema, key);
		else
			schema = schema->type == CYAML_SEQUENCE ? schema->sequence.entry : NULL;
	}
	return schema;
}

/* ---- what libcyaml says ---- */

struct log {
	char first[KEY_BYTES + WANT_BYTES];   /* the error itself */
	char steps[DEPTH_MAX][KEY_BYTES + 1]; /* innermost first; "[3" is an entry */
	uint32_t step_count;
};

/* What stands between prefix and the next quotation mark; false without the prefix. */
static bool log_quoted(const char *line, const char *prefix, char out[KEY_BYTES])
{
	const char *start = strstr(line, prefix);

	if (start == NULL)
		return false;
	start += strlen(prefix);
	(void)snprintf(out, KEY_BYTES, "%.*s", (int)strcspn(start, "'"), start);
	return true;
}

static void log_line(cyaml_log_t level, void *ctx, const char *format, va_list args)
	__attribute__((format(printf, 3, 0)));

static void log_line(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
	struct log *log = ctx;
	char line[KEY_BYTES + WANT_BYTES];
	char *step = log->steps[log->step_count];

	if (level < CYAML_LOG_ERROR)
		return;
	(void)vsnprintf(line, sizeof line, format, args);
	line[strcspn(line, "\n")] = '\0';
	if (log->first[0] == '\0') {
		memcpy(log->first, line, sizeof log->first);
		return;
	}
	if (log->step_count == DEPTH_MAX - 1)
		return;
	if (log_quoted(line, "in mapping field '", step) ||
	    log_quoted(line, "in sequence entry '", step + 1)) {
		if (step[0] == '\0')
			step[0] = '[';
		log->step_count++;
	}
}

/* libcyaml counts an entry before it has read it, and a key before its value. */
static void log_place(const struct log *log, char place[PLACE_BYTES])
{
	place[0] = '\0';
	for (uint32_t i = log->step_count; i-- > 0;) {
		const char *step = log->steps[i];

		if (step[0] == '[')
			text_add(place, PLACE_BYTES, "[%ld]", strtol(step + 1, NULL, 10) - 1);
		else
			text_add(place, PLACE_BYTES, "%s%s", place[0] == '\0' ? "" : ".", step);
	}
}

/* What follows the last ": " of the log's first line. */
static const char *log_subject(const struct log *log)
{
	const char *colon = strrchr(log->first, ':');

	return colon == NULL ? log->first : colon + 1 + strspn(colon + 1, " ");
}

static void place_up(char place[PLACE_BYTES])
{
	char *dot = strrchr(place, '.');

	*(dot != NULL ? dot : place) = '\0';
}

/* Turn libcyaml's log into one line. */
static int explain(const char *path, const cyaml_schema_value_t *schema, yaml_document_t *document,
		   const struct log *log, struct haul_err *err)
{
	const cyaml_schema_value_t *at;
	char place[PLACE_BYTES];
	char want[WANT_BYTES] = "";
	struct found found;

	log_place(log, place);
	if (strstr(log->first, "Unexpected key") != NULL) {
		at = schema_find(schema, place);
		text_add(place, sizeof place, "%s%s", place[0] == '\0' ? "" : ".",
			 log_subject(log));
		text_add(want, sizeof want, "unknown key; known: ");
		if (at != NULL && at->type == CYAML_MAPPING)
			want_keys(at, want);
		found = document_find(document, place);
		found.value[0] = '\0';
		return fail_at(path, place, &found, want, err);
	}
	if (strstr(log->first, "Missing required") != NULL) {
		place_up(place); /* the field named last is the one before the gap */
		text_add(want, sizeof want, "key \"%s\" is missing", log_subject(log));
		found = document_find(document, place);
		return fail_at(path, place, &found, want, err);
	}
	at = schema_find(schema, place);
	found = document_find(document, place);
	if (strstr(log->first, "already seen") != NULL)
		text_add(want, sizeof want, "given twice");
	else if (at != NULL)
		want_value(at, want);
	else
		text_add(want, sizeof want, "%s", log->first);
	return fail_at(path, place, &found, want, err);
}

/* ---- what libcyaml lets through ---- */

static bool is_number_alone(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	return end != text && *end == '\0' && isfinite(value);
}

/* libcyaml takes "0.5e" for a number, -1 for a 64-bit unsigned one, and any word for true. */
static bool scalar_is_sound(const cyaml_schema_value_t *schema, const char *text)
{
	if (schema->type == CYAML_FLOAT)
		return is_number_alone(text);
	if (schema->type == CYAML_UINT)
		return *text != '-';
	if (schema->type == CYAML_BOOL)
		return strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
	return true;
}

/* Depth is that of the schema. */
static int check_scalars(const char *path, const cyaml_schema_value_t *schema, yaml_node_t *node,
			 yaml_document_t *document, struct haul_err *err)
{
	char want[WANT_BYTES] = "";
	int rc = 0;

	if (node->type == YAML_SCALAR_NODE &&
	    !scalar_is_sound(schema, (const char *)node->data.scalar.value)) {
		want_value(schema, want);
		return haul_err_set(err, HAUL_ECONFIG, "%s:%zu: \"%.60s\": %s", path,
				    node->start_mark.line + 1,
				    (const char *)node->data.scalar.value, want);
	}
	if (schema->type == CYAML_SEQUENCE) {
		yaml_node_t *entry;

		for (long i = 0; rc == 0 && (entry = sequence_find(document, node, i)) != NULL; i++)
			rc = check_scalars(path, schema->sequence.entry, entry, document, err);
	}
	if (schema->type == CYAML_MAPPING) {
		const cyaml_schema_field_t *field = schema->mapping.fields;

		for (; rc == 0 && field->key != NULL; field++) {
			yaml_node_t *key = NULL;
			yaml_node_t *value = mapping_find(document, node, field->key, &key);

			if (value != NULL)
				rc = check_scalars(path, &field->value, value, document, err);
		}
	}
	return rc;
}

/* ---- load ---- */

static void cyaml_settings(struct log *log, cyaml_config_t *config)
{
	*config = (cyaml_config_t){ .log_fn = log_line,
				    .log_ctx = log,
				    .mem_fn = cyaml_mem,
				    .log_level = CYAML_LOG_ERROR };
}

int conf_load(const char *path, const cyaml_schema_value_t *schema, void **ret_data,
	      struct haul_err *err)
{
	struct log log = { .step_count = 0 };
	cyaml_data_t *data = NULL;
	yaml_document_t document;
	cyaml_config_t config;
	int rc;

	HAUL_ASSERT(schema->type == CYAML_MAPPING);
	HAUL_ASSERT((schema->flags & CYAML_FLAG_POINTER) != 0);
	rc = document_load(path, &document, err);
	if (rc < 0)
		return rc;
	cyaml_settings(&log, &config);
	if (cyaml_load_file(path, &config, schema, &data, NULL) != CYAML_OK)
		rc = explain(path, schema, &document, &log, err);
	else
		rc = check_scalars(path, schema, yaml_document_get_root_node(&document), &document,
				   err);
	yaml_document_delete(&document);
	if (rc < 0) {
		conf_free(schema, data);
		return rc;
	}
	*ret_data = data;
	return 0;
}

void conf_free(const cyaml_schema_value_t *schema, void *data)
{
	struct log log = { .step_count = 0 };
	cyaml_config_t config;
	cyaml_err_t rc;

	if (data == NULL)
		return;
	cyaml_settings(&log, &config);
	rc = cyaml_free(&config, schema, data, 0);
	HAUL_ASSERT(rc == CYAML_OK);
}
