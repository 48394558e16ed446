/* disk/write_state.h — what is on its way to the disk: chunks, lanes, footers, flushes. Part of
 * disk/shard_state.h.
 *
 * Model      A lane fills a chunk. A closed chunk is gathered; a flush takes all that was gathered.
 *            See disk/shard_state.h for the order in which flushes become durable.
 * Memory     all at shard_open. Threads: the shard's. */
#pragma once

#include <haul/cache.h>
#include "disk/format.h"
#include "os/io.h"

struct shard;
struct shard_wait;

enum {
	FLUSHES = 2,
	CHUNK_BYTES = 4 << 20, /* a batch is at most that, less in smaller segments */
	CHUNK_ROW_SHARE = 256, /* a row for each so many bytes of a batch, or of a segment … */
	CHUNK_KEY_SHARE = 8,   /* … and a byte of keys */
	FOOTERS = 4,           /* on their way at a time */
};

#define SEGMENT_NONE UINT32_MAX /* more than an enumerator holds */

/* Counters of the block "<name>.flush". X(id, name, help) */
#define FLUSH_COUNTER_LIST(X)                                                                      \
	X(FLUSH_BATCHES, "batches", "batches written, one a lane and flush or more")               \
	X(FLUSH_DEVICE_BYTES, "device_bytes", "bytes written, headers and padding included")       \
	X(FLUSH_WRITES, "writes", "write operations given to the disk")                            \
	X(FLUSH_SYNCS, "syncs", "syncs given to the disk")                                         \
	X(FLUSH_ROOTS, "roots", "roots written")                                                   \
	X(FLUSH_ERASED, "erases", "segments emptied for reuse")                                    \
	X(FLUSH_FOOTERS, "footers", "segments sealed with a footer")                               \
	X(FLUSH_FOOTERS_LOST, "footers_lost", "footers that could not be written")                 \
	X(FLUSH_MOVED, "moved", "batches that moved to a fresh segment after a write failed")      \
	X(FLUSH_FAILED, "failed", "flushes that failed")                                           \
	X(FLUSH_FAILED_ROWS, "failed_rows", "entries lost with them")                              \
	X(FLUSH_QUARANTINED, "quarantined", "segments never written again")                        \
	X(FLUSH_PRESSED, "pressed", "stores told to try again: no buffer or no segment was free")

enum flush_counter {
#define X(id, name, help) id,
	FLUSH_COUNTER_LIST(X)
#undef X
		FLUSH_COUNTERS
};

/* Where a row was copied from by reclaim; unit 0 = it was not. */
struct origin {
	uint32_t segment;
	uint32_t unit;
};

/* A batch that is being filled, or on its way. */
struct chunk {
	struct chunk *next;         /* in its flush, or the free list */
	struct chunk *next_segment; /* in segment.chunks */
	uint8_t *data;              /* the batch, block-aligned; a block for a segment's header lies
				     * in front of it */
	uint32_t segment;
	uint32_t base;  /* offset in the segment of the batch header (behind the header block) */
	uint32_t head;  /* bytes written in front of it: FORMAT_BLOCK with a header block, or 0 */
	uint32_t used;  /* bytes of the batch so far: header, values */
	uint32_t room;  /* largest the batch may become, rows and keys with it */
	uint32_t bytes; /* of the batch when closed, whole blocks */
	uint32_t lane;
	uint32_t row_count;
	uint32_t key_bytes;
	uint32_t users; /* rows of callers, not of reclaim */
	struct format_row *rows;
	struct origin *origins; /* of rows */
	uint8_t *keys;
	bool first_block_free; /* no value lies in the first block */
	uint64_t flush;        /* it is part of; 0 = none yet */
	uint64_t first_seq;
	uint32_t part, parts;
	bool moved;   /* to a fresh segment, once */
	bool failed;  /* a write of it failed */
	bool rewrite; /* it moved, and must be written again */
};

struct lane {
	struct chunk *chunk;       /* being filled; NULL = none */
	uint32_t segment;          /* OPEN one, or SEGMENT_NONE */
	uint32_t first, last;      /* SEALED ones in the order sealed */
	uint32_t count;            /* segments in the lane, open one included */
	struct format_row *footer; /* rows of the open segment */
	uint32_t footer_rows;
};

/* A footer on its way: its own buffer, as it may be large. */
struct footer {
	struct io_op op;
	struct shard *shard;
	uint8_t *data;
	uint32_t bytes; /* of the footer, whole blocks */
	uint32_t rows;
	uint32_t written;
	uint32_t segment;
	bool busy;    /* taken */
	bool started; /* all before it is durable; it is being written */
};

enum flush_state { FLUSH_FREE, FLUSH_WRITE, FLUSH_SYNC };

enum { FLUSH_OPS = 128, FLUSH_CHUNK_OPS = 88, FLUSH_ERASES = 32 };

struct flush {
	struct shard *shard;
	enum flush_state state;
	uint64_t number;
	struct chunk *chunks;
	struct shard_wait *waits;
	uint32_t pending; /* writes under way */
	int error;        /* of root or sync, or of a batch that had moved already */
	uint32_t user_ops, buffered_ops;
	uint64_t user_bytes;
	uint64_t device_bytes;
	int64_t first_ns, closed_ns, sync_ns;
	enum haul_close reason;
	uint32_t op_count;
	struct io_op ops[FLUSH_OPS];   /* writes of <= HAUL_DISK_SPLIT each; the last is the sync */
	uint32_t erased[FLUSH_ERASES]; /* segments */
	uint32_t erased_count;
	bool has_root; /* the root was written with it */
	bool flushed;  /* a caller of shard_flush waits for it, and hears of what fails */
};

/* What the next flush will carry. */
struct gathering {
	uint32_t ops;        /* callers' */
	uint32_t buffered;   /* of ops: nobody waits for */
	uint64_t bytes;      /* callers' stored bytes */
	uint32_t background; /* rows of reclaim */
	uint32_t chunks;     /* in `full` */
	uint64_t first_seq;  /* of the first row that could be in it */
	struct chunk *full;  /* closed chunks, in order */
	struct chunk *full_last;
	struct shard_wait *waits, *waits_last;
	int64_t first_ns;
	int64_t deadline_ns; /* as the gate said, when … */
	uint32_t clock_ops;  /* … there were so many ops, and the clock was read */
	uint32_t polled_ops; /* ops at the last poll */
	bool manual;
	bool timed;   /* first_ns is set */
	bool pressed; /* somebody was told -EAGAIN: make room */
	bool flushed; /* shard_flush was called */
};
