/* Needs root: the lab's exercises that walk a map: streaming export, iterators, threads, sizes. */
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/pair_lab.h"

enum { CONNECTIONS = 1000, STEP = 100 };

static const enum haul_map_engine engines[] = { HAUL_MAP_AUTO, HAUL_MAP_SINGLE, HAUL_MAP_BATCH,
						HAUL_MAP_KERNEL };
enum { ENGINES = sizeof engines / sizeof *engines };

static struct pair_seen seen;

/* ---- exercise 3: streaming export ---- */

/* What a process that exports has told when it ends: how far it came, and where to go on. */
struct told {
	uint32_t count;
	struct haul_map_cursor cursor;
	uint32_t keys[PAIR_LAB_KEYS];
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
	assert_true(ret_told->count <= PAIR_LAB_KEYS);
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
		struct pair_lab lab;
		char id[16];
		uint32_t turns = 0;
		struct haul_map_cursor cursor = { 0 };
		/* An LRU map evicts before it is full; an array has no room to spare. */
		pair_lab_open(&lab, types[type], HAUL_MAP_AUTO,
			      types[type] == BPF_MAP_TYPE_ARRAY ? CONNECTIONS : 4 * CONNECTIONS);
		pair_lab_put_range(&lab, CONNECTIONS);
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
		pair_lab_close(&lab);
	}
}

/* Batches are fetched when they are asked for: what is deleted before is not in them. And a cursor
 * is good for its own map only. */
static void test_map_lab__batches_are_fetched_on_demand(void **state)
{
	(void)state;
	struct pair_lab lab, other;
	struct haul_map_cursor cursor = { 0 }, before;
	struct haul_map_batch batch;
	struct haul_map_result result;
	pair_lab_open_batch(&lab, BPF_MAP_TYPE_HASH, HAUL_MAP_BATCH, CONNECTIONS, STEP);
	pair_lab_open(&other, BPF_MAP_TYPE_HASH, HAUL_MAP_BATCH, CONNECTIONS);
	pair_lab_put_range(&lab, CONNECTIONS);
	pair_lab_put_range(&other, CONNECTIONS);
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
	pair_lab_close(&lab);
	pair_lab_close(&other);
}

/* ---- iterator, threads, sizes ---- */

/* 1000 entries in batches of 100: none is larger, and together they are all. */
static void test_map_lab__iterator_gives_batches_of_a_hundred(void **state)
{
	(void)state;
	struct pair_lab lab;
	struct haul_map_cursor cursor = { 0 };
	struct haul_map_batch batch;
	struct haul_map_result result;
	uint32_t batches = 0;
	int rc;
	pair_lab_open_batch(&lab, BPF_MAP_TYPE_HASH, HAUL_MAP_BATCH, CONNECTIONS, STEP);
	pair_lab_put_range(&lab, CONNECTIONS);
	memset(&seen, 0, sizeof seen);
	seen.lab = &lab;
	while ((rc = haul_map_read(lab.one, &cursor, &batch, &result)) > 0) {
		assert_true(rc <= STEP);
		assert_int_equal(batch.count, rc);
		pair_lab_see(&batch, &seen);
		batches++;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(seen.count, CONNECTIONS);
	assert_true(batches >= CONNECTIONS / STEP);
	for (uint32_t i = 0; i < CONNECTIONS; i++)
		assert_int_equal(seen.times[i], 1);
	pair_lab_close(&lab);
}

/* Two, three and eight threads read what one reads: each entry once. */
static void test_map_lab__parallel_equals_sequential(void **state)
{
	(void)state;
	static const uint32_t threads[] = { 1, 2, 3, 8 };
	for (int engine = 0; engine < ENGINES; engine++) {
		struct pair_lab lab;
		pair_lab_open(&lab, BPF_MAP_TYPE_HASH, engines[engine], PAIR_LAB_KEYS);
		pair_lab_put_range(&lab, PAIR_LAB_KEYS);
		for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
			pair_lab_see_all(&lab, &seen, threads[i]);
			assert_int_equal(seen.count, PAIR_LAB_KEYS);
			for (uint32_t k = 0; k < PAIR_LAB_KEYS; k++)
				assert_int_equal(seen.times[k], 1);
		}
		pair_lab_close(&lab);
	}
}

