/* Imports into real maps: what they change, what they count, and what they refuse untouched. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "bpf/file_write.h"
#include "bpf/map_file_lab.h"
#include "bpf/map_file_sample.h"
#include "lib/testlib.h"

enum { BLOCK = 16, KEY_BYTES = 12, VALUE_BYTES = 20, ENTRIES = 100 };

static struct map_file_lab lab;
static char path[MAP_FILE_LAB_PATH];

static int open_lab(void **state)
{
	(void)state;
	map_file_lab_open(&lab, "16m");
	(void)map_file_lab_path(&lab, "x.map", path);
	return 0;
}

static int close_lab(void **state)
{
	(void)state;
	map_file_lab_close(&lab);
	return 0;
}

static bool is_array(uint32_t type)
{
	return type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY;
}

static struct haul_map *empty_map(uint32_t type, uint32_t max_entries)
{
	return map_file_lab_map(type, is_array(type) ? 4 : KEY_BYTES, VALUE_BYTES, max_entries);
}

/* LRU types begin to evict before they are full: all get room to spare, but for arrays. */
static struct haul_map *new_map(uint32_t type, struct prng *prng)
{
	struct haul_map *map = empty_map(type, is_array(type) ? ENTRIES : 4096);
	map_file_lab_fill(map, ENTRIES, prng);
	return map;
}

static void export_all(struct haul_map *const *maps, uint32_t count)
{
	const struct haul_map_export options = { .block_entries = BLOCK, .overwrite = true };
	struct haul_err err = { 0 };
	if (haul_map_export(maps, count, path, &options, NULL, &err) < 0)
		fail_msg("%s", err.text);
}

