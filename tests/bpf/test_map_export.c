/* Exports of real maps: broken off at every place, resumed, compared byte for byte. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/file_format.h"
#include "bpf/map_file_lab.h"
#include "bpf/map_file_sample.h"
#include "lib/testlib.h"

enum { BLOCK = 16, KEY_BYTES = 12, VALUE_BYTES = 20, ENTRIES = 300 };

static const uint32_t types[] = {
	BPF_MAP_TYPE_HASH,         BPF_MAP_TYPE_LRU_HASH, BPF_MAP_TYPE_PERCPU_HASH,
	BPF_MAP_TYPE_ARRAY,        BPF_MAP_TYPE_LPM_TRIE, BPF_MAP_TYPE_LRU_PERCPU_HASH,
	BPF_MAP_TYPE_PERCPU_ARRAY,
};
enum { TYPES = sizeof types / sizeof *types };

static struct map_file_lab lab;
static char path[MAP_FILE_LAB_PATH], other_path[MAP_FILE_LAB_PATH];

static int open_lab(void **state)
{
	(void)state;
	map_file_lab_open(&lab, "16m");
	(void)map_file_lab_path(&lab, "x.map", path);
	(void)map_file_lab_path(&lab, "y.map", other_path);
	return 0;
}

static int close_lab(void **state)
{
	(void)state;
	map_file_lab_close(&lab);
	return 0;
}

static int remove_files(void **state)
{
	(void)state;
	char part[MAP_FILE_LAB_PATH];
	(void)unlink(path);
	(void)unlink(other_path);
	(void)unlink(map_file_lab_path(&lab, "x.map.part", part));
	return 0;
}

static struct haul_map *new_map(uint32_t type, uint32_t entries, struct prng *prng)
{
	const bool array = type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_PERCPU_ARRAY;
	struct haul_map *map = map_file_lab_map(type, array ? 4 : KEY_BYTES, VALUE_BYTES,
						array ? entries : 2 * entries);
	map_file_lab_fill(map, entries, prng);
	return map;
}

static int export_to(const char *to, struct haul_map *const *maps, uint32_t count,
		     const struct haul_map_export *options, struct haul_map_file_report *ret_report)
{
	struct haul_err err = { 0 };
	const int rc = haul_map_export(maps, count, to, options, ret_report, &err);
	assert_int_equal(err.code, rc < 0 ? rc : 0);
	if (rc < 0)
		print_message("  %s\n", err.text);
	return rc;
}

static void assert_export_fails(struct haul_map *map, const struct haul_map_export *options, int rc,
				const char *text)
{
	struct haul_err err = { 0 };
	assert_int_equal(haul_map_export(&map, 1, path, options, NULL, &err), rc);
	if (strstr(err.text, text) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", err.text, text);
}

struct stop {
	uint32_t blocks; /* so many more */
	int signal;      /* then this, or _exit when 0, or a return value of 1 when -1 */
};

static int stop_after(uint64_t done, uint64_t expected, void *arg)
{
	struct stop *stop = arg;
	(void)done;
	(void)expected;
	if (--stop->blocks > 0)
		return 0;
	if (stop->signal == 0)
		_exit(0);
	if (stop->signal > 0)
		(void)raise(stop->signal);
	return 1;
}

/* A process exports and is gone after so many blocks. true: it came to its end before that. */
static bool killed_export(struct haul_map *const *maps, uint32_t count, struct stop stop)
{
	const struct haul_map_export options = {
		.block_entries = BLOCK,
		.resume = true,
		.progress = stop_after,
		.arg = &stop,
	};
	const pid_t child = fork();
	int status = 0;
	if (child == 0) {
		struct haul_err err;
		_exit(haul_map_export(maps, count, path, &options, NULL, &err) == 0 ? 7 : 8);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (stop.signal > 0 && WIFSIGNALED(status))
		assert_int_equal(WTERMSIG(status), stop.signal);
	else
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) != 8);
	return WIFEXITED(status) && WEXITSTATUS(status) == 7;
}

