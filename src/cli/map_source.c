#include "cli/map_source.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/map_in.h"
#include "cli/stop.h"

enum { OBJECT_MAX = 64 << 20, OBJECT_START = 4096, COLUMNS_MAX = TYPED_LEAVES_MAX + 1 };

/* ---- lines and objects ---- */

/* The next line that is not empty, without its end. 1, 0 at the end, -EIO. */
static int read_line(struct map_source *source)
{
	for (;;) {
		ssize_t bytes = getline(&source->text, &source->room, source->file);
		if (bytes < 0)
			return ferror(source->file) && !stop_asked() ? -EIO : 0;
		source->position++;
		while (bytes > 0 && isspace((unsigned char)source->text[bytes - 1]))
			source->text[--bytes] = '\0';
		if (bytes > 0) {
			source->line = source->position;
			return 1;
		}
	}
}

static bool grow(struct map_source *source, size_t bytes)
{
	if (bytes < source->room)
		return true;
	size_t room = source->room > 0 ? source->room * 2 : OBJECT_START;
	char *grown = room <= OBJECT_MAX ? realloc(source->text, room) : NULL;
	if (grown == NULL)
		return false;
	source->text = grown;
	source->room = room;
	return true;
}

/* Up to the bracket that closes the first one, which has been read. */
static int read_nested(struct map_source *source, struct haul_err *err)
{
	size_t used = 1;
	uint32_t depth = 1;
	bool quoted = false, escaped = false;
	source->text[0] = '{';
	while (depth > 0) {
		int c = getc_unlocked(source->file);
		if (c == EOF)
			return haul_err_set(err, HAUL_ESHORT, "the file ends within an entry");
		if (!grow(source, used + 1))
			return haul_err_set(err, HAUL_ELIMIT, "an entry of over %zu bytes", used);
		source->text[used++] = (char)c;
		source->position += c == '\n';
		if (quoted) {
			quoted = escaped || c != '"';
			escaped = !escaped && c == '\\';
			continue;
		}
		quoted = c == '"';
		depth += (c == '{' || c == '[');
		depth -= (c == '}' || c == ']');
	}
	source->text[used] = '\0';
	return 1;
}

/* The next object of the array. */
static int read_object(struct map_source *source, struct haul_err *err)
{
	int c;
	if (!grow(source, 1))
		return haul_err_set(err, -ENOMEM, "out of memory");
	for (;;) {
		c = getc_unlocked(source->file);
		source->position += c == '\n';
		if (c == '{') {
			source->line = source->position + 1;
			return read_nested(source, err);
		}
		if (c == ']')
			return 0;
		if (c == EOF)
			return haul_err_set(err, HAUL_ESHORT, "the file ends without a ]");
		if (c != ',' && !isspace(c))
			return haul_err_set(err, -EINVAL, "'%c' where an entry in { } is wanted",
					    c);
	}
}

/* ---- CSV ---- */

/* Cut the first cell off *text, in place; *text is NULL behind the last. */
static char *next_cell(char **text)
{
	char *cell = *text, *to = cell, *p = cell;
	if (*p != '"') {
		p += strcspn(p, ",");
		*text = *p == ',' ? p + 1 : NULL;
		*p = '\0';
		return cell;
	}
	for (p++; *p != '\0'; p++) {
		if (*p == '"' && p[1] != '"')
			break;
		p += *p == '"';
		*to++ = *p;
	}
	p += *p == '"';
	*text = *p == ',' ? p + 1 : NULL;
	*to = '\0';
	return cell;
}

static int add_column(struct map_source *source, const char *name, struct haul_err *err)
{
	struct map_column *column = &source->columns[source->column_count];
	bool key = !strncmp(name, "key", 3), value = !strncmp(name, "value", 5);
	if (source->column_count == COLUMNS_MAX)
		return haul_err_set(err, HAUL_ELIMIT, "over %d columns", COLUMNS_MAX);
	source->column_count++;
	if (!strcmp(name, "cpu")) {
		column->of = MAP_COLUMN_CPU;
		source->has_cpu = true;
		return 0;
	}
	if (!key && !value)
		return haul_err_set(err, -EINVAL,
				    "column '%s': wanted are key…, value… and cpu, as dump --csv "
				    "writes them",
				    name);
	const char *path = name + (key ? 3 : 5);
	column->of = key ? MAP_COLUMN_KEY : MAP_COLUMN_VALUE;
	column->place = typed_root(key ? source->request->typed.key : source->request->typed.value);
	int rc = typed_find(column->place, path + (*path == '.'), &column->place, err);
	return rc < 0 ? haul_err_wrap(err, rc, "column '%s'", name) : 0;
}

static int open_csv(struct map_source *source, struct haul_err *err)
{
	const struct haul_map_info *info = source->request->info;
	source->columns = calloc(COLUMNS_MAX, sizeof *source->columns);
	source->row.key = calloc(1, info->key_size + 1);
	source->row.value = calloc(1, info->value_size + 1);
	if (source->columns == NULL || source->row.key == NULL || source->row.value == NULL)
		return haul_err_set(err, -ENOMEM, "out of memory");
	int rc = read_line(source);
	char *rest = source->text;
	while (rc >= 0 && rest != NULL)
		rc = add_column(source, next_cell(&rest), err);
	return rc;
}

