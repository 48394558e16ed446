#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <haul/err.h>
#include "lib/testlib.h"

/* Every code of ours has its own text. */
static void test_strerror__knows_each_code(void **state)
{
	(void)state;
#define X(name, offset, text) assert_string_equal(haul_strerror(name), text);
	HAUL_ERR_LIST(X)
#undef X
	assert_int_equal(HAUL_EFULL, HAUL_EBASE);
}

/* errno codes keep the C library's text; anything else still has one. */
static void test_strerror__is_never_null(void **state)
{
	(void)state;
	assert_string_equal(haul_strerror(-ENOENT), "No such file or directory");
	assert_string_equal(haul_strerror(0), "success");
	assert_string_equal(haul_strerror(7), "success");
	assert_string_equal(haul_strerror(-4000), "unknown error");
	assert_string_equal(haul_strerror(-4999), "unknown error");
	assert_string_equal(haul_strerror(INT32_MIN), "unknown error");
}

/* One line sets the error and returns it, also when nobody wants the text. */
static void test_err_set__formats_and_returns_the_code(void **state)
{
	(void)state;
	struct haul_err err = { 0 };
	assert_int_equal(haul_err_set(&err, -EINVAL, "mtu %d: at most %d", 70000, 65535), -EINVAL);
	assert_int_equal(err.code, -EINVAL);
	assert_string_equal(err.text, "mtu 70000: at most 65535");
	assert_int_equal(haul_err_set(NULL, HAUL_EFULL, "nobody listens"), HAUL_EFULL);
}

/* A text is one line whatever was put in. */
static void test_err_set__keeps_one_line(void **state)
{
	(void)state;
	struct haul_err err = { 0 };
	haul_err_set(&err, -EIO, "first\nsecond\r\n");
	assert_string_equal(err.text, "first second  ");
}

/* 255 bytes fit; one more is cut, and the cut shows. */
static void test_err_set__cuts_long_text_visibly(void **state)
{
	(void)state;
	char longest[HAUL_ERR_TEXT + 1];
	memset(longest, 'x', sizeof longest);
	longest[HAUL_ERR_TEXT - 1] = '\0';
	struct haul_err err = { 0 };
	haul_err_set(&err, -EIO, "%s", longest);
	assert_string_equal(err.text, longest);

	longest[HAUL_ERR_TEXT - 1] = 'x';
	longest[HAUL_ERR_TEXT] = '\0';
	haul_err_set(&err, -EIO, "%s", longest);
	assert_int_equal(strlen(err.text), HAUL_ERR_TEXT - 1);
	assert_string_equal(err.text + HAUL_ERR_TEXT - 4, "...");
	assert_int_equal(err.text[HAUL_ERR_TEXT - 5], 'x');
}

/* The cut never leaves half a character: the text may go into JSON. */
static void test_err_set__cuts_between_characters(void **state)
{
	(void)state;
	for (int lead = 0; lead < 3; lead++) {
		char text[HAUL_ERR_TEXT * 2];
		size_t at = (size_t)lead;
		memset(text, 'x', at);
		for (; at + 3 < sizeof text; at += 3)
			memcpy(text + at, "€", 3);
		text[at] = '\0';
		struct haul_err err = { 0 };
		haul_err_set(&err, -EIO, "%s", text);
		size_t kept = strlen(err.text) - 3;
		assert_string_equal(err.text + kept, "...");
		assert_int_equal((kept - (size_t)lead) % 3, 0);
	}
}

/* The innermost code stays, the outer place stands before the text. */
static void test_err_wrap__puts_the_place_first(void **state)
{
	(void)state;
	struct haul_err err = { 0 };
	haul_err_set(&err, -ENOENT, "no interface wlan0");
	assert_int_equal(haul_err_wrap(&err, -EINVAL, "node %s", "obu1"), -ENOENT);
	assert_string_equal(err.text, "node obu1: no interface wlan0");
	assert_int_equal(err.code, -ENOENT);
}

/* Nobody below said anything: the code's own text stands in. */
static void test_err_wrap__falls_back_to_the_codes_text(void **state)
{
	(void)state;
	struct haul_err err = { 0 };
	assert_int_equal(haul_err_wrap(&err, HAUL_ECORRUPT, "segment %d", 17), HAUL_ECORRUPT);
	assert_string_equal(err.text, "segment 17: contents contradict themselves");
	assert_int_equal(haul_err_wrap(NULL, -EIO, "x"), -EIO);
}

/* A hundred levels do not fit: what is nearest to the caller stays. */
static void test_err_wrap__cuts_long_text_visibly(void **state)
{
	(void)state;
	struct haul_err err = { 0 };
	haul_err_set(&err, -EIO, "the cause");
	for (int i = 0; i < 100; i++)
		haul_err_wrap(&err, -EIO, "level %d", i);
	assert_int_equal(strlen(err.text), HAUL_ERR_TEXT - 1);
	assert_int_equal(strncmp(err.text, "level 99: level 98: ", 20), 0);
	assert_string_equal(err.text + HAUL_ERR_TEXT - 4, "...");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strerror__knows_each_code),
		cmocka_unit_test(test_strerror__is_never_null),
		cmocka_unit_test(test_err_set__formats_and_returns_the_code),
		cmocka_unit_test(test_err_set__keeps_one_line),
		cmocka_unit_test(test_err_set__cuts_long_text_visibly),
		cmocka_unit_test(test_err_set__cuts_between_characters),
		cmocka_unit_test(test_err_wrap__puts_the_place_first),
		cmocka_unit_test(test_err_wrap__falls_back_to_the_codes_text),
		cmocka_unit_test(test_err_wrap__cuts_long_text_visibly),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
