/* haul map export, import and tune: work that takes its time. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <haul/map_file.h>
#include "cli/map.h"
#include "cli/quantity.h"
#include "cli/stop.h"

enum { STOPPED = 1, BAR = 32 };

static int show(uint64_t done, uint64_t expected, void *arg)
{
	struct map_request *request = arg;
	progress_show(&request->progress, done, expected == HAUL_MAP_UNKNOWN ? 0 : expected);
	return stop_asked() ? STOPPED : 0;
}

static int file_failed(const char *path, const struct haul_err *err)
{
	if (err->code == -EEXIST)
		fprintf(stderr,
			"haul: map: %s; --resume goes on with it, --overwrite replaces it\n",
			err->text);
	else if (strstr(err->text, path) == NULL)
		fprintf(stderr, "haul: map: %s: %s\n", path, err->text);
	else
		return cli_fail("map", err);
	return CLI_FAILED;
}

int map_export(struct map_request *request)
{
	struct haul_err err = { 0 };
	struct haul_map_file_report report = { 0 };
	const char *path = request->args[1];
	struct haul_map_export options = { .block_entries = request->block,
					   .resume = request->resume,
					   .overwrite = request->overwrite,
					   .progress = show,
					   .arg = request };
	char size[QUANTITY_TEXT];
	if (map_begin(request) != CLI_OK)
		return CLI_FAILED;
	map_explain(request, HAUL_MAP_OP_SCAN, 0);
	progress_begin(&request->progress, "export", "entries", request->quiet);
	int rc = haul_map_export(&request->map, 1, path, &options, &report, &err);
	progress_end(&request->progress);
	map_end(request);
	if (rc < 0)
		return file_failed(path, &err);
	if (rc == 0 && request->format == MAP_JSON)
		printf("{\"entries\": %" PRIu64 ", \"blocks\": %" PRIu64 ", \"bytes\": %" PRIu64
		       ", \"resumed\": %" PRIu64 "}\n",
		       report.entries, report.blocks, report.bytes, report.resumed_entries);
	else if (rc == 0)
		printf("%s: %" PRIu64 " entries in %" PRIu64 " blocks, %s\n", path, report.entries,
		       report.blocks, quantity_memory_text(report.bytes, size));
	if (rc == 0)
		return CLI_OK;
	fprintf(stderr,
		"haul: map: stopped after %" PRIu64 " entries; go on with: haul map export %s %s "
		"--resume\n",
		report.entries, request->args[0], path);
	return CLI_FAILED;
}

int map_import(struct map_request *request)
{
	struct haul_err err = { 0 };
	struct haul_map_file_report report = { 0 };
	const char *path = request->args[1];
	struct haul_map_import options = { .mode = request->import_mode,
					   .dry_run = request->dry_run,
					   .progress = show,
					   .arg = request };
	if (map_begin(request) != CLI_OK)
		return CLI_FAILED;
	progress_begin(&request->progress, "import", "entries", request->quiet);
	int rc = haul_map_import(&request->map, 1, path, &options, &report, &err);
	progress_end(&request->progress);
	map_end(request);
	if (rc < 0)
		return file_failed(path, &err);
	if (request->format == MAP_JSON)
		printf("{\"entries\": %" PRIu64 ", \"inserted\": %" PRIu64 ", \"updated\": %" PRIu64
		       ", \"unchanged\": %" PRIu64 ", \"deleted\": %" PRIu64 "}\n",
		       report.entries, report.inserted, report.updated, report.unchanged,
		       report.deleted);
	else if (request->dry_run)
		printf("%s is good: %" PRIu64 " entries; nothing was changed\n", path,
		       report.entries);
	else
		printf("%" PRIu64 " entries: %" PRIu64 " inserted, %" PRIu64 " updated, %" PRIu64
		       " left as they were; %" PRIu64 " deleted\n",
		       report.entries, report.inserted, report.updated, report.unchanged,
		       report.deleted);
	if (rc != 0)
		fprintf(stderr, "haul: map: stopped; what is said above was done\n");
	return rc == 0 ? CLI_OK : CLI_FAILED;
}

/* ---- tune ---- */

static void tune_progress(uint64_t done, uint64_t total, void *arg)
{
	struct map_request *request = arg;
	progress_show(&request->progress, done, total);
}

