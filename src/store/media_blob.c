/* Blobs over files: `blob/<number>`. A blob is written, synced, and its name synced, before anybody
 * is told; one that a crash left half-made has a name that nothing leads to. Files that are read
 * stay open, a bounded number of them, in a hash table with a clock. */
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "store/media_state.h"

enum { READS_AT_ONCE = 128, NONE = -1 };

/* ---- open files ----
 *
 * The lock is never held over a call of the vfs: the last close of a file that was deleted gives
 * its blocks back to the disk, which takes tens of milliseconds, and commits look for keys through
 * the same lock. */

static uint32_t *bucket_of(struct media_blobs *blobs, uint64_t blob)
{
	return &blobs->buckets[hash_u64(blob) % MEDIA_BLOB_BUCKETS];
}

static struct media_blob_file *file_find(struct media_blobs *blobs, uint64_t blob)
{
	for (uint32_t i = *bucket_of(blobs, blob); i != UINT32_MAX; i = blobs->files[i].next)
		if (blobs->files[i].blob == blob)
			return &blobs->files[i];
	return NULL;
}

static void file_unlink(struct media_blobs *blobs, const struct media_blob_file *file)
{
	uint32_t *at = bucket_of(blobs, file->blob);

	while (&blobs->files[*at] != file)
		at = &blobs->files[*at].next;
	*at = file->next;
}

/* Its place is free; what it had open is left for the caller to close. */
static struct vfs_file *file_leave(struct media_blob_file *file)
{
	struct vfs_file *left = file->file;

	memset(file, 0, sizeof *file);
	return left;
}

static void file_close(struct media_file *media, struct vfs_file *file)
{
	if (file != NULL)
		VFS_CALL(media->vfs, close, file);
}

/* A place for one more: free, or that of one that nobody reads and that was not read of late. */
static struct media_blob_file *file_place(struct media_blobs *blobs, struct vfs_file **ret_left)
{
	for (uint32_t i = 0; i < 2 * MEDIA_BLOBS_OPEN; i++) {
		struct media_blob_file *file = &blobs->files[blobs->hand];

		blobs->hand = (blobs->hand + 1) % MEDIA_BLOBS_OPEN;
		if (file->file == NULL)
			return file;
		if (file->users == 0 && !file->recent) {
			file_unlink(blobs, file);
			*ret_left = file_leave(file);
			return file;
		}
		file->recent = false;
	}
	return NULL;
}

struct opening {
	struct vfs_file *file; /* opened for the blob, or NULL; afterwards: to be closed */
	uint64_t forgets;      /* when it was begun */
};

/* The file of a blob, found or, if it was opened since, entered. -EAGAIN: it is to be opened. */
static int file_look(struct media_blobs *blobs, uint64_t blob, struct opening *opening,
		     struct media_blob_file **ret_file)
{
	struct vfs_file *left = opening->file;
	int rc = -EAGAIN;

	pthread_mutex_lock(&blobs->lock);
	struct media_blob_file *file = file_find(blobs, blob);
	/* what was opened while something was forgotten may be just that */
	if (file == NULL && opening->file != NULL && opening->forgets == blobs->forgets) {
		uint32_t *bucket = bucket_of(blobs, blob);

		rc = -EMFILE;
		left = NULL;
		file = file_place(blobs, &left);
		if (file != NULL) {
			*file = (struct media_blob_file){ .blob = blob,
							  .file = opening->file,
							  .next = *bucket };
			*bucket = (uint32_t)(file - blobs->files);
		} else {
			left = opening->file;
		}
	}
	if (file != NULL) {
		file->users++;
		file->recent = true;
		*ret_file = file;
		rc = 0;
	}
	opening->forgets = blobs->forgets;
	opening->file = left;
	pthread_mutex_unlock(&blobs->lock);
	return rc;
}

static int file_take(struct media_file *media, uint64_t blob, struct media_blob_file **ret_file)
{
	struct opening opening = { .file = NULL };
	char name[VFS_NAME_MAX];

	media_number_name(name, "blob", blob);
	for (;;) {
		int rc = file_look(&media->blobs, blob, &opening, ret_file);

		file_close(media, opening.file);
		opening.file = NULL;
		if (rc != -EAGAIN)
			return rc;
		rc = VFS_CALL(media->vfs, open, media->vfs, name, VFS_READ, true, &opening.file);
		if (rc < 0)
			return rc;
	}
}

static void file_put(struct media_file *media, struct media_blob_file *file)
{
	struct vfs_file *left = NULL;

	pthread_mutex_lock(&media->blobs.lock);
	HAUL_ASSERT(file->users > 0);
	if (--file->users == 0 && file->gone)
		left = file_leave(file);
	pthread_mutex_unlock(&media->blobs.lock);
	file_close(media, left);
}

/* A blob of that number is not what it was. */
static void file_forget(struct media_file *media, uint64_t blob)
{
	struct vfs_file *left = NULL;

	pthread_mutex_lock(&media->blobs.lock);
	media->blobs.forgets++;
	struct media_blob_file *file = file_find(&media->blobs, blob);
	if (file != NULL) {
		file_unlink(&media->blobs, file);
		file->gone = true;
		if (file->users == 0)
			left = file_leave(file);
	}
	pthread_mutex_unlock(&media->blobs.lock);
	file_close(media, left);
}

/* ---- making ---- */

