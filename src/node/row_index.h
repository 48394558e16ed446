/* node/row_index.h — where is the row of this 64-bit key? A fixed-size hash table of row numbers.
 *
 * Model      Open addressing with linear probing at a load of at most one half; removal shifts what
 *            follows back, so that no tombstones pile up however long it runs. Keys come from the
 *            network: a secret is mixed into the hash, so that nobody can aim for long probes.
 * Ownership  rows are the caller's; the index knows their numbers only.
 * Memory     all of it in row_index_init.
 * Threads    one.
 * Errors     row_index_init: -ENOMEM.
 * Limits     as many keys as row_index_init was told; key 0 is never one. */
#pragma once

#include <stdint.h>

#define ROW_INDEX_NONE UINT32_MAX

struct row_index_slot {
	uint64_t key; /* 0 = empty */
	uint32_t row;
};

struct row_index {
	struct row_index_slot *slots;
	uint64_t secret;
	uint32_t mask;
	uint32_t count;
	uint32_t capacity;
};

int row_index_init(struct row_index *index, uint32_t capacity, uint64_t secret);
void row_index_done(struct row_index *index);

/* ROW_INDEX_NONE when not there. */
uint32_t row_index_find(const struct row_index *index, uint64_t key);
/* The key is not there yet, and there is room. */
void row_index_put(struct row_index *index, uint64_t key, uint32_t row);
/* The key is there. */
void row_index_remove(struct row_index *index, uint64_t key);
