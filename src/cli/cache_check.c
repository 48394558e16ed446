/* haul cache check: verify every entry, and say what is damaged. */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/cache.h"
#include "cli/option.h"
#include "cli/progress.h"
#include "cli/quantity.h"
#include "cli/stop.h"

enum { KEY_REPAIR = 256, KEY_ALL, KEY_JSON, KEY_QUIET };

struct request {
	struct option_words words; /* FILE */
	bool repair, all, json, quiet;
	struct progress progress;
	json_t *entries;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct request *request = state->input;
	(void)arg;
	switch (key) {
	case KEY_REPAIR:
		request->repair = true;
		return 0;
	case KEY_ALL:
		request->all = true;
		return 0;
	case KEY_JSON:
		request->json = true;
		return 0;
	case KEY_QUIET:
		request->quiet = true;
		return 0;
	default:
		return option_words(key, &request->words, state);
	}
}

static int show_progress(uint64_t done, uint64_t total, void *arg)
{
	struct request *request = arg;
	return stop_progress(done, total, &request->progress);
}

/* What cannot be shown is shown as its code, so that no key moves the terminal's cursor. */
static void print_key(const struct haul_cache_listed *entry)
{
	if (entry->key_bytes == 0)
		printf("(key unknown)");
	for (uint32_t i = 0; i < entry->key_bytes; i++) {
		const unsigned char byte = (unsigned char)entry->key[i];
		if (byte < ' ' || byte == '\\' || byte == 127)
			printf("\\x%02x", byte);
		else
			putchar(byte);
	}
}

static void list_json(struct request *request, const struct haul_cache_listed *entry)
{
	json_t *one = json_object();
	if (entry->key_bytes > 0)
		cache_json_set(one, (struct cache_json_name){ "key", "key_hex" }, entry->key,
			       entry->key_bytes);
	else
		(void)json_object_set_new(one, "key", json_null()); /* unknown */
	json_t *rest = json_pack("{s:s, s:I, s:i, s:i, s:i, s:i, s:I}", "status",
				 haul_cache_status_name(entry->status), "bytes",
				 (json_int_t)entry->value_bytes, "slice", (int)entry->slice,
				 "partition", (int)entry->partition, "segment", (int)entry->segment,
				 "offset", (int)entry->offset, "expiry", (json_int_t)entry->expiry);
	(void)json_object_update(one, rest);
	json_decref(rest);
	(void)json_array_append_new(request->entries, one);
}

static int list_entry(const struct haul_cache_listed *entry, void *arg)
{
	struct request *request = arg;
	if (request->json) {
		list_json(request, entry);
		return stop_asked();
	}
	progress_wipe(&request->progress);
	print_key(entry);
	if (entry->slice > 0)
		printf(" slice %u", entry->slice);
	printf(": %s (%" PRIu64 " bytes, partition %u, segment %u, offset %u)\n",
	       entry->status == HAUL_CACHE_HIT ? "good" : haul_cache_status_name(entry->status),
	       entry->value_bytes, entry->partition, entry->segment, entry->offset);
	return stop_asked();
}

static void print_text(const struct request *request, const struct haul_cache_checked *checked)
{
	char bytes[QUANTITY_TEXT];
	printf("%s: %" PRIu64 " entries, %s: ", request->words.word[0], checked->entries,
	       quantity_memory_text(checked->bytes, bytes));
	if (checked->damaged == 0 && checked->structures == 0)
		printf("all good\n");
	else
		printf("%" PRIu64 " entries and %" PRIu64 " structures damaged, %" PRIu64
		       " repaired\nfirst: %s\n",
		       checked->damaged, checked->structures, checked->repaired, checked->first);
	if (checked->torn > 0)
		printf("%" PRIu64 " batches of the last flush were not finished: no damage, nobody "
		       "was told that they are durable\n",
		       checked->torn);
}

static void print_json(const struct request *request, const struct haul_cache_checked *checked)
{
	json_t *root = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:O}", "entries",
				 (json_int_t)checked->entries, "bytes", (json_int_t)checked->bytes,
				 "damaged", (json_int_t)checked->damaged, "structures",
				 (json_int_t)checked->structures, "repaired",
				 (json_int_t)checked->repaired, "torn", (json_int_t)checked->torn,
				 "first", checked->first, "listed", request->entries);
	(void)json_dumpf(root, stdout, JSON_INDENT(1));
	printf("\n");
	json_decref(root);
}

int cache_check(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{ "repair", KEY_REPAIR, NULL, 0, "drop what is broken, and nothing else", 0 },
		{ "all", KEY_ALL, NULL, 0, "list good entries, too", 0 },
		{ "json", KEY_JSON, NULL, 0, "one JSON document", 0 },
		{ "quiet", KEY_QUIET, NULL, 0, "no progress on stderr", 0 },
		{ 0 },
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FILE|DEVICE",
		.doc = "Read every entry that is live, verify it against its checksum, and list "
		       "what is damaged. The exit code is 1 when something is, and was not "
		       "repaired. Nothing else may use the cache meanwhile.\v"
		       "Examples:\n"
		       "  haul cache check cache.bin\n"
		       "  haul cache check cache.bin --repair\n",
	};
	struct request request = { .words = { .min = 1, .max = 1 } };
	struct haul_cache_checked checked = { 0 };
	struct haul_err err = { 0 };
	if (argp_parse(&argp, argc, argv, 0, NULL, &request))
		return CLI_USAGE;
	const struct haul_cache_check check = {
		.repair = request.repair,
		.entry = list_entry,
		.all = request.all,
		.progress = show_progress,
		.arg = &request,
	};
	request.entries = json_array();
	stop_catch();
	progress_begin(&request.progress, "check", "bytes", request.quiet);
	int rc = haul_cache_check(request.words.word[0], &check, &checked, &err);
	progress_end(&request.progress);
	if (rc == 0 && request.json)
		print_json(&request, &checked);
	else if (rc == 0)
		print_text(&request, &checked);
	json_decref(request.entries);
	if (rc < 0)
		return cli_fail("cache", &err);
	if (rc > 0) {
		fprintf(stderr, "haul: cache: stopped: not all of %s was checked\n",
			request.words.word[0]);
		return CLI_FAILED;
	}
	const bool damage = checked.damaged + checked.structures > checked.repaired;
	return damage ? CLI_FAILED : CLI_OK;
}
