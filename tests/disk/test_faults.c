/* The whole cache on devices that really fail: full, unreadable in part, read only, dead; with
 * every engine. A ledger keeps what was told to be stored, and no wrong byte may ever be given. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <haul/cache.h>
#include "disk/cache_lab.h"
#include "os/loop_lab.h"

enum {
	MIB = 1 << 20,
	VALUE_BYTES = 60000,
	ENTRIES = 1000,
	FS_BYTES = 200 * MIB,
	DEVICE_BYTES = 160 * MIB,
};

enum told { NOTHING, STORED, FAILED };

struct faults {
	const char *engine;
	const char *path;
	struct haul_cache *cache;
	uint8_t told[ENTRIES];
	uint8_t value[VALUE_BYTES];
};

static void faults_format(struct faults *faults, const char *path, uint64_t bytes)
{
	const struct haul_cache_format format = {
		.bytes = bytes, .partitions = 1, .segment_bytes = 2 * MIB, .force = true
	};
	struct haul_err err = { 0 };

	faults->path = path;
	memset(faults->told, NOTHING, sizeof faults->told);
	if (haul_cache_format(path, &format, &err) < 0)
		fail_msg("format: %s", err.text);
}

static int faults_try_open(struct faults *faults, bool read_only, struct haul_err *err)
{
	const struct haul_cache_options options = { .engine = faults->engine,
						    .read_only = read_only };

	return haul_cache_open(&faults->cache, faults->path, &options, err);
}

static void faults_open(struct faults *faults)
{
	struct haul_err err = { 0 };

	if (faults_try_open(faults, false, &err) < 0)
		fail_msg("open: %s", err.text);
}

static void faults_close(struct faults *faults)
{
	haul_cache_close(faults->cache);
	faults->cache = NULL;
}

static int store(struct faults *faults, uint32_t number)
{
	char name[32];
	struct haul_cache_item item = { .key = cache_lab_key_of(name, "entry ", number),
					.value = faults->value,
					.bytes = VALUE_BYTES };
	int rc;

	cache_lab_fill(faults->value, VALUE_BYTES, number);
	rc = haul_cache_store(faults->cache, &item);
	faults->told[number] = rc == 0 ? STORED : FAILED;
	return rc;
}

/* Stores first … last - 1; returns how many failed, and the last error. */
static uint32_t store_all(struct faults *faults, uint32_t first, uint32_t last, int *ret_error)
{
	uint32_t failed = 0;

	for (uint32_t i = first; i < last; i++) {
		int rc = store(faults, i);

		if (rc == 0)
			continue;
		failed++;
		*ret_error = rc;
	}
	return failed;
}

struct seen {
	struct faults *faults;
	uint32_t hits, misses, corrupt, unreadable;
	bool complete; /* what was told to be stored has to be there */
};

static int see(uint32_t index, const struct haul_cache_value *value, void *arg)
{
	struct seen *seen = arg;

	seen->hits += value->status == HAUL_CACHE_HIT;
	seen->misses += value->status == HAUL_CACHE_MISS;
	seen->corrupt += value->status == HAUL_CACHE_CORRUPT;
	seen->unreadable += value->status == HAUL_CACHE_FAILED;
	if (value->status == HAUL_CACHE_HIT) {
		assert_int_equal(value->bytes, VALUE_BYTES);
		assert_true(cache_lab_filled(value->data, VALUE_BYTES, index, 0));
	}
	if (seen->faults->told[index] == STORED && seen->complete &&
	    value->status != HAUL_CACHE_HIT)
		fail_msg("entry %u was stored, and is a %s", index,
			 haul_cache_status_name(value->status));
	if (seen->faults->told[index] != STORED && value->status == HAUL_CACHE_HIT)
		fail_msg("entry %u was not stored, and is there", index);
	return 0;
}

/* All entries in one call: none has a wrong byte, none is there that was told to have failed. */
static struct seen look(struct faults *faults, bool complete)
{
	static char names[ENTRIES][32];
	static struct haul_cache_key keys[ENTRIES];
	struct seen seen = { .faults = faults, .complete = complete };
	int hits;

