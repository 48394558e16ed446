/* Needs root: the lab on batch operations that the maps grew from, on real maps and with every
 * engine: its test, its connection table, its iterator, its three exercises and its next step. */
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <haul/map.h>
#include "lib/testlib.h"

enum {
	LAB_ENTRIES = 100, /* the lab's figures */
	LAB_LOOKED_UP = 50,
	LAB_DELETED = 25,
	LAB_ROOM = 1000,
	CONNECTIONS = 1000,
	QUERIED = 500,
	STEP = 100,
	MANY = 10000,
	CPUS_MAX = 256
};

/* The lab's value. */
struct entry {
	uint64_t value;
	uint64_t packets;
	uint64_t bytes;
	uint64_t last_seen_ms;
};

static const enum haul_map_engine engines[] = { HAUL_MAP_AUTO, HAUL_MAP_SINGLE, HAUL_MAP_BATCH,
						HAUL_MAP_KERNEL };
enum { ENGINES = sizeof engines / sizeof *engines };

static const uint32_t hashes[] = { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH,
				   BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH };

/* One map by two handles: one that has only the engine under test, and one that has all. An engine
 * that says it cannot do something lets the other do it, as a user would. */
struct lab {
	struct haul_map *any, *one;
	uint32_t cpus;
	uint32_t slot; /* bytes of an entry's value */
	uint32_t *keys;
	uint8_t *values;
	int *status;
	struct haul_map_result result;
};

static void lab_open_batch(struct lab *lab, uint32_t type, enum haul_map_engine engine,
			   uint32_t room, uint32_t batch)
{
	const struct haul_map_spec spec = { .name = "test_lab",
					    .type = type,
					    .key_size = sizeof(uint32_t),
					    .value_size = sizeof(struct entry),
					    .max_entries = room };
	const struct haul_map_options options = { .engine = engine, .batch = batch };
	struct haul_err err = { 0 };
	int rc = haul_map_create(&lab->any, &spec, NULL, &err);
	if (rc == -EPERM)
		test_skip(err.text);
	if (rc < 0)
		fail_msg("%s", err.text);
	assert_int_equal(haul_map_open_fd(&lab->one, haul_map_fd(lab->any), &options, &err), 0);
	const struct haul_map_info *info = haul_map_info(lab->any);
	lab->cpus = info->cpus;
	lab->slot = info->slot_bytes;
	assert_int_equal(lab->slot, lab->cpus * sizeof(struct entry));
	lab->keys = calloc(room, sizeof *lab->keys);
	lab->values = calloc(room, lab->slot);
	lab->status = calloc(room, sizeof *lab->status);
	assert_non_null(lab->keys);
	assert_non_null(lab->values);
	assert_non_null(lab->status);
}

static void lab_open(struct lab *lab, uint32_t type, enum haul_map_engine engine, uint32_t room)
{
	lab_open_batch(lab, type, engine, room, 0);
}

static void lab_close(struct lab *lab)
{
	haul_map_close(lab->one);
	haul_map_close(lab->any);
	free(lab->keys);
	free(lab->values);
	free(lab->status);
}

/* Row row's value on one CPU. */
static struct entry *at(const struct lab *lab, uint32_t row, uint32_t cpu)
{
	return (struct entry *)(void *)(lab->values + (size_t)row * lab->slot) + cpu;
}

/* Row row is of this key, and each CPU's value follows from it. */
static void row_set(struct lab *lab, uint32_t row, uint32_t key)
{
	lab->keys[row] = key;
	for (uint32_t cpu = 0; cpu < lab->cpus; cpu++)
		*at(lab, row, cpu) = (struct entry){ .value = UINT64_C(3) * key + cpu,
						     .packets = key + 1,
						     .bytes = UINT64_C(100) * key,
						     .last_seen_ms = key };
}

static struct haul_map_rows rows(struct lab *lab, uint32_t first, uint32_t count)
{
	return (struct haul_map_rows){ .count = count,
				       .keys = lab->keys + first,
				       .values = lab->values + (size_t)first * lab->slot,
				       .status = lab->status + first };
}

