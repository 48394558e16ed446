#include "cli/map_in.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT = 4096, DEPTH_MAX = 64, NUMBER = 64 };

/* ---- reading JSON ---- */

struct json {
	const char *p;
	struct haul_err *err;
	uint32_t depth;
};

static void skip_spaces(struct json *json)
{
	while (*json->p == ' ' || *json->p == '\t' || *json->p == '\n' || *json->p == '\r')
		json->p++;
}

static int expected(const struct json *json, const char *what)
{
	if (*json->p == '\0')
		return haul_err_set(json->err, -EINVAL, "it ends where %s is wanted", what);
	return haul_err_set(json->err, -EINVAL, "at '%.24s': wanted is %s", json->p, what);
}

/* c if it stands there, after spaces. */
static bool take(struct json *json, char c)
{
	skip_spaces(json);
	if (*json->p != c)
		return false;
	json->p++;
	return true;
}

static int hex4(const char *p, uint32_t *ret_value)
{
	uint32_t value = 0;
	for (uint32_t i = 0; i < 4; i++) {
		if (!isxdigit((unsigned char)p[i]))
			return -EINVAL;
		uint32_t digit =
			p[i] <= '9' ? (uint32_t)(p[i] - '0') : (uint32_t)((p[i] | 0x20) - 'a' + 10);
		value = value << 4 | digit;
	}
	*ret_value = value;
	return 0;
}

/* The character behind a backslash at *p; texts in maps are ASCII. */
static int unescape(struct json *json, char *ret_c)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found = *json->p != '\0' ? strchr(from, *json->p) : NULL;
	uint32_t code;
	if (found != NULL) {
		*ret_c = to[found - from];
		json->p++;
		return 0;
	}
	if (*json->p != 'u' || hex4(json->p + 1, &code) < 0 || code == 0 || code > 0x7f)
		return expected(json, "an escape of an ASCII character");
	*ret_c = (char)code;
	json->p += 5;
	return 0;
}

static int read_string(struct json *json, char *ret_text, size_t room)
{
	size_t used = 0;
	if (!take(json, '"'))
		return expected(json, "a text in quotes");
	while (*json->p != '"') {
		size_t plain = strcspn(json->p, "\"\\");
		if (json->p[plain] == '\0')
			return haul_err_set(json->err, -EINVAL,
					    "it ends where the closing quote is wanted");
		if (used + plain + 2 > room)
			return haul_err_set(json->err, HAUL_ELIMIT, "a text of over %zu bytes",
					    room - 1);
		memcpy(ret_text + used, json->p, plain);
		used += plain;
		json->p += plain;
		if (*json->p != '\\')
			continue;
		json->p++;
		int rc = unescape(json, &ret_text[used++]);
		if (rc < 0)
			return rc;
	}
	json->p++;
	ret_text[used] = '\0';
	return 0;
}

static int skip_value(struct json *json);

static int skip_string(struct json *json)
{
	for (json->p++; *json->p != '"'; json->p++) {
		if (*json->p == '\\' && json->p[1] != '\0')
			json->p++;
		if (*json->p == '\0')
			return expected(json, "the closing quote");
	}
	json->p++;
	return 0;
}

static int skip_list(struct json *json, char end)
{
	int rc = 0;
	if (++json->depth > DEPTH_MAX)
		return haul_err_set(json->err, HAUL_ELIMIT, "over %d levels deep", DEPTH_MAX);
	json->p++;
	bool more = !take(json, end);
	while (rc == 0 && more) {
		rc = skip_value(json);
		if (rc == 0 && end == '}' && take(json, ':'))
			rc = skip_value(json);
		more = rc == 0 && take(json, ',');
		if (rc == 0 && !more && !take(json, end))
			rc = expected(json, end == '}' ? "a comma or }" : "a comma or ]");
	}
	json->depth--;
	return rc;
}

static int skip_value(struct json *json)
{
	skip_spaces(json);
	if (*json->p == '"')
		return skip_string(json);
	if (*json->p == '{' || *json->p == '[')
		return skip_list(json, *json->p == '{' ? '}' : ']');
	size_t bytes = strcspn(json->p, ",]} \t\r\n");
	if (bytes == 0)
		return expected(json, "a value");
	json->p += bytes;
	return 0;
}

