/* disk/reclaim_state.h — what the files of reclaim share. Nobody else includes it.
 *
 * Model      reclaim.c says what reclaim does and why it is safe. reclaim_pick.c chooses segments;
 *            reclaim_scan.c reads one at a time and decides about its rows; reclaim_copy.c fetches
 *            the values that stay, and appends them.
 * Memory     all at reclaim_open: a window of values, a table of rows, and 8 bytes a row that is
 *            to leave, for each segment that is being emptied.
 * Threads    the shard's. */
#pragma once

#include "disk/shard_parts.h"
#include "disk/walk.h"

enum {
	VICTIMS = 8,            /* segments being emptied at a time */
	WINDOW_BYTES = 2 << 20, /* values, or a footer, read at a time */
	WINDOW_ROWS = 256,
	READS = 64,         /* under way at a time */
	ROWS_A_POLL = 2048, /* looked at in a turn */
	FREQS = INDEX_FREQ_MAX + 1,
	ROW_COST = 192, /* bytes an entry takes beside its value: rows in batch and footer, key */
};

enum victim_state {
	VICTIM_NONE,
	VICTIM_AGAIN, /* what replaced its rows was lost: waits for the scanner */
	VICTIM_SCAN,  /* rows are being looked at */
	VICTIM_FLUSH, /* what replaces them is not durable yet */
	VICTIM_ERASE, /* the flush that overwrites its header is due, or under way */
	VICTIM_ROOT,  /* quarantined: the root that says that nothing in it counts is not durable */
	VICTIM_DRAIN  /* empty after a crash; entries leave, readers finish */
};

struct victim {
	enum victim_state state;
	uint32_t segment;
	uint64_t generation; /* of the segment: another one means that recovery took it away */
	uint64_t flush;      /* FLUSH, ROOT: durable when this one is */
	uint64_t lost;       /* shard->lost when the scan began: if it rose, scan again */
	uint64_t *hashes;    /* of entries that leave with the segment */
	uint32_t hash_count;
	uint32_t attempts;
	bool keep_all; /* what is live moves, nothing is evicted */
	bool bad;      /* quarantined: it is not erased, the root says that nothing in it counts */
};

enum scan_step {
	SCAN_NONE,
	SCAN_FOOTER, /* being read */
	SCAN_COUNT,  /* footer rows: what is hot? */
	SCAN_DROP,   /* footer rows: nothing stays, all leave */
	SCAN_BATCH,  /* a batch's first block is being read */
	SCAN_TABLE,  /* its table is being read */
	SCAN_ROWS,
	SCAN_VALUES, /* values are being read */
	SCAN_COPY,
	SCAN_FOOTER_AGAIN, /* being read: not all rows were found in the batches */
	SCAN_REST          /* footer rows: what they hide goes on being hidden */
};

/* A row whose value stays. */
struct want {
	struct format_row row;
	const uint8_t *key; /* as stored, in the table */
	uint32_t at;        /* of the value in the window */
};

struct scan {
	enum scan_step step;
	struct victim *victim;
	struct walk walk;
	struct format_batch batch;
	struct walk_rows rows;
	struct format_row row; /* the one that waits for room: `held` */
	const uint8_t *key;
	bool held;
	uint8_t verdict;
	uint64_t horizon;          /* a row with a seq from it on may hide an older one */
	bool doubled;              /* a copied or carried row may hide its original */
	uint64_t hot_bytes[FREQS]; /* of live rows, by reads */
	uint8_t freq_min;          /* only what was read so often stays … */
	uint64_t freq_left;        /* … and of those read just so often, so many bytes */
	uint64_t copy_left;        /* bytes */
	uint64_t gap;              /* bridged by reads */
	uint32_t rows_left;        /* of the segment's, not seen yet */
	uint32_t now_s;
	bool rest;            /* the footer was asked for rows that the batches do not tell */
	bool stays;           /* a row was seen that must be copied or carried */
	bool pinned;          /* nothing live may leave */
	uint64_t carried_max; /* seq */
	uint32_t carried_rows;
	uint32_t want_count, copied; /* of wants */
};

