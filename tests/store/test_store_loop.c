/* A whole store on a disk that may only be read, and on one of which that becomes true while the
 * store is open: it says so, goes on reading, and has lost nothing when it can be written again. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <haul/err.h>
#include <haul/store.h>
#include "os/loop_lab.h"

enum { MIB = 1 << 20, DISK = 512 * MIB, NODES = 400, MEMORY = 160 * MIB };

struct bench {
	struct loop_lab lab;
	char path[160];
	struct haul_store *store;
	struct haul_changes *changes;
	struct haul_err err;
	uint64_t last_id;
};

static int bench_open(struct bench *bench, bool read_only)
{
	const struct haul_store_options options = { .memory = MEMORY, .read_only = read_only };

	bench->err = (struct haul_err){ 0 };
	return haul_store_open(&bench->store, bench->path, &options, &bench->err);
}

static void bench_begin(struct bench *bench)
{
	memset(bench, 0, sizeof *bench);
	loop_lab_open(&bench->lab, DISK, MIB, 0);
	snprintf(bench->path, sizeof bench->path, "%s/store", bench->lab.folder);
	assert_int_equal(haul_changes_new(&bench->changes, 0, 0, 0), 0);
	assert_int_equal(haul_store_init(bench->path, &bench->err), 0);
}

static void bench_end(struct bench *bench)
{
	haul_changes_free(bench->changes);
	loop_lab_close(&bench->lab);
}

static int commit_some(struct bench *bench)
{
	int32_t statuses[NODES];

	for (uint32_t i = 1; i <= NODES; i++) {
		const struct haul_node node = { .id = bench->last_id + i, .kind = 1 };
		assert_true(haul_changes_create_node(bench->changes, &node, NULL) >= 0);
	}
	const int rc = haul_store_commit(bench->store, bench->changes, statuses, NULL);
	haul_changes_clear(bench->changes);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < NODES; i++)
		assert_int_equal(statuses[i], 0);
	bench->last_id += NODES;
	return 0;
}

/* All that was acknowledged, and nothing else. */
static void expect_all(struct bench *bench)
{
	struct haul_reader *reader = NULL;
	static struct haul_node nodes[NODES];
	struct haul_scan scan = { 0 };
	uint64_t id = 0;
	int count;

	assert_int_equal(haul_store_reader(bench->store, 0, &reader), 0);
	while ((count = haul_reader_scan(reader, &scan, nodes, NODES)) > 0) {
		for (int i = 0; i < count; i++)
			assert_int_equal(nodes[i].id, ++id);
	}
	assert_int_equal(count, 0);
	assert_int_equal(id, bench->last_id);
	haul_reader_close(reader);
}

/* Frames in tables, and frames that are only in the log: by a process that ends without closing. */
static void store_fill(struct bench *bench)
{
	int status = 1;

	assert_int_equal(bench_open(bench, false), 0);
	assert_int_equal(commit_some(bench), 0);
	assert_int_equal(haul_store_close(bench->store), 0);
	const pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(bench_open(bench, false) < 0 || commit_some(bench) < 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	bench->last_id += NODES;
}

/* A file system that is mounted read-only: who wants to write is told that, and where; who wants to
 * read finds all, the end of the log included, and cannot commit. Mounted otherwise the store is as
 * it was. */
static void test_store_loop__disk_is_read_only(void **state)
{
	static struct bench bench;
	char other[160];

	(void)state;
	bench_begin(&bench);
	store_fill(&bench);
	loop_lab_remount(&bench.lab, true);
	assert_int_equal(bench_open(&bench, false), -EROFS);
	assert_non_null(strstr(bench.err.text, bench.path));
	assert_non_null(strstr(bench.err.text, "open it read-only"));
	assert_int_equal(bench_open(&bench, true), 0);
	expect_all(&bench);
	assert_int_equal(commit_some(&bench), -EROFS);
	expect_all(&bench);
	assert_int_equal(haul_store_close(bench.store), 0);
	snprintf(other, sizeof other, "%s/other", bench.lab.folder);
	assert_int_equal(haul_store_init(other, &bench.err), -EROFS);
	assert_non_null(strstr(bench.err.text, other));
	loop_lab_remount(&bench.lab, false);
	assert_int_equal(bench_open(&bench, false), 0);
	expect_all(&bench);
	assert_int_equal(commit_some(&bench), 0);
	assert_int_equal(haul_store_close(bench.store), 0);
	bench_end(&bench);
}

/* A file system that turns read-only under an open store: commits fail and say why, then and ever
 * after; what is there can be read from memory and from tables; closing says it, too. Nothing that
 * was acknowledged is missing afterwards, and nothing that was refused is there. */
static void test_store_loop__disk_turns_read_only(void **state)
{
	static struct bench bench;

	(void)state;
	bench_begin(&bench);
	store_fill(&bench);
	assert_int_equal(bench_open(&bench, false), 0);
	assert_int_equal(commit_some(&bench), 0);
	loop_lab_error(&bench.lab);
	assert_int_equal(commit_some(&bench), -EROFS);
	expect_all(&bench);
	assert_int_equal(commit_some(&bench), -EROFS);
	expect_all(&bench);
	assert_int_equal(haul_store_close(bench.store), -EROFS);
	loop_lab_remount(&bench.lab, false);
	assert_int_equal(bench_open(&bench, false), 0);
	expect_all(&bench);
	assert_int_equal(commit_some(&bench), 0);
	expect_all(&bench);
	assert_int_equal(haul_store_close(bench.store), 0);
	bench_end(&bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store_loop__disk_is_read_only),
		cmocka_unit_test(test_store_loop__disk_turns_read_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