/* An operation by the engine under test, or by any. */
#define BY_ENGINE(lab, call, ...)                                                                  \
	do {                                                                                       \
		int by_rc = call((lab)->one, __VA_ARGS__);                                         \
		if (by_rc == -ENOTSUP)                                                             \
			by_rc = call((lab)->any, __VA_ARGS__);                                     \
		assert_int_equal(by_rc, 0);                                                        \
	} while (0)

static void put(struct lab *lab, uint32_t first, uint32_t count)
{
	const struct haul_map_rows of = rows(lab, first, count);
	BY_ENGINE(lab, haul_map_update, &of, HAUL_MAP_ANY, &lab->result);
	assert_int_equal(lab->result.done, count);
	assert_int_equal(lab->result.failed_index, -1);
}

static void get(struct lab *lab, uint32_t first, uint32_t count)
{
	const struct haul_map_rows of = rows(lab, first, count);
	BY_ENGINE(lab, haul_map_get, &of, &lab->result);
}

static void put_range(struct lab *lab, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		row_set(lab, i, i);
	put(lab, 0, count);
}

static uint64_t count_of(struct lab *lab)
{
	uint64_t count = 0;
	BY_ENGINE(lab, haul_map_count, &count, &lab->result);
	return count;
}

/* Which keys a map has: each once, with the values that belong to it. */
struct seen {
	const struct lab *lab;
	uint32_t count;
	uint8_t times[MANY];
};

static int see(const struct haul_map_batch *batch, void *arg)
{
	struct seen *seen = arg;
	for (uint32_t i = 0; i < batch->count; i++) {
		uint32_t key;
		struct entry value[CPUS_MAX];
		memcpy(&key, haul_map_key(batch, i), sizeof key);
		memcpy(value, haul_map_value(batch, i), seen->lab->slot);
		assert_true(key < MANY);
		for (uint32_t cpu = 0; cpu < seen->lab->cpus; cpu++)
			assert_int_equal(value[cpu].value, UINT64_C(3) * key + cpu);
		__atomic_fetch_add(&seen->times[key], 1, __ATOMIC_RELAXED);
		__atomic_fetch_add(&seen->count, 1, __ATOMIC_RELAXED);
	}
	return 0;
}

static struct seen seen;

static void see_all(struct lab *lab, uint32_t threads)
{
	const struct haul_map_scan scan = { .threads = threads, .visit = see, .arg = &seen };
	struct haul_map_report report;
	memset(&seen, 0, sizeof seen);
	seen.lab = lab;
	BY_ENGINE(lab, haul_map_scan, &scan, &report);
	assert_int_equal(report.read, seen.count);
}

/* ---- the lab's test ---- */

static void lab_test(uint32_t type, enum haul_map_engine engine)
{
	struct lab lab;
	lab_open(&lab, type, engine, LAB_ROOM);
	put_range(&lab, LAB_ENTRIES);
	assert_int_equal(count_of(&lab), LAB_ENTRIES);

	memset(lab.values, 0, (size_t)LAB_LOOKED_UP * lab.slot);
	get(&lab, 0, LAB_LOOKED_UP);
	assert_int_equal(lab.result.done, LAB_LOOKED_UP);
	assert_int_equal(lab.result.missing, 0);
	for (uint32_t i = 0; i < LAB_LOOKED_UP; i++) {
		assert_int_equal(lab.status[i], 0);
		for (uint32_t cpu = 0; cpu < lab.cpus; cpu++)
			assert_int_equal(at(&lab, i, cpu)->value, UINT64_C(3) * i + cpu);
	}

	const struct haul_map_rows first = rows(&lab, 0, LAB_DELETED);
	BY_ENGINE(&lab, haul_map_delete, &first, &lab.result);
	assert_int_equal(lab.result.done, LAB_DELETED);
	assert_int_equal(lab.result.missing, 0);
	assert_int_equal(count_of(&lab), LAB_ENTRIES - LAB_DELETED);
	see_all(&lab, 1);
	for (uint32_t i = 0; i < LAB_ENTRIES; i++)
		assert_int_equal(seen.times[i], i >= LAB_DELETED);

	/* Once more: all of them are missing now, and that is no failure. */
	BY_ENGINE(&lab, haul_map_delete, &first, &lab.result);
	assert_int_equal(lab.result.done, 0);
	assert_int_equal(lab.result.missing, LAB_DELETED);
	get(&lab, 0, LAB_LOOKED_UP);
	assert_int_equal(lab.result.done, LAB_LOOKED_UP - LAB_DELETED);
	assert_int_equal(lab.result.missing, LAB_DELETED);
	for (uint32_t i = 0; i < LAB_LOOKED_UP; i++)
		assert_int_equal(lab.status[i], i < LAB_DELETED ? -ENOENT : 0);
	lab_close(&lab);
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
		struct lab lab;
		lab_open(&lab, BPF_MAP_TYPE_HASH, engines[engine], LAB_ROOM);
		for (uint32_t i = 0; i < LAB_ENTRIES; i++)
			row_set(&lab, i, i);
		const struct haul_map_rows all = rows(&lab, 0, LAB_ENTRIES);
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
		lab_close(&lab);
	}
}

