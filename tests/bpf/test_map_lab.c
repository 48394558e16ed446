/* Needs root: the lab on batch operations that the maps grew from, on real maps and with every
 * engine. */
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>

#include "bpf/pair_lab.h"

enum {
	LAB_ENTRIES = 100, /* the lab's figures */
	LAB_LOOKED_UP = 50,
	LAB_DELETED = 25,
	LAB_ROOM = 1000,
	CONNECTIONS = 1000,
	QUERIED = 500,
};

static const enum haul_map_engine engines[] = { HAUL_MAP_AUTO, HAUL_MAP_SINGLE, HAUL_MAP_BATCH,
						HAUL_MAP_KERNEL };
enum { ENGINES = sizeof engines / sizeof *engines };

static const uint32_t hashes[] = { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH,
				   BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH };

static struct pair_seen seen;

/* ---- the lab's test ---- */

static void lab_test(uint32_t type, enum haul_map_engine engine)
{
	struct pair_lab lab;
	pair_lab_open(&lab, type, engine, LAB_ROOM);
	pair_lab_put_range(&lab, LAB_ENTRIES);
	assert_int_equal(pair_lab_count(&lab), LAB_ENTRIES);

	memset(lab.values, 0, (size_t)LAB_LOOKED_UP * lab.slot);
	pair_lab_get(&lab, 0, LAB_LOOKED_UP);
	assert_int_equal(lab.result.done, LAB_LOOKED_UP);
	assert_int_equal(lab.result.missing, 0);
	for (uint32_t i = 0; i < LAB_LOOKED_UP; i++) {
		assert_int_equal(lab.status[i], 0);
		for (uint32_t cpu = 0; cpu < lab.cpus; cpu++)
			assert_int_equal(pair_lab_at(&lab, i, cpu)->value, UINT64_C(3) * i + cpu);
	}

	const struct haul_map_rows first = pair_lab_rows(&lab, 0, LAB_DELETED);
	PAIR_LAB_BY_ENGINE(&lab, haul_map_delete, &first, &lab.result);
	assert_int_equal(lab.result.done, LAB_DELETED);
	assert_int_equal(lab.result.missing, 0);
	assert_int_equal(pair_lab_count(&lab), LAB_ENTRIES - LAB_DELETED);
	pair_lab_see_all(&lab, &seen, 1);
	for (uint32_t i = 0; i < LAB_ENTRIES; i++)
		assert_int_equal(seen.times[i], i >= LAB_DELETED);

	/* Once more: all of them are missing now, and that is no failure. */
	PAIR_LAB_BY_ENGINE(&lab, haul_map_delete, &first, &lab.result);
	assert_int_equal(lab.result.done, 0);
	assert_int_equal(lab.result.missing, LAB_DELETED);
	pair_lab_get(&lab, 0, LAB_LOOKED_UP);
	assert_int_equal(lab.result.done, LAB_LOOKED_UP - LAB_DELETED);
	assert_int_equal(lab.result.missing, LAB_DELETED);
	for (uint32_t i = 0; i < LAB_LOOKED_UP; i++)
		assert_int_equal(lab.status[i], i < LAB_DELETED ? -ENOENT : 0);
	pair_lab_close(&lab);
}

/* 100 inserted, 50 looked up, 25 deleted, 75 left: if this fails, nothing else is worth reading. */
static void test_map_lab__hundred_in_fifty_looked_up_seventy_five_left(void **state)
{
	(void)state;
	for (size_t type = 0; type < sizeof hashes / sizeof *hashes; type++)
		for (int engine = 0; engine < ENGINES; engine++)
			lab_test(hashes[type], engines[engine]);
}

/* What the engines must be able to do on a plain hash map by themselves: a test that always fell
 * back to another would not have tested them. */
