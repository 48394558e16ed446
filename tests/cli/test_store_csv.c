/* cli/test_store_csv.c — CSV as its bytes come in. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/store_csv.h"
#include "lib/testlib.h"

enum { SHOWN = 4096 };

struct shown {
	char text[SHOWN];
	size_t used;
};

static void show(struct shown *shown, const char *text, size_t bytes)
{
	assert_true(shown->used + bytes < SHOWN);
	memcpy(shown->text + shown->used, text, bytes);
	shown->used += bytes;
	shown->text[shown->used] = '\0';
}

/* A record as "2[a][b]", quoted fields as ["a"]; what is bad as "3!". */
static void show_event(struct shown *shown, const struct store_csv *csv, enum store_csv_event event)
{
	char line[24];
	if (event == STORE_CSV_MORE)
		return;
	int bytes = snprintf(line, sizeof line, "%s%u", shown->used > 0 ? " " : "",
			     (unsigned)csv->line);
	show(shown, line, (size_t)bytes);
	if (event == STORE_CSV_BAD) {
		assert_non_null(csv->bad);
		show(shown, "!", 1);
		return;
	}
	for (uint32_t i = 0; i < csv->field_count; i++) {
		const struct store_csv_field *field = &csv->fields[i];
		assert_int_equal(field->text[field->bytes], '\0');
		show(shown, field->quoted ? "[\"" : "[", field->quoted ? 2 : 1);
		show(shown, field->text, field->bytes);
		show(shown, field->quoted ? "\"]" : "]", field->quoted ? 2 : 1);
	}
}

/* Fed in pieces of so many bytes. */
static void parse(const char *text, size_t bytes, size_t piece, struct shown *shown)
{
	struct store_csv csv;
	*shown = (struct shown){ 0 };
	assert_int_equal(store_csv_init(&csv, 40, 5), 0);
	for (size_t at = 0; at < bytes;) {
		const size_t left = bytes - at;
		size_t used = 0;
		enum store_csv_event event =
			store_csv_feed(&csv, text + at, left < piece ? left : piece, &used);
		at += used;
		show_event(shown, &csv, event);
	}
	show_event(shown, &csv, store_csv_end(&csv));
	assert_int_equal(store_csv_end(&csv), STORE_CSV_MORE);
	store_csv_done(&csv);
}

static void expect(const char *text, const char *wanted)
{
	const size_t bytes = strlen(text);
	for (size_t piece = 1; piece <= bytes + 1; piece++) {
		struct shown shown;
		parse(text, bytes, piece, &shown);
		assert_string_equal(shown.text, wanted);
	}
}

/* Every shape of RFC 4180, however the file is cut into pieces. */
static void test_store_csv__records(void **state)
{
	(void)state;
	expect("", "");
	expect("a", "1[a]");
	expect("a,b\n", "1[a][b]");
	expect("a,b\nc,d", "1[a][b] 2[c][d]");
	expect("a,,b,\n", "1[a][][b][]");
	expect(",\n", "1[][]");
	expect("\"a\",\"b,c\"\n", "1[\"a\"][\"b,c\"]");
	expect("\"say \"\"hi\"\"\",x\n", "1[\"say \"hi\"\"][x]");
	expect("\"\",\"\"\"\"\n", "1[\"\"][\"\"\"]");
	expect(" a , b\n", "1[ a ][ b]");
}

/* LF, CRLF and CR end a line; line breaks in quotes belong to the field and count as lines. */
static void test_store_csv__line_ends(void **state)
{
	(void)state;
	expect("a\r\nb\r\n", "1[a] 2[b]");
	expect("a\rb\r", "1[a] 2[b]");
	expect("a\r\n\r\n\nb", "1[a] 4[b]");
	expect("\"x\ny\",1\nz\n", "1[\"x\ny\"][1] 3[z]");
	expect("\"x\r\ny\",1\r\nz\r\n", "1[\"x\r\ny\"][1] 3[z]");
	expect("\"x\ry\"\rz", "1[\"x\ry\"] 3[z]");
	expect("\"x\r\"\n\ny", "1[\"x\r\"] 4[y]");
	expect("\n\n\n", "");
}

