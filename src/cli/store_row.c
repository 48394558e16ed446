/* CSV records as rows. */
#include "cli/store_row.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/store.h"
#include "sql/json.h"

enum role { ID, KIND, KEY, SRC, DST, SRC_KEY, DST_KEY, TYPE, DISC, EMBEDDING, PROPERTY };
enum { SHOWN = 40 }; /* characters of a cell in a message */

struct store_column {
	enum role role;
	enum haul_property_type type; /* HAUL_NULL: guessed */
	uint32_t index;               /* of an embedding */
	uint32_t name_bytes;
	char name[HAUL_PROPERTY_NAME_MAX + 1];
};

int store_rows_init(struct store_rows *rows, bool edges)
{
	*rows = (struct store_rows){ .edges = edges };
	rows->properties = malloc(HAUL_PROPERTIES_MAX);
	rows->list = calloc(STORE_INPUT_FIELDS_MAX, sizeof *rows->list);
	rows->bytes = malloc(STORE_INPUT_RECORD_MAX);
	rows->vectors =
		calloc((size_t)STORE_ROW_EMBEDDINGS * HAUL_DIMENSIONS_MAX, sizeof *rows->vectors);
	if (rows->properties != NULL && rows->list != NULL && rows->bytes != NULL &&
	    rows->vectors != NULL)
		return 0;
	store_rows_done(rows);
	return -ENOMEM;
}

void store_rows_done(struct store_rows *rows)
{
	free(rows->columns);
	free(rows->properties);
	free(rows->list);
	free(rows->bytes);
	free(rows->vectors);
	json_decref(rows->object);
	*rows = (struct store_rows){ 0 };
}

/* ---- the header ---- */

bool store_row_is_embedding(const char *name, uint32_t *ret_index)
{
	static const char word[] = "embedding";
	const size_t bytes = sizeof word - 1;
	char *end = NULL;
	*ret_index = 0;
	if (strncmp(name, word, bytes) != 0)
		return false;
	if (name[bytes] == '\0')
		return true;
	if (name[bytes] != '.' || name[bytes + 1] < '0' || name[bytes + 1] > '9')
		return false;
	const unsigned long index = strtoul(name + bytes + 1, &end, 10);
	*ret_index = (uint32_t)index;
	return *end == '\0' && index < HAUL_EMBEDDING_INDEXES;
}

static int property_column(struct store_column *column, const char *name, struct haul_err *err)
{
	static const struct {
		const char *suffix;
		enum haul_property_type type;
	} types[] = { { ":int", HAUL_INTEGER },
		      { ":float", HAUL_FLOAT },
		      { ":text", HAUL_TEXT },
		      { ":bytes", HAUL_BYTES } };
	const char *colon = strrchr(name, ':');
	size_t bytes = colon != NULL ? (size_t)(colon - name) : strlen(name);
	column->role = PROPERTY;
	column->type = HAUL_NULL;
	for (uint32_t i = 0; colon != NULL && i < sizeof types / sizeof *types; i++)
		if (strcmp(colon, types[i].suffix) == 0)
			column->type = types[i].type;
	if (colon != NULL && column->type == HAUL_NULL)
		return haul_err_set(err, -EINVAL,
				    "column '%.*s': behind the ':' stands int, float, text or "
				    "bytes",
				    SHOWN, name);
	if (bytes == 0 || bytes > HAUL_PROPERTY_NAME_MAX)
		return haul_err_set(err, -EINVAL,
				    "column '%.*s': a property's name has 1 to %d bytes", SHOWN,
				    name, HAUL_PROPERTY_NAME_MAX);
	memcpy(column->name, name, bytes);
	column->name[bytes] = '\0';
	column->name_bytes = (uint32_t)bytes;
	return 0;
}

static int column_of(const struct store_rows *rows, const struct store_csv_field *field,
		     struct store_column *column, struct haul_err *err)
{
	static const struct {
		const char *name;
		enum role role;
		bool edges;
	} known[] = { { "id", ID, false },          { "kind", KIND, false },
		      { "key", KEY, false },        { "src", SRC, true },
		      { "dst", DST, true },         { "src_key", SRC_KEY, true },
		      { "dst_key", DST_KEY, true }, { "type", TYPE, true },
		      { "disc", DISC, true } };
	*column = (struct store_column){ .role = PROPERTY };
	for (uint32_t i = 0; i < sizeof known / sizeof *known; i++) {
		if (known[i].edges != rows->edges || strcmp(field->text, known[i].name) != 0)
			continue;
		column->role = known[i].role;
		return 0;
	}
	if (!rows->edges && store_row_is_embedding(field->text, &column->index)) {
		column->role = EMBEDDING;
		return 0;
	}
	return property_column(column, field->text, err);
}