	for (uint32_t i = 0; i < ENTRIES; i++)
		keys[i] = cache_lab_key_of(names[i], "entry ", i);
	hits = haul_cache_lookup_batch(faults->cache, keys, ENTRIES, see, &seen);
	assert_int_equal(hits, seen.hits);
	return seen;
}

static void each_engine(void (*body)(struct faults *faults))
{
	static const char *const engines[] = { "auto", "threads" };
	static struct faults faults;

	for (size_t i = 0; i < 2; i++) {
		printf("engine %s\n", engines[i]);
		memset(&faults, 0, sizeof faults);
		faults.engine = engines[i];
		body(&faults);
	}
}

/* ---- no room ---- */

/* `bytes` of the device have no room behind them; returns what came of 850 stores. */
static struct haul_cache_stat fill_up(struct faults *faults, struct loop_lab *lab, uint64_t bytes)
{
	struct haul_cache_stat stat;
	int error = 0;

	loop_lab_open(lab, FS_BYTES, DEVICE_BYTES, 0);
	faults_format(faults, lab->device, 0);
	faults_open(faults);
	assert_int_equal(store_all(faults, 0, 50, &error), 0);
	/* All of it has room but these bytes, however much of it was written when it was made. */
	faults_close(faults);
	loop_lab_reserve(lab);
	loop_lab_discard(lab, 32 * MIB, bytes);
	loop_lab_fill(lab, true);
	faults_open(faults);
	assert_true(store_all(faults, 50, 900, &error) > 0);
	if (error != -EIO && error != -ENOSPC && error != -ENODEV)
		fail_msg("stores failed with %d: %s", error, haul_strerror(error));
	haul_cache_stat(faults->cache, &stat);
	printf("stores %llu, failed %llu, bad segments %llu, evicted %llu, offline %u\n",
	       (unsigned long long)stat.stores, (unsigned long long)stat.failed,
	       (unsigned long long)stat.segments_bad, (unsigned long long)stat.evicted,
	       stat.offline);
	assert_true(stat.failed > 0);
	assert_true(stat.segments_bad > 0);
	return stat;
}

/* There is room again: it goes on, here and after a restart. */
static void go_on(struct faults *faults, struct loop_lab *lab, bool complete)
{
	struct haul_err err = { 0 };
	int error = 0;

	loop_lab_fill(lab, false);
	if (haul_cache_online(faults->cache, &err) < 0)
		fail_msg("online: %s", err.text);
	look(faults, complete);
	assert_int_equal(store_all(faults, 900, 950, &error), 0);
	look(faults, complete);
	faults_close(faults);
	faults_open(faults);
	look(faults, complete);
	faults_close(faults);
	loop_lab_close(lab);
}

static void body_full_in_part(struct faults *faults)
{
	struct loop_lab lab;
	struct haul_cache_stat stat = fill_up(faults, &lab, 8 * MIB);

	assert_int_equal(stat.evicted, 0);
	assert_int_equal(stat.offline, 0);
	look(faults, true);
	go_on(faults, &lab, true);
}

/* A few segments without room: the stores that met them say so or have moved, nothing that was
 * stored is lost (the original lost its buffer and kept the keys). */
static void test_faults__no_room_loses_nothing_that_was_told(void **state)
{
	(void)state;
	each_engine(body_full_in_part);
}

static void body_full(struct faults *faults)
{
	struct loop_lab lab;
	struct haul_cache_stat stat = fill_up(faults, &lab, 120 * MIB);
	bool complete = stat.evicted == 0;

	look(faults, complete && stat.offline == 0);
	go_on(faults, &lab, complete);
}

/* Hardly any segment has room: the oldest entries may leave, none is wrong, and none is there that
 * was told to have failed. */
static void test_faults__no_room_at_all(void **state)
{
	(void)state;
	each_engine(body_full);
}

/* ---- unreadable ---- */

