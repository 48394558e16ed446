/* node/upstream.c — distance vectors without loops, carried by heartbeats.
 *
 * Promise: at no moment do the selected next hops of the network's nodes towards one RSU form a
 * circle, whatever is lost, late or moves; a next hop that falls silent is left within missed_max
 * heartbeats; of two ways of like quality the one in use stays in use.
 * How: heartbeats of an RSU are numbered. A node passes number n on once, when it comes from the
 * neighbour it has selected, with the hops of that way: its promise (n, hops). It may select a
 * neighbour only if what that neighbour said last is better than its own last promise: a later
 * number, or the same with fewer hops (the feasibility condition of DSDV and Babel).
 * Why it holds: order promises by (later number, fewer hops). A node's own promises only get
 * better. Whoever points at a neighbour did so when the neighbour's promise was better than its
 * own, and its own becomes as good as "one hop behind that neighbour's" at most. So along next hops
 * promises get strictly better, and a circle would need one better than itself.
 * What may break it: a node that restarts has forgotten its promise, and an RSU whose boot time
 * goes back starts new numbers below old ones. Both heal when the next number arrives; until then
 * TTL and duplicate suppression bound what a frame can do. */
#include "node/upstream.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "node/upstream_rank.h"
#include "os/os.h"

enum { AHEAD_MAX = 16 }; /* numbers skipped beyond what time explains */

void upstream_init(struct upstream *upstream, const struct control_options *options,
		   struct haul_stats *stats)
{
	HAUL_ASSERT(options->history >= 1 && options->history <= UPSTREAM_HISTORY_MAX);
	HAUL_ASSERT(options->candidates >= 1 && options->candidates <= CONTROL_CANDIDATES_MAX);
	HAUL_ASSERT(options->missed_max >= 1);
	*upstream = (struct upstream){
		.history = options->history,
		.candidates = options->candidates,
		.missed_max = options->missed_max,
		.stats = stats,
		.chosen = UPSTREAM_NONE,
	};
}

int64_t upstream_patience_ns(uint32_t missed_max, uint32_t period_ms)
{
	/* Half a period more: jitter moves a heartbeat by no more than that. */
	return (2 * (int64_t)missed_max + 1) * period_ms * NS_PER_MS / 2;
}

struct source *upstream_find(struct upstream *upstream, uint64_t rsu)
{
	HAUL_ASSERT(rsu != 0);
	for (uint32_t i = 0; i < UPSTREAM_SOURCES_MAX; i++)
		if (upstream->source[i].node == rsu)
			return &upstream->source[i];
	return NULL;
}

static bool is_alive(const struct upstream *u, const struct source *s, const struct candidate *c,
		     int64_t now_ns)
{
	HAUL_ASSERT((int32_t)(s->newest.id - c->heartbeat.id) >= 0);
	return !c->failed && s->newest.id - c->heartbeat.id < u->missed_max &&
	       now_ns - c->heard_ns <= upstream_patience_ns(u->missed_max, s->newest.period_ms);
}

/* The condition that keeps circles away; see the head of this file. */
static bool is_feasible(const struct source *s, const struct haul_heartbeat *said)
{
	if (!s->told || (int32_t)(said->id - s->told_id) > 0)
		return true;
	return said->id == s->told_id && said->hops < s->told_hops;
}

/* ---- select a neighbour, choose an RSU ---- */

static bool same_hop(struct hop a, struct hop b)
{
	return a.port == b.port && a.peer == b.peer;
}

static uint64_t hop_key(struct hop hop)
{
	return (uint64_t)hop.port << 32 | hop.peer;
}

static const struct candidate *selected_of(const struct source *s)
{
	return s->node != 0 && s->selected != UPSTREAM_NONE ? &s->candidate[s->selected] : NULL;
}

bool upstream_route(const struct source *source, struct route *ret_route)
{
	const struct candidate *c = selected_of(source);

	if (c == NULL)
		return false;
	*ret_route = (struct route){
		.node = source->node,
		.next = c->next,
		.role = NODE_RSU,
		.hops = rank_distance(c),
	};
	return true;
}

