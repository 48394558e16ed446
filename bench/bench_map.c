/* bench/bench_map.c — maps of the kernel: one system call an entry against batches.
 *
 * Three maps of 10 000, 1 000 000 and 4 000 000 connections (map_table.h) are made when the first
 * case asks for them, and serve all. What the cases do is in map_walk.c, map_rows.c and map_once.c;
 * here is how it is timed: only the arm itself, again and again until enough time has passed, and
 * each time the answer is checked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "bench.h"
#include "map_lab.h"
#include "map_packet.h"
#include "map_table.h"
#include "map_work.h"
#include "os/os.h"

enum {
	SMALL = 10000,
	MEDIUM = 1000000,
	LARGE = 4000000,
	SIZES = 3,
	WALK_ONE_MAX = 1000000, /* of the large map one by one: the first quarter */
	SLICES = 5              /* an arm takes so much of --seconds, or one round */
};

struct map_bench {
	struct map_table tables[SIZES]; /* entries 0 = not made yet */
	struct haul_flow_key *keys;
	struct haul_flow_value *values, *got;
	uint32_t turn;
};

static const uint32_t sizes[SIZES] = { SMALL, MEDIUM, LARGE };

static void map_close(void *ctx)
{
	struct map_bench *bench = ctx;
	if (!bench)
		return;
	for (unsigned i = 0; i < SIZES; i++)
		map_table_done(&bench->tables[i]);
	free(bench->keys);
	free(bench->values);
	free(bench->got);
	free(bench);
}

static int map_open(void **ret_ctx, struct haul_err *err)
{
	struct map_bench *bench = calloc(1, sizeof *bench);
	if (!bench)
		return haul_err_set(err, -ENOMEM, "no memory");
	bench->keys = calloc(MAP_TABLE_ROWS_MAX, sizeof *bench->keys);
	bench->values = calloc(MAP_TABLE_ROWS_MAX, sizeof *bench->values);
	bench->got = calloc(MAP_TABLE_ROWS_MAX, sizeof *bench->got);
	int rc = bench->keys && bench->values && bench->got
			 ? map_table_init(&bench->tables[0], sizes[0], err)
			 : haul_err_set(err, -ENOMEM, "no memory for %u rows", MAP_TABLE_ROWS_MAX);
	if (rc < 0) {
		map_close(bench);
		return rc;
	}
	*ret_ctx = bench;
	return 0;
}

static struct map_table *table_of(struct map_bench *bench, uint32_t entries, struct haul_err *err)
{
	unsigned size = 0;
	while (sizes[size] != entries)
		size++;
	HAUL_ASSERT(size < SIZES);
	struct map_table *table = &bench->tables[size];
	if (table->entries == 0 && map_table_init(table, entries, err) < 0)
		return NULL;
	return table;
}

/* What a case's parameter holds: which work, on how many entries. */
enum map_work_id {
#define X(name) WORK_##name,
	MAP_WORK_LIST(X)
#undef X
		WORKS
};
static const struct map_work *const works[WORKS] = {
#define X(name) &map_work_##name,
	MAP_WORK_LIST(X)
#undef X
};
#define PARAMETER(work, entries) ((uint64_t)(work) << 32 | (entries))

/* Once: prepared, timed, checked and put back. Returns the time. */
static int64_t round_run(const struct map_work *work, struct map_run *run, enum bench_arm arm,
			 struct haul_err *err)
{
	struct os *os = os_linux();
	int rc = work->prepare ? work->prepare(run, err) : 0;
	if (rc < 0)
		return rc;
	int64_t start_ns = os->now_ns(os);
	rc = work->arm[arm](run, err);
	int64_t took_ns = os->now_ns(os) - start_ns;
	if (rc >= 0 && work->check)
		rc = work->check(run, err);
	struct haul_err ignored;
	int restored = work->restore ? work->restore(run, rc < 0 ? &ignored : err) : 0;
	if (rc >= 0)
		rc = restored;
	return rc < 0 ? rc : took_ns;
}

static void sample_fill(struct bench_sample *sample, const struct map_run *last, uint64_t ops,
			uint64_t calls)
{
	if (calls > 0) {
		sample->syscalls_per_op = (double)calls / (double)ops;
		sample->fill_mean = (double)ops / (double)calls;
	}
	snprintf(sample->note, sizeof sample->note, "%s%s%s",
		 last->note[0] ? last->note : haul_map_engine_name(last->engine),
		 last->cut ? ", the first quarter" : "", "");
}

