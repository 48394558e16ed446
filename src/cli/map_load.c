/* haul map load and upsert: many entries from a file into a map, a chunk a call. */
#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/map.h"
#include "cli/map_source.h"
#include "cli/stop.h"

enum { CHUNK = 4096, CHUNK_BYTES = 8 << 20, SHOWN_MAX = 10 };

struct load {
	struct map_request *request;
	const char *path;
	bool exact; /* upsert */
	struct map_source source;
	uint8_t *keys, *values;
	int *status;
	uint64_t *lines;
	uint32_t count, room;
	uint64_t expected; /* 0 = unknown */
	uint64_t read, done, inserted, updated, kept, bad;
};

static bool is_of_maps(const struct haul_map_info *info)
{
	return info->type == BPF_MAP_TYPE_HASH_OF_MAPS || info->type == BPF_MAP_TYPE_ARRAY_OF_MAPS;
}

static int load_alloc(struct load *load)
{
	const struct haul_map_info *info = load->request->info;
	uint64_t bytes = (uint64_t)info->key_size + info->slot_bytes;
	load->room = bytes * CHUNK > CHUNK_BYTES ? (uint32_t)(CHUNK_BYTES / bytes) + 1 : CHUNK;
	load->keys = calloc(load->room, info->key_size);
	load->values = calloc(load->room, info->slot_bytes);
	load->status = calloc(load->room, sizeof *load->status);
	load->lines = calloc(load->room, sizeof *load->lines);
	return load->keys != NULL && load->values != NULL && load->status != NULL &&
			       load->lines != NULL
		       ? 0
		       : -ENOMEM;
}

static void load_free(struct load *load)
{
	free(load->keys);
	free(load->values);
	free(load->status);
	free(load->lines);
}

static void say(struct load *load, uint64_t line, const char *text)
{
	if (++load->bad > SHOWN_MAX && load->request->keep_going)
		return;
	progress_wipe(&load->request->progress);
	fprintf(stderr, "haul: map: %s:%" PRIu64 ": %s\n",
		!strcmp(load->path, "-") ? "stdin" : load->path, line, text);
}

static const char *reason(const struct map_request *request, int status, char text[HAUL_MAP_TEXT])
{
	if (status != -E2BIG)
		return haul_strerror(status);
	snprintf(text, HAUL_MAP_TEXT, "the map is full (%u entries)", request->info->max_entries);
	return text;
}

/* Inner maps are listed by id, and put by descriptor. */
static void open_inner(struct load *load)
{
	for (uint32_t i = 0; i < load->count; i++) {
		uint8_t *value = load->values + (size_t)i * load->request->info->slot_bytes;
		uint32_t id;
		memcpy(&id, value, sizeof id);
		int fd = bpf_map_get_fd_by_id(id);
		memcpy(value, &fd, sizeof fd);
	}
}

static void close_inner(struct load *load)
{
	for (uint32_t i = 0; i < load->count; i++) {
		int fd;
		memcpy(&fd, load->values + (size_t)i * load->request->info->slot_bytes, sizeof fd);
		if (fd >= 0)
			(void)close(fd);
	}
}

static bool is_kept(const struct load *load, int status)
{
	return (load->request->mode == HAUL_MAP_ONLY_NEW && status == -EEXIST) ||
	       (load->request->mode == HAUL_MAP_ONLY_EXISTING && status == -ENOENT);
}

static uint64_t plus(uint64_t sum, uint64_t count)
{
	return sum == HAUL_MAP_UNKNOWN || count == HAUL_MAP_UNKNOWN ? HAUL_MAP_UNKNOWN
								    : sum + count;
}

/* Count and tell what became of the rows. Returns the first failure. */
static int tell_rows(struct load *load)
{
	char text[HAUL_MAP_TEXT];
	int first = 0;
	for (uint32_t i = 0; i < load->count; i++) {
		int status = load->status[i];
		if (status == 0 || is_kept(load, status))
			continue;
		if (status == -ECANCELED && !load->request->keep_going)
			continue;
		if (first == 0 || load->request->keep_going)
			say(load, load->lines[i], reason(load->request, status, text));
		first = first == 0 ? status : first;
	}
	return first;
}

static int put_rows(struct load *load, uint32_t from)
{
	const struct haul_map_info *info = load->request->info;
	struct haul_map_result result = { 0 };
	struct haul_map_rows rows = { .count = load->count - from,
				      .keys = load->keys + (size_t)from * info->key_size,
				      .values = load->values + (size_t)from * info->slot_bytes,
				      .status = load->status + from };
	int rc = load->exact
			 ? haul_map_upsert(load->request->map, &rows, &result)
			 : haul_map_update(load->request->map, &rows, load->request->mode, &result);
	load->done += result.done;
	load->inserted = plus(load->inserted, result.inserted);
	load->updated = plus(load->updated, result.updated);
	load->kept += result.kept;
	return rc;
}

