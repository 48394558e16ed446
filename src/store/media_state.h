/* store/media_state.h — what the parts of the media over files share.
 *
 * Model      media_file.c opens and closes; media_log.c, media_blob.c and media_root.c each have
 *            their own part of the state. `broken` is set by the first sync that failed, and then
 *            nothing is written any more.
 * Threads    as store/media.h: media_log.c and media_blob.c have a lock each for what two threads
 *            touch. */
#pragma once

#include <errno.h>
#include <pthread.h>

#include "store/media.h"

enum {
	MEDIA_VERSION = 1,
	MEDIA_SEGMENTS_MAX = 4096,
	MEDIA_SEGMENTS_OPEN = 16,
	MEDIA_SPARES = 4, /* segments kept for the next use */
	MEDIA_BLOBS_OPEN = 512,
	MEDIA_BLOB_BUCKETS = 1024,
	MEDIA_CHUNK = 1 << 20, /* written at a time, so that a commit does not wait long for it */
	MEDIA_ROOT_COPIES = 4,
};

struct media_segment {
	uint64_t number;
	struct vfs_file *file; /* NULL = not open */
};

struct media_log {
	pthread_mutex_t making; /* whoever makes, renames or removes segments */
	pthread_mutex_t lock;   /* for all that follows; never held over a call to the vfs */
	uint64_t numbers[MEDIA_SEGMENTS_MAX]; /* segments there are, ascending */
	uint32_t count;
	uint64_t trimmed;                               /* no byte before it is needed */
	struct media_segment open[MEDIA_SEGMENTS_OPEN]; /* at number % MEDIA_SEGMENTS_OPEN */
};

struct media_blob_file {
	uint64_t blob;
	struct vfs_file *file;
	uint32_t users;
	uint32_t next; /* in its bucket; UINT32_MAX = last */
	bool recent;
	bool gone; /* deleted while it was read: closed by its last user */
};

struct media_blobs {
	pthread_mutex_t lock; /* never held over a call to the vfs */
	uint64_t forgets;     /* blobs that were deleted or put anew */
	uint32_t buckets[MEDIA_BLOB_BUCKETS];
	struct media_blob_file files[MEDIA_BLOBS_OPEN];
	uint32_t hand; /* of the clock that says which one to close */
};

struct media_root {
	struct vfs_file *file;
	uint64_t version; /* 0 = none yet */
	uint32_t bytes;
	uint8_t *block; /* MEDIA_ALIGN: what is written */
	uint8_t data[MEDIA_ROOT_MAX];
};

struct media_file {
	struct media media; /* first: it is found by it */
	struct vfs *vfs;
	uint8_t *zeros;       /* so many as are written at a time */
	uint32_t zeros_bytes; /* MEDIA_CHUNK, or a segment */
	int broken;           /* 0, or what the first sync that failed said */
	struct media_log log;
	struct media_blobs blobs;
	struct media_root root;
};

static inline struct media_file *media_file_of(struct media *media)
{
	return (struct media_file *)(void *)media;
}

/* 0, or why nothing may be written. */
static inline int media_may_write(const struct media_file *file)
{
	if (file->media.read_only)
		return -EROFS;
	return __atomic_load_n(&file->broken, __ATOMIC_ACQUIRE);
}

/* A sync failed: what it covered may be lost, though it can be read. Returns rc. */
static inline int media_broke(struct media_file *file, int rc)
{
	__atomic_store_n(&file->broken, rc, __ATOMIC_RELEASE);
	return rc;
}

/* "folder/0123456789abcdef"; the last part alone back. */
void media_number_name(char name[VFS_NAME_MAX], const char *folder, uint64_t number);
bool media_number_parse(const char *text, uint64_t *ret_number);

/* ---- log ---- */
int media_log_open(struct media_file *media, struct haul_err *err);
void media_log_close(struct media_file *media);
int media_log_append(struct media *base, uint64_t position, const void *data, size_t bytes);
int64_t media_log_read(struct media *base, uint64_t position, void *data, size_t bytes);
int media_log_reserve(struct media *base, uint64_t position);
int media_log_trim(struct media *base, uint64_t position);
int media_log_cut(struct media *base, uint64_t position);

/* ---- blobs ---- */
void media_blobs_open(struct media_file *media);
void media_blobs_close(struct media_file *media);
int media_blob_put(struct media *base, uint64_t blob, const void *data, size_t bytes);
void media_blob_get(struct media *base, struct media_read *reads, uint32_t count);
int64_t media_blob_bytes(struct media *base, uint64_t blob);
int media_blob_delete(struct media *base, uint64_t blob);
int media_blob_list(struct media *base, int (*visit)(uint64_t blob, void *arg), void *arg);

/* ---- root ---- */
/* Four copies without a root, under a name that is given its own when all of it is durable. */
int media_root_make(struct media_file *media, struct haul_err *err);
/* Opens the file; -ENOENT: the folder is no store. */
int media_root_open(struct media_file *media, struct haul_err *err);
/* Reads the copies, sets segment_bytes, and puts right what a crash left. */
int media_root_load(struct media_file *media, struct haul_err *err);
void media_root_close(struct media_file *media);
int media_root_get(struct media *base, uint64_t *ret_version, void *data, size_t *bytes);
int media_root_cas(struct media *base, uint64_t version, const void *data, size_t bytes);
