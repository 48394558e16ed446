/* bench/disk_work.h — what the files of the disk bench share.
 *
 * Model      Cases come in groups that work on the same files; the files of one group are given
 *            back before those of the next are made. A file has no name (O_TMPFILE), and is reached
 *            as /proc/PID/fd/N, by children too: however the bench ends, it is gone with it.
 * Units      bytes, seconds; _ns nanoseconds.
 * Ownership  one struct disk_bench a bench.
 * Threads    one.
 * Errors     with text. -ENOSPC before anything is written, if it would not fit. */
#pragma once

#include <haul/cache.h>
#include "base/prng.h"
#include "bench.h"
#include "os/os.h"

enum {
	DISK_BLOCK = 4096,
	DISK_KEY = 16,         /* bytes of the longest key, with its end */
	DISK_LOOKUP = 4096,    /* bytes of a value that is looked up */
	DISK_RECOVERY = 256,   /* bytes of a value that is recovered */
	DISK_SLOW_US = 4000,   /* default of what --sync-us says */
	DISK_CACHE_DEPTH = 256 /* operations at a time of a haul_cache */
};

enum disk_group { DISK_NONE, DISK_STORE, DISK_LOOKUPS, DISK_RECOVER, DISK_SERVE };

/* How large everything is; tests have a smaller one. */
struct disk_sizes {
	uint64_t store_bytes;    /* cache file of the stores */
	uint64_t plain_bytes;    /* file of the arms without a cache */
	uint64_t lookup_bytes;   /* cache file of the lookups */
	uint32_t lookup_entries; /* in it */
	uint64_t recovery_bytes; /* cache file of the recovery */
	uint32_t recovery_entries;
	uint64_t serve_bytes;   /* each server's disk */
	uint32_t serve_ram_mib; /* each server's memory */
	uint32_t serve_entries; /* of 4 KiB, several times the memory */
};
extern const struct disk_sizes disk_sizes_full;

struct disk_file {
	int fd; /* -1 = none */
	char path[64];
};

struct disk_server;

struct disk_bench {
	struct os *os;
	struct prng prng;
	struct disk_sizes sizes;
	const char *folder;
	const char *haul; /* program that has `cache serve` */
	enum disk_group group;
	struct disk_file cache_file, plain;
	struct haul_cache *cache;
	int64_t sync_add_ns; /* of the open cache */
	int64_t slow_ns;     /* added to each sync in the cases that end in _slow */
	uint8_t *value;      /* DISK_VALUE_MAX, block-aligned, random */
	uint64_t stored;     /* keys so far */
	uint64_t sync_every; /* bytes between two syncs of buffered stores, as seen last */
	uint64_t fio_every;  /* the same, in bandwidth_4k */
	char (*keys)[DISK_KEY];
	struct haul_cache_key *asked;
	struct disk_server *servers; /* haul, memcached; disk_serve.c's */
};

enum { DISK_VALUE_MAX = 1 << 20 };

/* What a case does: its parameter. */
#define DISK_CASE(bytes, slow) ((uint64_t)(bytes) << 1 | (uint64_t)(slow))

/* ---- disk_file.c ---- */
int disk_bench_open(void **ret_bench, const struct disk_sizes *sizes, struct haul_err *err);
void disk_bench_close(void *bench);
/* Files of the group are there; those of another are gone. */
int disk_bench_enter(struct disk_bench *bench, enum disk_group group, struct haul_err *err);
/* An empty file without a name, after a look whether `bytes` will fit. */
int disk_file_open(struct disk_bench *bench, struct disk_file *file, uint64_t bytes,
		   struct haul_err *err);
/* Allocated, and written once. */
int disk_file_fill(struct disk_file *file, uint64_t bytes, struct haul_err *err);
void disk_file_close(struct disk_file *file);
/* The group's cache is open, its syncs take so much longer. */
int disk_cache_open(struct disk_bench *bench, int64_t sync_add_ns, struct haul_err *err);
int disk_cache_close(struct disk_bench *bench, struct haul_err *err);
/* "k" and the number in twelve digits. */
struct haul_cache_key disk_key(char text[DISK_KEY], uint64_t number);
static inline int64_t disk_now(const struct disk_bench *bench)
{
	return bench->os->now_ns(bench->os);
}

/* ---- disk_store.c ---- */
int disk_store_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		   struct bench_sample *ret_sample, struct haul_err *err);
int disk_bandwidth_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		       struct bench_sample *ret_sample, struct haul_err *err);
int disk_idle_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		  struct bench_sample *ret_sample, struct haul_err *err);

/* ---- disk_lookup.c ---- */
int disk_lookup_fill(struct disk_bench *bench, struct haul_err *err);
int disk_lookup_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		    struct bench_sample *ret_sample, struct haul_err *err);
int disk_lookup_fio_run(void *ctx, const struct bench_case *self, enum bench_arm arm,
			double seconds, struct bench_sample *ret_sample, struct haul_err *err);
int disk_lookup_one_run(void *ctx, const struct bench_case *self, enum bench_arm arm,
			double seconds, struct bench_sample *ret_sample, struct haul_err *err);
enum disk_order { DISK_SEQUENTIAL, DISK_RANDOM }; /* parameter of disk_lookup_run */

/* ---- disk_recover.c ---- */
int disk_recover_fill(struct disk_bench *bench, struct haul_err *err);
int disk_recover_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		     struct bench_sample *ret_sample, struct haul_err *err);

/* ---- disk_fio.c ---- */
struct disk_fio {
	const char *path;
	const char *rw; /* "write", "randread" */
	uint32_t bytes; /* an operation */
	uint32_t depth;
	uint64_t size;       /* of the file's part */
	uint64_t sync_every; /* operations; 0 = never */
	double seconds;
};
/* Operations a second. -ENOTSUP when there is no fio. */
int disk_fio_run(const struct disk_fio *fio, double *ret_per_s, struct haul_err *err);

/* ---- disk_serve.c ---- */
int disk_serve_fill(struct disk_bench *bench, struct haul_err *err);
void disk_serve_end(struct disk_bench *bench);
int disk_serve_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		   struct bench_sample *ret_sample, struct haul_err *err);
int disk_serve_tables(void *ctx, struct json_t *tables, struct haul_err *err);
