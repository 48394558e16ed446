/* Tables of edges: edges, neighbours(id), path(a, b). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "sql/convert.h"
#include "sql/table.h"

/* ---- edges, and those of one node ---- */

/* An edge has a name of four numbers; SQLite wants one column for that. */
enum { EDGE_NAME = 24 };

enum { EDGE_SRC, EDGE_DST, EDGE_TYPE, EDGE_DISC, EDGE_PROPERTIES, EDGE_VERSION, EDGE_NAMED };
enum { BY_NAME, BY_SRC, BY_DST, BY_TYPE, BY_DISC };

static const struct sql_arg edge_args[] = {
	[BY_NAME] = { EDGE_NAMED, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 1 },
	[BY_SRC] = { EDGE_SRC, SQLITE_INDEX_CONSTRAINT_EQ, .list = true, .rows = 100 },
	[BY_DST] = { EDGE_DST, SQLITE_INDEX_CONSTRAINT_EQ, .list = true, .rows = 100 },
	[BY_TYPE] = { EDGE_TYPE, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 5e5 },
};

struct edge_cursor {
	struct sql_cursor base;
	bool pinned;
	enum { WALK_ALL, WALK_NODES, WALK_ONE } walk;
	struct haul_cursor all;
	struct haul_neighbours around;
	uint64_t *ids; /* nodes whose edges are wanted */
	uint32_t id_count, id_at;
	struct haul_edge_id one;
	struct haul_edge edges[SQL_PAGE];
	uint32_t at, count, page;
};

static void edge_name_store(uint8_t name[EDGE_NAME], const struct haul_edge_id *id)
{
	be64_store(name, id->src);
	be32_store(name + 8, id->type);
	be32_store(name + 12, id->disc);
	be64_store(name + 16, id->dst);
}

static bool edge_name_load(sqlite3_value *value, struct haul_edge_id *ret_id)
{
	const uint8_t *name = sqlite3_value_blob(value);
	if (sqlite3_value_type(value) != SQLITE_BLOB || sqlite3_value_bytes(value) != EDGE_NAME)
		return false;
	*ret_id = (struct haul_edge_id){ .src = be64_load(name),
					 .dst = be64_load(name + 16),
					 .type = be32_load(name + 8),
					 .disc = be32_load(name + 12) };
	return true;
}

static void edge_close(struct sql_cursor *base)
{
	struct edge_cursor *cursor = (struct edge_cursor *)base;
	if (base->reader != NULL)
		sql_unpin(base, &cursor->pinned);
	free(cursor->ids);
	cursor->ids = NULL;
}

static int edge_begin(struct edge_cursor *cursor)
{
	int error = sql_cursor_reader(&cursor->base);
	if (error < 0)
		return error;
	edge_close(&cursor->base);
	cursor->all = (struct haul_cursor){ 0 };
	cursor->around = (struct haul_neighbours){ 0 };
	cursor->id_count = cursor->id_at = cursor->at = cursor->count = cursor->page = 0;
	return 0;
}

/* A type that is given goes along; one that cannot be is left to SQLite, who finds none. */
static uint32_t type_of(sqlite3_value *value)
{
	if (value == NULL || sqlite3_value_type(value) != SQLITE_INTEGER)
		return HAUL_ANY;
	sqlite3_int64 type = sqlite3_value_int64(value);
	return type > 0 && type <= UINT32_MAX ? (uint32_t)type : HAUL_ANY;
}

static int edge_start(struct sql_cursor *base, const struct sql_given *given)
{
	struct edge_cursor *cursor = (struct edge_cursor *)base;
	int error = edge_begin(cursor);
	if (error < 0)
		return error;
	cursor->around.type = type_of(given->value[BY_TYPE]);
	if (given->value[BY_NAME] != NULL) {
		cursor->walk = WALK_ONE;
		cursor->id_count = edge_name_load(given->value[BY_NAME], &cursor->one);
		return 0;
	}
	cursor->walk = WALK_NODES;
	if (given->value[BY_SRC] != NULL)
		return sql_given_ids(given, BY_SRC, &cursor->ids, &cursor->id_count);
	cursor->around.direction = HAUL_IN;
	if (given->value[BY_DST] != NULL)
		return sql_given_ids(given, BY_DST, &cursor->ids, &cursor->id_count);
	cursor->walk = WALK_ALL;
	sql_pin(base, &cursor->pinned);
	return 0;
}

