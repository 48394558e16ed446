/* node/datapath.h — the thread that moves frames: TAP, radio and backhaul, a burst at a time.
 *
 * Model      One turn: wait until a link or control has something; send what control has queued;
 *            then, for each ready link, receive a burst, decode all of it, drop what was seen
 *            before, route all of it against the snapshot, and queue it in the send batch of its
 *            next port; at the end of the turn every batch is sent. A relayed message is not
 *            copied: its TTL is lowered where it lies and it is sent from there. While anything is
 *            queued no turn waits; with nothing to do the thread sleeps in ppoll.
 *            OBU: frames from its TAP go up to the chosen RSU, frames that come down go to its TAP.
 *            RSU: node/switch.h.
 * Units      times in ns of os->now_ns.
 * Ownership  links, mailbox and os are the caller's and outlive the datapath.
 * Memory     all at open.
 * Threads    one calls all; others may read the statistics.
 * Errors     datapath_turn: a negative code when a link is broken for good. Everything a frame can
 *            suffer is a counter (enum datapath_counter): nothing vanishes in silence.
 * Blocking   datapath_turn, in ppoll only.
 * Limits     DATAPATH_TURN_FRAMES_MAX frames a link and turn; the sizer may say fewer.
 *
 * Who is believed: peers are learnt only from well-formed heartbeats and replies, so that stray
 * datagrams cannot fill the table. Data from an address that is not (or no longer) a peer is still
 * taken when its destination is us or has a route: an address proves nothing until messages are
 * sealed, and a neighbour that was just forgotten should not lose its frames. The backhaul has
 * configured peers: there, whatever comes from elsewhere is dropped. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/batch.h>
#include <haul/link.h>
#include <haul/message.h>
#include <haul/stats.h>
#include "node/hop.h"
#include "node/mailbox.h"
#include "os/os.h"

enum { DATAPATH_TURN_FRAMES_MAX = 256, DATAPATH_ORIGINS_MAX = NODE_ROUTES_MAX };

/* The first HAUL_REJECTS counters are haul/message.h's. X(id, name, help) */
#define DATAPATH_COUNTER_LIST(X)                                                                   \
	X(DATAPATH_DELIVERED, "delivered", "frames handed to our TAP")                             \
	X(DATAPATH_SENT, "sent", "frames sent towards another node, floods once a node")           \
	X(DATAPATH_RELAYED, "relayed", "messages passed on without a copy")                        \
	X(DATAPATH_FLOODED, "flooded", "frames to a group or to nobody known")                     \
	X(DATAPATH_LEARNT, "learnt", "sources of frames told to control")                          \
	X(DATAPATH_EVENTS, "events", "heartbeats and replies handed to control")                   \
	X(DATAPATH_COMMANDS, "commands", "messages of control sent")                               \
	X(DATAPATH_FLUSHES, "flushes", "send batches that filled up before the end of a turn")     \
	X(DATAPATH_LINK_DOWN, "link_down", "times a link said that its interface is down")         \
	X(DATAPATH_DROP_DUPLICATE, "drop_duplicate", "messages seen before")                       \
	X(DATAPATH_DROP_LOOP, "drop_loop", "messages of our own, or back to where they came from") \
	X(DATAPATH_DROP_TTL, "drop_ttl", "messages not passed on: time to live used up")           \
	X(DATAPATH_DROP_NO_ROUTE, "drop_no_route", "frames and messages with no way on")           \
	X(DATAPATH_DROP_SPLIT, "drop_split", "frames kept from going back where they came from")   \
	X(DATAPATH_DROP_DIRECTION, "drop_direction", "data up at an OBU, data down at an RSU")     \
	X(DATAPATH_DROP_STRANGER, "drop_stranger", "messages on the backhaul from no peer")        \
	X(DATAPATH_DROP_BROADCAST, "drop_broadcast", "data sent to all who hear it")               \
	X(DATAPATH_DROP_PEERS, "drop_peers", "control messages from one peer too many")            \
	X(DATAPATH_DROP_QUEUE, "drop_queue", "frames the kernel's full queue did not take")        \
	X(DATAPATH_DROP_SEND, "drop_send", "frames the kernel refused")                            \
	X(DATAPATH_DROP_EVENT, "drop_event", "events for control lost: its queue was full")        \
	X(DATAPATH_DROP_RUNT, "drop_runt", "frames shorter than an Ethernet header")

enum datapath_counter {
	DATAPATH_REJECT_LAST = HAUL_REJECTS - 1,
#define X(id, name, help) id,
	DATAPATH_COUNTER_LIST(X)
#undef X
		DATAPATH_COUNTERS
};

struct datapath_options {
	enum node_role role;
	uint64_t self;                      /* node id */
	uint64_t sequence;                  /* first sequence number of data */
	uint32_t ttl;                       /* of data we send */
	struct haul_link *link[NODE_PORTS]; /* tap and radio; backhaul may be NULL */
	struct haul_limits limits;          /* of an aggregate; see node/bundle.h */
	struct haul_sizer_options sizer;    /* frames a link and turn */
	bool individual;                    /* one frame a turn, every frame a message of its own */
	struct mailbox *mailbox;
	struct os *os;
	struct haul_stats_table *stats; /* may be NULL */
};

/* The limits of a turn that the sizer keeps to, for a policy and a preset. */
struct haul_sizer_options datapath_sizer(enum haul_sizer_policy policy,
					 const struct haul_limits *limits, bool individual);

struct datapath;

int datapath_open(const struct datapath_options *options, struct datapath **ret_datapath,
		  struct haul_err *err);
/* NULL is allowed. */
void datapath_close(struct datapath *dp);

/* One turn; sleeps wait_max_ns at most (0 = not at all, INT64_MAX = for ever). Returns the frames
 * it received. */
int datapath_turn(struct datapath *dp, int64_t wait_max_ns);
/* Turn until mailbox.stop, then send what is still open. 0, or what broke. */
int datapath_run(struct datapath *dp);

const struct haul_stats *datapath_stats(const struct datapath *dp);
const struct haul_stats *datapath_bundle_stats(const struct datapath *dp);
