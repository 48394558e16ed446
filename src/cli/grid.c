#include "cli/grid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

int grid_init(struct grid *grid, const struct grid_column *columns, uint32_t count)
{
	HAUL_ASSERT(count > 0 && count <= GRID_COLUMNS);
	*grid = (struct grid){ .columns = columns, .column_count = count };
	grid->cells = calloc((size_t)GRID_ROWS * count, GRID_CELL);
	if (grid->cells == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++)
		grid->width[i] = (uint32_t)strlen(columns[i].name);
	return 0;
}

void grid_done(struct grid *grid)
{
	free(grid->cells);
	grid->cells = NULL;
}

char *grid_cell(struct grid *grid)
{
	HAUL_ASSERT(!grid_full(grid));
	return grid->cells[grid->cell_count++];
}

uint32_t grid_rows(const struct grid *grid)
{
	return grid->cell_count / grid->column_count;
}

bool grid_full(const struct grid *grid)
{
	return grid->cell_count == GRID_ROWS * grid->column_count;
}

void grid_fit(struct grid *grid)
{
	HAUL_ASSERT(grid->cell_count % grid->column_count == 0);
	for (uint32_t i = 0; i < grid->cell_count; i++) {
		uint32_t *width = &grid->width[i % grid->column_count];
		uint32_t bytes = (uint32_t)strnlen(grid->cells[i], GRID_CELL - 1);

		if (bytes > *width)
			*width = bytes;
	}
}

void grid_line(const struct grid *grid, uint32_t row, char ret_line[GRID_LINE])
{
	size_t used = 0;

	HAUL_ASSERT(row == GRID_ROWS || row < grid_rows(grid));
	ret_line[0] = '\0';
	for (uint32_t i = 0; i < grid->column_count && used + GRID_CELL + 2 < GRID_LINE; i++) {
		const struct grid_column *column = &grid->columns[i];
		const char *text =
			row == GRID_ROWS ? column->name : grid->cells[row * grid->column_count + i];
		int width = (int)grid->width[i];
		int n;

		/* The last column needs no blanks behind it. */
		if (i + 1 == grid->column_count && !column->right)
			width = 0;
		n = snprintf(ret_line + used, GRID_LINE - used, "%s%*s", i > 0 ? " " : "",
			     column->right ? width : -width, text);
		HAUL_ASSERT(n >= 0);
		used += (size_t)n;
	}
}

void grid_print(struct grid *grid, FILE *out)
{
	char line[GRID_LINE];

	grid_fit(grid);
	if (!grid->headed) {
		grid_line(grid, GRID_ROWS, line);
		fprintf(out, "%s\n", line);
		grid->headed = true;
	}
	for (uint32_t row = 0; row < grid_rows(grid); row++) {
		grid_line(grid, row, line);
		fprintf(out, "%s\n", line);
	}
	grid_clear(grid);
}

void grid_clear(struct grid *grid)
{
	grid->cell_count = 0;
}
