#include "bpf/seen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"

enum { ROOM_START = 4096 };

static uint64_t hash_key(const uint8_t *key, uint32_t bytes)
{
	uint64_t hash = bytes;
	while (bytes > 0) {
		uint64_t word = 0;
		uint32_t part = bytes < sizeof word ? bytes : (uint32_t)sizeof word;
		memcpy(&word, key, part);
		hash = hash_u64((hash ^ word) + UINT64_C(0x9e3779b97f4a7c15));
		key += part;
		bytes -= part;
	}
	return hash ? hash : 1; /* 0 marks a free place */
}

/* Returns whether it was in already. */
static bool enter(uint64_t *hashes, uint64_t room, uint64_t hash)
{
	uint64_t at = hash & (room - 1);
	while (hashes[at] != 0 && hashes[at] != hash)
		at = (at + 1) & (room - 1);
	bool there = hashes[at] == hash;
	hashes[at] = hash;
	return there;
}

int map_seen_init(struct map_seen *seen, uint32_t key_size)
{
	HAUL_ASSERT(key_size > 0);
	*seen = (struct map_seen){ .room = ROOM_START, .key_size = key_size };
	seen->hashes = calloc(seen->room, sizeof *seen->hashes);
	return seen->hashes ? 0 : -ENOMEM;
}

void map_seen_done(struct map_seen *seen)
{
	free(seen->hashes);
	seen->hashes = NULL;
	seen->room = seen->count = 0;
}

static int grow_alloc(struct map_seen *seen, uint64_t count)
{
	uint64_t room = seen->room;
	while (room < 2 * count)
		room *= 2;
	if (room == seen->room)
		return 0;
	uint64_t *hashes = calloc(room, sizeof *hashes);
	if (!hashes)
		return -ENOMEM;
	for (uint64_t i = 0; i < seen->room; i++) {
		if (seen->hashes[i] != 0)
			(void)enter(hashes, room, seen->hashes[i]);
	}
	free(seen->hashes);
	seen->hashes = hashes;
	seen->room = room;
	return 0;
}

int map_seen_add_alloc(struct map_seen *seen, const struct haul_map_batch *batch,
		       uint64_t *duplicates)
{
	HAUL_ASSERT(seen->hashes != NULL);
	int rc = grow_alloc(seen, seen->count + batch->count);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < batch->count; i++) {
		bool there = enter(seen->hashes, seen->room,
				   hash_key(haul_map_key(batch, i), seen->key_size));
		*duplicates += there;
		seen->count += !there;
	}
	HAUL_ASSERT(seen->count * 2 <= seen->room);
	return 0;
}
