/* Requests of the memcached text protocol: what is taken, what is refused and how. */
#include <string.h>

#include "lib/testlib.h"
#include "rpc/mc.h"

enum { VALUE_MIN = 4096, VALUE_MAX = 65536 };

/* The text with its end. */
static void put(char *at, const char *text)
{
	memcpy(at, text, strlen(text) + 1);
}

static enum mc_parsed parse(const char *text, struct mc_request *request)
{
	return mc_parse(text, strlen(text), VALUE_MIN, VALUE_MAX, request);
}

static void expect_error(const char *text, const char *error)
{
	struct mc_request request;
	assert_int_equal(parse(text, &request), MC_ERROR);
	assert_string_equal(request.error, error);
}

static void expect_text(struct mc_text text, const char *want)
{
	assert_int_equal(text.bytes, strlen(want));
	assert_memory_equal(text.data, want, text.bytes);
}

/* A get gives its keys one after the other, whatever blanks are between them. */
static void test_mc_parse__keys_of_get(void **state)
{
	(void)state;
	struct mc_request request;
	struct mc_text key;
	assert_int_equal(parse("gets a  bb ccc \r\nrest", &request), MC_REQUEST);
	assert_int_equal(request.command, MC_gets);
	assert_int_equal(request.key_count, 3);
	assert_int_equal(request.consumed, 17);
	assert_true(mc_key(&request.keys, &key));
	expect_text(key, "a");
	assert_true(mc_key(&request.keys, &key));
	expect_text(key, "bb");
	assert_true(mc_key(&request.keys, &key));
	expect_text(key, "ccc");
	assert_false(mc_key(&request.keys, &key));
	assert_int_equal(parse("gat -1 k\n", &request), MC_REQUEST);
	assert_int_equal(request.exptime, -1);
	assert_int_equal(request.key_count, 1);
}

/* A storage command has flags, time, length, and its data where it lies. */
static void test_mc_parse__storage(void **state)
{
	(void)state;
	struct mc_request request;
	assert_int_equal(parse("set k 4294967295 -3 4\r\na\r\nb\r\n", &request), MC_REQUEST);
	assert_int_equal(request.command, MC_set);
	expect_text(request.key, "k");
	assert_int_equal(request.flags, UINT32_MAX);
	assert_int_equal(request.exptime, -3);
	assert_int_equal(request.value_bytes, 4);
	assert_memory_equal(request.value, "a\r\nb", 4);
	assert_int_equal(request.consumed, 29);
	assert_false(request.noreply);
	assert_int_equal(parse("cas k 1 2 0 18446744073709551615 noreply\r\n\r\n", &request),
			 MC_REQUEST);
	assert_true(request.cas == UINT64_MAX);
	assert_true(request.noreply);
}

/* A key may be called noreply. */
static void test_mc_parse__noreply_as_key(void **state)
{
	(void)state;
	struct mc_request request;
	assert_int_equal(parse("delete noreply\r\n", &request), MC_REQUEST);
	expect_text(request.key, "noreply");
	assert_false(request.noreply);
	assert_int_equal(parse("delete noreply noreply\r\n", &request), MC_REQUEST);
	assert_true(request.noreply);
}

/* What is incomplete is waited for; a long value is told by its line alone. */
static void test_mc_parse__waits_for_the_rest(void **state)
{
	(void)state;
	struct mc_request request;
	assert_int_equal(parse("", &request), MC_MORE);
	assert_int_equal(parse("get a", &request), MC_MORE);
	assert_int_equal(parse("set k 0 0 3\r\nabc\r", &request), MC_MORE);
	assert_int_equal(parse("set k 0 0 4097\r\n", &request), MC_REQUEST);
	assert_null(request.value);
	assert_int_equal(request.head, 16);
	assert_int_equal(request.consumed, 16 + 4097 + 2);
}

