/* Statements, one after the other. */
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "cli/sql.h"

/* What a signal ends; set before the handler is. */
static struct sql_run *volatile running;

static void on_signal(int number)
{
	struct sql_run *run = running;
	(void)number;
	if (run != NULL) {
		run->stopped = 1;
		sqlite3_interrupt(run->db);
		sql_interrupt(run->connection);
	}
}

/* sqlite3_interrupt does nothing between two statements; this sees it in the next. */
static int stopped(void *arg)
{
	return ((struct sql_run *)arg)->stopped;
}

void sql_run_catch(struct sql_run *run)
{
	enum { STEPS = 1000 };
	struct sigaction action = { .sa_handler = on_signal };
	running = run;
	sqlite3_progress_handler(run->db, STEPS, stopped, run);
	(void)sigemptyset(&action.sa_mask);
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
}

/* The line that the error is in, and a mark under the place. */
static void show_place(const char *sql, int offset)
{
	enum { BEFORE = 60, AFTER = 30 };
	if (offset < 0 || (size_t)offset > strlen(sql))
		return;
	int first = offset, last = offset;
	while (first > 0 && sql[first - 1] != '\n' && offset - first < BEFORE)
		first--;
	while (sql[last] != '\0' && sql[last] != '\n' && last - offset < AFTER)
		last++;
	fprintf(stderr, "  %.*s\n  %*s^ here\n", last - first, sql + first, offset - first, "");
}

static int failed(const struct sql_run *run, const char *sql, bool known)
{
	int line = 1;
	int offset = known ? sqlite3_error_offset(run->db) : -1;
	for (int i = 0; i < offset && sql[i] != '\0'; i++)
		line += sql[i] == '\n';
	if (sqlite3_errcode(run->db) == SQLITE_INTERRUPT)
		fprintf(stderr, "haul: sql: interrupted\n");
	else if (line > 1)
		fprintf(stderr, "haul: sql: line %d: %s\n", line, sqlite3_errmsg(run->db));
	else
		fprintf(stderr, "haul: sql: %s\n", sqlite3_errmsg(run->db));
	show_place(sql, offset);
	return CLI_FAILED;
}

static int run_statement(struct sql_run *run, sqlite3_stmt *statement, const char *sql)
{
	int rc = SQLITE_ROW, error = sql_output_begin(&run->output, statement);
	while (error == 0 && (rc = sqlite3_step(statement)) == SQLITE_ROW)
		error = sql_output_row(&run->output, statement);
	sql_output_end(&run->output, statement);
	if (error < 0) {
		fprintf(stderr, "haul: sql: %s\n", haul_strerror(error));
		return CLI_FAILED;
	}
	return rc == SQLITE_DONE ? CLI_OK : failed(run, sql, false);
}

int sql_run_script(struct sql_run *run, const char *text)
{
	int code = CLI_OK;
	while (code == CLI_OK) {
		sqlite3_stmt *statement;
		const char *rest;
		while (isspace((unsigned char)*text))
			text++;
		if (*text == '\0')
			break;
		if (sqlite3_prepare_v2(run->db, text, -1, &statement, &rest) != SQLITE_OK)
			return failed(run, text, true);
		if (statement != NULL)
			code = run_statement(run, statement, text);
		int rc = sqlite3_finalize(statement);
		/* A COMMIT that fails leaves its transaction open, with nothing in it. */
		if (code != CLI_OK && rc != SQLITE_OK && !sqlite3_get_autocommit(run->db))
			(void)sqlite3_exec(run->db, "ROLLBACK", NULL, NULL, NULL);
		text = rest;
	}
	if (fflush(stdout) != 0 && errno != EPIPE) {
		fprintf(stderr, "haul: sql: standard output: %s\n", haul_strerror(-errno));
		return CLI_FAILED;
	}
	return code;
}
