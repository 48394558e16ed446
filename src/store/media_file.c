/* The media over files of a folder: what is made when, and who may open it. A store is what has a
 * file `root`; that is made last, so a folder in which making was cut off can be made again. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/media_state.h"

enum { NAME_DIGITS = 16, SEGMENT_MAX = 1 << 30 };

void media_number_name(char name[VFS_NAME_MAX], const char *folder, uint64_t number)
{
	snprintf(name, VFS_NAME_MAX, "%s/%0*" PRIx64, folder, NAME_DIGITS, number);
}

bool media_number_parse(const char *text, uint64_t *ret_number)
{
	static const char digits[] = "0123456789abcdef";
	uint64_t number = 0;

	if (strlen(text) != NAME_DIGITS)
		return false;
	for (; *text != '\0'; text++) {
		const char *digit = strchr(digits, *text);

		if (digit == NULL)
			return false;
		number = number << 4 | (uint64_t)(digit - digits);
	}
	*ret_number = number;
	return true;
}

/* ---- making ---- */

struct stranger {
	char name[VFS_NAME_MAX];
	bool store;
};

/* Names that a store has no use for; what making leaves when it is cut off is none. */
static int stranger_seen(const char *name, void *arg)
{
	static const char *const known[] = { "lock", "log", "blob", "root.new", "lost+found" };
	struct stranger *stranger = arg;

	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (strcmp(name, known[i]) == 0)
			return 0;
	stranger->store = strcmp(name, "root") == 0;
	snprintf(stranger->name, sizeof stranger->name, "%s", name);
	return stranger->store;
}

static int empty_check(struct vfs *vfs, struct haul_err *err)
{
	struct stranger stranger = { .store = false };
	int rc = VFS_CALL(vfs, list, vfs, "", stranger_seen, &stranger);

	if (rc < 0)
		return haul_err_set(err, rc, "look into the folder: %s", haul_strerror(rc));
	if (stranger.store)
		return haul_err_set(err, -EEXIST, "there is a store already");
	if (stranger.name[0] != '\0')
		return haul_err_set(err, -EEXIST,
				    "the folder is not empty: there is \"%s\" in it; a store wants "
				    "a folder of its own",
				    stranger.name);
	return 0;
}

static int folder_make(struct vfs *vfs, const char *name)
{
	int rc = VFS_CALL(vfs, make_folder, vfs, name);

	return rc == -EEXIST ? 0 : rc;
}

static int store_make(struct media_file *file, struct haul_err *err)
{
	struct vfs *vfs = file->vfs;
	int rc = folder_make(vfs, "log");

	if (rc == 0)
		rc = folder_make(vfs, "blob");
	if (rc == 0)
		rc = VFS_CALL(vfs, sync_folder, vfs, "");
	if (rc < 0)
		return haul_err_set(err, rc, "make the folders of the store: %s",
				    haul_strerror(rc));
	return media_root_make(file, err);
}

/* ---- opening ---- */

static int store_lock(struct media_file *file, struct haul_err *err)
{
	int rc = VFS_CALL(file->vfs, lock, file->vfs, "lock", !file->media.read_only);

	if (rc == -EBUSY)
		return haul_err_set(
			err, rc,
			"the store is open in another program: stop that one, or ask it "
			"over its server");
	/* Where nobody can make a lock, nobody can write. */
	if (rc == -ENOENT && file->media.read_only)
		return 0;
	if (rc == -EROFS)
		return haul_err_set(err, rc, "it can only be read here: open it read-only");
	return rc < 0 ? haul_err_set(err, rc, "lock the store: %s", haul_strerror(rc)) : 0;
}

static int blobs_settle(struct media_file *file, struct haul_err *err)
{
	int rc = 0;

	if (!file->media.read_only)
		rc = VFS_CALL(file->vfs, sync_folder, file->vfs, "blob");
	return rc < 0 ? haul_err_set(err, rc, "tables of the store: %s", haul_strerror(rc)) : 0;
}

static void media_close(struct media *media)
{
	struct media_file *file;

	if (media == NULL)
		return;
	file = media_file_of(media);
	media_log_close(file);
	media_blobs_close(file);
	media_root_close(file);
	free(file->root.block);
	free(file);
}

static const struct media_calls media_calls = {
	.log_append = media_log_append,
	.log_read = media_log_read,
	.log_reserve = media_log_reserve,
	.log_trim = media_log_trim,
	.log_cut = media_log_cut,
	.blob_put = media_blob_put,
	.blob_get = media_blob_get,
	.blob_bytes = media_blob_bytes,
	.blob_delete = media_blob_delete,
	.blob_list = media_blob_list,
	.root_get = media_root_get,
	.root_cas = media_root_cas,
	.close = media_close,
};

static int media_new(struct media_file **ret_file, struct vfs *vfs,
		     const struct media_options *options)
{
	struct media_file *file = calloc(1, sizeof *file);

	if (file == NULL)
		return -ENOMEM;
	file->vfs = vfs;
	file->media.calls = &media_calls;
	file->media.read_only = options->mode == MEDIA_READ;
	file->media.segment_bytes =
		options->segment_bytes > 0 ? options->segment_bytes : MEDIA_SEGMENT;
	file->root.block = aligned_alloc(MEDIA_ALIGN, MEDIA_ALIGN);
	if (file->root.block == NULL) {
		free(file);
		return -ENOMEM;
	}
	*ret_file = file;
	return 0;
}

/* Root first: a folder that is no store is left as it is. */
static int media_begin(struct media_file *file, enum media_mode mode, struct haul_err *err)
{
	int rc;

	if (mode == MEDIA_MAKE) {
		rc = empty_check(file->vfs, err);
		if (rc == 0)
			rc = store_lock(file, err);
		if (rc == 0)
			rc = empty_check(file->vfs, err); /* another may have been faster */
		return rc < 0 ? rc : store_make(file, err);
	}
	rc = media_root_open(file, err);
	if (rc < 0)
		return rc;
	rc = store_lock(file, err);
	if (rc == 0)
		rc = media_root_load(file, err);
	if (rc == 0)
		rc = blobs_settle(file, err);
	if (rc < 0)
		media_root_close(file);
	return rc;
}

int media_file_open(struct media **ret_media, struct vfs *vfs, const struct media_options *options,
		    struct haul_err *err)
{
	struct media_file *file;
	int rc;

	if (options->segment_bytes % MEDIA_ALIGN != 0 || options->segment_bytes > SEGMENT_MAX)
		return haul_err_set(err, -EINVAL,
				    "segments of %" PRIu64
				    " bytes: want a multiple of %d, at most %d",
				    options->segment_bytes, MEDIA_ALIGN, SEGMENT_MAX);
	rc = media_new(&file, vfs, options);
	if (rc < 0)
		return haul_err_set(err, rc, "memory for a store: %s", haul_strerror(rc));
	rc = media_begin(file, options->mode, err);
	if (rc == 0) {
		rc = media_log_open(file, err);
		if (rc < 0)
			media_root_close(file);
	}
	if (rc < 0) {
		free(file->root.block);
		free(file);
		return rc;
	}
	media_blobs_open(file);
	*ret_media = &file->media;
	return 0;
}
