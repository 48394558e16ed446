/* cli/grid.h — rows of text cells in aligned columns, a page at a time.
 *
 * Model      Cells are put row by row; a full page is printed with columns as wide as the widest
 *            cell met so far, so that a list of any length needs memory for one page only.
 * Ownership  columns are the caller's; a cell from grid_cell is written before the next is taken.
 * Threads    main thread only.
 * Limits     GRID_COLUMNS columns, GRID_ROWS rows a page, GRID_CELL bytes a cell. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { GRID_COLUMNS = 24, GRID_ROWS = 256, GRID_CELL = 64, GRID_LINE = 1024 };

struct grid_column {
	const char *name;
	bool right; /* numbers */
};

struct grid {
	const struct grid_column *columns;
	uint32_t column_count;
	uint32_t cell_count;
	bool headed; /* the names have been printed */
	uint32_t width[GRID_COLUMNS];
	char (*cells)[GRID_CELL];
};

int grid_init(struct grid *grid, const struct grid_column *columns, uint32_t count);
void grid_done(struct grid *grid);
/* The next cell, GRID_CELL bytes; grid_full must not hold. */
char *grid_cell(struct grid *grid);
/* Whole rows. */
uint32_t grid_rows(const struct grid *grid);
bool grid_full(const struct grid *grid);
/* Set the widths by what is in the page; before grid_line. */
void grid_fit(struct grid *grid);
/* One row without a newline; GRID_ROWS: the names. */
void grid_line(const struct grid *grid, uint32_t row, char ret_line[GRID_LINE]);
/* Print the names, the first time, and all rows, and empty the page. */
void grid_print(struct grid *grid, FILE *out);
void grid_clear(struct grid *grid);