static bool is_same(const struct store_column *a, const struct store_column *b)
{
	/* src and src_key say the same */
	if ((a->role == SRC && b->role == SRC_KEY) || (a->role == SRC_KEY && b->role == SRC) ||
	    (a->role == DST && b->role == DST_KEY) || (a->role == DST_KEY && b->role == DST))
		return true;
	return a->role == b->role && a->index == b->index && strcmp(a->name, b->name) == 0;
}

static bool has_role(const struct store_rows *rows, enum role a, enum role b)
{
	for (uint32_t i = 0; i < rows->column_count; i++)
		if (rows->columns[i].role == a || rows->columns[i].role == b)
			return true;
	return false;
}

static bool has_field(const struct store_csv *csv, const char *name)
{
	for (uint32_t i = 0; i < csv->field_count; i++)
		if (strcmp(csv->fields[i].text, name) == 0)
			return true;
	return false;
}

static int header_check(const struct store_rows *rows, const struct store_csv *csv,
			struct haul_err *err)
{
	uint32_t embeddings = 0;
	for (uint32_t i = 0; i < rows->column_count; i++)
		embeddings += rows->columns[i].role == EMBEDDING;
	if (embeddings > STORE_ROW_EMBEDDINGS)
		return haul_err_set(err, -EINVAL, "%u columns of embeddings, at most %d",
				    embeddings, STORE_ROW_EMBEDDINGS);
	if (rows->edges && (!has_role(rows, SRC, SRC_KEY) || !has_role(rows, DST, DST_KEY)))
		return haul_err_set(err, -EINVAL,
				    "the header of edges has no columns src and dst: wanted is "
				    "src,dst,type,disc,… with commas");
	if (!rows->edges && has_field(csv, "src") && has_field(csv, "dst"))
		return haul_err_set(err, -EINVAL,
				    "columns src and dst: give a file of edges by --edges");
	if (!rows->edges && !has_role(rows, ID, KEY))
		return haul_err_set(err, -EINVAL,
				    "the header of nodes has no column id or key: wanted is "
				    "id,kind,key,… with commas");
	return 0;
}

int store_rows_header(struct store_rows *rows, const struct store_csv *csv, struct haul_err *err)
{
	free(rows->columns);
	rows->column_count = 0;
	rows->columns = calloc(csv->field_count, sizeof *rows->columns);
	if (rows->columns == NULL)
		return haul_err_set(err, -ENOMEM, "no memory for %u columns", csv->field_count);
	for (uint32_t i = 0; i < csv->field_count; i++) {
		struct store_column *column = &rows->columns[i];
		int rc = column_of(rows, &csv->fields[i], column, err);
		if (rc < 0)
			return rc;
		for (uint32_t j = 0; j < i; j++)
			if (is_same(column, &rows->columns[j]))
				return haul_err_set(err, -EINVAL,
						    "columns %u and %u, '%.*s', are the same",
						    j + 1, i + 1, SHOWN, csv->fields[i].text);
		rows->column_count = i + 1;
	}
	return header_check(rows, csv, err);
}

/* ---- cells ---- */

static int bad_cell(const char *column, const struct store_csv_field *cell, const char *wanted,
		    struct haul_err *err)
{
	return haul_err_set(err, -EINVAL, "%s '%.*s': wanted is %s", column, SHOWN, cell->text,
			    wanted);
}

static bool number_of(const struct store_csv_field *cell, uint64_t max, uint64_t *ret_number)
{
	uint64_t number = 0;
	for (uint32_t i = 0; i < cell->bytes; i++) {
		const char c = cell->text[i];
		if (c < '0' || c > '9' || __builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(c - '0'), &number))
			return false;
	}
	*ret_number = number;
	return cell->bytes > 0 && number <= max;
}

static int take_u32(const char *column, const struct store_csv_field *cell, uint32_t *ret,
		    struct haul_err *err)
{
	uint64_t number = 0;
	if (cell->bytes > 0 && !number_of(cell, UINT32_MAX, &number))
		return bad_cell(column, cell, "a number from 0 to 4294967295", err);
	*ret = (uint32_t)number;
	return 0;
}