static int fill_cell(struct map_source *source, const struct map_column *column, const char *cell)
{
	struct map_row *row = &source->row;
	const struct haul_map_info *info = source->request->info;
	char *end;
	if (column->of == MAP_COLUMN_CPU) {
		row->cpu = strtoull(cell, &end, 10);
		if (end == cell || *end != '\0' || row->cpu >= info->cpus)
			return haul_err_set(&row->err, -ERANGE, "cpu '%s': there are %u", cell,
					    info->cpus);
		return 0;
	}
	if (cell[0] == '\0' && typed_node(column->place)->kind != TYPED_TEXT)
		return haul_err_set(&row->err, -EINVAL, "an empty cell");
	return typed_set_text(column->place, column->of == MAP_COLUMN_KEY ? row->key : row->value,
			      cell, &row->err);
}

static void read_row(struct map_source *source)
{
	struct map_row *row = &source->row;
	uint32_t i = 0;
	row->rc = read_line(source);
	row->line = source->position;
	if (row->rc <= 0)
		return;
	char *rest = source->text;
	memset(row->key, 0, source->request->info->key_size);
	memset(row->value, 0, source->request->info->value_size);
	for (; rest != NULL && i < source->column_count && row->rc > 0; i++) {
		int rc = fill_cell(source, &source->columns[i], next_cell(&rest));
		row->rc = rc < 0 ? rc : 1;
	}
	if (row->rc > 0 && (rest != NULL || i < source->column_count))
		row->rc = haul_err_set(&row->err, -EINVAL, "%s than the %u columns of the head",
				       rest != NULL ? "more cells" : "fewer cells",
				       source->column_count);
}

static void put_row(const struct map_source *source, uint8_t *value)
{
	const struct haul_map_info *info = source->request->info;
	uint32_t stride = info->slot_bytes / info->cpus;
	const struct map_row *row = &source->row;
	memcpy(value + (source->has_cpu ? row->cpu * stride : 0), row->value, info->value_size);
	if (!source->has_cpu)
		map_in_spread(info, value);
}

static int next_csv(struct map_source *source, uint8_t *ret_key, uint8_t *ret_value,
		    struct haul_err *err)
{
	const struct haul_map_info *info = source->request->info;
	struct map_row *row = &source->row;
	if (!source->held)
		read_row(source);
	source->held = false;
	source->line = row->line;
	if (row->rc <= 0) {
		if (row->rc < 0 && err != NULL)
			*err = row->err;
		return row->rc;
	}
	memcpy(ret_key, row->key, info->key_size);
	memset(ret_value, 0, info->slot_bytes);
	put_row(source, ret_value);
	while (source->has_cpu && !source->held) {
		uint64_t line = source->line;
		read_row(source);
		source->line = line;
		source->held = row->rc <= 0 || memcmp(row->key, ret_key, info->key_size) != 0;
		if (!source->held)
			put_row(source, ret_value);
	}
	return 1;
}

/* ---- all ---- */

int map_source_next(struct map_source *source, uint8_t *ret_key, uint8_t *ret_value,
		    struct haul_err *err)
{
	int rc;
	if (source->kind == MAP_SOURCE_CSV)
		return next_csv(source, ret_key, ret_value, err);
	rc = source->kind == MAP_SOURCE_LINES ? read_line(source) : read_object(source, err);
	if (rc <= 0)
		return rc;
	rc = map_in_entry(source->request, source->text, ret_key, ret_value, err);
	return rc < 0 ? rc : 1;
}

/* The first character that is no space; it stays. */
static int peek(FILE *file, uint64_t *lines)
{
	int c = getc(file);
	for (; c != EOF && isspace(c); c = getc(file))
		*lines += c == '\n';
	if (c != EOF)
		(void)ungetc(c, file);
	return c;
}

int map_source_open(struct map_source *source, const struct map_request *request, const char *path,
		    struct haul_err *err)
{
	bool standard = !strcmp(path, "-");
	*source = (struct map_source){ .request = request,
				       .file = standard ? stdin : fopen(path, "re") };
	if (source->file == NULL)
		return haul_err_set(err, -errno, "%s: %s", path, haul_strerror(-errno));
	int c = peek(source->file, &source->position);
	int rc = 0;
	if (c == EOF && ferror(source->file)) {
		rc = haul_err_set(err, -EIO, "%s cannot be read", path);
	} else if (c == '[') {
		source->kind = MAP_SOURCE_ARRAY;
		(void)getc(source->file);
	} else if (c != '{' && c != EOF) {
		source->kind = MAP_SOURCE_CSV;
		rc = open_csv(source, err);
		if (rc < 0)
			(void)haul_err_wrap(err, rc, "%s:%llu", path,
					    (unsigned long long)source->position);
	}
	if (rc < 0)
		map_source_close(source);
	return rc < 0 ? rc : 0;
}

void map_source_close(struct map_source *source)
{
	if (source->file != NULL && source->file != stdin)
		(void)fclose(source->file);
	free(source->text);
	free(source->columns);
	free(source->row.key);
	free(source->row.value);
	*source = (struct map_source){ 0 };
}
