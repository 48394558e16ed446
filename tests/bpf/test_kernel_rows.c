/* bpf/test_kernel_rows.c — rows through the kernel engine against a naive model: every operation,
 * type and odd size, keys given twice, maps that fill up, and what the status column says. */
#include <bpf/bpf.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/kernel_lab.h"

enum { ROUNDS = 12, ENTRIES = 400 };

static const uint32_t key_sizes[] = { 1, 3, 4, 7, 8, 16, 40, 64, 511, 512 };
static const uint32_t value_sizes[] = { 1, 2, 3, 5, 7, 8, 12, 56, 96, 1023, 1024, 1025, 5000 };
enum {
	KEY_SIZES = sizeof key_sizes / sizeof *key_sizes,
	VALUE_SIZES = sizeof value_sizes / sizeof *value_sizes
};

/* Rows with few different keys, so that many stand in them twice. */
static struct haul_map_rows random_rows(struct kernel_lab *lab, struct prng *prng)
{
	const struct haul_map_info *info = &lab->map.info;
	uint32_t count = prng_below(prng, info->value_size > 1000 ? 150 : KERNEL_LAB_ROWS);
	uint32_t distinct = info->key_size == 1 ? 200 : info->max_entries * 3 / 4;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *key = lab->row_keys + (size_t)i * info->key_size;
		uint32_t number = prng_below(prng, distinct);
		memset(key, 0x5a, info->key_size);
		memcpy(key, &number, info->key_size < 4 ? info->key_size : 4);
		uint8_t *value = lab->row_values + (size_t)i * info->value_size;
		for (uint32_t j = 0; j < info->value_size; j++)
			value[j] = (uint8_t)prng_below(prng, 4);
	}
	memset(lab->status, 0x77, KERNEL_LAB_ROWS * sizeof *lab->status);
	return (struct haul_map_rows){ count, lab->row_keys, lab->row_values, lab->status };
}

static const void *row_key(const struct kernel_lab *lab, uint32_t i)
{
	return lab->row_keys + (size_t)i * lab->map.info.key_size;
}

static void *row_value(const struct kernel_lab *lab, uint32_t i)
{
	return lab->row_values + (size_t)i * lab->map.info.value_size;
}

static struct haul_map_result fresh(void)
{
	return (struct haul_map_result){ .failed_index = -1 };
}

static void check_get(struct kernel_lab *lab, struct prng *prng)
{
	struct haul_map_rows rows = random_rows(lab, prng);
	struct haul_map_result result = fresh();
	size_t value_size = lab->map.info.value_size;
	uint8_t *before = malloc(KERNEL_LAB_ROWS * value_size);
	assert_non_null(before);
	memcpy(before, lab->row_values, rows.count * value_size);
	assert_int_equal(map_engine_kernel.get(&lab->map, &rows, &result), 0);
	uint64_t there = 0;
	for (uint32_t i = 0; i < rows.count; i++) {
		int64_t at = kernel_lab_find(lab, row_key(lab, i));
		there += at >= 0;
		assert_int_equal(lab->status[i], at >= 0 ? 0 : -ENOENT);
		/* The value of a missing key is left as it was. */
		const uint8_t *value =
			at >= 0 ? lab->values + (size_t)at * value_size : before + i * value_size;
		assert_memory_equal(row_value(lab, i), value, value_size);
	}
	free(before);
	assert_int_equal(result.done, there);
	assert_int_equal(result.missing, rows.count - there);
	assert_int_equal(result.failed_index, -1);
}