static int edge_one(struct edge_cursor *cursor)
{
	int32_t status;
	if (cursor->id_at == cursor->id_count)
		return 0;
	cursor->id_at++;
	int got =
		haul_reader_get_edges(cursor->base.reader, &cursor->one, 1, cursor->edges, &status);
	return got < 0 ? got : status == -ENOENT ? 0 : status < 0 ? status : 1;
}

static int edge_page(struct edge_cursor *cursor)
{
	cursor->page = sql_page_after(cursor->page);
	if (cursor->walk == WALK_ALL)
		return haul_reader_scan_edges(cursor->base.reader, &cursor->all, cursor->edges,
					      cursor->page);
	if (cursor->walk == WALK_ONE)
		return edge_one(cursor);
	for (; cursor->id_at < cursor->id_count; cursor->id_at++) {
		cursor->around.node = cursor->ids[cursor->id_at];
		bool valid = cursor->around.node != 0 && cursor->around.node != UINT64_MAX;
		int got = valid ? haul_reader_neighbours(cursor->base.reader, &cursor->around,
							 cursor->edges, cursor->page)
				: 0;
		if (got != 0)
			return got;
		cursor->around.cursor = (struct haul_cursor){ 0 };
	}
	return 0;
}

static int edge_next(struct sql_cursor *base)
{
	struct edge_cursor *cursor = (struct edge_cursor *)base;
	if (++cursor->at < cursor->count)
		return 1;
	int got = edge_page(cursor);
	cursor->at = 0;
	cursor->count = got > 0 ? (uint32_t)got : 0;
	if (got <= 0)
		sql_unpin(base, &cursor->pinned);
	return got > 0 ? 1 : got;
}

static int edge_column_of(const struct haul_edge *edge, sqlite3_context *context, int column)
{
	uint8_t name[EDGE_NAME];
	switch (column) {
	case EDGE_SRC:
		sqlite3_result_int64(context, (sqlite3_int64)edge->id.src);
		return 0;
	case EDGE_DST:
		sqlite3_result_int64(context, (sqlite3_int64)edge->id.dst);
		return 0;
	case EDGE_TYPE:
		sqlite3_result_int64(context, edge->id.type);
		return 0;
	case EDGE_DISC:
		sqlite3_result_int64(context, edge->id.disc);
		return 0;
	case EDGE_PROPERTIES:
		return convert_result_properties(context, &edge->properties);
	case EDGE_VERSION:
		sqlite3_result_int64(context, (sqlite3_int64)edge->version);
		return 0;
	default:
		edge_name_store(name, &edge->id);
		sqlite3_result_blob(context, name, EDGE_NAME, SQLITE_TRANSIENT);
		return 0;
	}
}

static int edge_column(struct sql_cursor *base, sqlite3_context *context, int column)
{
	struct edge_cursor *cursor = (struct edge_cursor *)base;
	return edge_column_of(&cursor->edges[cursor->at], context, column);
}

static bool same_edge(const struct haul_edge_id *a, const struct haul_edge_id *b)
{
	return a->src == b->src && a->dst == b->dst && a->type == b->type && a->disc == b->disc;
}

/* values: old name, new name, then the columns; one value: delete. */
static int edge_update(struct sql_vtab *vtab, int count, sqlite3_value **values,
		       sqlite3_int64 *rowid)
{
	struct pending *pending = &vtab->connection->pending;
	struct pending_change change = { 0 };
	struct haul_edge *edge = &change.of.edge;
	struct haul_edge_id old = { 0 };
	(void)rowid;
	bool insert = sqlite3_value_type(values[0]) == SQLITE_NULL;
	if (!insert && !edge_name_load(values[0], &old))
		return -EINVAL;
	if (count == 1) {
		change.change = HAUL_DELETE_EDGE;
		edge->id = old;
		return pending_add(pending, &change);
	}
	int error = convert_take_id(vtab, values[2 + EDGE_SRC], "src", &edge->id.src);
	if (error == 0)
		error = convert_take_id(vtab, values[2 + EDGE_DST], "dst", &edge->id.dst);
	if (error == 0)
		error = convert_take_number(vtab, values[2 + EDGE_TYPE], "type", &edge->id.type);
	if (error == 0)
		error = convert_take_number(vtab, values[2 + EDGE_DISC], "disc", &edge->id.disc);
	if (error == 0)
		error = convert_take_properties(vtab, values[2 + EDGE_PROPERTIES],
						vtab->connection->properties, &edge->properties);
	if (error < 0)
		return error;
	if (!insert && !same_edge(&edge->id, &old)) {
		(void)sql_fail(vtab, -EINVAL,
			       "src, dst, type and disc of an edge cannot be changed");
		return -EINVAL;
	}
	change.change = insert ? HAUL_CREATE_EDGE : HAUL_UPDATE_EDGE;
	change.options.flags = insert && vtab->connection->replace ? HAUL_UPSERT : 0;
	if (!insert && sqlite3_value_type(values[2 + EDGE_VERSION]) == SQLITE_INTEGER)
		change.options.expected_version =
			(uint64_t)sqlite3_value_int64(values[2 + EDGE_VERSION]);
	return pending_add(pending, &change);
}

