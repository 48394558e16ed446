/* haul cache serve: memcached clients over TCP and Unix sockets. */
#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cache.h"
#include "cli/option.h"
#include "cli/stop.h"
#include "rpc/server.h"

enum {
	KEY_UNIX = 256,
	KEY_MEMORY,
	KEY_ACK,
	KEY_POLICY,
	KEY_CODEC,
	KEY_ENGINE,
	KEY_BUDGET,
	KEY_BUFFER,
	KEY_ITEM,
	KEY_PINNED,
	KEY_SLICE,
	KEY_SYNC,
	CONNECTIONS_MAX = 100000,
	SYNC_US_MAX = 10000000
};

struct request {
	struct option_words words; /* FILE */
	struct server_options server;
};

static void add_listen(struct server_options *server, const char *arg, struct argp_state *state)
{
	if (server->listen_count == SERVER_LISTEN_MAX)
		argp_error(state, "at most %d times --listen", SERVER_LISTEN_MAX);
	else
		server->listen[server->listen_count++] = arg;
}

static error_t parse_cache(int key, char *arg, struct argp_state *state)
{
	static const char *const policies[] = { "s3fifo", "lru", NULL };
	static const char *const codecs[] = { "none", "lz4", "zstd", NULL };
	static const char *const engines[] = { "auto", "io_uring", "threads", NULL };
	struct request *request = state->input;
	struct haul_cache_options *cache = &request->server.cache;
	switch (key) {
	case KEY_MEMORY:
		cache->ram_bytes = option_size("memory", arg, 0, INT64_MAX, state);
		return 0;
	case KEY_BUFFER:
		cache->buffer_bytes = option_size("buffer", arg, 1 << 20, INT64_MAX, state);
		return 0;
	case KEY_POLICY:
		cache->policy = option_name("policy", arg, policies, state) == 1
					? HAUL_CACHE_LRU
					: HAUL_CACHE_S3FIFO;
		return 0;
	case KEY_CODEC:
		cache->codec = codecs[option_name("codec", arg, codecs, state)];
		return 0;
	case KEY_ENGINE:
		cache->engine = engines[option_name("engine", arg, engines, state)];
		return 0;
	case KEY_BUDGET:
		cache->write_budget = option_size("write-budget", arg, 1, INT64_MAX, state);
		return 0;
	case KEY_PINNED:
		cache->pinned_percent = (uint32_t)option_number("pinned", arg, 0, 100, state);
		return 0;
	case KEY_SLICE:
		cache->slice_bytes = (uint32_t)option_size("slice", arg, 4096, 262144, state);
		return 0;
	case KEY_SYNC:
		cache->sync_add_ns =
			(int64_t)option_number("sync-us", arg, 0, SYNC_US_MAX, state) * 1000;
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	static const char *const acks[] = { "durable", "buffered", NULL };
	struct request *request = state->input;
	struct server_options *server = &request->server;
	switch (key) {
	case 'l':
		add_listen(server, arg, state);
		return 0;
	case KEY_UNIX:
		server->unix_path = arg;
		return 0;
	case 't':
		server->threads =
			(uint32_t)option_number("threads", arg, 1, SERVER_WORKERS_MAX, state);
		return 0;
	case 'c':
		server->connections =
			(uint32_t)option_number("connections", arg, 1, CONNECTIONS_MAX, state);
		return 0;
	case KEY_ITEM:
		server->item_bytes = option_size("item-size", arg, 1, HAUL_CACHE_OBJECT_MAX, state);
		return 0;
	case KEY_ACK:
		server->ack_buffered = option_name("ack", arg, acks, state) == 1;
		return 0;
	default:
		return parse_cache(key, arg, state);
	}
}

/* Wait for SIGINT or SIGTERM, which all threads have blocked. */
static void wait_for_signal(const sigset_t *signals)
{
	int number;
	while (sigwait(signals, &number) != 0)
		;
}

static int serve(const struct request *request)
{
	struct server *server = NULL;
	struct haul_err err = { 0 };
	sigset_t signals;
	stop_block(&signals);
	int rc = server_open(&server, &request->server, &err);
	if (rc < 0)
		return cli_fail("cache", &err);
	for (uint32_t i = 0; server_address(server, i); i++)
		printf("haul: cache: %s on %s\n", request->server.path, server_address(server, i));
	(void)cli_flush();
	wait_for_signal(&signals);
	(void)sigprocmask(SIG_UNBLOCK, &signals, NULL); /* a second one kills */
	rc = server_close(server);
	return rc < 0 ? cli_fail_code("cache", request->server.path, rc) : CLI_OK;
}

int cache_serve(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "listen", 'l', "ADDR:PORT", 0,
		  "listen there; may be given several times (127.0.0.1:11211; port 0: any, and "
		  "told; *:PORT: all addresses)",
		  0 },
		{ "unix", KEY_UNIX, "PATH", 0, "and on a Unix socket", 0 },
		{ "threads", 't', "N", 0, "threads, at most one a partition (one a CPU)", 0 },
		{ "connections", 'c', "N", 0, "at a time (1024)", 0 },
		{ "item-size", KEY_ITEM, "SIZE", 0, "largest value (64Mi)", 0 },
		{ "memory", KEY_MEMORY, "SIZE", 0, "RAM for values that are read again (64Mi)", 0 },
		{ "buffer", KEY_BUFFER, "SIZE", 0, "write buffers in all (24Mi a partition)", 0 },
		{ "ack", KEY_ACK, "WHEN", 0,
		  "durable: what was answered is on the disk; buffered: it will be (durable)", 0 },
		{ "policy", KEY_POLICY, "NAME", 0, "s3fifo or lru (s3fifo)", 0 },
		{ "codec", KEY_CODEC, "NAME", 0, "none, lz4 or zstd (none)", 0 },
		{ "engine", KEY_ENGINE, "NAME", 0, "auto, io_uring or threads (auto)", 0 },
		{ "write-budget", KEY_BUDGET, "SIZE", 0, "bytes a second at most (none)", 0 },
		{ "pinned", KEY_PINNED, "PERCENT", 0, "of the segments at most (25)", 0 },
		{ "slice", KEY_SLICE, "SIZE", 0, "longer values are cut (256Ki)", 0 },
		{ "sync-us", KEY_SYNC, "N", 0, "each sync takes so much longer (to compare disks)",
		  0 },
		{ 0 },
	};
	static const struct argp argp = {
		options,
		parse,
		"FILE|DEVICE",
		"Let memcached clients use a cache: text and meta protocols, multi-get as one "
		"batch of reads. With --ack durable a client that was told STORED finds it after "
		"a crash; stores with noreply are buffered and go with the next flush.\v"
		"SIGINT or SIGTERM: answers what was asked, flushes, and ends.\n\n"
		"Examples:\n"
		"  haul cache serve cache.bin\n"
		"  haul cache serve cache.bin --listen 127.0.0.1:0 --memory 256Mi --codec lz4\n",
		NULL,
		NULL,
		NULL,
	};
	struct request request = { .words = { .min = 1, .max = 1 },
				   .server = { .version = HAUL_VERSION,
					       .cache = { .ram_bytes = 64 << 20 } } };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request) != 0)
		return CLI_USAGE;
	request.server.path = request.words.word[0];
	if (request.server.listen_count == 0 && !request.server.unix_path)
		request.server.listen[request.server.listen_count++] = "127.0.0.1:11211";
	return serve(&request);
}
