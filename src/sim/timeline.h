/* sim/timeline.h — which links there are at a moment of the scenario.
 *
 * Model      Links that `links` names have the values given there, changed by `events`. Where
 *            radio.range_m is set, every other pair of nodes with a position has a link that
 *            follows from their distance d:
 *              loss     of a frame 1 / (1 + e^-m), m = 10 n log10(d / range) / TIMELINE_FADE_DB:
 *                       log-distance path loss with exponent n = TIMELINE_PATH_LOSS_EXPONENT and a
 *                       receiver that loses half of its frames at the range; independent a frame
 *              latency  radio.latency_ms + d / c: light takes 0.33 us for 100 m, no more
 *            and no link where more than TIMELINE_LOSS_MAX of the frames would be lost. Buildings,
 *            antennas, fading over time and interference are not modelled.
 * Units      seconds of the scenario; metres.
 * Threads    timeline_apply by whoever may touch the channel.
 * Errors     none: the scenario has been checked, and the channel is large enough by
 *            timeline_links_max. */
#pragma once

#include <stdint.h>

#include "sim/channel.h"
#include "sim/scenario.h"

#define TIMELINE_PATH_LOSS_EXPONENT 2.7
#define TIMELINE_FADE_DB            1.5
#define TIMELINE_LOSS_MAX           0.9
/* How often links of moving nodes are computed anew. */
#define TIMELINE_TICK_S 0.1

struct timeline {
	struct scenario *scenario; /* its links are what they are now */
	uint32_t event_next;
	double tick_next_s; /* < 0 = nothing was applied yet */
};

void timeline_init(struct timeline *timeline, struct scenario *scenario);
/* Directed links that may ever be up. */
uint32_t timeline_links_max(const struct scenario *scenario);
/* Set the links as of now_s, which never goes back; returns when the next change is due (INFINITY =
 * there is none). */
double timeline_apply(struct timeline *timeline, struct channel *channel, double now_s);
/* Where a node is at now_s; it must have a position. */
void timeline_position(const struct scenario_node *node, double now_s, double *ret_x_m,
		       double *ret_y_m);
/* Share of frames lost over that distance. */
double timeline_loss(double distance_m, double range_m);
