/* bpf/test_typed.c — keys and values by BTF, out and in again, on types made for the purpose. */
#include <bpf/btf.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bpf/typed.h"
#include "lib/testlib.h"

enum { TOLD = 4096, INT_SIGNED = BTF_INT_SIGNED, INT_CHAR = BTF_INT_CHAR, INT_BOOL = BTF_INT_BOOL };

/* ---- a sink that writes down what it is told ---- */

struct told {
	char text[TOLD];
	size_t used;
};

static void tell(struct told *told, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct told *told, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	int wrote = vsnprintf(told->text + told->used, TOLD - told->used, format, list);
	va_end(list);
	assert_true(wrote >= 0 && (size_t)wrote < TOLD - told->used);
	told->used += (size_t)wrote;
}

static void on_begin(void *arg, enum typed_kind kind)
{
	tell(arg, kind == TYPED_STRUCT ? "{ " : "[ ");
}

static void on_end(void *arg, enum typed_kind kind)
{
	tell(arg, kind == TYPED_STRUCT ? "} " : "] ");
}

static void on_name(void *arg, const char *name)
{
	tell(arg, "%s=", name);
}

static void on_number(void *arg, uint64_t bits, bool is_signed)
{
	if (is_signed)
		tell(arg, "%lld ", (long long)bits);
	else
		tell(arg, "%llu ", (unsigned long long)bits);
}

static void on_boolean(void *arg, bool value)
{
	tell(arg, value ? "true " : "false ");
}

static void on_real(void *arg, double value, uint32_t bytes)
{
	tell(arg, "%g/%u ", value, bytes);
}

static void on_wide(void *arg, uint64_t high, uint64_t low)
{
	tell(arg, "%llx:%llx ", (unsigned long long)high, (unsigned long long)low);
}

static void on_text(void *arg, const char *text, uint32_t bytes)
{
	tell(arg, "'%.*s' ", (int)bytes, text);
}

static void on_bytes(void *arg, const uint8_t *data, uint32_t bytes)
{
	tell(arg, "x");
	for (uint32_t i = 0; i < bytes; i++)
		tell(arg, "%02x", data[i]);
	tell(arg, " ");
}

static const struct typed_sink sink = { on_begin, on_end,  on_name, on_number, on_boolean,
					on_real,  on_wide, on_text, on_bytes };

static void assert_told(const struct typed_type *type, const void *data, const char *want)
{
	struct told told = { .used = 0 };
	typed_walk(type, data, &sink, &told);
	assert_string_equal(told.text, want);
}

/* ---- the types ---- */

enum state { CLOSED, OPEN = 7 };

struct point {
	int16_t x, y;
};
/* Every kind there is, with a hole behind flag. */
struct every {
	uint32_t number;
	int64_t below;
	bool flag;
	char name[8];
	enum state state;
	uint16_t port; /* __be16 */
	float single;
	double real;
	void *pointer;
	struct point points[2];
	union {
		uint32_t word;
		uint8_t bytes[4];
	};
	uint32_t low : 3, high : 5;
	int32_t minus : 4;
	__extension__ unsigned __int128 wide;
};

struct types {
	struct btf *btf;
	int u8, u16, u32, u64, s16, s32, s64, chr, boolean, state, be16, every;
};

static int add_array(struct btf *btf, int index, int type, uint32_t count)
{
	int id = btf__add_array(btf, index, type, count);
	assert_true(id > 0);
	return id;
}

static void field(struct btf *btf, const char *name, int type, size_t offset)
{
	assert_int_equal(btf__add_field(btf, name, type, (uint32_t)offset * 8, 0), 0);
}

static void add_scalars(struct types *types)
{
	struct btf *btf = types->btf;
	types->u8 = btf__add_int(btf, "unsigned char", 1, 0);
	types->u16 = btf__add_int(btf, "unsigned short", 2, 0);
	types->u32 = btf__add_int(btf, "unsigned int", 4, 0);
	types->u64 = btf__add_int(btf, "unsigned long long", 8, 0);
	types->s16 = btf__add_int(btf, "short", 2, INT_SIGNED);
	types->s32 = btf__add_int(btf, "int", 4, INT_SIGNED);
	types->s64 = btf__add_int(btf, "long long", 8, INT_SIGNED);
	types->chr = btf__add_int(btf, "char", 1, INT_SIGNED);
	types->boolean = btf__add_int(btf, "_Bool", 1, INT_BOOL);
	types->be16 = btf__add_typedef(btf, "__be16", btf__add_typedef(btf, "__u16", types->u16));
	types->state = btf__add_enum(btf, "state", 4);
	assert_int_equal(btf__add_enum_value(btf, "CLOSED", CLOSED), 0);
	assert_int_equal(btf__add_enum_value(btf, "OPEN", OPEN), 0);
	assert_int_equal(btf__add_enum_value(btf, "ODD", -1), 0);
}