static void check_update(struct kernel_lab *lab, struct prng *prng, enum haul_map_mode mode)
{
	struct haul_map_rows rows = random_rows(lab, prng);
	struct haul_map_result result = fresh();
	assert_int_equal(map_engine_kernel.update(&lab->map, &rows, mode, &result), 0);
	uint64_t done = 0;
	for (uint32_t i = 0; i < rows.count; i++) {
		bool there = kernel_lab_find(lab, row_key(lab, i)) >= 0;
		bool wanted = mode == HAUL_MAP_ANY || there == (mode == HAUL_MAP_ONLY_EXISTING);
		int refused = there ? -EEXIST : -ENOENT;
		assert_int_equal(lab->status[i], wanted ? 0 : refused);
		done += wanted;
		if (wanted)
			kernel_lab_set(lab, row_key(lab, i), row_value(lab, i));
	}
	assert_int_equal(result.done, done);
	assert_int_equal(result.kept + result.missing, rows.count - done);
	if (mode == HAUL_MAP_ANY) {
		assert_true(result.inserted == HAUL_MAP_UNKNOWN);
		assert_true(result.updated == HAUL_MAP_UNKNOWN);
	} else {
		assert_int_equal(result.inserted, mode == HAUL_MAP_ONLY_NEW ? done : 0);
		assert_int_equal(result.updated, mode == HAUL_MAP_ONLY_NEW ? 0 : done);
	}
}

static void check_upsert(struct kernel_lab *lab, struct prng *prng)
{
	struct haul_map_rows rows = random_rows(lab, prng);
	struct haul_map_result result = fresh();
	uint32_t before = lab->count;
	assert_int_equal(map_engine_kernel.upsert(&lab->map, &rows, &result), 0);
	for (uint32_t i = 0; i < rows.count; i++) {
		assert_int_equal(lab->status[i], 0);
		kernel_lab_set(lab, row_key(lab, i), row_value(lab, i));
	}
	assert_int_equal(result.done, rows.count);
	assert_int_equal(result.inserted, lab->count - before);
	assert_int_equal(result.updated, rows.count - result.inserted);
}

static void check_delete(struct kernel_lab *lab, struct prng *prng)
{
	struct haul_map_rows rows = random_rows(lab, prng);
	struct haul_map_result result = fresh();
	rows.count /= 4;
	assert_int_equal(map_engine_kernel.delete(&lab->map, &rows, &result), 0);
	uint64_t done = 0;
	for (uint32_t i = 0; i < rows.count; i++) {
		int64_t at = kernel_lab_find(lab, row_key(lab, i));
		assert_int_equal(lab->status[i], at >= 0 ? 0 : -ENOENT);
		if (at < 0)
			continue;
		kernel_lab_remove(lab, (uint32_t)at);
		done++;
	}
	assert_int_equal(result.done, done);
	assert_int_equal(result.missing, rows.count - done);
}

static void check_compare(struct kernel_lab *lab, struct prng *prng)
{
	struct haul_map_rows rows = random_rows(lab, prng);
	struct haul_map_result result = fresh();
	uint32_t value_size = lab->map.info.value_size;
	struct haul_map_field field = { .offset = prng_below(prng, value_size) };
	field.width = 1 + prng_below(prng, value_size - field.offset);
	if (field.width > 2 && prng_below(prng, 2))
		field.width = 2; /* short ones are equal by chance */
	bool whole = prng_below(prng, 4) == 0;
	/* Half of the rows expect what is there. */
	for (uint32_t i = 0; i < rows.count; i++) {
		int64_t at = kernel_lab_find(lab, row_key(lab, i));
		if (at >= 0 && prng_below(prng, 2))
			memcpy(row_value(lab, i), lab->values + (size_t)at * value_size,
			       value_size);
	}
	assert_int_equal(
		map_engine_kernel.compare_delete(&lab->map, &rows, whole ? NULL : &field, &result),
		0);
	size_t from = whole ? 0 : field.offset, width = whole ? value_size : field.width;
	uint64_t done = 0, missing = 0;
	for (uint32_t i = 0; i < rows.count; i++) {
		int64_t at = kernel_lab_find(lab, row_key(lab, i));
		bool same = at >= 0 && memcmp(lab->values + (size_t)at * value_size + from,
					      (uint8_t *)row_value(lab, i) + from, width) == 0;
		assert_int_equal(lab->status[i], same ? 0 : at >= 0 ? -EEXIST : -ENOENT);
		missing += at < 0;
		done += same;
		if (same)
			kernel_lab_remove(lab, (uint32_t)at);
	}
	assert_int_equal(result.done, done);
	assert_int_equal(result.missing, missing);
	assert_int_equal(result.kept, rows.count - done - missing);
}

