/* disk/lookup_state.h — what the files of lookups share. Nobody else includes it.
 *
 * Model      lookup.c: gets, their windows, what is answered from memory. lookup_read.c: what has
 *            to come from the disk. lookup_buffer.c: the memory in which values are handed out.
 *            A buffer is a piece of shard.buffers with a count of users: the transfer that fills
 *            it, and each value that lies in it. The last one to let go gives it back.
 * Memory     all at lookups_open.
 * Threads    the shard's. */
#pragma once

#include "disk/shard_parts.h"

enum {
	ITEMS_MAX = 8192,           /* keys that wait for the disk at a time */
	BUFFER_BYTES_MIN = 4 << 20, /* the largest value, read and unpacked */
	PACK_BYTES = 32768,         /* small values share a buffer of so many bytes */
	WINDOW_SHARE = 4,           /* a window takes at most a quarter of the buffers */
	TRANSFER_OPS = 2,           /* the largest value is a little over HAUL_DISK_SPLIT */
	LOOKUP_NAME_BYTES = 64
};

/* X(id, name, help) */
#define LOOKUP_COUNTER_LIST(X)                                                                     \
	X(LOOKUP_KEYS, "keys", "keys asked for")                                                   \
	X(LOOKUP_HITS_CHUNK, "hits_buffered", "hits in the write buffer")                          \
	X(LOOKUP_HITS_RAM, "hits_ram", "hits in the RAM tier")                                     \
	X(LOOKUP_HITS_DISK, "hits_disk", "hits read from the disk")                                \
	X(LOOKUP_MISSES, "misses", "keys that are not there")                                      \
	X(LOOKUP_EXPIRED, "expired", "keys whose time was over")                                   \
	X(LOOKUP_CORRUPT, "corrupt", "values that did not verify")                                 \
	X(LOOKUP_FAILED, "unreadable", "values the disk gave an error for")                        \
	X(LOOKUP_MERGED, "merged", "keys read in the transfer of another key")                     \
	X(LOOKUP_TRANSFERS, "transfers", "reads given to the disk")                                \
	X(LOOKUP_GAP_BYTES, "gap_bytes", "bytes read because they lay between two values")         \
	X(LOOKUP_RETRIED, "retried", "reads of one value after a merged read had failed")          \
	X(LOOKUP_SHORT, "short_of_buffers", "windows that ended early for want of buffers")

enum lookup_counter {
#define X(id, name, help) id,
	LOOKUP_COUNTER_LIST(X)
#undef X
		LOOKUP_COUNTERS
};

/* A key whose value is on its way. */
struct lookup_item {
	struct shard_get *get;
	struct lookup_item *next; /* in its transfer by offset, or free */
	uint32_t key;             /* index into get->keys */
	struct index_entry entry; /* as it was when asked */
};

struct transfer {
	struct io_op ops[TRANSFER_OPS];
	struct lookups *lookups;
	struct transfer *next; /* planned, or free */
	uint8_t *data;
	uint64_t offset; /* on the disk */
	uint32_t bytes;
	uint32_t segment;
	struct lookup_item *items, *last;
	bool single; /* the first item is read by itself */
	uint32_t pending;
	int32_t error;
};

struct lookups {
	struct shard *shard;
	struct shard_get *first, *last; /* queued */
	struct lookup_item *items, *item_free;
	struct transfer *transfers, *transfer_free;
	uint32_t transfer_count, in_flight; /* transfers */
	/* one round's */
	struct lookup_item **batch; /* ITEMS_MAX */
	uint32_t batch_count;
	struct transfer *planned, **planned_end;
	struct haul_extent *extents;
	uint32_t *order;
	struct haul_transfer *runs;
	uint64_t budget; /* of buffer bytes that may be promised */
	uint32_t now_s;
	/* buffers */
	uint32_t *users; /* by block of shard.buffers.arena where the buffer starts */
	uint8_t *pack;   /* being filled; lookups is one of its users */
	uint32_t pack_used;
	char name[LOOKUP_NAME_BYTES];
};

/* ---- lookup_buffer.c ---- */
/* One user: the caller. NULL = no room. */
uint8_t *buffer_take(struct lookups *lookups, uint64_t bytes);
void buffer_share(struct lookups *lookups, const uint8_t *buffer);
void buffer_release(struct lookups *lookups, uint8_t *buffer);
/* Room for one value, alone or among others; *ret_buffer is what to release. NULL = no room. */
uint8_t *buffer_place(struct lookups *lookups, uint32_t bytes, uint8_t **ret_buffer);
/* Make a value of stored bytes. buffer holds them (they are shared), or NULL: they are copied.
 * 0, -EAGAIN (no room), HAUL_ECORRUPT. */
int buffer_value(struct lookups *lookups, const struct index_entry *entry, const uint8_t *stored,
		 uint8_t *buffer, struct shard_value *ret_value);

/* ---- lookup_read.c ---- */
/* Bytes of buffer that a read of the entry may take. */
uint64_t read_cost(const struct index_entry *entry);
/* Plan and start what is in batch. What finds no buffer cuts its get's window. */
void read_start(struct lookups *lookups);

/* ---- lookup.c ---- */
/* One key of the get's window is there. */
void lookup_key_done(struct lookups *lookups, struct shard_get *get);
/* The window ends before key: there is no room for it. */
void lookup_cut(struct shard_get *get, uint32_t key);

static inline void lookup_count(struct lookups *lookups, enum lookup_counter counter, uint64_t n)
{
	haul_stats_count(&lookups->shard->read_stats, counter, n);
}