static void add_every(struct types *types)
{
	struct btf *btf = types->btf;
	int point = btf__add_struct(btf, "point", sizeof(struct point));
	field(btf, "x", types->s16, offsetof(struct point, x));
	field(btf, "y", types->s16, offsetof(struct point, y));
	int points = add_array(btf, types->u32, btf__add_const(btf, point), 2);
	int bytes = add_array(btf, types->u32, types->u8, 4);
	int either = btf__add_union(btf, NULL, 4);
	field(btf, "word", types->u32, 0);
	field(btf, "bytes", bytes, 0);
	int name = add_array(btf, types->u32, types->chr, 8);
	int none = add_array(btf, types->u32, types->u8, 0);
	int single = btf__add_float(btf, "float", 4), real = btf__add_float(btf, "double", 8);
	int pointer = btf__add_ptr(btf, 0), wide = btf__add_int(btf, "__int128", 16, 0);
	int number = btf__add_typedef(btf, "__u32", btf__add_volatile(btf, types->u32));
	uint32_t bits = 8 * (uint32_t)(offsetof(struct every, word) + 4);
	types->every = btf__add_struct(btf, "every", sizeof(struct every));
	field(btf, "number", number, offsetof(struct every, number));
	field(btf, "below", types->s64, offsetof(struct every, below));
	field(btf, "flag", types->boolean, offsetof(struct every, flag));
	field(btf, "name", name, offsetof(struct every, name));
	field(btf, "state", types->state, offsetof(struct every, state));
	field(btf, "port", types->be16, offsetof(struct every, port));
	field(btf, "single", single, offsetof(struct every, single));
	field(btf, "real", real, offsetof(struct every, real));
	field(btf, "pointer", pointer, offsetof(struct every, pointer));
	field(btf, "points", points, offsetof(struct every, points));
	field(btf, NULL, either, offsetof(struct every, word));
	assert_int_equal(btf__add_field(btf, "low", types->u32, bits, 3), 0);
	assert_int_equal(btf__add_field(btf, "high", types->u32, bits + 3, 5), 0);
	assert_int_equal(btf__add_field(btf, "minus", types->s32, bits + 8, 4), 0);
	field(btf, "none", none, offsetof(struct every, word) + 6);
	field(btf, "wide", wide, offsetof(struct every, wide));
}

static void types_open(struct types *types)
{
	types->btf = btf__new_empty();
	assert_non_null(types->btf);
	add_scalars(types);
	add_every(types);
	assert_true(types->every > 0);
}

static struct typed_type *type_of(const struct types *types, int id, size_t bytes)
{
	struct typed_type *type = NULL;
	struct haul_err err = { 0 };
	assert_int_equal(typed_type_new(&type, types->btf, (uint32_t)id, (uint32_t)bytes, &err), 0);
	return type;
}

static struct typed_type *every_of(const struct types *types)
{
	return type_of(types, types->every, sizeof(struct every));
}

static const struct every sample = { .number = 4000000000U,
				     .below = -5,
				     .flag = true,
				     .name = "eth0",
				     .state = OPEN,
				     .port = 0xbb01, /* 443 */
				     .single = 0.5F,
				     .real = -2.25,
				     .pointer = NULL,
				     .points = { { 1, -1 }, { 2, -2 } },
				     .word = 0x04030201,
				     .low = 5,
				     .high = 17,
				     .minus = -3,
				     .wide = 77 };
static const char sample_told[] =
	"{ number=4000000000 below=-5 flag=true name='eth0' state='OPEN' port=443 single=0.5/4 "
	"real=-2.25/8 pointer=0 points=[ { x=1 y=-1 } { x=2 y=-2 } ] word=67305985 "
	"bytes=[ 1 2 3 4 ] low=5 high=17 minus=-3 none=[ ] wide=0:4d } ";

