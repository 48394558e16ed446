/* A reader of a store: records in order, page by page.
 *
 * A page ends when the caller's columns or the arena are full. A cursor says where the next page
 * starts: a stage, and the key behind the last one that was returned, so that it stays good
 * whatever is written or deleted in between. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "store/reader_store.h"

/* word[0] of a cursor */
enum stage { STAGE_START, STAGE_FIRST, STAGE_SECOND, STAGE_END };

/* ---- walks ---- */

int reader_walk_open(struct reader_store *store, struct reader_walk *walk,
		     const struct reader_range *range)
{
	const struct lsm_walk_options options = {
		.tree = range->tree,
		.from = range->from,
		.to = range->to,
		.prefix = range->prefix,
		.ahead = range->ahead,
	};

	*walk = (struct reader_walk){ .at = 0 };
	if (tree_key_compare(&range->from, &range->to) > 0)
		return 0;
	return snapshot_walk_open(&walk->walk, &store->seen, &options);
}

void reader_walk_close(struct reader_walk *walk)
{
	snapshot_walk_close(&walk->walk);
}

int reader_walk_more(struct reader_store *store, struct reader_walk *walk)
{
	while (walk->at >= walk->rows.count) {
		if (reader_stopped(&store->reader))
			return -ECANCELED;
		const int more = snapshot_walk_next(&walk->walk, &walk->rows);
		walk->ended = more == 0;
		if (more <= 0)
			return more;
		walk->at = 0;
	}
	return 1;
}

const uint8_t *reader_walk_value(struct reader_store *store, const struct reader_walk *walk,
				 uint32_t *ret_bytes)
{
	const struct rows *rows = &walk->rows;
	const uint32_t start = walk->at == 0 ? 0 : rows->end[walk->at - 1];
	const uint32_t bytes = rows->end[walk->at] - start;
	struct arena *arena = &store->arena;
	uint8_t *copy = arena->data + arena->used;

	HAUL_ASSERT(rows->end[walk->at] >= start && bytes <= TREE_VALUE_MAX);
	if (bytes > arena->bytes - arena->used)
		return NULL;
	if (bytes > 0)
		memcpy(copy, rows->heap + start, bytes);
	/* Aligned as floats are. */
	const uint64_t used = (arena->used + bytes + 3) & ~UINT64_C(3);
	arena->used = used < arena->bytes ? used : arena->bytes;
	*ret_bytes = bytes;
	return copy;
}

static struct tree_key cursor_key(const struct haul_cursor *cursor)
{
	return (struct tree_key){ { cursor->word[1], cursor->word[2], cursor->word[3] } };
}

/* What was returned last was `key`: the next page goes on behind it. */
static void cursor_put(struct haul_cursor *cursor, enum stage stage, struct tree_key key,
		       enum tree tree)
{
	if (!tree_key_next(tree, &key))
		stage = STAGE_END;
	*cursor = (struct haul_cursor){ { stage, key.word[0], key.word[1], key.word[2] } };
}

static void cursor_end(struct haul_cursor *cursor)
{
	*cursor = (struct haul_cursor){ { STAGE_END, 0, 0, 0 } };
}

static inline uint64_t walk_op(const struct reader_walk *walk)
{
	return walk->rows.op[walk->at] & ~TREE_DELETED;
}

/* ---- nodes ---- */

static int nodes_in_order(struct reader_store *store, struct reader_walk *walk,
			  struct haul_node *nodes, uint32_t max)
{
	uint32_t count = 0;
	int more = 1;

	while (count < max && (more = reader_walk_more(store, walk)) > 0) {
		uint32_t bytes = 0;
		const uint8_t *value = reader_walk_value(store, walk, &bytes);
		if (value == NULL)
			break;
		struct haul_node *node = &nodes[count++];
		record_get_node(value, bytes, node);
		node->id = reader_walk_key(walk).word[0];
		node->version = walk_op(walk);
		walk->at++;
	}
	return more < 0 ? more : (int)count;
}

