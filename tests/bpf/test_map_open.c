/* Finding, making, describing and giving back maps; the choice between engines; no privilege. */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/map_lab.h"
#include "bpf/map_state.h"
#include "lib/testlib.h"

static uint32_t open_id(const char *what)
{
	struct haul_map *map;
	struct haul_err err = { 0 };
	if (haul_map_open(&map, what, NULL, &err) < 0)
		fail_msg("%s: %s", what, err.text);
	uint32_t id = haul_map_info(map)->id;
	haul_map_close(map);
	return id;
}

static int open_rc(const char *what, struct haul_err *err)
{
	struct haul_map *map = NULL;
	int rc = haul_map_open(&map, what, NULL, err);
	assert_true(rc < 0);
	assert_null(map);
	assert_int_equal(err->code, rc);
	return rc;
}

/* A map is found by its id, by its name, and by each in words. */
static void test_open__by_id_and_name(void **state)
{
	(void)state;
	struct lab_map lab;
	struct haul_err err;
	char text[64], name[HAUL_MAP_NAME];
	(void)snprintf(name, sizeof name, "lab_%d", (int)getpid());
	map_lab_open(
		&lab,
		(struct haul_map_spec){ .name = name, .type = BPF_MAP_TYPE_HASH, .max_entries = 4 },
		NULL);
	uint32_t id = lab.info->id;
	assert_string_equal(lab.info->name, name);
	assert_int_equal(open_id(name), id);
	(void)snprintf(text, sizeof text, "name %s", name);
	assert_int_equal(open_id(text), id);
	(void)snprintf(text, sizeof text, "id %u", id);
	assert_int_equal(open_id(text), id);
	(void)snprintf(text, sizeof text, "%u", id);
	assert_int_equal(open_id(text), id);
	map_lab_close(&lab);

	assert_int_equal(open_rc("id 4294967295", &err), -ENOENT);
	assert_int_equal(open_rc("id x", &err), -EINVAL);
	assert_int_equal(open_rc("id -1", &err), -EINVAL);
	assert_int_equal(open_rc("99999999999", &err), -EINVAL);
	assert_int_equal(open_rc("no_map_is_named", &err), -ENOENT);
	assert_non_null(strstr(err.text, "no_map_is_named"));
	assert_int_equal(open_rc("", &err), -EINVAL);
	assert_int_equal(open_rc("name  ", &err), -EINVAL);
}

/* A name that several maps have is refused, and their ids are told. */
static void test_open__ambiguous_name(void **state)
{
	(void)state;
	struct lab_map one, other;
	struct haul_err err;
	char name[HAUL_MAP_NAME], id[16];
	(void)snprintf(name, sizeof name, "two_%d", (int)getpid());
	const struct haul_map_spec spec = { .name = name,
					    .type = BPF_MAP_TYPE_ARRAY,
					    .max_entries = 1 };
	map_lab_open(&one, spec, NULL);
	map_lab_open(&other, spec, NULL);
	assert_int_equal(open_rc(name, &err), -EINVAL);
	(void)snprintf(id, sizeof id, "%u", one.info->id);
	assert_non_null(strstr(err.text, id));
	(void)snprintf(id, sizeof id, "%u", other.info->id);
	assert_non_null(strstr(err.text, id));
	map_lab_close(&one);
	map_lab_close(&other);
}

/* In a mount namespace of its own, so that nothing is left behind whatever happens. */
static void pin_in_child(const char *folder)
{
	struct lab_map lab;
	struct haul_err err = { 0 };
	char path[128];
	map_lab_open(&lab, (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH, .max_entries = 4 },
		     NULL);
	(void)snprintf(path, sizeof path, "%s/map", folder);
	assert_int_equal(haul_map_pin(lab.map, path, &err), -EPERM); /* not a bpf filesystem */
	assert_non_null(strstr(err.text, "bpf filesystem"));
	assert_int_equal(mount("bpf", folder, "bpf", 0, NULL), 0);
	assert_int_equal(haul_map_pin(lab.map, path, &err), 0);
	assert_int_equal(haul_map_pin(lab.map, path, &err), -EEXIST);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(open_id(path), lab.info->id);
	char text[256];
	(void)snprintf(text, sizeof text, "pinned %s", path);
	assert_int_equal(open_id(text), lab.info->id);
	(void)snprintf(text, sizeof text, "%s/none", folder);
	assert_int_equal(open_rc(text, &err), -ENOENT);
	assert_int_equal(unlink(path), 0);
	map_lab_close(&lab);
	assert_int_equal(umount(folder), 0);
}

