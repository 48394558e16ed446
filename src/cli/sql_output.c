/* Rows of a statement as a box, as CSV or as JSON. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/sql.h"

bool sql_mode_by_name(const char *name, enum sql_mode *ret_mode)
{
	static const char *const names[] = { "box", "csv", "json" };
	for (uint32_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strcmp(name, names[i]) != 0)
			continue;
		*ret_mode = (enum sql_mode)i;
		return true;
	}
	return false;
}

/* ---- box ---- */

/* Characters on the screen, roughly: bytes that do not continue a UTF-8 character. */
static uint32_t wide(const char *text)
{
	uint32_t width = 0;
	for (; *text != '\0'; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

/* A blob as x'00ff…', a line break as a space. */
static char *cell_text(sqlite3_stmt *statement, int column)
{
	enum { SHOWN = 16 };
	int type = sqlite3_column_type(statement, column);
	if (type == SQLITE_NULL)
		return strdup("");
	if (type == SQLITE_BLOB) {
		const unsigned char *bytes = sqlite3_column_blob(statement, column);
		int count = sqlite3_column_bytes(statement, column);
		int shown = count < SHOWN ? count : SHOWN;
		char *text = malloc(2 * SHOWN + 8);
		if (text == NULL)
			return NULL;
		char *at = text + snprintf(text, 3, "x'");
		for (int i = 0; i < shown; i++)
			at += snprintf(at, 3, "%02x", bytes[i]);
		snprintf(at, 5, "%s", count > SHOWN ? "…" : "'");
		return text;
	}
	const char *text = (const char *)sqlite3_column_text(statement, column);
	char *copy = text != NULL ? strdup(text) : NULL;
	for (char *at = copy; at != NULL && *at != '\0'; at++)
		if (*at == '\n' || *at == '\t' || *at == '\r')
			*at = ' ';
	return copy;
}

static void box_rule(const struct sql_output *output, const char *left, const char *middle,
		     const char *right)
{
	for (int i = 0; i < output->column_count; i++) {
		fputs(i == 0 ? left : middle, stdout);
		for (uint32_t n = 0; n < output->width[i] + 2; n++)
			fputs("─", stdout);
	}
	puts(right);
}

static void box_cell(const struct sql_output *output, int column, const char *text, bool right)
{
	uint32_t width = wide(text);
	uint32_t blank = output->width[column] > width ? output->width[column] - width : 0;
	if (right)
		printf("│ %*s%s ", (int)blank, "", text);
	else
		printf("│ %s%*s ", text, (int)blank, "");
}

static void box_page(struct sql_output *output, sqlite3_stmt *statement)
{
	for (int i = 0; i < output->column_count && !output->headed; i++) {
		uint32_t width = wide(sqlite3_column_name(statement, i));
		output->width[i] = width > output->width[i] ? width : output->width[i];
	}
	if (!output->headed) {
		box_rule(output, "┌", "┬", "┐");
		for (int i = 0; i < output->column_count; i++)
			box_cell(output, i, sqlite3_column_name(statement, i), false);
		puts("│");
		box_rule(output, "├", "┼", "┤");
	}
	output->headed = true;
	for (uint32_t row = 0; row < output->page_rows; row++) {
		for (int i = 0; i < output->column_count; i++) {
			char **cell =
				&output->cells[row * (uint32_t)output->column_count + (uint32_t)i];
			box_cell(output, i, *cell, output->right[i]);
			free(*cell);
			*cell = NULL;
		}
		puts("│");
	}
	output->page_rows = 0;
}

static int box_row(struct sql_output *output, sqlite3_stmt *statement)
{
	uint32_t columns = (uint32_t)output->column_count;
	for (uint32_t i = 0; i < columns; i++) {
		int type = sqlite3_column_type(statement, (int)i);
		char *text = cell_text(statement, (int)i);
		if (text == NULL)
			return -ENOMEM;
		output->cells[output->page_rows * columns + i] = text;
		uint32_t width = wide(text);
		output->width[i] = width > output->width[i] ? width : output->width[i];
		if (type == SQLITE_TEXT || type == SQLITE_BLOB)
			output->right[i] = false;
	}
	if (++output->page_rows == SQL_ROWS)
		box_page(output, statement);
	return 0;
}

/* ---- CSV: RFC 4180 ---- */

static void csv_text(const char *text, size_t bytes)
{
	if (bytes > 0 && strpbrk(text, ",\"\r\n") == NULL) {
		(void)fwrite(text, 1, bytes, stdout);
		return;
	}
	putchar('"');
	for (size_t i = 0; i < bytes; i++) {
		if (text[i] == '"')
			putchar('"');
		putchar(text[i]);
	}
	putchar('"');
}

static void csv_names(const struct sql_output *output, sqlite3_stmt *statement)
{
	for (int i = 0; i < output->column_count; i++) {
		const char *name = sqlite3_column_name(statement, i);
		if (i > 0)
			putchar(',');
		csv_text(name, strlen(name));
	}
	fputs("\r\n", stdout);
}

static int csv_row(const struct sql_output *output, sqlite3_stmt *statement)
{
	for (int i = 0; i < output->column_count; i++) {
		if (i > 0)
			putchar(',');
		int type = sqlite3_column_type(statement, i);
		if (type == SQLITE_BLOB) {
			const unsigned char *bytes = sqlite3_column_blob(statement, i);
			for (int n = 0; n < sqlite3_column_bytes(statement, i); n++)
				printf("%02x", bytes[n]);
		} else if (type != SQLITE_NULL) { /* NULL is nothing, a text of nothing is "" */
			const char *text = (const char *)sqlite3_column_text(statement, i);
			csv_text(text != NULL ? text : "",
				 (size_t)sqlite3_column_bytes(statement, i));
		}
	}
	fputs("\r\n", stdout);
	return 0;
}

/* ---- JSON: an array of objects ---- */

static json_t *json_cell(sqlite3_stmt *statement, int column)
{
	switch (sqlite3_column_type(statement, column)) {
	case SQLITE_INTEGER:
		return json_integer(sqlite3_column_int64(statement, column));
	case SQLITE_FLOAT:
		return json_real(sqlite3_column_double(statement, column));
	case SQLITE_TEXT:
		return json_stringn((const char *)sqlite3_column_text(statement, column),
				    (size_t)sqlite3_column_bytes(statement, column));
	case SQLITE_BLOB: {
		int bytes = sqlite3_column_bytes(statement, column);
		const unsigned char *blob = sqlite3_column_blob(statement, column);
		char *text = malloc((size_t)bytes * 2 + 1);
		for (int i = 0; text != NULL && i < bytes; i++)
			snprintf(text + 2 * i, 3, "%02x", blob[i]);
		json_t *value = text != NULL ? json_stringn(text, (size_t)bytes * 2) : NULL;
		free(text);
		return value;
	}
	default:
		return json_null();
	}
}

static int json_row(struct sql_output *output, sqlite3_stmt *statement)
{
	json_t *object = json_object();
	for (int i = 0; i < output->column_count; i++) {
		json_t *value = json_cell(statement, i);
		json_object_set_new(object, sqlite3_column_name(statement, i),
				    value != NULL ? value : json_null());
	}
	fputs(output->rows > 0 ? ",\n " : "[", stdout);
	int failed = json_dumpf(object, stdout, JSON_COMPACT);
	json_decref(object);
	return failed ? -EIO : 0;
}

/* ---- any ---- */

int sql_output_begin(struct sql_output *output, sqlite3_stmt *statement)
{
	output->column_count = sqlite3_column_count(statement);
	output->rows = output->page_rows = 0;
	output->headed = false;
	for (uint32_t i = 0; i < SQL_COLUMNS; i++) {
		output->width[i] = 0;
		output->right[i] = true;
	}
	if (output->column_count > SQL_COLUMNS)
		return HAUL_ELIMIT;
	if (output->mode == SQL_BOX && output->column_count > 0) {
		output->cells = calloc((size_t)SQL_ROWS * (uint32_t)output->column_count,
				       sizeof *output->cells);
		if (output->cells == NULL)
			return -ENOMEM;
	}
	if (output->mode == SQL_CSV && output->column_count > 0)
		csv_names(output, statement);
	return 0;
}

int sql_output_row(struct sql_output *output, sqlite3_stmt *statement)
{
	int error = output->mode == SQL_BOX   ? box_row(output, statement)
		    : output->mode == SQL_CSV ? csv_row(output, statement)
					      : json_row(output, statement);
	output->rows++;
	return error;
}

void sql_output_end(struct sql_output *output, sqlite3_stmt *statement)
{
	if (output->column_count == 0)
		return;
	if (output->mode == SQL_JSON)
		puts(output->rows > 0 ? "]" : "[]");
	if (output->mode == SQL_BOX) {
		if (output->page_rows > 0)
			box_page(output, statement);
		if (output->headed)
			box_rule(output, "└", "┴", "┘");
		uint32_t cells = SQL_ROWS * (uint32_t)output->column_count;
		for (uint32_t i = 0; output->cells != NULL && i < cells; i++)
			free(output->cells[i]); /* of a row that could not be finished */
		free(output->cells);
		output->cells = NULL;
	}
}