struct reclaim {
	struct shard *shard;
	struct victim victims[VICTIMS];
	struct scan scan;
	struct want wants[WINDOW_ROWS];
	struct haul_extent extents[WINDOW_ROWS];
	uint32_t order[WINDOW_ROWS];
	struct haul_transfer transfers[READS];
	struct io_op ops[READS];
	uint32_t reads;       /* under way */
	uint32_t reads_again; /* of this lot, after an error */
	int read_error;       /* the first; of a window, each want has its own */
	uint8_t *window;
	uint64_t window_bytes;
	uint8_t *table; /* rows and keys of a batch */
	uint32_t table_bytes;
	uint32_t hashes_max;
	uint32_t pinned_max; /* segments */
	uint32_t low;        /* FREE segments below which room is made */
	uint64_t budget;     /* bytes that may be copied */
	uint64_t barren;     /* tombstones with a seq up to it were needed when last looked at */
	uint64_t carried;    /* bytes of tombstones carried since the oldest segment went */
	uint32_t look_next;  /* segment where the look for expired and dead ones goes on */
	uint32_t look_s;     /* when it began anew */
	uint32_t stuck;      /* victims given back since one was emptied */
	uint32_t picks;      /* segments chosen for room */
	uint64_t trim_left;  /* LRU: bytes that leave beyond what is over the capacity */
};

/* ---- reclaim.c ---- */
/* The victim's rows were all looked at; or it goes back to its lane as it is. */
void victim_scanned(struct reclaim *reclaim, struct victim *victim);
void victim_abort(struct reclaim *reclaim, struct victim *victim);
/* Room is wanted: FREE segments, or slots of the index. */
bool reclaim_short(const struct shard *shard);
/* Segments that will be FREE without more being chosen. */
uint32_t reclaim_coming(const struct reclaim *reclaim);

/* Whether a segment may hold a row that is not the newest of its key. */
bool reclaim_hides(const struct shard *shard, uint32_t segment);

/* ---- reclaim_pick.c ---- */
/* The next segment to empty: SEGMENT_NONE, or one that is out of its lane, in state RECLAIM (or
 * stays BAD). */
uint32_t reclaim_pick(struct reclaim *reclaim, bool *ret_keep_all);
/* LRU: entries leave until the rest fits. Returns whether more are to leave. */
bool reclaim_trim(struct reclaim *reclaim);

/* ---- reclaim_scan.c ---- */
void scan_start(struct reclaim *reclaim, struct victim *victim);
/* The oldest birth among segments but one that may still hold an old copy of something. */
uint64_t scan_horizon(const struct shard *shard, uint32_t except);
/* Whether originals may be there of rows that were copied or carried to the segment (or to any:
 * SEGMENT_NONE). */
bool scan_doubled(const struct shard *shard, uint32_t segment);
/* Go on as far as can be without waiting. Returns whether it stopped only for its bound. */
bool scan_run(struct reclaim *reclaim);
/* Whether a row that the index does not point at may hide an older one. */
bool scan_hides(const struct reclaim *reclaim, const struct format_row *row);
/* Whether what the row hides, or hid where it was copied from, may still be there. */
bool scan_guards(const struct reclaim *reclaim, const struct format_row *row);
/* How often an entry was read since it came. */
uint8_t scan_freq(const struct index_slot *slot);
/* The entry leaves when the segment is erased; until then it is served. */
void scan_leave(struct reclaim *reclaim, const struct format_row *row);

/* ---- reclaim_copy.c ---- */
/* Read bytes (whole blocks) at `at` of the victim's segment. */
void copy_read(struct reclaim *reclaim, uint32_t at, uint8_t *to, uint32_t bytes);
/* Whether the window takes one more value; and add it. */
bool copy_fits(const struct reclaim *reclaim, const struct format_row *row);
void copy_want(struct reclaim *reclaim, const struct format_row *row, const uint8_t *key);
/* Start reading the window. */
void copy_fetch(struct reclaim *reclaim);
/* Append what was read. True when all is done; false: no room now. */
bool copy_append(struct reclaim *reclaim);
/* No segment is free and none will be: waiting would be for ever. */
bool copy_stuck(const struct reclaim *reclaim);
/* A tombstone for the row, so that it goes on hiding what is older; a key of NULL is not known: a
 * tombstone deletes by hash. False: no room now. */
bool copy_carry(struct reclaim *reclaim, const struct format_row *row, const uint8_t *key);
