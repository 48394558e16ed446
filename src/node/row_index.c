#include "node/row_index.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"

static uint32_t home_of(const struct row_index *index, uint64_t key)
{
	return (uint32_t)hash_u64(key ^ index->secret) & index->mask;
}

int row_index_init(struct row_index *index, uint32_t capacity, uint64_t secret)
{
	HAUL_ASSERT(capacity >= 1 && capacity <= UINT32_C(1) << 24);
	uint32_t slots = 2;
	while (slots < 2 * capacity)
		slots *= 2;
	struct row_index_slot *memory = calloc(slots, sizeof *memory);
	if (memory == NULL)
		return -ENOMEM;
	*index = (struct row_index){
		.slots = memory, .secret = secret, .mask = slots - 1, .capacity = capacity
	};
	return 0;
}

void row_index_done(struct row_index *index)
{
	free(index->slots);
	*index = (struct row_index){ 0 };
}

/* The key's slot, or the empty one where it would go. There always is an empty one. */
static uint32_t slot_of(const struct row_index *index, uint64_t key)
{
	uint32_t at = home_of(index, key);

	HAUL_ASSERT(key != 0);
	while (index->slots[at].key != 0 && index->slots[at].key != key)
		at = (at + 1) & index->mask;
	return at;
}

uint32_t row_index_find(const struct row_index *index, uint64_t key)
{
	const struct row_index_slot *slot = &index->slots[slot_of(index, key)];

	return slot->key != 0 ? slot->row : ROW_INDEX_NONE;
}

void row_index_put(struct row_index *index, uint64_t key, uint32_t row)
{
	struct row_index_slot *slot = &index->slots[slot_of(index, key)];

	HAUL_ASSERT(slot->key == 0);
	HAUL_ASSERT(index->count < index->capacity);
	*slot = (struct row_index_slot){ .key = key, .row = row };
	index->count++;
}

void row_index_remove(struct row_index *index, uint64_t key)
{
	uint32_t hole = slot_of(index, key);

	HAUL_ASSERT(index->slots[hole].key == key);
	HAUL_ASSERT(index->count > 0);
	for (uint32_t at = (hole + 1) & index->mask; index->slots[at].key != 0;
	     at = (at + 1) & index->mask) {
		/* A key may fill the hole unless its home lies behind the hole (cyclically). */
		const uint32_t from_home =
			(at - home_of(index, index->slots[at].key)) & index->mask;
		if (from_home < ((at - hole) & index->mask))
			continue;
		index->slots[hole] = index->slots[at];
		hole = at;
	}
	index->slots[hole] = (struct row_index_slot){ 0 };
	index->count--;
}