static void note_change(struct upstream *u, struct source *s)
{
	struct route now = { 0 };

	(void)upstream_route(s, &now);
	if (now.node == s->shown.node && same_hop(now.next, s->shown.next) &&
	    now.hops == s->shown.hops)
		return;
	s->shown = now;
	u->version++;
}

static void select_candidate(struct upstream *u, struct source *s, int64_t now_ns)
{
	if (s->selected != UPSTREAM_NONE && !is_alive(u, s, &s->candidate[s->selected], now_ns)) {
		haul_stats_count(u->stats, CONTROL_UPSTREAM_LOST, 1);
		s->selected = UPSTREAM_NONE;
		s->rival = (struct rival){ 0 };
	}
	const struct candidate *used = selected_of(s);
	int32_t best = UPSTREAM_NONE;
	for (uint32_t i = 0; i < s->count; i++) {
		const struct candidate *c = &s->candidate[i];
		if (c == used || !is_alive(u, s, c, now_ns) || !is_feasible(s, &c->heartbeat) ||
		    (used != NULL && !rank_takes_over(u->history, c, used)))
			continue;
		if (best == UPSTREAM_NONE || s->rival.who == hop_key(c->next) ||
		    (s->rival.who != hop_key(s->candidate[best].next) &&
		     rank_before(u->history, c, &s->candidate[best])))
			best = (int32_t)i;
	}
	if (best == UPSTREAM_NONE)
		return;
	if (used != NULL &&
	    !rank_confirm(&s->rival, hop_key(s->candidate[best].next), s->newest.id))
		return;
	s->selected = best;
	s->rival = (struct rival){ 0 };
	s->reply_due = true; /* the RSU and those between learn of the new way at once */
}

static void count_choice(struct upstream *u)
{
	const struct source *s = &u->source[u->chosen];
	const struct candidate *c = selected_of(s);

	HAUL_ASSERT(c != NULL);
	if (u->last_node == s->node && same_hop(u->last_next, c->next))
		return;
	u->last_node = s->node;
	u->last_next = c->next;
	haul_stats_count(u->stats, CONTROL_UPSTREAM_CHANGES, 1);
}

static void set_chosen(struct upstream *u, int32_t chosen)
{
	/* Both are told: the one that it is chosen, the other that it no longer is. */
	if (u->chosen != UPSTREAM_NONE)
		u->source[u->chosen].reply_due = true;
	if (chosen != UPSTREAM_NONE)
		u->source[chosen].reply_due = true;
	u->chosen = chosen;
	u->rival = (struct rival){ 0 };
	u->version++;
}

static void choose_rsu(struct upstream *u)
{
	const struct candidate *used =
		u->chosen != UPSTREAM_NONE ? selected_of(&u->source[u->chosen]) : NULL;
	int32_t best = UPSTREAM_NONE;

	if (used == NULL)
		u->rival = (struct rival){ 0 };
	for (int32_t i = 0; i < UPSTREAM_SOURCES_MAX; i++) {
		const struct source *s = &u->source[i];
		const struct candidate *c = selected_of(s);
		if (c == NULL || c == used ||
		    (used != NULL && !rank_takes_over(u->history, c, used)))
			continue;
		if (best == UPSTREAM_NONE || u->rival.who == s->node ||
		    (u->rival.who != u->source[best].node &&
		     rank_before(u->history, c, selected_of(&u->source[best]))))
			best = i;
	}
	const bool confirmed = used == NULL || (best != UPSTREAM_NONE &&
						rank_confirm(&u->rival, u->source[best].node,
							     u->source[best].newest.id));
	if (confirmed && best != u->chosen)
		set_chosen(u, best);
	if (u->chosen != UPSTREAM_NONE)
		count_choice(u);
}

static void settle(struct upstream *u, struct source *s, int64_t now_ns)
{
	select_candidate(u, s, now_ns);
	note_change(u, s);
	choose_rsu(u);
	HAUL_ASSERT(s->selected < (int32_t)s->count);
}

/* ---- hear ---- */

static bool is_silent(const struct upstream *u, const struct source *s, int64_t now_ns)
{
	return now_ns - s->newest_ns > upstream_patience_ns(u->missed_max, s->newest.period_ms);
}

