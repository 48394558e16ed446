#include "cli/map_where.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/typed_bits.h"
#include "cli/quantity.h"

enum { WORD = 256 };

struct where {
	const struct haul_map_info *info;
	const struct typed *typed;
	struct haul_map_filter *filter;
	struct haul_err *err;
	const char *p;
};

/* What FIELD stands for: a place, or without BTF just bytes. */
struct target {
	struct typed_place place;
	bool has_place;
	bool in_key;
	struct haul_map_field field; /* without a place */
};

static void skip_spaces(struct where *where)
{
	while (isspace((unsigned char)*where->p))
		where->p++;
}

/* ---- fields ---- */

/* "[8:4]be" behind key or value. */
static int parse_range(const char *text, bool in_key, uint32_t bytes, struct target *target,
		       struct haul_err *err)
{
	char *end;
	uint64_t offset = strtoul(text + 1, &end, 0);
	bool good =
		isdigit((unsigned char)text[1]) && *end == ':' && isdigit((unsigned char)end[1]);
	uint64_t width = good ? strtoul(end + 1, &end, 0) : 0;
	if (!good || *end != ']')
		return haul_err_set(err, -EINVAL, "'%s': wanted is [OFFSET:WIDTH] in bytes", text);
	const char *flags = end + 1;
	bool big_endian = !strncmp(flags, "be", 2);
	flags += big_endian ? 2 : 0;
	bool is_signed = *flags == 's';
	flags += is_signed;
	if (*flags != '\0')
		return haul_err_set(err, -EINVAL,
				    "'%s': behind ] may stand be (network order), s (signed)",
				    text);
	if (width != 1 && width != 2 && width != 4 && width != 8)
		return haul_err_set(err, -EINVAL, "'%s': a width is 1, 2, 4 or 8 bytes", text);
	if (offset > bytes || width > bytes - offset)
		return haul_err_set(err, -EINVAL, "'%s' is beyond the %u bytes of the %s", text,
				    bytes, in_key ? "key" : "value");
	target->has_place = false;
	target->field = (struct haul_map_field){ .in_key = in_key,
						 .offset = (uint32_t)offset,
						 .width = (uint32_t)width,
						 .big_endian = big_endian,
						 .is_signed = is_signed };
	return 0;
}

static bool starts_with_root(const char *text, const char *root)
{
	size_t bytes = strlen(root);
	return !strncmp(text, root, bytes) &&
	       (text[bytes] == '\0' || text[bytes] == '.' || text[bytes] == '[');
}

/* A name without key or value before it. */
static int find_bare(const struct where *where, const char *text, struct target *target)
{
	struct haul_err in_value = { 0 }, in_key = { 0 };
	struct typed_place place;
	bool value =
		typed_find(typed_root(where->typed->value), text, &target->place, &in_value) == 0;
	bool key = typed_find(typed_root(where->typed->key), text, &place, &in_key) == 0;
	if (value && key)
		return haul_err_set(where->err, -EINVAL,
				    "'%s' is in key and value: write key.%s or value.%s", text,
				    text, text);
	if (!value && !key && where->typed->btf == NULL)
		return haul_err_set(
			where->err, -ENOENT,
			"there is no '%s': the map has no BTF; write value[OFFSET:WIDTH] "
			"or key[OFFSET:WIDTH]",
			text);
	if (!value && !key)
		return haul_err_set(where->err, -ENOENT, "value: %.110s; key: %.110s",
				    in_value.text, in_key.text);
	target->in_key = key;
	if (key)
		target->place = place;
	return 0;
}

static int find_field(const struct where *where, const char *text, struct target *target)
{
	bool in_key = starts_with_root(text, "key");
	*target = (struct target){ .has_place = true, .in_key = in_key };
	if (!in_key && !starts_with_root(text, "value"))
		return find_bare(where, text, target);
	const char *rest = text + (in_key ? 3 : 5);
	const struct typed_type *type = in_key ? where->typed->key : where->typed->value;
	if (*rest == '[' && strchr(rest, ':') != NULL)
		return parse_range(rest, in_key, type->bytes, target, where->err);
	int rc = typed_find(typed_root(type), rest + (*rest == '.'), &target->place, where->err);
	if (rc < 0)
		return haul_err_wrap(where->err, rc, "%s", text);
	return 0;
}

/* ---- values ---- */

