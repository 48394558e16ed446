#include "graph_sql.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

struct graph_sql {
	sqlite3 *db;
	uint64_t op;
	const struct model_change *change;
};

static const char schema[] =
	"CREATE TABLE nodes(id INTEGER PRIMARY KEY, version INTEGER, kind INTEGER, key TEXT "
	"UNIQUE);"
	"CREATE TABLE edges(src INTEGER, dst INTEGER, type INTEGER, disc INTEGER, version INTEGER,"
	"  PRIMARY KEY(src, type, disc, dst));"
	"CREATE TABLE properties(owner TEXT, name TEXT, value, PRIMARY KEY(owner, name));"
	"CREATE TABLE embeddings(idx INTEGER, node INTEGER, version INTEGER, vector BLOB,"
	"  PRIMARY KEY(idx, node));";

static void run(struct graph_sql *sql, const char *text)
{
	char *why = NULL;

	if (sqlite3_exec(sql->db, text, NULL, NULL, &why) != SQLITE_OK)
		fail_msg("%s: %s", text, why);
}

struct graph_sql *graph_sql_open(void)
{
	struct graph_sql *sql = calloc(1, sizeof *sql);

	assert_non_null(sql);
	assert_int_equal(sqlite3_open(":memory:", &sql->db), SQLITE_OK);
	run(sql, schema);
	run(sql, "SAVEPOINT frame");
	return sql;
}

void graph_sql_close(struct graph_sql *sql)
{
	assert_int_equal(sqlite3_close(sql->db), SQLITE_OK);
	free(sql);
}

void graph_sql_keep(struct graph_sql *sql)
{
	run(sql, "RELEASE frame; SAVEPOINT frame");
}

void graph_sql_forget(struct graph_sql *sql)
{
	run(sql, "ROLLBACK TO frame");
}

/* ---- statements ---- */

/* A statement with what the change says bound to its names. */
static sqlite3_stmt *prepare(struct graph_sql *sql, const char *text)
{
	const struct model_change *change = sql->change;
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = {
		{ ":id", change->id },     { ":dst", change->dst },   { ":type", change->type },
		{ ":disc", change->disc }, { ":idx", change->index }, { ":kind", change->kind },
		{ ":op", sql->op },
	};
	sqlite3_stmt *statement;
	char key[16];

	if (sqlite3_prepare_v2(sql->db, text, -1, &statement, NULL) != SQLITE_OK)
		fail_msg("%s: %s", text, sqlite3_errmsg(sql->db));
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		const int at = sqlite3_bind_parameter_index(statement, numbers[i].name);
		if (at > 0)
			(void)sqlite3_bind_int64(statement, at, (int64_t)numbers[i].value);
	}
	const int at = sqlite3_bind_parameter_index(statement, ":key");
	if (at > 0 && change->key > 0)
		(void)sqlite3_bind_text(statement, at, key, (int)model_key(change->key, key),
					SQLITE_TRANSIENT);
	return statement;
}

static int64_t ask(struct graph_sql *sql, const char *text)
{
	sqlite3_stmt *statement = prepare(sql, text);
	const int rc = sqlite3_step(statement);
	const int64_t value = rc == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;

	assert_true(rc == SQLITE_ROW || rc == SQLITE_DONE);
	(void)sqlite3_finalize(statement);
	return value;
}

static void change(struct graph_sql *sql, const char *text)
{
	sqlite3_stmt *statement = prepare(sql, text);

	if (sqlite3_step(statement) != SQLITE_DONE)
		fail_msg("%s: %s", text, sqlite3_errmsg(sql->db));
	(void)sqlite3_finalize(statement);
}

/* ---- properties: owner is "n<id>" or "e<src>,<type>,<disc>,<dst>" ---- */

#define NODE_OWNER "'n' || :id"
#define EDGE_OWNER "'e' || :id || ',' || :type || ',' || :disc || ',' || :dst"

static void property_bind(sqlite3_stmt *statement, const struct model_property *property)
{
	const int at = sqlite3_bind_parameter_index(statement, ":value");
	uint8_t bytes[MODEL_BYTES_MAX];

	model_bytes(property, bytes);
	if (property->type == HAUL_INTEGER)
		(void)sqlite3_bind_int64(statement, at, (int64_t)property->value);
	else if (property->type == HAUL_FLOAT)
		(void)sqlite3_bind_double(statement, at, (double)property->value / 3);
	else if (property->type == HAUL_TEXT)
		(void)sqlite3_bind_text(statement, at, (const char *)bytes, (int)property->bytes,
					SQLITE_TRANSIENT);
	else
		(void)sqlite3_bind_blob(statement, at, bytes, (int)property->bytes,
					SQLITE_TRANSIENT);
}