/* Arrays have all their entries always: they take and give values, and refuse to delete. */
static void test_map_lab__arrays_are_put_and_read(void **state)
{
	(void)state;
	static const uint32_t types[] = { BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_PERCPU_ARRAY };
	for (size_t type = 0; type < 2; type++) {
		for (int engine = 0; engine < ENGINES; engine++) {
			struct lab lab;
			lab_open(&lab, types[type], engines[engine], LAB_ENTRIES);
			put_range(&lab, LAB_ENTRIES);
			memset(lab.values, 0, (size_t)LAB_LOOKED_UP * lab.slot);
			get(&lab, 0, LAB_LOOKED_UP);
			assert_int_equal(lab.result.done, LAB_LOOKED_UP);
			for (uint32_t i = 0; i < LAB_LOOKED_UP; i++)
				assert_int_equal(at(&lab, i, lab.cpus - 1)->value,
						 3 * i + lab.cpus - 1);
			see_all(&lab, 1);
			assert_int_equal(seen.count, LAB_ENTRIES);
			const struct haul_map_rows first = rows(&lab, 0, LAB_DELETED);
			assert_int_equal(haul_map_delete(lab.any, &first, &lab.result), -ENOTSUP);
			assert_int_equal(count_of(&lab), LAB_ENTRIES);
			lab_close(&lab);
		}
	}
}

/* ---- exercise 1: filtered delete ---- */

static struct haul_map_field field_of(size_t offset)
{
	return (struct haul_map_field){ .offset = (uint32_t)offset, .width = 8 };
}

