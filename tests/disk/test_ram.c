#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "disk/ram.h"
#include "lib/testlib.h"

enum { KEYS = 600, ROUNDS = 60000, RING = 100000, VALUE_MAX = 16384 };

/* The naive twin: what was put last under a key, and with which filling. */
struct model {
	bool there[KEYS];
	uint8_t fill[KEYS];
	uint32_t bytes[KEYS];
	uint32_t flags[KEYS];
};

static uint64_t hash_of(uint32_t key)
{
	/* some share their upper half, and with it the fingerprint */
	return key % 5 == 0 ? (UINT64_C(0xabcdef12) << 32 | key) : hash_u64(key + 1);
}

static uint8_t scratch[VALUE_MAX];

static void check_value(const struct ram_value *value, const struct model *model, uint32_t key)
{
	assert_true(model->there[key]);
	assert_int_equal(value->bytes, model->bytes[key]);
	assert_int_equal(value->flags, model->flags[key]);
	assert_int_equal(value->expiry, model->flags[key] ^ 0xffff);
	assert_int_equal(value->head, model->flags[key] % 2);
	memset(scratch, model->fill[key], value->bytes);
	assert_memory_equal(value->data, scratch, value->bytes);
}

static void model_put(struct ram *ram, struct model *model, struct prng *prng, uint32_t key)
{
	uint32_t bytes = prng_below(prng, prng_below(prng, 20) == 0 ? VALUE_MAX : 700);
	uint8_t fill = (uint8_t)prng_next(prng);
	uint32_t flags = (uint32_t)prng_next(prng);
	memset(scratch, fill, bytes);
	ram_put(ram, hash_of(key),
		&(struct ram_value){ .data = scratch,
				     .bytes = bytes,
				     .flags = flags,
				     .expiry = flags ^ 0xffff,
				     .head = flags % 2 });
	model->there[key] = true;
	model->bytes[key] = bytes;
	model->fill[key] = fill;
	model->flags[key] = flags;
}

/* A value would be found that is old, deleted, another's or half overwritten. It may be gone at any
 * time; it may never be wrong. */
static void test_ram__never_gives_a_wrong_value(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	static struct model model;
	memset(&model, 0, sizeof model);
	struct ram ram;
	assert_int_equal(ram_init(&ram, RING), 0);
	uint64_t before = test_mallocs();
	uint64_t found = 0;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t key = prng_below(&prng, prng_below(&prng, 2) ? KEYS : 40);
		uint32_t what = prng_below(&prng, 16);
		struct ram_value value;
		if (what < 5) {
			model_put(&ram, &model, &prng, key);
		} else if (what == 5) {
			ram_delete(&ram, hash_of(key));
			model.there[key] = false;
		} else if (ram_find(&ram, hash_of(key), &value)) {
			check_value(&value, &model, key);
			found++;
		}
		if (round == ROUNDS / 2) {
			ram_clear(&ram);
			memset(&model.there, 0, sizeof model.there);
		}
	}
	assert_int_equal(ram.hits, found);
	assert_true(found > ROUNDS / 10);
	assert_true(ram.evicted > 0);
	assert_int_equal(test_mallocs(), before);
	ram_done(&ram);
}

/* The tier would take more memory than it was given: the tables count. */
static void test_ram__stays_within_bytes_max(void **state)
{
	(void)state;
	for (uint64_t max = 65536; max < 40 << 20; max = max * 3 / 2 + 13) {
		struct ram ram;
		assert_int_equal(ram_init(&ram, max), 0);
		uint64_t table = (ram.mask + 1) * sizeof *ram.table;
		assert_true(ram.ring_bytes + table <= max);
		assert_true(ram.ring_bytes >= max * 15 / 16);
		ram_done(&ram);
	}
}

static void put_small(struct ram *ram, uint32_t key)
{
	memset(scratch, (int)key, 1000);
	ram_put(ram, hash_of(key), &(struct ram_value){ .data = scratch, .bytes = 1000 });
}

