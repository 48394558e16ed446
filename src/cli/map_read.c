/* haul map list, dump, get and count. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/map.h"
#include "cli/map_keys.h"
#include "cli/map_out.h"
#include "cli/map_relay.h"
#include "cli/quantity.h"
#include "cli/stop.h"

enum { STOPPED = 1, ENOUGH = 2, SHOWN_MAX = 10, LIST_START = 64 };

/* ---- list ---- */

struct listing {
	struct haul_map_info *infos;
	uint32_t count, room;
};

/* All of them first: to count the entries of one makes maps of our own. */
static int collect(const struct haul_map_info *info, void *arg)
{
	struct listing *listing = arg;
	if (listing->count == listing->room) {
		uint32_t room = listing->room > 0 ? 2 * listing->room : LIST_START;
		struct haul_map_info *grown = realloc(listing->infos, room * sizeof *grown);
		if (grown == NULL)
			return -ENOMEM;
		listing->infos = grown;
		listing->room = room;
	}
	listing->infos[listing->count++] = *info;
	return stop_asked() ? STOPPED : 0;
}

/* HAUL_MAP_UNKNOWN: cannot be told. */
static uint64_t entries_of(const struct haul_map_info *info)
{
	struct haul_map *map;
	struct haul_map_result result;
	uint64_t count = HAUL_MAP_UNKNOWN;
	char id[16];
	snprintf(id, sizeof id, "%u", info->id);
	if (haul_map_open(&map, id, NULL, NULL) < 0)
		return HAUL_MAP_UNKNOWN;
	if (haul_map_count(map, &count, &result) < 0)
		count = HAUL_MAP_UNKNOWN;
	haul_map_close(map);
	return count;
}

static int list_json(const struct map_request *request, const struct listing *listing)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < listing->count; i++) {
		const struct haul_map_info *info = &listing->infos[i];
		uint64_t entries = request->all ? entries_of(info) : HAUL_MAP_UNKNOWN;
		json_t *map = json_pack(
			"{s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:b}", "id", (json_int_t)info->id,
			"type", haul_map_type_name(info->type), "name", info->name, "key_size",
			(json_int_t)info->key_size, "value_size", (json_int_t)info->value_size,
			"max_entries", (json_int_t)info->max_entries, "memory_bytes",
			(json_int_t)info->memory_bytes, "btf", info->btf_id != 0, "frozen",
			info->frozen);
		if (entries != HAUL_MAP_UNKNOWN)
			(void)json_object_set_new(map, "entries",
						  json_integer((json_int_t)entries));
		(void)json_array_append_new(list, map);
	}
	int failed = json_dumpf(list, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(list);
	return failed ? CLI_FAILED : CLI_OK;
}

static int list_text(const struct map_request *request, const struct listing *listing)
{
	char entries[QUANTITY_TEXT] = "", memory[QUANTITY_TEXT];
	if (listing->count == 0)
		fprintf(stderr, "haul: map: this kernel has no maps\n");
	else
		printf("%6s  %-18s %-15s %6s %6s %10s%s %10s  %s\n", "ID", "TYPE", "NAME", "KEY",
		       "VALUE", "MAX", request->all ? "    ENTRIES" : "", "MEMORY", "BTF");
	for (uint32_t i = 0; i < listing->count && !stop_asked(); i++) {
		const struct haul_map_info *info = &listing->infos[i];
		uint64_t count = request->all ? entries_of(info) : HAUL_MAP_UNKNOWN;
		if (request->all)
			snprintf(entries, sizeof entries, " %10s", "-");
		if (count != HAUL_MAP_UNKNOWN)
			snprintf(entries, sizeof entries, " %10" PRIu64, count);
		printf("%6u  %-18s %-15s %6u %6u %10u%s %10s  %s%s\n", info->id,
		       haul_map_type_name(info->type), info->name[0] != '\0' ? info->name : "-",
		       info->key_size, info->value_size, info->max_entries, entries,
		       info->memory_bytes != 0 ? quantity_memory_text(info->memory_bytes, memory)
					       : "-",
		       info->btf_id != 0 ? "yes" : "no", info->frozen ? ", frozen" : "");
	}
	return CLI_OK;
}

int map_list(struct map_request *request)
{
	struct listing listing = { 0 };
	struct haul_err err = { 0 };
	int rc = haul_map_each(collect, &listing, &err);
	int code = CLI_FAILED;
	if (rc < 0 && err.code != 0)
		(void)cli_fail("map", &err);
	else if (rc < 0)
		(void)cli_fail_code("map", "list", rc);
	else
		code = request->format == MAP_JSON ? list_json(request, &listing)
						   : list_text(request, &listing);
	free(listing.infos);
	return code;
}

