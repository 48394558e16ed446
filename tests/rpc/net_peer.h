/* rpc/net_peer.h — who else talks to a simulated server: copies, garbage, half frames, silence.
 *
 * Model      A few peers (net_sim.h) come and go. What one sends is a copy of a frame that a server
 *            took before, that frame with a byte changed, or a part of it; some never read. Who
 *            sent nonsense or a half stays until the server hangs up: it has to.
 * Ownership  net and prng are borrowed.
 * Threads    one. Errors: asserts. */
#pragma once

#include "net_sim.h"

enum { PEERS = 4, PEER_KEPT = 12 };

enum peer_kind { PEER_TWICE, PEER_DEAF, PEER_GARBAGE, PEER_HALF, PEER_KINDS };

struct peer {
	struct net_conn *conn; /* NULL: away */
	enum peer_kind kind;
	uint8_t *data; /* what it sends */
	uint32_t bytes, at;
};

struct net_peers {
	struct net *net;
	struct prng *prng;
	struct peer peer[PEERS];
	uint8_t *kept[PEER_KEPT];
	uint32_t kept_bytes[PEER_KEPT];
	uint64_t sent, hung_up; /* by peers, all they had; on them, by the server */
};

void peers_done(struct net_peers *peers);
/* A frame that a server has taken. */
void peers_keep(struct net_peers *peers, const uint8_t *data, uint32_t bytes);
/* One of them does something; busy: new ones come. */
void peers_turn(struct net_peers *peers, bool busy);
/* All are away. */
bool peers_rest(const struct net_peers *peers);
