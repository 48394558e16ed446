#include "sql/sql.h"

#include <errno.h>
#include <stdlib.h>

#include "sql/json.h"
#include "sql/table.h"

/* ---- vectors as texts, and back ---- */

static void fn_vector(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	struct haul_err err = { 0 };
	uint32_t dimensions;
	float *vector;
	(void)argc;
	const char *text = (const char *)sqlite3_value_text(argv[0]);
	int error = json_to_vector(text != NULL ? text : "", &vector, &dimensions, &err);
	if (error < 0)
		sqlite3_result_error(context, err.text, -1);
	else
		sqlite3_result_blob(context, vector, (int)(dimensions * sizeof *vector), free);
}

static void fn_vector_json(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	char *text = NULL;
	(void)argc;
	size_t bytes = (size_t)sqlite3_value_bytes(argv[0]);
	const float *vector = sqlite3_value_blob(argv[0]);
	if (sqlite3_value_type(argv[0]) != SQLITE_BLOB || bytes % sizeof *vector != 0)
		sqlite3_result_error(context, "vector_json: wanted is a blob of floats", -1);
	else if (json_of_vector(vector, (uint32_t)(bytes / sizeof *vector), &text) < 0)
		sqlite3_result_error_nomem(context);
	else
		sqlite3_result_text(context, text, -1, free);
}

static int functions_enter(sqlite3 *db)
{
	enum { FLAGS = SQLITE_UTF8 | SQLITE_DETERMINISTIC };
	int rc = sqlite3_create_function_v2(db, "vector", 1, FLAGS, NULL, fn_vector, NULL, NULL,
					    NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_create_function_v2(db, "vector_json", 1, FLAGS, NULL, fn_vector_json,
						NULL, NULL, NULL);
	return rc;
}

int sql_attach(struct sqlite3 *db, const struct sql_source *source,
	       struct sql_connection **ret_connection, struct haul_err *err)
{
	const struct sql_table *const tables[] = {
		&sql_nodes,
		&sql_properties,
		&sql_edges,
		&sql_neighbours,
		&sql_path,
		&sql_embeddings,
		&sql_near,
		&sql_connections,
		source->cache != NULL ? &sql_cache_entries : NULL,
		source->stats != NULL ? &sql_batch_stats : NULL,
	};
	enum { COUNT = sizeof tables / sizeof tables[0] };
	struct sql_connection *connection = calloc(1, sizeof *connection);
	if (connection == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	connection->db = db;
	connection->source = *source;
	int rc = functions_enter(db);
	for (uint32_t i = 0; rc == SQLITE_OK && i < COUNT; i++)
		if (tables[i] != NULL)
			rc = sql_table_enter(db, tables[i], connection);
	if (connection->holds == 0)
		free(connection);
	if (rc != SQLITE_OK)
		return haul_err_set(err, -EIO, "sqlite: %s", sqlite3_errmsg(db));
	if (ret_connection != NULL)
		*ret_connection = connection;
	return 0;
}
