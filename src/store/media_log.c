/* The log over files: position p stands in segment p / segment_bytes, file `log/<number>`.
 *
 * A segment is made under another name: blocks reserved, zeros written, synced, and only then
 * renamed, so that appends change bytes and nothing else, and a name always means a whole segment.
 * A segment that is not needed any more keeps its name until it is renamed to be the next one; what
 * it holds then says by its position that it is of an earlier use.
 *
 * Making takes long, so it is done ahead, by another thread than appends; the table is locked only
 * to look something up. A segment's file is used by the thread that appends alone; one that is
 * renamed lies before `trimmed`, where nobody appends. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "store/media_state.h"

static const char segment_new[] = "log/new";

/* ---- the table; under its lock ---- */

/* Index of the first segment >= number. */
static uint32_t table_place(const struct media_log *log, uint64_t number)
{
	uint32_t low = 0, high = log->count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (log->numbers[middle] < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool table_has(const struct media_log *log, uint64_t number)
{
	uint32_t place = table_place(log, number);

	return place < log->count && log->numbers[place] == number;
}

static void table_add(struct media_log *log, uint64_t number)
{
	uint32_t place = table_place(log, number);

	HAUL_ASSERT(log->count < MEDIA_SEGMENTS_MAX && !table_has(log, number));
	memmove(&log->numbers[place + 1], &log->numbers[place],
		(log->count - place) * sizeof log->numbers[0]);
	log->numbers[place] = number;
	log->count++;
}

static void table_remove(struct media_log *log, uint64_t number)
{
	uint32_t place = table_place(log, number);

	HAUL_ASSERT(table_has(log, number));
	log->count--;
	memmove(&log->numbers[place], &log->numbers[place + 1],
		(log->count - place) * sizeof log->numbers[0]);
}

/* The file of a segment that is open, taken out of the table; NULL = it is not open. */
static struct vfs_file *open_remove(struct media_log *log, uint64_t number)
{
	struct media_segment *place = &log->open[number % MEDIA_SEGMENTS_OPEN];
	struct vfs_file *file = place->file;

	if (file == NULL || place->number != number)
		return NULL;
	place->file = NULL;
	return file;
}

/* Returns what has to be closed: the file itself when its place is taken by a later segment's. */
static struct vfs_file *open_add(struct media_log *log, uint64_t number, struct vfs_file *file)
{
	struct media_segment *place = &log->open[number % MEDIA_SEGMENTS_OPEN];
	struct vfs_file *last = place->file;

	if (last != NULL)
		return file;
	*place = (struct media_segment){ .number = number, .file = file };
	return NULL;
}

/* ---- making segments; under `making` ---- */

static int zeros_write(struct media_file *media, struct vfs_file *file, uint64_t from, uint64_t to)
{
	int rc = 0;

	for (uint64_t at = from; rc == 0 && at < to; at += media->zeros_bytes) {
		uint64_t bytes = to - at < media->zeros_bytes ? to - at : media->zeros_bytes;

		rc = VFS_CALL(media->vfs, write, file, media->zeros, bytes, at, false);
	}
	return rc;
}

static int segment_sync(struct media_file *media, struct vfs_file *file)
{
	int rc = VFS_CALL(media->vfs, sync, file);

	return rc < 0 ? media_broke(media, rc) : 0;
}

/* All of it, under a name that means nothing yet. */
static int segment_create(struct media_file *media, struct vfs_file **ret_file)
{
	const uint64_t bytes = media->media.segment_bytes;
	struct vfs_file *file;
	int rc = VFS_CALL(media->vfs, unlink, media->vfs, segment_new);

	if (rc < 0 && rc != -ENOENT)
		return rc;
	rc = VFS_CALL(media->vfs, open, media->vfs, segment_new, VFS_CREATE, true, &file);
	if (rc < 0)
		return rc;
	rc = VFS_CALL(media->vfs, resize, file, bytes);
	if (rc == 0)
		rc = zeros_write(media, file, 0, bytes);
	if (rc == 0)
		rc = segment_sync(media, file);
	if (rc == 0) {
		*ret_file = file;
		return 0;
	}
	/* What was taken is given back. */
	VFS_CALL(media->vfs, close, file);
	(void)VFS_CALL(media->vfs, unlink, media->vfs, segment_new);
	return rc;
}

/* The oldest that is not needed, open; false = there is none that is whole. */
static bool spare_take(struct media_file *media, uint64_t *ret_number, struct vfs_file **ret_file)
{
	struct media_log *log = &media->log;
	struct vfs_file *file = NULL;
	char name[VFS_NAME_MAX];
	uint64_t number = 0;
	bool found;

	pthread_mutex_lock(&log->lock);
	found = log->count > 0 && log->numbers[0] < log->trimmed / media->media.segment_bytes;
	if (found) {
		number = log->numbers[0];
		file = open_remove(log, number);
		table_remove(log, number);
	}
	pthread_mutex_unlock(&log->lock);
	media_number_name(name, "log", number);
	if (found && file == NULL &&
	    VFS_CALL(media->vfs, open, media->vfs, name, VFS_WRITE, true, &file) < 0)
		return false;
	if (found && VFS_CALL(media->vfs, size, file) != (int64_t)media->media.segment_bytes) {
		VFS_CALL(media->vfs, close, file);
		(void)VFS_CALL(media->vfs, unlink, media->vfs, name);
		return false;
	}
	*ret_number = number;
	*ret_file = file;
	return found;
}

static int segment_make(struct media_file *media, uint64_t number)
{
	struct media_log *log = &media->log;
	struct vfs_file *file = NULL;
	char from[VFS_NAME_MAX], to[VFS_NAME_MAX];
	uint64_t spare;
	int rc = 0;

	if (spare_take(media, &spare, &file)) {
		media_number_name(from, "log", spare);
	} else {
		memcpy(from, segment_new, sizeof segment_new);
		rc = segment_create(media, &file);
	}
	if (rc < 0)
		return rc;
	media_number_name(to, "log", number);
	rc = VFS_CALL(media->vfs, rename, media->vfs, from, to);
	if (rc == 0) {
		rc = VFS_CALL(media->vfs, sync_folder, media->vfs, "log");
		if (rc < 0)
			media_broke(media, rc);
	}
	if (rc == 0) {
		pthread_mutex_lock(&log->lock);
		table_add(log, number);
		file = open_add(log, number, file);
		pthread_mutex_unlock(&log->lock);
	}
	if (file != NULL)
		VFS_CALL(media->vfs, close, file);
	return rc;
}

/* The first segment before `end` that is to come and is not there yet; end = there is none. */
static uint64_t segment_missing(struct media_file *media, uint64_t end)
{
	struct media_log *log = &media->log;
	uint64_t number;

	pthread_mutex_lock(&log->lock);
	number = log->trimmed / media->media.segment_bytes;
	if (log->count > 0 && log->numbers[log->count - 1] >= number)
		number = log->numbers[log->count - 1] + 1;
	if (log->count == MEDIA_SEGMENTS_MAX && number < end)
		number = UINT64_MAX;
	pthread_mutex_unlock(&log->lock);
	return number;
}

int media_log_reserve(struct media *base, uint64_t position)
{
	struct media_file *media = media_file_of(base);
	uint64_t end = (position + base->segment_bytes - 1) / base->segment_bytes;
	uint64_t number = segment_missing(media, end);
	int rc = media_may_write(media);

	if (rc < 0 || number >= end)
		return rc < 0 || number < UINT64_MAX ? rc : -ENOSPC;
	pthread_mutex_lock(&media->log.making);
	while (rc == 0 && (number = segment_missing(media, end)) < end)
		rc = segment_make(media, number);
	pthread_mutex_unlock(&media->log.making);
	return rc == 0 && number == UINT64_MAX ? -ENOSPC : rc;
}

int media_log_trim(struct media *base, uint64_t position)
{
	struct media_file *media = media_file_of(base);
	struct media_log *log = &media->log;
	char name[VFS_NAME_MAX];
	int rc = media_may_write(media);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&log->making);
	pthread_mutex_lock(&log->lock);
	if (position > log->trimmed)
		log->trimmed = position;
	while (rc == 0 && table_place(log, log->trimmed / base->segment_bytes) > MEDIA_SPARES) {
		uint64_t number = log->numbers[0];
		struct vfs_file *file = open_remove(log, number);

		table_remove(log, number);
		pthread_mutex_unlock(&log->lock);
		if (file != NULL)
			VFS_CALL(media->vfs, close, file);
		media_number_name(name, "log", number);
		rc = VFS_CALL(media->vfs, unlink, media->vfs, name);
		pthread_mutex_lock(&log->lock);
	}
	pthread_mutex_unlock(&log->lock);
	pthread_mutex_unlock(&log->making);
	return rc;
}

/* ---- appending ---- */

/* The file of a segment, from the table, or opened and put there. -ENOENT: there is none. */
static int segment_file(struct media_file *media, uint64_t number, struct vfs_file **ret_file)
{
	struct media_log *log = &media->log;
	struct media_segment *place = &log->open[number % MEDIA_SEGMENTS_OPEN];
	struct vfs_file *last = NULL;
	struct vfs_file *file = NULL;
	char name[VFS_NAME_MAX];
	int rc = 0;

	pthread_mutex_lock(&log->lock);
	if (place->file != NULL && place->number == number)
		file = place->file;
	else if (!table_has(log, number))
		rc = -ENOENT;
	pthread_mutex_unlock(&log->lock);
	if (file == NULL && rc == 0) {
		media_number_name(name, "log", number);
		rc = VFS_CALL(media->vfs, open, media->vfs, name,
			      media->media.read_only ? VFS_READ : VFS_WRITE, true, &file);
		if (rc < 0)
			return rc;
		pthread_mutex_lock(&log->lock);
		if (place->file != NULL)
			last = open_remove(log, place->number);
		(void)open_add(log, number, file);
		pthread_mutex_unlock(&log->lock);
	}
	if (last != NULL)
		VFS_CALL(media->vfs, close, last);
	if (rc == 0)
		*ret_file = file;
	return rc;
}

/* A hole in the middle, where nobody has reserved: made now. */
static int segment_file_now(struct media_file *media, uint64_t number, struct vfs_file **ret_file)
{
	int rc = segment_file(media, number, ret_file);

	if (rc != -ENOENT)
		return rc;
	pthread_mutex_lock(&media->log.making);
	pthread_mutex_lock(&media->log.lock);
	rc = table_has(&media->log, number)           ? 1
	     : media->log.count == MEDIA_SEGMENTS_MAX ? -ENOSPC
						      : 0;
	pthread_mutex_unlock(&media->log.lock);
	if (rc == 0)
		rc = segment_make(media, number);
	pthread_mutex_unlock(&media->log.making);
	return rc < 0 ? rc : segment_file(media, number, ret_file);
}

int media_log_append(struct media *base, uint64_t position, const void *data, size_t bytes)
{
	struct media_file *media = media_file_of(base);
	const uint64_t segment_bytes = base->segment_bytes;
	int rc = media_may_write(media);

	HAUL_ASSERT((position | bytes | (uintptr_t)data) % MEDIA_ALIGN == 0);
	HAUL_ASSERT(bytes > 0);
	for (size_t done = 0; rc == 0 && done < bytes;) {
		uint64_t at = (position + done) % segment_bytes;
		size_t part = bytes - done < segment_bytes - at ? bytes - done
								: (size_t)(segment_bytes - at);
		struct vfs_file *file;

		rc = segment_file_now(media, (position + done) / segment_bytes, &file);
		if (rc < 0)
			break;
		__atomic_fetch_add(&base->syncs, 1, __ATOMIC_RELAXED);
		rc = VFS_CALL(media->vfs, write, file, (const uint8_t *)data + done, part, at,
			      true);
		if (rc < 0 && rc != -ENOSPC)
			media_broke(media, rc);
		done += part;
	}
	return rc;
}

/* ---- recovery; one thread ---- */

/* Part of one segment; what is not there is zeros. */
static int segment_read(struct media_file *media, uint64_t position, uint8_t *data, size_t bytes)
{
	struct vfs_file *file;
	int64_t got = 0;
	int rc = segment_file(media, position / media->media.segment_bytes, &file);

	if (rc == 0)
		got = VFS_CALL(media->vfs, read, file, data, bytes,
			       position % media->media.segment_bytes);
	else if (rc != -ENOENT)
		got = rc;
	if (got < 0)
		return (int)got;
	memset(data + got, 0, bytes - (size_t)got);
	return 0;
}

static uint64_t log_end(struct media_file *media)
{
	struct media_log *log = &media->log;
	uint64_t end;

	pthread_mutex_lock(&log->lock);
	end = log->count == 0 ? 0 : log->numbers[log->count - 1] + 1;
	pthread_mutex_unlock(&log->lock);
	return end * media->media.segment_bytes;
}

int64_t media_log_read(struct media *base, uint64_t position, void *data, size_t bytes)
{
	struct media_file *media = media_file_of(base);
	const uint64_t end = log_end(media);
	size_t done = 0;

	HAUL_ASSERT((position | bytes | (uintptr_t)data) % MEDIA_ALIGN == 0);
	if (position >= end)
		return 0;
	if (bytes > end - position)
		bytes = (size_t)(end - position);
	while (done < bytes) {
		uint64_t left = base->segment_bytes - (position + done) % base->segment_bytes;
		size_t part = bytes - done < left ? bytes - done : (size_t)left;
		int rc = segment_read(media, position + done, (uint8_t *)data + done, part);

		if (rc < 0)
			return done > 0 ? (int64_t)done : rc;
		done += part;
	}
	return (int64_t)done;
}

int media_log_cut(struct media *base, uint64_t position)
{
	struct media_file *media = media_file_of(base);
	const uint64_t end = log_end(media);
	int rc = media_may_write(media);

	HAUL_ASSERT(position % MEDIA_ALIGN == 0);
	while (rc == 0 && position < end) {
		uint64_t at = position % base->segment_bytes;
		struct vfs_file *file;

		rc = segment_file(media, position / base->segment_bytes, &file);
		if (rc == 0) {
			rc = zeros_write(media, file, at, base->segment_bytes);
			if (rc == 0)
				rc = segment_sync(media, file);
		} else if (rc == -ENOENT) {
			rc = 0;
		}
		position += base->segment_bytes - at;
	}
	return rc;
}

/* ---- opening and closing ---- */

static int segment_seen(const char *text, void *arg)
{
	struct media_file *media = arg;
	uint64_t number;

	if (!media_number_parse(text, &number))
		return 0;
	if (media->log.count == MEDIA_SEGMENTS_MAX)
		return HAUL_ELIMIT;
	table_add(&media->log, number);
	return 0;
}

/* A process that was killed may have left what only looks durable: names and bytes. What is read
 * from here on is going to be relied on. */
static int segments_settle(struct media_file *media)
{
	struct vfs_file *file;
	char name[VFS_NAME_MAX];
	int rc = VFS_CALL(media->vfs, unlink, media->vfs, segment_new);

	if (rc == -ENOENT)
		rc = 0;
	for (uint32_t i = 0; rc == 0 && i < media->log.count; i++) {
		media_number_name(name, "log", media->log.numbers[i]);
		rc = VFS_CALL(media->vfs, open, media->vfs, name, VFS_WRITE, true, &file);
		if (rc < 0)
			break;
		rc = segment_sync(media, file);
		VFS_CALL(media->vfs, close, file);
	}
	return rc == 0 ? VFS_CALL(media->vfs, sync_folder, media->vfs, "log") : rc;
}

int media_log_open(struct media_file *media, struct haul_err *err)
{
	int rc;

	HAUL_ASSERT(media->media.segment_bytes % MEDIA_ALIGN == 0);
	pthread_mutex_init(&media->log.making, NULL);
	pthread_mutex_init(&media->log.lock, NULL);
	media->zeros_bytes = media->media.segment_bytes < MEDIA_CHUNK
				     ? (uint32_t)media->media.segment_bytes
				     : MEDIA_CHUNK;
	media->zeros = aligned_alloc(MEDIA_ALIGN, media->zeros_bytes);
	rc = media->zeros == NULL
		     ? -ENOMEM
		     : VFS_CALL(media->vfs, list, media->vfs, "log", segment_seen, media);
	if (media->zeros != NULL)
		memset(media->zeros, 0, media->zeros_bytes);
	if (rc == 0 && !media->media.read_only)
		rc = segments_settle(media);
	if (rc == 0)
		return 0;
	media_log_close(media);
	return haul_err_set(err, rc, "log of the store: %s", haul_strerror(rc));
}

void media_log_close(struct media_file *media)
{
	for (uint32_t i = 0; i < MEDIA_SEGMENTS_OPEN; i++)
		if (media->log.open[i].file != NULL)
			VFS_CALL(media->vfs, close, media->log.open[i].file);
	memset(media->log.open, 0, sizeof media->log.open);
	free(media->zeros);
	media->zeros = NULL;
	pthread_mutex_destroy(&media->log.making);
	pthread_mutex_destroy(&media->log.lock);
}
