/* bpf/test_kernel_walk.c — whole maps through the kernel engine: scans in one pass and in many,
 * deletion by filter, counts, walks beside a churning writer, and what the engine refuses. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/kernel_lab.h"

enum { ENTRIES = 2500 };

static void fill(struct kernel_lab *lab, uint32_t count, struct prng *prng)
{
	const struct haul_map_info *info = &lab->map.info;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t key[HAUL_MAP_KEY_MAX];
		memset(key, 0x5a, sizeof key);
		memcpy(key, &i, info->key_size < 4 ? info->key_size : 4);
		for (uint32_t j = 0; j < info->value_size; j++)
			lab->row_values[j] = (uint8_t)prng_next(prng);
		kernel_lab_put(lab, key, lab->row_values);
	}
}

/* What a scan passed on, against the model. */
struct seen {
	struct kernel_lab *lab;
	uint8_t *times;
	uint32_t visits;
	uint32_t stop_after; /* visits; 0 = never */
};

static int visit(const struct haul_map_batch *batch, void *arg)
{
	struct seen *seen = arg;
	struct kernel_lab *lab = seen->lab;
	for (uint32_t i = 0; i < batch->count; i++) {
		int64_t at = kernel_lab_find(lab, haul_map_key(batch, i));
		assert_true(at >= 0);
		assert_memory_equal(haul_map_value(batch, i),
				    lab->values + (size_t)at * lab->map.info.value_size,
				    lab->map.info.value_size);
		seen->times[at]++;
	}
	seen->visits++;
	return seen->visits == seen->stop_after ? 42 : 0;
}

static void check_one_scan(struct kernel_lab *lab, const struct haul_map_filter *filter)
{
	struct seen seen = { .lab = lab, .times = calloc(lab->room, 1) };
	struct haul_map_scan scan = {
		.filter = filter, .check = true, .visit = visit, .arg = &seen
	};
	struct haul_map_report report = { 0 };
	assert_non_null(seen.times);
	assert_int_equal(map_engine_kernel.scan(&lab->map, &scan, &report), 0);
	uint64_t matched = 0;
	for (uint32_t i = 0; i < lab->count; i++) {
		bool match = !filter || haul_map_filter_match(
						&lab->map.info, filter,
						lab->keys + (size_t)i * lab->map.info.key_size,
						lab->values + (size_t)i * lab->map.info.value_size);
		assert_int_equal(seen.times[i], match);
		matched += match;
	}
	assert_int_equal(report.matched, matched);
	assert_int_equal(report.read, lab->count);
	assert_int_equal(report.expected, lab->count);
	assert_int_equal(report.duplicates, 0);
	assert_int_equal(report.engine, HAUL_MAP_KERNEL);
	free(seen.times);
}

/* By the kernel's own walk, and by ours along the buckets. */
static void check_scan(struct kernel_lab *lab, const struct haul_map_filter *filter)
{
	assert_int_equal(map_kernel_open(&lab->map), 0);
	lab->map.kernel->hash_walk_from = UINT32_MAX;
	check_one_scan(lab, filter);
	if (lab->map.info.type == BPF_MAP_TYPE_ARRAY)
		return;
	lab->map.kernel->hash_walk_from = 0;
	check_one_scan(lab, filter);
	/* It was this one: it may fall back without a word. */
	assert_int_equal(lab->map.kernel->parts[KERNEL_HASH_SCAN].error, 0);
	assert_non_null(lab->map.kernel->parts[KERNEL_HASH_SCAN].object);
}

static struct haul_map_filter random_filter(const struct haul_map_info *info, struct prng *prng)
{
	struct haul_map_filter filter = { .count = 1 + prng_below(prng, 3) };
	for (uint32_t i = 0; i < filter.count; i++) {
		struct haul_map_condition *condition = &filter.conditions[i];
		struct haul_map_field *field = &condition->field;
		field->in_key = prng_below(prng, 4) == 0;
		field->big_endian = prng_below(prng, 2);
		field->is_signed = prng_below(prng, 2);
		uint32_t size = field->in_key ? info->key_size : info->value_size;
		do
			field->width = 1U << prng_below(prng, 4);
		while (field->width > size);
		field->offset = prng_below(prng, size - field->width + 1);
		condition->test = (enum haul_map_test)prng_below(prng, HAUL_MAP_TESTS);
		condition->operand = prng_next(prng) >> prng_below(prng, 64);
	}
	return filter;
}

