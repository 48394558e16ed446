/* The newest row of each key: a table by hash, as large as all rows need, so that it is filled in
 * one pass whatever the order of segments. The row with the highest seq wins; of copies (the same
 * seq) the one in the segment that was opened last. Tombstones, rows whose time is over and those
 * of a segment whose header cannot be read win like any other, and hide what is older; only then
 * are they left out. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "disk/recover_state.h"

enum {
	WHAT_CODEC = 3, /* enum index_codec, INDEX_HEAD */
	WHAT_FLAGS = 4,
	WHAT_TOMBSTONE = 8,
	WHAT_BITS = 5,
	BYTES_BITS = 21,
	UNIT_BITS = 20,
	BYTES_SHIFT = WHAT_BITS,
	UNIT_SHIFT = BYTES_SHIFT + BYTES_BITS,
	SEGMENT_SHIFT = UNIT_SHIFT + UNIT_BITS,
	SLOTS_MIN = 1024,
	HUGE_PAGE = 2 << 20
};

/* ---- the table ---- */

static struct newest *newest_slot(const struct recovery *recovery, uint64_t hash)
{
	uint64_t at = hash >> recovery->newest_shift;
	while (recovery->newest[at].hash != 0 && recovery->newest[at].hash != hash)
		at = (at + 1) & (recovery->newest_slots - 1);
	return &recovery->newest[at];
}

void newest_prefetch(const struct recovery *recovery, uint64_t hash)
{
	__builtin_prefetch(&recovery->newest[hash >> recovery->newest_shift], 1);
}