/* ---- into fields ---- */

/* A string of "0x…" that is all of it, padding included. */
static int read_raw(struct json *json, uint8_t *data, uint32_t bytes)
{
	skip_spaces(json);
	if (*json->p != '"')
		return expected(json, "bytes as \"0x…\"");
	size_t length = strcspn(json->p + 1, "\"");
	char *text = strndup(json->p + 1, length);
	if (text == NULL)
		return -ENOMEM;
	int rc = typed_hex(text, data, bytes, json->err);
	free(text);
	json->p += 1 + length + (json->p[1 + length] == '"');
	return rc;
}

static int fill(struct json *json, struct typed_place place, uint8_t *data);

static const char *name_of(struct typed_place place)
{
	const char *name = typed_node(place)->name;
	return name != NULL ? name : "it";
}

static int fill_members(struct json *json, struct typed_place place, uint8_t *data)
{
	char name[TYPED_PATH];
	struct typed_place member;
	if (typed_node(place)->kind != TYPED_STRUCT)
		return haul_err_set(json->err, -EINVAL, "%s is no object with members",
				    name_of(place));
	json->p++;
	bool more = !take(json, '}');
	while (more) {
		int rc = read_string(json, name, sizeof name);
		if (rc == 0 && !take(json, ':'))
			rc = expected(json, "a colon");
		if (rc == 0)
			rc = typed_find(place, name, &member, json->err);
		if (rc == 0)
			rc = fill(json, member, data);
		if (rc < 0)
			return rc;
		more = take(json, ',');
		if (!more && !take(json, '}'))
			return expected(json, "a comma or }");
	}
	return 0;
}

/* bpftool's ["0x01","0x02"] for what has no fields, or only bytes. */
static int fill_byte(struct json *json, struct typed_place place, uint8_t *data, uint32_t index)
{
	char text[NUMBER];
	uint64_t byte;
	bool negative;
	const struct typed_node *node = typed_node(place);
	int rc = read_string(json, text, sizeof text);
	if (rc < 0)
		return rc;
	if (index >= node->bytes || !typed_integer(text, &byte, &negative) || byte > 0xff ||
	    negative)
		return haul_err_set(json->err, -EINVAL,
				    "'%s': wanted are %u bytes, each as \"0x00\"", text,
				    node->bytes);
	data[place.base + node->offset + index] = (uint8_t)byte;
	return 0;
}

static int fill_elements(struct json *json, struct typed_place place, uint8_t *data)
{
	const struct typed_node *node = typed_node(place);
	bool list = node->kind == TYPED_ARRAY || node->kind == TYPED_TEXT;
	uint32_t count = 0;
	struct typed_place element;
	json->p++;
	skip_spaces(json);
	if (!list && *json->p != '"')
		return haul_err_set(json->err, -EINVAL, "%s is no list", name_of(place));
	bool more = !take(json, ']');
	for (; more; count++) {
		int rc;
		skip_spaces(json);
		bool bytes = !list && *json->p == '"';
		if (bytes)
			rc = fill_byte(json, place, data, count);
		else if (typed_element(place, count, &element))
			rc = fill(json, element, data);
		else
			rc = haul_err_set(json->err, -ERANGE, "%s has room for %u", name_of(place),
					  node->count);
		if (rc < 0)
			return rc;
		more = take(json, ',');
		if (!more && !take(json, ']'))
			return expected(json, "a comma or ]");
	}
	if (!list && count != node->bytes)
		return haul_err_set(json->err, -EINVAL, "%u bytes, wanted are %u", count,
				    node->bytes);
	return 0;
}

static int fill_number(struct json *json, struct typed_place place, uint8_t *data)
{
	char text[NUMBER];
	uint64_t magnitude;
	bool negative;
	size_t bytes = strcspn(json->p, ",]} \t\r\n");
	if (bytes == 0 || bytes >= sizeof text)
		return expected(json, "a value");
	memcpy(text, json->p, bytes);
	text[bytes] = '\0';
	json->p += bytes;
	if (!strcmp(text, "true") || !strcmp(text, "false"))
		return typed_set_number(place, data, text[0] == 't', false, json->err);
	if (typed_integer(text, &magnitude, &negative))
		return typed_set_number(place, data, magnitude, negative, json->err);
	if (text[strspn(text, "-0123456789")] == '\0')
		return haul_err_set(json->err, -ERANGE, "'%s' does not fit into %s", text,
				    name_of(place));
	char *end;
	double real = strtod(text, &end);
	if (*end != '\0' || end == text)
		return haul_err_set(json->err, -EINVAL, "'%s' for %s: wanted is a value", text,
				    name_of(place));
	return typed_set_real(place, data, real, json->err);
}

