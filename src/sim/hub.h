/* sim/hub.h — the air between the nodes: Ethernet frames from TAP to TAP through channels.
 *
 * Model      A hub has media (the radio, a wired segment), each with a channel of its own. A node
 *            is attached to a medium by a TAP interface that lives in the node's namespace while
 *            its descriptor stays here. One thread reads all TAPs, hands frames to the channel of
 *            their medium, and writes to the TAPs what arrives. A frame goes to the node whose TAP
 *            has its destination address, or to all in range for a group address.
 *            A schedule, called on the hub's thread, changes links as time passes.
 * Units      ns of one monotonic clock.
 * Ownership  the hub owns channels and TAPs; the caller owns the schedule's argument.
 * Memory     all before hub_start.
 * Threads    open, attach, start, stop, close: one thread. Between start and stop channels may be
 *            touched only by the schedule, and by others between hub_lock and hub_unlock.
 * Errors     -errno with text. A TAP that breaks while running is left out; see hub_port.failed.
 * Blocking   hub_attach and hub_stop do; hub_lock for at most one turn.
 * Limits     HUB_MEDIA_MAX media. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/err.h>
#include <haul/stats.h>
#include "sim/channel.h"

enum { HUB_MEDIA_MAX = 2, HUB_ETHER_BYTES = 14 };

struct hub;

/* What a node's place on a medium saw. */
struct hub_port {
	bool attached;
	int failed; /* the code that broke it, 0 = works */
	uint64_t mac;
	uint64_t unknown;  /* frames it sent to an address nobody has */
	uint64_t no_frame; /* frames it sent while every frame of the channel was in use */
	uint64_t unsent;   /* refused by its interface, or too long for the medium */
};

/* Make the changes that are due at now_ns; returns when the next is, INT64_MAX = never. */
typedef int64_t hub_schedule(void *arg, struct hub *hub, int64_t now_ns);

/* media: one channel_options each, all with the same node_count. */
int hub_open(const struct channel_options *media, uint32_t media_count, struct hub **ret_hub,
	     struct haul_err *err);
/* Stops first if need be. NULL is allowed. */
void hub_close(struct hub *hub);

/* Make the interface ifname in that namespace, up, carrying IP packets of mtu_bytes. */
struct hub_attach {
	uint32_t medium;
	uint32_t node;
	int netns_fd;
	const char *ifname;
	uint32_t mtu_bytes; /* + HUB_ETHER_BYTES is at most the channel's frame_bytes_max */
};
int hub_attach(struct hub *hub, const struct hub_attach *attach, struct haul_err *err);

/* schedule may be NULL. It is called first before any frame is carried. */
int hub_start(struct hub *hub, hub_schedule *schedule, void *arg, struct haul_err *err);
void hub_stop(struct hub *hub);
/* Have the schedule called soon, whatever it said last. */
void hub_wake(struct hub *hub);

void hub_lock(struct hub *hub);
void hub_unlock(struct hub *hub);
struct channel *hub_channel(struct hub *hub, uint32_t medium);
const struct hub_port *hub_port(const struct hub *hub, uint32_t medium, uint32_t node);
/* The node with this address on the medium; -ENOENT if there is none. */
int hub_node_of(const struct hub *hub, uint32_t medium, uint64_t mac);
/* How much later than due frames were handed over: the precision of the hub. */
const struct haul_hist *hub_late_ns(const struct hub *hub);
