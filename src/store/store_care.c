/* Checkpoint, compact, backup, restore.
 *
 * A backup is the checkpoint of one moment: root, manifest and the tables it names, which a view
 * keeps from being deleted while they are copied; so it has no log. The root is written last: what
 * has none is no backup. A table carries the number of its blob and not the store's uuid, so it is
 * copied as it is, and verified where it is read anew. A restore differs in the uuid only: records
 * of the log carry that, and those of the one are not taken for those of the other. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "store/manifest.h"
#include "store/store_parts.h"

/* The name of a new folder is durable with the folder it is in. */
int store_folder_make(const char *path, struct haul_err *err)
{
	if (mkdir(path, 0700) < 0) {
		const int rc = -errno;
		return rc == -EEXIST ? 0 : haul_err_set(err, rc, "%s: %s", path, haul_strerror(rc));
	}
	struct vfs *vfs;
	char parent[4096];
	const int bytes = snprintf(parent, sizeof parent, "%s/..", path);
	if (bytes < 0 || (size_t)bytes >= sizeof parent)
		return haul_err_set(err, -ENAMETOOLONG, "%s: too long", path);
	int rc = vfs_linux_open(&vfs, parent);
	if (rc == 0) {
		rc = VFS_CALL(vfs, sync_folder, vfs, "");
		VFS_CALL(vfs, close_all, vfs);
	}
	return rc < 0 ? haul_err_set(err, rc, "%s: %s", parent, haul_strerror(rc)) : 0;
}

/* ---- checkpoint ---- */

int store_checkpoint(struct haul_store *store)
{
	struct commit *commit = &store->commit;
	uint64_t steps = 0;
	int rc;

	commit_hold(commit);
	const struct log_place place = log_place(store->log);
	/* the one that is frozen goes first, and it only when it is durable */
	while ((rc = lsm_freeze(store->lsm, &place)) == -EAGAIN) {
		rc = commit_durable(commit, place.op);
		if (rc == 0)
			rc = commit_keeper(commit, &steps);
		if (rc < 0)
			break;
	}
	commit_release(commit);
	if (rc == 0)
		rc = commit_durable(commit, place.op);
	while (rc >= 0 && lsm_checkpoint(store->lsm).op < place.op)
		rc = commit_keeper(commit, &steps);
	return rc < 0 ? rc : 0;
}

/* ---- compact ---- */

static uint64_t bytes_all(struct haul_store *store, uint64_t *ret_merged)
{
	struct haul_store_status status;
	uint64_t bytes = 0;

	haul_store_status(store, &status);
	for (uint32_t i = 0; i < status.level_count; i++)
		bytes += status.level[i].bytes;
	*ret_merged = status.bytes_merged;
	return bytes;
}

int haul_store_compact(struct haul_store *store, haul_store_progress *progress, void *arg)
{
	uint64_t steps = 0, merged_before, merged;

	HAUL_ASSERT(store != NULL);
	if (store->options.read_only)
		return -EROFS;
	int rc = store_checkpoint(store);
	if (rc < 0)
		return rc;
	const uint64_t total = bytes_all(store, &merged_before);
	keeper_pause(&store->keeper);
	lsm_compact(store->lsm);
	keeper_resume(&store->keeper);
	while ((rc = commit_keeper(&store->commit, &steps)) > 0) {
		(void)bytes_all(store, &merged);
		const uint64_t done = merged - merged_before;
		if (progress != NULL && progress(done < total ? done : total, total, arg) != 0)
			return -ECANCELED;
	}
	if (rc == 0 && progress != NULL)
		(void)progress(total, total, arg);
	return rc;
}

/* ---- copying ---- */

struct copy {
	struct media *from, *to;
	struct manifest_root root;
	struct manifest *manifest;
	uint8_t *data;
	uint64_t bytes;
	uint64_t done, total;
	haul_store_progress *progress;
	void *arg;
	uint64_t bad_offset;
	const char *bad; /* first finding of table_check */
};

static int copy_buffer_alloc(struct copy *copy)
{
	for (uint32_t i = 0; i < copy->manifest->table_count; i++) {
		const uint64_t bytes = copy->manifest->tables[i].bytes;
		copy->bytes = bytes > copy->bytes ? bytes : copy->bytes;
		copy->total += bytes;
	}
	copy->bytes = (copy->bytes + MEDIA_ALIGN) & ~(uint64_t)(MEDIA_ALIGN - 1);
	copy->data = aligned_alloc(MEDIA_ALIGN, copy->bytes);
	return copy->data != NULL ? 0 : -ENOMEM;
}