/* The uninterrupted export, of which the bytes are wanted. */
static void reference(struct file_bytes *file, struct haul_map *const *maps, uint32_t count)
{
	const struct haul_map_export options = { .block_entries = BLOCK };
	struct haul_map_file_report report;
	assert_int_equal(export_to(other_path, maps, count, &options, &report), 0);
	file_bytes_load(file, other_path);
	assert_int_equal(report.bytes, file->bytes);
	assert_int_equal(report.expected, report.entries);
}

static void assert_resumes(struct haul_map *const *maps, uint32_t count,
			   const struct file_bytes *file)
{
	const struct haul_map_export options = { .resume = true, .block_entries = BLOCK };
	struct haul_map_file_report report;
	assert_int_equal(export_to(path, maps, count, &options, &report), 0);
	assert_int_equal(report.bytes, file->bytes);
	assert_file_is(path, file);
}

/* Killed behind every block, by leaving or by SIGKILL, and resumed: the file of every type is the
 * one of an export that nothing disturbed. */
static void test_map_export__killed_at_every_block_resumes(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	for (uint32_t i = 0; i < TYPES; i++) {
		struct haul_map *map = new_map(types[i], ENTRIES, &prng);
		struct file_bytes file;
		uint32_t kills = 0;
		bool finished = false;
		reference(&file, &map, 1);
		while (!finished) {
			kills++;
			const struct stop stop = { .blocks = kills,
						   .signal = kills % 2 ? SIGKILL : 0 };
			finished = killed_export(&map, 1, stop);
			assert_resumes(&map, 1, &file);
			assert_int_equal(unlink(path), 0);
		}
		assert_true(kills > ENTRIES / BLOCK);
		file_bytes_free(&file);
		assert_int_equal(unlink(other_path), 0);
		haul_map_close(map);
	}
}

/* One file of three maps, killed after every single block of it: each life goes on where the last
 * one ended. */
static void test_map_export__a_block_a_life(void **state)
{
	(void)state;
	struct prng prng;
	struct haul_map *maps[3];
	struct file_bytes file;
	uint32_t lives = 0;
	test_prng(&prng);
	for (uint32_t i = 0; i < 3; i++) /* the one in the middle is empty */
		maps[i] = i == 1 ? map_file_lab_map(BPF_MAP_TYPE_HASH, KEY_BYTES, VALUE_BYTES, 100)
				 : new_map(BPF_MAP_TYPE_HASH, 100, &prng);
	reference(&file, maps, 3);
	while (!killed_export(maps, 3, (struct stop){ .blocks = 1, .signal = SIGKILL }))
		lives++;
	assert_file_is(path, &file);
	assert_true(lives > 3);
	assert_resumes(maps, 3, &file); /* and a finished one is left alone */
	for (uint32_t i = 0; i < 3; i++)
		haul_map_close(maps[i]);
	file_bytes_free(&file);
}

/* Whatever a crash leaves of the tail, a cut at any byte or bytes that are not what was written,
 * the resumed file is the same. */
static void test_map_export__torn_anywhere_resumes(void **state)
{
	(void)state;
	struct prng prng;
	struct file_bytes file;
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, 60, &prng);
	reference(&file, &map, 1);
	for (size_t bytes = 0; bytes <= file.bytes; bytes++) {
		const struct file_bytes torn = { .data = file.data, .bytes = bytes };
		file_bytes_store(&torn, path);
		assert_resumes(&map, 1, &file);
	}
	const uint32_t header = FILE_HEAD_BYTES + FILE_MAP_BYTES + FILE_CRC_BYTES;
	for (int i = 0; i < 200; i++) {
		const size_t at = header + prng_below(&prng, (uint32_t)file.bytes - header);
		struct file_bytes wrong = { .data = malloc(file.bytes), .bytes = file.bytes };
		memcpy(wrong.data, file.data, file.bytes);
		memset(wrong.data + at, 0, file.bytes - at);
		file_bytes_store(&wrong, path);
		assert_resumes(&map, 1, &file);
		file_bytes_free(&wrong);
	}
	file_bytes_free(&file);
	haul_map_close(map);
}

