/* The disk bench with small files. How fast anything is, is not tested: that every case runs, and
 * that its checks can fail, is. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench_lab.h"
#include "disk_client.h"
#include "disk_work.h"
#include "lib/testlib.h"

extern const struct bench bench_disk;

static const char *haul; /* the program */

static const struct disk_sizes small = {
	.store_bytes = 64 << 20,
	.plain_bytes = 16 << 20,
	.lookup_bytes = 64 << 20,
	.lookup_entries = 6000,
	.recovery_bytes = 64 << 20,
	.recovery_entries = 20000,
	.serve_bytes = 512 << 20,
	.serve_ram_mib = 64,
	.serve_entries = 24000,
};

static struct disk_bench *bench_open(void)
{
	struct haul_err err = { 0 };
	void *ctx;
	if (disk_bench_open(&ctx, &small, &err) == -ENOSPC)
		test_skip(err.text);
	struct disk_bench *bench = ctx;
	assert_non_null(bench);
	bench->haul = haul;
	return bench;
}

/* How many descriptors this process has, its files without a name included. */
static uint32_t open_files(void)
{
	uint32_t count = 0;
	struct stat st;
	for (int fd = 0; fd < 1024; fd++)
		count += fstat(fd, &st) == 0;
	return count;
}

/* Both arms of every case run and give a figure; what is missing here (fio, memcached) is said; and
 * nothing is left open, or in the folder. */
static void test_bench_disk__arms_do_what_they_say(void **state)
{
	(void)state;
	const uint32_t files = open_files();
	struct disk_bench *bench = bench_open();
	const uint32_t ran = bench_lab_run(&bench_disk, bench, 0.02);
	disk_bench_close(bench);
	assert_in_range(ran, 2 * 9, 2 * bench_disk.case_count);
	assert_int_equal(open_files(), files);
}

/* The goals, as they are stated. */
static void test_bench_disk__has_the_stated_goals(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		double goal;
	} goals[] = {
		{ "store_4k", 22 },       { "store_64k", 2.2 },     { "store_1m", 1.05 },
		{ "store_4k_slow", 20 },  { "store_64k_slow", 15 }, { "store_1m_slow", 10 },
		{ "bandwidth_4k", 0.80 }, { "lookup_seq", 8 },      { "lookup_rand", 3 },
		{ "lookup_fio", 0.85 },   { "recovery", 1 },        { "serve_get", 2.5 },
		{ "serve_mget", 3.5 },
	};
	for (uint32_t i = 0; i < sizeof goals / sizeof *goals; i++)
		assert_true(bench_lab_case(&bench_disk, goals[i].name)->goal == goals[i].goal);
	assert_true(bench_lab_case(&bench_disk, "idle_store")->goal == 0.91);
	assert_true(bench_lab_case(&bench_disk, "recovery")->lower_is_better);
}

/* Too little room is said before anything is written. */
static void test_bench_disk__says_when_there_is_too_little_room(void **state)
{
	(void)state;
	struct disk_sizes large = small;
	struct haul_err err = { 0 };
	void *ctx = NULL;
	large.store_bytes = UINT64_C(1) << 60;
	assert_int_equal(disk_bench_open(&ctx, &large, &err), -ENOSPC);
	assert_null(ctx);
	assert_non_null(strstr(err.text, "MiB are wanted: set TMPDIR"));
	struct disk_bench *bench = bench_open();
	struct disk_file file = { .fd = -1 };
	assert_int_equal(disk_file_open(bench, &file, UINT64_C(1) << 60, &err), -ENOSPC);
	assert_int_equal(file.fd, -1);
	disk_bench_close(bench);
}

/* A lookup that does not find its value is no figure. */
static void test_bench_disk__a_wrong_answer_is_no_figure(void **state)
{
	(void)state;
	struct disk_bench *bench = bench_open();
	struct haul_err err = { 0 };
	struct bench_sample sample = { 0 };
	const struct bench_case *of = bench_lab_case(&bench_disk, "lookup_rand");
	assert_int_equal(disk_bench_enter(bench, DISK_LOOKUPS, &err), 0);
	assert_int_equal(haul_cache_purge(bench->cache), 0);
	assert_int_equal(of->run(bench, of, BENCH_BATCHED, 0.01, &sample, &err), -EIO);
	assert_non_null(strstr(err.text, "lookups are wrong"));
	assert_true(of->run(bench, of, BENCH_INDIVIDUAL, 0.01, &sample, &err) < 0);
	/* Nor is a recovery that lost one. */
	assert_int_equal(disk_bench_enter(bench, DISK_RECOVER, &err), 0);
	of = bench_lab_case(&bench_disk, "recovery");
	bench->sizes.recovery_entries++;
	assert_int_equal(of->run(bench, of, BENCH_BATCHED, 0.01, &sample, &err), -EIO);
	assert_non_null(strstr(err.text, "20000 of 20001 entries"));
	disk_bench_close(bench);
}

/* fio's failures are told, and a server that never comes is not waited for without end. */
static void test_bench_disk__says_what_a_child_did_not_do(void **state)
{
	(void)state;
	struct haul_err err = { 0 };
	double per_s = 0;
	const struct disk_fio fio = { .path = "/proc/none/file",
				      .rw = "randread",
				      .bytes = 4096,
				      .depth = 1,
				      .size = 1 << 20,
				      .seconds = 0.01 };
	int rc = disk_fio_run(&fio, &per_s, &err);
	assert_true(rc == -EIO || rc == -ENOTSUP);
	assert_true(per_s == 0.0);
	assert_int_equal(disk_client_wait(1, 0.01, &err), -ETIMEDOUT);
	const struct disk_sets sets = { .port = 1, .pipelined = 1 };
	uint32_t stored;
	assert_int_equal(disk_client_sets(&sets, &stored, &err), -ECONNREFUSED);
	const uint32_t number = 0;
	struct disk_gets gets = {
		.port = 1, .numbers = &number, .number_count = 1, .per_request = 1, .connections = 1
	};
	assert_int_equal(disk_client_gets(&gets, &err), -ECONNREFUSED);
}

/* The ledger: what haul answered STORED is there, all of it. */
static void test_bench_disk__what_was_stored_is_there(void **state)
{
	(void)state;
	struct disk_bench *bench = bench_open();
	struct haul_err err = { 0 };
	json_t *tables = json_array();
	int rc = disk_serve_tables(bench, tables, &err);
	if (rc < 0)
		fail_msg("%s", err.text);
	if (json_array_size(tables) > 0) {
		const json_t *row =
			json_array_get(json_object_get(json_array_get(tables, 0), "rows"), 0);
		assert_string_equal(json_string_value(json_array_get(row, 0)), "haul");
		assert_int_equal(json_integer_value(json_array_get(row, 1)), small.serve_entries);
		assert_int_equal(json_integer_value(json_array_get(row, 2)), small.serve_entries);
	}
	json_decref(tables);
	disk_bench_close(bench);
}

int main(int argc, char **argv)
{
	haul = argc > 1 ? argv[1] : "haul";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bench_disk__arms_do_what_they_say),
		cmocka_unit_test(test_bench_disk__has_the_stated_goals),
		cmocka_unit_test(test_bench_disk__says_when_there_is_too_little_room),
		cmocka_unit_test(test_bench_disk__a_wrong_answer_is_no_figure),
		cmocka_unit_test(test_bench_disk__says_what_a_child_did_not_do),
		cmocka_unit_test(test_bench_disk__what_was_stored_is_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