static struct haul_map_file_report import(struct haul_map *map, enum haul_map_import_mode mode)
{
	const struct haul_map_import options = { .mode = mode };
	struct haul_map_file_report report;
	struct haul_err err = { 0 };
	if (haul_map_import(&map, 1, path, &options, &report, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(report.entries, report.inserted + report.updated + report.unchanged);
	return report;
}

static void assert_counts(const struct haul_map_file_report *report, uint64_t inserted,
			  uint64_t updated, uint64_t unchanged, uint64_t deleted)
{
	assert_int_equal(report->inserted, inserted);
	assert_int_equal(report->updated, updated);
	assert_int_equal(report->unchanged, unchanged);
	assert_int_equal(report->deleted, deleted);
}

/* The import fails so, says so, and the map is as before. */
static void assert_refused(struct haul_map *map, enum haul_map_import_mode mode, int rc,
			   const char *text)
{
	const struct haul_map_import options = { .mode = mode };
	struct map_file_contents before;
	struct haul_map_file_report report;
	struct haul_err err = { 0 };
	map_file_contents_load(&before, map);
	assert_int_equal(haul_map_import(&map, 1, path, &options, &report, &err), rc);
	assert_int_equal(err.code, rc);
	if (strstr(err.text, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, text);
	assert_int_equal(report.inserted + report.updated + report.deleted, 0);
	assert_map_holds(map, &before);
	map_file_contents_free(&before);
}

/* Give row i of the map another value. */
static void change_entry(struct haul_map *map, const struct map_file_contents *contents, uint32_t i)
{
	const struct haul_map_info *info = haul_map_info(map);
	struct haul_map_result result;
	uint8_t *entry = contents->entries + (size_t)i * contents->entry_bytes;
	uint8_t *value = malloc(info->slot_bytes);
	const struct haul_map_rows rows = { .count = 1, .keys = entry, .values = value };
	memcpy(value, entry + info->key_size, info->slot_bytes);
	value[VALUE_BYTES - 1] ^= 0xff;
	assert_int_equal(haul_map_update(map, &rows, HAUL_MAP_ANY, &result), 0);
	free(value);
}

static void delete_entry(struct haul_map *map, const struct map_file_contents *contents, uint32_t i)
{
	struct haul_map_result result;
	const struct haul_map_rows rows = {
		.count = 1, .keys = contents->entries + (size_t)i * contents->entry_bytes
	};
	assert_int_equal(haul_map_delete(map, &rows, &result), 0);
	assert_int_equal(result.done, 1);
}

static const uint32_t types[] = {
	BPF_MAP_TYPE_HASH,         BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_PERCPU_HASH,
	BPF_MAP_TYPE_ARRAY,        BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_LRU_PERCPU_HASH,
	BPF_MAP_TYPE_PERCPU_ARRAY,
};
enum { TYPES = sizeof types / sizeof *types };

/* Every type that can be exported comes back as it was, into a new map and into its own. */
static void test_map_import__brings_every_type_back(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t i = 0; i < TYPES; i++) {
		struct haul_map *map = new_map(types[i], &prng);
		struct haul_map *copy = empty_map(types[i], haul_map_info(map)->max_entries);
		struct map_file_contents contents;
		map_file_contents_load(&contents, map);
		assert_int_equal(contents.count, ENTRIES);
		export_all(&map, 1);
		struct haul_map_file_report report = import(copy, HAUL_MAP_IMPORT_REPLACE);
		if (is_array(types[i]))
			assert_counts(&report, 0, ENTRIES, 0, 0);
		else
			assert_counts(&report, ENTRIES, 0, 0, 0);
		assert_map_holds(copy, &contents);
		report = import(map, HAUL_MAP_IMPORT_REPLACE);
		assert_counts(&report, 0, 0, ENTRIES, 0);
		assert_map_holds(map, &contents);
		map_file_contents_free(&contents);
		haul_map_close(map);
		haul_map_close(copy);
	}
}

/* Each mode does what it says to entries that are gone, changed, the same and new since, and
 * counts them exactly; of every type that can delete. */
static void test_map_import__modes_and_counts(void **state)
{
	(void)state;
	enum { CHANGED = 7, GONE = 5, NEW = 9 };
	struct prng prng;
	test_prng(&prng);
	for (uint32_t i = 0; i < TYPES * 3; i++) {
		const uint32_t type = types[i % TYPES];
		const enum haul_map_import_mode mode = i / TYPES;
		if (is_array(type))
			continue;
		struct haul_map *map = new_map(type, &prng);
		struct map_file_contents then, now;
		map_file_contents_load(&then, map);
		export_all(&map, 1);
		for (uint32_t k = 0; k < CHANGED; k++)
			change_entry(map, &then, k * 3);
		for (uint32_t k = 0; k < GONE; k++)
			delete_entry(map, &then, k * 4 + 50);
		if (type ==
		    BPF_MAP_TYPE_LPM_TRIE) { /* its keys are numbered: shorter ones are new */
			for (uint32_t k = 0; k < NEW; k++) {
				uint8_t key[KEY_BYTES] = { 32, 0, 0, 0, 200, (uint8_t)k };
				uint8_t value[VALUE_BYTES] = { 1 };
				struct haul_map_result result;
				const struct haul_map_rows rows = { .count = 1,
								    .keys = key,
								    .values = value };
				assert_int_equal(haul_map_update(map, &rows, HAUL_MAP_ANY, &result),
						 0);
			}
		} else {
			map_file_lab_fill(map, NEW, &prng);
		}
		map_file_contents_load(&now, map);
		assert_int_equal(now.count, ENTRIES - GONE + NEW);
		const struct haul_map_file_report report = import(map, mode);
		const uint32_t same = ENTRIES - GONE - CHANGED;
		switch (mode) {
		case HAUL_MAP_IMPORT_REPLACE:
			assert_counts(&report, GONE, CHANGED, same, NEW);
			assert_map_holds(map, &then);
			break;
		case HAUL_MAP_IMPORT_MERGE:
			assert_counts(&report, GONE, CHANGED, same, 0);
			break;
		case HAUL_MAP_IMPORT_ONLY_NEW:
			assert_counts(&report, GONE, 0, same + CHANGED, 0);
			for (uint32_t k = 0; k < GONE; k++)
				delete_entry(map, &then, k * 4 + 50);
			assert_map_holds(map, &now);
			break;
		}
		map_file_contents_free(&then);
		map_file_contents_free(&now);
		haul_map_close(map);
	}
}

/* An array has all entries always: replace sets to zero what a shorter file does not have, only-new
 * leaves all as it is. */
static void test_map_import__of_arrays(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t i = 0; i < TYPES; i++) {
		if (!is_array(types[i]))
			continue;
		struct haul_map *map = new_map(types[i], &prng);
		struct haul_map *longer = empty_map(types[i], ENTRIES + 50);
		struct map_file_contents contents;
		export_all(&map, 1);
		map_file_lab_fill(longer, ENTRIES + 20, &prng);
		map_file_contents_load(&contents, longer);
		struct haul_map_file_report report = import(longer, HAUL_MAP_IMPORT_ONLY_NEW);
		assert_counts(&report, 0, 0, ENTRIES, 0);
		assert_map_holds(longer, &contents);
		report = import(longer, HAUL_MAP_IMPORT_REPLACE);
		assert_counts(&report, 0, ENTRIES, 0, 20);
		map_file_contents_free(&contents);
		map_file_contents_load(&contents, longer);
		assert_int_equal(contents.count, ENTRIES + 50);
		uint32_t zero = 0;
		for (uint32_t k = 0; k < contents.count; k++) {
			const uint8_t *value = contents.entries + k * contents.entry_bytes + 4;
			zero += value[0] == 0 && memcmp(value, value + 1, VALUE_BYTES - 1) == 0;
		}
		assert_int_equal(zero, 50);
		map_file_contents_free(&contents);
		/* and the other way round it does not fit */
		export_all(&longer, 1);
		assert_refused(map, HAUL_MAP_IMPORT_MERGE, -EINVAL,
			       "has index 100, and the array lab");
		haul_map_close(map);
		haul_map_close(longer);
	}
}

static void put_prefix(struct haul_map *map, uint32_t bits, uint8_t value)
{
	uint8_t key[KEY_BYTES] = { 0 }, bytes[VALUE_BYTES];
	struct haul_map_result result;
	const struct haul_map_rows rows = { .count = 1, .keys = key, .values = bytes };
	memcpy(key, &bits, sizeof bits);
	memset(bytes, value, sizeof bytes);
	assert_int_equal(haul_map_update(map, &rows, HAUL_MAP_ANY, &result), 0);
}

/* A trie asked for a prefix it does not have answers with a shorter one, even of the same value:
 * that is not taken for the entry, in any mode. */
static void test_map_import__of_prefixes_within_prefixes(void **state)
{
	(void)state;
	enum { ROOM = 4, FILE_PREFIXES = 3 };
	struct haul_map *map = empty_map(BPF_MAP_TYPE_LPM_TRIE, ROOM);
	struct map_file_contents contents;
	for (uint32_t bits = 8; bits <= 24; bits += 8)
		put_prefix(map, bits, 1);
	map_file_contents_load(&contents, map);
	export_all(&map, 1);
	for (int mode = 0; mode < 3; mode++) {
		struct haul_map *other = empty_map(BPF_MAP_TYPE_LPM_TRIE, ROOM);
		put_prefix(other, 8, 1);
		const struct haul_map_file_report report =
			import(other, (enum haul_map_import_mode)mode);
		assert_counts(&report, FILE_PREFIXES - 1, 0, 1, 0);
		assert_map_holds(other, &contents);
		haul_map_close(other);
	}
	struct haul_map *full = empty_map(BPF_MAP_TYPE_LPM_TRIE, ROOM);
	put_prefix(full, 0, 1);
	put_prefix(full, 1, 1);
	assert_refused(full, HAUL_MAP_IMPORT_MERGE, HAUL_EFULL, "2 are there and 3 would");
	const struct haul_map_file_report report = import(full, HAUL_MAP_IMPORT_REPLACE);
	assert_counts(&report, FILE_PREFIXES, 0, 0, 2);
	assert_map_holds(full, &contents);
	map_file_contents_free(&contents);
	haul_map_close(full);
	haul_map_close(map);
}

/* Several maps of one file go into as many, each into its own. */
static void test_map_import__several_maps(void **state)
{
	(void)state;
	struct prng prng;
	struct haul_map *from[3], *to[3];
	struct map_file_contents contents[3];
	struct haul_map_file_report report;
	struct haul_err err = { 0 };
	test_prng(&prng);
	for (uint32_t i = 0; i < 3; i++) {
		from[i] = empty_map(BPF_MAP_TYPE_HASH, 200);
		to[i] = empty_map(BPF_MAP_TYPE_HASH, 200);
		if (i != 1)
			map_file_lab_fill(from[i], ENTRIES, &prng);
		map_file_lab_fill(to[i], 10, &prng);
		map_file_contents_load(&contents[i], from[i]);
	}
	export_all(from, 3);
	assert_int_equal(haul_map_import(to, 3, path, NULL, &report, &err), 0);
	assert_counts(&report, 2 * ENTRIES, 0, 0, 30);
	assert_int_equal(report.expected, 2 * ENTRIES);
	for (uint32_t i = 0; i < 3; i++)
		assert_map_holds(to[i], &contents[i]);
	assert_refused(to[0], HAUL_MAP_IMPORT_MERGE, -EINVAL, "x.map: holds 3 maps, not 1");
	for (uint32_t i = 0; i < 3; i++) {
		map_file_contents_free(&contents[i]);
		haul_map_close(from[i]);
		haul_map_close(to[i]);
	}
}

/* A file cut at any byte, with any byte wrong, or with bytes behind its end changes nothing. */
static void test_map_import__of_a_bad_file_writes_nothing(void **state)
{
	(void)state;
	struct prng prng;
	struct file_bytes file;
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, &prng);
	struct haul_map *victim = new_map(BPF_MAP_TYPE_HASH, &prng);
	export_all(&map, 1);
	file_bytes_load(&file, path);
	for (size_t bytes = 0; bytes < file.bytes; bytes += 1 + bytes / 16) {
		const struct file_bytes torn = { .data = file.data, .bytes = bytes };
		file_bytes_store(&torn, path);
		assert_refused(victim, HAUL_MAP_IMPORT_REPLACE, HAUL_ESHORT, "x.map: ends at");
	}
	for (int i = 0; i < 50; i++) {
		const uint32_t at = prng_below(&prng, (uint32_t)file.bytes - 4);
		const uint8_t was = file.data[at];
		file.data[at] ^= (uint8_t)(1 + prng_below(&prng, 255));
		file_bytes_store(&file, path);
		struct haul_err err;
		const int rc = haul_map_file_read(path, NULL, NULL, NULL, &err);
		assert_true(rc < 0);
		assert_refused(victim, HAUL_MAP_IMPORT_REPLACE, rc, "x.map: ");
		file.data[at] = was;
	}
	file.data[file.bytes++] = 0;
	file_bytes_store(&file, path);
	assert_refused(victim, HAUL_MAP_IMPORT_MERGE, HAUL_ELONG, "behind the end mark");
	assert_int_equal(unlink(path), 0);
	assert_refused(victim, HAUL_MAP_IMPORT_MERGE, -ENOENT, "x.map: No such file");
	file_bytes_free(&file);
	haul_map_close(map);
	haul_map_close(victim);
}

