/* A circular log of values with a table over it.
 *
 * Positions are counted in units of UNIT bytes and only rise; the place in the ring is the position
 * modulo the ring's units. An item lies in one piece: what is left at the ring's end before one
 * that does not fit there is filled with a dead item. Deleted and replaced values stay as dead
 * items until the tail passes them.
 *
 * A slot of the table is 32 bits of hash (also its home) and 32 bits of place + 1; whether an item
 * is the one sought, its whole hash says. The table is at most three quarters full: if small values
 * fill it before the ring is full, the oldest leave earlier.
 *
 * Work of a put is bounded: at most KEEP_MAX marked values are written again, then even marked ones
 * leave. */
#include "disk/ram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum {
	UNIT = 32,
	KEEP_MAX = 16,
	BYTES_MIN = 65536,    /* less is as good as none */
	BYTES_PER_SLOT = 256, /* of bytes_max */
	ITEM_SHARE = 8,       /* of the ring: no value takes more */
	MARK_READ = 1,
	MARK_HEAD = 2,
	MARK_DEAD = 4,
};

struct item {
	uint64_t hash;
	uint32_t bytes; /* of the value behind; of a dead filler too */
	uint32_t flags;
	uint32_t expiry;
	uint32_t marks;
	uint32_t units; /* of the item, this header included */
	uint32_t unused;
};
_Static_assert(sizeof(struct item) == UNIT, "a header is a unit");

static struct item *item_at(const struct ram *ram, uint64_t position)
{
	return (struct item *)(void *)(ram->ring + position * UNIT % ram->ring_bytes);
}

static uint64_t ring_units(const struct ram *ram)
{
	return ram->ring_bytes / UNIT;
}

int ram_init(struct ram *ram, uint64_t bytes_max)
{
	*ram = (struct ram){ .bytes_max = bytes_max };
	if (bytes_max < BYTES_MIN)
		return 0;
	uint64_t slots = BYTES_MIN / BYTES_PER_SLOT;
	while (slots * 2 * BYTES_PER_SLOT <= bytes_max && slots < UINT64_C(1) << 31)
		slots *= 2;
	uint64_t ring_bytes = (bytes_max - slots * sizeof *ram->table) / UNIT * UNIT;
	if (ring_bytes / UNIT >= UINT32_MAX)
		ring_bytes = (uint64_t)(UINT32_MAX - 1) * UNIT;
	uint8_t *ring = aligned_alloc(UNIT, ring_bytes);
	uint64_t *table = calloc(slots, sizeof *table);
	if (!ring || !table) {
		free(ring);
		free(table);
		return -ENOMEM;
	}
	ram->ring = ring;
	ram->ring_bytes = ring_bytes;
	ram->table = table;
	ram->mask = slots - 1;
	return 0;
}

void ram_done(struct ram *ram)
{
	free(ram->ring);
	free(ram->table);
	*ram = (struct ram){ 0 };
}

void ram_clear(struct ram *ram)
{
	if (!ram->ring)
		return;
	memset(ram->table, 0, (ram->mask + 1) * sizeof *ram->table);
	ram->head = ram->tail = ram->count = 0;
}

static uint64_t slot_make(const struct ram *ram, uint64_t hash, uint64_t position)
{
	return hash >> 32 << 32 | (position % ring_units(ram) + 1);
}

static uint64_t home_of(const struct ram *ram, uint64_t slot_or_hash)
{
	return slot_or_hash >> 32 & ram->mask;
}

static struct item *item_of(const struct ram *ram, uint64_t slot)
{
	return item_at(ram, (slot & UINT32_MAX) - 1);
}

/* Where in the table the hash is, or the empty place where its probe ends. */
static uint64_t probe(const struct ram *ram, uint64_t hash)
{
	uint64_t at = home_of(ram, hash);
	while (ram->table[at]) {
		if (ram->table[at] >> 32 == hash >> 32 &&
		    item_of(ram, ram->table[at])->hash == hash)
			break;
		at = (at + 1) & ram->mask;
	}
	return at;
}

static void delete_at(struct ram *ram, uint64_t hole)
{
	HAUL_ASSERT(ram->table[hole] != 0 && ram->count > 0);
	item_of(ram, ram->table[hole])->marks = MARK_DEAD;
	ram->count--;
	for (uint64_t at = (hole + 1) & ram->mask; ram->table[at]; at = (at + 1) & ram->mask) {
		uint64_t home = home_of(ram, ram->table[at]);
		if (((at - home) & ram->mask) >= ((at - hole) & ram->mask)) {
			ram->table[hole] = ram->table[at];
			hole = at;
		}
	}
	ram->table[hole] = 0;
}

