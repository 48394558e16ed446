/* disk/reclaim.c: making room.
 *
 * How        A segment is chosen (reclaim_pick.c), its rows are looked at (reclaim_scan.c): entries
 *            that were read since they came are appended again (reclaim_copy.c), the others leave.
 *            When all that replaces it is durable, its header is overwritten by the next flush;
 *            when that is durable, the entries that left leave the index too, and the segment is
 *            FREE. Until then they are served, so no delete is ever told "not there" about a row
 *            that a crash would bring back.
 *
 * Why nothing comes back. After a crash the row with the highest seq is its key's. Erasing a
 * segment V takes rows away; an older row of the same key must not thereby become the highest.
 * A row R of V, with seq s, matters only if it hides something: it is a tombstone, or it has
 * ROW_SUPERSEDES (when it was stored the index had an entry of its key, or may have lost one).
 *  - R moves as a whole: the copy keeps s and the flag, and hides what R hid.
 *  - No segment that could hold an older row is left: the horizon, the oldest birth among all
 *    segments but V that are not FREE, is above s. Nothing is hidden, so nothing is to be done.
 *    "Could hold" is sound although copies are younger than their rows: a row is copied only while
 *    it is the newest of its key, so whatever hides it got its seq after the copy's segment was
 *    born. A segment born at s itself counts, for copies take no seq. Segments whose rows are all
 *    in the index hold no hidden row, so a pinned segment need not keep tombstones alive for ever.
 *  - Else, if the index points elsewhere, at a newer row N, and R is no tombstone and its time is
 *    not over: what came next after R found R in the index. It was a delete, whose tombstone now
 *    hides what R hid, or a store, which has ROW_SUPERSEDES and does; and so on up to N. Each of
 *    them is judged by these rules when its own segment goes. Nothing is carried.
 *  - Else a tombstone with R's seq is carried to LANE_MAIN. That is so for a tombstone even if
 *    there is a newer row (it may have been stored when nothing was in the index, without the
 *    flag), and for a row whose time is over (a lookup may have taken it out of the index, so that
 *    the next store found nothing).
 * Copies and carried tombstones must be durable before V is erased, and so must the newer rows that
 * made a row of V dead: V waits for the flush that carries whatever was appended before the last
 * row of V was looked at. If a flush failed meanwhile, V is looked at again; entries that could
 * have left by then are not copied any more, for a tombstone of theirs may be on the disk.
 *
 * A copy and its original are the same row twice while V is not erased, and so are an original and
 * the tombstone that was carried when it left. If power is cut then, or V is given back, one of
 * them may leave with its segment while the other stays, unknown to the index: so shard->hides is
 * set, and every store supersedes. And what was evicted would be there again: the horizon does not
 * see an original that is a copy itself, in a segment born after the row. So from then on
 * (shard->doubled_before) what leaves a segment that was born after it is carried as a tombstone
 * for as long as an older segment of that time is there.
 *
 * Room       Reclaim may take the last FREE_MIN segments; stores may not, nor do they use LANE_MAIN
 *            then. A segment of S3-FIFO gives up a fifth of its bytes to copies, at most half. One
 *            full of tombstones that are still needed gives nothing back: then the segment goes
 *            that they are needed for. */
#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "disk/reclaim_state.h"

enum {
	SHORT_S = 3600,        /* what expires within it goes to LANE_SHORT */
	SEGMENTS_FOR_ALL = 24, /* with fewer, only the lanes that must be apart are */
	PINNED_PERCENT = 25,   /* unless said otherwise */
	LOW_SHARE = 20,        /* room is made when less than that part of all segments is FREE */
	LOW_SHARE_MOST = 8,    /* … at the most */
	INDEX_SHARE = 32,      /* … or of the index */
	FORGET_AHEAD = 8,      /* entries fetched before they are forgotten */
};

/* ---- opening ---- */

