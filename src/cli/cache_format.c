/* haul cache format: make a cache, and say what that destroys. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cache.h"
#include "cli/option.h"
#include "cli/progress.h"
#include "cli/quantity.h"
#include "cli/stop.h"

enum {
	KEY_SIZE = 256,
	KEY_PARTITIONS,
	KEY_SEGMENT,
	KEY_ENTRIES,
	KEY_FORCE,
	KEY_QUIET,
	KEY_JSON,
	PARTITIONS_MAX = 64,
	SEGMENT_MIN = 65536,
	SEGMENT_MAX = 1 << 26
};

struct request {
	struct option_words words; /* FILE */
	struct haul_cache_format format;
	struct progress progress;
	bool quiet, json;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	struct haul_cache_format *format = &request->format;
	switch (key) {
	case KEY_SIZE:
		format->bytes = option_size("size", arg, 1, INT64_MAX, state);
		return 0;
	case KEY_PARTITIONS:
		format->partitions =
			(uint32_t)option_number("partitions", arg, 1, PARTITIONS_MAX, state);
		return 0;
	case KEY_SEGMENT:
		format->segment_bytes =
			(uint32_t)option_size("segment", arg, SEGMENT_MIN, SEGMENT_MAX, state);
		if ((format->segment_bytes & (format->segment_bytes - 1)) != 0)
			argp_error(state, "--segment '%s': wanted is a power of two, as in 4Mi",
				   arg);
		return 0;
	case KEY_ENTRIES:
		format->entries_max = option_size("entries", arg, 1, UINT32_MAX, state);
		return 0;
	case KEY_FORCE:
		format->force = true;
		return 0;
	case KEY_QUIET:
		request->quiet = true;
		return 0;
	case KEY_JSON:
		request->json = true;
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

static int format(struct request *request, struct haul_err *err)
{
	progress_begin(&request->progress, "format", "bytes", request->quiet);
	int rc = haul_cache_format(request->words.word[0], &request->format, err);
	progress_end(&request->progress);
	return rc;
}

static int print_made(const struct request *request)
{
	struct haul_cache *cache = NULL;
	struct haul_cache_stat stat;
	char size[QUANTITY_TEXT], sync[QUANTITY_TEXT];
	if (cache_open_file(&cache, request->words.word[0], true) != CLI_OK)
		return CLI_FAILED;
	haul_cache_stat(cache, &stat);
	(void)haul_cache_close(cache);
	if (request->json)
		printf("{\"bytes\": %" PRIu64 ", \"partitions\": %u, \"segments\": %" PRIu64
		       ", \"entries_max\": %" PRIu64 ", \"index_bytes\": %" PRIu64
		       ", \"sync_ns\": %.0f, \"write_bandwidth\": %.0f, \"read_bandwidth\": %.0f"
		       ", \"read_iops\": %.0f}\n",
		       stat.disk_bytes, stat.partitions, stat.segments, stat.entries_max,
		       stat.index_bytes, stat.model.sync_ns, stat.model.write_bandwidth,
		       stat.model.read_bandwidth, stat.model.read_iops);
	else if (!request->quiet)
		printf("%s: a cache of %s: %u partitions, %" PRIu64 " segments, at most %" PRIu64
		       " entries\n"
		       "disk model: a sync takes %s, writes %.0f MB/s, reads %.0f MB/s and %.0f "
		       "operations a second\n",
		       request->words.word[0], quantity_memory_text(stat.disk_bytes, size),
		       stat.partitions, stat.segments, stat.entries_max,
		       quantity_duration_text((int64_t)stat.model.sync_ns, sync),
		       stat.model.write_bandwidth / 1e6, stat.model.read_bandwidth / 1e6,
		       stat.model.read_iops);
	return CLI_OK;
}

/* From "FILE holds …: format would destroy it". */
static void print_destroyed(const struct request *request, const char *refusal)
{
	const char *holds = strstr(refusal, " holds ");
	const char *end = holds != NULL ? strstr(holds, ": format") : NULL;
	if (end != NULL)
		fprintf(stderr, "haul: cache: destroyed: %s%.*s\n", request->words.word[0],
			(int)(end - holds), holds);
}

int cache_format(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "size", KEY_SIZE, "SIZE", 0,
		  "of the file, as in 8G or 512Mi; not needed for a device, or a file that has its "
		  "size",
		  0 },
		{ "partitions", KEY_PARTITIONS, "N", 0,
		  "threads that can work at a time, 1 to 64; default: one a CPU", 0 },
		{ "segment", KEY_SEGMENT, "SIZE", 0,
		  "of which the log is made, 64Ki to 64Mi, a power of two; default: by size", 0 },
		{ "entries", KEY_ENTRIES, "N", 0,
		  "at most, 24 to 30 bytes of memory each; default: one for each 4 KiB", 0 },
		{ "force", KEY_FORCE, NULL, 0, "destroy what is there", 0 },
		{ "quiet", KEY_QUIET, NULL, 0, "no progress, and no summary", 0 },
		{ "json", KEY_JSON, NULL, 0, "what was made, as JSON", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FILE|DEVICE",
		.doc = "Make a cache on a file or block device. What is not empty is refused, with "
		       "a word on what it holds. All of a file is written once, so that it has its "
		       "place on the disk; then the disk is measured.\v"
		       "Examples:\n"
		       "  haul cache format cache.bin --size 8G\n"
		       "  sudo haul cache format /dev/nvme1n1 --force\n",
	};
	struct request request = { .words = { .min = 1, .max = 1 } };
	struct haul_err err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	const bool force = request.format.force;
	request.format.progress = stop_progress;
	request.format.arg = &request.progress;
	stop_catch();
	/* first without force: it says what is there */
	request.format.force = false;
	int rc = format(&request, &err);
	if (rc == -EEXIST && force) {
		const struct haul_err held = err;
		request.format.force = true;
		rc = format(&request, &err);
		if (rc >= 0 && !request.quiet)
			print_destroyed(&request, held.text);
	}
	if (rc > 0) {
		fprintf(stderr, "haul: cache: stopped: %s is no cache now\n",
			request.words.word[0]);
		return CLI_FAILED;
	}
	return rc < 0 ? cli_fail("cache", &err) : print_made(&request);
}