static void tune_json(const struct map_request *request, const struct haul_map_tune *tune)
{
	uint64_t entry = (uint64_t)request->info->key_size + request->info->slot_bytes;
	printf("{\"points\": [");
	for (uint32_t i = 0; i < tune->count; i++) {
		const struct haul_map_tune_point *point = &tune->points[i];
		printf("%s\n  {\"batch\": %u, \"runs\": %u, \"ns_per_entry\": %.1f, "
		       "\"call_ns_max\": %.0f, \"buffer_bytes\": %" PRIu64 ", \"too_small\": %s}",
		       i > 0 ? "," : "", point->batch, point->runs, point->ns_per_entry,
		       point->call_ns_max, entry * point->batch,
		       point->too_small ? "true" : "false");
	}
	printf("\n ],\n \"floor\": %u, \"default\": %u, \"throughput\": %u, \"latency\": %u}\n",
	       tune->floor, tune->preferred, tune->throughput, tune->latency);
}

static const char *role(const struct haul_map_tune *tune, uint32_t batch, char text[64])
{
	snprintf(text, 64, "%s%s%s", batch == tune->preferred ? " default" : "",
		 batch == tune->throughput ? " throughput" : "",
		 batch == tune->latency ? " latency" : "");
	return text;
}

/* A bar in eighths of a column. */
static void print_bar(double part)
{
	static const char *const eighths[] = { "", "▏", "▎", "▍", "▌", "▋", "▊", "▉" };
	uint32_t units = part > 0 ? (uint32_t)(part * BAR * 8 + 0.5) : 0;
	uint32_t columns = units / 8;
	for (uint32_t i = 0; i < columns; i++)
		printf("█");
	printf("%s", eighths[units % 8]);
	for (uint32_t i = columns + (units % 8 > 0); i < BAR; i++)
		printf(" ");
}

static void tune_text(const struct map_request *request, const struct haul_map_tune *tune)
{
	uint64_t entry = (uint64_t)request->info->key_size + request->info->slot_bytes;
	double fastest = 0;
	char memory[QUANTITY_TEXT], rate[QUANTITY_TEXT], longest[QUANTITY_TEXT], roles[64];
	for (uint32_t i = 0; i < tune->count; i++) {
		double ns = tune->points[i].ns_per_entry;
		fastest = ns > 0 && 1 / ns > fastest ? 1 / ns : fastest;
	}
	printf("%7s %12s %10s %13s %10s  %s\n", "BATCH", "NS AN ENTRY", "ENTRIES/S", "LONGEST CALL",
	       "MEMORY", "THROUGHPUT");
	for (uint32_t i = 0; i < tune->count; i++) {
		const struct haul_map_tune_point *point = &tune->points[i];
		if (point->too_small) {
			printf("%7u  too small: a bucket holds more\n", point->batch);
			continue;
		}
		double speed = point->ns_per_entry > 0 ? 1 / point->ns_per_entry : 0;
		printf("%7u %12.1f %10s %13s %10s  ", point->batch, point->ns_per_entry,
		       quantity_size_text(speed * 1e9, rate),
		       quantity_duration_text((int64_t)point->call_ns_max, longest),
		       quantity_memory_text(entry * point->batch, memory));
		print_bar(fastest > 0 ? speed / fastest : 0);
		printf("%s\n", role(tune, point->batch, roles));
	}
	printf("\nLarger batches cost fewer calls an entry, but more memory, a longer wait for the "
	       "first\nentry, and a CPU that does nothing else for the length of a call.\n"
	       "  default     %6u  fastest with calls of at most %s\n"
	       "  throughput  %6u  fastest of all\n"
	       "  latency     %6u  shortest calls at no more than twice the cost\n",
	       tune->preferred, quantity_duration_text(HAUL_MAP_CALL_MAX_NS, longest),
	       tune->throughput, tune->latency);
	if (tune->floor > 0)
		printf("  floor       %6u  the fullest bucket\n", tune->floor);
}

int map_tune(struct map_request *request)
{
	struct haul_map_tune tune = { 0 };
	if (map_begin(request) != CLI_OK)
		return CLI_FAILED;
	progress_begin(&request->progress, "tune", "reads", request->quiet);
	int rc = haul_map_tune(request->map, request->runs, &tune, tune_progress, request);
	progress_end(&request->progress);
	if (rc < 0)
		(void)map_op_fail(request, rc);
	else if (request->format == MAP_JSON)
		tune_json(request, &tune);
	else
		tune_text(request, &tune);
	map_end(request);
	return rc < 0 ? CLI_FAILED : CLI_OK;
}