static void source_start(struct source *s, const struct control_event *event)
{
	const struct route shown = s->shown;

	*s = (struct source){
		.node = event->header.origin,
		.epoch = (uint32_t)(event->header.sequence >> 32),
		.newest = event->reply.heartbeat,
		.newest_ns = event->now_ns,
		.selected = UPSTREAM_NONE,
		.shown = shown,
		.reply_due = true,
	};
}

/* A row for an RSU not heard before: a free one, or that of the longest silent. */
static struct source *source_new(struct upstream *u, const struct control_event *event)
{
	struct source *place = NULL;

	for (int32_t i = 0; i < UPSTREAM_SOURCES_MAX; i++) {
		struct source *s = &u->source[i];
		if (s->node == 0) {
			place = s;
			break;
		}
		if (i == u->chosen || !is_silent(u, s, event->now_ns))
			continue;
		if (place == NULL || s->newest_ns < place->newest_ns)
			place = s;
	}
	if (place != NULL)
		source_start(place, event);
	return place;
}

/* Not the selected one. */
static void candidate_remove(struct source *s, uint32_t i)
{
	const uint32_t last = s->count - 1;

	HAUL_ASSERT(i <= last && (int32_t)i != s->selected);
	s->candidate[i] = s->candidate[last];
	if (s->selected == (int32_t)last)
		s->selected = (int32_t)i;
	s->count = last;
}

static void source_advance(struct source *s, const struct control_event *event)
{
	const uint32_t by = event->reply.heartbeat.id - s->newest.id;

	HAUL_ASSERT((int32_t)by > 0);
	for (uint32_t i = s->count; i-- > 0;) {
		struct candidate *c = &s->candidate[i];
		c->heard = by < UPSTREAM_HISTORY_MAX ? c->heard << by : 0;
		c->expected = by < UPSTREAM_HISTORY_MAX - c->expected ? c->expected + by
								      : UPSTREAM_HISTORY_MAX;
		if (c->heard == 0 && (int32_t)i != s->selected)
			candidate_remove(s, i);
	}
	s->newest = event->reply.heartbeat;
	s->newest_ns = event->now_ns;
	s->reply_due = true;
}

/* Where does this heartbeat stand among those of its RSU? 0 when it counts. */
static int source_order(struct upstream *u, struct source *s, const struct control_event *event)
{
	const uint32_t epoch = (uint32_t)(event->header.sequence >> 32);
	const int64_t ahead = (int32_t)(event->reply.heartbeat.id - s->newest.id);
	const int64_t passed =
		(event->now_ns - s->newest_ns) / NS_PER_MS / event->reply.heartbeat.period_ms;
	int rc = 0;

	if (epoch < s->epoch || (epoch == s->epoch && ahead <= -UPSTREAM_HISTORY_MAX))
		rc = HAUL_ESTALE;
	else if (epoch == s->epoch && ahead > AHEAD_MAX + 2 * passed)
		rc = HAUL_ECORRUPT;
	/* After a silence anything is a new beginning: its clock may have gone back. */
	if (epoch > s->epoch || (rc < 0 && is_silent(u, s, event->now_ns)))
		source_start(s, event);
	else if (rc < 0)
		return rc;
	else if (ahead > 0)
		source_advance(s, event);
	return 0;
}

static struct candidate *candidate_find(struct source *s, struct hop next)
{
	for (uint32_t i = 0; i < s->count; i++)
		if (same_hop(s->candidate[i].next, next))
			return &s->candidate[i];
	return NULL;
}

/* Room for one more: a free place, else that of the worst if the newcomer is better. */
static struct candidate *candidate_new(struct upstream *u, struct source *s,
				       const struct candidate *newcomer)
{
	struct candidate *worst = NULL;

	if (s->count < u->candidates)
		return &s->candidate[s->count++];
	for (uint32_t i = 0; i < s->count; i++) {
		struct candidate *c = &s->candidate[i];
		if ((int32_t)i == s->selected)
			continue;
		if (!is_alive(u, s, c, newcomer->heard_ns))
			return c;
		if (worst == NULL || rank_before(u->history, worst, c))
			worst = c;
	}
	return worst != NULL && rank_before(u->history, newcomer, worst) ? worst : NULL;
}

