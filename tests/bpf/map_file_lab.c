#include "bpf/map_file_lab.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/testlib.h"

void map_file_lab_open(struct map_file_lab *lab, const char *size)
{
	char options[32];
	(void)snprintf(lab->folder, sizeof lab->folder, "/tmp/haul-test-XXXXXX");
	(void)snprintf(options, sizeof options, "size=%s", size);
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		test_skip("needs root: BPF maps, and a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		test_skip("mounts cannot be kept to ourselves: / is no mount point (chroot?)");
	assert_non_null(mkdtemp(lab->folder));
	assert_int_equal(mount("tmpfs", lab->folder, "tmpfs", 0, options), 0);
}

void map_file_lab_close(struct map_file_lab *lab)
{
	assert_int_equal(umount2(lab->folder, MNT_DETACH), 0);
	assert_int_equal(rmdir(lab->folder), 0);
}

const char *map_file_lab_path(const struct map_file_lab *lab, const char *name,
			      char ret_path[MAP_FILE_LAB_PATH])
{
	(void)snprintf(ret_path, MAP_FILE_LAB_PATH, "%s/%s", lab->folder, name);
	return ret_path;
}

struct haul_map *map_file_lab_map(uint32_t type, uint32_t key_size, uint32_t value_size,
				  uint32_t max_entries)
{
	struct haul_map *map = NULL;
	struct haul_err err = { 0 };
	const struct haul_map_spec spec = {
		.name = "lab",
		.type = type,
		.flags = type == BPF_MAP_TYPE_LPM_TRIE ? BPF_F_NO_PREALLOC : 0,
		.key_size = key_size,
		.value_size = value_size,
		.max_entries = max_entries,
	};
	const int rc = haul_map_create(&map, &spec, NULL, &err);
	if (rc == -EPERM)
		test_skip(err.text);
	if (rc < 0)
		fail_msg("%s", err.text);
	return map;
}

static void fill_bytes(uint8_t *bytes, size_t count, struct prng *prng)
{
	for (size_t i = 0; i < count; i++)
		bytes[i] = (uint8_t)prng_below(prng, 256);
}

/* What the kernel rounds values up by is not given back. */
static void fill_value(uint8_t *slot, const struct haul_map_info *info, struct prng *prng)
{
	memset(slot, 0, info->slot_bytes);
	for (uint32_t cpu = 0; cpu < info->cpus; cpu++)
		fill_bytes(slot + cpu * (info->slot_bytes / info->cpus), info->value_size, prng);
}

void map_file_lab_fill(struct haul_map *map, uint32_t count, struct prng *prng)
{
	const struct haul_map_info *info = haul_map_info(map);
	const bool array =
		info->type == BPF_MAP_TYPE_ARRAY || info->type == BPF_MAP_TYPE_PERCPU_ARRAY;
	uint8_t *keys = malloc((size_t)count * info->key_size);
	uint8_t *values = malloc((size_t)count * info->slot_bytes);
	const struct haul_map_rows rows = { .count = count, .keys = keys, .values = values };
	struct haul_map_result result;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *key = keys + (size_t)i * info->key_size;
		const uint32_t bits = 8 * (info->key_size - 4);
		fill_bytes(key, info->key_size, prng);
		if (array)
			memcpy(key, &i, sizeof i);
		if (info->type == BPF_MAP_TYPE_LPM_TRIE) {
			memcpy(key, &bits, sizeof bits);
			memcpy(key + 4, &i, sizeof i);
		}
		fill_value(values + (size_t)i * info->slot_bytes, info, prng);
	}
	assert_int_equal(haul_map_update(map, &rows, HAUL_MAP_ANY, &result), 0);
	assert_int_equal(result.done, count);
	free(keys);
	free(values);
}

static uint32_t rol(uint32_t x, uint32_t bits)
{
	return x << bits | x >> (32 - bits);
}