/* Stopping through progress is told as such, and reports what is there. */
static void test_map_export__stops_when_progress_says_so(void **state)
{
	(void)state;
	struct prng prng;
	struct haul_map_file_report report;
	struct haul_map_file_info info;
	struct haul_err err = { 0 };
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, ENTRIES, &prng);
	struct stop stop = { .blocks = 3, .signal = -1 };
	const struct haul_map_export options = { .block_entries = BLOCK,
						 .progress = stop_after,
						 .arg = &stop };
	assert_int_equal(export_to(path, &map, 1, &options, &report), 1);
	assert_int_equal(report.blocks, 3);
	assert_int_equal(report.expected, ENTRIES);
	assert_int_equal(haul_map_file_read(path, &info, NULL, NULL, &err), HAUL_ESHORT);
	assert_non_null(strstr(err.text, "an export that was stopped; resume finishes it"));
	assert_false(info.complete);
	assert_int_equal(info.entries, report.entries);
	const struct haul_map_export resume = { .resume = true };
	assert_int_equal(export_to(path, &map, 1, &resume, &report), 0);
	assert_int_equal(report.entries, ENTRIES);
	assert_true(report.resumed_entries > 0 && report.resumed_entries < ENTRIES);
	assert_int_equal(haul_map_file_read(path, &info, NULL, NULL, &err), 0);
	assert_true(info.complete);
	assert_int_equal(info.version, 1);
	assert_int_equal(info.map_count, 1);
	assert_int_equal(info.map_type, BPF_MAP_TYPE_HASH);
	assert_int_equal(info.key_size, KEY_BYTES);
	assert_int_equal(info.slot_bytes, VALUE_BYTES);
	assert_int_equal(info.block_entries, BLOCK);
	assert_string_equal(info.map_name, "lab");
	haul_map_close(map);
}

static int largest_block(const struct haul_map_batch *batch, uint32_t map_index, void *arg)
{
	uint32_t *largest = arg;
	(void)map_index;
	if (batch->count > *largest)
		*largest = batch->count;
	return 0;
}

/* A bucket of more entries than a block makes that one block larger, the same whether the export
 * met it in its first life or in a later one. */
static void test_map_export__a_large_bucket_grows_its_block(void **state)
{
	(void)state;
	enum { CROWD = 100 };
	struct haul_map *map = map_file_lab_lopsided(CROWD);
	struct file_bytes file;
	struct haul_err err;
	uint32_t largest = 0, blocks = 0;
	reference(&file, &map, 1);
	assert_int_equal(haul_map_file_read(other_path, NULL, largest_block, &largest, &err), 0);
	assert_in_range(largest, CROWD, 2 * CROWD);
	for (bool finished = false; !finished;) {
		finished = killed_export(&map, 1, (struct stop){ .blocks = ++blocks });
		assert_resumes(&map, 1, &file);
		assert_int_equal(unlink(path), 0);
	}
	assert_true(blocks > 5);
	file_bytes_free(&file);
	haul_map_close(map);
}

struct churn {
	struct haul_map *map;
	atomic_bool stop;
	uint64_t rounds;
};

/* Keys with the top bit set come and go, as fast as that goes. */
static void *churn_main(void *arg)
{
	struct churn *churn = arg;
	uint32_t keys[64], values[64];
	struct haul_map_result result;
	const struct haul_map_rows rows = { .count = 64, .keys = keys, .values = values };
	while (!atomic_load(&churn->stop)) {
		for (uint32_t i = 0; i < 64; i++)
			keys[i] = values[i] = UINT32_C(1) << 31 | (uint32_t)churn->rounds * 64 | i;
		if (haul_map_update(churn->map, &rows, HAUL_MAP_ANY, &result) < 0 ||
		    haul_map_delete(churn->map, &rows, &result) < 0)
			return churn;
		churn->rounds++;
	}
	return NULL;
}

static int count_stable(const struct haul_map_batch *batch, uint32_t map_index, void *arg)
{
	uint8_t *seen = arg;
	(void)map_index;
	for (uint32_t i = 0; i < batch->count; i++) {
		uint32_t key, value;
		memcpy(&key, haul_map_key(batch, i), sizeof key);
		memcpy(&value, haul_map_value(batch, i), sizeof value);
		if (key >> 31)
			continue;
		assert_int_equal(value, key);
		seen[key]++;
	}
	return 0;
}