/* Every entry of every type and size is passed on once and whole; with a filter exactly those that
 * pass it in user space. */
static void test_kernel_walk__scan_equals_the_model(void **state)
{
	(void)state;
	static const uint32_t sizes[][2] = { { 1, 1 },    { 3, 5 },    { 4, 8 },   { 7, 7 },
					     { 8, 12 },   { 16, 56 },  { 40, 96 }, { 64, 1024 },
					     { 5, 1027 }, { 511, 31 }, { 512, 9 } };
	struct prng prng;
	test_prng(&prng);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct kernel_lab lab;
		struct haul_map_spec spec = {
			.type = i % 3 == 1 ? BPF_MAP_TYPE_LRU_HASH : BPF_MAP_TYPE_HASH,
			.flags = i % 3 == 2 ? BPF_F_NO_PREALLOC : 0,
			.key_size = sizes[i][0],
			.value_size = sizes[i][1],
			.max_entries = 4096,
		};
		kernel_lab_open(&lab, &spec);
		fill(&lab, spec.key_size == 1 ? 200 : 700, &prng);
		check_scan(&lab, NULL);
		for (int round = 0; round < 12; round++) {
			struct haul_map_filter filter = random_filter(&lab.map.info, &prng);
			check_scan(&lab, &filter);
		}
		kernel_lab_close(&lab);
	}
}

/* An array is walked over all its places. */
static void test_kernel_walk__scan_of_an_array(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 13, .max_entries = 700
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	fill(&lab, spec.max_entries, &prng);
	check_scan(&lab, NULL);
	struct haul_map_filter filter = random_filter(&lab.map.info, &prng);
	check_scan(&lab, &filter);
	kernel_lab_close(&lab);
}

/* With room for few records the walk goes in classes of keys, too large ones in halves: nothing is
 * missed, nothing comes twice. */
static void test_kernel_walk__many_passes_miss_nothing(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 11, .value_size = 20, .max_entries = 4096
	};
	static const uint32_t rooms[] = { 1, 100, 170, 999, 2499, 2500 };
	for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
		struct kernel_lab lab;
		kernel_lab_open(&lab, &spec);
		fill(&lab, ENTRIES, &prng);
		assert_int_equal(map_kernel_open(&lab.map), 0);
		lab.map.kernel->walk_bytes_max = (size_t)rooms[i] * lab.map.kernel->record_bytes;
		check_scan(&lab, NULL);
		struct haul_map_filter filter = random_filter(&lab.map.info, &prng);
		check_scan(&lab, &filter);
		assert_true(lab.map.kernel->parts[KERNEL_SCAN].room <=
			    (rooms[i] < KERNEL_ROOM_MIN ? KERNEL_ROOM_MIN : rooms[i]));
		kernel_lab_close(&lab);
	}
}

/* A filter that lets more through than was expected makes the records grow, not entries vanish. */
static void test_kernel_walk__records_grow_to_what_matches(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4, .max_entries = 4096
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	fill(&lab, ENTRIES, &prng);
	assert_int_equal(map_kernel_open(&lab.map), 0);
	assert_int_equal(kernel_part_load(&lab.map, KERNEL_SCAN, 100), 0);
	assert_int_equal(lab.map.kernel->parts[KERNEL_SCAN].room, 100);
	check_scan(&lab, NULL);
	assert_true(lab.map.kernel->parts[KERNEL_SCAN].room >= ENTRIES);
	kernel_lab_close(&lab);
}