static int candidate_heard(struct upstream *u, struct source *s, const struct control_event *event)
{
	const struct haul_heartbeat *said = &event->reply.heartbeat;
	const uint32_t behind = s->newest.id - said->id;
	const uint32_t bit = UINT32_C(1) << behind;
	struct candidate *c = candidate_find(s, event->from);
	HAUL_ASSERT(behind < UPSTREAM_HISTORY_MAX);
	if (c != NULL) {
		if ((c->heard & bit) != 0)
			return -EALREADY;
		c->heard |= bit;
		if (c->expected <= behind)
			c->expected = behind + 1;
		if ((int32_t)(said->id - c->heartbeat.id) < 0)
			return 0;
	} else {
		/* Whoever stands behind us only repeats what we said. */
		if (!is_feasible(s, said))
			return -EALREADY;
		const struct candidate newcomer = {
			.next = event->from,
			.heartbeat = *said,
			.heard = bit,
			.expected = behind + 1,
			.heard_ns = event->now_ns,
		};
		c = candidate_new(u, s, &newcomer);
		if (c == NULL)
			return HAUL_EFULL;
		*c = newcomer;
	}
	c->heartbeat = *said;
	c->sequence = event->header.sequence;
	c->ttl = event->header.ttl;
	c->heard_ns = event->now_ns;
	c->failed = false;
	return 0;
}

int upstream_heard(struct upstream *upstream, const struct control_event *event)
{
	const struct haul_heartbeat *said = &event->reply.heartbeat;
	struct source *s = upstream_find(upstream, event->header.origin);
	int rc = 0;

	if (said->period_ms < UPSTREAM_PERIOD_MS_MIN || said->period_ms > UPSTREAM_PERIOD_MS_MAX)
		return HAUL_ECORRUPT;
	/* One is counted up as the other is counted down, from 255 at most. */
	if (event->header.ttl == 0 || said->hops + event->header.ttl > UINT8_MAX)
		return HAUL_ECORRUPT;
	if (s == NULL)
		s = source_new(upstream, event);
	else
		rc = source_order(upstream, s, event);
	if (s == NULL)
		return HAUL_EFULL;
	if (rc < 0)
		return rc;
	rc = candidate_heard(upstream, s, event);
	settle(upstream, s, event->now_ns);
	return rc;
}

/* ---- what else changes ways ---- */

void upstream_failed(struct upstream *upstream, struct hop next, int64_t now_ns)
{
	for (uint32_t i = 0; i < UPSTREAM_SOURCES_MAX; i++) {
		struct source *s = &upstream->source[i];
		struct candidate *c = s->node != 0 ? candidate_find(s, next) : NULL;
		if (c == NULL)
			continue;
		c->failed = true;
		settle(upstream, s, now_ns);
	}
}

int64_t upstream_age(struct upstream *upstream, int64_t now_ns)
{
	int64_t due_ns = INT64_MAX;

	for (int32_t i = 0; i < UPSTREAM_SOURCES_MAX; i++) {
		struct source *s = &upstream->source[i];
		if (s->node == 0)
			continue;
		const int64_t patience_ns =
			upstream_patience_ns(upstream->missed_max, s->newest.period_ms);
		/* Long enough that its memory of receptions bridges a gap in coverage. */
		const int64_t forget_ns = s->newest_ns + 2 * patience_ns +
					  upstream->history * s->newest.period_ms * NS_PER_MS;
		settle(upstream, s, now_ns);
		if (now_ns > forget_ns) {
			HAUL_ASSERT(s->selected == UPSTREAM_NONE && i != upstream->chosen);
			*s = (struct source){ .selected = UPSTREAM_NONE };
			continue;
		}
		const struct candidate *c = selected_of(s);
		const int64_t next_ns = c != NULL ? c->heard_ns + patience_ns : forget_ns;
		if (next_ns + 1 < due_ns)
			due_ns = next_ns + 1;
	}
	return due_ns;
}

/* ---- what is to be sent ---- */

bool upstream_take_heartbeat(struct source *source, struct haul_message_header *ret_header,
			     struct haul_heartbeat *ret_heartbeat)
{
	const struct candidate *c = selected_of(source);