bool ram_find(struct ram *ram, uint64_t hash, struct ram_value *ret_value)
{
	if (!ram->ring)
		return false;
	uint64_t slot = ram->table[probe(ram, hash)];
	if (!slot) {
		ram->misses++;
		return false;
	}
	struct item *item = item_of(ram, slot);
	HAUL_ASSERT(!(item->marks & MARK_DEAD));
	item->marks |= MARK_READ;
	ram->hits++;
	*ret_value = (struct ram_value){
		.data = (const uint8_t *)(item + 1),
		.bytes = item->bytes,
		.flags = item->flags,
		.expiry = item->expiry,
		.head = (item->marks & MARK_HEAD) != 0,
	};
	return true;
}

/* Units free at the head, up to the ring's end and in all. */
static bool fits(const struct ram *ram, uint32_t units)
{
	uint64_t left = ring_units(ram) - ram->head % ring_units(ram);
	uint64_t skip = left < units ? left : 0;
	return ram->head + skip + units - ram->tail <= ring_units(ram);
}

/* The next place for so many units, which fit; the ring's end is skipped if it is too short. */
static struct item *take(struct ram *ram, uint32_t units)
{
	uint64_t left = ring_units(ram) - ram->head % ring_units(ram);
	if (left < units) {
		*item_at(ram, ram->head) =
			(struct item){ .marks = MARK_DEAD, .units = (uint32_t)left };
		ram->head += left;
	}
	struct item *item = item_at(ram, ram->head);
	ram->head += units;
	HAUL_ASSERT(ram->head - ram->tail <= ring_units(ram));
	return item;
}

/* The oldest item leaves, or is written again at the head. */
static void pass_oldest(struct ram *ram, uint32_t *kept)
{
	HAUL_ASSERT(ram->tail < ram->head);
	struct item *item = item_at(ram, ram->tail);
	uint32_t units = item->units;
	ram->tail += units;
	if (item->marks & MARK_DEAD)
		return;
	uint64_t at = probe(ram, item->hash);
	HAUL_ASSERT(item_of(ram, ram->table[at]) == item);
	if (!(item->marks & MARK_READ) || *kept >= KEEP_MAX || !fits(ram, units)) {
		delete_at(ram, at);
		ram->evicted++;
		return;
	}
	/* Its new place may overlap the old one, also the filler's: the header is saved. */
	struct item header = *item;
	uint64_t left = ring_units(ram) - ram->head % ring_units(ram);
	uint64_t position = ram->head + (left < units ? left : 0);
	HAUL_ASSERT(position + units <= ram->tail + ring_units(ram));
	header.marks &= ~(uint32_t)MARK_READ;
	memmove(item_at(ram, position), item, (size_t)units * UNIT);
	struct item *moved = take(ram, units);
	*moved = header;
	ram->table[at] = slot_make(ram, header.hash, position);
	(*kept)++;
}

void ram_put(struct ram *ram, uint64_t hash, const struct ram_value *value)
{
	if (!ram->ring)
		return;
	ram_delete(ram, hash); /* an older value may not stay, whatever becomes of this one */
	uint64_t bytes = sizeof(struct item) + (uint64_t)value->bytes;
	if (bytes > ram->ring_bytes / ITEM_SHARE)
		return;
	uint32_t units = (uint32_t)((bytes + UNIT - 1) / UNIT);
	uint32_t kept = 0;
	while (!fits(ram, units) || (ram->count + 1) * 4 > (ram->mask + 1) * 3)
		pass_oldest(ram, &kept);
	struct item *item = take(ram, units);
	uint64_t position = ram->head - units;
	*item = (struct item){
		.hash = hash,
		.bytes = value->bytes,
		.flags = value->flags,
		.expiry = value->expiry,
		.marks = value->head ? MARK_HEAD : 0,
		.units = units,
	};
	if (value->bytes > 0)
		memcpy(item + 1, value->data, value->bytes);
	uint64_t at = probe(ram, hash);
	HAUL_ASSERT(ram->table[at] == 0);
	ram->table[at] = slot_make(ram, hash, position);
	ram->count++;
	ram->inserted++;
}

void ram_delete(struct ram *ram, uint64_t hash)
{
	if (!ram->ring)
		return;
	uint64_t at = probe(ram, hash);
	if (ram->table[at])
		delete_at(ram, at);
}
