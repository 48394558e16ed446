/* Tables of nodes: nodes, properties. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sql/convert.h"
#include "sql/table.h"

enum { NODE_ID, NODE_KIND, NODE_KEY, NODE_PROPERTIES, NODE_VERSION };
enum { BY_ID, BY_KEY, BY_KIND, ID_GE, ID_GT, ID_LE, ID_LT };

static const struct sql_arg node_args[] = {
	[BY_ID] = { NODE_ID, SQLITE_INDEX_CONSTRAINT_EQ, .list = true, .rows = 1 },
	[BY_KEY] = { NODE_KEY, SQLITE_INDEX_CONSTRAINT_EQ, .list = true, .rows = 1 },
	[BY_KIND] = { NODE_KIND, SQLITE_INDEX_CONSTRAINT_EQ, .rows = 1e5 },
	[ID_GE] = { NODE_ID, SQLITE_INDEX_CONSTRAINT_GE, .rows = 3e5 },
	[ID_GT] = { NODE_ID, SQLITE_INDEX_CONSTRAINT_GT, .rows = 3e5 },
	[ID_LE] = { NODE_ID, SQLITE_INDEX_CONSTRAINT_LE, .rows = 3e5 },
	[ID_LT] = { NODE_ID, SQLITE_INDEX_CONSTRAINT_LT, .rows = 3e5 },
};

struct keys {
	struct haul_text *keys;
	uint32_t count, room;
};

struct part {
	uint64_t first, last;
};

struct node_cursor {
	struct sql_cursor base;
	bool pinned, scanning, by_key;
	struct part parts[2]; /* of a scan */
	uint32_t part, part_count, kind;
	uint64_t *ids; /* asked for by id; NULL = not */
	struct keys keys;
	uint32_t asked, wanted; /* of ids or keys */
	struct haul_scan scan;
	struct haul_node nodes[SQL_PAGE];
	int32_t statuses[SQL_PAGE];
	uint32_t at, count, page;
	uint32_t offset; /* sql_properties: in the node's */
	struct haul_property property;
};

static void node_close(struct sql_cursor *base)
{
	struct node_cursor *cursor = (struct node_cursor *)base;
	if (base->reader != NULL)
		sql_unpin(base, &cursor->pinned);
	free(cursor->ids);
	for (uint32_t i = 0; i < cursor->keys.count; i++)
		free((void *)(uintptr_t)cursor->keys.keys[i].data);
	free(cursor->keys.keys);
	cursor->ids = NULL;
	cursor->keys = (struct keys){ 0 };
}

static int collect_key(sqlite3_value *value, void *arg)
{
	struct keys *keys = arg;
	if (sqlite3_value_type(value) != SQLITE_TEXT)
		return 0;
	const unsigned char *text = sqlite3_value_text(value);
	int bytes = sqlite3_value_bytes(value);
	if (keys->count == keys->room) {
		uint32_t room = keys->room > 0 ? keys->room * 2 : 1;
		void *larger = realloc(keys->keys, room * sizeof *keys->keys);
		if (larger == NULL)
			return -ENOMEM;
		keys->keys = larger;
		keys->room = room;
	}
	char *copy = malloc((size_t)bytes + 1);
	if (copy == NULL)
		return -ENOMEM;
	memcpy(copy, text, (size_t)bytes);
	keys->keys[keys->count++] = (struct haul_text){ copy, (uint32_t)bytes };
	return 0;
}

/* The bounds as SQLite means them, for signed numbers; false: no number is within. */
static bool node_bounds(const struct sql_given *given, int64_t *ret_low, int64_t *ret_high)
{
	*ret_low = INT64_MIN;
	*ret_high = INT64_MAX;
	for (uint32_t arg = ID_GE; arg <= ID_LT; arg++) {
		sqlite3_value *value = given->value[arg];
		if (value == NULL || sqlite3_value_type(value) != SQLITE_INTEGER)
			continue; /* SQLite looks at every row again */
		int64_t bound = sqlite3_value_int64(value);
		if ((arg == ID_GT && bound == INT64_MAX) || (arg == ID_LT && bound == INT64_MIN))
			return false;
		if (arg == ID_GE || arg == ID_GT) {
			bound += arg == ID_GT;
			*ret_low = bound > *ret_low ? bound : *ret_low;
		} else {
			bound -= arg == ID_LT;
			*ret_high = bound < *ret_high ? bound : *ret_high;
		}
	}
	return *ret_low <= *ret_high;
}

