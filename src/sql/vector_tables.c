/* Tables of embeddings: embeddings, near(vector, k). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "sql/convert.h"
#include "sql/table.h"

/* ---- embeddings ---- */

enum {
	EMBEDDING_NODE,
	EMBEDDING_INDEX,
	EMBEDDING_DIMENSIONS,
	EMBEDDING_VECTOR,
	EMBEDDING_VERSION,
	EMBEDDING_NAMED,
};
/* Index and node, as one column: see the edges. */
enum { EMBEDDING_NAME = 12 };
enum { BY_NODE, BY_INDEX, PAGE = 64 };

static const struct sql_arg embedding_args[] = {
	[BY_NODE] = { EMBEDDING_NODE, SQLITE_INDEX_CONSTRAINT_EQ, .list = true, .rows = 1e4 },
	[BY_INDEX] = { EMBEDDING_INDEX, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 1e4 },
};

struct embedding_cursor {
	struct sql_cursor base;
	bool pinned, scanning;
	struct haul_cursor all;
	uint64_t *ids;
	uint32_t id_count, id_at, index;
	struct haul_embedding embeddings[PAGE];
	int32_t statuses[PAGE];
	uint32_t at, count;
};

static void embedding_close(struct sql_cursor *base)
{
	struct embedding_cursor *cursor = (struct embedding_cursor *)base;
	if (base->reader != NULL)
		sql_unpin(base, &cursor->pinned);
	free(cursor->ids);
	cursor->ids = NULL;
}

static int embedding_start(struct sql_cursor *base, const struct sql_given *given)
{
	struct embedding_cursor *cursor = (struct embedding_cursor *)base;
	sqlite3_value *index = given->value[BY_INDEX];
	int error = sql_cursor_reader(base);
	if (error < 0)
		return error;
	embedding_close(base);
	cursor->all = (struct haul_cursor){ 0 };
	cursor->id_count = cursor->id_at = cursor->at = cursor->count = 0;
	/* One index and nodes by name; all else is a scan that SQLite sorts out. */
	bool named = index != NULL && sqlite3_value_type(index) == SQLITE_INTEGER &&
		     (uint64_t)sqlite3_value_int64(index) < HAUL_EMBEDDING_INDEXES;
	cursor->scanning = !named || given->value[BY_NODE] == NULL;
	if (cursor->scanning) {
		sql_pin(base, &cursor->pinned);
		return 0;
	}
	cursor->index = (uint32_t)sqlite3_value_int64(index);
	return sql_given_ids(given, BY_NODE, &cursor->ids, &cursor->id_count);
}

static int embedding_ask(struct embedding_cursor *cursor)
{
	while (cursor->id_at < cursor->id_count) {
		uint32_t found = 0, count = cursor->id_count - cursor->id_at;
		uint32_t page = count < PAGE ? count : PAGE;
		const struct haul_embedding_names names = { .nodes = cursor->ids + cursor->id_at,
							    .count = page,
							    .index = cursor->index };
		int got = haul_reader_get_embeddings(cursor->base.reader, &names,
						     cursor->embeddings, cursor->statuses);
		if (got <= 0)
			return got < 0 ? got : -EIO;
		for (int i = 0; i < got; i++) {
			if (cursor->statuses[i] < 0 && cursor->statuses[i] != -ENOENT)
				return cursor->statuses[i];
			if (cursor->statuses[i] == 0)
				cursor->embeddings[found++] = cursor->embeddings[i];
		}
		cursor->id_at += (uint32_t)got;
		if (found > 0)
			return (int)found;
	}
	return 0;
}

static int embedding_next(struct sql_cursor *base)
{
	struct embedding_cursor *cursor = (struct embedding_cursor *)base;
	if (++cursor->at < cursor->count)
		return 1;
	int got = cursor->scanning ? haul_reader_scan_embeddings(base->reader, &cursor->all,
								 cursor->embeddings, PAGE)
				   : embedding_ask(cursor);
	cursor->at = 0;
	cursor->count = got > 0 ? (uint32_t)got : 0;
	if (got <= 0)
		sql_unpin(base, &cursor->pinned);
	return got > 0 ? 1 : got;
}