static int blob_write(struct media_file *media, struct vfs_file *file, const uint8_t *data,
		      size_t bytes)
{
	_Alignas(MEDIA_ALIGN) uint8_t last[MEDIA_ALIGN] = { 0 };
	const size_t whole = bytes - bytes % MEDIA_ALIGN;
	int rc = VFS_CALL(media->vfs, resize, file, whole < bytes ? whole + MEDIA_ALIGN : whole);

	for (size_t at = 0; rc == 0 && at < whole; at += MEDIA_CHUNK)
		rc = VFS_CALL(media->vfs, write, file, data + at,
			      whole - at < MEDIA_CHUNK ? whole - at : MEDIA_CHUNK, at, false);
	if (rc < 0 || whole == bytes)
		return rc;
	memcpy(last, data + whole, bytes - whole);
	rc = VFS_CALL(media->vfs, write, file, last, sizeof last, whole, false);
	return rc < 0 ? rc : VFS_CALL(media->vfs, resize, file, bytes);
}

int media_blob_put(struct media *base, uint64_t blob, const void *data, size_t bytes)
{
	struct media_file *media = media_file_of(base);
	struct vfs_file *file;
	char name[VFS_NAME_MAX];
	int rc = media_may_write(media);

	HAUL_ASSERT((uintptr_t)data % MEDIA_ALIGN == 0 && bytes > 0);
	if (rc < 0)
		return rc;
	media_number_name(name, "blob", blob);
	rc = VFS_CALL(media->vfs, unlink, media->vfs, name);
	file_forget(media, blob);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	rc = VFS_CALL(media->vfs, open, media->vfs, name, VFS_CREATE, true, &file);
	if (rc < 0)
		return rc;
	rc = blob_write(media, file, data, bytes);
	if (rc == 0) {
		rc = VFS_CALL(media->vfs, sync, file);
		if (rc == 0)
			rc = VFS_CALL(media->vfs, sync_folder, media->vfs, "blob");
		if (rc < 0)
			media_broke(media, rc);
	}
	VFS_CALL(media->vfs, close, file);
	if (rc < 0)
		(void)VFS_CALL(media->vfs, unlink, media->vfs, name);
	return rc;
}

int media_blob_delete(struct media *base, uint64_t blob)
{
	struct media_file *media = media_file_of(base);
	char name[VFS_NAME_MAX];
	int rc = media_may_write(media);

	if (rc < 0)
		return rc;
	media_number_name(name, "blob", blob);
	rc = VFS_CALL(media->vfs, unlink, media->vfs, name);
	/* Behind it: else somebody could open it in between, and keep it. */
	file_forget(media, blob);
	return rc;
}

/* ---- reading ---- */

static void get_some(struct media_file *media, struct media_read *reads, uint32_t count)
{
	struct media_read *asked[READS_AT_ONCE];
	struct media_blob_file *files[READS_AT_ONCE];
	struct vfs_read asks[READS_AT_ONCE];
	uint32_t ask_count = 0;

	HAUL_ASSERT(count <= READS_AT_ONCE);
	for (uint32_t i = 0; i < count; i++) {
		struct media_read *read = &reads[i];

		HAUL_ASSERT((read->offset | read->bytes | (uintptr_t)read->data) % MEDIA_ALIGN ==
			    0);
		read->result = file_take(media, read->blob, &files[ask_count]);
		if (read->result < 0)
			continue;
		asked[ask_count] = read;
		asks[ask_count] = (struct vfs_read){ .file = files[ask_count]->file,
						     .offset = read->offset,
						     .data = read->data,
						     .bytes = read->bytes };
		ask_count++;
	}
	if (ask_count > 0)
		VFS_CALL(media->vfs, read_many, media->vfs, asks, ask_count);
	for (uint32_t i = 0; i < ask_count; i++) {
		asked[i]->result = asks[i].result;
		file_put(media, files[i]);
	}
}

void media_blob_get(struct media *base, struct media_read *reads, uint32_t count)
{
	for (uint32_t at = 0; at < count; at += READS_AT_ONCE)
		get_some(media_file_of(base), reads + at,
			 count - at < READS_AT_ONCE ? count - at : READS_AT_ONCE);
}

int64_t media_blob_bytes(struct media *base, uint64_t blob)
{
	struct media_file *media = media_file_of(base);
	struct media_blob_file *file;
	int64_t bytes;

	bytes = file_take(media, blob, &file);
	if (bytes == 0) {
		bytes = VFS_CALL(media->vfs, size, file->file);
		file_put(media, file);
	}
	return bytes;
}

struct blob_visit {
	int (*visit)(uint64_t blob, void *arg);
	void *arg;
};

static int blob_seen(const char *text, void *arg)
{
	const struct blob_visit *visit = arg;
	uint64_t blob;

	return media_number_parse(text, &blob) ? visit->visit(blob, visit->arg) : 0;
}

int media_blob_list(struct media *base, int (*visit)(uint64_t blob, void *arg), void *arg)
{
	struct media_file *media = media_file_of(base);
	struct blob_visit all = { .visit = visit, .arg = arg };

	return VFS_CALL(media->vfs, list, media->vfs, "blob", blob_seen, &all);
}

/* ---- opening and closing ---- */

void media_blobs_open(struct media_file *media)
{
	pthread_mutex_init(&media->blobs.lock, NULL);
	memset(media->blobs.buckets, NONE, sizeof media->blobs.buckets);
}

void media_blobs_close(struct media_file *media)
{
	for (uint32_t i = 0; i < MEDIA_BLOBS_OPEN; i++) {
		HAUL_ASSERT(media->blobs.files[i].users == 0);
		if (media->blobs.files[i].file != NULL)
			VFS_CALL(media->vfs, close, media->blobs.files[i].file);
	}
	pthread_mutex_destroy(&media->blobs.lock);
}
