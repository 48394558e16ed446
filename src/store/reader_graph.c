/* A reader of a store: along edges, breadth first.
 *
 * What was visited is a queue (the order found is the order visited) and a table of places in it,
 * found by id with open addressing. The table begins small and doubles over itself: the queue holds
 * all ids, so that it can be filled again. Both have a fixed end; nothing is allocated on the way.
 * traverse uses the caller's column as its queue. path grows a queue from both ends of the path,
 * always a whole depth of the one whose last depth is smaller: before a depth is done no node of
 * the other side has been met, so the first that is met is on a shortest path. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "store/reader_store.h"

enum { SLOTS_FIRST = 1024 };

/* ---- the table of what was visited ---- */

struct seen {
	uint32_t *slot; /* place in the queue + 1; 0 = free */
	uint64_t slots; /* a power of two */
	uint64_t slots_max;
	const uint8_t *queue; /* items start with their id */
	uint32_t item_bytes;
	uint32_t count;
};

static inline uint64_t seen_id(const struct seen *seen, uint32_t at)
{
	return *(const uint64_t *)(const void *)(seen->queue + (size_t)at * seen->item_bytes);
}

static void seen_init(struct seen *seen, void *memory, uint64_t bytes, const void *queue,
		      uint32_t item_bytes)
{
	*seen = (struct seen){ .slot = memory,
			       .slots = SLOTS_FIRST,
			       .slots_max = SLOTS_FIRST,
			       .queue = queue,
			       .item_bytes = item_bytes };
	HAUL_ASSERT(bytes >= SLOTS_FIRST * sizeof *seen->slot);
	while (seen->slots_max * 2 * sizeof *seen->slot <= bytes)
		seen->slots_max *= 2;
	memset(seen->slot, 0, SLOTS_FIRST * sizeof *seen->slot);
}

/* The slot of an id, or the free one where it belongs. */
static inline uint64_t seen_find(const struct seen *seen, uint64_t id)
{
	uint64_t at = hash_u64(id) & (seen->slots - 1);

	while (seen->slot[at] != 0 && seen_id(seen, seen->slot[at] - 1) != id)
		at = (at + 1) & (seen->slots - 1);
	return at;
}

static bool seen_grow(struct seen *seen)
{
	if (seen->slots == seen->slots_max)
		return false;
	seen->slots *= 2;
	memset(seen->slot, 0, seen->slots * sizeof *seen->slot);
	for (uint32_t i = 0; i < seen->count; i++)
		seen->slot[seen_find(seen, seen_id(seen, i))] = i + 1;
	return true;
}

/* Place of an id in the queue, or -1 and *ret_slot for seen_add. */
static inline int64_t seen_at(const struct seen *seen, uint64_t id, uint64_t *ret_slot)
{
	*ret_slot = seen_find(seen, id);
	return (int64_t)seen->slot[*ret_slot] - 1;
}

/* The item at seen->count has been written. false: the table is full. */
static inline bool seen_add(struct seen *seen, uint64_t slot)
{
	seen->slot[slot] = ++seen->count;
	return (uint64_t)seen->count * 2 < seen->slots || seen_grow(seen);
}

/* ---- the edges of one node ---- */

/* Trees to be walked for a direction, first to last; returns how many. */
static uint32_t trees_of(enum haul_direction direction, bool backwards, enum tree ret_trees[2])
{
	if (direction == HAUL_BOTH) {
		ret_trees[0] = backwards ? TREE_IN : TREE_OUT;
		ret_trees[1] = backwards ? TREE_OUT : TREE_IN;
		return 2;
	}
	ret_trees[0] = (direction == HAUL_OUT) != backwards ? TREE_OUT : TREE_IN;
	return 1;
}

/* ---- traverse ---- */

struct traversal {
	struct reader_store *store;
	const struct haul_traverse *query;
	struct haul_visit *visits;
	struct seen seen;
	uint32_t max;   /* the caller's columns */
	uint32_t limit; /* of visits */
	bool more;      /* there was one that no column was left for */
};

