/* sql/sqlite.h — SQLite's interface, of the library, or of whoever loads the extension.
 * Every file of this folder includes this and not <sqlite3.h>. Threads: as SQLite's. */
#pragma once

#ifdef HAUL_SQL_EXTENSION
#include <sqlite3ext.h>
extern const sqlite3_api_routines *sqlite3_api;
#else
#include <sqlite3.h>
#endif