/* An empty cell in quotes is a record of its own, an empty line is none. */
static void test_store_csv__empty_lines(void **state)
{
	(void)state;
	expect("a\n\nb\n\"\"\n\n", "1[a] 3[b] 4[\"\"]");
}

/* What some programs put in front of UTF-8 is no part of the first name, quoted or not. */
static void test_store_csv__byte_order_mark(void **state)
{
	(void)state;
	expect("\xef\xbb\xbfid,b\n1,2\n", "1[id][b] 2[1][2]");
	expect("\xef\xbb\xbf\"id\",b\n", "1[\"id\"][b]");
	expect("\xef\xbb\xbf\nid\n", "2[id]");
	expect("\xef\xbb\xbf", "");
	expect("a\n\xef\xbb\xbfid\n", "1[a] 2[\xef\xbb\xbfid]");
	expect("a,\xef\xbb\xbf\"b\"\n", "1!");
	expect("\xef\xbbid\n", "1[\xef\xbbid]");
}

/* A bad record is told once, with its line, and the next line is read as usual. */
static void test_store_csv__bad_records(void **state)
{
	(void)state;
	expect("a\"b,c\nd\n", "1! 2[d]");
	expect("\"a\"b,c\nd\n", "1! 2[d]");
	expect("\"a\" ,c\r\nd\r\n", "1! 2[d]");
	expect("a\n\"x\ny\"z\"\nb\n", "1[a] 3! 4[b]");
	expect("a\nb\"", "1[a] 2!");
	expect("1,2,3,4,5,6\nb\n", "1! 2[b]");
	expect("1,2,3,4,5,\nb\n", "1! 2[b]");
}

/* The end of the file within quotes names the line where they began. */
static void test_store_csv__open_quote(void **state)
{
	(void)state;
	expect("a\nb,\"c\nd\n", "1[a] 2!");
	expect("a\n\"", "1[a] 2!");
	expect("\"a\"", "1[\"a\"]");
}

/* The largest record fits; one byte more does not, and an open quote costs no more than its line
 * and those up to the limit. */
static void test_store_csv__limits(void **state)
{
	(void)state;
	expect("0123456789012345678901234567890123456789\nb\n",
	       "1[0123456789012345678901234567890123456789] 2[b]");
	expect("01234567890123456789,01234567890123456789\nb\n",
	       "1[01234567890123456789][01234567890123456789] 2[b]");
	expect("01234567890123456789012345678901234567890\nb\n", "1! 2[b]");
	expect("01234567890123456789,012345678901234567890\nb\n", "1! 2[b]");
	expect("a\n\"0123456789\n0123456789\n0123456789\n0123456789\nb\n", "1[a] 2! 6[b]");
	expect("1,2,3,4,5\n", "1[1][2][3][4][5]");
}

/* A 0 byte is a byte. */
static void test_store_csv__zero_bytes(void **state)
{
	static const char text[] = "a\0b,c\n";
	struct store_csv csv;
	size_t used;
	(void)state;
	assert_int_equal(store_csv_init(&csv, 40, 5), 0);
	assert_int_equal(store_csv_feed(&csv, text, sizeof text - 1, &used), STORE_CSV_RECORD);
	assert_int_equal(used, sizeof text - 1);
	assert_int_equal(csv.fields[0].bytes, 3);
	assert_memory_equal(csv.fields[0].text, "a\0b", 3);
	store_csv_done(&csv);
}

/* No memory for a record or for its fields. */
static void test_store_csv__no_memory(void **state)
{
	struct store_csv csv;
	(void)state;
	for (uint32_t i = 0; i < 2; i++) {
		if (!test_malloc_fail(i))
			skip();
		assert_int_equal(store_csv_init(&csv, 40, 5), -ENOMEM);
	}
	assert_int_equal(store_csv_init(&csv, 40, 5), 0);
	store_csv_done(&csv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store_csv__records),
		cmocka_unit_test(test_store_csv__line_ends),
		cmocka_unit_test(test_store_csv__empty_lines),
		cmocka_unit_test(test_store_csv__byte_order_mark),
		cmocka_unit_test(test_store_csv__bad_records),
		cmocka_unit_test(test_store_csv__open_quote),
		cmocka_unit_test(test_store_csv__limits),
		cmocka_unit_test(test_store_csv__zero_bytes),
		cmocka_unit_test(test_store_csv__no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
