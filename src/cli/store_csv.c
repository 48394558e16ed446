/* CSV as a machine that is fed bytes.
 *
 * It has six states; what it does depends on the state and one byte, so that it is all the same how
 * a file is cut into pieces. Stretches of ordinary bytes are copied at once. */
#include "cli/store_csv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum state {
	START,  /* of a record */
	FIELD,  /* of a field */
	PLAIN,  /* in a field without quotes */
	QUOTED, /* in quotes */
	CLOSED, /* behind a quote in quotes: the end, or the first of two */
	SKIP,   /* the record is bad: up to the end of the line */
};

static const char mark[] = { '\xef', '\xbb', '\xbf' };

int store_csv_init(struct store_csv *csv, uint32_t bytes_max, uint32_t fields_max)
{
	HAUL_ASSERT(bytes_max > 0 && fields_max > 0);
	*csv = (struct store_csv){
		.bytes_max = bytes_max, .fields_max = fields_max, .line_now = 1, .first = true
	};
	/* a 0 behind each field */
	csv->text = malloc((size_t)bytes_max + fields_max);
	csv->fields = calloc(fields_max, sizeof *csv->fields);
	if (csv->text != NULL && csv->fields != NULL)
		return 0;
	store_csv_done(csv);
	return -ENOMEM;
}

void store_csv_done(struct store_csv *csv)
{
	free(csv->text);
	free(csv->fields);
	csv->text = NULL;
	csv->fields = NULL;
}

static bool is_break(char c)
{
	return c == '\n' || c == '\r';
}

static void record_begin(struct store_csv *csv)
{
	csv->told = false;
	csv->quoted = false;
	csv->used = csv->field_first = csv->field_count = 0;
	csv->state = START;
}

static enum store_csv_event record_bad(struct store_csv *csv, const char *why, uint64_t line)
{
	csv->bad = why;
	csv->line = line;
	csv->state = SKIP;
	return STORE_CSV_MORE;
}

static enum store_csv_event skip_end(struct store_csv *csv)
{
	HAUL_ASSERT(csv->bad != NULL);
	csv->told = true;
	csv->first = false;
	csv->field_count = 0;
	return STORE_CSV_BAD;
}

static void put(struct store_csv *csv, const char *data, size_t bytes)
{
	HAUL_ASSERT(csv->used >= csv->field_count);
	if (bytes > csv->bytes_max - (csv->used - csv->field_count)) {
		if (csv->state == QUOTED)
			(void)record_bad(csv,
					 "the record is too long; is the quote that begins here "
					 "closed?",
					 csv->line_quote);
		else
			(void)record_bad(csv, "the record is too long", csv->line);
		return;
	}
	memcpy(csv->text + csv->used, data, bytes);
	csv->used += (uint32_t)bytes;
}

/* Whether nothing but a byte order mark stands in front. */
static bool is_mark(const struct store_csv *csv)
{
	return csv->first && csv->field_count == 0 && csv->used == sizeof mark &&
	       memcmp(csv->text, mark, sizeof mark) == 0;
}

static enum store_csv_event field_end(struct store_csv *csv)
{
	uint32_t first = csv->field_first;
	if (csv->field_count == csv->fields_max)
		return record_bad(csv, "the record has too many fields", csv->line);
	if (csv->first && csv->field_count == 0 && !csv->quoted && csv->used >= sizeof mark &&
	    memcmp(csv->text, mark, sizeof mark) == 0)
		first += (uint32_t)sizeof mark;
	csv->fields[csv->field_count] = (struct store_csv_field){
		.text = csv->text + first,
		.bytes = csv->used - first,
		.quoted = csv->quoted,
	};
	csv->field_count++;
	csv->text[csv->used++] = '\0';
	csv->field_first = csv->used;
	csv->quoted = false;
	csv->state = FIELD;
	return STORE_CSV_MORE;
}

