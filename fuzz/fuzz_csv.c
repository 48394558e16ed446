/* fuzz/fuzz_csv.c — any bytes as a CSV file.
 *
 * Promise: nothing outside of the input is read (each piece lies in memory of exactly its size);
 * records are the same however the file is cut into pieces; limits are kept; every byte is taken;
 * lines only grow; and a record that is written again, all in quotes, is read as what it was.
 * The first two bytes choose the limits and the pieces. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "cli/store_csv.h"

enum { INPUT_BYTES_MAX = 4096, FIELDS_MAX = 8, EVENTS_MAX = INPUT_BYTES_MAX + 1 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What became of a file: a sum over all that was told. */
struct told {
	uint64_t events, sum, line;
};

static void add(struct told *told, uint64_t value)
{
	told->sum = (told->sum ^ value) * UINT64_C(0x100000001b3);
}

/* In quotes, with quotes doubled. */
static size_t write_again(const struct store_csv *csv, char *out)
{
	size_t used = 0;
	for (uint32_t i = 0; i < csv->field_count; i++) {
		if (i > 0)
			out[used++] = ',';
		out[used++] = '"';
		for (uint32_t n = 0; n < csv->fields[i].bytes; n++) {
			if (csv->fields[i].text[n] == '"')
				out[used++] = '"';
			out[used++] = csv->fields[i].text[n];
		}
		out[used++] = '"';
	}
	out[used++] = '\n';
	return used;
}

static void expect_same(const struct store_csv *a)
{
	static char text[2 * INPUT_BYTES_MAX + 4 * FIELDS_MAX];
	struct store_csv b;
	size_t used;
	const size_t bytes = write_again(a, text);
	HAUL_ASSERT(store_csv_init(&b, a->bytes_max, a->fields_max) == 0);
	HAUL_ASSERT(store_csv_feed(&b, text, bytes, &used) == STORE_CSV_RECORD && used == bytes);
	HAUL_ASSERT(a->field_count == b.field_count);
	for (uint32_t i = 0; i < b.field_count; i++)
		HAUL_ASSERT(a->fields[i].bytes == b.fields[i].bytes &&
			    memcmp(a->fields[i].text, b.fields[i].text, b.fields[i].bytes) == 0);
	store_csv_done(&b);
}

static void take(struct told *told, const struct store_csv *csv, enum store_csv_event event)
{
	uint64_t bytes = 0;
	if (event == STORE_CSV_MORE)
		return;
	HAUL_ASSERT(++told->events <= EVENTS_MAX && csv->line >= told->line);
	told->line = csv->line;
	add(told, (uint64_t)event);
	add(told, csv->line);
	if (event == STORE_CSV_BAD) {
		HAUL_ASSERT(csv->bad != NULL);
		return;
	}
	HAUL_ASSERT(csv->field_count >= 1 && csv->field_count <= csv->fields_max);
	for (uint32_t i = 0; i < csv->field_count; i++) {
		const struct store_csv_field *field = &csv->fields[i];
		HAUL_ASSERT(field->text[field->bytes] == '\0');
		bytes += field->bytes;
		add(told, field->bytes + (field->quoted ? 1u << 31 : 0u));
		for (uint32_t n = 0; n < field->bytes; n++)
			add(told, (uint8_t)field->text[n]);
	}
	HAUL_ASSERT(bytes <= csv->bytes_max);
	expect_same(csv);
}

static struct told parse(const uint8_t *data, size_t size, size_t piece, uint32_t bytes_max)
{
	struct told told = { 0 };
	struct store_csv csv;
	HAUL_ASSERT(store_csv_init(&csv, bytes_max, FIELDS_MAX) == 0);
	for (size_t at = 0; at < size;) {
		const size_t bytes = size - at < piece ? size - at : piece;
		size_t used = 0;
		char *exact = malloc(bytes);
		HAUL_ASSERT(exact != NULL);
		memcpy(exact, data + at, bytes);
		const enum store_csv_event event = store_csv_feed(&csv, exact, bytes, &used);
		free(exact);
		HAUL_ASSERT(used > 0 && used <= bytes);
		HAUL_ASSERT(event != STORE_CSV_MORE || used == bytes);
		at += used;
		take(&told, &csv, event);
	}
	take(&told, &csv, store_csv_end(&csv));
	HAUL_ASSERT(store_csv_end(&csv) == STORE_CSV_MORE);
	store_csv_done(&csv);
	return told;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2 || size > INPUT_BYTES_MAX)
		return 0;
	const uint32_t bytes_max = data[0] < 128 ? data[0] + 1u : INPUT_BYTES_MAX;
	const struct told whole = parse(data + 2, size - 2, size, bytes_max);
	const struct told pieces = parse(data + 2, size - 2, data[1] + 1u, bytes_max);
	const struct told bytes = parse(data + 2, size - 2, 1, bytes_max);
	HAUL_ASSERT(whole.events == bytes.events && whole.sum == bytes.sum);
	HAUL_ASSERT(pieces.events == bytes.events && pieces.sum == bytes.sum);
	return 0;
}
