/* bpf/typed.h — keys and values of maps as the fields that BTF declares.
 *
 * Model      A typed_type is one type of BTF compiled into nodes in preorder: a leaf knows where
 *            its bits are, a struct or an array where the nodes below it end. typed_walk tells a
 *            sink what lies in some bytes; a place is one node (and element) of a type, found by
 *            name, and written to by the typed_set_… calls. Members without a name count as
 *            members of what they stand in, as in C. Without BTF a type is one node of plain bytes.
 *            Integers declared __be16, __be32 or __be64 are the numbers they stand for.
 *            char arrays are text while they hold printable ASCII, then only zeros.
 * Units      bytes, and bits where named so. Offsets count from the start of the whole, in an
 *            array from the start of the element.
 * Ownership  a type borrows names from its btf, which must live as long; typed_close frees both.
 * Memory     taken by typed_open and typed_type_new.
 * Threads    after that everything is read-only: any.
 * Errors     -errno with text that names the field, the value and what fits. HAUL_ELIMIT: more
 *            than TYPED_NODES_MAX nodes or TYPED_DEPTH_MAX levels. HAUL_ECORRUPT: BTF that
 *            contradicts itself, or the size of the key or value. */
#pragma once

#include <bpf/btf.h>
#include <stdbool.h>
#include <stdint.h>

#include <haul/map.h>
#include "bpf/sys.h"

enum { TYPED_NODES_MAX = 4096, TYPED_DEPTH_MAX = 32, TYPED_PATH = 256, TYPED_LEAVES_MAX = 4096 };

enum typed_kind {
	TYPED_STRUCT, /* or union: then its members share their bytes */
	TYPED_ARRAY,
	TYPED_TEXT, /* array of char */
	TYPED_UINT,
	TYPED_INT,
	TYPED_BOOL,
	TYPED_ENUM,
	TYPED_REAL,
	TYPED_WIDE, /* integer of 16 bytes */
	TYPED_BYTES /* what has no better form */
};

struct typed_node {
	const char *name; /* NULL: in an array, or the root */
	enum typed_kind kind;
	uint32_t offset;
	uint32_t bytes;
	uint32_t count;                /* of an array */
	uint32_t next;                 /* index behind the last node below this one */
	uint8_t bit_offset, bit_width; /* bitfield: of bit_width bits from offset on; 0 = none */
	bool big_endian;
	bool is_signed;              /* TYPED_INT, TYPED_ENUM */
	const struct btf_type *type; /* TYPED_ENUM */
};

struct typed_type {
	const struct btf *btf; /* NULL without */
	uint32_t bytes;
	uint32_t count;
	bool has_gaps; /* some bits belong to no field */
	uint8_t *gaps; /* bytes: their bits are 1 */
	struct typed_node nodes[];
};

/* btf may be NULL: plain bytes, or one number when number is set and bytes is 1, 2, 4 or 8. */
int typed_type_new(struct typed_type **ret_type, const struct btf *btf, uint32_t type_id,
		   uint32_t bytes, struct haul_err *err);
int typed_type_new_plain(struct typed_type **ret_type, uint32_t bytes, bool number);
void typed_type_free(struct typed_type *type);

/* What a map's keys and values are. */
struct typed {
	struct btf *btf;
	struct typed_type *key, *value;
};
/* The map's BTF is fetched from the kernel; without BTF, or when plain is asked for, bytes (indices
 * of arrays and ids of inner maps: numbers). */
int typed_open(struct typed *typed, const struct haul_map_info *info, bool plain,
	       struct haul_err *err);
void typed_close(struct typed *typed);

/* ---- out ---- */

struct typed_sink {
	void (*begin)(void *arg, enum typed_kind kind); /* TYPED_STRUCT or TYPED_ARRAY */
	void (*end)(void *arg, enum typed_kind kind);
	void (*name)(void *arg, const char *name); /* before each member of a struct */
	void (*number)(void *arg, uint64_t bits, bool is_signed);
	void (*boolean)(void *arg, bool value);
	void (*real)(void *arg, double value, uint32_t bytes);
	void (*wide)(void *arg, uint64_t high, uint64_t low);
	void (*text)(void *arg, const char *text, uint32_t bytes);     /* printable ASCII */
	void (*bytes)(void *arg, const uint8_t *data, uint32_t bytes); /* in memory order */
};
/* data: type->bytes of them, aligned or not. */
void typed_walk(const struct typed_type *type, const void *data, const struct typed_sink *sink,
		void *arg);
/* Bits of data that no field covers are set: the fields alone do not give it back. */
bool typed_in_gaps(const struct typed_type *type, const void *data);

/* ---- one field ---- */

struct typed_place {
	const struct typed_type *type;
	uint32_t node;
	uint32_t base; /* bytes before the node's offset: the elements of arrays above it */
};
struct typed_place typed_root(const struct typed_type *type);
static inline const struct typed_node *typed_node(struct typed_place place)
{
	return &place.type->nodes[place.node];
}
/* false: no such member, or not a struct. */
bool typed_member(struct typed_place place, const char *name, size_t name_bytes,
		  struct typed_place *ret_place);
bool typed_element(struct typed_place place, uint64_t index, struct typed_place *ret_place);
/* "a.b[2].c" from place on; "" is place itself. The text of a failure lists what there is. */
int typed_find(struct typed_place place, const char *path, struct typed_place *ret_place,
	       struct haul_err *err);
/* Each scalar (a text counts as one) with its path, in order. Returns 0 or what visit returned. */
int typed_leaves(const struct typed_type *type,
		 int (*visit)(struct typed_place place, const char *path, void *arg), void *arg);
/* Tell the sink of one scalar in one call: a text that cannot be shown as one comes as bytes. */
void typed_scalar(struct typed_place place, const void *data, const struct typed_sink *sink,
		  void *arg);
/* As a field for filters and sums: -EINVAL for what is not a whole integer of 1, 2, 4, 8 bytes. */
int typed_field(struct typed_place place, bool in_key, struct haul_map_field *ret_field,
		struct haul_err *err);

/* ---- in ---- */

/* Each puts a value into the bytes at data, when it fits. negative: value is -magnitude. */
int typed_set_number(struct typed_place place, void *data, uint64_t magnitude, bool negative,
		     struct haul_err *err);
int typed_set_real(struct typed_place place, void *data, double value, struct haul_err *err);
/* A number ("12", "-1", "0x1f"), the name of an enum's value, true or false, text for a char array;
 * texts, arrays and plain bytes also as their bytes in memory order: "0x" and two digits each. */
int typed_set_text(struct typed_place place, void *data, const char *text, struct haul_err *err);
/* "0x…" or "…": exactly bytes of them; spaces, colons and commas between bytes do not matter, and
 * each may have a 0x of its own. */
int typed_hex(const char *text, uint8_t *ret_data, uint32_t bytes, struct haul_err *err);
/* The index-th name of an enum and its value. */
const char *typed_enum_entry(const struct typed_type *type, const struct typed_node *node,
			     uint32_t index, uint64_t *ret_bits);
/* Integer of the enum with this name. */
bool typed_enum_value(struct typed_place place, const char *name, uint64_t *ret_bits);
/* A whole number, decimal or 0x…; false when it is none, or over 64 bits. */
bool typed_integer(const char *text, uint64_t *ret_magnitude, bool *ret_negative);
