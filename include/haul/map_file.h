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
 * Ownership  maps, paths and options are the caller's.
 * Threads    one thread at a time a map.
 * Errors     with text that names the file, the offset and what is right: HAUL_ECORRUPT (checksum,
 *            impossible length), HAUL_ESHORT (a torn or missing end), HAUL_EVERSION, -EINVAL (other
 *            key or value size), HAUL_ESTALE (resume: not the map, or not the boot, that was
 *            exported), -EEXIST (export: the file exists and resume was not asked for), -errno of
 *            the file. A failed import has written nothing, unless writing itself failed: then
 *            result says how much.
 * Limits     HAUL_MAP_FILE_MAPS maps, HAUL_MAP_FILE_BLOCK_MAX entries a block. */
#pragma once

#include <haul/map.h>

enum {
	HAUL_MAP_FILE_MAPS = 1024,
	HAUL_MAP_FILE_BLOCK = 4096, /* default entries a block */
	HAUL_MAP_FILE_BLOCK_MAX = 65536
};

/* 0 = go on, other: stop there (export can be resumed, import has written what it says). */
typedef int haul_map_progress(uint64_t entries_done, uint64_t entries_expected, void *arg);

struct haul_map_export {
	uint32_t block_entries; /* 0 = HAUL_MAP_FILE_BLOCK */
	bool resume;            /* go on with what is there; no file = start */
	bool overwrite;         /* replace what is there */
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
	uint64_t expected; /* export: entries of the maps before; UNKNOWN */
	uint64_t retries;
};
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
/* Read and verify all of it; visit (may be NULL) gets every block in order. */
HAUL_API int haul_map_file_read(const char *path, struct haul_map_file_info *ret_info,
				int (*visit)(const struct haul_map_batch *batch, uint32_t map_index,
					     void *arg),
				void *arg, struct haul_err *err);