/* While another thread inserts and deletes at full speed, an export of many lives holds every
 * entry that was there all the time exactly once. */
static void test_map_export__under_churn_misses_nothing(void **state)
{
	(void)state;
	enum { STABLE = 5000 };
	uint8_t seen[STABLE] = { 0 };
	struct haul_map *map = map_file_lab_map(BPF_MAP_TYPE_HASH, 4, 4, 8192);
	struct haul_map_result result;
	struct haul_err err;
	struct churn churn = { 0 };
	pthread_t thread;
	void *failed = NULL;
	uint32_t lives = 1;
	for (uint32_t key = 0; key < STABLE; key++) {
		const struct haul_map_rows rows = { .count = 1, .keys = &key, .values = &key };
		assert_int_equal(haul_map_update(map, &rows, HAUL_MAP_ANY, &result), 0);
	}
	assert_int_equal(haul_map_open_fd(&churn.map, haul_map_fd(map), NULL, &err), 0);
	assert_int_equal(pthread_create(&thread, NULL, churn_main, &churn), 0);
	while (!killed_export(&map, 1, (struct stop){ .blocks = 40, .signal = SIGKILL }))
		lives++;
	atomic_store(&churn.stop, true);
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	assert_int_equal(haul_map_file_read(path, NULL, count_stable, seen, &err), 0);
	for (uint32_t key = 0; key < STABLE; key++)
		assert_int_equal(seen[key], 1);
	assert_true(lives > STABLE / BLOCK / 40 && churn.rounds > 0);
	haul_map_close(churn.map);
	haul_map_close(map);
}

/* Resume finds that the key a walk of a trie would go on from is gone, where the kernel would
 * silently begin again. */
static void test_map_export__does_not_go_on_from_a_key_that_is_gone(void **state)
{
	(void)state;
	struct prng prng;
	struct file_bytes file;
	struct haul_map_result result;
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_LPM_TRIE, ENTRIES, &prng);
	assert_false(killed_export(&map, 1, (struct stop){ .blocks = 3 }));
	file_bytes_load(&file, path);
	const uint8_t *last =
		file.data + file.bytes - FILE_CRC_BYTES - (size_t)BLOCK * VALUE_BYTES - KEY_BYTES;
	const struct haul_map_rows rows = { .count = 1, .keys = last };
	assert_int_equal(haul_map_delete(map, &rows, &result), 0);
	assert_int_equal(result.done, 1);
	/* a shorter prefix, which a look-up would find instead, is not enough */
	uint8_t shorter[KEY_BYTES] = { 8 }, value[VALUE_BYTES] = { 0 };
	const struct haul_map_rows cover = { .count = 1, .keys = shorter, .values = value };
	shorter[4] = last[4];
	assert_int_equal(haul_map_update(map, &cover, HAUL_MAP_ANY, &result), 0);
	assert_export_fails(map, &(struct haul_map_export){ .resume = true }, HAUL_ESTALE,
			    "at which it stopped is gone");
	assert_file_is(path, &file);
	file_bytes_free(&file);
	haul_map_close(map);
}

