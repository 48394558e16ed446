#include "sim/timeline.h"

#include <math.h>
#include <stddef.h>

#include "base/assert.h"
#include "os/os.h"

#define LIGHT_M_PER_S 299792458.0

void timeline_init(struct timeline *timeline, struct scenario *scenario)
{
	*timeline = (struct timeline){ .scenario = scenario, .tick_next_s = -1 };
}

/* ---- distance ---- */

double timeline_loss(double distance_m, double range_m)
{
	double margin_db;

	HAUL_ASSERT(distance_m >= 0 && range_m > 0);
	if (distance_m <= 0)
		return 0;
	margin_db = 10 * TIMELINE_PATH_LOSS_EXPONENT * log10(distance_m / range_m);
	return 1 / (1 + exp(-margin_db / TIMELINE_FADE_DB));
}

void timeline_position(const struct scenario_node *node, double now_s, double *ret_x_m,
		       double *ret_y_m)
{
	struct scenario_point from = { 0 };
	const struct scenario_point *to = NULL;
	double share;

	HAUL_ASSERT(node->x_m != NULL && node->y_m != NULL);
	from.x_m = *node->x_m;
	from.y_m = *node->y_m;
	for (uint32_t i = 0; i < node->path_count && to == NULL; i++) {
		if (node->path[i].at_s > now_s)
			to = &node->path[i];
		else
			from = node->path[i];
	}
	share = to == NULL ? 0 : (now_s - from.at_s) / (to->at_s - from.at_s);
	HAUL_ASSERT(share >= 0 && share <= 1);
	*ret_x_m = from.x_m + (to == NULL ? 0 : share * (to->x_m - from.x_m));
	*ret_y_m = from.y_m + (to == NULL ? 0 : share * (to->y_m - from.y_m));
}

static struct channel_link link_by_distance(const struct scenario *scenario, uint32_t a, uint32_t b,
					    double now_s)
{
	const struct scenario_medium *radio = &scenario->radio;
	struct channel_link link = { 0 };
	double a_x;
	double a_y;
	double b_x;
	double b_y;
	double distance_m;

	timeline_position(&scenario->nodes[a], now_s, &a_x, &a_y);
	timeline_position(&scenario->nodes[b], now_s, &b_x, &b_y);
	distance_m = hypot(a_x - b_x, a_y - b_y);
	link.loss = timeline_loss(distance_m, radio->range_m);
	link.up = link.loss <= TIMELINE_LOSS_MAX;
	link.latency_ns = (int64_t)(radio->latency_ms * (double)NS_PER_MS +
				    distance_m / LIGHT_M_PER_S * (double)NS_PER_S);
	link.jitter_ns = (int64_t)(radio->jitter_ms * (double)NS_PER_MS);
	return link;
}

static void set_both_ways(struct channel *channel, uint32_t a, uint32_t b,
			  const struct channel_link *link)
{
	int rc = channel_link_set(channel, a, b, link);

	HAUL_ASSERT(rc == 0);
	rc = channel_link_set(channel, b, a, link);
	HAUL_ASSERT(rc == 0);
}

static bool moves(const struct scenario_node *node)
{
	return node->path_count > 0;
}

/* Pairs that follow from distance; of these, only those of which one end moves unless all is
 * set. */
static void apply_distances(const struct scenario *scenario, struct channel *channel, double now_s,
			    bool all)
{
	for (uint32_t a = 0; a < scenario->nodes_count; a++) {
		const struct scenario_node *node = &scenario->nodes[a];

		for (uint32_t b = a + 1; b < scenario->nodes_count && node->x_m != NULL; b++) {
			const struct scenario_node *other = &scenario->nodes[b];

			if (other->x_m == NULL || (!all && !moves(node) && !moves(other)))
				continue;
			struct channel_link link = link_by_distance(scenario, a, b, now_s);
			set_both_ways(channel, a, b, &link);
		}
	}
}

/* ---- named links ---- */

static void apply_link(const struct scenario_link *named, struct channel *channel)
{
	struct channel_link link = { .up = !named->is_down,
				     .latency_ns = (int64_t)(named->latency_ms * (double)NS_PER_MS),
				     .jitter_ns = (int64_t)(named->jitter_ms * (double)NS_PER_MS),
				     .loss = named->loss,
				     .loss_in_burst = named->burst_loss,
				     .burst_enter = named->burst_enter,
				     .burst_leave = named->burst_leave,
				     .rate_bit_per_s = named->bandwidth_mbit * 1e6 };

	set_both_ways(channel, named->a_index, named->b_index, &link);
}

static void apply_event(struct scenario *scenario, const struct scenario_event *event,
			struct channel *channel)
{
	struct scenario_link *link = &scenario->links[event->link_index];

	if (event->up != NULL)
		link->is_down = !*event->up;
	if (event->latency_ms != NULL)
		link->latency_ms = *event->latency_ms;
	if (event->jitter_ms != NULL)
		link->jitter_ms = *event->jitter_ms;
	if (event->loss != NULL)
		link->loss = *event->loss;
	apply_link(link, channel);
}

/* ---- all ---- */

uint32_t timeline_links_max(const struct scenario *scenario)
{
	uint32_t placed = 0;

	for (uint32_t i = 0; scenario->radio.range_m > 0 && i < scenario->nodes_count; i++)
		placed += scenario->nodes[i].x_m != NULL;
	return 2 * scenario->links_count + placed * (placed > 0 ? placed - 1 : 0) + 1;
}

static bool any_moves(const struct scenario *scenario, double now_s)
{
	for (uint32_t i = 0; i < scenario->nodes_count; i++) {
		const struct scenario_node *node = &scenario->nodes[i];

		if (moves(node) && node->path[node->path_count - 1].at_s > now_s)
			return true;
	}
	return false;
}

double timeline_apply(struct timeline *timeline, struct channel *channel, double now_s)
{
	struct scenario *scenario = timeline->scenario;
	bool first = timeline->tick_next_s < 0;
	double next_s;

	if (scenario->radio.range_m > 0 && now_s >= timeline->tick_next_s) {
		apply_distances(scenario, channel, now_s, first);
		timeline->tick_next_s =
			any_moves(scenario, now_s) ? now_s + TIMELINE_TICK_S : (double)INFINITY;
	} else if (first) {
		timeline->tick_next_s = (double)INFINITY;
	}
	/* After the distances: a pair that is named does not follow from them. */
	for (uint32_t i = 0; i < scenario->links_count; i++)
		apply_link(&scenario->links[i], channel);
	while (timeline->event_next < scenario->events_count &&
	       scenario->events[timeline->event_next].at_s <= now_s)
		apply_event(scenario, &scenario->events[timeline->event_next++], channel);
	next_s = timeline->tick_next_s;
	if (timeline->event_next < scenario->events_count &&
	    scenario->events[timeline->event_next].at_s < next_s)
		next_s = scenario->events[timeline->event_next].at_s;
	return next_s;
}