/* Keys of up to max rows, into asks: their last word is the id of a node. */
static int asks_of_kind(struct reader_store *store, struct reader_walk *walk, uint32_t max)
{
	uint32_t count = 0;
	int more = 1;

	while (count < max && (more = reader_walk_more(store, walk)) > 0) {
		const uint64_t id = reader_walk_key(walk).word[1];
		store->asks[count++].key = (struct tree_key){ { id, 0, 0 } };
		walk->at++;
	}
	return more < 0 ? more : (int)count;
}

static int nodes_of_kind(struct reader_store *store, struct reader_walk *walk,
			 struct haul_node *nodes, uint32_t max)
{
	uint32_t count = 0;

	while (count < max) {
		const uint32_t room = max - count;
		const int asks = asks_of_kind(store, walk, room < READER_ASKS ? room : READER_ASKS);
		if (asks <= 0)
			return asks < 0 ? asks : (int)count;
		const int answered = reader_nodes(store, (uint32_t)asks, nodes + count);
		if (answered < 0)
			return answered;
		count += (uint32_t)answered;
		if (answered < asks)
			break;
	}
	return (int)count;
}

int reader_scan(struct haul_reader *reader, struct haul_scan *scan, struct haul_node *nodes,
		uint32_t max)
{
	struct reader_store *store = reader_store_of(reader);
	struct haul_cursor *cursor = &scan->cursor;
	const uint64_t from = cursor->word[1] > scan->first_id ? cursor->word[1] : scan->first_id;
	const uint64_t to = scan->last_id == 0 ? UINT64_MAX : scan->last_id;
	struct reader_range range = { .tree = TREE_NODE,
				      .from = { { from, 0, 0 } },
				      .to = { { to, 0, 0 } },
				      .ahead = READER_AHEAD };
	struct reader_walk walk;

	if (cursor->word[0] == STAGE_END)
		return 0;
	if (scan->kind != HAUL_ANY) {
		range.tree = TREE_KIND;
		range.prefix = true;
		range.from = (struct tree_key){ { scan->kind, from, 0 } };
		range.to = (struct tree_key){ { scan->kind, to, 0 } };
	}
	int result = reader_begin(store);
	if (result < 0)
		return result;
	result = reader_walk_open(store, &walk, &range);
	if (result >= 0 && scan->kind == HAUL_ANY)
		result = nodes_in_order(store, &walk, nodes, max);
	else if (result >= 0)
		result = nodes_of_kind(store, &walk, nodes, max);
	reader_walk_close(&walk);
	if (result > 0)
		cursor_put(cursor, STAGE_FIRST, (struct tree_key){ { nodes[result - 1].id, 0, 0 } },
			   TREE_NODE);
	else if (result == 0)
		cursor_end(cursor);
	return reader_end(store, result);
}

/* ---- edges and embeddings ---- */

/* Edges from rows of TREE_OUT. */
static int edges_out(struct reader_store *store, struct reader_walk *walk, bool bare,
		     struct haul_edge *edges, uint32_t max)
{
	uint32_t count = 0;
	int more = 1;

	while (count < max && (more = reader_walk_more(store, walk)) > 0) {
		const struct tree_key key = reader_walk_key(walk);
		struct table_ask ask = { .row = { .op = walk_op(walk) } };
		struct haul_edge *edge = &edges[count];
		if (!bare) {
			ask.row.value = reader_walk_value(store, walk, &ask.row.bytes);
			if (ask.row.value == NULL)
				break;
			reader_edge_put(&key, &ask, edge);
		} else {
			*edge = (struct haul_edge){ .id = { .src = key.word[0],
							    .type = (uint32_t)(key.word[1] >> 32),
							    .disc = (uint32_t)key.word[1],
							    .dst = key.word[2] } };
		}
		count++;
		walk->at++;
	}
	return more < 0 ? more : (int)count;
}