/* An export that is there is not lost by chance; asked to, it is replaced only by a whole one. */
static void test_map_export__replaces_only_when_asked(void **state)
{
	(void)state;
	struct prng prng;
	struct file_bytes file;
	struct stat stat_now;
	char part[MAP_FILE_LAB_PATH];
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, 100, &prng);
	(void)map_file_lab_path(&lab, "x.map.part", part);
	reference(&file, &map, 1);
	const struct file_bytes old = { .data = (uint8_t[]){ 'o', 'l', 'd' }, .bytes = 3 };
	file_bytes_store(&old, path);
	assert_export_fails(map, NULL, -EEXIST, "x.map: there already; resume goes on with it");
	assert_file_is(path, &old);
	assert_export_fails(map, &(struct haul_map_export){ .resume = true }, HAUL_ECORRUPT,
			    "x.map: not a map file");
	assert_file_is(path, &old);
	struct stop stop = { .blocks = 2, .signal = -1 };
	const struct haul_map_export stopped = {
		.block_entries = BLOCK, .overwrite = true, .progress = stop_after, .arg = &stop
	};
	assert_int_equal(export_to(path, &map, 1, &stopped, NULL), 1);
	assert_file_is(path, &old);
	const struct haul_map_export again = { .overwrite = true, .resume = true };
	struct haul_map_file_report report;
	assert_int_equal(export_to(path, &map, 1, &again, &report), 0);
	assert_true(report.resumed_entries > 0);
	assert_file_is(path, &file);
	assert_int_equal(stat(path, &stat_now), 0);
	assert_int_equal(stat_now.st_mode & 0777, 0600);
	assert_int_equal(stat(part, &stat_now), -1);
	/* without resume what is left of an older attempt does not matter */
	file_bytes_store(&old, part);
	const struct haul_map_export anew = { .block_entries = BLOCK, .overwrite = true };
	assert_int_equal(export_to(path, &map, 1, &anew, &report), 0);
	assert_int_equal(report.resumed_entries, 0);
	assert_file_is(path, &file);
	file_bytes_free(&file);
	haul_map_close(map);
}

/* Change the file's header, put its checksums right, and see resume refuse it untouched. */
static void assert_stale(struct haul_map *map, uint32_t offset, const char *text)
{
	struct file_bytes file;
	file_bytes_load(&file, other_path);
	file.data[offset] ^= 1;
	map_file_repair(file.data, file.bytes);
	file_bytes_store(&file, path);
	assert_export_fails(map, &(struct haul_map_export){ .resume = true }, HAUL_ESTALE, text);
	assert_file_is(path, &file);
	file_bytes_free(&file);
}

/* A cursor is good for the map and the boot it came from only: all else is refused, and the file
 * is left as it is. */
static void test_map_export__resumes_the_same_map_only(void **state)
{
	(void)state;
	struct prng prng;
	struct file_bytes file;
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, 100, &prng);
	struct haul_map *other = new_map(BPF_MAP_TYPE_HASH, 100, &prng);
	struct haul_map *two[2] = { map, other };
	reference(&file, &map, 1);
	file.bytes -= FILE_END_BYTES;
	file_bytes_store(&file, path);
	const struct haul_map_export resume = { .resume = true };
	assert_export_fails(other, &resume, HAUL_ESTALE, "an export of map lab (id ");
	assert_int_equal(export_to(path, two, 2, &resume, NULL), HAUL_ESTALE);
	assert_export_fails(map, &(struct haul_map_export){ .resume = true, .block_entries = 32 },
			    -EINVAL, "was begun with 16 entries a block, not 32");
	assert_file_is(path, &file);
	assert_stale(map, FILE_OFF_BOOT_ID, "begun before this machine was booted");
	assert_stale(map, FILE_HEAD_BYTES + FILE_MAP_OFF_ID, "resume wants the same");
	assert_stale(map, FILE_HEAD_BYTES + FILE_MAP_OFF_BUCKETS, "had other limits or flags");
	assert_stale(map, FILE_OFF_KEY_SIZE, "another type or other sizes");
	file_bytes_free(&file);
	haul_map_close(map);
	haul_map_close(other);
}

