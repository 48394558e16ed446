/* node/net.h — a network of controls in simulated time: radio links with latency and loss, and a
 * perfect backhaul between all RSUs. Same seed, same run.
 *
 * Node i is addressed on the radio as peer i + 1; RSUs number the other RSUs 1, 2, … in the order
 * they were added. Everything sent is decoded by haul_messages_decode on arrival. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/message.h>
#include "base/prng.h"
#include "node/control.h"
#include "os/os.h"

enum { NET_NODES_MAX = 128, NET_PERIOD_MS = 100 };

#define NET_PERIOD_NS (NET_PERIOD_MS * NS_PER_MS)

struct net_link {
	bool up;
	double loss; /* 0 … 1 */
	int64_t latency_ns;
};

struct net_node {
	struct control *control;
	struct snapshot *snapshot; /* the newest */
	struct control_options options;
	bool on;
	int64_t due_ns;
	uint64_t snapshots; /* published so far */
};

struct net_message;

struct net {
	struct prng prng;
	int64_t now_ns;
	uint32_t count;
	struct net_node node[NET_NODES_MAX];
	struct net_link link[NET_NODES_MAX][NET_NODES_MAX]; /* [from][to] */
	struct control_options options;                     /* of the next node */
	struct net_message *heap;                           /* what is on its way, soonest first */
	uint32_t heap_count;
	uint32_t heap_capacity;
	uint64_t sent; /* messages put on a link, which breaks ties of time */
	/* Called after every step that may have changed a route; may be NULL. */
	void (*check)(struct net *net, void *arg);
	void *check_arg;
	struct haul_messages messages; /* work space */
	struct haul_frames frames;
};

struct net *net_open(uint64_t seed);
void net_close(struct net *net);

uint64_t net_id(uint32_t node);     /* its node id */
uint64_t net_client(uint32_t node); /* the address of its TAP */

/* Returns its number. All RSUs before the first run. */
uint32_t net_add(struct net *net, enum node_role role);
/* Both directions. */
void net_join(struct net *net, uint32_t a, uint32_t b, double loss);
void net_part(struct net *net, uint32_t a, uint32_t b);
/* Off: neither sends nor hears. On again: with a later boot time and an empty memory. */
void net_off(struct net *net, uint32_t node);
void net_on(struct net *net, uint32_t node);

void net_run(struct net *net, int64_t for_ns);

uint64_t net_counter(const struct net *net, uint32_t node, enum control_counter counter);
/* The node that is the chosen RSU of an OBU, UINT32_MAX if none. */
uint32_t net_chosen(const struct net *net, uint32_t node);

/* Where a message for a node ends when each node on its way looks into its own snapshot. */
enum net_end { NET_ARRIVES, NET_NO_ROUTE, NET_LOST, NET_CIRCLE };
struct net_walk {
	enum net_end end;
	uint32_t last;  /* where it ended */
	uint32_t hops;  /* radio links crossed */
	uint32_t steps; /* backhaul included */
};
struct net_walk net_walk(const struct net *net, uint32_t from, uint32_t to);
/* The same for a frame: from an OBU to its chosen RSU first. */
struct net_walk net_walk_frame(const struct net *net, uint32_t from, uint32_t to);
