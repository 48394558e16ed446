/* The table: slot_count = entries_max * 5 / 4 + 1 slots, linear probing.
 *
 * A power of two would waste up to half of the memory, so a hash finds its home by multiplication
 * (its upper half * slot_count / 2^32) instead of a mask. There is always an empty slot, so every
 * probe ends.
 * Deletion moves later slots of the run back into the hole when their home allows it, so there are
 * no tombstones and a probe never becomes longer than the entries demand.
 *
 * The order of use is a doubly linked list through a second array, by slot number; a slot that
 * moves takes its links along, so it costs an entry nothing where no order is kept. */
#include "disk/index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <haul/err.h>
#include "base/assert.h"
#include "disk/format.h"

enum {
	CODEC_BITS = 2,
	FLAG_SHIFT = CODEC_BITS,
	FREQ_SHIFT = FLAG_SHIFT + 1,
	BYTES_SHIFT = FREQ_SHIFT + 2,
	BYTES_BITS = 21,
	UNIT_SHIFT = BYTES_SHIFT + BYTES_BITS,
	UNIT_BITS = 20,
	SEGMENT_SHIFT = UNIT_SHIFT + UNIT_BITS,
	SEGMENT_BITS = 18,
	HUGE_PAGE = 2 << 20,
	CACHE_LINE = 64,
};
_Static_assert(SEGMENT_SHIFT + SEGMENT_BITS == 64, "where is full");
_Static_assert(sizeof(struct index_slot) == 24, "a slot is 24 bytes");
_Static_assert(FORMAT_VALUE_MAX < 1 << BYTES_BITS, "bytes fit");
_Static_assert(FORMAT_SEGMENT_MAX / FORMAT_UNIT <= 1 << UNIT_BITS, "units fit");
_Static_assert(FORMAT_SEGMENTS_MAX <= 1 << SEGMENT_BITS, "segments fit");

#define ENTRIES_LIMIT (UINT64_C(1) << 31)
#define FREQ_MASK     (UINT64_C(3) << FREQ_SHIFT)

static uint64_t whole_hash(uint64_t hash)
{
	return hash ? hash : 1; /* 0 marks an empty slot */
}

static uint64_t home_of(const struct index *index, uint64_t hash)
{
	return (hash >> 32) * index->slot_count >> 32;
}

static uint32_t bytes_of(const struct index_slot *slot)
{
	return (uint32_t)(slot->where >> BYTES_SHIFT) & ((1U << BYTES_BITS) - 1);
}

/* ---- the order of use ---- */

static void order_clear(struct index *index)
{
	index->newest = index->oldest = INDEX_NONE;
	for (uint64_t i = 0; index->links && i < index->slot_count; i++)
		index->links[i] = (struct index_link){ (uint32_t)i, INDEX_NONE };
}

int index_order_init(struct index *index)
{
	HAUL_ASSERT(index->count == 0 && !index->links);
	index->links = malloc(index->slot_count * sizeof *index->links);
	if (!index->links)
		return -ENOMEM;
	index->memory += index->slot_count * sizeof *index->links;
	order_clear(index);
	return 0;
}

static bool order_has(const struct index *index, uint32_t at)
{
	return index->links && index->links[at].newer != at;
}

/* What pointed at the slot points at `newer` from its older, at `older` from its newer side. */
static void order_point(struct index *index, struct index_link link, uint32_t newer, uint32_t older)
{
	if (link.newer != INDEX_NONE)
		index->links[link.newer].older = older;
	else
		index->newest = older;
	if (link.older != INDEX_NONE)
		index->links[link.older].newer = newer;
	else
		index->oldest = newer;
}

static void order_leave(struct index *index, uint32_t at)
{
	if (!order_has(index, at))
		return;
	struct index_link link = index->links[at];
	order_point(index, link, link.newer, link.older);
	index->links[at] = (struct index_link){ at, INDEX_NONE };
}

void index_order_leave(struct index *index, const struct index_slot *slot)
{
	HAUL_ASSERT(slot >= index->slots && slot < index->slots + index->slot_count);
	order_leave(index, (uint32_t)(slot - index->slots));
}

