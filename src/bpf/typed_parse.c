/* Find a field by its name and put a value into its bytes; nothing is written unless it fits. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/typed.h"
#include "bpf/typed_bits.h"

enum { LISTED_MAX = 160, WIDE_DIGITS = 32 };

struct typed_place typed_root(const struct typed_type *type)
{
	return (struct typed_place){ .type = type };
}

static const char *shown_name(struct typed_place place)
{
	const char *name = typed_node(place)->name;
	return name != NULL ? name : "it";
}

bool typed_member(struct typed_place place, const char *name, size_t name_bytes,
		  struct typed_place *ret_place)
{
	const struct typed_node *nodes = place.type->nodes;
	if (typed_node(place)->kind != TYPED_STRUCT)
		return false;
	for (uint32_t i = place.node + 1; i < typed_node(place)->next; i = nodes[i].next) {
		if (strlen(nodes[i].name) != name_bytes ||
		    memcmp(nodes[i].name, name, name_bytes) != 0)
			continue;
		*ret_place = place;
		ret_place->node = i;
		return true;
	}
	return false;
}

bool typed_element(struct typed_place place, uint64_t index, struct typed_place *ret_place)
{
	const struct typed_node *node = typed_node(place);
	if ((node->kind != TYPED_ARRAY && node->kind != TYPED_TEXT) || index >= node->count)
		return false;
	*ret_place = place;
	ret_place->node = place.node + 1;
	ret_place->base = place.base + node->offset + (uint32_t)index * (node->bytes / node->count);
	return true;
}

/* "packets, bytes, …" */
static void list_members(struct typed_place place, char text[LISTED_MAX])
{
	const struct typed_node *nodes = place.type->nodes;
	size_t length = 0;
	text[0] = '\0';
	if (typed_node(place)->kind != TYPED_STRUCT)
		return;
	for (uint32_t i = place.node + 1; i < typed_node(place)->next; i = nodes[i].next) {
		int wrote = snprintf(text + length, LISTED_MAX - length, "%s%s",
				     length > 0 ? ", " : "", nodes[i].name);
		if (wrote < 0 || (size_t)wrote >= LISTED_MAX - length) {
			snprintf(text + (length < LISTED_MAX - 6 ? length : LISTED_MAX - 6), 6,
				 ", ...");
			return;
		}
		length += (size_t)wrote;
	}
}

static int no_member(struct typed_place place, const char *name, size_t bytes, struct haul_err *err)
{
	char listed[LISTED_MAX];
	list_members(place, listed);
	if (listed[0] == '\0')
		return haul_err_set(err, -ENOENT, "there is no '%.*s': %s has no members",
				    (int)bytes, name, shown_name(place));
	return haul_err_set(err, -ENOENT, "there is no '%.*s'; there are %s", (int)bytes, name,
			    listed);
}

/* "[12]" at *path, which moves behind it. */
static int find_element(struct typed_place *place, const char **path, struct haul_err *err)
{
	const struct typed_node *node = typed_node(*place);
	char *end;
	errno = 0;
	unsigned long long index = strtoull(*path + 1, &end, 10);
	if (!isdigit((unsigned char)(*path)[1]) || errno != 0 || *end != ']')
		return haul_err_set(err, -EINVAL, "'%s': an index is missing, as in x[2]", *path);
	if (node->kind != TYPED_ARRAY && node->kind != TYPED_TEXT)
		return haul_err_set(err, -EINVAL, "%s is no array", shown_name(*place));
	if (!typed_element(*place, index, place))
		return haul_err_set(err, -ERANGE, "%s has %u elements, [%llu] is beyond them",
				    shown_name(*place), node->count, index);
	*path = end + 1;
	return 0;
}

int typed_find(struct typed_place place, const char *path, struct typed_place *ret_place,
	       struct haul_err *err)
{
	bool first = true;
	while (*path != '\0') {
		if (*path == '[') {
			int rc = find_element(&place, &path, err);
			if (rc < 0)
				return rc;
		} else {
			path += !first && *path == '.';
			size_t bytes = strcspn(path, ".[");
			if (bytes == 0 || !typed_member(place, path, bytes, &place))
				return no_member(place, path, bytes, err);
			path += bytes;
		}
		first = false;
	}
	*ret_place = place;
	return 0;
}

