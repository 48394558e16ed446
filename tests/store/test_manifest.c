#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/testlib.h"
#include "os/vfs_sim.h"
#include "store/manifest.h"

struct disk {
	struct vfs_sim *sim;
	struct vfs *vfs;
	struct media *media;
	struct haul_err err;
};

static void disk_open(struct disk *disk)
{
	memset(disk, 0, sizeof *disk);
	assert_int_equal(vfs_sim_open(&disk->sim, 16 << 20, 1), 0);
	disk->vfs = vfs_sim_vfs(disk->sim);
	const struct media_options options = { .mode = MEDIA_MAKE, .segment_bytes = 64 << 10 };
	assert_int_equal(media_file_open(&disk->media, disk->vfs, &options, &disk->err), 0);
}

static void disk_close(struct disk *disk)
{
	disk->media->calls->close(disk->media);
	VFS_CALL(disk->vfs, close_all, disk->vfs);
	vfs_sim_close(disk->sim);
}

/* Two runs of TREE_NODE, of two tables and one. */
static struct manifest *sample_new(void)
{
	struct manifest *manifest;
	assert_int_equal(manifest_new(&manifest, 2, 3), 0);
	manifest->run_count = 2;
	manifest->table_count = 3;
	manifest->runs[0] = (struct manifest_run){ .count = 2 };
	manifest->runs[1] = (struct manifest_run){ .level = 1, .count = 1, .first = 2 };
	for (uint32_t i = 0; i < 3; i++) {
		struct table_info *table = &manifest->tables[i];
		*table = (struct table_info){ .blob = 10 + i, .bytes = 4096, .rows = 7 };
		table->first.word[0] = i * 100;
		table->last.word[0] = i * 100 + 50;
	}
	return manifest;
}

/* What was saved would not be what is loaded, or a store without tables could not be saved. */
static void test_manifest__comes_back_as_it_was(void **state)
{
	(void)state;
	struct disk disk;
	disk_open(&disk);
	struct manifest *manifest = sample_new(), *loaded;
	struct manifest_root root = { .blob = 3 }, got;
	uint64_t version;
	assert_int_equal(manifest_root_get(disk.media, &got, &version, &disk.err), -ENOENT);
	assert_int_equal(manifest_save_build(disk.media, manifest, &root), 0);
	root.place = (struct log_place){ 5, 4096, 77 };
	assert_int_equal(manifest_root_put(disk.media, 0, &root), 0);
	assert_int_equal(manifest_root_get(disk.media, &got, &version, &disk.err), 0);
	assert_memory_equal(&got, &root, sizeof got);
	assert_int_equal(manifest_load(disk.media, &got, &loaded, &disk.err), 0);
	assert_int_equal(loaded->run_count, 2);
	assert_int_equal(loaded->table_count, 3);
	assert_memory_equal(loaded->runs, manifest->runs, 2 * sizeof *loaded->runs);
	assert_memory_equal(loaded->tables, manifest->tables, 3 * sizeof *loaded->tables);
	manifest_free(loaded);
	manifest->run_count = manifest->table_count = 0;
	root.blob = 4;
	assert_int_equal(manifest_save_build(disk.media, manifest, &root), 0);
	assert_int_equal(root.blob, 0);
	assert_int_equal(manifest_load(disk.media, &root, &loaded, &disk.err), 0);
	assert_int_equal(loaded->run_count + loaded->table_count, 0);
	manifest_free(loaded);
	manifest_free(manifest);
	disk_close(&disk);
}

static void break_tree(struct manifest *manifest)
{
	manifest->runs[0].tree = TREES;
}
static void break_other_tree(struct manifest *manifest)
{
	manifest->tables[1].tree = TREE_OUT;
}
static void break_empty(struct manifest *manifest)
{
	manifest->runs[1].count = 0;
}
static void break_count(struct manifest *manifest)
{
	manifest->runs[1].count = 2;
}
static void break_first(struct manifest *manifest)
{
	manifest->runs[1].first = UINT32_MAX;
}
static void break_order(struct manifest *manifest)
{
	manifest->tables[1].first.word[0] = 50;
}
static void break_bounds(struct manifest *manifest)
{
	manifest->tables[2].last.word[0] = 0;
}

/* A manifest that contradicts itself would be opened, and its tables searched out of bounds. */
static void test_manifest__refuses_what_cannot_be(void **state)
{
	(void)state;
	struct disk disk;
	disk_open(&disk);
	static void (*const breaks[])(
		struct manifest *) = { break_tree,  break_other_tree, break_empty, break_count,
				       break_first, break_order,      break_bounds };
	for (size_t i = 0; i < sizeof breaks / sizeof *breaks; i++) {
		struct manifest *manifest = sample_new(), *loaded = NULL;
		struct manifest_root root = { .blob = 100 + i };
		breaks[i](manifest);
		assert_int_equal(manifest_save_build(disk.media, manifest, &root), 0);
		int rc = manifest_load(disk.media, &root, &loaded, &disk.err);
		assert_int_equal(rc, HAUL_ECORRUPT);
		assert_null(loaded);
		manifest_free(manifest);
	}
	disk_close(&disk);
}

/* Each byte of a manifest counts: a changed one would go unnoticed, and so would a length that is
 * not the manifest's. */
static void test_manifest__every_changed_byte_is_found(void **state)
{
	(void)state;
	struct disk disk;
	disk_open(&disk);
	struct manifest *manifest = sample_new(), *loaded;
	struct manifest_root root = { .blob = 9 };
	assert_int_equal(manifest_save_build(disk.media, manifest, &root), 0);
	uint64_t bytes;
	uint8_t *data = vfs_sim_bytes(disk.sim, "blob/0000000000000009", &bytes);
	assert_non_null(data);
	for (uint64_t at = 0; at < root.bytes; at++) {
		data[at] ^= 0x10;
		int rc = manifest_load(disk.media, &root, &loaded, &disk.err);
		assert_int_equal(rc, HAUL_ECORRUPT);
		data[at] ^= 0x10;
	}
	const uint64_t lengths[] = { 0, 8, root.bytes - 1, root.bytes + 1, bytes + 1, UINT64_MAX };
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		struct manifest_root other = root;
		other.bytes = lengths[i];
		int rc = manifest_load(disk.media, &other, &loaded, &disk.err);
		assert_int_equal(rc, HAUL_ECORRUPT);
	}
	root.blob = 8;
	assert_int_equal(manifest_load(disk.media, &root, &loaded, &disk.err), -ENOENT);
	manifest_free(manifest);
	disk_close(&disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_manifest__comes_back_as_it_was),
		cmocka_unit_test(test_manifest__refuses_what_cannot_be),
		cmocka_unit_test(test_manifest__every_changed_byte_is_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