static void one_round(struct kernel_lab *lab, struct prng *prng)
{
	bool array = lab->map.info.type == BPF_MAP_TYPE_ARRAY;
	bool lru = lab->map.info.type == BPF_MAP_TYPE_LRU_HASH;
	check_upsert(lab, prng);
	if (!lru)
		check_get(lab, prng);
	check_update(lab, prng, HAUL_MAP_ONLY_NEW);
	check_update(lab, prng, HAUL_MAP_ONLY_EXISTING);
	if (!array)
		check_delete(lab, prng);
	if (!array && !lru && lab->map.info.value_size <= 1024)
		check_compare(lab, prng);
	check_update(lab, prng, HAUL_MAP_ANY);
	kernel_lab_check(lab);
}

/* fetch: the memory of rows is fetched ahead by the program for large maps. */
static void run_model_by(const struct haul_map_spec *spec, bool fetch, struct prng *prng)
{
	struct kernel_lab lab;
	kernel_lab_open(&lab, spec);
	assert_int_equal(map_kernel_open(&lab.map), 0);
	if (fetch)
		lab.map.kernel->hash_walk_from = lab.map.kernel->fetch_from = 0;
	/* An array has all its entries from the start. */
	for (uint32_t i = 0; spec->type == BPF_MAP_TYPE_ARRAY && i < spec->max_entries; i++)
		kernel_lab_put(&lab, &i, lab.row_values);
	for (int round = 0; round < ROUNDS / (spec->value_size > 1000 ? 4 : 1); round++)
		one_round(&lab, prng);
	/* It was this one: it may fall back without a word. */
	const struct kernel_part *parts = lab.map.kernel->parts;
	bool wanted = fetch && spec->type == BPF_MAP_TYPE_HASH && spec->key_size % 4 == 0 &&
		      spec->key_size <= MAP_WARM_KEY;
	assert_true(wanted == (parts[KERNEL_HASH_READ].object != NULL));
	assert_true(wanted == (parts[KERNEL_HASH_WARM].object != NULL));
	kernel_lab_close(&lab);
}

static void run_model(const struct haul_map_spec *spec, struct prng *prng)
{
	run_model_by(spec, false, prng);
}

/* Random rows of any key and value size do to a hash map what they do to the model. */
static void test_kernel_rows__hash_equals_the_model(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t k = 0; k < KEY_SIZES; k++) {
		for (uint32_t v = 0; v < 3; v++) {
			struct haul_map_spec spec = {
				.type = BPF_MAP_TYPE_HASH,
				.flags = prng_below(&prng, 2) ? BPF_F_NO_PREALLOC : 0,
				.key_size = key_sizes[k],
				.value_size = value_sizes[prng_below(&prng, VALUE_SIZES)],
				.max_entries = ENTRIES,
			};
			run_model(&spec, &prng);
		}
	}
}

/* Fetching the memory of rows ahead changes nothing but the time. */
static void test_kernel_rows__fetched_ahead_equal_the_model(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t k = 0; k < KEY_SIZES; k++) {
		struct haul_map_spec spec = {
			.type = BPF_MAP_TYPE_HASH,
			.flags = prng_below(&prng, 2) ? BPF_F_NO_PREALLOC : 0,
			.key_size = key_sizes[k],
			.value_size = value_sizes[prng_below(&prng, VALUE_SIZES)],
			.max_entries = ENTRIES,
		};
		run_model_by(&spec, true, &prng);
	}
}

