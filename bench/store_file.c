/* The folder of the store bench, and the store in it. */
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "os/file.h"
#include "store_work.h"

const struct store_sizes store_sizes_full = {
	.space_bytes = UINT64_C(14) << 30,
	.get_nodes = 10000000,
	.knn_vectors = 100000,
	.knn_dimensions = 256,
	.sustain = 40,
	.server_memory = UINT64_C(256) << 20,
	.server_memtable = 8 << 20,
};

enum { SLACK_MIB = 256, DESCRIPTORS = 16 };

static int space_check(const char *folder, uint64_t bytes, struct haul_err *err)
{
	uint64_t there;
	int error = file_space(folder, &there, err);
	if (error < 0)
		return error;
	if (there < bytes + ((uint64_t)SLACK_MIB << 20))
		return haul_err_set(err, -ENOSPC,
				    "%llu MiB are free in %s, %llu MiB are wanted: set TMPDIR to a "
				    "folder on a larger disk",
				    (unsigned long long)(there >> 20), folder,
				    (unsigned long long)((bytes >> 20) + SLACK_MIB));
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

void store_remove(const char *path)
{
	(void)nftw(path, remove_one, DESCRIPTORS, FTW_DEPTH | FTW_PHYS);
}

const char *store_path(const struct store_bench *bench, const char *name, char path[STORE_PATH])
{
	int bytes = snprintf(path, STORE_PATH, "%s/%s", bench->folder, name);
	HAUL_ASSERT(bytes > 0 && bytes < STORE_PATH);
	return path;
}

int store_bench_open(void **ret_bench, const struct store_sizes *sizes, struct haul_err *err)
{
	const char *parent = getenv("TMPDIR");
	uint64_t seed;
	parent = parent != NULL ? parent : "/var/tmp";
	int error = space_check(parent, sizes->space_bytes, err);
	if (error < 0)
		return error;
	struct store_bench *bench = calloc(1, sizeof *bench);
	if (bench == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	bench->os = os_linux();
	bench->sizes = *sizes;
	bench->slow_ns = STORE_SLOW_US * NS_PER_US;
	bench->haul = "/proc/self/exe";
	bench->os->random(bench->os, &seed, sizeof seed);
	prng_init(&bench->prng, seed);
	bench->next_id = 1;
	bench->ids = calloc(STORE_BATCH_MAX, sizeof *bench->ids);
	if (bench->ids == NULL || haul_changes_new(&bench->changes, 0, 0, 0) < 0)
		error = haul_err_set(err, -ENOMEM, "no memory");
	snprintf(bench->folder, sizeof bench->folder, "%s/haul-bench-XXXXXX", parent);
	if (error == 0 && mkdtemp(bench->folder) == NULL) {
		error = haul_err_set(err, -errno, "make a folder in %s: %s", parent,
				     haul_strerror(-errno));
		bench->folder[0] = '\0';
	}
	if (error < 0) {
		store_bench_close(bench);
		return error;
	}
	*ret_bench = bench;
	return 0;
}

int store_store_close(struct store_bench *bench)
{
	int error = bench->store != NULL ? haul_store_close(bench->store) : 0;
	bench->store = NULL;
	return error;
}

static void group_leave(struct store_bench *bench)
{
	char path[STORE_PATH];
	haul_reader_close(bench->reader);
	bench->reader = NULL;
	store_serve_end(bench);
	for (uint32_t i = 0; i < STORE_ENGINES; i++) {
		if (bench->engines[i] != NULL)
			bench->engines[i]->calls->close(bench->engines[i]);
		bench->engines[i] = NULL;
		if (store_rivals[i] != NULL)
			store_remove(store_path(bench, store_rivals[i]->name, path));
	}
	(void)store_store_close(bench);
	store_remove(store_path(bench, "store", path));
	free(bench->vectors);
	bench->vectors = NULL;
	bench->group = STORE_NONE;
}

void store_bench_close(void *ctx)
{
	struct store_bench *bench = ctx;
	if (bench == NULL)
		return;
	if (bench->folder[0] != '\0') {
		group_leave(bench);
		store_remove(bench->folder);
	}
	store_times_done(&bench->times);
	haul_changes_free(bench->changes);
	free(bench->ids);
	free(bench);
}

int store_bench_enter(struct store_bench *bench, enum store_group group, struct haul_err *err)
{
	if (bench->group == group)
		return 0;
	group_leave(bench);
	bench->group = group;
	return space_check(bench->folder, 0, err);
}

int store_store_open(struct store_bench *bench, int64_t sync_add_ns,
		     const struct haul_store_options *options, struct haul_err *err)
{
	char path[STORE_PATH];
	struct haul_store_options chosen =
		options != NULL ? *options : (struct haul_store_options){ 0 };
	chosen.sync_add_ns = sync_add_ns;
	if (bench->store != NULL && bench->sync_add_ns == sync_add_ns)
		return 0;
	int error = store_store_close(bench);
	store_path(bench, "store", path);
	if (error == 0 && access(path, F_OK) < 0)
		error = haul_store_init(path, err);
	if (error == 0)
		error = haul_store_open(&bench->store, path, &chosen, err);
	bench->sync_add_ns = sync_add_ns;
	return error;
}

int store_node_add(struct haul_changes *changes, uint64_t id)
{
	uint8_t value[STORE_VALUE];
	store_value(id, value);
	/* What stands behind the head of the record is the property, encoded. */
	const struct haul_node node = {
		.id = id,
		.kind = 1,
		.properties = { .data = value + STORE_VALUE - STORE_PAYLOAD - 12,
				.bytes = STORE_PAYLOAD + 12,
				.count = 1 },
	};
	int error = haul_changes_create_node(changes, &node, NULL);
	return error < 0 ? error : 0;
}
