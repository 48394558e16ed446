/* What is the same for readers of any kind: arguments are checked here, once, and no implementation
 * sees one that is not valid. */
#include <errno.h>
#include <math.h>

#include "base/assert.h"
#include "store/reader_state.h"

enum {
	NEAR_MAX = 1024,
	DEPTH_MAX = 64,
	/* Of a call: it holds memory tables that writers want back. */
	RECORDS_MAX = 65536,
};

void haul_reader_close(struct haul_reader *reader)
{
	if (reader != NULL)
		reader->calls->close(reader);
}

int haul_reader_pin(struct haul_reader *reader)
{
	return reader == NULL ? -EINVAL : reader->calls->pin(reader);
}

void haul_reader_unpin(struct haul_reader *reader)
{
	if (reader != NULL)
		reader->calls->unpin(reader);
}

void haul_reader_interrupt(struct haul_reader *reader)
{
	if (reader != NULL)
		__atomic_store_n(&reader->stop, true, __ATOMIC_RELEASE);
}

static uint32_t records_most(uint32_t count)
{
	return count < RECORDS_MAX ? count : RECORDS_MAX;
}

/* A count goes back as an int. */
static bool columns_valid(const struct haul_reader *reader, const void *names, uint32_t count,
			  const void *records, const int32_t *statuses)
{
	return reader != NULL && count <= INT32_MAX &&
	       (count == 0 || (names != NULL && records != NULL && statuses != NULL));
}

int haul_reader_get(struct haul_reader *reader, const uint64_t *ids, uint32_t count,
		    struct haul_node *nodes, int32_t *statuses)
{
	if (!columns_valid(reader, ids, count, nodes, statuses))
		return -EINVAL;
	return count == 0 ? 0
			  : reader->calls->get(reader, ids, records_most(count), nodes, statuses);
}

int haul_reader_get_by_key(struct haul_reader *reader, const struct haul_text *keys, uint32_t count,
			   struct haul_node *nodes, int32_t *statuses)
{
	if (!columns_valid(reader, keys, count, nodes, statuses))
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++) {
		if (keys[i].data == NULL && keys[i].bytes > 0)
			return -EINVAL;
	}
	return count == 0 ? 0
			  : reader->calls->get_by_key(reader, keys, records_most(count), nodes,
						      statuses);
}

int haul_reader_get_edges(struct haul_reader *reader, const struct haul_edge_id *ids,
			  uint32_t count, struct haul_edge *edges, int32_t *statuses)
{
	if (!columns_valid(reader, ids, count, edges, statuses))
		return -EINVAL;
	return count == 0 ? 0
			  : reader->calls->get_edges(reader, ids, records_most(count), edges,
						     statuses);
}

int haul_reader_get_embeddings(struct haul_reader *reader, const struct haul_embedding_names *names,
			       struct haul_embedding *embeddings, int32_t *statuses)
{
	if (names == NULL || names->index >= HAUL_EMBEDDING_INDEXES ||
	    !columns_valid(reader, names->nodes, names->count, embeddings, statuses))
		return -EINVAL;
	struct haul_embedding_names some = *names;
	some.count = records_most(names->count);
	return some.count == 0 ? 0
			       : reader->calls->get_embeddings(reader, &some, embeddings, statuses);
}

static bool page_valid(const struct haul_reader *reader, const void *query, const void *records,
		       uint32_t max)
{
	return reader != NULL && query != NULL && max <= INT32_MAX && (max == 0 || records != NULL);
}

int haul_reader_scan(struct haul_reader *reader, struct haul_scan *scan, struct haul_node *nodes,
		     uint32_t max)
{
	if (!page_valid(reader, scan, nodes, max))
		return -EINVAL;
	if (scan->last_id != 0 && scan->first_id > scan->last_id)
		return -EINVAL;
	return max == 0 ? 0 : reader->calls->scan(reader, scan, nodes, records_most(max));
}

int haul_reader_scan_edges(struct haul_reader *reader, struct haul_cursor *cursor,
			   struct haul_edge *edges, uint32_t max)
{
	if (!page_valid(reader, cursor, edges, max))
		return -EINVAL;
	return max == 0 ? 0 : reader->calls->scan_edges(reader, cursor, edges, records_most(max));
}

int haul_reader_scan_embeddings(struct haul_reader *reader, struct haul_cursor *cursor,
				struct haul_embedding *embeddings, uint32_t max)
{
	if (!page_valid(reader, cursor, embeddings, max))
		return -EINVAL;
	return max == 0 ? 0
			: reader->calls->scan_embeddings(reader, cursor, embeddings,
							 records_most(max));
}

static bool direction_valid(enum haul_direction direction)
{
	return direction == HAUL_OUT || direction == HAUL_IN || direction == HAUL_BOTH;
}

int haul_reader_neighbours(struct haul_reader *reader, struct haul_neighbours *query,
			   struct haul_edge *edges, uint32_t max)
{
	if (!page_valid(reader, query, edges, max) || !direction_valid(query->direction))
		return -EINVAL;
	return max == 0 ? 0 : reader->calls->neighbours(reader, query, edges, records_most(max));
}

int haul_reader_traverse(struct haul_reader *reader, const struct haul_traverse *query,
			 struct haul_visit *visits, uint32_t max, bool *ret_complete)
{
	if (!page_valid(reader, query, visits, max) || max == 0 || ret_complete == NULL ||
	    !direction_valid(query->direction) || query->depth_max < 1 ||
	    query->depth_max > DEPTH_MAX)
		return -EINVAL;
	return reader->calls->traverse(reader, query, visits, max, ret_complete);
}

int haul_reader_path(struct haul_reader *reader, const struct haul_path *query, uint64_t *nodes,
		     uint32_t max)
{
	if (!page_valid(reader, query, nodes, max) || max == 0 ||
	    !direction_valid(query->direction) || query->depth_max < 1)
		return -EINVAL;
	return reader->calls->path(reader, query, nodes, max);
}

static bool near_valid(const struct haul_near *query)
{
	if (query->index >= HAUL_EMBEDDING_INDEXES || query->dimensions < 1 ||
	    query->dimensions > HAUL_DIMENSIONS_MAX || query->k < 1 || query->k > NEAR_MAX ||
	    query->count < 1 || query->count > NEAR_MAX || query->vectors == NULL)
		return false;
	if (query->metric != HAUL_EUCLIDEAN && query->metric != HAUL_COSINE)
		return false;
	for (size_t i = 0; i < (size_t)query->count * query->dimensions; i++) {
		if (!isfinite(query->vectors[i]))
			return false;
	}
	return true;
}

int haul_reader_near(struct haul_reader *reader, const struct haul_near *query,
		     struct haul_near_hit *hits)
{
	if (reader == NULL || query == NULL || hits == NULL || !near_valid(query))
		return -EINVAL;
	const int count = reader->calls->near(reader, query, hits);
	HAUL_ASSERT(count < 0 || (uint32_t)count == query->count);
	return count;
}