static int buffers_open(struct reclaim *reclaim)
{
	struct shard *shard = reclaim->shard;
	uint32_t rows = CHUNK_BYTES / CHUNK_ROW_SHARE;
	uint64_t table = (uint64_t)rows * FORMAT_ROW + CHUNK_BYTES / CHUNK_KEY_SHARE;
	if (table > shard->super->segment_bytes)
		table = shard->super->segment_bytes;
	reclaim->table_bytes = (uint32_t)(table / FORMAT_BLOCK + 2) * FORMAT_BLOCK;
	reclaim->window_bytes = WINDOW_BYTES;
	reclaim->hashes_max = shard->footer_rows_max;
	reclaim->table = aligned_alloc(FORMAT_BLOCK, reclaim->table_bytes);
	reclaim->window = aligned_alloc(FORMAT_BLOCK, reclaim->window_bytes);
	if (!reclaim->table || !reclaim->window)
		return -ENOMEM;
	for (uint32_t i = 0; i < VICTIMS; i++) {
		struct victim *victim = &reclaim->victims[i];
		victim->hashes = malloc(reclaim->hashes_max * sizeof *victim->hashes);
		if (!victim->hashes)
			return -ENOMEM;
	}
	if (shard->options.policy == HAUL_CACHE_LRU)
		return index_order_init(&shard->index);
	return 0;
}

int reclaim_open(struct shard *shard)
{
	struct reclaim *reclaim = calloc(1, sizeof *reclaim);
	if (!reclaim)
		return -ENOMEM;
	shard->reclaim = reclaim; /* reclaim_close frees what there is */
	reclaim->shard = shard;
	uint32_t segments = shard->super->segments;
	uint32_t percent = shard->options.pinned_percent;
	percent = percent ? percent : PINNED_PERCENT;
	reclaim->pinned_max = (uint32_t)((uint64_t)segments * percent / 100);
	if (reclaim->pinned_max == 0)
		reclaim->pinned_max = 1;
	reclaim->low = segments / LOW_SHARE;
	if (reclaim->low < FREE_MIN + 2)
		reclaim->low = FREE_MIN + 2;
	/* A segment is free two flushes after it was chosen: until then others have to last. */
	uint64_t meanwhile = 2 * shard->flush_bytes_max / shard->super->segment_bytes;
	if (meanwhile > segments / LOW_SHARE_MOST)
		meanwhile = segments / LOW_SHARE_MOST;
	if (reclaim->low < FREE_MIN + meanwhile)
		reclaim->low = FREE_MIN + (uint32_t)meanwhile;
	return buffers_open(reclaim);
}

void reclaim_close(struct shard *shard)
{
	struct reclaim *reclaim = shard->reclaim;
	if (!reclaim)
		return;
	HAUL_ASSERT(reclaim->reads == 0);
	for (uint32_t i = 0; i < VICTIMS; i++)
		free(reclaim->victims[i].hashes);
	free(reclaim->window);
	free(reclaim->table);
	free(reclaim);
	shard->reclaim = NULL;
}

/* ---- what WRITE and READ ask ---- */

void reclaim_used(struct shard *shard, const struct index_slot *slot)
{
	struct index_entry entry;
	if (!shard->index.links)
		return;
	index_unpack(slot, &entry);
	/* What is pinned is in no order: it never is the least recently used. */
	if (shard->segments[entry.segment].lane == LANE_PINNED)
		index_order_leave(&shard->index, slot);
	else
		index_order_use(&shard->index, slot);
}

void reclaim_gone(struct shard *shard, const struct index_slot *slot)
{
	index_order_leave(&shard->index, slot);
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
	/* The last segments are for copies and tombstones. */
	if (shard->free_count <= FREE_MIN)
		return LANE_NEW;
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
	uint32_t rows = lane->footer_rows + 1;
	uint64_t keys = 0;
	if (lane->chunk) {
		used = (uint64_t)lane->chunk->base + lane->chunk->used;
		rows += lane->chunk->row_count;
		keys = lane->chunk->key_bytes;
	}
	if (rows > shard->footer_rows_max)
		return false;
	uint64_t tables = (uint64_t)rows * FORMAT_ROW + keys + CACHE_KEY_STORED_MAX;
	uint64_t need = used + bytes + tables + 3 * FORMAT_BLOCK + format_footer_bytes(rows);
	return need <= shard->super->segment_bytes;
}

int reclaim_admit(struct shard *shard, const struct shard_put *put, enum lane_id lane,
		  uint32_t bytes)
{
	/* Without a budget it matters neither when nor whether it was seen. */
	bool limited = shard->admit.bytes_per_s > 0;
	int64_t now_ns = limited ? shard->os->now_ns(shard->os) : 0;
	if (lane == LANE_PINNED) {
		if (!pinned_fits(shard, bytes))
			return HAUL_EFULL;
		admit_charge(&shard->admit, bytes, now_ns);
		return 0;
	}
	bool seen = lane == LANE_MAIN || (limited && ghost_has(&shard->ghost, put->key.hash));
	if (admit_ask(&shard->admit, bytes, seen, now_ns))
		return 0;
	ghost_add(&shard->ghost, put->key.hash); /* who asks again is seen before */
	return HAUL_EADMIT;
}