/* Every value size comes back whole, and no byte behind it is touched. */
static void test_kernel_rows__every_value_size(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t v = 0; v < VALUE_SIZES; v++) {
		struct haul_map_spec spec = { .type = BPF_MAP_TYPE_HASH,
					      .key_size = 40,
					      .value_size = value_sizes[v],
					      .max_entries = ENTRIES };
		run_model(&spec, &prng);
	}
}

/* An array has all its entries: updates only, no deletes; new entries are refused. */
static void test_kernel_rows__array_equals_the_model(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t v = 0; v < VALUE_SIZES; v++) {
		struct haul_map_spec spec = { .type = BPF_MAP_TYPE_ARRAY,
					      .key_size = 4,
					      .value_size = value_sizes[v],
					      .max_entries = 300 };
		struct kernel_lab lab;
		kernel_lab_open(&lab, &spec);
		for (uint32_t i = 0; i < spec.max_entries; i++)
			kernel_lab_put(&lab, &i, lab.row_values);
		for (int round = 0; round < 3; round++) {
			/* The keys of random_rows carry a pattern only behind their 4 bytes. */
			one_round(&lab, &prng);
		}
		kernel_lab_close(&lab);
	}
}

/* An LRU map with room to spare counts inserted and updated exactly, too. */
static void test_kernel_rows__lru_equals_the_model(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_map_spec spec = { .type = BPF_MAP_TYPE_LRU_HASH,
				      .key_size = 12,
				      .value_size = 24,
				      .max_entries = 20000 };
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	lab.map.info.max_entries = ENTRIES; /* of which random_rows makes its keys */
	for (int round = 0; round < ROUNDS; round++)
		one_round(&lab, &prng);
	kernel_lab_close(&lab);
}

/* A map that fills up in the middle of the rows: those before are in, the row says why, those
 * behind were not tried. */
static void test_kernel_rows__full_map_stops_at_the_row(void **state)
{
	(void)state;
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4, .max_entries = 1500
	};
	for (int upsert = 0; upsert <= 1; upsert++) {
		struct kernel_lab lab;
		kernel_lab_open(&lab, &spec);
		for (uint32_t i = 0; i < KERNEL_LAB_ROWS; i++)
			memcpy(lab.row_keys + 4 * (size_t)i, &i, 4);
		struct haul_map_rows rows = { KERNEL_LAB_ROWS, lab.row_keys, lab.row_values,
					      lab.status };
		struct haul_map_result result = fresh();
		int rc = upsert ? map_engine_kernel.upsert(&lab.map, &rows, &result)
				: map_engine_kernel.update(&lab.map, &rows, HAUL_MAP_ANY, &result);
		assert_int_equal(rc, -E2BIG);
		assert_int_equal(result.done, spec.max_entries);
		assert_int_equal(result.failed_index, spec.max_entries);
		assert_int_equal(result.reason, -E2BIG);
		if (upsert)
			assert_int_equal(result.inserted, spec.max_entries);
		for (uint32_t i = 0; i < KERNEL_LAB_ROWS; i++) {
			int expected = i < spec.max_entries    ? 0
				       : i == spec.max_entries ? -E2BIG
							       : -ECANCELED;
			assert_int_equal(lab.status[i], expected);
		}
		kernel_lab_close(&lab);
	}
}

/* A status column is not needed, and no rows are no work. */
static void test_kernel_rows__no_status_no_rows(void **state)
{
	(void)state;
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4, .max_entries = 10
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	struct haul_map_rows rows = { 1, lab.row_keys, lab.row_values, NULL };
	struct haul_map_result result = fresh();
	assert_int_equal(map_engine_kernel.upsert(&lab.map, &rows, &result), 0);
	assert_int_equal(result.inserted, 1);
	rows.count = 0;
	result = fresh();
	assert_int_equal(map_engine_kernel.get(&lab.map, &rows, &result), 0);
	assert_int_equal(result.done + result.missing + result.calls, 0);
	kernel_lab_close(&lab);
}

