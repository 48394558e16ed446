#include "node/routes.h"

#include <errno.h>
#include <stdlib.h>

#include <haul/err.h>
#include "base/assert.h"

enum {
	SEEN_BITS = 64,
	RTT_WEIGHT = 8,          /* a sample counts for one eighth */
	RTT_MARGIN_PERCENT = 20, /* a path must be faster by so much to take over by that alone */
	ANSWERS_BEHIND_MAX = 1   /* heartbeats a path may lag behind the newest answer */
};

int routes_init(struct routes *routes, uint32_t capacity, uint64_t self, uint64_t secret)
{
	HAUL_ASSERT(capacity >= 1 && capacity <= NODE_ROUTES_MAX);
	*routes = (struct routes){ .capacity = capacity, .self = self };
	const int rc = row_index_init(&routes->index, capacity, secret);
	routes->row = calloc(capacity, sizeof *routes->row);
	if (rc == 0 && routes->row != NULL)
		return 0;
	routes_done(routes);
	return -ENOMEM;
}

void routes_done(struct routes *routes)
{
	row_index_done(&routes->index);
	free(routes->row);
	*routes = (struct routes){ 0 };
}

struct destination *routes_find(struct routes *routes, uint64_t node)
{
	const uint32_t row = row_index_find(&routes->index, node);

	HAUL_ASSERT(row == ROW_INDEX_NONE || row < routes->count);
	return row != ROW_INDEX_NONE ? &routes->row[row] : NULL;
}

static bool same_hop(struct hop a, struct hop b)
{
	return a.port == b.port && a.peer == b.peer;
}

/* ---- seen before? ---- */

static int admit_known(struct destination *d, uint64_t sequence)
{
	if (sequence > d->newest) {
		const uint64_t by = sequence - d->newest;
		d->seen = by < SEEN_BITS ? d->seen << by | 1 : 1;
		d->newest = sequence;
		return 0;
	}
	const uint64_t behind = d->newest - sequence;

	if (behind >= SEEN_BITS)
		return HAUL_ESTALE;
	if ((d->seen >> behind & 1) != 0)
		return -EALREADY;
	d->seen |= UINT64_C(1) << behind;
	return 0;
}

int routes_admit(struct routes *routes, uint64_t node, uint64_t sequence,
		 struct destination **ret_destination)
{
	struct destination *d = routes_find(routes, node);

	if (d != NULL) {
		const int rc = admit_known(d, sequence);
		if (rc < 0)
			return rc;
		*ret_destination = d;
		return 0;
	}
	if (routes->count == routes->capacity)
		return HAUL_EFULL;
	HAUL_ASSERT(routes->row != NULL);
	d = &routes->row[routes->count];
	*d = (struct destination){ .node = node, .role = NODE_OBU, .newest = sequence, .seen = 1 };
	row_index_put(&routes->index, node, routes->count++);
	*ret_destination = d;
	return 0;
}

/* ---- what is published of a destination ---- */

static bool is_elsewhere(const struct routes *routes, const struct destination *d)
{
	return d->claim.rsu != 0 && d->claim.rsu != routes->self;
}

static bool is_attached(const struct routes *routes, const struct destination *d)
{
	return d->claim.rsu == routes->self && d->count > 0;
}

/* A node that has chosen another RSU is reached through that RSU, even if we hear it too: all that
 * is for it takes one way, so nothing is overtaken. */
static struct route published(const struct routes *routes, const struct destination *d)
{
	struct route route = { .node = d->node, .role = d->role };

	if (is_elsewhere(routes, d)) {
		route.next = d->claim.next;
		route.hops = d->claim.hops;
		return route;
	}
	if (d->count == 0)
		return (struct route){ 0 };
	HAUL_ASSERT(d->best < d->count);
	route.next = d->path[d->best].next;
	route.hops = d->path[d->best].hops;
	route.rtt_ns = d->path[d->best].rtt_ns;
	return route;
}

/* Round trips change with every reply; they alone are no reason to publish. */
static void note_change(struct routes *routes, struct destination *d)
{
	const struct route now = published(routes, d);
	const struct route *shown = &d->shown;

	if (now.node == shown->node && same_hop(now.next, shown->next) && now.role == shown->role &&
	    now.hops == shown->hops && is_attached(routes, d) == d->shown_attached)
		return;
	d->shown = now;
	d->shown_attached = is_attached(routes, d);
	routes->version++;
}

uint32_t routes_collect(const struct routes *routes, struct route *out, uint32_t max)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < routes->count && count < max; i++) {
		const struct route route = published(routes, &routes->row[i]);
		if (route.node != 0)
			out[count++] = route;
	}
	return count;
}

uint32_t routes_attached(const struct routes *routes, uint64_t *out, uint32_t max)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < routes->count && count < max; i++)
		if (is_attached(routes, &routes->row[i]))
			out[count++] = routes->row[i].node;
	return count;
}

/* ---- paths ---- */

static struct path *path_find(struct destination *d, struct hop next)
{
	for (uint32_t i = 0; i < d->count; i++)
		if (same_hop(d->path[i].next, next))
			return &d->path[i];
	return NULL;
}

static void path_remove(struct destination *d, uint32_t i)
{
	const uint32_t last = d->count - 1;

	HAUL_ASSERT(i <= last);
	d->path[i] = d->path[last];
	d->count = last;
	if (d->best == i)
		d->best = 0;
	else if (d->best == last)
		d->best = i;
}

