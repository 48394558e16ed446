/* Tell a sink what lies in some bytes, node by node. Sizes and offsets were checked when the type
 * was compiled. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/typed.h"
#include "bpf/typed_bits.h"

enum { FIRST_PRINTABLE = 0x20, LAST_PRINTABLE = 0x7e };

/* Bytes of the text, or -1: not text, or it could not be given back by it. */
static int64_t text_bytes(const uint8_t *p, uint32_t count)
{
	uint32_t bytes = 0;
	while (bytes < count && p[bytes] >= FIRST_PRINTABLE && p[bytes] <= LAST_PRINTABLE)
		bytes++;
	for (uint32_t i = bytes; i < count; i++)
		if (p[i] != 0)
			return -1;
	return bytes;
}

static uint64_t node_bits(const struct typed_node *node, const uint8_t *p)
{
	if (node->bit_width > 0)
		return typed_bits_get(p, node->bit_offset, node->bit_width);
	return typed_uint_get(p, node->bytes, node->big_endian);
}

static uint32_t node_width(const struct typed_node *node)
{
	return node->bit_width > 0 ? node->bit_width : node->bytes * 8;
}

static uint64_t width_mask(uint32_t width)
{
	return width >= 64 ? UINT64_MAX : (UINT64_C(1) << width) - 1;
}

static const char *enum_name(const struct typed_type *type, const struct typed_node *node,
			     uint64_t bits)
{
	uint64_t mask = width_mask(node_width(node));
	for (uint32_t i = 0; i < btf_vlen(node->type); i++) {
		uint64_t value;
		const char *name = typed_enum_entry(type, node, i, &value);
		if ((value & mask) == bits)
			return name;
	}
	return NULL;
}

static void emit_number(const struct typed_node *node, uint64_t bits, const struct typed_sink *sink,
			void *arg)
{
	if (node->is_signed)
		bits = (uint64_t)typed_sign_extend(bits, node_width(node));
	sink->number(arg, bits, node->is_signed);
}

static void emit_wide(const uint8_t *p, const struct typed_sink *sink, void *arg)
{
	uint64_t first = typed_uint_get(p, 8, 0), second = typed_uint_get(p + 8, 8, 0);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	sink->wide(arg, second, first);
#else
	sink->wide(arg, first, second);
#endif
}

static void emit_real(const struct typed_node *node, const uint8_t *p,
		      const struct typed_sink *sink, void *arg)
{
	float single;
	double value;
	memcpy(&single, p, sizeof single);
	if (node->bytes == sizeof single)
		value = (double)single;
	else
		memcpy(&value, p, sizeof value);
	sink->real(arg, value, node->bytes);
}

static void emit_scalar(const struct typed_type *type, const struct typed_node *node,
			const uint8_t *p, const struct typed_sink *sink, void *arg)
{
	uint64_t bits;
	const char *name;
	switch (node->kind) {
	case TYPED_UINT:
	case TYPED_INT:
		emit_number(node, node_bits(node, p), sink, arg);
		return;
	case TYPED_BOOL:
		bits = node_bits(node, p);
		if (bits <= 1)
			sink->boolean(arg, bits == 1);
		else
			sink->number(arg, bits, false);
		return;
	case TYPED_ENUM:
		bits = node_bits(node, p);
		name = enum_name(type, node, bits);
		if (name != NULL)
			sink->text(arg, name, (uint32_t)strlen(name));
		else
			emit_number(node, bits, sink, arg);
		return;
	case TYPED_REAL:
		emit_real(node, p, sink, arg);
		return;
	case TYPED_WIDE:
		emit_wide(p, sink, arg);
		return;
	case TYPED_BYTES:
	case TYPED_STRUCT:
	case TYPED_ARRAY:
	case TYPED_TEXT:
		sink->bytes(arg, p, node->bytes);
		return;
	}
}

struct walk {
	const struct typed_type *type;
	const struct typed_sink *sink;
	void *arg;
};