static void assert_header_refused(struct haul_map *map, uint32_t offset, uint32_t value,
				  const char *text)
{
	struct file_bytes file, changed;
	file_bytes_load(&file, path);
	changed = (struct file_bytes){ .data = malloc(file.bytes), .bytes = file.bytes };
	memcpy(changed.data, file.data, file.bytes);
	le32_store(changed.data + offset, value);
	map_file_repair(changed.data, changed.bytes);
	file_bytes_store(&changed, path);
	assert_refused(map, HAUL_MAP_IMPORT_MERGE, -EINVAL, text);
	file_bytes_store(&file, path);
	file_bytes_free(&file);
	file_bytes_free(&changed);
}

/* A good file of another map: other sizes, kind, byte order or CPUs are told with both figures. */
static void test_map_import__into_a_map_of_other_sizes(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, &prng);
	struct haul_map *key = map_file_lab_map(BPF_MAP_TYPE_HASH, 16, VALUE_BYTES, 128);
	struct haul_map *value = map_file_lab_map(BPF_MAP_TYPE_HASH, KEY_BYTES, 24, 128);
	struct haul_map *trie = empty_map(BPF_MAP_TYPE_LPM_TRIE, 128);
	struct haul_map *cpus = new_map(BPF_MAP_TYPE_PERCPU_HASH, &prng);
	struct haul_map *lru = empty_map(BPF_MAP_TYPE_LRU_HASH, 4096);
	export_all(&map, 1);
	assert_refused(
		key, HAUL_MAP_IMPORT_MERGE, -EINVAL,
		"keys of 12 and values of 20 bytes; the map has keys of 16 and values of 20");
	assert_refused(value, HAUL_MAP_IMPORT_MERGE, -EINVAL, "values of 24");
	assert_refused(trie, HAUL_MAP_IMPORT_MERGE, -EINVAL, "of type hash, which does not go");
	assert_refused(cpus, HAUL_MAP_IMPORT_MERGE, -EINVAL, "1 values an entry (one a CPU)");
	assert_header_refused(map, FILE_OFF_FLAGS, FILE_BIG_ENDIAN, "of the other byte order");
	const struct haul_map_file_report report = import(lru, HAUL_MAP_IMPORT_MERGE);
	assert_counts(&report, ENTRIES, 0, 0, 0);
	haul_map_close(map);
	haul_map_close(key);
	haul_map_close(value);
	haul_map_close(trie);
	haul_map_close(cpus);
	haul_map_close(lru);
}

