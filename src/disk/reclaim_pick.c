/* disk/reclaim_pick.c: which segment is emptied next.
 *
 * Without shortage  only segments in which everything has expired.
 * S3-FIFO           LANE_NEW and LANE_SHORT are the small queue, LANE_MAIN and LANE_BULK the main
 *                   one. If the small queue has at least a tenth of the segments, the older of its
 *                   two heads goes, else the older of the main queue's. Slices of objects lie in
 *                   LANE_BULK, so a download does not push out the small queue; those that are read
 *                   stay among themselves.
 * LRU               Entries leave in strict order (reclaim_trim) until what is left fits into three
 *                   quarters of the segments. The segment with the fewest live bytes is emptied,
 *                   and all that is live in it moves; every fourth time it is the oldest, so that
 *                   tombstones do not stay for ever.
 * Both              Before that, segments in which nothing is live. Pinned segments are emptied
 *                   when less than half of them is live: what is pinned moves to a fresh one.
 *                   Before all, if more tombstones were carried than fill an eighth of a segment,
 *                   the oldest segment that holds a dead row, be it pinned: it is what they are
 *                   kept for. If no segment can be taken because lanes hold them open, the oldest
 *                   of those is sealed. */
#include "base/assert.h"
#include "disk/reclaim_state.h"

enum {
	LOOKED_A_POLL = 4096, /* segments */
	SMALL_SHARE = 10,     /* the small queue's part of all segments */
	CARRY_SHARE = 8,
	LRU_OLDEST = 4, /* every so many-th is the oldest */
	TRIMMED_A_POLL = 256,
};

static bool ready(const struct shard *shard, uint32_t segment)
{
	const struct segment *seg = &shard->segments[segment];
	return seg->state == SEGMENT_SEALED && !seg->chunks && seg->append <= seg->durable;
}

/* Bytes that its live entries take, with what is written about them. */
static uint64_t live_cost(const struct segment *segment)
{
	return segment->live_bytes + (uint64_t)segment->live_entries * ROW_COST;
}

/* ---- anywhere ---- */

static bool expired(const struct segment *segment, uint32_t now_s)
{
	return segment->expiry_max != 0 && segment->expiry_max <= now_s;
}

static bool pinned_thin(const struct reclaim *reclaim, const struct segment *segment)
{
	const struct shard *shard = reclaim->shard;
	return segment->lane == LANE_PINNED && live_cost(segment) < shard->super->segment_bytes / 2;
}

/* Nothing is live in it. One of tombstones alone gives nothing back while they are needed. */
static bool gives(const struct segment *segment, bool needed)
{
	if (segment->live_entries > 0)
		return false;
	return segment->expiry_max != 0 || !needed;
}

/* One with nothing live, or thin and pinned, from where the last look ended; a look is bounded, and
 * without shortage begins anew once a second. */
static uint32_t pick_anywhere(struct reclaim *reclaim, bool wanted, bool *ret_keep_all)
{
	struct shard *shard = reclaim->shard;
	uint32_t now_s = shard_now_s(shard);
	bool pinned = shard->lanes[LANE_PINNED].count >= reclaim->pinned_max;
	if (reclaim->look_next >= shard->super->segments) {
		if (!wanted && reclaim->look_s == now_s)
			return SEGMENT_NONE;
		reclaim->look_next = 0;
		reclaim->look_s = now_s;
	}
	bool needed = wanted && (scan_horizon(shard, SEGMENT_NONE) <= reclaim->barren ||
				 scan_doubled(shard, SEGMENT_NONE));
	for (uint32_t i = 0; i < LOOKED_A_POLL; i++) {
		uint32_t s = reclaim->look_next;
		if (s >= shard->super->segments)
			break;
		reclaim->look_next++;
		const struct segment *segment = &shard->segments[s];
		if (!ready(shard, s))
			continue;
		if (expired(segment, now_s) || (wanted && gives(segment, needed)))
			return s;
		if ((wanted || pinned) && pinned_thin(reclaim, segment)) {
			*ret_keep_all = true;
			return s;
		}
	}
	return SEGMENT_NONE;
}

