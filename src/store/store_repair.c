/* Repair: what it takes to open a store again, and what that costs.
 *
 * Three things keep a store from opening: no good root or manifest (nothing can be done here: a
 * backup can), a table that does not open or verify, a log that is broken before its end. The
 * second is mended by a manifest without the table: older versions of its rows come back where
 * there are any. The third by cutting the log where it is broken: the frames behind are lost. Both
 * are first told, and done only when that is accepted. Afterwards trees may contradict each other;
 * check says where. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "store/store_check.h"

static void repair_tell_table(struct store_check *check, const struct table_info *info, bool done)
{
	char place[64];

	(void)snprintf(place, sizeof place, "blob %llu", (unsigned long long)info->blob);
	store_finding(check, place, true,
		      "%s %llu rows of tree %s, first words of their keys %llu to %llu%s",
		      done ? "lost:" : "would be lost:", (unsigned long long)info->rows,
		      tree_name((enum tree)info->tree), (unsigned long long)info->first.word[0],
		      (unsigned long long)info->last.word[0],
		      info->op_max > 0 ? "; older versions of them come back" : "");
}

static void repair_tell_log(struct store_check *check, bool done)
{
	const struct log_report *report = &check->report;
	const bool loss = report->verdict != LOG_TORN;
	char place[64];

	(void)snprintf(place, sizeof place, "log at position %llu",
		       (unsigned long long)report->end.position);
	if (!loss) {
		store_finding(check, place, false, "%s: a torn end, nothing acknowledged",
			      done ? "cut" : "would be cut");
		return;
	}
	store_finding(check, place, true,
		      "%s all frames from %llu on: %llu good ones stand behind the break, "
		      "acknowledged up to %llu as far as can be told",
		      done ? "lost:" : "would be lost:", (unsigned long long)report->end.op + 1,
		      (unsigned long long)report->lost_records,
		      (unsigned long long)report->lost_upto);
}

/* A manifest without the bad tables, under a new number. */
static int repair_manifest(struct store_check *check)
{
	struct manifest *manifest = check->manifest;
	struct manifest_root root = check->root;
	uint32_t kept = 0, runs = 0;

	for (uint32_t r = 0; r < manifest->run_count; r++) {
		struct manifest_run run = manifest->runs[r];
		const uint32_t first = run.first, count = run.count;
		run.first = kept;
		for (uint32_t i = first; i < first + count; i++) {
			if (!check->bad[i])
				manifest->tables[kept++] = manifest->tables[i];
		}
		run.count = kept - run.first;
		if (run.count > 0)
			manifest->runs[runs++] = run;
	}
	HAUL_ASSERT(kept < manifest->table_count);
	manifest->table_count = kept;
	manifest->run_count = runs;
	root.blob = root.blob_next++;
	const int rc = manifest_save_build(check->media, manifest, &root);
	return rc < 0 ? rc : manifest_root_put(check->media, check->root_version, &root);
}

static uint32_t repair_tell(struct store_check *check, bool done)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < check->manifest->table_count; i++) {
		if (!check->bad[i])
			continue;
		repair_tell_table(check, &check->manifest->tables[i], done);
		bad++;
	}
	if (check->report.verdict != LOG_END)
		repair_tell_log(check, done);
	return bad;
}

static int repair_do(struct store_check *check, struct haul_err *err)
{
	const uint64_t end = check->report.end.position;
	const bool cut = check->report.verdict != LOG_END;
	const uint32_t bad = repair_tell(check, true);

	/* the log first: with the old manifest it is no worse than before */
	int rc = cut ? log_truncate(check->media, &check->report) : 0;
	if (rc < 0)
		return haul_err_set(err, rc, "cutting the log at position %llu: %s",
				    (unsigned long long)end, haul_strerror(rc));
	rc = bad > 0 ? repair_manifest(check) : 0;
	return rc < 0 ? haul_err_set(err, rc, "writing a manifest without the bad tables: %s",
				     haul_strerror(rc))
		      : 0;
}

static void repair_silent(const struct haul_store_finding *finding, void *arg)
{
	(void)finding;
	(void)arg;
}

int store_repair_on(const struct store_deep *deep, bool accept_loss,
		    const struct store_telling *telling, struct haul_err *err)
{
	const struct store_telling silent = { .told = repair_silent };
	struct store_check check = { .deep = deep, .telling = &silent };

	int rc = store_check_files_open(&check, accept_loss ? MEDIA_WRITE : MEDIA_READ, err);
	const uint32_t found = check.findings;
	check.telling = telling;
	check.findings = 0;
	if (rc == 0 && check.manifest == NULL) {
		rc = haul_err_set(err, HAUL_ECORRUPT,
				  "there is no good root or manifest, so nothing says which tables "
				  "belong to the store: restore a backup");
	} else if (rc == 0 && check.report.verdict == LOG_NEWER) {
		rc = haul_err_set(
			err, HAUL_EVERSION,
			"the log goes on with frames of a newer version of haul: use that");
	} else if (rc == 0 && found > 0) {
		if (accept_loss)
			rc = repair_do(&check, err);
		else
			(void)repair_tell(&check, false);
	}
	store_check_files_close(&check);
	return rc < 0 ? rc : (int)check.findings;
}

int haul_store_repair(const char *path, bool accept_loss, haul_store_told *told, void *arg,
		      struct haul_err *err)
{
	const struct store_telling telling = { told, NULL, arg };
	struct store_deep deep = { .os = os_linux() };

	HAUL_ASSERT(path != NULL);
	int rc = vfs_linux_open(&deep.vfs, path);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s", path, haul_strerror(rc));
	rc = store_repair_on(&deep, accept_loss, &telling, err);
	VFS_CALL(deep.vfs, close_all, deep.vfs);
	return rc < 0 ? haul_err_wrap(err, rc, "%s", path) : rc;
}