static int add_condition(struct where *where, struct haul_map_field field, enum haul_map_test test,
			 uint64_t operand)
{
	struct haul_map_filter *filter = where->filter;
	if (filter->count == HAUL_MAP_CONDITIONS)
		return haul_err_set(where->err, HAUL_ELIMIT, "over %d conditions",
				    HAUL_MAP_CONDITIONS);
	filter->conditions[filter->count++] =
		(struct haul_map_condition){ .field = field, .test = test, .operand = operand };
	return 0;
}

/* bytes at offset equal data: as few integers as will do. */
static int add_equal_bytes(struct where *where, struct haul_map_field field, const uint8_t *data,
			   uint32_t bytes)
{
	int rc = 0;
	for (uint32_t at = 0; rc == 0 && at < bytes;
	     at += field.width, field.offset += field.width) {
		uint32_t left = bytes - at;
		field.width = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
		rc = add_condition(where, field, HAUL_MAP_EQ,
				   typed_uint_get(data + at, field.width, 0));
	}
	return rc;
}

static bool number_of(const char *word, uint64_t *ret_magnitude, bool *ret_negative)
{
	struct in_addr address;
	*ret_negative = false;
	if (typed_integer(word, ret_magnitude, ret_negative))
		return true;
	if (strchr(word, '.') != NULL && inet_pton(AF_INET, word, &address) == 1) {
		*ret_magnitude = ntohl(address.s_addr);
		return true;
	}
	return quantity_size(word, ret_magnitude) == 0;
}

static int add_number(struct where *where, struct haul_map_field field, enum haul_map_test test,
		      const char *word)
{
	uint64_t magnitude;
	bool negative;
	if (!number_of(word, &magnitude, &negative))
		return haul_err_set(where->err, -EINVAL, "'%s': wanted is a number", word);
	if (negative && !field.is_signed)
		return haul_err_set(where->err, -EINVAL,
				    "'%s': the field is never below zero (s behind it: signed)",
				    word);
	return add_condition(where, field, test, negative ? 0 - magnitude : magnitude);
}

/* word as that place would hold it, in a value of its own. */
static uint8_t *filled_new(const struct where *where, const struct target *target, const char *word,
			   int *ret_rc)
{
	uint8_t *data = calloc(1, target->place.type->bytes + 1);
	*ret_rc = data == NULL ? -ENOMEM : typed_set_text(target->place, data, word, where->err);
	return data;
}

static int add_bytes(struct where *where, const struct target *target, enum haul_map_test test,
		     const char *word)
{
	const struct typed_node *node = typed_node(target->place);
	uint32_t offset = target->place.base + node->offset, bytes = node->bytes;
	struct haul_map_field field = { .in_key = target->in_key, .offset = offset };
	int rc;
	if (test != HAUL_MAP_EQ)
		return haul_err_set(where->err, -EINVAL,
				    "'%s': for text and bytes there is only ==", word);
	uint8_t *data = filled_new(where, target, word, &rc);
	/* what stands behind the end of a text is anybody's guess */
	if (node->kind == TYPED_TEXT && strlen(word) < bytes && strncmp(word, "0x", 2) != 0)
		bytes = (uint32_t)strlen(word) + 1;
	if (rc == 0)
		rc = add_equal_bytes(where, field, data + offset, bytes);
	free(data);
	return rc;
}

/* Without BTF, 0x and two digits for each byte are bytes, as dump shows them; 0x100 is a number. */
static bool is_bytes(const struct typed_node *node, enum haul_map_test test, const char *word)
{
	return node->kind == TYPED_BYTES && !strncmp(word, "0x", 2) &&
	       (test == HAUL_MAP_EQ || node->bytes > 8) &&
	       strlen(word) == 2 + 2 * (size_t)node->bytes;
}

static int add_target(struct where *where, const struct target *target, enum haul_map_test test,
		      const char *word)
{
	struct haul_map_field field;
	uint64_t bits;
	if (!target->has_place)
		return add_number(where, target->field, test, word);
	const struct typed_node *node = typed_node(target->place);
	bool integer = node->bytes <= 8 && node->bit_width == 0;
	if (node->kind == TYPED_TEXT || node->kind == TYPED_WIDE || node->kind == TYPED_ARRAY ||
	    node->kind == TYPED_STRUCT || is_bytes(node, test, word))
		return add_bytes(where, target, test, word);
	int rc = typed_field(target->place, target->in_key, &field, where->err);
	if (rc < 0)
		return rc;
	if (integer && typed_enum_value(target->place, word, &bits))
		return add_condition(
			where, field, test,
			field.is_signed ? bits : bits & (UINT64_MAX >> (64 - 8 * field.width)));
	if (node->kind == TYPED_BOOL && (!strcmp(word, "true") || !strcmp(word, "false")))
		return add_condition(where, field, test, word[0] == 't');
	return add_number(where, field, test, word);
}

