/* cli/store_row.h — a record of a file as a node or an edge.
 *
 * Model      CSV: the header names the columns. Nodes: id, kind, key; edges: src, dst, type, disc;
 *            embedding and embedding.N (a JSON array of numbers, of index 0 and N); all others are
 *            properties, "name:int", "name:float", "name:text", "name:bytes" (hexadecimal), or
 *            "name": an integer or a float where an unquoted cell looks like one, else a text. An
 *            empty cell is no property; an empty cell in quotes is an empty text.
 *            NDJSON: an object with members of these names, and "properties".
 *            src and dst are ids where they are numbers, else keys of nodes; src_key and dst_key
 *            are always keys.
 * Ownership  what a row points to belongs to the rows or the input, until the next record.
 * Memory     at init, and what jansson takes for a line.
 * Threads    one.
 * Errors     -EINVAL, HAUL_ELIMIT with text: what is wrong, without file and line. */
#pragma once

#include <haul/reader.h>
#include "cli/store_input.h"

enum { STORE_ROW_EMBEDDINGS = 4 };

struct store_end {
	uint64_t id; /* 0: by key */
	struct haul_text key;
};

struct store_row {
	uint64_t id; /* of a node; 0: none given */
	struct haul_text key;
	uint32_t kind;
	uint32_t type, disc; /* of an edge */
	struct store_end src, dst;
	struct haul_properties properties;
	uint32_t embedding_count;
	struct haul_embedding embeddings[STORE_ROW_EMBEDDINGS]; /* node is not set */
};

struct json_t;
struct store_column;

struct store_rows {
	bool edges;
	struct store_column *columns; /* of a CSV file; owned */
	uint32_t column_count;
	/* of the row */
	uint8_t *properties;
	struct haul_property *list;
	uint8_t *bytes; /* decoded */
	float *vectors;
	uint32_t vector_used;
	struct json_t *object;
};

int store_rows_init(struct store_rows *rows, bool edges);
/* Takes what was never made. */
void store_rows_done(struct store_rows *rows);
/* The header of a CSV file. */
int store_rows_header(struct store_rows *rows, const struct store_csv *csv, struct haul_err *err);
/* The record that the input stands at. */
int store_rows_take(struct store_rows *rows, const struct store_input *input, struct store_row *row,
		    struct haul_err *err);
/* Of NDJSON; for store_rows_take. */
int store_row_of_json(struct store_rows *rows, const struct store_input *input,
		      struct store_row *row, struct haul_err *err);
/* Room for one more embedding: HAUL_DIMENSIONS_MAX floats; NULL: no more fit. */
float *store_row_vector(struct store_rows *rows, const struct store_row *row);
/* N of "embedding" (0) and "embedding.N". */
bool store_row_is_embedding(const char *name, uint32_t *ret_index);