/* The first born, but for the pinned. */
static uint32_t pick_oldest(const struct shard *shard)
{
	uint32_t oldest = SEGMENT_NONE;
	for (uint32_t s = 0; s < shard->super->segments; s++) {
		const struct segment *segment = &shard->segments[s];
		if (!ready(shard, s) || segment->lane == LANE_PINNED)
			continue;
		if (oldest == SEGMENT_NONE || segment->born_seq < shard->segments[oldest].born_seq)
			oldest = s;
	}
	return oldest;
}

/* The first born of those that may hold an old copy of something: it is what tombstones are kept
 * for. If a lane holds it open, it is sealed, and taken later. */
static uint32_t pick_horizon(struct shard *shard)
{
	uint32_t oldest = SEGMENT_NONE;
	for (uint32_t s = 0; s < shard->super->segments; s++) {
		const struct segment *segment = &shard->segments[s];
		if (segment->state == SEGMENT_RECLAIM || segment->state == SEGMENT_ERASE ||
		    !reclaim_hides(shard, s))
			continue;
		if (oldest == SEGMENT_NONE || segment->born_seq < shard->segments[oldest].born_seq)
			oldest = s;
	}
	if (oldest == SEGMENT_NONE || ready(shard, oldest))
		return oldest;
	if (shard->segments[oldest].state == SEGMENT_BAD)
		return shard->segments[oldest].chunks ? SEGMENT_NONE : oldest;
	enum lane_id lane = shard->segments[oldest].lane;
	if (shard->lanes[lane].segment == oldest && segment_footer_spare(shard))
		segment_seal(shard, lane);
	return SEGMENT_NONE;
}

/* ---- S3-FIFO ---- */

/* The older head of two lanes. */
static uint32_t older_head(const struct shard *shard, enum lane_id a, enum lane_id b)
{
	uint32_t first = shard->lanes[a].first;
	uint32_t second = shard->lanes[b].first;
	if (first != SEGMENT_NONE && !ready(shard, first))
		first = SEGMENT_NONE;
	if (second != SEGMENT_NONE && !ready(shard, second))
		second = SEGMENT_NONE;
	if (first == SEGMENT_NONE || second == SEGMENT_NONE)
		return first == SEGMENT_NONE ? second : first;
	return shard->segments[first].born_seq <= shard->segments[second].born_seq ? first : second;
}

static uint32_t pick_fifo(const struct shard *shard)
{
	uint32_t small = shard->lanes[LANE_NEW].count + shard->lanes[LANE_SHORT].count;
	uint32_t total = shard->super->segments - shard->bad_count;
	uint32_t from_small = older_head(shard, LANE_NEW, LANE_SHORT);
	uint32_t from_main = older_head(shard, LANE_MAIN, LANE_BULK);
	if (from_main == SEGMENT_NONE || small * SMALL_SHARE >= total)
		return from_small != SEGMENT_NONE ? from_small : from_main;
	return from_main;
}

/* ---- LRU ---- */

static uint64_t lru_capacity(const struct reclaim *reclaim)
{
	const struct shard *shard = reclaim->shard;
	uint32_t reserve = reclaim->low + LANES;
	uint32_t usable = shard->super->segments - shard->bad_count;
	usable = usable > reserve + 1 ? usable - reserve : 1;
	return (uint64_t)usable * shard->super->segment_bytes / 4 * 3;
}

bool reclaim_trim(struct reclaim *reclaim)
{
	struct shard *shard = reclaim->shard;
	struct index *index = &shard->index;
	uint64_t capacity = lru_capacity(reclaim);
	/* Rows of entries that left are still there: deletes and stores must reckon with them. */
	shard->hides = true;
	for (uint32_t i = 0; i < TRIMMED_A_POLL; i++) {
		uint64_t used = index->bytes + index->count * ROW_COST;
		bool over = used > capacity ||
			    index->count + index->entries_max / 32 + 1 > index->entries_max;
		if (!over && reclaim->trim_left == 0)
			return false;
		struct index_slot *slot = index_order_oldest(index);
		if (!slot)
			return false;
		struct index_entry entry;
		index_unpack(slot, &entry);
		uint64_t cost = (uint64_t)entry.bytes + ROW_COST;
		reclaim->trim_left -= cost < reclaim->trim_left ? cost : reclaim->trim_left;
		shard_forget(shard, slot);
		shard->stat.evicted++;
	}
	return true;
}