/* What visit returns ends the scan and is what it returns. */
static void test_kernel_walk__visit_ends_the_scan(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4, .max_entries = 4096
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	fill(&lab, ENTRIES, &prng);
	assert_int_equal(map_kernel_open(&lab.map), 0);
	lab.map.kernel->walk_bytes_max = 500 * (size_t)lab.map.kernel->record_bytes;
	struct seen seen = { .lab = &lab, .times = calloc(lab.room, 1), .stop_after = 2 };
	struct haul_map_scan scan = { .visit = visit, .arg = &seen };
	struct haul_map_report report = { 0 };
	assert_int_equal(map_engine_kernel.scan(&lab.map, &scan, &report), 42);
	assert_int_equal(seen.visits, 2);
	assert_true(report.matched < ENTRIES);
	free(seen.times);
	kernel_lab_close(&lab);
}

/* Filtered deletion takes exactly what the filter says; an empty filter empties the map. */
static void test_kernel_walk__delete_if_equals_the_model(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 9, .value_size = 21, .max_entries = 4096
	};
	for (int round = 0; round < 30; round++) {
		struct kernel_lab lab;
		spec.flags = round % 2 ? BPF_F_NO_PREALLOC : 0;
		kernel_lab_open(&lab, &spec);
		fill(&lab, 300, &prng);
		struct haul_map_filter filter = random_filter(&lab.map.info, &prng);
		uint32_t before = lab.count;
		for (uint32_t i = 0; i < lab.count;) {
			const uint8_t *key = lab.keys + (size_t)i * spec.key_size;
			const uint8_t *value = lab.values + (size_t)i * spec.value_size;
			if (haul_map_filter_match(&lab.map.info, &filter, key, value))
				kernel_lab_remove(&lab, i);
			else
				i++;
		}
		struct haul_map_result result = { .failed_index = -1 };
		assert_int_equal(map_engine_kernel.delete_if(&lab.map, &filter, &result), 0);
		assert_int_equal(result.visited, before);
		assert_int_equal(result.done, before - lab.count);
		assert_int_equal(result.missing, 0);
		kernel_lab_check(&lab);
		uint32_t left = lab.count;
		lab.count = 0;
		result = (struct haul_map_result){ .failed_index = -1 };
		assert_int_equal(map_engine_kernel.delete_if(&lab.map, NULL, &result), 0);
		assert_int_equal(result.done, left);
		kernel_lab_check(&lab);
		kernel_lab_close(&lab);
	}
}

static struct kernel_lab *busy_lab;
static int busy_calls;

static int leave_one(struct bpf_sys *sys, int cmd, union bpf_attr *attr)
{
	struct map_work *work = busy_lab->map.kernel->parts[KERNEL_CLEAN].work;
	(void)sys;
	int rc = bpf_sys_linux()->call(bpf_sys_linux(), cmd, attr);
	if (busy_calls-- > 0) {
		work->kept = 1;
		work->failed = -EBUSY;
	}
	return rc;
}

/* An entry that could not be deleted because its bucket was locked is taken by another walk; when
 * it cannot be had at all, the call says so. */
static void test_kernel_walk__delete_if_comes_back_for_the_busy(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8, .max_entries = 128
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	fill(&lab, 100, &prng);
	struct bpf_sys sys = { leave_one };
	lab.map.sys = &sys;
	busy_lab = &lab;
	busy_calls = 3;
	struct haul_map_result result = { .failed_index = -1 };
	assert_int_equal(map_engine_kernel.delete_if(&lab.map, NULL, &result), 0);
	assert_int_equal(result.done, 100);
	assert_int_equal(result.retries, 3);
	busy_calls = KERNEL_BUSY_TRIES;
	result = (struct haul_map_result){ .failed_index = -1 };
	assert_int_equal(map_engine_kernel.delete_if(&lab.map, NULL, &result), -EBUSY);
	assert_int_equal(result.reason, -EBUSY);
	kernel_lab_close(&lab);
}

