/* link/peers.c — an open-addressed hash of addresses that another thread may read.
 *
 * Promise: peers_find gives the index an address has or had at some moment during the call.
 * How: linear probing over slots that are at most half full; removal shifts later entries back, so
 * there are no tombstones and probes stay short. The writer makes `sequence` odd before its first
 * store and even after its last; a reader whose two readings differ, or are odd, starts again.
 * All shared words are atomic, so a reader that loses the race reads stale words, never torn ones,
 * and the probe is bounded by PEERS_SLOTS even over a table in motion. */
#include "link/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"

_Static_assert((PEERS_SLOTS & (PEERS_SLOTS - 1)) == 0, "probing masks the hash");

/* The address as words; the first is never 0 for an address of a known kind. */
struct key {
	uint64_t word[PEERS_KEY_WORDS];
};

static struct key key_of(const struct haul_addr *addr)
{
	struct key key;
	HAUL_ASSERT(addr->kind != HAUL_ADDR_NONE);
	key.word[0] = (uint64_t)addr->kind << 16 | addr->port;
	memcpy(&key.word[1], addr->bytes, sizeof addr->bytes);
	return key;
}

static uint32_t key_slot(const struct key *key)
{
	uint64_t mixed = hash_u64(key->word[0] ^ hash_u64(key->word[1] ^ hash_u64(key->word[2])));
	return (uint32_t)mixed & (PEERS_SLOTS - 1);
}

static uint64_t key_word(const struct peers *peers, uint32_t peer, uint32_t word)
{
	return atomic_load_explicit(&peers->key[peer][word], memory_order_relaxed);
}

static bool key_is(const struct peers *peers, uint32_t peer, const struct key *key)
{
	return key_word(peers, peer, 0) == key->word[0] &&
	       key_word(peers, peer, 1) == key->word[1] && key_word(peers, peer, 2) == key->word[2];
}

static struct key key_load(const struct peers *peers, uint32_t peer)
{
	struct key key;
	for (uint32_t i = 0; i < PEERS_KEY_WORDS; i++)
		key.word[i] = key_word(peers, peer, i);
	return key;
}

static void key_store(struct peers *peers, uint32_t peer, const struct key *key)
{
	for (uint32_t i = 0; i < PEERS_KEY_WORDS; i++)
		atomic_store_explicit(&peers->key[peer][i], key->word[i], memory_order_relaxed);
}

static uint32_t slot_load(const struct peers *peers, uint32_t slot)
{
	return atomic_load_explicit(&peers->slot[slot], memory_order_relaxed);
}

static void slot_store(struct peers *peers, uint32_t slot, uint32_t value)
{
	atomic_store_explicit(&peers->slot[slot], value, memory_order_relaxed);
}

