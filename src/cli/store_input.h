/* cli/store_input.h — a CSV or NDJSON file, record by record.
 *
 * Model      The format is that asked for, or told by the end of the name (.csv, .ndjson, .jsonl,
 *            .json), or by the first byte that is no blank: '{' is NDJSON. "-" is standard input.
 *            Empty lines and a byte order mark in front are passed over.
 * Ownership  a record belongs to the input, until the next call.
 * Memory     2 MiB at open, whatever the size of the file.
 * Threads    one.
 * Errors     with text; a bad record is no error of the input.
 * Blocking   reads; a signal ends a wait, see store_cmd_stopped.
 * Limits     STORE_INPUT_RECORD_MAX bytes a record. */
#pragma once

#include <haul/err.h>
#include "cli/store_csv.h"

enum { STORE_INPUT_RECORD_MAX = 1 << 20, STORE_INPUT_FIELDS_MAX = 1100 };

enum store_format { STORE_AUTO, STORE_CSV, STORE_NDJSON };

enum store_input_event {
	STORE_INPUT_END,
	STORE_INPUT_RECORD, /* csv.fields, or text and text_bytes; line */
	STORE_INPUT_BAD,    /* line and bad */
	STORE_INPUT_STOPPED /* by a signal */
};

struct store_input {
	const char *path; /* "stdin" for "-" */
	enum store_format format;
	uint64_t line;
	const char *bad;
	struct store_csv csv;
	char *text; /* NDJSON: one line, a 0 behind it */
	size_t text_bytes;
	uint64_t bytes_taken, bytes_total; /* total 0: unknown */
	/* within */
	int fd;
	char *data;
	size_t first, filled;
	uint64_t line_next;
	bool end, skipping;
};

int store_input_open(struct store_input *input, const char *path, enum store_format format,
		     struct haul_err *err);
/* Takes what was never opened. */
void store_input_close(struct store_input *input);
/* An event, or a negative code. */
int store_input_next(struct store_input *input, struct haul_err *err);