int typed_field(struct typed_place place, bool in_key, struct haul_map_field *ret_field,
		struct haul_err *err)
{
	const struct typed_node *node = typed_node(place);
	if (node->bit_width > 0)
		return haul_err_set(err, -EINVAL,
				    "%s is a bitfield of %u bits; wanted is a whole integer",
				    shown_name(place), node->bit_width);
	bool integer = node->kind == TYPED_UINT || node->kind == TYPED_INT ||
		       node->kind == TYPED_BOOL || node->kind == TYPED_ENUM ||
		       node->kind == TYPED_BYTES;
	bool width = node->bytes == 1 || node->bytes == 2 || node->bytes == 4 || node->bytes == 8;
	if (!integer || !width) {
		char listed[LISTED_MAX];
		list_members(place, listed);
		return haul_err_set(err, -EINVAL,
				    "%s (%u bytes) is no integer of 1, 2, 4 or 8 bytes%s%s",
				    shown_name(place), node->bytes,
				    listed[0] != '\0' ? "; in it are " : "", listed);
	}
	*ret_field = (struct haul_map_field){ .in_key = in_key,
					      .offset = place.base + node->offset,
					      .width = node->bytes,
					      .big_endian = node->big_endian,
					      .is_signed = node->is_signed };
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
	ret_field->big_endian = true;
#endif
	return 0;
}

/* ---- values ---- */

static bool is_integer_size(uint32_t bytes)
{
	return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8;
}

static uint8_t *place_bytes(struct typed_place place, void *data)
{
	HAUL_ASSERT(place.base + typed_node(place)->offset + typed_node(place)->bytes <=
		    place.type->bytes);
	return (uint8_t *)data + place.base + typed_node(place)->offset;
}

static bool fits(uint32_t width, bool is_signed, uint64_t magnitude, bool negative)
{
	uint64_t half = UINT64_C(1) << (width - 1);
	if (negative)
		return magnitude == 0 || (is_signed && magnitude <= half);
	return is_signed ? magnitude < half : width >= 64 || magnitude >> width == 0;
}

static void put_bits(struct typed_place place, void *data, uint64_t bits)
{
	const struct typed_node *node = typed_node(place);
	if (node->bit_width > 0)
		typed_bits_put(place_bytes(place, data), node->bit_offset, node->bit_width, bits);
	else
		typed_uint_put(place_bytes(place, data), node->bytes, node->big_endian, bits);
}

static void put_wide(struct typed_place place, void *data, uint64_t high, uint64_t low)
{
	uint8_t *p = place_bytes(place, data);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	typed_uint_put(p, 8, 0, low);
	typed_uint_put(p + 8, 8, 0, high);
#else
	typed_uint_put(p, 8, 0, high);
	typed_uint_put(p + 8, 8, 0, low);
#endif
}

static int wrong_kind(struct typed_place place, const char *what, struct haul_err *err)
{
	const struct typed_node *node = typed_node(place);
	char listed[LISTED_MAX];
	list_members(place, listed);
	if (node->kind == TYPED_STRUCT)
		return haul_err_set(err, -EINVAL, "%s is an object with %s, not %s",
				    shown_name(place), listed, what);
	if (node->kind == TYPED_ARRAY)
		return haul_err_set(err, -EINVAL, "%s is a list of %u, not %s", shown_name(place),
				    node->count, what);
	return haul_err_set(err, -EINVAL, "%s is %u bytes ('0x' and %u digits), not %s",
			    shown_name(place), node->bytes, node->bytes * 2, what);
}

int typed_set_number(struct typed_place place, void *data, uint64_t magnitude, bool negative,
		     struct haul_err *err)
{
	const struct typed_node *node = typed_node(place);
	uint32_t width = node->bit_width > 0 ? node->bit_width : node->bytes * 8;
	uint64_t bits = negative ? 0 - magnitude : magnitude;
	switch (node->kind) {
	case TYPED_STRUCT:
	case TYPED_ARRAY:
	case TYPED_TEXT:
		return wrong_kind(place, "a number", err);
	case TYPED_REAL:
		return typed_set_real(place, data,
				      negative ? -(double)magnitude : (double)magnitude, err);
	case TYPED_WIDE:
		put_wide(place, data, negative && magnitude ? UINT64_MAX : 0, bits);
		return 0;
	case TYPED_BYTES:
		if (!is_integer_size(node->bytes))
			return wrong_kind(place, "a number", err);
		break;
	case TYPED_UINT:
	case TYPED_INT:
	case TYPED_BOOL:
	case TYPED_ENUM:
		break;
	}
	/* what old BTF calls an unsigned enum may have negative names; plain bytes are either */
	bool either = node->kind == TYPED_ENUM || node->kind == TYPED_BYTES;
	if (!fits(width, node->is_signed, magnitude, negative) &&
	    !(either && fits(width, negative, magnitude, negative)))
		return haul_err_set(err, -ERANGE, "%s%llu does not fit into %s, %s %u bits",
				    negative ? "-" : "", (unsigned long long)magnitude,
				    shown_name(place), node->is_signed ? "signed" : "unsigned",
				    width);
	put_bits(place, data, bits);
	return 0;
}

