/* bench/bench_disk.c — a cache on this disk: stores and lookups in batches against one at a time,
 * against what fio gets out of the disk, and served against memcached with extstore.
 *
 * A goal of bandwidth_4k and lookup_fio below 1 is a share of what the disk can do. recovery is
 * held against a limit in seconds. Cases that end in _slow have 4 ms (--sync-us) added to each
 * sync, in both arms: a disk whose cache has no battery. */
#include <stddef.h>

#include "disk_work.h"

#define STORE(case_name, bytes, slow, wanted)                                                      \
	{                                                                                          \
		.name = case_name, .unit = "ops/s", .goal = wanted,                                \
		.arms = "O_DIRECT pwrite + fdatasync | haul_cache_store_buffered, then flush",     \
		.run = disk_store_run, .parameter = DISK_CASE(bytes, slow)                         \
	}

#define SERVE(case_name, peer, keys, two, wanted)                                                  \
	{                                                                                          \
		.name = case_name, .unit = "keys/s", .goal = wanted,                               \
		.arms = peer " | haul cache serve; " #keys " cold keys a get",                     \
		.run = disk_serve_run, .parameter = DISK_CASE(keys, two)                           \
	}

static const struct bench_case cases[] = {
	STORE("store_4k", 4096, 0, 22.0),
	STORE("store_64k", 65536, 0, 2.2),
	STORE("store_1m", 1048576, 0, 1.05),
	STORE("store_4k_slow", 4096, 1, 20.0),
	STORE("store_64k_slow", 65536, 1, 15.0),
	STORE("store_1m_slow", 1048576, 1, 10.0),
	{ .name = "bandwidth_4k",
	  .unit = "MB/s",
	  .goal = 0.80,
	  .arms = "fio write 1 MiB, the same bytes a sync | haul_cache_store_buffered 4 KiB",
	  .run = disk_bandwidth_run,
	  .parameter = 4096 },
	{ .name = "idle_store",
	  .unit = "us",
	  .lower_is_better = true,
	  .goal = 0.91, /* at most a tenth more */
	  .arms = "O_DIRECT pwrite + fdatasync | haul_cache_store, one at a time",
	  .run = disk_idle_run,
	  .parameter = 4096 },
	{ .name = "lookup_seq",
	  .unit = "keys/s",
	  .goal = 8.0,
	  .arms = "haul_cache_get | haul_cache_lookup_batch of 256, in the order stored",
	  .run = disk_lookup_run,
	  .parameter = DISK_SEQUENTIAL },
	{ .name = "lookup_rand",
	  .unit = "keys/s",
	  .goal = 3.0,
	  .arms = "haul_cache_get | haul_cache_lookup_batch of 256, random",
	  .run = disk_lookup_run,
	  .parameter = DISK_RANDOM },
	{ .name = "lookup_fio",
	  .unit = "keys/s",
	  .goal = 0.85,
	  .arms = "fio randread 4 KiB | haul_cache_lookup_batch of 4096, random",
	  .run = disk_lookup_fio_run },
	{ .name = "lookup_one",
	  .unit = "us",
	  .lower_is_better = true,
	  .arms = "O_DIRECT pread of 4 KiB | haul_cache_get",
	  .run = disk_lookup_one_run },
	{ .name = "recovery",
	  .unit = "s",
	  .lower_is_better = true,
	  .goal = 1.0,
	  .arms = "the limit: 1 s | haul_cache_open of a million entries after a crash",
	  .run = disk_recover_run },
	SERVE("serve_get", "memcached with extstore", 1, 0, 2.5),
	SERVE("serve_mget", "memcached with extstore", 100, 0, 3.5),
	SERVE("serve_get_2", "memcached with extstore of two I/O threads", 1, 1, 0),
	SERVE("serve_mget_2", "memcached with extstore of two I/O threads", 100, 1, 0),
};

static int disk_open(void **ret_ctx, struct haul_err *err)
{
	return disk_bench_open(ret_ctx, &disk_sizes_full, err);
}

static void disk_slow(void *ctx, int64_t sync_add_us)
{
	struct disk_bench *bench = ctx;
	bench->slow_ns = sync_add_us * NS_PER_US;
}

const struct bench bench_disk = {
	.name = "disk",
	.help = "a cache on this disk: stores and lookups in batches, recovery, and as a server",
	.cases = cases,
	.case_count = sizeof cases / sizeof *cases,
	.open = disk_open,
	.close = disk_bench_close,
	.slow = disk_slow,
	.tables = disk_serve_tables,
};