/* The kernel's own count equals the entries of every hash type, without a walk. */
static void test_kernel_walk__count_of_every_hash_type(void **state)
{
	(void)state;
	static const uint32_t types[] = { BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_LRU_HASH,
					  BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH };
	for (size_t i = 0; i < 2 * sizeof types / sizeof *types; i++) {
		struct haul_map_spec spec = {
			.type = types[i / 2], .key_size = 4, .value_size = 8, .max_entries = 20000
		};
		if (i % 2 && (i / 2 == 0 || i / 2 == 2))
			spec.flags = BPF_F_NO_PREALLOC;
		struct kernel_lab lab;
		kernel_lab_open(&lab, &spec);
		uint8_t *slot = calloc(1, lab.map.info.slot_bytes);
		assert_non_null(slot);
		for (uint32_t key = 0; key < 1234; key++)
			assert_int_equal(bpf_map_update_elem(lab.map.fd, &key, slot, BPF_ANY), 0);
		free(slot);
		const char *why = NULL;
		assert_true(map_engine_kernel.can(&lab.map, HAUL_MAP_OP_COUNT, &why));
		struct haul_map_result result = { .failed_index = -1 };
		uint64_t count = 0;
		assert_int_equal(map_engine_kernel.count(&lab.map, &count, &result), 0);
		assert_int_equal(count, 1234);
		assert_int_equal(result.visited, 0);
		assert_int_equal(result.calls, 1);
		kernel_lab_close(&lab);
	}
}

/* A kernel without BTF, or without the function that counts: the count is refused with the reason,
 * and scans still work, by the kernel's own walk. */
static void test_kernel_walk__without_btf(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 8, .max_entries = 512
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	fill(&lab, 300, &prng);
	assert_int_equal(map_kernel_open(&lab.map), 0);
	lab.map.kernel->layout = (struct kernel_layout){ .known = true, .error = -ENOTSUP };
	lab.map.kernel->hash_walk_from = 0;
	struct haul_map_result result = { .failed_index = -1 };
	uint64_t count = 77;
	assert_int_equal(map_engine_kernel.count(&lab.map, &count, &result), -ENOTSUP);
	assert_int_equal(count, 77);
	const char *why = NULL;
	assert_false(map_engine_kernel.can(&lab.map, HAUL_MAP_OP_COUNT, &why));
	assert_non_null(strstr(why, "no function that counts"));
	struct seen seen = { .lab = &lab, .times = calloc(lab.room, 1) };
	struct haul_map_scan scan = { .visit = visit, .arg = &seen };
	struct haul_map_report report = { 0 };
	assert_int_equal(map_engine_kernel.scan(&lab.map, &scan, &report), 0);
	assert_int_equal(report.matched, 300);
	assert_true(report.expected == HAUL_MAP_UNKNOWN);
	assert_null(lab.map.kernel->parts[KERNEL_HASH_SCAN].object);
	free(seen.times);
	kernel_lab_close(&lab);
}

/* ---- beside a writer ---- */

enum { STABLE = 20000, CHURN = 4000, WALKS = 6 };

struct churn {
	int fd;
	atomic_bool stop;
	atomic_uint rounds;
};

static void *churn_run(void *arg)
{
	struct churn *churn = arg;
	uint64_t value = 0;
	while (!atomic_load(&churn->stop)) {
		for (uint32_t i = 0; i < CHURN && !atomic_load(&churn->stop); i++) {
			uint32_t key = STABLE + i;
			(void)bpf_map_update_elem(churn->fd, &key, &value, BPF_ANY);
			if (i >= 64) {
				key -= 64;
				(void)bpf_map_delete_elem(churn->fd, &key);
			}
		}
		atomic_fetch_add(&churn->rounds, 1);
	}
	return NULL;
}

static int count_stable(const struct haul_map_batch *batch, void *arg)
{
	uint8_t *times = arg;
	for (uint32_t i = 0; i < batch->count; i++) {
		uint32_t key;
		memcpy(&key, haul_map_key(batch, i), sizeof key);
		if (key >= STABLE)
			continue;
		uint64_t value;
		memcpy(&value, haul_map_value(batch, i), sizeof value);
		assert_int_equal(value, key * UINT64_C(3));
		times[key]++;
	}
	return 0;
}