/* ---- dump ---- */

struct dump {
	struct map_request *request;
	struct map_out out;
	struct map_relay relay;
	_Atomic uint64_t visited; /* by the threads of a scan */
	uint64_t expected;
};

static int dump_batch(const struct haul_map_batch *batch, void *arg)
{
	struct dump *dump = arg;
	int rc = map_relay_push(&dump->relay, batch);
	uint64_t visited = atomic_fetch_add(&dump->visited, batch->count) + batch->count;
	if (batch->thread == 0)
		progress_show(&dump->request->progress, visited, dump->expected);
	if (rc == 0 && stop_asked())
		rc = STOPPED;
	return rc;
}

static void print_count(const char *name, uint64_t count)
{
	if (count == HAUL_MAP_UNKNOWN)
		fprintf(stderr, ", %s unknown", name);
	else
		fprintf(stderr, ", %s %" PRIu64, name, count);
}

static void print_report(const struct haul_map_report *report)
{
	fprintf(stderr, "check: read %" PRIu64, report->read);
	print_count("matched", report->matched);
	print_count("expected", report->expected);
	print_count("after", report->after);
	print_count("duplicates", report->duplicates);
	print_count("overrun", report->overrun);
	print_count("retries", report->retries);
	print_count("evicted", report->evicted);
	print_count("calls", report->calls);
	print_count("fallbacks", report->fallbacks);
	fprintf(stderr, ", engine %s\n", haul_map_engine_name(report->engine));
}

static int dump_all(struct dump *dump)
{
	struct map_request *request = dump->request;
	struct haul_map_scan scan = { .filter = &request->filter,
				      .threads = request->threads,
				      .check = request->check,
				      .visit = dump_batch,
				      .arg = dump };
	struct haul_map_report report = { 0 };
	map_explain(request, HAUL_MAP_OP_SCAN, 0);
	dump->expected = request->filter.count == 0 ? map_expected(request) : 0;
	int rc = map_relay_open(&dump->relay, &dump->out);
	if (rc < 0)
		return rc;
	rc = haul_map_scan(request->map, &scan, &report);
	int written = map_relay_close(&dump->relay);
	rc = rc == 0 ? written : rc;
	progress_end(&request->progress);
	if (request->check)
		print_report(&report);
	return rc;
}

/* A few entries need no walk of the whole map, which is what the kernel engine does. */
static int dump_some(struct dump *dump)
{
	struct map_request *request = dump->request;
	struct haul_map_cursor cursor = { 0 };
	struct haul_map_batch batch;
	struct haul_map_result result;
	int count = 1, rc = 0;
	while (rc == 0 && count > 0) {
		count = haul_map_read(request->map, &cursor, &batch, &result);
		for (int i = 0; rc == 0 && i < count; i++) {
			const void *key = haul_map_key(&batch, (uint32_t)i);
			const void *value = haul_map_value(&batch, (uint32_t)i);
			if (!haul_map_filter_match(request->info, &request->filter, key, value))
				continue;
			rc = map_out_entry(&dump->out, key, value);
			if (rc == 0 && dump->out.printed == request->limit)
				rc = ENOUGH;
		}
		if (rc == 0 && stop_asked())
			rc = STOPPED;
	}
	if (request->explain)
		fprintf(stderr, "engine: %s: --limit reads batch by batch\n",
			haul_map_engine_name(result.engine));
	return count < 0 ? count : rc;
}

int map_dump(struct map_request *request)
{
	struct dump dump = { .request = request };
	if (map_begin(request) != CLI_OK)
		return CLI_FAILED;
	int rc = map_out_begin(&dump.out, request, stdout);
	if (rc < 0) {
		map_end(request);
		return rc == -E2BIG || rc == HAUL_ELIMIT
			       ? cli_fail_code("map", "--csv: too many fields, take --ndjson", rc)
			       : map_op_fail(request, rc);
	}
	progress_begin(&request->progress, "dump", "entries",
		       request->quiet || isatty(STDOUT_FILENO));
	rc = request->limit > 0 && !request->check ? dump_some(&dump) : dump_all(&dump);
	int written = map_out_end(&dump.out);
	map_end(request);
	if (written == -EPIPE)
		return CLI_FAILED; /* whoever reads has had enough */
	if (written < 0)
		return cli_fail_code("map", "standard output", written);
	if (rc < 0)
		return map_op_fail(request, rc);
	if (rc == STOPPED)
		fprintf(stderr, "haul: map: stopped after %" PRIu64 " entries\n", dump.out.printed);
	return rc == STOPPED ? CLI_FAILED : CLI_OK;
}

