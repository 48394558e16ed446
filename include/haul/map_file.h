/* haul/map_file.h — the contents of BPF maps in a file: export, resume, import.
 *
 * Model      A map file is a header, blocks of entries in the order of the map's buckets, and an
 *            end mark with totals; docs/design/0010 has every byte. One file holds one or several
 *            maps of equal sizes (the shards of a table). Each block ends with the cursor behind
 *            it and a checksum, and is synced before the next is read, so that an export that was
 *            killed goes on at the last good block: legal because a bucket never moves while the
 *            map lives. On a map that did not change, the resumed file equals an uninterrupted one
 *            byte for byte.
 *            Import verifies the whole file before it writes the first entry.
 * Units      bytes; entries.
 *            Nothing in a file depends on when it was written: the same contents of the same map
 *            give the same bytes.
 *            An array has all its entries always: its import updates, only-new leaves it as it is,
 *            and replace sets to zero what the file does not have (counted as deleted).
 * Ownership  maps, paths and options are the caller's.
 * Memory     one block; replace also the keys of one map of the file, and those it deletes; an
 *            import into an LPM trie also the trie's keys.
 * Threads    one thread at a time a map; one export at a time a file (-EBUSY).
 * Errors     with text that names the file, the offset and what is right: HAUL_ECORRUPT (checksum,
 *            impossible length), HAUL_ESHORT (a torn or missing end), HAUL_ELONG (bytes behind the
 *            end), HAUL_EVERSION, -EINVAL (other key, value, CPUs or kind of map), HAUL_ESTALE
 *            (resume: not the map, or not the boot, that was exported), -EEXIST (export: the file
 *            exists and neither resume nor overwrite was asked for), HAUL_EFULL (import: the map
 *            cannot hold it all), -ENOTSUP (a type without batches, or maps of maps, whose values
 *            mean nothing outside of this kernel), -errno of the file. A failed import has written
 *            nothing, unless writing itself failed or it was stopped: then the report says how
 *            much. Reports are always filled in.
 * Limits     HAUL_MAP_FILE_MAPS maps, HAUL_MAP_FILE_BLOCK_MAX entries a block. */
#pragma once

#include <haul/map.h>

enum {
	HAUL_MAP_FILE_MAPS = 1024,
	HAUL_MAP_FILE_BLOCK = 4096, /* default entries a block */
	HAUL_MAP_FILE_BLOCK_MAX = 65536
};

/* After each block. 0 = go on. Other: stop there (export can be resumed, import has written what
 * the report says), and return that. entries_expected may be HAUL_MAP_UNKNOWN, and less than done
 * when the map grows. */
typedef int haul_map_progress(uint64_t entries_done, uint64_t entries_expected, void *arg);

struct haul_map_export {
	uint32_t block_entries; /* 16 … BLOCK_MAX; 0 = HAUL_MAP_FILE_BLOCK, fewer when that is over
				 * 16 MiB; resume: as in the file */
	bool resume;            /* go on with what is there; no file = start */
	bool overwrite;         /* write path.part, which in the end replaces path; together with
				 * resume: go on with path.part */
	haul_map_progress *progress;
	void *arg;
};
struct haul_map_file_report {
	uint64_t entries; /* in the file (export, check), or dealt with (import) */
	uint64_t blocks;
	uint64_t bytes;
	uint64_t resumed_entries;              /* of entries: were there when the export resumed */
	uint64_t inserted, updated, unchanged; /* import */
	uint64_t deleted;  /* import, replace: entries that the file does not have */
	uint64_t expected; /* export: entries of the maps before, or HAUL_MAP_UNKNOWN; import: of
			    * the file */
	uint64_t retries;
};
/* The file is created with mode 0600. options and ret_report may be NULL, here and below. */
HAUL_API int haul_map_export(struct haul_map *const *maps, uint32_t map_count, const char *path,
			     const struct haul_map_export *options,
			     struct haul_map_file_report *ret_report, struct haul_err *err);

enum haul_map_import_mode {
	HAUL_MAP_IMPORT_REPLACE, /* afterwards the map holds the file's entries only */
	HAUL_MAP_IMPORT_MERGE,   /* the file's entries are put; others stay */
	HAUL_MAP_IMPORT_ONLY_NEW /* entries that are there stay as they are */
};
struct haul_map_import {
	enum haul_map_import_mode mode;
	bool dry_run; /* verify only */
	haul_map_progress *progress;
	void *arg;
};
/* A file of one map goes into any one map of its sizes; one of several into as many. */
HAUL_API int haul_map_import(struct haul_map *const *maps, uint32_t map_count, const char *path,
			     const struct haul_map_import *options,
			     struct haul_map_file_report *ret_report, struct haul_err *err);

struct haul_map_file_info {
	uint32_t version;
	uint32_t map_count;
	uint32_t map_type;
	uint32_t key_size, slot_bytes;
	uint32_t block_entries;
	uint64_t entries;
	bool complete; /* has its end mark */
	char map_name[HAUL_MAP_NAME];
};
/* Read and verify all of it; visit (may be NULL) gets every block in order, and ends the reading
 * by a value other than 0, which is returned. Once the header was good ret_info (may be NULL) is
 * filled in also on failure: entries of the good part, and what the header says. */
HAUL_API int haul_map_file_read(const char *path, struct haul_map_file_info *ret_info,
				int (*visit)(const struct haul_map_batch *batch, uint32_t map_index,
					     void *arg),
				void *arg, struct haul_err *err);
