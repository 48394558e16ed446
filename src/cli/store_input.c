#include "cli/store_input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "cli/stop.h"
#include "cli/store.h"

static const char mark[] = { '\xef', '\xbb', '\xbf' };

/* ---- bytes ---- */

/* More behind those that are there: moves them to the front. 1, 0 at the end or when there is no
 * room, -EINTR when stopped. */
static int fill(struct store_input *input)
{
	if (input->first > 0) {
		memmove(input->data, input->data + input->first, input->filled - input->first);
		input->filled -= input->first;
		input->first = 0;
	}
	const size_t room = STORE_INPUT_RECORD_MAX - input->filled;
	while (!input->end && room > 0) {
		const ssize_t n = read(input->fd, input->data + input->filled, room);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (stop_asked())
			return -EINTR;
		if (n < 0)
			continue;
		input->end = n == 0;
		input->filled += (size_t)n;
		return n > 0;
	}
	return 0;
}

static void take(struct store_input *input, size_t bytes)
{
	HAUL_ASSERT(bytes <= input->filled - input->first);
	input->first += bytes;
	input->bytes_taken += bytes;
}

/* ---- which format ---- */

static bool ends_with(const char *path, const char *end)
{
	const size_t bytes = strlen(path), end_bytes = strlen(end);
	return bytes >= end_bytes && strcmp(path + bytes - end_bytes, end) == 0;
}

static enum store_format format_by_name(const char *path)
{
	if (ends_with(path, ".csv"))
		return STORE_CSV;
	if (ends_with(path, ".ndjson") || ends_with(path, ".jsonl") || ends_with(path, ".json"))
		return STORE_NDJSON;
	return STORE_AUTO;
}

/* By what is in it. */
static int format_by_look(struct store_input *input)
{
	int rc = 1;
	while (rc > 0) {
		const char *data = input->data;
		size_t at = input->filled >= sizeof mark && memcmp(data, mark, sizeof mark) == 0
				    ? sizeof mark
				    : 0;
		while (at < input->filled && strchr(" \t\r\n", data[at]) != NULL)
			at++;
		input->format = at < input->filled && data[at] == '{' ? STORE_NDJSON : STORE_CSV;
		if (at < input->filled && input->filled >= sizeof mark)
			return 0;
		rc = fill(input);
	}
	return rc;
}

/* ---- opening ---- */

static int input_fd(struct store_input *input, const char *path, struct haul_err *err)
{
	struct stat st;
	input->path = path;
	if (strcmp(path, "-") == 0) {
		input->path = "stdin";
		input->fd = STDIN_FILENO;
		return 0;
	}
	input->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (input->fd < 0)
		return haul_err_set(err, -errno, "%s: %s", path, haul_strerror(-errno));
	if (fstat(input->fd, &st) == 0 && S_ISREG(st.st_mode))
		input->bytes_total = (uint64_t)st.st_size;
	return 0;
}

int store_input_open(struct store_input *input, const char *path, enum store_format format,
		     struct haul_err *err)
{
	*input = (struct store_input){ .fd = -1, .line_next = 1, .format = format };
	int rc = input_fd(input, path, err);
	if (rc < 0)
		return rc;
	/* one byte for the 0 behind a line */
	input->data = malloc(STORE_INPUT_RECORD_MAX + 1);
	rc = input->data != NULL
		     ? store_csv_init(&input->csv, STORE_INPUT_RECORD_MAX, STORE_INPUT_FIELDS_MAX)
		     : -ENOMEM;
	if (rc == 0 && input->format == STORE_AUTO)
		input->format = format_by_name(path);
	if (rc == 0 && input->format == STORE_AUTO)
		rc = format_by_look(input);
	if (rc == 0)
		return 0;
	haul_err_set(err, rc, "%s: %s", input->path, rc == -EINTR ? "stopped" : haul_strerror(rc));
	store_input_close(input);
	return rc;
}

void store_input_close(struct store_input *input)
{
	if (input->data == NULL && input->fd <= 0)
		return;
	if (input->fd > STDIN_FILENO)
		(void)close(input->fd);
	store_csv_done(&input->csv);
	free(input->data);
	input->data = NULL;
	input->fd = -1;
}

/* ---- records ---- */

static int of_csv(struct store_input *input)
{
	enum store_csv_event event = STORE_CSV_MORE;
	int rc = 1;
	while (event == STORE_CSV_MORE && rc > 0) {
		size_t used = 0;
		event = store_csv_feed(&input->csv, input->data + input->first,
				       input->filled - input->first, &used);
		take(input, used);
		if (event == STORE_CSV_MORE)
			rc = fill(input);
	}
	if (rc < 0)
		return rc;
	if (event == STORE_CSV_MORE)
		event = store_csv_end(&input->csv);
	input->line = input->csv.line;
	input->bad = input->csv.bad;
	return event == STORE_CSV_RECORD ? STORE_INPUT_RECORD
	       : event == STORE_CSV_BAD  ? STORE_INPUT_BAD
					 : STORE_INPUT_END;
}

static bool is_blank(const char *text, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r')
			return false;
	return true;
}

/* One line, without its end. 0: there is none. */
static int next_line(struct store_input *input)
{
	size_t looked = 0;
	for (;;) {
		char *data = input->data + input->first;
		const size_t bytes = input->filled - input->first;
		char *end = memchr(data + looked, '\n', bytes - looked);
		if (end != NULL || bytes == STORE_INPUT_RECORD_MAX || (bytes > 0 && input->end)) {
			input->text = data;
			input->text_bytes = end != NULL ? (size_t)(end - data) : bytes;
			take(input, input->text_bytes + (end != NULL));
			return end != NULL || input->end ? 1 : 2;
		}
		looked = bytes;
		int rc = fill(input);
		if (rc < 0 || (rc == 0 && input->end && input->filled == 0))
			return rc;
	}
}

static int of_ndjson(struct store_input *input)
{
	int rc;
	while ((rc = next_line(input)) > 0) {
		const bool skipped = input->skipping;
		input->skipping = rc == 2; /* only a piece of the line */
		if (skipped && !input->skipping)
			input->line_next++;
		if (skipped)
			continue;
		input->line = input->line_next;
		input->bad = "the line is too long";
		if (input->skipping)
			return STORE_INPUT_BAD;
		input->line_next++;
		if (input->line == 1 && input->text_bytes >= sizeof mark &&
		    memcmp(input->text, mark, sizeof mark) == 0) {
			input->text += sizeof mark;
			input->text_bytes -= sizeof mark;
		}
		input->text[input->text_bytes] = '\0';
		if (!is_blank(input->text, input->text_bytes))
			return STORE_INPUT_RECORD;
	}
	return rc < 0 ? rc : STORE_INPUT_END;
}

int store_input_next(struct store_input *input, struct haul_err *err)
{
	HAUL_ASSERT(input->data != NULL && input->format != STORE_AUTO);
	int rc = input->format == STORE_CSV ? of_csv(input) : of_ndjson(input);
	if (rc == -EINTR)
		return STORE_INPUT_STOPPED;
	return rc < 0 ? haul_err_set(err, rc, "%s: %s", input->path, haul_strerror(rc)) : rc;
}