static void copy_told(uint64_t offset, const char *what, void *arg)
{
	struct copy *copy = arg;
	if (copy->bad != NULL)
		return;
	copy->bad = what;
	copy->bad_offset = offset;
}

static int copy_verify(struct copy *copy, const struct table_info *info, struct haul_err *err)
{
	copy->bad = NULL;
	const int rc = table_check(copy->to, info, copy_told, copy);
	if (rc >= 0 && copy->bad == NULL)
		return 0;
	return haul_err_set(err, rc < 0 ? rc : HAUL_ECORRUPT,
			    "blob %llu at offset %llu: %s; haul store check tells more",
			    (unsigned long long)info->blob, (unsigned long long)copy->bad_offset,
			    copy->bad != NULL ? copy->bad : haul_strerror(rc));
}

static int copy_table(struct copy *copy, const struct table_info *info, struct haul_err *err)
{
	struct media_read read = { .blob = info->blob, .data = copy->data };

	HAUL_ASSERT(info->bytes < copy->bytes && copy->bytes <= UINT32_MAX);
	read.bytes = (uint32_t)((info->bytes + MEDIA_ALIGN - 1) & ~(uint64_t)(MEDIA_ALIGN - 1));
	MEDIA_CALL(copy->from, blob_get, &read, 1);
	if (read.result < 0 || (uint64_t)read.result < info->bytes)
		return haul_err_set(err, read.result < 0 ? read.result : HAUL_ESHORT,
				    "blob %llu: reading %llu bytes: %s",
				    (unsigned long long)info->blob, (unsigned long long)info->bytes,
				    haul_strerror(read.result < 0 ? read.result : HAUL_ESHORT));
	int rc = MEDIA_CALL(copy->to, blob_put, info->blob, copy->data, info->bytes);
	if (rc < 0)
		return haul_err_set(err, rc, "blob %llu: writing the copy: %s",
				    (unsigned long long)info->blob, haul_strerror(rc));
	rc = copy_verify(copy, info, err);
	copy->done += info->bytes;
	if (rc == 0 && copy->progress != NULL &&
	    copy->progress(copy->done, copy->total, copy->arg) != 0)
		return haul_err_set(err, -ECANCELED, "stopped");
	return rc;
}

static int copy_all(struct copy *copy, struct haul_err *err)
{
	int rc = copy_buffer_alloc(copy);
	if (rc < 0)
		return haul_err_set(err, rc, "no memory to copy a table of %llu bytes",
				    (unsigned long long)copy->bytes);
	for (uint32_t i = 0; i < copy->manifest->table_count && rc == 0; i++)
		rc = copy_table(copy, &copy->manifest->tables[i], err);
	free(copy->data);
	if (rc < 0)
		return rc;
	rc = manifest_save_build(copy->to, copy->manifest, &copy->root);
	if (rc == 0)
		rc = manifest_root_put(copy->to, 0, &copy->root);
	return rc < 0 ? haul_err_set(err, rc, "root: %s", haul_strerror(rc)) : 0;
}

/* ---- backup ---- */

/* Root and manifest of one moment, and a view that keeps its tables. */
static int backup_moment(struct haul_store *store, struct copy *copy, struct lsm_view **ret_view,
			 struct haul_err *err)
{
	uint64_t version;

	keeper_pause(&store->keeper);
	int rc = manifest_root_get(store->media, &copy->root, &version, err);
	if (rc == 0)
		rc = manifest_load(store->media, &copy->root, &copy->manifest, err);
	if (rc == 0)
		*ret_view = lsm_view_tables_new(store->lsm);
	if (rc == 0 && *ret_view == NULL)
		rc = haul_err_set(err, -ENOMEM, "no memory to hold on to the tables");
	keeper_resume(&store->keeper);
	return rc;
}

int store_backup_to(struct haul_store *store, struct vfs *vfs, const struct store_copying *copying,
		    struct haul_err *err)
{
	const struct media_options options = { .mode = MEDIA_MAKE,
					       .segment_bytes = store->media->segment_bytes };
	struct copy copy = { .from = store->media,
			     .progress = copying->progress,
			     .arg = copying->arg };
	struct lsm_view *view = NULL;

