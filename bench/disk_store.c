/* Stores: each written and synced by itself, against what a cache makes of them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "disk_work.h"

enum {
	FIO_DEPTH = 8,
	LATENCIES = 1 << 16,
	/* The clock is read so rarely that it is no part of a store: reading it waits for all
	 * that is under way in the CPU. fio reads it once a MiB. */
	CLOCK_BYTES = 1 << 16,
};

/* Time for a run; `until` is checked after each operation, or after some. */
struct run {
	int64_t start_ns, until_ns;
	uint64_t ops;
};

static struct run run_start(const struct disk_bench *bench, double seconds)
{
	int64_t now_ns = disk_now(bench);
	return (struct run){ .start_ns = now_ns, .until_ns = now_ns + (int64_t)(seconds * 1e9) };
}

static bool run_over(const struct disk_bench *bench, const struct run *run)
{
	return disk_now(bench) >= run->until_ns;
}

static double run_seconds(const struct disk_bench *bench, const struct run *run)
{
	return (double)(disk_now(bench) - run->start_ns) * 1e-9;
}

/* ---- one by one ---- */

static int plain_open(const struct disk_bench *bench, int *ret_fd, struct haul_err *err)
{
	int fd = open(bench->plain.path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return haul_err_set(err, -errno,
				    "open the file beside the cache for direct I/O: %s",
				    haul_strerror(-errno));
	*ret_fd = fd;
	return 0;
}

/* One write and its sync, as a program without a cache would do it. */
static int plain_store(const struct disk_bench *bench, int fd, uint64_t n, uint32_t bytes,
		       int64_t sync_add_ns)
{
	uint64_t places = bench->sizes.plain_bytes / bytes;
	ssize_t done = pwrite(fd, bench->value, bytes, (off_t)(n % places * bytes));
	if (done != (ssize_t)bytes || fdatasync(fd) < 0)
		return done >= 0 && done != (ssize_t)bytes ? -EIO : -errno;
	const struct timespec pause = { .tv_sec = sync_add_ns / NS_PER_S,
					.tv_nsec = sync_add_ns % NS_PER_S };
	if (sync_add_ns > 0)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
	return 0;
}

static int store_single(const struct disk_bench *bench, uint32_t bytes, int64_t sync_add_ns,
			double seconds, struct bench_sample *sample, struct haul_err *err)
{
	int fd = -1, error = plain_open(bench, &fd, err);
	if (error < 0)
		return error;
	struct run run = run_start(bench, seconds);
	do {
		error = plain_store(bench, fd, run.ops++, bytes, sync_add_ns);
	} while (error == 0 && disk_now(bench) < run.until_ns);
	sample->value = (double)run.ops / run_seconds(bench, &run);
	sample->syscalls_per_op = 2;
	close(fd);
	return error < 0 ? haul_err_set(err, error, "write and sync: %s", haul_strerror(error)) : 0;
}

/* ---- through the cache ---- */

static int cache_store(struct disk_bench *bench, uint32_t bytes, bool durable)
{
	char text[DISK_KEY];
	/* No two values are the same. */
	memcpy(bench->value, &bench->stored, sizeof bench->stored);
	const struct haul_cache_item item = { .key = disk_key(text, bench->stored++),
					      .value = bench->value,
					      .bytes = bytes };
	return durable ? haul_cache_store(bench->cache, &item)
		       : haul_cache_store_buffered(bench->cache, &item);
}

/* What was stored last is there. */
static int cache_check(struct disk_bench *bench, uint32_t bytes, struct haul_err *err)
{
	char text[DISK_KEY];
	struct haul_cache_value value;
	uint64_t number = 0, last = bench->stored - 1;
	struct haul_cache_key key = disk_key(text, last);
	int error = haul_cache_get(bench->cache, &key, &number, sizeof number, &value);
	if ((error != 0 && error != HAUL_ELONG) || number != last)
		return haul_err_set(err, -EIO, "what was stored last is not there: %s",
				    haul_strerror(error));
	if (value.total != bytes && value.bytes != bytes)
		return haul_err_set(err, -EIO, "what was stored last has another length");
	return 0;
}

static int store_many(struct disk_bench *bench, uint32_t bytes, double seconds,
		      struct bench_sample *sample, struct haul_err *err)
{
	struct haul_cache_stat before, after;
	haul_cache_stat(bench->cache, &before);
	struct run run = run_start(bench, seconds);
	int error = 0;
	do {
		error = cache_store(bench, bytes, false);
		run.ops++;
	} while (error == 0 && (run.ops * bytes % CLOCK_BYTES != 0 || !run_over(bench, &run)));
	if (error == 0)
		error = haul_cache_flush(bench->cache); /* all of it is durable in that time */
	sample->value = (double)run.ops / run_seconds(bench, &run);
	if (error < 0)
		return haul_err_set(err, error, "store: %s", haul_strerror(error));
	haul_cache_stat(bench->cache, &after);
	uint64_t syncs = after.syncs - before.syncs;
	sample->fill_mean = syncs > 0 ? (double)run.ops / (double)syncs : -1;
	bench->sync_every = syncs > 0 ? run.ops * bytes / syncs : 0;
	snprintf(sample->note, sizeof sample->note,
		 "a sync every %.0f KiB, %.2f bytes written a byte",
		 (double)bench->sync_every / 1024,
		 (double)(after.device_bytes - before.device_bytes) / (double)(run.ops * bytes));
	return cache_check(bench, bytes, err);
}

int disk_store_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		   struct bench_sample *ret_sample, struct haul_err *err)
{
	struct disk_bench *bench = ctx;
	uint32_t bytes = (uint32_t)(self->parameter >> 1);
	int64_t sync_add_ns = self->parameter & 1 ? bench->slow_ns : 0;
	HAUL_ASSERT(bytes <= DISK_VALUE_MAX && bytes % DISK_BLOCK == 0);
	int error = disk_bench_enter(bench, DISK_STORE, err);
	if (error == 0 && arm == BENCH_INDIVIDUAL)
		return store_single(bench, bytes, sync_add_ns, seconds, ret_sample, err);
	if (error == 0)
		error = disk_cache_open(bench, sync_add_ns, err);
	return error == 0 ? store_many(bench, bytes, seconds, ret_sample, err) : error;
}