/* ---- words ---- */

static int parse_test(struct where *where, enum haul_map_test *ret_test)
{
	static const struct {
		const char *text;
		enum haul_map_test test;
	} tests[] = { /* the longer first */
		      { "==", HAUL_MAP_EQ }, { "!=", HAUL_MAP_NE },    { "<=", HAUL_MAP_LE },
		      { ">=", HAUL_MAP_GE }, { "&=", HAUL_MAP_ALL },   { "<", HAUL_MAP_LT },
		      { ">", HAUL_MAP_GT },  { "&", HAUL_MAP_ANYBIT }, { "=", HAUL_MAP_EQ }
	};
	skip_spaces(where);
	for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
		if (strncmp(where->p, tests[i].text, strlen(tests[i].text)) != 0)
			continue;
		where->p += strlen(tests[i].text);
		*ret_test = tests[i].test;
		return 0;
	}
	return haul_err_set(where->err, -EINVAL,
			    "at '%.40s': wanted is ==, !=, <, <=, >, >=, & or &=", where->p);
}

/* The name of a field, or a value; "quoted" with spaces in it. */
static int parse_word(struct where *where, bool value, char ret_word[WORD])
{
	skip_spaces(where);
	bool quoted = value && (*where->p == '"' || *where->p == '\'');
	const char *start = where->p + quoted;
	size_t bytes = quoted  ? strcspn(start, *where->p == '"' ? "\"" : "'")
		       : value ? strcspn(start, " \t\n")
			       : strcspn(start, " \t\n=!<>&");
	if ((bytes == 0 && !quoted) || bytes >= WORD || (quoted && start[bytes] == '\0'))
		return haul_err_set(where->err, -EINVAL, "at '%.40s': wanted is %s", where->p,
				    value ? "a value" : "a field, as in value.bytes");
	memcpy(ret_word, start, bytes);
	ret_word[bytes] = '\0';
	where->p = start + bytes + quoted;
	return 0;
}

/* "and", "&&", "," or the end. */
static int parse_join(struct where *where, bool *ret_more)
{
	skip_spaces(where);
	*ret_more = *where->p != '\0';
	if (!*ret_more)
		return 0;
	size_t bytes = strcspn(where->p, " \t\n");
	if ((bytes == 3 && !strncmp(where->p, "and", 3)) ||
	    (bytes == 2 && !strncmp(where->p, "&&", 2))) {
		where->p += bytes;
		return 0;
	}
	return haul_err_set(where->err, -EINVAL, "at '%.40s': conditions are joined by 'and' only",
			    where->p);
}

int map_where(const char *text, const struct haul_map_info *info, const struct typed *typed,
	      struct haul_map_filter *filter, struct haul_err *err)
{
	struct where where = {
		.info = info, .typed = typed, .filter = filter, .err = err, .p = text
	};
	char field[WORD] = "", value[WORD] = "";
	bool more = true;
	int rc = 0;
	while (rc == 0 && more) {
		struct target target;
		enum haul_map_test test = HAUL_MAP_EQ;
		rc = parse_word(&where, false, field);
		if (rc == 0)
			rc = find_field(&where, field, &target);
		if (rc == 0)
			rc = parse_test(&where, &test);
		if (rc == 0)
			rc = parse_word(&where, true, value);
		if (rc == 0)
			rc = add_target(&where, &target, test, value);
		if (rc == 0)
			rc = parse_join(&where, &more);
	}
	return rc < 0 ? haul_err_wrap(err, rc, "--where") : 0;
}

int map_where_field(const char *text, const struct haul_map_info *info, const struct typed *typed,
		    struct haul_map_field *ret_field, struct haul_err *err)
{
	struct where where = { .info = info, .typed = typed, .err = err };
	struct target target;
	int rc = find_field(&where, text, &target);
	if (rc == 0 && target.has_place)
		rc = typed_field(target.place, target.in_key, ret_field, err);
	else if (rc == 0)
		*ret_field = target.field;
	return rc < 0 ? haul_err_wrap(err, rc, "--field") : 0;
}