/* Until those segments are gone, a row of theirs is hidden by the other of the two alone, and the
 * index may know of neither. */
void reclaim_doubled(struct shard *shard)
{
	shard->hides = true;
	shard->doubled_before = shard->next_generation;
}

/* ---- how much is wanted ---- */

uint32_t reclaim_coming(const struct reclaim *reclaim)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < VICTIMS; i++)
		count += reclaim->victims[i].state != VICTIM_NONE;
	return count;
}

bool reclaim_short(const struct shard *shard)
{
	const struct reclaim *reclaim = shard->reclaim;
	const struct index *index = &shard->index;
	if (shard->free_count + reclaim_coming(reclaim) < reclaim->low)
		return true;
	uint64_t leaving = 0;
	for (uint32_t i = 0; i < VICTIMS; i++) {
		if (reclaim->victims[i].state != VICTIM_NONE)
			leaving += reclaim->victims[i].hash_count;
	}
	uint64_t margin = index->entries_max / INDEX_SHARE;
	return index->count + margin >= index->entries_max + leaving;
}

/* All that could be found after a crash may, but for segments whose every row is in the index. */
bool reclaim_hides(const struct shard *shard, uint32_t s)
{
	const struct segment *segment = &shard->segments[s];
	const struct chunk *chunk = shard->lanes[segment->lane].chunk;
	uint32_t rows = segment->rows;
	if (segment->state == SEGMENT_FREE)
		return false;
	if (segment->state == SEGMENT_BAD) {
		const struct format_bad *bad = root_bad(shard, s);
		return !bad || bad->good_bytes > FORMAT_BLOCK;
	}
	if (segment->state == SEGMENT_OPEN && chunk && chunk->segment == s)
		rows += chunk->row_count;
	return segment->state == SEGMENT_RECLAIM || segment->state == SEGMENT_ERASE ||
	       segment->live_entries != rows;
}

/* ---- victims ---- */

static void victim_begin(struct reclaim *reclaim, uint32_t segment, bool keep_all)
{
	struct victim *victim = reclaim->victims;
	while (victim->state != VICTIM_NONE)
		victim++;
	HAUL_ASSERT(victim < reclaim->victims + VICTIMS);
	victim->segment = segment;
	victim->generation = reclaim->shard->segments[segment].generation;
	victim->keep_all = keep_all;
	victim->bad = reclaim->shard->segments[segment].state == SEGMENT_BAD;
	victim->attempts = 0;
	scan_start(reclaim, victim);
}

/* For the flush that makes all durable that there is until now. */
static void victim_await(const struct reclaim *reclaim, struct victim *victim,
			 enum victim_state state)
{
	const struct shard *shard = reclaim->shard;
	const struct gathering *gathering = &shard->gathering;
	bool gathered = gathering->ops > 0 || gathering->background > 0 || gathering->full ||
			shard->root_dirty;
	victim->flush = shard->next_flush - !gathered;
	victim->state = state;
}

void victim_scanned(struct reclaim *reclaim, struct victim *victim)
{
	HAUL_ASSERT(victim->state == VICTIM_SCAN);
	victim_await(reclaim, victim, VICTIM_FLUSH);
}

void victim_abort(struct reclaim *reclaim, struct victim *victim)
{
	struct shard *shard = reclaim->shard;
	struct segment *segment = &shard->segments[victim->segment];
	HAUL_ASSERT(reclaim->reads == 0);
	reclaim_doubled(shard); /* of what was copied, the originals stay */
	if (!victim->bad) {
		HAUL_ASSERT(segment->state == SEGMENT_RECLAIM);
		segment->state = SEGMENT_SEALED;
		segment_link(shard, victim->segment);
		shard->lanes[segment->lane].count++;
	}
	victim->state = VICTIM_NONE;
	reclaim->scan = (struct scan){ .step = SCAN_NONE };
	reclaim->stuck++;
}

/* No segment is free, none is open that has room, and none of those there are can go without a
 * tombstone: power cuts in the middle of one reclaim after the other have used up the last ones. A
 * cache that is empty is better than one that has stopped. */
