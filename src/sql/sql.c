#include "sql/sql.h"

#include <errno.h>
#include <sqlite3.h>

int sql_attach(struct sqlite3 *db, const struct sql_source *source, struct haul_err *err)
{
	(void)db;
	(void)source;
	return haul_err_set(err, -ENOTSUP, "not there yet");
}