int typed_set_real(struct typed_place place, void *data, double value, struct haul_err *err)
{
	const struct typed_node *node = typed_node(place);
	float single = (float)value;
	if (node->kind == TYPED_REAL) {
		if (node->bytes == sizeof single)
			memcpy(place_bytes(place, data), &single, sizeof single);
		else
			memcpy(place_bytes(place, data), &value, sizeof value);
		return 0;
	}
	if (value != trunc(value) || fabs(value) >= 0x1p64)
		return haul_err_set(err, -EINVAL, "%g is no whole number, and %s wants one", value,
				    shown_name(place));
	return typed_set_number(place, data, (uint64_t)fabs(value), value < 0, err);
}

bool typed_integer(const char *text, uint64_t *ret_magnitude, bool *ret_negative)
{
	bool negative = *text == '-';
	const char *digits = text + negative;
	bool hex = digits[0] == '0' && (digits[1] | 0x20) == 'x';
	char *end;
	digits += hex ? 2 : 0;
	if (!isxdigit((unsigned char)*digits))
		return false;
	errno = 0;
	unsigned long long magnitude = strtoull(digits, &end, hex ? 16 : 10);
	if (errno != 0 || *end != '\0' || end == digits)
		return false;
	*ret_magnitude = magnitude;
	*ret_negative = negative;
	return true;
}

static int digit_value(char c)
{
	static const uint8_t above[256] = {
		/* one more than the digit is worth; 0: no digit */
		['0'] = 1,  ['1'] = 2,  ['2'] = 3,  ['3'] = 4,  ['4'] = 5,  ['5'] = 6,
		['6'] = 7,  ['7'] = 8,  ['8'] = 9,  ['9'] = 10, ['a'] = 11, ['b'] = 12,
		['c'] = 13, ['d'] = 14, ['e'] = 15, ['f'] = 16, ['A'] = 11, ['B'] = 12,
		['C'] = 13, ['D'] = 14, ['E'] = 15, ['F'] = 16,
	};
	return above[(uint8_t)c] - 1;
}

static bool is_separator(char c)
{
	return c == ' ' || c == '\t' || c == ',' || c == ':';
}

/* Two digits at *text, with what may stand before them; -1: none, -2: something else. */
static int hex_byte(const char **text)
{
	const char *p = *text;
	while (is_separator(*p))
		p++;
	if (*p == '\0')
		return -1;
	if (p[0] == '0' && (p[1] | 0x20) == 'x')
		p += 2;
	int high = digit_value(p[0]), low = high < 0 ? -1 : digit_value(p[1]);
	if (high < 0)
		return -2;
	if (low < 0) { /* "0x1 0x2": one digit, when nothing follows it */
		if (p[1] != '\0' && !is_separator(p[1]))
			return -2;
		*text = p + 1;
		return high;
	}
	*text = p + 2;
	return high << 4 | low;
}

/* "0x" and all digits in a row, as dumps have them: the short way. */
static bool plain_hex(const char *text, uint8_t *data, uint32_t bytes)
{
	if (text[0] != '0' || text[1] != 'x' || strlen(text) != 2 + 2 * (size_t)bytes)
		return false;
	int bad = 0;
	for (uint32_t i = 0; i < bytes; i++)
		bad |= digit_value(text[2 + 2 * (size_t)i]) | digit_value(text[3 + 2 * (size_t)i]);
	for (uint32_t i = 0; bad >= 0 && i < bytes; i++)
		data[i] = (uint8_t)(digit_value(text[2 + 2 * (size_t)i]) << 4 |
				    digit_value(text[3 + 2 * (size_t)i]));
	return bad >= 0;
}

int typed_hex(const char *text, uint8_t *ret_data, uint32_t bytes, struct haul_err *err)
{
	const char *p = text;
	uint32_t count = 0;
	if (plain_hex(text, ret_data, bytes))
		return 0;
	int byte = hex_byte(&p);
	for (; byte >= 0; byte = hex_byte(&p))
		count++;
	if (byte == -2)
		return haul_err_set(err, -EINVAL,
				    "'%s': wanted are bytes of two hexadecimal digits, as in "
				    "0x0a000001 or 'a 0 0 1'",
				    text);
	if (count != bytes)
		return haul_err_set(err, -EINVAL, "'%s' is %u bytes, wanted are %u", text, count,
				    bytes);
	p = text;
	for (uint32_t i = 0; i < bytes; i++)
		ret_data[i] = (uint8_t)hex_byte(&p);
	return 0;
}

const char *typed_enum_entry(const struct typed_type *type, const struct typed_node *node,
			     uint32_t index, uint64_t *ret_bits)
{
	HAUL_ASSERT(node->kind == TYPED_ENUM && index < btf_vlen(node->type));
	if (btf_is_enum64(node->type)) {
		const struct btf_enum64 *value = &btf_enum64(node->type)[index];
		*ret_bits = btf_enum64_value(value);
		return btf__name_by_offset(type->btf, value->name_off);
	}
	const struct btf_enum *value = &btf_enum(node->type)[index];
	*ret_bits = (uint64_t)(int64_t)value->val;
	return btf__name_by_offset(type->btf, value->name_off);
}