static int embedding_column(struct sql_cursor *base, sqlite3_context *context, int column)
{
	struct embedding_cursor *cursor = (struct embedding_cursor *)base;
	const struct haul_embedding *embedding = &cursor->embeddings[cursor->at];
	uint8_t name[EMBEDDING_NAME];
	switch (column) {
	case EMBEDDING_NODE:
		sqlite3_result_int64(context, (sqlite3_int64)embedding->node);
		return 0;
	case EMBEDDING_INDEX:
		sqlite3_result_int64(context, embedding->index);
		return 0;
	case EMBEDDING_DIMENSIONS:
		sqlite3_result_int64(context, embedding->dimensions);
		return 0;
	case EMBEDDING_VECTOR:
		sqlite3_result_blob(context, embedding->vector,
				    (int)(embedding->dimensions * sizeof(float)), SQLITE_TRANSIENT);
		return 0;
	case EMBEDDING_VERSION:
		sqlite3_result_int64(context, (sqlite3_int64)embedding->version);
		return 0;
	default:
		be32_store(name, embedding->index);
		be64_store(name + 4, embedding->node);
		sqlite3_result_blob(context, name, EMBEDDING_NAME, SQLITE_TRANSIENT);
		return 0;
	}
}

static int embedding_take(struct sql_vtab *vtab, sqlite3_value **values,
			  struct haul_embedding *embedding, float **ret_vector)
{
	int error = convert_take_id(vtab, values[2 + EMBEDDING_NODE], "node", &embedding->node);
	if (error == 0)
		error = convert_take_number(vtab, values[2 + EMBEDDING_INDEX], "idx",
					    &embedding->index);
	if (error == 0)
		error = convert_take_vector(vtab, values[2 + EMBEDDING_VECTOR], ret_vector,
					    &embedding->dimensions);
	embedding->vector = *ret_vector;
	return error;
}

/* values: old name, new name, then the columns; one value: delete. An embedding that is there is
 * replaced. */
static int embedding_update(struct sql_vtab *vtab, int count, sqlite3_value **values,
			    sqlite3_int64 *rowid)
{
	struct pending *pending = &vtab->connection->pending;
	struct pending_change change = { .change = HAUL_DELETE_EMBEDDING };
	struct haul_embedding *embedding = &change.of.embedding;
	const uint8_t *name = sqlite3_value_blob(values[0]);
	float *vector = NULL;
	(void)rowid;
	if (count > 1) {
		change.change = HAUL_SET_EMBEDDING;
		int error = embedding_take(vtab, values, embedding, &vector);
		if (error < 0)
			return error;
	}
	if (name != NULL && sqlite3_value_bytes(values[0]) == EMBEDDING_NAME) {
		uint32_t index = be32_load(name);
		uint64_t node = be64_load(name + 4);
		if (count > 1 && (index != embedding->index || node != embedding->node)) {
			free(vector);
			(void)sql_fail(vtab, -EINVAL,
				       "node and idx of an embedding cannot be changed");
			return -EINVAL;
		}
		embedding->index = index;
		embedding->node = node;
	}
	int error = pending_add(pending, &change);
	free(vector);
	return error;
}

const struct sql_table sql_embeddings = {
	.name = "embeddings",
	.schema = "CREATE TABLE x(node INTEGER, idx INTEGER, dimensions INTEGER, vector BLOB, "
		  "version INTEGER, name BLOB HIDDEN PRIMARY KEY) WITHOUT ROWID",
	.args = embedding_args,
	.arg_count = sizeof embedding_args / sizeof *embedding_args,
	.rows = 1e5,
	.order_column = -1,
	.cursor_bytes = sizeof(struct embedding_cursor),
	.start = embedding_start,
	.next = embedding_next,
	.column = embedding_column,
	.close = embedding_close,
	.update = embedding_update,
};

/* ---- near(vector, k, idx, metric, exact) ---- */

enum { NEAR_NODE, NEAR_DISTANCE, NEAR_VECTOR, NEAR_K, NEAR_INDEX, NEAR_METRIC, NEAR_EXACT };
enum { K_DEFAULT = 10, K_MAX = 1024 };

static const struct sql_arg near_args[] = {
	{ NEAR_VECTOR, SQLITE_INDEX_CONSTRAINT_EQ, .required = true, .rows = 10 },
	{ NEAR_K, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 10 },
	{ NEAR_INDEX, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 10 },
	{ NEAR_METRIC, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 10 },
	{ NEAR_EXACT, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 10 },
};

struct near_cursor {
	struct sql_cursor base;
	struct haul_near query;
	sqlite3_value *vector; /* as it was given */
	struct haul_near_hit hits[K_MAX];
	uint32_t at;
};

static void near_close(struct sql_cursor *base)
{
	struct near_cursor *cursor = (struct near_cursor *)base;
	sqlite3_value_free(cursor->vector);
	cursor->vector = NULL;
}

