/* node/bundle.h — frames in, messages out: small frames to one node share a message.
 *
 * Model      Frames are pushed a run at a time, each run for one node. A large frame becomes a data
 *            message by a header in its own headroom: nothing is copied. Small frames (at most
 *            BUNDLE_SMALL_BYTES_MAX) are gathered, one open aggregate a destination, up to what the
 *            link carries; one that stays alone leaves as a plain data message. Messages go to the
 *            send batch of their port, in order for every destination: a large frame first closes
 *            the aggregate before it. haul_gate alone decides what closes when.
 * Units      bytes; ns of the clock whose time bundle_turn is told.
 * Ownership  rows that come out point into the frames that went in or into the bundle's arena. Both
 *            must stay until the send batches have been sent; then bundle_sent takes the arena
 *            back. Pushed rows are changed (their header is put in place) unless the run is shared.
 * Memory     all at open.
 * Threads    one.
 * Errors     bundle_push takes fewer rows than it was given when a send batch or the arena is full:
 *            send what is there, call bundle_sent, and push the rest. A frame that no message to
 *            that port can hold is dropped and counted.
 * Limits     BUNDLE_OPEN_MAX destinations at once; one more closes the oldest. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <haul/batch.h>
#include <haul/frames.h>
#include <haul/stats.h>
#include "node/hop.h"
#include "node/snapshot.h"

enum {
	BUNDLE_SMALL_BYTES_MAX = 512,
	BUNDLE_MESSAGE_BYTES_MAX = 9216, /* of an aggregate, whatever the link would carry */
	BUNDLE_OPEN_MAX = 48,
	BUNDLE_ARENA_BYTES = 1 << 20
};

#define BUNDLE_COUNTER_LIST(X)                                                                     \
	X(BUNDLE_AGGREGATES, "aggregates", "messages that carry several frames")                   \
	X(BUNDLE_AGGREGATED, "aggregated", "frames that left in such messages")                    \
	X(BUNDLE_LONE, "lone", "small frames that left alone")                                     \
	X(BUNDLE_LARGE, "large", "large frames, each a message without a copy")                    \
	X(BUNDLE_COPIED, "copied", "large frames whose headers were copied: floods in two pieces") \
	X(BUNDLE_EVICTED, "evicted", "aggregates closed because too many were open")               \
	X(BUNDLE_DROP_TOO_BIG, "drop_too_big", "frames that no message to that port can hold")

enum bundle_counter {
#define X(id, name, help) id,
	BUNDLE_COUNTER_LIST(X)
#undef X
		BUNDLE_COUNTERS
};

struct bundle_options {
	uint64_t self;                  /* node id: origin of all messages */
	uint64_t sequence;              /* first sequence number */
	uint32_t ttl;                   /* of all messages, 1 … 255 */
	bool individual;                /* every frame is a message of its own */
	struct haul_limits limits;      /* of one aggregate */
	uint32_t mtu_bytes[NODE_PORTS]; /* largest message a port carries; 0 = no such port */
	struct haul_send_batch *out; /* NODE_PORTS batches of at least 2 * BUNDLE_OPEN_MAX rows */
	struct haul_stats_table *stats; /* may be NULL */
};

struct bundle;

int bundle_open(const struct bundle_options *options, struct bundle **ret_bundle);
/* NULL is allowed. */
void bundle_close(struct bundle *bundle);

/* A turn begins. predicted: frames expected within limits.wait_max_ns, as haul_sizer_predict says;
 * less than 2 means that nothing is worth waiting for. */
void bundle_turn(struct bundle *bundle, int64_t now_ns, uint32_t predicted);

struct bundle_run {
	struct haul_frames *frames;
	uint32_t first;
	uint32_t count;
	bool shared; /* the rows are needed again: leave columns and bytes as they are */
};

/* Queue a run for the node to->node by the way to->next. Partial checksums have offsets that a
 * message can tell (1 … 255). Returns rows taken, in order from the first. */
uint32_t bundle_push(struct bundle *bundle, const struct bundle_run *run, const struct route *to);

/* Rows that other messages may still take of a port's send batch. */
uint32_t bundle_room(const struct bundle *bundle, uint32_t port);

/* Close what the gate closes now. Returns when to call again at the latest: INT64_MAX when nothing
 * is open. */
int64_t bundle_close_due(struct bundle *bundle);
/* Close everything, for a reason of the caller's. */
void bundle_close_all(struct bundle *bundle, enum haul_close reason);
/* All send batches have been sent and cleared. */
void bundle_sent(struct bundle *bundle);

/* Frames waiting in open aggregates. */
uint32_t bundle_waiting(const struct bundle *bundle);
const struct haul_stats *bundle_stats(const struct bundle *bundle);
