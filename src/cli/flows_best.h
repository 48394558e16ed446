/* cli/flows_best.h — connections in order of a figure: the first so many, or all.
 *
 * Model      Each connection gets a rank when it is added. With a limit a heap of that size keeps
 *            the best, so that memory does not grow with the table; without one all are kept.
 * Ownership  flows_best_done frees what was kept.
 * Threads    main thread only. Errors: -ENOMEM. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/flows_past.h"

/* X(id, name): largest, oldest, longest idle first. */
#define FLOWS_SORT_LIST(X)                                                                         \
	X(FLOWS_SORT_NONE, "none")                                                                 \
	X(FLOWS_SORT_BYTES, "bytes")                                                               \
	X(FLOWS_SORT_PACKETS, "packets")                                                           \
	X(FLOWS_SORT_AGE, "age")                                                                   \
	X(FLOWS_SORT_IDLE, "idle")                                                                 \
	X(FLOWS_SORT_RTT, "rtt")                                                                   \
	X(FLOWS_SORT_RATE, "rate")   /* bytes since the last look */                               \
	X(FLOWS_SORT_PRATE, "prate") /* packets since the last look */

enum flows_sort {
#define X(id, name) id,
	FLOWS_SORT_LIST(X)
#undef X
		FLOWS_SORTS
};

struct flows_item {
	uint64_t rank;
	uint32_t table; /* index into the tables read */
	uint32_t reserved;
	struct haul_flow_key key;
	struct haul_flow_value value;
	struct flows_delta delta;
};

struct flows_best {
	enum flows_sort sort;
	bool reverse;
	size_t limit; /* 0 = all */
	size_t count, room;
	struct flows_item *items;
};

const char *flows_sort_name(enum flows_sort sort);
/* FLOWS_SORTS: there is none of that name. */
enum flows_sort flows_sort_by_name(const char *name);

/* best->sort, reverse and limit are set. */
int flows_best_add(struct flows_best *best, const struct flows_item *item);
/* Put items in order of best->sort and reverse as they are now; more can be added only after
 * flows_best_clear. */
void flows_best_order(struct flows_best *best);
void flows_best_clear(struct flows_best *best);
void flows_best_done(struct flows_best *best);
