#include <string.h>
#include <xxhash.h>

#include <haul/cache.h>
#include "base/bytes.h"
#include "disk/key.h"
#include "lib/testlib.h"

static const uint64_t SECRET = 0x0123456789abcdef;

static struct cache_key key_of(const char *text, uint32_t slice, uint64_t version)
{
	struct cache_key key = {
		.data = (const uint8_t *)text,
		.bytes = (uint32_t)strlen(text),
		.slice = slice,
		.version = version,
	};

	cache_key_hash(&key, SECRET);
	return key;
}

/* A cache on the disk cannot be found by its keys any more. */
static void test_key_hash__is_the_documented_one(void **state)
{
	(void)state;
	const struct cache_key key = key_of("map/53.07/8.80", 0, 0);
	const XXH128_hash_t want = XXH3_128bits_withSeed("map/53.07/8.80", 14, SECRET);

	assert_true(key.hash == want.low64 && key.check == want.high64);
	assert_true(key.hash == UINT64_C(0xf7b25afc3c599859));
	assert_true(key.check == UINT64_C(0x244f9dce94622ab1));
}

/* As above, for slices. */
static void test_key_hash__of_slices_is_the_documented_one(void **state)
{
	(void)state;
	const struct cache_key whole = key_of("update.raucb", 0, 0);
	const struct cache_key slice = key_of("update.raucb", 7, 0x1122334455667788);
	uint8_t part[28];

	le64_store(part, whole.hash);
	le64_store(part + 8, whole.check);
	le64_store(part + 16, 0x1122334455667788);
	le32_store(part + 24, 7);
	const XXH128_hash_t want = XXH3_128bits_withSeed(part, 28, SECRET);
	assert_true(slice.hash == want.low64 && slice.check == want.high64);
}

/* Entries share a place: a slice with the object, with that of an older version, with another
 * slice, or a key with itself in another cache. */
static void test_key_hash__parts_and_versions_differ(void **state)
{
	(void)state;
	const struct cache_key keys[] = {
		key_of("a", 0, 0), key_of("a", 1, 1), key_of("a", 1, 2),  key_of("a", 2, 1),
		key_of("b", 0, 0), key_of("b", 1, 1), key_of("aa", 0, 0),
	};
	const size_t count = sizeof keys / sizeof keys[0];
	struct cache_key elsewhere = keys[0];

	for (size_t i = 0; i < count; i++)
		for (size_t j = i + 1; j < count; j++)
			assert_true(keys[i].hash != keys[j].hash && keys[i].check != keys[j].check);
	cache_key_hash(&elsewhere, SECRET + 1);
	assert_true(elsewhere.hash != keys[0].hash && elsewhere.check != keys[0].check);
}

/* A value that lies where another key's was expected is handed out. */
static void test_key_checksum__belongs_to_the_key(void **state)
{
	(void)state;
	static const uint8_t value[300] = "value";
	const struct cache_key a = key_of("a", 0, 0), b = key_of("b", 0, 0);

	for (uint32_t bytes = 0; bytes <= sizeof value; bytes += 50) {
		assert_true(cache_key_checksum(&a, value, bytes) !=
			    cache_key_checksum(&b, value, bytes));
		assert_true(cache_key_checksum(&a, value, bytes) ==
			    XXH3_64bits_withSeed(value, bytes, a.check));
	}
	assert_true(cache_key_checksum(&a, NULL, 0) == cache_key_checksum(&a, value, 0));
}

