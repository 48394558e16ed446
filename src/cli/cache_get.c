/* haul cache get: values to stdout, from a file or a running server. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cache.h"
#include "cli/cache_client.h"
#include "cli/option.h"
#include "cli/stop.h"

enum { KEY_RANGE = 256, KEY_JSON, PIECE = 4 << 20 };

struct request {
	struct option_words words; /* TARGET, then keys */
	const char *target;
	char **keys;
	uint32_t count;
	bool json, range;
	uint64_t from, to; /* bytes from … to, both included; to = UINT64_MAX: the end */
};

/* One key's answer, as it goes out. */
struct answer {
	const struct request *request;
	struct haul_cache *cache;
	json_t *list;
	uint32_t missed;
	int error; /* of stdout, or of the cache and told: nothing more is printed */
	uint8_t *piece;
};

static void parse_range(struct request *request, const char *arg, struct argp_state *state)
{
	char *end = NULL;
	errno = 0;
	request->range = true;
	request->to = UINT64_MAX;
	request->from = strtoull(arg, &end, 10);
	bool good = errno == 0 && end != arg && *arg != '-' && *end == '-';
	if (good && end[1] != '\0') {
		const char *second = end + 1;
		request->to = strtoull(second, &end, 10);
		good = errno == 0 && *second != '-' && *end == '\0' && request->to >= request->from;
	}
	if (!good)
		argp_error(state,
			   "--range '%s': wanted is the first and the last byte, as in 0-1023, or "
			   "1024- for all from there",
			   arg);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	switch (key) {
	case KEY_RANGE:
		parse_range(request, arg, state);
		return 0;
	case KEY_JSON:
		request->json = true;
		return 0;
	case ARGP_KEY_END:
		(void)option_words(key, &request->words, state);
		request->target = request->words.word[0];
		request->keys = request->words.word + 1;
		request->count = request->words.count - 1;
		for (uint32_t i = 0; i < request->count; i++)
			cache_check_key(request->keys[i], state);
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

/* ---- output ---- */

static void put(struct answer *answer, const void *data, size_t bytes)
{
	if (answer->error != 0 || bytes == 0)
		return;
	errno = 0;
	if (fwrite(data, 1, bytes, stdout) != bytes) {
		answer->error = errno != 0 ? -errno : -EIO;
		cli_lost(answer->error);
	}
}

static void missed(struct answer *answer, uint32_t index, enum haul_cache_status status)
{
	answer->missed++;
	if (!answer->request->json)
		fprintf(stderr, "haul: cache: key '%s': %s\n", answer->request->keys[index],
			haul_cache_status_name(status));
}

static void put_json(struct answer *answer, uint32_t index, const struct haul_cache_value *value,
		     const uint8_t *data, size_t bytes)
{
	const char *key = answer->request->keys[index];
	json_t *one = json_object();
	cache_json_set(one, (struct cache_json_name){ "key", "key_hex" }, key, strlen(key));
	(void)json_object_set_new(one, "status",
				  json_string(haul_cache_status_name(value->status)));
	if (value->status == HAUL_CACHE_HIT) {
		(void)json_object_set_new(one, "bytes", json_integer((json_int_t)value->total));
		(void)json_object_set_new(one, "flags", json_integer(value->flags));
		(void)json_object_set_new(one, "expiry", json_integer(value->expiry));
		cache_json_set(one, (struct cache_json_name){ "value", "hex" }, data, bytes);
	}
	(void)json_array_append_new(answer->list, one);
}

/* ---- a file ---- */

/* In pieces, so that a value of any length needs little memory; JSON needs it whole. */
static void file_range(struct answer *answer, uint32_t index)
{
	const struct request *request = answer->request;
	const struct haul_cache_key key = { request->keys[index],
					    (uint32_t)strlen(request->keys[index]) };
	struct haul_cache_value value = { 0 };
	uint64_t at = request->from;
	int rc = 0;
	do {
		const uint64_t left = request->to - at;
		const struct haul_cache_range range = { at, left < PIECE ? left + 1 : PIECE };
		rc = haul_cache_get_range(answer->cache, &key, &range, answer->piece, &value);
		if (rc < 0)
			break;
		put(answer, answer->piece, value.bytes);
		at += value.bytes;
	} while (value.bytes > 0 && at < value.total && at <= request->to && answer->error == 0 &&
		 !stop_asked());
	if (rc < 0 && at == request->from) {
		missed(answer, index, value.status);
	} else if (rc < 0) {
		fprintf(stderr, "haul: cache: key '%s': broke off after %" PRIu64 " bytes: %s\n",
			request->keys[index], at - request->from, haul_strerror(rc));
		answer->error = rc;
	}
}

static int file_visit(uint32_t index, const struct haul_cache_value *value, void *arg)
{
	struct answer *answer = arg;
	const struct request *request = answer->request;
	if (value->status != HAUL_CACHE_HIT)
		missed(answer, index, value->status);
	uint64_t from = value->bytes < request->from ? value->bytes : request->from;
	uint64_t end = request->to < value->bytes ? request->to + 1 : value->bytes;
	const uint8_t *data = value->data;
	if (request->json)
		put_json(answer, index, value, data + from, end - from);
	else if (value->status == HAUL_CACHE_HIT && value->bytes < value->total)
		file_range(answer, index);
	else if (value->status == HAUL_CACHE_HIT)
		put(answer, data + from, end - from);
	return answer->error < 0 || stop_asked() ? 1 : 0;
}

static int from_file(struct answer *answer)
{
	const struct request *request = answer->request;
	struct haul_cache_key *keys = calloc(request->count, sizeof *keys);
	answer->piece = malloc(PIECE);
	if (keys == NULL || answer->piece == NULL) {
		free(keys);
		return cli_fail_code("cache", "get", -ENOMEM);
	}
	for (uint32_t i = 0; i < request->count; i++)
		keys[i] = (struct haul_cache_key){ request->keys[i],
						   (uint32_t)strlen(request->keys[i]) };
	int code = cache_open_file(&answer->cache, request->target, true);
	if (code == CLI_OK && request->range && !request->json)
		for (uint32_t i = 0; i < request->count && answer->error == 0; i++)
			file_range(answer, i);
	else if (code == CLI_OK)
		(void)haul_cache_lookup_batch(answer->cache, keys, request->count, file_visit,
					      answer);
	(void)haul_cache_close(answer->cache);
	free(keys);
	return code;
}

/* ---- a server ---- */

/* What of bytes at … at + bytes - 1 is in the range. */
static void put_range(struct answer *answer, uint64_t at, const uint8_t *data, uint64_t bytes)
{
	const struct request *request = answer->request;
	const uint64_t from = request->from > at ? request->from - at : 0;
	if (request->to < at || from >= bytes)
		return;
	const uint64_t end = request->to - at < bytes ? request->to - at + 1 : bytes;
	put(answer, data + from, end - from);
}

/* The block of a VALUE line: to stdout as it comes. */
static int server_block(struct answer *answer, struct client *client, uint64_t bytes)
{
	for (uint64_t at = 0; at < bytes;) {
		const uint64_t left = bytes - at;
		int64_t n = client_data(client, answer->piece, left < PIECE ? left : PIECE);
		if (n < 0)
			return (int)n;
		put_range(answer, at, answer->piece, (uint64_t)n);
		at += (uint64_t)n;
	}
	return 0;
}

/* The same, whole, as JSON needs it. */
static int server_json(struct answer *answer, struct client *client, uint32_t index,
		       const struct haul_cache_value *value)
{
	const struct request *request = answer->request;
	const uint64_t from = request->from < value->total ? request->from : value->total;
	const uint64_t end = request->to < value->total ? request->to + 1 : value->total;
	uint8_t *whole = malloc(value->total + 1);
	int64_t n = 0;
	if (whole == NULL)
		return haul_err_set(client->err, -ENOMEM, "no memory for %" PRIu64 " bytes",
				    value->total);
	for (uint64_t at = 0; at < value->total && n >= 0; at += (uint64_t)n) {
		n = client_data(client, whole + at, value->total - at);
		if (n < 0)
			break;
	}
	if (n >= 0)
		put_json(answer, index, value, whole + from, end - from);
	free(whole);
	return n < 0 ? (int)n : 0;
}

/* A line that can only be one thing. */
static int server_expect(struct client *client, const char *wanted)
{
	const char *line = client_line(client);
	if (line == NULL)
		return client->err->code;
	return strcmp(line, wanted) == 0 ? 0 : client_refused(client, line);
}

static int server_get(struct answer *answer, struct client *client, uint32_t index)
{
	struct haul_cache_value value = { .status = HAUL_CACHE_MISS };
	int rc = client_printf(client, "get %s\r\n", answer->request->keys[index]);
	const char *line = rc < 0 ? NULL : client_line(client);
	if (line == NULL)
		return client->err->code;
	if (!strcmp(line, "END")) {
		missed(answer, index, HAUL_CACHE_MISS);
		if (answer->request->json)
			put_json(answer, index, &value, NULL, 0);
		return 0;
	}
	const char *flags = strncmp(line, "VALUE ", 6) == 0 ? strchr(line + 6, ' ') : NULL;
	char *bytes = NULL;
	if (flags == NULL)
		return client_refused(client, line);
	value.status = HAUL_CACHE_HIT;
	value.flags = (uint32_t)strtoul(flags, &bytes, 10);
	value.total = strtoull(bytes, NULL, 10);
	if (value.total > HAUL_CACHE_OBJECT_MAX)
		return client_refused(client, line);
	rc = answer->request->json ? server_json(answer, client, index, &value)
				   : server_block(answer, client, value.total);
	if (rc == 0)
		rc = server_expect(client, "");
	return rc == 0 ? server_expect(client, "END") : rc;
}

static int from_server(struct answer *answer)
{
	const struct request *request = answer->request;
	static struct client client;
	struct haul_err err = { 0 };
	for (uint32_t i = 0; i < request->count; i++)
		if (!client_key_fits(request->keys[i])) {
			fprintf(stderr,
				"haul: cache: key '%s': a server takes keys of up to %d bytes "
				"without blanks\n",
				request->keys[i], CLIENT_KEY_MAX);
			return CLI_FAILED;
		}
	answer->piece = malloc(PIECE);
	if (answer->piece == NULL)
		return cli_fail_code("cache", "get", -ENOMEM);
	int rc = client_open(&client, request->target, &err);
	if (rc < 0)
		return cli_fail("cache", &err);
	for (uint32_t i = 0; rc == 0 && i < request->count && answer->error == 0; i++)
		rc = server_get(answer, &client, i);
	client_close(&client);
	return rc < 0 ? cli_fail("cache", &err) : CLI_OK;
}

int cache_get(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "range", KEY_RANGE, "A-B", 0,
		  "only bytes A to B, counted from 0; of a large value only what is needed is "
		  "read",
		  0 },
		{ "json", KEY_JSON, NULL, 0, "an array of objects, misses included", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "TARGET KEY...",
		.doc = "Write the values of some keys to stdout, in the order asked, as they are. "
		       "TARGET is a cache's file or device, or a running server (HOST:PORT or its "
		       "socket). The exit code is 1 when a key is not there.\v"
		       "Examples:\n"
		       "  haul cache get cache.bin map/52/13 > tile\n"
		       "  haul cache get 127.0.0.1:11211 update.img --range 0-1023\n",
	};
	struct request request = { .words = { .min = 2, .max = UINT32_MAX }, .to = UINT64_MAX };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	struct answer answer = { .request = &request, .list = json_array() };
	stop_catch();
	int code = cache_is_server(request.target) ? from_server(&answer) : from_file(&answer);
	if (request.json && code == CLI_OK && json_dumpf(answer.list, stdout, JSON_INDENT(1)) == 0)
		printf("\n");
	json_decref(answer.list);
	free(answer.piece);
	const bool failed = answer.error < 0 && answer.error != -EPIPE;
	return code == CLI_OK && (failed || answer.missed > 0 || stop_asked()) ? CLI_FAILED : code;
}