static uint32_t delete_model(const struct lab *lab, const struct haul_map_filter *filter,
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

static void delete_if(struct lab *lab, const struct haul_map_filter *filter, uint32_t want)
{
	static uint8_t left[CONNECTIONS];
	put_range(lab, CONNECTIONS);
	uint32_t deleted = delete_model(lab, filter, CONNECTIONS, left);
	assert_int_equal(deleted, want);
	BY_ENGINE(lab, haul_map_delete_if, filter, &lab->result);
	assert_int_equal(lab->result.done, deleted);
	assert_int_equal(lab->result.missing, 0);
	assert_int_equal(lab->result.visited, CONNECTIONS);
	see_all(lab, 1);
	for (uint32_t i = 0; i < CONNECTIONS; i++)
		assert_int_equal(seen.times[i], left[i]);
}

/* Exercise 1: what matches is deleted, nothing else, and the count says exactly how many. */
static void test_map_lab__filtered_delete_returns_the_exact_count(void **state)
{
	(void)state;
	const struct haul_map_filter none = {
		.count = 1,
		.conditions = { { field_of(offsetof(struct entry, packets)), HAUL_MAP_EQ, 0 } }
	};
	const struct haul_map_filter odd = {
		.count = 1, .conditions = { { { .in_key = true, .width = 4 }, HAUL_MAP_ANYBIT, 1 } }
	};
	const struct haul_map_filter between = {
		.count = 2,
		.conditions = { { field_of(offsetof(struct entry, bytes)), HAUL_MAP_GE, 20000 },
				{ { .in_key = true, .width = 4 }, HAUL_MAP_LT, 300 } }
	};
	const struct haul_map_filter all = { .count = 0 };
	for (int engine = 0; engine < ENGINES; engine++) {
		struct lab lab;
		lab_open(&lab, BPF_MAP_TYPE_HASH, engines[engine], CONNECTIONS);
		delete_if(&lab, &none, 0);
		delete_if(&lab, &odd, CONNECTIONS / 2);
		delete_if(&lab, &between, 100);
		delete_if(&lab, &all, CONNECTIONS);
		lab_close(&lab);
	}
}

/* ---- exercise 2: upsert ---- */

static void upsert(struct lab *lab, uint32_t count, uint64_t inserted, uint64_t updated)
{
	const struct haul_map_rows of = rows(lab, 0, count);
	BY_ENGINE(lab, haul_map_upsert, &of, &lab->result);
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
			struct lab lab;
			lab_open(&lab, hashes[type], engines[engine], LAB_ROOM);
			for (uint32_t i = 0; i < LAB_ENTRIES; i++)
				row_set(&lab, i, i);
			upsert(&lab, LAB_ENTRIES, LAB_ENTRIES, 0);
			upsert(&lab, LAB_ENTRIES, 0, LAB_ENTRIES);
			for (uint32_t i = 0; i < LAB_ENTRIES; i++)
				row_set(&lab, i, i + LAB_ENTRIES / 2);
			upsert(&lab, LAB_ENTRIES, LAB_ENTRIES / 2, LAB_ENTRIES / 2);
			/* Three of the same, new to the map. */
			for (uint32_t i = 0; i < 3; i++) {
				row_set(&lab, i, 500);
				at(&lab, i, 0)->packets = 1000 + i;
			}
			upsert(&lab, 3, 1, 2);
			get(&lab, 0, 1);
			assert_int_equal(at(&lab, 0, 0)->packets, 1002);
			assert_int_equal(count_of(&lab), LAB_ENTRIES / 2 * 3 + 1);
			lab_close(&lab);
		}
	}
}

/* ---- exercise 3: streaming export ---- */

/* What a process that exports has told when it ends: how far it came, and where to go on. */
struct told {
	uint32_t count;
	struct haul_map_cursor cursor;
	uint32_t keys[MANY];
};
enum { TOLD_BYTES = offsetof(struct told, keys) };

static void write_all(int fd, const void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = write(fd, (const char *)data + done, bytes - done);
		if (n <= 0)
			_exit(3);
		done += (size_t)n;
	}
}

static void read_all(int fd, void *data, size_t bytes)
{
	for (size_t done = 0; done < bytes;) {
		ssize_t n = read(fd, (char *)data + done, bytes - done);
		assert_true(n > 0);
		done += (size_t)n;
	}
}

/* In a process of its own: so many batches from the checkpoint on, then gone without a farewell. */
_Noreturn static void export_part(const char *id, const struct haul_map_cursor *from,
				  uint32_t batches, int out_fd)
{
	static struct told told;
	const struct haul_map_options options = { .batch = STEP };
	struct haul_map *map;
	told.cursor = *from;
	if (haul_map_open(&map, id, &options, NULL) < 0)
		_exit(1);
	for (uint32_t i = 0; i < batches; i++) {
		struct haul_map_batch batch;
		struct haul_map_result result;
		int rc = haul_map_read(map, &told.cursor, &batch, &result);
		if (rc < 0)
			_exit(2);
		for (int k = 0; k < rc; k++)
			memcpy(&told.keys[told.count++], haul_map_key(&batch, (uint32_t)k),
			       sizeof told.keys[0]);
	}
	write_all(out_fd, &told, TOLD_BYTES);
	write_all(out_fd, told.keys, told.count * sizeof told.keys[0]);
	_exit(0);
}

