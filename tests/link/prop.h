/* link/prop.h — the property of every link: what is sent in bursts arrives as if it had been sent
 * one frame at a time: byte for byte, in order for each lane, once, and nothing is missing but the
 * frames whose status says so.
 *
 * Model      A stream is a random list of frames. It is carried over a path in random bursts, with
 *            frames that were told "full" sent again in order, while a model applies the statuses.
 *            Then the frames that were not refused are carried over a second path one at a time.
 *            All three logs must be equal.
 *            A lane is what keeps its order: a peer, or unicast and broadcast to one receiver. */
#pragma once

#include <stdint.h>

#include <haul/link.h>
#include "base/prng.h"

enum { PROP_LANES = 4, PROP_ETHERNET = 14 };

struct prop_path {
	struct haul_link *from;
	struct haul_link *to[PROP_LANES];
	uint32_t to_count; /* 1: lane 0 is broadcast, lane 1 unicast; else a lane a receiver */
	uint32_t lanes;
	uint32_t peer[PROP_LANES];
	uint32_t burst_max; /* frames a tx, 1 = one at a time */
	bool tx_header;     /* frames sent start with the Ethernet header of the lane */
	bool rx_header;     /* frames received do; other EtherTypes are not ours */
	uint8_t header[PROP_LANES][PROP_ETHERNET];
	/* Called before each tx, to make something go wrong; may be NULL. */
	void (*disturb)(struct haul_link *from, struct prng *prng);
};

struct prop_case {
	struct prop_path *bursts;
	struct prop_path *singles;
	uint32_t bytes_min; /* of a frame, without Ethernet header */
	uint32_t bytes_max;
};

/* What all cases added up to, so that a test can see that it tried what it meant to. */
struct prop_totals {
	uint64_t frames;
	uint64_t again;   /* times a frame was sent again */
	uint64_t refused; /* frames lost with a status */
};

/* Run count random cases, from a seed that is printed. */
void prop_run(const struct prop_case *prop, uint32_t count, struct prop_totals *ret_totals);