/* What cannot be in a file is refused with the reason, before a file is made. */
static void test_map_export__refuses_what_no_file_can_hold(void **state)
{
	(void)state;
	struct prng prng;
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, 10, &prng);
	struct haul_map *wide = map_file_lab_map(BPF_MAP_TYPE_HASH, KEY_BYTES, 8, 10);
	struct haul_map *queue = map_file_lab_map(BPF_MAP_TYPE_QUEUE, 0, 8, 10);
	struct haul_map *outer = NULL;
	struct haul_err err;
	const struct haul_map_spec spec = {
		.name = "outer",
		.type = BPF_MAP_TYPE_HASH_OF_MAPS,
		.key_size = 4,
		.value_size = 4,
		.max_entries = 4,
		.inner_fd = haul_map_fd(map),
	};
	struct haul_map *two[2] = { map, wide };
	assert_int_equal(haul_map_create(&outer, &spec, NULL, &err), 0);
	assert_export_fails(outer, NULL, -ENOTSUP, "its values are maps of this kernel");
	assert_export_fails(queue, NULL, -ENOTSUP, "of type queue cannot be read in batches");
	assert_int_equal(export_to(path, two, 2, NULL, NULL), -EINVAL);
	assert_int_equal(export_to(path, two, 0, NULL, NULL), -EINVAL);
	assert_int_equal(export_to(path, two, HAUL_MAP_FILE_MAPS + 1, NULL, NULL), -EINVAL);
	assert_export_fails(map, &(struct haul_map_export){ .block_entries = 15 }, -EINVAL,
			    "15 entries a block; right is 16 to 65536");
	assert_export_fails(map, &(struct haul_map_export){ .block_entries = 65537 }, -EINVAL,
			    "65537 entries a block");
	assert_int_equal(export_to("", &map, 1, NULL, NULL), -EINVAL);
	assert_int_equal(access(path, F_OK), -1);
	haul_map_close(map);
	haul_map_close(wide);
	haul_map_close(queue);
	haul_map_close(outer);
}

/* A disk that is full ends the export with the place, keeps what is good, and once there is room
 * it goes on to the same file. */
static void test_map_export__survives_a_full_disk(void **state)
{
	(void)state;
	struct prng prng;
	struct file_bytes file;
	char small[MAP_FILE_LAB_PATH];
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, 3000, &prng);
	reference(&file, &map, 1);
	assert_int_equal(mkdir(map_file_lab_path(&lab, "small", small), 0700), 0);
	assert_int_equal(mount("tmpfs", small, "tmpfs", 0, "size=32k"), 0);
	(void)map_file_lab_path(&lab, "small/x.map", path);
	const struct haul_map_export options = { .block_entries = BLOCK };
	const struct haul_map_export resume = { .resume = true };
	struct haul_map_file_report report;
	assert_int_equal(export_to(path, &map, 1, &options, &report), -ENOSPC);
	assert_true(report.entries > 0 && report.entries < 3000);
	struct stat stat_now;
	assert_int_equal(stat(path, &stat_now), 0);
	assert_int_equal(stat_now.st_size, report.bytes); /* nothing torn stays */
	assert_export_fails(map, &resume, -ENOSPC, "resume goes on there");
	assert_int_equal(mount("tmpfs", small, "tmpfs", MS_REMOUNT, "size=1m"), 0);
	assert_int_equal(export_to(path, &map, 1, &resume, &report), 0);
	assert_file_is(path, &file);
	assert_int_equal(umount2(small, MNT_DETACH), 0);
	assert_int_equal(rmdir(small), 0);
	(void)map_file_lab_path(&lab, "x.map", path);
	file_bytes_free(&file);
	haul_map_close(map);
}

/* A folder that is not there or cannot be written, a name too long, another export at work, no
 * regular file: each with its name in the text. */