static void test_map_lab__each_engine_does_its_own_work(void **state)
{
	(void)state;
	for (int engine = 0; engine < ENGINES; engine++) {
		struct pair_lab lab;
		pair_lab_open(&lab, BPF_MAP_TYPE_HASH, engines[engine], LAB_ROOM);
		for (uint32_t i = 0; i < LAB_ENTRIES; i++)
			pair_lab_set(&lab, i, i);
		const struct haul_map_rows all = pair_lab_rows(&lab, 0, LAB_ENTRIES);
		bool forced = engines[engine] != HAUL_MAP_AUTO;
		assert_int_equal(haul_map_update(lab.one, &all, HAUL_MAP_ANY, &lab.result), 0);
		if (forced)
			assert_int_equal(lab.result.engine, engines[engine]);
		int rc = haul_map_get(lab.one, &all, &lab.result);
		/* No system call looks up many given keys. */
		assert_int_equal(rc, engines[engine] == HAUL_MAP_BATCH ? -ENOTSUP : 0);
		assert_int_equal(haul_map_delete(lab.one, &all, &lab.result), 0);
		assert_int_equal(lab.result.done, LAB_ENTRIES);
		if (forced)
			assert_int_equal(lab.result.engine, engines[engine]);
		pair_lab_close(&lab);
	}
}

/* Arrays have all their entries always: they take and give values, and refuse to delete. */
static void test_map_lab__arrays_are_put_and_read(void **state)
{
	(void)state;
	static const uint32_t types[] = { BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY };
	for (size_t type = 0; type < 2; type++) {
		for (int engine = 0; engine < ENGINES; engine++) {
			struct pair_lab lab;
			pair_lab_open(&lab, types[type], engines[engine], LAB_ENTRIES);
			pair_lab_put_range(&lab, LAB_ENTRIES);
			memset(lab.values, 0, (size_t)LAB_LOOKED_UP * lab.slot);
			pair_lab_get(&lab, 0, LAB_LOOKED_UP);
			assert_int_equal(lab.result.done, LAB_LOOKED_UP);
			for (uint32_t i = 0; i < LAB_LOOKED_UP; i++)
				assert_int_equal(pair_lab_at(&lab, i, lab.cpus - 1)->value,
						 3 * i + lab.cpus - 1);
			pair_lab_see_all(&lab, &seen, 1);
			assert_int_equal(seen.count, LAB_ENTRIES);
			const struct haul_map_rows first = pair_lab_rows(&lab, 0, LAB_DELETED);
			assert_int_equal(haul_map_delete(lab.any, &first, &lab.result), -ENOTSUP);
			assert_int_equal(pair_lab_count(&lab), LAB_ENTRIES);
			pair_lab_close(&lab);
		}
	}
}

/* ---- exercise 1: filtered delete ---- */

static struct haul_map_field field_of(size_t offset)
{
	return (struct haul_map_field){ .offset = (uint32_t)offset, .width = 8 };
}

static uint32_t delete_model(const struct pair_lab *lab, const struct haul_map_filter *filter,
			     uint32_t count, uint8_t *left)
{
	uint32_t deleted = 0;
	for (uint32_t i = 0; i < count; i++) {
		bool match = haul_map_filter_match(haul_map_info(lab->any), filter, &lab->keys[i],
						   lab->values + (size_t)i * lab->slot);
		left[i] = !match;
		deleted += match;
	}
	return deleted;
}

static void delete_if(struct pair_lab *lab, const struct haul_map_filter *filter, uint32_t want)
{
	static uint8_t left[CONNECTIONS];
	pair_lab_put_range(lab, CONNECTIONS);
	uint32_t deleted = delete_model(lab, filter, CONNECTIONS, left);
	assert_int_equal(deleted, want);
	PAIR_LAB_BY_ENGINE(lab, haul_map_delete_if, filter, &lab->result);
	assert_int_equal(lab->result.done, deleted);
	assert_int_equal(lab->result.missing, 0);
	assert_int_equal(lab->result.visited, CONNECTIONS);
	pair_lab_see_all(lab, &seen, 1);
	for (uint32_t i = 0; i < CONNECTIONS; i++)
		assert_int_equal(seen.times[i], left[i]);
}

