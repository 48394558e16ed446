#include "sql/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"

/* What a module is registered with. */
struct sql_module {
	const struct sql_table *table;
	struct sql_connection *connection;
};

static int code_of(int error)
{
	switch (error) {
	case -ENOMEM:
		return SQLITE_NOMEM;
	case -ECANCELED:
		return SQLITE_INTERRUPT;
	case -EBUSY:
	case HAUL_ESTALE:
		return SQLITE_BUSY;
	case HAUL_ECORRUPT:
		return SQLITE_CORRUPT;
	case -EEXIST:
	case -ENOTEMPTY:
	case -ENOENT:
		return SQLITE_CONSTRAINT;
	case HAUL_EFULL:
	case HAUL_ELIMIT:
		return SQLITE_TOOBIG;
	default:
		return SQLITE_ERROR;
	}
}

int sql_fail(struct sql_vtab *vtab, int error, const char *format, ...)
{
	va_list args;
	HAUL_ASSERT(error < 0);
	va_start(args, format);
	sqlite3_free(vtab->base.zErrMsg);
	vtab->base.zErrMsg = sqlite3_vmprintf(format, args);
	va_end(args);
	return code_of(error);
}

/* A code of ours becomes SQLite's, with a text if nobody gave one. */
static int fail_of(struct sql_vtab *vtab, int error)
{
	bool told = vtab->base.zErrMsg != NULL && vtab->base.zErrMsg[0] != '\0';
	if (!told && error == -ENOTCONN)
		return sql_fail(vtab, error,
				"%s: no store is open: name one (haul sql --store WHERE, or "
				"haul_open(WHERE) of the extension)",
				vtab->table->name);
	if (!told)
		return sql_fail(vtab, error, "%s: %s", vtab->table->name, haul_strerror(error));
	return code_of(error);
}

/* ---- connection ---- */

static void connection_drop(struct sql_connection *connection)
{
	HAUL_ASSERT(connection->holds > 0);
	if (--connection->holds > 0)
		return;
	pending_free(&connection->pending);
	for (uint32_t i = 0; i < connection->all_count; i++)
		haul_reader_close(connection->all[i]);
	free(connection);
}

int sql_cursor_reader(struct sql_cursor *cursor)
{
	struct sql_connection *connection = sql_connection_of(cursor);
	if (cursor->reader != NULL)
		return 0;
	if (connection->idle_count > 0) {
		cursor->reader = connection->idle[--connection->idle_count];
		return 0;
	}
	if (connection->all_count == SQL_READERS)
		return HAUL_ELIMIT;
	struct haul_reader *reader = NULL;
	int error = connection->source.reader(connection->source.arg, &reader);
	if (error < 0)
		return error;
	connection->all[connection->all_count] = reader;
	__atomic_store_n(&connection->all_count, connection->all_count + 1, __ATOMIC_RELEASE);
	cursor->reader = reader;
	return 0;
}

void sql_interrupt(struct sql_connection *connection)
{
	uint32_t count = __atomic_load_n(&connection->all_count, __ATOMIC_ACQUIRE);
	for (uint32_t i = 0; i < count; i++)
		haul_reader_interrupt(connection->all[i]);
}

/* ---- planning ---- */

static int table_connect(sqlite3 *db, void *arg, int argc, const char *const *argv,
			 sqlite3_vtab **ret_vtab, char **ret_text)
{
	const struct sql_module *module = arg;
	(void)argc;
	(void)argv;
	(void)ret_text;
	int rc = sqlite3_declare_vtab(db, module->table->schema);
	if (rc != SQLITE_OK)
		return rc;
	if (module->table->update != NULL)
		sqlite3_vtab_config(db, SQLITE_VTAB_CONSTRAINT_SUPPORT, 1);
	struct sql_vtab *vtab = sqlite3_malloc(sizeof *vtab);
	if (vtab == NULL)
		return SQLITE_NOMEM;
	*vtab = (struct sql_vtab){ .table = module->table, .connection = module->connection };
	*ret_vtab = &vtab->base;
	return SQLITE_OK;
}

static int table_disconnect(sqlite3_vtab *vtab)
{
	sqlite3_free(vtab);
	return SQLITE_OK;
}

/* The first constraint that fits an argument; -1. *ret_seen: there is one, but not usable now. */
static int find_constraint(const sqlite3_index_info *info, const struct sql_arg *arg,
			   bool *ret_seen)
{
	*ret_seen = false;
	for (int i = 0; i < info->nConstraint; i++) {
		const struct sqlite3_index_constraint *constraint = &info->aConstraint[i];
		if (constraint->iColumn != arg->column || constraint->op != arg->op)
			continue;
		if (constraint->usable && info->aConstraintUsage[i].argvIndex == 0)
			return i;
		*ret_seen = *ret_seen || !constraint->usable;
	}
	return -1;
}

