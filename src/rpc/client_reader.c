/* A reader of a served store: the calls of haul/reader.h as queries (client_ask.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "rpc/client_ask.h"

static struct client_reader *reader_of(struct haul_reader *reader)
{
	return (struct client_reader *)(void *)reader;
}

/* ---- pages ---- */

static int read_nodes(struct client_reader *reader, int count, struct haul_node *nodes,
		      int32_t *statuses)
{
	struct wire_reading page = ask_result(reader);

	for (int i = 0; i < count; i++) {
		int32_t status = 0;
		const int rc = wire_get_node(&page, &nodes[i], &status);
		if (rc < 0 || (statuses == NULL && status != 0))
			return ask_broken(reader, HAUL_ECORRUPT);
		if (statuses != NULL)
			statuses[i] = status;
	}
	return count;
}

static int read_edges(struct client_reader *reader, int count, struct haul_edge *edges,
		      int32_t *statuses)
{
	struct wire_reading page = ask_result(reader);

	for (int i = 0; i < count; i++) {
		int32_t status = 0;
		const int rc = wire_get_edge(&page, &edges[i], &status);
		if (rc < 0 || (statuses == NULL && status != 0))
			return ask_broken(reader, HAUL_ECORRUPT);
		if (statuses != NULL)
			statuses[i] = status;
	}
	return count;
}

static int read_embeddings(struct client_reader *reader, int count,
			   struct haul_embedding *embeddings, int32_t *statuses)
{
	struct wire_reading page = ask_result(reader);

	for (int i = 0; i < count; i++) {
		int32_t status = 0;
		const int rc = wire_get_embedding(&page, &embeddings[i], &status);
		if (rc < 0 || (statuses == NULL && status != 0))
			return ask_broken(reader, HAUL_ECORRUPT);
		if (statuses != NULL)
			statuses[i] = status;
	}
	return count;
}

/* ---- by name ---- */

static int get(struct haul_reader *base, const uint64_t *ids, uint32_t count,
	       struct haul_node *nodes, int32_t *statuses)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_GET,
					  .count = ask_most(count, WIRE_ITEMS_MAX) };

	ask_begin(reader, &query);
	ask_add(reader, ids, (uint64_t)query.count * sizeof *ids);
	return read_nodes(reader, ask_for(reader, query.count), nodes, statuses);
}

static int get_by_key(struct haul_reader *base, const struct haul_text *keys, uint32_t count,
		      struct haul_node *nodes, int32_t *statuses)
{
	struct client_reader *reader = reader_of(base);
	struct wire_query query = { .ask = WIRE_GET_BY_KEY };
	const uint32_t none = 0;
	uint64_t bytes = WIRE_QUERY_HEAD + 8;

	count = ask_most(count, WIRE_ITEMS_MAX);
	while (query.count < count) {
		bytes += keys[query.count].bytes + 4;
		if (bytes > WIRE_QUERY_MAX)
			break;
		query.count++;
	}
	if (query.count == 0)
		return -EINVAL; /* no key is so long */
	ask_begin(reader, &query);
	for (uint32_t i = 0; i < query.count; i++)
		ask_add(reader, &keys[i].bytes, 4);
	if (query.count % 2 != 0)
		ask_add(reader, &none, 4);
	for (uint32_t i = 0; i < query.count; i++) {
		if (keys[i].bytes > 0)
			ask_add(reader, keys[i].data, keys[i].bytes);
	}
	return read_nodes(reader, ask_for(reader, query.count), nodes, statuses);
}

static int get_edges(struct haul_reader *base, const struct haul_edge_id *ids, uint32_t count,
		     struct haul_edge *edges, int32_t *statuses)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_GET_EDGES,
					  .count = ask_most(count, WIRE_ITEMS_MAX) };

	ask_begin(reader, &query);
	ask_add(reader, ids, (uint64_t)query.count * sizeof *ids);
	return read_edges(reader, ask_for(reader, query.count), edges, statuses);
}

static int get_embeddings(struct haul_reader *base, const struct haul_embedding_names *names,
			  struct haul_embedding *embeddings, int32_t *statuses)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_GET_EMBEDDINGS,
					  .count = ask_most(names->count, WIRE_ITEMS_MAX),
					  .type = names->index };

	ask_begin(reader, &query);
	ask_add(reader, names->nodes, (uint64_t)query.count * sizeof *names->nodes);
	return read_embeddings(reader, ask_for(reader, query.count), embeddings, statuses);
}

