/* store/table_cache.h — blocks of tables in memory, verified and decompressed.
 *
 * Model      A fixed number of frames; a block is found by (blob, number), pinned while it is read,
 *            replaced by second chance (CLOCK). Who misses reads it; others who want it meanwhile
 *            wait for that read.
 * Memory     at table_cache_new.
 * Threads    any. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct table_cache;
int table_cache_new(struct table_cache **ret_cache, uint64_t bytes);
void table_cache_free(struct table_cache *cache);
struct table_cache_status {
	uint64_t frames, used, hits, misses, evictions;
};
void table_cache_status(const struct table_cache *cache, struct table_cache_status *ret_status);