static int fill(struct json *json, struct typed_place place, uint8_t *data)
{
	char text[TEXT];
	int rc;
	skip_spaces(json);
	if (++json->depth > DEPTH_MAX)
		return haul_err_set(json->err, HAUL_ELIMIT, "over %d levels deep", DEPTH_MAX);
	if (*json->p == '{') {
		rc = fill_members(json, place, data);
	} else if (*json->p == '[') {
		rc = fill_elements(json, place, data);
	} else if (*json->p == '"' && typed_node(place)->bytes >= TEXT / 4) {
		rc = read_raw(json, data + place.base + typed_node(place)->offset,
			      typed_node(place)->bytes);
	} else if (*json->p == '"') {
		rc = read_string(json, text, sizeof text);
		if (rc == 0)
			rc = typed_set_text(place, data, text, json->err);
	} else {
		rc = fill_number(json, place, data);
	}
	json->depth--;
	return rc;
}

/* ---- entries ---- */

struct entry {
	struct json json;
	const struct map_request *request;
	uint8_t *key, *value;
	bool has_key, has_value;
};

static uint32_t stride(const struct haul_map_info *info)
{
	return info->slot_bytes / info->cpus;
}

void map_in_spread(const struct haul_map_info *info, uint8_t *value)
{
	for (uint32_t cpu = 1; cpu < info->cpus; cpu++)
		memcpy(value + cpu * stride(info), value, info->value_size);
}

typedef int member_reader(struct entry *entry, const char *name, void *arg);

/* The members of an object, each read by read. */
static int read_object(struct entry *entry, member_reader *read, void *arg)
{
	char name[TYPED_PATH];
	if (!take(&entry->json, '{'))
		return expected(&entry->json, "an object in { }");
	bool more = !take(&entry->json, '}');
	while (more) {
		int rc = read_string(&entry->json, name, sizeof name);
		if (rc == 0 && !take(&entry->json, ':'))
			rc = expected(&entry->json, "a colon");
		if (rc == 0)
			rc = read(entry, name, arg);
		if (rc < 0)
			return rc;
		more = take(&entry->json, ',');
		if (!more && !take(&entry->json, '}'))
			return expected(&entry->json, "a comma or }");
	}
	return 0;
}

struct cpu_value {
	uint64_t cpu;
	uint8_t *data; /* value_size */
	bool has_cpu, has_value, raw;
};

static int read_cpu_member(struct entry *entry, const char *name, void *arg)
{
	struct cpu_value *value = arg;
	struct haul_err *err = entry->json.err;
	const struct typed_type *type = entry->request->typed.value;
	if (!strcmp(name, "cpu")) {
		char *end;
		skip_spaces(&entry->json);
		value->cpu = strtoull(entry->json.p, &end, 10);
		if (end == entry->json.p || value->cpu >= entry->request->info->cpus)
			return haul_err_set(err, -ERANGE, "cpu '%.12s': there are %u",
					    entry->json.p, entry->request->info->cpus);
		entry->json.p = end;
		value->has_cpu = true;
		return 0;
	}
	value->has_value |= !strcmp(name, "value") || !strcmp(name, "value_bytes");
	if (!strcmp(name, "value_bytes")) {
		value->raw = true;
		return read_raw(&entry->json, value->data, type->bytes);
	}
	if (strcmp(name, "value") != 0 || value->raw)
		return skip_value(&entry->json);
	return fill(&entry->json, typed_root(type), value->data);
}

