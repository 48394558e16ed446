/* disk/object.h — values longer than one entry: a head, and slices of equal size.
 *
 * Model      The head is an entry under the object's key whose value is an object_head; slice n
 *            (1 …) is an entry under (key, version, n). A version is drawn anew for each store, so
 *            slices of an older one are never mixed in; deleting the head deletes all.
 *            The head is put last: a batch behind its slices', or the same.
 * Threads    pure. Errors: decode HAUL_ECORRUPT. */
#pragma once

#include <stdint.h>

#include "disk/key.h"

enum { OBJECT_HEAD_BYTES = 40 };

struct object_head {
	uint64_t version; /* random */
	uint64_t bytes;
	uint32_t slice_bytes;
	uint32_t slices;
	uint32_t flags; /* the caller's */
};

void object_head_encode(const struct object_head *head, uint8_t out[OBJECT_HEAD_BYTES]);
int object_head_decode(const uint8_t *in, uint32_t bytes, struct object_head *ret_head);
/* Key of slice n (1 …) of the object under `key`. */
void object_slice_key(const struct cache_key *key, const struct object_head *head, uint32_t slice,
		      uint64_t secret, struct cache_key *ret_key);