static int map_case_run(void *ctx, const struct bench_case *self, enum bench_arm arm,
			double seconds, struct bench_sample *ret_sample, struct haul_err *err)
{
	struct map_bench *bench = ctx;
	const struct map_work *work = works[self->parameter >> 32];
	struct map_table *table = table_of(bench, (uint32_t)self->parameter, err);
	if (!table)
		return err ? err->code : -EIO;
	struct map_run run;
	uint64_t ops = 0, calls = 0;
	int64_t total_ns = 0, wanted_ns = (int64_t)(seconds / SLICES * (double)NS_PER_S);
	do {
		run = (struct map_run){ .table = table,
					.keys = bench->keys,
					.values = bench->values,
					.got = bench->got,
					.turn = ++bench->turn,
					.walk_max = WALK_ONE_MAX };
		int64_t took_ns = round_run(work, &run, arm, err);
		if (took_ns < 0)
			return (int)took_ns;
		total_ns += took_ns;
		ops += run.ops;
		calls += run.calls;
	} while (total_ns < wanted_ns);
	HAUL_ASSERT(ops > 0);
	sample_fill(ret_sample, &run, ops, calls);
	ret_sample->value = (double)total_ns / (double)ops;
	return 0;
}

static int map_tables(void *ctx, struct json_t *tables, struct haul_err *err)
{
	struct map_bench *bench = ctx;
	return map_lab_tables(&bench->tables[0], tables, err);
}

#define CASE(case_name, work, case_entries, case_goal, case_arms)                                  \
	{                                                                                          \
		.name = case_name, .unit = "ns/op", .lower_is_better = true, .goal = case_goal,    \
		.arms = case_arms, .run = map_case_run,                                            \
		.parameter = PARAMETER(WORK_##work, case_entries)                                  \
	}
/* The goal is for a million entries. */
#define SIZES_OF(work, goal, arms)                                                                 \
	CASE(#work, work, MEDIUM, goal, arms), CASE(#work "_10k", work, SMALL, 0, arms),           \
		CASE(#work "_4m", work, LARGE, 0, arms)

#define WALK "get-next-key + lookup, "
static const struct bench_case map_cases[] = {
	SIZES_OF(dump, 10, WALK "summed | scan, summed"),
	SIZES_OF(aggregate, 18, WALK "sum, min, max, histogram | aggregate in the kernel"),
	SIZES_OF(filter, 15, WALK "100 hits | scan with a filter, 100 hits"),
	SIZES_OF(multiget, 6, "lookup of random keys | get of as many rows"),
	SIZES_OF(upsert, 4, "insert, on EEXIST update; half are new | upsert"),
	SIZES_OF(update, 2, "update of random keys | update of as many rows"),
	SIZES_OF(age, 8, WALK "delete the old half | delete-if"),
	SIZES_OF(parallel, 1.7, "scan by batch calls, 1 thread | 2 threads"),
	SIZES_OF(dump_batch, 4, WALK "summed | scan by batch calls, summed"),
	SIZES_OF(delete_batch, 1.6, "delete of random keys | batch calls"),
	CASE("bpftool_dump", bpftool_dump, MEDIUM, 40,
	     "bpftool -j map dump | haul map dump --json; to /dev/null, start to end"),
	CASE("bpftool_dump_10k", bpftool_dump, SMALL, 0,
	     "bpftool -j map dump | haul map dump --json; to /dev/null, start to end"),
	{ .name = "packet_known",
	  .unit = "ns/op",
	  .lower_is_better = true,
	  .excess_max = 150,
	  .arms = "program that returns at once | counting program, TCP data of a known connection",
	  .run = map_packet_run },
	CASE("multiget_16", multiget_16, MEDIUM, 0.95, "16 lookups | get of 16 rows, fresh handle"),
	CASE("empty_scan", empty_scan, MEDIUM, 1, "get-next-key | scan; of a map for 1 M, empty"),
	CASE("kernel_open", kernel_open, MEDIUM, 0,
	     "first use: open, get 16 | open, load the program, get 16"),
};

const struct bench bench_map = {
	.name = "map",
	.help = "Maps of the kernel: one system call an entry against batches",
	.cases = map_cases,
	.case_count = sizeof map_cases / sizeof *map_cases,
	.open = map_open,
	.close = map_close,
	.tables = map_tables,
};