/* Malformed lines get the answers that memcached gives. */
static void test_mc_parse__errors(void **state)
{
	(void)state;
	static const char format[] = "CLIENT_ERROR bad command line format\r\n";
	expect_error("nonsense\r\n", "ERROR\r\n");
	expect_error("\r\n", "ERROR\r\n");
	expect_error("get\r\n", "ERROR\r\n");
	expect_error("set k 0 0\r\n", "ERROR\r\n");
	expect_error("set k x 0 1\r\na\r\n", format);
	expect_error("set k 4294967296 0 1\r\na\r\n", format);
	expect_error("set k 0 y 1\r\na\r\n", format);
	expect_error("set k 0 0 -1\r\n", "CLIENT_ERROR bad data chunk\r\n");
	expect_error("set k 0 0 3\r\nabcdef\r\n", "CLIENT_ERROR bad data chunk\r\n");
	expect_error("cas k 0 0 1\r\na\r\n", format);
	expect_error("incr k -1\r\n", "CLIENT_ERROR invalid numeric delta argument\r\n");
	expect_error("incr k 18446744073709551616\r\n",
		     "CLIENT_ERROR invalid numeric delta argument\r\n");
	expect_error("touch k z\r\n", "CLIENT_ERROR invalid exptime argument\r\n");
	expect_error("delete k 5\r\n",
		     "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n");
	expect_error("verbosity\r\n", "ERROR\r\n");
	expect_error("version foo\r\n", "ERROR\r\n");
	expect_error("stats noreply\r\n", "ERROR\r\n");
	expect_error("shutdown\r\n", "ERROR: shutdown not enabled\r\n");
}

/* The data of a refused storage command is skipped, so it is never taken for commands. */
static void test_mc_parse__swallows_refused_data(void **state)
{
	(void)state;
	char line[512];
	struct mc_request request;
	memset(line, 'k', sizeof line);
	memcpy(line, "set ", 4);
	put(line + 4 + 251, " 0 0 11\r\nflush_all\r\n\r\n");
	assert_int_equal(parse(line, &request), MC_ERROR);
	assert_int_equal(request.consumed, strlen(line));
	assert_int_equal(parse("set k 0 0 65537\r\n", &request), MC_ERROR);
	assert_string_equal(request.error, "SERVER_ERROR object too large for cache\r\n");
	assert_int_equal(request.consumed, 17 + 65537 + 2);
}

/* Keys end at 250 bytes. */
static void test_mc_parse__key_limit(void **state)
{
	(void)state;
	char line[300];
	struct mc_request request;
	memset(line, 'k', sizeof line);
	memcpy(line, "get ", 4);
	put(line + 4 + 250, "\r\n");
	assert_int_equal(parse(line, &request), MC_REQUEST);
	line[4 + 250] = 'k';
	put(line + 4 + 251, "\r\n");
	assert_int_equal(parse(line, &request), MC_ERROR);
}

/* A line without end and the binary protocol close the connection. */
static void test_mc_parse__fatal(void **state)
{
	(void)state;
	static char line[MC_LINE_MAX + 8];
	struct mc_request request;
	memset(line, 'x', sizeof line);
	assert_int_equal(mc_parse(line, MC_COMMAND_MAX - 1, 0, 0, &request), MC_MORE);
	assert_int_equal(mc_parse(line, MC_COMMAND_MAX, 0, 0, &request), MC_FATAL);
	memcpy(line, "get ", 4);
	assert_int_equal(mc_parse(line, MC_LINE_MAX - 1, 0, 0, &request), MC_MORE);
	assert_int_equal(mc_parse(line, MC_LINE_MAX, 0, 0, &request), MC_FATAL);
	assert_int_equal(parse("\x80", &request), MC_FATAL);
	assert_null(request.error);
}

/* Data so long that nobody sends it: who does all the same must not have it taken for commands. */
static void test_mc_parse__absurd_lengths_close(void **state)
{
	(void)state;
	static const char *const lines[] = {
		"set k 0 0 2147483648\r\n",        "set k 0 0 2147483648 noreply\r\n",
		"ms k 18446744073709551615 q\r\n", "cas k 0 0 18446744073709551614 1\r\n",
		"add k z 0 4294967296\r\n",
	};
	struct mc_request request;
	for (uint32_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
		assert_int_equal(parse(lines[i], &request), MC_FATAL);
		assert_non_null(request.error);
	}
	assert_int_equal(parse("set k 0 0 2147483647\r\n", &request), MC_ERROR);
	assert_true(request.consumed == 22 + UINT64_C(2147483647) + 2);
	assert_int_equal(parse("set k 0 0 2147483648 no more words\r\n", &request), MC_FATAL);
}

/* A browser that was made to send a request here: its body is not taken for commands. */
static void test_mc_parse__http_closes(void **state)
{
	(void)state;
	struct mc_request request;
	assert_int_equal(parse("POST /x HTTP/1.1\r\nHost: h\r\n\r\nflush_all\r\n", &request),
			 MC_FATAL);
	assert_null(request.error);
	assert_int_equal(parse("get / HTTP/1.1\r\n", &request), MC_REQUEST); /* two keys */
	expect_error("nonsense HTTP\r\n", "ERROR\r\n");
}

