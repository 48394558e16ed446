/* rpc/mc_parse.c — the text protocol.
 *
 * A line is cut into words once; each kind of command then reads its words. Answers to what is
 * wrong are memcached's own, as clients look for them. */
#include <stddef.h>
#include <string.h>

#include "base/assert.h"
#include "rpc/mc.h"

enum {
	THIRTY_DAYS_S = 30 * 24 * 3600,
	BINARY_MAGIC = 0x80,
	DATA_END = 2 /* "\r\n" */
};

enum line_kind {
	LINE_KEYS,
	LINE_TOUCH_KEYS,
	LINE_STORE,
	LINE_DELTA,
	LINE_DELETE,
	LINE_TOUCH,
	LINE_STATS,
	LINE_WORD,
	LINE_NUMBER,
	LINE_DELAY,
	LINE_META
};

struct command_line {
	const char *name;
	uint8_t bytes;
	uint8_t kind;
};

static const struct command_line commands[MC_COMMANDS] = {
#define X(name, kind) [MC_##name] = { #name, sizeof #name - 1, LINE_##kind },
	MC_COMMAND_LIST(X)
#undef X
};

static const char bad_format[] = "CLIENT_ERROR bad command line format\r\n";
static const char bad_exptime[] = "CLIENT_ERROR invalid exptime argument\r\n";
static const char bad_chunk[] = "CLIENT_ERROR bad data chunk\r\n";
static const char too_large[] = "SERVER_ERROR object too large for cache\r\n";
static const char unknown[] = "ERROR\r\n";

/* Words of a line but its command. */
struct words {
	struct mc_text word[MC_TOKENS_MAX + 1];
	uint32_t count; /* MC_TOKENS_MAX + 1 = too many */
};

bool mc_key(struct mc_text *keys, struct mc_text *ret_key)
{
	HAUL_ASSERT(keys->data || keys->bytes == 0);
	const char *at = keys->data;
	const char *end = at + keys->bytes;
	while (at < end && *at == ' ')
		at++;
	const char *first = at;
	while (at < end && *at != ' ')
		at++;
	*ret_key = (struct mc_text){ first, (uint32_t)(at - first) };
	*keys = (struct mc_text){ at, (uint32_t)(end - at) };
	return ret_key->bytes > 0;
}

uint32_t mc_expiry(int64_t exptime, uint32_t now_s)
{
	if (exptime == 0)
		return 0;
	if (exptime < 0)
		return 1;
	if (exptime <= THIRTY_DAYS_S)
		exptime += now_s;
	return exptime > UINT32_MAX ? UINT32_MAX : (uint32_t)exptime;
}

bool mc_number(struct mc_text text, uint64_t *ret_number)
{
	uint64_t number = 0;
	if (text.bytes == 0)
		return false;
	for (uint32_t i = 0; i < text.bytes; i++) {
		if (text.data[i] < '0' || text.data[i] > '9')
			return false;
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(text.data[i] - '0'), &number))
			return false;
	}
	*ret_number = number;
	return true;
}

static bool number32(struct mc_text text, uint32_t *ret_number)
{
	uint64_t number;
	if (!mc_number(text, &number) || number > UINT32_MAX)
		return false;
	*ret_number = (uint32_t)number;
	return true;
}

/* Seconds, possibly negative. */
static bool seconds(struct mc_text text, int64_t *ret_seconds)
{
	bool negative = text.bytes > 0 && text.data[0] == '-';
	uint64_t number;
	if (negative)
		text = (struct mc_text){ text.data + 1, text.bytes - 1 };
	if (!mc_number(text, &number) || number > UINT32_MAX)
		return false;
	*ret_seconds = negative ? -(int64_t)number : (int64_t)number;
	return true;
}

static bool text_is(struct mc_text text, const char *word)
{
	return text.bytes == strlen(word) && memcmp(text.data, word, text.bytes) == 0;
}

static void words_cut(struct mc_text rest, struct words *words)
{
	struct mc_text word;
	words->count = 0;
	while (words->count <= MC_TOKENS_MAX && mc_key(&rest, &word))
		words->word[words->count++] = word;
}

/* "noreply" as last word: taken off. */
static void take_noreply(struct words *words, struct mc_request *request)
{
	if (words->count == 0 || !text_is(words->word[words->count - 1], "noreply"))
		return;
	words->count--;
	request->noreply = true;
}