static void give_up(struct reclaim *reclaim)
{
	struct shard *shard = reclaim->shard;
	if (reclaim->stuck <= 2 * shard->super->segments)
		return;
	shard->stat.evicted += shard->index.count;
	reclaim->stuck = 0;
	(void)shard_purge(shard, NULL); /* the shard is writable, or there would be no reclaim */
}

bool reclaim_erased(struct shard *shard, uint32_t segment)
{
	struct reclaim *reclaim = shard->reclaim;
	for (uint32_t i = 0; i < VICTIMS; i++) {
		struct victim *victim = &reclaim->victims[i];
		if (victim->state == VICTIM_ERASE && victim->segment == segment) {
			victim->state = VICTIM_DRAIN;
			return true;
		}
	}
	return false;
}

static bool lies_there(const struct index_slot *slot, void *arg)
{
	const struct victim *victim = arg;
	struct index_entry entry;
	index_unpack(slot, &entry);
	return entry.segment == victim->segment;
}

struct sweep {
	struct shard *shard;
	struct victim *victim;
};

static bool sweep_one(const struct index_slot *slot, void *arg)
{
	struct sweep *sweep = arg;
	if (!lies_there(slot, sweep->victim))
		return false;
	shard_let_go(sweep->shard, slot);
	sweep->shard->stat.evicted++;
	return true;
}

/* Entries leave with their segment. Returns whether more are to. */
static bool victim_forget(struct reclaim *reclaim, struct victim *victim)
{
	struct shard *shard = reclaim->shard;
	struct segment *segment = &shard->segments[victim->segment];
	uint32_t now_s = shard_now_s(shard);
	for (uint32_t i = 0; i < ROWS_A_POLL && victim->hash_count > 0; i++) {
		uint64_t hash = victim->hashes[--victim->hash_count];
		if (victim->hash_count >= FORGET_AHEAD) {
			uint64_t ahead = victim->hashes[victim->hash_count - FORGET_AHEAD];
			index_prefetch(&shard->index, ahead);
			ghost_prefetch(&shard->ghost, ahead);
		}
		struct index_slot *slot = index_find(&shard->index, hash);
		if (!slot || !lies_there(slot, victim))
			continue;
		if (slot->expiry == 0 || slot->expiry > now_s) {
			shard->stat.evicted++;
			if (segment->lane != LANE_MAIN)
				ghost_add(&shard->ghost, hash);
		}
		shard_forget(shard, slot);
	}
	if (victim->hash_count > 0)
		return true;
	if (segment->live_entries > 0) {
		/* Rows that were not found: their batch was damaged, or there were too many. */
		struct sweep sweep = { shard, victim };
		index_delete_if(&shard->index, sweep_one, &sweep);
	}
	return false;
}

/* False: a recovery filled the table of segments anew. */
static bool victim_is_there(const struct reclaim *reclaim, const struct victim *victim)
{
	const struct segment *segment = &reclaim->shard->segments[victim->segment];
	return segment->generation == victim->generation &&
	       (segment->state == SEGMENT_RECLAIM || segment->state == SEGMENT_ERASE ||
		segment->state == SEGMENT_BAD);
}

/* What lives in it was moved, durably, or its header could not be overwritten: the root says, with
 * the next flush, that nothing in it counts. Until then the rest is served. */
static void victim_disown(struct reclaim *reclaim, struct victim *victim)
{
	struct shard *shard = reclaim->shard;
	(void)root_set_bad(shard, victim->segment, 0); /* it is in the list already */
	shard->hides = true;                           /* until the disk says so */
	victim->lost = shard->lost;
	victim_await(reclaim, victim, VICTIM_ROOT);
}

static bool victim_turn_root(struct reclaim *reclaim, struct victim *victim)
{
	const struct shard *shard = reclaim->shard;
	if (victim->lost != shard->lost) {
		victim_disown(reclaim, victim); /* that root may not have come to the disk */
	} else if (shard->durable_flush >= victim->flush) {
		if (victim_forget(reclaim, victim))
			return true;
		victim->state = VICTIM_NONE;
	}
	return false;
}

