/* rpc/wire_status.h — the figures of a served store on the wire: what a query STATUS is answered.
 *
 * Model      Behind the head of a RESULT whose `result` is a number of blocks: a struct
 *            wire_status, its levels, then so many blocks of the server's statistics. Everything
 *            says how long it is, and later versions add at the end: who reads takes what it knows
 *            and passes over the rest; what was not sent is 0.
 *            A block is a struct wire_block; numbers of 8 bytes: why batches closed (in the order
 *            of enum haul_close), then its counters; three histograms (fill, wait_ns, service_ns),
 *            each a struct wire_hist and those of its buckets that are not empty; names, each with
 *            a 0 byte behind it: that of the block, then those of its counters.
 * Units      bytes; little-endian; _ns nanoseconds.
 * Threads    pure.
 * Errors     wire_status_get…: HAUL_ECORRUPT; nothing is read behind the frame, and no name has
 *            what a terminal would not show as it is.
 * Limits     HAUL_STATS_BLOCKS blocks of WIRE_BLOCK_MAX bytes are far less than WIRE_RESULT_MAX.
 * Source     docs/design/0018. */
#pragma once

#include <haul/store.h>
#include "rpc/store_wire.h"

/* X(name): the figures of struct haul_store_status that are uint64_t, in their order here:
 * new ones come last */
#define WIRE_STATUS_LIST(X)                                                                        \
	X(op_last)                                                                                 \
	X(op_checkpoint)                                                                           \
	X(log_bytes)                                                                               \
	X(memtable_bytes)                                                                          \
	X(memory_bytes)                                                                            \
	X(debt_bytes)                                                                              \
	X(bytes_logged)                                                                            \
	X(bytes_flushed)                                                                           \
	X(bytes_merged)                                                                            \
	X(flushes)                                                                                 \
	X(merges)                                                                                  \
	X(checkpoints)                                                                             \
	X(throttle_ns)                                                                             \
	X(throttle_max_ns)                                                                         \
	X(filter_bytes)                                                                            \
	X(tables_unfiltered)

struct wire_status {
	uint32_t bytes; /* of this head */
	uint16_t level_count;
	uint16_t level_bytes; /* of each: runs, tables, rows, bytes */
	uint8_t uuid[16];
	int64_t sync_ns;
	double arrivals_per_s;
#define X(name) uint64_t name;
	WIRE_STATUS_LIST(X)
#undef X
};
struct wire_block {
	uint32_t bytes; /* of all of the block, filled up to 8 */
	uint16_t closed, counters;
	uint64_t ops, batches, carried, syscalls;
};
struct wire_hist {
	uint64_t count, sum, max;
	uint32_t buckets;
	uint32_t reserved; /* 0 */
};
struct wire_bucket {
	uint32_t index;
	uint32_t reserved; /* 0 */
	uint64_t count;
};
static_assert(sizeof(struct wire_status) == 168 && sizeof(struct wire_block) == 40 &&
		      sizeof(struct wire_hist) == 32 && sizeof(struct wire_bucket) == 16,
	      "no holes on the wire");

enum {
	WIRE_NAME_MAX = 63, /* bytes of a name, what is behind is cut off */
	WIRE_STATUS_HISTS = 3,
	WIRE_BLOCK_MAX = sizeof(struct wire_block) +
			 8 * (HAUL_CLOSE_REASONS + HAUL_STATS_COUNTERS) +
			 WIRE_STATUS_HISTS * (sizeof(struct wire_hist) +
					      HAUL_HIST_BUCKETS * sizeof(struct wire_bucket)) +
			 (HAUL_STATS_COUNTERS + 1) * (WIRE_NAME_MAX + 1),
};

/* There has to be room for it: see Limits. */
void wire_status_put(struct wire_page *page, const struct haul_store_status *status);
void wire_status_put_block(struct wire_page *page, const struct haul_stats *stats);

int wire_status_get(struct wire_reading *page, struct haul_store_status *ret_status);
/* Names point into the frame. */
struct wire_status_block {
	struct haul_stats stats;
	struct haul_counter counters[HAUL_STATS_COUNTERS];
};
/* The next one. block: undefined with an error. */
int wire_status_get_block(struct wire_reading *page, struct wire_status_block *block);