/* The kernel's jhash2 of one word with seed 0. */
static uint32_t jhash_word(uint32_t word)
{
	uint32_t a = 0xdeadbeef + 4, b = a, c = a;
	a += word;
	c = (c ^ b) - rol(b, 14);
	a = (a ^ c) - rol(c, 11);
	b = (b ^ a) - rol(a, 25);
	c = (c ^ b) - rol(b, 16);
	a = (a ^ c) - rol(c, 4);
	b = (b ^ a) - rol(a, 14);
	return (c ^ b) - rol(b, 24);
}

struct haul_map *map_file_lab_lopsided(uint32_t count)
{
	enum { BUCKETS = 256 };
	const struct haul_map_spec spec = {
		.name = "lopsided",
		.type = BPF_MAP_TYPE_HASH,
		.flags = BPF_F_ZERO_SEED,
		.key_size = 4,
		.value_size = 4,
		.max_entries = BUCKETS,
	};
	struct haul_map *map;
	struct haul_err err;
	struct haul_map_result result;
	assert_int_equal(haul_map_create(&map, &spec, NULL, &err), 0);
	for (uint32_t key = 0, in = 0, out = 0; in < count || out < count; key++) {
		const bool wanted = (jhash_word(key) & (BUCKETS - 1)) == 77;
		const struct haul_map_rows rows = { .count = 1, .keys = &key, .values = &key };
		if (wanted ? in == count : out == count)
			continue;
		in += wanted;
		out += !wanted;
		assert_int_equal(haul_map_update(map, &rows, HAUL_MAP_ANY, &result), 0);
	}
	return map;
}

/* ---- contents ---- */

static int compare(const void *a, const void *b, void *bytes)
{
	return memcmp(a, b, *(const uint32_t *)bytes);
}

void map_file_contents_load(struct map_file_contents *contents, struct haul_map *map)
{
	const struct haul_map_info *info = haul_map_info(map);
	struct haul_map_cursor cursor = { 0 };
	struct haul_map_batch batch;
	struct haul_map_result result;
	*contents = (struct map_file_contents){ .entry_bytes = info->key_size + info->slot_bytes };
	contents->entries = malloc((size_t)info->max_entries * contents->entry_bytes);
	int count;
	while ((count = haul_map_read(map, &cursor, &batch, &result)) > 0)
		for (uint32_t i = 0; i < batch.count; i++) {
			assert_true(contents->count < info->max_entries);
			uint8_t *entry = contents->entries +
					 (size_t)contents->count++ * contents->entry_bytes;
			memcpy(entry, haul_map_key(&batch, i), info->key_size);
			memcpy(entry + info->key_size, haul_map_value(&batch, i), info->slot_bytes);
		}
	assert_int_equal(count, 0);
	qsort_r(contents->entries, contents->count, contents->entry_bytes, compare,
		&contents->entry_bytes);
}

void map_file_contents_free(struct map_file_contents *contents)
{
	free(contents->entries);
	contents->entries = NULL;
}

void assert_map_holds(struct haul_map *map, const struct map_file_contents *contents)
{
	struct map_file_contents now;
	map_file_contents_load(&now, map);
	assert_int_equal(now.entry_bytes, contents->entry_bytes);
	assert_int_equal(now.count, contents->count);
	assert_memory_equal(now.entries, contents->entries, (size_t)now.count * now.entry_bytes);
	map_file_contents_free(&now);
}

/* ---- files ---- */

void file_bytes_load(struct file_bytes *file, const char *path)
{
	struct stat stat;
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &stat), 0);
	file->bytes = (size_t)stat.st_size;
	file->data = malloc(file->bytes + 1);
	assert_int_equal(read(fd, file->data, file->bytes), file->bytes);
	assert_int_equal(close(fd), 0);
}

void file_bytes_store(const struct file_bytes *file, const char *path)
{
	const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, file->data, file->bytes), file->bytes);
	assert_int_equal(close(fd), 0);
}

void file_bytes_free(struct file_bytes *file)
{
	free(file->data);
	file->data = NULL;
}

void assert_file_is(const char *path, const struct file_bytes *file)
{
	struct file_bytes now;
	file_bytes_load(&now, path);
	assert_int_equal(now.bytes, file->bytes);
	assert_memory_equal(now.data, file->data, file->bytes);
	file_bytes_free(&now);
}
