/* disk/disk_state.h — what the files of a haul_disk share. Nobody else includes it.
 *
 * Model      A call is worked off in rounds of at most ROUND requests: checked, planned, and its
 *            transfers carried out in slots, as many at a time as the depth. A transfer that serves
 *            one request whose memory is aligned goes straight to or from it; all others go through
 *            a slot's bounce buffer. disk.c (opening, slots, sync), disk_read.c, disk_write.c,
 *            disk_calibrate.c.
 * Ownership  the disk owns file and io, except when a test put its own below it.
 * Memory     all at open; the bounce buffers are only touched as far as they are used.
 * Threads    one.
 * Errors     as haul/disk.h. */
#pragma once

#include "disk/queue.h"
#include "os/file.h"

enum {
	ROUND = 8192,
	BOUNCE_BYTES = 64 << 20, /* of all slots; at least one buffer */
	DISK_DEPTH = 32,
};

/* X(id, name, help) */
#define DISK_COUNTER_LIST(X)                                                                       \
	X(DISK_TRANSFERS, "transfers", "operations given to the device")                           \
	X(DISK_GAP_BYTES, "gap_bytes", "read though nobody asked for them, to merge reads")        \
	X(DISK_BOUNCED, "bounced", "transfers through a bounce buffer")                            \
	X(DISK_MODIFIED, "modified", "writes that had to read a block first")                      \
	X(DISK_ISOLATED, "isolated", "merged reads that failed and were read one by one")          \
	X(DISK_SYNCS, "syncs", "fdatasync calls")                                                  \
	X(DISK_FAILED, "failed", "requests that failed")

enum disk_counter {
#define X(id, name, help) id,
	DISK_COUNTER_LIST(X)
#undef X
		DISK_COUNTERS
};

struct storm;

struct slot {
	struct io_op op;
	struct haul_disk *disk;
	struct storm *storm; /* disk_calibrate.c's */
	struct slot *next;   /* in the free list */
	uint8_t *bounce;     /* NULL: the op is on the caller's memory */
	uint32_t transfer;   /* of the plan */
	uint32_t only;       /* reads: this entry of the plan's order alone; UINT32_MAX = all */
	uint64_t begin, end; /* the bytes in bounce */
	uint64_t read_at[2], read_end[2]; /* writes: still to be read first */
	uint32_t reads, reads_done;
};

struct haul_disk {
	struct file file;
	struct io *io;
	struct queue queue;
	struct os *os;
	bool borrowed; /* file and io belong to a test */
	bool write;
	uint32_t block; /* alignment of offsets and lengths */
	uint64_t gap_max, split;

	struct slot *slots;
	uint32_t slot_count;
	struct slot *free; /* slots */
	uint8_t *bounce;
	uint64_t bounce_bytes;
	uint8_t **bounce_free;
	uint32_t bounce_count, bounce_left;

	/* Of the round. */
	struct haul_disk_request *requests;
	struct haul_extent *extents; /* of requests; ROUND */
	struct haul_extent *spans;   /* of pieces; 2 * ROUND */
	struct haul_plan plan;
	uint64_t bytes_after; /* size of the file when its writes are done */

	int sync_result;
	struct haul_stats_table *table;
	struct haul_stats reads, writes;
};

/* An error of a transfer is kept in its gap_bytes. */
static inline void transfer_fail(struct haul_transfer *transfer, int error)
{
	transfer->gap_bytes = (uint64_t)(int64_t)error;
}

static inline int transfer_error(const struct haul_transfer *transfer)
{
	int64_t error = (int64_t)transfer->gap_bytes;
	return error < 0 ? (int)error : 0;
}

/* A disk over an io that is the caller's (a simulated one); file.fd may be -1. */
int disk_open_over(struct haul_disk **ret_disk, const struct file *file, struct io *io,
		   const struct haul_disk_options *options, struct haul_err *err);
/* A free slot, with a bounce buffer if wanted; waits for one. */
struct slot *slot_take(struct haul_disk *disk, bool bounce);
void slot_free(struct slot *slot);
/* Queue the slot's op; it starts when somebody waits, or many have gathered. */
void slot_start(struct slot *slot, enum io_kind kind, uint64_t offset, uint8_t *data,
		uint32_t bytes);
/* Fill data as the file has it: what lies behind its end is zero; an odd end is read at once.
 * Returns how many bytes at the start are left for the queue to read, or -errno. */
int64_t disk_tail(struct haul_disk *disk, uint64_t offset, uint8_t *data, uint64_t bytes);
/* Until *under_way, which done() brings down, is below depth. */
void disk_wait_below(struct haul_disk *disk, const uint32_t *under_way, uint32_t depth);
/* Until no slot is in use. */
void disk_drain(struct haul_disk *disk);
/* fdatasync, through the queue. */
int disk_sync(struct haul_disk *disk);
/* How many of the requests make the next round: extents are set, status is 0 or an error. */
uint32_t round_take(struct haul_disk *disk, struct haul_disk_request *requests, uint32_t count,
		    bool write);
