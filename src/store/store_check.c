/* Check: the files of a store that nobody has open.
 *
 * From the root down: manifest, every block of every table, then the log behind the checkpoint as
 * recovery would read it. Only where all of that is whole are the trees compared with each other
 * (store_graph.c): what can be said of rows that are not there is said by their table. */
#include "store/store_check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"

enum { FINDING_TEXT = 320, PLACE_TEXT = 96 };

void store_finding(struct store_check *check, const char *place, bool loss, const char *format, ...)
{
	char text[FINDING_TEXT];
	va_list arguments;

	va_start(arguments, format);
	(void)vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	const struct haul_store_finding finding = { .place = place, .what = text, .loss = loss };
	check->findings++;
	check->losses += loss;
	if (check->telling->told != NULL)
		check->telling->told(&finding, check->telling->arg);
}

/* ---- tables ---- */

static void table_told(uint64_t offset, const char *what, void *arg)
{
	struct store_check *check = arg;
	const struct table_info *info = &check->manifest->tables[check->table];
	char place[PLACE_TEXT];

	(void)snprintf(place, sizeof place, "blob %llu at offset %llu",
		       (unsigned long long)info->blob, (unsigned long long)offset);
	check->bad[check->table] = true;
	store_finding(check, place, true, "%s (tree %s, level %u, %llu rows)", what,
		      tree_name((enum tree)info->tree), info->level,
		      (unsigned long long)info->rows);
}

static int check_progress(struct store_check *check)
{
	if (check->telling->progress == NULL)
		return 0;
	return check->telling->progress(check->done, check->total, check->telling->arg) != 0
		       ? -ECANCELED
		       : 0;
}

static int check_tables(struct store_check *check)
{
	struct manifest *manifest = check->manifest;

	for (uint32_t i = 0; i < manifest->table_count; i++)
		check->total += manifest->tables[i].bytes;
	for (uint32_t i = 0; i < manifest->table_count; i++) {
		check->table = i;
		const int rc = table_check(check->media, &manifest->tables[i], table_told, check);
		if (rc == -ENOMEM)
			return rc;
		if (rc < 0 && !check->bad[i])
			table_told(0, haul_strerror(rc), check);
		check->done += manifest->tables[i].bytes;
		const int stop = check_progress(check);
		if (stop < 0)
			return stop;
	}
	return 0;
}

/* ---- the log ---- */

static int log_frame(const struct log_place *behind, const uint8_t *data, uint32_t bytes, void *arg)
{
	struct store_check *check = arg;
	struct frame frame;
	char place[PLACE_TEXT];

	const int rc = frame_check(data, bytes, &frame);
	if (rc == 0)
		return 0;
	(void)snprintf(place, sizeof place, "log, frame %llu", (unsigned long long)behind->op);
	store_finding(check, place, true, "its checksums are good and its contents are not: %s",
		      haul_strerror(rc));
	return 0;
}

static int check_log(struct store_check *check)
{
	char text[200], place[PLACE_TEXT];

	const int rc =
		log_replay(check->media, &(struct log_from){ check->root.uuid, check->root.place },
			   log_frame, check, &check->report);
	if (rc < 0) {
		store_finding(check, "log", true, "cannot be read: %s", haul_strerror(rc));
		return rc == -ENOMEM ? rc : 0;
	}
	if (check->report.verdict == LOG_END)
		return 0;
	store_verdict_text(&check->report, check->media->segment_bytes, text, sizeof text);
	(void)snprintf(place, sizeof place, "log at position %llu",
		       (unsigned long long)check->report.end.position);
	store_finding(check, place, check->report.verdict != LOG_TORN, "%s", text);
	return 0;
}

/* ---- all of it ---- */

static int check_bad_alloc(struct store_check *check)
{
	check->bad = calloc(check->manifest->table_count + 1, sizeof *check->bad);
	return check->bad != NULL ? 0 : -ENOMEM;
}

int store_check_files_open(struct store_check *check, enum media_mode mode, struct haul_err *err)
{
	const struct media_options options = { .mode = mode,
					       .segment_bytes = check->deep->segment_bytes };
	struct haul_err why = { 0 };

	int rc = media_file_open(&check->media, check->deep->vfs, &options, &why);
	if (rc == HAUL_ECORRUPT || rc == HAUL_EVERSION) {
		store_finding(check, "root", true, "%s", why.text);
		return 0;
	}
	if (rc < 0)
		return haul_err_set(err, rc, "%s", why.text);
	rc = manifest_root_get(check->media, &check->root, &check->root_version, &why);
	if (rc == 0)
		rc = manifest_load(check->media, &check->root, &check->manifest, &why);
	if (rc < 0) {
		store_finding(check, "root", true, "%s",
			      why.text[0] != '\0' ? why.text : haul_strerror(rc));
		return 0;
	}
	rc = check_bad_alloc(check);
	if (rc == 0)
		rc = check_tables(check);
	if (rc == 0)
		rc = check_log(check);
	return rc < 0 ? haul_err_set(err, rc, "check: %s", haul_strerror(rc)) : 0;
}

void store_check_files_close(struct store_check *check)
{
	free(check->bad);
	if (check->manifest != NULL)
		manifest_free(check->manifest);
	if (check->media != NULL)
		check->media->calls->close(check->media);
	check->bad = NULL;
	check->manifest = NULL;
	check->media = NULL;
}

int store_check_on(const struct store_deep *deep, const struct store_telling *telling,
		   struct haul_err *err)
{
	struct store_check check = { .deep = deep, .telling = telling };

	int rc = store_check_files_open(&check, MEDIA_READ, err);
	const bool whole = check.manifest != NULL && check.losses == 0;
	store_check_files_close(&check);
	if (rc == 0 && whole)
		rc = store_check_graph(&check, err);
	return rc < 0 ? rc : (int)check.findings;
}

int haul_store_check(const char *path, haul_store_told *told, haul_store_progress *progress,
		     void *arg, struct haul_err *err)
{
	const struct store_telling telling = { told, progress, arg };
	struct store_deep deep = { .os = os_linux() };

	HAUL_ASSERT(path != NULL);
	int rc = vfs_linux_open(&deep.vfs, path);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s", path, haul_strerror(rc));
	rc = store_check_on(&deep, &telling, err);
	VFS_CALL(deep.vfs, close_all, deep.vfs);
	return rc < 0 ? haul_err_wrap(err, rc, "%s", path) : rc;
}