/* ---- against what the disk can write ---- */

static int bandwidth_fio(struct disk_bench *bench, double seconds, struct bench_sample *sample,
			 struct haul_err *err)
{
	/* As many bytes between two syncs as the cache had. */
	struct bench_sample ignored;
	int error = 0;
	if (bench->fio_every == 0) {
		error = store_many(bench, DISK_BLOCK, 0.1, &ignored, err);
		bench->fio_every = bench->sync_every;
	}
	if (error < 0)
		return error;
	uint64_t every = (bench->fio_every + (HAUL_DISK_SPLIT / 2)) / HAUL_DISK_SPLIT;
	const struct disk_fio fio = {
		.path = bench->plain.path,
		.rw = "write",
		.bytes = HAUL_DISK_SPLIT,
		.depth = FIO_DEPTH,
		.size = bench->sizes.plain_bytes,
		.sync_every = every > 0 ? every : 1,
		.seconds = seconds,
	};
	double per_s;
	error = disk_fio_run(&fio, &per_s, err);
	if (error < 0)
		return error;
	sample->value = per_s * HAUL_DISK_SPLIT / 1e6;
	snprintf(sample->note, sizeof sample->note, "1 MiB at depth %d, a sync every %llu MiB",
		 FIO_DEPTH, (unsigned long long)fio.sync_every);
	return 0;
}

int disk_bandwidth_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		       struct bench_sample *ret_sample, struct haul_err *err)
{
	struct disk_bench *bench = ctx;
	uint32_t bytes = (uint32_t)self->parameter;
	int error = disk_bench_enter(bench, DISK_STORE, err);
	if (error == 0)
		error = disk_cache_open(bench, 0, err);
	if (error == 0 && arm == BENCH_INDIVIDUAL)
		return bandwidth_fio(bench, seconds, ret_sample, err);
	if (error == 0)
		error = store_many(bench, bytes, seconds, ret_sample, err);
	bench->fio_every = bench->sync_every;
	ret_sample->value *= bytes / 1e6;
	return error;
}

/* ---- a store alone ---- */

static int compare_ns(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

int disk_idle_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		  struct bench_sample *ret_sample, struct haul_err *err)
{
	struct disk_bench *bench = ctx;
	uint32_t bytes = (uint32_t)self->parameter;
	int fd = -1, error = disk_bench_enter(bench, DISK_STORE, err);
	if (error == 0)
		error = disk_cache_open(bench, 0, err);
	if (error == 0)
		error = plain_open(bench, &fd, err);
	if (error < 0)
		return error;
	int64_t *took_ns = calloc(LATENCIES, sizeof *took_ns);
	if (took_ns == NULL)
		error = -ENOMEM;
	struct run run = run_start(bench, seconds);
	while (error == 0 && run.ops < LATENCIES) {
		int64_t before_ns = disk_now(bench);
		if (run.ops > 0 && before_ns >= run.until_ns)
			break;
		error = arm == BENCH_INDIVIDUAL ? plain_store(bench, fd, run.ops, bytes, 0)
						: cache_store(bench, bytes, true);
		took_ns[run.ops++] = disk_now(bench) - before_ns;
	}
	close(fd);
	if (error == 0) {
		qsort(took_ns, run.ops, sizeof *took_ns, compare_ns);
		ret_sample->value = (double)took_ns[run.ops / 2] / 1e3;
		snprintf(ret_sample->note, sizeof ret_sample->note, "p50 %.1f p99 %.1f us",
			 ret_sample->value, (double)took_ns[run.ops * 99 / 100] / 1e3);
	}
	free(took_ns);
	return error < 0 ? haul_err_set(err, error, "store alone: %s", haul_strerror(error)) : 0;
}