/* ---- get ---- */

static void say_missing(struct map_request *request, const void *key)
{
	struct map_out out;
	struct map_request text = *request;
	text.format = MAP_TEXT;
	if (map_out_begin(&out, &text, stderr) < 0)
		return;
	map_out_text(&out, "haul: map: no entry with key ");
	map_out_key(&out, key);
	map_out_text(&out, "\n");
	(void)map_out_end(&out);
}

static int print_found(struct map_request *request, const struct map_keys *keys,
		       const struct haul_map_rows *rows)
{
	struct map_out out;
	uint32_t missing = 0;
	int rc = map_out_begin(&out, request, stdout);
	if (rc < 0)
		return map_op_fail(request, rc);
	for (uint32_t i = 0; i < rows->count; i++) {
		const uint8_t *key = map_keys_at(keys, i);
		const uint8_t *value =
			(const uint8_t *)rows->values + (size_t)i * request->info->slot_bytes;
		if (rows->status[i] == 0)
			(void)map_out_entry(&out, key, value);
		else if (request->format == MAP_JSON || request->format == MAP_NDJSON)
			(void)map_out_entry(&out, key, NULL);
		if (rows->status[i] != 0 && missing++ < SHOWN_MAX)
			say_missing(request, key);
	}
	rc = map_out_end(&out);
	if (missing > SHOWN_MAX)
		fprintf(stderr, "haul: map: %u keys of %u have no entry\n", missing, rows->count);
	if (rc < 0 && rc != -EPIPE)
		return cli_fail_code("map", "standard output", rc);
	return missing > 0 || rc < 0 ? CLI_FAILED : CLI_OK;
}

int map_get(struct map_request *request)
{
	struct map_keys keys = { 0 };
	struct haul_map_result result;
	if (map_begin(request) != CLI_OK)
		return CLI_FAILED;
	int code = map_keys_read(&keys, request);
	struct haul_map_rows rows = { .count = keys.count, .keys = keys.data };
	if (code == CLI_OK && keys.count > 0) {
		rows.values = calloc(keys.count, request->info->slot_bytes);
		rows.status = calloc(keys.count, sizeof *rows.status);
		map_explain(request, HAUL_MAP_OP_GET, keys.count);
		int rc = rows.values == NULL || rows.status == NULL
				 ? -ENOMEM
				 : haul_map_get(request->map, &rows, &result);
		code = rc < 0 ? map_op_fail(request, rc) : print_found(request, &keys, &rows);
	}
	free(rows.values);
	free(rows.status);
	map_keys_free(&keys);
	map_end(request);
	return code;
}

/* ---- count ---- */

static int stop_when_asked(const struct haul_map_batch *batch, void *arg)
{
	(void)batch;
	(void)arg;
	return stop_asked() ? STOPPED : 0;
}

/* The kernel engine counts without handing over what it counts; the others look at each entry. */
static int count_matching(struct map_request *request, uint64_t *ret_count)
{
	char why[HAUL_MAP_TEXT];
	struct haul_map_result result;
	struct haul_map_report report = { 0 };
	struct haul_map_aggregate aggregate = { .filter = &request->filter };
	struct haul_map_scan scan = { .filter = &request->filter, .visit = stop_when_asked };
	aggregate.field = request->filter.conditions[0].field;
	map_explain(request, HAUL_MAP_OP_AGGREGATE, 0);
	int rc = -ENOTSUP;
	if (haul_map_explain(request->map, HAUL_MAP_OP_AGGREGATE, 0, why) == HAUL_MAP_KERNEL) {
		rc = haul_map_aggregate(request->map, &aggregate, &result);
		*ret_count = aggregate.count;
	}
	if (rc < 0) {
		rc = haul_map_scan(request->map, &scan, &report);
		*ret_count = report.matched;
	}
	return rc;
}

int map_count(struct map_request *request)
{
	struct haul_map_result result = { 0 };
	uint64_t count = 0;
	int rc;
	if (map_begin(request) != CLI_OK)
		return CLI_FAILED;
	if (request->filter.count > 0) {
		rc = count_matching(request, &count);
	} else {
		map_explain(request, HAUL_MAP_OP_COUNT, 0);
		rc = haul_map_count(request->map, &count, &result);
	}
	map_end(request);
	if (rc < 0)
		return map_op_fail(request, rc);
	if (rc == STOPPED)
		return CLI_FAILED;
	if (request->format == MAP_JSON)
		printf("{\"count\": %" PRIu64 "}\n", count);
	else
		printf("%" PRIu64 "\n", count);
	return CLI_OK;
}
