/* Tables in files. Export is that of the shards' maps. Import cannot be: another table has another
 * salt, so an entry's shard is another one; entries are read from the file, all of it verified
 * first, and put. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "bpf/flow_state.h"

static int export_maps(struct haul_flows *flows, struct haul_map *maps[HAUL_FLOWS_SHARDS_MAX],
		       struct haul_err *err)
{
	for (uint32_t shard = 0; shard < flows->saved.shards; shard++) {
		int rc = flow_shard_open(flows, shard, &maps[shard]);
		if (rc < 0)
			return haul_err_set(err, rc, "shard %u cannot be opened: %s", shard,
					    haul_strerror(rc));
	}
	return 0;
}

int haul_flows_export(struct haul_flows *flows, const char *path,
		      const struct haul_map_export *options,
		      struct haul_map_file_report *ret_report, struct haul_err *err)
{
	struct haul_map *maps[HAUL_FLOWS_SHARDS_MAX];
	int rc = export_maps(flows, maps, err);

	return rc ? rc : haul_map_export(maps, flows->saved.shards, path, options, ret_report, err);
}

/* ---- import ---- */

struct import {
	struct haul_flows *flows;
	const struct haul_map_import *options;
	struct haul_map_file_report report;
	uint64_t expected;
	int rc; /* of what went wrong in writing */
};

static int import_put(const struct haul_map_batch *batch, uint32_t map_index, void *arg)
{
	struct import *import = arg;
	const struct haul_map_import *options = import->options;
	/* Only read by a put. */
	struct haul_map_rows rows = { .count = batch->count,
				      .keys = batch->keys,
				      .values = (void *)(uintptr_t)batch->values };
	struct haul_map_result result;
	enum haul_map_mode mode =
		options->mode == HAUL_MAP_IMPORT_ONLY_NEW ? HAUL_MAP_ONLY_NEW : HAUL_MAP_ANY;
	(void)map_index;
	HAUL_ASSERT(batch->key_stride == sizeof(struct haul_flow_key));
	HAUL_ASSERT(batch->value_stride == sizeof(struct haul_flow_value));
	import->rc = flow_put(import->flows, &rows, mode, &result);
	import->report.entries += result.done + result.kept;
	import->report.inserted += result.inserted;
	import->report.updated += result.updated;
	import->report.unchanged += result.kept;
	import->report.retries += result.retries;
	import->report.blocks++;
	if (import->rc == 0 && options->progress)
		return options->progress(import->report.entries, import->expected, options->arg);
	return import->rc;
}

static int discard(const struct haul_map_batch *batch, void *arg)
{
	*(uint64_t *)arg += batch->count;
	return 0;
}

int haul_flows_import(struct haul_flows *flows, const char *path,
		      const struct haul_map_import *options,
		      struct haul_map_file_report *ret_report, struct haul_err *err)
{
	static const struct haul_map_import defaults = { .mode = HAUL_MAP_IMPORT_MERGE };
	struct import import = { .flows = flows, .options = options ? options : &defaults };
	struct haul_map_file_info info;
	int rc = haul_map_file_read(path, &info, NULL, NULL, err);

	if (rc < 0)
		return rc;
	if (info.key_size != sizeof(struct haul_flow_key) ||
	    info.slot_bytes != sizeof(struct haul_flow_value))
		return haul_err_set(err, -EINVAL,
				    "%s: keys of %u and values of %u bytes; connections have %zu "
				    "and %zu",
				    path, info.key_size, info.slot_bytes,
				    sizeof(struct haul_flow_key), sizeof(struct haul_flow_value));
	import.expected = info.entries;
	if (import.options->dry_run) {
		import.report.entries = info.entries;
	} else {
		if (import.options->mode == HAUL_MAP_IMPORT_REPLACE)
			rc = haul_flows_interval(flows, discard, &import.report.deleted, NULL);
		if (rc < 0)
			return haul_err_set(err, rc, "the table cannot be emptied: %s",
					    haul_strerror(rc));
		rc = haul_map_file_read(path, &info, import_put, &import, err);
	}
	if (import.rc < 0)
		rc = haul_err_set(err, import.rc == -E2BIG ? HAUL_EFULL : import.rc,
				  "%s: %s after %llu entries", path,
				  import.rc == -E2BIG ? "the table is full"
						      : haul_strerror(import.rc),
				  (unsigned long long)import.report.entries);
	if (ret_report)
		*ret_report = import.report;
	return rc;
}