static void properties_set(struct graph_sql *sql, bool edge)
{
	const struct model_change *of = sql->change;

	if ((of->flags & HAUL_PATCH) == 0)
		change(sql, edge ? "DELETE FROM properties WHERE owner = " EDGE_OWNER
				 : "DELETE FROM properties WHERE owner = " NODE_OWNER);
	for (uint32_t i = 0; i < MODEL_PROPERTIES; i++) {
		const struct model_property *property = &of->properties[i];
		if (!property->given)
			continue;
		const bool away = property->type == HAUL_NULL;
		const char *text =
			away   ? edge ? "DELETE FROM properties WHERE owner = " EDGE_OWNER
                                      " AND name = :name"
				      : "DELETE FROM properties WHERE owner = " NODE_OWNER
                                      " AND name = :name"
			: edge ? "REPLACE INTO properties VALUES(" EDGE_OWNER ", :name, :value)"
			       : "REPLACE INTO properties VALUES(" NODE_OWNER ", :name, :value)";
		sqlite3_stmt *statement = prepare(sql, text);
		(void)sqlite3_bind_text(statement, sqlite3_bind_parameter_index(statement, ":name"),
					model_property_name(i), -1, SQLITE_STATIC);
		if (!away)
			property_bind(statement, property);
		assert_int_equal(sqlite3_step(statement), SQLITE_DONE);
		(void)sqlite3_finalize(statement);
	}
}

/* ---- changes ---- */

static bool is_stale(const struct graph_sql *sql, int64_t version)
{
	return sql->change->expected != 0 && (int64_t)sql->change->expected != version;
}

static int set_node(struct graph_sql *sql)
{
	const struct model_change *of = sql->change;
	const bool create = of->change == HAUL_CREATE_NODE;
	const int64_t version = ask(sql, "SELECT version FROM nodes WHERE id = :id");

	if (create && version != 0 && (of->flags & HAUL_UPSERT) == 0)
		return -EEXIST;
	if (!create && version == 0)
		return -ENOENT;
	if (is_stale(sql, version))
		return HAUL_ESTALE;
	if (ask(sql, "SELECT count(*) FROM nodes WHERE key = :key AND id <> :id") != 0)
		return -EEXIST;
	if ((of->flags & HAUL_PATCH) != 0)
		change(sql, "UPDATE nodes SET version = :op, key = coalesce(:key, key),"
			    " kind = CASE :kind WHEN 0 THEN kind ELSE :kind END WHERE id = :id");
	else
		change(sql, "REPLACE INTO nodes VALUES(:id, :op, :kind, :key)");
	properties_set(sql, false);
	return 0;
}

static int delete_node(struct graph_sql *sql)
{
	const int64_t version = ask(sql, "SELECT version FROM nodes WHERE id = :id");

	if (version == 0)
		return -ENOENT;
	if (is_stale(sql, version))
		return HAUL_ESTALE;
	const int64_t hanging =
		ask(sql, "SELECT (SELECT count(*) FROM edges WHERE src = :id OR dst = :id)"
			 " + (SELECT count(*) FROM embeddings WHERE node = :id)");
	if (hanging > 0 && (sql->change->flags & HAUL_DETACH) == 0)
		return -ENOTEMPTY;
	change(sql, "DELETE FROM properties WHERE owner IN (SELECT 'e' || src || ',' || type ||"
		    " ',' || disc || ',' || dst FROM edges WHERE src = :id OR dst = :id)");
	change(sql, "DELETE FROM edges WHERE src = :id OR dst = :id");
	change(sql, "DELETE FROM embeddings WHERE node = :id");
	change(sql, "DELETE FROM properties WHERE owner = " NODE_OWNER);
	change(sql, "DELETE FROM nodes WHERE id = :id");
	return 0;
}

#define THE_EDGE " FROM edges WHERE src = :id AND dst = :dst AND type = :type AND disc = :disc"

static int set_edge(struct graph_sql *sql)
{
	const struct model_change *of = sql->change;
	const bool create = of->change == HAUL_CREATE_EDGE;

	if (create && (of->flags & HAUL_LOOSE) == 0 &&
	    (ask(sql, "SELECT count(*) FROM nodes WHERE id = :id") == 0 ||
	     ask(sql, "SELECT count(*) FROM nodes WHERE id = :dst") == 0))
		return -ENOENT;
	const int64_t version = ask(sql, "SELECT version" THE_EDGE);
	if (create && version != 0 && (of->flags & HAUL_UPSERT) == 0)
		return -EEXIST;
	if (!create && version == 0)
		return -ENOENT;
	if (is_stale(sql, version))
		return HAUL_ESTALE;
	if (of->change == HAUL_DELETE_EDGE) {
		change(sql, "DELETE FROM properties WHERE owner = " EDGE_OWNER);
		change(sql, "DELETE" THE_EDGE);
		return 0;
	}
	change(sql, "REPLACE INTO edges VALUES(:id, :dst, :type, :disc, :op)");
	properties_set(sql, true);
	return 0;
}

