/* store/table_cache.h — blocks of tables in memory, verified and decompressed.
 *
 * Model      A fixed number of frames of two sizes; a block is found by (blob, number), pinned
 *            while it is read, replaced by second chance (CLOCK). Who misses reads it; others who
 *            want it meanwhile wait for that read. A block that finds all frames pinned, and what
 *            is packed or lies crooked, is read into spare memory, of which there is a fixed
 *            number, too.
 *            A hit takes no lock: chain, pin, look again whether it is still the block.
 * Memory     at table_cache_new.
 * Threads    any. Who waits for another's read (table_cache_wait) or for spare memory
 *            (table_cache_spare with wait) must not hold a claim or spare memory itself.
 * Blocking   table_cache_wait; table_cache_spare if told to. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	TABLE_CACHE_SMALL = 32 << 10, /* a frame */
	TABLE_CACHE_LARGE = 64 << 10, /* a frame for blocks of one long row */
	TABLE_CACHE_READ =
		TABLE_CACHE_LARGE + 2 * 4096, /* spare: for a block with its surroundings */
};
#define TABLE_CACHE_NONE      UINT32_MAX
#define TABLE_CACHE_BYTES_MIN (UINT64_C(1) << 20)

struct table_cache;
int table_cache_new(struct table_cache **ret_cache, uint64_t bytes); /* -ENOMEM; HAUL_ELIMIT */
void table_cache_free(struct table_cache *cache);
struct table_cache_status {
	uint64_t frames, used, hits, misses, evictions;
	uint64_t pinned; /* just now */
};
void table_cache_status(const struct table_cache *cache, struct table_cache_status *ret_status);

/* ---- for readers of tables ---- */

void table_cache_prefetch(const struct table_cache *cache, uint64_t blob, uint32_t number);
/* The frame of a block that is there, pinned; TABLE_CACHE_NONE. */
uint32_t table_cache_find(struct table_cache *cache, uint64_t blob, uint32_t number);

/* What becomes of a block that was not found. */
enum table_cache_claim {
	TABLE_CACHE_HIT,  /* it has come meanwhile; pinned */
	TABLE_CACHE_MINE, /* pinned; the caller reads it and says table_cache_loaded */
	TABLE_CACHE_BUSY, /* pinned; another reads it: table_cache_wait */
	TABLE_CACHE_FULL, /* no frame */
};
enum table_cache_claim table_cache_claim(struct table_cache *cache, uint64_t blob, uint32_t number,
					 uint32_t bytes, uint32_t *ret_frame);
/* error 0: it is in the frame. Else the frame is forgotten when the last pin is dropped. */
void table_cache_loaded(struct table_cache *cache, uint32_t at, int error);
int table_cache_wait(struct table_cache *cache, uint32_t at); /* 0, or the reader's error */
void table_cache_unpin(struct table_cache *cache, uint32_t frame);
uint8_t *table_cache_data(const struct table_cache *cache, uint32_t frame);
void table_cache_count(struct table_cache *cache, uint32_t hits, uint32_t misses);

struct table_spare {
	struct table_spare *next;
	uint8_t *read; /* TABLE_CACHE_READ */
	uint8_t *raw;  /* TABLE_CACHE_LARGE */
};
/* NULL: there is none, and it was not to be waited for. */
struct table_spare *table_cache_spare(struct table_cache *cache, bool wait);
void table_cache_spare_back(struct table_cache *cache, struct table_spare *spare);