/* ---- in order ---- */

/* Asks for the next page; the cursor moves when it is there. */
static int ask_page(struct client_reader *reader, struct wire_query *query,
		    const struct haul_cursor *cursor)
{
	query->max = ask_most(query->max, WIRE_ITEMS_MAX);
	memcpy(query->cursor, cursor, sizeof query->cursor);
	ask_begin(reader, query);
	return ask_for(reader, query->max);
}

static void cursor_move(const struct client_reader *reader, struct haul_cursor *cursor)
{
	memcpy(cursor, reader->result->cursor, sizeof *cursor);
}

static int scan_nodes(struct haul_reader *base, struct haul_scan *scan, struct haul_node *nodes,
		      uint32_t max)
{
	struct client_reader *reader = reader_of(base);
	struct wire_query query = { .ask = WIRE_SCAN,
				    .max = max,
				    .type = scan->kind,
				    .first = scan->first_id,
				    .last = scan->last_id };

	const int rc = read_nodes(reader, ask_page(reader, &query, &scan->cursor), nodes, NULL);
	if (rc >= 0)
		cursor_move(reader, &scan->cursor);
	return rc;
}

static int scan_edges(struct haul_reader *base, struct haul_cursor *cursor, struct haul_edge *edges,
		      uint32_t max)
{
	struct client_reader *reader = reader_of(base);
	struct wire_query query = { .ask = WIRE_SCAN_EDGES, .max = max };

	const int rc = read_edges(reader, ask_page(reader, &query, cursor), edges, NULL);
	if (rc >= 0)
		cursor_move(reader, cursor);
	return rc;
}

static int scan_embeddings(struct haul_reader *base, struct haul_cursor *cursor,
			   struct haul_embedding *embeddings, uint32_t max)
{
	struct client_reader *reader = reader_of(base);
	struct wire_query query = { .ask = WIRE_SCAN_EMBEDDINGS, .max = max };

	const int rc = read_embeddings(reader, ask_page(reader, &query, cursor), embeddings, NULL);
	if (rc >= 0)
		cursor_move(reader, cursor);
	return rc;
}

static int neighbours(struct haul_reader *base, struct haul_neighbours *asked,
		      struct haul_edge *edges, uint32_t max)
{
	struct client_reader *reader = reader_of(base);
	struct wire_query query = { .ask = WIRE_NEIGHBOURS,
				    .flags = asked->bare ? WIRE_BARE : 0,
				    .max = max,
				    .type = asked->type,
				    .direction = asked->direction,
				    .first = asked->node };

	const int rc = read_edges(reader, ask_page(reader, &query, &asked->cursor), edges, NULL);
	if (rc >= 0)
		cursor_move(reader, &asked->cursor);
	return rc;
}

/* ---- along edges ---- */

/* What was found, of a fixed length each. */
static int copy_found(struct client_reader *reader, int count, void *out, uint32_t each)
{
	const struct wire_reading page = ask_result(reader);

	if (count < 0)
		return count;
	if ((uint64_t)count * each != page.bytes - page.at)
		return ask_broken(reader, HAUL_ECORRUPT);
	if (count > 0)
		memcpy(out, page.data + page.at, (size_t)count * each);
	return count;
}

static int traverse(struct haul_reader *base, const struct haul_traverse *asked,
		    struct haul_visit *visits, uint32_t max, bool *ret_complete)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_TRAVERSE,
					  .max = max,
					  .type = asked->type,
					  .direction = asked->direction,
					  .depth_max = asked->depth_max,
					  .visits_max = asked->visits_max,
					  .first = asked->start };

	ask_begin(reader, &query);
	const int rc = copy_found(reader, ask_for(reader, max), visits, sizeof *visits);
	if (rc >= 0)
		*ret_complete = reader->result->complete != 0;
	return rc;
}

static int path(struct haul_reader *base, const struct haul_path *asked, uint64_t *nodes,
		uint32_t max)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_PATH,
					  .max = max,
					  .type = asked->type,
					  .direction = asked->direction,
					  .depth_max = asked->depth_max,
					  .first = asked->src,
					  .last = asked->dst };

	ask_begin(reader, &query);
	return copy_found(reader, ask_for(reader, max), nodes, sizeof *nodes);
}

