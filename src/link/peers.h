/* link/peers.h — the peer table of a link: address to index and back.
 *
 * Model      A peer is a small index that stays the same until the peer is removed; then it may be
 *            given out again. Index 0 is kept for the broadcast address.
 * Ownership  the back end that opened it.
 * Memory     all at open.
 * Threads    one thread changes the table; peers_find may run on one other at the same time. It
 *            reads under a sequence count: a change while it looks makes it look again.
 * Errors     peers_add: HAUL_EFULL. peers_find, peers_remove: -ENOENT.
 * Limits     HAUL_LINK_PEERS entries, the broadcast included. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include <haul/link.h>

enum {
	PEERS_SLOTS = 2 * HAUL_LINK_PEERS, /* a power of two; at most half full */
	PEERS_KEY_WORDS = 3,
	PEERS_SOCKADDR_BYTES = 28 /* sockaddr_in6 and sockaddr_ll fit */
};

struct peers {
	_Atomic uint32_t sequence; /* odd while the table changes */
	uint32_t free_count;
	_Atomic uint32_t slot[PEERS_SLOTS];                     /* index + 1, 0 = empty */
	_Atomic uint64_t key[HAUL_LINK_PEERS][PEERS_KEY_WORDS]; /* the address, 0 = free */
	_Alignas(8) uint8_t sockaddr[HAUL_LINK_PEERS][PEERS_SOCKADDR_BYTES]; /* tx thread only */
	uint16_t
		gso_bytes_max[HAUL_LINK_PEERS]; /* tx thread only: longer frames leave one by one */
	uint32_t free[HAUL_LINK_PEERS];         /* stack of indices not in use */
};

int peers_open(struct peers **ret_peers);
/* NULL is allowed. */
void peers_close(struct peers *peers);

/* Index of addr, which is entered if it is new. */
int peers_add(struct peers *peers, const struct haul_addr *addr);
/* Make addr peer 0. */
void peers_set_broadcast(struct peers *peers, const struct haul_addr *addr);
int peers_find(const struct peers *peers, const struct haul_addr *addr);
int peers_remove(struct peers *peers, uint32_t peer);
/* -ENOENT when there is no such peer. */
int peers_addr(const struct peers *peers, uint32_t peer, struct haul_addr *ret_addr);

/* Whether peer may be sent to. */
static inline bool peers_has(const struct peers *peers, uint32_t peer)
{
	return peer < HAUL_LINK_PEERS &&
	       atomic_load_explicit(&peers->key[peer][0], memory_order_relaxed) != 0;
}
