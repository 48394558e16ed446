/* haul/cache.h — a cache on a raw disk: a log that is written and read in batches.
 *
 * Model      Entries (key, value, expiry, 32 bits of flags) are appended to segments of a file or
 *            block device. A flush carries many entries across in a few large writes and one
 *            fdatasync; it survives a crash whole or not at all. haul_cache_store returns when the
 *            entry is durable, haul_cache_store_buffered when it has been copied: it is durable
 *            after the next flush (by operations, bytes, deadline, or haul_cache_flush). Reads see
 *            what was stored, buffered or not. Opening restores every durable entry without
 *            reading the values. When the disk is full the oldest segments make room; what was
 *            read since it was written is written again (S3-FIFO), or, with HAUL_CACHE_LRU, what
 *            was used least recently leaves first, in strict order.
 *            A value over slice_bytes is an object: slices under one head, kept together, read by
 *            range, deleted as one; the head is written last, so it is all there or not there.
 * Units      bytes; expiry in seconds since 1970, 0 = never; _ns nanoseconds.
 * Ownership  keys and values of stores are copied before the call returns. A value given to a
 *            visitor is good until the visitor returns.
 * Memory     at open: index (at most 32 bytes an entry; with HAUL_CACHE_LRU 10 more for its
 *            order), write buffers, read buffers, RAM tier, and 17 MiB for lookups of many keys,
 *            touched as they are used. haul_cache_lookup_batch takes the length of the longest
 *            object it gives whole, as long as it runs.
 * Threads    any thread may call anything at the same time, but open and close. Each partition is
 *            locked while an operation is put in, not while the disk works: stores of many threads
 *            share a flush, their lookups overlap. Who waits drives the disk, so a lone caller
 *            never switches threads. One thread of the cache's own sleeps until something is left
 *            behind that nobody waits for, and flushes it by its deadline.
 * Errors     all that take a key: -EINVAL (it is empty), HAUL_ELIMIT (too long); in a lookup of
 *            many such a key is a miss. store: HAUL_ELIMIT (value too long), HAUL_EFULL (pinned
 *            quota, or no segment is left that can be written), HAUL_EADMIT (over the write
 *            budget), -EIO, -ENOSPC … (why its flush failed; the entry is not there), -ENODEV (the
 *            device is offline: see haul_cache_online), -EROFS (opened read only). Lookups never
 *            fail as a whole: each key has its status; a value that cannot be read or does not
 *            verify is never given.
 * Blocking   store and flush wait for the disk; store_buffered only when all buffers are full.
 * Limits     HAUL_CACHE_KEY_MAX, HAUL_CACHE_OBJECT_MAX bytes.
 * Source     docs/design/0012 (format), 0013 (life of a segment). */
#pragma once

#include <haul/batch.h>
#include <haul/disk.h>

enum {
	HAUL_CACHE_KEY_MAX = 512,
	HAUL_CACHE_SLICE_MAX = 1 << 20, /* largest value that is one entry */
	HAUL_CACHE_OBJECT_MAX = 1 << 30,
};

/* X(id, name) */
#define HAUL_CACHE_STATUS_LIST(X)                                                                  \
	X(HAUL_CACHE_HIT, "hit")                                                                   \
	X(HAUL_CACHE_MISS, "miss")                                                                 \
	X(HAUL_CACHE_EXPIRED, "expired")   /* was there, its time is over */                       \
	X(HAUL_CACHE_CORRUPT, "corrupt")   /* was there, but what was read does not verify */      \
	X(HAUL_CACHE_FAILED, "unreadable") /* was there, but the disk gave an error */

enum haul_cache_status {
#define X(id, name) id,
	HAUL_CACHE_STATUS_LIST(X)
#undef X
		HAUL_CACHE_STATUSES
};
HAUL_API const char *haul_cache_status_name(enum haul_cache_status status);

/* ---- making one ---- */

struct haul_cache_format {
	uint64_t bytes;         /* of the file; 0 = all of a device, or the file's size */
	uint32_t partitions;    /* 0 = one a CPU, at most 16: threads that can work at a time */
	uint32_t segment_bytes; /* power of two, 64 KiB … 64 MiB; 0 = chosen by size (16 MiB) */
	uint64_t entries_max;   /* of the whole cache: 24 … 30 bytes of RAM each; 0 = by size */
	bool force;             /* destroy what is there */
	int (*progress)(uint64_t bytes_done, uint64_t bytes_total, void *arg); /* 0 = go on */
	void *arg;
};
/* -EEXIST when path holds anything (err says what: a file system, a cache, data), unless force.
 * Writes all of a file once, so that no later write changes its extents; measures the disk. */