/* A pinned map is found by its path; what is there already, and what is no bpf filesystem, is
 * said. */
static void test_open__pinned(void **state)
{
	(void)state;
	char folder[] = "/tmp/haul-pin-XXXXXX";
	int status = 0;
	assert_non_null(mkdtemp(folder));
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (unshare(CLONE_NEWNS) != 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
			_exit(77);
		pin_in_child(folder); /* a failed assertion ends the child with another code */
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(rmdir(folder), 0);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Descriptors of other things are not taken for maps. */
static void test_open__descriptor_of_something_else(void **state)
{
	(void)state;
	struct haul_map *map = NULL;
	struct haul_err err;
	int pipes[2];
	assert_int_equal(haul_map_open_fd(&map, -1, NULL, &err), -EBADF);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(haul_map_open_fd(&map, pipes[0], NULL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a BPF map"));
	assert_int_equal(close(pipes[0]), 0);
	assert_int_equal(close(pipes[1]), 0);
	assert_null(map);
}

/* Options that mean nothing are refused before anything is opened. */
static void test_open__options(void **state)
{
	(void)state;
	static const struct haul_map_options wrong[] = {
		{ .engine = HAUL_MAP_ENGINES },
		{ .batch = HAUL_MAP_BATCH_MAX + 1 },
		{ .call_max_ns = -1 },
	};
	struct lab_map lab;
	struct haul_map *map = NULL;
	struct haul_err err;
	map_lab_open(&lab, (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH, .max_entries = 4 },
		     NULL);
	for (uint32_t i = 0; i < 3; i++) {
		int rc = haul_map_open_fd(&map, haul_map_fd(lab.map), &wrong[i], &err);
		assert_int_equal(rc, -EINVAL);
		assert_null(map);
	}
	map_lab_close(&lab);
}

/* What cannot be made is told with all its figures; a name that would be cut is refused. */
static void test_create__errors_name_the_map(void **state)
{
	(void)state;
	struct haul_map *map = NULL;
	struct haul_err err;
	struct haul_map_spec spec = { .name = "lab_bad", .type = BPF_MAP_TYPE_HASH };
	assert_int_equal(haul_map_create(&map, &spec, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "lab_bad"));
	assert_non_null(strstr(err.text, "hash"));
	spec.name = "sixteen_letters_";
	assert_int_equal(haul_map_create(&map, &spec, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.text, "at most 15"));
	spec = (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH_OF_MAPS };
	assert_int_equal(haul_map_create(&map, &spec, NULL, &err), -EINVAL);
	assert_null(map);
}

struct listed {
	uint32_t id, seen, stop;
};

static int list_visit(const struct haul_map_info *info, void *arg)
{
	struct listed *listed = arg;
	listed->seen += info->id == listed->id;
	if (info->id == listed->id && listed->stop) {
		assert_string_equal(info->name, "lab");
		assert_int_equal(info->key_size, 8);
		return 42;
	}
	return 0;
}

/* The list has each map once, and ends when told to. */
static void test_each__lists_every_map(void **state)
{
	(void)state;
	struct lab_map lab;
	struct haul_err err;
	map_lab_open(&lab, (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH, .max_entries = 4 },
		     NULL);
	struct listed listed = { .id = lab.info->id };
	assert_int_equal(haul_map_each(list_visit, &listed, &err), 0);
	assert_int_equal(listed.seen, 1);
	listed.stop = 1;
	assert_int_equal(haul_map_each(list_visit, &listed, &err), 42);
	map_lab_close(&lab);
}

/* Sizes as the calls want them, memory as the kernel accounts it, and whether it is frozen. */
static void test_info__says_what_the_kernel_says(void **state)
{
	(void)state;
	struct lab_map lab;
	map_lab_open(&lab,
		     (struct haul_map_spec){ .type = BPF_MAP_TYPE_PERCPU_HASH,
					     .value_size = 12,
					     .max_entries = 100 },
		     NULL);
	assert_int_equal(lab.info->cpus, libbpf_num_possible_cpus());
	assert_int_equal(lab.info->slot_bytes, 16 * lab.info->cpus);
	assert_int_equal(lab.info->value_size, 12);
	assert_true(lab.info->memory_bytes > 100 * 20);
	assert_false(lab.info->frozen);
	assert_int_equal(bpf_map_freeze(haul_map_fd(lab.map)), 0);
	struct haul_map *again = map_lab_again(&lab, NULL, NULL);
	assert_true(haul_map_info(again)->frozen);
	assert_string_equal(haul_map_stats(again)->name, "map.lab");
	haul_map_close(again);
	map_lab_close(&lab);
}

/* Names of types are bpftool's, both ways; an unknown one is an error or "unknown". */
static void test_type__names(void **state)
{
	(void)state;
	uint32_t type = 0;
	for (uint32_t i = 1; i < 34; i++) {
		if (strcmp(haul_map_type_name(i), "unknown") == 0)
			continue;
		assert_int_equal(haul_map_type_by_name(haul_map_type_name(i), &type), 0);
		assert_int_equal(type, i);
	}
	assert_string_equal(haul_map_type_name(BPF_MAP_TYPE_LRU_PERCPU_HASH), "lru_percpu_hash");
	assert_string_equal(haul_map_type_name(4711), "unknown");
	assert_int_equal(haul_map_type_by_name("hush", &type), -EINVAL);
	enum haul_map_engine engine;
	assert_int_equal(haul_map_engine_by_name("kernel", &engine), 0);
	assert_int_equal(engine, HAUL_MAP_KERNEL);
	assert_int_equal(haul_map_engine_by_name("hash", &engine), -EINVAL);
}

/* A queue has no keys: each operation says -ENOTSUP, and explain says why. */
static void test_map__without_keys(void **state)
{
	(void)state;
	static const uint32_t types[] = { BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK,
					  BPF_MAP_TYPE_RINGBUF };
	for (uint32_t i = 0; i < 3; i++) {
		const struct haul_map_spec spec = {
			.type = types[i],
			.value_size = types[i] == BPF_MAP_TYPE_RINGBUF ? 0 : 8,
			.max_entries = 4096,
		};
		struct haul_map *map;
		struct haul_err err = { 0 };
		struct haul_map_result result;
		struct haul_map_batch batch;
		struct haul_map_cursor cursor = { 0 };
		uint8_t byte = 0;
		uint64_t count;
		char text[HAUL_MAP_TEXT];
		struct haul_map_rows rows = { .count = 1, .keys = &byte, .values = &byte };
		assert_int_equal(haul_map_create(&map, &spec, NULL, &err), 0);
		assert_int_equal(haul_map_get(map, &rows, &result), -ENOTSUP);
		assert_int_equal(haul_map_update(map, &rows, HAUL_MAP_ANY, &result), -ENOTSUP);
		assert_int_equal(haul_map_delete(map, &rows, &result), -ENOTSUP);
		assert_int_equal(haul_map_read(map, &cursor, &batch, &result), -ENOTSUP);
		assert_int_equal(haul_map_take(map, &cursor, &batch, &result), -ENOTSUP);
		assert_int_equal(haul_map_count(map, &count, &result), -ENOTSUP);
		assert_int_equal(haul_map_explain(map, HAUL_MAP_OP_SCAN, 0, text), HAUL_MAP_AUTO);
		assert_non_null(strstr(text, "cannot be reached by key"));
		haul_map_close(map);
	}
}

static int never(const struct haul_map_batch *batch, void *arg)
{
	(void)batch;
	(void)arg;
	return 1;
}

/* Arguments that mean nothing are refused, and the result is filled in all the same. */
static void test_map__refuses_wrong_arguments(void **state)
{
	(void)state;
	struct lab_map lab;
	struct haul_map_result result;
	struct haul_map_report report;
	uint8_t key[8] = { 0 };
	struct haul_map_rows rows = { .count = 1, .keys = key };
	struct haul_map_field field = { .offset = 11, .width = 2 };
	struct haul_map_scan scan = { .visit = never, .threads = HAUL_MAP_THREADS_MAX + 1 };
	struct haul_map_filter filter = {
		.count = 1,
		.conditions = { { .field = { .offset = 12, .width = 1 } } },
	};
	struct haul_map_aggregate sum = { .field = { .width = 3 } };
	map_lab_open(&lab, (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH, .max_entries = 4 },
		     NULL);
	struct haul_map *map = lab.map;
	memset(&result, 0xff, sizeof result);
	assert_int_equal(haul_map_get(map, &rows, &result), -EINVAL); /* no values */
	assert_int_equal(result.done, 0);
	assert_int_equal(result.reason, -EINVAL);
	assert_int_equal(result.failed_index, -1);
	assert_int_equal(haul_map_get(map, NULL, &result), -EINVAL);
	assert_int_equal(haul_map_update(map, &rows, (enum haul_map_mode)3, &result), -EINVAL);
	uint8_t value[12] = { 0 };
	rows.values = value;
	assert_int_equal(haul_map_compare_delete(map, &rows, &field, &result), -EINVAL);
	field = (struct haul_map_field){ .in_key = true, .width = 1 };
	assert_int_equal(haul_map_compare_delete(map, &rows, &field, &result), -EINVAL);
	assert_int_equal(haul_map_scan(map, &scan, &report), -EINVAL);
	scan = (struct haul_map_scan){ 0 };
	assert_int_equal(haul_map_scan(map, &scan, &report), -EINVAL);
	assert_int_equal(haul_map_delete_if(map, &filter, &result), -EINVAL);
	assert_int_equal(haul_map_aggregate(map, &sum, &result), -EINVAL);
	sum = (struct haul_map_aggregate){ .field = { .width = 4 }, .top = 1 };
	assert_int_equal(haul_map_aggregate(map, &sum, &result), -EINVAL);
	rows.count = 0;
	assert_int_equal(haul_map_get(map, &rows, &result), 0);
	assert_int_equal(result.done, 0);
	map_lab_close(&lab);
}

/* The choice follows the operation, the type and the number of rows, and says why. */
static void test_explain__names_engine_and_reason(void **state)
{
	(void)state;
	struct lab_map lab;
	char text[HAUL_MAP_TEXT];
	map_lab_open(
		&lab,
		(struct haul_map_spec){ .type = BPF_MAP_TYPE_PERCPU_HASH, .max_entries = 100000 },
		NULL);
	assert_int_equal(haul_map_explain(lab.map, HAUL_MAP_OP_DELETE_IF, 0, text), HAUL_MAP_BATCH);
	assert_non_null(strstr(text, "so few"));
	assert_int_equal(haul_map_explain(lab.map, HAUL_MAP_OP_GET, 100000, text), HAUL_MAP_SINGLE);
	assert_non_null(strstr(text, "not batch: "));
	assert_int_equal(haul_map_explain(lab.map, HAUL_MAP_OP_UPDATE, 1, text), HAUL_MAP_SINGLE);
	assert_int_equal(haul_map_explain(lab.map, HAUL_MAP_OP_UPDATE, 100, text), HAUL_MAP_BATCH);
	assert_int_equal(haul_map_explain(lab.map, HAUL_MAP_OP_TAKE, 0, text), HAUL_MAP_BATCH);
	map_lab_close(&lab);

	map_lab_open(&lab,
		     (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH, .max_entries = 400000 },
		     NULL);
	map_lab_fill(&lab, 0, 200000);
	assert_int_equal(haul_map_explain(lab.map, HAUL_MAP_OP_SCAN, 0, text), HAUL_MAP_KERNEL);
	assert_non_null(strstr(text, "kernel: "));
	assert_int_equal(haul_map_explain(lab.map, HAUL_MAP_OP_UPDATE, 100, text), HAUL_MAP_BATCH);
	assert_int_equal(haul_map_explain(lab.map, HAUL_MAP_OP_UPDATE, 10000, text),
			 HAUL_MAP_KERNEL);
	map_lab_close(&lab);
}

static int visit_none(const struct haul_map_batch *batch, void *arg)
{
	(void)batch;
	(void)arg;
	return 0;
}

/* A large map with little in it is not worth loading a program for, until it has been walked often;
 * what a scan tells does not depend on that. */
static void test_scan__loads_a_program_when_it_pays(void **state)
{
	(void)state;
	enum { ENTRIES = 30000, WALKS = 131072 / ENTRIES + 1 };
	struct lab_map lab;
	struct haul_map_report report;
	const struct haul_map_scan scan = { .visit = visit_none };
	map_lab_open(&lab,
		     (struct haul_map_spec){ .type = BPF_MAP_TYPE_HASH, .max_entries = 500000 },
		     NULL);
	assert_int_equal(haul_map_scan(lab.map, &scan, &report), 0);
	assert_int_equal(report.engine, HAUL_MAP_BATCH);
	assert_int_equal(report.read, 0);
	map_lab_fill(&lab, 0, ENTRIES);
	enum haul_map_engine last = HAUL_MAP_BATCH;
	for (int i = 0; i <= WALKS; i++) {
		assert_int_equal(haul_map_scan(lab.map, &scan, &report), 0);
		assert_int_equal(report.read, ENTRIES);
		assert_int_equal(report.fallbacks, 0);
		if (i < 2)
			assert_int_equal(report.engine, HAUL_MAP_BATCH);
		assert_true(report.engine >= last);
		last = report.engine;
	}
	assert_int_equal(last, HAUL_MAP_KERNEL);
	map_lab_close(&lab);
}

/* As a user without rights: 1 when the error is the one to be told. */
static bool refused_without_rights(void)
{
	struct haul_map *map = NULL;
	struct haul_err err = { 0 };
	const struct haul_map_spec spec = {
		.type = BPF_MAP_TYPE_LRU_HASH,
		.key_size = 4,
		.value_size = 4,
		.max_entries = 1,
	};
	return haul_map_create(&map, &spec, NULL, &err) == -EPERM && strstr(err.text, "CAP_BPF") &&
	       haul_map_open(&map, "id 1", NULL, &err) == -EPERM && strstr(err.text, "CAP_BPF") &&
	       haul_map_open(&map, "flows", NULL, &err) == -EPERM && strstr(err.text, "CAP_BPF");
}

/* Without privilege every way in says -EPERM and which right is missing. */
static void test_open__without_privilege(void **state)
{
	(void)state;
	int status = 0;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
		struct __user_cap_data_struct none[2] = { { 0 }, { 0 } };
		if (syscall(SYS_capset, &head, none) != 0)
			_exit(2);
		_exit(refused_without_rights() ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open__by_id_and_name),
		cmocka_unit_test(test_open__ambiguous_name),
		cmocka_unit_test(test_open__pinned),
		cmocka_unit_test(test_open__descriptor_of_something_else),
		cmocka_unit_test(test_open__options),
		cmocka_unit_test(test_create__errors_name_the_map),
		cmocka_unit_test(test_each__lists_every_map),
		cmocka_unit_test(test_info__says_what_the_kernel_says),
		cmocka_unit_test(test_type__names),
		cmocka_unit_test(test_map__without_keys),
		cmocka_unit_test(test_map__refuses_wrong_arguments),
		cmocka_unit_test(test_explain__names_engine_and_reason),
		cmocka_unit_test(test_scan__loads_a_program_when_it_pays),
		cmocka_unit_test(test_open__without_privilege),
	};
	map_lab_need();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
