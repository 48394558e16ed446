#include "store/manifest.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/checksum.h"

enum { ROOT_VERSION = 1, MANIFEST_VERSION = 1 };
#define ROOT_MAGIC     UINT32_C(0x524c5548) /* "HULR" */
#define MANIFEST_MAGIC UINT32_C(0x4d4c5548) /* "HULM" */

struct root_disk {
	uint64_t check[2]; /* of what follows */
	uint32_t magic;
	uint32_t version;
	struct manifest_root root;
};
static_assert(sizeof(struct root_disk) == 104, "the root has no holes");

struct manifest_disk {
	uint32_t magic;
	uint32_t version;
	uint32_t runs;
	uint32_t tables;
};
static_assert(sizeof(struct manifest_disk) == 16, "the head has no holes");
static_assert(sizeof(struct manifest_run) == 16, "a run has no holes");
static_assert(sizeof(struct table_info) == 96, "a table has no holes");

static void check_make(const void *data, size_t bytes, uint64_t ret_check[2])
{
	XXH128_hash_t hash = XXH3_128bits(data, bytes);
	ret_check[0] = hash.low64;
	ret_check[1] = hash.high64;
}

/* ---- root ---- */

int manifest_root_get(struct media *media, struct manifest_root *ret_root, uint64_t *ret_version,
		      struct haul_err *err)
{
	uint8_t data[MEDIA_ROOT_MAX];
	size_t bytes = sizeof data;
	int rc = MEDIA_CALL(media, root_get, ret_version, data, &bytes);
	if (rc == -ENOENT || (rc == 0 && bytes == 0))
		return haul_err_set(err, -ENOENT, "the store has no root: it was never made whole");
	if (rc < 0)
		return haul_err_set(err, rc, "the root cannot be read: %s", haul_strerror(rc));
	struct root_disk disk;
	if (bytes < sizeof disk)
		return haul_err_set(err, HAUL_ECORRUPT, "the root has %zu bytes instead of %zu",
				    bytes, sizeof disk);
	memcpy(&disk, data, sizeof disk);
	if (disk.magic != ROOT_MAGIC)
		return haul_err_set(err, HAUL_ECORRUPT, "the root is none of a store");
	if (disk.version != ROOT_VERSION)
		return haul_err_set(err, HAUL_EVERSION,
				    "the root is of version %u, this program knows %d",
				    (unsigned)disk.version, ROOT_VERSION);
	uint64_t check[2];
	check_make(&disk.magic, sizeof disk - sizeof disk.check, check);
	if (memcmp(check, disk.check, sizeof check) != 0)
		return haul_err_set(err, HAUL_ECORRUPT, "the root does not match its checksum");
	*ret_root = disk.root;
	return 0;
}

int manifest_root_put(struct media *media, uint64_t version, const struct manifest_root *root)
{
	struct root_disk disk = { .magic = ROOT_MAGIC, .version = ROOT_VERSION, .root = *root };
	check_make(&disk.magic, sizeof disk - sizeof disk.check, disk.check);
	return MEDIA_CALL(media, root_cas, version, &disk, sizeof disk);
}

/* ---- manifest ---- */

int manifest_new(struct manifest **ret_manifest, uint32_t runs, uint32_t tables)
{
	struct manifest *manifest = calloc(1, sizeof *manifest);
	if (!manifest)
		return -ENOMEM;
	manifest->runs = calloc(runs ? runs : 1, sizeof *manifest->runs);
	manifest->tables = calloc(tables ? tables : 1, sizeof *manifest->tables);
	if (!manifest->runs || !manifest->tables) {
		manifest_free(manifest);
		return -ENOMEM;
	}
	*ret_manifest = manifest;
	return 0;
}

void manifest_free(struct manifest *manifest)
{
	if (!manifest)
		return;
	free(manifest->tables);
	free(manifest->runs);
	free(manifest);
}

static uint64_t aligned(uint64_t bytes)
{
	return (bytes + MEDIA_ALIGN - 1) / MEDIA_ALIGN * MEDIA_ALIGN;
}

/* What only a writer's bug could break, for the checksum is right; said all the same. */
static bool run_fits(const struct manifest *manifest, const struct manifest_run *run)
{
	if (run->tree >= TREES || run->count == 0 || run->first > manifest->table_count ||
	    run->count > manifest->table_count - run->first)
		return false;
	for (uint32_t i = 0; i < run->count; i++) {
		const struct table_info *table = &manifest->tables[run->first + i];
		if (table->tree != run->tree || tree_key_compare(&table->first, &table->last) > 0)
			return false;
		if (i && tree_key_compare(&table[-1].last, &table->first) >= 0)
			return false;
	}
	return true;
}