HAUL_API int haul_cache_format(const char *path, const struct haul_cache_format *options,
			       struct haul_err *err);

/* ---- using it ---- */

enum haul_cache_policy { HAUL_CACHE_S3FIFO, HAUL_CACHE_LRU };

struct haul_cache_options {
	struct haul_limits limits; /* of a flush; all 0 = 32 operations, 4 MiB, 1 ms */
	bool fixed;                /* keep to limits.ops_max; else batches grow with the measured
				     * cost of a sync, up to the buffers */
	uint64_t buffer_bytes;     /* write buffers of all partitions; 0 = 24 MiB each */
	uint64_t read_bytes;       /* read buffers of all partitions; 0 = 16 MiB each */
	uint64_t ram_bytes;        /* RAM tier of all partitions; 0 = none */
	enum haul_cache_policy policy;
	uint64_t write_budget;          /* bytes a second, 0 = none */
	uint32_t pinned_percent;        /* of all segments; 0 = 25 */
	const char *codec;              /* "none", "lz4", "zstd"; NULL = none */
	uint32_t slice_bytes;           /* of objects; 0 = 256 KiB, at most HAUL_CACHE_SLICE_MAX */
	const char *engine;             /* "auto", "io_uring", "threads"; NULL = auto */
	int64_t sync_add_ns;            /* as in haul/disk.h */
	struct haul_stats_table *stats; /* may be NULL */
	bool read_only;                 /* look, change nothing */
};

struct haul_cache; /* opaque */

HAUL_API int haul_cache_open(struct haul_cache **ret_cache, const char *path,
			     const struct haul_cache_options *options, struct haul_err *err);
/* Flushes. Returns what the flush said; the cache is closed in any case. NULL is allowed. */
HAUL_API int haul_cache_close(struct haul_cache *cache);

struct haul_cache_key {
	const void *data;
	uint32_t bytes;
};

enum {
	HAUL_CACHE_PINNED = 1,  /* stays until it expires or is deleted */
	HAUL_CACHE_ADD = 2,     /* only if there is none: -EEXIST */
	HAUL_CACHE_REPLACE = 4, /* only if there is one: -ENOENT */
	HAUL_CACHE_COMPARE = 8, /* only if its version is still `version`: HAUL_ESTALE, -ENOENT */
};

struct haul_cache_item {
	struct haul_cache_key key;
	const void *value;
	uint64_t bytes;
	uint32_t expiry;
	uint32_t flags;   /* the caller's own, kept with the value */
	uint32_t how;     /* HAUL_CACHE_PINNED … */
	uint64_t version; /* COMPARE */
};

HAUL_API int haul_cache_store(struct haul_cache *cache, const struct haul_cache_item *item);
HAUL_API int haul_cache_store_buffered(struct haul_cache *cache,
				       const struct haul_cache_item *item);
/* All items, one flush a partition, durable; status[i] for each. Returns how many were stored. */
HAUL_API int haul_cache_store_batch(struct haul_cache *cache, const struct haul_cache_item *items,
				    uint32_t count, int *ret_status);
/* Everything stored or deleted before is durable, or the error says that some is not: also of
 * buffered stores whose flush failed earlier, once. */
HAUL_API int haul_cache_flush(struct haul_cache *cache);
/* 0 or -ENOENT; durable when it returns: a deleted entry never comes back, nor does one that was
 * not there because it had been evicted. */
HAUL_API int haul_cache_delete(struct haul_cache *cache, const struct haul_cache_key *key);
/* Everything stored until now is gone, durable. */
HAUL_API int haul_cache_purge(struct haul_cache *cache);

struct haul_cache_value {
	enum haul_cache_status status;
	const void *data;
	uint64_t bytes; /* of data */
	uint64_t total; /* of the object, where data is a range of it; else bytes */
	uint32_t flags;
	uint32_t expiry;
	uint64_t version; /* changes with every store of the key ("cas") */
};

