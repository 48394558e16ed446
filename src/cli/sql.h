/* cli/sql.h — what the files of `haul sql` share.
 *
 * Model      A script is run statement by statement; rows go to an output of one of three shapes.
 *            The shell reads statements from a terminal, with history.
 * Threads    main thread; sql_run_interrupt from a signal handler.
 * Errors     said on stderr with the place in the statement; CLI_FAILED. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/cli.h"
#include "sql/sql.h"
#include "sql/sqlite.h"

enum sql_mode { SQL_BOX, SQL_CSV, SQL_JSON };

enum { SQL_COLUMNS = 64, SQL_ROWS = 512 };

struct sql_output {
	enum sql_mode mode;
	bool headed; /* the names of this statement's columns have been printed */
	uint64_t rows;
	int column_count;
	/* box: a page of texts, as wide as the widest */
	char **cells;
	bool right[SQL_COLUMNS]; /* only numbers so far */
	uint32_t width[SQL_COLUMNS];
	uint32_t page_rows;
};

struct sql_run {
	volatile sig_atomic_t stopped; /* a signal came; the shell takes it back */
	sqlite3 *db;
	struct sql_connection *connection;
	struct sql_output output;
};

/* ---- sql_output.c ---- */
int sql_output_begin(struct sql_output *output, sqlite3_stmt *statement);
int sql_output_row(struct sql_output *output, sqlite3_stmt *statement);
void sql_output_end(struct sql_output *output, sqlite3_stmt *statement);
bool sql_mode_by_name(const char *name, enum sql_mode *ret_mode);

/* ---- sql_run.c ---- */
/* All statements of text. CLI_OK or CLI_FAILED; the first failure ends it. */
int sql_run_script(struct sql_run *run, const char *text);
/* Of the run that was started last: its statement ends soon. Async-signal-safe. */
void sql_run_catch(struct sql_run *run);

/* ---- sql_shell.c ---- */
int sql_shell(struct sql_run *run);
