/* haul cache stat: what a cache holds, and how well it batches.
 *
 * A file and a server are brought to one shape first, an object of numbers by the names that a
 * server uses in its answer to `stats`; then ratios are added, and it is shown. */
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
#include "cli/quantity.h"
#include "cli/stop.h"
#include "cli/watch.h"

enum { KEY_JSON = 256, KEY_WATCH, STAT_LINES_MAX = 1000 };

struct request {
	struct option_words words; /* TARGET */
	const char *target;
	struct watch watch;
	bool server;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	(void)arg;
	switch (key) {
	case KEY_JSON:
		request->watch.json = true;
		return 0;
	case KEY_WATCH:
		request->watch.again = true;
		return 0;
	case ARGP_KEY_END:
		(void)option_words(key, &request->words, state);
		request->target = request->words.word[0];
		request->server = cache_is_server(request->target);
		if (request->watch.again && !request->server)
			argp_error(state,
				   "--watch: '%s' is no running server: a file that nobody "
				   "uses does not change",
				   request->target);
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

/* ---- from where ---- */

static void set(json_t *to, const char *name, uint64_t value)
{
	(void)json_object_set_new(to, name, json_integer((json_int_t)value));
}

static void from_stat(json_t *to, const struct haul_cache_stat *stat)
{
	set(to, "curr_items", stat->entries);
	set(to, "entries_max", stat->entries_max);
	set(to, "bytes", stat->stored_bytes);
	set(to, "disk_bytes", stat->disk_bytes);
	set(to, "index_bytes", stat->index_bytes);
	set(to, "ram_bytes", stat->ram_bytes);
	set(to, "buffer_bytes", stat->buffer_bytes);
	set(to, "pending_writes", stat->pending_writes);
	set(to, "buffered_bytes", stat->buffered_bytes);
	set(to, "segments", stat->segments);
	set(to, "segments_free", stat->segments_free);
	set(to, "segments_bad", stat->segments_bad);
	set(to, "segments_pinned", stat->segments_pinned);
	set(to, "batch_bytes_target", stat->batch_bytes_target);
	set(to, "gap_target", stat->gap_target);
	set(to, "partitions", stat->partitions);
	set(to, "partitions_offline", stat->offline);
	set(to, "sync_ns", (uint64_t)stat->model.sync_ns);
	set(to, "write_bandwidth", (uint64_t)stat->model.write_bandwidth);
	set(to, "read_bandwidth", (uint64_t)stat->model.read_bandwidth);
	set(to, "read_iops", (uint64_t)stat->model.read_iops);
	(void)json_object_set_new(to, "engine",
				  json_string(stat->engine != NULL ? stat->engine : "none"));
}

static int from_file(const struct request *request, json_t *to)
{
	struct haul_cache *cache = NULL;
	struct haul_cache_stat stat;
	if (cache_open_file(&cache, request->target, true) != CLI_OK)
		return CLI_FAILED;
	haul_cache_stat(cache, &stat);
	(void)haul_cache_close(cache);
	from_stat(to, &stat);
	return CLI_OK;
}

/* "STAT name value": a number where it is one. */
static bool from_line(json_t *to, const char *line)
{
	char name[CLIENT_LINE];
	const char *value = strncmp(line, "STAT ", 5) == 0 ? strchr(line + 5, ' ') : NULL;
	char *end = NULL;
	if (value == NULL)
		return false;
	size_t bytes = (size_t)(value - line - 5);
	memcpy(name, line + 5, bytes);
	name[bytes] = '\0';
	value++;
	long long number = strtoll(value, &end, 10);
	(void)json_object_set_new(to, name,
				  *value != '\0' && *end == '\0' ? json_integer(number)
								 : json_string(value));
	return true;
}

static int from_server(const struct request *request, json_t *to)
{
	static struct client client;
	struct haul_err err = { 0 };
	uint32_t lines = 0;
	int rc = client_open(&client, request->target, &err);
	if (rc < 0)
		return cli_fail("cache", &err);
	rc = client_printf(&client, "stats\r\n");
	const char *line = rc < 0 ? NULL : client_line(&client);
	while (line != NULL && from_line(to, line) && lines++ < STAT_LINES_MAX)
		line = client_line(&client);
	client_close(&client);
	if (line != NULL && !strcmp(line, "END"))
		return CLI_OK;
	(void)client_refused(&client, line);
	return cli_fail("cache", &err);
}

/* ---- what follows from it ---- */

static double number(const json_t *from, const char *name)
{
	return json_number_value(json_object_get(from, name));
}

static void set_ratio(json_t *to, const char *name, double above, double below)
{
	if (below > 0)
		(void)json_object_set_new(to, name, json_real(above / below));
}

static void add_ratios(json_t *to)
{
	const double hits = number(to, "get_hits");
	set_ratio(to, "hit_ratio", hits, hits + number(to, "get_misses"));
	set_ratio(to, "ram_hit_ratio", number(to, "ram_hits"), hits);
	set_ratio(to, "ops_per_flush", number(to, "flush_ops"), number(to, "flushes"));
	set_ratio(to, "bytes_per_flush", number(to, "flush_bytes"), number(to, "flushes"));
	set_ratio(to, "keys_per_read", number(to, "read_keys"), number(to, "read_ops"));
	set_ratio(to, "gap_ratio", number(to, "read_gap_bytes"), number(to, "read_bytes"));
	set_ratio(to, "write_amplification", number(to, "device_bytes"), number(to, "flush_bytes"));
}

/* ---- shown ---- */

static void show_memory(const json_t *from, const char *label, const char *name)
{
	char text[QUANTITY_TEXT];
	printf("%-24s %s\n", label, quantity_memory_text((uint64_t)number(from, name), text));
}

static void show_number(const json_t *from, const char *label, const char *name)
{
	printf("%-24s %.0f\n", label, number(from, name));
}

static void show_ratio(const json_t *from, const char *label, const char *name, bool percent)
{
	if (json_object_get(from, name) == NULL)
		printf("%-24s -\n", label);
	else if (percent)
		printf("%-24s %.1f %%\n", label, 100 * number(from, name));
	else
		printf("%-24s %.2f\n", label, number(from, name));
}

static void show_contents(const json_t *from)
{
	char bytes[QUANTITY_TEXT];
	printf("%-24s %.0f of at most %.0f\n", "entries", number(from, "curr_items"),
	       number(from, "entries_max"));
	show_memory(from, "bytes of values", "bytes");
	printf("%-24s %s in %.0f segments, %.0f free, %.0f bad, %.0f pinned\n", "disk",
	       quantity_memory_text((uint64_t)number(from, "disk_bytes"), bytes),
	       number(from, "segments"), number(from, "segments_free"),
	       number(from, "segments_bad"), number(from, "segments_pinned"));
	printf("%-24s %.0f, %.0f offline\n", "partitions", number(from, "partitions"),
	       number(from, "partitions_offline"));
	show_memory(from, "memory of the index", "index_bytes");
	show_number(from, "pending writes", "pending_writes");
	show_memory(from, "buffered bytes", "buffered_bytes");
}

static void show_reasons(const json_t *from)
{
	static const char prefix[] = "flushed_by_";
	const char *name = NULL;
	const json_t *count = NULL;
	printf("%-24s", "flush reasons");
	json_object_foreach((json_t *)(uintptr_t)from, name, count)
	{
		if (strncmp(name, prefix, sizeof prefix - 1) == 0)
			printf(" %s %" JSON_INTEGER_FORMAT, name + sizeof prefix - 1,
			       json_integer_value(count));
	}
	printf("\n");
}

static void show_work(const json_t *from)
{
	show_number(from, "flushes", "flushes");
	show_ratio(from, "operations a flush", "ops_per_flush", false);
	show_ratio(from, "bytes a flush", "bytes_per_flush", false);
	show_reasons(from);
	show_number(from, "syncs", "syncs");
	show_ratio(from, "write amplification", "write_amplification", false);
	show_ratio(from, "keys a read", "keys_per_read", false);
	show_ratio(from, "read for nothing", "gap_ratio", true);
	show_ratio(from, "hits", "hit_ratio", true);
	show_ratio(from, "hits in memory", "ram_hit_ratio", true);
	printf("%-24s %.0f evicted, %.0f refused, %.0f failed, %.0f corrupt, %.0f unreadable\n",
	       "entries lost", number(from, "evictions"), number(from, "refused"),
	       number(from, "failed"), number(from, "corrupt"), number(from, "unreadable"));
}

static void show_disk(const json_t *from)
{
	char sync[QUANTITY_TEXT];
	if (json_object_get(from, "sync_ns") == NULL)
		return;
	printf("%-24s a sync takes %s, writes %.0f MB/s, reads %.0f MB/s and %.0f a second\n",
	       "disk model", quantity_duration_text((int64_t)number(from, "sync_ns"), sync),
	       number(from, "write_bandwidth") / 1e6, number(from, "read_bandwidth") / 1e6,
	       number(from, "read_iops"));
}

static int show(const void *arg)
{
	const struct request *request = arg;
	json_t *root = json_object();
	int code = request->server ? from_server(request, root) : from_file(request, root);
	if (code == CLI_OK)
		add_ratios(root);
	if (code == CLI_OK && request->watch.json) {
		watch_put(&request->watch, root);
	} else if (code == CLI_OK) {
		show_contents(root);
		if (request->server)
			show_work(root);
		show_disk(root);
	}
	json_decref(root);
	return code;
}

int cache_stat(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "json", KEY_JSON, NULL, 0, "one object; with --watch one a line", 0 },
		{ "watch", KEY_WATCH, NULL, 0, "of a server: again every second", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "TARGET",
		.doc = "What a cache holds and has pending; of a running server (HOST:PORT or its "
		       "socket) also how large its batches were, why they were flushed, how many "
		       "keys a read served, hit ratios and write amplification. TARGET can be a "
		       "file or device that nobody uses, too.\v"
		       "Examples:\n"
		       "  haul cache stat cache.bin\n"
		       "  haul cache stat 127.0.0.1:11211 --watch\n",
	};
	struct request request = { .words = { .min = 1, .max = 1 } };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	stop_catch();
	return watch_show(&request.watch, show, &request);
}
