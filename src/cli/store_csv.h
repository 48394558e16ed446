/* cli/store_csv.h — records of a CSV file, as its bytes come in.
 *
 * Model      RFC 4180: fields apart by commas, in quotes where they hold a comma, a quote (doubled)
 *            or a line break. Lines end by LF, CRLF or CR; the last needs no end. A byte order mark
 *            in front and empty lines are passed over. A record that is not right is told once, and
 *            reading goes on behind its line; one that never ends its quotes goes on, too, behind
 *            the line in which it grew over the limit.
 * Units      lines count from 1, those inside of quotes among them.
 * Ownership  fields belong to the parser, until the next call.
 * Memory     at init.
 * Threads    one.
 * Limits     bytes_max of a record, fields_max fields.
 * Source     RFC 4180. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum store_csv_event { STORE_CSV_MORE, STORE_CSV_RECORD, STORE_CSV_BAD };

struct store_csv_field {
	const char *text; /* a 0 stands behind its end */
	uint32_t bytes;
	bool quoted;
};

struct store_csv {
	struct store_csv_field *fields;
	uint32_t field_count;
	uint64_t line;   /* STORE_CSV_RECORD: where it begins; STORE_CSV_BAD: where it is wrong */
	const char *bad; /* STORE_CSV_BAD: what is wrong */
	/* within */
	char *text;
	uint32_t used, field_first, bytes_max, fields_max;
	uint64_t line_now, line_quote;
	uint8_t state;
	bool quoted, told, first, cr;
};

/* -ENOMEM. */
int store_csv_init(struct store_csv *csv, uint32_t bytes_max, uint32_t fields_max);
void store_csv_done(struct store_csv *csv);
/* Takes bytes up to the end of one record; *ret_used of them. STORE_CSV_MORE: all were taken. */
enum store_csv_event store_csv_feed(struct store_csv *csv, const char *data, size_t bytes,
				    size_t *ret_used);
/* There are no more bytes. STORE_CSV_MORE: nor is there a record. */
enum store_csv_event store_csv_end(struct store_csv *csv);
