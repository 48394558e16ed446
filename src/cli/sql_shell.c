/* The interactive shell of haul sql. */
#include <editline/readline.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/sql.h"

enum { HISTORY = 1000, STATEMENT_MAX = 1 << 20 };

static const char help[] =
	"Statements end with a semicolon. Ctrl-C ends the one that runs, Ctrl-D the shell.\n"
	"  .tables        names of the tables\n"
	"  .schema TABLE  its columns\n"
	"  .mode MODE     box, csv or json\n"
	"  .quit\n";

static const char tables[] = "nodes        edges        properties   embeddings\n"
			     "neighbours(id, direction, type)\n"
			     "near(vector, k, idx, metric, exact)\n"
			     "path(a, b, direction, type, depth)\n"
			     "connections  cache_entries (with --cache)  batch_stats\n";

static void history_path(char path[4096])
{
	const char *home = getenv("HOME");
	path[0] = '\0';
	if (home != NULL && snprintf(path, 4096, "%s/.haul_sql_history", home) >= 4096)
		path[0] = '\0';
}

/* Columns of a table, those with arguments last. */
static void show_schema(struct sql_run *run, const char *table)
{
	char *sql = sqlite3_mprintf("SELECT name, type, CASE hidden WHEN 1 THEN 'argument' END AS "
				    "use FROM pragma_table_xinfo(%Q)",
				    table);
	if (sql != NULL)
		(void)sql_run_script(run, sql);
	sqlite3_free(sql);
}

/* Whether the shell goes on. */
static bool dot_command(struct sql_run *run, const char *line)
{
	char word[32] = "", arg[64] = "";
	int words = sscanf(line, "%31s %63s", word, arg);
	if (strcmp(word, ".quit") == 0 || strcmp(word, ".exit") == 0)
		return false;
	if (strcmp(word, ".tables") == 0)
		fputs(tables, stdout);
	else if (strcmp(word, ".schema") == 0 && words == 2)
		show_schema(run, arg);
	else if (strcmp(word, ".mode") == 0 && words == 2) {
		if (!sql_mode_by_name(arg, &run->output.mode))
			fprintf(stderr, "haul: sql: .mode '%s': wanted is box, csv or json\n", arg);
	} else {
		fputs(help, stdout);
	}
	return true;
}

/* One more line of a statement; false when it grows too long. */
static bool gather(char **statement, const char *line)
{
	size_t had = *statement != NULL ? strlen(*statement) : 0, more = strlen(line);
	if (had + more + 2 > STATEMENT_MAX)
		return false;
	char *longer = realloc(*statement, had + more + 2);
	if (longer == NULL)
		return false;
	snprintf(longer + had, more + 2, "%s\n", line);
	*statement = longer;
	return true;
}

int sql_shell(struct sql_run *run)
{
	char path[4096], *statement = NULL, *line;
	bool on = true;
	history_path(path);
	using_history();
	stifle_history(HISTORY);
	if (path[0] != '\0')
		(void)read_history(path);
	printf("haul sql: .help tells more\n");
	while (on && (line = readline(statement == NULL ? "haul> " : "  ...> ")) != NULL) {
		if (statement == NULL && line[0] == '.') {
			on = dot_command(run, line);
		} else if (!gather(&statement, line)) {
			fprintf(stderr, "haul: sql: the statement is too long\n");
			free(statement);
			statement = NULL;
		} else if (sqlite3_complete(statement)) {
			run->stopped = 0;
			(void)sql_run_script(run, statement);
			free(statement);
			statement = NULL;
		}
		if (line[0] != '\0')
			add_history(line);
		free(line);
	}
	if (on)
		putchar('\n');
	free(statement);
	if (path[0] != '\0')
		(void)write_history(path);
	return CLI_OK;
}
