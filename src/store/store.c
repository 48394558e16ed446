#include <errno.h>
#include <stdlib.h>

#include "base/assert.h"
#include "store/store_parts.h"

/* ---- making ---- */

/* A store that was being made when it was stopped has no root yet: it is made now. */
static int init_again(const struct store_deep *deep, struct media **ret_media)
{
	const struct media_options options = { .mode = MEDIA_WRITE,
					       .segment_bytes = deep->segment_bytes };
	uint8_t root[MEDIA_ROOT_MAX];
	size_t bytes = sizeof root;
	uint64_t version;
	struct media *media;

	int rc = media_file_open(&media, deep->vfs, &options, NULL);
	if (rc < 0)
		return rc;
	rc = MEDIA_CALL(media, root_get, &version, root, &bytes);
	if (rc == -ENOENT) {
		*ret_media = media;
		return 0;
	}
	media->calls->close(media);
	return -EEXIST;
}

int store_init_on(const struct store_deep *deep, const uint8_t uuid[16], struct haul_err *err)
{
	const struct media_options options = { .mode = MEDIA_MAKE,
					       .segment_bytes = deep->segment_bytes };
	struct media *media;

	int rc = media_file_open(&media, deep->vfs, &options, err);
	if (rc == -EEXIST && init_again(deep, &media) == 0)
		rc = 0;
	if (rc < 0)
		return rc;
	/* the first who commits would wait for it */
	rc = MEDIA_CALL(media, log_reserve, media->segment_bytes);
	if (rc < 0)
		(void)haul_err_set(err, rc, "no room for a log of %llu bytes: %s",
				   (unsigned long long)media->segment_bytes, haul_strerror(rc));
	else
		rc = lsm_make(media, uuid, err);
	media->calls->close(media);
	return rc;
}

int haul_store_init(const char *path, struct haul_err *err)
{
	struct store_deep deep = { .os = os_linux() };
	uint8_t uuid[16];

	HAUL_ASSERT(path != NULL);
	int rc = store_folder_make(path, err);
	if (rc < 0)
		return rc;
	rc = vfs_linux_open(&deep.vfs, path);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s", path, haul_strerror(rc));
	deep.os->random(deep.os, uuid, sizeof uuid);
	rc = store_init_on(&deep, uuid, err);
	if (rc < 0)
		rc = haul_err_wrap(err, rc, "%s", path);
	VFS_CALL(deep.vfs, close_all, deep.vfs);
	return rc;
}

/* ---- opening ---- */

static int parts_open(struct haul_store *store, struct haul_err *err)
{
	const struct haul_store_options *options = &store->options;
	const struct media_options media_options = {
		.mode = options->read_only ? MEDIA_READ : MEDIA_WRITE,
		.segment_bytes = store->deep.segment_bytes,
	};
	struct log_place place;

	int rc = media_file_open(&store->media, store->deep.vfs, &media_options, err);
	if (rc < 0)
		return rc;
	const struct lsm_options lsm_options = {
		.media = store->media,
		.os = store->deep.os,
		.memtable_bytes = store->memory.memtable,
		.cache_bytes = store->memory.cache,
		.filter_bytes = store->memory.filters,
		.table_bytes = store->deep.table_bytes,
		.block_bytes = store->deep.block_bytes,
		.frame_budget = store->deep.frame_budget,
		.levels = options->levels > 0 ? options->levels : STORE_LEVELS,
		.level_factor =
			options->level_factor > 0 ? options->level_factor : STORE_LEVEL_FACTOR,
		.read_only = options->read_only,
	};
	rc = lsm_open(&store->lsm, &lsm_options, store->uuid, &place, err);
	if (rc < 0)
		return rc;
	rc = vectors_new(&store->vectors, store->memory.vectors);
	if (rc == 0)
		rc = exec_new(&store->exec, store->lsm, store->vectors, store->deep.frame_budget);
	if (rc < 0)
		return haul_err_set(err, rc, "no memory for a store of %llu bytes of it",
				    (unsigned long long)store->memory.total);
	rc = store_replay(store, &place, &place, err);
	if (rc < 0)
		return rc;
	rc = log_open(&store->log, store->media, store->uuid, &place, store->memory.log);
	if (rc < 0)
		return haul_err_set(err, rc, "log: %s", haul_strerror(rc));
	return 0;
}