/* The rows behind a failure were not reached: with --keep-going they get their turn. */
static int put_all(struct load *load)
{
	uint32_t from = 0;
	int rc = put_rows(load, from);
	while (rc < 0 && load->request->keep_going) {
		uint32_t next = from;
		while (next < load->count && load->status[next] != -ECANCELED)
			next++;
		if (next == load->count || next == from)
			return 0;
		from = next;
		rc = put_rows(load, from);
	}
	return rc;
}

static int flush(struct load *load)
{
	bool inner = is_of_maps(load->request->info);
	if (load->count == 0)
		return 0;
	if (load->read == load->count)
		map_explain(load->request, load->exact ? HAUL_MAP_OP_UPSERT : HAUL_MAP_OP_UPDATE,
			    load->count);
	if (inner)
		open_inner(load);
	memset(load->status, 0, load->count * sizeof *load->status);
	int rc = put_all(load);
	if (inner)
		close_inner(load);
	int told = tell_rows(load);
	load->count = 0;
	progress_show(&load->request->progress, load->read, load->expected);
	if (load->request->keep_going)
		return 0;
	if (rc < 0 && told == 0)
		return map_op_fail(load->request, rc);
	return told;
}

/* All of the file: put it, or only look whether it is good. */
static int pass(struct load *load, bool apply)
{
	struct haul_err err = { 0 };
	const struct haul_map_info *info = load->request->info;
	int rc = map_source_open(&load->source, load->request, load->path, &err);
	if (rc < 0)
		return cli_fail("map", &err) == 0 ? 0 : rc;
	while (rc >= 0 && !stop_asked()) {
		uint8_t *key = load->keys + (size_t)load->count * info->key_size;
		uint8_t *value = load->values + (size_t)load->count * info->slot_bytes;
		rc = map_source_next(&load->source, key, value, &err);
		if (rc == 0)
			break;
		if (rc < 0) {
			if (apply || !load->request->keep_going)
				say(load, load->source.line, err.text);
			bool again = load->request->keep_going && rc != -EIO && rc != -ENOMEM &&
				     rc != HAUL_ESHORT && load->source.kind != MAP_SOURCE_ARRAY;
			rc = again ? 0 : rc;
			continue;
		}
		load->read++;
		load->lines[load->count] = load->source.line;
		load->count += apply;
		if (load->count == load->room)
			rc = flush(load);
	}
	if (apply && (rc >= 0 || load->count > 0)) {
		int flushed = flush(load);
		rc = rc < 0 ? rc : flushed;
	}
	map_source_close(&load->source);
	return rc;
}

static void print_done(const struct load *load)
{
	bool known = load->inserted != HAUL_MAP_UNKNOWN && load->updated != HAUL_MAP_UNKNOWN;
	if (load->request->format == MAP_JSON) {
		printf("{\"done\": %" PRIu64, load->done);
		if (known)
			printf(", \"inserted\": %" PRIu64 ", \"updated\": %" PRIu64, load->inserted,
			       load->updated);
		printf(", \"kept\": %" PRIu64 ", \"failed\": %" PRIu64 "}\n", load->kept,
		       load->bad);
		return;
	}
	printf("%" PRIu64 " entries put", load->done);
	if (known)
		printf(": %" PRIu64 " inserted, %" PRIu64 " updated", load->inserted,
		       load->updated);
	if (load->kept > 0)
		printf(", %" PRIu64 " left as they were", load->kept);
	if (load->bad > 0)
		printf(", %" PRIu64 " bad or refused", load->bad);
	printf("\n");
}

static int run(struct load *load)
{
	int rc = load_alloc(load);
	if (rc < 0)
		return cli_fail_code("map", "load", rc);
	progress_begin(&load->request->progress, load->request->name, "entries",
		       load->request->quiet);
	/* what can be read twice is checked first, so that a bad line changes nothing */
	if (strcmp(load->path, "-") != 0 && !load->request->keep_going) {
		if (pass(load, false) < 0) {
			fprintf(stderr, "haul: map: nothing was changed; --keep-going skips bad "
					"lines\n");
			return CLI_FAILED;
		}
		load->expected = load->read;
		load->read = 0;
	}
	rc = stop_asked() ? 0 : pass(load, true);
	progress_end(&load->request->progress);
	print_done(load);
	if (stop_asked())
		fprintf(stderr, "haul: map: stopped; what is said above was put\n");
	return rc < 0 || load->bad > 0 || stop_asked() ? CLI_FAILED : CLI_OK;
}

static int load_file(struct map_request *request, bool exact)
{
	struct load load = { .request = request,
			     .exact = exact,
			     .path = request->arg_count > 1 ? request->args[1] : "-" };
	if (map_begin(request) != CLI_OK)
		return CLI_FAILED;
	int code = run(&load);
	load_free(&load);
	map_end(request);
	return code;
}

int map_load(struct map_request *request)
{
	return load_file(request, false);
}

int map_upsert(struct map_request *request)
{
	return load_file(request, true);
}