static void change_begin(struct peers *peers)
{
	uint32_t sequence = atomic_load_explicit(&peers->sequence, memory_order_relaxed);
	HAUL_ASSERT((sequence & 1) == 0);
	atomic_store_explicit(&peers->sequence, sequence + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

static void change_end(struct peers *peers)
{
	uint32_t sequence = atomic_load_explicit(&peers->sequence, memory_order_relaxed);
	HAUL_ASSERT((sequence & 1) == 1);
	atomic_store_explicit(&peers->sequence, sequence + 1, memory_order_release);
}

int peers_open(struct peers **ret_peers)
{
	struct peers *peers = calloc(1, sizeof *peers);
	if (peers == NULL)
		return -ENOMEM;
	/* The lowest index is on top of the stack; 0 is not in it. */
	for (uint32_t peer = HAUL_LINK_PEERS - 1; peer > 0; peer--)
		peers->free[peers->free_count++] = peer;
	*ret_peers = peers;
	return 0;
}

void peers_close(struct peers *peers)
{
	free(peers);
}

/* The slot that holds key, or the empty one where it belongs; PEERS_SLOTS when a reader races with
 * a change and sees neither. */
static uint32_t probe(const struct peers *peers, const struct key *key, uint32_t *ret_peer)
{
	uint32_t slot = key_slot(key);
	for (uint32_t i = 0; i < PEERS_SLOTS; i++) {
		uint32_t value = slot_load(peers, slot);
		if (value == 0 || key_is(peers, value - 1, key)) {
			*ret_peer = value;
			return slot;
		}
		slot = (slot + 1) & (PEERS_SLOTS - 1);
	}
	*ret_peer = 0;
	return PEERS_SLOTS;
}

int peers_find(const struct peers *peers, const struct haul_addr *addr)
{
	struct key key = key_of(addr);
	uint32_t before, after, peer;
	do {
		before = atomic_load_explicit(&peers->sequence, memory_order_acquire);
		(void)probe(peers, &key, &peer);
		atomic_thread_fence(memory_order_acquire);
		after = atomic_load_explicit(&peers->sequence, memory_order_relaxed);
	} while (before != after || (before & 1) != 0);
	return peer == 0 ? -ENOENT : (int)(peer - 1);
}

static void enter(struct peers *peers, uint32_t peer, const struct key *key, uint32_t slot)
{
	HAUL_ASSERT(slot < PEERS_SLOTS);
	change_begin(peers);
	key_store(peers, peer, key);
	slot_store(peers, slot, peer + 1);
	change_end(peers);
	peers->gso_bytes_max[peer] = UINT16_MAX;
}

int peers_add(struct peers *peers, const struct haul_addr *addr)
{
	struct key key = key_of(addr);
	uint32_t known;
	uint32_t slot = probe(peers, &key, &known);
	HAUL_ASSERT(slot < PEERS_SLOTS);
	if (known != 0)
		return (int)(known - 1);
	if (peers->free_count == 0)
		return HAUL_EFULL;
	uint32_t peer = peers->free[--peers->free_count];
	HAUL_ASSERT(peer > 0 && !peers_has(peers, peer));
	enter(peers, peer, &key, slot);
	return (int)peer;
}

void peers_set_broadcast(struct peers *peers, const struct haul_addr *addr)
{
	struct key key = key_of(addr);
	uint32_t known;
	uint32_t slot = probe(peers, &key, &known);
	HAUL_ASSERT(known == 0);
	HAUL_ASSERT(!peers_has(peers, 0));
	enter(peers, 0, &key, slot);
}

/* Empty a slot and close the gap: an entry further on moves back unless it would then stand before
 * the slot its hash names. */
static void slot_remove(struct peers *peers, uint32_t gap)
{
	uint32_t slot = gap;
	for (;;) {
		slot = (slot + 1) & (PEERS_SLOTS - 1);
		uint32_t value = slot_load(peers, slot);
		if (value == 0)
			break;
		struct key key = key_load(peers, value - 1);
		uint32_t home = key_slot(&key);
		if (((slot - home) & (PEERS_SLOTS - 1)) < ((slot - gap) & (PEERS_SLOTS - 1)))
			continue;
		slot_store(peers, gap, value);
		gap = slot;
	}
	slot_store(peers, gap, 0);
}

int peers_remove(struct peers *peers, uint32_t peer)
{
	static const struct key none;
	if (!peers_has(peers, peer))
		return -ENOENT;
	struct key key = key_load(peers, peer);
	uint32_t known;
	uint32_t slot = probe(peers, &key, &known);
	HAUL_ASSERT(known == peer + 1);
	HAUL_ASSERT(peers->free_count < HAUL_LINK_PEERS);
	change_begin(peers);
	slot_remove(peers, slot);
	key_store(peers, peer, &none);
	change_end(peers);
	if (peer != 0)
		peers->free[peers->free_count++] = peer;
	return 0;
}

int peers_addr(const struct peers *peers, uint32_t peer, struct haul_addr *ret_addr)
{
	if (!peers_has(peers, peer))
		return -ENOENT;
	struct key key = key_load(peers, peer);
	*ret_addr = (struct haul_addr){
		.kind = (uint8_t)(key.word[0] >> 16),
		.port = (uint16_t)key.word[0],
	};
	memcpy(ret_addr->bytes, &key.word[1], sizeof ret_addr->bytes);
	return 0;
}