/* Every kind of type comes out as C put it in; members of unnamed unions stand in their struct. */
static void test_typed__tells_every_kind(void **state)
{
	struct types types;
	(void)state;
	types_open(&types);
	struct typed_type *type = every_of(&types);
	assert_told(type, &sample, sample_told);
	typed_type_free(type);
	btf__free(types.btf);
}

/* Bytes behind a type are not touched, whatever their alignment. */
static void test_typed__stays_within_its_bytes(void **state)
{
	struct types types;
	struct test_guard guard;
	(void)state;
	types_open(&types);
	struct typed_type *type = every_of(&types);
	test_guard_open(&guard, sizeof sample + 1);
	memcpy(guard.data + 1, &sample, sizeof sample);
	assert_told(type, guard.data + 1, sample_told);
	test_guard_close(&guard);
	typed_type_free(type);
	btf__free(types.btf);
}

/* Text is text only if it can be given back from it: else the list of its numbers. */
static void test_typed__text_must_be_printable_to_its_end(void **state)
{
	static const struct {
		char bytes[5];
		const char *want;
	} cases[] = { { "", "'' " },
		      { "abc", "'abc' " },
		      { "abcd", "'abcd' " },
		      { "a\0b", "[ 97 0 98 0 ] " },
		      { "\xff", "[ -1 0 0 0 ] " },
		      { "a\n", "[ 97 10 0 0 ] " } };
	struct types types;
	(void)state;
	types_open(&types);
	int text = add_array(types.btf, types.u32, types.chr, 4);
	struct typed_type *type = type_of(&types, text, 4);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_told(type, cases[i].bytes, cases[i].want);
	struct told told = { .used = 0 };
	typed_scalar(typed_root(type), "a\0b", &sink, &told);
	assert_string_equal(told.text, "x61006200 ");
	typed_type_free(type);
	btf__free(types.btf);
}

/* A number that is no name of an enum, and a bool that is neither, are shown as numbers. */
static void test_typed__odd_enums_and_bools_are_numbers(void **state)
{
	struct types types;
	(void)state;
	types_open(&types);
	struct typed_type *type = type_of(&types, types.state, 4);
	assert_told(type, &(uint32_t){ 5 }, "5 ");
	assert_told(type, &(uint32_t){ UINT32_MAX }, "'ODD' ");
	typed_type_free(type);
	type = type_of(&types, types.boolean, 1);
	assert_told(type, &(uint8_t){ 2 }, "2 ");
	typed_type_free(type);
	int wide = btf__add_enum64(types.btf, "wide", 8, true);
	assert_int_equal(btf__add_enum64_value(types.btf, "FAR", UINT64_C(1) << 40), 0);
	type = type_of(&types, wide, 8);
	assert_told(type, &(uint64_t){ UINT64_C(1) << 40 }, "'FAR' ");
	assert_told(type, &(int64_t){ -9 }, "-9 ");
	typed_type_free(type);
	btf__free(types.btf);
}

/* Bits that no field names are noticed, and only those. */
static void test_typed__gaps_are_noticed(void **state)
{
	struct types types;
	struct every other = sample;
	(void)state;
	types_open(&types);
	struct typed_type *type = every_of(&types);
	memset(&other, 0, sizeof other);
	assert_false(typed_in_gaps(type, &other));
	((uint8_t *)&other)[offsetof(struct every, number) + 4] = 1; /* before below */
	assert_true(typed_in_gaps(type, &other));
	memset(&other, 0, sizeof other);
	((uint8_t *)&other)[offsetof(struct every, word) + 5] = 0x0f; /* minus */
	assert_false(typed_in_gaps(type, &other));
	((uint8_t *)&other)[offsetof(struct every, word) + 5] = 0x10; /* behind it */
	assert_true(typed_in_gaps(type, &other));
	typed_type_free(type);
	btf__free(types.btf);
}

struct given {
	uint8_t data[sizeof(struct every)];
	uint32_t count;
};