static void body_unreadable(struct faults *faults)
{
	struct haul_cache_stat stat;
	struct loop_lab lab;
	struct seen seen;
	int error = 0;

	loop_lab_open(&lab, FS_BYTES, DEVICE_BYTES, 0);
	faults_format(faults, lab.device, 0);
	faults_open(faults);
	assert_int_equal(store_all(faults, 0, 600, &error), 0);
	/* Closed and opened: nothing is answered from write buffers. */
	faults_close(faults);
	faults_open(faults);
	seen = look(faults, true);
	assert_int_equal(seen.hits, 600);
	loop_lab_cut(&lab, 24 * MIB);
	seen = look(faults, false);
	printf("hits %u, unreadable %u, corrupt %u, misses %u\n", seen.hits, seen.unreadable,
	       seen.corrupt, seen.misses);
	assert_true(seen.hits > 50 && seen.hits < 500);
	assert_true(seen.unreadable > 0);
	assert_true(seen.unreadable + seen.corrupt > 100);
	haul_cache_stat(faults->cache, &stat);
	assert_int_equal(stat.unreadable, seen.unreadable);
	assert_int_equal(stat.corrupt, seen.corrupt);
	/* It can be opened again, with zeros where the data was: none of them is served. */
	faults_close(faults);
	loop_lab_cut(&lab, DEVICE_BYTES);
	faults_open(faults);
	seen = look(faults, false);
	assert_true(seen.hits > 50 && seen.hits < 500);
	assert_int_equal(store_all(faults, 600, 650, &error), 0);
	faults_close(faults);
	loop_lab_close(&lab);
}

/* Blocks that cannot be read, and blocks that hold something else: misses, counted, never bytes. */
static void test_faults__unreadable_is_a_miss(void **state)
{
	(void)state;
	each_engine(body_unreadable);
}

/* ---- read only ---- */

static void body_read_only(struct faults *faults)
{
	struct haul_err err = { 0 };
	struct loop_lab lab;
	struct seen seen;
	int error = 0;

	loop_lab_open(&lab, FS_BYTES, DEVICE_BYTES, 0);
	faults_format(faults, lab.device, 0);
	faults_open(faults);
	assert_int_equal(store_all(faults, 0, 100, &error), 0);
	faults_close(faults);
	loop_lab_reattach(&lab, LOOP_READ_ONLY);
	assert_int_equal(faults_try_open(faults, false, &err), -EROFS);
	assert_non_null(strstr(err.text, lab.device));
	if (faults_try_open(faults, true, &err) < 0)
		fail_msg("open read only: %s", err.text);
	seen = look(faults, true);
	assert_int_equal(seen.hits, 100);
	assert_true(store(faults, 100) < 0);
	look(faults, true);
	faults_close(faults);
	loop_lab_close(&lab);
}

/* A device that may only be read can be read, and says why it cannot be more. */
static void test_faults__read_only_device_is_read(void **state)
{
	(void)state;
	each_engine(body_read_only);
}

/* ---- dead ---- */

static void body_dead(struct faults *faults)
{
	struct haul_cache_stat stat;
	struct haul_err err = { 0 };
	struct loop_lab lab;
	struct seen seen;
	int error = 0;

	loop_lab_open(&lab, FS_BYTES, DEVICE_BYTES, 0);
	faults_format(faults, lab.device, 0);
	faults_open(faults);
	assert_int_equal(store_all(faults, 0, 100, &error), 0);
	loop_lab_kill(&lab);
	assert_int_equal(store_all(faults, 100, 150, &error), 50);
	assert_true(error == -EIO || error == -ENODEV);
	haul_cache_stat(faults->cache, &stat);
	assert_int_equal(stat.offline, 1);
	seen = look(faults, false);
	assert_int_equal(seen.hits + seen.misses + seen.unreadable + seen.corrupt, ENTRIES);
	/* It stays away: online says so, and it goes on serving misses. */
	assert_true(haul_cache_online(faults->cache, &err) < 0);
	assert_true(strlen(err.text) > 0);
	look(faults, false);
	assert_true(store(faults, 150) < 0);
	faults_close(faults);
	loop_lab_close(&lab);
}