void routes_set_path(struct routes *routes, struct destination *destination, uint64_t sequence,
		     const struct path *path)
{
	HAUL_ASSERT(destination->count <= 1);
	HAUL_ASSERT(sequence <= destination->newest);
	if (sequence < destination->newest && destination->count == 1)
		return;
	destination->path[0] = *path;
	destination->count = 1;
	destination->best = 0;
	note_change(routes, destination);
}

static bool path_before(const struct path *a, const struct path *b)
{
	if (a->hops != b->hops)
		return a->hops < b->hops;
	return a->rtt_ns < b->rtt_ns - b->rtt_ns / 100 * RTT_MARGIN_PERCENT;
}

/* The path in use stays unless another is better by hops or clearly faster. */
static void choose_path(struct destination *d)
{
	uint32_t newest_id = d->path[d->best].id;

	for (uint32_t i = 0; i < d->count; i++)
		if ((int32_t)(d->path[i].id - newest_id) > 0)
			newest_id = d->path[i].id;
	for (uint32_t i = 0; i < d->count; i++) {
		const struct path *used = &d->path[d->best];
		if (newest_id - d->path[i].id > ANSWERS_BEHIND_MAX)
			continue;
		if (newest_id - used->id > ANSWERS_BEHIND_MAX || path_before(&d->path[i], used))
			d->best = i;
	}
	HAUL_ASSERT(d->best < d->count);
}

/* Room for one more path: a free place, or that of the one longest silent. */
static struct path *path_new(struct destination *d)
{
	uint32_t oldest = 0;

	if (d->count < ROUTES_PATHS_MAX)
		return &d->path[d->count++];
	for (uint32_t i = 1; i < d->count; i++)
		if (d->path[i].until_ns < d->path[oldest].until_ns)
			oldest = i;
	return &d->path[oldest];
}

/* Answered once more, by another way: the others are given up. False when it is this path that is
 * given up, by an answer that overtook it. */
static bool settle_mind(struct destination *d, bool is_newest, const struct path *path)
{
	for (uint32_t i = d->count; i-- > 0;) {
		if (same_hop(d->path[i].next, path->next) || d->path[i].id != path->id)
			continue;
		if (!is_newest)
			return false;
		d->count = 0;
		d->best = 0;
		return true;
	}
	return true;
}

void routes_add_path(struct routes *routes, struct destination *destination, uint64_t sequence,
		     const struct path *path)
{
	struct path *known = path_find(destination, path->next);
	const int64_t rtt_ns = path->rtt_ns > 0 ? path->rtt_ns : 1;
	const int64_t smooth_ns =
		known != NULL ? known->rtt_ns + (rtt_ns - known->rtt_ns) / RTT_WEIGHT : rtt_ns;

	HAUL_ASSERT(sequence <= destination->newest);
	if (!settle_mind(destination, sequence == destination->newest, path))
		return;
	known = path_find(destination, path->next);
	if (known == NULL)
		known = path_new(destination);
	else if ((int32_t)(path->id - known->id) < 0)
		return;
	*known = *path;
	known->rtt_ns = smooth_ns;
	choose_path(destination);
	note_change(routes, destination);
}

bool routes_claim(struct routes *routes, struct destination *destination, const struct claim *claim)
{
	struct claim *known = &destination->claim;

	if (claim->sequence <= known->sequence && known->sequence != 0)
		return false;
	const bool told = known->told && claim->rsu == known->rsu;
	const int64_t told_ns = known->told_ns;
	*known = *claim;
	known->told = told;
	known->told_ns = told_ns;
	note_change(routes, destination);
	return true;
}

/* ---- the end of a path ---- */

static void row_remove(struct routes *routes, uint32_t row)
{
	const uint32_t last = --routes->count;

	if (routes->row[row].shown.node != 0)
		routes->version++;
	row_index_remove(&routes->index, routes->row[row].node);
	if (row != last) {
		row_index_remove(&routes->index, routes->row[last].node);
		routes->row[row] = routes->row[last];
		row_index_put(&routes->index, routes->row[row].node, row);
	}
	HAUL_ASSERT(routes->count == routes->index.count);
}

void routes_forget(struct routes *routes, uint64_t node)
{
	const uint32_t row = row_index_find(&routes->index, node);

	if (row != ROW_INDEX_NONE)
		row_remove(routes, row);
}

void routes_failed(struct routes *routes, struct hop next)
{
	for (uint32_t row = routes->count; row-- > 0;) {
		struct destination *d = &routes->row[row];
		for (uint32_t i = d->count; i-- > 0;)
			if (same_hop(d->path[i].next, next))
				path_remove(d, i);
		if (d->count > 0)
			choose_path(d);
		if (is_elsewhere(routes, d) && same_hop(d->claim.next, next))
			d->claim.rsu = 0;
		note_change(routes, d);
	}
}

void routes_expire(struct routes *routes, int64_t now_ns)
{
	for (uint32_t row = routes->count; row-- > 0;) {
		struct destination *d = &routes->row[row];
		for (uint32_t i = d->count; i-- > 0;)
			if (now_ns > d->path[i].until_ns)
				path_remove(d, i);
		if (d->count > 0)
			choose_path(d);
		if (now_ns > d->claim.until_ns)
			d->claim.rsu = 0;
		if (d->count == 0 && d->claim.rsu == 0)
			row_remove(routes, row);
		else
			note_change(routes, d);
	}
}