/* A call that the kernel refuses in the second slice: the rows of the first are done. */
static int calls_left;

static int fail_later(struct bpf_sys *sys, int cmd, union bpf_attr *attr)
{
	(void)sys;
	if (calls_left-- <= 0)
		return -EINTR;
	return bpf_sys_linux()->call(bpf_sys_linux(), cmd, attr);
}

/* A failing call is told with the row at which it stood. */
static void test_kernel_rows__failing_call_names_the_row(void **state)
{
	(void)state;
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4, .max_entries = 1000
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	struct bpf_sys sys = { fail_later };
	lab.map.sys = &sys;
	lab.map.options.batch = 100; /* rows a slice */
	calls_left = 2;
	for (uint32_t i = 0; i < 500; i++)
		memcpy(lab.row_keys + 4 * (size_t)i, &i, 4);
	struct haul_map_rows rows = { 500, lab.row_keys, lab.row_values, lab.status };
	struct haul_map_result result = fresh();
	assert_int_equal(map_engine_kernel.upsert(&lab.map, &rows, &result), -EINTR);
	assert_int_equal(result.failed_index, 200);
	assert_int_equal(result.reason, -EINTR);
	assert_int_equal(result.done, 200);
	assert_int_equal(result.calls, 3);
	assert_int_equal(lab.status[199], 0);
	assert_int_equal(lab.status[200], -EINTR);
	assert_int_equal(lab.status[201], -ECANCELED);
	assert_int_equal(lab.status[499], -ECANCELED);
	kernel_lab_close(&lab);
}

/* A kernel in which every row meets a locked bucket, for so many calls. */
static struct kernel_lab *busy_lab;
static int busy_calls;

static int stay_busy(struct bpf_sys *sys, int cmd, union bpf_attr *attr)
{
	struct map_work *work = busy_lab->map.kernel->parts[KERNEL_REMOVE].work;
	(void)sys;
	if (busy_calls-- <= 0)
		return bpf_sys_linux()->call(bpf_sys_linux(), cmd, attr);
	work->failed = -EBUSY;
	return 0;
}

/* A busy row is tried again some times, and then fails as any other. */
static void test_kernel_rows__busy_rows_are_tried_again(void **state)
{
	(void)state;
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4, .max_entries = 10
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	struct bpf_sys sys = { stay_busy };
	lab.map.sys = &sys;
	busy_lab = &lab;
	busy_calls = KERNEL_BUSY_TRIES;
	struct haul_map_rows rows = { 2, lab.row_keys, NULL, lab.status };
	struct haul_map_result result = fresh();
	assert_int_equal(map_engine_kernel.delete(&lab.map, &rows, &result), 0);
	assert_int_equal(result.missing, 2);
	assert_int_equal(result.retries, KERNEL_BUSY_TRIES);
	busy_calls = KERNEL_BUSY_TRIES + 1;
	result = fresh();
	assert_int_equal(map_engine_kernel.delete(&lab.map, &rows, &result), -EBUSY);
	assert_int_equal(result.failed_index, 0);
	assert_int_equal(lab.status[0], -EBUSY);
	assert_int_equal(lab.status[1], -ECANCELED);
	kernel_lab_close(&lab);
}

/* A field outside of the value is refused before anything is deleted. */
static void test_kernel_rows__compare_field_outside_is_refused(void **state)
{
	(void)state;
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 6, .max_entries = 10
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	static const struct haul_map_field fields[] = {
		{ .offset = 7, .width = 0 },
		{ .offset = 0, .width = 7 },
		{ .offset = UINT32_MAX, .width = 2 },
		{ .in_key = true, .width = 4 },
	};
	struct haul_map_rows rows = { 1, lab.row_keys, lab.row_values, NULL };
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		struct haul_map_result result = fresh();
		assert_int_equal(
			map_engine_kernel.compare_delete(&lab.map, &rows, &fields[i], &result),
			-EINVAL);
	}
	kernel_lab_close(&lab);
}