/* Returns whether more can be done at once. */
static bool victim_turn(struct reclaim *reclaim, struct victim *victim)
{
	struct shard *shard = reclaim->shard;
	const struct segment *segment = &shard->segments[victim->segment];
	if (!victim_is_there(reclaim, victim)) {
		victim->state = VICTIM_NONE;
		return false;
	}
	if (victim->state == VICTIM_ROOT)
		return victim_turn_root(reclaim, victim);
	if (segment->state == SEGMENT_BAD && !victim->bad) {
		victim_disown(reclaim, victim);
	} else if (victim->state == VICTIM_FLUSH && victim->lost != shard->lost) {
		victim->attempts++;
		victim->state = VICTIM_AGAIN;
	} else if (victim->state == VICTIM_FLUSH && shard->durable_flush >= victim->flush) {
		if (victim->bad) {
			victim_disown(reclaim, victim);
			return false;
		}
		victim->state = VICTIM_ERASE;
		segment_erase(shard, victim->segment);
	} else if (victim->state == VICTIM_DRAIN) {
		if (victim_forget(reclaim, victim))
			return true;
		if (segment->readers > 0)
			return false;
		victim->state = VICTIM_NONE;
		shard->stat.reclaimed_segments++;
		reclaim->stuck = 0;
		segment_emptied(shard, victim->segment);
	}
	return false;
}

/* ---- turns ---- */

static bool victims_turn(struct reclaim *reclaim)
{
	bool more = false;
	for (uint32_t i = 0; i < VICTIMS; i++) {
		struct victim *victim = &reclaim->victims[i];
		if (victim->state == VICTIM_NONE || victim == reclaim->scan.victim)
			continue;
		more = victim_turn(reclaim, victim) || more;
		if (victim->state == VICTIM_AGAIN && reclaim->scan.step == SCAN_NONE)
			scan_start(reclaim, victim);
	}
	return more;
}

/* A recovery took the victim away while it was looked at. */
static void scan_check(struct reclaim *reclaim)
{
	struct victim *victim = reclaim->scan.victim;
	if (!victim || reclaim->reads > 0)
		return;
	if (victim_is_there(reclaim, victim))
		return;
	victim->state = VICTIM_NONE;
	reclaim->scan = (struct scan){ .step = SCAN_NONE };
}

/* What makes room does not wait for a batch to fill when somebody was told to try again; nor for
 * one that may never come, when no more segments can be taken before. */
static void hurry(struct reclaim *reclaim)
{
	struct shard *shard = reclaim->shard;
	bool full = reclaim_coming(reclaim) == VICTIMS && reclaim->scan.step == SCAN_NONE;
	if ((!shard->gathering.pressed && !full) || !flush_idle(shard))
		return;
	for (uint32_t i = 0; i < VICTIMS; i++) {
		const struct victim *victim = &reclaim->victims[i];
		bool waits = victim->state == VICTIM_FLUSH || victim->state == VICTIM_ROOT;
		if ((waits && victim->flush >= shard->next_flush) ||
		    victim->state == VICTIM_ERASE) {
			flush_begin(shard, HAUL_CLOSE_BARRIER);
			return;
		}
	}
}

bool reclaim_poll(struct shard *shard)
{
	struct reclaim *reclaim = shard->reclaim;
	scan_check(reclaim);
	if (shard->flushing_stopped || shard->offline)
		return false;
	bool more = victims_turn(reclaim);
	if (shard->options.policy == HAUL_CACHE_LRU)
		more = reclaim_trim(reclaim) || more;
	if (reclaim->scan.step == SCAN_NONE && reclaim_coming(reclaim) < VICTIMS) {
		bool keep_all = false;
		uint32_t segment = reclaim_pick(reclaim, &keep_all);
		if (segment != SEGMENT_NONE)
			victim_begin(reclaim, segment, keep_all);
	}
	uint32_t stuck = reclaim->stuck;
	more = scan_run(reclaim) || more;
	more = more || reclaim->stuck > stuck;
	give_up(reclaim);
	hurry(reclaim);
	return more;
}

bool reclaim_idle(const struct shard *shard)
{
	const struct reclaim *reclaim = shard->reclaim;
	if (reclaim->reads > 0)
		return false;
	if (shard->flushing_stopped || shard->offline)
		return true;
	for (uint32_t i = 0; i < VICTIMS; i++) {
		/* What waits for a flush is done by the next one, whenever that is. */
		enum victim_state state = reclaim->victims[i].state;
		if (state == VICTIM_AGAIN || state == VICTIM_SCAN || state == VICTIM_DRAIN)
			return false;
	}
	return true;
}
