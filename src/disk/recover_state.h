/* disk/recover_state.h — what the files of recovery share. Nobody else includes it.
 *
 * Model      recover.c says what is done in which order, and why. recover_read.c reads many places
 *            side by side; recover_rows.c finds the newest row of each key; recover_walk.c reads
 *            segments without a footer, and decides which of the last flushes are whole;
 *            recover_seal.c closes what was open, and fills the shard's tables.
 * Memory     taken while it runs: about 170 bytes a segment, 32 … 64 bytes a row, and 48 bytes a
 *            row of segments without a footer.
 * Threads    the shard's. */
#pragma once

#include "disk/shard_parts.h"
#include "disk/walk.h"

enum {
	READINGS = 64,        /* places read at a time */
	READING_TRIES = 3,    /* a read that fails is tried again so often */
	WINDOW_BYTES = 131072 /* read at a time by a walk */
};

/* What a segment says of itself. */
struct found {
	struct format_segment header;
	struct format_footer footer;
	uint64_t last_flush; /* of its good batches */
	uint64_t last_seq;
	uint32_t end; /* nothing counts from here on */
	uint32_t append;
	uint32_t rows;
	uint32_t expiry_max;
	bool there;      /* has a header */
	bool rotten;     /* had one */
	bool hides_only; /* its header cannot be read: perhaps it was erased */
	bool has_footer; /* its rows were taken from there */
	bool unreadable; /* the disk gave an error */
	bool closed;     /* written to by this recovery */
	uint64_t twice;  /* a part of this flush was dropped here, for it is whole elsewhere; 0 */
};

/* A batch of a segment that was walked, and its rows. */
struct walked {
	struct format_batch batch;
	uint32_t first_row, row_count; /* in rows */
	bool good;                     /* the table is */
	bool whole;                    /* values too; only of flushes that are in doubt */
	bool dropped;
};

/* The newest of a key so far. */
struct newest {
	uint64_t hash; /* 0 = none */
	uint64_t seq;
	uint64_t where; /* segment 18 | unit 20 | bytes 21 | 5 bits of what it is */
	uint32_t expiry;
	uint32_t check;
};

struct recovery;

/* One place that is read. The slot is used again for the next. */
struct reading {
	struct io_op op;
	struct recovery *recovery;
	uint8_t *data;
	uint32_t room; /* bytes at data */
	uint32_t segment;
	uint32_t bytes, bytes_read;
	uint64_t offset;
	uint32_t tries; /* that failed */
	int error;
	bool busy;
};

/* What to read, and what to do with it. */
struct reader {
	/* Set offset, bytes and segment of the next place; false = no more. */
	bool (*next)(struct recovery *recovery, struct reading *reading);
	/* data holds bytes, or error says why not. Returns 0 or -ENOMEM. */
	int (*take)(struct recovery *recovery, const struct reading *reading);
};

struct recovery {
	struct shard *shard;
	struct found *found; /* by segment */
	uint32_t next;       /* segment to be read, of the reader that runs */
	struct reading readings[READINGS];
	const struct reader *reader;
	uint32_t under_way;
	int rc; /* -ENOMEM, or -ENODEV when the disk has stopped: ends it */

	struct newest *newest;
	uint64_t newest_slots, newest_count;
	uint32_t newest_shift;

	struct walked *walked;
	uint32_t walked_count, walked_max;
	struct format_row *rows; /* of walked */
	uint32_t row_count, row_max;
	struct reading window; /* what a walk looks at, and batches that are verified */

	uint64_t last_flush;   /* highest number seen anywhere */
	uint64_t proven_flush; /* all up to it are whole */
	uint64_t last_seq, last_generation;
	uint32_t now_s;
	uint32_t unreadable, torn; /* segments; batches dropped */
	bool doubled;              /* a row was found twice */
	bool unsafe;               /* what was decided could not be written */
};

/* ---- recover_read.c ---- */
int reading_alloc(struct reading *reading, uint32_t bytes);
void reading_free(struct reading *reading);
/* Everything the reader names, READINGS at a time; waits. 0 or -ENOMEM. */
int recover_read(struct recovery *recovery, const struct reader *reader);
/* One place, at offset of the segment; waits. 0, recovery->rc when that is set, or the disk's
 * error. */
int recover_read_one(struct recovery *recovery, struct reading *reading, uint32_t segment,
		     uint32_t offset, uint32_t bytes);
/* Write (or sync), and wait. */
int recover_write_one(struct recovery *recovery, uint64_t offset, uint8_t *data, uint32_t bytes);
int recover_sync(struct recovery *recovery);

/* ---- recover_rows.c ---- */
/* Room for so many more keys. */
int newest_alloc(struct recovery *recovery, uint64_t more);
void newest_prefetch(const struct recovery *recovery, uint64_t hash);
void newest_add(struct recovery *recovery, const struct format_row *row, uint32_t segment);
/* What is live goes into the index, and into its segments' figures. */
int newest_enter_alloc(struct recovery *recovery);

/* ---- recover_walk.c ---- */
/* Read the batches of a segment that has no good footer. 0 or -ENOMEM. */
int recover_walk(struct recovery *recovery, uint32_t segment);
/* Verify what is in doubt; drop what is not whole. 0 or -ENOMEM. */
int recover_judge(struct recovery *recovery);
int recover_walked_rows(struct recovery *recovery);

/* ---- recover_seal.c ---- */
/* The disk says now what recovery decided. 0 or -ENOMEM. */
int recover_seal(struct recovery *recovery);
int recover_segments_alloc(struct recovery *recovery);