/* Ids are unsigned, SQL's numbers are not: those over INT64_MAX come first, as negative ones. */
static void node_parts(struct node_cursor *cursor, const struct sql_given *given)
{
	int64_t low, high;
	cursor->part_count = cursor->part = 0;
	if (!node_bounds(given, &low, &high))
		return;
	if (low < 0)
		cursor->parts[cursor->part_count++] =
			(struct part){ (uint64_t)low, (uint64_t)(high < -2 ? high : -2) };
	if (high > 0)
		cursor->parts[cursor->part_count++] =
			(struct part){ low > 0 ? (uint64_t)low : 1, (uint64_t)high };
}

static int node_start(struct sql_cursor *base, const struct sql_given *given)
{
	struct node_cursor *cursor = (struct node_cursor *)base;
	int error = sql_cursor_reader(base);
	if (error < 0)
		return error;
	node_close(base);
	cursor->at = cursor->count = cursor->page = 0;
	cursor->asked = cursor->wanted = cursor->offset = 0;
	cursor->scanning = cursor->by_key = false;
	if (given->value[BY_ID] != NULL)
		return sql_given_ids(given, BY_ID, &cursor->ids, &cursor->wanted);
	if (given->value[BY_KEY] != NULL) {
		error = sql_given_each(given, BY_KEY, collect_key, &cursor->keys);
		cursor->wanted = cursor->keys.count;
		cursor->by_key = true;
		return error;
	}
	sqlite3_value *kind = given->value[BY_KIND];
	cursor->scanning = true;
	node_parts(cursor, given);
	cursor->kind = HAUL_ANY;
	if (kind != NULL && sqlite3_value_type(kind) == SQLITE_INTEGER) {
		int64_t number = sqlite3_value_int64(kind);
		if (number < 0 || number > UINT32_MAX)
			cursor->part_count = 0;
		else
			cursor->kind = (uint32_t)number; /* 0: all, and SQLite sorts out */
	}
	cursor->scan = (struct haul_scan){ 0 };
	sql_pin(base, &cursor->pinned);
	return 0;
}

static int node_scan(struct node_cursor *cursor)
{
	cursor->page = sql_page_after(cursor->page);
	for (; cursor->part < cursor->part_count; cursor->part++) {
		const struct part *part = &cursor->parts[cursor->part];
		cursor->scan.kind = cursor->kind;
		cursor->scan.first_id = part->first;
		cursor->scan.last_id = part->last;
		int got = haul_reader_scan(cursor->base.reader, &cursor->scan, cursor->nodes,
					   cursor->page);
		if (got != 0)
			return got;
		cursor->scan = (struct haul_scan){ 0 };
	}
	return 0;
}

/* The next of those asked for by name: a page of them, and only those that are there. */
static int node_ask(struct node_cursor *cursor)
{
	while (cursor->asked < cursor->wanted) {
		uint32_t count = cursor->wanted - cursor->asked;
		count = count < SQL_PAGE ? count : SQL_PAGE;
		int got =
			cursor->by_key
				? haul_reader_get_by_key(cursor->base.reader,
							 cursor->keys.keys + cursor->asked, count,
							 cursor->nodes, cursor->statuses)
				: haul_reader_get(cursor->base.reader, cursor->ids + cursor->asked,
						  count, cursor->nodes, cursor->statuses);
		if (got <= 0)
			return got < 0 ? got : -EIO;
		uint32_t found = 0;
		for (int i = 0; i < got; i++) {
			if (cursor->statuses[i] < 0 && cursor->statuses[i] != -ENOENT)
				return cursor->statuses[i];
			if (cursor->statuses[i] == 0)
				cursor->nodes[found++] = cursor->nodes[i];
		}
		cursor->asked += (uint32_t)got;
		if (found > 0)
			return (int)found;
	}
	return 0;
}

static int node_next(struct sql_cursor *base)
{
	struct node_cursor *cursor = (struct node_cursor *)base;
	if (++cursor->at < cursor->count)
		return 1;
	int got = cursor->scanning ? node_scan(cursor) : node_ask(cursor);
	cursor->at = 0;
	cursor->count = got > 0 ? (uint32_t)got : 0;
	if (got <= 0)
		sql_unpin(base, &cursor->pinned);
	return got > 0 ? 1 : got;
}

static int node_column(struct sql_cursor *base, sqlite3_context *context, int column)
{
	struct node_cursor *cursor = (struct node_cursor *)base;
	const struct haul_node *node = &cursor->nodes[cursor->at];
	switch (column) {
	case NODE_ID:
		sqlite3_result_int64(context, (sqlite3_int64)node->id);
		return 0;
	case NODE_KIND:
		sqlite3_result_int64(context, node->kind);
		return 0;
	case NODE_KEY:
		convert_result_text(context, node->key, node->key_bytes);
		return 0;
	case NODE_PROPERTIES:
		return convert_result_properties(context, &node->properties);
	default:
		sqlite3_result_int64(context, (sqlite3_int64)node->version);
		return 0;
	}
}