static enum store_csv_event record_end(struct store_csv *csv)
{
	(void)field_end(csv);
	if (csv->state == SKIP)
		return skip_end(csv);
	const struct store_csv_field *only = &csv->fields[0];
	csv->first = false;
	if (csv->field_count == 1 && only->bytes == 0 && !only->quoted) {
		record_begin(csv);
		return STORE_CSV_MORE;
	}
	csv->told = true;
	return STORE_CSV_RECORD;
}

static enum store_csv_event quote_begin(struct store_csv *csv)
{
	csv->used = csv->field_first; /* a byte order mark */
	csv->quoted = true;
	csv->line_quote = csv->line_now;
	csv->state = QUOTED;
	return STORE_CSV_MORE;
}

static enum store_csv_event step_unquoted(struct store_csv *csv, char c)
{
	if (c == ',')
		return field_end(csv);
	if (is_break(c))
		return record_end(csv);
	if (c == '"' && (csv->state == FIELD || (csv->state == PLAIN && is_mark(csv))))
		return quote_begin(csv);
	if (c == '"')
		return record_bad(csv,
				  "a quote within a field: put the field in quotes and double it",
				  csv->line_now);
	csv->state = PLAIN;
	put(csv, &c, 1);
	return STORE_CSV_MORE;
}

static enum store_csv_event step_closed(struct store_csv *csv, char c)
{
	if (c == ',')
		return field_end(csv);
	if (is_break(c))
		return record_end(csv);
	if (c != '"')
		return record_bad(csv, "something behind a closing quote: a comma is missing",
				  csv->line_now);
	csv->state = QUOTED;
	put(csv, &c, 1);
	return STORE_CSV_MORE;
}

static enum store_csv_event step(struct store_csv *csv, char c)
{
	switch ((enum state)csv->state) {
	case START:
		if (is_break(c))
			return STORE_CSV_MORE;
		csv->line = csv->line_now;
		csv->state = FIELD;
		return step_unquoted(csv, c);
	case FIELD:
	case PLAIN:
		return step_unquoted(csv, c);
	case QUOTED:
		if (c == '"')
			csv->state = CLOSED;
		else
			put(csv, &c, 1);
		return STORE_CSV_MORE;
	case CLOSED:
		return step_closed(csv, c);
	case SKIP:
		return is_break(c) ? skip_end(csv) : STORE_CSV_MORE;
	}
	return STORE_CSV_MORE;
}

/* Takes what is ordinary in this state. */
static size_t stretch(struct store_csv *csv, const char *data, size_t bytes)
{
	size_t n = 0;
	if (csv->state == PLAIN)
		while (n < bytes && data[n] != ',' && data[n] != '"' && !is_break(data[n]))
			n++;
	else if (csv->state == QUOTED)
		while (n < bytes && data[n] != '"' && !is_break(data[n]))
			n++;
	else if (csv->state == SKIP)
		while (n < bytes && !is_break(data[n]))
			n++;
	if (n > 0)
		csv->cr = false;
	if (n > 0 && csv->state != SKIP)
		put(csv, data, n);
	return n;
}

enum store_csv_event store_csv_feed(struct store_csv *csv, const char *data, size_t bytes,
				    size_t *ret_used)
{
	enum store_csv_event event = STORE_CSV_MORE;
	size_t used = 0;

	if (csv->told)
		record_begin(csv);
	while (used < bytes && event == STORE_CSV_MORE) {
		used += stretch(csv, data + used, bytes - used);
		if (used == bytes)
			break;
		const char c = data[used++];
		const bool pair = c == '\n' && csv->cr; /* second half of a line's end */
		csv->cr = c == '\r';
		event = step(csv, c);
		csv->line_now += is_break(c) && !pair;
	}
	*ret_used = used;
	return event;
}

enum store_csv_event store_csv_end(struct store_csv *csv)
{
	if (csv->told)
		record_begin(csv);
	if (csv->state == START)
		return STORE_CSV_MORE;
	if (csv->state == QUOTED)
		(void)record_bad(csv, "the quote that begins here is not closed", csv->line_quote);
	return csv->state == SKIP ? skip_end(csv) : record_end(csv);
}
