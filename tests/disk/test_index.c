#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <haul/err.h>
#include "disk/format.h"
#include "disk/index.h"
#include "lib/testlib.h"

enum { ENTRIES = 400, KEYS = 900, ROUNDS = 60000 };

/* The naive twin: one place a key. */
struct model {
	struct index_entry entry[KEYS];
	bool there[KEYS];
	uint64_t count, bytes;
};

/* Many keys share few homes, at the table's start and end too, so runs are long and wrap. */
static uint64_t hash_of(uint32_t key)
{
	uint64_t home = key % 3 == 0 ? UINT64_MAX << 40 : (uint64_t)(key % 7) << 61;
	return key == 0 ? 0 : home | key;
}

static void random_entry(struct prng *prng, uint32_t key, struct index_entry *entry)
{
	*entry = (struct index_entry){
		.hash = hash_of(key),
		.segment = prng_below(prng, FORMAT_SEGMENTS_MAX),
		.unit = prng_below(prng, FORMAT_SEGMENT_MAX / FORMAT_UNIT),
		.bytes = prng_below(prng, FORMAT_VALUE_MAX + 1),
		.expiry = (uint32_t)prng_next(prng),
		.check = (uint32_t)prng_next(prng),
		.freq = (uint8_t)prng_below(prng, INDEX_FREQ_MAX + 1),
		.codec = (uint8_t)prng_below(prng, 4),
		.has_flags = prng_below(prng, 2) == 1,
	};
}

static void check_slot(const struct index_slot *slot, const struct index_entry *entry)
{
	struct index_entry got;
	index_unpack(slot, &got);
	assert_int_equal(got.hash, entry->hash ? entry->hash : 1);
	assert_int_equal(got.segment, entry->segment);
	assert_int_equal(got.unit, entry->unit);
	assert_int_equal(got.bytes, entry->bytes);
	assert_int_equal(got.expiry, entry->expiry);
	assert_int_equal(got.check, entry->check);
	assert_int_equal(got.freq, entry->freq);
	assert_int_equal(got.codec, entry->codec);
	assert_int_equal(got.has_flags, entry->has_flags);
	assert_true(index_is_at(slot, entry->segment, entry->unit));
	assert_false(index_is_at(slot, entry->segment ^ 1, entry->unit));
	assert_false(index_is_at(slot, entry->segment, entry->unit ^ 1));
}

static void model_put(struct index *index, struct model *model, struct prng *prng, uint32_t key)
{
	struct index_entry entry;
	random_entry(prng, key, &entry);
	int rc = index_put(index, &entry);
	if (!model->there[key] && model->count == ENTRIES) {
		assert_int_equal(rc, HAUL_EFULL);
		return;
	}
	assert_int_equal(rc, 0);
	model->count += !model->there[key];
	model->bytes += entry.bytes;
	model->bytes -= model->there[key] ? model->entry[key].bytes : 0;
	model->there[key] = true;
	model->entry[key] = entry;
}

static void model_change(struct model *model, struct index_slot *slot, struct prng *prng,
			 uint32_t key)
{
	struct index_entry *entry = &model->entry[key];
	switch (prng_below(prng, 3)) {
	case 0:
		index_touch(slot);
		entry->freq = (uint8_t)(entry->freq + (entry->freq < INDEX_FREQ_MAX));
		break;
	case 1:
		entry->freq = (uint8_t)prng_below(prng, INDEX_FREQ_MAX + 1);
		index_set_freq(slot, entry->freq);
		break;
	default:
		entry->expiry = (uint32_t)prng_next(prng);
		index_set_expiry(slot, entry->expiry);
	}
	check_slot(slot, entry);
}

static void model_check(const struct index *index, const struct model *model)
{
	assert_int_equal(index->count, model->count);
	assert_int_equal(index->bytes, model->bytes);
	uint64_t heads = 0;
	for (uint32_t key = 0; key < KEYS; key++)
		heads += model->there[key] && model->entry[key].codec == INDEX_HEAD;
	assert_int_equal(index->heads, heads);
	for (uint32_t key = 0; key < KEYS; key++) {
		const struct index_slot *slot = index_find(index, hash_of(key));
		assert_int_equal(slot != NULL, model->there[key]);
		if (slot)
			check_slot(slot, &model->entry[key]);
	}
}