/* All rows of the piece under way: 0; 1: stop, the columns are full; HAUL_ELIMIT. */
static int traverse_rows(struct traversal *traversal, struct reader_walk *walk,
			 const struct haul_visit *from)
{
	struct seen *seen = &traversal->seen;
	const uint64_t *key = walk->rows.key;
	const uint64_t node = from->node;
	const uint32_t depth = from->depth + 1;

	for (; walk->at < walk->rows.count; walk->at++) {
		const uint64_t id = key[(size_t)walk->at * 3 + 2];
		uint64_t slot = 0;
		if (seen_at(seen, id, &slot) >= 0)
			continue;
		if (seen->count == traversal->max) {
			traversal->more = true;
			return 1;
		}
		if (seen->count == traversal->limit)
			return HAUL_ELIMIT;
		traversal->visits[seen->count] = (struct haul_visit){
			.node = id,
			.from = node,
			.depth = depth,
			.type = (uint32_t)(key[(size_t)walk->at * 3 + 1] >> 32),
		};
		if (!seen_add(seen, slot) && seen->count < traversal->limit)
			traversal->limit = seen->count;
	}
	return 0;
}

static int traverse_node(struct traversal *traversal, uint32_t at)
{
	const struct haul_traverse *query = traversal->query;
	const struct haul_visit from = traversal->visits[at];
	enum tree trees[2];
	const uint32_t count = trees_of(query->direction, false, trees);
	int result = 0;

	for (uint32_t i = 0; i < count && result == 0; i++) {
		const struct reader_range range =
			reader_range_edges(trees[i], from.node, query->type);
		struct reader_walk walk;
		result = reader_walk_open(traversal->store, &walk, &range);
		while (result == 0) {
			const int more = reader_walk_more(traversal->store, &walk);
			if (more <= 0) {
				result = more;
				break;
			}
			HAUL_ASSERT(walk.rows.words == 3);
			result = traverse_rows(traversal, &walk, &from);
		}
		reader_walk_close(&walk);
	}
	return result;
}

int reader_traverse(struct haul_reader *reader, const struct haul_traverse *query,
		    struct haul_visit *visits, uint32_t max, bool *ret_complete)
{
	struct reader_store *store = reader_store_of(reader);
	struct traversal traversal = {
		.store = store, .query = query, .visits = visits, .max = max, .limit = UINT32_MAX
	};
	uint32_t at = 0;
	int result = reader_begin_long(store);

	if (result < 0)
		return result;
	if (query->visits_max > 0)
		traversal.limit = query->visits_max;
	seen_init(&traversal.seen, store->work, store->work_bytes, visits, sizeof *visits);
	uint64_t slot = 0;
	(void)seen_at(&traversal.seen, query->start, &slot);
	visits[0] = (struct haul_visit){ .node = query->start };
	(void)seen_add(&traversal.seen, slot);
	while (result == 0 && at < traversal.seen.count && visits[at].depth < query->depth_max)
		result = traverse_node(&traversal, at++);
	if (result < 0)
		return reader_end(store, result);
	*ret_complete = !traversal.more;
	return reader_end(store, (int)traversal.seen.count);
}

/* ---- path ---- */

struct step {
	uint64_t node;
	uint32_t from; /* place in the queue; itself at the ends */
	uint32_t side; /* 0: from src, 1: from dst */
};

struct search {
	struct reader_store *store;
	const struct haul_path *query;
	struct step *steps;
	struct seen seen;
	uint32_t limit;
	uint32_t first[2], last[2]; /* the last depth of each side, in the queue */
	uint32_t met[2];            /* places in the queue of the two that are neighbours */
};

/* 0; 1: the sides have met; HAUL_ELIMIT. */
static int search_rows(struct search *search, struct reader_walk *walk, uint32_t from)
{
	struct seen *seen = &search->seen;
	const uint64_t *key = walk->rows.key;
	const uint32_t side = search->steps[from].side;

	for (; walk->at < walk->rows.count; walk->at++) {
		const uint64_t id = key[(size_t)walk->at * 3 + 2];
		uint64_t slot = 0;
		const int64_t at = seen_at(seen, id, &slot);
		if (at >= 0 && search->steps[at].side == side)
			continue;
		if (at >= 0) {
			search->met[side] = from;
			search->met[!side] = (uint32_t)at;
			return 1;
		}
		if (seen->count == search->limit)
			return HAUL_ELIMIT;
		search->steps[seen->count] =
			(struct step){ .node = id, .from = from, .side = side };
		if (!seen_add(seen, slot))
			search->limit = seen->count;
	}
	return 0;
}