static int give_back(struct typed_place place, const char *path, void *arg)
{
	struct given *given = arg;
	struct typed_place found;
	struct told told = { .used = 0 };
	struct haul_err err = { 0 };
	char *text = told.text;
	typed_scalar(place, &sample, &sink, &told);
	assert_int_equal(typed_find(typed_root(place.type), path, &found, &err), 0);
	assert_int_equal(found.node, place.node);
	assert_int_equal(found.base, place.base);
	told.text[--told.used] = '\0'; /* the space */
	if (text[0] == '\'') {
		told.text[told.used - 1] = '\0';
		text++;
	}
	if (strchr(text, ':') != NULL) /* high:low */
		text = strchr(text, ':') - 1, text[0] = '0', text[1] = 'x';
	if (strchr(text, '/') != NULL) /* value/bytes */
		*strchr(text, '/') = '\0';
	assert_int_equal(typed_set_text(place, given->data, text, &err), 0);
	given->count++;
	return 0;
}

/* What is told of each leaf, set at the place of its path, gives back the same bytes. */
static void test_typed__leaves_give_back_the_bytes(void **state)
{
	struct types types;
	struct given given = { .count = 0 };
	(void)state;
	types_open(&types);
	struct typed_type *type = every_of(&types);
	assert_int_equal(typed_leaves(type, give_back, &given), 0);
	assert_int_equal(given.count, 22);
	assert_told(type, given.data, sample_told);
	typed_type_free(type);
	btf__free(types.btf);
}

static void assert_finds(const struct typed_type *type, const char *path, int want,
			 const char *words)
{
	struct typed_place place;
	struct haul_err err = { 0 };
	assert_int_equal(typed_find(typed_root(type), path, &place, &err), want);
	if (want < 0)
		assert_non_null(strstr(err.text, words));
}

/* A wrong path is told by what is right there. */
static void test_typed__paths_that_lead_nowhere(void **state)
{
	struct types types;
	(void)state;
	types_open(&types);
	struct typed_type *type = every_of(&types);
	assert_finds(type, "", 0, "");
	assert_finds(type, "points[1].y", 0, "");
	assert_finds(type, "bytes[3]", 0, "");
	assert_finds(type, "name[7]", 0, "");
	assert_finds(type, "nope", -ENOENT, "there are number, below, flag");
	assert_finds(type, "points[0].z", -ENOENT, "there are x, y");
	assert_finds(type, "number.x", -ENOENT, "number has no members");
	assert_finds(type, "points[2]", -ERANGE, "has 2 elements");
	assert_finds(type, "none[0]", -ERANGE, "has 0 elements");
	assert_finds(type, "points[x]", -EINVAL, "an index is missing");
	assert_finds(type, "points[1", -EINVAL, "an index is missing");
	assert_finds(type, "points[-1]", -EINVAL, "an index is missing");
	assert_finds(type, "number[0]", -EINVAL, "no array");
	assert_finds(type, ".number", -ENOENT, "");
	assert_finds(type, "points[0]..x", -ENOENT, "");
	typed_type_free(type);
	btf__free(types.btf);
}

static int set(const struct typed_type *type, const char *path, const char *text, uint8_t *data,
	       struct haul_err *err)
{
	struct typed_place place;
	assert_int_equal(typed_find(typed_root(type), path, &place, err), 0);
	return typed_set_text(place, data, text, err);
}

/* What does not fit is refused with the reason, and writes nothing. */
static void test_typed__values_that_do_not_fit(void **state)
{
	static const struct {
		const char *path, *text;
		int want;
		const char *words;
	} cases[] = { { "number", "4294967296", -ERANGE, "unsigned 32 bits" },
		      { "number", "-1", -ERANGE, "unsigned" },
		      { "number", "", -EINVAL, "a number" },
		      { "number", "12x", -EINVAL, "'12x'" },
		      { "number", "99999999999999999999", -EINVAL, "a number" },
		      { "points[0].x", "32768", -ERANGE, "signed 16 bits" },
		      { "points[0].x", "-32769", -ERANGE, "signed 16 bits" },
		      { "below", "9223372036854775808", -ERANGE, "signed 64" },
		      { "low", "8", -ERANGE, "unsigned 3 bits" },
		      { "minus", "8", -ERANGE, "signed 4 bits" },
		      { "minus", "-9", -ERANGE, "signed 4 bits" },
		      { "port", "65536", -ERANGE, "16 bits" },
		      { "flag", "yes", -EINVAL, "true or false" },
		      { "state", "SHUT", -EINVAL, "the name of a value" },
		      { "name", "ninechars", -ERANGE, "room for 8" },
		      { "wide", "0xg", -EINVAL, "128 bits" },
		      { "bytes", "0x0102", -EINVAL, "2 bytes, wanted are 4" },
		      { "bytes", "1", -EINVAL, "a list of 4" },
		      { "points[0]", "1", -EINVAL, "an object with x, y" },
		      { "points[0]", "0x0102030g", -EINVAL, "two hexadecimal digits" } };
	static const uint8_t untouched[sizeof(struct every)];
	uint8_t data[sizeof(struct every)] = { 0 };
	struct types types;
	(void)state;
	types_open(&types);
	struct typed_type *type = every_of(&types);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct haul_err err = { 0 };
		assert_int_equal(set(type, cases[i].path, cases[i].text, data, &err),
				 cases[i].want);
		assert_non_null(strstr(err.text, cases[i].words));
		assert_memory_equal(data, untouched, sizeof data);
	}
	typed_type_free(type);
	btf__free(types.btf);
}