static void export_resume(const char *id, const struct haul_map_cursor *from, uint32_t batches,
			  struct told *ret_told)
{
	int ends[2], status;
	assert_int_equal(pipe(ends), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(ends[0]);
		export_part(id, from, batches, ends[1]);
	}
	close(ends[1]);
	read_all(ends[0], ret_told, TOLD_BYTES);
	assert_true(ret_told->count <= MANY);
	read_all(ends[0], ret_told->keys, ret_told->count * sizeof ret_told->keys[0]);
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* Exercise 3: one process after another exports a few batches, each goes on where the one before
 * stopped, with nothing but the stored cursor; together they have each entry once. */
static void test_map_lab__export_goes_on_from_a_checkpoint(void **state)
{
	(void)state;
	static const uint32_t types[] = { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_PERCPU_HASH,
					  BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_ARRAY };
	static struct told told;
	for (size_t type = 0; type < sizeof types / sizeof *types; type++) {
		struct lab lab;
		char id[16];
		uint32_t turns = 0;
		struct haul_map_cursor cursor = { 0 };
		/* An LRU map evicts before it is full; an array has no room to spare. */
		lab_open(&lab, types[type], HAUL_MAP_AUTO,
			 types[type] == BPF_MAP_TYPE_ARRAY ? CONNECTIONS : 4 * CONNECTIONS);
		put_range(&lab, CONNECTIONS);
		snprintf(id, sizeof id, "%u", haul_map_info(lab.any)->id);
		memset(&seen, 0, sizeof seen);
		while (!cursor.ended) {
			export_resume(id, &cursor, 3, &told);
			for (uint32_t i = 0; i < told.count; i++) {
				assert_true(told.keys[i] < CONNECTIONS);
				seen.times[told.keys[i]]++;
			}
			cursor = told.cursor;
			assert_true(++turns <= CONNECTIONS);
		}
		assert_true(turns >= CONNECTIONS / STEP / 3); /* none gave more than it was asked */
		for (uint32_t i = 0; i < CONNECTIONS; i++)
			assert_int_equal(seen.times[i], 1);
		/* At the end there is nothing more, however often one asks. */
		export_resume(id, &cursor, 1, &told);
		assert_int_equal(told.count, 0);
		lab_close(&lab);
	}
}

/* Batches are fetched when they are asked for: what is deleted before is not in them. And a cursor
 * is good for its own map only. */
static void test_map_lab__batches_are_fetched_on_demand(void **state)
{
	(void)state;
	struct lab lab, other;
	struct haul_map_cursor cursor = { 0 }, before;
	struct haul_map_batch batch;
	struct haul_map_result result;
	lab_open_batch(&lab, BPF_MAP_TYPE_HASH, HAUL_MAP_BATCH, CONNECTIONS, STEP);
	lab_open(&other, BPF_MAP_TYPE_HASH, HAUL_MAP_BATCH, CONNECTIONS);
	put_range(&lab, CONNECTIONS);
	put_range(&other, CONNECTIONS);
	int first = haul_map_read(lab.one, &cursor, &batch, &result);
	assert_true(first > 0 && first <= STEP);
	assert_int_equal(batch.count, first);
	before = cursor;
	assert_int_equal(haul_map_read(other.one, &cursor, &batch, &result), -EINVAL);
	assert_memory_equal(&cursor, &before, sizeof cursor);

	const struct haul_map_filter all = { 0 };
	assert_int_equal(haul_map_delete_if(lab.any, &all, &result), 0);
	assert_int_equal(result.done, CONNECTIONS);
	assert_int_equal(haul_map_read(lab.one, &cursor, &batch, &result), 0);
	assert_int_equal(cursor.ended, 1);
	lab_close(&lab);
	lab_close(&other);
}

/* ---- the connection table ---- */

struct totals {
	uint64_t count, packets, bytes;
};

static void connection_set(struct lab *lab, struct prng *prng, uint32_t i, struct totals *totals)
{
	row_set(lab, i, i);
	struct entry *entry = at(lab, i, 0);
	entry->packets = prng_below(prng, 1000000);
	entry->bytes = prng_below(prng, 100000000);
	entry->last_seen_ms = prng_below(prng, 3600000);
	totals->count++;
	totals->packets += entry->packets;
	totals->bytes += entry->bytes;
}

static void assert_totals(struct lab *lab, const struct totals *totals)
{
	struct haul_map_aggregate packets = { .field = field_of(offsetof(struct entry, packets)) };
	struct haul_map_aggregate bytes = { .field = field_of(offsetof(struct entry, bytes)) };
	BY_ENGINE(lab, haul_map_aggregate, &packets, &lab->result);
	BY_ENGINE(lab, haul_map_aggregate, &bytes, &lab->result);
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
		struct lab lab;
		struct totals totals = { 0 }, young = { 0 };
		uint64_t cutoff_ms = 3600000 / 2;
		lab_open(&lab, BPF_MAP_TYPE_HASH, engines[engine], MANY);
		for (uint32_t i = 0; i < CONNECTIONS; i++)
			connection_set(&lab, &prng, i, &totals);
		put(&lab, 0, CONNECTIONS);
		for (uint32_t i = 0; i < CONNECTIONS; i++) {
			const struct entry *entry = at(&lab, i, 0);
			bool is_young = entry->last_seen_ms >= cutoff_ms;
			young.count += is_young;
			young.packets += is_young ? entry->packets : 0;
			young.bytes += is_young ? entry->bytes : 0;
		}
		assert_totals(&lab, &totals);
		get(&lab, 0, QUERIED);
		assert_int_equal(lab.result.done, QUERIED);

		const struct haul_map_filter old = {
			.count = 1,
			.conditions = { { field_of(offsetof(struct entry, last_seen_ms)),
					  HAUL_MAP_LT, cutoff_ms } }
		};
		BY_ENGINE(&lab, haul_map_delete_if, &old, &lab.result);
		assert_int_equal(lab.result.done, CONNECTIONS - young.count);
		assert_int_equal(count_of(&lab), young.count);
		assert_totals(&lab, &young);
		lab_close(&lab);
	}
}