/* ---- a writer beside compare-delete ---- */

enum { RACE_ENTRIES = 60000 };

struct writer {
	int fd;
	atomic_uint progress; /* entries below have been written, for good */
	uint32_t gone;        /* deleted before it came to them */
};

static void *write_all(void *arg)
{
	struct writer *writer = arg;
	uint64_t value = 1;
	for (uint32_t i = 0; i < RACE_ENTRIES; i++) {
		if (bpf_map_update_elem(writer->fd, &i, &value, BPF_EXIST) < 0)
			writer->gone++;
		atomic_store(&writer->progress, i + 1);
	}
	return NULL;
}

/* What a writer on another CPU had changed when the call began is kept; the rest is deleted. */
static void test_kernel_rows__compare_delete_beside_a_writer(void **state)
{
	(void)state;
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8, .max_entries = 65536
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	uint64_t zero = 0;
	for (uint32_t i = 0; i < RACE_ENTRIES; i++)
		assert_int_equal(bpf_map_update_elem(lab.map.fd, &i, &zero, BPF_ANY), 0);
	memset(lab.row_values, 0, KERNEL_LAB_ROWS * sizeof zero);
	struct writer writer = { .fd = lab.map.fd };
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, write_all, &writer), 0);
	uint64_t done = 0, kept = 0;
	/* From the far end towards the writer and through it. */
	for (uint32_t end = RACE_ENTRIES; end > 0; end -= KERNEL_LAB_ROWS) {
		for (uint32_t i = 0; i < KERNEL_LAB_ROWS; i++) {
			uint32_t key = end - KERNEL_LAB_ROWS + i;
			memcpy(lab.row_keys + 4 * (size_t)i, &key, 4);
		}
		uint32_t written = atomic_load(&writer.progress);
		struct haul_map_rows rows = { KERNEL_LAB_ROWS, lab.row_keys, lab.row_values,
					      lab.status };
		struct haul_map_result result = fresh();
		assert_int_equal(map_engine_kernel.compare_delete(&lab.map, &rows, NULL, &result),
				 0);
		done += result.done;
		kept += result.kept;
		assert_int_equal(result.missing, 0);
		for (uint32_t i = 0; i < KERNEL_LAB_ROWS; i++) {
			if (end - KERNEL_LAB_ROWS + i < written)
				assert_int_equal(lab.status[i], -EEXIST);
		}
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(done + kept, RACE_ENTRIES);
	for (uint32_t i = 0; i < RACE_ENTRIES; i++) {
		uint64_t value;
		if (bpf_map_lookup_elem(lab.map.fd, &i, &value) == 0) {
			assert_int_equal(value, 1);
			kept--;
		}
	}
	assert_int_equal(kept, 0);
	kernel_lab_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernel_rows__hash_equals_the_model),
		cmocka_unit_test(test_kernel_rows__fetched_ahead_equal_the_model),
		cmocka_unit_test(test_kernel_rows__every_value_size),
		cmocka_unit_test(test_kernel_rows__array_equals_the_model),
		cmocka_unit_test(test_kernel_rows__lru_equals_the_model),
		cmocka_unit_test(test_kernel_rows__full_map_stops_at_the_row),
		cmocka_unit_test(test_kernel_rows__no_status_no_rows),
		cmocka_unit_test(test_kernel_rows__failing_call_names_the_row),
		cmocka_unit_test(test_kernel_rows__busy_rows_are_tried_again),
		cmocka_unit_test(test_kernel_rows__compare_field_outside_is_refused),
		cmocka_unit_test(test_kernel_rows__compare_delete_beside_a_writer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