/* The largest and smallest of each width fit, in every way of writing them. */
static void test_typed__values_that_just_fit(void **state)
{
	static const char *const cases[][2] = { { "number", "0xffffffff" },
						{ "below", "-9223372036854775808" },
						{ "below", "9223372036854775807" },
						{ "low", "7" },
						{ "minus", "-8" },
						{ "minus", "7" },
						{ "port", "65535" },
						{ "name", "eightchr" },
						{ "name", "0xfffefdfcfbfaf9f8" },
						{ "state", "CLOSED" },
						{ "state", "-1" },
						{ "state", "4294967295" },
						{ "real", "1e300" },
						{ "single", "nan" },
						{ "single", "3" },
						{ "wide", "-1" },
						{ "wide", "0x0123456789abcdef0123456789abcdef" },
						{ "bytes", "0x01020304" },
						{ "pointer", "0xffffffffffffffff" } };
	uint8_t data[sizeof(struct every)] = { 0 };
	struct types types;
	struct haul_err err = { 0 };
	(void)state;
	types_open(&types);
	struct typed_type *type = every_of(&types);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		assert_int_equal(set(type, cases[i][0], cases[i][1], data, &err), 0);
	struct every every;
	memcpy(&every, data, sizeof every);
	assert_int_equal(every.port, 0xffff);
	assert_int_equal(every.minus, 7);
	assert_true(isnan(every.single) || every.single > 2);
	assert_true(every.wide >> 64 == 0x0123456789abcdef);
	typed_type_free(type);
	btf__free(types.btf);
}

/* A real number goes into an integer only if it is whole. */
static void test_typed__reals_into_integers_must_be_whole(void **state)
{
	struct types types;
	struct typed_place place;
	uint8_t data[sizeof(struct every)] = { 0 };
	struct haul_err err = { 0 };
	(void)state;
	types_open(&types);
	struct typed_type *type = every_of(&types);
	assert_int_equal(typed_find(typed_root(type), "number", &place, &err), 0);
	assert_int_equal(typed_set_real(place, data, 1e3, &err), 0);
	assert_int_equal(data[0] | data[1] << 8, 1000);
	assert_int_equal(typed_set_real(place, data, 1.5, &err), -EINVAL);
	assert_int_equal(typed_set_real(place, data, 1e30, &err), -EINVAL);
	assert_int_equal(typed_set_real(place, data, -1, &err), -ERANGE);
	assert_int_equal(typed_set_real(place, data, (double)NAN, &err), -EINVAL);
	assert_int_equal(data[0] | data[1] << 8, 1000);
	typed_type_free(type);
	btf__free(types.btf);
}

static int field_of(const struct typed_type *type, const char *path, struct haul_map_field *field,
		    struct haul_err *err)
{
	struct typed_place place;
	assert_int_equal(typed_find(typed_root(type), path, &place, err), 0);
	return typed_field(place, false, field, err);
}

