/* disk/index.h — where each entry is: an open-addressed table of 24-byte slots.
 *
 * Model      Linear probing with backward-shift deletion, at most four fifths full, so 24 bytes a
 *            slot make 30 an entry. A slot knows the whole hash, where the value is, its expiry,
 *            how often it was read (2 bits) and half of its checksum. Keys are not kept: 64 bits
 *            of hash find the slot, 32 bits of a checksum seeded by other 64 bits of hash verify
 *            what was read.
 *            With an order of use, each slot has two links beside it, in a second array; they
 *            follow slots that move. An entry enters the order when it is used.
 * Ownership  slots stay in place until the next put or delete.
 * Memory     all at index_init (huge pages asked for); the order takes 8 bytes a slot, 10 an entry.
 * Threads    one.
 * Errors     put: HAUL_EFULL when entries_max are in. init: -ENOMEM; -EINVAL: 0, or over 2^31. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { INDEX_FREQ_MAX = 3 };

#define INDEX_NONE UINT32_MAX

enum index_codec { INDEX_RAW, INDEX_LZ4, INDEX_ZSTD };

struct index_slot {
	uint64_t hash; /* 0 = empty (a hash of 0 is stored as 1) */
	uint64_t
		where; /* segment 18 | unit 20 | bytes 21 | freq 2 | has client flags 1 | codec 2 */
	uint32_t expiry;
	uint32_t check; /* low half of the checksum */
};

/* A slot, unpacked. */
struct index_entry {
	uint64_t hash;
	uint32_t segment;
	uint32_t unit;
	uint32_t bytes;
	uint32_t expiry;
	uint32_t check;
	uint8_t freq;
	uint8_t codec; /* enum index_codec; 3 = an object's head (raw) */
	bool has_flags;
};

enum { INDEX_HEAD = 3 };

/* Neighbours of a slot in the order of use, by slot number. */
struct index_link {
	uint32_t newer,
		older; /* INDEX_NONE = none; a slot that is its own `newer` is in no order */
};

struct index {
	struct index_slot *slots;
	struct index_link *links; /* NULL = no order is kept */
	uint32_t newest, oldest;
	uint64_t slot_count; /* entries_max * 5 / 4 + 1: no power of two */
	uint64_t count;
	uint64_t entries_max;
	uint64_t heads;  /* entries that are an object's head */
	uint64_t bytes;  /* of stored values that are referred to */
	uint64_t memory; /* bytes taken */
};

int index_init(struct index *index, uint64_t entries_max);
/* Keep an order of use from now on, while the index is empty. -ENOMEM. */
int index_order_init(struct index *index);
void index_done(struct index *index);
void index_clear(struct index *index);
/* NULL = not there. */
struct index_slot *index_find(const struct index *index, uint64_t hash);
/* Prefetch what index_find will touch: for batches. */
void index_prefetch(const struct index *index, uint64_t hash);
/* Insert, or replace what is there. */
int index_put(struct index *index, const struct index_entry *entry);
/* The same in two steps: the slot that has it, or the empty one (hash 0) where it would go; and
 * into it, when nothing else was put or deleted meanwhile. */
struct index_slot *index_place(const struct index *index, uint64_t hash);
int index_put_at(struct index *index, struct index_slot *slot, const struct index_entry *entry);
void index_delete(struct index *index, struct index_slot *slot);
void index_unpack(const struct index_slot *slot, struct index_entry *ret_entry);
/* Same segment and unit. */
bool index_is_at(const struct index_slot *slot, uint32_t segment, uint32_t unit);
/* Count a read, up to INDEX_FREQ_MAX; set. */
void index_touch(struct index_slot *slot);
void index_set_freq(struct index_slot *slot, uint8_t freq);
void index_set_expiry(struct index_slot *slot, uint32_t expiry);
/* Call visit for every slot; it may not change the table. */
void index_each(const struct index *index, void (*visit)(const struct index_slot *slot, void *arg),
		void *arg);
/* Delete what match says; for rare, whole-table work (a segment lost). Returns how many. match may
 * be asked about a slot more than once while it says no, never after it has said yes. */
uint64_t index_delete_if(struct index *index,
			 bool (*match)(const struct index_slot *slot, void *arg), void *arg);
/* The entry is the newest in the order of use; leaves it; which is the oldest (NULL = none). All do
 * nothing where no order is kept. */
void index_order_use(struct index *index, const struct index_slot *slot);
void index_order_leave(struct index *index, const struct index_slot *slot);
struct index_slot *index_order_oldest(const struct index *index);