static bool ordered_by(const sqlite3_index_info *info, int column)
{
	return column >= 0 && info->nOrderBy == 1 && info->aOrderBy[0].iColumn == column &&
	       !info->aOrderBy[0].desc;
}

static int table_plan(sqlite3_vtab *base, sqlite3_index_info *info)
{
	const struct sql_table *table = ((struct sql_vtab *)base)->table;
	double rows = table->rows;
	int given = 0, lists = 0, next = 1;
	bool several = false;
	HAUL_ASSERT(table->arg_count <= SQL_ARGS);
	for (uint32_t i = 0; i < table->arg_count; i++) {
		const struct sql_arg *arg = &table->args[i];
		bool seen;
		int at = find_constraint(info, arg, &seen);
		if (at < 0 && arg->required)
			return SQLITE_CONSTRAINT;
		if (at < 0)
			continue;
		if (arg->list && sqlite3_vtab_in(info, at, -1)) {
			sqlite3_vtab_in(info, at, 1);
			lists |= 1 << i;
			several = true;
		}
		info->aConstraintUsage[at].argvIndex = next++;
		info->aConstraintUsage[at].omit = arg->required;
		given |= 1 << i;
		rows = arg->rows < rows ? arg->rows : rows;
	}
	info->idxNum = given | lists << SQL_ARGS;
	info->estimatedRows = (sqlite3_int64)rows;
	/* A batch of rows costs little more than one. */
	info->estimatedCost = 10 + rows;
	info->orderByConsumed = !several && ordered_by(info, table->order_column);
	return SQLITE_OK;
}

/* ---- cursors ---- */

static int table_open(sqlite3_vtab *base, sqlite3_vtab_cursor **ret_cursor)
{
	struct sql_vtab *vtab = (struct sql_vtab *)base;
	struct sql_cursor *cursor = calloc(1, vtab->table->cursor_bytes);
	if (cursor == NULL)
		return SQLITE_NOMEM;
	cursor->base.pVtab = base;
	*ret_cursor = &cursor->base;
	return SQLITE_OK;
}

static int table_close(sqlite3_vtab_cursor *base)
{
	struct sql_cursor *cursor = (struct sql_cursor *)base;
	struct sql_connection *connection = sql_connection_of(cursor);
	const struct sql_table *table = sql_vtab_of(cursor)->table;
	if (table->close != NULL)
		table->close(cursor);
	if (cursor->reader != NULL)
		connection->idle[connection->idle_count++] = cursor->reader;
	free(cursor);
	return SQLITE_OK;
}

static int cursor_step(struct sql_cursor *cursor)
{
	int rc = sql_vtab_of(cursor)->table->next(cursor);
	cursor->end = rc <= 0;
	return rc < 0 ? fail_of(sql_vtab_of(cursor), rc) : SQLITE_OK;
}

static int table_filter(sqlite3_vtab_cursor *base, int number, const char *text, int argc,
			sqlite3_value **argv)
{
	struct sql_cursor *cursor = (struct sql_cursor *)base;
	const struct sql_table *table = sql_vtab_of(cursor)->table;
	struct sql_given given = { 0 };
	int next = 0;
	(void)text;
	for (uint32_t i = 0; i < table->arg_count; i++) {
		if (!(number & 1 << i))
			continue;
		HAUL_ASSERT(next < argc);
		given.list[i] = number >> SQL_ARGS & 1 << i;
		given.value[i] = argv[next++];
	}
	sqlite3_free(base->pVtab->zErrMsg);
	base->pVtab->zErrMsg = NULL;
	cursor->row = 0;
	int error = table->start(cursor, &given);
	return error < 0 ? fail_of(sql_vtab_of(cursor), error) : cursor_step(cursor);
}

static int table_next(sqlite3_vtab_cursor *base)
{
	struct sql_cursor *cursor = (struct sql_cursor *)base;
	cursor->row++;
	return cursor_step(cursor);
}

static int table_eof(sqlite3_vtab_cursor *base)
{
	return ((struct sql_cursor *)base)->end;
}

static int table_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
	struct sql_cursor *cursor = (struct sql_cursor *)base;
	int error = sql_vtab_of(cursor)->table->column(cursor, context, column);
	return error < 0 ? fail_of(sql_vtab_of(cursor), error) : SQLITE_OK;
}