static int take_id(const struct store_csv_field *cell, uint64_t *ret_id, struct haul_err *err)
{
	if (cell->bytes > 0 && (!number_of(cell, UINT64_MAX - 1, ret_id) || *ret_id == 0))
		return bad_cell("id", cell, "a number from 1 to 18446744073709551614", err);
	return 0;
}

static int take_key(const char *column, const struct store_csv_field *cell,
		    struct haul_text *ret_key, struct haul_err *err)
{
	if (cell->bytes > HAUL_KEY_MAX)
		return haul_err_set(err, HAUL_ELIMIT, "%s '%.*s…' has %u bytes, at most %d", column,
				    SHOWN, cell->text, cell->bytes, HAUL_KEY_MAX);
	*ret_key = (struct haul_text){ cell->text, cell->bytes };
	return 0;
}

static int take_end(const char *column, const struct store_csv_field *cell, bool key,
		    struct store_end *ret_end, struct haul_err *err)
{
	uint64_t id = 0;
	if (cell->bytes == 0)
		return haul_err_set(err, -EINVAL, "%s is empty: wanted is the id or key of a node",
				    column);
	if (key || !number_of(cell, UINT64_MAX, &id))
		return take_key(column, cell, &ret_end->key, err);
	if (id == 0 || id == UINT64_MAX)
		return bad_cell(column, cell, "a number from 1 to 18446744073709551614, or a key",
				err);
	ret_end->id = id;
	return 0;
}

static int take_embedding(struct store_rows *rows, const struct store_column *column,
			  const struct store_csv_field *cell, struct store_row *row,
			  struct haul_err *err)
{
	struct haul_embedding *embedding = &row->embeddings[row->embedding_count];
	float *vector = NULL;
	if (cell->bytes == 0)
		return 0;
	float *room = store_row_vector(rows, row);
	HAUL_ASSERT(room != NULL);
	int rc = json_to_vector(cell->text, &vector, &embedding->dimensions, err);
	if (rc < 0)
		return rc;
	bool finite = true;
	for (uint32_t i = 0; i < embedding->dimensions; i++) {
		room[i] = vector[i];
		finite = finite && isfinite(vector[i]);
	}
	free(vector);
	if (!finite)
		return haul_err_set(err, -EINVAL, "embedding: a number that does not fit a float");
	embedding->index = column->index;
	embedding->vector = room;
	row->embedding_count++;
	return 0;
}

/* ---- properties ---- */

static bool integer_of(const struct store_csv_field *cell, int64_t *ret_integer)
{
	char *end = NULL;
	if (cell->bytes == 0 || strchr("-+0123456789", cell->text[0]) == NULL)
		return false;
	errno = 0;
	*ret_integer = strtoll(cell->text, &end, 10);
	return errno == 0 && end == cell->text + cell->bytes;
}

static bool float_of(const struct store_csv_field *cell, double *ret_number)
{
	char *end = NULL;
	if (cell->bytes == 0 || strchr(" \t\n\r\v\f", cell->text[0]) != NULL)
		return false;
	*ret_number = strtod(cell->text, &end);
	return end == cell->text + cell->bytes;
}

/* A cell that is a number to everybody: 007 and +5 are not, nor is nan. */
static bool looks_like_number(const struct store_csv_field *cell)
{
	const char *text = cell->text + (cell->text[0] == '-');
	if (cell->quoted || *text < '0' || *text > '9')
		return false;
	if (text[0] == '0' && text[1] >= '0' && text[1] <= '9')
		return false;
	return strspn(text, "0123456789.eE+-") == strlen(text) && strcmp(cell->text, "-0") != 0;
}

