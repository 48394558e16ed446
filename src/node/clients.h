/* node/clients.h — behind which node is which MAC address?
 *
 * Model      Nodes declare the address of their TAP in their replies; all others are learnt from
 *            the sources of frames. The newest statement wins, but nobody can take away our own
 *            TAP's address. What nobody has used for CLIENTS_AGE_NS is forgotten. Learnt addresses
 *            leave room for one declared address of every node, so a flood of made-up sources shuts
 *            out other learnt ones at most.
 * Units      ns of one monotonic clock.
 * Ownership  row[] is for snapshot_build to copy.
 * Memory     all in clients_init.
 * Threads    one.
 * Errors     -EINVAL: not an address a station has, or our own. HAUL_EFULL. clients_init: -ENOMEM.
 * Limits     NODE_CLIENTS_MAX. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "node/row_index.h"
#include "node/snapshot.h"

#define CLIENTS_AGE_NS  INT64_C(300000000000)
#define CLIENTS_SCAN_NS INT64_C(5000000000)

struct clients {
	struct row_index index; /* mac -> row */
	struct client *row;     /* dense: 0 … count-1 */
	int64_t *used_ns;       /* of each row: when it was last heard from; INT64_MAX = for ever */
	uint32_t count;
	uint64_t self;
	uint64_t version; /* rises whenever what is to be published changes */
};

/* An address that one station can have: not 0, no group, no more than 48 bits. */
bool clients_is_station(uint64_t mac);

int clients_init(struct clients *clients, uint64_t self, uint64_t secret);
void clients_done(struct clients *clients);

struct client_news {
	uint64_t mac;
	uint64_t owner;
	bool declared; /* by its owner, not learnt */
	int64_t now_ns;
};
/* 1 when the table has changed, 0 when it was known. */
int clients_learn(struct clients *clients, const struct client_news *news);
/* The datapath has seen this address as a source. */
void clients_used(struct clients *clients, uint64_t mac, int64_t now_ns);
/* Forget what is too old; returns how many. */
uint32_t clients_expire(struct clients *clients, int64_t now_ns);
