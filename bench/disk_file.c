/* Files of the disk bench, and the cache in one of them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "disk_work.h"
#include "os/file.h"

const struct disk_sizes disk_sizes_full = {
	.store_bytes = UINT64_C(2) << 30,
	.plain_bytes = UINT64_C(1) << 29,
	.lookup_bytes = UINT64_C(1) << 30,
	.lookup_entries = 160000,
	.recovery_bytes = UINT64_C(1) << 30,
	.recovery_entries = 1000000,
	.serve_bytes = UINT64_C(2) << 30,
	.serve_ram_mib = 64,
	.serve_entries = 200000,
};

enum {
	SLACK_MIB = 256,          /* what a file system wants to keep */
	DIGITS = 12,              /* of a key */
	LARGE = 1 << 30,          /* from here on … */
	SEGMENT = 16 << 20,       /* … segments as on a large disk */
	SLOW_BUFFERS = 192 << 20, /* of writes, where a sync takes 4 ms */
};

static int space_check(const struct disk_bench *bench, uint64_t bytes, struct haul_err *err)
{
	uint64_t there;
	int error = file_space(bench->folder, &there, err);
	if (error < 0)
		return error;
	if (there < bytes + ((uint64_t)SLACK_MIB << 20))
		return haul_err_set(err, -ENOSPC,
				    "%llu MiB are free in %s, %llu MiB are wanted: set TMPDIR to a "
				    "folder on a larger disk",
				    (unsigned long long)(there >> 20), bench->folder,
				    (unsigned long long)((bytes >> 20) + SLACK_MIB));
	return 0;
}

static uint64_t most_bytes(const struct disk_sizes *sizes)
{
	const uint64_t groups[] = {
		sizes->store_bytes + sizes->plain_bytes,
		sizes->lookup_bytes,
		sizes->recovery_bytes,
		3 * sizes->serve_bytes,
	};
	uint64_t most = 0;
	for (uint32_t i = 0; i < 4; i++)
		most = groups[i] > most ? groups[i] : most;
	return most;
}