void index_order_use(struct index *index, const struct index_slot *slot)
{
	uint32_t at = (uint32_t)(slot - index->slots);
	HAUL_ASSERT(at < index->slot_count && slot->hash != 0);
	if (!index->links || index->newest == at)
		return;
	order_leave(index, at);
	index->links[at] = (struct index_link){ INDEX_NONE, index->newest };
	if (index->newest != INDEX_NONE)
		index->links[index->newest].newer = at;
	else
		index->oldest = at;
	index->newest = at;
}

struct index_slot *index_order_oldest(const struct index *index)
{
	if (!index->links || index->oldest == INDEX_NONE)
		return NULL;
	return &index->slots[index->oldest];
}

/* The slot's contents moved into the empty one. */
static void order_move(struct index *index, uint32_t from, uint32_t to)
{
	if (!order_has(index, from))
		return;
	struct index_link link = index->links[from];
	order_point(index, link, to, to);
	index->links[to] = link;
	index->links[from] = (struct index_link){ from, INDEX_NONE };
}

/* ---- the table ---- */

int index_init(struct index *index, uint64_t entries_max)
{
	if (entries_max == 0 || entries_max > ENTRIES_LIMIT)
		return -EINVAL;
	uint64_t count = entries_max + entries_max / 4 + 1;
	uint64_t bytes = count * sizeof(struct index_slot);
	/* aligned_alloc wants whole multiples; what is behind the last slot is never touched */
	uint64_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : 64;
	uint64_t rounded = (bytes + align - 1) / align * align;
	struct index_slot *slots = aligned_alloc(align, rounded);
	if (!slots)
		return -ENOMEM;
	if (bytes >= HUGE_PAGE)
		(void)madvise(slots, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
	memset(slots, 0, bytes);
	*index = (struct index){ .slots = slots, .slot_count = count, .memory = bytes };
	index->entries_max = entries_max;
	order_clear(index);
	return 0;
}

void index_done(struct index *index)
{
	free(index->slots);
	free(index->links);
	*index = (struct index){ 0 };
}

void index_clear(struct index *index)
{
	memset(index->slots, 0, index->slot_count * sizeof *index->slots);
	index->count = index->bytes = index->heads = 0;
	order_clear(index);
}

/* The slot that has it, or the empty one where its probe ends. */
static struct index_slot *probe(const struct index *index, uint64_t hash)
{
	uint64_t at = home_of(index, hash);
	while (index->slots[at].hash != 0 && index->slots[at].hash != hash) {
		if (++at == index->slot_count)
			at = 0;
	}
	return &index->slots[at];
}

struct index_slot *index_find(const struct index *index, uint64_t hash)
{
	struct index_slot *slot = probe(index, whole_hash(hash));
	return slot->hash ? slot : NULL;
}

static bool is_head(const struct index_slot *slot)
{
	return (slot->where & ((1U << CODEC_BITS) - 1)) == INDEX_HEAD;
}

void index_prefetch(const struct index *index, uint64_t hash)
{
	/* Where there is nothing, a probe goes on for some slots. */
	const struct index_slot *home = &index->slots[home_of(index, whole_hash(hash))];
	__builtin_prefetch(home);
	__builtin_prefetch((const void *)((uintptr_t)home + CACHE_LINE));
}

int index_put(struct index *index, const struct index_entry *entry)
{
	return index_put_at(index, index_place(index, entry->hash), entry);
}

struct index_slot *index_place(const struct index *index, uint64_t hash)
{
	return probe(index, whole_hash(hash));
}

int index_put_at(struct index *index, struct index_slot *slot, const struct index_entry *entry)
{
	HAUL_ASSERT(entry->segment < 1U << SEGMENT_BITS && entry->unit < 1U << UNIT_BITS);
	HAUL_ASSERT(entry->bytes < 1U << BYTES_BITS && entry->freq <= INDEX_FREQ_MAX);
	HAUL_ASSERT(entry->codec < 1U << CODEC_BITS);
	uint64_t hash = whole_hash(entry->hash);
	HAUL_ASSERT(slot->hash == 0 || slot->hash == hash);
	if (slot->hash) {
		index->bytes -= bytes_of(slot);
		index->heads -= is_head(slot);
	} else {
		if (index->count >= index->entries_max)
			return HAUL_EFULL;
		index->count++;
	}
	index->bytes += entry->bytes;
	index->heads += entry->codec == INDEX_HEAD;
	*slot = (struct index_slot){
		.hash = hash,
		.where = (uint64_t)entry->segment << SEGMENT_SHIFT |
			 (uint64_t)entry->unit << UNIT_SHIFT |
			 (uint64_t)entry->bytes << BYTES_SHIFT |
			 (uint64_t)entry->freq << FREQ_SHIFT |
			 (uint64_t)entry->has_flags << FLAG_SHIFT | entry->codec,
		.expiry = entry->expiry,
		.check = entry->check,
	};
	return 0;
}

/* Steps from `from` forward to `to`. */
static uint64_t distance(const struct index *index, uint64_t from, uint64_t to)
{
	return to >= from ? to - from : to + index->slot_count - from;
}

void index_delete(struct index *index, struct index_slot *slot)
{
	uint64_t hole = (uint64_t)(slot - index->slots);
	HAUL_ASSERT(hole < index->slot_count && slot->hash != 0);
	index->count--;
	index->bytes -= bytes_of(slot);
	index->heads -= is_head(slot);
	order_leave(index, (uint32_t)hole);
	uint64_t at = hole;
	for (;;) {
		if (++at == index->slot_count)
			at = 0;
		struct index_slot *next = &index->slots[at];
		if (!next->hash)
			break;
		/* It may move to the hole unless its home lies behind the hole. */
		uint64_t home = home_of(index, next->hash);
		if (distance(index, home, at) >= distance(index, hole, at)) {
			index->slots[hole] = *next;
			order_move(index, (uint32_t)at, (uint32_t)hole);
			hole = at;
		}
	}
	index->slots[hole] = (struct index_slot){ 0 };
}

void index_unpack(const struct index_slot *slot, struct index_entry *ret_entry)
{
	uint64_t where = slot->where;
	*ret_entry = (struct index_entry){
		.hash = slot->hash,
		.segment = (uint32_t)(where >> SEGMENT_SHIFT),
		.unit = (uint32_t)(where >> UNIT_SHIFT) & ((1U << UNIT_BITS) - 1),
		.bytes = bytes_of(slot),
		.expiry = slot->expiry,
		.check = slot->check,
		.freq = (uint8_t)(where >> FREQ_SHIFT & INDEX_FREQ_MAX),
		.codec = (uint8_t)(where & ((1U << CODEC_BITS) - 1)),
		.has_flags = (where >> FLAG_SHIFT & 1) != 0,
	};
}

bool index_is_at(const struct index_slot *slot, uint32_t segment, uint32_t unit)
{
	return slot->where >> UNIT_SHIFT == ((uint64_t)segment << UNIT_BITS | unit);
}

void index_touch(struct index_slot *slot)
{
	if ((slot->where & FREQ_MASK) != FREQ_MASK)
		slot->where += UINT64_C(1) << FREQ_SHIFT;
}

void index_set_freq(struct index_slot *slot, uint8_t freq)
{
	HAUL_ASSERT(freq <= INDEX_FREQ_MAX);
	slot->where = (slot->where & ~FREQ_MASK) | (uint64_t)freq << FREQ_SHIFT;
}

void index_set_expiry(struct index_slot *slot, uint32_t expiry)
{
	HAUL_ASSERT(slot->hash != 0);
	slot->expiry = expiry;
}

void index_each(const struct index *index, void (*visit)(const struct index_slot *slot, void *arg),
		void *arg)
{
	for (uint64_t i = 0; i < index->slot_count; i++) {
		if (index->slots[i].hash)
			visit(&index->slots[i], arg);
	}
}

/* A slot that moves into a hole comes from behind it, so it is still to be looked at; or, in the
 * run that wraps, from the table's start, where it was looked at, and kept, before. */
uint64_t index_delete_if(struct index *index,
			 bool (*match)(const struct index_slot *slot, void *arg), void *arg)
{
	uint64_t deleted = 0;
	for (uint64_t i = 0; i < index->slot_count; i++) {
		struct index_slot *slot = &index->slots[i];
		while (slot->hash && match(slot, arg)) {
			index_delete(index, slot);
			deleted++;
		}
	}
	return deleted;
}