const struct sql_table sql_edges = {
	.name = "edges",
	.schema = "CREATE TABLE x(src INTEGER, dst INTEGER, type INTEGER, disc INTEGER, "
		  "properties TEXT, version INTEGER, name BLOB HIDDEN PRIMARY KEY) WITHOUT ROWID",
	.args = edge_args,
	.arg_count = BY_TYPE + 1,
	.rows = 1e6,
	.order_column = -1,
	.cursor_bytes = sizeof(struct edge_cursor),
	.start = edge_start,
	.next = edge_next,
	.column = edge_column,
	.close = edge_close,
	.update = edge_update,
};

/* ---- neighbours(id, direction, type) ---- */

enum { AROUND_NODE, AROUND_SRC, AROUND_DST, AROUND_TYPE, AROUND_DISC, AROUND_PROPERTIES };
enum { AROUND_ID = AROUND_PROPERTIES + 1, AROUND_DIRECTION, AROUND_ONLY };

static const struct sql_arg around_args[] = {
	{ AROUND_ID, SQLITE_INDEX_CONSTRAINT_EQ, .required = true, .list = true, .rows = 100 },
	{ AROUND_DIRECTION, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 100 },
	{ AROUND_ONLY, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 50 },
	{ AROUND_TYPE, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 50 },
};

static int take_direction(struct sql_cursor *cursor, sqlite3_value *value,
			  enum haul_direction *ret_direction)
{
	static const char *const names[] = { "out", "in", "both" };
	const char *text = value != NULL ? (const char *)sqlite3_value_text(value) : "out";
	for (uint32_t i = 0; text != NULL && i < 3; i++) {
		if (strcmp(text, names[i]) != 0)
			continue;
		*ret_direction = (enum haul_direction)i;
		return 0;
	}
	(void)sql_fail(sql_vtab_of(cursor), -EINVAL,
		       "direction '%s': wanted is 'out', 'in' or 'both'",
		       text != NULL ? text : "NULL");
	return -EINVAL;
}

static int around_start(struct sql_cursor *base, const struct sql_given *given)
{
	struct edge_cursor *cursor = (struct edge_cursor *)base;
	int error = edge_begin(cursor);
	if (error == 0)
		error = take_direction(base, given->value[1], &cursor->around.direction);
	if (error < 0)
		return error;
	cursor->walk = WALK_NODES;
	cursor->around.type = type_of(given->value[2] != NULL ? given->value[2] : given->value[3]);
	return sql_given_ids(given, 0, &cursor->ids, &cursor->id_count);
}

static int around_column(struct sql_cursor *base, sqlite3_context *context, int column)
{
	struct edge_cursor *cursor = (struct edge_cursor *)base;
	static const char *const names[] = { "out", "in", "both" };
	const struct haul_edge *edge = &cursor->edges[cursor->at];
	uint64_t node = cursor->around.node;
	switch (column) {
	case AROUND_NODE:
		sqlite3_result_int64(context, (sqlite3_int64)(edge->id.src == node ? edge->id.dst
										   : edge->id.src));
		return 0;
	case AROUND_ID:
		sqlite3_result_int64(context, (sqlite3_int64)node);
		return 0;
	case AROUND_DIRECTION:
		sqlite3_result_text(context, names[cursor->around.direction], -1, SQLITE_STATIC);
		return 0;
	case AROUND_ONLY:
		sqlite3_result_int64(context, edge->id.type);
		return 0;
	default:
		return edge_column_of(edge, context, column - AROUND_SRC + EDGE_SRC);
	}
}