static int threads_open(struct haul_store *store, struct haul_err *err)
{
	const uint64_t op = log_place(store->log).op;

	lsm_publish(store->lsm, op);
	int rc = commit_open(store, op);
	if (rc < 0)
		return haul_err_set(err, rc, "commit: %s", haul_strerror(rc));
	store->commit_open = true;
	if (!store->options.read_only && store->deep.threads)
		lsm_ahead(store->lsm);
	rc = keeper_open(store);
	if (rc < 0)
		return haul_err_set(err, rc, "keeper: %s", haul_strerror(rc));
	store->keeper_open = true;
	rc = store_stats_enter(store);
	if (rc < 0)
		return haul_err_set(err, rc, "statistics: %s", haul_strerror(rc));
	return 0;
}

/* Takes half-made ones. */
static void store_free(struct haul_store *store)
{
	store_stats_remove(store);
	if (store->keeper_open)
		keeper_close(store);
	if (store->commit_open)
		commit_close(&store->commit);
	if (store->log != NULL)
		log_close(store->log);
	if (store->exec != NULL)
		exec_free(store->exec);
	if (store->vectors != NULL)
		vectors_free(store->vectors);
	if (store->lsm != NULL)
		lsm_close(store->lsm);
	if (store->media != NULL)
		store->media->calls->close(store->media);
	if (store->vfs_own != NULL)
		VFS_CALL(store->vfs_own, close_all, store->vfs_own);
	free(store);
}

int store_open_on(struct haul_store **ret_store, const struct store_deep *deep,
		  const struct haul_store_options *options, struct haul_err *err)
{
	static const struct haul_store_options usual = { 0 };
	struct haul_store *store = calloc(1, sizeof *store);

	HAUL_ASSERT(deep->vfs != NULL && deep->os != NULL);
	if (store == NULL)
		return haul_err_set(err, -ENOMEM, "no memory for a store");
	store->deep = *deep;
	store->options = options != NULL ? *options : usual;
	int rc = store_memory_split(&store->memory, &store->deep, &store->options, err);
	if (rc == 0)
		rc = parts_open(store, err);
	if (rc == 0)
		rc = threads_open(store, err);
	if (rc < 0) {
		if (store->commit_open)
			commit_stop(&store->commit);
		store_free(store);
		return rc;
	}
	*ret_store = store;
	return 0;
}

int haul_store_open(struct haul_store **ret_store, const char *path,
		    const struct haul_store_options *options, struct haul_err *err)
{
	struct store_deep deep = { .os = os_linux(), .threads = true };

	HAUL_ASSERT(ret_store != NULL && path != NULL);
	int rc = vfs_linux_open(&deep.vfs, path);
	if (rc < 0)
		return haul_err_set(err, rc, "%s: %s%s", path, haul_strerror(rc),
				    rc == -ENOENT ? "; haul store init makes one" : "");
	if (options != NULL)
		deep.vfs->sync_add_ns = options->sync_add_ns;
	rc = store_open_on(ret_store, &deep, options, err);
	if (rc < 0) {
		VFS_CALL(deep.vfs, close_all, deep.vfs);
		return haul_err_wrap(err, rc, "%s", path);
	}
	(*ret_store)->vfs_own = deep.vfs;
	return 0;
}

/* ---- closing ---- */

static int close_checkpoint(struct haul_store *store)
{
	const int rc = commit_error(&store->commit);

	if (rc < 0 || store->options.read_only)
		return rc;
	(void)commit_mark(&store->commit);
	return store_checkpoint(store);
}

int haul_store_close(struct haul_store *store)
{
	if (store == NULL)
		return 0;
	commit_stop(&store->commit);
	keeper_stop(store);
	const int rc = close_checkpoint(store);
	store_free(store);
	return rc;
}

void store_abandon(struct haul_store *store)
{
	HAUL_ASSERT(!store->deep.threads);
	store_free(store);
}

int store_step(struct haul_store *store)
{
	HAUL_ASSERT(!store->deep.threads);
	commit_pump(&store->commit);
	const int rc = keeper_step(store);
	if (rc == 0)
		(void)commit_mark(&store->commit);
	return rc;
}
