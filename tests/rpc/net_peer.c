#include "net_peer.h"

#include <string.h>

#include "rpc/store_wire.h"

void peers_keep(struct net_peers *peers, const uint8_t *data, uint32_t bytes)
{
	const uint32_t at = prng_below(peers->prng, PEER_KEPT);

	if (prng_below(peers->prng, 2) == 0)
		return;
	if (peers->kept[at] != NULL)
		test_free(peers->kept[at]);
	peers->kept[at] = test_malloc(bytes);
	peers->kept_bytes[at] = bytes;
	memcpy(peers->kept[at], data, bytes);
}

static void leave(struct peer *peer)
{
	net_hang_up(peer->conn);
	test_free(peer->data);
	peer->conn = NULL;
	peer->data = NULL;
}

static void come(struct net_peers *peers, struct peer *peer)
{
	const uint32_t from = prng_below(peers->prng, PEER_KEPT);
	_Alignas(8) uint8_t hello[WIRE_HELLO_BYTES];

	if (peers->kept[from] == NULL)
		return;
	peer->conn = net_dial(peers->net);
	if (peer->conn == NULL)
		return;
	const uint32_t bytes = wire_put_hello(hello, NULL, 0);
	peer->kind = (enum peer_kind)prng_below(peers->prng, PEER_KINDS);
	peer->bytes = bytes + peers->kept_bytes[from];
	peer->at = 0;
	peer->data = test_malloc(peer->bytes);
	memcpy(peer->data, hello, bytes);
	memcpy(peer->data + bytes, peers->kept[from], peers->kept_bytes[from]);
	if (peer->kind == PEER_GARBAGE) {
		const uint32_t bits = 1 + prng_below(peers->prng, 255);
		peer->data[prng_below(peers->prng, peer->bytes)] ^= (uint8_t)bits;
	}
	if (peer->kind == PEER_HALF) {
		peer->bytes = prng_below(peers->prng, peer->bytes);
		peer->bytes -= peer->bytes == bytes; /* who has said hello may rest */
	}
	sim_trace(peers->net->threads, peer->bytes * PEER_KINDS + peer->kind);
}

/* Nothing of it is read, or all. false: the server has hung up. */
static bool listen_to(struct peer *peer)
{
	uint8_t away[4096];
	int got = 0;

	while (peer->kind != PEER_DEAF && (got = net_receive(peer->conn, away, sizeof away)) > 0)
		;
	return got >= 0;
}

static void go_on(struct net_peers *peers, struct peer *peer, bool busy)
{
	const bool waits = peer->kind == PEER_GARBAGE || peer->kind == PEER_HALF;

	if (!listen_to(peer)) {
		peers->hung_up++;
		leave(peer);
		return;
	}
	if (peer->at < peer->bytes) {
		const uint32_t some = 1 + prng_below(peers->prng, peer->bytes - peer->at);
		peer->at += net_send(peer->conn, peer->data + peer->at, some);
		peers->sent += peer->at == peer->bytes;
	}
	if (!waits && (!busy || prng_below(peers->prng, 64) == 0))
		leave(peer);
}

void peers_turn(struct net_peers *peers, bool busy)
{
	struct peer *peer = &peers->peer[prng_below(peers->prng, PEERS)];

	if (peer->conn != NULL)
		go_on(peers, peer, busy);
	else if (busy && prng_below(peers->prng, 64) == 0)
		come(peers, peer);
}

bool peers_rest(const struct net_peers *peers)
{
	bool rest = true;

	for (uint32_t i = 0; i < PEERS; i++)
		rest &= peers->peer[i].conn == NULL;
	return rest;
}

void peers_done(struct net_peers *peers)
{
	for (uint32_t i = 0; i < PEER_KEPT; i++) {
		if (peers->kept[i] != NULL)
			test_free(peers->kept[i]);
	}
}
