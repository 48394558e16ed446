/* node/switch.h — an RSU's layer-2 switch: own TAP, OBUs below, other RSUs over the backhaul.
 *
 * Model      The destination MAC of a frame names a client, the client its owner, the owner a
 *            route. A frame for a group or for nobody known is flooded: to our TAP, to every OBU
 *            attached here, and to the other RSUs. Two rules keep it free of loops: a frame never
 *            goes back to the node it came from, and what came over the backhaul never leaves over
 *            the backhaul (split horizon: every RSU reaches every other directly). A source MAC
 *            that is not where the snapshot has it is told to control, at most once in
 *            SWITCH_LEARN_NS for each.
 * Units      ns.
 * Ownership  rows stay the caller's; they must stay valid until the datapath's next flush.
 * Memory     none.
 * Threads    the datapath's.
 * Errors     drops are counted in the datapath's statistics. */
#pragma once

#include <stdint.h>

#include <haul/frames.h>
#include "node/snapshot.h"

struct datapath;

enum { SWITCH_LEARN_SLOTS = 256, SWITCH_LEARN_NS = 100000000 };

/* What control was told lately: direct-mapped by MAC. */
struct switch_learnt {
	uint64_t mac;
	uint64_t owner;
	int64_t again_ns; /* not before */
};

/* Frames that came in by one port. origin[i] is the node that sent frame i; NULL: all are from our
 * own TAP. */
struct switch_input {
	struct haul_frames *frames;
	const uint64_t *origin;
	uint32_t port; /* enum node_port */
};
void switch_frames(struct datapath *dp, const struct switch_input *input);

/* A frame of origin has mac as its source: mark the client as alive, or tell control of it. */
void switch_source(struct datapath *dp, uint64_t mac, uint64_t origin);