/* Called once a key, in the order asked. Other than 0 stops, and is returned. No lock is held: it
 * may call anything but haul_cache_lookup_batch. An object is given whole up to 64 MiB; a longer
 * one is a hit with data NULL and bytes 0, to be read by ranges. */
typedef int haul_cache_visit(uint32_t index, const struct haul_cache_value *value, void *arg);

/* Any number of keys, duplicates allowed. Returns how many were hits. */
HAUL_API int haul_cache_lookup_batch(struct haul_cache *cache, const struct haul_cache_key *keys,
				     uint32_t count, haul_cache_visit *visit, void *arg);
/* One key into the caller's buffer; value may be NULL. 0; -ENOENT (miss, expired); HAUL_ECORRUPT,
 * -EIO; HAUL_ELONG: longer than max, *ret_value says how long, data holds the start. */
HAUL_API int haul_cache_get(struct haul_cache *cache, const struct haul_cache_key *key, void *data,
			    uint64_t max, struct haul_cache_value *ret_value);
struct haul_cache_range {
	uint64_t offset, bytes;
};
/* Bytes offset … offset + bytes - 1 of a value (only the slices needed are read); fewer at its
 * end. data has room for all of them. */
HAUL_API int haul_cache_get_range(struct haul_cache *cache, const struct haul_cache_key *key,
				  const struct haul_cache_range *range, void *data,
				  struct haul_cache_value *ret_value);

/* ---- watching it ---- */

struct haul_cache_stat {
	uint64_t entries, entries_max;
	uint64_t stored_bytes; /* of live values */
	uint64_t disk_bytes;   /* of all segments */
	uint64_t index_bytes, ram_bytes, buffer_bytes;
	uint64_t pending_writes; /* operations in the write buffer */
	uint64_t buffered_bytes;
	uint64_t segments, segments_free, segments_bad, segments_pinned;
	uint64_t lookups, hits, ram_hits, misses, expired, corrupt, unreadable;
	uint64_t incomplete; /* objects of which a slice was gone: told as a miss */
	uint64_t read_ops, read_bytes, read_gap_bytes, read_keys; /* keys that went to the disk */
	uint64_t stores, deletes, refused, failed;
	uint64_t flushes, flush_ops, flush_bytes; /* user operations and bytes in them */
	uint64_t device_bytes; /* written in all: / flush_bytes = amplification */
	uint64_t syncs;
	uint64_t evicted, reinserted, reclaimed_segments;
	uint64_t closed[HAUL_CLOSE_REASONS];
	struct haul_disk_model model;
	uint64_t batch_bytes_target, gap_target;
	uint32_t partitions, offline; /* partitions that are offline */
	const char *engine;
};
HAUL_API void haul_cache_stat(struct haul_cache *cache, struct haul_cache_stat *ret_stat);
/* Take a device that went offline into use again: recovers as an open does. Of buffered stores that
 * were lost the next flush tells. */
HAUL_API int haul_cache_online(struct haul_cache *cache, struct haul_err *err);

/* One entry as it is on the disk. */
struct haul_cache_listed {
	const char *key; /* bytes, not terminated */
	uint32_t key_bytes;
	uint64_t value_bytes; /* stored: after compression */
	uint32_t expiry;
	uint32_t slice; /* 0 = whole, or head of an object */
	uint32_t partition, segment, offset;
	enum haul_cache_status status; /* HIT = verified */
};

struct haul_cache_check {
	bool repair; /* drop what is broken, durable; else only look */
	/* each entry that is not HIT, or with all also those; may be NULL; not 0 stops */
	int (*entry)(const struct haul_cache_listed *entry, void *arg);
	bool all;
	int (*progress)(uint64_t bytes_done, uint64_t bytes_total, void *arg);
	void *arg;
};
struct haul_cache_checked {
	uint64_t entries, bytes; /* live ones */
	uint64_t damaged;        /* live entries that do not verify or cannot be read */
	uint64_t structures;     /* damaged superblocks, roots, headers, footers */
	uint64_t repaired;
	uint64_t torn;             /* batches of a last, unfinished flush: no damage */
	char first[HAUL_ERR_TEXT]; /* the first damage, in words */
};
/* Reads everything that is live. The cache must not be open. 0, also when damage was found. */
HAUL_API int haul_cache_check(const char *path, const struct haul_cache_check *options,
			      struct haul_cache_checked *ret_checked, struct haul_err *err);