static struct tree_key edge_key(const struct haul_edge_id *id)
{
	return (struct tree_key){ { id->src, (uint64_t)id->type << 32 | id->disc, id->dst } };
}

int reader_scan_edges(struct haul_reader *reader, struct haul_cursor *cursor,
		      struct haul_edge *edges, uint32_t max)
{
	struct reader_store *store = reader_store_of(reader);
	const struct reader_range range = {
		.tree = TREE_OUT,
		.from = cursor_key(cursor),
		.to = { { UINT64_MAX, UINT64_MAX, UINT64_MAX } },
		.ahead = READER_AHEAD,
	};
	struct reader_walk walk;

	if (cursor->word[0] == STAGE_END)
		return 0;
	int result = reader_begin(store);
	if (result < 0)
		return result;
	result = reader_walk_open(store, &walk, &range);
	if (result >= 0)
		result = edges_out(store, &walk, false, edges, max);
	reader_walk_close(&walk);
	if (result > 0)
		cursor_put(cursor, STAGE_FIRST, edge_key(&edges[result - 1].id), TREE_OUT);
	else if (result == 0)
		cursor_end(cursor);
	return reader_end(store, result);
}

static int embeddings_in_order(struct reader_store *store, struct reader_walk *walk,
			       struct haul_embedding *embeddings, uint32_t max)
{
	uint32_t count = 0;
	int more = 1;

	while (count < max && (more = reader_walk_more(store, walk)) > 0) {
		const struct tree_key key = reader_walk_key(walk);
		struct haul_embedding *embedding = &embeddings[count];
		uint32_t bytes = 0;
		const uint8_t *value = reader_walk_value(store, walk, &bytes);
		if (value == NULL)
			break;
		record_get_embedding(value, bytes, embedding);
		embedding->index = (uint32_t)key.word[0];
		embedding->node = key.word[1];
		embedding->version = walk_op(walk);
		count++;
		walk->at++;
	}
	return more < 0 ? more : (int)count;
}

int reader_scan_embeddings(struct haul_reader *reader, struct haul_cursor *cursor,
			   struct haul_embedding *embeddings, uint32_t max)
{
	struct reader_store *store = reader_store_of(reader);
	const struct reader_range range = {
		.tree = TREE_EMBEDDING,
		.from = { { cursor->word[1], cursor->word[2], 0 } },
		.to = { { UINT64_MAX, UINT64_MAX, 0 } },
		.ahead = READER_AHEAD,
	};
	struct reader_walk walk;

	if (cursor->word[0] == STAGE_END)
		return 0;
	int result = reader_begin(store);
	if (result < 0)
		return result;
	result = reader_walk_open(store, &walk, &range);
	if (result >= 0)
		result = embeddings_in_order(store, &walk, embeddings, max);
	reader_walk_close(&walk);
	if (result > 0) {
		const struct haul_embedding *last = &embeddings[result - 1];
		cursor_put(cursor, STAGE_FIRST, (struct tree_key){ { last->index, last->node, 0 } },
			   TREE_EMBEDDING);
	} else if (result == 0) {
		cursor_end(cursor);
	}
	return reader_end(store, result);
}

/* ---- neighbours ---- */

struct reader_range reader_range_edges(enum tree tree, uint64_t node, uint32_t type)
{
	const uint64_t first = (uint64_t)type << 32;
	const uint64_t last = type == HAUL_ANY ? UINT64_MAX : first | UINT32_MAX;

	return (struct reader_range){ .tree = tree,
				      .from = { { node, first, 0 } },
				      .to = { { node, last, UINT64_MAX } },
				      .prefix = true };
}

/* Up to max rows of TREE_IN: names into edges, keys of their rows of TREE_OUT into asks. An edge
 * from the node to itself has been told among those that go out, if they were asked for too. */