static int64_t node_rowid(struct sql_cursor *base)
{
	struct node_cursor *cursor = (struct node_cursor *)base;
	return (int64_t)cursor->nodes[cursor->at].id;
}

/* values: old rowid, new rowid, then the columns; one value: delete. */
static int node_update(struct sql_vtab *vtab, int count, sqlite3_value **values,
		       sqlite3_int64 *rowid)
{
	struct pending *pending = &vtab->connection->pending;
	struct pending_change change = { 0 };
	struct haul_node *node = &change.of.node;
	if (count == 1) {
		change.change = HAUL_DELETE_NODE;
		node->id = (uint64_t)sqlite3_value_int64(values[0]);
		return pending_add(pending, &change);
	}
	bool insert = sqlite3_value_type(values[0]) == SQLITE_NULL;
	int error = convert_take_id(vtab, values[2 + NODE_ID], "id", &node->id);
	if (error == 0)
		error = convert_take_number(vtab, values[2 + NODE_KIND], "kind", &node->kind);
	if (error == 0)
		error = convert_take_properties(vtab, values[2 + NODE_PROPERTIES],
						vtab->connection->properties, &node->properties);
	if (error < 0)
		return error;
	if (!insert && node->id != (uint64_t)sqlite3_value_int64(values[0])) {
		(void)sql_fail(vtab, -EINVAL, "the id of a node cannot be changed");
		return -EINVAL;
	}
	node->key = (const char *)sqlite3_value_text(values[2 + NODE_KEY]);
	node->key_bytes = (uint32_t)sqlite3_value_bytes(values[2 + NODE_KEY]);
	change.change = insert ? HAUL_CREATE_NODE : HAUL_UPDATE_NODE;
	change.options.flags = insert && vtab->connection->replace ? HAUL_UPSERT : 0;
	/* What was read is what is changed, or the transaction fails. */
	if (!insert && sqlite3_value_type(values[2 + NODE_VERSION]) == SQLITE_INTEGER)
		change.options.expected_version =
			(uint64_t)sqlite3_value_int64(values[2 + NODE_VERSION]);
	if (insert)
		*rowid = (sqlite3_int64)node->id;
	return pending_add(pending, &change);
}

const struct sql_table sql_nodes = {
	.name = "nodes",
	.schema = "CREATE TABLE x(id INTEGER PRIMARY KEY, kind INTEGER, key TEXT, "
		  "properties TEXT, version INTEGER)",
	.args = node_args,
	.arg_count = sizeof node_args / sizeof *node_args,
	.rows = 1e6,
	.order_column = NODE_ID,
	.cursor_bytes = sizeof(struct node_cursor),
	.start = node_start,
	.next = node_next,
	.column = node_column,
	.rowid = node_rowid,
	.close = node_close,
	.update = node_update,
};

/* One row a property of a node. */
enum { PROPERTY_ID, PROPERTY_NAME, PROPERTY_TYPE, PROPERTY_VALUE };

static const struct sql_arg property_args[] = {
	[BY_ID] = { PROPERTY_ID, SQLITE_INDEX_CONSTRAINT_EQ, .list = true, .rows = 8 },
};

static int property_next(struct sql_cursor *base)
{
	struct node_cursor *cursor = (struct node_cursor *)base;
	for (;;) {
		if (cursor->at < cursor->count) {
			int rc = haul_property_next(&cursor->nodes[cursor->at].properties,
						    &cursor->offset, &cursor->property);
			if (rc != 0)
				return rc;
		}
		int rc = node_next(base);
		cursor->offset = 0;
		if (rc <= 0)
			return rc;
	}
}

static int property_column(struct sql_cursor *base, sqlite3_context *context, int column)
{
	struct node_cursor *cursor = (struct node_cursor *)base;
	const struct haul_property *property = &cursor->property;
	switch (column) {
	case PROPERTY_ID:
		sqlite3_result_int64(context, (sqlite3_int64)cursor->nodes[cursor->at].id);
		return 0;
	case PROPERTY_NAME:
		convert_result_text(context, property->name, property->name_bytes);
		return 0;
	case PROPERTY_TYPE:
		sqlite3_result_text(context, haul_property_type_name(property->type), -1,
				    SQLITE_STATIC);
		return 0;
	default:
		return convert_result_property(context, property);
	}
}

const struct sql_table sql_properties = {
	.name = "properties",
	.schema = "CREATE TABLE x(id INTEGER, name TEXT, type TEXT, value)",
	.args = property_args,
	.arg_count = sizeof property_args / sizeof *property_args,
	.rows = 4e6,
	.order_column = PROPERTY_ID,
	.cursor_bytes = sizeof(struct node_cursor),
	.start = node_start,
	.next = property_next,
	.column = property_column,
	.close = node_close,
};