/* Filters get offset, width, sign and order of a field; what they cannot compare is refused. */
static void test_typed__fields_for_filters(void **state)
{
	struct types types;
	struct haul_map_field field;
	struct haul_err err = { 0 };
	(void)state;
	types_open(&types);
	struct typed_type *type = every_of(&types);
	assert_int_equal(field_of(type, "points[1].y", &field, &err), 0);
	assert_int_equal(field.offset, offsetof(struct every, points[1].y));
	assert_int_equal(field.width, 2);
	assert_true(field.is_signed && !field.big_endian && !field.in_key);
	assert_int_equal(field_of(type, "port", &field, &err), 0);
	assert_true(field.big_endian && !field.is_signed);
	assert_int_equal(field_of(type, "low", &field, &err), -EINVAL);
	assert_non_null(strstr(err.text, "bitfield of 3 bits"));
	assert_int_equal(field_of(type, "real", &field, &err), -EINVAL);
	assert_int_equal(field_of(type, "wide", &field, &err), -EINVAL);
	assert_int_equal(field_of(type, "points[0]", &field, &err), -EINVAL);
	assert_non_null(strstr(err.text, "in it are x, y"));
	typed_type_free(type);
	btf__free(types.btf);
}

/* A section of variables is a struct of them. */
static void test_typed__section_is_a_struct(void **state)
{
	struct types types;
	(void)state;
	types_open(&types);
	int a = btf__add_var(types.btf, "packets", BTF_VAR_STATIC, types.u64);
	int b = btf__add_var(types.btf, "port", BTF_VAR_STATIC, types.be16);
	int section = btf__add_datasec(types.btf, ".bss", 16);
	assert_int_equal(btf__add_datasec_var_info(types.btf, a, 0, 8), 0);
	assert_int_equal(btf__add_datasec_var_info(types.btf, b, 8, 2), 0);
	struct typed_type *type = type_of(&types, section, 16);
	static const uint8_t data[16] = { 9, [8] = 0, [9] = 80 };
	assert_told(type, data, "{ packets=9 port=80 } ");
	typed_type_free(type);
	btf__free(types.btf);
}

static int fails(const struct types *types, int id, uint32_t bytes, const char *words)
{
	struct typed_type *type = NULL;
	struct haul_err err = { 0 };
	int rc = typed_type_new(&type, types->btf, (uint32_t)id, bytes, &err);
	assert_null(type);
	assert_non_null(strstr(err.text, words));
	return rc;
}

/* BTF that contradicts itself or the map is an error at open, not a read beyond the value. */
static void test_typed__bad_btf_is_refused(void **state)
{
	struct types types;
	(void)state;
	types_open(&types);
	assert_int_equal(fails(&types, types.u32, 8, "has 4 bytes, the map 8"), HAUL_ECORRUPT);
	assert_int_equal(fails(&types, 9999, 4, "the map 4"), HAUL_ECORRUPT);
	int beyond = btf__add_struct(types.btf, "beyond", 4);
	field(types.btf, "x", types.u32, 2);
	assert_int_equal(fails(&types, beyond, 4, "x ends beyond"), HAUL_ECORRUPT);
	int array = add_array(types.btf, types.u32, types.u32, 2);
	int large = btf__add_struct(types.btf, "large", 4);
	field(types.btf, "list", array, 0);
	assert_int_equal(fails(&types, large, 4, "larger than what it is in"), HAUL_ECORRUPT);
	int late = btf__add_struct(types.btf, "late", 12);
	field(types.btf, "list", array, 8);
	assert_int_equal(fails(&types, late, 12, "larger"), HAUL_ECORRUPT);
	btf__free(types.btf);
}

/* Types of any depth and number of fields end at a limit. */
static void test_typed__limits_are_errors(void **state)
{
	struct types types;
	char name[16];
	(void)state;
	types_open(&types);
	int wide = btf__add_struct(types.btf, "wide", 4 * (TYPED_NODES_MAX + 1));
	for (uint32_t i = 0; i <= TYPED_NODES_MAX; i++) {
		snprintf(name, sizeof name, "f%u", i);
		field(types.btf, name, types.u32, 4 * (size_t)i);
	}
	assert_int_equal(fails(&types, wide, 4 * (TYPED_NODES_MAX + 1), "fields"), HAUL_ELIMIT);
	int inner = types.u32;
	for (uint32_t i = 0; i < TYPED_DEPTH_MAX - 1; i++) {
		int outer = btf__add_struct(types.btf, "deep", 4);
		field(types.btf, "d", inner, 0);
		inner = outer;
	}
	struct typed_type *type = type_of(&types, inner, 4);
	typed_type_free(type);
	int outer = btf__add_struct(types.btf, "deep", 4);
	field(types.btf, "d", inner, 0);
	assert_true(fails(&types, outer, 4, "") < 0);
	btf__free(types.btf);
}