/* Exercise 1: what matches is deleted, nothing else, and the count says exactly how many. */
static void test_map_lab__filtered_delete_returns_the_exact_count(void **state)
{
	(void)state;
	const struct haul_map_filter none = {
		.count = 1,
		.conditions = { { field_of(offsetof(struct pair_entry, packets)), HAUL_MAP_EQ, 0 } }
	};
	const struct haul_map_filter odd = {
		.count = 1, .conditions = { { { .in_key = true, .width = 4 }, HAUL_MAP_ANYBIT, 1 } }
	};
	const struct haul_map_filter between = {
		.count = 2,
		.conditions = { { field_of(offsetof(struct pair_entry, bytes)), HAUL_MAP_GE,
				  20000 },
				{ { .in_key = true, .width = 4 }, HAUL_MAP_LT, 300 } }
	};
	const struct haul_map_filter all = { .count = 0 };
	for (int engine = 0; engine < ENGINES; engine++) {
		struct pair_lab lab;
		pair_lab_open(&lab, BPF_MAP_TYPE_HASH, engines[engine], CONNECTIONS);
		delete_if(&lab, &none, 0);
		delete_if(&lab, &odd, CONNECTIONS / 2);
		delete_if(&lab, &between, 100);
		delete_if(&lab, &all, CONNECTIONS);
		pair_lab_close(&lab);
	}
}

/* ---- exercise 2: upsert ---- */

static void upsert(struct pair_lab *lab, uint32_t count, uint64_t inserted, uint64_t updated)
{
	const struct haul_map_rows of = pair_lab_rows(lab, 0, count);
	PAIR_LAB_BY_ENGINE(lab, haul_map_upsert, &of, &lab->result);
	assert_int_equal(lab->result.done, count);
	assert_int_equal(lab->result.inserted, inserted);
	assert_int_equal(lab->result.updated, updated);
}

/* Exercise 2: how many were new and how many were there is exact, also when a key comes twice; the
 * last value stays. */
static void test_map_lab__upsert_counts_inserted_and_updated(void **state)
{
	(void)state;
	for (size_t type = 0; type < sizeof hashes / sizeof *hashes; type++) {
		for (int engine = 0; engine < ENGINES; engine++) {
			struct pair_lab lab;
			pair_lab_open(&lab, hashes[type], engines[engine], LAB_ROOM);
			for (uint32_t i = 0; i < LAB_ENTRIES; i++)
				pair_lab_set(&lab, i, i);
			upsert(&lab, LAB_ENTRIES, LAB_ENTRIES, 0);
			upsert(&lab, LAB_ENTRIES, 0, LAB_ENTRIES);
			for (uint32_t i = 0; i < LAB_ENTRIES; i++)
				pair_lab_set(&lab, i, i + LAB_ENTRIES / 2);
			upsert(&lab, LAB_ENTRIES, LAB_ENTRIES / 2, LAB_ENTRIES / 2);
			/* Three of the same, new to the map. */
			for (uint32_t i = 0; i < 3; i++) {
				pair_lab_set(&lab, i, 500);
				pair_lab_at(&lab, i, 0)->packets = 1000 + i;
			}
			upsert(&lab, 3, 1, 2);
			pair_lab_get(&lab, 0, 1);
			assert_int_equal(pair_lab_at(&lab, 0, 0)->packets, 1002);
			assert_int_equal(pair_lab_count(&lab), LAB_ENTRIES / 2 * 3 + 1);
			pair_lab_close(&lab);
		}
	}
}

/* ---- the connection table ---- */

struct totals {
	uint64_t count, packets, bytes;
};

static void connection_set(struct pair_lab *lab, struct prng *prng, uint32_t i,
			   struct totals *totals)
{
	pair_lab_set(lab, i, i);
	struct pair_entry *entry = pair_lab_at(lab, i, 0);
	entry->packets = prng_below(prng, 1000000);
	entry->bytes = prng_below(prng, 100000000);
	entry->last_seen_ms = prng_below(prng, 3600000);
	totals->count++;
	totals->packets += entry->packets;
	totals->bytes += entry->bytes;
}

static void assert_totals(struct pair_lab *lab, const struct totals *totals)
{
	struct haul_map_aggregate packets = { .field = field_of(
						      offsetof(struct pair_entry, packets)) };
	struct haul_map_aggregate bytes = { .field = field_of(offsetof(struct pair_entry, bytes)) };
	PAIR_LAB_BY_ENGINE(lab, haul_map_aggregate, &packets, &lab->result);
	PAIR_LAB_BY_ENGINE(lab, haul_map_aggregate, &bytes, &lab->result);
	assert_int_equal(packets.count, totals->count);
	assert_int_equal(packets.sum, totals->packets);
	assert_int_equal(packets.sum_high, 0);
	assert_int_equal(bytes.count, totals->count);
	assert_int_equal(bytes.sum, totals->bytes);
}