static void test_map_export__tells_what_is_wrong_with_the_path(void **state)
{
	(void)state;
	struct prng prng;
	struct file_bytes file;
	char name[5000];
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, 20, &prng);
	reference(&file, &map, 1);
	memset(name, 'x', sizeof name - 1);
	name[sizeof name - 1] = 0;
	assert_int_equal(export_to(name, &map, 1, NULL, NULL), -ENAMETOOLONG);
	(void)map_file_lab_path(&lab, "none/x.map", path);
	assert_export_fails(map, NULL, -ENOENT, "none/x.map: No such file");
	(void)map_file_lab_path(&lab, "x.map", path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_export_fails(map, &(struct haul_map_export){ .resume = true }, -EINVAL,
			    "not a regular file");
	assert_int_equal(unlink(path), 0);
	file_bytes_store(&file, path);
	const int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_export_fails(map, &(struct haul_map_export){ .resume = true }, -EBUSY,
			    "another export is writing it");
	assert_int_equal(close(fd), 0);
	assert_int_equal(unlink(path), 0);
	char part[MAP_FILE_LAB_PATH];
	assert_int_equal(symlink("elsewhere", map_file_lab_path(&lab, "x.map.part", part)), 0);
	assert_export_fails(map, &(struct haul_map_export){ .overwrite = true }, -ELOOP,
			    "x.map.part: Too many levels");
	assert_int_equal(chdir(lab.folder), 0); /* a name without a folder is fine */
	assert_int_equal(export_to("x.map", &map, 1,
				   &(struct haul_map_export){ .block_entries = BLOCK }, NULL),
			 0);
	assert_int_equal(chdir("/"), 0);
	assert_file_is(path, &file);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mount(NULL, lab.folder, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	assert_export_fails(map, NULL, -EROFS, "x.map: Read-only file system");
	assert_int_equal(mount(NULL, lab.folder, NULL, MS_REMOUNT, NULL), 0);
	file_bytes_free(&file);
	haul_map_close(map);
}

/* A map that may only be written cannot be exported: the reason is the kernel's, and what was begun
 * can be resumed by who may read. */
static void test_map_export__of_a_map_that_cannot_be_read(void **state)
{
	(void)state;
	const struct haul_map_spec spec = {
		.name = "blind",
		.type = BPF_MAP_TYPE_HASH,
		.flags = BPF_F_WRONLY,
		.key_size = KEY_BYTES,
		.value_size = VALUE_BYTES,
		.max_entries = 100,
	};
	struct haul_map *map;
	struct haul_err err;
	assert_int_equal(haul_map_create(&map, &spec, NULL, &err), 0);
	assert_export_fails(map, NULL, -EPERM, "reading map blind (id ");
	haul_map_close(map);
}

/* Whichever allocation fails: either the export came to its end all the same, or it says so and
 * what it left resumes to the same file. */
static void test_map_export__survives_want_of_memory(void **state)
{
	(void)state;
	enum { ALLOCATIONS = 60 };
	struct prng prng;
	struct file_bytes file;
	uint32_t failed = 0;
	if (!test_malloc_fail(UINT32_MAX))
		skip();
	test_prng(&prng);
	struct haul_map *map = new_map(BPF_MAP_TYPE_HASH, ENTRIES, &prng);
	reference(&file, &map, 1);
	for (uint32_t i = 0; i < ALLOCATIONS; i++) {
		const struct haul_map_export options = { .block_entries = BLOCK };
		struct haul_err err = { 0 };
		(void)test_malloc_fail(i);
		const int rc = haul_map_export(&map, 1, path, &options, NULL, &err);
		(void)test_malloc_fail(UINT32_MAX);
		assert_true(rc == 0 || (rc == -ENOMEM && err.text[0] != 0));
		failed += rc != 0;
		assert_resumes(&map, 1, &file);
		assert_int_equal(unlink(path), 0);
	}
	assert_true(failed > 3);
	file_bytes_free(&file);
	haul_map_close(map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_map_export__killed_at_every_block_resumes,
					  remove_files),
		cmocka_unit_test_teardown(test_map_export__a_block_a_life, remove_files),
		cmocka_unit_test_teardown(test_map_export__torn_anywhere_resumes, remove_files),
		cmocka_unit_test_teardown(test_map_export__stops_when_progress_says_so,
					  remove_files),
		cmocka_unit_test_teardown(test_map_export__a_large_bucket_grows_its_block,
					  remove_files),
		cmocka_unit_test_teardown(test_map_export__under_churn_misses_nothing,
					  remove_files),
		cmocka_unit_test_teardown(test_map_export__does_not_go_on_from_a_key_that_is_gone,
					  remove_files),
		cmocka_unit_test_teardown(test_map_export__replaces_only_when_asked, remove_files),
		cmocka_unit_test_teardown(test_map_export__resumes_the_same_map_only, remove_files),
		cmocka_unit_test_teardown(test_map_export__refuses_what_no_file_can_hold,
					  remove_files),
		cmocka_unit_test_teardown(test_map_export__survives_a_full_disk, remove_files),
		cmocka_unit_test_teardown(test_map_export__of_a_map_that_cannot_be_read,
					  remove_files),
		cmocka_unit_test_teardown(test_map_export__survives_want_of_memory, remove_files),
		cmocka_unit_test_teardown(test_map_export__tells_what_is_wrong_with_the_path,
					  remove_files),
	};
	return cmocka_run_group_tests(tests, open_lab, close_lab);
}
