/* Making room. */
#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "disk/shard_parts.h"

enum {
	SHORT_S = 3600,        /* what expires within it goes to LANE_SHORT */
	SEGMENTS_FOR_ALL = 24, /* with fewer, only the lanes that must be apart are */
};

struct reclaim {
	uint32_t pinned_max; /* segments */
};

int reclaim_open(struct shard *shard)
{
	struct reclaim *reclaim = calloc(1, sizeof *reclaim);
	if (!reclaim)
		return -ENOMEM;
	uint32_t percent = shard->options.pinned_percent ? shard->options.pinned_percent : 25;
	uint32_t max = (uint32_t)((uint64_t)shard->super->segments * percent / 100);
	reclaim->pinned_max = max > 0 ? max : 1;
	shard->reclaim = reclaim;
	return 0;
}

void reclaim_close(struct shard *shard)
{
	free(shard->reclaim);
	shard->reclaim = NULL;
}

void reclaim_poll(struct shard *shard)
{
	HAUL_ASSERT(shard->reclaim != NULL);
}

bool reclaim_idle(const struct shard *shard)
{
	HAUL_ASSERT(shard->reclaim != NULL);
	return true;
}

void reclaim_used(struct shard *shard, const struct index_slot *slot)
{
	(void)shard;
	(void)slot;
}

void reclaim_moved(struct shard *shard, const struct index_slot *slot)
{
	(void)shard;
	(void)slot;
}

void reclaim_gone(struct shard *shard, const struct index_slot *slot)
{
	(void)shard;
	(void)slot;
}

/* Read before, or evicted not long ago. */
static bool seen_before(const struct shard *shard, uint64_t hash)
{
	const struct index_slot *slot = index_find(&shard->index, hash);
	if (slot) {
		struct index_entry entry;
		index_unpack(slot, &entry);
		return entry.freq > 0;
	}
	return ghost_has(&shard->ghost, hash);
}

enum lane_id reclaim_lane(struct shard *shard, const struct shard_put *put)
{
	if (put->how & HAUL_CACHE_PINNED)
		return LANE_PINNED;
	bool all = shard->super->segments >= SEGMENTS_FOR_ALL;
	uint32_t now_s = shard_now_s(shard);
	if (all && put->expiry != 0 && put->expiry < (uint64_t)now_s + SHORT_S)
		return LANE_SHORT;
	if (all && (put->head || put->key.slice > 0))
		return LANE_BULK;
	return seen_before(shard, put->key.hash) ? LANE_MAIN : LANE_NEW;
}

/* Whether a pinned store of so many bytes stays within the quota. */
static bool pinned_fits(const struct shard *shard, uint32_t bytes)
{
	const struct lane *lane = &shard->lanes[LANE_PINNED];
	if (lane->count < shard->reclaim->pinned_max)
		return true;
	if (lane->count > shard->reclaim->pinned_max || lane->segment == SEGMENT_NONE)
		return false;
	uint64_t used = shard->segments[lane->segment].append;
	if (lane->chunk && lane->chunk->segment == lane->segment)
		used = (uint64_t)lane->chunk->base + lane->chunk->used;
	uint64_t rows = (uint64_t)lane->footer_rows + 1;
	uint64_t footer = format_footer_bytes((uint32_t)rows);
	return used + bytes + 2 * FORMAT_BLOCK + footer <= shard->super->segment_bytes;
}

int reclaim_admit(struct shard *shard, const struct shard_put *put, enum lane_id lane,
		  uint32_t bytes)
{
	int64_t now_ns = shard->os->now_ns(shard->os);
	if (lane == LANE_PINNED) {
		if (!pinned_fits(shard, bytes))
			return HAUL_EFULL;
		admit_charge(&shard->admit, bytes, now_ns);
		return 0;
	}
	bool seen = lane == LANE_MAIN || ghost_has(&shard->ghost, put->key.hash);
	if (admit_ask(&shard->admit, bytes, seen, now_ns))
		return 0;
	ghost_add(&shard->ghost, put->key.hash); /* who asks again is seen before */
	return HAUL_EADMIT;
}