/* What is read again and again would leave like what is not. */
static void test_ram__keeps_what_is_read(void **state)
{
	(void)state;
	struct ram ram;
	struct ram_value value;
	assert_int_equal(ram_init(&ram, RING), 0);
	put_small(&ram, 1);
	put_small(&ram, 2);
	for (uint32_t key = 3; key < 3000; key++) {
		assert_true(ram_find(&ram, hash_of(1), &value));
		assert_int_equal(value.data[999], 1);
		put_small(&ram, key);
	}
	assert_false(ram_find(&ram, hash_of(2), &value));
	/* once: a value read a single time survives one round, not two */
	for (uint32_t key = 3000; key < 3500; key++)
		put_small(&ram, key);
	assert_false(ram_find(&ram, hash_of(1), &value));
	ram_done(&ram);
}

/* Everything was read: a put would go round for ever, or move the whole ring. */
static void test_ram__bounds_the_work_of_a_put(void **state)
{
	(void)state;
	struct ram ram;
	struct ram_value value;
	assert_int_equal(ram_init(&ram, 8 << 20), 0);
	for (uint32_t key = 0; key < 8000; key++) {
		put_small(&ram, key);
		(void)ram_find(&ram, hash_of(key), &value);
	}
	uint64_t head = ram.head;
	put_small(&ram, 9000);
	assert_true(ram_find(&ram, hash_of(9000), &value));
	/* 16 moved, the new one, and at most one filler */
	assert_true(ram.head - head <= 19 * (1000 / 32 + 2));
	ram_done(&ram);
}

/* A new value that is too long would leave the older one to be served. */
static void test_ram__drops_the_old_for_what_it_cannot_take(void **state)
{
	(void)state;
	struct ram ram;
	struct ram_value value;
	assert_int_equal(ram_init(&ram, RING), 0);
	put_small(&ram, 1);
	ram_put(&ram, hash_of(1),
		&(struct ram_value){ .data = scratch, .bytes = (uint32_t)ram.ring_bytes / 8 });
	assert_false(ram_find(&ram, hash_of(1), &value));
	ram_put(&ram, hash_of(1),
		&(struct ram_value){ .data = scratch, .bytes = (uint32_t)ram.ring_bytes / 8 - 32 });
	assert_true(ram_find(&ram, hash_of(1), &value));
	ram_put(&ram, hash_of(2), &(struct ram_value){ .data = NULL, .bytes = 0 });
	assert_true(ram_find(&ram, hash_of(2), &value));
	assert_int_equal(value.bytes, 0);
	ram_done(&ram);
}

/* Small values would overfill the table and a probe never end. */
static void test_ram__lets_the_oldest_go_when_the_table_is_full(void **state)
{
	(void)state;
	struct ram ram;
	struct ram_value value;
	assert_int_equal(ram_init(&ram, 65536), 0);
	for (uint32_t key = 0; key < 5000; key++) {
		ram_put(&ram, hash_of(key), &(struct ram_value){ .data = scratch, .bytes = 8 });
		assert_true(ram_find(&ram, hash_of(key), &value));
		assert_true(ram.count * 4 <= (ram.mask + 1) * 3);
	}
	ram_done(&ram);
}

/* A tier that is off would be read through a null pointer; set-up would leak. */
static void test_ram__may_be_off_or_short_of_memory(void **state)
{
	(void)state;
	struct ram ram;
	struct ram_value value = { .bytes = 77 };
	assert_int_equal(ram_init(&ram, 0), 0);
	put_small(&ram, 1);
	assert_false(ram_find(&ram, hash_of(1), &value));
	assert_int_equal(value.bytes, 77);
	ram_delete(&ram, hash_of(1));
	ram_clear(&ram);
	ram_done(&ram);
	for (uint32_t i = 0; i < 2 && test_malloc_fail(i); i++) {
		assert_int_equal(ram_init(&ram, RING), -ENOMEM);
		ram_done(&ram);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ram__never_gives_a_wrong_value),
		cmocka_unit_test(test_ram__stays_within_bytes_max),
		cmocka_unit_test(test_ram__keeps_what_is_read),
		cmocka_unit_test(test_ram__bounds_the_work_of_a_put),
		cmocka_unit_test(test_ram__drops_the_old_for_what_it_cannot_take),
		cmocka_unit_test(test_ram__lets_the_oldest_go_when_the_table_is_full),
		cmocka_unit_test(test_ram__may_be_off_or_short_of_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
