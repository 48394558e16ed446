/* disk/shard_state.h — what the files of a shard share. Nobody else includes it.
 *
 * Life of a segment (docs/design/0013): FREE -> OPEN (a lane appends batches) -> SEALED (footer
 * queued) -> RECLAIM (its entries are dropped or copied; copies flushed) -> ERASE (empty, but its
 * old contents would be found after a crash, until its header block is overwritten durably) ->
 * FREE. BAD: quarantined, listed in the root; its good part is still read; never written again.
 *
 * What a crash may not bring back: a row is the newest of its key iff its seq is the highest. A row
 * that supersedes an older copy (a tombstone, or ROW_SUPERSEDES) may leave the disk only when no
 * segment that could still hold that copy is recoverable: none other than itself, in any state but
 * FREE, with born_seq < row.seq. Else reclaim carries a tombstone with the same seq to LANE_MAIN.
 *
 * Order of durability: flush n's sync is pushed when all its writes have finished and flush n - 1
 * is durable. Writes of flush n + 1 may be under way meanwhile (FLUSHES = 2), those of n + 2 not.
 * So after a crash every batch of a flush <= max - FLUSHES is durable and need not be verified; the
 * last FLUSHES are verified whole (all parts, rows, value checksums), and one that fails is dropped
 * together with those after it. A footer is trusted iff its last_flush <= max - FLUSHES; else its
 * segment is walked by batch headers.
 * Recovery never appends behind what it found: it seals every segment that was open with a footer
 * of the good rows (or erases its header when there are none) and syncs, before anything new is
 * written, so that a batch that was dropped can never look proven by later flushes.
 *
 * A flush that fails: a write error moves the batch once to a fresh segment (the old one is
 * quarantined up to what was durable, and the root goes with the same flush). If that fails, or the
 * sync does, every flush under way fails: its rows leave the index, its waiters are told, its
 * segments are quarantined up to what was durable, and the root goes alone before anything else.
 * FAILURES_MAX in a row: offline.
 *
 * Files      see disk/shard_parts.h.
 * Threads    the shard's. */
#pragma once

#include "base/buddy.h"
#include "disk/admit.h"
#include "disk/codec.h"
#include "disk/ghost.h"
#include "disk/index.h"
#include "disk/queue.h"
#include "disk/ram.h"
#include "disk/shard.h"
#include "disk/write_state.h"

enum {
	SEGMENT_ERRORS_MAX = 3, /* damaged reads until a segment is quarantined */
	FAILURES_MAX = 3,       /* failed flushes in a row until the shard is offline */
	FREE_MIN = 2,           /* kept for reclaim's own copies: shard_put says -EAGAIN rather than
				 * take the last; reclaim begins well before */
};

enum segment_state {
	SEGMENT_FREE,
	SEGMENT_OPEN,
	SEGMENT_SEALED,
	SEGMENT_RECLAIM,
	SEGMENT_ERASE,
	SEGMENT_BAD
};

struct segment {
	uint64_t generation;
	uint64_t born_seq;
	uint64_t last_flush; /* durable, that wrote to it; 0 = before the shard was opened */
	uint64_t live_bytes; /* stored bytes the index refers to */
	uint32_t live_entries;
	uint32_t append;     /* where the next batch goes */
	uint32_t durable;    /* values below it are read from the disk, others from chunks */
	uint32_t rows;       /* in all batches */
	uint32_t expiry_max; /* UINT32_MAX: some never expires; 0 = no rows */
	uint32_t readers;    /* transfers under way; reclaim does not erase before 0 */
	uint32_t next;       /* in its lane's list, oldest first; SEGMENT_NONE */
	uint16_t errors;
	bool erasing;         /* the flush that empties it is under way */
	uint8_t state;        /* enum segment_state */
	uint8_t lane;         /* enum lane_id */
	bool sealed_footer;   /* a footer is, or will be, there */
	struct chunk *chunks; /* batches not durable yet, by offset */
};

struct shard {
	struct shard_options options;
	const struct volume *volume;
	const struct format_super *super;
	struct os *os;
	struct queue queue;
	struct index index;
	struct ram ram;
	struct ghost ghost;
	struct admit admit;
	struct codec codec;
	struct buddy buffers; /* of reads */
	struct haul_disk_model model;
	struct format_root root;
	bool root_dirty;      /* goes with the next flush */
	uint32_t root_copies; /* still to be written, so that none lacks a purge or a quarantine */
	uint8_t *root_block;

	uint64_t next_seq;
	uint64_t next_generation;
	uint64_t next_flush;
	uint64_t durable_flush; /* the last that is */
	uint64_t root_proven;   /* flush_proven of the root that is on the disk */

	struct segment *segments; /* super->segments */
	uint32_t free_count, erase_count, bad_count;
	uint32_t free_hint;
	uint32_t erase_first; /* SEGMENT_ERASE ones that no flush empties yet, by next */
	struct lane lanes[LANES];
	struct footer footers[FOOTERS];
	uint32_t footer_rows_max; /* of a segment */
	uint8_t *erase_block;     /* a block of zeros */

	struct chunk *chunks; /* all, chunk_count */
	uint8_t *chunk_arena; /* their data */
	uint64_t chunk_arena_bytes;
	uint32_t chunk_count;
	uint32_t chunk_bytes; /* CHUNK_BYTES or less */
	uint32_t chunk_rows, chunk_key_bytes;
	uint32_t flush_chunks; /* most a flush may carry */
	struct chunk *chunk_free;
	uint32_t chunk_free_count;

	struct gathering gathering;
	struct flush flushes[FLUSHES];
	struct haul_limits limits;
	uint64_t flush_bytes_max; /* bounded by the buffers */
	bool flushing_stopped;    /* read-only or offline */
	bool offline;
	bool failing;      /* a flush failed; what is under way is waited for */
	bool settling;     /* it failed: before anything else, the root says what of it counts */
	int unreported;    /* a buffered store failed, and flush or close has not said so yet */
	uint32_t failures; /* flushes in a row */
	uint64_t lost;     /* flushes, and what was gathered, that failed, ever */
	bool hides; /* entries left the index whose rows are still on the disk (damage, failed
			    * flushes): every row supersedes from now on, every delete is written */

	uint64_t doubled_before; /* rows may be there twice, in segments of a lower generation */

	struct lookups *lookups; /* lookup.c's */
	struct reclaim *reclaim; /* reclaim.c's */

	uint32_t torn;               /* batches that the last recovery dropped */
	struct haul_cache_stat stat; /* counters live here */
	struct haul_stats flush_stats, read_stats;
	char flush_name[32];
};
