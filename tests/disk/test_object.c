#include <string.h>

#include <haul/cache.h>
#include "base/bytes.h"
#include "disk/object.h"
#include "lib/testlib.h"

static const struct object_head fixed = {
	.version = 0x0102030405060708,
	.bytes = 0x1234567,
	.slice_bytes = 0x40000,
	.slices = 73,
	.flags = 0x51525354,
};

/* Objects that are on disks could not be read any more. */
static void test_object_head__writes_the_documented_bytes(void **state)
{
	(void)state;
	uint8_t out[OBJECT_HEAD_BYTES];
	static const uint8_t want[OBJECT_HEAD_BYTES] = {
		'H',  'C',  'O',  'B', 0,    0,    4,    0, /* magic, slice bytes */
		8,    7,    6,    5,   4,    3,    2,    1, /* version */
		0x67, 0x45, 0x23, 1,   0,    0,    0,    0, /* bytes */
		73,   0,    0,    0,   0x54, 0x53, 0x52, 0x51,
		0,    0,    0,    0,   0, /* slices, flags, reserved */
	};

	memset(out, 0xff, sizeof out);
	object_head_encode(&fixed, out);
	assert_memory_equal(out, want, sizeof want);
}

/* An object read back is another. */
static void test_object_head__survives(void **state)
{
	(void)state;
	uint8_t out[OBJECT_HEAD_BYTES];
	struct object_head back;
	struct prng prng;

	test_prng(&prng);
	for (int i = 0; i < 1000; i++) {
		struct object_head head = {
			.version = prng_next(&prng),
			.bytes = 1 + prng_below(&prng, HAUL_CACHE_OBJECT_MAX),
			.slice_bytes = 1 + prng_below(&prng, HAUL_CACHE_SLICE_MAX),
			.flags = (uint32_t)prng_next(&prng),
		};
		head.slices = (uint32_t)((head.bytes + head.slice_bytes - 1) / head.slice_bytes);
		object_head_encode(&head, out);
		assert_int_equal(object_head_decode(out, sizeof out, &back), 0);
		assert_true(back.version == head.version && back.bytes == head.bytes &&
			    back.slice_bytes == head.slice_bytes && back.slices == head.slices &&
			    back.flags == head.flags);
	}
}

/* A head whose numbers contradict each other makes a reader allocate or ask for what is not
 * there. */
static void test_object_head__refuses_contradictions(void **state)
{
	(void)state;
	static const struct {
		uint32_t at, width;
		uint64_t value;
	} wrong[] = {
		{ 0, 4, 0 },
		{ 4, 4, 0 },
		{ 4, 4, HAUL_CACHE_SLICE_MAX + 1 },
		{ 4, 4, 0x40001 - 0x1000 },
		{ 16, 8, 0 },
		{ 16, 8, HAUL_CACHE_OBJECT_MAX + 1U },
		{ 16, 8, UINT64_MAX },
		{ 24, 4, 72 },
		{ 24, 4, 74 },
		{ 24, 4, 0 },
		{ 32, 8, 1 },
	};
	struct object_head back, untouched;
	uint8_t out[OBJECT_HEAD_BYTES + 1] = { 0 };

	memset(&back, 0x5a, sizeof back);
	untouched = back;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		object_head_encode(&fixed, out);
		for (uint32_t b = 0; b < wrong[i].width; b++)
			out[wrong[i].at + b] = (uint8_t)(wrong[i].value >> 8 * b);
		assert_int_equal(object_head_decode(out, OBJECT_HEAD_BYTES, &back), HAUL_ECORRUPT);
	}
	object_head_encode(&fixed, out);
	for (uint32_t bytes = 0; bytes < OBJECT_HEAD_BYTES; bytes++)
		assert_int_equal(object_head_decode(out, bytes, &back), HAUL_ECORRUPT);
	assert_int_equal(object_head_decode(out, OBJECT_HEAD_BYTES + 1, &back), HAUL_ECORRUPT);
	assert_memory_equal(&back, &untouched, sizeof back);
}

/* Slices of an object stored anew mix with those of its last version, or of another object. */
static void test_object_slice_key__belongs_to_version_and_object(void **state)
{
	(void)state;
	struct cache_key key = { .data = (const uint8_t *)"movie", .bytes = 5 };
	struct cache_key first, second, other;
	struct object_head next = fixed;

	cache_key_hash(&key, 42);
	object_slice_key(&key, &fixed, 1, 42, &first);
	object_slice_key(&key, &fixed, 73, 42, &second);
	assert_true(first.hash != second.hash && first.hash != key.hash);
	assert_true(first.slice == 1 && first.version == fixed.version && first.data == key.data);
	next.version++;
	object_slice_key(&key, &next, 1, 42, &other);
	assert_true(other.hash != first.hash && other.check != first.check);
	key.data = (const uint8_t *)"Movie";
	object_slice_key(&key, &fixed, 1, 42, &other);
	assert_true(other.hash != first.hash && other.check != first.check);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_object_head__writes_the_documented_bytes),
		cmocka_unit_test(test_object_head__survives),
		cmocka_unit_test(test_object_head__refuses_contradictions),
		cmocka_unit_test(test_object_slice_key__belongs_to_version_and_object),
	};

	return cmocka_run_group_tests_name("object", tests, NULL, NULL);
}
