/* Opening a cache of many entries after a crash: filled and opened by children that end without a
 * word, so that no run finds it closed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "disk_work.h"

static const double LIMIT_SECONDS = 1.0;

struct outcome {
	int error;
	uint64_t entries;
	double seconds;
	struct haul_err err;
};

static void fill(struct disk_bench *bench, struct outcome *outcome)
{
	const struct haul_cache_options options = { 0 };
	char text[DISK_KEY];
	struct haul_cache *cache;
	outcome->error = haul_cache_open(&cache, bench->cache_file.path, &options, &outcome->err);
	for (uint32_t i = 0; i < bench->sizes.recovery_entries && outcome->error == 0; i++) {
		const struct haul_cache_item item = { .key = disk_key(text, i),
						      .value = bench->value,
						      .bytes = DISK_RECOVERY };
		outcome->error = haul_cache_store_buffered(cache, &item);
	}
	if (outcome->error == 0)
		outcome->error = haul_cache_flush(cache);
}

static void recover(struct disk_bench *bench, struct outcome *outcome)
{
	const struct haul_cache_options options = { 0 };
	struct haul_cache *cache;
	struct haul_cache_stat stat = { 0 };
	int64_t start_ns = disk_now(bench);
	outcome->error = haul_cache_open(&cache, bench->cache_file.path, &options, &outcome->err);
	outcome->seconds = (double)(disk_now(bench) - start_ns) * 1e-9;
	if (outcome->error == 0)
		haul_cache_stat(cache, &stat);
	outcome->entries = stat.entries;
}

/* In a child that ends as by a crash. */
static int crash_after(struct disk_bench *bench,
		       void (*what)(struct disk_bench *bench, struct outcome *outcome),
		       struct outcome *ret_outcome, struct haul_err *err)
{
	int ends[2];
	if (pipe(ends) < 0)
		return haul_err_set(err, -errno, "pipe: %s", haul_strerror(-errno));
	pid_t pid = fork();
	if (pid == 0) {
		struct outcome outcome = { 0 };
		close(ends[0]);
		what(bench, &outcome);
		_exit(write(ends[1], &outcome, sizeof outcome) == sizeof outcome ? 0 : 1);
	}
	close(ends[1]);
	ssize_t got = pid > 0 ? read(ends[0], ret_outcome, sizeof *ret_outcome) : -1;
	close(ends[0]);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	if (got != sizeof *ret_outcome)
		return haul_err_set(err, -EIO, "the process that was to use the cache has died");
	if (ret_outcome->error < 0)
		return haul_err_set(err, ret_outcome->error, "%s",
				    ret_outcome->err.text[0] != '\0'
					    ? ret_outcome->err.text
					    : haul_strerror(ret_outcome->error));
	return 0;
}

int disk_recover_fill(struct disk_bench *bench, struct haul_err *err)
{
	struct outcome outcome;
	return crash_after(bench, fill, &outcome, err);
}

int disk_recover_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		     struct bench_sample *ret_sample, struct haul_err *err)
{
	struct disk_bench *bench = ctx;
	struct outcome outcome;
	(void)self;
	(void)seconds;
	int error = disk_bench_enter(bench, DISK_RECOVER, err);
	if (error < 0)
		return error;
	if (arm == BENCH_INDIVIDUAL) {
		ret_sample->value = LIMIT_SECONDS;
		snprintf(ret_sample->note, sizeof ret_sample->note, "the limit, not a run");
		return 0;
	}
	error = crash_after(bench, recover, &outcome, err);
	if (error < 0)
		return error;
	if (outcome.entries != bench->sizes.recovery_entries)
		return haul_err_set(err, -EIO, "%llu of %u entries are there after a crash",
				    (unsigned long long)outcome.entries,
				    bench->sizes.recovery_entries);
	ret_sample->value = outcome.seconds;
	snprintf(ret_sample->note, sizeof ret_sample->note, "%llu entries",
		 (unsigned long long)outcome.entries);
	return 0;
}