static void churned_scans(bool by_buckets)
{
	struct haul_map_spec spec = { .type = BPF_MAP_TYPE_HASH,
				      .flags = BPF_F_NO_PREALLOC,
				      .key_size = 4,
				      .value_size = 8,
				      .max_entries = 32768 };
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	for (uint32_t key = 0; key < STABLE; key++) {
		uint64_t value = key * UINT64_C(3);
		assert_int_equal(bpf_map_update_elem(lab.map.fd, &key, &value, BPF_ANY), 0);
	}
	struct churn churn = { .fd = lab.map.fd };
	pthread_t thread;
	uint8_t *times = malloc(STABLE);
	assert_non_null(times);
	assert_int_equal(pthread_create(&thread, NULL, churn_run, &churn), 0);
	assert_int_equal(map_kernel_open(&lab.map), 0);
	lab.map.kernel->hash_walk_from = by_buckets ? 0 : UINT32_MAX;
	while (atomic_load(&churn.rounds) == 0)
		(void)sched_yield();
	for (int walk = 0; walk < WALKS; walk++) {
		memset(times, 0, STABLE);
		struct haul_map_scan scan = { .visit = count_stable, .arg = times };
		struct haul_map_report report = { 0 };
		assert_int_equal(map_engine_kernel.scan(&lab.map, &scan, &report), 0);
		for (uint32_t key = 0; key < STABLE; key++)
			assert_int_equal(times[key], 1);
	}
	atomic_store(&churn.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	free(times);
	kernel_lab_close(&lab);
}

/* On a map without preallocation (an element is not used again while somebody may look at it) each
 * stable key is seen once however fast others come and go. */
static void test_kernel_walk__stable_keys_beside_churn(void **state)
{
	(void)state;
	churned_scans(false);
	churned_scans(true);
}

/* ---- what the engine refuses ---- */

static void assert_refused(const struct haul_map_spec *spec, enum haul_map_op op, const char *text)
{
	struct kernel_lab lab;
	kernel_lab_open(&lab, spec);
	const char *why = NULL;
	assert_false(map_engine_kernel.can(&lab.map, op, &why));
	assert_non_null(why);
	if (!strstr(why, text))
		fail_msg("\"%s\" does not say \"%s\"", why, text);
	kernel_lab_close(&lab);
}

/* Each type that a program cannot serve is refused with the reason. */
static void test_kernel_walk__refusals_say_why(void **state)
{
	(void)state;
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_PERCPU_HASH, .key_size = 8, .value_size = 8, .max_entries = 8
	};
	assert_refused(&spec, HAUL_MAP_OP_SCAN, "only its own CPU's value");
	spec.type = BPF_MAP_TYPE_HASH;
	assert_refused(&spec, HAUL_MAP_OP_TAKE, "cannot be resumed");
	spec.flags = BPF_F_RDONLY_PROG;
	assert_refused(&spec, HAUL_MAP_OP_UPSERT, "read-only to programs");
	spec.flags = BPF_F_WRONLY_PROG;
	assert_refused(&spec, HAUL_MAP_OP_SCAN, "write-only to programs");
	spec.flags = 0;
	spec.value_size = KERNEL_VALUE_MAX + 8;
	assert_refused(&spec, HAUL_MAP_OP_SCAN, "over 65536 bytes");
	spec.value_size = 1032;
	assert_refused(&spec, HAUL_MAP_OP_COMPARE_DELETE, "over 1024 bytes");
	spec.value_size = 8;
	spec.type = BPF_MAP_TYPE_LRU_HASH;
	assert_refused(&spec, HAUL_MAP_OP_GET, "counts as use");
	spec.type = BPF_MAP_TYPE_LPM_TRIE;
	spec.flags = BPF_F_NO_PREALLOC;
	assert_refused(&spec, HAUL_MAP_OP_GET, "LPM trie");
	assert_refused(&spec, HAUL_MAP_OP_COUNT, "does not count");
	spec.type = BPF_MAP_TYPE_ARRAY;
	spec.key_size = 4;
	spec.flags = 0;
	assert_refused(&spec, HAUL_MAP_OP_DELETE_IF, "cannot be deleted");
}

