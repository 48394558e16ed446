/* bench/store_work.h — what the files of the store bench share.
 *
 * Model      Cases come in groups that work on the same stores; those of one group are deleted
 *            before those of the next are made. All lie in one folder made for the run, which is
 *            deleted at the end. A record is 128 bytes: an id of eight, and 120 of value, which
 *            haul stores as a node of kind 1 (so it keeps an index of kinds, too) and the others as
 *            they are. Ids are a permutation of the counting numbers: random, and never twice.
 * Units      bytes, seconds; _ns nanoseconds.
 * Ownership  one struct store_bench a bench.
 * Threads    one, and those of the engines.
 * Errors     with text. -ENOSPC before anything is written, if it would not fit. */
#pragma once

#include <errno.h>

#include <haul/store.h>
#include "base/prng.h"
#include "bench.h"
#include "os/os.h"

enum {
	STORE_PAYLOAD = 100, /* bytes of the one property of a node … */
	STORE_VALUE = 120,   /* … which make such a record of it */
	STORE_BATCH_MAX = 8192,
	STORE_SLOW_US = 1000, /* default of what --sync-us says */
	STORE_PATH = 4096,
	STORE_SUSTAINED = 64, /* runs that are remembered */
};

enum store_group { STORE_NONE, STORE_COMMIT, STORE_RIVALS, STORE_GET, STORE_KNN, STORE_SERVE };

/* How large everything is; tests have a smaller one. */
struct store_sizes {
	uint64_t space_bytes; /* of the disk, at most */
	uint32_t get_nodes;
	uint32_t knn_vectors;
	uint32_t knn_dimensions;
	double sustain; /* the sustained cases run for so many times --seconds */
	uint64_t server_memory, server_memtable;
};
extern const struct store_sizes store_sizes_full;

struct store_engine;
struct store_served;

/* Time each frame took, and when it was told. */
struct store_times {
	int64_t *took_ns;
	uint32_t count, room;
	int64_t last_ns, gap_ns;
};

struct store_bench {
	struct os *os;
	struct prng prng;
	struct store_sizes sizes;
	char folder[STORE_PATH];
	const char *haul; /* program that has `store serve` */
	enum store_group group;
	uint64_t next_id; /* of the permutation */
	int64_t slow_ns;  /* added to each sync in the cases that end in _slow */
	struct haul_store *store;
	int64_t sync_add_ns; /* of the open store */
	struct haul_changes *changes;
	uint64_t *ids;                   /* STORE_BATCH_MAX */
	struct store_engine *engines[4]; /* store_rival.c's: haul, rocksdb, lmdb, sqlite */
	struct haul_reader *reader;
	float *vectors;              /* queries of knn */
	struct store_served *served; /* store_serve.c's */
	struct store_times times;
	/* Of the sustained runs with random ids: two more cases tell of the same runs. */
	struct {
		double p99_ms, gap_ms;
	} sustained[STORE_SUSTAINED];
	uint32_t sustained_count, told_p99, told_gap;
};

/* What a case does: its parameter. */
#define STORE_CASE(what, slow) ((uint64_t)(what) << 1 | (uint64_t)(slow))

/* ---- store_file.c ---- */
int store_bench_open(void **ret_bench, const struct store_sizes *sizes, struct haul_err *err);
void store_bench_close(void *ctx);
/* Stores of another group are gone. */
int store_bench_enter(struct store_bench *bench, enum store_group group, struct haul_err *err);
/* folder/name */
const char *store_path(const struct store_bench *bench, const char *name, char path[STORE_PATH]);
/* The group's store is open, its syncs take so much longer. options may be NULL. */
int store_store_open(struct store_bench *bench, int64_t sync_add_ns,
		     const struct haul_store_options *options, struct haul_err *err);
int store_store_close(struct store_bench *bench);
/* Delete a folder and all that is in it. */
void store_remove(const char *path);
static inline int64_t store_now(const struct store_bench *bench)
{
	return bench->os->now_ns(bench->os);
}
/* The n-th id. */
static inline uint64_t store_id(uint64_t n)
{
	uint64_t id = hash_u64(n);
	return id == 0 || id == UINT64_MAX ? n : id;
}
/* Add a node of id to changes; 0 or negative. */
int store_node_add(struct haul_changes *changes, uint64_t id);

/* ---- store_commit.c ---- */
enum store_commit_case { STORE_MANUAL, STORE_CLIENT, STORE_SERVER };
int store_commit_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		     struct bench_sample *ret_sample, struct haul_err *err);
/* What a commit said, as one code. */
static inline int store_told(int error, const struct haul_commit *commit)
{
	return error < 0 ? error : commit->failed == 0 ? 0 : -EIO;
}

/* One operation a commit. */
int store_individual(struct store_bench *bench, double seconds, struct bench_sample *sample,
		     struct haul_err *err);

/* ---- store_sustain.c ---- */
enum store_sustain_case {
	STORE_ASCENDING,
	STORE_RANDOM,
	STORE_RANDOM_P99, /* of the runs of STORE_RANDOM */
	STORE_RANDOM_GAP,
	STORE_RANDOM_WAIT, /* at the rate that is the limit of STORE_RANDOM */
};
int store_sustain_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		      struct bench_sample *ret_sample, struct haul_err *err);

/* ---- store_times.c ---- */
int store_times_start(struct store_times *times, int64_t now_ns);
void store_times_add(struct store_times *times, int64_t began_ns, int64_t now_ns);
void store_times_sort(struct store_times *times);
double store_times_ms(const struct store_times *times, double quantile); /* sorted before */
void store_times_done(struct store_times *times);

/* ---- store_rival.c: the same records in other engines ---- */
struct store_engine_calls {
	const char *name;
	int (*open)(struct store_engine **ret_engine, const char *path, struct haul_err *err);
	/* One atomic durable batch; bulk: the sync may be left to store_engine_calls.settle. */
	int (*put)(struct store_engine *engine, const uint64_t *ids, uint32_t count, bool bulk);
	int (*settle)(struct store_engine *engine);
	/* *ret_sum: of the first eight bytes of all values. */
	int (*get)(struct store_engine *engine, const uint64_t *ids, uint32_t count,
		   uint64_t *ret_sum);
	void (*close)(struct store_engine *engine);
};
struct store_engine {
	const struct store_engine_calls *calls;
};
enum store_rival { STORE_HAUL, STORE_ROCKSDB, STORE_LMDB, STORE_SQLITE, STORE_ENGINES };
/* NULL: this program was built without it. */
extern const struct store_engine_calls *const store_rivals[STORE_ENGINES];
/* Value of a record, 120 bytes. */
void store_value(uint64_t id, uint8_t value[STORE_VALUE]);
/* Parameter: records a batch. */
int store_rival_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		    struct bench_sample *ret_sample, struct haul_err *err);

/* ---- store_read.c ---- */
int store_get_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		  struct bench_sample *ret_sample, struct haul_err *err);
int store_knn_run(void *ctx, const struct bench_case *self, enum bench_arm arm, double seconds,
		  struct bench_sample *ret_sample, struct haul_err *err);

/* ---- store_serve.c ---- */
int store_serve_run(struct store_bench *bench, enum store_commit_case what, double seconds,
		    struct bench_sample *sample, struct haul_err *err);
void store_serve_end(struct store_bench *bench);
int store_serve_tables(void *ctx, struct json_t *tables, struct haul_err *err);