int disk_bench_open(void **ret_bench, const struct disk_sizes *sizes, struct haul_err *err)
{
	struct disk_bench *bench = calloc(1, sizeof *bench);
	const char *folder = getenv("TMPDIR");
	uint64_t seed;
	if (bench == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	bench->os = os_linux();
	bench->sizes = *sizes;
	bench->slow_ns = DISK_SLOW_US * NS_PER_US;
	bench->folder = folder != NULL ? folder : "/var/tmp";
	bench->haul = "/proc/self/exe";
	bench->cache_file.fd = bench->plain.fd = -1;
	bench->os->random(bench->os, &seed, sizeof seed);
	prng_init(&bench->prng, seed);
	bench->value = aligned_alloc(DISK_BLOCK, DISK_VALUE_MAX);
	int error = bench->value != NULL ? space_check(bench, most_bytes(sizes), err) : -ENOMEM;
	if (error < 0) {
		disk_bench_close(bench);
		return error;
	}
	for (uint32_t i = 0; i < DISK_VALUE_MAX; i += 8) {
		uint64_t random = prng_next(&bench->prng);
		memcpy(bench->value + i, &random, sizeof random);
	}
	*ret_bench = bench;
	return 0;
}

static int group_leave(struct disk_bench *bench, struct haul_err *err)
{
	int error = disk_cache_close(bench, err);
	disk_serve_end(bench);
	disk_file_close(&bench->cache_file);
	disk_file_close(&bench->plain);
	free(bench->keys);
	free(bench->asked);
	bench->keys = NULL;
	bench->asked = NULL;
	bench->group = DISK_NONE;
	return error;
}

void disk_bench_close(void *ctx)
{
	struct disk_bench *bench = ctx;
	if (bench == NULL)
		return;
	(void)group_leave(bench, NULL);
	free(bench->value);
	free(bench);
}

/* ---- files ---- */

int disk_file_open(struct disk_bench *bench, struct disk_file *file, uint64_t bytes,
		   struct haul_err *err)
{
	char path[4096];
	int error = space_check(bench, bytes, err);
	HAUL_ASSERT(file->fd < 0);
	if (error < 0)
		return error;
	int fd = open(bench->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		snprintf(path, sizeof path, "%s/haul-bench-XXXXXX", bench->folder);
		fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			unlink(path);
	}
	if (fd < 0)
		return haul_err_set(err, -errno, "make a file in %s: %s", bench->folder,
				    haul_strerror(-errno));
	file->fd = fd;
	snprintf(file->path, sizeof file->path, "/proc/%d/fd/%d", getpid(), fd);
	return 0;
}

int disk_file_fill(struct disk_file *file, uint64_t bytes, struct haul_err *err)
{
	struct file opened;
	int error = file_open(&opened, file->path, FILE_WRITE, err);
	if (error < 0)
		return error;
	error = file_allocate(&opened, bytes, NULL, NULL, err);
	file_close(&opened);
	return error;
}

void disk_file_close(struct disk_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

/* ---- the cache ---- */

static int cache_make(struct disk_bench *bench, uint64_t bytes, uint64_t entries,
		      struct haul_err *err)
{
	int error = disk_file_open(bench, &bench->cache_file, bytes, err);
	if (error < 0)
		return error;
	/* One partition: one thread works on it. */
	const struct haul_cache_format format = { .bytes = bytes,
						  .partitions = 1,
						  .segment_bytes = bytes >= LARGE ? SEGMENT : 0,
						  .entries_max = entries };
	return haul_cache_format(bench->cache_file.path, &format, err);
}

int disk_cache_open(struct disk_bench *bench, int64_t sync_add_ns, struct haul_err *err)
{
	if (bench->cache != NULL && bench->sync_add_ns == sync_add_ns)
		return 0;
	int error = disk_cache_close(bench, err);
	if (error < 0)
		return error;
	const struct haul_cache_options options = {
		.sync_add_ns = sync_add_ns,
		.buffer_bytes = sync_add_ns > 0 ? SLOW_BUFFERS : 0,
	};
	error = haul_cache_open(&bench->cache, bench->cache_file.path, &options, err);
	bench->sync_add_ns = sync_add_ns;
	return error;
}

int disk_cache_close(struct disk_bench *bench, struct haul_err *err)
{
	if (bench->cache == NULL)
		return 0;
	int error = haul_cache_close(bench->cache);
	bench->cache = NULL;
	return error < 0 ? haul_err_set(err, error, "close: %s", haul_strerror(error)) : 0;
}

struct haul_cache_key disk_key(char text[DISK_KEY], uint64_t number)
{
	/* By hand: it is a part of every operation that is timed. */
	text[0] = 'k';
	for (uint32_t i = DIGITS; i > 0; i--, number /= 10)
		text[i] = (char)('0' + number % 10);
	text[DIGITS + 1] = '\0';
	return (struct haul_cache_key){ .data = text, .bytes = DIGITS + 1 };
}

/* ---- groups ---- */

static int store_make(struct disk_bench *bench, struct haul_err *err)
{
	const struct disk_sizes *sizes = &bench->sizes;
	int error = cache_make(bench, sizes->store_bytes, 0, err);
	if (error == 0)
		error = disk_file_open(bench, &bench->plain, sizes->plain_bytes, err);
	if (error == 0)
		error = disk_file_fill(&bench->plain, sizes->plain_bytes, err);
	return error;
}

static int lookup_make(struct disk_bench *bench, struct haul_err *err)
{
	int error = cache_make(bench, bench->sizes.lookup_bytes, 0, err);
	if (error == 0)
		error = disk_cache_open(bench, 0, err);
	return error == 0 ? disk_lookup_fill(bench, err) : error;
}

static int recover_make(struct disk_bench *bench, struct haul_err *err)
{
	const struct disk_sizes *sizes = &bench->sizes;
	int error = cache_make(bench, sizes->recovery_bytes,
			       sizes->recovery_entries + sizes->recovery_entries / 4, err);
	return error == 0 ? disk_recover_fill(bench, err) : error;
}

int disk_bench_enter(struct disk_bench *bench, enum disk_group group, struct haul_err *err)
{
	if (bench->group == group)
		return 0;
	int error = group_leave(bench, err);
	if (error == 0 && group == DISK_STORE)
		error = store_make(bench, err);
	if (error == 0 && group == DISK_LOOKUPS)
		error = lookup_make(bench, err);
	if (error == 0 && group == DISK_RECOVER)
		error = recover_make(bench, err);
	if (error == 0 && group == DISK_SERVE)
		error = disk_serve_fill(bench, err);
	if (error == 0)
		bench->group = group;
	else
		(void)group_leave(bench, NULL);
	return error;
}