/* A read-only map can still be read by the engine. */
static void test_kernel_walk__read_only_map_is_read(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_map_spec spec = { .type = BPF_MAP_TYPE_HASH,
				      .flags = BPF_F_RDONLY_PROG,
				      .key_size = 8,
				      .value_size = 16,
				      .max_entries = 100 };
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	fill(&lab, 60, &prng);
	check_scan(&lab, NULL);
	kernel_lab_close(&lab);
}

/* A type that the verifier turns down leaves a text behind, and later calls do not try again. */
static void test_kernel_walk__load_failure_is_remembered(void **state)
{
	(void)state;
	struct haul_map_spec spec = { .type = BPF_MAP_TYPE_LPM_TRIE,
				      .flags = BPF_F_NO_PREALLOC,
				      .key_size = 8,
				      .value_size = 8,
				      .max_entries = 8 };
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	struct haul_map_rows rows = { 1, lab.row_keys, lab.row_values, lab.status };
	struct haul_map_result result = { .failed_index = -1 };
	assert_int_equal(map_engine_kernel.get(&lab.map, &rows, &result), -ENOTSUP);
	assert_int_equal(result.failed_index, -1);
	const struct kernel_part *part = &lab.map.kernel->parts[KERNEL_READ];
	assert_int_equal(part->error, -ENOTSUP);
	assert_non_null(strstr(part->why, "does not take"));
	assert_null(part->object);
	assert_int_equal(map_engine_kernel.get(&lab.map, &rows, &result), -ENOTSUP);
	/* The type is a lie that only this test tells: can() believes what it loaded. */
	lab.map.info.type = BPF_MAP_TYPE_HASH;
	const char *why = NULL;
	assert_false(map_engine_kernel.can(&lab.map, HAUL_MAP_OP_GET, &why));
	assert_ptr_equal(why, part->why);
	kernel_lab_close(&lab);
}

/* Without capabilities loading ends in -EPERM and a text that names the capability. */
static void test_kernel_walk__no_privilege_says_so(void **state)
{
	(void)state;
	struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_HASH, .key_size = 8, .value_size = 8, .max_entries = 8
	};
	struct kernel_lab lab;
	kernel_lab_open(&lab, &spec);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
		struct __user_cap_data_struct none[2] = { { 0 } };
		struct haul_map_aggregate aggregate = { .field = { .width = 8 } };
		struct haul_map_result result = { .failed_index = -1 };
		const char *why = NULL;
		bool good = syscall(SYS_capset, &header, none) == 0 &&
			    map_engine_kernel.aggregate(&lab.map, &aggregate, &result) == -EPERM &&
			    lab.map.kernel_error == -EPERM &&
			    strstr(lab.map.kernel_why, "CAP_BPF") != NULL &&
			    !map_engine_kernel.can(&lab.map, HAUL_MAP_OP_GET, &why) &&
			    why == lab.map.kernel_why;
		_exit(good ? 0 : 1);
	}
	int status = -1;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	kernel_lab_close(&lab);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernel_walk__scan_equals_the_model),
		cmocka_unit_test(test_kernel_walk__scan_of_an_array),
		cmocka_unit_test(test_kernel_walk__many_passes_miss_nothing),
		cmocka_unit_test(test_kernel_walk__records_grow_to_what_matches),
		cmocka_unit_test(test_kernel_walk__visit_ends_the_scan),
		cmocka_unit_test(test_kernel_walk__delete_if_equals_the_model),
		cmocka_unit_test(test_kernel_walk__delete_if_comes_back_for_the_busy),
		cmocka_unit_test(test_kernel_walk__count_of_every_hash_type),
		cmocka_unit_test(test_kernel_walk__without_btf),
		cmocka_unit_test(test_kernel_walk__stable_keys_beside_churn),
		cmocka_unit_test(test_kernel_walk__refusals_say_why),
		cmocka_unit_test(test_kernel_walk__read_only_map_is_read),
		cmocka_unit_test(test_kernel_walk__load_failure_is_remembered),
		cmocka_unit_test(test_kernel_walk__no_privilege_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