/* ---- by likeness ---- */

static int near_some(struct client_reader *reader, const struct haul_near *asked, uint32_t from,
		     uint32_t count, struct haul_near_hit *hits)
{
	const uint32_t dimensions = asked->dimensions;
	const struct wire_query query = { .ask = WIRE_NEAR,
					  .flags = asked->exact ? WIRE_EXACT : 0,
					  .count = count,
					  .max = asked->k,
					  .type = asked->index,
					  .dimensions = dimensions,
					  .metric = asked->metric };

	static_assert(sizeof *hits == sizeof(struct wire_hit), "as they are sent");
	ask_begin(reader, &query);
	ask_add(reader, asked->vectors + (size_t)from * dimensions,
		(uint64_t)count * dimensions * sizeof(float));
	int rc = ask_for(reader, count);
	if (rc >= 0 && (uint32_t)rc != count)
		rc = ask_broken(reader, HAUL_ECORRUPT);
	if (rc < 0)
		return rc;
	rc = copy_found(reader, (int)(count * asked->k), hits + (size_t)from * asked->k,
			sizeof *hits);
	return rc < 0 ? rc : (int)count;
}

/* As many at once as go into a frame, and their hits into another. */
static int near(struct haul_reader *base, const struct haul_near *asked, struct haul_near_hit *hits)
{
	struct client_reader *reader = reader_of(base);
	const uint32_t room =
		(WIRE_QUERY_MAX - WIRE_QUERY_HEAD) / (asked->dimensions * (uint32_t)sizeof(float));
	const uint32_t most = ask_most(room, WIRE_HITS_MAX / asked->k);

	HAUL_ASSERT(most > 0);
	for (uint32_t done = 0; done < asked->count;) {
		const int rc =
			near_some(reader, asked, done, ask_most(asked->count - done, most), hits);
		if (rc < 0)
			return rc;
		done += (uint32_t)rc;
	}
	return (int)asked->count;
}

/* ---- pin, open, close ---- */

static int pin(struct haul_reader *base)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_PIN };

	if (reader->pinned)
		return -EINVAL;
	ask_begin(reader, &query);
	const int rc = ask_call(reader);
	reader->pinned = rc == 0;
	return rc;
}

static void unpin(struct haul_reader *base)
{
	struct client_reader *reader = reader_of(base);
	const struct wire_query query = { .ask = WIRE_UNPIN };

	if (!reader->pinned)
		return;
	reader->pinned = false;
	if (!reader->pin_lost) {
		ask_begin(reader, &query);
		if (ask_call(reader) < 0)
			ask_hang_up(reader); /* that lets go of it as well */
	}
	reader->pin_lost = false;
}

static void reader_close(struct haul_reader *base)
{
	struct client_reader *reader = reader_of(base);

	link_close(&reader->link);
	free(reader->out);
	free(reader->in);
	free(reader);
}

static const struct haul_reader_calls reader_calls = {
	.close = reader_close,
	.pin = pin,
	.unpin = unpin,
	.get = get,
	.get_by_key = get_by_key,
	.get_edges = get_edges,
	.get_embeddings = get_embeddings,
	.scan = scan_nodes,
	.scan_edges = scan_edges,
	.scan_embeddings = scan_embeddings,
	.neighbours = neighbours,
	.traverse = traverse,
	.path = path,
	.near = near,
};

static struct client_reader *reader_alloc(void)
{
	struct client_reader *reader = calloc(1, sizeof *reader);

	if (reader == NULL)
		return NULL;
	reader->out = aligned_alloc(64, (WIRE_QUERY_MAX + 63) & ~63);
	reader->in = aligned_alloc(64, WIRE_RESULT_MAX);
	if (reader->out != NULL && reader->in != NULL)
		return reader;
	free(reader->out);
	free(reader->in);
	free(reader);
	return NULL;
}

int haul_client_reader(struct haul_client *client, uint64_t bytes, struct haul_reader **ret_reader)
{
	struct client_reader *reader = reader_alloc();

	HAUL_ASSERT(client != NULL && ret_reader != NULL);
	(void)bytes; /* a page of the server is bounded, and fits */
	if (reader == NULL)
		return -ENOMEM;
	reader->reader.calls = &reader_calls;
	reader->client = client;
	link_begin(&reader->link, &client->target, client->os);
	*ret_reader = &reader->reader;
	return 0;
}