static int set_embedding(struct graph_sql *sql)
{
	const struct model_change *of = sql->change;
	const int bytes = (int)(of->dimensions * sizeof(float));

	if (ask(sql, "SELECT count(*) FROM nodes WHERE id = :id") == 0)
		return -ENOENT;
	const int64_t others = ask(sql, "SELECT length(vector) FROM embeddings"
					" WHERE idx = :idx AND node <> :id LIMIT 1");
	if (others != 0 && others != bytes)
		return -EINVAL;
	sqlite3_stmt *statement =
		prepare(sql, "REPLACE INTO embeddings VALUES(:idx, :id, :op, :vector)");
	(void)sqlite3_bind_blob(statement, sqlite3_bind_parameter_index(statement, ":vector"),
				of->vector, bytes, SQLITE_TRANSIENT);
	assert_int_equal(sqlite3_step(statement), SQLITE_DONE);
	(void)sqlite3_finalize(statement);
	return 0;
}

static int delete_embedding(struct graph_sql *sql)
{
	if (ask(sql, "SELECT count(*) FROM embeddings WHERE idx = :idx AND node = :id") == 0)
		return -ENOENT;
	change(sql, "DELETE FROM embeddings WHERE idx = :idx AND node = :id");
	return 0;
}

static int apply_one(struct graph_sql *sql)
{
	switch (sql->change->change) {
	case HAUL_CREATE_NODE:
	case HAUL_UPDATE_NODE:
		return set_node(sql);
	case HAUL_DELETE_NODE:
		return delete_node(sql);
	case HAUL_CREATE_EDGE:
	case HAUL_UPDATE_EDGE:
	case HAUL_DELETE_EDGE:
		return set_edge(sql);
	case HAUL_SET_EMBEDDING:
		return set_embedding(sql);
	case HAUL_DELETE_EMBEDDING:
		return delete_embedding(sql);
	case HAUL_CHANGES:
	default:
		return -EINVAL;
	}
}

void graph_sql_apply(struct graph_sql *sql, const struct model_frame *frame, uint64_t op,
		     int32_t *statuses)
{
	sql->op = op;
	for (uint32_t from = 0, to; from < frame->count; from = to) {
		const uint32_t group = frame->change[from].group;
		int failed = 0;
		run(sql, "SAVEPOINT one");
		for (to = from; to == from || (group != 0 && to < frame->count &&
					       frame->change[to].group == group);
		     to++) {
			sql->change = &frame->change[to];
			statuses[to] = failed == 0 ? apply_one(sql) : -ECANCELED;
			failed = failed == 0 ? statuses[to] : failed;
		}
		run(sql, failed != 0 ? "ROLLBACK TO one; RELEASE one" : "RELEASE one");
		for (uint32_t i = from; failed != 0 && i < to; i++)
			statuses[i] = statuses[i] == 0 ? -ECANCELED : statuses[i];
	}
}

/* ---- comparing ---- */

static void value_expect(sqlite3_stmt *row, int column, const struct haul_property *got)
{
	switch (sqlite3_column_type(row, column)) {
	case SQLITE_INTEGER:
		assert_int_equal(got->type, HAUL_INTEGER);
		assert_true(sqlite3_column_int64(row, column) == got->integer);
		return;
	case SQLITE_FLOAT:
		assert_int_equal(got->type, HAUL_FLOAT);
		assert_true(sqlite3_column_double(row, column) == got->number);
		return;
	default:
		assert_int_equal(got->type, sqlite3_column_type(row, column) == SQLITE_TEXT
						    ? HAUL_TEXT
						    : HAUL_BYTES);
		assert_int_equal(sqlite3_column_bytes(row, column), got->data_bytes);
		if (got->data_bytes > 0)
			assert_memory_equal(sqlite3_column_blob(row, column), got->data,
					    got->data_bytes);
	}
}

