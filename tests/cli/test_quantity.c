/* cli/test_quantity.c — durations and sizes as people type and read them. */
#include <errno.h>

#include "cli/quantity.h"
#include "lib/testlib.h"

/* Every unit, fractions, the largest, and a bare number of seconds. */
static void test_quantity__duration_is_read(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} rows[] = {
		{ "0", 0 },
		{ "7ns", 7 },
		{ "2us", 2000 },
		{ "500ms", 500000000 },
		{ "10", 10000000000 },
		{ "10s", 10000000000 },
		{ "1.5s", 1500000000 },
		{ "0.05", 50000000 },
		{ "5m", 300000000000 },
		{ "2h", 7200000000000 },
		{ "1d", 86400000000000 },
		{ "0.5d", 43200000000000 },
		{ "9223372036854775807ns", INT64_MAX },
	};
	int64_t ns;

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_int_equal(quantity_duration(rows[i].text, &ns), 0);
		assert_int_equal(ns, rows[i].ns);
	}
}

/* What is no duration, or too long for one, is refused, and the result stays as it was. */
static void test_quantity__duration_refuses(void **state)
{
	static const char *const bad[] = { "",    "s",   "-1s", "+1s",  " 1s",   "1 s",  "1x",
					   "1ss", "1.s", ".5s", "1..5", "1.2.3", "1,5s", "nan" };
	int64_t ns = 42;

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(quantity_duration(bad[i], &ns), -EINVAL);
	assert_int_equal(quantity_duration("9223372036854775808ns", &ns), -ERANGE);
	assert_int_equal(quantity_duration("106752d", &ns), -ERANGE);
	assert_int_equal(quantity_duration("99999999999999999999", &ns), -ERANGE);
	assert_int_equal(quantity_duration("0.000000000000000000001s", &ns), -ERANGE);
	assert_int_equal(ns, 42);
}

/* Thousands and 1024s; what does not fit is refused. */
static void test_quantity__size_is_read(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
	} rows[] = {
		{ "0", 0 },
		{ "900", 900 },
		{ "1k", 1000 },
		{ "1.5k", 1500 },
		{ "2M", 2000000 },
		{ "3G", 3000000000 },
		{ "4T", 4000000000000 },
		{ "1Ki", 1024 },
		{ "1.5Mi", 1572864 },
		{ "2Gi", 2147483648 },
		{ "1Ti", 1099511627776 },
		{ "18446744073709551615", UINT64_MAX },
	};
	uint64_t size = 42;

	(void)state;
	assert_int_equal(quantity_size("1K", &size), -EINVAL);
	assert_int_equal(quantity_size("1kB", &size), -EINVAL);
	assert_int_equal(quantity_size("-1", &size), -EINVAL);
	assert_int_equal(quantity_size("18446744073709551616", &size), -ERANGE);
	assert_int_equal(quantity_size("18446744073709552k", &size), -ERANGE);
	assert_int_equal(size, 42);
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		assert_int_equal(quantity_size(rows[i].text, &size), 0);
		assert_int_equal(size, rows[i].size);
	}
}

/* No text is longer than its column, just below and just above each unit. */
static void test_quantity__is_shown_short(void **state)
{
	static const struct {
		double size;
		const char *text;
	} sizes[] = {
		{ 0, "0" },          { 999, "999" },         { 999.6, "1.0k" },
		{ 1000, "1.0k" },    { 99949, "99.9k" },     { 99950, "100k" },
		{ 999949, "1.0M" },  { 999949.9e3, "1.0G" }, { 1e6, "1.0M" },
		{ 34.5e9, "34.5G" }, { 1.8e19, "18.0E" },
	};
	static const struct {
		int64_t ns;
		const char *text;
	} times[] = {
		{ -5, "0us" },
		{ 0, "0us" },
		{ 999999, "999us" },
		{ 1000000, "1ms" },
		{ 999999999, "999ms" },
		{ 1000000000, "1.0s" },
		{ 59999999999, "59.9s" },
		{ 60000000000, "1m00s" },
		{ 3599999999999, "59m59s" },
		{ 3600000000000, "1h00m" },
		{ 86400000000000, "1d00h" },
		{ INT64_MAX, "106751d23h" },
	};
	char text[QUANTITY_TEXT];

	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		assert_string_equal(quantity_size_text(sizes[i].size, text), sizes[i].text);
	for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
		assert_string_equal(quantity_duration_text(times[i].ns, text), times[i].text);
	assert_string_equal(quantity_memory_text(1023, text), "1023 B");
	assert_string_equal(quantity_memory_text(1024, text), "1.0 KiB");
	assert_string_equal(quantity_memory_text(UINT64_MAX, text), "16.0 EiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quantity__duration_is_read),
		cmocka_unit_test(test_quantity__duration_refuses),
		cmocka_unit_test(test_quantity__size_is_read),
		cmocka_unit_test(test_quantity__is_shown_short),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