/* An element of zero bytes, any number of times, is an empty list and no loop of billions. */
static void test_typed__empty_elements_are_none(void **state)
{
	struct types types;
	(void)state;
	types_open(&types);
	int empty = btf__add_struct(types.btf, "empty", 0);
	int array = add_array(types.btf, types.u32, empty, UINT32_MAX);
	int holder = btf__add_struct(types.btf, "holder", 4);
	field(types.btf, "list", array, 0);
	field(types.btf, "x", types.u32, 0);
	struct typed_type *type = type_of(&types, holder, 4);
	assert_told(type, &(uint32_t){ 3 }, "{ list=[ ] x=3 } ");
	typed_type_free(type);
	btf__free(types.btf);
}

/* Without BTF: bytes in, bytes out; a number only where that is certain. */
static void test_typed__plain_bytes(void **state)
{
	struct typed_type *type;
	struct haul_err err = { 0 };
	uint8_t data[4];
	(void)state;
	assert_int_equal(typed_type_new_plain(&type, 4, false), 0);
	assert_told(type, "\1\2\3\4", "x01020304 ");
	struct typed_place root = typed_root(type);
	assert_int_equal(typed_set_text(root, data, "0x01020304", &err), 0);
	assert_memory_equal(data, "\1\2\3\4", 4);
	assert_int_equal(typed_set_text(root, data, "0a 0b 0c 0d", &err), 0);
	assert_memory_equal(data, "\x0a\x0b\x0c\x0d", 4);
	assert_int_equal(typed_set_text(root, data, "0x1 0x2 0x3 0x4", &err), 0);
	assert_memory_equal(data, "\1\2\3\4", 4);
	assert_int_equal(typed_set_text(root, data, "443", &err), 0);
	assert_memory_equal(data, &(uint32_t){ 443 }, 4);
	assert_int_equal(typed_set_text(root, data, "-1", &err), 0);
	assert_memory_equal(data, "\xff\xff\xff\xff", 4);
	assert_int_equal(typed_set_text(root, data, "4294967295", &err), 0);
	assert_int_equal(typed_set_text(root, data, "01020304", &err), -EINVAL);
	assert_non_null(strstr(err.text, "may be a number or bytes"));
	assert_int_equal(typed_set_text(root, data, "0x1bb", &err), -EINVAL);
	assert_int_equal(typed_set_text(root, data, "0x0102", &err), -EINVAL);
	assert_non_null(strstr(err.text, "2 bytes, wanted are 4"));
	assert_int_equal(typed_set_text(root, data, "4294967296", &err), -ERANGE);
	assert_int_equal(typed_set_text(root, data, "", &err), -EINVAL);
	typed_type_free(type);
	assert_int_equal(typed_type_new_plain(&type, 4, true), 0);
	assert_told(type, &(uint32_t){ 7 }, "7 ");
	typed_type_free(type);
	assert_int_equal(typed_type_new_plain(&type, 3, true), 0);
	assert_told(type, "\1\2\3", "x010203 ");
	typed_type_free(type);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_typed__tells_every_kind),
		cmocka_unit_test(test_typed__stays_within_its_bytes),
		cmocka_unit_test(test_typed__text_must_be_printable_to_its_end),
		cmocka_unit_test(test_typed__odd_enums_and_bools_are_numbers),
		cmocka_unit_test(test_typed__gaps_are_noticed),
		cmocka_unit_test(test_typed__leaves_give_back_the_bytes),
		cmocka_unit_test(test_typed__paths_that_lead_nowhere),
		cmocka_unit_test(test_typed__values_that_do_not_fit),
		cmocka_unit_test(test_typed__values_that_just_fit),
		cmocka_unit_test(test_typed__reals_into_integers_must_be_whole),
		cmocka_unit_test(test_typed__fields_for_filters),
		cmocka_unit_test(test_typed__section_is_a_struct),
		cmocka_unit_test(test_typed__bad_btf_is_refused),
		cmocka_unit_test(test_typed__limits_are_errors),
		cmocka_unit_test(test_typed__empty_elements_are_none),
		cmocka_unit_test(test_typed__plain_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