	if (store->options.read_only)
		return haul_err_set(err, -EROFS,
				    "a backup begins with a checkpoint, and the store "
				    "is open for reading only");
	int rc = store_checkpoint(store);
	if (rc < 0)
		return haul_err_set(err, rc, "checkpoint: %s", haul_strerror(rc));
	rc = media_file_open(&copy.to, vfs, &options, err);
	if (rc < 0)
		return rc;
	rc = backup_moment(store, &copy, &view, err);
	if (rc == 0)
		rc = copy_all(&copy, err);
	if (view != NULL)
		lsm_view_drop(store->lsm, view);
	manifest_free(copy.manifest);
	copy.to->calls->close(copy.to);
	return rc;
}

int haul_store_backup(struct haul_store *store, const char *path, haul_store_progress *progress,
		      void *arg, struct haul_err *err)
{
	const struct store_copying copying = { progress, arg };
	struct vfs *vfs;

	HAUL_ASSERT(store != NULL && path != NULL);
	int rc = store_folder_make(path, err);
	if (rc < 0)
		return rc;
	rc = vfs_linux_open(&vfs, path);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s", path, haul_strerror(rc));
	rc = store_backup_to(store, vfs, &copying, err);
	VFS_CALL(vfs, close_all, vfs);
	return rc < 0 ? haul_err_wrap(err, rc, "%s", path) : 0;
}

/* ---- restore ---- */

static int frame_is_there(const struct log_place *behind, const uint8_t *frame, uint32_t bytes,
			  void *arg)
{
	(void)behind;
	(void)frame;
	(void)bytes;
	(void)arg;
	return 1;
}

/* A backup has no log: what has one is a store, and its newest frames would be left behind. */
static int restore_no_log(const struct copy *copy, struct haul_err *err)
{
	struct log_report report;
	const int rc =
		log_replay(copy->from, &(struct log_from){ copy->root.uuid, copy->root.place },
			   frame_is_there, NULL, &report);

	if (rc < 0)
		return haul_err_set(err, rc, "log: %s", haul_strerror(rc));
	if (rc > 0 || report.verdict != LOG_END)
		return haul_err_set(err, -EINVAL,
				    "is a store with frames in its log, not a backup: haul store "
				    "backup makes one of it");
	return 0;
}

int store_restore_on(struct vfs *from, const struct store_deep *deep,
		     const struct store_copying *copying, struct haul_err *err)
{
	const struct media_options read = { .mode = MEDIA_READ };
	struct copy copy = { .progress = copying->progress, .arg = copying->arg };
	uint64_t version;

	int rc = media_file_open(&copy.from, from, &read, err);
	if (rc < 0)
		return rc;
	const struct media_options make = { .mode = MEDIA_MAKE,
					    .segment_bytes = copy.from->segment_bytes };
	rc = manifest_root_get(copy.from, &copy.root, &version, err);
	if (rc == 0)
		rc = manifest_load(copy.from, &copy.root, &copy.manifest, err);
	if (rc == 0)
		rc = restore_no_log(&copy, err);
	if (rc == 0)
		rc = media_file_open(&copy.to, deep->vfs, &make, err);
	if (rc == 0) {
		deep->os->random(deep->os, copy.root.uuid, sizeof copy.root.uuid);
		rc = copy_all(&copy, err);
		copy.to->calls->close(copy.to);
	}
	manifest_free(copy.manifest);
	copy.from->calls->close(copy.from);
	return rc;
}

int haul_store_restore(const char *backup, const char *path, haul_store_progress *progress,
		       void *arg, struct haul_err *err)
{
	const struct store_copying copying = { progress, arg };
	struct store_deep deep = { .os = os_linux() };
	struct vfs *from;

	HAUL_ASSERT(backup != NULL && path != NULL);
	int rc = vfs_linux_open(&from, backup);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s", backup, haul_strerror(rc));
	rc = store_folder_make(path, err);
	if (rc == 0) {
		rc = vfs_linux_open(&deep.vfs, path);
		if (rc < 0)
			rc = haul_err_set(err, rc, "%s: %s", path, haul_strerror(rc));
	}
	if (rc == 0) {
		rc = store_restore_on(from, &deep, &copying, err);
		if (rc < 0)
			rc = haul_err_wrap(err, rc, "restoring %s as %s", backup, path);
		VFS_CALL(deep.vfs, close_all, deep.vfs);
	}
	VFS_CALL(from, close_all, from);
	return rc;
}