static int search_node(struct search *search, uint32_t from)
{
	const struct step *step = &search->steps[from];
	enum tree trees[2];
	const uint32_t count = trees_of(search->query->direction, step->side == 1, trees);
	int result = 0;

	for (uint32_t i = 0; i < count && result == 0; i++) {
		const struct reader_range range =
			reader_range_edges(trees[i], step->node, search->query->type);
		struct reader_walk walk;
		result = reader_walk_open(search->store, &walk, &range);
		while (result == 0) {
			const int more = reader_walk_more(search->store, &walk);
			if (more <= 0) {
				result = more;
				break;
			}
			HAUL_ASSERT(walk.rows.words == 3);
			result = search_rows(search, &walk, from);
		}
		reader_walk_close(&walk);
	}
	return result;
}

/* One depth more on the side that has fewer to go through. 0, 1: met, -ENOENT: a side has come to
 * its end. */
static int search_deepen(struct search *search)
{
	const uint32_t left = search->last[0] - search->first[0];
	const uint32_t right = search->last[1] - search->first[1];
	const uint32_t side = left <= right ? 0 : 1;
	const uint32_t first = search->seen.count;
	int result = 0;

	if (left == 0 || right == 0)
		return -ENOENT;
	for (uint32_t at = search->first[side]; result == 0 && at < search->last[side]; at++)
		result = search_node(search, at);
	search->first[side] = first;
	search->last[side] = search->seen.count;
	return result;
}

/* From the place to its end of the path, src or dst; returns how many nodes that is. */
static uint32_t search_length(const struct search *search, uint32_t at)
{
	uint32_t length = 1;

	for (; search->steps[at].from != at; at = search->steps[at].from)
		length++;
	return length;
}

static int search_tell(const struct search *search, uint64_t *nodes, uint32_t max)
{
	const uint32_t left = search_length(search, search->met[0]);
	const uint32_t right = search_length(search, search->met[1]);
	uint32_t at = search->met[0];

	if ((uint64_t)left + right > max)
		return HAUL_EFULL;
	for (uint32_t i = left; i-- > 0; at = search->steps[at].from)
		nodes[i] = search->steps[at].node;
	at = search->met[1];
	for (uint32_t i = left; i < left + right; i++, at = search->steps[at].from)
		nodes[i] = search->steps[at].node;
	HAUL_ASSERT(nodes[0] == search->query->src &&
		    nodes[left + right - 1] == search->query->dst);
	return (int)(left + right);
}

static void search_init(struct search *search)
{
	struct reader_store *store = search->store;
	const uint64_t ends[2] = { search->query->src, search->query->dst };
	const uint64_t queue_bytes = store->work_bytes / 2 & ~UINT64_C(63);

	search->steps = (struct step *)(void *)store->work;
	search->limit = (uint32_t)(queue_bytes / sizeof *search->steps);
	seen_init(&search->seen, store->work + queue_bytes, store->work_bytes - queue_bytes,
		  search->steps, sizeof *search->steps);
	for (uint32_t side = 0; side < 2; side++) {
		uint64_t slot = 0;
		(void)seen_at(&search->seen, ends[side], &slot);
		search->steps[side] =
			(struct step){ .node = ends[side], .from = side, .side = side };
		(void)seen_add(&search->seen, slot);
		search->first[side] = side;
		search->last[side] = side + 1;
	}
}

int reader_path(struct haul_reader *reader, const struct haul_path *query, uint64_t *nodes,
		uint32_t max)
{
	struct reader_store *store = reader_store_of(reader);
	struct search search = { .store = store, .query = query };
	int result = reader_begin_long(store);

	if (result < 0)
		return result;
	if (query->src == query->dst) {
		nodes[0] = query->src;
		return reader_end(store, 1);
	}
	search_init(&search);
	for (uint32_t depth = 0; result == 0 && depth < query->depth_max; depth++)
		result = search_deepen(&search);
	if (result == 1)
		result = search_tell(&search, nodes, max);
	return reader_end(store, result == -ENOENT ? 0 : result);
}
