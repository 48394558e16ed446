/* The loadable extension for the sqlite3 shell, and for any program that loads extensions:
 *
 *   .load ./haul_sqlite
 *   SELECT haul_open('/var/lib/haul/store');      -- or an address: 'unix:/run/haul.sock'
 *   SELECT * FROM nodes LIMIT 10;
 *
 * With HAUL_STORE in the environment the store is opened at .load. */
#include <errno.h>
#include <stdlib.h>

#include "rpc/store_target.h"
#include "sql/sql.h"
#include "sql/sqlite.h"

SQLITE_EXTENSION_INIT1

/* Of one SQLite connection; freed when that is closed. */
struct opened {
	sqlite3 *db;
	bool open;
	struct store_target target;
};

static int opened_reader(void *arg, struct haul_reader **ret_reader)
{
	return store_target_reader(&((struct opened *)arg)->target, 0, ret_reader);
}

static int opened_commit(void *arg, const struct haul_changes *changes, int32_t *statuses)
{
	return store_target_commit(&((struct opened *)arg)->target, changes, statuses);
}

static int open_at(struct opened *opened, const char *where, struct haul_err *err)
{
	const struct sql_source source = { .reader = opened_reader,
					   .commit = opened_commit,
					   .arg = opened };
	if (opened->open)
		return haul_err_set(err, -EEXIST, "a store is open already: connect anew");
	int error = store_target_open(&opened->target, where, NULL, err);
	opened->open = error == 0;
	return error < 0 ? error : sql_attach(opened->db, &source, NULL, err);
}

static void fn_open(sqlite3_context *context, int argc, sqlite3_value **argv)
{
	struct haul_err err = { 0 };
	(void)argc;
	const char *where = (const char *)sqlite3_value_text(argv[0]);
	if (open_at(sqlite3_user_data(context), where != NULL ? where : "", &err) < 0)
		sqlite3_result_error(context, err.text, -1);
	else
		sqlite3_result_text(context, where, -1, SQLITE_TRANSIENT);
}

/* Modules go before functions when a connection is closed, so readers are gone by now. */
static void opened_free(void *arg)
{
	struct opened *opened = arg;
	store_target_close(&opened->target);
	free(opened);
}

HAUL_API int sqlite3_haulsqlite_init(sqlite3 *db, char **ret_text, const sqlite3_api_routines *api);
HAUL_API int sqlite3_haulsqlite_init(sqlite3 *db, char **ret_text, const sqlite3_api_routines *api)
{
	SQLITE_EXTENSION_INIT2(api);
	const char *where = getenv("HAUL_STORE");
	struct haul_err err = { 0 };
	struct opened *opened = calloc(1, sizeof *opened);
	if (opened == NULL)
		return SQLITE_NOMEM;
	opened->db = db;
	int rc = sqlite3_create_function_v2(db, "haul_open", 1, SQLITE_UTF8 | SQLITE_DIRECTONLY,
					    opened, fn_open, NULL, NULL, opened_free);
	if (rc != SQLITE_OK || where == NULL)
		return rc;
	if (open_at(opened, where, &err) < 0) {
		*ret_text = sqlite3_mprintf("HAUL_STORE: %s", err.text);
		return SQLITE_ERROR;
	}
	return SQLITE_OK;
}
