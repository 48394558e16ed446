#include "bpf/key_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"

enum { ROOM_MIN = 1024, ROOM_MAX = 1 << 30 };

void key_set_init(struct key_set *set, uint32_t key_size, uint64_t secret)
{
	HAUL_ASSERT(key_size > 0);
	*set = (struct key_set){ .key_size = key_size, .secret = secret };
}

void key_set_done(struct key_set *set)
{
	free(set->keys);
	free(set->slots);
	set->keys = NULL;
	set->slots = NULL;
	set->count = set->room = 0;
}

static uint64_t hash(const struct key_set *set, const uint8_t *key)
{
	uint64_t h = set->secret;

	for (uint32_t at = 0; at < set->key_size; at += sizeof h) {
		const uint32_t rest = set->key_size - at;
		uint64_t word = 0;
		memcpy(&word, key + at, rest < sizeof word ? rest : sizeof word);
		h = hash_u64(h ^ word) + set->secret;
	}
	return h;
}

static const uint8_t *key_at(const struct key_set *set, uint32_t index)
{
	HAUL_ASSERT(index < set->count);
	return set->keys + (size_t)index * set->key_size;
}

/* Where key is, or the empty slot where it belongs: the table is at most half full. */
static uint32_t slot_of(const struct key_set *set, const uint8_t *key)
{
	const uint32_t mask = 2 * set->room - 1;
	uint32_t at = (uint32_t)hash(set, key) & mask;

	while (set->slots[at] != 0 &&
	       memcmp(key_at(set, set->slots[at] - 1), key, set->key_size) != 0)
		at = (at + 1) & mask;
	return at;
}

static int grow_alloc(struct key_set *set, uint32_t room)
{
	uint32_t *slots = calloc(2 * (size_t)room, sizeof *slots);
	uint8_t *keys = slots == NULL ? NULL : realloc(set->keys, (size_t)room * set->key_size);

	if (keys == NULL) {
		free(slots);
		return -ENOMEM;
	}
	free(set->slots);
	set->keys = keys;
	set->slots = slots;
	set->room = room;
	for (uint32_t i = 0; i < set->count; i++)
		set->slots[slot_of(set, key_at(set, i))] = i + 1;
	return 0;
}

int key_set_load(struct key_set *set, const uint8_t *keys, uint32_t count)
{
	uint64_t room = set->room > 0 ? set->room : ROOM_MIN;

	while (room < (uint64_t)set->count + count)
		room *= 2;
	if (room > ROOM_MAX)
		return -ENOMEM;
	if (room > set->room && grow_alloc(set, (uint32_t)room) < 0)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *key = keys + (size_t)i * set->key_size;
		const uint32_t at = slot_of(set, key);
		if (set->slots[at] != 0)
			continue;
		HAUL_ASSERT(set->count < set->room);
		memcpy(set->keys + (size_t)set->count * set->key_size, key, set->key_size);
		set->slots[at] = ++set->count;
	}
	return 0;
}

bool key_set_has(const struct key_set *set, const void *key)
{
	return set->count > 0 && set->slots[slot_of(set, key)] != 0;
}