/* The lab's table: 1000 connections inserted, 500 queried and found, the statistics are those of a
 * model, and a clean-up removes exactly the old ones. */
static void test_map_lab__connection_table_agrees_with_a_model(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (int engine = 0; engine < ENGINES; engine++) {
		struct pair_lab lab;
		struct totals totals = { 0 }, young = { 0 };
		uint64_t cutoff_ms = 3600000 / 2;
		pair_lab_open(&lab, BPF_MAP_TYPE_HASH, engines[engine], PAIR_LAB_KEYS);
		for (uint32_t i = 0; i < CONNECTIONS; i++)
			connection_set(&lab, &prng, i, &totals);
		pair_lab_put(&lab, 0, CONNECTIONS);
		for (uint32_t i = 0; i < CONNECTIONS; i++) {
			const struct pair_entry *entry = pair_lab_at(&lab, i, 0);
			bool is_young = entry->last_seen_ms >= cutoff_ms;
			young.count += is_young;
			young.packets += is_young ? entry->packets : 0;
			young.bytes += is_young ? entry->bytes : 0;
		}
		assert_totals(&lab, &totals);
		pair_lab_get(&lab, 0, QUERIED);
		assert_int_equal(lab.result.done, QUERIED);

		const struct haul_map_filter old = {
			.count = 1,
			.conditions = { { field_of(offsetof(struct pair_entry, last_seen_ms)),
					  HAUL_MAP_LT, cutoff_ms } }
		};
		PAIR_LAB_BY_ENGINE(&lab, haul_map_delete_if, &old, &lab.result);
		assert_int_equal(lab.result.done, CONNECTIONS - young.count);
		assert_int_equal(pair_lab_count(&lab), young.count);
		assert_totals(&lab, &young);
		pair_lab_close(&lab);
	}
}

/* ---- the next step: values on every CPU ---- */

/* Each CPU has a value of its own; sums and filters are about all of them together. */
static void test_map_lab__values_of_all_cpus_are_folded(void **state)
{
	(void)state;
	for (int engine = 0; engine < ENGINES; engine++) {
		struct pair_lab lab;
		struct totals totals = { 0 };
		uint32_t above = 0;
		pair_lab_open(&lab, BPF_MAP_TYPE_PERCPU_HASH, engines[engine], LAB_ROOM);
		assert_true(lab.cpus <= PAIR_LAB_CPUS);
		for (uint32_t i = 0; i < LAB_ENTRIES; i++) {
			uint64_t packets = 0;
			pair_lab_set(&lab, i, i);
			for (uint32_t cpu = 0; cpu < lab.cpus; cpu++) {
				pair_lab_at(&lab, i, cpu)->packets = UINT64_C(10) * i + cpu;
				packets += UINT64_C(10) * i + cpu;
				totals.bytes += pair_lab_at(&lab, i, cpu)->bytes;
			}
			totals.count++;
			totals.packets += packets;
			above += packets >= 500;
		}
		pair_lab_put(&lab, 0, LAB_ENTRIES);
		assert_totals(&lab, &totals);

		const struct haul_map_filter large = {
			.count = 1,
			.conditions = { { field_of(offsetof(struct pair_entry, packets)),
					  HAUL_MAP_GE, 500 } }
		};
		PAIR_LAB_BY_ENGINE(&lab, haul_map_delete_if, &large, &lab.result);
		assert_int_equal(lab.result.done, above);
		assert_int_equal(pair_lab_count(&lab), LAB_ENTRIES - above);
		pair_lab_close(&lab);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_lab__hundred_in_fifty_looked_up_seventy_five_left),
		cmocka_unit_test(test_map_lab__each_engine_does_its_own_work),
		cmocka_unit_test(test_map_lab__arrays_are_put_and_read),
		cmocka_unit_test(test_map_lab__filtered_delete_returns_the_exact_count),
		cmocka_unit_test(test_map_lab__upsert_counts_inserted_and_updated),
		cmocka_unit_test(test_map_lab__connection_table_agrees_with_a_model),
		cmocka_unit_test(test_map_lab__values_of_all_cpus_are_folded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