static void guess(const struct store_csv_field *cell, struct haul_property *property)
{
	property->type = HAUL_TEXT;
	if (!looks_like_number(cell))
		return;
	if (integer_of(cell, &property->integer))
		property->type = HAUL_INTEGER;
	else if (float_of(cell, &property->number) && isfinite(property->number))
		property->type = HAUL_FLOAT;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_of(const struct store_csv_field *cell, uint8_t *bytes)
{
	for (uint32_t i = 0; i + 1 < cell->bytes; i += 2) {
		const int high = hex_digit(cell->text[i]), low = hex_digit(cell->text[i + 1]);
		if (high < 0 || low < 0)
			return false;
		bytes[i / 2] = (uint8_t)(high << 4 | low);
	}
	return cell->bytes % 2 == 0;
}

/* *bytes: where decoded ones go. */
static int take_property(const struct store_column *column, const struct store_csv_field *cell,
			 uint8_t **bytes, struct haul_property *property, struct haul_err *err)
{
	*property = (struct haul_property){ .name = column->name,
					    .name_bytes = column->name_bytes,
					    .type = column->type,
					    .data = cell->text,
					    .data_bytes = cell->bytes };
	switch (column->type) {
	case HAUL_INTEGER:
		return integer_of(cell, &property->integer)
			       ? 0
			       : bad_cell(column->name, cell, "an integer of 64 bits", err);
	case HAUL_FLOAT:
		return float_of(cell, &property->number)
			       ? 0
			       : bad_cell(column->name, cell, "a number", err);
	case HAUL_BYTES:
		if (!hex_of(cell, *bytes))
			return bad_cell(column->name, cell, "pairs of hexadecimal digits", err);
		property->data = *bytes;
		property->data_bytes = cell->bytes / 2;
		*bytes += cell->bytes / 2;
		return 0;
	case HAUL_NULL:
		guess(cell, property);
		return 0;
	case HAUL_TEXT:
	case HAUL_PROPERTY_TYPES:
		break;
	}
	return 0;
}

/* An empty cell is no property, unless it is a text in quotes. */
static bool is_absent(const struct store_column *column, const struct store_csv_field *cell)
{
	const bool text = column->type == HAUL_TEXT || column->type == HAUL_NULL ||
			  column->type == HAUL_BYTES;
	return cell->bytes == 0 && !(text && cell->quoted);
}

static int take_cell(struct store_rows *rows, const struct store_column *column,
		     const struct store_csv_field *cell, struct store_row *row,
		     struct haul_err *err)
{
	switch (column->role) {
	case ID:
		return take_id(cell, &row->id, err);
	case KIND:
		return take_u32("kind", cell, &row->kind, err);
	case KEY:
		return take_key("key", cell, &row->key, err);
	case SRC:
	case SRC_KEY:
		return take_end("src", cell, column->role == SRC_KEY, &row->src, err);
	case DST:
	case DST_KEY:
		return take_end("dst", cell, column->role == DST_KEY, &row->dst, err);
	case TYPE:
		return take_u32("type", cell, &row->type, err);
	case DISC:
		return take_u32("disc", cell, &row->disc, err);
	case EMBEDDING:
		return take_embedding(rows, column, cell, row, err);
	case PROPERTY:
		break;
	}
	return 0;
}

static int of_csv(struct store_rows *rows, const struct store_csv *csv, struct store_row *row,
		  struct haul_err *err)
{
	uint8_t *bytes = rows->bytes;
	uint32_t count = 0;
	if (csv->field_count != rows->column_count)
		return haul_err_set(err, -EINVAL, "%u fields, and the header has %u",
				    csv->field_count, rows->column_count);
	for (uint32_t i = 0; i < csv->field_count; i++) {
		const struct store_column *column = &rows->columns[i];
		const struct store_csv_field *cell = &csv->fields[i];
		int rc = 0;
		if (column->role != PROPERTY)
			rc = take_cell(rows, column, cell, row, err);
		else if (!is_absent(column, cell))
			rc = take_property(column, cell, &bytes, &rows->list[count++], err);
		if (rc < 0)
			return rc;
	}
	const int rc = haul_properties_encode(rows->list, count, rows->properties,
					      HAUL_PROPERTIES_MAX, &row->properties);
	if (rc < 0)
		return haul_err_set(err, rc,
				    "properties take more than %d bytes, or are more than %d",
				    HAUL_PROPERTIES_MAX, HAUL_PROPERTY_COUNT_MAX);
	return 0;
}

/* ---- any ---- */

float *store_row_vector(struct store_rows *rows, const struct store_row *row)
{
	if (row->embedding_count == STORE_ROW_EMBEDDINGS)
		return NULL;
	return rows->vectors + (size_t)row->embedding_count * HAUL_DIMENSIONS_MAX;
}

int store_rows_take(struct store_rows *rows, const struct store_input *input, struct store_row *row,
		    struct haul_err *err)
{
	*row = (struct store_row){ 0 };
	int rc = input->format == STORE_CSV ? of_csv(rows, &input->csv, row, err)
					    : store_row_of_json(rows, input, row, err);
	if (rc == 0 && !rows->edges && row->id == 0 && row->key.bytes == 0)
		rc = haul_err_set(err, -EINVAL, "the node has neither an id nor a key");
	return rc;
}