const struct sql_table sql_neighbours = {
	.name = "neighbours",
	.schema = "CREATE TABLE x(node INTEGER, src INTEGER, dst INTEGER, type INTEGER, "
		  "disc INTEGER, properties TEXT, id INTEGER HIDDEN, direction TEXT HIDDEN, "
		  "only_type INTEGER HIDDEN)",
	.args = around_args,
	.arg_count = sizeof around_args / sizeof *around_args,
	.rows = 1e6,
	.order_column = -1,
	.cursor_bytes = sizeof(struct edge_cursor),
	.start = around_start,
	.next = edge_next,
	.column = around_column,
	.close = edge_close,
};

/* ---- path(a, b, direction, type, depth) ---- */

enum { PATH_STEP, PATH_NODE, PATH_A, PATH_B, PATH_DIRECTION, PATH_TYPE, PATH_DEPTH };
enum { DEPTH_DEFAULT = 16, PATH_NODES = 65 };

static const struct sql_arg path_args[] = {
	{ PATH_A, SQLITE_INDEX_CONSTRAINT_EQ, .required = true, .rows = 10 },
	{ PATH_B, SQLITE_INDEX_CONSTRAINT_EQ, .required = true, .rows = 10 },
	{ PATH_DIRECTION, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 10 },
	{ PATH_TYPE, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 10 },
	{ PATH_DEPTH, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 10 },
};

struct path_cursor {
	struct sql_cursor base;
	struct haul_path path;
	uint64_t nodes[PATH_NODES];
	int count, at;
};

static int path_start(struct sql_cursor *base, const struct sql_given *given)
{
	struct path_cursor *cursor = (struct path_cursor *)base;
	struct sql_vtab *vtab = sql_vtab_of(base);
	struct haul_path *path = &cursor->path;
	uint32_t depth = DEPTH_DEFAULT;
	*path = (struct haul_path){ 0 };
	cursor->at = -1;
	int error = sql_cursor_reader(base);
	if (error == 0)
		error = convert_take_id(vtab, given->value[0], "a", &path->src);
	if (error == 0)
		error = convert_take_id(vtab, given->value[1], "b", &path->dst);
	if (error == 0)
		error = take_direction(base, given->value[2], &path->direction);
	if (error == 0 && given->value[4] != NULL)
		error = convert_take_number(vtab, given->value[4], "depth", &depth);
	if (error < 0)
		return error;
	path->type = type_of(given->value[3]);
	path->depth_max = depth;
	cursor->count = haul_reader_path(base->reader, path, cursor->nodes, PATH_NODES);
	return cursor->count < 0 ? cursor->count : 0;
}

static int path_next(struct sql_cursor *base)
{
	struct path_cursor *cursor = (struct path_cursor *)base;
	return ++cursor->at < cursor->count;
}

static int path_column(struct sql_cursor *base, sqlite3_context *context, int column)
{
	struct path_cursor *cursor = (struct path_cursor *)base;
	static const char *const names[] = { "out", "in", "both" };
	switch (column) {
	case PATH_STEP:
		sqlite3_result_int64(context, cursor->at);
		return 0;
	case PATH_NODE:
		sqlite3_result_int64(context, (sqlite3_int64)cursor->nodes[cursor->at]);
		return 0;
	case PATH_A:
		sqlite3_result_int64(context, (sqlite3_int64)cursor->path.src);
		return 0;
	case PATH_B:
		sqlite3_result_int64(context, (sqlite3_int64)cursor->path.dst);
		return 0;
	case PATH_DIRECTION:
		sqlite3_result_text(context, names[cursor->path.direction], -1, SQLITE_STATIC);
		return 0;
	case PATH_TYPE:
		sqlite3_result_int64(context, cursor->path.type);
		return 0;
	default:
		sqlite3_result_int64(context, cursor->path.depth_max);
		return 0;
	}
}

const struct sql_table sql_path = {
	.name = "path",
	.schema = "CREATE TABLE x(step INTEGER, node INTEGER, a INTEGER HIDDEN, b INTEGER HIDDEN, "
		  "direction TEXT HIDDEN, type INTEGER HIDDEN, depth INTEGER HIDDEN)",
	.args = path_args,
	.arg_count = sizeof path_args / sizeof *path_args,
	.rows = 1e6,
	.order_column = PATH_STEP,
	.cursor_bytes = sizeof(struct path_cursor),
	.start = path_start,
	.next = path_next,
	.column = path_column,
};