/* A device that is gone: every store is told, lookups are misses, nothing hangs. */
static void test_faults__dead_device_serves_misses(void **state)
{
	(void)state;
	each_engine(body_dead);
}

/* ---- limits of the process ---- */

static int limited_child(struct faults *faults)
{
	struct rlimit limit = { .rlim_cur = 24 * MIB, .rlim_max = 24 * MIB };
	int error = 0;
	uint32_t failed;

	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
		return 2;
	faults_open(faults);
	failed = store_all(faults, 0, 600, &error);
	faults_close(faults);
	return failed > 0 && failed < 600 ? 0 : 3;
}

static void body_limited(struct faults *faults)
{
	struct cache_lab lab;
	struct seen seen;
	int status = 1;
	pid_t pid;

	cache_lab_format(&lab, 64 * MIB, 1);
	faults->path = lab.path;
	pid = fork();
	if (pid == 0)
		_exit(limited_child(faults));
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* The parent was told nothing: what is there is right, and the cache works. */
	memset(faults->told, STORED, sizeof faults->told);
	faults_open(faults);
	seen = look(faults, false);
	assert_true(seen.hits > 0);
	memset(faults->told, NOTHING, sizeof faults->told);
	assert_int_equal(store(faults, 999), 0);
	faults_close(faults);
	assert_int_equal(unlink(lab.path), 0);
}

/* A limit on the size of files is an error of stores behind it, and not the end. */
static void test_faults__file_size_limit(void **state)
{
	(void)state;
	each_engine(body_limited);
}

/* Writes behind so many bytes of a file fail; those of this program's output do not get there. */
static void limit_files(uint64_t bytes)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void body_online(struct faults *faults)
{
	struct haul_cache_stat stat;
	struct haul_err err = { 0 };
	struct cache_lab lab;
	struct seen seen;
	int error = 0;

	cache_lab_format(&lab, 64 * MIB, 1);
	faults->path = lab.path;
	faults_open(faults);
	assert_int_equal(store_all(faults, 0, 100, &error), 0);
	limit_files(MIB);
	assert_true(store_all(faults, 100, 150, &error) >= 49);
	haul_cache_stat(faults->cache, &stat);
	assert_int_equal(stat.offline, 1);
	assert_int_equal(store(faults, 150), -ENODEV);
	seen = look(faults, false);
	assert_int_equal(seen.corrupt, 0);
	/* Not better yet: it may say so now, or with the next stores. */
	(void)haul_cache_online(faults->cache, &err);
	assert_true(store_all(faults, 150, 200, &error) == 50);

	limit_files(UINT64_MAX);
	if (haul_cache_online(faults->cache, &err) < 0)
		fail_msg("online: %s", err.text);
	haul_cache_stat(faults->cache, &stat);
	assert_int_equal(stat.offline, 0);
	seen = look(faults, true);
	assert_true(seen.hits >= 100);
	assert_int_equal(store_all(faults, 200, 250, &error), 0);
	look(faults, true);
	faults_close(faults);
	faults_open(faults);
	look(faults, true);
	faults_close(faults);
	assert_int_equal(unlink(lab.path), 0);
}

/* A device that refuses every write goes offline and serves misses; when it is well again, `online`
 * brings back all that was told to be stored, and nothing that was told to have failed. */
static void test_faults__online_brings_it_back(void **state)
{
	void (*before)(int) = signal(SIGXFSZ, SIG_IGN);

	(void)state;
	each_engine(body_online);
	signal(SIGXFSZ, before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults__file_size_limit),
		cmocka_unit_test(test_faults__online_brings_it_back),
		cmocka_unit_test(test_faults__no_room_loses_nothing_that_was_told),
		cmocka_unit_test(test_faults__no_room_at_all),
		cmocka_unit_test(test_faults__unreadable_is_a_miss),
		cmocka_unit_test(test_faults__read_only_device_is_read),
		cmocka_unit_test(test_faults__dead_device_serves_misses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