/* A map that cannot hold it all is told before the first entry is written, counting what is there
 * only where it stays; a map full of others is room enough for replace. */
static void test_map_import__into_a_full_map(void **state)
{
	(void)state;
	struct prng prng;
	struct map_file_contents contents;
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, &prng);
	struct haul_map *small = empty_map(BPF_MAP_TYPE_HASH, ENTRIES - 1);
	struct haul_map *tight = empty_map(BPF_MAP_TYPE_HASH, ENTRIES);
	map_file_contents_load(&contents, map);
	export_all(&map, 1);
	assert_refused(small, HAUL_MAP_IMPORT_REPLACE, HAUL_EFULL,
		       "holds at most 99 entries; 0 are there and 100 would be added");
	assert_refused(small, HAUL_MAP_IMPORT_ONLY_NEW, HAUL_EFULL, "nothing was written");
	map_file_lab_fill(tight, 1, &prng);
	assert_refused(tight, HAUL_MAP_IMPORT_MERGE, HAUL_EFULL, "1 are there and 100 would");
	map_file_lab_fill(tight, ENTRIES - 1, &prng);
	struct haul_map_file_report report = import(tight, HAUL_MAP_IMPORT_REPLACE);
	assert_counts(&report, ENTRIES, 0, 0, ENTRIES);
	assert_map_holds(tight, &contents);
	report = import(tight, HAUL_MAP_IMPORT_MERGE); /* full, and nothing is added */
	assert_counts(&report, 0, 0, ENTRIES, 0);
	map_file_contents_free(&contents);
	haul_map_close(map);
	haul_map_close(small);
	haul_map_close(tight);
}