static uint32_t pick_lru(struct reclaim *reclaim)
{
	struct shard *shard = reclaim->shard;
	uint32_t best = SEGMENT_NONE;
	if (reclaim->picks % LRU_OLDEST == LRU_OLDEST - 1)
		return pick_oldest(shard);
	for (uint32_t s = 0; s < shard->super->segments; s++) {
		const struct segment *segment = &shard->segments[s];
		if (!ready(shard, s) || segment->lane == LANE_PINNED)
			continue;
		if (best == SEGMENT_NONE || live_cost(segment) < live_cost(&shard->segments[best]))
			best = s;
	}
	/* Moving a full segment makes no room: more has to leave first. */
	uint64_t full = shard->super->segment_bytes / 8 * 7;
	if (best != SEGMENT_NONE && live_cost(&shard->segments[best]) > full) {
		reclaim->trim_left = shard->super->segment_bytes / 8;
		return SEGMENT_NONE;
	}
	return best;
}

/* ---- all ---- */

/* Lanes hold the segments open: seal the one that was opened first. */
static void seal_oldest(struct shard *shard)
{
	enum lane_id oldest = LANES;
	for (enum lane_id id = 0; id < LANES; id++) {
		uint32_t s = shard->lanes[id].segment;
		if (s == SEGMENT_NONE || id == LANE_PINNED || shard->segments[s].rows == 0)
			continue;
		if (oldest == LANES ||
		    shard->segments[s].born_seq <
			    shard->segments[shard->lanes[oldest].segment].born_seq)
			oldest = id;
	}
	if (oldest != LANES && segment_footer_spare(shard))
		segment_seal(shard, oldest);
}

static bool any_sealed(const struct shard *shard)
{
	for (enum lane_id id = 0; id < LANES; id++) {
		if (id != LANE_PINNED && shard->lanes[id].first != SEGMENT_NONE)
			return true;
	}
	return false;
}

/* Whether all that lives in it moves. */
static bool moves_all(const struct shard *shard, uint32_t segment)
{
	return shard->options.policy == HAUL_CACHE_LRU ||
	       shard->segments[segment].state == SEGMENT_BAD ||
	       shard->segments[segment].lane == LANE_PINNED;
}

static uint32_t pick(struct reclaim *reclaim, bool *ret_keep_all)
{
	struct shard *shard = reclaim->shard;
	bool wanted = reclaim_short(shard);
	uint32_t segment = SEGMENT_NONE;
	if (wanted && reclaim->carried > shard->super->segment_bytes / CARRY_SHARE) {
		segment = pick_horizon(shard);
		if (segment != SEGMENT_NONE)
			reclaim->carried = 0;
	}
	if (segment == SEGMENT_NONE) {
		segment = pick_anywhere(reclaim, wanted, ret_keep_all);
		if (segment != SEGMENT_NONE || !wanted)
			return segment;
		segment = shard->options.policy == HAUL_CACHE_LRU ? pick_lru(reclaim)
								  : pick_fifo(shard);
	}
	if (segment == SEGMENT_NONE && !any_sealed(shard) && reclaim_coming(reclaim) == 0)
		seal_oldest(shard);
	if (segment != SEGMENT_NONE) {
		reclaim->picks++;
		*ret_keep_all = moves_all(shard, segment);
	}
	return segment;
}

uint32_t reclaim_pick(struct reclaim *reclaim, bool *ret_keep_all)
{
	struct shard *shard = reclaim->shard;
	uint32_t segment = pick(reclaim, ret_keep_all);
	if (segment == SEGMENT_NONE)
		return segment;
	if (shard->segments[segment].state == SEGMENT_BAD)
		return segment;
	HAUL_ASSERT(ready(shard, segment));
	segment_unlink(shard, segment);
	shard->segments[segment].state = SEGMENT_RECLAIM;
	return segment;
}
