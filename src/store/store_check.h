/* store/store_check.h — what the files of check and repair share.
 *
 * Model      store_check.c looks at files: root, manifest, tables, the end of the log;
 *            store_graph.c opens the store for reading and compares its trees with each other;
 *            store_repair.c takes away what the first found broken.
 * Files      store_check.c, store_graph.c, store_repair.c.
 * Threads    one. */
#pragma once

#include "store/manifest.h"
#include "store/store_parts.h"

struct store_check {
	const struct store_deep *deep;
	const struct store_telling *telling;
	struct media *media;
	struct manifest_root root;
	uint64_t root_version;
	struct manifest *manifest;
	struct log_report report;
	bool *bad;      /* tables */
	uint32_t table; /* the one being looked at */
	uint64_t done, total;
	uint32_t findings, losses;
};

__attribute__((format(printf, 4, 5))) void
store_finding(struct store_check *check, const char *place, bool loss, const char *format, ...);
/* Files. 0: findings tell; negative: could not be looked at. */
int store_check_files_open(struct store_check *check, enum media_mode mode, struct haul_err *err);
void store_check_files_close(struct store_check *check);
/* Trees against each other; what they say of loss is counted too. */
int store_check_graph(struct store_check *check, struct haul_err *err);