bool typed_enum_value(struct typed_place place, const char *name, uint64_t *ret_bits)
{
	const struct typed_node *node = typed_node(place);
	if (node->kind != TYPED_ENUM)
		return false;
	for (uint32_t i = 0; i < btf_vlen(node->type); i++) {
		uint64_t bits;
		const char *has = typed_enum_entry(place.type, node, i, &bits);
		if (has == NULL || strcmp(has, name) != 0)
			continue;
		*ret_bits = bits;
		return true;
	}
	return false;
}

static bool is_hex_prefix(const char *text)
{
	return text[0] == '0' && (text[1] | 0x20) == 'x';
}

static int set_chars(struct typed_place place, void *data, const char *text, struct haul_err *err)
{
	const struct typed_node *node = typed_node(place);
	size_t bytes = strlen(text);
	if (is_hex_prefix(text) && bytes == 2 + 2 * (size_t)node->bytes)
		return typed_hex(text, place_bytes(place, data), node->bytes, err);
	if (bytes > node->count)
		return haul_err_set(err, -ERANGE, "'%s' is %zu characters, %s has room for %u",
				    text, bytes, shown_name(place), node->count);
	memset(place_bytes(place, data), 0, node->bytes);
	memcpy(place_bytes(place, data), text, bytes);
	return 0;
}

static int set_wide(struct typed_place place, void *data, const char *text, struct haul_err *err)
{
	uint64_t high = 0, low = 0;
	const char *p = text + (is_hex_prefix(text) ? 2 : 0);
	if (is_hex_prefix(text) && strlen(p) > 0 && strlen(p) <= WIDE_DIGITS) {
		for (; digit_value(*p) >= 0; p++) {
			high = high << 4 | low >> 60;
			low = low << 4 | (uint64_t)digit_value(*p);
		}
		if (*p == '\0') {
			put_wide(place, data, high, low);
			return 0;
		}
	}
	bool negative;
	if (!typed_integer(text, &low, &negative))
		return haul_err_set(err, -EINVAL, "'%s' for %s: wanted is a number of 128 bits",
				    text, shown_name(place));
	return typed_set_number(place, data, low, negative, err);
}

static int set_scalar(struct typed_place place, void *data, const char *text, struct haul_err *err)
{
	const struct typed_node *node = typed_node(place);
	uint64_t bits;
	bool negative, is_true = !strcmp(text, "true");
	char *end;
	if (typed_enum_value(place, text, &bits)) {
		put_bits(place, data, bits);
		return 0;
	}
	if (node->kind == TYPED_BOOL && (is_true || !strcmp(text, "false")))
		return typed_set_number(place, data, is_true, false, err);
	if (typed_integer(text, &bits, &negative))
		return typed_set_number(place, data, bits, negative, err);
	if (node->kind == TYPED_REAL && *text != '\0') {
		double value = strtod(text, &end);
		if (*end == '\0')
			return typed_set_real(place, data, value, err);
	}
	return haul_err_set(err, -EINVAL, "'%s' for %s: wanted is %s", text, shown_name(place),
			    node->kind == TYPED_ENUM   ? "a number or the name of a value"
			    : node->kind == TYPED_BOOL ? "true or false"
						       : "a number");
}

int typed_set_text(struct typed_place place, void *data, const char *text, struct haul_err *err)
{
	const struct typed_node *node = typed_node(place);
	uint64_t magnitude;
	bool negative;
	switch (node->kind) {
	case TYPED_TEXT:
		return set_chars(place, data, text, err);
	case TYPED_WIDE:
		return set_wide(place, data, text, err);
	case TYPED_BYTES:
		if (is_hex_prefix(text) || !is_integer_size(node->bytes) ||
		    !typed_integer(text, &magnitude, &negative))
			return typed_hex(text, place_bytes(place, data), node->bytes, err);
		if (text[0] == '0' && strlen(text) == 2 * (size_t)node->bytes)
			return haul_err_set(err, -EINVAL,
					    "'%s' may be a number or bytes: write %llu or 0x%s",
					    text, (unsigned long long)magnitude, text);
		return typed_set_number(place, data, magnitude, negative, err);
	case TYPED_ARRAY:
	case TYPED_STRUCT:
		if (is_hex_prefix(text))
			return typed_hex(text, place_bytes(place, data), node->bytes, err);
		return wrong_kind(place, "a text", err);
	case TYPED_UINT:
	case TYPED_INT:
	case TYPED_BOOL:
	case TYPED_ENUM:
	case TYPED_REAL:
		return set_scalar(place, data, text, err);
	}
	return -EINVAL;
}