static int manifest_parse_new(const uint8_t *data, uint64_t bytes, struct manifest **ret_manifest)
{
	struct manifest_disk head;
	if (bytes < sizeof head)
		return HAUL_ECORRUPT;
	memcpy(&head, data, sizeof head);
	if (head.magic != MANIFEST_MAGIC)
		return HAUL_ECORRUPT;
	if (head.version != MANIFEST_VERSION)
		return HAUL_EVERSION;
	uint64_t runs = (uint64_t)head.runs * sizeof(struct manifest_run);
	uint64_t tables = (uint64_t)head.tables * sizeof(struct table_info);
	if (runs + tables + sizeof head != bytes)
		return HAUL_ECORRUPT;
	struct manifest *manifest;
	int rc = manifest_new(&manifest, head.runs, head.tables);
	if (rc < 0)
		return rc;
	manifest->run_count = head.runs;
	manifest->table_count = head.tables;
	memcpy(manifest->runs, data + sizeof head, runs);
	memcpy(manifest->tables, data + sizeof head + runs, tables);
	for (uint32_t i = 0; i < head.runs; i++) {
		if (!run_fits(manifest, &manifest->runs[i])) {
			manifest_free(manifest);
			return HAUL_ECORRUPT;
		}
	}
	*ret_manifest = manifest;
	return 0;
}

int manifest_load(struct media *media, const struct manifest_root *root,
		  struct manifest **ret_manifest, struct haul_err *err)
{
	if (root->blob == 0)
		return manifest_new(ret_manifest, 0, 0);
	if (root->bytes > UINT32_MAX - MEDIA_ALIGN)
		return haul_err_set(err, HAUL_ECORRUPT,
				    "the root says that its manifest has %llu "
				    "bytes",
				    (unsigned long long)root->bytes);
	uint64_t room = aligned(root->bytes);
	uint8_t *data = aligned_alloc(MEDIA_ALIGN, room ? room : MEDIA_ALIGN);
	if (!data)
		return haul_err_set(err, -ENOMEM, "no memory for a manifest of %llu bytes",
				    (unsigned long long)room);
	struct media_read read = { .blob = root->blob, .data = data, .bytes = (uint32_t)room };
	MEDIA_CALL(media, blob_get, &read, 1);
	int rc = read.result < 0 ? read.result : 0;
	uint64_t check[2] = { 0 };
	if (rc == 0 && (uint64_t)read.result < root->bytes)
		rc = HAUL_ECORRUPT;
	if (rc == 0)
		check_make(data, root->bytes, check);
	if (rc == 0 && memcmp(check, root->check, sizeof check) != 0)
		rc = HAUL_ECORRUPT;
	if (rc == 0)
		rc = manifest_parse_new(data, root->bytes, ret_manifest);
	free(data);
	if (rc < 0)
		return haul_err_set(err, rc, "the manifest, blob %llu, cannot be used: %s",
				    (unsigned long long)root->blob, haul_strerror(rc));
	return 0;
}

int manifest_save_build(struct media *media, const struct manifest *manifest,
			struct manifest_root *root)
{
	root->bytes = 0;
	root->check[0] = root->check[1] = 0;
	if (manifest->table_count == 0) {
		root->blob = 0;
		return 0;
	}
	HAUL_ASSERT(root->blob != 0);
	size_t runs = manifest->run_count * sizeof *manifest->runs;
	size_t tables = manifest->table_count * sizeof *manifest->tables;
	struct manifest_disk head = { .magic = MANIFEST_MAGIC,
				      .version = MANIFEST_VERSION,
				      .runs = manifest->run_count,
				      .tables = manifest->table_count };
	root->bytes = sizeof head + runs + tables;
	uint64_t room = aligned(root->bytes);
	uint8_t *data = aligned_alloc(MEDIA_ALIGN, room);
	if (!data)
		return -ENOMEM;
	memcpy(data, &head, sizeof head);
	memcpy(data + sizeof head, manifest->runs, runs);
	memcpy(data + sizeof head + runs, manifest->tables, tables);
	memset(data + root->bytes, 0, room - root->bytes);
	check_make(data, root->bytes, root->check);
	int rc = MEDIA_CALL(media, blob_put, root->blob, data, room);
	free(data);
	return rc;
}