static int near_options(struct near_cursor *cursor, const struct sql_given *given)
{
	struct sql_vtab *vtab = sql_vtab_of(&cursor->base);
	struct haul_near *query = &cursor->query;
	int error = 0;
	query->k = K_DEFAULT;
	if (given->value[1] != NULL)
		error = convert_take_number(vtab, given->value[1], "k", &query->k);
	if (error == 0 && given->value[2] != NULL)
		error = convert_take_number(vtab, given->value[2], "idx", &query->index);
	if (error == 0 && (query->k == 0 || query->k > K_MAX)) {
		(void)sql_fail(vtab, -EINVAL, "k %u: wanted is a number from 1 to %d", query->k,
			       K_MAX);
		error = -EINVAL;
	}
	const char *metric =
		given->value[3] != NULL ? (const char *)sqlite3_value_text(given->value[3]) : NULL;
	query->metric =
		metric != NULL && strcmp(metric, "cosine") == 0 ? HAUL_COSINE : HAUL_EUCLIDEAN;
	if (error == 0 && metric != NULL && query->metric == HAUL_EUCLIDEAN &&
	    strcmp(metric, "euclidean") != 0) {
		(void)sql_fail(vtab, -EINVAL, "metric '%s': wanted is 'euclidean' or 'cosine'",
			       metric);
		error = -EINVAL;
	}
	query->exact = given->value[4] != NULL && sqlite3_value_int(given->value[4]) != 0;
	return error;
}

static int near_start(struct sql_cursor *base, const struct sql_given *given)
{
	struct near_cursor *cursor = (struct near_cursor *)base;
	float *vector = NULL;
	near_close(base);
	cursor->at = UINT32_MAX;
	cursor->query = (struct haul_near){ .count = 1 };
	int error = sql_cursor_reader(base);
	if (error == 0)
		error = near_options(cursor, given);
	if (error == 0)
		error = convert_take_vector(sql_vtab_of(base), given->value[0], &vector,
					    &cursor->query.dimensions);
	if (error < 0)
		return error;
	cursor->vector = sqlite3_value_dup(given->value[0]);
	cursor->query.vectors = vector;
	error = haul_reader_near(base->reader, &cursor->query, cursor->hits);
	cursor->query.vectors = NULL;
	free(vector);
	if (error == -EINVAL)
		(void)sql_fail(sql_vtab_of(base), error,
			       "near: the embeddings of index %u have other than %u dimensions",
			       cursor->query.index, cursor->query.dimensions);
	return error < 0 ? error : 0;
}

static int near_next(struct sql_cursor *base)
{
	struct near_cursor *cursor = (struct near_cursor *)base;
	cursor->at++;
	return cursor->at < cursor->query.k && cursor->hits[cursor->at].node != 0;
}

static int near_column(struct sql_cursor *base, sqlite3_context *context, int column)
{
	struct near_cursor *cursor = (struct near_cursor *)base;
	const struct haul_near_hit *hit = &cursor->hits[cursor->at];
	switch (column) {
	case NEAR_NODE:
		sqlite3_result_int64(context, (sqlite3_int64)hit->node);
		return 0;
	case NEAR_DISTANCE:
		sqlite3_result_double(context, (double)hit->distance);
		return 0;
	case NEAR_VECTOR:
		sqlite3_result_value(context, cursor->vector);
		return 0;
	case NEAR_K:
		sqlite3_result_int64(context, cursor->query.k);
		return 0;
	case NEAR_INDEX:
		sqlite3_result_int64(context, cursor->query.index);
		return 0;
	case NEAR_METRIC:
		sqlite3_result_text(context,
				    cursor->query.metric == HAUL_COSINE ? "cosine" : "euclidean",
				    -1, SQLITE_STATIC);
		return 0;
	default:
		sqlite3_result_int64(context, cursor->query.exact);
		return 0;
	}
}

const struct sql_table sql_near = {
	.name = "near",
	.schema = "CREATE TABLE x(node INTEGER, distance REAL, vector HIDDEN, k INTEGER HIDDEN, "
		  "idx INTEGER HIDDEN, metric TEXT HIDDEN, exact INTEGER HIDDEN)",
	.args = near_args,
	.arg_count = sizeof near_args / sizeof *near_args,
	.rows = 1e6,
	.order_column = NEAR_DISTANCE,
	.cursor_bytes = sizeof(struct near_cursor),
	.start = near_start,
	.next = near_next,
	.column = near_column,
	.close = near_close,
};