/* ---- iterator, threads, sizes ---- */

/* 1000 entries in batches of 100: none is larger, and together they are all. */
static void test_map_lab__iterator_gives_batches_of_a_hundred(void **state)
{
	(void)state;
	struct lab lab;
	struct haul_map_cursor cursor = { 0 };
	struct haul_map_batch batch;
	struct haul_map_result result;
	uint32_t batches = 0;
	int rc;
	lab_open_batch(&lab, BPF_MAP_TYPE_HASH, HAUL_MAP_BATCH, CONNECTIONS, STEP);
	put_range(&lab, CONNECTIONS);
	memset(&seen, 0, sizeof seen);
	seen.lab = &lab;
	while ((rc = haul_map_read(lab.one, &cursor, &batch, &result)) > 0) {
		assert_true(rc <= STEP);
		assert_int_equal(batch.count, rc);
		see(&batch, &seen);
		batches++;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(seen.count, CONNECTIONS);
	assert_true(batches >= CONNECTIONS / STEP);
	for (uint32_t i = 0; i < CONNECTIONS; i++)
		assert_int_equal(seen.times[i], 1);
	lab_close(&lab);
}

/* Two, three and eight threads read what one reads: each entry once. */
static void test_map_lab__parallel_equals_sequential(void **state)
{
	(void)state;
	static const uint32_t threads[] = { 1, 2, 3, 8 };
	for (int engine = 0; engine < ENGINES; engine++) {
		struct lab lab;
		lab_open(&lab, BPF_MAP_TYPE_HASH, engines[engine], MANY);
		put_range(&lab, MANY);
		for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
			see_all(&lab, threads[i]);
			assert_int_equal(seen.count, MANY);
			for (uint32_t k = 0; k < MANY; k++)
				assert_int_equal(seen.times[k], 1);
		}
		lab_close(&lab);
	}
}

static uint64_t calls_at(struct lab *lab, uint32_t batch)
{
	const struct haul_map_options options = { .engine = HAUL_MAP_BATCH, .batch = batch };
	const struct haul_map_scan scan = { .visit = see, .arg = &seen };
	struct haul_map *map;
	struct haul_map_report report;
	assert_int_equal(haul_map_open_fd(&map, haul_map_fd(lab->any), &options, NULL), 0);
	memset(&seen, 0, sizeof seen);
	seen.lab = lab;
	assert_int_equal(haul_map_scan(map, &scan, &report), 0);
	assert_int_equal(report.read, MANY);
	haul_map_close(map);
	for (uint32_t k = 0; k < MANY; k++)
		assert_int_equal(seen.times[k], 1);
	return report.calls;
}

