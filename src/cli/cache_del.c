/* haul cache del, haul cache online: small commands to a file or a running server. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/cache.h"
#include "cli/cache_client.h"
#include "cli/option.h"
#include "cli/stop.h"

struct request {
	struct option_words words; /* TARGET, then keys */
	const char *target;
	char **keys;
	uint32_t count;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	(void)arg;
	switch (key) {
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

static void not_there(const char *key)
{
	fprintf(stderr, "haul: cache: key '%s': is not there\n", key);
}

static int from_file(const struct request *request)
{
	struct haul_cache *cache = NULL;
	int code = CLI_OK;
	if (cache_open_file(&cache, request->target, false) != CLI_OK)
		return CLI_FAILED;
	for (uint32_t i = 0; i < request->count && !stop_asked(); i++) {
		const struct haul_cache_key key = { request->keys[i],
						    (uint32_t)strlen(request->keys[i]) };
		int rc = haul_cache_delete(cache, &key);
		if (rc == -ENOENT)
			not_there(request->keys[i]);
		else if (rc < 0)
			(void)cli_fail_code("cache", request->keys[i], rc);
		code = rc < 0 ? CLI_FAILED : code;
	}
	int closed = haul_cache_close(cache);
	return closed < 0 ? cli_fail_code("cache", request->target, closed) : code;
}

static int server_del(struct client *client, const char *key, int *code)
{
	if (!client_key_fits(key)) {
		not_there(key);
		*code = CLI_FAILED;
		return 0;
	}
	int rc = client_printf(client, "delete %s\r\n", key);
	const char *line = rc < 0 ? NULL : client_line(client);
	if (line == NULL)
		return client->err->code;
	if (!strcmp(line, "NOT_FOUND")) {
		not_there(key);
		*code = CLI_FAILED;
		return 0;
	}
	return strcmp(line, "DELETED") == 0 ? 0 : client_refused(client, line);
}

static int from_server(const struct request *request)
{
	static struct client client;
	struct haul_err err = { 0 };
	int code = CLI_OK;
	int rc = client_open(&client, request->target, &err);
	if (rc < 0)
		return cli_fail("cache", &err);
	for (uint32_t i = 0; rc == 0 && i < request->count && !stop_asked(); i++)
		rc = server_del(&client, request->keys[i], &code);
	client_close(&client);
	return rc < 0 ? cli_fail("cache", &err) : code;
}

int cache_del(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "TARGET KEY...",
		.doc = "Delete some keys; they stay deleted after a crash, too. TARGET is a "
		       "cache's file or device, or a running server (HOST:PORT or its socket). The "
		       "exit code is 1 when a key was not there.\v"
		       "Example:\n"
		       "  haul cache del cache.bin map/52/13 map/52/14\n",
	};
	struct request request = { .words = { .min = 2, .max = UINT32_MAX } };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	stop_catch();
	return cache_is_server(request.target) ? from_server(&request) : from_file(&request);
}

int cache_online(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "SERVER",
		.doc = "Tell a running server (HOST:PORT or its socket) that the device it lost is "
		       "back: it recovers what is on it, as at its start. Without a server there "
		       "is nothing to tell: the next command opens the device anew.\v"
		       "Example:\n"
		       "  haul cache online 127.0.0.1:11211\n",
	};
	static struct client client;
	struct request request = { .words = { .min = 1, .max = 1 } };
	struct haul_err err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	if (!cache_is_server(request.target)) {
		fprintf(stderr,
			"haul: cache: %s: wanted is a running server, HOST:PORT or its socket\n",
			request.target);
		return CLI_FAILED;
	}
	int rc = client_open(&client, request.target, &err);
	if (rc < 0)
		return cli_fail("cache", &err);
	rc = client_printf(&client, "online\r\n");
	const char *line = rc < 0 ? NULL : client_line(&client);
	client_close(&client);
	if (line != NULL && (!strcmp(line, "OK") || !strcmp(line, "ONLINE")))
		return CLI_OK;
	(void)client_refused(&client, line);
	return cli_fail("cache", &err);
}
