/* One query: the call of a reader that it asks for, and what it returns as a page.
 *
 * The reader checks its arguments, whoever they come from. What it returns in order (with a cursor
 * behind it) fits into the page, as the reader has room for WIRE_VALUES_MAX bytes and is asked for
 * WIRE_ITEMS_MAX records at most; what was asked for by name may not, when the same long record is
 * asked for many times: then fewer are answered. */
#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "rpc/store_server_state.h"

struct asking {
	struct server_worker *worker;
	struct haul_reader *reader;
	const uint8_t *frame;
	const struct wire_query *query;
	struct wire_result result;
	struct wire_page page;
};

static const void *names(const struct asking *asking)
{
	return asking->frame + WIRE_QUERY_HEAD;
}

static uint32_t wanted(const struct asking *asking)
{
	const uint32_t max = asking->query->max;
	return max < WIRE_ITEMS_MAX ? max : WIRE_ITEMS_MAX;
}

static uint32_t room(uint32_t max, uint32_t each)
{
	const uint32_t room = (WIRE_RESULT_MAX - WIRE_RESULT_HEAD) / each;
	return max < room ? max : room;
}

/* ---- records onto the page ---- */

static int put_nodes(struct asking *asking, int count, const int32_t *statuses)
{
	const struct haul_node *nodes = asking->worker->records;
	int put = 0;

	while (put < count &&
	       wire_put_node(&asking->page, &nodes[put], statuses != NULL ? statuses[put] : 0))
		put++;
	HAUL_ASSERT(count < 0 || statuses != NULL || put == count);
	return count < 0 ? count : put;
}

static int put_edges(struct asking *asking, int count, const int32_t *statuses)
{
	const struct haul_edge *edges = asking->worker->records;
	int put = 0;

	while (put < count &&
	       wire_put_edge(&asking->page, &edges[put], statuses != NULL ? statuses[put] : 0))
		put++;
	HAUL_ASSERT(count < 0 || statuses != NULL || put == count);
	return count < 0 ? count : put;
}

static int put_embeddings(struct asking *asking, int count, const int32_t *statuses)
{
	const struct haul_embedding *embeddings = asking->worker->records;
	int put = 0;

	while (put < count && wire_put_embedding(&asking->page, &embeddings[put],
						 statuses != NULL ? statuses[put] : 0))
		put++;
	HAUL_ASSERT(count < 0 || statuses != NULL || put == count);
	return count < 0 ? count : put;
}

/* ---- calls ---- */

static int by_name(struct asking *asking)
{
	struct server_worker *worker = asking->worker;
	const struct wire_query *query = asking->query;
	int32_t *statuses = worker->statuses;
	int rc;

	if (query->ask == WIRE_GET) {
		rc = haul_reader_get(asking->reader, names(asking), query->count, worker->records,
				     statuses);
		return put_nodes(asking, rc, statuses);
	}
	if (query->ask == WIRE_GET_BY_KEY) {
		wire_get_keys(asking->frame, worker->keys);
		rc = haul_reader_get_by_key(asking->reader, worker->keys, query->count,
					    worker->records, statuses);
		return put_nodes(asking, rc, statuses);
	}
	if (query->ask == WIRE_GET_EDGES) {
		rc = haul_reader_get_edges(asking->reader, names(asking), query->count,
					   worker->records, statuses);
		return put_edges(asking, rc, statuses);
	}
	const struct haul_embedding_names all = { .nodes = names(asking),
						  .count = query->count,
						  .index = query->type };
	rc = haul_reader_get_embeddings(asking->reader, &all, worker->records, statuses);
	return put_embeddings(asking, rc, statuses);
}

static int in_order(struct asking *asking)
{
	const struct wire_query *query = asking->query;
	const uint32_t max = wanted(asking);
	struct haul_cursor cursor;
	void *records = asking->worker->records;
	int rc;

	memcpy(&cursor, query->cursor, sizeof cursor);
	if (query->ask == WIRE_SCAN) {
		struct haul_scan scan = { .kind = query->type,
					  .first_id = query->first,
					  .last_id = query->last,
					  .cursor = cursor };
		rc = haul_reader_scan(asking->reader, &scan, records, max);
		cursor = scan.cursor;
		rc = put_nodes(asking, rc, NULL);
	} else if (query->ask == WIRE_SCAN_EDGES) {
		rc = haul_reader_scan_edges(asking->reader, &cursor, records, max);
		rc = put_edges(asking, rc, NULL);
	} else if (query->ask == WIRE_SCAN_EMBEDDINGS) {
		rc = haul_reader_scan_embeddings(asking->reader, &cursor, records, max);
		rc = put_embeddings(asking, rc, NULL);
	} else {
		struct haul_neighbours neighbours = {
			.node = query->first,
			.direction = (enum haul_direction)query->direction,
			.type = query->type,
			.bare = (query->flags & WIRE_BARE) != 0,
			.cursor = cursor,
		};
		rc = haul_reader_neighbours(asking->reader, &neighbours, records, max);
		cursor = neighbours.cursor;
		rc = put_edges(asking, rc, NULL);
	}
	memcpy(asking->result.cursor, &cursor, sizeof cursor);
	return rc;
}

