/* Blobs over files: `blob/<number>`. A blob is written, synced, and its name synced, before anybody
 * is told; one that a crash left half-made has a name that nothing leads to. Files that are read
 * stay open, a bounded number of them, in a hash table with a clock. */
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "store/media_state.h"

enum { READS_AT_ONCE = 128, NONE = -1 };

/* ---- open files; under the lock ---- */

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

static void file_close(struct media_file *media, struct media_blob_file *file)
{
	VFS_CALL(media->vfs, close, file->file);
	memset(file, 0, sizeof *file);
}

/* A place for one more: free, or that of one that nobody reads and that was not read of late. */
static struct media_blob_file *file_place(struct media_file *media)
{
	struct media_blobs *blobs = &media->blobs;

	for (uint32_t i = 0; i < 2 * MEDIA_BLOBS_OPEN; i++) {
		struct media_blob_file *file = &blobs->files[blobs->hand];

		blobs->hand = (blobs->hand + 1) % MEDIA_BLOBS_OPEN;
		if (file->file == NULL)
			return file;
		if (file->users == 0 && !file->recent) {
			file_unlink(blobs, file);
			file_close(media, file);
			return file;
		}
		file->recent = false;
	}
	return NULL;
}

static int file_take(struct media_file *media, uint64_t blob, struct media_blob_file **ret_file)
{
	struct media_blobs *blobs = &media->blobs;
	struct media_blob_file *file = file_find(blobs, blob);
	char name[VFS_NAME_MAX];
	uint32_t *bucket;
	int rc;

	if (file == NULL) {
		file = file_place(media);
		if (file == NULL)
			return -EMFILE;
		media_number_name(name, "blob", blob);
		rc = VFS_CALL(media->vfs, open, media->vfs, name, VFS_READ, true, &file->file);
		if (rc < 0) {
			file->file = NULL;
			return rc;
		}
		bucket = bucket_of(blobs, blob);
		file->blob = blob;
		file->next = *bucket;
		*bucket = (uint32_t)(file - blobs->files);
	}
	file->users++;
	file->recent = true;
	*ret_file = file;
	return 0;
}

static void file_put(struct media_file *media, struct media_blob_file *file)
{
	HAUL_ASSERT(file->users > 0);
	if (--file->users == 0 && file->gone)
		file_close(media, file);
}

/* A blob of that number is not what it was. */
static void file_forget(struct media_file *media, uint64_t blob)
{
	struct media_blob_file *file;

	pthread_mutex_lock(&media->blobs.lock);
	file = file_find(&media->blobs, blob);
	if (file != NULL) {
		file_unlink(&media->blobs, file);
		file->gone = true;
		if (file->users == 0)
			file_close(media, file);
	}
	pthread_mutex_unlock(&media->blobs.lock);
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
	struct media_blob_file *files[READS_AT_ONCE];
	struct vfs_read asks[READS_AT_ONCE];
	uint32_t ask_count = 0;

	HAUL_ASSERT(count <= READS_AT_ONCE);
	pthread_mutex_lock(&media->blobs.lock);
	for (uint32_t i = 0; i < count; i++) {
		struct media_read *read = &reads[i];

		HAUL_ASSERT((read->offset | read->bytes | (uintptr_t)read->data) % MEDIA_ALIGN ==
			    0);
		files[i] = NULL;
		read->result = file_take(media, read->blob, &files[i]);
		if (read->result == 0)
			asks[ask_count++] = (struct vfs_read){ .file = files[i]->file,
							       .offset = read->offset,
							       .data = read->data,
							       .bytes = read->bytes };
	}
	pthread_mutex_unlock(&media->blobs.lock);
	if (ask_count > 0)
		VFS_CALL(media->vfs, read_many, media->vfs, asks, ask_count);
	ask_count = 0;
	pthread_mutex_lock(&media->blobs.lock);
	for (uint32_t i = 0; i < count; i++) {
		if (files[i] == NULL)
			continue;
		reads[i].result = asks[ask_count++].result;
		file_put(media, files[i]);
	}
	pthread_mutex_unlock(&media->blobs.lock);
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

	pthread_mutex_lock(&media->blobs.lock);
	bytes = file_take(media, blob, &file);
	if (bytes == 0) {
		bytes = VFS_CALL(media->vfs, size, file->file);
		file_put(media, file);
	}
	pthread_mutex_unlock(&media->blobs.lock);
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
