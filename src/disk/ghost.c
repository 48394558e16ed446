/* A ring of fingerprints in the order they came, and a table from a fingerprint to its place in the
 * ring: linear probing, at most half full, backward-shift deletion. The table has the fingerprints
 * as well, so that a probe stays within a cache line. A fingerprint that comes again
 * moves to the ring's newest place. A false positive needs equal fingerprints: with n hashes in the
 * ring, n / 2^32. */
#include "disk/ghost.h"

#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"

enum { ENTRIES_LIMIT = 1 << 28, RING_AHEAD = 8 };

static uint32_t fingerprint_of(uint64_t hash)
{
	uint32_t fingerprint = (uint32_t)(hash >> 32) ^ (uint32_t)hash;
	return fingerprint ? fingerprint : 1; /* 0 marks a free place in the ring */
}

static uint32_t home_of(const struct ghost *ghost, uint32_t fingerprint)
{
	return (fingerprint * UINT32_C(0x9e3779b1) >> 3) & ghost->mask;
}

int ghost_init(struct ghost *ghost, uint32_t entries_max)
{
	if (entries_max == 0 || entries_max > ENTRIES_LIMIT)
		return -EINVAL;
	uint32_t room = 2;
	while (room < 2 * entries_max)
		room *= 2;
	uint32_t *ring = calloc(entries_max, sizeof *ring);
	uint64_t *table = calloc(room, sizeof *table);
	if (!ring || !table) {
		free(ring);
		free(table);
		return -ENOMEM;
	}
	*ghost = (struct ghost){
		.ring = ring, .table = table, .count_max = entries_max, .mask = room - 1
	};
	return 0;
}

void ghost_done(struct ghost *ghost)
{
	free(ghost->ring);
	free(ghost->table);
	*ghost = (struct ghost){ 0 };
}

static uint32_t fingerprint_at(const struct ghost *ghost, uint32_t at)
{
	return (uint32_t)(ghost->table[at] >> 32);
}

void ghost_prefetch(const struct ghost *ghost, uint64_t hash)
{
	__builtin_prefetch(&ghost->table[home_of(ghost, fingerprint_of(hash))]);
}

/* Where in the table the fingerprint is, or the empty place where its probe ends. */
static uint32_t probe(const struct ghost *ghost, uint32_t fingerprint)
{
	uint32_t at = home_of(ghost, fingerprint);
	while (ghost->table[at] && fingerprint_at(ghost, at) != fingerprint)
		at = (at + 1) & ghost->mask;
	return at;
}

static void delete_at(struct ghost *ghost, uint32_t hole)
{
	HAUL_ASSERT(ghost->table[hole] != 0 && ghost->count > 0);
	ghost->ring[(uint32_t)ghost->table[hole] - 1] = 0;
	ghost->count--;
	for (uint32_t at = (hole + 1) & ghost->mask; ghost->table[at];
	     at = (at + 1) & ghost->mask) {
		uint32_t home = home_of(ghost, fingerprint_at(ghost, at));
		if (((at - home) & ghost->mask) >= ((at - hole) & ghost->mask)) {
			ghost->table[hole] = ghost->table[at];
			hole = at;
		}
	}
	ghost->table[hole] = 0;
}

void ghost_add(struct ghost *ghost, uint64_t hash)
{
	HAUL_ASSERT(ghost->ring != NULL);
	uint32_t fingerprint = fingerprint_of(hash);
	uint32_t at = probe(ghost, fingerprint);
	if (ghost->table[at])
		delete_at(ghost, at);
	uint32_t oldest = ghost->ring[ghost->next];
	uint32_t soon = ghost->ring[(ghost->next + RING_AHEAD) % ghost->count_max];
	__builtin_prefetch(&ghost->table[home_of(ghost, soon)]); /* will be the oldest */
	if (oldest)
		delete_at(ghost, probe(ghost, oldest));
	at = probe(ghost, fingerprint); /* deletions may have moved its end */
	ghost->ring[ghost->next] = fingerprint;
	ghost->table[at] = (uint64_t)fingerprint << 32 | (ghost->next + 1);
	ghost->count++;
	ghost->next = ghost->next + 1 == ghost->count_max ? 0 : ghost->next + 1;
	HAUL_ASSERT(ghost->count <= ghost->count_max);
}

bool ghost_has(const struct ghost *ghost, uint64_t hash)
{
	HAUL_ASSERT(ghost->ring != NULL);
	return ghost->table[probe(ghost, fingerprint_of(hash))] != 0;
}

bool ghost_take(struct ghost *ghost, uint64_t hash)
{
	HAUL_ASSERT(ghost->ring != NULL);
	uint32_t at = probe(ghost, fingerprint_of(hash));
	if (!ghost->table[at])
		return false;
	delete_at(ghost, at);
	return true;
}