/* A wrong byte anywhere in a value is handed out. */
static void test_key_checksum__sees_every_bit(void **state)
{
	(void)state;
	uint8_t value[600];
	const struct cache_key key = key_of("a", 0, 0);
	struct prng prng;

	test_prng(&prng);
	for (size_t i = 0; i < sizeof value; i++)
		value[i] = (uint8_t)prng_next(&prng);
	const uint64_t whole = cache_key_checksum(&key, value, sizeof value);
	for (size_t bit = 0; bit < sizeof value * 8; bit++) {
		value[bit / 8] ^= (uint8_t)(1 << bit % 8);
		const uint64_t sum = cache_key_checksum(&key, value, sizeof value);
		/* Also the half that the index keeps. */
		assert_true((uint32_t)sum != (uint32_t)whole);
		value[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* A key read back from the disk is not the one stored, so its value does not verify. */
static void test_key_store__and_load(void **state)
{
	(void)state;
	static char longest[HAUL_CACHE_KEY_MAX + 1];
	struct cache_key keys[4], back;
	uint8_t stored[CACHE_KEY_STORED_MAX];

	memset(longest, 'k', HAUL_CACHE_KEY_MAX);
	keys[0] = key_of("k", 0, 0);
	keys[1] = key_of(longest, 0, 0);
	keys[2] = key_of("k", 3, UINT64_MAX);
	keys[3] = key_of(longest, UINT32_MAX, 5);
	for (size_t i = 0; i < 4; i++) {
		const uint32_t bytes = cache_key_stored_bytes(&keys[i]);
		assert_true(bytes == keys[i].bytes + (i >= 2 ? 8 : 0) && bytes <= sizeof stored);
		cache_key_store(&keys[i], stored);
		assert_int_equal(cache_key_load(stored, bytes, keys[i].slice, SECRET, &back), 0);
		assert_int_equal(back.bytes, keys[i].bytes);
		assert_memory_equal(back.data, keys[i].data, back.bytes);
		assert_true(back.slice == keys[i].slice && back.version == keys[i].version);
		assert_true(back.hash == keys[i].hash && back.check == keys[i].check);
	}
}

/* Lengths that no key has lead behind the table. */
static void test_key_load__refuses_lengths_no_key_has(void **state)
{
	(void)state;
	static const uint8_t stored[CACHE_KEY_STORED_MAX + 1] = { 1 };
	struct cache_key back, untouched;

	memset(&back, 0x5a, sizeof back);
	untouched = back;
	assert_int_equal(cache_key_load(stored, 0, 0, SECRET, &back), HAUL_ECORRUPT);
	assert_int_equal(cache_key_load(stored, 513, 0, SECRET, &back), HAUL_ECORRUPT);
	assert_int_equal(cache_key_load(stored, 8, 1, SECRET, &back), HAUL_ECORRUPT);
	assert_int_equal(cache_key_load(stored, 521, 1, SECRET, &back), HAUL_ECORRUPT);
	assert_memory_equal(&back, &untouched, sizeof back);
}

/* One partition gets all keys, or a number that is none. */
static void test_key_partition__spreads(void **state)
{
	(void)state;
	struct prng prng;
	uint32_t hits[7] = { 0 };

	test_prng(&prng);
	for (int i = 0; i < 70000; i++)
		hits[cache_key_partition(prng_next(&prng), 7)]++;
	for (int i = 0; i < 7; i++)
		assert_in_range(hits[i], 9000, 11000);
	assert_int_equal(cache_key_partition(UINT64_MAX, 64), 63);
	assert_int_equal(cache_key_partition(0, 64), 0);
	assert_int_equal(cache_key_partition(UINT64_MAX, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key_hash__is_the_documented_one),
		cmocka_unit_test(test_key_hash__of_slices_is_the_documented_one),
		cmocka_unit_test(test_key_hash__parts_and_versions_differ),
		cmocka_unit_test(test_key_checksum__belongs_to_the_key),
		cmocka_unit_test(test_key_checksum__sees_every_bit),
		cmocka_unit_test(test_key_store__and_load),
		cmocka_unit_test(test_key_load__refuses_lengths_no_key_has),
		cmocka_unit_test(test_key_partition__spreads),
	};

	return cmocka_run_group_tests_name("key", tests, NULL, NULL);
}
