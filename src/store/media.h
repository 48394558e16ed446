/* store/media.h — the three things durable state is made of: a log, blobs, a root.
 *
 * Model      log_append puts bytes behind the end of one endless log and is durable when it
 *            returns; positions are bytes since the store was made. blob_put makes an immutable
 *            object under a number, durable when it returns; blob_get reads any part of it.
 *            root_cas replaces the root, if it still has the version expected. Nothing above this
 *            header touches a file. Over files: `log/<n>` segments of MEDIA_SEGMENT bytes,
 *            preallocated and written once with zeros ahead of use, reused when trimmed;
 *            `blob/<id>`; `root`, four copies of which two are written at a time; `lock`.
 * Units      bytes; the log is written in multiples of MEDIA_ALIGN at positions of the same.
 * Ownership  media owns its files; data is the caller's; memory for reads and writes is aligned to
 *            MEDIA_ALIGN.
 * Threads    one thread appends to the log, one makes and deletes blobs and the root, any reads.
 * Errors     -errno with text at open: -EBUSY (open elsewhere), -ENOENT (not a store),
 *            HAUL_EVERSION, HAUL_ECORRUPT (no good copy of the root). -ENOSPC from log_append and
 *            blob_put: nothing was appended or made, and it may be tried again. -EIO of a sync:
 *            broken for good.
 * Blocking   all.
 * Limits     MEDIA_ROOT_MAX bytes of root. */
#pragma once

#include <haul/err.h>
#include "os/vfs.h"

enum {
	MEDIA_ALIGN = 4096,
	MEDIA_SEGMENT = 64 << 20,
	MEDIA_ROOT_MAX = 3072,
};

struct media_read {
	uint64_t blob;
	uint64_t offset; /* multiples of MEDIA_ALIGN, as bytes; past the end is cut */
	uint8_t *data;
	uint32_t bytes;
	int32_t result; /* bytes read, or -errno */
};

struct media;
struct media_calls {
	int (*log_append)(struct media *media, uint64_t position, const void *data, size_t bytes);
	/* Bytes that are there, less than asked at the end of what was ever reserved. */
	int64_t (*log_read)(struct media *media, uint64_t position, void *data, size_t bytes);
	int (*log_reserve)(struct media *media, uint64_t position); /* prepare up to there, ahead */
	int (*log_trim)(struct media *media, uint64_t position); /* nothing before it is needed */
	int (*log_cut)(struct media *media, uint64_t position);  /* zeros from there to the end */
	int (*blob_put)(struct media *media, uint64_t blob, const void *data, size_t bytes);
	void (*blob_get)(struct media *media, struct media_read *reads, uint32_t count);
	int64_t (*blob_bytes)(struct media *media, uint64_t blob);
	int (*blob_delete)(struct media *media, uint64_t blob);
	int (*blob_list)(struct media *media, int (*visit)(uint64_t blob, void *arg), void *arg);
	/* -ENOENT: none yet (version 0). */
	int (*root_get)(struct media *media, uint64_t *ret_version, void *data, size_t *bytes);
	/* HAUL_ESTALE: the root is not of that version. */
	int (*root_cas)(struct media *media, uint64_t version, const void *data, size_t bytes);
	void (*close)(struct media *media);
};

/* First member of every implementation's own. */
struct media {
	const struct media_calls *calls;
	bool read_only;
	uint64_t syncs;         /* of the log */
	uint64_t segment_bytes; /* MEDIA_SEGMENT; tests take less */
};

enum media_mode { MEDIA_MAKE, MEDIA_WRITE, MEDIA_READ };
struct media_options {
	enum media_mode mode;
	uint64_t segment_bytes; /* 0 = MEDIA_SEGMENT; a multiple of MEDIA_ALIGN; fixed when made */
};
/* vfs is borrowed and outlives media. MEDIA_MAKE: the folder has to be empty, -EEXIST. */
int media_file_open(struct media **ret_media, struct vfs *vfs, const struct media_options *options,
		    struct haul_err *err);

#define MEDIA_CALL(media, name, ...) ((media)->calls->name((media), ##__VA_ARGS__))