static int table_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *ret_rowid)
{
	struct sql_cursor *cursor = (struct sql_cursor *)base;
	const struct sql_table *table = sql_vtab_of(cursor)->table;
	*ret_rowid = table->rowid != NULL ? table->rowid(cursor) : cursor->row;
	return SQLITE_OK;
}

static int collect_id(sqlite3_value *value, void *arg)
{
	struct ids {
		uint64_t *ids;
		uint32_t count, room;
	} *ids = arg;
	if (sqlite3_value_numeric_type(value) != SQLITE_INTEGER)
		return 0; /* equals no id */
	if (ids->count == ids->room) {
		uint32_t room = ids->room > 0 ? ids->room * 2 : 1;
		void *larger = realloc(ids->ids, room * sizeof *ids->ids);
		if (larger == NULL)
			return -ENOMEM;
		ids->ids = larger;
		ids->room = room;
	}
	ids->ids[ids->count++] = (uint64_t)sqlite3_value_int64(value);
	return 0;
}

int sql_given_each(const struct sql_given *given, uint32_t arg,
		   int (*told)(sqlite3_value *value, void *arg), void *told_arg)
{
	sqlite3_value *value = given->value[arg], *one = NULL;
	if (!given->list[arg])
		return told(value, told_arg);
	for (int rc = sqlite3_vtab_in_first(value, &one); rc == SQLITE_OK && one != NULL;
	     rc = sqlite3_vtab_in_next(value, &one)) {
		int error = told(one, told_arg);
		if (error < 0)
			return error;
	}
	return 0;
}

int sql_given_ids(const struct sql_given *given, uint32_t arg, uint64_t **ret_ids,
		  uint32_t *ret_count)
{
	struct {
		uint64_t *ids;
		uint32_t count, room;
	} ids = { 0 };
	int error = sql_given_each(given, arg, collect_id, &ids);
	if (error < 0) {
		free(ids.ids);
		return error;
	}
	*ret_ids = ids.ids;
	*ret_count = ids.count;
	return 0;
}

/* ---- pages ---- */

uint32_t sql_page_after(uint32_t page)
{
	return page == 0 ? SQL_PAGE_FIRST : page * 4 < SQL_PAGE ? page * 4 : SQL_PAGE;
}

void sql_pin(struct sql_cursor *cursor, bool *pinned)
{
	*pinned = haul_reader_pin(cursor->reader) == 0;
}

void sql_unpin(struct sql_cursor *cursor, bool *pinned)
{
	if (*pinned)
		haul_reader_unpin(cursor->reader);
	*pinned = false;
}

/* ---- transactions: one group of all that was gathered ---- */

static int table_begin(sqlite3_vtab *base)
{
	(void)base;
	return SQLITE_OK;
}

static int first_failed(const struct pending *pending, const int32_t *statuses)
{
	for (uint32_t i = 0; i < pending->count; i++)
		if (statuses[i] < 0 && statuses[i] != -ECANCELED)
			return (int)i;
	return -1;
}

static int commit_failed(struct sql_vtab *vtab, const struct pending *pending,
			 const int32_t *statuses)
{
	int at = first_failed(pending, statuses);
	if (at < 0)
		return SQLITE_OK;
	const struct pending_change *change = &pending->changes[at];
	int status = statuses[at];
	const char *what = haul_change_name(change->change);
	bool edge = change->change == HAUL_CREATE_EDGE || change->change == HAUL_UPDATE_EDGE ||
		    change->change == HAUL_DELETE_EDGE;
	if (edge)
		return sql_fail(vtab, status, "%s %lld -> %lld type %u: %s; nothing was changed",
				what, (long long)change->of.edge.id.src,
				(long long)change->of.edge.id.dst, change->of.edge.id.type,
				haul_strerror(status));
	/* The node of an embedding stands where the id of a node does. */
	return sql_fail(vtab, status, "%s %lld: %s; nothing was changed", what,
			(long long)change->of.node.id, haul_strerror(status));
}

static int table_sync(sqlite3_vtab *base)
{
	struct sql_vtab *vtab = (struct sql_vtab *)base;
	struct sql_connection *connection = vtab->connection;
	struct pending *pending = &connection->pending;
	struct haul_changes *changes = NULL;
	if (pending->count == 0)
		return SQLITE_OK;
	int32_t *statuses = calloc(pending->count, sizeof *statuses);
	int error = statuses != NULL ? haul_changes_new(&changes, 0, 0, 0) : -ENOMEM;
	if (error == 0)
		error = pending_build(pending, changes);
	if (error == HAUL_EFULL)
		sql_fail(vtab, error, "%u changes do not fit into one group: commit earlier",
			 pending->count);
	if (error == 0)
		error = connection->source.commit(connection->source.arg, changes, statuses);
	int rc = error < 0 ? fail_of(vtab, error) : commit_failed(vtab, pending, statuses);
	haul_changes_free(changes);
	free(statuses);
	pending_cut(pending, 0);
	connection->saved_set = 0;
	return rc;
}

