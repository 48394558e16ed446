/* bench/bench_store.c — a durable graph on this disk: groups, shared frames and full frames against
 * one operation and one fdatasync each, and against the engines that people would embed instead.
 *
 * Everything that is counted is durable. Cases that end in _slow have 1 ms (--sync-us) added to
 * each sync, in both arms: the disk that the figures of the first design were made for. A case
 * whose first arm is "the limit" states an absolute goal. */
#include <stddef.h>

#include "store_work.h"

#define COMMIT(case_name, what, slow, wanted, arm)                                                 \
	{                                                                                          \
		.name = case_name, .unit = "ops/s", .goal = wanted,                                \
		.arms = "one node a commit, one caller | " arm, .run = store_commit_run,           \
		.parameter = STORE_CASE(what, slow)                                                \
	}
#define MANUAL_ARM "groups of 1000"
#define CLIENT_ARM "64 callers of one client, 16 nodes each in flight"
#define SERVER_ARM "full frames of 4 clients, random ids, merges running"

#define RIVALS(case_name, batch, wanted)                                                           \
	{                                                                                          \
		.name = case_name, .unit = "nodes/s", .goal = wanted,                              \
		.arms = "the best of rocksdb, lmdb, sqlite | haul_store_commit; as many a batch",  \
		.run = store_rival_run, .parameter = batch                                         \
	}
#define SUSTAIN(case_name, case_unit, what, lower)                                                 \
	{                                                                                          \
		.name = case_name, .unit = case_unit, .lower_is_better = lower, .goal = 1.0,       \
		.arms = "the limit | full frames, 4 in flight, for 40 times --seconds",            \
		.run = store_sustain_run, .parameter = what                                        \
	}

static const struct bench_case cases[] = {
	COMMIT("manual", STORE_MANUAL, 0, 0, MANUAL_ARM),
	COMMIT("manual_slow", STORE_MANUAL, 1, 50.0, MANUAL_ARM),
	COMMIT("client", STORE_CLIENT, 0, 20.0, CLIENT_ARM),
	COMMIT("client_slow", STORE_CLIENT, 1, 75.0, CLIENT_ARM),
	COMMIT("server", STORE_SERVER, 0, 20.0, SERVER_ARM),
	COMMIT("server_slow", STORE_SERVER, 1, 100.0, SERVER_ARM),
	SUSTAIN("extreme_ascending", "nodes/s", STORE_ASCENDING, false),
	SUSTAIN("extreme_random", "nodes/s", STORE_RANDOM, false),
	SUSTAIN("extreme_p99", "ms", STORE_RANDOM_P99, true),
	SUSTAIN("extreme_gap", "ms", STORE_RANDOM_GAP, true),
	{ .name = "sustained_wait",
	  .unit = "ms",
	  .lower_is_better = true,
	  .goal = 1.0,
	  .arms = "the limit, and the same bytes appended alone | the longest wait of a full "
		  "frame, "
		  "500 K nodes/s with random ids, for 40 times --seconds",
	  .run = store_sustain_run,
	  .parameter = STORE_RANDOM_WAIT },
	RIVALS("vs_best_1", 1, 1.0),
	RIVALS("vs_best_100", 100, 3.0),
	RIVALS("vs_best_1000", 1000, 3.0),
	RIVALS("vs_best_8190", 8190, 3.0),
	{ .name = "get_vs_lmdb",
	  .unit = "nodes/s",
	  .goal = 1.0,
	  .arms = "mdb_get in one transaction | haul_reader_get; 8192 random of 10 M nodes",
	  .run = store_get_run,
	  .parameter = STORE_BATCH_MAX },
	{ .name = "get_one",
	  .unit = "nodes/s",
	  .arms = "mdb_get in one transaction | haul_reader_get; 1 random of 10 M nodes",
	  .run = store_get_run,
	  .parameter = 1 },
	{ .name = "knn",
	  .unit = "queries/s",
	  .goal = 8.0,
	  .arms = "haul_reader_near of 1 | of 64; exact, 10 nearest of 100 K x 256",
	  .run = store_knn_run },
};

static int store_open(void **ret_ctx, struct haul_err *err)
{
	return store_bench_open(ret_ctx, &store_sizes_full, err);
}

static void store_slow(void *ctx, int64_t sync_add_us)
{
	struct store_bench *bench = ctx;
	bench->slow_ns = sync_add_us * NS_PER_US;
}

const struct bench bench_store = {
	.name = "store",
	.help = "a durable graph on this disk: groups, frames, a server, and other engines",
	.cases = cases,
	.case_count = sizeof cases / sizeof *cases,
	.open = store_open,
	.close = store_bench_close,
	.slow = store_slow,
	.tables = store_serve_tables,
};
