/* haul cache set: one value from the command line, a file or stdin. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cache.h"
#include "cli/cache_client.h"
#include "cli/option.h"
#include "cli/quantity.h"
#include "cli/stop.h"
#include "os/os.h"

enum { KEY_FILE = 256, KEY_EXPIRE, KEY_FLAGS, KEY_PIN, KEY_ADD, KEY_REPLACE, READ_FIRST = 1 << 16 };

struct request {
	struct option_words words;
	const char *target, *key, *text, *file;
	int64_t expire_s; /* 0 = never */
	uint32_t flags, how;
	uint8_t *value; /* owned */
	uint64_t bytes;
};

static void check(struct request *request, struct argp_state *state)
{
	char **const word = request->words.word;
	request->target = word[0];
	request->key = word[1];
	request->text = request->words.count > 2 ? word[2] : NULL;
	cache_check_key(request->key, state);
	if (request->text != NULL && request->file != NULL)
		argp_error(state, "VALUE and --file contradict each other");
	if ((request->how & HAUL_CACHE_ADD) && (request->how & HAUL_CACHE_REPLACE))
		argp_error(state, "--add and --replace contradict each other");
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	int64_t ns = 0;
	switch (key) {
	case KEY_FILE:
		request->file = arg;
		return 0;
	case KEY_EXPIRE:
		if (quantity_duration(arg, &ns) < 0 || ns < NS_PER_S)
			argp_error(state, "--expire '%s': wanted is %s, at least 1s", arg,
				   QUANTITY_DURATION);
		request->expire_s = (ns + NS_PER_S - 1) / NS_PER_S;
		return 0;
	case KEY_FLAGS:
		request->flags = (uint32_t)option_number("flags", arg, 0, UINT32_MAX, state);
		return 0;
	case KEY_PIN:
		request->how |= HAUL_CACHE_PINNED;
		return 0;
	case KEY_ADD:
		request->how |= HAUL_CACHE_ADD;
		return 0;
	case KEY_REPLACE:
		request->how |= HAUL_CACHE_REPLACE;
		return 0;
	case ARGP_KEY_END:
		(void)option_words(key, &request->words, state);
		check(request, state);
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

/* ---- the value ---- */

static int read_all(struct request *request, int fd, const char *name)
{
	uint64_t room = READ_FIRST;
	request->value = malloc(room);
	while (request->value != NULL) {
		ssize_t n = read(fd, request->value + request->bytes, room - request->bytes);
		if (n < 0 && errno == EINTR && !stop_asked())
			continue;
		if (n < 0)
			return cli_fail_code("cache", name, -errno);
		if (n == 0)
			return CLI_OK;
		request->bytes += (uint64_t)n;
		if (request->bytes > HAUL_CACHE_OBJECT_MAX) {
			fprintf(stderr, "haul: cache: %s: a value has at most %d bytes\n", name,
				HAUL_CACHE_OBJECT_MAX);
			return CLI_FAILED;
		}
		if (request->bytes < room)
			continue;
		uint8_t *more = realloc(request->value, room * 2);
		if (more == NULL)
			break;
		request->value = more;
		room *= 2;
	}
	return cli_fail_code("cache", name, -ENOMEM);
}

static int read_value(struct request *request)
{
	if (request->text != NULL && strcmp(request->text, "-") != 0) {
		request->bytes = strlen(request->text);
		request->value = (uint8_t *)strdup(request->text);
		return request->value == NULL ? cli_fail_code("cache", "set", -ENOMEM) : CLI_OK;
	}
	if (request->file == NULL)
		return read_all(request, STDIN_FILENO, "standard input");
	int fd = open(request->file, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return cli_fail_code("cache", request->file, -errno);
	int code = read_all(request, fd, request->file);
	(void)close(fd);
	return code;
}

/* ---- where it goes ---- */

static int refused(const struct request *request, int rc)
{
	const char *why = rc == -EEXIST       ? "is there already"
			  : rc == -ENOENT     ? "is not there"
			  : rc == HAUL_EFULL  ? "no room: all that may be pinned is pinned"
			  : rc == HAUL_ELIMIT ? "the value is too long for this cache"
			  : rc == HAUL_EADMIT ? "the write budget is used up"
					      : haul_strerror(rc);
	fprintf(stderr, "haul: cache: key '%s': %s\n", request->key, why);
	return CLI_FAILED;
}

static int to_file(const struct request *request)
{
	struct haul_cache *cache = NULL;
	struct os *os = os_linux();
	const int64_t expiry = request->expire_s + os->real_time_s(os);
	const struct haul_cache_item item = {
		.key = { request->key, (uint32_t)strlen(request->key) },
		.value = request->value,
		.bytes = request->bytes,
		.expiry = request->expire_s == 0         ? 0
			  : expiry < (int64_t)UINT32_MAX ? (uint32_t)expiry
							 : UINT32_MAX,
		.flags = request->flags,
		.how = request->how,
	};
	if (cache_open_file(&cache, request->target, false) != CLI_OK)
		return CLI_FAILED;
	int rc = haul_cache_store(cache, &item);
	int closed = haul_cache_close(cache);
	if (rc < 0)
		return refused(request, rc);
	return closed < 0 ? cli_fail_code("cache", request->target, closed) : CLI_OK;
}

static int to_server(const struct request *request)
{
	static struct client client;
	struct haul_err err = { 0 };
	const char *verb = request->how & HAUL_CACHE_ADD       ? "add"
			   : request->how & HAUL_CACHE_REPLACE ? "replace"
							       : "set";
	struct os *os = os_linux();
	/* as a moment, since a server takes more than 30 days for one */
	const int64_t expiry = request->expire_s == 0 ? 0 : request->expire_s + os->real_time_s(os);
	if (request->how & HAUL_CACHE_PINNED) {
		fprintf(stderr, "haul: cache: --pin: only on a file: the protocol has no word for "
				"it\n");
		return CLI_FAILED;
	}
	if (!client_key_fits(request->key)) {
		fprintf(stderr,
			"haul: cache: key '%s': a server takes keys of up to %d bytes without "
			"blanks\n",
			request->key, CLIENT_KEY_MAX);
		return CLI_FAILED;
	}
	if (client_open(&client, request->target, &err) < 0)
		return cli_fail("cache", &err);
	int rc = client_printf(&client, "%s %s %u %" PRId64 " %" PRIu64 "\r\n", verb, request->key,
			       request->flags, expiry, request->bytes);
	if (rc == 0)
		rc = client_send(&client, request->value, request->bytes);
	if (rc == 0)
		rc = client_send(&client, "\r\n", 2);
	const char *line = rc < 0 ? NULL : client_line(&client);
	client_close(&client);
	if (line != NULL && !strcmp(line, "STORED"))
		return CLI_OK;
	if (line != NULL && !strcmp(line, "NOT_STORED"))
		return refused(request, request->how & HAUL_CACHE_ADD ? -EEXIST : -ENOENT);
	(void)client_refused(&client, line);
	return cli_fail("cache", &err);
}

int cache_set(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "file", KEY_FILE, "FILE", 0, "take the value from a file", 0 },
		{ "expire", KEY_EXPIRE, "DURATION", 0, "forget it after, as in 10m or 2d", 0 },
		{ "flags", KEY_FLAGS, "N", 0, "32 bits that are kept with the value", 0 },
		{ "pin", KEY_PIN, NULL, 0, "keep it until it expires or is deleted", 0 },
		{ "add", KEY_ADD, NULL, 0, "only if the key is not there", 0 },
		{ "replace", KEY_REPLACE, NULL, 0, "only if it is", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "TARGET KEY [VALUE]",
		.doc = "Store one value; it is durable when the command ends. Without VALUE and "
		       "--file, or with -, it comes from stdin. TARGET is a cache's file or "
		       "device, "
		       "or a running server (HOST:PORT or its socket).\v"
		       "Examples:\n"
		       "  haul cache set cache.bin greeting hello --expire 1h\n"
		       "  haul cache set 127.0.0.1:11211 update.img --file update.img\n",
	};
	struct request request = { .words = { .min = 2, .max = 3 } };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	stop_catch();
	int code = read_value(&request);
	if (code == CLI_OK)
		code = cache_is_server(request.target) ? to_server(&request) : to_file(&request);
	free(request.value);
	return code;
}