int newest_alloc(struct recovery *recovery, uint64_t more)
{
	uint64_t slots = recovery->newest_slots > 0 ? recovery->newest_slots : SLOTS_MIN;
	uint32_t bits = 0;
	while (slots / 4 * 3 < recovery->newest_count + more)
		slots *= 2;
	if (slots == recovery->newest_slots)
		return 0;
	while (UINT64_C(1) << bits < slots)
		bits++;
	/* Fresh pages are zeros already. */
	struct newest *table = mmap(NULL, slots * sizeof *table, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (table == MAP_FAILED)
		return -ENOMEM;
	if (slots * sizeof *table >= HUGE_PAGE)
		(void)madvise(table, slots * sizeof *table, MADV_HUGEPAGE);
	struct newest *old = recovery->newest;
	uint64_t old_slots = recovery->newest_slots;
	recovery->newest = table;
	recovery->newest_slots = slots;
	recovery->newest_shift = 64 - bits;
	for (uint64_t i = 0; i < old_slots; i++) {
		if (old[i].hash != 0)
			*newest_slot(recovery, old[i].hash) = old[i];
	}
	if (old != NULL)
		(void)munmap(old, old_slots * sizeof *old);
	return 0;
}

static uint32_t segment_of(const struct newest *newest)
{
	return (uint32_t)(newest->where >> SEGMENT_SHIFT);
}

/* Whether the row is newer than what is there. */
static bool newest_loses(const struct recovery *recovery, const struct newest *newest,
			 const struct format_row *row, uint32_t segment)
{
	if (newest->hash == 0)
		return true;
	if (newest->seq != row->seq)
		return newest->seq < row->seq;
	const struct found *there = &recovery->found[segment_of(newest)];
	const struct found *here = &recovery->found[segment];
	if (there->hides_only || here->hides_only)
		return !here->hides_only;
	return there->header.generation < here->header.generation;
}

static uint64_t what_of(const struct format_row *row)
{
	uint64_t what = row->flags >> ROW_CODEC_SHIFT & WHAT_CODEC;
	if (row->flags & ROW_HEAD)
		what = INDEX_HEAD;
	what |= row->flags & ROW_FLAGS ? WHAT_FLAGS : 0;
	return what | (row->flags & ROW_TOMBSTONE ? WHAT_TOMBSTONE : 0);
}

void newest_add(struct recovery *recovery, const struct format_row *row, uint32_t segment)
{
	if (row->seq <= recovery->shard->root.purged_seq)
		return;
	uint64_t hash = row->hash != 0 ? row->hash : 1;
	struct newest *newest = newest_slot(recovery, hash);
	/* A copy whose original was not erased yet: when the one that wins leaves, the other is
	 * still there, and nothing in the index says so. */
	if (newest->hash != 0 && newest->seq == row->seq)
		recovery->doubled = true;
	if (!newest_loses(recovery, newest, row, segment))
		return;
	HAUL_ASSERT(newest->hash != 0 || recovery->newest_count < recovery->newest_slots - 1);
	recovery->newest_count += newest->hash == 0;
	*newest = (struct newest){ .hash = hash, .seq = row->seq, .expiry = row->expiry };
	newest->where = (uint64_t)segment << SEGMENT_SHIFT | (uint64_t)row->unit << UNIT_SHIFT |
			(uint64_t)row->bytes << BYTES_SHIFT | what_of(row);
	if (recovery->found[segment].hides_only)
		newest->where |= WHAT_TOMBSTONE;
	newest->check = (uint32_t)row->checksum;
}

/* ---- into the index ---- */

static bool newest_lives(const struct recovery *recovery, const struct newest *newest)
{
	if (newest->hash == 0 || newest->where & WHAT_TOMBSTONE)
		return false;
	return newest->expiry == 0 || newest->expiry > recovery->now_s;
}

static void newest_enter(struct shard *shard, const struct newest *newest)
{
	struct index_entry entry = {
		.hash = newest->hash,
		.segment = segment_of(newest),
		.unit = (uint32_t)(newest->where >> UNIT_SHIFT) & ((1U << UNIT_BITS) - 1),
		.bytes = (uint32_t)(newest->where >> BYTES_SHIFT) & ((1U << BYTES_BITS) - 1),
		.expiry = newest->expiry,
		.check = newest->check,
		.codec = (uint8_t)(newest->where & WHAT_CODEC),
		.has_flags = (newest->where & WHAT_FLAGS) != 0,
	};
	if (index_put(&shard->index, &entry) < 0) {
		/* The table was made smaller than what was stored. */
		shard->hides = true;
		shard->stat.evicted++;
		return;
	}
	segment_live(shard, entry.segment, 1, entry.bytes);
}

static int by_seq(const void *a, const void *b)
{
	const struct newest *left = *(const struct newest *const *)a;
	const struct newest *right = *(const struct newest *const *)b;
	return (left->seq > right->seq) - (left->seq < right->seq);
}

/* Strict order of use begins as the order of the stores. */
static int newest_order_alloc(struct recovery *recovery)
{
	const struct newest **order =
		malloc(sizeof(struct newest *) * (recovery->newest_count + 1));
	uint64_t count = 0;
	if (order == NULL)
		return -ENOMEM;
	for (uint64_t i = 0; i < recovery->newest_slots; i++) {
		if (newest_lives(recovery, &recovery->newest[i]))
			order[count++] = &recovery->newest[i];
	}
	qsort(order, count, sizeof(struct newest *), by_seq);
	for (uint64_t i = 0; i < count; i++) {
		const struct index_slot *slot = index_find(&recovery->shard->index, order[i]->hash);
		if (slot != NULL)
			reclaim_used(recovery->shard, slot);
	}
	free(order);
	return 0;
}

static bool is_pinned(const struct recovery *recovery, const struct newest *newest)
{
	return recovery->found[segment_of(newest)].header.lane == LANE_PINNED;
}

/* In the order of hashes, which is the order of the index: it is filled from front to back. */
static void newest_enter_all(struct recovery *recovery, bool apart, bool pinned)
{
	for (uint64_t i = 0; i < recovery->newest_slots; i++) {
		const struct newest *newest = &recovery->newest[i];
		if (newest_lives(recovery, newest) &&
		    (!apart || is_pinned(recovery, newest) == pinned))
			newest_enter(recovery->shard, newest);
	}
}

int newest_enter_alloc(struct recovery *recovery)
{
	/* With LRU rows of what was evicted are still there: what is pinned goes first. */
	bool apart = recovery->newest_count > recovery->shard->index.entries_max;
	if (apart)
		newest_enter_all(recovery, apart, true);
	newest_enter_all(recovery, apart, false);
	if (recovery->shard->options.policy != HAUL_CACHE_LRU)
		return 0;
	return newest_order_alloc(recovery);
}
