/* Compile a type of BTF into nodes, once; walk bytes along the nodes, often. BTF comes from whoever
 * made the map: sizes, depths and offsets are checked while compiling, so that walking need not. */
#include "bpf/typed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/typed_bits.h"

enum { NODES_START = 16, WIDE_BYTES = 16, BITS = 8 };

struct build {
	const struct btf *btf;
	struct typed_type *type;
	uint32_t room;
	uint32_t depth;
	uint32_t bytes; /* of the whole, or of the element of the array being built */
	struct haul_err *err;
};

/* Where a member is, and what it is called. */
struct member {
	const char *name;
	uint64_t bit_offset;
	uint32_t bit_width; /* 0 = no bitfield */
};

static struct typed_type *grow_alloc(struct typed_type *type, uint32_t room)
{
	return realloc(type, sizeof *type + room * sizeof type->nodes[0]);
}

/* Index of a new node, or an error. */
static int add_node_alloc(struct build *build, struct typed_node node)
{
	if (build->type->count >= TYPED_NODES_MAX)
		return haul_err_set(build->err, HAUL_ELIMIT, "the type has over %d fields",
				    TYPED_NODES_MAX);
	if (build->type->count == build->room) {
		struct typed_type *grown = grow_alloc(build->type, build->room * 2);
		if (grown == NULL)
			return haul_err_set(build->err, -ENOMEM, "out of memory");
		build->type = grown;
		build->room *= 2;
	}
	node.next = build->type->count + 1;
	build->type->nodes[build->type->count] = node;
	return (int)build->type->count++;
}

static bool is_big_endian_name(const char *name)
{
	return !strcmp(name, "__be16") || !strcmp(name, "__be32") || !strcmp(name, "__be64");
}

/* Without typedef, const and their like. BTF of the kernel has no circles of these; a made-up one
 * ends at a bound. */
static const struct btf_type *strip(const struct btf *btf, uint32_t id, bool *ret_big_endian)
{
	const struct btf_type *type = btf__type_by_id(btf, id);
	for (uint32_t i = 0; type != NULL && i < TYPED_DEPTH_MAX; i++) {
		if (!btf_is_mod(type) && !btf_is_typedef(type))
			return type;
		const char *name = btf__name_by_offset(btf, type->name_off);
		if (btf_is_typedef(type) && name != NULL && is_big_endian_name(name))
			*ret_big_endian = true;
		type = btf__type_by_id(btf, type->type);
	}
	return NULL;
}

static const char *name_of(const struct btf *btf, uint32_t offset)
{
	const char *name = btf__name_by_offset(btf, offset);
	return name != NULL && name[0] != '\0' ? name : NULL;
}

static int build_type(struct build *build, uint32_t id, const struct member *member);