static int edges_in(struct reader_store *store, struct reader_walk *walk,
		    const struct haul_neighbours *query, struct haul_edge *edges, uint32_t max)
{
	uint32_t count = 0;
	int more = 1;

	while (count < max && (more = reader_walk_more(store, walk)) > 0) {
		const struct tree_key key = reader_walk_key(walk);
		walk->at++;
		if (query->direction == HAUL_BOTH && key.word[2] == query->node)
			continue;
		edges[count] = (struct haul_edge){ .id = { .src = key.word[2],
							   .type = (uint32_t)(key.word[1] >> 32),
							   .disc = (uint32_t)key.word[1],
							   .dst = key.word[0] } };
		if (!query->bare)
			store->asks[count].key = edge_key(&edges[count].id);
		count++;
	}
	return more < 0 ? more : (int)count;
}

static int edges_in_whole(struct reader_store *store, struct reader_walk *walk,
			  const struct haul_neighbours *query, struct haul_edge *edges,
			  uint32_t max)
{
	uint32_t count = 0;

	while (count < max) {
		const uint32_t room = max - count < READER_ASKS ? max - count : READER_ASKS;
		const int found = edges_in(store, walk, query, edges + count, room);
		if (found <= 0)
			return found < 0 ? found : (int)count;
		const int answered = reader_edges(store, (uint32_t)found, edges + count);
		if (answered < 0)
			return answered;
		count += (uint32_t)answered;
		if (answered < found) {
			walk->ended = false;
			break;
		}
	}
	return (int)count;
}

/* One direction, from the cursor on. The cursor goes behind what was found, or to the next stage if
 * that was all. */
static int neighbours_of(struct reader_store *store, struct haul_neighbours *query,
			 struct haul_edge *edges, uint32_t max)
{
	const enum stage stage = query->cursor.word[0] == STAGE_FIRST ? STAGE_FIRST : STAGE_SECOND;
	const enum tree tree = stage == STAGE_FIRST ? TREE_OUT : TREE_IN;
	struct reader_range range = reader_range_edges(tree, query->node, query->type);
	const struct tree_key from = cursor_key(&query->cursor);
	struct reader_walk walk;

	if (tree_key_compare(&from, &range.from) > 0)
		range.from = from;
	int result = reader_walk_open(store, &walk, &range);
	if (result >= 0 && tree == TREE_OUT)
		result = edges_out(store, &walk, query->bare, edges, max);
	else if (result >= 0 && query->bare)
		result = edges_in(store, &walk, query, edges, max);
	else if (result >= 0)
		result = edges_in_whole(store, &walk, query, edges, max);
	reader_walk_close(&walk);
	if (result < 0)
		return result;
	if (walk.ended) {
		const bool more = stage == STAGE_FIRST && query->direction == HAUL_BOTH;
		query->cursor = (struct haul_cursor){ { more ? STAGE_SECOND : STAGE_END } };
		return result;
	}
	HAUL_ASSERT(result > 0);
	struct tree_key key = edge_key(&edges[result - 1].id);
	if (tree == TREE_IN)
		key = (struct tree_key){ { query->node, key.word[1], key.word[0] } };
	cursor_put(&query->cursor, stage, key, tree);
	return result;
}

int reader_neighbours(struct haul_reader *reader, struct haul_neighbours *query,
		      struct haul_edge *edges, uint32_t max)
{
	struct reader_store *store = reader_store_of(reader);
	const struct haul_cursor start = query->cursor;
	uint64_t *stage = &query->cursor.word[0];
	int result = 0;

	if (*stage >= STAGE_END)
		return 0;
	const int error = reader_begin(store);
	if (error < 0)
		return error;
	if (*stage == STAGE_START)
		*stage = query->direction == HAUL_IN ? STAGE_SECOND : STAGE_FIRST;
	if (*stage == STAGE_FIRST)
		result = neighbours_of(store, query, edges, max);
	if (result >= 0 && (uint32_t)result < max && *stage == STAGE_SECOND) {
		const int in = neighbours_of(store, query, edges + result, max - (uint32_t)result);
		result = in < 0 ? in : result + in;
	}
	if (result < 0)
		query->cursor = start;
	return reader_end(store, result);
}