/* base: where the element (or the whole) that node counts its offset from starts. */
static void walk_node(const struct walk *walk, uint32_t index, const uint8_t *base)
{
	const struct typed_node *node = &walk->type->nodes[index];
	const uint8_t *p = base + node->offset;
	if (node->kind == TYPED_TEXT) {
		int64_t bytes = text_bytes(p, node->count);
		if (bytes >= 0) {
			walk->sink->text(walk->arg, (const char *)p, (uint32_t)bytes);
			return;
		}
	}
	if (node->kind == TYPED_STRUCT) {
		walk->sink->begin(walk->arg, TYPED_STRUCT);
		for (uint32_t i = index + 1; i < node->next; i = walk->type->nodes[i].next) {
			walk->sink->name(walk->arg, walk->type->nodes[i].name);
			walk_node(walk, i, base);
		}
		walk->sink->end(walk->arg, TYPED_STRUCT);
	} else if (node->kind == TYPED_ARRAY || node->kind == TYPED_TEXT) {
		walk->sink->begin(walk->arg, TYPED_ARRAY);
		for (uint32_t i = 0; i < node->count; i++)
			walk_node(walk, index + 1, p + i * (node->bytes / node->count));
		walk->sink->end(walk->arg, TYPED_ARRAY);
	} else {
		emit_scalar(walk->type, node, p, walk->sink, walk->arg);
	}
}

void typed_walk(const struct typed_type *type, const void *data, const struct typed_sink *sink,
		void *arg)
{
	struct walk walk = { .type = type, .sink = sink, .arg = arg };
	HAUL_ASSERT(type->count > 0);
	walk_node(&walk, 0, data);
}

void typed_scalar(struct typed_place place, const void *data, const struct typed_sink *sink,
		  void *arg)
{
	const struct typed_node *node = typed_node(place);
	const uint8_t *p = (const uint8_t *)data + place.base + node->offset;
	int64_t bytes = node->kind == TYPED_TEXT ? text_bytes(p, node->count) : -1;
	HAUL_ASSERT(node->kind != TYPED_STRUCT);
	if (bytes >= 0)
		sink->text(arg, (const char *)p, (uint32_t)bytes);
	else
		emit_scalar(place.type, node, p, sink, arg);
}

/* ---- every scalar, with its path ---- */

struct leaves {
	const struct typed_type *type;
	int (*visit)(struct typed_place place, const char *path, void *arg);
	void *arg;
	char path[TYPED_PATH];
};

static int visit_leaf(struct leaves *leaves, uint32_t index, uint32_t base, size_t length);

static int visit_members(struct leaves *leaves, uint32_t index, uint32_t base, size_t length)
{
	const struct typed_node *nodes = leaves->type->nodes;
	int rc = 0;
	for (uint32_t i = index + 1; rc == 0 && i < nodes[index].next; i = nodes[i].next) {
		int wrote = snprintf(leaves->path + length, sizeof leaves->path - length, "%s%s",
				     length > 0 ? "." : "", nodes[i].name);
		if (wrote < 0 || (size_t)wrote >= sizeof leaves->path - length)
			return HAUL_ELIMIT;
		rc = visit_leaf(leaves, i, base, length + (size_t)wrote);
	}
	return rc;
}

static int visit_leaf(struct leaves *leaves, uint32_t index, uint32_t base, size_t length)
{
	const struct typed_node *node = &leaves->type->nodes[index];
	int rc = 0;
	leaves->path[length] = '\0';
	if (node->kind == TYPED_STRUCT)
		return visit_members(leaves, index, base, length);
	if (node->kind != TYPED_ARRAY) {
		struct typed_place place = { .type = leaves->type, .node = index, .base = base };
		return leaves->visit(place, leaves->path, leaves->arg);
	}
	for (uint32_t i = 0; rc == 0 && i < node->count; i++) {
		int wrote =
			snprintf(leaves->path + length, sizeof leaves->path - length, "[%u]", i);
		if (wrote < 0 || (size_t)wrote >= sizeof leaves->path - length)
			return HAUL_ELIMIT;
		rc = visit_leaf(leaves, index + 1,
				base + node->offset + i * (node->bytes / node->count),
				length + (size_t)wrote);
	}
	return rc;
}

int typed_leaves(const struct typed_type *type,
		 int (*visit)(struct typed_place place, const char *path, void *arg), void *arg)
{
	struct leaves leaves = { .type = type, .visit = visit, .arg = arg };
	HAUL_ASSERT(visit != NULL);
	return visit_leaf(&leaves, 0, 0, 0);
}