static void properties_expect(struct graph_sql *sql, const char *text,
			      const struct haul_properties *got)
{
	sqlite3_stmt *rows = prepare(sql, text);
	struct haul_property property;
	uint32_t offset = 0;

	while (sqlite3_step(rows) == SQLITE_ROW) {
		assert_int_equal(haul_property_next(got, &offset, &property), 1);
		assert_int_equal(sqlite3_column_bytes(rows, 0), property.name_bytes);
		assert_memory_equal(sqlite3_column_blob(rows, 0), property.name,
				    property.name_bytes);
		value_expect(rows, 1, &property);
	}
	assert_int_equal(haul_property_next(got, &offset, &property), 0);
	(void)sqlite3_finalize(rows);
}

static void expect_nodes(struct graph_sql *sql, struct haul_reader *reader)
{
	struct haul_scan scan = { 0 };
	struct haul_node nodes[MODEL_IDS];
	struct model_change of = { 0 };
	int64_t count = 0;
	int rc;

	sql->change = &of;
	while ((rc = haul_reader_scan(reader, &scan, nodes, MODEL_IDS)) > 0) {
		for (int i = 0; i < rc; i++) {
			of.id = nodes[i].id;
			of.kind = nodes[i].kind;
			sql->op = nodes[i].version;
			assert_int_equal(ask(sql, "SELECT count(*) FROM nodes WHERE id = :id AND"
						  " kind = :kind AND version = :op"),
					 1);
			properties_expect(
				sql,
				"SELECT name, value FROM properties WHERE owner = " NODE_OWNER
				" ORDER BY name",
				&nodes[i].properties);
		}
		count += rc;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(ask(sql, "SELECT count(*) FROM nodes"), count);
}

static void expect_edges(struct graph_sql *sql, struct haul_reader *reader)
{
	struct haul_cursor cursor = { 0 };
	struct haul_edge edges[MODEL_IDS];
	struct model_change of = { 0 };
	int64_t count = 0;
	int rc;

	sql->change = &of;
	while ((rc = haul_reader_scan_edges(reader, &cursor, edges, MODEL_IDS)) > 0) {
		for (int i = 0; i < rc; i++) {
			const struct haul_edge_id *id = &edges[i].id;
			of = (struct model_change){
				.id = id->src, .dst = id->dst, .type = id->type, .disc = id->disc
			};
			assert_int_equal(ask(sql, "SELECT version" THE_EDGE), edges[i].version);
			properties_expect(
				sql,
				"SELECT name, value FROM properties WHERE owner = " EDGE_OWNER
				" ORDER BY name",
				&edges[i].properties);
		}
		count += rc;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(ask(sql, "SELECT count(*) FROM edges"), count);
}

/* Breadth first by a recursive query: a node and the depth at which it is met first. :id is where
 * it starts, :type (0 = any), :kind the depth, :disc the direction. */
static const char reached[] =
	"WITH RECURSIVE "
	"steps(a, b) AS (SELECT src, dst FROM edges WHERE :disc <> 1 AND :type IN (0, type)"
	"  UNION SELECT dst, src FROM edges WHERE :disc <> 0 AND :type IN (0, type)), "
	"walk(node, depth) AS (SELECT :id, 0"
	"  UNION SELECT b, depth + 1 FROM walk JOIN steps ON a = node WHERE depth < :kind) "
	"SELECT node, min(depth) FROM walk GROUP BY node";

static void expect_traverse(struct graph_sql *sql, struct haul_reader *reader, struct prng *prng)
{
	struct haul_traverse query = { .start = 1 + prng_below(prng, MODEL_IDS),
				       .direction = (enum haul_direction)prng_below(prng, 3),
				       .type = prng_below(prng, MODEL_TYPES),
				       .depth_max = 1 + prng_below(prng, 5) };
	const struct model_change of = { .id = query.start,
					 .type = query.type,
					 .kind = query.depth_max,
					 .disc = (uint32_t)query.direction };
	struct haul_visit visits[MODEL_IDS + 1];
	bool complete;
	int left;

	const int rc = haul_reader_traverse(reader, &query, visits, MODEL_IDS + 1, &complete);
	assert_true(rc > 0 && complete);
	left = rc;
	sql->change = &of;
	sqlite3_stmt *rows = prepare(sql, reached);
	for (; sqlite3_step(rows) == SQLITE_ROW; left--) {
		int i = 0;
		while (i < rc && visits[i].node != (uint64_t)sqlite3_column_int64(rows, 0))
			i++;
		assert_true(i < rc);
		assert_int_equal(visits[i].depth, sqlite3_column_int(rows, 1));
	}
	assert_int_equal(left, 0);
	(void)sqlite3_finalize(rows);
}

void graph_sql_expect(struct graph_sql *sql, struct haul_reader *reader, struct prng *prng)
{
	expect_nodes(sql, reader);
	expect_edges(sql, reader);
	expect_traverse(sql, reader, prng);
}