static uint64_t calls_at(struct pair_lab *lab, uint32_t batch)
{
	const struct haul_map_options options = { .engine = HAUL_MAP_BATCH, .batch = batch };
	const struct haul_map_scan scan = { .visit = pair_lab_see, .arg = &seen };
	struct haul_map *map;
	struct haul_map_report report;
	assert_int_equal(haul_map_open_fd(&map, haul_map_fd(lab->any), &options, NULL), 0);
	memset(&seen, 0, sizeof seen);
	seen.lab = lab;
	assert_int_equal(haul_map_scan(map, &scan, &report), 0);
	assert_int_equal(report.read, PAIR_LAB_KEYS);
	haul_map_close(map);
	for (uint32_t k = 0; k < PAIR_LAB_KEYS; k++)
		assert_int_equal(seen.times[k], 1);
	return report.calls;
}

/* The size of the batch is a matter of memory and time, never of what is read: the lab's sizes,
 * from 16 to 2048, give the same, and larger ones in fewer calls. */
static void test_map_lab__batch_sizes_give_the_same(void **state)
{
	(void)state;
	struct pair_lab lab;
	uint64_t calls = UINT64_MAX;
	pair_lab_open(&lab, BPF_MAP_TYPE_HASH, HAUL_MAP_AUTO, PAIR_LAB_KEYS);
	pair_lab_put_range(&lab, PAIR_LAB_KEYS);
	for (uint32_t batch = 16; batch <= 2048; batch *= 2) {
		uint64_t now = calls_at(&lab, batch);
		assert_true(now < calls);
		assert_true(now >= PAIR_LAB_KEYS / batch);
		calls = now;
	}
	pair_lab_close(&lab);
}

/* Keyed work in parts of the lab's sizes gives what one call for all gives. */
static void test_map_lab__parts_equal_the_whole(void **state)
{
	(void)state;
	for (int engine = 0; engine < ENGINES; engine++) {
		struct pair_lab lab;
		pair_lab_open(&lab, BPF_MAP_TYPE_HASH, engines[engine], PAIR_LAB_KEYS);
		for (uint32_t part = 16; part <= 2048; part *= 2) {
			for (uint32_t i = 0; i < PAIR_LAB_KEYS; i++)
				pair_lab_set(&lab, i, i);
			for (uint32_t i = 0; i < PAIR_LAB_KEYS; i += part)
				pair_lab_put(&lab, i,
					     PAIR_LAB_KEYS - i < part ? PAIR_LAB_KEYS - i : part);
			memset(lab.values, 0, (size_t)PAIR_LAB_KEYS * lab.slot);
			for (uint32_t i = 0; i < PAIR_LAB_KEYS; i += part)
				pair_lab_get(&lab, i,
					     PAIR_LAB_KEYS - i < part ? PAIR_LAB_KEYS - i : part);
			for (uint32_t i = 0; i < PAIR_LAB_KEYS; i++)
				assert_int_equal(pair_lab_at(&lab, i, 0)->value, UINT64_C(3) * i);
		}
		pair_lab_close(&lab);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_lab__export_goes_on_from_a_checkpoint),
		cmocka_unit_test(test_map_lab__batches_are_fetched_on_demand),
		cmocka_unit_test(test_map_lab__iterator_gives_batches_of_a_hundred),
		cmocka_unit_test(test_map_lab__parallel_equals_sequential),
		cmocka_unit_test(test_map_lab__batch_sizes_give_the_same),
		cmocka_unit_test(test_map_lab__parts_equal_the_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
