/* haul/stats.h — the one table of numbers.
 *
 * Model      Every place that batches owns one struct haul_stats and enters it in a table under a
 *            name ("tap.rx", "radio.tx"). Beside the fixed figures a block carries named counters
 *            (drops by reason, offloads refused …), described by the module that owns them. The
 *            command line, /metrics and the dashboard read the table and nothing else.
 * Units      _ns nanoseconds, _bytes bytes; fill in operations a batch.
 * Ownership  a block belongs to its owner; the table holds a pointer until it is removed.
 * Memory     none after haul_stats_table_init.
 * Threads    one writer a block; any thread may read (a figure is never torn; figures of one block
 *            may be a few operations apart). The table itself is guarded by its own lock.
 * Errors     HAUL_EFULL when a table has no room left, -EEXIST for a name already entered.
 * Limits     HAUL_STATS_BLOCKS blocks a table, HAUL_STATS_COUNTERS counters a block.
 * Source     log-linear histogram as in HdrHistogram: 8 linear steps a power of two (≤ 12.5 %). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <haul/api.h>

enum { HAUL_STATS_BLOCKS = 64, HAUL_STATS_COUNTERS = 32, HAUL_HIST_BUCKETS = 496 };

/* Why a batch closed; see haul_gate in batch.h. */
#define HAUL_CLOSE_LIST(X)                                                                         \
	X(HAUL_CLOSE_NONE, "none")         /* stays open */                                        \
	X(HAUL_CLOSE_OPS, "ops")           /* operation limit, or the sizer's target */            \
	X(HAUL_CLOSE_BYTES, "bytes")       /* byte limit */                                        \
	X(HAUL_CLOSE_DEADLINE, "deadline") /* the first operation has waited long enough */        \
	X(HAUL_CLOSE_IDLE, "idle")         /* nothing in flight: waiting buys nothing */           \
	X(HAUL_CLOSE_BARRIER, "barrier")   /* something behind the batch must see it done */       \
	X(HAUL_CLOSE_MANUAL, "manual")     /* the caller said so */

enum haul_close {
#define X(name, text) name,
	HAUL_CLOSE_LIST(X)
#undef X
		HAUL_CLOSE_REASONS
};

HAUL_API const char *haul_close_name(enum haul_close reason);

struct haul_hist {
	uint64_t count;
	uint64_t sum;
	uint64_t max;
	uint64_t bucket[HAUL_HIST_BUCKETS];
};

/* Record n samples of one value. */
HAUL_API void haul_hist_add(struct haul_hist *hist, uint64_t value, uint64_t n);
/* Smallest value that at least quantile (0…1) of all samples do not exceed; 0 when empty. */
HAUL_API uint64_t haul_hist_quantile(const struct haul_hist *hist, double quantile);
HAUL_API double haul_hist_mean(const struct haul_hist *hist);

struct haul_counter {
	const char *name; /* as in "drop_no_route": lower case, no spaces */
	const char *help; /* one sentence */
};

struct haul_stats {
	const char *name; /* set at haul_stats_init, lives as long as the block */
	const struct haul_counter *counters;  /* descriptors of extra[], may be NULL */
	uint32_t counter_count;               /* <= HAUL_STATS_COUNTERS */
	void (*refresh)(struct haul_stats *); /* brings extra[] up to date before a visit, under the
	                                       * table's lock; NULL = it always is (set by init) */
	uint64_t ops;                         /* operations carried */
	uint64_t batches;                     /* batches closed */
	uint64_t bytes;                       /* bytes carried */
	uint64_t syscalls;                    /* system calls made for them */
	uint64_t closed[HAUL_CLOSE_REASONS];  /* why batches closed */
	uint64_t extra[HAUL_STATS_COUNTERS];  /* named by counters[] */
	struct haul_hist fill;                /* operations a batch */
	struct haul_hist wait_ns;             /* first operation queued -> batch closed */
	struct haul_hist service_ns;          /* batch closed -> boundary crossed */
};

HAUL_API void haul_stats_init(struct haul_stats *stats, const char *name,
			      const struct haul_counter *counters, uint32_t counter_count);

/* One closed batch: counts it, its reason and its fill. wait/service are added only when >= 0, so
 * that a hot loop need not read the clock for every batch. */
struct haul_stats_batch {
	uint32_t ops;
	uint32_t syscalls;
	uint64_t bytes;
	enum haul_close reason;
	int64_t wait_ns;
	int64_t service_ns;
};
HAUL_API void haul_stats_batch(struct haul_stats *stats, const struct haul_stats_batch *batch);

/* Add n to extra[index]. */
HAUL_API void haul_stats_count(struct haul_stats *stats, uint32_t index, uint64_t n);

struct haul_stats_table; /* opaque */
HAUL_API int haul_stats_table_open(struct haul_stats_table **ret_table);
HAUL_API void haul_stats_table_close(struct haul_stats_table *table);
/* Enter or remove a block. The block must stay in place between the two. */
HAUL_API int haul_stats_enter(struct haul_stats_table *table, struct haul_stats *stats);
HAUL_API void haul_stats_remove(struct haul_stats_table *table, struct haul_stats *stats);
/* Call visit for each block in the order entered, under the table's lock; a snapshot is passed, not
 * the live block. Returns the number of blocks. */
HAUL_API int haul_stats_visit(struct haul_stats_table *table,
			      void (*visit)(const struct haul_stats *snapshot, void *arg),
			      void *arg);
