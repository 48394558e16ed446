/* cli/map_source.h — entries from a file: JSON Lines, a JSON array, or CSV.
 *
 * Model      The first character tells which. One entry is read after the other, whatever the size
 *            of the file; a bad one is an error of its own, and the next call goes on behind it.
 *            Rows of CSV with a column cpu that follow each other with the same key are one entry.
 * Ownership  the request is borrowed; map_source_close frees the rest, and closes all but stdin.
 * Threads    one at a time.
 * Errors     -EINVAL and others with text; source->line says where. A head of CSV that does not fit
 *            the map fails at open. */
#pragma once

#include <stdio.h>

#include "cli/map.h"

enum map_source_kind { MAP_SOURCE_LINES, MAP_SOURCE_ARRAY, MAP_SOURCE_CSV };

struct map_column {
	enum { MAP_COLUMN_KEY, MAP_COLUMN_VALUE, MAP_COLUMN_CPU } of;
	struct typed_place place;
};

/* One row of CSV: the value of one CPU, or the value. */
struct map_row {
	uint8_t *key, *value;
	uint64_t cpu;
	uint64_t line;
	int rc; /* 1, 0 at the end, or the error in err */
	struct haul_err err;
};

struct map_source {
	const struct map_request *request;
	FILE *file;
	enum map_source_kind kind;
	uint64_t line;     /* of the entry read last */
	uint64_t position; /* lines read from the file */
	char *text;
	size_t room;
	struct map_column *columns;
	uint32_t column_count;
	bool has_cpu;
	struct map_row row; /* read ahead: belongs to the next entry */
	bool held;
};

/* path may be "-". */
int map_source_open(struct map_source *source, const struct map_request *request, const char *path,
		    struct haul_err *err);
/* 1 and an entry, 0 at the end, or an error; fatal ones (-EIO, -ENOMEM) come again. */
int map_source_next(struct map_source *source, uint8_t *ret_key, uint8_t *ret_value,
		    struct haul_err *err);
void map_source_close(struct map_source *source);
