/* sql/table.h — one kind of virtual table: what it is asked for, and how its rows are found.
 *
 * Model      A table states its schema and the constraints that it can use (args); table.c does
 *            what all tables have in common: planning, cursors, errors. start() is given the values
 *            of the constraints that SQLite chose, next() goes to a row, column() tells of it.
 * Ownership  a cursor's reader is lent by the connection from start to close.
 * Memory     a cursor is zeroed cursor_bytes.
 * Threads    as sql.h.
 * Errors     negative haul codes; with sql_fail a text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sql/pending.h"
#include "sql/sql.h"
#include "sql/sqlite.h"

enum { SQL_ARGS = 8, SQL_PAGE_FIRST = 16, SQL_PAGE = 512, SQL_READERS = 64, SQL_SAVEPOINTS = 64 };

struct sql_connection {
	sqlite3 *db;
	struct sql_source source;
	struct pending pending;
	uint8_t properties[HAUL_PROPERTIES_MAX]; /* of the change that is taken */
	struct haul_reader *idle[SQL_READERS];   /* readers that no cursor has */
	struct haul_reader *all[SQL_READERS];    /* all that were made */
	uint32_t idle_count, all_count;          /* all_count: atomic, for sql_interrupt */
	uint32_t holds;                          /* tables of it that SQLite still has */
	bool replace;                            /* the statement says OR REPLACE */
	uint32_t saved[SQL_SAVEPOINTS];          /* changes gathered when it was set … */
	uint64_t saved_set;                      /* … if its bit is */
};

struct sql_arg {
	int column;
	unsigned char op; /* SQLITE_INDEX_CONSTRAINT_… */
	bool required;    /* an argument of a table that takes some */
	bool list;        /* all values of an IN at once */
	double rows;      /* that are left when it is given, a guess */
};

/* The constraints that were chosen: NULL = not given. */
struct sql_given {
	sqlite3_value *value[SQL_ARGS];
	bool list[SQL_ARGS];
};

struct sql_vtab {
	sqlite3_vtab base;
	const struct sql_table *table;
	struct sql_connection *connection;
};

struct sql_cursor {
	sqlite3_vtab_cursor base;
	struct haul_reader *reader; /* NULL until it is wanted */
	int64_t row;                /* so many rows before this one */
	bool end;
};

struct sql_table {
	const char *name, *schema;
	const struct sql_arg *args;
	uint32_t arg_count;
	double rows;      /* of a full scan, a guess */
	int order_column; /* rows come in ascending order of it when no list is given; -1 = none */
	size_t cursor_bytes;
	int (*start)(struct sql_cursor *cursor, const struct sql_given *given);
	int (*next)(struct sql_cursor *cursor); /* 1, 0 at the end, negative */
	int (*column)(struct sql_cursor *cursor, sqlite3_context *context, int column);
	int64_t (*rowid)(struct sql_cursor *cursor); /* NULL = number of the row */
	void (*close)(struct sql_cursor *cursor);    /* may be NULL */
	int (*update)(struct sql_vtab *vtab, int count, sqlite3_value **values,
		      sqlite3_int64 *rowid); /* NULL = read only */
};

extern const struct sql_table sql_nodes, sql_properties, sql_edges, sql_neighbours, sql_path,
	sql_embeddings, sql_near, sql_connections, sql_cache_entries, sql_batch_stats;

static inline struct sql_vtab *sql_vtab_of(const struct sql_cursor *cursor)
{
	return (struct sql_vtab *)cursor->base.pVtab;
}
static inline struct sql_connection *sql_connection_of(const struct sql_cursor *cursor)
{
	return sql_vtab_of(cursor)->connection;
}
/* The cursor has a reader. */
int sql_cursor_reader(struct sql_cursor *cursor);
/* Enter one table. */
int sql_table_enter(sqlite3 *db, const struct sql_table *table, struct sql_connection *connection);
/* Sets the text of the error; returns SQLITE_ERROR, or the code that fits. */
int sql_fail(struct sql_vtab *vtab, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* All values given for an argument, one or those of a list, told one by one. */
int sql_given_each(const struct sql_given *given, uint32_t arg,
		   int (*told)(sqlite3_value *value, void *arg), void *told_arg);
/* Ids of an argument; *ret_ids is the caller's to free. */
int sql_given_ids(const struct sql_given *given, uint32_t arg, uint64_t **ret_ids,
		  uint32_t *ret_count);

/* A page grows while rows are taken, so that LIMIT 1 reads little; 0 at first. */
uint32_t sql_page_after(uint32_t page);
/* A scan of pages sees one state, unless too many are pinned already. */
void sql_pin(struct sql_cursor *cursor, bool *pinned);
void sql_unpin(struct sql_cursor *cursor, bool *pinned);