	if (c == NULL || (source->told && (int32_t)(c->heartbeat.id - source->told_id) <= 0))
		return false;
	HAUL_ASSERT(c->ttl >= 1 && rank_distance(c) <= UINT8_MAX);
	source->told = true;
	source->told_id = c->heartbeat.id;
	source->told_hops = rank_distance(c);
	*ret_header = (struct haul_message_header){
		.type = HAUL_MESSAGE_HEARTBEAT,
		.ttl = (uint8_t)(c->ttl - 1),
		.sequence = c->sequence,
		.origin = source->node,
		.destination = HAUL_NODE_BROADCAST,
	};
	*ret_heartbeat = c->heartbeat;
	ret_heartbeat->hops = (uint8_t)rank_distance(c);
	return true;
}

bool upstream_take_reply(struct source *source, int64_t now_ns,
			 struct haul_heartbeat_reply *ret_reply)
{
	if (!source->reply_due || selected_of(source) == NULL)
		return false;
	HAUL_ASSERT(now_ns >= source->newest_ns);
	const int64_t hold_us = (now_ns - source->newest_ns) / NS_PER_US;
	source->reply_due = false;
	*ret_reply = (struct haul_heartbeat_reply){
		.heartbeat = source->newest,
		.hold_us = hold_us < UINT32_MAX ? (uint32_t)hold_us : UINT32_MAX,
	};
	ret_reply->heartbeat.hops = 0;
	return true;
}

/* ---- what a person wants to see ---- */

static uint32_t list_source(const struct upstream *u, uint32_t index, uint8_t *order)
{
	const struct source *s = &u->source[index];
	uint32_t count = 0;

	for (uint32_t i = 0; i < s->count; i++) {
		const struct candidate *c = &s->candidate[i];
		const bool used = (int32_t)i == s->selected;
		uint32_t at = count;
		if (c->failed || s->newest.id - c->heartbeat.id >= u->missed_max)
			continue;
		while (at > 0 && order[at - 1] != s->selected &&
		       (used || rank_before(u->history, c, &s->candidate[order[at - 1]])))
			at--;
		memmove(order + at + 1, order + at, count - at);
		order[at] = (uint8_t)i;
		count++;
	}
	return count;
}

static uint32_t append(const struct upstream *u, uint32_t index, struct control_candidate *out,
		       uint32_t max)
{
	const struct source *s = &u->source[index];
	uint8_t order[CONTROL_CANDIDATES_MAX];
	uint32_t count = list_source(u, index, order);

	if (count > max)
		count = max;
	for (uint32_t i = 0; i < count; i++) {
		const struct candidate *c = &s->candidate[order[i]];
		out[i] = (struct control_candidate){
			.rsu = s->node,
			.next = c->next,
			.next_node = rank_distance(c) == 1 ? s->node : 0,
			.hops = rank_distance(c),
			.reception = rank_reception_percent(u->history, c) / 100.0,
			.heard_ns = c->heard_ns,
			.chosen = (int32_t)index == u->chosen && order[i] == s->selected,
		};
	}
	return count;
}

uint32_t upstream_list(const struct upstream *upstream, struct control_candidate *out, uint32_t max)
{
	uint8_t order[UPSTREAM_SOURCES_MAX];
	uint32_t sources = 0;
	uint32_t count = 0;

	for (uint32_t i = 0; i < UPSTREAM_SOURCES_MAX; i++) {
		const struct candidate *c = selected_of(&upstream->source[i]);
		const bool chosen = (int32_t)i == upstream->chosen;
		uint32_t at = sources;
		if (upstream->source[i].node == 0)
			continue;
		while (at > 0 && order[at - 1] != upstream->chosen && c != NULL) {
			const struct candidate *other =
				selected_of(&upstream->source[order[at - 1]]);
			if (!chosen && other != NULL && !rank_before(upstream->history, c, other))
				break;
			at--;
		}
		memmove(order + at + 1, order + at, sources - at);
		order[at] = (uint8_t)i;
		sources++;
	}
	for (uint32_t i = 0; i < sources; i++)
		count += append(upstream, order[i], out + count, max - count);
	return count;
}