/* An entry would be lost, found under another hash, or come back after its deletion. Key 0 has the
 * hash 0, which marks empty slots; key 1 has the one that 0 is stored as, so it is not used. */
static void test_index__is_a_hash_map(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	static struct model model;
	memset(&model, 0, sizeof model);
	struct index index;
	assert_int_equal(index_init(&index, ENTRIES), 0);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint32_t key = prng_below(&prng, KEYS);
		if (hash_of(key) == 1)
			continue;
		struct index_slot *slot = index_find(&index, hash_of(key));
		assert_int_equal(slot != NULL, model.there[key]);
		uint32_t what = prng_below(&prng, 8);
		if (what < 3 || !slot) {
			model_put(&index, &model, &prng, key);
		} else if (what < 6) {
			index_delete(&index, slot);
			model.there[key] = false;
			model.count--;
			model.bytes -= model.entry[key].bytes;
		} else {
			model_change(&model, slot, &prng, key);
		}
		if (round % 1000 == 0)
			model_check(&index, &model);
	}
	model_check(&index, &model);
	index_clear(&index);
	assert_int_equal(index.count + index.bytes + index.heads, 0);
	for (uint32_t key = 0; key < KEYS; key++)
		assert_null(index_find(&index, hash_of(key)));
	index_done(&index);
}

/* The index would take more than was promised an entry, the empty slots included. */
static void test_index__takes_at_most_32_bytes_an_entry(void **state)
{
	(void)state;
	const uint64_t sizes[] = { 100, 1000, 65536, 65537, 1000000, (1 << 20) + 1 };
	for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct index index;
		assert_int_equal(index_init(&index, sizes[i]), 0);
		assert_true(index.memory <= 32 * sizes[i]);
		assert_int_equal(index.memory, index.slot_count * sizeof *index.slots);
		index_done(&index);
	}
}

/* A full table would loop for ever on a miss, or take one too many. */
static void test_index__is_full_at_entries_max(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct index index;
	for (uint64_t max = 1; max < 40; max++) {
		assert_int_equal(index_init(&index, max), 0);
		uint64_t before = test_mallocs();
		for (uint64_t i = 0; i < max; i++)
			assert_int_equal(
				index_put(&index,
					  &(struct index_entry){ .hash = i << 60 | (i + 2) }),
				0);
		assert_int_equal(index_put(&index, &(struct index_entry){ .hash = 999 }),
				 HAUL_EFULL);
		assert_null(index_find(&index, 999));
		assert_int_equal(index_put(&index, &(struct index_entry){ .hash = 2 }), 0);
		assert_int_equal(index.count, max);
		assert_int_equal(test_mallocs(), before);
		index_done(&index);
	}
}

static bool match_segment(const struct index_slot *slot, void *arg)
{
	struct index_entry entry;
	index_unpack(slot, &entry);
	return entry.segment == *(uint32_t *)arg;
}

static void count_slot(const struct index_slot *slot, void *arg)
{
	assert_int_not_equal(slot->hash, 0);
	++*(uint64_t *)arg;
}

/* A whole-table deletion would miss entries that its own deletions moved. */
static void test_index__deletes_all_that_match(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t round = 0; round < 50; round++) {
		struct index index;
		assert_int_equal(index_init(&index, ENTRIES), 0);
		uint64_t wanted[4] = { 0 };
		for (uint32_t key = 2; key < ENTRIES; key++) {
			struct index_entry entry;
			random_entry(&prng, key, &entry);
			entry.segment = prng_below(&prng, 4);
			wanted[entry.segment]++;
			assert_int_equal(index_put(&index, &entry), 0);
		}
		uint32_t segment = 2;
		assert_int_equal(index_delete_if(&index, match_segment, &segment), wanted[2]);
		assert_int_equal(index_delete_if(&index, match_segment, &segment), 0);
		uint64_t left = 0;
		index_each(&index, count_slot, &left);
		assert_int_equal(left, wanted[0] + wanted[1] + wanted[3]);
		assert_int_equal(left, index.count);
		for (uint32_t key = 2; key < ENTRIES; key++) {
			index_prefetch(&index, hash_of(key));
			left -= index_find(&index, hash_of(key)) != NULL;
		}
		assert_int_equal(left, 0);
		index_done(&index);
	}
}

