/* sql/sql.h — SQL over a graph: virtual tables for SQLite.
 *
 * Model      sql_attach enters tables into an SQLite connection: nodes, edges, properties,
 *            embeddings; tables that take arguments: neighbours(id), near(vector, k), path(a, b);
 *            and what the host has: connections, cache_entries, batch_stats. Constraints on keys
 *            are pushed down (a list of IN as one batch), rows are fetched a page at a time.
 *            INSERT, UPDATE and DELETE on nodes, edges and embeddings gather; COMMIT makes them one
 *            group: all or nothing. What is gathered is not seen before. SAVEPOINT and ROLLBACK TO
 *            take back what was gathered since. A long scan sees one state; two tables of one
 *            statement may see states a moment apart.
 *            ids are 64 bits: those over the largest signed number show as negative.
 * Ownership  sources are borrowed until the SQLite connection is closed; the rest goes with that.
 * Memory     a reader for each table that a statement has open at a time.
 * Threads    as the SQLite connection: one at a time; sql_interrupt any, and signal handlers.
 * Errors     of SQLite, with text.
 * Source     The Virtual Table Mechanism of SQLite; docs/design/0019. */
#pragma once

#include <haul/reader.h>
#include <haul/stats.h>

struct sqlite3;
struct sql_connection;

struct sql_source {
	/* A reader of its own for each open table. */
	int (*reader)(void *arg, struct haul_reader **ret_reader);
	/* One group, durable when it returns; NULL = read only. */
	int (*commit)(void *arg, const struct haul_changes *changes, int32_t *statuses);
	/* batch_stats: each block of statistics there is; NULL = no such table. */
	int (*stats)(void *arg, void (*visit)(const struct haul_stats *block, void *visit_arg),
		     void *visit_arg);
	void *arg;
	const char *cache; /* file of cache_entries; NULL = no such table */
};
/* *ret_connection (may be NULL) is good until db is closed. */
int sql_attach(struct sqlite3 *db, const struct sql_source *source,
	       struct sql_connection **ret_connection, struct haul_err *err);
/* The statement that runs ends with SQLITE_INTERRUPT soon; call sqlite3_interrupt, too. */
void sql_interrupt(struct sql_connection *connection);