/* A dry run verifies as much and writes as little as one can. */
static void test_map_import__dry_run_writes_nothing(void **state)
{
	(void)state;
	const struct haul_map_import options = { .dry_run = true };
	struct prng prng;
	struct map_file_contents before;
	struct haul_map_file_report report;
	struct haul_err err = { 0 };
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, &prng);
	struct haul_map *other = new_map(BPF_MAP_TYPE_HASH, &prng);
	map_file_contents_load(&before, other);
	export_all(&map, 1);
	assert_int_equal(haul_map_import(&other, 1, path, &options, &report, &err), 0);
	assert_int_equal(report.entries, ENTRIES);
	assert_counts(&report, 0, 0, 0, 0);
	assert_map_holds(other, &before);
	map_file_contents_free(&before);
	haul_map_close(map);
	haul_map_close(other);
}

static int stop_at_once(uint64_t done, uint64_t expected, void *arg)
{
	(void)arg;
	assert_true(done > 0);
	assert_int_equal(expected, ENTRIES);
	return 1;
}

/* Stopped on its way, the report says how far it came. */
static void test_map_import__stops_when_progress_says_so(void **state)
{
	(void)state;
	const struct haul_map_import options = { .mode = HAUL_MAP_IMPORT_MERGE,
						 .progress = stop_at_once };
	struct prng prng;
	struct haul_map_file_report report;
	struct haul_map_result result;
	struct haul_err err = { 0 };
	uint64_t count;
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, &prng);
	struct haul_map *other = empty_map(BPF_MAP_TYPE_HASH, 4096);
	export_all(&map, 1);
	assert_int_equal(haul_map_import(&other, 1, path, &options, &report, &err), 1);
	assert_int_equal(haul_map_count(other, &count, &result), 0);
	assert_int_equal(count, report.inserted);
	assert_true(count > 0 && count < ENTRIES);
	haul_map_close(map);
	haul_map_close(other);
}

