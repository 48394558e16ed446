/* SQLite: write-ahead log, synchronous FULL, a transaction a batch, prepared statements. */
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store_work.h"

struct lite {
	struct store_engine engine;
	sqlite3 *db;
	sqlite3_stmt *begin, *insert, *commit, *select;
};

static void lite_close(struct store_engine *engine)
{
	struct lite *own = (struct lite *)engine;
	sqlite3_finalize(own->begin);
	sqlite3_finalize(own->insert);
	sqlite3_finalize(own->commit);
	sqlite3_finalize(own->select);
	sqlite3_close(own->db);
	free(own);
}

static int lite_open(struct store_engine **ret_engine, const char *path, struct haul_err *err)
{
	extern const struct store_engine_calls store_sqlite;
	static const char setup[] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
				    "CREATE TABLE nodes(id INTEGER PRIMARY KEY, value BLOB)";
	char file[STORE_PATH];
	struct lite *own = calloc(1, sizeof *own);
	if (own == NULL)
		return haul_err_set(err, -ENOMEM, "no memory");
	own->engine.calls = &store_sqlite;
	bool fits = (size_t)snprintf(file, sizeof file, "%s/db", path) < sizeof file;
	bool good = fits && mkdir(path, 0700) == 0 && sqlite3_open(file, &own->db) == SQLITE_OK &&
		    sqlite3_exec(own->db, setup, NULL, NULL, NULL) == SQLITE_OK &&
		    sqlite3_prepare_v2(own->db, "BEGIN", -1, &own->begin, NULL) == SQLITE_OK &&
		    sqlite3_prepare_v2(own->db, "COMMIT", -1, &own->commit, NULL) == SQLITE_OK &&
		    sqlite3_prepare_v2(own->db, "INSERT INTO nodes VALUES(?, ?)", -1, &own->insert,
				       NULL) == SQLITE_OK &&
		    sqlite3_prepare_v2(own->db, "SELECT value FROM nodes WHERE id = ?", -1,
				       &own->select, NULL) == SQLITE_OK;
	if (!good) {
		int error = haul_err_set(err, -EIO, "sqlite: %s",
					 own->db != NULL ? sqlite3_errmsg(own->db) : path);
		lite_close(&own->engine);
		return error;
	}
	*ret_engine = &own->engine;
	return 0;
}

static bool lite_step(sqlite3_stmt *statement)
{
	int rc = sqlite3_step(statement);
	return sqlite3_reset(statement) == SQLITE_OK && rc == SQLITE_DONE;
}

static int lite_put(struct store_engine *engine, const uint64_t *ids, uint32_t count, bool bulk)
{
	struct lite *own = (struct lite *)engine;
	uint8_t value[STORE_VALUE];
	(void)bulk;
	bool good = lite_step(own->begin);
	for (uint32_t i = 0; good && i < count; i++) {
		store_value(ids[i], value);
		sqlite3_bind_int64(own->insert, 1, (int64_t)ids[i]);
		sqlite3_bind_blob(own->insert, 2, value, sizeof value, SQLITE_STATIC);
		good = lite_step(own->insert);
	}
	return good && lite_step(own->commit) ? 0 : -EIO;
}

static int lite_get(struct store_engine *engine, const uint64_t *ids, uint32_t count,
		    uint64_t *ret_sum)
{
	struct lite *own = (struct lite *)engine;
	uint64_t sum = 0, word;
	for (uint32_t i = 0; i < count; i++) {
		sqlite3_bind_int64(own->select, 1, (int64_t)ids[i]);
		if (sqlite3_step(own->select) != SQLITE_ROW)
			return -EIO;
		const uint8_t *value = sqlite3_column_blob(own->select, 0);
		memcpy(&word, value + STORE_VALUE - STORE_PAYLOAD, sizeof word);
		sum += word;
		sqlite3_reset(own->select);
	}
	*ret_sum = sum;
	return 0;
}

static int lite_settle(struct store_engine *engine)
{
	(void)engine;
	return 0;
}

const struct store_engine_calls store_sqlite = {
	.name = "sqlite",
	.open = lite_open,
	.put = lite_put,
	.settle = lite_settle,
	.get = lite_get,
	.close = lite_close,
};