static const char *take_key(struct mc_text key, struct mc_request *request)
{
	if (key.bytes > MC_KEY_MAX)
		return bad_format;
	request->key = key;
	return NULL;
}

static const char *parse_keys(struct mc_text rest, bool touch, struct mc_request *request)
{
	struct mc_text word;
	if (touch) {
		if (!mc_key(&rest, &word))
			return unknown;
		if (!seconds(word, &request->exptime))
			return bad_exptime;
	}
	request->keys = rest;
	while (mc_key(&rest, &word)) {
		if (word.bytes > MC_KEY_MAX)
			return bad_format;
		request->key_count++;
	}
	return request->key_count > 0 ? NULL : unknown;
}

/* set key flags exptime bytes [noreply]; cas has its number behind them. */
static const char *parse_store(struct words *words, struct mc_request *request)
{
	uint32_t need = request->command == MC_cas ? 5 : 4;
	/* The fourth word is what tells data from commands: first. */
	if (words->count >= 4 && !mc_number(words->word[3], &request->value_bytes))
		return words->word[3].data[0] == '-' ? bad_chunk : bad_format;
	if (words->count > need)
		take_noreply(words, request);
	if (words->count != need)
		return words->count < 4 ? unknown : bad_format;
	if (!number32(words->word[1], &request->flags) ||
	    !seconds(words->word[2], &request->exptime))
		return bad_format;
	if (need == 5 && !mc_number(words->word[4], &request->cas))
		return bad_format;
	return take_key(words->word[0], request);
}

static const char *parse_delta(struct words *words, struct mc_request *request)
{
	if (words->count > 2)
		take_noreply(words, request);
	if (words->count != 2)
		return unknown;
	if (!mc_number(words->word[1], &request->delta))
		return "CLIENT_ERROR invalid numeric delta argument\r\n";
	return take_key(words->word[0], request);
}

static const char *parse_delete(struct words *words, struct mc_request *request)
{
	if (words->count > 1)
		take_noreply(words, request);
	/* Old clients send a time of 0. */
	if (words->count == 2 && text_is(words->word[1], "0"))
		words->count--;
	if (words->count == 0)
		return unknown;
	if (words->count > 1)
		return "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n";
	return take_key(words->word[0], request);
}

static const char *parse_touch(struct words *words, struct mc_request *request)
{
	if (words->count > 2)
		take_noreply(words, request);
	if (words->count != 2)
		return unknown;
	if (!seconds(words->word[1], &request->exptime))
		return bad_exptime;
	return take_key(words->word[0], request);
}

/* flush_all [delay] [noreply], verbosity level [noreply] */
static const char *parse_number(struct words *words, struct mc_request *request)
{
	if (words->count == 0)
		return request->command == MC_flush_all ? NULL : unknown;
	take_noreply(words, request);
	if (words->count > 1)
		return request->command == MC_flush_all ? bad_format : unknown;
	if (words->count == 0)
		return NULL;
	if (!seconds(words->word[0], &request->exptime))
		return request->command == MC_flush_all ? bad_exptime : bad_format;
	request->has_delay = true;
	return NULL;
}

static const char *parse_stats(struct words *words, struct mc_request *request)
{
	static const char *const known[] = {
		"settings", "items", "slabs", "sizes", "conns", "reset"
	};
	if (words->count == 0)
		return NULL;
	for (uint32_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		if (text_is(words->word[0], known[i])) {
			request->key = words->word[0];
			return NULL;
		}
	}
	return unknown;
}

static const char *parse_words(struct words *words, struct mc_request *request)
{
	switch ((enum line_kind)commands[request->command].kind) {
	case LINE_STORE:
		return parse_store(words, request);
	case LINE_DELTA:
		return parse_delta(words, request);
	case LINE_DELETE:
		return parse_delete(words, request);
	case LINE_TOUCH:
		return parse_touch(words, request);
	case LINE_STATS:
		return parse_stats(words, request);
	case LINE_NUMBER:
	case LINE_DELAY:
		return parse_number(words, request);
	case LINE_META:
		return mc_meta_parse(words->word, words->count, request);
	case LINE_WORD:
		if (request->command == MC_shutdown)
			return "ERROR: shutdown not enabled\r\n";
		return words->count > 0 && request->command != MC_mn ? unknown : NULL;
	case LINE_KEYS:
	case LINE_TOUCH_KEYS:
		break;
	}
	HAUL_ASSERT(false);
	return unknown;
}