static int table_commit(sqlite3_vtab *base)
{
	(void)base;
	return SQLITE_OK;
}

static int table_rollback(sqlite3_vtab *base)
{
	struct sql_connection *connection = ((struct sql_vtab *)base)->connection;
	pending_cut(&connection->pending, 0);
	connection->saved_set = 0;
	return SQLITE_OK;
}

/* A savepoint is told by every table that takes part; one that joins later tells it again. */
static int table_savepoint(sqlite3_vtab *base, int number)
{
	struct sql_connection *connection = ((struct sql_vtab *)base)->connection;
	if (number >= SQL_SAVEPOINTS)
		return sql_fail((struct sql_vtab *)base, HAUL_ELIMIT, "more than %d savepoints",
				SQL_SAVEPOINTS);
	if (!(connection->saved_set >> number & 1))
		connection->saved[number] = connection->pending.count;
	connection->saved_set |= UINT64_C(1) << number;
	return SQLITE_OK;
}

static int table_release(sqlite3_vtab *base, int number)
{
	struct sql_connection *connection = ((struct sql_vtab *)base)->connection;
	if (number < SQL_SAVEPOINTS)
		connection->saved_set &= (UINT64_C(1) << number) - 1;
	return SQLITE_OK;
}

static int table_rollback_to(sqlite3_vtab *base, int number)
{
	struct sql_connection *connection = ((struct sql_vtab *)base)->connection;
	if (number >= SQL_SAVEPOINTS)
		return SQLITE_OK;
	/* Not told: nothing had been gathered then. */
	bool set = connection->saved_set >> number & 1;
	pending_cut(&connection->pending, set ? connection->saved[number] : 0);
	connection->saved_set &= (UINT64_C(2) << number) - 1;
	return SQLITE_OK;
}

static int table_update(sqlite3_vtab *base, int argc, sqlite3_value **argv, sqlite3_int64 *rowid)
{
	struct sql_vtab *vtab = (struct sql_vtab *)base;
	sqlite3_free(base->zErrMsg);
	base->zErrMsg = NULL;
	vtab->connection->replace =
		sqlite3_vtab_on_conflict(vtab->connection->db) == SQLITE_REPLACE;
	if (vtab->connection->source.commit == NULL)
		return sql_fail(vtab, -EROFS, "%s: the store is open for reading only",
				vtab->table->name);
	int error = vtab->table->update(vtab, argc, argv, rowid);
	if (error == HAUL_EFULL)
		return sql_fail(vtab, error,
				"more than %d changes in one transaction: commit "
				"earlier",
				HAUL_CHANGES_OPS);
	return error < 0 ? fail_of(vtab, error) : SQLITE_OK;
}

/* ---- entering ---- */

static const sqlite3_module read_module = {
	.iVersion = 1,
	.xConnect = table_connect,
	.xBestIndex = table_plan,
	.xDisconnect = table_disconnect,
	.xOpen = table_open,
	.xClose = table_close,
	.xFilter = table_filter,
	.xNext = table_next,
	.xEof = table_eof,
	.xColumn = table_column,
	.xRowid = table_rowid,
};

static const sqlite3_module write_module = {
	.iVersion = 2,
	.xConnect = table_connect,
	.xBestIndex = table_plan,
	.xDisconnect = table_disconnect,
	.xOpen = table_open,
	.xClose = table_close,
	.xFilter = table_filter,
	.xNext = table_next,
	.xEof = table_eof,
	.xColumn = table_column,
	.xRowid = table_rowid,
	.xUpdate = table_update,
	.xBegin = table_begin,
	.xSync = table_sync,
	.xCommit = table_commit,
	.xRollback = table_rollback,
	.xSavepoint = table_savepoint,
	.xRelease = table_release,
	.xRollbackTo = table_rollback_to,
};

static void module_gone(void *arg)
{
	struct sql_module *module = arg;
	connection_drop(module->connection);
	free(module);
}

/* SQLite calls module_gone also when it fails. Without xCreate the table is there by itself. */
int sql_table_enter(sqlite3 *db, const struct sql_table *table, struct sql_connection *connection)
{
	struct sql_module *module = calloc(1, sizeof *module);
	if (module == NULL)
		return SQLITE_NOMEM;
	*module = (struct sql_module){ table, connection };
	connection->holds++;
	return sqlite3_create_module_v2(db, table->name,
					table->update != NULL ? &write_module : &read_module,
					module, module_gone);
}