/* A naive order of use: keys, oldest first. */
struct order {
	uint32_t key[ENTRIES];
	uint32_t count;
};

static void order_drop(struct order *order, uint32_t key)
{
	for (uint32_t i = 0; i < order->count; i++) {
		if (order->key[i] != key)
			continue;
		memmove(order->key + i, order->key + i + 1,
			(order->count - i - 1) * sizeof order->key[0]);
		order->count--;
		return;
	}
}

static void order_step(struct index *index, struct order *order, struct prng *prng)
{
	uint32_t key = 2 + prng_below(prng, KEYS - 2);
	struct index_slot *slot = index_find(index, hash_of(key));
	uint32_t what = prng_below(prng, 8);
	if (!slot && index->count == index->entries_max) {
		slot = index_order_oldest(index);
		assert_int_equal(slot->hash, hash_of(order->key[0]));
		order_drop(order, order->key[0]);
		index_delete(index, slot);
		return;
	}
	if (slot && what == 0) {
		index_delete(index, slot);
		order_drop(order, key);
		return;
	}
	if (slot && what == 1) {
		index_order_leave(index, slot);
		index_order_leave(index, slot);
		order_drop(order, key);
		index_order_use(index, slot);
	}
	if (!slot)
		assert_int_equal(index_put(index, &(struct index_entry){ .hash = hash_of(key) }),
				 0);
	index_order_use(index, index_find(index, hash_of(key)));
	order_drop(order, key);
	order->key[order->count++] = key;
}

/* The entry that leaves would not be the one that was used least recently: compared with a naive
 * list, while deletions move slots about. */
static void test_index__keeps_the_order_of_use(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	static struct order order;
	order.count = 0;
	struct index index;
	assert_int_equal(index_init(&index, ENTRIES), 0);
	assert_null(index_order_oldest(&index));
	uint64_t memory = index.memory;
	assert_int_equal(index_order_init(&index), 0);
	assert_int_equal(index.memory - memory, 8 * index.slot_count);
	for (uint32_t round = 0; round < ROUNDS; round++)
		order_step(&index, &order, &prng);
	assert_int_equal(index.count, order.count);
	for (uint32_t i = 0; i < order.count; i++) {
		struct index_slot *slot = index_order_oldest(&index);
		assert_int_equal(slot->hash, hash_of(order.key[i]));
		if (i % 2)
			index_delete(&index, slot);
		else
			index_order_leave(&index, slot);
	}
	assert_null(index_order_oldest(&index));
	assert_int_equal(index_put(&index, &(struct index_entry){ .hash = 5 }), 0);
	index_order_use(&index, index_find(&index, 5));
	index_clear(&index);
	assert_null(index_order_oldest(&index));
	index_done(&index);
}

/* Set-up would leak, divide by nothing, or wrap around. */
static void test_index__says_what_it_cannot_hold(void **state)
{
	(void)state;
	struct index index = { .count = 7 };
	assert_int_equal(index_init(&index, 0), -EINVAL);
	assert_int_equal(index_init(&index, UINT64_MAX), -EINVAL);
	if (test_malloc_fail(0))
		assert_int_equal(index_init(&index, 1000), -ENOMEM);
	assert_int_equal(index.count, 7);
	assert_int_equal(index_init(&index, 1000), 0);
	if (test_malloc_fail(0))
		assert_int_equal(index_order_init(&index), -ENOMEM);
	assert_null(index.links);
	index_done(&index);
	index_done(&index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_index__is_a_hash_map),
		cmocka_unit_test(test_index__takes_at_most_32_bytes_an_entry),
		cmocka_unit_test(test_index__is_full_at_entries_max),
		cmocka_unit_test(test_index__deletes_all_that_match),
		cmocka_unit_test(test_index__keeps_the_order_of_use),
		cmocka_unit_test(test_index__says_what_it_cannot_hold),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
