/* node/datapath_state.h — what the files of the datapath share: datapath.c (open, turn, send),
 * intake.c (from links to routes), switch.c (the RSU's switch). Nobody else includes it. */
#pragma once

#include <haul/frames.h>
#include "node/bundle.h"
#include "node/datapath.h"
#include "node/dedupe.h"
#include "node/switch.h"

enum {
	DATAPATH_INNER_FRAMES = HAUL_FRAMES_MAX, /* an aggregate of the smallest frames fits */
	DATAPATH_OUT_FRAMES = 1024,
	DATAPATH_COMMANDS_MAX = 64 /* of control, a turn */
};

struct datapath {
	struct datapath_options options;
	struct haul_link *link[NODE_PORTS];
	const struct snapshot *snapshot; /* of this turn; NULL before the first */
	int64_t now_ns;                  /* when this turn began */

	struct haul_frames rx[NODE_PORTS];
	struct haul_sizer sizer[NODE_PORTS];
	bool more[NODE_PORTS]; /* the last burst filled up: there may be more, without a signal */
	uint32_t unpolled;     /* frames received since the last ppoll */
	int64_t deadline_ns;   /* of what is open in bundle */

	struct haul_messages messages;
	struct dedupe *dedupe;
	uint64_t origin[DATAPATH_TURN_FRAMES_MAX]; /* of data messages, 0 for others */
	uint8_t fresh[DATAPATH_TURN_FRAMES_MAX];   /* not seen before */
	struct haul_frames inner;                  /* Ethernet frames out of messages for us */
	uint64_t *inner_origin;                    /* [inner.capacity] who sent each */
	uint64_t *owner; /* [inner.capacity] who is to get each: switch.c */
	struct switch_learnt learnt[SWITCH_LEARN_SLOTS];

	struct haul_send_batch out[NODE_PORTS];
	struct bundle *bundle;
	struct haul_send_batch urgent; /* messages of control, one port at a time */
	struct command command[DATAPATH_COMMANDS_MAX];

	bool told_control;                   /* this turn put something into the event ring */
	uint32_t polls;                      /* system calls of this turn */
	uint64_t counted[DATAPATH_COUNTERS]; /* of this turn; moved to stats at its end */
	bool entered;                        /* stats, in options.stats */
	struct haul_stats stats;
};

static inline void datapath_count(struct datapath *dp, enum datapath_counter counter, uint64_t n)
{
	dp->counted[counter] += n;
}

/* Send all that is queued (open aggregates stay open): afterwards every batch is empty. */
void datapath_flush(struct datapath *dp);
/* Queue one row; flushes first when the batch is full. */
void datapath_push(struct datapath *dp, uint32_t port, const struct haul_frame *row);
/* Queue rows of Ethernet frames for a node, as messages. */
void datapath_send(struct datapath *dp, const struct bundle_run *run, const struct route *to);
/* Queue Ethernet frames for our TAP. */
void datapath_deliver(struct datapath *dp, const struct haul_frames *frames, uint32_t first,
		      uint32_t count);
/* Hand an event to control. */
void datapath_tell(struct datapath *dp, const struct control_event *event);

/* intake.c: everything from one received burst of a port to the send batches. */
void intake_tap(struct datapath *dp);
void intake_wire(struct datapath *dp, uint32_t port);