static int along(struct asking *asking)
{
	const struct wire_query *query = asking->query;
	void *out = asking->page.data + asking->page.at;
	uint32_t each = sizeof(uint64_t);
	bool complete = true;
	int rc;

	if (query->ask == WIRE_TRAVERSE) {
		const struct haul_traverse traverse = {
			.start = query->first,
			.direction = (enum haul_direction)query->direction,
			.type = query->type,
			.depth_max = query->depth_max,
			.visits_max = query->visits_max,
		};
		each = sizeof(struct haul_visit);
		const uint32_t max = room(query->max, each);
		rc = haul_reader_traverse(asking->reader, &traverse, out, max, &complete);
		/* the client has room for more, and there are more */
		if (rc >= 0 && !complete && max < query->max)
			rc = HAUL_ELIMIT;
		asking->result.complete = complete;
	} else {
		const struct haul_path path = {
			.src = query->first,
			.dst = query->last,
			.direction = (enum haul_direction)query->direction,
			.type = query->type,
			.depth_max = query->depth_max,
		};
		const uint32_t max = room(query->max, each);
		rc = haul_reader_path(asking->reader, &path, out, max);
		if (rc == HAUL_EFULL && max < query->max)
			rc = HAUL_ELIMIT;
	}
	if (rc > 0)
		asking->page.at += (uint32_t)rc * each;
	return rc;
}

static int near(struct asking *asking)
{
	const struct wire_query *query = asking->query;
	const struct haul_near near = {
		.index = query->type,
		.dimensions = query->dimensions,
		.metric = (enum haul_metric)query->metric,
		.exact = (query->flags & WIRE_EXACT) != 0,
		.k = query->max,
		.count = query->count,
		.vectors = names(asking),
	};
	struct haul_near_hit *hits = (void *)(asking->page.data + asking->page.at);

	static_assert(sizeof *hits == sizeof(struct wire_hit), "as they are sent");
	memset(hits, 0, (size_t)query->count * query->max * sizeof *hits);
	const int rc = haul_reader_near(asking->reader, &near, hits);
	if (rc > 0)
		asking->page.at += query->count * query->max * (uint32_t)sizeof *hits;
	return rc;
}

static int call(struct asking *asking)
{
	const enum wire_ask ask = asking->query->ask;

	if (ask == WIRE_STATUS)
		return server_status(asking->worker->server, &asking->page);
	if (asking->reader == NULL)
		return HAUL_ESTALE; /* it was pinned, and has been let go of */
	if (ask >= WIRE_GET && ask <= WIRE_GET_EMBEDDINGS)
		return by_name(asking);
	if (ask >= WIRE_SCAN && ask <= WIRE_NEIGHBOURS)
		return in_order(asking);
	if (ask == WIRE_TRAVERSE || ask == WIRE_PATH)
		return along(asking);
	HAUL_ASSERT(ask == WIRE_NEAR);
	return near(asking);
}

void server_query_answer(struct server_worker *worker, struct haul_reader *reader,
			 const struct server_task *task, uint32_t *ret_bytes)
{
	struct asking asking = {
		.worker = worker,
		.reader = reader,
		.frame = task->block,
		.query = (const struct wire_query *)(const void *)wire_body(task->block),
		.result = { .complete = 1 },
		.page = { worker->page, WIRE_RESULT_HEAD, WIRE_RESULT_MAX },
	};

	memcpy(asking.result.cursor, asking.query->cursor, sizeof asking.result.cursor);
	asking.result.result = call(&asking);
	if (asking.result.result < 0)
		asking.page.at = WIRE_RESULT_HEAD;
	HAUL_ASSERT(asking.page.at <= WIRE_RESULT_MAX);
	memcpy(worker->page + FRAME_HEAD, &asking.result, sizeof asking.result);
	wire_seal(worker->page, WIRE_RESULT, asking.page.at, &task->from);
	*ret_bytes = asking.page.at;
}
