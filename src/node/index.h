/* node/index.h — where is the row of this 64-bit key? A fixed-size hash table of row numbers.
 *
 * Model      Open addressing with linear probing at a load of at most one half; removal shifts what
 *            follows back, so that no tombstones pile up however long it runs. Keys come from the
 *            network: a secret is mixed into the hash, so that nobody can aim for long probes.
 * Ownership  rows are the caller's; the index knows their numbers only.
 * Memory     all of it in index_init.
 * Threads    one.
 * Errors     index_init: -ENOMEM.
 * Limits     as many keys as index_init was told; key 0 is never one. */
#pragma once

#include <stdint.h>

#define INDEX_NONE UINT32_MAX

struct index_slot {
	uint64_t key; /* 0 = empty */
	uint32_t row;
};

struct index {
	struct index_slot *slots;
	uint64_t secret;
	uint32_t mask;
	uint32_t count;
	uint32_t capacity;
};

int index_init(struct index *index, uint32_t capacity, uint64_t secret);
void index_done(struct index *index);

/* INDEX_NONE when not there. */
uint32_t index_find(const struct index *index, uint64_t key);
/* The key is not there yet, and there is room. */
void index_put(struct index *index, uint64_t key, uint32_t row);
/* The key is there. */
void index_remove(struct index *index, uint64_t key);
