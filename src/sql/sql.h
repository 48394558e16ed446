/* sql/sql.h — SQL over a graph: virtual tables for SQLite.
 *
 * Model      sql_attach enters the tables into an SQLite connection: nodes, edges, properties,
 *            embeddings, and functions as tables: neighbours(id), near(vector, k), path(a, b);
 *            where the host has them: connections, cache_entries, batch_stats. Constraints on keys
 *            are pushed down, rows are fetched a page at a time. INSERT, UPDATE and DELETE on nodes
 *            and edges gather as changes; COMMIT makes them one atomic group, in one frame.
 * Ownership  reader and commit are borrowed until the connection is closed.
 * Threads    as the SQLite connection: one at a time.
 * Errors     of SQLite, with text.
 * Source     The Virtual Table Mechanism of SQLite. */
#pragma once

#include <haul/reader.h>
#include <haul/stats.h>

struct sqlite3;

struct sql_source {
	struct haul_reader *reader;
	/* One group, durable when it returns; NULL = read only. */
	int (*commit)(void *arg, const struct haul_changes *changes, int32_t *statuses);
	void *arg;
	struct haul_stats_table *stats; /* batch_stats; may be NULL */
	const char *cache;              /* path of a cache for cache_entries; may be NULL */
};
int sql_attach(struct sqlite3 *db, const struct sql_source *source, struct haul_err *err);
