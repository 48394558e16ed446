/* bench/map_work.h — what the cases of the map bench do: pieces of work, each one by one and in a
 * batch, that say what they did so that it can be compared with what is right.
 *
 * Model      A work has a preparation (what it must find), the two arms (only they are timed), a
 *            check of what the arm says it did, and a restoration. prepare, check and restore may
 *            be NULL. An arm that did less, or something else, fails its case.
 * Threads    one. Errors: with text. */
#pragma once

#include <haul/map.h>
#include "map_table.h"

enum { MAP_WORK_THREADS = 2, MAP_WORK_RARE = 100 };

struct map_run {
	/* in */
	struct map_table *table;
	struct haul_flow_key *keys; /* of keyed work: MAP_TABLE_ROWS_MAX of each */
	struct haul_flow_value *values;
	struct haul_flow_value *got;
	uint32_t rows;          /* in use: what is asked for, or the arm's own */
	uint32_t turn;          /* of this case: so that each can write something else */
	struct haul_map *fresh; /* of a work's own, from prepare to restore */
	uint32_t walk_max;      /* entries that a walk one by one stops after */
	/* out, all 0 before each arm */
	uint64_t ops;   /* what the time is divided by */
	uint64_t calls; /* into the kernel; 0 = not known */
	uint64_t done;  /* rows or entries that it was about */
	uint64_t inserted;
	struct map_sum sum[MAP_WORK_THREADS];
	struct haul_map_aggregate aggregate;
	bool is_haul; /* of two programs */
	bool cut;     /* a walk one by one that ended after walk_max */
	enum haul_map_engine engine;
	char note[96];
};

struct map_work {
	int (*prepare)(struct map_run *run, struct haul_err *err);
	int (*arm[2])(struct map_run *run, struct haul_err *err); /* by enum bench_arm */
	int (*check)(const struct map_run *run, struct haul_err *err);
	int (*restore)(struct map_run *run, struct haul_err *err);
};

/* X(name): all of the map … */
#define MAP_WALK_LIST(X)                                                                           \
	X(dump)                                                                                    \
	X(dump_batch)                                                                              \
	X(parallel)                                                                                \
	X(filter)                                                                                  \
	X(aggregate)                                                                               \
	X(age)
/* … rows of it … */
#define MAP_ROWS_LIST(X)                                                                           \
	X(multiget)                                                                                \
	X(multiget_16)                                                                             \
	X(update)                                                                                  \
	X(upsert)                                                                                  \
	X(delete_batch)
/* … and programs, and what happens once. */
#define MAP_ONCE_LIST(X)                                                                           \
	X(bpftool_dump)                                                                            \
	X(empty_scan)                                                                              \
	X(kernel_open)
#define MAP_WORK_LIST(X) MAP_WALK_LIST(X) MAP_ROWS_LIST(X) MAP_ONCE_LIST(X)

#define X(name) extern const struct map_work map_work_##name;
MAP_WORK_LIST(X)
#undef X

/* Sums over entries of which there were count, all different, of a whole map: what they must be. */
int map_work_check_all(const struct map_run *run, struct haul_err *err);