/* Meta flags are kept in order with their tokens, and read. */
static void test_mc_parse__meta_flags(void **state)
{
	(void)state;
	struct mc_request request;
	assert_int_equal(parse("mg key v T30 Oabc q\r\n", &request), MC_REQUEST);
	assert_int_equal(request.meta_count, 4);
	expect_text(request.meta[2], "Oabc");
	assert_int_equal(request.exptime, 30);
	assert_true(request.noreply);
	assert_int_equal(parse("ms k 2 ME F7 C9 T-1\r\nhi\r\n", &request), MC_REQUEST);
	assert_int_equal(request.mode, 'E');
	assert_int_equal(request.flags, 7);
	assert_int_equal(request.cas, 9);
	assert_memory_equal(request.value, "hi", 2);
	assert_int_equal(parse("ma k N60 J13 D2 M-\r\n", &request), MC_REQUEST);
	assert_int_equal(request.mode, 'D');
	assert_int_equal(request.initial, 13);
	assert_int_equal(request.delta, 2);
}

/* Meta flags that are unknown, doubled or malformed are refused, data and all. */
static void test_mc_parse__meta_errors(void **state)
{
	(void)state;
	struct mc_request request;
	expect_error("mg k !\r\n", "CLIENT_ERROR invalid flag\r\n");
	expect_error("mg k v v\r\n", "CLIENT_ERROR duplicate flag\r\n");
	expect_error("mg k Tx\r\n", "CLIENT_ERROR bad token in command line format\r\n");
	expect_error("mg\r\n", "CLIENT_ERROR bad command line format\r\n");
	expect_error("ms k abc\r\n", "CLIENT_ERROR bad data chunk\r\n");
	expect_error("ms k 2 MX\r\nhi\r\n", "CLIENT_ERROR invalid mode for ms M token\r\n");
	expect_error("ms k 2 E9\r\nhi\r\n", "CLIENT_ERROR invalid flag\r\n");
	expect_error("mg ### b\r\n", "CLIENT_ERROR error decoding key\r\n");
	assert_int_equal(parse("ms k 2 E9\r\nhi\r\n", &request), MC_ERROR);
	assert_int_equal(request.consumed, 15);
}

/* Binary keys come as base64. */
static void test_mc_parse__base64(void **state)
{
	(void)state;
	uint8_t out[8];
	assert_int_equal(mc_base64((struct mc_text){ "AP8Q", 4 }, out, 8), 3);
	assert_memory_equal(out, "\x00\xff\x10", 3);
	assert_int_equal(mc_base64((struct mc_text){ "YQ==", 4 }, out, 8), 1);
	assert_int_equal(mc_base64((struct mc_text){ "YQ=", 3 }, out, 8), 0);
	assert_int_equal(mc_base64((struct mc_text){ "AAAAAAAAAAAAAAAA", 16 }, out, 8), 0);
}

/* Times up to 30 days count from now, others from 1970; negative ones are over. */
static void test_mc_parse__expiry(void **state)
{
	(void)state;
	assert_int_equal(mc_expiry(0, 1000), 0);
	assert_int_equal(mc_expiry(-1, 1000), 1);
	assert_int_equal(mc_expiry(2592000, 1000), 2593000);
	assert_int_equal(mc_expiry(2592001, 1000), 2592001);
	assert_int_equal(mc_expiry(INT64_C(1) << 40, 1000), UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mc_parse__keys_of_get),
		cmocka_unit_test(test_mc_parse__storage),
		cmocka_unit_test(test_mc_parse__noreply_as_key),
		cmocka_unit_test(test_mc_parse__waits_for_the_rest),
		cmocka_unit_test(test_mc_parse__errors),
		cmocka_unit_test(test_mc_parse__swallows_refused_data),
		cmocka_unit_test(test_mc_parse__key_limit),
		cmocka_unit_test(test_mc_parse__fatal),
		cmocka_unit_test(test_mc_parse__absurd_lengths_close),
		cmocka_unit_test(test_mc_parse__http_closes),
		cmocka_unit_test(test_mc_parse__meta_flags),
		cmocka_unit_test(test_mc_parse__meta_errors),
		cmocka_unit_test(test_mc_parse__base64),
		cmocka_unit_test(test_mc_parse__expiry),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