/* The command whose name the line starts with; MC_COMMANDS = none. */
static enum mc_command command_of(struct mc_text name)
{
	for (uint32_t i = 0; i < MC_COMMANDS; i++) {
		if (commands[i].bytes == name.bytes &&
		    memcmp(commands[i].name, name.data, name.bytes) == 0)
			return (enum mc_command)i;
	}
	return MC_COMMANDS;
}

static bool is_keys(enum mc_command command)
{
	return command != MC_COMMANDS &&
	       (commands[command].kind == LINE_KEYS || commands[command].kind == LINE_TOUCH_KEYS);
}

static bool is_store(enum mc_command command)
{
	return commands[command].kind == LINE_STORE || command == MC_ms;
}

/* How long a line may be, by how it starts. */
static uint64_t line_max(const char *data, uint64_t bytes)
{
	struct mc_text start = { data, bytes < 16 ? (uint32_t)bytes : 16 };
	struct mc_text name;
	mc_key(&start, &name);
	return is_keys(command_of(name)) ? MC_LINE_MAX : MC_COMMAND_MAX;
}

/* A storage command's line is read: what about its data? */
static enum mc_parsed take_value(const char *data, uint64_t bytes, uint64_t value_min,
				 uint64_t value_max, struct mc_request *request)
{
	uint64_t end = request->head + request->value_bytes;
	/* Nobody sends that; what comes all the same must not be taken for commands. */
	if (request->value_bytes > INT32_MAX) {
		request->error = too_large;
		return MC_FATAL;
	}
	if (request->value_bytes > value_max && !request->error)
		request->error = too_large;
	/* Nor the data of a command that failed. */
	if (!request->error || request->value_bytes > 0)
		request->consumed += request->value_bytes + DATA_END;
	if (request->error)
		return MC_ERROR;
	if (request->value_bytes > value_min)
		return MC_REQUEST;
	if (bytes < end + DATA_END)
		return MC_MORE;
	if (data[end] != '\r' || data[end + 1] != '\n') {
		request->error = bad_chunk;
		return MC_ERROR;
	}
	request->value = data + request->head;
	return MC_REQUEST;
}

/* "POST / HTTP/1.1": from a browser, perhaps, and what follows may be anything. */
static bool is_http(struct mc_text rest)
{
	struct mc_text word;
	struct mc_text last = { 0 };
	while (mc_key(&rest, &word))
		last = word;
	return last.bytes >= 5 && memcmp(last.data, "HTTP/", 5) == 0;
}

enum mc_parsed mc_parse(const char *data, uint64_t bytes, uint64_t value_min, uint64_t value_max,
			struct mc_request *ret_request)
{
	HAUL_ASSERT(data || bytes == 0);
	struct mc_request *request = ret_request;
	memset(request, 0, offsetof(struct mc_request, meta));
	request->meta_count = 0;
	request->error = NULL;
	request->consumed = 0;
	if (bytes == 0)
		return MC_MORE;
	if ((uint8_t)data[0] == BINARY_MAGIC)
		return MC_FATAL;
	uint64_t look = line_max(data, bytes);
	const char *newline = memchr(data, '\n', bytes < look ? bytes : look);
	if (!newline && bytes < look)
		return MC_MORE;
	if (!newline) {
		request->error = "CLIENT_ERROR line too long\r\n";
		request->consumed = bytes;
		return MC_FATAL;
	}

	request->head = (uint32_t)(newline - data) + 1;
	request->consumed = request->head;
	uint32_t line = request->head - 1;
	if (line > 0 && data[line - 1] == '\r')
		line--;
	struct mc_text rest = { data, line };
	struct mc_text name;
	mc_key(&rest, &name);
	request->command = command_of(name);
	if (request->command == MC_COMMANDS) {
		if (is_http(rest))
			return MC_FATAL;
		request->error = unknown;
		return MC_ERROR;
	}
	if (is_keys(request->command)) {
		request->error = parse_keys(
			rest, commands[request->command].kind == LINE_TOUCH_KEYS, request);
		return request->error ? MC_ERROR : MC_REQUEST;
	}

	struct words words;
	words_cut(rest, &words);
	const char *error = parse_words(&words, request);
	request->error = words.count > MC_TOKENS_MAX ? bad_format : error;
	if (is_store(request->command))
		return take_value(data, bytes, value_min, value_max, request);
	return request->error ? MC_ERROR : MC_REQUEST;
}
