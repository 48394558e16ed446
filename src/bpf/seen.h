/* bpf/seen.h — which keys a scan has seen, to find those that come twice.
 *
 * Model      A set of 64-bit hashes, 8 bytes an entry: two keys of one hash would be taken for one
 *            (once in 10^7 scans of a million entries).
 * Memory     grows by doubling; at most half full.
 * Threads    one at a time a set. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/map.h>

struct map_seen {
	uint64_t *hashes; /* 0 = free */
	uint64_t room;    /* a power of two */
	uint64_t count;
	uint32_t key_size;
};

int map_seen_init(struct map_seen *seen, uint32_t key_size);
void map_seen_done(struct map_seen *seen);
/* Enter all keys of a batch; *duplicates grows by those that were in already. -ENOMEM. */
int map_seen_add_alloc(struct map_seen *seen, const struct haul_map_batch *batch,
		       uint64_t *duplicates);
