/* store/manifest.h — what is durable of the merge tree: root, and the list of its tables.
 *
 * Model      The root names a manifest by blob, length and checksum, and the place of the log it
 *            goes with. A manifest is a head, then for each run a head and its tables, newest run
 *            first within a tree. Both are written whole, never changed.
 * Units      bytes; little-endian.
 * Threads    pure but for the media.
 * Errors     HAUL_ECORRUPT, HAUL_EVERSION, -ENOENT (no root), those of the media. */
#pragma once

#include "store/log.h"
#include "store/table.h"

struct manifest_root {
	uint8_t uuid[16];
	struct log_place place;
	uint64_t blob; /* 0 = there are no tables */
	uint64_t bytes;
	uint64_t check[2];
	uint64_t blob_next; /* numbers below have been used */
};
int manifest_root_get(struct media *media, struct manifest_root *ret_root, uint64_t *ret_version,
		      struct haul_err *err);
/* version: of the root that is there. */
int manifest_root_put(struct media *media, uint64_t version, const struct manifest_root *root);

struct manifest_run {
	uint32_t tree, level, count;
	uint32_t first; /* of its tables in manifest.tables */
};
struct manifest {
	uint32_t run_count, table_count;
	struct manifest_run *runs;
	struct table_info *tables;
};
int manifest_new(struct manifest **ret_manifest, uint32_t runs, uint32_t tables);
void manifest_free(struct manifest *manifest);
int manifest_load(struct media *media, const struct manifest_root *root,
		  struct manifest **ret_manifest, struct haul_err *err);
/* Puts it as blob root->blob, which the caller has chosen, and fills in the rest of what the root
 * says of it. No table at all: root->blob becomes 0. */
int manifest_save_build(struct media *media, const struct manifest *manifest,
			struct manifest_root *root);
