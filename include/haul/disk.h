/* haul/disk.h — blocks of a file or device, read and written in batches.
 *
 * Model      haul_plan_reads and haul_plan_writes turn a list of (offset, bytes) into the few
 *            transfers that serve it: sorted, merged where they touch or overlap, split at
 *            bytes_max. Reads may also bridge a gap, if reading it costs less than another
 *            operation; a write never touches a byte it was not given, and of overlapping writes
 *            the last in the list wins. A haul_disk carries a plan out with io_uring (or threads)
 *            at a depth, and gives each request its own result. haul_disk_model is what a device
 *            costs, measured, and what follows from it: batch size and gap.
 * Units      bytes; nanoseconds; bytes and operations a second.
 * Ownership  requests and results are the caller's; data of a write is borrowed until the call
 *            returns.
 * Memory     planners: none, they write into the caller's arrays. haul_disk: all at open.
 * Threads    planners are pure. One thread at a time a haul_disk.
 * Errors     planners: HAUL_EFULL when `plan` has too little room (as many transfers as requests or
 *            pieces, and one more for each bytes_max of them, rounded out to align, are enough),
 *            -EINVAL for offset + bytes over 2^63. haul_disk: every request has its own status; the
 *            call returns how many were good.
 * Limits     HAUL_DISK_BATCH_MAX requests a call; offsets below 2^63.
 * Source     the gap pays iff gap / bandwidth < 1 / IOPS. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <haul/api.h>
#include <haul/err.h>
#include <haul/stats.h>

enum {
	HAUL_DISK_GAP_MAX = 65536, /* no gap above it is ever bridged */
	HAUL_DISK_SPLIT = 1048576, /* default largest transfer */
	HAUL_DISK_BATCH_MAX = 1 << 20,
};

struct haul_extent {
	uint64_t offset;
	uint64_t bytes; /* 0 = nothing: is in no transfer */
};

/* One transfer; they come sorted, and none overlap. Requests first … first + count - 1 of `order`
 * lie in it, wholly or (after a split) in part; a request that was split is listed by every
 * transfer it has bytes in. A request is split only if it is over bytes_max, or overlaps another
 * that is not the same (both rounded out to align). Where a long request overlaps others, some that
 * are listed may have no byte in the transfer; the first has. */
struct haul_transfer {
	uint64_t offset;
	uint64_t bytes;
	uint32_t first; /* index into order */
	uint32_t count;
	uint64_t gap_bytes; /* of bytes: bridged, nobody asked for them (rounding not counted) */
};

struct haul_plan_limits {
	uint64_t gap_max;   /* reads: bridge gaps up to it, at most HAUL_DISK_GAP_MAX */
	uint64_t bytes_max; /* split longer transfers; >= align */
	uint32_t align; /* power of two: transfers of reads begin and end at multiples of it, those
			     * of writes are only split there */
};

/* A piece of a request that is to be written; pieces come sorted by offset, none overlap. */
struct haul_piece {
	uint64_t offset;
	uint64_t bytes;
	uint32_t request;      /* which request's data */
	uint64_t request_skip; /* from where in its data */
};

/* The caller's arrays. order has room for count indices; it receives the requests sorted by
 * offset, those without bytes last. */
struct haul_plan {
	uint32_t *order;
	struct haul_transfer *transfers;
	struct haul_piece *pieces; /* writes only */
	uint32_t transfers_max;
	uint32_t pieces_max;
	uint32_t transfer_count; /* result */
	uint32_t piece_count;    /* result, of writes */
};

HAUL_API int haul_plan_reads(const struct haul_extent *requests, uint32_t count,
			     const struct haul_plan_limits *limits, struct haul_plan *plan);
/* Resolve overlaps (the later request wins): at most 2 * count - 1 pieces. Pieces that touch form
 * one transfer: transfers[].first and .count index `pieces`; order is scratch. */
HAUL_API int haul_plan_writes(const struct haul_extent *requests, uint32_t count,
			      const struct haul_plan_limits *limits, struct haul_plan *plan);

/* What a device costs. */
struct haul_disk_model {
	double sync_ns;         /* one sync of little data */
	double write_bandwidth; /* bytes a second, large writes */
	double read_bandwidth;  /* bytes a second, large reads */
	double read_iops;       /* 4 KiB reads a second at depth 32 */
	double read_ns;         /* one 4 KiB read alone */
};

/* The gap worth bridging: read_bandwidth / read_iops, at most HAUL_DISK_GAP_MAX, in whole 512s. */
HAUL_API uint64_t haul_disk_model_gap(const struct haul_disk_model *model);
/* Bytes a batch needs so that its sync takes at most `share` (0…1) of its time. */
HAUL_API uint64_t haul_disk_model_batch(const struct haul_disk_model *model, double share);
/* Refine by something measured while running; slow drift, outliers are bounded (factor 4). */
HAUL_API void haul_disk_model_saw_sync(struct haul_disk_model *model, double ns);
HAUL_API void haul_disk_model_saw_write(struct haul_disk_model *model, uint64_t bytes, double ns);
HAUL_API void haul_disk_model_saw_reads(struct haul_disk_model *model, uint32_t operations,
					uint64_t bytes, double ns);

struct haul_disk; /* opaque */

struct haul_disk_options {
	const char *engine;  /* "auto", "io_uring", "threads"; NULL = auto */
	uint32_t depth;      /* operations at a time; 0 = 32 */
	uint64_t gap_max;    /* 0 = HAUL_DISK_GAP_MAX */
	uint64_t split;      /* 0 = HAUL_DISK_SPLIT */
	bool write;          /* else read only */
	bool create;         /* make the file if there is none */
	int64_t sync_add_ns; /* each sync takes so much longer (to compare with slower disks) */
	struct haul_stats_table *stats; /* may be NULL */
};

HAUL_API int haul_disk_open(struct haul_disk **ret_disk, const char *path,
			    const struct haul_disk_options *options, struct haul_err *err);
HAUL_API void haul_disk_close(struct haul_disk *disk);

struct haul_disk_request {
	uint64_t offset;
	void *data; /* any alignment: what is not aligned goes through a bounce buffer */
	uint32_t bytes;
	int32_t status; /* result: 0, HAUL_ESHORT (behind the end), or -errno */
};
/* Every request, in whatever order is best, each with its status. Return how many have status 0. */
HAUL_API int haul_disk_read_batch(struct haul_disk *disk, struct haul_disk_request *requests,
				  uint32_t count);
/* Aligned transfers go as they are; a first or last block that is not filled is read, changed and
 * written back, once a transfer. sync: one fdatasync behind all of them, also behind none; if it
 * fails, every request has its error, and with none it is what is returned. */
HAUL_API int haul_disk_write_batch(struct haul_disk *disk, struct haul_disk_request *requests,
				   uint32_t count, bool sync);
HAUL_API uint64_t haul_disk_bytes(const struct haul_disk *disk);
/* Measure: writes to [offset, offset + bytes), what was there is lost; at least 32 MiB; takes about
 * a second. */
HAUL_API int haul_disk_calibrate(struct haul_disk *disk, uint64_t offset, uint64_t bytes,
				 struct haul_disk_model *ret_model, struct haul_err *err);