/* The size of the batch is a matter of memory and time, never of what is read: the lab's sizes,
 * from 16 to 2048, give the same, and larger ones in fewer calls. */
static void test_map_lab__batch_sizes_give_the_same(void **state)
{
	(void)state;
	struct lab lab;
	uint64_t calls = UINT64_MAX;
	lab_open(&lab, BPF_MAP_TYPE_HASH, HAUL_MAP_AUTO, MANY);
	put_range(&lab, MANY);
	for (uint32_t batch = 16; batch <= 2048; batch *= 2) {
		uint64_t now = calls_at(&lab, batch);
		assert_true(now < calls);
		assert_true(now >= MANY / batch);
		calls = now;
	}
	lab_close(&lab);
}

/* Keyed work in parts of the lab's sizes gives what one call for all gives. */
static void test_map_lab__parts_equal_the_whole(void **state)
{
	(void)state;
	for (int engine = 0; engine < ENGINES; engine++) {
		struct lab lab;
		lab_open(&lab, BPF_MAP_TYPE_HASH, engines[engine], MANY);
		for (uint32_t part = 16; part <= 2048; part *= 2) {
			for (uint32_t i = 0; i < MANY; i++)
				row_set(&lab, i, i);
			for (uint32_t i = 0; i < MANY; i += part)
				put(&lab, i, MANY - i < part ? MANY - i : part);
			memset(lab.values, 0, (size_t)MANY * lab.slot);
			for (uint32_t i = 0; i < MANY; i += part)
				get(&lab, i, MANY - i < part ? MANY - i : part);
			for (uint32_t i = 0; i < MANY; i++)
				assert_int_equal(at(&lab, i, 0)->value, UINT64_C(3) * i);
		}
		lab_close(&lab);
	}
}

/* ---- the next step: values on every CPU ---- */

/* Each CPU has a value of its own; sums and filters are about all of them together. */
static void test_map_lab__values_of_all_cpus_are_folded(void **state)
{
	(void)state;
	for (int engine = 0; engine < ENGINES; engine++) {
		struct lab lab;
		struct totals totals = { 0 };
		uint32_t above = 0;
		lab_open(&lab, BPF_MAP_TYPE_PERCPU_HASH, engines[engine], LAB_ROOM);
		assert_true(lab.cpus <= CPUS_MAX);
		for (uint32_t i = 0; i < LAB_ENTRIES; i++) {
			uint64_t packets = 0;
			row_set(&lab, i, i);
			for (uint32_t cpu = 0; cpu < lab.cpus; cpu++) {
				at(&lab, i, cpu)->packets = UINT64_C(10) * i + cpu;
				packets += UINT64_C(10) * i + cpu;
				totals.bytes += at(&lab, i, cpu)->bytes;
			}
			totals.count++;
			totals.packets += packets;
			above += packets >= 500;
		}
		put(&lab, 0, LAB_ENTRIES);
		assert_totals(&lab, &totals);

		const struct haul_map_filter large = {
			.count = 1,
			.conditions = { { field_of(offsetof(struct entry, packets)), HAUL_MAP_GE,
					  500 } }
		};
		BY_ENGINE(&lab, haul_map_delete_if, &large, &lab.result);
		assert_int_equal(lab.result.done, above);
		assert_int_equal(count_of(&lab), LAB_ENTRIES - above);
		lab_close(&lab);
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
		cmocka_unit_test(test_map_lab__export_goes_on_from_a_checkpoint),
		cmocka_unit_test(test_map_lab__batches_are_fetched_on_demand),
		cmocka_unit_test(test_map_lab__connection_table_agrees_with_a_model),
		cmocka_unit_test(test_map_lab__iterator_gives_batches_of_a_hundred),
		cmocka_unit_test(test_map_lab__parallel_equals_sequential),
		cmocka_unit_test(test_map_lab__batch_sizes_give_the_same),
		cmocka_unit_test(test_map_lab__parts_equal_the_whole),
		cmocka_unit_test(test_map_lab__values_of_all_cpus_are_folded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