static int build_members(struct build *build, const struct btf_type *type, uint64_t bit_offset)
{
	const struct btf_member *members = btf_members(type);
	for (uint32_t i = 0; i < btf_vlen(type); i++) {
		struct member member = {
			.name = name_of(build->btf, members[i].name_off),
			.bit_offset = bit_offset + btf_member_bit_offset(type, i),
			.bit_width = btf_member_bitfield_size(type, i),
		};
		int rc = build_type(build, members[i].type, &member);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* .data, .bss and .rodata: one value with all variables of a section. */
static int build_section(struct build *build, const struct btf_type *type)
{
	const struct btf_var_secinfo *info = btf_var_secinfos(type);
	for (uint32_t i = 0; i < btf_vlen(type); i++) {
		const struct btf_type *var = btf__type_by_id(build->btf, info[i].type);
		if (var == NULL || !btf_is_var(var))
			return haul_err_set(build->err, HAUL_ECORRUPT,
					    "BTF: type %u in a section is no variable",
					    info[i].type);
		struct member member = { .name = name_of(build->btf, var->name_off),
					 .bit_offset = (uint64_t)info[i].offset * BITS };
		int rc = build_type(build, var->type, &member);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int build_struct(struct build *build, const struct btf_type *type,
			const struct member *member)
{
	bool hoisted = member->name == NULL && build->type->count > 0;
	int index = -1;
	/* In an array the element has no name either, but is a struct of its own. */
	if (hoisted && member->bit_width == UINT32_MAX)
		hoisted = false;
	if (!hoisted) {
		struct typed_node node = { .name = member->name,
					   .kind = TYPED_STRUCT,
					   .offset = (uint32_t)(member->bit_offset / BITS),
					   .bytes = type->size };
		index = add_node_alloc(build, node);
		if (index < 0)
			return index;
	}
	int rc = btf_is_datasec(type) ? build_section(build, type)
				      : build_members(build, type, member->bit_offset);
	if (rc == 0 && !hoisted)
		build->type->nodes[index].next = build->type->count;
	return rc;
}

static bool is_char(const struct btf *btf, uint32_t id)
{
	const struct btf_type *type = btf__type_by_id(btf, id);
	for (uint32_t i = 0; type != NULL && btf_is_mod(type) && i < TYPED_DEPTH_MAX; i++)
		type = btf__type_by_id(btf, type->type);
	if (type == NULL || !btf_is_int(type) || type->size != 1)
		return false;
	const char *name = name_of(btf, type->name_off);
	return btf_int_encoding(type) == BTF_INT_CHAR || (name != NULL && !strcmp(name, "char"));
}

static int build_array(struct build *build, const struct btf_type *type,
		       const struct member *member)
{
	const struct btf_array *array = btf_array(type);
	int64_t element = btf__resolve_size(build->btf, array->type);
	uint32_t outer = build->bytes;
	if (element < 0 || member->bit_offset / BITS + (uint64_t)element * array->nelems > outer)
		return haul_err_set(build->err, HAUL_ECORRUPT,
				    "BTF: an array of %u elements is larger than what it is in",
				    array->nelems);
	struct typed_node node = { .name = member->name,
				   .kind = is_char(build->btf, array->type) ? TYPED_TEXT
									    : TYPED_ARRAY,
				   .offset = (uint32_t)(member->bit_offset / BITS),
				   .bytes = (uint32_t)element * array->nelems,
				   /* elements without bytes: as many as you like, say none */
				   .count = element > 0 ? array->nelems : 0 };
	int index = add_node_alloc(build, node);
	if (index < 0)
		return index;
	build->bytes = (uint32_t)element;
	/* bit_width says that the missing name is an element's */
	int rc = build_type(build, array->type, &(struct member){ .bit_width = UINT32_MAX });
	build->bytes = outer;
	if (rc == 0)
		build->type->nodes[index].next = build->type->count;
	return rc;
}

static enum typed_kind scalar_kind(const struct btf_type *type)
{
	if (btf_is_any_enum(type) && type->size <= 8)
		return TYPED_ENUM;
	if (btf_is_float(type))
		return type->size == 4 || type->size == 8 ? TYPED_REAL : TYPED_BYTES;
	if (btf_is_ptr(type))
		return TYPED_UINT;
	if (!btf_is_int(type))
		return TYPED_BYTES;
	if (type->size == WIDE_BYTES)
		return TYPED_WIDE;
	if (btf_int_encoding(type) == BTF_INT_BOOL)
		return TYPED_BOOL;
	return btf_int_encoding(type) & BTF_INT_SIGNED ? TYPED_INT : TYPED_UINT;
}

static uint32_t scalar_bytes(const struct build *build, const struct btf_type *type)
{
	return btf_is_ptr(type) ? (uint32_t)btf__pointer_size(build->btf) : type->size;
}

static int build_scalar(struct build *build, const struct btf_type *type,
			const struct member *member, bool big_endian)
{
	uint32_t width = member->bit_width == UINT32_MAX ? 0 : member->bit_width;
	struct typed_node node = { .name = member->name,
				   .kind = scalar_kind(type),
				   .offset = (uint32_t)(member->bit_offset / BITS),
				   .bytes = scalar_bytes(build, type),
				   .big_endian = big_endian && btf_is_int(type),
				   .type = btf_is_any_enum(type) ? type : NULL };
	node.is_signed = node.kind == TYPED_INT || (node.kind == TYPED_ENUM && btf_kflag(type));
	if (node.name == NULL && build->type->count > 0 && member->bit_width != UINT32_MAX)
		return 0; /* padding */
	/* Old compilers put the width of a bitfield into an integer type of its own. */
	if (width == 0 && btf_is_int(type) && btf_int_bits(type) < type->size * BITS)
		width = btf_int_bits(type);
	if (width > 0 || member->bit_offset % BITS != 0) {
		width = width == 0 ? node.bytes * BITS : width;
		node.bit_offset = (uint8_t)(member->bit_offset % BITS);
		if (width > 64 || btf_is_float(type))
			return haul_err_set(build->err, HAUL_ECORRUPT, "BTF: a bitfield of %u bits",
					    width);
		node.bit_width = (uint8_t)width;
		node.big_endian = false;
		node.bytes = (node.bit_offset + width + BITS - 1) / BITS;
	}
	int index = add_node_alloc(build, node);
	return index < 0 ? index : 0;
}

static int build_kind(struct build *build, uint32_t id, const struct member *member)
{
	bool big_endian = false;
	const struct btf_type *type = strip(build->btf, id, &big_endian);
	if (type == NULL)
		return haul_err_set(build->err, HAUL_ECORRUPT, "BTF: no type %u", id);
	bool composite = btf_is_composite(type) || btf_is_datasec(type);
	uint64_t bytes = 0;
	if (composite)
		bytes = type->size;
	else if (!btf_is_array(type))
		bytes = member->bit_width > 0 && member->bit_width != UINT32_MAX
				? (member->bit_offset % BITS + member->bit_width + BITS - 1) / BITS
				: scalar_bytes(build, type);
	if (member->bit_offset / BITS + bytes > build->bytes)
		return haul_err_set(build->err, HAUL_ECORRUPT,
				    "BTF: %s ends beyond the %u bytes it is in",
				    member->name != NULL ? member->name : "a member", build->bytes);
	if (composite)
		return build_struct(build, type, member);
	if (btf_is_array(type))
		return build_array(build, type, member);
	return build_scalar(build, type, member, big_endian);
}

static int build_type(struct build *build, uint32_t id, const struct member *member)
{
	if (build->depth >= TYPED_DEPTH_MAX)
		return haul_err_set(build->err, HAUL_ELIMIT, "the type is over %d levels deep",
				    TYPED_DEPTH_MAX);
	build->depth++;
	int rc = build_kind(build, id, member);
	build->depth--;
	return rc;
}

/* ---- bits that belong to no field ---- */

static void cover(struct typed_type *type, uint32_t index, uint32_t base)
{
	const struct typed_node *node = &type->nodes[index];
	switch (node->kind) {
	case TYPED_STRUCT:
		for (uint32_t i = index + 1; i < node->next; i = type->nodes[i].next)
			cover(type, i, base);
		return;
	case TYPED_ARRAY:
		for (uint32_t i = 0; i < node->count; i++)
			cover(type, index + 1,
			      base + node->offset + i * (node->bytes / node->count));
		return;
	case TYPED_TEXT:
	case TYPED_UINT:
	case TYPED_INT:
	case TYPED_BOOL:
	case TYPED_ENUM:
	case TYPED_REAL:
	case TYPED_WIDE:
	case TYPED_BYTES:
		break;
	}
	uint8_t *gaps = type->gaps + base + node->offset;
	if (node->bit_width > 0)
		typed_bits_put(gaps, node->bit_offset, node->bit_width, 0);
	else
		memset(gaps, 0, node->bytes);
}

static int gaps_new(struct typed_type *type)
{
	type->gaps = malloc(type->bytes + 1);
	if (type->gaps == NULL)
		return -ENOMEM;
	memset(type->gaps, 0xff, type->bytes);
	cover(type, 0, 0);
	for (uint32_t i = 0; i < type->bytes; i++)
		type->has_gaps |= type->gaps[i] != 0;
	return 0;
}

bool typed_in_gaps(const struct typed_type *type, const void *data)
{
	const uint8_t *bytes = data;
	uint8_t found = 0;
	if (!type->has_gaps)
		return false;
	for (uint32_t i = 0; i < type->bytes; i++)
		found |= bytes[i] & type->gaps[i];
	return found != 0;
}

/* ---- open ---- */

int typed_type_new(struct typed_type **ret_type, const struct btf *btf, uint32_t type_id,
		   uint32_t bytes, struct haul_err *err)
{
	HAUL_ASSERT(btf != NULL);
	struct build build = { .btf = btf, .room = NODES_START, .bytes = bytes, .err = err };
	int64_t size = btf__resolve_size(btf, type_id);
	if (size < 0 || (uint64_t)size != bytes) {
		bool unused = false;
		const struct btf_type *type = strip(btf, type_id, &unused);
		if (type == NULL || !btf_is_datasec(type) || type->size > bytes)
			return haul_err_set(err, HAUL_ECORRUPT,
					    "BTF: type %u has %lld bytes, the map %u", type_id,
					    (long long)size, bytes);
	}
	build.type = grow_alloc(NULL, NODES_START);
	if (build.type == NULL)
		return haul_err_set(err, -ENOMEM, "out of memory");
	*build.type = (struct typed_type){ .btf = btf, .bytes = bytes };
	int rc = build_type(&build, type_id, &(struct member){ 0 });
	if (rc == 0)
		rc = gaps_new(build.type);
	if (rc < 0) {
		typed_type_free(build.type);
		return rc;
	}
	HAUL_ASSERT(build.type->count > 0 && build.type->nodes[0].next == build.type->count);
	*ret_type = build.type;
	return 0;
}

int typed_type_new_plain(struct typed_type **ret_type, uint32_t bytes, bool number)
{
	struct typed_type *type = grow_alloc(NULL, 1);
	if (type == NULL)
		return -ENOMEM;
	*type = (struct typed_type){ .bytes = bytes, .count = 1 };
	number = number && (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8);
	type->nodes[0] = (struct typed_node){ .kind = number ? TYPED_UINT : TYPED_BYTES,
					      .bytes = bytes,
					      .next = 1 };
	if (gaps_new(type) < 0) {
		free(type);
		return -ENOMEM;
	}
	*ret_type = type;
	return 0;
}

void typed_type_free(struct typed_type *type)
{
	if (type == NULL)
		return;
	free(type->gaps);
	free(type);
}

static bool is_indexed(uint32_t type)
{
	return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
	       type == BPF_MAP_TYPE_PROG_ARRAY || type == BPF_MAP_TYPE_ARRAY_OF_MAPS ||
	       type == BPF_MAP_TYPE_PERF_EVENT_ARRAY || type == BPF_MAP_TYPE_CGROUP_ARRAY ||
	       type == BPF_MAP_TYPE_DEVMAP || type == BPF_MAP_TYPE_CPUMAP;
}

static int typed_open_types(struct typed *typed, const struct haul_map_info *info,
			    struct haul_err *err)
{
	bool inner =
		info->type == BPF_MAP_TYPE_HASH_OF_MAPS || info->type == BPF_MAP_TYPE_ARRAY_OF_MAPS;
	int rc =
		typed->btf != NULL && info->btf_key_id != 0
			? typed_type_new(&typed->key, typed->btf, info->btf_key_id, info->key_size,
					 err)
			: typed_type_new_plain(&typed->key, info->key_size, is_indexed(info->type));
	if (rc < 0)
		return rc;
	return typed->btf != NULL && info->btf_value_id != 0 && !inner
		       ? typed_type_new(&typed->value, typed->btf, info->btf_value_id,
					info->value_size, err)
		       : typed_type_new_plain(&typed->value, info->value_size, inner);
}

int typed_open(struct typed *typed, const struct haul_map_info *info, bool plain,
	       struct haul_err *err)
{
	struct typed new = { 0 };
	if (!plain && info->btf_id != 0) {
		libbpf_print_fn_t printer = bpf_quiet_begin();
		new.btf = btf__load_from_kernel_by_id(info->btf_id);
		int rc = new.btf == NULL ? -errno : 0;
		bpf_quiet_end(printer);
		if (rc < 0)
			return haul_err_set(err, rc, "BTF %u of the map cannot be read: %s",
					    info->btf_id, haul_strerror(rc));
	}
	int rc = typed_open_types(&new, info, err);
	if (rc < 0) {
		typed_close(&new);
		return rc;
	}
	*typed = new;
	return 0;
}

void typed_close(struct typed *typed)
{
	typed_type_free(typed->key);
	typed_type_free(typed->value);
	btf__free(typed->btf);
	*typed = (struct typed){ 0 };
}