static int read_cpus(struct entry *entry)
{
	const struct haul_map_info *info = entry->request->info;
	uint8_t *data = calloc(1, info->value_size + 1);
	int rc = data == NULL ? -ENOMEM : 0;
	if (rc == 0 && !take(&entry->json, '['))
		rc = expected(&entry->json, "a list of {\"cpu\": …, \"value\": …}");
	bool more = rc == 0 && !take(&entry->json, ']');
	while (rc == 0 && more) {
		struct cpu_value value = { .data = data };
		memset(data, 0, info->value_size);
		rc = read_object(entry, read_cpu_member, &value);
		if (rc == 0 && !(value.has_cpu && value.has_value))
			rc = haul_err_set(entry->json.err, -EINVAL, "cpu or value is missing");
		if (rc == 0)
			memcpy(entry->value + value.cpu * stride(info), data, info->value_size);
		more = rc == 0 && take(&entry->json, ',');
		if (rc == 0 && !more && !take(&entry->json, ']'))
			rc = expected(&entry->json, "a comma or ]");
	}
	free(data);
	return rc;
}

static int read_member(struct entry *entry, const char *name, void *arg)
{
	const struct map_request *request = entry->request;
	bool *raw = arg; /* of key and value: their bytes came, and are all there is to know */
	int rc;
	if (!strcmp(name, "key") && !raw[0]) {
		entry->has_key = true;
		return fill(&entry->json, typed_root(request->typed.key), entry->key);
	}
	if (!strcmp(name, "key_bytes")) {
		entry->has_key = raw[0] = true;
		return read_raw(&entry->json, entry->key, request->info->key_size);
	}
	if (!strcmp(name, "value") && !raw[1]) {
		entry->has_value = true;
		rc = fill(&entry->json, typed_root(request->typed.value), entry->value);
		map_in_spread(request->info, entry->value);
		return rc;
	}
	if (!strcmp(name, "value_bytes")) {
		entry->has_value = raw[1] = true;
		rc = read_raw(&entry->json, entry->value, request->info->value_size);
		map_in_spread(request->info, entry->value);
		return rc;
	}
	if (!strcmp(name, "values")) {
		entry->has_value = true;
		return read_cpus(entry);
	}
	return skip_value(&entry->json);
}

int map_in_entry(const struct map_request *request, const char *json, uint8_t *ret_key,
		 uint8_t *ret_value, struct haul_err *err)
{
	struct entry entry = { .json = { .p = json, .err = err },
			       .request = request,
			       .key = ret_key,
			       .value = ret_value };
	bool raw[2] = { false, false };
	memset(ret_key, 0, request->info->key_size);
	memset(ret_value, 0, request->info->slot_bytes);
	int rc = read_object(&entry, read_member, raw);
	skip_spaces(&entry.json);
	if (rc == 0 && *entry.json.p != '\0')
		rc = expected(&entry.json, "the end");
	if (rc == 0 && !entry.has_key)
		rc = haul_err_set(err, -EINVAL, "\"key\" is missing");
	if (rc == 0 && !entry.has_value)
		rc = haul_err_set(err, -EINVAL, "\"value\" is missing");
	return rc;
}

int map_in_text(const struct typed_type *type, const char *text, uint8_t *ret_data,
		struct haul_err *err)
{
	struct json json = { .p = text, .err = err };
	struct typed_place root = typed_root(type);
	enum typed_kind kind = typed_node(root)->kind;
	memset(ret_data, 0, type->bytes);
	skip_spaces(&json);
	if (*json.p == '{' || *json.p == '[' || *json.p == '"') {
		int rc = fill(&json, root, ret_data);
		skip_spaces(&json);
		return rc == 0 && *json.p != '\0' ? expected(&json, "the end") : rc;
	}
	if (kind == TYPED_STRUCT || kind == TYPED_ARRAY ||
	    (kind != TYPED_TEXT && strpbrk(json.p, " ,:") != NULL)) {
		if (typed_hex(json.p, ret_data, type->bytes, err) == 0)
			return 0;
		struct haul_err as_text = { 0 };
		if (!isxdigit((unsigned char)*json.p) &&
		    typed_set_text(root, ret_data, json.p, &as_text) < 0)
			return haul_err_set(err, -EINVAL, "'%s': %s", json.p, as_text.text);
		return -EINVAL;
	}
	return typed_set_text(root, ret_data, json.p, err);
}