/* The progress of an import: behind the first block the map becomes full. */
static int fill_up(uint64_t done, uint64_t expected, void *arg)
{
	struct haul_map *map = arg;
	struct haul_map_result result;
	uint8_t key[KEY_BYTES] = { 0 }, value[VALUE_BYTES] = { 0 };
	const struct haul_map_rows rows = { .count = 1, .keys = key, .values = value };
	uint32_t number = 0;
	(void)expected;
	if (done > ENTRIES / 2)
		return 0;
	do {
		number++;
		memcpy(key, &number, sizeof number);
	} while (haul_map_update(map, &rows, HAUL_MAP_ANY, &result) == 0);
	return 0;
}

/* When writing itself fails half-way the text says why and the report how much came in: so many
 * there are. */
static void test_map_import__tells_how_much_was_written(void **state)
{
	(void)state;
	struct prng prng;
	struct haul_map_file_report report;
	struct haul_err err = { 0 };
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, &prng);
	struct haul_map *other = empty_map(BPF_MAP_TYPE_HASH, 2 * ENTRIES);
	struct map_file_contents from, now;
	const struct haul_map_import options = { .mode = HAUL_MAP_IMPORT_MERGE,
						 .progress = fill_up,
						 .arg = other };
	export_all(&map, 1);
	assert_int_equal(haul_map_import(&other, 1, path, &options, &report, &err), -E2BIG);
	assert_non_null(strstr(err.text, "(the map is full); so far "));
	assert_true(report.inserted > 0 && report.inserted < ENTRIES);
	map_file_contents_load(&from, map);
	map_file_contents_load(&now, other);
	uint64_t there = 0;
	for (uint32_t i = 0, k = 0; i < from.count && k < now.count;) {
		const int order = memcmp(from.entries + i * from.entry_bytes,
					 now.entries + k * now.entry_bytes, from.entry_bytes);
		there += order == 0;
		i += order <= 0;
		k += order >= 0;
	}
	assert_int_equal(there, report.inserted);
	map_file_contents_free(&from);
	map_file_contents_free(&now);
	haul_map_close(map);
	haul_map_close(other);
}

/* Whichever allocation fails: before the first write the map is as it was; and the import, run
 * again, comes to the same end. */
