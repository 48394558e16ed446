/* disk/check.h — verifying all of a cache. Shared by the check_*.c; the public
 * entry is haul_cache_check.
 *
 * Model      Superblocks, roots and segment headers are looked at one by one. Then each partition
 *            is opened as a cache would open it: what recovery puts into the index is what lives.
 *            Each segment in use is read whole, its batches are walked, and every row that the
 *            index points to is verified with the key that stands on the disk. What the index
 *            points to and no batch tells of is damaged, its key unknown.
 * Memory     one segment, and a byte for each of its blocks; the partition's index.
 * Threads    one.
 * Errors     only what makes looking impossible: -ENOMEM, -ENODEV. Damage is a result. */
#pragma once

#include "disk/shard_parts.h"
#include "disk/walk.h"

enum { CHECK_OPS = 64 };

/* Of a block of the segment that is looked at. */
enum {
	CHECK_UNREADABLE = 1,
	CHECK_TOLD = 2 /* belongs to a batch whose table is good */
};

/* A damaged entry, to be deleted: its key, or its hash if the key is not known. */
struct check_bad {
	uint64_t hash;
	uint32_t slice;
	uint32_t key_bytes; /* as stored; 0 = not known */
	uint64_t key_at;    /* in keys */
};

struct check {
	const struct volume *volume;
	const struct format_super *super;
	const struct haul_cache_check *options;
	struct haul_cache_checked result;
	struct queue queue;
	struct shard *shard; /* the partition's that is looked at */
	uint32_t partition;
	uint64_t bytes_done, bytes_total;

	struct format_root root; /* the newer, of the partition */
	uint8_t *image;          /* of one segment */
	uint8_t *blocks;         /* CHECK_…, of each of its blocks */
	struct io_op ops[CHECK_OPS];
	uint32_t pending; /* operations under way */

	struct check_bad *bad; /* of this partition */
	uint64_t bad_count, bad_room;
	uint8_t *keys;
	uint64_t key_bytes, key_room;
};

/* All of it: volume is open, for writing if options->repair. 0, what a callback returned, or the
 * error that ended it. */
int check_volume(const struct volume *volume, struct io *io, const struct haul_cache_check *options,
		 struct haul_cache_checked *ret_checked, struct haul_err *err);

/* ---- check_read.c ---- */
int check_read(struct check *check, uint64_t offset, uint32_t bytes, uint8_t *data);
int check_write(struct check *check, uint64_t offset, uint32_t bytes, uint8_t *data);
int check_sync(struct check *check);
/* Start one of the ops; check_wait waits for all that were started. */
void check_start(struct check *check, struct io_op *op);
void check_wait(struct check *check);
/* All of a segment into image, in transfers of HAUL_DISK_SPLIT side by side; blocks that cannot be
 * read are marked. */
int check_read_segment(struct check *check, uint32_t segment);

/* ---- check_places.c ---- */
/* Both superblocks; all roots; headers of a partition's segments. What is damaged is counted, and
 * put right if options->repair. 0, or -ENODEV. */
int check_supers(struct check *check);
int check_roots(struct check *check);
int check_headers(struct check *check);

/* ---- check_segment.c ---- */
/* Remember the first damage in words. */
void check_damage(struct check *check, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* The image, against the index. 0, what a callback returned, or -ENOMEM. */
int check_segment(struct check *check, uint32_t segment);

/* ---- check_repair.c ---- */
/* Remember a damaged entry; key as stored, NULL = not known. 0 or -ENOMEM. */
int check_bad_alloc(struct check *check, const struct format_row *row, const uint8_t *key);
/* Delete all that were remembered, durable. 0 or -errno. */
int check_repair(struct check *check);