static void test_map_import__survives_want_of_memory(void **state)
{
	(void)state;
	enum { ALLOCATIONS = 60 };
	struct prng prng;
	uint32_t failed = 0;
	struct map_file_contents then, before;
	if (!test_malloc_fail(UINT32_MAX))
		skip();
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, &prng);
	struct haul_map *other = new_map(BPF_MAP_TYPE_HASH, &prng);
	map_file_contents_load(&then, map);
	map_file_contents_load(&before, other);
	export_all(&map, 1);
	for (uint32_t i = 0; i < ALLOCATIONS; i++) {
		struct haul_map_file_report report;
		struct haul_err err = { 0 };
		(void)test_malloc_fail(i);
		const int rc = haul_map_import(&other, 1, path, NULL, &report, &err);
		(void)test_malloc_fail(UINT32_MAX);
		assert_true(rc == 0 || (rc == -ENOMEM && err.text[0] != 0));
		failed += rc != 0;
		if (rc < 0 && report.inserted + report.deleted == 0)
			assert_map_holds(other, &before);
		(void)import(other, HAUL_MAP_IMPORT_REPLACE);
		assert_map_holds(other, &then);
		map_file_contents_free(&before);
		map_file_lab_fill(other, 10, &prng);
		map_file_contents_load(&before, other);
	}
	assert_true(failed > 5);
	map_file_contents_free(&then);
	map_file_contents_free(&before);
	haul_map_close(map);
	haul_map_close(other);
}

/* A map that system calls may not write is told before anything else happens. */
static void test_map_import__into_a_read_only_map(void **state)
{
	(void)state;
	const struct haul_map_spec spec = {
		.name = "sealed",
		.type = BPF_MAP_TYPE_HASH,
		.flags = BPF_F_RDONLY,
		.key_size = KEY_BYTES,
		.value_size = VALUE_BYTES,
		.max_entries = 4096,
	};
	struct prng prng;
	struct haul_map *sealed, *frozen;
	struct haul_err err;
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, &prng);
	export_all(&map, 1);
	assert_int_equal(haul_map_create(&sealed, &spec, NULL, &err), 0);
	assert_refused(sealed, HAUL_MAP_IMPORT_MERGE, -EPERM, "is read-only to system calls");
	assert_int_equal(bpf_map_freeze(haul_map_fd(map)), 0);
	assert_int_equal(haul_map_open_fd(&frozen, haul_map_fd(map), NULL, &err), 0);
	assert_refused(frozen, HAUL_MAP_IMPORT_REPLACE, -EPERM, "is read-only to system calls");
	haul_map_close(frozen);
	haul_map_close(map);
	haul_map_close(sealed);
}

static int stop_reading(const struct haul_map_batch *batch, uint32_t map_index, void *arg)
{
	uint32_t *blocks = arg;
	assert_int_equal(map_index, 0);
	assert_true(batch->count > 0);
	return ++*blocks == 2 ? 42 : 0;
}

/* A reader may end it early, and its value comes back. */
static void test_map_file_read__ends_when_visit_says_so(void **state)
{
	(void)state;
	struct prng prng;
	struct haul_map_file_info info;
	struct haul_err err = { 0 };
	uint32_t blocks = 0;
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, &prng);
	export_all(&map, 1);
	assert_int_equal(haul_map_file_read(path, &info, stop_reading, &blocks, &err), 42);
	assert_int_equal(blocks, 2);
	assert_false(info.complete);
	haul_map_close(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_import__brings_every_type_back),
		cmocka_unit_test(test_map_import__modes_and_counts),
		cmocka_unit_test(test_map_import__of_arrays),
		cmocka_unit_test(test_map_import__of_prefixes_within_prefixes),
		cmocka_unit_test(test_map_import__several_maps),
		cmocka_unit_test(test_map_import__of_a_bad_file_writes_nothing),
		cmocka_unit_test(test_map_import__into_a_map_of_other_sizes),
		cmocka_unit_test(test_map_import__into_a_full_map),
		cmocka_unit_test(test_map_import__dry_run_writes_nothing),
		cmocka_unit_test(test_map_import__stops_when_progress_says_so),
		cmocka_unit_test(test_map_import__tells_how_much_was_written),
		cmocka_unit_test(test_map_import__survives_want_of_memory),
		cmocka_unit_test(test_map_import__into_a_read_only_map),
		cmocka_unit_test(test_map_file_read__ends_when_visit_says_so),
	};
	return cmocka_run_group_tests(tests, open_lab, close_lab);
}
